/*
 * Waiting until no daemon answers from before a revision any more: wait, and --wait of the commands that change
 * something. wait.c asks again and again, wait_show.c says how far it is.
 */
#ifndef APIKEYCTL_WAIT_H
#define APIKEYCTL_WAIT_H

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/ctl.h"
#include "proto/value.h"

/*
 * With --wait: waits for the revision of a change's answer, which has been printed. Returns a ctl_exit; CTL_DONE at
 * once where --wait was not given.
 */
int wait_after(const struct ctl *ctl, const struct args *args, const struct value *answer);

/* How far it is, for people: on a terminal lines that are written again, else a line now and then. */
struct wait_show {
	const struct ctl *ctl;
	uint64_t rev;
	int64_t said_at; /* ms; of what is no terminal */
	unsigned lines;	 /* on the terminal, to be written over */
};

/* `rows` of the last answer, or NULL with `why` there was none. `now_ms` of a clock that does not jump. */
void wait_show(struct wait_show *show, int64_t now_ms, const struct value *rows, const char *why);
/* Takes the lines away again. */
void wait_show_end(struct wait_show *show);
/* What a row waits for, such as "host1 pid 77: at revision 5, at most 3.4s". */
void wait_show_row(const struct value *row, char *out, size_t size);

#endif
