-- Verification: whether the ledger is what the daemons wrote, and where it is not.
--
-- It finds what was changed without the heads. Who can change all tables can make heads anew: those have no MAC that a
-- daemon made, and are not the ones that the journals have. `apikeyctl audit verify` looks at that, too.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(13, 'ledger_verify'); END $$;

CREATE FUNCTION apikeyd.ledger_stored(tbl text, day date)
RETURNS TABLE (chain uuid, batch bigint, rows bigint, counted bigint, digest bytea)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  span record;
BEGIN
  SELECT * INTO span FROM apikeyd.ledger_span(ledger_stored.tbl, ledger_stored.day);
  RETURN QUERY EXECUTE format(
    'SELECT r.chain, r.batch, count(*), sum(%s)::bigint, sha256(string_agg(sha256(convert_to(apikeyd.ledger_line_of(r), ''UTF8'')), ''''::bytea ORDER BY r.n))
     FROM apikeyd.%I r WHERE r.%I >= $1 AND r.%3$I < $2 GROUP BY r.chain, r.batch',
    CASE ledger_stored.tbl WHEN 'event' THEN '1' ELSE 'r.count' END, 'ledger_' || ledger_stored.tbl,
    CASE ledger_stored.tbl WHEN 'event' THEN 'at' WHEN 'rollup' THEN 'minute' WHEN 'hour' THEN 'hour' ELSE 'day_of' END)
    USING span.since, span.until;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_stored(text, date) IS 'What is stored in the partition that has this day, batch by batch: rows, verdicts, and their digest.';

CREATE FUNCTION apikeyd.ledger_numbers(chain uuid, batch bigint, OUT missing text, OUT surplus text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  WITH here (n) AS (
    SELECT r.n FROM apikeyd.ledger_event r WHERE r.chain = ledger_numbers.chain AND r.batch = ledger_numbers.batch
    UNION ALL SELECT r.n FROM apikeyd.ledger_rollup r WHERE r.chain = ledger_numbers.chain AND r.batch = ledger_numbers.batch
    UNION ALL SELECT r.n FROM apikeyd.ledger_hour r WHERE r.chain = ledger_numbers.chain AND r.batch = ledger_numbers.batch
    UNION ALL SELECT r.n FROM apikeyd.ledger_day r WHERE r.chain = ledger_numbers.chain AND r.batch = ledger_numbers.batch
  ), size (rows) AS (
    SELECT coalesce((SELECT b.rows FROM apikeyd.ledger_batch b WHERE b.chain = ledger_numbers.chain AND b.batch = ledger_numbers.batch), 0)
  )
  SELECT (SELECT string_agg(m.n::text, ', ' ORDER BY m.n) FROM (
            SELECT g.n FROM size, generate_series(1, size.rows) AS g (n) WHERE NOT EXISTS (SELECT FROM here WHERE here.n = g.n)
              AND NOT EXISTS (SELECT FROM apikeyd.ledger_part p WHERE p.chain = ledger_numbers.chain AND p.batch = ledger_numbers.batch AND p.gone_chain IS NOT NULL)
            ORDER BY 1 LIMIT 10) AS m),
         (SELECT string_agg(m.n::text, ', ' ORDER BY m.n) FROM (
            SELECT here.n FROM here, size GROUP BY here.n, size.rows HAVING count(*) > 1 OR here.n > size.rows OR here.n < 1
            ORDER BY 1 LIMIT 10) AS m)
$$;
COMMENT ON FUNCTION apikeyd.ledger_numbers(uuid, bigint) IS 'Which numbers of rows a batch lacks (where none of its parts was taken away), and which it has twice or beyond its end; the first ten.';

CREATE FUNCTION apikeyd.ledger_partitions(since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity')
RETURNS TABLE (tbl text, day date)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  WITH there (tbl, day) AS (
    SELECT t.tbl, to_date(rpad(substring(c.relname FROM '[0-9]+$'), 8, '0101'), 'YYYYMMDD')
    FROM unnest(ARRAY['event', 'rollup', 'hour', 'day']) AS t (tbl)
    JOIN pg_catalog.pg_inherits i ON i.inhparent = format('apikeyd.ledger_%s', t.tbl)::regclass
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    UNION
    SELECT p.tbl, (apikeyd.ledger_span(p.tbl, p.day)).since::timestamp::date
    FROM (SELECT DISTINCT q.tbl, q.day FROM apikeyd.ledger_part q WHERE q.gone_chain IS NULL) AS p
  )
  SELECT DISTINCT w.tbl, (s.since AT TIME ZONE 'UTC')::date FROM there w, apikeyd.ledger_span(w.tbl, w.day) AS s
  WHERE s.until > ledger_partitions.since AND s.since < ledger_partitions.until
  ORDER BY 2, 1
$$;
COMMENT ON FUNCTION apikeyd.ledger_partitions(timestamptz, timestamptz) IS 'The partitions of the ledger with times from since to until: those that are there, and those that parts say should be.';

-- ---- rows ----

CREATE FUNCTION apikeyd.ledger_verify_rows(tbl text, day date)
RETURNS TABLE (severity text, chain uuid, batch bigint, place text, problem text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  span record;
  odd record;
  numbers record;
BEGIN
  SELECT * INTO span FROM apikeyd.ledger_span(ledger_verify_rows.tbl, ledger_verify_rows.day);
  FOR odd IN
    WITH said AS (
      -- A month of hours, or a year of days, has several parts of one batch: their digests are compared one by one.
      SELECT p.chain, p.batch, min(p.part) AS part, count(*) AS parts, sum(p.rows)::bigint AS rows, sum(p.counted)::bigint AS counted,
             CASE WHEN count(*) = 1 THEN (array_agg(p.digest))[1] END AS digest
      FROM apikeyd.ledger_part p
      WHERE p.tbl = ledger_verify_rows.tbl AND p.gone_chain IS NULL
        AND p.day >= (span.since AT TIME ZONE 'UTC')::date AND p.day < (span.until AT TIME ZONE 'UTC')::date
      GROUP BY p.chain, p.batch
    )
    SELECT coalesce(said.chain, here.chain) AS chain, coalesce(said.batch, here.batch) AS batch, said.part,
           said.rows AS said_rows, here.rows AS here_rows, said.counted AS said_counted, here.counted AS here_counted
    FROM said FULL JOIN apikeyd.ledger_stored(ledger_verify_rows.tbl, ledger_verify_rows.day) AS here
      ON here.chain = said.chain AND here.batch = said.batch
    WHERE (said.rows, said.counted, said.digest) IS DISTINCT FROM (here.rows, here.counted, here.digest)
    ORDER BY 1, 2
  LOOP
    SELECT * INTO numbers FROM apikeyd.ledger_numbers(odd.chain, odd.batch);
    severity := 'fault';
    chain := odd.chain;
    batch := odd.batch;
    place := span.partition || CASE WHEN odd.part IS NOT NULL THEN format(', part %s', odd.part) ELSE '' END;
    problem := CASE
        WHEN odd.part IS NULL THEN format('%s row(s) that no part says are there: inserted', odd.here_rows)
        WHEN odd.here_rows IS NULL THEN format('all its %s row(s) are gone', odd.said_rows)
        WHEN odd.here_rows < odd.said_rows THEN format('%s of %s row(s) removed', odd.said_rows - odd.here_rows, odd.said_rows)
        WHEN odd.here_rows > odd.said_rows THEN format('%s row(s) inserted beside the %s', odd.here_rows - odd.said_rows, odd.said_rows)
        WHEN odd.here_counted <> odd.said_counted THEN format('a row was changed: it counts %s verdicts, and should %s', odd.here_counted, odd.said_counted)
        ELSE 'a row was changed, or rows were reordered: the digest is another' END
      || CASE WHEN numbers.missing IS NOT NULL THEN '; n ' || numbers.missing || ' missing' ELSE '' END
      || CASE WHEN numbers.surplus IS NOT NULL THEN '; n ' || numbers.surplus || ' too many' ELSE '' END;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_verify_rows(text, date) IS 'What is wrong with the rows of one partition of the ledger (event, rollup, hour or day).';

-- ---- chains ----

CREATE FUNCTION apikeyd.ledger_statement(statement text, OUT kind text, OUT tbl text, OUT day date, OUT chain uuid, OUT batch bigint,
  OUT parts bigint, OUT rows bigint, OUT counted bigint, OUT digest text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT m[1], m[2], CASE WHEN m[2] <> 'batch' THEN m[3]::date END, CASE WHEN m[2] = 'batch' THEN m[3]::uuid END,
         CASE WHEN m[2] = 'batch' THEN m[4]::bigint END, CASE WHEN m[2] <> 'batch' THEN m[4]::bigint END, m[5]::bigint, m[6]::bigint, m[7]
  FROM regexp_match(ledger_statement.statement,
    '^(compaction|pruning) (event|rollup|hour|day|admin|batch) ([-0-9a-f]+) parts=([0-9]+) rows=([0-9]+) counted=([0-9]+) digest=([0-9a-f]{64})$') AS m
$$;
COMMENT ON FUNCTION apikeyd.ledger_statement(text) IS 'Reads a statement: what was taken away. Of a table: its day, and how many parts, rows and verdicts, and SHA-256 over (chain, batch, part, digest) of the parts in their order. admin: batches whose sealed administration went (as parts), its rows, and SHA-256 over (chain, batch, seals_digest). batch: a chain, up to which batch (as parts), and the head of that one.';

CREATE FUNCTION apikeyd.ledger_gone(chain uuid, batch bigint, OUT parts bigint, OUT rows bigint, OUT counted bigint, OUT digest text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT count(*), coalesce(sum(p.rows), 0)::bigint, coalesce(sum(p.counted), 0)::bigint,
         encode(sha256(convert_to(coalesce(string_agg(apikeyd.ledger_line(p.chain::text, p.batch::text, p.part::text, encode(p.digest, 'hex')), '' ORDER BY p.chain, p.batch, p.part), ''), 'UTF8')), 'hex')
  FROM apikeyd.ledger_part p WHERE p.gone_chain = ledger_gone.chain AND p.gone_batch = ledger_gone.batch
$$;
COMMENT ON FUNCTION apikeyd.ledger_gone(uuid, bigint) IS 'The parts that were taken away with this batch, as its statement should name them.';

CREATE FUNCTION apikeyd.ledger_gone_seals(chain uuid, batch bigint, OUT parts bigint, OUT rows bigint, OUT digest text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT count(*), coalesce(sum(b.seals), 0)::bigint,
         encode(sha256(convert_to(coalesce(string_agg(apikeyd.ledger_line(b.chain::text, b.batch::text, encode(b.seals_digest, 'hex')), '' ORDER BY b.chain, b.batch), ''), 'UTF8')), 'hex')
  FROM apikeyd.ledger_batch b WHERE b.gone_chain = ledger_gone_seals.chain AND b.gone_batch = ledger_gone_seals.batch
$$;
COMMENT ON FUNCTION apikeyd.ledger_gone_seals(uuid, bigint) IS 'The batches whose sealed administration was taken away with this batch, as its statement should name them.';

CREATE FUNCTION apikeyd.ledger_verify_chains(since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity')
RETURNS TABLE (severity text, chain uuid, batch bigint, place text, problem text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  zero constant bytea := decode(repeat('00', 32), 'hex');
BEGIN
  -- One after the other.
  RETURN QUERY
    SELECT 'fault', l.chain, l.batch, 'ledger_batch',
           CASE WHEN l.before IS NULL AND c.chain IS NULL THEN 'its chain is not in ledger_chain'
                WHEN l.batch <> coalesce(l.before, c.pruned_batch) + 1 THEN format('batches %s to %s are missing', coalesce(l.before, c.pruned_batch) + 1, l.batch - 1)
                ELSE format('does not go on from the head of batch %s', l.batch - 1) END
    FROM (SELECT b.chain, b.batch, b.made_at, b.prev_head, lag(b.batch) OVER w AS before, lag(b.head) OVER w AS head_before
          FROM apikeyd.ledger_batch b WINDOW w AS (PARTITION BY b.chain ORDER BY b.batch)) AS l
    LEFT JOIN apikeyd.ledger_chain c ON c.chain = l.chain
    WHERE l.made_at >= since AND l.made_at < until
      AND (c.chain IS NULL AND l.before IS NULL OR l.batch <> coalesce(l.before, c.pruned_batch) + 1 OR l.prev_head <> coalesce(l.head_before, c.pruned_head))
    ORDER BY 2, 3;
  RETURN QUERY
    SELECT 'fault', c.chain, c.last_batch, 'ledger_chain', CASE WHEN b.batch IS NULL AND c.last_batch > c.pruned_batch
        THEN format('cut off: batch %s was the last, and batch %s is', c.last_batch, coalesce((SELECT max(m.batch) FROM apikeyd.ledger_batch m WHERE m.chain = c.chain), c.pruned_batch))
        WHEN EXISTS (SELECT FROM apikeyd.ledger_batch m WHERE m.chain = c.chain AND m.batch > c.last_batch) THEN 'there are batches after the last'
        ELSE 'its last_head is not the head of its last batch' END
    FROM apikeyd.ledger_chain c LEFT JOIN apikeyd.ledger_batch b ON b.chain = c.chain AND b.batch = c.last_batch
    WHERE (b.batch IS NULL AND c.last_batch > c.pruned_batch) OR b.head <> c.last_head
       OR EXISTS (SELECT FROM apikeyd.ledger_batch m WHERE m.chain = c.chain AND m.batch > c.last_batch)
    ORDER BY 2;
  -- Each by itself: the head is made of what it and its parts say.
  RETURN QUERY
    SELECT 'fault', b.chain, b.batch, 'ledger_batch', CASE
        WHEN p.parts <> b.parts THEN format('it should have %s part(s), and has %s in ledger_part', b.parts, p.parts)
        WHEN p.last <> b.parts THEN 'its parts are not numbered from 1'
        WHEN p.rows <> b.rows THEN format('it should have %s rows, and its parts have %s', b.rows, p.rows)
        ELSE 'the head is not that of what the batch and its parts say: one of them was changed' END
    FROM apikeyd.ledger_batch b
    CROSS JOIN LATERAL (
      SELECT count(*)::int AS parts, coalesce(max(q.part), 0) AS last, coalesce(sum(q.rows), 0) AS rows,
             coalesce(jsonb_agg(jsonb_build_object('tbl', q.tbl, 'day', q.day, 'rows', q.rows, 'counted', q.counted, 'digest', encode(q.digest, 'hex')) ORDER BY q.part), '[]') AS list
      FROM apikeyd.ledger_part q WHERE q.chain = b.chain AND q.batch = b.batch) AS p
    WHERE b.made_at >= since AND b.made_at < until
      AND (b.parts <> p.parts OR b.parts <> p.last OR b.head <> apikeyd.ledger_head(b.chain, b.batch, b.kind, apikeyd.ledger_us(b.made_at), b.rows, b.lost, b.statement, b.pepper_version, b.prev_head, b.seals, b.seals_digest, p.list))
    ORDER BY 2, 3;
  RETURN QUERY
    SELECT 'fault', p.chain, p.batch, format('ledger_part, part %s', p.part), 'its batch is not in ledger_batch'
    FROM apikeyd.ledger_part p WHERE NOT EXISTS (SELECT FROM apikeyd.ledger_batch b WHERE b.chain = p.chain AND b.batch = p.batch)
    ORDER BY 2, 3;
  -- What statements say went, and what says that it went.
  RETURN QUERY
    SELECT 'fault', b.chain, b.batch, 'ledger_batch', CASE
        WHEN s.kind IS NULL THEN 'its statement cannot be read'
        WHEN s.tbl = 'admin' THEN 'the administration that its statement says went is not what is marked as gone with it'
        WHEN s.tbl = 'batch' THEN 'its chain is not pruned up to the batch and head that its statement says'
        WHEN b.kind = 'compaction' AND (g.parts, g.rows, g.counted, g.digest) = (s.parts, s.rows, s.counted, s.digest)
          THEN format('compaction took %s verdicts away and put others in their place', s.counted)
        ELSE format('it says that %s part(s) with %s rows went; marked as gone with it are %s with %s', s.parts, s.rows, g.parts, g.rows) END
    FROM apikeyd.ledger_batch b CROSS JOIN LATERAL apikeyd.ledger_statement(b.statement) AS s
    CROSS JOIN LATERAL apikeyd.ledger_gone(b.chain, b.batch) AS g CROSS JOIN LATERAL apikeyd.ledger_gone_seals(b.chain, b.batch) AS z
    WHERE b.kind <> 'rows' AND b.made_at >= since AND b.made_at < until
      AND CASE WHEN s.kind IS NULL THEN true
               WHEN s.tbl = 'admin' AND EXISTS (SELECT FROM apikeyd.ledger_chain c WHERE c.pruned_batch > 0) AND z.parts < s.parts THEN false
               WHEN s.tbl = 'admin' THEN (z.parts, z.rows, z.digest) IS DISTINCT FROM (s.parts, s.rows, s.digest)
               WHEN s.tbl = 'batch' THEN NOT EXISTS (SELECT FROM apikeyd.ledger_chain c WHERE c.chain = s.chain
                 AND (c.pruned_batch > s.batch OR (c.pruned_batch = s.batch AND encode(c.pruned_head, 'hex') = s.digest)))
               -- Parts whose batch was pruned since are not there to be counted.
               WHEN EXISTS (SELECT FROM apikeyd.ledger_chain c WHERE c.pruned_batch > 0) AND g.parts < s.parts THEN false
               ELSE (g.parts, g.rows, g.counted, g.digest) IS DISTINCT FROM (s.parts, s.rows, s.counted, s.digest)
                 OR b.kind = 'compaction' AND s.counted <> (SELECT coalesce(sum(p.counted), 0) FROM apikeyd.ledger_part p WHERE p.chain = b.chain AND p.batch = b.batch) END
    ORDER BY 2, 3;
  RETURN QUERY
    SELECT 'fault', g.chain, g.batch, format('ledger_%s', g.what), format('said to be gone with batch %s of chain %s, which says no such thing', g.gone_batch, g.gone_chain)
    FROM (SELECT p.chain, p.batch, format('part, part %s', p.part) AS what, p.tbl, p.gone_chain, p.gone_batch FROM apikeyd.ledger_part p WHERE p.gone_chain IS NOT NULL OR p.gone_batch IS NOT NULL
          UNION ALL SELECT b.chain, b.batch, 'batch', 'admin', b.gone_chain, b.gone_batch FROM apikeyd.ledger_batch b WHERE b.gone_chain IS NOT NULL OR b.gone_batch IS NOT NULL) AS g
    LEFT JOIN apikeyd.ledger_batch t ON t.chain = g.gone_chain AND t.batch = g.gone_batch
    LEFT JOIN apikeyd.ledger_chain c ON c.chain = g.gone_chain
    WHERE (t.batch IS NULL AND (g.gone_batch > coalesce(c.pruned_batch, 0)) IS NOT FALSE) OR (t.batch IS NOT NULL AND (apikeyd.ledger_statement(t.statement)).tbl IS DISTINCT FROM g.tbl)
    ORDER BY 2, 3;
  RETURN QUERY
    SELECT 'fault', c.chain, c.pruned_batch, 'ledger_chain', 'said to be pruned up to here, and no statement says so'
    FROM apikeyd.ledger_chain c
    WHERE (c.pruned_batch > 0 OR c.pruned_head <> zero) AND NOT EXISTS (
      SELECT FROM apikeyd.ledger_batch b CROSS JOIN LATERAL apikeyd.ledger_statement(b.statement) AS s
      WHERE b.kind = 'pruning' AND s.tbl = 'batch' AND s.chain = c.chain AND s.batch = c.pruned_batch AND s.digest = encode(c.pruned_head, 'hex'))
    ORDER BY 2;
  -- What was lost is no tampering, but nobody should have to look for it.
  RETURN QUERY
    SELECT 'note', b.chain, b.batch, 'ledger_batch', format('%s verdict(s) found no room in the spool: only their number is known', b.lost)
    FROM apikeyd.ledger_batch b WHERE b.lost > 0 AND b.made_at >= since AND b.made_at < until ORDER BY 2, 3;
  RETURN QUERY
    SELECT 'fault', NULL::uuid, NULL::bigint, w.tab, format('trigger %s is missing or not enabled: rows could be changed', w.trig)
    FROM (SELECT t.tab, g.trig FROM unnest(ARRAY['ledger_batch', 'ledger_part', 'ledger_event', 'ledger_rollup', 'ledger_hour', 'ledger_day', 'ledger_admin', 'ledger_seal', 'ledger_chain']) AS t (tab),
            unnest(ARRAY['ledger_no_change', 'ledger_no_truncate']) AS g (trig)) AS w
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = format('apikeyd.%I', w.tab)::regclass AND t.tgname = w.trig AND t.tgenabled = 'A'
      AND t.tgfoid = 'apikeyd.ledger_refuse'::regproc)
    ORDER BY 4, 5;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_verify_chains(timestamptz, timestamptz) IS 'What is wrong with the chains, with the heads of batches that were made from since to until, and with what statements say was taken away.';

-- ---- administration ----

CREATE FUNCTION apikeyd.ledger_verify_admin(since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity')
RETURNS TABLE (severity text, chain uuid, batch bigint, place text, problem text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
    SELECT 'fault', s.chain, s.batch, format('ledger_admin, id %s', s.admin_id),
           CASE WHEN a.id IS NULL THEN 'a sealed row was removed' ELSE format('a sealed row was changed (%s of %s %s)', a.action, a.tbl, a.thing) END
    FROM apikeyd.ledger_seal s LEFT JOIN apikeyd.ledger_admin a ON a.id = s.admin_id
    WHERE a.id IS NULL OR (a.at >= since AND a.at < until AND sha256(convert_to(apikeyd.ledger_line_of(a), 'UTF8')) <> s.digest)
    ORDER BY s.admin_id;
  RETURN QUERY
    SELECT 'fault', b.chain, b.batch, 'ledger_seal', CASE
        WHEN z.seals <> b.seals THEN format('the batch sealed %s row(s) of administration, and has %s seals', b.seals, z.seals)
        ELSE 'a seal was changed, or seals were reordered: their digest is another' END
    FROM apikeyd.ledger_batch b
    CROSS JOIN LATERAL (SELECT count(*)::int AS seals, sha256(coalesce(string_agg(s.digest, ''::bytea ORDER BY s.n), '')) AS digest
                        FROM apikeyd.ledger_seal s WHERE s.chain = b.chain AND s.batch = b.batch) AS z
    WHERE b.gone_chain IS NULL AND b.made_at >= since AND b.made_at < until AND (z.seals, z.digest) IS DISTINCT FROM (b.seals, b.seals_digest)
    ORDER BY 2, 3;
  RETURN QUERY
    SELECT 'fault', s.chain, s.batch, format('ledger_seal, n %s', s.n),
           CASE WHEN b.batch IS NULL THEN 'its batch is not in ledger_batch' ELSE 'is there though its batch says that its seals are gone' END
    FROM apikeyd.ledger_seal s LEFT JOIN apikeyd.ledger_batch b ON b.chain = s.chain AND b.batch = s.batch
    WHERE b.batch IS NULL OR b.gone_chain IS NOT NULL
    ORDER BY 2, 3;
  RETURN QUERY
    SELECT CASE WHEN u.first_id IS NULL THEN 'fault' ELSE 'note' END, NULL::uuid, NULL::bigint, format('ledger_admin, id %s', a.id),
           CASE WHEN u.first_id IS NULL THEN format('inserted: no trigger wrote it (%s of %s %s)', a.action, a.tbl, a.thing)
                ELSE format('not sealed yet, since %s (%s of %s %s)', date_trunc('seconds', clock_timestamp() - a.at), a.action, a.tbl, a.thing) END
    FROM apikeyd.ledger_admin a
    LEFT JOIN apikeyd.ledger_unsealed u ON a.id BETWEEN u.first_id AND u.last_id AND u.txn = a.txn
    WHERE NOT EXISTS (SELECT FROM apikeyd.ledger_seal s WHERE s.admin_id = a.id) AND a.at >= since AND a.at < until
    ORDER BY a.id;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_verify_admin(timestamptz, timestamptz) IS 'What is wrong with administration from since to until; and as notes the rows that no batch has sealed yet.';

-- ---- all of it ----

CREATE FUNCTION apikeyd.ledger_verify(since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity')
RETURNS TABLE (severity text, chain uuid, batch bigint, place text, problem text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT * FROM apikeyd.ledger_verify_chains(ledger_verify.since, ledger_verify.until)
  UNION ALL
  SELECT * FROM apikeyd.ledger_verify_admin(ledger_verify.since, ledger_verify.until)
  UNION ALL
  SELECT v.* FROM apikeyd.ledger_partitions(ledger_verify.since, ledger_verify.until) AS p, apikeyd.ledger_verify_rows(p.tbl, p.day) AS v
$$;
COMMENT ON FUNCTION apikeyd.ledger_verify(timestamptz, timestamptz) IS 'What is wrong with the ledger, all of it or from since to until: what was changed, removed, reordered, inserted or cut off, and where (severity fault); and what is not sealed yet or was lost (note). No faults: it is as the daemons wrote it, unless somebody made all heads anew, which `apikeyctl audit verify` finds out.';

CREATE FUNCTION apikeyd.ledger_heads(after_chain uuid DEFAULT NULL, after_batch bigint DEFAULT 0, most int DEFAULT 1000)
RETURNS TABLE (chain uuid, batch bigint, head text, pepper_version smallint, mac text, made_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT b.chain, b.batch, encode(b.head, 'hex'), b.pepper_version, encode(b.mac, 'hex'), b.made_at FROM apikeyd.ledger_batch b
  WHERE (b.chain, b.batch) > (coalesce(ledger_heads.after_chain, '00000000-0000-0000-0000-000000000000'), ledger_heads.after_batch)
  ORDER BY b.chain, b.batch LIMIT ledger_heads.most
$$;
COMMENT ON FUNCTION apikeyd.ledger_heads(uuid, bigint, int) IS 'The heads of batches with the MACs that daemons made, after one of them: what `apikeyctl audit verify` shows to a daemon and compares with journals.';

GRANT EXECUTE ON FUNCTION apikeyd.ledger_verify(timestamptz, timestamptz), apikeyd.ledger_verify_chains(timestamptz, timestamptz),
    apikeyd.ledger_verify_admin(timestamptz, timestamptz), apikeyd.ledger_verify_rows(text, date),
    apikeyd.ledger_partitions(timestamptz, timestamptz), apikeyd.ledger_heads(uuid, bigint, int)
  TO apikeyd_auditor;

DO $$ BEGIN PERFORM apikeyd.force_reload(); END $$;

COMMIT;
