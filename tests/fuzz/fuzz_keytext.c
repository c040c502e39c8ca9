/*
 * Key texts: what parses is made again by its parts, and nothing is read past the end. The first byte says how many of
 * the next are the brand.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/keytext.h"

static void must(int condition)
{
	if (!condition)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char brand[KEYTEXT_BRAND_MAX + 1] = "ak";
	struct keytext peeked = {0}, parsed = {0};
	size_t brand_len, len;
	const char *text;
	bool peeks, parses;
	keytext_id id;

	if (size < 1)
		return 0;
	brand_len = data[0] % (KEYTEXT_BRAND_MAX + 1);
	if (size < 1 + brand_len)
		return 0;
	memcpy(brand, data + 1, brand_len);
	brand[brand_len ? brand_len : 2] = '\0';
	brand_len = strlen(brand);
	text = (const char *)data + 1 + data[0] % (KEYTEXT_BRAND_MAX + 1);
	len = size - (size_t)(text - (const char *)data);
	if (!keytext_brand_valid(brand))
		return 0;
	peeks = keytext_peek(text, len, brand, brand_len, &peeked);
	parses = keytext_parse(text, len, brand, brand_len, &parsed);
	must(peeks || !parses);
	if (peeks) {
		char id_text[KEYTEXT_ID_LEN + 1];

		keytext_id_format(peeked.id, id_text);
		must(strcmp(id_text, peeked.id_text) == 0);
		must(memcmp(id_text, text + brand_len + 2, KEYTEXT_ID_LEN) == 0);
	}
	if (parses) {
		must(parsed.id == peeked.id && parsed.kind == peeked.kind);
		must(text[brand_len] == key_kind_letter(parsed.kind));
	}
	if (keytext_id_parse(text, len, &id)) {
		char again[KEYTEXT_ID_LEN + 1];

		keytext_id_format(id, again);
		must(len == KEYTEXT_ID_LEN && memcmp(again, text, len) == 0);
	}
	if (len >= KEYTEXT_SECRET_BYTES + 16) { /* the bytes as a new key's randomness: it parses */
		char made[KEYTEXT_MAX + 1];
		size_t made_len;

		id = keytext_id_from_random((const uint8_t *)text);
		made_len = keytext_format(brand, KEY_KIND_ORGANIZATION, id, (const uint8_t *)text + 16, made);
		must(keytext_parse(made, made_len, brand, brand_len, &parsed));
		must(parsed.id == id && parsed.kind == KEY_KIND_ORGANIZATION);
	}
	return 0;
}
