#include "daemon/mirror/copy_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool text_same(struct text a, struct rpc_text b)
{
	return a.data && b.data && a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* ---- organizations ---- */

static struct organization_version *organization_stage(struct copy *copy, rule_handle handle)
{
	struct organization_record *record = organization_at(copy, handle);
	struct pending_organization *pending;

	if (copy->loading)
		return &record->now;
	if (record->pending) {
		pending = pending_at(&copy->pending_organizations, record->pending);
		return &pending->version;
	}
	pending = stage_add(&copy->pending_organizations, &record->pending);
	pending->handle = handle;
	pending->version = record->now;
	return &pending->version;
}

int copy_put_organization(struct copy *copy, const struct copy_organization_row *row)
{
	if (!row->slug.data || !row->slug.len || row->slug.len > RPC_NAME_MAX)
		return -EINVAL;
	stage_begin(copy);
	rule_handle handle = copy_organization_by_id(copy, row->id);

	if (stage_reserve(copy, &copy->pending_organizations))
		return -ENOMEM;
	if (!handle && !(handle = stage_make(copy, &copy->organizations, &copy->organization_ids, (uint64_t)row->id)))
		return -ENOMEM;
	struct organization_record *record = organization_at(copy, handle);

	record->id = row->id;
	struct organization_version *version = organization_stage(copy, handle);

	if (!text_same(version->slug, row->slug)) {
		struct text slug;

		if (!stage_text(copy, row->slug, &slug))
			return -ENOMEM;
		if (index_add(&copy->organization_slugs, hash_text(&copy->seed, slug.data, slug.len), handle)) {
			heap_free(copy, slug.data);
			return -ENOMEM;
		}
		/* A slug that this same staging brought is nobody's any more. */
		if (copy->loading || version->slug.data != record->now.slug.data)
			fold_away_organization_slug(copy, handle, version->slug);
		version->slug = slug;
	}
	version->suspended = row->suspended;
	copy->next.organizations += !version->exists;
	version->exists = true;
	return 0;
}

int copy_remove_organization(struct copy *copy, int64_t id)
{
	stage_begin(copy);
	rule_handle handle = copy_organization_by_id(copy, id);

	if (!handle)
		return 0;
	if (stage_reserve(copy, &copy->pending_organizations))
		return -ENOMEM;
	organization_stage(copy, handle)->exists = false;
	copy->next.organizations--;
	if (copy->loading) {
		fold_away_organization(copy, handle);
		copy->dead++;
	}
	return 0;
}

/* ---- pages ---- */

static struct page_version *page_stage(struct copy *copy, rule_handle handle)
{
	struct page_record *record = page_at(copy, handle);
	struct pending_page *pending;

	if (copy->loading)
		return &record->now;
	if (record->pending) {
		pending = pending_at(&copy->pending_pages, record->pending);
		return &pending->version;
	}
	pending = stage_add(&copy->pending_pages, &record->pending);
	pending->handle = handle;
	pending->version = record->now;
	return &pending->version;
}

/* A new slug: new memory, which tells its entries from the old version's. */
static int page_place(struct copy *copy, rule_handle handle, struct page_version *version, rule_handle organization,
		      struct rpc_text wanted)
{
	const struct page_version *now = &page_at(copy, handle)->now;
	struct text slug;

	if (!stage_text(copy, wanted, &slug))
		return -ENOMEM;
	uint64_t hash = hash_text(&copy->seed, slug.data, slug.len);

	if (index_add(&copy->page_slugs, hash, handle)) {
		heap_free(copy, slug.data);
		return -ENOMEM;
	}
	if (page_list_add(copy, &organization_at(copy, organization)->pages, slug, handle)) {
		index_remove(&copy->page_slugs, hash, handle);
		heap_free(copy, slug.data);
		return -ENOMEM;
	}
	if (copy->loading || version->slug.data != now->slug.data)
		fold_away_page_slug(copy, handle, version->organization, version->slug);
	version->slug = slug;
	version->organization = organization;
	return 0;
}

static const struct page_version *page_staged(const struct copy *copy, rule_handle handle)
{
	return COPY_VERSION(copy, pending_pages, struct pending_page, page_at(copy, handle), true);
}

int copy_put_page(struct copy *copy, const struct copy_page_row *row)
{
	if (!row->slug.data || !row->slug.len || row->slug.len > RPC_PAGE_MAX)
		return -EINVAL;
	stage_begin(copy);
	rule_handle organization = copy_organization_by_id(copy, row->organization_id);

	if (!organization) {
		copy->next.dropped++;
		return copy_remove_page(copy, row->id);
	}
	rule_handle handle = copy_page_by_id(copy, row->id);

	/* A page never changes hands: in another organization it is another page, to all that refer to it. */
	if (handle && page_staged(copy, handle)->organization != organization) {
		int err = copy_remove_page(copy, row->id);

		if (err)
			return err;
		handle = 0;
	}
	if (stage_reserve(copy, &copy->pending_pages))
		return -ENOMEM;
	if (!handle && !(handle = stage_make(copy, &copy->pages, &copy->page_ids, (uint64_t)row->id)))
		return -ENOMEM;
	page_at(copy, handle)->id = row->id;
	struct page_version *version = page_stage(copy, handle);

	if (!text_same(version->slug, row->slug)) {
		int err = page_place(copy, handle, version, organization, row->slug);

		if (err)
			return err;
	}
	version->archived = row->archived;
	copy->next.pages += !version->exists;
	version->exists = true;
	return 0;
}

int copy_remove_page(struct copy *copy, int64_t id)
{
	stage_begin(copy);
	rule_handle handle = copy_page_by_id(copy, id);

	if (!handle)
		return 0;
	if (stage_reserve(copy, &copy->pending_pages))
		return -ENOMEM;
	page_stage(copy, handle)->exists = false;
	copy->next.pages--;
	if (copy->loading) {
		fold_away_page(copy, handle);
		copy->dead++;
	}
	return 0;
}

/* ---- users ---- */

static struct user_version *user_stage(struct copy *copy, rule_handle handle)
{
	struct user_record *record = user_at(copy, handle);
	struct pending_user *pending;

	if (copy->loading)
		return &record->now;
	if (record->pending) {
		pending = pending_at(&copy->pending_users, record->pending);
		return &pending->version;
	}
	pending = stage_add(&copy->pending_users, &record->pending);
	pending->handle = handle;
	pending->version = record->now;
	pending->version.roles = NULL; /* each version has its own */
	return &pending->version;
}

static int compare_roles(const void *a, const void *b)
{
	const struct user_role *x = a, *y = b;

	return (x->at > y->at) - (x->at < y->at);
}

static int roles_of(struct copy *copy, const struct copy_user_row *row, struct user_roles **ret)
{
	uint32_t count = row->organization_count + row->page_count, n = 0;

	*ret = NULL;
	if (!count)
		return 0;
	struct user_roles *roles = heap_took(copy, calloc(1, sizeof(*roles) + count * sizeof(*roles->roles)));

	if (!roles)
		return -ENOMEM;
	for (uint32_t i = 0; i < row->organization_count; i++) {
		const struct copy_role_at *from = &row->organizations[i];
		struct user_role role = {copy_organization_by_id(copy, from->id),
					 catalog_role(copy, RULE_ROLE_ORGANIZATION, from->role)};

		if (role.at && role.role)
			roles->roles[n++] = role;
		else
			copy->next.dropped++;
	}
	roles->organization_count = n;
	for (uint32_t i = 0; i < row->page_count; i++) {
		const struct copy_role_at *from = &row->pages[i];
		struct user_role role = {copy_page_by_id(copy, from->id),
					 catalog_role(copy, RULE_ROLE_PAGE, from->role)};

		if (role.at && role.role)
			roles->roles[n++] = role;
		else
			copy->next.dropped++;
	}
	roles->page_count = n - roles->organization_count;
	qsort(roles->roles, roles->organization_count, sizeof(*roles->roles), compare_roles);
	qsort(roles->roles + roles->organization_count, roles->page_count, sizeof(*roles->roles), compare_roles);
	*ret = roles;
	return 0;
}

int copy_put_user(struct copy *copy, const struct copy_user_row *row)
{
	if (!row->email.data || row->email.len > RPC_NAME_MAX)
		return -EINVAL;
	stage_begin(copy);
	rule_handle handle = copy_user_by_id(copy, row->id);

	if (stage_reserve(copy, &copy->pending_users))
		return -ENOMEM;
	if (!handle && !(handle = stage_make(copy, &copy->users, &copy->user_ids, (uint64_t)row->id)))
		return -ENOMEM;
	struct user_record *record = user_at(copy, handle);

	record->id = row->id;
	struct user_version *version = user_stage(copy, handle);
	struct user_roles *roles;

	if (roles_of(copy, row, &roles))
		return -ENOMEM;
	heap_free(copy, version->roles);
	version->roles = roles;
	if (!text_same(version->email, row->email)) {
		struct text email;

		if (!stage_text(copy, row->email, &email))
			return -ENOMEM;
		if (copy->loading || version->email.data != record->now.email.data)
			heap_free(copy, version->email.data);
		version->email = email;
	}
	version->suspended = row->suspended;
	copy->next.users += !version->exists;
	version->exists = true;
	return 0;
}

int copy_remove_user(struct copy *copy, int64_t id)
{
	stage_begin(copy);
	rule_handle handle = copy_user_by_id(copy, id);

	if (!handle)
		return 0;
	if (stage_reserve(copy, &copy->pending_users))
		return -ENOMEM;
	user_stage(copy, handle)->exists = false;
	copy->next.users--;
	if (copy->loading) {
		fold_away_user(copy, handle);
		copy->dead++;
	}
	return 0;
}
