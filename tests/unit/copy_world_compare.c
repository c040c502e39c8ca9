/* Everything that a copy answers, beside what the model says. */
#include "tests/unit/copy_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static bool text_is(struct rpc_text text, const char *wanted)
{
	return text.len == strlen(wanted) && memcmp(text.data, wanted, text.len) == 0;
}

/* A thing stands under this handle: as before, if it was there before, and under nobody's else. */
static void see(struct world_seen *seen, enum world_kind kind, unsigned i, rule_handle handle)
{
	assert_int_not_equal(handle, 0);
	if (!seen || seen->handles[kind][i] == handle)
		return;
	if (seen->handles[kind][i])
		fail_msg("kind %u, thing %u: handle %u was %u", kind, i, handle, seen->handles[kind][i]);
	for (uint32_t j = 0; j < seen->once_count; j++) {
		if (seen->once[j].kind == kind && seen->once[j].handle == handle)
			fail_msg("kind %u, thing %u: handle %u was %lld's", kind, i, handle,
				 (long long)seen->once[j].id);
	}
	seen->handles[kind][i] = handle;
	if (seen->once_count == seen->once_room) {
		seen->once_room = seen->once_room ? seen->once_room * 2 : 64;
		seen->once = realloc(seen->once, seen->once_room * sizeof(*seen->once));
		assert_non_null(seen->once);
	}
	seen->once[seen->once_count++] = (struct world_once){kind, world_id(kind, i), handle};
}

/* ---- catalog ---- */

static bool bit(const uint64_t *bits, rule_scope scope)
{
	return bits[scope / 64] >> scope % 64 & 1;
}

static void compare_role(const struct world *world, const struct rule_catalog *catalog, const rule_scope *scopes,
			 unsigned i)
{
	unsigned found = 0;

	for (unsigned r = 1; r < catalog->role_count; r++) {
		const struct rule_role_row *role = &catalog->roles[r];

		if (role->place != world_role_names[i].place || strcmp(role->name, world_role_names[i].name) != 0)
			continue;
		found++;
		assert_int_equal(role->rank, world->roles[i].rank);
		for (unsigned j = 0; j < WORLD_SCOPES; j++) {
			unsigned grant = world->roles[i].grants[j];

			if (!scopes[j])
				continue;
			assert_int_equal(bit(role->holds, scopes[j]), grant != 0);
			assert_int_equal(bit(role->when_named, scopes[j]), grant == 2);
		}
	}
	assert_int_equal(found, world->roles[i].known);
}

static void compare_catalog(const struct copy *copy, const struct world *world)
{
	const struct rule_catalog *catalog = copy_catalog(copy);
	rule_scope scopes[WORLD_SCOPES];

	for (unsigned i = 0; i < WORLD_SCOPES; i++) {
		const struct rule_scope_row *row;

		scopes[i] = copy_find_scope(copy, world_text(world_scope_names[i]));
		assert_int_equal(scopes[i] != 0, world->scopes[i].known);
		if (!scopes[i])
			continue;
		row = &catalog->scopes[scopes[i]];
		assert_true(scopes[i] < catalog->scope_count);
		assert_true(row->known);
		assert_string_equal(row->name, world_scope_names[i]);
		assert_int_equal(row->levels, world->scopes[i].levels);
		assert_int_equal(row->reads, strcmp(strchr(row->name, ':'), ":read") == 0);
	}
	for (unsigned i = 0; i < WORLD_SCOPES; i++) {
		if (scopes[i])
			assert_int_equal(catalog->scopes[scopes[i]].write_of,
					 catalog->scopes[scopes[i]].reads ? scopes[i + 1] : 0);
	}
	for (unsigned i = 0; i < WORLD_ROLES; i++)
		compare_role(world, catalog, scopes, i);
	assert_int_equal(copy_find_scope(copy, world_text("a:rea")), 0);
	assert_int_equal(copy_find_scope(copy, world_text("")), 0);
	assert_int_equal(copy_find_scope(copy, (struct rpc_text){0}), 0);
}

/* ---- organizations and pages ---- */

static void compare_organizations(const struct copy *copy, const struct world *world, struct world_seen *seen,
				  rule_handle *handles)
{
	struct copy_organization found, again;

	memset(handles, 0, WORLD_ORGANIZATIONS * sizeof(*handles));
	for (unsigned slug = 0; slug < WORLD_SLUGS; slug++) {
		bool is_there = copy_find_organization(copy, world_text(world_slugs[slug]), &found);
		unsigned i = 0;

		while (i < WORLD_ORGANIZATIONS &&
		       (!world->organizations[i].exists || world->organizations[i].slug != slug))
			i++;
		if (is_there != (i < WORLD_ORGANIZATIONS))
			fail_msg("organization %s: %d", world_slugs[slug], is_there);
		if (!is_there)
			continue;
		assert_int_equal(found.id, world_id(WORLD_ORGANIZATION, i));
		assert_true(text_is(found.slug, world_slugs[slug]));
		assert_int_equal(found.suspended, world->organizations[i].suspended);
		see(seen, WORLD_ORGANIZATION, i, found.handle);
		assert_true(copy_organization(copy, found.handle, &again));
		assert_int_equal(again.id, found.id);
		assert_int_equal(again.handle, found.handle);
		handles[i] = found.handle;
	}
	assert_false(copy_find_organization(copy, world_text("nobody"), &found));
	assert_false(copy_find_organization(copy, (struct rpc_text){0}, &found));
	assert_false(copy_organization(copy, 0, &found));
	assert_false(copy_organization(copy, UINT32_MAX, &found));
}

static void compare_pages(const struct copy *copy, const struct world *world, struct world_seen *seen,
			  const rule_handle *organizations, rule_handle *handles)
{
	enum { ASKED = 3 * WORLD_SLUGS }; /* more than one pass */
	struct rpc_text slugs[ASKED];
	struct copy_page found[ASKED], again;

	memset(handles, 0, WORLD_PAGES * sizeof(*handles));
	for (unsigned n = 0; n < ASKED; n++)
		slugs[n] = n / WORLD_SLUGS == 1 ? (struct rpc_text){0} : world_text(world_slugs[n % WORLD_SLUGS]);
	memset(found, 0xff, sizeof(found));
	copy_find_pages(copy, slugs, ASKED, found);
	for (unsigned n = 0; n < ASKED; n++) {
		unsigned i = 0;

		while (i < WORLD_PAGES && (!world->pages[i].exists || world->pages[i].slug != n % WORLD_SLUGS))
			i++;
		if ((found[n].handle != 0) != (i < WORLD_PAGES && slugs[n].data))
			fail_msg("page %s: handle %u", world_slugs[n % WORLD_SLUGS], found[n].handle);
		if (!found[n].handle)
			continue;
		assert_int_equal(found[n].id, world_id(WORLD_PAGE, i));
		assert_int_equal(found[n].organization, organizations[world->pages[i].organization]);
		assert_int_equal(found[n].archived, world->pages[i].archived);
		assert_true(text_is(found[n].slug, world_slugs[n % WORLD_SLUGS]));
		see(seen, WORLD_PAGE, i, found[n].handle);
		assert_true(copy_page(copy, found[n].handle, &again));
		assert_int_equal(again.id, found[n].id);
		handles[i] = found[n].handle;
	}
	assert_false(copy_page(copy, 0, &again));
	assert_false(copy_page(copy, UINT32_MAX, &again));
}

/* What is gone under its handle is gone, whatever stands under its id or its slug now. */
static void compare_gone(const struct copy *copy, const struct world_seen *seen)
{
	struct copy_organization organization;
	struct copy_page page;

	for (uint32_t n = 0; seen && n < seen->once_count; n++) {
		bool lives = false;

		for (unsigned i = 0; i < WORLD_PAGES; i++)
			lives |= seen->handles[seen->once[n].kind][i] == seen->once[n].handle;
		if (lives)
			continue;
		if (seen->once[n].kind == WORLD_ORGANIZATION)
			assert_false(copy_organization(copy, seen->once[n].handle, &organization));
		if (seen->once[n].kind == WORLD_PAGE)
			assert_false(copy_page(copy, seen->once[n].handle, &page));
	}
}

struct walk {
	const struct world *world;
	const char *slugs[WORLD_PAGES];
	unsigned count, most;
	rule_handle organization;
};

static bool on_page(void *data, const struct copy_page *page)
{
	struct walk *walk = data;

	assert_true(walk->count < walk->most);
	if (!text_is(page->slug, walk->slugs[walk->count]))
		fail_msg("walk: %.*s instead of %s", (int)page->slug.len, page->slug.data, walk->slugs[walk->count]);
	assert_int_equal(page->organization, walk->organization);
	return ++walk->count < walk->most;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void compare_walks(const struct copy *copy, const struct world *world, const rule_handle *handles)
{
	for (unsigned i = 0; i < WORLD_ORGANIZATIONS; i++) {
		/* The start, a slug that may be there or not, and one that never is. */
		const char *afters[] = {NULL, world_slugs[(world->rev + i) % WORLD_SLUGS], "a-slug", "zzz", ""};

		for (unsigned n = 0; n < sizeof(afters) / sizeof(*afters); n++) {
			struct walk walk = {.organization = handles[i]};

			for (unsigned j = 0; j < WORLD_PAGES; j++) {
				const struct world_page *page = &world->pages[j];

				if (page->exists && page->organization == i &&
				    (!afters[n] || strcmp(world_slugs[page->slug], afters[n]) > 0))
					walk.slugs[walk.most++] = world_slugs[page->slug];
			}
			qsort(walk.slugs, walk.most, sizeof(*walk.slugs), by_bytes);
			/* Sometimes who walks has enough before the end. */
			if (n == 0 && walk.most > 2 && world->rev % 2)
				walk.most = 2;
			copy_walk_pages(copy, handles[i], afters[n] ? world_text(afters[n]) : (struct rpc_text){0},
					on_page, &walk);
			assert_int_equal(walk.count, walk.most);
		}
	}
}

/* ---- users and keys ---- */

static unsigned role_of(const struct copy *copy, rule_role role, enum rule_role_place place)
{
	const struct rule_catalog *catalog = copy_catalog(copy);

	if (!role)
		return 0;
	assert_true(role < catalog->role_count);
	assert_int_equal(catalog->roles[role].place, place);
	for (unsigned i = 0; i < WORLD_ROLES; i++) {
		if (world_role_names[i].place == place &&
		    strcmp(world_role_names[i].name, catalog->roles[role].name) == 0)
			return i + 1;
	}
	fail_msg("role %s", catalog->roles[role].name);
	return 0;
}

static void compare_user(const struct copy *copy, const struct world_user *user, rule_handle handle,
			 const rule_handle *organizations, const rule_handle *pages)
{
	unsigned organization_count = 0, page_count = 0;
	rule_handle only = 0, at;
	rule_role role;

	for (unsigned i = 0; i < WORLD_ORGANIZATIONS; i++) {
		if (!organizations[i])
			continue;
		role = copy_user_organization_role(copy, handle, organizations[i]);
		assert_int_equal(role_of(copy, role, RULE_ROLE_ORGANIZATION), user->organization_roles[i]);
		if (role) {
			only = organizations[i];
			organization_count++;
		}
	}
	for (unsigned i = 0; i < WORLD_PAGES; i++) {
		if (!pages[i])
			continue;
		role = copy_user_page_role(copy, handle, pages[i]);
		assert_int_equal(role_of(copy, role, RULE_ROLE_PAGE), user->page_roles[i]);
		page_count += role != 0;
	}
	assert_int_equal(copy_user_only_organization(copy, handle), organization_count == 1 ? only : 0);
	for (unsigned i = 0; i < organization_count; i++) {
		assert_true(copy_user_organization_at(copy, handle, i, &at, &role));
		assert_int_equal(role, copy_user_organization_role(copy, handle, at));
	}
	assert_false(copy_user_organization_at(copy, handle, organization_count, &at, &role));
	for (unsigned i = 0; i < page_count; i++) {
		assert_true(copy_user_page_at(copy, handle, i, &at, &role));
		assert_int_equal(role, copy_user_page_role(copy, handle, at));
	}
	assert_false(copy_user_page_at(copy, handle, page_count, &at, &role));
	assert_int_equal(copy_user_page_role(copy, handle, 0), 0);
	assert_int_equal(copy_user_organization_role(copy, handle, 0), 0);
}

static void proof_of(const struct world_key *key, uint8_t ret[COPY_PROOF_LEN])
{
	memset(ret, (int)(1 + key->hash * 16 + key->pepper), COPY_PROOF_LEN);
}

static void compare_narrowing(const struct copy *copy, const struct world_key *key, const struct rule_who *who,
			      const rule_handle *pages)
{
	uint32_t page_count = 0, scope_count = 0;

	for (unsigned i = 0; i < WORLD_PAGES; i++) {
		bool listed = false;

		for (uint32_t j = 0; j < who->page_count; j++)
			listed |= pages[i] && who->pages[j] == pages[i];
		assert_int_equal(listed, key->pages >> i & 1);
		page_count += listed;
	}
	assert_int_equal(who->page_count, page_count);
	for (uint32_t j = 1; j < who->page_count; j++)
		assert_true(who->pages[j - 1] < who->pages[j]);
	for (unsigned i = 0; i < WORLD_STEADY; i++) {
		rule_scope scope = copy_find_scope(copy, world_text(world_scope_names[i]));
		bool listed = false;

		for (uint32_t j = 0; j < who->scope_count; j++)
			listed |= who->scopes[j] == scope;
		assert_int_equal(listed, key->scopes >> i & 1);
		scope_count += listed;
	}
	assert_int_equal(who->scope_count, scope_count);
	for (uint32_t j = 1; j < who->scope_count; j++)
		assert_true(who->scopes[j - 1] < who->scopes[j]);
	assert_int_equal(who->network_count, key->network_count);
	for (uint32_t j = 0; j < who->network_count; j++)
		assert_memory_equal(&who->networks[j], &key->networks[j], sizeof(who->networks[j]));
	if (key->flags & RULE_NARROWED_RATE) {
		assert_int_equal(who->rate_count, key->rate_count);
		assert_int_equal(who->rate_period_s, key->rate_period_s);
	}
}

static void compare_key(const struct copy *copy, const struct world *world, struct world_seen *seen, unsigned i,
			const struct copy_key *found, const rule_handle *organizations, const rule_handle *pages)
{
	static const uint8_t none[COPY_PROOF_LEN];
	const struct world_key *key = &world->keys[i];
	uint8_t hash[COPY_HASH_LEN], proof[COPY_PROOF_LEN];
	keytext_id successor = 0;
	struct copy_user user;
	struct rule_who who;

	world_hash(key, hash);
	proof_of(key, proof);
	assert_memory_equal(copy_key_hash(copy, found), hash, sizeof(hash));
	assert_int_equal(copy_key_pepper(found), key->pepper);
	assert_true(copy_key_id(found) == world_key_id(i));
	if (memcmp(copy_key_proof(found), none, sizeof(none)) != 0) {
		assert_true(!seen || seen->remembered[i]);
		assert_memory_equal(copy_key_proof(found), proof, sizeof(proof));
	}
	assert_int_equal(copy_key_successor(copy, found, &successor), key->has_successor);
	assert_true(successor == (key->has_successor ? world_key_id(key->successor) : 0));
	copy_who(copy, found, &who, &user);
	assert_int_equal(who.kind, key->kind);
	assert_true(who.not_before == key->not_before);
	assert_true(who.expires_at == key->expires_at);
	assert_true(who.retired_at == key->retired_at);
	compare_narrowing(copy, key, &who, pages);
	if (key->kind == KEY_KIND_ORGANIZATION) {
		assert_int_equal(who.flags, key->flags | RULE_LIVE);
		assert_int_equal(who.organization, organizations[key->owner]);
		assert_int_equal(role_of(copy, who.access, RULE_ROLE_KEY), key->access);
		assert_int_equal(user.handle, 0);
		return;
	}
	assert_int_equal(who.flags,
			 key->flags | RULE_LIVE | (world->users[key->owner].suspended ? RULE_USER_SUSPENDED : 0));
	assert_int_equal(who.organization, 0);
	assert_int_equal(who.access, 0);
	see(seen, WORLD_USER, key->owner, user.handle);
	assert_int_equal(user.id, world_id(WORLD_USER, key->owner));
	assert_int_equal(user.suspended, world->users[key->owner].suspended);
	assert_true(text_is(user.email, world_slugs[world->users[key->owner].email]));
	compare_user(copy, &world->users[key->owner], user.handle, organizations, pages);
}

static void compare_keys(const struct copy *copy, const struct world *world, struct world_seen *seen,
			 const rule_handle *organizations, const rule_handle *pages)
{
	enum { ASKED = 3 * (WORLD_KEYS + 2) }; /* more than one pass; two of them nobody's */
	keytext_id ids[ASKED];
	const struct copy_key *found[ASKED];

	for (unsigned n = 0; n < ASKED; n++)
		ids[n] = world_key_id(n % (WORLD_KEYS + 2));
	memset(found, 0xff, sizeof(found));
	copy_find_keys(copy, ids, ASKED, found);
	for (unsigned n = 0; n < ASKED; n++) {
		unsigned i = n % (WORLD_KEYS + 2);

		if ((found[n] != NULL) != (i < WORLD_KEYS && world->keys[i].exists))
			fail_msg("key %u: %s", i, found[n] ? "found" : "not found");
		if (n < WORLD_KEYS && found[n])
			compare_key(copy, world, seen, i, found[n], organizations, pages);
		assert_ptr_equal(found[n], found[i]);
	}
}

/* ---- all of it ---- */

static void compare_counts(const struct copy *copy, const struct world *world)
{
	struct copy_counts counts, wanted = {0};

	for (unsigned i = 0; i < WORLD_ORGANIZATIONS; i++)
		wanted.organizations += world->organizations[i].exists;
	for (unsigned i = 0; i < WORLD_PAGES; i++)
		wanted.pages += world->pages[i].exists;
	for (unsigned i = 0; i < WORLD_USERS; i++)
		wanted.users += world->users[i].exists;
	for (unsigned i = 0; i < WORLD_KEYS; i++)
		wanted.keys += world->keys[i].exists;
	for (unsigned i = 0; i < WORLD_SCOPES; i++)
		wanted.scopes += world->scopes[i].known;
	for (unsigned i = 0; i < WORLD_ROLES; i++)
		wanted.roles += world->roles[i].known;
	copy_count(copy, &counts);
	assert_int_equal(counts.organizations, wanted.organizations);
	assert_int_equal(counts.pages, wanted.pages);
	assert_int_equal(counts.users, wanted.users);
	assert_int_equal(counts.keys, wanted.keys);
	assert_int_equal(counts.scopes, wanted.scopes);
	assert_int_equal(counts.roles, wanted.roles);
}

void world_compare(const struct copy *copy, const struct world *world, struct world_seen *seen)
{
	rule_handle organizations[WORLD_ORGANIZATIONS], pages[WORLD_PAGES];

	assert_true(copy_rev(copy) == world->rev);
	compare_catalog(copy, world);
	compare_organizations(copy, world, seen, organizations);
	compare_pages(copy, world, seen, organizations, pages);
	compare_walks(copy, world, organizations);
	compare_keys(copy, world, seen, organizations, pages);
	compare_gone(copy, seen);
	compare_counts(copy, world);
}

void world_remember(const struct copy *copy, const struct world *world, struct world_seen *seen, unsigned key)
{
	keytext_id id = world_key_id(key);
	uint8_t proof[COPY_PROOF_LEN];
	const struct copy_key *found;

	copy_find_keys(copy, &id, 1, &found);
	if (!found)
		return;
	proof_of(&world->keys[key], proof);
	copy_key_remember(found, proof);
	assert_memory_equal(copy_key_proof(found), proof, sizeof(proof));
	seen->remembered[key] = true;
}
