/*
 * What all administrative nouns do alike: list rows page by page, show a row, make a change, take something away.
 * Each function builds the method's map from the command line, asks, prints and returns a ctl_exit.
 */
#ifndef APIKEYCTL_ROWS_H
#define APIKEYCTL_ROWS_H

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/talk.h"
#include "client/apikeyctl/show.h"

/* A field of a method's map, and where on the command line it stands. What is not given is left out. */
struct rows_param {
	const char *name;   /* NULL ends a table */
	const char *option; /* NULL: the next operand */
};

/*
 * Calls a list method until its `next` ends (or --limit is reached) and prints a table, or with --json an array with
 * a row on each line. `params` may be NULL. A long list counts on the terminal while it comes.
 */
int rows_list(const struct ctl *ctl, const struct args *args, const char *method, const struct rows_param *params,
	      const struct show_column *columns);

/* Calls a method and prints the row that it answers. */
int rows_show(const struct ctl *ctl, const struct args *args, const char *method, const struct rows_param *params,
	      const struct show_column *columns);

/* Calls a method that changes something; prints the row, and the revision as a notice. */
int rows_change(const struct ctl *ctl, const struct args *args, const char *method, const struct rows_param *params,
		const struct show_column *columns);

/*
 * Asks `question`, where %s stands for the first operand, then calls a method that takes something away: no row to
 * show, only a notice, "`done` (revision N)".
 */
int rows_remove(const struct ctl *ctl, const struct args *args, const char *method, const struct rows_param *params,
		const char *question, const char *done);

/* The notice that ends a change: "`done` (revision N)". */
void rows_note(const struct ctl *ctl, const char *done, const struct value *answer);

#endif
