/*
 * The journal from the inside: shared by journal.c (tables, queue, the loop), journal_format.c (slots and how they are
 * read: pure), journal_note.c (notes for the ledger: pure), journal_file.c (the file: blocking calls, for a thread) and
 * their tests. Nobody else includes it.
 *
 * The file: a head of 16 bytes ("apikeydJ", version, little-endian, one byte, three zeros). The byte: 'w' whole, 'i'
 * incomplete, 'b' incomplete and behind: what was applied is newer than the place, and could not be written.
 * Then slots of 40 bytes: kind, flags, two zeros, four numbers a b c d of 8 bytes, little-endian, and the CRC-32 of all that.
 * Slots are only ever added at the end; each says something anew, and the last word counts. What a crash cut off there is
 * left out when it is read. When most of it is of the past, a new file with what holds takes its place.
 *
 * Version 1 knows the kinds up to JOURNAL_ACCEPT. It is read, and written as version 2 at each start; where there is no
 * room for another file it becomes one in place.
 */
#ifndef APIKEYD_DAEMON_JOURNAL_INTERNAL_H
#define APIKEYD_DAEMON_JOURNAL_INTERNAL_H

#include "daemon/journal.h"

enum { JOURNAL_VERSION = 2, JOURNAL_HEAD = 16, JOURNAL_MARK_AT = 12, JOURNAL_SLOT = 40 };

enum journal_kind {
	JOURNAL_KNOW = 1, /* a id, b retired_at, flags */
	JOURNAL_HOLD,	  /* the same */
	JOURNAL_PLACE,	  /* a rev, b system, c lsn, d timeline and database */
	JOURNAL_FROM,	  /* as JOURNAL_PLACE: of the loss that follows */
	JOURNAL_TO,
	JOURNAL_LOST, /* a at, b unsure; flags: why. Makes it lost */
	JOURNAL_ACCEPT,
	/* a note: JOURNAL_FROM, JOURNAL_TO, JOURNAL_ABOUT, JOURNAL_IDS as many as it takes, and JOURNAL_NOTE makes it one */
	JOURNAL_ABOUT, /* a revoked and retired, b disabled and uid, c at of the loss, d enum journal_about; flags: why */
	JOURNAL_IDS,   /* a to d key ids; flags: how many */
	JOURNAL_NOTE,	 /* a, b id, c at; flags: its kind */
	JOURNAL_ENTERED, /* a, b id, c started, d timeline and database; flags: its kind */
	JOURNAL_KINDS
};

enum { JOURNAL_ABOUT_UNSURE = 1, JOURNAL_ABOUT_REFUSE = 2, JOURNAL_SLOT_IDS = 4 };

/* All that slots say, up to now. */
struct journal_state {
	struct denials known, held;
	struct journal_kept kept; /* of held */
	struct journal_position position;
	struct journal_loss loss, next;			    /* next: from and to of the one that is being said */
	struct journal_note notes[JOURNAL_NOTES_MAX], note; /* note: the one that is being said */
	unsigned note_count;
	uint32_t version; /* of what is read */
	bool incomplete;  /* by the head, or because of what was found or dropped */
	bool behind;	  /* by the head, until a place is said */
	uint64_t slots, torn, damaged, dropped;
	uint64_t bad; /* in a row, the last ones: torn, unless a good one follows */
};

struct journal_bytes {
	uint8_t *data;
	size_t len, room;
};

/* ---- journal_format.c ---- */

int journal_state_init(struct journal_state *state, uint32_t limit);
void journal_state_deinit(struct journal_state *state);
/* 0, or -EBADMSG (not a journal), -EPROTONOSUPPORT (another version). */
int journal_read_head(struct journal_state *state, const uint8_t head[JOURNAL_HEAD]);
uint8_t journal_mark(bool whole, bool behind); /* the byte */
void journal_write_head(uint8_t head[JOURNAL_HEAD], bool whole, bool behind);
/* Takes over one slot; what is none is counted. Memory that runs out makes it incomplete. */
void journal_read_slot(struct journal_state *state, const uint8_t slot[JOURNAL_SLOT]);
/* The end: `rest` bytes that are no whole slot. */
void journal_read_end(struct journal_state *state, size_t rest);
/* How many slots say all that holds. */
uint64_t journal_state_slots(const struct journal_state *state);

/* Adds slots. False without memory: nothing was added. */
bool journal_put_denial(struct journal_bytes *bytes, enum journal_kind kind, keytext_id id, struct denial denial);
bool journal_put_place(struct journal_bytes *bytes, enum journal_kind kind, const struct journal_position *position);
bool journal_put_loss(struct journal_bytes *bytes, const struct journal_loss *loss);
bool journal_put_accept(struct journal_bytes *bytes);
/* The head and all that holds, as a file of its own. */
bool journal_put_state(struct journal_bytes *bytes, const struct journal_state *state);
/* As denials_put, of what is held. */
int journal_state_hold(struct journal_state *state, keytext_id id, struct denial denial);

/* For journal_note.c: slots and their numbers. */
uint8_t *journal_add_slots(struct journal_bytes *bytes, size_t count); /* NULL without memory */
void journal_fill_slot(uint8_t *slot, enum journal_kind kind, uint8_t flags, const uint64_t numbers[4]);
void journal_fill_place(uint8_t *slot, enum journal_kind kind, const struct journal_position *place);
uint64_t journal_slot_number(const uint8_t *slot, unsigned i);
enum { JOURNAL_FLAGS_AT = 1 };

/* ---- journal_note.c ---- */

/* NULL: there is none. */
struct journal_note *journal_state_find(struct journal_state *state, enum journal_note_kind kind,
					const uint8_t id[JOURNAL_ID_LEN]);
/* True where another one had to go that no ledger has. */
bool journal_state_note(struct journal_state *state, const struct journal_note *note);
/* History is lost: so may be what the ledger had. */
void journal_state_unenter(struct journal_state *state);
/* One slot of the kinds from JOURNAL_ABOUT on. */
void journal_note_slot(struct journal_state *state, const uint8_t slot[JOURNAL_SLOT]);
bool journal_note_slot_can_be(enum journal_kind kind, uint8_t flags);
/* All was read: an acceptance of a loss that stands was cut off by a crash, and is none. */
void journal_note_end(struct journal_state *state);
/* How many slots say it, and that it is entered. */
uint64_t journal_note_slots(const struct journal_note *note);
bool journal_put_note(struct journal_bytes *bytes, const struct journal_note *note);
bool journal_put_entered(struct journal_bytes *bytes, enum journal_note_kind kind, const uint8_t id[JOURNAL_ID_LEN],
			 const struct journal_life *life);

/* ---- journal_file.c ---- */

struct journal_file {
	int directory, fd; /* -1: none */
	uint32_t limit;
	uint64_t slots;	    /* in the file */
	uint64_t live;	    /* of those, as of the last compaction or start: how many hold */
	bool whole, behind; /* as its head says */
	int kept;	    /* -errno: when it was opened there was no room for a new one, and the old one goes on */
};

/* `state` is initialised, and takes what the file says. */
int journal_file_open(struct journal_file *file, const char *directory, struct journal_state *state,
		      char error[JOURNAL_ERROR_SIZE]);
void journal_file_close(struct journal_file *file);
/*
 * Adds whole slots, and says in the head whether it is whole, and whether it is behind still. 0 only when all of that is
 * on the disk; else it is behind, and says so where the disk takes a byte in its place.
 */
int journal_file_add(struct journal_file *file, const uint8_t *data, size_t len, bool whole, bool behind);
bool journal_file_is_worn(const struct journal_file *file);
/* A new file with what holds takes its place. On failure the old one stands as it was. */
int journal_file_compact(struct journal_file *file);

#endif
