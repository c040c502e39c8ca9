/* A database that is too slow for a batch: it gets fewer rows at a time, and where they are few already more time. */
#include <inttypes.h>

#include "daemon/audit/flush_internal.h"

enum { FEWEST = 100, GROWTH_PART = 8 };

uint64_t flush_rows(const struct flush *flush)
{
	uint64_t most = flush->config->ledger_batch_rows;

	return flush->rows_most && flush->rows_most < most ? flush->rows_most : most;
}

uint32_t flush_timeout_ms(const struct flush *flush)
{
	uint32_t least = flush->config->statement_timeout_ms;

	return flush->timeout_ms > least ? flush->timeout_ms : least;
}

void flush_too_slow(struct flush *flush)
{
	const struct config *config = flush->config;
	uint64_t rows = flush->sealed.end - flush->sealed.first;
	uint32_t ms = flush_timeout_ms(flush), most = config->load_timeout_ms;

	flush->count.timeouts++;
	if (!flush->slow)
		log_said(LOG_LEVEL_WARNING, FLUSH_ABOUT(flush->chain, flush->sealed.number),
			 "ledger: the database did not take a batch of %" PRIu64
			 " rows within %u ms: it gets fewer at a "
			 "time, and more time where they are few, until it does",
			 rows, ms);
	flush->slow = true;
	if (rows > FEWEST && flush->begun) {
		/*
		 * It had the chain to itself, and its place was free: nothing of it is there or can come there, so that what
		 * was sealed may become another. Before that an earlier attempt may still be under way.
		 */
		flush->rows_most = rows / 2 > FEWEST ? rows / 2 : FEWEST;
		spool_unseal(flush->spool);
		flush_drop_made(flush);
	} else if (ms < most) {
		flush->timeout_ms = ms > most / 2 ? most : ms * 2;
	}
}

void flush_in_time(struct flush *flush)
{
	if (!flush->slow)
		return;
	/* First more rows in the time that they have now, then less time. */
	if (flush->rows_most)
		flush->rows_most += flush->rows_most / GROWTH_PART + 1;
	else
		flush->timeout_ms /= 2;
	if (flush->rows_most >= flush->config->ledger_batch_rows)
		flush->rows_most = 0;
	if (flush->timeout_ms <= flush->config->statement_timeout_ms)
		flush->timeout_ms = 0;
	if (flush->rows_most || flush->timeout_ms)
		return;
	flush->slow = false;
	log_info("ledger: the database takes batches of %" PRIu64 " rows again", flush_rows(flush));
}
