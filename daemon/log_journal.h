/*
 * The systemd journal's own protocol: entries of fields, one datagram each.
 *
 * Owns one socket. Who calls it: log.c, from any thread, but for log_journal_open and _close. Knows no levels and no names
 * of ours.
 *
 * Always holds: whatever bytes a value has, it ends where its field ends: nothing in it can begin another field or
 * another entry. Sending never blocks.
 */
#ifndef APIKEYD_DAEMON_LOG_JOURNAL_H
#define APIKEYD_DAEMON_LOG_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_JOURNAL_SOCKET "/run/systemd/journal/socket"

/* Room for a line, and for every field that log.h knows at its longest. */
enum { LOG_ENTRY_SIZE = 16384 };

/* Made on the stack; `len` 0: empty. */
struct log_entry {
	size_t len;
	bool full; /* a field found no room: it is left out whole, and log_journal_send refuses the entry */
	uint8_t bytes[LOG_ENTRY_SIZE];
};

/* Adds a field. `name`: capital letters, digits and '_', not beginning with '_'; not checked. */
void log_entry_add(struct log_entry *entry, const char *name, const void *value, size_t len);
void log_entry_add_number(struct log_entry *entry, const char *name, uint64_t number);

/* Connects to the journal. 0, or -errno with nothing open. */
int log_journal_open(const char *path);
void log_journal_close(void);
/* 0; or -errno: it did not take it, and nothing of it; -ENOTCONN: nothing is open. */
int log_journal_send(const struct log_entry *entry);

#endif
