/*
 * Stack files: from text to lines of words, each with its place. Knows the form, not the modules. Pure.
 *
 * Owns the parsed file's memory. Who calls it: stack/compile.c, the fuzz target, the tests.
 *
 * The form, a line at a time (at most STACK_LINE_MAX bytes; '#' begins a comment where a word could begin):
 *     <group> none
 *     <group> include  <stack>
 *     <group> substack <stack>
 *     <group> <control> <module> [name=value ...]
 * A control is required, requisite, sufficient, optional, binding, or [code=action ...]; a word with blanks in it is
 * written [name=value with blanks], where \] stands for ] and \\ for \. A line ends with LF or CRLF, the last one need
 * not; a UTF-8 byte order mark may stand before the first. The file is UTF-8; control characters and characters that
 * cannot be seen are faults wherever they stand, comments too, since what a person reads must be what is done.
 *
 * Always holds: a file with any fault gives no lines at all, and every fault found is told with file, line, column, the
 * word, and what would be right.
 */
#ifndef APIKEYD_DAEMON_STACK_PARSE_H
#define APIKEYD_DAEMON_STACK_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/stack/code.h"

enum {
	STACK_FILE_MAX = 256 << 10, /* bytes */
	STACK_LINE_MAX = 4096,	    /* bytes */
	STACK_LINES_MAX = 1024,	    /* of one file, comments not counted */
	STACK_FILES_MAX = 256,	    /* of one directory */
	STACK_NAME_MAX = 64,	    /* of a stack: letters, digits, '-', '_', '.', the first a letter or digit */
	STACK_MODULE_NAME_MAX = 32, /* lower case letters, digits, '_' */
	STACK_ARGUMENTS_MAX = 32,   /* of one module */
};

/* Where a word stands: line and column from 1, the column in bytes. Line 0: no place in the file. */
struct stack_place {
	uint32_t line, column;
};

/*
 * Faults, one a line: "<path>:<line>:<column>: <word>: <what is wrong>; <what would be right>". A fault that is told
 * twice (a file that several stacks include) stands there once.
 */
struct stack_faults {
	char *text; /* terminated; what finds no room is counted only */
	size_t size, len;
	unsigned count;
	/*
	 * Told of each new one in its parts: the word (`word_len` bytes; 0: it is about none), and `what`, all behind
	 * that. NULL: nobody wants parts.
	 */
	void (*part)(void *data, const char *path, struct stack_place place, const char *word, size_t word_len,
		     const char *what);
	void *data;
};
__attribute__((format(printf, 4, 5))) void stack_fault(struct stack_faults *faults, const char *path,
						       struct stack_place place, const char *format, ...);

enum stack_kind { STACK_NONE = 0, STACK_INCLUDE, STACK_SUBSTACK, STACK_MODULE };

/* What a control does with each code. */
struct stack_control {
	uint8_t actions[APIKEYD_CODE_END]; /* enum stack_action, by code */
	bool optional; /* success is `ok` and no code is bad or die: its success grants nothing (group key) */
};

struct stack_parsed_argument {
	const char *name, *value; /* terminated */
	struct stack_place place, value_place;
};

struct stack_parsed_line {
	enum stack_group group;
	enum stack_kind kind;
	struct stack_place place; /* of the group's word */
	struct stack_place control_place, name_place;
	struct stack_control control; /* STACK_MODULE */
	const char *control_text;     /* as it is written, blanks made one; also `none`, `include`, `substack` */
	const char *name;	      /* of the module, or of the stack included; NULL for STACK_NONE */
	const struct stack_parsed_argument *arguments;
	uint32_t argument_count;
};

struct stack_parsed {
	const char *path; /* for faults; borrowed */
	const struct stack_parsed_line *lines;
	uint32_t line_count;
};

/* Returns a parsed file, or NULL with at least one fault told. `path` must outlive it. */
struct stack_parsed *stack_parse(const char *path, const char *text, size_t len, struct stack_faults *faults);
void stack_parsed_free(struct stack_parsed *parsed); /* NULL is fine */

/* A control by itself, as it stands in a line (brackets included). Tells faults as stack_parse does. */
bool stack_parse_control(const char *path, struct stack_place place, const char *text, size_t len,
			 struct stack_control *ret, struct stack_faults *faults);

/* Whether a text can be a stack's name. */
bool stack_name_ok(const char *name, size_t len);
/* Whether a file of that name is passed over in a directory of stacks: hidden, or left by an editor or dpkg or rpm. */
bool stack_left_over(const char *name);

#endif
