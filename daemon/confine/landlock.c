#include "daemon/confine/landlock.h"

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/confine/needs.h"

/*
 * The kernel's interface, written out: the headers that a host builds with may be older than the kernel that it runs,
 * and know less of it, or nothing.
 */
enum { NR_CREATE = 444, NR_ADD = 445, NR_RESTRICT = 446 }; /* on every architecture */
#ifdef SYS_landlock_create_ruleset
_Static_assert(SYS_landlock_create_ruleset == NR_CREATE && SYS_landlock_restrict_self == NR_RESTRICT, "numbers");
#endif

enum { CREATE_VERSION = 1, RULE_BENEATH = 1, RULE_PORT = 2 };

enum {
	FS_EXECUTE = 1 << 0,
	FS_WRITE_FILE = 1 << 1,
	FS_READ_FILE = 1 << 2,
	FS_READ_DIR = 1 << 3,
	FS_REMOVE_DIR = 1 << 4,
	FS_REMOVE_FILE = 1 << 5,
	FS_MAKE_DIR = 1 << 7,
	FS_MAKE_REG = 1 << 8,
	FS_REFER = 1 << 13,	/* version 2 */
	FS_TRUNCATE = 1 << 14,	/* 3 */
	FS_IOCTL_DEV = 1 << 15, /* 5 */
	FS_OF_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV,
	NET_BIND = 1 << 0,
	NET_CONNECT = 1 << 1,
	SCOPE_ABSTRACT = 1 << 0,
};

/* All that each version restricts, by its number. */
static const uint64_t fs_of_version[] = {0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff};

struct attributes {
	uint64_t fs, net, scoped;
};

struct rule_beneath {
	uint64_t allowed;
	int32_t parent;
} __attribute__((packed));

struct rule_port {
	uint64_t allowed, port;
};

static uint64_t fs_restricted(int version)
{
	int last = (int)(sizeof(fs_of_version) / sizeof(fs_of_version[0])) - 1;

	return fs_of_version[version < last ? version : last];
}

int landlock_version(void)
{
	long version = syscall(NR_CREATE, NULL, (size_t)0, CREATE_VERSION);

	return version < 0 ? -errno : (int)version;
}

int landlock_begin(struct landlock *ret, int version, const struct landlock_wish *wish)
{
	struct attributes attributes = {.fs = fs_restricted(version)};
	size_t size = offsetof(struct attributes, net);
	long fd;

	/* Nobody ever listens on TCP here. */
	if (version >= LANDLOCK_VERSION_TCP) {
		attributes.net = wish->any_port ? NET_BIND : NET_BIND | NET_CONNECT;
		size = offsetof(struct attributes, scoped);
	}
	if (version >= LANDLOCK_VERSION_ABSTRACT) {
		attributes.scoped = wish->abstract ? 0 : SCOPE_ABSTRACT;
		size = sizeof(attributes);
	}
	fd = syscall(NR_CREATE, &attributes, size, 0);
	if (fd < 0)
		return -errno;
	*ret = (struct landlock){.fd = (int)fd, .version = version};
	return 0;
}

int landlock_allow(const struct landlock *landlock, int fd, bool directory, unsigned use)
{
	struct rule_beneath rule = {.parent = fd};

	if (use & NEEDS_READ)
		rule.allowed |= FS_READ_FILE | FS_READ_DIR;
	if (use & NEEDS_WRITE)
		rule.allowed |= FS_WRITE_FILE | FS_TRUNCATE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR |
				FS_MAKE_REG | FS_REFER;
	if (use & NEEDS_REMOVE)
		rule.allowed |= FS_REMOVE_FILE;
	rule.allowed &= fs_restricted(landlock->version) & (directory ? ~(uint64_t)0 : FS_OF_FILES);
	if (rule.allowed == 0)
		return 0;
	return syscall(NR_ADD, landlock->fd, RULE_BENEATH, &rule, 0) ? -errno : 0;
}

int landlock_allow_port(const struct landlock *landlock, uint16_t port)
{
	struct rule_port rule = {.allowed = NET_CONNECT, .port = port};

	if (landlock->version < LANDLOCK_VERSION_TCP)
		return 0;
	return syscall(NR_ADD, landlock->fd, RULE_PORT, &rule, 0) ? -errno : 0;
}

int landlock_enforce(const struct landlock *landlock)
{
	return syscall(NR_RESTRICT, landlock->fd, 0) ? -errno : 0;
}

void landlock_end(struct landlock *landlock)
{
	if (landlock->fd >= 0)
		close(landlock->fd);
	landlock->fd = -1;
}
