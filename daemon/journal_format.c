/* What the journal's bytes mean. Pure: no file, no loop. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/journal_internal.h"

static const char magic[8] = {'a', 'p', 'i', 'k', 'e', 'y', 'd', 'J'};

enum { FLAGS_AT = JOURNAL_FLAGS_AT, NUMBERS_AT = 4, CRC_AT = 36 };

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

uint64_t journal_slot_number(const uint8_t *slot, unsigned i)
{
	return get_number(slot + NUMBERS_AT + (size_t)8 * i, 8);
}

/* ---- the head ---- */

int journal_read_head(struct journal_state *state, const uint8_t head[JOURNAL_HEAD])
{
	uint8_t mark = head[JOURNAL_MARK_AT];

	if (memcmp(head, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	state->version = (uint32_t)get_number(head + sizeof(magic), 4);
	if (state->version < 1 || state->version > JOURNAL_VERSION)
		return -EPROTONOSUPPORT;
	state->incomplete |= mark != journal_mark(true, false);
	state->behind = mark == journal_mark(false, true);
	return 0;
}

uint8_t journal_mark(bool whole, bool behind)
{
	return behind ? 'b' : whole ? 'w' : 'i';
}

void journal_write_head(uint8_t head[JOURNAL_HEAD], bool whole, bool behind)
{
	memset(head, 0, JOURNAL_HEAD);
	memcpy(head, magic, sizeof(magic));
	put_number(head + sizeof(magic), JOURNAL_VERSION, 4);
	head[JOURNAL_MARK_AT] = journal_mark(whole, behind);
}

/* ---- reading ---- */

static struct journal_position read_place(const uint8_t *slot)
{
	uint64_t both = journal_slot_number(slot, 3);

	return (struct journal_position){.rev = journal_slot_number(slot, 0),
					 .system = journal_slot_number(slot, 1),
					 .lsn = journal_slot_number(slot, 2),
					 .timeline = (uint32_t)(both >> 32),
					 .database = (uint32_t)both};
}

static bool slot_can_be(const struct journal_state *state, const uint8_t *slot)
{
	uint8_t kind = slot[0], flags = slot[FLAGS_AT];

	if (kind == 0 || kind >= (state->version == 1 ? JOURNAL_ABOUT : JOURNAL_KINDS) || slot[2] || slot[3] ||
	    get_number(slot + CRC_AT, 4) != keytext_crc32(slot, CRC_AT))
		return false;
	if (kind == JOURNAL_KNOW || kind == JOURNAL_HOLD)
		return !(flags & ~DENIAL_FLAGS);
	if (kind == JOURNAL_LOST)
		return flags > JOURNAL_WHY_NONE && flags < JOURNAL_WHYS;
	if (kind >= JOURNAL_ABOUT)
		return journal_note_slot_can_be(kind, flags);
	return flags == 0;
}

/* In which number a denial counts; NULL: it is none. */
static uint32_t *kept_number(struct journal_kept *kept, struct denial denial)
{
	if (denial.flags & RULE_REVOKED)
		return &kept->revoked;
	if (denial.retired_at != INT64_MAX)
		return &kept->retired;
	return denial.flags & RULE_DISABLED ? &kept->disabled : NULL;
}

int journal_state_hold(struct journal_state *state, keytext_id id, struct denial denial)
{
	uint32_t *before = kept_number(&state->kept, denials_of(&state->held, id));
	uint32_t *after = kept_number(&state->kept, denial);
	int r = denials_put(&state->held, id, denial);

	if (r < 0)
		return r;
	if (before)
		--*before;
	if (after)
		++*after;
	return 0;
}

static void read_denial(struct journal_state *state, const uint8_t *slot)
{
	struct denial denial = {.flags = slot[FLAGS_AT], .retired_at = (int64_t)journal_slot_number(slot, 1)};
	keytext_id id = journal_slot_number(slot, 0);

	if ((slot[0] == JOURNAL_KNOW ? denials_put(&state->known, id, denial)
				     : journal_state_hold(state, id, denial)) == 0)
		return;
	state->dropped++;
	state->incomplete = true;
}

void journal_read_slot(struct journal_state *state, const uint8_t slot[JOURNAL_SLOT])
{
	state->slots++;
	if (!slot_can_be(state, slot)) {
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
	case JOURNAL_HOLD:
		read_denial(state, slot);
		break;
	case JOURNAL_PLACE:
		state->position = read_place(slot);
		break;
	case JOURNAL_FROM: /* of a loss, or of a note: what comes at the end says of which */
		state->next.from = read_place(slot);
		state->note = (struct journal_note){.loss.from = state->next.from};
		break;
	case JOURNAL_TO:
		state->next.to = state->note.loss.to = read_place(slot);
		break;
	case JOURNAL_LOST:
		state->loss = state->next;
		state->loss.at = (int64_t)journal_slot_number(slot, 0);
		state->loss.unsure = journal_slot_number(slot, 1);
		state->loss.why = slot[FLAGS_AT];
		journal_state_unenter(state);
		break;
	case JOURNAL_ACCEPT:
		denials_clear(&state->held);
		state->kept = (struct journal_kept){0};
		state->loss = (struct journal_loss){0};
		break;
	default:
		journal_note_slot(state, slot);
	}
}

void journal_read_end(struct journal_state *state, size_t rest)
{
	state->torn = state->bad + (rest > 0);
	state->slots -= state->bad;
	state->bad = 0;
	journal_note_end(state);
}

uint64_t journal_state_slots(const struct journal_state *state)
{
	uint64_t slots = (uint64_t)state->known.count + state->held.count + (state->position.rev ? 1 : 0) +
			 (state->loss.why ? 3 : 0);

	for (unsigned i = 0; i < state->note_count; i++)
		slots += journal_note_slots(&state->notes[i]);
	return slots;
}

/* ---- writing ---- */

uint8_t *journal_add_slots(struct journal_bytes *bytes, size_t count)
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

void journal_fill_slot(uint8_t *slot, enum journal_kind kind, uint8_t flags, const uint64_t numbers[4])
{
	slot[0] = (uint8_t)kind;
	slot[FLAGS_AT] = flags;
	for (unsigned i = 0; i < 4; i++)
		put_number(slot + NUMBERS_AT + (size_t)8 * i, numbers[i], 8);
	put_number(slot + CRC_AT, keytext_crc32(slot, CRC_AT), 4);
}

void journal_fill_place(uint8_t *slot, enum journal_kind kind, const struct journal_position *p)
{
	journal_fill_slot(slot, kind, 0,
			  (const uint64_t[4]){p->rev, p->system, p->lsn, (uint64_t)p->timeline << 32 | p->database});
}

bool journal_put_denial(struct journal_bytes *bytes, enum journal_kind kind, keytext_id id, struct denial denial)
{
	uint8_t *slot = journal_add_slots(bytes, 1);

	if (slot)
		journal_fill_slot(slot, kind, denial.flags, (const uint64_t[4]){id, (uint64_t)denial.retired_at});
	return slot;
}

bool journal_put_place(struct journal_bytes *bytes, enum journal_kind kind, const struct journal_position *position)
{
	uint8_t *slot = journal_add_slots(bytes, 1);

	if (slot)
		journal_fill_place(slot, kind, position);
	return slot;
}

bool journal_put_loss(struct journal_bytes *bytes, const struct journal_loss *loss)
{
	uint8_t *slot = journal_add_slots(bytes, 3);

	if (!slot)
		return false;
	journal_fill_place(slot, JOURNAL_FROM, &loss->from);
	journal_fill_place(slot + JOURNAL_SLOT, JOURNAL_TO, &loss->to);
	journal_fill_slot(slot + (size_t)2 * JOURNAL_SLOT, JOURNAL_LOST, (uint8_t)loss->why,
			  (const uint64_t[4]){(uint64_t)loss->at, loss->unsure});
	return true;
}

bool journal_put_accept(struct journal_bytes *bytes)
{
	uint8_t *slot = journal_add_slots(bytes, 1);

	if (slot)
		journal_fill_slot(slot, JOURNAL_ACCEPT, 0, (const uint64_t[4]){0});
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

/* Behind the loss, which would take it from them that they are entered. */
static bool put_notes(struct journal_bytes *bytes, const struct journal_state *state)
{
	for (unsigned i = 0; i < state->note_count; i++) {
		const struct journal_note *note = &state->notes[i];

		if (!journal_put_note(bytes, note) ||
		    (note->entered.timeline && !journal_put_entered(bytes, note->kind, note->id, &note->entered)))
			return false;
	}
	return true;
}

bool journal_put_state(struct journal_bytes *bytes, const struct journal_state *state)
{
	if (bytes->len == 0) { /* the head has not the length of slots */
		bytes->data = malloc((size_t)64 * JOURNAL_SLOT);
		if (!bytes->data)
			return false;
		bytes->room = (size_t)64 * JOURNAL_SLOT;
		journal_write_head(bytes->data, !state->incomplete, state->behind);
		bytes->len = JOURNAL_HEAD;
	}
	return put_all(bytes, JOURNAL_KNOW, &state->known) && put_all(bytes, JOURNAL_HOLD, &state->held) &&
	       (!state->loss.why || journal_put_loss(bytes, &state->loss)) && put_notes(bytes, state) &&
	       (!state->position.rev || journal_put_place(bytes, JOURNAL_PLACE, &state->position));
}
