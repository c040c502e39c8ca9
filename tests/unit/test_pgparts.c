/* The pure parts of daemon/postgres: connection strings, the load's joins, results and errors as values. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/postgres/conninfo.h"
#include "daemon/postgres/feed_internal.h"
#include "daemon/postgres/load_join.h"
#include "daemon/postgres/schema.h"
#include "daemon/postgres/writer_value.h"

static int clean_environment(void **state)
{
	static const char *const names[] = {"PGHOST",	  "PGHOSTADDR", "PGPORT",    "PGUSER",
					    "PGDATABASE", "PGSERVICE",	"PGSSLMODE", "PGPASSWORD"};

	(void)state;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unsetenv(names[i]);
	return 0;
}

static struct conninfo *parse(const char *text)
{
	struct conninfo *info = NULL;
	char error[256] = "";

	assert_int_equal(conninfo_parse(text, &info, error, sizeof(error)), 0);
	assert_string_equal(error, "");
	assert_non_null(info);
	return info;
}

static void test_conninfo(void **state)
{
	struct conninfo *info =
		parse("host=/run/a,db.example,::1 port=5432,5433,5434 user=u dbname=d sslmode=verify-full");
	char where[200];

	(void)state;
	assert_int_equal(info->host_count, 3);
	assert_true(info->verified);
	assert_true(conninfo_is_socket(&info->hosts[0]));
	assert_false(conninfo_is_socket(&info->hosts[1]));
	assert_string_equal(info->hosts[1].name, "db.example");
	assert_string_equal(info->hosts[2].port, "5434");
	conninfo_describe(info, 1, where, sizeof(where));
	assert_string_equal(where, "host=db.example port=5433 dbname=d user=u");
	conninfo_free(info);

	info = parse("postgresql://u:secret@h1,h2:99/d");
	assert_int_equal(info->host_count, 2);
	assert_false(info->verified);
	conninfo_describe(info, 1, where, sizeof(where));
	assert_string_equal(where, "host=h2 port=99 dbname=d user=u");
	conninfo_free(info);

	info = parse("user=u");
	assert_int_equal(info->host_count, 1);
	assert_true(conninfo_is_socket(&info->hosts[0]));
	assert_string_equal(info->database, "u"); /* as libpq does */
	conninfo_free(info);

	info = parse("host=a hostaddr=192.0.2.7 user=u");
	assert_false(conninfo_is_socket(&info->hosts[0]));
	assert_string_equal(info->hosts[0].address, "192.0.2.7");
	conninfo_free(info);

	/* the environment fills in what the string leaves out */
	setenv("PGHOST", "h3", 1);
	setenv("PGSSLMODE", "verify-full", 1);
	info = parse("user=u");
	assert_string_equal(info->hosts[0].name, "h3");
	assert_true(info->verified);
	conninfo_free(info);
	clean_environment(NULL);
}

static void test_conninfo_wrong(void **state)
{
	static const struct {
		const char *text, *says;
	} wrong[] = {
		{"hots=x", "is not a libpq connection string"},
		{"password=my hidden secret", "is not a libpq connection string"},
		{"service=prod", "names a service"},
		{"host=a,b,c port=1,2", "3 hosts with 0 addresses and 2 ports"},
		{"host=a,b hostaddr=192.0.2.1", "2 hosts with 1 addresses"},
		{"host=a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a", "at most 16"},
	};
	char error[256];

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(conninfo_check(wrong[i].text, error, sizeof(error)), -EINVAL);
		assert_non_null(strstr(error, wrong[i].says));
		assert_null(strstr(error, "hidden"));
		assert_null(strchr(error, '\n'));
	}
	assert_int_equal(conninfo_check("host=/run dbname=x", error, sizeof(error)), 0);
}

static const char *param(const struct conninfo_params *params, const char *name)
{
	const char *found = NULL;

	for (unsigned i = 0; params->names[i]; i++)
		if (strcmp(params->names[i], name) == 0) {
			assert_null(found); /* none twice */
			found = params->values[i];
		}
	return found;
}

static void test_conninfo_params(void **state)
{
	struct conninfo *info =
		parse("host=h1,h2 port=1,2 user=u password=p connect_timeout=99 target_session_attrs=read-only "
		      "application_name=x client_encoding=LATIN1 keepalives=0 options='-c geqo=off'");
	struct conninfo_params params = {0}, copy = {0};

	(void)state;
	assert_int_equal(conninfo_params_init(&params, info, 1, "192.0.2.9", 2500), 0);
	assert_int_equal(conninfo_params_copy(&copy, &params), 0);
	conninfo_params_deinit(&params);
	assert_string_equal(param(&copy, "host"), "h2");
	assert_string_equal(param(&copy, "hostaddr"), "192.0.2.9");
	assert_string_equal(param(&copy, "port"), "2");
	assert_string_equal(param(&copy, "password"), "p");
	assert_string_equal(param(&copy, "options"), "-c geqo=off");
	assert_string_equal(param(&copy, "application_name"), "apikeyd");
	assert_string_equal(param(&copy, "client_encoding"), "UTF8");
	assert_string_equal(param(&copy, "target_session_attrs"), "any");
	assert_string_equal(param(&copy, "keepalives"), "1");
	assert_string_equal(param(&copy, "keepalives_idle"), "2");
	assert_string_equal(param(&copy, "tcp_user_timeout"), "2500");
	assert_string_equal(param(&copy, "gssencmode"), "disable");
	assert_null(param(&copy, "connect_timeout"));
	conninfo_params_deinit(&copy);
	conninfo_free(info);
}

/* Parameters that name files may name credentials, and others mean what they say. */
static void test_conninfo_credential(void **state)
{
	struct conninfo_params params = {0};
	char dir[] = "/tmp/test-pgparts.XXXXXX", file[64], error[256];
	struct conninfo *info;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/pgpass", dir);
	fclose(fopen(file, "w"));
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	info = parse("host=/run passfile=credential:pgpass sslkey=/a/key options=credential:pgpass");
	assert_int_equal(conninfo_params_init(&params, info, 0, NULL, 2500), 0);
	assert_string_equal(param(&params, "passfile"), file);
	assert_string_equal(param(&params, "sslkey"), "/a/key");
	assert_string_equal(param(&params, "options"), "credential:pgpass");
	conninfo_params_deinit(&params);
	conninfo_free(info);
	assert_int_equal(conninfo_check("host=/run sslkey=credential:key", error, sizeof(error)), -EINVAL);
	assert_string_equal(error, "sslkey=credential:key: the service manager passed no credential of that name; add "
				   "LoadCredential=key:FILE to the unit");
	unsetenv("CREDENTIALS_DIRECTORY");
	unlink(file);
	rmdir(dir);
}

static void test_loopback(void **state)
{
	static const struct {
		const char *address;
		bool loopback;
	} addresses[] = {
		{"127.0.0.1", true}, {"127.9.9.9", true}, {"128.0.0.1", false},	      {"10.0.0.1", false},
		{"::1", true},	     {"::2", false},	  {"::ffff:127.0.0.1", true}, {"::ffff:10.0.0.1", false},
		{"fe80::1", false}};

	(void)state;
	for (unsigned i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		union {
			struct sockaddr any;
			struct sockaddr_in in;
			struct sockaddr_in6 in6;
		} address = {0};

		if (inet_pton(AF_INET, addresses[i].address, &address.in.sin_addr) == 1) {
			address.in.sin_family = AF_INET;
		} else {
			assert_int_equal(inet_pton(AF_INET6, addresses[i].address, &address.in6.sin6_addr), 1);
			address.in6.sin6_family = AF_INET6;
		}
		assert_int_equal(conninfo_is_loopback(&address.any), addresses[i].loopback);
	}
	assert_false(conninfo_is_loopback(&(struct sockaddr){.sa_family = AF_UNIX}));
}

static void test_session_sql(void **state)
{
	char *sql = conninfo_session_sql("ro\"le", 1234, "SET jit = off; ");

	(void)state;
	assert_non_null(sql);
	assert_non_null(strstr(sql, "SET ROLE \"ro\"\"le\"; "));
	assert_non_null(strstr(sql, "SET statement_timeout = 1234;"));
	assert_non_null(strstr(sql, "SET jit = off;"));
	free(sql);
	sql = conninfo_session_sql("", 1, NULL);
	assert_non_null(sql);
	assert_null(strstr(sql, "ROLE"));
	free(sql);
}

static void test_one_line(void **state)
{
	char text[] = " connection failed:\n\tIs the server  running?\r\n\n";

	(void)state;
	conninfo_one_line(text);
	assert_string_equal(text, "connection failed: Is the server running?");
}

static void test_schema_version(void **state)
{
	char line[256] = "";

	(void)state;
	assert_true(schema_is_ours(schema_wanted(), line, sizeof(line)));
	assert_string_equal(line, "");
	assert_false(schema_is_ours(schema_wanted() - 1, line, sizeof(line)));
	assert_non_null(strstr(line, "older"));
	assert_non_null(strstr(line, "apikeyctl db upgrade"));
	assert_false(schema_is_ours(schema_wanted() + 1, line, sizeof(line)));
	assert_non_null(strstr(line, "newer"));
	assert_non_null(strstr(line, "upgrade apikeyd"));
}

/* ---- the load's joins ---- */

static void test_words(void **state)
{
	static struct load_words words;
	char name[16];

	(void)state;
	for (unsigned round = 0; round < 2; round++)
		for (int i = 0; i < LOAD_WORDS_MAX; i++) {
			int len = snprintf(name, sizeof(name), "w%d", i);

			assert_int_equal(load_words_add(&words, (struct rpc_text){name, (uint32_t)len}), i);
		}
	assert_int_equal(load_words_add(&words, (struct rpc_text){"another", 7}), -E2BIG);
	assert_int_equal(load_words_text(&words, 17).len, 3);
	assert_memory_equal(load_words_text(&words, 17).data, "w17", 3);
	load_words_deinit(&words);
	assert_int_equal(words.count, 0);
}

/* Every owner's items are found, all of them and no others, in whatever order owners are asked for. */
static void check_list(unsigned owners, uint64_t spread, bool shuffled, bool ascending)
{
	struct load_list list = {0};
	uint64_t seed = 12345 + owners;
	uint32_t count;

	for (unsigned n = 0; n < owners * 3; n++) {
		unsigned owner = shuffled ? (n * 7919U) % owners : n / 3;

		/* owner k has k % 4 items at most: some have none */
		if (n / owners < owner % 4 || (!shuffled && n % 3 < owner % 4))
			assert_int_equal(
				load_list_add(&list, (struct load_item){.owner = (owner + 1) * spread, .value = n}), 0);
	}
	size_t total = list.count, found = 0;
	assert_int_equal(load_list_sort(&list), 0);
	for (size_t i = 1; i < list.count; i++)
		assert_true(list.items[i - 1].owner <= list.items[i].owner);
	for (unsigned i = 0; i < owners; i++) {
		unsigned owner = i;
		const struct load_item *items;

		if (!ascending) {
			seed = seed * UINT64_C(6364136223846793005) + 1;
			owner = (i * 7919U) % owners;
		}
		items = load_list_find(&list, (owner + 1) * spread, &count);
		for (uint32_t k = 0; k < count; k++)
			assert_true(items[k].owner == (owner + 1) * spread);
		found += count;
		load_list_find(&list, (owner + 1) * spread + 1, &count);
		assert_int_equal(count, spread == 1 && owner + 1 < owners ? count : 0);
	}
	assert_int_equal(found, total);
	load_list_deinit(&list);
}

static void test_lists(void **state)
{
	struct load_list empty = {0};
	uint32_t count = 7;

	(void)state;
	assert_int_equal(load_list_sort(&empty), 0);
	load_list_find(&empty, 5, &count);
	assert_int_equal(count, 0);
	for (unsigned i = 0; i < 4; i++) {
		check_list(1, 1, i & 1, i & 2);
		check_list(1000, 1, i & 1, i & 2);
		check_list(1000, UINT64_C(0x1000100010001), i & 1, i & 2); /* differ in each 16 bits */
		check_list(70001, 1, i & 1, i & 2);
	}
}

/* ---- results and errors ---- */

static const struct value *convert(struct arena *arena, struct value *v, unsigned type, const char *text)
{
	*v = (struct value){0};
	assert_true(writer_value_field(arena, v, type, text));
	return v;
}

static void test_values(void **state)
{
	static const struct {
		const char *text, *is;
	} times[] = {
		{"2026-11-24 10:02:01.073149+00", "2026-11-24T10:02:01Z"},
		{"2026-11-24 10:02:01+00", "2026-11-24T10:02:01Z"},
		{"20260-01-02 03:04:05+00", "20260-01-02T03:04:05Z"},
		{"0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00+00 BC"},
		{"garbage", "garbage"},
		{"", ""},
	};
	struct arena arena = {0};
	struct value v;

	(void)state;
	assert_true(convert(&arena, &v, 16, "t")->truth && v.type == VALUE_BOOL);
	assert_true(!convert(&arena, &v, 16, "f")->truth && v.type == VALUE_BOOL);
	assert_int_equal(convert(&arena, &v, 20, "-9223372036854775808")->integer, INT64_MIN);
	assert_int_equal(convert(&arena, &v, 21, "7")->integer, 7);
	assert_int_equal(convert(&arena, &v, 23, "-7")->integer, -7);
	assert_string_equal(value_as_text(convert(&arena, &v, 25, "a\"b"), ""), "a\"b");
	assert_string_equal(value_as_text(convert(&arena, &v, 3802, "{\"a\": 1}"), ""), "{\"a\": 1}");
	assert_int_equal(convert(&arena, &v, 1184, "infinity")->type, VALUE_NIL);
	assert_int_equal(convert(&arena, &v, 1184, "-infinity")->type, VALUE_NIL);
	for (unsigned i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		assert_string_equal(value_as_text(convert(&arena, &v, 1184, times[i].text), "?"), times[i].is);
	arena_clear(&arena);
}

static void test_arrays(void **state)
{
	static const struct {
		const char *text;
		unsigned count;
		const char *items[4]; /* NULL: nil */
	} arrays[] = {
		{"{}", 0, {0}},
		{"{a}", 1, {"a"}},
		{"{a,b:c,d}", 3, {"a", "b:c", "d"}},
		{"{\"a b\",\"c,d\",\"e}f\"}", 3, {"a b", "c,d", "e}f"}},
		{"{\"q\\\"uote\",\"back\\\\slash\"}", 2, {"q\"uote", "back\\slash"}},
		{"{NULL,\"NULL\",\"\"}", 3, {NULL, "NULL", ""}},
		/* what is no array ends where it is wrong, and reads nothing past it */
		{"", 0, {0}},
		{"{", 0, {0}},
		{"{a", 0, {0}},
		{"{\"a", 0, {0}},
		{"{a,\"b", 1, {"a"}},
		{"x", 0, {0}},
	};
	struct arena arena = {0};
	struct value v;

	(void)state;
	for (unsigned i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
		char *exact = strdup(arrays[i].text);

		convert(&arena, &v, 1009, exact);
		free(exact);
		assert_int_equal(v.type, VALUE_LIST);
		assert_int_equal(v.count, arrays[i].count);
		for (unsigned k = 0; k < v.count; k++) {
			if (arrays[i].items[k])
				assert_string_equal(value_as_text(&v.items[k], "?"), arrays[i].items[k]);
			else
				assert_int_equal(v.items[k].type, VALUE_NIL);
		}
	}
	convert(&arena, &v, 1016, "{3,NULL,-4}");
	assert_int_equal(v.count, 3);
	assert_int_equal(v.items[0].integer, 3);
	assert_int_equal(v.items[1].type, VALUE_NIL);
	assert_int_equal(v.items[2].integer, -4);
	convert(&arena, &v, 651, "{10.0.0.0/8,2001:db8::/32}");
	assert_string_equal(value_as_text(&v.items[1], ""), "2001:db8::/32");
	arena_clear(&arena);
}

static void test_error_codes(void **state)
{
	static const struct {
		const char *state, *message;
		enum rpc_error_code code;
	} codes[] = {
		{"23505", "", RPC_EXISTS},
		{"23503", "insert or update on table \"page\" violates foreign key constraint", RPC_INVALID},
		{"23503", "update or delete on table \"page\" violates foreign key constraint", RPC_REFUSED},
		{"23001", "", RPC_REFUSED},
		{"23514", "", RPC_INVALID},
		{"23502", "", RPC_INVALID},
		{"22P02", "", RPC_INVALID},
		{"22008", "", RPC_INVALID},
		{"P0002", "", RPC_NOT_FOUND},
		{"42501", "", RPC_REFUSED},
		{"55P03", "", RPC_UNAVAILABLE},
		{"40P01", "", RPC_UNAVAILABLE},
		{"40001", "", RPC_UNAVAILABLE},
		{"57014", "", RPC_UNAVAILABLE},
		{"25006", "", RPC_UNAVAILABLE},
		{"42601", "", RPC_INTERNAL},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		assert_int_equal(writer_value_code(codes[i].state, codes[i].message), codes[i].code);
}

static void test_error_is_cut_at_a_character(void **state)
{
	struct rpc_error error;
	char message[400];

	(void)state;
	/* two bytes a character, at odd and even places */
	for (unsigned lead = 0; lead < 2; lead++) {
		size_t at = lead;

		memset(message, 'x', lead);
		for (; at < 390; at += 2)
			memcpy(message + at, "\xc3\xa4", 2);
		message[at] = '\0';
		writer_value_fail(&error, RPC_INVALID, message);
		assert_int_equal(error.code, RPC_INVALID);
		assert_true(strlen(error.message) >= sizeof(error.message) - 3);
		assert_int_equal((strlen(error.message) - lead) % 2, 0);
	}
	writer_value_fail(&error, RPC_EXISTS, "short \xc3\xa4");
	assert_string_equal(error.message, "short \xc3\xa4");
}

/* What the database said somewhere between two readings of the local clock. */
static void test_clock_ahead(void **state)
{
	(void)state;
	assert_int_equal(feed_clock_ahead(150, 100, 200), 0);
	assert_int_equal(feed_clock_ahead(100, 100, 200), 0);
	assert_int_equal(feed_clock_ahead(200, 100, 200), 0);
	assert_int_equal(feed_clock_ahead(201, 100, 200), 1);
	assert_int_equal(feed_clock_ahead(99, 100, 200), -1);
	assert_int_equal(feed_clock_ahead(5000200, 100, 200), 5000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conninfo),	cmocka_unit_test(test_conninfo_wrong),
		cmocka_unit_test(test_conninfo_params), cmocka_unit_test(test_conninfo_credential),
		cmocka_unit_test(test_loopback),	cmocka_unit_test(test_session_sql),
		cmocka_unit_test(test_one_line),	cmocka_unit_test(test_schema_version),
		cmocka_unit_test(test_words),		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_values),		cmocka_unit_test(test_arrays),
		cmocka_unit_test(test_error_codes),	cmocka_unit_test(test_error_is_cut_at_a_character),
		cmocka_unit_test(test_clock_ahead),
	};

	return cmocka_run_group_tests(tests, clean_environment, NULL);
}
