#include "daemon/modules/exec_line.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/modules/reasons.h"

enum { RETRY_MAX_DIGITS = 15, CODE_MAX = 32 };

/* ---- questions ---- */

struct writing {
	char *out;
	size_t len;
	bool full;
};

static void put_char(struct writing *writing, char c)
{
	if (writing->len == EXEC_LINE_MAX)
		writing->full = true;
	else
		writing->out[writing->len++] = c;
}

static void put_plain(struct writing *writing, const char *text)
{
	for (; *text; text++)
		put_char(writing, *text);
}

/* What could end a field or a line, and what marks that, stands as %XX. */
static void put_field(struct writing *writing, const char *name, struct apikeyd_text value)
{
	put_char(writing, '\t');
	put_plain(writing, name);
	put_char(writing, '=');
	for (uint32_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.data[i];
		char hex[4];

		if (c >= ' ' && c != 0x7f && c != '%') {
			put_char(writing, (char)c);
			continue;
		}
		snprintf(hex, sizeof(hex), "%%%02X", c);
		put_plain(writing, hex);
	}
}

static void put_word(struct writing *writing, const char *name, const char *value)
{
	put_field(writing, name, (struct apikeyd_text){value, (uint32_t)strlen(value)});
}

static const char *group_word(enum apikeyd_group group)
{
	switch (group) {
	case APIKEYD_GROUP_CALLER:
		return "caller";
	case APIKEYD_GROUP_KEY:
		return "key";
	case APIKEYD_GROUP_ACCOUNT:
		return "account";
	case APIKEYD_GROUP_PAGE:
		return "page";
	case APIKEYD_GROUP_SCOPE:
		return "scope";
	case APIKEYD_GROUP_AUDIT:
		return "audit";
	}
	return "";
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
	return "";
}

size_t exec_line_put(uint64_t id, const struct apikeyd_request *request, char out[EXEC_LINE_MAX])
{
	struct writing writing = {.out = out};
	char addr[INET6_ADDRSTRLEN] = "", number[24];

	if (request->addr.family == 4 || request->addr.family == 6)
		inet_ntop(request->addr.family == 4 ? AF_INET : AF_INET6, request->addr.bytes, addr, sizeof(addr));
	snprintf(number, sizeof(number), "%" PRIu64, id);
	put_plain(&writing, number);
	put_word(&writing, "group", group_word(request->group));
	put_field(&writing, "stack", request->stack);
	put_field(&writing, "method", request->method);
	put_field(&writing, "key_id", request->key_id);
	put_word(&writing, "kind", kind_word(request->kind));
	put_field(&writing, "org", request->key_org);
	put_field(&writing, "user", request->key_user);
	put_field(&writing, "scope", request->scope);
	put_field(&writing, "page", request->page);
	put_word(&writing, "addr", addr);
	snprintf(number, sizeof(number), "%" PRIu64, (uint64_t)request->uid);
	put_word(&writing, "uid", number);
	put_word(&writing, "explain", request->explain ? "1" : "0");
	put_field(&writing, "asked_org", request->org);
	put_word(&writing, "stale", request->stale ? "1" : "0");
	put_char(&writing, '\n');
	return writing.full ? 0 : writing.len;
}

/* ---- answers ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* The next word of *at, terminated there; NULL at the end, or where a detail begins. */
static char *next_word(char **at)
{
	char *word = *at + strspn(*at, " \t");

	if (*word == '\0' || *word == '#') {
		*at = word;
		return NULL;
	}
	*at = word + strcspn(word, " \t");
	if (**at)
		*(*at)++ = '\0';
	return word;
}

static bool read_number(const char *word, size_t max_digits, uint64_t *ret)
{
	size_t len = strlen(word);
	uint64_t number = 0;

	if (len == 0 || len > max_digits || strspn(word, "0123456789") != len)
		return false;
	for (; *word; word++)
		number = number * 10 + (uint64_t)(*word - '0');
	*ret = number;
	return true;
}

bool exec_line_read(char *line, size_t len, struct exec_answer *ret)
{
	enum { ID_DIGITS = 19 }; /* fewer than would overflow */
	struct exec_answer answer = {0};
	char *word;

	if (memchr(line, '\0', len) || is_blank(line[0]))
		return false;
	word = next_word(&line);
	if (!word || !read_number(word, ID_DIGITS, &answer.id))
		return false;
	word = next_word(&line);
	if (!word || !reasons_code(word, &answer.code))
		return false;
	word = next_word(&line);
	if (word && (!read_number(word, RETRY_MAX_DIGITS, &answer.retry_after_ms) || next_word(&line)))
		return false;
	if (*line == '#') {
		line += 1 + strspn(line + 1, " \t");
		/* It is for people, and goes on to terminals. */
		for (char *c = line; *c; c++)
			*c = *c >= ' ' && *c < 0x7f ? *c : '?';
		answer.detail = line;
	}
	*ret = answer;
	return true;
}

/* ---- commands ---- */

unsigned exec_line_split(char *command, const char **words, unsigned max)
{
	unsigned count = 0;

	for (;; count++) {
		command += strspn(command, " \t");
		if (!*command)
			return count;
		if (count < max)
			words[count] = command;
		command += strcspn(command, " \t");
		if (*command)
			*command++ = '\0';
	}
}
