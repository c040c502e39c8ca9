/* The words of a line, and the arguments among them. */
#include <string.h>

#include "daemon/stack/parse_internal.h"
#include "daemon/stack/word.h"

/* ---- words ---- */

static bool unclosed(struct parse *p, const char *line, size_t len, size_t at)
{
	char shown[WORD_SHOWN_SIZE];

	if (line[len - 1] == '\\') {
		p->continued = true;
		stack_fault(p->faults, p->path, parse_place(p, (uint32_t)len),
			    "\\: a line is not continued on the next one; write it in one line, however long");
		return false;
	}
	stack_fault(p->faults, p->path, parse_place(p, (uint32_t)at + 1),
		    "%s: has no ] in its line; brackets end there", word_shown(line + at, len - at, shown));
	return false;
}

/* Where the word at `at` ends; 0 for a bracket that does not. */
static size_t word_end(const char *line, size_t len, size_t at)
{
	if (line[at] != '[') {
		while (at < len && !word_is_blank(line[at]))
			at++;
		return at;
	}
	for (at++; at < len && line[at] != ']'; at++) {
		if (line[at] == '\\')
			at++;
	}
	return at < len ? at + 1 : 0;
}

/* `len` is without the blanks at the end. */
bool parse_split(struct parse *p, const char *line, size_t len)
{
	char shown[WORD_SHOWN_SIZE];

	p->word_count = 0;
	for (size_t at = 0, end; at < len; at = end) {
		struct parse_word *word = &p->words[p->word_count];

		if (word_is_blank(line[at])) {
			end = at + 1;
			continue;
		}
		if (line[at] == '#')
			return true;
		if (p->word_count == PARSE_WORDS_MAX) {
			stack_fault(p->faults, p->path, parse_place(p, (uint32_t)at + 1),
				    "%s: is one word too many; a module takes at most %d arguments",
				    word_shown(line + at, word_end(line, len, at) ? word_end(line, len, at) - at : 1,
					       shown),
				    STACK_ARGUMENTS_MAX);
			return false;
		}
		end = word_end(line, len, at);
		if (end == 0)
			return unclosed(p, line, len, at);
		*word = (struct parse_word){line + at, end - at, (uint32_t)at + 1, line[at] == '['};
		p->word_count++;
		if (word->bracket && end < len && !word_is_blank(line[end])) {
			stack_fault(p->faults, p->path, parse_place(p, (uint32_t)end + 1),
				    "%s: stands right behind a bracket; put a blank between",
				    word_shown(line + end,
					       word_end(line, len, end) ? word_end(line, len, end) - end : 1, shown));
			return false;
		}
		if (!word->bracket && end == len && line[end - 1] == '\\') {
			p->continued = true;
			return unclosed(p, line, len, at);
		}
	}
	return true;
}

/* ---- arguments ---- */

/* The value of a word in brackets: \] and \\ are one letter each. `out` has room for `len` bytes. */
static bool unescape(const struct parse *p, const char *text, size_t len, uint32_t column, char *out, size_t *ret_len)
{
	size_t used = 0;

	for (size_t at = 0; at < len; at++) {
		if (text[at] == '\\') {
			char shown[WORD_SHOWN_SIZE];

			if (text[at + 1] != ']' && text[at + 1] != '\\') {
				stack_fault(p->faults, p->path, parse_place(p, column + (uint32_t)at),
					    "%s: stands for nothing; in brackets \\] is a bracket and \\\\ a backslash",
					    word_shown(text + at, 2, shown));
				return false;
			}
			at++;
		}
		out[used++] = text[at];
	}
	*ret_len = used;
	return true;
}

static bool argument_name_ok(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		char c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
		      c == '-'))
			return false;
	}
	return len > 0;
}

/* What people write who mean a value with blanks in it. */
static bool value_form_ok(const struct parse *p, const struct parse_word *word, const char *value, size_t len)
{
	char shown[WORD_SHOWN_SIZE];

	if (word->bracket || len == 0)
		return true;
	if (value[0] != '"' && value[0] != '\'' && (value[0] != '[' || memchr(value, ']', len)))
		return true;
	stack_fault(p->faults, p->path, parse_place(p, word->column + (uint32_t)(value - word->text)),
		    "%s: %s; a value with blanks is written [name=value with blanks], brackets around the whole word",
		    word_shown(value, len, shown),
		    value[0] == '[' ? "begins a bracket that does not end" : "quote marks quote nothing here");
	return false;
}

static bool parse_argument(struct parse *p, const struct parse_word *word, struct stack_parsed_argument *ret)
{
	const char *text = word->text + word->bracket;
	size_t len = word->len - 2u * word->bracket, name_len, value_len;
	uint32_t column = word->column + word->bracket;
	const char *equals = memchr(text, '=', len);
	char shown[WORD_SHOWN_SIZE], *name, *value;

	name_len = equals ? (size_t)(equals - text) : len;
	if (!equals || !argument_name_ok(text, name_len)) {
		stack_fault(p->faults, p->path, parse_place(p, column),
			    "%s: is no argument; write name=value, or [name=value with blanks]",
			    word_shown(text, len, shown));
		return false;
	}
	value_len = len - name_len - 1;
	if (!value_form_ok(p, word, equals + 1, value_len))
		return false;
	name = arena_text(&p->file->arena, text, name_len);
	value = arena_text(&p->file->arena, equals + 1, value_len);
	if (!name || !value)
		return parse_no_memory(p);
	*ret = (struct stack_parsed_argument){
		.name = name,
		.value = value,
		.place = parse_place(p, column),
		.value_place = parse_place(p, column + (uint32_t)name_len + 1),
	};
	if (!word->bracket)
		return true;
	if (!unescape(p, equals + 1, value_len, ret->value_place.column, value, &len))
		return false;
	value[len] = '\0';
	return true;
}

bool parse_arguments(struct parse *p, struct stack_parsed_line *line)
{
	uint32_t count = p->word_count - 3;
	struct stack_parsed_argument *arguments;
	bool good = true;

	if (count == 0)
		return true;
	arguments = arena_alloc(&p->file->arena, count * sizeof(*arguments));
	if (!arguments)
		return parse_no_memory(p);
	for (uint32_t i = 0; i < count; i++)
		good &= parse_argument(p, &p->words[3 + i], &arguments[i]);
	line->arguments = arguments;
	line->argument_count = count;
	return good;
}
