/*
 * The modules that come with the daemon, one line each in table.c.
 *
 * Who calls it: load.c, which finds modules by name; apikeyctl's `modules`; the tests. Each module is one file and
 * knows the ABI's header alone, as a module from outside does.
 */
#ifndef APIKEYD_DAEMON_MODULES_TABLE_H
#define APIKEYD_DAEMON_MODULES_TABLE_H

#include "daemon/apikeyd-module.h"

/* In the order of apikeyd-modules(7); ends with NULL. */
extern const struct apikeyd_module *const modules_built_in[];

extern const struct apikeyd_module module_peer;
extern const struct apikeyd_module module_permit;
extern const struct apikeyd_module module_file;
extern const struct apikeyd_module module_store;
extern const struct apikeyd_module module_rate;
extern const struct apikeyd_module module_penalty;
extern const struct apikeyd_module module_hours;
extern const struct apikeyd_module module_exec;
extern const struct apikeyd_module module_deny;
extern const struct apikeyd_module module_debug;
extern const struct apikeyd_module module_ledger;

#endif
