/* What key.c, key_mint.c, key_break_glass.c and whoami.c share. */
#ifndef APIKEYCTL_KEY_H
#define APIKEYCTL_KEY_H

#include <jansson.h>

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/command.h"
#include "client/apikeyctl/show.h"

extern const struct show_column key_record[];
extern const struct command command_key_mint;
extern const struct command command_key_break_glass;

/* A key's `narrowing` in words: "pages a, b; rate 100/60s", "pages none", "-". */
const char *key_narrowing(struct arena *arena, const struct value *narrowing);

/*
 * Of a new key: params[name] = the values of --option (not there where neither it nor --flag is given; flag NULL: none);
 * params[name] = the moment of --option, where it is given.
 */
bool key_mint_list(struct arena *arena, struct value *params, const struct args *args, const char *name,
		   const char *option, const char *flag);
int key_mint_when(const struct ctl *ctl, struct arena *arena, struct value *params, const struct args *args,
		  const char *name, const char *option);

/* --out: makes the new file, for its owner alone; writes the key into it (0 or -errno); the answer without the key. */
int key_mint_open(const struct ctl *ctl, const char *path, int *ret_fd);
int key_mint_store(int fd, const char *key);
json_t *key_mint_json(const struct value *answer, const char *path);

#endif
