#include "client/apikeyctl/db_directory.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DB_TEXT_MAX = 16 << 20 }; /* bytes of one migration: more is a mistake */

int db_migration_number(const char *file_name)
{
	size_t len = strlen(file_name);
	int number = 0;

	if (len < strlen("0001_x.sql") || strcmp(file_name + len - 4, ".sql") != 0 || file_name[4] != '_')
		return 0;
	for (int i = 0; i < 4; i++) {
		if (file_name[i] < '0' || file_name[i] > '9')
			return 0;
		number = number * 10 + (file_name[i] - '0');
	}
	return number;
}

/* Whether this program stands in the build directory that it was built in. */
static bool db_directory_is_build(void)
{
	static const char build[] = APIKEYCTL_BUILD_DIR "/";
	char path[4096];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path));

	return len > (ssize_t)strlen(build) && memcmp(path, build, strlen(build)) == 0;
}

static const char *db_directory_choose(const struct args *args)
{
	const char *path = args_text(args, "sql-dir");

	if (!path)
		path = getenv("APIKEYD_SQL_DIR");
	if (path && *path)
		return path;
	return db_directory_is_build() ? APIKEYCTL_SOURCE_SQL_DIR : APIKEYCTL_SQL_DIR;
}

static int db_directory_add(struct db_directory *directory, const char *file_name, int version)
{
	struct db_migration *grown, *migration;

	grown = reallocarray(directory->migrations, directory->count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	directory->migrations = grown;
	migration = &grown[directory->count++];
	*migration = (struct db_migration){.version = version, .name = strndup(file_name, strlen(file_name) - 4)};
	if (asprintf(&migration->path, "%s/%s", directory->path, file_name) < 0)
		migration->path = NULL;
	return migration->name && migration->path ? 0 : -ENOMEM;
}

static int db_migration_compare(const void *a, const void *b)
{
	const struct db_migration *left = a, *right = b;

	return left->version - right->version;
}

/* Numbered from 1 without a gap or a double. */
static int db_directory_verify(const struct ctl *ctl, const struct db_directory *directory)
{
	if (directory->count == 0)
		return ctl_say(ctl, CTL_USAGE,
			       "%s holds no migrations (NNNN_name.sql): name their directory with --sql-dir",
			       directory->path);
	for (size_t i = 0; i < directory->count; i++) {
		const struct db_migration *migration = &directory->migrations[i];

		if (migration->version == (int)i + 1)
			continue;
		if (i > 0 && migration->version == directory->migrations[i - 1].version)
			return ctl_say(ctl, CTL_USAGE, "%s has two migrations %04d: %s and %s", directory->path,
				       migration->version, directory->migrations[i - 1].name, migration->name);
		return ctl_say(ctl, CTL_USAGE, "%s lacks migration %04zu: is the directory whole?", directory->path,
			       i + 1);
	}
	return CTL_DONE;
}

int db_directory_read(const struct ctl *ctl, const struct args *args, struct db_directory *ret)
{
	const char *path = db_directory_choose(args);
	struct dirent *entry;
	int err = 0;
	DIR *dir;

	*ret = (struct db_directory){.path = strdup(path)};
	if (!ret->path)
		return ctl_no_memory(ctl);
	dir = opendir(path);
	if (!dir)
		return ctl_say(ctl, CTL_USAGE,
			       "the migrations' directory %s cannot be read (%s): name it with --sql-dir", path,
			       strerror(errno));
	while (!err && (entry = readdir(dir)) != NULL) {
		int version = db_migration_number(entry->d_name);

		if (version > 0)
			err = db_directory_add(ret, entry->d_name, version);
	}
	closedir(dir);
	if (err)
		return ctl_no_memory(ctl);
	if (ret->count > 0)
		qsort(ret->migrations, ret->count, sizeof(*ret->migrations), db_migration_compare);
	return db_directory_verify(ctl, ret);
}

void db_directory_deinit(struct db_directory *directory)
{
	for (size_t i = 0; i < directory->count; i++) {
		free(directory->migrations[i].name);
		free(directory->migrations[i].path);
	}
	free(directory->migrations);
	free(directory->path);
	*directory = (struct db_directory){0};
}

char *db_migration_text(const struct ctl *ctl, const struct db_migration *migration)
{
	FILE *file = fopen(migration->path, "re");
	char *text = NULL;
	size_t len = 0, cap = 0;
	ssize_t got = file ? getdelim(&text, &cap, '\0', file) : -1;

	if (got >= 0)
		len = (size_t)got;
	if (!file || ferror(file) || got < 0)
		ctl_say(ctl, CTL_USAGE, "%s cannot be read: %s", migration->path,
			errno ? strerror(errno) : "it is empty");
	else if (len > DB_TEXT_MAX || strlen(text) != len)
		ctl_say(ctl, CTL_USAGE, "%s is no SQL: it is too long or has a zero byte in it", migration->path);
	else
		goto out;
	free(text);
	text = NULL;
out:
	if (file)
		fclose(file);
	return text;
}
