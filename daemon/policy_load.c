/* Stacks and modules as they lie in their directories. */
#include "daemon/policy.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/modules/load.h"
#include "daemon/trusted.h"

enum { WHY_SIZE = 512 };

/* The files of a directory, read once: all stacks are compiled from the same texts. */
struct stack_file {
	char *name, *path, *text;
	size_t len;
	char *why; /* it cannot be used; NULL: it can */
};

struct directory {
	const char *path, *module_path;
	struct stack_file *files;
	uint32_t count;
	char why[WHY_SIZE];
};

static int select_stack(const struct dirent *entry)
{
	return !stack_left_over(entry->d_name);
}

static char *read_text(int fd, size_t *ret_len, char *why, size_t why_size)
{
	char *text = malloc(STACK_FILE_MAX + 1);
	size_t len = 0;
	ssize_t n = 0;

	while (text && len <= STACK_FILE_MAX && (n = read(fd, text + len, STACK_FILE_MAX + 1 - len)) > 0)
		len += (size_t)n;
	if (!text)
		snprintf(why, why_size, "no memory");
	else if (n < 0)
		snprintf(why, why_size, "%s", strerror(errno));
	else if (len > STACK_FILE_MAX)
		snprintf(why, why_size, "longer than %d KiB, which no stack is", STACK_FILE_MAX / 1024);
	if (!text || n < 0 || len > STACK_FILE_MAX) {
		free(text);
		return NULL;
	}
	*ret_len = len;
	return text;
}

/* False without memory. */
static bool read_stack(const struct directory *directory, const char *name, struct stack_file *ret)
{
	char why[WHY_SIZE] = "";
	int fd = -1;

	*ret = (struct stack_file){.name = strdup(name)};
	if (!ret->name || asprintf(&ret->path, "%s/%s", directory->path, name) < 0) {
		ret->path = NULL;
		return false;
	}
	if (!stack_name_ok(name, strlen(name)))
		snprintf(why, sizeof(why), "this is no name of a stack: letters, digits, '-', '_' and '.', at most %d",
			 STACK_NAME_MAX);
	else if (trusted_open(ret->path, TRUSTED_FILE, &fd, why, sizeof(why)) == 0)
		ret->text = read_text(fd, &ret->len, why, sizeof(why));
	if (fd >= 0)
		close(fd);
	if (ret->text)
		return true;
	ret->why = strdup(why);
	return ret->why != NULL;
}

static void directory_deinit(struct directory *directory)
{
	for (uint32_t i = 0; i < directory->count; i++) {
		struct stack_file *file = &directory->files[i];

		free(file->name);
		free(file->text);
		free(file->why);
		free(file->path);
	}
	free(directory->files);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* 0, or -errno with a line in `why`. */
static int read_directory(struct directory *directory)
{
	struct dirent **entries = NULL;
	int rc, fd, count = 0;
	bool good = true;

	rc = trusted_open(directory->path, TRUSTED_DIRECTORY, &fd, directory->why, sizeof(directory->why));
	if (rc != 0)
		return rc;
	count = scandirat(fd, ".", &entries, select_stack, by_name);
	if (count < 0) {
		rc = -errno;
		count = 0;
	}
	close(fd);
	if (rc == 0 && count > STACK_FILES_MAX)
		rc = -E2BIG;
	if (rc == 0) {
		directory->files = calloc((unsigned)count + 1u, sizeof(*directory->files));
		good = directory->files != NULL;
	}
	for (int i = 0; i < count; i++) {
		if (rc == 0 && good)
			good = read_stack(directory, entries[i]->d_name, &directory->files[directory->count++]);
		free(entries[i]);
	}
	free(entries);
	if (rc == 0 && !good)
		rc = -ENOMEM;
	if (rc != 0)
		snprintf(directory->why, sizeof(directory->why), "%s", strerror(-rc));
	return rc;
}

static const struct apikeyd_module *find_module(void *data, const char *name, const char **ret_why)
{
	struct directory *directory = data;

	*ret_why = directory->why;
	return modules_find(name, directory->module_path, directory->why, sizeof(directory->why));
}

static bool find_stack(void *data, const char *name, char **ret_text, size_t *ret_len, const char **ret_path,
		       const char **ret_why)
{
	struct directory *directory = data;

	for (uint32_t i = 0; i < directory->count; i++) {
		struct stack_file *file = &directory->files[i];

		if (strcmp(file->name, name) != 0)
			continue;
		*ret_path = policy_path(file->path);
		*ret_why = file->why ? file->why : "no memory";
		*ret_text = *ret_path && file->text ? malloc(file->len + 1) : NULL;
		if (!*ret_text)
			return false;
		memcpy(*ret_text, file->text, file->len);
		*ret_len = file->len;
		return true;
	}
	snprintf(directory->why, sizeof(directory->why), "there is no such file in %s", directory->path);
	*ret_why = directory->why;
	return false;
}

struct policy *policy_load(const char *path, const char *module_path, const struct policy_host *host,
			   const struct policy *before, struct stack_faults *faults)
{
	struct directory directory = {.path = path, .module_path = module_path};
	const struct stack_finder finder = {.module = find_module, .stack = find_stack, .data = &directory};
	struct policy *policy = NULL;
	const char **names = NULL;
	unsigned told = 0;

	if (read_directory(&directory) != 0) {
		stack_fault(faults, path, (struct stack_place){0, 0}, "%s", directory.why);
		goto out;
	}
	names = calloc(directory.count + 1u, sizeof(*names));
	for (uint32_t i = 0; i < directory.count; i++) {
		const struct stack_file *file = &directory.files[i];

		if (file->why) {
			stack_fault(faults, file->path, (struct stack_place){0, 0}, "%s", file->why);
			told++;
		} else if (names) {
			names[i - told] = file->name;
		}
	}
	if (!names)
		stack_fault(faults, path, (struct stack_place){0, 0}, "no memory");
	else
		policy = policy_new(names, directory.count - told, &finder, host, before, faults);
	if (policy && told > 0) {
		policy_unref(policy);
		policy = NULL;
	}
out:
	free(names);
	directory_deinit(&directory);
	return policy;
}
