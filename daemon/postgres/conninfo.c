#include "daemon/postgres/conninfo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/credential.h"

enum { CONNINFO_PARAMS_MAX = 64, CONNINFO_HOSTS_MAX = 16 };

static void conninfo_free_text(char *text)
{
	if (!text)
		return;
	explicit_bzero(text, strlen(text));
	free(text);
}

static void conninfo_free_list(char **list)
{
	for (unsigned i = 0; list && list[i]; i++)
		conninfo_free_text(list[i]);
	free(list);
}

void conninfo_free(struct conninfo *info)
{
	if (!info)
		return;
	conninfo_free_list(info->names);
	conninfo_free_list(info->values);
	for (unsigned i = 0; i < info->host_count; i++) {
		free(info->hosts[i].name);
		free(info->hosts[i].address);
		free(info->hosts[i].port);
	}
	free(info->hosts);
	free(info->database);
	free(info->user);
	free(info);
}

/* The value that libpq would use: what the string says, else what the environment does, else the default. */
static const char *conninfo_value(const PQconninfoOption *given, const PQconninfoOption *defaults, const char *name)
{
	for (; given->keyword; given++)
		if (given->val && strcmp(given->keyword, name) == 0)
			return given->val[0] ? given->val : NULL;
	for (; defaults->keyword; defaults++)
		if (defaults->val && strcmp(defaults->keyword, name) == 0)
			return defaults->val[0] ? defaults->val : NULL;
	return NULL;
}

/* The i-th of a comma-separated list, NULL where it is empty. False past the end. */
static bool conninfo_item(const char *list, unsigned i, char **ret)
{
	const char *end;

	*ret = NULL;
	for (; i > 0; i--) {
		list = strchr(list, ',');
		if (!list)
			return false;
		list++;
	}
	end = strchrnul(list, ',');
	if (end > list) {
		*ret = strndup(list, (size_t)(end - list));
		if (!*ret)
			return false;
	}
	return true;
}

static unsigned conninfo_item_count(const char *list)
{
	unsigned count = 1;

	for (; list && *list; list++)
		count += *list == ',';
	return count;
}

static int conninfo_parse_hosts(struct conninfo *info, const char *names, const char *addresses, const char *ports,
				char *error, size_t error_size)
{
	unsigned count = names ? conninfo_item_count(names) : conninfo_item_count(addresses);
	unsigned port_count = conninfo_item_count(ports);

	if (count > CONNINFO_HOSTS_MAX || (names && addresses && conninfo_item_count(addresses) != count) ||
	    (port_count != 1 && port_count != count)) {
		snprintf(error, error_size,
			 "names %u hosts with %u addresses and %u ports: they must match, at most %d", count,
			 addresses ? conninfo_item_count(addresses) : 0, ports ? port_count : 0,
			 (int)CONNINFO_HOSTS_MAX);
		return -EINVAL;
	}
	info->hosts = calloc(count, sizeof(*info->hosts));
	if (!info->hosts)
		return -ENOMEM;
	info->host_count = count;
	for (unsigned i = 0; i < count; i++) {
		struct conninfo_host *host = &info->hosts[i];

		if ((names && !conninfo_item(names, i, &host->name)) ||
		    (addresses && !conninfo_item(addresses, i, &host->address)) ||
		    (ports && !conninfo_item(ports, port_count == 1 ? 0 : i, &host->port)))
			return -ENOMEM;
	}
	return 0;
}

/* These are decided by us: an attempt is for one host, answers within our time, and judges the server itself. */
static bool conninfo_is_ours(const char *name)
{
	static const char *const ours[] = {"host",
					   "hostaddr",
					   "port",
					   "connect_timeout",
					   "target_session_attrs",
					   "client_encoding",
					   "application_name",
					   "fallback_application_name",
					   "keepalives",
					   "keepalives_idle",
					   "keepalives_interval",
					   "keepalives_count",
					   "tcp_user_timeout"};

	for (unsigned i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (strcmp(name, ours[i]) == 0)
			return true;
	return false;
}

/* Parameters that name files may name credentials; libpq is given their paths. */
static int conninfo_resolve(const PQconninfoOption *option, char **ret, char *error, size_t error_size)
{
	static const char *const files[] = {"passfile", "sslkey", "sslcert", "sslrootcert", "sslcrl"};
	char path[CREDENTIAL_PATH_MAX], line[CREDENTIAL_PATH_MAX];
	const char *value = option->val;

	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (strcmp(option->keyword, files[i]) != 0 || !credential_is(value))
			continue;
		if (credential_path(value, path, sizeof(path), line, sizeof(line)) != 0) {
			snprintf(error, error_size, "%s=%s", option->keyword, line);
			return -EINVAL;
		}
		value = path;
	}
	*ret = strdup(value);
	return *ret ? 0 : -ENOMEM;
}

static int conninfo_take(struct conninfo *info, const PQconninfoOption *given, const PQconninfoOption *defaults,
			 char *error, size_t error_size)
{
	const char *user = conninfo_value(given, defaults, "user");
	const char *database = conninfo_value(given, defaults, "dbname");
	const char *sslmode = conninfo_value(given, defaults, "sslmode");
	unsigned n = 0;
	int r;

	info->names = calloc(CONNINFO_PARAMS_MAX + 1, sizeof(char *));
	info->values = calloc(CONNINFO_PARAMS_MAX + 1, sizeof(char *));
	info->user = strdup(user ? user : "");
	info->database = strdup(database ? database : user ? user : "");
	if (!info->names || !info->values || !info->user || !info->database)
		return -ENOMEM;
	info->verified = sslmode && strcmp(sslmode, "verify-full") == 0;
	for (const PQconninfoOption *o = given; o->keyword && n < CONNINFO_PARAMS_MAX; o++) {
		if (!o->val)
			continue;
		if (strcmp(o->keyword, "service") == 0) {
			snprintf(error, error_size, "names a service: write its host, port, dbname and user instead");
			return -EINVAL;
		}
		if (conninfo_is_ours(o->keyword))
			continue;
		info->names[n] = strdup(o->keyword);
		if (!info->names[n])
			return -ENOMEM;
		r = conninfo_resolve(o, &info->values[n], error, error_size);
		if (r < 0)
			return r;
		n++;
	}
	r = conninfo_parse_hosts(info, conninfo_value(given, defaults, "host"),
				 conninfo_value(given, defaults, "hostaddr"), conninfo_value(given, defaults, "port"),
				 error, error_size);
	return r;
}

int conninfo_parse(const char *text, struct conninfo **ret, char *error, size_t error_size)
{
	PQconninfoOption *given = NULL, *defaults = NULL;
	struct conninfo *info = NULL;
	char *message = NULL;
	int r = -ENOMEM;

	given = PQconninfoParse(text, &message);
	if (!given) {
		/* libpq's own words may quote a piece of a password. */
		snprintf(error, error_size,
			 "is not a libpq connection string (name=value …, values with blanks in single quotes) or URI "
			 "(postgresql://…), or has a name that libpq does not know");
		r = message ? -EINVAL : -ENOMEM;
		goto out;
	}
	defaults = PQconndefaults();
	info = calloc(1, sizeof(*info));
	if (!defaults || !info)
		goto out;
	r = conninfo_take(info, given, defaults, error, error_size);
	if (r < 0)
		goto out;
	*ret = info;
	info = NULL;
out:
	conninfo_free(info);
	PQconninfoFree(given);
	PQconninfoFree(defaults);
	PQfreemem(message);
	return r;
}

int conninfo_check(const char *text, char *error, size_t error_size)
{
	struct conninfo *info = NULL;
	int r = conninfo_parse(text, &info, error, error_size);

	conninfo_free(info);
	return r;
}

bool conninfo_is_socket(const struct conninfo_host *host)
{
	if (host->address)
		return false;
	return !host->name || host->name[0] == '/' || host->name[0] == '@';
}

bool conninfo_is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

		return ntohl(in->sin_addr.s_addr) >> 24 == 127;
	}
	if (address->sa_family == AF_INET6) {
		const struct in6_addr *in = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;

		return IN6_IS_ADDR_LOOPBACK(in) || (IN6_IS_ADDR_V4MAPPED(in) && in->s6_addr[12] == 127);
	}
	return false;
}

void conninfo_describe(const struct conninfo *info, unsigned host, char *out, size_t size)
{
	const struct conninfo_host *h = &info->hosts[host < info->host_count ? host : 0];

	snprintf(out, size, "host=%s port=%s dbname=%s user=%s",
		 h->name      ? h->name
		 : h->address ? h->address
			      : "(local socket)",
		 h->port ? h->port : "(default)", info->database, info->user);
}

static int conninfo_params_add(struct conninfo_params *params, unsigned *n, const char *name, const char *value)
{
	if (!value)
		return 0;
	params->names[*n] = strdup(name);
	params->values[*n] = strdup(value);
	if (!params->names[*n] || !params->values[*n])
		return -ENOMEM;
	(*n)++;
	return 0;
}

static int conninfo_params_new(struct conninfo_params *params)
{
	/* Ours come on top of the string's. */
	params->names = calloc(CONNINFO_PARAMS_MAX + 16, sizeof(char *));
	params->values = calloc(CONNINFO_PARAMS_MAX + 16, sizeof(char *));
	if (params->names && params->values)
		return 0;
	conninfo_params_deinit(params);
	return -ENOMEM;
}

int conninfo_params_init(struct conninfo_params *params, const struct conninfo *info, unsigned host,
			 const char *address, uint32_t keepalive_ms)
{
	const struct conninfo_host *h = &info->hosts[host];
	struct conninfo_params p = {0};
	char seconds[16], milliseconds[16];
	bool gss = false;
	unsigned n = 0;
	int r = conninfo_params_new(&p);

	if (r < 0)
		return r;
	snprintf(seconds, sizeof(seconds), "%u", keepalive_ms < 1000 ? 1 : keepalive_ms / 1000);
	snprintf(milliseconds, sizeof(milliseconds), "%u", keepalive_ms);
	for (unsigned i = 0; info->names[i]; i++) {
		gss |= strcmp(info->names[i], "gssencmode") == 0;
		r |= conninfo_params_add(&p, &n, info->names[i], info->values[i]);
	}
	r |= conninfo_params_add(&p, &n, "host", h->name);
	r |= conninfo_params_add(&p, &n, "hostaddr", address ? address : h->address);
	r |= conninfo_params_add(&p, &n, "port", h->port);
	r |= conninfo_params_add(&p, &n, "target_session_attrs", "any");
	r |= conninfo_params_add(&p, &n, "application_name", "apikeyd");
	r |= conninfo_params_add(&p, &n, "client_encoding", "UTF8");
	r |= conninfo_params_add(&p, &n, "keepalives", "1");
	r |= conninfo_params_add(&p, &n, "keepalives_idle", seconds);
	r |= conninfo_params_add(&p, &n, "keepalives_interval", seconds);
	r |= conninfo_params_add(&p, &n, "keepalives_count", "3");
	r |= conninfo_params_add(&p, &n, "tcp_user_timeout", milliseconds);
	/* GSSAPI asks its key server with blocking calls, and goes before TLS: only where it is asked for. */
	if (!gss)
		r |= conninfo_params_add(&p, &n, "gssencmode", "disable");
	if (r < 0) {
		conninfo_params_deinit(&p);
		return -ENOMEM;
	}
	*params = p;
	return 0;
}

int conninfo_params_copy(struct conninfo_params *params, const struct conninfo_params *from)
{
	struct conninfo_params p = {0};
	unsigned n = 0;
	int r = conninfo_params_new(&p);

	for (unsigned i = 0; r == 0 && from->names[i]; i++)
		r = conninfo_params_add(&p, &n, from->names[i], from->values[i]);
	if (r < 0) {
		conninfo_params_deinit(&p);
		return r;
	}
	*params = p;
	return 0;
}

void conninfo_params_deinit(struct conninfo_params *params)
{
	conninfo_free_list(params->names);
	conninfo_free_list(params->values);
	*params = (struct conninfo_params){0};
}

char *conninfo_session_sql(const char *role, uint32_t statement_timeout_ms, const char *more)
{
	char *sql = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&sql, &size);

	if (!out)
		return NULL;
	fprintf(out,
		"SET search_path = pg_catalog, apikeyd, pg_temp; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; "
		"SET statement_timeout = %u; SET lock_timeout = %u; SET idle_in_transaction_session_timeout = %u; ",
		statement_timeout_ms, statement_timeout_ms > 1 ? statement_timeout_ms / 2 : statement_timeout_ms,
		statement_timeout_ms);
	if (more)
		fputs(more, out);
	if (role && role[0]) {
		fputs("SET ROLE \"", out);
		for (; *role; role++)
			fputs(*role == '"' ? "\"\"" : (char[]){*role, 0}, out);
		fputs("\"; ", out);
	}
	if (ferror(out) | fclose(out)) {
		free(sql);
		return NULL;
	}
	return sql;
}

void conninfo_one_line(char *text)
{
	char *to = text;
	bool blank = false;

	for (const char *from = text; *from; from++) {
		if (*from == '\n' || *from == '\r' || *from == '\t' || *from == ' ') {
			blank = to > text;
			continue;
		}
		if (blank)
			*to++ = ' ';
		blank = false;
		*to++ = *from;
	}
	*to = '\0';
}
