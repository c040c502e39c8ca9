/*
 * Parameters of administration: whatever a message holds, its method is unknown, or its parameters are refused with a
 * line, or they are what SQL takes: as many as the method has, none that is required missing, each of them one line.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/admin/table.h"
#include "proto/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
	if (!condition)
		abort();
}

/* UTF-8 may stand in names; what ends a line, or is no text, nowhere. */
static void must_be_a_line(const char *text, size_t most)
{
	size_t len = strnlen(text, most);

	must(len < most);
	for (size_t i = 0; i < len; i++)
		must((unsigned char)text[i] >= ' ' && text[i] != 0x7f);
}

static void read_params(const struct admin_method *method, const struct value *params)
{
	static struct config config = {.admin_rows = 1000};
	struct admin admin = {.config = &config};
	struct admin_request request = {.admin = &admin, .method = method};
	struct rpc_error error = {0};

	if (!admin_read_params(&request, params, &error)) {
		must(error.code == RPC_BAD_PARAMS && error.message[0]);
		must_be_a_line(error.message, sizeof(error.message));
	} else {
		must(error.code == RPC_OK && request.limit >= 1 && request.limit <= config.admin_rows);
		for (unsigned i = 0; method->params[i].name; i++) {
			const char *text = request.params[i];

			must(i < request.param_count && (text || !method->params[i].required));
			must(text == admin_given(&request, method->params[i].name));
			if (text)
				must_be_a_line(text, 4 * RPC_MESSAGE_MAX);
			if (text && method->params[i].type == ADMIN_TEXTS)
				must(text[0] == '[' && text[strlen(text) - 1] == ']');
		}
	}
	arena_clear(&request.arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct scan_limits limits = {RPC_MESSAGE_MAX, SCAN_DEPTH_MAX};
	static struct rpc_decoder *decoder;
	const struct admin_method *method;
	struct rpc_request request;
	struct rpc_error error = {0};
	size_t whole;

	if (!decoder)
		decoder = rpc_decoder_new();
	must(decoder != NULL);
	if (scan_message(data, size, &limits, &whole) == SCAN_MESSAGE &&
	    rpc_decode_request(decoder, RPC_SERVICE_ADMIN, data, whole, &request, &error) == RPC_OK &&
	    request.method == RPC_METHOD_ADMIN) {
		method = admin_method_find(request.admin_method.data, request.admin_method.len);
		must((method != NULL) == admin_knows(request.admin_method, &error));
		if (method)
			read_params(method, request.admin_params);
		else
			must_be_a_line(error.message, sizeof(error.message));
	}
	rpc_decoder_reset(decoder);
	return 0;
}
