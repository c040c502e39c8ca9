/* All sockets together: each as its section says, all or none, and each connection with what its socket is bound to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/listeners.h"
#include "daemon/user.h"

enum { TURNS = 20000 };

struct world {
	char dir[64];
	struct config *config;
	struct listeners listeners;
	uv_loop_t loop;
	struct {
		enum rpc_service service;
		char stack[16];
		int fd;
	} accepted[8];
	unsigned count;
	char faults[4096];
	char error[1024];
};

/* A configuration in which $ stands for a directory of its own. */
static struct world *world_with(const char *text)
{
	struct world *w = calloc(1, sizeof(*w));
	char *whole = NULL, errors[1024];
	size_t size;
	FILE *out = open_memstream(&whole, &size);

	assert_non_null(w);
	strcpy(w->dir, "/tmp/test-listeners.XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	fprintf(out, "[admin]\npath = %s/admin\n", w->dir);
	for (; *text; text++)
		*text == '$' ? fputs(w->dir, out) : fputc(*text, out);
	fclose(out);
	w->config = config_parse(whole, size, "a.conf", errors, sizeof(errors));
	assert_string_equal(errors, "");
	free(whole);
	uv_loop_init(&w->loop);
	return w;
}

static void end(struct world *w)
{
	char command[128];

	listeners_stop(&w->listeners);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	listeners_deinit(&w->listeners);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	for (unsigned i = 0; i < w->count; i++)
		close(w->accepted[i].fd);
	config_free(w->config);
	snprintf(command, sizeof(command), "rm -rf %s", w->dir);
	assert_int_equal(system(command), 0);
	free(w);
}

static void on_accepted(void *data, int fd, enum rpc_service service, const char *stack)
{
	struct world *w = data;

	assert_true(w->count < 8);
	assert_int_not_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
	w->accepted[w->count].service = service;
	w->accepted[w->count].fd = fd;
	snprintf(w->accepted[w->count++].stack, sizeof(w->accepted[0].stack), "%s", stack ? stack : "(none)");
}

static void on_fault(void *data, const char *line)
{
	struct world *w = data;
	const char *part;
	size_t len = strlen(w->faults);

	/* the directory's name is another one each time */
	for (; *line; line++) {
		part = strstr(line, w->dir) == line ? "$" : NULL;
		len += (size_t)snprintf(w->faults + len, sizeof(w->faults) - len, "%c", part ? '$' : *line);
		line += part ? strlen(w->dir) - 1 : 0;
	}
	snprintf(w->faults + len, sizeof(w->faults) - len, "\n");
}

static int connect_to(const struct world *w, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", w->dir, name);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
		close(fd);
		return -errno;
	}
	return fd;
}

static bool exists(const struct world *w, const char *name, struct stat *ret)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	return lstat(path, ret) == 0;
}

static void expect_accepted(struct world *w, unsigned count)
{
	for (unsigned i = 0; i < TURNS && w->count < count; i++) {
		uv_run(&w->loop, UV_RUN_NOWAIT);
		usleep(1000);
	}
	assert_int_equal(w->count, count);
}

static void test_each_as_configured(void **state)
{
	static const struct {
		const char *name, *stack;
		mode_t mode;
		enum rpc_service service;
	} wanted[] = {{"check", "(none)", 0660, RPC_SERVICE_CHECK},
		      {"web", "web", 0666, RPC_SERVICE_CHECK},
		      {"more", "(none)", 0600, RPC_SERVICE_CHECK},
		      {"admin", "(none)", 0600, RPC_SERVICE_ADMIN}};
	struct world *w = world_with("[socket]\npath = $/check\n"
				     "[socket web]\npath = $/web\nmode = 0666\nstack = web\n"
				     "[socket more]\npath = $/more\nmode = 0600\n");
	struct stat st;

	(void)state;
	listeners_check(w->config, NULL, on_fault, w);
	assert_string_equal(w->faults, "");
	assert_int_equal(listeners_open(&w->listeners, w->config, NULL, w->error, sizeof(w->error)), 0);
	assert_int_equal(w->listeners.count, 4);
	assert_int_equal(listeners_start(&w->listeners, &w->loop, on_accepted, w), 0);
	for (unsigned i = 0; i < 4; i++) {
		int fd = connect_to(w, wanted[i].name);

		assert_true(fd >= 0);
		expect_accepted(w, i + 1);
		assert_int_equal(w->accepted[i].service, wanted[i].service);
		assert_string_equal(w->accepted[i].stack, wanted[i].stack);
		assert_true(exists(w, wanted[i].name, &st));
		assert_int_equal(st.st_mode, S_IFSOCK | wanted[i].mode);
		close(fd);
	}
	end(w);
}

/* Who stands in a queue when all is stopped is let in, and its stack outlives the configuration. */
static void test_stop(void **state)
{
	struct world *w = world_with("[socket]\npath = $/check\n[socket web]\npath = $/web\nstack = web\n");
	struct stat st;
	int first, second;

	(void)state;
	assert_int_equal(listeners_open(&w->listeners, w->config, NULL, w->error, sizeof(w->error)), 0);
	assert_int_equal(listeners_start(&w->listeners, &w->loop, on_accepted, w), 0);
	config_free(w->config);
	w->config = NULL;
	first = connect_to(w, "web");
	second = connect_to(w, "check");
	listeners_stop(&w->listeners);
	assert_int_equal(w->count, 2);
	assert_string_equal(w->accepted[0].stack, "(none)");
	assert_string_equal(w->accepted[1].stack, "web");
	assert_int_equal(connect_to(w, "web"), -ENOENT);
	assert_false(exists(w, "check", &st));
	assert_false(exists(w, "web", &st));
	assert_false(exists(w, "admin", &st));
	assert_false(exists(w, "web.lock", &st));
	close(first);
	close(second);
	end(w);
}

/* Where one cannot be made, none is, and what stands there stays. */
static void test_all_or_none(void **state)
{
	static const char *const names[] = {"check", "web", "admin"};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct world *w = world_with("[socket]\npath = $/check\n[socket web]\npath = $/web\nstack = web\n");
		char path[128];
		struct stat st;
		FILE *file;

		snprintf(path, sizeof(path), "%s/%s", w->dir, names[i]);
		file = fopen(path, "w");
		assert_non_null(file);
		fclose(file);
		assert_int_not_equal(listeners_open(&w->listeners, w->config, NULL, w->error, sizeof(w->error)), 0);
		assert_non_null(strstr(w->error, i == 1	  ? "[socket web] path"
						 : i == 0 ? "[socket] path"
							  : "[admin] path"));
		assert_non_null(strstr(w->error, "something stands there that is no socket"));
		assert_int_equal(w->listeners.count, 0);
		for (unsigned k = 0; k < 3; k++)
			assert_int_equal(exists(w, names[k], &st), k == i);
		assert_false(exists(w, "check.lock", &st));
		unlink(path);
		assert_int_equal(listeners_open(&w->listeners, w->config, NULL, w->error, sizeof(w->error)), 0);
		end(w);
	}
}

/* What cannot be told before it is tried: which setting it is about, and what helps. */
static void test_told(void **state)
{
	struct world *w = world_with("[socket]\npath = $/check\n");
	struct sockaddr_un address;
	char lock[128], path[256];

	(void)state;
	snprintf(lock, sizeof(lock), "%s/check.lock", w->dir);
	assert_int_equal(mkdir(lock, 0700), 0);
	assert_int_equal(listeners_open(&w->listeners, w->config, NULL, w->error, sizeof(w->error)), -EISDIR);
	snprintf(path, sizeof(path),
		 "a.conf:4: [socket] path = %s/check: cannot make the lock beside it: Is a directory", w->dir);
	assert_string_equal(w->error, path);
	assert_int_equal(rmdir(lock), 0);
	/* A path that the reader of the configuration would not have let pass. */
	memset(path, 'x', sizeof(address.sun_path));
	memcpy(path, w->dir, strlen(w->dir));
	path[strlen(w->dir)] = '/';
	path[sizeof(address.sun_path)] = '\0';
	free(w->config->check[0].path);
	w->config->check[0].path = strdup(path);
	assert_int_equal(listeners_open(&w->listeners, w->config, NULL, w->error, sizeof(w->error)), -ENAMETOOLONG);
	assert_non_null(strstr(w->error, "a.conf:4: [socket] path = "));
	assert_non_null(strstr(w->error, "longer than 107 bytes, which is all that a socket's address holds; choose a "
					 "shorter one"));
	end(w);
}

/* Every fault of every socket is told, by its section. */
static void test_check(void **state)
{
	struct world *w = world_with("[socket]\npath = $/none/check\n"
				     "[socket web]\npath = $/web\nowner = no-such-user\n"
				     "[socket more]\npath = $/more\ngroup = no-such-group\n"
				     "[socket one]\npath = $/here/same\n"
				     "[socket two]\npath = $/there/same\n"
				     "[socket three]\npath = $//here/./same\n"
				     "[socket four]\npath = $/same\n");
	char here[128], there[128];

	(void)state;
	snprintf(here, sizeof(here), "%s/here", w->dir);
	snprintf(there, sizeof(there), "%s/there", w->dir);
	assert_int_equal(mkdir(here, 0700), 0);
	assert_int_equal(symlink("here", there), 0);
	listeners_check(w->config, NULL, on_fault, w);
	char wanted[2048], own[USER_NAME_SIZE];

	snprintf(wanted, sizeof(wanted),
		 "a.conf:4: [socket] path = $/none/check: the directory $/none: No such file or directory; make it, "
		 "writable by apikeyd's user, %s\n"
		 "a.conf:7: [socket web] owner = no-such-user: there is no such user\n"
		 "a.conf:10: [socket more] group = no-such-group: there is no such group\n"
		 "a.conf:14: [socket two] path = $/there/same: is the path of [socket one], $/here/same\n"
		 "a.conf:16: [socket three] path = $//here/./same: is the path of [socket one], $/here/same\n"
		 "a.conf:16: [socket three] path = $//here/./same: is the path of [socket two], $/there/same\n",
		 user_describe(geteuid(), own));
	assert_string_equal(w->faults, wanted);
	end(w);
}

/* ---- sockets that were passed ---- */

/* As a service manager makes one: it listens, or is of another kind. */
static int make_socket(struct world *w, const char *name, int type, bool listens)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", w->dir, name);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	if (listens)
		assert_int_equal(listen(fd, 8), 0);
	return fd;
}

/* It is used as it is, and is the manager's again at the end, with who stands in its queue. */
static void test_passed(void **state)
{
	struct world *w = world_with("[socket]\npath = $/none/check\n[socket web]\npath = $/web\nstack = web\n");
	int managers, fd, first, second, third, taken;
	struct passed passed = {0};
	struct stat before, after;

	(void)state;
	managers = make_socket(w, "elsewhere", SOCK_STREAM, true);
	assert_true(exists(w, "elsewhere", &before));
	first = connect_to(w, "elsewhere"); /* before there is a daemon */
	fd = dup(managers);
	assert_int_equal(passed_add(&passed, fd, "socket", w->error, sizeof(w->error)), 0);
	listeners_check(w->config, &passed, on_fault, w);
	assert_string_equal(w->faults, ""); /* nobody looks for $/none */
	assert_int_equal(listeners_open(&w->listeners, w->config, &passed, w->error, sizeof(w->error)), 0);
	assert_int_equal(w->listeners.count, 3);
	assert_int_equal(listeners_start(&w->listeners, &w->loop, on_accepted, w), 0);
	assert_true(listeners_hold(&w->listeners));
	second = connect_to(w, "web"); /* of our own: not held */
	expect_accepted(w, 1);
	assert_string_equal(w->accepted[0].stack, "web");
	uv_run(&w->loop, UV_RUN_NOWAIT);
	assert_int_equal(w->count, 1);
	listeners_go_on(&w->listeners);
	expect_accepted(w, 2);
	assert_int_equal(w->accepted[1].service, RPC_SERVICE_CHECK);
	third = connect_to(w, "elsewhere");
	listeners_stop(&w->listeners);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(w->count, 2);
	assert_true(exists(w, "elsewhere", &after));
	assert_int_equal(after.st_ino, before.st_ino);
	assert_false(exists(w, "elsewhere.lock", &after));
	taken = accept(managers, NULL, NULL);
	assert_true(taken >= 0);
	close(taken);
	close(first);
	close(second);
	close(third);
	close(managers);
	end(w);
}

static void test_passed_wrong(void **state)
{
	struct world *w = world_with("[socket web]\npath = $/web\n");
	struct passed passed = {0};
	struct sockaddr_un nowhere = {.sun_family = AF_UNIX};
	int good = make_socket(w, "good", SOCK_STREAM, true), other = make_socket(w, "other", SOCK_STREAM, true);
	int quiet = make_socket(w, "quiet", SOCK_STREAM, false),
	    datagrams = make_socket(w, "datagrams", SOCK_DGRAM, false);
	int file = open("/dev/null", O_RDONLY), nameless = socket(AF_UNIX, SOCK_STREAM, 0);
	int network = socket(AF_INET, SOCK_STREAM, 0);
	const struct {
		int fd;
		const char *error;
	} wrong[] = {{quiet, "passed socket web: does not listen; it takes Accept=no"},
		     {datagrams, "passed socket web: is no stream socket; it takes ListenStream="},
		     {file, "passed socket web: is no socket in the Unix domain; ListenStream= must be a path"},
		     {network, "passed socket web: is no socket in the Unix domain; ListenStream= must be a path"},
		     {nameless,
		      "passed socket web: has no path, which its permissions would be those of; ListenStream= "
		      "must be a path"}};

	(void)state;
	/* the kernel finds a name without a path for it */
	assert_int_equal(bind(nameless, (struct sockaddr *)&nowhere, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(nameless, 8), 0);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(passed_add(&passed, wrong[i].fd, "socket web", w->error, sizeof(w->error)), -EINVAL);
		assert_non_null(strstr(w->error, wrong[i].error + strlen("passed socket web")));
		assert_int_equal(passed.count, 0);
		close(wrong[i].fd);
	}
	assert_int_equal(passed_add(&passed, good, "socket web", w->error, sizeof(w->error)), 0);
	assert_int_equal(passed_add(&passed, other, "socket web", w->error, sizeof(w->error)), -EINVAL);
	assert_non_null(strstr(w->error, "two have this name"));
	assert_int_equal(passed_add(&passed, other, "web", w->error, sizeof(w->error)), 0);
	listeners_check(w->config, &passed, on_fault, w);
	assert_non_null(strstr(w->faults, "passed socket web ("));
	assert_non_null(strstr(w->faults, "there is no section [web]; FileDescriptorName= must be"));
	close(good);
	close(other);
	end(w);
}

/* By what the environment says, which is for this process alone. */
static void test_environment(void **state)
{
	struct world *w = world_with("");
	struct passed passed = {0};
	char pid[32];
	int fds[2], kept[2];

	(void)state;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	for (int i = 0; i < 2; i++)
		kept[i] = fcntl(3 + i, F_DUPFD_CLOEXEC, 20); /* what stands there now, if anything */
	fds[0] = make_socket(w, "a", SOCK_STREAM, true);
	fds[1] = make_socket(w, "b", SOCK_STREAM, true);
	for (int i = 0; i < 2; i++)
		fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 10);
	assert_int_equal(dup2(fds[0], 3), 3);
	assert_int_equal(dup2(fds[1], 4), 4);
	setenv("LISTEN_FDS", "2", 1);
	setenv("LISTEN_FDNAMES", "socket:admin", 1);
	setenv("LISTEN_PID", "1", 1);
	assert_int_equal(passed_take(&passed, w->error, sizeof(w->error)), 0);
	assert_int_equal(passed.count, 0);
	assert_null(getenv("LISTEN_FDS"));
	setenv("LISTEN_FDS", "2", 1);
	setenv("LISTEN_FDNAMES", "socket:admin", 1);
	setenv("LISTEN_PID", pid, 1);
	assert_int_equal(passed_take(&passed, w->error, sizeof(w->error)), 0);
	assert_int_equal(passed.count, 2);
	assert_int_equal(passed_find(&passed, "socket")->fd, 3);
	assert_int_equal(passed_find(&passed, "admin")->fd, 4);
	assert_null(passed_find(&passed, "socket x"));
	assert_int_not_equal(fcntl(3, F_GETFD) & FD_CLOEXEC, 0);
	assert_null(getenv("LISTEN_PID"));
	assert_null(getenv("LISTEN_FDNAMES"));
	setenv("LISTEN_FDS", "500", 1);
	setenv("LISTEN_PID", pid, 1);
	assert_int_equal(passed_take(&passed, w->error, sizeof(w->error)), -EINVAL);
	for (int i = 0; i < 2; i++) {
		close(fds[i]);
		if (kept[i] < 0)
			close(3 + i);
		else
			dup2(kept[i], 3 + i);
		close(kept[i]);
	}
	end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_as_configured),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_all_or_none),
		cmocka_unit_test(test_told),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_passed),
		cmocka_unit_test(test_passed_wrong),
		cmocka_unit_test(test_environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
