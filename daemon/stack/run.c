#include "daemon/stack/run.h"

/* One block: the group itself, or a substack in it. */
struct block {
	bool failed, passed;	       /* passed: a line was ok or done; in key: granted */
	enum apikeyd_code deny, fault; /* the first; APIKEYD_SUCCESS: none */
	const struct stack_line *deny_line, *fault_line;
};

struct run {
	const struct stack_runner *runner;
	bool key; /* the group is `key` */
	bool granted;
	bool charged;
	unsigned depth; /* of blocks; 0 is the group */
	struct block blocks[STACK_DEPTH_MAX];
	/* of the whole group, in the order in which they came */
	enum apikeyd_code fault;
	const struct stack_line *fault_line;
};

const char *effect_word(enum stack_effect effect)
{
	static const char *const words[] = {
		[STACK_EFFECT_NOTHING] = "nothing", [STACK_EFFECT_OK] = "ok",	      [STACK_EFFECT_GRANT] = "granted",
		[STACK_EFFECT_ENDED] = "ended",	    [STACK_EFFECT_FAILED] = "failed", [STACK_EFFECT_DIED] = "died",
		[STACK_EFFECT_PENDING] = "pending",
	};

	return (unsigned)effect < sizeof(words) / sizeof(words[0]) ? words[effect] : "nothing";
}

static void block_init(struct block *block)
{
	*block = (struct block){.deny = APIKEYD_SUCCESS, .fault = APIKEYD_SUCCESS};
}

static void trace(const struct run *run, const struct stack_line *line, enum apikeyd_code code,
		  enum stack_action action, enum stack_effect effect)
{
	if (run->runner->trace)
		run->runner->trace(run->runner->data, line, code, action, effect);
}

static enum apikeyd_code nothing_said(const struct run *run)
{
	return run->key ? APIKEYD_UNKNOWN_KEY : APIKEYD_POLICY;
}

/* Why a block that failed did. */
static enum apikeyd_code why(const struct run *run, const struct block *block, const struct stack_line **ret_line)
{
	if (block->deny != APIKEYD_SUCCESS) {
		*ret_line = block->deny_line;
		return block->deny;
	}
	if (block->fault != APIKEYD_SUCCESS) {
		*ret_line = block->fault_line;
		return block->fault;
	}
	*ret_line = NULL;
	return nothing_said(run);
}

static void tell_against(const struct run *run, const struct stack_line *line, enum stack_class class)
{
	if (run->runner->against)
		run->runner->against(run->runner->data, line, class);
}

static void fail(struct block *block, enum apikeyd_code code, const struct stack_line *line)
{
	block->failed = true;
	if (code_class(code) == STACK_CLASS_DENY && block->deny == APIKEYD_SUCCESS) {
		block->deny = code;
		block->deny_line = line;
	}
}

/* A fault is remembered whatever the line's control makes of it. */
static void remember_fault(struct run *run, struct block *block, enum apikeyd_code code, const struct stack_line *line)
{
	if (block->fault == APIKEYD_SUCCESS) {
		block->fault = code;
		block->fault_line = line;
	}
	if (run->fault == APIKEYD_SUCCESS) {
		run->fault = code;
		run->fault_line = line;
	}
}

/* A line that passed. In key an optional one grants nothing, and then has not passed. */
static enum stack_effect pass(struct run *run, struct block *block, const struct stack_line *line)
{
	if (run->key && line->optional)
		return STACK_EFFECT_NOTHING;
	block->passed = true;
	if (!line->optional && line->module->flags & APIKEYD_ENFORCES_RATE)
		run->charged = true;
	if (!run->key || run->granted)
		return STACK_EFFECT_OK;
	run->granted = true;
	if (run->runner->grant)
		run->runner->grant(run->runner->data, line);
	return STACK_EFFECT_GRANT;
}

/* Returns whether the block ends with this line. */
static bool judge(struct run *run, const struct stack_line *line, enum apikeyd_code code)
{
	struct block *block = &run->blocks[run->depth];
	enum stack_action action = line->actions[code];
	enum stack_effect effect = STACK_EFFECT_FAILED;
	enum stack_class class = code_class(code);
	bool ends = false;

	if (class == STACK_CLASS_FAULT) {
		remember_fault(run, block, code, line);
		tell_against(run, line, class);
	}
	/* The parser lets `ok` and `done` stand with success alone; here nothing hangs on that. */
	if (code != APIKEYD_SUCCESS && (action == STACK_OK || action == STACK_DONE))
		action = STACK_BAD;
	switch (action) {
	case STACK_IGNORE:
		effect = STACK_EFFECT_NOTHING;
		break;
	case STACK_OK:
		effect = pass(run, block, line);
		break;
	case STACK_DONE:
		effect = pass(run, block, line);
		ends = !block->failed;
		if (ends && effect == STACK_EFFECT_OK)
			effect = STACK_EFFECT_ENDED;
		break;
	default:
		fail(block, code, line);
		if (class == STACK_CLASS_DENY)
			tell_against(run, line, class);
		ends = action == STACK_DIE;
		if (ends)
			effect = STACK_EFFECT_DIED;
		break;
	}
	trace(run, line, code, action, effect);
	return ends;
}

/* A substack has ended: it counts as one line of the block around it. */
static void leave(struct run *run, const struct stack_line *line)
{
	const struct block *inner = &run->blocks[run->depth];
	struct block *outer = &run->blocks[--run->depth];
	const struct stack_line *said = NULL;
	enum apikeyd_code code = inner->passed ? APIKEYD_SUCCESS : APIKEYD_IGNORE;
	enum stack_effect effect = inner->passed ? STACK_EFFECT_OK : STACK_EFFECT_NOTHING;

	if (inner->fault != APIKEYD_SUCCESS && outer->fault == APIKEYD_SUCCESS) {
		outer->fault = inner->fault;
		outer->fault_line = inner->fault_line;
	}
	if (inner->failed) {
		code = why(run, inner, &said);
		fail(outer, code, said ? said : line);
		effect = STACK_EFFECT_FAILED;
	} else if (inner->passed) {
		outer->passed = true;
	}
	trace(run, line, code, inner->failed ? STACK_BAD : inner->passed ? STACK_OK : STACK_IGNORE, effect);
}

static void conclude(const struct run *run, struct stack_result *ret)
{
	const struct block *group = &run->blocks[0];

	if (run->key && !run->granted && run->fault != APIKEYD_SUCCESS) {
		ret->code = run->fault;
		ret->line = run->fault_line;
	} else if (group->failed || (run->key && !run->granted)) {
		/* Not granted, and no fault: why() says the first deny, or that nobody knew the key. */
		ret->code = why(run, group, &ret->line);
	} else {
		ret->outcome = STACK_PASSED;
		ret->code = APIKEYD_SUCCESS;
		ret->charged = run->charged;
	}
}

void stack_run(const struct stack_program *program, enum stack_group group, const struct stack_runner *runner,
	       struct stack_result *ret)
{
	struct run run;
	uint16_t at = program->first[group], end = program->first[group + 1];

	*ret = (struct stack_result){.outcome = STACK_FAILED, .code = APIKEYD_POLICY};
	/* Blocks are initialised as they are entered. */
	run.runner = runner;
	run.key = group == STACK_KEY;
	run.granted = false;
	run.charged = false;
	run.depth = 0;
	run.fault = APIKEYD_SUCCESS;
	run.fault_line = NULL;
	block_init(&run.blocks[0]);
	while (at < end) {
		const struct stack_line *line = &program->lines[at++];
		enum apikeyd_code code;

		switch (line->op) {
		case STACK_OP_ENTER:
			block_init(&run.blocks[++run.depth]);
			continue;
		case STACK_OP_LEAVE:
			leave(&run, line);
			continue;
		default:
			break;
		}
		code = code_clean(runner->ask(runner->data, line));
		if (code == APIKEYD_PENDING) {
			trace(&run, line, code, STACK_IGNORE, STACK_EFFECT_PENDING);
			ret->outcome = STACK_WAITS;
			return;
		}
		if (judge(&run, line, code))
			at = line->end;
	}
	conclude(&run, ret);
}
