/*
 * What a daemon that runs needs of this host's files and ports: a table, and what its configuration and stacks name.
 *
 * Owns nothing. Who calls it: confine.c, at the start to allow it, and on a reload to see whether it is allowed.
 *
 * A file that a configuration names is needed as its directory is: files are replaced by renaming new ones over them,
 * and what the kernel allows it allows of a directory or a file that is there, not of a name.
 */
#ifndef APIKEYD_DAEMON_CONFINE_NEEDS_H
#define APIKEYD_DAEMON_CONFINE_NEEDS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/config.h"

struct policy;

enum needs_use {
	NEEDS_READ = 1,	  /* and list */
	NEEDS_WRITE = 2,  /* and make and remove */
	NEEDS_REMOVE = 4, /* files alone */
};

enum needs_kind {
	NEEDS_TREE = 0, /* the directory, or file, and all that is below */
	NEEDS_FILE,	/* a file that may be replaced: what is beside it, and where a symbolic link leads */
};

/* Who wants it. */
enum needs_of {
	NEEDS_OF_SYSTEM = 0, /* nobody in particular: what is not there is not missed */
	NEEDS_OF_START,	     /* a setting that takes effect at the start alone */
	NEEDS_OF_CONFIG,
	NEEDS_OF_STACKS,
};

struct need {
	enum needs_of of;
	enum needs_kind kind;
	unsigned use;	  /* enum needs_use */
	const char *path; /* NULL: it is a port, or an abstract socket */
	uint16_t port;	  /* to connect to; 0: any */
	bool abstract;	  /* Unix sockets without a file */
	const char *what; /* for people: which setting, or which line of which stack */
};

typedef void (*needs_told)(void *data, const struct need *need);

/* `path`: of the configuration. `policy` NULL: without the stacks'. All is borrowed for the call. */
void needs_each(const char *path, const struct config *config, const struct policy *policy, needs_told told,
		void *data);

#endif
