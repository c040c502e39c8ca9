#include "client/apikeyctl/text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proto/keytext.h"

/* Not isdigit and isalnum: those ask the locale. */
static bool text_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool text_is_base62(char c)
{
	return text_is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool text_digits(const char **text, uint64_t max, uint64_t *ret)
{
	const char *c = *text;
	uint64_t number = 0;

	if (!text_is_digit(*c))
		return false;
	for (; text_is_digit(*c); c++) {
		uint64_t digit = (uint64_t)(*c - '0');

		if (digit > max || number > (max - digit) / 10)
			return false;
		number = number * 10 + digit;
	}
	*text = c;
	*ret = number;
	return true;
}

bool text_number(const char *text, uint64_t max, uint64_t *ret)
{
	uint64_t number;

	if (!text_digits(&text, max, &number) || *text)
		return false;
	*ret = number;
	return true;
}

/* The unit at *text, in milliseconds; 0 where there is none. */
static uint64_t text_unit(const char **text)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = {
		{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {"w", UINT64_C(604800000)},
	};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t len = strlen(units[i].name);

		if (strncmp(*text, units[i].name, len) == 0) {
			*text += len;
			return units[i].ms;
		}
	}
	return 0;
}

enum { TEXT_YEARS_MAX = 10000 };
static const uint64_t text_duration_max = UINT64_C(31622400000) * TEXT_YEARS_MAX; /* ms */

bool text_duration(const char *text, uint64_t *ret_ms)
{
	uint64_t total = 0;

	if (text_number(text, text_duration_max / 1000, &total)) {
		*ret_ms = total * 1000;
		return true;
	}
	total = 0;
	if (!*text)
		return false;
	while (*text) {
		uint64_t number, unit;

		if (!text_digits(&text, text_duration_max, &number))
			return false;
		unit = text_unit(&text);
		if (unit == 0 || number > (text_duration_max - total) / unit)
			return false;
		total += number * unit;
	}
	*ret_ms = total;
	return true;
}

/* Exactly `count` digits. */
static bool text_fixed(const char **text, int count, int *ret)
{
	int number = 0;

	for (int i = 0; i < count; i++) {
		if (!text_is_digit((*text)[i]))
			return false;
		number = number * 10 + ((*text)[i] - '0');
	}
	*text += count;
	*ret = number;
	return true;
}

static bool text_skip(const char **text, const char *any)
{
	if (!**text || !strchr(any, **text))
		return false;
	(*text)++;
	return true;
}

/* "Z" or "+hh:mm": seconds east of UTC. */
static bool text_zone(const char **text, int *ret_east)
{
	int hours, minutes, sign;

	if (text_skip(text, "Zz")) {
		*ret_east = 0;
		return true;
	}
	if (**text != '+' && **text != '-')
		return false;
	sign = *(*text)++ == '-' ? -1 : 1;
	if (!text_fixed(text, 2, &hours) || !text_skip(text, ":") || !text_fixed(text, 2, &minutes) || hours > 23 ||
	    minutes > 59)
		return false;
	*ret_east = sign * (hours * 3600 + minutes * 60);
	return true;
}

/* RFC 3339, or its date alone. */
static bool text_calendar(const char *text, int64_t *ret)
{
	struct tm tm = {0};
	int year, month, east = 0;
	struct tm back;
	time_t when;

	if (!text_fixed(&text, 4, &year) || !text_skip(&text, "-") || !text_fixed(&text, 2, &month) ||
	    !text_skip(&text, "-") || !text_fixed(&text, 2, &tm.tm_mday))
		return false;
	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	when = timegm(&tm);
	/* The 31st of February comes back as a day of March. */
	if (year < 1 || !gmtime_r(&when, &back) || back.tm_mon != month - 1 || month < 1 || month > 12)
		return false;
	if (*text) {
		int hour, minute, second;

		if (!text_skip(&text, "Tt ") || !text_fixed(&text, 2, &hour) || !text_skip(&text, ":") ||
		    !text_fixed(&text, 2, &minute) || !text_skip(&text, ":") || !text_fixed(&text, 2, &second) ||
		    hour > 23 || minute > 59 || second > 60)
			return false;
		if (text_skip(&text, ".")) {
			if (!text_is_digit(*text))
				return false;
			while (text_is_digit(*text))
				text++;
		}
		if (!text_zone(&text, &east) || *text)
			return false;
		when += hour * 3600 + minute * 60 + second;
	}
	*ret = (int64_t)when - east;
	return true;
}

bool text_when(const char *text, int64_t now, int64_t *ret)
{
	uint64_t ms;

	if (strcmp(text, "now") == 0) {
		*ret = now;
		return true;
	}
	if (text[0] == '+') {
		if (!text_duration(text + 1, &ms))
			return false;
		*ret = now + (int64_t)(ms / 1000);
		return true;
	}
	return text_calendar(text, ret);
}

bool text_rate(const char *text, uint32_t *ret_count, uint32_t *ret_period_s)
{
	uint64_t count, period;

	if (!text_digits(&text, INT32_MAX, &count) || count == 0 || !text_skip(&text, "/"))
		return false;
	if (text_is_digit(*text)) {
		if (!text_duration(text, &period))
			return false;
	} else {
		period = text_unit(&text);
		if (*text)
			return false;
	}
	if (period == 0 || period % 1000 || period / 1000 > INT32_MAX)
		return false;
	*ret_count = (uint32_t)count;
	*ret_period_s = (uint32_t)(period / 1000);
	return true;
}

void text_format_when(int64_t when, char out[TEXT_WHEN_SIZE])
{
	time_t seconds = (time_t)when;
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || strftime(out, TEXT_WHEN_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, TEXT_WHEN_SIZE, "%lld", (long long)when);
}

static size_t text_run(const char *text)
{
	size_t len = 0;

	while (text_is_base62(text[len]))
		len++;
	return len;
}

bool text_looks_like_key(const char *text)
{
	enum { SECRET_MIN = 16 }; /* so much of a secret is worth hiding, and no slug or file name has it there */

	/* …[uob]_<10 characters>_<many characters> */
	for (const char *c = strchr(text, '_'); c; c = strchr(c + 1, '_')) {
		if (c > text && strchr("uob", c[-1]) && text_run(c + 1) == KEYTEXT_ID_LEN &&
		    c[1 + KEYTEXT_ID_LEN] == '_' && text_run(c + 2 + KEYTEXT_ID_LEN) >= SECRET_MIN)
			return true;
	}
	return false;
}
