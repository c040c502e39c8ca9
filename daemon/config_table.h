/*
 * The table of settings: what drives reading, checking, printing, the sample file and the manual page's list.
 * Included by config*.c and the tests alone.
 */
#ifndef APIKEYD_DAEMON_CONFIG_TABLE_H
#define APIKEYD_DAEMON_CONFIG_TABLE_H

#include "daemon/config.h"

#include <stddef.h>
#include <string.h>

enum { CONFIG_SETTINGS_MAX = 128 };

enum config_type {
	CONFIG_TEXT = 0, /* anything, also nothing; a long one may go on in lines that begin with white space */
	CONFIG_NAME,	 /* a user or group name, or a number; may be empty */
	CONFIG_NAMES,	 /* several, comma-separated; may be empty */
	CONFIG_PATH,	 /* absolute */
	CONFIG_PLACE,	 /* absolute; may be empty */
	CONFIG_FILE,	 /* absolute, or credential:NAME */
	CONFIG_SOCKET,	 /* absolute, and short enough for a socket's address */
	CONFIG_BRAND,
	CONFIG_STACK, /* a stack's name; may be empty */
	CONFIG_MODE,  /* octal, 0 to 0777 */
	CONFIG_BOOL,  /* yes or no */
	CONFIG_COUNT,
	CONFIG_MS,	/* a number of milliseconds, or with a unit: ms s min h */
	CONFIG_BYTES,	/* a number, or with a unit: k M G (1024) */
	CONFIG_LEVEL,	/* error warning info debug */
	CONFIG_LOSS,	/* keep refuse */
	CONFIG_CONFINE, /* off log enforce require, from the min-th on */
	CONFIG_PATHS,	/* absolute ones, comma-separated; may be empty */
	CONFIG_PORTS,	/* of TCP, comma-separated, or any; may be empty */
	CONFIG_GRACE, /* PATTERN=DURATION, ...; may be empty, may go on as CONFIG_TEXT: read once all of it is there */
};

struct config_setting {
	const char *section, *name;
	enum config_type type;
	size_t offset;	      /* in struct config: char *, uint32_t, bool or an enum, as the type says */
	uint32_t min, max;    /* numbers */
	const char *fallback; /* the default, as it would be written */
	bool at_start;	      /* a change takes effect at the next start */
	const char *help;     /* one line */
};

extern const struct config_setting config_settings[];
extern const unsigned config_setting_count;

/* The n-th distinct section from 0; NULL past the end. */
const char *config_section_at(unsigned n);
/* NULL: there is none. */
const struct config_setting *config_find(const char *section, const char *name);
/* The section or setting whose name is nearest to a misspelt one; NULL: none is near. */
const char *config_nearest_section(const char *section);
const struct config_setting *config_nearest(const char *section, const char *name);

/* Whether it is of [socket], and so of each [socket NAME] too. */
static inline bool config_of_socket(const struct config_setting *setting)
{
	return strcmp(setting->section, "socket") == 0;
}

/* Whether lines that begin with white space go on with its text. */
static inline bool config_goes_on(const struct config_setting *setting)
{
	return setting->type == CONFIG_TEXT || setting->type == CONFIG_GRACE;
}

/* A number of milliseconds, or with a unit: ms s min h. False: it is neither. */
bool config_read_ms(const char *text, uint64_t *ret);

void config_places_free(struct config_places *places); /* NULL is fine */

/* All defaults. NULL without memory. */
struct config *config_new(void);
/* Adds [socket NAME] with the defaults, but for its path, which is empty; there is room. False without memory. */
bool config_add_socket(struct config *config, const char *name);

/* Whether its field is a char * from malloc. */
bool config_is_text(const struct config_setting *setting);

/* In these, `socket` is the check socket whose setting is meant; 0 for [socket] and for all other sections. */

static inline void *config_field(struct config *config, const struct config_setting *setting, unsigned socket)
{
	return (char *)config + setting->offset + socket * sizeof(struct config_socket);
}

/*
 * Reads one value into the configuration (freeing what stood there). 0, -ENOMEM, or -EINVAL with `right` saying what
 * would be right ("must be ...").
 */
int config_set(struct config *config, const struct config_setting *setting, unsigned socket, const char *text,
	       char *right, size_t right_size);
/* The value in the form that config_set reads: in `out` (64 bytes are enough), or the text itself. */
const char *config_get(const struct config *config, const struct config_setting *setting, unsigned socket, char *out,
		       size_t size);

#endif
