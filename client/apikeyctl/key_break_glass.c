/* key break-glass: makes a break-glass key, and the line that makes it good. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/key.h"
#include "client/apikeyctl/talk.h"
#include "client/apikeyctl/text.h"

#define USUAL_FILE "/etc/apikeyd/break-glass.keys"

static int glass_end(const struct ctl *ctl, struct arena *arena, struct value *params, const struct args *args)
{
	enum { HOURS_MAX = 24 };
	const char *hours = args_text(args, "hours");
	uint64_t number;

	if (!hours == !args_text(args, "until"))
		return ctl_say(ctl, CTL_USAGE, "give one of --hours and --until: such a key ends within 24 hours");
	if (!hours)
		return key_mint_when(ctl, arena, params, args, "until", "until");
	if (!text_number(hours, HOURS_MAX, &number) || number == 0)
		return ctl_say(ctl, CTL_USAGE, "--hours does not understand \"%s\": give 1 to 24", hours);
	return value_set_uint(arena, params, "hours", number) ? CTL_DONE : ctl_no_memory(ctl);
}

static int glass_params(const struct ctl *ctl, struct arena *arena, struct value *params, const struct args *args)
{
	static const char *const needed[] = {"org", "page", "scope"};

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (!args_has(args, needed[i]))
			return ctl_say(ctl, CTL_USAGE,
				       "--%s is missing: a break-glass key is good for what is said, and nothing else",
				       needed[i]);
	}
	value_map(params);
	if (!value_set_text(arena, params, "org", args_text(args, "org")) ||
	    !key_mint_list(arena, params, args, "pages", "page", NULL) ||
	    !key_mint_list(arena, params, args, "scopes", "scope", NULL))
		return ctl_no_memory(ctl);
	return glass_end(ctl, arena, params, args);
}

static int glass_unwritten(const struct ctl *ctl, const char *what, int err)
{
	return ctl_say(ctl, CTL_UNAVAILABLE, "%s cannot be written (%s): make another key, and do not use this line",
		       what, strerror(err));
}

/*
 * Without --out the key alone goes to standard output, and with it the line alone: each where a shell can take it. The
 * other of the two is never left out, whatever is.
 */
static int glass_print(const struct ctl *ctl, const struct value *answer, const char *path, const char *key,
		       const char *line)
{
	if (ctl->json)
		return jsonout_print(ctl, key_mint_json(answer, path));
	fprintf(ctl->out, "%s\n", path ? line : key);
	if (fflush(ctl->out) != 0)
		return glass_unwritten(ctl, path ? "the line" : "the key's text", errno);
	if (path)
		ctl_note(ctl, "the key stands in %s, which only its owner may read", path);
	else
		ctl_note(ctl, "This is the only time that the key is shown: keep it now.");
	ctl_note(
		ctl,
		"it ends at %.40s. It is good once this line stands in the file that the stack's line \"key … file path=…\" "
		"names (" USUAL_FILE "), which the daemon reads again by itself:",
		value_as_text(value_get(answer, "expires_at"), "?"));
	if (!path)
		fprintf(ctl->err, "%s\n", line);
	return CTL_DONE;
}

static int glass_run(struct ctl *ctl, const struct args *args)
{
	const char *path = args_text(args, "out"), *key, *line;
	const struct value *answer = NULL;
	struct arena arena = {0};
	struct value params;
	struct talk talk = {0};
	bool made = false;
	int fd = -1, err;
	int code = glass_params(ctl, &arena, &params, args);

	if (!code && path)
		code = key_mint_open(ctl, path, &fd);
	if (!code)
		code = talk_admin(&talk, ctl, "break_glass_mint", &params, &answer);
	if (code)
		goto out;
	key = value_as_text(value_get(answer, "key"), NULL);
	line = value_as_text(value_get(answer, "line"), NULL);
	if (!key || !line) {
		code = ctl_say(ctl, CTL_UNAVAILABLE, "the daemon's answer has no key in it");
		goto out;
	}
	err = path ? key_mint_store(fd, key) : 0;
	if (err) {
		code = glass_unwritten(ctl, path, -err);
		goto out;
	}
	made = true;
	code = glass_print(ctl, answer, path, key, line);
out:
	if (fd >= 0)
		close(fd);
	if (fd >= 0 && !made)
		unlink(path);
	talk_close(&talk);
	arena_clear(&arena);
	return code;
}

static const struct option glass_options[] = {
	{.name = "org", .value = "ORG", .help = "the organization whose pages they are"},
	{.name = "page", .value = "PAGE", .many = true, .help = "good for this page (may be repeated)"},
	{.name = "scope", .value = "SCOPE", .many = true, .help = "good for this scope (may be repeated)"},
	{.name = "hours", .value = "N", .help = "ends in so many hours, 1 to 24"},
	{.name = "until", .value = "TIME", .help = "ends then, within 24 hours"},
	{.name = "out", .value = "FILE", .help = "write the key into this new file, readable by its owner only"},
	{.name = NULL},
};

const struct command command_key_break_glass = {
	.name = "break-glass",
	.summary = "make a key for while the database cannot be reached",
	.details =
		"The key works without the database, for some hours, on some pages. What makes it good is a line in a file on "
		"the daemon's host (" USUAL_FILE
		", where the stack's line \"key … file\" says so): append it there; the daemon sees that by itself. Take it out, "
		"and the key is good no more.\n"
		"The key's text is printed alone on standard output, and the line on standard error; with --out FILE the line "
		"alone is printed on standard output, so that >> puts it where it belongs.",
	.options = glass_options,
	.run = glass_run};
