/*
 * The journal of denials: whatever the file holds, it is refused, or what is read of it can be written anew and is then
 * read as the same; and what cannot be read is counted or makes it incomplete.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/journal_internal.h"

enum { LIMIT = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
	if (!condition)
		abort();
}

static int read_bytes(struct journal_state *state, const uint8_t *data, size_t size)
{
	size_t at = JOURNAL_HEAD;
	int r = size < JOURNAL_HEAD ? -EBADMSG : journal_read_head(state, data);

	if (r < 0)
		return r;
	for (; size - at >= JOURNAL_SLOT; at += JOURNAL_SLOT)
		journal_read_slot(state, data + at);
	journal_read_end(state, size - at);
	return 0;
}

static void must_be_same(const struct denials *a, const struct denials *b)
{
	struct denial denial;
	keytext_id id;

	must(a->count == b->count && a->count <= LIMIT);
	for (uint32_t at = 1; at < denials_end(a); at++)
		must(!denials_at(a, at, &id, &denial) || denial_is_same(denials_of(b, id), denial));
}

static void must_be_same_notes(const struct journal_state *a, const struct journal_state *b)
{
	must(a->note_count == b->note_count && a->note_count <= JOURNAL_NOTES_MAX);
	for (unsigned i = 0; i < a->note_count; i++) {
		const struct journal_note *x = &a->notes[i], *y = &b->notes[i];

		must(x->kind == y->kind && memcmp(x->id, y->id, sizeof(x->id)) == 0 && x->at == y->at);
		must(x->loss.why == y->loss.why && x->loss.at == y->loss.at && x->loss.unsure == y->loss.unsure);
		must(x->loss.from.lsn == y->loss.from.lsn && x->loss.to.database == y->loss.to.database);
		must(x->refuse == y->refuse && x->uid == y->uid && x->key_count == y->key_count);
		must(memcmp(&x->kept, &y->kept, sizeof(x->kept)) == 0);
		must(x->key_count <= JOURNAL_NOTE_KEYS);
		must(memcmp(x->keys, y->keys, x->key_count * sizeof(x->keys[0])) == 0);
		must(x->entered.timeline == y->entered.timeline);
		must(!x->entered.timeline || x->entered.started == y->entered.started);
	}
	must(memcmp(&a->kept, &b->kept, sizeof(a->kept)) == 0);
	must((uint64_t)a->kept.revoked + a->kept.retired + a->kept.disabled == a->held.count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal_bytes bytes = {0};
	struct journal_state state, again;
	int r;

	must(journal_state_init(&state, LIMIT) == 0 && journal_state_init(&again, LIMIT) == 0);
	r = read_bytes(&state, data, size);
	must(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT);
	if (r == 0) {
		must(!state.damaged || state.incomplete);
		must(!state.dropped || state.incomplete);
		must(state.loss.why < JOURNAL_WHYS &&
		     (*journal_why_line(state.loss.why) != 0) == (state.loss.why != 0));
		must(journal_put_state(&bytes, &state));
		must(bytes.len == JOURNAL_HEAD + journal_state_slots(&state) * JOURNAL_SLOT);
		must(read_bytes(&again, bytes.data, bytes.len) == 0);
		must(!again.damaged && !again.torn && !again.dropped && again.incomplete == state.incomplete &&
		     again.behind == state.behind);
		must_be_same(&state.known, &again.known);
		must_be_same(&state.held, &again.held);
		must_be_same_notes(&state, &again);
		must(again.loss.why == state.loss.why && again.loss.at == state.loss.at &&
		     again.loss.unsure == state.loss.unsure);
		must(again.loss.from.rev == state.loss.from.rev && again.loss.to.timeline == state.loss.to.timeline);
		must(again.position.rev == state.position.rev);
	}
	free(bytes.data);
	journal_state_deinit(&state);
	journal_state_deinit(&again);
	return 0;
}
