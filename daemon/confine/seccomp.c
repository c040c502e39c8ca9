#include "daemon/confine/seccomp.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/log.h"

/* Each of a check's own calls, first in the filter; where a kernel does not remember what is always allowed, it matters. */
static const char *const often[] = {"read",    "write",	 "epoll_wait", "epoll_pwait", "epoll_ctl", "writev", "sendmsg",
				    "recvmsg", "sendto", "recvfrom",   "accept4",     "close",	   "futex",  "poll"};

/*
 * What libc, libuv, libpq with its TLS, name services and the daemon itself make. Names that this host's libseccomp or
 * architecture does not know are passed over.
 */
static const char *const allowed[] = {
	/* files that are open, or that landlock lets them open */
	"access", "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate", "fcntl", "fcntl64", "fdatasync",
	"flock", "fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "getcwd",
	"getdents", "getdents64", "_llseek", "lseek", "lstat", "lstat64", "mkdir", "mkdirat", "newfstatat", "open",
	"openat", "openat2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "readlink",
	"readlinkat", "readv", "rename", "renameat", "renameat2", "rmdir", "stat", "stat64", "statfs", "statfs64",
	"statx", "sync_file_range", "umask", "unlink", "unlinkat",
	/* descriptors, and waiting for them */
	"close_range", "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_pwait2", "eventfd", "eventfd2",
	"inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "_newselect", "pipe", "pipe2",
	"ppoll", "ppoll_time64", "pselect6", "pselect6_time64", "select", "sendfile", "sendfile64", "signalfd",
	"signalfd4", "splice", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
	"timerfd_settime64",
	/* sockets that are there, and new ones as below */
	"accept", "bind", "connect", "getpeername", "getsockname", "getsockopt", "recv", "recvmmsg", "recvmmsg_time64",
	"send", "sendmmsg", "setsockopt", "shutdown", "socketpair",
	/* memory; what may be executed is below */
	"brk", "madvise", "membarrier", "memfd_create", "mincore", "mlock", "mlock2", "mremap", "msync", "munlock",
	"munmap",
	/* threads of our own */
	"exit", "exit_group", "futex_time64", "futex_waitv", "get_robust_list", "getcpu", "getpriority", "gettid",
	"restart_syscall", "rseq", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity",
	"sched_getattr", "sched_getparam", "sched_getscheduler", "sched_setaffinity", "sched_setattr", "sched_setparam",
	"sched_setscheduler", "sched_yield", "set_robust_list", "set_tid_address", "setpriority",
	/* signals */
	"rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64",
	"sigaltstack", "sigprocmask", "sigreturn",
	/* time, and a few questions */
	"alarm", "capget", "clock_getres", "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep",
	"clock_nanosleep_time64", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups",
	"getgroups32", "getitimer", "getpgid", "getpgrp", "getpid", "getppid", "getrandom", "getresgid", "getresgid32",
	"getresuid", "getresuid32", "getrlimit", "getrusage", "getsid", "gettimeofday", "getuid", "getuid32",
	"nanosleep", "setitimer", "sysinfo", "time", "times", "ugetrlimit", "uname", "wait4", "waitid", "waitpid"};

static const char *const killed[] = {
	/* a program in place of this one */
	"execve", "execveat",
	/* other processes' memory and descriptors */
	"ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp",
	/* the kernel itself */
	"bpf", "create_module", "delete_module", "finit_module", "init_module", "ioperm", "iopl", "kexec_file_load",
	"kexec_load", "modify_ldt", "perf_event_open", "reboot", "swapoff", "swapon", "userfaultfd",
	/* another view of the system */
	"chroot", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount",
	"open_by_handle_at", "open_tree", "pivot_root", "setns", "umount", "umount2", "unshare"};

static const char *const refused[] = {
	/* processes; a thread's clone is below */
	"fork", "vfork",
	/* ids, limits, session */
	"capset", "personality", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups",
	"setgroups32", "setpgid", "setregid", "setregid32", "setresgid", "setresgid32", "setresuid", "setresuid32",
	"setreuid", "setreuid32", "setrlimit", "setsid", "setuid", "setuid32", "seccomp",
	/* what landlock does not restrict: modes, owners, attributes, times; links and devices */
	"chdir", "chmod", "chown", "chown32", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32",
	"fchownat", "fremovexattr", "fsetxattr", "lchown", "lchown32", "link", "linkat", "lremovexattr", "lsetxattr",
	"mknod", "mknodat", "removexattr", "setxattr", "symlink", "symlinkat",
	/* keys of the kernel's, which a Kerberos library looks for and does without */
	"add_key", "keyctl", "request_key"};

enum {
	KILLED_MAX = sizeof(killed) / sizeof(killed[0]),
#if defined(__s390__) || defined(__s390x__)
	CLONE_FLAGS_AT = 1,
#else
	CLONE_FLAGS_AT = 0,
#endif
};

struct filter {
	scmp_filter_ctx context;
	bool only_log;
	unsigned allowed;
	int rc; /* of the first rule that could not be added */
};

/* ---- a kill ---- */

/* For the handler, which must not ask libseccomp: what it may meet, by number. */
static struct {
	int number;
	const char *name;
} known[KILLED_MAX];

/* Comes from within the very call, on its thread, so that the log's own functions may be used. */
static void on_killed(int number, siginfo_t *info, void *context)
{
	const char *name = "?";

	(void)context;
	for (unsigned i = 0; i < KILLED_MAX; i++) {
		if (known[i].name && known[i].number == info->si_syscall)
			name = known[i].name;
	}
	log_error(
		"killed: something in this process made the system call %s (%d), which the daemon never makes; if it was "
		"a module, it must not (see [confine] in apikeyd.conf(5)); if not, take it for a break-in",
		name, info->si_syscall);
	/* The handler is gone by now (SA_RESETHAND), and what comes at once is the end. */
	syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), number);
	_exit(128 + SIGSYS);
}

static int handle_kills(void)
{
	struct sigaction action = {.sa_sigaction = on_killed, .sa_flags = SA_SIGINFO | SA_RESETHAND | SA_NODEFER};
	sigset_t only;

	for (unsigned i = 0; i < KILLED_MAX; i++) {
		known[i].number = seccomp_syscall_resolve_name(killed[i]);
		known[i].name = known[i].number >= 0 ? killed[i] : NULL;
	}
	sigemptyset(&only);
	sigaddset(&only, SIGSYS);
	if (sigaction(SIGSYS, &action, NULL) != 0 || pthread_sigmask(SIG_UNBLOCK, &only, NULL) != 0)
		return -errno;
	return 0;
}

/* ---- rules ---- */

static void rule(struct filter *filter, uint32_t action, const char *name, unsigned count,
		 const struct scmp_arg_cmp *args)
{
	int number = seccomp_syscall_resolve_name(name), rc;

	if (filter->rc != 0 || number == __NR_SCMP_ERROR || (filter->only_log && action != SCMP_ACT_ALLOW))
		return;
	rc = seccomp_rule_add_array(filter->context, action, number, count, args);
	/* Of another architecture, or such that its arguments cannot be looked at here: it stays unknown. */
	if (rc != 0 && rc != -EDOM && rc != -EINVAL)
		filter->rc = rc;
	else if (rc == 0 && action == SCMP_ACT_ALLOW && count == 0)
		filter->allowed++;
}

static void rules(struct filter *filter, uint32_t action, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		rule(filter, action, names[i], 0, NULL);
}

static void rule_if(struct filter *filter, uint32_t action, const char *name, struct scmp_arg_cmp arg)
{
	rule(filter, action, name, 1, &arg);
}

/* Memory that is executable comes into being in the ways of these alone. */
static void rules_of_code(struct filter *filter, bool new_code)
{
	static const char *const calls[] = {"mmap", "mmap2", "mprotect", "pkey_mprotect"};

	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (new_code) {
			rule(filter, SCMP_ACT_ALLOW, calls[i], 0, NULL);
			continue;
		}
		rule_if(filter, SCMP_ACT_ALLOW, calls[i], SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
		rule_if(filter, SCMP_ACT_ERRNO(EPERM), calls[i], SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
	}
}

/*
 * Threads, but no processes. What clone3 is asked for stands in memory, where a filter cannot look: libc takes ENOSYS, and
 * comes by clone.
 */
static void rules_of_processes(struct filter *filter, pid_t broker)
{
	const uint32_t self = (uint32_t)getpid();

	rule_if(filter, SCMP_ACT_ALLOW, "clone",
		SCMP_CMP(CLONE_FLAGS_AT, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	rule_if(filter, SCMP_ACT_ERRNO(EPERM), "clone", SCMP_CMP(CLONE_FLAGS_AT, SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
	rule_if(filter, SCMP_ACT_ALLOW, "tgkill", SCMP_A0_32(SCMP_CMP_EQ, self));
	rule_if(filter, SCMP_ACT_ALLOW, "kill", SCMP_A0_32(SCMP_CMP_EQ, self));
	if (broker > 0)
		rule_if(filter, SCMP_ACT_ALLOW, "kill", SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)broker));
	/* The handler of a kill stays as it is. */
	rule_if(filter, SCMP_ACT_ALLOW, "rt_sigaction", SCMP_A0_32(SCMP_CMP_NE, SIGSYS));
	rule_if(filter, SCMP_ACT_ERRNO(EPERM), "rt_sigaction", SCMP_A0_32(SCMP_CMP_EQ, SIGSYS));
	/* Limits may be read. */
	rule_if(filter, SCMP_ACT_ALLOW, "prlimit64", SCMP_A2(SCMP_CMP_EQ, 0));
	rule_if(filter, SCMP_ACT_ERRNO(EPERM), "prlimit64", SCMP_A2(SCMP_CMP_NE, 0));
}

static void rules_of_sockets(struct filter *filter)
{
	static const uint32_t families[] = {AF_UNIX, AF_INET, AF_INET6};

	for (unsigned i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		rule_if(filter, SCMP_ACT_ALLOW, "socket", SCMP_A0_32(SCMP_CMP_EQ, families[i]));
	/* libc asks which addresses this host has before it sorts those of another. */
	const struct scmp_arg_cmp route[] = {SCMP_A0_32(SCMP_CMP_EQ, AF_NETLINK),
					     SCMP_A2_32(SCMP_CMP_EQ, NETLINK_ROUTE)};

	rule(filter, SCMP_ACT_ALLOW, "socket", 2, route);
}

static void rules_of_questions(struct filter *filter)
{
	/* Of sockets and pipes, and whether something is a terminal. */
	static const uint32_t requests[] = {FIONREAD,	 FIONBIO,      FIOCLEX,	    FIONCLEX,
					    TCGETS,	 TIOCGWINSZ,   SIOCGIFCONF, SIOCGIFFLAGS,
					    SIOCGIFADDR, SIOCGIFINDEX, SIOCGIFNAME, SIOCGIFMTU};
	/* Never PR_SET_DUMPABLE. */
	static const uint32_t options[] = {PR_SET_NAME,	   PR_GET_NAME,	    PR_GET_DUMPABLE,   PR_GET_NO_NEW_PRIVS,
					   PR_GET_SECCOMP, PR_CAPBSET_READ, PR_SET_TIMERSLACK, PR_GET_TIMERSLACK,
					   0x53564d41 /* PR_SET_VMA: libc names its memory */};

	for (unsigned i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		rule_if(filter, SCMP_ACT_ALLOW, "ioctl", SCMP_A1_32(SCMP_CMP_EQ, requests[i]));
	for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		rule_if(filter, SCMP_ACT_ALLOW, "prctl", SCMP_A0_32(SCMP_CMP_EQ, options[i]));
	rule_if(filter, SCMP_ACT_ERRNO(EPERM), "prctl", SCMP_A0_32(SCMP_CMP_EQ, PR_SET_DUMPABLE));
}

/* ---- the filter ---- */

static void set_up(struct filter *filter, const struct seccomp_wish *wish)
{
	filter->rc = seccomp_attr_set(filter->context, SCMP_FLTATR_ACT_BADARCH,
				      wish->only_log ? SCMP_ACT_LOG : SCMP_ACT_KILL_PROCESS);
	if (filter->rc == 0)
		filter->rc = seccomp_attr_set(filter->context, SCMP_FLTATR_CTL_TSYNC, 1);
	if (filter->rc != 0)
		return;
	/* Who shares the process with the pepper is held back by more than this; older kernels would slow all of it down. */
	(void)seccomp_attr_set(filter->context, SCMP_FLTATR_CTL_SSB, 1);
	/* A tree in place of a list, where libseccomp has it. */
	(void)seccomp_attr_set(filter->context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	for (unsigned i = 0; i < sizeof(often) / sizeof(often[0]); i++) {
		int number = seccomp_syscall_resolve_name(often[i]);

		if (number >= 0)
			(void)seccomp_syscall_priority(filter->context, number, (uint8_t)(UINT8_MAX - i));
	}
	rules(filter, SCMP_ACT_ALLOW, often, sizeof(often) / sizeof(often[0]));
	rules(filter, SCMP_ACT_ALLOW, allowed, sizeof(allowed) / sizeof(allowed[0]));
	rules(filter, SCMP_ACT_TRAP, killed, sizeof(killed) / sizeof(killed[0]));
	rules(filter, SCMP_ACT_ERRNO(EPERM), refused, sizeof(refused) / sizeof(refused[0]));
	rules_of_code(filter, wish->new_code);
	rules_of_processes(filter, wish->broker);
	rules_of_sockets(filter);
	rules_of_questions(filter);
}

int seccomp_enforce(const struct seccomp_wish *wish, unsigned *ret_count, char *error, size_t error_size)
{
	struct filter filter = {.only_log = wish->only_log};
	int rc = -ENOMEM;

	filter.context = seccomp_init(wish->only_log ? SCMP_ACT_LOG : SCMP_ACT_ERRNO(ENOSYS));
	if (!filter.context)
		goto out;
	set_up(&filter, wish);
	rc = filter.rc;
	if (rc == 0 && !wish->only_log)
		rc = handle_kills();
	if (rc == 0)
		rc = seccomp_load(filter.context);
	if (rc == 0)
		*ret_count = filter.allowed;
out:
	if (rc != 0)
		snprintf(error, error_size, "%s", strerror(-rc));
	if (filter.context)
		seccomp_release(filter.context);
	return rc;
}
