/*
 * What the store says of each thing, as a sum: the other side of mirror/copy_sum.h, which tells what it is made of.
 *
 * Each statement but the catalog's takes $1, an id, and $2, and answers the next $2 things after it in the order of
 * their ids, each with its sum. By index alone, as all of the feed (queries.h): a range costs what it holds, wherever
 * it lies. The rows are what the load reads (COLUMNS_…), since that is what a copy is to hold.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_QUERIES_VERIFY_H
#define APIKEYD_DAEMON_POSTGRES_QUERIES_VERIFY_H

#include "daemon/postgres/queries.h"

#define VERIFY_SUM(columns) "substr(sha256(record_send(ROW(" columns "))), 1, 8)"
#define VERIFY_RANGE	    " WHERE id > $1 ORDER BY id LIMIT $2::int4"

/* What is past int64, in microseconds from 1970 on, the copy takes for infinity (pgfield_time). */
#define VERIFY_PAST	       "'294247-01-10 04:00:54.775807+00'::timestamptz"
#define VERIFY_TIME(column)    "CASE WHEN " column " >= " VERIFY_PAST " THEN 'infinity' ELSE " column " END"
#define VERIFY_TIME_IF(column) "CASE WHEN " column " < " VERIFY_PAST " THEN " column " END"
#define VERIFY_NARROWING(flag, column, table)                                                                          \
	"CASE WHEN " flag " THEN ARRAY(SELECT n." column " FROM apikeyd." table                                        \
	" n WHERE n.key_id = k.id ORDER BY n." column ") END"
#define VERIFY_ROLES(column, table)                                                                                    \
	"ARRAY(SELECT m." column " || ' ' || m.role FROM apikeyd." table                                               \
	" m WHERE m.user_id = u.id ORDER BY m." column ")"

/* $1: nothing is before it. $2: 0 where nothing is to be answered. */
#define QUERY_VERIFY_CATALOG                                                                                                 \
	"SELECT $1::int8, " VERIFY_SUM(                                                                                      \
		"ARRAY(SELECT name || ' ' || page_level::int || organization_level::int FROM apikeyd.scope ORDER BY name), " \
		"ARRAY(SELECT place || ' ' || name || ' ' || rank FROM apikeyd.role ORDER BY place, name), "                 \
		"ARRAY(SELECT place || ' ' || role || ' ' || scope || CASE WHEN when_named THEN ' when_named' ELSE '' END "  \
		"FROM apikeyd.role_scope ORDER BY place, role, scope)") " LIMIT $2::int4"
#define QUERY_VERIFY_ORGANIZATIONS                                                                                     \
	"SELECT id, " VERIFY_SUM(COLUMNS_ORGANIZATION) " FROM apikeyd.organization" VERIFY_RANGE
#define QUERY_VERIFY_PAGES "SELECT id, " VERIFY_SUM(COLUMNS_PAGE) " FROM apikeyd.page" VERIFY_RANGE
#define QUERY_VERIFY_USERS                                                                                             \
	"SELECT id, " VERIFY_SUM(COLUMNS_USER                                                                          \
				 ", " VERIFY_ROLES("organization_id", "organization_member") ", " VERIFY_ROLES(        \
					 "page_id", "page_member")) " FROM apikeyd.user u" VERIFY_RANGE
#define QUERY_VERIFY_KEYS                                                                                                                                           \
	"SELECT id, " VERIFY_SUM(                                                                                                                                   \
		"id, kind = 'organization', coalesce(organization_id, user_id), access, hash, pepper_version, "                                                     \
		"narrowed_pages, narrowed_scopes, narrowed_networks, narrowed_rate, " VERIFY_TIME("not_before") ", " VERIFY_TIME("expires_at") ", " VERIFY_TIME_IF( \
			"retired_at") ", successor, disabled_at IS NOT NULL, "                                                                                      \
				      "revoked_at IS NOT NULL, rate_count, rate_period_s, " VERIFY_NARROWING(                                                       \
					      "narrowed_pages", "page_id",                                                                                          \
					      "key_page") ", " VERIFY_NARROWING("narrowed_scopes", "scope",                                                         \
										"key_scope") ", " VERIFY_NARROWING("narrowed_networks",                             \
														   "network",                                       \
														   "key_network")) " FROM apikeyd.key k" VERIFY_RANGE

#endif
