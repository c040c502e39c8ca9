/* Errors about a request: one line that shows what was wrong, and never a key. */
#include "proto/rpc_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A run of letters and digits as long as this may be a piece of a key, given in a wrong place: not
 * shown. */
enum { RUN_SHOWN_MAX = 20 };

enum rpc_error_code rpc_fail(struct rpc_error *error, enum rpc_error_code code, const char *format, ...)
{
	va_list args;

	error->code = code;
	va_start(args, format);
	vsnprintf(error->message, sizeof(error->message), format, args);
	va_end(args);
	return code;
}

static bool may_hold_key(const char *text, uint32_t len)
{
	uint32_t run = 0;

	for (uint32_t i = 0; i < len; i++) {
		char c = text[i];
		bool base62 = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

		run = base62 ? run + 1 : 0;
		if (run >= RUN_SHOWN_MAX)
			return true;
	}
	return false;
}

static const char *show_text(struct rpc_shown *shown, const char *text, uint32_t len)
{
	uint32_t cut = len > RPC_SHOWN_MAX ? RPC_SHOWN_MAX : len;
	size_t used = 1;

	if (may_hold_key(text, len)) {
		snprintf(shown->text, sizeof(shown->text), "a text of %" PRIu32 " bytes", len);
		return shown->text;
	}
	shown->text[0] = '"';
	for (uint32_t i = 0; i < cut; i++) {
		unsigned char c = (unsigned char)text[i];
		bool plain = c >= ' ' && c < 0x7f && c != '"' && c != '\\';

		used += (size_t)snprintf(shown->text + used, sizeof(shown->text) - used, plain ? "%c" : "\\x%02x", c);
	}
	snprintf(shown->text + used, sizeof(shown->text) - used, "\"%s", len > cut ? "..." : "");
	return shown->text;
}

const char *rpc_show(struct rpc_shown *shown, const msgpack_object *object)
{
	char *out = shown->text;
	size_t size = sizeof(shown->text);

	switch (object->type) {
	case MSGPACK_OBJECT_NIL:
		snprintf(out, size, "nil");
		break;
	case MSGPACK_OBJECT_BOOLEAN:
		snprintf(out, size, "%s", object->via.boolean ? "true" : "false");
		break;
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		snprintf(out, size, "%" PRIu64, object->via.u64);
		break;
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		snprintf(out, size, "%" PRId64, object->via.i64);
		break;
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		snprintf(out, size, "a float");
		break;
	case MSGPACK_OBJECT_STR:
		return show_text(shown, object->via.str.ptr, object->via.str.size);
	case MSGPACK_OBJECT_BIN:
		snprintf(out, size, "%" PRIu32 " bytes of binary", object->via.bin.size);
		break;
	case MSGPACK_OBJECT_ARRAY:
		snprintf(out, size, "an array of %" PRIu32, object->via.array.size);
		break;
	case MSGPACK_OBJECT_MAP:
		snprintf(out, size, "a map of %" PRIu32, object->via.map.size);
		break;
	case MSGPACK_OBJECT_EXT:
		snprintf(out, size, "an extension type");
		break;
	}
	return shown->text;
}
