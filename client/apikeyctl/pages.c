/* pages: on which status pages may a key do a scope? */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/apikeyctl/context.h"
#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/keyin.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/text.h"
#include "client/apikeyctl/verdicts.h"

struct pages {
	const struct ctl *ctl;
	const char *scope;
	struct talk talk;
	struct keyin key;
	struct rpc_context_text context;
	char *after; /* owned */
	uint64_t shown, limit;
	json_t *document; /* --json: the last verdict map, with all pages */
	json_t *slugs;
};

/* One verdict map's pages: printed as they come, or collected. */
static int pages_take(struct pages *pages, const struct rpc_answer *answer, const struct value *map)
{
	const struct ctl *ctl = pages->ctl;
	bool more = answer->next.data != NULL;

	for (uint32_t i = 0; i < answer->page_count; i++) {
		const struct rpc_text *slug = &answer->pages[i];

		if (pages->limit && pages->shown == pages->limit) {
			more = true;
			break;
		}
		pages->shown++;
		if (pages->slugs) {
			if (json_array_append_new(pages->slugs, json_stringn(slug->data, slug->len)) != 0)
				return ctl_no_memory(ctl);
		} else if (!ctl->quiet) {
			ctl_print(ctl, "%.*s", (int)slug->len, slug->data);
		}
	}
	free(pages->after);
	pages->after = NULL;
	if (more && answer->next.data && (!pages->limit || pages->shown < pages->limit)) {
		pages->after = strndup(answer->next.data, answer->next.len);
		if (!pages->after)
			return ctl_no_memory(ctl);
	}
	if (pages->slugs) {
		json_decref(pages->document);
		pages->document = jsonout_of(map);
		if (!pages->document)
			return ctl_no_memory(ctl);
	}
	return CTL_DONE;
}

static int pages_ask(struct pages *pages, struct rpc_answer *ret)
{
	struct rpc_text key = {.data = pages->key.text, .len = (uint32_t)pages->key.len};
	uint32_t msgid = call_next_id(&pages->talk.call);
	struct rpc_buffer encoded = {0};
	const struct value *result;
	int code;

	pages->context.after = context_text(pages->after);
	rpc_put_pages(&encoded, msgid, key, context_text(pages->scope), &pages->context);
	code = talk_send(&pages->talk, &encoded, msgid, &result);
	if (!code)
		code = verdicts_read(&pages->talk, result, ret);
	return code ? code : pages_take(pages, ret, result);
}

static int pages_finish(struct pages *pages, const struct rpc_answer *answer)
{
	const struct ctl *ctl = pages->ctl;
	struct words_question question = {
		.scope = pages->scope, .org = pages->context.org.data, .addr = pages->context.addr.data != NULL};
	int code = CTL_DONE;

	if (pages->document && !ctl->quiet) {
		/* Whole: `next` only stands where --limit cut the list. */
		if (answer->reason == REASON_OK) {
			json_object_set(pages->document, "pages", pages->slugs);
			json_object_del(pages->document, "next");
		}
		code = jsonout_print(ctl, json_incref(pages->document));
	} else if (answer->reason != REASON_OK) {
		verdicts_show(ctl, answer, &question);
	} else if (pages->shown == 0) {
		ctl_note(ctl, "the key may do %s on no page", pages->scope);
	}
	if (answer->reason == REASON_OK && answer->stale)
		ctl_note(ctl, "the daemon's copy is stale, confirmed %" PRIu64 " ms ago: pages may lack or be too many",
			 answer->age_ms);
	return code ? code : verdicts_exit(answer->reason);
}

static int pages_run(struct ctl *ctl, const struct args *args)
{
	const char *limit = args_text(args, "limit");
	struct pages pages = {.ctl = ctl, .scope = args_operand(args, 0)};
	struct rpc_answer answer;
	int code = context_read(ctl, args, &pages.context);

	if (!code && limit && (!text_number(limit, UINT32_MAX, &pages.limit) || pages.limit == 0))
		code = ctl_say(ctl, CTL_USAGE, "--limit takes a number from 1 up, not \"%s\"", limit);
	if (!code && ctl->json && !(pages.slugs = json_array()))
		code = ctl_no_memory(ctl);
	if (!code)
		code = keyin_read(ctl, args, &pages.key);
	if (!code)
		code = talk_open(&pages.talk, ctl, TALK_CHECK);
	if (code)
		goto out;
	do {
		code = pages_ask(&pages, &answer);
	} while (!code && answer.reason == REASON_OK && pages.after);
	if (!code)
		code = pages_finish(&pages, &answer);
out:
	talk_close(&pages.talk);
	keyin_deinit(&pages.key);
	free(pages.after);
	json_decref(pages.document);
	json_decref(pages.slugs);
	return code;
}

static const struct operand pages_operands[] = {{"SCOPE", "what is to be done, such as incident:write", false, false},
						{NULL, NULL, false, false}};

static const struct option pages_options[] = {CONTEXT_OPTIONS, {.name = NULL}};

const struct command command_pages = {
	.name = "pages",
	.summary = "on which status pages may a key do a scope?",
	.details =
		"Prints one slug a line, sorted, all of them. With --org only those of this organization. (The noun for "
		"making and changing status pages is page.)",
	.operands = pages_operands,
	.options = pages_options,
	.takes = COMMAND_KEY | COMMAND_LIST,
	.run = pages_run};
