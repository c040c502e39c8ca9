/*
 * The spool from the inside: shared by spool.c (the ring), spool_file.c (the file) and their tests. Nobody else
 * includes it.
 *
 * The file: a page of head, then records (struct spool_record). Positions count from 1 and never end; the record of
 * position p stands in place p % capacity. Two states, each with its checksum, take turns: the one whose turn it is
 * counts, the other is written, and then it is its turn, by one store. Words of reasons and methods are added as they
 * are needed, and never changed.
 */
#ifndef APIKEYD_DAEMON_AUDIT_SPOOL_INTERNAL_H
#define APIKEYD_DAEMON_AUDIT_SPOOL_INTERNAL_H

#include "daemon/audit/spool.h"
#include "proto/rpc.h"

enum { SPOOL_VERSION = 1, SPOOL_PAGE = 4096, SPOOL_REASONS = 64, SPOOL_METHODS = 16, SPOOL_WORD = 24 };

enum spool_seal { SPOOL_UNSEALED = 0, SPOOL_SEALED, SPOOL_SEALED_STATEMENT };

struct spool_state {
	uint64_t start;	 /* the first position that is not in the database */
	uint64_t sealed; /* behind the sealed batch; else as `start` */
	uint64_t batch;	 /* its number, or that of the next */
	int64_t made_at;
	uint64_t lost_told,
		lost_sealed; /* of all that were lost: told by batches in the database, and by the sealed one */
	uint8_t chain[SPOOL_CHAIN_LEN];
	uint8_t head[SPOOL_HEAD_LEN], tried[SPOOL_HEAD_LEN];
	uint32_t seal;	/* enum spool_seal */
	uint32_t check; /* CRC-32 of all before it */
};

struct spool_page {
	char magic[8];
	uint32_t version, record_size;
	uint64_t capacity;
	uint32_t check; /* CRC-32 of all before it */
	uint32_t unused;
	uint64_t turn; /* states[turn % 2] counts */
	struct spool_state states[2];
	uint64_t lost[SPOOL_REASONS];
	char reasons[SPOOL_REASONS][SPOOL_WORD], methods[SPOOL_METHODS][SPOOL_WORD];
};
_Static_assert(sizeof(struct spool_page) <= SPOOL_PAGE, "one page");

struct spool {
	struct spool_page *page;
	struct spool_record *records;
	uint64_t capacity, end;
	struct spool_state state; /* as the page has it */
	uint64_t damaged;
	uint8_t reason_at[REASON_COUNT], method_at[RPC_METHOD_COUNT];
	/* spool_file.c */
	void *map;
	size_t map_size;
	int fd;	     /* -1: in memory only */
	int unsized; /* -errno of making another size of it */
};

/* How many records fit in so many bytes; SPOOL_FEWEST at least. */
uint64_t spool_capacity_of(uint64_t bytes);
size_t spool_size_of(uint64_t capacity);
/* Makes an empty one of zeroed memory. */
void spool_format(void *map, uint64_t capacity, const struct spool_state *state);
/*
 * Reads what is in `map`, of `size` bytes that anybody may have written, and makes `ret` work on it (the file's part
 * stays as it is). What is damaged between good records becomes void. 0, -EBADMSG (not a spool, or its states are
 * both damaged), -EPROTONOSUPPORT (another version).
 */
int spool_adopt(struct spool *ret, void *map, size_t size);

#endif
