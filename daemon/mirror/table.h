/*
 * Two containers of the copy: records that never move, and an index that never stops the world.
 *
 * table: records in chunks, by handle; handles are given in order from 1 and never again.
 * index: from a 64-bit hash to handles; several things may share a hash (or a slug, while a rename is staged), so a
 * look-up walks candidates and the caller compares. Cut into segments by the hash's top bits; each grows by itself,
 * so no insertion moves more than a thousandth of the whole.
 *
 * Used by daemon/mirror/ alone. Allocation failure: -ENOMEM, with nothing changed.
 */
#ifndef APIKEYD_DAEMON_MIRROR_TABLE_H
#define APIKEYD_DAEMON_MIRROR_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TABLE_CHUNK = 4096, INDEX_SEGMENT_BITS = 10, INDEX_SEGMENTS = 1 << INDEX_SEGMENT_BITS };

struct table {
	void **chunks;
	uint32_t chunk_room;
	uint32_t next; /* the handle that the next thing gets; at least 1 once in use */
	uint32_t mark; /* `next` as of the last table_keep */
	size_t item;   /* bytes of a record */
};

void table_init(struct table *table, size_t item);
void table_deinit(struct table *table);
/* Makes a zeroed record; its handle, or 0 without memory (or after 2^32 - 2 of them). */
uint32_t table_add(struct table *table);
/* What table_add gave so far is kept. */
void table_keep(struct table *table);
/*
 * What it gave since is taken back, the last first, as many as there is budget: nobody has seen those handles. The records
 * are zeroed. True while there are more.
 */
bool table_cut(struct table *table, uint32_t *budget);
size_t table_bytes(const struct table *table);

/* `handle` was given by table_add. */
static inline void *table_at(const struct table *table, uint32_t handle)
{
	return (char *)table->chunks[handle / TABLE_CHUNK] + (size_t)(handle % TABLE_CHUNK) * table->item;
}

struct index_segment {
	uint64_t *slots; /* tag in the upper half, handle in the lower; 0: empty; handle UINT32_MAX: was removed */
	uint32_t room;	 /* a power of two, or 0 */
	uint32_t used;	 /* the removed ones counted */
	uint32_t live;
};

struct index {
	struct index_segment segments[INDEX_SEGMENTS];
};

void index_init(struct index *index);
void index_deinit(struct index *index);
/* Makes room for `expected` entries in all, so that none of them makes a segment grow. */
int index_reserve(struct index *index, uint64_t expected);
int index_add(struct index *index, uint64_t hash, uint32_t handle);
void index_remove(struct index *index, uint64_t hash, uint32_t handle); /* fine where it is not there */
size_t index_bytes(const struct index *index);

static inline const struct index_segment *index_segment(const struct index *index, uint64_t hash)
{
	return &index->segments[hash >> (64 - INDEX_SEGMENT_BITS)];
}

static inline void index_prefetch(const struct index *index, uint64_t hash)
{
	const struct index_segment *segment = index_segment(index, hash);

	if (segment->room)
		__builtin_prefetch(&segment->slots[(uint32_t)hash & (segment->room - 1)]);
}

/*
 * The candidates for a hash, one after the other: start with *at = 0; returns a handle, or 0 at the end.
 */
static inline uint32_t index_next(const struct index *index, uint64_t hash, uint32_t *at)
{
	const struct index_segment *segment = index_segment(index, hash);
	uint32_t tag = (uint32_t)hash;

	while (*at < segment->room) {
		uint64_t slot = segment->slots[(tag + (*at)++) & (segment->room - 1)];

		if (!slot)
			return 0;
		if (slot >> 32 == tag && (uint32_t)slot != UINT32_MAX)
			return (uint32_t)slot;
	}
	return 0;
}

/* Seeded hashes. Numbers: a mixer of splitmix64's kind. Text: SipHash-1-3, since slugs are chosen by strangers. */
struct hash_seed {
	uint64_t k0, k1;
};
uint64_t hash_number(const struct hash_seed *seed, uint64_t number);
uint64_t hash_text(const struct hash_seed *seed, const void *text, size_t len);

#endif
