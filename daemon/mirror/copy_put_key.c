#include "daemon/mirror/copy_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int compare_handles(const void *a, const void *b)
{
	rule_handle x = *(const rule_handle *)a, y = *(const rule_handle *)b;

	return (x > y) - (x < y);
}

static int compare_scopes(const void *a, const void *b)
{
	return (int)*(const rule_scope *)a - (int)*(const rule_scope *)b;
}

/* Everything few keys have, in one piece of memory; *ret NULL where there is none of it. */
static int more_of(struct copy *copy, const struct copy_key_row *row, struct key_more **ret)
{
	*ret = NULL;
	if (!row->page_count && !row->scope_count && !row->network_count && row->not_before == INT64_MIN &&
	    row->retired_at == INT64_MAX && !row->has_successor && !(row->flags & RULE_NARROWED_RATE))
		return 0;
	size_t size = sizeof(struct key_more) + row->page_count * sizeof(rule_handle) +
		      row->network_count * sizeof(struct rule_network) + row->scope_count * sizeof(rule_scope);
	struct key_more *more = heap_took(copy, calloc(1, size));

	if (!more)
		return -ENOMEM;
	rule_handle *pages = (rule_handle *)(more + 1);
	rule_scope *scopes = (rule_scope *)(pages + row->page_count);
	struct rule_network *networks = (struct rule_network *)(scopes + row->scope_count);

	more->not_before = row->not_before;
	more->retired_at = row->retired_at;
	more->successor = row->successor;
	more->has_successor = row->has_successor;
	more->rate_count = row->rate_count;
	more->rate_period_s = row->rate_period_s;
	for (uint32_t i = 0; i < row->page_count; i++) {
		rule_handle page = copy_page_by_id(copy, row->pages[i]);

		if (page)
			pages[more->page_count++] = page;
		else
			copy->next.dropped++;
	}
	for (uint32_t i = 0; i < row->scope_count; i++) {
		rule_scope scope = catalog_scope(copy, row->scopes[i]);

		if (scope)
			scopes[more->scope_count++] = scope;
		else
			copy->next.dropped++;
	}
	if (row->network_count)
		memcpy(networks, row->networks, row->network_count * sizeof(*networks));
	more->network_count = row->network_count;
	qsort(pages, more->page_count, sizeof(*pages), compare_handles);
	qsort(scopes, more->scope_count, sizeof(*scopes), compare_scopes);
	more->pages = pages;
	more->scopes = scopes;
	more->networks = networks;
	*ret = more;
	return 0;
}

/* A pending is reserved; the copy is not loading. */
static struct pending_key *key_stage(struct copy *copy, struct copy_key *record)
{
	if (record->pending)
		return pending_at(&copy->pending_keys, record->pending);
	struct pending_key *pending = stage_add(&copy->pending_keys, &record->pending);

	pending->version = *record;
	pending->version.more = NULL; /* each version has its own */
	return pending;
}

/* The handle of a key, made where it was never met; 0 without memory. */
static rule_handle key_handle(struct copy *copy, keytext_id id)
{
	rule_handle handle = copy_key_by_id(copy, id);

	if (handle)
		return handle;
	/* The two tables go together: a hash without a key (memory ran out between) is made up for here. */
	while (copy->hashes.next <= copy->keys.next)
		if (!table_add(&copy->hashes))
			return 0;
	handle = stage_make(copy, &copy->keys, &copy->key_ids, id);
	if (handle) {
		key_at(copy, handle)->id = id;
		key_at(copy, handle)->handle = handle;
	}
	return handle;
}

enum {
	KEY_FLAGS = RULE_REVOKED | RULE_DISABLED | RULE_NARROWED_PAGES | RULE_NARROWED_SCOPES | RULE_NARROWED_NETWORKS |
		    RULE_NARROWED_RATE,
	KEY_ROWS_MAX = 1 << 20, /* of narrowing, of one kind: far past sense, far below an overflow */
};

static bool key_row_can_be(const struct copy_key_row *row)
{
	if ((row->kind != KEY_KIND_USER && row->kind != KEY_KIND_ORGANIZATION) || row->flags & ~KEY_FLAGS ||
	    row->page_count > KEY_ROWS_MAX || row->scope_count > KEY_ROWS_MAX || row->network_count > KEY_ROWS_MAX)
		return false;
	if (row->flags & RULE_NARROWED_RATE && (row->rate_count == 0 || row->rate_period_s == 0))
		return false;
	for (uint32_t i = 0; i < row->network_count; i++) {
		const struct rule_network *network = &row->networks[i];

		if ((network->family != 4 && network->family != 6) ||
		    network->prefix > (network->family == 4 ? 32 : 128))
			return false;
	}
	return true;
}

int copy_put_key(struct copy *copy, const struct copy_key_row *row)
{
	if (!key_row_can_be(row))
		return -EINVAL;
	stage_begin(copy);
	rule_handle owner = row->kind == KEY_KIND_USER ? copy_user_by_id(copy, row->owner_id)
						       : copy_organization_by_id(copy, row->owner_id);
	rule_role access = row->kind == KEY_KIND_USER ? 0 : catalog_role(copy, RULE_ROLE_KEY, row->access);

	if (!owner) {
		copy->next.dropped++;
		return copy_remove_key(copy, row->id);
	}
	struct key_more *more;

	if (stage_reserve(copy, &copy->pending_keys) || more_of(copy, row, &more))
		return -ENOMEM;
	rule_handle handle = key_handle(copy, row->id);

	if (!handle) {
		heap_free(copy, more);
		return -ENOMEM;
	}
	struct copy_key *record = key_at(copy, handle), *version = record;
	struct hash_bytes *hash = table_at(&copy->hashes, handle);

	if (!copy->loading) {
		struct pending_key *pending = key_stage(copy, record);

		/* What was proven stays so only while the hash is the same. */
		if (!record->exists || memcmp(hash, row->hash, sizeof(*hash)) != 0 || record->pepper != row->pepper)
			memset(pending->version.proof, 0, sizeof(pending->version.proof));
		version = &pending->version;
		hash = &pending->hash;
	}
	heap_free(copy, version->more);
	version->more = more;
	memcpy(hash, row->hash, sizeof(*hash));
	version->expires_at = row->expires_at;
	version->owner = owner;
	version->flags = (uint16_t)(row->flags | RULE_LIVE);
	version->pepper = row->pepper;
	version->kind = (uint8_t)row->kind;
	version->access = access;
	copy->next.keys += !version->exists;
	version->exists = true;
	return 0;
}

int copy_remove_key(struct copy *copy, keytext_id id)
{
	stage_begin(copy);
	rule_handle handle = copy_key_by_id(copy, id);

	if (!handle)
		return 0;
	if (stage_reserve(copy, &copy->pending_keys))
		return -ENOMEM;
	copy->next.keys--;
	if (copy->loading) {
		fold_away_key(copy, handle);
		copy->dead++;
	} else {
		key_stage(copy, key_at(copy, handle))->version.exists = false;
	}
	return 0;
}
