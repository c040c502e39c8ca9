/*
 * What `stack check` finds, kept until it is shown: a finding of a file that several stacks include is one.
 */
#ifndef APIKEYCTL_STACK_FINDING_H
#define APIKEYCTL_STACK_FINDING_H

#include "client/apikeyctl/ctl.h"
#include "daemon/stack/parse.h"
#include "proto/value.h"

enum finding_severity { FINDING_NOTE = 0, FINDING_WARNING, FINDING_ERROR, FINDING_SEVERITIES };

/* What is said of one place. Texts are copied. */
struct finding {
	enum finding_severity severity;
	const char *code;	  /* the kind of finding, of apikeyd-stacks(5) */
	const char *file;	  /* its path */
	struct stack_place place; /* line 0: the whole file */
	const char *word;	  /* that it is about; NULL: none */
	const char *message;	  /* what is so */
	const char *hint;	  /* what to do; NULL: not said */
};

struct findings {
	struct arena arena;
	struct finding *all;
	struct value *stacks; /* of each: the names of those that have it, a list */
	size_t count;
	unsigned counts[FINDING_SEVERITIES];
	bool no_memory;
};

void findings_deinit(struct findings *findings);
/* `stack`: which stack has it; NULL: it is about a file that is none. */
void findings_add(struct findings *findings, const char *stack, const struct finding *finding);
/* The same, with message and hint in one: "message; hint". */
void findings_add_text(struct findings *findings, const char *stack, struct finding finding, const char *text);
/* A line each, or with --json an array. Returns a ctl_exit. */
int findings_show(struct findings *findings, const struct ctl *ctl);

#endif
