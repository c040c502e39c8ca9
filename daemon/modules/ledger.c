/*
 * ledger: has verdicts recorded.
 *
 * The daemon itself writes them down, once it is known what the answer is (audit/); this line says how, and what
 * becomes of an ALLOW for which there is no room. Beside that it may write them to the log: one line a verdict, so many
 * a second, and then how many there would have been.
 */
#include "daemon/modules/ledger.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/modules/facts.h"
#include "daemon/modules/reasons.h"
#include "daemon/modules/table.h"

enum { DENIALS = 0, ALLOWS, ON_FULL, LOG, PER_SECOND }; /* arguments */
enum { SECOND_US = 1000000 };

struct ledger {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	const struct ledger_host *recorder; /* NULL: this host has none */
	unsigned how;			    /* bits of ledger_how */
	bool log_denials, log_allows;
	uint64_t per_second;
	/* the second under way */
	int64_t second_us; /* when it began; 0: none did */
	uint64_t written, suppressed;
	uint64_t allowed, denied, unavailable; /* since it was opened */
};

static int ledger_open(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		       void **ret_instance, char *error, size_t error_size)
{
	struct ledger *ledger = calloc(1, sizeof(*ledger));
	bool all = strcmp(values[LOG].text, "all") == 0;

	if (!ledger) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	*ledger = (struct ledger){
		.self = self,
		.host = host,
		.how = LEDGER_RECORD | (strcmp(values[DENIALS].text, "full") == 0 ? LEDGER_DENIALS_FULL : 0) |
		       (strcmp(values[ALLOWS].text, "full") == 0 ? LEDGER_ALLOWS_FULL : 0) |
		       (strcmp(values[ON_FULL].text, "count") == 0 ? LEDGER_GO_ON : 0),
		.log_denials = all || strcmp(values[LOG].text, "denials") == 0,
		.log_allows = all,
		.per_second = values[PER_SECOND].number,
	};
	if (host->size >= sizeof(struct ledger_host))
		ledger->recorder = (const struct ledger_host *)(const void *)host;
	*ret_instance = ledger;
	return 0;
}

static void say_suppressed(struct ledger *ledger)
{
	char line[128];

	if (ledger->suppressed == 0)
		return;
	snprintf(line, sizeof(line), "suppressed=%" PRIu64 " verdicts beyond per_second=%" PRIu64, ledger->suppressed,
		 ledger->per_second);
	ledger->host->log(ledger->self, APIKEYD_LOG_WARNING, line);
	ledger->suppressed = 0;
}

static void ledger_close(void *instance)
{
	struct ledger *ledger = instance;
	char line[128];

	say_suppressed(ledger);
	snprintf(line, sizeof(line), "ends: allow=%" PRIu64 " deny=%" PRIu64 " unavailable=%" PRIu64, ledger->allowed,
		 ledger->denied, ledger->unavailable);
	/* One that was only looked at has nothing to say. */
	if (ledger->log_denials && (ledger->allowed || ledger->denied || ledger->unavailable))
		ledger->host->log(ledger->self, APIKEYD_LOG_INFO, line);
	free(ledger);
}

static void write_down(struct ledger *ledger, const struct apikeyd_request *request)
{
	struct facts facts;

	if (ledger->written >= ledger->per_second) {
		ledger->suppressed++;
		return;
	}
	ledger->written++;
	facts_init(&facts);
	facts_word(&facts, "verdict", request->verdict);
	facts_word(&facts, "reason", request->reason);
	facts_request(&facts, request);
	ledger->host->log_request(ledger->self, APIKEYD_LOG_INFO, request, facts.text);
}

static void log_verdict(struct ledger *ledger, const struct apikeyd_request *request)
{
	bool allow = request->reason_code == APIKEYD_SUCCESS;

	if (ledger->second_us == 0 || request->boot_us - ledger->second_us >= SECOND_US) {
		say_suppressed(ledger);
		ledger->second_us = request->boot_us;
		ledger->written = 0;
	}
	if (allow)
		ledger->allowed++;
	else if (reasons_is_fault(request->reason_code))
		ledger->unavailable++;
	else
		ledger->denied++;
	if (allow ? ledger->log_allows : ledger->log_denials)
		write_down(ledger, request);
}

static enum apikeyd_code ledger_start(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	struct ledger *ledger = instance;

	(void)token;
	if (ledger->log_denials && !request->explain)
		log_verdict(ledger, request);
	return ledger->recorder ? ledger->recorder->record(ledger->self, request, ledger->how) : APIKEYD_SUCCESS;
}

static const struct apikeyd_argument arguments[] = {
	[DENIALS] = {.name = "denials",
		     .type = APIKEYD_TYPE_WORD,
		     .fallback = "full",
		     .words = "full|rollup",
		     .help = "an event for each DENY of a proven key and each UNAVAILABLE, or counts"},
	[ALLOWS] = {.name = "allows",
		    .type = APIKEYD_TYPE_WORD,
		    .fallback = "rollup",
		    .words = "full|rollup",
		    .help = "an event for each ALLOW, or counts"},
	[ON_FULL] = {.name = "on_full",
		     .type = APIKEYD_TYPE_WORD,
		     .fallback = "unavailable",
		     .words = "unavailable|count",
		     .help = "what an ALLOW becomes for which there is no room"},
	[LOG] = {.name = "log",
		 .type = APIKEYD_TYPE_WORD,
		 .fallback = "none",
		 .words = "none|denials|all",
		 .help = "which verdicts are also lines in the daemon's log"},
	[PER_SECOND] = {.name = "per_second",
			.type = APIKEYD_TYPE_COUNT,
			.fallback = "100",
			.min = 1,
			.max = 1000000,
			.help = "how many lines of the log a second at most"},
	{0},
};

const struct apikeyd_module module_ledger = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "ledger",
	.help = "records verdicts in the ledger of the database",
	.groups = APIKEYD_GROUP_AUDIT,
	.arguments = arguments,
	.open = ledger_open,
	.start = ledger_start,
	.close = ledger_close,
};
