/* verify-copy: has the daemon compare all of its copy with the database, and waits for what it finds. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/show.h"
#include "client/apikeyctl/talk.h"

enum { VERIFY_LOOK_MS = 100, VERIFY_PATIENCE_MS = 30000 };

static const struct show_column verify_columns[] = {
	{"KIND", "kind", 0, NULL},	 {"THINGS", "things", 0, NULL},	  {"DIFFERENT", "different", 0, NULL},
	{"MISSING", "missing", 0, NULL}, {"SURPLUS", "surplus", 0, NULL}, {NULL, NULL, 0, NULL},
};

static const char *verify_state(const struct value *answer)
{
	return value_as_text(value_get(answer, "state"), "");
}

static bool verify_goes_on(const struct value *answer)
{
	const char *state = verify_state(answer);

	return strcmp(state, "running") == 0 || strcmp(state, "loading") == 0 || strcmp(state, "waiting") == 0;
}

/* How far it is, on one line of the terminal. */
static void verify_progress(const struct ctl *ctl, const struct value *answer)
{
	const struct value *kinds = value_get(answer, "kinds");
	const char *state = verify_state(answer);

	if (!ctl->err_terminal || ctl->quiet)
		return;
	fputs("\r\033[K", ctl->err);
	if (strcmp(state, "running") != 0)
		fprintf(ctl->err, "%s",
			strcmp(state, "loading") == 0 ? "the daemon loads its copy anew …"
						      : "the daemon waits for the database …");
	for (uint32_t i = 0; kinds && kinds->type == VALUE_LIST && i < kinds->count; i++) {
		const struct value *kind = &kinds->items[i];

		if (strcmp(state, "running") != 0 || value_as_bool(value_get(kind, "ended"), false))
			continue;
		fprintf(ctl->err, "%s: %" PRIu64 " of %" PRIu64 " …", value_as_text(value_get(kind, "kind"), ""),
			value_as_uint(value_get(kind, "things"), 0), value_as_uint(value_get(kind, "of"), 0));
		break;
	}
	fflush(ctl->err);
}

/* Asks until it has ended. Patience is for a daemon that cannot go on; one that does may take its time. */
static int verify_wait(struct talk *talk, const struct value **ret)
{
	const struct ctl *ctl = talk->ctl;
	uint64_t patience_ms = ctl->timeout_ms ? ctl->timeout_ms : VERIFY_PATIENCE_MS, waited_ms = 0;
	int code = CTL_DONE;

	while (!code && verify_goes_on(*ret)) {
		struct timespec pause = {.tv_nsec = VERIFY_LOOK_MS * 1000000};

		verify_progress(ctl, *ret);
		waited_ms = strcmp(verify_state(*ret), "waiting") == 0 ? waited_ms + VERIFY_LOOK_MS : 0;
		if (waited_ms > patience_ms) {
			code = ctl_say(ctl, CTL_UNAVAILABLE,
				       "the daemon cannot follow the database now, so nothing is verified: see its log "
				       "(it goes on by itself when it can)");
			break;
		}
		while (nanosleep(&pause, &pause) != 0 && errno == EINTR)
			;
		code = talk_run(talk, "verify_copy_show", NULL, ret);
	}
	if (ctl->err_terminal && !ctl->quiet)
		fputs("\r\033[K", ctl->err);
	return code;
}

static int verify_table(const struct ctl *ctl, const struct value *answer)
{
	const struct value *kinds = value_get(answer, "kinds");
	struct show_table *table = show_table_new(ctl, verify_columns);
	int code = table ? CTL_DONE : ctl_no_memory(ctl);

	for (uint32_t i = 0; !code && kinds && kinds->type == VALUE_LIST && i < kinds->count; i++)
		if (!show_table_add(table, &kinds->items[i]))
			code = ctl_no_memory(ctl);
	if (!code)
		show_table_print(table);
	show_table_free(table);
	return code;
}

static int verify_outcome(const struct ctl *ctl, const struct value *answer)
{
	const char *state = verify_state(answer);
	uint64_t differences = value_as_uint(value_get(answer, "differences"), 0);
	int code = ctl->json ? jsonout_show(ctl, answer) : verify_table(ctl, answer);

	if (code)
		return code;
	if (strcmp(state, "equal") == 0) {
		ctl_note(ctl, "equal: the copy is what the database has (revision %" PRIu64 ", %" PRIu64 " ms)",
			 value_as_uint(value_get(answer, "rev"), 0), value_as_uint(value_get(answer, "took_ms"), 0));
		return CTL_DONE;
	}
	if (strcmp(state, "mended") == 0)
		ctl_note(ctl,
			 "mended: %" PRIu64 " differences were found and the copy was loaded anew; now it is what the "
			 "database has. The daemon's log names what differed",
			 differences);
	else if (strcmp(state, "different") == 0)
		ctl_note(ctl,
			 "different: the copy is not what the database has, and the daemon does not load it anew for "
			 "that now: its log names what differs and why");
	else
		return ctl_say(ctl, CTL_UNAVAILABLE, "the daemon's answer is not understood: state \"%s\"", state);
	return CTL_DENY;
}

static int verify_run(struct ctl *ctl, const struct args *args)
{
	const struct value *answer = NULL;
	struct talk talk = {0};
	int code;

	(void)args;
	code = talk_admin(&talk, ctl, "verify_copy_start", NULL, &answer);
	if (!code)
		code = verify_wait(&talk, &answer);
	if (!code)
		code = verify_outcome(ctl, answer);
	talk_close(&talk);
	return code;
}

const struct command command_verify_copy = {
	.name = "verify-copy",
	.summary = "compare the daemon's copy with the database, thing by thing",
	.details =
		"The daemon compares a checksum of each thing in its memory with what the database says of it, while it "
		"answers and follows changes as always. What differs makes it load everything anew. Each daemon verifies "
		"its own copy.\n"
		"Ends with 0 where all is equal, with 1 where something differed (mended since, or not), with 3 where "
		"the daemon cannot verify now.",
	.run = verify_run,
};
