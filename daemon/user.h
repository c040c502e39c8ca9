/*
 * Users and groups of the configuration, by name or number, as the system's databases have them.
 *
 * Owns nothing. Who calls it: config.c, listener.c and server.c, at the start and on a reload; look-ups may block.
 */
#ifndef APIKEYD_DAEMON_USER_H
#define APIKEYD_DAEMON_USER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* False where there is no such user or group. A number need not stand in the database. */
bool user_uid(const char *name, uid_t *ret);
bool user_gid(const char *name, gid_t *ret);

/* "www-data (33)", or "33" where the database has no name for it; into `out`, which is returned. */
enum { USER_NAME_SIZE = 64 };
const char *user_describe(uid_t uid, char out[USER_NAME_SIZE]);
const char *user_describe_group(gid_t gid, char out[USER_NAME_SIZE]);

/* Users by number, as a list of the configuration names them. Zeroed: nobody. */
struct user_set {
	uid_t *uids;
	uint32_t count;
};

/*
 * Reads a comma-separated list of users. 0 with *ret to be freed by user_set_deinit; -ENOENT with `unknown` naming the
 * first that there is not; or -ENOMEM.
 */
int user_set_read(const char *names, struct user_set *ret, char *unknown, size_t unknown_size);
bool user_set_has(const struct user_set *set, uid_t uid);
void user_set_deinit(struct user_set *set); /* leaves it empty */

#endif
