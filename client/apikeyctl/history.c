/* history: what the daemon keeps denied since the database has lost history, and accepting that. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/show.h"
#include "client/apikeyctl/talk.h"
#include "client/apikeyctl/text.h"

enum { HISTORY_LOOK_MS = 20, HISTORY_LOOKS = 250 };

static const char *history_place(struct arena *arena, const struct value *position)
{
	char text[160];

	snprintf(text, sizeof(text), "revision %" PRIu64 ", timeline %" PRIu64 " of cluster %s",
		 value_as_uint(value_get(position, "rev"), 0), value_as_uint(value_get(position, "timeline"), 0),
		 value_as_text(value_get(position, "system"), "?"));
	return value_get(position, "rev") ? arena_text(arena, text, strlen(text)) : "-";
}

static const struct show_column history_columns[] = {
	{"Lost", "lost_at", 0, show_when},
	{"Why", "detail", SHOW_WRAP, NULL},
	{"From", "from", 0, history_place},
	{"To", "to", 0, history_place},
	{"Refusing", "refusing", 0, NULL},
	{"Kept denied", "kept", 0, NULL},
	{"Remembered", "remembered", 0, NULL},
	{"Whole", "whole", 0, NULL},
	{"Loss", "loss_id", 0, NULL},
	{"In the ledger", "in_ledger", 0, NULL},
	{NULL, NULL, 0, NULL},
};

static const struct show_column history_key_columns[] = {
	{"KEY_ID", "key_id", 0, NULL},
	{"KEPT", "kept", SHOW_STATE, NULL},
	{"RETIRED", "retired_at", 0, show_when},
	{"DATABASE", "database", SHOW_STATE, NULL},
	{NULL, NULL, 0, NULL},
};

static bool history_is_lost(const struct value *answer)
{
	return value_as_bool(value_get(answer, "lost"), false);
}

/* The rows of all answers go to a table, or into the first one's array. */
struct history {
	const struct ctl *ctl;
	struct show_table *table;
	json_t *json;
	uint64_t shown, limit; /* 0: no limit */
	char next[16];
};

static bool history_wants(const struct history *history)
{
	return !history->limit || history->shown < history->limit;
}

static int history_rows(struct history *history, const struct value *answer)
{
	const struct value *rows = value_get(answer, "rows"), *next = value_get(answer, "next");
	json_t *array = history->json ? json_object_get(history->json, "rows") : NULL;

	for (uint32_t i = 0; rows && rows->type == VALUE_LIST && i < rows->count && history_wants(history); i++) {
		if (history->table ? !show_table_add(history->table, &rows->items[i])
				   : json_array_append_new(array, jsonout_of(&rows->items[i])) != 0)
			return ctl_no_memory(history->ctl);
		history->shown++;
	}
	snprintf(history->next, sizeof(history->next), "%s", value_as_text(next, ""));
	return CTL_DONE;
}

/* The first answer's fields, without rows. */
static int history_begin(struct history *history, const struct value *answer)
{
	const struct ctl *ctl = history->ctl;

	if (!ctl->json) {
		history->table = show_table_new(ctl, history_key_columns);
		return !history->table		 ? ctl_no_memory(ctl)
		       : history_is_lost(answer) ? show_record(ctl, history_columns, answer)
						 : CTL_DONE;
	}
	history->json = jsonout_of(answer);
	if (!history->json || json_object_set_new(history->json, "rows", json_array()) != 0)
		return ctl_no_memory(ctl);
	json_object_del(history->json, "next");
	return CTL_DONE;
}

static int history_all(struct history *history, struct talk *talk, const struct value *answer)
{
	struct arena arena = {0};
	struct value map;
	int code = history_begin(history, answer);

	if (!code)
		code = history_rows(history, answer);
	while (!code && *history->next && history_wants(history)) {
		value_map(&map);
		if (!value_set_text(&arena, &map, "after", history->next))
			code = ctl_no_memory(history->ctl);
		if (!code)
			code = talk_run(talk, "history_show", &map, &answer);
		if (!code)
			code = history_rows(history, answer);
	}
	arena_clear(&arena);
	return code;
}

/* What there is to do. */
static void history_advise(const struct ctl *ctl, bool lost, bool refusing, bool whole, bool remembered)
{
	if (!remembered)
		ctl_note(ctl, "the daemon does not remember denials over a restart now: see [state] directory in "
			      "apikeyd.conf(5), and its log");
	if (!whole)
		ctl_note(ctl, "it could not take all denials: raise [state] denials");
	if (!lost) {
		ctl_note(ctl, "no history is lost: nothing is kept denied");
		return;
	}
	ctl_note(ctl, "these keys were revoked, retired or disabled, and the database does not say so any more. %s",
		 refusing ? "Nothing is answered until this history is accepted" : "They stay denied until it is");
	ctl_note(ctl, "1. revoke in the database what must stay revoked: apikeyctl key revoke KEY_ID --yes");
	ctl_note(ctl, "2. look for other changes that were lost: roles, memberships, narrowing, suspensions");
	ctl_note(ctl, "3. let the database's word stand again, at each daemon: apikeyctl history accept");
}

static int history_show_run(struct ctl *ctl, const struct args *args)
{
	struct history history = {.ctl = ctl};
	const char *limit = args_text(args, "limit");
	const struct value *answer = NULL;
	bool lost = false, refusing = false, whole = true, remembered = true;
	struct talk talk = {0};
	int code;

	if (limit && (!text_number(limit, UINT32_MAX, &history.limit) || history.limit == 0))
		return ctl_say(ctl, CTL_USAGE, "--limit takes a number from 1 up, not \"%s\"", limit);
	code = talk_admin(&talk, ctl, "history_show", NULL, &answer);
	if (!code) {
		lost = history_is_lost(answer);
		refusing = value_as_bool(value_get(answer, "refusing"), false);
		whole = value_as_bool(value_get(answer, "whole"), true);
		remembered = value_as_bool(value_get(answer, "remembered"), true);
		code = history_all(&history, &talk, answer);
	}
	if (!code && history.json) {
		code = jsonout_print(ctl, history.json);
		history.json = NULL;
	} else if (!code) {
		show_table_print(history.table);
		history_advise(ctl, lost, refusing, whole, remembered);
	}
	json_decref(history.json);
	show_table_free(history.table);
	talk_close(&talk);
	return code ? code : lost ? CTL_DENY : CTL_DONE;
}

/* It stands at once; that it does so after a restart is certain when the disk has it. */
static int history_written(struct talk *talk, const struct value **ret)
{
	const struct timespec pause = {.tv_nsec = HISTORY_LOOK_MS * 1000000};
	int code = CTL_DONE;

	for (unsigned looks = 0; !code && !value_as_bool(value_get(*ret, "written"), true); looks++) {
		if (looks == HISTORY_LOOKS) {
			ctl_note(talk->ctl,
				 "it is not written yet: after a restart of the daemon it may have to be accepted "
				 "again; see its log");
			break;
		}
		nanosleep(&pause, NULL);
		code = talk_run(talk, "history_show", NULL, ret);
	}
	return code;
}

static int history_accept_run(struct ctl *ctl, const struct args *args)
{
	const struct value *answer = NULL;
	struct arena arena = {0};
	struct talk talk = {0};
	struct value map;
	char kept[24];
	int code;

	(void)args;
	value_map(&map);
	if (!value_set_uint(&arena, &map, "limit", 1))
		return ctl_no_memory(ctl);
	code = talk_admin(&talk, ctl, "history_show", &map, &answer);
	if (!code && !history_is_lost(answer))
		code = ctl_say(ctl, CTL_REFUSED, "no history is lost: there is nothing to accept");
	if (code)
		goto out;
	snprintf(kept, sizeof(kept), "%" PRIu64, value_as_uint(value_get(answer, "kept"), 0));
	arena_clear(&arena);
	value_map(&map);
	/* The loss that was shown, and no later one. */
	if (!value_set_int(&arena, &map, "loss", value_as_int(value_get(answer, "loss"), 0))) {
		code = ctl_no_memory(ctl);
		goto out;
	}
	code = ctl_confirm(ctl, "Accept this history? %s keys that are kept denied will be as the database says.",
			   kept);
	if (!code)
		code = talk_run(&talk, "history_accept", &map, &answer);
	if (!code)
		code = history_written(&talk, &answer);
	if (!code && ctl->json)
		code = jsonout_show(ctl, answer);
	else if (!code)
		ctl_note(ctl, "accepted: %s keys are as the database says, in this daemon", kept);
out:
	talk_close(&talk);
	arena_clear(&arena);
	return code;
}

static const struct command history_verb_show = {
	.name = "show",
	.summary = "whether the database has lost history, and which keys are kept denied since",
	.details =
		"After a failover that lost transactions, or a restore, the database may have forgotten that a key was "
		"revoked, retired or disabled. A daemon that knew it goes on denying the key: KEPT is what it answers, "
		"DATABASE what the database says. Each daemon has its own memory.\n"
		"Ends with 0 where nothing is lost, with 1 where something is and was not accepted.",
	.takes = COMMAND_LIST,
	.run = history_show_run};
static const struct command history_verb_accept = {
	.name = "accept",
	.summary = "let the database's word stand again",
	.details = "Keys that were kept denied are as the database says from then on, so first revoke in the database "
		   "what must stay revoked. Each daemon has to be told.",
	.takes = COMMAND_CONFIRM,
	.run = history_accept_run};

static const struct command *const history_verbs[] = {&history_verb_show, &history_verb_accept, NULL};

const struct command command_history = {
	.name = "history", .summary = "history that the database has lost", .commands = history_verbs};
