#include "daemon/mirror/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT_ROOM_MIN = 8 };

void table_init(struct table *table, size_t item)
{
	*table = (struct table){.item = item, .next = 1, .mark = 1};
}

void table_deinit(struct table *table)
{
	for (uint32_t i = 0; i < table->chunk_room; i++)
		free(table->chunks[i]);
	free(table->chunks);
	*table = (struct table){0};
}

uint32_t table_add(struct table *table)
{
	uint32_t chunk = table->next / TABLE_CHUNK;

	if (table->next == UINT32_MAX)
		return 0;
	if (chunk >= table->chunk_room) {
		uint32_t room = table->chunk_room ? table->chunk_room * 2 : 4;
		void **chunks = realloc(table->chunks, room * sizeof(*chunks));

		if (!chunks)
			return 0;
		memset(chunks + table->chunk_room, 0, (room - table->chunk_room) * sizeof(*chunks));
		table->chunks = chunks;
		table->chunk_room = room;
	}
	if (!table->chunks[chunk]) {
		/* A cache line is one key's record: aligned, it is one miss. */
		void *memory = aligned_alloc(64, TABLE_CHUNK * table->item);

		if (!memory)
			return 0;
		memset(memory, 0, TABLE_CHUNK * table->item);
		table->chunks[chunk] = memory;
	}
	return table->next++;
}

void table_keep(struct table *table)
{
	table->mark = table->next;
}

bool table_cut(struct table *table, uint32_t *budget)
{
	for (; table->next > table->mark; --*budget) {
		if (!*budget)
			return true;
		memset(table_at(table, --table->next), 0, table->item);
	}
	return false;
}

size_t table_bytes(const struct table *table)
{
	size_t bytes = table->chunk_room * sizeof(*table->chunks);

	for (uint32_t i = 0; i < table->chunk_room; i++)
		if (table->chunks[i])
			bytes += TABLE_CHUNK * table->item;
	return bytes;
}

void index_init(struct index *index)
{
	memset(index, 0, sizeof(*index));
}

void index_deinit(struct index *index)
{
	for (unsigned i = 0; i < INDEX_SEGMENTS; i++)
		free(index->segments[i].slots);
	index_init(index);
}

static void segment_put(struct index_segment *segment, uint64_t slot)
{
	uint32_t at = (uint32_t)(slot >> 32);

	while (segment->slots[at & (segment->room - 1)])
		at++;
	segment->slots[at & (segment->room - 1)] = slot;
	segment->used++;
	segment->live++;
}

static int segment_rebuild(struct index_segment *segment, uint32_t room)
{
	struct index_segment fresh = {.slots = calloc(room, sizeof(*fresh.slots)), .room = room};

	if (!fresh.slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < segment->room; i++)
		if (segment->slots[i] && (uint32_t)segment->slots[i] != UINT32_MAX)
			segment_put(&fresh, segment->slots[i]);
	free(segment->slots);
	*segment = fresh;
	return 0;
}

/* A power of two in which `live` entries fill at most three quarters. */
static uint32_t room_for(uint64_t live)
{
	uint32_t room = SEGMENT_ROOM_MIN;

	while ((uint64_t)room * 3 < live * 4)
		room *= 2;
	return room;
}

int index_reserve(struct index *index, uint64_t expected)
{
	/* Hashes spread unevenly: a share and a little more. */
	uint64_t share = expected / INDEX_SEGMENTS;
	uint32_t room = room_for(share + share / 16 + 2);

	if (!expected)
		return 0;
	for (unsigned i = 0; i < INDEX_SEGMENTS; i++)
		if (index->segments[i].room < room && segment_rebuild(&index->segments[i], room))
			return -ENOMEM;
	return 0;
}

int index_add(struct index *index, uint64_t hash, uint32_t handle)
{
	struct index_segment *segment = &index->segments[hash >> (64 - INDEX_SEGMENT_BITS)];

	if ((uint64_t)(segment->used + 1) * 4 > (uint64_t)segment->room * 3) {
		int err = segment_rebuild(segment, room_for((uint64_t)segment->live * 3 / 2 + 1));

		if (err)
			return err;
	}
	segment_put(segment, (uint64_t)(uint32_t)hash << 32 | handle);
	return 0;
}

void index_remove(struct index *index, uint64_t hash, uint32_t handle)
{
	struct index_segment *segment = &index->segments[hash >> (64 - INDEX_SEGMENT_BITS)];
	uint64_t wanted = (uint64_t)(uint32_t)hash << 32 | handle;

	for (uint32_t i = 0; i < segment->room; i++) {
		uint64_t *slot = &segment->slots[((uint32_t)hash + i) & (segment->room - 1)];

		if (!*slot)
			return;
		if (*slot == wanted) {
			*slot = (uint64_t)(uint32_t)hash << 32 | UINT32_MAX;
			segment->live--;
			return;
		}
	}
}

size_t index_bytes(const struct index *index)
{
	size_t bytes = sizeof(*index);

	for (unsigned i = 0; i < INDEX_SEGMENTS; i++)
		bytes += index->segments[i].room * sizeof(uint64_t);
	return bytes;
}

uint64_t hash_number(const struct hash_seed *seed, uint64_t number)
{
	uint64_t x = number ^ seed->k0;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27 ^ seed->k1) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static inline uint64_t turn(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

/* SipHash (Aumasson, Bernstein, 2012) with one round a word and three at the end. */
static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = turn(v[1], 13) ^ v[0];
	v[3] = turn(v[3], 16) ^ v[2];
	v[0] = turn(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = turn(v[1], 17) ^ v[2];
	v[3] = turn(v[3], 21) ^ v[0];
	v[2] = turn(v[2], 32);
}

uint64_t hash_text(const struct hash_seed *seed, const void *text, size_t len)
{
	const unsigned char *p = text;
	uint64_t v[4] = {seed->k0 ^ 0x736f6d6570736575, seed->k1 ^ 0x646f72616e646f6d, seed->k0 ^ 0x6c7967656e657261,
			 seed->k1 ^ 0x7465646279746573};
	uint64_t word, left = len;

	for (; left >= 8; left -= 8, p += 8) {
		memcpy(&word, p, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	word = (uint64_t)len << 56;
	for (unsigned i = 0; i < left; i++)
		word |= (uint64_t)p[i] << 8 * i;
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
