/*
 * apikeyd.conf: every setting, its default, its check, and its text form.
 *
 * Owns the strings. Who calls it: main.c reads it, server.c reads it again on SIGHUP; everything else gets a
 * `const struct config *` and keeps none beyond its own life.
 *
 * Always holds: a config that config_load returned is whole and valid; a wrong file changes nothing and says file,
 * line, section, setting, the value and what would be right.
 */
#ifndef APIKEYD_DAEMON_CONFIG_H
#define APIKEYD_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "daemon/config_grace.h"
#include "daemon/log.h"

enum {
	CONFIG_SOCKETS_MAX = 16,  /* sections [socket NAME] */
	CONFIG_SECTION_SIZE = 64, /* of a section's name, terminated */
};

/* How far the daemon confines itself. */
enum config_confine {
	CONFIG_CONFINE_OFF = 0,
	CONFIG_CONFINE_LOG,	/* seccomp alone: the kernel writes down what would be refused */
	CONFIG_CONFINE_ENFORCE, /* as far as the kernel can */
	CONFIG_CONFINE_REQUIRE, /* the same, and no start where it cannot */
};

/* What the daemon does while the database has lost history and no administrator has accepted that. */
enum config_on_loss {
	CONFIG_KEEP = 0, /* keys that were denied stay denied */
	CONFIG_REFUSE,	 /* and nothing is answered */
};

struct config_socket {
	char *name; /* of [socket NAME]: 1 to 32 letters, digits, - and _; NULL: [socket] and [admin] */
	char *path;
	char *owner, *group; /* names or numbers; empty: leave as they are */
	uint32_t mode;
	char *stack; /* that judges what is asked here; empty: the request chooses; NULL for [admin] */
};

struct config_places; /* config_parse.c */

struct config {
	struct config_places *places; /* where settings stand; private */
	/* The check sockets: first [socket], default /run/apikeyd/check.sock, mode 0660; then each [socket NAME]. */
	struct config_socket check[1 + CONFIG_SOCKETS_MAX];
	unsigned check_count;
	/* [admin] the administration socket: default /run/apikeyd/admin.sock, mode 0600 */
	struct config_socket admin;
	char *admin_users; /* names or uids, comma-separated, whose peers may administer; default "root" (and always the daemon's own uid) */
	/* [database] */
	char *conninfo;		       /* libpq connection string or URI; a password belongs in PGPASSFILE */
	char *role;		       /* SET ROLE for the feed and the load; default apikeyd_check; empty: none */
	char *admin_conninfo;	       /* for administration; empty: the same as conninfo */
	char *admin_role;	       /* default apikeyd_admin */
	bool insecure_remote;	       /* allow a remote database without sslmode=verify-full; default no */
	uint32_t connect_timeout_ms;   /* 5000 */
	uint32_t statement_timeout_ms; /* 10000: of a poll and of an administrative change */
	uint32_t load_timeout_ms;      /* 600000: of one statement of the load */
	uint32_t keepalive_ms;	       /* 5000: TCP keepalive idle and tcp_user_timeout */
	uint32_t backoff_min_ms, backoff_max_ms; /* 100, 5000: between attempts to connect, doubled, with jitter */
	uint32_t poll_ms;			 /* 200 */
	uint32_t guard_ms;			 /* 10000: how often the change triggers are looked at */
	uint32_t apply_slice;			 /* 500: changed things staged or tidied in one turn of the loop */
	uint32_t admin_queue;			 /* 64: administrative requests waiting for the database */
	uint32_t admin_rows;			 /* 1000: rows that one list answer carries at most */
	uint32_t log_keep_ms;			 /* 3600000: how long changes stay in the change log */
	uint32_t log_rows;			 /* 1000000: changes that stay in it at most */
	uint32_t trim_ms;			 /* 60000: how often that is seen to; 0: by others */
	/* [freshness] */
	uint32_t max_stale_ms;	    /* 10000 */
	char *offline_grace;	    /* "PATTERN=DURATION, ..."; default empty */
	struct config_grace *grace; /* the same, to be asked; NULL: none */
	uint32_t heartbeat_ms;	    /* 1000: between two registrations */
	uint32_t verify_ms;	/* 10000: between two ranges of the copy that are verified; 0: only when asked for */
	uint32_t verify_things; /* 1000: things of a range */
	enum config_on_loss on_history_loss; /* keep */
	/* [state] */
	char *state_dir;  /* /var/lib/apikeyd; empty: what is to be remembered is in memory only */
	uint32_t denials; /* 1000000: keys that are denied for their own sake, and remembered */
	/* [ledger] */
	uint32_t ledger_spool_bytes;	    /* 67108864 */
	uint32_t ledger_flush_ms;	    /* 10000: between two batches */
	uint32_t ledger_batch_rows;	    /* 10000: of a batch at most */
	uint32_t ledger_sync_ms;	    /* 1000: how often the spool is brought to the disk; 0: never */
	uint32_t ledger_anchor_ms;	    /* 600000: between two anchors in the log */
	uint32_t ledger_events_per_second;  /* 100: of one caller and reason */
	uint32_t ledger_sources_per_minute; /* 1000: addresses of keys that were not proven */
	uint32_t ledger_denials_per_minute; /* 1000: of scopes and pages */
	/* [key] */
	char *brand;	   /* "ak" */
	char *pepper_file; /* credential:pepper */
	/* [stacks] */
	char *stack_dir;  /* /etc/apikeyd/stacks */
	char *module_dir; /* as installed: <libdir>/apikeyd/modules */
	/* [explain] */
	char *explain_users; /* as admin_users: who may ask `explain`; default "root"; empty: nobody (but always the daemon's own uid) */
	/* [confine] */
	enum config_confine seccomp, landlock; /* enforce, enforce */
	bool new_code;			       /* no: memory may become executable after the start */
	char *confine_read,
		*confine_write; /* absolute paths, comma-separated: what modules and libraries need beside the rest */
	char *confine_connect;	/* TCP ports, comma-separated, or "any": the same */
	/* [limits] */
	uint32_t message_bytes;		      /* 65536, at most that */
	uint32_t read_bytes;		      /* 262144: what one read of a connection takes at most */
	uint32_t connections;		      /* 4096 */
	uint32_t connections_per_uid;	      /* 2048 */
	uint32_t in_flight_per_connection;    /* 1024: requests waiting (min_rev, modules, administration) */
	uint32_t waiting;		      /* 65536: requests waiting in all */
	uint32_t waiting_bytes;		      /* 268435456: memory that waiting requests may take, in all */
	uint32_t module_pending;	      /* 1024: requests waiting for one line of a module */
	uint32_t output_bytes_per_connection; /* 4194304: bytes queued to a reader that does not read */
	uint32_t partial_message_ms;	      /* 10000: how long a message may be half there */
	uint32_t idle_ms;		      /* 0: a connection may be silent for ever */
	uint32_t pairs;			      /* 1024: of one check_many, at most that */
	uint32_t pages_per_answer;	      /* 500 */
	uint32_t deadline_ms;		      /* 1000: where the request names none */
	uint32_t deadline_max_ms;	      /* 60000 */
	uint32_t start_ms;		      /* 2000: how long who comes to a passed socket waits for the first copy */
	uint32_t stop_ms;		      /* 5000: how long a stop waits for what is in flight */
	/* [log] */
	enum log_level log_level; /* info */
};

/*
 * Reads a file over the defaults. Returns a new config, to be freed by config_free, or NULL with all errors found
 * written to `errors` (one a line, at most `error_size` bytes, terminated). path NULL: the defaults alone.
 */
struct config *config_load(const char *path, char *errors, size_t error_size);
void config_free(struct config *config); /* NULL is fine */

/* How long before a poll the registration may have been sent under which it confirms the copy. */
uint32_t config_margin_ms(const struct config *config);
/* How long after a registration was sent the daemon may answer from a poll that it lets confirm the copy. */
uint64_t config_lease_ms(const struct config *config);

/* The longest that any scope has as offline_grace, in milliseconds. */
uint32_t config_longest_grace_ms(const struct config *config);

/*
 * The settings in which two configurations differ and that take effect at the next start only, as "[section] setting",
 * and the sockets that came or went, as "[socket NAME] (new)" or "(gone)", comma-separated, into `names`. Returns how
 * many there are.
 */
unsigned config_needs_restart(const struct config *before, const struct config *after, char *names, size_t size);

/* The name of a check socket's section, as in "[socket NAME]" without the brackets, into `out`. Returns `out`. */
const char *config_socket_section(const struct config_socket *socket, char out[CONFIG_SECTION_SIZE]);

/*
 * Where a setting stands, for errors: "<file>:<line>", or "<file>" where it has its default. `section` as in the file:
 * "socket NAME". Returns `out`.
 */
const char *config_where(const struct config *config, const char *section, const char *name, char *out, size_t size);

/* Writes the effective configuration in the file's own form, each setting with its one-line help (-T). */
void config_print(const struct config *config, FILE *out);

/*
 * Goes through a comma-separated list of paths or ports: the next one into `out`, without the blanks around it. False at
 * the end. *at begins as the text and moves on.
 */
bool config_next(const char **at, char *out, size_t size);

/*
 * For the fuzz target and the tests: parses `len` bytes of text as the file `name`.
 */
struct config *config_parse(const char *text, size_t len, const char *name, char *errors, size_t error_size);

#endif
