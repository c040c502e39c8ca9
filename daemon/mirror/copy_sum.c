#include "daemon/mirror/copy_sum.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/mirror/copy_sum_internal.h"

enum { PASS = 64 }; /* keys that are looked up together */

const char *copy_kind_word(enum copy_kind kind)
{
	static const char *const words[COPY_KINDS] = {"catalog", "organizations", "pages", "users", "keys"};

	return (unsigned)kind < COPY_KINDS ? words[kind] : "";
}

uint64_t copy_kind_count(const struct copy *copy, enum copy_kind kind)
{
	const uint64_t counts[COPY_KINDS] = {1, copy->now.organizations, copy->now.pages, copy->now.users,
					     copy->now.keys};

	return (unsigned)kind < COPY_KINDS ? counts[kind] : 0;
}

static uint32_t handles_of(const struct copy *copy, enum copy_kind kind)
{
	switch (kind) {
	case COPY_ORGANIZATIONS:
		return copy->organizations.next;
	case COPY_PAGES:
		return copy->pages.next;
	case COPY_USERS:
		return copy->users.next;
	case COPY_KEYS:
		return copy->keys.next;
	default:
		return 0;
	}
}

void copy_sums_deinit(struct copy_sums *sums)
{
	free(sums->met);
	free(sums->out);
	free(sums->sort);
	*sums = (struct copy_sums){0};
}

int copy_sums_begin(struct copy_sums *sums, const struct copy *copy, enum copy_kind kind)
{
	uint32_t handles = handles_of(copy, kind);
	uint64_t *met = calloc(handles / 64 + 1, sizeof(*met));

	if (!met)
		return -ENOMEM;
	free(sums->met);
	sums->met = met;
	sums->kind = kind;
	sums->handles = handles;
	sums->at = 1;
	return 0;
}

static int sum_one(struct copy_sums *sums, const struct copy *copy, enum copy_kind kind, uint64_t id,
		   const struct copy_key *key, rule_handle *ret_handle, uint8_t ret[COPY_SUM_LEN])
{
	switch (kind) {
	case COPY_CATALOG:
		return id == 0 ? sum_catalog(sums, copy, ret) : 0;
	case COPY_ORGANIZATIONS:
		return sum_organization(sums, copy, (int64_t)id, ret_handle, ret);
	case COPY_PAGES:
		return sum_page(sums, copy, (int64_t)id, ret_handle, ret);
	case COPY_USERS:
		return sum_user(sums, copy, (int64_t)id, ret_handle, ret);
	case COPY_KEYS:
		if (!key)
			return 0;
		*ret_handle = key->handle;
		return sum_key(sums, copy, key, ret);
	default:
		return 0;
	}
}

int copy_sum(struct copy_sums *sums, const struct copy *copy, enum copy_kind kind, uint64_t id,
	     uint8_t ret[COPY_SUM_LEN])
{
	const struct copy_key *key = NULL;
	rule_handle handle;

	if (kind == COPY_KEYS)
		copy_find_keys(copy, &id, 1, &key);
	return sum_one(sums, copy, kind, id, key, &handle, ret);
}

int copy_sums_compare(struct copy_sums *sums, const struct copy *copy, struct copy_sum_row *rows, uint32_t count)
{
	const struct copy_key *keys[PASS] = {NULL};
	keytext_id ids[PASS];

	for (uint32_t i = 0; i < count; i++) {
		uint8_t sum[COPY_SUM_LEN];
		rule_handle handle = 0;
		int r;

		if (sums->kind == COPY_KEYS && i % PASS == 0) {
			uint32_t n = count - i < PASS ? count - i : PASS;

			for (uint32_t k = 0; k < n; k++)
				ids[k] = rows[i + k].id;
			copy_find_keys(copy, ids, n, keys);
		}
		r = sum_one(sums, copy, sums->kind, rows[i].id, keys[i % PASS], &handle, sum);
		if (r < 0)
			return r;
		if (r == 0)
			rows[i].result = COPY_SUM_MISSING;
		else
			rows[i].result = memcmp(sum, rows[i].sum, sizeof(sum)) ? COPY_SUM_DIFFERENT : COPY_SUM_EQUAL;
		if (r > 0 && handle < sums->handles)
			sums->met[handle / 64] |= 1ULL << handle % 64;
	}
	return 0;
}

/* Whether readers see a thing under that handle, and which. */
static bool is_there(const struct copy *copy, enum copy_kind kind, rule_handle handle, uint64_t *ret_id)
{
	struct copy_organization organization;
	struct copy_page page;

	switch (kind) {
	case COPY_ORGANIZATIONS:
		if (!copy_organization(copy, handle, &organization))
			return false;
		*ret_id = (uint64_t)organization.id;
		return true;
	case COPY_PAGES:
		if (!copy_page(copy, handle, &page))
			return false;
		*ret_id = (uint64_t)page.id;
		return true;
	case COPY_USERS:
		*ret_id = (uint64_t)user_at(copy, handle)->id;
		return user_seen(copy, user_at(copy, handle))->exists;
	case COPY_KEYS:
		*ret_id = key_at(copy, handle)->id;
		return key_seen(copy, key_at(copy, handle))->exists;
	default:
		return false;
	}
}

enum copy_rest copy_sums_rest(struct copy_sums *sums, const struct copy *copy, uint32_t budget, uint64_t *ret_id)
{
	for (; sums->at < sums->handles; budget--) {
		rule_handle handle = sums->at;

		if (budget == 0)
			return COPY_REST_MORE;
		sums->at++;
		if (!(sums->met[handle / 64] >> handle % 64 & 1) && is_there(copy, sums->kind, handle, ret_id))
			return COPY_REST_FOUND;
	}
	return COPY_REST_END;
}
