/*
 * The log: lines to stderr, "<level>: message", with systemd's "<N>" prefix instead of the word where stderr is the
 * journal (JOURNAL_STREAM). One line an event, written by one write. Levels as in the configuration. Where stderr is the
 * journal, a line about something that has a name (a key, a caller) goes there as an entry with fields instead, so that it
 * can be looked for; where that fails it is a line all the same, and counted.
 *
 * Who calls it: everything in daemon/ but the pure parts (rule, mirror/, later stack/), which never log. From any thread.
 * Always holds: no key, secret, pepper or password reaches a line or a field; the key_id may. Text from outside is written
 * with control characters escaped, and stays within its field.
 */
#ifndef APIKEYD_DAEMON_LOG_H
#define APIKEYD_DAEMON_LOG_H

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR = 0, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVELS };

void log_set_level(enum log_level level);
/*
 * Connects to the journal at this path, where stderr is the journal. By main(), once, before other threads are there and
 * before the daemon confines itself. Without it, and without a journal, fields are written behind the message alone.
 */
void log_open(const char *journal);

__attribute__((format(printf, 2, 3))) void log_write(enum log_level level, const char *format, ...);

/*
 * Writes `len` bytes of text with control characters as \xNN to `out`, `size` bytes, terminated and cut off where
 * that is too short. Returns the length. For the few lines that are not the log's, such as a configuration's errors.
 */
size_t log_escape(const char *text, size_t len, char *out, size_t size);

#define log_error(...)	 log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)	 log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* ---- what a line is about ---- */

/* Fields of the journal by the name APIKEYD_KEY_ID and so on; elsewhere `key_id=…`. */
enum log_name {
	LOG_KEY_ID = 0,
	LOG_VERDICT,
	LOG_REASON,
	LOG_CALLER_UID,
	LOG_CALLER_PID,
	LOG_METHOD,
	LOG_STACK,
	LOG_MODULE,
	LOG_SCOPE,
	LOG_PAGE,
	LOG_ORG,
	LOG_USER,
	LOG_ADDR,
	LOG_REV,
	LOG_CHAIN,
	LOG_BATCH,
	LOG_HEAD,
	LOG_LOST,
	LOG_NAMES
};

enum { LOG_VALUE_MAX = 512 /* bytes of a value; what is longer is cut */ };

struct log_field {
	enum log_name name;
	const char *text; /* NULL: `number` it is. Need not be terminated, may hold anything */
	size_t len;
	uint64_t number;
};

struct log_field log_text(enum log_name name, const char *text); /* terminated; NULL: an empty one */
struct log_field log_number(enum log_name name, uint64_t number);

/* A line with `count` fields behind the message, as `name=value`. */
__attribute__((format(printf, 4, 5))) void log_about(enum log_level level, const struct log_field *fields,
						     unsigned count, const char *format, ...);
/* The same of a message that says them in its own words: fields of the journal alone. */
__attribute__((format(printf, 4, 5))) void log_said(enum log_level level, const struct log_field *fields,
						    unsigned count, const char *format, ...);

/* Who asks: fields and their number. */
#define LOG_CALLER(uid, pid)                                                                                           \
	(const struct log_field[]){log_number(LOG_CALLER_UID, (uid)), log_number(LOG_CALLER_PID, (uint64_t)(pid))}, 2

/* ---- counters ---- */

struct log_counters {
	uint64_t lines[LOG_LEVELS]; /* by level; those that the level of the configuration keeps back are not counted */
	uint64_t entries;	    /* of these, as entries of the journal */
	uint64_t entries_failed;    /* of these, that the journal would not take: lines without fields */
};

const char *log_level_word(enum log_level level);
void log_count(struct log_counters *ret);

#endif
