/* The words of a break-glass file one by one, and a line made of them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/modules/glass.h"
#include "daemon/modules/glass_internal.h"

static bool is_lower(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z');
}

bool glass_is_alnum(char c)
{
	return is_lower(c) || (c >= 'A' && c <= 'Z');
}

bool glass_is_slug(const char *text, size_t len)
{
	if (len < 1 || len > GLASS_SLUG_MAX || text[0] == '-' || text[len - 1] == '-')
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!is_lower(text[i]) && text[i] != '-')
			return false;
	}
	return true;
}

/* ---- scopes ---- */

static bool is_part(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!is_lower(text[i]) && text[i] != '_' && text[i] != '-')
			return false;
	}
	return len > 0;
}

const char *glass_scope_fault(const char *text, size_t len)
{
	static const char *const never[] = {"member", "apikey", "org"};
	const char *colon = memchr(text, ':', len);
	size_t head = colon ? (size_t)(colon - text) : 0;

	if (!colon || len > GLASS_SCOPE_MAX || !is_part(text, head) || !is_part(colon + 1, len - head - 1))
		return "a scope's name: resource:action, of a-z 0-9 _ -, at most 64 characters";
	for (unsigned i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		if (head == strlen(never[i]) && memcmp(text, never[i], head) == 0)
			return "another one: a break-glass key never has a scope of member, apikey or org";
	}
	return NULL;
}

/* ---- times ---- */

/* `count` digits at *at, which goes on behind them and behind `after` (NUL: nothing). */
static bool digits(const char *text, size_t len, size_t *at, unsigned count, char after, int min, int max, int *ret)
{
	size_t i = *at;
	int number = 0;

	if (len - i < count + (after ? 1 : 0))
		return false;
	for (; count > 0; count--, i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		number = number * 10 + text[i] - '0';
	}
	if (number < min || number > max || (after && text[i++] != after))
		return false;
	*at = i;
	*ret = number;
	return true;
}

/* Days since 1970-01-01; years from 1970. */
static int64_t days_before(int year, int month, int day)
{
	static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
	int last = year - 1;
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	int64_t days = (int64_t)365 * (year - 1970) + (last / 4 - last / 100 + last / 400) -
		       (1969 / 4 - 1969 / 100 + 1969 / 400);

	return days + before[month - 1] + (leap && month > 2) + day - 1;
}

static bool day_exists(int year, int month, int day)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return day <= lengths[month - 1] + (leap && month == 2);
}

/* Parts of a second, to the microsecond; further digits are cut off. */
static bool fraction(const char *text, size_t len, size_t *at, int64_t *ret_us)
{
	int64_t unit = 100000;
	size_t start;

	*ret_us = 0;
	if (*at >= len || text[*at] != '.')
		return true;
	start = ++*at;
	for (; *at < len && text[*at] >= '0' && text[*at] <= '9'; ++*at, unit /= 10)
		*ret_us += unit * (text[*at] - '0');
	return *at > start && *at - start <= 9;
}

static bool offset(const char *text, size_t len, size_t *at, int *ret_minutes)
{
	int hours, minutes, sign;

	if (*at >= len)
		return false;
	if (text[*at] == 'Z') {
		++*at;
		*ret_minutes = 0;
		return true;
	}
	if (text[*at] != '+' && text[*at] != '-')
		return false;
	sign = text[(*at)++] == '-' ? -1 : 1;
	if (!digits(text, len, at, 2, ':', 0, 23, &hours) || !digits(text, len, at, 2, '\0', 0, 59, &minutes))
		return false;
	*ret_minutes = sign * (hours * 60 + minutes);
	return true;
}

bool glass_time_parse(const char *text, size_t len, int64_t *ret_us)
{
	int year, month, day, hour, minute, second, zone;
	int64_t parts, seconds;
	size_t at = 0;

	if (!digits(text, len, &at, 4, '-', 1970, 9999, &year) || !digits(text, len, &at, 2, '-', 1, 12, &month) ||
	    !digits(text, len, &at, 2, 'T', 1, 31, &day) || !digits(text, len, &at, 2, ':', 0, 23, &hour) ||
	    !digits(text, len, &at, 2, ':', 0, 59, &minute) || !digits(text, len, &at, 2, '\0', 0, 59, &second) ||
	    !fraction(text, len, &at, &parts) || !offset(text, len, &at, &zone) || at != len ||
	    !day_exists(year, month, day))
		return false;
	seconds = days_before(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - (int64_t)zone * 60;
	if (seconds < 0)
		return false;
	*ret_us = seconds * 1000000 + parts;
	return true;
}

void glass_time_format(int64_t us, char out[GLASS_TIME_SIZE])
{
	time_t seconds = (time_t)(us / 1000000);
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || strftime(out, GLASS_TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, GLASS_TIME_SIZE, "%" PRId64, us / 1000000);
}

/* ---- a line ---- */

size_t glass_line(const char *key_id, uint16_t pepper, const uint8_t hash[APIKEYD_HASH_LEN], const char *organization,
		  const char *pages, const char *scopes, int64_t end_us, char *out, size_t size)
{
	char hex[2 * APIKEYD_HASH_LEN + 1], end[GLASS_TIME_SIZE];
	int len;

	for (unsigned i = 0; i < APIKEYD_HASH_LEN; i++)
		snprintf(hex + (size_t)2 * i, 3, "%02x", hash[i]);
	glass_time_format(end_us, end);
	len = snprintf(out, size, "%s %u:%s %s %s %s %s", key_id, pepper, hex, organization, pages, scopes, end);
	return len > 0 && (size_t)len < size ? (size_t)len : 0;
}
