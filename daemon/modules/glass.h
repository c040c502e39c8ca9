/*
 * Break-glass keys as they stand in their file: from its text to the keys, and from a key's facts to its line. Pure.
 *
 *     <key_id> <pepper's version>:<64 hex digits> <organization> <page,page,...> <scope,scope,...> <end>
 *
 * Words are parted by blanks or tabs; '#' where a word could begin starts a comment. The hex digits are the keyed hash
 * of the key's text; the end is RFC 3339 with Z or an offset. Scopes are names, and none of member:, apikey:, org:.
 *
 * Owns the keys and a copy of the text. Who calls it: modules/file.c, admin/break_glass.c, the fuzz target.
 * Always holds: a file with any fault gives no keys at all; an error names file, line, field and what would be right,
 * shows the value only where it can be neither a key nor a hash, and is one line.
 */
#ifndef APIKEYD_DAEMON_MODULES_GLASS_H
#define APIKEYD_DAEMON_MODULES_GLASS_H

#include "daemon/apikeyd-module.h"

enum {
	GLASS_FILE_MAX = 1 << 20, /* bytes */
	GLASS_KEYS_MAX = 1024,
	GLASS_ID_LEN = 10,
	GLASS_SLUG_MAX = 63,
	GLASS_SCOPE_MAX = 64,
	GLASS_HOURS_MAX = 24, /* how far away an end may be */
	GLASS_TIME_SIZE = 32,
};

struct glass_key {
	char key_id[GLASS_ID_LEN + 1];
	uint16_t pepper;
	uint8_t hash[APIKEYD_HASH_LEN];
	struct apikeyd_text organization;
	const struct apikeyd_text *pages, *scopes;
	uint32_t page_count, scope_count; /* 1 to APIKEYD_NARROWING_MAX */
	int64_t end_us;			  /* microseconds since 1970 UTC; more than 0 */
	uint32_t line;			  /* where it stands, from 1 */
};

struct glass;

/* 0 with *ret; or with one line in `error`, which begins with `path`: -EINVAL, or -ENOMEM. */
int glass_parse(const char *path, const char *text, size_t len, uint32_t keys_max, struct glass **ret, char *error,
		size_t error_size);
void glass_free(struct glass *glass); /* wipes; NULL is fine */

/* The i-th key in the order of the file, i from 0; NULL past the end. */
const struct glass_key *glass_at(const struct glass *glass, uint32_t i);
/* NULL: it is not there. */
const struct glass_key *glass_find(const struct glass *glass, struct apikeyd_text key_id);
/* The first key whose end is farther away than it may be; NULL: there is none. */
const struct glass_key *glass_too_far(const struct glass *glass, int64_t now_us);

/*
 * The line of a key, terminated, without a line end. `pages` and `scopes` are comma-separated, as they stand in it.
 * Returns its length, or 0 where `size` is too little; whoever makes one reads it back by glass_parse.
 */
size_t glass_line(const char *key_id, uint16_t pepper, const uint8_t hash[APIKEYD_HASH_LEN], const char *organization,
		  const char *pages, const char *scopes, int64_t end_us, char *out, size_t size);

/* NULL where a break-glass key may have this scope; else what would be right. */
const char *glass_scope_fault(const char *text, size_t len);

/* RFC 3339. The first is false for what is none, or is before 1970. The second cuts off parts of a second. */
bool glass_time_parse(const char *text, size_t len, int64_t *ret_us);
void glass_time_format(int64_t us, char out[GLASS_TIME_SIZE]);

#endif
