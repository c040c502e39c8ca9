/*
 * Modules by their names: those that are built in, then shared objects of the module directory.
 *
 * Owns what it loaded, as long as the process lives: a module may have threads and data of threads, so none is ever
 * unloaded. Who calls it: policy.c and apikeyctl's modules noun, on one thread. Knows neither loop nor log.
 *
 * Always holds: nothing of a file runs before the file and all directories above it are found trusted (trusted.h), and
 * what is loaded is the very file that was looked at; every module returned has passed modules_check; a name gives the
 * same pointer as long as the process lives; no file takes the name of a module that is built in.
 */
#ifndef APIKEYD_DAEMON_MODULES_LOAD_H
#define APIKEYD_DAEMON_MODULES_LOAD_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/apikeyd-module.h"

/* Whether a text can be a module's name, or an argument's: lower case letters, digits and '_', 1 to 32 of them. */
bool modules_name_ok(const char *name);

/*
 * The module of that name: built in, or "<directory>/<name>.so". `directory` is absolute; NULL: those built in alone.
 * NULL with one line in `text` where there is none that can be used. Otherwise `text` is empty, or one line to warn
 * with: the file has changed since it was loaded, or a file that has the name of a built-in module is not used.
 */
const struct apikeyd_module *modules_find(const char *name, const char *directory, char *text, size_t text_size);

/* From now on no file is loaded that was not loaded before: that takes a restart, since the process confines itself. */
void modules_seal(void);

/* One module of modules_each: `module` NULL where it cannot be used, and `text` then says why, else as above. */
typedef void (*modules_told)(void *data, const char *name, const struct apikeyd_module *module, bool built_in,
			     const char *text);

/*
 * Tells of each module built in, then of each "*.so" of the directory (NULL: none), by name. Loads them all. 0, or
 * -errno with one line in `error` where the directory is not there or not trusted; those built in were told of.
 */
int modules_each(const char *directory, modules_told told, void *data, char *error, size_t error_size);

/*
 * Whether a module's struct is sound: what it says of itself, and that its arguments can be used. 0, or -EINVAL with
 * one line in `error`. All fields of our size must be there.
 */
int modules_check(const struct apikeyd_module *module, char *error, size_t error_size);

#endif
