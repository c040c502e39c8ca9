/* daemons: who follows the database, and how far each is. */
#include <string.h>

#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/rows.h"

/* "12.4s", or "out". */
static const char *daemons_left(struct arena *arena, const struct value *value)
{
	int64_t ms = value_as_int(value, 0);
	char text[32];

	snprintf(text, sizeof(text), "%lld.%llds", (long long)(ms / 1000), (long long)(ms % 1000 / 100));
	return ms > 0 ? arena_text(arena, text, strlen(text)) : "out";
}

static const struct show_column daemons_columns[] = {
	{"HOST", "host", 0, NULL},
	{"PID", "pid", 0, NULL},
	{"VERSION", "version", 0, NULL},
	{"APPLIED", "applied_rev", 0, NULL},
	{"BEHIND", "behind", 0, NULL},
	{"LEASE", "left_ms", 0, daemons_left},
	{"SEEN", "seen_at", 0, show_when},
	{"STARTED", "started_at", 0, show_when},
	{NULL, NULL, 0, NULL},
};

static int daemons_run(struct ctl *ctl, const struct args *args)
{
	return rows_list(ctl, args, "daemon_list", NULL, daemons_columns);
}

const struct command command_daemons = {
	.name = "daemons",
	.summary = "the daemons that follow the database, and how far each is",
	.details =
		"APPLIED is the revision that a daemon answers from, 0 while it loads; BEHIND, how many later ones there are. "
		"Until its LEASE is out it may answer from what it has; one whose lease is out answers \"unavailable\" "
		"until it registers again, and is forgotten after a day.",
	.takes = COMMAND_LIST,
	.run = daemons_run};
