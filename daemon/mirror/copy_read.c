#include "daemon/mirror/copy_internal.h"

#include <string.h>

enum { PASS = 64 }; /* look-ups that go through the passes together: as many misses in flight as the memory takes */

static struct rpc_text borrow(struct text text)
{
	return (struct rpc_text){text.data, text.len};
}

/* ---- keys ---- */

static const struct copy_key *find_key(const struct copy *copy, keytext_id id, uint64_t hash)
{
	uint32_t at = 0;
	rule_handle handle;

	while ((handle = index_next(&copy->key_ids, hash, &at))) {
		const struct copy_key *record = key_at(copy, handle);

		if (record->id != id)
			continue;
		const struct copy_key *seen = key_seen(copy, record);

		if (seen->exists)
			return seen;
	}
	return NULL;
}

void copy_find_keys(const struct copy *copy, const keytext_id *ids, uint32_t count, const struct copy_key **ret)
{
	uint64_t hashes[PASS];

	for (uint32_t i = 0; copy->loading && i < count; i++)
		ret[i] = NULL;
	for (uint32_t done = 0; !copy->loading && done < count; done += PASS) {
		uint32_t n = count - done < PASS ? count - done : PASS;

		for (uint32_t i = 0; i < n; i++) {
			hashes[i] = hash_number(&copy->seed, ids[done + i]);
			index_prefetch(&copy->key_ids, hashes[i]);
		}
		for (uint32_t i = 0; i < n; i++) {
			uint32_t at = 0;
			rule_handle handle = index_next(&copy->key_ids, hashes[i], &at);

			if (handle)
				__builtin_prefetch(key_at(copy, handle));
		}
		for (uint32_t i = 0; i < n; i++) {
			const struct copy_key *key = find_key(copy, ids[done + i], hashes[i]);

			ret[done + i] = key;
			if (!key)
				continue;
			__builtin_prefetch(key->kind == KEY_KIND_USER
						   ? (const void *)user_at(copy, key->owner)
						   : (const void *)organization_at(copy, key->owner));
			if (key->more)
				__builtin_prefetch(key->more);
		}
		for (uint32_t i = 0; i < n; i++) {
			const struct copy_key *key = ret[done + i];

			if (key && key->kind == KEY_KIND_USER) {
				const struct user_version *user = user_seen(copy, user_at(copy, key->owner));

				if (user->roles)
					__builtin_prefetch(user->roles);
			}
		}
	}
}

const uint8_t *copy_key_hash(const struct copy *copy, const struct copy_key *key)
{
	const struct copy_key *record = key_at(copy, key->handle);

	if (key != record)
		return ((struct pending_key *)pending_at(&copy->pending_keys, record->pending))->hash.bytes;
	return ((struct hash_bytes *)table_at(&copy->hashes, key->handle))->bytes;
}

uint16_t copy_key_pepper(const struct copy_key *key)
{
	return key->pepper;
}

const uint8_t *copy_key_proof(const struct copy_key *key)
{
	return key->proof;
}

void copy_key_remember(const struct copy_key *key, const uint8_t proof[COPY_PROOF_LEN])
{
	memcpy(((struct copy_key *)(uintptr_t)key)->proof, proof, COPY_PROOF_LEN);
}

keytext_id copy_key_id(const struct copy_key *key)
{
	return key->id;
}

bool copy_key_successor(const struct copy *copy, const struct copy_key *key, keytext_id *ret)
{
	(void)copy;
	if (!key->more || !key->more->has_successor)
		return false;
	*ret = key->more->successor;
	return true;
}

/* What denied the key before history was lost goes on to. */
static void who_is_held(const struct denials *held, keytext_id id, struct rule_who *who)
{
	struct denial denial = denials_of(held, id);

	who->flags |= denial.flags;
	if (denial.retired_at < who->retired_at)
		who->retired_at = denial.retired_at;
}

void copy_who(const struct copy *copy, const struct copy_key *key, struct rule_who *ret, struct copy_user *ret_user)
{
	const struct key_more *more = key->more;

	*ret = (struct rule_who){
		.kind = key->kind,
		.flags = key->flags,
		.access = key->access,
		.not_before = more ? more->not_before : INT64_MIN,
		.expires_at = key->expires_at,
		.retired_at = more ? more->retired_at : INT64_MAX,
	};
	if (more) {
		ret->pages = more->pages;
		ret->page_count = more->page_count;
		ret->scopes = more->scopes;
		ret->scope_count = more->scope_count;
		ret->networks = more->networks;
		ret->network_count = more->network_count;
		ret->rate_count = more->rate_count;
		ret->rate_period_s = more->rate_period_s;
	}
	if (__builtin_expect(copy->held && copy->held->count > 0, 0))
		who_is_held(copy->held, key->id, ret);
	*ret_user = (struct copy_user){0};
	/* A key whose owner is gone stands for nobody. */
	if (key->kind == KEY_KIND_ORGANIZATION) {
		if (organization_is_there(copy, key->owner))
			ret->organization = key->owner;
		else
			ret->flags &= (uint16_t)~RULE_LIVE;
		return;
	}
	const struct user_record *record = user_at(copy, key->owner);
	const struct user_version *user = user_seen(copy, record);

	if (!user->exists) {
		ret->flags &= (uint16_t)~RULE_LIVE;
		return;
	}
	if (user->suspended)
		ret->flags |= RULE_USER_SUSPENDED;
	*ret_user = (struct copy_user){
		.handle = key->owner,
		.id = record->id,
		.email = borrow(user->email),
		.suspended = user->suspended,
	};
}

/* ---- pages and organizations ---- */

bool copy_page(const struct copy *copy, rule_handle handle, struct copy_page *ret)
{
	if (!handle || handle >= copy->pages.next)
		return false;
	const struct page_record *record = page_at(copy, handle);
	const struct page_version *page = page_seen(copy, record);

	if (!page->exists || copy->loading || !organization_is_there(copy, page->organization))
		return false;
	*ret = (struct copy_page){
		.handle = handle,
		.organization = page->organization,
		.id = record->id,
		.slug = borrow(page->slug),
		.archived = page->archived,
	};
	return true;
}

bool copy_organization(const struct copy *copy, rule_handle handle, struct copy_organization *ret)
{
	if (!handle || handle >= copy->organizations.next)
		return false;
	const struct organization_record *record = organization_at(copy, handle);
	const struct organization_version *organization = organization_seen(copy, record);

	if (!organization->exists || copy->loading)
		return false;
	*ret = (struct copy_organization){
		.handle = handle,
		.id = record->id,
		.slug = borrow(organization->slug),
		.suspended = organization->suspended,
	};
	return true;
}

static bool text_equal(struct rpc_text a, struct rpc_text b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

static void find_page(const struct copy *copy, struct rpc_text slug, uint64_t hash, struct copy_page *ret)
{
	uint32_t at = 0;
	rule_handle handle;

	while ((handle = index_next(&copy->page_slugs, hash, &at)))
		if (copy_page(copy, handle, ret) && text_equal(ret->slug, slug))
			return;
	*ret = (struct copy_page){0};
}

void copy_find_pages(const struct copy *copy, const struct rpc_text *slugs, uint32_t count, struct copy_page *ret)
{
	uint64_t hashes[PASS];

	for (uint32_t done = 0; done < count; done += PASS) {
		uint32_t n = count - done < PASS ? count - done : PASS;

		for (uint32_t i = 0; i < n; i++) {
			if (!slugs[done + i].data)
				continue;
			hashes[i] = hash_text(&copy->seed, slugs[done + i].data, slugs[done + i].len);
			index_prefetch(&copy->page_slugs, hashes[i]);
		}
		for (uint32_t i = 0; i < n; i++) {
			uint32_t at = 0;
			rule_handle handle = slugs[done + i].data ? index_next(&copy->page_slugs, hashes[i], &at) : 0;

			if (handle)
				__builtin_prefetch(page_at(copy, handle));
		}
		for (uint32_t i = 0; i < n; i++) {
			if (slugs[done + i].data)
				find_page(copy, slugs[done + i], hashes[i], &ret[done + i]);
			else
				ret[done + i] = (struct copy_page){0};
		}
	}
}

bool copy_find_organization(const struct copy *copy, struct rpc_text slug, struct copy_organization *ret)
{
	uint32_t at = 0;
	rule_handle handle;

	if (!slug.data)
		return false;
	uint64_t hash = hash_text(&copy->seed, slug.data, slug.len);
	struct copy_organization found;

	while ((handle = index_next(&copy->organization_slugs, hash, &at))) {
		if (copy_organization(copy, handle, &found) && text_equal(found.slug, slug)) {
			*ret = found;
			return true;
		}
	}
	return false;
}

bool copy_find_user(const struct copy *copy, int64_t id, struct copy_user *ret)
{
	uint64_t hash = hash_number(&copy->seed, (uint64_t)id);
	uint32_t at = 0;
	rule_handle handle;

	while (!copy->loading && (handle = index_next(&copy->user_ids, hash, &at))) {
		const struct user_record *record = user_at(copy, handle);
		const struct user_version *user = user_seen(copy, record);

		if (record->id != id || !user->exists)
			continue;
		*ret = (struct copy_user){
			.handle = handle, .id = record->id, .email = borrow(user->email), .suspended = user->suspended};
		return true;
	}
	return false;
}

/* ---- a user's roles ---- */

static const struct user_roles *roles_of(const struct copy *copy, rule_handle user)
{
	static const struct user_roles none;

	if (!user || user >= copy->users.next)
		return &none;
	const struct user_version *version = user_seen(copy, user_at(copy, user));

	return version->exists && version->roles ? version->roles : &none;
}

static rule_role role_at(const struct user_role *roles, uint32_t count, rule_handle at)
{
	uint32_t low = 0, high = count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (roles[middle].at < at)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && roles[low].at == at ? roles[low].role : 0;
}

rule_role copy_user_organization_role(const struct copy *copy, rule_handle user, rule_handle organization)
{
	const struct user_roles *roles = roles_of(copy, user);

	return role_at(roles->roles, roles->organization_count, organization);
}

rule_role copy_user_page_role(const struct copy *copy, rule_handle user, rule_handle page)
{
	const struct user_roles *roles = roles_of(copy, user);

	return role_at(roles->roles + roles->organization_count, roles->page_count, page);
}

rule_handle copy_user_only_organization(const struct copy *copy, rule_handle user)
{
	const struct user_roles *roles = roles_of(copy, user);

	rule_handle only = 0;

	for (uint32_t i = 0; i < roles->organization_count; i++) {
		if (!organization_is_there(copy, roles->roles[i].at))
			continue;
		if (only)
			return 0;
		only = roles->roles[i].at;
	}
	return only;
}

bool copy_user_organization_at(const struct copy *copy, rule_handle user, uint32_t i, rule_handle *ret_handle,
			       rule_role *ret_role)
{
	const struct user_roles *roles = roles_of(copy, user);

	if (i >= roles->organization_count)
		return false;
	*ret_handle = roles->roles[i].at;
	*ret_role = roles->roles[i].role;
	return true;
}

bool copy_user_page_at(const struct copy *copy, rule_handle user, uint32_t i, rule_handle *ret_handle,
		       rule_role *ret_role)
{
	const struct user_roles *roles = roles_of(copy, user);

	if (i >= roles->page_count)
		return false;
	*ret_handle = roles->roles[roles->organization_count + i].at;
	*ret_role = roles->roles[roles->organization_count + i].role;
	return true;
}
