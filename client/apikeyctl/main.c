/* apikeyctl: the administrator's command. Reads the global options, runs one command, and ends with its exit code. */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/ctl.h"
#include "client/apikeyctl/help.h"
#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/keyin.h"
#include "client/apikeyctl/root.h"
#include "client/apikeyctl/text.h"

/* Standard output's own buffer, so that it can be wiped: a minted key goes through it. */
static char main_out_buffer[BUFSIZ];

/*
 * A key on the command line has already been seen by whoever lists processes, and may stand in the shell's history.
 * It is wiped where it stands, and not repeated.
 */
static bool main_wipe_keys(int argc, char *argv[])
{
	bool found = false;

	for (int i = 1; i < argc; i++) {
		if (!text_looks_like_key(argv[i]))
			continue;
		explicit_bzero(argv[i], strlen(argv[i]));
		found = true;
	}
	return found;
}

static const char *main_socket(const struct args *args, const char *option, const char *variable, const char *otherwise)
{
	const char *path = args_text(args, option);

	if (!path)
		path = getenv(variable);
	return path && *path ? path : otherwise;
}

static bool main_color(const struct ctl *ctl, const struct args *args)
{
	const char *when = args_text(args, "color"), *no = getenv("NO_COLOR"), *term = getenv("TERM");

	if (when && strcmp(when, "auto") != 0)
		return strcmp(when, "always") == 0;
	return ctl->out_terminal && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

/* What the global options say. */
static int main_options(struct ctl *ctl, const struct args *args)
{
	const char *timeout = args_text(args, "timeout");
	uint64_t ms;

	ctl->check_socket = main_socket(args, "socket", "APIKEYD_SOCKET", "/run/apikeyd/check.sock");
	ctl->admin_socket = main_socket(args, "admin-socket", "APIKEYD_ADMIN_SOCKET", "/run/apikeyd/admin.sock");
	ctl->json = args_has(args, "json");
	ctl->quiet = args_has(args, "quiet");
	ctl->yes = args_has(args, "yes");
	ctl->color = main_color(ctl, args);
	if (timeout) {
		if (!text_duration(timeout, &ms) || ms == 0 || ms > RPC_DEADLINE_MAX_MS)
			return ctl_say(ctl, CTL_USAGE,
				       "--timeout takes a time up to 10m, such as 500ms or 5s, not \"%s\"", timeout);
		ctl->timeout_ms = (uint32_t)ms;
	}
	return CTL_DONE;
}

/* What was printed must have arrived; a reader that went away (head) is no news to anybody. */
static int main_finish(const struct ctl *ctl, int code)
{
	int err = fflush(ctl->out) != 0 ? errno : 0;

	if (err != EPIPE && (err || ferror(ctl->out)))
		return ctl_say(ctl, CTL_UNAVAILABLE, "the answer cannot be written: %s", strerror(err ? err : EIO));
	return err && code == CTL_DONE ? CTL_UNAVAILABLE : code;
}

static int main_run(struct ctl *ctl, int argc, char *argv[])
{
	char error[ARGS_ERROR_SIZE];
	struct args args;
	int code;

	if (argc < 2) {
		struct command_path path = {.at = {&command_root}, .depth = 1};

		help_print(ctl->err, &path);
		return CTL_USAGE;
	}
	switch (args_parse(&command_root, (size_t)argc - 1, argv + 1, &args, error)) {
	case ARGS_HELP:
		help_print(ctl->out, &args.path);
		code = CTL_DONE;
		break;
	case ARGS_WRONG:
		code = ctl_say(ctl, CTL_USAGE, "%s", error);
		break;
	case ARGS_NO_MEMORY:
		code = ctl_no_memory(ctl);
		break;
	case ARGS_OK:
	default:
		code = main_options(ctl, &args);
		if (!code)
			code = args.path.at[args.path.depth - 1]->run(ctl, &args);
	}
	args_deinit(&args);
	return code;
}

int main(int argc, char *argv[])
{
	struct ctl ctl = {.out = stdout, .err = stderr};
	int code;

	keyin_take_environment();
	setlocale(LC_CTYPE, "");
	jsonout_init();
	ctl.out_terminal = isatty(STDOUT_FILENO);
	ctl.err_terminal = isatty(STDERR_FILENO);
	ctl.in_terminal = isatty(STDIN_FILENO);
	setvbuf(stdout, main_out_buffer, ctl.out_terminal ? _IOLBF : _IOFBF, sizeof(main_out_buffer));
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return CTL_UNAVAILABLE;
	if (argc >= 2 && strcmp(argv[1], "__complete") == 0) {
		/* The shell asks while a command line is being typed. */
		help_complete(stdout, &command_root, (size_t)argc - 2, argv + 2);
		code = CTL_DONE;
	} else if (main_wipe_keys(argc, argv)) {
		code = ctl_say(
			&ctl, CTL_USAGE,
			"an argument looks like a key. Keys do not go on the command line, where every user of this host "
			"and the shell's history can see them: use --key-file FILE, --key-fd N, the environment's "
			"APIKEY_KEY or the prompt. If that key is live, replace it and revoke it");
	} else {
		code = main_run(&ctl, argc, argv);
	}
	code = main_finish(&ctl, code);
	explicit_bzero(main_out_buffer, sizeof(main_out_buffer));
	return code;
}
