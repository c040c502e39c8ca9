/* Where in a migration's text something stands: PostgreSQL tells characters or nothing, people want lines. Pure. */
#ifndef APIKEYCTL_DB_TEXT_H
#define APIKEYCTL_DB_TEXT_H

#include <stddef.h>

/* The line (from 1) of the `position`th character (from 1; UTF-8), as PG_DIAG_STATEMENT_POSITION counts. */
size_t db_text_line_of(const char *sql, size_t position);

/*
 * The line (from 1) on which the statement of that number (from 0; empty ones do not count) begins; that of the last
 * statement where there are fewer. Knows comments, quoted text and names, and dollar quotes.
 */
size_t db_text_line_of_statement(const char *sql, size_t number);

#endif
