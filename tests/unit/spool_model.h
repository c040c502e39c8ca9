/*
 * What the spool is to be, said a second time in the plainest way: arrays, and one step after the other. And steps drawn
 * by a number, to be done to both. What test_spool.c and test_spool_kill.c stand on.
 */
#ifndef APIKEYD_TESTS_UNIT_SPOOL_MODEL_H
#define APIKEYD_TESTS_UNIT_SPOOL_MODEL_H

#include "daemon/audit/spool_internal.h"

enum { MODEL_RECORDS = 8192, MODEL_DAYS = 3 };

struct model {
	uint64_t capacity;
	uint64_t start, sealed, end; /* positions from 1 */
	struct model_record {
		uint8_t kind;
		uint32_t uid;
		int64_t day;
		uint64_t count;
	} records[MODEL_RECORDS];
	uint64_t batch, lost, lost_told, lost_sealed;
	uint8_t chain, head, tried; /* all bytes of them */
	enum spool_seal seal;
	int64_t made_at;
};

enum step_kind {
	STEP_APPEND = 0,
	STEP_COUNT,
	STEP_LOSE,
	STEP_SEAL,
	STEP_TRY,
	STEP_RELEASE,
	STEP_UNSEAL,
	STEP_STATEMENT,
	STEP_CHAIN
};

struct step {
	enum step_kind kind;
	uint64_t a, b;
};

/* As a fresh spool of that size, whose chain is of zero bytes. */
void model_init(struct model *model, uint64_t capacity);
/* A step that makes sense now. */
struct step model_draw(const struct model *model, uint64_t random);
void model_step(struct model *model, const struct step *step);
/* The same step to the real one. */
void model_step_spool(struct spool *spool, const struct step *step);
/* NULL, or the first thing in which they differ. */
const char *model_differs(const struct model *model, const struct spool *spool);

/* A fresh one in that memory. */
void model_fresh(struct spool *spool, void *map, uint64_t capacity);
uint64_t model_random(uint64_t *seed);

#endif
