-- Administration in the ledger: each change of the domain, of keys, and of what the schema itself is set to, in the same
-- transaction as the change, whoever makes it and with whatever program.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(11, 'administration'); END $$;

-- As statement triggers with transition tables, one INSERT … SELECT for all rows of a statement; as row triggers, ENABLE
-- REPLICA, for what logical replication applies (as the change log has them, 0005). The two transition tables of an
-- UPDATE have the same rows in the same order. They are joined by hash or merge whatever the statistics say: a plan that a
-- session made for its small updates would go through a big one quadratically.
CREATE FUNCTION apikeyd.administer() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
AS $$
DECLARE
  secret constant text[] := '{hash,check_value}';
  moment constant timestamptz := clock_timestamp();
  self constant xid8 := pg_current_xact_id();
  acting constant text := coalesce(nullif(current_setting('role'), 'none'), session_user);
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
      SELECT moment, self, session_user, acting, inet_client_addr(), program, claimed, TG_TABLE_NAME, lower(TG_OP),
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
      SELECT moment, self, session_user, acting, inet_client_addr(), program, claimed, TG_TABLE_NAME, 'insert',
             concat_ws('/', n.row ->> TG_ARGV[0], n.row ->> TG_ARGV[1], n.row ->> TG_ARGV[2]), NULL, n.row - secret
      FROM (SELECT to_jsonb(r) AS row FROM new_rows r OFFSET 0) AS n RETURNING id
    )
    SELECT min(w.id), max(w.id) INTO first, last FROM written w;
  ELSIF TG_OP = 'DELETE' THEN
    WITH written AS (
      INSERT INTO apikeyd.ledger_admin (at, txn, login, role, client_addr, application_name, actor, tbl, action, thing, before, after)
      SELECT moment, self, session_user, acting, inet_client_addr(), program, claimed, TG_TABLE_NAME, 'delete',
             concat_ws('/', o.row ->> TG_ARGV[0], o.row ->> TG_ARGV[1], o.row ->> TG_ARGV[2]), o.row - secret, NULL
      FROM (SELECT to_jsonb(r) AS row FROM old_rows r OFFSET 0) AS o RETURNING id
    )
    SELECT min(w.id), max(w.id) INTO first, last FROM written w;
  ELSE
    WITH written AS (
      INSERT INTO apikeyd.ledger_admin (at, txn, login, role, client_addr, application_name, actor, tbl, action, thing, before, after)
      SELECT moment, self, session_user, acting, inet_client_addr(), program, claimed, TG_TABLE_NAME, 'update',
             concat_ws('/', n.row ->> TG_ARGV[0], n.row ->> TG_ARGV[1], n.row ->> TG_ARGV[2]), o.row - secret,
             CASE WHEN o.row -> 'hash' IS DISTINCT FROM n.row -> 'hash' OR o.row -> 'check_value' IS DISTINCT FROM n.row -> 'check_value'
                  THEN n.row - secret || '{"hash_changed": true}' ELSE n.row - secret END
      FROM (SELECT row_number() OVER () AS i, to_jsonb(r) AS row FROM old_rows r) AS o
      JOIN (SELECT row_number() OVER () AS i, to_jsonb(r) AS row FROM new_rows r) AS n ON n.i = o.i RETURNING id
    )
    SELECT min(w.id), max(w.id) INTO first, last FROM written w;
  END IF;
  IF first IS NOT NULL THEN
    INSERT INTO apikeyd.ledger_unsealed (first_id, last_id, txn) VALUES (first, last, self);
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikeyd.administer() IS 'Trigger: writes changed rows to apikeyd.ledger_admin, before and after, and never a hash. Its arguments are the columns that name a row.';

DO $$
DECLARE
  recorded record;
BEGIN
  FOR recorded IN
    SELECT t.name, (SELECT string_agg(quote_literal(c), ', ') FROM unnest(string_to_array(t.columns, ' ')) AS c) AS arguments
    FROM (VALUES
      ('scope', 'name'), ('role', 'place name'), ('role_scope', 'place role scope'), ('organization', 'slug'), ('page', 'slug'), ('user', 'email'),
      ('organization_member', 'organization_id user_id'), ('page_member', 'page_id user_id'), ('pepper', 'version'), ('key', 'id'),
      ('key_page', 'key_id page_id'), ('key_scope', 'key_id scope'), ('key_network', 'key_id network'),
      ('longest_lease', 'lease'), ('ledger_setting', 'one'), ('schema_migration', 'version')
    ) AS t (name, columns)
  LOOP
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT ON apikeyd.%I REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION apikeyd.administer(%s)',
                   recorded.name || '_admin_insert', recorded.name, recorded.arguments);
    EXECUTE format('CREATE TRIGGER %I AFTER UPDATE ON apikeyd.%I REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION apikeyd.administer(%s)',
                   recorded.name || '_admin_update', recorded.name, recorded.arguments);
    EXECUTE format('CREATE TRIGGER %I AFTER DELETE ON apikeyd.%I REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION apikeyd.administer(%s)',
                   recorded.name || '_admin_delete', recorded.name, recorded.arguments);
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON apikeyd.%I FOR EACH ROW EXECUTE FUNCTION apikeyd.administer(%s)',
                   recorded.name || '_admin_replica', recorded.name, recorded.arguments);
    EXECUTE format('ALTER TABLE apikeyd.%I ENABLE REPLICA TRIGGER %I', recorded.name, recorded.name || '_admin_replica');
  END LOOP;
END
$$;

-- A trigger that is off means changes that nobody can account for: the daemons treat it like one whose changes they do
-- not see.
CREATE OR REPLACE FUNCTION apikeyd.trigger_faults() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  WITH wanted (tab, trig, func, enabled, type) AS (
    SELECT t.tab, t.tab || e.suffix, t.func, e.enabled, e.type
    FROM (VALUES ('scope', 'log_catalog'), ('role', 'log_catalog'), ('role_scope', 'log_catalog'),
                 ('organization', 'log_id'), ('page', 'log_id'), ('user', 'log_id'),
                 ('organization_member', 'log_member'), ('page_member', 'log_member'), ('key', 'log_key'),
                 ('key_page', 'log_narrowing'), ('key_scope', 'log_narrowing'), ('key_network', 'log_narrowing')) AS t (tab, func),
         -- type: pg_trigger.tgtype, 1 row, 2 before, 4 insert, 8 delete, 16 update, 32 truncate
         (VALUES ('_log_insert', 'O', 4), ('_log_update', 'O', 16), ('_log_delete', 'O', 8), ('_log_replica', 'R', 29)) AS e (suffix, enabled, type)
    UNION ALL
    SELECT t.tab, t.tab || e.suffix, 'administer', e.enabled, e.type
    FROM (VALUES ('scope'), ('role'), ('role_scope'), ('organization'), ('page'), ('user'), ('organization_member'), ('page_member'),
                 ('pepper'), ('key'), ('key_page'), ('key_scope'), ('key_network'), ('longest_lease'), ('ledger_setting'),
                 ('schema_migration')) AS t (tab),
         (VALUES ('_admin_insert', 'O', 4), ('_admin_update', 'O', 16), ('_admin_delete', 'O', 8), ('_admin_replica', 'R', 29)) AS e (suffix, enabled, type)
    UNION ALL
    SELECT t.tab, t.tab || '_no_truncate', 'refuse_truncate', 'A', 34
    FROM (VALUES ('scope'), ('role'), ('role_scope'), ('organization'), ('page'), ('user'), ('organization_member'),
                 ('page_member'), ('pepper'), ('key'), ('key_page'), ('key_scope'), ('key_network'), ('change'),
                 ('revision'), ('feed_floor'), ('longest_lease')) AS t (tab)
    UNION ALL
    VALUES ('pending', 'pending_assign', 'assign_revision', 'A', 5),
           ('organization', 'organization_same_id', 'refuse_change', 'A', 19),
           ('page', 'page_same_id', 'refuse_change', 'A', 19),
           ('page', 'page_same_organization', 'refuse_change', 'A', 19),
           ('user', 'user_same_id', 'refuse_change', 'A', 19),
           ('pepper', 'pepper_same', 'refuse_change', 'A', 19),
           ('key', 'key_same', 'refuse_change', 'A', 19),
           ('key', 'key_stays_revoked', 'keep_revoked', 'A', 19),
           ('key', 'key_no_delete', 'refuse_key_delete', 'A', 11),
           ('organization', 'organization_no_delete', 'refuse_owner_delete', 'A', 11),
           ('user', 'user_no_delete', 'refuse_owner_delete', 'A', 11),
           ('scope', 'scope_limit', 'limit_rows', 'A', 4),
           ('role', 'role_limit', 'limit_rows', 'A', 4),
           ('page_member', 'page_member_fill', 'page_member_fill', 'O', 23),
           ('key_page', 'key_page_fill', 'key_page_fill', 'O', 23)
  )
  SELECT format(CASE
      WHEN t.oid IS NULL THEN 'trigger %1$s on apikeyd.%2$s is missing; install the schema anew'
      WHEN t.tgtype <> w.type OR p.proname <> w.func OR p.pronamespace <> c.relnamespace OR t.tgattr <> ''
        THEN 'trigger %1$s on apikeyd.%2$s is not the one that was installed; install the schema anew'
      WHEN t.tgenabled = 'D' THEN 'trigger %1$s on apikeyd.%2$s is disabled; run: ALTER TABLE apikeyd.%2$I ENABLE %3$sTRIGGER %1$I'
      ELSE 'trigger %1$s on apikeyd.%2$s is not enabled as it should be; run: ALTER TABLE apikeyd.%2$I ENABLE %3$sTRIGGER %1$I'
    END, w.trig, w.tab, CASE w.enabled WHEN 'A' THEN 'ALWAYS ' WHEN 'R' THEN 'REPLICA ' ELSE '' END)
  FROM wanted w
  LEFT JOIN pg_catalog.pg_class c ON c.relname = w.tab AND c.relnamespace = 'apikeyd'::regnamespace
  LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid AND t.tgname = w.trig
  LEFT JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
  WHERE t.oid IS NULL OR t.tgenabled::text <> w.enabled OR t.tgtype <> w.type OR p.proname <> w.func
     OR p.pronamespace <> c.relnamespace OR t.tgattr <> ''
  UNION ALL
  SELECT DISTINCT format('foreign key %s on apikeyd.%s is not enforced; run: ALTER TABLE apikeyd.%I ENABLE TRIGGER ALL, then mend what this names',
                con.conname, c.relname, c.relname)
  FROM (SELECT DISTINCT tab FROM wanted) AS w
  JOIN pg_catalog.pg_class c ON c.relname = w.tab AND c.relnamespace = 'apikeyd'::regnamespace
  JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid
  JOIN pg_catalog.pg_constraint con ON con.oid = t.tgconstraint
  WHERE t.tgisinternal AND t.tgenabled NOT IN ('O', 'A') AND con.contype = 'f'
  UNION ALL
  SELECT 'the change log is that of another cluster, from a dump; run: SELECT apikeyd.force_reload()'
  WHERE EXISTS (SELECT FROM apikeyd.revision r
                WHERE r.txn >= pg_snapshot_xmax(pg_current_snapshot()) AND r.txn IS DISTINCT FROM pg_current_xact_id_if_assigned())
  ORDER BY 1
$$;
COMMENT ON FUNCTION apikeyd.trigger_faults() IS 'What is wrong with the triggers and the change log that the daemons and the ledger rely on, one line each with what to do; nothing where all is well. After mending: select apikeyd.force_reload().';

DO $$ BEGIN PERFORM apikeyd.force_reload(); END $$;

COMMIT;
