/* The scanner against a slow, recursive reading of the same specification. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proto/scan.h"

static uint64_t random_state = 0x2545f4914f6cdd1d;

static uint32_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 16);
}

/* ---- the reference ---- */

struct reference {
	const uint8_t *data;
	size_t len, at;
	uint64_t max;
	uint64_t owed; /* bytes that must still come for what was announced: one for each value */
	unsigned depth_max;
};

/* The big-endian number of `bytes` bytes after the lead; false: not there. */
static bool ref_number(const struct reference *r, unsigned bytes, uint64_t *ret)
{
	*ret = 0;
	if (r->len - r->at < 1 + bytes)
		return false;
	for (unsigned i = 1; i <= bytes; i++)
		*ret = *ret * 256 + r->data[r->at + i];
	return true;
}

static enum scan_result ref_value(struct reference *r, unsigned depth, bool outermost);

static enum scan_result ref_items(struct reference *r, unsigned head, uint64_t items, unsigned depth)
{
	if (depth + 1 > r->depth_max)
		return SCAN_TOO_DEEP;
	r->owed += items;
	if (r->at + head + r->owed > r->max)
		return SCAN_TOO_LONG;
	r->at += head;
	for (uint64_t i = 0; i < items; i++) {
		enum scan_result result;

		r->owed--;
		result = ref_value(r, depth + 1, false);
		if (result)
			return result;
	}
	return SCAN_MESSAGE;
}

static enum scan_result ref_bytes(struct reference *r, uint64_t bytes)
{
	if (r->at + bytes + r->owed > r->max)
		return SCAN_TOO_LONG;
	if (r->len - r->at < bytes)
		return SCAN_MORE;
	r->at += bytes;
	return SCAN_MESSAGE;
}

/* A value whose length stands in `width` bytes after its lead. */
static enum scan_result ref_sized(struct reference *r, unsigned width, unsigned extra)
{
	uint64_t n;

	if (r->at + 1 + width + extra + r->owed > r->max)
		return SCAN_TOO_LONG;
	if (!ref_number(r, width, &n))
		return SCAN_MORE;
	return ref_bytes(r, 1 + width + extra + n);
}

static enum scan_result ref_container(struct reference *r, unsigned width, unsigned each, unsigned depth)
{
	uint64_t n;

	if (r->at + 1 + width + r->owed > r->max)
		return SCAN_TOO_LONG;
	if (!ref_number(r, width, &n))
		return SCAN_MORE;
	return ref_items(r, 1 + width, n * each, depth);
}

static enum scan_result ref_value(struct reference *r, unsigned depth, bool outermost)
{
	uint8_t b;

	if (r->at + 1 + r->owed > r->max)
		return SCAN_TOO_LONG;
	if (r->at >= r->len)
		return SCAN_MORE;
	b = r->data[r->at];
	if (outermost && (b & 0xf0) != 0x90 && b != 0xdc && b != 0xdd)
		return SCAN_INVALID;
	if (b <= 0x7f || b >= 0xe0)
		return ref_bytes(r, 1);
	if (b <= 0x8f)
		return ref_items(r, 1, 2 * (b & 15), depth);
	if (b <= 0x9f)
		return ref_items(r, 1, b & 15, depth);
	if (b <= 0xbf)
		return ref_bytes(r, 1 + (b & 31));
	switch (b) {
	case 0xc0:
	case 0xc2:
	case 0xc3:
		return ref_bytes(r, 1);
	case 0xc4:
	case 0xd9:
		return ref_sized(r, 1, 0);
	case 0xc5:
	case 0xda:
		return ref_sized(r, 2, 0);
	case 0xc6:
	case 0xdb:
		return ref_sized(r, 4, 0);
	case 0xc7:
		return ref_sized(r, 1, 1);
	case 0xc8:
		return ref_sized(r, 2, 1);
	case 0xc9:
		return ref_sized(r, 4, 1);
	case 0xcc:
	case 0xd0:
		return ref_bytes(r, 2);
	case 0xcd:
	case 0xd1:
	case 0xd4:
		return ref_bytes(r, 3);
	case 0xd5:
		return ref_bytes(r, 4);
	case 0xca:
	case 0xce:
	case 0xd2:
		return ref_bytes(r, 5);
	case 0xd6:
		return ref_bytes(r, 6);
	case 0xcb:
	case 0xcf:
	case 0xd3:
		return ref_bytes(r, 9);
	case 0xd7:
		return ref_bytes(r, 10);
	case 0xd8:
		return ref_bytes(r, 18);
	case 0xdc:
		return ref_container(r, 2, 1, depth);
	case 0xdd:
		return ref_container(r, 4, 1, depth);
	case 0xde:
		return ref_container(r, 2, 2, depth);
	case 0xdf:
		return ref_container(r, 4, 2, depth);
	default:
		return SCAN_INVALID; /* 0xc1 */
	}
}

static enum scan_result reference(const uint8_t *data, size_t len, const struct scan_limits *limits, size_t *ret_size)
{
	struct reference r = {.data = data, .len = len, .max = limits->message_max, .depth_max = limits->depth_max};
	enum scan_result result = ref_value(&r, 0, true);

	if (result == SCAN_MESSAGE)
		*ret_size = r.at;
	return result;
}

/* ---- random messages ---- */

enum { BYTES_MAX = 4096 };

/* Writes a random value at `at`; returns where it ends. Never past BYTES_MAX. */
static size_t write_value(uint8_t *out, size_t at, unsigned depth)
{
	static const uint8_t leads[] = {0x00, 0x7f, 0xe0, 0xff, 0xc0, 0xc2, 0xc3, 0xca, 0xcb, 0xcc, 0xcd, 0xce,
					0xcf, 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xa0, 0xa5,
					0xbf, 0xd9, 0xda, 0xdb, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9};
	/* bytes after the lead and the length, by lead above */
	static const uint8_t bodies[] = {0, 0, 0, 0, 0,	 0, 0, 4,  8, 1, 2, 4, 8, 1, 2, 4, 8,
					 2, 3, 5, 9, 17, 0, 5, 31, 3, 3, 3, 3, 3, 3, 4, 4, 4};
	unsigned n = next_random() % 4;

	if (at > BYTES_MAX - 200)
		depth = 99;
	if (depth < SCAN_DEPTH_MAX && next_random() % 3 == 0) {
		bool map = next_random() & 1;

		switch (next_random() % 3) {
		case 0:
			out[at++] = (uint8_t)((map ? 0x80 : 0x90) | n);
			break;
		case 1:
			out[at++] = map ? 0xde : 0xdc;
			out[at++] = 0;
			out[at++] = (uint8_t)n;
			break;
		default:
			out[at++] = map ? 0xdf : 0xdd;
			memset(out + at, 0, 3);
			at += 3;
			out[at++] = (uint8_t)n;
		}
		for (unsigned i = 0; i < n * (map ? 2 : 1); i++)
			at = write_value(out, at, depth + 1);
		return at;
	}
	n = next_random() % sizeof(leads);
	out[at++] = leads[n];
	if (n >= 25) { /* with a length: 3 bytes of body, and the type of an ext */
		static const uint8_t widths[] = {1, 2, 4, 1, 2, 4, 1, 2, 4};

		memset(out + at, 0, widths[n - 25]);
		at += widths[n - 25];
		out[at - 1] = 3;
	}
	for (unsigned i = 0; i < bodies[n]; i++)
		out[at++] = (uint8_t)next_random();
	return at;
}

static size_t write_message(uint8_t *out)
{
	unsigned n = 1 + next_random() % 5;
	size_t at = 0;

	out[at++] = (uint8_t)(0x90 | n);
	for (unsigned i = 0; i < n; i++)
		at = write_value(out, at, 1);
	return at;
}

/* Asserts that scanner and reference agree, on a block that ends where the bytes do. */
static enum scan_result agree(const uint8_t *data, size_t len, const struct scan_limits *limits)
{
	uint8_t *exact = malloc(len ? len : 1);
	size_t size = 999999, want_size = 999999;
	enum scan_result result, want;

	assert_non_null(exact);
	memcpy(exact, data, len);
	result = scan_message(exact, len, limits, &size);
	want = reference(exact, len, limits, &want_size);
	if (result != want || size != want_size) {
		for (size_t i = 0; i < len; i++)
			fprintf(stderr, "%02x", exact[i]);
		fail_msg("max %zu depth %u: %d (%zu), the reference says %d (%zu)", limits->message_max,
			 limits->depth_max, result, size, want, want_size);
	}
	free(exact);
	return result;
}

static void random_bytes_as_the_reference(void **state)
{
	unsigned results[SCAN_INVALID + 1] = {0};

	(void)state;
	for (unsigned n = 0; n < 300000; n++) {
		struct scan_limits limits = {next_random() % 64, 1 + next_random() % SCAN_DEPTH_MAX};
		uint8_t data[48];
		size_t len = next_random() % sizeof(data);

		for (size_t i = 0; i < sizeof(data); i++) {
			data[i] = (uint8_t)next_random();
			/* heads and their lengths are rare among random bytes: have more of them */
			if (next_random() % 3 == 0)
				data[i] = (uint8_t)(0x80 + next_random() % 0x22);
			else if (next_random() % 3 == 0)
				data[i] = (uint8_t)(next_random() % 4);
			else if (next_random() % 3 == 0)
				data[i] = (uint8_t)(0xc0 + next_random() % 32);
		}
		if (next_random() % 8)
			data[0] = (uint8_t)(0x90 | next_random() % 6);
		results[agree(data, len, &limits)]++;
	}
	for (unsigned i = 0; i <= SCAN_INVALID; i++)
		assert_true(results[i] > 1000); /* every result was met, often */
}

static void messages_and_their_beginnings(void **state)
{
	const struct scan_limits limits = {BYTES_MAX, SCAN_DEPTH_MAX};
	static uint8_t data[BYTES_MAX + 64];

	(void)state;
	for (unsigned n = 0; n < 3000; n++) {
		size_t len = write_message(data);
		size_t step = len > 300 ? len / 100 : 1;
		size_t size;

		assert_true(len <= BYTES_MAX);
		assert_int_equal(agree(data, len, &limits), SCAN_MESSAGE);
		assert_int_equal(scan_message(data, len + 5, &limits, &size), SCAN_MESSAGE);
		assert_int_equal(size, len);
		for (size_t part = 0; part < len; part += step)
			assert_int_equal(agree(data, part, &limits), SCAN_MORE);
		/* exactly as long as is allowed, and one byte more */
		assert_int_equal(agree(data, len, &(struct scan_limits){len, SCAN_DEPTH_MAX}), SCAN_MESSAGE);
		assert_int_equal(agree(data, len, &(struct scan_limits){len - 1, SCAN_DEPTH_MAX}), SCAN_TOO_LONG);
	}
}

/* In pieces of any size: the same answer, and at the first byte that makes it certain. */
static void pieces_give_the_same(void **state)
{
	static uint8_t data[BYTES_MAX + 64];

	(void)state;
	for (unsigned n = 0; n < 3000; n++) {
		size_t len = write_message(data), at = 0, size = 0, whole_size = 0;
		struct scan_limits limits = {n % 3 ? BYTES_MAX : len - n % 2, n % 2 ? 8 : 3};
		enum scan_result result = SCAN_MORE, whole;
		struct scan scan = {0};

		if (n % 5 == 0)
			data[next_random() % len] = 0xc1;
		whole = scan_message(data, len, &limits, &whole_size);
		while (result == SCAN_MORE && at < len) {
			uint8_t *moved;

			at += 1 + next_random() % (n % 7 ? 3 : 100);
			if (at > len)
				at = len;
			moved = malloc(at);
			assert_non_null(moved);
			memcpy(moved, data, at);
			result = scan_resume(&scan, moved, at, &limits, &size);
			free(moved);
		}
		assert_int_equal(result, whole);
		assert_int_equal(size, whole_size);
		if (result != SCAN_MORE)
			assert_memory_equal(&scan, &(struct scan){0}, sizeof(scan));
	}
}

static void a_limit_that_shrinks_meanwhile(void **state)
{
	static const uint8_t data[] = {0x93, 0xa3, 'a', 'b', 'c', 0xa3, 'd', 'e', 'f', 0xc0};
	struct scan scan = {0};
	size_t size;

	(void)state;
	assert_int_equal(scan_resume(&scan, data, 7, &(struct scan_limits){10, 8}, &size), SCAN_MORE);
	assert_int_equal(scan_resume(&scan, data, 10, &(struct scan_limits){4, 8}, &size), SCAN_TOO_LONG);
}

/* What five bytes claim costs nothing: it ends at the head. */
static void claims_end_at_once(void **state)
{
	const struct scan_limits limits = {65536, 8};
	static const uint8_t claims[][7] = {
		{0xdd, 0xff, 0xff, 0xff, 0xff},	      {0x91, 0xdf, 0xff, 0xff, 0xff, 0xff},
		{0x91, 0xdb, 0xff, 0xff, 0xff, 0xff}, {0x91, 0xc6, 0x00, 0x01, 0x00, 0x00},
		{0xdd, 0x00, 0x01, 0x00, 0x00},	      {0x91, 0xdf, 0x00, 0x00, 0x80, 0x00},
	};
	size_t size;

	(void)state;
	for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++)
		assert_int_equal(scan_message(claims[i], claims[i][0] == 0xdd ? 5 : 6, &limits, &size), SCAN_TOO_LONG);
}

static void every_result_has_its_line(void **state)
{
	(void)state;
	for (int a = SCAN_MESSAGE; a <= SCAN_INVALID; a++) {
		assert_non_null(scan_error((enum scan_result)a));
		for (int b = SCAN_MESSAGE; b < a; b++)
			assert_string_not_equal(scan_error((enum scan_result)a), scan_error((enum scan_result)b));
	}
	assert_non_null(scan_error((enum scan_result)99));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_bytes_as_the_reference),
		cmocka_unit_test(messages_and_their_beginnings),
		cmocka_unit_test(pieces_give_the_same),
		cmocka_unit_test(a_limit_that_shrinks_meanwhile),
		cmocka_unit_test(claims_end_at_once),
		cmocka_unit_test(every_result_has_its_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
