#include "daemon/modules/siphash.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

int siphash_key_init(struct siphash_key *ret)
{
	struct siphash_key key;
	ssize_t n;

	do {
		n = getrandom(&key, sizeof(key), 0);
	} while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(key))
		return n < 0 ? -errno : -EIO;
	*ret = key;
	return 0;
}

static inline uint64_t turn(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void mix(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = turn(v[1], 13) ^ v[0];
	v[3] = turn(v[3], 16) ^ v[2];
	v[0] = turn(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = turn(v[1], 17) ^ v[2];
	v[3] = turn(v[3], 21) ^ v[0];
	v[2] = turn(v[2], 32);
}

uint64_t siphash(const struct siphash_key *key, const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t v[4] = {key->k0 ^ 0x736f6d6570736575, key->k1 ^ 0x646f72616e646f6d, key->k0 ^ 0x6c7967656e657261,
			 key->k1 ^ 0x7465646279746573};
	uint64_t last = (uint64_t)len << 56;
	size_t left = len;

	for (; left >= 8; left -= 8, p += 8) {
		uint64_t word = 0;

		for (unsigned i = 0; i < 8; i++)
			word |= (uint64_t)p[i] << 8 * i;
		v[3] ^= word;
		mix(v);
		v[0] ^= word;
	}
	for (unsigned i = 0; i < left; i++)
		last |= (uint64_t)p[i] << 8 * i;
	v[3] ^= last;
	mix(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (unsigned i = 0; i < 3; i++)
		mix(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
