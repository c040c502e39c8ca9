#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "tests/unit/fake_host.h"

#include "daemon/stack/program.h"

/* What the module knows as `self` is the host itself. */
static struct fake_host *host_of(struct apikeyd_self *self)
{
	return (struct fake_host *)(void *)self;
}

static void host_log(struct apikeyd_self *self, enum apikeyd_level level, const char *line)
{
	struct fake_host *host = host_of(self);

	assert_null(strpbrk(line, "\r\n"));
	assert_true(host->line_count < FAKE_HOST_LINES);
	host->levels[host->line_count] = level;
	snprintf(host->lines[host->line_count++], FAKE_HOST_TEXT, "%s", line);
}

static void host_log_request(struct apikeyd_self *self, enum apikeyd_level level, const struct apikeyd_request *request,
			     const char *line)
{
	assert_non_null(request);
	host_log(self, level, line);
}

static void host_retry_after(struct apikeyd_self *self, const struct apikeyd_request *request, uint64_t ms)
{
	(void)request;
	assert_true(ms > 0);
	assert_int_equal(host_of(self)->retry_ms, 0);
	host_of(self)->retry_ms = ms;
}

static void host_detail(struct apikeyd_self *self, const struct apikeyd_request *request, const char *line)
{
	assert_true(request->explain);
	snprintf(host_of(self)->detail, FAKE_HOST_TEXT, "%s", line);
}

static enum apikeyd_code host_store(struct apikeyd_self *self, const struct apikeyd_request *request)
{
	(void)request;
	host_of(self)->store_calls++;
	return host_of(self)->store_code;
}

bool fake_records;

static enum apikeyd_code host_record(struct apikeyd_self *self, const struct apikeyd_request *request, unsigned how)
{
	(void)request;
	host_of(self)->record_how = how;
	return host_of(self)->record_code;
}

/* ---- arguments ---- */

static int set_argument(struct fake_host *host, char *word, struct apikeyd_value *values)
{
	const struct apikeyd_argument *arguments = host->module->arguments;
	char *equals = strchr(word, '='), right[512] = "";
	int rc;

	*equals = '\0';
	for (unsigned i = 0; arguments && arguments[i].name; i++) {
		if (strcmp(arguments[i].name, word) != 0)
			continue;
		rc = stack_value(&host->arena, &arguments[i], equals + 1, &values[i], right, sizeof(right));
		if (rc != 0)
			snprintf(host->error, sizeof(host->error), "host: %s must be %s", word, right);
		return rc;
	}
	snprintf(host->error, sizeof(host->error), "host: no argument %s", word);
	return -EINVAL;
}

static int set_rest(struct fake_host *host, struct apikeyd_value *values)
{
	const struct apikeyd_argument *arguments = host->module->arguments;
	char right[512];

	for (unsigned i = 0; arguments && arguments[i].name; i++) {
		assert_true(i < FAKE_HOST_VALUES);
		if (values[i].given)
			continue;
		if (arguments[i].required) {
			snprintf(host->error, sizeof(host->error), "host: %s is required", arguments[i].name);
			return -EINVAL;
		}
		if (arguments[i].fallback)
			assert_int_equal(stack_value(&host->arena, &arguments[i], arguments[i].fallback, &values[i],
						     right, sizeof(right)),
					 0);
	}
	return 0;
}

/* The last group that it may stand in: where most is known. */
static enum apikeyd_group group_of(const struct apikeyd_module *module)
{
	unsigned group = APIKEYD_GROUP_AUDIT;

	while (!(module->groups & group))
		group >>= 1;
	return (enum apikeyd_group)group;
}

int fake_open(struct fake_host *host, const struct apikeyd_module *module, const char *arguments)
{
	return fake_open_in(host, module, group_of(module), arguments);
}

int fake_open_in(struct fake_host *host, const struct apikeyd_module *module, enum apikeyd_group group,
		 const char *arguments)
{
	struct apikeyd_value *values = calloc(FAKE_HOST_VALUES, sizeof(*values));
	char *copy = strdup(arguments), *rest = copy, *word;
	int rc = 0;

	*host = (struct fake_host){
		.host = {.host = {.size = fake_records ? sizeof(host->host) : sizeof(host->host.host),
				  .log = host_log,
				  .log_request = host_log_request,
				  .retry_after = host_retry_after,
				  .detail = host_detail,
				  .store = host_store},
			 .record = host_record},
		.module = module,
		.record_code = APIKEYD_SUCCESS,
	};
	assert_non_null(copy);
	assert_non_null(values);
	while (rc == 0 && (word = strsep(&rest, " ")) != NULL) {
		if (*word)
			rc = set_argument(host, word, values);
	}
	if (rc == 0)
		rc = set_rest(host, values);
	if (rc == 0 && module->check)
		rc = module->check(group, values, host->error, sizeof(host->error));
	if (rc == 0 && module->open)
		rc = module->open((struct apikeyd_self *)(void *)host, &host->host.host, values, &host->instance,
				  host->error, sizeof(host->error));
	memset(values, 0xa5, FAKE_HOST_VALUES * sizeof(*values));
	free(values);
	free(copy);
	if (rc != 0) {
		assert_true(rc < 0);
		assert_true(host->error[0] != '\0');
		arena_clear(&host->arena);
	}
	return rc;
}

void fake_open_good(struct fake_host *host, const struct apikeyd_module *module, const char *arguments)
{
	if (fake_open(host, module, arguments) != 0)
		fail_msg("%s %s: %s", module->name, arguments, host->error);
}

void fake_close(struct fake_host *host)
{
	if (host->module->close)
		host->module->close(host->instance);
	arena_clear(&host->arena);
}

enum apikeyd_code fake_ask(struct fake_host *host, const struct apikeyd_request *request)
{
	host->retry_ms = 0;
	host->detail[0] = '\0';
	assert_true(host->module->groups & request->group);
	return host->module->start(host->instance, request, 7);
}

/* ---- requests ---- */

struct apikeyd_text fake_text(const char *text)
{
	return (struct apikeyd_text){.data = text, .len = text ? (uint32_t)strlen(text) : 0};
}

struct apikeyd_addr fake_addr(const char *text)
{
	struct apikeyd_addr addr = {.family = strchr(text, ':') ? 6 : 4};

	assert_int_equal(inet_pton(addr.family == 6 ? AF_INET6 : AF_INET, text, addr.bytes), 1);
	return addr;
}

struct apikeyd_request fake_request(enum apikeyd_group group)
{
	return (struct apikeyd_request){
		.size = sizeof(struct apikeyd_request),
		.group = group,
		.method = fake_text("check"),
		.stack = fake_text("default"),
		.uid = 1000,
		.gid = 1000,
		.pid = 77,
		.gids_known = true,
		.key_id = fake_text("kkkkkkkkkk"),
		.key_letter = 'u',
		.cost = 1,
		.now_us = INT64_C(1700000000000000),
		.boot_us = 1000000,
		.rev = 5,
		.kind = APIKEYD_KIND_USER,
		.key_user = fake_text("ada@example.org"),
	};
}

/* ---- random numbers: splitmix64 ---- */

uint64_t fake_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

uint64_t fake_below(uint64_t *state, uint64_t bound)
{
	return fake_random(state) % bound;
}

uint64_t fake_seed(void)
{
	const char *given = getenv("MODULE_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);

	printf("# MODULE_SEED=%" PRIu64 "\n", seed);
	return seed;
}
