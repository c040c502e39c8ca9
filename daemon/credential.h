/*
 * `credential:NAME`, as a setting may name a file: what the service manager passed under that name (LoadCredential= of a
 * unit), and, where there is no service manager, the file of that name in /etc/apikeyd. So what a unit loads from there
 * is found by hand as well, for a test by --test.
 *
 * Owns nothing; knows neither loop nor log. Who calls it: config_value.c for the form, secret.c and postgres/conninfo.c
 * when they open.
 *
 * Always holds: a name leads to a file directly in the one directory; where a service manager passed credentials, only
 * those count.
 */
#ifndef APIKEYD_DAEMON_CREDENTIAL_H
#define APIKEYD_DAEMON_CREDENTIAL_H

#include <stdbool.h>
#include <stddef.h>

#define CREDENTIAL_PREFIX    "credential:"
#define CREDENTIAL_DIRECTORY "/etc/apikeyd" /* without a service manager */

enum { CREDENTIAL_NAME_MAX = 64, CREDENTIAL_PATH_MAX = 4096 };

/* Whether it begins with the prefix. */
bool credential_is(const char *text);
/* Whether what follows the prefix is a name: 1 to 64 letters, digits, - _ or ., the first not a dot. */
bool credential_valid(const char *text);

/* From now on nothing looks for credentials (--no-credentials); before there is a thread. */
void credential_leave_out(void);
bool credential_left_out(const char *text);

/*
 * The path that `text` means: itself where it is no credential, else the credential's, which was there a moment ago.
 * (Of one that is left out: a path where there is nothing.) 0, or with one line in `error`: -EINVAL (no name), -ENOENT (no such credential), -ENAMETOOLONG.
 */
int credential_path(const char *text, char *out, size_t size, char *error, size_t error_size);

#endif
