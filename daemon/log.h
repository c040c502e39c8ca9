/*
 * Log lines to stderr: "<level>: message", with systemd's "<N>" prefix instead of the word where stderr is the
 * journal (JOURNAL_STREAM). One line an event, written by one write. Levels as in the configuration.
 *
 * Who calls it: everything in daemon/ but the pure parts (rule, mirror/, later stack/), which never log.
 * Always holds: no key, secret, pepper or password reaches a line; the key_id may. Text from outside is written with
 * control characters escaped.
 */
#ifndef APIKEYD_DAEMON_LOG_H
#define APIKEYD_DAEMON_LOG_H

#include <stddef.h>

enum log_level { LOG_LEVEL_ERROR = 0, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_set_level(enum log_level level);

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

#endif
