/* The run of administration methods: find the row of the table, read the parameters, ask the writer, answer. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/admin/table.h"
#include "daemon/log.h"

/* Tries for an id that no key has: one is enough 839 quadrillion times out of as many. */
enum { ATTEMPTS_MAX = 4 };

static const struct admin_method *const parts[] = {
	admin_org_methods,     admin_page_methods,	  admin_user_methods,	admin_member_methods,
	admin_key_methods,     admin_break_glass_methods, admin_daemon_methods, admin_verify_copy_methods,
	admin_history_methods, admin_ledger_methods,
};

const struct admin_method *admin_method_find(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		for (const struct admin_method *method = parts[i]; method->name; method++) {
			if (strlen(method->name) == len && !memcmp(method->name, name, len))
				return method;
		}
	}
	return NULL;
}

/* ---- rows into answers ---- */

static bool is_row(const struct value *row)
{
	const struct value *cursor = value_get(row, "cursor");

	return !cursor || cursor->type != VALUE_NIL;
}

static enum rpc_error_code code_of(const char *word)
{
	for (int code = RPC_OK + 1; code < RPC_ERROR_COUNT; code++) {
		if (!strcmp(rpc_error_word((enum rpc_error_code)code), word))
			return (enum rpc_error_code)code;
	}
	return RPC_INVALID;
}

/* The map's field `name`, made a map where there is none. */
static struct value *inner_map(struct arena *arena, struct value *map, const char *name, size_t len)
{
	struct value *v;
	char *copy;

	for (uint32_t i = 0; i < map->count; i++) {
		if (strlen(map->fields[i].name) == len && !memcmp(map->fields[i].name, name, len))
			return &map->fields[i].value;
	}
	copy = arena_text(arena, name, len);
	v = copy ? value_set(arena, map, copy) : NULL;
	if (v)
		value_map(v);
	return v;
}

/* One column into the map that its name leads to. The values themselves stay where the writer has them. */
static bool put_column(struct arena *arena, struct value *map, const char *name, const struct value *v)
{
	const char *dot = strchr(name, '.');
	struct value *field;

	if (!strcmp(name, "fault") || !strcmp(name, "fault_code") || !strcmp(name, "cursor"))
		return true;
	while (dot) {
		/* "a.b.c" that is null does not make an empty a.b, only an empty a */
		if (v->type == VALUE_NIL && strchr(dot + 1, '.'))
			return inner_map(arena, map, name, (size_t)(dot - name));
		map = inner_map(arena, map, name, (size_t)(dot - name));
		if (!map || v->type == VALUE_NIL)
			return map;
		name = dot + 1;
		dot = strchr(name, '.');
	}
	field = value_set(arena, map, name);
	if (field)
		*field = *v;
	return field;
}

static bool put_row(struct arena *arena, struct value *map, const struct value *row)
{
	for (uint32_t i = 0; i < row->count; i++) {
		if (!put_column(arena, map, row->fields[i].name, &row->fields[i].value))
			return false;
	}
	return true;
}

static bool put_rows(struct admin_request *request, const struct value *rows, struct value *ret)
{
	struct arena *arena = &request->arena;
	struct value *list = value_set(arena, ret, "rows"), *item, *next;
	const struct value *last = NULL;
	uint32_t i, shown = 0;

	if (!list)
		return false;
	value_list(list);
	for (i = 0; i < rows->count; i++) {
		if (!is_row(&rows->items[i]))
			continue;
		if (shown++ == request->limit)
			break;
		item = value_add(arena, list);
		if (!item)
			return false;
		value_map(item);
		if (!put_row(arena, item, &rows->items[i]))
			return false;
		last = value_get(&rows->items[i], "cursor");
	}
	next = value_set(arena, ret, "next");
	if (next && i < rows->count && last)
		*next = *last;
	return next;
}

static bool fault_of(const struct value *rows, struct rpc_error *error)
{
	const struct value *row = rows->count ? &rows->items[0] : NULL;
	const char *fault = value_as_text(value_get(row, "fault"), NULL);

	if (!fault)
		return false;
	admin_error(error, code_of(value_as_text(value_get(row, "fault_code"), "")), "%s", fault);
	return true;
}

static bool no_row(const struct admin_request *request, struct rpc_error *error)
{
	const char *name = request->params[0] ? request->params[0] : "";
	char text[96];

	if (request->method->extra)
		admin_error(error, RPC_EXISTS, "no free key_id was found: try again");
	else
		admin_error(error, RPC_NOT_FOUND, "no %s %s", request->method->noun,
			    admin_show(name, strlen(name), text, sizeof(text)));
	return false;
}

bool admin_build(struct admin_request *request, const struct writer_result *result, struct value *ret,
		 struct rpc_error *error)
{
	static const struct value none = {.type = VALUE_LIST};
	const struct value *rows = result->rows ? result->rows : &none;
	bool built;

	if (fault_of(rows, error))
		return false;
	value_map(ret);
	if (request->method->answer == ADMIN_ROWS) {
		built = put_rows(request, rows, ret);
	} else {
		if (!rows->count || !is_row(&rows->items[0]))
			return no_row(request, error);
		built = put_row(&request->arena, ret, &rows->items[0]);
		if (built && request->key)
			built = value_set_text(&request->arena, ret, "key", request->key);
		if (built && request->method->change)
			built = value_set_uint(&request->arena, ret, "rev", result->rev);
	}
	if (!built)
		admin_error(error, RPC_INTERNAL, "out of memory");
	return built;
}

/* ---- the run of one request ---- */

static void request_free(struct admin_request *request)
{
	arena_clear(&request->arena); /* wipes: a minted key may be in it */
	free(request);
}

static void finish(struct admin_request *request, const struct rpc_error *error, const struct value *result)
{
	struct admin *admin = request->admin;

	if (error->code != RPC_OK)
		admin->errors++;
	else if (request->method->change)
		admin->changes++;
	request->done(request->data, error, error->code == RPC_OK ? result : NULL);
}

static void on_written(void *data, const struct writer_result *result);

static bool send_call(struct admin_request *request, struct rpc_error *error)
{
	const struct admin_method *method = request->method;
	struct writer_call call = {
		.sql = method->sql,
		.params = request->params,
		.change = method->change,
		.writes = method->writes,
		.actor = request->actor,
		.done = on_written,
		.data = request,
	};
	int err;

	if (method->extra && !method->extra(request)) {
		admin_error(error, RPC_INTERNAL, "out of memory");
		return false;
	}
	call.param_count = request->param_count;
	err = writer_run(request->admin->writer, &call);
	if (err == -EAGAIN)
		admin_error(error, RPC_LIMIT,
			    "%s: too many requests wait for the database (database.admin_queue = %" PRIu32
			    "): try again",
			    method->name, request->admin->config->admin_queue);
	else if (err)
		admin_error(error, RPC_INTERNAL, "%s", err == -ENOMEM ? "out of memory" : strerror(-err));
	return !err;
}

/* The database names a constraint; people want to know what is in the way. */
static void say_what_exists(const struct admin_request *request, struct rpc_error *error)
{
	const char *name = request->method->naming ? admin_given(request, request->method->naming) : NULL;
	char text[96];

	if (name)
		admin_error(error, RPC_EXISTS, "%s %s exists already", request->method->named,
			    admin_show(name, strlen(name), text, sizeof(text)));
}

/* Who changed what: the names in the answer's row, none of which is a secret. */
static void log_change(const struct admin_request *request, const struct value *answer, uint64_t rev)
{
	static const struct {
		const char *name;
		enum log_name field;
	} names[] = {{"key_id", LOG_KEY_ID}, {"page", LOG_PAGE}, {"org", LOG_ORG}, {"user", LOG_USER}};
	struct log_field fields[3 + sizeof(names) / sizeof(names[0])];
	unsigned count = 0;
	char text[512];
	size_t len = 0;

	text[0] = '\0';
	fields[count++] = log_text(LOG_METHOD, request->method->name);
	fields[count++] = log_number(LOG_CALLER_UID, request->uid);
	fields[count++] = log_number(LOG_REV, rev);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && len < sizeof(text); i++) {
		const char *name = value_as_text(value_get(answer, names[i].name), NULL);

		if (!name)
			continue;
		fields[count++] = log_text(names[i].field, name);
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s %s", len ? ", " : "", names[i].name,
					name);
	}
	log_said(LOG_LEVEL_INFO, fields, count, "%s by %s: %s: rev %" PRIu64, request->method->name, request->actor,
		 text, rev);
}

static void on_written(void *data, const struct writer_result *result)
{
	struct admin_request *request = data;
	struct rpc_error error = result->error;
	struct value answer = {0};

	if (error.code == RPC_OK)
		admin_build(request, result, &answer, &error);
	if (error.code == RPC_EXISTS && request->method->extra && ++request->attempts < ATTEMPTS_MAX) {
		error = (struct rpc_error){0};
		if (send_call(request, &error))
			return;
	}
	if (error.code == RPC_EXISTS)
		say_what_exists(request, &error);
	if (error.code == RPC_OK && request->method->change)
		log_change(request, &answer, result->rev);
	finish(request, &error, &answer);
	request_free(request);
}

static void on_turn_closed(uv_handle_t *handle)
{
	request_free(handle->data);
}

static void on_turn(uv_timer_t *timer)
{
	struct admin_request *request = timer->data;

	finish(request, &request->error, &request->answer);
	uv_close((uv_handle_t *)timer, on_turn_closed);
}

bool admin_knows(struct rpc_text name, struct rpc_error *ret_error)
{
	char text[96];

	if (admin_method_find(name.data, name.len))
		return true;
	admin_error(ret_error, RPC_UNKNOWN_METHOD, "unknown method %s",
		    admin_show(name.data, name.len, text, sizeof(text)));
	return false;
}

int admin_start(struct admin *admin, uv_loop_t *loop, const struct rpc_request *request, uid_t uid, admin_done done,
		void *data)
{
	struct rpc_text name = request->admin_method;
	struct admin_request *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	admin->requests++;
	r->admin = admin;
	r->uid = uid;
	r->done = done;
	r->data = data;
	snprintf(r->actor, sizeof(r->actor), "uid:%" PRIu64, (uint64_t)uid);
	r->method = admin_method_find(name.data, name.len);
	if (admin_knows(name, &r->error) && admin_read_params(r, request->admin_params, &r->error)) {
		if (r->method->local)
			r->method->local(r, &r->answer, &r->error);
		else if (send_call(r, &r->error))
			return 0;
	}
	uv_timer_init(loop, &r->turn);
	r->turn.data = r;
	uv_timer_start(&r->turn, on_turn, 0, 0);
	return 0;
}

bool admin_stats(const struct admin *admin, struct arena *arena, struct value *map)
{
	struct value *own = value_set(arena, map, "admin");

	if (!own)
		return false;
	value_map(own);
	return value_set_uint(arena, own, "requests", admin->requests) &&
	       value_set_uint(arena, own, "changes", admin->changes) &&
	       value_set_uint(arena, own, "errors", admin->errors);
}
