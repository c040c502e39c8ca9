#include "daemon/mirror/copy_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static void pendings_init(struct pendings *pendings, size_t item)
{
	*pendings = (struct pendings){.item = item};
}

static void pendings_deinit(struct copy *copy, struct pendings *pendings)
{
	for (uint32_t i = 0; i < pendings->chunk_room; i++)
		heap_free(copy, pendings->chunks[i]);
	heap_free(copy, pendings->chunks);
}

struct copy *copy_new(uint64_t expected_keys, uint64_t expected_pages, uint64_t expected_users)
{
	struct copy *copy = calloc(1, sizeof(*copy));

	if (!copy)
		return NULL;
	copy->loading = true;
	copy->scope_count = copy->role_count = 1;
	table_init(&copy->organizations, sizeof(struct organization_record));
	table_init(&copy->pages, sizeof(struct page_record));
	table_init(&copy->users, sizeof(struct user_record));
	table_init(&copy->keys, sizeof(struct copy_key));
	table_init(&copy->hashes, sizeof(struct hash_bytes));
	pendings_init(&copy->pending_organizations, sizeof(struct pending_organization));
	pendings_init(&copy->pending_pages, sizeof(struct pending_page));
	pendings_init(&copy->pending_users, sizeof(struct pending_user));
	pendings_init(&copy->pending_keys, sizeof(struct pending_key));
	copy->catalog = calloc(1, sizeof(*copy->catalog));
	/* Without a seed that strangers do not know, slugs could be chosen to collide. */
	if (copy->catalog)
		copy->catalog->scope_count = copy->catalog->role_count = 1;
	if (!copy->catalog || getrandom(&copy->seed, sizeof(copy->seed), 0) != sizeof(copy->seed) ||
	    index_reserve(&copy->key_ids, expected_keys) || index_reserve(&copy->page_ids, expected_pages) ||
	    index_reserve(&copy->page_slugs, expected_pages) || index_reserve(&copy->user_ids, expected_users)) {
		copy_free(copy);
		return NULL;
	}
	return copy;
}

void copy_free(struct copy *copy)
{
	if (!copy)
		return;
	copy_discard(copy);
	while (copy_tidy(copy, UINT32_MAX))
		;
	for (uint32_t i = 1; i < copy->organizations.next; i++) {
		heap_free(copy, organization_at(copy, i)->now.slug.data);
		page_list_deinit(copy, &organization_at(copy, i)->pages);
	}
	for (uint32_t i = 1; i < copy->pages.next; i++)
		heap_free(copy, page_at(copy, i)->now.slug.data);
	for (uint32_t i = 1; i < copy->users.next; i++) {
		heap_free(copy, user_at(copy, i)->now.email.data);
		heap_free(copy, user_at(copy, i)->now.roles);
	}
	for (uint32_t i = 1; i < copy->keys.next; i++)
		heap_free(copy, key_at(copy, i)->more);
	table_deinit(&copy->organizations);
	table_deinit(&copy->pages);
	table_deinit(&copy->users);
	table_deinit(&copy->keys);
	table_deinit(&copy->hashes);
	index_deinit(&copy->organization_ids);
	index_deinit(&copy->organization_slugs);
	index_deinit(&copy->page_ids);
	index_deinit(&copy->page_slugs);
	index_deinit(&copy->user_ids);
	index_deinit(&copy->key_ids);
	pendings_deinit(copy, &copy->pending_organizations);
	pendings_deinit(copy, &copy->pending_pages);
	pendings_deinit(copy, &copy->pending_users);
	pendings_deinit(copy, &copy->pending_keys);
	free(copy->catalog);
	free(copy->next_catalog);
	free(copy);
}

void copy_hold(struct copy *copy, const struct denials *held)
{
	copy->held = held;
}

uint64_t copy_rev(const struct copy *copy)
{
	return copy->rev;
}

void copy_publish(struct copy *copy, uint64_t rev)
{
	while (copy->discarded)
		copy_tidy(copy, UINT32_MAX);
	copy->published = !copy->loading;
	copy->loading = false;
	copy->rev = rev > copy->rev ? rev : copy->rev;
	copy->now = copy->next;
	table_keep(&copy->organizations);
	table_keep(&copy->pages);
	table_keep(&copy->users);
	table_keep(&copy->keys);
	table_keep(&copy->hashes);
}

bool copy_is_worn(const struct copy *copy)
{
	uint64_t handles = (uint64_t)copy->organizations.next + copy->pages.next + copy->users.next + copy->keys.next;

	return copy->dead > 10000 && copy->dead > handles / 4;
}

void copy_count(const struct copy *copy, struct copy_counts *ret)
{
	const struct rule_catalog *catalog = catalog_seen(copy);
	uint64_t bytes = sizeof(*copy) + sizeof(*catalog) + copy->heap_bytes;

	bytes += table_bytes(&copy->organizations) + table_bytes(&copy->pages) + table_bytes(&copy->users);
	bytes += table_bytes(&copy->keys) + table_bytes(&copy->hashes);
	bytes += index_bytes(&copy->organization_ids) + index_bytes(&copy->organization_slugs);
	bytes += index_bytes(&copy->page_ids) + index_bytes(&copy->page_slugs);
	bytes += index_bytes(&copy->user_ids) + index_bytes(&copy->key_ids);
	*ret = (struct copy_counts){
		.organizations = copy->now.organizations,
		.pages = copy->now.pages,
		.users = copy->now.users,
		.keys = copy->now.keys,
		.dropped_references = copy->now.dropped,
		.bytes = bytes,
	};
	for (unsigned i = 1; i < catalog->scope_count; i++)
		ret->scopes += catalog->scopes[i].known;
	for (unsigned i = 1; i < catalog->role_count; i++)
		ret->roles += catalog->roles[i].place != 0;
}
