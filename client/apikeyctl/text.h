/*
 * Reading what people type: durations, times, rates, numbers, and telling a key when one stands where it must not.
 * Pure: no clock but the one given. All readers return false and leave *ret untouched for what they do not understand.
 */
#ifndef APIKEYCTL_TEXT_H
#define APIKEYCTL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "250ms" "5s" "2m" "1h30m" "30d" "2w"; a bare number is seconds. Zero is right. */
bool text_duration(const char *text, uint64_t *ret_ms);

/*
 * A moment: RFC 3339 with its zone ("2026-12-31T23:59:00Z"), a day ("2026-12-31", its first moment in UTC), "now", or
 * from now on ("+30d"). `now` and *ret are seconds since 1970 UTC; fractions of a second are dropped.
 */
bool text_when(const char *text, int64_t now, int64_t *ret);

/* COUNT/PERIOD: "100/1m", "5/s", "1000/24h". The period is whole seconds. */
bool text_rate(const char *text, uint32_t *ret_count, uint32_t *ret_period_s);

/* Decimal digits and nothing else, at most `max`. */
bool text_number(const char *text, uint64_t max, uint64_t *ret);

/* Seconds since 1970 as RFC 3339 in UTC; `out` takes TEXT_WHEN_SIZE bytes. */
enum { TEXT_WHEN_SIZE = 32 };
void text_format_when(int64_t when, char out[TEXT_WHEN_SIZE]);

/*
 * Whether something in `text` has the look of a key of any brand, whole or cut short: such text must not stand on a
 * command line, and is not repeated in messages.
 */
bool text_looks_like_key(const char *text);

#endif
