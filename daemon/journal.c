#include "daemon/journal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/journal_internal.h"
#include "daemon/log.h"

struct journal {
	char *directory;
	uv_loop_t *loop;
	struct journal_state state;
	struct journal_counts counts;
	struct journal_file file; /* the thread's, while it writes */
	bool on_disk;
	struct journal_bytes queue; /* slots that nobody writes yet */
	bool remark;		    /* the head is to say something else */
	bool told_drop;
	char trouble[160];

	uv_work_t work;
	bool writing, closing;
	struct journal_bytes taken; /* what is being written */
	bool taken_whole, taken_behind;
	int result;
	bool compacted;

	journal_done done;
	void *done_data;
	void (*closed)(void *data);
	void *closed_data;
};

static const char *const words[JOURNAL_WHYS] = {"", "log", "timeline", "wal", "revoked", "damaged"};

const char *journal_why_word(enum journal_why why)
{
	return words[why];
}

const char *journal_why_line(enum journal_why why)
{
	switch (why) {
	case JOURNAL_WHY_LOG:
		return "the applied revision is not in the change log any more, which has older ones (a failover that "
		       "lost transactions, or a restore)";
	case JOURNAL_WHY_LIFE:
		return "this is another cluster, database or timeline, and its change log does not reach back to the "
		       "applied revision: changes may be lost";
	case JOURNAL_WHY_LSN:
		return "the server has written less than it had before (a restore)";
	case JOURNAL_WHY_REVOKED:
		return "a key that was revoked is not revoked any more, or gone, which no change can do (a restore)";
	case JOURNAL_WHY_DAMAGED:
		return "the journal of denials is damaged, or could not be written, so that nobody knows what was "
		       "applied";
	default:
		return "";
	}
}

/* ---- life ---- */

int journal_open(const char *directory, uint32_t limit, struct journal **ret, char error[JOURNAL_ERROR_SIZE])
{
	struct journal *journal = calloc(1, sizeof(*journal));
	int r = -ENOMEM;

	error[0] = '\0';
	if (!journal)
		goto no_memory;
	journal->file.directory = journal->file.fd = -1;
	r = journal_state_init(&journal->state, limit);
	if (r == 0)
		journal->directory = strdup(directory);
	if (r == 0 && !journal->directory)
		r = -ENOMEM;
	if (r < 0)
		goto no_memory;
	journal->on_disk = *directory;
	if (journal->on_disk)
		r = journal_file_open(&journal->file, directory, &journal->state, error);
	if (r < 0) {
		journal_free(journal);
		return r;
	}
	if (journal->file.kept < 0) {
		snprintf(journal->trouble, sizeof(journal->trouble), "%s", strerror(-journal->file.kept));
		journal->counts.failures++;
	}
	journal->counts.torn = journal->state.torn;
	journal->counts.damaged = journal->state.damaged;
	journal->counts.dropped = journal->state.dropped;
	*ret = journal;
	return 0;
no_memory:
	snprintf(error, JOURNAL_ERROR_SIZE, "the journal of denials: %s", strerror(-r));
	journal_free(journal);
	return r;
}

void journal_start(struct journal *journal, uv_loop_t *loop)
{
	const struct journal_state *state = &journal->state;

	journal->loop = loop;
	if (!journal->on_disk)
		log_warning(
			"journal: [state] directory is empty: after a restart of the daemon nothing is left to deny what "
			"a lost history of the database takes back");
	if (journal->file.kept < 0)
		log_error(
			"journal: there is no room to write %s/denials anew: %s; going on with the one that is there, "
			"so that what it denies is denied; what is revoked from now on might be forgotten in a restart: "
			"make room",
			journal->directory, strerror(-journal->file.kept));
	if (state->torn)
		log_warning("journal: the end of %s/denials was cut off by a crash: %llu slots are left out",
			    journal->directory, (unsigned long long)state->torn);
	if (state->damaged)
		log_error("journal: %s/denials is damaged: %llu slots cannot be read; should the database lose history "
			  "before the next load is complete, nothing is answered until it is accepted",
			  journal->directory, (unsigned long long)state->damaged);
	if (state->dropped)
		log_error("journal: %s/denials has more denials than [state] denials = %u: raise it",
			  journal->directory, state->known.limit);
	if (state->loss.why)
		log_error("journal: HISTORY LOST before this start, and not accepted yet: %u keys are kept denied; run "
			  "`apikeyctl history show`",
			  state->held.count);
}

void journal_free(struct journal *journal)
{
	if (!journal)
		return;
	journal_file_close(&journal->file);
	journal_state_deinit(&journal->state);
	free(journal->queue.data);
	free(journal->taken.data);
	free(journal->directory);
	free(journal);
}

/* ---- writing ---- */

static void begin(struct journal *journal);

/* On a thread. */
static void on_work(uv_work_t *work)
{
	struct journal *journal = work->data;

	journal->compacted = false;
	journal->result = journal_file_add(&journal->file, journal->taken.data, journal->taken.len,
					   journal->taken_whole, journal->taken_behind);
	if (journal->result == 0 && journal_file_is_worn(&journal->file))
		journal->compacted = journal_file_compact(&journal->file) == 0;
}

/* What was not written stands before what came since. */
static void take_back(struct journal *journal)
{
	struct journal_bytes *taken = &journal->taken, *queue = &journal->queue;

	if (queue->len > 0) {
		uint8_t *data = realloc(taken->data, taken->len + queue->len);

		if (data) {
			memcpy(data + taken->len, queue->data, queue->len);
			taken->data = data;
			taken->len += queue->len;
			taken->room = taken->len;
		} else {
			journal->state.incomplete = true;
		}
		free(queue->data);
	}
	*queue = *taken;
	*taken = (struct journal_bytes){0};
}

static void tell_result(struct journal *journal, int r)
{
	if (r < 0 && !journal->trouble[0])
		log_error(
			"journal: %s/denials cannot be written: %s; what is revoked is denied, but might be forgotten in "
			"a restart: see to the disk",
			journal->directory, strerror(-r));
	else if (r == 0 && journal->trouble[0])
		log_info("journal: %s/denials is written again", journal->directory);
	snprintf(journal->trouble, sizeof(journal->trouble), "%s", r < 0 ? strerror(-r) : "");
}

static void call_back(struct journal *journal, int r)
{
	journal_done done = journal->done;

	journal->done = NULL;
	if (done)
		done(journal->done_data, r);
}

static void on_worked(uv_work_t *work, int status)
{
	struct journal *journal = work->data;
	int r = status < 0 ? -EIO : journal->result;

	journal->writing = false;
	tell_result(journal, r);
	if (r < 0) {
		journal->counts.failures++;
		take_back(journal);
	} else {
		journal->counts.writes++;
		journal->counts.bytes += journal->taken.len;
		journal->counts.compactions += journal->compacted;
		free(journal->taken.data);
		journal->taken = (struct journal_bytes){0};
	}
	if (r == 0 && (journal->queue.len > 0 || journal->remark) && (journal->done || journal->closing))
		begin(journal);
	if (journal->writing)
		return;
	call_back(journal, r);
	if (journal->closing && !journal->writing)
		journal->closed(journal->closed_data);
}

static void begin(struct journal *journal)
{
	journal->taken = journal->queue;
	journal->queue = (struct journal_bytes){0};
	journal->taken_whole = !journal->state.incomplete;
	journal->taken_behind = journal->state.behind;
	journal->remark = false;
	journal->work.data = journal;
	journal->writing = true;
	if (uv_queue_work(journal->loop, &journal->work, on_work, on_worked) < 0) {
		journal->writing = false;
		take_back(journal);
	}
}

bool journal_sync(struct journal *journal, journal_done done, void *data)
{
	if (!journal->on_disk || (journal->queue.len == 0 && !journal->remark && !journal->writing))
		return false;
	if (!journal->writing)
		begin(journal);
	if (!journal->writing)
		return false;
	if (done) {
		journal->done = done;
		journal->done_data = data;
	}
	return true;
}

void journal_forget(struct journal *journal)
{
	journal->done = NULL;
}

static void on_closing_nothing(uv_work_t *work)
{
	(void)work;
}

static void on_closed_nothing(uv_work_t *work, int status)
{
	struct journal *journal = work->data;

	(void)status;
	journal->closed(journal->closed_data);
}

void journal_close(struct journal *journal, void (*closed)(void *data), void *data)
{
	journal->closing = true;
	journal->done = NULL;
	journal->closed = closed;
	journal->closed_data = data;
	if (journal_sync(journal, NULL, NULL))
		return;
	journal->work.data = journal;
	if (uv_queue_work(journal->loop, &journal->work, on_closing_nothing, on_closed_nothing) < 0)
		abort(); /* it fails for a missing function only */
}

/* ---- what it knows ---- */

const struct denials *journal_known(const struct journal *journal)
{
	return &journal->state.known;
}

const struct denials *journal_held(const struct journal *journal)
{
	return &journal->state.held;
}

const struct journal_kept *journal_kept(const struct journal *journal)
{
	return &journal->state.kept;
}

const struct journal_note *journal_notes(const struct journal *journal, unsigned *ret_count)
{
	*ret_count = journal->state.note_count;
	return journal->state.notes;
}

const struct journal_position *journal_position(const struct journal *journal)
{
	return &journal->state.position;
}

const struct journal_loss *journal_loss(const struct journal *journal)
{
	return &journal->state.loss;
}

bool journal_is_whole(const struct journal *journal)
{
	return !journal->state.incomplete;
}

bool journal_is_behind(const struct journal *journal)
{
	return journal->state.behind;
}

const char *journal_directory(const struct journal *journal)
{
	return journal->directory;
}

const struct journal_counts *journal_counts(const struct journal *journal)
{
	return &journal->counts;
}

bool journal_is_written(const struct journal *journal)
{
	return !journal->on_disk || (journal->queue.len == 0 && !journal->remark && !journal->writing);
}

const char *journal_trouble(const struct journal *journal)
{
	return journal->trouble;
}

/* ---- what it is to know ---- */

/* Past any sense for what there is to say: a disk that takes nothing must not take the memory. */
static bool has_room(const struct journal *journal)
{
	return journal->queue.len / JOURNAL_SLOT <= (uint64_t)2 * journal->state.known.limit + 1024;
}

void journal_lack(struct journal *journal)
{
	journal->counts.dropped++;
	journal->state.incomplete = true;
	journal->remark = true;
	if (!journal->told_drop)
		log_error(
			"journal: it cannot take all denials: [state] denials = %u is reached, or memory is out; should "
			"the database lose history, nothing is answered until it is accepted: raise it",
			journal->state.known.limit);
	journal->told_drop = true;
}

static void put(struct journal *journal, enum journal_kind kind, keytext_id id, struct denial denial)
{
	struct journal_state *state = &journal->state;

	if ((kind == JOURNAL_KNOW ? denials_put(&state->known, id, denial) : journal_state_hold(state, id, denial)) <
	    0) {
		journal_lack(journal);
		return;
	}
	if (journal->on_disk && (!has_room(journal) || !journal_put_denial(&journal->queue, kind, id, denial)))
		journal_lack(journal);
}

void journal_know_again(struct journal *journal, keytext_id id, struct denial denial)
{
	put(journal, JOURNAL_KNOW, id, denial);
}

void journal_know(struct journal *journal, keytext_id id, struct denial denial)
{
	if (!denial_is_same(denials_of(&journal->state.known, id), denial))
		journal_know_again(journal, id, denial);
}

void journal_hold(struct journal *journal, keytext_id id, struct denial denial)
{
	if (!denial_is_same(denials_of(&journal->state.held, id), denial))
		put(journal, JOURNAL_HOLD, id, denial);
}

void journal_place(struct journal *journal, const struct journal_position *position)
{
	journal->state.position = *position;
	journal->state.behind = false;
	if (journal->on_disk && !journal_put_place(&journal->queue, JOURNAL_PLACE, position))
		journal_lack(journal);
}

void journal_lose(struct journal *journal, const struct journal_loss *loss)
{
	journal->state.loss = *loss;
	journal_state_unenter(&journal->state);
	journal->counts.losses++;
	if (journal->on_disk && !journal_put_loss(&journal->queue, loss))
		journal_lack(journal);
}

void journal_note(struct journal *journal, const struct journal_note *note)
{
	if (journal_state_find(&journal->state, note->kind, note->id))
		return;
	if (journal_state_note(&journal->state, note)) {
		journal->counts.notes_dropped++;
		log_error(
			"journal: more than %d losses and acceptances of history wait to be entered in the ledger: the "
			"oldest is left out; mend what keeps them from it, which the log of the database feed says",
			JOURNAL_NOTES_MAX);
	}
	if (journal->on_disk && !journal_put_note(&journal->queue, note))
		journal_lack(journal);
}

void journal_entered(struct journal *journal, enum journal_note_kind kind, const uint8_t id[JOURNAL_ID_LEN],
		     const struct journal_life *life)
{
	struct journal_note *note = journal_state_find(&journal->state, kind, id);

	if (!note)
		return;
	note->entered = *life;
	/* Where this does not reach the disk it is entered once more, which the ledger takes for the same. */
	if (journal->on_disk)
		(void)journal_put_entered(&journal->queue, kind, id, life);
}

void journal_accept(struct journal *journal)
{
	denials_clear(&journal->state.held);
	journal->state.kept = (struct journal_kept){0};
	journal->state.loss = (struct journal_loss){0};
	journal->counts.accepts++;
	if (journal->on_disk && !journal_put_accept(&journal->queue))
		journal_lack(journal);
}

void journal_make_whole(struct journal *journal)
{
	if (!journal->state.incomplete)
		return;
	journal->state.incomplete = false;
	journal->told_drop = false;
	journal->remark = true;
}
