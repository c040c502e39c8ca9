/*
 * The lines that exec and its programs exchange. Pure. apikeyd-modules(7), exec, tells them to whoever writes a program.
 *
 *     <id> TAB group=… TAB stack=… TAB … LF               to the program
 *     <id> <code> [<retry_after_ms>] [# <detail>] LF      from it
 *
 * Who calls it: exec.c, exec_worker.c. Always holds: no key's text is in a line; a line has no line end, tab or NUL but
 * those that are its form; lines are bounded.
 */
#ifndef APIKEYD_DAEMON_MODULES_EXEC_LINE_H
#define APIKEYD_DAEMON_MODULES_EXEC_LINE_H

#include "daemon/apikeyd-module.h"

enum {
	EXEC_LINE_MAX = 8192,	/* bytes of a question, its line end included */
	EXEC_ANSWER_MAX = 1024, /* bytes of an answer, its line end included */
};

/* Writes a question, its line end included. Returns its length, or 0 where it would be longer than EXEC_LINE_MAX. */
size_t exec_line_put(uint64_t id, const struct apikeyd_request *request, char out[EXEC_LINE_MAX]);

struct exec_answer {
	uint64_t id;
	enum apikeyd_code code;
	uint64_t retry_after_ms; /* 0: nothing said */
	const char *detail;	 /* in the line; NULL: none */
};

/* Reads an answer, `len` bytes without the line end, and a terminator behind them; changes them. False: it is none. */
bool exec_line_read(char *line, size_t len, struct exec_answer *ret);

/* Parts a command at its blanks. Returns how many words there are, of which at most `max` stand in `words`. */
unsigned exec_line_split(char *command, const char **words, unsigned max);

#endif
