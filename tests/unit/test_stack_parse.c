/* Stack files: words, lines, controls, and each fault by its very words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/stack/parse.h"
#include "daemon/stack/word.h"

static char text[64 * 1024];
static struct stack_faults faults;

static struct stack_parsed *parse_bytes(const char *bytes, size_t len)
{
	text[0] = '\0';
	faults = (struct stack_faults){.text = text, .size = sizeof(text)};
	return stack_parse("s", bytes, len, &faults);
}

static struct stack_parsed *parse(const char *lines)
{
	return parse_bytes(lines, strlen(lines));
}

/* ---- words of the tables ---- */

static void test_codes(void **state)
{
	unsigned count = 0, seen[REASON_COUNT] = {0};
	enum apikeyd_code code, again;

	(void)state;
	for (; code_at(count, &code); count++) {
		enum reason reason = code_reason(code);
		const char *word = code_word(code);

		assert_int_equal(code_clean(code), code);
		assert_true(code_from_word(word, strlen(word), &again));
		assert_int_equal(again, code);
		assert_false(code_from_word(word, strlen(word) - 1, &again));
		if (code == APIKEYD_IGNORE) {
			assert_int_equal(code_class(code), STACK_CLASS_IGNORE);
			continue;
		}
		assert_int_equal(code_of_reason(reason), code);
		seen[reason]++;
		assert_int_equal(code_class(code), verdict_of(reason) == VERDICT_ALLOW	? STACK_CLASS_SUCCESS
						   : verdict_of(reason) == VERDICT_DENY ? STACK_CLASS_DENY
											: STACK_CLASS_FAULT);
		if (code != APIKEYD_SUCCESS)
			assert_string_equal(word, reason_word(reason));
	}
	assert_int_equal(count, REASON_COUNT + 1); /* and `ignore` */
	for (unsigned i = 0; i < REASON_COUNT; i++)
		assert_int_equal(seen[i], 1);
	assert_false(code_from_word("pending", 7, &code));
	assert_string_equal(code_word(APIKEYD_PENDING), "pending");
	assert_int_equal(code_class(APIKEYD_PENDING), STACK_CLASS_FAULT);
	assert_int_equal(code_class((enum apikeyd_code)0), STACK_CLASS_DENY);
}

/* Whatever number a module returns, it is a code in the end. */
static void test_clean(void **state)
{
	static const int none[] = {-1, 4, 7, 27, 39, 48, 63, 64, 1000, INT32_MAX, INT32_MIN};

	(void)state;
	for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_int_equal(code_clean(none[i]), APIKEYD_MODULE_FAULT);
	assert_int_equal(code_clean(APIKEYD_PENDING), APIKEYD_PENDING);
}

static void test_groups_and_actions(void **state)
{
	enum stack_group group;
	enum stack_action action;

	(void)state;
	for (unsigned i = 0; i < STACK_GROUPS; i++) {
		const char *word = group_word((enum stack_group)i);

		assert_true(group_from_word(word, strlen(word), &group));
		assert_int_equal(group, i);
	}
	for (unsigned i = 0; i < STACK_ACTIONS; i++) {
		const char *word = action_word((enum stack_action)i);

		assert_true(action_from_word(word, strlen(word), &action));
		assert_int_equal(action, i);
	}
	assert_int_equal(group_bit(STACK_CALLER), APIKEYD_GROUP_CALLER);
	assert_int_equal(group_bit(STACK_KEY), APIKEYD_GROUP_KEY);
	assert_int_equal(group_bit(STACK_ACCOUNT), APIKEYD_GROUP_ACCOUNT);
	assert_int_equal(group_bit(STACK_PAGE), APIKEYD_GROUP_PAGE);
	assert_int_equal(group_bit(STACK_SCOPE), APIKEYD_GROUP_SCOPE);
	assert_int_equal(group_bit(STACK_AUDIT), APIKEYD_GROUP_AUDIT);
	assert_false(group_from_word("auth", 4, &group));
	assert_false(action_from_word("reset", 5, &action));
}

static void test_names(void **state)
{
	static const char *const good[] = {"default", "a", "9", "A-b_c.d", "push.v2", "bak", "x.bakery", "rpm"};
	static const char *const bad[] = {"",	       ".hidden", "-x",		 "_x",		 "a b",
					  "a/b",       "a~",	  "default.bak", "default.orig", "x.dpkg-old",
					  "x.rpmsave", "x.rpm",	  "caf\xc3\xa9", "x.dpkg-dist.y"};
	char longest[STACK_NAME_MAX + 2];

	(void)state;
	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(stack_name_ok(good[i], strlen(good[i])));
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(stack_name_ok(bad[i], strlen(bad[i])));
	memset(longest, 'a', sizeof(longest));
	assert_true(stack_name_ok(longest, STACK_NAME_MAX));
	assert_false(stack_name_ok(longest, STACK_NAME_MAX + 1));
}

/* What is passed over cannot be included either; but for what an editor swaps, none of it is a stack's name. */
static void test_left_over(void **state)
{
	static const char *const left[] = {".hidden",	   ".default.swp", "default~",	 "default.bak",
					   "default.orig", "x.swp",	   "x.dpkg-old", "x.rpmsave"};
	static const char *const kept[] = {"default", "bak", "x.bakery", "orig", "a b", "README", "~", "x.bak.v2"};

	(void)state;
	for (unsigned i = 0; i < sizeof(left) / sizeof(left[0]); i++)
		assert_true(stack_left_over(left[i]));
	for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		assert_false(stack_left_over(kept[i]));
}

/* ---- what is right ---- */

static void test_forms(void **state)
{
	struct stack_parsed *p = parse(
		"\xef\xbb\xbf# a comment, of which there are \xc3\xbc\xe2\x82\xac\xf0\x9f\x94\x91\n"
		"\r\n"
		"\t caller\tnone   # said\r\n"
		"   \n"
		"key include other.one\n"
		"account substack  two#2\n"
		"scope [  success=ok\tdefault=bad ] hours a=1 [b=x \\] y\\\\z] c= d=#1 e=a]b f=[::1] [g=\"q\"] h=a\\b #end\n"
		"audit required ledger");
	const struct stack_parsed_line *line;

	(void)state;
	assert_null(p); /* two#2 is no name: a comment begins where a word could */
	assert_string_equal(text,
			    "s:6:19: two#2: cannot be a stack's name; letters, digits, -, _ and ., at most 64, and "
			    "no backup's ending\n");
	p = parse(
		"\xef\xbb\xbf# a comment, of which there are \xc3\xbc\xe2\x82\xac\xf0\x9f\x94\x91\n"
		"\r\n"
		"\t caller\tnone   # said\r\n"
		"   \n"
		"key include other.one\n"
		"account substack  two #2\n"
		"scope [  success=ok\tdefault=bad ] hours a=1 [b=x \\] y\\\\z] c= d=#1 e=a]b f=[::1] [g=\"q\"] h=a\\b #end\n"
		"audit required ledger");
	assert_string_equal(text, "");
	assert_non_null(p);
	assert_int_equal(faults.count, 0);
	assert_int_equal(p->line_count, 5);
	line = &p->lines[0];
	assert_int_equal(line->group, STACK_CALLER);
	assert_int_equal(line->kind, STACK_NONE);
	assert_int_equal(line->place.line, 3);
	assert_int_equal(line->place.column, 3);
	assert_int_equal(line->control_place.column, 10);
	assert_null(line->name);
	line = &p->lines[1];
	assert_int_equal(line->kind, STACK_INCLUDE);
	assert_string_equal(line->name, "other.one");
	assert_int_equal(line->name_place.column, 13);
	line = &p->lines[2];
	assert_int_equal(line->kind, STACK_SUBSTACK);
	assert_int_equal(line->group, STACK_ACCOUNT);
	assert_string_equal(line->name, "two");
	line = &p->lines[3];
	assert_int_equal(line->kind, STACK_MODULE);
	assert_string_equal(line->control_text, "[success=ok default=bad]");
	assert_string_equal(line->name, "hours");
	assert_int_equal(line->argument_count, 8);
	assert_string_equal(line->arguments[0].name, "a");
	assert_string_equal(line->arguments[0].value, "1");
	assert_int_equal(line->arguments[0].place.column, 41);
	assert_int_equal(line->arguments[0].value_place.column, 43);
	assert_string_equal(line->arguments[1].name, "b");
	assert_string_equal(line->arguments[1].value, "x ] y\\z");
	assert_int_equal(line->arguments[1].place.column, 46);
	assert_int_equal(line->arguments[1].value_place.column, 48);
	assert_string_equal(line->arguments[2].value, "");
	assert_string_equal(line->arguments[3].value, "#1");
	assert_string_equal(line->arguments[4].value, "a]b");
	assert_string_equal(line->arguments[5].value, "[::1]");
	assert_string_equal(line->arguments[6].value, "\"q\"");
	assert_string_equal(line->arguments[7].value, "a\\b");
	line = &p->lines[4];
	assert_int_equal(line->place.line, 8);
	assert_string_equal(line->control_text, "required");
	assert_int_equal(line->argument_count, 0);
	stack_parsed_free(p);
}

/* A file with nothing in it parses; whether that is a stack is not the parser's question. */
static void test_empty(void **state)
{
	static const char *const files[] = {"", "\n", "# only this", "\xef\xbb\xbf", "\r\n\r\n", " \t"};

	(void)state;
	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct stack_parsed *p = parse(files[i]);

		assert_non_null(p);
		assert_int_equal(p->line_count, 0);
		stack_parsed_free(p);
	}
	stack_parsed_free(NULL);
}

/* ---- controls ---- */

static struct stack_control control_of(const char *control)
{
	struct stack_control ret;

	text[0] = '\0';
	faults = (struct stack_faults){.text = text, .size = sizeof(text)};
	assert_true(stack_parse_control("s", (struct stack_place){1, 1}, control, strlen(control), &ret, &faults));
	assert_int_equal(faults.count, 0);
	return ret;
}

static void same_control(const char *word, const char *brackets, bool optional)
{
	struct stack_control a = control_of(word), b = control_of(brackets);

	assert_memory_equal(a.actions, b.actions, sizeof(a.actions));
	assert_int_equal(a.optional, optional);
	assert_int_equal(b.optional, optional);
}

/* The table of the manual. */
static void test_control_words(void **state)
{
	(void)state;
	same_control("required", "[success=ok ignore=ignore default=bad]", false);
	same_control("requisite", "[success=ok ignore=ignore default=die]", false);
	same_control("sufficient", "[success=done default=ignore]", false);
	same_control("optional", "[success=ok default=ignore]", true);
	same_control("binding", "[success=done ignore=ignore default=bad]", false);
}

static void test_control_default(void **state)
{
	struct stack_control c = control_of("[stale=ignore\t success=done  ]");
	enum apikeyd_code code;

	(void)state;
	for (unsigned i = 0; code_at(i, &code); i++)
		assert_int_equal(c.actions[code], code == APIKEYD_SUCCESS ? STACK_DONE
						  : code == APIKEYD_STALE ? STACK_IGNORE
									  : STACK_BAD);
	/* What is no code is bad, whatever the default. */
	c = control_of("[default=ignore]");
	assert_int_equal(c.actions[APIKEYD_PENDING], STACK_BAD);
	assert_int_equal(c.actions[63], STACK_BAD);
	assert_int_equal(c.actions[APIKEYD_SUCCESS], STACK_IGNORE);
	assert_false(c.optional);
	assert_true(control_of("[success=ok ignore=ignore default=ignore]").optional);
	assert_false(control_of("[success=ok default=ignore stale=bad]").optional);
	assert_false(control_of("[success=ok default=ignore revoked=die]").optional);
	assert_false(control_of("[success=ok]").optional);
}

/* ---- faults ---- */

static const struct {
	const char *lines, *faults;
} wrong[] = {
	/* groups */
	{"auth required store", "s:1:1: auth: is no group; what PAM does in auth is done in key\n"},
	{"\n  password required x",
	 "s:2:3: password: is no group; PAM's sessions and passwords have no counterpart, so leave the line out\n"},
	{"session none",
	 "s:1:1: session: is no group; PAM's sessions and passwords have no counterpart, so leave the line out\n"},
	{"-account required rate",
	 "s:1:1: -account: is no group; leave the - out: no line is passed over, and a module that is missing is an error\n"},
	{"@include common", "s:1:1: @include: is no group; write <group> include <stack>, once for each group\n"},
	{"sshd account required rate",
	 "s:1:1: sshd: is no group; begin with the group: the stack has the name of its file\n"},
	{"Account none", "s:1:1: Account: is no group; did you mean account?\n"},
	{"acount none", "s:1:1: acount: is no group; did you mean account?\n"},
	{"whatever none", "s:1:1: whatever: is no group; caller, key, account, page, scope or audit\n"},
	{"[key] none", "s:1:1: [key]: is no group; did you mean key?\n"},
	/* what a line lacks, or has too much */
	{"caller", "s:1:1: caller: is not all; a control and a module follow, or include, substack or none\n"},
	{"caller required", "s:1:8: required: is not all; the name of a module follows\n"},
	{"caller include # x", "s:1:8: include: is not all; the name of a stack follows\n"},
	{"caller substack", "s:1:8: substack: is not all; the name of a stack follows\n"},
	{"caller none x", "s:1:13: x: is one word too many; nothing follows none\n"},
	{"caller include a b", "s:1:18: b: is one word too many; nothing follows the name of a stack\n"},
	/* none */
	{"key none", "s:1:5: none: somebody must say whose key it is; write a line with a module that identifies\n"},
	{"page none\npage required x",
	 "s:2:1: page: line 1 says that nothing stands in page; leave one of the two out\n"},
	{"page include x\npage none", "s:2:6: none: line 1 stands in this group; leave one of the two out\n"},
	{"page none\npage none", "s:2:6: none: line 1 says that nothing stands in page; leave one of the two out\n"},
	/* controls */
	{"caller requred x", "s:1:8: requred: is no control; did you mean required?\n"},
	{"caller must x",
	 "s:1:8: must: is no control; required, requisite, sufficient, optional, binding, include, substack, none or "
	 "[code=action ...]\n"},
	{"caller ] x",
	 "s:1:8: ]: is no control; required, requisite, sufficient, optional, binding, include, substack, none or "
	 "[code=action ...]\n"},
	{"caller includes x", "s:1:8: includes: is no control; did you mean include?\n"},
	{"caller [] x", "s:1:8: []: says nothing; write [code=action ...]\n"},
	{"caller [ \t] x", "s:1:8: []: says nothing; write [code=action ...]\n"},
	{"caller [success] x", "s:1:9: success: is no code=action; write both, with no blank at the =\n"},
	{"caller [success = ok] x", "s:1:9: success: is no code=action; write both, with no blank at the =\n"
				    "s:1:17: =: is no code=action; write both, with no blank at the =\n"
				    "s:1:19: ok: is no code=action; write both, with no blank at the =\n"},
	{"caller [success=] x", "s:1:9: success=: is no code=action; write both, with no blank at the =\n"},
	{"caller [=ok] x", "s:1:9: =ok: is no code=action; write both, with no blank at the =\n"},
	{"caller [success=2] x",
	 "s:1:17: 2: is a jump, and a line put in between would change where it lands; put the lines in a file of their own, "
	 "and write substack\n"},
	{"caller [stale=reset] x",
	 "s:1:15: reset: is no action: nothing that was said is forgotten; write ignore, or put the lines before in a "
	 "substack\n"},
	{"caller [success=okay] x", "s:1:17: okay: is no action; did you mean ok?\n"},
	{"caller [success=let_in] x", "s:1:17: let_in: is no action; ok, done, bad, die or ignore\n"},
	{"caller [default=ok] x",
	 "s:1:9: default=ok: a refusal or a fault never passes; ok stands with success alone, so "
	 "write ignore, bad or die\n"},
	{"caller [stale=done] x",
	 "s:1:9: stale=done: a refusal or a fault never passes; done stands with success alone, so "
	 "write ignore, bad or die\n"},
	{"caller [ignore=ok] x",
	 "s:1:9: ignore=ok: a refusal or a fault never passes; ok stands with success alone, so write "
	 "ignore, bad or die\n"},
	{"caller [default=bad default=die] x", "s:1:21: default: is said a second time; say it once\n"},
	{"caller [stale=bad stale=bad] x", "s:1:19: stale: is said a second time; say it once\n"},
	{"caller [user_unknown=bad] x",
	 "s:1:9: user_unknown: is a code of PAM; the one that is nearest here is unknown_key\n"},
	{"caller [pending=bad] x",
	 "s:1:9: pending: is no code that a line is judged by; what never comes is timeout\n"},
	{"caller [sucess=ok] x", "s:1:9: sucess: is no code; did you mean success?\n"},
	{"caller [nonsense=bad] x", "s:1:9: nonsense: is no code; apikeyd-stacks(5) lists them under CODES\n"},
	/* modules and stacks */
	{"caller required pam_permit.so",
	 "s:1:17: pam_permit.so: cannot be a module's name; PAM's modules do not run here; `apikeyctl modules` lists those "
	 "that do\n"},
	{"caller required rate.so", "s:1:17: rate.so: cannot be a module's name; the name without .so\n"},
	{"caller required /lib/rate.so",
	 "s:1:17: /lib/rate.so: cannot be a module's name; a name without a path: all modules are in one directory\n"},
	{"caller required Rate",
	 "s:1:17: Rate: cannot be a module's name; lower case letters, digits and _, at most 32\n"},
	{"caller required abcdefghijklmnopqrstuvwxyz0123456",
	 "s:1:17: abcdefghijklmnopqrstuvwxyz0123456: cannot be a module's name; lower case letters, digits and _, at most "
	 "32\n"},
	{"caller include ../other",
	 "s:1:16: ../other: cannot be a stack's name; letters, digits, -, _ and ., at most 64, and no backup's ending\n"},
	{"caller include other.bak",
	 "s:1:16: other.bak: cannot be a stack's name; letters, digits, -, _ and ., at most 64, and no backup's ending\n"},
	/* arguments */
	{"caller required x nullok", "s:1:19: nullok: is no argument; write name=value, or [name=value with blanks]\n"},
	{"caller required x =1", "s:1:19: =1: is no argument; write name=value, or [name=value with blanks]\n"},
	{"caller required x [a b=1]", "s:1:20: a b=1: is no argument; write name=value, or [name=value with blanks]\n"},
	{"caller required x a=\"b c\"",
	 "s:1:21: \"b: quote marks quote nothing here; a value with blanks is written [name=value with blanks], brackets "
	 "around the whole word\n"
	 "s:1:24: c\": is no argument; write name=value, or [name=value with blanks]\n"},
	{"caller required x a='b'",
	 "s:1:21: 'b': quote marks quote nothing here; a value with blanks is written [name=value with blanks], brackets "
	 "around the whole word\n"},
	{"caller required x a=[b",
	 "s:1:21: [b: begins a bracket that does not end; a value with blanks is written [name=value with blanks], brackets "
	 "around the whole word\n"},
	{"caller required x [a=1 \\n]",
	 "s:1:24: \\n: stands for nothing; in brackets \\] is a bracket and \\\\ a backslash\n"},
	{"caller required x [a=1", "s:1:19: [a=1: has no ] in its line; brackets end there\n"},
	{"caller required x [a=1\\]", "s:1:19: [a=1\\]: has no ] in its line; brackets end there\n"},
	{"caller required x [a=1]b", "s:1:24: b: stands right behind a bracket; put a blank between\n"},
	{"caller required x [a=1]#b", "s:1:24: #b: stands right behind a bracket; put a blank between\n"},
	{"caller required x [a=1][b=2]", "s:1:24: [b=2]: stands right behind a bracket; put a blank between\n"},
	/* lines that go on: what they go on in is passed over */
	{"caller required \\\n x\\\n y\ncaller",
	 "s:1:17: \\: a line is not continued on the next one; write it in one line, however long\n"
	 "s:4:1: caller: is not all; a control and a module follow, or include, substack or none\n"},
	{"caller [success=ok \\ \n default=bad] x",
	 "s:1:20: \\: a line is not continued on the next one; write it in one line, however long\n"},
	{"caller required x a=b\\\nkey required y",
	 "s:1:22: \\: a line is not continued on the next one; write it in one line, however long\n"},
	/* characters */
	{"# caf\xe9", "s:1:6: \\xe9: is no UTF-8; a stack file is UTF-8 text\n"},
	{"caller \xc0\xaf", "s:1:8: \\xc0: is no UTF-8; a stack file is UTF-8 text\n"},
	{"caller \xe0\x9f\xbf", "s:1:8: \\xe0: is no UTF-8; a stack file is UTF-8 text\n"},
	{"caller \xf0\x8f\xbf\xbf", "s:1:8: \\xf0: is no UTF-8; a stack file is UTF-8 text\n"},
	{"caller \xed\xa0\x80", "s:1:8: \\xed: is no UTF-8; a stack file is UTF-8 text\n"},
	{"caller \xf4\x90\x80\x80", "s:1:8: \\xf4: is no UTF-8; a stack file is UTF-8 text\n"},
	{"caller \xe2\x82", "s:1:8: \\xe2: is no UTF-8; a stack file is UTF-8 text\n"},
	{"caller\rnone", "s:1:7: \\x0d: is a carriage return that ends no line; lines end with a line feed\n"},
	{"caller none\r", "s:1:12: \\x0d: is a carriage return that ends no line; lines end with a line feed\n"},
	{"caller none\r\r\n", "s:1:12: \\x0d: is a carriage return that ends no line; lines end with a line feed\n"},
	{"# \x1b[2J", "s:1:3: \\x1b: is a control character; a stack file is text\n"},
	{"# \x7f", "s:1:3: \\x7f: is a control character; a stack file is text\n"},
	{"# \xc2\x85", "s:1:3: \\xc2\\x85: is a character that cannot be seen; leave it out\n"},
	{"# \xe2\x80\xae", "s:1:3: \\xe2\\x80\\xae: is a character that cannot be seen; leave it out\n"},
	{"caller\xc2\xa0none", "s:1:7: \\xc2\\xa0: is a blank that parts no words; write a plain blank\n"},
	{"caller none\n\xef\xbb\xbf", "s:2:1: \\xef\\xbb\\xbf: is a character that cannot be seen; leave it out\n"},
	/* all that is wrong in a file, and all in a line */
	{"auth none\npage required x\nkey requred Y z",
	 "s:1:1: auth: is no group; what PAM does in auth is done in key\n"
	 "s:3:5: requred: is no control; did you mean required?\n"
	 "s:3:13: Y: cannot be a module's name; lower case letters, digits and _, at most 32\n"
	 "s:3:15: z: is no argument; write name=value, or [name=value with blanks]\n"},
};

static void test_faults(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		unsigned count = 0;

		assert_null(parse(wrong[i].lines));
		assert_string_equal(text, wrong[i].faults);
		for (const char *p = text; *p; p++)
			count += *p == '\n';
		assert_int_equal(faults.count, count);
	}
}

static void test_characters(void **state)
{
	static const char *const fine[] = {
		"\t", "~", "\xc2\xa1", "\xc2\xac", "\xe2\x80\xb0", "\xe3\x80\x81", "\xef\xbf\xbd", "\xf0\x90\x80\x80"};
	static const char *const unseen[] = {"\xc2\xad",     "\xd8\x9c",     "\xe1\xa0\x8e", "\xe2\x80\x8b",
					     "\xe2\x80\x8f", "\xe2\x80\xa8", "\xe2\x80\xad", "\xe2\x81\xa0",
					     "\xe2\x81\xaf", "\xef\xbb\xbf", "\xef\xbf\xb9", "\xf3\xa0\x80\x81"};
	static const char *const blank[] = {"\xc2\xa0",	    "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x8a",
					    "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};
	size_t at, len;
	const char *why;

	(void)state;
	for (unsigned i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
		assert_true(word_text_ok(fine[i], strlen(fine[i]), &at, &len, &why));
	for (unsigned i = 0; i < sizeof(unseen) / sizeof(unseen[0]); i++) {
		assert_false(word_text_ok(unseen[i], strlen(unseen[i]), &at, &len, &why));
		assert_int_equal(len, strlen(unseen[i]));
		assert_string_equal(why, "is a character that cannot be seen; leave it out");
	}
	for (unsigned i = 0; i < sizeof(blank) / sizeof(blank[0]); i++) {
		assert_false(word_text_ok(blank[i], strlen(blank[i]), &at, &len, &why));
		assert_string_equal(why, "is a blank that parts no words; write a plain blank");
	}
}

static void test_nul(void **state)
{
	static const char bytes[] = "caller none\0\nkey \0";

	(void)state;
	assert_null(parse_bytes(bytes, sizeof(bytes) - 1));
	assert_string_equal(text, "s:1:12: \\x00: is a NUL byte; a stack file is text\n"
				  "s:2:5: \\x00: is a NUL byte; a stack file is text\n");
}

/* ---- limits, each from both sides ---- */

static char *filled(size_t size, char c)
{
	char *block = malloc(size + 1);

	assert_non_null(block);
	memset(block, c, size);
	block[size] = '\0';
	return block;
}

static void test_long_line(void **state)
{
	char *line = filled(STACK_LINE_MAX + 1, '#');
	struct stack_parsed *p = parse_bytes(line, STACK_LINE_MAX);

	(void)state;
	assert_non_null(p);
	stack_parsed_free(p);
	assert_null(parse_bytes(line, STACK_LINE_MAX + 1));
	assert_string_equal(text, "s:1:4097: #: the line goes on for 4097 bytes; at most 4096 fit\n");
	free(line);
}

static void test_many_lines(void **state)
{
	static const char line[] = "page required x\n";
	size_t step = sizeof(line) - 1;
	char *file = filled((STACK_LINES_MAX + 1) * step, '\n');
	struct stack_parsed *p;

	(void)state;
	for (size_t i = 0; i <= STACK_LINES_MAX; i++)
		memcpy(file + i * step, line, step);
	p = parse_bytes(file, STACK_LINES_MAX * step);
	assert_non_null(p);
	assert_int_equal(p->line_count, STACK_LINES_MAX);
	stack_parsed_free(p);
	assert_null(parse_bytes(file, (STACK_LINES_MAX + 1) * step));
	assert_string_equal(text, "s:1025:1: page: is one line too many; at most 1024 stand in a file\n");
	free(file);
}

static void test_big_file(void **state)
{
	char *file = filled(STACK_FILE_MAX + 1, '\n');
	struct stack_parsed *p = parse_bytes(file, STACK_FILE_MAX);

	(void)state;
	assert_non_null(p);
	stack_parsed_free(p);
	assert_null(parse_bytes(file, STACK_FILE_MAX + 1));
	assert_string_equal(text, "s: is 262145 bytes long; at most 262144 fit\n");
	free(file);
}

static void test_many_words(void **state)
{
	char line[512] = "page required x";
	struct stack_parsed *p;

	(void)state;
	for (unsigned i = 0; i < STACK_ARGUMENTS_MAX; i++)
		strcat(line, " a=1");
	p = parse(line);
	assert_non_null(p);
	assert_int_equal(p->lines[0].argument_count, STACK_ARGUMENTS_MAX);
	stack_parsed_free(p);
	strcat(line, " b=2");
	assert_null(parse(line));
	assert_string_equal(text, "s:1:145: b=2: is one word too many; a module takes at most 32 arguments\n");
}

/* ---- the list of faults ---- */

static void test_fault_list(void **state)
{
	char small[32];
	struct stack_faults list = {.text = small, .size = sizeof(small)};
	struct stack_place place = {3, 4};

	(void)state;
	small[0] = '\0';
	stack_fault(&list, "p", place, "a\nb\tc");
	assert_string_equal(small, "p:3:4: a?b?c\n");
	stack_fault(&list, "p", place, "a\nb\tc"); /* told already */
	assert_int_equal(list.count, 1);
	stack_fault(&list, "p", (struct stack_place){0, 0}, "0123456789abcdef"); /* finds no room */
	assert_string_equal(small, "p:3:4: a?b?c\n");
	assert_int_equal(list.count, 2);
	stack_fault(&list, "p", (struct stack_place){0, 0}, "0123456789abcd"); /* just does */
	assert_string_equal(small, "p:3:4: a?b?c\np: 0123456789abcd\n");
	assert_int_equal(list.len, 31);
	assert_int_equal(list.count, 3);
	stack_fault(&list, "p", place, "a?b?"); /* the beginning of another is another */
	assert_int_equal(list.count, 4);
}

/* ---- and in parts ---- */

struct parts {
	char text[1400];
	unsigned count;
};

static void on_part(void *data, const char *part_path, struct stack_place place, const char *word, size_t word_len,
		    const char *what)
{
	struct parts *parts = data;

	parts->count++;
	snprintf(parts->text, sizeof(parts->text), "%s|%u|%u|%.*s|%s", part_path, place.line, place.column,
		 (int)word_len, word, what);
}

static void test_fault_parts(void **state)
{
	struct parts parts = {.count = 0};
	char small[2] = "", long_word[2000];
	struct stack_faults list = {.text = small, .size = sizeof(small), .part = on_part, .data = &parts};
	struct stack_place place = {3, 4};

	(void)state;
	stack_fault(&list, "/d/p", place, "%s: is no group; write %s", "[a: b]", "key");
	assert_string_equal(parts.text, "/d/p|3|4|[a: b]|is no group; write key");
	stack_fault(&list, "p", place, "none: somebody must");
	assert_string_equal(parts.text, "p|3|4|none|somebody must");
	stack_fault(&list, "p", place, "%s=: has no value", "by");
	assert_string_equal(parts.text, "p|3|4|by=|has no value");
	stack_fault(&list, "p", place, "holds no line: none at all");
	assert_string_equal(parts.text, "p|3|4||holds no line: none at all");
	stack_fault(&list, "p", (struct stack_place){0, 0}, "no memory");
	assert_string_equal(parts.text, "p|0|0||no memory");
	/* one that finds no room is told; one so long that its word is cut has none */
	assert_string_equal(small, "");
	memset(long_word, 'x', sizeof(long_word) - 1);
	long_word[sizeof(long_word) - 1] = '\0';
	stack_fault(&list, "p", place, "%s: is long", long_word);
	assert_int_equal(strlen(parts.text), strlen("p|3|4||") + 1023 - strlen("p:3:4: "));
	assert_int_equal(parts.count, 6);
}

static void test_shown(void **state)
{
	char out[WORD_SHOWN_SIZE], long_word[200];

	(void)state;
	assert_string_equal(word_shown("a\xc3\xa9\x80\xe2\x80\x8b\n", 8, out), "a\xc3\xa9\\x80\\xe2\\x80\\x8b\\x0a");
	memset(long_word, 'x', sizeof(long_word));
	word_shown(long_word, sizeof(long_word), out);
	assert_int_equal(strlen(out), WORD_SHOWN_SIZE - 1);
	assert_string_equal(out + WORD_SHOWN_SIZE - 5, "x...");
	memset(long_word, '\xff', sizeof(long_word));
	word_shown(long_word, sizeof(long_word), out);
	assert_string_equal(out + strlen(out) - 7, "\\xff...");
	assert_string_equal(word_shown("", 0, out), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_groups_and_actions),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_left_over),
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_control_words),
		cmocka_unit_test(test_control_default),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_characters),
		cmocka_unit_test(test_long_line),
		cmocka_unit_test(test_many_lines),
		cmocka_unit_test(test_big_file),
		cmocka_unit_test(test_many_words),
		cmocka_unit_test(test_fault_list),
		cmocka_unit_test(test_fault_parts),
		cmocka_unit_test(test_shown),
	};

	return cmocka_run_group_tests_name("stack_parse", tests, NULL, NULL);
}
