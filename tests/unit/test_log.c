/* The log: lines, and entries of a journal that is played here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/log.h"
#include "daemon/log_journal.h"

enum { FIELDS = 64, MANY = 100000 };

static char directory[] = "/tmp/apikeyd-log-XXXXXX", path[64];

struct world {
	int real_stderr, out; /* what was stderr; where stderr goes to now is read from */
	int journal;	      /* the journal's end; -1: away */
	struct log_counters before;
	char text[1 << 16]; /* of stderr, as read last */
	uint8_t entry[1 << 17];
	size_t entry_len;
};

/* ---- the journal's side ---- */

static int journal_new(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	unlink(path);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* One entry, whose fields are then asked for. False: there is none. */
static bool receive(struct world *w)
{
	ssize_t n = recv(w->journal, w->entry, sizeof(w->entry), 0);

	w->entry_len = n > 0 ? (size_t)n : 0;
	return n > 0;
}

struct field {
	const char *name;
	size_t name_len;
	const uint8_t *value;
	size_t len;
};

/* By the description of the protocol. Anything that is not of it fails the test. */
static unsigned decode(const uint8_t *bytes, size_t len, struct field ret[FIELDS])
{
	const uint8_t *at = bytes, *end = bytes + len;
	unsigned count = 0;

	while (at < end) {
		const uint8_t *line = memchr(at, '\n', (size_t)(end - at));
		const uint8_t *equals = line ? memchr(at, '=', (size_t)(line - at)) : NULL;
		struct field *field = &ret[count++];

		assert_non_null(line);
		assert_true(count < FIELDS);
		field->name = (const char *)at;
		if (equals) {
			field->name_len = (size_t)(equals - at);
			field->value = equals + 1;
			field->len = (size_t)(line - equals - 1);
			at = line + 1;
		} else {
			uint64_t size = 0;

			assert_true(end - line > 9);
			for (unsigned i = 0; i < 8; i++)
				size |= (uint64_t)line[1 + i] << (8 * i);
			field->name_len = (size_t)(line - at);
			field->value = line + 9;
			field->len = size;
			assert_true(size < (uint64_t)(end - field->value));
			at = field->value + size;
			assert_int_equal(*at++, '\n');
		}
		assert_true(field->name_len > 0);
		for (size_t i = 0; i < field->name_len; i++)
			assert_non_null(strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ_", field->name[i]));
	}
	return count;
}

static void assert_field(const struct world *w, const char *name, const char *value, size_t len)
{
	struct field fields[FIELDS];
	unsigned count = decode(w->entry, w->entry_len, fields), found = 0;

	for (unsigned i = 0; i < count; i++) {
		if (fields[i].name_len != strlen(name) || memcmp(fields[i].name, name, fields[i].name_len) != 0)
			continue;
		found++;
		assert_int_equal(fields[i].len, len);
		assert_memory_equal(fields[i].value, value, len);
	}
	assert_int_equal(found, 1);
}

static void assert_text(const struct world *w, const char *name, const char *value)
{
	assert_field(w, name, value, strlen(value));
}

static unsigned field_count(const struct world *w)
{
	struct field fields[FIELDS];

	return decode(w->entry, w->entry_len, fields);
}

/* ---- stderr ---- */

static void begin(struct world *w, bool is_journal)
{
	char stream[64];
	struct stat st;
	int fds[2];

	memset(w, 0, sizeof(*w));
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
	w->real_stderr = dup(STDERR_FILENO);
	w->out = fds[0];
	assert_int_equal(fstat(fds[1], &st), 0);
	assert_int_equal(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
	close(fds[1]);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino + (is_journal ? 0 : 1));
	setenv("JOURNAL_STREAM", stream, 1);
	w->journal = journal_new();
	log_set_level(LOG_LEVEL_DEBUG);
	log_open(path);
	log_count(&w->before);
}

static void end(struct world *w)
{
	dup2(w->real_stderr, STDERR_FILENO);
	close(w->real_stderr);
	close(w->out);
	if (w->journal >= 0)
		close(w->journal);
	log_journal_close();
	log_set_level(LOG_LEVEL_INFO);
}

static const char *said(struct world *w)
{
	ssize_t n = read(w->out, w->text, sizeof(w->text) - 1);

	w->text[n > 0 ? n : 0] = '\0';
	return w->text;
}

static void assert_counts(const struct world *w, uint64_t entries, uint64_t failed)
{
	struct log_counters now;

	log_count(&now);
	assert_int_equal(now.entries - w->before.entries, entries);
	assert_int_equal(now.entries_failed - w->before.entries_failed, failed);
}

/* ---- tests ---- */

static void test_lines(void **state)
{
	struct log_counters now;
	struct world w;
	const struct log_field fields[] = {log_text(LOG_KEY_ID, "abcdefghij"), log_text(LOG_REASON, "revoked"),
					   log_number(LOG_CALLER_UID, 1000)};

	(void)state;
	begin(&w, false);
	log_info("one %d", 1);
	assert_string_equal(said(&w), "info: one 1\n");
	log_about(LOG_LEVEL_WARNING, fields, 3, "it is %s", "so");
	assert_string_equal(said(&w), "warning: it is so key_id=abcdefghij reason=revoked caller_uid=1000\n");
	log_said(LOG_LEVEL_WARNING, fields, 3, "key_id abcdefghij");
	assert_string_equal(said(&w), "warning: key_id abcdefghij\n");
	log_set_level(LOG_LEVEL_WARNING);
	log_about(LOG_LEVEL_INFO, fields, 3, "kept back");
	log_info("kept back");
	assert_string_equal(said(&w), "");
	assert_false(receive(&w));
	log_count(&now);
	assert_int_equal(now.lines[LOG_LEVEL_INFO] - w.before.lines[LOG_LEVEL_INFO], 1);
	assert_int_equal(now.lines[LOG_LEVEL_WARNING] - w.before.lines[LOG_LEVEL_WARNING], 2);
	assert_counts(&w, 0, 0);
	end(&w);
}

/* No value can look like another field, end its quotes or begin a line. */
static void test_hostile_values_in_lines(void **state)
{
	static const struct {
		const char *value, *line;
	} cases[] = {
		{"a b", "\"a b\""},
		{"", "\"\""},
		{"a\" reason=ok \"", "\"a\\\" reason=ok \\\"\""},
		{"a\\", "\"a\\\\\""},
		{"a\nerror: b", "\"a\\x0aerror: b\""},
		{"\x1b[2J\x7f\xc3\xa4", "\"\\x1b[2J\\x7f\\xc3\\xa4\""},
		{"a=b", "\"a=b\""},
		{"incident:write", "incident:write"},
		{"2001:db8::1", "2001:db8::1"},
	};
	struct world w;

	(void)state;
	begin(&w, false);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct log_field field = log_text(LOG_SCOPE, cases[i].value);
		char want[256];

		snprintf(want, sizeof(want), "info: it scope=%s\n", cases[i].line);
		log_about(LOG_LEVEL_INFO, &field, 1, "it");
		assert_string_equal(said(&w), want);
	}
	/* A message is escaped as ever, and a value without a terminator ends where it says. */
	{
		const struct log_field field = {.name = LOG_PAGE, .text = "acme\0evil", .len = 4};

		log_about(LOG_LEVEL_INFO, &field, 1, "a\nb");
		assert_string_equal(said(&w), "info: a\\x0ab page=acme\n");
	}
	end(&w);
}

static void test_entries(void **state)
{
	struct world w;
	const struct log_field fields[] = {log_text(LOG_KEY_ID, "abcdefghij"), log_text(LOG_REASON, "revoked"),
					   log_number(LOG_CALLER_UID, 4294967294)};

	(void)state;
	begin(&w, true);
	log_about(LOG_LEVEL_WARNING, fields, 3, "it is so");
	assert_string_equal(said(&w), "");
	assert_true(receive(&w));
	assert_text(&w, "MESSAGE", "it is so key_id=abcdefghij reason=revoked caller_uid=4294967294");
	assert_text(&w, "PRIORITY", "4");
	assert_text(&w, "SYSLOG_IDENTIFIER", "apikeyd");
	assert_text(&w, "APIKEYD_KEY_ID", "abcdefghij");
	assert_text(&w, "APIKEYD_REASON", "revoked");
	assert_text(&w, "APIKEYD_CALLER_UID", "4294967294");
	assert_int_equal(field_count(&w), 6);
	log_said(LOG_LEVEL_ERROR, fields, 1, "one");
	assert_true(receive(&w));
	assert_text(&w, "MESSAGE", "one");
	assert_text(&w, "PRIORITY", "3");
	/* What has no fields goes by the stream, of which the journal knows whose it is. */
	log_debug("two");
	assert_string_equal(said(&w), "<7>two\n");
	assert_false(receive(&w));
	assert_counts(&w, 2, 0);
	end(&w);
}

static void test_hostile_values_in_entries(void **state)
{
	static const char hostile[] = "x\nPRIORITY=0\nMESSAGE=all is well\n\0\xff";
	const struct log_field fields[] = {
		{.name = LOG_SCOPE, .text = hostile, .len = sizeof(hostile) - 1},
		{.name = LOG_PAGE, .text = "\n", .len = 1},
		log_text(LOG_ORG, ""),
		log_text(LOG_USER, NULL),
		log_text(LOG_ADDR, "=a="),
	};
	struct world w;

	(void)state;
	begin(&w, true);
	log_said(LOG_LEVEL_INFO, fields, 5, "a\nPRIORITY=0");
	assert_true(receive(&w));
	assert_int_equal(field_count(&w), 8);
	assert_text(&w, "MESSAGE", "a\\x0aPRIORITY=0");
	assert_text(&w, "PRIORITY", "6");
	assert_field(&w, "APIKEYD_SCOPE", hostile, sizeof(hostile) - 1);
	assert_text(&w, "APIKEYD_PAGE", "\n");
	assert_text(&w, "APIKEYD_ORG", "");
	assert_text(&w, "APIKEYD_USER", "");
	assert_text(&w, "APIKEYD_ADDR", "=a=");
	end(&w);
}

/* Whatever bytes they are, they come back as they went. */
static void test_any_values(void **state)
{
	static const uint8_t likely[] = {'\n', '=', '\0', 'A', '_', '\n', 0xff, 1};
	static const char *const names[] = {"A", "APIKEYD_KEY_ID", "MESSAGE"};
	unsigned seed = 1;

	(void)state;
	for (unsigned round = 0; round < 2000; round++) {
		struct log_entry entry;
		uint8_t values[8][64];
		size_t lens[8];
		struct field fields[FIELDS];

		entry.len = 0;
		entry.full = false;
		for (unsigned i = 0; i < 8; i++) {
			lens[i] = (size_t)rand_r(&seed) % (sizeof(values[i]) + 1);
			for (size_t j = 0; j < lens[i]; j++)
				values[i][j] = rand_r(&seed) % 2 ? likely[(size_t)rand_r(&seed) % sizeof(likely)]
								 : (uint8_t)rand_r(&seed);
			log_entry_add(&entry, names[i % 3], values[i], lens[i]);
		}
		assert_false(entry.full);
		assert_int_equal(decode(entry.bytes, entry.len, fields), 8);
		for (unsigned i = 0; i < 8; i++) {
			assert_int_equal(fields[i].name_len, strlen(names[i % 3]));
			assert_memory_equal(fields[i].name, names[i % 3], fields[i].name_len);
			assert_int_equal(fields[i].len, lens[i]);
			assert_memory_equal(fields[i].value, values[i], lens[i]);
		}
	}
}

/* The longest line with all fields at their longest has room, and longer values are cut. */
static void test_long_values(void **state)
{
	char value[2 * LOG_VALUE_MAX], message[4 * LOG_ENTRY_SIZE], cut[LOG_VALUE_MAX];
	struct log_field fields[LOG_NAMES];
	struct world w;

	(void)state;
	memset(value, '\n', sizeof(value));
	memset(cut, '\n', sizeof(cut));
	memset(message, 'm', sizeof(message));
	for (unsigned i = 0; i < LOG_NAMES; i++)
		fields[i] = (struct log_field){.name = (enum log_name)i, .text = value, .len = sizeof(value)};
	begin(&w, true);
	log_about(LOG_LEVEL_INFO, fields, LOG_NAMES, "%.*s", (int)sizeof(message), message);
	assert_string_equal(said(&w), "");
	assert_true(receive(&w));
	assert_int_equal(field_count(&w), 3 + LOG_NAMES);
	assert_field(&w, "APIKEYD_REV", cut, sizeof(cut));
	assert_counts(&w, 1, 0);
	end(&w);
	/* As a line: those that find no room are left out whole. */
	begin(&w, false);
	log_about(LOG_LEVEL_INFO, fields, LOG_NAMES, "%.*s", (int)sizeof(message), message);
	said(&w);
	assert_int_equal(strspn(w.text, "info: m"), strcspn(w.text, "k\n"));
	assert_true(strlen(w.text) <= 4096);
	assert_ptr_equal(strchr(w.text, '\n'), w.text + strlen(w.text) - 1);
	end(&w);
}

static void test_entry_that_is_full(void **state)
{
	static uint8_t value[LOG_ENTRY_SIZE];
	struct log_entry entry;
	struct world w;
	size_t len;

	(void)state;
	begin(&w, true);
	entry.len = 0;
	entry.full = false;
	log_entry_add(&entry, "A", value, sizeof(value) - 100);
	assert_false(entry.full);
	len = entry.len;
	log_entry_add(&entry, "B", value, 100);
	assert_true(entry.full);
	assert_int_equal(entry.len, len);
	assert_int_equal(log_journal_send(&entry), -EMSGSIZE);
	assert_false(receive(&w));
	end(&w);
}

/* A journal that is away: lines as ever, counted; and entries again when it is back. */
static void test_journal_that_is_away(void **state)
{
	const struct log_field field = log_text(LOG_KEY_ID, "abcdefghij");
	struct world w;

	(void)state;
	begin(&w, true);
	close(w.journal);
	w.journal = -1;
	for (unsigned i = 0; i < 2; i++) {
		log_about(LOG_LEVEL_WARNING, &field, 1, "it");
		assert_string_equal(said(&w), "<4>it key_id=abcdefghij\n");
	}
	assert_counts(&w, 2, 2);
	unlink(path);
	log_about(LOG_LEVEL_WARNING, &field, 1, "it");
	assert_string_equal(said(&w), "<4>it key_id=abcdefghij\n");
	w.journal = journal_new();
	log_about(LOG_LEVEL_WARNING, &field, 1, "it");
	assert_string_equal(said(&w), "");
	assert_true(receive(&w));
	assert_text(&w, "APIKEYD_KEY_ID", "abcdefghij");
	assert_counts(&w, 4, 3);
	end(&w);
	/* From the start. */
	begin(&w, true);
	log_journal_close();
	unlink(path);
	log_open(path);
	assert_non_null(strstr(said(&w), "<4>lines about a key or a caller have no fields"));
	log_about(LOG_LEVEL_WARNING, &field, 1, "it");
	assert_string_equal(said(&w), "<4>it key_id=abcdefghij\n");
	assert_counts(&w, 1, 1);
	end(&w);
}

/* One that does not read: nobody waits for it. */
static void test_journal_that_is_slow(void **state)
{
	const struct log_field field = log_text(LOG_KEY_ID, "abcdefghij");
	struct log_counters now;
	unsigned sent = 0, got = 0;
	struct world w;

	(void)state;
	begin(&w, true);
	do {
		log_about(LOG_LEVEL_WARNING, &field, 1, "it");
		log_count(&now);
	} while (now.entries_failed == w.before.entries_failed && ++sent < MANY);
	assert_true(sent < MANY);
	assert_string_equal(said(&w), "<4>it key_id=abcdefghij\n");
	while (receive(&w))
		got++;
	assert_int_equal(got, sent);
	log_about(LOG_LEVEL_WARNING, &field, 1, "it");
	assert_true(receive(&w));
	end(&w);
}

static void test_errno_stays(void **state)
{
	const struct log_field field = log_text(LOG_KEY_ID, "abcdefghij");
	struct world w;

	(void)state;
	begin(&w, true);
	close(w.journal);
	w.journal = -1;
	errno = ENOENT;
	log_about(LOG_LEVEL_WARNING, &field, 1, "%m");
	assert_int_equal(errno, ENOENT);
	assert_non_null(strstr(said(&w), "No such file"));
	end(&w);
}

static int set_up(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/socket", directory);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_hostile_values_in_lines),
		cmocka_unit_test(test_entries),
		cmocka_unit_test(test_hostile_values_in_entries),
		cmocka_unit_test(test_any_values),
		cmocka_unit_test(test_long_values),
		cmocka_unit_test(test_entry_that_is_full),
		cmocka_unit_test(test_journal_that_is_away),
		cmocka_unit_test(test_journal_that_is_slow),
		cmocka_unit_test(test_errno_stays),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
