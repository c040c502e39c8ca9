#include "client/apikeyctl/ctl.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static void ctl_line(FILE *stream, const char *prefix, const char *format, va_list list)
	__attribute__((format(printf, 3, 0)));

/* Names come from a database that others write to: none of them may move the cursor or colour the terminal. */
static void ctl_line(FILE *stream, const char *prefix, const char *format, va_list list)
{
	char *text = NULL;

	if (vasprintf(&text, format, list) < 0)
		return;
	for (char *c = text; *c; c++) {
		if (iscntrl((unsigned char)*c))
			*c = *c == '\n' ? ' ' : '?';
	}
	fprintf(stream, "%s%s\n", prefix, text);
	free(text);
}

int ctl_say(const struct ctl *ctl, enum ctl_exit code, const char *format, ...)
{
	va_list list;

	fflush(ctl->out); /* what was printed so far stands before the error when both go to one file */
	va_start(list, format);
	ctl_line(ctl->err, "apikeyctl: ", format, list);
	va_end(list);
	return (int)code;
}

void ctl_note(const struct ctl *ctl, const char *format, ...)
{
	va_list list;

	if (ctl->quiet)
		return;
	va_start(list, format);
	ctl_line(ctl->err, "", format, list);
	va_end(list);
}

void ctl_print(const struct ctl *ctl, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	ctl_line(ctl->out, "", format, list);
	va_end(list);
}

int ctl_no_memory(const struct ctl *ctl)
{
	return ctl_say(ctl, CTL_UNAVAILABLE, "out of memory");
}

/* The question with `what` in it, by hand: it is no constant format. */
static void ctl_ask(const struct ctl *ctl, const char *question, const char *what)
{
	const char *place = strstr(question, "%s");

	if (place)
		fprintf(ctl->err, "%.*s%s%s [y/N] ", (int)(place - question), question, what, place + 2);
	else
		fprintf(ctl->err, "%s [y/N] ", question);
	fflush(ctl->err);
}

int ctl_confirm(const struct ctl *ctl, const char *question, const char *what)
{
	char answer[16] = "";

	if (ctl->yes)
		return CTL_DONE;
	if (!ctl->in_terminal || !ctl->err_terminal)
		return ctl_say(ctl, CTL_USAGE,
			       "there is no terminal to ask on, and this cannot be undone: give --yes to do it");
	ctl_ask(ctl, question, what);
	if (!fgets(answer, sizeof(answer), stdin)) {
		fputc('\n', ctl->err);
		return ctl_say(ctl, CTL_REFUSED, "nothing was changed");
	}
	answer[strcspn(answer, "\r\n")] = '\0';
	if (strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0)
		return CTL_DONE;
	return ctl_say(ctl, CTL_REFUSED, "nothing was changed");
}
