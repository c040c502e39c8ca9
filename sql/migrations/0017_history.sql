-- Lost history in the ledger: that the database forgot what a daemon had applied, and that an administrator accepted it.
-- Each daemon says it for itself, by two functions that can write these entries and nothing else.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(17, 'history'); END $$;

-- There is no table of that name, and no trigger writes rows of it.
ALTER TABLE apikeyd.ledger_admin DROP CONSTRAINT ledger_admin_action_is_known;
ALTER TABLE apikeyd.ledger_admin ADD CONSTRAINT ledger_admin_action_is_known
  CHECK (CASE tbl WHEN 'history' THEN action IN ('lost', 'accepted') ELSE action IN ('insert', 'update', 'delete') END);
-- Once in the same words, whichever process says them: a daemon that does not know whether it said so says so again. Not once
-- for each loss: whoever has the role of the daemons and knows a loss's id, as auditors and each reader of a log do, could
-- else say something of it first, and what its daemon has to say, such as who accepted it, would be taken for entered.
CREATE UNIQUE INDEX ledger_admin_history_once ON apikeyd.ledger_admin (thing, action, coalesce(actor, ''), (after - '{daemon,host,pid}'::text[])) WHERE tbl = 'history';
COMMENT ON TABLE apikeyd.ledger_admin IS 'Administration: each row that was made, changed or deleted, written by triggers in the same transaction, plain SQL too; and what daemons say of lost history. Read the view apikeyd.administration.';
COMMENT ON COLUMN apikeyd.ledger_admin.at IS 'When its statement ended; of history: when the daemon entered it, which may be later than it was.';
COMMENT ON COLUMN apikeyd.ledger_admin.actor IS 'On whose behalf, as the application claims: the setting apikeyd.actor; of accepted history the administrator, as the daemon says. Nobody has checked it.';
COMMENT ON COLUMN apikeyd.ledger_admin.tbl IS 'The table; history: the database lost what a daemon had applied.';
COMMENT ON COLUMN apikeyd.ledger_admin.action IS 'insert, update or delete; of history lost or accepted.';
COMMENT ON COLUMN apikeyd.ledger_admin.thing IS 'Which row: its id, slug, email or name; of a membership and the like both, with a / between them. Of history the loss, one for each daemon that noticed it: a uuid.';
COMMENT ON COLUMN apikeyd.ledger_admin.before IS 'The row as it was; never a hash. Of history: null.';
COMMENT ON COLUMN apikeyd.ledger_admin.after IS 'The row as it became; never a hash. hash_changed: its hash is another one. Of history what the daemon says: see apikeyd.history_lost() and apikeyd.history_accepted().';

-- ---- what a daemon says ----

CREATE FUNCTION apikeyd.history_place(place text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  part constant text[] := regexp_match(history_place.place, '^([0-9]{1,19})/([0-9]{1,20})/([0-9]{1,10})/([0-9]{1,10})$');
BEGIN
  IF part IS NULL THEN
    RAISE EXCEPTION '% is no place in a history', coalesce(quote_literal(left(history_place.place, 64)), 'null')
      USING ERRCODE = 'invalid_parameter_value', HINT = 'It is revision/system identifier/timeline/database.';
  END IF;
  RETURN jsonb_build_object('rev', part[1]::bigint, 'system', part[2], 'timeline', part[3]::bigint, 'database', part[4]::bigint);
END
$$;
COMMENT ON FUNCTION apikeyd.history_place(text) IS 'Reads a place in a history: revision/system identifier/timeline/database, in digits.';

CREATE FUNCTION apikeyd.history_enter(what text, loss uuid, daemon uuid, noted_us bigint, claimed text, said jsonb,
  revoked int, retired int, disabled int, key_ids text[]) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  most constant int := 64; -- ids in one entry
  kept constant bigint := history_enter.revoked::bigint + history_enter.retired + history_enter.disabled;
  self xid8;
  words jsonb;
  teller record;
  entry bigint;
BEGIN
  IF history_enter.loss IS NULL OR history_enter.daemon IS NULL OR history_enter.said IS NULL THEN
    RAISE EXCEPTION 'a loss, a daemon and what it says are needed' USING ERRCODE = 'invalid_parameter_value';
  ELSIF (history_enter.noted_us BETWEEN 0 AND 253402300799999999) IS NOT TRUE THEN
    RAISE EXCEPTION 'a time of % microseconds since 1970 cannot be', history_enter.noted_us USING ERRCODE = 'invalid_parameter_value';
  ELSIF least(history_enter.revoked, history_enter.retired, history_enter.disabled) < 0 OR kept IS NULL THEN
    RAISE EXCEPTION 'numbers of keys are needed: revoked %, retired %, disabled %', history_enter.revoked, history_enter.retired, history_enter.disabled
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF coalesce(array_ndims(history_enter.key_ids), 1) <> 1 OR (cardinality(history_enter.key_ids) <= least(kept, most)) IS NOT TRUE THEN
    RAISE EXCEPTION '% key ids of % keys: at most % in one entry', coalesce(cardinality(history_enter.key_ids)::text, 'no'), kept, most
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF EXISTS (SELECT FROM unnest(history_enter.key_ids) AS k (id) WHERE (k.id ~ '^[0-9A-Za-z]{10}$') IS NOT TRUE) THEN
    RAISE EXCEPTION 'a key id is 10 characters of 0-9 A-Z a-z' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  words := jsonb_build_object(
      'noted_at', to_char(timestamp 'epoch' + history_enter.noted_us * interval '1 microsecond', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
      'keys', kept, 'revoked', history_enter.revoked, 'retired', history_enter.retired, 'disabled', history_enter.disabled,
      'key_ids', to_jsonb(history_enter.key_ids)) || history_enter.said;
  IF EXISTS (SELECT FROM apikeyd.ledger_admin a WHERE a.tbl = 'history' AND a.thing = history_enter.loss::text AND a.action = history_enter.what
      AND coalesce(a.actor, '') = coalesce(history_enter.claimed, '') AND a.after - '{daemon,host,pid}'::text[] = words) THEN
    RETURN false;
  END IF;
  SELECT d.host, d.pid INTO teller FROM apikeyd.daemon d WHERE d.id = history_enter.daemon;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'no daemon % is registered', history_enter.daemon
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'apikeyd.daemon_seen() registers one.';
  END IF;
  self := pg_current_xact_id();
  INSERT INTO apikeyd.ledger_admin (at, txn, login, role, client_addr, application_name, actor, tbl, action, thing, before, after)
  VALUES (clock_timestamp(), self, session_user, coalesce(nullif(current_setting('role'), 'none'), session_user), inet_client_addr(),
          current_setting('application_name'), history_enter.claimed, 'history', history_enter.what, history_enter.loss::text, NULL,
          jsonb_build_object('daemon', history_enter.daemon, 'host', teller.host, 'pid', teller.pid) || words)
  ON CONFLICT (thing, action, coalesce(actor, ''), (after - '{daemon,host,pid}'::text[])) WHERE tbl = 'history' DO NOTHING RETURNING id INTO entry;
  IF entry IS NULL THEN
    RETURN false;
  END IF;
  INSERT INTO apikeyd.ledger_unsealed (first_id, last_id, txn) VALUES (entry, entry, self);
  RETURN true;
END
$$;
COMMENT ON FUNCTION apikeyd.history_enter(text, uuid, uuid, bigint, text, jsonb, int, int, int, text[]) IS 'Writes an entry of history to apikeyd.ledger_admin, once in the same words, whichever daemon says them; false: it is there.';

-- They are called between two polls of the daemon's feed, which must not wait: not for a lock, and not for a standby. An
-- entry that a promotion loses is made again, since a daemon says all it has to say on each timeline.
CREATE FUNCTION apikeyd.history_lost(loss uuid, daemon uuid, noted_us bigint, why text, on_history_loss text, whole boolean, was_place text, found_place text,
  revoked int, retired int, disabled int, key_ids text[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $$
BEGIN
  IF (history_lost.why IN ('log', 'timeline', 'wal', 'revoked', 'damaged')) IS NOT TRUE
     OR (history_lost.on_history_loss IN ('keep', 'refuse')) IS NOT TRUE OR history_lost.whole IS NULL THEN
    RAISE EXCEPTION 'a loss that is not understood: why %, on_history_loss %, whole %', coalesce(quote_literal(left(history_lost.why, 64)), 'null'),
        coalesce(quote_literal(left(history_lost.on_history_loss, 64)), 'null'), history_lost.whole
      USING ERRCODE = 'invalid_parameter_value', HINT = 'why: log, timeline, wal, revoked or damaged; on_history_loss: keep or refuse.';
  END IF;
  PERFORM set_config('synchronous_commit', 'local', true);
  RETURN apikeyd.history_enter('lost', history_lost.loss, history_lost.daemon, history_lost.noted_us, NULL,
    jsonb_build_object('why', history_lost.why, 'on_history_loss', history_lost.on_history_loss, 'whole', history_lost.whole,
      'was', apikeyd.history_place(history_lost.was_place), 'found', apikeyd.history_place(history_lost.found_place)),
    history_lost.revoked, history_lost.retired, history_lost.disabled, history_lost.key_ids);
END
$$;
COMMENT ON FUNCTION apikeyd.history_lost(uuid, uuid, bigint, text, text, boolean, text, text, int, int, int, text[]) IS 'A daemon enters in the ledger that history was lost: when it noticed that, why it thinks so, on_history_loss as it is set, whether it knew all denials (whole), the place that it had applied and the one that it found (apikeyd.history_place), and the keys that it goes on denying though the database does not say so any more, with some of their ids. Once in the same words; false: it is there.';

CREATE FUNCTION apikeyd.history_accepted(loss uuid, daemon uuid, noted_us bigint, actor text, revoked int, retired int, disabled int, key_ids text[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $$
BEGIN
  IF (history_accepted.actor ~ '^uid:[0-9]{1,10}$') IS NOT TRUE THEN
    RAISE EXCEPTION '% is nobody who accepts history', coalesce(quote_literal(left(history_accepted.actor, 64)), 'null')
      USING ERRCODE = 'invalid_parameter_value', HINT = 'It is uid: and a number.';
  END IF;
  PERFORM set_config('synchronous_commit', 'local', true);
  RETURN apikeyd.history_enter('accepted', history_accepted.loss, history_accepted.daemon, history_accepted.noted_us, history_accepted.actor, '{}',
    history_accepted.revoked, history_accepted.retired, history_accepted.disabled, history_accepted.key_ids);
END
$$;
COMMENT ON FUNCTION apikeyd.history_accepted(uuid, uuid, bigint, text, int, int, int, text[]) IS 'A daemon enters in the ledger that an administrator accepted the history: who (uid:N, by the administration socket), when, and the keys that were denied until then and are as the database says from then on, with some of their ids. Once in the same words; false: it is there.';

GRANT EXECUTE ON FUNCTION apikeyd.history_lost(uuid, uuid, bigint, text, text, boolean, text, text, int, int, int, text[]),
    apikeyd.history_accepted(uuid, uuid, bigint, text, int, int, int, text[])
  TO apikeyd_check;

-- ---- the auditor's screen ----

CREATE OR REPLACE VIEW apikeyd.administration AS
SELECT a.id, a.at, coalesce(a.actor, a.login) AS who, a.action, a.tbl, a.thing,
       CASE a.action WHEN 'update' THEN (
         SELECT string_agg(format('%s: %s -> %s', c.key, coalesce(a.before ->> c.key, 'null'), coalesce(c.value #>> '{}', 'null')), ', ' ORDER BY c.key)
         FROM jsonb_each(a.after) AS c WHERE c.value IS DISTINCT FROM a.before -> c.key)
       WHEN 'lost' THEN format('revision %s (timeline %s) -> %s (timeline %s), %s key(s) kept denied on %s', a.after #>> '{was,rev}', a.after #>> '{was,timeline}',
         a.after #>> '{found,rev}', a.after #>> '{found,timeline}', a.after ->> 'keys', a.after ->> 'host')
       WHEN 'accepted' THEN format('%s key(s) as the database says, on %s', a.after ->> 'keys', a.after ->> 'host') END AS changed,
       a.before, a.after, a.actor, a.login, a.role, a.client_addr, a.application_name, a.txn,
       EXISTS (SELECT FROM apikeyd.ledger_seal s WHERE s.admin_id = a.id) AS sealed
FROM apikeyd.ledger_admin a;
COMMENT ON VIEW apikeyd.administration IS 'Who changed what, with any program: a row for each row that was made, changed or deleted; and lost history. Filter by at, or by tbl and thing.';
COMMENT ON COLUMN apikeyd.administration.changed IS 'Of an update: what was changed, from what to what. Of lost history: from where to where, and how many keys a daemon goes on denying; of accepted history: how many it denied until then.';

CREATE VIEW apikeyd.lost_history AS
SELECT l.thing AS loss, l.after ->> 'host' AS host, (l.after ->> 'noted_at')::timestamptz AS lost_at, l.after ->> 'why' AS why,
       (l.after #>> '{was,rev}')::bigint AS was_rev, (l.after #>> '{found,rev}')::bigint AS found_rev,
       (l.after #>> '{was,timeline}')::bigint AS was_timeline, (l.after #>> '{found,timeline}')::bigint AS found_timeline,
       l.after ->> 'on_history_loss' AS on_history_loss, (l.after ->> 'keys')::bigint AS keys,
       ARRAY(SELECT jsonb_array_elements_text(l.after -> 'key_ids')) AS key_ids,
       (a.after ->> 'noted_at')::timestamptz AS accepted_at, a.who AS accepted_by, l.sealed
FROM apikeyd.administration l
LEFT JOIN apikeyd.administration a ON a.tbl = 'history' AND a.action = 'accepted' AND a.thing = l.thing
WHERE l.tbl = 'history' AND l.action = 'lost';
COMMENT ON VIEW apikeyd.lost_history IS 'When the database had lost what a daemon had applied (a failover, a restore), the keys that the daemon went on denying, and who accepted that: a row for each loss and daemon. Two rows of one loss contradict each other: one of them was not said by the daemon that noticed it (look at login and client_addr in administration).';
COMMENT ON COLUMN apikeyd.lost_history.loss IS 'Which: of administration, the thing.';
COMMENT ON COLUMN apikeyd.lost_history.host IS 'The daemon''s host.';
COMMENT ON COLUMN apikeyd.lost_history.lost_at IS 'When the daemon noticed, by its host''s clock.';
COMMENT ON COLUMN apikeyd.lost_history.why IS 'How: log, the applied revision was not in the change log; timeline, another cluster, database or timeline, whose log did not reach back to it; wal, the server had written less than before; revoked, a key was revoked no more; damaged, the daemon''s memory.';
COMMENT ON COLUMN apikeyd.lost_history.was_rev IS 'The revision that it had applied.';
COMMENT ON COLUMN apikeyd.lost_history.found_rev IS 'The newest revision that it found instead.';
COMMENT ON COLUMN apikeyd.lost_history.was_timeline IS 'The timeline of the former.';
COMMENT ON COLUMN apikeyd.lost_history.found_timeline IS 'The timeline of the latter.';
COMMENT ON COLUMN apikeyd.lost_history.on_history_loss IS 'What it was set to do: keep, it went on answering and denied these keys; refuse, it answered nothing.';
COMMENT ON COLUMN apikeyd.lost_history.keys IS 'How many keys it went on denying though the database did not say so any more.';
COMMENT ON COLUMN apikeyd.lost_history.key_ids IS 'Their ids; the first 64.';
COMMENT ON COLUMN apikeyd.lost_history.accepted_at IS 'When an administrator accepted that, by its host''s clock; null: nobody has, or the daemon is away.';
COMMENT ON COLUMN apikeyd.lost_history.accepted_by IS 'Who did: the user id at the administration socket of that host.';
COMMENT ON COLUMN apikeyd.lost_history.sealed IS 'Whether a daemon''s batch has sealed the loss: from then on a change of it is found out.';
GRANT SELECT ON apikeyd.lost_history TO apikeyd_auditor;

DO $$
DECLARE
  said record;
BEGIN
  FOR said IN SELECT a.attname, col_description(a.attrelid, a.attnum) AS what FROM pg_catalog.pg_attribute a
      WHERE a.attrelid = 'apikeyd.ledger_admin'::regclass AND a.attname IN ('at', 'actor', 'tbl', 'action', 'thing', 'before', 'after') LOOP
    EXECUTE format('COMMENT ON COLUMN apikeyd.administration.%I IS %L', said.attname, said.what);
  END LOOP;
END
$$;

-- A loss bears on every page: what it took back nobody knows.
CREATE OR REPLACE FUNCTION apikeyd.access_changes(page text, since timestamptz DEFAULT '-infinity')
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
    a.tbl IN ('scope', 'role', 'role_scope', 'history')
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
COMMENT ON FUNCTION apikeyd.access_changes(text, timestamptz) IS 'What was changed since then that bears on who may do what on a page: the page and its organization, memberships, the standing of members, keys and their narrowing, roles and scopes; and history that was lost.';

DO $$ BEGIN PERFORM apikeyd.force_reload(); END $$;

COMMIT;
