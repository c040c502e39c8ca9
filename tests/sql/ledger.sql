-- The ledger: its encoding by vectors, batches, seals, partitions, guards; and administration, by whom and never a hash.
BEGIN;
SELECT plan(61);

-- ---- the encoding: what the vectors expect was made by another program from the design ----
SELECT is(apikeyd.ledger_line('a', NULL, '', 'é'), '1:a-0:2:é', 'a line: lengths in bytes, - for null');
SELECT is(apikeyd.ledger_us('2026-11-30 06:30:00.123456+00'), 1796020200123456, 'whole microseconds');
SELECT is(apikeyd.ledger_us('2199-12-31 23:59:59.999999+00'), 7258118399999999, '... far ahead, too');
SELECT is(apikeyd.ledger_ahead('2026-11-30', '2026-12-01') >= 0, true, 'partitions for the days');
SELECT is(apikeyd.ledger_ahead('2026-11-30', '2026-12-01'), 0, '... once');

INSERT INTO apikeyd.ledger_event (chain, batch, n, at, verdict, reason, method, stack, caller_uid, key_id, scope, page, org, addr, rev, age_ms, stale, explain)
VALUES ('6b1c1b0e-0000-4000-8000-00000000000a', 1, 1, '2026-11-30 06:30:00.123456+00', 'deny', 'scope_not_granted', 'check', 'default', 1000, 'LedgKey001', 'incident:write', 'acme', 'acme', '192.0.2.7', 77, 12, false, false),
       ('6b1c1b0e-0000-4000-8000-00000000000a', 1, 2, '2026-11-30 06:30:00.123457+00', 'unavailable', 'stale', 'check_many', 'default', -1, NULL, NULL, NULL, NULL, '2001:db8::1', 77, 10000, true, true);
INSERT INTO apikeyd.ledger_rollup (chain, batch, n, minute, verdict, reason, stack, caller_uid, key_id, scope, page, addr, count, first_at, last_at)
VALUES ('6b1c1b0e-0000-4000-8000-00000000000a', 1, 3, '2026-11-30 06:30:00+00', 'deny', 'unknown_key', 'default', 1000, NULL, NULL, NULL, '2001:db8:0:1::/64', 41, '2026-11-30 06:30:00.000001+00', '2026-11-30 06:30:59.999999+00');
SELECT is(d::text, '(2,2,3,2,"\\x4a3eb64512c30d77301f570fc22018e71ce88dfc6d2fa20b9ec1ca4f11970175","\\x000000010934eba200000002e7884c5e")', 'the digest of events, and their marks')
  FROM apikeyd.ledger_digest('event', '2026-11-30', '6b1c1b0e-0000-4000-8000-00000000000a', 1) AS d;
SELECT is(d::text, '(1,41,3,3,"\\x92145ff4874ae38adc72fc46eaad34ef2963233c70156bb8398871f153c61d30","\\x00000003422d7028")', 'the digest of a roll-up, and its mark')
  FROM apikeyd.ledger_digest('rollup', '2026-11-30', '6b1c1b0e-0000-4000-8000-00000000000a', 1) AS d;
SELECT is(encode(apikeyd.ledger_head('6b1c1b0e-0000-4000-8000-00000000000a', 1, 'rows', 1796020261000000, 3, 5, NULL, 1::smallint, decode(repeat('00', 32), 'hex'), 0, sha256(''),
  '[{"tbl": "event", "day": "2026-11-30", "rows": 2, "counted": 2, "digest": "4a3eb64512c30d77301f570fc22018e71ce88dfc6d2fa20b9ec1ca4f11970175"},
    {"tbl": "rollup", "day": "2026-11-30", "rows": 1, "counted": 41, "digest": "92145ff4874ae38adc72fc46eaad34ef2963233c70156bb8398871f153c61d30"}]'), 'hex'),
  '5d312acc643ada5cd6558722afb8ed1b95dd114cc4ea4b250ededc2bad40fff6', 'the head');
SELECT set_eq(format('SELECT sha256(convert_to(apikeyd.ledger_line_of(r), ''UTF8'')) FROM %s r', t), ARRAY[]::bytea[], format('the line of %s can be made', t))
  FROM unnest(ARRAY['apikeyd.ledger_hour', 'apikeyd.ledger_day']) AS t;

-- ---- a batch, as a daemon sends it ----
SET LOCAL ROLE apikeyd_check;
SELECT results_eq($$SELECT * FROM apikeyd.ledger_begin('6b1c1b0e-0000-4000-8000-00000000000b', 'host', 1)$$,
  $$VALUES ('go'::text, 0::bigint, decode(repeat('00', 32), 'hex'))$$, 'a new chain');
SELECT lives_ok($$INSERT INTO apikeyd.ledger_rollup VALUES ('6b1c1b0e-0000-4000-8000-00000000000b', 1, 1, '2026-11-30 06:30:00+00', 'allow', 'ok', 'default', 1000, 'LedgKey001', 'page:read', 'acme', NULL, 7, '2026-11-30 06:30:01+00', '2026-11-30 06:30:02+00')$$,
  'the daemon adds a roll-up');
SELECT throws_ok($$SELECT FROM apikeyd.ledger_rollup$$, '42501', NULL, '... and reads none');
SELECT throws_ok($$UPDATE apikeyd.ledger_rollup SET count = 8$$, '42501', NULL, '... and changes none');
SELECT throws_ok($$INSERT INTO apikeyd.ledger_batch DEFAULT VALUES$$, '42501', NULL, '... and makes no batch by itself');
SELECT throws_ok($$INSERT INTO apikeyd.ledger_event_20261130 SELECT$$, '42501', NULL, '... nor goes round the parent');
RESET ROLE;

-- Closes a batch as it is stored, but for what `other` says.
CREATE FUNCTION pg_temp.close(c uuid, b bigint, other jsonb DEFAULT '{}', k text DEFAULT 'rows', said text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  p jsonb;
  s record;
  h bytea;
  z record;
BEGIN
  SELECT coalesce(jsonb_agg(jsonb_build_object('tbl', t, 'day', '2026-11-30', 'rows', d.rows, 'counted', d.counted, 'digest', encode(d.digest, 'hex')) ORDER BY t), '[]') INTO p
    FROM unnest(ARRAY['event', 'rollup']) AS t, apikeyd.ledger_digest(t, '2026-11-30', c, b) AS d WHERE d.rows > 0;
  SELECT sum((e ->> 'rows')::int)::int AS rows INTO s FROM jsonb_array_elements(p) AS e;
  SELECT count(*)::int AS seals, sha256(coalesce(string_agg(l.digest, ''::bytea ORDER BY l.n), '')) AS digest INTO z FROM apikeyd.ledger_seal l WHERE l.chain = c AND l.batch = b;
  p := coalesce(other -> 'parts', p);
  h := apikeyd.ledger_head(c, b, k, 1796020261000000, coalesce((other ->> 'rows')::int, s.rows, 0), 0, said, 1::smallint,
    (SELECT l.last_head FROM apikeyd.ledger_chain l WHERE l.chain = c), z.seals, z.digest, p);
  PERFORM apikeyd.ledger_close(c, b, k, 1796020261000000, coalesce((other ->> 'rows')::int, s.rows, 0), 0, said, 1::smallint,
    (SELECT l.last_head FROM apikeyd.ledger_chain l WHERE l.chain = c), p, coalesce((other ->> 'seals')::int, z.seals), coalesce(decode(other ->> 'head', 'hex'), h), sha256('mac'));
END $$;

SELECT throws_ok($$SELECT pg_temp.close('6b1c1b0e-0000-4000-8000-00000000000b', 1, '{"rows": 2}')$$, 'XX001', NULL, 'a number of rows that is not so');
SELECT throws_ok($$SELECT pg_temp.close('6b1c1b0e-0000-4000-8000-00000000000b', 1, '{"head": "00"}')$$, '23514', NULL, 'a head that is none');
SELECT throws_ok(format($$SELECT pg_temp.close('6b1c1b0e-0000-4000-8000-00000000000b', 1, '{"head": "%s"}')$$, repeat('11', 32)), 'XX001', NULL, 'a head that is not so');
SELECT throws_ok($$SELECT pg_temp.close('6b1c1b0e-0000-4000-8000-00000000000b', 1, '{"seals": 1}')$$, 'XX001', NULL, 'seals that are not there');
SELECT throws_ok(format($$SELECT pg_temp.close('6b1c1b0e-0000-4000-8000-00000000000b', 1, '{"parts": [{"tbl": "rollup", "day": "2026-11-30", "rows": 1, "counted": %s, "digest": "%s"}]}')$$, c, d), 'XX001', NULL, why)
  FROM (VALUES (8, '00', 'a part that counts more'), (7, repeat('22', 32), 'a digest that is not so')) AS v (c, d, why);
SELECT throws_ok($$SELECT pg_temp.close('6b1c1b0e-0000-4000-8000-00000000000b', 1, '{"parts": []}')$$, 'XX001', NULL, 'a part left out');
SELECT throws_ok($$SELECT pg_temp.close('6b1c1b0e-0000-4000-8000-00000000000c', 1)$$, '55000', NULL, 'a chain that was not begun');
SELECT lives_ok($$SELECT pg_temp.close('6b1c1b0e-0000-4000-8000-00000000000b', 1)$$, 'as it is');
SELECT throws_ok($$SELECT pg_temp.close('6b1c1b0e-0000-4000-8000-00000000000b', 1)$$, '55000', NULL, 'once');
SELECT results_eq(format($$SELECT state, last_batch, last_head = (SELECT head FROM apikeyd.ledger_batch b WHERE b.chain = '6b1c1b0e-0000-4000-8000-00000000000b') FROM apikeyd.ledger_begin('6b1c1b0e-0000-4000-8000-00000000000b', 'other', %s)$$, n),
    format($$VALUES (%L::text, 1::bigint, true)$$, state), state)
  FROM (VALUES (1, 'done'), (2, 'go'), (4, 'gap')) AS v (n, state);
SELECT is(host, 'other', 'the host that wrote last') FROM apikeyd.ledger_chain WHERE chain = '6b1c1b0e-0000-4000-8000-00000000000b';
SELECT results_eq($$SELECT batch, part, tbl COLLATE "default", rows, counted FROM apikeyd.ledger_part WHERE chain = '6b1c1b0e-0000-4000-8000-00000000000b'$$,
  $$VALUES (1::bigint, 1, 'rollup', 1, 7::bigint)$$, 'its part');

-- ---- guards ----
SELECT throws_ok(format('UPDATE apikeyd.%s', change), '23001', NULL, change) FROM unnest(ARRAY['ledger_rollup SET count = 8', 'ledger_event SET page = NULL',
  'ledger_batch SET lost = 1', 'ledger_part SET rows = 9', 'ledger_chain SET last_batch = 7', 'ledger_rollup_20261130 SET count = 8']) AS change;
SELECT throws_ok('DELETE FROM apikeyd.ledger_rollup', '23001', NULL, 'no row goes');
SELECT throws_ok('TRUNCATE apikeyd.ledger_rollup_20261130', '23001', NULL, 'no partition is emptied');

-- ---- administration ----
CREATE TEMPORARY TABLE start AS SELECT coalesce(max(id), 0) AS id FROM apikeyd.ledger_admin;
SET LOCAL application_name = 'nightly';
SET LOCAL apikeyd.actor = 'ada@example.com';
SET LOCAL ROLE apikeyd_platform;
INSERT INTO apikeyd.organization (id, slug) VALUES (9601, 'led-one'), (9602, 'led-two');
RESET ROLE;
SELECT results_eq($$SELECT a.login, a.role, a.client_addr, a.application_name, a.actor, a.tbl COLLATE "default", a.action COLLATE "default", a.thing, a.before, a.after ->> 'slug', a.txn = pg_current_xact_id()
    FROM apikeyd.ledger_admin a, start WHERE a.id > start.id ORDER BY a.id$$,
  $$SELECT session_user::text COLLATE "default", 'apikeyd_platform', NULL::inet, 'nightly', 'ada@example.com', 'organization', 'insert', s, NULL::jsonb, s, true FROM (VALUES ('led-one'), ('led-two')) AS v (s)$$,
  'who, with what, on whose behalf, what; a row each');
UPDATE start SET id = (SELECT max(id) FROM apikeyd.ledger_admin);
SET LOCAL apikeyd.actor = '';
UPDATE apikeyd.organization SET slug = slug || '-x' WHERE id IN (9601, 9602);
SELECT results_eq($$SELECT a.role = session_user, a.actor, a.thing, a.before ->> 'slug', a.after ->> 'slug', a.before ->> 'id' = a.after ->> 'id' FROM apikeyd.ledger_admin a, start WHERE a.id > start.id ORDER BY 3$$,
  $$VALUES (true, NULL, 'led-one-x', 'led-one', 'led-one-x', true), (true, NULL, 'led-two-x', 'led-two', 'led-two-x', true)$$, 'before and after, row by row');
UPDATE start SET id = (SELECT max(id) FROM apikeyd.ledger_admin);
INSERT INTO apikeyd.page (id, organization_id, slug) VALUES (9601, 9601, 'led-page');
INSERT INTO apikeyd.user (id, email) VALUES (9601, 'led@example.com');
INSERT INTO apikeyd.page_member (page_id, user_id, role) VALUES (9601, 9601, 'viewer');
DELETE FROM apikeyd.page WHERE id = 9601;
SELECT results_eq($$SELECT a.tbl COLLATE "default", a.action COLLATE "default", a.thing FROM apikeyd.ledger_admin a, start WHERE a.id > start.id ORDER BY a.id$$,
  $$VALUES ('page', 'insert', 'led-page'), ('user', 'insert', 'led@example.com'), ('page_member', 'insert', '9601/9601'), ('page', 'delete', 'led-page'), ('page_member', 'delete', '9601/9601')$$,
  'what a foreign key takes along, too');
UPDATE start SET id = (SELECT max(id) FROM apikeyd.ledger_admin);
UPDATE apikeyd.organization SET name = 'x' WHERE id = 0;
SELECT is_empty('SELECT FROM apikeyd.ledger_admin a, start WHERE a.id > start.id', 'no rows, no entry');
DO $$ BEGIN PERFORM apikeyd.register_pepper(961::smallint, sha256('secret')); END $$;
INSERT INTO apikeyd.key (id, kind, organization_id, access, hash, pepper_version) VALUES ('LedgKey001', 'organization', 9601, 'read', sha256('k'), 961);
UPDATE apikeyd.key SET disabled_at = now() WHERE id = 'LedgKey001';
SELECT is_empty($$SELECT FROM apikeyd.ledger_admin a WHERE a.before ?| ARRAY['hash', 'check_value'] OR a.after ?| ARRAY['hash', 'check_value']
    OR position(encode(sha256('k'), 'hex') in a::text) > 0 OR position(encode(sha256('secret'), 'hex') in a::text) > 0$$, 'never a hash');
ALTER TABLE apikeyd.key DISABLE TRIGGER key_same;
UPDATE apikeyd.key SET hash = sha256('other') WHERE id = 'LedgKey001';
ALTER TABLE apikeyd.key ENABLE ALWAYS TRIGGER key_same;
SELECT results_eq($$SELECT a.after ->> 'hash_changed' FROM apikeyd.ledger_admin a, start WHERE a.id > start.id AND a.tbl = 'key' ORDER BY a.id$$, $$VALUES (NULL), (NULL), ('true')$$,
  'but that it is another one');
SET LOCAL session_replication_role = replica;
UPDATE start SET id = (SELECT max(id) FROM apikeyd.ledger_admin);
INSERT INTO apikeyd.key_scope VALUES ('LedgKey001', 'page:read'), ('LedgKey001', 'page:write');
DELETE FROM apikeyd.key_scope WHERE key_id = 'LedgKey001' AND scope = 'page:write';
SET LOCAL session_replication_role = origin;
SELECT results_eq($$SELECT a.tbl COLLATE "default", a.action COLLATE "default", a.thing FROM apikeyd.ledger_admin a, start WHERE a.id > start.id ORDER BY a.id$$,
  $$VALUES ('key_scope', 'insert', 'LedgKey001/page:read'), ('key_scope', 'insert', 'LedgKey001/page:write'), ('key_scope', 'delete', 'LedgKey001/page:write')$$, 'what replication applies');
SELECT throws_ok($$UPDATE apikeyd.ledger_admin SET actor = 'nobody'$$, '23001', NULL, 'nobody rewrites it');
SELECT throws_ok($$DELETE FROM apikeyd.ledger_admin$$, '23001', NULL, 'nor deletes it');

-- every table that is changed by people is recorded
SELECT set_eq($$SELECT c.relname::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE p.proname = 'administer' GROUP BY 1 HAVING count(*) = 4$$,
  $$SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'apikeyd'::regnamespace AND c.relkind = 'r' AND c.relname NOT IN ('change', 'revision', 'pending', 'turn', 'feed_floor', 'daemon', 'timeline')
    AND (c.relname NOT LIKE 'ledger\_%' OR c.relname = 'ledger_setting')$$, 'every table');

-- ---- seals ----
CREATE TEMPORARY TABLE open AS SELECT count(*)::int AS n FROM apikeyd.ledger_admin;
SELECT is((SELECT count(*)::int FROM apikeyd.ledger_admin a WHERE EXISTS (SELECT FROM apikeyd.ledger_unsealed u WHERE a.id BETWEEN u.first_id AND u.last_id AND a.txn = u.txn)), n, 'all of it waits to be sealed') FROM open;
INSERT INTO apikeyd.ledger_rollup VALUES ('6b1c1b0e-0000-4000-8000-00000000000b', 2, 1, '2026-11-30 06:31:00+00', 'allow', 'ok', 'default', 1000, 'LedgKey001', 'page:read', 'acme', NULL, 7, '2026-11-30 06:31:01+00', '2026-11-30 06:31:02+00');
SET LOCAL ROLE apikeyd_check;
SELECT results_eq($$SELECT seals FROM apikeyd.ledger_seal('6b1c1b0e-0000-4000-8000-00000000000b', 2, 3)$$, 'VALUES (3)', 'as many as may be');
RESET ROLE;
SELECT results_eq($$SELECT n, admin_id FROM apikeyd.ledger_seal WHERE batch = 2 ORDER BY 1$$, $$SELECT row_number() OVER (ORDER BY id)::int, id FROM apikeyd.ledger_admin ORDER BY id LIMIT 3$$, 'the oldest first');
SELECT lives_ok($$SELECT pg_temp.close('6b1c1b0e-0000-4000-8000-00000000000b', 2)$$, 'they are in the head');
SELECT is((apikeyd.ledger_seal('6b1c1b0e-0000-4000-8000-00000000000b', 3)).seals, n - 3, 'the rest in the next') FROM open;
SELECT is_empty('SELECT FROM apikeyd.ledger_unsealed', 'nothing is left');
SELECT results_eq($$SELECT s.seals, s.seals_digest FROM apikeyd.ledger_seal('6b1c1b0e-0000-4000-8000-00000000000b', 4) AS s$$, $$VALUES (0, sha256(''))$$, 'none are none');
SELECT is(s.digest, sha256(convert_to(apikeyd.ledger_line('admin', a.id::text, apikeyd.ledger_us(a.at)::text, a.txn::text, a.login, a.role, NULL, a.application_name, a.actor, a.tbl, a.action, a.thing,
    a.before::text, a.after::text), 'UTF8')), 'a seal is over the whole row')
  FROM apikeyd.ledger_seal s JOIN apikeyd.ledger_admin a ON a.id = s.admin_id ORDER BY a.id DESC LIMIT 1;

-- ---- partitions ----
SELECT results_eq($$SELECT partition, since, until FROM unnest(ARRAY['event', 'rollup', 'hour', 'day']) AS t, apikeyd.ledger_span(t, '2028-02-29')$$,
  $$VALUES ('ledger_event_20280229', timestamptz '2028-02-29 00:00+00', timestamptz '2028-03-01 00:00+00'), ('ledger_rollup_20280229', '2028-02-29 00:00+00', '2028-03-01 00:00+00'),
    ('ledger_hour_202802', '2028-02-01 00:00+00', '2028-03-01 00:00+00'), ('ledger_day_2028', '2028-01-01 00:00+00', '2029-01-01 00:00+00')$$, 'spans');
SELECT throws_ok($$SELECT apikeyd.ledger_ahead('2028-01-01', '2029-12-31')$$, '22023', NULL, 'not any number of days');
SELECT is(count(*), 0::bigint, 'every partition has the triggers of its parent, and one against TRUNCATE')
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  WHERE i.inhparent IN ('apikeyd.ledger_event'::regclass, 'apikeyd.ledger_rollup'::regclass, 'apikeyd.ledger_hour'::regclass, 'apikeyd.ledger_day'::regclass)
    AND (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled = 'A' AND t.tgfoid = 'apikeyd.ledger_refuse'::regproc) <> 2;
SELECT is(count(*), 0::bigint, '... and its indexes')
  FROM pg_inherits i WHERE i.inhparent IN ('apikeyd.ledger_event'::regclass, 'apikeyd.ledger_rollup'::regclass, 'apikeyd.ledger_hour'::regclass, 'apikeyd.ledger_day'::regclass)
    AND (SELECT count(*) FROM pg_index x WHERE x.indrelid = i.inhrelid) <> (SELECT count(*) FROM pg_index x WHERE x.indrelid = i.inhparent);

SELECT * FROM finish();
ROLLBACK;
