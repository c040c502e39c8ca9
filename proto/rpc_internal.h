/*
 * What the rpc_*.c files share. Included by them alone; msgpack.h comes in here and goes no
 * further.
 */
#ifndef APIKEYD_PROTO_RPC_INTERNAL_H
#define APIKEYD_PROTO_RPC_INTERNAL_H

#include <msgpack.h>

#include "proto/rpc.h"

/*
 * Makes room for `size` more bytes and returns where they go, or NULL with `failed` set. The caller
 * writes at most that and adds to `len` what it wrote.
 */
uint8_t *rpc_buffer_reserve(struct rpc_buffer *buffer, size_t size);
/* The packer's callback; `data` is a struct rpc_buffer. */
int rpc_buffer_write(void *data, const char *bytes, size_t len);

/* The packer's own inline functions, on our buffer. */
static inline void rpc_pack_text(msgpack_packer *packer, const char *text, size_t len)
{
	msgpack_pack_str(packer, len);
	msgpack_pack_str_body(packer, text, len);
}

/* Value trees. */
void rpc_pack_value(msgpack_packer *packer, const struct value *v);
/* The fields of a map without its head. */
void rpc_pack_fields(msgpack_packer *packer, const struct value *map);

/*
 * 0; -ENOMEM; -EINVAL for what a value cannot hold (ext, a map's key that is no text or holds a
 * NUL); -E2BIG for a map of more than `fields_max` fields and -EEXIST for one that has a field
 * twice (looked for only where `fields_max` is small: it costs the square). fields_max 0: any
 * number, not looked for. Recursion is bounded by what scan_message let pass.
 */
int rpc_value_from(struct arena *arena, const msgpack_object *object, uint32_t fields_max, struct value *ret);

/*
 * An object that is a text. Of an empty one msgpack-c leaves the pointer NULL or anywhere: here it always has data, as
 * rpc_text wants it.
 */
static inline struct rpc_text rpc_text_of(const msgpack_object *object)
{
	const msgpack_object_str *str = &object->via.str;

	return str->size > 0 ? (struct rpc_text){str->ptr, str->size} : (struct rpc_text){"", 0};
}

/* Whether an object is this text, which is not empty. */
bool rpc_is_text(const msgpack_object *object, const char *text, size_t len);

/* ---- requests ---- */

/* What one decode works on. */
struct rpc_reading {
	struct rpc_decoder *decoder;
	struct rpc_request *request;
	struct rpc_error *error;
	const msgpack_object *params;
	uint32_t count; /* of params */
};

/* Memory that lasts until the decoder's reset. NULL: there is none. */
struct rpc_pair *rpc_take_pairs(struct rpc_decoder *decoder, size_t count);
struct arena *rpc_decoder_arena(struct rpc_decoder *decoder);

/* Each reads its method's parameters into r->request, or says in r->error what is wrong. */
enum rpc_error_code rpc_read_hello(struct rpc_reading *r);
enum rpc_error_code rpc_read_check(struct rpc_reading *r);
enum rpc_error_code rpc_read_check_many(struct rpc_reading *r);
enum rpc_error_code rpc_read_pages(struct rpc_reading *r);
enum rpc_error_code rpc_read_whoami(struct rpc_reading *r);
enum rpc_error_code rpc_read_stats(struct rpc_reading *r);
enum rpc_error_code rpc_read_admin(struct rpc_reading *r);

/* Fills *error and returns its code. */
enum rpc_error_code rpc_fail(struct rpc_error *error, enum rpc_error_code code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

enum { RPC_SHOWN_MAX = 32 }; /* bytes of a text */

struct rpc_shown {
	char text[RPC_SHOWN_MAX * 4 + 32];
};

/* An object as people may see it: short, escaped, and nothing that could be a piece of a key. In
 * *shown. */
const char *rpc_show(struct rpc_shown *shown, const msgpack_object *object);

#endif
