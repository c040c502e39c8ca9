/* stack: files of policy, looked at before they are deployed, and played through. */
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/stack_verbs.h"

static const struct command *const stack_commands[] = {&command_stack_list, &command_stack_check,
						       &command_stack_explain, NULL};

const struct command command_stack = {
	.name = "stack", .summary = "policy: list stacks, check them, play them through", .commands = stack_commands};
