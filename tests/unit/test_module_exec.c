/* exec: its lines, and the module with real programs of every kind, good and bad. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/broker.h"
#include "daemon/modules/exec_line.h"
#include "daemon/modules/table.h"

enum { LONG_MS = 60000 }; /* far more than anything here takes */

/* ---- what is wrapped ---- */

/* How far the module's clock is ahead of ours: pauses of seconds need not be waited for. */
static int64_t ahead_ms;
static int armed_timer = -1;
static struct itimerspec armed;
static bool no_memory;

int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __real_timerfd_settime(int fd, int flags, const struct itimerspec *new_value, struct itimerspec *old_value);
void *__real_calloc(size_t count, size_t size);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
	int rc = __real_clock_gettime(clock, ret);

	ret->tv_sec += ahead_ms / 1000;
	return rc;
}

int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *new_value, struct itimerspec *old_value)
{
	struct itimerspec real = *new_value;

	armed_timer = fd;
	armed = *new_value;
	if (real.it_value.tv_sec || real.it_value.tv_nsec) {
		real.it_value.tv_sec -= ahead_ms / 1000;
		if (real.it_value.tv_sec < 0 || (real.it_value.tv_sec == 0 && real.it_value.tv_nsec == 0))
			real.it_value = (struct timespec){.tv_nsec = 1};
	}
	return __real_timerfd_settime(fd, flags, &real, old_value);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return no_memory ? NULL : __real_calloc(count, size);
}

static void advance(int seconds)
{
	ahead_ms += seconds * 1000;
	assert_int_equal(timerfd_settime(armed_timer, TFD_TIMER_ABSTIME, &armed, NULL), 0);
}

static int64_t real_ms(void)
{
	struct timespec now;

	__real_clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- lines ---- */

static const struct apikeyd_text absent;

static struct apikeyd_text text_of(const char *text)
{
	return (struct apikeyd_text){text, (uint32_t)strlen(text)};
}

static struct apikeyd_request request_of(const char *scope)
{
	return (struct apikeyd_request){.size = sizeof(struct apikeyd_request),
					.group = APIKEYD_GROUP_SCOPE,
					.method = text_of("check"),
					.stack = text_of("default"),
					.uid = 1234,
					.key_id = text_of("0123456789"),
					.key_letter = 'u',
					.scope = text_of(scope),
					.page = text_of("acme"),
					.addr = {4, {192, 0, 2, 7}},
					.kind = APIKEYD_KIND_USER,
					.key_user = text_of("ann@acme.example")};
}

static void assert_line(const struct apikeyd_request *request, const char *want)
{
	char line[EXEC_LINE_MAX + 1];
	size_t len = exec_line_put(17, request, line);

	assert_true(len > 0 && len <= EXEC_LINE_MAX);
	line[len] = '\0';
	assert_string_equal(line, want);
}

static void test_questions(void **state)
{
	struct apikeyd_request request = request_of("incident:write");
	static char much[EXEC_LINE_MAX], line[EXEC_LINE_MAX];

	(void)state;
	request.key =
		text_of("aku_0123456789_secret"); /* which no module outside `key` is given, and no program ever */
	assert_line(&request, "17\tgroup=scope\tstack=default\tmethod=check\tkey_id=0123456789\tkind=user\torg=\t"
			      "user=ann@acme.example\tscope=incident:write\tpage=acme\taddr=192.0.2.7\tuid=1234\t"
			      "explain=0\tasked_org=\tstale=0\n");
	request = (struct apikeyd_request){.size = sizeof(request),
					   .group = APIKEYD_GROUP_CALLER,
					   .uid = (uid_t)-2,
					   .explain = true,
					   .kind = APIKEYD_KIND_ORGANIZATION,
					   .key_org = text_of("acme"),
					   .org = text_of("umbra"),
					   .stale = true,
					   .addr = {6, {0x20, 1, 0xd, 0xb8, [15] = 1}}};
	assert_line(&request, "17\tgroup=caller\tstack=\tmethod=\tkey_id=\tkind=organization\torg=acme\tuser=\tscope=\t"
			      "page=\taddr=2001:db8::1\tuid=4294967294\texplain=1\tasked_org=umbra\tstale=1\n");
	request = request_of("a\tb\nc%d\x7f\x01\xc3\xa9=e");
	request.group = APIKEYD_GROUP_ACCOUNT;
	request.kind = APIKEYD_KIND_BREAK_GLASS;
	request.page = (struct apikeyd_text){"x\0y", 3};
	request.key_user = absent;
	request.addr.family = 0;
	assert_line(&request,
		    "17\tgroup=account\tstack=default\tmethod=check\tkey_id=0123456789\tkind=break_glass\torg=\t"
		    "user=\tscope=a%09b%0Ac%25d%7F%01\xc3\xa9=e\tpage=x%00y\taddr=\tuid=1234\texplain=0\t"
		    "asked_org=\tstale=0\n");
	/* the longest that the protocol lets through fits, whatever is in it; beyond all bounds nothing is cut */
	memset(much, '\t', sizeof(much));
	request.stack = (struct apikeyd_text){much, 64};
	request.key_org = request.org = request.page = (struct apikeyd_text){much, 255};
	request.key_user = (struct apikeyd_text){much, 254};
	request.scope = (struct apikeyd_text){much, 64};
	assert_true(exec_line_put(UINT64_MAX, &request, line) > 3 * (64 + 3 * 255 + 254 + 64));
	request.page.len = EXEC_LINE_MAX / 3;
	assert_int_equal(exec_line_put(UINT64_MAX, &request, line), 0);
}

static void test_answers(void **state)
{
	static const struct {
		const char *line;
		uint64_t id;
		enum apikeyd_code code;
		uint64_t retry;
		const char *detail;
	} good[] = {
		{"1 success", 1, APIKEYD_SUCCESS, 0, NULL},
		{"9999999999999999999 ignore ", UINT64_C(9999999999999999999), APIKEYD_IGNORE, 0, NULL},
		{"007\tpolicy", 7, APIKEYD_POLICY, 0, NULL},
		{"3 rate_limited 1500", 3, APIKEYD_RATE_LIMITED, 1500, NULL},
		{"3  rate_limited \t 999999999999999  ", 3, APIKEYD_RATE_LIMITED, UINT64_C(999999999999999), NULL},
		{"3 policy # not on a Sunday", 3, APIKEYD_POLICY, 0, "not on a Sunday"},
		{"3 policy 20 #  not\x1b[31m \xc3\xa9 ", 3, APIKEYD_POLICY, 20, "not?[31m ?? "},
		{"3 policy #", 3, APIKEYD_POLICY, 0, ""},
		{"3 policy ## 1", 3, APIKEYD_POLICY, 0, "# 1"},
		{"3 timeout", 3, APIKEYD_TIMEOUT, 0, NULL},
	};
	static const char *const bad[] = {
		"",
		" ",
		"#",
		"1",
		"1 ",
		" 1 success",
		"1success",
		"x success",
		"-1 success",
		"+1 success",
		"1.0 success",
		"99999999999999999999 success",
		"1 Success",
		"1 succes",
		"1 success,",
		"1 pending",
		"1 ok",
		"1 deny",
		"1 allow",
		"1 8",
		"1 success x",
		"1 success -1",
		"1 success 1.5",
		"1 success 1 2",
		"1 success 1 x",
		"1 success 9999999999999999",
		"1 success#x",
		"1 # success",
		"1 success 1#x",
		"success 1",
		"1 success\r",
		"1 success 5\r",
	};
	struct exec_answer answer = {.id = 77};
	char line[EXEC_ANSWER_MAX + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		strcpy(line, good[i].line);
		if (!exec_line_read(line, strlen(line), &answer))
			fail_msg("\"%s\" is not understood", good[i].line);
		assert_true(answer.id == good[i].id && answer.retry_after_ms == good[i].retry);
		assert_int_equal(answer.code, good[i].code);
		if (!good[i].detail)
			assert_null(answer.detail);
		else
			assert_string_equal(answer.detail, good[i].detail);
	}
	answer.id = 77;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		strcpy(line, bad[i]);
		if (exec_line_read(line, strlen(line), &answer))
			fail_msg("\"%s\" is understood", bad[i]);
	}
	memcpy(line, "1 success\0", 11);
	assert_false(exec_line_read(line, 10, &answer));
	assert_int_equal(answer.id, 77);
}

/* Every word that a module may say is understood, and as what it is: all but `pending`. */
static void test_every_code(void **state)
{
	static const char *const words[APIKEYD_CODE_END] = {
		[APIKEYD_POLICY] = "policy",
		[APIKEYD_SUCCESS] = "success",
		[APIKEYD_IGNORE] = "ignore",
		[APIKEYD_MALFORMED_KEY] = "malformed_key",
		[APIKEYD_UNKNOWN_KEY] = "unknown_key",
		[APIKEYD_REVOKED] = "revoked",
		[APIKEYD_RETIRED] = "retired",
		[APIKEYD_DISABLED] = "disabled",
		[APIKEYD_NOT_YET_VALID] = "not_yet_valid",
		[APIKEYD_EXPIRED] = "expired",
		[APIKEYD_USER_SUSPENDED] = "user_suspended",
		[APIKEYD_NETWORK] = "network",
		[APIKEYD_UNKNOWN_SCOPE] = "unknown_scope",
		[APIKEYD_UNKNOWN_PAGE] = "unknown_page",
		[APIKEYD_NOT_MEMBER] = "not_member",
		[APIKEYD_ORG_SUSPENDED] = "org_suspended",
		[APIKEYD_PAGE_ARCHIVED] = "page_archived",
		[APIKEYD_PAGE_NOT_GRANTED] = "page_not_granted",
		[APIKEYD_SCOPE_NOT_GRANTED] = "scope_not_granted",
		[APIKEYD_RATE_LIMITED] = "rate_limited",
		[APIKEYD_CALLER] = "caller",
		[APIKEYD_NO_STACK] = "no_stack",
		[APIKEYD_NOT_LOADED] = "not_loaded",
		[APIKEYD_STALE] = "stale",
		[APIKEYD_BEHIND] = "behind",
		[APIKEYD_TIMEOUT] = "timeout",
		[APIKEYD_OVERLOAD] = "overload",
		[APIKEYD_MODULE_FAULT] = "module_fault",
		[APIKEYD_AUDIT_FULL] = "audit_full",
		[APIKEYD_NO_PEPPER] = "no_pepper",
	};
	struct exec_answer answer;
	char line[64];
	unsigned count = 0;

	(void)state;
	for (unsigned code = 0; code < APIKEYD_CODE_END; code++) {
		if (!words[code])
			continue;
		snprintf(line, sizeof(line), "1 %s", words[code]);
		assert_true(exec_line_read(line, strlen(line), &answer));
		assert_int_equal(answer.code, code);
		count++;
	}
	assert_int_equal(count, 30);
}

static void test_commands(void **state)
{
	char text[] = " /bin/a\t-b  c ", empty[] = " \t ", one[] = "/x";
	const char *words[3];

	(void)state;
	assert_int_equal(exec_line_split(text, words, 3), 3);
	assert_string_equal(words[0], "/bin/a");
	assert_string_equal(words[1], "-b");
	assert_string_equal(words[2], "c");
	assert_int_equal(exec_line_split(empty, words, 3), 0);
	assert_int_equal(exec_line_split(one, words, 3), 1);
	strcpy(text, "/a b c d");
	assert_int_equal(exec_line_split(text, words, 2), 4);
}

/* ---- a daemon that is none ---- */

enum { WATCHES_MAX = 80, PROGRAMS_MAX = 64, TOKENS_MAX = 512, ARGS_MAX = 40 };

struct told {
	unsigned times;
	enum apikeyd_code code;
	uint64_t retry;
	char detail[EXEC_ANSWER_MAX];
};

struct apikeyd_self {
	struct {
		int fd; /* 0: none here */
		unsigned events;
		apikeyd_ready ready;
		void *data;
	} watches[WATCHES_MAX];
	pid_t pids[PROGRAMS_MAX];
	unsigned runs, logged, completed;
	char *argv[ARGS_MAX + 1];
	char last[1024], detail[1024];
	struct told told[TOKENS_MAX];
	int program_rc, run_rc, watch_rc, send_buffer;
	uint64_t next_on, close_on; /* tokens whose completion begins another one, or closes the instance */
	bool in_start;
	struct broker *broker; /* where the real one starts programs */
};

static struct apikeyd_self self;
static void *instance;
static char error[512], directory[] = "/tmp/apikeyd-exec-XXXXXX";

static void host_log(struct apikeyd_self *to, enum apikeyd_level level, const char *line)
{
	assert_ptr_equal(to, &self);
	assert_int_equal(level, APIKEYD_LOG_WARNING);
	assert_null(strchr(line, '\n'));
	to->logged++;
	snprintf(to->last, sizeof(to->last), "%s", line);
}

static void host_detail(struct apikeyd_self *to, const struct apikeyd_request *request, const char *line)
{
	assert_true(request->explain && to->in_start);
	snprintf(to->detail, sizeof(to->detail), "%s", line);
}

static int host_watch(struct apikeyd_self *to, int fd, unsigned events, apikeyd_ready ready, void *data)
{
	unsigned free = WATCHES_MAX;

	if (to->watch_rc != 0 && events != 0)
		return to->watch_rc;
	assert_true(fcntl(fd, F_GETFD) >= 0); /* it is open, also where the watch ends */
	for (unsigned i = 0; i < WATCHES_MAX; i++) {
		if (to->watches[i].fd == fd) {
			free = i;
			break;
		}
		if (to->watches[i].fd == 0 && free == WATCHES_MAX)
			free = i;
	}
	assert_true(free < WATCHES_MAX);
	to->watches[free].fd = events ? fd : 0;
	to->watches[free].events = events;
	to->watches[free].ready = ready;
	to->watches[free].data = data;
	return 0;
}

static int host_program(struct apikeyd_self *to, const char *const *argv, uint32_t *ret_program, char *why,
			size_t why_size)
{
	if (to->program_rc != 0) {
		snprintf(why, why_size, "%s: %s", argv[0], strerror(-to->program_rc));
		return to->program_rc;
	}
	if (to->broker)
		return broker_register(to->broker, argv, ret_program, why, why_size);
	for (unsigned i = 0; argv[i]; i++) {
		free(to->argv[i]);
		to->argv[i] = strdup(argv[i]);
	}
	*ret_program = 5;
	return 0;
}

static int host_run(struct apikeyd_self *to, uint32_t program, int *ret_fd, char *why, size_t why_size)
{
	int pair[2];
	pid_t pid;

	if (to->broker)
		return broker_run(to->broker, program, ret_fd, why, why_size);
	assert_int_equal(program, 5);
	if (to->run_rc != 0) {
		snprintf(why, why_size, "%s: %s", to->argv[0], strerror(-to->run_rc));
		return to->run_rc;
	}
	assert_true(to->runs < PROGRAMS_MAX);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
	if (to->send_buffer)
		setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &to->send_buffer, sizeof(to->send_buffer));
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		setsid();
		dup2(pair[1], 0);
		dup2(pair[1], 1);
		signal(SIGPIPE, SIG_DFL);
		execv(to->argv[0], to->argv);
		_exit(127);
	}
	close(pair[1]);
	to->pids[to->runs++] = pid;
	*ret_fd = pair[0];
	return 0;
}

static enum apikeyd_code ask_request(const struct apikeyd_request *request, uint64_t token);

static void host_complete(struct apikeyd_self *to, uint64_t token, const struct apikeyd_answer *answer)
{
	struct told *told = &to->told[token];

	assert_false(to->in_start); /* `start` does not complete its own token, nor any */
	assert_true(token < TOKENS_MAX);
	assert_int_equal(answer->size, sizeof(*answer));
	told->times++;
	to->completed++;
	assert_int_equal(told->times, 1);
	told->code = answer->code;
	told->retry = answer->retry_after_ms;
	snprintf(told->detail, sizeof(told->detail), "%s", answer->detail ? answer->detail : "");
	if (to->next_on == token && token) {
		struct apikeyd_request request = request_of("ok");

		to->next_on = 0;
		assert_int_equal(ask_request(&request, token + 1), APIKEYD_PENDING);
	}
	if (to->close_on == token && token) {
		module_exec.close(instance);
		instance = NULL;
	}
}

static const struct apikeyd_host host = {.size = sizeof(host),
					 .log = host_log,
					 .detail = host_detail,
					 .complete = host_complete,
					 .watch = host_watch,
					 .program = host_program,
					 .run = host_run};

/* One turn of the loop. */
static void turn(void)
{
	struct pollfd fds[WATCHES_MAX];
	unsigned where[WATCHES_MAX], count = 0;

	for (unsigned i = 0; i < WATCHES_MAX; i++) {
		if (self.watches[i].fd == 0)
			continue;
		fds[count].fd = self.watches[i].fd;
		fds[count].events = (short)((self.watches[i].events & APIKEYD_READABLE ? POLLIN : 0) |
					    (self.watches[i].events & APIKEYD_WRITABLE ? POLLOUT : 0));
		where[count++] = i;
	}
	if (poll(fds, count, 50) <= 0)
		return;
	for (unsigned i = 0; i < count; i++) {
		unsigned at = where[i], events = 0;

		if (fds[i].revents & (POLLIN | POLLHUP | POLLERR))
			events |= APIKEYD_READABLE;
		if (fds[i].revents & POLLOUT)
			events |= APIKEYD_WRITABLE;
		/* what the callbacks before it ended is told no more */
		if (events & self.watches[at].events && self.watches[at].fd == fds[i].fd)
			self.watches[at].ready(self.watches[at].data, fds[i].fd, events & self.watches[at].events);
	}
}

static void wait_for(unsigned completed)
{
	for (int64_t until = real_ms() + LONG_MS; self.completed < completed;) {
		if (real_ms() > until)
			fail_msg("%u of %u questions are answered", self.completed, completed);
		turn();
	}
}

static void wait_for_runs(unsigned runs)
{
	for (int64_t until = real_ms() + LONG_MS; self.runs < runs;) {
		if (real_ms() > until)
			fail_msg("%u of %u programs were started", self.runs, runs);
		turn();
	}
}

static enum apikeyd_code ask_request(const struct apikeyd_request *request, uint64_t token)
{
	enum apikeyd_code code;

	assert_false(self.in_start);
	self.in_start = true;
	code = module_exec.start(instance, request, token);
	self.in_start = false;
	return code;
}

static enum apikeyd_code ask(const char *scope, uint64_t token)
{
	struct apikeyd_request request = request_of(scope);

	return ask_request(&request, token);
}

static void assert_told(uint64_t token, enum apikeyd_code code, const char *detail)
{
	assert_int_equal(self.told[token].times, 1);
	assert_int_equal(self.told[token].code, code);
	if (!strstr(self.told[token].detail, detail))
		fail_msg("\"%s\" lacks \"%s\"", self.told[token].detail, detail);
}

static void assert_said(const char *part)
{
	if (!strstr(self.last, part))
		fail_msg("\"%s\" lacks \"%s\"", self.last, part);
}

/* ---- programs ---- */

/* Does what the scope says. */
static const char actor[] =
	"TAB=$(printf '\\t')\n"
	"while IFS=$TAB read -r id rest; do\n"
	"  case $rest in\n"
	"  *scope=ok*) echo \"$id success\" ;;\n"
	"  *scope=deny*) echo \"$id policy 1500 # not today\" ;;\n"
	"  *scope=record*) printf '%s\\n' \"$rest\" >> $0.out; echo \"$id ignore\" ;;\n"
	"  *scope=die*) exit 0 ;;\n"
	"  *scope=hang*) while :; do sleep 0.1; done ;;\n"
	"  *scope=garbage*) echo 'what is this' ;;\n"
	"  *scope=other*) echo '424242 success' ;;\n"
	"  *scope=twice*) echo \"$id success\"; echo \"$id success\" ;;\n"
	"  *scope=flood*) exec yes 2>&- ;;\n"
	"  *scope=endless*) exec 2>&-; while printf xxxxxxxxxxxxxxxx; do :; done ;;\n"
	"  *scope=pieces*) printf \"$id \"; sleep 0.05; printf 'suc'; sleep 0.05; printf 'cess\\n' ;;\n"
	"  *scope=slow*) sleep 0.3; echo \"$id success\" ;;\n"
	"  *scope=half*) printf \"$id success\"; exit 0 ;;\n"
	"  *scope=long*) printf \"$id policy # %0900d\\n\" 7 ;;\n"
	"  *scope=nul*) printf \"$id suc\\0cess\\n\" ;;\n"
	"  esac\n"
	"done\n";

/* Three at a time, the last one first. */
static const char backwards[] = "TAB=$(printf '\\t')\n"
				"while IFS=$TAB read -r a x && IFS=$TAB read -r b x && IFS=$TAB read -r c x; do\n"
				"  printf \"$c success\\n$b ignore\\n$a policy\\n\"\n"
				"done\n";

static const char *script(const char *text)
{
	static char name[64];
	static unsigned count;
	FILE *out;

	snprintf(name, sizeof(name), "%s/program-%u", directory, count++);
	out = fopen(name, "w");
	assert_non_null(out);
	fprintf(out, "#!/bin/sh\n%s", text);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(chmod(name, 0755), 0);
	return name;
}

struct settings {
	unsigned workers, timeout_ms, pending, depth;
};

static int try_open(const char *command, struct settings settings)
{
	/* As the types and fallbacks would give them. */
	const struct apikeyd_value values[5] = {
		{.given = true, .text = command},
		{.given = true, .number = settings.workers ? settings.workers : 1},
		{.given = true, .number = settings.timeout_ms ? settings.timeout_ms : LONG_MS},
		{.given = true, .number = settings.pending ? settings.pending : 256},
		{.given = true, .number = settings.depth ? settings.depth : 1},
	};

	error[0] = '\0';
	if (module_exec.check(APIKEYD_GROUP_SCOPE, values, error, sizeof(error)) != 0)
		return -EINVAL;
	return module_exec.open(&self, &host, values, &instance, error, sizeof(error));
}

static void open_module(const char *text, struct settings settings)
{
	if (try_open(script(text), settings) != 0)
		fail_msg("%s", error);
}

/* With what it started; it may not have come as far as to have a group. */
static void end_program(pid_t pid)
{
	kill(-pid, SIGKILL);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static int set_up(void **state)
{
	(void)state;
	memset(&self, 0, sizeof(self));
	ahead_ms = 0;
	instance = NULL;
	no_memory = false;
	strcpy(directory + strlen(directory) - 6, "XXXXXX");
	assert_non_null(mkdtemp(directory));
	return 0;
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	if (instance)
		module_exec.close(instance);
	for (unsigned i = 0; i < WATCHES_MAX; i++)
		assert_int_equal(self.watches[i].fd, 0); /* all were ended */
	for (unsigned i = 0; i < self.runs; i++)
		end_program(self.pids[i]);
	for (unsigned i = 0; self.argv[i]; i++)
		free(self.argv[i]);
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	return system(command);
}

/* Its worker let go of it: the broker would end it now. */
static void let_go(unsigned run)
{
	end_program(self.pids[run]);
	self.pids[run] = self.pids[--self.runs];
}

/* ---- the module with good programs ---- */

static void test_good_program(void **state)
{
	(void)state;
	open_module(actor, (struct settings){.workers = 3});
	assert_int_equal(self.runs, 3);
	for (unsigned i = 1; i <= 60; i++)
		assert_int_equal(ask(i % 3 ? "ok" : "deny", i), APIKEYD_PENDING);
	wait_for(60);
	for (unsigned i = 1; i <= 60; i++) {
		assert_told(i, i % 3 ? APIKEYD_SUCCESS : APIKEYD_POLICY, i % 3 ? "" : "not today");
		assert_int_equal(self.told[i].retry, i % 3 ? 0 : 1500);
	}
	assert_int_equal(self.runs, 3);
	assert_int_equal(self.logged, 0);
	assert_int_equal(ask("pieces", 61), APIKEYD_PENDING);
	assert_int_equal(ask("long", 62), APIKEYD_PENDING);
	wait_for(62);
	assert_told(61, APIKEYD_SUCCESS, "");
	assert_told(62, APIKEYD_POLICY, "000007");
	assert_int_equal(self.logged, 0);
}

static void test_what_a_program_reads(void **state)
{
	struct apikeyd_request request = request_of("record");
	char name[96], line[1024];
	FILE *in;

	(void)state;
	request.explain = true;
	request.page = text_of("a\nb\tc");
	open_module(actor, (struct settings){0});
	assert_int_equal(ask_request(&request, 1), APIKEYD_PENDING);
	wait_for(1);
	assert_told(1, APIKEYD_IGNORE, "");
	snprintf(name, sizeof(name), "%s.out", self.argv[0]);
	in = fopen(name, "r");
	assert_non_null(in);
	assert_non_null(fgets(line, sizeof(line), in));
	fclose(in);
	assert_string_equal(line, "group=scope\tstack=default\tmethod=check\tkey_id=0123456789\tkind=user\torg=\t"
				  "user=ann@acme.example\tscope=record\tpage=a%0Ab%09c\taddr=192.0.2.7\tuid=1234\t"
				  "explain=1\tasked_org=\tstale=0\n");
}

static void test_command_is_split(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "%s  -x\tsome  words ", script(actor));
	assert_int_equal(try_open(command, (struct settings){0}), 0);
	assert_string_equal(self.argv[1], "-x");
	assert_string_equal(self.argv[2], "some");
	assert_string_equal(self.argv[3], "words");
	assert_null(self.argv[4]);
}

/* As many in hand as depth says, answered in any order; the others wait. */
static void test_depth(void **state)
{
	(void)state;
	open_module(backwards, (struct settings){.depth = 3});
	for (unsigned i = 1; i <= 9; i++)
		assert_int_equal(ask("ok", i), APIKEYD_PENDING);
	wait_for(9);
	for (unsigned i = 1; i <= 9; i++)
		assert_told(i, i % 3 == 0 ? APIKEYD_SUCCESS : i % 3 == 2 ? APIKEYD_IGNORE : APIKEYD_POLICY, "");
	assert_int_equal(self.logged, 0);
}

/* With one in hand, a program that waits for three never has them. */
static void test_no_deeper(void **state)
{
	(void)state;
	open_module(backwards, (struct settings){.timeout_ms = 300});
	for (unsigned i = 1; i <= 3; i++)
		assert_int_equal(ask("ok", i), APIKEYD_PENDING);
	wait_for(3);
	for (unsigned i = 1; i <= 3; i++)
		assert_told(i, APIKEYD_TIMEOUT, "no answer in 300 ms");
}

/* More than its socket holds, and it reads late: all of it comes. */
static void test_slow_reader(void **state)
{
	char page[256];
	struct apikeyd_request request = request_of("ok");

	(void)state;
	memset(page, 'p', sizeof(page));
	request.page = (struct apikeyd_text){page, 255};
	request.org = request.page;
	self.send_buffer = 1;
	open_module("sleep 0.3\nTAB=$(printf '\\t')\nwhile IFS=$TAB read -r id rest; do echo \"$id success\"; done\n",
		    (struct settings){.depth = 64});
	for (unsigned i = 1; i <= 64; i++)
		assert_int_equal(ask_request(&request, i), APIKEYD_PENDING);
	assert_true(self.watches[1].events & APIKEYD_WRITABLE);
	wait_for(64);
	for (unsigned i = 1; i <= 64; i++)
		assert_told(i, APIKEYD_SUCCESS, "");
	assert_false(self.watches[1].events & APIKEYD_WRITABLE);
	assert_int_equal(self.logged, 0);
}

/* ---- bounds ---- */

static void test_pending(void **state)
{
	struct apikeyd_request request = request_of("ok");

	(void)state;
	open_module(actor, (struct settings){.pending = 3, .timeout_ms = 400});
	assert_int_equal(ask("hang", 1), APIKEYD_PENDING);
	assert_int_equal(ask("ok", 2), APIKEYD_PENDING);
	assert_int_equal(ask("ok", 3), APIKEYD_PENDING);
	assert_int_equal(ask("ok", 4), APIKEYD_OVERLOAD);
	request.explain = true;
	assert_int_equal(ask_request(&request, 5), APIKEYD_OVERLOAD);
	assert_string_equal(self.detail, "as many questions wait as may (pending=)");
	wait_for(3);
	assert_told(1, APIKEYD_TIMEOUT, "no answer in 400 ms");
	/* what was only queued had the same time */
	assert_told(2, APIKEYD_TIMEOUT, "");
	assert_told(3, APIKEYD_TIMEOUT, "");
	assert_int_equal(self.completed, 3);
}

static void test_no_memory(void **state)
{
	(void)state;
	open_module(actor, (struct settings){0});
	no_memory = true;
	assert_int_equal(ask("ok", 1), APIKEYD_OVERLOAD);
	no_memory = false;
	assert_int_equal(ask("ok", 2), APIKEYD_PENDING);
	wait_for(1);
	assert_told(2, APIKEYD_SUCCESS, "");
	no_memory = true;
	module_exec.close(instance);
	instance = NULL;
	assert_int_equal(try_open("/bin/cat", (struct settings){0}), -ENOMEM);
	assert_string_equal(error, "no memory");
	no_memory = false;
}

/* ---- the module with bad programs ---- */

/* Each ends its worker and is a fault of the request; the next question has a new one. */
static void test_bad_answers(void **state)
{
	static const struct {
		const char *scope, *detail;
	} cases[] = {
		{"die", "the program has ended"},
		{"half", "the program has ended"},
		{"garbage", "the program's answer is not understood: 'what is this'"},
		{"other", "the program's answer is not understood: '424242 success'"},
		{"flood", "the program's answer is not understood: 'y'"},
		{"endless", "the program's answer is not understood: 'xxxxxxxxxxxxxxxx"},
		{"nul", "the program's answer is not understood: '"},
	};

	(void)state;
	open_module(actor, (struct settings){0});
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t token = 1 + i * 2;

		self.logged = 0;
		assert_int_equal(ask(cases[i].scope, token), APIKEYD_PENDING);
		/* waits in the queue, for the worker that comes next */
		assert_int_equal(ask("ok", token + 1), APIKEYD_PENDING);
		wait_for((unsigned)token + 1);
		assert_told(token, APIKEYD_MODULE_FAULT, cases[i].detail);
		assert_told(token + 1, APIKEYD_SUCCESS, "");
		assert_int_equal(self.logged, 1);
		assert_said("worker 1: ");
		assert_said(cases[i].detail);
		assert_said("; started again in 100 ms");
		assert_int_equal(self.runs, 2);
		let_go(0);
	}
}

/* The second answer to one question is none: it is nobody's. */
static void test_answered_twice(void **state)
{
	(void)state;
	open_module(actor, (struct settings){0});
	assert_int_equal(ask("twice", 1), APIKEYD_PENDING);
	wait_for_runs(2);
	assert_told(1, APIKEYD_SUCCESS, "");
	assert_int_equal(self.completed, 1);
	assert_said("is not understood: '1 success'");
}

static void test_unasked(void **state)
{
	(void)state;
	open_module("echo '1 success'; while read -r x; do :; done\n", (struct settings){0});
	wait_for_runs(2);
	assert_said("is not understood: '1 success'");
}

/* Whatever the worker had in hand is a fault, though it was another question that went wrong. */
static void test_all_in_hand(void **state)
{
	(void)state;
	open_module("TAB=$(printf '\\t')\nread -r x; read -r x; IFS=$TAB read -r id x; echo \"$id success\"; exit 0\n",
		    (struct settings){.depth = 3});
	for (unsigned i = 1; i <= 3; i++)
		assert_int_equal(ask("ok", i), APIKEYD_PENDING);
	wait_for(3);
	assert_told(1, APIKEYD_MODULE_FAULT, "has ended");
	assert_told(2, APIKEYD_MODULE_FAULT, "has ended");
	assert_told(3, APIKEYD_SUCCESS, "");
}

static void test_timeout(void **state)
{
	(void)state;
	open_module(actor, (struct settings){0});
	assert_int_equal(ask("hang", 1), APIKEYD_PENDING);
	turn();
	assert_int_equal(self.completed, 0);
	advance(LONG_MS / 1000 + 1);
	self.next_on = 1; /* the next question comes with the timeout: it is not for the worker that is stuck */
	wait_for(1);
	assert_told(1, APIKEYD_TIMEOUT, "no answer in 60000 ms");
	assert_said("worker 1: no answer in 60000 ms; started again in 100 ms");
	wait_for(2);
	assert_told(2, APIKEYD_SUCCESS, "");
	assert_int_equal(self.runs, 2);
	let_go(0);
}

/* One that is stuck holds up no other. */
static void test_others_go_on(void **state)
{
	(void)state;
	open_module(actor, (struct settings){.workers = 2});
	assert_int_equal(ask("hang", 1), APIKEYD_PENDING);
	for (unsigned i = 2; i < 20; i++)
		assert_int_equal(ask("ok", i), APIKEYD_PENDING);
	wait_for(18);
	for (unsigned i = 2; i < 20; i++)
		assert_told(i, APIKEYD_SUCCESS, "");
	advance(LONG_MS / 1000 + 1);
	wait_for(19);
	assert_told(1, APIKEYD_TIMEOUT, "");
}

/* Pauses double, to five seconds; a question that cannot be answered in time is a fault at once; then it works again. */
static void test_backoff(void **state)
{
	static const char *const pauses[] = {"100", "200", "400", "800", "1600", "3200", "5000"};
	char name[96], said[64], text[160];
	FILE *out;

	(void)state;
	snprintf(name, sizeof(name), "%s/mended", directory);
	snprintf(
		text, sizeof(text),
		"[ -e %s ] || exit 1\nTAB=$(printf '\\t')\nwhile IFS=$TAB read -r id rest; do echo \"$id success\"; done\n",
		name);
	open_module(text, (struct settings){.timeout_ms = 3500});
	for (unsigned i = 0; i < sizeof(pauses) / sizeof(pauses[0]); i++) {
		for (int64_t until = real_ms() + LONG_MS; self.logged <= i; turn())
			assert_true(real_ms() < until);
		snprintf(said, sizeof(said), "worker 1: the program has ended; started again in %s ms", pauses[i]);
		assert_said(said);
		assert_int_equal(self.runs, i + 1);
		if (i == 5) {
			/* 3.2 s from now is before a deadline 3.5 s from now */
			assert_int_equal(ask("ok", 1), APIKEYD_PENDING);
			wait_for(0);
		}
		if (i == 6) {
			struct apikeyd_request request = request_of("ok");

			assert_said(", and so on without a word");
			assert_int_equal(ask("ok", 2), APIKEYD_MODULE_FAULT);
			request.explain = true;
			assert_int_equal(ask_request(&request, 2), APIKEYD_MODULE_FAULT);
			assert_string_equal(self.detail, "no program runs");
		}
		advance(6);
	}
	wait_for(1);
	assert_int_equal(self.told[1].times, 1);
	/* silent from now on */
	for (unsigned i = 7; i < 10; i++) {
		wait_for_runs(i + 1);
		for (int64_t until = real_ms() + LONG_MS; ask("ok", 2) == APIKEYD_PENDING;) {
			assert_true(real_ms() < until);
			wait_for(self.completed + 1);
			self.told[2].times = 0;
		}
		assert_int_equal(self.logged, 7);
		advance(6);
	}
	out = fopen(name, "w");
	assert_non_null(out);
	fclose(out);
	for (int64_t until = real_ms() + LONG_MS;; advance(6)) {
		unsigned before = self.completed;

		assert_true(real_ms() < until);
		turn();
		if (ask("ok", 3) != APIKEYD_PENDING)
			continue;
		wait_for(before + 1);
		if (self.told[3].code == APIKEYD_SUCCESS)
			break;
		self.told[3].times = 0;
	}
	/* and is heard again */
	kill(self.pids[self.runs - 1], SIGKILL);
	unlink(name);
	wait_for_runs(self.runs + 1);
	assert_said("worker 1: the program has ended; started again in 100 ms");
}

static void test_run_fails(void **state)
{
	(void)state;
	open_module(actor, (struct settings){0});
	self.run_rc = -EAGAIN;
	assert_int_equal(ask("die", 1), APIKEYD_PENDING);
	wait_for(1);
	assert_int_equal(ask("ok", 2), APIKEYD_PENDING);
	for (int64_t until = real_ms() + LONG_MS; self.logged < 3; turn())
		assert_true(real_ms() < until);
	assert_said("worker 1: the program cannot be started: ");
	assert_said(": Resource temporarily unavailable; started again in 400 ms");
	self.run_rc = 0;
	wait_for(2);
	assert_told(2, APIKEYD_SUCCESS, "");
}

/* A watch that is refused: the worker cannot be heard, so it is ended, and tried again. */
static void test_watch_fails(void **state)
{
	(void)state;
	open_module(actor, (struct settings){0});
	assert_int_equal(ask("die", 1), APIKEYD_PENDING);
	self.watch_rc = -ENOMEM;
	wait_for_runs(2);
	for (int64_t until = real_ms() + LONG_MS; self.logged < 2; turn())
		assert_true(real_ms() < until);
	assert_said("worker 1: the program does not take questions");
	self.watch_rc = 0;
	assert_int_equal(ask("ok", 2), APIKEYD_PENDING);
	wait_for(2);
	assert_told(2, APIKEYD_SUCCESS, "");
}

/* A program that is gone before it is written to: not `start`, but a later turn says so. */
static void test_gone_before(void **state)
{
	(void)state;
	open_module(actor, (struct settings){0});
	end_program(self.pids[0]);
	assert_int_equal(ask("ok", 1), APIKEYD_PENDING);
	assert_int_equal(ask("ok", 2), APIKEYD_PENDING);
	wait_for(2);
	assert_told(1, APIKEYD_MODULE_FAULT, "");
	assert_told(2, APIKEYD_SUCCESS, "");
	self.pids[0] = self.pids[--self.runs];
}

/* ---- cancel, and the end ---- */

static void test_cancel(void **state)
{
	(void)state;
	open_module(actor, (struct settings){.pending = 3});
	assert_int_equal(ask("slow", 1), APIKEYD_PENDING);
	assert_int_equal(ask("record", 2), APIKEYD_PENDING);
	assert_int_equal(ask("ok", 3), APIKEYD_PENDING);
	module_exec.cancel(instance, 1);  /* in hand */
	module_exec.cancel(instance, 2);  /* in the queue */
	module_exec.cancel(instance, 77); /* nobody's */
	module_exec.cancel(instance, 1);
	/* their places are free again */
	assert_int_equal(ask("ok", 4), APIKEYD_PENDING);
	assert_int_equal(ask("ok", 5), APIKEYD_PENDING);
	assert_int_equal(ask("ok", 6), APIKEYD_OVERLOAD);
	wait_for(3);
	assert_told(3, APIKEYD_SUCCESS, "");
	assert_told(4, APIKEYD_SUCCESS, "");
	assert_told(5, APIKEYD_SUCCESS, "");
	assert_int_equal(self.told[1].times, 0);
	assert_int_equal(self.told[2].times, 0);
	assert_int_equal(self.completed, 3);
	assert_int_equal(self.logged, 0);
	char name[96];

	snprintf(name, sizeof(name), "%s.out", self.argv[0]);
	assert_int_equal(access(name, F_OK), -1); /* nobody was asked what was cancelled in the queue */
}

/* One that was cancelled and is never answered: its worker is stuck all the same. */
static void test_cancel_and_stuck(void **state)
{
	(void)state;
	open_module(actor, (struct settings){0});
	assert_int_equal(ask("hang", 1), APIKEYD_PENDING);
	module_exec.cancel(instance, 1);
	turn();
	assert_int_equal(self.runs, 1);
	advance(LONG_MS / 1000 + 1);
	wait_for_runs(2);
	assert_said("no answer in 60000 ms");
	assert_int_equal(self.completed, 0);
	assert_int_equal(ask("ok", 2), APIKEYD_PENDING);
	wait_for(1);
	assert_told(2, APIKEYD_SUCCESS, "");
}

static void test_close_with_questions(void **state)
{
	(void)state;
	open_module(actor, (struct settings){.workers = 2});
	assert_int_equal(ask("hang", 1), APIKEYD_PENDING);
	assert_int_equal(ask("hang", 2), APIKEYD_PENDING);
	assert_int_equal(ask("ok", 3), APIKEYD_PENDING);
	module_exec.cancel(instance, 1);
	module_exec.close(instance);
	instance = NULL;
	assert_int_equal(self.completed, 0);
}

/* What is told of an answer may ask the next question at once, or end the instance. */
static void test_from_within(void **state)
{
	static const char *const firsts[] = {"ok", "die", "hang"};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		if (i > 0)
			set_up(state);
		open_module(actor, (struct settings){.workers = 2, .depth = 3});
		for (unsigned j = 0; j < 5; j++)
			assert_int_equal(ask(j == 0 ? firsts[i] : "ok", 1 + 2 * j), APIKEYD_PENDING);
		self.next_on = 1;
		if (i == 2) {
			wait_for(2); /* the other worker's */
			advance(LONG_MS / 1000 + 1);
		}
		wait_for(6);
		assert_told(2, APIKEYD_SUCCESS, "");
		assert_int_equal(tear_down(state), 0);

		set_up(state);
		open_module(actor, (struct settings){.timeout_ms = 500, .workers = 1, .depth = 3});
		for (unsigned j = 0; j < 5; j++)
			assert_int_equal(ask(j == 0 ? firsts[i] : "ok", 1 + j), APIKEYD_PENDING);
		self.close_on = 1;
		for (int64_t until = real_ms() + LONG_MS; instance; turn())
			assert_true(real_ms() < until);
		assert_int_equal(self.told[1].times, 1);
		if (i < 2)
			assert_int_equal(tear_down(state), 0);
	}
}

/* With the broker that the daemon has: what is stuck is gone, and the next one is there; sealing changes nothing. */
static void test_broker(void **state)
{
	char text[sizeof(actor) + 64], command[128], pids[128];
	pid_t stuck = 0;
	FILE *in;

	(void)state;
	assert_int_equal(broker_start(&self.broker, error, sizeof(error)), 0);
	snprintf(text, sizeof(text), "echo $$ >> $0.pids\n%s", actor);
	snprintf(command, sizeof(command), "%s", script(text));
	snprintf(pids, sizeof(pids), "%s.pids", command);
	assert_int_equal(try_open(command, (struct settings){0}), 0);
	assert_int_equal(broker_seal(self.broker, error, sizeof(error)), 0);
	assert_int_equal(ask("ok", 1), APIKEYD_PENDING);
	wait_for(1);
	assert_int_equal(ask("hang", 2), APIKEYD_PENDING);
	turn();
	advance(LONG_MS / 1000 + 1);
	wait_for(2);
	assert_told(2, APIKEYD_TIMEOUT, "");
	assert_int_equal(ask("ok", 3), APIKEYD_PENDING);
	assert_int_equal(ask("die", 4), APIKEYD_PENDING);
	assert_int_equal(ask("ok", 5), APIKEYD_PENDING);
	wait_for(5);
	assert_told(3, APIKEYD_SUCCESS, "");
	assert_told(4, APIKEYD_MODULE_FAULT, "the program has ended");
	assert_told(5, APIKEYD_SUCCESS, "");
	in = fopen(pids, "r");
	assert_non_null(in);
	assert_non_null(fgets(text, sizeof(text), in));
	stuck = (pid_t)atoi(text);
	assert_true(stuck > 0);
	fclose(in);
	for (int64_t until = real_ms() + LONG_MS; kill(stuck, 0) == 0;)
		assert_true(real_ms() < until);
	/* another line with a program that is known may come, one with a new one may not */
	module_exec.close(instance);
	instance = NULL;
	assert_int_equal(try_open(command, (struct settings){.workers = 2}), 0);
	assert_int_equal(ask("ok", 6), APIKEYD_PENDING);
	wait_for(6);
	assert_told(6, APIKEYD_SUCCESS, "");
	module_exec.close(instance);
	instance = NULL;
	strcat(command, " more");
	assert_int_equal(try_open(command, (struct settings){0}), -EPERM);
	assert_non_null(strstr(error, ": a new program takes a restart of apikeyd"));
	broker_free(self.broker);
}

/* ---- opening ---- */

static void test_check(void **state)
{
	char command[256] = "/bin/true";

	(void)state;
	assert_int_equal(try_open("", (struct settings){0}), -EINVAL);
	assert_string_equal(error, "command: must begin with the absolute path of a program");
	assert_int_equal(try_open(" cat /x", (struct settings){0}), -EINVAL);
	assert_string_equal(error, "command: must begin with the absolute path of a program");
	for (unsigned i = 1; i < 33; i++)
		strcat(command, " x");
	assert_int_equal(try_open(command, (struct settings){0}), -EINVAL);
	assert_string_equal(error, "command: has 33 words; at most 32");
	command[strlen(command) - 2] = '\0';
	assert_int_equal(try_open(command, (struct settings){0}), 0);
	assert_string_equal(self.argv[31], "x");
	assert_null(self.argv[32]);
}

static void test_open_fails(void **state)
{
	(void)state;
	self.program_rc = -EPERM;
	assert_int_equal(try_open("/bin/cat -u", (struct settings){0}), -EPERM);
	assert_string_equal(error, "command: /bin/cat: Operation not permitted");
	self.program_rc = -ENOENT;
	assert_int_equal(try_open("/bin/cat -u", (struct settings){0}), -ENOENT);
	assert_string_equal(error, "command: /bin/cat: No such file or directory");
	self.program_rc = 0;
	self.run_rc = -EMFILE;
	assert_int_equal(try_open("/bin/cat", (struct settings){.workers = 3}), -EMFILE);
	assert_string_equal(error, "command: cannot be started: /bin/cat: Too many open files");
	/* where nothing is started at all, since the stacks are only tested, all is well */
	self.run_rc = -ENOTSUP;
	self.logged = 0;
	assert_int_equal(try_open("/bin/cat", (struct settings){.workers = 3}), 0);
	assert_int_equal(self.logged, 0);
	module_exec.close(instance);
	instance = NULL;
	self.run_rc = 0;
	self.watch_rc = -ENOMEM;
	assert_int_equal(try_open("/bin/cat", (struct settings){0}), -ENOMEM);
	assert_string_equal(error, "no timer (Cannot allocate memory)");
	assert_null(instance);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_questions),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_every_code),
		cmocka_unit_test(test_commands),
		cmocka_unit_test_setup_teardown(test_good_program, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_a_program_reads, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_command_is_split, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_depth, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_deeper, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_slow_reader, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pending, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bad_answers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_answered_twice, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_unasked, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_all_in_hand, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_timeout, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_others_go_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_backoff, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_run_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_watch_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_gone_before, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cancel, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cancel_and_stuck, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_close_with_questions, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_from_within, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_broker, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_check, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_open_fails, set_up, tear_down),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
