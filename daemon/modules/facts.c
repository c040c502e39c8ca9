#include "daemon/modules/facts.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { WORD_MAX = 64 };

void facts_init(struct facts *facts)
{
	facts->len = 0;
	facts->text[0] = '\0';
}

/* Room for `len` more and the terminator; whoever finds none leaves the whole field out. */
static bool has_room(const struct facts *facts, size_t len)
{
	return len < sizeof(facts->text) - facts->len;
}

static void put(struct facts *facts, const char *name, const char *value, size_t len)
{
	const char *blank = facts->len > 0 ? " " : "";

	if (!has_room(facts, strlen(blank) + strlen(name) + 1 + len))
		return;
	facts->len += (size_t)snprintf(facts->text + facts->len, sizeof(facts->text) - facts->len, "%s%s=%.*s", blank,
				       name, (int)len, value);
}

void facts_number(struct facts *facts, const char *name, unsigned long long number)
{
	char value[24];

	put(facts, name, value, (size_t)snprintf(value, sizeof(value), "%llu", number));
}

static bool is_word(struct apikeyd_text text)
{
	for (uint32_t i = 0; i < text.len; i++) {
		char c = text.data[i];

		if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_')
			return false;
	}
	return text.len > 0 && text.len <= WORD_MAX;
}

void facts_word(struct facts *facts, const char *name, struct apikeyd_text word)
{
	if (word.data && is_word(word))
		put(facts, name, word.data, word.len);
	else
		facts_text(facts, name, word);
}

/* One byte as it stands in quotes; returns how many it became. */
static size_t quote(unsigned char c, char out[4])
{
	static const char digits[] = "0123456789abcdef";

	if (c == '"' || c == '\\') {
		out[0] = '\\';
		out[1] = (char)c;
		return 2;
	}
	if (c >= 0x20 && c < 0x7f) {
		out[0] = (char)c;
		return 1;
	}
	out[0] = '\\';
	out[1] = 'x';
	out[2] = digits[c >> 4];
	out[3] = digits[c & 15];
	return 4;
}

void facts_text(struct facts *facts, const char *name, struct apikeyd_text text)
{
	char value[1 + FACTS_VALUE_MAX + sizeof("\"...")];
	size_t len = 0;
	uint32_t i;

	if (!text.data)
		return;
	value[len++] = '"';
	for (i = 0; i < text.len; i++) {
		char byte[4];
		size_t n = quote((unsigned char)text.data[i], byte);

		if (len + n > 1 + FACTS_VALUE_MAX)
			break;
		memcpy(value + len, byte, n);
		len += n;
	}
	len += (size_t)snprintf(value + len, sizeof(value) - len, "\"%s", i < text.len ? "..." : "");
	put(facts, name, value, len);
}

static const char *kind_word(enum apikeyd_kind kind)
{
	switch (kind) {
	case APIKEYD_KIND_USER:
		return "user";
	case APIKEYD_KIND_ORGANIZATION:
		return "organization";
	case APIKEYD_KIND_BREAK_GLASS:
		return "break_glass";
	case APIKEYD_KIND_NONE:
		break;
	}
	return NULL;
}

static struct apikeyd_text text_of(const char *text)
{
	return (struct apikeyd_text){.data = text, .len = text ? (uint32_t)strlen(text) : 0};
}

void facts_request(struct facts *facts, const struct apikeyd_request *request)
{
	char addr[INET6_ADDRSTRLEN];

	if (request->stale)
		facts_word(facts, "stale", text_of("true"));
	facts_text(facts, "stack", request->stack);
	facts_word(facts, "method", request->method);
	facts_number(facts, "uid", request->uid);
	facts_word(facts, "kind", text_of(kind_word(request->kind)));
	facts_text(facts, "key_id", request->key_id);
	if (request->addr.family != 0 &&
	    inet_ntop(request->addr.family == 4 ? AF_INET : AF_INET6, request->addr.bytes, addr, sizeof(addr)))
		facts_text(facts, "addr", text_of(addr));
	facts_text(facts, "org", request->key_org);
	facts_text(facts, "user", request->key_user);
	facts_text(facts, "scope", request->scope);
	facts_text(facts, "page", request->page);
}
