-- The change log: every way of changing something is in it, and each transaction gets one revision.
BEGIN;
SELECT plan(57);
SET LOCAL client_min_messages = warning; -- TRUNCATE talks about what it cascades to

-- What this transaction logged since it was last asked; duplicates do not matter.
CREATE FUNCTION pg_temp.logged() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text;
BEGIN
  SELECT string_agg(t, ' ' ORDER BY t COLLATE "C") INTO answer FROM (
    SELECT DISTINCT c.kind || CASE c.kind WHEN 'key' THEN ':' || c.key_id WHEN 'catalog' THEN '' ELSE ':' || c.id END AS t
    FROM apikeyd.change c WHERE c.txn = pg_current_xact_id()) AS s;
  DELETE FROM apikeyd.change c WHERE c.txn = pg_current_xact_id();
  RETURN coalesce(answer, '');
END $$;
CREATE FUNCTION pg_temp.logs(statement text, wanted text, why text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE statement;
  RETURN is(pg_temp.logged(), wanted, why);
END $$;

SELECT is_empty('SELECT * FROM apikeyd.trigger_faults()', 'no trigger is at fault');

-- ---- statement triggers: inserts, updates, deletes, no rows, upserts, copies ----
SELECT pg_temp.logs($$INSERT INTO apikeyd.organization (id, slug) VALUES (9201, 'l-one'), (9202, 'l-two')$$, 'organization:9201 organization:9202', 'organizations added');
SELECT pg_temp.logs($$UPDATE apikeyd.organization SET standing = 'suspended' WHERE id = 9202$$, 'organization:9202', 'an organization changed');
SELECT pg_temp.logs($$UPDATE apikeyd.organization SET standing = 'suspended' WHERE id = 99999$$, '', 'no row, no entry');
SELECT pg_temp.logs($$INSERT INTO apikeyd.page (id, organization_id, slug) VALUES (9201, 9201, 'l-one-a'), (9202, 9201, 'l-one-b'), (9203, 9202, 'l-two-a')$$, 'page:9201 page:9202 page:9203', 'pages added');
SELECT pg_temp.logs($$UPDATE apikeyd.page SET standing = 'archived' WHERE organization_id = 9201$$, 'page:9201 page:9202', 'pages changed');
SELECT pg_temp.logs($$INSERT INTO apikeyd.user (id, email) VALUES (9201, 'l.one@example.com'), (9202, 'l.two@example.com')$$, 'user:9201 user:9202', 'users added');
SELECT pg_temp.logs($$UPDATE apikeyd.user SET standing = 'suspended' WHERE id = 9201$$, 'user:9201', 'a user changed');
SELECT pg_temp.logs($$INSERT INTO apikeyd.organization_member VALUES (9201, 9201, 'viewer'), (9202, 9201, 'viewer'), (9201, 9202, 'owner')$$, 'user:9201 user:9202', 'members added');
SELECT pg_temp.logs($$UPDATE apikeyd.organization_member SET role = 'editor' WHERE user_id = 9201$$, 'user:9201', 'a role changed');
SELECT pg_temp.logs($$UPDATE apikeyd.organization_member SET user_id = 9202 WHERE organization_id = 9202$$, 'user:9201 user:9202', 'a membership moved: both users');
SELECT pg_temp.logs($$INSERT INTO apikeyd.organization_member VALUES (9201, 9201, 'admin') ON CONFLICT (organization_id, user_id) DO UPDATE SET role = excluded.role$$, 'user:9201', 'an upsert that updates');
SELECT pg_temp.logs($$INSERT INTO apikeyd.organization_member VALUES (9201, 9201, 'admin') ON CONFLICT DO NOTHING$$, '', 'an upsert that does nothing');
SELECT pg_temp.logs($$DELETE FROM apikeyd.organization_member WHERE organization_id = 9202$$, 'user:9202', 'a membership deleted');
SELECT pg_temp.logs($$INSERT INTO apikeyd.page_member (page_id, user_id, role) VALUES (9201, 9201, 'owner'), (9202, 9202, 'owner')$$, 'user:9201 user:9202', 'page members added');
SELECT pg_temp.logs($$UPDATE apikeyd.page_member SET user_id = 9201 WHERE page_id = 9202$$, 'user:9201 user:9202', 'a page membership moved: both users');
SELECT pg_temp.logs($$DELETE FROM apikeyd.page_member WHERE page_id = 9202$$, 'user:9201', 'a page membership deleted');
INSERT INTO apikeyd.pepper VALUES (921, sha256('p'));
SELECT pg_temp.logs($$INSERT INTO apikeyd.key (id, kind, user_id, hash, pepper_version) SELECT 'LogKey000' || g, 'user', 9202, sha256('k'), 921 FROM generate_series(1, 3) g$$, 'key:LogKey0001 key:LogKey0002 key:LogKey0003', 'keys minted');
SELECT pg_temp.logs($$UPDATE apikeyd.key SET revoked_at = now() WHERE id = 'LogKey0002'$$, 'key:LogKey0002', 'a key revoked');
SELECT pg_temp.logs($$INSERT INTO apikeyd.key_page (key_id, page_id) VALUES ('LogKey0001', 9201), ('LogKey0001', 9202)$$, 'key:LogKey0001', 'key pages added');
SELECT pg_temp.logs($$UPDATE apikeyd.key_page SET key_id = 'LogKey0003' WHERE page_id = 9202$$, 'key:LogKey0001 key:LogKey0003', 'a key page moved: both keys');
SELECT pg_temp.logs($$INSERT INTO apikeyd.key_scope VALUES ('LogKey0001', 'page:read'), ('LogKey0003', 'page:read')$$, 'key:LogKey0001 key:LogKey0003', 'key scopes added');
SELECT pg_temp.logs($$UPDATE apikeyd.key_scope SET scope = 'page:write' WHERE key_id = 'LogKey0001'$$, 'key:LogKey0001', 'a key scope changed');
SELECT pg_temp.logs($$DELETE FROM apikeyd.key_scope WHERE key_id = 'LogKey0003'$$, 'key:LogKey0003', 'a key scope deleted');
SELECT pg_temp.logs($$INSERT INTO apikeyd.key_network VALUES ('LogKey0001', '192.0.2.0/24')$$, 'key:LogKey0001', 'a key network added');
SELECT pg_temp.logs($$UPDATE apikeyd.key_network SET key_id = 'LogKey0003' WHERE key_id = 'LogKey0001'$$, 'key:LogKey0001 key:LogKey0003', 'a key network moved: both keys');
SELECT pg_temp.logs($$DELETE FROM apikeyd.key_network WHERE key_id = 'LogKey0003'$$, 'key:LogKey0003', 'a key network deleted');
SELECT pg_temp.logs($$INSERT INTO apikeyd.scope VALUES ('log:read', true, false)$$, 'catalog', 'a scope added');
SELECT pg_temp.logs($$UPDATE apikeyd.scope SET organization_level = true WHERE name = 'log:read'$$, 'catalog', 'a scope changed');
SELECT pg_temp.logs($$INSERT INTO apikeyd.role VALUES ('page', 'log', 15)$$, 'catalog', 'a role added');
SELECT pg_temp.logs($$INSERT INTO apikeyd.role_scope VALUES ('page', 'log', 'log:read')$$, 'catalog', 'a cross added');
SELECT pg_temp.logs($$UPDATE apikeyd.role_scope SET when_named = true WHERE role = 'log'$$, 'catalog', 'a cross changed');
SELECT pg_temp.logs($$DELETE FROM apikeyd.role_scope WHERE role = 'log'$$, 'catalog', 'a cross deleted');
SELECT pg_temp.logs($$DELETE FROM apikeyd.role_scope WHERE role = 'log'$$, '', 'no cross, no entry');
SELECT pg_temp.logs($$DELETE FROM apikeyd.role WHERE name = 'log'$$, 'catalog', 'a role deleted');

-- ---- what foreign keys delete ----
SELECT pg_temp.logs($$INSERT INTO apikeyd.page_member (page_id, user_id, role) VALUES (9202, 9202, 'owner')$$, 'user:9202', 'a page member, to be deleted by cascade');
SELECT pg_temp.logs($$DELETE FROM apikeyd.page WHERE id = 9202$$, 'key:LogKey0003 page:9202 user:9202', 'a page deleted: its members and keys, too');
SELECT pg_temp.logs($$DELETE FROM apikeyd.user WHERE id = 9201$$, 'user:9201', 'a user deleted with memberships');

-- ---- row triggers, as logical replication fires them ----
SET LOCAL session_replication_role = replica;
SELECT pg_temp.logs($$UPDATE apikeyd.organization SET standing = 'active' WHERE id = 9202$$, 'organization:9202', 'replica: an organization changed');
SELECT pg_temp.logs($$INSERT INTO apikeyd.user (id, email) VALUES (9203, 'l.three@example.com')$$, 'user:9203', 'replica: a user added');
SELECT pg_temp.logs($$INSERT INTO apikeyd.organization_member VALUES (9202, 9202, 'viewer')$$, 'user:9202', 'replica: a member added');
SELECT pg_temp.logs($$UPDATE apikeyd.organization_member SET user_id = 9203 WHERE organization_id = 9202$$, 'user:9202 user:9203', 'replica: a membership moved');
SELECT pg_temp.logs($$DELETE FROM apikeyd.organization_member WHERE organization_id = 9202$$, 'user:9203', 'replica: a membership deleted');
SELECT pg_temp.logs($$UPDATE apikeyd.key SET disabled_at = now() WHERE id = 'LogKey0001'$$, 'key:LogKey0001', 'replica: a key disabled');
SELECT pg_temp.logs($$INSERT INTO apikeyd.key_scope VALUES ('LogKey0003', 'page:read')$$, 'key:LogKey0003', 'replica: a key scope added');
SELECT pg_temp.logs($$UPDATE apikeyd.key_scope SET key_id = 'LogKey0001' WHERE key_id = 'LogKey0003'$$, 'key:LogKey0001 key:LogKey0003', 'replica: a key scope moved');
SELECT pg_temp.logs($$DELETE FROM apikeyd.key_scope WHERE key_id = 'LogKey0001'$$, 'key:LogKey0001', 'replica: key scopes deleted');
SELECT pg_temp.logs($$DELETE FROM apikeyd.scope WHERE name = 'log:read'$$, 'catalog', 'replica: a scope deleted');
SELECT throws_ok($$UPDATE apikeyd.key SET revoked_at = NULL WHERE id = 'LogKey0002'$$, '23001', NULL, 'replica: guards hold');
SELECT throws_ok($$DELETE FROM apikeyd.key WHERE id = 'LogKey0002'$$, '23001', NULL, 'replica: keys stay');
SELECT throws_ok($$TRUNCATE apikeyd.key_scope$$, '23001', NULL, 'replica: no TRUNCATE');
SET LOCAL session_replication_role = origin;

-- ---- TRUNCATE ----
CREATE FUNCTION pg_temp.truncates() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  t text;
BEGIN
  FOR t IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'apikeyd'::regnamespace AND c.relkind = 'r'
           AND c.relname NOT IN ('turn', 'pending', 'daemon', 'timeline', 'schema_migration') LOOP
    BEGIN
      EXECUTE format('TRUNCATE apikeyd.%I CASCADE', t);
      RETURN NEXT t;
    EXCEPTION WHEN restrict_violation THEN NULL;
    END;
  END LOOP;
END $$;
SELECT is_empty('SELECT * FROM pg_temp.truncates()', 'TRUNCATE is refused, table by table');

-- ---- the guard over the guards ----
ALTER TABLE apikeyd.key_scope DISABLE TRIGGER key_scope_log_delete;
SELECT results_eq('SELECT * FROM apikeyd.trigger_faults()',
  $$VALUES ('trigger key_scope_log_delete on apikeyd.key_scope is disabled; run: ALTER TABLE apikeyd.key_scope ENABLE TRIGGER key_scope_log_delete')$$, 'a disabled trigger is named, with what to do');
ALTER TABLE apikeyd.key_scope ENABLE TRIGGER key_scope_log_delete;
ALTER TABLE apikeyd.user DISABLE TRIGGER ALL;
ALTER TABLE apikeyd.user ENABLE TRIGGER ALL; -- what pg_restore --disable-triggers does
SELECT results_eq($$SELECT f LIKE '%is not enabled as it should be%' AND f LIKE '%apikeyd."user"%', count(*) FROM apikeyd.trigger_faults() AS f GROUP BY 1$$,
  $$VALUES (true, 5::bigint)$$, 'triggers that are on, but not as they should be');
ALTER TABLE apikeyd.user ENABLE REPLICA TRIGGER user_log_replica, ENABLE REPLICA TRIGGER user_admin_replica, ENABLE ALWAYS TRIGGER user_same_id,
  ENABLE ALWAYS TRIGGER user_no_delete, ENABLE ALWAYS TRIGGER user_no_truncate;
DROP TRIGGER key_log_update ON apikeyd.key;
SELECT results_eq('SELECT * FROM apikeyd.trigger_faults()',
  $$VALUES ('trigger key_log_update on apikeyd.key is missing; install the schema anew')$$, 'a trigger that is gone');
CREATE TRIGGER key_log_update AFTER INSERT ON apikeyd.key FOR EACH STATEMENT EXECUTE FUNCTION apikeyd.log_catalog();
SELECT results_eq('SELECT * FROM apikeyd.trigger_faults()',
  $$VALUES ('trigger key_log_update on apikeyd.key is not the one that was installed; install the schema anew')$$, 'a trigger that is another');
ALTER TABLE apikeyd.page_member DISABLE TRIGGER ALL;
SELECT isnt_empty($$SELECT FROM apikeyd.trigger_faults() AS f WHERE f LIKE 'foreign key page_member_user_exists on apikeyd.page_member is not enforced%'$$, 'a foreign key that is not enforced');

SELECT * FROM finish();
ROLLBACK;
