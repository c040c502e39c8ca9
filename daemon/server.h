/*
 * The daemon as a whole: loop, listeners, signals, reload, stop.
 *
 * Owns everything that lives as long as the daemon. Who calls it: main.c.
 *
 * Always holds: a wrong configuration changes nothing; a stop answers what is in flight, as long as stop_ms allows,
 * takes away the sockets that are its own, and frees all.
 */
#ifndef APIKEYD_DAEMON_SERVER_H
#define APIKEYD_DAEMON_SERVER_H

#include <stddef.h>

#include "daemon/config.h"

struct broker;
struct passed;

/*
 * What a configuration (of the file `path`) names and config_load cannot know: users, connection strings,
 * the pepper, stacks and modules.
 * Returns how many faults there are, each a line in `errors`.
 */
unsigned server_check(const char *path, struct config *config, char *errors, size_t error_size);

/*
 * Runs until it is told to stop. Takes `config` over. `path` is what SIGHUP reads again. `broker` starts the programs
 * that stacks name, and is sealed once they are loaded; borrowed; NULL: no program can be started. `passed`: the sockets that the service
 * manager passed, taken over; borrowed.
 * Returns the exit code: 0 for a clean stop, 1 where it could not start or must not go on.
 */
int server_run(const char *path, struct config *config, const struct passed *passed, struct broker *broker);

#endif
