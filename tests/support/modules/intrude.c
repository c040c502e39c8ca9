/*
 * intrude: does what a daemon that confines itself must not be able to do, and a few things that it must; as often as it
 * is asked. It may stand in group caller. Arguments:
 *
 *     act=WORD   what (the table below)
 *     at=TEXT    a path or a port, where the act has one. (Not of type path: the daemon would let it be read.)
 *
 * success where it could be done, policy where not; and in either case the detail says "done", or the errno's name.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/apikeyd-module.h"

enum { ACT = 0, AT };

struct instance {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	const struct apikeyd_value *values;
};

static int rc_of(long rc)
{
	return rc < 0 ? errno : 0;
}

/* ---- programs and processes ---- */

static int act_execve(const char *at)
{
	char *const argv[] = {(char *)(uintptr_t) "/bin/true", NULL};

	(void)at;
	return rc_of(execve(argv[0], argv, environ));
}

static int act_execveat(const char *at)
{
	char *const argv[] = {(char *)(uintptr_t) "/bin/true", NULL};

	(void)at;
	return rc_of(syscall(SYS_execveat, AT_FDCWD, argv[0], argv, environ, 0));
}

static int act_spawn(const char *at)
{
	char *const argv[] = {(char *)(uintptr_t) "/bin/true", NULL};
	pid_t pid;
	int rc;

	(void)at;
	rc = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
	if (rc == 0)
		waitpid(pid, NULL, 0);
	return rc;
}

static int act_fork(const char *at)
{
	pid_t pid = fork();

	(void)at;
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return rc_of(pid);
}

static int act_ptrace(const char *at)
{
	(void)at;
	return rc_of(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
}

static int act_vm_read(const char *at)
{
	char byte;
	struct iovec here = {.iov_base = &byte, .iov_len = 1};

	(void)at;
	return rc_of(process_vm_readv(getppid(), &here, 1, &here, 1, 0));
}

static int act_kill(const char *at)
{
	(void)at;
	return rc_of(kill(getppid(), 0));
}

static void *on_thread(void *data)
{
	return data;
}

static int act_thread(const char *at)
{
	pthread_t thread;
	int rc = pthread_create(&thread, NULL, on_thread, NULL);

	(void)at;
	return rc ? rc : pthread_join(thread, NULL);
}

/* ---- code ---- */

static int act_new_code(const char *at)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)at;
	return page == MAP_FAILED ? errno : munmap(page, 4096);
}

static int act_code_of_data(const char *at)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int rc;

	(void)at;
	if (page == MAP_FAILED)
		return EIO;
	rc = rc_of(mprotect(page, 4096, PROT_READ | PROT_EXEC));
	munmap(page, 4096);
	return rc;
}

static int act_library(const char *at)
{
	return dlopen(at, RTLD_NOW) ? 0 : EPERM;
}

/* ---- the kernel ---- */

static int act_bpf(const char *at)
{
	(void)at;
	return rc_of(syscall(SYS_bpf, 0, NULL, 0));
}

static int act_mount(const char *at)
{
	return rc_of(mount("none", at, "tmpfs", 0, NULL));
}

static int act_unshare(const char *at)
{
	(void)at;
	return rc_of(syscall(SYS_unshare, 0x10000000 /* CLONE_NEWUSER */));
}

static int act_keyring(const char *at)
{
	(void)at;
	return rc_of(syscall(SYS_keyctl, 0, -3, 0));
}

static int act_unknown(const char *at)
{
	(void)at;
	return rc_of(syscall(1023));
}

/* Where the architecture has a second table of calls, which no filter of the first is about. */
static int act_x32(const char *at)
{
	(void)at;
#if defined(__x86_64__)
	return rc_of(syscall(0x40000000L | SYS_getpid));
#else
	return ENOTSUP;
#endif
}

static int act_dumpable(const char *at)
{
	(void)at;
	return rc_of(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static int act_limit(const char *at)
{
	struct rlimit limit = {0, 0};

	(void)at;
	return rc_of(setrlimit(RLIMIT_CORE, &limit));
}

static int act_setuid(const char *at)
{
	(void)at;
	return rc_of(syscall(SYS_setuid, 65534));
}

static int act_handler(const char *at)
{
	(void)at;
	return signal(SIGSYS, SIG_IGN) == SIG_ERR ? errno : 0;
}

/* ---- files ---- */

static int opened(int fd)
{
	int rc = rc_of(fd);

	if (fd >= 0)
		close(fd);
	return rc;
}

static int act_read(const char *at)
{
	return opened(open(at, O_RDONLY | O_CLOEXEC));
}

static int act_write(const char *at)
{
	return opened(open(at, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

static int act_unlink(const char *at)
{
	return rc_of(unlink(at));
}

static int act_chmod(const char *at)
{
	return rc_of(chmod(at, 0777));
}

static int act_link(const char *at)
{
	return rc_of(symlink("/etc", at));
}

static int act_user(const char *at)
{
	return getpwnam(at) ? 0 : ENOENT;
}

/* ---- the network ---- */

static int act_name(const char *at)
{
	struct addrinfo *found = NULL;
	int rc = getaddrinfo(at, NULL, NULL, &found);

	if (rc == 0)
		freeaddrinfo(found);
	return rc == 0 ? 0 : ENOENT;
}

static int tcp(const char *at, bool binds)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)strtoul(at, NULL, 10)),
				      .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return errno;
	rc = rc_of(binds ? bind(fd, (const struct sockaddr *)&address, sizeof(address))
			 : connect(fd, (const struct sockaddr *)&address, sizeof(address)));
	close(fd);
	return rc;
}

static int act_connect(const char *at)
{
	return tcp(at, false);
}

static int act_bind(const char *at)
{
	return tcp(at, true);
}

static int act_abstract(const char *at)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return errno;
	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "%s", at);
	rc = rc_of(connect(fd, (const struct sockaddr *)&address,
			   (socklen_t)(sizeof(address) - sizeof(address.sun_path) + 1 + strlen(at))));
	close(fd);
	return rc;
}

static int act_packet(const char *at)
{
	(void)at;
	return opened(socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

/* ---- the module ---- */

static const struct {
	const char *word;
	int (*act)(const char *at);
} acts[] = {
	{"execve", act_execve},	    {"execveat", act_execveat},
	{"spawn", act_spawn},	    {"fork", act_fork},
	{"ptrace", act_ptrace},	    {"vm_read", act_vm_read},
	{"kill", act_kill},	    {"thread", act_thread},
	{"new_code", act_new_code}, {"code_of_data", act_code_of_data},
	{"library", act_library},   {"bpf", act_bpf},
	{"mount", act_mount},	    {"unshare", act_unshare},
	{"keyring", act_keyring},   {"unknown", act_unknown},
	{"x32", act_x32},	    {"dumpable", act_dumpable},
	{"limit", act_limit},	    {"setuid", act_setuid},
	{"handler", act_handler},   {"read", act_read},
	{"write", act_write},	    {"unlink", act_unlink},
	{"chmod", act_chmod},	    {"link", act_link},
	{"user", act_user},	    {"name", act_name},
	{"connect", act_connect},   {"bind", act_bind},
	{"abstract", act_abstract}, {"packet", act_packet},
};

static const struct apikeyd_argument arguments[] = {
	[ACT] = {.name = "act", .type = APIKEYD_TYPE_TEXT, .required = true, .help = "what is done"},
	[AT] = {.name = "at", .type = APIKEYD_TYPE_TEXT, .fallback = "/", .help = "a path or a port"},
	{0},
};

static enum apikeyd_code intrude_start(void *data, const struct apikeyd_request *request, uint64_t token)
{
	const struct instance *instance = data;
	int rc = EINVAL;

	(void)token;
	for (unsigned i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
		if (strcmp(acts[i].word, instance->values[ACT].text) == 0)
			rc = acts[i].act(instance->values[AT].text);
	}
	instance->host->detail(instance->self, request, rc == 0 ? "done" : strerrorname_np(rc));
	return rc == 0 ? APIKEYD_SUCCESS : APIKEYD_POLICY;
}

static int intrude_open(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
			void **ret_instance, char *error, size_t error_size)
{
	struct instance *instance = calloc(1, sizeof(*instance));

	(void)error;
	(void)error_size;
	if (!instance)
		return -ENOMEM;
	*instance = (struct instance){.self = self, .host = host, .values = values};
	*ret_instance = instance;
	return 0;
}

APIKEYD_EXPORT const struct apikeyd_module apikeyd_module = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "intrude",
	.help = "does what a confined daemon must not be able to do",
	.groups = APIKEYD_GROUP_CALLER,
	.arguments = arguments,
	.open = intrude_open,
	.start = intrude_start,
	.close = free,
};
