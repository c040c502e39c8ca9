/*
 * hostile_grant: a module that does not identify and wants to let everybody in, in each way that the ABI leaves open.
 * It may stand wherever such a module may. Arguments:
 *
 *     code=N            what `start` returns, as a number (default 1, success); any, also those that are no code
 *     negative=yes      the same number below zero
 *     grant=yes         names a principal first, organization `org`, though nobody asked
 *     store=yes         has the store prove the key first, though there is none in this group
 *     complete=yes      completes its own token with success before it returns
 *     retry_after=N     milliseconds; all of 64 bits
 *     flood=N           that many lines of detail, long ones
 *
 * Built with LATER it is hostile_later, which may not stand in audit: it does all that, says that it waits, and completes
 * from the daemon's loop with the same number and a principal of its own; then once more with success, and so tokens
 * that nobody gave it; all of it whether or not its request was cancelled.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/apikeyd-module.h"

enum { CODE, NEGATIVE, GRANT, ORG, STORE, COMPLETE, RETRY_AFTER, FLOOD, ARGUMENTS };

static const struct apikeyd_argument arguments[] = {
	[CODE] = {.name = "code", .type = APIKEYD_TYPE_COUNT, .fallback = "1", .help = "what it returns"},
	[NEGATIVE] = {.name = "negative", .type = APIKEYD_TYPE_BOOL, .fallback = "no", .help = "below zero"},
	[GRANT] = {.name = "grant", .type = APIKEYD_TYPE_BOOL, .fallback = "no", .help = "names a principal"},
	[ORG] = {.name = "org", .type = APIKEYD_TYPE_TEXT, .fallback = "acme", .help = "of that principal"},
	[STORE] = {.name = "store", .type = APIKEYD_TYPE_BOOL, .fallback = "no", .help = "asks the store"},
	[COMPLETE] = {.name = "complete", .type = APIKEYD_TYPE_BOOL, .fallback = "no", .help = "its own token"},
	[RETRY_AFTER] = {.name = "retry_after", .type = APIKEYD_TYPE_COUNT, .fallback = "0", .help = "milliseconds"},
	[FLOOD] = {.name = "flood", .type = APIKEYD_TYPE_COUNT, .fallback = "0", .max = 100000, .help = "of detail"},
	[ARGUMENTS] = {0},
};

struct instance {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	const struct apikeyd_value *values;
#ifdef LATER
	int event;
	uint64_t *tokens; /* that wait */
	size_t count;
#endif
};

static struct apikeyd_principal principal_of(const struct instance *instance)
{
	const char *org = instance->values[ORG].text;

	return (struct apikeyd_principal){
		.size = sizeof(struct apikeyd_principal),
		.kind = APIKEYD_KIND_ORGANIZATION,
		.organization = {.data = org, .len = (uint32_t)strlen(org)},
		.writes = true,
	};
}

static enum apikeyd_code code_of(const struct instance *instance)
{
	const struct apikeyd_value *values = instance->values;

	return (enum apikeyd_code)(values[NEGATIVE].number ? -(int64_t)values[CODE].number
							   : (int64_t)values[CODE].number);
}

/* ---- later ---- */

#ifdef LATER
static void complete(const struct instance *instance, uint64_t token)
{
	struct apikeyd_principal principal = principal_of(instance);
	struct apikeyd_answer answer = {.size = sizeof(answer), .code = code_of(instance), .principal = &principal};

	instance->host->complete(instance->self, token, &answer);
	answer.code = APIKEYD_SUCCESS;
	instance->host->complete(instance->self, token, &answer);
	instance->host->complete(instance->self, token + 1, &answer);
	instance->host->complete(instance->self, ~token, &answer);
}

static void on_event(void *data, int fd, unsigned events)
{
	struct instance *instance = data;
	uint64_t value;

	(void)events;
	if (read(fd, &value, sizeof(value)) < 0)
		return;
	for (size_t i = 0; i < instance->count; i++)
		complete(instance, instance->tokens[i]);
	instance->count = 0;
}

static enum apikeyd_code wait_for(struct instance *instance, uint64_t token)
{
	uint64_t *tokens = realloc(instance->tokens, (instance->count + 1) * sizeof(*tokens)), one = 1;

	if (!tokens || write(instance->event, &one, sizeof(one)) < 0)
		abort();
	instance->tokens = tokens;
	instance->tokens[instance->count++] = token;
	return APIKEYD_PENDING;
}

static void open_later(struct instance *instance)
{
	instance->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (instance->event < 0 ||
	    instance->host->watch(instance->self, instance->event, APIKEYD_READABLE, on_event, instance) != 0)
		abort();
}

static void close_line(void *data)
{
	struct instance *instance = data;

	instance->host->watch(instance->self, instance->event, 0, on_event, instance);
	close(instance->event);
	free(instance->tokens);
	free(instance);
}
#else
#define close_line free
#endif

/* ---- at once ---- */

static int open_line(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		     void **ret_instance, char *error, size_t error_size)
{
	struct instance *instance = malloc(sizeof(*instance));

	if (!instance) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	*instance = (struct instance){.self = self, .host = host, .values = values};
#ifdef LATER
	open_later(instance);
#endif
	*ret_instance = instance;
	return 0;
}

static void flood(const struct instance *instance, const struct apikeyd_request *request)
{
	static char line[100001];

	memset(line, 'x', sizeof(line) - 1);
	for (uint64_t i = 0; i < instance->values[FLOOD].number; i++)
		instance->host->detail(instance->self, request, line);
}

static enum apikeyd_code start(void *data, const struct apikeyd_request *request, uint64_t token)
{
	struct instance *instance = data;
	const struct apikeyd_host *host = instance->host;
	const struct apikeyd_value *values = instance->values;
	struct apikeyd_principal principal = principal_of(instance);
	struct apikeyd_answer answer = {.size = sizeof(answer), .code = APIKEYD_SUCCESS, .principal = &principal};

	if (values[GRANT].number)
		host->grant(instance->self, request, &principal);
	if (values[STORE].number)
		host->store(instance->self, request);
	if (values[COMPLETE].number)
		host->complete(instance->self, token, &answer);
	if (values[RETRY_AFTER].number)
		host->retry_after(instance->self, request, values[RETRY_AFTER].number);
	flood(instance, request);
#ifdef LATER
	return wait_for(instance, token);
#else
	return code_of(instance);
#endif
}

APIKEYD_EXPORT const struct apikeyd_module apikeyd_module = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
#ifdef LATER
	.name = "hostile_later",
	.groups = APIKEYD_GROUP_CALLER | APIKEYD_GROUP_ACCOUNT | APIKEYD_GROUP_PAGE | APIKEYD_GROUP_SCOPE,
	.flags = APIKEYD_ASYNCHRONOUS,
#else
	.name = "hostile_grant",
	.groups = APIKEYD_GROUP_CALLER | APIKEYD_GROUP_ACCOUNT | APIKEYD_GROUP_PAGE | APIKEYD_GROUP_SCOPE |
		  APIKEYD_GROUP_AUDIT,
#endif
	.help = "wants to let everybody in, without being asked",
	.arguments = arguments,
	.open = open_line,
	.start = start,
	.close = close_line,
};
