/*
 * Anchors in a log: whatever it holds, what is found has the form of one, is the same in whatever pieces the log comes, and
 * stands in order; and each meets its own head and no other.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/apikeyctl/anchors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct anchors_reader reader;

static void must(int condition)
{
	if (!condition)
		abort();
}

static void feed(struct anchors *anchors, const uint8_t *data, size_t size, size_t piece)
{
	reader.len = 0;
	for (size_t at = 0; at < size; at += piece)
		must(anchors_feed(anchors, &reader, (const char *)data + at, piece < size - at ? piece : size - at,
				  false));
	must(anchors_feed(anchors, &reader, "", 0, true));
}

static void must_be_good(const struct anchor *anchor)
{
	must(strlen(anchor->chain) == ANCHOR_CHAIN_LEN &&
	     strspn(anchor->chain, "0123456789abcdef-") == ANCHOR_CHAIN_LEN);
	must(strlen(anchor->head) == ANCHOR_HEAD_LEN && strspn(anchor->head, "0123456789abcdef") == ANCHOR_HEAD_LEN);
	must(anchor->batch > 0 && !anchor->met && !anchor->same);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct anchors whole = {0}, pieces = {0};

	if (size < 1)
		return 0;
	feed(&whole, data + 1, size - 1, size);
	feed(&pieces, data + 1, size - 1, (size_t)data[0] + 1);
	must(whole.count == pieces.count);
	for (size_t i = 0; i < whole.count; i++) {
		must_be_good(&whole.items[i]);
		must(memcmp(&whole.items[i], &pieces.items[i], sizeof(whole.items[i])) == 0);
	}
	anchors_sort(&whole);
	must(whole.count <= pieces.count && (whole.count > 0) == (pieces.count > 0));
	for (size_t i = 0; i < whole.count; i++) {
		const struct anchor *one = &whole.items[i], *before = i > 0 ? one - 1 : NULL;
		int order = before ? strcmp(before->chain, one->chain) : -1;

		must(order < 0 ||
		     (order == 0 && (before->batch < one->batch ||
				     (before->batch == one->batch && strcmp(before->head, one->head) < 0))));
	}
	for (size_t i = 0; i < whole.count; i++) {
		anchors_meet(&whole, whole.items[i].chain, whole.items[i].batch, whole.items[i].head);
		must(whole.items[i].met && whole.items[i].same);
	}
	anchors_deinit(&whole);
	anchors_deinit(&pieces);
	return 0;
}
