/*
 * Lost history in the ledger of the database: that it was lost, and that it was accepted. The journal has a note of each
 * before the database is told, and until it knows where it stands; the ledger takes each once, by its id.
 *
 * It is told on the feed's own session, behind a poll: that is the server whose history it is, where this daemon has
 * just registered, which the entry names; the writer's or the ledger's session may be with another one, and has others
 * waiting. A group of its own, so that a failure is nobody else's; its functions wait for no lock and no standby, so
 * that the next poll does not wait for it.
 */
#include "daemon/postgres/feed_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/log.h"
#include "daemon/postgres/pgrow.h"

enum { ENTRY_PARAMS_MAX = 12, ENTRY_PLACE_SIZE = 72, ENTRY_KEYS_SIZE = JOURNAL_NOTE_KEYS * (KEYTEXT_ID_LEN + 1) + 3 };
#define ENTRY_AGAIN_US	  (INT64_C(86400) * 1000000)
#define ENTRY_PATIENCE_US (INT64_C(10) * 1000000)

/* ---- notes ---- */

int64_t feed_entry_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* The note of the loss that stands, if there is one. */
static const struct journal_note *entry_of_loss(const struct feed *feed)
{
	const struct journal_loss *loss = journal_loss(feed->journal);
	unsigned count;
	const struct journal_note *notes = journal_notes(feed->journal, &count);

	for (unsigned i = 0; i < count; i++)
		if (notes[i].kind == JOURNAL_NOTE_LOST && notes[i].loss.at == loss->at)
			return &notes[i];
	return NULL;
}

static void entry_keys(const struct feed *feed, struct journal_note *note)
{
	const struct denials *held = journal_held(feed->journal);
	struct denial denial;

	note->kept = *journal_kept(feed->journal);
	for (uint32_t at = 1; at < denials_end(held) && note->key_count < JOURNAL_NOTE_KEYS; at++)
		note->key_count += denials_at(held, at, &note->keys[note->key_count], &denial);
}

void feed_entry_lost(struct feed *feed)
{
	const struct journal_loss *loss = journal_loss(feed->journal);
	struct journal_note note = {.kind = JOURNAL_NOTE_LOST,
				    .at = loss->at,
				    .loss = *loss,
				    .refuse = feed->config->on_history_loss == CONFIG_REFUSE};

	if (loss->why == JOURNAL_WHY_NONE || entry_of_loss(feed))
		return;
	uuid_random(note.id);
	entry_keys(feed, &note);
	journal_note(feed->journal, &note);
}

void feed_entry_accepted(struct feed *feed, uint32_t uid)
{
	struct journal_note accepted[JOURNAL_NOTES_MAX];
	const struct journal_note *notes;
	unsigned count, made = 0;

	feed_entry_lost(feed); /* one from before the notes, or whose load has not come to its end */
	notes = journal_notes(feed->journal, &count);
	/* Losses that came one upon the other are accepted together. */
	for (unsigned i = 0; i < count; i++) {
		bool open = notes[i].kind == JOURNAL_NOTE_LOST;

		for (unsigned j = 0; open && j < count; j++)
			open = notes[j].kind != JOURNAL_NOTE_ACCEPTED ||
			       memcmp(notes[j].id, notes[i].id, sizeof(notes[j].id)) != 0;
		if (!open)
			continue;
		accepted[made] = (struct journal_note){.kind = JOURNAL_NOTE_ACCEPTED,
						       .at = feed_entry_now(),
						       .loss = notes[i].loss,
						       .refuse = notes[i].refuse,
						       .uid = uid};
		memcpy(accepted[made].id, notes[i].id, sizeof(notes[i].id));
		entry_keys(feed, &accepted[made++]);
	}
	for (unsigned i = 0; i < made; i++)
		journal_note(feed->journal, &accepted[i]);
}

/* ---- which is next ---- */

/*
 * Whether the ledger that is followed has it. A server that was started anew may be an older state of itself, or a standby
 * that had not come so far: it is told again, for a day; what is older may have been pruned, and is not to come back.
 */
static bool entry_is_there(const struct feed *feed, const struct journal_note *note, int64_t now)
{
	const struct connection_identity *here = connection_identity(feed->link);
	const struct journal_life *life = &note->entered;

	if (life->timeline == 0 || !feed->following || now - note->at >= ENTRY_AGAIN_US)
		return life->timeline;
	return life->started == here->started && life->timeline == here->timeline && life->database == here->database;
}

static const struct journal_note *entry_next(const struct feed *feed)
{
	int64_t now = feed_entry_now();
	unsigned count;
	const struct journal_note *notes = journal_notes(feed->journal, &count);

	for (unsigned i = 0; i < count; i++)
		if (!entry_is_there(feed, &notes[i], now))
			return &notes[i];
	return NULL;
}

/*
 * A note is on the disk before the ledger is told of it, or a daemon that dies in between would make another one of the same
 * loss. Where the disk takes nothing, or does not end, two entries are better than none.
 */
bool feed_entry_is_due(const struct feed *feed, int64_t now)
{
	const struct journal_note *note =
		feed->seen.held_at != 0 && now >= feed->entry.retry_at ? entry_next(feed) : NULL;

	return note && (journal_is_written(feed->journal) || *journal_trouble(feed->journal) ||
			feed_entry_now() - note->at >= ENTRY_PATIENCE_US);
}

/* ---- told, and answered ---- */

static void entry_place(const struct journal_position *place, char out[ENTRY_PLACE_SIZE])
{
	snprintf(out, ENTRY_PLACE_SIZE, "%" PRIu64 "/%" PRIu64 "/%" PRIu32 "/%" PRIu32, place->rev, place->system,
		 place->timeline, place->database);
}

static void entry_key_list(const struct journal_note *note, char out[ENTRY_KEYS_SIZE])
{
	char *at = out;

	*at++ = '{';
	for (uint32_t i = 0; i < note->key_count; i++) {
		if (i > 0)
			*at++ = ',';
		keytext_id_format(note->keys[i], at);
		at += KEYTEXT_ID_LEN;
	}
	*at++ = '}';
	*at = '\0';
}

bool feed_entry_push(struct feed *feed)
{
	const struct journal_note *note = entry_next(feed);
	bool lost = note->kind == JOURNAL_NOTE_LOST;
	char loss[UUID_TEXT], daemon[UUID_TEXT], at[24], actor[24], was[ENTRY_PLACE_SIZE], found[ENTRY_PLACE_SIZE],
		revoked[16], retired[16], disabled[16], keys[ENTRY_KEYS_SIZE];
	const char *params[ENTRY_PARAMS_MAX] = {loss, daemon, at};
	unsigned count = 3;

	feed->entry.kind = note->kind;
	memcpy(feed->entry.id, note->id, sizeof(feed->entry.id));
	feed->entry.made = false;
	uuid_text(note->id, loss);
	uuid_text(feed->id, daemon);
	snprintf(at, sizeof(at), "%" PRId64, note->at);
	if (lost) {
		entry_place(&note->loss.from, was);
		entry_place(&note->loss.to, found);
		params[count++] = journal_why_word(note->loss.why);
		params[count++] = note->refuse ? "refuse" : "keep";
		params[count++] = note->loss.unsure ? "f" : "t";
		params[count++] = was;
		params[count++] = found;
	} else {
		snprintf(actor, sizeof(actor), "uid:%" PRIu32, note->uid);
		params[count++] = actor;
	}
	snprintf(revoked, sizeof(revoked), "%" PRIu32, note->kept.revoked);
	snprintf(retired, sizeof(retired), "%" PRIu32, note->kept.retired);
	snprintf(disabled, sizeof(disabled), "%" PRIu32, note->kept.disabled);
	entry_key_list(note, keys);
	params[count++] = revoked;
	params[count++] = retired;
	params[count++] = disabled;
	params[count++] = keys;
	return feed_queue(feed, lost ? FEED_STEP_LOST : FEED_STEP_ACCEPTED,
			  PQsendQueryPrepared(connection_pq(feed->link),
					      feed_step_name(lost ? FEED_STEP_LOST : FEED_STEP_ACCEPTED), (int)count,
					      params, NULL, NULL, 1)) &&
	       feed_push(feed, FEED_STEP_SYNC_ENTRY);
}

void feed_entry_row(struct feed *feed, const PGresult *result)
{
	struct pgfield made;

	if (PQntuples(result) != 1 || PQnfields(result) != 1)
		return;
	made = (struct pgfield){.data = (const uint8_t *)PQgetvalue(result, 0, 0), .len = PQgetlength(result, 0, 0)};
	pgfield_bool(&made, &feed->entry.made);
}

static void entry_failed(struct feed *feed, const char *error)
{
	struct feed_entry *entry = &feed->entry;
	uint32_t least = feed->config->backoff_min_ms, most = feed->config->backoff_max_ms;

	entry->failures++;
	if (strcmp(error, entry->reported) != 0)
		log_error("database feed: %s; it is tried again", error);
	snprintf(entry->reported, sizeof(entry->reported), "%s", error);
	entry->backoff_ms = entry->backoff_ms < least ? least : entry->backoff_ms * 2;
	if (entry->backoff_ms > most)
		entry->backoff_ms = most;
	entry->retry_at = mirror_boot_now() + (int64_t)entry->backoff_ms * 1000;
}

void feed_entry_end(struct feed *feed)
{
	const struct connection_identity *here = connection_identity(feed->link);
	struct feed_entry *entry = &feed->entry;
	char loss[UUID_TEXT];

	if (feed->batch.error[0]) {
		entry_failed(feed, feed->batch.error);
		feed->batch.error[0] = '\0';
		feed->batch.timed_out = false;
		return;
	}
	entry->backoff_ms = 0;
	entry->retry_at = 0;
	entry->reported[0] = '\0';
	entry->entered += entry->made;
	uuid_text(entry->id, loss);
	if (entry->made)
		log_info("database feed: the ledger has it that history was %s: loss %s",
			 entry->kind == JOURNAL_NOTE_LOST ? "lost" : "accepted", loss);
	journal_entered(feed->journal, entry->kind, entry->id,
			&(const struct journal_life){
				.started = here->started, .timeline = here->timeline, .database = here->database});
	journal_sync(feed->journal, NULL, NULL);
}

/* ---- shown ---- */

bool feed_entry_stats(const struct feed *feed, struct arena *arena, struct value *map)
{
	const struct journal_counts *journal = journal_counts(feed->journal);
	int64_t now = feed_entry_now();
	unsigned count, waiting = 0;
	const struct journal_note *notes = journal_notes(feed->journal, &count);

	for (unsigned i = 0; i < count; i++)
		waiting += !entry_is_there(feed, &notes[i], now);
	return value_set_uint(arena, map, "entries", feed->entry.entered) &&
	       value_set_uint(arena, map, "entries_waiting", waiting) &&
	       value_set_uint(arena, map, "entry_failures", feed->entry.failures) &&
	       value_set_uint(arena, map, "limit_entries", journal->notes_dropped);
}

bool feed_entry_show(const struct feed *feed, struct arena *arena, struct value *map)
{
	const struct journal_note *note = entry_of_loss(feed);
	char loss[UUID_TEXT];

	if (!note)
		return value_set(arena, map, "loss_id") && value_set_bool(arena, map, "in_ledger", false);
	uuid_text(note->id, loss);
	return value_set_text(arena, map, "loss_id", loss) &&
	       value_set_bool(arena, map, "in_ledger", entry_is_there(feed, note, feed_entry_now()));
}
