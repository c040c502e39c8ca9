/* The verbs of apikeyctl's noun stack, one file each; stack.c puts them in order. */
#ifndef APIKEYCTL_STACK_VERBS_H
#define APIKEYCTL_STACK_VERBS_H

#include "client/apikeyctl/command.h"

extern const struct command command_stack_check, command_stack_list, command_stack_explain;

#endif
