-- Administration writes the same with less: an update joins its rows before and after as they are, which take a third of the
-- room that they take as jsonb, so that a large one puts less into temporary files.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(20, 'administration_price'); END $$;

-- See 0011 for what it does, and why it joins by hash.
CREATE OR REPLACE FUNCTION apikeyd.administer() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
AS $$
DECLARE
  secret constant text[] := '{hash,check_value}';
  moment constant timestamptz := clock_timestamp();
  self constant xid8 := pg_current_xact_id();
  acting constant text := coalesce(nullif(current_setting('role'), 'none'), session_user);
  addr constant inet := inet_client_addr(); -- once a statement: it is made from its text each time
  program constant text := current_setting('application_name');
  claimed constant text := nullif(current_setting('apikeyd.actor', true), '');
  first bigint;
  last bigint;
BEGIN
  IF TG_LEVEL = 'ROW' THEN
    WITH pair AS (
      SELECT CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END AS before, CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END AS after
    ), written AS (
      INSERT INTO apikeyd.ledger_admin (at, txn, login, role, client_addr, application_name, actor, tbl, action, thing, before, after)
      SELECT moment, self, session_user, acting, addr, program, claimed, TG_TABLE_NAME, lower(TG_OP),
             concat_ws('/', coalesce(p.after, p.before) ->> TG_ARGV[0], coalesce(p.after, p.before) ->> TG_ARGV[1], coalesce(p.after, p.before) ->> TG_ARGV[2]),
             p.before - secret,
             CASE WHEN p.before IS NOT NULL AND (p.before -> 'hash' IS DISTINCT FROM p.after -> 'hash' OR p.before -> 'check_value' IS DISTINCT FROM p.after -> 'check_value')
                  THEN p.after - secret || '{"hash_changed": true}' ELSE p.after - secret END
      FROM pair p RETURNING id
    )
    SELECT min(w.id), max(w.id) INTO first, last FROM written w;
  ELSIF TG_OP = 'INSERT' THEN
    WITH written AS (
      INSERT INTO apikeyd.ledger_admin (at, txn, login, role, client_addr, application_name, actor, tbl, action, thing, before, after)
      SELECT moment, self, session_user, acting, addr, program, claimed, TG_TABLE_NAME, 'insert',
             concat_ws('/', n.row ->> TG_ARGV[0], n.row ->> TG_ARGV[1], n.row ->> TG_ARGV[2]), NULL, n.row - secret
      FROM (SELECT to_jsonb(r) AS row FROM new_rows r OFFSET 0) AS n RETURNING id
    )
    SELECT min(w.id), max(w.id) INTO first, last FROM written w;
  ELSIF TG_OP = 'DELETE' THEN
    WITH written AS (
      INSERT INTO apikeyd.ledger_admin (at, txn, login, role, client_addr, application_name, actor, tbl, action, thing, before, after)
      SELECT moment, self, session_user, acting, addr, program, claimed, TG_TABLE_NAME, 'delete',
             concat_ws('/', o.row ->> TG_ARGV[0], o.row ->> TG_ARGV[1], o.row ->> TG_ARGV[2]), o.row - secret, NULL
      FROM (SELECT to_jsonb(r) AS row FROM old_rows r OFFSET 0) AS o RETURNING id
    )
    SELECT min(w.id), max(w.id) INTO first, last FROM written w;
  ELSE
    WITH written AS (
      INSERT INTO apikeyd.ledger_admin (at, txn, login, role, client_addr, application_name, actor, tbl, action, thing, before, after)
      SELECT moment, self, session_user, acting, addr, program, claimed, TG_TABLE_NAME, 'update',
             concat_ws('/', p.new ->> TG_ARGV[0], p.new ->> TG_ARGV[1], p.new ->> TG_ARGV[2]), p.old - secret,
             CASE WHEN p.old -> 'hash' IS DISTINCT FROM p.new -> 'hash' OR p.old -> 'check_value' IS DISTINCT FROM p.new -> 'check_value'
                  THEN p.new - secret || '{"hash_changed": true}' ELSE p.new - secret END
      FROM (SELECT to_jsonb(o.row) AS old, to_jsonb(n.row) AS new
            FROM (SELECT row_number() OVER () AS i, r AS row FROM old_rows r) AS o
            JOIN (SELECT row_number() OVER () AS i, r AS row FROM new_rows r) AS n ON n.i = o.i OFFSET 0) AS p RETURNING id
    )
    SELECT min(w.id), max(w.id) INTO first, last FROM written w;
  END IF;
  IF first IS NOT NULL THEN
    INSERT INTO apikeyd.ledger_unsealed (first_id, last_id, txn) VALUES (first, last, self);
  END IF;
  RETURN NULL;
END
$$;

DO $$ BEGIN PERFORM apikeyd.force_reload(); END $$;

COMMIT;
