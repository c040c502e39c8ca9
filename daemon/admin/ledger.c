/*
 * Verifying the ledger: whether the MACs that its heads carry are ones that a daemon with this pepper makes. The heads
 * come from whoever asks; the database is not.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/admin/table.h"

enum { HEX_LEN = 2 * SECRET_HASH_LEN, VERSION_LEN = 5 };

/* "<64 hex digits> <pepper version> <64 hex digits>": head, version, MAC. */
static bool parse(const char *text, size_t len, uint8_t head[SECRET_HASH_LEN], uint16_t *ret_version,
		  uint8_t mac[SECRET_HASH_LEN])
{
	size_t digits = len - (2 * HEX_LEN + 2);
	unsigned version = 0;

	if (len < 2 * HEX_LEN + 3 || digits > VERSION_LEN || text[HEX_LEN] != ' ' || text[HEX_LEN + 1 + digits] != ' ')
		return false;
	for (size_t i = 0; i < digits; i++) {
		char c = text[HEX_LEN + 1 + i];

		if (c < '0' || c > '9')
			return false;
		version = version * 10 + (unsigned)(c - '0');
	}
	*ret_version = (uint16_t)version;
	return version > 0 && version <= INT16_MAX && secret_from_hex(text, HEX_LEN, head, SECRET_HASH_LEN) &&
	       secret_from_hex(text + len - HEX_LEN, HEX_LEN, mac, SECRET_HASH_LEN);
}

static bool fits_mac(const char *text, size_t len)
{
	uint8_t head[SECRET_HASH_LEN], mac[SECRET_HASH_LEN];
	uint16_t version;

	return parse(text, len, head, &version, mac);
}

static const struct admin_param macs_params[] = {
	{"macs", ADMIN_TEXTS, true, fits_mac,
	 "a head, a pepper's version and a MAC, in hexadecimal, with a space between them", 0, 0, NULL},
	ADMIN_PARAM_END,
};

/* One of them: its place goes to the list that it belongs to, if to any. */
static bool judge(struct admin_request *request, const char *text, size_t len, int64_t at, struct value *wrong,
		  struct value *no_pepper)
{
	uint8_t head[SECRET_HASH_LEN], mac[SECRET_HASH_LEN], right[SECRET_HASH_LEN];
	struct value *list = NULL, *item;
	uint16_t version = 0;

	if (!parse(text, len, head, &version, mac))
		list = wrong;
	else if (!secret_ledger_mac(request->admin->secret, version, head, right))
		list = no_pepper;
	else if (!secret_equal(mac, right, sizeof(mac)))
		list = wrong;
	secret_wipe(right, sizeof(right));
	if (!list)
		return true;
	item = value_add(&request->arena, list);
	if (item)
		value_int(item, at);
	return item;
}

static bool macs(struct admin_request *request, struct value *ret, struct rpc_error *error)
{
	/* A JSON array of texts that have nothing to escape. */
	const char *text = request->params[0];
	struct value wrong = {0}, no_pepper = {0}, *field;
	int64_t count = 0;
	bool done = true;

	value_list(&wrong);
	value_list(&no_pepper);
	while (done && (text = strchr(text, '"')) != NULL) {
		const char *end = strchr(++text, '"');

		if (!end)
			break;
		done = judge(request, text, (size_t)(end - text), count++, &wrong, &no_pepper);
		text = end + 1;
	}
	value_map(ret);
	done = done && value_set_int(&request->arena, ret, "count", count);
	field = done ? value_set(&request->arena, ret, "wrong") : NULL;
	if (field)
		*field = wrong;
	field = field ? value_set(&request->arena, ret, "no_pepper") : NULL;
	if (field)
		*field = no_pepper;
	if (!field)
		admin_error(error, RPC_INTERNAL, "out of memory");
	return field;
}

const struct admin_method admin_ledger_methods[] = {
	{.name = "ledger_macs",
	 .help = "says which of the MACs that heads of the ledger carry are not right",
	 .params = macs_params,
	 .noun = "MAC",
	 .local = macs},
	{.name = NULL},
};
