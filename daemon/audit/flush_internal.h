/* The flush from the inside: shared by flush.c, flush_pace.c and flush_show.c. Nobody else includes it. */
#ifndef APIKEYD_DAEMON_AUDIT_FLUSH_INTERNAL_H
#define APIKEYD_DAEMON_AUDIT_FLUSH_INTERNAL_H

#include "daemon/audit/batch.h"
#include "daemon/audit/flush.h"
#include "daemon/log.h"
#include "daemon/postgres/ledger.h"

enum flush_doing { FLUSH_IDLE = 0, FLUSH_MAKING, FLUSH_SENDING, FLUSH_ASKING };

/* What is to become of a batch that the database was asked about. */
enum flush_fate {
	FLUSH_SEND = 0,
	FLUSH_RELEASE,	 /* it is there */
	FLUSH_UNSEAL,	 /* a statement of an earlier attempt: it is not there, and not missed */
	FLUSH_NEW_CHAIN, /* the database has another batch in its place */
};

struct flush {
	uv_loop_t *loop;
	const struct config *config;
	const struct secret *secret;
	struct mirror *mirror;
	struct spool *spool;
	const struct rollup *rollup;
	struct ledger *ledger;
	uv_timer_t tick, stop_timer;
	uv_work_t work, sync;
	bool working, syncing;
	unsigned closing; /* handles and the session */
	bool started, stopping, closed;
	void (*stopped)(void *data);
	void *stopped_data;

	enum flush_doing doing;
	enum flush_fate fate;
	struct spool_batch sealed; /* the one under way */
	struct batch batch;	   /* its rows */
	bool made;
	int work_result, sync_result;
	struct ledger_batch sent;
	char chain[UUID_TEXT], host[256], first_day[16], last_day[16];
	uint8_t prev_head[SPOOL_HEAD_LEN];
	char *parts;
	uint64_t seals;
	bool begun; /* the database waits for it: it is not there, and no earlier attempt is under way */
	bool empty; /* a batch of no rows is to be sent, for what it seals */
	char kind[16], tbl[16], day[16]; /* a statement is to be sent; kind "": none */
	unsigned due, skip;		 /* what is due: so many were told, so many are left out */

	/* loop ms; 0: not yet */
	uint64_t flushed_at, sealed_at, rest_until, asked_at, anchored_at, committed_at, synced_at, retry_at;
	uint32_t backoff_ms;
	uint64_t due_end; /* the position up to which records are due */
	/* where the database is too slow; 0: as configured */
	uint64_t rows_most;
	uint32_t timeout_ms;
	bool slow;
	uint64_t anchored; /* the number behind the batch that the last anchor was of; 0: none in this run */
	bool unsynced;
	uint64_t lost_seen, lost_before; /* of spool_lost: at the last look, and when the spool was last not full */
	bool losing;
	char trouble[512]; /* the last failure; "" since a batch was committed */
	char statement_trouble[512];

	struct {
		uint64_t batches, rows, seals, statements, retries, failures, gaps, chains, anchors, syncs,
			sync_failures, timeouts;
	} count;
};

/* What a line about a batch is about: fields and their number. */
#define FLUSH_ABOUT(chain, batch)                                                                                      \
	(const struct log_field[]){log_text(LOG_CHAIN, (chain)), log_number(LOG_BATCH, (batch))}, 2

void flush_drop_made(struct flush *flush); /* what was made of the sealed batch */

/* ---- flush_pace.c ---- */

uint64_t flush_rows(const struct flush *flush);	      /* of the next batch, at most */
uint32_t flush_timeout_ms(const struct flush *flush); /* of each of its statements */
/* A batch of verdicts failed, since its time was over. It may be open again. */
void flush_too_slow(struct flush *flush);
/* One is in the database. */
void flush_in_time(struct flush *flush);

#endif
