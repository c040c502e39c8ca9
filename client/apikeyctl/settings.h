/*
 * The settings of a daemon, as `apikeyd --print` says that they are in effect; or, where there is no apikeyd, the
 * fallbacks that whoever asks names.
 *
 * Owns the text. Pure. Who calls it: doctor and setup.
 */
#ifndef APIKEYCTL_SETTINGS_H
#define APIKEYCTL_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct settings {
	struct setting {
		char *section, *name, *value;
	} * items;
	size_t count;
};

/* Reads `text`, in the form of apikeyd.conf. False without memory; call settings_deinit in any case. */
bool settings_read(struct settings *settings, const char *text);
void settings_deinit(struct settings *settings);

/* The value, or `fallback` where there is none. */
const char *settings_get(const struct settings *settings, const char *section, const char *name, const char *fallback);
/* The same as a number; times in milliseconds. */
uint64_t settings_number(const struct settings *settings, const char *section, const char *name, uint64_t fallback);
/* The n-th section that is `socket` or `socket NAME`, from 0; NULL behind the last. Without settings there is `socket`. */
const char *settings_socket(const struct settings *settings, size_t n);

#endif
