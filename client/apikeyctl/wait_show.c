/* How far a wait is, for people. */
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>

#include "client/apikeyctl/wait.h"

enum {
	WAIT_ROWS_MAX = 16, /* shown at once */
	WAIT_LINE_SIZE = 200,
	WAIT_SAY_MS = 3000, /* between two lines that are not written over */
	WAIT_WIDTH = 80,
};

void wait_show_row(const struct value *row, char *out, size_t size)
{
	const char *what = value_as_text(value_get(row, "what"), "");
	int64_t ms = value_as_int(value_get(row, "left_ms"), 0);
	uint64_t rev = value_as_uint(value_get(row, "applied_rev"), 0);
	const char *done = value_as_bool(value_get(row, "done"), false) ? "applied" : NULL;
	char left[40];
	int len;

	snprintf(left, sizeof(left), "at most %" PRId64 ".%" PRId64 "s", ms / 1000, ms % 1000 / 100);
	if (strcmp(what, "revision") == 0) {
		snprintf(out, size, "the revision%s: the database is at %" PRIu64,
			 done ? "" : " has not committed there, or was lost", rev);
	} else if (strcmp(what, "timeline") == 0) {
		snprintf(out, size, "a promotion or a restore, which may have lost registrations: %s", left);
	} else {
		len = snprintf(out, size, "%.100s pid %" PRId64 ": ", value_as_text(value_get(row, "host"), "?"),
			       value_as_int(value_get(row, "pid"), 0));
		out += len;
		size -= (size_t)len;
		if (done)
			snprintf(out, size, "%s", done);
		else if (rev)
			snprintf(out, size, "at revision %" PRIu64 ", %s", rev, left);
		else
			snprintf(out, size, "loading, %s", left);
	}
}

static void wait_line(struct wait_show *show, const char *indent, const char *text)
{
	struct winsize window;
	int width = WAIT_WIDTH;

	/* A line that the terminal breaks could not be written over. */
	if (ioctl(fileno(show->ctl->err), TIOCGWINSZ, &window) == 0 && window.ws_col > 10)
		width = window.ws_col;
	width -= 1 + (int)strlen(indent);
	fprintf(show->ctl->err, "\033[K%s", indent);
	for (int i = 0; text[i] && i < width; i++)
		fputc((unsigned char)text[i] < ' ' ? '?' : text[i], show->ctl->err);
	fputc('\n', show->ctl->err);
	show->lines++;
}

static void wait_again(struct wait_show *show)
{
	if (show->lines)
		fprintf(show->ctl->err, "\033[%uA", show->lines);
	show->lines = 0;
}

/* That the revision has committed is no news while daemons are waited for. */
static bool wait_is_news(const struct value *row)
{
	return !value_as_bool(value_get(row, "done"), false) ||
	       strcmp(value_as_text(value_get(row, "what"), ""), "revision") != 0;
}

static void wait_live(struct wait_show *show, const struct value *rows, const char *why)
{
	unsigned before = show->lines, shown = 0;
	char line[WAIT_LINE_SIZE];

	wait_again(show);
	snprintf(line, sizeof(line), "waiting for revision %" PRIu64, show->rev);
	wait_line(show, "", line);
	if (!rows)
		wait_line(show, "  ", why);
	for (uint32_t i = 0; rows && i < rows->count; i++) {
		if (wait_is_news(&rows->items[i]) && ++shown <= WAIT_ROWS_MAX) {
			wait_show_row(&rows->items[i], line, sizeof(line));
			wait_line(show, "  ", line);
		}
	}
	if (shown > WAIT_ROWS_MAX) {
		snprintf(line, sizeof(line), "... and %u more", shown - WAIT_ROWS_MAX);
		wait_line(show, "  ", line);
	}
	/* What stood below is gone. */
	if (show->lines < before)
		fputs("\033[J", show->ctl->err);
	fflush(show->ctl->err);
}

static void wait_say(const struct wait_show *show, const struct value *rows, const char *why)
{
	char line[WAIT_LINE_SIZE], all[4 * WAIT_LINE_SIZE];
	size_t len = 0;
	uint32_t more = 0;

	all[0] = '\0';
	for (uint32_t i = 0; rows && i < rows->count; i++) {
		if (value_as_bool(value_get(&rows->items[i], "done"), false))
			continue;
		wait_show_row(&rows->items[i], line, sizeof(line));
		if (len + strlen(line) + 2 < sizeof(all))
			len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", len ? "; " : "", line);
		else
			more++;
	}
	if (more)
		ctl_note(show->ctl, "waiting for revision %" PRIu64 ": %s; and %" PRIu32 " more", show->rev, all, more);
	else
		ctl_note(show->ctl, "waiting for revision %" PRIu64 ": %s", show->rev, rows ? all : why);
}

void wait_show(struct wait_show *show, int64_t now_ms, const struct value *rows, const char *why)
{
	if (show->ctl->quiet)
		return;
	if (show->ctl->err_terminal) {
		wait_live(show, rows, why);
	} else if (show->said_at == 0) {
		show->said_at = now_ms; /* what is over at once is not worth a line */
	} else if (now_ms - show->said_at >= WAIT_SAY_MS) {
		show->said_at = now_ms;
		wait_say(show, rows, why);
		fflush(show->ctl->err);
	}
}

void wait_show_end(struct wait_show *show)
{
	if (!show->lines)
		return;
	wait_again(show);
	fputs("\033[J", show->ctl->err);
}
