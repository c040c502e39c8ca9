/* hello: what the daemon says of itself. version: what this program is. */
#include "client/apikeyctl/context.h"
#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/show.h"
#include "client/apikeyctl/talk.h"

static const struct show_column hello_record[] = {
	{"server", "server", 0, NULL}, {"version", "version", 0, NULL}, {"protocol", "protocol", 0, NULL},
	{"brand", "brand", 0, NULL},   {NULL, NULL, 0, NULL},
};

/* Limits are what this daemon has; their names are its own, so they are no table of ours. */
static int hello_limits(const struct ctl *ctl, const struct value *limits)
{
	struct arena arena = {0};

	for (uint32_t i = 0; limits && limits->type == VALUE_MAP && i < limits->count; i++)
		ctl_print(ctl, "limit %s %s", limits->fields[i].name, show_text(&arena, &limits->fields[i].value));
	arena_clear(&arena);
	return CTL_DONE;
}

static int hello_run(struct ctl *ctl, const struct args *args)
{
	const struct value *result;
	struct rpc_buffer encoded = {0};
	struct talk talk = {0};
	uint32_t msgid;
	int code = talk_open(&talk, ctl, args_has(args, "admin") ? TALK_ADMIN : TALK_CHECK);

	if (code)
		goto out;
	msgid = call_next_id(&talk.call);
	rpc_put_hello(&encoded, msgid, context_text("apikeyctl"), context_text(APIKEYD_VERSION));
	code = talk_send(&talk, &encoded, msgid, &result);
	if (code)
		goto out;
	if (ctl->json) {
		code = jsonout_show(ctl, result);
	} else {
		code = show_record(ctl, hello_record, result);
		if (!code)
			code = hello_limits(ctl, value_get(result, "limits"));
	}
out:
	talk_close(&talk);
	return code;
}

static int version_run(struct ctl *ctl, const struct args *args)
{
	(void)args;
	if (ctl->json)
		return jsonout_print(ctl, json_pack("{s:s, s:s, s:i}", "program", "apikeyctl", "version",
						    APIKEYD_VERSION, "protocol", RPC_PROTOCOL));
	fprintf(ctl->out, "apikeyctl %s, protocol %d\n", APIKEYD_VERSION, RPC_PROTOCOL);
	return CTL_DONE;
}

static const struct option hello_options[] = {
	{.name = "admin", .help = "ask the administration socket"},
	{.name = NULL},
};

const struct command command_hello = {.name = "hello",
				      .summary = "what the daemon says of itself: version, protocol, limits",
				      .options = hello_options,
				      .run = hello_run};
const struct command command_version = {.name = "version", .summary = "this program's version", .run = version_run};
