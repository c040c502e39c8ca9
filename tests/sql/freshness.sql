-- Leases, waiting for a revision, and a change log that ends, as far as one session can show them.
BEGIN;
SELECT plan(69);
CREATE FUNCTION pg_temp.uuid(n int) RETURNS uuid LANGUAGE sql AS $$ SELECT ('6b1c1b0e-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;

-- ---- the longest lease ----
SELECT is(apikeyd.set_longest_lease('30 s'), interval '30 s', 'a longest lease');
SELECT is(lease, interval '30 s', 'stands') FROM apikeyd.longest_lease;
SELECT throws_ok($$SELECT apikeyd.set_longest_lease('0')$$, '23514', NULL, 'no lease is none');
SELECT throws_ok($$SELECT apikeyd.set_longest_lease(NULL)$$, '23502', NULL, 'nor is nothing');
SELECT throws_ok($$INSERT INTO apikeyd.longest_lease VALUES (false, '1 s')$$, '23514', NULL, 'one row');
SELECT throws_ok($$TRUNCATE apikeyd.longest_lease$$, '23001', NULL, 'and that one stays');

-- ---- registering ----
SET LOCAL synchronous_commit = off;
SELECT apikeyd.daemon_seen(pg_temp.uuid(1), 'one.example', 11, '1.0', 0, '20 s') \g /dev/null
SELECT is(current_setting('synchronous_commit'), 'local', 'a registration outlives a crash');
SELECT results_eq($$SELECT host, pid, version, applied_rev, lease FROM apikeyd.daemon$$,
  $$VALUES ('one.example', 11, '1.0', 0::bigint, interval '20 s')$$, 'it stands there');
SELECT is(lease_until - seen_at, interval '20 s', 'the lease begins with it') FROM apikeyd.daemon;
SELECT cmp_ok(seen_at, '>', now(), '... and not with the transaction') FROM apikeyd.daemon;
SELECT apikeyd.daemon_seen(pg_temp.uuid(1), 'one.example', 11, '1.1', 7, '25 s') \g /dev/null
SELECT results_eq($$SELECT version, applied_rev, lease, lease_until - seen_at, seen_at > started_at FROM apikeyd.daemon$$,
  $$VALUES ('1.1', 7::bigint, interval '25 s', interval '25 s', true)$$, 'the next one takes its place');
SELECT throws_ok($$SELECT apikeyd.daemon_seen(pg_temp.uuid(2), 'two.example', 22, '1.0', 0, '30.001 s')$$, '55000',
  'the lease of 30.001s is longer than the longest that this database allows, 30.000s', 'a longer lease is refused');
SELECT is(count(*), 1::bigint, 'and not registered') FROM apikeyd.daemon;
SELECT lives_ok($$SELECT apikeyd.daemon_seen(pg_temp.uuid(2), 'two.example', 22, '1.0', 0, '30 s')$$, 'just as long is right');
SELECT throws_ok($$SELECT apikeyd.daemon_seen(pg_temp.uuid(3), 'three.example', 33, '1.0', 0, '0')$$, '23514', NULL, 'no lease is none');
SELECT throws_ok($$SELECT apikeyd.set_longest_lease('29 s')$$, '55000', 'the daemon on two.example (pid 22) has a lease of 00:00:30', 'not below a live one');
SELECT lives_ok($$SELECT apikeyd.set_longest_lease('31 s')$$, 'above it is right');
SELECT lives_ok($$SELECT apikeyd.set_longest_lease('30 s')$$, 'and back');
SELECT apikeyd.daemon_gone(pg_temp.uuid(2)) \g /dev/null
SELECT is(count(*), 1::bigint, 'one that is gone is gone') FROM apikeyd.daemon;
SELECT lives_ok($$SELECT apikeyd.set_longest_lease('25 s')$$, 'its lease counts no more');

-- ---- waiting ----
CREATE TEMPORARY TABLE seen (what text PRIMARY KEY, rev bigint);
INSERT INTO apikeyd.organization (id, slug) VALUES (9601, 'f-one');
INSERT INTO seen SELECT 'change', apikeyd.revision();
CREATE FUNCTION pg_temp.rev() RETURNS bigint LANGUAGE sql AS $$ SELECT rev FROM seen WHERE what = 'change' $$;
CREATE FUNCTION pg_temp.open() RETURNS TABLE (what text, host text, left_ms bigint) LANGUAGE sql AS
  $$ SELECT w.what, w.host, w.left_ms FROM apikeyd.wait_for(pg_temp.rev()) w WHERE NOT w.done $$;

SELECT results_eq($$SELECT what, host FROM pg_temp.open()$$, $$VALUES ('daemon', 'one.example')$$, 'one has not applied it');
SELECT ok(left_ms BETWEEN 1 AND 25000, 'its lease is running') FROM pg_temp.open();
SELECT results_eq($$SELECT what, done, id, pid, version, applied_rev FROM apikeyd.wait_for(pg_temp.rev())$$,
  $$VALUES ('revision', true, NULL, NULL, NULL, (SELECT max(rev) FROM apikeyd.revision)),
           ('daemon', false, pg_temp.uuid(1), 11, '1.1', 7)$$, 'all that there is to wait for');
SELECT throws_like(format($$CALL apikeyd.wait(%s, '0')$$, pg_temp.rev()), 'waited 00:00:00 in vain for revision %: one.example pid 11 is at revision 7: at most % ms', 'in one statement');
SELECT apikeyd.daemon_seen(pg_temp.uuid(1), 'one.example', 11, '1.1', pg_temp.rev() - 1, '25 s') \g /dev/null
SELECT isnt_empty($$SELECT * FROM pg_temp.open()$$, 'one less is not enough');
SELECT apikeyd.daemon_seen(pg_temp.uuid(1), 'one.example', 11, '1.1', pg_temp.rev(), '25 s') \g /dev/null
SELECT is_empty($$SELECT * FROM pg_temp.open()$$, 'that one is');
SELECT results_eq($$SELECT what, done FROM apikeyd.wait_for(pg_temp.rev())$$, $$VALUES ('revision', true), ('daemon', true)$$, 'it still stands there');
SELECT lives_ok(format($$CALL apikeyd.wait(%s)$$, pg_temp.rev()), 'nothing is waited for');
SELECT apikeyd.daemon_seen(pg_temp.uuid(2), 'two.example', 22, '1.0', 0, '25 s') \g /dev/null
SELECT results_eq($$SELECT what, host FROM pg_temp.open()$$, $$VALUES ('daemon', 'two.example')$$, 'one that loads has not applied it');
UPDATE apikeyd.daemon SET lease_until = clock_timestamp() WHERE host = 'two.example';
SELECT is_empty($$SELECT * FROM pg_temp.open()$$, 'until its lease is out');
SELECT results_eq($$SELECT what, done FROM apikeyd.wait_for(pg_temp.rev() + 1000000000)$$,
  $$VALUES ('revision', false), ('daemon', false)$$, 'a revision that is not there has not been seen by anybody');
SELECT throws_ok($$SELECT apikeyd.wait_for(0)$$, '22023', NULL, 'revision 0 is none');
SELECT throws_ok($$SELECT apikeyd.wait_for(NULL)$$, '22023', NULL, 'nor is nothing');
SELECT results_eq($$SELECT host, live, behind > 0, current_rev FROM apikeyd.daemons ORDER BY host$$,
  $$VALUES ('one.example', true, false, pg_temp.rev()), ('two.example', false, true, pg_temp.rev())$$, 'who is how far');
SELECT is(behind, (SELECT count(*) FROM apikeyd.revision), 'in revisions') FROM apikeyd.daemons WHERE host = 'two.example';

-- ---- a promotion ----
SELECT results_eq($$SELECT system_identifier, timeline, registry, noticed_at FROM apikeyd.timeline$$,
  $$SELECT system_identifier, 1::bigint, 'apikeyd.daemon'::regclass::oid, '-infinity'::timestamptz FROM pg_control_system()$$, 'a fresh schema has lost nothing');
DELETE FROM apikeyd.timeline;
SELECT results_eq($$SELECT what, left_ms BETWEEN 1 AND 25000 FROM pg_temp.open()$$, $$VALUES ('timeline', true)$$, 'a timeline that was not seen: one longest lease');
SELECT ok(noticed_at BETWEEN now() AND clock_timestamp(), 'it is noticed') FROM apikeyd.timeline;
SELECT throws_ok($$SELECT apikeyd.set_longest_lease('10 s')$$, '55000', NULL, 'what may have been lost had the old longest lease');
UPDATE apikeyd.timeline SET noticed_at = clock_timestamp() - interval '24 s';
SELECT results_eq($$SELECT what, left_ms BETWEEN 1 AND 1000 FROM pg_temp.open()$$, $$VALUES ('timeline', true)$$, 'from the first notice on');
UPDATE apikeyd.timeline SET noticed_at = clock_timestamp() - interval '25 s';
SELECT is_empty($$SELECT * FROM pg_temp.open()$$, 'and not longer');
UPDATE apikeyd.timeline SET registry = 1;
SELECT apikeyd.daemon_seen(pg_temp.uuid(1), 'one.example', 11, '1.1', pg_temp.rev(), '25 s') \g /dev/null
SELECT is(count(*), 2::bigint, 'a daemon notices too') FROM apikeyd.timeline;
SELECT results_eq($$SELECT what FROM pg_temp.open()$$, $$VALUES ('timeline')$$, 'a registry that was restored from a dump is another');
UPDATE apikeyd.timeline SET noticed_at = '-infinity';

-- ---- trimming ----
CREATE FUNCTION pg_temp.log(OUT first bigint, OUT revisions bigint, OUT changes bigint) LANGUAGE sql AS
  $$ SELECT min(rev), count(*), (SELECT count(*) FROM apikeyd.change) FROM apikeyd.revision $$;
CREATE FUNCTION pg_temp.trim(keep interval, rows bigint, OUT calls int, OUT revisions bigint, OUT changes bigint) LANGUAGE plpgsql AS $$
DECLARE
  said record;
BEGIN
  calls := 0;
  revisions := 0;
  changes := 0;
  LOOP
    SELECT * INTO said FROM apikeyd.trim_change_log(keep, rows);
    calls := calls + 1;
    revisions := revisions + said.revisions;
    changes := changes + said.changes;
    EXIT WHEN NOT said.more;
  END LOOP;
END $$;
-- Transactions of old, by hand: numbers of long ago, two changes each.
SELECT apikeyd.force_reload() \g /dev/null
CREATE FUNCTION pg_temp.base() RETURNS bigint LANGUAGE sql AS $$ SELECT ((extract(epoch FROM now()) - 7200) * 1000000)::bigint $$;
CREATE FUNCTION pg_temp.grow(n int, each int DEFAULT 2) RETURNS void LANGUAGE sql AS $$
  INSERT INTO apikeyd.change (txn, kind, id) SELECT g::text::xid8, 'page', h FROM generate_series(1, n) g, generate_series(1, each) h;
  INSERT INTO apikeyd.revision (rev, txn) SELECT pg_temp.base() + g, g::text::xid8 FROM generate_series(1, n) g;
$$;
CREATE FUNCTION pg_temp.anew() RETURNS void LANGUAGE sql AS $$
  DELETE FROM apikeyd.change; DELETE FROM apikeyd.revision WHERE rev <> pg_temp.base();
  INSERT INTO apikeyd.revision VALUES (pg_temp.base(), '99999') ON CONFLICT DO NOTHING;
  UPDATE apikeyd.feed_floor SET rev = pg_temp.base(), swept = pg_temp.base(), counted_to = pg_temp.base(), kept = 0;
  UPDATE apikeyd.daemon SET lease_until = clock_timestamp() + interval '20 s', applied_rev = pg_temp.base() + 1000000;
$$;
SELECT is(kept, 0::bigint, 'a log that began anew holds nothing') FROM apikeyd.feed_floor;
SELECT pg_temp.anew() \g /dev/null
SELECT pg_temp.grow(10) \g /dev/null
SELECT results_eq($$SELECT * FROM pg_temp.trim('3 h', 100)$$, $$VALUES (1, 0::bigint, 0::bigint)$$, 'younger than that: all stays');
SELECT is(kept, 20::bigint, 'counted') FROM apikeyd.feed_floor;
SELECT results_eq($$SELECT revisions, changes FROM pg_temp.trim('1 h', 100)$$, $$VALUES (10::bigint, 20::bigint)$$, 'older: it goes');
SELECT results_eq($$SELECT * FROM pg_temp.log()$$, $$VALUES (pg_temp.base() + 10, 1::bigint, 0::bigint)$$, 'but for the row of the floor');
SELECT results_eq($$SELECT rev, kept FROM apikeyd.feed_floor$$, $$VALUES (pg_temp.base() + 10, 0::bigint)$$, 'the floor is there');
SELECT results_eq($$SELECT * FROM pg_temp.trim('1 h', 100)$$, $$VALUES (1, 0::bigint, 0::bigint)$$, 'once more: nothing to do');

SELECT pg_temp.anew() \g /dev/null
SELECT pg_temp.grow(10) \g /dev/null
UPDATE apikeyd.daemon SET applied_rev = pg_temp.base() + 4 WHERE host = 'two.example';
SELECT results_eq($$SELECT revisions, changes FROM pg_temp.trim('1 h', 100)$$, $$VALUES (4::bigint, 8::bigint)$$, 'not beyond what a live daemon has applied');
SELECT is(rev, pg_temp.base() + 4, 'it is where that one is') FROM apikeyd.feed_floor;
SELECT results_eq($$SELECT revisions, changes FROM pg_temp.trim('1 h', 5)$$, $$VALUES (4::bigint, 8::bigint)$$, 'unless there is too much: at most so many changes');
SELECT results_eq($$SELECT * FROM pg_temp.log()$$, $$VALUES (pg_temp.base() + 8, 3::bigint, 4::bigint)$$, 'whole revisions');
UPDATE apikeyd.daemon SET lease_until = clock_timestamp() WHERE host = 'two.example';
SELECT is(revisions, 2::bigint, 'one whose lease is out holds nothing up') FROM pg_temp.trim('1 h', 100);

-- a call is short, however much there is
SELECT pg_temp.anew() \g /dev/null
SELECT pg_temp.grow(3, 6000) \g /dev/null
SELECT results_eq($$SELECT ran, floor_rev, revisions, changes, more FROM apikeyd.trim_change_log('1 h', 100)$$,
  $$VALUES (true, pg_temp.base() + 3, 1::bigint, 5000::bigint, true)$$, 'at first the floor, and 5,000 changes');
SELECT results_eq($$SELECT * FROM pg_temp.trim('1 h', 100)$$, $$VALUES (3, 2::bigint, 13000::bigint)$$, 'then the rest');
SELECT pg_temp.anew() \g /dev/null
SELECT pg_temp.grow(2500, 1) \g /dev/null
SELECT results_eq($$SELECT revisions, changes FROM pg_temp.trim('1 h', 100)$$, $$VALUES (2500::bigint, 2500::bigint)$$, 'many small ones');
SELECT is(swept, rev, 'to the end') FROM apikeyd.feed_floor;

-- nobody follows so many at once, so nothing up to there is kept
SELECT pg_temp.anew() \g /dev/null
SELECT pg_temp.grow(1, 200001) \g /dev/null
INSERT INTO apikeyd.revision VALUES (pg_temp.base() + 2, '2');
INSERT INTO apikeyd.change (txn, kind, id) VALUES ('2', 'page', 1);
SELECT results_eq($$SELECT revisions, changes FROM pg_temp.trim('3 h', 1000000)$$, $$VALUES (1::bigint, 200001::bigint)$$, 'more than daemons follow');
SELECT results_eq($$SELECT rev, kept FROM apikeyd.feed_floor$$, $$VALUES (pg_temp.base() + 1, 1::bigint)$$, 'what came after it stays');

-- who ran it lately
SELECT pg_temp.anew() \g /dev/null
SELECT pg_temp.grow(1) \g /dev/null
UPDATE apikeyd.feed_floor SET trimmed_at = clock_timestamp() - interval '10 s';
SELECT results_eq($$SELECT ran, changes FROM apikeyd.trim_change_log('1 h', 100, '20 s')$$, $$VALUES (false, 0::bigint)$$, 'it ran less than so long ago');
SELECT results_eq($$SELECT ran, changes FROM apikeyd.trim_change_log('1 h', 100, '5 s')$$, $$VALUES (true, 2::bigint)$$, 'longer ago');
SELECT ok(trimmed_at > now(), 'now it ran again') FROM apikeyd.feed_floor;
UPDATE apikeyd.feed_floor SET trimmed_at = clock_timestamp() + interval '1 day';
SELECT is(ran, true, 'a clock that was set back does not keep it from running') FROM apikeyd.trim_change_log('1 h', 100, '5 s');

-- registrations of daemons that have not been there for a day
UPDATE apikeyd.daemon SET lease_until = clock_timestamp() - CASE host WHEN 'one.example' THEN interval '25 h' ELSE interval '23 h' END;
SELECT apikeyd.trim_change_log('1 h', 100) \g /dev/null
SELECT results_eq($$SELECT host FROM apikeyd.daemon$$, $$VALUES ('two.example')$$, 'daemons of long ago are forgotten');
SELECT throws_ok($$SELECT apikeyd.trim_change_log('-1 s', 100)$$, '22023', NULL, 'a time below 0');
SELECT is(current_setting('enable_seqscan') || current_setting('jit'), 'onon', 'settings are as they were');
SELECT is_empty('SELECT * FROM apikeyd.trigger_faults()', 'no trigger is at fault');

SELECT * FROM finish();
ROLLBACK;
