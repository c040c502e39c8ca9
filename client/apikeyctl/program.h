/*
 * Other programs of this host, run to be asked something: apikeyd --print, systemctl show. They get no terminal and
 * nothing to read, and their time is bounded.
 *
 * Owns nothing. Who calls it: doctor and setup.
 */
#ifndef APIKEYCTL_PROGRAM_H
#define APIKEYCTL_PROGRAM_H

enum { PROGRAM_MS = 30000 };

/*
 * Runs argv[0], a path or a name along PATH, and takes what it says on both streams, terminated, into *ret_said (to be
 * freed; without line ends at its end). Returns its exit code, or -errno where it could not be run (-ENOENT),
 * was ended by a signal (-EPIPE) or took too long (-ETIMEDOUT); *ret_said is NULL then.
 */
int program_run(char *const argv[], char **ret_said);

/* `name` of directory `relative` of this program's build directory, where it runs from there, else `installed`. In `out`. */
const char *program_beside(const char *relative, const char *installed, char *out, unsigned size);

#endif
