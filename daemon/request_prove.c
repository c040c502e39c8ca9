/* The store's own keys: whose is it, and is it the right text? */
#include "daemon/request_internal.h"

#include <string.h>

/*
 * One proof is made and compared for every text, and where that does not settle it one checksum, one keyed hash and
 * one compare, whether or not the id exists: neither the answer nor the time tells them apart.
 */
enum reason request_prove(struct request_core *core, const struct request_view *view, struct request *request)
{
	static const uint8_t nothing[SECRET_HASH_LEN];
	const struct copy_key *key = request->key;
	const struct rpc_text *text = &request->rpc->key;
	const char *brand = core->config->brand;
	const uint8_t *stored = nothing, *remembered = nothing;
	uint8_t proof[SECRET_PROOF_LEN], hash[SECRET_HASH_LEN];
	uint16_t pepper;
	struct keytext parsed;
	bool equal;

	if (view->fault != REASON_OK)
		return view->fault;
	pepper = secret_newest(core->secret);
	if (key)
		remembered = copy_key_proof(key);
	secret_proof(core->secret, text->data, text->len, proof);
	if (secret_proof_equal(proof, remembered) && key) {
		core->counters.proofs_remembered++;
		return REASON_OK;
	}
	if (!keytext_parse(text->data, text->len, brand, strlen(brand), &parsed))
		return REASON_MALFORMED_KEY;
	if (key) {
		stored = copy_key_hash(view->copy, key);
		pepper = copy_key_pepper(key);
	}
	if (!secret_hash(core->secret, pepper, text->data, text->len, hash))
		return REASON_NO_PEPPER;
	core->counters.proofs_hashed++;
	equal = secret_equal(hash, stored, sizeof(hash));
	secret_wipe(hash, sizeof(hash));
	if (!equal || !key)
		return request_known(view, REASON_UNKNOWN_KEY);
	copy_key_remember(key, proof);
	return REASON_OK;
}
