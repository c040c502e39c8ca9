/*
 * What the process may do by right: given up for good, once it has bound its sockets.
 *
 * Owns nothing. Who calls it: confine.c, on the main thread.
 *
 * Always holds, afterwards: effective, real and saved ids are one; no capability is effective, permitted, inheritable or
 * ambient, and a program would get none; root has no supplementary group.
 */
#ifndef APIKEYD_DAEMON_CONFINE_PRIVILEGES_H
#define APIKEYD_DAEMON_CONFINE_PRIVILEGES_H

#include <stddef.h>

/* 0, or -errno with one line in `error`: something that the process could be given remains. */
int privileges_drop(char *error, size_t error_size);

#endif
