#include "daemon/modules/meters.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/modules/siphash.h"

struct due {
	int64_t us; /* the bucket is not full before */
	uint32_t meter;
};

struct meters {
	struct siphash_key key;
	uint32_t entries, used;
	uint32_t id_max;
	uint32_t mask;	      /* of chains */
	uint32_t *chains;     /* meters from 1; 0: empty */
	struct meter *meters; /* `entries` */
	struct due *heap;     /* `used` of `entries`, the earliest first */
	char *ids;	      /* `entries` of id_max bytes */
};

int meters_new(uint32_t entries, uint32_t id_max, struct meters **ret)
{
	struct meters *meters = calloc(1, sizeof(*meters));
	uint32_t chains = 1;
	int rc = -ENOMEM;

	if (!meters)
		return -ENOMEM;
	while (chains < entries)
		chains *= 2;
	*meters = (struct meters){
		.entries = entries,
		.id_max = id_max,
		.mask = chains - 1,
		.chains = calloc(chains, sizeof(*meters->chains)),
		.meters = calloc(entries, sizeof(*meters->meters)),
		.heap = calloc(entries, sizeof(*meters->heap)),
		.ids = calloc(entries, id_max),
	};
	if (meters->chains && meters->meters && meters->heap && meters->ids)
		rc = siphash_key_init(&meters->key);
	if (rc != 0) {
		meters_free(meters);
		return rc;
	}
	*ret = meters;
	return 0;
}

void meters_free(struct meters *meters)
{
	if (!meters)
		return;
	free(meters->chains);
	free(meters->meters);
	free(meters->heap);
	free(meters->ids);
	free(meters);
}

/* ---- identities ---- */

bool meters_key(const struct meters *meters, const void *id, size_t len, struct meters_key *ret)
{
	if (len > meters->id_max)
		return false;
	*ret = (struct meters_key){.id = id, .id_len = (uint32_t)len, .hash = siphash(&meters->key, id, len)};
	return true;
}

static char *id_of(const struct meters *meters, uint32_t meter)
{
	return meters->ids + (size_t)meter * meters->id_max;
}

struct meter *meters_find(struct meters *meters, const struct meters_key *key)
{
	uint32_t at = meters->chains[key->hash & meters->mask];

	for (; at != 0; at = meters->meters[at - 1].next) {
		struct meter *meter = &meters->meters[at - 1];

		if (meter->hash == key->hash && meter->id_len == key->id_len &&
		    memcmp(id_of(meters, at - 1), key->id, key->id_len) == 0)
			return meter;
	}
	return NULL;
}

static void forget(struct meters *meters, uint32_t number)
{
	struct meter *meter = &meters->meters[number];
	uint32_t *link = &meters->chains[meter->hash & meters->mask];

	while (*link != number + 1)
		link = &meters->meters[*link - 1].next;
	*link = meter->next;
}

/* ---- the heap ---- */

static void sift_down(struct meters *meters, uint32_t at)
{
	struct due moving = meters->heap[at];

	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child >= meters->used)
			break;
		if (child + 1 < meters->used && meters->heap[child + 1].us < meters->heap[child].us)
			child++;
		if (meters->heap[child].us >= moving.us)
			break;
		meters->heap[at] = meters->heap[child];
		at = child;
	}
	meters->heap[at] = moving;
}

static void sift_up(struct meters *meters, uint32_t at)
{
	struct due moving = meters->heap[at];

	while (at > 0 && meters->heap[(at - 1) / 2].us > moving.us) {
		meters->heap[at] = meters->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	meters->heap[at] = moving;
}

/*
 * Puts a bucket that is full at the heap's top, if there is one; gives up after `tries` that only seemed to be. Each
 * try sets one right, and spending once makes one wrong at most: so the tries are paid for by what was spent.
 */
static bool full_on_top(struct meters *meters, int64_t now_us, uint32_t tries)
{
	while (meters->used > 0 && meters->heap[0].us <= now_us) {
		const struct meter *meter = &meters->meters[meters->heap[0].meter];

		if (gcra_is_full(&meter->full, now_us))
			return true;
		if (tries-- == 0)
			return false;
		/* Never before the next microsecond, so that each try moves on. */
		meters->heap[0].us = meter->full.us > now_us ? meter->full.us : now_us + 1;
		sift_down(meters, 0);
	}
	return false;
}

bool meters_has_room(struct meters *meters, int64_t now_us)
{
	return meters->used < meters->entries || full_on_top(meters, now_us, UINT32_MAX);
}

bool meters_add(struct meters *meters, const struct meters_key *key, const struct gcra_time *full, int64_t now_us)
{
	bool unused = meters->used < meters->entries, taken;
	uint32_t *chain = &meters->chains[key->hash & meters->mask];
	uint32_t number;

	/* An old one first, as far as that is cheap: so memory is touched for those alive, not for all there ever were. */
	taken = full_on_top(meters, now_us, unused ? 2 : UINT32_MAX);
	if (!taken && !unused)
		return false;
	if (taken) {
		number = meters->heap[0].meter;
		forget(meters, number);
	} else {
		number = meters->used;
	}
	meters->meters[number] =
		(struct meter){.full = *full, .hash = key->hash, .next = *chain, .id_len = key->id_len};
	*chain = number + 1;
	memcpy(id_of(meters, number), key->id, key->id_len);
	if (taken) {
		meters->heap[0].us = full->us;
		sift_down(meters, 0);
	} else {
		meters->heap[meters->used++] = (struct due){.us = full->us, .meter = number};
		sift_up(meters, meters->used - 1);
	}
	return true;
}

void meters_set_earlier(struct meters *meters, struct meter *meter, const struct gcra_time *full)
{
	uint32_t number = (uint32_t)(meter - meters->meters);

	meter->full = *full;
	for (uint32_t i = 0; i < meters->used; i++) {
		if (meters->heap[i].meter == number && meters->heap[i].us > full->us) {
			meters->heap[i].us = full->us;
			sift_up(meters, i);
			return;
		}
	}
}
