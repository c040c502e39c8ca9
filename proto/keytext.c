#include "proto/keytext.h"

#include <endian.h>
#include <string.h>

#include "proto/crc32_table.h"

enum { BASE = 62, NO_DIGIT = 0xff };

static const char digits[BASE + 1] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* The value of a base62 digit, or something with the top bit set. */
static inline uint8_t digit_value(char c)
{
	unsigned char u = (unsigned char)c;

	if (u >= '0' && u <= '9')
		return (uint8_t)(u - '0');
	if (u >= 'A' && u <= 'Z')
		return (uint8_t)(u - 'A' + 10);
	if (u >= 'a' && u <= 'z')
		return (uint8_t)(u - 'a' + 36);
	return NO_DIGIT;
}

/* Writes `value` as exactly `count` digits, the most significant first. */
static void write_digits(uint64_t value, char *out, unsigned count)
{
	while (count-- > 0) {
		out[count] = digits[value % BASE];
		value /= BASE;
	}
}

/* `count` is small enough for 64 bits: at most ten digits. */
static bool read_digits(const char *text, unsigned count, uint64_t *ret)
{
	uint64_t value = 0;
	uint8_t bad = 0;

	for (unsigned i = 0; i < count; i++) {
		uint8_t digit = digit_value(text[i]);

		bad |= digit;
		value = value * BASE + digit;
	}
	if (bad & 0x80)
		return false;
	*ret = value;
	return true;
}

static const struct {
	char letter;
	const char *word;
} kinds[] = {
	[KEY_KIND_USER] = {'u', "user"},
	[KEY_KIND_ORGANIZATION] = {'o', "organization"},
	[KEY_KIND_BREAK_GLASS] = {'b', "break_glass"},
};

enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

const char *key_kind_word(enum key_kind kind)
{
	return kinds[(unsigned)kind < KINDS ? kind : KEY_KIND_USER].word;
}

char key_kind_letter(enum key_kind kind)
{
	return (unsigned)kind < KINDS ? kinds[kind].letter : '\0';
}

bool key_kind_from_word(const char *word, size_t len, enum key_kind *ret)
{
	for (unsigned i = 0; i < KINDS; i++) {
		if (len == strlen(kinds[i].word) && memcmp(word, kinds[i].word, len) == 0) {
			*ret = (enum key_kind)i;
			return true;
		}
	}
	return false;
}

bool keytext_brand_valid(const char *brand)
{
	size_t len = strnlen(brand, KEYTEXT_BRAND_MAX + 1);

	if (len == 0 || len > KEYTEXT_BRAND_MAX || brand[0] < 'a' || brand[0] > 'z')
		return false;
	for (size_t i = 1; i < len; i++) {
		bool letter = brand[i] >= 'a' && brand[i] <= 'z';
		bool number = brand[i] >= '0' && brand[i] <= '9';

		if (!letter && !number)
			return false;
	}
	return true;
}

bool keytext_peek(const char *text, size_t len, const char *brand, size_t brand_len, struct keytext *ret)
{
	const char *p = text + brand_len;
	enum key_kind kind;
	keytext_id id;

	if (len != brand_len + 1 + 1 + KEYTEXT_ID_LEN + 1 + KEYTEXT_SECRET_LEN + KEYTEXT_CRC_LEN)
		return false;
	if (memcmp(text, brand, brand_len) != 0)
		return false;
	if (p[0] == 'u')
		kind = KEY_KIND_USER;
	else if (p[0] == 'o')
		kind = KEY_KIND_ORGANIZATION;
	else if (p[0] == 'b')
		kind = KEY_KIND_BREAK_GLASS;
	else
		return false;
	if (p[1] != '_' || p[2 + KEYTEXT_ID_LEN] != '_')
		return false;
	if (!read_digits(p + 2, KEYTEXT_ID_LEN, &id))
		return false;
	ret->kind = kind;
	ret->id = id;
	memcpy(ret->id_text, p + 2, KEYTEXT_ID_LEN);
	ret->id_text[KEYTEXT_ID_LEN] = '\0';
	return true;
}

bool keytext_parse(const char *text, size_t len, const char *brand, size_t brand_len, struct keytext *ret)
{
	struct keytext public_part;
	const char *secret;
	uint64_t crc;
	uint8_t bad = 0;

	if (!keytext_peek(text, len, brand, brand_len, &public_part))
		return false;
	secret = text + len - KEYTEXT_CRC_LEN - KEYTEXT_SECRET_LEN;
	for (unsigned i = 0; i < KEYTEXT_SECRET_LEN; i++)
		bad |= digit_value(secret[i]);
	if (bad & 0x80)
		return false;
	if (!read_digits(text + len - KEYTEXT_CRC_LEN, KEYTEXT_CRC_LEN, &crc))
		return false;
	if (crc != keytext_crc32(text, len - KEYTEXT_CRC_LEN))
		return false;
	*ret = public_part;
	return true;
}

/* A 256-bit big-endian number as 43 digits: schoolbook division by 62, over and over. */
static void write_secret(const uint8_t secret[KEYTEXT_SECRET_BYTES], char *out)
{
	uint32_t limbs[KEYTEXT_SECRET_BYTES / 4];
	uint64_t rest = 0;

	memcpy(limbs, secret, sizeof(limbs));
	for (unsigned i = 0; i < KEYTEXT_SECRET_BYTES / 4; i++)
		limbs[i] = be32toh(limbs[i]);
	for (unsigned n = KEYTEXT_SECRET_LEN; n-- > 0;) {
		rest = 0;
		for (unsigned i = 0; i < KEYTEXT_SECRET_BYTES / 4; i++) {
			rest = rest << 32 | limbs[i];
			limbs[i] = (uint32_t)(rest / BASE);
			rest %= BASE;
		}
		out[n] = digits[rest];
	}
	explicit_bzero(limbs, sizeof(limbs));
	explicit_bzero(&rest, sizeof(rest));
}

size_t keytext_format(const char *brand, enum key_kind kind, keytext_id id, const uint8_t secret[KEYTEXT_SECRET_BYTES],
		      char out[KEYTEXT_MAX + 1])
{
	char letter = key_kind_letter(kind);
	size_t len;

	if (!letter || !keytext_brand_valid(brand))
		return 0;
	len = strlen(brand);
	memcpy(out, brand, len);
	out[len++] = letter;
	out[len++] = '_';
	write_digits(id, out + len, KEYTEXT_ID_LEN);
	len += KEYTEXT_ID_LEN;
	out[len++] = '_';
	write_secret(secret, out + len);
	len += KEYTEXT_SECRET_LEN;
	write_digits(keytext_crc32(out, len), out + len, KEYTEXT_CRC_LEN);
	len += KEYTEXT_CRC_LEN;
	out[len] = '\0';
	return len;
}

bool keytext_id_parse(const char *text, size_t len, keytext_id *ret)
{
	return len == KEYTEXT_ID_LEN && read_digits(text, KEYTEXT_ID_LEN, ret);
}

void keytext_id_format(keytext_id id, char out[KEYTEXT_ID_LEN + 1])
{
	write_digits(id, out, KEYTEXT_ID_LEN);
	out[KEYTEXT_ID_LEN] = '\0';
}

keytext_id keytext_id_from_random(const uint8_t random[16])
{
	const uint64_t ids = 839299365868340224; /* 62^10 */
	unsigned __int128 number = 0;

	for (unsigned i = 0; i < 16; i++)
		number = number << 8 | random[i];
	/* 128 bits onto fewer than 60: what the remainder favours is below 2^-68 */
	return (keytext_id)(number % ids);
}

uint32_t keytext_crc32(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint32_t crc = 0xffffffff;

	for (; len >= 8; len -= 8, p += 8) {
		uint32_t low, high;

		memcpy(&low, p, 4);
		memcpy(&high, p + 4, 4);
		low = le32toh(low) ^ crc;
		high = le32toh(high);
		crc = crc32_table[7][low & 0xff] ^ crc32_table[6][low >> 8 & 0xff] ^ crc32_table[5][low >> 16 & 0xff] ^
		      crc32_table[4][low >> 24] ^ crc32_table[3][high & 0xff] ^ crc32_table[2][high >> 8 & 0xff] ^
		      crc32_table[1][high >> 16 & 0xff] ^ crc32_table[0][high >> 24];
	}
	for (; len > 0; len--, p++)
		crc = crc >> 8 ^ crc32_table[0][(crc ^ *p) & 0xff];
	return ~crc;
}
