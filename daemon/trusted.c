#include "daemon/trusted.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where one walk has come to. */
struct walk {
	const char *path;    /* as it was asked for */
	int fd;		     /* of the directory `at`; O_PATH */
	bool shared;	     /* others may make entries in it */
	unsigned links;	     /* followed so far */
	char at[PATH_MAX];   /* without links, for errors alone; "" is / */
	char rest[PATH_MAX]; /* what is still to be walked */
	char *error;
	size_t error_size;
};

/* One line: the path, then the step that is meant where that is another one, then what is wrong. Returns `rc`. */
__attribute__((format(printf, 4, 5))) static int wrong(struct walk *walk, int rc, const char *step, const char *format,
						       ...)
{
	char what[PATH_MAX + 128];
	va_list list;
	bool same = strcmp(step, walk->path) == 0;

	va_start(list, format);
	vsnprintf(what, sizeof(what), format, list);
	va_end(list);
	snprintf(walk->error, walk->error_size, "%s%s%s: %s", walk->path, same ? "" : ": ", same ? "" : step, what);
	return rc;
}

/* ---- one step ---- */

static int check_owner(struct walk *walk, const char *step, const struct stat *st)
{
	char ours[32] = "";

	if (st->st_uid == 0 || st->st_uid == geteuid())
		return 0;
	if (geteuid() != 0)
		snprintf(ours, sizeof(ours), " or uid %u's", (unsigned)geteuid());
	return wrong(walk, -EPERM, step, "belongs to uid %u (mode %04o); it must be root's%s: chown %sroot %s",
		     (unsigned)st->st_uid, (unsigned)(st->st_mode & 07777), ours, S_ISLNK(st->st_mode) ? "-h " : "",
		     step);
}

static int check_mode(struct walk *walk, const char *step, const struct stat *st)
{
	if ((st->st_mode & (S_IWGRP | S_IWOTH)) == 0)
		return 0;
	return wrong(walk, -EPERM, step, "%s can write it (uid %u, mode %04o); run chmod go-w %s",
		     st->st_mode & S_IWOTH ? "anybody" : "its group", (unsigned)st->st_uid,
		     (unsigned)(st->st_mode & 07777), step);
}

/* A file or a link: it may not stand where others can make entries, since a hard link takes its owner along. */
static int check_entry(struct walk *walk, const char *step, const struct stat *st)
{
	int rc = check_owner(walk, step, st);

	if (rc != 0)
		return rc;
	if (walk->shared)
		return wrong(walk, -EPERM, step,
			     "stands in a directory where others can put files; move it to one where they cannot");
	return S_ISLNK(st->st_mode) ? 0 : check_mode(walk, step, st);
}

/* Goes into the directory `fd`, which becomes the walk's. `shared` ones pass only as a step to another. */
static int enter(struct walk *walk, int fd, const char *step, const struct stat *st)
{
	bool shared = (st->st_mode & S_ISVTX) && (st->st_mode & (S_IWGRP | S_IWOTH));
	int rc = check_owner(walk, step, st);

	if (rc == 0 && !shared)
		rc = check_mode(walk, step, st);
	if (rc != 0) {
		close(fd);
		return rc;
	}
	if (walk->fd >= 0)
		close(walk->fd);
	walk->fd = fd;
	walk->shared = shared;
	return 0;
}

static int enter_root(struct walk *walk)
{
	struct stat st;
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st)) {
		int rc = -errno;

		if (fd >= 0)
			close(fd);
		return wrong(walk, rc, "/", "%s", strerror(-rc));
	}
	walk->at[0] = '\0';
	return enter(walk, fd, "/", &st);
}

/* What the link says comes before what is left, and is walked in the same way. */
static int follow(struct walk *walk, int fd, const char *step)
{
	char target[PATH_MAX], rest[PATH_MAX];
	ssize_t len = readlinkat(fd, "", target, sizeof(target) - 1);

	if (len < 0)
		return wrong(walk, -errno, step, "%s", strerror(errno));
	if (len == 0)
		return wrong(walk, -ENOENT, step, "is a symbolic link to nothing");
	if (++walk->links > TRUSTED_LINKS_MAX)
		return wrong(walk, -ELOOP, step, "leads through more than %d symbolic links", TRUSTED_LINKS_MAX);
	target[len] = '\0';
	if (snprintf(rest, sizeof(rest), "%s/%s", target, walk->rest) >= (int)sizeof(rest))
		return wrong(walk, -ENAMETOOLONG, step, "%s", strerror(ENAMETOOLONG));
	memcpy(walk->rest, rest, sizeof(rest));
	return target[0] == '/' ? enter_root(walk) : 0;
}

/* ---- the walk ---- */

/* The next name of what is left, none of them empty or "."; false at the end. */
static bool next_name(struct walk *walk, char *ret, size_t size)
{
	size_t len = 0;
	const char *rest = walk->rest;

	while (len == 0 || (len == 1 && rest[0] == '.')) {
		rest += len;
		rest += strspn(rest, "/");
		len = strcspn(rest, "/");
		if (len == 0)
			return false;
	}
	if (len >= size)
		len = size - 1; /* longer than any name: the kernel will say so */
	memcpy(ret, rest, len);
	ret[len] = '\0';
	rest += strcspn(rest, "/");
	rest += strspn(rest, "/");
	memmove(walk->rest, rest, strlen(rest) + 1);
	return true;
}

/* `at` with the name after it, for errors; cut where there is no room. */
static void step_text(const struct walk *walk, const char *name, char *ret, size_t size)
{
	const char *slash;

	if (strcmp(name, "..") != 0) {
		snprintf(ret, size, "%s/%s", walk->at, name);
		return;
	}
	slash = strrchr(walk->at, '/');
	snprintf(ret, size, "%.*s", slash && slash > walk->at ? (int)(slash - walk->at) : 1, slash ? walk->at : "/");
}

/* Without following it. As a directory first: only that way has an automounter put there what belongs there. */
static int open_entry(int directory, const char *name)
{
	int fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOTDIR)
		fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd;
}

/*
 * The file itself: it was seen to be a regular one, so that opening it does nothing to a device or a fifo; and what
 * came open is checked.
 */
static int open_file(struct walk *walk, const char *name, const char *step, int *ret_fd)
{
	struct stat st;
	int rc, fd = openat(walk->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return wrong(walk, -errno, step, "%s", strerror(errno));
	if (fstat(fd, &st))
		rc = wrong(walk, -errno, step, "%s", strerror(errno));
	else if (!S_ISREG(st.st_mode))
		rc = wrong(walk, -EINVAL, step, "is not a regular file");
	else
		rc = check_entry(walk, step, &st);
	if (rc != 0)
		close(fd);
	else
		*ret_fd = fd;
	return rc;
}

/* One name: a directory is gone into, a link is followed, a file ends the walk with *ret_fd. */
static int take_step(struct walk *walk, const char *name, enum trusted_kind kind, int *ret_fd)
{
	char step[PATH_MAX];
	struct stat st;
	int rc, fd = open_entry(walk->fd, name);

	step_text(walk, name, step, sizeof(step));
	if (fd < 0)
		return wrong(walk, -errno, step, "%s", strerror(errno));
	if (fstat(fd, &st)) {
		rc = wrong(walk, -errno, step, "%s", strerror(errno));
	} else if (S_ISDIR(st.st_mode)) {
		rc = enter(walk, fd, step, &st);
		fd = -1;
		if (rc == 0)
			snprintf(walk->at, sizeof(walk->at), "%s", strcmp(step, "/") == 0 ? "" : step);
	} else if (S_ISLNK(st.st_mode)) {
		rc = check_entry(walk, step, &st);
		if (rc == 0)
			rc = follow(walk, fd, step);
	} else if (walk->rest[0] != '\0' || kind == TRUSTED_DIRECTORY) {
		rc = wrong(walk, -ENOTDIR, step, "is not a directory");
	} else if (!S_ISREG(st.st_mode)) {
		rc = wrong(walk, -EINVAL, step, "is not a regular file");
	} else {
		rc = open_file(walk, name, step, ret_fd);
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

/* The directory that the walk came to. */
static int open_directory(struct walk *walk, enum trusted_kind kind, int *ret_fd)
{
	const char *step = walk->at[0] ? walk->at : "/";
	int fd;

	if (kind != TRUSTED_DIRECTORY)
		return wrong(walk, -EINVAL, step, "is a directory, not a file");
	if (walk->shared)
		return wrong(walk, -EPERM, step, "others can put files there; name a directory where they cannot");
	fd = openat(walk->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return wrong(walk, -errno, step, "%s", strerror(errno));
	*ret_fd = fd;
	return 0;
}

int trusted_open(const char *path, enum trusted_kind kind, int *ret_fd, char *error, size_t error_size)
{
	struct walk walk = {.path = path, .fd = -1, .error = error, .error_size = error_size};
	char name[NAME_MAX + 2];
	int rc, fd = -1;

	if (path[0] != '/')
		return wrong(&walk, -EINVAL, path, "is not an absolute path");
	if (snprintf(walk.rest, sizeof(walk.rest), "%s", path) >= (int)sizeof(walk.rest))
		return wrong(&walk, -ENAMETOOLONG, path, "%s", strerror(ENAMETOOLONG));
	rc = enter_root(&walk);
	while (rc == 0 && fd < 0 && next_name(&walk, name, sizeof(name)))
		rc = take_step(&walk, name, kind, &fd);
	if (rc == 0 && fd < 0)
		rc = open_directory(&walk, kind, &fd);
	if (walk.fd >= 0)
		close(walk.fd);
	if (rc == 0)
		*ret_fd = fd;
	return rc;
}
