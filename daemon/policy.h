/*
 * Policy: all stacks as they were loaded together, with the open instances of their modules.
 *
 * Owns programs and instances. Who calls it: server.c loads one at the start and on each reload; request.c judges by
 * it. A request that waits keeps a reference to the policy that it began with. On the loop's thread.
 *
 * Always holds: a policy is whole: every stack of it compiled and every module of it opened. It never changes. An
 * instance whose line a reload leaves as it is goes on in the next policy, with all that it remembers. The functions
 * that modules call (struct apikeyd_host) come from above: policy knows no request and no loop.
 */
#ifndef APIKEYD_DAEMON_POLICY_H
#define APIKEYD_DAEMON_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/stack/program.h"
#include "proto/rpc.h"

#define POLICY_STACK "default" /* the stack of those who name none */

/* What compiled, kept as long as a policy or an instance needs its text. */
struct policy_program;

/* One instance of a module: one line of one stack. */
struct apikeyd_self {
	const struct apikeyd_module *module;
	void *instance;	   /* the module's own */
	const char *stack; /* name, for the log */
	const char *path;  /* and */
	uint32_t line;	   /* where it stands, in the policy in use; for the log */
	void *data;	   /* policy_host.data */
	uint32_t pending;  /* requests that wait for it */
	uint64_t asked;
	void *watches; /* of whoever implements host->watch */

	/* private */
	unsigned refs; /* policies that hold it */
	bool claimed;  /* while a next policy is loaded: it is in there already */
	enum stack_group group;
	const char *text;
	struct policy_program *origin; /* has the values and texts that the module was given */
};

struct policy_stack {
	const char *name;
	uint32_t name_len;
	const struct stack_program *program;
	struct apikeyd_self **instances; /* by stack_line.module_number */
	struct apikeyd_self **ended;	 /* those whose module wants to be told of verdicts */
	uint32_t ended_count;
	/* module numbers [first, end) stand in page and scope: they are asked for each pair */
	uint16_t pair_first, pair_end;
	bool keeps; /* a module of it is asynchronous: what modules answered must be kept from the start */
	uint64_t verdicts[REASON_COUNT];

	/* private */
	struct policy_program *owner;
};

/* What instances are opened with. Borrowed, as long as any instance lives. */
struct policy_host {
	const struct apikeyd_host *host;
	void *data; /* apikeyd_self.data */
	/* The instance ends: watches and the like go. NULL: nothing to do. */
	void (*closing)(struct apikeyd_self *self);
};

struct policy {
	struct policy_stack *stacks; /* by name */
	uint32_t stack_count;
	const struct policy_stack *fallback; /* POLICY_STACK; NULL: there is none */

	/* private */
	unsigned refs;
	const struct policy_host *host;
};

/*
 * Compiles the stacks of these names, whose paths are policy_path's, and opens their modules. Returns a policy with one reference, or NULL with at
 * least one fault told and everything as before. `before` (NULL: none): whose instances may go on. There must be a
 * stack POLICY_STACK. host NULL: looks only; nothing is opened, and the policy can judge nothing (apikeyd -t).
 */
struct policy *policy_new(const char *const *names, uint32_t count, const struct stack_finder *finder,
			  const struct policy_host *host, const struct policy *before, struct stack_faults *faults);

/* As policy_new, of a stack directory and a module directory, both trusted (see trusted.h). */
struct policy *policy_load(const char *directory, const char *module_directory, const struct policy_host *host,
			   const struct policy *before, struct stack_faults *faults);

/*
 * A path that stays as long as the process, for the places of lines: the few that there are are kept once each. NULL
 * without memory.
 */
const char *policy_path(const char *path);

/* It is in use from now on: instances that go on from an earlier policy stand where this one has their lines. */
void policy_enter(const struct policy *policy);

struct policy *policy_ref(struct policy *policy);
void policy_unref(struct policy *policy); /* NULL is fine. The last one closes what no other policy has */

/* The stack of that name; the text absent: POLICY_STACK. NULL: there is none. */
struct policy_stack *policy_find(struct policy *policy, const char *name, size_t len);

#endif
