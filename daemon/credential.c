#include "daemon/credential.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool credential_is(const char *text)
{
	return strncmp(text, CREDENTIAL_PREFIX, sizeof(CREDENTIAL_PREFIX) - 1) == 0;
}

static bool left_out;

void credential_leave_out(void)
{
	left_out = true;
}

bool credential_left_out(const char *text)
{
	return left_out && credential_is(text);
}

bool credential_valid(const char *text)
{
	const char *name = text + sizeof(CREDENTIAL_PREFIX) - 1;
	size_t len;

	if (!credential_is(text))
		return false;
	len = strlen(name);
	return len > 0 && len <= CREDENTIAL_NAME_MAX && name[0] != '.' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == len;
}

int credential_path(const char *text, char *out, size_t size, char *error, size_t error_size)
{
	const char *name = text + sizeof(CREDENTIAL_PREFIX) - 1;
	const char *passed = secure_getenv("CREDENTIALS_DIRECTORY");
	int len;

	if (!credential_is(text)) {
		len = snprintf(out, size, "%s", text);
		goto out;
	}
	if (!credential_valid(text)) {
		snprintf(error, error_size,
			 "%s: a credential's name is 1 to %d letters, digits, - _ or ., the first not a dot", text,
			 CREDENTIAL_NAME_MAX);
		return -EINVAL;
	}
	len = snprintf(out, size, "%s/%s", left_out ? "/nonexistent" : passed ? passed : CREDENTIAL_DIRECTORY, name);
	if (!left_out && len >= 0 && (size_t)len < size && access(out, F_OK) != 0 && errno == ENOENT) {
		if (passed)
			snprintf(error, error_size,
				 "%s: the service manager passed no credential of that name; add "
				 "LoadCredential=%s:FILE to the unit",
				 text, name);
		else
			snprintf(error, error_size,
				 "%s: without a service manager that is the file %s, and there is none", text, out);
		return -ENOENT;
	}
out:
	if (len >= 0 && (size_t)len < size)
		return 0;
	snprintf(error, error_size, "%s: the path is too long", text);
	return -ENAMETOOLONG;
}
