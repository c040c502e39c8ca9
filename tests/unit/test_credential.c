/* What a setting means that names a credential: the service manager's, or the file beside the configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/credential.h"

static char dir[] = "/tmp/test-credential.XXXXXX";
static char out[CREDENTIAL_PATH_MAX], error[512];

static int path_of(const char *text)
{
	strcpy(out, "untouched");
	error[0] = '\0';
	return credential_path(text, out, sizeof(out), error, sizeof(error));
}

static int set_up(void **state)
{
	char file[64];
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/there", dir);
	fd = open(file, O_CREAT | O_WRONLY, 0400);
	close(fd);
	return fd < 0;
}

static int tear_down(void **state)
{
	char file[64];

	(void)state;
	snprintf(file, sizeof(file), "%s/there", dir);
	unlink(file);
	return rmdir(dir);
}

static void test_names(void **state)
{
	static const char *const wrong[] = {"credential:",    "credential:.",	"credential:..", "credential:.a",
					    "credential:a/b", "credential:a b", "credential:a:b"};
	char name[128] = "credential:";
	size_t len = strlen(name);

	(void)state;
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_true(credential_is(wrong[i]));
		assert_false(credential_valid(wrong[i]));
		assert_int_equal(path_of(wrong[i]), -EINVAL);
		assert_non_null(strstr(error, "a credential's name is"));
	}
	memset(name + len, 'a', CREDENTIAL_NAME_MAX);
	assert_true(credential_valid(name));
	name[len + CREDENTIAL_NAME_MAX] = 'a';
	assert_false(credential_valid(name));
	assert_true(credential_valid("credential:db.key-1_X"));
	assert_false(credential_is("/etc/credential:x"));
	assert_false(credential_valid("/etc/credential:x"));
}

static void test_passed(void **state)
{
	char wanted[128];

	(void)state;
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	assert_int_equal(path_of("credential:there"), 0);
	snprintf(wanted, sizeof(wanted), "%s/there", dir);
	assert_string_equal(out, wanted);
	assert_int_equal(path_of("credential:other"), -ENOENT);
	assert_string_equal(error, "credential:other: the service manager passed no credential of that name; add "
				   "LoadCredential=other:FILE to the unit");
	assert_int_equal(path_of("/any/path"), 0);
	assert_string_equal(out, "/any/path");
	assert_int_equal(credential_path("credential:there", out, 8, error, sizeof(error)), -ENAMETOOLONG);
	assert_int_equal(credential_path("/any/path", out, 4, error, sizeof(error)), -ENAMETOOLONG);
}

static void test_by_hand(void **state)
{
	(void)state;
	unsetenv("CREDENTIALS_DIRECTORY");
	assert_int_equal(path_of("credential:test-credential.none"), -ENOENT);
	assert_string_equal(error, "credential:test-credential.none: without a service manager that is the file "
				   "/etc/apikeyd/test-credential.none, and there is none");
}

/* The last test: it holds for the whole process. */
static void test_left_out(void **state)
{
	(void)state;
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	assert_false(credential_left_out("credential:there"));
	credential_leave_out();
	assert_true(credential_left_out("credential:there"));
	assert_false(credential_left_out("/any/path"));
	assert_int_equal(path_of("credential:other"), 0);
	assert_string_equal(out, "/nonexistent/other");
	assert_int_equal(path_of("credential:.."), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_passed),
		cmocka_unit_test(test_by_hand),
		cmocka_unit_test(test_left_out),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
