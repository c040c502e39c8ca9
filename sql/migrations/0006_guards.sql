-- What is refused: changes that no constraint can refuse, and changes that would go round the change log.
--
-- The guards are ENABLE ALWAYS, so that session_replication_role does not switch them off.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(6, 'guards'); END $$;

CREATE FUNCTION apikeyd.refuse_truncate() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION 'TRUNCATE of apikeyd.% is refused: the daemons would not notice', TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation', HINT = 'Use DELETE where rows may be deleted.';
END
$$;
COMMENT ON FUNCTION apikeyd.refuse_truncate() IS 'Trigger: refuses TRUNCATE, which no row or statement trigger for deletes would see.';

CREATE FUNCTION apikeyd.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION '% % cannot change its %', TG_TABLE_NAME,
      CASE TG_TABLE_NAME WHEN 'pepper' THEN to_jsonb(OLD) ->> 'version' ELSE to_jsonb(OLD) ->> 'id' END, TG_ARGV[0]
    USING ERRCODE = 'restrict_violation', HINT = TG_ARGV[1];
END
$$;
COMMENT ON FUNCTION apikeyd.refuse_change() IS 'Trigger: refuses a change of what never changes. Its arguments say what, and what to do instead.';

CREATE FUNCTION apikeyd.refuse_key_delete() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION 'key % cannot be deleted: that it was there must stay known', OLD.id
    USING ERRCODE = 'restrict_violation', HINT = 'Revoke it: set revoked_at to now().';
END
$$;
COMMENT ON FUNCTION apikeyd.refuse_key_delete() IS 'Trigger: refuses to delete a key.';

CREATE FUNCTION apikeyd.keep_revoked() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NEW.revoked_at IS NULL THEN
    RAISE EXCEPTION 'key % is revoked, and that is final', OLD.id
      USING ERRCODE = 'restrict_violation', HINT = 'Mint another key. One that may come back is disabled, not revoked: set disabled_at.';
  END IF;
  -- To revoke many at once must not fail, nor lose the time, because one of them was revoked before.
  NEW.revoked_at := OLD.revoked_at;
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION apikeyd.keep_revoked() IS 'Trigger: a revoked key stays revoked, as of the first time.';

CREATE FUNCTION apikeyd.refuse_owner_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  keys bigint;
BEGIN
  IF TG_TABLE_NAME = 'organization' THEN
    SELECT count(*) INTO keys FROM apikeyd.key k WHERE k.organization_id = OLD.id;
  ELSE
    SELECT count(*) INTO keys FROM apikeyd.key k WHERE k.user_id = OLD.id;
  END IF;
  IF keys > 0 THEN
    RAISE EXCEPTION '% "%" cannot be deleted: it has % key(s), and keys stay', TG_TABLE_NAME,
        coalesce(to_jsonb(OLD) ->> 'slug', to_jsonb(OLD) ->> 'email'), keys
      USING ERRCODE = 'restrict_violation', HINT = 'Suspend it instead: set standing to suspended.';
  END IF;
  RETURN OLD;
END
$$;
COMMENT ON FUNCTION apikeyd.refuse_owner_delete() IS 'Trigger: says in plain words why an organization or a user that has keys cannot be deleted. (The foreign key would refuse it too.)';

CREATE FUNCTION apikeyd.limit_rows() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  rows bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM apikeyd.%I', TG_TABLE_NAME) INTO rows;
  IF rows > TG_ARGV[0]::bigint THEN
    RAISE EXCEPTION 'apikeyd.% may have at most % rows, and would have %', TG_TABLE_NAME, TG_ARGV[0], rows
      USING ERRCODE = 'check_violation', HINT = 'The daemons hold no more. Remove what is not used.';
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikeyd.limit_rows() IS 'Trigger: refuses more scopes or roles than the daemons can hold.';

-- The conditions stand in WHEN, so that a harmless update does not pay for a function call.
CREATE TRIGGER organization_same_id BEFORE UPDATE ON apikeyd.organization FOR EACH ROW
  WHEN (OLD.id <> NEW.id)
  EXECUTE FUNCTION apikeyd.refuse_change('id', 'Change its slug and name.');
CREATE TRIGGER page_same_id BEFORE UPDATE ON apikeyd.page FOR EACH ROW
  WHEN (OLD.id <> NEW.id)
  EXECUTE FUNCTION apikeyd.refuse_change('id', 'Change its slug and name.');
CREATE TRIGGER page_same_organization BEFORE UPDATE ON apikeyd.page FOR EACH ROW
  WHEN (OLD.organization_id <> NEW.organization_id)
  EXECUTE FUNCTION apikeyd.refuse_change('organization', 'Make another page in the other organization.');
CREATE TRIGGER user_same_id BEFORE UPDATE ON apikeyd.user FOR EACH ROW
  WHEN (OLD.id <> NEW.id)
  EXECUTE FUNCTION apikeyd.refuse_change('id', 'Change its email and name.');
CREATE TRIGGER pepper_same BEFORE UPDATE ON apikeyd.pepper FOR EACH ROW
  WHEN (OLD.version <> NEW.version OR OLD.check_value <> NEW.check_value)
  EXECUTE FUNCTION apikeyd.refuse_change('version or check value', 'Give the new pepper a new version.');
CREATE TRIGGER key_same BEFORE UPDATE ON apikeyd.key FOR EACH ROW
  WHEN (OLD.id <> NEW.id OR OLD.kind <> NEW.kind OR OLD.organization_id IS DISTINCT FROM NEW.organization_id
        OR OLD.user_id IS DISTINCT FROM NEW.user_id OR OLD.hash <> NEW.hash OR OLD.pepper_version <> NEW.pepper_version)
  EXECUTE FUNCTION apikeyd.refuse_change('id, kind, owner, hash or pepper version', 'Mint another key and revoke this one.');
CREATE TRIGGER key_stays_revoked BEFORE UPDATE ON apikeyd.key FOR EACH ROW
  WHEN (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at)
  EXECUTE FUNCTION apikeyd.keep_revoked();
CREATE TRIGGER key_no_delete BEFORE DELETE ON apikeyd.key FOR EACH ROW
  EXECUTE FUNCTION apikeyd.refuse_key_delete();
CREATE TRIGGER organization_no_delete BEFORE DELETE ON apikeyd.organization FOR EACH ROW
  EXECUTE FUNCTION apikeyd.refuse_owner_delete();
CREATE TRIGGER user_no_delete BEFORE DELETE ON apikeyd.user FOR EACH ROW
  EXECUTE FUNCTION apikeyd.refuse_owner_delete();
CREATE TRIGGER scope_limit AFTER INSERT ON apikeyd.scope FOR EACH STATEMENT EXECUTE FUNCTION apikeyd.limit_rows('1000');
CREATE TRIGGER role_limit AFTER INSERT ON apikeyd.role FOR EACH STATEMENT EXECUTE FUNCTION apikeyd.limit_rows('60');

DO $$
DECLARE
  guard record;
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['scope', 'role', 'role_scope', 'organization', 'page', 'user', 'organization_member',
      'page_member', 'pepper', 'key', 'key_page', 'key_scope', 'key_network', 'change', 'revision', 'feed_floor'] LOOP
    EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON apikeyd.%I FOR EACH STATEMENT EXECUTE FUNCTION apikeyd.refuse_truncate()',
                   name || '_no_truncate', name);
  END LOOP;
  FOR guard IN
    SELECT c.relname, t.tgname FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
    WHERE c.relnamespace = 'apikeyd'::regnamespace AND NOT t.tgisinternal
      AND p.proname IN ('refuse_truncate', 'refuse_change', 'refuse_key_delete', 'keep_revoked', 'refuse_owner_delete', 'limit_rows')
  LOOP
    EXECUTE format('ALTER TABLE apikeyd.%I ENABLE ALWAYS TRIGGER %I', guard.relname, guard.tgname);
  END LOOP;
END
$$;

-- The daemon asks this when it connects and at intervals: a trigger that is off means changes that it does not see. So
-- does a log with transaction numbers that this cluster has not come to yet, as a dump of another cluster brings them:
-- when it comes to one of them, assign_revision() would take that transaction for one that has its revision.
CREATE FUNCTION apikeyd.trigger_faults() RETURNS SETOF text
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
    SELECT t.tab, t.tab || '_no_truncate', 'refuse_truncate', 'A', 34
    FROM (VALUES ('scope'), ('role'), ('role_scope'), ('organization'), ('page'), ('user'), ('organization_member'),
                 ('page_member'), ('pepper'), ('key'), ('key_page'), ('key_scope'), ('key_network'), ('change'),
                 ('revision'), ('feed_floor')) AS t (tab)
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
COMMENT ON FUNCTION apikeyd.trigger_faults() IS 'What is wrong with the triggers and the change log that the daemons rely on, one line each with what to do; nothing where all is well. After mending: select apikeyd.force_reload().';

COMMIT;
