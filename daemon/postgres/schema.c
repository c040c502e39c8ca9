#include "daemon/postgres/schema.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/postgres/connection.h"

#ifndef APIKEYD_SCHEMA_VERSION
#error "APIKEYD_SCHEMA_VERSION is the number of the newest migration; the build defines it"
#endif

int schema_wanted(void)
{
	return APIKEYD_SCHEMA_VERSION;
}

bool schema_is_ours(int32_t version, char *line, size_t size)
{
	if (version == APIKEYD_SCHEMA_VERSION)
		return true;
	if (version < APIKEYD_SCHEMA_VERSION)
		snprintf(line, size,
			 "schema apikeyd is at version %d, older than this daemon's %d; run `apikeyctl db upgrade`",
			 version, APIKEYD_SCHEMA_VERSION);
	else
		snprintf(line, size, "schema apikeyd is at version %d, newer than this daemon's %d; upgrade apikeyd",
			 version, APIKEYD_SCHEMA_VERSION);
	return false;
}

void schema_error_line(const PGresult *result, const char *doing, char *line, size_t size)
{
	static const struct {
		const char *state, *advice;
	} advices[] = {
		{"3F000", "schema apikeyd is missing: run `apikeyctl db install`"},
		{"42P01",
		 "schema apikeyd is missing or incomplete: run `apikeyctl db install` or `apikeyctl db upgrade`"},
		{"42883",
		 "schema apikeyd is missing or incomplete: run `apikeyctl db install` or `apikeyctl db upgrade`"},
		{"42703", "schema apikeyd is of another version: run `apikeyctl db upgrade`"},
		{"42501", "grant the role apikeyd_check to the login role, and see that database.role names it"},
		{"57014", "it took longer than the configured timeout"},
		{"53200", "the server is short of memory"},
	};
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE), *advice = NULL;
	char message[320];

	connection_result_line(result, message, sizeof(message));
	for (unsigned i = 0; state && i < sizeof(advices) / sizeof(advices[0]); i++)
		if (strcmp(state, advices[i].state) == 0)
			advice = advices[i].advice;
	snprintf(line, size, "%s: %s%s%s", doing, message, advice ? "; " : "", advice ? advice : "");
}

const char *schema_put_error(int error)
{
	switch (error) {
	case -ENOMEM:
		return "no memory for it";
	case -E2BIG:
		return "more roles or scopes than the daemon takes (64 roles, 1024 scopes): remove what is not used";
	case -EBADMSG:
		return "a row is not as this daemon's schema has it: run `apikeyctl db status`";
	default:
		return "a row that cannot be: run `apikeyctl db status`, then look for what went round the constraints";
	}
}
