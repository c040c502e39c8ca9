/* Arguments of modules: from text to a value of the type that the module declares. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/stack/program.h"
#include "daemon/stack/word.h"
#include "proto/value.h"

/* The bounds that the store has for the rates of keys. */
enum { RATE_COUNT_MAX = 1000000000, RATE_PERIOD_MAX_S = 31536000 };
enum { SCOPE_MAX = 64 }; /* bytes of a scope's name, as in the store */

struct unit {
	const char *word;
	uint64_t ms;
};

/* From the smallest. */
static const struct unit units[] = {{"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}};

enum { UNITS = sizeof(units) / sizeof(units[0]) };

/* Digits, at least one; what follows them in *ret_end. False where they are none or too many. */
static bool read_digits(const char *text, const char **ret_end, uint64_t *ret)
{
	uint64_t n = 0;

	if (*text < '0' || *text > '9')
		return false;
	for (; *text >= '0' && *text <= '9'; text++) {
		if (__builtin_mul_overflow(n, 10u, &n) || __builtin_add_overflow(n, (unsigned)(*text - '0'), &n))
			return false;
	}
	*ret_end = text;
	*ret = n;
	return true;
}

static bool read_unit(const char *text, uint64_t *ret_ms)
{
	for (unsigned i = 0; i < UNITS; i++) {
		if (strcmp(text, units[i].word) == 0) {
			*ret_ms = units[i].ms;
			return true;
		}
	}
	return false;
}

/* In the greatest unit that says it without a rest. */
static const char *show_time(uint64_t ms, char out[32])
{
	unsigned i = UNITS - 1;

	while (i > 0 && (ms == 0 || ms % units[i].ms != 0))
		i--;
	snprintf(out, 32, "%" PRIu64 "%s", ms / units[i].ms, units[i].word);
	return out;
}

static bool within(const struct apikeyd_argument *argument, uint64_t n)
{
	return n >= argument->min && (argument->max == 0 || n <= argument->max);
}

static int wrong_count(const struct apikeyd_argument *argument, char *right, size_t size)
{
	if (argument->max > 0)
		snprintf(right, size, "a whole number from %" PRIu64 " to %" PRIu64, argument->min, argument->max);
	else
		snprintf(right, size, "a whole number, at least %" PRIu64, argument->min);
	return -EINVAL;
}

static int wrong_time(const struct apikeyd_argument *argument, char *right, size_t size)
{
	char least[32], most[32];

	show_time(argument->min, least);
	if (argument->max > 0)
		snprintf(right, size, "a time from %s to %s, with its unit: ms, s, min, h or d", least,
			 show_time(argument->max, most));
	else
		snprintf(right, size, "a time of at least %s, with its unit: ms, s, min, h or d", least);
	return -EINVAL;
}

static int set_number(const struct apikeyd_argument *argument, const char *text, struct apikeyd_value *value,
		      char *right, size_t size)
{
	bool time = argument->type == APIKEYD_TYPE_TIME;
	const char *end;
	uint64_t n, unit = 1;

	if (!read_digits(text, &end, &n) || (time ? !read_unit(end, &unit) : *end != '\0') ||
	    __builtin_mul_overflow(n, unit, &n) || !within(argument, n))
		return time ? wrong_time(argument, right, size) : wrong_count(argument, right, size);
	value->number = n;
	return 0;
}

static int set_rate(const char *text, struct apikeyd_value *value, char *right, size_t size)
{
	const char *end;
	uint64_t count, periods = 1, unit;

	if (!read_digits(text, &end, &count) || *end != '/')
		goto wrong;
	text = end + 1;
	if (*text >= '0' && *text <= '9' && !read_digits(text, &text, &periods))
		goto wrong;
	if (!read_unit(text, &unit) || count == 0 || count > RATE_COUNT_MAX || periods == 0 ||
	    __builtin_mul_overflow(periods, unit, &unit) || unit > RATE_PERIOD_MAX_S * UINT64_C(1000))
		goto wrong;
	value->number = count;
	value->period_us = unit * 1000;
	return 0;
wrong:
	snprintf(right, size, "how many in which time, such as 100/s, 5/min, 1000/h, 1/5s: 1 to %d, in at most 365d",
		 RATE_COUNT_MAX);
	return -EINVAL;
}

static int set_bool(const char *text, struct apikeyd_value *value, char *right, size_t size)
{
	if (strcmp(text, "yes") == 0) {
		value->number = 1;
	} else if (strcmp(text, "no") != 0) {
		snprintf(right, size, "yes or no");
		return -EINVAL;
	}
	return 0;
}

/* One of "one|or|another". */
static int set_word(const struct apikeyd_argument *argument, const char *text, char *right, size_t size)
{
	const char *at = argument->words ? argument->words : "";
	size_t used = 0;

	for (const char *p = at; *p; p += *p == '|') {
		size_t len = strcspn(p, "|");

		if (len > 0 && word_is(text, p, len))
			return 0;
		p += len;
	}
	for (const char *p = at; *p && used < size; p += *p == '|') {
		size_t len = strcspn(p, "|");
		const char *between = used == 0 ? "" : p[len] ? ", " : " or ";

		used += (size_t)snprintf(right + used, size - used, "%s%.*s", between, (int)len, p);
		p += len;
	}
	return -EINVAL;
}

static int set_path(const char *text, char *right, size_t size)
{
	if (text[0] == '/')
		return 0;
	snprintf(right, size, "an absolute path");
	return -EINVAL;
}

/* `*`, or resource:action, where each may be `*`. */
static bool scope_ok(const char *item)
{
	const char *colon = strchr(item, ':');
	const char *parts[2] = {item, colon ? colon + 1 : NULL};
	size_t lens[2] = {colon ? (size_t)(colon - item) : 0, colon ? strlen(colon + 1) : 0};

	if (strcmp(item, "*") == 0)
		return true;
	if (!colon || strlen(item) > SCOPE_MAX)
		return false;
	for (unsigned i = 0; i < 2; i++) {
		if (word_is("*", parts[i], lens[i]))
			continue;
		if (lens[i] == 0 || strspn(parts[i], "abcdefghijklmnopqrstuvwxyz0123456789_-") < lens[i])
			return false;
	}
	return true;
}

static int set_items(struct arena *arena, const struct apikeyd_argument *argument, const char *text,
		     struct apikeyd_value *value, char *right, size_t size)
{
	bool scopes = argument->type == APIKEYD_TYPE_SCOPES;
	uint32_t count = 1, used = 0;
	const char **items;

	for (const char *p = text; *p; p++)
		count += *p == ',';
	items = arena_alloc(arena, count * sizeof(*items));
	if (!items)
		return -ENOMEM;
	for (const char *p = text;; p++) {
		size_t len = strcspn(p, ",");
		const char *item = arena_text(arena, p, len);

		if (!item)
			return -ENOMEM;
		if (len == 0) {
			snprintf(right, size, "%s with commas between, none of them empty",
				 scopes ? "scopes" : "words");
			return -EINVAL;
		}
		if (scopes && !scope_ok(item)) {
			char shown[WORD_SHOWN_SIZE];

			snprintf(right, size,
				 "scopes such as incident:write, incident:*, *:write or *, with commas between, and "
				 "`%s` is none",
				 word_shown(item, len, shown));
			return -EINVAL;
		}
		items[used++] = item;
		p += len;
		if (!*p)
			break;
	}
	value->items = items;
	value->item_count = used;
	return 0;
}

int stack_value(struct arena *arena, const struct apikeyd_argument *argument, const char *text,
		struct apikeyd_value *ret, char *right, size_t right_size)
{
	struct apikeyd_value value = {.given = true};
	int rc = 0;

	switch (argument->type) {
	case APIKEYD_TYPE_TEXT:
		break;
	case APIKEYD_TYPE_WORD:
		rc = set_word(argument, text, right, right_size);
		break;
	case APIKEYD_TYPE_BOOL:
		rc = set_bool(text, &value, right, right_size);
		break;
	case APIKEYD_TYPE_COUNT:
	case APIKEYD_TYPE_TIME:
		rc = set_number(argument, text, &value, right, right_size);
		break;
	case APIKEYD_TYPE_PATH:
		rc = set_path(text, right, right_size);
		break;
	case APIKEYD_TYPE_LIST:
	case APIKEYD_TYPE_SCOPES:
		rc = set_items(arena, argument, text, &value, right, right_size);
		break;
	case APIKEYD_TYPE_RATE:
		rc = set_rate(text, &value, right, right_size);
		break;
	default:
		snprintf(right, right_size, "nothing: the module declares a type that this daemon does not know");
		rc = -EINVAL;
		break;
	}
	if (rc != 0)
		return rc;
	value.text = arena_text(arena, text, strlen(text));
	if (!value.text)
		return -ENOMEM;
	*ret = value;
	return 0;
}
