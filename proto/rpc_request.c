/* Requests, as the daemon reads them: the decoder's memory, and the message around the parameters.
 */
#include "proto/rpc_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	ZONE_SIZE = 128 * 1024,	   /* a full check_many fits; what is not touched costs no memory */
	PAIRS_MIN = RPC_PAIRS_MAX, /* of the first block */
	PAIRS_KEPT = 16 * RPC_PAIRS_MAX,
};

struct pair_block {
	struct pair_block *next;
	size_t used, size;
	struct rpc_pair pairs[];
};

struct rpc_decoder {
	msgpack_zone zone; /* msgpack-c's own tree; good within one rpc_decode_request */
	struct pair_block *pairs;
	struct arena arena; /* administration */
};

struct rpc_decoder *rpc_decoder_new(void)
{
	struct rpc_decoder *decoder = calloc(1, sizeof(*decoder));

	if (decoder && !msgpack_zone_init(&decoder->zone, ZONE_SIZE)) {
		free(decoder);
		decoder = NULL;
	}
	return decoder;
}

/* Frees all blocks but one that is worth keeping. */
static void drop_pairs(struct rpc_decoder *decoder, bool all)
{
	struct pair_block *block = decoder->pairs;

	decoder->pairs = NULL;
	while (block) {
		struct pair_block *next = block->next;

		/* the newest is the largest */
		if (!all && !decoder->pairs && block->size <= PAIRS_KEPT) {
			block->used = 0;
			block->next = NULL;
			decoder->pairs = block;
		} else {
			free(block);
		}
		block = next;
	}
}

void rpc_decoder_free(struct rpc_decoder *decoder)
{
	if (!decoder)
		return;
	drop_pairs(decoder, true);
	arena_clear(&decoder->arena);
	/* holds pointers and lengths; texts were borrowed from the messages */
	msgpack_zone_destroy(&decoder->zone);
	free(decoder);
}

void rpc_decoder_reset(struct rpc_decoder *decoder)
{
	if (decoder->pairs)
		drop_pairs(decoder, false);
	if (decoder->arena.blocks)
		arena_clear(&decoder->arena);
}

struct rpc_pair *rpc_take_pairs(struct rpc_decoder *decoder, size_t count)
{
	struct pair_block *block = decoder->pairs;
	struct rpc_pair *pairs;

	if (!block || block->size - block->used < count) {
		size_t size = block ? block->size * 2 : PAIRS_MIN;

		if (size > PAIRS_KEPT)
			size = PAIRS_KEPT;
		if (size < count)
			size = count;
		block = malloc(sizeof(*block) + size * sizeof(*pairs));
		if (!block)
			return NULL;
		block->size = size;
		block->used = 0;
		block->next = decoder->pairs;
		decoder->pairs = block;
	}
	pairs = block->pairs + block->used;
	block->used += count;
	return pairs;
}

struct arena *rpc_decoder_arena(struct rpc_decoder *decoder)
{
	return &decoder->arena;
}

/* ---- the message ---- */

static const struct {
	uint32_t len;
	enum rpc_error_code (*read)(struct rpc_reading *r);
	bool everywhere; /* on an administration socket too */
} methods[RPC_METHOD_ADMIN] = {
	[RPC_METHOD_HELLO] = {5, rpc_read_hello, true},
	[RPC_METHOD_CHECK] = {5, rpc_read_check, false},
	[RPC_METHOD_CHECK_MANY] = {10, rpc_read_check_many, false},
	[RPC_METHOD_PAGES] = {5, rpc_read_pages, false},
	[RPC_METHOD_WHOAMI] = {6, rpc_read_whoami, false},
	[RPC_METHOD_EXPLAIN] = {7, rpc_read_check, false},
	[RPC_METHOD_STATS] = {5, rpc_read_stats, true},
};

/* RPC_METHOD_COUNT: none. */
static enum rpc_method find_method(const msgpack_object *name, enum rpc_service service)
{
	/* the one that is asked most first */
	static const enum rpc_method order[] = {RPC_METHOD_CHECK,  RPC_METHOD_CHECK_MANY, RPC_METHOD_PAGES,
						RPC_METHOD_WHOAMI, RPC_METHOD_STATS,	  RPC_METHOD_HELLO,
						RPC_METHOD_EXPLAIN};

	for (unsigned i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		enum rpc_method method = order[i];

		if (rpc_is_text(name, rpc_method_word(method), methods[method].len))
			return service == RPC_SERVICE_ADMIN && !methods[method].everywhere ? RPC_METHOD_COUNT : method;
	}
	return service == RPC_SERVICE_ADMIN ? RPC_METHOD_ADMIN : RPC_METHOD_COUNT;
}

static enum rpc_error_code read_message(struct rpc_reading *r, enum rpc_service service, const msgpack_object *root)
{
	static const char form[] = "not MessagePack-RPC: [0, msgid, method, params] or "
				   "[2, method, params] is right";
	const msgpack_object *part = root->via.array.ptr;
	const msgpack_object *name;
	struct rpc_request *request = r->request;
	struct rpc_shown shown;

	if (root->type != MSGPACK_OBJECT_ARRAY || root->via.array.size < 3 ||
	    part[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER)
		return rpc_fail(r->error, RPC_MALFORMED, "%s", form);
	request->notification = part[0].via.u64 == 2;
	if (root->via.array.size != (request->notification ? 3 : 4) || (!request->notification && part[0].via.u64 != 0))
		return rpc_fail(r->error, RPC_MALFORMED, "%s", form);
	name = part + root->via.array.size - 2;
	if (name[0].type != MSGPACK_OBJECT_STR || name[1].type != MSGPACK_OBJECT_ARRAY)
		return rpc_fail(r->error, RPC_MALFORMED, "%s", form);
	if (request->notification)
		return RPC_OK;
	if (part[1].type != MSGPACK_OBJECT_POSITIVE_INTEGER || part[1].via.u64 > UINT32_MAX)
		return rpc_fail(r->error, RPC_MALFORMED, "msgid is not a whole number from 0 to %" PRIu32, UINT32_MAX);
	request->msgid = (uint32_t)part[1].via.u64;
	request->method = find_method(name, service);
	if (request->method == RPC_METHOD_COUNT && service == RPC_SERVICE_ADMIN)
		return rpc_fail(r->error, RPC_UNKNOWN_METHOD,
				"no method %s on an administration socket: ask a check socket", rpc_show(&shown, name));
	if (request->method == RPC_METHOD_COUNT)
		return rpc_fail(r->error, RPC_UNKNOWN_METHOD,
				"no method %s on a check socket: hello, check, check_many, pages, whoami, "
				"explain and stats are there",
				rpc_show(&shown, name));
	r->params = name[1].via.array.ptr;
	r->count = name[1].via.array.size;
	if (request->method != RPC_METHOD_ADMIN)
		return methods[request->method].read(r);
	request->admin_method = rpc_text_of(name);
	return rpc_read_admin(r);
}

enum rpc_error_code rpc_decode_request(struct rpc_decoder *decoder, enum rpc_service service, const uint8_t *message,
				       size_t size, struct rpc_request *ret, struct rpc_error *ret_error)
{
	struct rpc_reading reading = {.decoder = decoder, .request = ret, .error = ret_error};
	msgpack_object root;
	enum rpc_error_code code;
	size_t offset = 0;

	memset(ret, 0, sizeof(*ret));
	ret->context.cost = 1;
	switch (msgpack_unpack((const char *)message, size, &offset, &decoder->zone, &root)) {
	case MSGPACK_UNPACK_SUCCESS:
		code = read_message(&reading, service, &root);
		break;
	case MSGPACK_UNPACK_NOMEM_ERROR:
		code = rpc_fail(ret_error, RPC_MALFORMED, "out of memory");
		break;
	default: /* never for what scan_message passed */
		code = rpc_fail(ret_error, RPC_MALFORMED, "not MessagePack");
	}
	/* nothing of msgpack-c's tree is in the result; so its one chunk stays warm */
	msgpack_zone_clear(&decoder->zone);
	return code;
}
