#include "client/libapikey/error.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char line[ERROR_TEXT_MAX];

int error_set(int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	/* Some of it may be a daemon's text: whatever that holds, it stays one printable line. */
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = ' ';
	return err;
}

void error_clear(void)
{
	line[0] = '\0';
}

const char *error_text(void)
{
	return line;
}
