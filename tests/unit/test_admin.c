/*
 * Administration against a writer that is played here: what reaches the database for each method, what is refused
 * before it, how rows become answers, and that a minted key is nowhere but in its one answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/admin/table.h"
#include "daemon/log.h"
#include "daemon/modules/glass.h"

/* ---- the writer, played ---- */

struct played {
	unsigned calls;
	int refuse; /* what writer_run returns */
	char *sql;
	char *params[ADMIN_PARAMS_MAX];
	unsigned param_count;
	bool change;
	char actor[32];
	writer_done done;
	void *data;
};
static struct played played;

struct answered {
	unsigned times;
	struct rpc_error error;
	char key[KEYTEXT_MAX + 1];
	char text[40960]; /* the result, written out */
};
static struct answered answered;

static struct config *config;
static struct secret *secret;
static struct admin admin;
static uv_loop_t loop;

static void forget_call(void)
{
	for (unsigned i = 0; i < ADMIN_PARAMS_MAX; i++)
		free(played.params[i]);
	free(played.sql);
	memset(&played, 0, sizeof(played));
}

int writer_run(struct writer *writer, const struct writer_call *call)
{
	int refuse = played.refuse;
	unsigned calls = played.calls + 1;

	assert_ptr_equal(writer, &played);
	forget_call();
	played.refuse = refuse;
	played.calls = calls;
	if (refuse)
		return refuse;
	assert_true(call->param_count <= ADMIN_PARAMS_MAX);
	played.sql = strdup(call->sql);
	played.param_count = call->param_count;
	for (unsigned i = 0; i < call->param_count; i++)
		played.params[i] = call->params[i] ? strdup(call->params[i]) : NULL;
	played.change = call->change;
	snprintf(played.actor, sizeof(played.actor), "%s", call->actor);
	played.done = call->done;
	played.data = call->data;
	return 0;
}

/* ---- values, written out and read: a little JSON, enough for the tests ---- */

static void put(char *out, size_t size, const char *text)
{
	size_t at = strlen(out);

	snprintf(out + at, size - at, "%s", text);
}

static void write_out(const struct value *v, char *out, size_t size)
{
	char number[32];

	switch (v->type) {
	case VALUE_NIL:
		put(out, size, "nil");
		break;
	case VALUE_BOOL:
		put(out, size, v->truth ? "true" : "false");
		break;
	case VALUE_INT:
		snprintf(number, sizeof(number), "%lld", (long long)v->integer);
		put(out, size, number);
		break;
	case VALUE_UINT:
		snprintf(number, sizeof(number), "%llu", (unsigned long long)v->unsigned_integer);
		put(out, size, number);
		break;
	case VALUE_FLOAT:
		put(out, size, "float");
		break;
	case VALUE_TEXT:
		put(out, size, v->text);
		break;
	case VALUE_LIST:
		put(out, size, "[");
		for (uint32_t i = 0; i < v->count; i++) {
			put(out, size, i ? "," : "");
			write_out(&v->items[i], out, size);
		}
		put(out, size, "]");
		break;
	case VALUE_MAP:
		put(out, size, "{");
		for (uint32_t i = 0; i < v->count; i++) {
			put(out, size, i ? "," : "");
			put(out, size, v->fields[i].name);
			put(out, size, ":");
			write_out(&v->fields[i].value, out, size);
		}
		put(out, size, "}");
		break;
	}
}

/* Reads {a:'text',b:7,c:[..],d:nil,e:true,f:1.5}: names are letters, digits, dots and underscores. */
static const char *read_in(struct arena *arena, const char *at, struct value *v)
{
	if (*at == '{' || *at == '[') {
		char end = *at == '{' ? '}' : ']';

		if (*at == '{')
			value_map(v);
		else
			value_list(v);
		for (at++; *at != end; at += *at == ',') {
			struct value *inner;

			if (end == '}') {
				const char *colon = strchr(at, ':');

				inner = value_set(arena, v, arena_text(arena, at, (size_t)(colon - at)));
				at = colon + 1;
			} else {
				inner = value_add(arena, v);
			}
			assert_non_null(inner);
			at = read_in(arena, at, inner);
		}
		return at + 1;
	}
	if (*at == '\'') {
		const char *end = strchr(at + 1, '\'');

		assert_true(value_text(arena, v, at + 1, (size_t)(end - at - 1)));
		return end + 1;
	}
	if (!strncmp(at, "nil", 3))
		return at + 3;
	if (!strncmp(at, "true", 4)) {
		value_bool(v, true);
		return at + 4;
	}
	if (!strncmp(at, "1.5", 3)) {
		v->type = VALUE_FLOAT;
		v->real = 1.5;
		return at + 3;
	}
	char *end;
	value_int(v, strtoll(at, &end, 10));
	assert_ptr_not_equal(end, at);
	return end;
}

static void on_done(void *data, const struct rpc_error *error, const struct value *result)
{
	assert_ptr_equal(data, &answered);
	answered.times++;
	answered.error = *error;
	answered.text[0] = '\0';
	answered.key[0] = '\0';
	if (result) {
		write_out(result, answered.text, sizeof(answered.text));
		snprintf(answered.key, sizeof(answered.key), "%s", value_as_text(value_get(result, "key"), ""));
	}
}

/* Starts a request; what is not the database's to answer is answered when this returns. */
static void ask(const char *method, const char *params)
{
	struct rpc_request request = {.method = RPC_METHOD_ADMIN, .admin_method = {method, (uint32_t)strlen(method)}};
	struct arena arena = {0};
	struct value map = {0};

	memset(&answered, 0, sizeof(answered));
	played.calls = 0;
	read_in(&arena, params, &map);
	request.admin_params = &map;
	assert_int_equal(admin_start(&admin, &loop, &request, 1000, on_done, &answered), 0);
	assert_int_equal(answered.times, 0);
	arena_clear(&arena); /* it was borrowed for the call only */
	uv_run(&loop, UV_RUN_DEFAULT);
}

/* The database answers with these rows. */
static void answer(const char *rows, uint64_t rev)
{
	struct arena arena = {0};
	struct value list = {0};
	struct writer_result result = {.arena = &arena, .rows = &list, .rev = rev};

	assert_int_equal(answered.times, 0);
	read_in(&arena, rows, &list);
	played.done(played.data, &result);
	arena_clear(&arena);
}

static void answer_error(enum rpc_error_code code, const char *message)
{
	struct writer_result result = {.error = {.code = code}};

	snprintf(result.error.message, sizeof(result.error.message), "%s", message);
	played.done(played.data, &result);
}

static void refused(const char *method, const char *params, const char *message)
{
	ask(method, params);
	assert_int_equal(answered.times, 1);
	assert_int_equal(played.calls, 0);
	assert_string_equal(answered.error.message, message);
	assert_int_equal(answered.error.code, RPC_BAD_PARAMS);
}

/* Asks what reaches the database: as many parameters as are named, then the end. "-" is null. */
static void reaches(const char *method, const char *params, ...)
{
	const char *wanted;
	unsigned i = 0;
	va_list list;

	ask(method, params);
	if (answered.times)
		fail_msg("%s %s: %s", method, params, answered.error.message);
	assert_int_equal(played.calls, 1);
	va_start(list, params);
	for (; (wanted = va_arg(list, const char *)); i++) {
		assert_true(i < played.param_count);
		if (!strcmp(wanted, "-"))
			assert_null(played.params[i]);
		else if (!played.params[i])
			fail_msg("%s %s: $%u is null", method, params, i + 1);
		else
			assert_string_equal(played.params[i], wanted);
	}
	va_end(list);
	assert_string_equal(played.actor, "uid:1000");
}
#define END ((const char *)NULL)

/* ---- the fixture ---- */

static int set_up(void **state)
{
	char path[] = "/tmp/apikeyd-admin-test.XXXXXX", errors[512] = "";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(dprintf(fd, "3 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"), 67);
	close(fd);
	secret = secret_load(path, errors, sizeof(errors));
	unlink(path);
	if (!secret)
		fail_msg("%s", errors);
	config = config_load(NULL, errors, sizeof(errors));
	if (!config)
		fail_msg("%s", errors);
	config->admin_rows = 3;
	admin = (struct admin){.writer = (struct writer *)&played, .config = config, .secret = secret};
	log_set_level(LOG_LEVEL_ERROR);
	return uv_loop_init(&loop);
}

static int tear_down(void **state)
{
	(void)state;
	forget_call();
	config_free(config);
	secret_free(secret);
	return uv_loop_close(&loop); /* refuses where a handle is left */
}

/* ---- the tests ---- */

static void test_the_table_is_whole(void **state)
{
	static const char *const names[] = {
		"org_add",   "org_list",  "org_show",	 "org_set",	"org_remove",  "page_add",
		"page_list", "page_show", "page_set",	 "page_remove", "user_add",    "user_list",
		"user_show", "user_set",  "user_remove", "member_set",	"member_list", "member_remove",
		"key_mint",  "key_list",  "key_show",	 "key_disable", "key_enable",  "key_revoke",
	};
	(void)state;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct admin_method *method = admin_method_find(names[i], strlen(names[i]));
		unsigned count = 0, used = 0;

		if (!method)
			fail_msg("no method %s", names[i]);
		assert_true(method->help && method->sql && method->noun);
		for (; method->params[count].name; count++) {
			const struct admin_param *p = &method->params[count];
			char place[8];

			if ((p->type == ADMIN_TEXT || p->type == ADMIN_TEXTS) && (!p->fits || !p->right))
				fail_msg("%s: %s is not checked", names[i], p->name);
			snprintf(place, sizeof(place), "$%u::", count + 1);
			used += strstr(method->sql, place) != NULL;
		}
		assert_int_equal(used, count);
		assert_true(count + (method->extra ? 5 : 0) <= ADMIN_PARAMS_MAX);
	}
	assert_null(admin_method_find("org", 3));
	assert_null(admin_method_find("org_addx", 8));
}

static void test_unknown_method(void **state)
{
	(void)state;
	ask("org_dance", "{}");
	assert_int_equal(answered.times, 1);
	assert_int_equal(answered.error.code, RPC_UNKNOWN_METHOD);
	assert_string_equal(answered.error.message, "unknown method 'org_dance'");
}

static void test_what_reaches_the_database(void **state)
{
	(void)state;
#define CASE(...)                                                                                                      \
	do {                                                                                                           \
		reaches(__VA_ARGS__, END);                                                                             \
		answer("[]", 0);                                                                                       \
	} while (0)
	CASE("org_add", "{org:'acme'}", "acme", "-");
	CASE("org_add", "{org:'acme',name:'Acme \xc3\xa9'}", "acme", "Acme \xc3\xa9");
	CASE("org_list", "{}", "-", "4");
	CASE("org_list", "{after:'acme',limit:2}", "acme", "3");
	CASE("org_show", "{org:'acme'}", "acme");
	CASE("org_set", "{org:'acme',standing:'suspended',name:nil}", "acme", "-", "-", "suspended");
	CASE("org_remove", "{org:'acme'}", "acme");
	CASE("page_add", "{org:'acme',page:'status'}", "acme", "status", "-");
	CASE("page_list", "{}", "-", "-", "4");
	CASE("page_set", "{page:'status',slug:'new',standing:'archived'}", "status", "new", "-", "archived");
	CASE("page_remove", "{page:'status'}", "status");
	CASE("user_add", "{user:'a@b.c',name:'A'}", "a@b.c", "A");
	CASE("user_set", "{user:'a@b.c',email:'d@e.f'}", "a@b.c", "d@e.f", "-", "-");
	CASE("member_set", "{user:'a@b.c',org:'acme',role:'editor'}", "a@b.c", "acme", "-", "editor");
	CASE("member_set", "{user:'a@b.c',page:'status',role:'viewer'}", "a@b.c", "-", "status", "viewer");
	CASE("member_list", "{page:'status'}", "-", "-", "status", "-", "4");
	CASE("member_remove", "{user:'a@b.c',page:'status'}", "a@b.c", "-", "status");
	CASE("key_list", "{org:'acme',limit:1}", "acme", "-", "-", "2");
	CASE("key_show", "{key_id:'0123456789'}", "0123456789");
	CASE("key_disable", "{key_id:'0123456789'}", "0123456789");
	CASE("key_enable", "{key_id:'0123456789'}", "0123456789");
	CASE("key_revoke", "{key_id:'0123456789'}", "0123456789");
#undef CASE
}

static void test_changes_are_marked(void **state)
{
	(void)state;
	reaches("org_add", "{org:'acme'}", END);
	assert_true(played.change);
	answer("[]", 0);
	reaches("org_show", "{org:'acme'}", END);
	assert_false(played.change);
	answer("[]", 0);
}

static void test_bad_parameters(void **state)
{
	(void)state;
#define SLUG "1 to 63 of a-z 0-9 -, neither first nor last a -"
	refused("org_add", "{}", "org_add: org is missing: give " SLUG);
	refused("org_add", "{org:nil}", "org_add: org is missing: give " SLUG);
	refused("org_add", "{org:''}", "org_add: org is '': it must be " SLUG);
	refused("org_add", "{org:'Acme'}", "org_add: org is 'Acme': it must be " SLUG);
	refused("org_add", "{org:'-a'}", "org_add: org is '-a': it must be " SLUG);
	refused("org_add", "{org:'a-'}", "org_add: org is 'a-': it must be " SLUG);
	refused("org_add", "{org:'a\nb'}", "org_add: org is 'a\\x0ab': it must be " SLUG);
	refused("org_add", "{org:7}", "org_add: org is 7: it must be " SLUG);
	refused("org_add", "{org:true}", "org_add: org is true: it must be " SLUG);
	refused("org_add", "{org:1.5}", "org_add: org is a floating-point number: it must be " SLUG);
	refused("org_add", "{org:['a']}", "org_add: org is a list: it must be " SLUG);
	refused("org_add", "{org:'a',color:'red'}", "org_add: unknown parameter 'color': it takes org, name");
	refused("org_add", "{org:'a',org:'b'}", "org_add: org is given twice");
	refused("org_add", "{org:'a',name:'x\ny'}",
		"org_add: name is 'x\\x0ay': it must be 1 to 200 bytes of UTF-8 on one line, and not a key");
	refused("org_add", "{org:'a',name:'\xff'}",
		"org_add: name is '?': it must be 1 to 200 bytes of UTF-8 on one line, and not a key");
	refused("org_set", "{org:'a'}", "org_set: nothing to change was given: it takes org, slug, name, standing");
	refused("org_set", "{org:'a',standing:'gone'}", "org_set: standing is 'gone': it must be active or suspended");
	refused("page_set", "{page:'a',standing:'suspended'}",
		"page_set: standing is 'suspended': it must be active or archived");
	refused("org_list", "{limit:0}", "org_list: limit is 0: it must be an integer from 1 to 3");
	refused("org_list", "{limit:4}", "org_list: limit is 4: it must be an integer from 1 to 3");
	refused("org_list", "{limit:'2'}", "org_list: limit is '2': it must be an integer from 1 to 3");
	refused("user_add", "{user:'nobody'}",
		"user_add: user is 'nobody': it must be an e-mail address of at most 254 characters");
	refused("member_set", "{user:'a@b.c',org:'a',role:'Very Big'}",
		"member_set: role is 'Very Big': it must be a word of a-z 0-9 _ of at most 32 characters");
	refused("member_set", "{user:'a@b.c',role:'viewer'}", "member_set: give org or page, exactly one of them");
	refused("member_set", "{user:'a@b.c',org:'a',page:'p',role:'viewer'}",
		"member_set: give org or page, exactly one of them");
	refused("member_remove", "{user:'a@b.c'}", "member_remove: give org or page, exactly one of them");
	refused("member_list", "{user:'a@b.c',page:'p'}", "member_list: give at most one of user, org and page");
	refused("key_list", "{user:'a@b.c',org:'p'}", "key_list: give at most one of org and user");
	refused("key_mint", "{kind:'robot'}", "key_mint: kind is 'robot': it must be user or organization");
	refused("key_mint", "{kind:'user'}", "key_mint: user is missing: a user key has one");
	refused("key_mint", "{kind:'user',user:'a@b.c',org:'a'}", "key_mint: org is given: a user key has none");
	refused("key_mint", "{kind:'user',user:'a@b.c',access:'read'}",
		"key_mint: access is given: a user key has none");
	refused("key_mint", "{kind:'organization'}", "key_mint: org is missing: an organization key has one");
	refused("key_mint", "{kind:'organization',org:'a',user:'a@b.c'}",
		"key_mint: user is given: an organization key has none");
	refused("key_mint", "{kind:'organization',org:'a',pages:'p'}", "key_mint: pages is 'p': it must be a list");
	refused("key_mint", "{kind:'organization',org:'a',pages:['p','P']}",
		"key_mint: pages[1] is 'P': it must be a page's slug: " SLUG);
	refused("key_mint", "{kind:'organization',org:'a',scopes:[7]}",
		"key_mint: scopes[0] is 7: it must be resource:action, of a-z 0-9 _ -, at most 64 characters");
	refused("key_mint", "{kind:'organization',org:'a',rate:5}",
		"key_mint: rate is 5: it must be a map of count and period_s");
	refused("key_mint", "{kind:'organization',org:'a',rate:{count:5}}",
		"key_mint: rate.period_s is nil: it must be an integer from 1 to 31536000");
	refused("key_mint", "{kind:'organization',org:'a',rate:{count:0,period_s:1}}",
		"key_mint: rate.count is 0: it must be an integer from 1 to 1000000000");
	refused("key_mint", "{kind:'organization',org:'a',rate:{count:5,period_s:1,burst:2}}",
		"key_mint: rate has a field 'burst': it must be a map of count and period_s");
	refused("key_mint", "{kind:'organization',org:'a',expires_at:'tomorrow'}",
		"key_mint: expires_at is 'tomorrow': it must be a time such as 2030-01-31T12:00:00Z, or seconds since "
		"1970");
	refused("key_mint", "{kind:'organization',org:'a',expires_at:-1}",
		"key_mint: expires_at is -1: it must be a time such as 2030-01-31T12:00:00Z, or seconds since 1970");
	assert_int_equal(admin.changes, 0);
	assert_true(admin.errors >= 30 && admin.errors == admin.requests);
}

static void test_what_fits(void **state)
{
	static const struct {
		bool (*fits)(const char *, size_t);
		const char *good[8], *bad[16];
	} cases[] = {
		{admin_fits_time,
		 {"2030-01-31T12:00:00Z", "2028-02-29T00:00:00Z", "2030-01-31T12:00:00.123456Z",
		  "2030-01-31T12:00:00+02:00", "0001-01-01T00:00:00-14:00", "2000-02-29T00:00:00Z"},
		 {"2030-01-31", "2030-01-31T12:00:00", "2030-02-29T00:00:00Z", "1900-02-29T00:00:00Z",
		  "2030-13-01T00:00:00Z", "2030-01-01T24:00:00Z", "2030-01-01T00:60:00Z", "2030-01-01T00:00:60Z",
		  "2030-01-01T00:00:00.Z", "2030-01-01T00:00:00ZZ", "2030-01-01T00:00:00+0200", "0000-01-01T00:00:00Z",
		  "infinity", "2030-01-01 00:00:00Z", "2030-01-01T00:00:00+15:00"}},
		{admin_fits_network,
		 {"192.0.2.0/24", "192.0.2.7", "192.0.2.7/32", "0.0.0.0/0", "2001:db8::/32", "::/0", "2001:db8::1",
		  "2001:db8::1/128"},
		 {"192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/", "192.0.2/24", "2001:db8::1/32", "::/129",
		  "::ffff:192.0.2.0/120", "192.0.2.0/024", "192.0.2.0/a", "localhost", "", "192.0.2.0/0008",
		  "10.0.0.0/-8"}},
		{admin_fits_scope,
		 {"incident:write", "a:b", "on-call_2:read"},
		 {"incident", ":write", "incident:", "Incident:write", "incident:write:now", "incident: write", "",
		  "incident*:read"}},
		{admin_fits_email,
		 {"a@b", "ann.o'neill+x@example.com", "\xc3\xa9@example.com"},
		 {"a", "@b", "a@", "a b@c", "a@b@c", "a\n@b", "", "\xc3@b"}},
		{admin_fits_slug, {"a", "a-b", "0"}, {"a_b", "A", "a.b", " a", "a/b", "\xc3\xa9"}},
		{admin_fits_key_id, {"0123456789", "zzzzzzzzzz"}, {"012345678", "01234567890", "012345678-", ""}},
		{admin_fits_name,
		 {"x", "\xf0\x9f\x94\x91", "a 'quoted' name"},
		 {"", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\tb", "\xe2\x80\xa8", "\xc3", "\xe0\x80\xaf",
		  "aku_0123456789_0123456789012345678901234567890123456789012345678"}},
	};
	char slug[ADMIN_SLUG_MAX + 2];
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (const char *const *text = cases[i].good; text < cases[i].good + 8 && *text; text++) {
			if (!cases[i].fits(*text, strlen(*text)))
				fail_msg("'%s' does not fit", *text);
		}
		for (const char *const *text = cases[i].bad; text < cases[i].bad + 16 && *text; text++) {
			if (cases[i].fits(*text, strlen(*text)))
				fail_msg("'%s' fits", *text);
		}
	}
	memset(slug, 'a', sizeof(slug));
	assert_true(admin_fits_slug(slug, ADMIN_SLUG_MAX));
	assert_false(admin_fits_slug(slug, ADMIN_SLUG_MAX + 1));
	assert_false(admin_fits_slug("a\0b", 3));
	assert_false(admin_fits_name("a\0b", 3));
}

static void test_a_key_is_never_shown_in_an_error(void **state)
{
	const char *key = "aku_0123456789_0123456789012345678901234567890123456789012345678";
	static const char *const methods[] = {"key_show", "key_revoke", "org_show"};
	char params[256];
	(void)state;

	for (size_t i = 0; i < 3; i++) {
		snprintf(params, sizeof(params), "{%s:'%s'}", i < 2 ? "key_id" : "org", key);
		ask(methods[i], params);
		assert_int_equal(answered.error.code, RPC_BAD_PARAMS);
		assert_null(strstr(answered.error.message, "01234567890"));
		assert_non_null(strstr(answered.error.message, "not shown"));
	}
	snprintf(params, sizeof(params), "{key_id:'0123456789',%s:1}", key);
	ask("key_show", params);
	assert_null(strstr(answered.error.message, "01234567890"));
	ask(key, "{}");
	assert_null(strstr(answered.error.message, "01234567890"));
}

static void test_a_row_becomes_an_answer(void **state)
{
	(void)state;
	reaches("org_add", "{org:'acme'}", END);
	answer("[{org:'acme',name:'Acme',standing:'active'}]", 1700000000000001);
	assert_int_equal(answered.error.code, RPC_OK);
	assert_string_equal(answered.text, "{org:acme,name:Acme,standing:active,rev:1700000000000001}");
	assert_int_equal(admin.changes, 1);

	reaches("org_show", "{org:'acme'}", END);
	answer("[{org:'acme',pages:3}]", 0);
	assert_string_equal(answered.text, "{org:acme,pages:3}");
}

static void test_dotted_columns_nest(void **state)
{
	(void)state;
	reaches("key_show", "{key_id:'0123456789'}", END);
	answer("[{cursor:'x',key_id:'x',narrowing.pages:['a','b'],narrowing.scopes:nil,"
	       "narrowing.rate.count:5,narrowing.rate.period_s:60,name:nil}]",
	       0);
	assert_string_equal(answered.text, "{key_id:x,narrowing:{pages:[a,b],rate:{count:5,period_s:60}},name:nil}");
	reaches("key_show", "{key_id:'0123456789'}", END);
	answer("[{cursor:'x',narrowing.pages:nil,narrowing.rate.count:nil,narrowing.rate.period_s:nil}]", 0);
	assert_string_equal(answered.text, "{narrowing:{}}");
}

static void test_lists_go_on(void **state)
{
	(void)state;
	reaches("org_list", "{limit:2}", END);
	answer("[{cursor:'a',org:'a'},{cursor:'b',org:'b'},{cursor:'c',org:'c'}]", 0);
	assert_string_equal(answered.text, "{rows:[{org:a},{org:b}],next:b}");
	reaches("org_list", "{limit:2}", END);
	answer("[{cursor:'a',org:'a'},{cursor:'b',org:'b'}]", 0);
	assert_string_equal(answered.text, "{rows:[{org:a},{org:b}],next:nil}");
	reaches("org_list", "{}", END);
	answer("[]", 0);
	assert_string_equal(answered.text, "{rows:[],next:nil}");
	reaches("page_list", "{}", END);
	answer("[{fault:nil,fault_code:nil,cursor:nil,page:nil}]", 0);
	assert_string_equal(answered.text, "{rows:[],next:nil}");
}

static void test_faults_and_missing_rows(void **state)
{
	(void)state;
	reaches("org_show", "{org:'acme'}", END);
	answer("[]", 0);
	assert_int_equal(answered.error.code, RPC_NOT_FOUND);
	assert_string_equal(answered.error.message, "no organization 'acme'");

	reaches("page_add", "{org:'acme',page:'p'}", END);
	answer("[]", 0);
	assert_string_equal(answered.error.message, "no organization 'acme'");

	reaches("org_remove", "{org:'acme'}", END);
	answer("[{fault_code:'refused',fault:'organization acme has keys',cursor:nil,org:nil}]", 9);
	assert_int_equal(answered.error.code, RPC_REFUSED);
	assert_string_equal(answered.error.message, "organization acme has keys");

	reaches("member_list", "{org:'acme'}", END);
	answer("[{fault_code:'not_found',fault:'no organization acme',cursor:nil}]", 0);
	assert_int_equal(answered.error.code, RPC_NOT_FOUND);
	assert_int_equal(admin.changes, 0);
}

static void test_the_database_says_no(void **state)
{
	(void)state;
	reaches("org_add", "{org:'acme'}", END);
	answer_error(RPC_EXISTS, "duplicate key");
	assert_int_equal(answered.times, 1);
	assert_int_equal(played.calls, 1);
	assert_int_equal(answered.error.code, RPC_EXISTS);
	assert_string_equal(answered.error.message, "organization 'acme' exists already");
	reaches("page_add", "{org:'acme',page:'p'}", END);
	answer_error(RPC_EXISTS, "duplicate key");
	assert_string_equal(answered.error.message, "page 'p' exists already");
	reaches("user_set", "{user:'a@b.c',email:'d@e.f'}", END);
	answer_error(RPC_EXISTS, "duplicate key");
	assert_string_equal(answered.error.message, "user 'd@e.f' exists already");
	reaches("member_set", "{user:'a@b.c',org:'acme',role:'owner'}", END);
	answer_error(RPC_REFUSED, "because");
	assert_string_equal(answered.error.message, "because");
}

static void test_a_full_queue(void **state)
{
	(void)state;
	played.refuse = -EAGAIN;
	ask("org_add", "{org:'acme'}");
	assert_int_equal(answered.times, 1);
	assert_int_equal(answered.error.code, RPC_LIMIT);
	assert_string_equal(answered.error.message,
			    "org_add: too many requests wait for the database (database.admin_queue = 64): try again");
	played.refuse = -ENOMEM;
	ask("org_add", "{org:'acme'}");
	assert_int_equal(answered.error.code, RPC_INTERNAL);
	played.refuse = 0;
}

static void test_mint(void **state)
{
	uint8_t hash[SECRET_HASH_LEN], check[SECRET_HASH_LEN];
	char hex[2 + 2 * SECRET_HASH_LEN + 1] = "\\x", id[KEYTEXT_ID_LEN + 1];
	struct keytext parsed;
	(void)state;

	reaches("key_mint",
		"{kind:'organization',org:'acme',name:'ci',pages:['a','b'],scopes:[],networks:['10.0.0.0/8'],"
		"not_before:0,expires_at:'2030-01-31T12:00:00Z',rate:{count:5,period_s:60}}",
		"organization", "-", "acme", "-", "ci", "[\"a\",\"b\"]", "[]", "[\"10.0.0.0/8\"]",
		"1970-01-01T00:00:00Z", "2030-01-31T12:00:00Z", "{\"count\":5,\"period_s\":60}", END);
	assert_true(played.change);
	assert_int_equal(played.param_count, 16);
	assert_string_equal(played.params[13], "3");
	assert_string_equal(played.params[15], "uid:1000");
	snprintf(id, sizeof(id), "%s", played.params[11]);
	char *hash_param = strdup(played.params[12]), *check_param = strdup(played.params[14]);

	answer("[{cursor:'x',key_id:'x',narrowing.pages:['a','b']}]", 77);
	assert_int_equal(answered.error.code, RPC_OK);
	assert_true(keytext_parse(answered.key, strlen(answered.key), "ak", 2, &parsed));
	assert_int_equal(parsed.kind, KEY_KIND_ORGANIZATION);
	assert_string_equal(parsed.id_text, id);
	assert_true(secret_hash(secret, 3, answered.key, strlen(answered.key), hash));
	for (unsigned i = 0; i < sizeof(hash); i++)
		sprintf(hex + 2 + 2 * i, "%02x", hash[i]);
	assert_string_equal(hash_param, hex);
	assert_true(secret_check_value(secret, 3, check));
	for (unsigned i = 0; i < sizeof(check); i++)
		sprintf(hex + 2 + 2 * i, "%02x", check[i]);
	assert_string_equal(check_param, hex);
	assert_non_null(strstr(answered.text, ",rev:77}"));
	free(hash_param);
	free(check_param);

	reaches("key_mint", "{kind:'user',user:'a@b.c'}", "user", "a@b.c", "-", "-", "-", "-", "-", "-", "-", "-", "-",
		END);
	assert_string_not_equal(played.params[11], id);
	answer("[{cursor:'x',key_id:'x'}]", 78);
	assert_true(keytext_parse(answered.key, strlen(answered.key), "ak", 2, &parsed));
	assert_int_equal(parsed.kind, KEY_KIND_USER);
}

/* What reaches the database is neither the key nor any stretch of its secret. */
static void test_the_database_never_sees_a_key(void **state)
{
	char *params[ADMIN_PARAMS_MAX], stretch[13] = "";
	unsigned count;
	(void)state;

	reaches("key_mint", "{kind:'organization',org:'acme'}", END);
	count = played.param_count;
	for (unsigned i = 0; i < count; i++)
		params[i] = played.params[i] ? strdup(played.params[i]) : NULL;
	answer("[{cursor:'x',key_id:'x'}]", 1);
	memcpy(stretch, answered.key + strlen("ako_0123456789_"), 12);
	assert_int_equal(strlen(stretch), 12);
	for (unsigned i = 0; i < count; i++) {
		if (params[i])
			assert_null(strstr(params[i], stretch));
		free(params[i]);
	}
}

/* A taken id costs another attempt with a key of its own; a fault does not. */
static void test_mint_tries_again(void **state)
{
	char first[KEYTEXT_ID_LEN + 1];
	(void)state;

	reaches("key_mint", "{kind:'organization',org:'acme'}", END);
	snprintf(first, sizeof(first), "%s", played.params[11]);
	answer("[{fault:nil,fault_code:nil,cursor:nil}]", 5);
	assert_int_equal(answered.times, 0);
	assert_int_equal(played.calls, 2);
	assert_string_not_equal(played.params[11], first);
	answer("[{fault:nil,cursor:'x',key_id:'x'}]", 6);
	assert_int_equal(answered.error.code, RPC_OK);

	reaches("key_mint", "{kind:'organization',org:'acme'}", END);
	for (int i = 0; i < 4; i++)
		answer("[{fault:nil,cursor:nil}]", 5);
	assert_int_equal(answered.times, 1);
	assert_int_equal(played.calls, 4);
	assert_int_equal(answered.error.code, RPC_EXISTS);
	assert_string_equal(answered.key, "");

	reaches("key_mint", "{kind:'organization',org:'acme',pages:['p']}", END);
	answer("[{fault_code:'not_found',fault:'no page p',cursor:nil}]", 5);
	assert_int_equal(played.calls, 1);
	assert_int_equal(answered.error.code, RPC_NOT_FOUND);
	assert_string_equal(answered.error.message, "no page p");

	/* The queue may be full at the second attempt. */
	reaches("key_mint", "{kind:'organization',org:'acme'}", END);
	played.refuse = -EAGAIN;
	answer("[{fault:nil,cursor:nil}]", 5);
	assert_int_equal(answered.times, 1);
	assert_int_equal(answered.error.code, RPC_LIMIT);
	played.refuse = 0;
}

/* The copy that the test took of a key stands nowhere else in the heap. */
static void assert_wiped(void)
{
	char needle[24], line[512];
	unsigned found = 0, regions = 0;
	FILE *maps;

	/* What is looked for must not be what is found: the copies are turned over. */
	for (size_t i = 0; i < sizeof(needle); i++)
		needle[i] = (char)~answered.key[16 + i];
	memset(&answered, 0, sizeof(answered));
	maps = fopen("/proc/self/maps", "r");
	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long from, to;

		if (!strstr(line, "[heap]") || sscanf(line, "%lx-%lx", &from, &to) != 2)
			continue;
		regions++;
		for (const char *p = (const char *)from; p + sizeof(needle) <= (const char *)to; p++) {
			size_t i = 0;

			while (i < sizeof(needle) && p[i] == (char)~needle[i])
				i++;
			found += i == sizeof(needle);
		}
	}
	fclose(maps);
	if (!regions)
		skip(); /* a sanitizer's allocator keeps its memory elsewhere */
	assert_int_equal(found, 0);
}

/* After the answer the key stands in no memory of this process but the copy that the test took. */
static void test_the_key_is_wiped(void **state)
{
	(void)state;
	reaches("key_mint", "{kind:'organization',org:'acme'}", END);
	answer("[{cursor:'x',key_id:'x'}]", 1);
	assert_wiped();
	ask("break_glass_mint", "{org:'acme',pages:['p'],scopes:['incident:write'],hours:1}");
	assert_int_equal(answered.error.code, RPC_OK);
	assert_int_equal(strlen(answered.key), 64);
	assert_wiped();
}

/* ---- break-glass keys ---- */

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* The line of the answer, read as its file would be. Nothing has reached the database. */
static struct glass *read_answer(void)
{
	char errors[512] = "", *line = strstr(answered.text, ",line:") + 6;
	struct glass *glass = NULL;

	assert_int_equal(answered.times, 1);
	if (answered.error.code != RPC_OK)
		fail_msg("%s", answered.error.message);
	assert_int_equal(played.calls, 0);
	if (glass_parse("line", line, (size_t)(strstr(line, ",key:") - line), 1, &glass, errors, sizeof(errors)) != 0)
		fail_msg("%s", errors);
	return glass;
}

static void test_break_glass(void **state)
{
	int64_t before = now_us();
	uint8_t hash[SECRET_HASH_LEN];
	const struct glass_key *key;
	char id[16], end[GLASS_TIME_SIZE], want[128], params[160];
	struct keytext parsed;
	struct glass *glass;

	(void)state;
	ask("break_glass_mint",
	    "{org:'acme',pages:['acme-status','p2'],scopes:['incident:write','page:read'],hours:24}");
	glass = read_answer();
	key = glass_at(glass, 0);
	assert_true(keytext_parse(answered.key, strlen(answered.key), "ak", 2, &parsed));
	assert_int_equal(parsed.kind, KEY_KIND_BREAK_GLASS);
	assert_string_equal(key->key_id, parsed.id_text);
	assert_int_equal(key->pepper, 3);
	assert_true(secret_hash(secret, 3, answered.key, strlen(answered.key), hash));
	assert_memory_equal(key->hash, hash, sizeof(hash));
	assert_int_equal(key->organization.len, 4);
	assert_memory_equal(key->organization.data, "acme", 4);
	assert_int_equal(key->page_count, 2);
	assert_memory_equal(key->pages[0].data, "acme-status,p2 incident:write,page:read ", 40);
	assert_int_equal(key->scope_count, 2);
	/* on a whole minute, the last one that is not farther away */
	assert_int_equal(key->end_us % 60000000, 0);
	assert_true(key->end_us > before + INT64_C(86400000000) - 60000000);
	assert_true(key->end_us <= now_us() + INT64_C(86400000000));
	assert_null(glass_too_far(glass, before));
	glass_time_format(key->end_us, end);
	snprintf(want, sizeof(want), "{key_id:%s,org:acme,expires_at:%s,line:%s 3:", key->key_id, end, key->key_id);
	assert_int_equal(strncmp(answered.text, want, strlen(want)), 0);
	snprintf(id, sizeof(id), "%s", key->key_id);
	glass_free(glass);

	/* another time it is another key */
	before = now_us();
	glass_time_format(before + INT64_C(3000000000), end);
	snprintf(params, sizeof(params), "{org:'acme',pages:['p'],scopes:['a:b'],until:'%s'}", end);
	ask("break_glass_mint", params);
	glass = read_answer();
	assert_string_not_equal(glass_at(glass, 0)->key_id, id);
	assert_int_equal(glass_at(glass, 0)->end_us, (before + INT64_C(3000000000)) / 1000000 * 1000000);
	glass_free(glass);
}

/* As many pages and scopes as may be, each as long as may be. */
static void test_break_glass_at_its_longest(void **state)
{
	static char params[65536];
	struct glass *glass;

	(void)state;
	for (unsigned count = APIKEYD_NARROWING_MAX; count <= APIKEYD_NARROWING_MAX + 1; count++) {
		size_t len = (size_t)sprintf(params, "{org:'acme',hours:1,pages:[");

		for (unsigned i = 0; i < count; i++)
			len += (size_t)sprintf(params + len, "%s'%059u-%03u'", i ? "," : "", 0, i);
		len += (size_t)sprintf(params + len, "],scopes:[");
		for (unsigned i = 0; i < APIKEYD_NARROWING_MAX; i++)
			len += (size_t)sprintf(params + len, "%s'%060u:%03u'", i ? "," : "", 0, i);
		sprintf(params + len, "]}");
		if (count > APIKEYD_NARROWING_MAX) {
			refused("break_glass_mint", params,
				"break_glass_mint: pages has 257 items: it must have 1 to 256");
			break;
		}
		ask("break_glass_mint", params);
		if (answered.error.code != RPC_OK)
			fail_msg("%s", answered.error.message);
		glass = read_answer();
		assert_int_equal(glass_at(glass, 0)->page_count, APIKEYD_NARROWING_MAX);
		assert_int_equal(glass_at(glass, 0)->scope_count, APIKEYD_NARROWING_MAX);
		glass_free(glass);
	}
}

static void test_break_glass_is_refused(void **state)
{
#define METHOD "break_glass_mint: "
#define REST   ",pages:['p'],scopes:['a:b']"
	static const struct {
		const char *params, *message;
	} cases[] = {
		{"{}", METHOD "org is missing: give "
			      "1 to 63 of a-z 0-9 -, neither first nor last a -"},
		{"{org:'acme',scopes:['a:b'],hours:1}",
		 METHOD "pages is missing: give a page's slug: 1 to 63 of a-z 0-9 -, neither first nor last a -"},
		{"{org:'acme',pages:[],scopes:['a:b'],hours:1}", METHOD "pages has 0 items: it must have 1 to 256"},
		{"{org:'acme',pages:['p'],scopes:[],hours:1}", METHOD "scopes has 0 items: it must have 1 to 256"},
		{"{org:'acme',pages:['p'],scopes:['a:b','member:read'],hours:1}", METHOD
		 "scopes[1] is 'member:read': it must be resource:action, of a-z 0-9 _ -, at most 64 characters, and "
		 "never one of member, apikey or org"},
		{"{org:'acme',pages:['p'],scopes:['*'],hours:1}", METHOD
		 "scopes[0] is '*': it must be resource:action, of a-z 0-9 _ -, at most 64 characters, and never one of "
		 "member, apikey or org"},
		{"{org:'acme'" REST "}", METHOD "give one of hours and until"},
		{"{org:'acme'" REST ",hours:1,until:'2030-01-31T12:00:00Z'}", METHOD "give one of hours and until"},
		{"{org:'acme'" REST ",hours:0}", METHOD "hours is 0: it must be an integer from 1 to 24"},
		{"{org:'acme'" REST ",hours:25}", METHOD "hours is 25: it must be an integer from 1 to 24"},
		{"{org:'acme'" REST ",until:'2020-01-31T12:00:00Z'}",
		 METHOD "until is '2020-01-31T12:00:00Z': it must be a time of the next 24 hours"},
		{"{org:'acme'" REST ",until:'9999-01-31T12:00:00Z'}",
		 METHOD "until is '9999-01-31T12:00:00Z': it must be a time of the next 24 hours"},
		{"{org:'acme'" REST ",until:7}",
		 METHOD "until is '1970-01-01T00:00:07Z': it must be a time of the next 24 hours"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		refused("break_glass_mint", cases[i].params, cases[i].message);
		assert_string_equal(answered.key, "");
	}
#undef METHOD
#undef REST
}

static void test_stats(void **state)
{
	struct arena arena = {0};
	struct value map;
	char text[256] = "";
	(void)state;

	ask("org_add", "{}");
	reaches("org_add", "{org:'acme'}", END);
	answer("[{org:'acme'}]", 1);
	value_map(&map);
	assert_true(admin_stats(&admin, &arena, &map));
	write_out(&map, text, sizeof(text));
	assert_string_equal(text, "{admin:{requests:2,changes:1,errors:1}}");
	arena_clear(&arena);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_table_is_whole),
		TEST(test_unknown_method),
		TEST(test_what_reaches_the_database),
		TEST(test_changes_are_marked),
		TEST(test_bad_parameters),
		TEST(test_what_fits),
		TEST(test_a_key_is_never_shown_in_an_error),
		TEST(test_a_row_becomes_an_answer),
		TEST(test_dotted_columns_nest),
		TEST(test_lists_go_on),
		TEST(test_faults_and_missing_rows),
		TEST(test_the_database_says_no),
		TEST(test_a_full_queue),
		TEST(test_mint),
		TEST(test_the_database_never_sees_a_key),
		TEST(test_mint_tries_again),
		TEST(test_the_key_is_wiped),
		TEST(test_break_glass),
		TEST(test_break_glass_at_its_longest),
		TEST(test_break_glass_is_refused),
		TEST(test_stats),
	};

	return cmocka_run_group_tests_name("admin", tests, NULL, NULL);
}
