/*
 * What is read from the tables for people and shells: --help at every level, and the words that complete a command
 * line. Prints to the stream given; nothing else.
 */
#ifndef APIKEYCTL_HELP_H
#define APIKEYCTL_HELP_H

#include <stdio.h>

#include "client/apikeyctl/command.h"

/* The help of the command that `path` ends at. */
void help_print(FILE *out, const struct command_path *path);

/* `text` broken at spaces at HELP_WIDTH, each line indented; \n begins a new paragraph. */
enum { HELP_WIDTH = 96 };
void help_wrap(FILE *out, int indent, const char *text);

/*
 * The candidates for the last of `count` words (the words after the program's name), one a line: commands, options,
 * the words that an option takes; ":files" where a file name is wanted.
 */
void help_complete(FILE *out, const struct command *root, size_t count, char *const words[]);

#endif
