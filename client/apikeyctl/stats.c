/* stats: the daemon's counters. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/show.h"
#include "client/apikeyctl/talk.h"
#include "client/apikeyctl/text.h"

static const struct show_column stats_columns[] = {
	{"COUNTER", "name", 0, NULL}, {"VALUE", "value", 0, NULL}, {NULL, NULL, 0, NULL}};

/* A row for each counter; those of a map within are called map.counter. Maps do not nest deeper than the scanner allows. */
static bool stats_rows(struct arena *arena, struct show_table *table, const char *prefix, const struct value *map)
{
	bool added = true;

	for (uint32_t i = 0; added && i < map->count; i++) {
		const struct value_field *field = &map->fields[i];
		char name[200];
		struct value row, *cell;

		snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? "." : "", field->name);
		if (field->value.type == VALUE_MAP) {
			added = stats_rows(arena, table, name, &field->value);
			continue;
		}
		value_map(&row);
		added = value_set_text(arena, &row, "name", name) && (cell = value_set(arena, &row, "value"));
		if (added) {
			*cell = field->value;
			added = show_table_add(table, &row);
		}
	}
	return added;
}

static int stats_once(const struct ctl *ctl, struct talk *talk, bool watching)
{
	const struct value *result;
	struct show_table *table;
	int code = talk_run(talk, "stats", NULL, &result);

	if (code)
		return code;
	if (result->type != VALUE_MAP)
		return ctl_say(ctl, CTL_UNAVAILABLE, "the daemon's answer to stats is no map");
	if (ctl->json)
		return watching ? jsonout_line(ctl, jsonout_of(result)) : jsonout_show(ctl, result);
	table = show_table_new(ctl, stats_columns);
	if (!table || !stats_rows(&talk->arena, table, "", result))
		code = ctl_no_memory(ctl);
	if (watching && ctl->out_terminal)
		fputs("\033[H\033[2J", ctl->out);
	if (!code)
		show_table_print(table);
	if (watching && !ctl->out_terminal)
		fputc('\n', ctl->out);
	show_table_free(table);
	return code;
}

static int stats_run(struct ctl *ctl, const struct args *args)
{
	const char *watch = args_text(args, "watch");
	struct talk talk = {0};
	uint64_t pause_ms = 0;
	int code;

	if (watch && (!text_duration(watch, &pause_ms) || pause_ms == 0))
		return ctl_say(ctl, CTL_USAGE, "--watch takes a time such as 2s, not \"%s\"", watch);
	code = talk_open(&talk, ctl, args_has(args, "admin") ? TALK_ADMIN : TALK_CHECK);
	if (!code)
		code = stats_once(ctl, &talk, watch != NULL);
	while (!code && watch && fflush(ctl->out) == 0) {
		struct timespec pause = {.tv_sec = (time_t)(pause_ms / 1000),
					 .tv_nsec = (long)(pause_ms % 1000) * 1000000};

		while (nanosleep(&pause, &pause) != 0 && errno == EINTR)
			;
		code = stats_once(ctl, &talk, true);
	}
	talk_close(&talk);
	return code;
}

static const struct option stats_options[] = {
	{.name = "watch", .value = "TIME", .help = "again and again, with so much time between (2s)"},
	{.name = "admin", .help = "ask the administration socket"},
	{.name = NULL},
};

const struct command command_stats = {
	.name = "stats", .summary = "the daemon's counters", .options = stats_options, .run = stats_run};
