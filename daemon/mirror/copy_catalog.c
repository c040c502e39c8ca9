#include "daemon/mirror/copy_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SCOPE_SLOTS = sizeof(((struct copy *)0)->scope_slots) / sizeof(uint16_t) };

static bool same(const char *name, struct rpc_text text)
{
	return strlen(name) == text.len && memcmp(name, text.data, text.len) == 0;
}

/* The slot of a name: where it stands, or the empty one where it would. */
static uint16_t *scope_slot(const struct copy *copy, struct rpc_text name)
{
	uint32_t at = (uint32_t)hash_text(&copy->seed, name.data, name.len);

	for (;; at++) {
		const uint16_t *slot = &copy->scope_slots[at % SCOPE_SLOTS];

		if (!*slot || same(copy->scope_names[*slot], name))
			return (uint16_t *)(uintptr_t)slot;
	}
}

/* The index of a name, which it gets where it has none; 0: a name that cannot be, or no room. */
static rule_scope intern(struct copy *copy, struct rpc_text name)
{
	if (!name.data || !name.len || name.len > RPC_SCOPE_MAX || memchr(name.data, 0, name.len))
		return 0;
	uint16_t *slot = scope_slot(copy, name);

	if (!*slot) {
		if (copy->scope_count == RULE_SCOPES_MAX)
			return 0;
		memcpy(copy->scope_names[copy->scope_count], name.data, name.len);
		*slot = copy->scope_count++;
	}
	return *slot;
}

static rule_scope known_scope(const struct copy *copy, const struct rule_catalog *catalog, struct rpc_text name)
{
	if (!name.data || !name.len || name.len > RPC_SCOPE_MAX)
		return 0;
	rule_scope scope = *scope_slot(copy, name);

	return scope < catalog->scope_count && catalog->scopes[scope].known ? scope : 0;
}

static const struct rule_catalog *catalog_staged(const struct copy *copy)
{
	return copy->next_catalog ? copy->next_catalog : copy->catalog;
}

rule_scope catalog_scope(const struct copy *copy, struct rpc_text name)
{
	return known_scope(copy, catalog_staged(copy), name);
}

rule_scope copy_find_scope(const struct copy *copy, struct rpc_text name)
{
	return copy->loading ? 0 : known_scope(copy, catalog_seen(copy), name);
}

const struct rule_catalog *copy_catalog(const struct copy *copy)
{
	return catalog_seen(copy);
}

static rule_role interned_role(const struct copy *copy, enum rule_role_place place, struct rpc_text name)
{
	for (unsigned i = 1; name.data && i < copy->role_count; i++)
		if (copy->role_names[i].place == place && same(copy->role_names[i].name, name))
			return (rule_role)i;
	return 0;
}

static rule_role known_role(const struct copy *copy, const struct rule_catalog *catalog, enum rule_role_place place,
			    struct rpc_text name)
{
	rule_role role = interned_role(copy, place, name);

	return role < catalog->role_count && catalog->roles[role].place ? role : 0;
}

rule_role catalog_role(const struct copy *copy, enum rule_role_place place, struct rpc_text name)
{
	return known_role(copy, catalog_staged(copy), place, name);
}

static int put_scopes(struct copy *copy, struct rule_catalog *next, const struct copy_scope_row *scopes, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		rule_scope scope = intern(copy, scopes[i].name);

		if (!scope)
			return copy->scope_count == RULE_SCOPES_MAX ? -E2BIG : -EINVAL;
		struct rule_scope_row *row = &next->scopes[scope];

		memcpy(row->name, copy->scope_names[scope], sizeof(row->name));
		row->known = true;
		row->levels = scopes[i].levels;
		size_t len = strlen(row->name);

		row->reads = len > 5 && strcmp(row->name + len - 5, ":read") == 0;
	}
	next->scope_count = copy->scope_count;
	for (rule_scope i = 1; i < next->scope_count; i++) {
		char write[RPC_SCOPE_MAX + 2];
		size_t stem = strlen(next->scopes[i].name);

		if (!next->scopes[i].reads)
			continue;
		stem -= 4;
		memcpy(write, next->scopes[i].name, stem);
		memcpy(write + stem, "write", sizeof("write"));
		next->scopes[i].write_of = known_scope(copy, next, (struct rpc_text){write, (uint32_t)stem + 5});
	}
	return 0;
}

static int put_roles(struct copy *copy, struct rule_catalog *next, const struct copy_role_row *roles, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		rule_role role = interned_role(copy, roles[i].place, roles[i].name);

		if (!role) {
			if (!roles[i].name.data || !roles[i].name.len ||
			    roles[i].name.len >= sizeof(copy->role_names[0].name) ||
			    memchr(roles[i].name.data, 0, roles[i].name.len) ||
			    roles[i].place < RULE_ROLE_ORGANIZATION || roles[i].place > RULE_ROLE_KEY)
				return -EINVAL;
			if (copy->role_count == RULE_ROLES_MAX)
				return -E2BIG;
			role = copy->role_count++;
			copy->role_names[role].place = (uint8_t)roles[i].place;
			memcpy(copy->role_names[role].name, roles[i].name.data, roles[i].name.len);
		}
		next->roles[role].place = (uint8_t)roles[i].place;
		next->roles[role].rank = roles[i].rank;
		memcpy(next->roles[role].name, copy->role_names[role].name, sizeof(next->roles[role].name));
	}
	next->role_count = copy->role_count;
	return 0;
}

int copy_put_catalog(struct copy *copy, const struct copy_scope_row *scopes, uint32_t scope_count,
		     const struct copy_role_row *roles, uint32_t role_count, const struct copy_grant_row *grants,
		     uint32_t grant_count)
{
	while (copy_tidy(copy, UINT32_MAX))
		;
	struct rule_catalog *next = calloc(1, sizeof(*next));

	if (!next)
		return -ENOMEM;
	int err = put_scopes(copy, next, scopes, scope_count);

	if (!err)
		err = put_roles(copy, next, roles, role_count);
	for (uint32_t i = 0; !err && i < grant_count; i++) {
		rule_role role = known_role(copy, next, grants[i].place, grants[i].role);
		rule_scope scope = known_scope(copy, next, grants[i].scope);

		if (!role || !scope) {
			copy->next.dropped++;
			continue;
		}
		next->roles[role].holds[scope / 64] |= 1ULL << scope % 64;
		if (grants[i].when_named)
			next->roles[role].when_named[scope / 64] |= 1ULL << scope % 64;
	}
	if (err) {
		free(next);
		return err;
	}
	free(copy->next_catalog);
	copy->next_catalog = next;
	if (copy->loading)
		catalog_fold(copy);
	return 0;
}

void catalog_fold(struct copy *copy)
{
	if (!copy->next_catalog)
		return;
	free(copy->catalog);
	copy->catalog = copy->next_catalog;
	copy->next_catalog = NULL;
}

void catalog_discard(struct copy *copy)
{
	free(copy->next_catalog);
	copy->next_catalog = NULL;
	if (copy->scope_count == copy->catalog->scope_count && copy->role_count == copy->catalog->role_count)
		return;
	/* The names that it brought go too, or the tables would fill up with what never was. */
	for (unsigned i = copy->catalog->scope_count; i < copy->scope_count; i++)
		memset(copy->scope_names[i], 0, sizeof(copy->scope_names[i]));
	for (unsigned i = copy->catalog->role_count; i < copy->role_count; i++)
		copy->role_names[i] = (struct role_name){0};
	copy->scope_count = copy->catalog->scope_count;
	copy->role_count = copy->catalog->role_count;
	memset(copy->scope_slots, 0, sizeof(copy->scope_slots));
	for (uint16_t i = 1; i < copy->scope_count; i++) {
		const char *name = copy->scope_names[i];

		*scope_slot(copy, (struct rpc_text){name, (uint32_t)strlen(name)}) = i;
	}
}
