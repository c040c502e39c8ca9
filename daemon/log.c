#include "daemon/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log_journal.h"

enum {
	TEXT_MAX = 2048,  /* of a message */
	LINE_SIZE = 4096, /* of a line with its fields: what a pipe takes in one piece */
};

static const struct {
	const char *word;
	int syslog; /* what systemd's <N> prefix says, and PRIORITY= */
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", 3},
	[LOG_LEVEL_WARNING] = {"warning", 4},
	[LOG_LEVEL_INFO] = {"info", 6},
	[LOG_LEVEL_DEBUG] = {"debug", 7},
};

static const struct {
	const char *word, *field;
} names[] = {
	[LOG_KEY_ID] = {"key_id", "APIKEYD_KEY_ID"},
	[LOG_VERDICT] = {"verdict", "APIKEYD_VERDICT"},
	[LOG_REASON] = {"reason", "APIKEYD_REASON"},
	[LOG_CALLER_UID] = {"caller_uid", "APIKEYD_CALLER_UID"},
	[LOG_CALLER_PID] = {"caller_pid", "APIKEYD_CALLER_PID"},
	[LOG_METHOD] = {"method", "APIKEYD_METHOD"},
	[LOG_STACK] = {"stack", "APIKEYD_STACK"},
	[LOG_MODULE] = {"module", "APIKEYD_MODULE"},
	[LOG_SCOPE] = {"scope", "APIKEYD_SCOPE"},
	[LOG_PAGE] = {"page", "APIKEYD_PAGE"},
	[LOG_ORG] = {"org", "APIKEYD_ORG"},
	[LOG_USER] = {"user", "APIKEYD_USER"},
	[LOG_ADDR] = {"addr", "APIKEYD_ADDR"},
	[LOG_REV] = {"rev", "APIKEYD_REV"},
	[LOG_CHAIN] = {"chain", "APIKEYD_CHAIN"},
	[LOG_BATCH] = {"batch", "APIKEYD_BATCH"},
	[LOG_HEAD] = {"head", "APIKEYD_HEAD"},
	[LOG_LOST] = {"lost", "APIKEYD_LOST"},
};

/* Atomic, since the load logs from a thread of its own. */
static _Atomic int threshold = LOG_LEVEL_INFO;
static _Atomic int journal_found = -1; /* whether stderr is the journal; -1: nobody has looked yet */
static struct {
	_Atomic uint64_t lines[LOG_LEVELS], entries, entries_failed;
} counters;

void log_set_level(enum log_level level)
{
	threshold = (int)level;
}

const char *log_level_word(enum log_level level)
{
	return levels[level].word;
}

void log_count(struct log_counters *ret)
{
	for (unsigned i = 0; i < LOG_LEVELS; i++)
		ret->lines[i] = counters.lines[i];
	ret->entries = counters.entries;
	ret->entries_failed = counters.entries_failed;
}

/* ---- where to ---- */

/* systemd names device and inode of the stream that it gave us: stderr may have been redirected since. */
static bool find_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2 || fstat(STDERR_FILENO, &st) != 0)
		return false;
	return (unsigned long long)st.st_dev == device && (unsigned long long)st.st_ino == inode;
}

static bool is_journal(void)
{
	if (journal_found < 0)
		journal_found = find_journal();
	return journal_found;
}

void log_open(const char *journal)
{
	int rc = 0;

	journal_found = find_journal();
	if (journal_found)
		rc = log_journal_open(journal);
	if (rc != 0)
		log_warning("lines about a key or a caller have no fields in the journal: %s: %s", journal,
			    strerror(-rc));
}

/* ---- text ---- */

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

/* A value that could be taken for something else stands in quotes; no byte of it can end them. */
static size_t quote(const char *text, size_t len, char *out, size_t size)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:/@*+-";
	static const char digits[] = "0123456789abcdef";
	size_t n = 0, i = 0;

	while (i < len && text[i] && strchr(plain, text[i]))
		i++;
	if (i == len && len > 0 && len < size) {
		memcpy(out, text, len);
		return len;
	}
	if (size < 3)
		return 0;
	out[n++] = '"';
	for (i = 0; i < len && n + 5 < size; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '"' || c == '\\') {
			out[n++] = '\\';
			out[n++] = (char)c;
		} else if (c >= 0x20 && c < 0x7f) {
			out[n++] = (char)c;
		} else {
			out[n++] = '\\';
			out[n++] = 'x';
			out[n++] = digits[c >> 4];
			out[n++] = digits[c & 15];
		}
	}
	out[n++] = '"';
	return n;
}

static size_t value_len(const struct log_field *field)
{
	return field->len < LOG_VALUE_MAX ? field->len : LOG_VALUE_MAX;
}

/* " name=value" for each field that finds room as a whole. Returns the length. */
static size_t put_fields(const struct log_field *fields, unsigned count, char *out, size_t size)
{
	size_t n = 0;

	for (unsigned i = 0; i < count; i++) {
		char value[4 * LOG_VALUE_MAX + 8], text[sizeof(value) + 32];
		size_t len;

		if (fields[i].text)
			len = quote(fields[i].text, value_len(&fields[i]), value, sizeof(value));
		else
			len = (size_t)snprintf(value, sizeof(value), "%llu", (unsigned long long)fields[i].number);
		len = (size_t)snprintf(text, sizeof(text), " %s=%.*s", names[fields[i].name].word, (int)len, value);
		if (len >= size - n)
			continue;
		memcpy(out + n, text, len);
		n += len;
	}
	return n;
}

/* ---- lines and entries ---- */

/* One write, so that lines of several processes on one stream never mix. Nowhere to complain to. */
static void write_line(enum log_level level, const char *message, size_t len)
{
	char line[LINE_SIZE];
	size_t n;

	if (is_journal())
		n = (size_t)snprintf(line, sizeof(line), "<%d>", levels[level].syslog);
	else
		n = (size_t)snprintf(line, sizeof(line), "%s: ", levels[level].word);
	if (len > sizeof(line) - n - 1)
		len = sizeof(line) - n - 1;
	memcpy(line + n, message, len);
	n += len;
	line[n++] = '\n';
	while (write(STDERR_FILENO, line, n) < 0 && errno == EINTR) {
	}
}

/*
 * An entry of its own in the journal. Lines without fields go by stderr there, too: the journal knows of that stream
 * whose it is, and of a datagram only as long as its sender lives, so that the last words of a daemon that cannot start
 * would belong to no unit.
 */
static bool write_entry(enum log_level level, const struct log_field *fields, unsigned count, const char *message,
			size_t len)
{
	struct log_entry entry;

	entry.len = 0;
	entry.full = false;
	log_entry_add(&entry, "MESSAGE", message, len);
	log_entry_add_number(&entry, "PRIORITY", (uint64_t)levels[level].syslog);
	log_entry_add(&entry, "SYSLOG_IDENTIFIER", "apikeyd", strlen("apikeyd"));
	for (unsigned i = 0; i < count; i++) {
		if (fields[i].text)
			log_entry_add(&entry, names[fields[i].name].field, fields[i].text, value_len(&fields[i]));
		else
			log_entry_add_number(&entry, names[fields[i].name].field, fields[i].number);
	}
	counters.entries++;
	if (log_journal_send(&entry) == 0)
		return true;
	counters.entries_failed++;
	return false;
}

/* `behind`: the fields are written behind the message. */
__attribute__((format(printf, 5, 0))) static void put(enum log_level level, const struct log_field *fields,
						      unsigned count, bool behind, const char *format, va_list args)
{
	char text[TEXT_MAX], message[LINE_SIZE - 16];
	int saved = errno, len;
	size_t n;

	if ((unsigned)level > LOG_LEVEL_DEBUG || (int)level > threshold)
		return;
	len = vsnprintf(text, sizeof(text), format, args);
	if (len < 0)
		len = 0;
	if ((size_t)len >= sizeof(text))
		len = (int)sizeof(text) - 1;
	n = log_escape(text, (size_t)len, message, TEXT_MAX);
	if (behind)
		n += put_fields(fields, count, message + n, sizeof(message) - n);
	counters.lines[level]++;
	if (count == 0 || !is_journal() || !write_entry(level, fields, count, message, n))
		write_line(level, message, n);
	errno = saved;
}

void log_write(enum log_level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	put(level, NULL, 0, false, format, args);
	va_end(args);
}

void log_about(enum log_level level, const struct log_field *fields, unsigned count, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	put(level, fields, count, true, format, args);
	va_end(args);
}

void log_said(enum log_level level, const struct log_field *fields, unsigned count, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	put(level, fields, count, false, format, args);
	va_end(args);
}

struct log_field log_text(enum log_name name, const char *text)
{
	return (struct log_field){.name = name, .text = text ? text : "", .len = text ? strlen(text) : 0};
}

struct log_field log_number(enum log_name name, uint64_t number)
{
	return (struct log_field){.name = name, .number = number};
}
