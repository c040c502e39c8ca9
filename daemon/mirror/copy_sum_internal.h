/*
 * The inside of the sums: shared by copy_sum.c (walks), copy_sum_thing.c and copy_sum_catalog.c (what a thing's row holds),
 * and copy_sum_row.c (a row, as PostgreSQL's record_send() writes it).
 *
 * A row is written into sums->out; where memory runs out it goes on without effect, and row_end says so.
 */
#ifndef APIKEYD_DAEMON_MIRROR_COPY_SUM_INTERNAL_H
#define APIKEYD_DAEMON_MIRROR_COPY_SUM_INTERNAL_H

#include "daemon/mirror/copy_internal.h"
#include "daemon/mirror/copy_sum.h"

/* PostgreSQL's own numbers of types: they are part of its protocol. */
enum row_type {
	ROW_BOOL = 16,
	ROW_BYTES = 17,
	ROW_INT8 = 20,
	ROW_INT2 = 21,
	ROW_INT4 = 23,
	ROW_TEXT = 25,
	ROW_CIDR = 650,
	ROW_CIDRS = 651,
	ROW_TEXTS = 1009,
	ROW_INT8S = 1016,
	ROW_TIME = 1184,
};

void row_begin(struct copy_sums *sums, unsigned columns);
int row_end(struct copy_sums *sums, uint8_t ret[COPY_SUM_LEN]); /* 1 or -ENOMEM */

/* ---- columns ---- */
void row_put_null(struct copy_sums *sums, enum row_type type);
void row_put_int(struct copy_sums *sums, enum row_type type, int64_t number);
void row_put_bool(struct copy_sums *sums, bool value);
void row_put_text(struct copy_sums *sums, enum row_type type, const void *data, size_t len);
void row_put_time(struct copy_sums *sums, int64_t time); /* as in rule_who */
/* The head of an array; `count` items follow. Returns the place that row_array_end needs. */
size_t row_array_begin(struct copy_sums *sums, enum row_type type, enum row_type item, uint32_t count);
void row_array_end(struct copy_sums *sums, size_t at);
void row_put_item(struct copy_sums *sums, const void *data, size_t len);

/* ---- what these are made of ---- */
void row_put_bytes(struct copy_sums *sums, const void *data, size_t len);
void row_put_number(struct copy_sums *sums, uint64_t number, unsigned bytes);

/* Room to sort `count` things of that size in; NULL without memory, and then the row fails. */
void *row_sort_room(struct copy_sums *sums, uint32_t count, size_t size);

/* ---- things: 1, 0 where readers see no such thing, -ENOMEM; *ret_handle is its handle ---- */
int sum_catalog(struct copy_sums *sums, const struct copy *copy, uint8_t ret[COPY_SUM_LEN]);
int sum_organization(struct copy_sums *sums, const struct copy *copy, int64_t id, rule_handle *ret_handle,
		     uint8_t ret[COPY_SUM_LEN]);
int sum_page(struct copy_sums *sums, const struct copy *copy, int64_t id, rule_handle *ret_handle,
	     uint8_t ret[COPY_SUM_LEN]);
int sum_user(struct copy_sums *sums, const struct copy *copy, int64_t id, rule_handle *ret_handle,
	     uint8_t ret[COPY_SUM_LEN]);
int sum_key(struct copy_sums *sums, const struct copy *copy, const struct copy_key *key, uint8_t ret[COPY_SUM_LEN]);

#endif
