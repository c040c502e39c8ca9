/* setup: makes the pepper, the configuration, the database with its roles and schema, and checks all of it. */
#include "client/apikeyctl/setup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/nouns.h"

#define SETUP_CONNINFO "dbname=apikeyd user=apikeyd" /* as apikeyd has it where the file says nothing */

/* ---- what is asked for ---- */

static const char *setup_conninfo(const struct setup *setup)
{
	const char *given = setup->host.config_code == -ENOENT ? args_text(setup->args, "conninfo") : NULL;

	return given ? given : settings_get(&setup->host.settings, "database", "conninfo", SETUP_CONNINFO);
}

static void setup_set(char **place, const char *text)
{
	free(*place);
	*place = strdup(text);
}

/* The names in the daemon's connection string. */
static int setup_names(struct setup *setup)
{
	char *error = NULL;
	PQconninfoOption *options = PQconninfoParse(setup_conninfo(setup), &error);
	int code = CTL_DONE;

	if (!options) {
		code = ctl_say(setup->ctl, CTL_USAGE, "the daemon's conninfo: %s", error ? error : "out of memory");
		PQfreemem(error);
		return code;
	}
	setup->local = true;
	for (const PQconninfoOption *o = options; o->keyword; o++) {
		if (!o->val || !*o->val)
			continue;
		if (strcmp(o->keyword, "dbname") == 0)
			setup_set(&setup->dbname, o->val);
		else if (strcmp(o->keyword, "user") == 0)
			setup_set(&setup->login, o->val);
		else if (strcmp(o->keyword, "host") == 0 || strcmp(o->keyword, "hostaddr") == 0)
			setup->local &= *o->val == '/';
	}
	PQconninfoFree(options);
	if (!setup->login)
		setup_set(&setup->login, setup->host.user);
	if (!setup->dbname)
		setup_set(&setup->dbname, setup->login ? setup->login : "");
	return setup->login && setup->dbname ? CTL_DONE : ctl_no_memory(setup->ctl);
}

static int setup_init(struct setup *setup, const struct ctl *ctl, const struct args *args)
{
	int code;

	*setup = (struct setup){.ctl = ctl, .args = args};
	code = doctor_refuse_password(ctl, args, "database");
	if (!code)
		code = doctor_refuse_password(ctl, args, "conninfo");
	if (!code)
		code = db_directory_read(ctl, args, &setup->directory);
	if (!code)
		code = doctor_init(&setup->host, ctl, args);
	if (!code && setup->host.config_code > 0)
		code = ctl_say(ctl, CTL_USAGE, "%s; next: mend that line, and see that apikeyd -t finds the file fine",
			       setup->host.config_said);
	return code ? code : setup_names(setup);
}

static void setup_deinit(struct setup *setup)
{
	PQfinish(setup->database);
	PQfinish(setup->server);
	pepper_deinit(&setup->pepper);
	db_directory_deinit(&setup->directory);
	doctor_deinit(&setup->host);
	free(setup->dbname);
	free(setup->login);
}

/* ---- the configuration ---- */

static int look_configuration(struct setup *setup, bool *ret_there, char text[SETUP_TEXT_SIZE])
{
	const char *path = setup->host.config;

	*ret_there = access(path, F_OK) == 0 || errno != ENOENT;
	if (*ret_there)
		snprintf(text, SETUP_TEXT_SIZE, "%s is there, and is left as it is", path);
	else
		snprintf(text, SETUP_TEXT_SIZE, "write %s, with conninfo = %s", path, setup_conninfo(setup));
	return CTL_DONE;
}

static int make_configuration(struct setup *setup, char text[SETUP_TEXT_SIZE])
{
	const char *path = setup->host.config;
	FILE *file = fopen(path, "wxe");
	int err = errno;

	if (file) {
		fprintf(file,
			"# apikeyd.conf: what is not written here has its default; see apikeyd.conf(5). `apikeyd -t` tests this\n"
			"# file, `apikeyd -T` prints what is in effect, and SIGHUP makes the daemon read it again.\n"
			"\n[database]\nconninfo = %s\n",
			setup_conninfo(setup));
		err = fflush(file) != 0 || fsync(fileno(file)) != 0 || fchmod(fileno(file), 0644) != 0 ? errno : 0;
		if (fclose(file) != 0)
			err = errno;
		if (err)
			unlink(path);
	}
	if (!file || err) {
		snprintf(text, SETUP_TEXT_SIZE,
			 "%s cannot be written: %s; next: install the package apikeyd, or run as root", path,
			 strerror(err));
		return CTL_REFUSED;
	}
	snprintf(text, SETUP_TEXT_SIZE, "wrote %s", path);
	return CTL_DONE;
}

/* ---- the pepper ---- */

/* The versions that the database's keys were made with, and their check values. NULL: there is no such table yet. */
static PGresult *database_peppers(struct setup *setup)
{
	PGresult *result;

	if (!setup->database)
		return NULL;
	result = PQexec(setup->database,
			"select version, pg_catalog.encode(check_value, 'hex') from apikeyd.pepper order by 1");
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		return result;
	PQclear(result);
	return NULL;
}

/* The file is read again each time: another may have made it meanwhile. */
static int read_pepper(struct setup *setup, char error[PEPPER_LINE_SIZE])
{
	pepper_deinit(&setup->pepper);
	return pepper_look(&setup->pepper,
			   settings_get(&setup->host.settings, "key", "pepper_file", "credential:pepper"), error);
}

/* None of the database's versions is another than the file's. */
static int compare_peppers(struct setup *setup, const PGresult *known, char text[SETUP_TEXT_SIZE])
{
	char value[PEPPER_HEX_SIZE];

	for (int i = 0; i < PQntuples(known); i++) {
		unsigned version = (unsigned)strtoul(PQgetvalue(known, i, 0), NULL, 10);

		if (pepper_check_value(&setup->pepper, version, value) && strcmp(value, PQgetvalue(known, i, 1)) == 0)
			continue;
		snprintf(
			text, SETUP_TEXT_SIZE,
			"%s does not hold the pepper that the database knows as version %u; next: copy the file from a host whose "
			"daemon proves its keys",
			setup->pepper.path, version);
		return CTL_REFUSED;
	}
	return CTL_DONE;
}

static int look_pepper(struct setup *setup, bool *ret_there, char text[SETUP_TEXT_SIZE])
{
	char error[PEPPER_LINE_SIZE] = "";
	int r = read_pepper(setup, error), code = CTL_DONE;
	PGresult *known = database_peppers(setup);

	*ret_there = r == 0;
	if (r == 0) {
		snprintf(text, SETUP_TEXT_SIZE, "%s is there, with version %u first", setup->pepper.path,
			 pepper_version_at(&setup->pepper, 0));
		code = known ? compare_peppers(setup, known, text) : CTL_DONE;
	} else if (r != -ENOENT) {
		snprintf(text, SETUP_TEXT_SIZE, "%s; next: %s", error,
			 r == -EACCES ? "run apikeyctl setup as root"
				      : "put a good copy back, or remove it if no key needs it");
		code = CTL_REFUSED;
	} else if (known && PQntuples(known) > 0) {
		snprintf(
			text, SETUP_TEXT_SIZE,
			"the database knows pepper version %s, and %s is not there: a new one would prove no key of that; next: "
			"copy the file from a host that has it (root's, mode 0600)",
			PQgetvalue(known, 0, 0), setup->pepper.path);
		code = CTL_REFUSED;
	} else if (setup->pepper.credential && geteuid() != 0) {
		snprintf(text, SETUP_TEXT_SIZE, "%s is root's to make; next: run apikeyctl setup as root",
			 setup->pepper.path);
		code = CTL_REFUSED;
	} else {
		snprintf(text, SETUP_TEXT_SIZE, "make %s, a random pepper as version 1, mode 0600", setup->pepper.path);
	}
	PQclear(known);
	return code;
}

static int make_pepper(struct setup *setup, char text[SETUP_TEXT_SIZE])
{
	const struct doctor *host = &setup->host;
	bool root = geteuid() == 0, own = root && !setup->pepper.credential;
	char error[PEPPER_LINE_SIZE] = "";
	int r = pepper_make(setup->pepper.path, own ? host->uid : geteuid(), own ? host->gid : getegid(), error);

	if (r == 0)
		r = read_pepper(setup, error);
	if (r != 0) {
		snprintf(text, SETUP_TEXT_SIZE,
			 "%s; next: see that its directory is there and yours to write (root's: run as root)", error);
		return CTL_REFUSED;
	}
	snprintf(text, SETUP_TEXT_SIZE, "made %s: keep a copy off this host, without it no key proves",
		 setup->pepper.path);
	return CTL_DONE;
}

/* ---- the database knows it ---- */

static int look_known(struct setup *setup, bool *ret_there, char text[SETUP_TEXT_SIZE])
{
	PGresult *known = database_peppers(setup);
	unsigned newest = 0, version;

	for (unsigned i = 0; (version = pepper_version_at(&setup->pepper, i)); i++)
		newest = version;
	*ret_there = false;
	for (int i = 0; newest && known && i < PQntuples(known); i++)
		*ret_there |= strtoul(PQgetvalue(known, i, 0), NULL, 10) == newest;
	PQclear(known);
	if (*ret_there)
		snprintf(text, SETUP_TEXT_SIZE, "the database knows version %u by its check value", newest);
	else
		snprintf(
			text, SETUP_TEXT_SIZE,
			"tell the database the check value of its newest version, so that no other host makes another");
	return CTL_DONE;
}

static int make_known(struct setup *setup, char text[SETUP_TEXT_SIZE])
{
	unsigned newest = 0, version;
	char value[PEPPER_HEX_SIZE], number[16];
	const char *params[] = {number, value};
	PGresult *result;
	int code = CTL_DONE;

	for (unsigned i = 0; (version = pepper_version_at(&setup->pepper, i)); i++)
		newest = version;
	snprintf(number, sizeof(number), "%u", newest);
	if (!newest || !pepper_check_value(&setup->pepper, newest, value)) {
		snprintf(text, SETUP_TEXT_SIZE, "there is no pepper; next: apikeyctl setup");
		return CTL_REFUSED;
	}
	result = PQexecParams(setup->database,
			      "select apikeyd.register_pepper($1::smallint, pg_catalog.decode($2, 'hex'))", 2, NULL,
			      params, NULL, NULL, 0);
	if (PQresultStatus(result) != PGRES_TUPLES_OK) {
		snprintf(text, SETUP_TEXT_SIZE, "%s; next: apikeyctl doctor",
			 PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY)
				 ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY)
				 : PQerrorMessage(setup->database));
		code = CTL_REFUSED;
	} else {
		snprintf(text, SETUP_TEXT_SIZE, "the database knows version %u now", newest);
	}
	PQclear(result);
	return code;
}

const struct setup_step setup_steps[] = {
	{"configuration", look_configuration, make_configuration},
	{"database", setup_look_database, setup_make_database},
	{"schema", setup_look_schema, setup_make_schema},
	{"login role", setup_look_login, setup_make_login},
	{"pepper", look_pepper, make_pepper},
	{"pepper known", look_known, make_known},
	{NULL, NULL, NULL},
};

/* ---- the run ---- */

struct run {
	const struct ctl *ctl;
	json_t *steps;
};

static void run_tell(struct run *run, const char *name, const char *state, const char *text)
{
	json_t *row = json_pack("{s:s, s:s, s:s}", "name", name, "state", state, "what", text);

	if (row)
		json_array_append_new(run->steps, row);
	if (!run->ctl->json && !run->ctl->quiet) {
		fprintf(run->ctl->out, "%-7s  ", state);
		ctl_print(run->ctl, "%-22s %s", name, text);
		fflush(run->ctl->out);
	}
}

static int run_failed(struct run *run, const char *name, int code, const char *text)
{
	run_tell(run, name, "failed", text);
	return ctl_say(run->ctl, (enum ctl_exit)code, "setup stopped at the step \"%s\": %s", name, text);
}

/* Looks at all steps before anything is changed. *ret_todo: how many have something to do. */
static int run_plan(struct run *run, struct setup *setup, unsigned *ret_todo)
{
	char text[SETUP_TEXT_SIZE] = "";
	int code = setup_connect(setup, text);

	*ret_todo = 0;
	if (code)
		return run_failed(run, "server", code, text);
	for (const struct setup_step *step = setup_steps; step->name; step++) {
		bool there = false;

		code = step->look(setup, &there, text);
		if (code)
			return run_failed(run, step->name, code, text);
		run_tell(run, step->name, there ? "there" : "to do", text);
		*ret_todo += !there;
	}
	return CTL_DONE;
}

/* Each step looks again: what came to be meanwhile is left as it is. */
static int run_act(struct run *run, struct setup *setup)
{
	char text[SETUP_TEXT_SIZE] = "";

	for (const struct setup_step *step = setup_steps; step->name; step++) {
		bool there = false;
		int code = step->look(setup, &there, text);

		if (!code && !there) {
			code = step->act(setup, text);
			if (!code)
				run_tell(run, step->name, "done", text);
		}
		if (code)
			return run_failed(run, step->name, code, text);
	}
	return CTL_DONE;
}

/* As the daemon would find it. What is about a daemon that runs is left out where none does. */
static int run_check(struct run *run, struct setup *setup, json_t **ret_checks)
{
	struct doctor doctor;
	int code = doctor_init(&doctor, setup->ctl, setup->args);
	bool daemon = false;

	if (!code) {
		doctor.only_as_daemon = true; /* --database is the superuser here: look as the daemon does */
		code = doctor_run(&doctor, false, &daemon);
		*ret_checks = doctor_json(&doctor);
		if (!run->ctl->json)
			doctor_sum_up(&doctor);
		if (!code && !daemon)
			ctl_note(run->ctl, "next: %s",
				 doctor.systemd ? "systemctl enable --now apikeyd.service, then apikeyctl doctor"
						: "start apikeyd, then apikeyctl doctor");
	}
	doctor_deinit(&doctor);
	return code;
}

static int setup_command(struct ctl *ctl, const struct args *args)
{
	struct run run = {.ctl = ctl, .steps = json_array()};
	json_t *checks = NULL;
	struct setup setup;
	unsigned todo = 0;
	int code = setup_init(&setup, ctl, args);
	bool dry = args_has(args, "dry-run");

	if (!code)
		code = run_plan(&run, &setup, &todo);
	if (!code && todo > 0 && !dry) {
		code = ctl_confirm(ctl, "Do what is \"to do\"?", "");
		if (!code)
			code = run_act(&run, &setup);
	}
	if (!code && dry)
		ctl_note(ctl, "%u steps have something to do; nothing was changed", todo);
	if (!code && !dry)
		code = run_check(&run, &setup, &checks);
	if (ctl->json && json_array_size(run.steps) > 0) {
		int printed = jsonout_print(ctl, json_pack("{s:O, s:o}", "steps", run.steps, "checks",
							   checks ? json_incref(checks) : json_array()));

		code = code ? code : printed;
	}
	json_decref(checks);
	json_decref(run.steps);
	setup_deinit(&setup);
	return code;
}

static const struct option setup_options[] = {
	DOCTOR_OPTIONS,
	{.name = "database",
	 .value = "CONNINFO",
	 .help = "how a superuser of the database connects (default: root as the user postgres, to the daemon's server)"},
	{.name = "conninfo",
	 .value = "CONNINFO",
	 .help = "how the daemon connects, for a configuration that is not there yet"},
	{.name = "dry-run", .letter = 'n', .help = "say what would be done, and change nothing"},
	{.name = NULL},
};

const struct command command_setup = {
	.name = "setup",
	.summary = "makes what a daemon needs on this host and in its database, and checks it",
	.details =
		"The configuration where there is none, the database with its schema and roles, the daemon's login role, and "
		"the pepper. What is there is left as it is; a second run does nothing. A pepper is never replaced, and none is "
		"made where the database's keys have one already: copy that one.\n"
		"As root on a host with PostgreSQL no option is needed. For a database elsewhere: --conninfo, and --database "
		"with a superuser's login; passwords belong into files (passfile=, ~/.pgpass). On a terminal it shows what "
		"it is going to do, and asks. In the end it runs the checks of doctor.",
	.takes = COMMAND_CONFIRM,
	.options = setup_options,
	.run = setup_command};
