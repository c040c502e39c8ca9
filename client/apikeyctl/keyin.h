/*
 * Where a key comes from: a descriptor, a file, the environment, or a terminal without echo. Never an argument.
 *
 * Whoever reads a key owns it and wipes it with keyin_deinit. Nothing else of it stays: no stdio buffer, no
 * environment.
 */
#ifndef APIKEYCTL_KEYIN_H
#define APIKEYCTL_KEYIN_H

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/ctl.h"
#include "proto/rpc.h"

struct keyin {
	char text[RPC_KEY_MAX + 1]; /* terminated */
	size_t len;
};

/*
 * Reads the key of a command with COMMAND_KEY: --key-fd, else --key-file, else APIKEY_KEY, else a prompt where
 * standard input is a terminal. Returns a ctl_exit, having said what is wrong.
 */
int keyin_read(const struct ctl *ctl, const struct args *args, struct keyin *ret);
void keyin_deinit(struct keyin *key);

/*
 * Takes APIKEY_KEY out of the environment, so that no child gets it and /proc/self/environ no longer shows it;
 * keyin_read finds it all the same. main calls it first of all.
 */
void keyin_take_environment(void);

/*
 * Asks on the terminal without echo, the terminal restored whatever happens; `size` bytes with the terminator.
 * Returns the length, or -errno (-EINTR: interrupted). The caller wipes.
 */
int keyin_prompt(const struct ctl *ctl, const char *question, char *out, size_t size);

#endif
