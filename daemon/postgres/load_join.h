/*
 * What belongs to users and keys, gathered while the load runs and found again by its owner: memberships, and the
 * pages, scopes and networks of narrowed keys.
 *
 * Owns its rows. Who calls it: load.c, on the load's thread.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_LOAD_JOIN_H
#define APIKEYD_DAEMON_POSTGRES_LOAD_JOIN_H

#include <stddef.h>
#include <stdint.h>

#include "proto/rpc.h"

/* Distinct words (roles, scopes), numbered from 0. */
enum { LOAD_WORDS_MAX = 2048, LOAD_WORD_SLOTS = 8192 };
struct load_words {
	char *texts[LOAD_WORDS_MAX];
	uint32_t lens[LOAD_WORDS_MAX];
	uint16_t slots[LOAD_WORD_SLOTS]; /* number + 1 */
	uint32_t count;
};
/* The word's number, -E2BIG or -ENOMEM. */
int load_words_add(struct load_words *words, struct rpc_text text);
struct rpc_text load_words_text(const struct load_words *words, uint32_t number);
void load_words_deinit(struct load_words *words);

struct load_item {
	uint64_t owner;
	int64_t value;
	uint32_t word;
};
struct load_list {
	struct load_item *items;
	size_t count, cap;
	size_t cursor; /* after the last found */
};
int load_list_add(struct load_list *list, struct load_item item); /* 0 or -ENOMEM */
/* After the last addition, before the first look-up. 0 or -ENOMEM. */
int load_list_sort(struct load_list *list);
/* The owner's items, *ret_count of them. Owners asked for in ascending order are found at once. */
const struct load_item *load_list_find(struct load_list *list, uint64_t owner, uint32_t *ret_count);
void load_list_deinit(struct load_list *list);

#endif
