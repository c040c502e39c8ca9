-- Which row of a part was changed: a mark of each, beside the digest of all. It helps to find the place; the digest decides.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(19, 'ledger_marks'); END $$;

ALTER TABLE apikeyd.ledger_part ADD COLUMN marks bytea;
ALTER TABLE apikeyd.ledger_part ALTER COLUMN marks SET STORAGE EXTERNAL; -- there is nothing to compress
COMMENT ON COLUMN apikeyd.ledger_part.marks IS 'Of each row, in the order of n: n (4 bytes) and the first 4 bytes of the SHA-256 of its line, so that verification can say which one was changed. In no digest. Null: the rows were taken away, or the part is from before migration 20.';

-- ---- a batch ----
-- The rows come in the order of n, and each line is made once for the digest and the marks.

DROP FUNCTION apikeyd.ledger_digest(text, date, uuid, bigint);
CREATE FUNCTION apikeyd.ledger_digest(tbl text, day date, chain uuid, batch bigint,
  OUT rows bigint, OUT counted bigint, OUT n_sum bigint, OUT n_most bigint, OUT digest bytea, OUT marks bytea)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  span record;
BEGIN
  SELECT * INTO span FROM apikeyd.ledger_span(ledger_digest.tbl, ledger_digest.day);
  IF ledger_digest.tbl = 'event' THEN
    SELECT count(*), count(*), sum(s.n), max(s.n), sha256(string_agg(s.sha, ''::bytea)), string_agg(int4send(s.n) || substring(s.sha FOR 4), ''::bytea)
      INTO rows, counted, n_sum, n_most, digest, marks
      FROM (SELECT r.n, sha256(convert_to(apikeyd.ledger_line_of(r), 'UTF8')) AS sha FROM apikeyd.ledger_event r
            WHERE r.chain = ledger_digest.chain AND r.batch = ledger_digest.batch AND r.at >= span.since AND r.at < span.until ORDER BY r.n) AS s;
  ELSIF ledger_digest.tbl = 'rollup' THEN
    SELECT count(*), sum(s.count), sum(s.n), max(s.n), sha256(string_agg(s.sha, ''::bytea)), string_agg(int4send(s.n) || substring(s.sha FOR 4), ''::bytea)
      INTO rows, counted, n_sum, n_most, digest, marks
      FROM (SELECT r.n, r.count, sha256(convert_to(apikeyd.ledger_line_of(r), 'UTF8')) AS sha FROM apikeyd.ledger_rollup r
            WHERE r.chain = ledger_digest.chain AND r.batch = ledger_digest.batch AND r.minute >= span.since AND r.minute < span.until ORDER BY r.n) AS s;
  ELSIF ledger_digest.tbl = 'hour' THEN
    SELECT count(*), sum(s.count), sum(s.n), max(s.n), sha256(string_agg(s.sha, ''::bytea)), string_agg(int4send(s.n) || substring(s.sha FOR 4), ''::bytea)
      INTO rows, counted, n_sum, n_most, digest, marks
      FROM (SELECT r.n, r.count, sha256(convert_to(apikeyd.ledger_line_of(r), 'UTF8')) AS sha FROM apikeyd.ledger_hour r
            WHERE r.chain = ledger_digest.chain AND r.batch = ledger_digest.batch AND r.hour >= span.since AND r.hour < span.until ORDER BY r.n) AS s;
  ELSE
    SELECT count(*), sum(s.count), sum(s.n), max(s.n), sha256(string_agg(s.sha, ''::bytea)), string_agg(int4send(s.n) || substring(s.sha FOR 4), ''::bytea)
      INTO rows, counted, n_sum, n_most, digest, marks
      FROM (SELECT r.n, r.count, sha256(convert_to(apikeyd.ledger_line_of(r), 'UTF8')) AS sha FROM apikeyd.ledger_day r
            WHERE r.chain = ledger_digest.chain AND r.batch = ledger_digest.batch AND r.day_of >= span.since AND r.day_of < span.until ORDER BY r.n) AS s;
  END IF;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_digest(text, date, uuid, bigint) IS 'What is stored of a batch in one partition: rows, verdicts, the sum and the greatest of n, their digest and their marks.';

CREATE OR REPLACE FUNCTION apikeyd.ledger_close(chain uuid, batch bigint, kind text, made_at_us bigint, rows int, lost bigint, statement text,
  pepper_version smallint, prev_head bytea, parts jsonb, seals int, head bytea, mac bytea) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  part record;
  stored record;
  sealed record;
  rows_sum bigint := 0;
  n_sum bigint := 0;
  n_most bigint := 0;
  right_head bytea;
BEGIN
  IF ledger_close.batch <= (SELECT c.last_batch FROM apikeyd.ledger_chain c WHERE c.chain = ledger_close.chain) IS NOT FALSE THEN
    RAISE EXCEPTION 'batch % of chain % is there already, or ledger_begin() was not called', ledger_close.batch, ledger_close.chain
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  SELECT count(*)::int AS seals, sha256(coalesce(string_agg(s.digest, ''::bytea ORDER BY s.n), '')) AS digest INTO sealed
    FROM apikeyd.ledger_seal s WHERE s.chain = ledger_close.chain AND s.batch = ledger_close.batch;
  INSERT INTO apikeyd.ledger_batch (chain, batch, kind, made_at, rows, lost, parts, statement, seals, seals_digest, prev_head, head, pepper_version, mac)
  VALUES (ledger_close.chain, ledger_close.batch, ledger_close.kind, timestamptz 'epoch' + ledger_close.made_at_us * interval '1 microsecond',
          ledger_close.rows, ledger_close.lost, jsonb_array_length(ledger_close.parts), ledger_close.statement, sealed.seals, sealed.digest,
          ledger_close.prev_head, ledger_close.head, ledger_close.pepper_version, ledger_close.mac);

  FOR part IN SELECT p.i::int AS i, p.part ->> 'tbl' AS tbl, (p.part ->> 'day')::date AS day, (p.part ->> 'rows')::int AS rows,
                (p.part ->> 'counted')::bigint AS counted, decode(p.part ->> 'digest', 'hex') AS digest
              FROM jsonb_array_elements(ledger_close.parts) WITH ORDINALITY AS p (part, i) LOOP
    SELECT * INTO stored FROM apikeyd.ledger_digest(part.tbl, part.day, ledger_close.chain, ledger_close.batch);
    IF (stored.rows, stored.counted, stored.digest) IS DISTINCT FROM (part.rows::bigint, part.counted, part.digest) THEN
      RAISE EXCEPTION 'part % of batch % of chain % (%, %) is said to have % rows, % verdicts, digest %; stored are %, %, %',
          part.i, ledger_close.batch, ledger_close.chain, part.tbl, part.day, part.rows, part.counted, encode(part.digest, 'hex'),
          stored.rows, coalesce(stored.counted, 0), coalesce(encode(stored.digest, 'hex'), 'none')
        USING ERRCODE = 'data_corrupted', HINT = 'The daemon and the database do not agree about the encoding of a row; nothing of this batch is stored.';
    END IF;
    INSERT INTO apikeyd.ledger_part (chain, batch, part, tbl, day, rows, counted, digest, marks)
    VALUES (ledger_close.chain, ledger_close.batch, part.i, part.tbl, part.day, part.rows, part.counted, part.digest, stored.marks);
    rows_sum := rows_sum + stored.rows;
    n_sum := n_sum + stored.n_sum;
    n_most := greatest(n_most, stored.n_most);
  END LOOP;
  IF rows_sum <> ledger_close.rows OR n_most <> ledger_close.rows OR n_sum <> ledger_close.rows::bigint * (ledger_close.rows + 1) / 2 THEN
    RAISE EXCEPTION 'batch % of chain % is said to have % rows; its parts have %, numbered up to %', ledger_close.batch, ledger_close.chain,
        ledger_close.rows, rows_sum, n_most USING ERRCODE = 'data_corrupted';
  END IF;

  right_head := apikeyd.ledger_head(ledger_close.chain, ledger_close.batch, ledger_close.kind, ledger_close.made_at_us, ledger_close.rows,
      ledger_close.lost, ledger_close.statement, ledger_close.pepper_version, ledger_close.prev_head, sealed.seals, sealed.digest, ledger_close.parts);
  IF sealed.seals <> ledger_close.seals OR right_head IS DISTINCT FROM ledger_close.head THEN
    RAISE EXCEPTION 'batch % of chain % is said to have % seals and head %; it has % and %', ledger_close.batch, ledger_close.chain,
        ledger_close.seals, encode(ledger_close.head, 'hex'), sealed.seals, encode(right_head, 'hex') USING ERRCODE = 'data_corrupted';
  END IF;
  UPDATE apikeyd.ledger_chain c SET last_batch = ledger_close.batch, last_head = ledger_close.head WHERE c.chain = ledger_close.chain;
  IF ledger_close.kind <> 'rows' THEN
    PERFORM apikeyd.ledger_remove(ledger_close.chain, ledger_close.batch, ledger_close.statement); -- 0014
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION apikeyd.ledger_take(tbl text, day date, chain uuid, batch bigint) RETURNS text
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
  UPDATE apikeyd.ledger_part p SET gone_chain = ledger_take.chain, gone_batch = ledger_take.batch, marks = NULL
    WHERE p.tbl = ledger_take.tbl AND p.gone_chain IS NULL
      AND p.day >= (span.since AT TIME ZONE 'UTC')::date AND p.day < (span.until AT TIME ZONE 'UTC')::date;
  SELECT * INTO gone FROM apikeyd.ledger_gone(ledger_take.chain, ledger_take.batch);
  RETURN format('%s %s parts=%s rows=%s counted=%s digest=%s', ledger_take.tbl, (span.since AT TIME ZONE 'UTC')::date, gone.parts, gone.rows, gone.counted, gone.digest);
END
$$;

-- ---- verification ----

DROP FUNCTION apikeyd.ledger_stored(text, date);
CREATE FUNCTION apikeyd.ledger_stored(tbl text, day date)
RETURNS TABLE (chain uuid, batch bigint, rows bigint, counted bigint, digest bytea, marked bytea)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  span record;
BEGIN
  SELECT * INTO span FROM apikeyd.ledger_span(ledger_stored.tbl, ledger_stored.day);
  RETURN QUERY EXECUTE format(
    'SELECT s.chain, s.batch, count(*), sum(s.counted)::bigint, sha256(string_agg(s.sha, ''''::bytea)), sha256(string_agg(int4send(s.n) || substring(s.sha FOR 4), ''''::bytea))
     FROM (SELECT r.chain, r.batch, r.n, %s AS counted, sha256(convert_to(apikeyd.ledger_line_of(r), ''UTF8'')) AS sha
           FROM apikeyd.%I r WHERE r.%I >= $1 AND r.%3$I < $2 ORDER BY r.chain, r.batch, r.n) AS s
     GROUP BY s.chain, s.batch',
    CASE ledger_stored.tbl WHEN 'event' THEN '1' ELSE 'r.count' END, 'ledger_' || ledger_stored.tbl,
    CASE ledger_stored.tbl WHEN 'event' THEN 'at' WHEN 'rollup' THEN 'minute' WHEN 'hour' THEN 'hour' ELSE 'day_of' END)
    USING span.since, span.until;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_stored(text, date) IS 'What is stored in the partition that has this day, batch by batch: rows, verdicts, their digest, and SHA-256 of their marks.';

-- Rows at numbers that are not theirs are looked for among the first few that are odd: each is tried at each place.
CREATE FUNCTION apikeyd.ledger_odd_rows(tbl text, day date, chain uuid, batch bigint)
RETURNS TABLE (n int, problem text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  span record;
  few constant int := 50;
BEGIN
  SELECT * INTO span FROM apikeyd.ledger_span(ledger_odd_rows.tbl, ledger_odd_rows.day);
  RETURN QUERY EXECUTE format(
    $sql$
    WITH kept AS MATERIALIZED (
      SELECT p.marks || ''::bytea AS marks FROM apikeyd.ledger_part p
      WHERE p.tbl = $1 AND p.day >= ($4 AT TIME ZONE 'UTC')::date AND p.day < ($5 AT TIME ZONE 'UTC')::date AND p.chain = $2 AND p.batch = $3
        AND p.gone_chain IS NULL
    ), said AS MATERIALIZED (
      SELECT ('x' || encode(substring(k.marks FROM 8 * g.i + 1 FOR 4), 'hex'))::bit(32)::int AS n, substring(k.marks FROM 8 * g.i + 5 FOR 4) AS mark
      FROM kept k, generate_series(0, octet_length(k.marks) / 8 - 1) AS g (i)
    ), here AS MATERIALIZED (
      SELECT r.n, r.%2$I AS moment, r AS line, substring(sha256(convert_to(apikeyd.ledger_line_of(r), 'UTF8')) FOR 4) AS mark
      FROM apikeyd.%1$I r WHERE r.chain = $2 AND r.batch = $3 AND r.%2$I >= $4 AND r.%2$I < $5
    ), met AS (
      -- Of several with one number, the one that it belongs to comes first.
      SELECT h.n, h.line, h.mark, s.mark AS wanted, row_number() OVER () AS id,
             s.n IS NOT NULL AND row_number() OVER (PARTITION BY h.n ORDER BY (h.mark = s.mark) IS TRUE DESC, h.moment) = 1 AS placed
      FROM here h LEFT JOIN said s ON s.n = h.n
    ), odd AS MATERIALIZED (
      SELECT m.n, m.line, m.wanted, m.placed, m.id FROM met m WHERE NOT m.placed OR m.mark <> m.wanted
      UNION ALL SELECT s.n, NULL, s.mark, true, NULL FROM said s WHERE NOT EXISTS (SELECT FROM here h WHERE h.n = s.n)
    ), tried AS MATERIALIZED (
      SELECT DISTINCT ON (o.id) o.id, f.n AS was
      FROM (SELECT * FROM odd WHERE odd.id IS NOT NULL ORDER BY odd.n LIMIT $6) AS o
      JOIN (SELECT * FROM odd WHERE odd.placed ORDER BY odd.n LIMIT $6) AS f
        ON f.n <> o.n AND substring(sha256(convert_to(apikeyd.ledger_line_of(jsonb_populate_record(o.line, jsonb_build_object('n', f.n))), 'UTF8')) FOR 4) = f.wanted
      ORDER BY o.id, f.n
    )
    SELECT o.n, CASE
        WHEN o.id IS NULL THEN 'removed'
        WHEN t.was IS NOT NULL THEN format('reordered, it was n %%s', t.was)
        ELSE CASE WHEN o.placed THEN 'changed, it is now ' ELSE 'inserted, ' END
          || concat_ws(' ', to_char((o.line).%2$I AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), (o.line).verdict, (o.line).reason,
                       'key ' || (o.line).key_id, (o.line).scope, 'page ' || (o.line).page, %3$s) END
    FROM odd o LEFT JOIN tried t ON t.id = o.id
    WHERE o.id IS NOT NULL OR NOT EXISTS (SELECT FROM tried e WHERE e.was = o.n)
    ORDER BY o.n, o.placed DESC
    $sql$, 'ledger_' || ledger_odd_rows.tbl,
    CASE ledger_odd_rows.tbl WHEN 'event' THEN 'at' WHEN 'rollup' THEN 'minute' WHEN 'hour' THEN 'hour' ELSE 'day_of' END,
    CASE ledger_odd_rows.tbl WHEN 'event' THEN 'NULL' ELSE $s$'count ' || (o.line).count$s$ END)
    USING ledger_odd_rows.tbl, ledger_odd_rows.chain, ledger_odd_rows.batch, span.since, span.until, few;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_odd_rows(text, date, uuid, bigint) IS 'Which rows of a part are not as its marks say: n as it stands, and what happened to it. Where the part has no marks: nothing.';

CREATE OR REPLACE FUNCTION apikeyd.ledger_verify_rows(tbl text, day date)
RETURNS TABLE (severity text, chain uuid, batch bigint, place text, problem text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  most constant int := 10; -- rows that are named
  span record;
  odd record;
  named record;
  numbers record;
BEGIN
  SELECT * INTO span FROM apikeyd.ledger_span(ledger_verify_rows.tbl, ledger_verify_rows.day);
  FOR odd IN
    WITH said AS (
      -- A month of hours, or a year of days, has several parts of one batch: their digests are compared one by one.
      SELECT p.chain, p.batch, min(p.part) AS part, count(*) AS parts, sum(p.rows)::bigint AS rows, sum(p.counted)::bigint AS counted,
             CASE WHEN count(*) = 1 THEN (array_agg(p.digest))[1] END AS digest, CASE WHEN count(*) = 1 THEN (array_agg(sha256(p.marks)))[1] END AS marked,
             bool_and(octet_length(p.marks) = 8 * p.rows) IS TRUE AS marks_fit
      FROM apikeyd.ledger_part p
      WHERE p.tbl = ledger_verify_rows.tbl AND p.gone_chain IS NULL
        AND p.day >= (span.since AT TIME ZONE 'UTC')::date AND p.day < (span.until AT TIME ZONE 'UTC')::date
      GROUP BY p.chain, p.batch
    )
    SELECT coalesce(said.chain, here.chain) AS chain, coalesce(said.batch, here.batch) AS batch, said.part,
           said.rows AS said_rows, here.rows AS here_rows, said.counted AS said_counted, here.counted AS here_counted,
           (said.rows, said.counted, said.digest) IS DISTINCT FROM (here.rows, here.counted, here.digest) AS wrong,
           said.marks_fit, said.marked = here.marked AS marks_agree
    FROM said FULL JOIN apikeyd.ledger_stored(ledger_verify_rows.tbl, ledger_verify_rows.day) AS here
      ON here.chain = said.chain AND here.batch = said.batch
    WHERE (said.rows, said.counted, said.digest) IS DISTINCT FROM (here.rows, here.counted, here.digest) OR said.marked <> here.marked
    ORDER BY 1, 2
  LOOP
    severity := 'fault';
    chain := odd.chain;
    batch := odd.batch;
    SELECT * INTO numbers FROM apikeyd.ledger_numbers(odd.chain, odd.batch);
    SELECT count(*) AS rows, string_agg(r.n::text, ', ' ORDER BY r.i) FILTER (WHERE r.i <= most) AS places,
           string_agg(format('n %s: %s', r.n, r.problem), '; ' ORDER BY r.i) FILTER (WHERE r.i <= most) AS problems INTO named
      FROM apikeyd.ledger_odd_rows(ledger_verify_rows.tbl, ledger_verify_rows.day, odd.chain, odd.batch) WITH ORDINALITY AS r (n, problem, i)
      WHERE odd.here_rows IS NOT NULL AND (odd.part IS NULL OR odd.marks_fit);
    place := concat_ws(', ', span.partition, 'part ' || odd.part, 'n ' || named.places);
    problem := CASE
        WHEN NOT odd.wrong THEN 'its marks are not those of its rows, though its digest is: marks were changed, or rows and the digest were'
        WHEN odd.part IS NULL THEN format('%s row(s) that no part says are there: inserted', odd.here_rows)
        WHEN odd.here_rows IS NULL THEN format('all its %s row(s) are gone', odd.said_rows)
        WHEN odd.here_rows < odd.said_rows THEN format('%s of %s row(s) removed', odd.said_rows - odd.here_rows, odd.said_rows)
        WHEN odd.here_rows > odd.said_rows THEN format('%s row(s) inserted beside the %s', odd.here_rows - odd.said_rows, odd.said_rows)
        WHEN odd.here_counted <> odd.said_counted THEN format('a row was changed: it counts %s verdicts, and should %s', odd.here_counted, odd.said_counted)
        ELSE 'a row was changed, or rows were reordered: the digest is another' END
      || CASE WHEN named.rows > most THEN format('; %s; and %s more', named.problems, named.rows - most)
              WHEN named.rows > 0 THEN '; ' || named.problems
              WHEN odd.wrong AND odd.marks_agree THEN '; which one cannot be said: its mark was changed as well, or what the part says was'
              ELSE '' END
      || CASE WHEN named.rows = 0 AND numbers.missing IS NOT NULL THEN '; n ' || numbers.missing || ' missing' ELSE '' END
      || CASE WHEN named.rows = 0 AND numbers.surplus IS NOT NULL THEN '; n ' || numbers.surplus || ' too many' ELSE '' END;
    RETURN NEXT;
  END LOOP;
END
$$;

DO $$ BEGIN PERFORM apikeyd.force_reload(); END $$;

COMMIT;
