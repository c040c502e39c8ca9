/*
 * hours: when. Outside the opening hours the scopes that it is about are refused, with the time until it opens.
 */
#include "daemon/modules/table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/modules/patterns.h"
#include "daemon/modules/timetable.h"

enum { ONLY = 0, BETWEEN, DAYS, ZONE }; /* arguments */
enum { SECOND_US = 1000000 };

struct hours {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	const char *only; /* NULL: every scope */
	struct timetable timetable;
	/* The last answer, good for its second. */
	bool judged, open;
	int64_t judged_s, opens_s;
};

static int hours_check(enum apikeyd_group group, const struct apikeyd_value *values, char *error, size_t error_size)
{
	const unsigned knows_scope = APIKEYD_GROUP_PAGE | APIKEYD_GROUP_SCOPE;
	struct timetable timetable;

	if (!(group & knows_scope) && !patterns_match_all(values[ONLY].text)) {
		snprintf(
			error, error_size,
			"only: %s: the scope is not known yet in this group; put the line into scope, or leave only out",
			values[ONLY].text);
		return -EINVAL;
	}
	return timetable_parse(&timetable, &values[BETWEEN], &values[DAYS], &values[ZONE], error, error_size);
}

static int hours_open(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		      void **ret_instance, char *error, size_t error_size)
{
	struct hours *hours = calloc(1, sizeof(*hours));
	int rc = -ENOMEM;

	if (!hours) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	hours->self = self;
	hours->host = host;
	hours->only = patterns_match_all(values[ONLY].text) ? NULL : values[ONLY].text;
	rc = timetable_parse(&hours->timetable, &values[BETWEEN], &values[DAYS], &values[ZONE], error, error_size);
	if (rc != 0) {
		free(hours);
		return rc;
	}
	tzset(); /* localtime_r need not */
	*ret_instance = hours;
	return 0;
}

static void hours_close(void *instance)
{
	free(instance);
}

static int64_t floor_second(int64_t us)
{
	return us / SECOND_US - (us % SECOND_US < 0);
}

static bool judge(struct hours *hours, int64_t now_s)
{
	if (hours->judged && hours->judged_s == now_s)
		return true;
	hours->judged = timetable_judge(&hours->timetable, now_s, &hours->open, &hours->opens_s);
	hours->judged_s = now_s;
	return hours->judged;
}

static enum apikeyd_code hours_start(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	struct hours *hours = instance;
	char line[96];
	uint64_t wait_us;

	(void)token;
	if (hours->only && !patterns_match(hours->only, request->scope)) {
		if (request->explain)
			hours->host->detail(hours->self, request, "not about this scope");
		return APIKEYD_IGNORE;
	}
	if (!judge(hours, floor_second(request->now_us)))
		return APIKEYD_MODULE_FAULT;
	if (hours->open) {
		if (request->explain)
			hours->host->detail(hours->self, request, "open");
		return APIKEYD_SUCCESS;
	}
	wait_us = (uint64_t)(hours->opens_s * SECOND_US - request->now_us);
	if (request->explain) {
		snprintf(line, sizeof(line), "closed; asking again before %" PRIu64 " s are over is in vain",
			 (wait_us + SECOND_US - 1) / SECOND_US);
		hours->host->detail(hours->self, request, line);
	}
	hours->host->retry_after(hours->self, request, (wait_us + 999) / 1000);
	return APIKEYD_POLICY;
}

static const struct apikeyd_argument arguments[] = {
	[ONLY] = {.name = "only",
		  .type = APIKEYD_TYPE_SCOPES,
		  .fallback = "*",
		  .help = "which scopes; but for *, in page and scope alone"},
	[BETWEEN] = {.name = "between",
		     .type = APIKEYD_TYPE_LIST,
		     .required = true,
		     .help = "windows, HH:MM-HH:MM; the end is outside"},
	[DAYS] = {.name = "days",
		  .type = APIKEYD_TYPE_LIST,
		  .fallback = "mon-sun",
		  .help = "the days on which windows begin: mon, sat-sun, ..."},
	[ZONE] = {.name = "zone",
		  .type = APIKEYD_TYPE_TEXT,
		  .fallback = "utc",
		  .help = "whose clock: utc, local, or an offset such as +05:30"},
	{0},
};

const struct apikeyd_module module_hours = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "hours",
	.help = "opening hours, for all scopes or some",
	.groups = APIKEYD_GROUP_CALLER | APIKEYD_GROUP_ACCOUNT | APIKEYD_GROUP_PAGE | APIKEYD_GROUP_SCOPE,
	.arguments = arguments,
	.check = hours_check,
	.open = hours_open,
	.start = hours_start,
	.close = hours_close,
};
