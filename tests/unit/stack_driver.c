/*
 * Plays stacks for tests/system/test_stacks.py: files of a stack in, what the engine makes of them out. Modules are
 * fakes that answer what they are told. No judgement of its own: what is right is the oracle's to say.
 *
 * Reads commands, one a line, from standard input:
 *     words                     one line: every code as word=number
 *     control TEXT, code WORD   put on the lists that enumerate goes through. A code may be a number, which is not one
 *     enumerate GROUP SHAPE     all stacks of a shape, a binary record each: see enumerate()
 *     file NAME LENGTH          LENGTH bytes follow: a stack file
 *     compile NAME              one line: "ok <module lines>", or "fault <what the compiler says>"
 *     run CODE...               one line: see play_all(). One code a module line of the stack compiled last
 *     force CODE ACTION         all lines of the stack compiled last do that with that code, allowed or not
 *     forget                    the files and both lists
 * A command that cannot be understood ends the program.
 */
#include <err.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/stack/program.h"
#include "daemon/stack/run.h"
#include "daemon/stack/simulate.h"

enum { LIST_MAX = 64, TEXT_MAX = 1 << 16, MODULES_MAX = 1024, SHAPE_MAX = 7, ENDS_MAX = 1024 };

/* ---- fake modules ---- */

static enum apikeyd_code never(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	(void)instance, (void)request, (void)token;
	return APIKEYD_MODULE_FAULT;
}

static const struct apikeyd_argument arguments[] = {
	{.name = "n", .type = APIKEYD_TYPE_COUNT, .max = 1 << 20, .help = "tells lines apart"},
	{.name = NULL},
};

#define FAKE(module_name, where, what)                                                                                 \
	{                                                                                                              \
		.abi = APIKEYD_ABI, .size = sizeof(struct apikeyd_module), .name = (module_name), .help = "a fake",    \
		.groups = (where), .flags = (what), .arguments = arguments, .start = never                             \
	}

static const struct apikeyd_module modules[] = {
	FAKE("who", APIKEYD_GROUP_KEY, APIKEYD_IDENTIFIES),
	FAKE("rate", APIKEYD_GROUP_ACCOUNT, APIKEYD_ENFORCES_RATE),
	FAKE("say",
	     APIKEYD_GROUP_CALLER | APIKEYD_GROUP_ACCOUNT | APIKEYD_GROUP_PAGE | APIKEYD_GROUP_SCOPE |
		     APIKEYD_GROUP_AUDIT,
	     APIKEYD_ASYNCHRONOUS),
};

static const struct apikeyd_module *find_module(void *data, const char *name, const char **ret_why)
{
	(void)data;
	for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]); i++)
		if (strcmp(modules[i].name, name) == 0)
			return &modules[i];
	*ret_why = "there is no such fake";
	return NULL;
}

/* ---- files ---- */

struct file {
	char name[STACK_NAME_MAX + 1];
	char *text; /* room for TEXT_MAX */
	size_t len;
};

static struct file files[LIST_MAX];
static unsigned file_count;

static struct file *new_file(const char *name)
{
	struct file *file = &files[file_count];

	if (file_count++ == LIST_MAX)
		errx(2, "too many files");
	snprintf(file->name, sizeof(file->name), "%s", name);
	if (!file->text && !(file->text = malloc(TEXT_MAX)))
		err(2, "malloc");
	file->len = 0;
	return file;
}

static void append(struct file *file, const char *group, const char *rest, const char *name)
{
	int n = snprintf(file->text + file->len, TEXT_MAX - file->len, "%s %s%s%s\n", group, rest, *name ? " " : "",
			 name);

	if (n < 0 || (size_t)n >= TEXT_MAX - file->len)
		errx(2, "a file grows too long");
	file->len += (size_t)n;
}

static bool find_stack(void *data, const char *name, char **ret_text, size_t *ret_len, const char **ret_path,
		       const char **ret_why)
{
	(void)data;
	for (unsigned i = 0; i < file_count; i++) {
		if (strcmp(files[i].name, name) != 0)
			continue;
		*ret_text = malloc(files[i].len + 1);
		if (!*ret_text)
			err(2, "malloc");
		memcpy(*ret_text, files[i].text, files[i].len);
		(*ret_text)[files[i].len] = '\0';
		*ret_len = files[i].len;
		*ret_path = files[i].name;
		return true;
	}
	*ret_why = "there is no such file";
	return false;
}

static const struct stack_finder finder = {.module = find_module, .stack = find_stack};
static char faults_text[1024];

static struct stack_program *compile(const char *name)
{
	struct stack_faults faults = {.text = faults_text, .size = sizeof(faults_text)};
	struct stack_program *program;

	faults_text[0] = '\0';
	program = stack_compile(name, &finder, &faults);
	if (!program)
		for (char *c = faults_text; *c; c++)
			if (*c == '\n')
				*c = '|';
	return program;
}

/* ---- one run of one group ---- */

/* What the modules are to say, and what the engine was seen to do. Module lines go by their number from `base`. */
struct play {
	const int *codes;
	unsigned base, count;
	unsigned asked_count, told;
	unsigned asked[MODULES_MAX], args[MODULES_MAX];
	char effects[MODULES_MAX + 1];
	int grant;	  /* -1: none */
	unsigned against; /* how often the line that was asked last was told to speak against the group */
	bool wrong;	  /* the engine did what no engine may: asked past the end, granted twice, told nothing */
	unsigned end_count;
	enum apikeyd_code ends[ENDS_MAX];
};

static enum apikeyd_code ask(void *data, const struct stack_line *line)
{
	struct play *play = data;
	unsigned number = line->module_number - play->base;

	if (line->op != STACK_OP_MODULE || number >= play->count || play->asked_count == MODULES_MAX ||
	    play->told != play->asked_count) {
		play->wrong = true;
		return APIKEYD_MODULE_FAULT;
	}
	play->asked[play->asked_count] = number;
	play->args[play->asked_count++] = line->values[0].given ? (unsigned)line->values[0].number : 0;
	return (enum apikeyd_code)play->codes[number];
}

static void grant(void *data, const struct stack_line *line)
{
	struct play *play = data;

	if (play->grant >= 0 || play->asked_count == 0 ||
	    play->asked[play->asked_count - 1] != line->module_number - play->base)
		play->wrong = true;
	play->grant = (int)(line->module_number - play->base);
}

/* The line that was asked last, before its trace. */
static void against(void *data, const struct stack_line *line, enum stack_class class)
{
	struct play *play = data;

	if (play->told + 1 != play->asked_count || line->op != STACK_OP_MODULE ||
	    play->asked[play->told] != line->module_number - play->base ||
	    class != code_class(code_clean(play->codes[play->asked[play->told]])))
		play->wrong = true;
	play->against++;
}

/* Any fault does, and a denial that its control counts. */
static bool speaks_against(enum apikeyd_code code, enum stack_effect effect)
{
	enum stack_class class = code_class(code);

	return code != APIKEYD_PENDING &&
	       (class == STACK_CLASS_FAULT ||
		(class == STACK_CLASS_DENY && (effect == STACK_EFFECT_FAILED || effect == STACK_EFFECT_DIED)));
}

/* The end of a substack. */
static void trace_end(struct play *play, const struct stack_line *line, enum apikeyd_code code,
		      enum stack_action action, enum stack_effect effect)
{
	static const enum stack_action actions[] = {
		[STACK_EFFECT_NOTHING] = STACK_IGNORE, [STACK_EFFECT_OK] = STACK_OK, [STACK_EFFECT_FAILED] = STACK_BAD};

	if (line->op != STACK_OP_LEAVE || play->end_count == ENDS_MAX || play->told != play->asked_count ||
	    (effect != STACK_EFFECT_NOTHING && effect != STACK_EFFECT_OK && effect != STACK_EFFECT_FAILED) ||
	    action != actions[effect] || (effect == STACK_EFFECT_OK) != (code == APIKEYD_SUCCESS) ||
	    (effect == STACK_EFFECT_NOTHING) != (code == APIKEYD_IGNORE))
		play->wrong = true;
	else
		play->ends[play->end_count++] = code;
}

static void trace(void *data, const struct stack_line *line, enum apikeyd_code code, enum stack_action action,
		  enum stack_effect effect)
{
	struct play *play = data;

	if (line->op != STACK_OP_MODULE) {
		trace_end(play, line, code, action, effect);
		return;
	}
	if (play->told + 1 != play->asked_count || play->asked[play->told] != line->module_number - play->base ||
	    (code != APIKEYD_PENDING && code != code_clean(play->codes[play->asked[play->told]])) ||
	    (code == APIKEYD_PENDING) != (effect == STACK_EFFECT_PENDING) ||
	    play->against != speaks_against(code, effect)) {
		play->wrong = true;
		return;
	}
	play->against = 0;
	play->effects[play->told++] = *effect_word(effect);
}

static enum apikeyd_code ask_only(void *data, const struct stack_line *line)
{
	const struct play *play = data;

	return (enum apikeyd_code)play->codes[line->module_number - play->base];
}

/* Whether the group comes to the same where nobody wants to be told of anything. */
static bool same_untold(const struct stack_program *program, enum stack_group group, struct play *play,
			const struct stack_result *result)
{
	const struct stack_runner runner = {.ask = ask_only, .data = play};
	struct stack_result untold;

	stack_run(program, group, &runner, &untold);
	return untold.outcome == result->outcome &&
	       (untold.outcome != STACK_FAILED || (untold.code == result->code && untold.line == result->line)) &&
	       (untold.outcome != STACK_PASSED || untold.charged == result->charged);
}

/* The number of a line from `base`, or -1 where it is no module's. */
static int place_of(const struct play *play, const struct stack_line *line)
{
	return line && line->op == STACK_OP_MODULE ? (int)(line->module_number - play->base) : -1;
}

static void run_group(const struct stack_program *program, enum stack_group group, struct play *play,
		      struct stack_result *ret)
{
	const struct stack_runner runner = {
		.ask = ask, .grant = grant, .against = against, .trace = trace, .data = play};

	play->asked_count = play->told = play->end_count = play->against = 0;
	play->grant = -1;
	play->wrong = false;
	memset(ret, 0xa5, sizeof(*ret));
	stack_run(program, group, &runner, ret);
	if (play->told != play->asked_count || (group != STACK_KEY && play->grant >= 0) ||
	    (ret->outcome == STACK_PASSED && ret->code != APIKEYD_SUCCESS))
		play->wrong = true;
}

/* The word of what a group came to. */
static const char *result_word(const struct stack_result *result)
{
	if (result->outcome == STACK_PASSED)
		return code_word(APIKEYD_SUCCESS);
	return result->outcome == STACK_WAITS ? code_word(APIKEYD_PENDING) : code_word(result->code);
}

/* ---- enumerate ---- */

static char controls[LIST_MAX][128];
static int codes[LIST_MAX];
static unsigned control_count, code_count;

/*
 * Writes the files of a stack whose `group` has the shape: '.' a line of a module, '(' and ')' around a substack, '['
 * and ']' around what is included. Returns how many module lines stand before those of the group.
 */
static unsigned write_stack(enum stack_group group, const char *shape, const unsigned *chosen)
{
	static const char *const names[] = {"s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"};
	const char *word = group_word(group);
	const char *module = group == STACK_KEY ? "who" : group == STACK_ACCOUNT ? "rate" : "say";
	struct file *file, *outer[SHAPE_MAX];
	unsigned depth = 0;

	file_count = 0;
	file = new_file("root");
	if (group != STACK_CALLER)
		append(file, "caller", "none", "");
	if (group != STACK_KEY)
		append(file, "key", "required", "who");
	if (group != STACK_AUDIT)
		append(file, "audit", "none", "");
	for (; *shape; shape++) {
		if (*shape == '.') {
			append(file, word, controls[*chosen++], module);
		} else if ((*shape == '(' || *shape == '[') && depth < SHAPE_MAX && file_count <= 8) {
			append(file, word, *shape == '(' ? "substack" : "include", names[file_count - 1]);
			outer[depth++] = file;
			file = new_file(names[file_count - 1]);
		} else if ((*shape == ')' || *shape == ']') && depth > 0) {
			file = outer[--depth];
		} else {
			errx(2, "what shape is that: %s", shape);
		}
	}
	return group == STACK_KEY || group == STACK_CALLER ? 0 : 1;
}

/* The next choice of n things out of `of`, the last changing first; false where there is none. */
static bool next_choice(unsigned *choice, unsigned n, unsigned of)
{
	while (n-- > 0) {
		if (++choice[n] < of)
			return true;
		choice[n] = 0;
	}
	return false;
}

static void put_record(const struct play *play, const struct stack_result *result, unsigned char *ret)
{
	unsigned asked = play->wrong ? 0x80 : 0;
	bool passed = result->outcome == STACK_PASSED, waits = result->outcome == STACK_WAITS;

	for (unsigned i = 0; i < play->asked_count; i++)
		asked |= i > 0 && play->asked[i] <= play->asked[i - 1] ? 0x80 : 1u << play->asked[i];
	ret[0] = (unsigned char)(passed ? APIKEYD_SUCCESS : waits ? APIKEYD_PENDING : result->code);
	ret[1] = (unsigned char)(passed || waits ? 0 : place_of(play, result->line) + 1);
	ret[2] = (unsigned char)((waits ? 0 : play->grant + 1) | (passed && result->charged ? 0x80 : 0));
	ret[3] = (unsigned char)asked;
}

/*
 * All stacks whose group has a shape of n module lines, for every choice of controls (the last line's changing first),
 * and each for every choice of codes, is four bytes:
 *     what the group came to: success, pending, or why it failed (number of a code)
 *     the line that said so where it failed, counted from 1; 0: none, or no module's
 *     the line that granted, counted from 1; 0x80: it passed, and a rate was charged
 *     the lines asked, the first as 1; 0x80: not in their order, or the engine did what none may
 */
static void enumerate(enum stack_group group, const char *shape)
{
	static struct play play;
	unsigned chosen[SHAPE_MAX] = {0}, said[SHAPE_MAX], n = 0;
	int answers[SHAPE_MAX];
	unsigned char record[4];

	for (const char *c = shape; *c; c++)
		n += *c == '.';
	if (n == 0 || n > SHAPE_MAX || control_count == 0 || code_count == 0)
		errx(2, "enumerate what?");
	do {
		struct stack_result result;
		struct stack_program *program;

		play = (struct play){.codes = answers, .base = write_stack(group, shape, chosen), .count = n};
		program = compile("root");
		if (!program)
			errx(2, "%.*s: %s", (int)files[0].len, files[0].text, faults_text);
		memset(said, 0, sizeof(said));
		do {
			for (unsigned i = 0; i < n; i++)
				answers[i] = codes[said[i]];
			run_group(program, group, &play, &result);
			put_record(&play, &result, record);
			fwrite(record, sizeof(record), 1, stdout);
		} while (next_choice(said, n, code_count));
		stack_program_free(program);
	} while (next_choice(chosen, n, control_count));
	file_count = 0;
}

/* ---- run ---- */

static void print_group(enum stack_group group, const struct play *play, const struct stack_result *result)
{
	printf("%s=%s", group_word(group), result_word(result));
	if (result->outcome == STACK_FAILED) {
		int place = place_of(play, result->line);

		printf(place < 0 ? "@-" : "@%d", place);
	}
	for (unsigned i = 0; i < play->asked_count; i++)
		printf("%c%u:%u%c", i == 0 ? '/' : ',', play->asked[i], play->args[i], play->effects[i]);
	for (unsigned i = 0; i < play->end_count; i++)
		printf("%c%s", i == 0 ? '/' : ',', code_word(play->ends[i]));
	if (group == STACK_KEY && play->grant >= 0 && result->outcome != STACK_WAITS)
		printf("/grant=%d", play->grant);
	if (group == STACK_ACCOUNT && result->outcome == STACK_PASSED && result->charged)
		printf("/charged");
	printf(play->wrong ? "/WRONG " : " ");
}

/* What stack_simulate says of all groups together; nothing where it cannot be told such codes. */
struct whole {
	unsigned asked_count, asked[MODULES_MAX];
};

static void on_step(void *data, const struct stack_step *step)
{
	struct whole *whole = data;

	if (step->asked && step->line->op == STACK_OP_MODULE && whole->asked_count < MODULES_MAX)
		whole->asked[whole->asked_count++] = step->line->module_number;
}

static void print_whole(const struct stack_program *program, const char *as)
{
	static struct whole whole;
	struct stack_simulated simulated;
	char error[256];

	whole.asked_count = 0;
	if (stack_simulate(program, as, on_step, &whole, &simulated, error, sizeof(error)) != 0)
		errx(2, "%s: %s", as, error);
	printf("%s %s %s", verdict_word(simulated.verdict), reason_word(simulated.reason),
	       simulated.group == STACK_GROUPS ? "all" : group_word(simulated.group));
	if (simulated.line && simulated.line->op == STACK_OP_MODULE)
		printf("@%u", simulated.line->module_number);
	if (simulated.granted)
		printf("/grant=%u", simulated.granted->module_number);
	for (unsigned i = 0; i < whole.asked_count; i++)
		printf("%c%u", i == 0 ? '/' : ',', whole.asked[i]);
	printf(simulated.charged ? "/charged" : "");
}

/*
 * Runs all groups, each by itself, whatever the others came to, and prints for each
 *     <group>=<code>[@<line that said so, or ->][/<line>:<n><effect>,...][/<result of a substack>,...]
 * with /grant=<line> or /charged where that is so; then, where `as` says the same codes, what stack_simulate says:
 *     <verdict> <reason> <group that decided, or all>[@<line>][/grant=<line>][/<line asked>,...][/charged]
 */
static void play_all(const struct stack_program *program, const int *answers, const char *as)
{
	static struct play play;

	play = (struct play){.codes = answers, .count = program->module_count};
	for (unsigned group = 0; group < STACK_GROUPS; group++) {
		struct stack_result result;

		run_group(program, (enum stack_group)group, &play, &result);
		if (!same_untold(program, (enum stack_group)group, &play, &result))
			play.wrong = true;
		print_group((enum stack_group)group, &play, &result);
	}
	if (as)
		print_whole(program, as);
	putchar('\n');
}

/* ---- commands ---- */

static int code_number(const char *word)
{
	enum apikeyd_code code;
	char *end;
	long number;

	if (code_from_word(word, strlen(word), &code))
		return (int)code;
	if (strcmp(word, "pending") == 0)
		return APIKEYD_PENDING;
	number = strtol(word, &end, 10);
	if (end == word || *end != '\0')
		errx(2, "what code is that: %s", word);
	return (int)number;
}

static void command_words(void)
{
	enum apikeyd_code code;

	for (unsigned i = 0; code_at(i, &code); i++)
		printf("%s=%d ", code_word(code), (int)code);
	printf("pending=%d\n", (int)APIKEYD_PENDING);
}

static void command_file(char *words)
{
	char *length = strchr(words, ' ');
	struct file *file;

	if (!length)
		errx(2, "file NAME LENGTH");
	*length++ = '\0';
	file = new_file(words);
	file->len = strtoul(length, NULL, 10);
	if (file->len >= TEXT_MAX || fread(file->text, 1, file->len, stdin) != file->len)
		errx(2, "file %s %s", words, length);
}

static void command_run(const struct stack_program *program, char *words)
{
	static int answers[MODULES_MAX];
	static char as[MODULES_MAX * 32];
	bool told = true;
	unsigned n = 0;

	as[0] = '\0';
	for (char *word = strtok(words, " "); word && n < MODULES_MAX; word = strtok(NULL, " ")) {
		enum apikeyd_code code;

		told = told && strlen(word) < 31 && code_from_word(word, strlen(word), &code);
		if (told)
			strcat(strcat(as, n == 0 ? "" : ","), word);
		answers[n++] = code_number(word);
	}
	if (!program || n != program->module_count)
		errx(2, "%u codes, for %d module lines", n, program ? program->module_count : -1);
	play_all(program, answers, told ? as : NULL);
}

/* No file can say `ok` to a refusal; a program that does is forced here. Changes the program compiled last. */
static void command_force(const struct stack_program *program, char *words)
{
	char *action_text = strchr(words, ' ');
	enum stack_action action;
	enum apikeyd_code code;

	if (!program || !action_text || !code_from_word(words, (size_t)(action_text - words), &code) ||
	    !action_from_word(action_text + 1, strlen(action_text + 1), &action))
		errx(2, "force CODE ACTION");
	for (unsigned i = 0; i < program->first[STACK_GROUPS]; i++) {
		uint8_t *actions = (uint8_t *)(uintptr_t)program->lines[i].actions;

		actions[code] = (uint8_t)action;
	}
}

static void command_enumerate(char *words)
{
	char *shape = strchr(words, ' ');
	enum stack_group group;

	if (!shape || !group_from_word(words, (size_t)(shape - words), &group))
		errx(2, "enumerate GROUP SHAPE");
	enumerate(group, shape + 1);
}

static struct stack_program *command_compile(struct stack_program *before, const char *name)
{
	struct stack_program *program;

	stack_program_free(before);
	program = compile(name);
	if (program)
		printf("ok %u\n", program->module_count);
	else
		printf("fault %s\n", faults_text);
	return program;
}

int main(void)
{
	struct stack_program *program = NULL;
	char *line = NULL;
	size_t size = 0;
	ssize_t len;

	setvbuf(stdout, NULL, _IOFBF, 1 << 18);
	while ((len = getline(&line, &size, stdin)) > 0) {
		char *words = line + strcspn(line, " \n");

		line[strcspn(line, "\n")] = '\0';
		if (*words)
			*words++ = '\0';
		if (strcmp(line, "words") == 0) {
			command_words();
		} else if (strcmp(line, "control") == 0 && control_count < LIST_MAX) {
			snprintf(controls[control_count++], sizeof(controls[0]), "%s", words);
		} else if (strcmp(line, "code") == 0 && code_count < LIST_MAX) {
			codes[code_count++] = code_number(words);
		} else if (strcmp(line, "enumerate") == 0) {
			command_enumerate(words);
		} else if (strcmp(line, "file") == 0) {
			command_file(words);
		} else if (strcmp(line, "compile") == 0) {
			program = command_compile(program, words);
		} else if (strcmp(line, "run") == 0) {
			command_run(program, words);
		} else if (strcmp(line, "force") == 0) {
			command_force(program, words);
		} else if (strcmp(line, "forget") == 0) {
			file_count = control_count = code_count = 0;
		} else {
			errx(2, "what is %s?", line);
		}
		fflush(stdout);
	}
	stack_program_free(program);
	for (unsigned i = 0; i < LIST_MAX; i++)
		free(files[i].text);
	free(line);
	return 0;
}
