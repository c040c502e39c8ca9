#include "client/apikeyctl/command.h"

#include <stdio.h>
#include <string.h>

static const struct option command_key_options[] = {
	{.name = "key-fd", .value = "N", .help = "read the key from this file descriptor"},
	{.name = "key-file", .value = "FILE", .help = "read the key from this file; - is standard input"},
	{.name = NULL},
};

static const struct option command_list_options[] = {
	{.name = "limit", .value = "N", .help = "stop after so many rows (default: all of them)"},
	{.name = NULL},
};

static const struct option command_confirm_options[] = {
	{.name = "yes", .letter = 'y', .help = "do not ask; needed where there is no terminal to ask on"},
	{.name = NULL},
};

static const struct option command_change_options[] = {
	{.name = "wait", .help = "return when no daemon answers from before the change any more (see apikeyctl wait)"},
	{.name = NULL},
};

const struct command *command_child(const struct command *command, const char *name)
{
	for (size_t i = 0; command->commands && command->commands[i]; i++) {
		if (strcmp(command->commands[i]->name, name) == 0)
			return command->commands[i];
	}
	return NULL;
}

size_t command_tables(const struct command_path *path, const struct option *ret_tables[COMMAND_DEPTH * 5])
{
	size_t count = 0;

	for (size_t i = path->depth; i-- > 0;) {
		const struct command *command = path->at[i];

		if (command->options)
			ret_tables[count++] = command->options;
		if (command->takes & COMMAND_KEY)
			ret_tables[count++] = command_key_options;
		if (command->takes & COMMAND_LIST)
			ret_tables[count++] = command_list_options;
		if (command->takes & COMMAND_CONFIRM)
			ret_tables[count++] = command_confirm_options;
		if (command->takes & COMMAND_CHANGE)
			ret_tables[count++] = command_change_options;
	}
	return count;
}

const struct option *command_option(const struct command_path *path, const char *name, size_t len, char letter)
{
	const struct option *tables[COMMAND_DEPTH * 5];
	size_t count = command_tables(path, tables);

	for (size_t i = 0; i < count; i++) {
		for (const struct option *o = tables[i]; o->name; o++) {
			if (name ? strlen(o->name) == len && memcmp(o->name, name, len) == 0
				 : letter && o->letter == letter)
				return o;
		}
	}
	return NULL;
}

void command_title(const struct command_path *path, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; i < path->depth && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%s", i ? " " : "", path->at[i]->name);
}

enum { WORD_MAX = 31 };

size_t command_distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	size_t d[WORD_MAX + 1][WORD_MAX + 1];

	if (la > WORD_MAX || lb > WORD_MAX)
		return la > lb ? la : lb;
	for (size_t i = 0; i <= la; i++)
		d[i][0] = i;
	for (size_t j = 0; j <= lb; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= la; i++) {
		for (size_t j = 1; j <= lb; j++) {
			size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

			if (d[i - 1][j] + 1 < best)
				best = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < best)
				best = d[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	}
	return d[la][lb];
}

/* How far a word may be off and still be meant: a third of its letters, or the beginning of the right one. */
static bool command_is_near(const char *word, const char *name, size_t *ret_distance)
{
	size_t len = strlen(word), distance = command_distance(word, name);

	if (len >= 2 && strncmp(word, name, len) == 0)
		distance = 1;
	*ret_distance = distance;
	return distance <= (len < 4 ? 1 : len < 7 ? 2 : 3) && distance < strlen(name);
}

const struct command *command_suggest(const struct command *command, const char *word)
{
	const struct command *found = NULL;
	size_t best = 0;

	for (size_t i = 0; command->commands && command->commands[i]; i++) {
		const struct command *child = command->commands[i];
		size_t distance = 0;

		if (!(child->takes & COMMAND_HIDDEN) && command_is_near(word, child->name, &distance) &&
		    (!found || distance < best)) {
			found = child;
			best = distance;
		}
	}
	return found;
}

const struct command *command_noun_of(const struct command *root, const char *word)
{
	for (size_t i = 0; root->commands && root->commands[i]; i++) {
		const struct command *noun = root->commands[i];

		if (!(noun->takes & COMMAND_HIDDEN) && command_child(noun, word))
			return noun;
	}
	return NULL;
}

const struct option *command_suggest_option(const struct command_path *path, const char *name)
{
	const struct option *tables[COMMAND_DEPTH * 5], *found = NULL;
	size_t count = command_tables(path, tables), best = 0;

	for (size_t i = 0; i < count; i++) {
		for (const struct option *o = tables[i]; o->name; o++) {
			size_t distance = 0;

			if (command_is_near(name, o->name, &distance) && (!found || distance < best)) {
				found = o;
				best = distance;
			}
		}
	}
	return found;
}
