#include "daemon/postgres/writer_value.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/postgres/connection.h"

enum writer_type { /* pg_type.oid: fixed for ever */
		   TYPE_BOOL = 16,
		   TYPE_INT8 = 20,
		   TYPE_INT2 = 21,
		   TYPE_INT4 = 23,
		   TYPE_CIDR_ARRAY = 651,
		   TYPE_NAME_ARRAY = 1003,
		   TYPE_INT2_ARRAY = 1005,
		   TYPE_INT4_ARRAY = 1007,
		   TYPE_TEXT_ARRAY = 1009,
		   TYPE_VARCHAR_ARRAY = 1015,
		   TYPE_INT8_ARRAY = 1016,
		   TYPE_INET_ARRAY = 1041,
		   TYPE_TIMESTAMPTZ = 1184,
};

static unsigned writer_type_item(unsigned type)
{
	switch (type) {
	case TYPE_INT2_ARRAY:
	case TYPE_INT4_ARRAY:
	case TYPE_INT8_ARRAY:
		return TYPE_INT8;
	case TYPE_CIDR_ARRAY:
	case TYPE_NAME_ARRAY:
	case TYPE_TEXT_ARRAY:
	case TYPE_VARCHAR_ARRAY:
	case TYPE_INET_ARRAY:
		return 25;
	default:
		return 0;
	}
}

/*
 * {a,"b c",NULL}: the text form of an array of one dimension. Returns the end of the item at `at`, unescaped into
 * `item` (as long as the whole text at least), or NULL where the form is not that.
 */
static const char *writer_array_item(const char *at, char *item, bool *ret_null)
{
	char *out = item;
	bool quoted = *at == '"';

	if (quoted)
		at++;
	while (*at && (quoted ? *at != '"' : *at != ',' && *at != '}')) {
		if (*at == '\\' && at[1])
			at++;
		*out++ = *at++;
	}
	*out = '\0';
	if (quoted && *at++ != '"')
		return NULL;
	*ret_null = !quoted && strcmp(item, "NULL") == 0;
	return *at == ',' || *at == '}' ? at : NULL;
}

static bool writer_value_array(struct arena *arena, struct value *ret, unsigned type, const char *text)
{
	char *item = malloc(strlen(text) + 1);
	const char *at = text;
	bool good = item != NULL;

	value_list(ret);
	if (!good || *at != '{' || strcmp(at, "{}") == 0)
		goto out;
	while (good && at && *at != '}') {
		struct value *v;
		bool null;

		at = writer_array_item(at + 1, item, &null);
		if (!at)
			break;
		v = value_add(arena, ret);
		good = v && (null || writer_value_field(arena, v, type, item));
	}
out:
	free(item);
	return good;
}

/* "2026-11-24 10:02:01.07+00" -> "2026-11-24T10:02:01Z". */
static bool writer_value_time(struct arena *arena, struct value *ret, const char *text)
{
	const char *blank = strchr(text, ' ');
	char out[48];
	int date;

	if (strcmp(text, "infinity") == 0 || strcmp(text, "-infinity") == 0)
		return true;
	date = blank ? (int)(blank - text) : 0;
	/* Anything else, such as a year before Christ, is left as the server writes it. */
	if (date < 10 || date > 20 || strlen(blank) < 12 || strcmp(blank + strlen(blank) - 3, "+00") != 0)
		return value_text(arena, ret, text, strlen(text));
	snprintf(out, sizeof(out), "%.*sT%.8sZ", date, text, blank + 1);
	return value_text(arena, ret, out, strlen(out));
}

bool writer_value_field(struct arena *arena, struct value *ret, unsigned type, const char *text)
{
	unsigned item = writer_type_item(type);

	if (item)
		return writer_value_array(arena, ret, item, text);
	switch (type) {
	case TYPE_BOOL:
		value_bool(ret, text[0] == 't');
		return true;
	case TYPE_INT2:
	case TYPE_INT4:
	case TYPE_INT8:
		value_int(ret, strtoll(text, NULL, 10));
		return true;
	case TYPE_TIMESTAMPTZ:
		return writer_value_time(arena, ret, text);
	default:
		return value_text(arena, ret, text, strlen(text));
	}
}

bool writer_value_rows(struct arena *arena, const PGresult *result, struct value *ret)
{
	value_list(ret);
	for (int row = 0; row < PQntuples(result); row++) {
		struct value *map = value_add(arena, ret);

		if (!map)
			return false;
		value_map(map);
		for (int i = 0; i < PQnfields(result); i++) {
			struct value *v = value_set(arena, map, PQfname(result, i));

			if (!v)
				return false;
			if (!PQgetisnull(result, row, i) &&
			    !writer_value_field(arena, v, PQftype(result, i), PQgetvalue(result, row, i)))
				return false;
		}
	}
	return true;
}

/* ---- errors ---- */

void writer_value_fail(struct rpc_error *ret, enum rpc_error_code code, const char *message)
{
	size_t len;

	ret->code = code;
	snprintf(ret->message, sizeof(ret->message), "%s", message);
	len = strlen(ret->message);
	if (len < sizeof(ret->message) - 1)
		return;
	/* It may have been cut: not in the middle of a character. */
	while (len > 0 && ((uint8_t)ret->message[len - 1] & 0xc0) == 0x80)
		len--;
	if (len > 0 && (uint8_t)ret->message[len - 1] >= 0xc0)
		len--;
	ret->message[len] = '\0';
}

enum rpc_error_code writer_value_code(const char *sqlstate, const char *message)
{
	static const struct {
		const char *state; /* whole, or its class */
		enum rpc_error_code code;
	} codes[] = {
		{"23505", RPC_EXISTS},	    {"23001", RPC_REFUSED},	{"23", RPC_INVALID},
		{"22", RPC_INVALID},	    {"P0002", RPC_NOT_FOUND},	{"P0001", RPC_REFUSED},
		{"42501", RPC_REFUSED},	    {"55P03", RPC_UNAVAILABLE}, {"55", RPC_REFUSED},
		{"40", RPC_UNAVAILABLE},    {"57", RPC_UNAVAILABLE},	{"53", RPC_UNAVAILABLE},
		{"08", RPC_UNAVAILABLE},    {"25006", RPC_UNAVAILABLE}, {"3F000", RPC_UNAVAILABLE},
		{"42P01", RPC_UNAVAILABLE}, {"42883", RPC_UNAVAILABLE},
	};

	/* The server gives both sides of a foreign key the same state: what is refused is to take away what is in use. */
	if (strcmp(sqlstate, "23503") == 0 && strncmp(message, "update or delete", strlen("update or delete")) == 0)
		return RPC_REFUSED;
	for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (strncmp(sqlstate, codes[i].state, strlen(codes[i].state)) == 0)
			return codes[i].code;
	return RPC_INTERNAL;
}

void writer_value_error(const PGresult *result, struct rpc_error *ret)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	char message[512], line[640];
	enum rpc_error_code code;

	connection_result_line(result, message, sizeof(message));
	code = state ? writer_value_code(state, message) : RPC_UNAVAILABLE;
	snprintf(line, sizeof(line), "%s", message);
	if (state && (strcmp(state, "55P03") == 0 || strncmp(state, "40", 2) == 0) && !strstr(message, "retry"))
		snprintf(line, sizeof(line), "%s: retry", message);
	else if (state && (strcmp(state, "3F000") == 0 || strcmp(state, "42P01") == 0 || strcmp(state, "42883") == 0))
		snprintf(line, sizeof(line), "%s: run `apikeyctl db status`", message);
	writer_value_fail(ret, code, line);
}
