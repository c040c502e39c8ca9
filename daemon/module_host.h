/*
 * The part of what modules may call that is about the loop and about programs: log, watch, program, run.
 *
 * Owns the watches of module instances. Who calls it: server.c, which puts it together with request_host_fill; modules.
 */
#ifndef APIKEYD_DAEMON_MODULE_HOST_H
#define APIKEYD_DAEMON_MODULE_HOST_H

#include <uv.h>

#include "daemon/broker.h"
#include "daemon/policy.h"

/* `broker` NULL: no program can be started. There is one loop in a process. */
void module_host_fill(struct apikeyd_host *host, uv_loop_t *loop, struct broker *broker);
/* policy_host.closing: what an instance has not ended itself. */
void module_host_closing(struct apikeyd_self *self);

#endif
