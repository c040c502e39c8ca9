/*
 * Plays one module by itself: finds it as the daemon does, opens it with a host of its own, and asks it what standard
 * input says.
 *
 *     play DIRECTORY MODULE [name=value]...
 *     play DIRECTORY
 *
 * The second form says of each module whether it is "sound", or what is wrong with it. The first one writes "refused TEXT", "argument TEXT", "check TEXT" or "open TEXT" and ends with 1, or "opened" (with "warning
 * TEXT" before it), and then one line for each of standard input:
 *
 *     ask group=WORD scope=S page=P key=K key_id=I letter=L boot=US now=US explain=1
 *                 CODE, then what came with it: retry_after=, grant=, hash=, detail=, log= (each with its text)
 *     wait        the next completion: "completed TOKEN CODE ..."; "nothing" where none comes in half a minute
 *     cancel N    of the N-th question
 *     find        finds it again: "same" or "other", and the text
 *
 * At the end, when the instance is closed, "closed", and how many completions there were in all. Its pepper V, for V of
 * 1 and 2, is 32 bytes of that value; its store knows no key.
 */
#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/modules/load.h"
#include "daemon/stack/code.h"
#include "daemon/stack/program.h"
#include "proto/value.h"

enum { WAIT_S = 30, COMPLETIONS_MAX = 4096 };

struct apikeyd_self {
	char said[4096]; /* by the question that is being asked */
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	char lines[COMPLETIONS_MAX][512];
	unsigned count, shown;
} completions = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

__attribute__((format(printf, 2, 3))) static void say(struct apikeyd_self *self, const char *format, ...)
{
	size_t len = strlen(self->said);
	va_list list;

	va_start(list, format);
	vsnprintf(self->said + len, sizeof(self->said) - len, format, list);
	va_end(list);
}

/* ---- the host ---- */

static void host_log(struct apikeyd_self *self, enum apikeyd_level level, const char *line)
{
	say(self, " log=%d:%s", (int)level, line);
}

static void host_log_request(struct apikeyd_self *self, enum apikeyd_level level, const struct apikeyd_request *request,
			     const char *line)
{
	(void)request;
	host_log(self, level, line);
}

static void host_retry_after(struct apikeyd_self *self, const struct apikeyd_request *request, uint64_t ms)
{
	(void)request;
	say(self, " retry_after=%llu", (unsigned long long)ms);
}

static void host_detail(struct apikeyd_self *self, const struct apikeyd_request *request, const char *line)
{
	(void)request;
	say(self, " detail=%.100s", line);
}

static void describe(const struct apikeyd_principal *p, char *out, size_t size)
{
	if (!p)
		snprintf(out, size, "nobody");
	else if (p->kind == APIKEYD_KIND_USER)
		snprintf(out, size, "user:%lld", (long long)p->user_id);
	else
		snprintf(out, size, "%d:%.*s:%s", (int)p->kind,
			 p->organization.data && p->organization.len < 64 ? (int)p->organization.len : 0,
			 p->organization.data ? p->organization.data : "", p->writes ? "write" : "read");
}

static int host_grant(struct apikeyd_self *self, const struct apikeyd_request *request,
		      const struct apikeyd_principal *principal)
{
	char text[128];

	(void)request;
	describe(principal, text, sizeof(text));
	say(self, " grant=%s", text);
	return 0;
}

static enum apikeyd_code host_store(struct apikeyd_self *self, const struct apikeyd_request *request)
{
	(void)request;
	say(self, " store=");
	return APIKEYD_UNKNOWN_KEY;
}

static int host_hash(struct apikeyd_self *self, const struct apikeyd_request *request, uint16_t pepper,
		     uint8_t ret[APIKEYD_HASH_LEN])
{
	uint8_t bytes[32];

	say(self, " hash=%u", pepper);
	if (pepper < 1 || pepper > 2)
		return -ENOENT;
	memset(bytes, pepper, sizeof(bytes));
	return crypto_generichash(ret, APIKEYD_HASH_LEN, (const uint8_t *)request->key.data, request->key.len, bytes,
				  sizeof(bytes));
}

static void host_complete(struct apikeyd_self *self, uint64_t token, const struct apikeyd_answer *answer)
{
	char principal[128] = "";

	(void)self;
	if (answer->principal)
		describe(answer->principal, principal, sizeof(principal));
	pthread_mutex_lock(&completions.lock);
	if (completions.count < COMPLETIONS_MAX)
		snprintf(completions.lines[completions.count++], sizeof(completions.lines[0]),
			 "completed %llu %s%s%s%s%s", (unsigned long long)token,
			 code_word(code_clean((int)answer->code)), answer->detail ? " detail=" : "",
			 answer->detail ? answer->detail : "", *principal ? " grant=" : "", principal);
	pthread_cond_broadcast(&completions.changed);
	pthread_mutex_unlock(&completions.lock);
}

static const struct apikeyd_host host = {
	.size = sizeof(host),
	.log = host_log,
	.retry_after = host_retry_after,
	.detail = host_detail,
	.grant = host_grant,
	.store = host_store,
	.hash = host_hash,
	.complete = host_complete,
	.log_request = host_log_request,
};

/* ---- questions ---- */

static struct apikeyd_text text_of(const char *text)
{
	return (struct apikeyd_text){.data = text, .len = (uint32_t)strlen(text)};
}

/* One word name=value of a question. */
static bool fill(struct apikeyd_request *request, const char *name, const char *value)
{
	enum stack_group group;

	if (strcmp(name, "group") == 0 && group_from_word(value, strlen(value), &group))
		request->group = (enum apikeyd_group)group_bit(group);
	else if (strcmp(name, "scope") == 0)
		request->scope = text_of(value);
	else if (strcmp(name, "page") == 0)
		request->page = text_of(value);
	else if (strcmp(name, "key") == 0)
		request->key = text_of(value);
	else if (strcmp(name, "key_id") == 0)
		request->key_id = text_of(value);
	else if (strcmp(name, "letter") == 0)
		request->key_letter = *value;
	else if (strcmp(name, "boot") == 0)
		request->boot_us = strtoll(value, NULL, 10);
	else if (strcmp(name, "now") == 0)
		request->now_us = strtoll(value, NULL, 10);
	else if (strcmp(name, "explain") == 0)
		request->explain = *value == '1';
	else
		return false;
	return true;
}

/* The line's: scope, or where it may not stand there, the last group that it may stand in. */
static enum apikeyd_group group_of(const struct apikeyd_module *module)
{
	unsigned group = module->groups & APIKEYD_GROUP_SCOPE ? APIKEYD_GROUP_SCOPE : APIKEYD_GROUP_AUDIT;

	while (group > APIKEYD_GROUP_CALLER && !(module->groups & group))
		group >>= 1;
	return (enum apikeyd_group)group;
}

static void ask(const struct apikeyd_module *module, struct apikeyd_self *self, void *instance, char *words)
{
	static uint64_t token;
	struct apikeyd_request request = {.size = sizeof(request), .group = APIKEYD_GROUP_SCOPE};
	enum apikeyd_code code;

	request.method = text_of("check");
	request.stack = text_of("default");
	for (char *rest, *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		char *equals = strchr(word, '=');

		if (equals)
			*equals = '\0';
		if (!equals || !fill(&request, word, equals + 1)) {
			printf("no such word: %s\n", word);
			return;
		}
	}
	self->said[0] = '\0';
	code = module->start(instance, &request, ++token);
	printf("%s%s\n", code_word(code_clean((int)code)), self->said);
}

static void wait_for_one(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_S;
	pthread_mutex_lock(&completions.lock);
	while (completions.shown == completions.count)
		if (pthread_cond_timedwait(&completions.changed, &completions.lock, &until) != 0)
			break;
	puts(completions.shown < completions.count ? completions.lines[completions.shown++] : "nothing");
	pthread_mutex_unlock(&completions.lock);
}

static void find_again(const struct apikeyd_module *module, const char *directory, const char *name)
{
	char text[1024];
	const struct apikeyd_module *found = modules_find(name, directory, text, sizeof(text));

	printf("%s %s\n", found == module ? "same" : "other", text);
}

/* ---- the line of the stack ---- */

/* Values by the module's table, from the command line and the fallbacks. */
static bool read_values(struct arena *arena, const struct apikeyd_module *module, char *const *words,
			struct apikeyd_value *values)
{
	char right[256];

	for (unsigned i = 0; module->arguments && module->arguments[i].name; i++) {
		const struct apikeyd_argument *argument = &module->arguments[i];
		const char *text = argument->fallback;
		size_t len = strlen(argument->name);

		for (char *const *word = words; *word; word++)
			if (strncmp(*word, argument->name, len) == 0 && (*word)[len] == '=')
				text = *word + len + 1;
		if (text && stack_value(arena, argument, text, &values[i], right, sizeof(right)) != 0) {
			printf("argument %s: %s\n", argument->name, right);
			return false;
		}
		if (!text && argument->required) {
			printf("argument %s: is required\n", argument->name);
			return false;
		}
	}
	return true;
}

static int play(const struct apikeyd_module *module, const char *directory, const struct apikeyd_value *values)
{
	static struct apikeyd_self self;
	static char line[8192];
	char error[512] = "";
	void *instance = NULL;

	if (module->check && module->check(group_of(module), values, error, sizeof(error)) != 0) {
		printf("check %s\n", error);
		return 1;
	}
	if (module->open && module->open(&self, &host, values, &instance, error, sizeof(error)) != 0) {
		printf("open %s\n", error);
		return 1;
	}
	puts("opened");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "ask ", 4) == 0)
			ask(module, &self, instance, line + 4);
		else if (strcmp(line, "wait") == 0)
			wait_for_one();
		else if (strcmp(line, "find") == 0)
			find_again(module, directory, module->name);
		else if (strncmp(line, "cancel ", 7) == 0 && module->cancel)
			module->cancel(instance, strtoull(line + 7, NULL, 10)), puts("cancelled");
		else
			printf("no such command: %s\n", line);
		fflush(stdout);
	}
	if (module->close)
		module->close(instance);
	printf("closed %u\n", completions.count);
	return 0;
}

/* One of modules_each; those that are built in are looked at as others are when they are loaded. */
static void on_told(void *data, const char *name, const struct apikeyd_module *module, bool built_in, const char *text)
{
	char error[1024];

	(void)data;
	if (!module)
		printf("%s: %s\n", name, text);
	else if (modules_check(module, error, sizeof(error)) != 0)
		printf("%s: %s\n", name, error);
	else
		printf("%s: sound%s\n", name, built_in ? ", built in" : "");
}

static int list(const char *directory)
{
	char error[1024];

	if (modules_each(directory, on_told, NULL, error, sizeof(error)) == 0)
		return 0;
	printf("refused %s\n", error);
	return 1;
}

int main(int argc, char **argv)
{
	static struct apikeyd_value values[STACK_ARGUMENTS_MAX];
	struct arena arena = {0};
	const struct apikeyd_module *module;
	char text[1024];
	int code = 1;

	if (argc < 2 || sodium_init() < 0) {
		fprintf(stderr, "usage: play DIRECTORY [MODULE [name=value]...]\n");
		return 2;
	}
	if (argc == 2)
		return list(argv[1]);
	module = modules_find(argv[2], argv[1], text, sizeof(text));
	if (!module) {
		printf("refused %s\n", text);
		return 1;
	}
	if (*text)
		printf("warning %s\n", text);
	if (read_values(&arena, module, argv + 3, values))
		code = play(module, argv[1], values);
	arena_clear(&arena);
	return code;
}
