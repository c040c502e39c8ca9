#include "proto/rpc_internal.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER_MIN = 1024 };

static const char *const error_words[RPC_ERROR_COUNT] = {
	[RPC_OK] = "ok",
	[RPC_MALFORMED] = "malformed",
	[RPC_UNKNOWN_METHOD] = "unknown_method",
	[RPC_BAD_PARAMS] = "bad_params",
	[RPC_LIMIT] = "limit",
	[RPC_NOT_FOUND] = "not_found",
	[RPC_EXISTS] = "exists",
	[RPC_INVALID] = "invalid",
	[RPC_REFUSED] = "refused",
	[RPC_UNAVAILABLE] = "unavailable",
	[RPC_INTERNAL] = "internal",
};

static const char *const method_words[RPC_METHOD_COUNT] = {
	[RPC_METHOD_HELLO] = "hello", [RPC_METHOD_CHECK] = "check",   [RPC_METHOD_CHECK_MANY] = "check_many",
	[RPC_METHOD_PAGES] = "pages", [RPC_METHOD_WHOAMI] = "whoami", [RPC_METHOD_EXPLAIN] = "explain",
	[RPC_METHOD_STATS] = "stats", [RPC_METHOD_ADMIN] = "admin",
};

const char *rpc_error_word(enum rpc_error_code code)
{
	return (unsigned)code < RPC_ERROR_COUNT ? error_words[code] : error_words[RPC_INTERNAL];
}

const char *rpc_method_word(enum rpc_method method)
{
	return (unsigned)method < RPC_METHOD_COUNT ? method_words[method] : "unknown";
}

bool rpc_addr_parse(const char *text, size_t len, struct rpc_addr *ret)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	char terminated[INET6_ADDRSTRLEN];
	struct rpc_addr addr = {0};

	if (len == 0 || len >= sizeof(terminated) || memchr(text, '\0', len))
		return false;
	memcpy(terminated, text, len);
	terminated[len] = '\0';
	if (!memchr(text, ':', len)) {
		if (inet_pton(AF_INET, terminated, addr.bytes) != 1)
			return false;
		addr.family = 4;
	} else {
		if (inet_pton(AF_INET6, terminated, addr.bytes) != 1)
			return false;
		addr.family = 6;
		if (memcmp(addr.bytes, mapped, sizeof(mapped)) == 0) {
			addr.family = 4;
			memcpy(addr.bytes, addr.bytes + 12, 4);
			memset(addr.bytes + 4, 0, 12);
		}
	}
	*ret = addr;
	return true;
}

uint8_t *rpc_buffer_reserve(struct rpc_buffer *buffer, size_t size)
{
	size_t need, cap;
	uint8_t *grown;

	if (buffer->failed)
		return NULL;
	if (__builtin_expect(buffer->cap - buffer->len >= size, 1) && buffer->data)
		return buffer->data + buffer->len;
	if (__builtin_add_overflow(buffer->len, size, &need))
		goto failed;
	cap = buffer->cap ? buffer->cap : BUFFER_MIN;
	while (cap < need) {
		if (__builtin_mul_overflow(cap, 2, &cap))
			goto failed;
	}
	grown = malloc(cap);
	if (!grown)
		goto failed;
	if (buffer->data) {
		memcpy(grown, buffer->data, buffer->len);
		/* not realloc: the old memory may hold a key, behind len too */
		explicit_bzero(buffer->data, buffer->cap);
		free(buffer->data);
	}
	buffer->data = grown;
	buffer->cap = cap;
	return buffer->data + buffer->len;
failed:
	buffer->failed = true;
	return NULL;
}

int rpc_buffer_write(void *data, const char *bytes, size_t len)
{
	struct rpc_buffer *buffer = data;
	uint8_t *p = rpc_buffer_reserve(buffer, len);

	if (!p)
		return -1;
	if (len > 0)
		memcpy(p, bytes, len);
	buffer->len += len;
	return 0;
}

void rpc_buffer_deinit(struct rpc_buffer *buffer)
{
	if (buffer->data) {
		/* whole: a caller that set len back to use it again left its bytes behind */
		explicit_bzero(buffer->data, buffer->cap);
		free(buffer->data);
	}
	memset(buffer, 0, sizeof(*buffer));
}

bool rpc_is_text(const msgpack_object *object, const char *text, size_t len)
{
	return object->type == MSGPACK_OBJECT_STR && object->via.str.size == len &&
	       memcmp(object->via.str.ptr, text, len) == 0;
}
