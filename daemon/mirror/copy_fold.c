#include "daemon/mirror/copy_internal.h"

#include <stddef.h>
#include <string.h>

/* ---- what is gone ---- */

void fold_away_organization_slug(struct copy *copy, rule_handle handle, struct text slug)
{
	if (!slug.data)
		return;
	index_remove(&copy->organization_slugs, hash_text(&copy->seed, slug.data, slug.len), handle);
	heap_free(copy, slug.data);
}

void fold_away_page_slug(struct copy *copy, rule_handle handle, rule_handle organization, struct text slug)
{
	if (!slug.data)
		return;
	index_remove(&copy->page_slugs, hash_text(&copy->seed, slug.data, slug.len), handle);
	page_list_remove(copy, &organization_at(copy, organization)->pages, slug);
	heap_free(copy, slug.data);
}

/* Its page list goes with its last page, if that is still to come. */
void fold_away_organization(struct copy *copy, rule_handle handle)
{
	struct organization_record *record = organization_at(copy, handle);

	index_remove(&copy->organization_ids, hash_number(&copy->seed, (uint64_t)record->id), handle);
	fold_away_organization_slug(copy, handle, record->now.slug);
	record->now = (struct organization_version){0};
}

void fold_away_page(struct copy *copy, rule_handle handle)
{
	struct page_record *record = page_at(copy, handle);

	index_remove(&copy->page_ids, hash_number(&copy->seed, (uint64_t)record->id), handle);
	fold_away_page_slug(copy, handle, record->now.organization, record->now.slug);
	record->now = (struct page_version){0};
}

void fold_away_user(struct copy *copy, rule_handle handle)
{
	struct user_record *record = user_at(copy, handle);

	index_remove(&copy->user_ids, hash_number(&copy->seed, (uint64_t)record->id), handle);
	heap_free(copy, record->now.email.data);
	heap_free(copy, record->now.roles);
	record->now = (struct user_version){0};
}

void fold_away_key(struct copy *copy, rule_handle handle)
{
	struct copy_key *record = key_at(copy, handle);

	index_remove(&copy->key_ids, hash_number(&copy->seed, record->id), handle);
	heap_free(copy, record->more);
	*record = (struct copy_key){.handle = handle};
	memset(table_at(&copy->hashes, handle), 0, COPY_HASH_LEN);
}

/* ---- folding: the last pending takes the place of its record (`take`), or goes; what the two share stays ---- */

static void fold_organization(struct copy *copy, bool take)
{
	struct pending_organization *p = pending_at(&copy->pending_organizations, copy->pending_organizations.count);
	struct organization_record *record = organization_at(copy, p->handle);
	struct organization_version keep = take ? p->version : record->now, drop = take ? record->now : p->version;

	if (drop.slug.data != keep.slug.data)
		fold_away_organization_slug(copy, p->handle, drop.slug);
	record->now = keep;
	record->pending = 0;
	if (!keep.exists) {
		fold_away_organization(copy, p->handle);
		copy->dead += take;
	}
}

static void fold_page(struct copy *copy, bool take)
{
	struct pending_page *p = pending_at(&copy->pending_pages, copy->pending_pages.count);
	struct page_record *record = page_at(copy, p->handle);
	struct page_version keep = take ? p->version : record->now, drop = take ? record->now : p->version;

	if (drop.slug.data != keep.slug.data)
		fold_away_page_slug(copy, p->handle, drop.organization, drop.slug);
	record->now = keep;
	record->pending = 0;
	if (!keep.exists) {
		fold_away_page(copy, p->handle);
		copy->dead += take;
	}
}

static void fold_user(struct copy *copy, bool take)
{
	struct pending_user *p = pending_at(&copy->pending_users, copy->pending_users.count);
	struct user_record *record = user_at(copy, p->handle);
	struct user_version keep = take ? p->version : record->now, drop = take ? record->now : p->version;

	if (drop.email.data != keep.email.data)
		heap_free(copy, drop.email.data);
	heap_free(copy, drop.roles);
	record->now = keep;
	record->pending = 0;
	if (!keep.exists) {
		fold_away_user(copy, p->handle);
		copy->dead += take;
	}
}

static void fold_key(struct copy *copy, bool take)
{
	struct pending_key *p = pending_at(&copy->pending_keys, copy->pending_keys.count);
	rule_handle handle = p->version.handle;
	struct copy_key *record = key_at(copy, handle);

	heap_free(copy, take ? record->more : p->version.more);
	if (take) {
		*record = p->version;
		memcpy(table_at(&copy->hashes, handle), &p->hash, sizeof(p->hash));
	}
	record->pending = 0;
	if (!record->exists) {
		fold_away_key(copy, handle);
		copy->dead += take;
	}
}

/* The last pending has been folded. */
static void folded(struct copy *copy, struct pendings *pendings)
{
	uint32_t chunk = --pendings->count / PENDINGS_CHUNK;

	if (chunk && pendings->count % PENDINGS_CHUNK == 0) {
		heap_free(copy, pendings->chunks[chunk]);
		pendings->chunks[chunk] = NULL;
	}
}

/* Folds at most *budget pendings; true while there are more. Pages first: they need their organizations' lists. */
static bool fold(struct copy *copy, uint32_t *budget, bool take)
{
	static const struct {
		size_t pendings; /* their place in the copy */
		void (*fold)(struct copy *copy, bool take);
	} kinds[] = {
		{offsetof(struct copy, pending_pages), fold_page},
		{offsetof(struct copy, pending_organizations), fold_organization},
		{offsetof(struct copy, pending_users), fold_user},
		{offsetof(struct copy, pending_keys), fold_key},
	};

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		struct pendings *pendings = (struct pendings *)((char *)copy + kinds[i].pendings);

		for (; pendings->count; --*budget) {
			if (!*budget)
				return true;
			kinds[i].fold(copy, take);
			folded(copy, pendings);
		}
	}
	return false;
}

/* What was discarded goes; its handles are taken back when nothing names them any more. */
static bool forget(struct copy *copy, uint32_t budget)
{
	if (fold(copy, &budget, false) || table_cut(&copy->organizations, &budget) ||
	    table_cut(&copy->pages, &budget) || table_cut(&copy->users, &budget) || table_cut(&copy->keys, &budget) ||
	    table_cut(&copy->hashes, &budget))
		return true;
	catalog_discard(copy);
	copy->next = copy->now;
	copy->discarded = false;
	return false;
}

bool copy_tidy(struct copy *copy, uint32_t budget)
{
	if (copy->discarded)
		return forget(copy, budget);
	if (!copy->published)
		return false;
	if (fold(copy, &budget, true))
		return true;
	catalog_fold(copy);
	copy->published = false;
	return false;
}

void copy_discard(struct copy *copy)
{
	copy->discarded = !copy->published && !copy->loading;
}
