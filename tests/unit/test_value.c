#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proto/value.h"

/*
 * The linker puts these between proto/ and the C library. An allocation fails when the countdown reaches it; what
 * is freed is looked at first.
 */
static int fail_after = -1; /* -1: never */
static const char *secret;  /* must not stand in memory that is given back */
static unsigned secrets_freed;
static struct {
	void *block;
	size_t size;
} blocks[4096];

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void __real_free(void *block);
void __wrap_free(void *block);

void *__wrap_calloc(size_t count, size_t size)
{
	void *block;

	if (fail_after == 0 || size > 1 << 30)
		return NULL;
	if (fail_after > 0)
		fail_after--;
	block = __real_calloc(count, size);
	for (size_t i = 0; block && i < sizeof(blocks) / sizeof(blocks[0]); i++) {
		if (!blocks[i].block) {
			blocks[i].block = block;
			blocks[i].size = count * size;
			break;
		}
	}
	return block;
}

void __wrap_free(void *block)
{
	for (size_t i = 0; block && i < sizeof(blocks) / sizeof(blocks[0]); i++) {
		if (blocks[i].block != block)
			continue;
		if (secret && memmem(block, blocks[i].size, secret, strlen(secret)))
			secrets_freed++;
		blocks[i].block = NULL;
	}
	__real_free(block);
}

static void memory_is_zero_and_aligned(void **state)
{
	struct arena arena = {0};

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		for (size_t size = 0; size < 20000; size = size * 2 + 1) {
			uint8_t *p = arena_alloc(&arena, size);

			assert_non_null(p);
			assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
			for (size_t i = 0; i < size; i++)
				assert_int_equal(p[i], 0);
			memset(p, 0xa5, size);
		}
		arena_clear(&arena);
		assert_null(arena.blocks);
	}
}

static void memory_that_cannot_be(void **state)
{
	struct arena arena = {0};

	(void)state;
	assert_null(arena_alloc(&arena, SIZE_MAX));
	assert_null(arena_alloc(&arena, SIZE_MAX - 15));
	assert_null(arena_alloc(&arena, SIZE_MAX - 64));
	assert_null(arena_text(&arena, "x", SIZE_MAX));
	assert_non_null(arena_alloc(&arena, 1));
	arena_clear(&arena);
}

static void what_was_in_it_is_wiped(void **state)
{
	struct arena arena = {0};

	(void)state;
	secret = "aku_not-a-key-but-looks-like-one";
	secrets_freed = 0;
	for (unsigned i = 0; i < 2000; i++)
		assert_string_equal(arena_text(&arena, secret, strlen(secret)), secret);
	arena_clear(&arena);
	assert_int_equal(secrets_freed, 0);
	/* the look itself works */
	{
		char *block = calloc(1, 64);

		assert_non_null(block);
		strcpy(block, secret);
		free(block);
		assert_int_equal(secrets_freed, 1);
	}
	secret = NULL;
}

static void lists_and_maps_grow(void **state)
{
	struct arena arena = {0};
	struct value list, map;
	char name[16];

	(void)state;
	value_list(&list);
	value_map(&map);
	for (int i = 0; i < 1000; i++) {
		struct value *item = value_add(&arena, &list);

		assert_non_null(item);
		assert_int_equal(item->type, VALUE_NIL);
		value_int(item, i);
		snprintf(name, sizeof(name), "f%d", i);
		assert_true(value_set_int(&arena, &map, name, i));
		assert_true(value_capacity(list.count) >= list.count);
	}
	assert_int_equal(list.count, 1000);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		assert_int_equal(value_as_int(&list.items[i], -1), i);
		assert_int_equal(value_as_int(value_get(&map, name), -1), i);
	}
	arena_clear(&arena);
}

static void fields_of_each_type(void **state)
{
	struct arena arena = {0};
	struct value map, text;

	(void)state;
	value_map(&map);
	assert_true(value_set_text(&arena, &map, "text", "words"));
	assert_true(value_set_text(&arena, &map, "nil", NULL));
	assert_true(value_set_int(&arena, &map, "int", INT64_MIN));
	assert_true(value_set_uint(&arena, &map, "small", INT64_MAX));
	assert_true(value_set_uint(&arena, &map, "large", UINT64_MAX));
	assert_true(value_set_bool(&arena, &map, "bool", true));
	assert_int_equal(map.count, 6);
	assert_string_equal(value_as_text(value_get(&map, "text"), "-"), "words");
	assert_int_equal(value_get(&map, "nil")->type, VALUE_NIL);
	assert_true(value_as_int(value_get(&map, "int"), 0) == INT64_MIN);
	assert_int_equal(value_get(&map, "small")->type, VALUE_INT);
	assert_true(value_as_uint(value_get(&map, "small"), 0) == INT64_MAX);
	assert_int_equal(value_get(&map, "large")->type, VALUE_UINT);
	assert_true(value_as_uint(value_get(&map, "large"), 0) == UINT64_MAX);
	assert_true(value_as_bool(value_get(&map, "bool"), false));
	/* copied text lives by itself, terminated, NULs and all */
	{
		char source[] = {'a', '\0', 'b', 'X'};

		assert_true(value_text(&arena, &text, source, 3));
		memset(source, 0, sizeof(source));
	}
	assert_int_equal(text.count, 3);
	assert_memory_equal(text.text, "a\0b", 4);
	arena_clear(&arena);
}

static void fallbacks(void **state)
{
	struct arena arena = {0};
	struct value map, v;

	(void)state;
	value_map(&map);
	assert_true(value_set_int(&arena, &map, "negative", -1));
	assert_true(value_set_uint(&arena, &map, "large", (uint64_t)INT64_MAX + 1));
	assert_true(value_set_text(&arena, &map, "text", "5"));
	assert_null(value_get(NULL, "x"));
	assert_null(value_get(&map, "x"));
	value_int(&v, 1);
	assert_null(value_get(&v, "x"));
	assert_int_equal(value_as_uint(value_get(&map, "negative"), 7), 7);
	assert_int_equal(value_as_int(value_get(&map, "large"), 7), 7);
	assert_int_equal(value_as_int(value_get(&map, "text"), 7), 7);
	assert_int_equal(value_as_uint(NULL, 7), 7);
	assert_string_equal(value_as_text(value_get(&map, "negative"), "-"), "-");
	assert_null(value_as_text(NULL, NULL));
	assert_true(value_as_bool(value_get(&map, "negative"), true));
	assert_false(value_as_bool(NULL, false));
	arena_clear(&arena);
}

/* However late memory runs out: a builder says so, and what was built before it stays whole. */
static void each_allocation_may_fail(void **state)
{
	bool done = false;

	(void)state;
	for (int n = 0; !done; n++) {
		struct arena arena = {0};
		struct value map;
		unsigned built = 0;

		assert_true(n < 1000);
		value_map(&map);
		fail_after = n;
		while (built < 3000) {
			char name[16];
			struct value *list;

			snprintf(name, sizeof(name), "%u", built);
			list = value_set(&arena, &map, name);
			if (!list)
				break;
			value_list(list);
			if (!value_add(&arena, list))
				break;
			built++;
		}
		fail_after = -1;
		done = built == 3000;
		for (unsigned i = 0; i < built; i++) {
			assert_int_equal(atoi(map.fields[i].name), i);
			assert_int_equal(map.fields[i].value.count, 1);
		}
		assert_true(map.count == built || map.count == built + 1);
		arena_clear(&arena);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_is_zero_and_aligned), cmocka_unit_test(memory_that_cannot_be),
		cmocka_unit_test(what_was_in_it_is_wiped),    cmocka_unit_test(lists_and_maps_grow),
		cmocka_unit_test(fields_of_each_type),	      cmocka_unit_test(fallbacks),
		cmocka_unit_test(each_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
