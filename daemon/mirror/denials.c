#include "daemon/mirror/denials.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

struct place {
	keytext_id id; /* where it is free: the next free place */
	int64_t retired_at;
	uint8_t flags;
	bool taken;
};

int denials_init(struct denials *denials, uint32_t limit)
{
	*denials = (struct denials){.limit = limit};
	table_init(&denials->places, sizeof(struct place));
	index_init(&denials->ids);
	if (getrandom(&denials->seed, sizeof(denials->seed), 0) == sizeof(denials->seed))
		return 0;
	return -EIO;
}

void denials_deinit(struct denials *denials)
{
	table_deinit(&denials->places);
	index_deinit(&denials->ids);
	*denials = (struct denials){0};
}

void denials_clear(struct denials *denials)
{
	size_t item = denials->places.item;

	table_deinit(&denials->places);
	table_init(&denials->places, item);
	index_deinit(&denials->ids);
	denials->count = denials->spare = 0;
}

static uint32_t find(const struct denials *denials, keytext_id id, uint64_t hash)
{
	uint32_t at = 0, place;

	while ((place = index_next(&denials->ids, hash, &at)))
		if (((const struct place *)table_at(&denials->places, place))->id == id)
			break;
	return place;
}

struct denial denials_of(const struct denials *denials, keytext_id id)
{
	uint32_t at = denials->count ? find(denials, id, hash_number(&denials->seed, id)) : 0;
	const struct place *place = at ? table_at(&denials->places, at) : NULL;

	return place ? (struct denial){.flags = place->flags, .retired_at = place->retired_at} : denial_none();
}

static void take_out(struct denials *denials, uint32_t at, uint64_t hash)
{
	index_remove(&denials->ids, hash, at);
	*(struct place *)table_at(&denials->places, at) = (struct place){.id = denials->spare};
	denials->spare = at;
	denials->count--;
}

/* A free place, still free: who fails after this has lost nothing. 0 without memory. */
static uint32_t free_place(struct denials *denials)
{
	if (!denials->spare)
		denials->spare = table_add(&denials->places);
	return denials->spare;
}

int denials_put(struct denials *denials, keytext_id id, struct denial denial)
{
	uint64_t hash = hash_number(&denials->seed, id);
	uint32_t at = denials->count ? find(denials, id, hash) : 0, next;
	struct place *place;

	if (denial_is_none(denial)) {
		if (at)
			take_out(denials, at, hash);
		return 0;
	}
	if (!at) {
		if (denials->count >= denials->limit)
			return -ENOSPC;
		at = free_place(denials);
		if (!at)
			return -ENOMEM;
		next = (uint32_t)((const struct place *)table_at(&denials->places, at))->id;
		if (index_add(&denials->ids, hash, at) < 0)
			return -ENOMEM;
		denials->spare = next;
		denials->count++;
	}
	place = table_at(&denials->places, at);
	*place = (struct place){.id = id, .retired_at = denial.retired_at, .flags = denial.flags, .taken = true};
	return 0;
}

bool denials_at(const struct denials *denials, uint32_t at, keytext_id *ret_id, struct denial *ret)
{
	const struct place *place = at && at < denials_end(denials) ? table_at(&denials->places, at) : NULL;

	if (!place || !place->taken)
		return false;
	*ret_id = place->id;
	*ret = (struct denial){.flags = place->flags, .retired_at = place->retired_at};
	return true;
}

size_t denials_bytes(const struct denials *denials)
{
	return table_bytes(&denials->places) + index_bytes(&denials->ids);
}
