/* doctor: who may what in the database, as the migrations say. */
#include <stdlib.h>
#include <string.h>

#include "client/apikeyctl/doctor.h"

static const char roles_query[] =
	"select"
	" (select string_agg(w, ', ') from unnest(array['apikeyd_owner', 'apikeyd_check', 'apikeyd_admin',"
	"   'apikeyd_platform', 'apikeyd_auditor']) w where not exists (select from pg_roles where rolname = w)),"
	" (select string_agg(rolname, ', ') from pg_roles where rolname = 'apikeyd_owner' and (rolcanlogin or rolsuper)),"
	" l.rolname is not null and l.rolcanlogin, coalesce(l.rolsuper, false),"
	" (select string_agg(w, ', ') from unnest(array[$2, $3]::text[]) w where w <> '' and l.rolname is not null"
	"   and not coalesce((select pg_has_role(l.oid, r.oid, 'MEMBER') from pg_roles r where r.rolname = w), false)),"
	" coalesce((select pg_has_role(l.oid, r.oid, 'MEMBER') and not l.rolsuper from pg_roles r"
	"   where r.rolname = 'apikeyd_owner'), false)"
	" from (values (1)) one left join pg_roles l on l.rolname = $1";

/* The daemon's login, as its conninfo names it. To be freed. */
static char *login_name(struct doctor *doctor)
{
	const char *conninfo = settings_get(&doctor->settings, "database", "conninfo", "dbname=apikeyd user=apikeyd");
	PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
	char *name = NULL;

	for (const PQconninfoOption *o = options; o && o->keyword; o++) {
		if (!name && strcmp(o->keyword, "user") == 0 && o->val && *o->val)
			name = strdup(o->val);
	}
	PQconninfoFree(options);
	return name ? name : strdup(doctor->as_daemon ? PQuser(doctor->connection) : doctor->user);
}

static void roles_tell(struct doctor *doctor, const char *login, const PGresult *result)
{
	const char *missing = PQgetvalue(result, 0, 0), *owner = PQgetvalue(result, 0, 1);
	const char *lacks = PQgetvalue(result, 0, 4);
	char advice[DOCTOR_ADVICE_SIZE];

	if (*missing) {
		doctor_tell(doctor, "roles", FINDING_FAILED, "make them, nologin, and grant as sql/migrations do",
			    "there is no role %s", missing);
	} else if (*owner) {
		doctor_tell(doctor, "roles", FINDING_FAILED, "alter role apikeyd_owner nologin nosuperuser",
			    "apikeyd_owner may log in or is a superuser: whoever does can go round the triggers");
	} else if (PQgetvalue(result, 0, 2)[0] != 't') {
		snprintf(advice, sizeof(advice), "create role %s login noinherit, or apikeyctl setup", login);
		doctor_tell(doctor, "roles", FINDING_FAILED, advice,
			    "the daemon's login %s is not there, or may not log in", login);
	} else if (*lacks) {
		snprintf(advice, sizeof(advice), "grant %s to %s", lacks, login);
		doctor_tell(doctor, "roles", FINDING_FAILED, advice, "%s is no member of %s", login, lacks);
	} else if (PQgetvalue(result, 0, 3)[0] == 't') {
		snprintf(advice, sizeof(advice), "alter role %s nosuperuser", login);
		doctor_tell(doctor, "roles", FINDING_WARNING, advice, "the daemon's login %s is a superuser", login);
	} else if (PQgetvalue(result, 0, 5)[0] == 't') {
		snprintf(advice, sizeof(advice), "revoke apikeyd_owner from %s", login);
		doctor_tell(doctor, "roles", FINDING_FAILED, advice, "the daemon's login %s can become apikeyd_owner",
			    login);
	} else {
		doctor_tell(doctor, "roles", FINDING_OK, NULL, "all five are there, and %s has what the daemon needs",
			    login);
	}
}

static void roles_look(struct doctor *doctor)
{
	char *login = login_name(doctor);
	const char *params[] = {login, settings_get(&doctor->settings, "database", "role", "apikeyd_check"),
				settings_get(&doctor->settings, "database", "admin_role", "apikeyd_admin")};
	PGresult *result;

	if (!login) {
		doctor->no_memory = true;
		return;
	}
	result = PQexecParams(doctor->connection, roles_query, 3, NULL, params, NULL, NULL, 0);
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
		roles_tell(doctor, login, result);
	else
		doctor_tell(doctor, "roles", FINDING_FAILED, "see the server's log", "%s",
			    PQerrorMessage(doctor->connection));
	PQclear(result);
	free(login);
}

/* What the daemon and the others must be able to do, and what nobody must. */
static const char grants_query[] =
	"with must (role, object, privilege) as ("
	"  select 'apikeyd_check', 'apikeyd.' || t, 'SELECT' from unnest(array['key', 'key_page', 'key_scope', 'key_network',"
	"    'organization', 'page', 'user', 'organization_member', 'page_member', 'scope', 'role', 'role_scope', 'pepper',"
	"    'change', 'revision', 'feed_floor', 'schema_migration']) t"
	"  union all select 'apikeyd_admin', 'apikeyd.' || t, p from unnest(array['organization', 'page', 'user',"
	"    'organization_member', 'page_member']) t, unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p"
	"  union all select 'apikeyd_admin', 'apikeyd.daemon', 'SELECT'),"
	" calls (role, object) as (values"
	"  ('apikeyd_check', 'apikeyd.trigger_faults()'),"
	"  ('apikeyd_check', 'apikeyd.daemon_seen(uuid, text, int, text, bigint, interval)'),"
	"  ('apikeyd_check', 'apikeyd.daemon_gone(uuid)'),"
	"  ('apikeyd_check', 'apikeyd.trim_change_log(interval, bigint, interval)'),"
	"  ('apikeyd_check', 'apikeyd.history_lost(uuid, uuid, bigint, text, text, boolean, text, text, int, int, int, text[])'),"
	"  ('apikeyd_check', 'apikeyd.history_accepted(uuid, uuid, bigint, text, int, int, int, text[])'),"
	"  ('apikeyd_admin', 'apikeyd.register_pepper(smallint, bytea)'),"
	"  ('apikeyd_admin', 'apikeyd.wait_for(bigint)'),"
	"  ('apikeyd_auditor', 'apikeyd.explain_rights(text, text, text, text, inet, timestamptz)'))"
	" select 'lacks', role, object, privilege from must where not has_table_privilege(role, object, privilege)"
	" union all select 'lacks', role, object, 'EXECUTE' from calls where not has_function_privilege(role, object, 'EXECUTE')"
	" union all select 'has', role, 'apikeyd.key (hash)', 'SELECT' from unnest(array['apikeyd_admin', 'apikeyd_platform',"
	"  'apikeyd_auditor']) role where has_column_privilege(role, 'apikeyd.key', 'hash', 'SELECT')"
	" union all select 'has', 'public', 'schema apikeyd', 'USAGE' where has_schema_privilege('public', 'apikeyd', 'USAGE')"
	" limit 1";

static void grants_look(struct doctor *doctor)
{
	PGresult *result = doctor_query(doctor, "grants", DOCTOR_AS_CHECK, grants_query);
	char advice[DOCTOR_ADVICE_SIZE];

	if (!result)
		return;
	if (PQntuples(result) == 0) {
		doctor_tell(doctor, "grants", FINDING_OK, NULL,
			    "each role may what it needs; nobody else reads hashes");
	} else {
		const char *role = PQgetvalue(result, 0, 1), *object = PQgetvalue(result, 0, 2);
		bool lacks = strcmp(PQgetvalue(result, 0, 0), "lacks") == 0;

		snprintf(advice, sizeof(advice), "as a member of apikeyd_owner: %s %s on %s %s %s (sql/migrations)",
			 lacks ? "grant" : "revoke", PQgetvalue(result, 0, 3), object, lacks ? "to" : "from", role);
		doctor_tell(doctor, "grants", FINDING_FAILED, advice, "%s %s %s on %s", role,
			    lacks ? "lacks" : "must not have", PQgetvalue(result, 0, 3), object);
	}
	PQclear(result);
}

void doctor_roles(struct doctor *doctor)
{
	roles_look(doctor);
	if (doctor->schema_is_ours)
		grants_look(doctor);
}
