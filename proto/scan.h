/*
 * The bounded walk over untrusted MessagePack: finds where one message ends and refuses what is too
 * long, too deep, too many or not MessagePack, before anything is decoded or allocated. Decoders
 * that come after may trust declared lengths, since every one of them has been seen to be there.
 *
 * (msgpack-c reserves memory from declared lengths: five bytes `dd ff ff ff ff` claim gigabytes.)
 *
 * Pure; no recursion; cost is linear in the bytes that are there, whatever they declare. Who reads
 * a stream in pieces keeps a `struct scan` for the message that is half there, so that the whole
 * stream is linear too: a peer that sends byte by byte makes no byte be looked at twice. Format:
 * the MessagePack specification, https://github.com/msgpack/msgpack/blob/master/spec.md
 */
#ifndef APIKEYD_PROTO_SCAN_H
#define APIKEYD_PROTO_SCAN_H

#include <stddef.h>
#include <stdint.h>

enum {
	SCAN_DEPTH_MAX = 8, /* nested arrays and maps, the outermost counted */
};

struct scan_limits {
	size_t message_max; /* bytes of one whole message */
	uint32_t depth_max; /* 1 to SCAN_DEPTH_MAX */
};

enum scan_result {
	SCAN_MESSAGE = 0, /* a whole message stands at the start */
	SCAN_MORE,	  /* a beginning; more bytes are needed, and the limits still allow them */
	SCAN_TOO_LONG,	  /* passes message_max, or declares what cannot fit into it */
	SCAN_TOO_DEEP,
	SCAN_INVALID, /* the byte 0xc1, which MessagePack never uses; or an outermost value that is
			 no array */
};

/* How far the walk over one message has got. Zeroed: at its start. */
struct scan {
	size_t position;	       /* bytes walked; the next value begins here, though it may not be there yet
			  */
	uint64_t open;		       /* values still to come, of all levels together */
	uint32_t depth;		       /* arrays and maps that are open */
	uint64_t left[SCAN_DEPTH_MAX]; /* values still to come in each of them */
};

/*
 * Looks at the first message in `data`, `len` bytes. On SCAN_MESSAGE sets *ret_size to its length
 * in bytes (1 to len); otherwise *ret_size is untouched. Any result but SCAN_MESSAGE and SCAN_MORE
 * means that the byte stream cannot be followed any further.
 */
enum scan_result scan_message(const uint8_t *data, size_t len, const struct scan_limits *limits, size_t *ret_size);

/*
 * The same, going on from where an earlier call with this `scan` said SCAN_MORE. `data` is the
 * message from its first byte, as it was then with at least as many bytes; it may stand at another
 * address. Any result but SCAN_MORE leaves `scan` zeroed, ready for the next message.
 */
enum scan_result scan_resume(struct scan *scan, const uint8_t *data, size_t len, const struct scan_limits *limits,
			     size_t *ret_size);

/* One line for people about a result, never NULL, such as "message longer than the limit". */
const char *scan_error(enum scan_result result);

#endif
