/*
 * Administration of break-glass keys: made here, written down by the administrator. No database has a part in it, so
 * that it works when none is there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/admin/table.h"
#include "daemon/log.h"
#include "daemon/modules/glass.h"

#define SCOPE_RIGHT ADMIN_SCOPE_RIGHT ", and never one of member, apikey or org"

enum { ORG = 0, PAGES, SCOPES, HOURS, UNTIL };

#define US_PER_SECOND INT64_C(1000000)
#define US_PER_MINUTE (60 * US_PER_SECOND)
#define US_PER_HOUR   (60 * US_PER_MINUTE)

static bool fits_scope(const char *text, size_t len)
{
	return !glass_scope_fault(text, len);
}

static const struct admin_param mint_params[] = {
	[ORG] = ADMIN_PARAM_ORG(true),
	[PAGES] = {"pages", ADMIN_TEXTS, true, admin_fits_slug, "a page's slug: " ADMIN_SLUG_RIGHT, 0, 0, NULL},
	[SCOPES] = {"scopes", ADMIN_TEXTS, true, fits_scope, SCOPE_RIGHT, 0, 0, NULL},
	[HOURS] = {"hours", ADMIN_INT, false, NULL, NULL, 1, GLASS_HOURS_MAX, NULL},
	[UNTIL] = {"until", ADMIN_TIME, false, NULL, NULL, 0, 0, NULL},
	ADMIN_PARAM_END,
};

static bool one_end(const struct admin_request *request, struct rpc_error *error)
{
	if (!request->params[HOURS] != !request->params[UNTIL])
		return true;
	admin_error(error, RPC_BAD_PARAMS, "%s: give one of hours and until", request->method->name);
	return false;
}

/* A list that is JSON of plain words, as comma-separated words; NULL with *error where it is empty or too long. */
static const char *joined(struct admin_request *request, unsigned at, struct rpc_error *error)
{
	const char *json = request->params[at], *name = request->method->params[at].name;
	char *out = arena_alloc(&request->arena, strlen(json) + 1);
	unsigned count = 1;
	size_t len = 0;

	if (!out) {
		admin_error(error, RPC_INTERNAL, "out of memory");
		return NULL;
	}
	for (; *json; json++) {
		count += *json == ',';
		if (!strchr("[]\"", *json))
			out[len++] = *json;
	}
	if (len > 0 && count <= APIKEYD_NARROWING_MAX)
		return out;
	admin_error(error, RPC_BAD_PARAMS, "%s: %s has %u items: it must have 1 to %d", request->method->name, name,
		    len > 0 ? count : 0, APIKEYD_NARROWING_MAX);
	return NULL;
}

/* Hours end on a whole minute, the one before, so that clocks that differ by seconds do not make it too far away. */
static bool end_of(const struct admin_request *request, int64_t now_us, int64_t *ret_us, struct rpc_error *error)
{
	const char *hours = request->params[HOURS], *until = request->params[UNTIL];
	int64_t end_us;

	if (hours) {
		end_us = now_us + strtol(hours, NULL, 10) * US_PER_HOUR;
		*ret_us = end_us - end_us % US_PER_MINUTE;
		return true;
	}
	if (!glass_time_parse(until, strlen(until), &end_us) || end_us <= now_us ||
	    end_us > now_us + GLASS_HOURS_MAX * US_PER_HOUR) {
		admin_error(error, RPC_BAD_PARAMS, "%s: until is '%s': it must be a time of the next %d hours",
			    request->method->name, until, GLASS_HOURS_MAX);
		return false;
	}
	*ret_us = end_us - end_us % US_PER_SECOND;
	return true;
}

/* What the file's reader would say of it, before anybody writes it down. */
static bool can_be_read(const char *line, size_t len)
{
	char error[256];
	struct glass *glass;

	if (glass_parse("line", line, len, 1, &glass, error, sizeof(error)) != 0)
		return false;
	glass_free(glass);
	return true;
}

/* The key's text and its line, both in the request's arena. */
static bool make(struct admin_request *request, const char *pages, const char *scopes, int64_t end_us,
		 char id[KEYTEXT_ID_LEN + 1], const char **ret_key, const char **ret_line)
{
	const struct secret *secret = request->admin->secret;
	uint16_t version = secret_newest(secret);
	uint8_t random[16], secret_bytes[KEYTEXT_SECRET_BYTES], hash[SECRET_HASH_LEN];
	char *text = arena_alloc(&request->arena, KEYTEXT_MAX + 1), *line;
	size_t len, size = strlen(pages) + strlen(scopes) + 512;
	bool made = false;
	keytext_id packed;

	line = arena_alloc(&request->arena, size);
	if (!text || !line)
		return false;
	secret_random(random, sizeof(random));
	secret_random(secret_bytes, sizeof(secret_bytes));
	packed = keytext_id_from_random(random);
	keytext_id_format(packed, id);
	len = keytext_format(request->admin->config->brand, KEY_KIND_BREAK_GLASS, packed, secret_bytes, text);
	if (len && secret_hash(secret, version, text, len, hash)) {
		len = glass_line(id, version, hash, request->params[ORG], pages, scopes, end_us, line, size);
		made = len && can_be_read(line, len);
	}
	secret_wipe(secret_bytes, sizeof(secret_bytes));
	secret_wipe(random, sizeof(random));
	secret_wipe(hash, sizeof(hash));
	*ret_key = text;
	*ret_line = line;
	return made;
}

static void say_minted(const struct admin_request *request, const char *id, const char *end)
{
	const struct log_field fields[] = {log_text(LOG_METHOD, request->method->name),
					   log_number(LOG_CALLER_UID, request->uid), log_text(LOG_KEY_ID, id),
					   log_text(LOG_ORG, request->params[ORG])};

	log_said(LOG_LEVEL_WARNING, fields, sizeof(fields) / sizeof(fields[0]), "%s by %s: key_id %s, org %s, ends %s",
		 request->method->name, request->actor, id, request->params[ORG], end);
}

static bool mint(struct admin_request *request, struct value *ret, struct rpc_error *error)
{
	const char *pages = joined(request, PAGES, error), *key, *line;
	const char *scopes = pages ? joined(request, SCOPES, error) : NULL;
	char id[KEYTEXT_ID_LEN + 1], end[GLASS_TIME_SIZE];
	struct timespec now;
	int64_t end_us;

	clock_gettime(CLOCK_REALTIME, &now);
	if (!scopes || !end_of(request, now.tv_sec * US_PER_SECOND + now.tv_nsec / 1000, &end_us, error))
		return false;
	glass_time_format(end_us, end);
	value_map(ret);
	if (!make(request, pages, scopes, end_us, id, &key, &line) ||
	    !value_set_text(&request->arena, ret, "key_id", id) ||
	    !value_set_text(&request->arena, ret, "org", request->params[ORG]) ||
	    !value_set_text(&request->arena, ret, "expires_at", end) ||
	    !value_set_text(&request->arena, ret, "line", line) || !value_set_text(&request->arena, ret, "key", key)) {
		admin_error(error, RPC_INTERNAL, "out of memory");
		return false;
	}
	say_minted(request, id, end);
	return true;
}

const struct admin_method admin_break_glass_methods[] = {
	{.name = "break_glass_mint",
	 .help = "makes a break-glass key and the line for its file; shows both, once",
	 .params = mint_params,
	 .noun = "break-glass key",
	 .agree = one_end,
	 .local = mint},
	{.name = NULL},
};
