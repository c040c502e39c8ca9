/* Controls: the five words, and [code=action ...]. */
#include <string.h>

#include "daemon/stack/parse.h"
#include "daemon/stack/word.h"

/* What a control says about each code, while it is read. */
struct reading {
	const char *path;
	struct stack_faults *faults;
	bool listed[APIKEYD_CODE_END];
	bool has_default;
	enum stack_action by_default;
	struct stack_control control;
};

static const struct {
	const char *word;
	enum stack_action success, ignore, others;
} controls[] = {
	{"required", STACK_OK, STACK_IGNORE, STACK_BAD},	{"requisite", STACK_OK, STACK_IGNORE, STACK_DIE},
	{"sufficient", STACK_DONE, STACK_IGNORE, STACK_IGNORE}, {"optional", STACK_OK, STACK_IGNORE, STACK_IGNORE},
	{"binding", STACK_DONE, STACK_IGNORE, STACK_BAD},
};

enum { CONTROLS = sizeof(controls) / sizeof(controls[0]) };

/* What PAM calls what is called otherwise here. */
static const struct {
	const char *theirs, *ours;
} pam_codes[] = {
	{"auth_err", "unknown_key"},
	{"user_unknown", "unknown_key"},
	{"cred_err", "unknown_key"},
	{"perm_denied", "policy"},
	{"abort", "policy"},
	{"acct_expired", "expired"},
	{"cred_expired", "expired"},
	{"new_authtok_reqd", "expired"},
	{"authtok_expired", "expired"},
	{"maxtries", "rate_limited"},
	{"cred_insufficient", "scope_not_granted"},
	{"authinfo_unavail", "not_loaded, stale or behind"},
	{"cred_unavail", "not_loaded, stale or behind"},
	{"try_again", "overload"},
	{"system_err", "module_fault"},
	{"service_err", "module_fault"},
	{"buf_err", "module_fault"},
	{"open_err", "module_fault"},
	{"symbol_err", "module_fault"},
	{"module_unknown", "nothing: a module that is missing is an error"},
};

static const char *control_at(const void *data, unsigned i)
{
	static const char *const others[] = {"include", "substack", "none"};

	(void)data;
	if (i < CONTROLS)
		return controls[i].word;
	return i - CONTROLS < sizeof(others) / sizeof(others[0]) ? others[i - CONTROLS] : NULL;
}

static const char *code_word_at(const void *data, unsigned i)
{
	enum apikeyd_code code;

	(void)data;
	if (i == 0)
		return "default";
	return code_at(i - 1, &code) ? code_word(code) : NULL;
}

static const char *action_word_at(const void *data, unsigned i)
{
	(void)data;
	return i < STACK_ACTIONS ? action_word((enum stack_action)i) : NULL;
}

/* A line is optional where its success is `ok`, and nothing it says is bad. */
static bool is_optional(const struct stack_control *control)
{
	enum apikeyd_code code;

	if (control->actions[APIKEYD_SUCCESS] != STACK_OK)
		return false;
	for (unsigned i = 0; code_at(i, &code); i++) {
		if (control->actions[code] == STACK_BAD || control->actions[code] == STACK_DIE)
			return false;
	}
	return true;
}

static bool read_word(const char *path, struct stack_place place, const char *text, size_t len,
		      struct stack_control *ret, struct stack_faults *faults)
{
	struct stack_control control = {.optional = false};
	char shown[WORD_SHOWN_SIZE];
	enum apikeyd_code code;
	const char *near;

	for (unsigned i = 0; i < CONTROLS; i++) {
		if (!word_is(controls[i].word, text, len))
			continue;
		for (unsigned j = 0; code_at(j, &code); j++)
			control.actions[code] = (uint8_t)controls[i].others;
		control.actions[APIKEYD_SUCCESS] = (uint8_t)controls[i].success;
		control.actions[APIKEYD_IGNORE] = (uint8_t)controls[i].ignore;
		control.optional = is_optional(&control);
		*ret = control;
		return true;
	}
	near = word_nearest(text, len, control_at, NULL);
	stack_fault(faults, path, place, "%s: is no control; %s%s%s", word_shown(text, len, shown),
		    near ? "did you mean " : "required, requisite, sufficient, optional, binding, include, substack, ",
		    near ? near : "none or [code=action ...]", near ? "?" : "");
	return false;
}

/* ---- [code=action ...] ---- */

static bool unknown_code(const struct reading *r, struct stack_place place, const char *word, size_t len)
{
	char shown[WORD_SHOWN_SIZE];
	const char *near;

	word_shown(word, len, shown);
	for (size_t i = 0; i < sizeof(pam_codes) / sizeof(pam_codes[0]); i++) {
		if (word_is(pam_codes[i].theirs, word, len)) {
			stack_fault(r->faults, r->path, place,
				    "%s: is a code of PAM; the one that is nearest here is %s", shown,
				    pam_codes[i].ours);
			return false;
		}
	}
	if (word_is("pending", word, len)) {
		stack_fault(r->faults, r->path, place,
			    "%s: is no code that a line is judged by; what never comes is timeout", shown);
		return false;
	}
	near = word_nearest(word, len, code_word_at, NULL);
	stack_fault(r->faults, r->path, place, "%s: is no code; %s%s%s", shown,
		    near ? "did you mean " : "apikeyd-stacks(5) lists them under CODES", near ? near : "",
		    near ? "?" : "");
	return false;
}

static bool unknown_action(const struct reading *r, struct stack_place place, const char *word, size_t len)
{
	char shown[WORD_SHOWN_SIZE];
	const char *right = "ok, done, bad, die or ignore", *wrong = "is no action";
	const char *near = NULL;

	if (len > 0 && word[0] >= '0' && word[0] <= '9') {
		wrong = "is a jump, and a line put in between would change where it lands";
		right = "put the lines in a file of their own, and write substack";
	} else if (word_is("reset", word, len)) {
		wrong = "is no action: nothing that was said is forgotten";
		right = "write ignore, or put the lines before in a substack";
	} else {
		near = word_nearest(word, len, action_word_at, NULL);
	}
	stack_fault(r->faults, r->path, place, "%s: %s; %s%s%s", word_shown(word, len, shown), wrong,
		    near ? "did you mean " : right, near ? near : "", near ? "?" : "");
	return false;
}

/* One code=action. */
static bool read_pair(struct reading *r, struct stack_place place, const char *text, size_t len)
{
	const char *equals = memchr(text, '=', len);
	size_t code_len = equals ? (size_t)(equals - text) : len;
	struct stack_place action_place = {place.line, place.column + (uint32_t)code_len + 1};
	enum apikeyd_code code = APIKEYD_SUCCESS;
	enum stack_action action;
	char shown[WORD_SHOWN_SIZE];
	bool all = word_is("default", text, code_len);

	if (!equals || code_len == 0 || code_len + 1 == len) {
		stack_fault(r->faults, r->path, place,
			    "%s: is no code=action; write both, with no blank at the =", word_shown(text, len, shown));
		return false;
	}
	if (!all && !code_from_word(text, code_len, &code))
		return unknown_code(r, place, text, code_len);
	if (!action_from_word(equals + 1, len - code_len - 1, &action))
		return unknown_action(r, action_place, equals + 1, len - code_len - 1);
	if (all ? r->has_default : r->listed[code]) {
		stack_fault(r->faults, r->path, place, "%s: is said a second time; say it once",
			    word_shown(text, code_len, shown));
		return false;
	}
	if ((action == STACK_OK || action == STACK_DONE) && (all || code != APIKEYD_SUCCESS)) {
		stack_fault(
			r->faults, r->path, place,
			"%s: a refusal or a fault never passes; %s stands with success alone, so write ignore, bad or die",
			word_shown(text, len, shown), action_word(action));
		return false;
	}
	if (all) {
		r->has_default = true;
		r->by_default = action;
	} else {
		r->listed[code] = true;
		r->control.actions[code] = (uint8_t)action;
	}
	return true;
}

static bool read_brackets(const char *path, struct stack_place place, const char *text, size_t len,
			  struct stack_control *ret, struct stack_faults *faults)
{
	struct reading r = {.path = path, .faults = faults, .by_default = STACK_BAD};
	size_t at = 1, end = len - 1;
	enum apikeyd_code code;
	bool good = true, any = false;

	for (;;) {
		size_t from;

		while (at < end && word_is_blank(text[at]))
			at++;
		if (at == end)
			break;
		for (from = at; at < end && !word_is_blank(text[at]);)
			at++;
		any = true;
		good &= read_pair(&r, (struct stack_place){place.line, place.column + (uint32_t)from}, text + from,
				  at - from);
	}
	if (!any) {
		stack_fault(faults, path, place, "[]: says nothing; write [code=action ...]");
		return false;
	}
	if (!good)
		return false;
	for (unsigned i = 0; code_at(i, &code); i++) {
		if (!r.listed[code])
			r.control.actions[code] = (uint8_t)r.by_default;
	}
	r.control.optional = is_optional(&r.control);
	*ret = r.control;
	return true;
}

bool stack_parse_control(const char *path, struct stack_place place, const char *text, size_t len,
			 struct stack_control *ret, struct stack_faults *faults)
{
	if (len >= 2 && text[0] == '[' && text[len - 1] == ']')
		return read_brackets(path, place, text, len, ret, faults);
	return read_word(path, place, text, len, ret, faults);
}
