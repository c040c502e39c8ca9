/*
 * The pepper file of this host: where it is, who may read it, what the database should know of it. By the daemon's own
 * code, so that what is fine here is fine there.
 *
 * Owns what was read of it, in memory that is locked and wiped. A pepper is never printed. Who calls it: doctor and setup.
 */
#ifndef APIKEYCTL_PEPPER_H
#define APIKEYCTL_PEPPER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

enum { PEPPER_PATH_SIZE = 4096, PEPPER_LINE_SIZE = 600, PEPPER_HEX_SIZE = 65 };

struct pepper_file {
	char path[PEPPER_PATH_SIZE]; /* on this host */
	bool credential;	     /* the service manager reads it, and passes it to the daemon */
	struct stat st;		     /* zero where it is not there or may not be seen */
	struct secret *secret;	     /* NULL: it could not be read */
};

/*
 * Looks at what key.pepper_file = `setting` means. 0 with the file open for pepper_check; -ENOENT; -EACCES (this user
 * may not read it); or -EINVAL, with one line in `error`. pepper_deinit in any case.
 */
int pepper_look(struct pepper_file *file, const char *setting, char error[PEPPER_LINE_SIZE]);
void pepper_deinit(struct pepper_file *file);

/* The i-th version that the file holds, from 0; 0 past the end. */
unsigned pepper_version_at(const struct pepper_file *file, unsigned i);
/* What the database stores of a version, in hex. False: the file does not hold it. */
bool pepper_check_value(const struct pepper_file *file, unsigned version, char ret[PEPPER_HEX_SIZE]);

/*
 * Makes the file, with a new pepper as version 1, readable by its owner alone. It is there whole or not at all, and one
 * that is there is never replaced. 0, or -errno (-EEXIST) with one line in `error`.
 */
int pepper_make(const char *path, uid_t uid, gid_t gid, char error[PEPPER_LINE_SIZE]);

#endif
