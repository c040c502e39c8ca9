-- What is old becomes coarser, and then goes: in batches of its own, whose statements say what went. A part goes whole,
-- and that it was there stays written in ledger_part until its batch's head goes, too.
--
-- Such a batch: ledger_begin(), ledger_compact() or ledger_prune(), ledger_seal(), ledger_close(), which takes away what
-- the statement names as its last act, so that the strong locks are held for no longer than a COMMIT takes.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(14, 'ledger_retention'); END $$;

CREATE FUNCTION apikeyd.ledger_keep(what text, keep interval) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF ledger_keep.what NOT IN ('events', 'minutes', 'hours', 'days', 'admin', 'batches') IS NOT FALSE THEN
    RAISE EXCEPTION 'the ledger keeps no "%"', ledger_keep.what
      USING ERRCODE = 'invalid_parameter_value', HINT = 'It keeps events, minutes, hours, days, admin and batches.';
  END IF;
  EXECUTE format('UPDATE apikeyd.ledger_setting SET %I = $1', 'keep_' || ledger_keep.what) USING ledger_keep.keep;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_keep(text, interval) IS 'Sets how long the ledger keeps events, minutes, hours, days, admin or batches: at least a day. It is recorded as administration.';

-- Heads of which nothing else is left, from the first of the chain on; but not the statement that says where a chain begins.
CREATE FUNCTION apikeyd.ledger_prunable(older timestamptz) RETURNS TABLE (chain uuid, batch bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT c.chain, f.batch - 1
  FROM apikeyd.ledger_chain c
  CROSS JOIN LATERAL (
    SELECT b.batch FROM apikeyd.ledger_batch b
    WHERE b.chain = c.chain AND (b.batch = c.last_batch OR b.made_at >= older OR (b.seals > 0 AND b.gone_chain IS NULL)
       OR EXISTS (SELECT FROM apikeyd.ledger_part p WHERE p.chain = b.chain AND p.batch = b.batch AND p.gone_chain IS NULL)
       OR EXISTS (SELECT FROM apikeyd.ledger_statement(b.statement) AS s JOIN apikeyd.ledger_chain o ON o.chain = s.chain AND o.pruned_batch = s.batch WHERE s.tbl = 'batch'))
    ORDER BY b.batch LIMIT 1) AS f
  WHERE f.batch - 1 > c.pruned_batch AND EXISTS (SELECT FROM apikeyd.ledger_batch b WHERE b.chain = c.chain AND b.batch = f.batch - 1)
  ORDER BY 1
$$;
COMMENT ON FUNCTION apikeyd.ledger_prunable(timestamptz) IS 'Up to which batch each chain''s heads may go: older than this, and nothing else is left of them.';

CREATE FUNCTION apikeyd.ledger_due() RETURNS TABLE (kind text, tbl text, day date)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  WITH keep AS (
    SELECT k.tbl, k.kind, clock_timestamp() - k.keep AS older
    FROM apikeyd.ledger_setting s, LATERAL (VALUES ('event', 'pruning', s.keep_events), ('rollup', 'compaction', s.keep_minutes), ('hour', 'compaction', s.keep_hours),
      ('day', 'pruning', s.keep_days), ('admin', 'pruning', s.keep_admin), ('batch', 'pruning', s.keep_batches)) AS k (tbl, kind, keep)
  )
  SELECT d.kind, d.tbl, d.day FROM (
    SELECT k.kind, k.tbl, p.day FROM keep k JOIN apikeyd.ledger_partitions() AS p ON p.tbl = k.tbl
    WHERE (apikeyd.ledger_span(p.tbl, p.day)).until <= k.older AND to_regclass('apikeyd.' || (apikeyd.ledger_span(p.tbl, p.day)).partition) IS NOT NULL
    UNION ALL
    SELECT k.kind, k.tbl, (k.older AT TIME ZONE 'UTC')::date FROM keep k
    WHERE k.tbl = 'admin' AND EXISTS (SELECT FROM apikeyd.ledger_batch b WHERE b.seals > 0 AND b.gone_chain IS NULL AND b.made_at < (k.older AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE 'UTC')
    UNION ALL
    SELECT k.kind, k.tbl, (k.older AT TIME ZONE 'UTC')::date FROM keep k
    WHERE k.tbl = 'batch' AND EXISTS (SELECT FROM apikeyd.ledger_prunable((k.older AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE 'UTC'))
    UNION ALL
    -- Last of all: where nobody asks anything for long, administration is to be sealed all the same.
    SELECT 'rows', NULL, NULL WHERE EXISTS (
      SELECT FROM apikeyd.ledger_unsealed u JOIN apikeyd.ledger_admin a ON a.id BETWEEN u.first_id AND u.last_id AND a.txn = u.txn WHERE a.at < clock_timestamp() - interval '1 min')
  ) AS d ORDER BY d.day NULLS LAST, d.tbl
$$;
COMMENT ON FUNCTION apikeyd.ledger_due() IS 'What is to be compacted or pruned by the settings, the oldest first: a daemon makes a batch of one at a time. Where one fails because it is not as its parts say (XX001), it goes on with the next. Last, kind rows: administration waits for a batch to seal it, and an empty one does.';

CREATE FUNCTION apikeyd.ledger_take(tbl text, day date, chain uuid, batch bigint) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  span record;
  odd record;
  gone record;
BEGIN
  SELECT * INTO span FROM apikeyd.ledger_span(ledger_take.tbl, ledger_take.day);
  IF span.until > clock_timestamp() - interval '1 hour' THEN
    RAISE EXCEPTION 'apikeyd.% is not over yet', span.partition USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  -- Nobody adds a row from here on.
  PERFORM set_config('lock_timeout', '2s', true);
  EXECUTE format('LOCK TABLE apikeyd.%I IN SHARE MODE', span.partition);
  SELECT v.place, v.problem, v.batch, v.chain INTO odd FROM apikeyd.ledger_verify_rows(ledger_take.tbl, ledger_take.day) AS v LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'apikeyd.% stays: %, batch % of chain %: %', span.partition, odd.place, odd.batch, odd.chain, odd.problem
      USING ERRCODE = 'data_corrupted', HINT = 'Run: select * from apikeyd.ledger_verify()';
  END IF;
  UPDATE apikeyd.ledger_part p SET gone_chain = ledger_take.chain, gone_batch = ledger_take.batch
    WHERE p.tbl = ledger_take.tbl AND p.gone_chain IS NULL
      AND p.day >= (span.since AT TIME ZONE 'UTC')::date AND p.day < (span.until AT TIME ZONE 'UTC')::date;
  SELECT * INTO gone FROM apikeyd.ledger_gone(ledger_take.chain, ledger_take.batch);
  RETURN format('%s %s parts=%s rows=%s counted=%s digest=%s', ledger_take.tbl, (span.since AT TIME ZONE 'UTC')::date, gone.parts, gone.rows, gone.counted, gone.digest);
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_take(text, date, uuid, bigint) IS 'Marks all parts of a partition as gone with a batch, and says what they were. Refused where the rows are not as the parts say.';

CREATE FUNCTION apikeyd.ledger_compact(chain uuid, batch bigint, tbl text, day date, OUT statement text, OUT rows int, OUT parts jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  into_tbl constant text := CASE ledger_compact.tbl WHEN 'rollup' THEN 'hour' WHEN 'hour' THEN 'day' END;
  span record;
  first date;
  made record;
BEGIN
  IF into_tbl IS NULL THEN
    RAISE EXCEPTION 'nothing is coarser than %', ledger_compact.tbl USING ERRCODE = 'invalid_parameter_value', HINT = 'Compact rollup or hour.';
  END IF;
  SELECT * INTO span FROM apikeyd.ledger_span(ledger_compact.tbl, ledger_compact.day);
  first := (span.since AT TIME ZONE 'UTC')::date;
  PERFORM apikeyd.ledger_partition(into_tbl, first);
  statement := 'compaction ' || apikeyd.ledger_take(ledger_compact.tbl, ledger_compact.day, ledger_compact.chain, ledger_compact.batch);
  IF ledger_compact.tbl = 'rollup' THEN
    INSERT INTO apikeyd.ledger_hour (chain, batch, n, hour, verdict, reason, stack, caller_uid, key_id, scope, page, addr, count, first_at, last_at)
    SELECT ledger_compact.chain, ledger_compact.batch, row_number() OVER (ORDER BY g.unit, g.verdict, g.reason, g.key_id, g.scope, g.page, g.stack, g.caller_uid, g.addr), g.*
    FROM (SELECT date_trunc('hour', r.minute, 'UTC') AS unit, r.verdict, r.reason, r.stack, r.caller_uid, r.key_id, r.scope, r.page, r.addr, sum(r.count) AS count, min(r.first_at), max(r.last_at)
          FROM apikeyd.ledger_rollup r WHERE r.minute >= span.since AND r.minute < span.until GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9) AS g;
  ELSE
    INSERT INTO apikeyd.ledger_day (chain, batch, n, day_of, verdict, reason, stack, caller_uid, key_id, scope, page, addr, count, first_at, last_at)
    SELECT ledger_compact.chain, ledger_compact.batch, row_number() OVER (ORDER BY g.unit, g.verdict, g.reason, g.key_id, g.scope, g.page, g.stack, g.caller_uid, g.addr), g.*
    FROM (SELECT date_trunc('day', r.hour, 'UTC') AS unit, r.verdict, r.reason, r.stack, r.caller_uid, r.key_id, r.scope, r.page, r.addr, sum(r.count) AS count, min(r.first_at), max(r.last_at)
          FROM apikeyd.ledger_hour r WHERE r.hour >= span.since AND r.hour < span.until GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9) AS g;
  END IF;
  SELECT * INTO made FROM apikeyd.ledger_digest(into_tbl, first, ledger_compact.chain, ledger_compact.batch);
  rows := made.rows;
  parts := CASE WHEN made.rows = 0 THEN '[]' ELSE jsonb_build_array(jsonb_build_object('tbl', into_tbl, 'day', first, 'rows', made.rows, 'counted', made.counted, 'digest', encode(made.digest, 'hex'))) END;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_compact(uuid, bigint, text, date) IS 'After ledger_begin(): puts hours in place of a day of minutes (rollup), or days in place of a month of hours (hour), as rows of this batch. The statement, rows and parts are for ledger_head() and ledger_close(), which drops the finer partition.';

CREATE FUNCTION apikeyd.ledger_prune(chain uuid, batch bigint, tbl text, day date, OUT statement text, OUT rows int, OUT parts jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  older constant timestamptz := ledger_prune.day::timestamp AT TIME ZONE 'UTC';
  gone record;
  odd record;
BEGIN
  rows := 0;
  parts := '[]';
  IF older > clock_timestamp() - interval '1 hour' THEN
    RAISE EXCEPTION '% is not over yet', ledger_prune.day USING ERRCODE = 'object_not_in_prerequisite_state';
  ELSIF ledger_prune.tbl IN ('event', 'day') THEN
    statement := 'pruning ' || apikeyd.ledger_take(ledger_prune.tbl, ledger_prune.day, ledger_prune.chain, ledger_prune.batch);
  ELSIF ledger_prune.tbl = 'admin' THEN
    SELECT v.place, v.problem INTO odd FROM apikeyd.ledger_verify_admin('-infinity', older) AS v WHERE v.severity = 'fault' LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION 'administration stays: %: %', odd.place, odd.problem USING ERRCODE = 'data_corrupted', HINT = 'Run: select * from apikeyd.ledger_verify()';
    END IF;
    UPDATE apikeyd.ledger_batch b SET gone_chain = ledger_prune.chain, gone_batch = ledger_prune.batch
      WHERE b.seals > 0 AND b.gone_chain IS NULL AND b.made_at < older;
    SELECT * INTO gone FROM apikeyd.ledger_gone_seals(ledger_prune.chain, ledger_prune.batch);
    statement := format('pruning admin %s parts=%s rows=%s counted=0 digest=%s', ledger_prune.day, gone.parts, gone.rows, gone.digest);
  ELSIF ledger_prune.tbl = 'batch' THEN
    SELECT p.chain, p.batch, encode(b.head, 'hex') AS head, (SELECT count(*) FROM apikeyd.ledger_batch m WHERE m.chain = p.chain AND m.batch <= p.batch) AS rows INTO gone
      FROM apikeyd.ledger_prunable(older) AS p JOIN apikeyd.ledger_batch b ON b.chain = p.chain AND b.batch = p.batch LIMIT 1;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'no head is to go' USING ERRCODE = 'no_data_found';
    END IF;
    -- Whoever writes to that chain now goes first, or comes later.
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM FROM apikeyd.ledger_chain c WHERE c.chain = gone.chain FOR UPDATE;
    statement := format('pruning batch %s parts=%s rows=%s counted=0 digest=%s', gone.chain, gone.batch, gone.rows, gone.head);
  ELSE
    RAISE EXCEPTION 'nothing is pruned from %', ledger_prune.tbl USING ERRCODE = 'invalid_parameter_value', HINT = 'Prune event, day, admin or batch.';
  END IF;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_prune(uuid, bigint, text, date) IS 'After ledger_begin(): names what goes with this batch: a day of events, a year of days, administration sealed before the day, or the heads of a chain of which nothing else is left. The statement is for ledger_head() and ledger_close(), which takes it away.';

CREATE FUNCTION apikeyd.ledger_remove(chain uuid, batch bigint, statement text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  said record;
  gone record;
BEGIN
  SELECT * INTO said FROM apikeyd.ledger_statement(ledger_remove.statement);
  IF said.tbl IN ('event', 'rollup', 'hour', 'day') THEN
    SELECT * INTO gone FROM apikeyd.ledger_gone(ledger_remove.chain, ledger_remove.batch);
    IF (gone.parts, gone.rows, gone.counted, gone.digest) IS DISTINCT FROM (said.parts, said.rows, said.counted, said.digest) THEN
      RAISE EXCEPTION 'what goes is not what the statement says' USING ERRCODE = 'data_corrupted';
    END IF;
    -- Of the parent, too: whoever reads it for longer than this has the partition for another while.
    PERFORM set_config('lock_timeout', '200ms', true);
    EXECUTE format('DROP TABLE apikeyd.%I', (apikeyd.ledger_span(said.tbl, said.day)).partition);
  ELSIF said.tbl = 'admin' THEN
    DELETE FROM apikeyd.ledger_admin a USING apikeyd.ledger_seal s, apikeyd.ledger_batch b
      WHERE a.id = s.admin_id AND s.chain = b.chain AND s.batch = b.batch AND b.gone_chain = ledger_remove.chain AND b.gone_batch = ledger_remove.batch;
    DELETE FROM apikeyd.ledger_seal s USING apikeyd.ledger_batch b
      WHERE s.chain = b.chain AND s.batch = b.batch AND b.gone_chain = ledger_remove.chain AND b.gone_batch = ledger_remove.batch;
  ELSIF said.tbl = 'batch' THEN
    DELETE FROM apikeyd.ledger_part p WHERE p.chain = said.chain AND p.batch <= said.batch;
    DELETE FROM apikeyd.ledger_batch b WHERE b.chain = said.chain AND b.batch <= said.batch;
    UPDATE apikeyd.ledger_chain c SET pruned_batch = said.batch, pruned_head = decode(said.digest, 'hex') WHERE c.chain = said.chain;
  ELSE
    RAISE EXCEPTION 'the statement cannot be read: %', ledger_remove.statement USING ERRCODE = 'invalid_parameter_value';
  END IF;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_remove(uuid, bigint, text) IS 'Last act of a compaction or pruning: takes away what its statement says. A reader who is in the way makes it fail with 55P03 after 200 ms: try again later.';

-- The daemon calls it by itself, and not the functions that it is made of.
ALTER FUNCTION apikeyd.ledger_head(uuid, bigint, text, bigint, int, bigint, text, smallint, bytea, int, bytea, jsonb) SECURITY DEFINER;
GRANT EXECUTE ON FUNCTION apikeyd.ledger_due(), apikeyd.ledger_compact(uuid, bigint, text, date), apikeyd.ledger_prune(uuid, bigint, text, date),
    apikeyd.ledger_head(uuid, bigint, text, bigint, int, bigint, text, smallint, bytea, int, bytea, jsonb)
  TO apikeyd_check;

DO $$ BEGIN PERFORM apikeyd.force_reload(); END $$;

COMMIT;
