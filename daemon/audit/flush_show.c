/* What `stats` tells of the ledger. */
#include "daemon/audit/flush_internal.h"

bool flush_stats(const struct flush *flush, struct arena *arena, struct value *map)
{
	const struct spool *spool = flush->spool;
	const struct rollup_counts *rollup = rollup_counts(flush->rollup);
	const struct {
		const char *name;
		uint64_t value;
	} counts[] = {
		{"batch", spool_number(spool) - 1},
		{"spool_records", spool_used(spool)},
		{"spool_capacity", spool_capacity(spool)},
		{"spool_damaged", spool_damaged(spool)},
		{"spool_unsized", spool_unsized(spool) != 0},
		{"lost", spool_lost(spool)},
		{"events", rollup->events},
		{"rollups", rollup->rollups},
		{"rolled_up", rollup->counted},
		{"limit_spool", rollup->full},
		{"limit_events", rollup->limit_events},
		{"limit_sources", rollup->limit_sources},
		{"limit_denials", rollup->limit_denials},
		{"batches", flush->count.batches},
		{"rows", flush->count.rows},
		{"seals", flush->count.seals},
		{"statements", flush->count.statements},
		{"failures", flush->count.failures},
		{"outcome_unknown", flush->count.retries},
		{"gaps", flush->count.gaps},
		{"chains_begun", flush->count.chains},
		{"anchors", flush->count.anchors},
		{"syncs", flush->count.syncs},
		{"sync_failures", flush->count.sync_failures},
		{"batch_rows", flush_rows(flush)},
		{"batch_timeout_ms", flush_timeout_ms(flush)},
		{"batch_timeouts", flush->count.timeouts},
	};
	char chain[UUID_TEXT], head[2 * SPOOL_HEAD_LEN + 1];
	struct value *sub = value_set(arena, map, "ledger");

	if (!sub)
		return false;
	value_map(sub);
	uuid_text(spool_chain(spool), chain);
	batch_hex(spool_head(spool), SPOOL_HEAD_LEN, head);
	if (!value_set_text(arena, sub, "state",
			    flush->trouble[0]		  ? "failing"
			    : ledger_is_up(flush->ledger) ? "connected"
							  : "idle") ||
	    !value_set_text(arena, sub, "chain", chain) || !value_set_text(arena, sub, "head", head) ||
	    !value_set_text(arena, sub, "trouble", flush->trouble))
		return false;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		if (!value_set_uint(arena, sub, counts[i].name, counts[i].value))
			return false;
	}
	return true;
}
