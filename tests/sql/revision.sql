-- Revisions, as far as one session can show them; tests/system/test_revision.py shows the rest.
BEGIN;
SELECT plan(29);

CREATE TEMPORARY TABLE seen (what text PRIMARY KEY, rev bigint);
INSERT INTO seen SELECT 'before', apikeyd.revision();
SELECT is(rev, (SELECT max(rev) FROM apikeyd.revision), 'a transaction that changed nothing gets the current revision') FROM seen WHERE what = 'before';
SELECT cmp_ok(rev, '>=', (SELECT rev FROM apikeyd.feed_floor), 'which is not below the floor') FROM seen WHERE what = 'before';
SELECT cmp_ok(rev, '>', 0::bigint, 'an installed schema has a revision') FROM seen WHERE what = 'before';

INSERT INTO apikeyd.organization (id, slug) VALUES (9301, 'r-one');
SELECT is(count(*), 1::bigint, 'a change is pending') FROM apikeyd.pending WHERE txn = pg_current_xact_id();
SELECT is(count(*), 0::bigint, 'and has no revision yet') FROM apikeyd.revision WHERE txn = pg_current_xact_id();
UPDATE apikeyd.organization SET name = 'R' WHERE id = 9301;
SELECT is(count(*), 1::bigint, 'two changes are one transaction') FROM apikeyd.pending WHERE txn = pg_current_xact_id();

-- a savepoint that is rolled back takes its changes with it
SAVEPOINT one;
INSERT INTO apikeyd.organization (id, slug) VALUES (9302, 'r-two');
ROLLBACK TO one;
SELECT is_empty('SELECT FROM apikeyd.change WHERE txn = pg_current_xact_id() AND id = 9302', 'rolled back is not logged');

SET LOCAL synchronous_commit = off;
INSERT INTO seen SELECT 'first', apikeyd.revision();
SELECT cmp_ok((SELECT rev FROM seen WHERE what = 'first'), '>', (SELECT rev FROM seen WHERE what = 'before'), 'revisions grow');
SELECT cmp_ok((SELECT rev FROM seen WHERE what = 'first'), '>=', (extract(epoch FROM now()) * 1000000)::bigint, 'a revision is no less than the microseconds since 1970');
SELECT is((SELECT rev FROM seen WHERE what = 'first') % 64, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint % 64, 'no other timeline gives it');
SELECT is(current_setting('synchronous_commit'), 'on', 'what was seen must not be lost: synchronous_commit is raised');
SELECT is(current_setting('lock_timeout'), '0', 'lock_timeout is as it was');
SELECT is(count(*), 0::bigint, 'nothing is pending any more') FROM apikeyd.pending WHERE txn = pg_current_xact_id();
SELECT is(apikeyd.revision(), (SELECT rev FROM seen WHERE what = 'first'), 'asked again it is the same');

UPDATE apikeyd.organization SET name = 'RR' WHERE id = 9301;
SELECT is(apikeyd.revision(), (SELECT rev FROM seen WHERE what = 'first'), 'further changes belong to the same revision');
SELECT is(count(*), 1::bigint, 'there is one row for the transaction') FROM apikeyd.revision WHERE txn = pg_current_xact_id();
SELECT isnt_empty($$SELECT FROM pg_locks WHERE relation = 'apikeyd.turn'::regclass AND mode = 'ExclusiveLock' AND granted AND pid = pg_backend_pid()$$, 'the turn is held to the end');

-- synchronous_commit is never lowered
SET LOCAL synchronous_commit = remote_apply;
UPDATE apikeyd.organization SET name = 'RRR' WHERE id = 9301;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT is(current_setting('synchronous_commit'), 'remote_apply', 'synchronous_commit is never lowered');
SET CONSTRAINTS ALL DEFERRED;

-- the log of another cluster, as a dump brings it
SELECT is_empty('SELECT * FROM apikeyd.trigger_faults()', 'this transaction''s own revision is no fault');
SAVEPOINT dump;
INSERT INTO apikeyd.revision (rev, txn) VALUES (1, (pg_current_xact_id()::text::bigint + 1000000)::text::xid8);
SELECT results_eq('SELECT * FROM apikeyd.trigger_faults()',
  $$VALUES ('the change log is that of another cluster, from a dump; run: SELECT apikeyd.force_reload()')$$, 'one that is to come is');
SELECT cmp_ok(apikeyd.force_reload(), '>', 1::bigint, 'force_reload() begins the log anew');
SELECT is_empty('SELECT * FROM apikeyd.trigger_faults()', '... and mends it');
ROLLBACK TO dump;

-- the floor
INSERT INTO seen SELECT 'floor', apikeyd.force_reload();
SELECT is(rev, (SELECT rev FROM seen WHERE what = 'floor'), 'force_reload() sets the floor to its revision') FROM apikeyd.feed_floor;
SELECT is(count(*), 1::bigint, 'and begins the log anew: one revision') FROM apikeyd.revision;
SELECT is_empty('SELECT FROM apikeyd.change WHERE txn <> pg_current_xact_id()', '... whose changes alone are left');
SELECT throws_ok('INSERT INTO apikeyd.feed_floor VALUES (true, 1)', '23505', NULL, 'there is one floor');
SELECT throws_ok('INSERT INTO apikeyd.feed_floor VALUES (false, 1)', '23514', NULL, '... and one only');

-- migrations know their order
SELECT throws_ok($$SELECT apikeyd.schema_step(1, 'schema')$$, '55000', NULL, 'no migration comes twice');
SELECT throws_like($$SELECT apikeyd.schema_step(1000, 'future')$$, '%comes after migration 999%', 'none comes too early');

SELECT * FROM finish();
ROLLBACK;
