-- The auditor's questions stay questions to an index, or to the partitions of their time, however much the ledger has:
-- what tests/bench/ledger_views shows of ten million rows, and tests/system/test_plans.py of few.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(18, 'ledger_plans'); END $$;

-- ---- when a key was last used ----

CREATE INDEX ledger_event_last ON apikeyd.ledger_event (key_id, at) WHERE verdict = 'allow' AND NOT explain;

-- The newest row of each key, in the order of an index: to sort, or to read the rows themselves, is dearer. A filter by
-- key goes down to the index.
CREATE VIEW apikeyd.key_last_allowed AS
SELECT v.key_id, max(v.last_at) AS last_at FROM (
  (SELECT DISTINCT ON (e.key_id) e.key_id, e.at AS last_at FROM apikeyd.ledger_event e WHERE e.verdict = 'allow' AND NOT e.explain
   ORDER BY e.key_id DESC, e.at DESC)
  UNION ALL
  (SELECT DISTINCT ON (r.key_id) r.key_id, r.last_at FROM apikeyd.ledger_rollup r WHERE r.verdict = 'allow' ORDER BY r.key_id DESC, r.last_at DESC)
  UNION ALL
  (SELECT DISTINCT ON (r.key_id) r.key_id, r.last_at FROM apikeyd.ledger_hour r WHERE r.verdict = 'allow' ORDER BY r.key_id DESC, r.last_at DESC)
  UNION ALL
  (SELECT DISTINCT ON (r.key_id) r.key_id, r.last_at FROM apikeyd.ledger_day r WHERE r.verdict = 'allow' ORDER BY r.key_id DESC, r.last_at DESC)) AS v
GROUP BY v.key_id;
COMMENT ON VIEW apikeyd.key_last_allowed IS 'Of each key that was ever allowed something, when it last was. Read the view apikeyd.key_last_used.';
COMMENT ON COLUMN apikeyd.key_last_allowed.key_id IS 'The key.';
COMMENT ON COLUMN apikeyd.key_last_allowed.last_at IS 'When it was last allowed something.';

CREATE OR REPLACE VIEW apikeyd.key_last_used AS
SELECT k.id AS key_id, k.kind, coalesce(u.email, o.slug) AS owner, k.name, a.last_at AS last_used_at, k.created_at
FROM apikeyd.key k LEFT JOIN apikeyd.user u ON u.id = k.user_id LEFT JOIN apikeyd.organization o ON o.id = k.organization_id
LEFT JOIN apikeyd.key_last_allowed a ON a.key_id = k.id;

CREATE OR REPLACE VIEW apikeyd.keys_never_used AS
SELECT k.id AS key_id, k.kind, coalesce(k.email, k.organization) AS owner, k.name, k.created_at, k.created_by, k.expires_at
FROM apikeyd.keys k
WHERE k.state = 'live' AND NOT EXISTS (SELECT FROM apikeyd.key_last_allowed a WHERE a.key_id = k.id);

-- From the key to its pages, not from all pages to the key.
CREATE OR REPLACE VIEW apikeyd.never_used_pages AS
SELECT k.id AS key_id, coalesce(k.email, k.organization) AS owner, p.slug AS page, k.narrowed_pages AS named
FROM apikeyd.keys k
CROSS JOIN LATERAL (
  SELECT o.id, o.slug FROM apikeyd.page o WHERE o.organization_id = k.organization_id
  UNION SELECT q.id, q.slug FROM apikeyd.page_member m JOIN apikeyd.page q ON q.id = m.page_id WHERE m.user_id = k.user_id
  UNION SELECT q.id, q.slug FROM apikeyd.organization_member m JOIN apikeyd.page q ON q.organization_id = m.organization_id WHERE m.user_id = k.user_id
) AS p
WHERE k.state = 'live' AND (NOT k.narrowed_pages OR EXISTS (SELECT FROM apikeyd.key_page g WHERE g.key_id = k.id AND g.page_id = p.id))
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_day r WHERE r.key_id = k.id AND r.page = p.slug AND r.verdict = 'allow')
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_hour r WHERE r.key_id = k.id AND r.page = p.slug AND r.verdict = 'allow')
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_rollup r WHERE r.key_id = k.id AND r.page = p.slug AND r.verdict = 'allow')
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_event r WHERE r.key_id = k.id AND r.page = p.slug AND r.verdict = 'allow' AND NOT r.explain);

-- ---- a time within a month of hours or a year of days ----
-- Compaction adds them in the order of time, and nobody takes one away alone: the ranges of blocks tell them apart.

CREATE INDEX ledger_hour_span ON apikeyd.ledger_hour USING brin (hour) WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX ledger_day_span ON apikeyd.ledger_day USING brin (day_of) WITH (pages_per_range = 16, autosummarize = on);

-- ---- what is due ----
-- Each daemon asks each minute.

CREATE INDEX ledger_part_here ON apikeyd.ledger_part (tbl, day) WHERE gone_chain IS NULL;
CREATE INDEX ledger_batch_sealing ON apikeyd.ledger_batch (made_at) WHERE seals > 0 AND gone_chain IS NULL;

CREATE OR REPLACE FUNCTION apikeyd.ledger_partitions(since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity')
RETURNS TABLE (tbl text, day date)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  -- From each day that parts have to the next, by index.
  WITH RECURSIVE said (tbl, day) AS (
    (SELECT p.tbl, p.day FROM apikeyd.ledger_part p WHERE p.gone_chain IS NULL ORDER BY p.tbl, p.day LIMIT 1)
    UNION ALL
    SELECT n.tbl, n.day FROM said s CROSS JOIN LATERAL (
      SELECT p.tbl, p.day FROM apikeyd.ledger_part p WHERE p.gone_chain IS NULL AND (p.tbl, p.day) > (s.tbl, s.day) ORDER BY p.tbl, p.day LIMIT 1) AS n
  ), there (tbl, day) AS (
    SELECT t.tbl, to_date(rpad(substring(c.relname FROM '[0-9]+$'), 8, '0101'), 'YYYYMMDD')
    FROM unnest(ARRAY['event', 'rollup', 'hour', 'day']) AS t (tbl)
    JOIN pg_catalog.pg_inherits i ON i.inhparent = format('apikeyd.ledger_%s', t.tbl)::regclass
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    UNION
    SELECT p.tbl, (apikeyd.ledger_span(p.tbl, p.day)).since::timestamp::date FROM said p
  )
  SELECT DISTINCT w.tbl, (s.since AT TIME ZONE 'UTC')::date FROM there w, apikeyd.ledger_span(w.tbl, w.day) AS s
  WHERE s.until > ledger_partitions.since AND s.since < ledger_partitions.until
  ORDER BY 2, 1
$$;

CREATE OR REPLACE FUNCTION apikeyd.ledger_due() RETURNS TABLE (kind text, tbl text, day date)
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
      SELECT FROM apikeyd.ledger_unsealed u CROSS JOIN LATERAL (
        -- The rows of a statement are of one moment: the first will do.
        SELECT a.at FROM apikeyd.ledger_admin a WHERE a.id BETWEEN u.first_id AND u.last_id AND a.txn = u.txn ORDER BY a.id LIMIT 1) AS w
      WHERE w.at < clock_timestamp() - interval '1 min')
  ) AS d ORDER BY d.day NULLS LAST, d.tbl
$$;

-- ---- administration ----

-- For the beginning of a thing, too, such as all memberships of an organization; and dearer collations are not asked.
DROP INDEX apikeyd.ledger_admin_thing;
CREATE INDEX ledger_admin_thing ON apikeyd.ledger_admin (tbl, thing text_pattern_ops);
-- What is named by something that can change, by its id.
CREATE INDEX ledger_admin_id ON apikeyd.ledger_admin (tbl, (coalesce(after, before) ->> 'id')) WHERE tbl IN ('organization', 'page', 'user');
CREATE INDEX ledger_admin_page ON apikeyd.ledger_admin ((coalesce(after, before) ->> 'page_id')) WHERE tbl = 'key_page';
-- What was one thing and became another: its row stands under the second.
CREATE INDEX ledger_admin_moved ON apikeyd.ledger_admin (tbl)
  WHERE action = 'update' AND tbl IN ('organization_member', 'page_member', 'key_page', 'key_scope', 'key_network') AND before - 'role' <> after - 'role';

-- From each thing to its rows, by index, whatever the statistics say. Between '/' and '0' is what begins with a slash.
CREATE OR REPLACE FUNCTION apikeyd.access_changes(page text, since timestamptz DEFAULT '-infinity')
RETURNS TABLE (at timestamptz, who text, action text, tbl text, thing text, changed text, login text, client_addr inet, sealed boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
  WITH p AS (
    -- The page as it is, or as it was when it was deleted.
    SELECT p.id, p.organization_id FROM apikeyd.page p WHERE p.slug = access_changes.page
    UNION SELECT (a.before ->> 'id')::bigint, (a.before ->> 'organization_id')::bigint FROM apikeyd.ledger_admin a
      WHERE a.tbl = 'page' AND a.action = 'delete' AND a.thing = access_changes.page
  ), moved AS (
    SELECT a.id, a.tbl, a.before FROM apikeyd.ledger_admin a
    WHERE a.action = 'update' AND a.tbl IN ('organization_member', 'page_member', 'key_page', 'key_scope', 'key_network') AND a.before - 'role' <> a.after - 'role'
  ), under (id, tbl, before) AS (
    -- The memberships of the organization and of the page, those of before too.
    SELECT a.id, 'organization_member', a.before FROM p CROSS JOIN LATERAL (SELECT a.id, a.before FROM apikeyd.ledger_admin a
      WHERE a.tbl = 'organization_member' AND a.thing ~>=~ (p.organization_id || '/') AND a.thing ~<~ (p.organization_id || '0') OFFSET 0) AS a
    UNION ALL SELECT a.id, 'page_member', a.before FROM p CROSS JOIN LATERAL (SELECT a.id, a.before FROM apikeyd.ledger_admin a
      WHERE a.tbl = 'page_member' AND a.thing ~>=~ (p.id || '/') AND a.thing ~<~ (p.id || '0') OFFSET 0) AS a
    UNION ALL SELECT a.id, a.tbl, a.before FROM p JOIN moved a ON (a.tbl = 'organization_member' AND a.before ->> 'organization_id' = p.organization_id::text)
      OR (a.tbl = 'page_member' AND a.before ->> 'page_id' = p.id::text)
  ), member (user_id) AS (
    SELECT m.user_id FROM p JOIN apikeyd.organization_member m ON m.organization_id = p.organization_id
    UNION SELECT m.user_id FROM p JOIN apikeyd.page_member m ON m.page_id = p.id
    UNION SELECT (u.before ->> 'user_id')::bigint FROM under u WHERE u.before IS NOT NULL
  ), k (id) AS (
    -- Whose a key is never changes, and none is deleted.
    SELECT k.id COLLATE "default" FROM p JOIN apikeyd.key k ON k.organization_id = p.organization_id
    UNION SELECT k.id COLLATE "default" FROM member m JOIN apikeyd.key k ON k.user_id = m.user_id
  ), hit (id) AS (
    SELECT a.id FROM apikeyd.ledger_admin a WHERE a.tbl IN ('scope', 'role', 'role_scope', 'history') AND EXISTS (SELECT FROM p)
    UNION SELECT a.id FROM p CROSS JOIN LATERAL (SELECT a.id FROM apikeyd.ledger_admin a
      WHERE a.tbl = 'page' AND coalesce(a.after, a.before) ->> 'id' = p.id::text OFFSET 0) AS a
    UNION SELECT a.id FROM p CROSS JOIN LATERAL (SELECT a.id FROM apikeyd.ledger_admin a
      WHERE a.tbl = 'organization' AND coalesce(a.after, a.before) ->> 'id' = p.organization_id::text OFFSET 0) AS a
    UNION SELECT u.id FROM under u
    UNION SELECT a.id FROM p CROSS JOIN LATERAL (SELECT a.id FROM apikeyd.ledger_admin a
      WHERE a.tbl = 'key_page' AND coalesce(a.after, a.before) ->> 'page_id' = p.id::text OFFSET 0) AS a
    UNION SELECT a.id FROM member m CROSS JOIN LATERAL (SELECT a.id FROM apikeyd.ledger_admin a
      WHERE a.tbl = 'user' AND coalesce(a.after, a.before) ->> 'id' = m.user_id::text OFFSET 0) AS a
    UNION SELECT a.id FROM k CROSS JOIN LATERAL (SELECT a.id FROM apikeyd.ledger_admin a WHERE a.tbl = 'key' AND a.thing = k.id OFFSET 0) AS a
    UNION SELECT a.id FROM k CROSS JOIN LATERAL (SELECT a.id FROM apikeyd.ledger_admin a
      WHERE a.tbl = 'key_scope' AND a.thing ~>=~ (k.id || '/') AND a.thing ~<~ (k.id || '0') OFFSET 0) AS a
    UNION SELECT a.id FROM k CROSS JOIN LATERAL (SELECT a.id FROM apikeyd.ledger_admin a
      WHERE a.tbl = 'key_network' AND a.thing ~>=~ (k.id || '/') AND a.thing ~<~ (k.id || '0') OFFSET 0) AS a
    UNION SELECT a.id FROM p JOIN moved a ON a.tbl = 'key_page' AND a.before ->> 'page_id' = p.id::text
    UNION SELECT a.id FROM k JOIN moved a ON a.tbl IN ('key_scope', 'key_network') AND a.before ->> 'key_id' = k.id
  )
  SELECT a.at, a.who, a.action, a.tbl, a.thing, a.changed, a.login, a.client_addr, a.sealed
  FROM hit CROSS JOIN LATERAL (SELECT a.* FROM apikeyd.administration a WHERE a.id = hit.id AND a.at >= access_changes.since OFFSET 0) AS a
  ORDER BY a.at, a.id
$$;

GRANT SELECT ON apikeyd.key_last_allowed TO apikeyd_auditor;

DO $$ BEGIN PERFORM apikeyd.force_reload(); END $$;

COMMIT;
