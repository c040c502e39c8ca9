/* The configuration file: whatever it holds, it is refused with a line or printed as what reads the same. */
#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *print(const struct config *config)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		abort();
	config_print(config, out);
	fclose(out);
	return text;
}

/* A text can hold what begins a comment when it is printed behind a blank; no other text changes. */
static bool has_comment(const char *printed)
{
	for (const char *p = printed; (p = strchr(p, ';')); p++) {
		if (p > printed && isspace((unsigned char)p[-1]))
			return true;
	}
	return false;
}

/* No scope has more than the longest grace, each grace is found by going up, and none without a list. */
static void ask_grace(const struct config *config)
{
	static const char *const scopes[] = {"a:b", "incident:write", "audit:read", ":", "a", "", "*:*"};
	uint32_t longest = config_longest_grace_ms(config), ms = 0, next;
	char names[64];

	for (size_t i = 0; i < sizeof(scopes) / sizeof(scopes[0]); i++) {
		if (config_grace_ms(config->grace, scopes[i], strlen(scopes[i])) > longest)
			abort();
	}
	if (config_grace_ms(config->grace, NULL, 0) > longest)
		abort();
	while ((next = config_grace_after(config->grace, ms, names, sizeof(names)))) {
		if (next <= ms || !*names)
			abort();
		ms = next;
	}
	if (ms != longest || (!config->grace && longest))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char errors[2048];
	struct config *config = config_parse((const char *)data, size, "fuzz", errors, sizeof(errors)), *again;
	char *first, *second;

	if (!config) {
		if (!*errors || errors[strlen(errors) - 1] != '\n')
			abort(); /* refused without a word */
		return 0;
	}
	if (*errors)
		abort();
	ask_grace(config);
	first = print(config);
	again = config_parse(first, strlen(first), "printed", errors, sizeof(errors));
	if (again) {
		second = print(again);
		if (!has_comment(first) && strcmp(first, second) != 0)
			abort();
		free(second);
	} else if (!has_comment(first) && !strstr(errors, "longer than")) {
		abort();
	}
	config_free(again);
	config_free(config);
	free(first);
	return 0;
}
