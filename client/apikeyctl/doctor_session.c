/* doctor: one blocking connection to the database, made as the daemon makes its own. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/apikeyctl/doctor.h"

#define CREDENTIALS "credential:" /* as in daemon/credential.h */

enum { SESSION_PARAMS_MAX = 64 };

struct session_params {
	const char *names[SESSION_PARAMS_MAX + 1], *values[SESSION_PARAMS_MAX + 1];
	char *owned[SESSION_PARAMS_MAX]; /* paths of credentials */
	size_t count, owned_count;
	bool local, secret; /* over a Unix socket; with a password or a file of them */
};

static void params_add(struct session_params *params, const char *name, const char *value)
{
	if (params->count == SESSION_PARAMS_MAX)
		return;
	params->names[params->count] = name;
	params->values[params->count++] = value;
}

/* What the unit passes as credentials lies in /etc/apikeyd, where root finds it. */
static const char *params_value(struct session_params *params, const char *value)
{
	char *path = NULL;

	if (strncmp(value, CREDENTIALS, strlen(CREDENTIALS)) != 0)
		return value;
	if (asprintf(&path, "/etc/apikeyd/%s", value + strlen(CREDENTIALS)) < 0)
		return value;
	params->owned[params->owned_count++] = path;
	return path;
}

static void params_take(struct session_params *params, const PQconninfoOption *options,
			const struct doctor_login *login)
{
	bool timeout = false;

	params->local = true;
	for (const PQconninfoOption *o = options; o->keyword; o++) {
		if (!o->val || !*o->val || (login->dbname && strcmp(o->keyword, "dbname") == 0) ||
		    (login->user && strcmp(o->keyword, "user") == 0))
			continue;
		timeout |= strcmp(o->keyword, "connect_timeout") == 0;
		params->secret |= strcmp(o->keyword, "password") == 0 || strcmp(o->keyword, "passfile") == 0;
		if (strcmp(o->keyword, "host") == 0 || strcmp(o->keyword, "hostaddr") == 0)
			params->local &= *o->val == '/';
		params_add(params, o->keyword, params_value(params, o->val));
	}
	if (login->dbname)
		params_add(params, "dbname", login->dbname);
	if (login->user)
		params_add(params, "user", login->user);
	if (!timeout)
		params_add(params, "connect_timeout", "5");
	if (login->primary)
		params_add(params, "target_session_attrs", "primary");
	params_add(params, "fallback_application_name", "apikeyctl");
	params_add(params, "client_encoding", "UTF8");
}

PGconn *doctor_connect(const char *conninfo, const struct doctor_login *login)
{
	PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
	struct session_params params = {0};
	PGconn *connection;
	bool lend;

	if (!options) /* let libpq say what is wrong with it */
		return PQconnectdb(conninfo);
	params_take(&params, options, login);
	/* The server asks the kernel who is there, which tells the effective user of the moment. */
	lend = geteuid() == 0 && login->uid != 0 && params.local && !params.secret;
	if (lend && (setegid(login->gid) != 0 || seteuid(login->uid) != 0))
		lend = false;
	connection = PQconnectdbParams(params.names, params.values, 0);
	if (lend && (seteuid(0) != 0 || setegid(0) != 0))
		abort();
	for (size_t i = 0; i < params.owned_count; i++)
		free(params.owned[i]);
	PQconninfoFree(options);
	return connection;
}

int doctor_refuse_password(const struct ctl *ctl, const struct args *args, const char *option)
{
	const char *given = args_text(args, option);
	PQconninfoOption *options = given ? PQconninfoParse(given, NULL) : NULL;
	bool found = false;

	for (const PQconninfoOption *o = options; o && o->keyword; o++)
		found |= strcmp(o->keyword, "password") == 0 && o->val && *o->val;
	PQconninfoFree(options);
	if (!found)
		return CTL_DONE;
	explicit_bzero((char *)(uintptr_t)given, strlen(given));
	return ctl_say(ctl, CTL_USAGE,
		       "--%s has a password in it, which every user of this host can see there: put it into a file "
		       "(passfile=, ~/.pgpass), and change it",
		       option);
}

static bool session_command(struct doctor *doctor, const char *sql)
{
	PGresult *result = PQexec(doctor->connection, sql);
	bool good = PQresultStatus(result) == PGRES_COMMAND_OK;

	PQclear(result);
	return good;
}

/* The role that the daemon has set when it does this. */
static bool session_role(struct doctor *doctor, enum doctor_as as)
{
	const char *role = as == DOCTOR_AS_CHECK
				   ? settings_get(&doctor->settings, "database", "role", "apikeyd_check")
				   : settings_get(&doctor->settings, "database", "admin_role", "apikeyd_admin");
	char *quoted, sql[200];
	bool good;

	if (as == DOCTOR_AS_LOGIN || !doctor->as_daemon || !*role)
		return true;
	quoted = PQescapeIdentifier(doctor->connection, role, strlen(role));
	if (!quoted)
		return false;
	snprintf(sql, sizeof(sql), "set role %s", quoted);
	PQfreemem(quoted);
	good = session_command(doctor, sql);
	return good;
}

PGresult *doctor_query(struct doctor *doctor, const char *name, enum doctor_as as, const char *sql)
{
	static const char who[] = "give --database with a superuser or a member of apikeyd_auditor";
	bool set = session_role(doctor, as);
	PGresult *result = set ? PQexec(doctor->connection, sql) : NULL;
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	bool good = PQresultStatus(result) == PGRES_TUPLES_OK;

	if (!set)
		doctor_tell(doctor, name, FINDING_UNKNOWN, "see roles", "the daemon's login may not take its role");
	else if (!good && state && strcmp(state, "42501") == 0)
		doctor_tell(doctor, name, FINDING_UNKNOWN, who, "user %s may not see it: %s",
			    PQuser(doctor->connection), message ? message : "");
	else if (!good)
		doctor_tell(doctor, name, FINDING_FAILED, "see the server's log", "%s",
			    message ? message : PQerrorMessage(doctor->connection));
	if (set && as != DOCTOR_AS_LOGIN && doctor->as_daemon)
		session_command(doctor, "reset role");
	if (good)
		return result;
	PQclear(result);
	return NULL;
}
