#include "daemon/stack/word.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "daemon/stack/parse.h"

enum { NEAR_MAX = 48 }; /* bytes of a word that may be near another */

/* The length of the UTF-8 sequence at `text`, with its character; 0: it is none. */
static size_t utf8(const char *text, size_t len, uint32_t *ret)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned char first = (unsigned char)text[0];
	size_t want = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
	uint32_t c;

	if (want == 0 || want > len)
		return 0;
	c = want == 1 ? first : first & (0x7fu >> want);
	for (size_t i = 1; i < want; i++) {
		unsigned char next = (unsigned char)text[i];

		if ((next & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (next & 0x3f);
	}
	if (c < least[want] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*ret = c;
	return want;
}

/* Characters that people do not see, or see elsewhere than they stand. */
static bool unseen(uint32_t c)
{
	return (c >= 0x80 && c < 0xa0) || c == 0xad || c == 0x61c || c == 0x180e || (c >= 0x200b && c <= 0x200f) ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
	       (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe007f);
}

/* Blanks that look like one and part no words. */
static bool odd_blank(uint32_t c)
{
	return c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool word_text_ok(const char *text, size_t len, size_t *ret_at, size_t *ret_len, const char **ret_why)
{
	for (size_t at = 0, step; at < len; at += step) {
		uint32_t c = 0;
		const char *why = NULL;

		step = utf8(text + at, len - at, &c);
		if (step == 0)
			why = "is no UTF-8; a stack file is UTF-8 text";
		else if (c == 0)
			why = "is a NUL byte; a stack file is text";
		else if (c == '\r')
			why = "is a carriage return that ends no line; lines end with a line feed";
		else if ((c < 0x20 && c != '\t') || c == 0x7f)
			why = "is a control character; a stack file is text";
		else if (unseen(c))
			why = "is a character that cannot be seen; leave it out";
		else if (odd_blank(c))
			why = "is a blank that parts no words; write a plain blank";
		if (why) {
			*ret_at = at;
			*ret_len = step ? step : 1;
			*ret_why = why;
			return false;
		}
	}
	return true;
}

const char *word_shown(const char *word, size_t len, char out[WORD_SHOWN_SIZE])
{
	static const char more[] = "...";
	size_t used = 0;

	for (size_t at = 0, step; at < len; at += step) {
		uint32_t c = 0;
		bool plain;

		step = utf8(word + at, len - at, &c);
		plain = step > 0 && c >= 0x20 && c != 0x7f && !unseen(c) && !odd_blank(c);
		if (step == 0)
			step = 1;
		if (used + (plain ? step : 4 * step) + sizeof(more) > WORD_SHOWN_SIZE) {
			memcpy(out + used, more, sizeof(more));
			return out;
		}
		if (plain) {
			memcpy(out + used, word + at, step);
			used += step;
			continue;
		}
		for (size_t i = 0; i < step; i++)
			used += (size_t)snprintf(out + used, 5, "\\x%02x", (unsigned char)word[at + i]);
	}
	out[used] = '\0';
	return out;
}

bool word_is(const char *known, const char *word, size_t len)
{
	return strlen(known) == len && memcmp(known, word, len) == 0;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* How many letters must be changed, put in, left out, or swapped with their neighbour. */
static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	unsigned rows[3][NEAR_MAX + 1];
	unsigned *before = rows[0], *last = rows[1], *now = rows[2];

	for (size_t j = 0; j <= b_len; j++)
		last[j] = (unsigned)j;
	for (size_t i = 1; i <= a_len; i++) {
		unsigned *spare = before;

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= b_len; j++) {
			bool same = lower(a[i - 1]) == lower(b[j - 1]);
			unsigned best = last[j - 1] + !same;

			if (last[j] + 1 < best)
				best = last[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			now[j] = best;
		}
		before = last;
		last = now;
		now = spare;
	}
	return last[b_len];
}

const char *word_nearest(const char *word, size_t len, word_list at, const void *data)
{
	unsigned best = len <= 3 ? 1 : len <= 6 ? 2 : 3;
	const char *nearest = NULL, *known;

	if (len == 0 || len > NEAR_MAX)
		return NULL;
	for (unsigned i = 0; (known = at(data, i)); i++) {
		size_t known_len = strlen(known);
		unsigned off;

		if (known_len > NEAR_MAX)
			continue;
		off = distance(word, len, known, known_len);
		if (off < best || (off == best && !nearest)) {
			best = off;
			nearest = known;
		}
	}
	return nearest;
}

/* ---- faults ---- */

static bool told(const struct stack_faults *faults, const char *line, size_t len)
{
	const char *at = faults->text, *end = faults->text + faults->len;

	while (at < end) {
		const char *feed = memchr(at, '\n', (size_t)(end - at));
		size_t this = feed ? (size_t)(feed - at) : (size_t)(end - at);

		if (this == len && memcmp(at, line, len) == 0)
			return true;
		at += this + 1;
	}
	return false;
}

/* `word` is what stands at the beginning; NULL: whatever stands before a colon there, and has no blank. */
static void tell_parts(const struct stack_faults *faults, const char *path, struct stack_place place, const char *line,
		       const char *word)
{
	size_t size = strlen(line), len = word ? strlen(word) : strcspn(line, " ");

	if (!word)
		len = len > 0 && line[len] == ' ' && line[len - 1] == ':' ? len - 1 : 0;
	/* A line that was cut may have lost the word's end. */
	if (len == 0 || len >= size || strncmp(line + len, ": ", 2) != 0)
		faults->part(faults->data, path, place, line, 0, line);
	else
		faults->part(faults->data, path, place, line, len, line + len + 2);
}

void stack_fault(struct stack_faults *faults, const char *path, struct stack_place place, const char *format, ...)
{
	char line[1024];
	int used;
	size_t len, head;
	va_list args;

	if (place.line > 0)
		used = snprintf(line, sizeof(line), "%s:%u:%u: ", path, place.line, place.column);
	else
		used = snprintf(line, sizeof(line), "%s: ", path);
	head = used < 0 ? 0 : (size_t)used;
	if (head < sizeof(line)) {
		va_start(args, format);
		vsnprintf(line + head, sizeof(line) - head, format, args);
		va_end(args);
	}
	len = strlen(line);
	/* One fault is one line, whatever a module's own words or a path hold. */
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	}
	if (told(faults, line, len))
		return;
	faults->count++;
	if (faults->part && head <= len) {
		va_start(args, format);
		tell_parts(faults, path, place, line + head,
			   strncmp(format, "%s: ", 4) == 0 ? va_arg(args, char *) : NULL);
		va_end(args);
	}
	if (faults->size - faults->len < len + 2) /* the line, its end, the terminator */
		return;
	memcpy(faults->text + faults->len, line, len);
	faults->len += len;
	faults->text[faults->len++] = '\n';
	faults->text[faults->len] = '\0';
}
