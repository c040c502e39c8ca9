#include "tests/unit/copy_world_memory.h"

#include <errno.h>
#include <stddef.h>
#include <sys/types.h>

#include "tests/unit/copy_world.h"

struct memory memory;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *block);
void __wrap_free(void *block);
ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags);

static bool runs_out(enum memory_allocator allocator)
{
	if (!memory.armed || memory.left-- > 0)
		return false;
	memory.armed = false;
	memory.failed = true;
	memory.failures[allocator]++;
	errno = ENOMEM;
	return true;
}

static void *out(void *block)
{
	memory.blocks += block != NULL;
	return block;
}

void *__wrap_malloc(size_t size)
{
	return runs_out(MEMORY_MALLOC) ? NULL : out(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
	return runs_out(MEMORY_CALLOC) ? NULL : out(__real_calloc(count, size));
}

void *__wrap_realloc(void *block, size_t size)
{
	if (runs_out(MEMORY_REALLOC))
		return NULL;
	void *moved = __real_realloc(block, size);

	memory.blocks += !block && moved;
	return moved;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return runs_out(MEMORY_ALIGNED_ALLOC) ? NULL : out(__real_aligned_alloc(alignment, size));
}

void __wrap_free(void *block)
{
	memory.blocks -= block != NULL;
	__real_free(block);
}

ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags)
{
	struct world_random random = {memory.hash_seed};

	(void)flags;
	for (size_t i = 0; i < size; i++)
		((unsigned char *)buffer)[i] = (unsigned char)world_below(&random, 256);
	return memory.no_seed ? -1 : (ssize_t)size;
}

void memory_arm(uint32_t left)
{
	memory.armed = true;
	memory.failed = false;
	memory.left = left;
}

bool memory_disarm(void)
{
	memory.armed = false;
	return memory.failed;
}
