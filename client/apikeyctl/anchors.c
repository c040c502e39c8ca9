#include "client/apikeyctl/anchors.h"

#include <stdlib.h>
#include <string.h>

enum {
	BEGINS_LEN = sizeof(ANCHOR_BEGINS) - 1,
	DIGITS_MAX = 19, /* of a batch */
	REST_MAX = ANCHOR_CHAIN_LEN + sizeof(" batch=") - 1 + DIGITS_MAX + sizeof(" head=") - 1 + ANCHOR_HEAD_LEN,
};

/* ---- one ---- */

struct text {
	const char *at, *end;
};

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool take_word(struct text *text, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(text->end - text->at) < len || memcmp(text->at, word, len) != 0)
		return false;
	text->at += len;
	return true;
}

static bool take_chain(struct text *text, char *ret)
{
	if (text->end - text->at < ANCHOR_CHAIN_LEN)
		return false;
	for (unsigned i = 0; i < ANCHOR_CHAIN_LEN; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text->at[i] != '-' : !is_hex(text->at[i]))
			return false;
	}
	memcpy(ret, text->at, ANCHOR_CHAIN_LEN);
	text->at += ANCHOR_CHAIN_LEN;
	return true;
}

static bool take_batch(struct text *text, int64_t *ret)
{
	int64_t number = 0;
	unsigned digits = 0;

	for (; text->at < text->end && *text->at >= '0' && *text->at <= '9'; text->at++, digits++) {
		int digit = *text->at - '0';

		if (number > (INT64_MAX - digit) / 10 || (digits == 0 && digit == 0))
			return false;
		number = number * 10 + digit;
	}
	*ret = number;
	return digits > 0;
}

static bool take_head(struct text *text, char *ret)
{
	if (text->end - text->at < ANCHOR_HEAD_LEN)
		return false;
	for (unsigned i = 0; i < ANCHOR_HEAD_LEN; i++)
		if (!is_hex(text->at[i]))
			return false;
	memcpy(ret, text->at, ANCHOR_HEAD_LEN);
	text->at += ANCHOR_HEAD_LEN;
	return text->at == text->end || !is_hex(*text->at);
}

/* What stands behind the beginning of one. False for what only looks like it. */
static bool parse(struct text text, struct anchor *ret)
{
	struct anchor anchor = {0};

	if (!take_chain(&text, anchor.chain) || !take_word(&text, " batch=") || !take_batch(&text, &anchor.batch) ||
	    !take_word(&text, " head=") || !take_head(&text, anchor.head))
		return false;
	*ret = anchor;
	return true;
}

/* The next one from *at on. False: there is none, and from *at on more text may make one. */
static bool next(const char *text, size_t len, bool last, size_t *at, struct anchor *ret)
{
	while (*at < len) {
		const char *found = memmem(text + *at, len - *at, ANCHOR_BEGINS, BEGINS_LEN);
		size_t begins = found ? (size_t)(found - text) : len;

		if (!found && len - *at >= BEGINS_LEN)
			*at = len - BEGINS_LEN + 1;
		if (!found || (!last && len - begins <= BEGINS_LEN + REST_MAX)) {
			*at = found ? begins : *at;
			return false;
		}
		*at = begins + BEGINS_LEN;
		if (parse((struct text){found + BEGINS_LEN, text + len}, ret))
			return true;
	}
	return false;
}

/* ---- all ---- */

static bool add(struct anchors *anchors, const struct anchor *anchor)
{
	if (anchors->count == anchors->room) {
		size_t room = anchors->room ? anchors->room * 2 : 64;
		struct anchor *items = reallocarray(anchors->items, room, sizeof(*items));

		if (!items)
			return false;
		anchors->items = items;
		anchors->room = room;
	}
	anchors->items[anchors->count++] = *anchor;
	return true;
}

bool anchors_feed(struct anchors *anchors, struct anchors_reader *reader, const char *data, size_t len, bool last)
{
	struct anchor anchor;

	do {
		size_t n = sizeof(reader->text) - reader->len, at = 0;

		n = n < len ? n : len;
		if (n > 0)
			memcpy(reader->text + reader->len, data, n);
		reader->len += n;
		data += n;
		len -= n;
		while (next(reader->text, reader->len, last && len == 0, &at, &anchor))
			if (!add(anchors, &anchor))
				return false;
		reader->len -= at;
		memmove(reader->text, reader->text + at, reader->len);
	} while (len > 0);
	return true;
}

static int compare_place(const struct anchor *left, const struct anchor *right)
{
	int order = strcmp(left->chain, right->chain);

	return order ? order : (left->batch > right->batch) - (left->batch < right->batch);
}

static int compare(const void *a, const void *b)
{
	const struct anchor *left = a, *right = b;
	int order = compare_place(left, right);

	return order ? order : strcmp(left->head, right->head);
}

void anchors_sort(struct anchors *anchors)
{
	size_t count = 0;

	if (anchors->count == 0)
		return;
	qsort(anchors->items, anchors->count, sizeof(anchors->items[0]), compare);
	/* A daemon that started anew writes the same one again. */
	for (size_t i = 0; i < anchors->count; i++)
		if (i == 0 || compare(&anchors->items[count - 1], &anchors->items[i]) != 0)
			anchors->items[count++] = anchors->items[i];
	anchors->count = count;
}

void anchors_meet(struct anchors *anchors, const char *chain, int64_t batch, const char *head)
{
	struct anchor wanted = {.batch = batch};
	size_t low = 0, high = anchors->count;

	if (strlen(chain) != ANCHOR_CHAIN_LEN)
		return;
	memcpy(wanted.chain, chain, ANCHOR_CHAIN_LEN);
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_place(&anchors->items[middle], &wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	/* Somebody may have written another of the same batch: one of them is not the database's. */
	for (; low < anchors->count && compare_place(&anchors->items[low], &wanted) == 0; low++) {
		anchors->items[low].met = true;
		anchors->items[low].same = strcmp(anchors->items[low].head, head) == 0;
	}
}

void anchors_deinit(struct anchors *anchors)
{
	free(anchors->items);
	*anchors = (struct anchors){0};
}
