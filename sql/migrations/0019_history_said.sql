-- Lost history is entered once in the same words, not once. Whoever has the role of the daemons and knows a loss's id, as
-- auditors and each reader of a log do, could else say something of it first, and what its daemon has to say, such as who
-- accepted it, would be taken for entered.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(19, 'history_said'); END $$;

DROP INDEX apikeyd.ledger_admin_history_once;
-- A daemon that does not know whether it said so says so again, as another process maybe.
CREATE UNIQUE INDEX ledger_admin_history_once ON apikeyd.ledger_admin (thing, action, coalesce(actor, ''), (after - '{daemon,host,pid}'::text[])) WHERE tbl = 'history';

CREATE OR REPLACE FUNCTION apikeyd.history_enter(what text, loss uuid, daemon uuid, noted_us bigint, claimed text, said jsonb,
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
COMMENT ON FUNCTION apikeyd.history_lost(uuid, uuid, bigint, text, text, boolean, text, text, int, int, int, text[]) IS 'A daemon enters in the ledger that history was lost: when it noticed that, why it thinks so, on_history_loss as it is set, whether it knew all denials (whole), the place that it had applied and the one that it found (apikeyd.history_place), and the keys that it goes on denying though the database does not say so any more, with some of their ids. Once in the same words; false: it is there.';
COMMENT ON FUNCTION apikeyd.history_accepted(uuid, uuid, bigint, text, int, int, int, text[]) IS 'A daemon enters in the ledger that an administrator accepted the history: who (uid:N, by the administration socket), when, and the keys that were denied until then and are as the database says from then on, with some of their ids. Once in the same words; false: it is there.';
COMMENT ON VIEW apikeyd.lost_history IS 'When the database had lost what a daemon had applied (a failover, a restore), the keys that the daemon went on denying, and who accepted that: a row for each loss and daemon. Two rows of one loss contradict each other: one of them was not said by the daemon that noticed it (look at login and client_addr in administration).';

DO $$ BEGIN PERFORM apikeyd.force_reload(); END $$;

COMMIT;
