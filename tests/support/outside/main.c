/* A program of somebody else's: knows the installed header and library, nothing of this tree. */
#include <apikey.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	struct apikey *handle;
	struct apikey_result result;
	struct apikey_options options = APIKEY_OPTIONS_INIT;

	options.socket = "/nonexistent/apikeyd.sock";
	if (apikey_open(&options, &handle))
		return 1;
	int err = apikey_check(handle, "aku_nonsense", "page:read", "acme", NULL, &result);
	printf("%d %s %s\n", err, apikey_verdict_word(result.verdict), apikey_reason_word(result.reason));
	apikey_close(handle);
	/* Nobody listens there: a fault, and never ALLOW. */
	return err < 0 && result.verdict == APIKEY_UNAVAILABLE ? 0 : 1;
}
