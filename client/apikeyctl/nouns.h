/* The nouns of apikeyctl, one file each; root.c puts them in order. */
#ifndef APIKEYCTL_NOUNS_H
#define APIKEYCTL_NOUNS_H

#include "client/apikeyctl/command.h"

extern const struct command command_check, command_explain, command_whoami, command_pages;
extern const struct command command_org, command_page, command_user, command_member, command_key;
extern const struct command command_stack, command_modules, command_daemons, command_wait;
extern const struct command command_db, command_verify_copy, command_history, command_stats, command_metrics,
	command_hello, command_version;
extern const struct command command_doctor, command_setup, command_audit;

#endif
