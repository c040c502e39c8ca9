#include "daemon/modules/gcra.h"

static uint64_t units_us(const struct gcra_rate *rate, uint64_t units, uint32_t *ret_part)
{
	uint64_t parts = units * rate->each_part; /* below 10^18 */

	*ret_part = (uint32_t)(parts % rate->count);
	return units * rate->each_us + parts / rate->count;
}

bool gcra_rate_init(struct gcra_rate *ret, uint64_t count, uint64_t period_us, uint64_t burst)
{
	struct gcra_rate rate;

	if (count == 0 || count > GCRA_COUNT_MAX || period_us == 0 || period_us > GCRA_PERIOD_MAX_US || burst == 0 ||
	    burst > GCRA_COUNT_MAX || period_us / count > GCRA_SPAN_MAX_US / burst)
		return false;
	rate = (struct gcra_rate){
		.count = (uint32_t)count,
		.burst = (uint32_t)burst,
		.each_us = period_us / count,
		.each_part = (uint32_t)(period_us % count),
	};
	rate.span_us = units_us(&rate, burst, &rate.span_part);
	if (rate.span_us > GCRA_SPAN_MAX_US)
		return false;
	*ret = rate;
	return true;
}

static bool later(const struct gcra_time *a, const struct gcra_time *b)
{
	return a->us != b->us ? a->us > b->us : a->part > b->part;
}

static struct gcra_time plus(const struct gcra_time *at, uint64_t us, uint32_t part)
{
	uint64_t parts = (uint64_t)at->part + part;

	return (struct gcra_time){
		.us = at->us + (int64_t)us + (parts >= at->count),
		.part = (uint32_t)(parts >= at->count ? parts - at->count : parts),
		.count = at->count,
	};
}

/* `full` in this rate's parts, and no earlier than now. */
static struct gcra_time start(const struct gcra_rate *rate, const struct gcra_time *full, int64_t now_us)
{
	if (gcra_is_full(full, now_us))
		return (struct gcra_time){.us = now_us, .count = rate->count};
	if (full->count == rate->count)
		return *full;
	return (struct gcra_time){.us = full->us + (full->part > 0), .count = rate->count};
}

enum gcra_answer gcra_look(const struct gcra_rate *rate, const struct gcra_time *full, int64_t now_us, uint64_t cost,
			   struct gcra_time *ret_next, uint64_t *ret_wait_us)
{
	struct gcra_time now = {.us = now_us, .count = rate->count}, next, last;
	uint64_t us;
	uint32_t part;

	if (cost > rate->burst)
		return GCRA_NEVER;
	us = units_us(rate, cost, &part);
	next = start(rate, full, now_us);
	next = plus(&next, us, part);
	last = plus(&now, rate->span_us, rate->span_part);
	if (!later(&next, &last)) {
		*ret_next = next;
		return GCRA_PASSES;
	}
	*ret_wait_us = (uint64_t)(next.us - last.us) + (next.part > last.part);
	return GCRA_LATER;
}

uint64_t gcra_left(const struct gcra_rate *rate, const struct gcra_time *full, int64_t now_us)
{
	uint64_t least = 0, most = rate->burst, wait;
	struct gcra_time next;

	while (least < most) {
		uint64_t middle = (least + most + 1) / 2;

		if (gcra_look(rate, full, now_us, middle, &next, &wait) == GCRA_PASSES)
			least = middle;
		else
			most = middle - 1;
	}
	return least;
}

bool gcra_fit(const struct gcra_rate *rate, struct gcra_time *full, int64_t now_us)
{
	struct gcra_time now = {.us = now_us, .count = rate->count};
	struct gcra_time last = plus(&now, rate->span_us, rate->span_part);
	struct gcra_time at = start(rate, full, now_us);

	if (!later(&at, &last))
		return false;
	*full = last;
	return true;
}
