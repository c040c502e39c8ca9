/*
 * What makes a key's text provable: the peppers, the keyed hash under them, and the remembered proof.
 *
 * Owns the peppers, in locked memory that core dumps leave out and that is wiped at the end (libsodium's
 * sodium_malloc). Who calls it: main.c loads it, request.c proves, admin/key.c mints, postgres/feed.c compares the
 * check values. A pepper never leaves this file.
 *
 * The pepper file: a line a version, "<version> <64 hex digits>", version 1 to 32767; '#' starts a comment. It must
 * be a regular file that nobody but its owner can read (mode & 077 == 0), owned by root or by the daemon's user. The
 * highest version is the one that mints.
 * Keyed hash: BLAKE2b-256 with the pepper as key (RFC 7693), over the whole key text.
 * Remembered proof: SipHash-2-4-128 of the text under a random key of this process: 25 ns in place of 299.
 */
#ifndef APIKEYD_DAEMON_SECRET_H
#define APIKEYD_DAEMON_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { SECRET_HASH_LEN = 32, SECRET_PROOF_LEN = 16 };

struct secret;

/* Reads the pepper file. NULL with one line in `error` (naming the file, the line and what to do) where it cannot. */
struct secret *secret_load(const char *path, char *error, size_t error_size);
/* As secret_load, of text that was read already; `path` is for the line in `error`. The caller wipes the text. */
struct secret *secret_parse(const char *path, const char *text, size_t len, char *error, size_t error_size);
void secret_free(struct secret *secret); /* NULL is fine */

bool secret_has(const struct secret *secret, uint16_t version);
uint16_t secret_newest(const struct secret *secret);
/* The i-th version held, i from 0; 0 past the end. */
uint16_t secret_version_at(const struct secret *secret, unsigned i);

/* The keyed hash of a key's text. False where the version is not held: UNAVAILABLE `no_pepper`. */
bool secret_hash(const struct secret *secret, uint16_t version, const void *text, size_t len,
		 uint8_t ret[SECRET_HASH_LEN]);
/* What the database stores to know a pepper again without knowing it. */
bool secret_check_value(const struct secret *secret, uint16_t version, uint8_t ret[SECRET_HASH_LEN]);
/*
 * What a daemon signs the head of a batch of the ledger with: HMAC-SHA-256 under a key that is made of the pepper, and
 * so not in the database. False where the version is not held.
 */
bool secret_ledger_mac(const struct secret *secret, uint16_t version, const uint8_t head[SECRET_HASH_LEN],
		       uint8_t ret[SECRET_HASH_LEN]);
/* The remembered proof; never all zero. */
void secret_proof(const struct secret *secret, const void *text, size_t len, uint8_t ret[SECRET_PROOF_LEN]);
/* Constant time: no branch, and no more than the two words. */
static inline bool secret_proof_equal(const uint8_t a[SECRET_PROOF_LEN], const uint8_t b[SECRET_PROOF_LEN])
{
	uint64_t x[2], y[2];

	_Static_assert(SECRET_PROOF_LEN == sizeof(x), "a proof is two words");
	memcpy(x, a, sizeof(x));
	memcpy(y, b, sizeof(y));
	return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}
/* The bytes that exactly 2 * `size` hexadecimal digits stand for. False: they are something else. */
bool secret_from_hex(const char *text, size_t len, uint8_t *ret, size_t size);
/* Constant time. */
bool secret_equal(const void *a, const void *b, size_t len);
/* `len` bytes from the kernel. */
void secret_random(void *ret, size_t len);
void secret_wipe(void *data, size_t len);

#endif
