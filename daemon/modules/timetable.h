/*
 * Opening hours: windows of a day, days of the week, a zone. Reading them, and judging a moment by them.
 *
 * Who calls it: hours.c. No state but the struct, no memory, no clock; with the zone `local`, libc's time zone, as
 * tzset() last read it.
 *
 * Always holds: what counts is the clock on the wall. A window that begins on an open day goes on over midnight,
 * whatever day follows; its end is outside it. Where the wall's clock is put forward, the minutes left out do not come;
 * where it is put back, they come twice and both times count.
 */
#ifndef APIKEYD_DAEMON_MODULES_TIMETABLE_H
#define APIKEYD_DAEMON_MODULES_TIMETABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/apikeyd-module.h"

enum {
	TIMETABLE_WEEK_MIN = 7 * 24 * 60,
	TIMETABLE_LOOK_S = 8 * 24 * 3600, /* how far ahead an opening is looked for */
};

struct timetable {
	uint64_t open[(TIMETABLE_WEEK_MIN + 63) / 64]; /* a bit for each minute of the week, from Sunday 00:00 */
	bool local;
	int32_t offset_s; /* not local: of the wall's clock, east of UTC */
};

/*
 * From the arguments `between`, `days` (lists) and `zone`. 0, or -EINVAL with `error`, which begins with the argument's
 * name.
 */
int timetable_parse(struct timetable *ret, const struct apikeyd_value *between, const struct apikeyd_value *days,
		    const struct apikeyd_value *zone, char *error, size_t error_size);

/*
 * Whether it is open at `now_s`, seconds since 1970 UTC. Where not, *ret_opens_s is when it opens next, or
 * now_s + TIMETABLE_LOOK_S where it does not until then. False: there is no such time in libc's zone.
 */
bool timetable_judge(const struct timetable *timetable, int64_t now_s, bool *ret_open, int64_t *ret_opens_s);

#endif
