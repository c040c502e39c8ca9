#include "daemon/confine/names.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_LEN_MAX = 32 };

static const char *const databases[] = {"passwd", "group", "initgroups", "hosts"};

static bool is_database(const char *name)
{
	for (unsigned i = 0; i < sizeof(databases) / sizeof(databases[0]); i++) {
		if (strcmp(databases[i], name) == 0)
			return true;
	}
	return false;
}

static void load(const char *service)
{
	char file[NAME_LEN_MAX + 16];

	if (strlen(service) > NAME_LEN_MAX || strchr(service, '/'))
		return;
	snprintf(file, sizeof(file), "libnss_%s.so.2", service);
	dlopen(file, RTLD_LAZY | RTLD_NODELETE);
}

/* "hosts: files mdns4_minimal [NOTFOUND=return] dns # a comment": words, but for what is in brackets. */
static void read_line(char *line)
{
	char *rest = NULL, *word;

	line[strcspn(line, "#\n")] = '\0';
	for (char *open; (open = strchr(line, '['));) {
		size_t len = strcspn(open, "]");

		memset(open, ' ', open[len] ? len + 1 : len);
	}
	word = strtok_r(line, ": \t", &rest);
	if (!word || !is_database(word))
		return;
	while ((word = strtok_r(NULL, ": \t", &rest)))
		load(word);
}

void names_load(void)
{
	FILE *file = fopen("/etc/nsswitch.conf", "re");
	char *line = NULL;
	size_t size = 0;

	while (file && getline(&line, &size, file) > 0)
		read_line(line);
	free(line);
	if (file)
		fclose(file);
	dlerror();
}
