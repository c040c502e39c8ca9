/*
 * Stacks for the tests: files in memory, and modules that declare much and do nothing. They bear the names of modules
 * that come with the daemon where a test reads stacks as people write them, but are none of those.
 */
#ifndef APIKEYD_TESTS_UNIT_STACK_WORLD_H
#define APIKEYD_TESTS_UNIT_STACK_WORLD_H

#include "daemon/stack/program.h"

struct world_file {
	const char *name, *text; /* a table ends with a name of NULL */
};

struct world {
	const struct world_file *files;
	char text[64 * 1024]; /* faults */
	struct stack_faults faults;
	struct stack_finder finder;
};

/*
 * Modules:
 *     peer permit          caller
 *     file store id        key, identify
 *     rate                 account, enforces rates
 *     penalty              account
 *     hours                account page scope
 *     deny                 all but key and audit
 *     exec                 all but key, asynchronous
 *     ledger               audit
 *     any debug            all but key
 *     typed                scope: an argument of each type
 *     picky                all but key: refuses every argument, in words that begin as one's name does
 *     broken crowd nowhere greedy hollow     declared wrong
 */
const struct apikeyd_module *world_module(const char *name);

/* files NULL: none. Faults are in world->text. */
void world_init(struct world *world, const struct world_file *files);
struct stack_program *world_compile(struct world *world, const struct world_file *files, const char *name);

#endif
