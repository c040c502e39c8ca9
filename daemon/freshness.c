#include "daemon/freshness.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/log.h"

enum { WHY_SIZE = 640, PATTERNS_SIZE = 512 };

static const char *const words[FRESHNESS_STATES] = {"not_loaded", "fresh", "grace", "stale"};

const char *freshness_word(enum freshness_state state)
{
	return words[state];
}

/* In ms, rounded up, as answers have it. */
static uint64_t age_ms(const struct freshness *f, int64_t now)
{
	int64_t age = mirror_age_us(f->mirror, now);

	return age > 0 ? ((uint64_t)age + 999) / 1000 : 0;
}

/* ---- telling ---- */

static void say_left(const struct freshness *f, int64_t now, enum freshness_state before)
{
	uint64_t age = age_ms(f, now);
	const char *over = before == FRESHNESS_GRACE ? ", offline_grace is over" : "";
	char why[WHY_SIZE];

	/* Only where what was told to the database is less than what the settings say. */
	if (age <= (uint64_t)f->config->max_stale_ms + config_longest_grace_ms(f->config))
		over = f->mirror->refused ? ", but history was lost" : ", its lease is out";
	f->why(f->why_data, why, sizeof(why));
	if (f->state == FRESHNESS_GRACE)
		log_warning("freshness: grace: the copy was last confirmed %" PRIu64 " ms ago (max_stale_ms %" PRIu32
			    "): %s; known answers go on, marked stale, by offline_grace: %s",
			    age, f->config->max_stale_ms, why, f->config->offline_grace);
	else
		log_error("freshness: stale: the copy was last confirmed %" PRIu64 " ms ago (max_stale_ms %" PRIu32
			  "%s): %s; nothing is answered from it",
			  age, f->config->max_stale_ms, over, why);
}

static void say_fresh(const struct freshness *f, int64_t now, enum freshness_state before)
{
	if (before == FRESHNESS_NOT_LOADED)
		log_info("freshness: fresh: revision %" PRIu64 ", confirmed %" PRIu64 " ms ago", mirror_rev(f->mirror),
			 age_ms(f, now));
	else
		log_warning("freshness: fresh again after %" PRId64 " ms: revision %" PRIu64 ", confirmed %" PRIu64
			    " ms ago",
			    (now - f->fresh_end) / 1000, mirror_rev(f->mirror), age_ms(f, now));
}

/* The graces that are over while longer ones are not. */
static void say_over(struct freshness *f, int64_t now)
{
	uint64_t age = age_ms(f, now);
	char patterns[PATTERNS_SIZE];
	uint32_t ms;

	while ((ms = config_grace_after(f->config->grace, f->over_ms, patterns, sizeof(patterns))) != 0 &&
	       age > (uint64_t)f->config->max_stale_ms + ms) {
		log_warning("freshness: grace: the offline_grace of %s is over (%" PRIu32
			    " ms): unavailable, as the copy was last confirmed %" PRIu64 " ms ago",
			    patterns, ms, age);
		f->over_ms = ms;
	}
}

/* ---- looking ---- */

static void on_timer(uv_timer_t *timer)
{
	freshness_look(timer->data, mirror_boot_now());
}

static void set_timer(struct freshness *f, int64_t now)
{
	uint64_t age = age_ms(f, now), end = f->config->max_stale_ms, wait = f->config->poll_ms;
	int64_t lease = f->mirror->lease_until - now;
	char patterns[1];

	if (f->state == FRESHNESS_GRACE)
		end += config_grace_after(f->config->grace, f->over_ms, patterns, sizeof(patterns));
	/* When it ends; before that nothing is there to be seen but that it is fresh again. */
	if (f->state == FRESHNESS_FRESH || (f->state == FRESHNESS_GRACE && end >= age && end - age < wait))
		wait = end >= age ? end - age + 1 : 1;
	if (lease < (int64_t)wait * 1000 && f->state != FRESHNESS_STALE)
		wait = lease > 0 ? (uint64_t)lease / 1000 + 1 : 1;
	uv_timer_start(&f->timer, on_timer, wait, 0);
}

static void enter(struct freshness *f, enum freshness_state state, int64_t at)
{
	if (at < f->since)
		at = f->since;
	f->lasted_us[f->state] += (uint64_t)(at - f->since);
	if (f->state == FRESHNESS_FRESH || f->state == FRESHNESS_NOT_LOADED)
		f->fresh_end = at;
	f->state = state;
	f->since = at;
	f->entered[state]++;
	f->over_ms = 0;
}

/* The next state on the way to that one, and when it began: a late look finds what was passed in between. */
static enum freshness_state next_state(const struct freshness *f, enum freshness_state target, int64_t now,
				       int64_t *ret_at)
{
	int64_t stale_at = f->mirror->confirmed_at + (int64_t)f->config->max_stale_ms * 1000;
	int64_t over_at = stale_at + (int64_t)config_longest_grace_ms(f->config) * 1000;

	if (over_at > f->mirror->lease_until)
		over_at = f->mirror->lease_until;
	*ret_at = now;
	if (f->state == FRESHNESS_FRESH && target != FRESHNESS_FRESH && stale_at < over_at) {
		*ret_at = stale_at;
		target = FRESHNESS_GRACE;
	} else if ((f->state == FRESHNESS_FRESH || f->state == FRESHNESS_GRACE) && target == FRESHNESS_STALE) {
		*ret_at = over_at;
	}
	if (*ret_at > now)
		*ret_at = now;
	return target;
}

void freshness_look(struct freshness *f, int64_t now)
{
	enum freshness_state target = FRESHNESS_NOT_LOADED;

	if (f->closed)
		return;
	if (f->mirror->copy)
		target = freshness_of(f->config, f->mirror, now, age_ms(f, now));
	while (f->state != target) {
		enum freshness_state before = f->state, next;
		int64_t at;

		next = next_state(f, target, now, &at);
		enter(f, next, at);
		if (f->state == FRESHNESS_FRESH)
			say_fresh(f, now, before);
		else
			say_left(f, now, before);
	}
	if (f->state == FRESHNESS_GRACE)
		say_over(f, now);
	set_timer(f, now);
}

/* ---- life ---- */

void freshness_init(struct freshness *f, uv_loop_t *loop, const struct config *config, const struct mirror *mirror,
		    void (*why)(void *data, char *out, size_t size), void *data)
{
	memset(f, 0, sizeof(*f));
	f->config = config;
	f->mirror = mirror;
	f->why = why;
	f->why_data = data;
	uv_timer_init(loop, &f->timer);
	f->timer.data = f;
	f->since = mirror_boot_now();
	f->entered[FRESHNESS_NOT_LOADED] = 1;
	freshness_look(f, f->since);
}

void freshness_configure(struct freshness *f, const struct config *config)
{
	f->config = config;
	freshness_look(f, mirror_boot_now());
}

void freshness_close(struct freshness *f)
{
	f->closed = true;
	uv_close((uv_handle_t *)&f->timer, NULL);
}

bool freshness_stats(const struct freshness *f, int64_t now, struct arena *arena, struct value *map)
{
	uint64_t here = now > f->since ? (uint64_t)(now - f->since) : 0;
	struct value *own = value_set(arena, map, "freshness");
	char name[32];

	if (!own)
		return false;
	value_map(own);
	if (!value_set_text(arena, own, "state", words[f->state]) ||
	    !value_set_uint(arena, own, "state_ms", here / 1000))
		return false;
	for (unsigned i = 0; i < FRESHNESS_STATES; i++) {
		snprintf(name, sizeof(name), "%s_ms", words[i]);
		if (!value_set_uint(arena, own, name, (f->lasted_us[i] + (i == f->state ? here : 0)) / 1000))
			return false;
		snprintf(name, sizeof(name), "%s_entered", words[i]);
		if (!value_set_uint(arena, own, name, f->entered[i]))
			return false;
	}
	return true;
}
