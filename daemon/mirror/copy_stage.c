#include "daemon/mirror/copy_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- by id ---- */

/* What is staged to go is not found: if its id comes back, it is another thing, under another handle. */
#define FIND_BY_ID(copy, index, pendings, type, record_at, wanted)                                                     \
	uint64_t hash = hash_number(&(copy)->seed, (uint64_t)(wanted));                                                \
	uint32_t at = 0;                                                                                               \
	rule_handle handle;                                                                                            \
	while ((handle = index_next(&(copy)->index, hash, &at)))                                                       \
		if (record_at(copy, handle)->id == (wanted) &&                                                         \
		    COPY_VERSION(copy, pendings, type, record_at(copy, handle), true)->exists)                         \
			break;                                                                                         \
	return handle

rule_handle copy_organization_by_id(const struct copy *copy, int64_t id)
{
	FIND_BY_ID(copy, organization_ids, pending_organizations, struct pending_organization, organization_at, id);
}

rule_handle copy_page_by_id(const struct copy *copy, int64_t id)
{
	FIND_BY_ID(copy, page_ids, pending_pages, struct pending_page, page_at, id);
}

rule_handle copy_user_by_id(const struct copy *copy, int64_t id)
{
	FIND_BY_ID(copy, user_ids, pending_users, struct pending_user, user_at, id);
}

rule_handle copy_key_by_id(const struct copy *copy, keytext_id id)
{
	uint64_t hash = hash_number(&copy->seed, id);
	uint32_t at = 0;
	rule_handle handle;

	while ((handle = index_next(&copy->key_ids, hash, &at))) {
		const struct copy_key *record = key_at(copy, handle);
		const struct pending_key *pending =
			record->pending ? pending_at(&copy->pending_keys, record->pending) : NULL;

		if (record->id == id && (pending ? pending->version.exists : record->exists))
			break;
	}
	return handle;
}

/* ---- staging in general ---- */

void stage_begin(struct copy *copy)
{
	while (copy_tidy(copy, UINT32_MAX))
		;
}

int stage_reserve(struct copy *copy, struct pendings *pendings)
{
	uint32_t chunk = pendings->count / PENDINGS_CHUNK;

	if (copy->loading)
		return 0;
	if (chunk == pendings->chunk_room) {
		uint32_t room = chunk ? chunk * 2 : 4;
		void **chunks = heap_grow(copy, pendings->chunks, room * sizeof(*chunks));

		if (!chunks)
			return -ENOMEM;
		memset(chunks + chunk, 0, (room - chunk) * sizeof(*chunks));
		pendings->chunks = chunks;
		pendings->chunk_room = room;
	}
	if (!pendings->chunks[chunk])
		pendings->chunks[chunk] = heap_took(copy, malloc(PENDINGS_CHUNK * pendings->item));
	return pendings->chunks[chunk] ? 0 : -ENOMEM;
}

void *stage_add(struct pendings *pendings, uint32_t *ret_pending)
{
	*ret_pending = ++pendings->count;
	return memset(pending_at(pendings, pendings->count), 0, pendings->item);
}

rule_handle stage_make(struct copy *copy, struct table *table, struct index *index, uint64_t id)
{
	rule_handle handle = table_add(table);

	return handle && !index_add(index, hash_number(&copy->seed, id), handle) ? handle : 0;
}

bool stage_text(struct copy *copy, struct rpc_text from, struct text *ret)
{
	ret->data = heap_took(copy, malloc(from.len + 1));
	if (!ret->data)
		return false;
	memcpy(ret->data, from.data, from.len);
	ret->data[from.len] = 0;
	ret->len = from.len;
	return true;
}
