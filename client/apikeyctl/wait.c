/* wait: until no daemon answers from before a revision any more. */
#include "client/apikeyctl/wait.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/talk.h"
#include "client/apikeyctl/text.h"

enum {
	WAIT_MS = 120000,      /* the longest lease is half of that, where nobody changed it */
	WAIT_ANSWER_MS = 5000, /* for one answer */
	WAIT_PAUSE_MIN_MS = 10,
	WAIT_PAUSE_MAX_MS = 200,
};

struct wait {
	const struct ctl *ctl;
	struct talk talk;
	struct wait_show show;
	struct arena arena;
	struct value params;
	int64_t begun_at, ends_at; /* ms */
	const struct value *rows;  /* of the last answer; NULL: there was none */
	char why[TALK_WHY_SIZE];
};

static void wait_pause(int64_t ms)
{
	struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&pause, &pause) != 0 && errno == EINTR)
		;
}

static bool wait_is_over(const struct value *rows)
{
	for (uint32_t i = 0; i < rows->count; i++) {
		if (!value_as_bool(value_get(&rows->items[i], "done"), false))
			return false;
	}
	return rows->count > 0;
}

/* One look. CTL_DONE with wait->rows; CTL_UNAVAILABLE with wait->why where another look may tell; else it is said. */
static int wait_look(struct wait *wait)
{
	int64_t left = wait->ends_at - wire_now_ms();
	const struct value *answer = NULL;
	int ms = left < 1 ? 1 : left < WAIT_ANSWER_MS ? (int)left : WAIT_ANSWER_MS;
	int code;

	wait->rows = NULL;
	code = talk_try(&wait->talk, "wait_for", &wait->params, ms, &answer, wait->why);
	if (code)
		return code;
	wait->rows = value_get(answer, "rows");
	if (!wait->rows || wait->rows->type != VALUE_LIST)
		return ctl_say(wait->ctl, CTL_REFUSED, "the daemon's answer to wait_for has no rows");
	return CTL_DONE;
}

/* The time is over. */
static int wait_in_vain(const struct wait *wait)
{
	char first[200];

	if (!wait->rows)
		return ctl_say(wait->ctl, CTL_IN_VAIN,
			       "whether a daemon still answers from before revision %" PRIu64 " is not known: %s",
			       wait->show.rev, wait->why);
	wait_show_row(&wait->rows->items[0], first, sizeof(first));
	return ctl_say(wait->ctl, CTL_IN_VAIN,
		       "waited in vain for revision %" PRIu64 ": %s (go on: apikeyctl wait --rev %" PRIu64 ")",
		       wait->show.rev, first, wait->show.rev);
}

static int wait_loop(struct wait *wait)
{
	int64_t pause = WAIT_PAUSE_MIN_MS, now;
	bool over;
	int code;

	for (;;) {
		code = wait_look(wait);
		now = wire_now_ms();
		over = !code && wait_is_over(wait->rows);
		if (over || (code && !wait->why[0]) || now >= wait->ends_at)
			break;
		wait_show(&wait->show, now, wait->rows, wait->why);
		wait_pause(now + pause < wait->ends_at ? pause : wait->ends_at - now);
		pause = pause * 2 < WAIT_PAUSE_MAX_MS ? pause * 2 : WAIT_PAUSE_MAX_MS;
	}
	wait_show_end(&wait->show);
	if (code && !wait->why[0])
		return code;
	return over ? CTL_DONE : wait_in_vain(wait);
}

static int wait_json(const struct wait *wait, int code)
{
	static const struct value none = {.type = VALUE_LIST};
	struct value document, *rows;
	struct arena arena = {0};

	value_map(&document);
	if (value_set_uint(&arena, &document, "rev", wait->show.rev) &&
	    value_set_bool(&arena, &document, "done", code == CTL_DONE) &&
	    value_set_int(&arena, &document, "waited_ms", wire_now_ms() - wait->begun_at) &&
	    (rows = value_set(&arena, &document, "rows"))) {
		*rows = wait->rows ? *wait->rows : none;
		jsonout_show(wait->ctl, &document);
	} else {
		code = ctl_no_memory(wait->ctl);
	}
	arena_clear(&arena);
	return code;
}

static void wait_note(const struct wait *wait)
{
	uint32_t daemons = 0;

	for (uint32_t i = 0; i < wait->rows->count; i++)
		daemons += strcmp(value_as_text(value_get(&wait->rows->items[i], "what"), ""), "daemon") == 0;
	ctl_note(wait->ctl, "no daemon answers from before revision %" PRIu64 " any more (applied by %" PRIu32 ")",
		 wait->show.rev, daemons);
}

/* `json`: the outcome is a document of its own. */
static int wait_for(const struct ctl *ctl, uint64_t rev, bool json)
{
	struct wait wait = {.ctl = ctl, .show = {.ctl = ctl, .rev = rev}, .begun_at = wire_now_ms()};
	int code = CTL_DONE;

	wait.ends_at = wait.begun_at + (ctl->timeout_ms ? ctl->timeout_ms : WAIT_MS);
	value_map(&wait.params);
	if (!value_set_uint(&wait.arena, &wait.params, "rev", rev))
		code = ctl_no_memory(ctl);
	if (!code)
		code = talk_open(&wait.talk, ctl, TALK_ADMIN);
	if (code)
		goto out;
	fflush(ctl->out); /* what was changed is told before the waiting for it */
	code = wait_loop(&wait);
	if (json && (code == CTL_DONE || code == CTL_IN_VAIN))
		code = wait_json(&wait, code);
	else if (code == CTL_DONE)
		wait_note(&wait);
out:
	talk_close(&wait.talk);
	arena_clear(&wait.arena);
	return code;
}

int wait_after(const struct ctl *ctl, const struct args *args, const struct value *answer)
{
	uint64_t rev = value_as_uint(value_get(answer, "rev"), 0);

	if (!args_has(args, "wait"))
		return CTL_DONE;
	if (!rev)
		return ctl_say(ctl, CTL_IN_VAIN, "the answer names no revision to wait for");
	return wait_for(ctl, rev, false);
}

static int wait_run(struct ctl *ctl, const struct args *args)
{
	const char *text = args_text(args, "rev");
	uint64_t rev;

	if (!text)
		return ctl_say(ctl, CTL_USAGE, "wait needs --rev N: the revision that a change answered");
	if (!text_number(text, INT64_MAX, &rev) || rev == 0)
		return ctl_say(ctl, CTL_USAGE, "--rev takes a revision, as a change answered it, not \"%s\"", text);
	return wait_for(ctl, rev, ctl->json);
}

static const struct option wait_options[] = {
	{.name = "rev", .value = "N", .help = "the revision: what a change answered, or apikeyd.revision() in SQL"},
	{.name = NULL},
};

const struct command command_wait = {
	.name = "wait",
	.summary = "wait until no daemon answers from before a revision any more",
	.details =
		"Returns when every daemon that follows the database has applied the revision, or its lease is out, so that "
		"it answers \"unavailable\" until it knows better. After a promotion it holds for one longest lease. "
		"--timeout is how long it waits in all (default: 2m); exit code 5: that was not enough.",
	.options = wait_options,
	.run = wait_run};
