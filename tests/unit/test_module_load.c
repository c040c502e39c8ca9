/* Finding modules: what a struct must be, which files are loaded and which never, and what stays once it was loaded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/modules/load.h"
#include "daemon/modules/table.h"
#include "daemon/stack/program.h"

static char base[64], marks[96], text[1024];

/* ---- a sound struct, and one thing wrong in it ---- */

static enum apikeyd_code start(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	(void)instance, (void)request, (void)token;
	return APIKEYD_IGNORE;
}

static const struct apikeyd_argument sound_arguments[] = {
	{.name = "text", .type = APIKEYD_TYPE_TEXT, .fallback = "", .help = "h"},
	{.name = "word", .type = APIKEYD_TYPE_WORD, .words = "one|or|another", .fallback = "or", .help = "h"},
	{.name = "bool", .type = APIKEYD_TYPE_BOOL, .fallback = "no", .help = "h"},
	{.name = "count", .type = APIKEYD_TYPE_COUNT, .min = 3, .max = 3, .fallback = "3", .help = "h"},
	{.name = "time", .type = APIKEYD_TYPE_TIME, .min = 5, .fallback = "1h", .help = "h"},
	{.name = "path", .type = APIKEYD_TYPE_PATH, .required = true, .help = "h"},
	{.name = "list", .type = APIKEYD_TYPE_LIST, .fallback = "a,b", .help = "h"},
	{.name = "scopes", .type = APIKEYD_TYPE_SCOPES, .fallback = "*:write", .help = "h"},
	{.name = "rate", .type = APIKEYD_TYPE_RATE, .fallback = "1/5s", .help = "h"},
	{0},
};

static const struct apikeyd_module sound = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "of_test_1",
	.help = "built into this test",
	.groups = APIKEYD_GROUP_ACCOUNT | APIKEYD_GROUP_AUDIT,
	.flags = APIKEYD_ASYNCHRONOUS | APIKEYD_ASK_AGAIN | APIKEYD_ENFORCES_RATE,
	.arguments = sound_arguments,
	.start = start,
};

static const struct apikeyd_module of_key = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "no_symbol", /* as a file that the tests have */
	.help = "built into this test",
	.groups = APIKEYD_GROUP_KEY,
	.flags = APIKEYD_IDENTIFIES,
	.start = start,
};

const struct apikeyd_module *const modules_built_in[] = {&sound, &of_key, NULL};

static int check(const struct apikeyd_module *module)
{
	memset(text, 0, sizeof(text));
	return modules_check(module, text, sizeof(text));
}

static void is_wrong(const struct apikeyd_module *module, const char *words)
{
	if (check(module) != -EINVAL)
		fail_msg("taken, though \"%s\"", words);
	if (!strstr(text, words) || strchr(text, '\n'))
		fail_msg("\"%s\" does not say \"%s\"", text, words);
}

static void test_sound(void **state)
{
	static const unsigned groups[] = {APIKEYD_GROUP_CALLER, APIKEYD_GROUP_ACCOUNT, APIKEYD_GROUP_PAGE,
					  APIKEYD_GROUP_SCOPE, APIKEYD_GROUP_AUDIT};
	struct apikeyd_module module = sound;

	(void)state;
	for (unsigned i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		module.groups = groups[i];
		assert_int_equal(check(&module), 0);
	}
	assert_int_equal(check(&sound), 0);
	assert_int_equal(check(&of_key), 0);
	assert_string_equal(text, "");
	module = sound;
	module.name = "abcdefghijklmnopqrstuvwxyz_01234"; /* 32 */
	module.arguments = NULL;
	module.flags = 0;
	assert_int_equal(check(&module), 0);
	module.size = UINT32_MAX; /* of a later release */
	assert_int_equal(check(&module), 0);
}

static void test_shape(void **state)
{
	struct apikeyd_module module = sound;

	(void)state;
	module.abi = APIKEYD_ABI + 1;
	is_wrong(&module, "is made for ABI 2, and this program has ABI 1");
	module.abi = 0;
	is_wrong(&module, "is made for ABI 0");
	module = sound;
	module.size--;
	is_wrong(&module, "its struct has 87 bytes, and the smallest has 88");
	module.size = 0;
	is_wrong(&module, "its struct has 0 bytes");
	module = sound;
	module.start = NULL;
	is_wrong(&module, "has no start");
}

static void test_names(void **state)
{
	static const char *const names[] = {
		NULL,	"",	   "Upper", "with-dash", "with space",
		"dot.", "../../x", "a/b",   "\xc3\xa9",	 "abcdefghijklmnopqrstuvwxyz_012345"};
	static const char *const helps[] = {NULL, "", "two\nlines", "a \033[31mred one", "\x7f"};
	struct apikeyd_module module = sound;

	(void)state;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		module.name = names[i];
		is_wrong(&module, "its name is not 1 to 32 lower case letters, digits and '_'");
		if (names[i])
			assert_false(modules_name_ok(names[i]));
	}
	module = sound;
	for (unsigned i = 0; i < sizeof(helps) / sizeof(helps[0]); i++) {
		module.help = helps[i];
		is_wrong(&module, "has no line of help");
	}
}

static void test_groups(void **state)
{
	static const struct {
		unsigned groups, flags;
		const char *words;
	} wrong[] = {
		{0, 0, "may stand in no group"},
		{64, 0, "groups that there are not (0x40)"},
		{APIKEYD_GROUP_SCOPE | 0x80000000, 0, "groups that there are not (0x80000000)"},
		{APIKEYD_GROUP_SCOPE, 16, "flags that there are not (0x10)"},
		{APIKEYD_GROUP_SCOPE, 0xffffffff, "flags that there are not (0xfffffff0)"},
		{APIKEYD_GROUP_KEY, 0, "does not identify, so it may not stand in group key"},
		{APIKEYD_GROUP_KEY | APIKEYD_GROUP_ACCOUNT, APIKEYD_ASK_AGAIN, "may not stand in group key"},
		{APIKEYD_GROUP_ACCOUNT, APIKEYD_IDENTIFIES, "may stand in group key and there alone"},
		{APIKEYD_GROUP_KEY | APIKEYD_GROUP_AUDIT, APIKEYD_IDENTIFIES, "in group key and there alone"},
	};
	struct apikeyd_module module = sound;

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		module.groups = wrong[i].groups;
		module.flags = wrong[i].flags;
		is_wrong(&module, wrong[i].words);
	}
}

static void test_arguments(void **state)
{
	static const struct {
		struct apikeyd_argument argument;
		const char *words;
	} wrong[] = {
		{{.name = "With-Dash", .help = "h"}, "argument 2: its name is not"},
		{{.name = "", .help = "h"}, "argument 2: its name is not"},
		{{.name = "first", .help = "h"}, "argument first: stands there twice"},
		{{.name = "x"}, "argument x: has no line of help"},
		{{.name = "x", .help = "a\rb"}, "argument x: has no line of help"},
		{{.name = "x", .help = "h", .type = (enum apikeyd_type)9}, "argument x: is of type 9, which is none"},
		{{.name = "x", .help = "h", .type = (enum apikeyd_type) - 1},
		 "argument x: is of type -1, which is none"},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_COUNT, .min = 3, .max = 2},
		 "argument x: can have no value: its least is 3, its most 2"},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_WORD}, "does not say which"},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_WORD, .words = ""}, "an empty word"},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_WORD, .words = "a||b"}, "an empty word in \"a||b\""},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_WORD, .words = "a|"}, "an empty word"},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_WORD, .words = "|a"}, "an empty word"},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_WORD, .words = "ab|a|ab"}, "the word ab twice"},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_WORD, .words = "a|b", .fallback = "c"},
		 "argument x: has the fallback \"c\", which it would not take itself; right is a or b"},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_BOOL, .fallback = "true"}, "right is yes or no"},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_COUNT, .fallback = "-1"}, "fallback \"-1\""},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_COUNT, .max = 5, .fallback = "6"}, "fallback \"6\""},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_TIME, .fallback = "5"}, "fallback \"5\""},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_PATH, .fallback = "etc"}, "fallback \"etc\""},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_LIST, .fallback = "a,,b"}, "fallback \"a,,b\""},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_SCOPES, .fallback = "w"}, "fallback \"w\""},
		{{.name = "x", .help = "h", .type = APIKEYD_TYPE_RATE, .fallback = "5"}, "fallback \"5\""},
		{{.name = "x", .help = "h", .fallback = "5", .required = true}, "is required, and has the fallback"},
	};
	struct apikeyd_argument arguments[4] = {{.name = "first", .help = "h"}};
	struct apikeyd_module module = sound;

	(void)state;
	module.arguments = arguments;
	assert_int_equal(check(&module), 0);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		arguments[1] = wrong[i].argument;
		is_wrong(&module, wrong[i].words);
	}
	/* One word that begins another is another. */
	arguments[1] =
		(struct apikeyd_argument){.name = "x", .help = "h", .type = APIKEYD_TYPE_WORD, .words = "ab|a|abc"};
	assert_int_equal(check(&module), 0);
}

static void test_many_arguments(void **state)
{
	static struct apikeyd_argument many[STACK_ARGUMENTS_MAX + 2];
	static char names[STACK_ARGUMENTS_MAX + 1][8];
	struct apikeyd_module module = sound;

	(void)state;
	module.arguments = many;
	for (unsigned i = 0; i < STACK_ARGUMENTS_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "a%u", i);
		many[i] = (struct apikeyd_argument){.name = names[i], .help = "h"};
	}
	assert_int_equal(check(&module), 0);
	many[STACK_ARGUMENTS_MAX] = (struct apikeyd_argument){.name = "one_more", .help = "h"};
	is_wrong(&module, "takes more than 32 arguments");
}

/* ---- a module directory of our own ---- */

static const char *in(const char *name)
{
	static char paths[4][256];
	static unsigned turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", base, name);
	return path;
}

__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
	char command[1024];
	va_list list;

	va_start(list, format);
	vsnprintf(command, sizeof(command), format, list);
	va_end(list);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
}

/* Copies one of the modules that were built for this, as a new file. */
static void put(const char *name, const char *as)
{
	run("install -m 0644 %s/%s.so %s.new && mv %s.new %s", TEST_MODULES, name, in(as), in(as), in(as));
}

static int setup(void **state)
{
	(void)state;
	strcpy(base, "/tmp/apikeyd-modules.XXXXXX");
	if (!mkdtemp(base))
		return -1;
	snprintf(marks, sizeof(marks), "%s/marks", base);
	return setenv("APIKEYD_TEST_MARK", marks, 1);
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "chmod -R u+rwx %s && rm -r %s", base, base);
	return system(command);
}

/* How often code of a file of this name has run. */
static unsigned marked(const char *name)
{
	FILE *file = fopen(marks, "r");
	char line[64];
	unsigned count = 0;

	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		count += strcmp(line, name) == 0;
	}
	if (file)
		fclose(file);
	return count;
}

static const struct apikeyd_module *find(const char *name)
{
	memset(text, 'x', sizeof(text));
	return modules_find(name, base, text, sizeof(text));
}

static void not_found(const char *name, const char *words)
{
	if (find(name))
		fail_msg("%s was found", name);
	if (!strstr(text, words) || strchr(text, '\n'))
		fail_msg("\"%s\" does not say \"%s\"", text, words);
}

static void found_with(const struct apikeyd_module *module, const char *name, const char *words)
{
	assert_ptr_equal(find(name), module);
	if (!strstr(text, words) || (!*words && *text))
		fail_msg("\"%s\" does not say \"%s\"", text, words);
}

/* ---- what is built in ---- */

static void test_built_in(void **state)
{
	(void)state;
	found_with(&sound, "of_test_1", "");
	assert_ptr_equal(modules_find("of_test_1", NULL, text, sizeof(text)), &sound);
	assert_string_equal(text, "");
	assert_null(modules_find("sound", NULL, text, sizeof(text)));
	assert_string_equal(text, "sound: no module of that name is built in");
	assert_null(modules_find("of_test", NULL, text, sizeof(text)));
	/* No file takes its name; that is said, and nothing of the file runs. */
	put("no_symbol", "no_symbol.so");
	found_with(&of_key, "no_symbol", "no_symbol.so: is not used; the module no_symbol is built in");
	assert_int_equal(marked("no_symbol"), 0);
}

/* ---- what is loaded ---- */

static void test_loaded(void **state)
{
	const struct apikeyd_module *module, *longer;

	(void)state;
	put("sound", "sound.so");
	module = find("sound");
	if (!module)
		fail_msg("%s", text);
	assert_string_equal(text, "");
	assert_int_equal(marked("sound"), 1);
	assert_string_equal(module->name, "sound");
	assert_int_equal(module->groups, APIKEYD_GROUP_ACCOUNT);
	assert_string_equal(module->arguments[0].name, "at");
	assert_null(module->open);
	assert_int_equal(module->start(NULL, NULL, 0), APIKEYD_IGNORE);
	/* Again: the same, and nothing runs anew. */
	found_with(module, "sound", "");
	assert_int_equal(marked("sound"), 1);
	/* Two at a time are two: the loader does not take one for the other. */
	put("longer", "longer.so");
	longer = find("longer");
	if (!longer)
		fail_msg("%s", text);
	assert_string_equal(longer->name, "longer");
	assert_int_equal(longer->size, sizeof(struct apikeyd_module) + 4 * sizeof(void *));
	assert_null(longer->close);
	assert_ptr_not_equal(longer, module);
	found_with(module, "sound", "");
	found_with(longer, "longer", "");

	/* A new file in its place: the old one goes on, which is said. */
	put("sound", "sound.so");
	found_with(module, "sound", "sound.so: has changed since it was loaded, which takes effect at the next start");
	assert_int_equal(marked("sound"), 1);
	/* A file that is gone, or that others can write, is what a start would find. */
	assert_return_code(chmod(in("sound.so"), 0666), errno);
	not_found("sound", "anybody can write it");
	assert_return_code(unlink(in("sound.so")), errno);
	not_found("sound", "No such file");
	/* Through a link it is the same; what counts is the file at its end. */
	put("sound", "sound-1.so");
	assert_return_code(symlink("sound-1.so", in("sound.so")), errno);
	found_with(module, "sound", "has changed since it was loaded");
	/* Written over in its place. */
	run("touch -d 2001-01-01 %s", in("longer.so"));
	found_with(longer, "longer", "longer.so: has changed since it was loaded");
}

static void test_links(void **state)
{
	(void)state;
	assert_return_code(mkdir(in("lib"), 0755), errno);
	put("mended", "lib/mended-2.1.so");
	assert_return_code(symlink("lib/mended-2.1.so", in("misnamed.so")), errno);
	not_found("misnamed", "calls itself bad_flags; the file must have that name");
	assert_return_code(symlink("lib/mended-2.1.so", in("sound.so")), errno);
	assert_return_code(chmod(in("lib"), 0775), errno);
	not_found("sound", "lib: its group can write it");
}

/* ---- what is not ---- */

static void test_unsound(void **state)
{
	static const struct {
		const char *name, *words;
		unsigned runs; /* whether its code runs before we know */
	} wrong[] = {
		{"next_abi", "next_abi.so: is made for ABI 2, and this program has ABI 1", 1},
		{"short_size", "short_size.so: says that its struct has 80 bytes, and the smallest has 88", 1},
		{"false_size", "false_size.so: says that its struct has 4184 bytes, and it has 88", 1},
		{"hidden", "hidden.so: exports no struct of the name apikeyd_module", 1},
		{"tiny", "tiny.so: exports no struct of the name apikeyd_module", 1},
		{"beneath", "beneath.so: exports no struct of the name apikeyd_module", 1},
		{"undefined", "undefined.so: undefined symbol: nowhere_at_all", 0},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char file[64];

		snprintf(file, sizeof(file), "%s.so", wrong[i].name);
		put(wrong[i].name, file);
		not_found(wrong[i].name, wrong[i].words);
		assert_int_equal(strncmp(text, in(file), strlen(in(file))), 0);
		assert_int_equal(marked(wrong[i].name), wrong[i].runs);
		/* The second time says the same, and runs nothing. */
		not_found(wrong[i].name, wrong[i].words);
		assert_int_equal(marked(wrong[i].name), wrong[i].runs);
	}
	put("no_symbol", "no_such.so");
	not_found("no_such", "no_such.so: exports no struct");
}

static void test_mended(void **state)
{
	const struct apikeyd_module *module;

	(void)state;
	put("bad_flags", "bad_flags.so");
	not_found("bad_flags", "bad_flags.so: identifies, so it may stand in group key and there alone");
	/* The loader would take a file that was written over in its place for the one that it has. */
	run("touch -d 2001-01-01 %s", in("bad_flags.so"));
	not_found("bad_flags", "has changed since it was loaded, which takes effect at the next start");
	/* A new file, as packages install them, is another one. */
	put("mended", "bad_flags.so");
	module = find("bad_flags");
	if (!module)
		fail_msg("%s", text);
	assert_string_equal(text, "");
	assert_int_equal(module->flags, 0);
	assert_int_equal(marked("mended"), 1);
}

/* Nothing of these may run. */
static void test_untrusted(void **state)
{
	(void)state;
	put("untrusted", "untrusted.so");
	assert_return_code(chmod(in("untrusted.so"), 0664), errno);
	not_found("untrusted", "untrusted.so: its group can write it");
	assert_return_code(chmod(in("untrusted.so"), 0755), errno);
	assert_return_code(chmod(base, 0777), errno);
	not_found("untrusted", "anybody can write it");
	assert_return_code(chmod(base, 01777), errno);
	not_found("untrusted", "others can put files");
	assert_return_code(chmod(base, 0700), errno);
	if (geteuid() == 0) {
		assert_return_code(chown(in("untrusted.so"), 65533, 0), errno);
		not_found("untrusted", "belongs to uid 65533");
		assert_return_code(chown(in("untrusted.so"), 0, 0), errno);
		assert_return_code(chown(base, 65533, 0), errno);
		not_found("untrusted", "belongs to uid 65533");
		assert_return_code(chown(base, 0, 0), errno);
	}
	assert_int_equal(marked("untrusted"), 0);
	/* It was nothing else that was wrong with it. */
	assert_non_null(find("untrusted"));
	assert_int_equal(marked("untrusted"), 1);
}

static void test_no_modules(void **state)
{
	static const char *const names[] = {"", "../sound", "a/b", "A", "sound.so", "."};

	(void)state;
	not_found("nowhere", "no module of that name is built in, and ");
	assert_non_null(strstr(text, "nowhere.so: No such file"));
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		not_found(names[i], "is no name of a module");
	run("echo 'not a shared object' >%s", in("text.so"));
	not_found("text", "text.so: ");
	assert_null(strstr(text, "/proc"));
	assert_return_code(chmod(in("text.so"), 0644), errno);
	run(": >%s", in("empty.so"));
	not_found("empty", "empty.so: file too short");
	assert_return_code(mkdir(in("directory.so"), 0755), errno);
	not_found("directory", "is a directory, not a file");
	assert_return_code(mkfifo(in("fifo.so"), 0600), errno);
	not_found("fifo", "is not a regular file");
	assert_null(modules_find("sound", "relative", text, sizeof(text)));
	assert_string_equal(text, "relative/sound.so: is not an absolute path");
	/* Once mended it is like any other: nothing of the failed one is left. */
	put("of_text", "text.so");
	assert_non_null(find("text"));
}

/* ---- all of them ---- */

static char told[4096];

static void on_told(void *data, const char *name, const struct apikeyd_module *module, bool built_in, const char *line)
{
	size_t len = strlen(told);

	assert_ptr_equal(data, told);
	if (module)
		assert_string_equal(module->name, name);
	snprintf(told + len, sizeof(told) - len, "%s%s%s%s%s\n", name, built_in ? " built-in" : "",
		 module ? "" : " unusable", *line ? " " : "", *line && strstr(line, "is not used") ? "taken" : "");
}

static void test_each(void **state)
{
	char error[512] = "";

	(void)state;
	put("each_b", "each_b.so");
	put("each_a", "each_a.so");
	put("no_symbol", "no_symbol.so");
	put("each_a", "each_c.so");
	put("each_a", "each_a.so.old");
	put("each_a", ".so");
	assert_int_equal(modules_each(base, on_told, told, error, sizeof(error)), 0);
	assert_string_equal(told, "of_test_1 built-in\nno_symbol built-in\n"
				  "each_a\neach_b\neach_c unusable \nno_symbol unusable taken\n");
	told[0] = '\0';
	assert_int_equal(modules_each(NULL, on_told, told, error, sizeof(error)), 0);
	assert_string_equal(told, "of_test_1 built-in\nno_symbol built-in\n");
	assert_string_equal(error, "");
	told[0] = '\0';
	assert_int_equal(modules_each(in("none"), on_told, told, error, sizeof(error)), -ENOENT);
	assert_string_equal(told, "of_test_1 built-in\nno_symbol built-in\n");
	assert_non_null(strstr(error, "No such file"));
	assert_return_code(chmod(base, 0775), errno);
	assert_int_equal(modules_each(base, on_told, told, error, sizeof(error)), -EPERM);
	assert_non_null(strstr(error, "its group can write it"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sound),
		cmocka_unit_test(test_shape),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_many_arguments),
		cmocka_unit_test_setup_teardown(test_built_in, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loaded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unsound, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mended, setup, teardown),
		cmocka_unit_test_setup_teardown(test_untrusted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_modules, setup, teardown),
		cmocka_unit_test_setup_teardown(test_each, setup, teardown),
	};

	umask(022);
	return cmocka_run_group_tests_name("module_load", tests, NULL, NULL);
}
