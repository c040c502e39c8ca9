/*
 * Files that decide what the daemon does: opened only where nobody but root and the daemon itself could have written
 * them, or put something else in their place.
 *
 * Owns nothing; knows neither loop nor log. Who calls it: policy.c (stacks and their directory), modules/load.c,
 * apikeyctl's stack and modules nouns.
 *
 * Always holds: what is returned, and each directory and symbolic link on the way from / to it, belongs to root or to
 * the effective user, and is not writable by its group or by others. All of that is read from the very descriptors
 * that the walk goes through, so nothing can be changed between a check and its use.
 *
 * One exception: a sticky directory, such as /tmp, may be writable by all where it is a step to another directory.
 * What stands in it can be removed and renamed by its owner alone, and nobody can move someone else's directory there.
 * A file or a symbolic link directly in it is refused: anybody may have linked an old one there under a new name.
 */
#ifndef APIKEYD_DAEMON_TRUSTED_H
#define APIKEYD_DAEMON_TRUSTED_H

#include <stddef.h>

enum trusted_kind { TRUSTED_FILE = 0, TRUSTED_DIRECTORY };

enum { TRUSTED_LINKS_MAX = 16 }; /* symbolic links that one path may lead through */

/*
 * Opens the regular file or the directory at `path`, which must be absolute, for reading. 0 with *ret_fd, which is
 * the caller's to close; or, with one line in `error` that names what is wrong, where, and what to do: -EPERM where it
 * is not trusted, -EINVAL where it is of another kind, -ELOOP, or what the kernel says.
 */
int trusted_open(const char *path, enum trusted_kind kind, int *ret_fd, char *error, size_t error_size);

#endif
