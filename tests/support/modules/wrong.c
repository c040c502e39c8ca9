/*
 * Shared objects that the loader must tell apart, made from this one source by -D: SOUND and LONGER may be used, each of
 * the others is wrong in one thing. Each leaves a mark when its code is run: its file's name, as a line in the file that
 * the environment names in APIKEYD_TEST_MARK.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/apikeyd-module.h"

__attribute__((constructor)) static void mark(void)
{
	const char *path = getenv("APIKEYD_TEST_MARK");
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;

	if (fd < 0)
		return;
	if (write(fd, NAME "\n", strlen(NAME) + 1) < 0)
		abort();
	close(fd);
}

#if defined(NO_SYMBOL)
/* Nothing: what a library that is no module looks like. */
#elif defined(BENEATH)
/* It has none itself; a library that it is linked to has one. */
extern const struct apikeyd_module apikeyd_module;
extern const void *beneath_uses;
const void *beneath_uses = &apikeyd_module;
#elif defined(TINY)
APIKEYD_EXPORT const uint32_t apikeyd_module = APIKEYD_ABI;
#else

#ifdef UNDEFINED
extern void nowhere_at_all(void);
#endif

static enum apikeyd_code start(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	(void)instance, (void)request, (void)token;
#ifdef UNDEFINED
	nowhere_at_all();
#endif
	return APIKEYD_IGNORE;
}

static const struct apikeyd_argument arguments[] = {
	{.name = "at", .type = APIKEYD_TYPE_TIME, .fallback = "1s", .help = "a time"},
	{0},
};

#define MODULE                                                                                                         \
	{                                                                                                              \
		.abi = ABI, .size = SIZE, .name = CALLED, .help = "for the loader's tests",                            \
		.groups = APIKEYD_GROUP_ACCOUNT, .flags = FLAGS, .arguments = arguments, .start = start,               \
	}
#ifndef ABI
#define ABI APIKEYD_ABI
#endif
#ifndef CALLED
#define CALLED NAME
#endif
#ifndef FLAGS
#define FLAGS 0
#endif

#ifdef LONGER
/* As one of a later release has it: fields that we do not know stand after ours. */
struct later_module {
	struct apikeyd_module module;
	const void *more[4];
};
#define SIZE sizeof(struct later_module)
APIKEYD_EXPORT const struct later_module apikeyd_module = {.module = MODULE, .more = {&arguments, 0, 0, &arguments}};
#else
#ifndef SIZE
#define SIZE sizeof(struct apikeyd_module)
#endif
#ifndef HIDDEN
APIKEYD_EXPORT
#endif
extern const struct apikeyd_module apikeyd_module;
const struct apikeyd_module apikeyd_module = MODULE;
#endif
#endif
