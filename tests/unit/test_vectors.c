/* Runs proto/vectors/ against proto/: the examples of the protocol, byte by byte. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>

#include "proto/keytext.h"
#include "proto/rpc.h"
#include "proto/scan.h"

static json_t *load(const char *name)
{
	char path[256];
	json_error_t error;
	json_t *doc;

	snprintf(path, sizeof(path), "proto/vectors/%s", name);
	doc = json_load_file(path, JSON_ALLOW_NUL, &error);
	if (!doc)
		fail_msg("%s:%d: %s", path, error.line, error.text);
	return doc;
}

/* The list `name`, which has at least one vector. */
static json_t *list_of(json_t *doc, const char *name)
{
	json_t *list = json_object_get(doc, name);

	if (json_array_size(list) == 0)
		fail_msg("no vectors in \"%s\"", name);
	return list;
}

static const char *text_of(json_t *vector, const char *name)
{
	const char *text = json_string_value(json_object_get(vector, name));

	if (!text)
		fail_msg("no text \"%s\" in: %s", name, json_dumps(vector, 0));
	return text;
}

static uint64_t number_of(json_t *vector, const char *name)
{
	json_t *number = json_object_get(vector, name);

	if (!json_is_integer(number))
		fail_msg("no number \"%s\" in: %s", name, json_dumps(vector, 0));
	return (uint64_t)json_integer_value(number);
}

/* A block of its own, exactly as long, so that ASan sees every byte read past it. The caller frees. */
static uint8_t *bytes_of(const char *hex, size_t *ret_len)
{
	size_t len = strlen(hex) / 2;
	uint8_t *bytes = malloc(len ? len : 1);

	assert_non_null(bytes);
	for (size_t i = 0; i < len; i++) {
		unsigned byte;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		bytes[i] = (uint8_t)byte;
	}
	*ret_len = len;
	return bytes;
}

static void assert_bytes(const char *name, const uint8_t *data, size_t len, const char *hex)
{
	size_t want_len;
	uint8_t *want = bytes_of(hex, &want_len);

	if (len != want_len || memcmp(data, want, len) != 0) {
		for (size_t i = 0; i < len; i++)
			fprintf(stderr, "%02x", data[i]);
		fprintf(stderr, "\n%s\n", hex);
		fail_msg("%s: other bytes than the vector's", name);
	}
	free(want);
}

static void assert_text(const char *name, struct rpc_text got, json_t *want)
{
	json_t *hex = json_is_object(want) ? json_object_get(want, "hex") : NULL;

	if (!want || json_is_null(want)) {
		if (got.data)
			fail_msg("%s: a text that should be absent", name);
		return;
	}
	if (!got.data)
		fail_msg("%s: no text", name);
	if (hex)
		assert_bytes(name, (const uint8_t *)got.data, got.len, json_string_value(hex));
	else if (got.len != json_string_length(want) || memcmp(got.data, json_string_value(want), got.len) != 0)
		fail_msg("%s: \"%.*s\" and not \"%s\"", name, (int)got.len, got.data, json_string_value(want));
}

/* ---- keytext.json ---- */

static void keytext_vectors(void **state)
{
	json_t *doc = load("keytext.json");
	json_t *v;
	size_t i;

	(void)state;
	json_array_foreach(list_of(doc, "crc32"), i, v)
	{
		const char *text = text_of(v, "text");

		assert_int_equal(keytext_crc32(text, strlen(text)), number_of(v, "crc32"));
	}
	json_array_foreach(list_of(doc, "key_id"), i, v)
	{
		char text[KEYTEXT_ID_LEN + 1];
		keytext_id id = 0;

		assert_true(keytext_id_parse(text_of(v, "key_id"), KEYTEXT_ID_LEN, &id));
		assert_int_equal(id, number_of(v, "number"));
		keytext_id_format(id, text);
		assert_string_equal(text, text_of(v, "key_id"));
	}
	json_array_foreach(list_of(doc, "format"), i, v)
	{
		char text[KEYTEXT_MAX + 1];
		size_t len;
		uint8_t *secret = bytes_of(text_of(v, "secret"), &len);
		const char *word = text_of(v, "kind");
		enum key_kind kind = KEY_KIND_USER;
		keytext_id id;

		assert_int_equal(len, KEYTEXT_SECRET_BYTES);
		assert_true(keytext_id_parse(text_of(v, "key_id"), KEYTEXT_ID_LEN, &id));
		assert_true(key_kind_from_word(word, strlen(word), &kind));
		len = keytext_format(text_of(v, "brand"), kind, id, secret, text);
		assert_string_equal(text, text_of(v, "text"));
		assert_int_equal(len, strlen(text));
		free(secret);
	}
	json_array_foreach(list_of(doc, "parse"), i, v)
	{
		const char *text = text_of(v, "text"), *brand = text_of(v, "brand");
		bool good = !json_is_true(json_object_get(v, "malformed"));
		struct keytext key = {.id = 1};

		if (keytext_parse(text, strlen(text), brand, strlen(brand), &key) != good)
			fail_msg("%s", text_of(v, "name"));
		if (!good) {
			assert_int_equal(key.id, 1);
			continue;
		}
		assert_string_equal(key.id_text, text_of(v, "key_id"));
		assert_string_equal(key_kind_word(key.kind), text_of(v, "kind"));
	}
	json_decref(doc);
}

/* ---- scan.json ---- */

static const char *const scan_words[] = {
	[SCAN_MESSAGE] = "message",   [SCAN_MORE] = "more",	  [SCAN_TOO_LONG] = "too_long",
	[SCAN_TOO_DEEP] = "too_deep", [SCAN_INVALID] = "invalid",
};

static void scan_vectors(void **state)
{
	json_t *doc = load("scan.json");
	json_t *v;
	size_t i;

	(void)state;
	json_array_foreach(list_of(doc, "scan"), i, v)
	{
		struct scan_limits limits = {number_of(v, "message_max"), (uint32_t)number_of(v, "depth_max")};
		size_t len, size = 12345;
		uint8_t *bytes = bytes_of(text_of(v, "hex"), &len);
		enum scan_result result = scan_message(bytes, len, &limits, &size);

		if (strcmp(scan_words[result], text_of(v, "result")) != 0)
			fail_msg("%s: %s", text_of(v, "name"), scan_words[result]);
		assert_int_equal(size, result == SCAN_MESSAGE ? number_of(v, "size") : 12345);
		free(bytes);
	}
	json_decref(doc);
}

/* ---- requests.json ---- */

static void assert_addr(const char *name, const struct rpc_addr *got, json_t *want)
{
	struct rpc_addr addr = {0};

	if (want)
		assert_true(rpc_addr_parse(json_string_value(want), json_string_length(want), &addr));
	if (memcmp(got, &addr, sizeof(addr)) != 0)
		fail_msg("%s: another address", name);
}

static void assert_context(const char *name, const struct rpc_context *got, json_t *want)
{
	json_t *cost = json_object_get(want, "cost");

	assert_text(name, got->stack, json_object_get(want, "stack"));
	assert_text(name, got->org, json_object_get(want, "org"));
	assert_text(name, got->after, json_object_get(want, "after"));
	assert_addr(name, &got->addr, json_object_get(want, "addr"));
	assert_int_equal(got->min_rev, json_integer_value(json_object_get(want, "min_rev")));
	assert_int_equal(got->deadline_ms, json_integer_value(json_object_get(want, "deadline_ms")));
	assert_int_equal(got->cost, cost ? json_integer_value(cost) : 1);
}

static void assert_value(const char *name, const struct value *got, json_t *want)
{
	const char *field;
	json_t *item;
	size_t i;

	switch (got->type) {
	case VALUE_NIL:
		assert_true(json_is_null(want));
		return;
	case VALUE_BOOL:
		assert_int_equal(got->truth, json_is_true(want));
		assert_true(json_is_boolean(want));
		return;
	case VALUE_INT:
		assert_true(json_is_integer(want));
		assert_int_equal(got->integer, json_integer_value(want));
		return;
	case VALUE_FLOAT:
		assert_true(json_is_real(want) &&
			    memcmp(&got->real, &(double){json_real_value(want)}, sizeof(double)) == 0);
		return;
	case VALUE_TEXT:
		assert_text(name, (struct rpc_text){got->text, got->count}, want);
		return;
	case VALUE_LIST:
		assert_int_equal(got->count, json_array_size(want));
		json_array_foreach(want, i, item) assert_value(name, &got->items[i], item);
		return;
	case VALUE_MAP:
		assert_int_equal(got->count, json_object_size(want));
		json_object_foreach(want, field, item)
		{
			assert_non_null(value_get(got, field));
			assert_value(name, value_get(got, field), item);
		}
		return;
	case VALUE_UINT:
		break;
	}
	fail_msg("%s: a number past JSON", name);
}

static void assert_meaning(const char *name, const struct rpc_request *got, json_t *want)
{
	json_t *pairs = json_object_get(want, "pairs");

	assert_int_equal(got->notification, json_is_true(json_object_get(want, "notification")));
	if (got->notification)
		return;
	assert_int_equal(got->msgid, number_of(want, "msgid"));
	assert_text(name, got->key, json_object_get(want, "key"));
	assert_text(name, got->client, json_object_get(want, "client"));
	assert_text(name, got->client_version, json_object_get(want, "version"));
	assert_context(name, &got->context, json_object_get(want, "context"));
	assert_text(name, got->pair.scope, json_object_get(want, "scope"));
	assert_text(name, got->pair.page, json_object_get(want, "page"));
	assert_int_equal(got->pair_count, json_array_size(pairs));
	for (uint32_t i = 0; i < got->pair_count; i++) {
		assert_text(name, got->pairs[i].scope, json_array_get(json_array_get(pairs, i), 0));
		assert_text(name, got->pairs[i].page, json_array_get(json_array_get(pairs, i), 1));
	}
	if (got->method == RPC_METHOD_ADMIN) {
		assert_text(name, got->admin_method, json_object_get(want, "method"));
		assert_value(name, got->admin_params, json_object_get(want, "params"));
	} else {
		assert_string_equal(rpc_method_word(got->method), text_of(want, "method"));
		assert_null(got->admin_params);
	}
}

static void assert_refused(json_t *v, enum rpc_error_code code, const struct rpc_request *got,
			   const struct rpc_error *error)
{
	json_t *says;
	size_t i;

	if (strcmp(rpc_error_word(code), text_of(v, "error")) != 0)
		fail_msg("%s: %s", text_of(v, "name"), rpc_error_word(code));
	assert_int_equal(error->code, code);
	json_array_foreach(json_object_get(v, "says"), i, says)
	{
		if (!strstr(error->message, json_string_value(says)))
			fail_msg("%s: \"%s\" is not in \"%s\"", text_of(v, "name"), json_string_value(says),
				 error->message);
	}
	assert_null(strstr(error->message, "RpDerJwSmJOV7n")); /* the secret of the vectors' key */
	if (code != RPC_MALFORMED)
		assert_int_equal(got->msgid, number_of(v, "msgid"));
}

static void request_vectors(void **state)
{
	json_t *doc = load("requests.json");
	struct rpc_decoder *decoder = rpc_decoder_new();
	json_t *v;
	size_t i;

	(void)state;
	json_array_foreach(list_of(doc, "requests"), i, v)
	{
		const struct scan_limits limits = {RPC_MESSAGE_MAX, SCAN_DEPTH_MAX};
		bool admin = strcmp(text_of(v, "service"), "admin") == 0;
		struct rpc_request request;
		struct rpc_error error = {0};
		enum rpc_error_code code;
		size_t len, size = 0;
		uint8_t *bytes = bytes_of(text_of(v, "hex"), &len);

		assert_int_equal(scan_message(bytes, len, &limits, &size), SCAN_MESSAGE);
		assert_int_equal(size, len);
		code = rpc_decode_request(decoder, admin ? RPC_SERVICE_ADMIN : RPC_SERVICE_CHECK, bytes, len, &request,
					  &error);
		if (json_object_get(v, "error"))
			assert_refused(v, code, &request, &error);
		else if (code)
			fail_msg("%s: %s", text_of(v, "name"), error.message);
		else
			assert_meaning(text_of(v, "name"), &request, json_object_get(v, "meaning"));
		free(bytes);
		rpc_decoder_reset(decoder);
	}
	rpc_decoder_free(decoder);
	json_decref(doc);
}

/* ---- answers.json ---- */

static bool build(struct arena *arena, json_t *from, struct value *ret)
{
	const char *name;
	json_t *item;
	size_t i;

	if (json_is_null(from)) {
		*ret = (struct value){0};
	} else if (json_is_boolean(from)) {
		value_bool(ret, json_is_true(from));
	} else if (json_is_integer(from)) {
		value_int(ret, json_integer_value(from));
	} else if (json_is_real(from)) {
		*ret = (struct value){.type = VALUE_FLOAT, .real = json_real_value(from)};
	} else if (json_is_string(from)) {
		return value_text(arena, ret, json_string_value(from), json_string_length(from));
	} else if (json_is_array(from)) {
		value_list(ret);
		json_array_foreach(from, i, item) assert_true(build(arena, item, value_add(arena, ret)));
	} else {
		value_map(ret);
		json_object_foreach(from, name, item) assert_true(build(arena, item, value_set(arena, ret, name)));
	}
	return true;
}

static struct rpc_text borrow(json_t *map, const char *name)
{
	json_t *text = json_object_get(map, name);

	if (!text)
		return (struct rpc_text){0};
	return (struct rpc_text){json_string_value(text), (uint32_t)json_string_length(text)};
}

static bool is_page_list(json_t *pages)
{
	return pages && !json_is_object(json_array_get(pages, 0));
}

/* The fields that are not a verdict map's own: whoami's. */
static const struct value *build_more(struct arena *arena, json_t *map)
{
	static const char own[] = " verdict reason rev age_ms stale key_id kind org user page "
				  "missing_scope needs_role retry_after_ms expires_at successor next trace ";
	struct value *more = arena_alloc(arena, sizeof(*more));
	const char *name;
	json_t *item;

	value_map(more);
	json_object_foreach(map, name, item)
	{
		char word[64];

		snprintf(word, sizeof(word), " %s ", name);
		if (strstr(own, word) || (strcmp(name, "pages") == 0 && is_page_list(item)))
			continue;
		assert_true(build(arena, item, value_set(arena, more, name)));
	}
	return more;
}

static struct rpc_answer answer_of(struct arena *arena, json_t *map)
{
	struct rpc_answer a = {0};
	json_t *pages = json_object_get(map, "pages");
	const char *reason = text_of(map, "reason");

	assert_true(reason_from_word(reason, strlen(reason), &a.reason));
	a.rev = number_of(map, "rev");
	a.age_ms = number_of(map, "age_ms");
	a.stale = json_is_true(json_object_get(map, "stale"));
	a.has_retry = json_object_get(map, "retry_after_ms") != NULL;
	a.retry_after_ms = (uint64_t)json_integer_value(json_object_get(map, "retry_after_ms"));
	if (json_object_get(map, "trace")) {
		struct value *trace = arena_alloc(arena, sizeof(*trace));

		assert_true(build(arena, json_object_get(map, "trace"), trace));
		a.trace = trace;
	}
	a.proven = json_object_get(map, "key_id") != NULL;
	if (!a.proven)
		return a;
	snprintf(a.key_id, sizeof(a.key_id), "%s", text_of(map, "key_id"));
	assert_true(key_kind_from_word(text_of(map, "kind"), strlen(text_of(map, "kind")), &a.kind));
	a.org = borrow(map, "org");
	a.user = borrow(map, "user");
	a.page = borrow(map, "page");
	a.missing_scope = borrow(map, "missing_scope");
	a.needs_role = borrow(map, "needs_role");
	a.has_expiry = json_object_get(map, "expires_at") != NULL;
	a.expires_at = json_integer_value(json_object_get(map, "expires_at"));
	if (json_object_get(map, "successor"))
		snprintf(a.successor, sizeof(a.successor), "%s", text_of(map, "successor"));
	if (is_page_list(pages)) {
		struct rpc_text *texts = arena_alloc(arena, (json_array_size(pages) + 1) * sizeof(*texts));

		a.has_pages = true;
		a.page_count = (uint32_t)json_array_size(pages);
		for (uint32_t i = 0; i < a.page_count; i++) {
			json_t *page = json_array_get(pages, i);

			texts[i] = (struct rpc_text){json_string_value(page), (uint32_t)json_string_length(page)};
		}
		a.pages = texts;
	}
	a.next = borrow(map, "next");
	a.more = build_more(arena, map);
	return a;
}

/* What was written is read again, by the client's half. */
static void assert_read_again(const char *name, struct arena *arena, const struct rpc_buffer *out, json_t *want)
{
	const struct scan_limits limits = {RPC_MESSAGE_MAX, SCAN_DEPTH_MAX};
	struct rpc_reply reply;
	struct rpc_answer got;
	size_t size;

	assert_int_equal(scan_message(out->data, out->len, &limits, &size), SCAN_MESSAGE);
	assert_int_equal(size, out->len);
	assert_true(rpc_decode_reply(arena, out->data, out->len, &reply));
	assert_int_equal(reply.error.code, RPC_OK);
	assert_false(reply.notice);
	assert_value(name, &reply.result, want);
	assert_true(rpc_read_answer(arena, &reply.result, &got));
	assert_string_equal(reason_word(got.reason), text_of(want, "reason"));
	assert_int_equal(got.rev, number_of(want, "rev"));
	assert_int_equal(got.proven, json_object_get(want, "key_id") != NULL);
	assert_text(name, got.page, json_object_get(want, "page"));
	assert_text(name, got.next, json_object_get(want, "next"));
	assert_int_equal(got.expires_at, json_integer_value(json_object_get(want, "expires_at")));
	if (is_page_list(json_object_get(want, "pages")))
		assert_int_equal(got.page_count, json_array_size(json_object_get(want, "pages")));
}

static void answer_vectors(void **state)
{
	json_t *doc = load("answers.json");
	json_t *v, *map;
	size_t i, j;

	(void)state;
	json_array_foreach(list_of(doc, "answers"), i, v)
	{
		struct arena arena = {0};
		struct rpc_buffer out = {0};
		struct rpc_answer answer = answer_of(&arena, json_object_get(v, "answer"));

		assert_string_equal(verdict_word(verdict_of(answer.reason)),
				    text_of(json_object_get(v, "answer"), "verdict"));
		rpc_put_answer(&out, (uint32_t)number_of(v, "msgid"), &answer);
		assert_false(out.failed);
		assert_bytes(text_of(v, "name"), out.data, out.len, text_of(v, "hex"));
		assert_read_again(text_of(v, "name"), &arena, &out, json_object_get(v, "answer"));
		rpc_buffer_deinit(&out);
		arena_clear(&arena);
	}
	json_array_foreach(list_of(doc, "check_many"), i, v)
	{
		json_t *answers = json_object_get(v, "answers");
		struct arena arena = {0};
		struct rpc_buffer out = {0};

		rpc_put_answers_head(&out, (uint32_t)number_of(v, "msgid"), (uint32_t)json_array_size(answers));
		json_array_foreach(answers, j, map)
		{
			struct rpc_answer answer = answer_of(&arena, map);

			rpc_put_answer_map(&out, &answer);
		}
		assert_bytes(text_of(v, "name"), out.data, out.len, text_of(v, "hex"));
		rpc_buffer_deinit(&out);
		arena_clear(&arena);
	}
	json_decref(doc);
}

static struct rpc_error error_of(json_t *v)
{
	struct rpc_error error = {.code = RPC_OK};

	for (unsigned c = 1; c < RPC_ERROR_COUNT; c++) {
		if (strcmp(rpc_error_word((enum rpc_error_code)c), text_of(v, "code")) == 0)
			error.code = (enum rpc_error_code)c;
	}
	assert_int_not_equal(error.code, RPC_OK);
	snprintf(error.message, sizeof(error.message), "%s", text_of(v, "message"));
	return error;
}

static void error_vectors(void **state)
{
	json_t *doc = load("answers.json");
	json_t *v;
	size_t i;

	(void)state;
	for (int notice = 0; notice < 2; notice++) {
		json_array_foreach(list_of(doc, notice ? "notices" : "errors"), i, v)
		{
			struct arena arena = {0};
			struct rpc_buffer out = {0};
			struct rpc_error error = error_of(v);
			struct rpc_reply reply;

			if (notice)
				rpc_put_notice(&out, &error);
			else
				rpc_put_error(&out, (uint32_t)number_of(v, "msgid"), &error);
			assert_bytes(text_of(v, "name"), out.data, out.len, text_of(v, "hex"));
			assert_true(rpc_decode_reply(&arena, out.data, out.len, &reply));
			assert_int_equal(reply.notice, notice);
			assert_int_equal(reply.error.code, error.code);
			assert_string_equal(reply.error.message, error.message);
			rpc_buffer_deinit(&out);
			arena_clear(&arena);
		}
	}
	json_array_foreach(list_of(doc, "results"), i, v)
	{
		struct arena arena = {0};
		struct rpc_buffer out = {0};
		struct rpc_reply reply;
		struct value result;

		assert_true(build(&arena, json_object_get(v, "result"), &result));
		rpc_put_result(&out, (uint32_t)number_of(v, "msgid"), &result);
		assert_bytes(text_of(v, "name"), out.data, out.len, text_of(v, "hex"));
		assert_true(rpc_decode_reply(&arena, out.data, out.len, &reply));
		assert_value(text_of(v, "name"), &reply.result, json_object_get(v, "result"));
		rpc_buffer_deinit(&out);
		arena_clear(&arena);
	}
	json_decref(doc);
}

static void read_vectors(void **state)
{
	json_t *doc = load("answers.json");
	json_t *v;
	size_t i;

	(void)state;
	json_array_foreach(list_of(doc, "reads"), i, v)
	{
		const char *name = text_of(v, "name");
		const char *fault = json_string_value(json_object_get(v, "fault"));
		struct arena arena = {0};
		struct rpc_reply reply;
		struct rpc_answer answer;
		size_t len;
		uint8_t *bytes = bytes_of(text_of(v, "hex"), &len);
		bool read = rpc_decode_reply(&arena, bytes, len, &reply);

		if (read != !(fault && strcmp(fault, "message") == 0))
			fail_msg("%s: %s", name, read ? "was read" : "was not read");
		if (read && json_object_get(v, "error")) {
			assert_string_equal(rpc_error_word(reply.error.code), text_of(v, "error"));
			assert_string_equal(reply.error.message, text_of(v, "message"));
		} else if (read) {
			assert_int_equal(reply.error.code, RPC_OK);
			memset(&answer, 0xff, sizeof(answer));
			if (rpc_read_answer(&arena, &reply.result, &answer) != !fault)
				fail_msg("%s", name);
			if (fault) {
				static const struct rpc_answer zero;

				assert_memory_equal(&answer, &zero, sizeof(zero));
			} else {
				assert_string_equal(reason_word(answer.reason), text_of(v, "reason"));
				assert_string_equal(verdict_word(verdict_of(answer.reason)), text_of(v, "verdict"));
			}
		}
		free(bytes);
		arena_clear(&arena);
	}
	json_decref(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keytext_vectors), cmocka_unit_test(scan_vectors),  cmocka_unit_test(request_vectors),
		cmocka_unit_test(answer_vectors),  cmocka_unit_test(error_vectors), cmocka_unit_test(read_vectors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
