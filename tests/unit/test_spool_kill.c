/*
 * The spool, killed at any instruction: what was done is there, what was not is not, and nothing is half there.
 *
 * A child works on memory that both have, and is stopped after every single instruction; the parent reads what would be
 * left if it were killed there. And children that work on a file are killed in earnest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/spool_model.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STEPS = 40 }; /* each takes a hundred times more instructions */
#else
enum { STEPS = 300 };
#endif
enum { WARM = 150, ROUNDS = 40, CHUNK = 4000 };

/* What both processes see. */
struct stage {
	volatile uint64_t done; /* steps that were acknowledged */
	char map[] __attribute__((aligned(64)));
};

static struct stage *stage_new(void)
{
	size_t size = sizeof(struct stage) + spool_size_of(SPOOL_FEWEST);
	struct stage *stage = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(stage, MAP_FAILED);
	return stage;
}

static void child(struct stage *stage, struct spool *spool, const struct step *steps)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	for (unsigned i = 0; i < STEPS; i++) {
		model_step_spool(spool, &steps[i]);
		stage->done = i + 1;
	}
	_exit(0);
}

/* What a daemon would find that starts now is what `a` or `b` says. */
static void look(const void *map, void *copy, const struct model *a, const struct model *b, uint64_t done)
{
	size_t size = spool_size_of(SPOOL_FEWEST);
	struct spool found = {.fd = -1};
	const char *not_a, *not_b;

	memcpy(copy, map, size);
	assert_int_equal(spool_adopt(&found, copy, size), 0);
	not_a = model_differs(a, &found);
	not_b = b && not_a ? model_differs(b, &found) : not_a;
	if (not_b)
		fail_msg("after step %llu, in the middle of the next: neither as before (%s) nor as behind it (%s)",
			 (unsigned long long)done, not_a, not_b);
}

static void draw(struct model *model, struct step *steps, unsigned count, uint64_t *seed)
{
	for (unsigned i = 0; i < count; i++) {
		steps[i] = model_draw(model, model_random(seed));
		model_step(model, &steps[i]);
	}
}

static void test_every_instruction(void **state)
{
	size_t size = spool_size_of(SPOOL_FEWEST);
	struct model *model = malloc(sizeof(*model)), *next = malloc(sizeof(*next));
	struct step warm[WARM], *steps = malloc(STEPS * sizeof(*steps));
	char *before = malloc(size), *copy = aligned_alloc(64, (size + 63) / 64 * 64);
	uint64_t seed = 88172645463325252ULL, instructions = 0, looks = 0, done = 0;
	struct stage *stage = stage_new();
	struct spool spool;
	int status;
	pid_t pid;

	(void)state;
	model_init(model, SPOOL_FEWEST);
	model_fresh(&spool, stage->map, SPOOL_FEWEST);
	draw(model, warm, WARM, &seed); /* round the ring once, or nearly */
	for (unsigned i = 0; i < WARM; i++)
		model_step_spool(&spool, &warm[i]);
	*next = *model;
	draw(next, steps, STEPS, &seed);
	*next = *model;
	model_step(next, &steps[0]);
	memcpy(before, stage->map, size);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		child(stage, &spool, steps);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	while (WIFSTOPPED(status)) {
		if (stage->done != done) {
			done = stage->done;
			model_step(model, &steps[done - 1]);
			look(stage->map, copy, model, NULL, done);
			if (done < STEPS)
				model_step(next, &steps[done]);
		}
		if (memcmp(before, stage->map, size) != 0) {
			memcpy(before, stage->map, size);
			look(stage->map, copy, model, done < STEPS ? next : NULL, done);
			looks++;
		}
		instructions++;
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(done, STEPS);
	print_message("# %llu instructions, %llu of them stores\n", (unsigned long long)instructions,
		      (unsigned long long)looks);
	munmap(stage, sizeof(*stage) + size);
	free(before);
	free(copy);
	free(model);
	free(next);
	free(steps);
}

/* ---- in earnest ---- */

static void work(const char *directory, struct stage *stage, const struct step *steps)
{
	char error[SPOOL_ERROR_SIZE];
	struct spool *spool;

	if (spool_open(directory, 0, &spool, error) != 0)
		_exit(1);
	for (unsigned i = 0; i < CHUNK; i++) {
		model_step_spool(spool, &steps[i]);
		stage->done = i + 1;
	}
	for (;;)
		pause();
}

static void test_killed(void **state)
{
	char directory[] = "/tmp/spool-kill.XXXXXX", path[64], error[SPOOL_ERROR_SIZE];
	struct model *model = malloc(sizeof(*model)), *ahead = malloc(sizeof(*ahead));
	struct step *steps = malloc(CHUNK * sizeof(*steps)), chain = {.kind = STEP_CHAIN};
	uint64_t seed = 2463534242ULL;
	struct stage *stage = stage_new();
	struct spool *spool;

	(void)state;
	assert_non_null(mkdtemp(directory));
	model_init(model, SPOOL_FEWEST);
	assert_int_equal(spool_open(directory, 0, &spool, error), 0);
	model_step_spool(spool, &chain);
	spool_close(spool);
	for (unsigned round = 0; round < ROUNDS && model->end < MODEL_RECORDS - CHUNK; round++) {
		uint64_t wanted = model_random(&seed) % CHUNK;
		int status;
		pid_t pid;

		*ahead = *model;
		draw(ahead, steps, CHUNK, &seed);
		stage->done = 0;
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			work(directory, stage, steps);
		while (stage->done < wanted)
			assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		for (uint64_t i = 0; i < stage->done; i++)
			model_step(model, &steps[i]);
		assert_int_equal(spool_open(directory, 0, &spool, error), 0);
		if (model_differs(model, spool) && stage->done < CHUNK)
			model_step(model, &steps[stage->done]);
		if (model_differs(model, spool))
			fail_msg("round %u: %s", round, model_differs(model, spool));
		spool_close(spool);
	}
	snprintf(path, sizeof(path), "%s/ledger.spool", directory);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(directory), 0);
	munmap(stage, sizeof(*stage) + spool_size_of(SPOOL_FEWEST));
	free(model);
	free(ahead);
	free(steps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_instruction),
		cmocka_unit_test(test_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
