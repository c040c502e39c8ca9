/* The pepper file, line by line, and what is computed with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/secret.h"

/* Bytes 0 to 31, and 32 times 0xff. */
#define HEX_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define HEX_F "FFFFFFFFFFFFFFFFffffffffffffffffFFFFFFFFFFFFFFFFffffffffffffffff"
#define HEX_0 "0000000000000000000000000000000000000000000000000000000000000000"

static char error[512];

static struct secret *parse(const char *text)
{
	memset(error, 0, sizeof(error));
	return secret_parse("f", text, strlen(text), error, sizeof(error));
}

/* ---- what it says ---- */

static void test_good(void **state)
{
	struct secret *secret = parse("# a comment\n"
				      "\n"
				      "  \t # another\r\n"
				      "\r\n"
				      "7 " HEX_A "\n"
				      "\t 32767\t \t" HEX_F " \t\r\n"
				      "0001 " HEX_F);

	(void)state;
	assert_non_null(secret);
	assert_string_equal(error, "");
	assert_true(secret_has(secret, 1));
	assert_true(secret_has(secret, 7));
	assert_true(secret_has(secret, 32767));
	assert_false(secret_has(secret, 0));
	assert_false(secret_has(secret, 2));
	assert_int_equal(secret_newest(secret), 32767);
	assert_int_equal(secret_version_at(secret, 0), 1);
	assert_int_equal(secret_version_at(secret, 1), 7);
	assert_int_equal(secret_version_at(secret, 2), 32767);
	assert_int_equal(secret_version_at(secret, 3), 0);
	assert_int_equal(secret_version_at(secret, UINT32_MAX), 0);
	secret_free(secret);
	secret_free(NULL);
}

/* In whatever order versions stand there, each has its own bytes. */
static void test_sorted(void **state)
{
	static const unsigned versions[] = {5, 3, 9, 1, 7, 2, 8, 4, 6};
	char text[2048];
	size_t len = 0;

	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%u ", versions[i]);
		for (unsigned j = 0; j < 32; j++)
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%02x", versions[i]);
		len += (size_t)snprintf(text + len, sizeof(text) - len, "\n");
	}
	struct secret *secret = parse(text), *one;

	assert_non_null(secret);
	for (unsigned v = 1; v <= 9; v++) {
		uint8_t of_all[SECRET_HASH_LEN], alone[SECRET_HASH_LEN];

		assert_int_equal(secret_version_at(secret, v - 1), v);
		len = (size_t)snprintf(text, sizeof(text), "%u ", v);
		for (unsigned j = 0; j < 32; j++)
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%02x", v);
		one = parse(text);
		assert_non_null(one);
		assert_true(secret_hash(secret, (uint16_t)v, "x", 1, of_all));
		assert_true(secret_hash(one, (uint16_t)v, "x", 1, alone));
		assert_memory_equal(of_all, alone, sizeof(alone));
		secret_free(one);
	}
	secret_free(secret);
}

#define BEGIN_ERROR "it must begin with a version from 1 to 32767 and a space"
#define HEX_ERROR   "after the version there must be exactly 64 hex digits"

static void test_bad(void **state)
{
	static const struct {
		const char *text, *error;
	} cases[] = {
		{"", "pepper file f: holds no pepper; a line is \"1 <64 hex digits>\""},
		{"\n\n# 1 " HEX_A "\n", "pepper file f: holds no pepper; a line is \"1 <64 hex digits>\""},
		{"0 " HEX_A, "pepper file f:1: " BEGIN_ERROR},
		{"\n32768 " HEX_A, "pepper file f:2: " BEGIN_ERROR},
		{"65537 " HEX_A, "pepper file f:1: " BEGIN_ERROR},
		{"4294967297 " HEX_A, "pepper file f:1: " BEGIN_ERROR},
		{"-1 " HEX_A, "pepper file f:1: " BEGIN_ERROR},
		{"+1 " HEX_A, "pepper file f:1: " BEGIN_ERROR},
		{"1:" HEX_A, "pepper file f:1: " BEGIN_ERROR},
		{"1", "pepper file f:1: " BEGIN_ERROR},
		{"1 ", "pepper file f:1: " BEGIN_ERROR},
		{HEX_A, "pepper file f:1: " BEGIN_ERROR},
		{"one " HEX_A, "pepper file f:1: " BEGIN_ERROR},
		{"1 " HEX_A "\n\n\n2 " HEX_A "0", "pepper file f:4: " HEX_ERROR},
		{"1 " HEX_A "00", "pepper file f:1: " HEX_ERROR},
		{"1 0" HEX_A, "pepper file f:1: " HEX_ERROR},
		{"1 abcd", "pepper file f:1: " HEX_ERROR},
		{"1 " HEX_A " # mine", "pepper file f:1: " HEX_ERROR},
		{"1 " HEX_A " " HEX_A, "pepper file f:1: " HEX_ERROR},
		{"1 g00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "pepper file f:1: " HEX_ERROR},
		{"1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1x", "pepper file f:1: " HEX_ERROR},
		{"1 0001020304050607 8090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "pepper file f:1: " HEX_ERROR},
		{"1 " HEX_A "\r" HEX_A, "pepper file f:1: " HEX_ERROR},
		{"1 " HEX_A "\n2 " HEX_0, "pepper file f:2: a pepper of zeros is no secret; write 32 random bytes"},
		{"1 " HEX_A "\n2 " HEX_A "\n1 " HEX_F "\n", "pepper file f:3: this version stands there twice"},
		{"1 " HEX_A "\n01 " HEX_A "\n", "pepper file f:2: this version stands there twice"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		if (parse(cases[i].text))
			fail_msg("taken: %s", cases[i].text);
		assert_string_equal(error, cases[i].error);
	}
}

/* Neither a pepper nor a part of it gets into the line, not even one of which a digit is wrong. */
static void test_error_shows_nothing(void **state)
{
	(void)state;
	assert_null(parse("1 c0ffee030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1g"));
	assert_null(strstr(error, "c0ffee"));
	assert_null(parse("c0ffee030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"));
	assert_null(strstr(error, "c0ffee"));
}

static void test_zero_byte(void **state)
{
	static const char text[] = "1 " HEX_A "\0\n";

	(void)state;
	assert_null(secret_parse("f", text, sizeof(text) - 1, error, sizeof(error)));
	assert_string_equal(error, "pepper file f:1: " HEX_ERROR);
}

static void test_how_many(void **state)
{
	static char text[65 * 80];
	size_t len = 0, upto_64 = 0;

	(void)state;
	for (unsigned i = 1; i <= 65; i++) {
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%u %s\n", i * 100, HEX_A);
		upto_64 = i == 64 ? len : upto_64;
	}
	struct secret *secret = secret_parse("f", text, upto_64, error, sizeof(error));

	assert_non_null(secret);
	assert_int_equal(secret_newest(secret), 6400);
	assert_int_equal(secret_version_at(secret, 63), 6400);
	assert_int_equal(secret_version_at(secret, 64), 0);
	secret_free(secret);
	assert_null(parse(text));
	assert_string_equal(error, "pepper file f:65: there are more than 64 versions");
}

/* ---- the file ---- */

static char directory[64], path[96];

static int set_up(void **state)
{
	(void)state;
	snprintf(directory, sizeof(directory), "/tmp/apikeyd-secret.XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/pepper", directory);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(directory);
}

static void put(const char *text, size_t len, mode_t mode)
{
	FILE *file;

	unlink(path); /* one that may not be written to, perhaps: only root could write over it */
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, mode), 0);
}

/* The line with the file's path at `%s`. */
static void refuses(const char *line)
{
	char wanted[512];

	assert_null(secret_load(path, error, sizeof(error)));
	snprintf(wanted, sizeof(wanted), "pepper file %s%s", path, line);
	assert_string_equal(error, wanted);
}

static void test_load(void **state)
{
	(void)state;
	put("3 " HEX_A "\n", strlen("3 " HEX_A "\n"), 0600);
	struct secret *secret = secret_load(path, error, sizeof(error));

	assert_non_null(secret);
	assert_int_equal(secret_newest(secret), 3);
	secret_free(secret);
	assert_int_equal(chmod(path, 0400), 0);
	secret = secret_load(path, error, sizeof(error));
	assert_non_null(secret);
	secret_free(secret);
	put("3 x\n", 4, 0600);
	refuses(":1: " HEX_ERROR);
	put("", 0, 0600);
	refuses(": holds no pepper; a line is \"1 <64 hex digits>\"");
}

static void test_modes(void **state)
{
	static const mode_t others[] = {0640, 0620, 0610, 0604, 0602, 0601, 0644, 0660, 04640};

	(void)state;
	for (unsigned i = 0; i < sizeof(others) / sizeof(*others); i++) {
		char line[128];

		put("1 " HEX_A "\n", strlen("1 " HEX_A "\n"), others[i]);
		snprintf(line, sizeof(line), ": others can use it (mode %04o); run chmod 0600 on it",
			 (unsigned)others[i]);
		refuses(line);
	}
}

static void test_no_file(void **state)
{
	char other[128];

	(void)state;
	refuses(": No such file or directory; make one, or name the right one in key.pepper_file");
	/* A link, even to a good file. */
	put("1 " HEX_A "\n", strlen("1 " HEX_A "\n"), 0600);
	snprintf(other, sizeof(other), "%s.real", path);
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(symlink(other, path), 0);
	refuses(": is a symbolic link; name the file itself");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(unlink(other), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	refuses(": is not a regular file");
	assert_int_equal(rmdir(path), 0);
	/* Nobody writes into it: opening must not wait for somebody who does. */
	assert_int_equal(mkfifo(path, 0600), 0);
	refuses(": is not a regular file");
}

static void test_not_readable(void **state)
{
	static const char line[] =
		": Permission denied; apikeyd's user must own it (mode 0600) and reach its directory";
	bool root = geteuid() == 0;

	(void)state;
	put("1 " HEX_A "\n", strlen("1 " HEX_A "\n"), 0);
	if (root)
		assert_int_equal(seteuid(65534), 0);
	refuses(line);
	if (root)
		assert_int_equal(seteuid(0), 0);
}

static void test_owner(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	put("1 " HEX_A "\n", strlen("1 " HEX_A "\n"), 0600);
	assert_int_equal(chown(path, 4321, 0), 0);
	refuses(": belongs to uid 4321; it must be root's or the daemon's");
}

/* What a service manager passes: a file of root's, read by an access list, whose mask looks like a group's right. */
static void test_credential(void **state)
{
	const char *name = strrchr(path, '/') + 1;
	char dir[128], text[192], wanted[512];
	struct secret *secret;

	(void)state;
	snprintf(dir, sizeof(dir), "%.*s", (int)(name - 1 - path), path);
	snprintf(text, sizeof(text), "credential:%s", name);
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	put("1 " HEX_A "\n", strlen("1 " HEX_A "\n"), 0400);
	secret = secret_load(text, error, sizeof(error));
	assert_non_null(secret);
	secret_free(secret);
	assert_int_equal(chmod(path, 0404), 0);
	assert_null(secret_load(text, error, sizeof(error)));
	snprintf(wanted, sizeof(wanted), "pepper file %s: others can use it (mode 0404); run chmod 0600 on it", text);
	assert_string_equal(error, wanted);
	assert_int_equal(chmod(path, 0440), 0);
	secret = secret_load(text, error, sizeof(error));
	assert_int_equal(secret != NULL, geteuid() == 0 && getegid() == 0);
	secret_free(secret);
	assert_int_equal(unlink(path), 0);
	assert_null(secret_load(text, error, sizeof(error)));
	assert_non_null(strstr(error, "the service manager passed no credential of that name"));
	unsetenv("CREDENTIALS_DIRECTORY");
}

static void test_long_file(void **state)
{
	enum { MOST = 32767 };
	char *text = malloc(MOST + 1);

	(void)state;
	assert_non_null(text);
	memset(text, '\n', MOST + 1);
	memcpy(text + MOST - strlen("9 " HEX_A), "9 " HEX_A, strlen("9 " HEX_A));
	put(text, MOST, 0600);
	struct secret *secret = secret_load(path, error, sizeof(error));

	assert_non_null(secret);
	assert_int_equal(secret_newest(secret), 9);
	secret_free(secret);
	put(text, MOST + 1, 0600);
	refuses(": longer than 32767 bytes");
	free(text);
}

/* ---- proofs ---- */

static void assert_hex(const uint8_t *bytes, size_t len, const char *hex)
{
	char text[129];

	for (size_t i = 0; i < len; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	assert_string_equal(text, hex);
}

/* As another implementation has it: hashlib.blake2b(text, digest_size=32, key=bytes(range(32))) in Python. */
static void test_hash(void **state)
{
	static const char key[] = "aku_0123456789_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa000000";
	struct secret *secret = parse("5 " HEX_A "\n6 " HEX_F "\n");
	uint8_t hash[SECRET_HASH_LEN], other[SECRET_HASH_LEN], check[SECRET_HASH_LEN];

	(void)state;
	assert_non_null(secret);
	assert_true(secret_hash(secret, 5, key, sizeof(key) - 1, hash));
	assert_hex(hash, sizeof(hash), "7c0b0d0c4e93255ebaf33c7441c896483539d739d669b5f2a71918d275eb09ef");
	assert_true(secret_hash(secret, 5, "", 0, hash));
	assert_hex(hash, sizeof(hash), "4e51e7a913fc80137da52880fecca175bf81e117d5c68126dc2774033517ea0d");
	assert_true(secret_check_value(secret, 5, check));
	assert_hex(check, sizeof(check), "5dba95380d1edad0023debe8c6bb1c3b1583adc4445c1426b244ea17d4a6882f");
	assert_true(secret_hash(secret, 6, "", 0, other));
	assert_false(secret_equal(hash, other, sizeof(hash)));
	assert_true(secret_check_value(secret, 6, other));
	assert_false(secret_equal(check, other, sizeof(check)));

	/* A version that is not held: no hash at all. */
	memset(hash, 0x55, sizeof(hash));
	memcpy(other, hash, sizeof(other));
	assert_false(secret_hash(secret, 7, key, sizeof(key) - 1, hash));
	assert_false(secret_hash(secret, 0, key, sizeof(key) - 1, hash));
	assert_false(secret_check_value(secret, 7, hash));
	assert_memory_equal(hash, other, sizeof(hash));
	secret_free(secret);
}

static void test_proof(void **state)
{
	static const uint8_t zero[SECRET_PROOF_LEN];
	struct secret *secret = parse("5 " HEX_A), *again = parse("5 " HEX_A);
	uint8_t a[SECRET_PROOF_LEN], b[SECRET_PROOF_LEN];
	char text[67];

	(void)state;
	assert_non_null(secret);
	assert_non_null(again);
	memset(text, 'a', sizeof(text));
	for (unsigned i = 0; i < sizeof(text); i++) {
		secret_proof(secret, text, sizeof(text), a);
		secret_proof(secret, text, sizeof(text), b);
		assert_memory_equal(a, b, sizeof(a));
		assert_memory_not_equal(a, zero, sizeof(a));
		/* Each byte counts, and so does the length. */
		text[i] ^= 1;
		secret_proof(secret, text, sizeof(text), b);
		assert_memory_not_equal(a, b, sizeof(a));
		secret_proof(secret, text, i, b);
		assert_memory_not_equal(a, b, sizeof(a));
	}
	/* Of this process, and of this load: another's key is another. */
	secret_proof(secret, text, sizeof(text), a);
	secret_proof(again, text, sizeof(text), b);
	assert_memory_not_equal(a, b, sizeof(a));
	secret_free(secret);
	secret_free(again);
}

static void test_small_tools(void **state)
{
	uint8_t a[64] = {0}, b[64] = {0};
	unsigned zeros = 0;

	(void)state;
	secret_random(a, sizeof(a));
	secret_random(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	memcpy(b, a, sizeof(b));
	assert_true(secret_equal(a, b, sizeof(a)));
	for (unsigned i = 0; i < sizeof(a); i++) {
		b[i] ^= 0x80;
		assert_false(secret_equal(a, b, sizeof(a)));
		assert_true(secret_equal(a, b, i));
		b[i] ^= 0x80;
	}
	secret_wipe(a + 1, sizeof(a) - 2);
	for (unsigned i = 1; i < sizeof(a) - 1; i++)
		zeros += a[i] == 0;
	assert_int_equal(zeros, sizeof(a) - 2);
	assert_int_equal(a[0], b[0]);
	assert_int_equal(a[63], b[63]);
}

#if defined(__SANITIZE_ADDRESS__)
#define LOCKS false /* the sanitizer makes mlock do nothing */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LOCKS false
#endif
#endif
#ifndef LOCKS
#define LOCKS true
#endif

/* Where nothing can be locked, there is no pepper: it could get into swap. */
static void test_cannot_lock(void **state)
{
	struct rlimit before, none;

	(void)state;
	if (!LOCKS || getrlimit(RLIMIT_MEMLOCK, &before))
		skip();
	/* Root may lock whatever the limit is: become somebody else, and come back. */
	if (geteuid() == 0 && seteuid(65534))
		skip();
	none = (struct rlimit){0, before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &none), 0);
	struct secret *secret = parse("1 " HEX_A);

	setrlimit(RLIMIT_MEMLOCK, &before);
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	assert_null(secret);
	assert_non_null(strstr(error, "pepper file f: no memory that can be locked ("));
	assert_non_null(strstr(error, "); raise LimitMEMLOCK"));
	secret = parse("1 " HEX_A);
	assert_non_null(secret);
	secret_free(secret);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_sorted),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_error_shows_nothing),
		cmocka_unit_test(test_zero_byte),
		cmocka_unit_test(test_how_many),
		cmocka_unit_test_setup_teardown(test_load, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_modes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_not_readable, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_owner, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_credential, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_long_file, set_up, tear_down),
		cmocka_unit_test(test_hash),
		cmocka_unit_test(test_proof),
		cmocka_unit_test(test_small_tools),
		cmocka_unit_test(test_cannot_lock),
	};

	return cmocka_run_group_tests_name("secret", tests, NULL, NULL);
}
