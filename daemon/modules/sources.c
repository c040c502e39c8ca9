#include "daemon/modules/sources.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/modules/siphash.h"

struct sources {
	struct siphash_key key;
	uint64_t mask;	       /* of sets */
	struct source *places; /* SOURCES_WAYS for each set */
};

int sources_new(uint32_t entries, struct sources **ret)
{
	struct sources *sources = calloc(1, sizeof(*sources));
	uint64_t sets = 1;
	int rc = -ENOMEM;

	if (!sources)
		return -ENOMEM;
	while (sets * SOURCES_WAYS < entries)
		sets *= 2;
	sources->mask = sets - 1;
	sources->places = calloc(sets * SOURCES_WAYS, sizeof(*sources->places));
	if (sources->places)
		rc = siphash_key_init(&sources->key);
	if (rc != 0) {
		sources_free(sources);
		return rc;
	}
	*ret = sources;
	return 0;
}

void sources_free(struct sources *sources)
{
	if (!sources)
		return;
	free(sources->places);
	free(sources);
}

struct apikeyd_network sources_network(const struct apikeyd_addr *addr, unsigned prefix4, unsigned prefix6)
{
	struct apikeyd_network network = {.family = addr->family};
	unsigned bits = addr->family == 4 ? prefix4 : prefix6;

	network.prefix = (uint8_t)bits;
	memcpy(network.bytes, addr->bytes, bits / 8);
	if (bits % 8 > 0)
		network.bytes[bits / 8] = (uint8_t)(addr->bytes[bits / 8] & 0xff00u >> bits % 8);
	return network;
}

/* All bytes of the struct are its fields, and sources_network fills in each. */
static bool same(const struct apikeyd_network *a, const struct apikeyd_network *b)
{
	return a->family == b->family && a->prefix == b->prefix && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static struct source *set_of(const struct sources *sources, const struct apikeyd_network *network)
{
	uint8_t bytes[1 + sizeof(network->bytes)];

	bytes[0] = network->family;
	memcpy(bytes + 1, network->bytes, sizeof(network->bytes));
	return sources->places + (siphash(&sources->key, bytes, sizeof(bytes)) & sources->mask) * SOURCES_WAYS;
}

struct source *sources_find(struct sources *sources, const struct apikeyd_network *network)
{
	struct source *set = set_of(sources, network);

	for (unsigned i = 0; i < SOURCES_WAYS; i++) {
		if (same(&set[i].network, network))
			return &set[i];
	}
	return NULL;
}

struct source *sources_take(struct sources *sources, const struct apikeyd_network *network)
{
	struct source *set = set_of(sources, network), *least = &set[0];

	for (unsigned i = 0; i < SOURCES_WAYS; i++) {
		if (same(&set[i].network, network))
			return &set[i];
		if (set[i].full.us < least->full.us)
			least = &set[i];
	}
	*least = (struct source){.network = *network};
	return least;
}
