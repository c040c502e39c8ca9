/*
 * A batch as the database gets it: its rows as COPY takes them, the digests of its parts, and its head.
 *
 * Owns the text. Who calls it: flush.c, on a thread (batch_make) and on the loop's. Reads a sealed batch of the spool,
 * which does not change. The canonical encoding is that of apikeyd.ledger_line() (sql/migrations/0010), which is the
 * reference: the database makes each digest again and refuses a batch that says another.
 */
#ifndef APIKEYD_DAEMON_AUDIT_BATCH_H
#define APIKEYD_DAEMON_AUDIT_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/audit/spool.h"
#include "daemon/uuid.h"

enum { BATCH_PARTS_MAX = 32, BATCH_DIGEST_LEN = 32, BATCH_WORD_MAX = 24 };

/* The rows of a batch in one partition. */
struct batch_part {
	char tbl[16], day[16]; /* "event", "2026-01-31" */
	uint64_t rows, counted;
	uint8_t digest[BATCH_DIGEST_LEN];
};

struct batch_text {
	char *data;
	size_t len, room;
	bool failed; /* no memory */
};

struct batch {
	struct batch_text rollups, events; /* lines for COPY */
	struct batch_part parts[BATCH_PARTS_MAX];
	uint32_t part_count, rows;
	int64_t first_day, last_day; /* since 1970; first > last: it has no rows */
};

/* Makes the rows of a sealed batch. 0, or -ENOMEM. */
int batch_make(const struct spool *spool, const struct spool_batch *sealed, struct batch *ret);
void batch_deinit(struct batch *batch);

/* What a head says, beside the parts. */
struct batch_head {
	const char *chain; /* text */
	uint64_t number;
	const char *kind; /* rows, compaction, pruning */
	int64_t made_at;
	uint64_t rows, lost;
	const char *statement; /* NULL: none */
	uint16_t pepper;
	const uint8_t *prev_head;
	uint64_t seals;
	const uint8_t *seals_digest;
};

/* False without memory. */
bool batch_head(const struct batch_head *head, const struct batch_part *parts, uint32_t count,
		uint8_t ret[BATCH_DIGEST_LEN]);
/* The parts as the database takes them: a JSON array. NULL without memory; the caller frees it. */
char *batch_parts_json(const struct batch_part *parts, uint32_t count);

/* Lines: each field with its length before it, so that no two lists of fields make the same line. NULL: null. */
void batch_put_field(struct batch_text *text, const char *field, size_t len);
void batch_put(struct batch_text *text, const char *data, size_t len);

void batch_hex(const uint8_t *bytes, size_t len, char *ret);	 /* 2 * len + 1 bytes, terminated */
bool batch_from_hex(const char *text, uint8_t *ret, size_t len); /* of exactly that length */
void batch_day_text(int64_t day, char ret[16]);

#endif
