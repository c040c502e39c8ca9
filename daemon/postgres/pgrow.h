/*
 * PostgreSQL's binary forms -> the rows that the copy takes: fields, arrays, the COPY stream, and the rows of the
 * queries in queries.h.
 *
 * Owns nothing: what is decoded points into the bytes that were given. Who calls it: load.c (COPY) and feed_rows.c
 * (results). Pure: no libpq, no loop.
 *
 * Always holds: no byte outside what was given is read, whatever it holds; a row that is not exactly what the query
 * promises is -EBADMSG, never a guess.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_PGROW_H
#define APIKEYD_DAEMON_POSTGRES_PGROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/mirror/copy.h"

/* One value of a row. len -1: SQL null. */
struct pgfield {
	const uint8_t *data;
	int32_t len;
};

/* Each returns false, with *ret untouched, where the field is null or not of that type's form. */
bool pgfield_bool(const struct pgfield *field, bool *ret);
bool pgfield_int16(const struct pgfield *field, int16_t *ret);
bool pgfield_int32(const struct pgfield *field, int32_t *ret);
bool pgfield_int64(const struct pgfield *field, int64_t *ret);
bool pgfield_text(const struct pgfield *field, struct rpc_text *ret);
bool pgfield_key_id(const struct pgfield *field, keytext_id *ret);
/* timestamptz, as microseconds since 1970 UTC; -infinity and infinity are INT64_MIN and INT64_MAX. */
bool pgfield_time(const struct pgfield *field, int64_t *ret);
/* inet or cidr. */
bool pgfield_network(const struct pgfield *field, struct rule_network *ret);

static inline bool pgfield_is_null(const struct pgfield *field)
{
	return field->len < 0;
}

/* An array of one dimension, walked from its first item. A null field is an empty array. */
struct pgarray {
	const uint8_t *at, *end;
	uint32_t count; /* items not yet walked */
};
bool pgarray_open(const struct pgfield *field, struct pgarray *ret);
bool pgarray_next(struct pgarray *array, struct pgfield *ret);

/* The stream of COPY ... (FORMAT binary). Zeroed is its start. */
struct pgcopy {
	const uint8_t *at, *end;
	bool started, ended; /* header seen, trailer seen */
};
/* The bytes of one CopyData message; what was given before must have been used up. */
void pgcopy_put(struct pgcopy *copy, const void *data, size_t size);
/* 1: a row of exactly `count` fields; 0: the message is used up; -EBADMSG. Rows never straddle messages. */
int pgcopy_next(struct pgcopy *copy, struct pgfield *fields, unsigned count);

/* ---- rows of queries.h: 0, or -EBADMSG ---- */

enum {
	PGROW_SCOPE = 3,
	PGROW_ROLE = 3,
	PGROW_GRANT = 4,
	PGROW_ORGANIZATION = 3,
	PGROW_PAGE = 4,
	PGROW_USER = 3,	  /* and its roles, by arrays or by rows of their own */
	PGROW_KEY = 18,	  /* and its narrowing, likewise */
	PGROW_MEMBER = 3, /* user, organization or page, role */
	PGROW_FIELDS_MAX = 24,
};

int pgrow_scope(const struct pgfield *fields, struct copy_scope_row *ret);
int pgrow_role(const struct pgfield *fields, struct copy_role_row *ret);
int pgrow_grant(const struct pgfield *fields, struct copy_grant_row *ret);
int pgrow_organization(const struct pgfield *fields, struct copy_organization_row *ret);
int pgrow_page(const struct pgfield *fields, struct copy_page_row *ret);
int pgrow_user(const struct pgfield *fields, struct copy_user_row *ret); /* no roles yet */
int pgrow_key(const struct pgfield *fields, struct copy_key_row *ret);	 /* no narrowing's rows yet */
int pgrow_member(const struct pgfield *fields, int64_t *ret_user, struct copy_role_at *ret);

#endif
