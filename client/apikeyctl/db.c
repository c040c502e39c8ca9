/* db: the schema in the database, installed and brought up to date by numbered migrations; db_status.c looks at it. */
#include "client/apikeyctl/db.h"

#include <time.h>

#include "client/apikeyctl/db_migrate.h"
#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/nouns.h"

static int64_t db_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Runs what comes after version `from`. *ret_at is where the schema stands in the end, also after a failure. */
static int db_run_pending(const struct ctl *ctl, PGconn *connection, const struct db_directory *directory, int from,
			  int *ret_at)
{
	*ret_at = from;
	for (size_t i = (size_t)from; i < directory->count; i++) {
		const struct db_migration *migration = &directory->migrations[i];
		int64_t begin = db_now_ms();
		int code = db_migrate(ctl, connection, migration);

		if (code) {
			ctl_note(ctl, "nothing of %s was kept; the schema is at version %d", migration->name, *ret_at);
			return code;
		}
		*ret_at = migration->version;
		if (!ctl->json && !ctl->quiet) {
			fprintf(ctl->out, "%s  done, %lld ms\n", migration->name, (long long)(db_now_ms() - begin));
			fflush(ctl->out);
		}
	}
	return CTL_DONE;
}

static int db_report(const struct ctl *ctl, const struct db_directory *directory, int from, int at)
{
	json_t *ran = json_array();

	if (!ctl->json) {
		json_decref(ran);
		if (!ctl->quiet && from == at)
			fprintf(ctl->out, "nothing to do: the schema is at version %d, the newest there is\n", at);
		else if (!ctl->quiet)
			fprintf(ctl->out, "the schema is at version %d\n", at);
		return CTL_DONE;
	}
	for (int i = from; i < at; i++)
		json_array_append_new(ran, json_string(directory->migrations[i].name));
	return jsonout_print(ctl, json_pack("{s:i, s:i, s:o}", "from", from, "version", at, "ran", ran));
}

static int db_change(struct ctl *ctl, const struct args *args, bool install)
{
	struct db_directory directory = {0};
	PGconn *connection = NULL;
	int from = 0, at = 0;
	int code = db_directory_read(ctl, args, &directory);

	if (!code)
		code = db_connect(ctl, args, &connection);
	if (!code)
		code = db_lock(ctl, connection);
	/* Under the lock: what another apikeyctl has just done counts. */
	if (!code)
		code = db_schema_version(ctl, connection, &from);
	if (code)
		goto out;
	if (!install && from == 0)
		code = ctl_say(ctl, CTL_REFUSED, "there is no schema in database %s yet: apikeyctl db install",
			       PQdb(connection));
	else if (from > (int)directory.count)
		code = ctl_say(
			ctl, CTL_REFUSED,
			"the schema is at version %d and %s ends at %zu: this apikeyctl is older than the schema", from,
			directory.path, directory.count);
	else if (install && from > 0 && from < (int)directory.count)
		code = ctl_say(ctl, CTL_REFUSED, "the schema is installed, at version %d of %zu: apikeyctl db upgrade",
			       from, directory.count);
	if (!code)
		code = db_run_pending(ctl, connection, &directory, from, &at);
	if (!code)
		code = db_report(ctl, &directory, from, at);
out:
	PQfinish(connection);
	db_directory_deinit(&directory);
	return code;
}

static int db_install(struct ctl *ctl, const struct args *args)
{
	return db_change(ctl, args, true);
}

static int db_upgrade(struct ctl *ctl, const struct args *args)
{
	return db_change(ctl, args, false);
}

const struct option db_options[] = {
	{.name = "database",
	 .value = "CONNINFO",
	 .help = "libpq's connection string (default: the environment, PGHOST and others)"},
	{.name = "sql-dir",
	 .value = "DIR",
	 .help = "where the migrations are (default: $APIKEYD_SQL_DIR, else the installed ones)"},
	{.name = NULL},
};

static const struct command db_verb_install = {
	.name = "install",
	.summary = "install the schema apikeyd into a database",
	.details =
		"Makes the schema, its tables and functions, and the NOLOGIN roles apikeyd_owner, apikeyd_check, "
		"apikeyd_admin, apikeyd_platform and apikeyd_auditor: connect as a superuser. The database itself must be "
		"there (createdb). Run again on a schema that is up to date it does nothing.",
	.run = db_install};
static const struct command db_verb_upgrade = {
	.name = "upgrade",
	.summary = "run the migrations that the schema does not have yet",
	.details =
		"Each is a transaction of its own; a failed one is rolled back and the schema stays at the version before "
		"it. Two upgrades at once wait for each other.",
	.run = db_upgrade};

static const struct command *const db_verbs[] = {&db_verb_install, &db_verb_upgrade, &db_verb_status, NULL};

const struct command command_db = {
	.name = "db", .summary = "the schema in the database", .options = db_options, .commands = db_verbs};
