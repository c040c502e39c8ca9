/*
 * The journal of denials: which keys this daemon knows as revoked, retired or disabled, as of which revision, in its
 * state directory. What a database forgets that lost a piece of its history, this remembers.
 *
 * Owns the file, the tables that it stands for, and one write at a time on a thread of libuv's pool. Who calls it:
 * server.c opens and closes it; postgres/feed_history.c and feed_entry.c say what it is to know; admin/history.c shows it. On the
 * loop's thread. The format is in journal_internal.h.
 *
 * Always holds:
 * - The tables change at once; the file follows, in the same order. After a journal_sync has called back without an
 *   error, what was said before it is on the disk.
 * - What could not be written is kept and written with what comes next; what could not even be kept (no memory, the
 *   limit) is lost to it, which it says of itself: then it is not whole, on the disk too if the disk still takes a byte.
 * - It holds key ids and states. Never a hash, never a key.
 * - What the database's ledger is to say of lost history stands here, too, before the ledger has it (the notes).
 */
#ifndef APIKEYD_DAEMON_JOURNAL_H
#define APIKEYD_DAEMON_JOURNAL_H

#include <uv.h>

#include "daemon/mirror/denials.h"

struct journal;

/* A point in the history of a database: what had been applied, and whose revision that was. rev 0: none. */
struct journal_position {
	uint64_t rev, system, lsn; /* lsn: what the server had written of its log by then, at least */
	uint32_t timeline, database;
};

enum journal_why {
	JOURNAL_WHY_NONE = 0, /* nothing is lost */
	JOURNAL_WHY_LOG,      /* the applied revision is not in the change log, though it reaches back so far */
	JOURNAL_WHY_LIFE,     /* another cluster, database or timeline, whose log does not reach back so far */
	JOURNAL_WHY_LSN,      /* the server has written less than it had before */
	JOURNAL_WHY_REVOKED,  /* a revoked key is not revoked any more, or gone */
	JOURNAL_WHY_DAMAGED,  /* nobody knows: the journal could not be read whole */
	JOURNAL_WHYS
};

struct journal_loss {
	enum journal_why why;
	int64_t at;  /* µs since 1970, by the local clock */
	bool unsure; /* the journal was not whole then: what should be held may lack */
	struct journal_position from, to;
};

enum journal_note_kind { JOURNAL_NOTE_NONE = 0, JOURNAL_NOTE_LOST, JOURNAL_NOTE_ACCEPTED, JOURNAL_NOTE_KINDS };

enum { JOURNAL_NOTES_MAX = 16, JOURNAL_NOTE_KEYS = 64, JOURNAL_ID_LEN = 16 };

/* Keys that are held: each counts once, as the first of these that it is. */
struct journal_kept {
	uint32_t revoked, retired /* now or at a time */, disabled;
};

/* A server from one start to the next. */
struct journal_life {
	int64_t started; /* µs since 1970, as it says; 0: a loss since may have taken away what its ledger had */
	uint32_t timeline, database;
};

/* What the ledger of the database is to say: that history was lost, or that it was accepted. */
struct journal_note {
	enum journal_note_kind kind;
	uint8_t id[JOURNAL_ID_LEN]; /* of the loss; with the kind it names the note */
	int64_t at;		    /* µs since 1970, by the local clock */
	struct journal_loss loss;   /* which: what `at` of it says */
	bool refuse;		    /* on_history_loss as it was set */
	uint32_t uid;		    /* accepted: by whom */
	struct journal_kept kept;   /* that were held then */
	uint32_t key_count;
	keytext_id keys[JOURNAL_NOTE_KEYS]; /* some of them */
	struct journal_life entered;	    /* whose ledger has it; timeline 0: none had it ever */
};

struct journal_counts {
	uint64_t losses, accepts, writes, failures, bytes, compactions;
	uint64_t notes_dropped; /* that were nowhere in a ledger, for newer ones */
	uint64_t dropped;	/* denials that it does not know: beyond the limit, or no memory */
	uint64_t torn;		/* slots at the end that a crash cut off */
	uint64_t damaged;	/* slots in the middle that are none */
};

enum { JOURNAL_ERROR_SIZE = 512 };

/*
 * Opens or makes the journal in a directory that is the daemon's alone; "" keeps it in memory only. 0, or -errno with
 * one line in `error` that says what to do. The directory stays locked until journal_free.
 */
int journal_open(const char *directory, uint32_t limit, struct journal **ret, char error[JOURNAL_ERROR_SIZE]);
/* Before the first change. */
void journal_start(struct journal *journal, uv_loop_t *loop);
/* Calls back once when the last write has ended; nothing may be said any more. Never from inside the call. */
void journal_close(struct journal *journal, void (*closed)(void *data), void *data);
void journal_free(struct journal *journal); /* NULL is fine */

/* ---- what it knows ---- */

const struct denials *journal_known(const struct journal *journal); /* as the database last said */
const struct denials *journal_held(const struct journal *journal);  /* what a lost history must not take back */
const struct journal_position *journal_position(const struct journal *journal);
const struct journal_loss *journal_loss(const struct journal *journal); /* why: JOURNAL_WHY_NONE unless lost */
const struct journal_kept *journal_kept(const struct journal *journal);
/* The last of them, the oldest first. */
const struct journal_note *journal_notes(const struct journal *journal, unsigned *ret_count);
/* False: it may lack denials, so that a lost history cannot be made up for. */
bool journal_is_whole(const struct journal *journal);
/* An earlier daemon had applied more than its place says, and could not write that; until a place is said. */
bool journal_is_behind(const struct journal *journal);
const char *journal_directory(const struct journal *journal); /* "": in memory only */
const struct journal_counts *journal_counts(const struct journal *journal);
const char *journal_why_word(enum journal_why why); /* "log", "timeline", … */
const char *journal_why_line(enum journal_why why); /* for people */
/* Nothing that was said waits to be written. */
bool journal_is_written(const struct journal *journal);
/* What the last write failed with, "" since one did not. */
const char *journal_trouble(const struct journal *journal);

/* ---- what it is to know: each at once in memory, and in the file by the next sync ---- */

void journal_know(struct journal *journal, keytext_id id, struct denial denial);
/* The same, written though it knew that before: it makes up for what may lack. */
void journal_know_again(struct journal *journal, keytext_id id, struct denial denial);
void journal_hold(struct journal *journal, keytext_id id, struct denial denial);
void journal_place(struct journal *journal, const struct journal_position *position);
void journal_lose(struct journal *journal, const struct journal_loss *loss);
/*
 * To be entered in a ledger; one that is there already is left as it is. Where there are too many the oldest goes that a
 * ledger has, or the oldest. Of an acceptance: before journal_accept, so that a crash leaves both or none.
 */
void journal_note(struct journal *journal, const struct journal_note *note);
/* The ledger of that life has it. */
void journal_entered(struct journal *journal, enum journal_note_kind kind, const uint8_t id[JOURNAL_ID_LEN],
		     const struct journal_life *life);
/* The database's word stands again: nothing is held any more. */
void journal_accept(struct journal *journal);
/* There are more than could be said. */
void journal_lack(struct journal *journal);
/* All of a complete load is said from here on: whatever lacked before does not any more. */
void journal_make_whole(struct journal *journal);

/*
 * Writes what was said. With `done`: calls it once, when all of that is on the disk or could not be written (r < 0),
 * never from inside the call; false where there is nothing to wait for, and then it is not called. One at a time.
 */
typedef void (*journal_done)(void *data, int r);
bool journal_sync(struct journal *journal, journal_done done, void *data);
/* Who asked does not want to be called any more. */
void journal_forget(struct journal *journal);

#endif
