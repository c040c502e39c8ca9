/*
 * The anchors in a log: `ledger: anchor chain=<uuid> batch=<n> head=<64 hexadecimal digits>`, wherever they stand in it.
 *
 * Owns the list. Who calls it: audit_anchors.c, which reads files, and audit_verify.c, which compares. Pure. A log is
 * bytes from outside: whatever it holds, what is in the list has exactly this form, and no more of the log is kept in
 * memory than one anchor is long.
 */
#ifndef APIKEYCTL_ANCHORS_H
#define APIKEYCTL_ANCHORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ANCHOR_BEGINS "ledger: anchor chain="

enum { ANCHOR_CHAIN_LEN = 36, ANCHOR_HEAD_LEN = 64, ANCHORS_ROOM = 65536 };

struct anchor {
	char chain[ANCHOR_CHAIN_LEN + 1];
	int64_t batch; /* from 1 up */
	char head[ANCHOR_HEAD_LEN + 1];
	bool met;  /* the database has that batch */
	bool same; /* ... with that head */
};

struct anchors {
	struct anchor *items;
	size_t count, room;
};

/* Of a log that comes in pieces: what may be the beginning of one. Zeroed: none. */
struct anchors_reader {
	char text[ANCHORS_ROOM];
	size_t len;
};

/* The next piece; `last`: none follows. False without memory. */
bool anchors_feed(struct anchors *anchors, struct anchors_reader *reader, const char *data, size_t len, bool last);
/* When all was fed: into the order of chain and batch, each but once. */
void anchors_sort(struct anchors *anchors);
/* Compares those of this batch, if there are any, with the head that the database has. */
void anchors_meet(struct anchors *anchors, const char *chain, int64_t batch, const char *head);
void anchors_deinit(struct anchors *anchors);

#endif
