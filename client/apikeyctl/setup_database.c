/* setup: the steps that a superuser of the database makes. */
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/apikeyctl/db_migrate.h"
#include "client/apikeyctl/setup.h"

/* ---- connecting ---- */

static bool is_up(const PGconn *connection)
{
	return connection && PQstatus(connection) == CONNECTION_OK;
}

/* As --database says; else root goes as the user postgres to the daemon's server. */
static PGconn *server_connect(struct setup *setup, const char *dbname)
{
	const char *given = args_text(setup->args, "database");
	const struct passwd *entry = getpwnam("postgres");
	bool lend = !given && geteuid() == 0 && entry && setup->local && !getenv("PGUSER");
	struct doctor_login login = {.dbname = dbname, .primary = true};
	char conninfo[600];

	if (given)
		return doctor_connect(given, &login);
	if (lend) {
		login.user = "postgres";
		login.uid = entry->pw_uid;
		login.gid = entry->pw_gid;
	} else {
		login.user = getenv("PGUSER");
	}
	snprintf(conninfo, sizeof(conninfo), "%s",
		 settings_get(&setup->host.settings, "database", "conninfo",
			      setup->host.config_code != 0 && args_text(setup->args, "conninfo")
				      ? args_text(setup->args, "conninfo")
				      : ""));
	if (!login.user) {
		const struct passwd *self = getpwuid(geteuid());

		login.user = self ? self->pw_name : "postgres";
	}
	return doctor_connect(conninfo, &login);
}

static int said(char text[SETUP_TEXT_SIZE], const char *before, const char *message, const char *next)
{
	snprintf(text, SETUP_TEXT_SIZE, "%s%.*s; next: %s", before, (int)strcspn(message, "\n"), message, next);
	return CTL_UNAVAILABLE;
}

int setup_connect(struct setup *setup, char text[SETUP_TEXT_SIZE])
{
	static const char next[] =
		"start PostgreSQL, run as root on its host, or name a superuser's login with --database";
	PGresult *result;
	bool may;

	setup->server = server_connect(setup, "postgres");
	if (!is_up(setup->server))
		return said(text, "", setup->server ? PQerrorMessage(setup->server) : "out of memory", next);
	result = PQexec(setup->server, "select rolsuper from pg_catalog.pg_roles where rolname = current_user");
	may = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 && PQgetvalue(result, 0, 0)[0] == 't';
	PQclear(result);
	if (!may) {
		snprintf(
			text, SETUP_TEXT_SIZE,
			"%s is no superuser; next: name one with --database (where there is none, as with a managed server: "
			"apikeyctl db install as the database's owner, then apikeyctl doctor)",
			PQuser(setup->server));
		return CTL_REFUSED;
	}
	setup->database = server_connect(setup, setup->dbname);
	if (!is_up(setup->database)) {
		PQfinish(setup->database);
		setup->database = NULL;
	}
	return CTL_DONE;
}

/* One statement that ends with a name, which is quoted, and `after`. */
static int run_named(PGconn *connection, const char *before, const char *name, const char *after,
		     char text[SETUP_TEXT_SIZE], const char *next)
{
	char *quoted = PQescapeIdentifier(connection, name, strlen(name)), *sql = NULL;
	PGresult *result = NULL;
	int code = CTL_UNAVAILABLE;

	if (quoted && asprintf(&sql, "%s %s%s", before, quoted, after) >= 0)
		result = PQexec(connection, sql);
	else
		sql = NULL;
	if (PQresultStatus(result) == PGRES_COMMAND_OK)
		code = CTL_DONE;
	else
		said(text, "", PQerrorMessage(connection), next);
	PQclear(result);
	free(sql);
	PQfreemem(quoted);
	return code;
}

/* The only answer of a query with the login and the database's name as $1 and $2; to be freed. NULL with `text`. */
static char *ask_one(struct setup *setup, PGconn *connection, const char *sql, char text[SETUP_TEXT_SIZE])
{
	const char *params[] = {setup->login, setup->dbname};
	PGresult *result = PQexecParams(connection, sql, 2, NULL, params, NULL, NULL, 0);
	char *answer = NULL;

	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
		answer = strdup(PQgetvalue(result, 0, 0));
	else
		said(text, "", PQerrorMessage(connection), "see the server's log");
	PQclear(result);
	return answer;
}

/* ---- the database ---- */

int setup_look_database(struct setup *setup, bool *ret_there, char text[SETUP_TEXT_SIZE])
{
	char *count = ask_one(setup, setup->server,
			      "select count(*) from pg_catalog.pg_database where datname = $2 and $1 <> ''", text);

	if (!count)
		return CTL_UNAVAILABLE;
	*ret_there = strcmp(count, "0") != 0;
	free(count);
	if (*ret_there && !setup->database) {
		snprintf(text, SETUP_TEXT_SIZE,
			 "database %s is there, and %s may not connect to it; next: see pg_hba.conf", setup->dbname,
			 PQuser(setup->server));
		return CTL_UNAVAILABLE;
	}
	snprintf(text, SETUP_TEXT_SIZE, *ret_there ? "database %s is there" : "create database %s", setup->dbname);
	return CTL_DONE;
}

int setup_make_database(struct setup *setup, char text[SETUP_TEXT_SIZE])
{
	int code = run_named(setup->server, "create database", setup->dbname, "", text, "create it by hand (createdb)");

	if (code)
		return code;
	setup->database = server_connect(setup, setup->dbname);
	if (!is_up(setup->database))
		return said(text, "", setup->database ? PQerrorMessage(setup->database) : "out of memory",
			    "see pg_hba.conf");
	snprintf(text, SETUP_TEXT_SIZE, "created database %s", setup->dbname);
	return CTL_DONE;
}

/* ---- the schema ---- */

int setup_look_schema(struct setup *setup, bool *ret_there, char text[SETUP_TEXT_SIZE])
{
	int held = (int)setup->directory.count, version = 0;
	int code = setup->database ? db_schema_version(setup->ctl, setup->database, &version) : CTL_DONE;

	*ret_there = version == held;
	if (code)
		snprintf(text, SETUP_TEXT_SIZE, "the schema in %s cannot be looked at; next: apikeyctl db status",
			 setup->dbname);
	else if (version == held)
		snprintf(text, SETUP_TEXT_SIZE, "the schema is at version %d", version);
	else if (version > held)
		snprintf(text, SETUP_TEXT_SIZE,
			 "the schema is at version %d, newer than this apikeyctl's %d; next: upgrade the "
			 "packages of this host",
			 version, held);
	else if (version > 0)
		snprintf(text, SETUP_TEXT_SIZE,
			 "the schema is at version %d of %d, and daemons may use it; next: apikeyctl db "
			 "upgrade",
			 version, held);
	else
		snprintf(
			text, SETUP_TEXT_SIZE,
			"install the schema, %d migrations, with the roles apikeyd_owner, _check, _admin, _platform and _auditor",
			held);
	return code ? code : version != 0 && version != held ? CTL_REFUSED : CTL_DONE;
}

int setup_make_schema(struct setup *setup, char text[SETUP_TEXT_SIZE])
{
	int code = db_lock(setup->ctl, setup->database), version = 0;

	/* Under the lock: what another apikeyctl has just done counts. */
	if (!code)
		code = db_schema_version(setup->ctl, setup->database, &version);
	for (size_t i = (size_t)version; !code && i < setup->directory.count; i++)
		code = db_migrate(setup->ctl, setup->database, &setup->directory.migrations[i]);
	if (code)
		snprintf(text, SETUP_TEXT_SIZE, "a migration was refused, as said above; next: apikeyctl db status");
	else
		snprintf(text, SETUP_TEXT_SIZE, "the schema is at version %zu", setup->directory.count);
	return code;
}

/* ---- the daemon's login ---- */

/* What is missing: nothing, the role itself, or some memberships. */
static char *login_lacks(struct setup *setup, char text[SETUP_TEXT_SIZE])
{
	return ask_one(
		setup, setup->server,
		"select case when not exists (select from pg_roles where rolname = $1 and $2 <> '') then 'role'"
		" else coalesce((select string_agg(w, ', ') from unnest(array['apikeyd_check', 'apikeyd_admin']) w"
		"  where not coalesce((select pg_has_role(l.oid, r.oid, 'MEMBER') from pg_roles l, pg_roles r"
		"   where l.rolname = $1 and r.rolname = w), false)), '') end",
		text);
}

int setup_look_login(struct setup *setup, bool *ret_there, char text[SETUP_TEXT_SIZE])
{
	char *lacks = login_lacks(setup, text);

	if (!lacks)
		return CTL_UNAVAILABLE;
	*ret_there = !*lacks;
	if (!*lacks)
		snprintf(text, SETUP_TEXT_SIZE, "role %s is there, and may what the daemon needs", setup->login);
	else if (strcmp(lacks, "role") == 0)
		snprintf(text, SETUP_TEXT_SIZE, "create role %s, login, a member of apikeyd_check and apikeyd_admin%s",
			 setup->login,
			 setup->local ? ", which peer authentication names"
				      : "; it has no password then: set one with psql's \\password");
	else
		snprintf(text, SETUP_TEXT_SIZE, "grant %s to %s", lacks, setup->login);
	free(lacks);
	return CTL_DONE;
}

int setup_make_login(struct setup *setup, char text[SETUP_TEXT_SIZE])
{
	char *lacks = login_lacks(setup, text);
	int code = lacks ? CTL_DONE : CTL_UNAVAILABLE;

	if (!code && strcmp(lacks, "role") == 0)
		code = run_named(setup->server, "create role", setup->login, " login noinherit", text,
				 "create it by hand");
	if (!code)
		code = run_named(setup->server, "grant apikeyd_check, apikeyd_admin to", setup->login, "", text,
				 "grant them by hand");
	free(lacks);
	if (code)
		return code;
	if (setup->local)
		snprintf(text, SETUP_TEXT_SIZE, "role %s may what the daemon needs", setup->login);
	else
		snprintf(
			text, SETUP_TEXT_SIZE,
			"role %s may what the daemon needs; give it a password (psql's \\password %s), and write that to "
			"/etc/apikeyd/pgpass",
			setup->login, setup->login);
	return CTL_DONE;
}
