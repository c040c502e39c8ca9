/*
 * A neutral tree of values, for the parts of the protocol that are not on the path of a check:
 * administration, `stats`, `hello`, `whoami`. The daemon builds such trees for its answers, clients
 * get them from answers; rpc.c alone turns them into MessagePack and back.
 *
 * Owns: nothing by itself; all nodes and all copied text live in a `struct arena` and go with it.
 * Always holds: a map's keys are strings; the depth is bounded by SCAN_DEPTH_MAX.
 */
#ifndef APIKEYD_PROTO_VALUE_H
#define APIKEYD_PROTO_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Memory that is given back all at once. Zeroed is a valid, empty arena. */
struct arena {
	struct arena_block *blocks;
};

/* Zeroed memory, aligned for any type; NULL when there is none. */
void *arena_alloc(struct arena *arena, size_t size);
/* A terminated copy; NULL when there is no memory. */
char *arena_text(struct arena *arena, const char *text, size_t len);
/* Gives all memory back, wiped first (an arena may hold a minted key); the arena is empty and
 * usable after. */
void arena_clear(struct arena *arena);

enum value_type {
	VALUE_NIL = 0,
	VALUE_BOOL,
	VALUE_INT,  /* int64 */
	VALUE_UINT, /* uint64, only for numbers above INT64_MAX when decoded */
	VALUE_FLOAT,
	VALUE_TEXT, /* UTF-8 or bytes; terminated as well, but may hold NUL */
	VALUE_LIST,
	VALUE_MAP,
};

struct value {
	enum value_type type;
	uint32_t count; /* VALUE_TEXT: bytes; VALUE_LIST: items; VALUE_MAP: fields */
	union {
		bool truth;
		int64_t integer;
		uint64_t unsigned_integer;
		double real;
		const char *text;
		struct value *items;
		struct value_field *fields;
	};
};

struct value_field {
	const char *name; /* terminated */
	struct value value;
};

/*
 * Builders. Each returns false only when memory runs out; the tree is then unusable and the caller
 * answers `overload`. A list or a map is built by adding to its end; `value_add` and `value_set`
 * return the new, nil, item to be filled in, or NULL. Pointers into a list or map are good until
 * the next addition to that same one.
 */
void value_list(struct value *v);
void value_map(struct value *v);
struct value *value_add(struct arena *arena, struct value *list);
struct value *value_set(struct arena *arena, struct value *map, const char *name); /* name is copied */

void value_bool(struct value *v, bool truth);
void value_int(struct value *v, int64_t integer);
void value_uint(struct value *v, uint64_t integer);
void value_borrow(struct value *v, const char *text, size_t len); /* text must outlive the tree, terminated */
bool value_text(struct arena *arena, struct value *v, const char *text, size_t len); /* copied */

/* Who fills `items` or `fields` at once allocates as many as value_add and value_set take for
 * granted at this count. */
size_t value_capacity(uint32_t count);

/* value_set + the builder, for the usual case. text NULL sets nil. */
bool value_set_text(struct arena *arena, struct value *map, const char *name, const char *text);
bool value_set_int(struct arena *arena, struct value *map, const char *name, int64_t integer);
bool value_set_uint(struct arena *arena, struct value *map, const char *name, uint64_t integer);
bool value_set_bool(struct arena *arena, struct value *map, const char *name, bool truth);

/*
 * Readers. value_get finds a field of a map (NULL where `map` is NULL, no map, or lacks the field).
 * The others return the fallback where `v` is NULL or of another type; text is borrowed from the
 * tree.
 */
const struct value *value_get(const struct value *map, const char *name);
const char *value_as_text(const struct value *v, const char *fallback);
int64_t value_as_int(const struct value *v, int64_t fallback);	  /* VALUE_UINT above INT64_MAX: fallback */
uint64_t value_as_uint(const struct value *v, uint64_t fallback); /* negative: fallback */
bool value_as_bool(const struct value *v, bool fallback);

#endif
