#include "daemon/config_grace.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config_table.h"

enum {
	SCOPE_MAX = 64, /* bytes, as of a scope's name */
	SHOWN = 40,	/* of a wrong part */
	DURATION_SIZE = 32,
	DURATION_MAX_MS = 86400000,
};

/* A run of bytes in the text. */
struct part {
	const char *at;
	size_t len;
};

/* The more specific, the greater. */
enum rank { RANK_ALL = 0, RANK_SCOPES, RANK_ACTION, RANK_RESOURCE, RANK_EXACT };

struct grace_item {
	struct part pattern, resource, action; /* the two are not there in `*` */
	enum rank rank;
	uint32_t ms;
};

struct config_grace {
	char *text; /* that the items point into */
	uint32_t longest_ms;
	unsigned count;
	struct grace_item items[CONFIG_GRACE_MAX]; /* the most specific first */
};

static bool same(struct part a, struct part b)
{
	return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

static bool is_star(struct part part)
{
	return part.len == 1 && part.at[0] == '*';
}

/* resource:action, cut at the first colon. */
static bool cut(struct part whole, struct part *ret_resource, struct part *ret_action)
{
	const char *colon = whole.len > 0 ? memchr(whole.at, ':', whole.len) : NULL;

	if (!colon)
		return false;
	*ret_resource = (struct part){whole.at, (size_t)(colon - whole.at)};
	*ret_action = (struct part){colon + 1, whole.len - ret_resource->len - 1};
	return true;
}

/* ---- asking ---- */

static bool matches(const struct grace_item *item, struct part scope)
{
	struct part resource, action;

	if (item->rank == RANK_ALL)
		return true;
	return cut(scope, &resource, &action) && (is_star(item->resource) || same(item->resource, resource)) &&
	       (is_star(item->action) || same(item->action, action));
}

uint32_t config_grace_ms(const struct config_grace *grace, const char *scope, size_t len)
{
	struct part part = {scope, scope ? len : 0};

	for (unsigned i = 0; grace && i < grace->count; i++) {
		if (matches(&grace->items[i], part))
			return grace->items[i].ms;
	}
	return 0;
}

uint32_t config_grace_longest_ms(const struct config_grace *grace)
{
	return grace ? grace->longest_ms : 0;
}

uint32_t config_grace_after(const struct config_grace *grace, uint32_t ms, char *out, size_t size)
{
	uint32_t found = 0;
	size_t used = 0;

	for (unsigned i = 0; grace && i < grace->count; i++) {
		if (grace->items[i].ms > ms && (found == 0 || grace->items[i].ms < found))
			found = grace->items[i].ms;
	}
	if (size > 0)
		out[0] = '\0';
	for (unsigned i = 0; found && i < grace->count; i++) {
		const struct part *pattern = &grace->items[i].pattern;

		if (grace->items[i].ms == found && used < size)
			used += (size_t)snprintf(out + used, size - used, "%s%.*s", used ? ", " : "", (int)pattern->len,
						 pattern->at);
	}
	return found;
}

/* ---- reading ---- */

static struct part trim(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	return (struct part){at, (size_t)(end - at)};
}

/* A side of a pattern: `*`, or what may stand in a scope's name. */
static bool is_side(struct part part)
{
	for (size_t i = 0; i < part.len; i++) {
		if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789_-", part.at[i]) && !is_star(part))
			return false;
	}
	return part.len > 0;
}

static bool read_pattern(struct grace_item *item)
{
	if (is_star(item->pattern)) {
		item->rank = RANK_ALL;
		return true;
	}
	if (item->pattern.len > SCOPE_MAX || !cut(item->pattern, &item->resource, &item->action) ||
	    !is_side(item->resource) || !is_side(item->action))
		return false;
	if (is_star(item->resource))
		item->rank = is_star(item->action) ? RANK_SCOPES : RANK_ACTION;
	else
		item->rank = is_star(item->action) ? RANK_RESOURCE : RANK_EXACT;
	return true;
}

static bool read_duration(struct part part, uint32_t *ret)
{
	char text[DURATION_SIZE];
	uint64_t ms;

	if (part.len >= sizeof(text))
		return false;
	memcpy(text, part.at, part.len);
	text[part.len] = '\0';
	if (!config_read_ms(text, &ms) || ms > DURATION_MAX_MS)
		return false;
	*ret = (uint32_t)ms;
	return true;
}

static bool stands_already(const struct config_grace *grace, const struct grace_item *item)
{
	for (unsigned i = 0; i < grace->count; i++) {
		if (same(grace->items[i].pattern, item->pattern))
			return true;
	}
	return false;
}

static void put(struct config_grace *grace, const struct grace_item *item)
{
	unsigned at = grace->count++;

	for (; at > 0 && grace->items[at - 1].rank < item->rank; at--)
		grace->items[at] = grace->items[at - 1];
	grace->items[at] = *item;
	if (item->ms > grace->longest_ms)
		grace->longest_ms = item->ms;
}

static int wrong(char *right, size_t size, struct part part, const char *what)
{
	if (part.len > 0)
		snprintf(right, size, "'%.*s': %s", part.len > SHOWN ? SHOWN : (int)part.len, part.at, what);
	else
		snprintf(right, size, "%s", what);
	return -EINVAL;
}

static int read_item(struct config_grace *grace, struct part part, char *right, size_t size)
{
	const char *equals = part.len > 0 ? memchr(part.at, '=', part.len) : NULL;
	struct grace_item item = {.pattern = part};

	if (!equals)
		return wrong(right, size, part, "must be PATTERN=DURATION, with commas between");
	item.pattern = trim(part.at, equals);
	if (!read_pattern(&item))
		return wrong(right, size, part, "the pattern must be *, or resource:action with * for either part");
	if (!read_duration(trim(equals + 1, part.at + part.len), &item.ms))
		return wrong(right, size, part,
			     "the duration must be 0 to 86400000 milliseconds, or have a unit: ms, s, min, h");
	if (stands_already(grace, &item))
		return wrong(right, size, item.pattern, "must not stand twice");
	if (grace->count == CONFIG_GRACE_MAX)
		return wrong(right, size, item.pattern, "is one too many: at most 64 patterns are right");
	put(grace, &item);
	return 0;
}

int config_grace_new(const char *text, struct config_grace **ret, char *right, size_t right_size)
{
	struct config_grace *grace;
	const char *at, *end;
	int r = 0;

	if (trim(text, text + strlen(text)).len == 0) {
		*ret = NULL;
		return 0;
	}
	grace = calloc(1, sizeof(*grace));
	if (!grace)
		return -ENOMEM;
	grace->text = strdup(text);
	if (!grace->text)
		r = -ENOMEM;
	for (at = grace->text; r == 0; at = end + 1) {
		end = at + strcspn(at, ",");
		r = read_item(grace, trim(at, end), right, right_size);
		if (!*end)
			break;
	}
	if (r != 0) {
		config_grace_free(grace);
		return r;
	}
	*ret = grace;
	return 0;
}

void config_grace_free(struct config_grace *grace)
{
	if (!grace)
		return;
	free(grace->text);
	free(grace);
}
