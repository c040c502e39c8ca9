/* What a copy holds inside, once nothing is staged and all is tidied up: what readers see, and nothing beside it. */
#include "tests/unit/copy_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/mirror/copy_internal.h"

static uint64_t live(const struct index *index)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < INDEX_SEGMENTS; i++)
		count += index->segments[i].live;
	return count;
}

static uint64_t took(const void *memory)
{
	return memory ? malloc_usable_size((void *)(uintptr_t)memory) + sizeof(size_t) : 0;
}

/* Its entries in their order, each under the memory of its page's own slug. */
static uint64_t clean_pages(const struct copy *copy, rule_handle organization, uint64_t *ret_count)
{
	const struct page_list *list = &organization_at(copy, organization)->pages;
	const struct page_entry *last = NULL;
	uint64_t bytes = took(list->runs);

	for (uint32_t i = 0; i < list->count; i++) {
		const struct page_run *run = &list->runs[i];

		assert_in_range(run->count, 1, run->room);
		assert_in_range(run->room, list->count > 1 ? PAGE_RUN : 1, PAGE_RUN);
		assert_true(i == 0 || run[-1].count + run->count > PAGE_RUN / 2);
		bytes += took(run->entries);
		for (uint32_t j = 0; j < run->count; last = &run->entries[j++]) {
			const struct page_record *page = page_at(copy, run->entries[j].page);

			assert_true(page->now.exists);
			assert_ptr_equal(page->now.slug.data, run->entries[j].slug);
			assert_int_equal(page->now.slug.len, run->entries[j].len);
			assert_int_equal(page->now.organization, organization);
			assert_true(!last || strcmp(last->slug, run->entries[j].slug) < 0);
			++*ret_count;
		}
	}
	return bytes;
}

static uint64_t clean_things(const struct copy *copy)
{
	uint64_t bytes = 0, organizations = 0, pages = 0, listed = 0, users = 0, keys = 0;

	for (rule_handle i = 1; i < copy->organizations.next; i++) {
		const struct organization_record *organization = organization_at(copy, i);

		assert_int_equal(organization->pending, 0);
		organizations += organization->now.exists;
		bytes += took(organization->now.slug.data) + clean_pages(copy, i, &listed);
	}
	for (rule_handle i = 1; i < copy->pages.next; i++) {
		assert_int_equal(page_at(copy, i)->pending, 0);
		pages += page_at(copy, i)->now.exists;
		bytes += took(page_at(copy, i)->now.slug.data);
	}
	for (rule_handle i = 1; i < copy->users.next; i++) {
		const struct user_record *user = user_at(copy, i);

		assert_int_equal(user->pending, 0);
		users += user->now.exists;
		bytes += took(user->now.email.data) + took(user->now.roles);
	}
	for (rule_handle i = 1; i < copy->keys.next; i++) {
		assert_int_equal(key_at(copy, i)->pending, 0);
		keys += key_at(copy, i)->exists;
		bytes += took(key_at(copy, i)->more);
	}
	assert_int_equal(organizations, copy->now.organizations);
	assert_int_equal(pages, copy->now.pages);
	assert_int_equal(listed, pages);
	assert_int_equal(users, copy->now.users);
	assert_int_equal(keys, copy->now.keys);
	return bytes;
}

/* None, and at most the memory for the next few, and of what was reserved in vain. */
static uint64_t clean_pendings(const struct pendings *pendings)
{
	uint64_t bytes = took(pendings->chunks), chunks = 0;

	assert_int_equal(pendings->count, 0);
	for (uint32_t i = 0; i < pendings->chunk_room; i++) {
		chunks += pendings->chunks[i] != NULL;
		bytes += took(pendings->chunks[i]);
	}
	assert_in_range(chunks, 0, 2);
	return bytes;
}

void world_assert_clean(const struct copy *copy)
{
	assert_false(copy->published);
	assert_null(copy->next_catalog);
	assert_memory_equal(&copy->now, &copy->next, sizeof(copy->now));
	assert_int_equal(copy->hashes.next, copy->keys.next);
	assert_true(clean_things(copy) + clean_pendings(&copy->pending_organizations) +
			    clean_pendings(&copy->pending_pages) + clean_pendings(&copy->pending_users) +
			    clean_pendings(&copy->pending_keys) ==
		    copy->heap_bytes);
	assert_int_equal(live(&copy->organization_ids), copy->now.organizations);
	assert_int_equal(live(&copy->organization_slugs), copy->now.organizations);
	assert_int_equal(live(&copy->page_ids), copy->now.pages);
	assert_int_equal(live(&copy->page_slugs), copy->now.pages);
	assert_int_equal(live(&copy->user_ids), copy->now.users);
	assert_int_equal(live(&copy->key_ids), copy->now.keys);
}
