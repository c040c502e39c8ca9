/* metrics: the daemon's counters for Prometheus. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/metrics_table.h"
#include "client/apikeyctl/metrics_text.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/show.h"
#include "client/apikeyctl/talk.h"

/* ---- the file ---- */

/*
 * A file beside it that takes its place when it is whole: nobody reads half of one, and a full disk leaves the old one. Its
 * name does not end as `path` does, so that a collector of *.prom passes it over.
 */
struct output {
	const struct ctl *ctl;
	const char *path;
	char *beside;
	FILE *file;
};

static int output_failed(struct output *output, int err)
{
	ctl_say(output->ctl, CTL_UNAVAILABLE,
		"%s cannot be written (%s): see that its directory is there, "
		"that this user may write to it, and that the disk is not full",
		output->path, strerror(err));

	if (output->file)
		fclose(output->file);
	if (output->beside)
		unlink(output->beside);
	free(output->beside);
	return CTL_UNAVAILABLE;
}

static int output_open(struct output *output, const struct ctl *ctl, const char *path)
{
	mode_t mask = umask(0);
	int fd;

	umask(mask);
	*output = (struct output){.ctl = ctl, .path = path};
	if (asprintf(&output->beside, "%s.XXXXXX", path) < 0) {
		output->beside = NULL;
		return ctl_no_memory(ctl);
	}
	fd = mkstemp(output->beside);
	if (fd < 0) {
		int err = errno;

		free(output->beside);
		output->beside = NULL;
		return output_failed(output, err);
	}
	output->file = fdopen(fd, "w");
	/* Another user collects it. */
	if (!output->file || fchmod(fd, 0644 & ~mask) != 0)
		return output_failed(output, errno);
	return CTL_DONE;
}

static int output_close(struct output *output)
{
	FILE *file = output->file;
	bool wrong = ferror(file) != 0;

	output->file = NULL;
	if (fclose(file) != 0 || wrong || rename(output->beside, output->path) != 0)
		return output_failed(output, wrong ? EIO : errno);
	free(output->beside);
	return CTL_DONE;
}

/* Says why the daemon could not be asked, and still writes that it could not: old numbers would look like new ones. */
static int write_file(const struct ctl *ctl, const char *path, const struct value *stats, int asked)
{
	struct output output;
	struct stat st;
	int code;

	/* A device, or a link such as /dev/stdout, must not be replaced by a file. */
	if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return ctl_say(ctl, CTL_USAGE, "%s is no regular file; without --output it all goes to standard output",
			       path);
	code = output_open(&output, ctl, path);
	if (code)
		return code;
	if (stats)
		metrics_text(output.file, stats);
	else
		metrics_text_down(output.file);
	code = output_close(&output);
	return code ? code : asked;
}

/* ---- the list ---- */

static const struct show_column list_columns[] = {{"METRIC", "metric", 0, NULL},	{"TYPE", "type", 0, NULL},
						  {"LABELS", "labels", 0, NULL},	{"IN STATS", "stats", 0, NULL},
						  {"MEANING", "help", SHOW_WRAP, NULL}, {NULL, NULL, 0, NULL}};

static bool list_add(struct arena *arena, struct value *rows, const char *name, const struct metric *metric,
		     const struct metric *row)
{
	static const char *const types[] = {"counter", "gauge", "histogram"};
	struct value *map = value_add(arena, rows);

	if (!map)
		return false;
	value_map(map);
	return value_set_text(arena, map, "metric", name) &&
	       value_set_text(arena, map, "type", metric ? types[metric->type] : NULL) &&
	       value_set_text(arena, map, "labels", row ? row->labels : NULL);
}

static bool list_end(struct arena *arena, struct value *rows, const char *from, const char *help)
{
	struct value *map = &rows->items[rows->count - 1];

	return value_set_text(arena, map, "stats", from) && value_set_text(arena, map, "help", help);
}

static bool list_fill(struct arena *arena, struct value *rows)
{
	static const struct metric up = {.type = METRIC_GAUGE};
	const struct metric *metric = &up;
	char name[128];

	if (!list_add(arena, rows, metrics_up_name, metric, NULL) || !list_end(arena, rows, NULL, metrics_up_help))
		return false;
	for (const struct metric *row = metrics_table; row->from; row++) {
		if (row->name)
			metric = row;
		snprintf(name, sizeof(name), "%s%s", metric->name, metric->type == METRIC_COUNTER ? "_total" : "");
		if (!list_add(arena, rows, name, metric, row) || !list_end(arena, rows, row->from, metric->help))
			return false;
	}
	for (const struct metric_left *left = metrics_left; left->from; left++) {
		if (!list_add(arena, rows, NULL, NULL, NULL) || !list_end(arena, rows, left->from, left->why))
			return false;
	}
	return true;
}

static int list_run(const struct ctl *ctl)
{
	struct arena arena = {0};
	struct value rows;
	struct show_table *table = NULL;
	int code = CTL_DONE;

	value_list(&rows);
	if (!list_fill(&arena, &rows)) {
		code = ctl_no_memory(ctl);
	} else if (ctl->json) {
		code = jsonout_show(ctl, &rows);
	} else {
		bool added = (table = show_table_new(ctl, list_columns)) != NULL;

		for (uint32_t i = 0; added && i < rows.count; i++)
			added = show_table_add(table, &rows.items[i]);
		if (added)
			show_table_print(table);
		else
			code = ctl_no_memory(ctl);
		show_table_free(table);
	}
	arena_clear(&arena);
	return code;
}

/* ---- the command ---- */

static int metrics_run(struct ctl *ctl, const struct args *args)
{
	const char *path = args_text(args, "output");
	const struct value *stats = NULL;
	struct talk talk = {0};
	int code;

	if (args_has(args, "list"))
		return path ? ctl_say(ctl, CTL_USAGE, "--list prints what there is; --output is for the metrics")
			    : list_run(ctl);
	if (ctl->json)
		return ctl_say(
			ctl, CTL_USAGE,
			"metrics are OpenMetrics text; for JSON there are `stats --json` and `metrics --list --json`");
	code = talk_open(&talk, ctl, args_has(args, "admin") ? TALK_ADMIN : TALK_CHECK);
	if (!code)
		code = talk_run(&talk, "stats", NULL, &stats);
	if (!code && stats->type != VALUE_MAP) {
		code = ctl_say(ctl, CTL_UNAVAILABLE, "the daemon's answer to stats is no map");
		stats = NULL;
	}
	if (path)
		code = write_file(ctl, path, code ? NULL : stats, code);
	else if (!code)
		metrics_text(ctl->out, stats);
	talk_close(&talk);
	return code;
}

static const struct option metrics_options[] = {
	{.name = "output",
	 .letter = 'o',
	 .value = "FILE",
	 .help = "write them there, whole or not at all; where the daemon does not answer, apikeyd_up 0"},
	{.name = "list", .help = "all metrics there are, with what each means and where in stats it stands"},
	{.name = "admin", .help = "ask the administration socket"},
	{.name = NULL},
};

const struct command command_metrics = {
	.name = "metrics",
	.summary = "the daemon's counters as OpenMetrics text, for Prometheus",
	.details =
		"For the textfile collector of Prometheus' node exporter: with --output FILE, run by a timer, such as the one "
		"among the examples of the package.",
	.options = metrics_options,
	.run = metrics_run,
};
