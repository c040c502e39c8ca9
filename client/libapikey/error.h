/*
 * One line of text about the last failure, for each thread: what apikey_error() shows.
 *
 * Owns a thread-local line. Whoever finds a failure sets it, once, where the details are known; the
 * functions above hand the errno on. Always holds: the line never has key material in it, and never
 * a newline.
 */
#ifndef APIKEY_LIBAPIKEY_ERROR_H
#define APIKEY_LIBAPIKEY_ERROR_H

enum { ERROR_TEXT_MAX = 320 };

/* Sets this thread's line and returns `err` (a negative errno), so that `return error_set(...)`
 * reads well. */
int error_set(int err, const char *format, ...) __attribute__((format(printf, 2, 3)));
void error_clear(void);
/* Terminated, "" after error_clear; good until this thread's next error_set or error_clear. */
const char *error_text(void);

#endif
