/*
 * debug: logs what a module is shown of a request, and answers what it was told to.
 */
#include "daemon/modules/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/modules/facts.h"
#include "daemon/modules/reasons.h"

enum { LEVEL = 0, CODE }; /* arguments */

struct debug {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	enum apikeyd_level level;
	enum apikeyd_code code;
};

static enum apikeyd_level level_of(const char *word)
{
	if (strcmp(word, "error") == 0)
		return APIKEYD_LOG_ERROR;
	if (strcmp(word, "warning") == 0)
		return APIKEYD_LOG_WARNING;
	return strcmp(word, "info") == 0 ? APIKEYD_LOG_INFO : APIKEYD_LOG_DEBUG;
}

static int debug_open(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		      void **ret_instance, char *error, size_t error_size)
{
	struct debug *debug = calloc(1, sizeof(*debug));

	if (!debug) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	debug->self = self;
	debug->host = host;
	debug->level = level_of(values[LEVEL].text);
	if (!reasons_code(values[CODE].text, &debug->code)) {
		snprintf(error, error_size, "code: '%s' is no code", values[CODE].text);
		free(debug);
		return -EINVAL;
	}
	*ret_instance = debug;
	return 0;
}

static void debug_close(void *instance)
{
	free(instance);
}

static struct apikeyd_text group_text(enum apikeyd_group group)
{
	switch (group) {
	case APIKEYD_GROUP_CALLER:
		return (struct apikeyd_text){"caller", 6};
	case APIKEYD_GROUP_KEY:
		return (struct apikeyd_text){"key", 3};
	case APIKEYD_GROUP_ACCOUNT:
		return (struct apikeyd_text){"account", 7};
	case APIKEYD_GROUP_PAGE:
		return (struct apikeyd_text){"page", 4};
	case APIKEYD_GROUP_SCOPE:
		return (struct apikeyd_text){"scope", 5};
	case APIKEYD_GROUP_AUDIT:
		return (struct apikeyd_text){"audit", 5};
	}
	return (struct apikeyd_text){0};
}

static enum apikeyd_code debug_start(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	struct debug *debug = instance;
	struct facts facts;

	(void)token;
	facts_init(&facts);
	facts_word(&facts, "group", group_text(request->group));
	facts_word(&facts, "verdict", request->verdict);
	facts_word(&facts, "reason", request->reason);
	facts_number(&facts, "gid", request->gid);
	facts_number(&facts, "pid", request->pid > 0 ? (unsigned long long)request->pid : 0);
	facts_number(&facts, "cost", request->cost);
	facts_number(&facts, "rev", request->rev);
	facts_number(&facts, "age_ms", request->age_ms);
	facts_request(&facts, request);
	facts_text(&facts, "asked_org", request->org);
	if (request->explain)
		debug->host->detail(debug->self, request, facts.text);
	else
		debug->host->log_request(debug->self, debug->level, request, facts.text);
	return debug->code;
}

static const struct apikeyd_argument arguments[] = {
	[LEVEL] = {.name = "level",
		   .type = APIKEYD_TYPE_WORD,
		   .fallback = "debug",
		   .words = "error|warning|info|debug",
		   .help = "at which level it logs"},
	[CODE] = {.name = "code",
		  .type = APIKEYD_TYPE_WORD,
		  .fallback = "ignore",
		  .words = "ignore|success|" REASONS_DENY "|" REASONS_FAULT,
		  .help = "what it answers"},
	{0},
};

const struct apikeyd_module module_debug = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "debug",
	.help = "logs what is known of the request, and answers what it is told to",
	.groups = APIKEYD_GROUP_CALLER | APIKEYD_GROUP_ACCOUNT | APIKEYD_GROUP_PAGE | APIKEYD_GROUP_SCOPE |
		  APIKEYD_GROUP_AUDIT,
	.arguments = arguments,
	.open = debug_open,
	.start = debug_start,
	.close = debug_close,
};
