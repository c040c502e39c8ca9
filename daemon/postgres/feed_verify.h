/*
 * The inside of verifying: shared by feed_verify.c (asks for ranges, compares, and what follows from a difference) and
 * feed_verify_show.c (what is told of it). The feed's other files use the functions of feed_internal.h.
 *
 * A pass goes through all of the copy, kind by kind, range by range: the next verify_things of a kind after the last,
 * in the order of their ids. A range is asked for within a poll, so that its sums are of the poll's revision, and is
 * compared when that has been published and tidied up, a few things a turn; the next poll waits for it. At a kind's end
 * the copy is looked through for what the store has not, beside the polls.
 *
 * A pass in the background asks for a range every verify_ms; one that was asked for goes on as fast as it can.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_FEED_VERIFY_H
#define APIKEYD_DAEMON_POSTGRES_FEED_VERIFY_H

#include "daemon/mirror/copy_sum.h"
#include "daemon/postgres/feed_internal.h"

enum verify_state {
	VERIFY_IDLE = 0, /* nothing under way */
	VERIFY_ASKED,	 /* a poll under way brings a range */
	VERIFY_COMPARE,	 /* the range is there and to be compared: polls wait */
	VERIFY_REST,	 /* all ranges of a kind were compared: what has the copy beyond them? */
};

/* After a reload for the sake of a difference: what differed is looked at first. */
enum verify_again { VERIFY_AGAIN_NO = 0, VERIFY_AGAIN_RANGE, VERIFY_AGAIN_KIND };

struct verify_kind {
	uint64_t things;		      /* that the store has, compared so far */
	uint64_t different, missing, surplus; /* of these; surplus: that the store has not */
	bool ended;
};

/* One pass through the copy. */
struct verify_pass {
	uint64_t number;
	bool asked_for;
	bool ended;
	int64_t began, ended_at; /* boot µs */
	uint64_t rev;		 /* of the range last compared */
	uint64_t found;		 /* differences, those before a reload too */
	uint64_t reloads;
	unsigned lines; /* logged without a reload */
	struct verify_kind kinds[COPY_KINDS];
};

struct feed_verify {
	enum verify_state state;
	enum copy_kind kind;
	char after[24];		  /* the range begins behind this id, as SQL wants it */
	bool begun;		  /* the walk through this kind has begun, in the copy that is there */
	bool partial;		  /* ... but not at its start: nothing can be said of the rest */
	bool last;		  /* the range had fewer things than were asked for: there are no more */
	bool bad;		  /* a row could not be read */
	bool dropped;		  /* nobody wants what the poll under way brings */
	struct verify_kind range; /* what was found in the range, or in the rest */
	uint64_t first;		  /* of the things that differ there */
	struct copy_sums sums;
	struct copy_sum_row *rows;
	uint32_t count_of_range, room, at, limit; /* at: compared up to there */
	int64_t due; /* boot µs: when the next range of the background is to be asked for */

	struct verify_pass pass, shown; /* shown: the last one that was asked for and has ended */
	uint64_t passes;		/* begun */
	enum verify_again again;
	int64_t hold_until; /* boot µs: until then no difference reloads */
	uint32_t hold_s;    /* how long the last hold was; 0: none */
	char told[256];	    /* the last difference that was logged */
	struct {
		uint64_t passes, ranges, things, differences, reloads, failures, last_pass_ms;
	} count;
};

/* It cannot go on now: no session, no copy that is followed, or a load under way. */
bool feed_verify_waits(const struct feed *feed);

#endif
