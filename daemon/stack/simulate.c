#include "daemon/stack/simulate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/stack/word.h"

/* What the run has told of one line. */
struct record {
	bool asked;
	enum apikeyd_code code;
	enum stack_action action;
	enum stack_effect effect;
};

struct simulation {
	const struct stack_program *program;
	enum apikeyd_code *codes; /* by module number */
	struct record *records;	  /* by line */
	const struct stack_line *granted;
};

/* ---- what the lines say ---- */

static uint16_t line_count(const struct stack_program *program)
{
	return program->first[STACK_GROUPS];
}

static const struct stack_line *module_line(const struct stack_program *program, unsigned number)
{
	for (unsigned i = 0; i < line_count(program); i++) {
		if (program->lines[i].op == STACK_OP_MODULE && program->lines[i].module_number == number)
			return &program->lines[i];
	}
	return NULL;
}

/* "peer (default:1), store (default:3)": what there is to be named. */
static void list_lines(const struct stack_program *program, char *out, size_t size)
{
	const struct stack_line *line;
	size_t used = 0;

	snprintf(out, size, "none");
	for (unsigned i = 0; used < size && (line = module_line(program, i)); i++)
		used += (size_t)snprintf(out + used, size - used, "%s%s (%s:%u)", i == 0 ? "" : ", ", line->name,
					 line->stack, line->place.line);
}

static int read_code(const char *word, size_t len, enum apikeyd_code *ret, char *error, size_t size)
{
	char shown[WORD_SHOWN_SIZE];

	if (code_from_word(word, len, ret))
		return 0;
	snprintf(error, size, "%s: is no code; apikeyd-stacks(5) lists them under CODES",
		 len > 0 ? word_shown(word, len, shown) : "an empty word");
	return -EINVAL;
}

/* A code for each line. */
static int read_list(const struct simulation *s, const char *as, char *error, size_t size)
{
	char lines[512];
	unsigned count = 0;

	for (const char *p = as; *as; p++) {
		size_t len = strcspn(p, ",");
		enum apikeyd_code code;
		int rc = read_code(p, len, &code, error, size);

		if (rc != 0)
			return rc;
		if (count < s->program->module_count)
			s->codes[count] = code;
		count++;
		p += len;
		if (!*p)
			break;
	}
	if (count == s->program->module_count)
		return 0;
	list_lines(s->program, lines, sizeof(lines));
	snprintf(error, size, "%u code%s given, and the stack has %u line%s of modules: %s", count,
		 count == 1 ? "" : "s", s->program->module_count, s->program->module_count == 1 ? "" : "s", lines);
	return -EINVAL;
}

/* `[stack:]number`: true where a line of the program stands there; all that do say the code. */
static bool set_line(const struct simulation *s, const char *where, size_t len, enum apikeyd_code code)
{
	const char *colon = memrchr(where, ':', len);
	const char *digits = colon ? colon + 1 : where, *end = where + len;
	const char *stack = colon ? where : s->program->name;
	size_t stack_len = colon ? (size_t)(colon - where) : strlen(stack);
	uint32_t number = 0;
	bool found = false;

	for (; digits < end && *digits >= '0' && *digits <= '9' && number < 1000000; digits++)
		number = number * 10 + (uint32_t)(*digits - '0');
	if (digits != end)
		return false;
	for (unsigned i = 0; i < line_count(s->program); i++) {
		const struct stack_line *line = &s->program->lines[i];

		if (line->op == STACK_OP_MODULE && line->place.line == number &&
		    word_is(line->stack, stack, stack_len)) {
			s->codes[line->module_number] = code;
			found = true;
		}
	}
	return found;
}

/* Lines by number; those that are not named say success. */
static int read_named(const struct simulation *s, const char *as, char *error, size_t size)
{
	char lines[512], shown[WORD_SHOWN_SIZE];

	for (const char *p = as;; p++) {
		size_t len = strcspn(p, ",");
		const char *equals = memchr(p, '=', len);
		enum apikeyd_code code;
		int rc;

		if (!equals) {
			snprintf(error, size,
				 "%s: names no line; where one line is named, all are, such as 3=unknown_key",
				 len > 0 ? word_shown(p, len, shown) : "an empty word");
			return -EINVAL;
		}
		rc = read_code(equals + 1, len - (size_t)(equals - p) - 1, &code, error, size);
		if (rc != 0)
			return rc;
		if (!set_line(s, p, (size_t)(equals - p), code)) {
			list_lines(s->program, lines, sizeof(lines));
			snprintf(error, size, "%s: no module's line has that number; those that have: %s",
				 word_shown(p, len, shown), lines);
			return -EINVAL;
		}
		p += len;
		if (!*p)
			return 0;
	}
}

static int read_codes(const struct simulation *s, const char *as, char *error, size_t size)
{
	for (unsigned i = 0; i < s->program->module_count; i++)
		s->codes[i] = APIKEYD_SUCCESS;
	if (!as)
		return 0;
	return strchr(as, '=') ? read_named(s, as, error, size) : read_list(s, as, error, size);
}

/* ---- the run ---- */

static enum apikeyd_code on_ask(void *data, const struct stack_line *line)
{
	const struct simulation *s = data;

	return s->codes[line->module_number];
}

static void on_grant(void *data, const struct stack_line *line)
{
	struct simulation *s = data;

	s->granted = line;
}

static void on_trace(void *data, const struct stack_line *line, enum apikeyd_code code, enum stack_action action,
		     enum stack_effect effect)
{
	struct simulation *s = data;

	s->records[line - s->program->lines] = (struct record){true, code, action, effect};
}

static void tell(const struct simulation *s, stack_told told, void *data)
{
	unsigned depth = 0;

	for (unsigned group = 0; group < STACK_GROUPS; group++) {
		for (unsigned i = s->program->first[group]; i < s->program->first[group + 1]; i++) {
			const struct stack_line *line = &s->program->lines[i];
			/* Whoever enters a substack leaves it. */
			const struct record *record = &s->records[line->op == STACK_OP_ENTER ? line->end : i];
			struct stack_step step = {
				.group = (enum stack_group)group,
				.line = line,
				.asked = record->asked,
				.code = record->code,
				.action = record->action,
				.effect = record->effect,
			};

			depth -= line->op == STACK_OP_LEAVE;
			step.depth = depth;
			depth += line->op == STACK_OP_ENTER;
			told(data, &step);
		}
	}
}

/* ---- why ---- */

static void say_line(const struct stack_line *line, enum apikeyd_code code, char *out, size_t size)
{
	if (line)
		snprintf(out, size, "%s%s (%s:%u) said %s", line->op == STACK_OP_MODULE ? "" : "substack ", line->name,
			 line->stack, line->place.line, code_word(code));
	else
		snprintf(out, size, "a line failed that gave no reason");
}

static void say_why(struct stack_simulated *ret, const struct stack_result *result, const char *rest)
{
	char said[256];

	say_line(ret->line, result->code, said, sizeof(said));
	if (ret->group == STACK_GROUPS)
		snprintf(ret->why, sizeof(ret->why), "Every group passed; %s (%s:%u) said whose key it is.",
			 ret->granted->name, ret->granted->stack, ret->granted->place.line);
	else if (ret->group == STACK_AUDIT)
		snprintf(ret->why, sizeof(ret->why),
			 "Every group passed, but audit failed: %s, and what cannot be written down is not allowed.",
			 said);
	else if (ret->group == STACK_KEY && !ret->granted && code_class(result->code) == STACK_CLASS_FAULT)
		snprintf(ret->why, sizeof(ret->why),
			 "In key no line granted, and %s: nobody knows whose key it would have been.", said);
	else if (ret->group == STACK_KEY && !ret->granted)
		snprintf(ret->why, sizeof(ret->why), "In key no line granted%s%s.", ret->line ? ", and " : "",
			 ret->line ? said : "");
	else
		snprintf(ret->why, sizeof(ret->why), "The group %s failed: %s.", group_word(ret->group), said);
	snprintf(ret->why + strlen(ret->why), sizeof(ret->why) - strlen(ret->why), "%s", rest);
}

static void judge(struct simulation *s, struct stack_simulated *ret)
{
	static const char no_rate[] = " A key that is narrowed to a rate would be denied with policy, since no line "
				      "that charges it has passed.";
	const struct stack_runner runner = {.ask = on_ask, .grant = on_grant, .trace = on_trace, .data = s};
	struct stack_result result = {.outcome = STACK_FAILED}, audit;

	*ret = (struct stack_simulated){.group = STACK_GROUPS};
	for (unsigned group = 0; group < STACK_AUDIT && ret->group == STACK_GROUPS; group++) {
		stack_run(s->program, (enum stack_group)group, &runner, &result);
		if (group == STACK_ACCOUNT)
			ret->charged = result.charged;
		if (result.outcome != STACK_PASSED)
			ret->group = (enum stack_group)group;
	}
	stack_run(s->program, STACK_AUDIT, &runner, &audit);
	ret->granted = s->granted;
	ret->line = result.line;
	if (ret->group == STACK_GROUPS && audit.outcome != STACK_PASSED) {
		ret->group = STACK_AUDIT;
		ret->line = audit.line;
		ret->reason = REASON_AUDIT_FULL;
		say_why(ret, &audit, "");
	} else if (ret->group == STACK_GROUPS) {
		ret->reason = REASON_OK;
		say_why(ret, &result, ret->charged ? "" : no_rate);
	} else {
		ret->reason = code_reason(result.code);
		say_why(ret, &result, "");
	}
	ret->verdict = verdict_of(ret->reason);
}

int stack_simulate(const struct stack_program *program, const char *as, stack_told told, void *data,
		   struct stack_simulated *ret, char *error, size_t error_size)
{
	struct simulation s = {
		.program = program,
		.codes = calloc(program->module_count + 1u, sizeof(*s.codes)),
		.records = calloc(line_count(program) + 1u, sizeof(*s.records)),
	};
	int rc = -ENOMEM;

	if (!s.codes || !s.records)
		goto out;
	rc = read_codes(&s, as, error, error_size);
	if (rc != 0)
		goto out;
	judge(&s, ret);
	tell(&s, told, data);
out:
	free(s.codes);
	free(s.records);
	return rc;
}
