#include "daemon/uuid.h"

#include <sys/random.h>

void uuid_random(uint8_t ret[UUID_LEN])
{
	while (getrandom(ret, UUID_LEN, 0) != UUID_LEN)
		;
	ret[6] = (uint8_t)((ret[6] & 0x0f) | 0x40);
	ret[8] = (uint8_t)((ret[8] & 0x3f) | 0x80);
}

void uuid_text(const uint8_t id[UUID_LEN], char ret[UUID_TEXT])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < UUID_LEN; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*ret++ = '-';
		*ret++ = digits[id[i] >> 4];
		*ret++ = digits[id[i] & 15];
	}
	*ret = '\0';
}
