#include "client/apikeyctl/words.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/apikeyctl/text.h"

/* rpc_text as printf wants it for %.*s. */
#define TEXT(t) (int)((t).data ? (t).len : 0), (t).data ? (t).data : ""

void words_place(const struct rpc_answer *answer, const struct words_question *question, char out[WORDS_SIZE])
{
	if (question->page)
		snprintf(out, WORDS_SIZE, "page %.255s", question->page);
	else if (answer->org.data)
		snprintf(out, WORDS_SIZE, "organization %.*s", TEXT(answer->org));
	else if (question->org)
		snprintf(out, WORDS_SIZE, "organization %.255s", question->org);
	else
		snprintf(out, WORDS_SIZE, "organization level");
}

static const char *words_scope(const struct words_question *question)
{
	return question->scope ? question->scope : "anything";
}

static void words_why_granted(const struct rpc_answer *answer, const struct words_question *question,
			      char out[WORDS_SIZE])
{
	char place[WORDS_SIZE];
	const char *holder = answer->kind == KEY_KIND_USER ? "the user's role" : "the key's access";

	words_place(answer, question, place);
	if (answer->kind == KEY_KIND_BREAK_GLASS)
		snprintf(out, WORDS_SIZE, "the key may not do %.64s on %.255s: its line in the file does not name it",
			 words_scope(question), place);
	else if (answer->needs_role.data)
		snprintf(out, WORDS_SIZE, "%s does not hold %.64s on %.255s; the smallest that does is %.*s", holder,
			 words_scope(question), place, TEXT(answer->needs_role));
	else
		snprintf(out, WORDS_SIZE,
			 "the key may not do %.64s on %.255s: its own scopes do not name it, or no %s there may do it",
			 words_scope(question), place, answer->kind == KEY_KIND_USER ? "role" : "organization key");
}

static void words_why_expired(const struct rpc_answer *answer, char out[WORDS_SIZE])
{
	char when[TEXT_WHEN_SIZE];

	if (!answer->has_expiry) {
		snprintf(out, WORDS_SIZE, "the key has expired");
		return;
	}
	text_format_when(answer->expires_at, when);
	snprintf(out, WORDS_SIZE, "the key expired at %s", when);
}

/* Reasons that say the same whatever was asked. */
static const char *const words_plain[REASON_COUNT] = {
	[REASON_POLICY] =
		"a rule of this installation refuses this, or the key has a rate and its stack has no line that counts it",
	[REASON_MALFORMED_KEY] = "this is no key: its length, a character or its checksum is wrong",
	[REASON_UNKNOWN_KEY] = "there is no such key: its id is unknown or its secret is wrong",
	[REASON_REVOKED] = "the key was revoked, for good",
	[REASON_RETIRED] = "the key was rotated away",
	[REASON_DISABLED] = "the key is disabled",
	[REASON_NOT_YET_VALID] = "the key's time has not come yet",
	[REASON_USER_SUSPENDED] = "the key's user is suspended",
	[REASON_ORG_SUSPENDED] = "the organization is suspended",
	[REASON_RATE_LIMITED] = "the key has been used too often",
	[REASON_CALLER] = "this caller may not ask this daemon",
	[REASON_NO_STACK] = "the daemon has no stack of that name",
	[REASON_NOT_LOADED] = "the daemon has no copy of the database yet",
	[REASON_STALE] = "the daemon's copy has not been confirmed for too long to say",
	[REASON_BEHIND] = "the daemon's copy has not reached the revision that was asked for",
	[REASON_TIMEOUT] = "the question was not decided in time",
	[REASON_OVERLOAD] = "the daemon has too much to do",
	[REASON_MODULE_FAULT] = "a module of the daemon's failed",
	[REASON_AUDIT_FULL] = "the daemon cannot keep its record of verdicts any more",
	[REASON_NO_PEPPER] = "the daemon does not hold the pepper that the key was made under",
};

void words_why(const struct rpc_answer *answer, const struct words_question *question, char out[WORDS_SIZE])
{
	const char *scope = words_scope(question);
	char place[WORDS_SIZE];

	words_place(answer, question, place);
	switch (answer->reason) {
	case REASON_OK:
		if (question->scope)
			snprintf(out, WORDS_SIZE, "the key may do %.64s on %.255s", scope, place);
		else
			snprintf(out, WORDS_SIZE, "the key is live");
		break;
	case REASON_EXPIRED:
		words_why_expired(answer, out);
		break;
	case REASON_NETWORK:
		snprintf(out, WORDS_SIZE, "the key is narrowed to networks, and %s",
			 question->addr ? "the address is in none of them" : "no address was given");
		break;
	case REASON_UNKNOWN_SCOPE:
		snprintf(out, WORDS_SIZE, "there is no scope %.64s at %s level", scope,
			 question->page ? "page" : "organization");
		break;
	case REASON_UNKNOWN_PAGE:
		snprintf(out, WORDS_SIZE, "there is no %.255s, or none that this key has to do with", place);
		break;
	case REASON_NOT_MEMBER:
		if (question->org)
			snprintf(out, WORDS_SIZE, "the key does not belong to organization %.255s", question->org);
		else
			snprintf(out, WORDS_SIZE, "no organization is named, and the key does not belong to just one");
		break;
	case REASON_PAGE_ARCHIVED:
		snprintf(out, WORDS_SIZE, "%.255s is archived: keys may only read it", place);
		break;
	case REASON_PAGE_NOT_GRANTED:
		if (question->page)
			snprintf(out, WORDS_SIZE, "the key is narrowed to pages, and %.255s is not among them", place);
		else
			snprintf(out, WORDS_SIZE,
				 "the key is narrowed to pages, so it may do nothing at organization level");
		break;
	case REASON_SCOPE_NOT_GRANTED:
		words_why_granted(answer, question, out);
		break;
	default:
		snprintf(out, WORDS_SIZE, "%s",
			 answer->reason < REASON_COUNT && words_plain[answer->reason] ? words_plain[answer->reason]
										      : reason_word(answer->reason));
	}
}

static void words_next_granted(const struct rpc_answer *answer, const struct words_question *question,
			       char out[WORDS_SIZE])
{
	if (!answer->needs_role.data)
		snprintf(
			out, WORDS_SIZE,
			"see the key's scopes: apikeyctl key show %s; where they must name it: apikeyctl key mint … --scope %.64s",
			answer->key_id[0] ? answer->key_id : "KEY_ID", words_scope(question));
	else if (answer->kind == KEY_KIND_ORGANIZATION)
		snprintf(out, WORDS_SIZE, "mint a key with that access: apikeyctl key mint --org %.*s --access %.*s",
			 TEXT(answer->org), TEXT(answer->needs_role));
	else if (question->page)
		snprintf(out, WORDS_SIZE, "give the user that role: apikeyctl member set %.*s %.*s --page %.100s",
			 TEXT(answer->user), TEXT(answer->needs_role), question->page);
	else
		snprintf(out, WORDS_SIZE, "give the user that role: apikeyctl member set %.*s %.*s --org %.*s",
			 TEXT(answer->user), TEXT(answer->needs_role), TEXT(answer->org));
}

/* %s stands for the key_id, once at most. */
static const char *const words_steps[REASON_COUNT] = {
	[REASON_POLICY] = "look at the key: apikeyctl key show %s",
	[REASON_MALFORMED_KEY] = "take the whole key again from where it is kept; nothing before or after it",
	[REASON_UNKNOWN_KEY] = "see that it is a key of this platform (apikeyctl key list) and whole",
	[REASON_REVOKED] = "mint another: apikeyctl key mint",
	[REASON_DISABLED] = "enable it: apikeyctl key enable %s",
	[REASON_NOT_YET_VALID] = "see when it begins: apikeyctl key show %s",
	[REASON_EXPIRED] = "mint another: apikeyctl key mint",
	[REASON_NETWORK] =
		"give the remote client's address with --addr, and see the key's networks: apikeyctl key show %s",
	[REASON_NOT_MEMBER] = "name an organization that the key belongs to with --org (apikeyctl whoami lists them)",
	[REASON_CALLER] = "see the daemon's configuration for who may ask",
	[REASON_NO_STACK] = "leave --stack out, or name one that the daemon has",
	[REASON_NOT_LOADED] = "see the daemon's log: can it reach the database?",
	[REASON_STALE] = "see the daemon's log: can it reach the database?",
	[REASON_BEHIND] = "ask again, with a longer --timeout",
	[REASON_TIMEOUT] = "ask again, with a longer --timeout",
	[REASON_OVERLOAD] = "ask again in a moment; apikeyctl stats shows what it does",
	[REASON_MODULE_FAULT] = "see the daemon's log",
	[REASON_AUDIT_FULL] = "see the daemon's log: can it reach the database, and is there room on the disk?",
	[REASON_NO_PEPPER] = "put that pepper back into the daemon's pepper file (key.pepper_file)",
	[REASON_PAGE_NOT_GRANTED] = "see the key's pages: apikeyctl key show %s",
};

static void words_step(const char *step, const char *key_id, char out[WORDS_SIZE])
{
	const char *place = step ? strstr(step, "%s") : NULL;

	if (place)
		snprintf(out, WORDS_SIZE, "%.*s%s%s", (int)(place - step), step, key_id, place + 2);
	else
		snprintf(out, WORDS_SIZE, "%s", step ? step : "");
}

/* Where the daemon has said when it will know more. */
static void words_again(const struct rpc_answer *answer, char out[WORDS_SIZE])
{
	size_t used = strlen(out);
	const char *joint = used == 0 ? "ask" : out[used - 1] == '?' ? " Ask" : "; ask";

	if (answer->has_retry && verdict_of(answer->reason) == VERDICT_UNAVAILABLE)
		snprintf(out + used, WORDS_SIZE - used, "%s again in %" PRIu64 " ms", joint, answer->retry_after_ms);
}

/* A break-glass key stands in no database: what is wrong with it takes another key. */
static bool words_next_glass(const struct rpc_answer *answer, const struct words_question *question,
			     char out[WORDS_SIZE])
{
	if (!answer->proven || answer->kind != KEY_KIND_BREAK_GLASS)
		return false;
	switch (answer->reason) {
	case REASON_EXPIRED:
	case REASON_NOT_YET_VALID:
	case REASON_PAGE_NOT_GRANTED:
	case REASON_SCOPE_NOT_GRANTED:
		snprintf(out, WORDS_SIZE,
			 "make another: apikeyctl key break-glass --org %.*s --page %.100s --scope %.64s",
			 answer->org.data ? (int)answer->org.len : 3, answer->org.data ? answer->org.data : "ORG",
			 question->page ? question->page : "PAGE", question->scope ? question->scope : "SCOPE");
		return true;
	case REASON_POLICY:
	case REASON_NETWORK:
		snprintf(out, WORDS_SIZE, "see the daemon's log");
		return true;
	default:
		return false;
	}
}

void words_next(const struct rpc_answer *answer, const struct words_question *question, char out[WORDS_SIZE])
{
	out[0] = '\0';
	if (words_next_glass(answer, question, out))
		return;
	switch (answer->reason) {
	case REASON_OK:
		break;
	case REASON_RETIRED:
		if (answer->successor[0])
			snprintf(out, WORDS_SIZE, "use the key that replaced it: %s", answer->successor);
		else
			snprintf(out, WORDS_SIZE, "mint another: apikeyctl key mint");
		break;
	case REASON_USER_SUSPENDED:
		snprintf(out, WORDS_SIZE, "reactivate the user: apikeyctl user set %.*s --standing active",
			 TEXT(answer->user));
		break;
	case REASON_ORG_SUSPENDED:
		snprintf(out, WORDS_SIZE, "reactivate it: apikeyctl org set %.*s --standing active", TEXT(answer->org));
		break;
	case REASON_PAGE_ARCHIVED:
		snprintf(out, WORDS_SIZE, "reactivate it: apikeyctl page set %.255s --standing active",
			 question->page ? question->page : "PAGE");
		break;
	case REASON_UNKNOWN_SCOPE:
		snprintf(out, WORDS_SIZE, "%s; scopes and their levels stand in apikeyd.scope of the database",
			 question->page ? "if it is an organization's right, ask without the page"
					: "if it is a page's right, name the page");
		break;
	case REASON_UNKNOWN_PAGE:
		snprintf(out, WORDS_SIZE,
			 "see what this key reaches: apikeyctl pages %.64s; all pages: apikeyctl page list",
			 words_scope(question));
		break;
	case REASON_SCOPE_NOT_GRANTED:
		words_next_granted(answer, question, out);
		break;
	case REASON_RATE_LIMITED:
		snprintf(out, WORDS_SIZE, "ask again in %" PRIu64 " ms",
			 answer->has_retry ? answer->retry_after_ms : 1000);
		break;
	default:
		words_step(answer->reason < REASON_COUNT ? words_steps[answer->reason] : NULL,
			   answer->key_id[0] ? answer->key_id : "KEY_ID", out);
		words_again(answer, out);
	}
}
