/* What audit verify has found, and how much it has looked at, for people and as JSON. */
#include <inttypes.h>

#include "client/apikeyctl/audit_verify.h"
#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/show.h"

static const struct show_column verify_columns[] = {
	{"SEVERITY", "severity", SHOW_STATE, NULL}, {"CHAIN", "chain", 0, NULL},	  {"BATCH", "batch", 0, NULL},
	{"WHERE", "place", SHOW_WRAP, NULL},	    {"WHAT", "problem", SHOW_WRAP, NULL}, {NULL, NULL, 0, NULL},
};

static size_t verify_matched(const struct verify *verify)
{
	size_t matched = 0;

	for (size_t i = 0; i < verify->anchors.count; i++)
		matched += verify->anchors.items[i].same;
	return matched;
}

static int verify_print_json(const struct verify *verify)
{
	const struct {
		const char *name;
		int64_t value;
	} numbers[] = {{"faults", verify->faults},
		       {"notes", verify->notes},
		       {"chains", verify->chains},
		       {"batches", verify->batches},
		       {"batches_within", verify->batches_within},
		       {"partitions", verify->partitions},
		       {"rows", verify->rows},
		       {"verdicts", verify->verdicts},
		       {"macs", verify->macs},
		       {"no_pepper", verify->no_pepper},
		       {"anchors", (int64_t)verify->anchors.count},
		       {"anchors_matched", (int64_t)verify_matched(verify)},
		       {"own", (int64_t)verify->own.count}};
	json_t *document = json_pack("{s:b, s:b}", "whole", verify->faults == 0, "part", verify->is_part);

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		json_object_set_new(document, numbers[i].name, json_integer(numbers[i].value));
	json_object_set_new(document, "findings", jsonout_of(&verify->findings));
	return jsonout_print(verify->ctl, document);
}

static int verify_print_table(const struct verify *verify)
{
	struct show_table *table = show_table_new(verify->ctl, verify_columns);
	bool done = table;

	for (uint32_t i = 0; done && i < verify->findings.count; i++)
		done = show_table_add(table, &verify->findings.items[i]);
	if (done)
		show_table_print(table);
	show_table_free(table);
	return done ? CTL_DONE : ctl_no_memory(verify->ctl);
}

/* What was not looked at, so that nobody takes it for whole. */
static void verify_tell_limits(const struct verify *verify)
{
	const struct ctl *ctl = verify->ctl;

	if (verify->is_part)
		ctl_note(ctl,
			 "of that time only: %" PRId64 " of the %" PRId64
			 " batches, rows and administration then. Of the "
			 "others nothing was looked at but MACs and anchors",
			 verify->batches_within, verify->batches);
	if (!verify->ask_macs)
		ctl_note(ctl, "no MAC was checked: whoever can write all tables can make all heads anew");
	if (verify->no_pepper)
		ctl_note(ctl, "%" PRId64 " MAC(s) are under a pepper that this daemon does not hold: not checked",
			 verify->no_pepper);
	if (!verify->ask_anchors)
		ctl_note(
			ctl,
			"no anchors were given: what was removed together with all that knew of it, the end of a chain "
			"or all of it, is seen of %s alone",
			verify->own.count ? "the chain of the daemon that was asked" : "none");
}

int audit_verify_show(const struct verify *verify)
{
	const struct ctl *ctl = verify->ctl;
	int code = ctl->json ? verify_print_json(verify) : verify_print_table(verify);

	if (code)
		return code;
	verify_tell_limits(verify);
	if (verify->faults)
		ctl_note(ctl, "%" PRId64 " fault(s): the ledger is not as the daemons wrote it", verify->faults);
	else
		ctl_note(ctl,
			 "whole: %" PRId64 " chain(s), %" PRId64 " batches, %" PRId64 " rows (%" PRId64
			 " verdicts) in %" PRId64 " partitions, %" PRId64 " MACs, %zu of %zu anchors",
			 verify->chains, verify->batches_within, verify->rows, verify->verdicts, verify->partitions,
			 verify->macs - verify->no_pepper, verify_matched(verify), verify->anchors.count);
	return verify->faults ? CTL_DENY : CTL_DONE;
}
