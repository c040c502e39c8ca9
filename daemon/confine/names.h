/*
 * The shared objects of this host's name services (/etc/nsswitch.conf), which libc loads when it first needs them: too late
 * for a daemon whose memory no longer becomes executable.
 *
 * Owns nothing; what is loaded stays. Who calls it: confine.c.
 */
#ifndef APIKEYD_DAEMON_CONFINE_NAMES_H
#define APIKEYD_DAEMON_CONFINE_NAMES_H

/* Loads those for users, groups and hosts. What is not there libc passes over, now as later. */
void names_load(void);

#endif
