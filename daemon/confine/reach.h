/*
 * What the daemon can reach since landlock is in force: the files and directories that were allowed, as the kernel knows
 * them, by device and inode, and the ports.
 *
 * Owns its places. Who calls it: confine.c, which adds to it what it allows, and asks it on a reload.
 *
 * Always holds: a path is in reach where the kernel would find a place that was allowed on the way up from what is there now.
 */
#ifndef APIKEYD_DAEMON_CONFINE_REACH_H
#define APIKEYD_DAEMON_CONFINE_REACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

enum { REACH_PORTS_MAX = 64 };

struct reach {
	struct reach_place {
		dev_t device;
		ino_t inode;
		unsigned use; /* enum needs_use */
	} * places;
	unsigned count, room;
	uint16_t ports[REACH_PORTS_MAX];
	unsigned port_count;
	bool any_port, any_path, abstract; /* not restricted */
};

enum reach_found { REACH_IN = 0, REACH_OUT, REACH_NOTHING /* out of it, and not there */ };

/* False without memory. */
bool reach_add(struct reach *reach, const struct stat *st, unsigned use);
/* False: there are too many. */
bool reach_add_port(struct reach *reach, uint16_t port);
enum reach_found reach_find(const struct reach *reach, const char *path, unsigned use);
bool reach_find_port(const struct reach *reach, uint16_t port);
void reach_deinit(struct reach *reach);

/* The directory that a path is in, as it is written, into `out`: "." of a bare name. */
void reach_directory(const char *path, char *out, size_t size);

#endif
