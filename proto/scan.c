#include "proto/scan.h"

#include <stdbool.h>
#include <string.h>

/* What a first byte says about its value. */
struct lead {
	uint8_t fixed;	 /* bytes of the value that are there in any case: first byte, length, fixed
			    body */
	uint8_t counted; /* how many of them are a length, right after the first byte; 0: none */
	uint8_t each;	 /* the length counts: 0 bytes, 1 items of an array, 2 fields of a map */
};

static inline struct lead read_lead(uint8_t first)
{
	/* 0xc0 to 0xdf, in the order of the specification */
	static const struct lead table[32] = {
		{1, 0, 0}, {0, 0, 0}, {1, 0, 0}, {1, 0, 0},		 /* nil, never used, false, true */
		{2, 1, 0}, {3, 2, 0}, {5, 4, 0},			 /* bin 8, 16, 32 */
		{3, 1, 0}, {4, 2, 0}, {6, 4, 0},			 /* ext 8, 16, 32: a type byte after it */
		{5, 0, 0}, {9, 0, 0},					 /* float 32, 64 */
		{2, 0, 0}, {3, 0, 0}, {5, 0, 0}, {9, 0, 0},		 /* uint 8, 16, 32, 64 */
		{2, 0, 0}, {3, 0, 0}, {5, 0, 0}, {9, 0, 0},		 /* int 8, 16, 32, 64 */
		{3, 0, 0}, {4, 0, 0}, {6, 0, 0}, {10, 0, 0}, {18, 0, 0}, /* fixext 1, 2, 4, 8, 16 */
		{2, 1, 0}, {3, 2, 0}, {5, 4, 0},			 /* str 8, 16, 32 */
		{3, 2, 1}, {5, 4, 1},					 /* array 16, 32 */
		{3, 2, 2}, {5, 4, 2},					 /* map 16, 32 */
	};

	if (first >= 0xc0 && first <= 0xdf)
		return table[first - 0xc0];
	if (first >= 0xa0 && first <= 0xbf) /* fixstr */
		return (struct lead){(uint8_t)(1 + (first & 0x1f)), 0, 0};
	if (first >= 0x90 && first <= 0x9f) /* fixarray */
		return (struct lead){1, 0, 1};
	if (first >= 0x80 && first <= 0x8f) /* fixmap */
		return (struct lead){1, 0, 2};
	return (struct lead){1, 0, 0}; /* fixint */
}

static inline uint64_t read_count(const uint8_t *p, struct lead lead)
{
	switch (lead.counted) {
	case 1:
		return p[1];
	case 2:
		return (uint64_t)p[1] << 8 | p[2];
	case 4:
		return (uint64_t)p[1] << 24 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 8 | p[4];
	default:
		return p[0] & 0x0f; /* fixarray, fixmap */
	}
}

/* `scan` stands at an array or map whose first bytes are there. */
static enum scan_result open_container(struct scan *scan, uint64_t count, uint32_t depth_max)
{
	if (scan->depth >= depth_max || scan->depth >= SCAN_DEPTH_MAX)
		return SCAN_TOO_DEEP;
	scan->left[scan->depth++] = count;
	scan->open += count;
	return SCAN_MESSAGE;
}

static inline bool starts_array(uint8_t first)
{
	return (first >= 0x90 && first <= 0x9f) || first == 0xdc || first == 0xdd;
}

/*
 * One value, or the beginning of one. SCAN_MESSAGE here: the value (of a container its head) was
 * walked. Every value that is still to come takes a byte at least, so `open` says what a message
 * must still bring.
 */
static inline enum scan_result walk_value(struct scan *scan, const uint8_t *data, size_t len,
					  const struct scan_limits *limits)
{
	const uint8_t *p = data + scan->position;
	size_t there = len - scan->position;
	size_t room = limits->message_max - scan->position; /* what is walked never passes message_max */
	struct lead lead = read_lead(*p);
	uint64_t count = 0, bytes;
	uint64_t others = scan->open - 1;

	if (lead.fixed == 0)
		return SCAN_INVALID;
	if (lead.fixed + others > room)
		return SCAN_TOO_LONG;
	if (there < 1u + lead.counted)
		return SCAN_MORE;
	if (lead.each || lead.counted)
		count = read_count(p, lead);
	if (lead.each) {
		enum scan_result result;

		scan->left[scan->depth - 1]--;
		scan->open--;
		result = open_container(scan, count * lead.each, limits->depth_max);
		if (result)
			return result;
		if (lead.fixed + scan->open > room)
			return SCAN_TOO_LONG;
		scan->position += lead.fixed;
		return SCAN_MESSAGE;
	}
	bytes = lead.fixed + count;
	if (bytes + others > room)
		return SCAN_TOO_LONG;
	if (bytes > there)
		return SCAN_MORE;
	scan->position += (size_t)bytes;
	scan->left[scan->depth - 1]--;
	scan->open--;
	return SCAN_MESSAGE;
}

/* The outermost array's head. */
static enum scan_result walk_first(struct scan *scan, const uint8_t *data, size_t len, const struct scan_limits *limits)
{
	struct lead lead;
	enum scan_result result;

	if (limits->message_max == 0)
		return SCAN_TOO_LONG;
	if (len == 0)
		return SCAN_MORE;
	if (!starts_array(data[0]))
		return SCAN_INVALID;
	lead = read_lead(data[0]);
	if (lead.fixed > limits->message_max)
		return SCAN_TOO_LONG;
	if (len < lead.fixed)
		return SCAN_MORE;
	result = open_container(scan, read_count(data, lead), limits->depth_max);
	if (result)
		return result;
	if (scan->open > limits->message_max - lead.fixed)
		return SCAN_TOO_LONG;
	scan->position = lead.fixed;
	return SCAN_MESSAGE;
}

static enum scan_result walk(struct scan *scan, const uint8_t *data, size_t len, const struct scan_limits *limits)
{
	enum scan_result result = SCAN_MESSAGE;

	if (scan->position > limits->message_max) /* a limit that shrank meanwhile */
		return SCAN_TOO_LONG;
	if (scan->position == 0)
		result = walk_first(scan, data, len, limits);
	while (result == SCAN_MESSAGE && scan->open > 0) {
		while (scan->left[scan->depth - 1] == 0)
			scan->depth--;
		if (scan->position >= len)
			return SCAN_MORE;
		result = walk_value(scan, data, len, limits);
	}
	return result;
}

enum scan_result scan_message(const uint8_t *data, size_t len, const struct scan_limits *limits, size_t *ret_size)
{
	struct scan scan = {0};
	enum scan_result result = walk(&scan, data, len, limits);

	if (result == SCAN_MESSAGE)
		*ret_size = scan.position;
	return result;
}

enum scan_result scan_resume(struct scan *scan, const uint8_t *data, size_t len, const struct scan_limits *limits,
			     size_t *ret_size)
{
	enum scan_result result = walk(scan, data, len, limits);

	if (result == SCAN_MESSAGE)
		*ret_size = scan->position;
	if (result != SCAN_MORE)
		memset(scan, 0, sizeof(*scan));
	return result;
}

const char *scan_error(enum scan_result result)
{
	switch (result) {
	case SCAN_MESSAGE:
		return "a whole message";
	case SCAN_MORE:
		return "message not complete";
	case SCAN_TOO_LONG:
		return "message longer than the limit";
	case SCAN_TOO_DEEP:
		return "message nested deeper than the limit";
	case SCAN_INVALID:
		break;
	}
	return "not a MessagePack array";
}
