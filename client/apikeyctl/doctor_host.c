/* doctor: what is the host's: units, the pepper file, the state directory, descriptors. */
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "client/apikeyctl/doctor.h"
#include "client/apikeyctl/program.h"

/* ---- units ---- */

/* A value of `systemctl show`, which prints a line NAME=VALUE each; cut out of `said` into `out`. */
static const char *unit_value(const char *said, const char *name, char *out, size_t size)
{
	size_t len = strlen(name);

	out[0] = '\0';
	for (const char *line = said; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, len) == 0 && line[len] == '=') {
			snprintf(out, size, "%.*s", (int)strcspn(line + len + 1, "\n"), line + len + 1);
			break;
		}
	}
	return out;
}

static void unit_state(struct doctor *doctor, const char *unit, const char *name, const char *said)
{
	bool socket = strstr(unit, ".socket") != NULL;
	char active[64], enabled[64], status[256], advice[DOCTOR_ADVICE_SIZE];

	unit_value(said, "ActiveState", active, sizeof(active));
	unit_value(said, "UnitFileState", enabled, sizeof(enabled));
	unit_value(said, "StatusText", status, sizeof(status));
	if (strcmp(active, "failed") == 0) {
		snprintf(advice, sizeof(advice), "journalctl -u %s says why; then systemctl restart %s", unit, unit);
		doctor_tell(doctor, name, FINDING_FAILED, advice, "%s, %s", active, enabled);
	} else if (strncmp(enabled, "masked", strlen("masked")) == 0 && socket) {
		doctor_tell(doctor, name, FINDING_OK, NULL, "masked: the daemon makes its own socket");
	} else if (strncmp(enabled, "enabled", strlen("enabled")) != 0) {
		snprintf(advice, sizeof(advice), "systemctl enable --now apikeyd.service");
		doctor_tell(doctor, name, FINDING_WARNING, advice, "%s, %s: it is not started when the host is", active,
			    enabled);
	} else if (strcmp(active, "active") != 0) {
		snprintf(advice, sizeof(advice), "systemctl start %s", unit);
		doctor_tell(doctor, name, FINDING_WARNING,
			    strcmp(active, "activating") == 0 ? "wait, or see systemctl status apikeyd.service"
							      : advice,
			    "%s, %s%s%s", active, enabled, *status ? ": " : "", status);
	} else {
		doctor_tell(doctor, name, FINDING_OK, NULL, "%s, %s%s%s", active, enabled, *status ? ": " : "", status);
	}
}

static void unit_user(struct doctor *doctor, const char *said)
{
	char name[64];
	const struct passwd *entry = getpwnam(unit_value(said, "User", name, sizeof(name)));

	if (!entry)
		return;
	doctor->user_known = true;
	doctor->uid = entry->pw_uid;
	doctor->gid = entry->pw_gid;
	snprintf(doctor->user, sizeof(doctor->user), "%s", entry->pw_name);
}

static void unit_look(struct doctor *doctor, const char *unit, bool tell)
{
	char copy[64], name[80], loaded[64];
	char *argv[] = {(char[]){"systemctl"},
			(char[]){"show"},
			(char[]){"--no-pager"},
			(char[]){"--property=LoadState,UnitFileState,ActiveState,StatusText,User"},
			copy,
			NULL};
	char *said = NULL;
	int code;

	snprintf(copy, sizeof(copy), "%s", unit);
	snprintf(name, sizeof(name), "unit %s", unit);
	code = program_run(argv, &said);
	if (code != 0) {
		if (tell)
			doctor_tell(doctor, name, FINDING_UNKNOWN, NULL, "systemctl cannot be asked: %s",
				    said ? said : strerror(-code));
	} else if (strcmp(unit_value(said, "LoadState", loaded, sizeof(loaded)), "not-found") == 0) {
		if (tell)
			doctor_tell(doctor, name, FINDING_WARNING,
				    "install the package apikeyd, unless something else starts it",
				    "there is no such unit");
	} else {
		doctor->systemd = true;
		if (strcmp(unit, "apikeyd.service") == 0)
			unit_user(doctor, said);
		if (tell)
			unit_state(doctor, unit, name, said);
	}
	free(said);
}

static bool systemd_runs(void)
{
	return access("/run/systemd/system", F_OK) == 0;
}

void doctor_units(struct doctor *doctor, bool tell)
{
	static const char *const units[] = {"apikeyd.service", "apikeyd.socket", "apikeyd-admin.socket"};

	if (!systemd_runs()) {
		if (tell)
			doctor_tell(doctor, "units", FINDING_OK, NULL, "there is no systemd on this host");
		return;
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		unit_look(doctor, units[i], tell);
}

bool doctor_is_running(const struct doctor *doctor)
{
	char *argv[] = {(char[]){"systemctl"}, (char[]){"is-active"}, (char[]){"apikeyd.service"}, NULL};
	char *said = NULL;
	bool active;

	/* A socket of the service manager's starts the daemon that is looked for. */
	if (systemd_runs() && doctor->systemd) {
		active = program_run(argv, &said) == 0;
		free(said);
		return active;
	}
	return access(doctor->check, F_OK) == 0;
}

/* ---- the pepper ---- */

static void pepper_tell(struct doctor *doctor, const struct pepper_file *file, unsigned newest)
{
	uid_t owner = file->credential ? 0 : doctor->uid;
	char advice[DOCTOR_ADVICE_SIZE + PEPPER_PATH_SIZE];

	snprintf(advice, sizeof(advice), "chown %u %s && chmod 0600 %s", (unsigned)owner, file->path, file->path);
	if (file->st.st_mode & 077)
		doctor_tell(doctor, "pepper", FINDING_FAILED, advice,
			    "%s: others can read it (mode %04o): whoever did can make keys of a stolen database",
			    file->path, (unsigned)(file->st.st_mode & 07777));
	else if (doctor->user_known && file->st.st_uid != owner && file->st.st_uid != 0)
		doctor_tell(doctor, "pepper", FINDING_FAILED, advice, "%s belongs to uid %u", file->path,
			    (unsigned)file->st.st_uid);
	else if (doctor->user_known && !file->credential && file->st.st_uid != doctor->uid)
		doctor_tell(doctor, "pepper", FINDING_FAILED, advice,
			    "%s is root's, and the daemon, which runs as %s, reads it itself", file->path,
			    doctor->user);
	else if (newest)
		doctor_tell(doctor, "pepper", FINDING_OK, NULL, "%s: mode %04o, uid %u, mints with version %u",
			    file->path, (unsigned)(file->st.st_mode & 07777), (unsigned)file->st.st_uid, newest);
	else
		doctor_tell(doctor, "pepper", FINDING_UNKNOWN, "run as root",
			    "%s: mode %04o, uid %u; what is in it only root can see", file->path,
			    (unsigned)(file->st.st_mode & 07777), (unsigned)file->st.st_uid);
}

void doctor_pepper(struct doctor *doctor)
{
	const char *setting = settings_get(&doctor->settings, "key", "pepper_file", "credential:pepper");
	struct pepper_file *file = &doctor->pepper;
	char error[PEPPER_LINE_SIZE] = "";
	unsigned newest = 0, version;
	int r = pepper_look(file, setting, error);

	if (r == -ENOENT && file->credential && doctor->loaded) {
		doctor_tell(doctor, "pepper", FINDING_OK, NULL,
			    "%s is not there; the service manager passes the daemon one from elsewhere", file->path);
		return;
	}
	if (r == -ENOENT) {
		doctor_tell(doctor, "pepper", FINDING_FAILED,
			    "apikeyctl setup makes the first host's; other hosts need a copy of that one",
			    "there is no %s", file->path);
		return;
	}
	if (r == -EACCES && file->st.st_nlink == 0) {
		doctor_tell(doctor, "pepper", FINDING_UNKNOWN, "run as root", "%s", error);
		return;
	}
	if (r != 0 && r != -EACCES) {
		doctor_tell(doctor, "pepper", FINDING_FAILED,
			    "put back a good copy: keys of versions that are lost prove no more", "%s", error);
		return;
	}
	for (unsigned i = 0; (version = pepper_version_at(file, i)); i++)
		newest = version;
	pepper_tell(doctor, file, newest);
}

/* ---- the state directory ---- */

enum { STATE_LOW = 64 << 20, STATE_NONE = 4 << 20 };

void doctor_state(struct doctor *doctor)
{
	const char *path = settings_get(&doctor->settings, "state", "directory", "/var/lib/apikeyd");
	struct statvfs space;
	struct stat st;
	uint64_t left;

	if (!*path) {
		doctor_tell(doctor, "state directory", FINDING_WARNING, "name one in apikeyd.conf",
			    "none: what is held denied after a lost history is forgotten with a restart");
		return;
	}
	if (stat(path, &st) != 0) {
		bool there = errno != ENOENT;

		doctor_tell(doctor, "state directory", there ? FINDING_UNKNOWN : FINDING_WARNING,
			    there ? "run as root"
				  : "the unit makes it at the first start; without one, make it by hand",
			    "%s: %s", path, strerror(errno));
		return;
	}
	if (statvfs(path, &space) != 0) {
		doctor_tell(doctor, "state directory", FINDING_UNKNOWN, "run as root", "%s: %s", path, strerror(errno));
		return;
	}
	left = (uint64_t)space.f_bavail * space.f_frsize;
	if (left < STATE_NONE)
		doctor_tell(doctor, "state directory", FINDING_FAILED, "make room on that file system",
			    "%s: no space is left (%llu bytes)", path, (unsigned long long)left);
	else if (doctor->user_known && st.st_uid != doctor->uid && st.st_uid != 0)
		doctor_tell(doctor, "state directory", FINDING_FAILED, "give it to the daemon's user, mode 0700",
			    "%s belongs to uid %u, and the daemon runs as %s", path, (unsigned)st.st_uid, doctor->user);
	else if (left < STATE_LOW)
		doctor_tell(doctor, "state directory", FINDING_WARNING, "make room on that file system",
			    "%s: %llu MiB are left", path, (unsigned long long)(left >> 20));
	else
		doctor_tell(doctor, "state directory", FINDING_OK, NULL, "%s: %llu MiB are left", path,
			    (unsigned long long)(left >> 20));
}

/* ---- descriptors ---- */

enum { DESCRIPTORS_OURS = 64 }; /* as the daemon counts: sockets of its own, the database, files */

void doctor_descriptors(struct doctor *doctor)
{
	static const char wanted[] = "Max open files";
	uint64_t connections = settings_number(&doctor->settings, "limits", "connections", 4096);
	unsigned long long limit = 0;
	char path[64], line[256];
	FILE *file;

	if (!doctor->pid)
		return;
	snprintf(path, sizeof(path), "/proc/%d/limits", (int)doctor->pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, wanted, strlen(wanted)) == 0)
			limit = strtoull(line + strlen(wanted), NULL,
					 10); /* the soft one, which the daemon has raised */
	}
	if (file)
		fclose(file);
	if (limit == 0)
		doctor_tell(doctor, "descriptors", FINDING_UNKNOWN, "run as root, on the daemon's host",
			    "%s does not tell", path);
	else if (limit < connections + DESCRIPTORS_OURS)
		doctor_tell(doctor, "descriptors", FINDING_FAILED,
			    "raise LimitNOFILE= of the unit, or lower limits.connections, then restart the daemon",
			    "the daemon may open %llu files, and limits.connections = %llu needs %llu", limit,
			    (unsigned long long)connections, (unsigned long long)connections + DESCRIPTORS_OURS);
	else
		doctor_tell(doctor, "descriptors", FINDING_OK, NULL,
			    "the daemon may open %llu files, for %llu connections", limit,
			    (unsigned long long)connections);
}
