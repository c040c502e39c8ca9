/*
 * The ledger's session with the database: one batch, one transaction, one after the other.
 *
 * Owns the connection and one timer. Who calls it: audit/flush.c, which says what is in a batch and what becomes of it;
 * libpq stays in here. On the loop's thread. The functions are those of sql/migrations/0010 and
 * of the later ones that replace them.
 *
 * Always holds: one thing at a time, and `ended` is called once for each, never from inside the call that began it. A
 * batch that ended as LEDGER_LOST may be in the database or not: sent again, `begun` says which.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_LEDGER_H
#define APIKEYD_DAEMON_POSTGRES_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/config.h"

struct ledger;

enum { LEDGER_DIGEST_LEN = 32 };

#define LEDGER_TIMED_OUT "57014" /* the SQLSTATE of a statement that was ended by its timeout, or by somebody */

/* All borrowed until `ended`. */
struct ledger_batch {
	const char *chain, *host;
	uint64_t number;
	const char *kind; /* rows, compaction, pruning */
	int64_t made_at;
	uint64_t rows, lost;
	uint16_t pepper;
	const uint8_t *prev_head;
	uint32_t timeout_ms; /* of each statement; not below that of all statements */
	/* rows: */
	const char *rollups, *events; /* as COPY takes them */
	size_t rollups_len, events_len;
	const char *parts;		  /* JSON */
	const char *first_day, *last_day; /* NULL: there are no rows */
	/* compaction, pruning: */
	const char *tbl, *day;
};

/* What the database has of the chain. */
enum ledger_known {
	LEDGER_GO = 0, /* all before it */
	LEDGER_DONE,   /* a batch of that number, too */
	LEDGER_GAP,    /* not all before it */
};

enum ledger_outcome {
	LEDGER_COMMITTED = 0,
	LEDGER_LEFT,   /* `begun` did not want it */
	LEDGER_FAILED, /* it is not in the database: a line says why */
	LEDGER_LOST,   /* nobody knows: a line says why */
};

struct ledger_callbacks {
	/* Whether to send it. */
	bool (*begun)(void *data, enum ledger_known known, uint64_t last_batch, const uint8_t *last_head);
	/* Of rows: makes the head, now that it is known what it seals. */
	bool (*head)(void *data, uint64_t seals, const uint8_t *seals_digest, uint8_t *ret_head);
	/* The head is about to be sent: makes its MAC. */
	bool (*tried)(void *data, const uint8_t *head, uint64_t seals, uint8_t *ret_mac);
	/* One thing that is due. */
	void (*due)(void *data, const char *kind, const char *tbl, const char *day);
	/* `line` and `sqlstate` where it failed or was lost; the latter may be "". */
	void (*ended)(void *data, enum ledger_outcome outcome, const char *line, const char *sqlstate);
	void *data;
};

struct ledger *ledger_new(uv_loop_t *loop, const struct config *config, const struct ledger_callbacks *callbacks);
void ledger_reconfigure(struct ledger *ledger, const struct config *config);
/* Sends a batch; connects where it must, after the back-off where the last attempt failed. */
void ledger_send(struct ledger *ledger, const struct ledger_batch *batch);
/* Makes partitions ahead, and asks what is due. */
void ledger_ask(struct ledger *ledger);
/* Ends everything without `ended`; `closed` is called later, once, and then ledger_free may be. */
void ledger_close(struct ledger *ledger, void (*closed)(void *data));
void ledger_free(struct ledger *ledger); /* NULL is fine */

bool ledger_is_up(const struct ledger *ledger);
bool ledger_is_busy(const struct ledger *ledger); /* something is under way */

#endif
