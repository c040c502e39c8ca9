/*
 * The migrations on disk: NNNN_name.sql, numbered from 1 without a gap, each a whole transaction that psql can run.
 *
 * Owns their names and texts. Knows no database.
 */
#ifndef APIKEYCTL_DB_DIRECTORY_H
#define APIKEYCTL_DB_DIRECTORY_H

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/ctl.h"

struct db_migration {
	int version;
	char *name; /* "0001_domain": the file's name without its ending */
	char *path;
};

struct db_directory {
	char *path;
	struct db_migration *migrations; /* by version: migrations[i].version is i + 1 */
	size_t count;
};

/*
 * Finds and lists them: --sql-dir, else APIKEYD_SQL_DIR, else the source's when this program runs from its build
 * directory, else the installed ones. Returns a ctl_exit, having said what is wrong; call db_directory_deinit after.
 */
int db_directory_read(const struct ctl *ctl, const struct args *args, struct db_directory *ret);
void db_directory_deinit(struct db_directory *directory);

/* The text of one migration, terminated, to be freed; NULL having said why. */
char *db_migration_text(const struct ctl *ctl, const struct db_migration *migration);

/* "0007_name.sql" → 7; 0 for any other name. Pure. */
int db_migration_number(const char *file_name);

#endif
