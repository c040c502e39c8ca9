/* Break-glass keys: the form of their file, and the module that looks at it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/modules/glass.h"
#include "daemon/modules/table.h"
#include "daemon/trusted.h"

#define HOUR_US INT64_C(3600000000)
/* 2030-01-01T00:00:00Z */
#define NOW_US INT64_C(1893456000000000)
#define KEY_A  "akb_AAAAAAAAAA_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define KEY_B  "akb_BBBBBBBBBB_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define HEX    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

/* ---- what is wrapped ---- */

/* How many allocations succeed; -1: all. */
static int allocations = -1;
static int64_t clock_shift_s;
static unsigned opened;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __real_trusted_open(const char *path, enum trusted_kind kind, int *ret_fd, char *error, size_t error_size);

static bool may_allocate(void)
{
	if (allocations == 0)
		return false;
	if (allocations > 0)
		allocations--;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return may_allocate() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t count, size_t size)
{
	return may_allocate() ? __real_calloc(count, size) : NULL;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
	int rc = __real_clock_gettime(clock, ret);

	if (clock == CLOCK_REALTIME)
		ret->tv_sec += clock_shift_s;
	return rc;
}

int __wrap_trusted_open(const char *path, enum trusted_kind kind, int *ret_fd, char *error, size_t error_size)
{
	opened++;
	return __real_trusted_open(path, kind, ret_fd, error, error_size);
}

/* ---- the form ---- */

static char error[512];
static struct glass *glass;

static int parse_bytes(const char *text, size_t len, uint32_t most)
{
	int rc;

	glass_free(glass);
	glass = NULL;
	memset(error, 0, sizeof(error));
	rc = glass_parse("f", text, len, most, &glass, error, sizeof(error));
	assert_int_equal(rc == 0, glass != NULL);
	assert_int_equal(rc == 0, error[0] == '\0');
	assert_null(strchr(error, '\n'));
	return rc;
}

static int parse(const char *text)
{
	return parse_bytes(text, strlen(text), GLASS_KEYS_MAX);
}

static void assert_text(struct apikeyd_text text, const char *want)
{
	if (text.len != strlen(want) || memcmp(text.data, want, text.len) != 0)
		fail_msg("'%.*s' and not '%s'", (int)text.len, text.data, want);
}

static void test_good(void **state)
{
	const struct glass_key *key;

	(void)state;
	assert_int_equal(parse("# break-glass keys\n"
			       "\n"
			       "  \t# another comment\r\n"
			       "0123456789 7:" HEX " acme acme-status incident:write 2030-01-01T10:00:00Z\n"
			       "\tzzzzzzzzzz\t32767:000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F  a"
			       " p-1,p-2,3 metric:push,incident:read 2030-01-01T12:30:00.25+02:30 # till lunch\r\n"
			       "AAAAAAAAAA 1:" HEX " a b c:d 2030-01-01T10:00:00-00:30"),
			 0);
	key = glass_at(glass, 0);
	assert_string_equal(key->key_id, "0123456789");
	assert_int_equal(key->pepper, 7);
	for (unsigned i = 0; i < APIKEYD_HASH_LEN; i++)
		assert_int_equal(key->hash[i], i);
	assert_text(key->organization, "acme");
	assert_int_equal(key->page_count, 1);
	assert_text(key->pages[0], "acme-status");
	assert_int_equal(key->scope_count, 1);
	assert_text(key->scopes[0], "incident:write");
	assert_int_equal(key->end_us, NOW_US + 10 * HOUR_US);
	assert_int_equal(key->line, 4);

	key = glass_at(glass, 1);
	assert_string_equal(key->key_id, "zzzzzzzzzz");
	assert_int_equal(key->pepper, 32767);
	assert_memory_equal(key->hash, glass_at(glass, 0)->hash, APIKEYD_HASH_LEN);
	assert_int_equal(key->page_count, 3);
	assert_text(key->pages[0], "p-1");
	assert_text(key->pages[1], "p-2");
	assert_text(key->pages[2], "3");
	assert_int_equal(key->scope_count, 2);
	assert_text(key->scopes[0], "metric:push");
	assert_text(key->scopes[1], "incident:read");
	assert_int_equal(key->end_us, NOW_US + 10 * HOUR_US + 250000);
	assert_int_equal(key->line, 5);

	key = glass_at(glass, 2);
	assert_int_equal(key->end_us, NOW_US + 10 * HOUR_US + HOUR_US / 2);
	assert_null(glass_at(glass, 3));

	assert_ptr_equal(glass_find(glass, (struct apikeyd_text){"zzzzzzzzzz", 10}), glass_at(glass, 1));
	assert_null(glass_find(glass, (struct apikeyd_text){"zzzzzzzzzZ", 10}));
	assert_null(glass_find(glass, (struct apikeyd_text){"zzzzzzzzzz", 9}));
	assert_null(glass_find(glass, (struct apikeyd_text){"zzzzzzzzzzz", 11}));

	assert_int_equal(parse(""), 0);
	assert_null(glass_at(glass, 0));
	assert_int_equal(parse("#\n\n \r\n"), 0);
	assert_null(glass_at(glass, 0));
}

#define GOOD_ID	 "0123456789"
#define GOOD_END " 2030-01-01T10:00:00Z"

/* Each fault is told with its line, its field and what would be right; never the hash, and no key. */
static void test_faults(void **state)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{"0123456789", "f:2: has 1 words: it must have 6: key_id, pepper:hash"},
		{"a 1:" HEX " o p s:a", "f:2: has 5 words"},
		{GOOD_ID " 1:" HEX " o p s:a" GOOD_END " more", "f:2: has 7 words"},
		{"012345678 1:" HEX " o p s:a" GOOD_END, "f:2: key_id '012345678': it must be 10 characters of"},
		{"012345678901 1:" HEX " o p s:a" GOOD_END, "f:2: key_id '012345678901': "},
		{"012345678_ 1:" HEX " o p s:a" GOOD_END, "f:2: key_id '012345678_': "},
		{"01234567\xc3x 1:" HEX " o p s:a" GOOD_END, "f:2: key_id '01234567?x': "},
		{KEY_A " 1:" HEX " o p s:a" GOOD_END, "f:2: key_id (not shown): it must be 10 characters"},
		{"xxxxxxxxxx 1:" HEX " o p s:a" GOOD_END,
		 "f:2: key_id 'xxxxxxxxxx': it must be another one: it stands in "
		 "line 1 already"},
		{GOOD_ID " 0:" HEX " o p s:a" GOOD_END,
		 "f:2: pepper:hash (not shown): it must be a pepper's version from"},
		{GOOD_ID " 32768:" HEX " o p s:a" GOOD_END, "f:2: pepper:hash (not shown): "},
		{GOOD_ID " 4294967297:" HEX " o p s:a" GOOD_END, "f:2: pepper:hash (not shown): "},
		{GOOD_ID " :" HEX " o p s:a" GOOD_END, "f:2: pepper:hash (not shown): "},
		{GOOD_ID " 1" HEX " o p s:a" GOOD_END, "f:2: pepper:hash (not shown): "},
		{GOOD_ID " 1 " HEX " p s:a" GOOD_END, "f:2: pepper:hash (not shown): "},
		{GOOD_ID " 1:" HEX "0 o p s:a" GOOD_END, "f:2: pepper:hash (not shown): "},
		{GOOD_ID " 1:0" HEX " o p s:a" GOOD_END, "f:2: pepper:hash (not shown): "},
		{GOOD_ID " 1:g00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f o p s:a" GOOD_END,
		 "f:2: pepper:hash (not shown): "},
		{GOOD_ID " 1:" HEX " -o p s:a" GOOD_END, "f:2: organization '-o': it must be a slug: 1 to 63 of a-z"},
		{GOOD_ID " 1:" HEX " o- p s:a" GOOD_END, "f:2: organization 'o-': "},
		{GOOD_ID " 1:" HEX " O p s:a" GOOD_END, "f:2: organization 'O': "},
		{GOOD_ID " 1:" HEX " o,q p s:a" GOOD_END, "f:2: organization 'o,q': "},
		{GOOD_ID " 1:" HEX " " HEX " p s:a" GOOD_END, "f:2: organization (not shown): "},
		{GOOD_ID " 1:" HEX " o , s:a" GOOD_END, "f:2: pages '': it must be a slug"},
		{GOOD_ID " 1:" HEX " o p, s:a" GOOD_END, "f:2: pages '': "},
		{GOOD_ID " 1:" HEX " o p,,q s:a" GOOD_END, "f:2: pages '': "},
		{GOOD_ID " 1:" HEX " o p,* s:a" GOOD_END, "f:2: pages '*': "},
		{GOOD_ID " 1:" HEX " o p,q_ s:a" GOOD_END, "f:2: pages 'q_': "},
		{GOOD_ID " 1:" HEX " o p *" GOOD_END, "f:2: scopes '*': it must be a scope's name: resource:action"},
		{GOOD_ID " 1:" HEX " o p s:a,incident:*" GOOD_END, "f:2: scopes 'incident:*': "},
		{GOOD_ID " 1:" HEX " o p s:a:b" GOOD_END, "f:2: scopes 's:a:b': "},
		{GOOD_ID " 1:" HEX " o p :a" GOOD_END, "f:2: scopes ':a': "},
		{GOOD_ID " 1:" HEX " o p s:" GOOD_END, "f:2: scopes 's:': "},
		{GOOD_ID " 1:" HEX " o p S:a" GOOD_END, "f:2: scopes 'S:a': "},
		{GOOD_ID " 1:" HEX " o p s:a,member:read" GOOD_END,
		 "f:2: scopes 'member:read': it must be another one: a break-glass key never has a scope of member, apikey "
		 "or org"},
		{GOOD_ID " 1:" HEX " o p apikey:manage" GOOD_END,
		 "f:2: scopes 'apikey:manage': it must be another one"},
		{GOOD_ID " 1:" HEX " o p org:write,s:a" GOOD_END, "f:2: scopes 'org:write': it must be another one"},
		{GOOD_ID " 1:" HEX " o p s:a 2030-01-01", "f:2: end '2030-01-01': it must be a time with its zone"},
		{GOOD_ID " 1:" HEX " o p s:a 2030-01-01T10:00:00", "f:2: end '2030-01-01T10:00:00': "},
		{GOOD_ID " 1:" HEX " o p s:a 1970-01-01T00:00:00Z", "f:2: end '1970-01-01T00:00:00Z': "},
		{GOOD_ID " 1:" HEX " o p s:a +8h", "f:2: end '+8h': "},
	};
	char text[1024];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text),
			 "xxxxxxxxxx 1:" HEX " o p s:a" GOOD_END "\n%s\nyyyyyyyyyy 1:" HEX " o p s:a" GOOD_END,
			 cases[i].line);
		assert_int_equal(parse(text), -EINVAL);
		if (strncmp(error, cases[i].says, strlen(cases[i].says)) != 0)
			fail_msg("\"%s\" does not begin with \"%s\"", error, cases[i].says);
		assert_null(strstr(error, "0405060708"));
		assert_null(strstr(error, "aaaaaaaa"));
	}
	/* names that only begin like those that must not be */
	assert_int_equal(parse("0123456789 1:" HEX " o p members:a,apikey2:b,or:g,organization:read" GOOD_END), 0);
	assert_int_equal(glass_at(glass, 0)->scope_count, 4);
}

static void test_bounds(void **state)
{
	char text[40000];
	size_t len = 0;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "000000000%u 1:" HEX " o p s:a" GOOD_END "\n",
					i);
	assert_int_equal(parse_bytes(text, len, 5), 0);
	assert_string_equal(glass_at(glass, 4)->key_id, "0000000004");
	assert_int_equal(parse_bytes(text, len, 4), -EINVAL);
	assert_string_equal(
		error, "f:5: is the key number 5: it must be at most 4 (entries=); take out those that have ended");

	for (unsigned count = 255; count <= 257; count++) {
		len = (size_t)snprintf(text, sizeof(text), "0123456789 1:" HEX " o ");
		for (unsigned i = 0; i < count; i++)
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%sp%u", i ? "," : "", i);
		snprintf(text + len, sizeof(text) - len, " s:a" GOOD_END);
		assert_int_equal(parse(text), count <= APIKEYD_NARROWING_MAX ? 0 : -EINVAL);
		if (count > APIKEYD_NARROWING_MAX) {
			assert_string_equal(error, "f:1: pages 'p256': it must be one of 256 at most");
			continue;
		}
		assert_int_equal(glass_at(glass, 0)->page_count, count);
		assert_text(glass_at(glass, 0)->pages[254], "p254");
	}
	/* the longest slug and scope, and one more */
	for (unsigned more = 0; more < 2; more++) {
		char slug[80], scope[80];

		memset(slug, 'p', sizeof(slug));
		memset(scope, 's', sizeof(scope));
		slug[GLASS_SLUG_MAX + more] = '\0';
		snprintf(text, sizeof(text), "0123456789 1:" HEX " o %s s:a" GOOD_END, slug);
		assert_int_equal(parse(text), more ? -EINVAL : 0);
		scope[3] = ':';
		scope[GLASS_SCOPE_MAX + more] = '\0';
		snprintf(text, sizeof(text), "0123456789 1:" HEX " o p %s" GOOD_END, scope);
		assert_int_equal(parse(text), more ? -EINVAL : 0);
	}
	/* a NUL is a character like another */
	memcpy(text, "0123456789 1:" HEX " o p\0q s:a" GOOD_END, sizeof("0123456789 1:" HEX " o p\0q s:a" GOOD_END));
	assert_int_equal(parse_bytes(text, sizeof("0123456789 1:" HEX " o p\0q s:a" GOOD_END) - 1, 9), -EINVAL);
	assert_string_equal(error,
			    "f:1: pages 'p?q': it must be a slug: 1 to 63 of a-z 0-9 -, neither first nor last a -");
}

static void test_without_memory(void **state)
{
	static const char text[] = GOOD_ID " 1:" HEX " o p s:a" GOOD_END;
	int rc = -ENOMEM, tries = 0;

	(void)state;
	for (; rc != 0; tries++) {
		glass_free(glass);
		glass = NULL;
		allocations = tries;
		rc = glass_parse("f", text, strlen(text), 3, &glass, error, sizeof(error));
		allocations = -1;
		if (rc != 0) {
			assert_int_equal(rc, -ENOMEM);
			assert_string_equal(error, "f: no memory");
			assert_null(glass);
		}
	}
	assert_int_equal(tries, 5); /* four of them failed, each once */
}

static void test_times(void **state)
{
	static const struct {
		const char *text;
		int64_t us; /* -1: none */
	} cases[] = {
		{"1970-01-01T00:00:00Z", 0},
		{"1970-01-01T00:00:01Z", 1000000},
		{"1970-01-01T01:00:00+01:00", 0},
		{"1970-01-01T00:00:00+00:01", -1},
		{"2030-01-01T00:00:00Z", NOW_US},
		{"2029-12-31T13:30:00-10:30", NOW_US},
		{"2030-01-01T14:00:00+14:00", NOW_US},
		{"2030-01-01T00:00:00.000001Z", NOW_US + 1},
		{"2030-01-01T00:00:00.5Z", NOW_US + 500000},
		{"2030-01-01T00:00:00.9999999Z", NOW_US + 999999},
		{"9999-12-31T23:59:59Z", INT64_C(253402300799000000)},
		{"2028-02-29T00:00:00Z", INT64_C(1835395200000000)},
		{"2000-02-29T00:00:00Z", INT64_C(951782400000000)},
		{"2030-02-29T00:00:00Z", -1},
		{"2100-02-29T00:00:00Z", -1},
		{"2030-04-31T00:00:00Z", -1},
		{"2030-00-01T00:00:00Z", -1},
		{"2030-13-01T00:00:00Z", -1},
		{"2030-01-00T00:00:00Z", -1},
		{"2030-01-01T24:00:00Z", -1},
		{"2030-01-01T00:60:00Z", -1},
		{"2030-01-01T00:00:60Z", -1},
		{"2030-01-01T00:00:00", -1},
		{"2030-01-01T00:00:00z", -1},
		{"2030-01-01t00:00:00Z", -1},
		{"2030-01-01 00:00:00Z", -1},
		{"2030-01-01T00:00:00Z ", -1},
		{"2030-01-01T00:00:00ZZ", -1},
		{"2030-01-01T00:00:00.Z", -1},
		{"2030-01-01T00:00:00.1234567890Z", -1},
		{"2030-01-01T00:00:00+0100", -1},
		{"2030-01-01T00:00:00+24:00", -1},
		{"2030-01-01T00:00:00+01:60", -1},
		{"2030-01-01T00:00:00+01:0", -1},
		{"2030-1-01T00:00:00Z", -1},
		{"1969-12-31T23:59:59Z", -1},
		{"", -1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t us = -1;

		if (glass_time_parse(cases[i].text, strlen(cases[i].text), &us) != (cases[i].us >= 0) ||
		    us != cases[i].us)
			fail_msg("%s: %lld", cases[i].text, (long long)us);
		/* no part of a time is one, and nothing is read past the end */
		for (size_t len = 0; cases[i].us >= 0 && len < strlen(cases[i].text); len++) {
			char *part = malloc(len + 1);

			memcpy(part, cases[i].text, len);
			assert_false(glass_time_parse(part, len, &us));
			free(part);
		}
	}
	/* each day and some moments of it, as the C library counts them */
	for (int64_t second = 86399; second < INT64_C(253402300799); second += 86400 * 5 + 12345) {
		char text[GLASS_TIME_SIZE];
		int64_t us;

		glass_time_format(second * 1000000 + 999999, text);
		assert_true(glass_time_parse(text, strlen(text), &us));
		assert_int_equal(us, second * 1000000);
	}
}

static void test_a_line_is_read_again(void **state)
{
	uint8_t hash[APIKEYD_HASH_LEN];
	const struct glass_key *key;
	char line[512];
	size_t len;

	(void)state;
	for (unsigned i = 0; i < APIKEYD_HASH_LEN; i++)
		hash[i] = (uint8_t)(i * 8 + 7);
	len = glass_line("Zz9AbCdEfG", 300, hash, "acme", "p,q-1", "incident:write,s:a", NOW_US + 5000000, line,
			 sizeof(line));
	assert_int_equal(len, strlen(line));
	assert_int_equal(parse(line), 0);
	key = glass_at(glass, 0);
	assert_string_equal(key->key_id, "Zz9AbCdEfG");
	assert_int_equal(key->pepper, 300);
	assert_memory_equal(key->hash, hash, sizeof(hash));
	assert_text(key->organization, "acme");
	assert_int_equal(key->page_count, 2);
	assert_int_equal(key->scope_count, 2);
	assert_int_equal(key->end_us, NOW_US + 5000000);
	assert_int_equal(glass_line("Zz9AbCdEfG", 300, hash, "acme", "p,q-1", "incident:write,s:a", NOW_US, line, len),
			 0);
	assert_true(glass_line("Zz9AbCdEfG", 300, hash, "acme", "p,q-1", "incident:write,s:a", NOW_US, line, len + 1) >
		    0);
}

static void test_too_far(void **state)
{
	(void)state;
	assert_int_equal(parse("0000000000 1:" HEX " o p s:a 2030-01-01T10:00:00Z\n"
			       "1111111111 1:" HEX " o p s:a 2030-01-02T00:00:00Z\n"
			       "2222222222 1:" HEX " o p s:a 2030-01-02T00:00:00.000001Z\n"),
			 0);
	assert_null(glass_too_far(glass, NOW_US + 1));
	assert_string_equal(glass_too_far(glass, NOW_US)->key_id, "2222222222");
	assert_string_equal(glass_too_far(glass, NOW_US - 1)->key_id, "1111111111");
	assert_string_equal(glass_too_far(glass, NOW_US - 15 * HOUR_US)->key_id, "0000000000");
	assert_string_equal(glass_too_far(glass, INT64_MIN / 2)->key_id, "0000000000");
}

/* ---- a daemon that is none ---- */

struct apikeyd_self {
	unsigned logged, hashed, granted;
	char lines[64][640];
	enum apikeyd_level levels[64];
	char detail[640];
	int hash_rc, grant_rc;
	struct apikeyd_principal principal;
	char text[640]; /* of the principal */
};

static struct apikeyd_self self;

static void host_log(struct apikeyd_self *to, enum apikeyd_level level, const char *line)
{
	assert_ptr_equal(to, &self);
	assert_true(to->logged < 64);
	to->levels[to->logged] = level;
	snprintf(to->lines[to->logged++], sizeof(to->lines[0]), "%s", line);
	assert_null(strstr(line, "aaaaaaaa"));
	assert_null(strstr(line, "bbbbbbbb"));
	assert_null(strchr(line, '\n'));
}

static void host_log_request(struct apikeyd_self *to, enum apikeyd_level level, const struct apikeyd_request *request,
			     const char *line)
{
	assert_non_null(request->key_id.data);
	assert_non_null(request->key_org.data);
	host_log(to, level, line);
}

static void host_detail(struct apikeyd_self *to, const struct apikeyd_request *request, const char *line)
{
	assert_true(request->explain);
	snprintf(to->detail, sizeof(to->detail), "%s", line);
}

static void hash_text(const char *text, size_t len, uint16_t pepper, uint8_t ret[APIKEYD_HASH_LEN])
{
	uint64_t state = pepper;

	for (unsigned i = 0; i < APIKEYD_HASH_LEN; i++) {
		for (size_t j = 0; j < len; j++)
			state = (state ^ (uint8_t)text[j]) * UINT64_C(0x100000001b3) + i;
		ret[i] = (uint8_t)(state >> 32);
	}
}

/* Peppers 1 and 2 are held. */
static int host_hash(struct apikeyd_self *to, const struct apikeyd_request *request, uint16_t pepper,
		     uint8_t ret[APIKEYD_HASH_LEN])
{
	to->hashed++;
	if (to->hash_rc != 0)
		return to->hash_rc;
	if (pepper != 1 && pepper != 2)
		return -ENOENT;
	hash_text(request->key.data, request->key.len, pepper, ret);
	return 0;
}

static int host_grant(struct apikeyd_self *to, const struct apikeyd_request *request,
		      const struct apikeyd_principal *principal)
{
	size_t len = 0;

	(void)request;
	to->granted++;
	to->principal = *principal;
	len += (size_t)snprintf(to->text, sizeof(to->text), "%.*s", (int)principal->organization.len,
				principal->organization.data);
	for (uint32_t i = 0; i < principal->page_count; i++)
		len += (size_t)snprintf(to->text + len, sizeof(to->text) - len, " %.*s", (int)principal->pages[i].len,
					principal->pages[i].data);
	for (uint32_t i = 0; i < principal->scope_count; i++)
		len += (size_t)snprintf(to->text + len, sizeof(to->text) - len, " %.*s", (int)principal->scopes[i].len,
					principal->scopes[i].data);
	return to->grant_rc;
}

static const struct apikeyd_host host = {
	.size = sizeof(host),
	.log = host_log,
	.detail = host_detail,
	.hash = host_hash,
	.grant = host_grant,
	.log_request = host_log_request,
};

static char directory[] = "/tmp/apikeyd-file-XXXXXX", path[64], other[64];
static void *instance;

static void open_module(uint32_t entries)
{
	struct apikeyd_value values[2] = {{.given = true, .text = path}, {.given = true, .number = entries}};

	assert_int_equal(module_file.open(&self, &host, values, &instance, error, sizeof(error)), 0);
}

/* Writes a new file and puts it in the place of the old one. */
static void write_file(const char *text)
{
	FILE *out = fopen(other, "w");

	assert_non_null(out);
	assert_true(fputs(text, out) >= 0);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(chmod(other, 0640), 0);
	assert_int_equal(rename(other, path), 0);
}

/* A line for a key under a pepper. */
static const char *line_of(const char *key, uint16_t pepper, int64_t end_us)
{
	static char line[512];
	uint8_t hash[APIKEYD_HASH_LEN];
	char id[GLASS_ID_LEN + 1] = "";
	size_t len;

	memcpy(id, key + 4, GLASS_ID_LEN);
	hash_text(key, strlen(key), pepper, hash);
	len = glass_line(id, pepper, hash, "acme", "acme-status,acme-cloud", "incident:write", end_us, line,
			 sizeof(line) - 1);
	assert_true(len > 0);
	line[len] = '\n';
	line[len + 1] = '\0';
	return line;
}

static struct apikeyd_request request_of(const char *key)
{
	struct apikeyd_request request = {.size = sizeof(request),
					  .group = APIKEYD_GROUP_KEY,
					  .method = {"check", 5},
					  .stack = {"default", 7},
					  .uid = 1234,
					  .key = {key, (uint32_t)strlen(key)},
					  .key_id = {key + 4, GLASS_ID_LEN},
					  .key_letter = 'b',
					  .addr = {4, {192, 0, 2, 7}},
					  .now_us = NOW_US,
					  .boot_us = 77000000};

	return request;
}

static enum apikeyd_code ask(const char *key)
{
	struct apikeyd_request request = request_of(key);

	return module_file.start(instance, &request, 1);
}

static const char *last_line(void)
{
	return self.logged ? self.lines[self.logged - 1] : "";
}

static void assert_said(enum apikeyd_level level, const char *part)
{
	assert_true(self.logged > 0);
	if (!strstr(last_line(), part))
		fail_msg("\"%s\" lacks \"%s\"", last_line(), part);
	assert_int_equal(self.levels[self.logged - 1], level);
}

static int set_up(void **state)
{
	(void)state;
	memset(&self, 0, sizeof(self));
	memset(error, 0, sizeof(error));
	clock_shift_s = 0;
	opened = 0;
	instance = NULL;
	strcpy(directory + strlen(directory) - 6, "XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/keys", directory);
	snprintf(other, sizeof(other), "%s/next", directory);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (instance)
		module_file.close(instance);
	glass_free(glass);
	glass = NULL;
	chmod(directory, 0700);
	unlink(path);
	unlink(other);
	return rmdir(directory);
}

/* ---- the module ---- */

static void test_a_key_is_granted(void **state)
{
	(void)state;
	write_file(line_of(KEY_A, 2, NOW_US + 8 * HOUR_US));
	open_module(64);
	assert_said(APIKEYD_LOG_INFO, "/keys: break-glass keys: 1");
	assert_int_equal(ask(KEY_A), APIKEYD_SUCCESS);
	assert_int_equal(self.hashed, 1);
	assert_int_equal(self.granted, 1);
	assert_int_equal(self.principal.size, sizeof(self.principal));
	assert_int_equal(self.principal.kind, APIKEYD_KIND_BREAK_GLASS);
	assert_string_equal(self.text, "acme acme-status acme-cloud incident:write");
	assert_int_equal(self.principal.page_count, 2);
	assert_true(self.principal.narrowed_pages && self.principal.narrowed_scopes);
	assert_false(self.principal.narrowed_networks);
	assert_int_equal(self.principal.expires_at_us, NOW_US + 8 * HOUR_US);
	assert_int_equal(self.principal.not_before_us, 0);
	assert_int_equal(self.logged, 2);
	assert_said(APIKEYD_LOG_WARNING,
		    "break-glass key AAAAAAAAAA used: organization acme, method check, uid 1234, addr "
		    "192.0.2.7, ends 2030-01-01T08:00:00Z");
}

static void test_others_are_unknown(void **state)
{
	char wrong[] = KEY_A;

	(void)state;
	write_file(line_of(KEY_A, 1, NOW_US + HOUR_US));
	open_module(64);
	/* a wrong secret and a wrong id: the same answer after the same work */
	wrong[sizeof(wrong) - 2] = 'x';
	assert_int_equal(ask(wrong), APIKEYD_UNKNOWN_KEY);
	assert_int_equal(self.hashed, 1);
	assert_int_equal(ask(KEY_B), APIKEYD_UNKNOWN_KEY);
	assert_int_equal(self.hashed, 2);
	assert_int_equal(self.granted, 0);
	assert_int_equal(self.logged, 1);
	/* the right hash under another pepper is another hash */
	write_file(line_of(KEY_A, 2, NOW_US + HOUR_US));
	assert_int_equal(ask(KEY_A), APIKEYD_SUCCESS);
	assert_int_equal(ask(KEY_B), APIKEYD_UNKNOWN_KEY);
}

/* Each bit of a hash counts. */
static void test_whole_hash(void **state)
{
	char line[512], *hex;

	(void)state;
	snprintf(line, sizeof(line), "%s", line_of(KEY_A, 1, NOW_US + HOUR_US));
	hex = strchr(line, ':') + 1;
	open_module(64);
	for (unsigned i = 0; i < 2 * APIKEYD_HASH_LEN; i++) {
		char was = hex[i];
		unsigned digit = (unsigned)(strchr("0123456789abcdef", was) - "0123456789abcdef");

		for (unsigned bit = 1; bit < 16; bit <<= 1) {
			hex[i] = "0123456789abcdef"[digit ^ bit];
			write_file(line);
			self.logged = 0;
			assert_int_equal(ask(KEY_A), APIKEYD_UNKNOWN_KEY);
		}
		hex[i] = was;
	}
	write_file(line);
	assert_int_equal(ask(KEY_A), APIKEYD_SUCCESS);
}

static void test_other_letters_touch_nothing(void **state)
{
	static const char letters[] = "uo\0x";
	struct apikeyd_request request = request_of(KEY_A);

	(void)state;
	write_file(line_of(KEY_A, 1, NOW_US + HOUR_US));
	open_module(64);
	write_file("wrong\n");
	opened = 0;
	for (size_t i = 0; i < sizeof(letters); i++) {
		request.key_letter = letters[i];
		assert_int_equal(module_file.start(instance, &request, 1), APIKEYD_UNKNOWN_KEY);
	}
	request = request_of(KEY_A);
	request.key_id = (struct apikeyd_text){0};
	assert_int_equal(module_file.start(instance, &request, 1), APIKEYD_UNKNOWN_KEY);
	assert_int_equal(opened, 0);
	assert_int_equal(self.hashed, 0);
	assert_int_equal(self.logged, 1);
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
}

static void test_ends(void **state)
{
	struct apikeyd_request request = request_of(KEY_A);

	(void)state;
	write_file(line_of(KEY_A, 1, NOW_US - HOUR_US));
	open_module(64);
	/* the core says `expired`; the module says whose it is, and tells of it */
	assert_int_equal(ask(KEY_A), APIKEYD_SUCCESS);
	assert_int_equal(self.principal.expires_at_us, NOW_US - HOUR_US);
	assert_said(APIKEYD_LOG_WARNING, "used after its end: ");
	assert_said(APIKEYD_LOG_WARNING, "ended 2029-12-31T23:00:00Z");

	/* too far away: the file is at fault, once told of, until it is not too far away any more */
	write_file(line_of(KEY_A, 1, NOW_US + 24 * HOUR_US + 1000000));
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
	assert_said(APIKEYD_LOG_ERROR, "/keys:1: end '2030-01-02T00:00:01Z': it must be at most 24 hours away");
	self.logged = self.hashed = 0;
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
	assert_int_equal(ask(KEY_B), APIKEYD_MODULE_FAULT);
	assert_int_equal(self.logged, 0);
	assert_int_equal(self.hashed, 0);
	request.now_us += 1000000;
	assert_int_equal(module_file.start(instance, &request, 1), APIKEYD_SUCCESS);
}

static void test_missing(void **state)
{
	(void)state;
	open_module(64);
	assert_said(APIKEYD_LOG_INFO, "/keys: is not there, so there are no break-glass keys");
	assert_int_equal(ask(KEY_A), APIKEYD_UNKNOWN_KEY);
	assert_int_equal(ask(KEY_A), APIKEYD_UNKNOWN_KEY);
	assert_int_equal(self.logged, 1);
	assert_int_equal(self.hashed, 0);
	write_file(line_of(KEY_A, 1, NOW_US + HOUR_US));
	assert_int_equal(ask(KEY_A), APIKEYD_SUCCESS);
	assert_int_equal(self.logged, 3);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ask(KEY_A), APIKEYD_UNKNOWN_KEY);
	assert_said(APIKEYD_LOG_INFO, "is not there");
	write_file("# none any more\n");
	assert_int_equal(ask(KEY_A), APIKEYD_UNKNOWN_KEY);
	assert_said(APIKEYD_LOG_INFO, "break-glass keys: 0");
}

/* A change is seen at once, be it by a new file, by more of it or by other bytes in their place. */
static void test_changes(void **state)
{
	char line[512];
	FILE *out;

	(void)state;
	write_file(line_of(KEY_A, 1, NOW_US + HOUR_US));
	open_module(64);
	assert_int_equal(ask(KEY_B), APIKEYD_UNKNOWN_KEY);
	out = fopen(path, "a");
	assert_non_null(out);
	fputs(line_of(KEY_B, 1, NOW_US + HOUR_US), out);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(ask(KEY_B), APIKEYD_SUCCESS);
	assert_int_equal(ask(KEY_A), APIKEYD_SUCCESS);
	/* as long, in the same file, within the grain of its times */
	snprintf(line, sizeof(line), "%s", line_of(KEY_A, 1, NOW_US + HOUR_US));
	write_file(line);
	for (unsigned i = 0; i < 50; i++) {
		bool a = i % 2 == 0;

		snprintf(line, sizeof(line), "%s", line_of(a ? KEY_B : KEY_A, 1, NOW_US + HOUR_US));
		out = fopen(path, "r+");
		assert_non_null(out);
		fputs(line, out);
		assert_int_equal(fclose(out), 0);
		self.logged = 0;
		assert_int_equal(ask(KEY_A), a ? APIKEYD_UNKNOWN_KEY : APIKEYD_SUCCESS);
		assert_int_equal(ask(KEY_B), a ? APIKEYD_SUCCESS : APIKEYD_UNKNOWN_KEY);
	}
}

/* A file that has been as it is for a while is not read again. */
static void test_not_read_again(void **state)
{
	(void)state;
	write_file(line_of(KEY_A, 1, NOW_US + HOUR_US));
	clock_shift_s = 10;
	open_module(64);
	assert_int_equal(opened, 1);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(ask(i % 2 ? KEY_A : KEY_B), i % 2 ? APIKEYD_SUCCESS : APIKEYD_UNKNOWN_KEY);
	assert_int_equal(opened, 1);
	write_file(line_of(KEY_B, 1, NOW_US + HOUR_US));
	assert_int_equal(ask(KEY_A), APIKEYD_UNKNOWN_KEY);
	assert_int_equal(ask(KEY_B), APIKEYD_SUCCESS);
	assert_int_equal(opened, 2);
	/* nor is one that is wrong in itself */
	write_file("wrong\n");
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(ask(KEY_B), APIKEYD_MODULE_FAULT);
	assert_int_equal(opened, 3);
}

/* One wrong line, and no key of the file is good; said once for each such file. */
static void test_wrong_file(void **state)
{
	char text[1024];

	(void)state;
	snprintf(text, sizeof(text), "%sBBBBBBBBBB 1:" HEX " acme acme-status member:read 2030-01-01T01:00:00Z\n",
		 line_of(KEY_A, 1, NOW_US + HOUR_US));
	write_file(text);
	open_module(64);
	assert_said(APIKEYD_LOG_ERROR, "/keys:2: scopes 'member:read': it must be another one");
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
	assert_int_equal(self.logged, 1);
	assert_int_equal(self.hashed, 0);
	write_file(text);
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
	assert_int_equal(self.logged, 2);
	write_file(line_of(KEY_A, 1, NOW_US + HOUR_US));
	assert_int_equal(ask(KEY_A), APIKEYD_SUCCESS);
}

static void test_entries(void **state)
{
	char text[1024];

	(void)state;
	snprintf(text, sizeof(text), "%s", line_of(KEY_A, 1, NOW_US + HOUR_US));
	snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s", line_of(KEY_B, 1, NOW_US + HOUR_US));
	write_file(text);
	open_module(1);
	assert_said(APIKEYD_LOG_ERROR, "/keys:2: is the key number 2: it must be at most 1 (entries=)");
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
}

/* Whom else could have written it, or can read it; a repair is seen though the file did not change. */
static void test_not_trusted(void **state)
{
	(void)state;
	write_file(line_of(KEY_A, 1, NOW_US + HOUR_US));
	assert_int_equal(chmod(path, 0644), 0);
	open_module(64);
	assert_said(APIKEYD_LOG_ERROR, "/keys: others can read it (mode 0644); run chmod o-r ");
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
	assert_int_equal(chmod(path, 0660), 0);
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
	assert_said(APIKEYD_LOG_ERROR, "its group can write it");
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(ask(KEY_A), APIKEYD_SUCCESS);
	/* the directory: seen when the file changes, for nobody can change the file without that */
	assert_int_equal(chmod(directory, 0777), 0);
	write_file(line_of(KEY_A, 1, NOW_US + HOUR_US));
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
	assert_said(APIKEYD_LOG_ERROR, "anybody can write it");
	self.logged = 0;
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
	assert_int_equal(self.logged, 0);
	assert_int_equal(chmod(directory, 0755), 0);
	assert_int_equal(ask(KEY_A), APIKEYD_SUCCESS);
	/* no file at all */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
	assert_said(APIKEYD_LOG_ERROR, "is a directory, not a file");
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
	assert_said(APIKEYD_LOG_ERROR, "is not a regular file");
}

static void test_too_long(void **state)
{
	int fd;

	(void)state;
	write_file(line_of(KEY_A, 1, NOW_US + HOUR_US));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, GLASS_FILE_MAX + 1), 0);
	open_module(64);
	assert_said(APIKEYD_LOG_ERROR, "/keys: has 1048577 bytes: it must have at most 1048576");
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
	assert_int_equal(close(fd), 0);
}

static void test_uses_are_counted(void **state)
{
	struct apikeyd_request request = request_of(KEY_A);

	(void)state;
	write_file(line_of(KEY_A, 1, NOW_US + HOUR_US));
	open_module(64);
	self.logged = 0;
	for (unsigned i = 0; i < 25; i++)
		assert_int_equal(module_file.start(instance, &request, 1), APIKEYD_SUCCESS);
	assert_int_equal(self.logged, 10);
	request.boot_us += 999999;
	assert_int_equal(module_file.start(instance, &request, 1), APIKEYD_SUCCESS);
	assert_int_equal(self.logged, 10);
	request.boot_us += 1;
	assert_int_equal(module_file.start(instance, &request, 1), APIKEYD_SUCCESS);
	assert_int_equal(self.logged, 12);
	assert_string_equal(self.lines[10], "break-glass keys were used 16 times more than is logged one by one");
	assert_int_equal(self.levels[10], APIKEYD_LOG_WARNING);
	for (unsigned i = 0; i < 12; i++)
		module_file.start(instance, &request, 1);
	self.logged = 0;
	module_file.close(instance);
	instance = NULL;
	assert_string_equal(last_line(), "break-glass keys were used 3 times more than is logged one by one");
}

static void test_explain(void **state)
{
	struct apikeyd_request request = request_of(KEY_A);

	(void)state;
	request.explain = true;
	write_file(line_of(KEY_A, 1, NOW_US + HOUR_US));
	open_module(64);
	self.logged = 0;
	assert_int_equal(module_file.start(instance, &request, 1), APIKEYD_SUCCESS);
	assert_non_null(strstr(self.detail, "/keys:1, ends 2030-01-01T01:00:00Z"));
	assert_int_equal(self.logged, 0);
	write_file("wrong\n");
	assert_int_equal(module_file.start(instance, &request, 1), APIKEYD_MODULE_FAULT);
	assert_non_null(strstr(self.detail, "/keys:1: has 1 words"));
	write_file(line_of(KEY_A, 1, NOW_US + 25 * HOUR_US));
	assert_int_equal(module_file.start(instance, &request, 1), APIKEYD_MODULE_FAULT);
	assert_non_null(strstr(self.detail, "at most 24 hours away"));
}

static void test_faults_of_the_daemon(void **state)
{
	(void)state;
	write_file(line_of(KEY_A, 3, NOW_US + HOUR_US));
	open_module(64);
	assert_int_equal(ask(KEY_A), APIKEYD_NO_PEPPER);
	assert_int_equal(ask(KEY_B), APIKEYD_UNKNOWN_KEY);
	write_file(line_of(KEY_A, 1, NOW_US + HOUR_US));
	self.hash_rc = -EIO;
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
	self.hash_rc = 0;
	self.grant_rc = -ENOMEM;
	assert_int_equal(ask(KEY_A), APIKEYD_OVERLOAD);
	self.grant_rc = -EINVAL;
	assert_int_equal(ask(KEY_A), APIKEYD_MODULE_FAULT);
	assert_said(APIKEYD_LOG_ERROR, "/keys:1: the daemon does not take this key");
	self.grant_rc = 0;
	assert_int_equal(ask(KEY_A), APIKEYD_SUCCESS);
	/* no memory: a fault, and tried again */
	write_file(line_of(KEY_B, 1, NOW_US + HOUR_US));
	allocations = 0;
	assert_int_equal(ask(KEY_B), APIKEYD_MODULE_FAULT);
	allocations = -1;
	assert_said(APIKEYD_LOG_ERROR, "no memory");
	assert_int_equal(ask(KEY_B), APIKEYD_SUCCESS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_without_memory),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_a_line_is_read_again),
		cmocka_unit_test(test_too_far),
		cmocka_unit_test_setup_teardown(test_a_key_is_granted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_others_are_unknown, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_whole_hash, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_other_letters_touch_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_missing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_not_read_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wrong_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_entries, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_not_trusted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_too_long, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_uses_are_counted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_explain, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_faults_of_the_daemon, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
