/*
 * The text form of a key: <brand><u|o|b>_<id:10><secret:43><crc:6>, with an underscore between id and
 * secret, for example aku_0123456789_<49 characters>. Base62 is 0-9 A-Z a-z, in that (ASCII) order
 * of digit value.
 *
 * crc is CRC-32 (IEEE 802.3, reflected, as zlib's crc32) of all that stands before it, written as
 * six base62 digits, the most significant first. It tells a typing error from a key before any
 * look-up. It is no security.
 *
 * Pure functions: no I/O, no allocation, nothing kept. Callers wipe what they gave.
 */
#ifndef APIKEYD_PROTO_KEYTEXT_H
#define APIKEYD_PROTO_KEYTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	KEYTEXT_ID_LEN = 10,
	KEYTEXT_SECRET_LEN = 43, /* 256 bits: 43 x log2(62) = 256.03 */
	KEYTEXT_CRC_LEN = 6,
	KEYTEXT_BRAND_MAX = 16, /* brand: 1 to 16 characters of a-z 0-9, the first a letter */
	/* brand + kind letter + '_' + id + '_' + secret + crc */
	KEYTEXT_MAX = KEYTEXT_BRAND_MAX + 1 + 1 + KEYTEXT_ID_LEN + 1 + KEYTEXT_SECRET_LEN + KEYTEXT_CRC_LEN,
	KEYTEXT_SECRET_BYTES = 32,
};

enum key_kind {
	KEY_KIND_USER = 0,     /* letter u: acts as a person */
	KEY_KIND_ORGANIZATION, /* letter o: acts as an organization */
	KEY_KIND_BREAK_GLASS,  /* letter b: for hours, out of a file on the host; never in the store */
};

/* A key_id packed into 60 bits, base62 digits from the first character down: the form the mirror
 * indexes. */
typedef uint64_t keytext_id;

struct keytext {
	enum key_kind kind;
	keytext_id id;
	char id_text[KEYTEXT_ID_LEN + 1]; /* terminated; public */
};

/* "user", "organization", "break_glass": the words of the protocol; SQL has the first two. Never NULL. */
const char *key_kind_word(enum key_kind kind);
/* 'u', 'o', 'b'; 0 for a number that is no kind. */
char key_kind_letter(enum key_kind kind);
/* The other way about; `word` need not be terminated. False with *ret untouched for what is none. */
bool key_kind_from_word(const char *word, size_t len, enum key_kind *ret);

bool keytext_brand_valid(const char *brand);

/*
 * Reads the public part only: length for this brand, brand, kind letter, underscores, id alphabet.
 * Neither the secret's alphabet nor the checksum is looked at: enough to look a key up whose text
 * is then proven whole by a keyed hash or a remembered proof. `text` is `len` bytes, not
 * terminated. Returns true and fills *ret, or false with *ret untouched.
 */
bool keytext_peek(const char *text, size_t len, const char *brand, size_t brand_len, struct keytext *ret);

/* As keytext_peek, and the secret's alphabet and the checksum as well: the whole of
 * `malformed_key`. */
bool keytext_parse(const char *text, size_t len, const char *brand, size_t brand_len, struct keytext *ret);

/*
 * Writes a key. `id` is a packed key_id, `secret` 32 uniform random bytes (the secret
 * is their 256-bit big-endian number in base62). `out` takes KEYTEXT_MAX + 1 bytes and is
 * terminated. Returns the length without the terminator, or 0 when the brand or the kind is not
 * valid. The caller wipes `out`.
 */
size_t keytext_format(const char *brand, enum key_kind kind, keytext_id id, const uint8_t secret[KEYTEXT_SECRET_BYTES],
		      char out[KEYTEXT_MAX + 1]);

/* Ten base62 characters <-> the packed form. The first returns false for a wrong length or
 * alphabet. */
bool keytext_id_parse(const char *text, size_t len, keytext_id *ret);
void keytext_id_format(keytext_id id, char out[KEYTEXT_ID_LEN + 1]);

/* A uniform id from 128 random bits. */
keytext_id keytext_id_from_random(const uint8_t random[16]);

/* CRC-32 as zlib computes it (start with 0). Public for the test vectors. */
uint32_t keytext_crc32(const void *data, size_t len);

#endif
