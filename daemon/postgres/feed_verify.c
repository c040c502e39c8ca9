#include "daemon/postgres/feed_verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/log.h"
#include "daemon/postgres/pgrow.h"

enum {
	VERIFY_SLICE = 64,	   /* things compared in one turn of the loop: each is a few hashed blocks */
	VERIFY_REST_SLICE = 4096,  /* records looked at in one turn */
	VERIFY_LINES = 20,	   /* that a pass logs without a reload: what differs everywhere is told by then */
	VERIFY_HOLD_S = 60,	   /* between two reloads for a difference, at least */
	VERIFY_HOLD_FIRST_S = 600, /* after a reload that mended nothing; doubled up to the longest */
	VERIFY_HOLD_MAX_S = 86400,
	VERIFY_PAUSE_US = 10000000, /* after a range that could not be compared */
};

static enum feed_step verify_step(enum copy_kind kind)
{
	return (enum feed_step)(FEED_STEP_VERIFY_CATALOG + kind);
}

static const char *verify_start(enum copy_kind kind)
{
	return kind == COPY_KEYS ? "" : "-9223372036854775808";
}

static void verify_id_text(enum copy_kind kind, uint64_t id, char out[24])
{
	char text[KEYTEXT_ID_LEN + 1];

	if (kind == COPY_KEYS) {
		keytext_id_format(id, text);
		snprintf(out, 24, "%s", text);
	} else {
		snprintf(out, 24, "%" PRId64, (int64_t)id);
	}
}

struct feed_verify *feed_verify_new(void)
{
	struct feed_verify *verify = calloc(1, sizeof(*verify));

	if (verify)
		snprintf(verify->after, sizeof(verify->after), "%s", verify_start(verify->kind));
	return verify;
}

void feed_verify_free(struct feed_verify *verify)
{
	if (!verify)
		return;
	copy_sums_deinit(&verify->sums);
	free(verify->rows);
	free(verify);
}

/* ---- passes ---- */

static void verify_kind_begin(struct feed_verify *verify, enum copy_kind kind)
{
	verify->kind = kind;
	verify->begun = verify->partial = false;
	snprintf(verify->after, sizeof(verify->after), "%s", verify_start(kind));
}

static void verify_pass_begin(struct feed_verify *verify, bool asked_for)
{
	verify->pass =
		(struct verify_pass){.number = ++verify->passes, .asked_for = asked_for, .began = mirror_boot_now()};
	verify_kind_begin(verify, COPY_CATALOG);
}

static bool verify_is_asked_for(const struct feed_verify *verify)
{
	return verify->pass.asked_for && !verify->pass.ended;
}

static uint64_t verify_differences(const struct verify_kind *kind)
{
	return kind->different + kind->missing + kind->surplus;
}

static void verify_pass_end(struct feed_verify *verify)
{
	struct verify_pass *pass = &verify->pass;
	uint64_t left = 0;

	pass->ended = true;
	pass->ended_at = mirror_boot_now();
	verify->count.passes++;
	verify->count.last_pass_ms = (uint64_t)(pass->ended_at - pass->began) / 1000;
	if (pass->asked_for)
		verify->shown = *pass;
	for (enum copy_kind kind = 0; kind < COPY_KINDS; kind++)
		left += verify_differences(&pass->kinds[kind]);
	if (left == 0) {
		verify->hold_s = 0;
		verify->hold_until = 0;
		verify->told[0] = '\0';
	}
	log_debug("database feed: the whole copy was verified, %" PRIu64 " differences", pass->found);
	verify_kind_begin(verify, COPY_CATALOG);
}

/* What a difference had reloaded for was looked at again. True: the pass begins anew, in the copy that is there now. */
static bool verify_again_end(struct feed_verify *verify)
{
	verify->again = VERIFY_AGAIN_NO;
	if (!verify_is_asked_for(verify))
		return false;
	memset(verify->pass.kinds, 0, sizeof(verify->pass.kinds));
	verify_kind_begin(verify, COPY_CATALOG);
	return true;
}

static void verify_kind_end(struct feed_verify *verify)
{
	bool again = verify->again == VERIFY_AGAIN_KIND;

	verify->pass.kinds[verify->kind].ended = true;
	if (again)
		log_info("database feed: after the reload the copy has the %s as the store has them",
			 copy_kind_word(verify->kind));
	if (again && verify_again_end(verify))
		return;
	if (verify->kind + 1 < COPY_KINDS)
		verify_kind_begin(verify, verify->kind + 1);
	else
		verify_pass_end(verify);
}

bool feed_verify_start(struct feed *feed)
{
	struct feed_verify *verify = feed->verify;

	if (!feed->mirror->copy)
		return false;
	/* Who asks while one goes on that was asked for gets that one's outcome. */
	if (verify_is_asked_for(verify))
		return true;
	/* A range that is under way belongs to the pass before. */
	verify->dropped = verify->state == VERIFY_ASKED;
	if (!verify->dropped)
		verify->state = VERIFY_IDLE;
	verify_pass_begin(verify, true);
	verify->again = VERIFY_AGAIN_NO;
	verify->due = 0;
	feed_hurry(feed);
	return true;
}

/* ---- asking ---- */

bool feed_verify_waits(const struct feed *feed)
{
	return !feed->following || feed->guard_bad || feed->reload != FEED_RELOAD_NONE || feed->suspect ||
	       feed->stuck[0];
}

bool feed_verify_is_busy(const struct feed *feed)
{
	return feed->verify->state == VERIFY_COMPARE;
}

bool feed_verify_has_work(const struct feed *feed)
{
	return feed->verify->state >= VERIFY_COMPARE;
}

bool feed_verify_hurries(const struct feed *feed)
{
	const struct feed_verify *verify = feed->verify;

	return (verify->again != VERIFY_AGAIN_NO || verify_is_asked_for(verify)) && verify->state == VERIFY_IDLE &&
	       !feed_verify_waits(feed) && mirror_boot_now() >= verify->due;
}

bool feed_verify_is_due(struct feed *feed, int64_t now)
{
	struct feed_verify *verify = feed->verify;

	if (feed_verify_hurries(feed))
		return true;
	if (feed->config->verify_ms == 0 || verify->state != VERIFY_IDLE || feed_verify_waits(feed) ||
	    now < verify->due)
		return false;
	if (verify->pass.number == 0 || verify->pass.ended)
		verify_pass_begin(verify, false);
	return true;
}

/* It is left for now, and asked for again later. */
static void verify_failed(struct feed *feed, const char *why)
{
	struct feed_verify *verify = feed->verify;

	verify->count.failures++;
	verify->state = VERIFY_IDLE;
	verify->due = mirror_boot_now() + VERIFY_PAUSE_US;
	log_warning("database feed: the %s could not be verified, and will be later: %s", copy_kind_word(verify->kind),
		    why);
}

void feed_verify_failed(struct feed *feed, const char *line)
{
	if (feed->verify->state == VERIFY_ASKED)
		verify_failed(feed, line);
}

void feed_verify_drop(struct feed *feed)
{
	if (feed->verify->state == VERIFY_ASKED)
		feed->verify->state = VERIFY_IDLE;
}

/* Begins the walk where it has not begun, and makes room for what comes. */
static bool verify_prepare(struct feed *feed)
{
	struct feed_verify *verify = feed->verify;
	uint32_t limit = feed->config->verify_things;

	if (!verify->begun && copy_sums_begin(&verify->sums, feed->mirror->copy, verify->kind) < 0)
		return false;
	verify->begun = true;
	if (verify->room < limit) {
		struct copy_sum_row *rows = reallocarray(verify->rows, limit, sizeof(*rows));

		if (!rows)
			return false;
		verify->rows = rows;
		verify->room = limit;
	}
	verify->limit = limit;
	verify->count_of_range = verify->at = 0;
	verify->bad = verify->dropped = false;
	verify->range = (struct verify_kind){0};
	return true;
}

static bool verify_send(struct feed *feed, enum copy_kind kind, const char *after, uint32_t limit)
{
	enum feed_step step = verify_step(kind);
	char number[16];
	const char *params[2] = {after, number};

	snprintf(number, sizeof(number), "%" PRIu32, limit);
	return feed_queue(
		feed, step,
		PQsendQueryPrepared(connection_pq(feed->link), feed_step_name(step), 2, params, NULL, NULL, 1));
}

bool feed_verify_push(struct feed *feed)
{
	struct feed_verify *verify = feed->verify;

	if (!verify_prepare(feed)) {
		verify_failed(feed, "no memory");
		return true;
	}
	verify->state = VERIFY_ASKED;
	return verify_send(feed, verify->kind, verify->after, verify->limit);
}

bool feed_verify_try(struct feed *feed)
{
	for (enum copy_kind kind = 0; kind < COPY_KINDS; kind++)
		if (!verify_send(feed, kind, verify_start(kind), 0))
			return false;
	return true;
}

void feed_verify_row(struct feed *feed, enum feed_step step, const PGresult *result, int row)
{
	struct feed_verify *verify = feed->verify;
	enum copy_kind kind = (enum copy_kind)(step - FEED_STEP_VERIFY_CATALOG);
	struct pgfield id = {.data = (const uint8_t *)PQgetvalue(result, row, 0), .len = PQgetlength(result, row, 0)};
	struct copy_sum_row *room;
	int64_t number = 0;
	bool good;

	if (verify->state != VERIFY_ASKED || verify->dropped || verify->bad)
		return;
	room = verify->count_of_range < verify->limit ? &verify->rows[verify->count_of_range] : NULL;
	good = room && PQnfields(result) == 2 && PQgetlength(result, row, 1) == COPY_SUM_LEN;
	if (good && kind == COPY_KEYS)
		good = pgfield_key_id(&id, &room->id);
	else
		good = good && pgfield_int64(&id, &number);
	if (!good) {
		verify->bad = true;
		return;
	}
	/* The catalog is one thing, whatever it was asked to come after. */
	if (kind != COPY_KEYS)
		room->id = kind == COPY_CATALOG ? 0 : (uint64_t)number;
	memcpy(room->sum, PQgetvalue(result, row, 1), COPY_SUM_LEN);
	verify->count_of_range++;
}

void feed_verify_begin(struct feed *feed)
{
	struct feed_verify *verify = feed->verify;

	if (verify->state != VERIFY_ASKED || verify->dropped)
		return;
	if (verify->bad) {
		verify_failed(feed, "an answer that was not asked for");
		return;
	}
	verify->state = VERIFY_COMPARE;
	verify->last = verify->kind == COPY_CATALOG || verify->count_of_range < verify->limit;
}

/* ---- differences ---- */

static void verify_line(const struct feed *feed, char *out, size_t size)
{
	const struct feed_verify *verify = feed->verify;
	const struct verify_kind *range = &verify->range;
	char first[24];
	int len;

	verify_id_text(verify->kind, verify->first, first);
	len = snprintf(out, size, "the copy is not what the store has, %s", copy_kind_word(verify->kind));
	if (verify->state == VERIFY_COMPARE)
		len += snprintf(out + len, size - (size_t)len,
				" after \"%s\", of the store's %" PRIu32 ": %" PRIu64 " different, %" PRIu64 " missing",
				verify->after, verify->count_of_range, range->different, range->missing);
	else
		len += snprintf(out + len, size - (size_t)len, ": %" PRIu64 " that the store has not", range->surplus);
	snprintf(out + len, size - (size_t)len, "; the first is %s", first);
}

/*
 * What was looked at differs. Loads anew, but for two cases: the copy was loaded for this very difference, so that another
 * load would mend nothing; or that was done not long ago. True where a load is to mend it.
 */
static bool verify_differs(struct feed *feed)
{
	struct feed_verify *verify = feed->verify;
	int64_t now = mirror_boot_now();
	char line[sizeof(verify->told)];

	verify->pass.found += verify_differences(&verify->range);
	verify->count.differences += verify_differences(&verify->range);
	verify_line(feed, line, sizeof(line));
	if (verify->again != VERIFY_AGAIN_NO) {
		verify->hold_s = verify->hold_s ? verify->hold_s * 2 : VERIFY_HOLD_FIRST_S;
		if (verify->hold_s > VERIFY_HOLD_MAX_S)
			verify->hold_s = VERIFY_HOLD_MAX_S;
		verify->hold_until = now + verify->hold_s * INT64_C(1000000);
		log_error("database feed: %s, at revision %" PRIu64 ", and a reload did not mend that: look for rows "
			  "that refer to nothing, and report it; no difference reloads for %" PRIu32 " s",
			  line, mirror_rev(feed->mirror), verify->hold_s);
		snprintf(verify->told, sizeof(verify->told), "%s", line);
		return false;
	}
	if (now < verify->hold_until) {
		if (strcmp(line, verify->told) != 0 && verify->pass.lines++ < VERIFY_LINES)
			log_error("database feed: %s, at revision %" PRIu64 "; a reload for that was not long ago, so "
				  "there is none",
				  line, mirror_rev(feed->mirror));
		snprintf(verify->told, sizeof(verify->told), "%s", line);
		return false;
	}
	log_error("database feed: %s, at revision %" PRIu64, line, mirror_rev(feed->mirror));
	verify->again = verify->state == VERIFY_COMPARE ? VERIFY_AGAIN_RANGE : VERIFY_AGAIN_KIND;
	verify->hold_until = now + (verify->hold_s > VERIFY_HOLD_S ? verify->hold_s : VERIFY_HOLD_S) * INT64_C(1000000);
	verify->count.reloads++;
	verify->pass.reloads++;
	verify->state = VERIFY_IDLE;
	feed_want_reload(feed, FEED_RELOAD_COPY, true);
	return true;
}

void feed_verify_swapped(struct feed *feed)
{
	struct feed_verify *verify = feed->verify;

	verify->state = VERIFY_IDLE;
	verify->begun = false;
	if (verify->again != VERIFY_AGAIN_NO)
		verify->due = 0;
	if (verify->again == VERIFY_AGAIN_KIND)
		verify_kind_begin(verify, verify->kind);
	else if (verify->again == VERIFY_AGAIN_NO && verify_is_asked_for(verify))
		verify_again_end(verify);
	else
		verify->partial = strcmp(verify->after, verify_start(verify->kind)) != 0;
}

/* ---- comparing ---- */

static void verify_note(struct feed_verify *verify, uint64_t *count, uint64_t id)
{
	if (verify_differences(&verify->range) == 0)
		verify->first = id;
	++*count;
}

/* What the range, or the rest, brought is of the pass. */
static void verify_add(struct feed *feed)
{
	struct feed_verify *verify = feed->verify;
	struct verify_kind *kind = &verify->pass.kinds[verify->kind];

	kind->things += verify->range.things;
	kind->different += verify->range.different;
	kind->missing += verify->range.missing;
	kind->surplus += verify->range.surplus;
	verify->pass.rev = mirror_rev(feed->mirror);
}

static void verify_range_end(struct feed *feed)
{
	struct feed_verify *verify = feed->verify;
	bool again = verify->again == VERIFY_AGAIN_RANGE;

	verify->count.ranges++;
	verify->count.things += verify->count_of_range;
	verify->range.things = verify->count_of_range;
	verify->due = mirror_boot_now();
	if (!verify_is_asked_for(verify) && verify->again != VERIFY_AGAIN_KIND)
		verify->due += (int64_t)feed->config->verify_ms * 1000;
	verify_add(feed);
	if (verify_differences(&verify->range) > 0) {
		if (verify_differs(feed))
			return;
	} else if (again) {
		log_info("database feed: after the reload the copy has the %s after \"%s\" as the store has them",
			 copy_kind_word(verify->kind), verify->after);
	}
	verify->state = VERIFY_IDLE;
	if (again && verify_again_end(verify))
		return;
	if (!verify->last) {
		verify_id_text(verify->kind, verify->rows[verify->count_of_range - 1].id, verify->after);
		return;
	}
	if (verify->partial || verify->kind == COPY_CATALOG) {
		verify_kind_end(verify);
		return;
	}
	verify->range = (struct verify_kind){0};
	verify->state = VERIFY_REST;
}

static void verify_compare(struct feed *feed)
{
	struct feed_verify *verify = feed->verify;
	struct copy_sum_row *rows = verify->rows + verify->at;
	uint32_t left = verify->count_of_range - verify->at, count = left < VERIFY_SLICE ? left : VERIFY_SLICE;

	if (count > 0 && copy_sums_compare(&verify->sums, feed->mirror->copy, rows, count) < 0) {
		verify_failed(feed, "no memory");
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		if (rows[i].result == COPY_SUM_DIFFERENT)
			verify_note(verify, &verify->range.different, rows[i].id);
		else if (rows[i].result == COPY_SUM_MISSING)
			verify_note(verify, &verify->range.missing, rows[i].id);
	}
	verify->at += count;
	if (verify->at == verify->count_of_range)
		verify_range_end(feed);
}

static void verify_rest(struct feed *feed)
{
	struct feed_verify *verify = feed->verify;
	uint64_t id;

	switch (copy_sums_rest(&verify->sums, feed->mirror->copy, VERIFY_REST_SLICE, &id)) {
	case COPY_REST_FOUND:
		verify_note(verify, &verify->range.surplus, id);
		return;
	case COPY_REST_MORE:
		return;
	case COPY_REST_END:
		break;
	}
	verify_add(feed);
	if (verify_differences(&verify->range) > 0 && verify_differs(feed))
		return;
	verify->state = VERIFY_IDLE;
	verify_kind_end(verify);
}

void feed_verify_slice(struct feed *feed)
{
	if (feed->verify->state == VERIFY_COMPARE)
		verify_compare(feed);
	else if (feed->verify->state == VERIFY_REST)
		verify_rest(feed);
}
