/* doctor: what is the database's with all its daemons: standbys, registrations, leases. */
#include <stdlib.h>
#include <string.h>

#include "client/apikeyctl/doctor.h"

static void replication_look(struct doctor *doctor)
{
	PGresult *result = doctor_query(
		doctor, "replication", DOCTOR_AS_LOGIN,
		"select count(*), count(*) filter (where sync_state in ('sync', 'quorum')), count(sync_state),"
		" current_setting('synchronous_standby_names') from pg_stat_replication");
	const char *names;
	int standbys, synchronous, seen;

	if (!result)
		return;
	standbys = atoi(PQgetvalue(result, 0, 0));
	synchronous = atoi(PQgetvalue(result, 0, 1));
	seen = atoi(PQgetvalue(result, 0, 2));
	names = PQgetvalue(result, 0, 3);
	if (*names && (standbys == 0 || (seen == standbys && synchronous == 0)))
		doctor_tell(
			doctor, "replication", FINDING_FAILED,
			"bring the standby back, or take it out of synchronous_standby_names: every commit waits for it",
			"synchronous_standby_names = %s, and no such standby is connected", names);
	else if (*names && synchronous == 0)
		doctor_tell(doctor, "replication", FINDING_UNKNOWN,
			    "give --database with a superuser or a member of pg_monitor",
			    "%d standbys; whether one is synchronous (%s) this user may not see", standbys, names);
	else if (*names)
		doctor_tell(doctor, "replication", FINDING_OK, NULL,
			    "%d standbys, %d synchronous: a revocation outlives a failover to one of them", standbys,
			    synchronous);
	else if (standbys > 0)
		doctor_tell(
			doctor, "replication", FINDING_WARNING,
			"set synchronous_standby_names; or after a failover revoke again what was revoked in the last moments "
			"before it",
			"%d standbys, none synchronous: a failover can lose the last revocations", standbys);
	else
		doctor_tell(doctor, "replication", FINDING_OK, NULL,
			    "no standby is connected: what a lost server takes with it only a backup has");
	PQclear(result);
}

static void registrations_look(struct doctor *doctor)
{
	PGresult *result = doctor_query(
		doctor, "registrations", DOCTOR_AS_ADMIN,
		"select count(*) filter (where live), count(*) filter (where not live),"
		" string_agg(format('%s pid %s, silent for %s s', host, pid, round(extract(epoch from now() - seen_at))), '; '"
		"   order by seen_at) filter (where not live) from apikeyd.daemons");

	if (!result)
		return;
	if (strcmp(PQgetvalue(result, 0, 1), "0") != 0)
		doctor_tell(doctor, "registrations", FINDING_WARNING,
			    "see why it is silent; one that is gone for good is forgotten after a day, or: delete from "
			    "apikeyd.daemon where lease_until < now()",
			    "%s daemons are live; the lease of %s ran out: %s", PQgetvalue(result, 0, 0),
			    PQgetvalue(result, 0, 1), PQgetvalue(result, 0, 2));
	else
		doctor_tell(doctor, "registrations", FINDING_OK, NULL, "%s daemons are live, no lease ran out",
			    PQgetvalue(result, 0, 0));
	PQclear(result);
}

static void lease_look(struct doctor *doctor)
{
	PGresult *result =
		doctor_query(doctor, "longest lease", DOCTOR_AS_ADMIN,
			     "select (extract(epoch from lease) * 1000)::pg_catalog.int8 from apikeyd.longest_lease");
	unsigned long long longest;
	char advice[DOCTOR_ADVICE_SIZE];

	if (!result)
		return;
	longest = PQntuples(result) == 1 ? strtoull(PQgetvalue(result, 0, 0), NULL, 10) : 0;
	PQclear(result);
	snprintf(advice, sizeof(advice), "as a superuser: select apikeyd.set_longest_lease('%llu s')",
		 ((unsigned long long)doctor->lease_ms + 999) / 1000);
	if (doctor->lease_ms > longest)
		doctor_tell(doctor, "longest lease", FINDING_FAILED, advice,
			    "the database allows %llu ms, and this daemon's lease is %llu ms: it confirms nothing",
			    longest, (unsigned long long)doctor->lease_ms);
	else
		doctor_tell(doctor, "longest lease", FINDING_OK, NULL,
			    "%llu ms: waiting for a revocation holds for it after a failover", longest);
}

void doctor_cluster(struct doctor *doctor)
{
	replication_look(doctor);
	if (!doctor->schema_is_ours)
		return;
	registrations_look(doctor);
	lease_look(doctor);
}
