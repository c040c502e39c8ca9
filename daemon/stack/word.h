/*
 * Words of stack files: how faults show them, what they may hold, and which known word was probably meant. Pure.
 *
 * Who calls it: the parser and the compiler.
 */
#ifndef APIKEYD_DAEMON_STACK_WORD_H
#define APIKEYD_DAEMON_STACK_WORD_H

#include <stdbool.h>
#include <stddef.h>

enum { WORD_SHOWN_SIZE = 80 };

/* The word as a fault shows it: bytes that are no text as \xNN, long ones cut. Terminated, in `out`, which it returns. */
const char *word_shown(const char *word, size_t len, char out[WORD_SHOWN_SIZE]);

static inline bool word_is_blank(char c)
{
	return c == ' ' || c == '\t';
}

bool word_is(const char *known, const char *word, size_t len);

/* The i-th word of a list, NULL past the end. */
typedef const char *(*word_list)(const void *data, unsigned i);
/* The word of the list that was probably meant: but for a few letters it is the same. NULL: none is that near. */
const char *word_nearest(const char *word, size_t len, word_list at, const void *data);

/*
 * Looks for what no stack file may hold: false where there is something, with its place and length in bytes and one
 * line for people: "what is wrong; what would be right". Tabs are fine; line ends are not looked for here.
 */
bool word_text_ok(const char *text, size_t len, size_t *ret_at, size_t *ret_len, const char **ret_why);

#endif
