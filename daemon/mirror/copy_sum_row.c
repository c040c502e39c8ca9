#include "daemon/mirror/copy_sum_internal.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* 2000-01-01 in microseconds since 1970: PostgreSQL counts from there. */
static const int64_t epoch_2000 = INT64_C(946684800000000);

void row_put_bytes(struct copy_sums *sums, const void *data, size_t len)
{
	if (sums->room - sums->len < len) {
		size_t room = (sums->len + len) * 2 + 1024;
		uint8_t *out = realloc(sums->out, room);

		if (!out) {
			sums->failed = true;
			return;
		}
		sums->out = out;
		sums->room = room;
	}
	if (len > 0)
		memcpy(sums->out + sums->len, data, len);
	sums->len += len;
}

void row_put_number(struct copy_sums *sums, uint64_t number, unsigned bytes)
{
	uint8_t out[8];

	for (unsigned i = 0; i < bytes; i++)
		out[i] = (uint8_t)(number >> 8 * (bytes - 1 - i));
	row_put_bytes(sums, out, bytes);
}

void row_put_null(struct copy_sums *sums, enum row_type type)
{
	row_put_number(sums, type, 4);
	row_put_number(sums, UINT32_MAX, 4);
}

void row_put_int(struct copy_sums *sums, enum row_type type, int64_t number)
{
	unsigned bytes = type == ROW_INT2 ? 2 : type == ROW_INT4 ? 4 : 8;

	row_put_number(sums, type, 4);
	row_put_number(sums, bytes, 4);
	row_put_number(sums, (uint64_t)number, bytes);
}

void row_put_bool(struct copy_sums *sums, bool value)
{
	row_put_number(sums, ROW_BOOL, 4);
	row_put_number(sums, 1, 4);
	row_put_number(sums, value, 1);
}

void row_put_text(struct copy_sums *sums, enum row_type type, const void *data, size_t len)
{
	row_put_number(sums, type, 4);
	row_put_number(sums, len, 4);
	row_put_bytes(sums, data, len);
}

void row_put_time(struct copy_sums *sums, int64_t time)
{
	bool infinite = time == INT64_MIN || time == INT64_MAX;

	/* Wraps around for what no row can have. */
	row_put_int(sums, ROW_TIME, infinite ? time : (int64_t)((uint64_t)time - (uint64_t)epoch_2000));
}

size_t row_array_begin(struct copy_sums *sums, enum row_type type, enum row_type item, uint32_t count)
{
	size_t at;

	row_put_number(sums, type, 4);
	row_put_number(sums, 0, 4);
	at = sums->len;
	row_put_number(sums, count > 0, 4); /* dimensions */
	row_put_number(sums, 0, 4);	    /* no item is null */
	row_put_number(sums, item, 4);
	if (count > 0) {
		row_put_number(sums, count, 4);
		row_put_number(sums, 1, 4); /* they count from 1 */
	}
	return at;
}

void row_array_end(struct copy_sums *sums, size_t at)
{
	size_t end = sums->len;

	if (sums->failed)
		return;
	sums->len = at - 4;
	row_put_number(sums, end - at, 4);
	sums->len = end;
}

void row_put_item(struct copy_sums *sums, const void *data, size_t len)
{
	row_put_number(sums, len, 4);
	row_put_bytes(sums, data, len);
}

void row_begin(struct copy_sums *sums, unsigned columns)
{
	sums->len = 0;
	sums->failed = false;
	row_put_number(sums, columns, 4);
}

int row_end(struct copy_sums *sums, uint8_t ret[COPY_SUM_LEN])
{
	uint8_t hash[crypto_hash_sha256_BYTES];

	if (sums->failed)
		return -ENOMEM;
	crypto_hash_sha256(hash, sums->out, sums->len);
	memcpy(ret, hash, COPY_SUM_LEN);
	return 1;
}

void *row_sort_room(struct copy_sums *sums, uint32_t count, size_t size)
{
	size_t wanted = (count + 1U) * size;

	if (sums->sort_room < wanted) {
		void *grown = realloc(sums->sort, wanted * 2);

		if (!grown) {
			sums->failed = true;
			return NULL;
		}
		sums->sort = grown;
		sums->sort_room = wanted * 2;
	}
	return sums->sort;
}
