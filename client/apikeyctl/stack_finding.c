#include "client/apikeyctl/stack_finding.h"

#include <stdlib.h>
#include <string.h>

#include "client/apikeyctl/jsonout.h"

static const char *const severities[] = {"note", "warning", "error"};

void findings_deinit(struct findings *findings)
{
	free(findings->all);
	free(findings->stacks);
	arena_clear(&findings->arena);
}

/* ---- adding ---- */

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool is_same(const struct finding *a, const struct finding *b)
{
	return a->severity == b->severity && a->place.line == b->place.line && a->place.column == b->place.column &&
	       strcmp(a->code, b->code) == 0 && strcmp(a->file, b->file) == 0 && same_text(a->word, b->word) &&
	       strcmp(a->message, b->message) == 0 && same_text(a->hint, b->hint);
}

static const char *keep(struct findings *findings, const char *text)
{
	char *copy = text ? arena_text(&findings->arena, text, strlen(text)) : NULL;

	if (text && !copy)
		findings->no_memory = true;
	return copy;
}

static bool make_room(struct findings *findings)
{
	struct finding *all = reallocarray(findings->all, findings->count + 1, sizeof(*all));
	struct value *stacks = all ? reallocarray(findings->stacks, findings->count + 1, sizeof(*stacks)) : NULL;

	if (all)
		findings->all = all;
	if (stacks)
		findings->stacks = stacks;
	return stacks != NULL;
}

static void add_stack(struct findings *findings, size_t i, const char *stack)
{
	struct value *list = &findings->stacks[i], *item;

	for (uint32_t j = 0; stack && j < list->count; j++) {
		if (strcmp(list->items[j].text, stack) == 0)
			return;
	}
	item = stack ? value_add(&findings->arena, list) : NULL;
	if (stack && (!item || !value_text(&findings->arena, item, stack, strlen(stack))))
		findings->no_memory = true;
}

void findings_add(struct findings *findings, const char *stack, const struct finding *finding)
{
	struct finding copy = *finding;
	size_t i = 0;

	while (i < findings->count && !is_same(&findings->all[i], finding))
		i++;
	if (i == findings->count) {
		copy.code = keep(findings, finding->code);
		copy.file = keep(findings, finding->file);
		copy.word = keep(findings, finding->word);
		copy.message = keep(findings, finding->message);
		copy.hint = keep(findings, finding->hint);
		if (findings->no_memory || !make_room(findings)) {
			findings->no_memory = true;
			return;
		}
		findings->all[i] = copy;
		value_list(&findings->stacks[i]);
		findings->counts[finding->severity]++;
		findings->count++;
	}
	add_stack(findings, i, stack);
}

void findings_add_text(struct findings *findings, const char *stack, struct finding finding, const char *text)
{
	const char *gap = strstr(text, "; ");
	char *message = strndup(text, gap ? (size_t)(gap - text) : strlen(text));

	if (!message) {
		findings->no_memory = true;
		return;
	}
	finding.message = message;
	finding.hint = gap ? gap + 2 : NULL;
	findings_add(findings, stack, &finding);
	free(message);
}

/* ---- showing ---- */

static bool put(struct arena *arena, struct value *row, const struct finding *finding, const struct value *stacks)
{
	uint32_t line = finding->place.line;
	struct value *list;

	value_map(row);
	list = value_set(arena, row, "stacks");
	if (!list)
		return false;
	*list = *stacks;
	return value_set_text(arena, row, "file", finding->file) &&
	       (line ? value_set_uint(arena, row, "line", line) : value_set_text(arena, row, "line", NULL)) &&
	       (line ? value_set_uint(arena, row, "column", finding->place.column)
		     : value_set_text(arena, row, "column", NULL)) &&
	       value_set_text(arena, row, "severity", severities[finding->severity]) &&
	       value_set_text(arena, row, "code", finding->code) && value_set_text(arena, row, "word", finding->word) &&
	       value_set_text(arena, row, "message", finding->message) &&
	       value_set_text(arena, row, "hint", finding->hint);
}

static int show_json(struct findings *findings, const struct ctl *ctl)
{
	struct value rows, *row;

	value_list(&rows);
	for (size_t i = 0; i < findings->count; i++) {
		row = value_add(&findings->arena, &rows);
		if (!row || !put(&findings->arena, row, &findings->all[i], &findings->stacks[i]))
			return ctl_no_memory(ctl);
	}
	return jsonout_show(ctl, &rows);
}

int findings_show(struct findings *findings, const struct ctl *ctl)
{
	if (findings->no_memory)
		return ctl_no_memory(ctl);
	if (ctl->quiet)
		return CTL_DONE;
	if (ctl->json)
		return show_json(findings, ctl);
	for (size_t i = 0; i < findings->count; i++) {
		const struct finding *finding = &findings->all[i];
		char place[32] = "";

		if (finding->place.line > 0)
			snprintf(place, sizeof(place), ":%u:%u", finding->place.line, finding->place.column);
		ctl_print(ctl, "%s%s: %s: %s%s%s%s%s [%s]", finding->file, place, severities[finding->severity],
			  finding->word ? finding->word : "", finding->word ? ": " : "", finding->message,
			  finding->hint ? "; " : "", finding->hint ? finding->hint : "", finding->code);
	}
	return CTL_DONE;
}
