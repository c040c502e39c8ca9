#include "daemon/module_host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/log.h"

struct watch {
	uv_poll_t poll;
	struct watch *next;
	struct apikeyd_self *self;
	apikeyd_ready ready;
	void *data;
	int fd;
};

static struct {
	uv_loop_t *loop;
	struct broker *broker;
} host_of;

/* ---- log ---- */

enum { FIELDS_MAX = LOG_NAMES };

struct fields {
	struct log_field list[FIELDS_MAX];
	unsigned count;
};

static void add(struct fields *fields, enum log_name name, struct apikeyd_text text)
{
	if (text.data)
		fields->list[fields->count++] = (struct log_field){.name = name, .text = text.data, .len = text.len};
}

static void write_line(struct apikeyd_self *self, enum apikeyd_level level, const struct fields *fields,
		       const char *line)
{
	enum log_level levels[] = {LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG};

	if ((unsigned)level > APIKEYD_LOG_DEBUG)
		level = APIKEYD_LOG_ERROR;
	log_said(levels[level], fields->list, fields->count, "stack %s, %s:%u, %s: %s", self->stack, self->path,
		 self->line, self->module->name, line);
}

static void host_log(struct apikeyd_self *self, enum apikeyd_level level, const char *line)
{
	struct fields fields = {.count = 2};

	fields.list[0] = log_text(LOG_STACK, self->stack);
	fields.list[1] = log_text(LOG_MODULE, self->module->name);
	write_line(self, level, &fields, line);
}

/* Everything but the key's text. */
static void host_log_request(struct apikeyd_self *self, enum apikeyd_level level, const struct apikeyd_request *request,
			     const char *line)
{
	struct fields fields = {.count = 2};
	char addr[INET6_ADDRSTRLEN];

	fields.list[0] = log_text(LOG_STACK, self->stack);
	fields.list[1] = log_text(LOG_MODULE, self->module->name);
	add(&fields, LOG_KEY_ID, request->key_id);
	add(&fields, LOG_VERDICT, request->verdict);
	add(&fields, LOG_REASON, request->reason);
	fields.list[fields.count++] = log_number(LOG_CALLER_UID, request->uid);
	if (request->pid > 0)
		fields.list[fields.count++] = log_number(LOG_CALLER_PID, (uint64_t)request->pid);
	add(&fields, LOG_METHOD, request->method);
	add(&fields, LOG_SCOPE, request->scope);
	add(&fields, LOG_PAGE, request->page);
	add(&fields, LOG_ORG, request->key_org.data ? request->key_org : request->org);
	add(&fields, LOG_USER, request->key_user);
	if (request->addr.family != 0 &&
	    inet_ntop(request->addr.family == 4 ? AF_INET : AF_INET6, request->addr.bytes, addr, sizeof(addr)))
		fields.list[fields.count++] = log_text(LOG_ADDR, addr);
	fields.list[fields.count++] = log_number(LOG_REV, request->rev);
	write_line(self, level, &fields, line);
}

/* ---- watch ---- */

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct watch *watch = poll->data;
	unsigned ready =
		(events & UV_READABLE ? APIKEYD_READABLE : 0u) | (events & UV_WRITABLE ? APIKEYD_WRITABLE : 0u);

	/* An error is for the module to find, by reading. */
	if (status < 0)
		ready = APIKEYD_READABLE | APIKEYD_WRITABLE;
	watch->ready(watch->data, watch->fd, ready);
}

static void end(struct watch **at)
{
	struct watch *watch = *at;

	*at = watch->next;
	uv_poll_stop(&watch->poll);
	uv_close((uv_handle_t *)&watch->poll, on_closed);
}

static struct watch **find(struct apikeyd_self *self, int fd)
{
	struct watch **at = (struct watch **)&self->watches;

	while (*at && (*at)->fd != fd)
		at = &(*at)->next;
	return at;
}

static int host_watch(struct apikeyd_self *self, int fd, unsigned events, apikeyd_ready ready, void *data)
{
	struct watch **at = find(self, fd), *watch = *at;
	int rc;

	if (!events) {
		if (watch)
			end(at);
		return 0;
	}
	if (!watch) {
		watch = calloc(1, sizeof(*watch));
		if (!watch)
			return -ENOMEM;
		rc = uv_poll_init(host_of.loop, &watch->poll, fd);
		if (rc < 0) {
			free(watch);
			return rc;
		}
		watch->poll.data = watch;
		watch->self = self;
		watch->fd = fd;
		*at = watch;
	}
	watch->ready = ready;
	watch->data = data;
	rc = uv_poll_start(
		&watch->poll,
		(events & APIKEYD_READABLE ? UV_READABLE : 0) | (events & APIKEYD_WRITABLE ? UV_WRITABLE : 0), on_poll);
	return rc < 0 ? rc : 0;
}

void module_host_closing(struct apikeyd_self *self)
{
	struct watch **first = (struct watch **)&self->watches;

	while (*first)
		end(first);
}

/* ---- programs ---- */

/* Without a broker (apikeyd -t) programs are only looked at. */
static int host_program(struct apikeyd_self *self, const char *const *argv, uint32_t *ret_program, char *error,
			size_t error_size)
{
	int rc;

	(void)self;
	if (host_of.broker)
		return broker_register(host_of.broker, argv, ret_program, error, error_size);
	rc = broker_look(argv, error, error_size);
	if (rc == 0)
		*ret_program = 0;
	return rc;
}

static int host_run(struct apikeyd_self *self, uint32_t program, int *ret_fd, char *error, size_t error_size)
{
	(void)self;
	if (host_of.broker)
		return broker_run(host_of.broker, program, ret_fd, error, error_size);
	snprintf(error, error_size, "no program is started where the stacks are only tested");
	return -ENOTSUP;
}

void module_host_fill(struct apikeyd_host *host, uv_loop_t *loop, struct broker *broker)
{
	host_of.loop = loop;
	host_of.broker = broker;
	host->log = host_log;
	host->log_request = host_log_request;
	host->watch = host_watch;
	host->program = host_program;
	host->run = host_run;
}
