#include "daemon/confine/needs.h"

#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/credential.h"
#include "daemon/policy.h"
#include "daemon/postgres/conninfo_needs.h"

enum { PORT_OF_NAMES = 53 };

/*
 * Of any host. libc, libpq, its TLS and what name services there are read these; most are replaced while the daemon runs, so
 * it is the directories that count. What /proc has of others is guarded by the kernel's own rules.
 */
static const struct {
	const char *path;
	enum needs_kind kind;
	unsigned use;
} of_system[] = {
	{"/etc", NEEDS_TREE, NEEDS_READ}, /* users, names, resolver, time zone, certificates, and our own directory */
	{"/usr", NEEDS_TREE, NEEDS_READ}, /* libraries, time zones, certificates, modules */
	{"/lib", NEEDS_TREE, NEEDS_READ},
	{"/lib32", NEEDS_TREE, NEEDS_READ},
	{"/lib64", NEEDS_TREE, NEEDS_READ},
	{"/nix/store", NEEDS_TREE, NEEDS_READ}, /* what the above is made of, where it is */
	{"/gnu/store", NEEDS_TREE, NEEDS_READ},
	{"/proc", NEEDS_TREE, NEEDS_READ}, /* about peers, and about the daemon itself */
	{"/dev/null", NEEDS_TREE, NEEDS_READ | NEEDS_WRITE},
	{"/dev/zero", NEEDS_TREE, NEEDS_READ},
	{"/dev/random", NEEDS_TREE, NEEDS_READ},
	{"/dev/urandom", NEEDS_TREE, NEEDS_READ},
	{"/etc/resolv.conf", NEEDS_FILE, NEEDS_READ}, /* is a link to where a resolver keeps it */
	{"/etc/localtime", NEEDS_FILE, NEEDS_READ},
	{"/run/systemd/userdb", NEEDS_TREE, NEEDS_READ}, /* nss-systemd looks for its services there */
	{"/var/lib/sss/mc", NEEDS_TREE, NEEDS_READ},	 /* and sss for what it remembers */
};

/* What the environment may name in place of that. */
static const struct {
	const char *variable;
	enum needs_kind kind;
} of_environment[] = {
	{"TZDIR", NEEDS_TREE},	      {"OPENSSL_CONF", NEEDS_FILE}, {"SSL_CERT_FILE", NEEDS_FILE},
	{"SSL_CERT_DIR", NEEDS_TREE}, {"KRB5_CONFIG", NEEDS_FILE},  {"CREDENTIALS_DIRECTORY", NEEDS_TREE},
};

struct telling {
	needs_told told;
	void *data;
	const char *setting; /* whose connection string it is */
};

static void tell(const struct telling *telling, enum needs_of of, enum needs_kind kind, unsigned use, const char *path,
		 const char *what)
{
	struct need need = {.of = of, .kind = kind, .use = use, .path = path, .what = what};

	telling->told(telling->data, &need);
}

/* ---- the host ---- */

/* What libpq looks for in a home directory where nothing else is said. */
static void tell_home(const struct telling *telling, const char *home)
{
	char path[PATH_MAX];

	if (!home || home[0] != '/')
		return;
	if (snprintf(path, sizeof(path), "%s/.postgresql", home) < (int)sizeof(path))
		tell(telling, NEEDS_OF_SYSTEM, NEEDS_TREE, NEEDS_READ, path, "");
	if (snprintf(path, sizeof(path), "%s/.pgpass", home) < (int)sizeof(path))
		tell(telling, NEEDS_OF_SYSTEM, NEEDS_TREE, NEEDS_READ, path, "");
}

static void tell_system(const struct telling *telling)
{
	const struct passwd *entry = getpwuid(geteuid());
	const char *notify = getenv("NOTIFY_SOCKET");

	for (unsigned i = 0; i < sizeof(of_system) / sizeof(of_system[0]); i++)
		tell(telling, NEEDS_OF_SYSTEM, of_system[i].kind, of_system[i].use, of_system[i].path, "");
	for (unsigned i = 0; i < sizeof(of_environment) / sizeof(of_environment[0]); i++) {
		const char *path = getenv(of_environment[i].variable);

		if (path && path[0] == '/')
			tell(telling, NEEDS_OF_SYSTEM, of_environment[i].kind, NEEDS_READ, path, "");
	}
	tell_home(telling, entry ? entry->pw_dir : NULL);
	tell_home(telling, getenv("HOME"));
	if (notify && notify[0] == '@')
		telling->told(telling->data, &(const struct need){.of = NEEDS_OF_SYSTEM, .abstract = true, .what = ""});
}

/* ---- the configuration ---- */

static void on_file(void *data, const char *keyword, const char *path, bool directory)
{
	const struct telling *telling = data;
	char what[128];

	snprintf(what, sizeof(what), "%s: %s", telling->setting, keyword);
	tell(telling, NEEDS_OF_CONFIG, directory ? NEEDS_TREE : NEEDS_FILE, NEEDS_READ, path, what);
}

static void tell_port(const struct telling *telling, enum needs_of of, uint16_t port, const char *what)
{
	struct need need = {.of = of, .port = port, .what = what};

	telling->told(telling->data, &need);
}

static void on_port(void *data, uint16_t port)
{
	const struct telling *telling = data;

	tell_port(telling, NEEDS_OF_CONFIG, port, telling->setting);
}

static void on_abstract(void *data)
{
	const struct telling *telling = data;
	struct need need = {.of = NEEDS_OF_CONFIG, .abstract = true, .what = telling->setting};

	telling->told(telling->data, &need);
}

static void tell_conninfo(struct telling *telling, const char *setting, const char *text)
{
	const struct conninfo_needs told = {.file = on_file, .port = on_port, .abstract = on_abstract, .data = telling};

	telling->setting = setting;
	conninfo_needs(text, &told);
}

static void tell_paths(const struct telling *telling, const char *list, unsigned use, const char *what)
{
	char path[PATH_MAX];

	while (config_next(&list, path, sizeof(path)))
		tell(telling, NEEDS_OF_START, NEEDS_TREE, use, path, what);
}

static void tell_ports(const struct telling *telling, const char *list)
{
	char port[16];

	tell_port(telling, NEEDS_OF_SYSTEM, PORT_OF_NAMES, "");
	while (config_next(&list, port, sizeof(port)))
		tell_port(telling, NEEDS_OF_START, (uint16_t)strtoul(port, NULL, 10), "[confine] connect"); /* any: 0 */
}

/* The directory of a socket that the daemon makes, and of its lock, which go when it stops. */
static void tell_socket(const struct telling *telling, const char *path)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(path, '/');

	snprintf(directory, sizeof(directory), "%.*s", slash > path ? (int)(slash - path) : 1, path);
	tell(telling, NEEDS_OF_SYSTEM, NEEDS_TREE, NEEDS_REMOVE, directory, "");
}

static void tell_config(struct telling *telling, const char *path, const struct config *config)
{
	char file[CREDENTIAL_PATH_MAX], error[CREDENTIAL_PATH_MAX];

	tell(telling, NEEDS_OF_CONFIG, NEEDS_FILE, NEEDS_READ, path, "the configuration");
	tell(telling, NEEDS_OF_CONFIG, NEEDS_TREE, NEEDS_READ, config->stack_dir, "[stacks] dir");
	tell(telling, NEEDS_OF_CONFIG, NEEDS_TREE, NEEDS_READ, config->module_dir, "[stacks] module_dir");
	if (credential_path(config->pepper_file, file, sizeof(file), error, sizeof(error)) == 0)
		tell(telling, NEEDS_OF_CONFIG, NEEDS_FILE, NEEDS_READ, file, "[key] pepper_file");
	tell_conninfo(telling, "[database] conninfo", config->conninfo);
	if (*config->admin_conninfo)
		tell_conninfo(telling, "[database] admin_conninfo", config->admin_conninfo);
	if (*config->state_dir)
		tell(telling, NEEDS_OF_START, NEEDS_TREE, NEEDS_READ | NEEDS_WRITE, config->state_dir,
		     "[state] directory");
	tell_paths(telling, config->confine_read, NEEDS_READ, "[confine] read");
	tell_paths(telling, config->confine_write, NEEDS_READ | NEEDS_WRITE, "[confine] write");
	tell_ports(telling, config->confine_connect);
	/* Sockets change at the next start: those of a configuration that is read again are nobody's yet. */
	for (unsigned i = 0; i < config->check_count; i++)
		tell_socket(telling, config->check[i].path);
	tell_socket(telling, config->admin.path);
}

/* ---- the stacks ---- */

static void tell_line(const struct telling *telling, const struct stack_line *line)
{
	const struct apikeyd_argument *argument = line->module->arguments;
	char what[512];

	for (unsigned i = 0; argument && argument[i].name; i++) {
		if (argument[i].type != APIKEYD_TYPE_PATH || !line->values[i].given)
			continue;
		snprintf(what, sizeof(what), "%s:%u: %s", line->path, line->place.line, argument[i].name);
		tell(telling, NEEDS_OF_STACKS, NEEDS_FILE, NEEDS_READ, line->values[i].text, what);
	}
}

static void tell_stacks(const struct telling *telling, const struct policy *policy)
{
	for (uint32_t i = 0; i < policy->stack_count; i++) {
		const struct stack_program *program = policy->stacks[i].program;

		for (unsigned at = 0; at < program->first[STACK_GROUPS]; at++) {
			if (program->lines[at].op == STACK_OP_MODULE)
				tell_line(telling, &program->lines[at]);
		}
	}
}

void needs_each(const char *path, const struct config *config, const struct policy *policy, needs_told told, void *data)
{
	struct telling telling = {.told = told, .data = data};

	tell_system(&telling);
	tell_config(&telling, path, config);
	if (policy)
		tell_stacks(&telling, policy);
}
