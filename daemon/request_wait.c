/* Requests that wait: for a revision, or for what modules answer. */
#include "daemon/request_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	WAKE_SLICE = 256, /* judged in one turn of the loop, so that the others get theirs */
};

/* The two orders in which they stand. */
enum order { BY_DEADLINE = 0, BY_REV };

/* Owns its text: all that the request borrowed follows the struct. */
struct request_waiting {
	struct request_owner *owner;
	struct request_waiting *prev, *next; /* of the owner */
	uint64_t key[2];		     /* by order: loop ms, revision (UINT64_MAX: it waits for none) */
	uint32_t at[2];			     /* by order: the place in the heap */
	uint32_t calls;			     /* modules that have not answered */
	bool is_ready;			     /* all have, and it stands in the list of these */
	struct request_waiting *prev_ready, *next_ready;
	struct policy *policy;	  /* a reference: by this one it is judged to its end */
	struct request_late late; /* what request_judge_late wants */
	size_t size;		  /* of all of this, to be wiped */
	size_t bytes;		  /* that and the rest: its part of core->waiting_bytes */
	uint64_t read_ns;
	struct rpc_request rpc;
};

/* ---- heaps, the least at 0 ---- */

static void heap_place(struct request_heap *heap, enum order order, uint32_t at, struct request_waiting *waiting)
{
	heap->items[at] = waiting;
	waiting->at[order] = at;
}

static void heap_up(struct request_heap *heap, enum order order, uint32_t at)
{
	struct request_waiting *waiting = heap->items[at];

	while (at > 0 && waiting->key[order] < heap->items[(at - 1) / 2]->key[order]) {
		heap_place(heap, order, at, heap->items[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_place(heap, order, at, waiting);
}

static void heap_down(struct request_heap *heap, enum order order, uint32_t at)
{
	struct request_waiting *waiting = heap->items[at];

	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child >= heap->count)
			break;
		if (child + 1 < heap->count && heap->items[child + 1]->key[order] < heap->items[child]->key[order])
			child++;
		if (waiting->key[order] <= heap->items[child]->key[order])
			break;
		heap_place(heap, order, at, heap->items[child]);
		at = child;
	}
	heap_place(heap, order, at, waiting);
}

static bool heap_reserve(struct request_heap *heap)
{
	uint32_t cap = heap->cap ? heap->cap * 2 : 64;
	struct request_waiting **items;

	if (heap->count < heap->cap)
		return true;
	items = realloc(heap->items, cap * sizeof(struct request_waiting *));
	if (!items)
		return false;
	heap->items = items;
	heap->cap = cap;
	return true;
}

static void heap_add(struct request_heap *heap, enum order order, struct request_waiting *waiting)
{
	heap_place(heap, order, heap->count++, waiting);
	heap_up(heap, order, heap->count - 1);
}

static void heap_remove(struct request_heap *heap, enum order order, struct request_waiting *waiting)
{
	uint32_t at = waiting->at[order];
	struct request_waiting *last = heap->items[--heap->count];

	if (last == waiting)
		return;
	heap_place(heap, order, at, last);
	heap_up(heap, order, at);
	heap_down(heap, order, last->at[order]);
}

/* ---- a request of one's own ---- */

static size_t pairs_size(const struct rpc_pair *pairs, uint32_t count)
{
	size_t size = 0;

	for (uint32_t i = 0; i < count; i++)
		size += (size_t)pairs[i].scope.len + pairs[i].page.len;
	return size;
}

static void keep(struct rpc_text *text, char **room)
{
	if (!text->data)
		return;
	memcpy(*room, text->data, text->len);
	text->data = *room;
	*room += text->len;
}

/* A copy of pairs with their texts, in one piece of memory; NULL without memory. */
static struct rpc_pair *pairs_copy(const struct rpc_pair *pairs, uint32_t count)
{
	struct rpc_pair *own = malloc((count + 1u) * sizeof(*own) + pairs_size(pairs, count));
	char *room = own ? (char *)(own + count + 1) : NULL;

	for (uint32_t i = 0; own && i < count; i++) {
		own[i] = pairs[i];
		keep(&own[i].scope, &room);
		keep(&own[i].page, &room);
	}
	return own;
}

/* Keeps what `pages` has found, if it has. */
static bool keep_pages(struct request_waiting *waiting, const struct request *request)
{
	struct request_late *late = &waiting->late;

	if (request->rpc->method != RPC_METHOD_PAGES || !request->pairs || late->pairs)
		return true;
	late->pairs = pairs_copy(request->pairs, request->pair_count);
	late->pair_count = request->pair_count;
	late->pages_more = request->pages_more;
	return late->pairs != NULL;
}

static void waiting_free(struct request_core *core, struct request_waiting *waiting);

/* What it takes beside its own piece: what modules answered, and what `pages` found. */
static size_t more_bytes(const struct request *request)
{
	size_t bytes = request->memo ? request->memo_count * sizeof(struct request_memo) : 0;

	if (request->rpc->method == RPC_METHOD_PAGES && request->pairs)
		bytes +=
			request->pair_count * sizeof(struct rpc_pair) + pairs_size(request->pairs, request->pair_count);
	return bytes;
}

/* Whether there is room for it, which it has after. */
static bool take_bytes(struct request_core *core, struct request_waiting *waiting, const struct request *request)
{
	size_t bytes = waiting->size + more_bytes(request);

	if (core->waiting_bytes - waiting->bytes + bytes > core->config->waiting_bytes) {
		core->counters.overload_bytes++;
		return false;
	}
	core->waiting_bytes += bytes - waiting->bytes;
	waiting->bytes = bytes;
	return true;
}

static struct request_waiting *waiting_new(struct request_core *core, const struct request *request)
{
	const struct rpc_request *rpc = request->rpc;
	size_t pairs = rpc->pair_count * sizeof(struct rpc_pair);
	size_t size = sizeof(struct request_waiting) + pairs + pairs_size(rpc->pairs, rpc->pair_count) + rpc->key.len +
		      rpc->pair.scope.len + rpc->pair.page.len + rpc->context.stack.len + rpc->context.org.len +
		      rpc->context.after.len;
	struct request_waiting *waiting = malloc(size);
	struct rpc_pair *own;
	char *room;

	if (!waiting)
		return NULL;
	memset(waiting, 0, sizeof(*waiting));
	waiting->size = size;
	waiting->rpc = *rpc;
	own = (struct rpc_pair *)(void *)(waiting + 1);
	room = (char *)own + pairs;
	for (uint32_t i = 0; i < rpc->pair_count; i++) {
		own[i] = rpc->pairs[i];
		keep(&own[i].scope, &room);
		keep(&own[i].page, &room);
	}
	waiting->rpc.pairs = own;
	keep(&waiting->rpc.key, &room);
	keep(&waiting->rpc.pair.scope, &room);
	keep(&waiting->rpc.pair.page, &room);
	keep(&waiting->rpc.context.stack, &room);
	keep(&waiting->rpc.context.org, &room);
	keep(&waiting->rpc.context.after, &room);
	waiting->read_ns = request->owner->read_ns;
	waiting->policy = policy_ref(core->policy);
	waiting->late.rpc = &waiting->rpc;
	waiting->late.stack = request->stack;
	if (!take_bytes(core, waiting, request) || !keep_pages(waiting, request)) {
		waiting_free(core, waiting);
		return NULL;
	}
	return waiting;
}

static void waiting_free(struct request_core *core, struct request_waiting *waiting)
{
	core->waiting_bytes -= waiting->bytes;
	request_memo_free(waiting->late.memo, waiting->late.memo_count);
	free((struct rpc_pair *)(uintptr_t)waiting->late.pairs);
	policy_unref(waiting->policy);
	explicit_bzero(waiting, waiting->size); /* it held a key */
	free(waiting);
}

/* ---- those whose modules have answered ---- */

static void ready_add(struct request_core *core, struct request_waiting *waiting)
{
	waiting->is_ready = true;
	waiting->next_ready = core->ready;
	waiting->prev_ready = NULL;
	if (core->ready)
		core->ready->prev_ready = waiting;
	core->ready = waiting;
}

static void ready_remove(struct request_core *core, struct request_waiting *waiting)
{
	if (!waiting->is_ready)
		return;
	waiting->is_ready = false;
	if (waiting->prev_ready)
		waiting->prev_ready->next_ready = waiting->next_ready;
	else
		core->ready = waiting->next_ready;
	if (waiting->next_ready)
		waiting->next_ready->prev_ready = waiting->prev_ready;
}

/* ---- waiting ---- */

static void on_deadline(uv_timer_t *timer);

static void set_timer(struct request_core *core)
{
	uint64_t now = uv_now(core->loop), first;

	if (core->by_deadline.count == 0) {
		uv_timer_stop(&core->deadline);
		return;
	}
	first = core->by_deadline.items[0]->key[BY_DEADLINE];
	uv_timer_start(&core->deadline, on_deadline, first > now ? first - now : 0, 0);
}

static void take_out(struct request_core *core, struct request_waiting *waiting)
{
	struct request_owner *owner = waiting->owner;

	ready_remove(core, waiting);
	heap_remove(&core->by_deadline, BY_DEADLINE, waiting);
	heap_remove(&core->by_rev, BY_REV, waiting);
	if (waiting->prev)
		waiting->prev->next = waiting->next;
	else
		owner->waiting = waiting->next;
	if (waiting->next)
		waiting->next->prev = waiting->prev;
	owner->in_flight--;
}

/* How long those took whose answers were handed out: one look at the clock for all of them. */
static void count_answered(struct request_core *core)
{
	uint64_t now = core->answered_count > 0 ? latency_now() : 0;

	for (uint32_t i = 0; i < core->answered_count; i++)
		latency_add(&core->waited, now - core->scratch->read_ns[i], 1);
	core->answered_count = 0;
}

static void flush(struct request_core *core)
{
	core->callbacks.flush(core->callbacks.data);
	count_answered(core);
}

/*
 * Judges one again, and answers it where it need not wait on (`finally`: it must not). The owner may still not go,
 * since its bytes are only taken.
 */
static void judge(struct request_core *core, struct request_waiting *waiting, bool finally)
{
	ready_remove(core, waiting);
	if (finally) {
		request_calls_cancel(core, waiting->late.memo, waiting->late.memo_count, APIKEYD_TIMEOUT);
		waiting->calls = 0;
	}
	waiting->late.may_wait = !finally;
	core->late.len = 0;
	core->late.failed = false;
	if (!request_judge_late(core, waiting, &waiting->late, &core->late))
		return;
	take_out(core, waiting);
	waiting->owner->answer(waiting->owner, &core->late);
	if (core->answered_count == REQUEST_ANSWERED_MAX)
		count_answered(core);
	core->scratch->read_ns[core->answered_count++] = waiting->read_ns;
	waiting_free(core, waiting);
}

static void on_deadline(uv_timer_t *timer)
{
	struct request_core *core = timer->data;
	uint64_t now = uv_now(core->loop);
	unsigned slice = WAKE_SLICE;

	while (slice-- > 0 && core->by_deadline.count > 0 && core->by_deadline.items[0]->key[BY_DEADLINE] <= now) {
		core->counters.waited_timeout++;
		judge(core, core->by_deadline.items[0], true);
	}
	set_timer(core);
	flush(core);
}

static void on_wake(uv_idle_t *idle)
{
	struct request_core *core = idle->data;
	uint64_t rev = mirror_rev(core->mirror);
	unsigned slice = WAKE_SLICE;

	for (; slice > 0 && core->ready; slice--)
		judge(core, core->ready, false);
	for (; slice > 0 && core->by_rev.count > 0 && core->by_rev.items[0]->key[BY_REV] <= rev; slice--)
		judge(core, core->by_rev.items[0], false);
	if (slice > 0)
		uv_idle_stop(&core->wake);
	set_timer(core);
	flush(core);
}

void request_call_came(struct request_core *core, struct request_waiting *waiting)
{
	if (--waiting->calls > 0)
		return;
	ready_add(core, waiting);
	uv_idle_start(&core->wake, on_wake);
}

/* What it waits for from now on. */
static void set_aims(struct request_core *core, struct request_waiting *waiting, const struct request *request)
{
	waiting->calls = request_calls_adopt(waiting->late.memo, waiting->late.memo_count, waiting);
	waiting->key[BY_REV] = request->rev_wanted ? request->rev_wanted : UINT64_MAX;
	if (request->rev_wanted)
		core->callbacks.hurry(core->callbacks.data);
}

static uint64_t deadline_of(struct request_core *core, const struct rpc_context *context)
{
	uint32_t ms = context->deadline_ms ? context->deadline_ms : core->config->deadline_ms;

	if (ms > core->config->deadline_max_ms) {
		ms = core->config->deadline_max_ms;
		core->counters.deadlines_cut++;
	}
	return uv_now(core->loop) + ms;
}

/* One that waited already goes on waiting, for something else. */
static bool wait_on(struct request_core *core, struct request_waiting *waiting, const struct request *request)
{
	if (!take_bytes(core, waiting, request) || !keep_pages(waiting, request))
		return false;
	heap_remove(&core->by_rev, BY_REV, waiting);
	set_aims(core, waiting, request);
	heap_add(&core->by_rev, BY_REV, waiting);
	return true;
}

bool request_wait(struct request_core *core, struct request_owner *owner, struct request *request,
		  enum reason *ret_reason)
{
	const struct config *config = core->config;
	struct request_waiting *waiting = request->waiting;

	*ret_reason = REASON_OVERLOAD;
	if (waiting) {
		waiting->late.memo = request->memo; /* it may have grown */
		waiting->late.memo_count = request->memo_count;
	}
	if (waiting && wait_on(core, waiting, request))
		return true;
	if (waiting)
		goto overload;
	if (owner->in_flight >= config->in_flight_per_connection) {
		core->counters.in_flight++;
		goto refused;
	}
	if (core->by_deadline.count >= config->waiting)
		goto overload;
	if (!heap_reserve(&core->by_deadline) || !heap_reserve(&core->by_rev))
		goto overload;
	waiting = waiting_new(core, request);
	if (!waiting)
		goto overload;
	waiting->late.memo = request->memo;
	waiting->late.memo_count = request->memo_count;
	request->memo = NULL; /* it is the waiting one's now */
	waiting->owner = owner;
	waiting->late.owner = owner;
	waiting->key[BY_DEADLINE] = deadline_of(core, &request->rpc->context);
	set_aims(core, waiting, request);
	waiting->next = owner->waiting;
	if (owner->waiting)
		owner->waiting->prev = waiting;
	owner->waiting = waiting;
	owner->in_flight++;
	heap_add(&core->by_deadline, BY_DEADLINE, waiting);
	heap_add(&core->by_rev, BY_REV, waiting);
	if (waiting->at[BY_DEADLINE] == 0)
		set_timer(core);
	core->counters.waited++;
	return true;
overload:
	core->counters.overload++;
refused:
	request_calls_cancel(core, request->memo, request->memo_count, APIKEYD_OVERLOAD);
	return false;
}

void request_forget(struct request_core *core, struct request_owner *owner)
{
	bool any = owner->waiting != NULL;

	while (owner->waiting) {
		struct request_waiting *waiting = owner->waiting;

		request_calls_cancel(core, waiting->late.memo, waiting->late.memo_count, APIKEYD_TIMEOUT);
		take_out(core, waiting);
		assert(owner->waiting != waiting);
		waiting_free(core, waiting);
		core->counters.waited_forgotten++;
	}
	if (any)
		set_timer(core);
}

void request_revised(struct request_core *core)
{
	if (core->by_rev.count > 0 && core->by_rev.items[0]->key[BY_REV] <= mirror_rev(core->mirror))
		uv_idle_start(&core->wake, on_wake);
}

void request_finish(struct request_core *core)
{
	core->finishing = true;
	while (core->by_deadline.count > 0)
		judge(core, core->by_deadline.items[0], true);
	set_timer(core);
	flush(core);
}

int request_wait_init(struct request_core *core)
{
	uv_timer_init(core->loop, &core->deadline);
	uv_idle_init(core->loop, &core->wake);
	core->deadline.data = core;
	core->wake.data = core;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	struct request_core *core = handle->data;

	core->closing--;
}

void request_core_close(struct request_core *core)
{
	core->closing = 3;
	/* Nothing waits, so no policy is left but this one: its modules end here, while the loop still runs. */
	request_set_policy(core, NULL);
	request_call_close(core);
	uv_close((uv_handle_t *)&core->completed, on_closed);
	uv_close((uv_handle_t *)&core->deadline, on_closed);
	uv_close((uv_handle_t *)&core->wake, on_closed);
}
