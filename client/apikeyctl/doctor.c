/* doctor: looks at a daemon, its host and its database, and says of each thing how it is and what to do about it. */
#include "client/apikeyctl/doctor.h"

#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/program.h"
#include "client/apikeyctl/show.h"

static const char *const finding_words[FINDING_STATES] = {
	[FINDING_OK] = "ok",
	[FINDING_WARNING] = "warning",
	[FINDING_FAILED] = "failed",
	[FINDING_UNKNOWN] = "unknown",
};

void doctor_tell(struct doctor *doctor, const char *name, enum finding finding, const char *advice, const char *format,
		 ...)
{
	const struct ctl *ctl = doctor->ctl;
	const char *word = finding_words[finding], *color = ctl->color ? show_color(word) : NULL;
	char *seen = NULL;
	va_list list;
	json_t *row;
	int len;

	va_start(list, format);
	len = vasprintf(&seen, format, list);
	va_end(list);
	if (len < 0) {
		doctor->no_memory = true;
		return;
	}
	doctor->counts[finding]++;
	row = json_pack("{s:s, s:s, s:o, s:o}", "name", name, "state", word, "seen", json_stringn(seen, (size_t)len),
			"advice", advice ? json_string(advice) : json_null());
	if (!row || json_array_append_new(doctor->found, row) != 0)
		doctor->no_memory = true;
	if (!ctl->json && !(ctl->quiet && finding == FINDING_OK)) {
		/* The colour first: what follows is made safe for a terminal, escape sequences and all. */
		fprintf(ctl->out, "%s%-7s%s  ", color ? color : "", word, color ? "\033[0m" : "");
		ctl_print(ctl, "%-22s %s%s%s", name, seen, advice ? "; to do: " : "", advice ? advice : "");
		fflush(ctl->out);
	}
	free(seen);
}

/* The user that the daemon runs as, as far as that can be told without it: the one that the package makes, or this one. */
static void doctor_set_user(struct doctor *doctor)
{
	const struct passwd *entry = getpwnam("apikeyd");

	doctor->user_known = entry || geteuid() == 0;
	if (!entry)
		entry = getpwuid(geteuid());
	doctor->uid = entry ? entry->pw_uid : geteuid();
	doctor->gid = entry ? entry->pw_gid : getegid();
	snprintf(doctor->user, sizeof(doctor->user), "%s", entry ? entry->pw_name : "?");
}

static void doctor_find_binary(struct doctor *doctor)
{
	const char *given = args_text(doctor->args, "apikeyd");

	if (given)
		snprintf(doctor->binary, sizeof(doctor->binary), "%s", given);
	else
		program_beside("daemon/apikeyd", APIKEYCTL_SBIN_DIR "/apikeyd", doctor->binary, sizeof(doctor->binary));
	if (access(doctor->binary, X_OK) != 0)
		doctor->binary[0] = '\0';
}

/* A socket that was named on the command line or in the environment is that one; else it is the configuration's. */
static void doctor_find_sockets(struct doctor *doctor)
{
	const struct ctl *ctl = doctor->ctl;
	bool check = args_text(doctor->args, "socket") || getenv("APIKEYD_SOCKET");
	bool admin = args_text(doctor->args, "admin-socket") || getenv("APIKEYD_ADMIN_SOCKET");

	snprintf(doctor->check, sizeof(doctor->check), "%s",
		 check ? ctl->check_socket : settings_get(&doctor->settings, "socket", "path", ctl->check_socket));
	snprintf(doctor->admin, sizeof(doctor->admin), "%s",
		 admin ? ctl->admin_socket : settings_get(&doctor->settings, "admin", "path", ctl->admin_socket));
}

int doctor_init(struct doctor *doctor, const struct ctl *ctl, const struct args *args)
{
	const char *config = args_text(args, "config");

	*doctor = (struct doctor){.ctl = ctl, .args = args, .config = config ? config : DOCTOR_CONFIG};
	doctor->found = json_array();
	if (!doctor->found)
		return ctl_no_memory(ctl);
	doctor_find_binary(doctor);
	doctor_set_user(doctor);
	doctor_read(doctor);
	doctor_find_sockets(doctor);
	return CTL_DONE;
}

void doctor_deinit(struct doctor *doctor)
{
	PQfinish(doctor->connection);
	pepper_deinit(&doctor->pepper);
	settings_deinit(&doctor->settings);
	json_decref(doctor->found);
	free(doctor->config_said);
	*doctor = (struct doctor){0};
}

int doctor_run(struct doctor *doctor, bool running, bool *ret_running)
{
	bool daemon;

	/* As they need each other: who the daemon is comes before what belongs to it. */
	doctor_configuration(doctor);
	doctor_stacks(doctor);
	doctor_units(doctor, false);
	daemon = running || doctor_is_running(doctor);
	*ret_running = daemon;
	if (daemon) {
		doctor_units(doctor, true);
		doctor_sockets(doctor);
		doctor_daemon(doctor);
		doctor_descriptors(doctor);
	}
	doctor_pepper(doctor);
	doctor_state(doctor);
	doctor_database(doctor);
	if (doctor->connection) {
		doctor_roles(doctor);
		doctor_cluster(doctor);
		if (daemon)
			doctor_revision(doctor);
	}
	if (doctor->no_memory)
		return ctl_no_memory(doctor->ctl);
	return doctor->counts[FINDING_FAILED] ? CTL_DENY : CTL_DONE;
}

void doctor_sum_up(const struct doctor *doctor)
{
	ctl_note(doctor->ctl, "%u ok, %u warnings, %u failed, %u unknown", doctor->counts[FINDING_OK],
		 doctor->counts[FINDING_WARNING], doctor->counts[FINDING_FAILED], doctor->counts[FINDING_UNKNOWN]);
}

json_t *doctor_json(const struct doctor *doctor)
{
	return json_incref(doctor->found);
}

static int doctor_command(struct ctl *ctl, const struct args *args)
{
	struct doctor doctor;
	bool running;
	int code = doctor_refuse_password(ctl, args, "database");

	if (code)
		return code;
	code = doctor_init(&doctor, ctl, args);
	if (!code)
		code = doctor_run(&doctor, true, &running);
	if (code == CTL_DONE && args_has(args, "strict") &&
	    (doctor.counts[FINDING_WARNING] || doctor.counts[FINDING_UNKNOWN]))
		code = CTL_DENY;
	if (code == CTL_DONE || code == CTL_DENY) {
		int printed = ctl->json ? jsonout_print(ctl, doctor_json(&doctor)) : CTL_DONE;

		code = printed ? printed : code;
		if (!ctl->json)
			doctor_sum_up(&doctor);
	}
	doctor_deinit(&doctor);
	return code;
}

static const struct option doctor_options[] = {
	DOCTOR_OPTIONS,
	{.name = "database",
	 .value = "CONNINFO",
	 .help = "look at the database as this user (default: as the daemon connects)"},
	{.name = "strict", .help = "warnings and what is unknown are enough for exit code 1"},
	{.name = NULL},
};

const struct command command_doctor = {
	.name = "doctor",
	.summary = "checks a daemon, its host and its database, and says what to do",
	.details =
		"A line for each check: ok, warning, failed or unknown, its name, what was seen, and what to do. Changes "
		"nothing. Root sees most of it; of what another user may not see it says who can. Where the daemon's "
		"login is not to be had (peer authentication), --database names another, such as an auditor's.\n"
		"Exit code: 0 nothing failed, 1 something failed (with --strict, warnings and unknowns too), 2 usage, 3 the "
		"findings could not be made or written. apikeyctl(1) lists the checks.",
	.options = doctor_options,
	.run = doctor_command};
