/* The spool: the ring against a model, what is refused at the start, what is damaged, full, and how it grows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/spool_model.h"

static char directory[64], error[SPOOL_ERROR_SIZE];

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static int set_up(void **state)
{
	(void)state;
	strcpy(directory, "/tmp/spool.XXXXXX");
	return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path_of("ledger.spool"));
	unlink(path_of("ledger.spool.new"));
	unlink(path_of("else"));
	rmdir(path_of("ledger.spool"));
	return rmdir(directory);
}

static struct spool *opened(void)
{
	struct spool *spool = NULL;

	if (spool_open(directory, 0, &spool, error) != 0)
		fail_msg("%s", error);
	return spool;
}

static void refused(const char *part)
{
	struct spool *spool = NULL;

	assert_true(spool_open(directory, 0, &spool, error) < 0);
	assert_null(spool);
	if (!strstr(error, part))
		fail_msg("\"%s\" is not in \"%s\"", part, error);
	assert_non_null(strstr(error, directory));
	assert_non_null(strchr(error, ';'));
}

static void append(struct spool *spool, uint64_t number)
{
	model_step_spool(spool, &(struct step){.kind = STEP_APPEND, .a = number % 3, .b = SPOOL_ROLLUP});
}

/* ---- the ring ---- */

static void test_model(void **state)
{
	size_t size = spool_size_of(SPOOL_FEWEST);
	char *map = aligned_alloc(64, (size + 63) / 64 * 64);
	struct model *model = malloc(sizeof(*model));
	uint64_t seed = 1;

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		struct spool spool;

		model_init(model, SPOOL_FEWEST);
		model_fresh(&spool, map, SPOOL_FEWEST);
		for (unsigned i = 0; i < 1000; i++) {
			struct step step = model_draw(model, model_random(&seed));
			struct spool again = {.fd = -1};

			model_step(model, &step);
			model_step_spool(&spool, &step);
			if (model_differs(model, &spool))
				fail_msg("round %u step %u: %s", round, i, model_differs(model, &spool));
			if (i % 10 > 0)
				continue;
			assert_int_equal(spool_adopt(&again, map, size), 0);
			if (model_differs(model, &again))
				fail_msg("round %u step %u, read again: %s", round, i, model_differs(model, &again));
			spool = again;
		}
	}
	free(map);
	free(model);
}

static void test_full(void **state)
{
	struct spool *spool = opened();
	struct spool_batch batch;

	(void)state;
	for (unsigned i = 0; i < SPOOL_FEWEST; i++)
		append(spool, i);
	assert_null(spool_next(spool));
	assert_int_equal(spool_room(spool), 0);
	spool_lose(spool, REASON_OK);
	spool_lose(spool, REASON_MALFORMED_KEY);
	assert_true(spool_seal(spool, 7, 10, 8));
	assert_false(spool_seal(spool, 7, 10, 8));
	assert_false(spool_seal_statement(spool, 7));
	assert_true(spool_sealed(spool, &batch));
	assert_int_equal(batch.end - batch.first, 10);
	assert_int_equal(batch.lost, 2);
	assert_null(spool_next(spool));
	spool_release(spool);
	assert_int_equal(spool_room(spool), 10);
	for (unsigned i = 0; i < 10; i++)
		append(spool, i);
	assert_null(spool_next(spool));
	assert_int_equal(spool_lost_untold(spool), 0);
	spool_close(spool);
}

static void test_words_of_another_daemon(void **state)
{
	struct spool *spool = opened();
	struct spool_record *record;
	uint64_t at;

	(void)state;
	/* One that knows a reason which this one does not, and has it where this one has another. */
	memmove(spool->page->reasons[1], spool->page->reasons[0], (SPOOL_REASONS - 1) * SPOOL_WORD);
	strcpy(spool->page->reasons[0], "of_a_later_release");
	record = spool_next(spool);
	record->kind = SPOOL_ROLLUP;
	record->count = 1;
	at = spool_append(spool);
	spool_close(spool);
	spool = opened();
	assert_int_equal(spool_damaged(spool), 0);
	assert_string_equal(spool_reason_word(spool, spool_at(spool, at)->reason), "of_a_later_release");
	for (unsigned i = 0; i < REASON_COUNT; i++) {
		assert_string_equal(spool_reason_word(spool, spool_reason_at(spool, (enum reason)i)),
				    reason_word((enum reason)i));
	}
	spool_close(spool);
}

/* ---- the file ---- */

static void test_stays(void **state)
{
	struct spool *spool = opened();
	uint8_t chain[SPOOL_CHAIN_LEN];
	struct stat st;

	(void)state;
	assert_false(spool_in_memory(spool));
	memcpy(chain, spool_chain(spool), sizeof(chain));
	append(spool, 1);
	spool_count(spool_at(spool, 1), spool_at(spool, 1)->last_at);
	assert_int_equal(spool_sync(spool), 0);
	spool_close(spool);
	assert_int_equal(stat(path_of("ledger.spool"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true((uint64_t)st.st_blocks * 512 >= spool_size_of(SPOOL_FEWEST));
	assert_int_equal(access(path_of("ledger.spool.new"), F_OK), -1);
	spool = opened();
	assert_memory_equal(spool_chain(spool), chain, sizeof(chain));
	assert_int_equal(spool_used(spool), 1);
	assert_int_equal(spool_at(spool, 1)->count, 2);
	spool_close(spool);
}

static void test_in_memory(void **state)
{
	struct spool *spool;

	(void)state;
	assert_int_equal(spool_open("", 1 << 20, &spool, error), 0);
	assert_true(spool_in_memory(spool));
	assert_int_equal(spool_capacity(spool), spool_capacity_of(1 << 20));
	append(spool, 1);
	assert_int_equal(spool_sync(spool), 0);
	spool_close(spool);
}

static void test_another_size(void **state)
{
	struct spool *spool = opened();
	uint8_t chain[SPOOL_CHAIN_LEN];
	uint64_t more = spool_size_of(100);

	(void)state;
	memcpy(chain, spool_chain(spool), sizeof(chain));
	append(spool, 1);
	spool_lose(spool, REASON_OK);
	spool_close(spool);
	/* Not while there is something in it. */
	assert_int_equal(spool_open(directory, more, &spool, error), 0);
	assert_int_equal(spool_capacity(spool), SPOOL_FEWEST);
	assert_true(spool_seal(spool, 1, 100, 8));
	spool_close(spool);
	assert_int_equal(spool_open(directory, more, &spool, error), 0);
	assert_int_equal(spool_capacity(spool), SPOOL_FEWEST);
	spool_release(spool);
	spool_close(spool);
	assert_int_equal(spool_open(directory, more, &spool, error), 0);
	assert_int_equal(spool_capacity(spool), 100);
	assert_memory_equal(spool_chain(spool), chain, sizeof(chain));
	assert_int_equal(spool_number(spool), 2);
	assert_int_equal(spool_lost_untold(spool), 0);
	append(spool, 1);
	spool_close(spool);
	assert_int_equal(spool_open(directory, more, &spool, error), 0);
	assert_int_equal(spool_used(spool), 1);
	spool_close(spool);
}

static void test_two_daemons(void **state)
{
	struct spool *spool = opened();

	(void)state;
	refused("another apikeyd has it");
	spool_close(spool);
	spool = opened();
	spool_close(spool);
}

static void test_refused(void **state)
{
	const char *spool = path_of("ledger.spool");
	char kept[128];
	int fd;

	(void)state;
	snprintf(kept, sizeof(kept), "%s", spool);
	spool_close(opened());
	assert_int_equal(chmod(kept, 0640), 0);
	refused("others can use it (mode 0640)");
	assert_int_equal(chmod(kept, 0600), 0);
	assert_int_equal(chmod(directory, 0770), 0);
	refused("others may write to it (mode 0770)");
	assert_int_equal(chmod(directory, 0700), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(kept, 1, 1), 0);
		refused("belongs to uid 1");
		assert_int_equal(chown(kept, 0, 0), 0);
		assert_int_equal(chown(directory, 1, 1), 0);
		refused("belongs to uid 1");
		assert_int_equal(chown(directory, 0, 0), 0);
	}
	assert_int_equal(rename(kept, path_of("else")), 0);
	assert_int_equal(symlink("else", kept), 0);
	refused("is a symbolic link");
	assert_int_equal(unlink(kept), 0);
	assert_int_equal(mkdir(kept, 0700), 0);
	refused("ledger.spool");
	assert_int_equal(rmdir(kept), 0);
	assert_int_equal(mkfifo(kept, 0600), 0);
	refused("is not a regular file");
	assert_int_equal(unlink(kept), 0);
	fd = open(kept, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, "hello", 5), 5);
	close(fd);
	refused("is no spool");
	assert_int_equal(truncate(kept, 8192), 0);
	refused("is no spool, or damaged");
	assert_int_equal(unlink(kept), 0);
	assert_int_equal(rmdir(directory) == 0 || errno == ENOTEMPTY, 1);
	unlink(path_of("else"));
	rmdir(directory);
	refused("No such file");
	assert_int_equal(mkdir(directory, 0700), 0);
}

static void write_at(size_t at, const void *bytes, size_t len)
{
	int fd = open(path_of("ledger.spool"), O_WRONLY);

	assert_int_equal(pwrite(fd, bytes, len, (off_t)at), len);
	close(fd);
}

/* What only the loss of the machine leaves behind. */
static void test_damaged(void **state)
{
	const char junk[16] = "junkjunkjunkjunk";
	struct spool *spool = opened();
	struct spool_batch batch;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		append(spool, i);
	assert_true(spool_seal(spool, 1, 100, 8));
	spool_close(spool);
	/* A record in the middle: the others are there. */
	write_at(SPOOL_PAGE + 3 * sizeof(struct spool_record) + offsetof(struct spool_record, text), junk, 4);
	spool = opened();
	assert_int_equal(spool_damaged(spool), 1);
	assert_int_equal(spool_used(spool), 5);
	assert_int_equal(spool_at(spool, 3)->kind, SPOOL_VOID);
	assert_int_equal(spool_at(spool, 4)->kind, SPOOL_ROLLUP);
	spool_close(spool);
	/* It is void for good, and still told of. */
	spool = opened();
	assert_int_equal(spool_damaged(spool), 1);
	assert_true(spool_sealed(spool, &batch));
	assert_int_equal(batch.end - batch.first, 5);
	spool_close(spool);
	/* One of the states: the other holds, as it was before. */
	write_at(offsetof(struct spool_page, states) + spool_size_of(0) - SPOOL_PAGE, junk, 4);
	spool = opened();
	assert_int_equal(spool_used(spool), 5);
	spool_close(spool);
	/* Both. */
	write_at(offsetof(struct spool_page, states), junk, 4);
	write_at(offsetof(struct spool_page, states) + sizeof(struct spool_state), junk, 4);
	refused("is no spool, or damaged");
	write_at(offsetof(struct spool_page, version), "\x07\0\0", 4);
	refused("is of another version");
}

/* As much of it as the disk takes. */
static void fill(const char *path, size_t size)
{
	static const char zeros[4096];
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);

	assert_return_code(fd, errno);
	while (size >= sizeof(zeros) && write(fd, zeros, sizeof(zeros)) == sizeof(zeros))
		size -= sizeof(zeros);
	close(fd);
}

/* A spool that is not there whole is not there: the disk has no room for it. */
static void test_disk_full(void **state)
{
	struct spool *spool = NULL;

	(void)state;
	if (mount("none", directory, "tmpfs", 0, "size=64k,mode=0700") != 0) {
		print_message("# a small file system cannot be mounted here: %s\n", strerror(errno));
		skip();
	}
	assert_int_equal(spool_open(directory, 1 << 20, &spool, error), -ENOSPC);
	if (!strstr(error, "lower [ledger] spool_bytes"))
		fail_msg("%s", error);
	assert_int_equal(access(path_of("ledger.spool"), F_OK), -1);
	assert_int_equal(access(path_of("ledger.spool.new"), F_OK), -1);
	assert_int_equal(spool_open(directory, 32768, &spool, error), 0);
	append(spool, 1);
	assert_true(spool_seal(spool, 1, 100, 8));
	spool_release(spool);
	spool_close(spool);
	/* What is there is enough to start, with another size in the configuration, too; what a killed daemon left goes. */
	fill(path_of("ledger.spool.new"), 8192);
	fill(path_of("else"), 1 << 20);
	assert_int_equal(spool_open(directory, 32768, &spool, error), 0);
	assert_int_equal(spool_unsized(spool), 0);
	assert_int_equal(access(path_of("ledger.spool.new"), F_OK), -1);
	spool_close(spool);
	fill(path_of("else"), 1 << 20);
	assert_int_equal(spool_open(directory, 49152, &spool, error), 0);
	assert_int_equal(spool_unsized(spool), -ENOSPC);
	assert_int_equal(spool_capacity(spool), spool_capacity_of(32768));
	for (uint64_t i = spool_room(spool); i > 0; i--)
		append(spool, i);
	assert_int_equal(spool_sync(spool), 0);
	spool_close(spool);
	/* One with holes in it is none that a full disk can do without. */
	assert_int_equal(truncate(path_of("ledger.spool"), 65536), 0);
	assert_int_equal(spool_open(directory, 32768, &spool, error), -ENOSPC);
	if (!strstr(error, "has holes"))
		fail_msg("%s", error);
	assert_int_equal(truncate(path_of("ledger.spool"), (off_t)spool_size_of(spool_capacity_of(32768))), 0);
	unlink(path_of("else"));
	spool = NULL;
	assert_int_equal(spool_open(directory, 32768, &spool, error), 0);
	assert_int_equal(spool_room(spool), 0);
	spool_close(spool);
	unlink(path_of("ledger.spool"));
	assert_int_equal(umount(directory), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test_setup_teardown(test_full, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_words_of_another_daemon, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stays, set_up, tear_down),
		cmocka_unit_test(test_in_memory),
		cmocka_unit_test_setup_teardown(test_another_size, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_two_daemons, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_damaged, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_disk_full, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
