/*
 * The lines that judged a question, for people: a table, and one sentence that says why the verdict followed.
 *
 * A trace is a list of maps as PROTOCOL.md, `explain`, has it; `asked` false stands in those that a simulation did not
 * come to. Who calls it: explain.c, stack_explain.c, the tests. Pure but for the printing.
 */
#ifndef APIKEYCTL_TRACE_H
#define APIKEYCTL_TRACE_H

#include "client/apikeyctl/ctl.h"
#include "proto/rpc.h"
#include "proto/value.h"

/* Prints the table. Returns a ctl_exit. */
int trace_show(const struct ctl *ctl, const struct value *trace);

/* One sentence: which line's word became the verdict's reason. Never empty. */
enum { TRACE_WHY_SIZE = 512 };
void trace_why(const struct value *trace, enum reason reason, char out[TRACE_WHY_SIZE]);

/* Nanoseconds as people read them: "412 ns", "8.3 µs", "1.2 ms", "2.0 s". In the arena. */
const char *trace_time(struct arena *arena, const struct value *ns);

#endif
