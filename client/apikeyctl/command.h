/*
 * The tables that apikeyctl is made of: a tree of commands (the program, its nouns, their verbs), their options and
 * operands. Parsing, --help, suggestions and completion are all read from these tables, so they cannot disagree.
 *
 * Pure: nothing here prints or exits. All tables are constant and live as long as the program.
 */
#ifndef APIKEYCTL_COMMAND_H
#define APIKEYCTL_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

struct ctl;
struct args;

struct option {
	const char *name; /* without the dashes; NULL ends a table */
	char letter;	  /* 0: none */
	bool many;	  /* may be given several times */
	const char
		*value; /* what stands for its value in help, "read|write" where only words are right; NULL: a flag */
	const char *help;
};

struct operand {
	const char *name; /* NULL ends a table */
	const char *help;
	bool optional;
	bool many; /* the last one: there may be more of it */
};

/* Groups of options that several commands take. */
enum {
	COMMAND_KEY = 1,     /* presents a key: --key-fd, --key-file */
	COMMAND_LIST = 2,    /* lists rows: --limit */
	COMMAND_CONFIRM = 4, /* destroys: --yes */
	COMMAND_HIDDEN = 8,  /* not in help, not completed */
	COMMAND_CHANGE = 16, /* changes what daemons follow: --wait */
};

struct command {
	const char *name;
	const char *summary; /* one line, no full stop */
	const char *details; /* further lines of its help, wrapped at print; paragraphs end with \n; NULL: none */
	const struct operand *operands;	       /* NULL: none */
	const struct option *options;	       /* NULL: none but those of `takes` and of the commands above */
	const struct command *const *commands; /* ends with NULL; NULL: this one runs */
	unsigned takes;			       /* COMMAND_… */
	int (*run)(struct ctl *ctl, const struct args *args); /* returns a ctl_exit */
};

enum { COMMAND_DEPTH = 3 }; /* apikeyctl, noun, verb */

/* The way from the root to a command. */
struct command_path {
	const struct command *at[COMMAND_DEPTH];
	size_t depth; /* at least 1; at[depth - 1] is the command itself */
};

/* The child of that name, or NULL. */
const struct command *command_child(const struct command *command, const char *name);

/* The option tables that apply at the end of `path`, nearest first: the command's own, its groups', those above. */
size_t command_tables(const struct command_path *path, const struct option *ret_tables[COMMAND_DEPTH * 5]);

/* One option by its long name (`len` bytes), or by its letter where name is NULL. NULL where there is none. */
const struct option *command_option(const struct command_path *path, const char *name, size_t len, char letter);

/* "apikeyctl key mint" into `out`. */
void command_title(const struct command_path *path, char *out, size_t size);

/* How many letters must be changed, added, dropped or swapped to make one word of the other. */
size_t command_distance(const char *a, const char *b);

/* The visible child nearest to a misspelt word, or NULL when none is near. */
const struct command *command_suggest(const struct command *command, const char *word);

/* A visible noun that has the verb `word`, for people who forgot the noun, or NULL. */
const struct command *command_noun_of(const struct command *root, const char *word);

/* The option nearest to a misspelt name, or NULL. */
const struct option *command_suggest_option(const struct command_path *path, const char *name);

#endif
