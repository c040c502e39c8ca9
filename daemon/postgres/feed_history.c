/*
 * History that the database may lose: what the journal of denials is told, when that is waited for, and what becomes of
 * a load that shows that some is lost.
 *
 * A batch that makes a key denied is published when the journal has it. A load is settled before it takes the
 * old copy's place: is this the history that was followed? If it is, what it says replaces what was known. If not, all that it
 * denies less than was known is held, until an administrator accepts it. Known is touched when all is held, and
 * the position moves last, so that whatever interrupts this, the next load finds the same.
 */
#include "daemon/postgres/feed_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/log.h"
#include "daemon/postgres/pgrow.h"

enum {
	HISTORY_STEPS = 64,	  /* keys between two looks at the clock */
	HISTORY_LATE_MS = 900,	  /* how long a revocation waits for the disk before it is in force without */
	HISTORY_OVERDUE_MS = 100, /* and this */
	HISTORY_PLACE_S = 60,	  /* between two positions that are written for their own sake */
	HISTORY_CHANGES_MIN = 64, /* room */
};

void feed_history_start(struct feed *feed)
{
	feed->history.applied = *journal_position(feed->journal);
	feed_history_refuse(feed);
}

/* ---- what a poll brings ---- */

int feed_history_row(struct feed *feed, keytext_id id, struct denial denial)
{
	struct feed_history *history = &feed->history;
	struct denial known;
	int r;

	if (feed->batch.target == feed->fresh) {
		r = denials_put(history->fresh, id, denial);
		history->fresh_lacks |= r == -ENOSPC;
		return r == -ENOSPC ? 0 : r;
	}
	known = denials_of(journal_known(feed->journal), id);
	if (denial_is_same(known, denial))
		return 0;
	if (history->change_count == history->change_room) {
		size_t room = history->change_room ? 2 * history->change_room : HISTORY_CHANGES_MIN;
		struct feed_denial *changes = reallocarray(history->changes, room, sizeof(*changes));

		if (!changes)
			return -ENOMEM;
		history->changes = changes;
		history->change_room = room;
	}
	history->changes[history->change_count++] = (struct feed_denial){id, denial};
	history->stronger |= !denial_is_same(denial_join(known, denial), known);
	history->unrevoked |= (known.flags & RULE_REVOKED) && !(denial.flags & RULE_REVOKED);
	return 0;
}

void feed_history_past(struct feed *feed, const PGresult *result)
{
	struct pgfield in_log, older;

	if (PQntuples(result) == 1 && PQnfields(result) == 2) {
		in_log = (struct pgfield){(const uint8_t *)PQgetvalue(result, 0, 0), PQgetlength(result, 0, 0)};
		older = (struct pgfield){(const uint8_t *)PQgetvalue(result, 0, 1), PQgetlength(result, 0, 1)};
		if (pgfield_bool(&in_log, &feed->batch.past_in_log) && pgfield_bool(&older, &feed->batch.past_older))
			return;
	}
	if (!feed->batch.error[0])
		snprintf(feed->batch.error, sizeof(feed->batch.error),
			 "looking for the applied revision: not understood");
}

void feed_history_forget(struct feed *feed)
{
	struct feed_history *history = &feed->history;

	history->change_count = 0;
	history->stronger = history->unrevoked = false;
}

/* ---- waiting for the journal ---- */

static void history_go_on(struct feed *feed)
{
	struct feed_history *history = &feed->history;
	struct feed_batch batch = history->batch;

	if (!history->waiting)
		return;
	history->waiting = false;
	uv_timer_stop(&feed->late_timer);
	if (feed->leaving || feed->stopping)
		return;
	if (history->settle == FEED_SETTLE_WRITE) {
		feed_swap(feed, &batch);
	} else {
		feed_apply(feed, &batch);
		if (batch.verified)
			feed_verify_begin(feed);
		feed_verify_drop(feed);
	}
	feed_next(feed);
}

static void history_on_written(void *data, int r)
{
	(void)r; /* the journal has logged it: what is revoked is in force all the same */
	history_go_on(data);
}

static void history_on_late(uv_timer_t *timer)
{
	struct feed *feed = timer->data;

	/* A process that was stopped finds the time over before it looks what has ended meanwhile. */
	if (!feed->history.overdue) {
		feed->history.overdue = true;
		uv_timer_start(timer, history_on_late, HISTORY_OVERDUE_MS, 0);
		return;
	}
	journal_forget(feed->journal);
	feed->history.late++;
	log_warning(
		"database feed: the journal of denials was not written within %d ms; what is revoked is in force, but "
		"might be forgotten in a restart: see to the disk",
		HISTORY_LATE_MS + HISTORY_OVERDUE_MS);
	history_go_on(feed);
}

/* With the batch that has ended well. False: there is nothing to wait for. */
static bool history_wait(struct feed *feed)
{
	struct feed_history *history = &feed->history;

	history->overdue = false;
	history->waiting = journal_sync(feed->journal, history_on_written, feed);
	if (history->waiting)
		uv_timer_start(&feed->late_timer, history_on_late, HISTORY_LATE_MS, 0);
	return history->waiting;
}

bool feed_history_is_busy(const struct feed *feed)
{
	return feed->history.settle != FEED_SETTLE_NOT || feed->history.waiting;
}

/* ---- the current copy ---- */

/* The batch has ended well, and what goes on with it goes on later: its catalog was put where it belongs. */
static void history_take(struct feed *feed)
{
	feed->history.batch = feed->batch;
	feed->history.batch.catalog = (struct catalog){0};
}

static struct journal_position history_here(const struct feed *feed, const struct feed_batch *batch)
{
	const struct connection_identity *identity =
		batch->target == feed->fresh ? &feed->fresh_identity : connection_identity(feed->link);

	return (struct journal_position){.rev = batch->rev,
					 .system = identity->system,
					 .lsn = batch->lsn,
					 .timeline = identity->timeline,
					 .database = identity->database};
}

bool feed_history_write(struct feed *feed)
{
	struct feed_history *history = &feed->history;
	struct feed_batch *batch = &feed->batch;
	const struct denials *known = journal_known(feed->journal);

	batch->here = history_here(feed, batch);
	if (!history->stronger)
		return false;
	/* What denies less follows when it is published: until then it is denied. */
	for (size_t i = 0; i < history->change_count; i++) {
		const struct feed_denial *change = &history->changes[i];

		journal_know(feed->journal, change->id, denial_join(denials_of(known, change->id), change->denial));
	}
	journal_place(feed->journal, &batch->here);
	history_take(feed);
	return history_wait(feed);
}

void feed_history_applied(struct feed *feed, const struct feed_batch *batch)
{
	struct feed_history *history = &feed->history;
	int64_t now = mirror_boot_now();
	bool write = history->change_count > 0;

	for (size_t i = 0; i < history->change_count; i++)
		journal_know(feed->journal, history->changes[i].id, history->changes[i].denial);
	feed_history_forget(feed);
	history->applied = batch->here;
	/* Now and then for its own sake: an old one may leave the log, and then says less. */
	write |= batch->here.rev != journal_position(feed->journal)->rev &&
		 now - history->placed_at >= HISTORY_PLACE_S * INT64_C(1000000);
	if (!write)
		return;
	history->placed_at = now;
	journal_place(feed->journal, &batch->here);
	journal_sync(feed->journal, NULL, NULL);
}

/* ---- a load ---- */

static bool history_same_life(const struct journal_position *a, const struct journal_position *b)
{
	return a->system == b->system && a->timeline == b->timeline && a->database == b->database;
}

static enum journal_why history_judge(const struct feed *feed, const struct feed_batch *batch)
{
	const struct journal_position *applied = &feed->history.applied;

	if (feed->history.evidence)
		return JOURNAL_WHY_REVOKED;
	if (applied->rev == 0)
		return journal_is_whole(feed->journal) ? JOURNAL_WHY_NONE : JOURNAL_WHY_DAMAGED;
	/* What came after the place is not known any more, and another server may lack that. */
	if (journal_is_behind(feed->journal) && !history_same_life(applied, &batch->here))
		return JOURNAL_WHY_DAMAGED;
	if (batch->past_in_log)
		return JOURNAL_WHY_NONE;
	/* A log that was begun anew meanwhile does not take back what was seen in the one before. */
	if (feed->reload == FEED_RELOAD_HISTORY)
		return JOURNAL_WHY_LOG;
	/* A log is cut from its beginning: where it has older ones, it was not cut there. */
	if (batch->past_older || batch->floor < applied->rev)
		return JOURNAL_WHY_LOG;
	if (!history_same_life(applied, &batch->here))
		return JOURNAL_WHY_LIFE;
	return batch->lsn < applied->lsn ? JOURNAL_WHY_LSN : JOURNAL_WHY_NONE;
}

static void history_step_to(struct feed *feed, enum feed_settle settle)
{
	feed->history.settle = settle;
	feed->history.at = 1;
}

void feed_history_refuse(struct feed *feed)
{
	const struct journal_loss *loss = journal_loss(feed->journal);

	feed->mirror->refused =
		loss->why != JOURNAL_WHY_NONE && (loss->unsure || feed->config->on_history_loss == CONFIG_REFUSE);
}

static void history_lost(struct feed *feed, enum journal_why why)
{
	struct feed_history *history = &feed->history;
	const struct journal_loss *before = journal_loss(feed->journal);
	struct journal_loss loss = {.why = why, .from = history->applied, .to = history->batch.here};
	bool again = before->why != JOURNAL_WHY_NONE && before->from.rev == loss.from.rev;

	history->why = why;
	history_step_to(feed, FEED_SETTLE_HOLD);
	/* A load that was broken off finds the same loss again. */
	if (again)
		return;
	loss.at = feed_entry_now();
	loss.unsure = before->unsure || !journal_is_whole(feed->journal);
	journal_lose(feed->journal, &loss);
	feed->count.histories += feed->reload != FEED_RELOAD_HISTORY;
	feed_history_refuse(feed);
}

void feed_history_settle(struct feed *feed)
{
	struct feed_history *history = &feed->history;
	enum journal_why why;

	feed->batch.here = history_here(feed, &feed->batch);
	why = history_judge(feed, &feed->batch);
	history_take(feed);
	history->why = JOURNAL_WHY_NONE;
	history_step_to(feed, FEED_SETTLE_CHECK);
	if (why != JOURNAL_WHY_NONE)
		history_lost(feed, why);
}

/* All was held that is to be held: now the load's word replaces what was known. */
static void history_know(struct feed *feed)
{
	feed->history.again = !journal_is_whole(feed->journal);
	journal_make_whole(feed->journal);
	history_step_to(feed, FEED_SETTLE_KNOW);
}

static void history_write(struct feed *feed)
{
	struct feed_history *history = &feed->history;

	if (history->fresh_lacks)
		journal_lack(feed->journal);
	history->settle = FEED_SETTLE_WRITE;
	history->placed_at = mirror_boot_now();
	feed_entry_lost(feed);
	journal_place(feed->journal, &history->batch.here);
	if (history_wait(feed))
		return;
	history->waiting = true;
	history_go_on(feed);
}

/* One key, or the end of a walk. */
static void history_step(struct feed *feed)
{
	struct feed_history *history = &feed->history;
	const struct denials *known = journal_known(feed->journal);
	const struct denials *walked = history->settle == FEED_SETTLE_MORE ? history->fresh : known;
	struct denial denial, fresh;
	uint32_t at = history->at++;
	keytext_id id;

	if (at >= denials_end(walked)) {
		if (history->settle == FEED_SETTLE_KNOW)
			history_step_to(feed, FEED_SETTLE_MORE);
		else if (history->settle == FEED_SETTLE_MORE)
			history_write(feed);
		else
			history_know(feed);
		return;
	}
	if (!denials_at(walked, at, &id, &denial))
		return;
	fresh = denials_of(history->fresh, id);
	switch (history->settle) {
	case FEED_SETTLE_CHECK:
		/* Where there are too many to remember, that one is not among them says nothing. */
		if (!history->fresh_lacks && (denial.flags & RULE_REVOKED) && !(fresh.flags & RULE_REVOKED))
			history_lost(feed, JOURNAL_WHY_REVOKED);
		break;
	case FEED_SETTLE_HOLD:
		if (denial_is_weaker(fresh, denial))
			journal_hold(feed->journal, id,
				     denial_join(denial, denials_of(journal_held(feed->journal), id)));
		break;
	case FEED_SETTLE_KNOW:
		journal_know(feed->journal, id, fresh);
		break;
	default: /* FEED_SETTLE_MORE */
		if (history->again)
			journal_know_again(feed->journal, id, denial);
		else
			journal_know(feed->journal, id, denial);
	}
}

bool feed_history_has_work(const struct feed *feed)
{
	return feed->history.settle != FEED_SETTLE_NOT && feed->history.settle != FEED_SETTLE_WRITE;
}

void feed_history_slice(struct feed *feed)
{
	while (feed_history_has_work(feed) && !feed_slice_is_over(feed))
		for (unsigned i = 0; i < HISTORY_STEPS && feed_history_has_work(feed); i++)
			history_step(feed);
}

void feed_history_swapped(struct feed *feed)
{
	struct feed_history *history = &feed->history;
	const struct journal_loss *loss = journal_loss(feed->journal);

	history->applied = history->batch.here;
	history->settle = FEED_SETTLE_NOT;
	history->evidence = false;
	if (history->why != JOURNAL_WHY_NONE)
		log_error("database feed: HISTORY LOST: %s. Was at revision %" PRIu64 " (timeline %u), is at %" PRIu64
			  " (timeline %u). %u keys that the database lets live again stay denied%s, until you accept "
			  "this history: run `apikeyctl history show`",
			  journal_why_line(history->why), loss->from.rev, loss->from.timeline, loss->to.rev,
			  loss->to.timeline, journal_held(feed->journal)->count,
			  feed->mirror->refused ? " and nothing is answered" : "");
	history->why = JOURNAL_WHY_NONE;
}

void feed_history_drop(struct feed *feed)
{
	struct feed_history *history = &feed->history;

	if (history->settle == FEED_SETTLE_NOT)
		return;
	if (history->waiting)
		journal_forget(feed->journal);
	uv_timer_stop(&feed->late_timer);
	history->waiting = false;
	history->settle = FEED_SETTLE_NOT;
}

void feed_history_leave(struct feed *feed)
{
	const struct feed_history *history = &feed->history;

	/* What waits for the journal has said where it is. */
	if (!history->waiting && history->applied.rev != journal_position(feed->journal)->rev)
		journal_place(feed->journal, &history->applied);
}

void feed_history_deinit(struct feed *feed)
{
	free(feed->history.changes);
}
