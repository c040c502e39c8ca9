/* key: listing and ending keys; key_mint.c makes them. */
#include <string.h>

#include "client/apikeyctl/key.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/rows.h"

/* One part of a narrowing, such as "pages: a, b". */
static const char *key_part(struct arena *arena, const char *parts, const char *what, const char *items)
{
	size_t len = strlen(parts) + strlen(what) + strlen(items) + 5;
	char *joined = arena_alloc(arena, len);

	if (!joined)
		return parts;
	snprintf(joined, len, "%s%s%s %s", parts, *parts ? "; " : "", what, items);
	return joined;
}

/* A list that is there and empty allows nothing, which is not the same as no list: it reads "pages none". */
const char *key_narrowing(struct arena *arena, const struct value *narrowing)
{
	static const char *const lists[] = {"pages", "scopes", "networks"};
	const struct value *rate = value_get(narrowing, "rate");
	const char *text = "";

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		const struct value *list = value_get(narrowing, lists[i]);

		if (list && list->type == VALUE_LIST)
			text = key_part(arena, text, lists[i], show_text(arena, list));
	}
	if (rate && rate->type == VALUE_MAP) {
		char rate_words[64];

		snprintf(rate_words, sizeof(rate_words), "%lld/%llds",
			 (long long)value_as_int(value_get(rate, "count"), 0),
			 (long long)value_as_int(value_get(rate, "period_s"), 0));
		text = key_part(arena, text, "rate", rate_words);
	} else if (value_as_bool(rate, false)) {
		text = key_part(arena, text, "rate", "yes");
	}
	return *text ? text : "-";
}

static const struct show_column key_columns[] = {
	{"KEY_ID", "key_id", 0, NULL},
	{"KIND", "kind", 0, NULL},
	{"ORG", "org", 0, NULL},
	{"USER", "user", 0, NULL},
	{"ACCESS", "access", 0, NULL},
	{"STATE", "state", SHOW_STATE, NULL},
	{"NAME", "name", SHOW_WRAP, NULL},
	{"NARROWED TO", "narrowing", SHOW_WRAP, key_narrowing},
	{"EXPIRES", "expires_at", 0, show_when},
	{NULL, NULL, 0, NULL},
};

const struct show_column key_record[] = {
	{"key_id", "key_id", 0, NULL},
	{"kind", "kind", 0, NULL},
	{"org", "org", 0, NULL},
	{"user", "user", 0, NULL},
	{"access", "access", 0, NULL},
	{"name", "name", 0, NULL},
	{"state", "state", SHOW_STATE, NULL},
	{"narrowed to", "narrowing", 0, key_narrowing},
	{"not before", "not_before", 0, show_when},
	{"expires", "expires_at", 0, show_when},
	{"successor", "successor", 0, NULL},
	{"created", "created_at", 0, show_when},
	{"created by", "created_by", 0, NULL},
	{NULL, NULL, 0, NULL},
};

static const struct rows_param key_one_params[] = {{"key_id", NULL}, {NULL, NULL}};
static const struct rows_param key_list_params[] = {{"org", "org"}, {"user", "user"}, {NULL, NULL}};

static int key_list(struct ctl *ctl, const struct args *args)
{
	if (args_has(args, "org") && args_has(args, "user"))
		return ctl_say(ctl, CTL_USAGE, "give --org or --user, not both: a key is of one of them");
	return rows_list(ctl, args, "key_list", key_list_params, key_columns);
}

/* What it was used for, from the ledger. */
static const char *key_usage_field(struct arena *arena, const struct value *usage, const char *name)
{
	return show_text(arena, value_get(usage, name));
}

static const char *key_last_used(struct arena *arena, const struct value *usage)
{
	const struct value *when = value_get(usage, "last_used_at");

	return when && when->type != VALUE_NIL ? show_when(arena, when) : "never, in what the ledger keeps";
}

static const char *key_counts(struct arena *arena, const struct value *usage)
{
	char text[80];
	const char *copy;

	snprintf(text, sizeof(text), "%lld allowed, %lld refused",
		 (long long)value_as_int(value_get(usage, "allowed"), 0),
		 (long long)value_as_int(value_get(usage, "refused"), 0));
	copy = arena_text(arena, text, strlen(text));
	return copy ? copy : "…";
}

static const char *key_callers(struct arena *arena, const struct value *usage)
{
	return key_usage_field(arena, usage, "callers");
}

static const char *key_scopes_used(struct arena *arena, const struct value *usage)
{
	return key_usage_field(arena, usage, "scopes");
}

static const char *key_pages_used(struct arena *arena, const struct value *usage)
{
	return key_usage_field(arena, usage, "pages");
}

static const char *key_scopes_never(struct arena *arena, const struct value *usage)
{
	return key_usage_field(arena, usage, "never_used_scopes");
}

/* The list is cut where it is long; the number is not. */
static const char *key_pages_never(struct arena *arena, const struct value *usage)
{
	const struct value *list = value_get(usage, "never_used_pages");
	int64_t count = value_as_int(value_get(usage, "never_used_pages_count"), 0);
	const char *text = key_usage_field(arena, usage, "never_used_pages");
	size_t size = strlen(text) + 40;
	char *more;

	if (!list || list->type != VALUE_LIST || count <= list->count)
		return text;
	more = arena_alloc(arena, size);
	if (!more)
		return text;
	snprintf(more, size, "%s and %lld more", text, (long long)(count - list->count));
	return more;
}

static const struct show_column key_show_record[] = {
	{"key_id", "key_id", 0, NULL},
	{"kind", "kind", 0, NULL},
	{"org", "org", 0, NULL},
	{"user", "user", 0, NULL},
	{"access", "access", 0, NULL},
	{"name", "name", 0, NULL},
	{"state", "state", SHOW_STATE, NULL},
	{"narrowed to", "narrowing", 0, key_narrowing},
	{"not before", "not_before", 0, show_when},
	{"expires", "expires_at", 0, show_when},
	{"successor", "successor", 0, NULL},
	{"created", "created_at", 0, show_when},
	{"created by", "created_by", 0, NULL},
	{"last used", "usage", 0, key_last_used},
	{"verdicts", "usage", 0, key_counts},
	{"callers (uid)", "usage", 0, key_callers},
	{"scopes used", "usage", 0, key_scopes_used},
	{"pages used", "usage", 0, key_pages_used},
	{"scopes never used", "usage", 0, key_scopes_never},
	{"pages never used", "usage", 0, key_pages_never},
	{NULL, NULL, 0, NULL},
};

static int key_show(struct ctl *ctl, const struct args *args)
{
	return rows_show(ctl, args, "key_show", key_one_params, key_show_record);
}

static int key_disable(struct ctl *ctl, const struct args *args)
{
	return rows_change(ctl, args, "key_disable", key_one_params, key_record);
}

static int key_enable(struct ctl *ctl, const struct args *args)
{
	return rows_change(ctl, args, "key_enable", key_one_params, key_record);
}

static int key_revoke(struct ctl *ctl, const struct args *args)
{
	return rows_remove(ctl, args, "key_revoke", key_one_params,
			   "Revoke key %s for good? (apikeyctl key disable can be taken back)", "revoked");
}

static const struct operand key_one[] = {
	{"KEY_ID", "the ten characters between the underscores of a key", false, false}, {NULL, NULL, false, false}};

static const struct option key_list_options[] = {
	{.name = "org", .value = "ORG", .help = "only the keys of this organization"},
	{.name = "user", .value = "USER", .help = "only the keys of this user"},
	{.name = NULL},
};

static const struct command key_verb_list = {
	.name = "list", .summary = "list keys", .options = key_list_options, .takes = COMMAND_LIST, .run = key_list};
static const struct command key_verb_show = {
	.name = "show",
	.summary = "show one key; never its text",
	.details =
		"Says too what the ledger knows of its use: when it was last allowed something, for which callers, which "
		"scopes and pages it was allowed, and which it holds and never used.",
	.operands = key_one,
	.run = key_show};
static const struct command key_verb_disable = {.name = "disable",
						.summary = "refuse a key until it is enabled again",
						.operands = key_one,
						.takes = COMMAND_CHANGE,
						.run = key_disable};
static const struct command key_verb_enable = {.name = "enable",
					       .summary = "accept a disabled key again",
					       .operands = key_one,
					       .takes = COMMAND_CHANGE,
					       .run = key_enable};
static const struct command key_verb_revoke = {.name = "revoke",
					       .summary = "refuse a key for good",
					       .details = "Revoking cannot be taken back, by anybody.",
					       .operands = key_one,
					       .takes = COMMAND_CONFIRM | COMMAND_CHANGE,
					       .run = key_revoke};

static const struct command *const key_verbs[] = {
	&command_key_mint, &key_verb_list,   &key_verb_show,	       &key_verb_disable,
	&key_verb_enable,  &key_verb_revoke, &command_key_break_glass, NULL};

const struct command command_key = {.name = "key", .summary = "API keys", .commands = key_verbs};
