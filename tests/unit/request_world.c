#include "tests/unit/request_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "proto/scan.h"

/* ---- modules ---- */

struct play plays[PLAYS];

static const struct apikeyd_argument arguments[] = {
	{.name = "n", .type = APIKEYD_TYPE_COUNT, .required = true, .max = PLAYS - 1, .help = "whose play it is"},
	{0},
};

static int on_open(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		   void **ret_instance, char *error, size_t error_size)
{
	struct play *play = &plays[values[0].number];

	(void)error;
	(void)error_size;
	play->self = self;
	play->host = host;
	play->opened++;
	*ret_instance = play;
	return 0;
}

static enum apikeyd_code on_start(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	struct play *play = instance;
	struct apikeyd_principal principal;

	if (play->asked < TOKENS)
		play->tokens[play->asked] = token;
	play->asked++;
	play->reason_code = request->reason_code;
	play->stale = request->stale;
	if (play->retry_after_ms)
		play->host->retry_after(play->self, request, play->retry_after_ms);
	if (play->detail)
		play->host->detail(play->self, request, play->detail);
	if (play->principal) {
		principal = *play->principal;
		if (play->ends_in_us)
			principal.expires_at_us = request->now_us + play->ends_in_us;
		play->granted = play->host->grant(play->self, request, &principal);
	}
	if (play->store)
		assert_int_equal(play->host->store(play->self, request), APIKEYD_SUCCESS);
	return (enum apikeyd_code)play->code;
}

static void on_cancel(void *instance, uint64_t token)
{
	struct play *play = instance;

	play->cancelled++;
	play->cancelled_token = token;
}

static void on_ended(void *instance, const struct apikeyd_request *request)
{
	struct play *play = instance;

	play->ended++;
	play->reason_code = request->reason_code;
}

static void on_close(void *instance)
{
	((struct play *)instance)->closed++;
}

#define ELSEWHERE                                                                                                      \
	(APIKEYD_GROUP_CALLER | APIKEYD_GROUP_ACCOUNT | APIKEYD_GROUP_PAGE | APIKEYD_GROUP_SCOPE | APIKEYD_GROUP_AUDIT)
#define MODULE(NAME, GROUPS, FLAGS)                                                                                    \
	{                                                                                                              \
		.abi = APIKEYD_ABI, .size = sizeof(struct apikeyd_module), .name = NAME, .help = "plays",              \
		.groups = GROUPS, .flags = FLAGS, .arguments = arguments, .open = on_open, .start = on_start,          \
		.cancel = on_cancel, .ended = on_ended, .close = on_close                                              \
	}

static const struct apikeyd_module id = MODULE("id", APIKEYD_GROUP_KEY, APIKEYD_IDENTIFIES | APIKEYD_ASYNCHRONOUS);
static const struct apikeyd_module say = MODULE("say", ELSEWHERE, 0);
static const struct apikeyd_module later =
	MODULE("later", ELSEWHERE & ~(unsigned)APIKEYD_GROUP_AUDIT, APIKEYD_ASYNCHRONOUS);
static const struct apikeyd_module again = MODULE("again", ELSEWHERE, APIKEYD_ASK_AGAIN);

const struct apikeyd_module *const play_modules[] = {&id, &say, &later, &again, NULL};

void complete(unsigned play, unsigned token, int code)
{
	struct apikeyd_answer answer = {.size = sizeof(answer),
					.code = (enum apikeyd_code)code,
					.retry_after_ms = plays[play].retry_after_ms,
					.detail = plays[play].detail,
					.principal = plays[play].principal};

	plays[play].host->complete(plays[play].self, plays[play].tokens[token], &answer);
}

/* ---- the world ---- */

struct rpc_text text(const char *s)
{
	return s ? (struct rpc_text){.data = s, .len = (uint32_t)strlen(s)} : (struct rpc_text){0};
}

static void put_catalog(struct copy *copy)
{
	static const char *const page_scopes[] = {"page:read", "incident:read", "incident:write", "page:delete",
						  "member:read"};
	static const char *const organization_scopes[] = {"page:create", "billing:read", "member:read"};
	struct copy_scope_row scopes[8];
	const struct copy_role_row roles[] = {
		{RULE_ROLE_ORGANIZATION, text("billing"), 5}, {RULE_ROLE_ORGANIZATION, text("viewer"), 10},
		{RULE_ROLE_ORGANIZATION, text("owner"), 40},  {RULE_ROLE_PAGE, text("viewer"), 10},
		{RULE_ROLE_PAGE, text("editor"), 20},	      {RULE_ROLE_KEY, text("read"), 10},
		{RULE_ROLE_KEY, text("write"), 20},
	};
	struct copy_grant_row grants[64];
	unsigned scope_count = 0, grant_count = 0;

	for (unsigned i = 0; i < 5; i++)
		scopes[scope_count++] = (struct copy_scope_row){text(page_scopes[i]), RULE_LEVEL_PAGE};
	scopes[4].levels |= RULE_LEVEL_ORGANIZATION;
	for (unsigned i = 0; i < 2; i++)
		scopes[scope_count++] = (struct copy_scope_row){text(organization_scopes[i]), RULE_LEVEL_ORGANIZATION};
	for (unsigned i = 0; i < 7; i++) {
		bool reads = strstr(scopes[i].name.data, ":read") && i != 6 && i != 4;

		grants[grant_count++] =
			(struct copy_grant_row){RULE_ROLE_ORGANIZATION, text("owner"), scopes[i].name, false};
		if (i == 0 || i == 1 || i == 2) {
			grants[grant_count++] =
				(struct copy_grant_row){RULE_ROLE_PAGE, text("editor"), scopes[i].name, false};
			grants[grant_count++] =
				(struct copy_grant_row){RULE_ROLE_KEY, text("write"), scopes[i].name, false};
		}
		if (!reads)
			continue;
		grants[grant_count++] =
			(struct copy_grant_row){RULE_ROLE_ORGANIZATION, text("viewer"), scopes[i].name, false};
		grants[grant_count++] = (struct copy_grant_row){RULE_ROLE_PAGE, text("viewer"), scopes[i].name, false};
		grants[grant_count++] = (struct copy_grant_row){RULE_ROLE_KEY, text("read"), scopes[i].name, false};
	}
	grants[grant_count++] = (struct copy_grant_row){RULE_ROLE_KEY, text("write"), text("page:delete"), true};
	grants[grant_count++] =
		(struct copy_grant_row){RULE_ROLE_ORGANIZATION, text("billing"), text("billing:read"), false};
	assert_int_equal(copy_put_catalog(copy, scopes, scope_count, roles, 7, grants, grant_count), 0);
}

/* Organizations acme (1), umbra (2), shut (3: suspended); pages by name; users by id. */
static void put_world(struct copy *copy)
{
	static const struct copy_organization_row organizations[] = {
		{1, {"acme", 4}, false}, {2, {"umbra", 5}, false}, {3, {"shut", 4}, true}};
	static const struct copy_page_row pages[] = {{11, 1, {"acme", 4}, false},	{12, 1, {"acme-old", 8}, true},
						     {13, 1, {"acme-z", 6}, false},	{21, 2, {"umbra", 5}, false},
						     {22, 2, {"umbra-b", 7}, false},	{31, 3, {"shut", 4}, false},
						     {14, 1, {"acme-cloud", 10}, false}};
	const struct copy_role_at owner_of_acme[] = {{1, text("owner")}, {3, text("owner")}};
	const struct copy_role_at viewer_of_both[] = {{1, text("viewer")}, {2, text("viewer")}};
	const struct copy_role_at viewer_of_acme[] = {{1, text("viewer")}};
	const struct copy_role_at editor_of_cloud[] = {{14, text("editor")}, {22, text("editor")}};
	const struct copy_user_row users[] = {
		{101, text("olga@x"), false, owner_of_acme, NULL, 2, 0},
		{102, text("vera@x"), false, viewer_of_both, NULL, 2, 0},
		{103, text("sam@x"), true, viewer_of_acme, NULL, 1, 0},
		{104, text("paula@x"), false, NULL, editor_of_cloud, 0, 2},
		{105, text("una@x"), false, viewer_of_acme, editor_of_cloud, 1, 1},
	};

	put_catalog(copy);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(copy_put_organization(copy, &organizations[i]), 0);
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(copy_put_page(copy, &pages[i]), 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(copy_put_user(copy, &users[i]), 0);
}

static struct world *the_world;

static void on_hurry(void *data)
{
	((struct world *)data)->hurried++;
}

static void on_flush(void *data)
{
	((struct world *)data)->flushed++;
}

static void on_answer(struct request_owner *owner, const struct rpc_buffer *bytes)
{
	struct world *w = the_world;

	assert_ptr_equal(owner, &w->owner);
	assert_false(bytes->failed);
	w->answered++;
	w->late.data = realloc(w->late.data, w->late.len + bytes->len);
	memcpy(w->late.data + w->late.len, bytes->data, bytes->len);
	w->late.len += bytes->len;
	w->late.cap = w->late.len;
}

static void on_rev(void *data)
{
	request_revised(&((struct world *)data)->core);
}

void load_pepper(struct world *w, const char *lines)
{
	char error[256];
	int fd = open(w->pepper_file, O_WRONLY | O_TRUNC | O_CREAT, 0600);

	assert_int_equal(write(fd, lines, strlen(lines)), (ssize_t)strlen(lines));
	close(fd);
	w->secret = secret_load(w->pepper_file, error, sizeof(error));
	assert_non_null(w->secret);
}

struct world *world_new(bool loaded, const char *config)
{
	struct world *w = calloc(1, sizeof(*w));
	struct request_callbacks callbacks = {.hurry = on_hurry, .flush = on_flush, .data = w};
	char errors[1024];
	struct copy *copy;
	int fd;

	the_world = w;
	memset(plays, 0, sizeof(plays));
	strcpy(w->pepper_file, "/tmp/request_world.XXXXXX");
	fd = mkstemp(w->pepper_file);
	assert_true(fd >= 0);
	close(fd);
	load_pepper(w, PEPPER_1);
	w->config = config_parse(config, strlen(config), "test", errors, sizeof(errors));
	assert_non_null(w->config);
	uv_loop_init(&w->loop);
	mirror_init(&w->mirror);
	w->mirror.on_rev = on_rev;
	w->mirror.on_rev_data = w;
	w->decoder = rpc_decoder_new();
	w->owner.answer = on_answer;
	assert_int_equal(request_core_init(&w->core, &w->loop, w->config, w->secret, &w->mirror, &callbacks), 0);
	policy_text_set(&w->core, policy_text_plain, NULL);
	if (loaded) {
		copy = copy_new(0, 0, 0);
		put_world(copy);
		copy_publish(copy, 100);
		assert_null(mirror_swap(&w->mirror, copy, mirror_boot_now(), US(NOW_S)));
	}
	return w;
}

/* Every instance that was opened has been closed by then. */
void world_end(struct world *w)
{
	request_forget(&w->core, &w->owner);
	request_core_close(&w->core);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	request_core_deinit(&w->core);
	for (unsigned i = 0; i < PLAYS; i++)
		assert_int_equal(plays[i].closed, plays[i].opened);
	mirror_deinit(&w->mirror);
	rpc_decoder_free(w->decoder);
	rpc_buffer_deinit(&w->out);
	rpc_buffer_deinit(&w->late);
	arena_clear(&w->arena);
	secret_free(w->secret);
	config_free(w->config);
	unlink(w->pepper_file);
	free(w);
}

void world_stack(struct world *w, const char *lines)
{
	const struct policy_text stacks[] = {{"default", lines}, {0}};

	policy_text_set(&w->core, stacks, play_modules);
}

struct apikeyd_text module_text(const char *s)
{
	return (struct apikeyd_text){.data = s, .len = (uint32_t)strlen(s)};
}

/* ---- keys ---- */

void publish(struct world *w)
{
	mirror_publish(&w->mirror, mirror_rev(&w->mirror) + 1, mirror_boot_now(), US(NOW_S));
	while (copy_tidy(w->mirror.copy, 100))
		;
}

void make_key(enum key_kind kind, char ret[KEYTEXT_MAX + 1])
{
	uint8_t bytes[KEYTEXT_SECRET_BYTES] = {77};

	assert_true(keytext_format("ak", kind, 4711, bytes, ret) > 0);
}

void add_key(struct world *w, struct copy *copy, enum key_kind kind, int64_t owner, const char *access,
	     void (*change)(struct copy_key_row *row), char ret[KEYTEXT_MAX + 1])
{
	struct copy_key_row row = {.id = ++w->next_key,
				   .kind = kind,
				   .owner_id = owner,
				   .access = text(access),
				   .pepper = 1,
				   .not_before = INT64_MIN,
				   .expires_at = INT64_MAX,
				   .retired_at = INT64_MAX};
	uint8_t bytes[KEYTEXT_SECRET_BYTES];
	size_t len;

	memset(bytes, (int)w->next_key, sizeof(bytes));
	len = keytext_format("ak", kind, row.id, bytes, ret);
	assert_true(len > 0);
	assert_true(secret_hash(w->secret, 1, ret, len, row.hash));
	if (change)
		change(&row);
	assert_int_equal(copy_put_key(copy, &row), 0);
}

void publish_key(struct world *w, enum key_kind kind, int64_t owner, const char *access,
		 void (*change)(struct copy_key_row *row), char ret[KEYTEXT_MAX + 1])
{
	add_key(w, w->mirror.copy, kind, owner, access, change, ret);
	publish(w);
}

/* ---- asking ---- */

struct rpc_request check(const char *key, const char *scope, const char *page)
{
	return (struct rpc_request){.msgid = 1,
				    .method = RPC_METHOD_CHECK,
				    .key = text(key),
				    .pair = {.scope = text(scope), .page = text(page)},
				    .context = {.cost = 1, .deadline_ms = 60000}};
}

/* What the next answer in `from` says, borrowed from there and from the arena, and how long it is. */
static const struct value *next_result(struct world *w, const struct rpc_buffer *from, size_t *ret_size)
{
	const struct scan_limits limits = {.message_max = 1 << 24, .depth_max = SCAN_DEPTH_MAX};
	struct rpc_reply *reply = arena_alloc(&w->arena, sizeof(*reply));

	assert_int_equal(scan_message(from->data, from->len, &limits, ret_size), SCAN_MESSAGE);
	assert_true(rpc_decode_reply(&w->arena, from->data, *ret_size, reply));
	assert_int_equal(reply->error.code, RPC_OK);
	return &reply->result;
}

static struct rpc_answer answer_of(struct world *w, const struct value *result)
{
	struct rpc_answer answer;

	assert_true(rpc_read_answer(&w->arena, result, &answer));
	answer.more = result;
	return answer;
}

static void use_up(struct rpc_buffer *from, size_t size)
{
	memmove(from->data, from->data + size, from->len - size);
	from->len -= size;
}

struct rpc_answer read_answer(struct world *w, struct rpc_buffer *from, uint32_t item)
{
	size_t size;
	const struct value *result = next_result(w, from, &size);
	bool is_list = result->type == VALUE_LIST;
	struct rpc_answer answer = answer_of(w, is_list ? &result->items[item] : result);

	if (!is_list || item + 1 == result->count)
		use_up(from, size);
	return answer;
}

void read_answers(struct world *w, struct rpc_buffer *from, struct rpc_answer *ret, uint32_t count)
{
	size_t size;
	const struct value *result = next_result(w, from, &size);

	assert_int_equal(result->type, VALUE_LIST);
	assert_int_equal(result->count, count);
	for (uint32_t i = 0; i < count; i++)
		ret[i] = answer_of(w, &result->items[i]);
	use_up(from, size);
}

struct rpc_answer ask(struct world *w, const struct rpc_request *request)
{
	w->out.len = 0;
	request_batch(&w->core, &w->owner, request, 1, &w->out);
	return read_answer(w, &w->out, 0);
}

void ask_later(struct world *w, const struct rpc_request *request)
{
	w->out.len = 0;
	request_batch(&w->core, &w->owner, request, 1, &w->out);
	assert_int_equal(w->out.len, 0);
}

void run_until_late(struct world *w, unsigned count)
{
	/* What nobody waits for keeps no loop going. */
	uv_ref((uv_handle_t *)&w->core.completed);
	while (w->core.counters.calls_late < count)
		uv_run(&w->loop, UV_RUN_ONCE);
	uv_unref((uv_handle_t *)&w->core.completed);
}

void run_until_answered(struct world *w, unsigned count)
{
	while (w->answered < count)
		uv_run(&w->loop, UV_RUN_ONCE);
}
