#include "daemon/user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read_id(const char *text, uint32_t *ret)
{
	uint64_t n = 0;

	if (!*text || strlen(text) > 10 || strspn(text, "0123456789") != strlen(text))
		return false;
	for (; *text; text++)
		n = n * 10 + (uint64_t)(*text - '0');
	if (n >= UINT32_MAX) /* (uid_t)-1 means "leave it" to chown, and nobody to the rest */
		return false;
	*ret = (uint32_t)n;
	return true;
}

bool user_uid(const char *name, uid_t *ret)
{
	struct passwd *entry;

	if (read_id(name, ret))
		return true;
	entry = *name ? getpwnam(name) : NULL;
	if (!entry)
		return false;
	*ret = entry->pw_uid;
	return true;
}

bool user_gid(const char *name, gid_t *ret)
{
	struct group *entry;

	if (read_id(name, ret))
		return true;
	entry = *name ? getgrnam(name) : NULL;
	if (!entry)
		return false;
	*ret = entry->gr_gid;
	return true;
}

const char *user_describe(uid_t uid, char out[USER_NAME_SIZE])
{
	const struct passwd *entry = getpwuid(uid);

	if (entry)
		snprintf(out, USER_NAME_SIZE, "%.40s (%u)", entry->pw_name, (unsigned)uid);
	else
		snprintf(out, USER_NAME_SIZE, "%u", (unsigned)uid);
	return out;
}

const char *user_describe_group(gid_t gid, char out[USER_NAME_SIZE])
{
	const struct group *entry = getgrgid(gid);

	if (entry)
		snprintf(out, USER_NAME_SIZE, "%.40s (%u)", entry->gr_name, (unsigned)gid);
	else
		snprintf(out, USER_NAME_SIZE, "%u", (unsigned)gid);
	return out;
}

static char *trim(char *text)
{
	size_t len;

	text += strspn(text, " \t");
	for (len = strlen(text); len > 0 && strchr(" \t", text[len - 1]); len--)
		;
	text[len] = '\0';
	return text;
}

int user_set_read(const char *names, struct user_set *ret, char *unknown, size_t unknown_size)
{
	char *copy = strdup(names), *rest = copy, *name;
	struct user_set set = {0};
	int rc = copy ? 0 : -ENOMEM;

	while (rc == 0 && (name = strsep(&rest, ","))) {
		uid_t *grown;

		name = trim(name);
		if (!*name)
			continue;
		grown = realloc(set.uids, (set.count + 1) * sizeof(*grown));
		if (!grown) {
			rc = -ENOMEM;
			break;
		}
		set.uids = grown;
		if (!user_uid(name, &set.uids[set.count])) {
			snprintf(unknown, unknown_size, "%s", name);
			rc = -ENOENT;
			break;
		}
		set.count++;
	}
	free(copy);
	if (rc == 0)
		*ret = set;
	else
		user_set_deinit(&set);
	return rc;
}

bool user_set_has(const struct user_set *set, uid_t uid)
{
	for (uint32_t i = 0; i < set->count; i++) {
		if (set->uids[i] == uid)
			return true;
	}
	return false;
}

void user_set_deinit(struct user_set *set)
{
	free(set->uids);
	*set = (struct user_set){0};
}
