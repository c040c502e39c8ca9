/* The spool's file: made whole or not at all, locked, mapped. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/audit/spool_internal.h"
#include "daemon/uuid.h"

static const char name[] = "ledger.spool", new_name[] = "ledger.spool.new";

enum { BLOCK = 512 }; /* what st_blocks counts */

static int refuse(char *error, int r, const char *directory, const char *what, const char *why, const char *advice)
{
	snprintf(error, SPOOL_ERROR_SIZE, "[state] directory = %.200s%s%s: %s; %s", directory, *what ? "/" : "", what,
		 why, advice);
	return r;
}

static const char owner_advice[] = "it must belong to the daemon's user alone (directory 0700, file 0600)";
static const char where_advice[] =
	"make it (systemd does, by StateDirectory=apikeyd), or name another, or leave the setting empty to have verdicts "
	"that are not yet in the database in memory only";
static const char room_advice[] = "make room on that file system";
static const char away_advice[] = "move it away; the verdicts in it do not come into the ledger then";

static bool is_full(int r)
{
	return r == -ENOSPC || r == -EDQUOT;
}

/* ---- one file ---- */

static int open_directory(const char *path, int *ret, char *error)
{
	struct stat st;
	char why[96];
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	if (fd < 0 || fstat(fd, &st) < 0) {
		r = refuse(error, -errno, path, "", strerror(errno), where_advice);
	} else if (st.st_uid != geteuid()) {
		snprintf(why, sizeof(why), "belongs to uid %u", (unsigned)st.st_uid);
		r = refuse(error, -EPERM, path, "", why, owner_advice);
	} else if (st.st_mode & 022) {
		snprintf(why, sizeof(why), "others may write to it (mode %04o)", (unsigned)(st.st_mode & 07777));
		r = refuse(error, -EPERM, path, "", why, owner_advice);
	}
	if (r < 0 && fd >= 0)
		close(fd);
	if (r == 0)
		*ret = fd;
	return r;
}

/* Opens and locks what has that name. 1: there is none. */
static int open_file(int directory, const char *path, const char *what, int flags, int *ret, char *error)
{
	struct stat st, now;
	char why[96];
	int fd = openat(directory, what, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | flags, 0600);
	int r = 0;

	if (fd < 0 && errno == ENOENT)
		return 1;
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = refuse(error, -errno, path, what, errno == ELOOP ? "is a symbolic link" : strerror(errno),
			   is_full(-errno) ? room_advice : owner_advice);
	} else if (!S_ISREG(st.st_mode)) {
		r = refuse(error, -EINVAL, path, what, "is not a regular file", "move it away");
	} else if (st.st_uid != geteuid()) {
		snprintf(why, sizeof(why), "belongs to uid %u", (unsigned)st.st_uid);
		r = refuse(error, -EPERM, path, what, why, owner_advice);
	} else if (st.st_mode & 077) {
		snprintf(why, sizeof(why), "others can use it (mode %04o)", (unsigned)(st.st_mode & 07777));
		r = refuse(error, -EPERM, path, what, why, owner_advice);
	} else if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstatat(directory, what, &now, AT_SYMLINK_NOFOLLOW) < 0 ||
		   now.st_ino != st.st_ino || now.st_dev != st.st_dev) {
		/* Also where somebody has put another in its place meanwhile. */
		r = refuse(error, -EBUSY, path, what, "another apikeyd has it",
			   "give each daemon a directory of its own");
	}
	if (r < 0 && fd >= 0)
		close(fd);
	if (r == 0)
		*ret = fd;
	return r;
}

static int map_file(struct spool *spool, int fd, size_t size)
{
	/* All its pages now: none is to be looked for when a verdict comes. */
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	spool->map = map;
	spool->map_size = size;
	return 0;
}

static void unmap(struct spool *spool)
{
	if (spool->map)
		munmap(spool->map, spool->map_size);
	spool->map = NULL;
}

/* A new file that takes the place of whatever has the name. It has its room before it has its name. */
static int make(struct spool *spool, int directory, const char *path, uint64_t capacity,
		const struct spool_state *state, char *error)
{
	size_t size = spool_size_of(capacity);
	int fd, r = open_file(directory, path, new_name, O_CREAT, &fd, error);

	if (r != 0)
		return r < 0 ? r : refuse(error, -ENOENT, path, new_name, strerror(ENOENT), where_advice);
	if (ftruncate(fd, 0) < 0)
		r = -errno;
	if (r == 0)
		r = -posix_fallocate(fd, 0, (off_t)size);
	if (r == 0)
		r = map_file(spool, fd, size);
	if (r < 0) {
		char advice[128];

		snprintf(advice, sizeof(advice), "make room for %llu bytes there, or lower [ledger] spool_bytes",
			 (unsigned long long)size);
		refuse(error, r, path, new_name, strerror(-r), advice);
		goto out;
	}
	spool_format(spool->map, capacity, state);
	if (msync(spool->map, size, MS_SYNC) < 0 || fsync(fd) < 0 || renameat(directory, new_name, directory, name) < 0)
		r = refuse(error, -errno, path, name, strerror(errno), is_full(-errno) ? room_advice : where_advice);
	/* From here on it has the name: whatever had it before is not to be gone on with. */
	else if (fsync(directory) < 0)
		r = refuse(error, -EIO, path, name, strerror(errno), where_advice);
	if (r == 0)
		r = spool_adopt(spool, spool->map, size);
out:
	if (r == 0) {
		spool->fd = fd;
		return 0;
	}
	unmap(spool);
	unlinkat(directory, new_name, 0);
	close(fd);
	return r;
}

/* What is there. */
static int take(struct spool *spool, int fd, const char *path, char *error)
{
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : 0;

	if (r == 0 && (st.st_size < SPOOL_PAGE || (uint64_t)st.st_size > SIZE_MAX / 2))
		return refuse(error, -EBADMSG, path, name, "is no spool", away_advice);
	/*
	 * Whoever copied it with holes in it: they are filled now, not when a verdict comes. One without is left alone:
	 * file systems (XFS) want room for the whole of it first, though they take none.
	 */
	if (r == 0 && (uint64_t)st.st_blocks * BLOCK < (uint64_t)st.st_size)
		r = -posix_fallocate(fd, 0, st.st_size);
	if (is_full(r))
		return refuse(error, r, path, name, "has holes, and there is no room to fill them", room_advice);
	if (r == 0)
		r = map_file(spool, fd, (size_t)st.st_size);
	if (r < 0)
		return refuse(error, r, path, name, strerror(-r), "see to the disk");
	r = spool_adopt(spool, spool->map, spool->map_size);
	if (r == -EBADMSG)
		refuse(error, r, path, name, "is no spool, or damaged", away_advice);
	else if (r < 0)
		refuse(error, r, path, name, "is of another version of apikeyd",
		       "run that one until all of it is in the database, or move it away");
	if (r < 0)
		unmap(spool);
	else
		spool->fd = fd;
	return r;
}

/* ---- the spool ---- */

static struct spool_state first_state(void)
{
	struct spool_state state = {.start = 1, .sealed = 1, .batch = 1};

	uuid_random(state.chain);
	return state;
}

static int open_in_memory(struct spool *spool, uint64_t capacity, char *error)
{
	struct spool_state state = first_state();
	size_t size = spool_size_of(capacity);
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (map == MAP_FAILED) {
		snprintf(error, SPOOL_ERROR_SIZE, "[ledger] spool_bytes: %s; lower it", strerror(errno));
		return -errno;
	}
	spool->map = map;
	spool->map_size = size;
	spool_format(map, capacity, &state);
	return spool_adopt(spool, map, size);
}

/* Nothing is in it that would have to stay. */
static bool is_empty(const struct spool *spool)
{
	return spool_used(spool) == 0 && spool->state.seal == SPOOL_UNSEALED &&
	       spool_lost(spool) == spool->state.lost_told;
}

static int open_file_or_make(struct spool *spool, int directory, const char *path, uint64_t capacity, char *error)
{
	struct spool_state state = first_state();
	struct spool other = {.fd = -1};
	char why[SPOOL_ERROR_SIZE];
	int fd = -1, r = open_file(directory, path, name, 0, &fd, error);

	if (r == 1)
		return make(spool, directory, path, capacity, &state, error);
	if (r < 0)
		return r;
	r = take(spool, fd, path, error);
	if (r < 0) {
		close(fd);
		return r;
	}
	/* Of one who was killed while it made one. The lock is ours: nobody does now. */
	unlinkat(directory, new_name, 0);
	/* Another size is given to it when it is empty, and there is room; its chain goes on. */
	if (spool->capacity == capacity || !is_empty(spool))
		return 0;
	state = spool->state;
	state.lost_told = state.lost_sealed = 0;
	r = make(&other, directory, path, capacity, &state, why);
	if (is_full(r)) {
		spool->unsized = r;
		return 0;
	}
	if (r < 0)
		snprintf(error, SPOOL_ERROR_SIZE, "%s", why);
	unmap(spool);
	close(spool->fd);
	*spool = other;
	return r;
}

int spool_open(const char *directory, uint64_t bytes, struct spool **ret, char error[SPOOL_ERROR_SIZE])
{
	struct spool *spool = calloc(1, sizeof(*spool));
	uint64_t capacity = spool_capacity_of(bytes);
	int r, at;

	error[0] = '\0';
	if (!spool) {
		snprintf(error, SPOOL_ERROR_SIZE, "the spool of the ledger: %s", strerror(ENOMEM));
		return -ENOMEM;
	}
	spool->fd = -1;
	if (!*directory) {
		r = open_in_memory(spool, capacity, error);
	} else {
		r = open_directory(directory, &at, error);
		if (r == 0) {
			r = open_file_or_make(spool, at, directory, capacity, error);
			close(at);
		}
	}
	if (r < 0) {
		free(spool);
		return r;
	}
	*ret = spool;
	return 0;
}

void spool_close(struct spool *spool)
{
	if (!spool)
		return;
	unmap(spool);
	if (spool->fd >= 0)
		close(spool->fd);
	free(spool);
}

int spool_unsized(const struct spool *spool)
{
	return spool->unsized;
}

bool spool_in_memory(const struct spool *spool)
{
	return spool->fd < 0;
}

int spool_sync(struct spool *spool)
{
	if (spool->fd < 0)
		return 0;
	return msync(spool->map, spool->map_size, MS_SYNC) < 0 ? -errno : 0;
}
