#include "client/apikeyctl/db_text.h"

#include <stdbool.h>
#include <string.h>

size_t db_text_line_of(const char *sql, size_t position)
{
	size_t line = 1, characters = 1;

	for (; *sql && characters < position; sql++) {
		if (*sql == '\n')
			line++;
		/* Bytes 10xxxxxx go on with the character before. */
		if (((unsigned char)sql[1] & 0xc0) != 0x80)
			characters++;
	}
	return line;
}

static bool db_text_is_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
	       (unsigned char)c >= 0x80;
}

static const char *db_text_line_comment(const char *c)
{
	return c + strcspn(c, "\n");
}

/* Comments of this kind nest. */
static const char *db_text_block_comment(const char *c)
{
	size_t depth = 0;

	do {
		if (c[0] == '/' && c[1] == '*') {
			depth++;
			c += 2;
		} else if (c[0] == '*' && c[1] == '/') {
			depth--;
			c += 2;
		} else {
			c++;
		}
	} while (depth > 0 && *c);
	return c;
}

/* From the opening quote to behind the closing one; a doubled quote is one within. */
static const char *db_text_quoted(const char *c, bool backslashes)
{
	char quote = *c++;

	for (; *c; c++) {
		if (backslashes && *c == '\\' && c[1])
			c++;
		else if (*c == quote && c[1] == quote)
			c++;
		else if (*c == quote)
			return c + 1;
	}
	return c;
}

/* From "$tag$" to behind the next "$tag$"; one character where this is none. */
static const char *db_text_dollar(const char *c)
{
	size_t len = 1;
	const char *end;

	while (db_text_is_name(c[len]) && c[len] != '$')
		len++;
	if (c[len] != '$' || (c[1] >= '0' && c[1] <= '9'))
		return c + 1;
	len++;
	for (end = c + len; *end; end++) {
		if (strncmp(end, c, len) == 0)
			return end + len;
	}
	return end;
}

/* Behind what stands at `c`: a comment, a quoted thing, a name, or one character. `*ret_blank`: it is no part of a statement. */
static const char *db_text_token(const char *c, bool *ret_blank)
{
	const char *begin = c;

	*ret_blank = false;
	if (c[0] == '-' && c[1] == '-') {
		*ret_blank = true;
		return db_text_line_comment(c);
	}
	if (c[0] == '/' && c[1] == '*') {
		*ret_blank = true;
		return db_text_block_comment(c);
	}
	if (*c == '\'' || *c == '"')
		return db_text_quoted(c, false);
	if (*c == '$')
		return db_text_dollar(c);
	while (db_text_is_name(*c))
		c++;
	if (c - begin == 1 && (*begin == 'e' || *begin == 'E') && *c == '\'')
		return db_text_quoted(c, true);
	if (c > begin)
		return c;
	*ret_blank = strchr(" \t\r\n\f\v", *c) != NULL;
	return c + 1;
}

size_t db_text_line_of_statement(const char *sql, size_t number)
{
	size_t line = 1, begin = 1;
	bool within = false; /* a statement has begun */
	size_t seen = 0;

	while (*sql) {
		bool blank;
		const char *end = db_text_token(sql, &blank);

		if (*sql == ';') {
			within = false;
		} else if (!blank && !within) {
			within = true;
			begin = line;
			if (seen++ == number)
				return begin;
		}
		for (; sql < end; sql++)
			line += *sql == '\n';
	}
	return begin;
}
