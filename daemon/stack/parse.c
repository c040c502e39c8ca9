/* Stack files: lines, and what their first words say. Controls are read in control.c, words parted in parse_word.c. */
#include "daemon/stack/parse.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/stack/parse_internal.h"
#include "daemon/stack/word.h"

bool parse_no_memory(struct parse *p)
{
	if (!p->no_memory)
		stack_fault(p->faults, p->path, (struct stack_place){0, 0}, "no memory");
	p->no_memory = true;
	return false;
}

bool stack_name_ok(const char *name, size_t len)
{
	static const char *const backups[] = {".bak", ".orig"}, *const others[] = {".dpkg-", ".rpm"};

	if (len == 0 || len > STACK_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = name[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

		if (!letter && (i == 0 || (c != '-' && c != '_' && c != '.')))
			return false;
	}
	for (unsigned i = 0; i < 2; i++) {
		size_t tail = strlen(backups[i]);

		if (len >= tail && memcmp(name + len - tail, backups[i], tail) == 0)
			return false;
		if (memmem(name, len, others[i], strlen(others[i])))
			return false;
	}
	return true;
}

bool stack_left_over(const char *name)
{
	static const char *const endings[] = {"~", ".bak", ".orig", ".swp"};
	size_t len = strlen(name);

	for (unsigned i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		size_t n = strlen(endings[i]);

		if (len > n && strcmp(name + len - n, endings[i]) == 0)
			return true;
	}
	return name[0] == '.' || strstr(name, ".dpkg-") || strstr(name, ".rpm");
}

/* ---- groups ---- */

static const char *group_at(const void *data, unsigned i)
{
	(void)data;
	return i < STACK_GROUPS ? group_word((enum stack_group)i) : NULL;
}

static bool fault_group(const struct parse *p)
{
	const struct parse_word *word = &p->words[0];
	const char *text = word->text, *right = NULL, *near = NULL;
	size_t len = word->len;
	char shown[WORD_SHOWN_SIZE];
	enum stack_group group;

	if (text[0] == '-')
		right = "leave the - out: no line is passed over, and a module that is missing is an error";
	else if (text[0] == '@')
		right = "write <group> include <stack>, once for each group";
	else if (word_is("auth", text, len))
		right = "what PAM does in auth is done in key";
	else if (word_is("session", text, len) || word_is("password", text, len))
		right = "PAM's sessions and passwords have no counterpart, so leave the line out";
	else if (p->word_count > 1 && group_from_word(p->words[1].text, p->words[1].len, &group))
		right = "begin with the group: the stack has the name of its file";
	else
		near = word_nearest(text, len, group_at, NULL);
	stack_fault(p->faults, p->path, parse_place(p, word->column), "%s: is no group; %s%s%s",
		    word_shown(text, len, shown),
		    near    ? "did you mean "
		    : right ? right
			    : "caller, key, account, page, scope or audit",
		    near ? near : "", near ? "?" : "");
	return false;
}

/* `none` stands alone in its group. */
static bool note_group(struct parse *p, enum stack_group group, bool none)
{
	const struct parse_word *word = &p->words[none];

	if (p->none[group] || (none && p->some[group])) {
		uint32_t other = p->none[group] ? p->none[group] : p->some[group];

		stack_fault(p->faults, p->path, parse_place(p, word->column),
			    p->none[group] ? "%.*s: line %u says that nothing stands in %s; leave one of the two out"
					   : "%.*s: line %u stands in this group; leave one of the two out",
			    (int)word->len, word->text, other, group_word(group));
		return false;
	}
	*(none ? &p->none[group] : &p->some[group]) = p->number;
	return true;
}

/* ---- names ---- */

static bool module_name_ok(const char *name, size_t len)
{
	if (len == 0 || len > STACK_MODULE_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
			return false;
	}
	return true;
}

static bool check_name(const struct parse *p, const struct parse_word *word, enum stack_kind kind)
{
	char shown[WORD_SHOWN_SIZE];
	const char *right = "lower case letters, digits and _, at most 32";
	const char *dot = memrchr(word->text, '.', word->len);

	if (kind != STACK_MODULE) {
		if (stack_name_ok(word->text, word->len))
			return true;
		stack_fault(
			p->faults, p->path, parse_place(p, word->column),
			"%s: cannot be a stack's name; letters, digits, -, _ and ., at most %d, and no backup's ending",
			word_shown(word->text, word->len, shown), STACK_NAME_MAX);
		return false;
	}
	if (module_name_ok(word->text, word->len))
		return true;
	if (word->len > 4 && memcmp(word->text, "pam_", 4) == 0)
		right = "PAM's modules do not run here; `apikeyctl modules` lists those that do";
	else if (memchr(word->text, '/', word->len))
		right = "a name without a path: all modules are in one directory";
	else if (dot && word_is(".so", dot, word->len - (size_t)(dot - word->text)))
		right = "the name without .so";
	stack_fault(p->faults, p->path, parse_place(p, word->column), "%s: cannot be a module's name; %s",
		    word_shown(word->text, word->len, shown), right);
	return false;
}

/* ---- lines ---- */

/* The control as explain shows it: blanks made one. */
static char *control_text(struct parse *p, const struct parse_word *word)
{
	char *text = arena_text(&p->file->arena, word->text, word->len);
	size_t used = 0;

	for (size_t i = 0; text && i < word->len; i++) {
		char c = word_is_blank(text[i]) ? ' ' : text[i];

		if (c == ' ' && used > 0 && (text[used - 1] == '[' || text[used - 1] == ' '))
			continue;
		if (c == ']' && used > 0 && text[used - 1] == ' ')
			used--;
		text[used++] = c;
	}
	if (text)
		text[used] = '\0';
	return text;
}

static enum stack_kind kind_of(const struct parse_word *word)
{
	if (word_is("none", word->text, word->len))
		return STACK_NONE;
	if (word_is("include", word->text, word->len))
		return STACK_INCLUDE;
	if (word_is("substack", word->text, word->len))
		return STACK_SUBSTACK;
	return STACK_MODULE;
}

/* Whether there are as many words as this kind of line has. */
static bool check_count(const struct parse *p, enum stack_kind kind)
{
	uint32_t want = kind == STACK_NONE ? 2 : 3;
	const struct parse_word *last = &p->words[p->word_count - 1];
	char shown[WORD_SHOWN_SIZE];

	if (p->word_count < want) {
		stack_fault(p->faults, p->path, parse_place(p, last->column), "%s: is not all; the name of %s follows",
			    word_shown(last->text, last->len, shown), kind == STACK_MODULE ? "a module" : "a stack");
		return false;
	}
	if (kind != STACK_MODULE && p->word_count > want) {
		last = &p->words[want];
		stack_fault(p->faults, p->path, parse_place(p, last->column),
			    "%s: is one word too many; nothing follows %s", word_shown(last->text, last->len, shown),
			    kind == STACK_NONE ? "none" : "the name of a stack");
		return false;
	}
	return true;
}

static bool parse_words(struct parse *p, struct stack_parsed_line *line)
{
	const struct parse_word *control = &p->words[1], *name = &p->words[2];
	bool good = true;

	line->place = parse_place(p, p->words[0].column);
	if (!group_from_word(p->words[0].text, p->words[0].len, &line->group))
		return fault_group(p);
	if (p->word_count == 1) {
		stack_fault(p->faults, p->path, line->place,
			    "%s: is not all; a control and a module follow, or include, substack or none",
			    group_word(line->group));
		return false;
	}
	line->control_place = parse_place(p, control->column);
	line->kind = kind_of(control);
	good &= note_group(p, line->group, line->kind == STACK_NONE);
	if (line->kind == STACK_NONE && line->group == STACK_KEY) {
		stack_fault(p->faults, p->path, line->control_place,
			    "none: somebody must say whose key it is; write a line with a module that identifies");
		good = false;
	}
	if (line->kind == STACK_MODULE)
		good &= stack_parse_control(p->path, line->control_place, control->text, control->len, &line->control,
					    p->faults);
	if (!check_count(p, line->kind))
		return false;
	line->control_text = control_text(p, control);
	if (!line->control_text)
		return parse_no_memory(p);
	if (line->kind == STACK_NONE)
		return good;
	line->name_place = parse_place(p, name->column);
	good &= check_name(p, name, line->kind);
	line->name = arena_text(&p->file->arena, name->text, name->len);
	if (!line->name)
		return parse_no_memory(p);
	return parse_arguments(p, line) && good;
}

static bool parse_line(struct parse *p, const char *text, size_t len)
{
	struct stack_parsed_line line = {.kind = STACK_MODULE};
	char shown[WORD_SHOWN_SIZE];
	const char *why;
	size_t at, bad;
	bool passed_over = p->continued;

	p->continued = false;
	if (len > STACK_LINE_MAX) {
		stack_fault(p->faults, p->path, parse_place(p, STACK_LINE_MAX + 1),
			    "%s: the line goes on for %zu bytes; at most %d fit",
			    word_shown(text + STACK_LINE_MAX, 1, shown), len, STACK_LINE_MAX);
		return false;
	}
	if (!word_text_ok(text, len, &at, &bad, &why)) {
		stack_fault(p->faults, p->path, parse_place(p, (uint32_t)at + 1), "%s: %s",
			    word_shown(text + at, bad, shown), why);
		return false;
	}
	while (len > 0 && word_is_blank(text[len - 1]))
		len--;
	if (passed_over) {
		p->continued = len > 0 && text[len - 1] == '\\';
		return true;
	}
	if (!parse_split(p, text, len))
		return false;
	if (p->word_count == 0)
		return true;
	if (p->line_count == STACK_LINES_MAX) {
		stack_fault(p->faults, p->path, parse_place(p, p->words[0].column),
			    "%s: is one line too many; at most %d stand in a file",
			    word_shown(p->words[0].text, p->words[0].len, shown), STACK_LINES_MAX);
		return false;
	}
	if (!parse_words(p, &line))
		return false;
	p->lines[p->line_count++] = line;
	return true;
}

static uint32_t count_lines(const char *text, size_t len)
{
	uint32_t count = 1;

	for (size_t i = 0; i < len; i++)
		count += text[i] == '\n';
	return count < STACK_LINES_MAX ? count : STACK_LINES_MAX;
}

static bool parse_text(struct parse *p, const char *text, size_t len)
{
	static const char mark[] = "\xef\xbb\xbf";
	size_t at = 0;
	bool good = true;

	if (len > STACK_FILE_MAX) {
		stack_fault(p->faults, p->path, (struct stack_place){0, 0}, "is %zu bytes long; at most %d fit", len,
			    STACK_FILE_MAX);
		return false;
	}
	p->lines = arena_alloc(&p->file->arena, count_lines(text, len) * sizeof(*p->lines));
	if (!p->lines)
		return parse_no_memory(p);
	if (len >= sizeof(mark) - 1 && memcmp(text, mark, sizeof(mark) - 1) == 0)
		at = sizeof(mark) - 1;
	while (at < len && !p->no_memory) {
		const char *feed = memchr(text + at, '\n', len - at);
		size_t end = feed ? (size_t)(feed - text) : len, line_len = end - at;

		if (feed && line_len > 0 && text[end - 1] == '\r')
			line_len--;
		p->number++;
		good &= parse_line(p, text + at, line_len);
		at = end + 1;
	}
	return good;
}

struct stack_parsed *stack_parse(const char *path, const char *text, size_t len, struct stack_faults *faults)
{
	struct parse parse = {.faults = faults, .path = path};
	struct parse_file *file = calloc(1, sizeof(*file));

	parse.file = file;
	if (!file) {
		parse_no_memory(&parse);
		return NULL;
	}
	if (!parse_text(&parse, text, len)) {
		stack_parsed_free(&file->parsed);
		return NULL;
	}
	file->parsed = (struct stack_parsed){.path = path, .lines = parse.lines, .line_count = parse.line_count};
	return &file->parsed;
}

void stack_parsed_free(struct stack_parsed *parsed)
{
	struct parse_file *file = (struct parse_file *)(void *)parsed;

	if (!file)
		return;
	arena_clear(&file->arena);
	free(file);
}
