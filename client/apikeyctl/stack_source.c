#include "client/apikeyctl/stack_source.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/modules/load.h"

static const struct apikeyd_module *find_module(void *data, const char *name, const char **ret_why)
{
	struct stack_source *source = data;

	*ret_why = source->why;
	return modules_find(name, source->modules, source->why, sizeof(source->why));
}

char *stack_source_path(const struct stack_source *source, const char *name)
{
	size_t len = strlen(source->directory);
	char *path;

	return asprintf(&path, "%s%s%s", source->directory, len > 0 && source->directory[len - 1] == '/' ? "" : "/",
			name) < 0
		       ? NULL
		       : path;
}

bool stack_source_is_directory(const char *path)
{
	struct stat found;

	return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

bool stack_source_split(const char *path, char **ret_directory, char **ret_name)
{
	const char *slash = strrchr(path, '/');
	char *name = strdup(slash ? slash + 1 : path), *directory;

	if (!slash)
		directory = strdup(".");
	else
		directory = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (!name || !directory) {
		free(name);
		free(directory);
		return false;
	}
	*ret_directory = directory;
	*ret_name = name;
	return true;
}

/* Keeps a path for the places of lines. NULL without memory. */
static const char *keep_path(struct stack_source *source, const char *name)
{
	char **paths = reallocarray(source->paths, source->path_count + 1, sizeof(*paths));
	char *path;

	if (!paths)
		return NULL;
	source->paths = paths;
	path = stack_source_path(source, name);
	if (!path)
		return NULL;
	paths[source->path_count++] = path;
	return path;
}

static bool find_stack(void *data, const char *name, char **ret_text, size_t *ret_len, const char **ret_path,
		       const char **ret_why)
{
	struct stack_source *source = data;
	const char *path = keep_path(source, name);
	char *text = malloc(STACK_FILE_MAX + 1);
	FILE *file = path ? fopen(path, "re") : NULL;
	size_t len = 0;

	*ret_path = path;
	*ret_why = source->why;
	if (!path || !text)
		snprintf(source->why, sizeof(source->why), "no memory");
	else if (!file)
		snprintf(source->why, sizeof(source->why), "%s: %s", path, strerror(errno));
	else
		len = fread(text, 1, STACK_FILE_MAX + 1, file);
	if (file && (ferror(file) || len > STACK_FILE_MAX)) {
		snprintf(source->why, sizeof(source->why), "%s: cannot be read, or is too long for a stack", path);
		fclose(file);
		file = NULL;
	}
	if (!file || !text) {
		free(text);
		return false;
	}
	fclose(file);
	*ret_text = text;
	*ret_len = len;
	return true;
}

const char *stack_source_modules(const struct args *args)
{
	const char *given = args_text(args, "module-dir");

	return given ? given : APIKEYD_MODULE_DIR;
}

void stack_source_init(struct stack_source *source, const struct args *args, const char *directory)
{
	const char *given = args_text(args, "dir");

	*source = (struct stack_source){.directory = directory ? directory
						     : given   ? given
							       : STACK_SOURCE_DIRECTORY,
					.modules = stack_source_modules(args)};
	source->finder = (struct stack_finder){.module = find_module, .stack = find_stack, .data = source};
}

void stack_source_deinit(struct stack_source *source)
{
	for (size_t i = 0; i < source->path_count; i++)
		free(source->paths[i]);
	free(source->paths);
}

/* ---- a directory ---- */

static int select_entry(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static bool make_entry(const struct stack_source *source, const char *name, struct stack_entry *ret)
{
	struct stat found;

	ret->name = strdup(name);
	ret->path = ret->name ? stack_source_path(source, name) : NULL;
	if (!ret->path)
		return false;
	if (stack_left_over(name))
		ret->kind = STACK_ENTRY_LEFT_OVER;
	else if (!stack_name_ok(name, strlen(name)))
		ret->kind = STACK_ENTRY_BAD_NAME;
	else if (stat(ret->path, &found) == 0 && !S_ISREG(found.st_mode))
		ret->kind = STACK_ENTRY_NO_FILE;
	return true;
}

int stack_source_entries(const struct stack_source *source, struct stack_entry **ret, size_t *ret_count)
{
	struct dirent **found;
	struct stack_entry *entries;
	int count = scandir(source->directory, &found, select_entry, by_name);
	bool good;

	if (count < 0)
		return -1;
	entries = calloc((size_t)count + 1, sizeof(*entries));
	good = entries != NULL;
	for (int i = 0; i < count; i++) {
		good = good && make_entry(source, found[i]->d_name, &entries[i]);
		free(found[i]);
	}
	free(found);
	if (!good) {
		stack_source_entries_free(entries, entries ? (size_t)count : 0);
		errno = ENOMEM;
		return -1;
	}
	*ret = entries;
	*ret_count = (size_t)count;
	return 0;
}

void stack_source_entries_free(struct stack_entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(entries[i].name);
		free(entries[i].path);
	}
	free(entries);
}
