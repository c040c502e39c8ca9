#include "client/apikeyctl/stack_source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/modules/load.h"

static const struct apikeyd_module *find_module(void *data, const char *name, const char **ret_why)
{
	struct stack_source *source = data;

	*ret_why = source->why;
	return modules_find(name, source->modules, source->why, sizeof(source->why));
}

/* Keeps a path for the places of lines. NULL without memory. */
static const char *keep_path(struct stack_source *source, const char *name)
{
	char **paths = reallocarray(source->paths, source->path_count + 1, sizeof(*paths));
	char *path;

	if (!paths)
		return NULL;
	source->paths = paths;
	if (asprintf(&path, "%s/%s", source->directory, name) < 0)
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
