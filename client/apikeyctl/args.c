#include "client/apikeyctl/args.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct args_reader {
	struct args *args;
	size_t argc, at;
	char *const *argv;
	char *error;
	bool help;
};

static const struct command *args_command(const struct args *args)
{
	return args->path.at[args->path.depth - 1];
}

static enum args_result args_wrong(struct args_reader *r, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static enum args_result args_wrong(struct args_reader *r, const char *format, ...)
{
	va_list list;
	char title[80];
	size_t used;

	va_start(list, format);
	vsnprintf(r->error, ARGS_ERROR_SIZE, format, list);
	va_end(list);
	used = strlen(r->error);
	command_title(&r->args->path, title, sizeof(title));
	snprintf(r->error + used, ARGS_ERROR_SIZE - used, " (see %s --help)", title);
	return ARGS_WRONG;
}

static enum args_result args_unknown_option(struct args_reader *r, const char *name, char letter)
{
	const struct option *near = name ? command_suggest_option(&r->args->path, name) : NULL;
	char title[80];

	command_title(&r->args->path, title, sizeof(title));
	if (!name)
		return args_wrong(r, "%s has no option -%c", title, letter);
	if (near)
		return args_wrong(r, "%s has no option --%.60s; did you mean --%s?", title, name, near->name);
	return args_wrong(r, "%s has no option --%.60s", title, name);
}

/* Whether `value` is one of the words of "read|write"; true for metavariables such as FILE, which say nothing. */
static bool args_is_word(const char *words, const char *value)
{
	size_t len = strlen(value);

	if (!strchr(words, '|') || words[0] < 'a')
		return true;
	for (const char *c = words; c; c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL) {
		if (strncmp(c, value, len) == 0 && (c[len] == '|' || c[len] == '\0'))
			return len > 0;
	}
	return false;
}

/* `value` NULL: it is the next word. */
static enum args_result args_add(struct args_reader *r, const struct option *option, const char *value)
{
	struct args *args = r->args;

	if (!option->value && value)
		return args_wrong(r, "--%s takes no value", option->name);
	if (option->value && !value) {
		if (r->at == r->argc)
			return args_wrong(r, "--%s needs a value: --%s %s", option->name, option->name, option->value);
		value = r->argv[r->at++];
	}
	if (!option->many && option->value && args_has(args, option->name))
		return args_wrong(r, "--%s is given twice", option->name);
	if (value && !args_is_word(option->value, value))
		return args_wrong(r, "--%s is one of %s, not \"%.60s\"", option->name, option->value, value);
	args->given[args->given_count++] = (struct args_given){.option = option, .value = value};
	return ARGS_OK;
}

static enum args_result args_long(struct args_reader *r, const char *word)
{
	const char *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : strlen(word);
	const struct option *option = command_option(&r->args->path, word, len, 0);

	if (len == 4 && memcmp(word, "help", 4) == 0) {
		r->help = true;
		return ARGS_OK;
	}
	if (!option) {
		char name[64];

		snprintf(name, sizeof(name), "%.*s", (int)(len < 60 ? len : 60), word);
		return args_unknown_option(r, name, 0);
	}
	return args_add(r, option, equals ? equals + 1 : NULL);
}

static enum args_result args_letters(struct args_reader *r, const char *letters)
{
	for (; *letters; letters++) {
		const struct option *option = command_option(&r->args->path, NULL, 0, *letters);
		enum args_result result;

		if (option && strcmp(option->name, "help") == 0) {
			r->help = true;
			continue;
		}
		if (!option)
			return args_unknown_option(r, NULL, *letters);
		if (option->value)
			return args_add(r, option, letters[1] ? letters + 1 : NULL);
		result = args_add(r, option, NULL);
		if (result != ARGS_OK)
			return result;
	}
	return ARGS_OK;
}

static enum args_result args_unknown_command(struct args_reader *r, const char *word)
{
	const struct command *here = args_command(r->args);
	const struct command *near = command_suggest(here, word);
	const struct command *noun = r->args->path.depth == 1 ? command_noun_of(here, word) : NULL;
	char title[80];

	command_title(&r->args->path, title, sizeof(title));
	if (near)
		return args_wrong(r, "%s has no command \"%.60s\"; did you mean \"%s\"?", title, word, near->name);
	if (noun)
		return args_wrong(r, "%s has no command \"%.60s\"; did you mean \"%s %s\"?", title, word, noun->name,
				  word);
	return args_wrong(r, "%s has no command \"%.60s\"", title, word);
}

static enum args_result args_word(struct args_reader *r, const char *word)
{
	struct args *args = r->args;
	const struct command *here = args_command(args);
	size_t wanted = 0;

	if (here->commands) {
		const struct command *child = command_child(here, word);

		if (!child)
			return args_unknown_command(r, word);
		args->path.at[args->path.depth++] = child;
		return ARGS_OK;
	}
	while (here->operands && here->operands[wanted].name)
		wanted++;
	if (wanted > 0 && here->operands[wanted - 1].many)
		wanted = ARGS_OPERANDS_MAX;
	if (args->operand_count == wanted)
		return args_wrong(r, "\"%.60s\" is one argument too many", word);
	args->operands[args->operand_count++] = word;
	return ARGS_OK;
}

/* Whether what was read is a whole command. */
static enum args_result args_complete(struct args_reader *r)
{
	const struct command *here = args_command(r->args);
	const struct operand *operand;
	char title[80], names[200] = "";
	size_t used = 0;

	command_title(&r->args->path, title, sizeof(title));
	if (here->commands) {
		for (size_t i = 0; here->commands[i] && used < sizeof(names); i++) {
			if (here->commands[i]->takes & COMMAND_HIDDEN)
				continue;
			used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", used ? ", " : "",
						 here->commands[i]->name);
		}
		return args_wrong(r, "%s needs a command: %s", title, names);
	}
	if (!here->operands)
		return ARGS_OK;
	operand = here->operands;
	for (size_t i = 0; operand->name && i < r->args->operand_count; i++)
		operand++;
	if (operand->name && !operand->optional)
		return args_wrong(r, "%s needs %s: %s", title, operand->name, operand->help);
	return ARGS_OK;
}

enum args_result args_parse(const struct command *root, size_t argc, char *const argv[], struct args *ret,
			    char ret_error[ARGS_ERROR_SIZE])
{
	struct args_reader r = {.args = ret, .argc = argc, .argv = argv, .error = ret_error};
	enum args_result result = ARGS_OK;
	bool options = true;
	size_t letters = 1;

	memset(ret, 0, sizeof(*ret));
	ret_error[0] = '\0';
	ret->path.at[0] = root;
	ret->path.depth = 1;
	for (size_t i = 0; i < argc; i++)
		letters += strlen(argv[i]) + 1; /* each letter may be an option */
	ret->given = calloc(letters, sizeof(*ret->given));
	if (!ret->given)
		return ARGS_NO_MEMORY;
	while (result == ARGS_OK && r.at < argc) {
		const char *word = argv[r.at++];

		if (options && strcmp(word, "--") == 0)
			options = false;
		else if (options && word[0] == '-' && word[1] == '-')
			result = args_long(&r, word + 2);
		else if (options && word[0] == '-' && word[1])
			result = args_letters(&r, word + 1);
		else
			result = args_word(&r, word);
	}
	if (r.help)
		return ARGS_HELP;
	return result == ARGS_OK ? args_complete(&r) : result;
}

void args_deinit(struct args *args)
{
	free(args->given);
	args->given = NULL;
	args->given_count = 0;
}

const char *args_nth(const struct args *args, const char *option, size_t n)
{
	for (size_t i = 0; i < args->given_count; i++) {
		if (strcmp(args->given[i].option->name, option) == 0 && n-- == 0)
			return args->given[i].value;
	}
	return NULL;
}

bool args_has(const struct args *args, const char *option)
{
	for (size_t i = 0; i < args->given_count; i++) {
		if (strcmp(args->given[i].option->name, option) == 0)
			return true;
	}
	return false;
}

const char *args_text(const struct args *args, const char *option)
{
	const char *value = NULL;

	for (size_t i = 0; i < args->given_count; i++) {
		if (strcmp(args->given[i].option->name, option) == 0)
			value = args->given[i].value;
	}
	return value;
}

const char *args_operand(const struct args *args, size_t n)
{
	return n < args->operand_count ? args->operands[n] : NULL;
}
