/*
 * What is right and what is wrong with a daemon, its host and its database: one finding after the other, each printed
 * as it is found.
 *
 * Owns what the checks have learnt so far, for those that come later. Who calls it: the command doctor, and setup at its
 * end. Checks never change anything.
 */
#ifndef APIKEYCTL_DOCTOR_H
#define APIKEYCTL_DOCTOR_H

#include <libpq-fe.h>
#include <sys/types.h>

#include <jansson.h>

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/ctl.h"
#include "client/apikeyctl/pepper.h"
#include "client/apikeyctl/settings.h"

enum finding {
	FINDING_OK = 0,
	FINDING_WARNING,
	FINDING_FAILED,
	FINDING_UNKNOWN, /* this user may not see it, or what it needs is not there */
	FINDING_STATES
};

#define DOCTOR_CONFIG "/etc/apikeyd/apikeyd.conf"

struct doctor {
	const struct ctl *ctl;
	const struct args *args;
	const char *config;	       /* path of the configuration */
	char binary[4096];	       /* of apikeyd; "" where there is none */
	char check[4096], admin[4096]; /* its sockets */
	struct settings settings;
	int config_code; /* of apikeyd --print: 0 they are read, above it is wrong, -errno; -ENOENT: no file, no program */
	char *config_said; /* what is wrong */
	bool user_known;   /* else it is taken for this one */
	char user[64];	   /* that the daemon runs as, and its ids */
	uid_t uid;
	gid_t gid;
	bool systemd; /* there is a service manager, and it has the unit */
	json_t *found;
	unsigned counts[FINDING_STATES];
	bool no_memory;

	/* Learnt from the daemon. */
	bool answers, loaded;
	pid_t pid;
	uint64_t rev, lease_ms;

	struct pepper_file pepper;

	/* The connection to the database, NULL where there is none; as the daemon connects, or as --database says. */
	PGconn *connection;
	bool as_daemon, schema_is_ours;
	bool only_as_daemon; /* whatever --database says */
};

enum { DOCTOR_ADVICE_SIZE = 400 };

/*
 * One finding, on one line. `advice`, what to do, is NULL where there is nothing to do. The name is a word or a few, as
 * the manual lists them.
 */
void doctor_tell(struct doctor *doctor, const char *name, enum finding finding, const char *advice, const char *format,
		 ...) __attribute__((format(printf, 5, 6)));

/* Finds apikeyd and reads its configuration, without a word. Returns a ctl_exit; doctor_deinit in any case. */
int doctor_init(struct doctor *doctor, const struct ctl *ctl, const struct args *args);
void doctor_deinit(struct doctor *doctor);
/*
 * Makes all checks; `running` false: leaves out what is about a daemon that runs, and *ret_running tells whether one does,
 * in which case nothing is left out. Returns a ctl_exit: 0, 1 or 3.
 */
int doctor_run(struct doctor *doctor, bool running, bool *ret_running);
/* Whether a daemon runs, without starting one by its socket. */
bool doctor_is_running(const struct doctor *doctor); /* doctor_host.c */
/* What it found: "20 ok, 1 warning, …" as a note. */
void doctor_sum_up(const struct doctor *doctor);
/* The findings as JSON, a new reference. */
json_t *doctor_json(const struct doctor *doctor);

/* The options of both commands. */
#define DOCTOR_OPTIONS                                                                                                 \
	{.name = "config", .letter = 'c', .value = "FILE", .help = "the daemon's configuration (" DOCTOR_CONFIG ")"},  \
		{.name = "apikeyd", .value = "PATH", .help = "the daemon's program (default: as installed)"},          \
	{                                                                                                              \
		.name = "sql-dir", .value = "DIR", .help = "where the migrations are (default: as for db)"             \
	}

/* ---- the checks, by file ---- */

void doctor_read(struct doctor *doctor); /* doctor_config.c: the settings, for doctor_init */
void doctor_configuration(struct doctor *doctor);
void doctor_stacks(struct doctor *doctor);

void doctor_units(struct doctor *doctor, bool tell); /* doctor_host.c; learns whose they are in any case */
void doctor_pepper(struct doctor *doctor);
void doctor_state(struct doctor *doctor);
void doctor_descriptors(struct doctor *doctor);

void doctor_sockets(struct doctor *doctor); /* doctor_daemon.c */
void doctor_daemon(struct doctor *doctor);  /* hello, freshness */
void doctor_revision(struct doctor *doctor);

void doctor_database(struct doctor *doctor); /* doctor_database.c: connection, server, schema, … */
void doctor_roles(struct doctor *doctor);    /* doctor_roles.c */
void doctor_cluster(struct doctor *doctor);  /* doctor_cluster.c: replication, registrations, leases */

/* ---- asking the database ---- */

enum doctor_as { DOCTOR_AS_LOGIN = 0, DOCTOR_AS_CHECK, DOCTOR_AS_ADMIN };

/*
 * One query, with the daemon's own SET ROLE where the connection is the daemon's. NULL having told why under `name`:
 * unknown where this role may not see it, else failed. PQclear it.
 */
PGresult *doctor_query(struct doctor *doctor, const char *name, enum doctor_as as, const char *sql);

/* Whom a connection is for. NULL: as the connection string says. */
struct doctor_login {
	const char *dbname, *user;
	uid_t uid; /* on a Unix socket without a password, where this process is root: connects as this user of the host */
	gid_t gid;
	bool primary; /* no standby */
};

/* Connects; credentials that the string names are files of /etc/apikeyd. NULL without memory; PQfinish it. */
PGconn *doctor_connect(const char *conninfo, const struct doctor_login *login);

/* A ctl_exit: refuses, and wipes, an option's connection string that has a password in it. */
int doctor_refuse_password(const struct ctl *ctl, const struct args *args, const char *option);

#endif
