/* The journal's file. Blocking calls, for the start and for a thread; nobody else has the file meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/journal_internal.h"

static const char name[] = "denials", new_name[] = "denials.new";

enum {
	READ_SLOTS = 4096, /* read at a time */
	WORN_MIN = 4096,   /* slots of the past that are not worth a new file */
};

static int write_at(int fd, const uint8_t *data, size_t len, off_t at)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		len -= (size_t)n;
		at += n;
	}
	return 0;
}

/* Reads up to `len` bytes; fewer at the end of the file. */
static ssize_t read_at(int fd, uint8_t *data, size_t len, off_t at)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(fd, data + got, len - got, at + (off_t)got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

/* All of a file into `state`. 0, -EBADMSG, -EPROTONOSUPPORT, or what the kernel says. */
static int read_all(int fd, struct journal_state *state)
{
	uint8_t head[JOURNAL_HEAD], *slots;
	off_t at = JOURNAL_HEAD;
	ssize_t n = read_at(fd, head, sizeof(head), 0);
	int r = n < 0 ? (int)n : n < JOURNAL_HEAD ? -EBADMSG : journal_read_head(state, head);

	if (r < 0)
		return r;
	slots = malloc((size_t)READ_SLOTS * JOURNAL_SLOT);
	if (!slots)
		return -ENOMEM;
	do {
		n = read_at(fd, slots, (size_t)READ_SLOTS * JOURNAL_SLOT, at);
		for (ssize_t i = 0; i + JOURNAL_SLOT <= n; i += JOURNAL_SLOT)
			journal_read_slot(state, slots + i);
		at += n > 0 ? n : 0;
	} while (n == (ssize_t)READ_SLOTS * JOURNAL_SLOT);
	free(slots);
	if (n < 0)
		return (int)n;
	journal_read_end(state, (size_t)n % JOURNAL_SLOT);
	return 0;
}

/* Makes a file with what holds, and gives it the name. *ret_fd is open for it. */
static int replace(struct journal_file *file, const struct journal_state *state, int *ret_fd)
{
	struct journal_bytes bytes = {0};
	int r = 0, fd = -1;

	if (!journal_put_state(&bytes, state)) {
		r = -ENOMEM;
		goto out;
	}
	if (unlinkat(file->directory, new_name, 0) < 0 && errno != ENOENT) {
		r = -errno;
		goto out;
	}
	fd = openat(file->directory, new_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		r = -errno;
		goto out;
	}
	r = write_at(fd, bytes.data, bytes.len, 0);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(file->directory, new_name, file->directory, name) < 0)
		r = -errno;
	if (r < 0) {
		close(fd);
		unlinkat(file->directory, new_name, 0);
		goto out;
	}
	/* From here on the new one has the name; that this is so for ever, only the directory's own sync says. */
	file->slots = file->live = (bytes.len - JOURNAL_HEAD) / JOURNAL_SLOT;
	file->whole = !state->incomplete;
	file->behind = state->behind;
	*ret_fd = fd;
	if (fsync(file->directory) < 0)
		r = -errno;
out:
	free(bytes.data);
	return r;
}

/* ---- opening ---- */

static int refuse(char *error, int r, const char *directory, const char *what, const char *why, const char *advice)
{
	snprintf(error, JOURNAL_ERROR_SIZE, "[state] directory = %.200s%s%s: %s; %s", directory, *what ? "/" : "", what,
		 why, advice);
	return r;
}

static const char owner_advice[] = "it must belong to the daemon's user alone (directory 0700, file 0600)";
static const char where_advice[] =
	"make it (systemd does, by StateDirectory=apikeyd), or name another, or leave the setting empty to remember "
	"denials in memory only";
static const char room_advice[] = "make room on that file system";

static int open_directory(struct journal_file *file, const char *path, char *error)
{
	struct stat st;
	char why[96];

	file->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (file->directory < 0)
		return refuse(error, -errno, path, "", strerror(errno), where_advice);
	if (fstat(file->directory, &st) < 0)
		return refuse(error, -errno, path, "", strerror(errno), where_advice);
	if (st.st_uid != geteuid()) {
		snprintf(why, sizeof(why), "belongs to uid %u", (unsigned)st.st_uid);
		return refuse(error, -EPERM, path, "", why, owner_advice);
	}
	if (st.st_mode & 022) {
		snprintf(why, sizeof(why), "others may write to it (mode %04o)", (unsigned)(st.st_mode & 07777));
		return refuse(error, -EPERM, path, "", why, owner_advice);
	}
	if (flock(file->directory, LOCK_EX | LOCK_NB) < 0)
		return refuse(error, -errno, path, "",
			      errno == EWOULDBLOCK ? "another apikeyd has it" : strerror(errno),
			      "give each daemon a directory of its own");
	return 0;
}

/* 0, 1: there is none yet, or -errno with a line. */
static int open_file(struct journal_file *file, const char *path, char *error)
{
	struct stat st;
	char why[96];

	file->fd = openat(file->directory, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (file->fd < 0 && errno == ENOENT)
		return 1;
	if (file->fd < 0 || fstat(file->fd, &st) < 0)
		return refuse(error, -errno, path, name, errno == ELOOP ? "is a symbolic link" : strerror(errno),
			      owner_advice);
	if (!S_ISREG(st.st_mode))
		return refuse(error, -EINVAL, path, name, "is not a regular file", "move it away");
	if (st.st_uid != geteuid()) {
		snprintf(why, sizeof(why), "belongs to uid %u", (unsigned)st.st_uid);
		return refuse(error, -EPERM, path, name, why, owner_advice);
	}
	if (st.st_mode & 077) {
		snprintf(why, sizeof(why), "others can use it (mode %04o)", (unsigned)(st.st_mode & 07777));
		return refuse(error, -EPERM, path, name, why, owner_advice);
	}
	return 0;
}

static int read_file(struct journal_file *file, const char *path, struct journal_state *state, char *error)
{
	int r = read_all(file->fd, state);

	if (r == -EBADMSG)
		return refuse(error, r, path, name, "is no journal of denials",
			      "move it away; what it knew is forgotten then");
	if (r == -EPROTONOSUPPORT)
		return refuse(error, r, path, name, "is of another version of apikeyd",
			      "run that one, or move the file away; what it knew is forgotten then");
	if (r < 0)
		return refuse(error, r, path, name, strerror(-r), "see to the disk");
	return 0;
}

static int mark(struct journal_file *file, bool whole, bool behind);

static bool is_full(int r)
{
	return r == -ENOSPC || r == -EDQUOT;
}

/* The file as it is, without what is torn at its end. All of this is in place, and takes no room. */
static int keep(struct journal_file *file, const struct journal_state *state)
{
	uint8_t head[JOURNAL_HEAD];
	int r = 0;

	file->slots = state->slots;
	file->live = journal_state_slots(state);
	file->whole = true; /* so that what it is not is written down: the head may say either */
	/* What is added to it is of this version, which has all that the one before has. */
	journal_write_head(head, true, false);
	if (state->version != JOURNAL_VERSION)
		r = write_at(file->fd, head, JOURNAL_MARK_AT, 0);
	if (r == 0)
		r = mark(file, !state->incomplete, state->behind);
	if (r == 0 && ftruncate(file->fd, (off_t)(JOURNAL_HEAD + file->slots * JOURNAL_SLOT)) < 0)
		r = -errno;
	if (r == 0 && fdatasync(file->fd) < 0)
		r = -errno;
	return r;
}

int journal_file_open(struct journal_file *file, const char *directory, struct journal_state *state,
		      char error[JOURNAL_ERROR_SIZE])
{
	uint32_t limit = state->known.limit;
	int r, fd = -1;

	*file = (struct journal_file){.directory = -1, .fd = -1, .limit = limit};
	r = open_directory(file, directory, error);
	if (r == 0)
		r = open_file(file, directory, error);
	if (r == 0)
		r = read_file(file, directory, state, error);
	if (r < 0)
		goto out;
	/* Written anew at each start: what is torn or of the past goes, and a directory that takes no files is found now. */
	r = replace(file, state, &fd);
	if (fd >= 0) {
		if (file->fd >= 0)
			close(file->fd);
		file->fd = fd;
	} else if (is_full(r) && file->fd >= 0) {
		/* It denies no less for that. Without one nobody knows what was denied before, and there is no start. */
		file->kept = r;
		r = keep(file, state);
	}
	if (r < 0)
		refuse(error, r, directory, name, strerror(-r), is_full(r) ? room_advice : where_advice);
out:
	if (r < 0)
		journal_file_close(file);
	return r;
}

void journal_file_close(struct journal_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	if (file->directory >= 0)
		close(file->directory);
	file->fd = file->directory = -1;
}

/* ---- adding ---- */

static int mark(struct journal_file *file, bool whole, bool behind)
{
	uint8_t byte = journal_mark(whole, behind);
	int r = 0;

	if (byte != journal_mark(file->whole, file->behind))
		r = write_at(file->fd, &byte, 1, JOURNAL_MARK_AT);
	if (r < 0)
		return r;
	file->whole = whole;
	file->behind = behind;
	return 0;
}

int journal_file_add(struct journal_file *file, const uint8_t *data, size_t len, bool whole, bool behind)
{
	off_t end = (off_t)(JOURNAL_HEAD + file->slots * JOURNAL_SLOT);
	int r = 0;

	/* Not whole is said before, whole after what makes it so; and behind as well. */
	if (!whole || behind)
		r = mark(file, file->whole && whole, file->behind || behind);
	if (r == 0)
		r = write_at(file->fd, data, len, end);
	if (r == 0 && fdatasync(file->fd) < 0)
		r = -errno;
	if (r == 0) {
		file->slots += len / JOURNAL_SLOT;
		if (journal_mark(whole, behind) == journal_mark(file->whole, file->behind))
			return 0;
		r = mark(file, whole, behind);
		if (r == 0 && fdatasync(file->fd) < 0)
			r = -errno;
		return r;
	}
	/* A byte in place needs no room, even where the disk is full. What is torn behind the end is cut off by the next. */
	if (mark(file, false, true) == 0)
		fdatasync(file->fd);
	(void)!ftruncate(file->fd, end);
	return r;
}

bool journal_file_is_worn(const struct journal_file *file)
{
	return file->slots > 2 * file->live + WORN_MIN;
}

int journal_file_compact(struct journal_file *file)
{
	struct journal_state state;
	int r, fd = -1;

	r = journal_state_init(&state, file->limit);
	if (r == 0)
		r = read_all(file->fd, &state);
	/* What does not fit any more is not for this file to forget. */
	if (r == 0 && (state.damaged || state.dropped))
		r = -EIO;
	if (r == 0)
		r = replace(file, &state, &fd);
	if (fd >= 0) {
		close(file->fd);
		file->fd = fd;
	}
	journal_state_deinit(&state);
	return r;
}
