#include "daemon/confine/confine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "daemon/confine/landlock.h"
#include "daemon/confine/names.h"
#include "daemon/confine/needs.h"
#include "daemon/confine/privileges.h"
#include "daemon/confine/reach.h"
#include "daemon/confine/seccomp.h"
#include "daemon/log.h"
#include "proto/value.h"

enum { TEXT_SIZE = 256 };

struct confine {
	struct reach reach;
	const char *seccomp;   /* what is in force, in the setting's words */
	unsigned landlock;     /* version; 0: none */
	uint64_t out_of_reach; /* what reloads asked for in vain */
};

/* ---- landlock ---- */

struct allowing {
	struct confine *confine;
	const struct landlock *landlock;
	bool any_port;
	int rc; /* the first that went wrong */
};

static void allow_path(struct allowing *allowing, const char *path, unsigned use)
{
	struct stat st;
	int rc, fd = open(path, O_PATH | O_CLOEXEC);

	if (fd < 0)
		return;
	rc = fstat(fd, &st) ? -errno : landlock_allow(allowing->landlock, fd, S_ISDIR(st.st_mode), use);
	if (rc == 0 && !reach_add(&allowing->confine->reach, &st, use))
		rc = -ENOMEM;
	if (rc != 0 && allowing->rc == 0)
		allowing->rc = rc;
	close(fd);
}

/* Where it is, and where it leads. The whole of / is nobody's directory: there it is the file alone. */
static void allow_file(struct allowing *allowing, const char *path, unsigned use)
{
	char target[PATH_MAX], directory[PATH_MAX], at[PATH_MAX];
	const char *const both[] = {path, realpath(path, target)};

	allow_path(allowing, path, use);
	for (unsigned i = 0; i < 2 && both[i]; i++) {
		reach_directory(both[i], directory, sizeof(directory));
		if (realpath(directory, at) && strcmp(at, "/") != 0)
			allow_path(allowing, at, use);
	}
}

static void on_need(void *data, const struct need *need)
{
	struct allowing *allowing = data;
	int rc = 0;

	if (need->abstract) {
		return; /* asked for before, see on_wish */
	} else if (!need->path) {
		if (!reach_add_port(&allowing->confine->reach, need->port))
			rc = -E2BIG;
		else if (!allowing->any_port)
			rc = landlock_allow_port(allowing->landlock, need->port);
		if (rc != 0 && allowing->rc == 0)
			allowing->rc = rc;
	} else if (need->kind == NEEDS_FILE) {
		allow_file(allowing, need->path, need->use);
	} else {
		allow_path(allowing, need->path, need->use);
	}
}

/* A file is where its directory is, as it was allowed. */
static enum reach_found find(const struct reach *reach, const struct need *need)
{
	char directory[PATH_MAX], at[PATH_MAX];

	if (need->kind == NEEDS_TREE || realpath(need->path, at))
		return reach_find(reach, need->path, need->use);
	reach_directory(need->path, directory, sizeof(directory));
	if (realpath(directory, at) && strcmp(at, "/") == 0)
		return REACH_NOTHING;
	return reach_find(reach, directory, need->use);
}

/* Said once at the start, so that nobody wonders later. */
static void on_need_missing(void *data, const struct need *need)
{
	const struct confine *confine = data;

	if (need->path && need->of != NEEDS_OF_SYSTEM && find(&confine->reach, need) != REACH_IN)
		log_info("confine: %s: %s: is not there; once it is, it takes a restart to be read", need->what,
			 need->path);
}

/* What is restricted at all has to be said before what is allowed of it. */
static void on_wish(void *data, const struct need *need)
{
	struct landlock_wish *wish = data;

	wish->abstract |= need->abstract;
	wish->any_port |= !need->path && !need->abstract && need->port == 0;
}

static int restrict_files(struct confine *confine, int version, const char *path, const struct config *config,
			  const struct policy *policy)
{
	struct landlock_wish wish = {0};
	struct landlock landlock;
	struct allowing allowing = {.confine = confine, .landlock = &landlock};
	int rc;

	needs_each(path, config, policy, on_wish, &wish);
	allowing.any_port = wish.any_port;
	rc = landlock_begin(&landlock, version, &wish);
	if (rc != 0)
		return rc;
	needs_each(path, config, policy, on_need, &allowing);
	rc = allowing.rc ? allowing.rc : landlock_enforce(&landlock);
	landlock_end(&landlock);
	confine->reach.any_port |= version < LANDLOCK_VERSION_TCP;
	confine->reach.abstract = wish.abstract || version < LANDLOCK_VERSION_ABSTRACT;
	return rc;
}

/* 0 with what is in force in `told`; or -errno where it is required and cannot be had. */
static int begin_landlock(struct confine *confine, const char *path, const struct config *config,
			  const struct policy *policy, char told[TEXT_SIZE])
{
	int version, rc;

	confine->reach.any_path = confine->reach.any_port = confine->reach.abstract = true;
	snprintf(told, TEXT_SIZE, "landlock off");
	if (config->landlock == CONFIG_CONFINE_OFF) {
		log_warning("confine: landlock = off: files and ports are not restricted");
		return 0;
	}
	version = landlock_version();
	rc = version;
	if (version > 0) {
		confine->reach.any_path = confine->reach.any_port = false;
		rc = restrict_files(confine, version, path, config, policy);
	}
	if (rc == 0) {
		confine->landlock = (unsigned)version;
		needs_each(path, config, policy, on_need_missing, confine);
		snprintf(told, TEXT_SIZE, "landlock version %d (files%s%s)", version,
			 confine->reach.any_port ? "" : ", ports", confine->reach.abstract ? "" : ", abstract sockets");
		return 0;
	}
	confine->reach.any_path = confine->reach.any_port = confine->reach.abstract = true;
	if (config->landlock == CONFIG_CONFINE_REQUIRE) {
		snprintf(told, TEXT_SIZE,
			 "[confine] landlock = require: this kernel does not have it, or not for us: %s; boot with it "
			 "(lsm=landlock,...), or set enforce",
			 strerror(-rc));
		return rc;
	}
	log_warning("confine: no landlock: %s; files and ports are not restricted by the daemon itself", strerror(-rc));
	return 0;
}

/* ---- seccomp ---- */

static int begin_seccomp(struct confine *confine, const struct config *config, pid_t broker, char told[TEXT_SIZE])
{
	const struct seccomp_wish wish = {
		.only_log = config->seccomp == CONFIG_CONFINE_LOG, .new_code = config->new_code, .broker = broker};
	char error[TEXT_SIZE / 2];
	unsigned count = 0;
	int rc;

	confine->seccomp = "off";
	snprintf(told, TEXT_SIZE, "seccomp off");
	if (config->seccomp == CONFIG_CONFINE_OFF) {
		log_warning("confine: seccomp = off: system calls are not restricted");
		return 0;
	}
	if (!wish.new_code && !wish.only_log)
		names_load();
	rc = seccomp_enforce(&wish, &count, error, sizeof(error));
	if (rc == 0) {
		confine->seccomp = wish.only_log ? "log" : "enforce";
		snprintf(told, TEXT_SIZE, "seccomp %s, %u system calls%s", wish.only_log ? "logs" : "enforced", count,
			 wish.new_code ? ", new code allowed" : "");
		return 0;
	}
	if (config->seccomp == CONFIG_CONFINE_REQUIRE) {
		snprintf(
			told, TEXT_SIZE,
			"[confine] seccomp = require: this kernel does not have it, or not for us: %s; set enforce to go "
			"on without",
			error);
		return rc;
	}
	log_warning("confine: no seccomp: %s; system calls are not restricted by the daemon itself", error);
	return 0;
}

/* ---- all of it ---- */

/* What holds a thread alone does not hold those that a module has started. */
static void look_for_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned count = 0;

	for (const struct dirent *entry; tasks && (entry = readdir(tasks));)
		count += entry->d_name[0] != '.';
	if (tasks)
		closedir(tasks);
	if (count > 1)
		log_warning(
			"confine: %u thread(s) were started before, by modules: landlock does not hold them, nor are "
			"their capabilities gone; modules are to start threads with the first request",
			count - 1);
}

int confine_start(const char *path, const struct config *config, const struct policy *policy, pid_t broker,
		  struct confine **ret, char *error, size_t error_size)
{
	struct confine *confine = calloc(1, sizeof(*confine));
	char landlock[TEXT_SIZE] = "no memory", seccomp[TEXT_SIZE] = "", *wrong = landlock;
	int rc = -ENOMEM;

	if (!confine)
		goto out;
	wrong = landlock;
	rc = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;
	if (rc != 0)
		snprintf(landlock, sizeof(landlock), "new privileges cannot be ruled out: %s", strerror(-rc));
	if (rc == 0)
		rc = privileges_drop(landlock, sizeof(landlock));
	look_for_threads();
	if (rc == 0)
		rc = begin_landlock(confine, path, config, policy, landlock);
	if (rc == 0) {
		wrong = seccomp;
		rc = begin_seccomp(confine, config, broker, seccomp);
	}
out:
	if (rc != 0) {
		snprintf(error, error_size, "%s", wrong);
		confine_free(confine);
		return rc;
	}
	if (geteuid() == 0)
		log_warning(
			"runs as root, though without its privileges: what root owns it may read and write; start it as a "
			"user of its own");
	log_info("confined: no privileges, %s, %s", landlock, seccomp);
	*ret = confine;
	return 0;
}

/* ---- a reload ---- */

struct checking {
	const struct confine *confine;
	char *text;
	size_t len, size;
	unsigned count;
};

static void miss(struct checking *checking, const struct need *need, const char *name)
{
	char line[PATH_MAX + TEXT_SIZE], clean[PATH_MAX + TEXT_SIZE];
	size_t len;

	checking->count++;
	snprintf(line, sizeof(line),
		 "%s: %s is beyond what the daemon can reach since it was started; that takes a restart", need->what,
		 name);
	len = log_escape(line, strlen(line), clean, sizeof(clean));
	if (checking->len + len + 2 > checking->size)
		return;
	memcpy(checking->text + checking->len, clean, len);
	checking->len += len;
	checking->text[checking->len++] = '\n';
	checking->text[checking->len] = '\0';
}

static void on_need_checked(void *data, const struct need *need)
{
	struct checking *checking = data;
	const struct reach *reach = &checking->confine->reach;
	char name[32];

	if (need->of == NEEDS_OF_SYSTEM || need->of == NEEDS_OF_START)
		return;
	if (need->path) {
		if (find(reach, need) == REACH_OUT)
			miss(checking, need, need->path);
	} else if (need->abstract) {
		if (!reach->abstract)
			miss(checking, need, "an abstract socket");
	} else if (!reach_find_port(reach, need->port)) {
		snprintf(name, sizeof(name), "port %u", (unsigned)need->port);
		miss(checking, need, name);
	}
}

unsigned confine_check(struct confine *confine, const char *path, const struct config *config,
		       const struct policy *policy, char *errors, size_t error_size)
{
	struct checking checking = {.confine = confine, .text = errors, .size = error_size};

	errors[0] = '\0';
	needs_each(path, config, policy, on_need_checked, &checking);
	confine->out_of_reach += checking.count;
	return checking.count;
}

bool confine_stats(const struct confine *confine, struct arena *arena, struct value *map)
{
	struct value *own = value_set(arena, map, "confine");

	if (!own)
		return false;
	value_map(own);
	return value_set_text(arena, own, "seccomp", confine->seccomp) &&
	       value_set_uint(arena, own, "landlock", confine->landlock) &&
	       value_set_uint(arena, own, "out_of_reach", confine->out_of_reach);
}

void confine_free(struct confine *confine)
{
	if (!confine)
		return;
	reach_deinit(&confine->reach);
	free(confine);
}
