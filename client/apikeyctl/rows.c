#include "client/apikeyctl/rows.h"

#include <inttypes.h>
#include <string.h>

#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/text.h"
#include "client/apikeyctl/wait.h"

enum { ROWS_ASKED_MAX = 100 }; /* a --limit up to this is told to the daemon; more comes in pages of its own size */

/* The method's map. False without memory. */
static bool rows_params(struct arena *arena, struct value *ret, const struct args *args,
			const struct rows_param *params)
{
	size_t operand = 0;

	value_map(ret);
	for (; params && params->name; params++) {
		const char *text = params->option ? args_text(args, params->option) : args_operand(args, operand++);

		if (text && !value_set_text(arena, ret, params->name, text))
			return false;
	}
	return true;
}

/* The call's own fields, and where to go on. The fields are borrowed. */
static bool rows_page_params(struct arena *arena, struct value *ret, const struct value *params,
			     const struct value *after, uint64_t limit)
{
	value_map(ret);
	for (uint32_t i = 0; i < params->count; i++) {
		struct value *field = value_set(arena, ret, params->fields[i].name);

		if (!field)
			return false;
		*field = params->fields[i].value;
	}
	if (after) {
		struct value *field = value_set(arena, ret, "after");

		if (!field)
			return false;
		*field = *after;
	}
	return !limit || limit > ROWS_ASKED_MAX || value_set_uint(arena, ret, "limit", limit);
}

/* `next` of one page is needed when that page's memory is gone. */
static bool rows_keep(struct arena *arena, struct value *ret, const struct value *next)
{
	*ret = *next;
	return next->type != VALUE_TEXT || value_text(arena, ret, next->text, next->count);
}

struct rows {
	const struct ctl *ctl;
	struct show_table *table; /* NULL: JSON */
	uint64_t shown, limit;
};

static int rows_add(struct rows *rows, const struct value *row)
{
	const struct ctl *ctl = rows->ctl;

	if (rows->table) {
		if (!show_table_add(rows->table, row))
			return ctl_no_memory(ctl);
	} else {
		json_t *object = jsonout_of(row);

		fputs(rows->shown ? ",\n " : "[\n ", ctl->out);
		if (!object || json_dumpf(object, ctl->out, 0) != 0) {
			json_decref(object);
			return ferror(ctl->out) ? CTL_UNAVAILABLE : ctl_no_memory(ctl);
		}
		json_decref(object);
	}
	rows->shown++;
	return CTL_DONE;
}

static int rows_pages(struct rows *rows, struct talk *talk, const char *method, const struct value *params,
		      struct arena *arena)
{
	const struct value *answer, *list, *next;
	struct value after, page;
	bool more = false, counting = false;
	int code = CTL_DONE;

	do {
		if (!rows_page_params(arena, &page, params, more ? &after : NULL, rows->limit))
			return ctl_no_memory(rows->ctl);
		code = talk_run(talk, method, &page, &answer);
		if (code)
			break;
		list = value_get(answer, "rows");
		next = value_get(answer, "next");
		if (!list || list->type != VALUE_LIST) {
			code = ctl_say(rows->ctl, CTL_UNAVAILABLE, "the daemon's answer to %s has no rows", method);
			break;
		}
		for (uint32_t i = 0; i < list->count && !code && (!rows->limit || rows->shown < rows->limit); i++)
			code = rows_add(rows, &list->items[i]);
		more = next && next->type != VALUE_NIL && list->count > 0 &&
		       (!rows->limit || rows->shown < rows->limit);
		if (more && !rows_keep(arena, &after, next))
			code = ctl_no_memory(rows->ctl);
		if (more && rows->ctl->err_terminal && !rows->ctl->quiet) {
			counting = true;
			fprintf(rows->ctl->err, "\r%" PRIu64 " rows …", rows->shown);
			fflush(rows->ctl->err);
		}
	} while (more && !code);
	if (counting)
		fputs("\r\033[K", rows->ctl->err);
	return code;
}

int rows_list(const struct ctl *ctl, const struct args *args, const char *method, const struct rows_param *params,
	      const struct show_column *columns)
{
	const char *limit = args_text(args, "limit");
	struct rows rows = {.ctl = ctl};
	struct arena arena = {0};
	struct value map;
	struct talk talk = {0};
	int code;

	if (limit && (!text_number(limit, UINT32_MAX, &rows.limit) || rows.limit == 0))
		return ctl_say(ctl, CTL_USAGE, "--limit takes a number from 1 up, not \"%s\"", limit);
	if (!ctl->json && !(rows.table = show_table_new(ctl, columns)))
		return ctl_no_memory(ctl);
	if (rows_params(&arena, &map, args, params))
		code = talk_open(&talk, ctl, TALK_ADMIN);
	else
		code = ctl_no_memory(ctl);
	if (!code)
		code = rows_pages(&rows, &talk, method, &map, &arena);
	if (code)
		goto out;
	if (rows.table)
		show_table_print(rows.table);
	else
		fputs(rows.shown ? "\n]\n" : "[]\n", ctl->out);
	if (rows.table && rows.shown == 0)
		ctl_note(ctl, "there are none");
out:
	talk_close(&talk);
	show_table_free(rows.table);
	arena_clear(&arena);
	return code;
}

void rows_note(const struct ctl *ctl, const char *done, const struct value *answer)
{
	uint64_t rev = value_as_uint(value_get(answer, "rev"), 0);

	if (rev)
		ctl_note(ctl, "%s (revision %" PRIu64 ")", done, rev);
	else
		ctl_note(ctl, "%s", done);
}

/* One call and its answer: a row, if there are columns to show, and the notice `done`, if there is one. */
static int rows_one(const struct ctl *ctl, const struct args *args, const char *method, const struct rows_param *params,
		    const struct show_column *columns, const char *done)
{
	const struct value *answer = NULL;
	struct arena arena = {0};
	struct value map;
	struct talk talk = {0};
	int code;

	if (rows_params(&arena, &map, args, params))
		code = talk_admin(&talk, ctl, method, &map, &answer);
	else
		code = ctl_no_memory(ctl);
	if (!code && ctl->json)
		code = jsonout_show(ctl, answer);
	else if (!code) {
		if (columns)
			code = show_record(ctl, columns, answer);
		if (done)
			rows_note(ctl, done, answer);
	}
	if (!code && done)
		code = wait_after(ctl, args, answer);
	talk_close(&talk);
	arena_clear(&arena);
	return code;
}

int rows_show(const struct ctl *ctl, const struct args *args, const char *method, const struct rows_param *params,
	      const struct show_column *columns)
{
	return rows_one(ctl, args, method, params, columns, NULL);
}

int rows_change(const struct ctl *ctl, const struct args *args, const char *method, const struct rows_param *params,
		const struct show_column *columns)
{
	return rows_one(ctl, args, method, params, columns, "done");
}

int rows_remove(const struct ctl *ctl, const struct args *args, const char *method, const struct rows_param *params,
		const char *question, const char *done)
{
	int code = ctl_confirm(ctl, question, args_operand(args, 0));

	return code ? code : rows_one(ctl, args, method, params, NULL, done);
}
