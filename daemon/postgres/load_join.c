#include "daemon/postgres/load_join.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int load_words_add(struct load_words *words, struct rpc_text text)
{
	uint32_t hash = 2166136261U, slot;
	char *kept;

	for (uint32_t i = 0; i < text.len; i++)
		hash = (hash ^ (uint8_t)text.data[i]) * 16777619U;
	for (slot = hash % LOAD_WORD_SLOTS; words->slots[slot]; slot = (slot + 1) % LOAD_WORD_SLOTS) {
		uint32_t number = words->slots[slot] - 1U;

		if (words->lens[number] == text.len && memcmp(words->texts[number], text.data, text.len) == 0)
			return (int)number;
	}
	if (words->count == LOAD_WORDS_MAX)
		return -E2BIG;
	kept = malloc(text.len + 1);
	if (!kept)
		return -ENOMEM;
	memcpy(kept, text.data, text.len);
	kept[text.len] = '\0';
	words->texts[words->count] = kept;
	words->lens[words->count] = text.len;
	words->slots[slot] = (uint16_t)++words->count;
	return (int)words->count - 1;
}

struct rpc_text load_words_text(const struct load_words *words, uint32_t number)
{
	return (struct rpc_text){.data = words->texts[number], .len = words->lens[number]};
}

void load_words_deinit(struct load_words *words)
{
	for (uint32_t i = 0; i < words->count; i++)
		free(words->texts[i]);
	memset(words, 0, sizeof(*words));
}

int load_list_add(struct load_list *list, struct load_item item)
{
	if (list->count == list->cap) {
		size_t cap = list->cap ? list->cap + list->cap / 2 : 1024;
		struct load_item *items = reallocarray(list->items, cap, sizeof(*items));

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->cap = cap;
	}
	list->items[list->count++] = item;
	return 0;
}

/* By radix, 16 bits a pass, leaving out passes in which all are equal: ids of a table need two of the four. */
int load_list_sort(struct load_list *list)
{
	struct load_item *from = list->items, *to;
	uint64_t differ = 0, sorted = 1;
	uint32_t *starts;

	for (size_t i = 1; i < list->count; i++) {
		differ |= from[i].owner ^ from[0].owner;
		sorted &= from[i - 1].owner <= from[i].owner;
	}
	list->cursor = 0;
	if (sorted || list->count > UINT32_MAX)
		return sorted ? 0 : -ENOMEM;
	to = malloc(list->count * sizeof(*to));
	starts = malloc(sizeof(*starts) << 16);
	if (!to || !starts) {
		free(to);
		free(starts);
		return -ENOMEM;
	}
	for (unsigned shift = 0; shift < 64; shift += 16) {
		struct load_item *done = from;
		uint32_t sum = 0;

		if (!(differ >> shift & 0xffff))
			continue;
		memset(starts, 0, sizeof(*starts) << 16);
		for (size_t i = 0; i < list->count; i++)
			starts[from[i].owner >> shift & 0xffff]++;
		for (unsigned i = 0; i < 1 << 16; i++) {
			uint32_t n = starts[i];

			starts[i] = sum;
			sum += n;
		}
		for (size_t i = 0; i < list->count; i++)
			to[starts[from[i].owner >> shift & 0xffff]++] = from[i];
		from = to;
		to = done;
	}
	free(to);
	free(starts);
	list->items = from;
	list->cap = list->count;
	return 0;
}

const struct load_item *load_list_find(struct load_list *list, uint64_t owner, uint32_t *ret_count)
{
	size_t low = 0, high = list->count, end;

	if (list->cursor < list->count && list->items[list->cursor].owner == owner &&
	    (list->cursor == 0 || list->items[list->cursor - 1].owner != owner)) {
		low = list->cursor;
	} else if (list->cursor > 0 && list->cursor < list->count && list->items[list->cursor - 1].owner < owner &&
		   list->items[list->cursor].owner > owner) {
		low = list->cursor; /* falls between two: has none */
	} else {
		while (low < high) {
			size_t middle = low + (high - low) / 2;

			if (list->items[middle].owner < owner)
				low = middle + 1;
			else
				high = middle;
		}
	}
	end = low;
	while (end < list->count && list->items[end].owner == owner)
		end++;
	list->cursor = end;
	*ret_count = (uint32_t)(end - low);
	return list->items ? list->items + low : NULL;
}

void load_list_deinit(struct load_list *list)
{
	free(list->items);
	*list = (struct load_list){0};
}
