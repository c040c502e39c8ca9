/* The model's own life, and how it gets into a copy. */
#include "tests/unit/copy_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Prefixes of each other, the same in the first word, the byte order that differs from a dictionary's. */
const char *const world_slugs[WORLD_SLUGS] = {"a",
					      "aa",
					      "aaa",
					      "aaaaaaaa",
					      "aaaaaaaaa",
					      "ab",
					      "a-b",
					      "a0",
					      "b",
					      "ba",
					      "0",
					      "00",
					      "z",
					      "zz",
					      "acme",
					      "acme-2",
					      "acme-10",
					      "acme-cloud",
					      "acme-cloud-europe",
					      "acme-cloud-europe-2",
					      "acme2",
					      "umbra",
					      "umbra-beta",
					      "a-slug-as-long-as-the-longest-that-the-store-takes-a-slug-as-lon",
					      "m",
					      "mm",
					      "mn",
					      "n"};
const char *const world_scope_names[WORLD_SCOPES] = {"a:read", "a:write", "b:read",  "b:write", "c:delete",
						     "d:pay",  "e:read",  "e:write", "f:other"};
const struct world_role_name world_role_names[WORLD_ROLES] = {
	{RULE_ROLE_ORGANIZATION, "viewer"}, {RULE_ROLE_ORGANIZATION, "editor"}, {RULE_ROLE_ORGANIZATION, "owner"},
	{RULE_ROLE_PAGE, "viewer"},	    {RULE_ROLE_PAGE, "owner"},		{RULE_ROLE_KEY, "read"},
	{RULE_ROLE_KEY, "write"},	    {RULE_ROLE_ORGANIZATION, "admin"},	{RULE_ROLE_PAGE, "admin"},
	{RULE_ROLE_KEY, "admin"},
};

uint32_t world_below(struct world_random *random, uint32_t bound)
{
	/* splitmix64 */
	uint64_t x = random->state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)((x ^ x >> 31) % bound);
}

static bool chance(struct world_random *random, uint32_t of)
{
	return world_below(random, of) == 0;
}

keytext_id world_key_id(unsigned key)
{
	return UINT64_C(1000000007) * (key + 1);
}

/* The kinds share their numbers, as tables of a database do; one is 0 and one negative. */
int64_t world_id(enum world_kind kind, unsigned i)
{
	return (int64_t)i * (kind == WORLD_PAGE ? 3 : 1) - 1;
}

struct rpc_text world_text(const char *text)
{
	return (struct rpc_text){text, (uint32_t)strlen(text)};
}

void world_hash(const struct world_key *key, uint8_t ret[COPY_HASH_LEN])
{
	memset(ret, (int)(key->hash + 1), COPY_HASH_LEN);
}

void world_init(struct world *world)
{
	memset(world, 0, sizeof(*world));
	world->rev = 1;
	for (unsigned i = 0; i < WORLD_STEADY; i++) {
		world->scopes[i].known = true;
		world->scopes[i].levels = (uint8_t)(1 + i % 3);
	}
	for (unsigned i = 0; i < WORLD_HELD; i++) {
		world->roles[i].known = true;
		world->roles[i].rank = (uint16_t)(10 + i);
		for (unsigned j = 0; j < WORLD_STEADY; j++)
			world->roles[i].grants[j] = (uint8_t)((i + j) % 3);
	}
}

/* ---- changes ---- */

static unsigned free_slug(struct world_random *random, const struct world *world, bool of_pages)
{
	bool taken[WORLD_SLUGS] = {false};
	unsigned slug;

	for (unsigned i = 0; of_pages && i < WORLD_PAGES; i++)
		taken[world->pages[i].slug] |= world->pages[i].exists;
	for (unsigned i = 0; !of_pages && i < WORLD_ORGANIZATIONS; i++)
		taken[world->organizations[i].slug] |= world->organizations[i].exists;
	do
		slug = world_below(random, WORLD_SLUGS);
	while (taken[slug]);
	return slug;
}

static void remove_page(struct world *world, unsigned page)
{
	world->pages[page].exists = false;
	for (unsigned i = 0; i < WORLD_USERS; i++)
		world->users[i].page_roles[page] = 0;
	for (unsigned i = 0; i < WORLD_KEYS; i++)
		world->keys[i].pages &= ~(1u << page);
}

static void remove_owner(struct world *world, enum key_kind kind, unsigned owner)
{
	for (unsigned i = 0; i < WORLD_KEYS; i++)
		world->keys[i].exists &= world->keys[i].kind != kind || world->keys[i].owner != owner;
}

static void remove_organization(struct world *world, unsigned organization)
{
	world->organizations[organization].exists = false;
	for (unsigned i = 0; i < WORLD_PAGES; i++) {
		if (world->pages[i].exists && world->pages[i].organization == organization)
			remove_page(world, i);
	}
	for (unsigned i = 0; i < WORLD_USERS; i++)
		world->users[i].organization_roles[organization] = 0;
	remove_owner(world, KEY_KIND_ORGANIZATION, organization);
}

static void change_organization(struct world_random *random, struct world *world)
{
	unsigned i = world_below(random, WORLD_ORGANIZATIONS), j = world_below(random, WORLD_ORGANIZATIONS);
	struct world_organization *organization = &world->organizations[i], *other = &world->organizations[j];

	if (organization->exists && chance(random, 4)) {
		remove_organization(world, i);
	} else if (organization->exists && other->exists && chance(random, 2)) {
		unsigned slug = organization->slug;

		organization->slug = other->slug;
		other->slug = slug;
	} else {
		if (!organization->exists || chance(random, 2))
			organization->slug = free_slug(random, world, false);
		organization->exists = true;
		organization->suspended = chance(random, 3);
	}
}

static void change_page(struct world_random *random, struct world *world)
{
	unsigned i = world_below(random, WORLD_PAGES), j = world_below(random, WORLD_PAGES);
	unsigned organization = world_below(random, WORLD_ORGANIZATIONS);
	struct world_page *page = &world->pages[i], *other = &world->pages[j];

	if (page->exists && chance(random, 4)) {
		remove_page(world, i);
	} else if (page->exists && other->exists && chance(random, 2)) {
		unsigned slug = page->slug;

		page->slug = other->slug;
		other->slug = chance(random, 2) ? slug : free_slug(random, world, true);
	} else if (world->organizations[organization].exists) {
		if (!page->exists || chance(random, 2))
			page->slug = free_slug(random, world, true);
		/* In another organization it is another page: the store knows no such change, but for its removal. */
		if (page->exists && page->organization != organization)
			remove_page(world, i);
		page->organization = organization;
		page->exists = true;
		page->archived = chance(random, 3);
	}
}

static void change_user(struct world_random *random, struct world *world)
{
	static const unsigned of_organizations[] = {1, 2, 3, 0, 0}, of_pages[] = {4, 5, 0, 0};
	unsigned i = world_below(random, WORLD_USERS);
	struct world_user *user = &world->users[i];

	if (user->exists && chance(random, 5)) {
		memset(user, 0, sizeof(*user));
		remove_owner(world, KEY_KIND_USER, i);
		return;
	}
	if (!user->exists || chance(random, 3))
		user->email = world_below(random, WORLD_SLUGS);
	user->exists = true;
	user->suspended = chance(random, 3);
	for (unsigned j = 0; j < WORLD_ORGANIZATIONS; j++) {
		if (world->organizations[j].exists && chance(random, 2))
			user->organization_roles[j] = of_organizations[world_below(random, 5)];
	}
	for (unsigned j = 0; j < WORLD_PAGES; j++) {
		if (world->pages[j].exists && chance(random, 3))
			user->page_roles[j] = of_pages[world_below(random, 4)];
	}
}

/* All of a key but whose it is. */
static void random_key(struct world_random *random, const struct world *world, struct world_key *key)
{
	static const uint16_t flags[] = {RULE_REVOKED,	       RULE_DISABLED,	       RULE_NARROWED_PAGES,
					 RULE_NARROWED_SCOPES, RULE_NARROWED_NETWORKS, RULE_NARROWED_RATE};

	key->exists = true;
	if (chance(random, 2))
		key->hash = world_below(random, 4);
	key->pepper = (uint16_t)(1 + world_below(random, 2));
	key->flags = 0;
	for (unsigned i = 0; i < sizeof(flags) / sizeof(*flags); i++)
		key->flags |= chance(random, 3) ? flags[i] : 0;
	key->not_before = chance(random, 3) ? (int64_t)world_below(random, 1000) : INT64_MIN;
	key->expires_at = chance(random, 2) ? (int64_t)world_below(random, 1000) : INT64_MAX;
	key->retired_at = chance(random, 3) ? (int64_t)world_below(random, 1000) : INT64_MAX;
	key->rate_count = 1 + world_below(random, 1000);
	key->rate_period_s = 1 + world_below(random, 1000);
	key->has_successor = chance(random, 4);
	key->successor = world_below(random, WORLD_KEYS);
	key->pages = key->scopes = 0;
	for (unsigned i = 0; i < WORLD_PAGES; i++)
		key->pages |= (uint32_t)(world->pages[i].exists && chance(random, 4)) << i;
	for (unsigned i = 0; i < WORLD_STEADY; i++)
		key->scopes |= (uint32_t)chance(random, 4) << i;
	key->network_count = chance(random, 2) ? world_below(random, WORLD_NETWORKS + 1) : 0;
	for (unsigned i = 0; i < WORLD_NETWORKS; i++)
		key->networks[i] = (struct rule_network){.family = chance(random, 2) ? 4 : 6,
							 .prefix = (uint8_t)world_below(random, 33),
							 .bytes = {(uint8_t)world_below(random, 256)}};
}

static void change_key(struct world_random *random, struct world *world)
{
	unsigned i = world_below(random, WORLD_KEYS);
	struct world_key *key = &world->keys[i];
	bool of_user = i < WORLD_USERS || chance(random, 2);
	unsigned owner = i < WORLD_USERS ? i : world_below(random, of_user ? WORLD_USERS : WORLD_ORGANIZATIONS);

	if (key->exists && chance(random, 4)) {
		key->exists = false;
		return;
	}
	if (of_user ? !world->users[owner].exists : !world->organizations[owner].exists)
		return;
	key->kind = of_user ? KEY_KIND_USER : KEY_KIND_ORGANIZATION;
	key->owner = owner;
	key->access = of_user ? 0 : 6 + world_below(random, 2);
	random_key(random, world, key);
}

static void change_catalog(struct world_random *random, struct world *world)
{
	unsigned scope = world_below(random, WORLD_SCOPES), role = world_below(random, WORLD_ROLES);

	if (scope >= WORLD_STEADY)
		world->scopes[scope].known = chance(random, 2);
	if (role >= WORLD_HELD)
		world->roles[role].known = chance(random, 2);
	world->scopes[scope].levels = (uint8_t)world_below(random, 4);
	world->roles[role].rank = (uint16_t)world_below(random, 100);
	world->roles[role].grants[scope] = (uint8_t)world_below(random, 3);
	for (unsigned i = 0; i < WORLD_ROLES; i++) {
		for (unsigned j = 0; j < WORLD_SCOPES; j++) {
			if (!world->roles[i].known || !world->scopes[j].known)
				world->roles[i].grants[j] = 0;
		}
	}
}

void world_change(struct world_random *random, const struct world *now, struct world *next, unsigned most)
{
	static void (*const changes[])(struct world_random *, struct world *) = {
		change_organization, change_page, change_page, change_page,    change_user,
		change_user,	     change_key,  change_key,  change_catalog,
	};

	*next = *now;
	next->rev += 1 + world_below(random, 5);
	for (unsigned count = world_below(random, most + 1); count > 0; count--) {
		unsigned kind = world_below(random, sizeof(changes) / sizeof(*changes));

		if (changes[kind] != change_catalog || chance(random, 4))
			changes[kind](random, next);
	}
}
