#include "tests/unit/policy_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/modules/table.h"

struct apikeyd_host policy_text_host;

const struct policy_text policy_text_plain[] = {
	{"default", "caller required permit\nkey required store\naccount required rate\naudit none\n"},
	{0},
};

struct source {
	const struct policy_text *stacks;
	const struct apikeyd_module *const *modules;
};

static const struct apikeyd_module *find_module(void *data, const char *name, const char **ret_why)
{
	const struct source *source = data;

	for (unsigned i = 0; source->modules && source->modules[i]; i++) {
		if (strcmp(source->modules[i]->name, name) == 0)
			return source->modules[i];
	}
	for (unsigned i = 0; modules_built_in[i]; i++) {
		if (strcmp(modules_built_in[i]->name, name) == 0)
			return modules_built_in[i];
	}
	*ret_why = "there is no such module";
	return NULL;
}

static bool find_stack(void *data, const char *name, char **ret_text, size_t *ret_len, const char **ret_path,
		       const char **ret_why)
{
	const struct source *source = data;

	for (const struct policy_text *stack = source->stacks; stack->name; stack++) {
		if (strcmp(stack->name, name) != 0)
			continue;
		*ret_text = strdup(stack->text);
		*ret_len = strlen(stack->text);
		*ret_path = policy_path(name);
		return true;
	}
	*ret_why = "there is no such stack";
	return false;
}

static void on_closing(struct apikeyd_self *self)
{
	(void)self;
}

static void on_log(struct apikeyd_self *self, enum apikeyd_level level, const char *line)
{
	(void)self;
	(void)level;
	(void)line;
}

static void on_log_request(struct apikeyd_self *self, enum apikeyd_level level, const struct apikeyd_request *request,
			   const char *line)
{
	(void)request;
	on_log(self, level, line);
}

void policy_text_set(struct request_core *core, const struct policy_text *stacks,
		     const struct apikeyd_module *const *modules)
{
	static struct policy_host host;
	static struct ledger_host ledger_host;
	struct source source = {.stacks = stacks, .modules = modules};
	const struct stack_finder finder = {.module = find_module, .stack = find_stack, .data = &source};
	char lines[2048] = "";
	struct stack_faults faults = {.text = lines, .size = sizeof(lines)};
	const char *names[16];
	struct policy *policy;
	uint32_t count = 0;

	request_host_fill(&policy_text_host);
	policy_text_host.size = sizeof(policy_text_host);
	if (!policy_text_host.log)
		policy_text_host.log = on_log;
	policy_text_host.log_request = on_log_request;
	ledger_host.host = policy_text_host;
	request_ledger_fill(&ledger_host);
	host = (struct policy_host){.host = &ledger_host.host, .data = core, .closing = on_closing};
	for (; stacks[count].name; count++)
		names[count] = stacks[count].name;
	policy = policy_new(names, count, &finder, &host, core->policy, &faults);
	if (!policy)
		fail_msg("%s", lines);
	request_set_policy(core, policy);
	policy_unref(policy);
}
