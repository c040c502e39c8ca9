/* The parameters of administration methods, read by the table: what fits, and what is said where it does not. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/admin/table.h"

/* The last second of the year 9999: what RFC 3339 can say. */
#define TIME_LAST INT64_C(253402300799)

void admin_error(struct rpc_error *error, enum rpc_error_code code, const char *format, ...)
{
	va_list list;

	error->code = code;
	va_start(list, format);
	vsnprintf(error->message, sizeof(error->message), format, list);
	va_end(list);
}

const char *admin_show(const char *text, size_t len, char *out, size_t size)
{
	enum { SHOWN = 60 };
	size_t at = 0;

	if (admin_could_be_key(text, len)) {
		snprintf(out, size, "(not shown: it could be a key)");
		return out;
	}
	out[at++] = '\'';
	for (size_t i = 0; i < len && i < SHOWN && at + 10 < size; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c < 0x20 || c == 0x7f)
			at += (size_t)snprintf(out + at, size - at, "\\x%02x", c);
		else if (c >= 0x80) /* cutting could break a character in two */
			out[at++] = '?';
		else
			out[at++] = (char)c;
	}
	snprintf(out + at, size - at, "%s'", len > SHOWN ? "..." : "");
	return out;
}

/* ---- values into text ---- */

static const char *shown(const struct value *v, char *out, size_t size)
{
	switch (v->type) {
	case VALUE_TEXT:
		return admin_show(v->text, v->count, out, size);
	case VALUE_INT:
		snprintf(out, size, "%" PRId64, v->integer);
		return out;
	case VALUE_UINT:
		snprintf(out, size, "%" PRIu64, v->unsigned_integer);
		return out;
	case VALUE_BOOL:
		return v->truth ? "true" : "false";
	case VALUE_FLOAT:
		return "a floating-point number";
	case VALUE_LIST:
		return "a list";
	case VALUE_MAP:
		return "a map";
	case VALUE_NIL:
		break;
	}
	return "nil";
}

/* Says that parameter `name` holds `v`, which is wrong. */
static bool wrong(const struct admin_request *request, const char *name, const struct value *v, const char *right,
		  struct rpc_error *error)
{
	char text[96];

	admin_error(error, RPC_BAD_PARAMS, "%s: %s is %s: it must be %s", request->method->name, name,
		    shown(v, text, sizeof(text)), right);
	return false;
}

static bool no_memory(struct rpc_error *error)
{
	admin_error(error, RPC_INTERNAL, "out of memory");
	return false;
}

/* Text that fits holds no character that JSON must escape but these two. */
static size_t json_put(char *out, const char *text, size_t len)
{
	size_t at = 0;

	out[at++] = '"';
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '"' || text[i] == '\\')
			out[at++] = '\\';
		out[at++] = text[i];
	}
	out[at++] = '"';
	return at;
}

static bool read_texts(struct admin_request *request, const struct admin_param *param, const struct value *v,
		       const char **ret, struct rpc_error *error)
{
	size_t size = 3, at = 0;
	char *out;

	if (v->type != VALUE_LIST)
		return wrong(request, param->name, v, "a list", error);
	if (v->count > ADMIN_LIST_MAX) {
		admin_error(error, RPC_BAD_PARAMS, "%s: %s has %" PRIu32 " items: it must have at most %d",
			    request->method->name, param->name, v->count, ADMIN_LIST_MAX);
		return false;
	}
	for (uint32_t i = 0; i < v->count; i++) {
		const struct value *item = &v->items[i];

		if (item->type != VALUE_TEXT || !param->fits(item->text, item->count)) {
			char name[48];

			snprintf(name, sizeof(name), "%s[%" PRIu32 "]", param->name, i);
			return wrong(request, name, item, param->right, error);
		}
		size += 2 * (size_t)item->count + 3;
	}
	out = arena_alloc(&request->arena, size);
	if (!out)
		return no_memory(error);
	out[at++] = '[';
	for (uint32_t i = 0; i < v->count; i++) {
		if (i)
			out[at++] = ',';
		at += json_put(out + at, v->items[i].text, v->items[i].count);
	}
	out[at++] = ']';
	*ret = out;
	return true;
}

static bool read_int(struct admin_request *request, const struct admin_param *param, const char *name,
		     const struct value *v, int64_t *ret, struct rpc_error *error)
{
	char right[80];

	if (v->type == VALUE_INT && v->integer >= param->min && v->integer <= param->max) {
		*ret = v->integer;
		return true;
	}
	snprintf(right, sizeof(right), "an integer from %" PRId64 " to %" PRId64, param->min, param->max);
	return wrong(request, name, v, right, error);
}

static bool read_map(struct admin_request *request, const struct admin_param *param, const struct value *v,
		     const char **ret, struct rpc_error *error)
{
	enum { SIZE = 256 };
	char *out = arena_alloc(&request->arena, SIZE), name[80];
	size_t at = 0;

	if (!out)
		return no_memory(error);
	if (v->type != VALUE_MAP)
		return wrong(request, param->name, v, param->right, error);
	for (const struct admin_param *field = param->fields; field->name; field++) {
		static const struct value nil;
		const struct value *given = value_get(v, field->name);
		int64_t number = 0;

		snprintf(name, sizeof(name), "%s.%s", param->name, field->name);
		if (!read_int(request, field, name, given ? given : &nil, &number, error))
			return false;
		at += (size_t)snprintf(out + at, SIZE - at, "%s\"%s\":%" PRId64, at ? "," : "{", field->name, number);
	}
	snprintf(out + at, SIZE - at, "}");
	for (uint32_t i = 0; i < v->count; i++) {
		const struct admin_param *field = param->fields;

		while (field->name && strcmp(field->name, v->fields[i].name) != 0)
			field++;
		if (!field->name) {
			char text[96];

			admin_error(error, RPC_BAD_PARAMS, "%s: %s has a field %s: it must be %s",
				    request->method->name, param->name,
				    admin_show(v->fields[i].name, strlen(v->fields[i].name), text, sizeof(text)),
				    param->right);
			return false;
		}
	}
	*ret = out;
	return true;
}

static bool read_time(struct admin_request *request, const struct admin_param *param, const struct value *v,
		      const char **ret, struct rpc_error *error)
{
	char text[32];
	struct tm tm;
	time_t at;

	if (v->type == VALUE_TEXT && admin_fits_time(v->text, v->count)) {
		*ret = arena_text(&request->arena, v->text, v->count);
		return *ret || no_memory(error);
	}
	if (v->type != VALUE_INT || v->integer < 0 || v->integer > TIME_LAST)
		return wrong(request, param->name, v, ADMIN_TIME_RIGHT, error);
	at = (time_t)v->integer;
	gmtime_r(&at, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	*ret = arena_text(&request->arena, text, strlen(text));
	return *ret || no_memory(error);
}

static bool read_number(struct admin_request *request, const struct admin_param *param, const struct value *v,
			const char **ret, struct rpc_error *error)
{
	struct admin_param bounds = *param;
	char text[24];
	int64_t number = 0;

	if (param->type == ADMIN_LIMIT) {
		bounds.min = 1;
		bounds.max = request->admin->config->admin_rows;
	}
	if (!read_int(request, &bounds, param->name, v, &number, error))
		return false;
	if (param->type == ADMIN_LIMIT) {
		request->limit = (uint32_t)number;
		number++; /* one row more than is shown tells whether there is a next */
	}
	snprintf(text, sizeof(text), "%" PRId64, number);
	*ret = arena_text(&request->arena, text, strlen(text));
	return *ret || no_memory(error);
}

static bool read_one(struct admin_request *request, const struct admin_param *param, const struct value *v,
		     const char **ret, struct rpc_error *error)
{
	switch (param->type) {
	case ADMIN_TEXT:
		if (v->type != VALUE_TEXT || !param->fits(v->text, v->count))
			return wrong(request, param->name, v, param->right, error);
		*ret = arena_text(&request->arena, v->text, v->count);
		return *ret || no_memory(error);
	case ADMIN_TEXTS:
		return read_texts(request, param, v, ret, error);
	case ADMIN_MAP:
		return read_map(request, param, v, ret, error);
	case ADMIN_TIME:
		return read_time(request, param, v, ret, error);
	case ADMIN_INT:
	case ADMIN_LIMIT:
		break;
	}
	return read_number(request, param, v, ret, error);
}

/* "org_set takes org, slug, name, standing": what would have been right. */
static void takes(const struct admin_method *method, char *out, size_t size)
{
	size_t at = (size_t)snprintf(out, size, "%s", method->params[0].name ? "" : "no parameters");

	for (const struct admin_param *p = method->params; p->name && at < size; p++)
		at += (size_t)snprintf(out + at, size - at, "%s%s", p == method->params ? "" : ", ", p->name);
}

const char *admin_given(const struct admin_request *request, const char *name)
{
	for (unsigned i = 0; request->method->params[i].name; i++) {
		if (!strcmp(request->method->params[i].name, name))
			return request->params[i];
	}
	return NULL;
}

static bool known(const struct admin_request *request, const struct value *params, struct rpc_error *error)
{
	const struct admin_method *method = request->method;

	for (uint32_t i = 0; i < params->count; i++) {
		const char *name = params->fields[i].name;
		const struct admin_param *param = method->params;
		char list[160], text[96];

		while (param->name && strcmp(param->name, name) != 0)
			param++;
		if (param->name && value_get(params, name) == &params->fields[i].value)
			continue;
		if (param->name) {
			admin_error(error, RPC_BAD_PARAMS, "%s: %s is given twice", method->name, name);
			return false;
		}
		takes(method, list, sizeof(list));
		admin_error(error, RPC_BAD_PARAMS, "%s: unknown parameter %s: it takes %s", method->name,
			    admin_show(name, strlen(name), text, sizeof(text)), list);
		return false;
	}
	return true;
}

bool admin_read_params(struct admin_request *request, const struct value *params, struct rpc_error *error)
{
	const struct admin_method *method = request->method;
	bool any = !method->any_from;

	request->limit = request->admin->config->admin_rows;
	if (params && !known(request, params, error))
		return false;
	for (unsigned i = 0; method->params[i].name; i++) {
		const struct admin_param *param = &method->params[i];
		const struct value *v = value_get(params, param->name);
		struct value most;

		request->param_count = i + 1;
		if (param->type == ADMIN_LIMIT && (!v || v->type == VALUE_NIL)) {
			value_int(&most, request->admin->config->admin_rows);
			v = &most;
		}
		if (v && v->type != VALUE_NIL) {
			if (!read_one(request, param, v, &request->params[i], error))
				return false;
			any |= i >= method->any_from;
		} else if (param->required) {
			admin_error(error, RPC_BAD_PARAMS, "%s: %s is missing: give %s", method->name, param->name,
				    param->right);
			return false;
		}
	}
	if (!any) {
		char list[160];

		takes(method, list, sizeof(list));
		admin_error(error, RPC_BAD_PARAMS, "%s: nothing to change was given: it takes %s", method->name, list);
		return false;
	}
	return !method->agree || method->agree(request, error);
}
