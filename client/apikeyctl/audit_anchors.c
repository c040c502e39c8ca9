/* Anchors: the heads that daemons wrote to their journals, where whoever changes the database has no part in them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/apikeyctl/audit.h"

static const char anchor_begins[] = "ledger: anchor chain=";

static bool anchor_hex(const char *text, size_t len, bool dashes)
{
	for (size_t i = 0; i < len; i++)
		if (!strchr(dashes ? "0123456789abcdef-" : "0123456789abcdef", text[i]) || !text[i])
			return false;
	return true;
}

/* What stands behind the beginning of one. False for what only looks like it. */
static bool anchor_parse(const char *text, struct audit_anchor *ret)
{
	char *end;

	if (!anchor_hex(text, AUDIT_CHAIN_LEN, true) || strncmp(text + AUDIT_CHAIN_LEN, " batch=", 7) != 0)
		return false;
	memcpy(ret->chain, text, AUDIT_CHAIN_LEN);
	errno = 0;
	ret->batch = strtoll(text + AUDIT_CHAIN_LEN + 7, &end, 10);
	if (errno || ret->batch < 1 || strncmp(end, " head=", 6) != 0 || !anchor_hex(end + 6, AUDIT_HEAD_LEN, false))
		return false;
	memcpy(ret->head, end + 6, AUDIT_HEAD_LEN);
	return true;
}

static int anchor_compare(const void *a, const void *b)
{
	const struct audit_anchor *left = a, *right = b;
	int order = strcmp(left->chain, right->chain);

	return order ? order : (left->batch > right->batch) - (left->batch < right->batch);
}

static bool anchors_add(struct audit_anchors *anchors, size_t *size, const struct audit_anchor *anchor)
{
	if (anchors->count == *size) {
		size_t more = *size ? *size * 2 : 64;
		struct audit_anchor *items = reallocarray(anchors->items, more, sizeof(*items));

		if (!items)
			return false;
		anchors->items = items;
		*size = more;
	}
	anchors->items[anchors->count++] = *anchor;
	return true;
}

int audit_anchors_read(const struct ctl *ctl, const char *path, struct audit_anchors *ret)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	size_t size = 0, line_size = 0;
	char *line = NULL;
	int code = CTL_DONE;

	if (!file)
		return ctl_say(ctl, CTL_USAGE, "%s: %s; give a log of the daemon, or an export of its journal", path,
			       strerror(errno));
	while (!code && getline(&line, &line_size, file) >= 0) {
		const char *at = line;

		while (!code && (at = strstr(at, anchor_begins)) != NULL) {
			struct audit_anchor anchor = {0};

			at += sizeof(anchor_begins) - 1;
			if (anchor_parse(at, &anchor) && !anchors_add(ret, &size, &anchor))
				code = ctl_no_memory(ctl);
		}
	}
	if (!code && ferror(file))
		code = ctl_say(ctl, CTL_USAGE, "%s: %s", path, strerror(errno));
	if (!code && ret->count == 0)
		code = ctl_say(
			ctl, CTL_USAGE,
			"%s: there is no line \"%s…\" in it: give a log of the daemon at level info, or an export "
			"of its journal (journalctl -u apikeyd)",
			path, anchor_begins);
	if (ret->count)
		qsort(ret->items, ret->count, sizeof(ret->items[0]), anchor_compare);
	free(line);
	if (file != stdin)
		fclose(file);
	return code;
}

void audit_anchors_deinit(struct audit_anchors *anchors)
{
	free(anchors->items);
	memset(anchors, 0, sizeof(*anchors));
}

void audit_anchors_meet(struct audit_anchors *anchors, const char *chain, int64_t batch, const char *head)
{
	struct audit_anchor wanted = {.batch = batch}, *found;
	struct audit_anchor *end = anchors->items + anchors->count;

	if (anchors->count == 0 || strlen(chain) != AUDIT_CHAIN_LEN)
		return;
	memcpy(wanted.chain, chain, AUDIT_CHAIN_LEN);
	found = bsearch(&wanted, anchors->items, anchors->count, sizeof(wanted), anchor_compare);
	/* A daemon that started anew may have written the same one again, and somebody another. */
	while (found && found > anchors->items && anchor_compare(found - 1, &wanted) == 0)
		found--;
	for (; found && found < end && anchor_compare(found, &wanted) == 0; found++) {
		found->met = true;
		found->same = strcmp(found->head, head) == 0;
	}
}
