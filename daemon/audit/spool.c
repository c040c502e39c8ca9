/* The ring: records, states, batches. On memory that it is given; spool_file.c has the file. */
#include <errno.h>
#include <string.h>

#include "daemon/audit/spool_internal.h"

enum { SPAN_MAX = 100 }; /* days of one batch */

static const char magic[8] = {'a', 'p', 'i', 'k', 'e', 'y', 'd', 'L'};
static const int64_t year_10000 = INT64_C(253402300800000000);
static const uint64_t numbers_end = UINT64_C(1) << 60;		/* no counter comes so far */
static const keytext_id ids_end = UINT64_C(839299365868340224); /* 62^10 */

/*
 * What stands before it is in memory before what stands behind it, as whoever maps the file after us sees it: the kernel
 * keeps what a killed process has stored, in the order of its instructions, so that only the compiler is to be told.
 */
static inline void in_order(void)
{
	__asm__ volatile("" ::: "memory");
}

/* ---- checks ---- */

static size_t text_len(const struct spool_record *record)
{
	return (size_t)record->stack_len + record->scope_len + record->page_len + record->org_len;
}

static uint32_t check_of_record(const struct spool_record *record, uint64_t seq)
{
	const size_t from = offsetof(struct spool_record, uid), text = offsetof(struct spool_record, text);

	return keytext_crc32((const char *)record + from, text - from + text_len(record)) ^
	       (uint32_t)(seq * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

static bool time_is_good(int64_t us)
{
	return us >= 0 && us < year_10000;
}

static bool is_word(const char *word)
{
	size_t len = strnlen(word, SPOOL_WORD);

	for (size_t i = 0; i < len; i++) {
		if ((word[i] < 'a' || word[i] > 'z') && word[i] != '_')
			return false;
	}
	return len > 0 && len < SPOOL_WORD;
}

static bool text_is_good(const struct spool_record *record)
{
	if (text_len(record) > SPOOL_TEXT_MAX)
		return false;
	for (size_t i = 0; i < text_len(record); i++) {
		if (record->text[i] <= ' ' || record->text[i] > '~')
			return false;
	}
	return true;
}

static bool record_is_good(const struct spool *spool, const struct spool_record *record)
{
	const struct spool_page *page = spool->page;

	if (record->kind == SPOOL_VOID)
		return text_len(record) == 0;
	return record->kind <= SPOOL_EVENT && text_is_good(record) && record->verdict <= VERDICT_UNAVAILABLE &&
	       record->reason < SPOOL_REASONS && is_word(page->reasons[record->reason]) &&
	       record->method < SPOOL_METHODS &&
	       (record->kind == SPOOL_ROLLUP || is_word(page->methods[record->method])) && record->count > 0 &&
	       record->count <= INT64_MAX && (record->kind == SPOOL_ROLLUP || record->count == 1) &&
	       record->rev <= INT64_MAX && record->age_ms <= INT64_MAX && record->key_id < ids_end &&
	       record->flags <= (SPOOL_STALE | SPOOL_EXPLAIN) &&
	       (record->addr_family == 0 || record->addr_family == 4 || record->addr_family == 6) &&
	       time_is_good(record->first_at) && time_is_good(record->last_at);
}

static bool record_is_there(const struct spool *spool, uint64_t position)
{
	const struct spool_record *record = spool_at(spool, position);

	return record->seq == position && text_len(record) <= SPOOL_TEXT_MAX &&
	       record->check == check_of_record(record, position) && record_is_good(spool, record);
}

/* ---- states ---- */

static uint32_t check_of_state(const struct spool_state *state)
{
	return keytext_crc32(state, offsetof(struct spool_state, check));
}

/* What spool->state says is so from the last store on. */
static void put_state(struct spool *spool)
{
	struct spool_page *page = spool->page;
	uint64_t turn = page->turn + 1;

	spool->state.check = check_of_state(&spool->state);
	page->states[turn % 2] = spool->state;
	in_order();
	*(volatile uint64_t *)&page->turn = turn;
	in_order();
}

static bool state_is_good(const struct spool *spool, const struct spool_state *state)
{
	return state->check == check_of_state(state) && state->start >= 1 && state->start <= numbers_end &&
	       state->sealed >= state->start && state->sealed - state->start <= spool->capacity && state->batch >= 1 &&
	       state->batch <= numbers_end && time_is_good(state->made_at) && state->lost_told <= state->lost_sealed &&
	       state->lost_sealed <= numbers_end && state->seal <= SPOOL_SEALED_STATEMENT &&
	       (state->seal == SPOOL_SEALED || state->sealed == state->start);
}

/* ---- making, adopting ---- */

uint64_t spool_capacity_of(uint64_t bytes)
{
	uint64_t capacity = bytes > SPOOL_PAGE ? (bytes - SPOOL_PAGE) / sizeof(struct spool_record) : 0;

	return capacity > SPOOL_FEWEST ? capacity : SPOOL_FEWEST;
}

size_t spool_size_of(uint64_t capacity)
{
	return SPOOL_PAGE + (size_t)capacity * sizeof(struct spool_record);
}

void spool_format(void *map, uint64_t capacity, const struct spool_state *state)
{
	struct spool_page *page = map;
	struct spool spool = {.page = page, .capacity = capacity, .state = *state};

	memcpy(page->magic, magic, sizeof(magic));
	page->version = SPOOL_VERSION;
	page->record_size = sizeof(struct spool_record);
	page->capacity = capacity;
	page->check = keytext_crc32(page, offsetof(struct spool_page, check));
	put_state(&spool);
}

/* The place of a word in a table of words, where it is put if it is not there. False: there is no place left. */
static bool place_of(char (*words)[SPOOL_WORD], unsigned count, const char *word, uint8_t *ret)
{
	unsigned at = 0;

	while (at < count && strncmp(words[at], word, SPOOL_WORD) != 0)
		at++;
	if (at == count) {
		for (at = 0; at < count && words[at][0]; at++)
			;
		if (at == count)
			return false;
		strncpy(words[at], word, SPOOL_WORD - 1);
		in_order();
	}
	*ret = (uint8_t)at;
	return true;
}

static bool place_words(struct spool *spool)
{
	for (unsigned i = 0; i < REASON_COUNT; i++) {
		if (!place_of(spool->page->reasons, SPOOL_REASONS, reason_word((enum reason)i), &spool->reason_at[i]))
			return false;
	}
	for (unsigned i = 0; i < RPC_METHOD_COUNT; i++) {
		if (!place_of(spool->page->methods, SPOOL_METHODS, rpc_method_word((enum rpc_method)i),
			      &spool->method_at[i]))
			return false;
	}
	return true;
}

static void put_record(struct spool *spool, struct spool_record *record)
{
	record->check = check_of_record(record, spool->end);
	in_order();
	*(volatile uint64_t *)&record->seq = spool->end;
	in_order();
}

/* Finds the end; what is damaged before it becomes void. */
static void scan(struct spool *spool)
{
	const struct spool_state *state = &spool->state;
	uint64_t end = state->sealed;

	for (uint64_t p = state->start; p < state->start + spool->capacity; p++) {
		if (record_is_there(spool, p) && p >= end)
			end = p + 1;
	}
	for (spool->end = state->start; spool->end < end; spool->end++) {
		struct spool_record *record = spool_at(spool, spool->end);

		if (!record_is_there(spool, spool->end)) {
			memset(record, 0, sizeof(*record));
			in_order();
			put_record(spool, record);
		}
		spool->damaged += record->kind == SPOOL_VOID;
	}
}

/* After the loss of the machine the counters of what was lost may be older than what was told of them. */
static void mend_lost(struct spool *spool)
{
	uint64_t *lost = spool->page->lost;

	for (unsigned i = 0; i < SPOOL_REASONS; i++)
		lost[i] = lost[i] <= numbers_end / SPOOL_REASONS ? lost[i] : 0;
	if (spool_lost(spool) < spool->state.lost_sealed)
		lost[spool->reason_at[REASON_AUDIT_FULL]] += spool->state.lost_sealed - spool_lost(spool);
}

int spool_adopt(struct spool *ret, void *map, size_t size)
{
	struct spool_page *page = map;

	if (size < SPOOL_PAGE || memcmp(page->magic, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	if (page->version != SPOOL_VERSION || page->record_size != sizeof(struct spool_record))
		return -EPROTONOSUPPORT;
	if (page->check != keytext_crc32(page, offsetof(struct spool_page, check)) || page->capacity < SPOOL_FEWEST ||
	    page->capacity > (size - SPOOL_PAGE) / sizeof(struct spool_record))
		return -EBADMSG;
	ret->page = page;
	ret->records = (struct spool_record *)(void *)((char *)map + SPOOL_PAGE);
	ret->capacity = page->capacity;
	ret->damaged = 0;
	/* Only the loss of the whole machine leaves one that is not good; then the other holds. */
	if (!state_is_good(ret, &page->states[page->turn % 2]))
		page->turn++;
	ret->state = page->states[page->turn % 2];
	if (!state_is_good(ret, &ret->state))
		return -EBADMSG;
	if (!place_words(ret))
		return -EPROTONOSUPPORT;
	mend_lost(ret);
	scan(ret);
	return 0;
}

/* ---- what is in it ---- */

uint64_t spool_capacity(const struct spool *spool)
{
	return spool->capacity;
}

uint64_t spool_used(const struct spool *spool)
{
	return spool->end - spool->state.start;
}

uint64_t spool_room(const struct spool *spool)
{
	return spool->capacity - spool_used(spool);
}

uint64_t spool_end(const struct spool *spool)
{
	return spool->end;
}

uint64_t spool_open_from(const struct spool *spool)
{
	return spool->state.sealed;
}

uint64_t spool_lost(const struct spool *spool)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < SPOOL_REASONS; i++)
		sum += spool->page->lost[i];
	return sum;
}

uint64_t spool_lost_untold(const struct spool *spool)
{
	return spool_lost(spool) - spool->state.lost_sealed;
}

uint64_t spool_damaged(const struct spool *spool)
{
	return spool->damaged;
}

const uint8_t *spool_chain(const struct spool *spool)
{
	return spool->state.chain;
}

const uint8_t *spool_head(const struct spool *spool)
{
	return spool->state.head;
}

const uint8_t *spool_tried(const struct spool *spool)
{
	return spool->state.tried;
}

uint64_t spool_number(const struct spool *spool)
{
	return spool->state.batch;
}

const char *spool_reason_word(const struct spool *spool, uint8_t reason)
{
	return spool->page->reasons[reason % SPOOL_REASONS];
}

const char *spool_method_word(const struct spool *spool, uint8_t method)
{
	return spool->page->methods[method % SPOOL_METHODS];
}

uint8_t spool_reason_at(const struct spool *spool, enum reason reason)
{
	return spool->reason_at[reason];
}

uint8_t spool_method_at(const struct spool *spool, unsigned method)
{
	return spool->method_at[method];
}

/* ---- records ---- */

struct spool_record *spool_at(const struct spool *spool, uint64_t position)
{
	return &spool->records[position % spool->capacity];
}

struct spool_record *spool_next(struct spool *spool)
{
	struct spool_record *record = spool_at(spool, spool->end);

	if (spool_room(spool) == 0)
		return NULL;
	memset(record, 0, sizeof(*record));
	return record;
}

uint64_t spool_append(struct spool *spool)
{
	put_record(spool, spool_at(spool, spool->end));
	return spool->end++;
}

void spool_lose(struct spool *spool, enum reason reason)
{
	++*(volatile uint64_t *)&spool->page->lost[spool->reason_at[reason]];
}

/* ---- batches ---- */

/* The different days and tables of a batch so far. */
struct kinds {
	struct {
		int64_t day;
		uint8_t kind;
	} seen[64];
	unsigned count, most;
};

/* False: it would be one too many. */
static bool see(struct kinds *kinds, const struct spool_record *record)
{
	int64_t day = spool_day(record->first_at);

	if (record->kind == SPOOL_VOID)
		return true;
	/* The last one is nearly always the right one. */
	for (unsigned i = kinds->count; i > 0; i--) {
		if (kinds->seen[i - 1].day == day && kinds->seen[i - 1].kind == record->kind)
			return true;
	}
	/* And none so far from the others that the database would have to make partitions for a year. */
	if (kinds->count == kinds->most ||
	    (kinds->count > 0 && (day > kinds->seen[0].day + SPAN_MAX || day < kinds->seen[0].day - SPAN_MAX)))
		return false;
	kinds->seen[kinds->count].day = day;
	kinds->seen[kinds->count++].kind = record->kind;
	return true;
}

bool spool_seal(struct spool *spool, int64_t made_at, uint64_t most, unsigned days)
{
	struct kinds kinds = {.most = days < 64 ? days : 64};
	struct spool_state *state = &spool->state;
	uint64_t end = state->start, lost = spool_lost(spool);

	if (state->seal != SPOOL_UNSEALED || (spool->end == state->start && lost == state->lost_told))
		return false;
	while (end < spool->end && end - state->start < most && see(&kinds, spool_at(spool, end)))
		end++;
	state->sealed = end;
	state->made_at = made_at > 0 ? made_at : 0;
	state->lost_sealed = lost;
	state->seal = SPOOL_SEALED;
	put_state(spool);
	return true;
}

bool spool_seal_statement(struct spool *spool, int64_t made_at)
{
	struct spool_state *state = &spool->state;

	if (state->seal != SPOOL_UNSEALED)
		return false;
	state->made_at = made_at > 0 ? made_at : 0;
	state->seal = SPOOL_SEALED_STATEMENT;
	put_state(spool);
	return true;
}

bool spool_sealed(const struct spool *spool, struct spool_batch *ret)
{
	const struct spool_state *state = &spool->state;

	if (state->seal == SPOOL_UNSEALED)
		return false;
	*ret = (struct spool_batch){.number = state->batch,
				    .first = state->start,
				    .end = state->sealed,
				    .made_at = state->made_at,
				    .lost = state->lost_sealed - state->lost_told,
				    .is_statement = state->seal == SPOOL_SEALED_STATEMENT};
	return true;
}

void spool_try(struct spool *spool, const uint8_t head[SPOOL_HEAD_LEN])
{
	memcpy(spool->state.tried, head, SPOOL_HEAD_LEN);
	put_state(spool);
}

void spool_release(struct spool *spool)
{
	struct spool_state *state = &spool->state;

	state->start = state->sealed;
	state->batch++;
	state->lost_told = state->lost_sealed;
	memcpy(state->head, state->tried, SPOOL_HEAD_LEN);
	memset(state->tried, 0, SPOOL_HEAD_LEN);
	state->seal = SPOOL_UNSEALED;
	put_state(spool);
}

void spool_unseal(struct spool *spool)
{
	struct spool_state *state = &spool->state;

	state->sealed = state->start;
	state->lost_sealed = state->lost_told;
	memset(state->tried, 0, SPOOL_HEAD_LEN);
	state->seal = SPOOL_UNSEALED;
	put_state(spool);
}

void spool_new_chain(struct spool *spool, const uint8_t chain[SPOOL_CHAIN_LEN])
{
	struct spool_state *state = &spool->state;

	memcpy(state->chain, chain, SPOOL_CHAIN_LEN);
	memset(state->head, 0, SPOOL_HEAD_LEN);
	memset(state->tried, 0, SPOOL_HEAD_LEN);
	state->batch = 1;
	put_state(spool);
}
