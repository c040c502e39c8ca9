/* Findings. What can come of a line is worked out in lint_walk.c, what is asked about lines in lint_line.c. */
#include "daemon/stack/lint.h"

#include <stdio.h>
#include <string.h>

#include "daemon/stack/lint_internal.h"

/* ---- any group ---- */

static void find_never_reached(struct lint *lint, unsigned i)
{
	const struct stack_line *last = NULL;
	char place[LINT_WHERE_SIZE];
	unsigned before;

	for (unsigned j = i; lint_unit_before(lint, j, &before); j = before) {
		if (lint->all.before[before] != 0) {
			last = lint_line(lint, before);
			break;
		}
	}
	if (!last) /* the substack around it is not reached, and that is told */
		return;
	lint_tell(lint, STACK_WARNING, "never-reached", lint_line(lint, i),
		  "is never reached, since %s always ends before; put it further up, or leave it out",
		  lint_where(last, place));
}

static void find_never_passes(struct lint *lint)
{
	unsigned first = lint->program->first[lint->group], end = lint_group_end(lint);
	unsigned want = lint->group == STACK_KEY ? LINT_PASSED : 0;

	if (lint_any(lint->all.end, want, LINT_FAILED))
		return;
	for (unsigned i = first; i < end; i = lint_unit_after(lint, i)) {
		if (lint->all.before[i] != 0 && !lint_any(lint->all.after[i], 0, LINT_FAILED)) {
			lint_tell(
				lint, STACK_ERROR, "never-passes", lint_line(lint, i),
				"always fails, so the stack can never allow anything; leave the line out, or let a success "
				"pass");
			return;
		}
	}
	if (lint->group == STACK_KEY)
		lint_tell(
			lint, STACK_ERROR, "never-passes", lint_line(lint, first),
			"is in a group key that never grants, so the stack can never allow anything; optional lines grant "
			"nothing, so write required");
	else
		lint_tell(lint, STACK_ERROR, "never-passes", lint_line(lint, first),
			  "is in a group that always fails, so the stack can never allow anything; let a success pass");
}

static void find_duplicate(struct lint *lint, unsigned i)
{
	const struct stack_line *line = lint_line(lint, i);
	char place[LINT_WHERE_SIZE];

	if (lint_is_module(line, "deny"))
		return;
	for (unsigned j = lint->program->first[lint->group]; j < i; j++) {
		const struct stack_line *other = lint_line(lint, j);

		if (other->op != STACK_OP_MODULE || strcmp(other->text, line->text) != 0)
			continue;
		lint_tell(lint, STACK_WARNING, "duplicate", line,
			  "asks the same as %s, and is asked twice (a rate is spent twice); leave one out",
			  lint_where(other, place));
		return;
	}
}

static void find_success_refused(struct lint *lint, unsigned i)
{
	if (lint_actions(lint_line(lint, i), STACK_CLASS_SUCCESS) & LINT_BITS_FAIL)
		lint_tell(
			lint, STACK_WARNING, "success-refused", lint_line(lint, i),
			"fails where its module succeeds; a module cannot be turned round by its control, so write success=ok "
			"and ask a module that refuses what you want refused");
}

static void find_order(struct lint *lint)
{
	const struct stack_program *program = lint->program;
	const struct stack_line *last = NULL;

	for (unsigned group = 0; group < STACK_GROUPS; group++) {
		const struct stack_line *latest = last;
		bool told = false;

		for (unsigned i = program->first[group]; i < program->first[group + 1]; i++) {
			const struct stack_line *line = &program->lines[i];
			char place[LINT_WHERE_SIZE];

			if (strcmp(line->stack, program->name) != 0)
				continue;
			if (last && line->place.line < last->place.line && !told) {
				lint_tell(
					lint, STACK_WARNING, "order", line,
					"stands before %s, but %s is judged later; write the groups in the order in which they "
					"are judged: caller, key, account, page, scope, audit",
					lint_where(last, place), group_word((enum stack_group)group));
				told = true;
			}
			if (!latest || line->place.line > latest->place.line)
				latest = line;
		}
		last = latest;
	}
}

/* ---- key ---- */

static void find_in_key(struct lint *lint, unsigned i)
{
	const struct stack_line *line = lint_line(lint, i);
	unsigned before;
	char place[LINT_WHERE_SIZE];

	if (line->op == STACK_OP_MODULE && !lint_can_pass(lint, i)) {
		lint_tell(
			lint, STACK_WARNING, "grants-nothing", line,
			"is in key, where %s grants nothing: nobody gets in by it; write sufficient, or required on the last line",
			line->optional ? "the success of an optional line" : "a success that is not ok or done");
		return;
	}
	if (lint_unit_before(lint, i, &before)) {
		if (lint_any(lint->all.before[i], LINT_PASSED, LINT_FAILED) && lint_can_refuse(lint, i)) {
			while (!lint_can_pass(lint, before) && lint_unit_before(lint, before, &before))
				continue;
			lint_tell(
				lint, STACK_WARNING, "needs-both", line,
				"is asked about keys that %s has granted, and refuses those that it does not know itself; "
				"where either is enough, write sufficient on all lines but the last",
				lint_where(lint_line(lint, before), place));
			return;
		}
		if (lint_can_pass(lint, i) && !lint_any(lint->decided.before[i], 0, LINT_FAILED | LINT_PASSED)) {
			lint_tell(lint, STACK_WARNING, "too-late", line,
				  "lets nobody in: what %s does not know has failed already; put this line before it",
				  lint_where(lint_line(lint, before), place));
			return;
		}
	}
	if (lint_is_sufficient(line) && i + 1 == lint_group_end(lint))
		lint_tell(
			lint, STACK_WARNING, "sufficient-last", line,
			"has nothing behind it that it could skip, and its reason is forgotten where it refuses; write required");
}

/* ---- account, and what is like it ---- */

static void find_rates(struct lint *lint)
{
	bool any = false;

	for (unsigned i = lint->program->first[lint->group]; i < lint_group_end(lint); i++) {
		const struct stack_line *line = lint_line(lint, i), *other;
		char place[LINT_WHERE_SIZE];

		if (!lint_enforces(lint, line))
			continue;
		any = true;
		if (lint->all.before[i] == 0)
			continue;
		other = lint_ends_before(lint, i, STACK_CLASS_SUCCESS, LINT_BIT_DONE);
		if (other)
			lint_tell(
				lint, STACK_WARNING, "rate-skipped", line,
				"is not asked where %s succeeds, and then it charges nobody; put this line before that",
				lint_where(other, place));
		other = lint_ends_before(lint, i, STACK_CLASS_DENY, LINT_BIT_DIE);
		if (other)
			lint_tell(
				lint, STACK_WARNING, "rate-unspent", line,
				"is not asked where %s refuses, so that refusals cost no rate, and trying on is free; put "
				"this line before that, or write required there",
				lint_where(other, place));
		if (line->optional || !(lint_actions(line, STACK_CLASS_SUCCESS) & LINT_BITS_PASS))
			lint_tell(
				lint, STACK_WARNING, "rate-not-counted", line,
				"does not count as charged: a key that is narrowed to a rate is denied with policy%s; write "
				"required",
				line->optional ? ", and nobody else is held to a rate" : "");
	}
	if (!any)
		lint_tell(
			lint, STACK_WARNING, "no-rate", NULL,
			"no line of account enforces rates: a key that is narrowed to a rate is denied with policy; write "
			"`account required rate`");
}

/* What slows those who try keys out must not tell which of them are good. */
static void find_tells_live(struct lint *lint, const struct stack_line *line)
{
	if (lint->group == STACK_ACCOUNT && lint_is_module(line, "penalty"))
		lint_tell(
			lint, STACK_WARNING, "tells-live", line,
			"is asked when the key has been found good: rate_limited in place of unknown_key then tells a thief "
			"which key is live; put it into caller");
}

static bool find_refusal_ignored(struct lint *lint, unsigned i)
{
	const struct stack_line *line = lint_line(lint, i);
	unsigned success = lint_actions(line, STACK_CLASS_SUCCESS), other;
	bool done = success & LINT_BIT_DONE;

	if (lint_actions(line, STACK_CLASS_DENY) != LINT_BIT_IGNORE || success & LINT_BITS_FAIL)
		return false;
	if ((done && lint_can_fail_after(lint, i, &other)) || lint_enforces(lint, line))
		return false;
	lint_tell(lint, STACK_WARNING, "refusal-ignored", line,
		  "may refuse, and that counts for nothing: %s begins as passed, and %s; write required",
		  group_word(lint->group), done ? "nothing behind this line fails it" : "this line does not fail it");
	return true;
}

static void find_fault_ignored(struct lint *lint, unsigned i)
{
	const struct stack_line *line = lint_line(lint, i);
	enum apikeyd_code code;
	char list[256] = "";
	size_t used = 0;

	if (!(lint_actions(line, STACK_CLASS_DENY) & LINT_BITS_FAIL) ||
	    !(lint_actions(line, STACK_CLASS_FAULT) & LINT_BIT_IGNORE))
		return;
	for (unsigned j = 0; code_at(j, &code) && used < sizeof(list); j++) {
		if (code_class(code) == STACK_CLASS_FAULT && line->actions[code] == STACK_IGNORE)
			used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", used == 0 ? "" : ", ",
						 code_word(code));
	}
	lint_tell(
		lint, STACK_WARNING, "fault-ignored", line,
		"fails open: what it would refuse passes where it has a fault (%s); leave those to default=bad, unless the "
		"line may be missing",
		list);
}

static void find_skips(struct lint *lint, unsigned i)
{
	const struct stack_line *line = lint_line(lint, i);
	char place[LINT_WHERE_SIZE];
	unsigned other;

	if (!lint_can_fail_after(lint, i, &other) || lint_enforces(lint, lint_line(lint, other)))
		return; /* what skips a rate is told there */
	if (lint_is_module(lint_line(lint, other), "deny"))
		return; /* only who succeeds before it: that is meant */
	if (lint_is_binding(line))
		lint_tell(
			lint, STACK_WARNING, "after-binding", lint_line(lint, other),
			"is not asked where %s succeeds, and where that refuses, all is lost already; write required there",
			lint_where(line, place));
	else if (lint_is_sufficient(line) && lint->group != STACK_CALLER)
		lint_tell(
			lint, STACK_WARNING, "skipped", lint_line(lint, other),
			"is not asked where %s succeeds, and what it would refuse passes then; write required there, unless "
			"either is enough",
			lint_where(line, place));
}

/* Two lists of callers, of which one would be enough. */
static void find_both_callers(struct lint *lint, unsigned i)
{
	const struct stack_line *line = lint_line(lint, i);
	char place[LINT_WHERE_SIZE];
	unsigned j = i;

	while (lint_is_strict(line) && lint_unit_before(lint, j, &j)) {
		const struct stack_line *other = lint_line(lint, j);

		if (!lint_is_strict(other) || lint_is_binding(other) || strcmp(other->name, line->name) != 0 ||
		    lint_is_module(line, "deny"))
			continue;
		lint_tell(
			lint, STACK_WARNING, "needs-both", line,
			"lets pass only who passes %s as well; where either is enough, write sufficient on all lines but the "
			"last",
			lint_where(other, place));
		return;
	}
}

/* ---- audit ---- */

static void find_in_audit(struct lint *lint, unsigned i)
{
	const struct stack_line *line = lint_line(lint, i);
	unsigned all = lint_actions(line, STACK_CLASS_SUCCESS) | lint_actions(line, STACK_CLASS_DENY) |
		       lint_actions(line, STACK_CLASS_FAULT);
	char place[LINT_WHERE_SIZE];

	if (lint_actions(line, STACK_CLASS_FAULT) & LINT_BIT_IGNORE)
		lint_tell(lint, STACK_WARNING, "audit-not-required", line,
			  "may fail to write a verdict down, which goes out all the same; write required");
	if (all & (LINT_BIT_DONE | LINT_BIT_DIE) && i + 1 < line->end)
		lint_tell(lint, STACK_WARNING, "audit-cut-short", line,
			  "may end audit before %s, which then writes nothing down; write required",
			  lint_where(lint_line(lint, i + 1), place));
}

/* ---- the whole ---- */

static void find_in_line(struct lint *lint, unsigned i)
{
	const struct stack_line *line = lint_line(lint, i);

	if (lint->all.before[i] == 0) {
		find_never_reached(lint, i);
		return;
	}
	if (lint->group == STACK_KEY)
		find_in_key(lint, i);
	if (line->op != STACK_OP_MODULE)
		return;
	find_duplicate(lint, i);
	find_success_refused(lint, i);
	if (lint->group == STACK_KEY || lint_is_module(line, "debug"))
		return;
	if (lint->group == STACK_AUDIT) {
		find_in_audit(lint, i);
		return;
	}
	find_tells_live(lint, line);
	if (!find_refusal_ignored(lint, i)) {
		find_fault_ignored(lint, i);
		find_skips(lint, i);
	}
	if (lint->group == STACK_CALLER)
		find_both_callers(lint, i);
}

unsigned stack_lint(const struct stack_program *program, stack_finding found, void *data)
{
	struct lint lint = {.program = program, .found = found, .data = data};

	for (unsigned group = 0; group < STACK_GROUPS; group++) {
		lint.group = (enum stack_group)group;
		lint_walk(&lint.all, program, lint.group, false);
		lint_walk(&lint.decided, program, lint.group, true);
		find_never_passes(&lint);
		for (unsigned i = program->first[group]; i < program->first[group + 1]; i++) {
			if (program->lines[i].op != STACK_OP_LEAVE)
				find_in_line(&lint, i);
		}
		if (group == STACK_ACCOUNT)
			find_rates(&lint);
	}
	find_order(&lint);
	return lint.count;
}
