#include "client/apikeyctl/trace.h"

#include <stdio.h>
#include <string.h>

#include "client/apikeyctl/show.h"

const char *trace_time(struct arena *arena, const struct value *ns)
{
	static const struct {
		uint64_t ns;
		const char *unit;
	} units[] = {{1000000000, "s"}, {1000000, "ms"}, {1000, "µs"}};
	uint64_t time = value_as_uint(ns, 0);
	const char *copy;
	char text[48];

	if (!ns)
		return "-";
	snprintf(text, sizeof(text), "%u ns", (unsigned)(time % 1000));
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (time >= units[i].ns) {
			snprintf(text, sizeof(text), "%.1f %s", (double)time / (double)units[i].ns, units[i].unit);
			break;
		}
	}
	copy = arena_text(arena, text, strlen(text));
	return copy ? copy : "…";
}

static const struct show_column trace_columns[] = {
	{"GROUP", "group", 0, NULL},	       {"LINE", "line", 0, NULL},
	{"MODULE", "module", 0, NULL},	       {"CONTROL", "control", SHOW_WRAP, NULL},
	{"CODE", "code", SHOW_STATE, NULL},    {"ACTION", "action", 0, NULL},
	{"EFFECT", "effect", 0, NULL},	       {"TIME", "ns", 0, trace_time},
	{"DETAIL", "detail", SHOW_WRAP, NULL}, {NULL, NULL, 0, NULL},
};

int trace_show(const struct ctl *ctl, const struct value *trace)
{
	struct show_table *table = show_table_new(ctl, trace_columns);
	bool added = table != NULL;

	for (uint32_t i = 0; added && i < trace->count; i++)
		added = show_table_add(table, &trace->items[i]);
	if (added)
		show_table_print(table);
	show_table_free(table);
	return added ? CTL_DONE : ctl_no_memory(ctl);
}

/* ---- why ---- */

static const char *trace_field(const struct value *entry, const char *name)
{
	return value_as_text(value_get(entry, name), "");
}

static bool trace_is(const struct value *entry, const char *name, const char *word)
{
	return strcmp(trace_field(entry, name), word) == 0;
}

static bool trace_failed(const struct value *entry)
{
	return trace_is(entry, "effect", "failed") || trace_is(entry, "effect", "died");
}

/* The group that the run ended in; audit comes after the end. */
static const char *trace_group(const struct value *trace, enum reason reason)
{
	const char *group = "";

	if (reason == REASON_AUDIT_FULL)
		return "audit";
	for (uint32_t i = 0; i < trace->count; i++) {
		if (!trace_is(&trace->items[i], "group", "audit"))
			group = trace_field(&trace->items[i], "group");
	}
	return group;
}

/*
 * The entry whose word the reason is: the core's own part; else a line that failed; else, in key, one that was ignored
 * and said why there is no grant. The end of a substack repeats what one of its lines said. NULL: no line did.
 */
static const struct value *trace_cause(const struct value *trace, const char *group, enum reason reason)
{
	const struct value *failed = NULL, *said = NULL;

	for (uint32_t i = 0; i < trace->count; i++) {
		const struct value *entry = &trace->items[i];

		if (!trace_is(entry, "group", group) || trace_is(entry, "module", "substack"))
			continue;
		if (trace_is(entry, "module", "core") && trace_is(entry, "code", reason_word(reason)))
			return entry;
		if (!trace_is(entry, "code", reason_word(reason)) && reason != REASON_AUDIT_FULL)
			continue;
		if (!failed && trace_failed(entry))
			failed = entry;
		if (!said && reason != REASON_AUDIT_FULL)
			said = entry;
	}
	return failed ? failed : said;
}

/* Whether the core had passed the group already: what it says after the lines of account is about the key's rate. */
static bool trace_was_passed(const struct value *trace, const struct value *cause)
{
	for (const struct value *entry = trace->items; entry < cause; entry++) {
		if (trace_is(entry, "module", "core") && trace_is(entry, "group", trace_field(cause, "group")))
			return true;
	}
	return false;
}

static void trace_why_allowed(const struct value *trace, char out[TRACE_WHY_SIZE])
{
	for (uint32_t i = 0; i < trace->count; i++) {
		const struct value *entry = &trace->items[i];

		if (!trace_is(entry, "effect", "granted"))
			continue;
		snprintf(out, TRACE_WHY_SIZE, "Every group passed; %.64s (%.100s) said whose key it is.",
			 trace_field(entry, "module"), trace_field(entry, "line"));
		return;
	}
	snprintf(out, TRACE_WHY_SIZE, "Every group passed.");
}

void trace_why(const struct value *trace, enum reason reason, char out[TRACE_WHY_SIZE])
{
	const char *group = trace_group(trace, reason), *word = reason_word(reason);
	const struct value *cause;

	if (reason == REASON_OK) {
		trace_why_allowed(trace, out);
		return;
	}
	cause = trace_cause(trace, group, reason);
	if (!*group)
		snprintf(out, TRACE_WHY_SIZE, "No group was begun: %s was found before.", word);
	else if (!cause && strcmp(group, "key") == 0)
		snprintf(out, TRACE_WHY_SIZE, "In key no line granted.");
	else if (!cause)
		snprintf(out, TRACE_WHY_SIZE, "%s was found when %.32s had been judged; no line of it said so.", word,
			 group);
	else if (reason == REASON_POLICY && trace_is(cause, "module", "core") && trace_was_passed(trace, cause))
		snprintf(out, TRACE_WHY_SIZE,
			 "The group account failed: the key is narrowed to a rate, and no line charged it.");
	else if (trace_is(cause, "module", "core"))
		snprintf(out, TRACE_WHY_SIZE,
			 "The group %.32s failed: the daemon's own part, before all lines, said %s.", group, word);
	else if (reason == REASON_AUDIT_FULL)
		snprintf(out, TRACE_WHY_SIZE,
			 "Every group passed, but audit failed: %.64s (%.100s) said %.64s, and what cannot be written "
			 "down is not allowed.",
			 trace_field(cause, "module"), trace_field(cause, "line"), trace_field(cause, "code"));
	else if (trace_failed(cause))
		snprintf(out, TRACE_WHY_SIZE,
			 "The group %.32s failed: %.64s (%.100s) said %s, which its control %.100s makes %.16s.", group,
			 trace_field(cause, "module"), trace_field(cause, "line"), word, trace_field(cause, "control"),
			 trace_field(cause, "action"));
	else
		snprintf(out, TRACE_WHY_SIZE, "In %.32s no line granted, and %.64s (%.100s) said %s.", group,
			 trace_field(cause, "module"), trace_field(cause, "line"), word);
}
