/* What parse.c and parse_word.c share: a file that is being parsed. Nobody else includes this. */
#ifndef APIKEYD_DAEMON_STACK_PARSE_INTERNAL_H
#define APIKEYD_DAEMON_STACK_PARSE_INTERNAL_H

#include "daemon/stack/parse.h"
#include "proto/value.h"

enum { PARSE_WORDS_MAX = 3 + STACK_ARGUMENTS_MAX };

/* As it stands in the file, brackets included. */
struct parse_word {
	const char *text;
	size_t len;
	uint32_t column;
	bool bracket;
};

struct parse_file {
	struct stack_parsed parsed; /* first: what callers have */
	struct arena arena;
};

struct parse {
	struct parse_file *file;
	struct stack_faults *faults;
	const char *path;
	struct stack_parsed_line *lines;
	uint32_t line_count;
	uint32_t number; /* of the line at hand, from 1 */
	bool continued;	 /* it tried to go on in the next one, which is passed over then */
	bool no_memory;
	uint32_t none[STACK_GROUPS], some[STACK_GROUPS]; /* in which line `none`, or something, was said first; 0 */
	struct parse_word words[PARSE_WORDS_MAX];
	uint32_t word_count;
};

static inline struct stack_place parse_place(const struct parse *p, uint32_t column)
{
	return (struct stack_place){p->number, column};
}

/* Tells it once. Returns false. */
bool parse_no_memory(struct parse *p);

/* ---- parse_word.c ---- */

/* Parts a line (without the blanks at its end) into p->words. False with the fault told. */
bool parse_split(struct parse *p, const char *line, size_t len);
/* The words from the fourth on, as arguments. False with the faults told. */
bool parse_arguments(struct parse *p, struct stack_parsed_line *line);

#endif
