/*
 * What the daemon asks the database: the load's COPYs and the feed's batch. Column order is pgrow.h's.
 *
 * The feed's statements take $1, the applied revision, and see what changed after it (`rev > $1`). Each answers the
 * changed id first, then the columns of the row as it is now, all null where it is gone. They must run by index alone
 * (the session forbids scans and hash joins): with nothing changed each costs one look at the end of an index.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_QUERIES_H
#define APIKEYD_DAEMON_POSTGRES_QUERIES_H

/* More changes than this at once are not followed: a load is faster. */
#define QUERY_CHANGES_MAX "200000"
enum { FEED_CHANGES_MAX = 200000 };

#define COLUMNS_SCOPE	     "name, page_level, organization_level"
#define COLUMNS_ROLE	     "place, name, rank"
#define COLUMNS_GRANT	     "place, role, scope, when_named"
#define COLUMNS_ORGANIZATION "id, slug, standing = 'suspended'"
#define COLUMNS_PAGE	     "id, organization_id, slug, standing = 'archived'"
#define COLUMNS_USER	     "id, email, standing = 'suspended'"
#define COLUMNS_KEY                                                                                                    \
	"id, kind = 'organization', coalesce(organization_id, user_id), access, hash, pepper_version, "                \
	"narrowed_pages, narrowed_scopes, narrowed_networks, narrowed_rate, not_before, expires_at, retired_at, "      \
	"successor, disabled_at IS NOT NULL, revoked_at IS NOT NULL, rate_count, rate_period_s"

/* ---- the load ---- */

#define QUERY_LOAD_BEGIN "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
/* The first statement of the transaction: it fixes the snapshot, whose revision this is. */
#define QUERY_LOAD_HEAD                                                                                                \
	"SELECT coalesce((SELECT max(rev) FROM apikeyd.revision), 0), apikeyd.schema_version(), "                      \
	"(SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = 'apikeyd.key'::regclass), "                    \
	"(SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = 'apikeyd.page'::regclass), "                   \
	"(SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = 'apikeyd.user'::regclass)"

#define QUERY_COPY(what)	 "COPY (SELECT " what ") TO STDOUT (FORMAT binary)"
#define QUERY_COPY_SCOPES	 QUERY_COPY(COLUMNS_SCOPE " FROM apikeyd.scope")
#define QUERY_COPY_ROLES	 QUERY_COPY(COLUMNS_ROLE " FROM apikeyd.role")
#define QUERY_COPY_GRANTS	 QUERY_COPY(COLUMNS_GRANT " FROM apikeyd.role_scope")
#define QUERY_COPY_ORGANIZATIONS QUERY_COPY(COLUMNS_ORGANIZATION " FROM apikeyd.organization")
#define QUERY_COPY_PAGES	 QUERY_COPY(COLUMNS_PAGE " FROM apikeyd.page")
#define QUERY_COPY_MEMBERS	 QUERY_COPY("user_id, organization_id, role FROM apikeyd.organization_member")
#define QUERY_COPY_PAGE_MEMBERS	 QUERY_COPY("user_id, page_id, role FROM apikeyd.page_member")
#define QUERY_COPY_USERS	 QUERY_COPY(COLUMNS_USER " FROM apikeyd.user")
#define QUERY_COPY_KEY_PAGES	 QUERY_COPY("key_id, page_id FROM apikeyd.key_page")
#define QUERY_COPY_KEY_SCOPES	 QUERY_COPY("key_id, scope FROM apikeyd.key_scope")
#define QUERY_COPY_KEY_NETWORKS	 QUERY_COPY("key_id, network FROM apikeyd.key_network")
#define QUERY_COPY_KEYS		 QUERY_COPY(COLUMNS_KEY " FROM apikeyd.key")

/* ---- the feed ---- */

/*
 * Deterministic plans: by index whatever the statistics say, and no planning at each poll. Its functions look twice, and
 * the second look must see what came since.
 */
#define FEED_SESSION                                                                                                                   \
	"SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off; "                              \
	"SET enable_mergejoin = off; SET enable_bitmapscan = off; SET enable_hashagg = off; SET max_parallel_workers_per_gather = 0; " \
	"SET jit = off; SET default_transaction_isolation = 'read committed'; SET synchronous_commit = off; "

#define QUERY_LISTEN  "LISTEN apikeyd"
#define QUERY_SCHEMA  "SELECT apikeyd.schema_version()"
#define QUERY_PEPPERS "SELECT version, check_value FROM apikeyd.pepper"
#define QUERY_FAULTS  "SELECT f FROM apikeyd.trigger_faults() AS f"
#define QUERY_SEEN    "SELECT apikeyd.daemon_seen($1::uuid, $2, $3::int4, $4, $5::int8, $6::interval)"
#define QUERY_GONE    "SELECT apikeyd.daemon_gone($1::uuid)"
#define QUERY_TRIM                                                                                                     \
	"SELECT t.ran, t.revisions, t.changes, t.more FROM apikeyd.trim_change_log($1::interval, $2::int8, "           \
	"$3::interval) AS t"

#define QUERY_LOST                                                                                                     \
	"SELECT apikeyd.history_lost($1::uuid, $2::uuid, $3::int8, $4, $5, $6::bool, $7, $8, $9::int4, $10::int4, "    \
	"$11::int4, $12::text[])"
#define QUERY_ACCEPTED                                                                                                 \
	"SELECT apikeyd.history_accepted($1::uuid, $2::uuid, $3::int8, $4, $5::int4, $6::int4, $7::int4, $8::text[])"

#define QUERY_BEGIN  "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
#define QUERY_COMMIT "COMMIT"

/* It cannot lay macros out that take part in a string. */
/* clang-format off */

/*
 * The changes after $1, joined so that nothing but the two indexes can be used: OFFSET 0 keeps the planner from turning
 * it round, which it would after an import, when one transaction has all of the log.
 */
#define QUERY_AFTER(columns, where)                                                                                    \
	" FROM apikeyd.revision r CROSS JOIN LATERAL (SELECT " columns                                                 \
	" FROM apikeyd.change c WHERE c.txn = r.txn" where " OFFSET 0) AS d WHERE r.rev > $1"

/* floor, current revision, the database's time, is $1 in the log, did the catalog change, how many changes, WAL written. */
#define QUERY_HEAD                                                                                                     \
	"SELECT coalesce((SELECT max(rev) FROM apikeyd.feed_floor), 0), "                                              \
	"coalesce((SELECT max(rev) FROM apikeyd.revision), 0), clock_timestamp(), "                                    \
	"EXISTS (SELECT FROM apikeyd.revision WHERE rev = $1), "                                                       \
	"EXISTS (SELECT" QUERY_AFTER("", " AND c.kind = 'catalog'") "), "                                              \
	"(SELECT count(*) FROM (SELECT" QUERY_AFTER("", "") " LIMIT " QUERY_CHANGES_MAX " + 1) AS n), "        \
	"(pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::int8"

/* Does the revision that the daemon, in this life or the one before, had applied stand in the log? Does an older one? */
#define QUERY_PAST                                                                                                     \
	"SELECT EXISTS (SELECT FROM apikeyd.revision WHERE rev = $1), EXISTS (SELECT FROM apikeyd.revision WHERE rev < $1)"

#define QUERY_CHANGED(column, kind)                                                                                    \
	"WITH changed AS (SELECT DISTINCT n." column " FROM (SELECT d." column                                         \
	QUERY_AFTER("c." column, " AND c.kind = '" kind "'") " LIMIT " QUERY_CHANGES_MAX " + 1) AS n) "
#define QUERY_CATALOG_CHANGED " WHERE (SELECT EXISTS (SELECT" QUERY_AFTER("", " AND c.kind = 'catalog'") "))"

/* clang-format on */

#define QUERY_SCOPES "SELECT " COLUMNS_SCOPE " FROM apikeyd.scope" QUERY_CATALOG_CHANGED
#define QUERY_ROLES  "SELECT " COLUMNS_ROLE " FROM apikeyd.role" QUERY_CATALOG_CHANGED
#define QUERY_GRANTS "SELECT " COLUMNS_GRANT " FROM apikeyd.role_scope" QUERY_CATALOG_CHANGED

#define QUERY_ORGANIZATIONS                                                                                            \
	QUERY_CHANGED("id", "organization")                                                                            \
	"SELECT n.id, t.* FROM changed n LEFT JOIN LATERAL (SELECT " COLUMNS_ORGANIZATION                              \
	" FROM apikeyd.organization o WHERE o.id = n.id OFFSET 0) AS t ON true"
#define QUERY_PAGES                                                                                                    \
	QUERY_CHANGED("id", "page")                                                                                    \
	"SELECT n.id, t.* FROM changed n LEFT JOIN LATERAL (SELECT " COLUMNS_PAGE                                      \
	" FROM apikeyd.page p WHERE p.id = n.id OFFSET 0) AS t ON true"
#define QUERY_USERS                                                                                                    \
	QUERY_CHANGED("id", "user")                                                                                    \
	"SELECT n.id, t.*, m.ids, m.roles, q.ids, q.roles FROM changed n LEFT JOIN LATERAL (SELECT " COLUMNS_USER      \
	" FROM apikeyd.user u WHERE u.id = n.id OFFSET 0) AS t ON true "                                               \
	"CROSS JOIN LATERAL (SELECT array_agg(o.organization_id) AS ids, array_agg(o.role) AS roles "                  \
	"FROM apikeyd.organization_member o WHERE o.user_id = n.id) AS m "                                             \
	"CROSS JOIN LATERAL (SELECT array_agg(p.page_id) AS ids, array_agg(p.role) AS roles "                          \
	"FROM apikeyd.page_member p WHERE p.user_id = n.id) AS q"
#define QUERY_KEYS                                                                                                     \
	QUERY_CHANGED("key_id", "key")                                                                                 \
	"SELECT n.key_id, t.*, (SELECT array_agg(p.page_id) FROM apikeyd.key_page p WHERE p.key_id = n.key_id), "      \
	"(SELECT array_agg(s.scope) FROM apikeyd.key_scope s WHERE s.key_id = n.key_id), "                             \
	"(SELECT array_agg(w.network) FROM apikeyd.key_network w WHERE w.key_id = n.key_id) "                          \
	"FROM changed n LEFT JOIN LATERAL (SELECT " COLUMNS_KEY                                                        \
	" FROM apikeyd.key k WHERE k.id = n.key_id OFFSET 0) AS t ON true"

#endif
