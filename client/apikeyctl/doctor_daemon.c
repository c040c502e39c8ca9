/* doctor: the daemon itself, by its sockets and what it answers. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "client/apikeyctl/context.h"
#include "client/apikeyctl/doctor.h"
#include "client/apikeyctl/talk.h"

enum { DAEMON_MS = 5000, STARTING_MS = 10000, REVISION_MS = 3000, REVISION_LOOK_MS = 50 };

/* ---- sockets ---- */

/* Whether the setting, a name or a number, names this id; an empty one names nobody in particular. */
static bool is_user(const char *setting, uid_t uid)
{
	const struct passwd *entry = *setting ? getpwnam(setting) : NULL;

	return entry ? entry->pw_uid == uid : strtoul(setting, NULL, 10) == uid && *setting;
}

static bool is_group(const char *setting, gid_t gid)
{
	const struct group *entry = *setting ? getgrnam(setting) : NULL;

	return entry ? entry->gr_gid == gid : strtoul(setting, NULL, 10) == gid && *setting;
}

/* 0 or -errno of connecting. */
static int socket_connect(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, r = 0;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
		r = -errno;
	close(fd);
	return r;
}

static void socket_reach(struct doctor *doctor, const char *name, const char *path, const struct stat *st)
{
	const struct group *group = getgrgid(st->st_gid);
	const struct passwd *owner = getpwuid(st->st_uid);
	int r = socket_connect(path);
	char advice[DOCTOR_ADVICE_SIZE];

	snprintf(advice, sizeof(advice), "run as root, as user %s, or as a member of group %s",
		 owner ? owner->pw_name : "of that uid", group ? group->gr_name : "of that gid");
	if (r == 0 || r == -EAGAIN)
		doctor_tell(doctor, name, FINDING_OK, NULL, "%s: mode %04o, %s:%s, reachable", path,
			    (unsigned)(st->st_mode & 07777), owner ? owner->pw_name : "?",
			    group ? group->gr_name : "?");
	else if (r == -EACCES || r == -EPERM)
		doctor_tell(doctor, name, FINDING_UNKNOWN, advice, "%s: mode %04o; user %u may not connect", path,
			    (unsigned)(st->st_mode & 07777), (unsigned)geteuid());
	else
		doctor_tell(doctor, name, FINDING_FAILED, "start apikeyd", "%s: %s", path,
			    r == -ECONNREFUSED ? "nobody listens there: the daemon has ended" : strerror(-r));
}

/* `section` of the settings; whoever may write to it may ask, or, at the administration socket, try to. */
static void socket_look(struct doctor *doctor, const char *name, const char *section, const char *path,
			const char *mode_fallback)
{
	mode_t mode = (mode_t)strtoul(settings_get(&doctor->settings, section, "mode", mode_fallback), NULL, 8);
	const char *owner = settings_get(&doctor->settings, section, "owner", "");
	const char *group = settings_get(&doctor->settings, section, "group", "");
	char advice[DOCTOR_ADVICE_SIZE];
	struct stat st;

	if (lstat(path, &st) != 0) {
		bool hidden = errno == EACCES;

		doctor_tell(doctor, name, hidden ? FINDING_UNKNOWN : FINDING_FAILED,
			    hidden ? "run as root" : "start apikeyd; see [socket] path", "%s: %s", path,
			    strerror(errno));
		return;
	}
	if (!S_ISSOCK(st.st_mode)) {
		doctor_tell(doctor, name, FINDING_FAILED, "remove it and start apikeyd", "%s is no socket", path);
		return;
	}
	/* Wider than it was meant: of a socket unit it is SocketMode=, which whoever made it so should write down here too. */
	if (st.st_mode & 0777 & ~mode) {
		snprintf(advice, sizeof(advice),
			 "restart the daemon (or SocketMode= of the socket unit), or set [%s] mode = %04o", section,
			 (unsigned)(st.st_mode & 0777));
		doctor_tell(doctor, name, FINDING_FAILED, advice,
			    "%s: mode %04o is wider than the configuration's %04o", path, (unsigned)(st.st_mode & 0777),
			    (unsigned)mode);
		return;
	}
	if ((*owner && !is_user(owner, st.st_uid)) || (*group && !is_group(group, st.st_gid))) {
		doctor_tell(doctor, name, FINDING_FAILED,
			    "restart the daemon (or SocketUser=, SocketGroup= of the socket unit)",
			    "%s belongs to %u:%u, and the configuration says %s:%s", path, (unsigned)st.st_uid,
			    (unsigned)st.st_gid, *owner ? owner : "(any)", *group ? group : "(any)");
		return;
	}
	socket_reach(doctor, name, path, &st);
}

void doctor_sockets(struct doctor *doctor)
{
	const char *section;

	for (size_t i = 0; (section = settings_socket(&doctor->settings, i)); i++)
		socket_look(doctor, section, section,
			    i == 0 ? doctor->check : settings_get(&doctor->settings, section, "path", ""), "0660");
	socket_look(doctor, "admin socket", "admin", doctor->admin, "0600");
}

/* ---- what it answers ---- */

/* One question, without a word on standard error. NULL with `why`. */
static const struct value *ask(struct talk *talk, const char *method, char why[TALK_WHY_SIZE])
{
	const struct value *answer = NULL;

	talk->answered = true;
	if (talk_try(talk, method, NULL, DAEMON_MS, &answer, why) != CTL_DONE) {
		if (!why[0])
			snprintf(why, TALK_WHY_SIZE, "%s is refused", method);
		return NULL;
	}
	return answer;
}

/* Over the check socket, else over the administration socket: whichever this user may reach. */
static const struct value *ask_either(struct doctor *doctor, struct talk *talk, struct ctl *ctl, const char *method,
				      char why[TALK_WHY_SIZE])
{
	const struct value *answer = NULL;

	*ctl = *doctor->ctl;
	ctl->check_socket = doctor->check;
	ctl->admin_socket = doctor->admin;
	for (int i = TALK_CHECK; !answer && i <= TALK_ADMIN; i++) {
		bool closed = access(i == TALK_CHECK ? doctor->check : doctor->admin, W_OK) != 0;

		if (closed && (i == TALK_ADMIN || access(doctor->admin, W_OK) == 0)) {
			snprintf(why, TALK_WHY_SIZE, "%s: %s", i == TALK_CHECK ? doctor->check : doctor->admin,
				 strerror(errno));
			continue;
		}
		talk_close(talk);
		if (talk_open(talk, ctl, (enum talk_socket)i) == CTL_DONE)
			answer = ask(talk, method, why);
	}
	return answer;
}

static void pause_a_little(void)
{
	struct timespec pause = {.tv_nsec = REVISION_LOOK_MS * 1000000};

	while (nanosleep(&pause, &pause) != 0 && errno == EINTR)
		;
}

/* One that has just started, perhaps by the very question, is given the time to load. */
static bool is_starting(const struct value *stats)
{
	const char *state = value_as_text(value_get(value_get(stats, "freshness"), "state"), "");

	return strcmp(state, "not_loaded") == 0 && value_as_uint(value_get(stats, "uptime_ms"), 0) < STARTING_MS;
}

/* Who it is: what belongs to it is judged by that. */
static void learn_user(struct doctor *doctor)
{
	const struct passwd *entry;
	char path[64], line[256];
	unsigned uid = 0, gid = 0;
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)doctor->pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		found |= sscanf(line, "Uid: %u", &uid) == 1;
		(void)(sscanf(line, "Gid: %u", &gid) == 1);
	}
	if (file)
		fclose(file);
	if (!found)
		return;
	entry = getpwuid(uid);
	doctor->user_known = true;
	doctor->uid = uid;
	doctor->gid = gid;
	snprintf(doctor->user, sizeof(doctor->user), "%s", entry ? entry->pw_name : "?");
}

static void freshness_tell(struct doctor *doctor, const struct value *stats)
{
	const struct value *feed = value_get(stats, "feed"), *own = value_get(stats, "freshness");
	const char *state = value_as_text(value_get(own, "state"), "?");
	const char *doing = value_as_text(value_get(feed, "state"), "?");
	const char *server = value_as_text(value_get(feed, "server"), "?");
	unsigned long long age = value_as_uint(value_get(stats, "age_ms"), 0);
	static const char advice[] = "the daemon's log says why; the checks of the database below may, too";

	if (strcmp(state, "fresh") == 0)
		doctor_tell(doctor, "freshness", FINDING_OK, NULL, "fresh: confirmed %llu ms ago, %llu keys, %s", age,
			    (unsigned long long)value_as_uint(value_get(stats, "copy_keys"), 0), server);
	else if (strcmp(state, "not_loaded") == 0)
		doctor_tell(doctor, "freshness", FINDING_FAILED, advice, "not_loaded: no copy yet (%s, %s)", doing,
			    server);
	else
		doctor_tell(doctor, "freshness", strcmp(state, "grace") == 0 ? FINDING_WARNING : FINDING_FAILED, advice,
			    "%s: confirmed %llu ms ago (%s, %s)", state, age, doing, server);
}

/* Nothing where the daemon is older than that. */
static void history_tell(struct doctor *doctor, const struct value *stats)
{
	const struct value *history = value_get(value_get(stats, "feed"), "history");
	unsigned long long kept = value_as_uint(value_get(history, "kept_denied"), 0);
	unsigned long long known = value_as_uint(value_get(history, "known_denials"), 0);

	if (!history)
		return;
	if (value_as_bool(value_get(history, "lost"), false))
		doctor_tell(doctor, "history", FINDING_FAILED, "apikeyctl history show says what to do",
			    "the database has lost history: %llu keys are kept denied%s", kept,
			    value_as_bool(value_get(history, "refusing"), false) ? ", and nothing is answered" : "");
	else if (!value_as_bool(value_get(history, "whole"), true))
		doctor_tell(doctor, "history", FINDING_WARNING, "raise [state] denials",
			    "%llu denials are remembered, and there are more", known);
	else
		doctor_tell(doctor, "history", FINDING_OK, NULL, "nothing is lost, %llu denials are known", known);
}

/* What could not be written: the log said so once. */
static void writing_tell(struct doctor *doctor, const struct value *stats)
{
	const struct value *history = value_get(value_get(stats, "feed"), "history");
	const struct value *ledger = value_get(stats, "ledger");
	const char *trouble = value_as_text(value_get(history, "journal_trouble"), "");
	unsigned long long records = value_as_uint(value_get(ledger, "spool_records"), 0);
	unsigned long long capacity = value_as_uint(value_get(ledger, "spool_capacity"), 0);

	if (*trouble)
		doctor_tell(
			doctor, "journal", FINDING_FAILED, "make room in the state directory, or see to its disk",
			"denials are not written (%s): what is revoked is denied, and might be forgotten in a restart",
			trouble);
	if (!ledger)
		return;
	if (value_as_uint(value_get(ledger, "spool_unsized"), 0))
		doctor_tell(doctor, "spool", FINDING_WARNING,
			    "make room in the state directory and restart, or set the size from before",
			    "there was no room for [ledger] spool_bytes: it has %llu records, of which %llu wait",
			    capacity, records);
	else if (records == capacity)
		doctor_tell(doctor, "spool", FINDING_FAILED, "see ledger.trouble of apikeyctl stats, and the log",
			    "it is full (%llu records): an ALLOW is unavailable, audit_full", records);
	else
		doctor_tell(doctor, "spool", FINDING_OK, NULL, "%llu of %llu records wait for the database", records,
			    capacity);
}

void doctor_daemon(struct doctor *doctor)
{
	char why[TALK_WHY_SIZE] = "";
	const struct value *stats;
	struct talk talk = {0};
	struct ctl ctl;

	stats = ask_either(doctor, &talk, &ctl, "stats", why);
	for (int waited = 0; is_starting(stats) && waited < DAEMON_MS; waited += REVISION_LOOK_MS) {
		pause_a_little();
		stats = ask_either(doctor, &talk, &ctl, "stats", why);
	}
	if (!stats) {
		bool closed = access(doctor->check, W_OK) != 0 && errno == EACCES && access(doctor->admin, W_OK) != 0 &&
			      errno == EACCES;

		doctor_tell(doctor, "hello", closed ? FINDING_UNKNOWN : FINDING_FAILED,
			    closed ? "run as root, or as a user who may ask"
				   : "start apikeyd; its log says why it does not run",
			    "no answer: %s", why);
		talk_close(&talk);
		return;
	}
	doctor->answers = true;
	doctor->loaded = value_as_bool(value_get(stats, "loaded"), false);
	doctor->pid = (pid_t)value_as_uint(value_get(stats, "pid"), 0);
	doctor->rev = value_as_uint(value_get(stats, "rev"), 0);
	doctor->lease_ms = value_as_uint(value_get(value_get(stats, "feed"), "lease_ms"), 0);
	learn_user(doctor);
	doctor_tell(doctor, "hello", FINDING_OK, NULL, "apikeyd %s answers, pid %d, user %s",
		    value_as_text(value_get(stats, "version"), "?"), (int)doctor->pid, doctor->user);
	freshness_tell(doctor, stats);
	history_tell(doctor, stats);
	writing_tell(doctor, stats);
	talk_close(&talk);
}

/* The database's is read first; a daemon that follows has it a moment later. */
void doctor_revision(struct doctor *doctor)
{
	char why[TALK_WHY_SIZE] = "";
	struct talk talk = {0};
	struct ctl ctl;
	unsigned long long rev;
	PGresult *result;

	if (!doctor->answers || !doctor->schema_is_ours)
		return;
	result =
		doctor_query(doctor, "revision", DOCTOR_AS_CHECK, "select coalesce(max(rev), 0) from apikeyd.revision");
	if (!result)
		return;
	rev = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
	PQclear(result);
	for (int waited = 0; doctor->rev < rev && waited < REVISION_MS; waited += REVISION_LOOK_MS) {
		const struct value *stats;

		pause_a_little();
		stats = ask_either(doctor, &talk, &ctl, "stats", why);
		doctor->rev = value_as_uint(value_get(stats, "rev"), doctor->rev);
	}
	talk_close(&talk);
	if (doctor->rev < rev)
		doctor_tell(doctor, "revision", FINDING_FAILED, "the daemon's log says why it does not follow",
			    "the daemon is at %llu, the database at %llu", (unsigned long long)doctor->rev, rev);
	else
		doctor_tell(doctor, "revision", FINDING_OK, NULL, "the daemon has %llu, the database's newest",
			    (unsigned long long)doctor->rev);
}
