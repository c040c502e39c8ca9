#include "client/libapikey/async.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "client/libapikey/answer.h"

/* ---- lists and slots ---- */

static void take_out(struct question *question)
{
	struct question_list *list = question->list;

	if (!list)
		return;
	*(question->previous ? &question->previous->next : &list->first) = question->next;
	*(question->next ? &question->next->previous : &list->last) = question->previous;
	question->next = question->previous = NULL;
	question->list = NULL;
	list->count--;
}

void async_move(struct question *question, struct question_list *to)
{
	take_out(question);
	question->previous = to->last;
	*(to->last ? &to->last->next : &to->first) = question;
	to->last = question;
	to->count++;
	question->list = to;
}

void async_move_front(struct question *question, struct question_list *to)
{
	take_out(question);
	question->next = to->first;
	*(to->first ? &to->first->previous : &to->last) = question;
	to->first = question;
	to->count++;
	question->list = to;
}

struct question *async_pop(struct question_list *list)
{
	struct question *question = list->first;

	if (!question)
		return NULL;
	list->first = question->next;
	*(question->next ? &question->next->previous : &list->last) = NULL;
	question->next = NULL;
	question->list = NULL;
	list->count--;
	return question;
}

struct question *async_find(struct apikey_async *handle, uint32_t msgid)
{
	uint32_t slot = msgid & ASYNC_SLOT_MASK;
	struct question *question = slot < handle->settings.queue ? handle->slots[slot] : NULL;

	return question && (uint32_t)question->id == msgid ? question : NULL;
}

static void free_slot(struct apikey_async *handle, struct question *question)
{
	uint32_t slot = question->id & ASYNC_SLOT_MASK;

	take_out(question);
	handle->slots[slot] = NULL;
	handle->free_slots[handle->free_count++] = slot;
}

static void free_memory(struct question *question)
{
	rpc_buffer_deinit(&question->request);
	free(question->results);
	free(question);
}

void async_free(struct apikey_async *handle, struct question *question)
{
	free_slot(handle, question);
	free_memory(question);
}

/* ---- calling back ---- */

void async_fail(struct apikey_async *handle, struct question *question, int err)
{
	question->err = err;
	async_move(question, &handle->failed);
}

void async_call_failed(struct apikey_async *handle)
{
	struct question *question;

	while ((question = async_pop(&handle->failed))) {
		if (question->err == -ETIMEDOUT)
			error_set(question->err, "no answer within the time allowed");
		else
			error_set(question->err, "%s", handle->fault);
		async_deliver(handle, question, question->err, NULL, NULL);
	}
}

void async_deliver(struct apikey_async *handle, struct question *question, int err, struct arena *arena,
		   const struct rpc_reply *reply)
{
	struct apikey_result result;
	struct apikey_page_list list;
	struct apikey_identity identity;
	struct answer answer = {.kind = question->kind, .count = question->count};
	bool owed = question->on_wire;

	if (question->kind == ASK_CHECK)
		answer.results = &result;
	else if (question->kind == ASK_CHECK_MANY)
		answer.results = question->results;
	else if (question->kind == ASK_PAGES)
		answer.list = &list;
	else
		answer.identity = &identity;
	err = err ? answer_fail(&answer, err) : answer_read(&answer, arena, reply);

	/* From here on its id names nothing: it can be neither cancelled nor delivered again. */
	rpc_buffer_deinit(&question->request);
	if (owed)
		async_move(question, &handle->gone);
	else
		free_slot(handle, question);
	switch (question->kind) {
	case ASK_CHECK:
		question->callback.check(question->data, err, &result);
		break;
	case ASK_CHECK_MANY:
		question->callback.many(question->data, err, question->results, question->count);
		break;
	case ASK_PAGES:
		question->callback.pages(question->data, err, &list);
		apikey_page_list_free(&list);
		break;
	case ASK_WHOAMI:
		question->callback.whoami(question->data, err, &identity);
		apikey_identity_free(&identity);
		break;
	}
	if (!owed)
		free_memory(question);
}

/* ---- the handle ---- */

void async_destroy(struct apikey_async *handle)
{
	for (uint32_t i = 0; handle->slots && i < handle->settings.queue; i++)
		if (handle->slots[i])
			free_memory(handle->slots[i]);
	wire_close(&handle->wire);
	if (handle->timer_fd >= 0)
		close(handle->timer_fd);
	if (handle->epoll_fd >= 0)
		close(handle->epoll_fd);
	free(handle->slots);
	free(handle->free_slots);
	free(handle);
}

static int set_up(struct apikey_async *handle)
{
	uint32_t queue = handle->settings.queue;
	struct epoll_event event = {.events = EPOLLIN, .data.fd = -1};

	handle->slots = calloc(queue, sizeof(struct question *));
	handle->free_slots = calloc(queue, sizeof(handle->free_slots[0]));
	if (!handle->slots || !handle->free_slots)
		return error_set(-ENOMEM, "out of memory");
	while (handle->free_count < queue) {
		handle->free_slots[handle->free_count] = queue - 1 - handle->free_count;
		handle->free_count++;
	}
	handle->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (handle->epoll_fd >= 0)
		handle->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (handle->timer_fd < 0)
		return error_set(-errno, "cannot make the descriptor to be watched: %m");
	event.data.fd = handle->timer_fd;
	if (epoll_ctl(handle->epoll_fd, EPOLL_CTL_ADD, handle->timer_fd, &event))
		return error_set(-errno, "cannot watch a timer: %m");
	return 0;
}

int apikey_async_open(const struct apikey_options *options, struct apikey_async **ret)
{
	struct settings settings;
	struct apikey_async *handle;
	int r;

	error_clear();
	if (!ret)
		return error_set(-EINVAL, "there is nowhere to put the handle");
	*ret = NULL;
	r = settings_read(options, &settings);
	if (r)
		return r;
	handle = calloc(1, sizeof(*handle));
	if (!handle)
		return error_set(-ENOMEM, "out of memory");
	handle->settings = settings;
	handle->owner = getpid();
	handle->epoll_fd = handle->timer_fd = -1;
	handle->timer_at = ASYNC_NEVER;
	wire_init(&handle->wire);
	r = set_up(handle);
	if (r) {
		async_destroy(handle);
		return r;
	}
	*ret = handle;
	return 0;
}

int apikey_async_fd(const struct apikey_async *handle)
{
	return handle->epoll_fd;
}

short apikey_async_events(const struct apikey_async *handle)
{
	(void)handle;
	return POLLIN;
}

static void cancel(struct apikey_async *handle, struct question *question)
{
	error_set(-ECANCELED, "the question was cancelled");
	async_deliver(handle, question, -ECANCELED, NULL, NULL);
}

void apikey_async_close(struct apikey_async *handle)
{
	if (!handle || handle->closing)
		return;
	handle->closing = true;
	if (handle->owner == getpid()) {
		struct question *question;

		handle->busy++;
		while ((question = async_pop(&handle->failed)) || (question = async_pop(&handle->sent)) ||
		       (question = async_pop(&handle->waiting)))
			cancel(handle, question);
		async_hang_up(handle);
		handle->busy--;
	}
	/* Called from a callback: whoever called that destroys. */
	if (handle->busy == 0)
		async_destroy(handle);
}

int apikey_async_cancel(struct apikey_async *handle, uint64_t id)
{
	struct question *question = NULL;

	error_clear();
	if (!handle || id == 0)
		return error_set(-EINVAL, "there is no handle, or no question has this id");
	if (handle->owner != getpid())
		return error_set(-ECHILD, "the handle belongs to the parent of this process");
	question = async_find(handle, (uint32_t)id);
	if (!question || question->id != id || question->list == &handle->gone)
		return error_set(-ENOENT, "the question has been answered, or never was");
	handle->busy++;
	cancel(handle, question);
	handle->busy--;
	error_clear();
	if (handle->closing && handle->busy == 0)
		async_destroy(handle);
	return 0;
}

/* ---- questions ---- */

static int make_question(struct apikey_async *handle, const struct ask *ask, struct question **ret)
{
	struct question *question = calloc(1, sizeof(*question));
	uint32_t slot = handle->free_slots[handle->free_count - 1];
	int r = 0;

	if (!question)
		return error_set(-ENOMEM, "out of memory");
	/* 48 bits of serial number do not come round; the 16 that go into the msgid may, harmlessly: the slot is free. */
	question->id = ++handle->serial << ASYNC_SLOT_BITS | slot;
	question->started = wire_now_ms();
	question->deadline = question->started + ask->timeout_ms;
	question->kind = ask->kind;
	question->count = ask->count;
	if (ask->kind == ASK_CHECK_MANY) {
		question->results = calloc(ask->count, sizeof(*question->results));
		if (!question->results)
			r = error_set(-ENOMEM, "out of memory");
	}
	if (!r)
		r = ask_encode(ask, (uint32_t)question->id, ask->timeout_ms, &question->request);
	if (r) {
		free_memory(question);
		return r;
	}
	handle->free_count--;
	handle->slots[slot] = question;
	async_move(question, &handle->waiting);
	*ret = question;
	return 0;
}

/* Everything but the callback, which the caller sets: it cannot have been called yet. */
static int start(struct apikey_async *handle, enum ask_kind kind, const char *key, const struct apikey_pair *pairs,
		 size_t count, const struct apikey_context *context, bool callback, struct question **ret)
{
	struct ask ask;
	int r;

	error_clear();
	if (!handle)
		return error_set(-EINVAL, "handle is NULL");
	if (!callback)
		return error_set(-EINVAL, "callback is NULL");
	if (handle->owner != getpid())
		return error_set(-ECHILD, "the handle belongs to the parent of this process");
	if (handle->closing)
		return error_set(-ECANCELED, "the handle is being closed");
	if (handle->free_count == 0)
		return error_set(-EBUSY, "%u questions are unanswered already", handle->settings.queue);
	r = ask_init(&ask, kind, key, pairs, count, context, handle->settings.timeout_ms);
	if (!r)
		r = make_question(handle, &ask, ret);
	ask_deinit(&ask);
	return r;
}

static int started(struct apikey_async *handle, struct question *question, void *data, uint64_t *ret_id)
{
	question->data = data;
	if (ret_id)
		*ret_id = question->id;
	async_kick(handle, question);
	error_clear();
	return 0;
}

int apikey_async_check(struct apikey_async *handle, const char *key, const char *scope, const char *page,
		       const struct apikey_context *context, apikey_check_cb callback, void *data, uint64_t *ret_id)
{
	struct apikey_pair pair = {scope, page};
	struct question *question = NULL;
	int r = start(handle, ASK_CHECK, key, &pair, 1, context, callback, &question);

	if (!question) /* left alone where start failed */
		return r;
	question->callback.check = callback;
	return started(handle, question, data, ret_id);
}

int apikey_async_check_many(struct apikey_async *handle, const char *key, const struct apikey_pair *pairs, size_t count,
			    const struct apikey_context *context, apikey_check_many_cb callback, void *data,
			    uint64_t *ret_id)
{
	struct question *question = NULL;
	int r = start(handle, ASK_CHECK_MANY, key, pairs, count, context, callback, &question);

	if (!question) /* left alone where start failed */
		return r;
	question->callback.many = callback;
	return started(handle, question, data, ret_id);
}

int apikey_async_pages(struct apikey_async *handle, const char *key, const char *scope,
		       const struct apikey_context *context, apikey_pages_cb callback, void *data, uint64_t *ret_id)
{
	struct apikey_pair pair = {scope, NULL};
	struct question *question = NULL;
	int r = start(handle, ASK_PAGES, key, &pair, 1, context, callback, &question);

	if (!question) /* left alone where start failed */
		return r;
	question->callback.pages = callback;
	return started(handle, question, data, ret_id);
}

int apikey_async_whoami(struct apikey_async *handle, const char *key, const struct apikey_context *context,
			apikey_whoami_cb callback, void *data, uint64_t *ret_id)
{
	struct question *question = NULL;
	int r = start(handle, ASK_WHOAMI, key, NULL, 0, context, callback, &question);

	if (!question) /* left alone where start failed */
		return r;
	question->callback.whoami = callback;
	return started(handle, question, data, ret_id);
}
