#include "client/apikeyctl/show.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <libsmartcols.h>

#include "client/apikeyctl/text.h"

struct show_table {
	const struct ctl *ctl;
	const struct show_column *columns;
	struct libscols_table *table;
};

static const char show_none[] = "-";

static const char *show_list(struct arena *arena, const struct value *value)
{
	const char *text = "";

	for (uint32_t i = 0; i < value->count; i++) {
		const char *item = show_text(arena, &value->items[i]);
		size_t len = strlen(text) + strlen(item) + 3;
		char *joined = arena_alloc(arena, len);

		if (!joined)
			return "…";
		snprintf(joined, len, "%s%s%s", text, i ? ", " : "", item);
		text = joined;
	}
	return value->count ? text : "none";
}

const char *show_text(struct arena *arena, const struct value *value)
{
	char number[32];
	const char *copy;

	if (!value)
		return show_none;
	switch (value->type) {
	case VALUE_NIL:
		return show_none;
	case VALUE_BOOL:
		return value->truth ? "yes" : "no";
	case VALUE_TEXT:
		return value->text;
	case VALUE_LIST:
		return show_list(arena, value);
	case VALUE_MAP:
		return value->count ? "…" : show_none;
	case VALUE_INT:
		snprintf(number, sizeof(number), "%" PRId64, value->integer);
		break;
	case VALUE_UINT:
		snprintf(number, sizeof(number), "%" PRIu64, value->unsigned_integer);
		break;
	case VALUE_FLOAT:
		snprintf(number, sizeof(number), "%g", value->real);
		break;
	}
	copy = arena_text(arena, number, strlen(number));
	return copy ? copy : "…";
}

const char *show_when(struct arena *arena, const struct value *value)
{
	char when[TEXT_WHEN_SIZE];
	const char *copy;

	if (!value || value->type != VALUE_INT)
		return show_text(arena, value);
	text_format_when(value->integer, when);
	copy = arena_text(arena, when, strlen(when));
	return copy ? copy : "…";
}

const char *show_color(const char *word)
{
	static const struct {
		const char *word, *color;
	} colors[] = {
		{"active", "\033[32m"},	   {"live", "\033[32m"},     {"allow", "\033[32m"},
		{"suspended", "\033[33m"}, {"archived", "\033[33m"}, {"disabled", "\033[33m"},
		{"expired", "\033[33m"},   {"retired", "\033[33m"},  {"not_yet_valid", "\033[33m"},
		{"revoked", "\033[31m"},   {"deny", "\033[31m"},     {"unavailable", "\033[35m"},
		{"ok", "\033[32m"},	   {"warning", "\033[33m"},  {"failed", "\033[31m"},
		{"unknown", "\033[35m"},   {"missing", "\033[31m"},  {"pending", "\033[33m"},
		{"installed", "\033[32m"},
	};

	for (size_t i = 0; i < sizeof(colors) / sizeof(colors[0]); i++) {
		if (strcmp(colors[i].word, word) == 0)
			return colors[i].color;
	}
	return NULL;
}

static const char *show_cell(const struct show_column *column, struct arena *arena, const struct value *row)
{
	const struct value *value = value_get(row, column->field);

	return column->text ? column->text(arena, value) : show_text(arena, value);
}

static void show_table_style(struct libscols_table *table, const struct ctl *ctl)
{
	scols_table_set_stream(table, ctl->out);
	scols_table_enable_colors(table, ctl->color);
	/* In a pipe nothing is cut off or broken to fit a terminal that is not there. */
	scols_table_set_termforce(table, ctl->out_terminal ? SCOLS_TERMFORCE_AUTO : SCOLS_TERMFORCE_NEVER);
}

struct show_table *show_table_new(const struct ctl *ctl, const struct show_column *columns)
{
	struct show_table *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	*table = (struct show_table){.ctl = ctl, .columns = columns, .table = scols_new_table()};
	if (!table->table)
		goto fail;
	show_table_style(table->table, ctl);
	for (size_t i = 0; columns[i].title; i++) {
		int flags = columns[i].flags & SHOW_WRAP && ctl->out_terminal ? SCOLS_FL_WRAP : 0;

		if (!scols_table_new_column(table->table, columns[i].title, 0, flags))
			goto fail;
	}
	return table;
fail:
	show_table_free(table);
	return NULL;
}

bool show_table_add(struct show_table *table, const struct value *row)
{
	struct libscols_line *line = scols_table_new_line(table->table, NULL);
	struct arena arena = {0};
	bool added = line != NULL;

	for (size_t i = 0; added && table->columns[i].title; i++) {
		const char *text = show_cell(&table->columns[i], &arena, row);
		const char *color = table->columns[i].flags & SHOW_STATE ? show_color(text) : NULL;

		added = scols_line_set_data(line, i, text) == 0;
		if (added && color && table->ctl->color)
			scols_cell_set_color(scols_line_get_cell(line, i), color);
	}
	arena_clear(&arena);
	return added;
}

void show_table_print(struct show_table *table)
{
	if (!scols_table_is_empty(table->table))
		scols_print_table(table->table);
}

void show_table_free(struct show_table *table)
{
	if (!table)
		return;
	if (table->table)
		scols_unref_table(table->table);
	free(table);
}

int show_record(const struct ctl *ctl, const struct show_column *columns, const struct value *row)
{
	struct libscols_table *table = scols_new_table();
	struct arena arena = {0};
	int code = CTL_UNAVAILABLE;

	if (!table || !scols_table_new_column(table, "", 0, 0) ||
	    !scols_table_new_column(table, "", 0, ctl->out_terminal ? SCOLS_FL_WRAP : 0))
		goto out;
	show_table_style(table, ctl);
	scols_table_enable_noheadings(table, 1);
	for (size_t i = 0; columns[i].title; i++) {
		struct libscols_line *line;
		const char *text, *color;

		if (!value_get(row, columns[i].field))
			continue;
		line = scols_table_new_line(table, NULL);
		text = show_cell(&columns[i], &arena, row);
		color = columns[i].flags & SHOW_STATE ? show_color(text) : NULL;
		if (!line || scols_line_set_data(line, 0, columns[i].title) != 0 ||
		    scols_line_set_data(line, 1, text) != 0)
			goto out;
		if (color && ctl->color)
			scols_cell_set_color(scols_line_get_cell(line, 1), color);
	}
	if (!scols_table_is_empty(table))
		scols_print_table(table);
	code = CTL_DONE;
out:
	if (table)
		scols_unref_table(table);
	arena_clear(&arena);
	return code ? ctl_no_memory(ctl) : CTL_DONE;
}
