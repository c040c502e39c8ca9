/* The programs of exec: started, written to, read, ended, started again. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/modules/exec_internal.h"

enum { READS_MAX = 16, LINE_SIZE = EXEC_WHY_SIZE + 256, SHOWN = 80 };

static void on_ready(void *data, int fd, unsigned events);

/* ---- life ---- */

static void watch(struct exec_worker *worker, unsigned events)
{
	struct exec *exec = worker->exec;

	if (worker->events == events)
		return;
	if (exec->host->watch(exec->self, worker->fd, events, on_ready, worker) != 0)
		worker->broken = true;
	worker->events = events;
}

static void put_off(struct exec_worker *worker)
{
	worker->again_ms = exec_now_ms() + worker->backoff_ms;
	worker->backoff_ms *= 2;
	if (worker->backoff_ms > EXEC_BACKOFF_MAX_MS)
		worker->backoff_ms = EXEC_BACKOFF_MAX_MS;
}

/* Each time while the pauses grow, and then no more until it has answered something. */
static void say(struct exec_worker *worker, const char *what)
{
	struct exec *exec = worker->exec;
	char line[LINE_SIZE];

	if (worker->silent)
		return;
	worker->silent = worker->backoff_ms == EXEC_BACKOFF_MAX_MS;
	snprintf(line, sizeof(line), "worker %u: %s; started again in %" PRIu32 " ms%s", worker->number, what,
		 worker->backoff_ms, worker->silent ? ", and so on without a word" : "");
	exec->host->log(exec->self, APIKEYD_LOG_WARNING, line);
}

int exec_worker_begin(struct exec_worker *worker, char *why, size_t why_size)
{
	struct exec *exec = worker->exec;
	int rc = exec->host->run(exec->self, exec->program, &worker->fd, why, why_size);

	if (rc != 0) {
		worker->fd = -1;
		return rc;
	}
	worker->events = 0;
	worker->broken = false;
	worker->len = 0;
	watch(worker, APIKEYD_READABLE);
	return 0;
}

void exec_worker_try(struct exec_worker *worker)
{
	char line[EXEC_WHY_SIZE + 64], why[EXEC_WHY_SIZE] = "";

	if (exec_worker_begin(worker, why, sizeof(why)) == 0)
		return;
	snprintf(line, sizeof(line), "the program cannot be started: %s", why);
	say(worker, line);
	put_off(worker);
}

void exec_worker_close(struct exec_worker *worker)
{
	if (worker->fd < 0)
		return;
	watch(worker, 0);
	close(worker->fd);
	worker->fd = -1;
}

void exec_worker_end(struct exec_worker *worker, const char *why)
{
	struct exec *exec = worker->exec;
	struct apikeyd_answer answer = {.size = sizeof(answer), .code = APIKEYD_MODULE_FAULT, .detail = why};

	exec_worker_close(worker);
	say(worker, why);
	put_off(worker);
	while (!exec->closed && worker->hand.first)
		exec_complete(exec, worker->hand.first, &answer);
}

/* ---- writing ---- */

/* What is not written yet of what it has in hand, in order. An error is seen again by whoever reads. */
static void write_more(struct exec_worker *worker)
{
	struct exec_question *question = worker->hand.first;

	while (question && question->written == question->len)
		question = question->next[EXEC_IN_PLACE];
	while (question && !worker->broken) {
		ssize_t sent = send(worker->fd, question->line + question->written, question->len - question->written,
				    MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			break;
		if (sent < 0) {
			worker->broken = true;
			break;
		}
		question->written += (uint32_t)sent;
		if (question->written == question->len)
			question = question->next[EXEC_IN_PLACE];
	}
	watch(worker, APIKEYD_READABLE | (question && !worker->broken ? APIKEYD_WRITABLE : 0u));
}

static struct exec_worker *least_busy(struct exec *exec)
{
	struct exec_worker *found = NULL;

	for (uint32_t i = 0; i < exec->worker_count; i++) {
		struct exec_worker *worker = &exec->workers[i];

		if (worker->fd >= 0 && !worker->broken && worker->in_hand < exec->depth &&
		    (!found || worker->in_hand < found->in_hand))
			found = worker;
	}
	return found;
}

void exec_give(struct exec *exec)
{
	struct exec_worker *worker;

	while (exec->queue.first && (worker = least_busy(exec))) {
		struct exec_question *question = exec->queue.first;

		exec_list_remove(&exec->queue, EXEC_IN_PLACE, question);
		exec_list_add(&worker->hand, EXEC_IN_PLACE, question);
		question->worker = worker;
		worker->in_hand++;
		write_more(worker);
	}
}

/* ---- reading ---- */

static struct exec_question *in_hand(const struct exec_worker *worker, uint64_t id)
{
	struct exec_question *question = worker->hand.first;

	while (question && question->id != id)
		question = question->next[EXEC_IN_PLACE];
	return question;
}

/* False where it is nothing that a program may say now. */
static bool take_line(struct exec_worker *worker, char *line, size_t len)
{
	struct apikeyd_answer told = {.size = sizeof(told)};
	struct exec_question *question;
	struct exec_answer answer;

	if (!exec_line_read(line, len, &answer))
		return false;
	question = in_hand(worker, answer.id);
	if (!question || question->written < question->len)
		return false;
	worker->backoff_ms = EXEC_BACKOFF_MIN_MS;
	worker->silent = false;
	told.code = answer.code;
	told.retry_after_ms = answer.retry_after_ms;
	told.detail = answer.detail;
	exec_complete(worker->exec, question, &told);
	return true;
}

static void end_garbled(struct exec_worker *worker, const char *line, size_t len)
{
	char why[LINE_SIZE], shown[SHOWN + 1];
	size_t shown_len = len < SHOWN ? len : SHOWN;

	for (size_t i = 0; i < shown_len; i++)
		shown[i] = line[i] >= ' ' && line[i] < 0x7f ? line[i] : '?';
	shown[shown_len] = '\0';
	snprintf(why, sizeof(why), "the program's answer is not understood: '%s'%s", shown,
		 len > SHOWN ? ", cut here" : "");
	exec_worker_end(worker, why);
}

/* The lines that are whole. False: the worker ended, or the instance. */
static bool take_lines(struct exec_worker *worker)
{
	char *at = worker->answer, *end = worker->answer + worker->len, *newline;

	while ((newline = memchr(at, '\n', (size_t)(end - at)))) {
		char line[EXEC_ANSWER_MAX + 1];
		size_t len = (size_t)(newline - at);

		memcpy(line, at, len);
		line[len] = '\0';
		if (!take_line(worker, line, len)) {
			end_garbled(worker, at, len);
			return false;
		}
		if (worker->exec->closed || worker->fd < 0)
			return false;
		at = newline + 1;
	}
	worker->len = (size_t)(end - at);
	memmove(worker->answer, at, worker->len);
	if (worker->len < EXEC_ANSWER_MAX)
		return true;
	end_garbled(worker, worker->answer, worker->len);
	return false;
}

/* So much at a time that nobody else starves; what is left makes the descriptor ready again. */
static void read_more(struct exec_worker *worker)
{
	for (unsigned i = 0; i < READS_MAX; i++) {
		ssize_t got = read(worker->fd, worker->answer + worker->len, EXEC_ANSWER_MAX - worker->len);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return;
		if (got <= 0) {
			exec_worker_end(worker, "the program has ended");
			return;
		}
		worker->len += (size_t)got;
		if (!take_lines(worker))
			return;
	}
}

static void on_ready(void *data, int fd, unsigned events)
{
	struct exec_worker *worker = data;
	struct exec *exec = worker->exec;

	if (fd != worker->fd || exec->closed)
		return;
	exec_enter(exec);
	if (events & APIKEYD_WRITABLE)
		write_more(worker);
	if (events & APIKEYD_READABLE)
		read_more(worker);
	if (!exec->closed) {
		exec_give(exec);
		exec_arm(exec);
	}
	exec_leave(exec);
}
