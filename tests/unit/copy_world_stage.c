/* How the model gets into a copy, and how the two are compared. */
#include "tests/unit/copy_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- staging ---- */

/* By their bytes: what padding tells apart is staged once more than it must be. */
static bool differ(const void *a, const void *b, size_t size)
{
	return memcmp(a, b, size) != 0;
}

struct staging {
	const struct world_stager *with;
	const struct world *from, *to;
	bool renewed[WORLD_KINDS][WORLD_PAGES];
};

/* Whether a bad turn is taken before the right one. */
static bool astray(const struct staging *staging)
{
	return staging->with->random && world_below(staging->with->random, 3) == 0;
}

static unsigned any(const struct staging *staging, unsigned bound)
{
	return staging->with->random ? world_below(staging->with->random, bound) : 0;
}

/* After each call that stages: nothing of it is to be seen. */
static void look(const struct staging *staging)
{
	if (staging->with->visible && any(staging, 6) == 0)
		world_compare(staging->with->copy, staging->with->visible, staging->with->seen);
}

static int stage_catalog(const struct staging *staging)
{
	struct copy_scope_row scopes[WORLD_SCOPES];
	struct copy_role_row roles[WORLD_ROLES];
	struct copy_grant_row grants[WORLD_SCOPES * WORLD_ROLES];
	uint32_t scope_count = 0, role_count = 0, grant_count = 0;
	const struct world *to = staging->to;

	for (unsigned n = 0, i = any(staging, WORLD_SCOPES); n < WORLD_SCOPES; n++, i = (i + 1) % WORLD_SCOPES) {
		if (to->scopes[i].known)
			scopes[scope_count++] =
				(struct copy_scope_row){world_text(world_scope_names[i]), to->scopes[i].levels};
	}
	for (unsigned i = 0; i < WORLD_ROLES; i++) {
		const struct world_role_name *name = &world_role_names[i];

		if (!to->roles[i].known)
			continue;
		roles[role_count++] = (struct copy_role_row){name->place, world_text(name->name), to->roles[i].rank};
		for (unsigned j = 0; j < WORLD_SCOPES; j++) {
			if (to->roles[i].grants[j])
				grants[grant_count++] = (struct copy_grant_row){name->place, world_text(name->name),
										world_text(world_scope_names[j]),
										to->roles[i].grants[j] == 2};
		}
	}
	return copy_put_catalog(staging->with->copy, scopes, scope_count, roles, role_count, grants, grant_count);
}

static int put_organization(const struct staging *staging, unsigned i, const struct world_organization *organization)
{
	struct copy_organization_row row = {world_id(WORLD_ORGANIZATION, i),
					    world_text(world_slugs[organization->slug]), organization->suspended};
	int rc = organization->exists ? copy_put_organization(staging->with->copy, &row)
				      : copy_remove_organization(staging->with->copy, row.id);

	look(staging);
	return rc;
}

static int stage_organization(struct staging *staging, unsigned i)
{
	const struct world_organization *from = &staging->from->organizations[i], *to = &staging->to->organizations[i];
	bool there = from->exists, asked = differ(from, to, sizeof(*to));
	int rc = 0;

	for (; rc == 0 && astray(staging); asked = true) {
		struct world_organization other = {any(staging, 4) > 0, any(staging, 2), any(staging, WORLD_SLUGS)};

		rc = put_organization(staging, i, &other);
		staging->renewed[WORLD_ORGANIZATION][i] |= !other.exists;
	}
	staging->renewed[WORLD_ORGANIZATION][i] |= !there || !to->exists;
	return rc == 0 && asked ? put_organization(staging, i, to) : rc;
}

static int put_page(const struct staging *staging, unsigned i, const struct world_page *page)
{
	struct copy_page_row row = {world_id(WORLD_PAGE, i), world_id(WORLD_ORGANIZATION, page->organization),
				    world_text(world_slugs[page->slug]), page->archived};
	int rc =
		page->exists ? copy_put_page(staging->with->copy, &row) : copy_remove_page(staging->with->copy, row.id);

	look(staging);
	return rc;
}

static int stage_page(struct staging *staging, unsigned i)
{
	const struct world_page *from = &staging->from->pages[i], *to = &staging->to->pages[i];
	bool *renewed = &staging->renewed[WORLD_PAGE][i], asked = differ(from, to, sizeof(*to));
	int rc = 0;

	if (to->exists && staging->renewed[WORLD_ORGANIZATION][to->organization])
		*renewed = asked = true;
	*renewed |= !from->exists || !to->exists || from->organization != to->organization;
	for (; rc == 0 && astray(staging); asked = true) {
		struct world_page other = {any(staging, 4) > 0, any(staging, 2), any(staging, WORLD_SLUGS),
					   any(staging, 3) ? to->organization : any(staging, WORLD_ORGANIZATIONS)};

		rc = put_page(staging, i, &other);
		*renewed |= !other.exists || other.organization != from->organization;
	}
	return rc == 0 && asked ? put_page(staging, i, to) : rc;
}

static int put_user(const struct staging *staging, unsigned i, const struct world_user *user)
{
	struct copy_role_at organizations[WORLD_ORGANIZATIONS], pages[WORLD_PAGES];
	struct copy_user_row row = {.id = world_id(WORLD_USER, i),
				    .email = world_text(world_slugs[user->email]),
				    .suspended = user->suspended,
				    .organizations = organizations,
				    .pages = pages};
	int rc;

	for (unsigned n = 0, j = any(staging, WORLD_ORGANIZATIONS); n < WORLD_ORGANIZATIONS;
	     n++, j = (j + 1) % WORLD_ORGANIZATIONS) {
		if (user->organization_roles[j])
			organizations[row.organization_count++] = (struct copy_role_at){
				world_id(WORLD_ORGANIZATION, j),
				world_text(world_role_names[user->organization_roles[j] - 1].name)};
	}
	for (unsigned n = 0, j = any(staging, WORLD_PAGES); n < WORLD_PAGES; n++, j = (j + 1) % WORLD_PAGES) {
		if (user->page_roles[j])
			pages[row.page_count++] = (struct copy_role_at){
				world_id(WORLD_PAGE, j), world_text(world_role_names[user->page_roles[j] - 1].name)};
	}
	rc = user->exists ? copy_put_user(staging->with->copy, &row) : copy_remove_user(staging->with->copy, row.id);
	look(staging);
	return rc;
}

static int stage_user(struct staging *staging, unsigned i)
{
	const struct world_user *from = &staging->from->users[i], *to = &staging->to->users[i];
	bool *renewed = &staging->renewed[WORLD_USER][i], asked = differ(from, to, sizeof(*to));
	int rc = 0;

	for (unsigned j = 0; j < WORLD_ORGANIZATIONS; j++)
		asked |= to->organization_roles[j] && staging->renewed[WORLD_ORGANIZATION][j];
	for (unsigned j = 0; j < WORLD_PAGES; j++)
		asked |= to->page_roles[j] && staging->renewed[WORLD_PAGE][j];
	*renewed = !from->exists || !to->exists;
	for (; rc == 0 && astray(staging); asked = true) {
		struct world_user other = any(staging, 2) ? *from : *to;

		other.exists = any(staging, 4) > 0;
		other.email = any(staging, WORLD_SLUGS);
		rc = put_user(staging, i, &other);
		*renewed |= !other.exists;
	}
	return rc == 0 && asked ? put_user(staging, i, to) : rc;
}

static int put_key(const struct staging *staging, unsigned i, const struct world_key *key)
{
	struct rpc_text scopes[WORLD_SCOPES];
	int64_t pages[WORLD_PAGES];
	struct copy_key_row row = {
		.id = world_key_id(i),
		.kind = key->kind,
		.owner_id = world_id(key->kind == KEY_KIND_USER ? WORLD_USER : WORLD_ORGANIZATION, key->owner),
		.pepper = key->pepper,
		.flags = key->flags,
		.not_before = key->not_before,
		.expires_at = key->expires_at,
		.retired_at = key->retired_at,
		.successor = world_key_id(key->successor),
		.has_successor = key->has_successor,
		.pages = pages,
		.scopes = scopes,
		.networks = key->networks,
		.rate_count = key->flags & RULE_NARROWED_RATE ? key->rate_count : 0,
		.rate_period_s = key->flags & RULE_NARROWED_RATE ? key->rate_period_s : 0,
		.network_count = key->network_count,
	};
	int rc;

	if (key->access)
		row.access = world_text(world_role_names[key->access - 1].name);
	world_hash(key, row.hash);
	for (unsigned j = WORLD_PAGES; j-- > 0;) {
		if (key->pages >> j & 1)
			pages[row.page_count++] = world_id(WORLD_PAGE, j);
	}
	for (unsigned j = WORLD_SCOPES; j-- > 0;) {
		if (key->scopes >> j & 1)
			scopes[row.scope_count++] = world_text(world_scope_names[j]);
	}
	rc = key->exists ? copy_put_key(staging->with->copy, &row) : copy_remove_key(staging->with->copy, row.id);
	look(staging);
	return rc;
}

static int stage_key(const struct staging *staging, unsigned i)
{
	const struct world_key *from = &staging->from->keys[i], *to = &staging->to->keys[i];
	enum world_kind owner = to->kind == KEY_KIND_USER ? WORLD_USER : WORLD_ORGANIZATION;
	bool asked = differ(from, to, sizeof(*to)) || staging->renewed[owner][to->owner];
	int rc = 0;

	for (unsigned j = 0; j < WORLD_PAGES; j++)
		asked |= to->pages >> j & 1 && staging->renewed[WORLD_PAGE][j];
	for (; rc == 0 && astray(staging); asked = true) {
		struct world_key other = any(staging, 2) ? *from : *to;

		other.exists = any(staging, 4) > 0;
		other.hash = any(staging, 4);
		other.pepper = (uint16_t)(1 + any(staging, 2));
		rc = put_key(staging, i, &other);
	}
	return rc == 0 && asked ? put_key(staging, i, to) : rc;
}

int world_stage(const struct world_stager *stager, const struct world *from, const struct world *to)
{
	struct staging staging = {.with = stager, .from = from, .to = to};
	int rc = 0;

	if (differ(from->scopes, to->scopes, sizeof(to->scopes)) || differ(from->roles, to->roles, sizeof(to->roles)) ||
	    astray(&staging))
		rc = stage_catalog(&staging);
	look(&staging);
	for (unsigned i = 0; rc == 0 && i < WORLD_ORGANIZATIONS; i++)
		rc = stage_organization(&staging, i);
	for (unsigned i = 0; rc == 0 && i < WORLD_PAGES; i++)
		rc = stage_page(&staging, i);
	for (unsigned i = 0; rc == 0 && i < WORLD_USERS; i++)
		rc = stage_user(&staging, i);
	for (unsigned i = 0; rc == 0 && i < WORLD_KEYS; i++)
		rc = stage_key(&staging, i);
	for (unsigned i = 0; stager->seen && i < WORLD_KINDS; i++) {
		for (unsigned j = 0; j < WORLD_PAGES; j++)
			stager->seen->renewed[i][j] |= staging.renewed[i][j];
	}
	return rc;
}

void world_settle(struct world_seen *seen, bool published)
{
	for (unsigned i = 0; i < WORLD_KINDS; i++) {
		for (unsigned j = 0; j < WORLD_PAGES; j++) {
			if (published && seen->renewed[i][j])
				seen->handles[i][j] = 0;
			seen->renewed[i][j] = false;
		}
	}
}

void world_seen_deinit(struct world_seen *seen)
{
	free(seen->once);
	*seen = (struct world_seen){0};
}
