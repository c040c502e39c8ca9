/* The binary decoders: what PostgreSQL sends, and everything that it does not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/postgres/pgrow.h"

/* A field in memory of just its size, so that ASan sees any byte read past it. */
static struct pgfield field(const void *data, int32_t len)
{
	struct pgfield f = {.len = len};
	uint8_t *copy = malloc(len > 0 ? (size_t)len : 1);

	assert_non_null(copy);
	if (len > 0)
		memcpy(copy, data, (size_t)len);
	f.data = copy;
	return f;
}

static void drop(struct pgfield *f)
{
	free((void *)(uintptr_t)f->data);
}

static const struct pgfield null_field = {.data = NULL, .len = -1};

/* A decoder refuses null and every length but its own. */
#define assert_only_length(call, type, wanted)                                                                         \
	do {                                                                                                           \
		static const uint8_t zero[64] = {0};                                                                   \
		type out;                                                                                              \
		assert_false(call(&null_field, &out));                                                                 \
		for (int32_t len = 0; len < 40; len++) {                                                               \
			struct pgfield sized = field(zero, len);                                                       \
			assert_int_equal(call(&sized, &out), len == (wanted));                                         \
			drop(&sized);                                                                                  \
		}                                                                                                      \
	} while (0)

static void test_numbers(void **state)
{
	struct pgfield f;
	int16_t small;
	int32_t middle;
	int64_t big;
	bool truth;

	(void)state;
	assert_only_length(pgfield_bool, bool, 1);
	assert_only_length(pgfield_int16, int16_t, 2);
	assert_only_length(pgfield_int32, int32_t, 4);
	assert_only_length(pgfield_int64, int64_t, 8);

	f = (struct pgfield){(const uint8_t *)"\x01", 1};
	assert_true(pgfield_bool(&f, &truth) && truth);
	f = (struct pgfield){(const uint8_t *)"\x02", 1};
	assert_false(pgfield_bool(&f, &truth));
	f = (struct pgfield){(const uint8_t *)"\xff\xfe", 2};
	assert_true(pgfield_int16(&f, &small));
	assert_int_equal(small, -2);
	f = (struct pgfield){(const uint8_t *)"\x80\x00\x00\x01", 4};
	assert_true(pgfield_int32(&f, &middle));
	assert_int_equal(middle, INT32_MIN + 1);
	f = (struct pgfield){(const uint8_t *)"\x01\x02\x03\x04\x05\x06\x07\x08", 8};
	assert_true(pgfield_int64(&f, &big));
	assert_true(big == INT64_C(0x0102030405060708));
}

static void test_times(void **state)
{
	static const struct {
		const char *bytes;
		int64_t time;
	} times[] = {
		{"\0\0\0\0\0\0\0\0", INT64_C(946684800000000)},
		{"\xff\xff\xff\xff\xff\xff\xff\xff", INT64_C(946684799999999)},
		{"\x80\0\0\0\0\0\0\0", INT64_MIN},
		{"\x7f\xff\xff\xff\xff\xff\xff\xff", INT64_MAX},
		/* 294276-12-31 23:59:59.999999, the last that there is, is past int64 from 1970 on */
		{"\x7f\xff\xfc\xa2\xfe\xc4\xc8\x1f", INT64_MAX},
	};
	struct pgfield f;
	int64_t time;

	(void)state;
	assert_only_length(pgfield_time, int64_t, 8);
	for (unsigned i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		f = (struct pgfield){(const uint8_t *)times[i].bytes, 8};
		assert_true(pgfield_time(&f, &time));
		assert_true(time == times[i].time);
	}
}

static void test_key_ids(void **state)
{
	keytext_id id, wanted;
	struct pgfield f;

	(void)state;
	assert_true(keytext_id_parse("0A9Za5zzzz", 10, &wanted));
	f = (struct pgfield){(const uint8_t *)"0A9Za5zzzz", 10};
	assert_true(pgfield_key_id(&f, &id));
	assert_true(id == wanted);
	f.len = 9;
	assert_false(pgfield_key_id(&f, &id));
	f = (struct pgfield){(const uint8_t *)"0A9Za5zz-z", 10};
	assert_false(pgfield_key_id(&f, &id));
	assert_false(pgfield_key_id(&null_field, &id));
}

static void test_networks(void **state)
{
	static const struct {
		const char *bytes;
		int32_t len;
		bool good;
		uint8_t family, prefix;
	} networks[] = {
		{"\x02\x08\x01\x04\x0a\0\0\0", 8, true, 4, 8},
		{"\x02\x20\0\x04\x0a\x01\x02\x03", 8, true, 4, 32},
		{"\x02\0\x01\x04\0\0\0\0", 8, true, 4, 0},
		{"\x03\x20\x01\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\0", 20, true, 6, 32},
		{"\x03\x80\0\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 20, true, 6, 128},
		{"\x02\x21\x01\x04\x0a\0\0\0", 8, false, 0, 0}, /* 33 bits of an IPv4 address */
		{"\x03\x81\x01\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, false, 0, 0},
		{"\x04\x08\x01\x04\x0a\0\0\0", 8, false, 0, 0}, /* a family that there is not */
		{"\x02\x08\x01\x10\x0a\0\0\0", 8, false, 0, 0}, /* says 16 bytes, has 4 */
		{"\x03\x20\x01\x04\x0a\0\0\0", 8, false, 0, 0},
		{"\x02\x08\x01\x04\x0a\0\0", 7, false, 0, 0},
		{"\x02\x08\x01\x04\x0a\0\0\0\0", 9, false, 0, 0},
		{"\x02\x08\x01", 3, false, 0, 0},
		{"", 0, false, 0, 0},
	};
	struct rule_network network;

	(void)state;
	for (unsigned i = 0; i < sizeof(networks) / sizeof(networks[0]); i++) {
		struct pgfield f = field(networks[i].bytes, networks[i].len);

		assert_int_equal(pgfield_network(&f, &network), networks[i].good);
		if (networks[i].good) {
			assert_int_equal(network.family, networks[i].family);
			assert_int_equal(network.prefix, networks[i].prefix);
			assert_memory_equal(network.bytes, networks[i].bytes + 4, (size_t)networks[i].len - 4);
		}
		drop(&f);
	}
	assert_false(pgfield_network(&null_field, &network));
}

/* {7, NULL, -1} of int8 */
static const char array_bytes[] = "\0\0\0\1"
				  "\0\0\0\1"
				  "\0\0\0\x14"
				  "\0\0\0\3"
				  "\0\0\0\1"
				  "\0\0\0\x8"
				  "\0\0\0\0\0\0\0\7"
				  "\xff\xff\xff\xff"
				  "\0\0\0\x8"
				  "\xff\xff\xff\xff\xff\xff\xff\xff";
enum { ARRAY_LEN = sizeof(array_bytes) - 1 };

static void test_arrays(void **state)
{
	struct pgfield f = field(array_bytes, ARRAY_LEN), item = {0};
	struct pgarray array;
	int64_t number = 0;

	(void)state;
	assert_true(pgarray_open(&f, &array));
	assert_int_equal(array.count, 3);
	assert_true(pgarray_next(&array, &item) && pgfield_int64(&item, &number));
	assert_int_equal(number, 7);
	assert_true(pgarray_next(&array, &item));
	assert_true(pgfield_is_null(&item));
	assert_true(pgarray_next(&array, &item) && pgfield_int64(&item, &number));
	assert_int_equal(number, -1);
	assert_false(pgarray_next(&array, &item));
	drop(&f);

	assert_true(pgarray_open(&null_field, &array));
	assert_int_equal(array.count, 0);
	f = field("\0\0\0\0\0\0\0\0\0\0\0\x14", 12);
	assert_true(pgarray_open(&f, &array));
	assert_int_equal(array.count, 0);
	drop(&f);
}

/* Any piece of an array that breaks off is refused when opened or when walked; so is one with bytes to spare. */
static void test_arrays_broken(void **state)
{
	char more[ARRAY_LEN + 1] = {0};
	struct pgfield item;
	struct pgarray array;

	(void)state;
	memcpy(more, array_bytes, ARRAY_LEN);
	for (int32_t len = 0; len <= ARRAY_LEN + 1; len++) {
		struct pgfield f = field(more, len);
		unsigned walked = 0;

		if (pgarray_open(&f, &array))
			while (array.count > 0 && pgarray_next(&array, &item))
				walked++;
		assert_int_equal(walked == 3, len == ARRAY_LEN);
		drop(&f);
	}
	memcpy(more, array_bytes, ARRAY_LEN);
	more[3] = 2; /* two dimensions */
	struct pgfield f = field(more, ARRAY_LEN);
	assert_false(pgarray_open(&f, &array));
	drop(&f);
	more[3] = 1;
	more[12] = 0x7f; /* more items than there can be */
	f = field(more, ARRAY_LEN);
	assert_false(pgarray_open(&f, &array));
	drop(&f);
	memcpy(more, array_bytes, ARRAY_LEN);
	more[20] = (char)0x80; /* a length below -1 */
	f = field(more, ARRAY_LEN);
	assert_true(pgarray_open(&f, &array));
	assert_false(pgarray_next(&array, &item));
	drop(&f);
}

#define HEADER                                                                                                         \
	"PGCOPY\n\xff\r\n\0"                                                                                           \
	"\0\0\0\0"                                                                                                     \
	"\0\0\0\0"

/* Feeds one message from memory of its size; the result of the last call, and the rows before it. */
static int feed_copy(struct pgcopy *copy, const void *data, size_t size, unsigned fields, unsigned *rows)
{
	struct pgfield got[4], message = field(data, (int32_t)size);
	int r;

	*rows = 0;
	pgcopy_put(copy, message.data, size);
	while ((r = pgcopy_next(copy, got, fields)) > 0)
		(*rows)++;
	drop(&message);
	return r;
}

static void test_copy(void **state)
{
	static const char first[] = HEADER "\0\2"
					   "\0\0\0\1"
					   "a"
					   "\xff\xff\xff\xff";
	static const char second[] = "\0\2"
				     "\0\0\0\0"
				     "\0\0\0\2"
				     "bc";
	static const char end[] = "\xff\xff";
	static const char empty[] = HEADER "\xff\xff";
	struct pgcopy copy = {0};
	unsigned rows;

	(void)state;
	assert_int_equal(feed_copy(&copy, first, sizeof(first) - 1, 2, &rows), 0);
	assert_int_equal(rows, 1);
	assert_int_equal(feed_copy(&copy, second, sizeof(second) - 1, 2, &rows), 0);
	assert_int_equal(rows, 1);
	assert_false(copy.ended);
	assert_int_equal(feed_copy(&copy, end, sizeof(end) - 1, 2, &rows), 0);
	assert_true(copy.ended);
	/* nothing comes after the end */
	assert_int_equal(feed_copy(&copy, second, sizeof(second) - 1, 2, &rows), -EBADMSG);

	copy = (struct pgcopy){0};
	assert_int_equal(feed_copy(&copy, empty, sizeof(empty) - 1, 2, &rows), 0);
	assert_true(copy.ended);
	assert_int_equal(rows, 0);

	/* a header alone, then rows: messages need not be cut as the server cuts them */
	copy = (struct pgcopy){0};
	assert_int_equal(feed_copy(&copy, HEADER, 19, 2, &rows), 0);
	assert_int_equal(feed_copy(&copy, second, sizeof(second) - 1, 2, &rows), 0);
	assert_int_equal(rows, 1);
}

static void test_copy_broken(void **state)
{
	static const char row[] = HEADER "\0\2"
					 "\0\0\0\1"
					 "a"
					 "\0\0\0\2"
					 "bc";
	static const char critical[] = "PGCOPY\n\xff\r\n\0"
				       "\0\1\0\0"
				       "\0\0\0\0"
				       "\xff\xff";
	static const char extended[] = "PGCOPY\n\xff\r\n\0"
				       "\0\0\0\0"
				       "\0\0\0\3"
				       "xyz"
				       "\xff\xff";
	static const char trailing[] = HEADER "\xff\xff"
					      "x";
	struct pgcopy copy;
	unsigned rows;

	(void)state;
	for (size_t size = 1; size < sizeof(row) - 1; size++) {
		copy = (struct pgcopy){0};
		/* the header by itself is whole */
		assert_int_equal(feed_copy(&copy, row, size, 2, &rows), size == 19 ? 0 : -EBADMSG);
		assert_int_equal(rows, 0);
	}
	copy = (struct pgcopy){0};
	assert_int_equal(feed_copy(&copy, row, sizeof(row) - 1, 3, &rows), -EBADMSG); /* another number of columns */
	copy = (struct pgcopy){0};
	assert_int_equal(feed_copy(&copy, row, sizeof(row) - 1, 1, &rows), -EBADMSG);
	copy = (struct pgcopy){0};
	assert_int_equal(feed_copy(&copy, critical, sizeof(critical) - 1, 2, &rows), -EBADMSG);
	copy = (struct pgcopy){0};
	assert_int_equal(feed_copy(&copy, extended, sizeof(extended) - 1, 2, &rows), 0);
	assert_true(copy.ended);
	copy = (struct pgcopy){0};
	assert_int_equal(feed_copy(&copy, trailing, sizeof(trailing) - 1, 2, &rows), -EBADMSG);
}

/* ---- rows ---- */

static struct pgfield text(const char *s)
{
	return (struct pgfield){(const uint8_t *)s, (int32_t)strlen(s)};
}

#define bytes(s) ((struct pgfield){(const uint8_t *)(s), (int32_t)sizeof(s) - 1})

static const struct pgfield yes = {(const uint8_t *)"\1", 1}, no = {(const uint8_t *)"\0", 1};

static void key_fields(struct pgfield f[PGROW_KEY])
{
	f[0] = text("0123456789");
	f[1] = yes;
	f[2] = bytes("\0\0\0\0\0\0\0\x2a");
	f[3] = text("write");
	f[4] = bytes("0123456789abcdef0123456789abcdef");
	f[5] = bytes("\0\3");
	for (unsigned i = 6; i < 10; i++)
		f[i] = no;
	f[10] = bytes("\x80\0\0\0\0\0\0\0");
	f[11] = bytes("\x7f\xff\xff\xff\xff\xff\xff\xff");
	f[12] = f[13] = null_field;
	f[14] = f[15] = no;
	f[16] = f[17] = null_field;
}

static void test_key_rows(void **state)
{
	static const struct {
		unsigned field;
		uint16_t flag;
	} flags[] = {{6, RULE_NARROWED_PAGES}, {7, RULE_NARROWED_SCOPES}, {8, RULE_NARROWED_NETWORKS},
		     {9, RULE_NARROWED_RATE},  {14, RULE_DISABLED},	  {15, RULE_REVOKED}};
	struct pgfield f[PGROW_KEY];
	struct copy_key_row row;

	(void)state;
	key_fields(f);
	assert_int_equal(pgrow_key(f, &row), 0);
	assert_int_equal(row.kind, KEY_KIND_ORGANIZATION);
	assert_int_equal(row.owner_id, 42);
	assert_int_equal(row.access.len, 5);
	assert_int_equal(row.pepper, 3);
	assert_int_equal(row.flags, 0);
	assert_memory_equal(row.hash, f[4].data, COPY_HASH_LEN);
	assert_true(row.not_before == INT64_MIN && row.expires_at == INT64_MAX && row.retired_at == INT64_MAX);
	assert_false(row.has_successor);
	assert_int_equal(row.page_count + row.scope_count + row.network_count, 0);
	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		key_fields(f);
		f[flags[i].field] = yes;
		if (flags[i].flag == RULE_NARROWED_RATE) {
			assert_int_equal(pgrow_key(f, &row), -EBADMSG); /* without the rate itself */
			f[16] = bytes("\0\0\1\0");
			assert_int_equal(pgrow_key(f, &row), -EBADMSG);
			f[17] = bytes("\0\0\0\0");
			assert_int_equal(pgrow_key(f, &row), -EBADMSG);
			f[17] = bytes("\0\0\0\5");
		}
		assert_int_equal(pgrow_key(f, &row), 0);
		assert_int_equal(row.flags, flags[i].flag);
		assert_int_equal(row.rate_count, flags[i].flag == RULE_NARROWED_RATE ? 256 : 0);
		assert_int_equal(row.rate_period_s, flags[i].flag == RULE_NARROWED_RATE ? 5 : 0);
	}
	key_fields(f);
	f[12] = bytes("\0\0\0\0\0\0\0\1");
	f[13] = text("abcdefghij");
	assert_int_equal(pgrow_key(f, &row), 0);
	assert_true(row.retired_at == INT64_C(946684800000001));
	assert_true(row.has_successor);
	key_fields(f);
	f[1] = no; /* a user key has no access */
	f[3] = null_field;
	assert_int_equal(pgrow_key(f, &row), 0);
	assert_int_equal(row.kind, KEY_KIND_USER);
	assert_null(row.access.data);
}

static void test_key_rows_that_cannot_be(void **state)
{
	struct pgfield f[PGROW_KEY];
	struct copy_key_row row;

	(void)state;
	for (unsigned i = 0; i < PGROW_KEY; i++) {
		key_fields(f);
		f[i] = null_field;
		/* only retirement, successor and rate may be null */
		assert_int_equal(pgrow_key(f, &row), i == 12 || i == 13 || i >= 16 ? 0 : -EBADMSG);
		if (i == 3)
			continue; /* any text is an access's name */
		f[i] = text("x!");
		if (i == 5)
			f[i] = text("x!x");
		assert_int_equal(pgrow_key(f, &row), -EBADMSG);
	}
	key_fields(f);
	f[1] = no; /* a user key with an access */
	assert_int_equal(pgrow_key(f, &row), -EBADMSG);
	key_fields(f);
	f[5] = bytes("\0\0"); /* pepper versions begin at 1 */
	assert_int_equal(pgrow_key(f, &row), -EBADMSG);
	key_fields(f);
	f[5] = bytes("\xff\xff");
	assert_int_equal(pgrow_key(f, &row), -EBADMSG);
}

static void test_domain_rows(void **state)
{
	struct pgfield id = bytes("\0\0\0\0\0\0\0\7"), other = bytes("\0\0\0\0\0\0\0\x8");
	struct pgfield organization[] = {id, text("acme"), yes}, page[] = {id, other, text("www"), no};
	struct pgfield user[] = {id, text("a@b"), no}, member[] = {id, other, text("editor")};
	struct pgfield scope[] = {text("page:read"), yes, yes}, role[] = {text("page"), text("owner"), bytes("\0\x28")};
	struct pgfield grant[] = {text("key"), text("write"), text("page:delete"), yes};
	struct copy_organization_row o;
	struct copy_page_row p;
	struct copy_user_row u;
	struct copy_role_at at;
	struct copy_scope_row s;
	struct copy_role_row r;
	struct copy_grant_row g;
	int64_t of;

	(void)state;
	assert_int_equal(pgrow_organization(organization, &o), 0);
	assert_true(o.id == 7 && o.suspended && o.slug.len == 4);
	assert_int_equal(pgrow_page(page, &p), 0);
	assert_true(p.id == 7 && p.organization_id == 8 && !p.archived && p.slug.len == 3);
	assert_int_equal(pgrow_user(user, &u), 0);
	assert_true(u.id == 7 && !u.suspended && u.email.len == 3 && u.organization_count == 0);
	assert_int_equal(pgrow_member(member, &of, &at), 0);
	assert_true(of == 7 && at.id == 8 && at.role.len == 6);
	assert_int_equal(pgrow_scope(scope, &s), 0);
	assert_int_equal(s.levels, RULE_LEVEL_PAGE | RULE_LEVEL_ORGANIZATION);
	scope[1] = no;
	assert_int_equal(pgrow_scope(scope, &s), 0);
	assert_int_equal(s.levels, RULE_LEVEL_ORGANIZATION);
	assert_int_equal(pgrow_role(role, &r), 0);
	assert_true(r.place == RULE_ROLE_PAGE && r.rank == 40);
	role[0] = text("pages"); /* no such place, nor its beginning */
	assert_int_equal(pgrow_role(role, &r), -EBADMSG);
	role[0] = text("pag");
	assert_int_equal(pgrow_role(role, &r), -EBADMSG);
	assert_int_equal(pgrow_grant(grant, &g), 0);
	assert_true(g.place == RULE_ROLE_KEY && g.when_named && g.role.len == 5 && g.scope.len == 11);

	for (unsigned i = 0; i < 3; i++) {
		struct pgfield was = organization[i];

		organization[i] = user[i] = member[i] = null_field;
		assert_int_equal(pgrow_organization(organization, &o), -EBADMSG);
		assert_int_equal(pgrow_user(user, &u), -EBADMSG);
		assert_int_equal(pgrow_member(member, &of, &at), -EBADMSG);
		organization[i] = was;
		user[i] = i == 1 ? text("a@b") : was;
		member[i] = i == 1 ? other : i == 2 ? text("x") : was;
	}
	for (unsigned i = 0; i < 4; i++) {
		struct pgfield was_page = page[i], was_grant = grant[i];

		page[i] = grant[i] = null_field;
		assert_int_equal(pgrow_page(page, &p), -EBADMSG);
		assert_int_equal(pgrow_grant(grant, &g), -EBADMSG);
		page[i] = was_page;
		grant[i] = was_grant;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),	    cmocka_unit_test(test_times),
		cmocka_unit_test(test_key_ids),	    cmocka_unit_test(test_networks),
		cmocka_unit_test(test_arrays),	    cmocka_unit_test(test_arrays_broken),
		cmocka_unit_test(test_copy),	    cmocka_unit_test(test_copy_broken),
		cmocka_unit_test(test_key_rows),    cmocka_unit_test(test_key_rows_that_cannot_be),
		cmocka_unit_test(test_domain_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
