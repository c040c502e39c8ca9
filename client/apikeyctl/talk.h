/*
 * Asking the daemon: one connection to one of its sockets, errors said in words, exit codes.
 *
 * Owns the connection and the memory of the last answer. Functions return a ctl_exit and have said what is wrong.
 */
#ifndef APIKEYCTL_TALK_H
#define APIKEYCTL_TALK_H

#include "client/apikeyctl/ctl.h"
#include "client/libapikey/call.h"
#include "proto/rpc.h"
#include "proto/value.h"

enum talk_socket {
	TALK_CHECK = 0,
	TALK_ADMIN,
};

struct talk {
	const struct ctl *ctl;
	enum talk_socket socket;
	struct call call;
	bool answered;	    /* talk_try: there was somebody */
	struct arena arena; /* of the last answer; wiped by the next question and by talk_close */
};

/* Remembers where to ask; connects with the first question. */
int talk_open(struct talk *talk, const struct ctl *ctl, enum talk_socket socket);
void talk_close(struct talk *talk);

/* One call with one map (or NULL: none). *ret is good until the next question. */
int talk_run(struct talk *talk, const char *method, const struct value *params, const struct value **ret);

/*
 * As talk_run, but says nothing where nobody can be asked, or can answer, for now: that may pass. Then it returns
 * CTL_UNAVAILABLE, with a line in `why`, which else is empty. That there is nobody at all is said at the first time.
 */
enum { TALK_WHY_SIZE = 400 };
int talk_try(struct talk *talk, const char *method, const struct value *params, int timeout_ms,
	     const struct value **ret, char why[TALK_WHY_SIZE]);

/* One question that is already written with the msgid of call_next_id(&talk->call); `encoded` is wiped. */
int talk_send(struct talk *talk, struct rpc_buffer *encoded, uint32_t msgid, const struct value **ret);

/* Opens the administration socket, makes one call, and hands the answer over; talk_close by the caller in every case. */
int talk_admin(struct talk *talk, const struct ctl *ctl, const char *method, const struct value *params,
	       const struct value **ret);

#endif
