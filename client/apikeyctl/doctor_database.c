/* doctor: the database that the daemon reads. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/apikeyctl/db_directory.h"
#include "client/apikeyctl/doctor.h"

enum {
	SERVER_MIN = 130000,
	CLOCK_WARNING_MS = 1000, /* from there the daemon warns, too */
	CLOCK_FAILED_MS = 60000,
};

/* ---- connecting ---- */

static int message_length(const char *message)
{
	size_t len = strcspn(message, "\n");

	return (int)len;
}

static bool is_up(const PGconn *connection)
{
	return connection && PQstatus(connection) == CONNECTION_OK;
}

static void connect_failed(struct doctor *doctor, const PGconn *connection, const char *conninfo)
{
	const char *message = connection ? PQerrorMessage(connection) : "out of memory";
	bool stranger = geteuid() != 0 && !(doctor->user_known && geteuid() == doctor->uid) &&
			!args_text(doctor->args, "database");
	char advice[DOCTOR_ADVICE_SIZE];

	/* The server is there, and does not let this user in as the daemon: that says nothing about the daemon. */
	if (stranger && PQping(conninfo) == PQPING_OK) {
		snprintf(advice, sizeof(advice), "run as root or as %s, or give --database with a login of your own",
			 doctor->user);
		doctor_tell(doctor, "database", FINDING_UNKNOWN, advice, "this user is not let in as the daemon: %.*s",
			    message_length(message), message);
		return;
	}
	doctor_tell(doctor, "database", FINDING_FAILED,
		    "start PostgreSQL, or mend [database] conninfo; apikeyctl setup makes database and roles", "%.*s",
		    message_length(message), message);
}

static bool database_connect(struct doctor *doctor)
{
	const char *given = doctor->only_as_daemon ? NULL : args_text(doctor->args, "database");
	const char *conninfo =
		given ? given : settings_get(&doctor->settings, "database", "conninfo", "dbname=apikeyd user=apikeyd");
	struct doctor_login login = {.uid = given ? 0 : doctor->uid, .gid = doctor->gid, .primary = !given};
	PGconn *connection = doctor_connect(conninfo, &login);

	if (!given && !is_up(connection)) {
		/* Not a primary, perhaps: then that is what is to be told. */
		PGconn *any;

		login.primary = false;
		any = doctor_connect(conninfo, &login);
		if (is_up(any)) {
			PQfinish(connection);
			connection = any;
		} else {
			PQfinish(any);
		}
	}
	if (!is_up(connection)) {
		connect_failed(doctor, connection, conninfo);
		PQfinish(connection);
		return false;
	}
	doctor->connection = connection;
	doctor->as_daemon = !given;
	doctor_tell(doctor, "database", FINDING_OK, NULL, "%s lets %s in%s%s", PQdb(connection), PQuser(connection),
		    PQhost(connection) && *PQhost(connection) ? " at " : "",
		    PQhost(connection) ? PQhost(connection) : "");
	return true;
}

/* ---- the server ---- */

static void server_look(struct doctor *doctor)
{
	PGresult *result = doctor_query(doctor, "primary", DOCTOR_AS_LOGIN, "select pg_catalog.pg_is_in_recovery()");

	if (!result)
		return;
	if (PQgetvalue(result, 0, 0)[0] == 't')
		doctor_tell(doctor, "primary", FINDING_FAILED,
			    "name the primary, or all servers, in [database] conninfo: daemons read a primary alone",
			    "the server is a standby");
	else
		doctor_tell(doctor, "primary", FINDING_OK, NULL, "the server is a primary, PostgreSQL %s",
			    PQparameterStatus(doctor->connection, "server_version"));
	PQclear(result);
	if (PQserverVersion(doctor->connection) < SERVER_MIN)
		doctor_tell(doctor, "server version", FINDING_FAILED, "upgrade the server",
			    "PostgreSQL %s, and apikeyd needs 13",
			    PQparameterStatus(doctor->connection, "server_version"));
}

static void schema_look(struct doctor *doctor)
{
	struct db_directory directory = {0};
	PGresult *result;
	int version = 0, held = 0;

	if (db_directory_read(doctor->ctl, doctor->args, &directory) == CTL_DONE)
		held = (int)directory.count;
	db_directory_deinit(&directory);
	result = doctor_query(doctor, "schema", DOCTOR_AS_LOGIN,
			      "select pg_catalog.count(*) from pg_catalog.pg_namespace where nspname = 'apikeyd'");
	if (!result)
		return;
	if (strcmp(PQgetvalue(result, 0, 0), "0") == 0) {
		PQclear(result);
		doctor_tell(doctor, "schema", FINDING_FAILED, "apikeyctl setup, or apikeyctl db install",
			    "database %s has no schema apikeyd", PQdb(doctor->connection));
		return;
	}
	PQclear(result);
	result = doctor_query(doctor, "schema", DOCTOR_AS_CHECK, "select apikeyd.schema_version()");
	if (!result)
		return;
	version = atoi(PQgetvalue(result, 0, 0));
	PQclear(result);
	doctor->schema_is_ours = held > 0 && version == held;
	if (held == 0)
		doctor_tell(doctor, "schema", FINDING_UNKNOWN, "name the migrations with --sql-dir",
			    "version %d; this apikeyctl has no migrations to compare it with", version);
	else if (version < held)
		doctor_tell(doctor, "schema", FINDING_FAILED, "apikeyctl db upgrade",
			    "version %d, and this apikeyctl has %d", version, held);
	else if (version > held)
		doctor_tell(doctor, "schema", FINDING_FAILED, "upgrade the packages on this host",
			    "version %d, newer than this apikeyctl's %d", version, held);
	else
		doctor_tell(doctor, "schema", FINDING_OK, NULL, "version %d, as this apikeyctl has it", version);
}

static void triggers_look(struct doctor *doctor)
{
	PGresult *result =
		doctor_query(doctor, "triggers", DOCTOR_AS_CHECK,
			     "select pg_catalog.count(*), pg_catalog.min(f) from apikeyd.trigger_faults() f");

	if (!result)
		return;
	if (strcmp(PQgetvalue(result, 0, 0), "0") != 0)
		doctor_tell(doctor, "triggers", FINDING_FAILED,
			    "enable them as the migrations do, then select apikeyd.force_reload()",
			    "changes can pass unseen: %s (%s in all)", PQgetvalue(result, 0, 1),
			    PQgetvalue(result, 0, 0));
	else
		doctor_tell(doctor, "triggers", FINDING_OK, NULL, "no change can pass unseen");
	PQclear(result);
}

/* ---- the pepper ---- */

/* Which of the database's peppers the file lacks, or has another of: the first is told. */
static void peppers_compare(struct doctor *doctor, const PGresult *result)
{
	char value[PEPPER_HEX_SIZE];

	for (int i = 0; i < PQntuples(result); i++) {
		unsigned version = (unsigned)strtoul(PQgetvalue(result, i, 0), NULL, 10);

		if (!pepper_check_value(&doctor->pepper, version, value)) {
			doctor_tell(doctor, "pepper version", FINDING_FAILED,
				    "copy that line from a host that has it: its keys are no_pepper until then",
				    "keys were made with version %u, which %s does not hold", version,
				    doctor->pepper.path);
			return;
		}
		if (strcmp(value, PQgetvalue(result, i, 1)) != 0) {
			doctor_tell(
				doctor, "pepper version", FINDING_FAILED,
				"put the pepper back that the keys were made with: the daemon confirms nothing with this one",
				"version %u of %s is another than the database's", version, doctor->pepper.path);
			return;
		}
	}
	doctor_tell(doctor, "pepper version", FINDING_OK, NULL,
		    "%s holds the %d that the database's keys were made with", doctor->pepper.path, PQntuples(result));
}

static void peppers_look(struct doctor *doctor)
{
	PGresult *result = doctor_query(
		doctor, "pepper version", DOCTOR_AS_CHECK,
		"select version, pg_catalog.encode(check_value, 'hex') from apikeyd.pepper order by version");

	if (!result)
		return;
	if (PQntuples(result) == 0)
		doctor_tell(doctor, "pepper version", FINDING_OK, NULL,
			    "the database knows none yet: the first key that is made tells it");
	else if (!doctor->pepper.secret)
		doctor_tell(doctor, "pepper version", FINDING_UNKNOWN, "run as root",
			    "the database knows %d; what the pepper file holds was not to be seen", PQntuples(result));
	else
		peppers_compare(doctor, result);
	PQclear(result);
}

/* ---- the clock ---- */

static int64_t clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void clock_look(struct doctor *doctor)
{
	static const char advice[] =
		"set the one that is wrong (chrony, systemd-timesyncd): keys begin and expire by the "
		"database's";
	int64_t before = clock_us(), after, there, off = 0;
	PGresult *result =
		doctor_query(doctor, "clock", DOCTOR_AS_LOGIN,
			     "select (extract(epoch from pg_catalog.clock_timestamp()) * 1000000)::pg_catalog.int8");

	if (!result)
		return;
	after = clock_us();
	there = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
	PQclear(result);
	if (there > after)
		off = there - after;
	else if (there < before)
		off = there - before;
	off /= 1000;
	if (llabs(off) >= CLOCK_WARNING_MS)
		doctor_tell(doctor, "clock", llabs(off) >= CLOCK_FAILED_MS ? FINDING_FAILED : FINDING_WARNING, advice,
			    "this host is %lld ms %s the database", llabs(off), off > 0 ? "behind" : "ahead of");
	else
		doctor_tell(doctor, "clock", FINDING_OK, NULL, "as the database's, to less than %d ms",
			    CLOCK_WARNING_MS);
}

void doctor_database(struct doctor *doctor)
{
	if (!database_connect(doctor))
		return;
	server_look(doctor);
	schema_look(doctor);
	clock_look(doctor);
	if (!doctor->schema_is_ours)
		return;
	triggers_look(doctor);
	peppers_look(doctor);
}
