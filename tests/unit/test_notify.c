/* What a service manager hears of the daemon, and when; and that nobody is waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/notify.h"

enum { TURNS = 20000 };

struct world {
	char dir[64], path[96];
	int fd; /* the manager's */
	uv_loop_t loop;
	struct notify notify;
	const char *text;
	char heard[1024];
};

static void on_describe(void *data, char *out, size_t size)
{
	const struct world *w = data;

	snprintf(out, size, "%s", w->text);
}

static void end(struct world *w)
{
	notify_close(&w->notify);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	close(w->fd);
	unlink(w->path);
	rmdir(w->dir);
	free(w);
}

/* `watchdog`: microseconds, or NULL. */
static struct world *begin(const char *watchdog)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->text = "fine";
	strcpy(w->dir, "/tmp/test-notify.XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/notify", w->dir);
	memcpy(address.sun_path, w->path, strlen(w->path));
	w->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(w->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	setenv("NOTIFY_SOCKET", w->path, 1);
	unsetenv("WATCHDOG_PID");
	if (watchdog)
		setenv("WATCHDOG_USEC", watchdog, 1);
	else
		unsetenv("WATCHDOG_USEC");
	uv_loop_init(&w->loop);
	return w;
}

static const char *hear(struct world *w)
{
	ssize_t n = recv(w->fd, w->heard, sizeof(w->heard) - 1, 0);

	w->heard[n > 0 ? n : 0] = '\0';
	return w->heard;
}

static const char *turn_until_heard(struct world *w)
{
	for (unsigned i = 0; i < TURNS; i++) {
		uv_run(&w->loop, UV_RUN_NOWAIT);
		if (*hear(w))
			return w->heard;
		usleep(1000);
	}
	return "";
}

static void test_life(void **state)
{
	struct world *w = begin(NULL);
	unsigned long long at = 0;

	(void)state;
	notify_start(&w->notify, &w->loop, on_describe, w);
	assert_string_equal(hear(w), "STATUS=fine");
	/* The end of a reload is not the end of the start. */
	notify_reloading(&w->notify);
	assert_string_equal(hear(w), "");
	notify_reloaded(&w->notify);
	assert_string_equal(hear(w), "STATUS=fine");
	w->text = "two\nlines";
	notify_ready(&w->notify);
	assert_string_equal(hear(w), "READY=1\nSTATUS=two lines");
	notify_reloading(&w->notify);
	assert_int_equal(sscanf(hear(w), "RELOADING=1\nMONOTONIC_USEC=%llu\n", &at), 1);
	assert_true(at > 0);
	notify_reloaded(&w->notify);
	assert_string_equal(hear(w), "READY=1\nSTATUS=two lines");
	notify_stopping(&w->notify, 5000);
	assert_string_equal(hear(w), "STOPPING=1\nEXTEND_TIMEOUT_USEC=15000000\nSTATUS=two lines");
	end(w);
}

/* By the loop's own timer, and by nothing else; a start asks for time until it is ready. */
static void test_watchdog(void **state)
{
	struct world *w = begin("3000");

	(void)state;
	notify_start(&w->notify, &w->loop, on_describe, w);
	assert_string_equal(hear(w), "STATUS=fine");
	usleep(50000);
	assert_string_equal(hear(w), "");
	assert_string_equal(turn_until_heard(w), "WATCHDOG=1\nEXTEND_TIMEOUT_USEC=60000000\n");
	/* One turn, one sign of life. */
	notify_ready(&w->notify);
	while (*hear(w))
		;
	assert_string_equal(turn_until_heard(w), "WATCHDOG=1\n");
	end(w);
	/* Meant for another process. */
	w = begin("3000");
	setenv("WATCHDOG_PID", "1", 1);
	notify_start(&w->notify, &w->loop, on_describe, w);
	assert_false(w->notify.watchdog);
	end(w);
}

static void test_nobody_asked(void **state)
{
	static const char *const none[] = {NULL, "", "/", "relative", "@"};

	(void)state;
	for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		struct world *w = begin("3000");

		if (none[i])
			setenv("NOTIFY_SOCKET", none[i], 1);
		else
			unsetenv("NOTIFY_SOCKET");
		notify_start(&w->notify, &w->loop, on_describe, w);
		assert_int_equal(uv_loop_alive(&w->loop), 0);
		notify_ready(&w->notify);
		notify_reloading(&w->notify);
		notify_reloaded(&w->notify);
		notify_stopping(&w->notify, 0);
		assert_string_equal(hear(w), "");
		end(w);
	}
}

/* A manager that does not read holds nobody up, and is told later that we are ready. */
static void test_deaf(void **state)
{
	struct world *w = begin("3000");
	unsigned told = 0;
	bool ready = false;

	(void)state;
	notify_start(&w->notify, &w->loop, on_describe, w);
	/* fills its queue */
	while (told++ < 100000 && !w->notify.owed)
		notify_ready(&w->notify);
	assert_true(w->notify.owed);
	while (*hear(w))
		;
	for (unsigned i = 0; i < TURNS && !ready; i++)
		ready = strncmp(turn_until_heard(w), "WATCHDOG=1\nREADY=1\n", 19) == 0;
	assert_true(ready);
	assert_false(w->notify.owed);
	end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_watchdog),
		cmocka_unit_test(test_nobody_asked),
		cmocka_unit_test(test_deaf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
