/* The whole tree of commands: apikeyctl, its global options, its nouns. */
#ifndef APIKEYCTL_ROOT_H
#define APIKEYCTL_ROOT_H

#include "client/apikeyctl/command.h"

extern const struct command command_root;

#endif
