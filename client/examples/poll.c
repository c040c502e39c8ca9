/*
 * libapikey in a loop made of poll(): reads a line "KEY SCOPE PAGE" (PAGE `-`: at the organization's level) after another
 * from standard input, asks all of them at once, and writes one line for each answer as it comes.
 *
 *     cc -o poll poll.c $(pkg-config --cflags --libs apikey)
 */
#include <apikey.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct apikey_async *handle;
static unsigned unanswered;

struct question {
	unsigned number;
	char scope[APIKEY_WORD_MAX];
};

static void on_answer(void *data, int err, const struct apikey_result *result)
{
	struct question *question = data;

	/* Nobody decided: say 503, not 403. */
	if (err)
		printf("%u %s %s (%s)\n", question->number, question->scope, apikey_verdict_word(result->verdict),
		       apikey_error());
	else
		printf("%u %s %s %s\n", question->number, question->scope, apikey_verdict_word(result->verdict),
		       result->reason_word);
	free(question);
	unanswered--;
}

static int ask(unsigned number, const char *line)
{
	struct question *question = calloc(1, sizeof(*question));
	char key[256], page[256];
	int err;

	if (!question)
		return -1;
	question->number = number;
	if (sscanf(line, "%255s %79s %255s", key, question->scope, page) != 3) {
		fprintf(stderr, "line %u: KEY SCOPE PAGE is wanted\n", number);
		free(question);
		return -1;
	}
	err = apikey_async_check(handle, key, question->scope, strcmp(page, "-") ? page : NULL, NULL, on_answer,
				 question, NULL);
	if (err) {
		fprintf(stderr, "line %u: %s\n", number, apikey_error());
		free(question);
		return -1;
	}
	unanswered++;
	return 0;
}

int main(void)
{
	char line[1024];
	unsigned number = 0;
	int failed = 0;

	/* The socket is $APIKEYD_SOCKET or the usual one. */
	if (apikey_async_open(NULL, &handle)) {
		fprintf(stderr, "%s\n", apikey_error());
		return 2;
	}
	while (fgets(line, sizeof(line), stdin))
		failed |= ask(++number, line);
	while (unanswered > 0) {
		/* A real loop has other descriptors beside this one; the library needs no timeout of the loop's. */
		struct pollfd watched = {.fd = apikey_async_fd(handle), .events = apikey_async_events(handle)};

		if (poll(&watched, 1, -1) > 0 && apikey_async_dispatch(handle))
			break;
	}
	apikey_async_close(handle);
	return failed ? 2 : 0;
}
