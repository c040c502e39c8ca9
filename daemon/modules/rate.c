/*
 * rate: how often. The key's own rate (its narrowing), and a limit of this line's.
 *
 * Both are looked at before either is charged: a question that one of them refuses spends nothing. In memory, a table
 * for each of the two; counted for this line of this daemon alone.
 */
#include "daemon/modules/table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/modules/gcra.h"
#include "daemon/modules/meters.h"

enum { LIMIT = 0, BURST, BY, ENTRIES }; /* arguments */

enum {
	KEY_ID_MAX = 32,
	SLUG_MAX = 64,
	EMAIL_MAX = 256,
	SOURCE_LEN = 9, /* family, and 4 or 8 bytes of the address */
	COMPLAIN_US = 60 * 1000000,
};

enum by { BY_KEY = 0, BY_USER, BY_ORG, BY_ADDR, BY_CALLER };

static const struct {
	const char *word;
	uint32_t id_max;
} bys[] = {
	[BY_KEY] = {"key", 1 + KEY_ID_MAX}, [BY_USER] = {"user", EMAIL_MAX},	     [BY_ORG] = {"org", SLUG_MAX},
	[BY_ADDR] = {"addr", SOURCE_LEN},   [BY_CALLER] = {"caller", sizeof(uid_t)},
};

struct rate {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	uint32_t entries;
	struct meters *own; /* keys, for their own rates */
	bool limited;	    /* the line has a limit: */
	struct gcra_rate limit;
	enum by by;
	struct meters *others;
	int64_t complained_us; /* when it last said that a table is full; 0: never */
};

/* What one question may cost of one limit. */
struct charge {
	const char *what; /* for people */
	const struct gcra_rate *rate;
	struct meters *meters;
	struct meters_key key;
	struct meter *meter; /* NULL: not known yet */
	struct gcra_time full, next;
	enum gcra_answer answer;
	uint64_t wait_us;
};

static enum by by_of(const char *word)
{
	unsigned by = 0;

	while (by + 1 < sizeof(bys) / sizeof(bys[0]) && strcmp(bys[by].word, word) != 0)
		by++;
	return (enum by)by;
}

static int rate_check(enum apikeyd_group group, const struct apikeyd_value *values, char *error, size_t error_size)
{
	const struct apikeyd_value *limit = &values[LIMIT], *burst = &values[BURST];
	struct gcra_rate rate;

	(void)group;
	if (!limit->given && (burst->given || by_of(values[BY].text) != BY_KEY)) {
		snprintf(error, error_size, "%s: there is no limit for it; give limit= too, or leave both out",
			 burst->given ? "burst" : "by");
		return -EINVAL;
	}
	if (!limit->given)
		return 0;
	if (!gcra_rate_init(&rate, limit->number, limit->period_us, 1)) {
		snprintf(error, error_size,
			 "limit: is out of bounds; at most %" PRIu64 " in a period, which is at most 365 days",
			 GCRA_COUNT_MAX);
		return -EINVAL;
	}
	if (burst->given && !gcra_rate_init(&rate, limit->number, limit->period_us, burst->number)) {
		snprintf(error, error_size,
			 "burst: would take more than 100 years to come back; a smaller burst or a faster limit");
		return -EINVAL;
	}
	return 0;
}

static void rate_close(void *instance)
{
	struct rate *rate = instance;

	meters_free(rate->own);
	meters_free(rate->others);
	free(rate);
}

static int rate_open(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		     void **ret_instance, char *error, size_t error_size)
{
	struct rate *rate = calloc(1, sizeof(*rate));
	int rc = rate ? 0 : -ENOMEM;

	if (rc == 0) {
		rate->self = self;
		rate->host = host;
		rate->entries = (uint32_t)values[ENTRIES].number;
		rate->by = by_of(values[BY].text);
		rate->limited = values[LIMIT].given &&
				gcra_rate_init(&rate->limit, values[LIMIT].number, values[LIMIT].period_us,
					       values[BURST].given ? values[BURST].number : values[LIMIT].number);
		rc = meters_new(rate->entries, bys[BY_KEY].id_max, &rate->own);
	}
	if (rc == 0 && rate->limited)
		rc = meters_new(rate->entries, bys[rate->by].id_max, &rate->others);
	if (rc != 0) {
		snprintf(error, error_size, "entries: no table of %" PRIu64 " can be had (%s); fewer need less memory",
			 values[ENTRIES].number, strerror(-rc));
		if (rate)
			rate_close(rate);
		return rc;
	}
	*ret_instance = rate;
	return 0;
}

/* ---- whose ---- */

/* An IPv6 host has a whole /64 to send from: that is one source. */
static size_t source_of(const struct apikeyd_addr *addr, char *out)
{
	size_t len = addr->family == 4 ? 4 : 8;

	out[0] = (char)addr->family;
	memcpy(out + 1, addr->bytes, len);
	return 1 + len;
}

static size_t text_of(struct apikeyd_text text, char *out, size_t size)
{
	if (!text.data || text.len > size)
		return text.data ? size + 1 : 0;
	memcpy(out, text.data, text.len);
	return text.len;
}

/* What a request counts as. 0: it has nothing of the kind; more than `size`: it is too long to be true. */
static size_t identity(enum by by, const struct apikeyd_request *request, char *out, size_t size)
{
	size_t len;

	switch (by) {
	case BY_KEY:
		/* The letter, since an id of a user's key and one of a break-glass file may be the same. */
		out[0] = request->key_letter;
		len = text_of(request->key_id, out + 1, size - 1);
		return len == 0 ? 0 : len + 1;
	case BY_USER:
		return request->kind == APIKEYD_KIND_USER ? text_of(request->key_user, out, size) : 0;
	case BY_ORG:
		return request->kind == APIKEYD_KIND_USER ? 0 : text_of(request->key_org, out, size);
	case BY_ADDR:
		return request->addr.family == 0 ? 0 : source_of(&request->addr, out);
	case BY_CALLER:
		memcpy(out, &request->uid, sizeof(request->uid));
		return sizeof(request->uid);
	}
	return 0;
}

/* ---- judging ---- */

static void look(struct charge *charge, const struct apikeyd_request *request)
{
	charge->meter = meters_find(charge->meters, &charge->key);
	charge->full = charge->meter ? charge->meter->full : (struct gcra_time){0};
	if (gcra_fit(charge->rate, &charge->full, request->boot_us) && !request->explain)
		meters_set_earlier(charge->meters, charge->meter, &charge->full);
	charge->answer = gcra_look(charge->rate, &charge->full, request->boot_us, request->cost, &charge->next,
				   &charge->wait_us);
}

static void explain(const struct rate *rate, const struct apikeyd_request *request, const struct charge *charges,
		    unsigned count)
{
	char line[256];
	size_t len = 0;

	for (unsigned i = 0; i < count && len < sizeof(line); i++)
		len += (size_t)snprintf(line + len, sizeof(line) - len, "%s%s: %" PRIu64 " of %" PRIu32 " left",
					i > 0 ? "; " : "", charges[i].what,
					gcra_left(charges[i].rate, &charges[i].full, request->boot_us),
					charges[i].rate->burst);
	if (count == 0)
		snprintf(line, sizeof(line), "no limit applies");
	rate->host->detail(rate->self, request, line);
}

static enum apikeyd_code limited(const struct rate *rate, const struct apikeyd_request *request,
				 const struct charge *charges, unsigned count)
{
	uint64_t wait_us = 0;

	for (unsigned i = 0; i < count; i++) {
		if (charges[i].answer == GCRA_NEVER)
			return APIKEYD_RATE_LIMITED;
		if (charges[i].answer == GCRA_LATER && charges[i].wait_us > wait_us)
			wait_us = charges[i].wait_us;
	}
	rate->host->retry_after(rate->self, request, (wait_us + 999) / 1000);
	return APIKEYD_RATE_LIMITED;
}

static enum apikeyd_code no_room(struct rate *rate, const struct apikeyd_request *request)
{
	char line[160];

	if (!request->explain && (rate->complained_us == 0 || request->boot_us - rate->complained_us >= COMPLAIN_US)) {
		rate->complained_us = request->boot_us;
		snprintf(line, sizeof(line),
			 "no room for another one to count: all %" PRIu32 " are in use; raise entries=", rate->entries);
		rate->host->log(rate->self, APIKEYD_LOG_WARNING, line);
	}
	return APIKEYD_OVERLOAD;
}

static enum apikeyd_code judge(struct rate *rate, const struct apikeyd_request *request, struct charge *charges,
			       unsigned count)
{
	bool passes = true;

	for (unsigned i = 0; i < count; i++) {
		look(&charges[i], request);
		passes = passes && charges[i].answer == GCRA_PASSES;
	}
	if (request->explain)
		explain(rate, request, charges, count);
	if (!passes)
		return limited(rate, request, charges, count);
	for (unsigned i = 0; i < count; i++) {
		if (!charges[i].meter && !meters_has_room(charges[i].meters, request->boot_us))
			return no_room(rate, request);
	}
	for (unsigned i = 0; i < count && !request->explain; i++) {
		if (charges[i].meter)
			charges[i].meter->full = charges[i].next;
		else if (!meters_add(charges[i].meters, &charges[i].key, &charges[i].next, request->boot_us))
			return APIKEYD_MODULE_FAULT;
	}
	return count > 0 ? APIKEYD_SUCCESS : APIKEYD_IGNORE;
}

static enum apikeyd_code rate_start(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	struct rate *rate = instance;
	char own_id[1 + KEY_ID_MAX], id[EMAIL_MAX];
	struct charge charges[2];
	struct gcra_rate own;
	unsigned count = 0;
	size_t len;

	(void)token;
	if (request->rate_count > 0) {
		struct charge *charge = &charges[count++];

		*charge = (struct charge){.what = "the key's own rate", .rate = &own, .meters = rate->own};
		len = identity(BY_KEY, request, own_id, sizeof(own_id));
		if (len == 0 || !meters_key(rate->own, own_id, len, &charge->key) ||
		    !gcra_rate_init(&own, request->rate_count, request->rate_period_us, request->rate_count))
			return APIKEYD_MODULE_FAULT;
	}
	len = rate->limited ? identity(rate->by, request, id, sizeof(id)) : 0;
	if (len > 0) {
		struct charge *charge = &charges[count++];

		*charge = (struct charge){.what = "the line's limit", .rate = &rate->limit, .meters = rate->others};
		if (!meters_key(rate->others, id, len, &charge->key))
			return APIKEYD_MODULE_FAULT;
	}
	return judge(rate, request, charges, count);
}

static const struct apikeyd_argument arguments[] = {
	[LIMIT] = {.name = "limit", .type = APIKEYD_TYPE_RATE, .help = "how often, beyond the keys' own rates"},
	[BURST] = {.name = "burst",
		   .type = APIKEYD_TYPE_COUNT,
		   .min = 1,
		   .max = GCRA_COUNT_MAX,
		   .help = "how much of limit may be spent at once; without it, its number"},
	[BY] = {.name = "by",
		.type = APIKEYD_TYPE_WORD,
		.fallback = "key",
		.words = "key|user|org|addr|caller",
		.help = "what limit counts for itself"},
	[ENTRIES] = {.name = "entries",
		     .type = APIKEYD_TYPE_COUNT,
		     .fallback = "65536",
		     .min = 1,
		     .max = METERS_MAX,
		     .help = "how many are remembered at once"},
	{0},
};

const struct apikeyd_module module_rate = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "rate",
	.help = "how often a key may be used: the key's own rate, and a limit by key, user, org, addr or caller",
	.groups = APIKEYD_GROUP_ACCOUNT,
	.flags = APIKEYD_ENFORCES_RATE,
	.arguments = arguments,
	.check = rate_check,
	.open = rate_open,
	.start = rate_start,
	.close = rate_close,
};
