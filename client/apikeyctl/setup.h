/*
 * Making what a daemon needs on this host and in its database, step by step. Each step first looks, and does nothing
 * where everything is there.
 *
 * Owns its connections. Who calls it: the command setup.
 */
#ifndef APIKEYCTL_SETUP_H
#define APIKEYCTL_SETUP_H

#include "client/apikeyctl/db_directory.h"
#include "client/apikeyctl/doctor.h"

enum { SETUP_TEXT_SIZE = 1000 };

struct setup {
	const struct ctl *ctl;
	const struct args *args;
	struct doctor host;   /* settings and names; its findings are not told */
	char *dbname, *login; /* of the daemon's conninfo */
	bool local;	      /* over a Unix socket, where peer authentication names the login */
	PGconn *server;	      /* as a superuser */
	PGconn *database;     /* the same, in the daemon's database; NULL: it is not there yet */
	struct db_directory directory;
	struct pepper_file pepper;
};

struct setup_step {
	const char *name;
	/*
	 * Whether it is there, and `text`: what is there, or what is to be done. Returns a ctl_exit; what hinders, and what
	 * to type next, is in `text` then.
	 */
	int (*look)(struct setup *setup, bool *ret_there, char text[SETUP_TEXT_SIZE]);
	/* Does it. `text`: what was done, or what went wrong and what to type next. */
	int (*act)(struct setup *setup, char text[SETUP_TEXT_SIZE]);
};

/* In their order; `name` NULL ends them. */
extern const struct setup_step setup_steps[];

/* Connects, so that the steps can look. A ctl_exit, with `text` as above. */
int setup_connect(struct setup *setup, char text[SETUP_TEXT_SIZE]);

/* The steps of setup_database.c. */
int setup_look_database(struct setup *setup, bool *ret_there, char text[SETUP_TEXT_SIZE]);
int setup_make_database(struct setup *setup, char text[SETUP_TEXT_SIZE]);
int setup_look_schema(struct setup *setup, bool *ret_there, char text[SETUP_TEXT_SIZE]);
int setup_make_schema(struct setup *setup, char text[SETUP_TEXT_SIZE]);
int setup_look_login(struct setup *setup, bool *ret_there, char text[SETUP_TEXT_SIZE]);
int setup_make_login(struct setup *setup, char text[SETUP_TEXT_SIZE]);

#endif
