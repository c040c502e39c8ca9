/*
 * The file of break-glass keys: whatever it holds, it is refused with one line that shows no hash, or each key of it is
 * one that may be, and its line written anew is read as the same key.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/modules/glass.h"

enum { KEYS_MAX = 8, ERROR_SIZE = 512, LINE_SIZE = 65536 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
	if (!condition)
		abort();
}

/* So many letters and digits in a row could be a piece of a key or of a hash. */
static void must_be_modest(const char *error)
{
	size_t run = 0;

	must(strncmp(error, "fuzz:", 5) == 0 && !strchr(error, '\n') && strlen(error) < ERROR_SIZE - 1);
	for (; *error; error++) {
		int lower = *error | 32;

		run = (*error >= '0' && *error <= '9') || (lower >= 'a' && lower <= 'z') ? run + 1 : 0;
		must(run < 20 && (unsigned char)*error >= ' ' && *error != 0x7f);
	}
}

static void join(const struct apikeyd_text *texts, uint32_t count, char *out)
{
	for (uint32_t i = 0; i < count; i++)
		out += snprintf(out, LINE_SIZE / 4, "%s%.*s", i ? "," : "", (int)texts[i].len, texts[i].data);
}

static int same_texts(const struct apikeyd_text *a, const struct apikeyd_text *b, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (a[i].len != b[i].len || memcmp(a[i].data, b[i].data, a[i].len) != 0)
			return 0;
	}
	return 1;
}

static void use(const struct glass_key *key)
{
	static char pages[LINE_SIZE], scopes[LINE_SIZE], line[4 * LINE_SIZE];
	char organization[GLASS_SLUG_MAX + 1], error[ERROR_SIZE] = "";
	const struct glass_key *again;
	struct glass *glass = NULL;
	size_t len;

	must(key->pepper >= 1 && key->end_us > 0 && strlen(key->key_id) == GLASS_ID_LEN);
	must(key->page_count >= 1 && key->page_count <= APIKEYD_NARROWING_MAX);
	must(key->scope_count >= 1 && key->scope_count <= APIKEYD_NARROWING_MAX);
	must(key->organization.len >= 1 && key->organization.len <= GLASS_SLUG_MAX);
	for (uint32_t i = 0; i < key->scope_count; i++) {
		const struct apikeyd_text *scope = &key->scopes[i];

		must(memchr(scope->data, ':', scope->len) && !memchr(scope->data, '*', scope->len));
		must(strncmp(scope->data, "member:", 7) != 0 && strncmp(scope->data, "apikey:", 7) != 0 &&
		     strncmp(scope->data, "org:", 4) != 0);
	}
	snprintf(organization, sizeof(organization), "%.*s", (int)key->organization.len, key->organization.data);
	join(key->pages, key->page_count, pages);
	join(key->scopes, key->scope_count, scopes);
	len = glass_line(key->key_id, key->pepper, key->hash, organization, pages, scopes, key->end_us, line,
			 sizeof(line));
	must(len > 0);
	if (key->end_us < 1000000)
		return; /* its whole seconds are no end */
	must(glass_parse("fuzz", line, len, 1, &glass, error, sizeof(error)) == 0);
	again = glass_at(glass, 0);
	must(again && strcmp(again->key_id, key->key_id) == 0 && again->pepper == key->pepper);
	must(memcmp(again->hash, key->hash, sizeof(key->hash)) == 0);
	must(again->page_count == key->page_count && same_texts(again->pages, key->pages, key->page_count));
	must(again->scope_count == key->scope_count && same_texts(again->scopes, key->scopes, key->scope_count));
	must(again->end_us == key->end_us / 1000000 * 1000000);
	glass_free(glass);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[ERROR_SIZE] = "";
	struct glass *glass = NULL;
	uint32_t count = 0;

	if (glass_parse("fuzz", (const char *)data, size, KEYS_MAX, &glass, error, sizeof(error)) != 0) {
		must(!glass);
		must_be_modest(error);
		return 0;
	}
	must(!*error);
	for (; glass_at(glass, count); count++)
		use(glass_at(glass, count));
	must(count <= KEYS_MAX);
	glass_free(glass);
	return 0;
}
