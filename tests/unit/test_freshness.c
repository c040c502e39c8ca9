/* The states of the copy: told once each, counted, with the times that the age says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/freshness.h"
#include "daemon/log.h"

#define MS(ms) ((int64_t)(ms)*1000)

/* ---- the log ---- */

static struct {
	enum log_level level;
	char text[1024];
} lines[32];
static unsigned line_count;

__attribute__((format(printf, 2, 3))) void __wrap_log_write(enum log_level level, const char *format, ...);
void __wrap_log_write(enum log_level level, const char *format, ...)
{
	va_list args;

	assert_true(line_count < 32);
	va_start(args, format);
	vsnprintf(lines[line_count].text, sizeof(lines[0].text), format, args);
	va_end(args);
	lines[line_count++].level = level;
}

/* The lines since the last look at them, one by one. */
static unsigned lines_read;

static void told(enum log_level level, const char *text)
{
	if (lines_read == line_count)
		fail_msg("nothing was told where '%s' should be", text);
	assert_string_equal(lines[lines_read].text, text);
	assert_int_equal(lines[lines_read].level, level);
	lines_read++;
}

static void told_no_more(void)
{
	if (lines_read < line_count)
		fail_msg("told as well: %s", lines[lines_read].text);
	lines_read = line_count = 0;
}

/* ---- a world ---- */

struct world {
	uv_loop_t loop;
	struct config *config;
	struct mirror mirror;
	struct freshness f;
	int64_t start; /* boot µs */
	int64_t now;
};

static void why(void *data, char *out, size_t size)
{
	(void)data;
	snprintf(out, size, "nobody is there");
}

static struct config *config_of(const char *grace)
{
	char text[256], errors[256];
	struct config *config;

	snprintf(text, sizeof(text), "[database]\npoll_ms = 100\n[freshness]\nmax_stale_ms = 1s\noffline_grace = %s\n",
		 grace);
	config = config_parse(text, strlen(text), "test", errors, sizeof(errors));
	assert_non_null(config);
	return config;
}

static struct world *world_new(const char *grace)
{
	struct world *w = calloc(1, sizeof(*w));

	line_count = lines_read = 0;
	w->config = config_of(grace);
	uv_loop_init(&w->loop);
	mirror_init(&w->mirror);
	freshness_init(&w->f, &w->loop, w->config, &w->mirror, why, NULL);
	w->start = w->now = w->f.since;
	return w;
}

static void end(struct world *w)
{
	freshness_close(&w->f);
	freshness_look(&w->f, w->now + MS(1000000)); /* says nothing any more */
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	told_no_more();
	mirror_deinit(&w->mirror);
	config_free(w->config);
	free(w);
}

/* At so many ms after the start. */
static void look(struct world *w, int64_t ms)
{
	w->now = w->start + MS(ms);
	freshness_look(&w->f, w->now);
}

static void confirm(struct world *w, int64_t ms)
{
	mirror_confirm(&w->mirror, w->start + MS(ms), 0);
}

static void load(struct world *w, int64_t ms)
{
	struct copy *copy = copy_new(0, 0, 0);

	copy_publish(copy, 7);
	assert_null(mirror_swap(&w->mirror, copy, w->start + MS(ms), 0));
}

static uint64_t stat_of(struct world *w, const char *name)
{
	struct arena arena = {0};
	struct value map;
	const struct value *own;
	uint64_t number;

	value_map(&map);
	assert_true(freshness_stats(&w->f, w->now, &arena, &map));
	own = value_get(&map, "freshness");
	assert_string_equal(value_as_text(value_get(own, "state"), ""), freshness_word(w->f.state));
	assert_non_null(value_get(own, name));
	number = value_as_uint(value_get(own, name), 0);
	arena_clear(&arena);
	return number;
}

static void entered(struct world *w, uint64_t not_loaded, uint64_t fresh, uint64_t grace, uint64_t stale)
{
	assert_int_equal(stat_of(w, "not_loaded_entered"), not_loaded);
	assert_int_equal(stat_of(w, "fresh_entered"), fresh);
	assert_int_equal(stat_of(w, "grace_entered"), grace);
	assert_int_equal(stat_of(w, "stale_entered"), stale);
}

/* Milliseconds in each state, which together are all that has passed. */
static void lasted(struct world *w, uint64_t not_loaded, uint64_t fresh, uint64_t grace, uint64_t stale)
{
	assert_int_equal(stat_of(w, "not_loaded_ms"), not_loaded);
	assert_int_equal(stat_of(w, "fresh_ms"), fresh);
	assert_int_equal(stat_of(w, "grace_ms"), grace);
	assert_int_equal(stat_of(w, "stale_ms"), stale);
	assert_int_equal((uint64_t)(w->now - w->start) / 1000, not_loaded + fresh + grace + stale);
}

/* ---- tests ---- */

#define GRACE "*:read=1min, *:write=10s"
#define TO_GRACE(age)                                                                                                  \
	"freshness: grace: the copy was last confirmed " age                                                           \
	" ms ago (max_stale_ms 1000): nobody is there; known answers go on, marked stale, by offline_grace: " GRACE
#define TO_STALE(age, over)                                                                                            \
	"freshness: stale: the copy was last confirmed " age " ms ago (max_stale_ms 1000" over                         \
	"): nobody is there; nothing is answered from it"

/* Through all states and back, looked at often: each is told once. */
static void test_all_states(void **state)
{
	struct world *w = world_new(GRACE);

	(void)state;
	look(w, 500);
	assert_int_equal(w->f.state, FRESHNESS_NOT_LOADED);
	told_no_more();
	load(w, 490);
	look(w, 510);
	told(LOG_LEVEL_INFO, "freshness: fresh: revision 7, confirmed 20 ms ago");
	for (int64_t at = 510; at <= 1490; at += 10)
		look(w, at);
	told_no_more();
	assert_int_equal(w->f.state, FRESHNESS_FRESH); /* at max_stale_ms it still is */
	look(w, 1491);
	told(LOG_LEVEL_WARNING, TO_GRACE("1001"));
	for (int64_t at = 1500; at <= 11490; at += 10)
		look(w, at);
	told_no_more();
	look(w, 11491);
	told(LOG_LEVEL_WARNING,
	     "freshness: grace: the offline_grace of *:write is over (10000 ms): unavailable, as the "
	     "copy was last confirmed 11001 ms ago");
	look(w, 61490);
	assert_int_equal(w->f.state, FRESHNESS_GRACE);
	told_no_more();
	look(w, 61491);
	told(LOG_LEVEL_ERROR, TO_STALE("61001", ", offline_grace is over"));
	look(w, 70000);
	told_no_more();
	confirm(w, 69990);
	look(w, 70010);
	told(LOG_LEVEL_WARNING, "freshness: fresh again after 68520 ms: revision 7, confirmed 20 ms ago");
	look(w, 70020);
	told_no_more();
	entered(w, 1, 2, 1, 1);
	lasted(w, 510, 980 + 10, 60000, 8520);
	assert_int_equal(stat_of(w, "state_ms"), 10);
	end(w);
}

static void test_without_grace(void **state)
{
	struct world *w = world_new("");

	(void)state;
	load(w, 0);
	look(w, 0);
	told(LOG_LEVEL_INFO, "freshness: fresh: revision 7, confirmed 0 ms ago");
	look(w, 1000);
	told_no_more();
	look(w, 1001);
	told(LOG_LEVEL_ERROR, TO_STALE("1001", ""));
	confirm(w, 1500);
	look(w, 1600);
	told(LOG_LEVEL_WARNING, "freshness: fresh again after 600 ms: revision 7, confirmed 100 ms ago");
	entered(w, 1, 2, 0, 1);
	lasted(w, 0, 1000, 0, 600);
	end(w);
}

/* The daemon was stopped: what was passed meanwhile counts as long as it lasted. */
static void test_late_look(void **state)
{
	struct world *w = world_new(GRACE);

	(void)state;
	load(w, 0);
	look(w, 0);
	told(LOG_LEVEL_INFO, "freshness: fresh: revision 7, confirmed 0 ms ago");
	look(w, 100000);
	told(LOG_LEVEL_WARNING, TO_GRACE("100000"));
	told(LOG_LEVEL_ERROR, TO_STALE("100000", ", offline_grace is over"));
	told_no_more();
	entered(w, 1, 1, 1, 1);
	lasted(w, 0, 1000, 60000, 39000);
	/* Late, and confirmed before anybody looked: nothing was answered meanwhile. */
	confirm(w, 200000);
	look(w, 200000);
	told(LOG_LEVEL_WARNING, "freshness: fresh again after 199000 ms: revision 7, confirmed 0 ms ago");
	confirm(w, 300000);
	look(w, 300100);
	told_no_more();
	lasted(w, 0, 101100, 60000, 139000);
	end(w);
}

/* What confirms late, by a read that was sent long ago, makes it no fresher than that. */
static void test_old_confirmation(void **state)
{
	struct world *w = world_new(GRACE);

	(void)state;
	load(w, 0);
	look(w, 0);
	look(w, 80000);
	assert_int_equal(w->f.state, FRESHNESS_STALE);
	lines_read = line_count;
	confirm(w, 60000);
	look(w, 80000);
	told(LOG_LEVEL_WARNING, TO_GRACE("20000"));
	told(LOG_LEVEL_WARNING,
	     "freshness: grace: the offline_grace of *:write is over (10000 ms): unavailable, as the "
	     "copy was last confirmed 20000 ms ago");
	told_no_more();
	entered(w, 1, 1, 2, 1);
	lasted(w, 0, 1000, 60000, 19000);
	end(w);
}

/* Nothing is answered past the lease that the database was told, whatever the settings have promised since. */
static void test_lease(void **state)
{
	struct world *w = world_new(GRACE);

	(void)state;
	load(w, 0);
	mirror_lease(&w->mirror, w->start + MS(5000));
	look(w, 0);
	look(w, 4000);
	assert_int_equal(w->f.state, FRESHNESS_GRACE);
	assert_int_equal(uv_timer_get_due_in(&w->f.timer), 100);
	look(w, 4950);
	assert_int_equal(uv_timer_get_due_in(&w->f.timer), 51);
	look(w, 5000);
	assert_int_equal(w->f.state, FRESHNESS_GRACE);
	lines_read = line_count;
	look(w, 5001);
	told(LOG_LEVEL_ERROR, TO_STALE("5001", ", its lease is out"));
	told_no_more();
	lasted(w, 0, 1000, 4000, 1);
	/* One that ends before the copy is stale. */
	mirror_lease(&w->mirror, w->start + MS(6500));
	confirm(w, 6000);
	look(w, 6000);
	assert_int_equal(uv_timer_get_due_in(&w->f.timer), 501);
	lines_read = line_count;
	look(w, 7500);
	told(LOG_LEVEL_ERROR, TO_STALE("1500", ", its lease is out"));
	told_no_more();
	entered(w, 1, 2, 1, 2);
	lasted(w, 0, 1500, 4000, 1000 + 1000);
	end(w);
}

/* A reload may end a grace, or begin one. */
static void test_configured(void **state)
{
	struct world *w = world_new("");
	struct config *longer = config_of(GRACE), *before = w->config;

	(void)state;
	w->start -= MS(5000); /* configuring looks at the real time */
	w->f.since = w->start;
	load(w, 0);
	look(w, 0);
	look(w, 5000);
	told(LOG_LEVEL_INFO, "freshness: fresh: revision 7, confirmed 0 ms ago");
	told(LOG_LEVEL_ERROR, TO_STALE("5000", ""));
	told_no_more();
	freshness_configure(&w->f, longer);
	assert_int_equal(w->f.state, FRESHNESS_GRACE);
	assert_int_equal(line_count, 1);
	lines_read = line_count;
	freshness_configure(&w->f, before);
	assert_int_equal(w->f.state, FRESHNESS_STALE);
	assert_int_equal(line_count, 2);
	lines_read = line_count;
	config_free(longer);
	end(w);
}

/* While polls succeed it comes once in max_stale_ms; while something is amiss, with each poll and at each end. */
static void test_timer(void **state)
{
	struct world *w = world_new(GRACE);

	(void)state;
	assert_int_equal(uv_timer_get_due_in(&w->f.timer), 100);
	load(w, 0);
	look(w, 0);
	assert_int_equal(uv_timer_get_due_in(&w->f.timer), 1001);
	for (int64_t at = 100; at <= 900; at += 100)
		confirm(w, at);
	assert_int_equal(uv_timer_get_due_in(&w->f.timer), 1001);
	look(w, 1001);
	assert_int_equal(uv_timer_get_due_in(&w->f.timer), 900);
	look(w, 2000);
	assert_int_equal(uv_timer_get_due_in(&w->f.timer), 100);
	look(w, 11850);
	assert_int_equal(uv_timer_get_due_in(&w->f.timer), 51);
	look(w, 61880);
	assert_int_equal(uv_timer_get_due_in(&w->f.timer), 21);
	look(w, 70000);
	assert_int_equal(uv_timer_get_due_in(&w->f.timer), 100);
	lines_read = line_count;
	end(w);
}

/* The timer alone finds it. */
static void test_timer_looks(void **state)
{
	struct world *w = world_new("*=1h");
	struct copy *copy = copy_new(0, 0, 0);

	(void)state;
	copy_publish(copy, 7);
	mirror_swap(&w->mirror, copy, mirror_boot_now() - MS(950), 0);
	while (w->f.state != FRESHNESS_GRACE)
		uv_run(&w->loop, UV_RUN_ONCE);
	mirror_confirm(&w->mirror, mirror_boot_now() + MS(3600000), 0); /* however slow this machine is */
	while (w->f.state != FRESHNESS_FRESH)
		uv_run(&w->loop, UV_RUN_ONCE);
	lines_read = line_count;
	end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_states), cmocka_unit_test(test_without_grace),
		cmocka_unit_test(test_late_look),  cmocka_unit_test(test_old_confirmation),
		cmocka_unit_test(test_configured), cmocka_unit_test(test_lease),
		cmocka_unit_test(test_timer),	   cmocka_unit_test(test_timer_looks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
