#include "client/apikeyctl/verdicts.h"

#include <inttypes.h>
#include <string.h>

#include "client/apikeyctl/show.h"
#include "client/apikeyctl/text.h"

int verdicts_exit(enum reason reason)
{
	switch (verdict_of(reason)) {
	case VERDICT_ALLOW:
		return CTL_DONE;
	case VERDICT_UNAVAILABLE:
		return CTL_UNAVAILABLE;
	case VERDICT_DENY:
		break;
	}
	return CTL_DENY;
}

int verdicts_read(struct talk *talk, const struct value *map, struct rpc_answer *ret)
{
	if (rpc_read_answer(&talk->arena, map, ret))
		return CTL_DONE;
	return ctl_say(talk->ctl, CTL_UNAVAILABLE,
		       "the daemon's answer is no verdict: is it another program, or a newer one?");
}

static void verdicts_facts(const struct ctl *ctl, const struct rpc_answer *answer)
{
	const struct rpc_text *user = &answer->user, *org = &answer->org;

	if (answer->proven && answer->key_id[0])
		ctl_print(ctl, "  key %s, %s key%s%.*s%s%.*s", answer->key_id, key_kind_word(answer->kind),
			  user->data ? " of " : "", (int)user->len, user->data ? user->data : "",
			  org->data ? ", organization " : "", (int)org->len, org->data ? org->data : "");
	if (answer->rev == 0) { /* there is no copy, and so no age */
		ctl_print(ctl, "  no revision: nothing was loaded yet");
		return;
	}
	ctl_print(ctl, "  revision %" PRIu64 ", copy confirmed %" PRIu64 " ms ago%s", answer->rev, answer->age_ms,
		  answer->stale ? ", stale" : "");
}

void verdicts_show(const struct ctl *ctl, const struct rpc_answer *answer, const struct words_question *question)
{
	const char *verdict = verdict_word(verdict_of(answer->reason));
	const char *color = ctl->color ? show_color(verdict) : NULL;
	char words[WORDS_SIZE];

	if (ctl->quiet)
		return;
	fprintf(ctl->out, "%s%s%s: %s\n", color ? color : "", verdict, color ? "\033[0m" : "",
		reason_word(answer->reason));
	words_why(answer, question, words);
	ctl_print(ctl, "  %s", words);
	words_next(answer, question, words);
	if (*words)
		ctl_print(ctl, "  next: %s", words);
	verdicts_facts(ctl, answer);
}
