#include "daemon/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/credential.h"

enum { PEPPER_LEN = 32, PEPPERS_MAX = 64, FILE_MAX = 32768 };

static const char check_label[] = "apikeyd pepper check v1";
static const char mac_label[] = "apikeyd ledger mac v1";

struct secret {
	uint8_t proof_key[crypto_shorthash_siphashx24_KEYBYTES];
	unsigned count;
	struct pepper {
		uint16_t version;
		uint8_t bytes[PEPPER_LEN];
	} peppers[PEPPERS_MAX];
};
_Static_assert(SECRET_HASH_LEN == crypto_generichash_BYTES, "BLAKE2b-256");
_Static_assert(SECRET_PROOF_LEN == crypto_shorthash_siphashx24_BYTES, "SipHash-2-4-128");

/* ---- the file ---- */

/* A service manager may let the daemon read a file of root's by an access list, whose mask stands where a group's would. */
static mode_t others(const struct stat *st, bool credential)
{
	return st->st_mode & (credential && st->st_uid == 0 && st->st_gid == 0 ? 037 : 077);
}

/* Reads the whole of `file`, named `path`, into locked memory. Returns its length, or -1 with a line in `error`. */
static ssize_t read_file(const char *path, const char *file, char *text, char *error, size_t error_size)
{
	struct stat st;
	ssize_t got = -1;
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0) {
		snprintf(error, error_size,
			 errno == ELOOP ? "pepper file %s: is a symbolic link; name the file itself"
			 : errno == EACCES
				 ? "pepper file %s: %s; apikeyd's user must own it (mode 0600) and reach its directory"
				 : "pepper file %s: %s; make one, or name the right one in key.pepper_file",
			 path, strerror(errno));
		return -1;
	}
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		snprintf(error, error_size, "pepper file %s: is not a regular file", path);
	} else if (others(&st, credential_is(path))) {
		snprintf(error, error_size, "pepper file %s: others can use it (mode %04o); run chmod 0600 on it", path,
			 (unsigned)(st.st_mode & 07777));
	} else if (st.st_uid != 0 && st.st_uid != geteuid()) {
		snprintf(error, error_size, "pepper file %s: belongs to uid %u; it must be root's or the daemon's",
			 path, (unsigned)st.st_uid);
	} else {
		size_t len = 0;

		while (len < FILE_MAX && (got = read(fd, text + len, FILE_MAX - len)) > 0)
			len += (size_t)got;
		if (got < 0)
			snprintf(error, error_size, "pepper file %s: %s", path, strerror(errno));
		else if (len == FILE_MAX)
			snprintf(error, error_size, "pepper file %s: longer than %d bytes", path, FILE_MAX - 1),
				got = -1;
		else
			got = (ssize_t)len;
	}
	close(fd);
	return got;
}

/* A place for this version, in order; NULL where it stands there already. No copy of a pepper comes to be elsewhere. */
static struct pepper *place_for(struct secret *secret, uint16_t version)
{
	unsigned at = 0;

	while (at < secret->count && secret->peppers[at].version < version)
		at++;
	if (at < secret->count && secret->peppers[at].version == version)
		return NULL;
	struct pepper *pepper = &secret->peppers[at];

	memmove(pepper + 1, pepper, (secret->count++ - at) * sizeof(*pepper));
	pepper->version = version;
	return pepper;
}

/* One line, without its newline: empty, a comment, or "<version> <64 hex digits>". Returns NULL or what is wrong. */
static const char *parse_line(struct secret *secret, const char *line, size_t len)
{
	unsigned version = 0;
	size_t at = 0;

	while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t' || line[len - 1] == '\r'))
		len--;
	while (at < len && (line[at] == ' ' || line[at] == '\t'))
		at++;
	if (at == len || line[at] == '#')
		return NULL;
	size_t digits = at;

	while (at < len && at - digits < 6 && line[at] >= '0' && line[at] <= '9')
		version = version * 10 + (unsigned)(line[at++] - '0');
	if (at == digits || version < 1 || version > INT16_MAX || at == len || (line[at] != ' ' && line[at] != '\t'))
		return "it must begin with a version from 1 to 32767 and a space";
	while (at < len && (line[at] == ' ' || line[at] == '\t'))
		at++;
	if (secret->count == PEPPERS_MAX)
		return "there are more than 64 versions";
	struct pepper *pepper = place_for(secret, (uint16_t)version);

	if (!pepper)
		return "this version stands there twice";
	if (!secret_from_hex(line + at, len - at, pepper->bytes, PEPPER_LEN))
		return "after the version there must be exactly 64 hex digits";
	if (sodium_is_zero(pepper->bytes, PEPPER_LEN))
		return "a pepper of zeros is no secret; write 32 random bytes";
	return NULL;
}

static bool parse_file(struct secret *secret, const char *path, const char *text, size_t len, char *error,
		       size_t error_size)
{
	unsigned number = 1;

	for (const char *end = text + len; text < end; number++) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *stop = newline ? newline : end;
		const char *wrong = parse_line(secret, text, (size_t)(stop - text));

		if (wrong) {
			/* The line itself is never shown: it is a secret. */
			snprintf(error, error_size, "pepper file %s:%u: %s", path, number, wrong);
			return false;
		}
		text = newline ? newline + 1 : end;
	}
	if (!secret->count) {
		snprintf(error, error_size, "pepper file %s: holds no pepper; a line is \"1 <64 hex digits>\"", path);
		return false;
	}
	return true;
}

/* Nobody forks once there are peppers; who did would find zeros. A kernel that does not know how leaves it. */
static void keep_from_forks(void *memory, size_t size)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)memory / page * page;

	madvise((void *)from, (uintptr_t)memory + size - from, MADV_WIPEONFORK);
}

/* Zeroed, locked, out of core dumps; NULL with a line in `error`. */
static void *locked_new(const char *path, size_t size, char *error, size_t error_size)
{
	void *memory = NULL;

	errno = ENOMEM;
	/* sodium_malloc goes on where it cannot lock: only asking again tells. */
	if (sodium_init() >= 0 && (memory = sodium_malloc(size)) && !sodium_mlock(memory, size)) {
		keep_from_forks(memory, size);
		memset(memory, 0, size);
		return memory;
	}
	snprintf(error, error_size, "pepper file %s: no memory that can be locked (%s); raise LimitMEMLOCK", path,
		 strerror(errno));
	sodium_free(memory);
	return NULL;
}

struct secret *secret_parse(const char *path, const char *text, size_t len, char *error, size_t error_size)
{
	struct secret *secret = locked_new(path, sizeof(*secret), error, error_size);

	if (!secret)
		return NULL;
	randombytes_buf(secret->proof_key, sizeof(secret->proof_key));
	if (!parse_file(secret, path, text, len, error, error_size)) {
		sodium_free(secret);
		return NULL;
	}
	sodium_mprotect_readonly(secret);
	return secret;
}

struct secret *secret_load(const char *path, char *error, size_t error_size)
{
	char file[CREDENTIAL_PATH_MAX], *text;
	struct secret *secret = NULL;
	ssize_t len;

	if (credential_path(path, file, sizeof(file), error, error_size) != 0)
		return NULL;
	text = locked_new(path, FILE_MAX, error, error_size);
	if (!text)
		return NULL;
	len = read_file(path, file, text, error, error_size);
	if (len >= 0)
		secret = secret_parse(path, text, (size_t)len, error, error_size);
	sodium_free(text);
	return secret;
}

void secret_free(struct secret *secret)
{
	sodium_free(secret);
}

/* ---- versions ---- */

static const struct pepper *find(const struct secret *secret, uint16_t version)
{
	for (unsigned i = 0; i < secret->count; i++)
		if (secret->peppers[i].version == version)
			return &secret->peppers[i];
	return NULL;
}

bool secret_has(const struct secret *secret, uint16_t version)
{
	return find(secret, version) != NULL;
}

uint16_t secret_newest(const struct secret *secret)
{
	return secret->peppers[secret->count - 1].version;
}

uint16_t secret_version_at(const struct secret *secret, unsigned i)
{
	return i < secret->count ? secret->peppers[i].version : 0;
}

/* ---- proofs ---- */

bool secret_hash(const struct secret *secret, uint16_t version, const void *text, size_t len,
		 uint8_t ret[SECRET_HASH_LEN])
{
	const struct pepper *pepper = find(secret, version);

	return pepper && !crypto_generichash(ret, SECRET_HASH_LEN, text, len, pepper->bytes, PEPPER_LEN);
}

bool secret_check_value(const struct secret *secret, uint16_t version, uint8_t ret[SECRET_HASH_LEN])
{
	return secret_hash(secret, version, check_label, sizeof(check_label) - 1, ret);
}

bool secret_ledger_mac(const struct secret *secret, uint16_t version, const uint8_t head[SECRET_HASH_LEN],
		       uint8_t ret[SECRET_HASH_LEN])
{
	uint8_t key[crypto_auth_hmacsha256_KEYBYTES];
	bool held;

	_Static_assert(sizeof(key) == SECRET_HASH_LEN && crypto_auth_hmacsha256_BYTES == SECRET_HASH_LEN, "256 bits");
	held = secret_hash(secret, version, mac_label, sizeof(mac_label) - 1, key) &&
	       crypto_auth_hmacsha256(ret, head, SECRET_HASH_LEN, key) == 0;
	sodium_memzero(key, sizeof(key));
	return held;
}

void secret_proof(const struct secret *secret, const void *text, size_t len, uint8_t ret[SECRET_PROOF_LEN])
{
	crypto_shorthash_siphashx24(ret, text, len, secret->proof_key);
	/* All zero says "none remembered". */
	ret[0] |= secret_proof_equal(ret, (const uint8_t[SECRET_PROOF_LEN]){0}) ? 1 : 0;
}

bool secret_from_hex(const char *text, size_t len, uint8_t *ret, size_t size)
{
	size_t bytes = 0;

	return len == 2 * size && !sodium_hex2bin(ret, size, text, len, NULL, &bytes, NULL) && bytes == size;
}

bool secret_equal(const void *a, const void *b, size_t len)
{
	return sodium_memcmp(a, b, len) == 0;
}

void secret_random(void *ret, size_t len)
{
	randombytes_buf(ret, len);
}

void secret_wipe(void *data, size_t len)
{
	sodium_memzero(data, len);
}
