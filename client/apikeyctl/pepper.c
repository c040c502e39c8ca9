#include "client/apikeyctl/pepper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "daemon/credential.h"
#include "daemon/secret.h"

enum { PEPPER_FILE_MAX = 32768, PEPPER_BYTES = 32 };

static char pepper_text[PEPPER_FILE_MAX];

static int pepper_read(struct pepper_file *file, int fd, char error[PEPPER_LINE_SIZE])
{
	size_t len = 0;
	ssize_t got;

	/* No core file, and nobody of the same user looks on. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	(void)mlock(pepper_text, sizeof(pepper_text));
	while (len < sizeof(pepper_text) && (got = read(fd, pepper_text + len, sizeof(pepper_text) - len)) > 0)
		len += (size_t)got;
	file->secret = secret_parse(file->path, pepper_text, len, error, PEPPER_LINE_SIZE);
	explicit_bzero(pepper_text, sizeof(pepper_text));
	munlock(pepper_text, sizeof(pepper_text));
	return file->secret ? 0 : -EINVAL;
}

int pepper_look(struct pepper_file *file, const char *setting, char error[PEPPER_LINE_SIZE])
{
	int fd, r;

	*file = (struct pepper_file){.credential = credential_is(setting)};
	if (file->credential)
		snprintf(file->path, sizeof(file->path), "%s/%s", CREDENTIAL_DIRECTORY,
			 setting + strlen(CREDENTIAL_PREFIX));
	else
		snprintf(file->path, sizeof(file->path), "%s", setting);
	if (lstat(file->path, &file->st) != 0) {
		r = -errno;
		file->st = (struct stat){0};
		snprintf(error, PEPPER_LINE_SIZE, "%s: %s", file->path, strerror(-r));
		return r == -ENOTDIR ? -ENOENT : r;
	}
	fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0) {
		r = errno == EACCES || errno == EPERM ? -EACCES : -EINVAL;
		snprintf(error, PEPPER_LINE_SIZE, "%s: %s", file->path, strerror(errno));
		return r;
	}
	if (!S_ISREG(file->st.st_mode)) {
		snprintf(error, PEPPER_LINE_SIZE, "%s is not a regular file", file->path);
		r = -EINVAL;
	} else {
		r = pepper_read(file, fd, error);
	}
	close(fd);
	return r;
}

void pepper_deinit(struct pepper_file *file)
{
	secret_free(file->secret);
	file->secret = NULL;
}

unsigned pepper_version_at(const struct pepper_file *file, unsigned i)
{
	return file->secret ? secret_version_at(file->secret, i) : 0;
}

static void pepper_hex(const uint8_t *bytes, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
	}
	*out = '\0';
}

bool pepper_check_value(const struct pepper_file *file, unsigned version, char ret[PEPPER_HEX_SIZE])
{
	uint8_t value[SECRET_HASH_LEN];

	if (!file->secret || !secret_check_value(file->secret, (uint16_t)version, value))
		return false;
	pepper_hex(value, sizeof(value), ret);
	return true;
}

/* ---- making one ---- */

static int pepper_write(int fd, uid_t uid, gid_t gid)
{
	char line[PEPPER_HEX_SIZE + 3] = "1 ";
	uint8_t bytes[PEPPER_BYTES];
	size_t len;
	int r = 0;

	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	secret_random(bytes, sizeof(bytes));
	pepper_hex(bytes, sizeof(bytes), line + 2);
	secret_wipe(bytes, sizeof(bytes));
	len = strlen(line);
	line[len++] = '\n';
	if (write(fd, line, len) != (ssize_t)len)
		r = errno ? -errno : -EIO;
	secret_wipe(line, sizeof(line));
	if (r == 0 && (fchmod(fd, 0600) != 0 || fchown(fd, uid, gid) != 0 || fsync(fd) != 0))
		r = -errno;
	return r;
}

/* The name is on the disk, too. */
static int pepper_sync_directory(const char *path)
{
	char directory[PEPPER_PATH_SIZE];
	int fd, r = 0;

	snprintf(directory, sizeof(directory), "%s", path);
	*strrchr(directory, '/') = '\0';
	fd = open(*directory ? directory : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) != 0)
		r = -errno;
	close(fd);
	return r;
}

int pepper_make(const char *path, uid_t uid, gid_t gid, char error[PEPPER_LINE_SIZE])
{
	char other[PEPPER_PATH_SIZE + 8];
	int fd, r;

	snprintf(other, sizeof(other), "%s.XXXXXX", path);
	fd = mkostemp(other, O_CLOEXEC);
	if (fd < 0) {
		r = -errno;
		snprintf(error, PEPPER_LINE_SIZE, "%s cannot be made: %s", path, strerror(-r));
		return r;
	}
	r = pepper_write(fd, uid, gid);
	close(fd);
	/* A link is refused where there is something: no pepper is ever replaced. */
	if (r == 0 && link(other, path) != 0)
		r = -errno;
	unlink(other);
	if (r == 0)
		r = pepper_sync_directory(path);
	if (r != 0)
		snprintf(error, PEPPER_LINE_SIZE, "%s cannot be made: %s", path, strerror(-r));
	return r;
}
