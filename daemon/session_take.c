/* Messages: from the bytes of one read to the answers of one write. */
#include "daemon/session_internal.h"

#include <stdio.h>
#include <string.h>

/* What has been decoded and is to be judged together. */
struct taking {
	struct session *session;
	uint32_t count, pairs;
	uint32_t answered; /* of those that were judged */
};

static void judge(struct taking *taking)
{
	struct sessions *all = taking->session->all;

	if (taking->count > 0)
		taking->answered +=
			request_batch(all->core, &taking->session->owner, all->batch, taking->count, &all->out);
	rpc_decoder_reset(all->decoder);
	taking->count = 0;
	taking->pairs = 0;
}

/* What was answered has been written: how long that took since it was read is one time for all of it. */
static void count_answered(const struct taking *taking)
{
	struct session *session = taking->session;

	if (taking->answered > 0)
		latency_add(&session->all->answered, latency_now() - session->owner.read_ns, taking->answered);
}

static void put_error(struct sessions *all, uint32_t msgid, const struct rpc_error *error)
{
	all->counters.request_errors++;
	rpc_put_error(&all->out, msgid, error);
}

static bool fill_hello(struct sessions *all, struct value *map)
{
	const struct config *config = all->config;
	struct arena *arena = &all->arena;
	struct value *limits;

	value_map(map);
	if (!value_set_text(arena, map, "server", "apikeyd") ||
	    !value_set_text(arena, map, "version", APIKEYD_VERSION) ||
	    !value_set_uint(arena, map, "protocol", RPC_PROTOCOL) ||
	    !value_set_text(arena, map, "brand", config->brand))
		return false;
	limits = value_set(arena, map, "limits");
	if (!limits)
		return false;
	value_map(limits);
	return value_set_uint(arena, limits, "message_bytes", config->message_bytes) &&
	       value_set_uint(arena, limits, "pairs", config->pairs) &&
	       value_set_uint(arena, limits, "pages_per_answer", config->pages_per_answer) &&
	       value_set_uint(arena, limits, "in_flight", config->in_flight_per_connection) &&
	       value_set_uint(arena, limits, "deadline_ms", config->deadline_ms) &&
	       value_set_uint(arena, limits, "deadline_max_ms", config->deadline_max_ms);
}

static void answer_value(struct sessions *all, const struct rpc_request *request)
{
	static const struct rpc_error no_memory = {.code = RPC_INTERNAL, .message = "no memory"};
	struct value map;
	bool filled;

	if (request->method == RPC_METHOD_HELLO) {
		filled = fill_hello(all, &map);
	} else {
		value_map(&map);
		filled = all->callbacks.stats(all->callbacks.data, &all->arena, &map);
	}
	if (filled)
		rpc_put_result(&all->out, request->msgid, &map);
	else
		put_error(all, request->msgid, &no_memory);
	arena_clear(&all->arena);
}

static bool too_many_pairs(struct sessions *all, const struct rpc_request *request)
{
	struct rpc_error error = {.code = RPC_LIMIT};

	if (request->method != RPC_METHOD_CHECK_MANY || request->pair_count <= all->config->pairs)
		return false;
	snprintf(error.message, sizeof(error.message), "%u pairs: limits.pairs allows %u", request->pair_count,
		 all->config->pairs);
	all->counters.limit_pairs++;
	put_error(all, request->msgid, &error);
	return true;
}

/* How many pairs a request may have in a batch; `pages` finds its own. */
static uint32_t weight(const struct rpc_request *request)
{
	switch (request->method) {
	case RPC_METHOD_CHECK_MANY:
		return request->pair_count;
	case RPC_METHOD_PAGES:
		return RPC_PAIRS_MAX;
	default:
		return 1;
	}
}

static bool may_explain(struct session *session, const struct rpc_request *request)
{
	struct rpc_error error = {.code = RPC_REFUSED};
	struct sessions *all = session->all;

	if (request->method != RPC_METHOD_EXPLAIN || session_may_explain(session))
		return true;
	snprintf(error.message, sizeof(error.message),
		 "explain: uid %u is not in [explain] users of apikeyd.conf; ask with check",
		 (unsigned)session->owner.uid);
	all->counters.refused_explain++;
	put_error(all, request->msgid, &error);
	return false;
}

/* One message that the scanner has passed. False: the stream cannot be followed, and *ret_error says why. */
static bool take_message(struct taking *taking, const uint8_t *data, size_t size, struct rpc_error *ret_error)
{
	struct session *session = taking->session;
	struct sessions *all = session->all;
	struct rpc_request *request = &all->batch[taking->count];
	enum rpc_error_code code;

	code = rpc_decode_request(all->decoder, session->service, data, size, request, ret_error);
	if (code == RPC_MALFORMED)
		return false;
	if (code == RPC_BAD_PARAMS && request->method == RPC_METHOD_ADMIN)
		admin_knows(request->admin_method, ret_error);
	if (code != RPC_OK) {
		put_error(all, request->msgid, ret_error);
		ret_error->code = RPC_OK;
		return true;
	}
	if (request->notification) {
		all->counters.notifications++;
		return true;
	}
	all->counters.requests[request->method]++;
	switch (request->method) {
	case RPC_METHOD_HELLO:
	case RPC_METHOD_STATS:
		answer_value(all, request);
		break;
	case RPC_METHOD_ADMIN:
		session_admin_start(session, request, &all->out);
		break;
	default:
		if (too_many_pairs(all, request) || !may_explain(session, request))
			break;
		taking->count++;
		taking->pairs += weight(request);
		break;
	}
	return true;
}

/* Whether a further message, whatever it is, finds room, and its answer does too. */
static bool has_room(const struct taking *taking)
{
	const struct sessions *all = taking->session->all;

	return taking->count < REQUEST_BATCH_MAX && taking->pairs <= REQUEST_PAIRS_MAX - RPC_PAIRS_MAX &&
	       all->out.len < all->config->output_bytes_per_connection / 2;
}

/* Whether the peer reads too little for us to go on. What is ready is written first. */
static bool must_hold(struct session *session)
{
	struct sessions *all = session->all;
	size_t half = all->config->output_bytes_per_connection / 2;

	if (session_pending(session) + all->out.len < half)
		return false;
	return !session_write(session, &all->out) || session_pending(session) >= half;
}

/* Why the scanner cannot follow the stream, with the limit that it met and what would be right. */
static void scan_fault(enum scan_result result, const struct scan_limits *limits, struct rpc_error *error)
{
	error->code = RPC_MALFORMED;
	switch (result) {
	case SCAN_TOO_LONG:
		snprintf(error->message, sizeof(error->message),
			 "message longer than %zu bytes (limits.message_bytes), or declared to be: ask in several",
			 limits->message_max);
		break;
	case SCAN_TOO_DEEP:
		snprintf(error->message, sizeof(error->message), "message nested deeper than %u arrays and maps",
			 limits->depth_max);
		break;
	default:
		snprintf(error->message, sizeof(error->message),
			 "%s: [0, msgid, method, params] in MessagePack is right", scan_error(result));
	}
}

size_t session_take(struct session *session, const uint8_t *data, size_t len)
{
	struct sessions *all = session->all;
	struct scan_limits limits = {.message_max = all->config->message_bytes, .depth_max = SCAN_DEPTH_MAX};
	struct taking taking = {.session = session};
	struct rpc_error error = {.code = RPC_OK};
	enum scan_result result = SCAN_MORE;
	size_t done = 0, size;

	session->held = false;
	while (done < len) {
		result = scan_resume(&session->scan, data + done, len - done, &limits, &size);
		if (result != SCAN_MESSAGE)
			break;
		if (!take_message(&taking, data + done, size, &error))
			break;
		done += size;
		if (has_room(&taking))
			continue;
		judge(&taking);
		if (must_hold(session)) {
			if (session->closing)
				return len;
			session->held = done < len;
			break;
		}
	}
	judge(&taking);
	if (error.code == RPC_OK && result != SCAN_MESSAGE && result != SCAN_MORE)
		scan_fault(result, &limits, &error);
	if (error.code == RPC_MALFORMED && !session->held) {
		all->counters.closed_malformed++;
		session_fail(session, RPC_MALFORMED, error.message, &all->out);
		count_answered(&taking);
		return len;
	}
	if (!session_write(session, &all->out))
		return len;
	count_answered(&taking);
	return done;
}
