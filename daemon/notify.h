/*
 * What the service manager is told: that the daemon is ready, reloads, stops, lives, and how it is (sd_notify's
 * protocol, over $NOTIFY_SOCKET).
 *
 * Owns a timer and a socket. Who calls it: server.c, on the loop's thread.
 *
 * Always holds: nothing is sent, and the loop does not turn for it, where no service manager asked; telling never
 * blocks, and what cannot be told at once is told the next time; the watchdog is fed by the loop's own timer, so only
 * while the loop turns; until the daemon is ready the manager is asked for more time, so that a start ends in a timeout
 * only where the loop does not turn.
 */
#ifndef APIKEYD_DAEMON_NOTIFY_H
#define APIKEYD_DAEMON_NOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>
#include <uv.h>

enum { NOTIFY_TEXT_SIZE = 512 };

/* Writes how the daemon is, one line, for people. */
typedef void (*notify_describe)(void *data, char *out, size_t size);

/* Zeroed: tells nobody. */
struct notify {
	uv_timer_t timer;
	notify_describe describe;
	void *data;
	int fd;
	struct sockaddr_un address;
	socklen_t address_len; /* 0: nobody asked */
	bool watchdog;
	bool ready, stopping;
	bool owed;	  /* that it is ready could not be told yet */
	uint64_t told_at; /* loop ms of the last status */
	char told[NOTIFY_TEXT_SIZE];
};

/* Begins to tell, where $NOTIFY_SOCKET names somebody. */
void notify_start(struct notify *notify, uv_loop_t *loop, notify_describe describe, void *data);
/* The first complete copy is there. */
void notify_ready(struct notify *notify);
/* The configuration is being read again; and that has come to its end. */
void notify_reloading(struct notify *notify);
void notify_reloaded(struct notify *notify);
/* The daemon stops, within `stop_ms`. */
void notify_stopping(struct notify *notify, uint32_t stop_ms);
/* Closes the timer; the loop runs on until that has gone. */
void notify_close(struct notify *notify);

#endif
