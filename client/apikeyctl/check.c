/* check: may this key do this scope on this page? */
#include <stdlib.h>
#include <string.h>

#include "client/apikeyctl/context.h"
#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/keyin.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/show.h"
#include "client/apikeyctl/verdicts.h"

/* One pair of --pair SCOPE[=PAGE]. The text is cut in place: `scope` is a copy that the caller frees. */
struct check_pair {
	char *scope;
	const char *page;
};

struct check {
	const struct ctl *ctl;
	struct talk talk;
	struct keyin key;
	struct rpc_context_text context;
	struct check_pair *pairs; /* --pair; NULL: one question */
	size_t count;
};

static int check_exit(int before, int code)
{
	/* A fault outweighs a refusal, which outweighs an allow. */
	return before == CTL_UNAVAILABLE || code == CTL_DONE ? before : code;
}

static struct words_question check_question(const struct check *check, const char *scope, const char *page)
{
	return (struct words_question){
		.scope = scope, .page = page, .org = check->context.org.data, .addr = check->context.addr.data != NULL};
}

static int check_one(struct check *check, const char *scope, const char *page)
{
	struct rpc_text key = {.data = check->key.text, .len = (uint32_t)check->key.len};
	struct rpc_pair pair = {.scope = context_text(scope), .page = context_text(page)};
	uint32_t msgid = call_next_id(&check->talk.call);
	struct words_question question = check_question(check, scope, page);
	struct rpc_buffer encoded = {0};
	const struct value *result;
	struct rpc_answer answer;
	int code;

	rpc_put_check(&encoded, msgid, key, pair, &check->context);
	code = talk_send(&check->talk, &encoded, msgid, &result);
	if (!code)
		code = verdicts_read(&check->talk, result, &answer);
	if (code)
		return code;
	if (check->ctl->json && !check->ctl->quiet)
		code = jsonout_show(check->ctl, result);
	else
		verdicts_show(check->ctl, &answer, &question);
	return code ? code : verdicts_exit(answer.reason);
}

static const struct show_column check_columns[] = {
	{"VERDICT", "verdict", SHOW_STATE, NULL},
	{"SCOPE", "scope", 0, NULL},
	{"PAGE", "page", 0, NULL},
	{"REASON", "reason", 0, NULL},
	{"WHY", "why", SHOW_WRAP, NULL},
	{NULL, NULL, 0, NULL},
};

/* One row of the table: what was asked, what was answered. */
static bool check_row(struct check *check, struct show_table *table, const struct check_pair *pair,
		      const struct rpc_answer *answer)
{
	struct words_question question = check_question(check, pair->scope, pair->page);
	struct arena *arena = &check->talk.arena;
	char why[WORDS_SIZE];
	struct value row;

	words_why(answer, &question, why);
	if (answer->stale)
		snprintf(why + strlen(why), sizeof(why) - strlen(why), "; by a copy that is stale");
	value_map(&row);
	return value_set_text(arena, &row, "verdict", verdict_word(verdict_of(answer->reason))) &&
	       value_set_text(arena, &row, "scope", pair->scope) && value_set_text(arena, &row, "page", pair->page) &&
	       value_set_text(arena, &row, "reason", reason_word(answer->reason)) &&
	       value_set_text(arena, &row, "why", why) && show_table_add(table, &row);
}

/* The verdict map with the question in front: {"scope": …, "page": …, "verdict": …}. */
static json_t *check_json(const struct check_pair *pair, const struct value *map)
{
	json_t *object = json_object(), *rest = jsonout_of(map);

	if (object && rest && json_object_set_new(object, "scope", json_string(pair->scope)) == 0 &&
	    json_object_set_new(object, "page", pair->page ? json_string(pair->page) : json_null()) == 0 &&
	    json_object_update_missing(object, rest) == 0) {
		json_decref(rest);
		return object;
	}
	json_decref(object);
	json_decref(rest);
	return NULL;
}

static int check_show_many(struct check *check, const struct value *list)
{
	struct show_table *table = show_table_new(check->ctl, check_columns);
	json_t *array = json_array();
	int code = CTL_DONE, error = table && array ? CTL_DONE : ctl_no_memory(check->ctl);

	for (size_t i = 0; i < check->count && !error; i++) {
		struct rpc_answer answer;

		error = verdicts_read(&check->talk, &list->items[i], &answer);
		if (error)
			break;
		code = check_exit(code, verdicts_exit(answer.reason));
		if (json_array_append_new(array, check_json(&check->pairs[i], &list->items[i])) != 0 ||
		    !check_row(check, table, &check->pairs[i], &answer))
			error = ctl_no_memory(check->ctl);
	}
	if (!error && !check->ctl->quiet) {
		if (check->ctl->json)
			error = jsonout_print(check->ctl, json_incref(array));
		else
			show_table_print(table);
	}
	json_decref(array);
	show_table_free(table);
	return error ? error : code;
}

static int check_many(struct check *check)
{
	struct rpc_text key = {.data = check->key.text, .len = (uint32_t)check->key.len};
	uint32_t msgid = call_next_id(&check->talk.call);
	struct rpc_pair *pairs = calloc(check->count, sizeof(*pairs));
	struct rpc_buffer encoded = {0};
	const struct value *result;
	int code;

	if (!pairs)
		return ctl_no_memory(check->ctl);
	for (size_t i = 0; i < check->count; i++)
		pairs[i] = (struct rpc_pair){.scope = context_text(check->pairs[i].scope),
					     .page = context_text(check->pairs[i].page)};
	rpc_put_check_many(&encoded, msgid, key, pairs, (uint32_t)check->count, &check->context);
	free(pairs);
	code = talk_send(&check->talk, &encoded, msgid, &result);
	if (code)
		return code;
	if (result->type != VALUE_LIST || result->count != check->count)
		return ctl_say(check->ctl, CTL_UNAVAILABLE, "the daemon did not answer each of the %zu pairs",
			       check->count);
	return check_show_many(check, result);
}

static int check_pairs(struct check *check, const struct args *args)
{
	size_t count = 0;

	while (args_nth(args, "pair", count))
		count++;
	if (count == 0)
		return CTL_DONE;
	if (count > RPC_PAIRS_MAX)
		return ctl_say(check->ctl, CTL_USAGE, "%zu pairs are too many: ask for %d at a time", count,
			       RPC_PAIRS_MAX);
	check->pairs = calloc(count, sizeof(*check->pairs));
	if (!check->pairs)
		return ctl_no_memory(check->ctl);
	for (size_t i = 0; i < count; i++) {
		char *scope = strdup(args_nth(args, "pair", i)), *equals;

		if (!scope)
			return ctl_no_memory(check->ctl);
		check->pairs[check->count++].scope = scope;
		equals = strchr(scope, '=');
		if (equals) {
			*equals = '\0';
			check->pairs[i].page = equals + 1;
		}
	}
	return CTL_DONE;
}

static int check_run(struct ctl *ctl, const struct args *args)
{
	const char *scope = args_operand(args, 0);
	struct check check = {.ctl = ctl};
	int code = check_pairs(&check, args);

	if (!code && !scope == !check.pairs)
		code = ctl_say(ctl, CTL_USAGE,
			       scope ? "give SCOPE [PAGE] or --pair, not both"
				     : "name what the key should do: apikeyctl check SCOPE [PAGE], such as "
				       "incident:write status-acme");
	if (!code)
		code = context_read(ctl, args, &check.context);
	if (!code)
		code = keyin_read(ctl, args, &check.key);
	if (!code)
		code = talk_open(&check.talk, ctl, TALK_CHECK);
	if (!code)
		code = check.pairs ? check_many(&check) : check_one(&check, scope, args_operand(args, 1));
	talk_close(&check.talk);
	keyin_deinit(&check.key);
	for (size_t i = 0; i < check.count; i++)
		free(check.pairs[i].scope);
	free(check.pairs);
	return code;
}

static const struct operand check_operands[] = {
	{"SCOPE", "what is to be done, such as incident:write", true, false},
	{"PAGE", "the slug of the status page; without it, at organization level", true, false},
	{NULL, NULL, false, false},
};

static const struct option check_options[] = {
	{.name = "pair",
	 .value = "SCOPE[=PAGE]",
	 .many = true,
	 .help = "one of several questions, answered from one revision (may be repeated)"},
	CONTEXT_OPTIONS,
	CONTEXT_COST,
	{.name = NULL},
};

const struct command command_check = {
	.name = "check",
	.summary = "may a key do a scope on a page?",
	.details =
		"Prints the verdict, why, and what to do about it. Exit code: 0 allow, 1 deny, 3 unavailable; with several "
		"pairs the worst of them.\n"
		"The key is read from --key-fd, --key-file, the environment's APIKEY_KEY or a prompt; never from the "
		"command line, which other users of the host can see.",
	.operands = check_operands,
	.options = check_options,
	.takes = COMMAND_KEY,
	.run = check_run};
