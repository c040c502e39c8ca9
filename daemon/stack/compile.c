/* From the name of a stack to its program: files are found, lines are put in the core's order, includes opened. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/stack/compile_internal.h"
#include "daemon/stack/word.h"
#include "proto/value.h"

/* A stack file that was asked for. */
struct source {
	struct source *next;
	const char *name, *path;     /* in the program's arena */
	struct stack_parsed *parsed; /* NULL: it is faulty, and that was told */
};

struct owner {
	struct stack_program program; /* first: what callers have */
	struct arena arena;
};

struct compiler {
	const struct stack_finder *finder;
	struct stack_faults *faults;
	struct owner *owner;
	struct source *sources;
	struct stack_line *lines;
	uint32_t line_count, line_room;
	uint32_t opened; /* lines of files, as often as they were included */
	uint16_t module_count;
	bool bad, stop; /* stop: nothing further could be said that helps */
	const struct source *chain[STACK_DEPTH_MAX];
	unsigned depth; /* how much of the chain is in use */
};

static void no_memory(struct compiler *c, const char *path)
{
	if (!c->stop)
		stack_fault(c->faults, path, (struct stack_place){0, 0}, "no memory");
	c->bad = c->stop = true;
}

static void fault_word(struct compiler *c, const char *path, struct stack_place place, const char *word,
		       const char *text)
{
	stack_fault(c->faults, path, place, "%s: %s", word, text);
	c->bad = true;
}

/* ---- files ---- */

static struct source *source_known(const struct compiler *c, const char *name)
{
	struct source *source = c->sources;

	while (source && strcmp(source->name, name) != 0)
		source = source->next;
	return source;
}

/*
 * The file of that name, parsed once. NULL with the fault told: at `place` of `from`, where a line names it (NULL: it
 * is the stack itself).
 */
static const struct source *source_get(struct compiler *c, const char *name, const struct source *from,
				       struct stack_place place)
{
	struct source *source = source_known(c, name);
	const char *path = NULL, *why = NULL;
	char *text = NULL;
	size_t len = 0;

	if (source)
		return source;
	if (!c->finder->stack(c->finder->data, name, &text, &len, &path, &why)) {
		stack_fault(c->faults, from ? from->path : name, place, "%s%s%s", from ? name : "",
			    from ? ": is no stack; " : "", why ? why : "there is no file of that name");
		c->bad = true;
		return NULL;
	}
	source = arena_alloc(&c->owner->arena, sizeof(*source));
	if (source) {
		source->name = arena_text(&c->owner->arena, name, strlen(name));
		source->path = arena_text(&c->owner->arena, path, strlen(path));
	}
	if (!source || !source->name || !source->path) {
		no_memory(c, path);
		free(text);
		return NULL;
	}
	source->parsed = stack_parse(source->path, text, len, c->faults);
	free(text);
	c->bad |= !source->parsed;
	source->next = c->sources;
	c->sources = source;
	return source;
}

static uint32_t lines_in(const struct source *source, enum stack_group group)
{
	uint32_t count = 0;

	for (uint32_t i = 0; source->parsed && i < source->parsed->line_count; i++)
		count += source->parsed->lines[i].group == group;
	return count;
}

/* ---- lines ---- */

static struct stack_line *add_line(struct compiler *c, const char *path)
{
	if (c->line_count == c->line_room) {
		uint32_t room = c->line_room ? 2 * c->line_room : 32;
		struct stack_line *lines = realloc(c->lines, room * sizeof(*lines));

		if (!lines) {
			no_memory(c, path);
			return NULL;
		}
		c->lines = lines;
		c->line_room = room;
	}
	c->lines[c->line_count] = (struct stack_line){.op = STACK_OP_MODULE};
	return &c->lines[c->line_count++];
}

static void add_module(struct compiler *c, const struct source *source, const struct stack_parsed_line *parsed)
{
	struct bind bind = {.arena = &c->owner->arena, .finder = c->finder, .faults = c->faults, .path = source->path};
	struct stack_line line, *added;

	if (!bind_line(&bind, parsed, &line)) {
		c->bad = true;
		if (bind.no_memory)
			no_memory(c, source->path);
		return;
	}
	added = add_line(c, source->path);
	if (!added)
		return;
	*added = line;
	added->stack = source->name;
	added->module_number = c->module_count++;
	c->owner->program.may_wait |= (line.module->flags & APIKEYD_ASYNCHRONOUS) != 0;
}

/* The block of the lines from `start` on is complete: whoever ends it goes on behind its last one. */
static void close_block(const struct compiler *c, uint32_t start)
{
	for (uint32_t i = start; i < c->line_count; i++) {
		/* What stands in a block within has its end already, and that is not 0. */
		if (c->lines[i].op == STACK_OP_MODULE && c->lines[i].end == 0)
			c->lines[i].end = (uint16_t)c->line_count;
	}
}

/* ---- include and substack ---- */

static void fault_cycle(struct compiler *c, const struct source *from, const struct stack_parsed_line *line,
			unsigned first)
{
	char text[1024];
	size_t used = 0;

	text[0] = '\0';
	for (unsigned i = first; i < c->depth && used < sizeof(text); i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s includes ", c->chain[i]->name);
	stack_fault(c->faults, from->path, line->name_place, "%s: goes round: %s%s; leave one of them out", line->name,
		    text, line->name);
	c->bad = true;
}

/* The file that an include or a substack names, where it may stand there. */
static const struct source *open_file(struct compiler *c, const struct source *from,
				      const struct stack_parsed_line *line)
{
	const struct source *source;

	for (unsigned i = 0; i < c->depth; i++) {
		if (strcmp(c->chain[i]->name, line->name) == 0) {
			fault_cycle(c, from, line, i);
			return NULL;
		}
	}
	if (c->depth == STACK_DEPTH_MAX) {
		stack_fault(c->faults, from->path, line->name_place,
			    "%s: would be file %d, one in the other; at most %d go", line->name, STACK_DEPTH_MAX + 1,
			    STACK_DEPTH_MAX);
		c->bad = true;
		return NULL;
	}
	source = source_get(c, line->name, from, line->name_place);
	if (!source || !source->parsed)
		return NULL;
	if (lines_in(source, line->group) > 0)
		return source;
	stack_fault(c->faults, from->path, line->name_place,
		    "%s: says nothing of %s; put a line of that group there, or leave this one out", line->name,
		    group_word(line->group));
	c->bad = true;
	return NULL;
}

static void open_lines(struct compiler *c, const struct source *from, enum stack_group group);

static void add_substack(struct compiler *c, const struct source *from, const struct stack_parsed_line *line,
			 const struct source *source)
{
	uint32_t start = c->line_count;
	struct stack_line *enter = add_line(c, from->path), *leave;

	if (!enter)
		return;
	*enter = (struct stack_line){
		.op = STACK_OP_ENTER,
		.stack = from->name,
		.path = from->path,
		.place = line->place,
		.control = "substack",
		.name = source->name,
		.text = source->name,
	};
	open_lines(c, source, line->group);
	if (c->line_count == start + 1) { /* it says `none` */
		c->line_count--;
		return;
	}
	close_block(c, start + 1);
	c->lines[start].end = (uint16_t)c->line_count;
	leave = add_line(c, from->path);
	if (!leave)
		return;
	*leave = c->lines[start];
	leave->op = STACK_OP_LEAVE;
}

/* The lines of one group of a file, whatever they include. */
static void open_lines(struct compiler *c, const struct source *from, enum stack_group group)
{
	c->chain[c->depth++] = from;
	for (uint32_t i = 0; !c->stop && i < from->parsed->line_count; i++) {
		const struct stack_parsed_line *line = &from->parsed->lines[i];
		const struct source *source;

		if (line->group != group)
			continue;
		if (c->opened++ == STACK_PROGRAM_MAX) {
			stack_fault(c->faults, from->path, line->place,
				    "%s: is one line too many, with all that is included; at most %d make a stack",
				    group_word(group), STACK_PROGRAM_MAX);
			c->bad = c->stop = true;
			break;
		}
		if (line->kind == STACK_MODULE)
			add_module(c, from, line);
		if (line->kind != STACK_INCLUDE && line->kind != STACK_SUBSTACK)
			continue;
		source = open_file(c, from, line);
		if (!source)
			continue;
		if (line->kind == STACK_INCLUDE)
			open_lines(c, source, group);
		else
			add_substack(c, from, line, source);
	}
	c->depth--;
}

/* ---- the whole ---- */

static void compile_group(struct compiler *c, const struct source *source, enum stack_group group)
{
	static const struct stack_place top = {1, 1};
	struct stack_program *program = &c->owner->program;
	uint32_t start = c->line_count;

	program->first[group] = (uint16_t)start;
	if (lines_in(source, group) > 0) {
		open_lines(c, source, group);
		close_block(c, start);
		program->none[group] = c->line_count == start;
		return;
	}
	if (group == STACK_KEY)
		fault_word(c, source->path, top, "key",
			   "has no line; write one with a module that says whose key it is");
	else if (group == STACK_CALLER)
		fault_word(c, source->path, top, "caller",
			   "has no line; write one, or `caller none` where anybody may ask");
	else if (group == STACK_AUDIT)
		fault_word(c, source->path, top, "audit",
			   "has no line; write one, or `audit none` where nothing is to be written down");
}

/* The lines move to the program's own memory. */
static bool finish(struct compiler *c, const struct source *source)
{
	struct stack_program *program = &c->owner->program;
	struct stack_line *lines = arena_alloc(&c->owner->arena, (c->line_count + 1) * sizeof(*lines));

	if (!lines) {
		no_memory(c, source->path);
		return false;
	}
	if (c->line_count > 0)
		memcpy(lines, c->lines, c->line_count * sizeof(*lines));
	program->lines = lines;
	program->first[STACK_GROUPS] = (uint16_t)c->line_count;
	program->module_count = c->module_count;
	program->name = source->name;
	return true;
}

static bool compile(struct compiler *c, const char *name)
{
	const struct source *source;
	char shown[WORD_SHOWN_SIZE];

	if (!stack_name_ok(name, strlen(name))) {
		stack_fault(c->faults, word_shown(name, strlen(name), shown), (struct stack_place){0, 0},
			    "cannot be a stack's name; letters, digits, -, _ and ., at most %d, and no backup's ending",
			    STACK_NAME_MAX);
		return false;
	}
	source = source_get(c, name, NULL, (struct stack_place){0, 0});
	if (!source || !source->parsed)
		return false;
	if (source->parsed->line_count == 0) {
		stack_fault(c->faults, source->path, (struct stack_place){0, 0},
			    "holds no line; a stack has lines of caller, key and audit at least");
		return false;
	}
	for (unsigned group = 0; group < STACK_GROUPS && !c->stop; group++)
		compile_group(c, source, (enum stack_group)group);
	return !c->bad && finish(c, source);
}

struct stack_program *stack_compile(const char *name, const struct stack_finder *finder, struct stack_faults *faults)
{
	struct compiler c = {.finder = finder, .faults = faults};
	bool good;

	c.owner = calloc(1, sizeof(*c.owner));
	if (!c.owner) {
		no_memory(&c, name);
		return NULL;
	}
	good = compile(&c, name);
	for (struct source *source = c.sources; source; source = source->next)
		stack_parsed_free(source->parsed);
	free(c.lines);
	if (good)
		return &c.owner->program;
	stack_program_free(&c.owner->program);
	return NULL;
}

void stack_program_free(struct stack_program *program)
{
	struct owner *owner = (struct owner *)(void *)program;

	if (!owner)
		return;
	arena_clear(&owner->arena);
	free(owner);
}
