#include "daemon/latency.h"

#include <stdio.h>

bool latency_stats(const struct latency *latency, const char *name, struct arena *arena, struct value *map)
{
	struct value *own = value_set(arena, map, name);
	uint64_t sum = 0;
	char bound[32];

	if (!own)
		return false;
	value_map(own);
	for (unsigned i = 0; i < LATENCY_BOUNDS; i++) {
		sum += latency->within[i];
		snprintf(bound, sizeof(bound), "le_%llu", 1ULL << (LATENCY_FIRST + i));
		if (!value_set_uint(arena, own, bound, sum))
			return false;
	}
	return value_set_uint(arena, own, "count", sum + latency->within[LATENCY_BOUNDS]) &&
	       value_set_uint(arena, own, "sum_us", latency->sum_ns / 1000);
}
