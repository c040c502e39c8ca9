/*
 * The journal of denials: what it was told it knows after any end, whatever fails, is torn off or damaged; or it says
 * that it may lack something. Each call that can fails once.
 */
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

#include "daemon/journal_internal.h"
#include "daemon/log.h"

enum { LIMIT = 5000, OTHER = 65533 };

static char base[64], error[JOURNAL_ERROR_SIZE];
static uv_loop_t loop;

/* ---- what fails: the n-th call of all, once ---- */

static long fail_in = -1; /* -1: none; atomic enough: the thread and the loop take turns */
static bool fail_for_good;
static unsigned failed_writes;

static bool fails(void)
{
	if (fail_in < 0)
		return false;
	if (fail_in > 0) {
		fail_in--;
		return false;
	}
	fail_in = fail_for_good ? 0 : -1;
	return true;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
ssize_t __real_pwrite(int fd, const void *data, size_t len, off_t at);
ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t at);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_renameat(int a, const char *from, int b, const char *to);
int __wrap_renameat(int a, const char *from, int b, const char *to);
int __real_ftruncate(int fd, off_t len);
int __wrap_ftruncate(int fd, off_t len);
void __wrap_log_write(enum log_level level, const char *format, ...);

/* Hundreds of faults, each with its line. */
void __wrap_log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	assert_non_null(format);
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}
void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}
void *__wrap_realloc(void *block, size_t size)
{
	return fails() ? NULL : __real_realloc(block, size);
}
void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return fails() ? NULL : __real_aligned_alloc(alignment, size);
}
/* As a disk that is full: half of it is written, then no more. */
ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t at)
{
	if (!fails())
		return __real_pwrite(fd, data, len, at);
	failed_writes++;
	if (len > 1 && __real_pwrite(fd, data, len / 2, at) < 0)
		return -1;
	errno = ENOSPC;
	return -1;
}
#define FAILING(call)                                                                                                  \
	do {                                                                                                           \
		if (!fails())                                                                                          \
			return call;                                                                                   \
		errno = EIO;                                                                                           \
		return -1;                                                                                             \
	} while (0)
int __wrap_fsync(int fd)
{
	FAILING(__real_fsync(fd));
}
int __wrap_fdatasync(int fd)
{
	FAILING(__real_fdatasync(fd));
}
int __wrap_renameat(int a, const char *from, int b, const char *to)
{
	FAILING(__real_renameat(a, from, b, to));
}
int __wrap_ftruncate(int fd, off_t len)
{
	FAILING(__real_ftruncate(fd, len));
}

/* ---- a directory of our own ---- */

static const char *path(void)
{
	static char text[96];

	snprintf(text, sizeof(text), "%s/denials", base);
	return text;
}

static int setup(void **state)
{
	(void)state;
	fail_in = -1;
	fail_for_good = false;
	strcpy(base, "/tmp/apikeyd-journal.XXXXXX");
	return mkdtemp(base) && uv_loop_init(&loop) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	fail_in = -1;
	uv_run(&loop, UV_RUN_DEFAULT);
	if (uv_loop_close(&loop) != 0)
		return -1;
	snprintf(command, sizeof(command), "chmod -R u+rwx %s && rm -r %s", base, base);
	return system(command);
}

static struct journal *opened(uint32_t limit)
{
	struct journal *journal = NULL;

	if (journal_open(base, limit, &journal, error) < 0)
		fail_msg("%s", error);
	journal_start(journal, &loop);
	return journal;
}

static void on_closed(void *data)
{
	*(bool *)data = true;
}

static void closed(struct journal *journal)
{
	bool done = false;

	journal_close(journal, on_closed, &done);
	assert_false(done);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_true(done);
	journal_free(journal);
}

/* As kill -9 leaves it: what was not synced may be there or not. */
static void killed(struct journal *journal)
{
	journal_forget(journal);
	uv_run(&loop, UV_RUN_DEFAULT);
	journal_free(journal);
}

static void on_synced(void *data, int r)
{
	*(int *)data = r;
}

static int synced(struct journal *journal)
{
	int r = 1;

	if (!journal_sync(journal, on_synced, &r))
		return 0;
	assert_int_equal(r, 1); /* not from inside */
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_true(r <= 0);
	return r;
}

static struct denial revoked(void)
{
	return (struct denial){.flags = RULE_REVOKED, .retired_at = INT64_MAX};
}
static struct denial disabled(void)
{
	return (struct denial){.flags = RULE_DISABLED, .retired_at = INT64_MAX};
}
static struct denial retired(int64_t at)
{
	return (struct denial){.retired_at = at};
}

static bool knows(const struct journal *journal, keytext_id id, struct denial denial)
{
	return denial_is_same(denials_of(journal_known(journal), id), denial);
}
static bool holds(const struct journal *journal, keytext_id id, struct denial denial)
{
	return denial_is_same(denials_of(journal_held(journal), id), denial);
}

static const struct journal_position here = {
	.rev = 1700000000000001, .system = 7, .lsn = 9, .timeline = 1, .database = 5};
static const struct journal_position there = {
	.rev = 1600000000000001, .system = 8, .lsn = 3, .timeline = 2, .database = 6};

static bool same_place(const struct journal_position *a, const struct journal_position *b)
{
	return a->rev == b->rev && a->system == b->system && a->lsn == b->lsn && a->timeline == b->timeline &&
	       a->database == b->database;
}

/* ---- the table ---- */

static void test_denials(void **state)
{
	struct denials denials;
	struct denial denial;
	keytext_id id;
	unsigned seen = 0;

	(void)state;
	assert_int_equal(denials_init(&denials, 10000), 0);
	for (keytext_id i = 0; i < 10000; i++)
		assert_int_equal(denials_put(&denials, i * 977, retired((int64_t)i)), 0);
	assert_int_equal(denials_put(&denials, 1, revoked()), -ENOSPC);
	assert_int_equal(denials_put(&denials, 977, revoked()), 0); /* who stands there may change */
	assert_int_equal(denials_put(&denials, 1, denial_none()), 0);
	for (keytext_id i = 1; i < 10000; i += 2)
		assert_int_equal(denials_put(&denials, i * 977, denial_none()), 0);
	assert_int_equal(denials.count, 5000);
	for (keytext_id i = 1; i < 10000; i += 2)
		assert_int_equal(denials_put(&denials, i, disabled()), 0);
	assert_int_equal(denials_end(&denials), 10001); /* in the places that had become free */
	for (uint32_t at = 0; at <= denials_end(&denials); at++)
		seen += denials_at(&denials, at, &id, &denial);
	assert_int_equal(seen, 10000);
	for (keytext_id i = 0; i < 10000; i += 2)
		assert_true(denial_is_same(denials_of(&denials, i * 977), retired((int64_t)i)));
	denials_clear(&denials);
	assert_int_equal(denials.count, 0);
	assert_true(denial_is_none(denials_of(&denials, 2)));
	assert_int_equal(denials_put(&denials, 2, revoked()), 0);
	assert_true(denials_bytes(&denials) > 0);
	denials_deinit(&denials);
}

static void test_weaker(void **state)
{
	struct denial both = {.flags = RULE_REVOKED | RULE_DISABLED, .retired_at = 5};

	(void)state;
	assert_true(denial_is_weaker(denial_none(), revoked()));
	assert_true(denial_is_weaker(denial_none(), retired(9)));
	assert_true(denial_is_weaker(retired(10), retired(9)));
	assert_false(denial_is_weaker(retired(9), retired(10)));
	assert_true(denial_is_weaker(retired(9), disabled()));
	assert_true(denial_is_weaker(disabled(), retired(9)));
	assert_false(denial_is_weaker(revoked(), both)); /* it is denied for ever either way */
	assert_false(denial_is_weaker(both, both));
	assert_true(denial_is_same(denial_join(denial_join(revoked(), disabled()), retired(5)), both));
	assert_true(denial_is_none(denial_none()));
}

/* ---- what it was told, it knows ---- */

static const struct journal_note lost_note = {
	.kind = JOURNAL_NOTE_LOST,
	.id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 250},
	.at = 1234567,
	.loss = {.why = JOURNAL_WHY_LOG,
		 .at = 1234567,
		 .unsure = true,
		 .from = {.rev = 1700000000000001, .system = 7, .lsn = 9, .timeline = 1, .database = 5},
		 .to = {.rev = 1600000000000001, .system = 8, .lsn = 3, .timeline = 2, .database = 6}},
	.refuse = true,
	.kept = {.revoked = 1, .retired = 4000000000, .disabled = 7},
	.key_count = 5,
	.keys = {0, 3, 839299365868340223, 9, 1}};

/* One that nothing said: numbered. */
static struct journal_note numbered_note(enum journal_note_kind kind, unsigned number, uint32_t keys)
{
	struct journal_note note = {.kind = kind,
				    .id = {0, (uint8_t)number},
				    .at = number,
				    .uid = 4294967294,
				    .loss = {.why = JOURNAL_WHY_LSN, .at = -(int64_t)number},
				    .key_count = keys};

	for (uint32_t i = 0; i < keys; i++)
		note.keys[i] = i * 1000;
	return note;
}

static bool same_note(const struct journal_note *a, const struct journal_note *b)
{
	return a->kind == b->kind && memcmp(a->id, b->id, sizeof(a->id)) == 0 && a->at == b->at &&
	       a->loss.why == b->loss.why && a->loss.at == b->loss.at && a->loss.unsure == b->loss.unsure &&
	       same_place(&a->loss.from, &b->loss.from) && same_place(&a->loss.to, &b->loss.to) &&
	       a->refuse == b->refuse && a->uid == b->uid && memcmp(&a->kept, &b->kept, sizeof(a->kept)) == 0 &&
	       a->key_count == b->key_count && memcmp(a->keys, b->keys, a->key_count * sizeof(a->keys[0])) == 0;
}

static const struct journal_note *noted(const struct journal *journal, unsigned number, unsigned of)
{
	unsigned count;
	const struct journal_note *notes = journal_notes(journal, &count);

	assert_int_equal(count, of);
	return &notes[number];
}

static void tell(struct journal *journal)
{
	struct journal_loss loss = {.why = JOURNAL_WHY_LOG, .at = 1234567, .unsure = true, .from = here, .to = there};

	journal_know(journal, 1, revoked());
	journal_know(journal, 2, disabled());
	journal_know(journal, 3, retired(-5));
	journal_know(journal, 4, disabled());
	journal_know(journal, 4, denial_none());
	journal_lose(journal, &loss);
	journal_hold(journal, 1, revoked());
	journal_hold(journal, 3, retired(-5));
	journal_note(journal, &lost_note);
	journal_place(journal, &there);
}

static void assert_told(const struct journal *journal)
{
	const struct journal_loss *loss = journal_loss(journal);

	assert_true(knows(journal, 1, revoked()) && knows(journal, 2, disabled()) && knows(journal, 3, retired(-5)));
	assert_true(knows(journal, 4, denial_none()));
	assert_int_equal(journal_known(journal)->count, 3);
	assert_true(holds(journal, 1, revoked()) && holds(journal, 3, retired(-5)));
	assert_int_equal(journal_held(journal)->count, 2);
	assert_int_equal(loss->why, JOURNAL_WHY_LOG);
	assert_int_equal(loss->at, 1234567);
	assert_true(loss->unsure);
	assert_true(same_place(&loss->from, &here) && same_place(&loss->to, &there));
	assert_true(same_place(journal_position(journal), &there));
	assert_int_equal(journal_kept(journal)->revoked, 1);
	assert_int_equal(journal_kept(journal)->retired, 1);
	assert_int_equal(journal_kept(journal)->disabled, 0);
	assert_true(same_note(noted(journal, 0, 1), &lost_note));
}

static void test_it_remembers(void **state)
{
	struct journal *journal;
	struct stat st;

	(void)state;
	journal = opened(LIMIT);
	assert_false(journal_sync(journal, on_synced, NULL)); /* nothing to say */
	assert_true(journal_is_written(journal));
	tell(journal);
	assert_told(journal);
	assert_false(journal_is_written(journal));
	assert_int_equal(synced(journal), 0);
	assert_true(journal_is_written(journal));
	assert_return_code(stat(path(), &st), errno);
	assert_int_equal(st.st_mode & 07777, 0600);
	killed(journal);

	journal = opened(LIMIT);
	assert_told(journal);
	assert_true(journal_is_whole(journal));
	journal_accept(journal);
	assert_int_equal(journal_held(journal)->count, 0);
	journal_know(journal, 2, denial_none());
	closed(journal); /* writes what was said last */

	journal = opened(LIMIT);
	assert_int_equal(journal_loss(journal)->why, JOURNAL_WHY_NONE);
	assert_int_equal(journal_held(journal)->count, 0);
	assert_int_equal(journal_known(journal)->count, 2);
	assert_true(same_place(journal_position(journal), &there));
	closed(journal);
}

static void test_memory_only(void **state)
{
	struct journal *journal = NULL;

	(void)state;
	assert_int_equal(journal_open("", LIMIT, &journal, error), 0);
	journal_start(journal, &loop);
	tell(journal);
	assert_told(journal);
	assert_false(journal_sync(journal, on_synced, NULL));
	assert_string_equal(journal_directory(journal), "");
	journal_accept(journal);
	closed(journal);
}

/* What comes while it writes is written, too, and who asked is called once. */
static void test_said_while_it_writes(void **state)
{
	struct journal *journal = opened(LIMIT);
	int r = 1;

	(void)state;
	journal_know(journal, 1, revoked());
	assert_true(journal_sync(journal, NULL, NULL));
	journal_know(journal, 2, revoked());
	assert_true(journal_sync(journal, on_synced, &r));
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(r, 0);
	assert_int_equal(journal_counts(journal)->writes, 2);
	killed(journal);
	journal = opened(LIMIT);
	assert_int_equal(journal_known(journal)->count, 2);
	closed(journal);
}

static void test_what_is_of_the_past_goes(void **state)
{
	struct journal *journal = opened(LIMIT);
	struct stat st;

	(void)state;
	for (unsigned round = 0; round < 40; round++) {
		for (keytext_id id = 0; id < 500; id++)
			journal_know(journal, id, round % 2 ? disabled() : retired(round));
		assert_int_equal(synced(journal), 0);
	}
	assert_true(journal_counts(journal)->compactions > 0);
	assert_return_code(stat(path(), &st), errno);
	assert_true(st.st_size < 16 + 40 * (4096 + 3 * 500));
	killed(journal);
	journal = opened(LIMIT);
	assert_int_equal(journal_known(journal)->count, 500);
	for (keytext_id id = 0; id < 500; id++)
		assert_true(knows(journal, id, disabled()));
	closed(journal);
}

/* ---- notes for the ledger ---- */

static const struct journal_life life = {.started = 1700000000000009, .timeline = 2, .database = 6};

/* The same in memory, after a kill, and in a file that was made anew. */
static void test_notes(void **state)
{
	struct journal_note accepted = lost_note;
	struct journal_loss again = {.why = JOURNAL_WHY_REVOKED, .at = 77, .from = there, .to = there};
	struct journal *journal = opened(LIMIT);

	(void)state;
	tell(journal);
	journal_note(journal, &lost_note); /* it is there */
	assert_int_equal(noted(journal, 0, 1)->entered.timeline, 0);
	journal_entered(journal, JOURNAL_NOTE_ACCEPTED, lost_note.id, &life); /* there is none of it */
	journal_entered(journal, JOURNAL_NOTE_LOST, lost_note.id, &life);
	assert_int_equal(synced(journal), 0);
	killed(journal);

	for (unsigned lives = 0; lives < 2; lives++) {
		journal = opened(LIMIT);
		assert_told(journal);
		assert_memory_equal(&noted(journal, 0, 1)->entered, &life, sizeof(life));
		closed(journal);
	}

	journal = opened(LIMIT);
	accepted.kind = JOURNAL_NOTE_ACCEPTED;
	accepted.at = 99;
	accepted.uid = 1000;
	accepted.key_count = JOURNAL_NOTE_KEYS;
	journal_note(journal, &accepted);
	journal_accept(journal);
	assert_int_equal(journal_kept(journal)->revoked + journal_kept(journal)->retired, 0);
	assert_int_equal(synced(journal), 0);
	killed(journal);

	journal = opened(LIMIT);
	assert_true(same_note(noted(journal, 0, 2), &lost_note) && same_note(noted(journal, 1, 2), &accepted));
	assert_int_equal(journal_loss(journal)->why, JOURNAL_WHY_NONE);
	journal_lose(journal, &again); /* what the ledger had may be lost, too: it had it */
	assert_int_equal(noted(journal, 0, 2)->entered.started, 0);
	assert_int_equal(noted(journal, 0, 2)->entered.timeline, 2);
	assert_int_equal(synced(journal), 0);
	killed(journal);
	for (unsigned lives = 0; lives < 2; lives++) {
		journal = opened(LIMIT);
		assert_int_equal(noted(journal, 0, 2)->entered.started, 0);
		assert_int_equal(noted(journal, 0, 2)->entered.timeline, 2);
		assert_int_equal(journal_loss(journal)->at, 77);
		closed(journal);
	}
}

/* The oldest goes that a ledger has; where none has any, the oldest, which is counted. */
static void test_more_notes_than_it_takes(void **state)
{
	struct journal *journal = opened(LIMIT);
	struct journal_note note;

	(void)state;
	for (unsigned i = 0; i < JOURNAL_NOTES_MAX; i++) {
		note = numbered_note(1 + i % 2, i, i * 3);
		journal_note(journal, &note);
	}
	assert_int_equal(journal_counts(journal)->notes_dropped, 0);
	note = numbered_note(1, 5, 0);
	note.kind = 2;
	journal_entered(journal, note.kind, note.id, &life);
	note = numbered_note(1, 100, 0);
	journal_note(journal, &note);
	assert_int_equal(journal_counts(journal)->notes_dropped, 0);
	assert_int_equal(noted(journal, 5, JOURNAL_NOTES_MAX)->at, 6);
	note = numbered_note(2, 101, JOURNAL_NOTE_KEYS);
	journal_note(journal, &note);
	assert_int_equal(journal_counts(journal)->notes_dropped, 1);
	assert_int_equal(noted(journal, 0, JOURNAL_NOTES_MAX)->at, 1);
	assert_int_equal(synced(journal), 0);
	killed(journal);
	for (unsigned lives = 0; lives < 2; lives++) {
		journal = opened(LIMIT);
		assert_int_equal(noted(journal, 0, JOURNAL_NOTES_MAX)->at, 1);
		assert_int_equal(noted(journal, 4, JOURNAL_NOTES_MAX)->at, 6);
		assert_int_equal(noted(journal, 14, JOURNAL_NOTES_MAX)->at, 100);
		assert_true(same_note(noted(journal, 15, JOURNAL_NOTES_MAX), &note));
		closed(journal);
	}
}

/* ---- limits ---- */

static void test_the_limit(void **state)
{
	struct journal *journal = opened(10);

	(void)state;
	for (keytext_id id = 0; id < 12; id++)
		journal_know(journal, id, revoked());
	assert_int_equal(journal_known(journal)->count, 10);
	assert_int_equal(journal_counts(journal)->dropped, 2);
	assert_false(journal_is_whole(journal));
	assert_int_equal(synced(journal), 0);
	killed(journal);

	journal = opened(10); /* it says so of itself */
	assert_false(journal_is_whole(journal));
	assert_int_equal(journal_counts(journal)->dropped, 0);
	journal_make_whole(journal);
	assert_int_equal(synced(journal), 0); /* the head alone */
	killed(journal);

	journal = opened(5); /* a limit that was lowered drops, too */
	assert_false(journal_is_whole(journal));
	assert_int_equal(journal_known(journal)->count, 5);
	closed(journal);
}

/* ---- torn and damaged ---- */

static size_t slurp(uint8_t *data, size_t size)
{
	int fd = open(path(), O_RDONLY);
	ssize_t len = read(fd, data, size);

	assert_return_code(fd, errno);
	close(fd);
	assert_true(len > 0 && (size_t)len < size);
	return (size_t)len;
}

static void spit(const uint8_t *data, size_t len)
{
	int fd = open(path(), O_WRONLY | O_TRUNC);

	assert_return_code(fd, errno);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

/* A file with 20 keys, one after the other; its length. */
static size_t twenty(uint8_t *data, size_t size)
{
	struct journal *journal = opened(LIMIT);

	for (keytext_id id = 1; id <= 20; id++) {
		journal_know(journal, id, revoked());
		assert_int_equal(synced(journal), 0);
	}
	killed(journal);
	return slurp(data, size);
}

static void test_a_torn_end(void **state)
{
	uint8_t data[4096];
	size_t len = twenty(data, sizeof(data));

	(void)state;
	assert_int_equal(len, JOURNAL_HEAD + 20 * JOURNAL_SLOT);
	for (size_t cut = JOURNAL_HEAD; cut <= len; cut++) {
		struct journal *journal;

		spit(data, cut);
		journal = opened(LIMIT);
		assert_int_equal(journal_known(journal)->count, (cut - JOURNAL_HEAD) / JOURNAL_SLOT);
		assert_int_equal(journal_counts(journal)->torn, (cut - JOURNAL_HEAD) % JOURNAL_SLOT != 0);
		assert_true(journal_is_whole(journal));
		journal_know(journal, 99, disabled()); /* in place of what was torn off */
		assert_int_equal(synced(journal), 0);
		killed(journal);
		journal = opened(LIMIT);
		assert_true(knows(journal, 99, disabled()));
		assert_int_equal(journal_counts(journal)->torn, 0);
		closed(journal);
	}
	/* Blocks of the end that were never written are zeros. */
	memset(data + JOURNAL_HEAD + 15 * JOURNAL_SLOT, 0, 5 * JOURNAL_SLOT);
	spit(data, len);
	struct journal *journal = opened(LIMIT);

	assert_int_equal(journal_known(journal)->count, 15);
	assert_int_equal(journal_counts(journal)->torn, 5);
	assert_true(journal_is_whole(journal));
	closed(journal);
}

/* Each bit turned, one at a time: it is refused, or not whole, or it was the last slot, which may have been torn. */
static void test_damage(void **state)
{
	uint8_t data[4096];
	size_t len = twenty(data, sizeof(data));

	(void)state;
	for (size_t bit = 0; bit < len * 8; bit += bit < (size_t)8 * 60 ? 1 : 13) {
		struct journal *journal = NULL;
		size_t at = bit / 8;
		int r;

		data[at] ^= (uint8_t)(1 << bit % 8);
		spit(data, len);
		data[at] ^= (uint8_t)(1 << bit % 8);
		r = journal_open(base, LIMIT, &journal, error);
		if (at < JOURNAL_MARK_AT) {
			assert_true(r == -EBADMSG || r == -EPROTONOSUPPORT);
			assert_non_null(strstr(error, "denials: is "));
			continue;
		}
		assert_int_equal(r, 0);
		if (at >= JOURNAL_HEAD)
			assert_int_equal(journal_known(journal)->count, 19);
		if (at >= len - JOURNAL_SLOT) {
			assert_int_equal(journal_counts(journal)->torn, 1);
		} else if (at == JOURNAL_MARK_AT) {
			assert_false(journal_is_whole(journal));
		} else if (at >= JOURNAL_HEAD) {
			assert_false(journal_is_whole(journal));
			assert_int_equal(journal_counts(journal)->damaged, 1);
		}
		journal_free(journal);
	}
}

/* A crash leaves all of an acceptance or nothing of it, wherever it cuts. */
static void test_a_torn_acceptance(void **state)
{
	static uint8_t data[16384];
	struct journal_note accepted = lost_note;
	struct journal *journal = opened(LIMIT);
	size_t before, len;

	(void)state;
	tell(journal);
	assert_int_equal(synced(journal), 0);
	before = slurp(data, sizeof(data));
	accepted.kind = JOURNAL_NOTE_ACCEPTED;
	journal_note(journal, &accepted);
	journal_accept(journal);
	assert_int_equal(synced(journal), 0);
	killed(journal);
	len = slurp(data, sizeof(data));
	for (size_t cut = before; cut < len; cut += 8) {
		spit(data, cut);
		journal = opened(LIMIT);
		assert_told(journal);
		closed(journal);
	}
	spit(data, len);
	journal = opened(LIMIT);
	assert_int_equal(journal_loss(journal)->why, JOURNAL_WHY_NONE);
	assert_true(same_note(noted(journal, 1, 2), &accepted));
	closed(journal);
}

/* What the version before wrote is read, and nothing in it that was none then. */
static void test_the_version_before(void **state)
{
	static uint8_t data[16384];
	struct journal_loss loss = {.why = JOURNAL_WHY_LIFE, .at = 55, .from = here, .to = there};
	struct journal *journal = opened(LIMIT);
	size_t len;

	(void)state;
	journal_know(journal, 1, revoked());
	journal_lose(journal, &loss);
	journal_hold(journal, 1, revoked());
	journal_place(journal, &there);
	assert_int_equal(synced(journal), 0);
	len = slurp(data, sizeof(data));
	assert_int_equal(data[8], JOURNAL_VERSION);
	data[8] = 1;
	spit(data, len);
	killed(journal);

	journal = opened(LIMIT);
	assert_true(knows(journal, 1, revoked()) && holds(journal, 1, revoked()) && journal_is_whole(journal));
	assert_int_equal(journal_loss(journal)->at, 55);
	assert_true(same_place(journal_position(journal), &there));
	noted(journal, 0, 0);
	slurp(data, sizeof(data));
	assert_int_equal(data[8], JOURNAL_VERSION); /* from now on */
	journal_note(journal, &lost_note);
	journal_know(journal, 2, revoked());
	assert_int_equal(synced(journal), 0);
	killed(journal);

	len = slurp(data, sizeof(data));
	data[8] = 1;
	spit(data, len);
	journal = opened(LIMIT); /* kinds that it had not are damage */
	assert_false(journal_is_whole(journal));
	noted(journal, 0, 0);
	assert_true(knows(journal, 2, revoked()));
	closed(journal);

	for (uint8_t version = 0; version < 5; version++) {
		int r;

		journal = NULL;
		data[8] = version;
		spit(data, JOURNAL_HEAD);
		r = journal_open(base, LIMIT, &journal, error);
		assert_int_equal(r, version == 1 || version == 2 ? 0 : -EPROTONOSUPPORT);
		journal_free(journal);
	}
}

/* ---- whose it is ---- */

static void refused(int r, const char *says)
{
	struct journal *journal = NULL;

	assert_int_equal(journal_open(base, LIMIT, &journal, error), r);
	assert_null(journal);
	if (!strstr(error, says) || strchr(error, '\n') || strncmp(error, "[state] directory = ", 20) != 0)
		fail_msg("\"%s\" does not say \"%s\"", error, says);
}

static void test_owners_and_modes(void **state)
{
	struct journal *journal;
	char to[96];

	(void)state;
	journal = opened(LIMIT);
	refused(-EWOULDBLOCK, "another apikeyd has it");
	closed(journal);
	assert_return_code(chmod(base, 0770), errno);
	refused(-EPERM, "others may write to it (mode 0770)");
	assert_return_code(chmod(base, 0755), errno);
	assert_return_code(chmod(path(), 0640), errno);
	refused(-EPERM, "others can use it (mode 0640)");
	assert_return_code(chmod(path(), 0600), errno);
	closed(opened(LIMIT));
	if (geteuid() == 0) {
		assert_return_code(chown(path(), OTHER, OTHER), errno);
		refused(-EPERM, "belongs to uid 65533");
		assert_return_code(chown(base, OTHER, OTHER), errno);
		refused(-EPERM, "belongs to uid 65533");
		assert_return_code(chown(base, 0, 0), errno);
	}
	assert_return_code(unlink(path()), errno);
	snprintf(to, sizeof(to), "%s/else", base);
	assert_return_code(symlink(to, path()), errno);
	refused(-ELOOP, "is a symbolic link");
	assert_return_code(unlink(path()), errno);
	assert_return_code(mkdir(path(), 0700), errno);
	refused(-EISDIR, "Is a directory");
	assert_return_code(rmdir(path()), errno);
	assert_return_code(close(open(path(), O_CREAT | O_WRONLY, 0600)), errno);
	refused(-EBADMSG, "is no journal of denials");
	assert_return_code(unlink(path()), errno);
	strcat(base, "/no");
	refused(-ENOENT, "No such file or directory; make it");
	base[strlen(base) - 3] = '\0';
}

/* ---- each call fails once, and all of them from there on ---- */

/* What was said in the end stands there, or it says that it may lack something. */
static void assert_right(void)
{
	struct journal *journal = opened(LIMIT);

	if (journal_is_whole(journal)) {
		assert_told(journal);
	} else {
		/* What a loss holds was written before the loss was over; what is known may lack. */
		assert_true(journal_known(journal)->count <= 4);
	}
	closed(journal);
}

/* False: nothing failed, all of it was tried. */
static bool try_once(long nth, bool for_good)
{
	struct journal *journal = NULL;
	bool failed;
	int r;

	fail_for_good = for_good;
	fail_in = nth;
	r = journal_open(base, LIMIT, &journal, error);
	if (r < 0) {
		fail_in = -1;
		assert_null(journal);
		assert_true(error[0] && !strchr(error, '\n'));
		closed(opened(LIMIT)); /* nothing is broken */
		return true;
	}
	journal_start(journal, &loop);
	tell(journal);
	journal_sync(journal, NULL, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	failed = fail_in <= 0;
	fail_in = -1;
	/* In memory it is as it was told, unless it says so. */
	if (journal_is_whole(journal))
		assert_told(journal);
	if (for_good && nth % 2) {
		/* It ends with the disk as it is, which took not even the mark: the first of what was said, or none. */
		killed(journal);
		journal = opened(LIMIT);
		assert_true(journal_known(journal)->count <= 4 && journal_held(journal)->count <= 2);
		tell(journal);
	}
	journal_place(journal, &there); /* the next word brings what was not written */
	assert_int_equal(synced(journal), 0);
	killed(journal);
	assert_right();
	return failed;
}

static void try_all(bool for_good)
{
	long nth = 0;

	while (true) {
		unlink(path());
		if (!try_once(nth++, for_good))
			break;
	}
	assert_true(nth > 10);
	fail_for_good = false;
}

static void test_each_fails_once(void **state)
{
	(void)state;
	try_all(false);
}

static void test_all_fail_from_there_on(void **state)
{
	(void)state;
	try_all(true);
}

/*
 * A disk that is full when it starts: the file that is there goes on and says no less, what is torn at its end is cut off,
 * and what did not say it was whole does not do so now. Without a file there is no start.
 */
static void full_at_the_start(bool torn, bool whole)
{
	unsigned kept = 0;

	failed_writes = 0;

	for (long nth = 0;; nth++) {
		struct journal *journal;
		uint8_t data[4096];
		size_t len;
		bool over;
		int r;

		unlink(path());
		journal = opened(LIMIT);
		tell(journal);
		assert_int_equal(synced(journal), 0);
		killed(journal);
		len = slurp(data, sizeof(data));
		data[JOURNAL_MARK_AT] = whole ? 'w' : 'i';
		memset(data + len, 0x55, JOURNAL_SLOT + 7);
		spit(data, torn ? len + JOURNAL_SLOT + 7 : len);
		fail_in = nth;
		r = journal_open(base, LIMIT, &journal, error);
		over = fail_in > 0;
		fail_in = -1;
		if (r < 0)
			continue;
		journal_start(journal, &loop);
		if (journal_counts(journal)->dropped) { /* there was no memory for it, which it says */
			assert_false(journal_is_whole(journal));
			killed(journal);
			continue;
		}
		assert_told(journal);
		assert_int_equal(journal_is_whole(journal), whole);
		assert_int_equal(journal_counts(journal)->failures, *journal_trouble(journal) != '\0');
		kept += *journal_trouble(journal) != '\0';
		killed(journal);
		journal = opened(LIMIT);
		assert_int_equal(journal_is_whole(journal), whole);
		journal_place(journal, &there);
		assert_int_equal(synced(journal), 0);
		assert_string_equal(journal_trouble(journal), "");
		killed(journal);
		journal = opened(LIMIT);
		assert_told(journal);
		assert_int_equal(journal_counts(journal)->torn, 0);
		closed(journal);
		/* A table with another seed may take one block more: a write is met once, twice, or in another round. */
		if (over && kept > 0)
			break;
		if (over)
			nth = -1;
	}
	assert_int_equal(kept, failed_writes); /* the others are no matter of room */
}

static void test_full_at_the_start(void **state)
{
	struct journal *journal = NULL;

	(void)state;
	full_at_the_start(false, true);
	full_at_the_start(true, true);
	full_at_the_start(false, false);
	full_at_the_start(true, false);
	unlink(path());
	for (long nth = 0; nth < 100; nth++) {
		fail_in = nth;
		if (journal_open(base, LIMIT, &journal, error) == 0)
			break;
		if (strstr(error, strerror(ENOSPC))) {
			assert_non_null(strstr(error, "; make room"));
			return;
		}
	}
	fail();
}

/* The file that goes on is of the version before: what is added to it is none of that. */
static void test_full_at_the_start_of_this_version(void **state)
{
	/* The write may be met in another round: see full_at_the_start. */
	for (long nth = 0; nth < 1000; nth++) {
		struct journal *journal;
		uint8_t data[4096];
		size_t len;
		bool kept;
		int r;

		(void)state;
		unlink(path());
		journal = opened(LIMIT);
		journal_know(journal, 1, revoked());
		assert_int_equal(synced(journal), 0);
		killed(journal);
		len = slurp(data, sizeof(data));
		data[8] = 1;
		spit(data, len);
		fail_in = nth % 50;
		r = journal_open(base, LIMIT, &journal, error);
		fail_in = -1;
		if (r < 0)
			continue;
		journal_start(journal, &loop);
		kept = *journal_trouble(journal);
		if (!kept) { /* something else failed, or nothing */
			killed(journal);
			continue;
		}
		journal_note(journal, &lost_note);
		journal_know(journal, 2, revoked());
		assert_int_equal(synced(journal), 0);
		killed(journal);
		journal = opened(LIMIT);
		assert_int_equal(journal_counts(journal)->damaged + journal_counts(journal)->torn, 0);
		assert_true(journal_is_whole(journal) && knows(journal, 1, revoked()) && knows(journal, 2, revoked()));
		assert_true(same_note(noted(journal, 0, 1), &lost_note));
		closed(journal);
		return;
	}
	fail();
}

/*
 * What could not be written is said to be lacking, in whichever file goes on, until the place of what was applied stands
 * there: no slot of anything else takes that back, and no slot of that on a disk that does not take it.
 */
static void test_behind(void **state)
{
	struct journal *journal = opened(LIMIT);
	uint8_t data[4096];

	(void)state;
	journal_place(journal, &here);
	assert_int_equal(synced(journal), 0);
	assert_false(journal_is_behind(journal));
	journal_know(journal, 1, revoked());
	journal_place(journal, &there);
	fail_in = 0;
	assert_int_equal(synced(journal), -ENOSPC);
	fail_in = -1;
	assert_false(journal_is_behind(journal)); /* it knows itself */
	killed(journal);
	for (unsigned i = 0; i < 2; i++) { /* a start changes nothing */
		journal = opened(LIMIT);
		assert_true(journal_is_behind(journal) && !journal_is_whole(journal));
		assert_true(same_place(journal_position(journal), &here));
		killed(journal);
	}
	journal = opened(LIMIT);
	journal_know(journal, 2, revoked());
	journal_make_whole(journal); /* by a load, which comes to its end with the place */
	assert_int_equal(synced(journal), 0);
	killed(journal);
	slurp(data, sizeof(data));
	assert_int_equal(data[JOURNAL_MARK_AT], 'b');
	journal = opened(LIMIT);
	assert_true(journal_is_behind(journal));
	journal_make_whole(journal);
	journal_place(journal, &there);
	assert_false(journal_is_behind(journal));
	assert_int_equal(synced(journal), 0);
	killed(journal);
	slurp(data, sizeof(data));
	assert_int_equal(data[JOURNAL_MARK_AT], 'w');
	journal = opened(LIMIT);
	assert_true(!journal_is_behind(journal) && journal_is_whole(journal) && knows(journal, 2, revoked()));
	closed(journal);
}

/* A new file that cannot take the old one's place leaves that as it was. */
static void test_compaction_fails(void **state)
{
	struct journal_state read;
	struct journal_file file;
	struct journal_bytes bytes = {0};
	long nth = 0;
	int r;

	(void)state;
	for (keytext_id id = 0; id < 9000; id++)
		assert_true(journal_put_denial(&bytes, JOURNAL_KNOW, id % 3, revoked()));
	do {
		unlink(path());
		assert_int_equal(journal_state_init(&read, LIMIT), 0);
		assert_int_equal(journal_file_open(&file, base, &read, error), 0);
		journal_state_deinit(&read);
		assert_int_equal(journal_file_add(&file, bytes.data, bytes.len, true, false), 0);
		assert_true(journal_file_is_worn(&file));
		fail_in = nth++;
		r = journal_file_compact(&file);
		fail_in = -1;
		assert_int_equal(journal_file_add(&file, bytes.data, JOURNAL_SLOT, true, false), 0);
		journal_file_close(&file);
		assert_int_equal(journal_state_init(&read, LIMIT), 0);
		assert_int_equal(journal_file_open(&file, base, &read, error), 0);
		assert_int_equal(read.known.count, 3);
		assert_false(read.incomplete);
		journal_state_deinit(&read);
		journal_file_close(&file);
	} while (r < 0 || nth < 5);
	free(bytes.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_denials),
		cmocka_unit_test(test_weaker),
		cmocka_unit_test_setup_teardown(test_it_remembers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_said_while_it_writes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_of_the_past_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_notes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_more_notes_than_it_takes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_torn_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_torn_acceptance, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_version_before, setup, teardown),
		cmocka_unit_test_setup_teardown(test_owners_and_modes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_each_fails_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all_fail_from_there_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_at_the_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_at_the_start_of_this_version, setup, teardown),
		cmocka_unit_test_setup_teardown(test_behind, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compaction_fails, setup, teardown),
	};

	return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
