#include "daemon/audit/batch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(BATCH_DIGEST_LEN == crypto_hash_sha256_BYTES, "SHA-256");

/* ---- text ---- */

void batch_put(struct batch_text *text, const char *data, size_t len)
{
	if (len == 0)
		return;
	if (!text->data || text->room - text->len < len) {
		size_t room = (text->len + len) * 2 + 256;
		char *grown = realloc(text->data, room);

		if (!grown) {
			text->failed = true;
			return;
		}
		text->data = grown;
		text->room = room;
	}
	memcpy(text->data + text->len, data, len);
	text->len += len;
}

static void put_word(struct batch_text *text, const char *word)
{
	batch_put(text, word, strlen(word));
}

void batch_put_field(struct batch_text *text, const char *field, size_t len)
{
	char head[24];

	if (!field) {
		batch_put(text, "-", 1);
		return;
	}
	batch_put(text, head, (size_t)snprintf(head, sizeof(head), "%zu:", len));
	batch_put(text, field, len);
}

static void put_field_word(struct batch_text *text, const char *word)
{
	batch_put_field(text, word, word ? strlen(word) : 0);
}

static void put_field_number(struct batch_text *text, uint64_t number)
{
	char digits[24];

	batch_put_field(text, digits, (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, number));
}

void batch_hex(const uint8_t *bytes, size_t len, char *ret)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		*ret++ = digits[bytes[i] >> 4];
		*ret++ = digits[bytes[i] & 15];
	}
	*ret = '\0';
}

static void put_field_hex(struct batch_text *text, const uint8_t digest[BATCH_DIGEST_LEN])
{
	char hex[2 * BATCH_DIGEST_LEN + 1];

	batch_hex(digest, BATCH_DIGEST_LEN, hex);
	put_field_word(text, hex);
}

bool batch_from_hex(const char *text, uint8_t *ret, size_t len)
{
	size_t got;

	return strlen(text) == 2 * len && sodium_hex2bin(ret, len, text, 2 * len, NULL, &got, NULL) == 0 && got == len;
}

/* ---- times ---- */

/* Howard Hinnant's days to a civil date, for days from 1970 on. */
void batch_day_text(int64_t day, char ret[16])
{
	int64_t z = day + 719468, era = z / 146097, doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	int64_t month = mp < 10 ? mp + 3 : mp - 9, year = yoe + era * 400 + (month <= 2);

	snprintf(ret, 16, "%04d-%02d-%02d", (int)year, (int)month, (int)(doy - (153 * mp + 2) / 5 + 1));
}

/* As PostgreSQL reads it in any style of dates. */
static void put_time(struct batch_text *text, int64_t us)
{
	int64_t rest = us - spool_day(us) * INT64_C(86400000000);
	char day[16], out[48];

	batch_day_text(spool_day(us), day);
	batch_put(text, out,
		  (size_t)snprintf(out, sizeof(out), "%s %02d:%02d:%02d.%06d+00", day, (int)(rest / 3600000000),
				   (int)(rest / 60000000 % 60), (int)(rest / 1000000 % 60), (int)(rest % 1000000)));
}

/* ---- rows ---- */

/* One column: into the line that is hashed, and into what COPY takes. */
struct row {
	struct batch_text *line, *copy;
};

static void put_both(struct row *row, const char *field, size_t len)
{
	const char *rest = field, *slash;

	batch_put_field(row->line, field, len);
	/* All text is printable ASCII: the backslash alone means something to COPY. */
	while (field && (slash = memchr(rest, '\\', (size_t)(field + len - rest)))) {
		batch_put(row->copy, rest, (size_t)(slash + 1 - rest));
		batch_put(row->copy, "\\", 1);
		rest = slash + 1;
	}
	if (field)
		batch_put(row->copy, rest, (size_t)(field + len - rest));
	else
		put_word(row->copy, "\\N");
	put_word(row->copy, "\t");
}

static void put_both_number(struct row *row, uint64_t number)
{
	char digits[24];

	put_both(row, digits, (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, number));
}

static void put_both_word(struct row *row, const char *word)
{
	put_both(row, word, strlen(word));
}

static void put_both_time(struct row *row, int64_t us)
{
	put_field_number(row->line, (uint64_t)us);
	put_time(row->copy, us);
	put_word(row->copy, "\t");
}

/* As abbrev() of PostgreSQL writes it. A source of IPv6 is a network. */
static void put_both_addr(struct row *row, const struct spool_record *record)
{
	bool network = record->addr_family == 6 && record->kind == SPOOL_ROLLUP;
	char text[INET6_ADDRSTRLEN], whole[INET6_ADDRSTRLEN + 4];

	if (record->addr_family == 0 ||
	    !inet_ntop(record->addr_family == 4 ? AF_INET : AF_INET6, record->addr, text, sizeof(text))) {
		put_both(row, NULL, 0);
		return;
	}
	snprintf(whole, sizeof(whole), "%s%s", text, network ? "/64" : "");
	put_both_word(row, whole);
}

/* What could not be read is no user. */
static void put_both_uid(struct row *row, const struct spool_record *record)
{
	if (record->uid == UINT32_MAX)
		put_both_word(row, "-1");
	else
		put_both_number(row, record->uid);
}

static void put_both_key(struct row *row, const struct spool_record *record)
{
	char id[KEYTEXT_ID_LEN + 1];

	if (record->key_id == 0) {
		put_both(row, NULL, 0);
		return;
	}
	keytext_id_format(record->key_id, id);
	put_both_word(row, id);
}

/* Absent where it is empty: no name is. */
static void put_both_name(struct row *row, const char *text, size_t len)
{
	put_both(row, len > 0 ? text : NULL, len);
}

static void put_row_rollup(const struct spool *spool, const struct spool_record *record, struct row *row)
{
	const char *text = record->text;

	put_both_time(row, spool_minute(record->first_at));
	put_both_word(row, verdict_word((enum verdict)record->verdict));
	put_both_word(row, spool_reason_word(spool, record->reason));
	put_both(row, text, record->stack_len);
	put_both_uid(row, record);
	put_both_key(row, record);
	put_both_name(row, text + record->stack_len, record->scope_len);
	put_both_name(row, text + record->stack_len + record->scope_len, record->page_len);
	put_both_addr(row, record);
	put_both_number(row, record->count);
	put_both_time(row, record->first_at);
	put_both_time(row, record->last_at);
}

static void put_row_event(const struct spool *spool, const struct spool_record *record, struct row *row)
{
	const char *text = record->text;

	put_both_time(row, record->first_at);
	put_both_word(row, verdict_word((enum verdict)record->verdict));
	put_both_word(row, spool_reason_word(spool, record->reason));
	put_both_word(row, spool_method_word(spool, record->method));
	put_both(row, text, record->stack_len);
	put_both_uid(row, record);
	put_both_key(row, record);
	text += record->stack_len;
	put_both_name(row, text, record->scope_len);
	put_both_name(row, text + record->scope_len, record->page_len);
	put_both_name(row, text + record->scope_len + record->page_len, record->org_len);
	put_both_addr(row, record);
	put_both_number(row, record->rev);
	put_both_number(row, record->age_ms);
	put_both_word(row, record->flags & SPOOL_STALE ? "t" : "f");
	put_both_word(row, record->flags & SPOOL_EXPLAIN ? "t" : "f");
}

/* ---- a batch ---- */

struct maker {
	struct batch *batch;
	const char *chain;
	uint64_t number;
	struct batch_text line;
	crypto_hash_sha256_state digests[BATCH_PARTS_MAX];
};

/* The part that a record is of. */
static struct batch_part *part_of(struct maker *maker, const struct spool_record *record)
{
	const char *tbl = record->kind == SPOOL_EVENT ? "event" : "rollup";
	struct batch *batch = maker->batch;
	int64_t day = spool_day(record->first_at);
	struct batch_part *part;
	char text[16];

	batch_day_text(day, text);
	for (part = batch->parts; part < batch->parts + batch->part_count; part++) {
		if (strcmp(part->tbl, tbl) == 0 && strcmp(part->day, text) == 0)
			return part;
	}
	/* Sealing saw to it that there are not more. */
	snprintf(part->tbl, sizeof(part->tbl), "%s", tbl);
	snprintf(part->day, sizeof(part->day), "%s", text);
	crypto_hash_sha256_init(&maker->digests[batch->part_count++]);
	batch->first_day = day < batch->first_day ? day : batch->first_day;
	batch->last_day = day > batch->last_day ? day : batch->last_day;
	return part;
}

static void add(struct maker *maker, const struct spool *spool, const struct spool_record *record)
{
	struct batch *batch = maker->batch;
	struct batch_part *part = part_of(maker, record);
	bool event = record->kind == SPOOL_EVENT;
	struct batch_text *copy = event ? &batch->events : &batch->rollups;
	struct row row = {.line = &maker->line, .copy = copy};
	uint8_t digest[BATCH_DIGEST_LEN];
	char head[96];

	batch->rows++;
	part->rows++;
	part->counted += record->count;
	maker->line.len = 0;
	put_field_word(&maker->line, part->tbl);
	put_field_number(&maker->line, batch->rows);
	batch_put(copy, head,
		  (size_t)snprintf(head, sizeof(head), "%s\t%" PRIu64 "\t%u\t", maker->chain, maker->number,
				   batch->rows));
	(event ? put_row_event : put_row_rollup)(spool, record, &row);
	if (copy->failed || maker->line.failed)
		return;
	copy->data[copy->len - 1] = '\n';
	crypto_hash_sha256(digest, (const uint8_t *)maker->line.data, maker->line.len);
	crypto_hash_sha256_update(&maker->digests[part - batch->parts], digest, sizeof(digest));
}

int batch_make(const struct spool *spool, const struct spool_batch *sealed, struct batch *ret)
{
	struct batch batch = {.first_day = INT64_MAX, .last_day = INT64_MIN};
	struct maker maker = {.batch = &batch, .number = sealed->number};
	char chain[UUID_TEXT];
	bool failed;

	uuid_text(spool_chain(spool), chain);
	maker.chain = chain;
	for (uint64_t p = sealed->first; p < sealed->end; p++) {
		const struct spool_record *record = spool_at(spool, p);

		if (record->kind != SPOOL_VOID)
			add(&maker, spool, record);
	}
	for (uint32_t i = 0; i < batch.part_count; i++)
		crypto_hash_sha256_final(&maker.digests[i], batch.parts[i].digest);
	failed = batch.rollups.failed || batch.events.failed || maker.line.failed;
	free(maker.line.data);
	if (failed) {
		batch_deinit(&batch);
		return -ENOMEM;
	}
	*ret = batch;
	return 0;
}

void batch_deinit(struct batch *batch)
{
	free(batch->rollups.data);
	free(batch->events.data);
	*batch = (struct batch){0};
}

/* ---- heads ---- */

bool batch_head(const struct batch_head *head, const struct batch_part *parts, uint32_t count,
		uint8_t ret[BATCH_DIGEST_LEN])
{
	struct batch_text line = {0};

	put_field_word(&line, "batch");
	put_field_word(&line, head->chain);
	put_field_number(&line, head->number);
	put_field_word(&line, head->kind);
	put_field_number(&line, (uint64_t)head->made_at);
	put_field_number(&line, head->rows);
	put_field_number(&line, head->lost);
	put_field_word(&line, head->statement);
	put_field_number(&line, head->pepper);
	put_field_hex(&line, head->prev_head);
	put_field_number(&line, head->seals);
	put_field_hex(&line, head->seals_digest);
	put_field_number(&line, count);
	for (uint32_t i = 0; i < count; i++) {
		put_field_word(&line, parts[i].tbl);
		put_field_word(&line, parts[i].day);
		put_field_number(&line, parts[i].rows);
		put_field_number(&line, parts[i].counted);
		put_field_hex(&line, parts[i].digest);
	}
	if (!line.failed)
		crypto_hash_sha256(ret, (const uint8_t *)line.data, line.len);
	free(line.data);
	return !line.failed;
}

char *batch_parts_json(const struct batch_part *parts, uint32_t count)
{
	struct batch_text text = {0};
	char out[256], hex[2 * BATCH_DIGEST_LEN + 1];

	put_word(&text, "[");
	for (uint32_t i = 0; i < count; i++) {
		batch_hex(parts[i].digest, BATCH_DIGEST_LEN, hex);
		batch_put(&text, out,
			  (size_t)snprintf(out, sizeof(out),
					   "%s{\"tbl\": \"%s\", \"day\": \"%s\", \"rows\": %" PRIu64
					   ", \"counted\": %" PRIu64 ", \"digest\": \"%s\"}",
					   i > 0 ? ", " : "", parts[i].tbl, parts[i].day, parts[i].rows,
					   parts[i].counted, hex));
	}
	batch_put(&text, "]", 2);
	if (text.failed) {
		free(text.data);
		return NULL;
	}
	return text.data;
}
