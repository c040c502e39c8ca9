/*
 * The inside of a copy, shared by copy.c (life, publish), copy_fold.c (tidy, discard), copy_stage.c, copy_catalog.c,
 * copy_put.c and copy_put_key.c (staging), copy_pages.c and copy_read.c.
 *
 * Versions. A record holds the published version of a thing; while a revision is staged, its next version stands in
 * a list of pendings, which the record's `pending` names (place + 1). `copy->published` says which of the two readers
 * see; it is set by one assignment, and tidying then folds the pendings into the records, a few at a time. Staging
 * begins only when that is done, so there are never three versions. A copy that was never published is filled in
 * place.
 *
 * Indexes and page lists may name a thing under a text that only one of its versions has: whoever looks compares
 * with the visible version.
 */
#ifndef APIKEYD_DAEMON_MIRROR_COPY_INTERNAL_H
#define APIKEYD_DAEMON_MIRROR_COPY_INTERNAL_H

#include <malloc.h>
#include <stdlib.h>

#include "daemon/mirror/copy.h"
#include "daemon/mirror/table.h"

struct text {
	char *data; /* owned by the version that it stands in; two versions of a thing may share it */
	uint32_t len;
};

struct page_entry {
	const char *slug; /* the page's own memory: it tells which version put the entry here */
	uint32_t len;
	rule_handle page;
};

enum { PAGE_RUN_FIRST = 4, PAGE_RUN = 256 }; /* the room of a run: when the list begins, and at most */

/*
 * Sorted by slug, and cut into runs, so that an entry comes or goes by moving few others. No run is empty; where there
 * are several, each has room for PAGE_RUN.
 */
struct page_list {
	struct page_run {
		struct page_entry *entries;
		uint32_t count, room;
	} * runs;
	uint32_t count, room;
};

struct organization_version {
	struct text slug;
	bool exists, suspended;
};
struct organization_record {
	struct organization_version now;
	uint32_t pending;
	int64_t id;
	struct page_list pages;
};

struct page_version {
	struct text slug;
	rule_handle organization;
	bool exists, archived;
};
struct page_record {
	struct page_version now;
	uint32_t pending;
	int64_t id;
};

struct user_roles {
	uint32_t organization_count, page_count;
	struct user_role {
		rule_handle at;
		rule_role role;
	} roles[]; /* organizations first, then pages; each part sorted by handle */
};
struct user_version {
	struct text email;
	struct user_roles *roles; /* NULL: none */
	bool exists, suspended;
};
struct user_record {
	struct user_version now;
	uint32_t pending;
	int64_t id;
};

/* What few keys have. */
struct key_more {
	int64_t not_before, retired_at;
	keytext_id successor;
	bool has_successor;
	uint32_t rate_count, rate_period_s;
	uint32_t page_count, scope_count, network_count;
	const rule_handle *pages;
	const struct rule_network *networks;
	const rule_scope *scopes;
	/* the arrays follow */
};
/* One cache line. */
struct copy_key {
	keytext_id id;
	int64_t expires_at;
	struct key_more *more; /* NULL: nothing of it */
	uint8_t proof[COPY_PROOF_LEN];
	rule_handle owner;
	rule_handle handle;
	uint32_t pending;
	uint16_t flags;
	uint16_t pepper;
	uint8_t kind;
	rule_role access;
	bool exists;
};
_Static_assert(sizeof(struct copy_key) == 64, "a key's record is one cache line");

struct hash_bytes {
	uint8_t bytes[COPY_HASH_LEN];
};

struct pending_organization {
	struct organization_version version;
	rule_handle handle;
};
struct pending_page {
	struct page_version version;
	rule_handle handle;
};
struct pending_user {
	struct user_version version;
	rule_handle handle;
};
struct pending_key {
	struct copy_key version;
	struct hash_bytes hash;
};

/*
 * A list that grows and shrinks at its end, in chunks, so that a great transaction is neither moved as it grows nor
 * given back all at once. Its first chunk stays.
 */
struct pendings {
	void **chunks;
	uint32_t chunk_room;
	uint32_t count;
	size_t item;
};
enum { PENDINGS_CHUNK = 64 };

struct tally {
	uint64_t organizations, pages, users, keys;
	uint64_t dropped; /* references to what did not stand in the copy */
};

struct copy {
	struct hash_seed seed;
	uint64_t rev;
	bool loading;	/* never published: filled in place */
	bool published; /* the pendings are what readers see */
	bool discarded; /* the pendings are what nobody will see */
	const struct denials *held;

	struct rule_catalog *catalog, *next_catalog; /* next: staged, or published and not yet tidied */
	uint16_t scope_slots[4096];		     /* by hash of the name: index in the catalog, 0: empty */
	uint16_t scope_count;			     /* names met so far + 1; the index of a name never changes */
	uint8_t role_count;
	char scope_names[RULE_SCOPES_MAX][RPC_SCOPE_MAX + 1];
	struct role_name {
		uint8_t place;
		char name[33];
	} role_names[RULE_ROLES_MAX];

	struct table organizations, pages, users, keys, hashes;
	struct index organization_ids, organization_slugs, page_ids, page_slugs, user_ids, key_ids;
	struct pendings pending_organizations, pending_pages, pending_users, pending_keys;
	struct tally now, next; /* as published, and with what is staged */
	uint64_t dead;		/* handles whose things are gone */
	uint64_t heap_bytes;	/* of texts, roles, page lists, pendings and what few keys have */
};

/* ---- versions: what readers see, and what the writer sees ---- */

/* `place` counts from 1, as in a record's `pending`. */
static inline void *pending_at(const struct pendings *pendings, uint32_t place)
{
	return (char *)pendings->chunks[(place - 1) / PENDINGS_CHUNK] +
	       (size_t)((place - 1) % PENDINGS_CHUNK) * pendings->item;
}

#define COPY_VERSION(copy, pendings, type, record, seen)                                                               \
	((seen) && (record)->pending ? &((type *)pending_at(&(copy)->pendings, (record)->pending))->version            \
				     : &(record)->now)

static inline const struct organization_version *organization_seen(const struct copy *copy,
								   const struct organization_record *record)
{
	return COPY_VERSION(copy, pending_organizations, struct pending_organization, record, copy->published);
}
static inline const struct page_version *page_seen(const struct copy *copy, const struct page_record *record)
{
	return COPY_VERSION(copy, pending_pages, struct pending_page, record, copy->published);
}
static inline const struct user_version *user_seen(const struct copy *copy, const struct user_record *record)
{
	return COPY_VERSION(copy, pending_users, struct pending_user, record, copy->published);
}
static inline const struct copy_key *key_seen(const struct copy *copy, const struct copy_key *record)
{
	return copy->published && record->pending
		       ? &((struct pending_key *)pending_at(&copy->pending_keys, record->pending))->version
		       : record;
}
/* Whether a reader sees it. What refers to an organization that is gone is not reachable either. */
static inline bool organization_is_there(const struct copy *copy, rule_handle handle)
{
	return handle && handle < copy->organizations.next &&
	       organization_seen(copy, table_at(&copy->organizations, handle))->exists;
}
static inline const struct rule_catalog *catalog_seen(const struct copy *copy)
{
	return copy->published && copy->next_catalog ? copy->next_catalog : copy->catalog;
}

/* ---- memory, with its account ---- */

static inline void *heap_took(struct copy *copy, void *memory)
{
	copy->heap_bytes += memory ? malloc_usable_size(memory) + sizeof(size_t) : 0;
	return memory;
}
static inline void heap_free(struct copy *copy, void *memory)
{
	copy->heap_bytes -= memory ? malloc_usable_size(memory) + sizeof(size_t) : 0;
	free(memory);
}
/* As realloc. */
static inline void *heap_grow(struct copy *copy, void *memory, size_t size)
{
	uint64_t before = memory ? malloc_usable_size(memory) + sizeof(size_t) : 0;
	void *moved = heap_took(copy, realloc(memory, size));

	copy->heap_bytes -= moved ? before : 0;
	return moved;
}

/* ---- by id, as it will be once all that is staged is published; 0: nothing ---- */
rule_handle copy_organization_by_id(const struct copy *copy, int64_t id);
rule_handle copy_page_by_id(const struct copy *copy, int64_t id);
rule_handle copy_user_by_id(const struct copy *copy, int64_t id);
rule_handle copy_key_by_id(const struct copy *copy, keytext_id id);

static inline struct organization_record *organization_at(const struct copy *copy, rule_handle handle)
{
	return table_at(&copy->organizations, handle);
}
static inline struct page_record *page_at(const struct copy *copy, rule_handle handle)
{
	return table_at(&copy->pages, handle);
}
static inline struct user_record *user_at(const struct copy *copy, rule_handle handle)
{
	return table_at(&copy->users, handle);
}
static inline struct copy_key *key_at(const struct copy *copy, rule_handle handle)
{
	return table_at(&copy->keys, handle);
}

/* ---- staging in general (copy_stage.c) ---- */
/* Before anything is staged: what was published must be folded in. */
void stage_begin(struct copy *copy);
/*
 * Room for one more pending, before a thing is made or changed: nothing is made that could not be staged, for what has
 * no pending is not forgotten with the others. -ENOMEM, or 0.
 */
int stage_reserve(struct copy *copy, struct pendings *pendings);
/* The reserved pending, zeroed; its place + 1 goes to *ret_pending. */
void *stage_add(struct pendings *pendings, uint32_t *ret_pending);
/* A record for a thing that was never met: made, and put into the index by id. 0 without memory. */
rule_handle stage_make(struct copy *copy, struct table *table, struct index *index, uint64_t id);
bool stage_text(struct copy *copy, struct rpc_text from, struct text *ret);

/* ---- what is gone leaves the indexes and the lists, its memory is given back, its record zeroed (copy_fold.c) ---- */
void fold_away_organization(struct copy *copy, rule_handle handle);
void fold_away_page(struct copy *copy, rule_handle handle);
void fold_away_user(struct copy *copy, rule_handle handle);
void fold_away_key(struct copy *copy, rule_handle handle);
/* A slug that is nobody's any more. */
void fold_away_organization_slug(struct copy *copy, rule_handle handle, struct text slug);
void fold_away_page_slug(struct copy *copy, rule_handle handle, rule_handle organization, struct text slug);

/* ---- page lists (copy_pages.c) ---- */
int page_list_add(struct copy *copy, struct page_list *list, struct text slug, rule_handle page);
void page_list_remove(struct copy *copy, struct page_list *list,
		      struct text slug); /* the entry with this very memory */
void page_list_deinit(struct copy *copy, struct page_list *list);

/* ---- catalog (copy_catalog.c) ---- */
/* What stands in the table once all that is staged is published; 0: nothing. */
rule_scope catalog_scope(const struct copy *copy, struct rpc_text name);
rule_role catalog_role(const struct copy *copy, enum rule_role_place place, struct rpc_text name);
void catalog_fold(struct copy *copy);
void catalog_discard(struct copy *copy);

#endif
