#include "daemon/postgres/pgrow.h"

#include <errno.h>
#include <string.h>

/* 2000-01-01 in microseconds since 1970: PostgreSQL counts from there. */
static const int64_t epoch_2000 = INT64_C(946684800000000);

static uint16_t read_16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t read_32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint64_t read_64(const uint8_t *p)
{
	return (uint64_t)read_32(p) << 32 | read_32(p + 4);
}

bool pgfield_bool(const struct pgfield *field, bool *ret)
{
	if (field->len != 1 || field->data[0] > 1)
		return false;
	*ret = field->data[0] == 1;
	return true;
}

bool pgfield_int16(const struct pgfield *field, int16_t *ret)
{
	if (field->len != 2)
		return false;
	*ret = (int16_t)read_16(field->data);
	return true;
}

bool pgfield_int32(const struct pgfield *field, int32_t *ret)
{
	if (field->len != 4)
		return false;
	*ret = (int32_t)read_32(field->data);
	return true;
}

bool pgfield_int64(const struct pgfield *field, int64_t *ret)
{
	if (field->len != 8)
		return false;
	*ret = (int64_t)read_64(field->data);
	return true;
}

bool pgfield_text(const struct pgfield *field, struct rpc_text *ret)
{
	if (field->len < 0)
		return false;
	ret->data = (const char *)field->data;
	ret->len = (uint32_t)field->len;
	return true;
}

bool pgfield_key_id(const struct pgfield *field, keytext_id *ret)
{
	return field->len >= 0 && keytext_id_parse((const char *)field->data, (size_t)field->len, ret);
}

bool pgfield_time(const struct pgfield *field, int64_t *ret)
{
	int64_t time;

	if (!pgfield_int64(field, &time))
		return false;
	/* The far end of PostgreSQL's calendar is past int64 from 1970 on: as good as never. */
	if (time != INT64_MIN && __builtin_add_overflow(time, epoch_2000, &time))
		time = INT64_MAX;
	*ret = time;
	return true;
}

bool pgfield_network(const struct pgfield *field, struct rule_network *ret)
{
	enum { INET4 = 2, INET6 = 3 }; /* PGSQL_AF_INET, PGSQL_AF_INET6: the server's own numbers */
	struct rule_network network = {0};
	unsigned bytes;

	if (field->len < 4)
		return false;
	if (field->data[0] != INET4 && field->data[0] != INET6)
		return false;
	network.family = field->data[0] == INET4 ? 4 : 6;
	bytes = network.family == 4 ? 4 : 16;
	if (field->data[3] != bytes || field->len != (int32_t)(4 + bytes) || field->data[1] > 8 * bytes)
		return false;
	network.prefix = field->data[1];
	memcpy(network.bytes, field->data + 4, bytes);
	*ret = network;
	return true;
}

bool pgarray_open(const struct pgfield *field, struct pgarray *ret)
{
	const uint8_t *p = field->data;
	uint32_t dimensions, count;

	if (field->len < 0) {
		*ret = (struct pgarray){0};
		return true;
	}
	if (field->len < 12)
		return false;
	dimensions = read_32(p);
	if (dimensions == 0 && field->len == 12) {
		*ret = (struct pgarray){0};
		return true;
	}
	if (dimensions != 1 || field->len < 20)
		return false;
	count = read_32(p + 12);
	/* Each item has at least the four bytes of its length. */
	if (count > ((uint32_t)field->len - 20) / 4)
		return false;
	*ret = (struct pgarray){.at = p + 20, .end = p + field->len, .count = count};
	return true;
}

/* A length and as many bytes, as in a COPY tuple and in an array. */
static bool pgrow_take(const uint8_t **at, const uint8_t *end, struct pgfield *ret)
{
	int32_t len;

	if (end - *at < 4)
		return false;
	len = (int32_t)read_32(*at);
	if (len < -1 || (len > 0 && end - *at - 4 < len))
		return false;
	ret->data = *at + 4;
	ret->len = len;
	*at += 4 + (len > 0 ? len : 0);
	return true;
}

bool pgarray_next(struct pgarray *array, struct pgfield *ret)
{
	if (array->count == 0 || !pgrow_take(&array->at, array->end, ret))
		return false;
	array->count--;
	return array->count > 0 || array->at == array->end;
}

void pgcopy_put(struct pgcopy *copy, const void *data, size_t size)
{
	copy->at = data;
	copy->end = copy->at + size;
}

static int pgcopy_start(struct pgcopy *copy)
{
	static const uint8_t signature[11] = {'P', 'G', 'C', 'O', 'P', 'Y', '\n', 0xff, '\r', '\n', 0};
	uint32_t flags, extension;

	if (copy->end - copy->at < 19 || memcmp(copy->at, signature, sizeof(signature)) != 0)
		return -EBADMSG;
	flags = read_32(copy->at + 11);
	extension = read_32(copy->at + 15);
	/* The upper half of the flags is what a reader must know; there is nothing that we know. */
	if ((flags & 0xffff0000) != 0 || (size_t)(copy->end - copy->at) - 19 < extension)
		return -EBADMSG;
	copy->at += 19 + extension;
	copy->started = true;
	return 0;
}

int pgcopy_next(struct pgcopy *copy, struct pgfield *fields, unsigned count)
{
	if (copy->at == copy->end)
		return 0;
	if (copy->ended)
		return -EBADMSG;
	if (!copy->started && pgcopy_start(copy) < 0)
		return -EBADMSG;
	if (copy->at == copy->end)
		return 0;
	if (copy->end - copy->at < 2)
		return -EBADMSG;
	uint16_t got = read_16(copy->at);
	copy->at += 2;
	if (got == UINT16_MAX) {
		copy->ended = true;
		return copy->at == copy->end ? 0 : -EBADMSG;
	}
	if (got != count)
		return -EBADMSG;
	for (unsigned i = 0; i < count; i++)
		if (!pgrow_take(&copy->at, copy->end, &fields[i]))
			return -EBADMSG;
	return 1;
}

static bool pgrow_place(const struct pgfield *field, enum rule_role_place *ret)
{
	static const struct {
		const char *word;
		enum rule_role_place place;
	} places[] = {{"organization", RULE_ROLE_ORGANIZATION}, {"page", RULE_ROLE_PAGE}, {"key", RULE_ROLE_KEY}};

	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		size_t len = strlen(places[i].word);

		if (field->len == (int32_t)len && memcmp(field->data, places[i].word, len) == 0) {
			*ret = places[i].place;
			return true;
		}
	}
	return false;
}

int pgrow_scope(const struct pgfield *fields, struct copy_scope_row *ret)
{
	struct copy_scope_row row = {0};
	bool page, organization;

	if (!pgfield_text(&fields[0], &row.name) || !pgfield_bool(&fields[1], &page) ||
	    !pgfield_bool(&fields[2], &organization))
		return -EBADMSG;
	row.levels = (uint8_t)((page ? RULE_LEVEL_PAGE : 0) | (organization ? RULE_LEVEL_ORGANIZATION : 0));
	*ret = row;
	return 0;
}

int pgrow_role(const struct pgfield *fields, struct copy_role_row *ret)
{
	struct copy_role_row row = {0};
	int16_t rank;

	if (!pgrow_place(&fields[0], &row.place) || !pgfield_text(&fields[1], &row.name) ||
	    !pgfield_int16(&fields[2], &rank) || rank < 0)
		return -EBADMSG;
	row.rank = (uint16_t)rank;
	*ret = row;
	return 0;
}

int pgrow_grant(const struct pgfield *fields, struct copy_grant_row *ret)
{
	struct copy_grant_row row = {0};

	if (!pgrow_place(&fields[0], &row.place) || !pgfield_text(&fields[1], &row.role) ||
	    !pgfield_text(&fields[2], &row.scope) || !pgfield_bool(&fields[3], &row.when_named))
		return -EBADMSG;
	*ret = row;
	return 0;
}

int pgrow_organization(const struct pgfield *fields, struct copy_organization_row *ret)
{
	struct copy_organization_row row = {0};

	if (!pgfield_int64(&fields[0], &row.id) || !pgfield_text(&fields[1], &row.slug) ||
	    !pgfield_bool(&fields[2], &row.suspended))
		return -EBADMSG;
	*ret = row;
	return 0;
}

int pgrow_page(const struct pgfield *fields, struct copy_page_row *ret)
{
	struct copy_page_row row = {0};

	if (!pgfield_int64(&fields[0], &row.id) || !pgfield_int64(&fields[1], &row.organization_id) ||
	    !pgfield_text(&fields[2], &row.slug) || !pgfield_bool(&fields[3], &row.archived))
		return -EBADMSG;
	*ret = row;
	return 0;
}

int pgrow_user(const struct pgfield *fields, struct copy_user_row *ret)
{
	struct copy_user_row row = {0};

	if (!pgfield_int64(&fields[0], &row.id) || !pgfield_text(&fields[1], &row.email) ||
	    !pgfield_bool(&fields[2], &row.suspended))
		return -EBADMSG;
	*ret = row;
	return 0;
}

int pgrow_member(const struct pgfield *fields, int64_t *ret_user, struct copy_role_at *ret)
{
	struct copy_role_at at = {0};
	int64_t user;

	if (!pgfield_int64(&fields[0], &user) || !pgfield_int64(&fields[1], &at.id) ||
	    !pgfield_text(&fields[2], &at.role))
		return -EBADMSG;
	*ret_user = user;
	*ret = at;
	return 0;
}

static bool pgrow_flag(const struct pgfield *field, uint16_t flag, uint16_t *flags)
{
	bool set;

	if (!pgfield_bool(field, &set))
		return false;
	*flags |= set ? flag : 0;
	return true;
}

/* A rate stands where its flag says so, and only there. */
static bool pgrow_rate(const struct pgfield *count, const struct pgfield *period_s, struct copy_key_row *row)
{
	int32_t c, p;

	if (!(row->flags & RULE_NARROWED_RATE))
		return pgfield_is_null(count) && pgfield_is_null(period_s);
	if (!pgfield_int32(count, &c) || !pgfield_int32(period_s, &p) || c < 1 || p < 1)
		return false;
	row->rate_count = (uint32_t)c;
	row->rate_period_s = (uint32_t)p;
	return true;
}

int pgrow_key(const struct pgfield *fields, struct copy_key_row *ret)
{
	struct copy_key_row row = {.retired_at = INT64_MAX};
	bool of_organization;
	int16_t pepper;

	if (!pgfield_key_id(&fields[0], &row.id) || !pgfield_bool(&fields[1], &of_organization) ||
	    !pgfield_int64(&fields[2], &row.owner_id))
		return -EBADMSG;
	row.kind = of_organization ? KEY_KIND_ORGANIZATION : KEY_KIND_USER;
	/* An organization key without an access, or a user key with one, is a row that cannot be. */
	if (pgfield_is_null(&fields[3]) == of_organization)
		return -EBADMSG;
	if (of_organization)
		pgfield_text(&fields[3], &row.access);
	if (fields[4].len != COPY_HASH_LEN || !pgfield_int16(&fields[5], &pepper) || pepper < 1)
		return -EBADMSG;
	memcpy(row.hash, fields[4].data, COPY_HASH_LEN);
	row.pepper = (uint16_t)pepper;
	if (!pgrow_flag(&fields[6], RULE_NARROWED_PAGES, &row.flags) ||
	    !pgrow_flag(&fields[7], RULE_NARROWED_SCOPES, &row.flags) ||
	    !pgrow_flag(&fields[8], RULE_NARROWED_NETWORKS, &row.flags) ||
	    !pgrow_flag(&fields[9], RULE_NARROWED_RATE, &row.flags) || !pgfield_time(&fields[10], &row.not_before) ||
	    !pgfield_time(&fields[11], &row.expires_at))
		return -EBADMSG;
	if (!pgfield_is_null(&fields[12]) && !pgfield_time(&fields[12], &row.retired_at))
		return -EBADMSG;
	if (!pgfield_is_null(&fields[13])) {
		if (!pgfield_key_id(&fields[13], &row.successor))
			return -EBADMSG;
		row.has_successor = true;
	}
	if (!pgrow_flag(&fields[14], RULE_DISABLED, &row.flags) || !pgrow_flag(&fields[15], RULE_REVOKED, &row.flags) ||
	    !pgrow_rate(&fields[16], &fields[17], &row))
		return -EBADMSG;
	*ret = row;
	return 0;
}
