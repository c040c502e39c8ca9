/* whoami: what a key is, whom it acts as, and what it is narrowed to. */
#include "client/apikeyctl/context.h"
#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/key.h"
#include "client/apikeyctl/keyin.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/verdicts.h"

static const struct show_column whoami_record[] = {
	{"  access", "access", 0, NULL},
	{"  narrowed to", "narrowing", 0, key_narrowing},
	{"  expires", "expires_at", 0, show_when},
	{NULL, NULL, 0, NULL},
};

static const struct show_column whoami_orgs[] = {
	{"ORG", "org", 0, NULL}, {"ROLE", "role", 0, NULL}, {NULL, NULL, 0, NULL}};
static const struct show_column whoami_pages[] = {
	{"PAGE", "page", 0, NULL}, {"ROLE", "role", 0, NULL}, {NULL, NULL, 0, NULL}};

static int whoami_table(const struct ctl *ctl, const struct value *list, const struct show_column *columns)
{
	struct show_table *table;
	bool added = true;

	if (!list || list->type != VALUE_LIST || list->count == 0)
		return CTL_DONE;
	table = show_table_new(ctl, columns);
	for (uint32_t i = 0; table && added && i < list->count; i++)
		added = show_table_add(table, &list->items[i]);
	if (table && added) {
		fputc('\n', ctl->out);
		show_table_print(table);
	}
	show_table_free(table);
	return table && added ? CTL_DONE : ctl_no_memory(ctl);
}

static int whoami_show(const struct ctl *ctl, const struct rpc_answer *answer, const struct value *map,
		       const struct words_question *question)
{
	int code;

	verdicts_show(ctl, answer, question);
	if (ctl->quiet || answer->reason != REASON_OK)
		return CTL_DONE;
	code = show_record(ctl, whoami_record, map);
	if (!code)
		code = whoami_table(ctl, value_get(map, "organizations"), whoami_orgs);
	if (!code)
		code = whoami_table(ctl, value_get(map, "pages"), whoami_pages);
	if (!code && value_as_bool(value_get(map, "truncated"), false))
		ctl_note(ctl, "there are more page roles than the daemon lists here: apikeyctl member list --user …");
	return code;
}

static int whoami_run(struct ctl *ctl, const struct args *args)
{
	struct rpc_context_text context;
	struct words_question question;
	struct rpc_buffer encoded = {0};
	const struct value *result;
	struct rpc_answer answer;
	struct talk talk = {0};
	struct keyin key = {0};
	uint32_t msgid;
	int code = context_read(ctl, args, &context);

	if (!code)
		code = keyin_read(ctl, args, &key);
	if (!code)
		code = talk_open(&talk, ctl, TALK_CHECK);
	if (code)
		goto out;
	question = (struct words_question){.org = context.org.data, .addr = context.addr.data != NULL};
	msgid = call_next_id(&talk.call);
	rpc_put_whoami(&encoded, msgid, (struct rpc_text){.data = key.text, .len = (uint32_t)key.len}, &context);
	code = talk_send(&talk, &encoded, msgid, &result);
	if (!code)
		code = verdicts_read(&talk, result, &answer);
	if (code)
		goto out;
	if (ctl->json && !ctl->quiet)
		code = jsonout_show(ctl, result);
	else
		code = whoami_show(ctl, &answer, result, &question);
	if (!code)
		code = verdicts_exit(answer.reason);
out:
	talk_close(&talk);
	keyin_deinit(&key);
	return code;
}

static const struct option whoami_options[] = {CONTEXT_OPTIONS, {.name = NULL}};

const struct command command_whoami = {
	.name = "whoami",
	.summary = "what a key is, whom it acts as, what it is narrowed to",
	.details =
		"For a live key: its id and kind, organization or user, roles, narrowing, expiry. Exit code: 0 for a live "
		"key, 1 for any other, 3 unavailable.",
	.options = whoami_options,
	.takes = COMMAND_KEY,
	.run = whoami_run};
