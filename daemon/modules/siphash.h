/*
 * A hash under a random key, for tables whose keys strangers choose: nobody can pick collisions. SipHash-1-3.
 *
 * Who calls it: meters.c, sources.c. The mirror has one of its own: modules know nothing of the daemon but the ABI.
 */
#ifndef APIKEYD_DAEMON_MODULES_SIPHASH_H
#define APIKEYD_DAEMON_MODULES_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
	uint64_t k0, k1;
};

/* Fresh from the kernel. 0, or -errno. */
int siphash_key_init(struct siphash_key *ret);

uint64_t siphash(const struct siphash_key *key, const void *data, size_t len);

#endif
