/* Lost history as administrators see it: what there is to say of it, and that it is accepted. */
#include "daemon/postgres/feed_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/log.h"

/* RFC 3339, to the second. */
static bool set_time(struct arena *arena, struct value *map, const char *name, int64_t us)
{
	time_t seconds = (time_t)(us / 1000000 - (us % 1000000 < 0));
	char text[48];
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		return value_set(arena, map, name);
	return value_set_text(arena, map, name, text);
}

static bool set_position(struct arena *arena, struct value *map, const char *name,
			 const struct journal_position *position)
{
	struct value *sub = value_set(arena, map, name);
	char system[24];

	if (!sub)
		return false;
	value_map(sub);
	/* A number of 64 bits that people compare with that of pg_controldata. */
	snprintf(system, sizeof(system), "%" PRIu64, position->system);
	return value_set_uint(arena, sub, "rev", position->rev) && value_set_text(arena, sub, "system", system) &&
	       value_set_uint(arena, sub, "timeline", position->timeline) &&
	       value_set_uint(arena, sub, "database", position->database);
}

/* As the rule would say first. */
static const char *denial_word(struct denial denial, int64_t now)
{
	if (denial.flags & RULE_REVOKED)
		return "revoked";
	if (denial.retired_at <= now)
		return "retired";
	if (denial.flags & RULE_DISABLED)
		return "disabled";
	return denial.retired_at != INT64_MAX ? "retired" : "live";
}

static bool add_row(const struct feed *feed, struct arena *arena, struct value *rows, keytext_id id,
		    struct denial denial)
{
	int64_t now = mirror_database_now(feed->mirror, mirror_boot_now());
	struct value *row = value_add(arena, rows);
	const struct copy_key *key = NULL;
	char text[KEYTEXT_ID_LEN + 1];

	if (!row)
		return false;
	value_map(row);
	keytext_id_format(id, text);
	if (feed->mirror->copy)
		copy_find_keys(feed->mirror->copy, &id, 1, &key);
	return value_set_text(arena, row, "key_id", text) &&
	       value_set_text(arena, row, "kept", denial_word(denial, now)) &&
	       (denial.retired_at == INT64_MAX ? value_set(arena, row, "retired_at") != NULL
					       : set_time(arena, row, "retired_at", denial.retired_at)) &&
	       value_set_text(arena, row, "database",
			      !feed->mirror->copy ? NULL
			      : !key		  ? "missing"
						  : denial_word(denials_of(journal_known(feed->journal), id), now));
}

static bool add_rows(const struct feed *feed, struct arena *arena, struct value *map, uint32_t after, uint32_t limit)
{
	const struct denials *held = journal_held(feed->journal);
	struct value *rows = value_set(arena, map, "rows"), *next;
	uint32_t at = after + 1, last = 0, count = 0;
	struct denial denial;
	char text[16];
	keytext_id id;

	if (!rows)
		return false;
	value_list(rows);
	for (; at < denials_end(held) && count < limit; at++) {
		if (!denials_at(held, at, &id, &denial))
			continue;
		if (!add_row(feed, arena, rows, id, denial))
			return false;
		last = at;
		count++;
	}
	next = value_set(arena, map, "next");
	if (!next || at >= denials_end(held))
		return next;
	snprintf(text, sizeof(text), "%" PRIu32, last);
	return value_text(arena, next, text, strlen(text));
}

bool feed_history_show(const struct feed *feed, struct arena *arena, struct value *map, uint32_t after, uint32_t limit)
{
	const struct journal_loss *loss = journal_loss(feed->journal);
	bool lost = loss->why != JOURNAL_WHY_NONE;

	value_map(map);
	if (!value_set_bool(arena, map, "lost", lost) ||
	    !value_set_bool(arena, map, "refusing", feed->mirror->refused) ||
	    !value_set_bool(arena, map, "remembered",
			    *journal_directory(feed->journal) && !*journal_trouble(feed->journal)) ||
	    !value_set_bool(arena, map, "written", journal_is_written(feed->journal)) ||
	    !value_set_bool(arena, map, "whole", journal_is_whole(feed->journal)) ||
	    !value_set_uint(arena, map, "known", journal_known(feed->journal)->count) ||
	    !value_set_uint(arena, map, "kept", journal_held(feed->journal)->count))
		return false;
	if (lost && (!value_set_int(arena, map, "loss", loss->at) || !set_time(arena, map, "lost_at", loss->at) ||
		     !value_set_text(arena, map, "why", journal_why_word(loss->why)) ||
		     !value_set_text(arena, map, "detail", journal_why_line(loss->why)) ||
		     !set_position(arena, map, "from", &loss->from) || !set_position(arena, map, "to", &loss->to) ||
		     !feed_entry_show(feed, arena, map)))
		return false;
	return add_rows(feed, arena, map, after, limit);
}

int feed_history_accept(struct feed *feed, int64_t loss, uint32_t uid)
{
	const struct journal_loss *now = journal_loss(feed->journal);
	uint32_t kept = journal_held(feed->journal)->count;

	if (now->why == JOURNAL_WHY_NONE)
		return -ENOENT;
	if (now->at != loss)
		return -ESTALE;
	/* What a load is about to hold is not yet to be seen. */
	if (feed->history.settle != FEED_SETTLE_NOT)
		return -EAGAIN;
	log_warning("database feed: history accepted: revision %" PRIu64 " (timeline %u) follows %" PRIu64
		    " (timeline %u), and %" PRIu32 " keys are as the database says",
		    now->to.rev, now->to.timeline, now->from.rev, now->from.timeline, kept);
	feed_entry_accepted(feed, uid);
	journal_accept(feed->journal);
	journal_sync(feed->journal, NULL, NULL);
	feed_history_refuse(feed);
	return 0;
}

bool feed_history_stats(const struct feed *feed, struct arena *arena, struct value *map)
{
	const struct journal_counts *count = journal_counts(feed->journal);
	const struct {
		const char *name;
		uint64_t value;
	} counters[] = {
		{"kept_denied", journal_held(feed->journal)->count},
		{"losses", count->losses},
		{"accepts", count->accepts},
		{"known_denials", journal_known(feed->journal)->count},
		{"limit_denials", count->dropped},
		{"journal_writes", count->writes},
		{"journal_bytes", count->bytes},
		{"journal_failures", count->failures},
		{"journal_late", feed->history.late},
		{"journal_compactions", count->compactions},
		{"journal_torn", count->torn},
		{"journal_damaged", count->damaged},
	};
	struct value *sub = value_set(arena, map, "history");

	if (!sub)
		return false;
	value_map(sub);
	if (!value_set_bool(arena, sub, "lost", journal_loss(feed->journal)->why != JOURNAL_WHY_NONE) ||
	    !value_set_bool(arena, sub, "refusing", feed->mirror->refused) ||
	    !value_set_bool(arena, sub, "whole", journal_is_whole(feed->journal)) ||
	    !value_set_bool(arena, sub, "journal_failing", *journal_trouble(feed->journal)) ||
	    !value_set_text(arena, sub, "journal_trouble", journal_trouble(feed->journal)))
		return false;
	for (unsigned i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		if (!value_set_uint(arena, sub, counters[i].name, counters[i].value))
			return false;
	return feed_entry_stats(feed, arena, sub);
}
