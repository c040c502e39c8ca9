#include "daemon/postgres/conninfo_needs.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/credential.h"
#include "daemon/postgres/conninfo.h"

enum { PORT_OF_POSTGRES = 5432 };

static const struct {
	const char *keyword;
	bool directory;
} files[] = {{"passfile", false},    {"sslkey", false}, {"sslcert", false},
	     {"sslrootcert", false}, {"sslcrl", false}, {"sslcrldir", true}};

/* Some of these have words in place of paths ("system", "engine:key"): what has no slash is no path. */
static void tell_file(const struct conninfo_needs *told, unsigned i, const char *value)
{
	char path[CREDENTIAL_PATH_MAX], error[CREDENTIAL_PATH_MAX];

	if (credential_is(value)) {
		if (credential_path(value, path, sizeof(path), error, sizeof(error)) == 0)
			told->file(told->data, files[i].keyword, path, false);
	} else if (strchr(value, '/')) {
		told->file(told->data, files[i].keyword, value, files[i].directory);
	}
}

static const char *value_of(const PQconninfoOption *options, const char *keyword)
{
	for (; options && options->keyword; options++) {
		if (options->val && options->val[0] && strcmp(options->keyword, keyword) == 0)
			return options->val;
	}
	return NULL;
}

void conninfo_needs(const char *text, const struct conninfo_needs *told)
{
	PQconninfoOption *given = PQconninfoParse(text, NULL), *defaults = PQconndefaults();
	struct conninfo *info = NULL;
	char error[256];

	for (unsigned i = 0; given && i < sizeof(files) / sizeof(files[0]); i++) {
		const char *value = value_of(given, files[i].keyword);

		if (!value)
			value = value_of(defaults, files[i].keyword);
		if (value)
			tell_file(told, i, value);
	}
	if (given && conninfo_parse(text, &info, error, sizeof(error)) == 0) {
		for (unsigned i = 0; i < info->host_count; i++) {
			const struct conninfo_host *host = &info->hosts[i];
			unsigned long port = host->port ? strtoul(host->port, NULL, 10) : PORT_OF_POSTGRES;

			if (conninfo_is_socket(host) && host->name && host->name[0] == '@')
				told->abstract(told->data);
			else if (!conninfo_is_socket(host) && port > 0 && port <= UINT16_MAX)
				told->port(told->data, (uint16_t)port);
		}
	}
	conninfo_free(info);
	PQconninfoFree(given);
	PQconninfoFree(defaults);
}
