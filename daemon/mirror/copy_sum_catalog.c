#include "daemon/mirror/copy_sum_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *place_word(uint8_t place)
{
	switch (place) {
	case RULE_ROLE_ORGANIZATION:
		return "organization";
	case RULE_ROLE_PAGE:
		return "page";
	default:
		return "key";
	}
}

static int compare_scope_rows(const void *a, const void *b, void *data)
{
	const struct rule_catalog *catalog = data;

	return strcmp(catalog->scopes[*(const rule_scope *)a].name, catalog->scopes[*(const rule_scope *)b].name);
}

static int compare_role_rows(const void *a, const void *b, void *data)
{
	const struct rule_catalog *catalog = data;
	const struct rule_role_row *x = &catalog->roles[*(const rule_role *)a];
	const struct rule_role_row *y = &catalog->roles[*(const rule_role *)b];
	int order = strcmp(place_word(x->place), place_word(y->place));

	return order ? order : strcmp(x->name, y->name);
}

struct sorted {
	rule_scope scopes[RULE_SCOPES_MAX];
	rule_role roles[RULE_ROLES_MAX];
	uint32_t scope_count, role_count, grant_count;
};

static void sort_catalog(const struct rule_catalog *catalog, struct sorted *ret)
{
	ret->scope_count = ret->role_count = ret->grant_count = 0;
	for (rule_scope i = 1; i < catalog->scope_count; i++)
		if (catalog->scopes[i].known)
			ret->scopes[ret->scope_count++] = i;
	for (rule_role i = 1; i < catalog->role_count; i++) {
		if (!catalog->roles[i].place)
			continue;
		ret->roles[ret->role_count++] = i;
		for (unsigned word = 0; word < RULE_SCOPES_MAX / 64; word++)
			ret->grant_count += (uint32_t)__builtin_popcountll(catalog->roles[i].holds[word]);
	}
	qsort_r(ret->scopes, ret->scope_count, sizeof(ret->scopes[0]), compare_scope_rows, (void *)(uintptr_t)catalog);
	qsort_r(ret->roles, ret->role_count, sizeof(ret->roles[0]), compare_role_rows, (void *)(uintptr_t)catalog);
}

static void put_grants(struct copy_sums *sums, const struct rule_catalog *catalog, const struct sorted *sorted)
{
	size_t array = row_array_begin(sums, ROW_TEXTS, ROW_TEXT, sorted->grant_count);

	for (uint32_t i = 0; i < sorted->role_count; i++) {
		const struct rule_role_row *role = &catalog->roles[sorted->roles[i]];

		for (uint32_t k = 0; k < sorted->scope_count; k++) {
			rule_scope scope = sorted->scopes[k];
			bool named = role->when_named[scope / 64] >> scope % 64 & 1;
			char text[160];

			if (!(role->holds[scope / 64] >> scope % 64 & 1))
				continue;
			int len = snprintf(text, sizeof(text), "%s %s %s%s", place_word(role->place), role->name,
					   catalog->scopes[scope].name, named ? " when_named" : "");
			row_put_item(sums, text, (size_t)len);
		}
	}
	row_array_end(sums, array);
}

int sum_catalog(struct copy_sums *sums, const struct copy *copy, uint8_t ret[COPY_SUM_LEN])
{
	const struct rule_catalog *catalog = copy_catalog(copy);
	struct sorted *sorted = row_sort_room(sums, 1, sizeof(*sorted));
	char text[160];
	size_t array;

	if (!sorted)
		return -ENOMEM;
	sort_catalog(catalog, sorted);
	row_begin(sums, 3);
	array = row_array_begin(sums, ROW_TEXTS, ROW_TEXT, sorted->scope_count);
	for (uint32_t i = 0; i < sorted->scope_count; i++) {
		const struct rule_scope_row *scope = &catalog->scopes[sorted->scopes[i]];
		int len = snprintf(text, sizeof(text), "%s %d%d", scope->name, !!(scope->levels & RULE_LEVEL_PAGE),
				   !!(scope->levels & RULE_LEVEL_ORGANIZATION));

		row_put_item(sums, text, (size_t)len);
	}
	row_array_end(sums, array);
	array = row_array_begin(sums, ROW_TEXTS, ROW_TEXT, sorted->role_count);
	for (uint32_t i = 0; i < sorted->role_count; i++) {
		const struct rule_role_row *role = &catalog->roles[sorted->roles[i]];
		int len = snprintf(text, sizeof(text), "%s %s %u", place_word(role->place), role->name, role->rank);

		row_put_item(sums, text, (size_t)len);
	}
	row_array_end(sums, array);
	put_grants(sums, catalog, sorted);
	return row_end(sums, ret);
}
