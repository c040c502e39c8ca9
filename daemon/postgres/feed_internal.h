/*
 * The feed from the inside: shared by feed.c (its life, sessions, and what comes next), feed_load.c (what
 * to do about surprises: the loads), feed_check.c (is this server and its schema to be believed), feed_batch.c (one
 * poll, sent and read), feed_rows.c (rows into the copy), feed_history.c (history that is lost), feed_entry.c (what the
 * ledger is told of that), feed_seen.c (this daemon's registration and lease) and feed_trim.c (the end of the log). Nobody
 * else includes it.
 *
 * Always holds: what was sent and not yet answered stands in `steps`, in order; at most one batch is under way; a
 * copy is staged into only by the batch that has it as its target. A poll confirms a copy only where a registration
 * was sent at most config_margin_ms before it, and was committed, in this session and so before the poll's snapshot:
 * what is answered from that poll is answered within that registration's lease.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_FEED_INTERNAL_H
#define APIKEYD_DAEMON_POSTGRES_FEED_INTERNAL_H

#include <libpq-fe.h>

#include "daemon/journal.h"
#include "daemon/postgres/catalog.h"
#include "daemon/postgres/connection.h"
#include "daemon/postgres/feed.h"
#include "daemon/postgres/load.h"
#include "daemon/uuid.h"

/* What is sent, each with one answer. Those before FEED_STEP_PREPARED are prepared statements. */
enum feed_step {
	FEED_STEP_BEGIN = 0,
	FEED_STEP_HEAD,
	FEED_STEP_PAST,
	FEED_STEP_PEPPERS,
	FEED_STEP_FAULTS,
	FEED_STEP_SCOPES,
	FEED_STEP_ROLES,
	FEED_STEP_GRANTS,
	FEED_STEP_ORGANIZATIONS,
	FEED_STEP_PAGES,
	FEED_STEP_USERS,
	FEED_STEP_KEYS,
	FEED_STEP_COMMIT,
	FEED_STEP_SEEN,
	FEED_STEP_GONE,
	FEED_STEP_TRIM,
	FEED_STEP_LOST, /* lost and accepted history for the ledger */
	FEED_STEP_ACCEPTED,
	FEED_STEP_VERIFY_CATALOG, /* as enum copy_kind */
	FEED_STEP_VERIFY_ORGANIZATIONS,
	FEED_STEP_VERIFY_PAGES,
	FEED_STEP_VERIFY_USERS,
	FEED_STEP_VERIFY_KEYS,
	FEED_STEP_PREPARED, /* their number */
	FEED_STEP_LISTEN = FEED_STEP_PREPARED,
	FEED_STEP_SCHEMA,
	FEED_STEP_PREPARE,
	/* ends of a group: where its outcome is known */
	FEED_STEP_SYNC_CHECK,
	FEED_STEP_SYNC_BATCH,
	FEED_STEP_SYNC_SEEN,
	FEED_STEP_SYNC_GONE,
	FEED_STEP_SYNC_ENTRY,
	FEED_STEP_SYNC_TRIM,
};

enum { FEED_STEPS_MAX = 64, FEED_GONE_MS = 1000, FEED_GAP_MS = 2, FEED_SILENCE_MS = 1000, FEED_PROBE_MS = 2000 };

/* How long one turn of the loop may stage or tidy, and what is tidied between two looks at the clock. */
enum { FEED_SLICE_NS = 100000, FEED_PIECE = 16 };

enum feed_reload {
	FEED_RELOAD_NONE = 0,
	FEED_RELOAD_FIRST,
	FEED_RELOAD_SERVER,  /* another server, database, timeline, or life of the postmaster */
	FEED_RELOAD_HISTORY, /* the applied revision is not in the log */
	FEED_RELOAD_REVOKED, /* a revoked key is not revoked any more */
	FEED_RELOAD_FLOOR,   /* force_reload, or the log was cut above what was applied */
	FEED_RELOAD_FAULTS,  /* change triggers were off: changes may have passed unseen */
	FEED_RELOAD_CHANGES, /* more changes at once than are worth following */
	FEED_RELOAD_WORN,
	FEED_RELOAD_COPY, /* the copy is not what the store has */
};

/* One poll. */
struct feed_batch {
	bool active;
	bool guarded;	     /* peppers and triggers were looked at, too */
	bool verified;	     /* it brings sums of a range, too */
	struct copy *target; /* staged into; NULL: only the guard's questions */
	int64_t sent_at;     /* boot µs */
	uint64_t applied, floor, rev, changes, lsn;
	int64_t database_time;
	bool in_log, catalog_changed;
	bool past_in_log, past_older; /* feed->history.applied is in the log; one before it is */
	bool leased;		      /* it may confirm a copy */
	struct journal_position here; /* it has ended well: where it is */
	int put_error;		      /* of the first row that the copy would not take */
	const char *put_table;
	uint64_t rows;
	struct catalog catalog;
	char error[512]; /* the first error of this group of steps, as a line */
	bool timed_out;	 /* that error was the statement timeout */
};

/* The guard's findings: what forbids to confirm the copy. */
struct feed_guard {
	char faults[512]; /* change triggers that are off, as a list; empty: none */
	unsigned fault_count;
	uint16_t wrong_pepper; /* a version held whose check value is another; 0: none */
	uint16_t not_held;     /* a version in the database that is not held; 0: none */
};

/* This daemon's registration, of this session. */
struct feed_seen {
	int64_t sent_at;    /* boot µs of the last one sent; 0: none */
	uint64_t rev;	    /* what that said */
	uint64_t lease_ms;  /* and asked for */
	int64_t held_at;    /* boot µs at which the last one that committed was sent; 0: none */
	uint64_t held_ms;   /* and its lease */
	char reported[512]; /* why it was refused; logged once */
};

/* What a load goes through before it takes the old copy's place. */
enum feed_settle {
	FEED_SETTLE_NOT = 0,
	FEED_SETTLE_CHECK, /* is there a key that was revoked and is no more? */
	FEED_SETTLE_HOLD,  /* history is lost: what denies less than was known is held */
	FEED_SETTLE_KNOW,  /* what was known becomes what the load says */
	FEED_SETTLE_MORE,  /* and what it says beyond that is known, too */
	FEED_SETTLE_WRITE, /* waits for the journal */
};

struct feed_denial {
	keytext_id id;
	struct denial denial;
};

struct feed_history {
	struct journal_position applied; /* as of the last publish, or as the journal says */
	/* of the batch under way, where it is for the current copy: keys that are not as known */
	struct feed_denial *changes;
	size_t change_count, change_room;
	bool stronger, unrevoked;
	bool evidence; /* the load that goes on is for a key that ceased to be revoked */
	/* the load's, and what followed */
	struct denials *fresh;
	bool fresh_lacks;
	enum feed_settle settle;
	uint32_t at;	      /* place in the walk */
	bool again;	      /* all of it is written, known or not */
	enum journal_why why; /* what this load shows */
	bool overdue;	      /* it takes too long, unless it has ended by the next turn */
	bool waiting;	      /* for the journal, to go on with this batch */
	struct feed_batch batch;
	int64_t placed_at;
	uint64_t late;
};

/* What the ledger is being told, and how that goes. */
struct feed_entry {
	enum journal_note_kind kind;
	uint8_t id[JOURNAL_ID_LEN];
	bool made;	  /* it was not there before */
	int64_t retry_at; /* boot µs */
	uint32_t backoff_ms;
	char reported[512]; /* why it was refused; logged once */
	uint64_t entered, failures;
};

struct feed {
	uv_loop_t *loop;
	struct journal *journal;
	const struct config *config;
	const struct secret *secret;
	struct mirror *mirror;
	struct feed_callbacks callbacks;

	struct connection *link, *probe;
	uv_timer_t poll_timer, silence_timer, load_timer, probe_timer, late_timer;
	uv_idle_t worker; /* runs while there is a backlog of rows or tidying */
	unsigned closing;
	bool started, stopping, dead; /* dead: fatal was called */
	bool leaving;		      /* stops as soon as the registration is taken back */
	bool ready;

	uint8_t steps[FEED_STEPS_MAX];
	unsigned step_at, step_count;
	bool checking;	    /* the steps are those of a new session's check: rows are not for a copy */
	bool following;	    /* the session has passed its check */
	bool again;	    /* poll as soon as may be */
	bool tidying;	    /* the current copy, or the fresh one */
	bool backlog;	    /* reading is stopped until the rows at hand are staged */
	uint32_t budget;    /* rows that this turn may still stage */
	uint64_t slice_end; /* loop's clock, ns: until when */
	int64_t polled_at;  /* boot µs of the last batch sent; 0: none in this session */
	int64_t guarded_at, trimmed_at;
	bool trim_more; /* there was more to delete */
	bool sure;	/* a poll of this session has found the current copy good */
	struct feed_seen seen;
	struct feed_batch batch;
	struct feed_history history;
	struct feed_entry entry;
	struct feed_guard guard, looked; /* what holds, and what is being read */
	bool guard_bad;			 /* the last look found what forbids to confirm */
	bool warned_not_held;
	bool failure_counted; /* what ends this session was counted already */
	char stuck[256];      /* why rows are not taken; logged once */
	int64_t clock_ahead;  /* µs that the database's clock is ahead of the local one */
	bool clock_differs;   /* by so much that it was logged */

	struct connection_identity identity, fresh_identity; /* of what the copies were loaded from */
	struct load *load;
	bool load_stale;    /* its result is not wanted any more */
	struct copy *fresh; /* loaded, not yet caught up */
	enum feed_reload reload;
	bool suspect; /* the current copy must not be followed: only a load helps */
	uint32_t load_backoff_ms;
	char load_reported[512];

	struct feed_verify *verify;
	unsigned probe_host, switch_host;

	/* rows of one user or key, kept for the next */
	void *scratch[5];
	size_t scratch_cap[5];

	uint8_t id[16];
	char host[256];
	struct {
		uint64_t polls, publishes, changes, notifications, sessions, loads, load_failures, reloads, histories,
			forced, faults, failures, seen, seen_failures, trims, trim_failures, trimmed_revisions,
			trimmed_changes, last_load_ms, last_load_keys;
	} count;
};

/* feed.c */
/* The session has passed its check. */
void feed_follow(struct feed *feed);
/* Nothing is under way any more: schedules what comes next. */
void feed_next(struct feed *feed);
/* One thing less to wait for while stopping. */
void feed_closed(struct feed *feed);
/* Whether or not the registration was taken back: the rest of feed_stop. */
void feed_leave(struct feed *feed);

/* feed_load.c */
/* A fresh load is needed. `suspect`: until then the current copy must not be followed or confirmed. */
void feed_want_reload(struct feed *feed, enum feed_reload reload, bool suspect);
/* Starts the load that is wanted, if it can be now. */
void feed_load_begin(struct feed *feed);
/* The new copy has caught up, as of that batch, and is settled: it becomes the current one. */
void feed_swap(struct feed *feed, const struct feed_batch *batch);
void feed_drop_fresh(struct feed *feed);
bool feed_same_life(const struct connection_identity *a, const struct connection_identity *b);

/* feed_check.c */
bool feed_check_send(struct feed *feed);
/* The whole check was answered without an error: goes on to feed_follow, or fails the session. */
void feed_check_end(struct feed *feed);
void feed_guard_begin(struct feed *feed);
void feed_guard_row(struct feed *feed, enum feed_step step, const PGresult *result, int row);
/* All was read: takes it over, logs what changed. False where it forbids to confirm. */
bool feed_guard_end(struct feed *feed);
/*
 * How far a clock that read `there` is ahead of one that read `before` and `after` around it: negative where it is
 * behind, 0 where both may be right. All in µs.
 */
int64_t feed_clock_ahead(int64_t there, int64_t before, int64_t after);
/* A poll came back: logs when the local clock begins or ceases to differ. Nothing is judged by it, but people read it. */
void feed_clock_look(struct feed *feed);

/* feed_batch.c */
/* A turn of the loop begins: what it may take over, and for how long. */
void feed_slice_begin(struct feed *feed);
bool feed_slice_is_over(const struct feed *feed);
bool feed_push(struct feed *feed, enum feed_step step);		   /* sends a prepared statement, or a sync */
bool feed_queue(struct feed *feed, enum feed_step step, int sent); /* notes what was sent otherwise */
const char *feed_step_sql(enum feed_step step);
const char *feed_step_name(enum feed_step step);
/* A poll of the current copy ended well: that stands as of then. */
void feed_apply(struct feed *feed, const struct feed_batch *batch);
/* Sends a poll, if one may be sent now; else remembers it. */
void feed_poll(struct feed *feed);
/* Takes the notifications that have been read: each asks for another poll. */
void feed_hear(struct feed *feed, PGconn *pq);
/* Reads what there is, staging at most `budget` rows. */
void feed_read(struct feed *feed);
/* The session is gone: what was under way ends without effect. */
void feed_batch_drop(struct feed *feed);

/* feed_history.c */
void feed_history_start(struct feed *feed);
void feed_history_deinit(struct feed *feed);
/* One row of a key, or that it is gone, for the batch's target. 0 or -ENOMEM. */
int feed_history_row(struct feed *feed, keytext_id id, struct denial denial);
void feed_history_past(struct feed *feed, const PGresult *result);
/* The batch ends without effect, or another one begins. */
void feed_history_forget(struct feed *feed);
/* The batch for the current copy has ended well: true where it is applied later, when the journal has what it denies. */
bool feed_history_write(struct feed *feed);
/* It is published: what denies less than before is followed. */
void feed_history_applied(struct feed *feed, const struct feed_batch *batch);
/* The batch for the new copy has ended well: settles it, then swaps it in. */
void feed_history_settle(struct feed *feed);
bool feed_history_is_busy(const struct feed *feed);  /* the copies must stay as they are: no poll */
bool feed_history_has_work(const struct feed *feed); /* for feed_history_slice, a turn of the loop's worth each */
void feed_history_slice(struct feed *feed);
void feed_history_swapped(struct feed *feed);
/* The new copy is dropped. */
void feed_history_drop(struct feed *feed);
/* The daemon ends: its next life is to know what this one had applied. */
void feed_history_leave(struct feed *feed);
/* The loss or the configuration has changed: are answers refused? */
void feed_history_refuse(struct feed *feed);
/* feed_history_show.c: adds counters to the feed's part of `stats`. */
bool feed_history_stats(const struct feed *feed, struct arena *arena, struct value *map);

/* feed_entry.c */
int64_t feed_entry_now(void); /* µs since 1970, by the local clock */
/* What is held for the loss that stands is complete: a note of it, if there is none yet. In the journal by the next sync. */
void feed_entry_lost(struct feed *feed);
/* The same of its acceptance, before what is held is let go. */
void feed_entry_accepted(struct feed *feed, uint32_t uid);
bool feed_entry_is_due(const struct feed *feed, int64_t now);
bool feed_entry_push(struct feed *feed); /* where one is due */
void feed_entry_row(struct feed *feed, const PGresult *result);
void feed_entry_end(struct feed *feed);
bool feed_entry_stats(const struct feed *feed, struct arena *arena, struct value *map);
bool feed_entry_show(const struct feed *feed, struct arena *arena, struct value *map); /* of the loss that stands */

/* feed_seen.c */
/* A new session: nothing that was committed on another counts. */
void feed_seen_begin(struct feed *feed);
/* When to register, boot µs: at each heartbeat, and soon after another revision was applied. */
int64_t feed_seen_due(const struct feed *feed);
bool feed_seen_push(struct feed *feed, int64_t now);
void feed_seen_end(struct feed *feed);
/* Whether a poll sent then may confirm a copy; if so, the mirror knows until when it may be answered from. */
bool feed_seen_holds(struct feed *feed, int64_t sent_at);
/* Takes the registration back. False where there is none to take back, or no way. */
bool feed_gone_push(struct feed *feed);

/* feed_trim.c */
bool feed_trim_is_due(const struct feed *feed, int64_t now);
bool feed_trim_push(struct feed *feed, int64_t now);
void feed_trim_row(struct feed *feed, const PGresult *result);
void feed_trim_end(struct feed *feed);

/* feed_verify.c: is the copy what the store has? */
struct feed_verify *feed_verify_new(void); /* NULL without memory */
void feed_verify_free(struct feed_verify *verify);
/* Whether the poll about to be sent is to bring a range (a new pass begins where there is none), and sends for it. */
bool feed_verify_is_due(struct feed *feed, int64_t now);
bool feed_verify_push(struct feed *feed);
/* Sends all of the statements, for nothing. */
bool feed_verify_try(struct feed *feed);
void feed_verify_row(struct feed *feed, enum feed_step step, const PGresult *result, int row);
/* The poll that brought the range has ended well, and what it brought is published: it is compared from now on. */
void feed_verify_begin(struct feed *feed);
/* The poll has ended without effect; it failed in the statement that brings the range. */
void feed_verify_drop(struct feed *feed);
void feed_verify_failed(struct feed *feed, const char *line);
/* Another copy is in place. */
void feed_verify_swapped(struct feed *feed);
bool feed_verify_is_busy(const struct feed *feed);  /* the copy must stay as it is: no poll */
bool feed_verify_has_work(const struct feed *feed); /* for feed_verify_slice, a turn of the loop's worth each */
bool feed_verify_hurries(const struct feed *feed);  /* a poll is wanted for the sake of the next range */
void feed_verify_slice(struct feed *feed);
/* feed_verify_show.c: adds counters to the feed's part of `stats`. */
bool feed_verify_stats(const struct feed *feed, struct arena *arena, struct value *map);

/* feed_rows.c: one row into the batch's target. 0, or as copy_put_*. */
int feed_row(struct feed *feed, enum feed_step step, const PGresult *result, int row);
void feed_rows_deinit(struct feed *feed);

#endif
