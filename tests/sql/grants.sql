-- Least grants: role by role, every table, column and function; and nothing goes round them.
BEGIN;
SELECT plan(68);
CREATE ROLE somebody_else NOLOGIN;

-- ---- what there is, as one table to compare ----
CREATE TEMPORARY VIEW held AS
SELECT r.role, c.relname::text AS tab, p.privilege,
       CASE WHEN has_table_privilege(r.role, c.oid, p.privilege) THEN '*' ELSE cols.names END AS columns
FROM unnest(ARRAY['apikeyd_check', 'apikeyd_admin', 'apikeyd_platform', 'apikeyd_auditor', 'somebody_else']) AS r (role),
  pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p (privilege),
  LATERAL (SELECT string_agg(a.attname, ' ' ORDER BY a.attnum) AS names FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND p.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
             AND has_column_privilege(r.role, c.oid, a.attnum, p.privilege)) AS cols
WHERE c.relnamespace = 'apikeyd'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND (has_table_privilege(r.role, c.oid, p.privilege) OR cols.names IS NOT NULL);

CREATE TEMPORARY TABLE design (role text, tabs text, privileges text, columns text);
INSERT INTO design VALUES
  -- three read the domain
  ('apikeyd_check',    'scope role role_scope organization page user organization_member page_member key_page key_scope key_network schema_migration', 'SELECT', '*'),
  ('apikeyd_admin',    'scope role role_scope organization page user organization_member page_member key_page key_scope key_network schema_migration', 'SELECT', '*'),
  ('apikeyd_platform', 'scope role role_scope organization page user organization_member page_member key_page key_scope key_network schema_migration', 'SELECT', '*'),
  -- the daemon alone reads all of a key
  ('apikeyd_check',    'key pepper change revision feed_floor', 'SELECT', '*'),
  ('apikeyd_admin',    'key', 'SELECT', 'id kind organization_id user_id access name pepper_version narrowed_pages narrowed_scopes narrowed_networks narrowed_rate rate_count rate_period_s not_before expires_at retired_at successor disabled_at revoked_at created_at created_by organization_or_0 access_place'),
  ('apikeyd_platform', 'key', 'SELECT', 'id kind organization_id user_id access name pepper_version narrowed_pages narrowed_scopes narrowed_networks narrowed_rate rate_count rate_period_s not_before expires_at retired_at successor disabled_at revoked_at created_at created_by organization_or_0 access_place'),
  -- administration and the platform change things
  ('apikeyd_admin',    'organization page user organization_member page_member', 'INSERT UPDATE DELETE', '*'),
  ('apikeyd_platform', 'organization page user organization_member page_member', 'INSERT UPDATE DELETE', '*'),
  ('apikeyd_platform', 'scope role role_scope', 'INSERT UPDATE DELETE', '*'),
  ('apikeyd_admin',    'key_page key_scope key_network', 'INSERT DELETE', '*'),
  ('apikeyd_platform', 'key_page key_scope key_network', 'INSERT DELETE', '*'),
  ('apikeyd_admin',    'key', 'INSERT', 'id kind organization_id user_id access name hash pepper_version narrowed_pages narrowed_scopes narrowed_networks narrowed_rate rate_count rate_period_s not_before expires_at created_by'),
  ('apikeyd_admin',    'key', 'UPDATE', 'name narrowed_pages narrowed_scopes narrowed_networks narrowed_rate rate_count rate_period_s not_before expires_at retired_at successor disabled_at revoked_at'),
  ('apikeyd_platform', 'key', 'UPDATE', 'name narrowed_pages narrowed_scopes narrowed_networks narrowed_rate rate_count rate_period_s not_before expires_at retired_at successor disabled_at revoked_at'),
  ('apikeyd_admin',    'daemon daemons longest_lease timeline', 'SELECT', '*'),
  ('apikeyd_platform', 'daemons longest_lease', 'SELECT', '*'),
  -- the daemon writes the ledger and does not read it
  ('apikeyd_check',    'ledger_event ledger_rollup', 'INSERT', '*'),
  -- the auditor reads views
  ('apikeyd_auditor',  'scopes roles role_scopes organizations pages users organization_members page_members keys key_pages key_scopes key_networks peppers', 'SELECT', '*'),
  ('apikeyd_auditor',  'changes revisions timelines schema_migrations settings daemons', 'SELECT', '*'),
  ('apikeyd_auditor',  'verdicts denials key_usage key_last_allowed key_last_used keys_never_used never_used_scopes never_used_pages administration lost_history chains', 'SELECT', '*'),
  ('apikeyd_admin',    'key_usage key_last_used never_used_scopes never_used_pages', 'SELECT', '*');
CREATE TEMPORARY VIEW wanted AS
SELECT d.role, tab, privilege, d.columns FROM design d, unnest(string_to_array(d.tabs, ' ')) AS tab, unnest(string_to_array(d.privileges, ' ')) AS privilege;

SELECT set_eq(format('SELECT tab, privilege, columns FROM held WHERE role = %L', role), format('SELECT tab, privilege, columns FROM wanted WHERE role = %L', role),
    format('%s: every table and column', role))
  FROM unnest(ARRAY['apikeyd_check', 'apikeyd_admin', 'apikeyd_platform', 'apikeyd_auditor']) AS role;
SELECT set_eq($$SELECT DISTINCT c.relkind::text FROM held h JOIN pg_class c ON c.relname = h.tab AND c.relnamespace = 'apikeyd'::regnamespace
  WHERE h.role = 'apikeyd_auditor'$$, ARRAY['v'], 'the auditor reads views and no table');
SELECT is_empty($$SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
  WHERE c.relnamespace = 'apikeyd'::regnamespace AND c.relkind = 'v' AND a.attnum > 0 AND (a.attname ~ 'hash|check_value|mac' OR a.atttypid = 'bytea'::regtype)$$,
  'no view shows a hash');
SELECT is_empty($$SELECT * FROM held WHERE role = 'somebody_else'$$, 'PUBLIC has no table and no column');
SELECT set_eq($$SELECT role FROM held WHERE tab = 'key' AND privilege = 'SELECT' AND (columns = '*' OR 'hash' = ANY (string_to_array(columns, ' ')))$$,
  ARRAY['apikeyd_check'], 'nobody but apikeyd_check reads a hash');

-- functions
CREATE TEMPORARY VIEW may_execute AS
SELECT r.role, p.proname::text AS function
FROM unnest(ARRAY['apikeyd_check', 'apikeyd_admin', 'apikeyd_platform', 'apikeyd_auditor', 'somebody_else']) AS r (role), pg_proc p
WHERE p.pronamespace = 'apikeyd'::regnamespace AND has_function_privilege(r.role, p.oid, 'EXECUTE');
SELECT set_eq(format('SELECT function FROM may_execute WHERE role = %L', role), string_to_array(functions, ' '), format('%s: every function', role))
  FROM (VALUES ('apikeyd_check', 'schema_version revision trigger_faults daemon_seen daemon_gone trim_change_log ledger_begin ledger_seal ledger_close ledger_ahead ledger_due ledger_compact ledger_prune ledger_head history_lost history_accepted'),
               ('apikeyd_admin', 'schema_version revision trigger_faults register_pepper wait_for wait'),
               ('apikeyd_platform', 'schema_version revision wait_for wait'),
               ('apikeyd_auditor', 'schema_version revision trigger_faults explain_rights wait_for wait ledger_verify ledger_verify_chains ledger_verify_admin ledger_verify_rows ledger_partitions ledger_heads who_can what_can access_changes busiest bad_key_sources')) AS f (role, functions);
SELECT is_empty($$SELECT * FROM may_execute WHERE role = 'somebody_else'$$, 'PUBLIC may execute nothing');

-- schema, sequences, types
SELECT is(has_schema_privilege(role, 'apikeyd', 'USAGE'), role <> 'somebody_else', format('%s: usage of the schema', role))
  FROM unnest(ARRAY['apikeyd_check', 'apikeyd_admin', 'apikeyd_platform', 'apikeyd_auditor', 'somebody_else']) AS role;
SELECT is(has_schema_privilege(role, 'apikeyd', 'CREATE'), false, format('%s: makes nothing in the schema', role))
  FROM unnest(ARRAY['apikeyd_check', 'apikeyd_admin', 'apikeyd_platform', 'apikeyd_auditor', 'somebody_else']) AS role;
SELECT is_empty($$
  SELECT r, c.relname, p FROM unnest(ARRAY['apikeyd_check', 'apikeyd_admin', 'apikeyd_platform', 'apikeyd_auditor', 'somebody_else']) AS r, pg_class c,
    unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS p
  WHERE c.relnamespace = 'apikeyd'::regnamespace AND c.relkind = 'S' AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(r, c.oid, p) END
$$, 'nobody touches a sequence');
SELECT is_empty($$
  SELECT m.rolname, g.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid
  WHERE m.rolname LIKE 'apikeyd\_%' AND g.rolname LIKE 'apikeyd\_%'
$$, 'no role is a member of another');
SELECT is_empty($$SELECT rolname FROM pg_roles WHERE rolname LIKE 'apikeyd\_%' AND (rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)$$,
  'no role logs in or has a power over the cluster');

-- what the owner owns, and how its functions are made
SELECT is_empty($$
  SELECT relname FROM pg_class WHERE relnamespace = 'apikeyd'::regnamespace AND relowner <> 'apikeyd_owner'::regrole
  UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'apikeyd'::regnamespace AND proowner <> 'apikeyd_owner'::regrole
  UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'apikeyd'::regnamespace AND typowner <> 'apikeyd_owner'::regrole
  UNION ALL SELECT nspname FROM pg_namespace WHERE nspname = 'apikeyd' AND nspowner <> 'apikeyd_owner'::regrole
$$, 'apikeyd_owner owns everything');
SELECT is_empty($$
  SELECT proname FROM pg_proc WHERE pronamespace = 'apikeyd'::regnamespace
    AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false) AND proname NOT IN ('wait', 'ledger_field', 'ledger_us', 'ledger_line_of')
$$, 'every function has a fixed search_path, pg_temp last');
-- One that has a setting is not inlined.
SELECT is_empty($$SELECT proname FROM pg_proc WHERE pronamespace = 'apikeyd'::regnamespace AND proname IN ('ledger_field', 'ledger_us', 'ledger_line_of')
  AND (prosecdef OR proconfig IS NOT NULL OR prosrc ~ '[^.a-z_](concat|octet_length|date_part|text|int8)[^a-z_0-9]')$$,
  'but those that run once a field, which have no power of their own and name all in full');
-- A procedure with a setting of its own could not commit.
SELECT results_eq($$SELECT prokind = 'p' AND NOT prosecdef AND proconfig IS NULL FROM pg_proc
  WHERE pronamespace = 'apikeyd'::regnamespace AND proname = 'wait'$$, 'VALUES (true)', 'but wait, which has no power of its own');
SET LOCAL ROLE apikeyd_owner;
CREATE FUNCTION apikeyd.later() RETURNS int LANGUAGE sql AS 'SELECT 1';
RESET ROLE;
SELECT is(has_function_privilege('somebody_else', 'apikeyd.later()', 'EXECUTE'), false, 'what the owner makes later is not PUBLIC''s either');
DROP FUNCTION apikeyd.later();

-- ---- and it works that way ----
INSERT INTO apikeyd.organization (id, slug) VALUES (9501, 'g-one');
INSERT INTO apikeyd.user (id, email) VALUES (9501, 'g@example.com');

SET LOCAL ROLE apikeyd_admin;
SELECT lives_ok($$SELECT apikeyd.register_pepper(951::smallint, sha256('p'))$$, 'admin registers a pepper');
SELECT lives_ok($$INSERT INTO apikeyd.page (organization_id, slug) VALUES (9501, 'g-one-a')$$, 'admin adds a page');
SELECT lives_ok($$INSERT INTO apikeyd.page_member (page_id, user_id, role) SELECT id, 9501, 'editor' FROM apikeyd.page WHERE slug = 'g-one-a'$$, 'admin adds a page member');
SELECT lives_ok($$INSERT INTO apikeyd.key (id, kind, organization_id, access, hash, pepper_version, narrowed_pages) VALUES ('GrantKey01', 'organization', 9501, 'read', sha256('k'), 951, true)
  ON CONFLICT (id) DO NOTHING RETURNING id, created_at$$, 'admin inserts a key');
SELECT lives_ok($$INSERT INTO apikeyd.key_page (key_id, page_id) SELECT 'GrantKey01', id FROM apikeyd.page WHERE slug = 'g-one-a'$$, 'admin narrows it');
SELECT lives_ok($$SELECT apikeyd.revision()$$, 'admin is told the revision');
SELECT throws_ok($$SELECT hash FROM apikeyd.key$$, '42501', NULL, 'admin reads no hash');
SELECT throws_ok($$SELECT * FROM apikeyd.key$$, '42501', NULL, 'admin reads no whole key');
SELECT throws_ok($$SELECT k FROM apikeyd.key k$$, '42501', NULL, '... nor as a row');
SELECT throws_ok($$INSERT INTO apikeyd.key (id, kind, user_id, hash, pepper_version) VALUES ('GrantKey02', 'user', 9501, sha256('k'), 951) RETURNING hash$$, '42501', NULL, '... nor by RETURNING');
SELECT throws_ok($$UPDATE apikeyd.key SET name = 'x' WHERE hash = sha256('k')$$, '42501', NULL, '... nor by asking for it');
SELECT throws_ok($$INSERT INTO apikeyd.key (id, kind, user_id, hash, pepper_version) VALUES ('GrantKey01', 'user', 9501, sha256('k'), 951)
  ON CONFLICT (id) DO UPDATE SET name = encode(apikeyd.key.hash, 'hex')$$, '42501', NULL, '... nor by an upsert');
SELECT throws_ok($$DELETE FROM apikeyd.key$$, '42501', NULL, 'admin deletes no key');
SELECT throws_ok($$UPDATE apikeyd.key SET access = 'write'$$, '42501', NULL, 'admin widens no access');
SELECT throws_ok($$SELECT FROM apikeyd.change$$, '42501', NULL, 'admin has no business in the log');
SELECT throws_ok($$LOCK TABLE apikeyd.turn IN EXCLUSIVE MODE$$, '42501', NULL, 'admin cannot take the turn');
SELECT throws_ok($$SELECT apikeyd.force_reload()$$, '42501', NULL, 'admin forces no reload');

SET LOCAL ROLE apikeyd_platform;
SELECT lives_ok($$UPDATE apikeyd.key SET revoked_at = now() WHERE id = 'GrantKey01'$$, 'the platform revokes');
SELECT lives_ok($$INSERT INTO apikeyd.scope (name, page_level, organization_level) VALUES ('grant:read', true, false)$$, 'the platform adds a scope');
SELECT lives_ok($$INSERT INTO apikeyd.role_scope (place, role, scope) VALUES ('page', 'viewer', 'grant:read')$$, 'the platform gives it to a role');
SELECT lives_ok($$SELECT apikeyd.revision()$$, 'the platform is told the revision');
SELECT throws_ok($$INSERT INTO apikeyd.key (id, kind, user_id, pepper_version) VALUES ('GrantKey03', 'user', 9501, 951)$$, '42501', NULL, 'the platform makes no key');
SELECT throws_ok($$SELECT hash FROM apikeyd.key$$, '42501', NULL, 'the platform reads no hash');
SELECT throws_ok($$LOCK TABLE apikeyd.turn IN EXCLUSIVE MODE$$, '42501', NULL, 'the platform cannot take the turn');
SELECT throws_ok($$CREATE TRIGGER t AFTER INSERT ON apikeyd.page FOR EACH ROW EXECUTE FUNCTION apikeyd.log_id('page')$$, '42501', NULL, 'the platform makes no trigger');

SET LOCAL ROLE apikeyd_auditor;
SELECT lives_ok($$SELECT * FROM apikeyd.explain_rights('GrantKey01', 'page:read', 'g-one-a', 'g-one', '192.0.2.1', now())$$, 'the auditor explains rights');
SELECT throws_ok($$SELECT id FROM apikeyd.key$$, '42501', NULL, 'the auditor reads no table');
SELECT lives_ok($$SELECT * FROM apikeyd.keys, apikeyd.settings$$, 'the auditor reads views');
SELECT is(apikeyd.schema_version() > 10, true, 'the auditor is told the version');
SELECT throws_ok($$UPDATE apikeyd.page SET name = 'x'$$, '42501', NULL, 'the auditor changes nothing');

SET LOCAL ROLE apikeyd_check;
SELECT lives_ok($$SELECT hash FROM apikeyd.key$$, 'the daemon reads hashes');
SELECT lives_ok($$SELECT apikeyd.daemon_seen('6b1c1b0e-0000-4000-8000-000000000001', 'host', 1, '0.1', 0, '14 s'), apikeyd.daemon_seen('6b1c1b0e-0000-4000-8000-000000000001', 'host', 1, '0.1', 5, '14 s')$$, 'the daemon registers');
SELECT lives_ok($$SELECT apikeyd.daemon_gone('6b1c1b0e-0000-4000-8000-000000000002')$$, 'and takes it back');
SELECT throws_ok($$UPDATE apikeyd.page SET name = 'x'$$, '42501', NULL, 'the daemon changes no page');
SELECT throws_ok($$UPDATE apikeyd.daemon SET applied_rev = 9$$, '42501', NULL, 'the daemon registers through its function alone');
SELECT throws_ok($$SELECT apikeyd.set_longest_lease('1 h')$$, '42501', NULL, 'the daemon does not choose how long its lease may be');
RESET ROLE;
SELECT is(applied_rev, 5::bigint, 'what it said last stands') FROM apikeyd.daemon WHERE id = '6b1c1b0e-0000-4000-8000-000000000001';

SELECT * FROM finish();
ROLLBACK;
