/*
 * libapikey in a libuv loop: asks one question every few milliseconds while a timer of the program's own runs beside it,
 * and ends when all are answered.
 *
 *     APIKEY_KEY=… ./uv SCOPE PAGE [COUNT]
 *     cc -o uv uv.c $(pkg-config --cflags --libs apikey libuv)
 */
#include <apikey.h>
#include <uv.h>

#include <stdio.h>
#include <stdlib.h>

struct program {
	struct apikey_async *handle;
	uv_poll_t poll;
	uv_timer_t timer;
	const char *key, *scope, *page;
	unsigned wanted, asked, answered, allowed, faults;
};

static void end(struct program *program)
{
	/* First libuv lets go of the descriptor, then the library closes it: when uv_run has ended, in main. */
	uv_poll_stop(&program->poll);
	uv_close((uv_handle_t *)&program->poll, NULL);
	uv_close((uv_handle_t *)&program->timer, NULL);
}

static void on_answer(void *data, int err, const struct apikey_result *result)
{
	struct program *program = data;

	if (err && program->faults++ == 0)
		fprintf(stderr, "%s\n", apikey_error());
	program->allowed += result->verdict == APIKEY_ALLOW;
	if (++program->answered == program->wanted)
		end(program);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct program *program = poll->data;

	(void)events;
	if (status == 0)
		apikey_async_dispatch(program->handle);
}

static void on_timer(uv_timer_t *timer)
{
	struct program *program = timer->data;

	if (apikey_async_check(program->handle, program->key, program->scope, program->page, NULL, on_answer, program,
			       NULL)) {
		fprintf(stderr, "%s\n", apikey_error());
		program->faults++;
		program->wanted = program->asked;
		if (program->answered == program->wanted)
			end(program);
		return;
	}
	if (++program->asked == program->wanted)
		uv_timer_stop(timer);
}

int main(int argc, char **argv)
{
	struct program program = {.key = getenv("APIKEY_KEY"), .wanted = 3};
	uv_loop_t loop;

	if (!program.key || argc < 3 || argc > 4) {
		fprintf(stderr, "usage: APIKEY_KEY=… %s SCOPE PAGE [COUNT]\n", argv[0]);
		return 2;
	}
	program.scope = argv[1];
	program.page = argv[2];
	if (argc == 4)
		program.wanted = (unsigned)strtoul(argv[3], NULL, 10);
	if (program.wanted == 0)
		return 0;
	if (apikey_async_open(NULL, &program.handle)) {
		fprintf(stderr, "%s\n", apikey_error());
		return 2;
	}
	uv_loop_init(&loop);
	uv_poll_init(&loop, &program.poll, apikey_async_fd(program.handle));
	program.poll.data = &program;
	uv_poll_start(&program.poll, UV_READABLE, on_readable);
	uv_timer_init(&loop, &program.timer);
	program.timer.data = &program;
	uv_timer_start(&program.timer, on_timer, 0, 2);
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
	apikey_async_close(program.handle);
	printf("asked %u answered %u allowed %u faults %u\n", program.asked, program.answered, program.allowed,
	       program.faults);
	return program.faults ? 1 : 0;
}
