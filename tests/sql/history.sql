-- Lost and accepted history in the ledger: who may enter it, what is taken, once each, and how auditors see it.
BEGIN;
SELECT plan(67);

-- What a daemon says, with one thing of it changed.
CREATE FUNCTION pg_temp.lost(other text DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
  SELECT format('SELECT apikeyd.history_lost(%L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L)', o ->> 'loss', o ->> 'daemon', o ->> 'noted_us', o ->> 'why', o ->> 'on',
    o ->> 'whole', o ->> 'was', o ->> 'found', o ->> 'revoked', o ->> 'retired', o ->> 'disabled', o ->> 'key_ids')
  FROM (SELECT jsonb '{"loss": "6b1c1b0e-0000-4000-8000-0000000000a1", "daemon": "6b1c1b0e-0000-4000-8000-0000000000d1", "noted_us": 1796020261000001, "why": "log",
    "on": "keep", "whole": true, "was": "1796020260000001/7061234567890123456/1/16384", "found": "1796020200000001/17061234567890123456/2/16384",
    "revoked": 2, "retired": 1, "disabled": 0, "key_ids": "{HistKey001,HistKey002}"}' || other::jsonb AS o) AS d
$$;
CREATE FUNCTION pg_temp.accepted(other text DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
  SELECT format('SELECT apikeyd.history_accepted(%L, %L, %L, %L, %L, %L, %L, %L)', o ->> 'loss', o ->> 'daemon', o ->> 'noted_us', o ->> 'actor', o ->> 'revoked',
    o ->> 'retired', o ->> 'disabled', o ->> 'key_ids')
  FROM (SELECT jsonb '{"loss": "6b1c1b0e-0000-4000-8000-0000000000a1", "daemon": "6b1c1b0e-0000-4000-8000-0000000000d1", "noted_us": 1796020262000001,
    "actor": "uid:1000", "revoked": 2, "retired": 1, "disabled": 0, "key_ids": "{HistKey001,HistKey002}"}' || other::jsonb AS o) AS d
$$;

-- ---- who ----
SELECT is(has_function_privilege(role, 'apikeyd.history_lost(uuid, uuid, bigint, text, text, boolean, text, text, int, int, int, text[])', 'EXECUTE')
       AND has_function_privilege(role, 'apikeyd.history_accepted(uuid, uuid, bigint, text, int, int, int, text[])', 'EXECUTE'), role = 'apikeyd_check', format('%s: says that history is lost', role))
  FROM unnest(ARRAY['apikeyd_check', 'apikeyd_admin', 'apikeyd_platform', 'apikeyd_auditor']) AS role;
SELECT is(has_function_privilege(role, 'apikeyd.history_enter(text, uuid, uuid, bigint, text, jsonb, int, int, int, text[])', 'EXECUTE'), false, format('%s: writes no entry of its own', role))
  FROM unnest(ARRAY['apikeyd_check', 'apikeyd_admin', 'apikeyd_platform', 'apikeyd_auditor']) AS role;
SELECT results_eq($$SELECT proname::text COLLATE "default", prosecdef, array_to_string(proconfig, ', ') COLLATE "default" FROM pg_proc WHERE pronamespace = 'apikeyd'::regnamespace AND proname IN ('history_lost', 'history_accepted') ORDER BY 1$$,
  $$VALUES ('history_accepted', true, 'search_path=pg_catalog, pg_temp, lock_timeout=100ms'), ('history_lost', true, 'search_path=pg_catalog, pg_temp, lock_timeout=100ms')$$, 'they do not wait long');
SELECT is(col_description('apikeyd.administration'::regclass, attnum) LIKE '%history%', true, format('administration.%s says what it is of history', attname))
  FROM pg_attribute WHERE attrelid = 'apikeyd.administration'::regclass AND attname IN ('tbl', 'action', 'thing') ORDER BY attname;

-- ---- what is taken ----
SET LOCAL ROLE apikeyd_check;
SELECT throws_ok(pg_temp.lost(), '55000', NULL, 'a daemon that is not registered');
SELECT lives_ok($$SELECT apikeyd.daemon_seen('6b1c1b0e-0000-4000-8000-0000000000d1', 'host.example', 77, '0.1', 0, '14 s'), apikeyd.daemon_seen('6b1c1b0e-0000-4000-8000-0000000000d2', 'other.example', 78, '0.1', 0, '14 s')$$, 'two that are');
SELECT throws_ok(pg_temp.lost(other), state, NULL, 'lost: ' || other) FROM (VALUES
  ('{"loss": null}', '22023'), ('{"daemon": null}', '22023'), ('{"noted_us": null}', '22023'), ('{"noted_us": -1}', '22023'), ('{"noted_us": 9223372036854775807}', '22023'),
  ('{"why": null}', '22023'), ('{"why": "because"}', '22023'), ('{"on": null}', '22023'), ('{"on": "insert"}', '22023'), ('{"whole": null}', '22023'),
  ('{"was": null}', '22023'), ('{"was": "1/2/3"}', '22023'), ('{"found": "1/2/3/4 "}', '22023'), ('{"found": "9999999999999999999/2/3/4"}', '22003'),
  ('{"revoked": null}', '22023'), ('{"retired": -1}', '22023'), ('{"key_ids": null}', '22023'), ('{"key_ids": "{HistKey001,NULL}"}', '22023'),
  ('{"key_ids": "{HistKey01}"}', '22023'), ('{"key_ids": "{\"HistKey01'' \"}"}', '22023'), ('{"key_ids": "{{HistKey001},{HistKey002}}"}', '22023'),
  ('{"revoked": 0, "retired": 0}', '22023')) AS v (other, state);
SELECT throws_ok(pg_temp.lost(format('{"revoked": 100, "key_ids": "{%s}"}', string_agg('HistKey0' || 10 + i, ','))), '22023', NULL, 'more ids than one entry takes')
  FROM generate_series(1, 65) AS i;
SELECT throws_ok(pg_temp.accepted(other), '22023', NULL, 'accepted: ' || other) FROM unnest(ARRAY['{"actor": null}', '{"actor": "ada@example.com"}',
  '{"actor": "uid:1000\n"}', '{"actor": "uid:12345678901"}', '{"revoked": -1}', '{"loss": null}']) AS other;

-- ---- once each ----
SELECT results_eq(pg_temp.lost(), 'VALUES (true)', 'history was lost');
SELECT results_eq(pg_temp.lost('{"daemon": "6b1c1b0e-0000-4000-8000-0000000000d2"}'), 'VALUES (false)', '... which is entered once, whichever process says so');
SELECT results_eq(pg_temp.accepted(), 'VALUES (true)', 'and accepted');
SELECT results_eq(pg_temp.accepted('{"daemon": "6b1c1b0e-0000-4000-8000-0000000000d9"}'), 'VALUES (false)', '... once, also where its process is not registered any more');
SELECT results_eq(pg_temp.lost('{"loss": "6b1c1b0e-0000-4000-8000-0000000000a2", "daemon": "6b1c1b0e-0000-4000-8000-0000000000d2", "on": "refuse", "whole": false, "revoked": 0, "retired": 0, "key_ids": "{}"}'),
  'VALUES (true)', 'another daemon says it for itself');
SELECT throws_ok($$INSERT INTO apikeyd.ledger_admin (at, txn, login, role, application_name, tbl, action, thing) SELECT now(), pg_current_xact_id(), '', '', '', 'history', 'accepted', 'x'$$, '42501', NULL, 'nothing goes round the functions');
SELECT throws_ok($$SELECT FROM apikeyd.ledger_admin$$, '42501', NULL, '... and what stands there daemons do not read');
RESET ROLE;
SELECT throws_ok(format($$INSERT INTO apikeyd.ledger_admin (at, txn, login, role, application_name, tbl, action, thing) SELECT now(), pg_current_xact_id(), '', '', '', %L, %L, 'x'$$, tbl, action), '23514', NULL,
    format('%s of %s is no word of the ledger', action, tbl))
  FROM (VALUES ('history', 'insert'), ('key', 'lost'), ('key', 'accepted')) AS v (tbl, action);

-- ---- how it is seen ----
SELECT results_eq($$SELECT who, action COLLATE "default", tbl COLLATE "default", changed, actor, login = session_user, role, sealed FROM apikeyd.administration WHERE tbl = 'history' ORDER BY id$$,
  $$VALUES (session_user::text COLLATE "default", 'lost', 'history', 'revision 1796020260000001 (timeline 1) -> 1796020200000001 (timeline 2), 3 key(s) kept denied on host.example', NULL, true, 'apikeyd_check', false),
           ('uid:1000', 'accepted', 'history', '3 key(s) as the database says, on host.example', 'uid:1000', true, 'apikeyd_check', false),
           (session_user::text COLLATE "default", 'lost', 'history', 'revision 1796020260000001 (timeline 1) -> 1796020200000001 (timeline 2), 0 key(s) kept denied on other.example', NULL, true, 'apikeyd_check', false)$$,
  'administration');
SELECT is(after, '{"daemon": "6b1c1b0e-0000-4000-8000-0000000000d1", "host": "host.example", "pid": 77, "noted_at": "2026-11-30T06:31:01.000001Z", "why": "log", "on_history_loss": "keep", "whole": true,
    "was": {"rev": 1796020260000001, "system": "7061234567890123456", "timeline": 1, "database": 16384}, "found": {"rev": 1796020200000001, "system": "17061234567890123456", "timeline": 2, "database": 16384},
    "keys": 3, "revoked": 2, "retired": 1, "disabled": 0, "key_ids": ["HistKey001", "HistKey002"]}'::jsonb, 'all of it')
  FROM apikeyd.administration WHERE tbl = 'history' AND action = 'lost' AND thing = '6b1c1b0e-0000-4000-8000-0000000000a1';
SELECT results_eq($$SELECT host, why, was_rev, found_rev, was_timeline, found_timeline, on_history_loss, keys, key_ids, lost_at, accepted_at, accepted_by FROM apikeyd.lost_history ORDER BY loss$$,
  $$VALUES ('host.example', 'log', 1796020260000001, 1796020200000001, 1::bigint, 2::bigint, 'keep', 3::bigint, ARRAY['HistKey001', 'HistKey002'], timestamptz '2026-11-30 06:31:01.000001+00', timestamptz '2026-11-30 06:31:02.000001+00', 'uid:1000'),
           ('other.example', 'log', 1796020260000001, 1796020200000001, 1, 2, 'refuse', 0, '{}', '2026-11-30 06:31:01.000001+00', NULL, NULL)$$, 'lost_history');
INSERT INTO apikeyd.organization (id, slug) VALUES (9601, 'h-one');
INSERT INTO apikeyd.page (organization_id, slug) VALUES (9601, 'h-one-a');
SELECT results_eq($$SELECT action COLLATE "default", count(*) FROM apikeyd.access_changes('h-one-a', now() - interval '1 min') WHERE tbl = 'history' GROUP BY 1 ORDER BY 1$$, $$VALUES ('accepted', 1::bigint), ('lost', 2::bigint)$$,
  'it bears on who may do what on a page');
SELECT is(count(*), 3::bigint, 'each waits for a seal') FROM apikeyd.ledger_admin a JOIN apikeyd.ledger_unsealed u ON a.id BETWEEN u.first_id AND u.last_id AND a.txn = u.txn
  WHERE a.tbl = 'history';
SELECT is_empty($$SELECT problem FROM apikeyd.ledger_verify_admin(now() - interval '1 min') WHERE severity = 'fault'$$, 'and is as it was written');
SELECT throws_ok(change, '23001', NULL, change) FROM unnest(ARRAY['UPDATE apikeyd.ledger_admin SET actor = NULL WHERE tbl = ''history''', 'DELETE FROM apikeyd.ledger_admin WHERE tbl = ''history''']) AS change;

-- ---- nobody speaks first for another ----
SET LOCAL ROLE apikeyd_check;
SELECT results_eq(say, 'VALUES (true)', 'in other words is another entry: ' || say) FROM unnest(ARRAY[pg_temp.lost('{"revoked": 9}'), pg_temp.lost('{"why": "wal"}'),
  pg_temp.accepted('{"actor": "uid:0"}'), pg_temp.accepted('{"noted_us": 1}'), pg_temp.accepted('{"key_ids": "{HistKey001}"}')]) AS say;
RESET ROLE;
SELECT results_eq($$SELECT action COLLATE "default", count(*) FROM apikeyd.administration WHERE tbl = 'history' GROUP BY 1 ORDER BY 1$$, $$VALUES ('accepted', 4::bigint), ('lost', 4)$$, 'and all of them stand there');

SELECT * FROM finish();
ROLLBACK;
