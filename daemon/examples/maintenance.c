/*
 * maintenance: a module of apikeyd that takes away. While a file is there, it refuses some scopes, such as all writing,
 * and says when to ask again. The platform's own scripts make the file and remove it.
 *
 *     make CPPFLAGS=-I/usr/include
 *     install -m 0644 maintenance.so /usr/lib/apikeyd/modules/
 *
 * In a stack file (apikeyd-stacks(5)):
 *
 *     scope  required  maintenance  flag=/run/platform/maintenance  only=*:write  retry_after=1min
 *
 * and then `touch /run/platform/maintenance`. What the module shows: a table of arguments with types and fallbacks, a
 * `check` over two of them, an instance with a memory, `explain`, and what to do where one cannot tell: a fault.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <apikeyd-module.h>

/* The order of the table below, and so of the values. */
enum { FLAG, ONLY, RETRY_AFTER, EVERY, ARGUMENTS };

static const struct apikeyd_argument arguments[] = {
	[FLAG] = {.name = "flag",
		  .type = APIKEYD_TYPE_PATH,
		  .required = true,
		  .help = "the file whose being there says that there is maintenance"},
	[ONLY] = {.name = "only",
		  .type = APIKEYD_TYPE_SCOPES,
		  .fallback = "*:write",
		  .help = "scopes that are refused meanwhile"},
	[RETRY_AFTER] = {.name = "retry_after",
			 .type = APIKEYD_TYPE_TIME,
			 .fallback = "30s",
			 .min = 1,
			 .max = 3600 * 1000,
			 .help = "after which time the client is told to ask again"},
	[EVERY] = {.name = "every",
		   .type = APIKEYD_TYPE_TIME,
		   .fallback = "200ms",
		   .max = 60 * 1000,
		   .help = "how often the file is looked for, at most; 0s: at each request"},
	[ARGUMENTS] = {0},
};

struct instance {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	const struct apikeyd_value *values; /* good as long as the instance */
	int64_t looked_us;		    /* by CLOCK_BOOTTIME; 0: never */
	int found;			    /* what stat said then: 0: it is there, else an errno */
};

/* Needs nothing of this host: `apikeyctl stack check` calls it anywhere. */
static int check(enum apikeyd_group group, const struct apikeyd_value *values, char *error, size_t error_size)
{
	(void)group; /* whichever of its two it is */
	if (values[RETRY_AFTER].number >= values[EVERY].number)
		return 0;
	snprintf(error, error_size,
		 "retry_after: is shorter than every, so a client would be told the same again; at least %llums",
		 (unsigned long long)values[EVERY].number);
	return -EINVAL;
}

static int open_line(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		     void **ret_instance, char *error, size_t error_size)
{
	struct instance *instance = calloc(1, sizeof(*instance));

	if (!instance) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	instance->self = self;
	instance->host = host;
	instance->values = values;
	*ret_instance = instance;
	return 0;
}

static void close_line(void *data)
{
	free(data);
}

/* One half of a pattern: `*`, or the very word. */
static bool half_matches(const char *pattern, size_t pattern_len, const char *word, size_t len)
{
	return (pattern_len == 1 && *pattern == '*') || (pattern_len == len && memcmp(pattern, word, len) == 0);
}

/* `*`, `incident:*`, `*:write` or `incident:write`. */
static bool matches(const char *pattern, const struct apikeyd_text *scope)
{
	const char *pattern_colon = strchr(pattern, ':');
	const char *colon = memchr(scope->data, ':', scope->len);

	if (strcmp(pattern, "*") == 0)
		return true;
	if (!pattern_colon || !colon)
		return false;
	return half_matches(pattern, (size_t)(pattern_colon - pattern), scope->data, (size_t)(colon - scope->data)) &&
	       half_matches(pattern_colon + 1, strlen(pattern_colon + 1), colon + 1,
			    scope->len - (size_t)(colon + 1 - scope->data));
}

static bool is_meant(const struct apikeyd_value *only, const struct apikeyd_text *scope)
{
	for (uint32_t i = 0; i < only->item_count; i++)
		if (matches(only->items[i], scope))
			return true;
	return false;
}

/*
 * A look at a local file does not block; still, one for each of many thousand requests a second is too many. Where it
 * cannot be told, that is said once, not with each request.
 */
static int look(struct instance *instance, int64_t boot_us)
{
	int64_t every_us = (int64_t)instance->values[EVERY].number * 1000;
	struct stat st;
	char line[256];
	int found;

	if (instance->looked_us != 0 && boot_us - instance->looked_us < every_us)
		return instance->found;
	found = stat(instance->values[FLAG].text, &st) == 0 ? 0 : errno;
	if (found != instance->found && found != 0 && found != ENOENT) {
		snprintf(line, sizeof(line), "cannot look for the flag: %s", strerror(found));
		instance->host->log(instance->self, APIKEYD_LOG_ERROR, line);
	}
	instance->found = found;
	instance->looked_us = boot_us;
	return found;
}

static enum apikeyd_code start(void *data, const struct apikeyd_request *request, uint64_t token)
{
	struct instance *instance = data;
	char line[256];
	int found;

	(void)token; /* this module never waits */
	if (!request->scope.data || !is_meant(&instance->values[ONLY], &request->scope))
		return APIKEYD_IGNORE;
	found = look(instance, request->boot_us);
	if (found == ENOENT)
		return APIKEYD_SUCCESS;
	if (found != 0)
		return APIKEYD_MODULE_FAULT; /* nobody knows whether there is maintenance: never a yes */
	instance->host->retry_after(instance->self, request, instance->values[RETRY_AFTER].number);
	if (request->explain) {
		snprintf(line, sizeof(line), "maintenance: %s is there", instance->values[FLAG].text);
		instance->host->detail(instance->self, request, line);
	}
	return APIKEYD_POLICY;
}

APIKEYD_EXPORT const struct apikeyd_module apikeyd_module = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "maintenance",
	.help = "refuses some scopes while a file is there",
	.groups = APIKEYD_GROUP_PAGE | APIKEYD_GROUP_SCOPE,
	.arguments = arguments,
	.check = check,
	.open = open_line,
	.start = start,
	.close = close_line,
};
