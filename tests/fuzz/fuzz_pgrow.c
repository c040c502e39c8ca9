/*
 * The binary rows: a COPY stream cut into messages, then the same bytes as a field of each type and as a row of each
 * table. The first byte chooses the number of columns, the second the size of the messages.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/postgres/pgrow.h"

static void must(int condition)
{
	if (!condition)
		abort();
}

static void rows(const struct pgfield *fields, unsigned count)
{
	struct copy_scope_row scope;
	struct copy_role_row role;
	struct copy_grant_row grant;
	struct copy_organization_row organization;
	struct copy_page_row page;
	struct copy_user_row user;
	struct copy_key_row key;
	struct copy_role_at at;
	int64_t id;

	if (count >= 3) {
		pgrow_scope(fields, &scope);
		pgrow_role(fields, &role);
		pgrow_organization(fields, &organization);
		pgrow_user(fields, &user);
		pgrow_member(fields, &id, &at);
	}
	if (count >= 4) {
		pgrow_grant(fields, &grant);
		pgrow_page(fields, &page);
	}
	if (count >= PGROW_KEY && pgrow_key(fields, &key) == 0) {
		must(key.pepper >= 1 && key.pepper <= INT16_MAX);
		must((key.kind == KEY_KIND_ORGANIZATION) == (key.access.data != NULL));
	}
}

static void one_field(const struct pgfield *field)
{
	struct rule_network network;
	struct pgarray array;
	struct pgfield item;
	struct rpc_text text;
	keytext_id key;
	int64_t time;
	bool truth;

	if (pgfield_network(field, &network))
		must(network.prefix <= (network.family == 4 ? 32 : 128));
	if (pgfield_key_id(field, &key))
		must(field->len == KEYTEXT_ID_LEN);
	pgfield_text(field, &text);
	pgfield_time(field, &time);
	pgfield_bool(field, &truth);
	if (!pgarray_open(field, &array))
		return;
	while (array.count > 0 && pgarray_next(&array, &item))
		must(item.len <= field->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pgfield fields[PGROW_FIELDS_MAX], whole;
	struct pgcopy copy = {0};
	unsigned count;
	size_t step;
	int r = 1;

	if (size < 2)
		return 0;
	count = data[0] % (PGROW_FIELDS_MAX + 1);
	step = data[1] ? data[1] : size;
	data += 2;
	size -= 2;
	whole = (struct pgfield){.data = data, .len = (int32_t)size};
	one_field(&whole);
	for (size_t at = 0; at < size && r >= 0; at += step) {
		/* Memory of just that size, so that ASan sees a byte too many. */
		size_t n = size - at < step ? size - at : step;
		uint8_t *message = malloc(n);

		must(message != NULL);
		memcpy(message, data + at, n);
		pgcopy_put(&copy, message, n);
		while ((r = pgcopy_next(&copy, fields, count)) > 0) {
			for (unsigned i = 0; i < count; i++)
				one_field(&fields[i]);
			rows(fields, count);
		}
		free(message);
	}
	return 0;
}
