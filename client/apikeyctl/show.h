/*
 * Answers for people: tables of rows and records of one row, by libsmartcols; colours only where ctl->color says so.
 *
 * What a column shows is said by a table of columns over the fields of the answer's maps. What is not there is "-".
 */
#ifndef APIKEYCTL_SHOW_H
#define APIKEYCTL_SHOW_H

#include "client/apikeyctl/ctl.h"
#include "proto/value.h"

enum {
	SHOW_STATE = 1, /* a word with a colour: active, revoked, allow, … */
	SHOW_WRAP = 2,	/* may be broken over lines where the terminal is narrow */
};

struct show_column {
	const char *title; /* NULL ends a table of columns */
	const char *field; /* of the row's map */
	unsigned flags;
	/* Text of its own, in the arena; NULL: show_text. Gets the field (NULL where it is not there). */
	const char *(*text)(struct arena *arena, const struct value *value);
};

/* A value as people read it: text, numbers, yes or no, lists joined by commas, "-" for nothing. In the arena. */
const char *show_text(struct arena *arena, const struct value *value);
/* Seconds since 1970, or text already, as RFC 3339. */
const char *show_when(struct arena *arena, const struct value *value);

/* A table that is filled row by row and printed at the end. */
struct show_table;
struct show_table *show_table_new(const struct ctl *ctl, const struct show_column *columns);
/* Copies what it shows of the row. False without memory. */
bool show_table_add(struct show_table *table, const struct value *row);
/* Prints, where there are rows. */
void show_table_print(struct show_table *table);
void show_table_free(struct show_table *table); /* NULL is fine */

/* One row, a line for each column; columns whose field is not there are left out. Returns a ctl_exit. */
int show_record(const struct ctl *ctl, const struct show_column *columns, const struct value *row);

/* The escape sequence for a word such as "active", or NULL for those without a colour. */
const char *show_color(const char *word);

#endif
