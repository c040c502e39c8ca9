/* key mint: makes a key and shows it once. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/key.h"
#include "client/apikeyctl/rows.h"
#include "client/apikeyctl/text.h"
#include "client/apikeyctl/wait.h"

/* params[name] = the values of --option; the list is there as soon as it or --narrow-… is given, even empty. */
bool key_mint_list(struct arena *arena, struct value *params, const struct args *args, const char *name,
		   const char *option, const char *flag)
{
	struct value *list;

	if (!args_has(args, option) && (!flag || !args_has(args, flag)))
		return true;
	list = value_set(arena, params, name);
	if (!list)
		return false;
	value_list(list);
	for (size_t i = 0; args_nth(args, option, i); i++) {
		const char *text = args_nth(args, option, i);
		struct value *item = value_add(arena, list);

		if (!item || !value_text(arena, item, text, strlen(text)))
			return false;
	}
	return true;
}

int key_mint_when(const struct ctl *ctl, struct arena *arena, struct value *params, const struct args *args,
		  const char *name, const char *option)
{
	const char *text = args_text(args, option);
	int64_t when;

	if (!text)
		return CTL_DONE;
	if (!text_when(text, (int64_t)time(NULL), &when))
		return ctl_say(ctl, CTL_USAGE,
			       "--%s does not understand \"%s\": give a day (2027-01-31), a time with its zone "
			       "(2027-01-31T12:00:00Z) or a time from now (+30d, +12h)",
			       option, text);
	return value_set_int(arena, params, name, when) ? CTL_DONE : ctl_no_memory(ctl);
}

static int mint_rate(const struct ctl *ctl, struct arena *arena, struct value *params, const struct args *args)
{
	const char *text = args_text(args, "rate");
	uint32_t count, period_s;
	struct value *rate;

	if (!text)
		return CTL_DONE;
	if (!text_rate(text, &count, &period_s))
		return ctl_say(
			ctl, CTL_USAGE,
			"--rate does not understand \"%s\": give COUNT/PERIOD in whole seconds, such as 100/1m or 5/s",
			text);
	rate = value_set(arena, params, "rate");
	if (!rate)
		return ctl_no_memory(ctl);
	value_map(rate);
	if (!value_set_int(arena, rate, "count", count) || !value_set_int(arena, rate, "period_s", period_s))
		return ctl_no_memory(ctl);
	return CTL_DONE;
}

static int mint_params(const struct ctl *ctl, struct arena *arena, struct value *params, const struct args *args)
{
	const char *user = args_text(args, "user"), *org = args_text(args, "org");
	const char *access = args_text(args, "access"), *name = args_text(args, "name");
	int code;

	if (!user == !org)
		return ctl_say(
			ctl, CTL_USAGE,
			"a key acts as one of them: give either --user EMAIL (a person) or --org ORG (automation)");
	if (user && access)
		return ctl_say(ctl, CTL_USAGE,
			       "--access is for organization keys: a user key may do what its user's role allows");
	value_map(params);
	if (!value_set_text(arena, params, "kind", user ? "user" : "organization") ||
	    !value_set_text(arena, params, user ? "user" : "org", user ? user : org) ||
	    (access && !value_set_text(arena, params, "access", access)) ||
	    (name && !value_set_text(arena, params, "name", name)) ||
	    !key_mint_list(arena, params, args, "pages", "page", "narrow-pages") ||
	    !key_mint_list(arena, params, args, "scopes", "scope", "narrow-scopes") ||
	    !key_mint_list(arena, params, args, "networks", "network", "narrow-networks"))
		return ctl_no_memory(ctl);
	code = key_mint_when(ctl, arena, params, args, "not_before", "not-before");
	if (!code)
		code = key_mint_when(ctl, arena, params, args, "expires_at", "expires");
	return code ? code : mint_rate(ctl, arena, params, args);
}

/* The file is made before the key is: one that cannot be written must not cost a key. */
int key_mint_open(const struct ctl *ctl, const char *path, int *ret_fd)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 && errno == EEXIST)
		return ctl_say(ctl, CTL_USAGE, "%s is there already: it is not overwritten, since it may hold a key",
			       path);
	if (fd < 0)
		return ctl_say(ctl, CTL_USAGE, "%s cannot be made: %s", path, strerror(errno));
	*ret_fd = fd;
	return CTL_DONE;
}

static int mint_write(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

int key_mint_store(int fd, const char *key)
{
	int err = mint_write(fd, key, strlen(key));

	if (!err)
		err = mint_write(fd, "\n", 1);
	if (!err && fsync(fd) != 0 && errno != EINVAL)
		err = -errno;
	return err;
}

static int mint_save(const struct ctl *ctl, const char *path, int fd, const char *key, const char *key_id)
{
	int err = key_mint_store(fd, key);

	if (!err)
		return CTL_DONE;
	return ctl_say(ctl, CTL_UNAVAILABLE, "key %s was made, but %s cannot be written (%s): apikeyctl key revoke %s",
		       key_id, path, strerror(-err), key_id);
}

/* With --out the text stands in the file, so the answer names the file and not the key. */
json_t *key_mint_json(const struct value *answer, const char *path)
{
	json_t *document = jsonout_of(answer);

	if (document && path) {
		json_object_del(document, "key");
		if (json_object_set_new(document, "key_file", json_string(path)) != 0) {
			json_decref(document);
			return NULL;
		}
	}
	return document;
}

/* The key alone goes to standard output, so that a shell can take it; all else to standard error. */
static int mint_print(const struct ctl *ctl, const struct value *answer, const char *path, const char *key,
		      const char *key_id)
{
	char done[64];

	if (ctl->json)
		return jsonout_print(ctl, key_mint_json(answer, path));
	if (path) {
		int code = show_record(ctl, key_record, answer);

		if (code)
			return code;
		ctl_note(ctl, "the key stands in %s, which only its owner may read", path);
	} else {
		fprintf(ctl->out, "%s\n", key);
		if (fflush(ctl->out) != 0)
			return ctl_say(ctl, CTL_UNAVAILABLE,
				       "key %s was made, but its text cannot be written (%s): apikeyctl key revoke %s",
				       key_id, strerror(errno), key_id);
		ctl_note(ctl, "This is the only time that the key is shown: keep it now.");
	}
	snprintf(done, sizeof(done), "made key %.20s", key_id);
	rows_note(ctl, done, answer);
	return CTL_DONE;
}

static int mint_run(struct ctl *ctl, const struct args *args)
{
	const char *path = args_text(args, "out"), *key, *key_id;
	const struct value *answer = NULL;
	struct arena arena = {0};
	struct value params;
	struct talk talk = {0};
	bool made = false;
	int fd = -1;
	int code = mint_params(ctl, &arena, &params, args);

	if (!code && path)
		code = key_mint_open(ctl, path, &fd);
	if (!code)
		code = talk_admin(&talk, ctl, "key_mint", &params, &answer);
	if (code)
		goto out;
	made = true;
	key = value_as_text(value_get(answer, "key"), NULL);
	key_id = value_as_text(value_get(answer, "key_id"), "");
	if (!key) {
		code = ctl_say(ctl, CTL_UNAVAILABLE, "the daemon's answer has no key in it: apikeyctl key revoke %s",
			       key_id);
		goto out;
	}
	if (path)
		code = mint_save(ctl, path, fd, key, key_id);
	if (!code)
		code = mint_print(ctl, answer, path, key, key_id);
	if (!code)
		code = wait_after(ctl, args, answer);
out:
	if (fd >= 0)
		close(fd);
	if (fd >= 0 && !made)
		unlink(path);
	talk_close(&talk);
	arena_clear(&arena);
	return code;
}

static const struct option mint_options[] = {
	{.name = "user",
	 .value = "EMAIL",
	 .help = "a user key: acts as this person, whatever their role is at that moment"},
	{.name = "org", .value = "ORG", .help = "an organization key: acts as the organization, over all its pages"},
	{.name = "access", .value = "read|write", .help = "what an organization key may do (default: read)"},
	{.name = "name", .value = "TEXT", .help = "what the key is for"},
	{.name = "page", .value = "PAGE", .many = true, .help = "narrow the key to this page (may be repeated)"},
	{.name = "scope", .value = "SCOPE", .many = true, .help = "narrow the key to this scope (may be repeated)"},
	{.name = "network", .value = "CIDR", .many = true, .help = "narrow the key to this network (may be repeated)"},
	{.name = "narrow-pages", .help = "narrow to the pages given, even if that is none: pages can be added later"},
	{.name = "narrow-scopes", .help = "narrow to the scopes given, even if that is none"},
	{.name = "narrow-networks", .help = "narrow to the networks given, even if that is none"},
	{.name = "not-before", .value = "TIME", .help = "the key is valid from then on"},
	{.name = "expires", .value = "TIME", .help = "the key is valid until then"},
	{.name = "rate", .value = "COUNT/PERIOD", .help = "narrow the key to so many uses, such as 100/1m"},
	{.name = "out", .value = "FILE", .help = "write the key into this new file, readable by its owner only"},
	{.name = NULL},
};

const struct command command_key_mint = {
	.name = "mint",
	.summary = "make a key and show it, once",
	.details =
		"The key's text is made in the daemon, printed on standard output (or written to --out FILE), and stored "
		"nowhere: the database has a keyed hash of it.\n"
		"TIME is a day (2027-01-31, its first moment in UTC), a time with its zone (2027-01-31T12:00:00Z), or a "
		"time from now (+30d, +12h). Narrowing never widens: a key may do what its user or access allows, and of "
		"that what it is narrowed to.",
	.options = mint_options,
	.takes = COMMAND_CHANGE,
	.run = mint_run};
