#include "daemon/modules/patterns.h"

#include <string.h>

/* One side of the colon, or the whole. */
static bool side(const char *pattern, size_t pattern_len, const char *text, size_t len)
{
	if (pattern_len == 1 && pattern[0] == '*')
		return true;
	return pattern_len == len && memcmp(pattern, text, len) == 0;
}

static bool match(const char *pattern, size_t pattern_len, struct apikeyd_text scope)
{
	const char *colon = memchr(pattern, ':', pattern_len), *scope_colon;

	if (!scope.data)
		return pattern_len == 1 && pattern[0] == '*';
	scope_colon = memchr(scope.data, ':', scope.len);
	if (!colon || !scope_colon)
		return side(pattern, pattern_len, scope.data, scope.len);
	return side(pattern, (size_t)(colon - pattern), scope.data, (size_t)(scope_colon - scope.data)) &&
	       side(colon + 1, pattern_len - (size_t)(colon + 1 - pattern), scope_colon + 1,
		    scope.len - (size_t)(scope_colon + 1 - scope.data));
}

bool patterns_match(const char *patterns, struct apikeyd_text scope)
{
	for (const char *p = patterns; *p; p += *p == ',') {
		size_t len = strcspn(p, ",");

		if (match(p, len, scope))
			return true;
		p += len;
	}
	return false;
}

bool patterns_match_all(const char *patterns)
{
	return patterns_match(patterns, (struct apikeyd_text){0});
}
