/*
 * Where apikeyctl's noun stack finds stacks and modules: a directory of files, and a directory of shared objects beside
 * those built in. Whether a file can be trusted is the daemon's to ask (apikeyd -t); here anybody's working copy is read.
 */
#ifndef APIKEYCTL_STACK_SOURCE_H
#define APIKEYCTL_STACK_SOURCE_H

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/ctl.h"
#include "daemon/stack/program.h"

#define STACK_SOURCE_DIRECTORY "/etc/apikeyd/stacks"

struct stack_source {
	const char *directory, *modules;
	struct stack_finder finder;
	char why[512];
	char **paths; /* that were handed out; they live as long as this */
	size_t path_count;
};

/* For tables of options. */
#define STACK_SOURCE_OPTIONS                                                                                           \
	{.name = "dir", .value = "DIR", .help = "where the stacks are (default: " STACK_SOURCE_DIRECTORY ")"},         \
	{                                                                                                              \
		.name = "module-dir", .value = "DIR", .help = "where modules of others are (default: as installed)"    \
	}

/* `directory` NULL: --dir or the usual one. Nothing to undo but stack_source_deinit. */
void stack_source_init(struct stack_source *source, const struct args *args, const char *directory);
void stack_source_deinit(struct stack_source *source);
/* Splits the path of a file into its directory and its name, both from malloc. False without memory. */
bool stack_source_split(const char *path, char **ret_directory, char **ret_name);
/* The path that a stack of the source has: from malloc; NULL without memory. */
char *stack_source_path(const struct stack_source *source, const char *name);
bool stack_source_is_directory(const char *path);

enum stack_entry_kind { STACK_ENTRY_STACK = 0, STACK_ENTRY_LEFT_OVER, STACK_ENTRY_BAD_NAME, STACK_ENTRY_NO_FILE };

/* What the daemon would see in its directory of stacks. */
struct stack_entry {
	enum stack_entry_kind kind;
	char *name, *path;
};

/* All of the source's directory, by name. 0 with what stack_source_entries_free ends; or -1 with errno. */
int stack_source_entries(const struct stack_source *source, struct stack_entry **ret, size_t *ret_count);
void stack_source_entries_free(struct stack_entry *entries, size_t count);
/* The directory of modules that the options name, or that was installed. */
const char *stack_source_modules(const struct args *args);

#endif
