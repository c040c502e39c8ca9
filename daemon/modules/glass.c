#include "daemon/modules/glass.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/modules/glass_internal.h"

struct glass {
	struct glass_key *keys;
	uint32_t count;
	struct apikeyd_text *texts; /* pages and scopes of all keys */
	char *text;
	size_t len;
};

/* Where one reading has come to. */
struct reading {
	struct glass *glass;
	const char *path;
	uint32_t keys_max, line;
	size_t text_count; /* of glass->texts in use */
	char *error;
	size_t error_size;
};

struct word {
	const char *data;
	size_t len;
};

enum { ID = 0, HASH, ORGANIZATION, PAGES, SCOPES, END, FIELDS };

static const char *const names[FIELDS] = {"key_id", "pepper:hash", "organization", "pages", "scopes", "end"};

#define SLUG_RIGHT "1 to 63 of a-z 0-9 -, neither first nor last a -"

/* ---- what is wrong ---- */

/* What could be a key or a hash is not shown, nor is anything that looks like a piece of one. */
static void show(const char *text, size_t len, char *out, size_t size)
{
	enum { SHOWN = 60, RUN = 20 };
	size_t at = 0, run = 0;

	for (size_t i = 0; i < len; i++) {
		run = glass_is_alnum(text[i]) ? run + 1 : 0;
		if (run >= RUN) {
			snprintf(out, size, "(not shown)");
			return;
		}
	}
	out[at++] = '\'';
	for (size_t i = 0; i < len && i < SHOWN && at + 10 < size; i++)
		out[at++] = text[i] > ' ' && text[i] < 0x7f ? text[i] : '?';
	snprintf(out + at, size - at, "%s'", len > SHOWN ? "..." : "");
}

static bool wrong(struct reading *reading, unsigned field, const struct word *value, const char *right)
{
	char shown[96];

	if (field == HASH)
		snprintf(shown, sizeof(shown), "(not shown)");
	else
		show(value->data, value->len, shown, sizeof(shown));
	snprintf(reading->error, reading->error_size, "%s:%u: %s %s: it must be %s", reading->path,
		 (unsigned)reading->line, names[field], shown, right);
	return false;
}

/* ---- fields ---- */

static bool read_id(struct reading *reading, const struct word *word, struct glass_key *key)
{
	size_t i = 0;

	while (i < word->len && glass_is_alnum(word->data[i]))
		i++;
	if (word->len != GLASS_ID_LEN || i != word->len)
		return wrong(reading, ID, word, "10 characters of 0-9 A-Z a-z (never the key itself)");
	memcpy(key->key_id, word->data, GLASS_ID_LEN);
	for (uint32_t k = 0; k < reading->glass->count; k++) {
		const struct glass_key *other = &reading->glass->keys[k];
		char right[64];

		if (strcmp(other->key_id, key->key_id) != 0)
			continue;
		snprintf(right, sizeof(right), "another one: it stands in line %u already", (unsigned)other->line);
		return wrong(reading, ID, word, right);
	}
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool read_hash(struct reading *reading, const struct word *word, struct glass_key *key)
{
	static const char right[] = "a pepper's version from 1 to 32767, a colon and 64 hex digits";
	unsigned version = 0;
	size_t at = 0;

	while (at < word->len && at < 6 && word->data[at] >= '0' && word->data[at] <= '9')
		version = version * 10 + (unsigned)(word->data[at++] - '0');
	if (at == 0 || version < 1 || version > INT16_MAX || word->len - at != 1 + 2 * APIKEYD_HASH_LEN ||
	    word->data[at] != ':')
		return wrong(reading, HASH, word, right);
	at++;
	for (unsigned i = 0; i < APIKEYD_HASH_LEN; i++, at += 2) {
		int high = hex_digit(word->data[at]), low = hex_digit(word->data[at + 1]);

		if (high < 0 || low < 0)
			return wrong(reading, HASH, word, right);
		key->hash[i] = (uint8_t)(high << 4 | low);
	}
	key->pepper = (uint16_t)version;
	return true;
}

static const char *slug_fault(const char *text, size_t len)
{
	return glass_is_slug(text, len) ? NULL : "a slug: " SLUG_RIGHT;
}

/* Comma-separated items into the texts of all keys. */
static bool read_list(struct reading *reading, unsigned field, const struct word *word,
		      const char *(*fault)(const char *, size_t), const struct apikeyd_text **ret, uint32_t *ret_count)
{
	const char *at = word->data, *end = word->data + word->len;
	struct apikeyd_text *texts = reading->glass->texts + reading->text_count;
	uint32_t count = 0;

	for (;;) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		struct word item = {at, (size_t)((comma ? comma : end) - at)};
		const char *right = fault(item.data, item.len);

		if (count == APIKEYD_NARROWING_MAX)
			return wrong(reading, field, &item, "one of 256 at most");
		if (right)
			return wrong(reading, field, &item, right);
		texts[count++] = (struct apikeyd_text){item.data, (uint32_t)item.len};
		if (!comma)
			break;
		at = comma + 1;
	}
	reading->text_count += count;
	*ret = texts;
	*ret_count = count;
	return true;
}

static bool read_key(struct reading *reading, const struct word words[FIELDS])
{
	struct glass *glass = reading->glass;
	struct glass_key key = {.line = reading->line};
	const struct word *organization = &words[ORGANIZATION], *end = &words[END];

	if (glass->count == reading->keys_max) {
		snprintf(
			reading->error, reading->error_size,
			"%s:%u: is the key number %u: it must be at most %u (entries=); take out those that have ended",
			reading->path, (unsigned)reading->line, (unsigned)glass->count + 1,
			(unsigned)reading->keys_max);
		return false;
	}
	if (!read_id(reading, &words[ID], &key) || !read_hash(reading, &words[HASH], &key))
		return false;
	if (slug_fault(organization->data, organization->len))
		return wrong(reading, ORGANIZATION, organization, slug_fault(organization->data, organization->len));
	key.organization = (struct apikeyd_text){organization->data, (uint32_t)organization->len};
	if (!read_list(reading, PAGES, &words[PAGES], slug_fault, &key.pages, &key.page_count) ||
	    !read_list(reading, SCOPES, &words[SCOPES], glass_scope_fault, &key.scopes, &key.scope_count))
		return false;
	if (!glass_time_parse(end->data, end->len, &key.end_us) || key.end_us <= 0)
		return wrong(reading, END, end, "a time with its zone, such as 2030-01-31T12:00:00Z");
	glass->keys[glass->count++] = key;
	return true;
}

/* ---- lines ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static bool read_line(struct reading *reading, const char *at, const char *end)
{
	struct word words[FIELDS];
	unsigned count = 0;

	for (;; count++) {
		const char *start;

		while (at < end && is_blank(*at))
			at++;
		if (at == end || *at == '#')
			break;
		start = at;
		while (at < end && !is_blank(*at))
			at++;
		if (count < FIELDS)
			words[count] = (struct word){start, (size_t)(at - start)};
	}
	if (count == 0)
		return true;
	if (count != FIELDS) {
		snprintf(reading->error, reading->error_size,
			 "%s:%u: has %u words: it must have 6: key_id, pepper:hash, organization, pages, scopes, end",
			 reading->path, (unsigned)reading->line, count);
		return false;
	}
	return read_key(reading, words);
}

static bool read_lines(struct reading *reading)
{
	const char *at = reading->glass->text, *end = at + reading->glass->len;

	for (reading->line = 1; at < end; reading->line++) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));

		if (!read_line(reading, at, newline ? newline : end))
			return false;
		at = newline ? newline + 1 : end;
	}
	return true;
}

/* Room for as many keys and items as the text can hold. */
static bool make_room(struct glass *glass, uint32_t keys_max)
{
	size_t lines = 1, commas = 0;

	for (size_t i = 0; i < glass->len; i++) {
		lines += glass->text[i] == '\n';
		commas += glass->text[i] == ',';
	}
	glass->keys = calloc(lines < keys_max ? lines : keys_max, sizeof(*glass->keys));
	glass->texts = calloc(commas + 2 * lines, sizeof(*glass->texts));
	return glass->keys && glass->texts;
}

int glass_parse(const char *path, const char *text, size_t len, uint32_t keys_max, struct glass **ret, char *error,
		size_t error_size)
{
	struct glass *glass = calloc(1, sizeof(*glass));
	struct reading reading = {
		.glass = glass, .path = path, .keys_max = keys_max, .error = error, .error_size = error_size};
	int rc = -EINVAL;

	if (glass)
		glass->text = malloc(len + 1);
	if (!glass || !glass->text)
		goto no_memory;
	memcpy(glass->text, text, len);
	glass->text[len] = '\0';
	glass->len = len;
	if (!make_room(glass, keys_max))
		goto no_memory;
	if (!read_lines(&reading))
		goto out;
	*ret = glass;
	return 0;
no_memory:
	snprintf(error, error_size, "%s: no memory", path);
	rc = -ENOMEM;
out:
	glass_free(glass);
	return rc;
}

void glass_free(struct glass *glass)
{
	if (!glass)
		return;
	if (glass->text)
		explicit_bzero(glass->text, glass->len);
	if (glass->keys)
		explicit_bzero(glass->keys, glass->count * sizeof(*glass->keys));
	free(glass->text);
	free(glass->texts);
	free(glass->keys);
	free(glass);
}

/* ---- looking ---- */

const struct glass_key *glass_at(const struct glass *glass, uint32_t i)
{
	return i < glass->count ? &glass->keys[i] : NULL;
}

const struct glass_key *glass_find(const struct glass *glass, struct apikeyd_text key_id)
{
	for (uint32_t i = 0; i < glass->count; i++) {
		if (key_id.len == GLASS_ID_LEN && memcmp(glass->keys[i].key_id, key_id.data, GLASS_ID_LEN) == 0)
			return &glass->keys[i];
	}
	return NULL;
}

const struct glass_key *glass_too_far(const struct glass *glass, int64_t now_us)
{
	const int64_t most = (int64_t)GLASS_HOURS_MAX * 3600 * 1000000;

	for (uint32_t i = 0; i < glass->count; i++) {
		if (glass->keys[i].end_us - most > now_us)
			return &glass->keys[i];
	}
	return NULL;
}
