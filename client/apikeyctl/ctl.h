/*
 * What every command of apikeyctl shares: where answers go, how they are wanted, and the exit codes.
 *
 * Made by main.c from the global options; lives for the whole run; commands only read it.
 */
#ifndef APIKEYCTL_CTL_H
#define APIKEYCTL_CTL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* The exit codes; documented in --help and apikeyctl(1). */
enum ctl_exit {
	CTL_DONE = 0, /* allow, or done */
	CTL_DENY =
		1, /* the verdict is deny (check, whoami, pages), or something was found (db status, verify-copy, history) */
	CTL_USAGE = 2,	     /* the command line, or a key or file that it names, is not right; nothing was asked */
	CTL_UNAVAILABLE = 3, /* the daemon or the database cannot be asked, the verdict is unavailable, output failed */
	CTL_REFUSED = 4,     /* the request was refused: not found, exists, invalid, never allowed, or not confirmed */
	CTL_IN_VAIN = 5,     /* wait, --wait: the time is over, and a daemon may still answer from before */
};

struct ctl {
	FILE *out, *err;
	const char *check_socket, *admin_socket;
	uint32_t timeout_ms; /* 0: not given */
	bool json;	     /* machines read it */
	bool quiet;	     /* no verdict, no notices */
	bool yes;	     /* do not ask before destroying */
	bool color;	     /* on out */
	bool out_terminal, err_terminal, in_terminal;
};

/* One line to err: "apikeyctl: …". Control characters are shown as '?'. Returns `code`, so that callers can return it. */
int ctl_say(const struct ctl *ctl, enum ctl_exit code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* One line to err unless --quiet: what was done, for people. */
void ctl_note(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One line to out, control characters shown as '?': for what others wrote into the database. */
void ctl_print(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Says that memory has run out. */
int ctl_no_memory(const struct ctl *ctl);

/*
 * Asks on the terminal before something is destroyed: `question`, such as "Remove page %s?", where %s stands for
 * `what` (once, or not at all). With --yes returns CTL_DONE at once. Without a terminal refuses and says to give --yes.
 */
int ctl_confirm(const struct ctl *ctl, const char *question, const char *what);

#endif
