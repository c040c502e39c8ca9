/* Anchors in logs: what is one, what only looks like it, in pieces of any size, and how they are compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/apikeyctl/anchors.h"

#define CHAIN "0badcafe-0123-4567-89ab-cdef01234567"
#define OTHER "1badcafe-0123-4567-89ab-cdef01234567"
#define EIGHT "0123abcd"
#define HEAD  EIGHT EIGHT EIGHT EIGHT EIGHT EIGHT EIGHT EIGHT
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define LINE  ANCHOR_BEGINS CHAIN " batch=7 head=" HEAD

static struct anchors_reader reader;

/* In pieces of so many bytes; 0: in one. */
static struct anchors fed(const char *text, size_t len, size_t piece)
{
	struct anchors anchors = {0};

	reader.len = 0;
	for (size_t at = 0; at < len; at += piece ? piece : len) {
		size_t n = piece && piece < len - at ? piece : len - at;
		/* So that reading behind it is found. */
		char *copy = malloc(n);

		memcpy(copy, text + at, n);
		assert_true(anchors_feed(&anchors, &reader, copy, n, piece == 0));
		free(copy);
	}
	if (piece > 0)
		assert_true(anchors_feed(&anchors, &reader, "", 0, true));
	return anchors;
}

static size_t count_in(const char *text, size_t len)
{
	static const size_t pieces[] = {0, 1, 2, 7, 100, 1000};
	size_t count = 0;

	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		struct anchors anchors = fed(text, len, pieces[i]);

		if (i > 0 && anchors.count != count)
			fail_msg("%zu in one piece, %zu in pieces of %zu", count, anchors.count, pieces[i]);
		count = anchors.count;
		for (size_t n = 0; n < count; n++) {
			assert_int_equal(strlen(anchors.items[n].chain), ANCHOR_CHAIN_LEN);
			assert_int_equal(strlen(anchors.items[n].head), ANCHOR_HEAD_LEN);
			assert_true(anchors.items[n].batch > 0);
		}
		anchors_deinit(&anchors);
	}
	return count;
}

#define COUNT_IN(text) count_in(text, sizeof(text) - 1)

static void test_found_wherever_they_stand(void **state)
{
	struct anchors anchors = fed(LINE "\n", sizeof(LINE), 0);

	(void)state;
	assert_int_equal(anchors.count, 1);
	assert_string_equal(anchors.items[0].chain, CHAIN);
	assert_string_equal(anchors.items[0].head, HEAD);
	assert_int_equal(anchors.items[0].batch, 7);
	anchors_deinit(&anchors);

	assert_int_equal(COUNT_IN(LINE), 1);
	assert_int_equal(COUNT_IN(""), 0);
	assert_int_equal(COUNT_IN("Nov 30 06:00:00 host apikeyd[1]: info: " LINE "\nelse\n" LINE "\n"), 2);
	assert_int_equal(COUNT_IN("{\"MESSAGE\": \"" LINE "\", \"_PID\": \"1\"}\n"), 1);
	assert_int_equal(COUNT_IN(LINE LINE), 2);
	assert_int_equal(COUNT_IN("\0\0" LINE "\0" LINE), 2);
	assert_int_equal(COUNT_IN(ANCHOR_BEGINS LINE), 1);
	assert_int_equal(COUNT_IN(ANCHOR_BEGINS CHAIN " batch=9223372036854775807 head=" HEAD), 1);
}

static void test_what_only_looks_like_one(void **state)
{
	char text[sizeof(LINE)];

	(void)state;
	/* Each beginning of one. */
	for (size_t len = 0; len < sizeof(LINE) - 1; len++)
		assert_int_equal(count_in(LINE, len), 0);
	/* Each byte of it another: none, but where it is a digit of something. */
	for (size_t i = 0; i < sizeof(LINE) - 1; i++) {
		memcpy(text, LINE, sizeof(LINE));
		text[i] = 'x';
		assert_int_equal(count_in(text, sizeof(LINE) - 1), 0);
	}
	assert_int_equal(COUNT_IN(LINE "0"), 0);
	assert_int_equal(COUNT_IN(ANCHOR_BEGINS CHAIN " batch=0 head=" HEAD), 0);
	assert_int_equal(COUNT_IN(ANCHOR_BEGINS CHAIN " batch=07 head=" HEAD), 0);
	assert_int_equal(COUNT_IN(ANCHOR_BEGINS CHAIN " batch=-7 head=" HEAD), 0);
	assert_int_equal(COUNT_IN(ANCHOR_BEGINS CHAIN " batch=+7 head=" HEAD), 0);
	assert_int_equal(COUNT_IN(ANCHOR_BEGINS CHAIN " batch= 7 head=" HEAD), 0);
	assert_int_equal(COUNT_IN(ANCHOR_BEGINS CHAIN " batch= head=" HEAD), 0);
	assert_int_equal(COUNT_IN(ANCHOR_BEGINS CHAIN " batch=9223372036854775808 head=" HEAD), 0);
	assert_int_equal(COUNT_IN(ANCHOR_BEGINS CHAIN " batch=99999999999999999999999999999999999999 head=" HEAD), 0);
	assert_int_equal(COUNT_IN(ANCHOR_BEGINS "------------------------------------ batch=7 head=" HEAD), 0);
	assert_int_equal(COUNT_IN(ANCHOR_BEGINS "0BADCAFE-0123-4567-89AB-CDEF01234567 batch=7 head=" HEAD), 0);
	assert_int_equal(COUNT_IN(ANCHOR_BEGINS CHAIN "\n batch=7 head=" HEAD), 0);
}

/* A line that never ends takes no more memory than any other. */
static void test_long_lines(void **state)
{
	size_t len = 5 * ANCHORS_ROOM + 11, at = 3 * ANCHORS_ROOM - 60;
	char *text = malloc(len);

	(void)state;
	memset(text, 'l', len);
	memcpy(text + at, LINE, sizeof(LINE) - 1);
	memcpy(text + len - sizeof(LINE) + 1, LINE, sizeof(LINE) - 1);
	for (size_t piece = 0; piece < 200000; piece = piece * 3 + 1000) {
		struct anchors anchors = fed(text, len, piece);

		assert_int_equal(anchors.count, 2);
		assert_true(reader.len <= sizeof(LINE));
		anchors_deinit(&anchors);
	}
	free(text);
}

static void test_compared(void **state)
{
	static const char log[] =
		ANCHOR_BEGINS OTHER " batch=2 head=" HEAD "\n" LINE "\n" ANCHOR_BEGINS CHAIN " batch=10 head=" HEAD
				    "\n" LINE "\n" ANCHOR_BEGINS CHAIN " batch=7 head=" ZEROS "\n";
	struct anchors anchors = fed(log, sizeof(log) - 1, 0);

	(void)state;
	assert_int_equal(anchors.count, 5);
	anchors_sort(&anchors);
	assert_int_equal(anchors.count, 4); /* the same twice is once */
	assert_int_equal(anchors.items[0].batch, 7);
	assert_int_equal(anchors.items[1].batch, 7);
	assert_int_equal(anchors.items[2].batch, 10);
	assert_string_equal(anchors.items[3].chain, OTHER);
	anchors_meet(&anchors, CHAIN, 8, HEAD);
	anchors_meet(&anchors, "no chain", 7, HEAD);
	anchors_meet(&anchors, "2badcafe-0123-4567-89ab-cdef01234567", 7, HEAD);
	for (size_t i = 0; i < 4; i++)
		assert_false(anchors.items[i].met);
	anchors_meet(&anchors, CHAIN, 7, HEAD);
	assert_true(anchors.items[0].met && anchors.items[1].met && !anchors.items[2].met && !anchors.items[3].met);
	assert_true(!anchors.items[0].same && anchors.items[1].same); /* zeros stand before */
	anchors_meet(&anchors, OTHER, 2, ZEROS);
	assert_true(anchors.items[3].met && !anchors.items[3].same);
	anchors_deinit(&anchors);
	anchors_sort(&anchors);
	anchors_meet(&anchors, CHAIN, 7, HEAD);
	assert_int_equal(anchors.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found_wherever_they_stand),
		cmocka_unit_test(test_what_only_looks_like_one),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_compared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
