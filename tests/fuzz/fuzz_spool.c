/*
 * The spool's file: whatever stands in it, it is refused, or what is read of it can be worked with: each record within its
 * bounds, sealed, released, appended to, and read again as the same.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/audit/spool_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
	if (!condition)
		abort();
}

static void look_at(const struct spool *spool)
{
	uint64_t used = spool_used(spool);

	must(used <= spool_capacity(spool));
	for (uint64_t p = spool_end(spool) - used; p < spool_end(spool); p++) {
		const struct spool_record *record = spool_at(spool, p);
		size_t len = (size_t)record->stack_len + record->scope_len + record->page_len + record->org_len;

		must(record->seq == p && len <= SPOOL_TEXT_MAX);
		if (record->kind == SPOOL_VOID)
			continue;
		must(record->count > 0 && *spool_reason_word(spool, record->reason) != '\0');
		for (size_t i = 0; i < len; i++)
			must(record->text[i] > ' ' && record->text[i] <= '~');
	}
}

/* A checksum that fits lets what is behind it be looked at. */
static void mend(void *map, size_t size)
{
	struct spool_page *page = map;

	if (size < SPOOL_PAGE)
		return;
	page->check = keytext_crc32(page, offsetof(struct spool_page, check));
	for (unsigned i = 0; i < 2; i++)
		page->states[i].check = keytext_crc32(&page->states[i], offsetof(struct spool_state, check));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t head[SPOOL_HEAD_LEN] = {1};
	struct spool spool = {.fd = -1}, again = {.fd = -1};
	size_t room = (size + 64) / 64 * 64;
	struct spool_record *record;
	char *map;
	int r;

	if (size < 1)
		return 0;
	map = aligned_alloc(64, room);
	must(map != NULL);
	memset(map, 0, room);
	memcpy(map, data + 1, size - 1);
	if (data[0] & 1)
		mend(map, size - 1);
	r = spool_adopt(&spool, map, size - 1);
	must(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT);
	if (r == 0) {
		look_at(&spool);
		spool_seal(&spool, 1, 10, 4);
		spool_try(&spool, head);
		must(spool_adopt(&again, map, size - 1) == 0);
		must(again.end == spool.end && spool_lost(&again) == spool_lost(&spool));
		must(memcmp(&again.state, &spool.state, sizeof(spool.state)) == 0);
		spool_release(&spool);
		record = spool_next(&spool);
		if (record) {
			record->kind = SPOOL_ROLLUP;
			record->count = 1;
			record->reason = spool_reason_at(&spool, REASON_OK);
			spool_append(&spool);
		}
		spool_lose(&spool, REASON_OK);
		look_at(&spool);
	}
	free(map);
	return 0;
}
