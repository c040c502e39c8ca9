/* Anchors: the heads that daemons wrote to their journals, where whoever changes the database has no part in them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/apikeyctl/audit.h"

static int read_all(const struct ctl *ctl, const char *path, FILE *file, struct anchors_reader *reader,
		    struct anchors *ret)
{
	char data[16384];
	bool done = true;
	size_t n;

	while (done && (n = fread(data, 1, sizeof(data), file)) > 0)
		done = anchors_feed(ret, reader, data, n, false);
	if (done && !ferror(file))
		done = anchors_feed(ret, reader, "", 0, true);
	if (!done)
		return ctl_no_memory(ctl);
	if (ferror(file))
		return ctl_say(ctl, CTL_USAGE, "%s: %s", path, strerror(errno));
	anchors_sort(ret);
	if (ret->count > 0)
		return CTL_DONE;
	return ctl_say(ctl, CTL_USAGE,
		       "%s: there is no line \"" ANCHOR_BEGINS
		       "…\" in it: give a log of the daemon at level info, or an "
		       "export of its journal (journalctl -u apikeyd)",
		       path);
}

int audit_anchors_read(const struct ctl *ctl, const char *path, struct anchors *ret)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	struct anchors_reader *reader = NULL;
	int code;

	if (!file)
		return ctl_say(ctl, CTL_USAGE, "%s: %s; give a log of the daemon, or an export of its journal", path,
			       strerror(errno));
	reader = calloc(1, sizeof(*reader));
	code = reader ? read_all(ctl, path, file, reader, ret) : ctl_no_memory(ctl);
	free(reader);
	if (file != stdin)
		fclose(file);
	return code;
}

int audit_anchors_of(const struct ctl *ctl, const char *line, struct anchors *ret)
{
	struct anchors_reader *reader = calloc(1, sizeof(*reader));
	bool done = reader && anchors_feed(ret, reader, line, strlen(line), true);

	free(reader);
	return done ? CTL_DONE : ctl_no_memory(ctl);
}
