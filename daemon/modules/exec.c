/*
 * exec: asks a program. Programs live long, take questions by the line, and answer with a code.
 *
 * They are told what the question is about, never the key. The daemon's broker starts them (host->program, host->run).
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "daemon/modules/exec_internal.h"
#include "daemon/modules/table.h"

enum { COMMAND = 0, WORKERS, TIMEOUT, PENDING, DEPTH }; /* arguments */

enum { WORDS_MAX = 32, WORKERS_MAX = 64, PENDING_MAX = 4096, DEPTH_MAX = 64 };

/* ---- help ---- */

int64_t exec_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void exec_list_add(struct exec_list *list, enum exec_lists which, struct exec_question *question)
{
	question->prev[which] = list->last;
	question->next[which] = NULL;
	if (list->last)
		list->last->next[which] = question;
	else
		list->first = question;
	list->last = question;
}

void exec_list_remove(struct exec_list *list, enum exec_lists which, struct exec_question *question)
{
	struct exec_question *prev = question->prev[which], *next = question->next[which];

	if (prev)
		prev->next[which] = next;
	else
		list->first = next;
	if (next)
		next->prev[which] = prev;
	else
		list->last = prev;
}

void exec_enter(struct exec *exec)
{
	exec->busy++;
}

void exec_leave(struct exec *exec)
{
	if (--exec->busy == 0 && exec->closed)
		free(exec);
}

/* ---- questions ---- */

static void take_out(struct exec *exec, struct exec_question *question)
{
	exec_list_remove(&exec->all, EXEC_IN_ALL, question);
	if (question->worker) {
		exec_list_remove(&question->worker->hand, EXEC_IN_PLACE, question);
		question->worker->in_hand--;
	} else {
		exec_list_remove(&exec->queue, EXEC_IN_PLACE, question);
	}
	if (question->wanted)
		exec->pending--;
	assert(exec->all.first != question);
}

void exec_complete(struct exec *exec, struct exec_question *question, const struct apikeyd_answer *answer)
{
	uint64_t token = question->token;
	bool wanted = question->wanted;

	take_out(exec, question);
	free(question);
	if (wanted)
		exec->host->complete(exec->self, token, answer);
}

/* Whether a program runs, or one is to be started early enough to answer still. */
static bool may_answer(const struct exec *exec, int64_t until_ms)
{
	for (uint32_t i = 0; i < exec->worker_count; i++) {
		if (exec->workers[i].fd >= 0 || exec->workers[i].again_ms < until_ms)
			return true;
	}
	return false;
}

static enum apikeyd_code refuse(const struct exec *exec, const struct apikeyd_request *request, enum apikeyd_code code,
				const char *why)
{
	if (request->explain)
		exec->host->detail(exec->self, request, why);
	return code;
}

static enum apikeyd_code exec_start(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	struct exec *exec = instance;
	int64_t until_ms = exec_now_ms() + exec->timeout_ms;
	struct exec_question *question;
	char line[EXEC_LINE_MAX];
	size_t len;

	if (exec->pending >= exec->pending_max)
		return refuse(exec, request, APIKEYD_OVERLOAD, "as many questions wait as may (pending=)");
	if (!may_answer(exec, until_ms))
		return refuse(exec, request, APIKEYD_MODULE_FAULT, "no program runs");
	len = exec_line_put(++exec->last_id, request, line);
	if (len == 0)
		return refuse(exec, request, APIKEYD_MODULE_FAULT, "the question is too long for a line");
	question = calloc(1, sizeof(*question) + len);
	if (!question)
		return refuse(exec, request, APIKEYD_OVERLOAD, "no memory");
	question->id = exec->last_id;
	question->token = token;
	question->until_ms = until_ms;
	question->wanted = true;
	question->len = (uint32_t)len;
	memcpy(question->line, line, len);
	exec_list_add(&exec->all, EXEC_IN_ALL, question);
	exec_list_add(&exec->queue, EXEC_IN_PLACE, question);
	exec->pending++;
	exec_give(exec);
	exec_arm(exec);
	return APIKEYD_PENDING;
}

/* A worker that has it in hand is still to answer it: until then the hand is not free. */
static void exec_cancel(void *instance, uint64_t token)
{
	struct exec *exec = instance;
	struct exec_question *question = exec->all.first;

	while (question && !(question->wanted && question->token == token))
		question = question->next[EXEC_IN_ALL];
	if (!question)
		return;
	if (question->worker) {
		question->wanted = false;
		exec->pending--;
		return;
	}
	take_out(exec, question);
	free(question);
}

/* ---- time ---- */

void exec_arm(struct exec *exec)
{
	int64_t least = exec->all.first ? exec->all.first->until_ms : INT64_MAX;
	struct itimerspec when = {0};

	for (uint32_t i = 0; i < exec->worker_count; i++) {
		const struct exec_worker *worker = &exec->workers[i];
		int64_t due = worker->fd < 0 ? worker->again_ms : worker->broken ? 1 : INT64_MAX;

		if (due < least)
			least = due;
	}
	if (least == INT64_MAX)
		least = 0; /* nothing is due: a time of zero disarms */
	if (least == exec->armed_ms)
		return;
	when.it_value.tv_sec = least / 1000;
	when.it_value.tv_nsec = least % 1000 * 1000000;
	timerfd_settime(exec->timer, TFD_TIMER_ABSTIME, &when, NULL);
	exec->armed_ms = least;
}

/* The deadline of the first question in `all` has come. Its worker is stuck: what it says later would come too late. */
static void time_out(struct exec *exec, struct exec_question *question)
{
	struct exec_worker *worker = question->worker;
	char why[64];
	const struct apikeyd_answer answer = {.size = sizeof(answer), .code = APIKEYD_TIMEOUT, .detail = why};

	snprintf(why, sizeof(why), "no answer in %" PRId64 " ms", exec->timeout_ms);
	if (worker)
		worker->broken = true; /* no question that begins meanwhile is for it */
	exec_complete(exec, question, &answer);
	if (worker && !exec->closed)
		exec_worker_end(worker, why);
}

static void look_after_workers(struct exec *exec, int64_t now)
{
	for (uint32_t i = 0; i < exec->worker_count && !exec->closed; i++) {
		struct exec_worker *worker = &exec->workers[i];

		if (worker->fd >= 0 && worker->broken)
			exec_worker_end(worker, "the program does not take questions");
		else if (worker->fd < 0 && worker->again_ms <= now)
			exec_worker_try(worker);
	}
}

static void on_timer(void *data, int fd, unsigned events)
{
	struct exec *exec = data;
	int64_t now = exec_now_ms();
	uint64_t times;

	(void)events;
	if (exec->closed || read(fd, &times, sizeof(times)) < 0)
		return;
	exec_enter(exec);
	exec->armed_ms = 0;
	while (!exec->closed && exec->all.first && exec->all.first->until_ms <= now)
		time_out(exec, exec->all.first);
	look_after_workers(exec, now);
	if (!exec->closed) {
		exec_give(exec);
		exec_arm(exec);
	}
	exec_leave(exec);
}

/* ---- an instance ---- */

static int exec_check(enum apikeyd_group group, const struct apikeyd_value *values, char *error, size_t error_size)
{
	char *copy = strdup(values[COMMAND].text);
	const char *words[WORDS_MAX];
	unsigned count;
	int rc = 0;

	(void)group;
	if (!copy) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	count = exec_line_split(copy, words, WORDS_MAX);
	if (count == 0 || words[0][0] != '/') {
		snprintf(error, error_size, "command: must begin with the absolute path of a program");
		rc = -EINVAL;
	} else if (count > WORDS_MAX) {
		snprintf(error, error_size, "command: has %u words; at most %d", count, WORDS_MAX);
		rc = -EINVAL;
	}
	free(copy);
	return rc;
}

static void exec_close(void *instance)
{
	struct exec *exec = instance;

	exec_enter(exec);
	exec->closed = true;
	for (uint32_t i = 0; i < exec->worker_count; i++)
		exec_worker_close(&exec->workers[i]);
	while (exec->all.first) {
		struct exec_question *question = exec->all.first;

		take_out(exec, question);
		free(question);
	}
	if (exec->timer >= 0) {
		exec->host->watch(exec->self, exec->timer, 0, on_timer, exec);
		close(exec->timer);
	}
	exec_leave(exec);
}

/* The program made known, and all workers of it started. */
static int open_programs(struct exec *exec, const char *command, char *error, size_t error_size)
{
	const char *argv[WORDS_MAX + 1] = {NULL};
	char *copy = strdup(command), why[EXEC_WHY_SIZE] = "";
	int rc = copy ? 0 : -ENOMEM;

	if (rc == 0) {
		exec_line_split(copy, argv, WORDS_MAX);
		rc = exec->host->program(exec->self, argv, &exec->program, why, sizeof(why));
	} else {
		snprintf(why, sizeof(why), "no memory");
	}
	if (rc != 0)
		snprintf(error, error_size, "command: %s", why);
	for (uint32_t i = 0; rc == 0 && i < exec->worker_count; i++) {
		rc = exec_worker_begin(&exec->workers[i], why, sizeof(why));
		if (rc == -ENOTSUP) { /* the stacks are only tested: apikeyd -t */
			rc = 0;
			break;
		}
		if (rc != 0)
			snprintf(error, error_size, "command: cannot be started: %s", why);
	}
	free(copy);
	return rc;
}

static int exec_open(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		     void **ret_instance, char *error, size_t error_size)
{
	uint32_t count = (uint32_t)values[WORKERS].number;
	struct exec *exec = calloc(1, sizeof(*exec) + count * sizeof(exec->workers[0]));
	int rc;

	if (!exec) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	exec->self = self;
	exec->host = host;
	exec->worker_count = count;
	exec->timeout_ms = (int64_t)values[TIMEOUT].number;
	exec->pending_max = (uint32_t)values[PENDING].number;
	exec->depth = (uint32_t)values[DEPTH].number;
	for (uint32_t i = 0; i < count; i++)
		exec->workers[i] = (struct exec_worker){
			.exec = exec, .number = i + 1, .fd = -1, .backoff_ms = EXEC_BACKOFF_MIN_MS};
	exec->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	rc = exec->timer < 0 ? -errno : host->watch(self, exec->timer, APIKEYD_READABLE, on_timer, exec);
	if (rc != 0)
		snprintf(error, error_size, "no timer (%s)", strerror(-rc));
	else
		rc = open_programs(exec, values[COMMAND].text, error, error_size);
	if (rc != 0) {
		exec_close(exec);
		return rc;
	}
	exec_arm(exec);
	*ret_instance = exec;
	return 0;
}

static const struct apikeyd_argument arguments[] = {
	[COMMAND] = {.name = "command",
		     .required = true,
		     .help = "the program's absolute path, and its arguments, parted by blanks"},
	[WORKERS] = {.name = "workers",
		     .type = APIKEYD_TYPE_COUNT,
		     .fallback = "4",
		     .min = 1,
		     .max = WORKERS_MAX,
		     .help = "how many of it run"},
	[TIMEOUT] = {.name = "timeout",
		     .type = APIKEYD_TYPE_TIME,
		     .fallback = "1s",
		     .min = 1,
		     .max = 600000,
		     .help = "how long a question may take, its wait for a worker included"},
	[PENDING] = {.name = "pending",
		     .type = APIKEYD_TYPE_COUNT,
		     .fallback = "256",
		     .min = 1,
		     .max = PENDING_MAX,
		     .help = "how many questions may wait; one more is overload"},
	[DEPTH] = {.name = "depth",
		   .type = APIKEYD_TYPE_COUNT,
		   .fallback = "1",
		   .min = 1,
		   .max = DEPTH_MAX,
		   .help = "how many questions a worker may have in hand at once"},
	{0},
};

const struct apikeyd_module module_exec = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "exec",
	.help = "asks a program",
	.groups = APIKEYD_GROUP_CALLER | APIKEYD_GROUP_ACCOUNT | APIKEYD_GROUP_PAGE | APIKEYD_GROUP_SCOPE,
	.flags = APIKEYD_ASYNCHRONOUS,
	.arguments = arguments,
	.check = exec_check,
	.open = exec_open,
	.start = exec_start,
	.cancel = exec_cancel,
	.close = exec_close,
};
