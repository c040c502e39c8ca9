/*
 * Rates, exactly: the generic cell rate algorithm (ITU-T I.371) as virtual scheduling. Pure arithmetic.
 *
 * A bucket of `burst` units gives back one unit each period/count microseconds. All that is remembered is when it will
 * be full again; a question of cost c passes where that moment, put off by what c units take, is not later than a full
 * bucket's worth from now. Moments are kept in whole microseconds and 1/count parts of one, so nothing is rounded.
 *
 * Who calls it: rate.c, penalty.c. Always holds: within the bounds that gcra_rate_init sees to nothing overflows, for
 * clocks from 0 to some thousand years.
 */
#ifndef APIKEYD_DAEMON_MODULES_GCRA_H
#define APIKEYD_DAEMON_MODULES_GCRA_H

#include <stdbool.h>
#include <stdint.h>

#define GCRA_COUNT_MAX	   UINT64_C(1000000000)	      /* of a rate and of a burst */
#define GCRA_PERIOD_MAX_US UINT64_C(31536000000000)   /* 365 days */
#define GCRA_SPAN_MAX_US   UINT64_C(3155760000000000) /* what a burst may take to come back: 100 years */

struct gcra_rate {
	uint32_t count; /* units in a period: what parts are counted in */
	uint32_t burst; /* units */
	uint32_t each_part, span_part;
	uint64_t each_us; /* what one unit takes: each_us + each_part / count */
	uint64_t span_us; /* what `burst` units take */
};

/* A moment. Zeroed is long ago: a full bucket. */
struct gcra_time {
	int64_t us;
	uint32_t part, count; /* of the microsecond, in 1/count */
};

enum gcra_answer { GCRA_NEVER = 0 /* more than the burst */, GCRA_LATER, GCRA_PASSES };

/* False with *ret untouched where a number is 0 or past its bound, the burst's span included. */
bool gcra_rate_init(struct gcra_rate *ret, uint64_t count, uint64_t period_us, uint64_t burst);

/*
 * Whether `cost` passes at `now_us` where the bucket is full again at `full`. GCRA_PASSES: *ret_next is when it will be
 * full after that. GCRA_LATER: *ret_wait_us is the least number of whole microseconds after which it would pass.
 * Changes nothing.
 */
enum gcra_answer gcra_look(const struct gcra_rate *rate, const struct gcra_time *full, int64_t now_us, uint64_t cost,
			   struct gcra_time *ret_next, uint64_t *ret_wait_us);

/* How many units would pass at once at `now_us`. For people: it takes a while. */
uint64_t gcra_left(const struct gcra_rate *rate, const struct gcra_time *full, int64_t now_us);

/*
 * A bucket that is emptier than this rate can leave it counts as empty: so it is where the rate was another when it was
 * spent. True where *full was changed.
 */
bool gcra_fit(const struct gcra_rate *rate, struct gcra_time *full, int64_t now_us);

/* Whether the bucket is full: whoever forgets it then forgets nothing. */
static inline bool gcra_is_full(const struct gcra_time *full, int64_t now_us)
{
	return full->us < now_us || (full->us == now_us && full->part == 0);
}

#endif
