#include "daemon/confine/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CAPABILITIES_MAX = 64 };

static const unsigned long root_is_nobody = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
					    SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
					    SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

static int wrong(const char *what, char *error, size_t error_size)
{
	int rc = -errno;

	snprintf(error, error_size, "%s: %s", what, strerror(-rc));
	return rc;
}

/* Where it was started by a program that is set-user-ID, or root's supplementary groups came along. */
static int settle_ids(char *error, size_t error_size)
{
	uid_t uid, real_uid, saved_uid, euid = geteuid();
	gid_t real_gid, saved_gid, egid, gid;

	if (getresuid(&real_uid, &uid, &saved_uid) != 0 || getresgid(&real_gid, &gid, &saved_gid) != 0)
		return wrong("ids", error, error_size);
	egid = gid;
	/* Refused in a user namespace that maps no groups: then they are nobody's. */
	if (euid == 0 && getgroups(0, NULL) > 0 && setgroups(0, NULL) != 0 && errno != EPERM)
		return wrong("supplementary groups", error, error_size);
	if ((real_gid != egid || saved_gid != egid) && setresgid(egid, egid, egid) != 0)
		return wrong("group ids", error, error_size);
	if ((real_uid != euid || saved_uid != euid) && setresuid(euid, euid, euid) != 0)
		return wrong("user ids", error, error_size);
	return 0;
}

/* Without CAP_SETPCAP these are refused; then there is nothing that an own program could be given, but root's. */
static void empty_bounds(void)
{
	for (unsigned long i = 0; i < CAPABILITIES_MAX; i++) {
		if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1)
			prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
	}
	prctl(PR_SET_SECUREBITS, root_is_nobody, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

static bool has_any(const struct __user_cap_data_struct data[2])
{
	return data[0].effective | data[0].permitted | data[0].inheritable | data[1].effective | data[1].permitted |
	       data[1].inheritable;
}

int privileges_drop(char *error, size_t error_size)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}}, left[2] = {{0}};
	int rc = settle_ids(error, error_size);

	if (rc != 0)
		return rc;
	empty_bounds();
	/* A filter of the service manager's may refuse the call where there is nothing to drop. */
	if (syscall(SYS_capget, &header, left) == 0 && !has_any(left))
		return 0;
	if (syscall(SYS_capset, &header, none) != 0)
		return wrong("capabilities", error, error_size);
	return 0;
}
