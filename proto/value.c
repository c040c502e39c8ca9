#include "proto/value.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

struct arena_block {
	struct arena_block *next;
	size_t used, size; /* of `bytes` */
	alignas(max_align_t) uint8_t bytes[];
};

enum {
	BLOCK_MIN = 4096 - sizeof(struct arena_block) - 16, /* with malloc's own head, a page */
	BLOCK_MAX = 256 * 1024,
	ITEMS_MIN = 4,
};

void *arena_alloc(struct arena *arena, size_t size)
{
	struct arena_block *block = arena->blocks;
	size_t aligned;
	void *p;

	if (size > PTRDIFF_MAX / 2) /* nor is there any for its block, then */
		return NULL;
	aligned = size + alignof(max_align_t) - 1;
	aligned &= ~(alignof(max_align_t) - 1);
	if (!block || block->size - block->used < aligned) {
		size_t want = BLOCK_MIN, whole;

		if (block)
			want = block->size >= BLOCK_MAX / 2 ? BLOCK_MAX : block->size * 2;
		if (want < aligned)
			want = aligned;
		whole = want + sizeof(*block);
		block = calloc(1, whole);
		if (!block)
			return NULL;
		block->size = want;
		block->next = arena->blocks;
		arena->blocks = block;
	}
	p = block->bytes + block->used;
	block->used += aligned;
	return p;
}

char *arena_text(struct arena *arena, const char *text, size_t len)
{
	char *copy = len < SIZE_MAX ? arena_alloc(arena, len + 1) : NULL;

	if (copy && len > 0)
		memcpy(copy, text, len);
	return copy;
}

void arena_clear(struct arena *arena)
{
	struct arena_block *block = arena->blocks;

	while (block) {
		struct arena_block *next = block->next;

		explicit_bzero(block->bytes, block->used);
		free(block);
		block = next;
	}
	arena->blocks = NULL;
}

void value_list(struct value *v)
{
	*v = (struct value){.type = VALUE_LIST};
}

void value_map(struct value *v)
{
	*v = (struct value){.type = VALUE_MAP};
}

size_t value_capacity(uint32_t count)
{
	size_t capacity = ITEMS_MIN;

	while (capacity < count)
		capacity *= 2;
	return capacity;
}

/*
 * Makes room for one more. What is allocated follows from the count alone (value_capacity): it is
 * doubled each time the count reaches a power of two.
 */
static void *grow(struct arena *arena, void *items, uint32_t count, size_t item_size)
{
	bool full = count == 0 || (count >= ITEMS_MIN && (count & (count - 1)) == 0);
	size_t capacity;
	void *grown;

	if (!full)
		return items;
	if (count > UINT32_MAX / 2)
		return NULL;
	capacity = count == 0 ? ITEMS_MIN : (size_t)count * 2;
	grown = arena_alloc(arena, capacity * item_size);
	if (grown && count > 0)
		memcpy(grown, items, count * item_size);
	return grown;
}

struct value *value_add(struct arena *arena, struct value *list)
{
	struct value *items = grow(arena, list->items, list->count, sizeof(*items));

	if (!items)
		return NULL;
	list->items = items;
	return &items[list->count++];
}

struct value *value_set(struct arena *arena, struct value *map, const char *name)
{
	struct value_field *fields;
	const char *copy = arena_text(arena, name, strlen(name));

	if (!copy)
		return NULL;
	fields = grow(arena, map->fields, map->count, sizeof(*fields));
	if (!fields)
		return NULL;
	map->fields = fields;
	fields[map->count].name = copy;
	return &fields[map->count++].value;
}

void value_bool(struct value *v, bool truth)
{
	*v = (struct value){.type = VALUE_BOOL, .truth = truth};
}

void value_int(struct value *v, int64_t integer)
{
	*v = (struct value){.type = VALUE_INT, .integer = integer};
}

void value_uint(struct value *v, uint64_t integer)
{
	if (integer <= INT64_MAX)
		value_int(v, (int64_t)integer);
	else
		*v = (struct value){.type = VALUE_UINT, .unsigned_integer = integer};
}

void value_borrow(struct value *v, const char *text, size_t len)
{
	*v = (struct value){.type = VALUE_TEXT, .count = (uint32_t)len, .text = text};
}

bool value_text(struct arena *arena, struct value *v, const char *text, size_t len)
{
	const char *copy = len <= UINT32_MAX ? arena_text(arena, text, len) : NULL;

	if (!copy)
		return false;
	value_borrow(v, copy, len);
	return true;
}

bool value_set_text(struct arena *arena, struct value *map, const char *name, const char *text)
{
	struct value *v = value_set(arena, map, name);

	return v && (!text || value_text(arena, v, text, strlen(text)));
}

bool value_set_int(struct arena *arena, struct value *map, const char *name, int64_t integer)
{
	struct value *v = value_set(arena, map, name);

	if (v)
		value_int(v, integer);
	return v != NULL;
}

bool value_set_uint(struct arena *arena, struct value *map, const char *name, uint64_t integer)
{
	struct value *v = value_set(arena, map, name);

	if (v)
		value_uint(v, integer);
	return v != NULL;
}

bool value_set_bool(struct arena *arena, struct value *map, const char *name, bool truth)
{
	struct value *v = value_set(arena, map, name);

	if (v)
		value_bool(v, truth);
	return v != NULL;
}

const struct value *value_get(const struct value *map, const char *name)
{
	if (!map || map->type != VALUE_MAP)
		return NULL;
	for (uint32_t i = 0; i < map->count; i++) {
		if (strcmp(map->fields[i].name, name) == 0)
			return &map->fields[i].value;
	}
	return NULL;
}

const char *value_as_text(const struct value *v, const char *fallback)
{
	return v && v->type == VALUE_TEXT ? v->text : fallback;
}

int64_t value_as_int(const struct value *v, int64_t fallback)
{
	if (v && v->type == VALUE_INT)
		return v->integer;
	if (v && v->type == VALUE_UINT && v->unsigned_integer <= INT64_MAX)
		return (int64_t)v->unsigned_integer;
	return fallback;
}

uint64_t value_as_uint(const struct value *v, uint64_t fallback)
{
	if (v && v->type == VALUE_INT && v->integer >= 0)
		return (uint64_t)v->integer;
	if (v && v->type == VALUE_UINT)
		return v->unsigned_integer;
	return fallback;
}

bool value_as_bool(const struct value *v, bool fallback)
{
	return v && v->type == VALUE_BOOL ? v->truth : fallback;
}
