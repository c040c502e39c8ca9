#include "client/apikeyctl/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *settings_trimmed(const char *text, size_t len)
{
	while (len > 0 && (*text == ' ' || *text == '\t')) {
		text++;
		len--;
	}
	while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t' || text[len - 1] == '\r'))
		len--;
	return strndup(text, len);
}

static bool settings_add(struct settings *settings, const char *section, const char *line, size_t len)
{
	const char *equals = memchr(line, '=', len);
	struct setting *grown, *item;

	if (!equals)
		return true;
	grown = reallocarray(settings->items, settings->count + 1, sizeof(*grown));
	if (!grown)
		return false;
	settings->items = grown;
	item = &grown[settings->count++];
	item->section = strdup(section);
	item->name = settings_trimmed(line, (size_t)(equals - line));
	item->value = settings_trimmed(equals + 1, len - (size_t)(equals + 1 - line));
	return item->section && item->name && item->value;
}

/* A line that begins with white space goes on with the value before it. */
static bool settings_go_on(struct settings *settings, const char *line, size_t len)
{
	struct setting *item = settings->count ? &settings->items[settings->count - 1] : NULL;
	char *more = settings_trimmed(line, len), *joined = NULL;
	bool good = more != NULL;

	if (good && item && *more) {
		good = asprintf(&joined, "%s%s%s", item->value, *item->value ? " " : "", more) >= 0;
		if (good) {
			free(item->value);
			item->value = joined;
		}
	}
	free(more);
	return good;
}

bool settings_read(struct settings *settings, const char *text)
{
	char *section = strdup("");
	bool good = section != NULL;

	*settings = (struct settings){0};
	while (good && *text) {
		size_t len = strcspn(text, "\n");

		if (*text == '[') {
			const char *end = memchr(text, ']', len);

			free(section);
			section = end ? strndup(text + 1, (size_t)(end - text - 1)) : strdup("");
			good = section != NULL;
		} else if (*text == ' ' || *text == '\t') {
			good = settings_go_on(settings, text, len);
		} else if (*text != '#' && *text != ';') {
			good = settings_add(settings, section, text, len);
		}
		text += len + (text[len] == '\n');
	}
	free(section);
	return good;
}

void settings_deinit(struct settings *settings)
{
	for (size_t i = 0; i < settings->count; i++) {
		free(settings->items[i].section);
		free(settings->items[i].name);
		free(settings->items[i].value);
	}
	free(settings->items);
	*settings = (struct settings){0};
}

const char *settings_get(const struct settings *settings, const char *section, const char *name, const char *fallback)
{
	for (size_t i = 0; i < settings->count; i++) {
		const struct setting *item = &settings->items[i];

		if (strcmp(item->section, section) == 0 && strcmp(item->name, name) == 0)
			return item->value;
	}
	return fallback;
}

uint64_t settings_number(const struct settings *settings, const char *section, const char *name, uint64_t fallback)
{
	const char *text = settings_get(settings, section, name, NULL);

	return text ? strtoull(text, NULL, 10) : fallback;
}

const char *settings_socket(const struct settings *settings, size_t n)
{
	const char *last = "";

	if (settings->count == 0)
		return n == 0 ? "socket" : NULL;
	for (size_t i = 0; i < settings->count; i++) {
		const char *section = settings->items[i].section;

		if (strcmp(section, last) == 0 ||
		    (strcmp(section, "socket") != 0 && strncmp(section, "socket ", strlen("socket ")) != 0))
			continue;
		last = section;
		if (n-- == 0)
			return section;
	}
	return NULL;
}
