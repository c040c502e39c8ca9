/*
 * One command line, read with the tables of command.h.
 *
 * Options may stand anywhere after the command that has them; the program's own stand anywhere. `--name value`,
 * `--name=value`, `-x value`, `-xvalue`, several letters behind one dash, and `--` to end them. Words are not
 * abbreviated: a script that works today means the same tomorrow.
 *
 * Owns the list of options; all text is borrowed from argv. Pure.
 */
#ifndef APIKEYCTL_ARGS_H
#define APIKEYCTL_ARGS_H

#include "client/apikeyctl/command.h"

enum { ARGS_OPERANDS_MAX = 256, ARGS_ERROR_SIZE = 400 };

struct args_given {
	const struct option *option;
	const char *value; /* NULL for a flag */
};

struct args {
	struct command_path path;
	const char *operands[ARGS_OPERANDS_MAX];
	size_t operand_count;
	struct args_given *given;
	size_t given_count;
};

enum args_result {
	ARGS_OK = 0,
	ARGS_HELP,  /* --help or -h stood somewhere: path says about what */
	ARGS_WRONG, /* the error says what, and what to do */
	ARGS_NO_MEMORY,
};

/*
 * argv without the program's name. On ARGS_OK the path ends at a command that runs, its operands are all there, and
 * options given once only were given once. Call args_deinit after any result.
 */
enum args_result args_parse(const struct command *root, size_t argc, char *const argv[], struct args *ret,
			    char ret_error[ARGS_ERROR_SIZE]);
void args_deinit(struct args *args);

bool args_has(const struct args *args, const char *option);
/* The value given last, or NULL. */
const char *args_text(const struct args *args, const char *option);
/* The values of an option that may be given many times: the nth, or NULL behind the last. */
const char *args_nth(const struct args *args, const char *option, size_t n);
/* The nth operand, or NULL. */
const char *args_operand(const struct args *args, size_t n);

#endif
