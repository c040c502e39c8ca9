/* Which files and directories are trusted: owner and mode of each step, links, and what is none of both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/trusted.h"

enum { OTHER = 65533, ANOTHER = 65532 }; /* uids that are neither root nor, it is hoped, ours */

static char base[64], error[1024];

/* ---- a place of our own, anew for each test ---- */

static const char *in(const char *name)
{
	static char paths[8][256];
	static unsigned turn;
	char *path = paths[turn++ % 8];

	snprintf(path, sizeof(paths[0]), "%s%s%s", base, *name ? "/" : "", name);
	return path;
}

static void make_directory(const char *name, mode_t mode)
{
	assert_return_code(mkdir(in(name), 0700), errno);
	assert_return_code(chmod(in(name), mode), errno);
}

static void make_file(const char *name, mode_t mode)
{
	int fd = open(in(name), O_WRONLY | O_CREAT | O_EXCL, 0600);

	assert_return_code(fd, errno);
	assert_int_equal(write(fd, name, strlen(name)), strlen(name));
	assert_return_code(fchmod(fd, mode), errno);
	close(fd);
}

static void make_link(const char *name, const char *target)
{
	assert_return_code(symlink(target, in(name)), errno);
}

static int setup(void **state)
{
	(void)state;
	strcpy(base, "/tmp/apikeyd-trusted.XXXXXX");
	if (!mkdtemp(base))
		return -1;
	/* On the way to everything: d is good, d/f a good file. */
	make_directory("d", 0755);
	make_file("d/f", 0644);
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "chmod -R u+rwx %s && rm -r %s", base, base);
	return system(command);
}

static int open_kind(const char *path, enum trusted_kind kind)
{
	int fd = -7, rc;

	memset(error, 0, sizeof(error));
	rc = trusted_open(path, kind, &fd, error, sizeof(error));
	if (rc != 0) {
		assert_int_equal(fd, -7);
		assert_string_not_equal(error, "");
		assert_null(strchr(error, '\n'));
		/* It begins with what was asked for. */
		assert_int_equal(strncmp(error, path, strlen(path)), 0);
		return rc;
	}
	assert_string_equal(error, "");
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	return fd;
}

/* Opens, and what is read is what stands in `name` (each file holds its own name). */
static void good_file(const char *path, const char *name)
{
	char text[256] = "";
	int fd = open_kind(path, TRUSTED_FILE);

	if (fd < 0)
		fail_msg("%s", error);
	assert_int_equal(read(fd, text, sizeof(text) - 1), strlen(name));
	assert_string_equal(text, name);
	close(fd);
}

static void good_directory(const char *path, const char *name)
{
	struct stat st, own;
	int fd = open_kind(path, TRUSTED_DIRECTORY);
	DIR *directory;

	if (fd < 0)
		fail_msg("%s", error);
	assert_return_code(fstat(fd, &st), errno);
	assert_return_code(stat(in(name), &own), errno);
	assert_int_equal(st.st_ino, own.st_ino);
	directory = fdopendir(fd);
	assert_non_null(directory);
	assert_non_null(readdir(directory));
	closedir(directory);
}

/* Refused with this number, and the line names the step and has these words. */
static void refused(const char *path, enum trusted_kind kind, int rc, const char *step, const char *words)
{
	int got = open_kind(path, kind);

	if (got >= 0)
		fail_msg("%s was opened", path);
	assert_int_equal(got, rc);
	if (!strstr(error, step) || !strstr(error, words))
		fail_msg("\"%s\" does not say \"%s\" and \"%s\"", error, step, words);
}

static void refused_file(const char *name, int rc, const char *step, const char *words)
{
	refused(in(name), TRUSTED_FILE, rc, in(step), words);
}

/* ---- modes ---- */

static void test_good(void **state)
{
	char path[256];

	(void)state;
	good_file(in("d/f"), "d/f");
	good_directory(in("d"), "d");
	good_directory("/", "../..");
	good_directory("//./..", "../..");
	make_file("d/own", 0400);
	good_file(in("d/own"), "d/own");
	make_file("d/run", 0755);
	good_file(in("d/run"), "d/run");
	make_directory("d/e", 0711);
	make_file("d/e/f", 0444);
	good_file(in("d/e/f"), "d/e/f");
	snprintf(path, sizeof(path), "/%s//d/.///e/../e/./f", base);
	good_file(path, "d/e/f");
	snprintf(path, sizeof(path), "%s/d/e/", base);
	good_directory(path, "d/e");
	snprintf(path, sizeof(path), "%s/d/e/.", base);
	good_directory(path, "d/e");
	snprintf(path, sizeof(path), "%s/d/e/..", base);
	good_directory(path, "d");
}

static void test_file_mode(void **state)
{
	static const struct {
		mode_t mode;
		const char *who;
	} modes[] = {{0664, "its group can write it"}, {0620, "its group can write it"},
		     {0646, "anybody can write it"},   {0602, "anybody can write it"},
		     {0666, "anybody can write it"},   {01666, "anybody can write it"},
		     {04775, "its group can write it"}};
	char words[64];

	(void)state;
	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		assert_return_code(chmod(in("d/f"), modes[i].mode), errno);
		refused_file("d/f", -EPERM, "d/f", modes[i].who);
		snprintf(words, sizeof(words), "mode %04o", (unsigned)modes[i].mode);
		assert_non_null(strstr(error, words));
		snprintf(words, sizeof(words), "run chmod go-w %s", in("d/f"));
		assert_non_null(strstr(error, words));
	}
	/* What it says helps. */
	assert_return_code(chmod(in("d/f"), 0755), errno);
	good_file(in("d/f"), "d/f");
}

static void test_parents(void **state)
{
	(void)state;
	make_directory("d/e", 0755);
	make_directory("d/e/g", 0755);
	make_file("d/e/g/f", 0644);
	for (unsigned i = 0; i < 3; i++) {
		static const char *const parents[] = {"d", "d/e", "d/e/g"};

		for (unsigned j = 0; j < 3; j++) {
			static const mode_t modes[] = {0775, 0757, 0777};

			assert_return_code(chmod(in(parents[i]), modes[j]), errno);
			refused_file("d/e/g/f", -EPERM, parents[i], "can write it");
			refused(in("d/e/g"), TRUSTED_DIRECTORY, -EPERM, in(parents[i]), "run chmod go-w");
		}
		assert_return_code(chmod(in(parents[i]), 0755), errno);
		good_file(in("d/e/g/f"), "d/e/g/f");
	}
	/* The step is named by itself, not only within the path. */
	assert_return_code(chmod(in("d/e"), 0775), errno);
	refused_file("d/e/g/f", -EPERM, "d/e: its group can write it", "mode 0775");
	assert_string_equal(strrchr(error, ' ') + 1, in("d/e"));
}

/* All of this already stands in one: /tmp. */
static void test_sticky(void **state)
{
	(void)state;
	make_directory("s", 01777);
	make_directory("s/d", 0755);
	make_file("s/d/f", 0644);
	good_file(in("s/d/f"), "s/d/f");
	good_directory(in("s/d"), "s/d");
	make_file("s/f", 0644);
	refused_file("s/f", -EPERM, "s/f", "others can put files");
	make_link("s/link", "d/f");
	refused_file("s/link", -EPERM, "s/link", "others can put files");
	make_link("s/way", "d");
	refused_file("s/way/f", -EPERM, "s/way", "others can put files");
	refused(in("s"), TRUSTED_DIRECTORY, -EPERM, in("s"), "others can put files there");
	assert_return_code(chmod(in("s"), 01775), errno);
	refused_file("s/f", -EPERM, "s/f", "others can put files");
	good_file(in("s/d/f"), "s/d/f");
	/* Sticky by itself says nothing. */
	assert_return_code(chmod(in("s"), 01755), errno);
	good_file(in("s/f"), "s/f");
	good_file(in("s/link"), "s/d/f");
	good_directory(in("s"), "s");
	/* Coming back from below changes nothing in that. */
	assert_return_code(chmod(in("s"), 01777), errno);
	refused(in("s/d/.."), TRUSTED_DIRECTORY, -EPERM, in("s"), "others can put files there");
	refused_file("s/d/../f", -EPERM, "s/f", "others can put files");
}

/* ---- owners ---- */

static void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

static void test_owner(void **state)
{
	(void)state;
	need_root();
	assert_return_code(chown(in("d/f"), OTHER, 0), errno);
	refused_file("d/f", -EPERM, "d/f", "belongs to uid 65533 (mode 0644); it must be root's: chown root /");
	assert_return_code(chown(in("d/f"), 0, OTHER), errno);
	good_file(in("d/f"), "d/f"); /* a group that cannot write is none of our business */
	assert_return_code(chown(in("d"), OTHER, 0), errno);
	refused_file("d/f", -EPERM, "d: belongs to uid 65533 (mode 0755)", "chown root");
	refused(in("d"), TRUSTED_DIRECTORY, -EPERM, in("d"), "belongs to uid 65533");
	assert_return_code(chmod(in("d"), 01777), errno);
	make_directory("d/e", 0755);
	make_file("d/e/f", 0644);
	refused_file("d/e/f", -EPERM, "d", "belongs to uid 65533"); /* the owner of a sticky one can do anything */
}

static void test_link_owner(void **state)
{
	(void)state;
	need_root();
	make_link("link", "d/f");
	good_file(in("link"), "d/f");
	assert_return_code(lchown(in("link"), OTHER, 0), errno);
	refused_file("link", -EPERM, "link", "belongs to uid 65533");
	assert_non_null(strstr(error, "chown -h root"));
	make_link("way", "d");
	assert_return_code(lchown(in("way"), OTHER, 0), errno);
	refused_file("way/f", -EPERM, "way", "belongs to uid 65533");
}

/* As somebody else: it is root and the effective user that count. */
static void test_effective_user(void **state)
{
	int status;
	pid_t child;

	(void)state;
	need_root();
	assert_return_code(chmod(base, 0755), errno);
	make_file("d/theirs", 0600);
	assert_return_code(chown(in("d/theirs"), OTHER, 0), errno);
	make_file("d/another", 0644);
	assert_return_code(chown(in("d/another"), ANOTHER, 0), errno);
	make_file("d/closed", 0600);
	make_directory("d/home", 0755);
	assert_return_code(chown(in("d/home"), OTHER, 0), errno);
	make_file("d/home/f", 0644);
	child = fork();
	assert_return_code(child, errno);
	if (child == 0) {
		int fd, code = 0;

		if (seteuid(OTHER))
			_exit(99);
		if (trusted_open(in("d/f"), TRUSTED_FILE, &fd, error, sizeof(error)) != 0)
			code |= 1;
		if (trusted_open(in("d/theirs"), TRUSTED_FILE, &fd, error, sizeof(error)) != 0)
			code |= 2;
		if (trusted_open(in("d/home/f"), TRUSTED_FILE, &fd, error, sizeof(error)) != 0)
			code |= 4;
		if (trusted_open(in("d/another"), TRUSTED_FILE, &fd, error, sizeof(error)) != -EPERM ||
		    !strstr(error, "belongs to uid 65532") || !strstr(error, "root's or uid 65533's"))
			code |= 8;
		if (trusted_open(in("d/closed"), TRUSTED_FILE, &fd, error, sizeof(error)) != -EACCES ||
		    !strstr(error, "Permission denied"))
			code |= 16;
		_exit(code);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	/* And for root they are other people's. */
	refused_file("d/theirs", -EPERM, "d/theirs", "belongs to uid 65533");
	refused_file("d/home/f", -EPERM, "d/home", "belongs to uid 65533");
}

/* ---- links ---- */

static void test_links(void **state)
{
	(void)state;
	make_directory("d/e", 0755);
	make_file("d/e/f", 0644);
	make_link("relative", "d/e/f");
	good_file(in("relative"), "d/e/f");
	make_link("d/e/up", "../f");
	good_file(in("d/e/up"), "d/f");
	make_link("absolute", in("d/e/../f"));
	good_file(in("absolute"), "d/f");
	make_link("way", "d/e");
	good_file(in("way/f"), "d/e/f");
	good_directory(in("way"), "d/e");
	good_file(in("way/../f"), "d/f"); /* of the link's target, as the kernel has it */
	make_link("slash", "d/e/");
	good_file(in("slash/f"), "d/e/f");
	make_link("chain", "way/up");
	good_file(in("chain"), "d/f");
	make_link("nowhere", "d/none");
	refused_file("nowhere", -ENOENT, "d/none", "No such file");
	make_link("self", "self");
	refused_file("self", -ELOOP, "self", "more than 16 symbolic links");
	make_link("a", "b/x");
	make_link("b", "a/y");
	refused_file("a", -ELOOP, "", "more than 16 symbolic links");
}

static void test_links_bounded(void **state)
{
	char name[32], target[32];

	(void)state;
	make_link("l1", "d/f");
	for (unsigned i = 2; i <= TRUSTED_LINKS_MAX + 1; i++) {
		snprintf(name, sizeof(name), "l%u", i);
		snprintf(target, sizeof(target), "l%u", i - 1);
		make_link(name, target);
	}
	good_file(in("l16"), "d/f");
	refused_file("l17", -ELOOP, "l1", "more than 16 symbolic links");
}

/* What a link leads to is judged as if it had been named. */
static void test_link_targets(void **state)
{
	(void)state;
	make_directory("open", 0777);
	make_file("open/f", 0644);
	make_file("d/soft", 0664);
	make_link("file", "open/f");
	refused_file("file", -EPERM, "open", "anybody can write it");
	make_link("way", "open");
	refused_file("way/f", -EPERM, "open", "anybody can write it");
	make_link("soft", "d/soft");
	refused_file("soft", -EPERM, "d/soft", "its group can write it");
	make_link("open/out", in("d/f"));
	refused_file("open/out", -EPERM, "open", "anybody can write it");
	refused_file("open/../d/f", -EPERM, "open", "anybody can write it");
	make_link("round", "open/../d/f");
	refused_file("round", -EPERM, "open", "anybody can write it");
}

/* A link of /proc leads past any walk: what it says is walked, and that is no path. */
static void test_proc(void **state)
{
	char path[64];
	int fd = memfd_create("apikeyd", 0);

	(void)state;
	assert_return_code(fd, errno);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_true(open_kind(path, TRUSTED_FILE) < 0);
	close(fd);
	fd = open(in("d/f"), O_RDONLY);
	assert_return_code(fd, errno);
	good_file(path, "d/f");
	assert_return_code(unlink(in("d/f")), errno);
	assert_int_equal(open_kind(path, TRUSTED_FILE), -ENOENT);
	close(fd);
}

/* ---- what is neither ---- */

static void test_kinds(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd;

	(void)state;
	refused(in("d/f"), TRUSTED_DIRECTORY, -ENOTDIR, in("d/f"), "is not a directory");
	refused(in("d"), TRUSTED_FILE, -EINVAL, in("d"), "is a directory, not a file");
	refused("/", TRUSTED_FILE, -EINVAL, "/", "is a directory, not a file");
	refused_file("d/f/f", -ENOTDIR, "d/f", "is not a directory");
	refused_file("d/f/.", -ENOTDIR, "d/f", "is not a directory");
	refused_file("d/none", -ENOENT, "d/none", "No such file");
	refused_file("none/f", -ENOENT, "none", "No such file");
	/* Opening a fifo to see what it is would wait for a writer. */
	assert_return_code(mkfifo(in("d/fifo"), 0600), errno);
	refused_file("d/fifo", -EINVAL, "d/fifo", "is not a regular file");
	refused_file("d/fifo/x", -ENOTDIR, "d/fifo", "is not a directory");
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/d/socket", base);
	assert_return_code(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), errno);
	refused_file("d/socket", -EINVAL, "d/socket", "is not a regular file");
	close(fd);
	refused("/dev/null", TRUSTED_FILE, -EINVAL, "/dev/null", "is not a regular file");
}

static void test_paths(void **state)
{
	static char path[8192];

	(void)state;
	refused("d/f", TRUSTED_FILE, -EINVAL, "d/f", "is not an absolute path");
	refused("", TRUSTED_FILE, -EINVAL, "", "is not an absolute path");
	/* A name too long, and a path too long; not cut to one that there is. */
	memset(path, 'x', 300);
	memcpy(path, "/", 1);
	refused(path, TRUSTED_FILE, -ENAMETOOLONG, "", "File name too long");
	memset(path, '/', 8000);
	strcpy(path + 8000, "tmp");
	memset(error, 0, sizeof(error));
	int fd = -7;

	assert_int_equal(trusted_open(path, TRUSTED_DIRECTORY, &fd, error, sizeof(error)), -ENAMETOOLONG);
	assert_int_equal(fd, -7);
	/* A link can make it longer than there is room for: 19 names of 200 bytes, and two more after it. */
	memset(path, 0, sizeof(path));
	for (unsigned i = 0; i < 19; i++)
		snprintf(path + i * 201, 202, "/%0200u", i);
	make_link("long", path);
	snprintf(path, sizeof(path), "%s/long/%0200u/%0200u", base, 1, 2);
	assert_int_equal(open_kind(path, TRUSTED_FILE), -ENAMETOOLONG);
	/* A line with little room is cut, and ends. */
	char small[8] = "xxxxxxx";

	assert_int_equal(trusted_open("d", TRUSTED_FILE, &fd, small, sizeof(small)), -EINVAL);
	assert_string_equal(small, "d: is n");
	assert_int_equal(fd, -7);
}

static unsigned count_open(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

/* Neither success nor any refusal leaves a descriptor behind. */
static void test_descriptors(void **state)
{
	unsigned before = count_open();

	test_good(state);
	assert_int_equal(count_open(), before);
	teardown(state);
	setup(state);
	test_link_targets(state);
	test_kinds(state);
	assert_int_equal(count_open(), before);
	teardown(state);
	setup(state);
	test_links(state);
	test_sticky(state);
	assert_int_equal(count_open(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_mode, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parents, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sticky, setup, teardown),
		cmocka_unit_test_setup_teardown(test_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(test_link_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(test_effective_user, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_link_targets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_proc, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kinds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_descriptors, setup, teardown),
	};

	umask(022);
	return cmocka_run_group_tests_name("trusted", tests, NULL, NULL);
}
