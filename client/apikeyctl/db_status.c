/* db status: what is installed, what is missing, what is wrong. */
#include <stdlib.h>
#include <string.h>

#include "client/apikeyctl/db.h"
#include "client/apikeyctl/db_directory.h"
#include "client/apikeyctl/db_session.h"
#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/show.h"

static const char *const status_roles[] = {"apikeyd_owner", "apikeyd_check", "apikeyd_admin", "apikeyd_platform",
					   "apikeyd_auditor"};
enum { STATUS_ROLES = sizeof(status_roles) / sizeof(status_roles[0]) };

static const struct show_column status_record[] = {
	{"database", "database", 0, NULL},
	{"server", "server", 0, NULL},
	{"user", "user", 0, NULL},
	{"migrations in", "sql_dir", 0, NULL},
	{"installed", "installed", 0, NULL},
	{"available", "available", 0, NULL},
	{"pending", "pending", 0, NULL},
	{"missing roles", "missing_roles", 0, NULL},
	{"trigger faults", "trigger_faults", 0, NULL},
	{"last revision", "rev", 0, NULL},
	{NULL, NULL, 0, NULL},
};

struct status {
	const struct ctl *ctl;
	PGconn *connection;
	struct db_directory directory;
	struct arena arena;
	struct value map;
	int installed;
	bool wrong; /* something is not as it should be */
};

static bool status_set(struct status *status, const char *name, const char *text)
{
	return value_set_text(&status->arena, &status->map, name, text);
}

/* Whether the migrations have come to what `what`, an expression, looks for. */
static int status_has(struct status *status, const char *what, bool *ret)
{
	char sql[128];
	PGresult *result;

	snprintf(sql, sizeof(sql), "select pg_catalog.%s is not null", what);
	result = db_query(status->ctl, status->connection, sql);
	if (!result)
		return CTL_UNAVAILABLE;
	*ret = PQgetvalue(result, 0, 0)[0] == 't';
	PQclear(result);
	return CTL_DONE;
}

/* map[name] = the first column of the query's rows. Anything in it is wrong. */
static int status_list(struct status *status, const char *name, const char *sql)
{
	PGresult *result = db_query(status->ctl, status->connection, sql);
	struct value *list = value_set(&status->arena, &status->map, name);
	bool added = list != NULL;

	if (!result)
		return CTL_UNAVAILABLE;
	if (list)
		value_list(list);
	for (int i = 0; added && i < PQntuples(result); i++) {
		const char *text = PQgetvalue(result, i, 0);
		struct value *item = value_add(&status->arena, list);

		added = item && value_text(&status->arena, item, text, strlen(text));
		status->wrong = true;
	}
	PQclear(result);
	return added ? CTL_DONE : ctl_no_memory(status->ctl);
}

static bool status_pending(struct status *status)
{
	struct value *list = value_set(&status->arena, &status->map, "pending");

	if (!list)
		return false;
	value_list(list);
	for (size_t i = (size_t)status->installed; i < status->directory.count; i++) {
		const char *name = status->directory.migrations[i].name;
		struct value *item = value_add(&status->arena, list);

		if (!item || !value_text(&status->arena, item, name, strlen(name)))
			return false;
		status->wrong = true;
	}
	return true;
}

static int status_roles_missing(struct status *status)
{
	char sql[400];
	size_t used = (size_t)snprintf(sql, sizeof(sql), "select w.name from (values ");

	for (int i = 0; i < STATUS_ROLES; i++)
		used += (size_t)snprintf(sql + used, sizeof(sql) - used, "%s('%s')", i ? ", " : "", status_roles[i]);
	snprintf(sql + used, sizeof(sql) - used,
		 ") w (name) where not exists (select from pg_catalog.pg_roles r where r.rolname = w.name)");
	return status_list(status, "missing_roles", sql);
}

static int status_revision(struct status *status)
{
	PGresult *result = db_query(status->ctl, status->connection, "select max(rev) from apikeyd.revision");
	struct value *rev = value_set(&status->arena, &status->map, "rev");

	if (!result)
		return CTL_UNAVAILABLE;
	if (rev && !PQgetisnull(result, 0, 0))
		value_int(rev, strtoll(PQgetvalue(result, 0, 0), NULL, 10));
	PQclear(result);
	return rev ? CTL_DONE : ctl_no_memory(status->ctl);
}

/* Of a schema that is whole, or has stopped half-way. */
static int status_schema(struct status *status)
{
	bool faults = false, revision = false;
	int code = status_has(status, "to_regprocedure('apikeyd.trigger_faults()')", &faults);

	if (!code)
		code = status_has(status, "to_regclass('apikeyd.revision')", &revision);
	if (!code && faults)
		code = status_list(status, "trigger_faults", "select * from apikeyd.trigger_faults() order by 1");
	if (!code && revision)
		code = status_revision(status);
	return code;
}

static int status_gather(struct status *status)
{
	struct value *installed;
	int code = db_schema_version(status->ctl, status->connection, &status->installed);

	if (code)
		return code;
	value_map(&status->map);
	if (!status_set(status, "database", PQdb(status->connection)) ||
	    !status_set(status, "server", PQparameterStatus(status->connection, "server_version")) ||
	    !status_set(status, "user", PQuser(status->connection)) ||
	    !status_set(status, "sql_dir", status->directory.path) ||
	    !(installed = value_set(&status->arena, &status->map, "installed")))
		return ctl_no_memory(status->ctl);
	if (status->installed)
		value_int(installed, status->installed);
	if (!value_set_int(&status->arena, &status->map, "available", (int64_t)status->directory.count) ||
	    !status_pending(status))
		return ctl_no_memory(status->ctl);
	status->wrong |= status->installed > (int)status->directory.count;
	code = status_roles_missing(status);
	if (!code && status->installed)
		code = status_schema(status);
	if (!code && !value_set_bool(&status->arena, &status->map, "ok", !status->wrong))
		code = ctl_no_memory(status->ctl);
	return code;
}

/* What to do about it, the first thing first. */
static void status_advise(const struct status *status)
{
	const struct value *faults = value_get(&status->map, "trigger_faults");
	const struct value *roles = value_get(&status->map, "missing_roles");
	int available = (int)status->directory.count;

	if (status->installed == 0)
		ctl_note(status->ctl, "the schema is not installed: apikeyctl db install");
	else if (status->installed < available)
		ctl_note(status->ctl, "the schema is older than this apikeyctl: apikeyctl db upgrade");
	else if (status->installed > available)
		ctl_note(status->ctl, "the schema is newer than this apikeyctl: install the newer one");
	else if (roles && roles->count)
		ctl_note(status->ctl,
			 "roles are missing: make them (create role … nologin) and grant as the migrations do");
	else if (faults && faults->count)
		ctl_note(status->ctl,
			 "changes are not followed: enable these triggers, then select apikeyd.force_reload()");
}

static int status_run(struct ctl *ctl, const struct args *args)
{
	struct status status = {.ctl = ctl};
	int code = db_directory_read(ctl, args, &status.directory);

	if (!code)
		code = db_connect(ctl, args, &status.connection);
	if (!code)
		code = status_gather(&status);
	if (code)
		goto out;
	if (ctl->json) {
		code = jsonout_show(ctl, &status.map);
	} else {
		code = show_record(ctl, status_record, &status.map);
		status_advise(&status);
	}
	if (!code && status.wrong && args_has(args, "check"))
		code = CTL_DENY;
out:
	PQfinish(status.connection);
	db_directory_deinit(&status.directory);
	arena_clear(&status.arena);
	return code;
}

static const struct option status_options[] = {
	{.name = "check", .help = "exit code 1 where something is pending, missing or faulty"},
	{.name = NULL},
};

const struct command db_verb_status = {.name = "status",
				       .summary =
					       "installed version, pending migrations, roles, triggers, last revision",
				       .options = status_options,
				       .run = status_run};
