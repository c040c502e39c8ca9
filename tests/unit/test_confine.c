/* What the daemon needs, what it can reach then, and what each version of the kernel's landlock makes of that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/config.h"
#include "daemon/confine/landlock.h"
#include "daemon/confine/names.h"
#include "daemon/confine/needs.h"
#include "daemon/confine/reach.h"

static char base[64];

static const char *in(const char *name)
{
	static char paths[8][256];
	static unsigned turn;
	char *path = paths[turn++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", base, name);
	return path;
}

static void make_directory(const char *name)
{
	assert_return_code(mkdir(in(name), 0700), errno);
}

static void make_file(const char *name)
{
	int fd = open(in(name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_return_code(fd, errno);
	close(fd);
}

static int setup(void **state)
{
	(void)state;
	snprintf(base, sizeof(base), "/tmp/apikeyd-confine.XXXXXX");
	return mkdtemp(base) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", base);
	return system(command);
}

/* ---- needs ---- */

struct told {
	char text[8192];
	size_t len;
	enum needs_of least;
};

static void on_need(void *data, const struct need *need)
{
	struct told *told = data;
	static const char *const uses[] = {"-", "r", "w", "rw", "d", "rd", "wd", "rwd"};

	if (need->of < told->least)
		return;
	told->len += (size_t)snprintf(told->text + told->len, sizeof(told->text) - told->len, "%s|", need->what);
	if (need->abstract)
		told->len += (size_t)snprintf(told->text + told->len, sizeof(told->text) - told->len, "abstract\n");
	else if (!need->path)
		told->len += (size_t)snprintf(told->text + told->len, sizeof(told->text) - told->len, "port %u\n",
					      (unsigned)need->port);
	else
		told->len += (size_t)snprintf(told->text + told->len, sizeof(told->text) - told->len, "%s%s %s\n",
					      need->kind == NEEDS_FILE ? "f" : "", uses[need->use], need->path);
}

static struct told tell(const char *text, enum needs_of least)
{
	struct told told = {.least = least};
	char errors[1024];
	struct config *config = config_parse(text, strlen(text), "a.conf", errors, sizeof(errors));

	assert_non_null(config);
	needs_each("/c/a.conf", config, NULL, on_need, &told);
	config_free(config);
	return told;
}

static void test_needs(void **state)
{
	struct told told;

	(void)state;
	unsetenv("CREDENTIALS_DIRECTORY");
	setenv("PGPASSFILE", "/p/pass", 1);
	told = tell("[stacks]\ndir = /s\nmodule_dir = /m\n[key]\npepper_file = /k/pepper\n"
		    "[database]\nconninfo = host=a,b,/run port=1,2,3 sslrootcert=/t/ca.pem sslcert=relative\n"
		    "  sslcrldir=/t/crls\n"
		    "admin_conninfo = host=@abstract sslrootcert=system passfile=/q/pass\n"
		    "[state]\ndirectory = /state\n[confine]\nread = /r, /x y\nwrite = /w\nconnect = 389,636\n",
		    NEEDS_OF_START);
	assert_string_equal(told.text, "the configuration|fr /c/a.conf\n"
				       "[stacks] dir|r /s\n"
				       "[stacks] module_dir|r /m\n"
				       "[key] pepper_file|fr /k/pepper\n"
				       "[database] conninfo: passfile|fr /p/pass\n"
				       "[database] conninfo: sslrootcert|fr /t/ca.pem\n"
				       "[database] conninfo: sslcrldir|r /t/crls\n"
				       "[database] conninfo|port 1\n"
				       "[database] conninfo|port 2\n"
				       "[database] admin_conninfo: passfile|fr /q/pass\n"
				       "[database] admin_conninfo|abstract\n"
				       "[state] directory|rw /state\n"
				       "[confine] read|r /r\n"
				       "[confine] read|r /x y\n"
				       "[confine] write|rw /w\n"
				       "[confine] connect|port 389\n"
				       "[confine] connect|port 636\n");
	unsetenv("PGPASSFILE");
	told = tell(
		"[stacks]\ndir = /s\nmodule_dir = /m\n[key]\npepper_file = /k\n[database]\nconninfo = hostaddr=127.0.0.1\n"
		"[state]\ndirectory =\n[confine]\nconnect = any\n",
		NEEDS_OF_START);
	assert_string_equal(told.text, "the configuration|fr /c/a.conf\n"
				       "[stacks] dir|r /s\n"
				       "[stacks] module_dir|r /m\n"
				       "[key] pepper_file|fr /k\n"
				       "[database] conninfo|port 5432\n"
				       "[confine] connect|port 0\n");
}

static void test_needs_of_the_system(void **state)
{
	struct told told;

	(void)state;
	setenv("HOME", "/h", 1);
	setenv("SSL_CERT_FILE", "/certs/one", 1);
	setenv("TZDIR", "relative", 1);
	setenv("CREDENTIALS_DIRECTORY", "/creds", 1);
	setenv("NOTIFY_SOCKET", "@notify", 1);
	told = tell("[socket]\npath = /run/x/check\n[socket y]\npath = /y\n[admin]\npath = /run/z/admin\n",
		    NEEDS_OF_SYSTEM);
	for (const char *const *want =
		     (const char *const[]){"|r /etc\n", "|r /usr\n", "|r /proc\n", "|rw /dev/null\n",
					   "|r /h/.postgresql\n", "|r /h/.pgpass\n", "|fr /certs/one\n", "|r /creds\n",
					   "|abstract\n", "|d /run/x\n", "|d /\n", "|d /run/z\n", "|port 53\n",
					   "|fr /etc/resolv.conf\n", NULL};
	     *want; want++) {
		if (!strstr(told.text, *want))
			fail_msg("%s is not in %s", *want, told.text);
	}
	assert_null(strstr(told.text, "relative"));
	unsetenv("SSL_CERT_FILE");
	unsetenv("TZDIR");
	unsetenv("CREDENTIALS_DIRECTORY");
	unsetenv("NOTIFY_SOCKET");
}

/* ---- reach ---- */

static void add(struct reach *reach, const char *name, unsigned use)
{
	struct stat st;

	assert_return_code(stat(in(name), &st), errno);
	assert_true(reach_add(reach, &st, use));
}

static void test_reach(void **state)
{
	struct reach reach = {0};

	(void)state;
	make_directory("a");
	make_directory("a/b");
	make_file("a/b/file");
	make_directory("out");
	make_file("out/file");
	assert_return_code(symlink("../out/file", in("a/link")), errno);
	assert_return_code(symlink("../a/b/file", in("out/link")), errno);
	add(&reach, "a", NEEDS_READ);
	assert_int_equal(reach_find(&reach, in("a"), NEEDS_READ), REACH_IN);
	assert_int_equal(reach_find(&reach, in("a/b/file"), NEEDS_READ), REACH_IN);
	assert_int_equal(reach_find(&reach, in("a/b/../b/./file"), NEEDS_READ), REACH_IN);
	assert_int_equal(reach_find(&reach, in("a/b/none"), NEEDS_READ), REACH_IN);
	assert_int_equal(reach_find(&reach, in("a/none/none/none"), NEEDS_READ), REACH_IN);
	assert_int_equal(reach_find(&reach, in("a/b/file"), NEEDS_READ | NEEDS_WRITE), REACH_OUT);
	assert_int_equal(reach_find(&reach, in("out/file"), NEEDS_READ), REACH_OUT);
	assert_int_equal(reach_find(&reach, in("out/none"), NEEDS_READ), REACH_NOTHING);
	assert_int_equal(reach_find(&reach, in("ab"), NEEDS_READ), REACH_NOTHING);
	/* It is where a link leads that counts. */
	assert_int_equal(reach_find(&reach, in("a/link"), NEEDS_READ), REACH_OUT);
	assert_int_equal(reach_find(&reach, in("out/link"), NEEDS_READ), REACH_IN);
	/* A place of its own, and one that was added to. */
	add(&reach, "out/file", NEEDS_WRITE);
	assert_int_equal(reach_find(&reach, in("out/file"), NEEDS_READ), REACH_OUT);
	assert_int_equal(reach_find(&reach, in("out/file"), NEEDS_WRITE), REACH_IN);
	add(&reach, "out/file", NEEDS_READ);
	assert_int_equal(reach_find(&reach, in("a/link"), NEEDS_READ | NEEDS_WRITE), REACH_IN);
	assert_int_equal(reach.count, 2);
	/* Another directory of the same name is another. */
	assert_return_code(rename(in("a"), in("was")), errno);
	make_directory("a");
	assert_int_equal(reach_find(&reach, in("a"), NEEDS_READ), REACH_OUT);
	assert_int_equal(reach_find(&reach, in("was/b/file"), NEEDS_READ), REACH_IN);
	reach.any_path = true;
	assert_int_equal(reach_find(&reach, "/none", NEEDS_WRITE), REACH_IN);
	reach_deinit(&reach);
}

static void test_reach_many(void **state)
{
	struct reach reach = {0};
	char name[16];

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		make_directory(name);
		add(&reach, name, NEEDS_READ);
	}
	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "d%u/x", i);
		assert_int_equal(reach_find(&reach, in(name), NEEDS_READ), REACH_IN);
	}
	assert_int_equal(reach.count, 100);
	reach_deinit(&reach);
}

static void test_reach_ports(void **state)
{
	struct reach reach = {0};

	(void)state;
	for (unsigned i = 1; i <= REACH_PORTS_MAX; i++)
		assert_true(reach_add_port(&reach, (uint16_t)i));
	assert_true(reach_add_port(&reach, 7));
	assert_false(reach_add_port(&reach, REACH_PORTS_MAX + 1));
	assert_true(reach_find_port(&reach, REACH_PORTS_MAX));
	assert_false(reach_find_port(&reach, REACH_PORTS_MAX + 1));
	assert_true(reach_add_port(&reach, 0));
	assert_true(reach_find_port(&reach, REACH_PORTS_MAX + 1));
	reach_deinit(&reach);
}

/* ---- landlock, each version that this kernel has ---- */

static void allow(const struct landlock *landlock, const char *name, unsigned use)
{
	struct stat st;
	int fd = open(in(name), O_PATH | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) || landlock_allow(landlock, fd, S_ISDIR(st.st_mode), use) != 0)
		_exit(10);
	close(fd);
}

static int opened(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int connected(uint16_t port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc = connect(fd, (const struct sockaddr *)&address, sizeof(address)) ? errno : 0;

	close(fd);
	return rc;
}

#define CHECK(n, condition)                                                                                            \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			_exit(n);                                                                                      \
	} while (0)

static _Noreturn void restricted(int version)
{
	const struct landlock_wish wish = {0};
	struct landlock landlock;

	CHECK(11, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(12, landlock_begin(&landlock, version, &wish) == 0);
	allow(&landlock, "read", NEEDS_READ);
	allow(&landlock, "write", NEEDS_READ | NEEDS_WRITE);
	allow(&landlock, "remove", NEEDS_REMOVE);
	allow(&landlock, "one/file", NEEDS_READ | NEEDS_WRITE | NEEDS_REMOVE);
	CHECK(13, landlock_allow_port(&landlock, 2) == 0);
	CHECK(14, landlock_enforce(&landlock) == 0);
	landlock_end(&landlock);
	CHECK(20, opened(in("read/file"), O_RDONLY) == 0);
	CHECK(21, opened(in("read"), O_RDONLY | O_DIRECTORY) == 0);
	CHECK(22, opened(in("read/file"), O_WRONLY) == EACCES);
	CHECK(23, opened(in("read/new"), O_WRONLY | O_CREAT) == EACCES);
	CHECK(24, unlink(in("read/file")) != 0 && errno == EACCES);
	CHECK(30, opened(in("write/file"), O_RDWR | O_TRUNC) == 0);
	CHECK(31, opened(in("write/new"), O_WRONLY | O_CREAT) == 0);
	CHECK(32, rename(in("write/new"), in("write/other")) == 0);
	CHECK(33, mkdir(in("write/directory"), 0700) == 0 && rmdir(in("write/directory")) == 0);
	CHECK(34, unlink(in("write/other")) == 0);
	CHECK(35, symlink("/", in("write/link")) != 0 && errno == EACCES);
	CHECK(40, opened(in("remove/file"), O_RDONLY) == EACCES);
	CHECK(41, unlink(in("remove/file")) == 0);
	CHECK(42, rmdir(in("remove/directory")) != 0 && errno == EACCES);
	CHECK(50, opened(in("one/file"), O_RDWR) == 0);
	CHECK(51, opened(in("one/other"), O_RDONLY) == EACCES);
	CHECK(52, version < 3 || (truncate(in("one/other"), 0) != 0 && errno == EACCES));
	CHECK(60, opened("/etc/passwd", O_RDONLY) == EACCES);
	CHECK(70, connected(1) == (version < LANDLOCK_VERSION_TCP ? ECONNREFUSED : EACCES));
	CHECK(71, connected(2) == ECONNREFUSED);
	_exit(0);
}

static void test_landlock(void **state)
{
	int last = landlock_version();

	(void)state;
	if (last <= 0) {
		print_message("# this kernel has no landlock: %s\n", strerror(-last));
		skip();
	}
	for (int version = 1; version <= last; version++) {
		int status;
		pid_t pid;

		for (const char *const *name =
			     (const char *const[]){"read", "write", "remove", "one", "remove/directory", NULL};
		     *name; name++)
			make_directory(*name);
		for (const char *const *name = (const char *const[]){"read/file", "write/file", "remove/file",
								     "one/file", "one/other", NULL};
		     *name; name++)
			make_file(*name);
		pid = fork();
		assert_return_code(pid, errno);
		if (pid == 0)
			restricted(version);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			fail_msg("version %d: check %d (status %#x)", version, WEXITSTATUS(status), (unsigned)status);
		assert_int_equal(teardown(state), 0);
		assert_int_equal(setup(state), 0);
	}
}

/* ---- names ---- */

/* Whatever this host's file says: it is read, and nothing comes of it that can be seen. */
static void test_names(void **state)
{
	(void)state;
	names_load();
	names_load();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_needs),
		cmocka_unit_test(test_needs_of_the_system),
		cmocka_unit_test_setup_teardown(test_reach, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reach_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reach_ports, setup, teardown),
		cmocka_unit_test_setup_teardown(test_landlock, setup, teardown),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("confine", tests, NULL, NULL);
}
