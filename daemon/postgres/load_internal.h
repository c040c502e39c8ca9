/*
 * The load from the inside: shared by load.c (the thread, its connection, the COPY protocol) and load_rows.c (which
 * tables, and what their rows become). Nobody else includes it.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_LOAD_INTERNAL_H
#define APIKEYD_DAEMON_POSTGRES_LOAD_INTERNAL_H

#include <libpq-fe.h>
#include <stdatomic.h>

#include "daemon/postgres/catalog.h"
#include "daemon/postgres/load.h"
#include "daemon/postgres/load_join.h"
#include "daemon/postgres/pgrow.h"

struct load {
	/* the loop's */
	uv_async_t finished;
	uv_work_t join;
	uv_thread_t thread;
	load_done done;
	void *data;
	/* given to the thread */
	struct conninfo_params params;
	char *session;
	uint32_t connect_timeout_ms, silence_ms;
	bool beside;
	uint32_t denial_limit;
	int wake; /* eventfd: readable once cancelled */
	atomic_bool cancelled;
	/* the thread's */
	PGconn *pq;
	const char *doing;
	struct catalog catalog;
	struct load_words roles, scopes;
	struct load_list organizations_of, pages_of;	      /* of users */
	struct load_list key_pages, key_scopes, key_networks; /* of keys */
	struct rule_network *networks;
	size_t network_count, network_cap;
	void *scratch[4]; /* the rows of one owner, for the call of copy_put_* */
	size_t scratch_cap[4];
	uint64_t rows, keys, started, said;
	struct copy *copy;
	struct denials *denials;
	uint64_t rev;
	struct load_result result;
};

/* 0, or as copy_put_*. */
typedef int (*load_row)(struct load *load, const struct pgfield *fields);

/* load.c */
/* Keeps the first failure's line; returns a negative errno. */
__attribute__((format(printf, 2, 3))) int load_fail(struct load *load, const char *format, ...);
/* Copies one table out, calling `each` for every row. */
int load_table(struct load *load, const char *doing, const char *sql, unsigned field_count, load_row each);

/* load_rows.c */
int load_tables(struct load *load);
void load_rows_deinit(struct load *load);

#endif
