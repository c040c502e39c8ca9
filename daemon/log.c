#include "daemon/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 2048 };

static const struct {
	const char *word;
	int syslog; /* what systemd's <N> prefix says */
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", 3},
	[LOG_LEVEL_WARNING] = {"warning", 4},
	[LOG_LEVEL_INFO] = {"info", 6},
	[LOG_LEVEL_DEBUG] = {"debug", 7},
};

/* Atomic, since the load logs from a thread of its own. */
static _Atomic int threshold = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	threshold = (int)level;
}

/* systemd names device and inode of the stream that it gave us: stderr may have been redirected since. */
static bool is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2 || fstat(STDERR_FILENO, &st) != 0)
		return false;
	return (unsigned long long)st.st_dev == device && (unsigned long long)st.st_ino == inode;
}

size_t log_escape(const char *text, size_t len, char *out, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (n + 5 > size)
			break;
		if (c >= 0x20 && c != 0x7f) {
			out[n++] = (char)c;
			continue;
		}
		out[n++] = '\\';
		out[n++] = 'x';
		out[n++] = digits[c >> 4];
		out[n++] = digits[c & 15];
	}
	out[n] = '\0';
	return n;
}

void log_write(enum log_level level, const char *format, ...)
{
	static _Atomic int journal = -1;
	char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES + 64];
	int saved = errno;
	size_t n;
	int len;
	va_list args;

	if ((int)level > threshold || (unsigned)level > LOG_LEVEL_DEBUG)
		return;
	va_start(args, format);
	len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (len < 0)
		len = 0;
	if ((size_t)len >= sizeof(text))
		len = (int)sizeof(text) - 1;
	if (journal < 0)
		journal = is_journal();
	if (journal)
		n = (size_t)snprintf(line, sizeof(line), "<%d>", levels[level].syslog);
	else
		n = (size_t)snprintf(line, sizeof(line), "%s: ", levels[level].word);
	n += log_escape(text, (size_t)len, line + n, sizeof(line) - n - 1);
	line[n++] = '\n';
	/* One write, so that lines of several processes on one stream never mix. Nowhere to complain to. */
	while (write(STDERR_FILENO, line, n) < 0 && errno == EINTR) {
	}
	errno = saved;
}
