-- What an auditor asks of the ledger and of the rule: views, and functions where a question has a subject.
--
-- Filter by time (at) or by key: the first leaves only the partitions of that time to be read, the second reads an index.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(15, 'ledger_views'); END $$;

-- ---- verdicts ----

CREATE VIEW apikeyd.verdicts AS
SELECT e.at, e.at AS last_at, 1::bigint AS count, e.verdict, e.reason, e.key_id, e.scope, e.page, e.addr, e.caller_uid, e.stack,
       e.method, e.org, e.rev, e.age_ms, e.stale, e.explain, 'event' AS kept
FROM apikeyd.ledger_event e
UNION ALL
SELECT r.minute, r.last_at, r.count, r.verdict, r.reason, r.key_id, r.scope, r.page, r.addr, r.caller_uid, r.stack, NULL, NULL, NULL, NULL, NULL, false, 'minute'
FROM apikeyd.ledger_rollup r
UNION ALL
SELECT r.hour, r.last_at, r.count, r.verdict, r.reason, r.key_id, r.scope, r.page, r.addr, r.caller_uid, r.stack, NULL, NULL, NULL, NULL, NULL, false, 'hour'
FROM apikeyd.ledger_hour r
UNION ALL
SELECT r.day_of, r.last_at, r.count, r.verdict, r.reason, r.key_id, r.scope, r.page, r.addr, r.caller_uid, r.stack, NULL, NULL, NULL, NULL, NULL, false, 'day'
FROM apikeyd.ledger_day r;
COMMENT ON VIEW apikeyd.verdicts IS 'Every verdict that is accounted for: one by one, or counted by the minute, the hour or the day. Sum count. Filter by at.';
COMMENT ON COLUMN apikeyd.verdicts.at IS 'When it was given; of what is counted, the beginning of the minute, hour or day.';
COMMENT ON COLUMN apikeyd.verdicts.last_at IS 'When the last of them was given.';
COMMENT ON COLUMN apikeyd.verdicts.count IS 'How many.';
COMMENT ON COLUMN apikeyd.verdicts.kept IS 'event, minute, hour or day: how exactly it is kept.';

CREATE VIEW apikeyd.denials AS
SELECT v.at, v.last_at, v.count, v.verdict, v.reason, v.key_id, coalesce(u.email, o.slug) AS owner, k.name AS key_name, v.scope, v.page, v.addr,
       v.caller_uid, v.stack, v.kept
FROM apikeyd.verdicts v LEFT JOIN apikeyd.key k ON k.id = v.key_id LEFT JOIN apikeyd.user u ON u.id = k.user_id
LEFT JOIN apikeyd.organization o ON o.id = k.organization_id
WHERE v.verdict <> 'allow' AND NOT v.explain;
COMMENT ON VIEW apikeyd.denials IS 'What was refused, and why: denials, and faults as unavailable. Filter by at or by key_id.';
COMMENT ON COLUMN apikeyd.denials.owner IS 'Whose key: the user''s email or the organization''s slug.';
COMMENT ON COLUMN apikeyd.denials.key_name IS 'What people call the key.';

CREATE VIEW apikeyd.key_usage AS
SELECT v.key_id, v.scope, v.page, v.caller_uid, v.stack, v.verdict, v.reason, sum(v.count)::bigint AS count, min(v.at) AS first_at, max(v.last_at) AS last_at
FROM (
  SELECT * FROM apikeyd.verdicts a WHERE a.verdict = 'allow' AND NOT a.explain
  UNION ALL
  SELECT * FROM apikeyd.verdicts d WHERE d.verdict <> 'allow' AND NOT d.explain
) AS v
WHERE v.key_id IS NOT NULL
GROUP BY v.key_id, v.scope, v.page, v.caller_uid, v.stack, v.verdict, v.reason;
COMMENT ON VIEW apikeyd.key_usage IS 'What each key was used for, by whom, and how often, over all that the ledger keeps. Filter by key_id.';
COMMENT ON COLUMN apikeyd.key_usage.count IS 'How many verdicts.';
COMMENT ON COLUMN apikeyd.key_usage.first_at IS 'When the first was given, as exactly as it is kept.';
COMMENT ON COLUMN apikeyd.key_usage.last_at IS 'When the last was given.';

-- Read by index alone.
CREATE VIEW apikeyd.key_last_used AS
SELECT k.id AS key_id, k.kind, coalesce(u.email, o.slug) AS owner, k.name, a.last_at AS last_used_at, k.created_at
FROM apikeyd.key k LEFT JOIN apikeyd.user u ON u.id = k.user_id LEFT JOIN apikeyd.organization o ON o.id = k.organization_id
LEFT JOIN (
  SELECT v.key_id, max(v.last_at) AS last_at FROM (
    SELECT e.key_id, e.at AS last_at FROM apikeyd.ledger_event e WHERE e.verdict = 'allow' AND NOT e.explain
    UNION ALL SELECT r.key_id, r.last_at FROM apikeyd.ledger_rollup r WHERE r.verdict = 'allow'
    UNION ALL SELECT r.key_id, r.last_at FROM apikeyd.ledger_hour r WHERE r.verdict = 'allow'
    UNION ALL SELECT r.key_id, r.last_at FROM apikeyd.ledger_day r WHERE r.verdict = 'allow') AS v
  GROUP BY v.key_id) AS a ON a.key_id = k.id;
COMMENT ON VIEW apikeyd.key_last_used IS 'When each key was last allowed something. Null: never, in all that the ledger keeps.';
COMMENT ON COLUMN apikeyd.key_last_used.owner IS 'The user''s email or the organization''s slug.';
COMMENT ON COLUMN apikeyd.key_last_used.last_used_at IS 'When it was last allowed something.';

CREATE VIEW apikeyd.keys_never_used AS
SELECT k.id AS key_id, k.kind, coalesce(k.email, k.organization) AS owner, k.name, k.created_at, k.created_by, k.expires_at
FROM apikeyd.keys k
WHERE k.state = 'live'
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_day r WHERE r.key_id = k.id AND r.verdict = 'allow')
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_hour r WHERE r.key_id = k.id AND r.verdict = 'allow')
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_rollup r WHERE r.key_id = k.id AND r.verdict = 'allow')
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_event r WHERE r.key_id = k.id AND r.verdict = 'allow' AND NOT r.explain);
COMMENT ON VIEW apikeyd.keys_never_used IS 'Live keys that were never allowed anything, in all that the ledger keeps.';
COMMENT ON COLUMN apikeyd.keys_never_used.owner IS 'The user''s email or the organization''s slug.';

-- ---- rights that nobody uses ----

CREATE VIEW apikeyd.never_used_scopes AS
SELECT g.key_id, coalesce(g.email, g.organization) AS owner, g.scope, g.named
FROM (
  SELECT k.id AS key_id, k.email, k.organization, h.scope, bool_or(s.scope IS NOT NULL) AS named
  FROM apikeyd.keys k
  CROSS JOIN LATERAL (
    SELECT 'key' AS place, k.access AS role WHERE k.kind = 'organization'
    UNION SELECT m.place, m.role FROM apikeyd.organization_member m WHERE m.user_id = k.user_id
    UNION SELECT m.place, m.role FROM apikeyd.page_member m WHERE m.user_id = k.user_id) AS held
  JOIN apikeyd.role_scope h ON h.place = held.place AND h.role = held.role
  LEFT JOIN apikeyd.key_scope s ON s.key_id = k.id AND s.scope = h.scope
  LEFT JOIN apikeyd.key_scope w ON w.key_id = k.id AND split_part(h.scope, ':', 2) = 'read' AND w.scope = split_part(h.scope, ':', 1) || ':write'
  WHERE k.state = 'live' AND (NOT k.narrowed_scopes OR s.scope IS NOT NULL OR w.scope IS NOT NULL) AND (NOT h.when_named OR (k.narrowed_scopes AND s.scope IS NOT NULL))
  GROUP BY k.id, k.email, k.organization, h.scope
) AS g
WHERE NOT EXISTS (SELECT FROM apikeyd.ledger_day r WHERE r.key_id = g.key_id AND r.scope = g.scope AND r.verdict = 'allow')
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_hour r WHERE r.key_id = g.key_id AND r.scope = g.scope AND r.verdict = 'allow')
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_rollup r WHERE r.key_id = g.key_id AND r.scope = g.scope AND r.verdict = 'allow')
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_event r WHERE r.key_id = g.key_id AND r.scope = g.scope AND r.verdict = 'allow' AND NOT r.explain);
COMMENT ON VIEW apikeyd.never_used_scopes IS 'Scopes that live keys hold, somewhere, and were never allowed: they could be narrowed by these. Filter by key_id or owner.';
COMMENT ON COLUMN apikeyd.never_used_scopes.key_id IS 'The key.';
COMMENT ON COLUMN apikeyd.never_used_scopes.owner IS 'The user''s email or the organization''s slug.';
COMMENT ON COLUMN apikeyd.never_used_scopes.scope IS 'A scope that its role or access holds, within its narrowing.';
COMMENT ON COLUMN apikeyd.never_used_scopes.named IS 'Whether the key''s own scopes name it.';

CREATE VIEW apikeyd.never_used_pages AS
SELECT k.id AS key_id, coalesce(k.email, k.organization) AS owner, p.slug AS page, k.narrowed_pages AS named
FROM apikeyd.keys k
JOIN apikeyd.page p ON CASE WHEN k.narrowed_pages THEN EXISTS (SELECT FROM apikeyd.key_page g WHERE g.key_id = k.id AND g.page_id = p.id) ELSE true END
  AND CASE k.kind WHEN 'organization' THEN p.organization_id = k.organization_id
      ELSE EXISTS (SELECT FROM apikeyd.page_member m WHERE m.user_id = k.user_id AND m.page_id = p.id)
        OR EXISTS (SELECT FROM apikeyd.organization_member m WHERE m.user_id = k.user_id AND m.organization_id = p.organization_id) END
WHERE k.state = 'live'
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_day r WHERE r.key_id = k.id AND r.page = p.slug AND r.verdict = 'allow')
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_hour r WHERE r.key_id = k.id AND r.page = p.slug AND r.verdict = 'allow')
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_rollup r WHERE r.key_id = k.id AND r.page = p.slug AND r.verdict = 'allow')
  AND NOT EXISTS (SELECT FROM apikeyd.ledger_event r WHERE r.key_id = k.id AND r.page = p.slug AND r.verdict = 'allow' AND NOT r.explain);
COMMENT ON VIEW apikeyd.never_used_pages IS 'Pages that live keys reach and were never allowed anything on: they could be narrowed by these. Filter by key_id or owner.';
COMMENT ON COLUMN apikeyd.never_used_pages.key_id IS 'The key.';
COMMENT ON COLUMN apikeyd.never_used_pages.owner IS 'The user''s email or the organization''s slug.';
COMMENT ON COLUMN apikeyd.never_used_pages.page IS 'The page''s slug.';
COMMENT ON COLUMN apikeyd.never_used_pages.named IS 'Whether the key is narrowed to pages, and this is one of them.';

-- ---- who can, and what: by the oracle, so that there is one rule ----

-- An address that the key's networks let pass: questions about rights are not about where somebody stands.
CREATE FUNCTION apikeyd.some_address(key_id text) RETURNS inet
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT host(n.network)::inet FROM apikeyd.key_network n WHERE n.key_id = some_address.key_id ORDER BY n.network LIMIT 1 $$;
COMMENT ON FUNCTION apikeyd.some_address(text) IS 'An address in one of the networks that a key is narrowed to; null: it is narrowed to none.';

CREATE FUNCTION apikeyd.who_can(scope text, page text DEFAULT NULL, org text DEFAULT NULL)
RETURNS TABLE (key_id text, kind text, owner text, key_name text, role text, networks cidr[], expires_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  WITH place AS (
    SELECT p.id AS page_id, p.organization_id FROM apikeyd.page p WHERE p.slug = who_can.page
    UNION ALL SELECT NULL, o.id FROM apikeyd.organization o WHERE who_can.page IS NULL AND o.slug = who_can.org
  ), candidate AS (
    SELECT k.id, k.access AS role FROM place w JOIN apikeyd.key k ON k.organization_id = w.organization_id
    UNION ALL
    SELECT k.id, coalesce((SELECT m.role FROM apikeyd.page_member m WHERE m.page_id = w.page_id AND m.user_id = k.user_id),
                          (SELECT m.role FROM apikeyd.organization_member m WHERE m.organization_id = w.organization_id AND m.user_id = k.user_id))
    FROM place w JOIN apikeyd.key k ON k.user_id IN (
      SELECT m.user_id FROM apikeyd.organization_member m WHERE m.organization_id = w.organization_id
      UNION SELECT m.user_id FROM apikeyd.page_member m WHERE m.page_id = w.page_id)
  )
  SELECT k.id, k.kind, coalesce(u.email, o.slug), k.name, c.role,
         CASE WHEN k.narrowed_networks THEN ARRAY(SELECT n.network FROM apikeyd.key_network n WHERE n.key_id = k.id ORDER BY 1) END, nullif(k.expires_at, 'infinity')
  FROM candidate c JOIN apikeyd.key k ON k.id = c.id
  LEFT JOIN apikeyd.user u ON u.id = k.user_id LEFT JOIN apikeyd.organization o ON o.id = k.organization_id
  CROSS JOIN LATERAL apikeyd.explain_rights(k.id, who_can.scope, who_can.page, who_can.org, apikeyd.some_address(k.id), clock_timestamp()) AS x
  WHERE x.verdict = 'allow' ORDER BY 3, 1
$$;
COMMENT ON FUNCTION apikeyd.who_can(text, text, text) IS 'Which keys may do a scope on a page now; or, with no page, in an organization. A key that is narrowed to networks, from those (networks). As apikeyd.explain_rights says: a stack''s modules may still refuse.';

CREATE FUNCTION apikeyd.what_can(key_id text)
RETURNS TABLE (organization text, page text, scope text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  WITH k AS (
    SELECT key.id, key.kind, key.organization_id, key.user_id, apikeyd.some_address(key.id) AS addr FROM apikeyd.key WHERE key.id = what_can.key_id
  ), place AS (
    SELECT o.slug AS organization, p.slug AS page FROM k JOIN apikeyd.organization o ON o.id = k.organization_id JOIN apikeyd.page p ON p.organization_id = o.id
    UNION SELECT o.slug, NULL FROM k JOIN apikeyd.organization o ON o.id = k.organization_id
    UNION SELECT o.slug, p.slug FROM k JOIN apikeyd.organization_member m ON m.user_id = k.user_id
      JOIN apikeyd.organization o ON o.id = m.organization_id JOIN apikeyd.page p ON p.organization_id = o.id
    UNION SELECT o.slug, NULL FROM k JOIN apikeyd.organization_member m ON m.user_id = k.user_id JOIN apikeyd.organization o ON o.id = m.organization_id
    UNION SELECT o.slug, p.slug FROM k JOIN apikeyd.page_member m ON m.user_id = k.user_id
      JOIN apikeyd.page p ON p.id = m.page_id JOIN apikeyd.organization o ON o.id = p.organization_id
  )
  SELECT w.organization, w.page, s.name
  FROM k CROSS JOIN place w JOIN apikeyd.scope s ON CASE WHEN w.page IS NULL THEN s.organization_level ELSE s.page_level END
  CROSS JOIN LATERAL apikeyd.explain_rights(k.id, s.name, w.page, w.organization, k.addr, clock_timestamp()) AS x
  WHERE x.verdict = 'allow' ORDER BY 1, 2 NULLS FIRST, 3
$$;
COMMENT ON FUNCTION apikeyd.what_can(text) IS 'All that a key may do now: scopes on pages and, where page is null, in organizations. Of a key that is narrowed to networks, from those. As apikeyd.explain_rights says: a stack''s modules may still refuse.';

-- ---- administration ----

CREATE VIEW apikeyd.administration AS
SELECT a.id, a.at, coalesce(a.actor, a.login) AS who, a.action, a.tbl, a.thing,
       CASE a.action WHEN 'update' THEN (
         SELECT string_agg(format('%s: %s -> %s', c.key, coalesce(a.before ->> c.key, 'null'), coalesce(c.value #>> '{}', 'null')), ', ' ORDER BY c.key)
         FROM jsonb_each(a.after) AS c WHERE c.value IS DISTINCT FROM a.before -> c.key) END AS changed,
       a.before, a.after, a.actor, a.login, a.role, a.client_addr, a.application_name, a.txn,
       EXISTS (SELECT FROM apikeyd.ledger_seal s WHERE s.admin_id = a.id) AS sealed
FROM apikeyd.ledger_admin a;
COMMENT ON VIEW apikeyd.administration IS 'Who changed what, with any program: a row for each row that was made, changed or deleted. Filter by at, or by tbl and thing.';
COMMENT ON COLUMN apikeyd.administration.who IS 'On whose behalf, as the application claims; where it claims nothing, the role that was logged in.';
COMMENT ON COLUMN apikeyd.administration.changed IS 'Of an update: what was changed, from what to what.';
COMMENT ON COLUMN apikeyd.administration.sealed IS 'Whether a daemon''s batch has sealed it: from then on a change of it is found out.';

CREATE FUNCTION apikeyd.access_changes(page text, since timestamptz DEFAULT '-infinity')
RETURNS TABLE (at timestamptz, who text, action text, tbl text, thing text, changed text, login text, client_addr inet, sealed boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  WITH p AS (
    -- The page as it is, or as it was when it was deleted.
    SELECT p.id, p.organization_id FROM apikeyd.page p WHERE p.slug = access_changes.page
    UNION SELECT (a.before ->> 'id')::bigint, (a.before ->> 'organization_id')::bigint FROM apikeyd.ledger_admin a
      WHERE a.tbl = 'page' AND a.action = 'delete' AND a.thing = access_changes.page
  ), member (user_id) AS (
    SELECT m.user_id FROM p JOIN apikeyd.organization_member m ON m.organization_id = p.organization_id
    UNION SELECT m.user_id FROM p JOIN apikeyd.page_member m ON m.page_id = p.id
    UNION SELECT (a.before ->> 'user_id')::bigint FROM p JOIN apikeyd.ledger_admin a ON a.tbl IN ('organization_member', 'page_member')
      AND (coalesce(a.before ->> 'page_id' = p.id::text, false) OR (a.tbl = 'organization_member' AND a.before ->> 'organization_id' = p.organization_id::text))
  )
  SELECT a.at, a.who, a.action, a.tbl, a.thing, a.changed, a.login, a.client_addr, a.sealed
  FROM p JOIN apikeyd.administration a ON a.at >= access_changes.since AND (
    a.tbl IN ('scope', 'role', 'role_scope')
    OR (a.tbl = 'page' AND p.id::text IN (a.before ->> 'id', a.after ->> 'id'))
    OR (a.tbl = 'organization' AND p.organization_id::text IN (a.before ->> 'id', a.after ->> 'id'))
    OR (a.tbl = 'organization_member' AND p.organization_id::text IN (a.before ->> 'organization_id', a.after ->> 'organization_id'))
    OR (a.tbl = 'page_member' AND p.id::text IN (a.before ->> 'page_id', a.after ->> 'page_id'))
    OR (a.tbl = 'user' AND coalesce(a.after, a.before) ->> 'id' IN (SELECT m.user_id::text FROM member m))
    OR (a.tbl = 'key' AND (coalesce(a.after, a.before) ->> 'organization_id' = p.organization_id::text OR coalesce(a.after, a.before) ->> 'user_id' IN (SELECT m.user_id::text FROM member m)))
    OR (a.tbl = 'key_page' AND p.id::text IN (a.before ->> 'page_id', a.after ->> 'page_id'))
    OR (a.tbl IN ('key_scope', 'key_network') AND EXISTS (SELECT FROM apikeyd.key k WHERE k.id = coalesce(a.after, a.before) ->> 'key_id'
          AND (k.organization_id = p.organization_id OR k.user_id IN (SELECT m.user_id FROM member m)))))
  ORDER BY a.at, a.id
$$;
COMMENT ON FUNCTION apikeyd.access_changes(text, timestamptz) IS 'What was changed since then that bears on who may do what on a page: the page and its organization, memberships, the standing of members, keys and their narrowing, roles and scopes.';

-- ---- load and sources ----

CREATE FUNCTION apikeyd.busiest(during interval DEFAULT '1 day', most int DEFAULT 20)
RETURNS TABLE (key_id text, owner text, key_name text, count bigint, allowed bigint, denied bigint, unavailable bigint, last_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT v.key_id, coalesce(u.email, o.slug), k.name, v.count, v.allowed, v.denied, v.unavailable, v.last_at
  FROM (SELECT w.key_id, sum(w.count)::bigint AS count, coalesce(sum(w.count) FILTER (WHERE w.verdict = 'allow'), 0)::bigint AS allowed,
               coalesce(sum(w.count) FILTER (WHERE w.verdict = 'deny'), 0)::bigint AS denied, coalesce(sum(w.count) FILTER (WHERE w.verdict = 'unavailable'), 0)::bigint AS unavailable, max(w.last_at) AS last_at
        FROM apikeyd.verdicts w WHERE w.at > now() - busiest.during AND NOT w.explain AND w.key_id IS NOT NULL
        GROUP BY w.key_id ORDER BY 2 DESC LIMIT busiest.most) AS v
  LEFT JOIN apikeyd.key k ON k.id = v.key_id LEFT JOIN apikeyd.user u ON u.id = k.user_id LEFT JOIN apikeyd.organization o ON o.id = k.organization_id
  ORDER BY v.count DESC, v.key_id
$$;
COMMENT ON FUNCTION apikeyd.busiest(interval, int) IS 'The keys with the most verdicts of late.';

CREATE FUNCTION apikeyd.bad_key_sources(during interval DEFAULT '1 day', most int DEFAULT 20)
RETURNS TABLE (addr inet, count bigint, malformed bigint, unknown bigint, callers bigint[], first_at timestamptz, last_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT v.addr, sum(v.count)::bigint, coalesce(sum(v.count) FILTER (WHERE v.reason = 'malformed_key'), 0)::bigint,
         coalesce(sum(v.count) FILTER (WHERE v.reason = 'unknown_key'), 0)::bigint, array_agg(DISTINCT v.caller_uid ORDER BY v.caller_uid), min(v.at), max(v.last_at)
  FROM apikeyd.verdicts v
  WHERE v.at > now() - bad_key_sources.during AND v.verdict <> 'allow' AND v.key_id IS NULL AND v.reason IN ('malformed_key', 'unknown_key') AND NOT v.explain
  GROUP BY v.addr ORDER BY 2 DESC, 1 LIMIT bad_key_sources.most
$$;
COMMENT ON FUNCTION apikeyd.bad_key_sources(interval, int) IS 'Where keys come from that are none: by the remote address that callers pass on (of IPv6 its /64). Null: callers passed none, or there were too many to tell apart.';

CREATE VIEW apikeyd.chains AS
SELECT c.chain, c.host, c.made_at, c.last_batch, c.pruned_batch, b.made_at AS last_made_at, b.stored_at AS last_stored_at,
       (SELECT coalesce(sum(l.lost), 0)::bigint FROM apikeyd.ledger_batch l WHERE l.chain = c.chain AND l.lost > 0) AS lost
FROM apikeyd.ledger_chain c LEFT JOIN apikeyd.ledger_batch b ON b.chain = c.chain AND b.batch = c.last_batch;
CREATE INDEX ledger_batch_lost ON apikeyd.ledger_batch (chain) INCLUDE (lost) WHERE lost > 0;
COMMENT ON VIEW apikeyd.chains IS 'The chains of the ledger: one for each spool of a daemon, and when it last wrote.';
COMMENT ON COLUMN apikeyd.chains.last_made_at IS 'When its newest batch was closed, by the daemon.';
COMMENT ON COLUMN apikeyd.chains.last_stored_at IS 'When it came here.';
COMMENT ON COLUMN apikeyd.chains.lost IS 'Verdicts of which only the number is known: they found no room in the spool.';

DO $$
DECLARE
  copied record;
BEGIN
  FOR copied IN
    SELECT v.relname AS view, va.attname, min(col_description(t.oid, ta.attnum)) AS what
    FROM (VALUES ('verdicts', 'ledger_event'), ('denials', 'verdicts'), ('key_usage', 'ledger_event'), ('key_last_used', 'key'), ('keys_never_used', 'key'),
                 ('administration', 'ledger_admin'), ('chains', 'ledger_chain')) AS w (view, tab)
    JOIN pg_catalog.pg_class v ON v.relname = w.view AND v.relnamespace = 'apikeyd'::regnamespace
    JOIN pg_catalog.pg_class t ON t.relname = w.tab AND t.relnamespace = 'apikeyd'::regnamespace
    JOIN pg_catalog.pg_attribute va ON va.attrelid = v.oid AND va.attnum > 0
    JOIN pg_catalog.pg_attribute ta ON ta.attrelid = t.oid AND ta.attname = va.attname AND NOT ta.attisdropped
    WHERE col_description(v.oid, va.attnum) IS NULL GROUP BY v.relname, va.attname
  LOOP
    EXECUTE format('COMMENT ON COLUMN apikeyd.%I.%I IS %L', copied.view, copied.attname, copied.what);
  END LOOP;
  -- Once more, for what took its columns from verdicts.
  FOR copied IN SELECT a.attname, col_description('apikeyd.verdicts'::regclass, v.attnum) AS what FROM pg_catalog.pg_attribute a
      JOIN pg_catalog.pg_attribute v ON v.attrelid = 'apikeyd.verdicts'::regclass AND v.attname = a.attname
      WHERE a.attrelid = 'apikeyd.denials'::regclass AND a.attnum > 0 AND col_description(a.attrelid, a.attnum) IS NULL LOOP
    EXECUTE format('COMMENT ON COLUMN apikeyd.denials.%I IS %L', copied.attname, copied.what);
  END LOOP;
END
$$;
COMMENT ON COLUMN apikeyd.key_last_used.key_id IS 'The key.';
COMMENT ON COLUMN apikeyd.keys_never_used.key_id IS 'The key.';

GRANT SELECT ON apikeyd.verdicts, apikeyd.denials, apikeyd.key_usage, apikeyd.key_last_used, apikeyd.keys_never_used, apikeyd.never_used_scopes,
    apikeyd.never_used_pages, apikeyd.administration, apikeyd.chains
  TO apikeyd_auditor;
GRANT EXECUTE ON FUNCTION apikeyd.who_can(text, text, text), apikeyd.what_can(text), apikeyd.access_changes(text, timestamptz),
    apikeyd.busiest(interval, int), apikeyd.bad_key_sources(interval, int)
  TO apikeyd_auditor;
-- For `apikeyctl key show`.
GRANT SELECT ON apikeyd.key_usage, apikeyd.key_last_used, apikeyd.never_used_scopes, apikeyd.never_used_pages TO apikeyd_admin;

DO $$ BEGIN PERFORM apikeyd.force_reload(); END $$;

COMMIT;
