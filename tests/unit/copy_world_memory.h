/*
 * An allocator that fails when it is told to. The linker puts it between daemon/mirror/ and the C library (--wrap), so a
 * test program that links it names malloc, calloc, realloc, aligned_alloc, free and getrandom there.
 *
 * Always holds: while nothing is armed, all goes through to the C library, but for the seed of a copy's hashes, which
 * the test gives: the same steps then make the same allocations.
 */
#ifndef APIKEYD_TESTS_UNIT_COPY_WORLD_MEMORY_H
#define APIKEYD_TESTS_UNIT_COPY_WORLD_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

enum memory_allocator { MEMORY_MALLOC, MEMORY_CALLOC, MEMORY_REALLOC, MEMORY_ALIGNED_ALLOC, MEMORY_ALLOCATORS };

struct memory {
	bool armed, failed;
	uint32_t left;	/* allocations that still succeed */
	int64_t blocks; /* that are out */
	unsigned long failures[MEMORY_ALLOCATORS];
	uint64_t hash_seed; /* of the copies that are made from now on */
	bool no_seed;	    /* getrandom fails */
};
extern struct memory memory;

/* The allocation after `left` others fails, and none after it. */
void memory_arm(uint32_t left);
/* Whether one failed. */
bool memory_disarm(void);

#endif
