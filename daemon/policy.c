#include "daemon/policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ERROR_SIZE = 512 };

struct policy_program {
	unsigned refs; /* the policy, and each instance that was opened with its values */
	struct stack_program *program;
};

static void program_unref(struct policy_program *owner)
{
	if (!owner || --owner->refs > 0)
		return;
	stack_program_free(owner->program);
	free(owner);
}

/* ---- instances ---- */

static void instance_free(const struct policy_host *host, struct apikeyd_self *self)
{
	if (!self || --self->refs > 0)
		return;
	if (self->module->close)
		self->module->close(self->instance);
	if (host && host->closing)
		host->closing(self);
	program_unref(self->origin);
	free(self);
}

static const struct policy_stack *stack_of(const struct policy *policy, const char *name, size_t len)
{
	for (uint32_t i = 0; policy && i < policy->stack_count; i++) {
		const char *own = policy->stacks[i].name;

		if (strncmp(own, name, len) == 0 && own[len] == '\0')
			return &policy->stacks[i];
	}
	return NULL;
}

/* The instance of an earlier policy that stood for the very same line, and is not taken yet. */
static struct apikeyd_self *find_before(const struct policy_stack *before, const struct stack_line *line,
					enum stack_group group)
{
	for (uint32_t i = 0; before && i < before->program->module_count; i++) {
		struct apikeyd_self *self = before->instances[i];

		if (!self->claimed && self->module == line->module && self->group == group &&
		    strcmp(self->text, line->text) == 0) {
			self->claimed = true;
			self->refs++;
			return self;
		}
	}
	return NULL;
}

static struct apikeyd_self *open_line(const struct policy_host *host, struct policy_stack *stack,
				      const struct stack_line *line, enum stack_group group,
				      struct stack_faults *faults)
{
	const struct apikeyd_module *module = line->module;
	struct apikeyd_self *self = calloc(1, sizeof(*self));
	char error[ERROR_SIZE] = "";
	int rc;

	if (!self) {
		stack_line_fault(faults, line, "no memory");
		return NULL;
	}
	self->module = module;
	self->stack = stack->name;
	self->path = line->path;
	self->line = line->place.line;
	self->data = host->data;
	self->group = group;
	self->text = line->text;
	rc = module->open ? module->open(self, host->host, line->values, &self->instance, error, sizeof(error)) : 0;
	if (rc != 0) {
		error[sizeof(error) - 1] = '\0';
		stack_line_fault(faults, line, *error ? error : strerror(-rc));
		if (host->closing)
			host->closing(self);
		free(self);
		return NULL;
	}
	self->refs = 1;
	self->origin = stack->owner;
	self->origin->refs++;
	return self;
}

static bool open_stack(const struct policy_host *host, struct policy_stack *stack, const struct policy_stack *before,
		       struct stack_faults *faults)
{
	const struct stack_program *program = stack->program;
	bool good = true;

	stack->instances = calloc(program->module_count + 1u, sizeof(struct apikeyd_self *));
	stack->ended = calloc(program->module_count + 1u, sizeof(struct apikeyd_self *));
	if (!stack->instances || !stack->ended) {
		stack_fault(faults, stack->name, (struct stack_place){0, 0}, "no memory");
		return false;
	}
	for (unsigned group = 0; group < STACK_GROUPS; group++) {
		for (unsigned i = program->first[group]; i < program->first[group + 1]; i++) {
			const struct stack_line *line = &program->lines[i];
			struct apikeyd_self *self;

			if (line->op != STACK_OP_MODULE)
				continue;
			self = find_before(before, line, (enum stack_group)group);
			if (!self)
				self = open_line(host, stack, line, (enum stack_group)group, faults);
			stack->instances[line->module_number] = self;
			good &= self != NULL;
			if (self && self->module->ended)
				stack->ended[stack->ended_count++] = self;
		}
	}
	return good;
}

/* ---- stacks ---- */

/* Which module numbers are asked for each pair, and what must be kept. */
static void number_pairs(struct policy_stack *stack)
{
	const struct stack_program *program = stack->program;
	uint16_t number = 0;

	for (unsigned i = 0; i < program->first[STACK_GROUPS]; i++) {
		const struct stack_line *line = &program->lines[i];

		if (i == program->first[STACK_PAGE])
			stack->pair_first = number;
		if (i == program->first[STACK_AUDIT])
			stack->pair_end = number;
		if (line->op != STACK_OP_MODULE)
			continue;
		number = line->module_number + 1;
	}
	if (program->first[STACK_PAGE] == program->first[STACK_GROUPS])
		stack->pair_first = number;
	if (program->first[STACK_AUDIT] == program->first[STACK_GROUPS])
		stack->pair_end = number;
	stack->keeps = program->may_wait;
}

static bool compile(struct policy_stack *stack, const char *name, const struct stack_finder *finder,
		    struct stack_faults *faults)
{
	struct stack_program *program = stack_compile(name, finder, faults);

	if (!program)
		return false;
	stack->owner = calloc(1, sizeof(*stack->owner));
	if (!stack->owner) {
		stack_program_free(program);
		stack_fault(faults, name, (struct stack_place){0, 0}, "no memory");
		return false;
	}
	stack->owner->refs = 1;
	stack->owner->program = program;
	stack->program = program;
	stack->name = program->name;
	stack->name_len = (uint32_t)strlen(program->name);
	number_pairs(stack);
	return true;
}

static void release_claims(const struct policy *before)
{
	for (uint32_t i = 0; before && i < before->stack_count; i++) {
		const struct policy_stack *stack = &before->stacks[i];

		for (uint32_t j = 0; stack->instances && j < stack->program->module_count; j++)
			stack->instances[j]->claimed = false;
	}
}

static void policy_free(struct policy *policy)
{
	for (uint32_t i = 0; i < policy->stack_count; i++) {
		struct policy_stack *stack = &policy->stacks[i];

		for (uint32_t j = 0; stack->instances && j < stack->program->module_count; j++)
			instance_free(policy->host, stack->instances[j]);
		free(stack->instances);
		free(stack->ended);
		program_unref(stack->owner);
	}
	free(policy->stacks);
	free(policy);
}

struct policy *policy_new(const char *const *names, uint32_t count, const struct stack_finder *finder,
			  const struct policy_host *host, const struct policy *before, struct stack_faults *faults)
{
	struct policy *policy = calloc(1, sizeof(*policy));
	bool good = true;

	if (policy)
		policy->stacks = calloc(count + 1u, sizeof(*policy->stacks));
	if (!policy || !policy->stacks) {
		free(policy);
		stack_fault(faults, POLICY_STACK, (struct stack_place){0, 0}, "no memory");
		return NULL;
	}
	policy->refs = 1;
	policy->host = host;
	for (uint32_t i = 0; i < count; i++) {
		struct policy_stack *stack = &policy->stacks[policy->stack_count];

		if (compile(stack, names[i], finder, faults))
			policy->stack_count++;
		else
			good = false;
	}
	/* All compile before any is opened: opening may start programs. */
	for (uint32_t i = 0; good && host && i < policy->stack_count; i++) {
		struct policy_stack *stack = &policy->stacks[i];

		good &= open_stack(host, stack, stack_of(before, stack->name, strlen(stack->name)), faults);
	}
	release_claims(before);
	policy->fallback = stack_of(policy, POLICY_STACK, strlen(POLICY_STACK));
	if (good && !policy->fallback) {
		stack_fault(faults, POLICY_STACK, (struct stack_place){0, 0},
			    "there is no such stack; it is what everybody gets who names none");
		good = false;
	}
	if (!good) {
		policy_free(policy);
		return NULL;
	}
	return policy;
}

void policy_enter(const struct policy *policy)
{
	for (uint32_t i = 0; i < policy->stack_count; i++) {
		const struct policy_stack *stack = &policy->stacks[i];
		const struct stack_program *program = stack->program;

		for (unsigned j = 0; stack->instances && j < program->first[STACK_GROUPS]; j++) {
			const struct stack_line *line = &program->lines[j];
			struct apikeyd_self *self;

			if (line->op != STACK_OP_MODULE)
				continue;
			self = stack->instances[line->module_number];
			self->path = line->path;
			self->line = line->place.line;
		}
	}
}

const char *policy_path(const char *path)
{
	static char **kept;
	static uint32_t count;
	char **grown;

	for (uint32_t i = 0; i < count; i++) {
		if (strcmp(kept[i], path) == 0)
			return kept[i];
	}
	grown = realloc(kept, (count + 1) * sizeof(*kept));
	if (!grown)
		return NULL;
	kept = grown;
	kept[count] = strdup(path);
	return kept[count] ? kept[count++] : NULL;
}

struct policy *policy_ref(struct policy *policy)
{
	policy->refs++;
	return policy;
}

void policy_unref(struct policy *policy)
{
	if (policy && --policy->refs == 0)
		policy_free(policy);
}

struct policy_stack *policy_find(struct policy *policy, const char *name, size_t len)
{
	if (!name)
		return (struct policy_stack *)(uintptr_t)policy->fallback;
	return (struct policy_stack *)(uintptr_t)stack_of(policy, name, len);
}
