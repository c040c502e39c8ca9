/* What the ledger is to be told: notes of lost and of accepted history, in memory and as slots. Pure: no file, no loop. */
#include <string.h>

#include "daemon/journal_internal.h"

/* ---- the list ---- */

struct journal_note *journal_state_find(struct journal_state *state, enum journal_note_kind kind,
					const uint8_t id[JOURNAL_ID_LEN])
{
	for (unsigned i = 0; i < state->note_count; i++)
		if (state->notes[i].kind == kind && memcmp(state->notes[i].id, id, JOURNAL_ID_LEN) == 0)
			return &state->notes[i];
	return NULL;
}

static void drop(struct journal_state *state, unsigned at)
{
	state->note_count--;
	memmove(&state->notes[at], &state->notes[at + 1], (state->note_count - at) * sizeof(state->notes[0]));
}

bool journal_state_note(struct journal_state *state, const struct journal_note *note)
{
	unsigned oldest = 0;
	bool missed = false;

	if (journal_state_find(state, note->kind, note->id))
		return false;
	if (state->note_count == JOURNAL_NOTES_MAX) {
		while (oldest < state->note_count && !state->notes[oldest].entered.timeline)
			oldest++;
		missed = oldest == state->note_count;
		drop(state, missed ? 0 : oldest);
	}
	state->notes[state->note_count++] = *note;
	return missed;
}

void journal_state_unenter(struct journal_state *state)
{
	for (unsigned i = 0; i < state->note_count; i++)
		state->notes[i].entered.started = 0;
}

void journal_note_end(struct journal_state *state)
{
	unsigned from = state->note_count;

	if (state->loss.why == JOURNAL_WHY_NONE)
		return;
	for (unsigned i = 0; i < state->note_count; i++)
		if (state->notes[i].kind == JOURNAL_NOTE_LOST && state->notes[i].loss.at == state->loss.at)
			from = i;
	for (unsigned i = from; i < state->note_count;)
		if (state->notes[i].kind == JOURNAL_NOTE_ACCEPTED)
			drop(state, i);
		else
			i++;
}

/* ---- reading ---- */

bool journal_note_slot_can_be(enum journal_kind kind, uint8_t flags)
{
	switch (kind) {
	case JOURNAL_ABOUT:
		return flags > JOURNAL_WHY_NONE && flags < JOURNAL_WHYS;
	case JOURNAL_IDS:
		return flags > 0 && flags <= JOURNAL_SLOT_IDS;
	default:
		return flags > JOURNAL_NOTE_NONE && flags < JOURNAL_NOTE_KINDS;
	}
}

static void get_id(const uint8_t *slot, uint8_t id[JOURNAL_ID_LEN])
{
	for (unsigned i = 0; i < JOURNAL_ID_LEN; i++)
		id[i] = (uint8_t)(journal_slot_number(slot, i / 8) >> 8 * (i % 8));
}

static void read_about(struct journal_note *note, const uint8_t *slot)
{
	uint64_t a = journal_slot_number(slot, 0), b = journal_slot_number(slot, 1), d = journal_slot_number(slot, 3);

	note->kept = (struct journal_kept){
		.revoked = (uint32_t)(a >> 32), .retired = (uint32_t)a, .disabled = (uint32_t)(b >> 32)};
	note->uid = (uint32_t)b;
	note->loss.at = (int64_t)journal_slot_number(slot, 2);
	note->loss.why = slot[JOURNAL_FLAGS_AT];
	note->loss.unsure = d & JOURNAL_ABOUT_UNSURE;
	note->refuse = d & JOURNAL_ABOUT_REFUSE;
}

void journal_note_slot(struct journal_state *state, const uint8_t slot[JOURNAL_SLOT])
{
	struct journal_note *note = &state->note, *there;
	uint8_t id[JOURNAL_ID_LEN];
	uint64_t both;

	switch ((enum journal_kind)slot[0]) {
	case JOURNAL_ABOUT:
		read_about(note, slot);
		break;
	case JOURNAL_IDS:
		for (unsigned i = 0; i < slot[JOURNAL_FLAGS_AT] && note->key_count < JOURNAL_NOTE_KEYS; i++)
			note->keys[note->key_count++] = journal_slot_number(slot, i);
		break;
	case JOURNAL_NOTE:
		get_id(slot, note->id);
		note->kind = slot[JOURNAL_FLAGS_AT];
		note->at = (int64_t)journal_slot_number(slot, 2);
		if (note->loss.why != JOURNAL_WHY_NONE) /* or its beginning is not there */
			journal_state_note(state, note);
		*note = (struct journal_note){0};
		break;
	default: /* JOURNAL_ENTERED */
		get_id(slot, id);
		there = journal_state_find(state, slot[JOURNAL_FLAGS_AT], id);
		both = journal_slot_number(slot, 3);
		if (there)
			there->entered = (struct journal_life){.started = (int64_t)journal_slot_number(slot, 2),
							       .timeline = (uint32_t)(both >> 32),
							       .database = (uint32_t)both};
	}
}

/* ---- writing ---- */

static uint64_t id_slots(const struct journal_note *note)
{
	return (note->key_count + JOURNAL_SLOT_IDS - 1) / JOURNAL_SLOT_IDS;
}

uint64_t journal_note_slots(const struct journal_note *note)
{
	return 4 + id_slots(note) + (note->entered.timeline ? 1 : 0);
}

/* Numbers a and b. */
static void put_id(const uint8_t id[JOURNAL_ID_LEN], uint64_t numbers[4])
{
	for (unsigned i = 0; i < JOURNAL_ID_LEN; i++)
		numbers[i / 8] |= (uint64_t)id[i] << 8 * (i % 8);
}

static void fill_about(uint8_t *slot, const struct journal_note *note)
{
	const struct journal_kept *kept = &note->kept;

	journal_fill_slot(slot, JOURNAL_ABOUT, (uint8_t)note->loss.why,
			  (const uint64_t[4]){(uint64_t)kept->revoked << 32 | kept->retired,
					      (uint64_t)kept->disabled << 32 | note->uid, (uint64_t)note->loss.at,
					      (note->loss.unsure ? JOURNAL_ABOUT_UNSURE : 0) |
						      (note->refuse ? JOURNAL_ABOUT_REFUSE : 0)});
}

bool journal_put_note(struct journal_bytes *bytes, const struct journal_note *note)
{
	uint64_t numbers[4] = {0, 0, (uint64_t)note->at, 0};
	uint8_t *slot = journal_add_slots(bytes, 4 + id_slots(note));

	if (!slot)
		return false;
	journal_fill_place(slot, JOURNAL_FROM, &note->loss.from);
	journal_fill_place(slot += JOURNAL_SLOT, JOURNAL_TO, &note->loss.to);
	fill_about(slot += JOURNAL_SLOT, note);
	for (uint32_t at = 0; at < note->key_count; at += JOURNAL_SLOT_IDS) {
		uint64_t ids[JOURNAL_SLOT_IDS] = {0};
		uint8_t count = 0;

		while (count < JOURNAL_SLOT_IDS && at + count < note->key_count) {
			ids[count] = note->keys[at + count];
			count++;
		}
		journal_fill_slot(slot += JOURNAL_SLOT, JOURNAL_IDS, count, ids);
	}
	put_id(note->id, numbers);
	journal_fill_slot(slot + JOURNAL_SLOT, JOURNAL_NOTE, (uint8_t)note->kind, numbers);
	return true;
}

bool journal_put_entered(struct journal_bytes *bytes, enum journal_note_kind kind, const uint8_t id[JOURNAL_ID_LEN],
			 const struct journal_life *life)
{
	uint64_t numbers[4] = {0, 0, (uint64_t)life->started, (uint64_t)life->timeline << 32 | life->database};
	uint8_t *slot = journal_add_slots(bytes, 1);

	if (!slot)
		return false;
	put_id(id, numbers);
	journal_fill_slot(slot, JOURNAL_ENTERED, (uint8_t)kind, numbers);
	return true;
}
