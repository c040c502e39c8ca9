/*
 * Verdicts in words: what a reason means for this question, and what to do about it. Pure.
 */
#ifndef APIKEYCTL_WORDS_H
#define APIKEYCTL_WORDS_H

#include <stddef.h>

#include "proto/rpc.h"

enum { WORDS_SIZE = 400 };

/* The question, as far as its answer's words need it; page and org NULL where they were not given. */
struct words_question {
	const char *scope, *page, *org; /* scope NULL: whoami */
	bool addr;			/* an address was given */
};

/* One sentence: why. Never empty. */
void words_why(const struct rpc_answer *answer, const struct words_question *question, char out[WORDS_SIZE]);

/* One sentence: what to do next; "" for an allow. */
void words_next(const struct rpc_answer *answer, const struct words_question *question, char out[WORDS_SIZE]);

/* "the page status-acme" or "the organization acme" or "the organization level". */
void words_place(const struct rpc_answer *answer, const struct words_question *question, char out[WORDS_SIZE]);

#endif
