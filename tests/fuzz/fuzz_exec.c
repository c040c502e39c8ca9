/* What programs answer to exec: whatever it is, it is understood as a code that there is, or not at all. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/modules/exec_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
	if (!condition)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct exec_answer answer = {.id = 42};
	const char *words[4];
	char *line;
	unsigned count;

	if (size >= EXEC_ANSWER_MAX || memchr(data, '\n', size))
		return 0;
	/* a block of its own: nothing is read or written past the end */
	line = malloc(size + 1);
	must(line != NULL);
	memcpy(line, data, size);
	line[size] = '\0';
	if (!exec_line_read(line, size, &answer)) {
		must(answer.id == 42 && answer.code == 0);
	} else {
		must(answer.code != APIKEYD_PENDING && (unsigned)answer.code < APIKEYD_CODE_END);
		must(data[0] >= '0' && data[0] <= '9');
		for (const char *c = answer.detail; c && *c; c++)
			must(*c >= ' ' && *c < 0x7f);
	}
	memcpy(line, data, size);
	count = exec_line_split(line, words, 4);
	for (unsigned i = 0; i < count && i < 4; i++)
		must(words[i] >= line && words[i] < line + size && *words[i] && !strpbrk(words[i], " \t"));
	free(line);
	return 0;
}
