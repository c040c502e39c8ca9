/*
 * The spool: verdicts on their way to the database, in a ring of fixed records in a file of the state directory.
 *
 * Owns the file, its lock and its mapping. Who calls it: rollup.c puts records in and counts them up; flush.c seals
 * batches of them, has them written to the database and frees them. On the loop's thread; a sealed batch does not
 * change any more and may be read by another. No loop and no database in here, and after spool_open no system call but
 * in spool_sync. The format is in spool_internal.h.
 *
 * Always holds:
 * - Each function that changes something does so by one store of one word, after all that belongs to it: whoever is
 *   killed at any instruction has done it or has not. What was not yet counted had no answer.
 * - The room is there before the first verdict (a disk that fills up later takes nothing away), and nothing is ever
 *   moved: a record stays where it is until its batch is in the database.
 * - A batch is fixed, with its number, before anything of it is sent: sent again it is the same, unless the database has
 *   said that it is not there.
 * - What finds no room is counted by its reason, and the next batch says how many these were.
 */
#ifndef APIKEYD_DAEMON_AUDIT_SPOOL_H
#define APIKEYD_DAEMON_AUDIT_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/keytext.h"
#include "proto/verdict.h"

struct spool;

enum { SPOOL_ERROR_SIZE = 512, SPOOL_HEAD_LEN = 32, SPOOL_CHAIN_LEN = 16, SPOOL_TEXT_MAX = 256, SPOOL_FEWEST = 64 };

enum spool_kind {
	SPOOL_VOID = 0, /* was damaged: says nothing */
	SPOOL_ROLLUP,	/* counts */
	SPOOL_EVENT,
};

enum spool_flag { SPOOL_STALE = 1, SPOOL_EXPLAIN = 2 };

/* One record, as it stands in the file: in this machine's byte order, since the file is of this machine. */
struct spool_record {
	uint64_t seq; /* its position, written last: it is there; anything else: it is not */
	/* change while it is open, a word each */
	uint64_t count;
	int64_t last_at; /* µs since 1970 */

	uint32_t check; /* of seq and all that follows */
	uint32_t uid;
	int64_t first_at; /* of an event: when */
	uint64_t rev, age_ms;
	keytext_id key_id; /* 0: not proven */
	uint8_t kind;	   /* enum spool_kind */
	uint8_t verdict;   /* enum verdict */
	uint8_t reason;	   /* spool_reason_word */
	uint8_t method;	   /* the same for methods; 0 in roll-ups */
	uint8_t stack_len, scope_len, page_len, org_len;
	uint8_t flags;	     /* enum spool_flag */
	uint8_t addr_family; /* 0, 4 or 6 */
	uint8_t addr[16];
	uint8_t unused[38];
	char text[SPOOL_TEXT_MAX]; /* stack, scope, page, organization, one behind the other */
};
_Static_assert(sizeof(struct spool_record) == 384, "six cache lines");

/* A batch that is sealed. */
struct spool_batch {
	uint64_t number;
	uint64_t first, end; /* positions; first == end: no records */
	int64_t made_at;     /* µs since 1970 */
	uint64_t lost;	     /* verdicts of which only the number is known */
	bool is_statement;   /* not of verdicts: takes a number, and no records */
};

/*
 * Opens or makes `directory`/ledger.spool with room for `bytes`; directory "": in memory only. What an earlier daemon
 * left is still there. One that is there takes no more room, so that a full disk is no hindrance. 0, or -errno with one
 * line in `error` that says what to do.
 */
int spool_open(const char *directory, uint64_t bytes, struct spool **ret, char error[SPOOL_ERROR_SIZE]);
void spool_close(struct spool *spool); /* NULL is fine; all that is in it stays in the file */
/* Brings what is in memory to the disk. Blocks: for a thread, at any time. 0 or -errno. */
int spool_sync(struct spool *spool);

/* ---- what is in it ---- */

uint64_t spool_capacity(const struct spool *spool);    /* records */
uint64_t spool_used(const struct spool *spool);	       /* of these, not yet in the database */
uint64_t spool_room(const struct spool *spool);	       /* the rest */
uint64_t spool_end(const struct spool *spool);	       /* the position that the next record gets */
uint64_t spool_open_from(const struct spool *spool);   /* records from here on are of no sealed batch */
uint64_t spool_lost(const struct spool *spool);	       /* all that were ever lost in this file */
uint64_t spool_lost_untold(const struct spool *spool); /* of these, no sealed batch tells them yet */
uint64_t spool_damaged(const struct spool *spool);     /* records that could not be read when it was opened */
/* It was to have another size, and there was no room for that: -errno; else 0. */
int spool_unsized(const struct spool *spool);
bool spool_in_memory(const struct spool *spool);
const uint8_t *spool_chain(const struct spool *spool);
const uint8_t *spool_head(const struct spool *spool);  /* of the last batch that is in the database; zeros: none is */
const uint8_t *spool_tried(const struct spool *spool); /* see spool_try */
uint64_t spool_number(const struct spool *spool);      /* of the sealed batch, or of the next */
/* How the file writes a reason: its words stand in it, so that a daemon with other numbers can read it. */
const char *spool_reason_word(const struct spool *spool, uint8_t reason);
const char *spool_method_word(const struct spool *spool, uint8_t method);
/* Of this daemon's numbers. `method`: of enum rpc_method. */
uint8_t spool_reason_at(const struct spool *spool, enum reason reason);
uint8_t spool_method_at(const struct spool *spool, unsigned method);

/* ---- records ---- */

/* Of a position that is in use. */
struct spool_record *spool_at(const struct spool *spool, uint64_t position);
/* The place of the next record, zeroed; NULL: there is no room. It is there only after spool_append. */
struct spool_record *spool_next(struct spool *spool);
/* Puts in what spool_next gave. Returns its position. */
uint64_t spool_append(struct spool *spool);
/* One more of a roll-up of no sealed batch. */
static inline void spool_count(struct spool_record *record, int64_t at)
{
	*(volatile int64_t *)&record->last_at = at;
	++*(volatile uint64_t *)&record->count;
}
/* A verdict that finds no room. */
void spool_lose(struct spool *spool, enum reason reason);

/* ---- batches, one at a time ---- */

/*
 * Seals what there is, at most `most` records of at most `days` different days and tables that are not far from each
 * other, as the next batch. False:
 * there is nothing, or a batch is sealed already.
 */
bool spool_seal(struct spool *spool, int64_t made_at, uint64_t most, unsigned days);
/* Takes a number for a batch that is not of verdicts. False as spool_seal. */
bool spool_seal_statement(struct spool *spool, int64_t made_at);
/* The sealed one; false: there is none. */
bool spool_sealed(const struct spool *spool, struct spool_batch *ret);
/* This head is sent now: should no answer come, it is known again. */
void spool_try(struct spool *spool, const uint8_t head[SPOOL_HEAD_LEN]);
/* The batch is in the database, with the head that was tried last: its records' places are free. */
void spool_release(struct spool *spool);
/* It is not, and is not to be: what was sealed is open again. */
void spool_unseal(struct spool *spool);
/* What there is, the sealed batch with it, begins another chain, at batch 1. */
void spool_new_chain(struct spool *spool, const uint8_t chain[SPOOL_CHAIN_LEN]);

/* The day (since 1970, in UTC) of a time in µs. */
static inline int64_t spool_day(int64_t us)
{
	return us / INT64_C(86400000000) - (us % INT64_C(86400000000) < 0);
}
/* The minute of a time in µs: its beginning, in µs. */
static inline int64_t spool_minute(int64_t us)
{
	int64_t rest = us % 60000000;

	return us - (rest < 0 ? rest + 60000000 : rest);
}

#endif
