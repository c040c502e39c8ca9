/* explain: as check, and every line that judged. */
#include "client/apikeyctl/context.h"
#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/keyin.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/trace.h"
#include "client/apikeyctl/verdicts.h"

static int explain_show(const struct ctl *ctl, const struct rpc_answer *answer, const struct value *map,
			const struct words_question *question)
{
	const struct value *trace = value_get(map, "trace");
	char why[TRACE_WHY_SIZE];
	int code;

	verdicts_show(ctl, answer, question);
	if (ctl->quiet)
		return CTL_DONE;
	if (!trace || trace->type != VALUE_LIST)
		return ctl_say(ctl, CTL_UNAVAILABLE,
			       "the daemon's answer holds no trace: its memory ran out, or it is another program");
	trace_why(trace, answer->reason, why);
	ctl_print(ctl, "  because: %s", why);
	if (trace->count == 0)
		return CTL_DONE;
	fputc('\n', ctl->out);
	code = trace_show(ctl, trace);
	return code;
}

static int explain_run(struct ctl *ctl, const struct args *args)
{
	struct rpc_pair pair = {.scope = context_text(args_operand(args, 0)),
				.page = context_text(args_operand(args, 1))};
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
	question = (struct words_question){.scope = pair.scope.data,
					   .page = pair.page.data,
					   .org = context.org.data,
					   .addr = context.addr.data != NULL};
	msgid = call_next_id(&talk.call);
	rpc_put_explain(&encoded, msgid, (struct rpc_text){.data = key.text, .len = (uint32_t)key.len}, pair, &context);
	code = talk_send(&talk, &encoded, msgid, &result);
	if (!code)
		code = verdicts_read(&talk, result, &answer);
	if (code)
		goto out;
	if (ctl->json && !ctl->quiet)
		code = jsonout_show(ctl, result);
	else
		code = explain_show(ctl, &answer, result, &question);
	if (!code)
		code = verdicts_exit(answer.reason);
out:
	talk_close(&talk);
	keyin_deinit(&key);
	return code;
}

static const struct operand explain_operands[] = {
	{"SCOPE", "what is to be done, such as incident:write", false, false},
	{"PAGE", "the slug of the status page; without it, at organization level", true, false},
	{NULL, NULL, false, false},
};

static const struct option explain_options[] = {CONTEXT_OPTIONS, CONTEXT_COST, {.name = NULL}};

const struct command command_explain = {
	.name = "explain",
	.summary = "what each line of the stack said about a question, and why the verdict followed",
	.details =
		"Asks as check does, on the same path, but spends no rate, writes nothing down and changes nothing. For the "
		"users that [explain] users in apikeyd.conf names (root, where it names none). Prints the verdict, then a "
		"row for each thing that was asked: a line of the stack, or core, the daemon's own part of a group.\n"
		"The exit code and where the key comes from are those of check. Without a daemon: apikeyctl stack explain.",
	.operands = explain_operands,
	.options = explain_options,
	.takes = COMMAND_KEY,
	.run = explain_run};
