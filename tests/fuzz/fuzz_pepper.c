/* The pepper file: whatever it holds, it is refused with one line that shows nothing of it, or every version works. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/secret.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct secret *secret)
{
	uint16_t version, before = 0;

	for (unsigned i = 0; (version = secret_version_at(secret, i)) != 0; i++) {
		uint8_t hash[SECRET_HASH_LEN], check[SECRET_HASH_LEN];

		if (version <= before || version > INT16_MAX || !secret_has(secret, version))
			abort();
		if (!secret_hash(secret, version, "key", 3, hash) || !secret_check_value(secret, version, check) ||
		    secret_equal(hash, check, sizeof(hash)))
			abort();
		before = version;
	}
	if (!before || before != secret_newest(secret))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[256] = "";
	struct secret *secret = secret_parse("fuzz", (const char *)data, size, error, sizeof(error));

	if (secret) {
		if (*error)
			abort();
		use(secret);
		secret_free(secret);
	} else if (strncmp(error, "pepper file fuzz:", strlen("pepper file fuzz:")) != 0 || strchr(error, '\n') ||
		   strlen(error) > 120) {
		abort(); /* refused without a word, or with one of the file's */
	}
	return 0;
}
