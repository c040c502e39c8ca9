#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proto/keytext.h"

static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* xorshift: the same bytes in each run */
static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void random_bytes(uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(next_random() >> 24);
}

/* The definition, a bit at a time. */
static uint32_t slow_crc32(const uint8_t *data, size_t len)
{
	uint32_t crc = 0xffffffff;

	for (size_t i = 0; i < len; i++) {
		crc ^= data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0xedb88320 : crc >> 1;
	}
	return ~crc;
}

static void crc_is_the_definition(void **state)
{
	uint8_t data[300];

	(void)state;
	assert_int_equal(keytext_crc32("123456789", 9), 0xcbf43926);
	/* each byte in each lane of the tables, and every length and alignment */
	for (unsigned lane = 0; lane < 16; lane++) {
		for (unsigned byte = 0; byte < 256; byte++) {
			memset(data, 0, 16);
			data[lane] = (uint8_t)byte;
			assert_int_equal(keytext_crc32(data, 16), slow_crc32(data, 16));
		}
	}
	random_bytes(data, sizeof(data));
	for (size_t from = 0; from < 9; from++) {
		for (size_t len = 0; from + len <= sizeof(data); len++)
			assert_int_equal(keytext_crc32(data + from, len), slow_crc32(data + from, len));
	}
}

static size_t random_key(const char *brand, enum key_kind kind, keytext_id *id, char *out)
{
	uint8_t random[16], secret[KEYTEXT_SECRET_BYTES];

	random_bytes(random, sizeof(random));
	random_bytes(secret, sizeof(secret));
	*id = keytext_id_from_random(random);
	return keytext_format(brand, kind, *id, secret, out);
}

static void format_and_parse_agree(void **state)
{
	static const char *const brands[] = {"ak", "a", "statuspage2live0"};

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		const char *brand = brands[i % 3];
		size_t brand_len = strlen(brand);
		enum key_kind kind = (enum key_kind)(i / 3 % 3);
		char text[KEYTEXT_MAX + 1], id_text[KEYTEXT_ID_LEN + 1];
		struct keytext key, peeked;
		keytext_id id, again;
		size_t len = random_key(brand, kind, &id, text);

		assert_int_equal(len, brand_len + 62);
		assert_int_equal(strlen(text), len);
		assert_true(keytext_parse(text, len, brand, brand_len, &key));
		assert_int_equal(key.kind, kind);
		assert_int_equal(text[brand_len], key_kind_letter(kind));
		assert_true(key.id == id);
		keytext_id_format(id, id_text);
		assert_string_equal(key.id_text, id_text);
		assert_true(keytext_id_parse(id_text, KEYTEXT_ID_LEN, &again));
		assert_true(again == id);
		assert_true(keytext_peek(text, len, brand, brand_len, &peeked));
		assert_true(peeked.id == id && peeked.kind == kind);
	}
}

/* No other character at any place of a key is taken for the key, whatever it is. */
static void every_changed_byte_is_seen(void **state)
{
	char text[KEYTEXT_MAX + 1];
	struct keytext key = {.id = 42};
	keytext_id id;
	size_t len = random_key("ak", KEY_KIND_USER, &id, text);

	(void)state;
	for (size_t at = 0; at < len; at++) {
		char was = text[at];

		for (int c = 0; c < 256; c++) {
			if ((char)c == was)
				continue;
			text[at] = (char)c;
			assert_false(keytext_parse(text, len, "ak", 2, &key));
		}
		text[at] = was;
	}
	assert_int_equal(key.id, 42);
	assert_true(keytext_parse(text, len, "ak", 2, &key));
}

static void other_lengths_are_refused(void **state)
{
	char text[KEYTEXT_MAX + 1];
	struct keytext key;
	keytext_id id;
	size_t len = random_key("ak", KEY_KIND_USER, &id, text);

	(void)state;
	for (size_t n = 0; n <= len; n++) {
		/* a block of its own: nothing is read past the end */
		char *part = malloc(n ? n : 1);

		assert_non_null(part);
		memcpy(part, text, n);
		assert_int_equal(keytext_parse(part, n, "ak", 2, &key), n == len);
		assert_int_equal(keytext_peek(part, n, "ak", 2, &key), n == len);
		free(part);
	}
	assert_false(keytext_parse(text, len, "akx", 3, &key));
	assert_false(keytext_parse(text, len, "a", 1, &key));
}

static void peek_looks_at_the_public_part_alone(void **state)
{
	char text[KEYTEXT_MAX + 1];
	struct keytext key;
	keytext_id id;
	size_t len = random_key("ak", KEY_KIND_ORGANIZATION, &id, text);

	(void)state;
	for (size_t at = 0; at < len; at++) {
		char was = text[at];

		text[at] = '!';
		assert_int_equal(keytext_peek(text, len, "ak", 2, &key), at >= 15);
		text[at] = was;
	}
}

static void brands(void **state)
{
	static const struct {
		const char *brand;
		bool good;
	} cases[] = {
		{"ak", true},  {"a", true},    {"a1", true},   {"abcdefghijklmnop", true},
		{"", false},   {"1a", false},  {"Ak", false},  {"abcdefghijklmnopq", false},
		{"a_", false}, {"a-b", false}, {"a b", false}, {"\xc3\xa9", false},
	};
	const uint8_t secret[KEYTEXT_SECRET_BYTES] = {1};
	char out[KEYTEXT_MAX + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(keytext_brand_valid(cases[i].brand), cases[i].good);
		assert_int_equal(keytext_format(cases[i].brand, KEY_KIND_USER, 1, secret, out) != 0, cases[i].good);
	}
	out[0] = '!';
	assert_int_equal(keytext_format("ak", (enum key_kind)3, 1, secret, out), 0);
	assert_int_equal(out[0], '!');
}

static void ids(void **state)
{
	static const char *const wrong[] = {"",
					    "123456789",
					    "12345678901",
					    "12345 7890",
					    "1234_67890",
					    "123456789-",
					    ("\xff"
					     "123456789")};
	uint8_t random[16];
	unsigned seen[62] = {0};
	keytext_id id = 7;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_false(keytext_id_parse(wrong[i], strlen(wrong[i]), &id));
	assert_int_equal(id, 7);
	/* the largest and the smallest number of 128 bits are ids too */
	memset(random, 0xff, sizeof(random));
	id = keytext_id_from_random(random);
	assert_true(id < 839299365868340224u);
	memset(random, 0, sizeof(random));
	assert_true(keytext_id_from_random(random) == 0);
	/* every digit comes at every place, and about as often: 200 times each on average */
	for (unsigned i = 0; i < 62 * 20; i++) {
		char text[KEYTEXT_ID_LEN + 1];

		random_bytes(random, sizeof(random));
		keytext_id_format(keytext_id_from_random(random), text);
		for (const char *c = text; *c; c++)
			seen[strchr(alphabet, *c) - alphabet]++;
	}
	for (unsigned i = 0; i < 62; i++)
		assert_in_range(seen[i], 120, 290);
}

/* The secret is the 256-bit number, whole: reading the digits back gives the bytes. */
static void secret_is_the_number(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 200; n++) {
		uint8_t secret[KEYTEXT_SECRET_BYTES], back[KEYTEXT_SECRET_BYTES] = {0};
		char text[KEYTEXT_MAX + 1];

		random_bytes(secret, sizeof(secret));
		if (n < 2)
			memset(secret, n ? 0xff : 0, sizeof(secret));
		assert_int_equal(keytext_format("ak", KEY_KIND_USER, 5, secret, text), 64);
		for (unsigned i = 0; i < KEYTEXT_SECRET_LEN; i++) {
			unsigned carry = (unsigned)(strchr(alphabet, text[15 + i]) - alphabet);

			for (unsigned k = KEYTEXT_SECRET_BYTES; k-- > 0;) {
				carry += back[k] * 62u;
				back[k] = (uint8_t)carry;
				carry >>= 8;
			}
			assert_int_equal(carry, 0);
		}
		assert_memory_equal(back, secret, sizeof(secret));
	}
}

static void kind_words(void **state)
{
	(void)state;
	assert_string_equal(key_kind_word(KEY_KIND_USER), "user");
	assert_string_equal(key_kind_word(KEY_KIND_ORGANIZATION), "organization");
	assert_string_equal(key_kind_word(KEY_KIND_BREAK_GLASS), "break_glass");
	assert_string_equal(key_kind_word((enum key_kind)3), "user");
	assert_int_equal(key_kind_letter((enum key_kind)3), 0);
	for (unsigned i = 0; i < 3; i++) {
		const char *word = key_kind_word((enum key_kind)i);
		enum key_kind kind = (enum key_kind)((i + 1) % 3);

		assert_true(key_kind_from_word(word, strlen(word), &kind));
		assert_int_equal(kind, i);
		assert_int_equal(key_kind_letter(kind), "uob"[i]);
		assert_false(key_kind_from_word(word, strlen(word) - 1, &kind));
		assert_false(key_kind_from_word(word, 0, &kind));
	}
	for (int c = 0; c < 256; c++) {
		char text[KEYTEXT_MAX + 1];
		const uint8_t secret[KEYTEXT_SECRET_BYTES] = {1};
		struct keytext key;

		assert_int_equal(keytext_format("ak", KEY_KIND_BREAK_GLASS, 1, secret, text), 64);
		text[2] = (char)c;
		assert_int_equal(keytext_peek(text, 64, "ak", 2, &key), c == 'u' || c == 'o' || c == 'b');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc_is_the_definition),
		cmocka_unit_test(format_and_parse_agree),
		cmocka_unit_test(every_changed_byte_is_seen),
		cmocka_unit_test(other_lengths_are_refused),
		cmocka_unit_test(peek_looks_at_the_public_part_alone),
		cmocka_unit_test(brands),
		cmocka_unit_test(ids),
		cmocka_unit_test(secret_is_the_number),
		cmocka_unit_test(kind_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
