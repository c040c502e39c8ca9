#include "daemon/stats.h"

#include <stdio.h>
#include <unistd.h>

#include "daemon/log.h"

struct count {
	const char *name;
	uint64_t value;
};

static bool put(struct arena *arena, struct value *map, const struct count *counts, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!value_set_uint(arena, map, counts[i].name, counts[i].value))
			return false;
	}
	return true;
}
#define PUT(counts) put(arena, map, counts, sizeof(counts) / sizeof((counts)[0]))

static bool put_words(struct arena *arena, struct value *map, const char *prefix, const uint64_t *counts, unsigned n,
		      const char *(*word)(unsigned i))
{
	char name[64];

	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%s_%s", prefix, word(i));
		if (!value_set_uint(arena, map, name, counts[i]))
			return false;
	}
	return true;
}

static const char *method_at(unsigned i)
{
	return rpc_method_word((enum rpc_method)i);
}

static const char *reason_at(unsigned i)
{
	return reason_word((enum reason)i);
}

static bool put_copy(const struct mirror *mirror, struct arena *arena, struct value *map)
{
	int64_t age = mirror_age_us(mirror, mirror_boot_now());
	struct copy_counts copy = {0};

	if (mirror->copy)
		copy_count(mirror->copy, &copy);
	else
		age = 0;
	{
		const struct count counts[] = {
			{"rev", mirror_rev(mirror)},
			{"age_ms", age > 0 ? ((uint64_t)age + 999) / 1000 : 0},
			{"copy_organizations", copy.organizations},
			{"copy_pages", copy.pages},
			{"copy_users", copy.users},
			{"copy_keys", copy.keys},
			{"copy_scopes", copy.scopes},
			{"copy_roles", copy.roles},
			{"copy_dropped_references", copy.dropped_references},
			{"copy_bytes", copy.bytes},
			{"copies_replaced", mirror->history},
		};

		return value_set_bool(arena, map, "loaded", mirror->copy != NULL) && PUT(counts);
	}
}

static bool put_sessions(const struct sessions *sessions, const struct request_core *core, struct arena *arena,
			 struct value *map)
{
	const struct session_counters *c = &sessions->counters;
	const struct count counts[] = {
		{"connections", sessions->count},
		{"connections_admin", sessions->admin_count},
		{"connections_accepted", c->accepted},
		{"connections_closed", c->closed},
		{"refused_connections", c->refused_connections},
		{"refused_connections_per_uid", c->refused_uid_connections},
		{"refused_credentials", c->refused_credentials},
		{"refused_admin_users", c->refused_admin},
		{"refused_explain", c->refused_explain},
		{"closed_malformed", c->closed_malformed},
		{"closed_partial_message", c->closed_partial},
		{"closed_idle", c->closed_idle},
		{"closed_output", c->closed_output},
		{"closed_error", c->closed_error},
		{"paused_slow_readers", c->paused},
		{"limit_pairs", c->limit_pairs},
		{"limit_in_flight", c->limit_in_flight + core->counters.in_flight},
		{"limit_read_bytes", c->reads_full},
		{"bytes_in", c->bytes_in},
		{"bytes_out", c->bytes_out},
		{"reads", c->reads},
		{"writes", c->writes},
		{"notifications", c->notifications},
		{"request_errors", c->request_errors},
	};

	return PUT(counts) && put_words(arena, map, "requests", c->requests, RPC_METHOD_COUNT, method_at);
}

/* By stack: the reasons that were given at all. */
static bool put_stacks(const struct policy *policy, struct arena *arena, struct value *map)
{
	struct value *stacks = value_set(arena, map, "stacks"), *reasons;

	if (!stacks)
		return false;
	value_map(stacks);
	for (uint32_t i = 0; policy && i < policy->stack_count; i++) {
		const struct policy_stack *stack = &policy->stacks[i];

		reasons = value_set(arena, stacks, stack->name);
		if (!reasons)
			return false;
		value_map(reasons);
		for (unsigned reason = 0; reason < REASON_COUNT; reason++) {
			if (stack->verdicts[reason] &&
			    !value_set_uint(arena, reasons, reason_at(reason), stack->verdicts[reason]))
				return false;
		}
	}
	return true;
}

static bool put_requests(const struct request_core *core, struct arena *arena, struct value *map)
{
	const struct request_counters *c = &core->counters;
	const struct count counts[] = {
		{"verdicts_marked_stale", c->stale},
		{"proofs_remembered", c->proofs_remembered},
		{"proofs_hashed", c->proofs_hashed},
		{"waiting", request_waiting_count(core)},
		{"waiting_bytes", core->waiting_bytes},
		{"waited", c->waited},
		{"waited_to_deadline", c->waited_timeout},
		{"waited_forgotten", c->waited_forgotten},
		{"limit_waiting", c->overload - c->overload_bytes},
		{"limit_waiting_bytes", c->overload_bytes},
		{"limit_deadline_max", c->deadlines_cut},
		{"limit_pages_per_answer", c->pages_cut},
		{"module_calls", c->calls},
		{"module_calls_late", c->calls_late},
		{"module_calls_cancelled", c->calls_cancelled},
		{"limit_module_pending", c->calls_overload},
		{"module_faults", c->module_faults},
	};

	return PUT(counts) && put_words(arena, map, "verdicts", c->verdicts, REASON_COUNT, reason_at) &&
	       put_stacks(core->policy, arena, map);
}

static bool put_latency(const struct stats_sources *s, struct arena *arena, struct value *map)
{
	struct value *own = value_set(arena, map, "latency");

	if (!own)
		return false;
	value_map(own);
	return latency_stats(&s->sessions->answered, "at_once", arena, own) &&
	       latency_stats(&s->core->waited, "waited", arena, own);
}

static bool put_log(struct arena *arena, struct value *map)
{
	struct value *own = value_set(arena, map, "log");
	struct log_counters c;
	char name[32];

	if (!own)
		return false;
	value_map(own);
	log_count(&c);
	for (unsigned i = 0; i < LOG_LEVELS; i++) {
		snprintf(name, sizeof(name), "lines_%s", log_level_word((enum log_level)i));
		if (!value_set_uint(arena, own, name, c.lines[i]))
			return false;
	}
	return value_set_uint(arena, own, "entries", c.entries) &&
	       value_set_uint(arena, own, "entries_failed", c.entries_failed);
}

bool stats_fill(const struct stats_sources *s, struct arena *arena, struct value *map)
{
	const struct count counts[] = {
		{"pid", (uint64_t)getpid()},	       {"started_at", s->started_at},
		{"uptime_ms", s->uptime_ms},	       {"reloads", s->reloads},
		{"reloads_failed", s->reloads_failed}, {"limit_start", s->starts_without_copy},
	};

	return value_set_text(arena, map, "version", APIKEYD_VERSION) &&
	       value_set_bool(arena, map, "stopping", s->stopping) && PUT(counts) && put_copy(s->mirror, arena, map) &&
	       freshness_stats(s->freshness, mirror_boot_now(), arena, map) &&
	       put_sessions(s->sessions, s->core, arena, map) && put_requests(s->core, arena, map) &&
	       put_latency(s, arena, map) && put_log(arena, map) && feed_stats(s->feed, arena, map) &&
	       writer_stats(s->writer, arena, map) && flush_stats(s->flush, arena, map) &&
	       admin_stats(s->admin, arena, map) && confine_stats(s->confine, arena, map);
}
