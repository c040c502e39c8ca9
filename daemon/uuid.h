/*
 * UUIDs, as PostgreSQL reads and writes them: the names of daemons, of chains of the ledger, of losses of history.
 *
 * Owns nothing. Who calls it: whoever names such a thing or tells of it. Format: RFC 4122, version 4 (random).
 */
#ifndef APIKEYD_DAEMON_UUID_H
#define APIKEYD_DAEMON_UUID_H

#include <stdint.h>

enum { UUID_LEN = 16, UUID_TEXT = 37 };

/* Another one each time. Never fails: waits, early at boot, until the kernel has randomness. */
void uuid_random(uint8_t ret[UUID_LEN]);
/* In lower case, terminated. */
void uuid_text(const uint8_t id[UUID_LEN], char ret[UUID_TEXT]);

#endif
