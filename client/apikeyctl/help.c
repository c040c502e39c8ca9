#include "client/apikeyctl/help.h"

#include <string.h>

enum { HELP_COLUMN = 30 };

void help_wrap(FILE *out, int indent, const char *text)
{
	int column = 0;

	while (*text) {
		size_t word = strcspn(text, " \n");

		if (column > 0 && column + 1 + (int)word > HELP_WIDTH - indent) {
			fputc('\n', out);
			column = 0;
		}
		fprintf(out, "%*s%.*s", column ? 1 : indent, "", (int)word, text);
		column += (column ? 1 : 0) + (int)word;
		text += word;
		if (*text == '\n') {
			fputc('\n', out);
			column = 0;
		}
		if (*text)
			text++;
	}
	if (column)
		fputc('\n', out);
}

/* "  head   text", the text wrapped in a column of its own. */
static void help_item(FILE *out, const char *head, const char *text)
{
	int len = (int)strlen(head);
	const char *rest = text;
	int width = HELP_WIDTH - HELP_COLUMN, column = 0;

	fprintf(out, "  %s", head);
	if (len + 3 > HELP_COLUMN)
		fprintf(out, "\n%*s", HELP_COLUMN, "");
	else
		fprintf(out, "%*s", HELP_COLUMN - len - 2, "");
	while (*rest) {
		int word = (int)strcspn(rest, " ");

		if (column > 0 && column + 1 + word > width) {
			fprintf(out, "\n%*s", HELP_COLUMN, "");
			column = 0;
		}
		fprintf(out, "%s%.*s", column ? " " : "", word, rest);
		column += word + (column ? 1 : 0);
		rest += word;
		if (*rest)
			rest++;
	}
	fputc('\n', out);
}

static void help_usage(FILE *out, const struct command_path *path)
{
	const struct command *command = path->at[path->depth - 1];
	char title[80];

	command_title(path, title, sizeof(title));
	fprintf(out, "usage: %s", title);
	if (path->depth == 1)
		fputs(" [options] COMMAND …", out);
	else if (command->commands)
		fputs(" COMMAND …", out);
	for (const struct operand *o = command->operands; o && o->name; o++)
		fprintf(out, o->optional ? " [%s%s]" : " %s%s", o->name, o->many ? " …" : "");
	if (!command->commands)
		fputs(" [options]", out);
	fputs("\n\n", out);
	help_wrap(out, 0, command->summary);
	if (command->details) {
		fputc('\n', out);
		help_wrap(out, 0, command->details);
	}
}

static void help_options(FILE *out, const char *heading, const struct option *const tables[], size_t count)
{
	bool any = false;

	for (size_t i = 0; i < count; i++) {
		for (const struct option *o = tables[i]; o->name; o++) {
			char head[80], letter[8] = "    ";

			if (!any)
				fprintf(out, "\n%s\n", heading);
			any = true;
			if (o->letter)
				snprintf(letter, sizeof(letter), "-%c, ", o->letter);
			snprintf(head, sizeof(head), "%s--%s%s%s", letter, o->name, o->value ? " " : "",
				 o->value ? o->value : "");
			help_item(out, head, o->help);
		}
	}
}

static const char help_exit[] =
	"0 allow, or done; 1 deny; 2 wrong usage, nothing was asked; 3 unavailable: the daemon or the "
	"database cannot be asked or cannot decide; 4 refused: not found, exists, invalid, never "
	"allowed, not confirmed; 5 waited in vain (wait, --wait): what was changed is changed, but a daemon may still "
	"answer from before.";

void help_print(FILE *out, const struct command_path *path)
{
	const struct command *command = path->at[path->depth - 1];
	struct command_path own = *path;
	const struct option *tables[COMMAND_DEPTH * 5];

	/* The program's own options stand in its help alone; a noun's stand in its verbs' too. */
	if (path->depth > 1) {
		own.depth--;
		for (size_t i = 0; i < own.depth; i++)
			own.at[i] = path->at[i + 1];
	}
	help_usage(out, path);
	if (command->commands)
		fputs("\nCommands:\n", out);
	for (size_t i = 0; command->commands && command->commands[i]; i++) {
		if (!(command->commands[i]->takes & COMMAND_HIDDEN))
			help_item(out, command->commands[i]->name, command->commands[i]->summary);
	}
	if (command->operands)
		fputs("\nArguments:\n", out);
	for (const struct operand *o = command->operands; o && o->name; o++)
		help_item(out, o->name, o->help);
	help_options(out, "Options:", tables, command_tables(&own, tables));
	if (path->depth == 1) {
		fputs("\nExit codes:\n", out);
		help_wrap(out, 2, help_exit);
		fputs("\nThe manual: man apikeyctl. Each command's own help: apikeyctl COMMAND --help.\n", out);
	} else {
		fputs("\nOptions for all commands, and exit codes: apikeyctl --help\n", out);
	}
}

static void help_offer(FILE *out, const char *word, const char *begin)
{
	if (strncmp(word, begin, strlen(begin)) == 0)
		fprintf(out, "%s\n", word);
}

static bool help_is_file(const char *name)
{
	return strstr(name, "FILE") || strcmp(name, "DIR") == 0 || strcmp(name, "PATH") == 0;
}

static void help_offer_value(FILE *out, const struct option *option, const char *begin)
{
	const char *words = option->value;

	if (help_is_file(words)) {
		fputs(":files\n", out);
		return;
	}
	if (!strchr(words, '|') || words[0] < 'a')
		return;
	while (*words) {
		char word[40];
		size_t len = strcspn(words, "|");

		snprintf(word, sizeof(word), "%.*s", (int)len, words);
		help_offer(out, word, begin);
		words += len + (words[len] == '|');
	}
}

/* The operand that comes after `before` others. */
static void help_offer_operand(FILE *out, const struct operand *operand, size_t before)
{
	for (; operand && operand->name && before > 0 && !operand->many; before--)
		operand++;
	if (operand && operand->name && help_is_file(operand->name))
		fputs(":files\n", out);
}

static void help_offer_options(FILE *out, const struct command_path *path, const char *begin)
{
	const struct option *tables[COMMAND_DEPTH * 5];
	size_t count = command_tables(path, tables);
	char word[80];

	for (size_t i = 0; i < count; i++) {
		for (const struct option *o = tables[i]; o->name; o++) {
			snprintf(word, sizeof(word), "--%s", o->name);
			help_offer(out, word, begin);
		}
	}
	help_offer(out, "--help", begin);
}

void help_complete(FILE *out, const struct command *root, size_t count, char *const words[])
{
	struct command_path path = {.at = {root}, .depth = 1};
	const struct option *waiting = NULL; /* its value comes next */
	const char *last = count ? words[count - 1] : "";
	const struct command *here;
	size_t operands = 0;

	for (size_t i = 0; i + 1 < count; i++) {
		const char *word = words[i];

		if (waiting) {
			waiting = NULL;
		} else if (word[0] == '-' && word[1] == '-') {
			waiting = command_option(&path, word + 2, strlen(word + 2), 0);
			waiting = waiting && waiting->value ? waiting : NULL;
		} else if (word[0] != '-') {
			const struct command *child = command_child(path.at[path.depth - 1], word);

			if (child && path.depth < COMMAND_DEPTH)
				path.at[path.depth++] = child;
			else
				operands++;
		}
	}
	here = path.at[path.depth - 1];
	if (waiting) {
		help_offer_value(out, waiting, last);
		return;
	}
	if (last[0] == '-') {
		help_offer_options(out, &path, last);
		return;
	}
	for (size_t i = 0; here->commands && here->commands[i]; i++) {
		if (!(here->commands[i]->takes & COMMAND_HIDDEN))
			help_offer(out, here->commands[i]->name, last);
	}
	help_offer_operand(out, here->operands, operands);
}
