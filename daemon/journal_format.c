/* What the journal's bytes mean. Pure: no file, no loop. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/journal_internal.h"

static const char magic[8] = {'a', 'p', 'i', 'k', 'e', 'y', 'd', 'J'};

enum { FLAGS_AT = 1, NUMBERS_AT = 4, CRC_AT = 36 };

int journal_state_init(struct journal_state *state, uint32_t limit)
{
	int r;

	*state = (struct journal_state){0};
	r = denials_init(&state->known, limit);
	if (r == 0)
		r = denials_init(&state->held, limit);
	return r;
}

void journal_state_deinit(struct journal_state *state)
{
	denials_deinit(&state->known);
	denials_deinit(&state->held);
}

/* ---- numbers ---- */

static void put_number(uint8_t *out, uint64_t number, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		out[i] = (uint8_t)(number >> 8 * i);
}

static uint64_t get_number(const uint8_t *in, unsigned bytes)
{
	uint64_t number = 0;

	for (unsigned i = 0; i < bytes; i++)
		number |= (uint64_t)in[i] << 8 * i;
	return number;
}

static uint64_t slot_number(const uint8_t *slot, unsigned i)
{
	return get_number(slot + NUMBERS_AT + (size_t)8 * i, 8);
}

/* ---- the head ---- */

int journal_read_head(struct journal_state *state, const uint8_t head[JOURNAL_HEAD])
{
	uint8_t mark = head[JOURNAL_MARK_AT];

	if (memcmp(head, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	if (get_number(head + sizeof(magic), 4) != JOURNAL_VERSION)
		return -EPROTONOSUPPORT;
	state->incomplete |= mark != 'w';
	return 0;
}

void journal_write_head(uint8_t head[JOURNAL_HEAD], bool whole)
{
	memset(head, 0, JOURNAL_HEAD);
	memcpy(head, magic, sizeof(magic));
	put_number(head + sizeof(magic), JOURNAL_VERSION, 4);
	head[JOURNAL_MARK_AT] = whole ? 'w' : 'i';
}

/* ---- reading ---- */

static struct journal_position read_place(const uint8_t *slot)
{
	uint64_t both = slot_number(slot, 3);

	return (struct journal_position){.rev = slot_number(slot, 0),
					 .system = slot_number(slot, 1),
					 .lsn = slot_number(slot, 2),
					 .timeline = (uint32_t)(both >> 32),
					 .database = (uint32_t)both};
}

static bool slot_can_be(const uint8_t *slot)
{
	uint8_t kind = slot[0], flags = slot[FLAGS_AT];

	if (kind == 0 || kind >= JOURNAL_KINDS || slot[2] || slot[3] ||
	    get_number(slot + CRC_AT, 4) != keytext_crc32(slot, CRC_AT))
		return false;
	if (kind == JOURNAL_KNOW || kind == JOURNAL_HOLD)
		return !(flags & ~DENIAL_FLAGS);
	if (kind == JOURNAL_LOST)
		return flags > JOURNAL_WHY_NONE && flags < JOURNAL_WHYS;
	return flags == 0;
}

static void read_denial(struct journal_state *state, struct denials *denials, const uint8_t *slot)
{
	struct denial denial = {.flags = slot[FLAGS_AT], .retired_at = (int64_t)slot_number(slot, 1)};

	if (denials_put(denials, slot_number(slot, 0), denial) == 0)
		return;
	state->dropped++;
	state->incomplete = true;
}

void journal_read_slot(struct journal_state *state, const uint8_t slot[JOURNAL_SLOT])
{
	state->slots++;
	if (!slot_can_be(slot)) {
		state->bad++;
		return;
	}
	/* Nothing follows what a crash cut off: this was something else, and nobody knows what stood there. */
	if (state->bad) {
		state->damaged += state->bad;
		state->bad = 0;
		state->incomplete = true;
	}
	switch ((enum journal_kind)slot[0]) {
	case JOURNAL_KNOW:
		read_denial(state, &state->known, slot);
		break;
	case JOURNAL_HOLD:
		read_denial(state, &state->held, slot);
		break;
	case JOURNAL_PLACE:
		state->position = read_place(slot);
		break;
	case JOURNAL_FROM:
		state->next.from = read_place(slot);
		break;
	case JOURNAL_TO:
		state->next.to = read_place(slot);
		break;
	case JOURNAL_LOST:
		state->loss = state->next;
		state->loss.at = (int64_t)slot_number(slot, 0);
		state->loss.unsure = slot_number(slot, 1);
		state->loss.why = slot[FLAGS_AT];
		break;
	default: /* JOURNAL_ACCEPT */
		denials_clear(&state->held);
		state->loss = (struct journal_loss){0};
	}
}

void journal_read_end(struct journal_state *state, size_t rest)
{
	state->torn = state->bad + (rest > 0);
	state->slots -= state->bad;
	state->bad = 0;
}

uint64_t journal_state_slots(const struct journal_state *state)
{
	return (uint64_t)state->known.count + state->held.count + (state->position.rev ? 1 : 0) +
	       (state->loss.why ? 3 : 0);
}

/* ---- writing ---- */

static uint8_t *add_slots(struct journal_bytes *bytes, size_t count)
{
	size_t len = count * JOURNAL_SLOT;
	uint8_t *at;

	if (bytes->room - bytes->len < len) {
		size_t room = bytes->room ? bytes->room * 2 : (size_t)64 * JOURNAL_SLOT;
		uint8_t *data;

		while (room - bytes->len < len)
			room *= 2;
		data = realloc(bytes->data, room);
		if (!data)
			return NULL;
		bytes->data = data;
		bytes->room = room;
	}
	at = memset(bytes->data + bytes->len, 0, len);
	bytes->len += len;
	return at;
}

static void fill_slot(uint8_t *slot, enum journal_kind kind, uint8_t flags, const uint64_t numbers[4])
{
	slot[0] = (uint8_t)kind;
	slot[FLAGS_AT] = flags;
	for (unsigned i = 0; i < 4; i++)
		put_number(slot + NUMBERS_AT + (size_t)8 * i, numbers[i], 8);
	put_number(slot + CRC_AT, keytext_crc32(slot, CRC_AT), 4);
}

static void fill_place(uint8_t *slot, enum journal_kind kind, const struct journal_position *p)
{
	fill_slot(slot, kind, 0,
		  (const uint64_t[4]){p->rev, p->system, p->lsn, (uint64_t)p->timeline << 32 | p->database});
}

bool journal_put_denial(struct journal_bytes *bytes, enum journal_kind kind, keytext_id id, struct denial denial)
{
	uint8_t *slot = add_slots(bytes, 1);

	if (slot)
		fill_slot(slot, kind, denial.flags, (const uint64_t[4]){id, (uint64_t)denial.retired_at});
	return slot;
}

bool journal_put_place(struct journal_bytes *bytes, enum journal_kind kind, const struct journal_position *position)
{
	uint8_t *slot = add_slots(bytes, 1);

	if (slot)
		fill_place(slot, kind, position);
	return slot;
}

bool journal_put_loss(struct journal_bytes *bytes, const struct journal_loss *loss)
{
	uint8_t *slot = add_slots(bytes, 3);

	if (!slot)
		return false;
	fill_place(slot, JOURNAL_FROM, &loss->from);
	fill_place(slot + JOURNAL_SLOT, JOURNAL_TO, &loss->to);
	fill_slot(slot + (size_t)2 * JOURNAL_SLOT, JOURNAL_LOST, (uint8_t)loss->why,
		  (const uint64_t[4]){(uint64_t)loss->at, loss->unsure});
	return true;
}

bool journal_put_accept(struct journal_bytes *bytes)
{
	uint8_t *slot = add_slots(bytes, 1);

	if (slot)
		fill_slot(slot, JOURNAL_ACCEPT, 0, (const uint64_t[4]){0});
	return slot;
}

static bool put_all(struct journal_bytes *bytes, enum journal_kind kind, const struct denials *denials)
{
	struct denial denial;
	keytext_id id;

	for (uint32_t at = 1; at < denials_end(denials); at++)
		if (denials_at(denials, at, &id, &denial) && !journal_put_denial(bytes, kind, id, denial))
			return false;
	return true;
}

bool journal_put_state(struct journal_bytes *bytes, const struct journal_state *state)
{
	if (bytes->len == 0) { /* the head has not the length of slots */
		bytes->data = malloc((size_t)64 * JOURNAL_SLOT);
		if (!bytes->data)
			return false;
		bytes->room = (size_t)64 * JOURNAL_SLOT;
		journal_write_head(bytes->data, !state->incomplete);
		bytes->len = JOURNAL_HEAD;
	}
	return put_all(bytes, JOURNAL_KNOW, &state->known) && put_all(bytes, JOURNAL_HOLD, &state->held) &&
	       (!state->loss.why || journal_put_loss(bytes, &state->loss)) &&
	       (!state->position.rev || journal_put_place(bytes, JOURNAL_PLACE, &state->position));
}
