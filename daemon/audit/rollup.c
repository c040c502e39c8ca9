#include "daemon/audit/rollup.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "daemon/modules/ledger.h"

enum { WAYS = 8, RATES = 1024, RATE_WAYS = 8, RESERVE_PART = 4, HUGE_PAGE = 2 << 20 };
static const uint64_t minute_us = 60000000, second_us = 1000000;
static const int64_t last_us = INT64_C(253402300799999999); /* of the year 9999 */

/* What the index has of one roll-up. */
struct entry {
	uint64_t position; /* below `floor`: it is over */
	uint64_t hash;
	struct spool_record *record;
};

struct rate {
	uint32_t uid;
	uint8_t reason;
	int64_t second;
	uint32_t used;
};

struct rollup {
	struct spool *spool;
	struct rollup_limits limits;
	uint64_t reserve;	   /* records that are for ALLOWs alone */
	uint64_t floor;		   /* the first position that may be counted up */
	int64_t minute;		   /* µs: the running one begins; -1: none does */
	uint32_t sources, denials; /* that began in it */
	uint64_t seed;
	uint64_t mask; /* of entries */
	struct entry *entries;
	struct rollup_counts counts;
	struct rate rates[RATES + RATE_WAYS];
};

/* ---- life ---- */

/* Zeroed. It is looked at all over: in huge pages, where the kernel has some, a look costs no walk through tables. */
static struct entry *entries_new(size_t count)
{
	size_t size = (count * sizeof(struct entry) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
	struct entry *entries = aligned_alloc(HUGE_PAGE, size);

	if (!entries)
		return NULL;
	madvise(entries, size, MADV_HUGEPAGE);
	memset(entries, 0, size);
	return entries;
}

struct rollup *rollup_new(struct spool *spool, const struct rollup_limits *limits)
{
	struct rollup *rollup = calloc(1, sizeof(*rollup));
	uint64_t count = 64;

	if (!rollup)
		return NULL;
	while (count < spool_capacity(spool))
		count *= 2;
	/* Windows of WAYS entries may begin at any of them. */
	rollup->entries = entries_new(count + WAYS);
	if (!rollup->entries || getrandom(&rollup->seed, sizeof(rollup->seed), 0) != sizeof(rollup->seed)) {
		rollup_free(rollup);
		return NULL;
	}
	rollup->mask = count - 1;
	rollup->spool = spool;
	rollup->limits = *limits;
	rollup->reserve = spool_capacity(spool) / RESERVE_PART;
	/* What an earlier daemon left is not counted up any more. */
	rollup->floor = spool_end(spool);
	rollup->minute = -1;
	return rollup;
}

void rollup_free(struct rollup *rollup)
{
	if (!rollup)
		return;
	free(rollup->entries);
	free(rollup);
}

void rollup_configure(struct rollup *rollup, const struct rollup_limits *limits)
{
	rollup->limits = *limits;
}

const struct rollup_counts *rollup_counts(const struct rollup *rollup)
{
	return &rollup->counts;
}

/* ---- what is counted together ---- */

struct identity {
	struct rpc_text stack, scope, page;
	struct rpc_addr addr;
	keytext_id key_id;
	uint32_t uid;
	uint8_t reason; /* as the spool has it */
	uint64_t hash;
};

static inline uint64_t mix(uint64_t hash, uint64_t word)
{
	__uint128_t product = (__uint128_t)(hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_of(const struct rollup *rollup, keytext_id key_id, uint64_t hint, uint32_t uid,
			       uint8_t reason, uint32_t stack_len)
{
	uint64_t hash = mix(mix(rollup->seed, key_id), hint);

	return mix(hash, (uint64_t)uid << 16 | (uint64_t)reason << 8 | (uint8_t)stack_len);
}

static inline void set_hash(const struct rollup *rollup, struct identity *id, uint64_t hint)
{
	uint64_t hash = hash_of(rollup, id->key_id, hint, id->uid, id->reason, id->stack.len), halves[2];

	if (id->addr.family != 0) {
		memcpy(halves, id->addr.bytes, sizeof(halves));
		hash = mix(mix(hash, halves[0]), halves[1] + id->addr.family);
	}
	id->hash = hash;
}

static inline uint64_t word_at(const char *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return word;
}

static inline uint32_t half_at(const char *at)
{
	uint32_t half;

	memcpy(&half, at, sizeof(half));
	return half;
}

/* Names are short: in words, the last of which may overlap the one before, and without a call. */
static inline bool same_bytes(const char *a, const char *b, size_t len)
{
	if (len >= 8) {
		for (size_t i = 0; i + 8 < len; i += 8) {
			if (word_at(a + i) != word_at(b + i))
				return false;
		}
		return word_at(a + len - 8) == word_at(b + len - 8);
	}
	if (len >= 4)
		return half_at(a) == half_at(b) && half_at(a + len - 4) == half_at(b + len - 4);
	for (size_t i = 0; i < len; i++) {
		if (a[i] != b[i])
			return false;
	}
	return true;
}

static inline bool is_of(const struct spool_record *record, const struct identity *id)
{
	const char *text = record->text;

	return record->key_id == id->key_id && record->uid == id->uid && record->kind == SPOOL_ROLLUP &&
	       record->reason == id->reason && record->stack_len == id->stack.len &&
	       record->scope_len == id->scope.len && record->page_len == id->page.len &&
	       record->addr_family == id->addr.family && same_bytes(text, id->stack.data, id->stack.len) &&
	       same_bytes(text + id->stack.len, id->scope.data, id->scope.len) &&
	       same_bytes(text + id->stack.len + id->scope.len, id->page.data, id->page.len) &&
	       (id->addr.family == 0 || memcmp(record->addr, id->addr.bytes, sizeof(record->addr)) == 0);
}

/* The roll-up of the running minute that counts these; NULL: there is none, or none that the index still knows. */
static inline struct spool_record *find(const struct rollup *rollup, const struct identity *id)
{
	const struct entry *entry = &rollup->entries[id->hash & rollup->mask];

	for (unsigned i = 0; i < WAYS; i++) {
		if (entry[i].hash == id->hash && entry[i].position >= rollup->floor &&
		    __builtin_expect(is_of(entry[i].record, id), 1))
			return entry[i].record;
	}
	return NULL;
}

uint64_t rollup_aim(const struct rollup *rollup, enum reason reason, keytext_id key_id, uint64_t hint, uint32_t uid,
		    uint32_t stack_len)
{
	uint64_t hash = hash_of(rollup, key_id, hint, uid, spool_reason_at(rollup->spool, reason), stack_len);

	__builtin_prefetch(&rollup->entries[hash & rollup->mask]);
	return hash;
}

void rollup_fetch(const struct rollup *rollup, uint64_t aim)
{
	const struct entry *entry = &rollup->entries[aim & rollup->mask];

	for (unsigned i = 0; i < WAYS; i++) {
		if (entry[i].hash == aim && entry[i].position >= rollup->floor) {
			/* What is counted up, and what is compared. */
			__builtin_prefetch(entry[i].record, 1);
			__builtin_prefetch(&entry[i].record->kind);
			__builtin_prefetch(entry[i].record->text);
			return;
		}
	}
}

/* In a place of one that is over; where all count still, one of them begins anew when it is met again. */
static void enter(struct rollup *rollup, const struct identity *id, uint64_t position)
{
	struct entry *entry = &rollup->entries[id->hash & rollup->mask];
	unsigned at = 0;

	while (at < WAYS && entry[at].position >= rollup->floor)
		at++;
	if (at == WAYS)
		at = (unsigned)(id->hash >> 56) % WAYS;
	entry[at] = (struct entry){.position = position, .hash = id->hash, .record = spool_at(rollup->spool, position)};
}

/* ---- records ---- */

static bool is_printable(const struct rpc_text *text)
{
	for (uint32_t i = 0; i < text->len; i++) {
		if (text->data[i] <= ' ' || text->data[i] > '~')
			return false;
	}
	return true;
}

static uint8_t put_text(struct spool_record *record, size_t at, const struct rpc_text *text)
{
	if (text->len > 0)
		memcpy(record->text + at, text->data, text->len);
	return (uint8_t)text->len;
}

/* What no place is for is not said: names of the store are shorter, and printable. */
static void fit(struct rpc_text *text, size_t most)
{
	if (!text->data || text->len > most || !is_printable(text))
		*text = (struct rpc_text){0};
}

static int64_t clamp(int64_t us)
{
	return us < 0 ? 0 : us > last_us ? last_us : us;
}

/* NULL: there is no room for it. */
static struct spool_record *new_record(struct rollup *rollup, enum spool_kind kind, const struct rollup_verdict *v,
				       const struct identity *id)
{
	struct spool_record *record;
	size_t at = 0;

	if (v->reason != REASON_OK && spool_room(rollup->spool) <= rollup->reserve)
		return NULL;
	record = spool_next(rollup->spool);
	if (!record)
		return NULL;
	record->kind = (uint8_t)kind;
	record->verdict = (uint8_t)verdict_of(v->reason);
	record->reason = id->reason;
	record->count = 1;
	record->first_at = record->last_at = clamp(v->now);
	record->uid = id->uid;
	record->key_id = id->key_id;
	record->addr_family = id->addr.family;
	if (id->addr.family != 0)
		memcpy(record->addr, id->addr.bytes, sizeof(record->addr));
	at += record->stack_len = put_text(record, at, &id->stack);
	at += record->scope_len = put_text(record, at, &id->scope);
	record->page_len = put_text(record, at, &id->page);
	return record;
}

static bool put_event(struct rollup *rollup, const struct rollup_verdict *v, const struct identity *id)
{
	struct spool_record *record = new_record(rollup, SPOOL_EVENT, v, id);
	struct rpc_text org = v->org;

	if (!record)
		return false;
	record->method = spool_method_at(rollup->spool, v->method);
	record->rev = v->rev;
	record->age_ms = v->age_ms > INT64_MAX ? INT64_MAX : v->age_ms;
	record->flags = (uint8_t)((v->stale ? SPOOL_STALE : 0) | (v->explain ? SPOOL_EXPLAIN : 0));
	fit(&org, SPOOL_TEXT_MAX - (size_t)(record->stack_len + record->scope_len + record->page_len));
	record->org_len = put_text(record, (size_t)(record->stack_len + record->scope_len + record->page_len), &org);
	spool_append(rollup->spool);
	rollup->counts.events++;
	return true;
}

static bool put_rollup(struct rollup *rollup, const struct rollup_verdict *v, const struct identity *id)
{
	if (!new_record(rollup, SPOOL_ROLLUP, v, id))
		return false;
	enter(rollup, id, spool_append(rollup->spool));
	rollup->counts.rollups++;
	return true;
}

/* One more of a roll-up that there is. */
static inline bool count_up(struct rollup *rollup, const struct rollup_verdict *v, const struct identity *id)
{
	struct spool_record *record = find(rollup, id);

	if (!record)
		return false;
	spool_count(record, clamp(v->now));
	rollup->counts.counted++;
	return true;
}

/* ---- rates ---- */

/*
 * The count of this caller and reason in this second. Where all places that it may have are taken by others, it shares one
 * with another: both have less, and no two that meet in a place can begin it anew for each other.
 */
static struct rate *rate_of(struct rollup *rollup, const struct rollup_verdict *v)
{
	int64_t second = v->boot / (int64_t)second_us;
	struct rate *rates = &rollup->rates[mix(mix(rollup->seed, v->uid), v->reason) % RATES], *over = NULL;

	for (unsigned i = 0; i < RATE_WAYS; i++) {
		if (rates[i].second != second)
			over = over ? over : &rates[i];
		else if (rates[i].uid == v->uid && rates[i].reason == v->reason)
			return &rates[i];
	}
	if (!over)
		return rates;
	*over = (struct rate){.uid = v->uid, .reason = (uint8_t)v->reason, .second = second};
	return over;
}

/* Whether one more event is within its rate. */
static bool rate_holds(struct rollup *rollup, const struct rollup_verdict *v)
{
	struct rate *rate = rate_of(rollup, v);

	if (rate->used >= rollup->limits.events_per_second) {
		rollup->counts.limit_events++;
		return false;
	}
	rate->used++;
	return true;
}

static inline void move_on(struct rollup *rollup, const struct rollup_verdict *v)
{
	/* A batch may have been sealed since. */
	if (rollup->floor < spool_open_from(rollup->spool))
		rollup->floor = spool_open_from(rollup->spool);
	if (__builtin_expect(rollup->minute >= 0 && (uint64_t)(v->now - rollup->minute) < minute_us, 1))
		return;
	rollup->minute = spool_minute(clamp(v->now));
	rollup->floor = spool_end(rollup->spool);
	rollup->sources = rollup->denials = 0;
}

/* ---- verdicts ---- */

/* Of a denial or fault: with all that is known, with less, or as a number. */
static void roll_up_refusal(struct rollup *rollup, const struct rollup_verdict *v, struct identity *id)
{
	bool named = id->scope.len > 0 || id->page.len > 0, sourced = id->addr.family != 0;

	if (count_up(rollup, v, id))
		return;
	if ((!named || rollup->denials < rollup->limits.denials_per_minute) &&
	    (!sourced || rollup->sources < rollup->limits.sources_per_minute)) {
		if (put_rollup(rollup, v, id)) {
			rollup->denials += named;
			rollup->sources += sourced;
			return;
		}
	} else {
		rollup->counts.limit_denials += named;
		rollup->counts.limit_sources += sourced;
	}
	if (named || sourced) {
		id->scope = id->page = (struct rpc_text){0};
		id->addr = (struct rpc_addr){0};
		set_hash(rollup, id, 0);
		if (count_up(rollup, v, id) || put_rollup(rollup, v, id))
			return;
	}
	rollup->counts.full++;
	spool_lose(rollup->spool, v->reason);
}

static struct rpc_addr network_of(const struct rpc_addr *addr)
{
	struct rpc_addr network = *addr;

	if (network.family == 6)
		memset(network.bytes + 8, 0, 8);
	else
		memset(network.bytes + 4, 0, 12);
	return network;
}

static void record_refusal(struct rollup *rollup, const struct rollup_verdict *v, struct identity *id)
{
	bool proven = id->key_id != 0, fault = verdict_of(v->reason) == VERDICT_UNAVAILABLE;
	bool wants_event = v->explain || (v->how & LEDGER_DENIALS_FULL && (proven || fault));

	if (!proven)
		id->scope = id->page = (struct rpc_text){0};
	if (wants_event && (v->explain || rate_holds(rollup, v))) {
		id->addr = *v->addr;
		if (put_event(rollup, v, id))
			return;
	}
	if (v->explain) {
		rollup->counts.full++;
		spool_lose(rollup->spool, v->reason);
		return;
	}
	id->addr = proven ? (struct rpc_addr){0} : network_of(v->addr);
	set_hash(rollup, id, proven ? v->hint : 0);
	roll_up_refusal(rollup, v, id);
}

static inline void identify(const struct rollup *rollup, const struct rollup_verdict *v, struct identity *id)
{
	id->stack = v->stack;
	id->scope = v->scope;
	id->page = v->page;
	id->addr.family = 0;
	id->key_id = v->key_id;
	id->uid = v->uid;
	id->reason = spool_reason_at(rollup->spool, v->reason);
	if (__builtin_expect(v->stack.len + v->scope.len + v->page.len > SPOOL_TEXT_MAX, 0)) {
		fit(&id->scope, RPC_SCOPE_MAX);
		fit(&id->page, SPOOL_TEXT_MAX - RPC_SCOPE_MAX - 64);
	}
}

bool rollup_record(struct rollup *rollup, const struct rollup_verdict *v)
{
	struct identity id;

	move_on(rollup, v);
	identify(rollup, v, &id);
	if (v->reason != REASON_OK) {
		record_refusal(rollup, v, &id);
		return true;
	}
	if (__builtin_expect(!v->explain && !(v->how & LEDGER_ALLOWS_FULL), 1)) {
		set_hash(rollup, &id, v->hint);
		if (count_up(rollup, v, &id) || put_rollup(rollup, v, &id))
			return true;
	} else {
		id.addr = *v->addr;
		if (put_event(rollup, v, &id))
			return true;
	}
	if (!(v->how & LEDGER_GO_ON) && !v->explain)
		return false;
	rollup->counts.full++;
	spool_lose(rollup->spool, v->reason);
	return true;
}

bool rollup_is_open(const struct rollup *rollup)
{
	return spool_room(rollup->spool) > 0;
}

bool rollup_has_room(struct rollup *rollup, const struct rollup_verdict *v)
{
	struct identity id;

	if (rollup_is_open(rollup))
		return true;
	if (v->how & LEDGER_ALLOWS_FULL || v->explain)
		return false;
	move_on(rollup, v);
	identify(rollup, v, &id);
	set_hash(rollup, &id, v->hint);
	return find(rollup, &id) != NULL;
}
