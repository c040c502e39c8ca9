/*
 * slow: a module that takes its time, and completes from a thread of its own. It may stand wherever a module that does
 * not identify may. Arguments:
 *
 *     delay=TIME     after which it completes (default 50ms)
 *     code=N         with which number (default 1, success); any, also those that are no code
 *     retry_after=N  milliseconds, in the answer
 *     detail=TEXT    in the answer
 *     how=WORD       once     as it should be, and not at all where it was cancelled
 *                    twice    at its time, and again at once
 *                    late     at its time, cancelled or not
 *                    wrong    at its time, other tokens than its own, several; never its own
 *                    within   before `start` has returned, from the thread
 *                    never    not at all
 *
 * With each answer goes the request's scope in the detail, where there is no other: it shows whose answer came.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/apikeyd-module.h"

enum { DELAY, CODE, RETRY_AFTER, DETAIL, HOW, ARGUMENTS };

static const struct apikeyd_argument arguments[] = {
	[DELAY] = {.name = "delay", .type = APIKEYD_TYPE_TIME, .fallback = "50ms", .help = "until it completes"},
	[CODE] = {.name = "code", .type = APIKEYD_TYPE_COUNT, .fallback = "1", .help = "with which number"},
	[RETRY_AFTER] = {.name = "retry_after", .type = APIKEYD_TYPE_COUNT, .fallback = "0", .help = "milliseconds"},
	[DETAIL] = {.name = "detail", .type = APIKEYD_TYPE_TEXT, .help = "one line in the answer"},
	[HOW] = {.name = "how",
		 .type = APIKEYD_TYPE_WORD,
		 .fallback = "once",
		 .words = "once|twice|late|wrong|within|never",
		 .help = "how well it behaves"},
	[ARGUMENTS] = {0},
};

struct item {
	struct item *next;
	uint64_t token;
	struct timespec due;
	bool done; /* how=within: `start` waits for it */
	char scope[65];
};

struct instance {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	const struct apikeyd_value *values;
	const char *how;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct item *items; /* in the order of their time, since all have the same delay */
	bool ends;
};

static bool behaves(const struct instance *instance, const char *how)
{
	return strcmp(instance->how, how) == 0;
}

/* ---- the thread ---- */

/* Unlocked: the daemon may take a lock of its own. */
static void answer(struct instance *instance, const struct item *item)
{
	const struct apikeyd_value *values = instance->values;
	struct apikeyd_answer answer = {
		.size = sizeof(answer),
		.code = (enum apikeyd_code)values[CODE].number,
		.retry_after_ms = values[RETRY_AFTER].number,
		.detail = values[DETAIL].given ? values[DETAIL].text : item->scope,
	};
	const uint64_t others[] = {item->token + 1, item->token - 1, ~item->token, 0, UINT64_MAX};

	if (behaves(instance, "wrong")) {
		for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++)
			if (others[i] != item->token)
				instance->host->complete(instance->self, others[i], &answer);
		return;
	}
	instance->host->complete(instance->self, item->token, &answer);
	if (behaves(instance, "twice"))
		instance->host->complete(instance->self, item->token, &answer);
}

static bool is_due(const struct item *item)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > item->due.tv_sec || (now.tv_sec == item->due.tv_sec && now.tv_nsec >= item->due.tv_nsec);
}

static void *run(void *data)
{
	struct instance *instance = data;

	pthread_mutex_lock(&instance->lock);
	while (!instance->ends) {
		struct item *item = instance->items;

		if (!item || item->done) {
			pthread_cond_wait(&instance->changed, &instance->lock);
		} else if (!is_due(item)) {
			pthread_cond_timedwait(&instance->changed, &instance->lock, &item->due);
		} else if (behaves(instance, "within")) {
			/* `start` holds on to the item until it is done. */
			pthread_mutex_unlock(&instance->lock);
			answer(instance, item);
			pthread_mutex_lock(&instance->lock);
			item->done = true;
			pthread_cond_broadcast(&instance->changed);
		} else {
			instance->items = item->next;
			pthread_mutex_unlock(&instance->lock);
			answer(instance, item);
			free(item);
			pthread_mutex_lock(&instance->lock);
		}
	}
	pthread_mutex_unlock(&instance->lock);
	return NULL;
}

/* ---- the daemon's thread ---- */

static struct item *item_new(const struct instance *instance, const struct apikeyd_request *request, uint64_t token)
{
	struct item *item = calloc(1, sizeof(*item));
	uint64_t delay_ms = behaves(instance, "within") ? 0 : instance->values[DELAY].number;

	if (!item)
		abort();
	item->token = token;
	if (request->scope.data && request->scope.len < sizeof(item->scope))
		memcpy(item->scope, request->scope.data, request->scope.len);
	clock_gettime(CLOCK_MONOTONIC, &item->due);
	item->due.tv_sec += (time_t)(delay_ms / 1000);
	item->due.tv_nsec += (long)(delay_ms % 1000) * 1000000;
	if (item->due.tv_nsec >= 1000000000) {
		item->due.tv_sec++;
		item->due.tv_nsec -= 1000000000;
	}
	return item;
}

static enum apikeyd_code start(void *data, const struct apikeyd_request *request, uint64_t token)
{
	struct instance *instance = data;
	struct item *item, **at;

	if (behaves(instance, "never"))
		return APIKEYD_PENDING;
	item = item_new(instance, request, token);
	pthread_mutex_lock(&instance->lock);
	for (at = &instance->items; *at; at = &(*at)->next)
		;
	*at = item;
	pthread_cond_broadcast(&instance->changed);
	while (behaves(instance, "within") && !item->done)
		pthread_cond_wait(&instance->changed, &instance->lock);
	if (item->done) {
		*at = NULL;
		free(item);
	}
	pthread_mutex_unlock(&instance->lock);
	return APIKEYD_PENDING;
}

static void cancel(void *data, uint64_t token)
{
	struct instance *instance = data;
	struct item **at, *item = NULL;

	if (behaves(instance, "late"))
		return;
	pthread_mutex_lock(&instance->lock);
	for (at = &instance->items; *at; at = &(*at)->next)
		if ((*at)->token == token) {
			item = *at;
			*at = item->next;
			break;
		}
	pthread_mutex_unlock(&instance->lock);
	free(item);
}

static int open_line(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		     void **ret_instance, char *error, size_t error_size)
{
	struct instance *instance = calloc(1, sizeof(*instance));
	pthread_condattr_t attributes;

	if (!instance) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	instance->self = self;
	instance->host = host;
	instance->values = values;
	instance->how = values[HOW].text;
	pthread_mutex_init(&instance->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&instance->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	if (pthread_create(&instance->thread, NULL, run, instance) != 0) {
		snprintf(error, error_size, "no thread");
		pthread_cond_destroy(&instance->changed);
		pthread_mutex_destroy(&instance->lock);
		free(instance);
		return -EAGAIN;
	}
	*ret_instance = instance;
	return 0;
}

/* What is late by now is not said any more: there is nobody left to say it to. */
static void close_line(void *data)
{
	struct instance *instance = data;

	pthread_mutex_lock(&instance->lock);
	instance->ends = true;
	pthread_cond_broadcast(&instance->changed);
	pthread_mutex_unlock(&instance->lock);
	pthread_join(instance->thread, NULL);
	while (instance->items) {
		struct item *item = instance->items;

		instance->items = item->next;
		free(item);
	}
	pthread_cond_destroy(&instance->changed);
	pthread_mutex_destroy(&instance->lock);
	free(instance);
}

APIKEYD_EXPORT const struct apikeyd_module apikeyd_module = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "slow",
	.help = "takes its time, and completes from a thread",
	.groups = APIKEYD_GROUP_CALLER | APIKEYD_GROUP_ACCOUNT | APIKEYD_GROUP_PAGE | APIKEYD_GROUP_SCOPE |
		  APIKEYD_GROUP_AUDIT,
	.flags = APIKEYD_ASYNCHRONOUS,
	.arguments = arguments,
	.open = open_line,
	.start = start,
	.cancel = cancel,
	.close = close_line,
};
