/*
 * The daemon confines itself: once it is set up, and before it answers anybody, it gives up what it does not need to
 * go on. So it is confined wherever it runs, and by whomever it was started.
 *
 * Owns what was allowed, to tell what a reload asks for. Who calls it: server.c, on the main thread, with its sockets
 * bound, its stacks loaded and its broker forked.
 *
 * Always holds, afterwards
 *  - the process has no privilege that it could use, and can get none (privileges.h);
 *  - as far as the configuration wants it and the kernel can: what it does is among what it needs to go on, system calls
 *    (seccomp.h) as well as files and ports (landlock.h, needs.h); the log says once what of it is in force;
 *  - what a module needs new that was not there at the start, it does not get; where a reload asks for it, the reload
 *    fails and says that it takes a restart.
 * Threads that modules started before are held by the filter of system calls alone; the log says where there are any.
 */
#ifndef APIKEYD_DAEMON_CONFINE_CONFINE_H
#define APIKEYD_DAEMON_CONFINE_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/config.h"

struct arena; /* proto/value.h */
struct confine;
struct policy;
struct value;

/*
 * Confines this process. `path`: of the configuration. `broker`: 0: none runs. 0 with *ret, or -errno with one line in
 * `error`: something that the configuration requires cannot be had, and the daemon must not go on.
 */
int confine_start(const char *path, const struct config *config, const struct policy *policy, pid_t broker,
		  struct confine **ret, char *error, size_t error_size);

/*
 * Of a configuration that is read again, and its stacks (NULL: without them): how much of what they name is out of
 * reach since the start. A line each in `errors`, which are terminated.
 */
unsigned confine_check(struct confine *confine, const char *path, const struct config *config,
		       const struct policy *policy, char *errors, size_t error_size);

/* Adds the map `confine` to `map`: what is in force, and what reloads were refused for. False without memory. */
bool confine_stats(const struct confine *confine, struct arena *arena, struct value *map);

void confine_free(struct confine *confine); /* NULL is fine; what is in force stays */

#endif
