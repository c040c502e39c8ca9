/*
 * The scanner: whole, resumed in pieces, and against msgpack-c. The first two bytes choose the limits and the size of
 * the pieces.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <msgpack.h>

#include "proto/scan.h"

static void must(int condition)
{
	if (!condition)
		abort();
}

/* What the scanner passed, msgpack-c takes too, to the byte. */
static void decode(const uint8_t *data, size_t size)
{
	msgpack_zone zone;
	msgpack_object root;
	size_t offset = 0;

	must(msgpack_zone_init(&zone, 8192));
	must(msgpack_unpack((const char *)data, size, &offset, &zone, &root) == MSGPACK_UNPACK_SUCCESS);
	must(offset == size && root.type == MSGPACK_OBJECT_ARRAY);
	msgpack_zone_destroy(&zone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scan_limits limits;
	enum scan_result whole, pieces = SCAN_MORE;
	size_t found = 0, found_in_pieces = 0, step, at = 0;
	struct scan scan = {0};

	if (size < 2)
		return 0;
	limits.depth_max = 1 + data[0] % SCAN_DEPTH_MAX;
	limits.message_max = data[0] & 0x80 ? 65536 : data[0] >> 3;
	step = 1 + data[1] % 16;
	data += 2;
	size -= 2;
	whole = scan_message(data, size, &limits, &found);
	if (whole == SCAN_MESSAGE) {
		must(found > 0 && found <= size && found <= limits.message_max);
		decode(data, found);
	}
	while (pieces == SCAN_MORE && at < size) {
		at = size - at < step ? size : at + step;
		pieces = scan_resume(&scan, data, at, &limits, &found_in_pieces);
	}
	if (size > 0)
		must(pieces == whole && found_in_pieces == found);
	must(scan_error(whole) != NULL);
	return 0;
}
