/*
 * A compiled stack: the flat program that the engine runs, with nothing left to look up.
 *
 * Owns its lines and the texts in them; the instances of modules are named by number (line.instance), and belong to
 * whoever opened them. Who calls it: policy.c (the daemon), apikeyctl's stack noun, the tests.
 *
 * Always holds: a program that compiled can be run: its blocks are nested and closed, its modules may stand where they
 * stand, its arguments are typed and checked. It never changes once compiled, so many may read it.
 */
#ifndef APIKEYD_DAEMON_STACK_PROGRAM_H
#define APIKEYD_DAEMON_STACK_PROGRAM_H

#include "daemon/stack/parse.h"

struct arena; /* proto/value.h */

enum {
	STACK_DEPTH_MAX = 16,	  /* of include and substack, the file itself counted */
	STACK_PROGRAM_MAX = 1024, /* lines of one program, all included ones counted, and those that include */
};

enum stack_op { STACK_OP_MODULE = 0, STACK_OP_ENTER, STACK_OP_LEAVE }; /* the last two: around a substack */

struct stack_line {
	uint8_t op;    /* enum stack_op */
	bool optional; /* as in stack_control */
	/* MODULE: where it goes on when it ends its block (the block's LEAVE, or the group's end). ENTER: its LEAVE */
	uint16_t end;
	uint16_t module_number;		     /* MODULE: counts the program's module lines from 0 */
	const struct apikeyd_module *module; /* MODULE, else NULL */
	const struct apikeyd_value *values;  /* MODULE: one for each of the module's arguments */
	const struct stack_place *places;    /* MODULE: where those stand; line 0: not in the file */
	uint8_t actions[APIKEYD_CODE_END];   /* MODULE */
	/* where it comes from, for explain and for the log */
	const char *stack; /* the stack in whose file it stands */
	const char *path;  /* of that file */
	struct stack_place place, name_place;
	const char *control; /* as written, blanks made one; ENTER, LEAVE: "substack" */
	const char *name;    /* of the module; ENTER, LEAVE: of the stack */
	/*
	 * The name, then the arguments as written, each behind one blank, in the order of the module's table: lines
	 * of one text do the same. "<group> <control> <text>" is a line of a stack file.
	 */
	const char *text;
};

struct stack_program {
	const char *name;
	const struct stack_line *lines;
	uint16_t first[STACK_GROUPS + 1]; /* group g is lines first[g] to first[g + 1] - 1 */
	uint16_t module_count;
	bool may_wait;		 /* a module of it is asynchronous */
	bool none[STACK_GROUPS]; /* the group says `none`, here or in all that it includes */
};

/* How the compiler finds what a file names. Both may be called for the same name again. What is borrowed must live
 * until stack_compile returns; modules as long as the program. */
struct stack_finder {
	/* The module of that name, or NULL; *ret_why then says why, for people (borrowed). */
	const struct apikeyd_module *(*module)(void *data, const char *name, const char **ret_why);
	/*
	 * The text of the stack of that name. True with *ret_text (from malloc; the compiler frees it) and *ret_path
	 * (borrowed: what faults and lines call the file); false with *ret_why.
	 */
	bool (*stack)(void *data, const char *name, char **ret_text, size_t *ret_len, const char **ret_path,
		      const char **ret_why);
	void *data;
};

/*
 * Compiles the stack `name`. NULL with at least one fault told. Modules' arguments are typed and looked at by their
 * `check`, but nothing is opened.
 */
struct stack_program *stack_compile(const char *name, const struct stack_finder *finder, struct stack_faults *faults);
void stack_program_free(struct stack_program *program); /* NULL is fine */

/*
 * Tells what a module has against its line: `error` as its `check` and `open` write it. "argument: ..." is told where
 * that argument stands, anything else where the module's name does.
 */
void stack_line_fault(struct stack_faults *faults, const struct stack_line *line, const char *error);

/*
 * One argument's value by its type: 0, or -EINVAL with `right` saying what would be right, or -ENOMEM. `arena` owns
 * what the value points to.
 */
int stack_value(struct arena *arena, const struct apikeyd_argument *argument, const char *text,
		struct apikeyd_value *ret, char *right, size_t right_size);
#endif
