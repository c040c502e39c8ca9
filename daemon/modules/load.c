#include "daemon/modules/load.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/modules/table.h"
#include "daemon/trusted.h"

#define SUFFIX ".so"

enum { ERROR_SIZE = PATH_MAX + 512 };

/*
 * A shared object that this process has in it. It came in by the name of its descriptor, so that what was checked is
 * what was loaded. The loader takes an object for the one it has where their names are the same: so the descriptor
 * stays open, and its number is never another one's.
 */
struct loaded {
	struct loaded *next;
	struct stat file;
	int fd;
	struct apikeyd_module module; /* a copy, of our size */
	bool sound;		      /* false: it is in, but may not be used */
	char wrong[ERROR_SIZE];	      /* why */
	char name[];
};

static struct loaded *first;
static bool sealed;

/* ---- what is built in ---- */

static const struct apikeyd_module *find_built_in(const char *name)
{
	for (const struct apikeyd_module *const *at = modules_built_in; *at; at++)
		if (strcmp((*at)->name, name) == 0)
			return *at;
	return NULL;
}

/* Nobody shall believe that a file stands in for a module that is built in. */
static void tell_unused(const char *name, const char *directory, char *text, size_t text_size)
{
	char path[PATH_MAX];
	struct stat st;

	if (directory && snprintf(path, sizeof(path), "%s/%s" SUFFIX, directory, name) < (int)sizeof(path) &&
	    lstat(path, &st) == 0)
		snprintf(text, text_size, "%s: is not used; the module %s is built in, and its name is taken", path,
			 name);
}

/* ---- one shared object ---- */

/*
 * The symbol's address, and what there is of it, in bytes. NULL where the object itself does not have it: the loader
 * would find that of a library beneath it, too.
 */
static const void *find_symbol(void *handle, size_t *ret_size)
{
	const void *symbol = dlsym(handle, APIKEYD_MODULE_SYMBOL);
	struct link_map *own = NULL;
	void *extra = NULL;
	Dl_info info;

	if (!symbol || dlinfo(handle, RTLD_DI_LINKMAP, &own) || !dladdr1(symbol, &info, &extra, RTLD_DL_LINKMAP) ||
	    extra != own)
		return NULL;
	if (!dladdr1(symbol, &info, &extra, RTLD_DL_SYMENT) || !extra)
		return NULL;
	*ret_size = ((const ElfW(Sym) *)extra)->st_size;
	return symbol;
}

/* Copies what the object exports into a struct of our size, and looks at it. 0, or -EINVAL with one line in `error`. */
static int take_module(void *handle, const char *name, struct apikeyd_module *ret, char *error, size_t error_size)
{
	const size_t head = offsetof(struct apikeyd_module, size) + sizeof(ret->size);
	size_t size = 0;
	const void *symbol = find_symbol(handle, &size);

	if (!symbol || size < head) {
		snprintf(error, error_size, "exports no struct of the name " APIKEYD_MODULE_SYMBOL);
		return -EINVAL;
	}
	memcpy(ret, symbol, head);
	/* What it says of itself is looked at before it is believed to be that long. */
	if (ret->abi == APIKEYD_ABI && ret->size > size) {
		snprintf(error, error_size,
			 "says that its struct has %u bytes, and it has %zu; .size must be "
			 "sizeof(struct apikeyd_module)",
			 ret->size, size);
		return -EINVAL;
	}
	if (ret->abi == APIKEYD_ABI)
		memcpy(ret, symbol, ret->size < sizeof(*ret) ? ret->size : sizeof(*ret));
	if (modules_check(ret, error, error_size) != 0)
		return -EINVAL;
	if (strcmp(ret->name, name) != 0) {
		snprintf(error, error_size, "calls itself %s; the file must have that name", ret->name);
		return -EINVAL;
	}
	return 0;
}

/* What the loader says, with the path in place of the name that it knows the file by. */
static void tell_loader(const char *path, const char *own_name, char *text, size_t text_size)
{
	const char *said = dlerror();
	size_t len = strlen(own_name);

	if (!said)
		said = "cannot be loaded";
	if (strncmp(said, own_name, len) == 0 && strncmp(said + len, ": ", 2) == 0)
		said += len + 2;
	snprintf(text, text_size, "%s: %s", path, said);
}

/* Loads the file that `fd` is of, which was found trusted. On success, or where it came in unsound, it keeps `fd`. */
static struct loaded *load(const char *name, const char *path, int fd, const struct stat *file, char *text,
			   size_t text_size)
{
	struct loaded *loaded = calloc(1, sizeof(*loaded) + strlen(name) + 1);
	char own_name[64], error[512] = "";
	void *handle;

	if (!loaded) {
		snprintf(text, text_size, "%s: no memory", path);
		return NULL;
	}
	snprintf(own_name, sizeof(own_name), "/proc/self/fd/%d", fd);
	handle = dlopen(own_name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (!handle) {
		tell_loader(path, own_name, text, text_size);
		free(loaded);
		return NULL;
	}
	memcpy(loaded->name, name, strlen(name) + 1);
	loaded->fd = fd;
	loaded->file = *file;
	loaded->sound = take_module(handle, name, &loaded->module, error, sizeof(error)) == 0;
	if (!loaded->sound)
		snprintf(loaded->wrong, sizeof(loaded->wrong), "%s: %s", path, error);
	loaded->next = first;
	first = loaded;
	return loaded;
}

/* ---- which one it is ---- */

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool same_content(const struct stat *a, const struct stat *b)
{
	return same_file(a, b) && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/*
 * What is in already under this name: the sound one, else that of this very file, else NULL, and then the file may be
 * loaded. An unsound one that was put right by a new file can be tried again; one that was written over in its place
 * cannot, since the loader knows it as the same.
 */
static struct loaded *find_loaded(const char *name, const struct stat *file)
{
	struct loaded *same = NULL;

	for (struct loaded *at = first; at; at = at->next) {
		if (strcmp(at->name, name) != 0)
			continue;
		if (at->sound)
			return at;
		if (same_file(&at->file, file))
			same = at;
	}
	return same;
}

static int open_file(const char *path, int *ret_fd, struct stat *ret_file, char *text, size_t text_size)
{
	char error[ERROR_SIZE];
	int rc = trusted_open(path, TRUSTED_FILE, ret_fd, error, sizeof(error));

	if (rc != 0) {
		snprintf(text, text_size, "%s%s", rc == -ENOENT ? "no module of that name is built in, and " : "",
			 error);
		return rc;
	}
	if (fstat(*ret_fd, ret_file)) {
		rc = -errno;
		snprintf(text, text_size, "%s: %s", path, strerror(-rc));
		close(*ret_fd);
	}
	return rc;
}

static const struct apikeyd_module *find_file(const char *name, const char *path, char *text, size_t text_size)
{
	struct loaded *loaded;
	struct stat file;
	int fd;

	if (open_file(path, &fd, &file, text, text_size) != 0)
		return NULL;
	loaded = find_loaded(name, &file);
	if (loaded) {
		close(fd);
	} else if (sealed) {
		snprintf(text, text_size, "%s: new module files need a restart of apikeyd", path);
		close(fd);
		return NULL;
	} else {
		loaded = load(name, path, fd, &file, text, text_size);
		if (!loaded) {
			close(fd);
			return NULL;
		}
	}
	if (!same_content(&loaded->file, &file))
		snprintf(text, text_size, "%s: has changed since it was loaded, which takes effect at the next start",
			 path);
	else if (!loaded->sound)
		snprintf(text, text_size, "%s", loaded->wrong);
	return loaded->sound ? &loaded->module : NULL;
}

/* ---- by name ---- */

void modules_seal(void)
{
	sealed = true;
}

const struct apikeyd_module *modules_find(const char *name, const char *directory, char *text, size_t text_size)
{
	const struct apikeyd_module *built_in = find_built_in(name);
	char path[PATH_MAX];

	text[0] = '\0';
	if (built_in) {
		tell_unused(name, directory, text, text_size);
		return built_in;
	}
	if (!modules_name_ok(name)) {
		snprintf(text, text_size, "%s: is no name of a module (lower case letters, digits and '_')", name);
		return NULL;
	}
	if (!directory) {
		snprintf(text, text_size, "%s: no module of that name is built in", name);
		return NULL;
	}
	if (snprintf(path, sizeof(path), "%s/%s" SUFFIX, directory, name) >= (int)sizeof(path)) {
		snprintf(text, text_size, "%s: %s", directory, strerror(ENAMETOOLONG));
		return NULL;
	}
	return find_file(name, path, text, text_size);
}

static int is_shared_object(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return len > strlen(SUFFIX) && strcmp(entry->d_name + len - strlen(SUFFIX), SUFFIX) == 0;
}

int modules_each(const char *directory, modules_told told, void *data, char *error, size_t error_size)
{
	char text[ERROR_SIZE], name[NAME_MAX + 1];
	struct dirent **entries = NULL;
	int rc, fd, count;

	for (const struct apikeyd_module *const *at = modules_built_in; *at; at++)
		told(data, (*at)->name, *at, true, "");
	if (!directory)
		return 0;
	rc = trusted_open(directory, TRUSTED_DIRECTORY, &fd, error, error_size);
	if (rc != 0)
		return rc;
	count = scandirat(fd, ".", &entries, is_shared_object, alphasort);
	if (count < 0) {
		rc = -errno;
		snprintf(error, error_size, "%s: %s", directory, strerror(-rc));
	}
	close(fd);
	for (int i = 0; i < count; i++) {
		const struct apikeyd_module *module;

		snprintf(name, sizeof(name), "%.*s", (int)(strlen(entries[i]->d_name) - strlen(SUFFIX)),
			 entries[i]->d_name);
		free(entries[i]);
		module = modules_find(name, directory, text, sizeof(text));
		/* A file with the name of one built in is told of as what it is: not used. */
		told(data, name, find_built_in(name) ? NULL : module, false, text);
	}
	free(entries);
	return rc;
}
