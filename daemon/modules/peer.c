/*
 * peer: which users and groups of this host may ask, as the kernel says of the caller.
 *
 * Names are looked up once, when the line is opened. Numbers that stand for whoever could not be translated, such as
 * 65534, name nobody and cannot be listed.
 */
#include "daemon/modules/table.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USER = 0, GROUP }; /* arguments */
enum { OVERFLOW_ID = 65534 };

struct peer {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	uint32_t *uids, *gids;
	uint32_t uid_count, gid_count;
};

/* What the two arguments differ in. */
struct database {
	const char *argument, *noun, *overflow;
	bool (*look_up)(const char *name, uint32_t *ret_id);
};

static bool look_up_user(const char *name, uint32_t *ret_id)
{
	const struct passwd *entry = getpwnam(name);

	if (!entry)
		return false;
	*ret_id = entry->pw_uid;
	return true;
}

static bool look_up_group(const char *name, uint32_t *ret_id)
{
	const struct group *entry = getgrnam(name);

	if (!entry)
		return false;
	*ret_id = entry->gr_gid;
	return true;
}

static const struct database users = {"user", "user", "/proc/sys/kernel/overflowuid", look_up_user};
static const struct database groups = {"group", "group", "/proc/sys/kernel/overflowgid", look_up_group};

static bool is_number(const char *text)
{
	return *text && strspn(text, "0123456789") == strlen(text);
}

/* UINT32_MAX is nobody's: it means "leave it as it is" to chown and its like. */
static bool read_number(const char *text, uint32_t *ret)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno != 0 || number >= UINT32_MAX)
		return false;
	*ret = (uint32_t)number;
	return true;
}

static bool numbers_fit(const struct database *database, const struct apikeyd_value *value, char *error,
			size_t error_size)
{
	uint32_t id;

	for (uint32_t i = 0; i < value->item_count; i++) {
		if (is_number(value->items[i]) && !read_number(value->items[i], &id)) {
			snprintf(error, error_size, "%s: %s is no number of a %s; at most %" PRIu32, database->argument,
				 value->items[i], database->noun, UINT32_MAX - 1);
			return false;
		}
	}
	return true;
}

static int peer_check(enum apikeyd_group group, const struct apikeyd_value *values, char *error, size_t error_size)
{
	(void)group;
	if (!values[USER].given && !values[GROUP].given) {
		snprintf(error, error_size, "user: neither user nor group is given; at least one must be");
		return -EINVAL;
	}
	if (!numbers_fit(&users, &values[USER], error, error_size) ||
	    !numbers_fit(&groups, &values[GROUP], error, error_size))
		return -EINVAL;
	return 0;
}

/* The number that the kernel shows for those it cannot translate. */
static uint32_t overflow_id(const char *path)
{
	unsigned id = OVERFLOW_ID;
	FILE *file = fopen(path, "re");

	if (!file)
		return OVERFLOW_ID;
	if (fscanf(file, "%u", &id) != 1)
		id = OVERFLOW_ID;
	fclose(file);
	return id;
}

static int find_id(const struct database *database, const char *name, uint32_t *ret_id, char *error, size_t error_size)
{
	bool found;

	if (is_number(name)) {
		found = read_number(name, ret_id);
	} else {
		errno = 0;
		found = database->look_up(name, ret_id);
	}
	if (!found && errno != 0 && errno != ENOENT && errno != ESRCH && !is_number(name)) {
		int err = errno;

		snprintf(error, error_size, "%s: '%s' could not be looked up: %s", database->argument, name,
			 strerror(err));
		return -err;
	}
	if (!found) {
		snprintf(error, error_size, "%s: there is no %s '%s'; a name or a number of one", database->argument,
			 database->noun, name);
		return -EINVAL;
	}
	if (*ret_id == OVERFLOW_ID || *ret_id == overflow_id(database->overflow)) {
		snprintf(error, error_size,
			 "%s: '%s' (%" PRIu32 ") stands for everybody whom the kernel cannot translate; another %s",
			 database->argument, name, *ret_id, database->noun);
		return -EINVAL;
	}
	return 0;
}

static int find_ids(const struct database *database, const struct apikeyd_value *value, uint32_t **ret_ids,
		    uint32_t *ret_count, char *error, size_t error_size)
{
	uint32_t *ids;

	if (!value->given)
		return 0;
	ids = calloc(value->item_count, sizeof(*ids));
	if (!ids) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < value->item_count; i++) {
		int rc = find_id(database, value->items[i], &ids[i], error, error_size);

		if (rc != 0) {
			free(ids);
			return rc;
		}
	}
	*ret_ids = ids;
	*ret_count = value->item_count;
	return 0;
}

static void peer_close(void *instance)
{
	struct peer *peer = instance;

	free(peer->uids);
	free(peer->gids);
	free(peer);
}

static int peer_open(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		     void **ret_instance, char *error, size_t error_size)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	int rc;

	if (!peer) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	peer->self = self;
	peer->host = host;
	rc = find_ids(&users, &values[USER], &peer->uids, &peer->uid_count, error, error_size);
	if (rc == 0)
		rc = find_ids(&groups, &values[GROUP], &peer->gids, &peer->gid_count, error, error_size);
	if (rc != 0) {
		peer_close(peer);
		return rc;
	}
	*ret_instance = peer;
	return 0;
}

static bool is_listed(const uint32_t *ids, uint32_t count, uint32_t id)
{
	for (uint32_t i = 0; i < count; i++) {
		if (ids[i] == id)
			return true;
	}
	return false;
}

static enum apikeyd_code peer_start(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	const struct peer *peer = instance;
	char line[128];

	(void)token;
	if (is_listed(peer->uids, peer->uid_count, request->uid) ||
	    is_listed(peer->gids, peer->gid_count, request->gid))
		return APIKEYD_SUCCESS;
	if (request->gids_known) {
		for (uint32_t i = 0; i < request->gid_count && peer->gid_count > 0; i++) {
			if (is_listed(peer->gids, peer->gid_count, request->gids[i]))
				return APIKEYD_SUCCESS;
		}
	}
	if (request->explain) {
		snprintf(line, sizeof(line), "uid %u, gid %u: not listed%s", (unsigned)request->uid,
			 (unsigned)request->gid,
			 request->gids_known || peer->gid_count == 0 ? "" : ", and its other groups could not be read");
		peer->host->detail(peer->self, request, line);
	}
	return APIKEYD_CALLER;
}

static const struct apikeyd_argument arguments[] = {
	[USER] = {.name = "user", .type = APIKEYD_TYPE_LIST, .help = "users that may ask, by name or uid"},
	[GROUP] = {.name = "group", .type = APIKEYD_TYPE_LIST, .help = "groups whose members may ask, by name or gid"},
	{0},
};

const struct apikeyd_module module_peer = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "peer",
	.help = "which users and groups of this host may ask, as the kernel says",
	.groups = APIKEYD_GROUP_CALLER,
	.arguments = arguments,
	.check = peer_check,
	.open = peer_open,
	.start = peer_start,
	.close = peer_close,
};
