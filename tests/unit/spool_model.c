#include "tests/unit/spool_model.h"

#include <stdlib.h>
#include <string.h>

static const int64_t day_us = INT64_C(86400000000);
static const int64_t morning = INT64_C(1700000000000000);

uint64_t model_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

void model_init(struct model *model, uint64_t capacity)
{
	memset(model, 0, sizeof(*model));
	model->capacity = capacity;
	model->start = model->sealed = model->end = 1;
	model->batch = 1;
}

static struct step step_of(enum step_kind kind, uint64_t a, uint64_t b)
{
	return (struct step){.kind = kind, .a = a, .b = b};
}

struct step model_draw(const struct model *model, uint64_t random)
{
	uint64_t detail = random / 1000;

	switch (random % 1000 / 50) {
	case 0:
		if (model->seal == SPOOL_UNSEALED && (model->end > model->start || model->lost != model->lost_told))
			return step_of(STEP_SEAL, 1 + detail % model->capacity, 1 + detail / 7 % MODEL_DAYS);
		break;
	case 1:
	case 2:
	case 3:
		if (model->seal != SPOOL_UNSEALED)
			return step_of(STEP_RELEASE, 0, 0);
		break;
	case 4:
		if (model->seal != SPOOL_UNSEALED)
			return step_of(STEP_TRY, detail % 256, 0);
		break;
	case 5:
		if (model->seal == SPOOL_SEALED_STATEMENT)
			return step_of(STEP_UNSEAL, 0, 0);
		if (model->seal == SPOOL_UNSEALED && detail % 4 == 0)
			return step_of(STEP_STATEMENT, detail % 100, 0);
		break;
	case 6:
		if (detail % 8 == 0)
			return step_of(STEP_CHAIN, detail % 256, 0);
		break;
	case 7:
		return step_of(STEP_LOSE, detail % REASON_COUNT, 0);
	case 8:
	case 9:
	case 10:
	case 11:
		for (uint64_t p = model->sealed + detail % (model->end - model->sealed + 1); p < model->end; p++) {
			if (model->records[p % MODEL_RECORDS].kind == SPOOL_ROLLUP)
				return step_of(STEP_COUNT, p, 0);
		}
		break;
	default:
		break;
	}
	if (model->end - model->start == model->capacity || model->end >= MODEL_RECORDS)
		return step_of(STEP_LOSE, detail % REASON_COUNT, 0);
	return step_of(STEP_APPEND, detail % 8, detail % 3 == 0 ? SPOOL_EVENT : SPOOL_ROLLUP);
}

/* How many of the records in order have at most so many different tables and days. */
static uint64_t reach(const struct model *model, uint64_t most, uint64_t kinds)
{
	uint64_t end = model->start;

	for (; end < model->end && end - model->start < most; end++) {
		uint64_t different = 0;

		for (uint64_t p = model->start; p <= end; p++) {
			const struct model_record *r = &model->records[p];
			bool first = true;

			for (uint64_t q = model->start; q < p; q++)
				first &= model->records[q].kind != r->kind || model->records[q].day != r->day;
			different += first;
		}
		if (different > kinds)
			break;
	}
	return end;
}

void model_step(struct model *model, const struct step *step)
{
	switch (step->kind) {
	case STEP_APPEND:
		model->records[model->end] = (struct model_record){.kind = (uint8_t)step->b,
								   .uid = (uint32_t)model->end,
								   .day = (int64_t)(step->a / 3),
								   .count = 1};
		model->end++;
		break;
	case STEP_COUNT:
		model->records[step->a].count++;
		break;
	case STEP_LOSE:
		model->lost++;
		break;
	case STEP_SEAL:
		model->sealed = reach(model, step->a, step->b);
		model->lost_sealed = model->lost;
		model->made_at = (int64_t)step->a;
		model->seal = SPOOL_SEALED;
		break;
	case STEP_STATEMENT:
		model->made_at = (int64_t)step->a;
		model->seal = SPOOL_SEALED_STATEMENT;
		break;
	case STEP_TRY:
		model->tried = (uint8_t)step->a;
		break;
	case STEP_RELEASE:
		model->start = model->sealed;
		model->lost_told = model->lost_sealed;
		model->head = model->tried;
		model->tried = 0;
		model->batch++;
		model->seal = SPOOL_UNSEALED;
		break;
	case STEP_UNSEAL:
		model->tried = 0;
		model->seal = SPOOL_UNSEALED;
		break;
	case STEP_CHAIN:
		model->chain = (uint8_t)step->a;
		model->head = model->tried = 0;
		model->batch = 1;
		break;
	}
}

static void append(struct spool *spool, const struct step *step)
{
	struct spool_record *record = spool_next(spool);
	int64_t at = morning + (int64_t)(step->a / 3) * day_us;

	if (!record)
		abort();
	record->kind = (uint8_t)step->b;
	record->uid = (uint32_t)spool_end(spool);
	record->verdict = VERDICT_DENY;
	record->reason = spool_reason_at(spool, REASON_REVOKED);
	record->method = step->b == SPOOL_EVENT ? spool_method_at(spool, RPC_METHOD_CHECK) : 0;
	record->count = 1;
	record->first_at = record->last_at = at;
	record->stack_len = 7;
	record->scope_len = (uint8_t)(step->a % 3 * 5);
	for (size_t i = 0; i < (size_t)record->stack_len + record->scope_len; i++)
		record->text[i] = (char)('a' + step->a);
	spool_append(spool);
}

void model_step_spool(struct spool *spool, const struct step *step)
{
	uint8_t bytes[SPOOL_HEAD_LEN];

	memset(bytes, (int)step->a, sizeof(bytes));
	switch (step->kind) {
	case STEP_APPEND:
		append(spool, step);
		break;
	case STEP_COUNT:
		spool_count(spool_at(spool, step->a), spool_at(spool, step->a)->last_at + 1);
		break;
	case STEP_LOSE:
		spool_lose(spool, (enum reason)step->a);
		break;
	case STEP_SEAL:
		if (!spool_seal(spool, (int64_t)step->a, step->a, (unsigned)step->b))
			abort();
		break;
	case STEP_STATEMENT:
		if (!spool_seal_statement(spool, (int64_t)step->a))
			abort();
		break;
	case STEP_TRY:
		spool_try(spool, bytes);
		break;
	case STEP_RELEASE:
		spool_release(spool);
		break;
	case STEP_UNSEAL:
		spool_unseal(spool);
		break;
	case STEP_CHAIN:
		spool_new_chain(spool, bytes);
		break;
	}
}

static bool all_are(const uint8_t *bytes, size_t len, uint8_t byte)
{
	while (len > 0 && bytes[len - 1] == byte)
		len--;
	return len == 0;
}

static const char *batch_differs(const struct model *model, const struct spool *spool)
{
	struct spool_batch batch;

	if (spool_sealed(spool, &batch) != (model->seal != SPOOL_UNSEALED))
		return "whether a batch is sealed";
	if (model->seal == SPOOL_UNSEALED)
		return NULL;
	if (batch.number != model->batch || batch.first != model->start || batch.end != model->sealed)
		return "the sealed batch";
	if (batch.lost != model->lost_sealed - model->lost_told)
		return "what the sealed batch has lost";
	if (batch.is_statement != (model->seal == SPOOL_SEALED_STATEMENT) || batch.made_at != model->made_at)
		return "the sealed batch's kind or time";
	return NULL;
}

const char *model_differs(const struct model *model, const struct spool *spool)
{
	const char *what = batch_differs(model, spool);

	if (what)
		return what;
	if (spool_damaged(spool) != 0)
		return "it is damaged";
	if (spool_end(spool) != model->end || spool_used(spool) != model->end - model->start ||
	    spool_room(spool) != model->capacity - (model->end - model->start))
		return "the number of records";
	if (spool_number(spool) != model->batch || spool_open_from(spool) != model->sealed)
		return "the number of the batch";
	if (spool_lost(spool) != model->lost || spool_lost_untold(spool) != model->lost - model->lost_sealed)
		return "what is lost";
	if (!all_are(spool_chain(spool), SPOOL_CHAIN_LEN, model->chain) ||
	    !all_are(spool_head(spool), SPOOL_HEAD_LEN, model->head) ||
	    !all_are(spool_tried(spool), SPOOL_HEAD_LEN, model->tried))
		return "chain or heads";
	for (uint64_t p = model->start; p < model->end; p++) {
		const struct model_record *want = &model->records[p];
		const struct spool_record *record = spool_at(spool, p);

		if (record->kind != want->kind || record->uid != want->uid || record->count != want->count ||
		    spool_day(record->first_at) != spool_day(morning) + want->day)
			return "a record";
	}
	return NULL;
}

void model_fresh(struct spool *spool, void *map, uint64_t capacity)
{
	const struct spool_state state = {.start = 1, .sealed = 1, .batch = 1};

	memset(map, 0, spool_size_of(capacity));
	memset(spool, 0, sizeof(*spool));
	spool->fd = -1;
	spool_format(map, capacity, &state);
	if (spool_adopt(spool, map, spool_size_of(capacity)) != 0)
		abort();
}
