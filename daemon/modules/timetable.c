#include "daemon/modules/timetable.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
	DAY_MIN = 24 * 60,
	DAY_S = 24 * 3600,
	EPOCH_WEEKDAY = 4, /* Thursday */
	OFFSET_MAX_MIN = 14 * 60,
	STEP_S = 3 * 3600, /* two changes of a zone do not come closer than this */
};

static const char *const day_words[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

/* ---- reading ---- */

/* "HH:MM", `len` bytes; minutes from midnight. */
static bool read_clock(const char *text, size_t len, int *ret_min)
{
	int hours, minutes;

	if (len != 5 || text[2] != ':')
		return false;
	for (unsigned i = 0; i < 5; i++) {
		if (i != 2 && (text[i] < '0' || text[i] > '9'))
			return false;
	}
	hours = (text[0] - '0') * 10 + text[1] - '0';
	minutes = (text[3] - '0') * 10 + text[4] - '0';
	if (minutes > 59)
		return false;
	*ret_min = hours * 60 + minutes;
	return true;
}

/* The minutes of one window; *ret_to is past midnight where it goes on into the next day. */
static bool read_window(const char *text, int *ret_from, int *ret_to)
{
	const char *dash = strchr(text, '-');
	int from, to;

	if (!dash || !read_clock(text, (size_t)(dash - text), &from) || !read_clock(dash + 1, strlen(dash + 1), &to) ||
	    from >= DAY_MIN || to > DAY_MIN || from == to)
		return false;
	*ret_from = from;
	*ret_to = to < from ? to + DAY_MIN : to;
	return true;
}

static int read_day(const char *text, size_t len)
{
	for (int day = 0; day < 7; day++) {
		if (len == 3 && memcmp(day_words[day], text, 3) == 0)
			return day;
	}
	return -1;
}

/* One day, or a range of them that may go over the week's end; bits from Sunday. */
static bool read_days(const char *text, unsigned *ret_days)
{
	const char *dash = strchr(text, '-');
	int from = read_day(text, dash ? (size_t)(dash - text) : strlen(text));
	int to = dash ? read_day(dash + 1, strlen(dash + 1)) : from;
	unsigned days = 0;

	if (from < 0 || to < 0 || (dash && from == to))
		return false;
	for (int day = from;; day = (day + 1) % 7) {
		days |= 1u << day;
		if (day == to)
			break;
	}
	*ret_days |= days;
	return true;
}

static bool read_zone(const char *text, struct timetable *ret)
{
	int minutes;

	if (strcmp(text, "local") == 0) {
		ret->local = true;
		return true;
	}
	if (strcmp(text, "utc") == 0)
		return true;
	if ((text[0] != '+' && text[0] != '-') || !read_clock(text + 1, strlen(text + 1), &minutes) ||
	    minutes > OFFSET_MAX_MIN)
		return false;
	ret->offset_s = (text[0] == '-' ? -60 : 60) * minutes;
	return true;
}

static void open_window(struct timetable *timetable, unsigned days, int from, int to)
{
	for (int day = 0; day < 7; day++) {
		for (int minute = from; days >> day & 1 && minute < to; minute++) {
			int at = (day * DAY_MIN + minute) % TIMETABLE_WEEK_MIN;

			timetable->open[at / 64] |= UINT64_C(1) << at % 64;
		}
	}
}

int timetable_parse(struct timetable *ret, const struct apikeyd_value *between, const struct apikeyd_value *days,
		    const struct apikeyd_value *zone, char *error, size_t error_size)
{
	struct timetable timetable = {.local = false};
	unsigned day_bits = 0;

	for (uint32_t i = 0; i < days->item_count; i++) {
		if (!read_days(days->items[i], &day_bits)) {
			snprintf(
				error, error_size,
				"days: '%s' is no day; days are mon tue wed thu fri sat sun, or ranges such as mon-fri",
				days->items[i]);
			return -EINVAL;
		}
	}
	for (uint32_t i = 0; i < between->item_count; i++) {
		int from, to;

		if (!read_window(between->items[i], &from, &to)) {
			snprintf(
				error, error_size,
				"between: '%s' is no window; write HH:MM-HH:MM, such as 08:00-18:00, 22:00-06:00 (over "
				"midnight) or 00:00-24:00 (all day)",
				between->items[i]);
			return -EINVAL;
		}
		open_window(&timetable, day_bits, from, to);
	}
	if (!read_zone(zone->text, &timetable)) {
		snprintf(error, error_size, "zone: '%s' is no zone; utc, local, or an offset from -14:00 to +14:00",
			 zone->text);
		return -EINVAL;
	}
	*ret = timetable;
	return 0;
}

/* ---- judging ---- */

static int64_t floor_mod(int64_t a, int64_t b)
{
	int64_t rest = a % b;

	return rest < 0 ? rest + b : rest;
}

static bool offset_at(const struct timetable *timetable, int64_t at_s, int64_t *ret_offset_s)
{
	time_t at = (time_t)at_s;
	struct tm wall;

	if (!timetable->local) {
		*ret_offset_s = timetable->offset_s;
		return true;
	}
	if (!localtime_r(&at, &wall))
		return false;
	*ret_offset_s = wall.tm_gmtoff;
	return true;
}

static bool is_open(const struct timetable *timetable, int64_t minute)
{
	return timetable->open[minute / 64] >> minute % 64 & 1;
}

/* Of the week, on the wall. */
static int64_t minute_of(int64_t at_s, int64_t offset_s)
{
	return floor_mod(at_s + offset_s + (int64_t)EPOCH_WEEKDAY * DAY_S, (int64_t)TIMETABLE_WEEK_MIN * 60) / 60;
}

/*
 * The first moment after `from_s`, and no later than `to_s`, at which the wall's clock has another offset than
 * `offset_s`; `to_s` + 1 where there is none.
 */
static bool next_change(const struct timetable *timetable, int64_t from_s, int64_t to_s, int64_t offset_s,
			int64_t *ret_s)
{
	int64_t before = from_s, after = from_s, offset;

	*ret_s = to_s + 1;
	if (!timetable->local)
		return true;
	do {
		before = after;
		after = to_s - after > STEP_S ? after + STEP_S : to_s;
		if (!offset_at(timetable, after, &offset))
			return false;
	} while (offset == offset_s && after < to_s);
	if (offset == offset_s)
		return true;
	while (after - before > 1) {
		int64_t middle = before + (after - before) / 2;

		if (!offset_at(timetable, middle, &offset))
			return false;
		if (offset == offset_s)
			before = middle;
		else
			after = middle;
	}
	*ret_s = after;
	return true;
}

/* When it opens next, should the offset stay as it is. Closed at `at_s`. */
static int64_t opens_at(const struct timetable *timetable, int64_t at_s, int64_t offset_s)
{
	int64_t minute = minute_of(at_s, offset_s), ahead = 1;

	while (ahead < TIMETABLE_WEEK_MIN && !is_open(timetable, (minute + ahead) % TIMETABLE_WEEK_MIN))
		ahead++;
	return at_s - floor_mod(at_s + offset_s, 60) + ahead * 60;
}

bool timetable_judge(const struct timetable *timetable, int64_t now_s, bool *ret_open, int64_t *ret_opens_s)
{
	int64_t at = now_s, last = now_s + TIMETABLE_LOOK_S, offset, opens, change;

	if (!offset_at(timetable, now_s, &offset))
		return false;
	*ret_open = is_open(timetable, minute_of(now_s, offset));
	if (*ret_open)
		return true;
	/* From one change of the wall's clock to the next: it may open at the change itself. */
	while (at < last) {
		opens = opens_at(timetable, at, offset);
		if (opens > last)
			opens = last;
		if (!next_change(timetable, at, opens, offset, &change))
			return false;
		if (change > opens) {
			*ret_opens_s = opens;
			return true;
		}
		at = change;
		if (!offset_at(timetable, at, &offset))
			return false;
		if (is_open(timetable, minute_of(at, offset))) {
			*ret_opens_s = at;
			return true;
		}
	}
	*ret_opens_s = last;
	return true;
}
