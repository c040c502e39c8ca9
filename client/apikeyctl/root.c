#include "client/apikeyctl/root.h"

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/ctl.h"
#include "client/apikeyctl/help.h"
#include "client/apikeyctl/nouns.h"

static int help_run(struct ctl *ctl, const struct args *args)
{
	struct command_path path = {.at = {&command_root}, .depth = 1};

	for (size_t i = 0; args_operand(args, i); i++) {
		const struct command *here = path.at[path.depth - 1];
		const struct command *child = command_child(here, args_operand(args, i));

		if (!child)
			return ctl_say(ctl, CTL_USAGE, "%s has no command \"%s\" (see apikeyctl --help)", here->name,
				       args_operand(args, i));
		path.at[path.depth++] = child;
	}
	help_print(ctl->out, &path);
	return CTL_DONE;
}

static const struct operand help_operands[] = {
	{"NOUN", "a command", true, false}, {"VERB", "one of its own", true, false}, {NULL, NULL, false, false}};

static const struct command command_help = {
	.name = "help", .summary = "help about a command", .operands = help_operands, .run = help_run};

static const struct command *const root_commands[] = {
	&command_check,	      &command_explain, &command_whoami,  &command_pages,  &command_org,
	&command_page,	      &command_user,	&command_member,  &command_key,	   &command_stack,
	&command_modules,     &command_daemons, &command_wait,	  &command_db,	   &command_audit,
	&command_verify_copy, &command_history, &command_setup,	  &command_doctor, &command_stats,
	&command_metrics,     &command_hello,	&command_version, &command_help,   NULL};

static const struct option root_options[] = {
	{.name = "socket",
	 .value = "PATH",
	 .help = "the daemon's check socket (default: $APIKEYD_SOCKET, else /run/apikeyd/check.sock)"},
	{.name = "admin-socket",
	 .value = "PATH",
	 .help = "its administration socket (default: $APIKEYD_ADMIN_SOCKET, else /run/apikeyd/admin.sock)"},
	{.name = "timeout",
	 .value = "TIME",
	 .help = "how long to wait for an answer (default: 5s; administration: 30s)"},
	{.name = "json", .letter = 'j', .help = "answers as JSON, for programs"},
	{.name = "quiet", .letter = 'q', .help = "no verdict and no notices: the exit code tells"},
	{.name = "color",
	 .value = "auto|always|never",
	 .help = "colours (default: on a terminal, unless NO_COLOR is set)"},
	{.name = "help", .letter = 'h', .help = "help about the command that it stands with"},
	{.name = NULL},
};

const struct command command_root = {
	.name = "apikeyctl",
	.summary = "Asks and administers apikeyd, the API-key authorization daemon.",
	.options = root_options,
	.commands = root_commands,
};
