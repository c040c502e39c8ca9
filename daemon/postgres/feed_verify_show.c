#include "daemon/postgres/feed_verify.h"

static const char *verify_state_word(const struct feed *feed, const struct verify_pass *pass)
{
	uint64_t left = 0;

	if (pass->number == 0)
		return "none";
	if (!pass->ended && feed->following && feed->reload != FEED_RELOAD_NONE)
		return "loading";
	if (!pass->ended)
		return feed_verify_waits(feed) ? "waiting" : "running";
	for (enum copy_kind kind = 0; kind < COPY_KINDS; kind++)
		left += pass->kinds[kind].different + pass->kinds[kind].missing + pass->kinds[kind].surplus;
	if (left > 0)
		return "different";
	return pass->found > 0 ? "mended" : "equal";
}

static bool verify_put_kind(const struct feed *feed, const struct verify_pass *pass, enum copy_kind kind,
			    struct arena *arena, struct value *list)
{
	const struct verify_kind *from = &pass->kinds[kind];
	struct value *map = value_add(arena, list);

	if (!map)
		return false;
	value_map(map);
	return value_set_text(arena, map, "kind", copy_kind_word(kind)) &&
	       value_set_uint(arena, map, "things", from->things) &&
	       value_set_uint(arena, map, "of", copy_kind_count(feed->mirror->copy, kind)) &&
	       value_set_uint(arena, map, "different", from->different) &&
	       value_set_uint(arena, map, "missing", from->missing) &&
	       value_set_uint(arena, map, "surplus", from->surplus) && value_set_bool(arena, map, "ended", from->ended);
}

bool feed_verify_show(const struct feed *feed, struct arena *arena, struct value *map)
{
	const struct feed_verify *verify = feed->verify;
	bool running = verify->pass.asked_for && !verify->pass.ended;
	const struct verify_pass *pass = running ? &verify->pass : &verify->shown;
	int64_t end = running ? mirror_boot_now() : pass->ended_at;
	struct value *list;

	value_map(map);
	if (!value_set_uint(arena, map, "pass", pass->number) ||
	    !value_set_text(arena, map, "state", verify_state_word(feed, pass)) ||
	    !value_set_uint(arena, map, "rev", pass->rev) ||
	    !value_set_uint(arena, map, "took_ms", (uint64_t)(end - pass->began) / 1000) ||
	    !value_set_uint(arena, map, "differences", pass->found) ||
	    !value_set_uint(arena, map, "reloads", pass->reloads))
		return false;
	list = value_set(arena, map, "kinds");
	if (!list)
		return false;
	value_list(list);
	for (enum copy_kind kind = 0; kind < COPY_KINDS && pass->number && feed->mirror->copy; kind++)
		if (!verify_put_kind(feed, pass, kind, arena, list))
			return false;
	return true;
}

bool feed_verify_stats(const struct feed *feed, struct arena *arena, struct value *map)
{
	const struct feed_verify *verify = feed->verify;
	const struct {
		const char *name;
		uint64_t value;
	} counters[] = {
		{"verify_passes", verify->count.passes},
		{"verify_ranges", verify->count.ranges},
		{"verify_things", verify->count.things},
		{"verify_differences", verify->count.differences},
		{"verify_reloads", verify->count.reloads},
		{"verify_failures", verify->count.failures},
		{"verify_last_pass_ms", verify->count.last_pass_ms},
	};

	for (unsigned i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		if (!value_set_uint(arena, map, counters[i].name, counters[i].value))
			return false;
	return true;
}
