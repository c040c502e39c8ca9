/*
 * The circumstances of a question (check, pages, whoami): their options, and the context that the protocol has for them.
 */
#ifndef APIKEYCTL_CONTEXT_H
#define APIKEYCTL_CONTEXT_H

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/ctl.h"
#include "proto/rpc.h"

/* For tables of options. */
#define CONTEXT_OPTIONS                                                                                                \
	{.name = "org", .value = "ORG", .help = "the organization that is meant"},                                     \
		{.name = "addr",                                                                                       \
		 .value = "IP",                                                                                        \
		 .help = "the address of the remote client, for keys narrowed to networks"},                           \
		{.name = "stack",                                                                                      \
		 .value = "NAME",                                                                                      \
		 .help = "the daemon's stack to be judged by (default: its default)"},                                 \
	{                                                                                                              \
		.name = "min-rev", .value = "N",                                                                       \
		.help = "an answer at least as new as this revision, which a change returned"                          \
	}
#define CONTEXT_COST                                                                                                   \
	{                                                                                                              \
		.name = "cost", .value = "N", .help = "how much this use counts against a rate (default: 1)"           \
	}

/* Reads them; text is borrowed from the command line. Returns a ctl_exit, having said what is wrong. */
int context_read(const struct ctl *ctl, const struct args *args, struct rpc_context_text *ret);

/* A terminated text as rpc.h has it; NULL: not there. */
struct rpc_text context_text(const char *text);

#endif
