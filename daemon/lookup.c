#include "daemon/lookup.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/credential.h"
#include "daemon/listeners.h"
#include "daemon/log.h"
#include "daemon/postgres/conninfo.h"
#include "daemon/stack/lint.h"
#include "daemon/user.h"

enum { STACK_ERRORS_SIZE = 8192 };

struct faults {
	const struct config *config;
	char *text;
	size_t len, size;
	unsigned count;
};

static void add_line(struct faults *faults, const char *line)
{
	char clean[2048];
	size_t n = log_escape(line, strlen(line), clean, sizeof(clean));

	faults->count++;
	if (faults->len + n + 2 > faults->size)
		return;
	memcpy(faults->text + faults->len, clean, n);
	faults->text[faults->len + n] = '\n';
	faults->text[faults->len + n + 1] = '\0';
	faults->len += n + 1;
}

/* "<file>:<line>: [section] name<what>": what begins with the value, or with a colon. */
__attribute__((format(printf, 4, 5))) static void add_fault(struct faults *faults, const char *section,
							    const char *name, const char *format, ...)
{
	char line[1024], where[512];
	va_list args;
	int len;

	len = snprintf(line, sizeof(line), "%s: [%s] %s",
		       config_where(faults->config, section, name, where, sizeof(where)), section, name);
	if (len < 0 || (size_t)len >= sizeof(line))
		len = 0;
	va_start(args, format);
	vsnprintf(line + len, sizeof(line) - (size_t)len, format, args);
	va_end(args);
	add_line(faults, line);
}

static void on_socket_fault(void *data, const char *line)
{
	add_line(data, line);
}

static void look_up_users(struct faults *faults, const char *section, const char *names, struct user_set *ret)
{
	char unknown[256];
	int rc = user_set_read(names, ret, unknown, sizeof(unknown));

	if (rc == -ENOENT)
		add_fault(faults, section, "users", " = %s: there is no user %s", names, unknown);
	else if (rc != 0)
		add_fault(faults, section, "users", ": %s", strerror(-rc));
}

/* The stacks' faults have places of their own, and no configuration's. */
static void look_up_stacks(struct faults *faults, const struct config *config, const struct policy_host *host,
			   const struct policy *before, struct policy **ret)
{
	char lines[STACK_ERRORS_SIZE] = "";
	struct stack_faults told = {.text = lines, .size = sizeof(lines)};
	size_t len;

	*ret = policy_load(config->stack_dir, config->module_dir, host, before, &told);
	faults->count += told.count;
	len = strlen(lines);
	if (faults->len + len + 1 > faults->size)
		return;
	memcpy(faults->text + faults->len, lines, len + 1);
	faults->len += len;
}

/* A socket that is bound to a stack which is not there would refuse everything. */
static void look_up_bound(struct faults *faults, const struct config *config, struct policy *policy)
{
	char section[CONFIG_SECTION_SIZE];

	for (unsigned i = 0; policy && i < config->check_count; i++) {
		const struct config_socket *socket = &config->check[i];

		if (*socket->stack && !policy_find(policy, socket->stack, strlen(socket->stack)))
			add_fault(faults, config_socket_section(socket, section), "stack",
				  " = %s: there is no such stack in %s", socket->stack, config->stack_dir);
	}
}

unsigned lookup_make(struct lookup *ret, const struct config *config, const struct passed *passed,
		     const struct policy_host *host, const struct policy *before, char *errors, size_t error_size)
{
	struct faults faults = {.config = config, .text = errors, .size = error_size};
	char line[512];

	errors[0] = '\0';
	*ret = (struct lookup){0};
	listeners_check(config, passed, on_socket_fault, &faults);
	look_up_users(&faults, "admin", config->admin_users, &ret->users.admin);
	look_up_users(&faults, "explain", config->explain_users, &ret->users.explain);
	if (conninfo_check(config->conninfo, line, sizeof(line)) != 0)
		add_fault(&faults, "database", "conninfo", ": %s", line);
	if (*config->admin_conninfo && conninfo_check(config->admin_conninfo, line, sizeof(line)) != 0)
		add_fault(&faults, "database", "admin_conninfo", ": %s", line);
	if (!credential_left_out(config->pepper_file))
		ret->secret = secret_load(config->pepper_file, line, sizeof(line));
	if (!ret->secret && !credential_left_out(config->pepper_file))
		add_fault(&faults, "key", "pepper_file", ": %s", line);
	look_up_stacks(&faults, config, host, before, &ret->policy);
	look_up_bound(&faults, config, ret->policy);
	return faults.count;
}

void lookup_deinit(struct lookup *found)
{
	secret_free(found->secret);
	session_users_deinit(&found->users);
	policy_unref(found->policy);
	*found = (struct lookup){0};
}

static void on_finding(void *data, enum stack_severity severity, const char *name, const struct stack_line *line,
		       const char *text)
{
	const char *stack = data, *word = severity == STACK_ERROR ? "error" : "warning";

	if (line)
		log_warning("%s:%u: %s (%s): %s", line->path, line->place.line, word, name, text);
	else
		log_warning("stack %s: %s (%s): %s", stack, word, name, text);
}

void lookup_log_findings(const struct policy *policy)
{
	for (uint32_t i = 0; i < policy->stack_count; i++)
		stack_lint(policy->stacks[i].program, on_finding, (void *)(uintptr_t)policy->stacks[i].name);
}
