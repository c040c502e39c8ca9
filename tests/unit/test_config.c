#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/config.h"
#include "daemon/config_table.h"

static char errors[8192];

static struct config *parse(const char *text)
{
	return config_parse(text, strlen(text), "a.conf", errors, sizeof(errors));
}

/* ---- good ---- */

static void test_defaults(void **state)
{
	struct config *c = config_load(NULL, errors, sizeof(errors));

	(void)state;
	assert_non_null(c);
	assert_string_equal(c->check[0].path, "/run/apikeyd/check.sock");
	assert_int_equal(c->check[0].mode, 0660);
	assert_int_equal(c->check_count, 1);
	assert_null(c->check[0].name);
	assert_string_equal(c->check[0].stack, "");
	assert_string_equal(c->admin.path, "/run/apikeyd/admin.sock");
	assert_int_equal(c->admin.mode, 0600);
	assert_string_equal(c->admin_users, "root");
	assert_string_equal(c->role, "apikeyd_check");
	assert_string_equal(c->admin_role, "apikeyd_admin");
	assert_false(c->insecure_remote);
	assert_int_equal(c->poll_ms, 200);
	assert_int_equal(c->max_stale_ms, 10000);
	assert_string_equal(c->brand, "ak");
	assert_string_equal(c->stack_dir, "/etc/apikeyd/stacks");
	assert_int_equal(c->module_dir[0], '/');
	assert_string_equal(strstr(c->module_dir, "/apikeyd/"), "/apikeyd/modules");
	assert_string_equal(c->explain_users, "root");
	assert_int_equal(c->module_pending, 1024);
	assert_int_equal(c->message_bytes, 65536);
	assert_int_equal(c->pairs, 1024);
	assert_int_equal(c->stop_ms, 5000);
	assert_int_equal(c->log_level, LOG_LEVEL_INFO);
	config_free(c);
}

/* Every way to write a value, in one file: comments, blanks, units, words, a text that goes on. */
static void test_forms(void **state)
{
	struct config *c = parse("\xef\xbb\xbf# a comment\n"
				 "; another\n"
				 "   # and one with blanks\n"
				 "\r\n"
				 "[socket]\r\n"
				 "path=/a/b\r\n"
				 "mode = 600   ; to be found\n"
				 "[database]\n"
				 "conninfo = host=a,b\n"
				 "  dbname=x\n"
				 "\tuser=y\n"
				 "insecure_remote = on\n"
				 "poll_ms = 1 s\n"
				 "guard_ms = 5min\n"
				 "load_timeout_ms = 1h\n"
				 "connect_timeout_ms = 250ms\n"
				 "[limits]\n"
				 "read_bytes = 64k\n"
				 "output_bytes_per_connection = 1M\n"
				 "[log]\n"
				 "level = debug\n"
				 "[limits]\n"
				 "pairs = 7");

	(void)state;
	assert_non_null(c);
	assert_string_equal(c->check[0].path, "/a/b");
	assert_int_equal(c->check[0].mode, 0600);
	assert_string_equal(c->conninfo, "host=a,b dbname=x user=y");
	assert_true(c->insecure_remote);
	assert_int_equal(c->poll_ms, 1000);
	assert_int_equal(c->guard_ms, 300000);
	assert_int_equal(c->load_timeout_ms, 3600000);
	assert_int_equal(c->connect_timeout_ms, 250);
	assert_int_equal(c->read_bytes, 65536);
	assert_int_equal(c->output_bytes_per_connection, 1048576);
	assert_int_equal(c->log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(c->pairs, 7);
	config_free(c);
}

/* Each [socket NAME] has its own settings over the same defaults, in whatever pieces it stands. */
static void test_sockets(void **state)
{
	struct config *c = parse("[socket]\n"
				 "stack = web\n"
				 "[socket metrics]\n"
				 "path = /a/m\n"
				 "mode = 0600\n"
				 "stack = m.1-x_y\n"
				 "[admin]\n"
				 "path = /a/admin\n"
				 "[socket Z-9_]\n"
				 "owner = root\n"
				 "group = 7\n"
				 "[socket metrics]\n"
				 "group = nogroup\n"
				 "[socket Z-9_]\n"
				 "path = /a/z\n");
	char section[CONFIG_SECTION_SIZE];

	(void)state;
	assert_string_equal(errors, "");
	assert_non_null(c);
	assert_int_equal(c->check_count, 3);
	assert_null(c->check[0].name);
	assert_string_equal(c->check[0].path, "/run/apikeyd/check.sock");
	assert_string_equal(c->check[0].stack, "web");
	assert_string_equal(c->check[1].name, "metrics");
	assert_string_equal(c->check[1].path, "/a/m");
	assert_string_equal(c->check[1].owner, "");
	assert_string_equal(c->check[1].group, "nogroup");
	assert_int_equal(c->check[1].mode, 0600);
	assert_string_equal(c->check[1].stack, "m.1-x_y");
	assert_string_equal(c->check[2].name, "Z-9_");
	assert_string_equal(c->check[2].path, "/a/z");
	assert_string_equal(c->check[2].owner, "root");
	assert_string_equal(c->check[2].group, "7");
	assert_int_equal(c->check[2].mode, 0660);
	assert_string_equal(c->check[2].stack, "");
	assert_string_equal(c->admin.path, "/a/admin");
	assert_null(c->admin.stack);
	assert_string_equal(config_socket_section(&c->check[0], section), "socket");
	assert_string_equal(config_socket_section(&c->check[2], section), "socket Z-9_");
	config_free(c);
}

/* As many as there may be, and one more. */
static void test_many_sockets(void **state)
{
	char text[4096] = "";
	size_t len = 0;
	struct config *c;

	(void)state;
	for (unsigned i = 1; i <= CONFIG_SOCKETS_MAX; i++)
		len += (size_t)sprintf(text + len, "[socket s%u]\npath = /s/%u\n", i, i);
	c = parse(text);
	assert_non_null(c);
	assert_int_equal(c->check_count, 1 + CONFIG_SOCKETS_MAX);
	assert_string_equal(c->check[CONFIG_SOCKETS_MAX].path, "/s/16");
	config_free(c);
	strcat(text, "[socket more]\npath = /s/more\n[socket s3]\nmode = 9\n");
	assert_null(parse(text));
	assert_string_equal(errors, "a.conf:33: [socket more]: there must be at most 16 sockets besides [socket]\n"
				    "a.conf:36: [socket s3] mode = 9: must be permissions in octal, 0000 to 0777\n");
}

/* The longest path that a socket's address takes, and one byte more. */
static void test_socket_path(void **state)
{
	char path[110], text[200];
	struct config *c;

	(void)state;
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[107] = '\0';
	snprintf(text, sizeof(text), "[socket]\npath = %s\n", path);
	c = parse(text);
	assert_non_null(c);
	config_free(c);
	path[107] = 'x';
	path[108] = '\0';
	snprintf(text, sizeof(text), "[socket]\npath = %s\n", path);
	assert_null(parse(text));
	assert_non_null(strstr(errors, "must be at most 107 bytes"));
}

/* ---- bad ---- */

static const struct {
	const char *text, *error;
} bad[] = {
	{"[limits]\npairs = 0\n", "a.conf:2: [limits] pairs = 0: must be a number from 1 to 1024\n"},
	{"[limits]\npairs = 1025\n", "a.conf:2: [limits] pairs = 1025: must be a number from 1 to 1024\n"},
	{"[limits]\npairs =\n", "a.conf:2: [limits] pairs = : must be a number from 1 to 1024\n"},
	{"[limits]\npairs = 1k\n", "a.conf:2: [limits] pairs = 1k: must be a number from 1 to 1024\n"},
	{"[limits]\npairs = -1\n", "a.conf:2: [limits] pairs = -1: must be a number from 1 to 1024\n"},
	{"[limits]\npairs = 99999999999999999999999\n",
	 "a.conf:2: [limits] pairs = 99999999999999999999999: must be a number from 1 to 1024\n"},
	{"[database]\n\npoll_ms = 2m\n",
	 "a.conf:3: [database] poll_ms = 2m: must be milliseconds from 10 to 60000, or with a unit: ms, s, min, h\n"},
	{"[limits]\nread_bytes = 4294967295G\n",
	 "a.conf:2: [limits] read_bytes = 4294967295G: must be bytes from 4096 to 16777216, or with a unit: k, M, G\n"},
	{"[socket]\nmode = 0999\n", "a.conf:2: [socket] mode = 0999: must be permissions in octal, 0000 to 0777\n"},
	{"[socket]\nmode = 1777\n", "a.conf:2: [socket] mode = 1777: must be permissions in octal, 0000 to 0777\n"},
	{"[socket]\npath = run/x\n", "a.conf:2: [socket] path = run/x: must be an absolute path of a socket\n"},
	{"[socket]\npath = /run/\n", "a.conf:2: [socket] path = /run/: must be an absolute path of a socket\n"},
	{"[socket]\npath =\n", "a.conf:2: [socket] path = : must be an absolute path of a socket\n"},
	{"[socket]\nowner = a b\n", "a.conf:2: [socket] owner = a b: must be one user or group, a name or a number\n"},
	{"[admin]\nusers = a:b\n",
	 "a.conf:2: [admin] users = a:b: must be users, names or numbers, with commas between\n"},
	{"[key]\nbrand = A\n", "a.conf:2: [key] brand = A: must be 1 to 16 of a-z 0-9, the first a letter\n"},
	{"[key]\npepper_file = p\n", "a.conf:2: [key] pepper_file = p: must be an absolute path, or credential:NAME\n"},
	{"[key]\npepper_file = credential:../p\n",
	 "a.conf:2: [key] pepper_file = credential:../p: must have a credential's name behind credential: (letters, digits, "
	 "- _ .)\n"},
	{"[database]\ninsecure_remote = maybe\n", "a.conf:2: [database] insecure_remote = maybe: must be yes or no\n"},
	{"[log]\nlevel = loud\n", "a.conf:2: [log] level = loud: must be error, warning, info or debug\n"},
	{"[socket]\nstack = a/b\n",
	 "a.conf:2: [socket] stack = a/b: must be a stack's name: 1 to 64 letters, digits, - _ or ., the first a letter "
	 "or a digit\n"},
	{"[socket]\nstack = .a\n",
	 "a.conf:2: [socket] stack = .a: must be a stack's name: 1 to 64 letters, digits, - _ or ., the first a letter or "
	 "a digit\n"},
	{"[stacks]\ndir = stacks\n", "a.conf:2: [stacks] dir = stacks: must be an absolute path\n"},
	{"[stacks]\nmodule_dir =\n", "a.conf:2: [stacks] module_dir = : must be an absolute path\n"},
	{"[explain]\nusers = a;b\n",
	 "a.conf:2: [explain] users = a;b: must be users, names or numbers, with commas between\n"},
	{"[limits]\nmodule_pending = 0\n",
	 "a.conf:2: [limits] module_pending = 0: must be a number from 1 to 1000000\n"},
	{"[limits]\nmodule_pending = 1000001\n",
	 "a.conf:2: [limits] module_pending = 1000001: must be a number from 1 to 1000000\n"},
	/* confinement */
	{"[confine]\nseccomp = yes\n", "a.conf:2: [confine] seccomp = yes: must be off, log, enforce or require\n"},
	{"[confine]\nlandlock = log\n", "a.conf:2: [confine] landlock = log: must be off, enforce or require\n"},
	{"[confine]\nread = /a, b\n",
	 "a.conf:2: [confine] read = /a, b: must be absolute paths, with commas between\n"},
	{"[confine]\nwrite = a\n", "a.conf:2: [confine] write = a: must be absolute paths, with commas between\n"},
	{"[confine]\nconnect = 389, ldap\n",
	 "a.conf:2: [confine] connect = 389, ldap: must be ports from 1 to 65535, with commas between, or any\n"},
	{"[confine]\nconnect = 0\n",
	 "a.conf:2: [confine] connect = 0: must be ports from 1 to 65535, with commas between, or any\n"},
	{"[confine]\nconnect = 65536\n",
	 "a.conf:2: [confine] connect = 65536: must be ports from 1 to 65535, with commas between, or any\n"},
	/* further sockets */
	{"[socket web]\npath = /w\nmode = 8\n",
	 "a.conf:3: [socket web] mode = 8: must be permissions in octal, 0000 to 0777\n"},
	{"[socket web]\npath = w\n", "a.conf:2: [socket web] path = w: must be an absolute path of a socket\n"},
	{"[socket web]\npath =\n", "a.conf:2: [socket web] path = : must be an absolute path of a socket\n"},
	{"[socket web]\npath = /w\npth = /x\n", "a.conf:3: [socket web] pth: no such setting; path?\n"},
	{"[socket web]\npath = /w\npairs = 1\n", "a.conf:3: [socket web] pairs: no such setting; [limits] pairs?\n"},
	{"[socket web]\npath = /w\n[socket other]\npath = /o\n[socket web]\npath = /w\n",
	 "a.conf:6: [socket web] path: stands twice, first in line 2\n"},
	{"\n[socket web]\nmode = 0600\n[log]\n[socket web]\n",
	 "a.conf:2: [socket web]: needs a path, which has no default\n"},
	{"[socket web]\n[socket more]\n", "a.conf:1: [socket web]: needs a path, which has no default\n"
					  "a.conf:2: [socket more]: needs a path, which has no default\n"},
	{"[socket web]\nmode = 9\n", "a.conf:2: [socket web] mode = 9: must be permissions in octal, 0000 to 0777\n"
				     "a.conf:1: [socket web]: needs a path, which has no default\n"},
	{"[socket ]\npath = /w\n", "a.conf:1: [socket ]: a socket's name must be 1 to 32 letters, digits, - or _\n"},
	{"[socket a b]\npath = /w\n",
	 "a.conf:1: [socket a b]: a socket's name must be 1 to 32 letters, digits, - or _\n"},
	{"[socket  a]\npath = /w\n",
	 "a.conf:1: [socket  a]: a socket's name must be 1 to 32 letters, digits, - or _\n"},
	{"[socket a.b]\n", "a.conf:1: [socket a.b]: a socket's name must be 1 to 32 letters, digits, - or _\n"},
	{"[socket 012345678901234567890123456789012]\n",
	 "a.conf:1: [socket 012345678901234567890123456789012]: a socket's name must be 1 to 32 letters, digits, - or _\n"},
	{"[sockt web]\npath = /w\n", "a.conf:1: [sockt web]: no such section; [socket NAME]?\n"},
	{"[admin web]\n", "a.conf:1: [admin web]: no such section; [admin]?\n"},
	{"[socket web]\npath = /w\n[socket more]\npath = /w\n",
	 "a.conf:4: [socket more] path = /w: must not be the path of [socket web]\n"},
	{"[socket web]\npath = /w\n[socket]\npath = /w\n",
	 "a.conf:4: [socket] path = /w: must not be the path of [socket web]\n"},
	{"[admin]\npath = /w\n[socket web]\npath = /w\n",
	 "a.conf:4: [socket web] path = /w: must not be the path of [admin]\n"},
	{"[socket web]\npath = /run/apikeyd/check.sock\n",
	 "a.conf:2: [socket web] path = /run/apikeyd/check.sock: must not be the path of [socket]\n"},
	{"[socket]\npath = /run/apikeyd/admin.sock\n",
	 "a.conf:2: [socket] path = /run/apikeyd/admin.sock: must not be the path of [admin]\n"},
	/* names */
	{"[limits]\nconections = 1\n", "a.conf:2: [limits] conections: no such setting; connections?\n"},
	{"[limits]\npoll_ms = 1\n", "a.conf:2: [limits] poll_ms: no such setting; [database] poll_ms?\n"},
	{"[limits]\nqwertyuiop = 1\n", "a.conf:2: [limits] qwertyuiop: no such setting; -T lists them\n"},
	{"[limit]\npairs = 1\nx = y\n", "a.conf:1: [limit]: no such section; [limits]?\n"},
	{"[qwertyuiop]\n", "a.conf:1: [qwertyuiop]: no such section; -T lists them\n"},
	{"[Limits]\n", "a.conf:1: [Limits]: no such section; [limits]?\n"},
	{"x = 1\n", "a.conf:1: x: stands before the first [section]\n"},
	{"[limits]\npairs = 1\n\npairs = 2\n", "a.conf:4: [limits] pairs: stands twice, first in line 2\n"},
	{"[limits]\npairs = 1\n[log]\n[limits]\npairs = 1\n",
	 "a.conf:5: [limits] pairs: stands twice, first in line 2\n"},
	/* lines */
	{"[limits\npairs = 1\n",
	 "a.conf:1: the section's name has no closing ]\na.conf:2: pairs: stands before the first "
	 "[section]\n"},
	{"[limits]\npairs\n", "a.conf:2: not a [section], a `setting = value` or a comment\n"},
	{"[limits]\npairs = 1\n waiting = 2\n",
	 "a.conf:3: begins with white space, which goes on with the setting above; one of its own stands at the start "
	 "of its line\n"},
	{"[database]\nconninfo = a=b\n poll_ms = 200\n",
	 "a.conf:3: begins with white space, which goes on with the setting above; one of its own stands at the start "
	 "of its line\n"},
	{"[limits]\n[log]\n [key]\n", "a.conf:3: a section must stand at the start of its line\n"},
	{"[key]\nbrand = \x01\x1b\n",
	 "a.conf:2: [key] brand = \\x01\\x1b: must be 1 to 16 of a-z 0-9, the first a letter\n"},
	/* several at once, and pairs of settings */
	{"[limits]\npairs = 0\nwaiting = 0\n", "a.conf:2: [limits] pairs = 0: must be a number from 1 to 1024\n"
					       "a.conf:3: [limits] waiting = 0: must be a number from 1 to 10000000\n"},
	{"[database]\nbackoff_min_ms = 9s\n",
	 "a.conf:2: [database] backoff_min_ms = 9000: must not be above backoff_max_ms, which is 5000\n"},
	{"[database]\nbackoff_max_ms = 50\n",
	 "a.conf:2: [database] backoff_min_ms = 100: must not be above backoff_max_ms, which is 50\n"},
	{"[limits]\ndeadline_ms = 61s\n",
	 "a.conf:2: [limits] deadline_ms = 61000: must not be above deadline_max_ms, which is 60000\n"},
	{"[admin]\npath = /run/apikeyd/check.sock\n",
	 "a.conf:2: [admin] path = /run/apikeyd/check.sock: must not be the path of [socket]\n"},
};

static void test_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_null(parse(bad[i].text));
		assert_string_equal(errors, bad[i].error);
	}
}

static void test_bad_bytes(void **state)
{
	static const char nul[] = "[limits]\npairs\0 = 1\n";
	char text[512];

	(void)state;
	assert_null(config_parse(nul, sizeof(nul) - 1, "a.conf", errors, sizeof(errors)));
	assert_string_equal(errors, "a.conf:2: holds a NUL byte\n");
	memset(text, 'x', sizeof(text));
	memcpy(text, "[log]\n", 6);
	memcpy(text + 400, "\nlevel = info\n", 14);
	assert_null(config_parse(text, 414, "a.conf", errors, sizeof(errors)));
	assert_non_null(strstr(errors, "a.conf:2: longer than "));
	assert_null(strstr(errors, "a.conf:3"));
}

/* However many errors there are, they end within the room that there is. */
static void test_many_errors(void **state)
{
	char text[4096] = "[limits]\n", small[100];
	size_t len = strlen(text);

	(void)state;
	while (len + 8 < sizeof(text))
		len += (size_t)sprintf(text + len, "a = 1\n");
	assert_null(config_parse(text, len, "a.conf", small, sizeof(small)));
	assert_true(strlen(small) < sizeof(small));
	assert_int_equal(small[strlen(small) - 1], '\n');
	assert_null(config_parse(text, len, "a.conf", small, 1));
	assert_string_equal(small, "");
}

static void test_unreadable(void **state)
{
	(void)state;
	assert_null(config_load("/nonexistent/a.conf", errors, sizeof(errors)));
	assert_non_null(strstr(errors, "/nonexistent/a.conf: cannot be read: No such file or directory"));
	assert_null(config_load("/tmp", errors, sizeof(errors)));
	assert_non_null(strstr(errors, "is a directory"));
}

/* ---- printing ---- */

static char *print(const struct config *config)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	config_print(config, out);
	fclose(out);
	return text;
}

/* What is printed reads as what it was printed from, a long connection string too. */
static void test_round_trip(void **state)
{
	struct config *a = parse("[database]\n"
				 "conninfo = host=database-one.example.com,database-two.example.com dbname=apikeyd\n"
				 "  user=apikeyd sslmode=verify-full sslrootcert=/etc/apikeyd/certificates/root.pem\n"
				 "  passfile=/etc/apikeyd/pgpass application_name=apikeyd-of-this-host\n"
				 "[limits]\npairs = 3\nidle_ms = 1min\n[socket]\nmode = 7\n[log]\nlevel = error\n"
				 "[socket z]\npath = /z\nstack = s\n[socket a]\npath = /a\ngroup = g\n");
	struct config *b;
	char *first, *second;

	(void)state;
	assert_non_null(a);
	first = print(a);
	b = parse(first);
	assert_string_equal(errors, "");
	assert_non_null(b);
	second = print(b);
	assert_string_equal(first, second);
	assert_string_equal(a->conninfo, b->conninfo);
	assert_int_equal(b->pairs, 3);
	assert_int_equal(b->check[0].mode, 7);
	assert_int_equal(b->check_count, 3);
	assert_string_equal(b->check[1].stack, "s");
	assert_string_equal(b->check[2].group, "g");
	assert_non_null(strstr(first, "\n\n[socket z]\n# Where services ask.\npath = /z\n"));
	free(first);
	free(second);
	config_free(a);
	config_free(b);
}

static char *read_whole(const char *path)
{
	FILE *in = fopen(path, "r");
	char *text = calloc(1, 65536);

	assert_non_null(in);
	assert_non_null(text);
	assert_true(fread(text, 1, 65535, in) > 0);
	fclose(in);
	return text;
}

/* The sample file is the defaults, commented out: below its head each line is as -T prints it, with a # before. */
static void test_sample(void **state)
{
	struct config *defaults = config_load(NULL, errors, sizeof(errors)), *sample;
	char *text = read_whole("daemon/etc/apikeyd.conf"), *printed = print(defaults);
	char *line, *rest = strstr(text, "\n[") + 1, *want = printed, *wanted;

	(void)state;
	sample = parse(text);
	assert_non_null(sample);
	config_free(sample);
	while ((wanted = strsep(&want, "\n"))) {
		line = strsep(&rest, "\n");
		assert_non_null(line);
		if (*wanted && *wanted != '#' && *wanted != '[') {
			assert_int_equal(*line, '#');
			line++;
		}
		/* what the build fills in */
		assert_string_equal(line, strncmp(wanted, "module_dir = ", 13) ? wanted
									       : "module_dir = @APIKEYD_MODULE_DIR@");
	}
	free(text);
	free(printed);
	config_free(defaults);
}

/* The manual page has every setting with its default. */
static void test_manual(void **state)
{
	char *text = read_whole("daemon/man/apikeyd.conf.5.scd");

	(void)state;
	for (unsigned i = 0; i < config_setting_count; i++) {
		const struct config_setting *s = &config_settings[i];
		const char *fallback = *s->fallback ? s->fallback : "(empty)";
		char want[256], *p = want;

		p += sprintf(p, "*%s* = ", s->name);
		if (strcmp(s->name, "module_dir") == 0) {
			p += sprintf(p, "@APIKEYD_MODULE_DIR@"); /* which the build fills in */
			fallback = "";
		}
		for (const char *v = fallback; *v; v++) {
			if (*v == '_')
				*p++ = '\\';
			*p++ = *v;
		}
		*p++ = '\n';
		*p = '\0';
		if (!strstr(text, want))
			fail_msg("the manual lacks: %s", want);
	}
	free(text);
}

/* ---- confinement ---- */

static void test_confine(void **state)
{
	struct config *c = parse("[confine]\nseccomp = log\nlandlock = require\nnew_code = yes\nread = /a/b, /c d ,/e\n"
				 "write =\nconnect = any\n");
	const char *list;
	char one[8];

	(void)state;
	assert_int_equal(c->seccomp, CONFIG_CONFINE_LOG);
	assert_int_equal(c->landlock, CONFIG_CONFINE_REQUIRE);
	assert_true(c->new_code);
	list = c->confine_read;
	assert_true(config_next(&list, one, sizeof(one)));
	assert_string_equal(one, "/a/b");
	assert_true(config_next(&list, one, sizeof(one)));
	assert_string_equal(one, "/c d");
	assert_true(config_next(&list, one, sizeof(one)));
	assert_string_equal(one, "/e");
	assert_false(config_next(&list, one, sizeof(one)));
	list = c->confine_write;
	assert_false(config_next(&list, one, sizeof(one)));
	config_free(c);
}

/* ---- reload ---- */

static void test_needs_restart(void **state)
{
	struct config *a = parse("[limits]\npairs = 1\n"), *b = parse("[limits]\npairs = 2\n");
	struct config *c = parse("[socket]\npath = /x/y\n[admin]\nmode = 0666\n");
	char names[256];

	(void)state;
	assert_int_equal(config_needs_restart(a, b, names, sizeof(names)), 0);
	assert_string_equal(names, "");
	assert_int_equal(config_needs_restart(a, c, names, sizeof(names)), 2);
	assert_string_equal(names, "[socket] path, [admin] mode");
	config_free(a);
	config_free(b);
	config_free(c);
}

static void test_sockets_need_restart(void **state)
{
	struct config *a = parse("[socket x]\npath = /x\n[socket y]\npath = /y\n[socket z]\npath = /z\n");
	struct config *b = parse("[socket z]\npath = /z\n[socket y]\npath = /y\n[socket x]\npath = /x\n");
	struct config *c = parse("[admin]\nmode = 0\n[socket z]\npath = /y\nstack = s\n[socket new]\npath = /x\n"
				 "[socket]\nstack = t\n[socket x]\npath = /w\n");
	char names[256], few[20];

	(void)state;
	assert_int_equal(config_needs_restart(a, b, names, sizeof(names)), 0);
	assert_int_equal(config_needs_restart(a, c, names, sizeof(names)), 7);
	assert_string_equal(names, "[socket] stack, [socket x] path, [socket y] (gone), [socket z] path, "
				   "[socket z] stack, [socket new] (new), [admin] mode");
	assert_int_equal(config_needs_restart(a, c, few, sizeof(few)), 7);
	assert_string_equal(few, "[socket] stack, [so");
	config_free(a);
	config_free(b);
	config_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_socket_path),
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_many_sockets),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_bad_bytes),
		cmocka_unit_test(test_many_errors),
		cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_sample),
		cmocka_unit_test(test_manual),
		cmocka_unit_test(test_confine),
		cmocka_unit_test(test_needs_restart),
		cmocka_unit_test(test_sockets_need_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
