#include "daemon/notify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/log.h"

enum {
	STATUS_MS = 5000,  /* between two texts, which cost everybody who watches the unit something */
	EXTEND_MS = 60000, /* what a start asks for on top, each time */
	STOP_MS = 10000,   /* what a stop takes on top of limits.stop_ms */
	MESSAGE_SIZE = NOTIFY_TEXT_SIZE + 256,
};

/* ---- messages ---- */

__attribute__((format(printf, 2, 3))) static bool tell(struct notify *notify, const char *format, ...)
{
	char message[MESSAGE_SIZE];
	va_list args;
	int len;

	if (notify->address_len == 0)
		return true;
	va_start(args, format);
	len = vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	/* A manager that does not read would hold up everybody who asks: what it does not take now it gets later. */
	return len > 0 && (size_t)len < sizeof(message) &&
	       sendto(notify->fd, message, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL,
		      (const struct sockaddr *)&notify->address, notify->address_len) >= 0;
}

static void describe(const struct notify *notify, char out[NOTIFY_TEXT_SIZE])
{
	out[0] = '\0';
	notify->describe(notify->data, out, NOTIFY_TEXT_SIZE);
	for (char *c = out; *c; c++) {
		if (*c == '\n')
			*c = ' ';
	}
}

/* `state`: lines that go before the text, each with its end. */
static bool tell_status(struct notify *notify, const char *state)
{
	char text[NOTIFY_TEXT_SIZE];

	if (notify->address_len == 0)
		return true;
	describe(notify, text);
	if (!tell(notify, "%sSTATUS=%s", state, text))
		return false;
	memcpy(notify->told, text, sizeof(notify->told));
	notify->told_at = uv_now(notify->timer.loop);
	return true;
}

/* ---- the timer ---- */

static void on_timer(uv_timer_t *timer)
{
	struct notify *notify = timer->data;
	char text[NOTIFY_TEXT_SIZE], state[128];

	snprintf(state, sizeof(state), "%s%s", notify->watchdog ? "WATCHDOG=1\n" : "", notify->owed ? "READY=1\n" : "");
	if (!notify->ready && !notify->stopping)
		snprintf(state + strlen(state), sizeof(state) - strlen(state), "EXTEND_TIMEOUT_USEC=%d000\n",
			 EXTEND_MS);
	describe(notify, text);
	if (strcmp(text, notify->told) != 0 && uv_now(timer->loop) - notify->told_at >= STATUS_MS / 2) {
		if (tell_status(notify, state))
			notify->owed = false;
	} else if (*state && tell(notify, "%s", state)) {
		notify->owed = false;
	}
}

/* Milliseconds between two signs of life, a third of what is allowed; 0: nobody waits for them. */
static uint64_t watchdog_ms(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t allowed;

	if (!usec || (pid && strtoimax(pid, NULL, 10) != getpid()))
		return 0;
	allowed = strtoumax(usec, NULL, 10) / 1000;
	return allowed > 0 && allowed < 3 ? 1 : allowed / 3;
}

static bool find_manager(struct notify *notify)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;

	if (len < 2 || len >= sizeof(notify->address.sun_path) || (path[0] != '/' && path[0] != '@'))
		return false;
	notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (notify->fd < 0) {
		log_warning("the service manager cannot be told anything: %m");
		return false;
	}
	notify->address.sun_family = AF_UNIX;
	memcpy(notify->address.sun_path, path, len + 1);
	if (path[0] == '@')
		notify->address.sun_path[0] = '\0';
	notify->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (path[0] == '@' ? 0 : 1));
	return true;
}

/* ---- what happens ---- */

void notify_start(struct notify *notify, uv_loop_t *loop, notify_describe describe_cb, void *data)
{
	uint64_t alive = watchdog_ms(), period = alive > 0 && alive < STATUS_MS ? alive : STATUS_MS;

	*notify = (struct notify){.describe = describe_cb, .data = data, .fd = -1};
	if (!find_manager(notify))
		return;
	notify->watchdog = alive > 0;
	uv_timer_init(loop, &notify->timer);
	notify->timer.data = notify;
	uv_timer_start(&notify->timer, on_timer, period, period);
	tell_status(notify, "");
}

void notify_ready(struct notify *notify)
{
	notify->ready = true;
	notify->owed = !tell_status(notify, "READY=1\n");
}

/* Before it is ready, the end of a reload would be taken for the end of the start. */
void notify_reloading(struct notify *notify)
{
	struct timespec now;

	if (!notify->ready)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	tell(notify, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\n",
	     (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
}

void notify_reloaded(struct notify *notify)
{
	notify->owed = !tell_status(notify, notify->ready ? "READY=1\n" : "") && notify->ready;
}

void notify_stopping(struct notify *notify, uint32_t stop_ms)
{
	char state[128];

	notify->stopping = true;
	notify->owed = false;
	snprintf(state, sizeof(state), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64 "\n",
		 ((uint64_t)stop_ms + STOP_MS) * 1000);
	tell_status(notify, state);
}

void notify_close(struct notify *notify)
{
	if (notify->address_len == 0)
		return;
	uv_close((uv_handle_t *)&notify->timer, NULL);
	close(notify->fd);
	notify->address_len = 0;
}
