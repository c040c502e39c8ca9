/*
 * A sum of each thing in a copy, to be compared with what the store says of it: the guard against a copy that is wrong.
 *
 * Who calls it: postgres/feed_verify.c, on the loop's thread, while nothing is staged and all is tidied. A sum is
 * made from what readers see, each time anew: so it finds a change that was missed, a fault in staging or folding,
 * and a bit that flipped, alike.
 *
 * The sum of a thing is the first eight bytes of SHA-256 over its row in PostgreSQL's binary form, which is what
 * record_send() makes of it (postgres/queries_verify.h): the number of columns, then for each column the number of
 * its type, its length (-1: null) and its bytes, all numbers big-endian. The columns:
 *   organization  id, slug, is it suspended
 *   page          id, its organization's id, slug, is it archived
 *   user          id, email, is it suspended, "<organization's id> <role>" for each membership by ascending id, the
 *                 same of pages
 *   key           the columns of the load in their order; then pages (ids ascending), scopes (by bytes), networks (IPv4
 *                 first, then by bytes and prefix), each null where the key is not narrowed so. A time past
 *                 what the copy can hold is infinity, retired_at then null
 *   catalog       one thing: "<name> <page level, 0 or 1><organization level>" of each scope, "<place> <name>
 *                 <rank>" of each role, "<place> <role> <scope>[ when_named]" of each grant; each sorted by its names
 *
 * Always holds: what is remembered with a key (a proof) and what is denied on top of the store is in no sum.
 */
#ifndef APIKEYD_DAEMON_MIRROR_COPY_SUM_H
#define APIKEYD_DAEMON_MIRROR_COPY_SUM_H

#include "daemon/mirror/copy.h"

enum { COPY_SUM_LEN = 8 };

enum copy_kind { COPY_CATALOG = 0, COPY_ORGANIZATIONS, COPY_PAGES, COPY_USERS, COPY_KEYS, COPY_KINDS };

/* "catalog", "organizations", …: the words of the protocol. */
const char *copy_kind_word(enum copy_kind kind);
/* How many of that kind readers see. */
uint64_t copy_kind_count(const struct copy *copy, enum copy_kind kind);

enum copy_sum_result { COPY_SUM_EQUAL = 0, COPY_SUM_DIFFERENT, COPY_SUM_MISSING /* in the copy */ };

/* What the store says of one thing. */
struct copy_sum_row {
	uint64_t id; /* a key's keytext_id, else the number; 0 for the catalog */
	uint8_t sum[COPY_SUM_LEN];
	uint8_t result; /* enum copy_sum_result, filled in by copy_sums_compare */
};

/* One walk over the things of one kind, and memory that is used again. Zeroed is its start. */
struct copy_sums {
	enum copy_kind kind;
	uint64_t *met;	  /* a bit for each handle that there was when the walk began */
	uint32_t handles; /* these are below it */
	uint32_t at;	  /* where copy_sums_rest stands */
	uint8_t *out;	  /* the row as it is written */
	size_t len, room;
	void *sort;
	size_t sort_room;
	bool failed; /* memory ran out while it was written */
};

void copy_sums_deinit(struct copy_sums *sums);
/* Begins a walk over the things of `kind`: none was met yet. 0 or -ENOMEM. */
int copy_sums_begin(struct copy_sums *sums, const struct copy *copy, enum copy_kind kind);
/* The sum of one thing, met or not. 1; 0: readers do not see such a thing; -ENOMEM. */
int copy_sum(struct copy_sums *sums, const struct copy *copy, enum copy_kind kind, uint64_t id,
	     uint8_t ret[COPY_SUM_LEN]);
/* Compares things of the walk's kind, and remembers that they were met. 0 or -ENOMEM. */
int copy_sums_compare(struct copy_sums *sums, const struct copy *copy, struct copy_sum_row *rows, uint32_t count);

enum copy_rest { COPY_REST_END = 0, COPY_REST_MORE, COPY_REST_FOUND };
/*
 * When all that the store has was compared: looks for things that were there all the while since copy_sums_begin and never
 * met, so that the store has them not. (A handle is never given again, so what it names now was there then.)
 * Looks at `budget` at most; FOUND: *ret_id is one, go on; MORE: go on; readers may see other revisions in between.
 */
enum copy_rest copy_sums_rest(struct copy_sums *sums, const struct copy *copy, uint32_t budget, uint64_t *ret_id);

#endif
