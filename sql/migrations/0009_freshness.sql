-- Who still answers from before a change: the daemons' leases, waiting for a revision, and a change log that ends.
--
-- A daemon registers, with a lease, before it reads, and again and again. Until its lease is out it may answer from
-- what it read under it. So who waits for a revision has waited long enough when each daemon that is registered has
-- applied it or let its lease run out: a daemon whose registration the waiter did not see committed it after the
-- waiter looked, and reads later still.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(9, 'freshness'); END $$;

-- ---- the longest lease ----

CREATE TABLE apikeyd.longest_lease (
  one boolean PRIMARY KEY DEFAULT true CONSTRAINT longest_lease_is_one_row CHECK (one),
  lease interval NOT NULL CONSTRAINT longest_lease_is_positive CHECK (lease > interval '0')
);
INSERT INTO apikeyd.longest_lease (lease) VALUES ('60 s');
COMMENT ON TABLE apikeyd.longest_lease IS 'The longest lease that a daemon may have. One row; apikeyd.set_longest_lease() changes it.';
COMMENT ON COLUMN apikeyd.longest_lease.one IS 'Always true: there is one row.';
COMMENT ON COLUMN apikeyd.longest_lease.lease IS 'How long whoever waits for a revision holds after a promotion, which may have lost registrations.';

-- ---- lives of the registry ----

CREATE TABLE apikeyd.timeline (
  system_identifier bigint NOT NULL,
  timeline bigint NOT NULL,
  registry oid NOT NULL,
  noticed_at timestamptz NOT NULL,
  CONSTRAINT timeline_pkey PRIMARY KEY (system_identifier, timeline, registry)
);
COMMENT ON TABLE apikeyd.timeline IS 'The clusters and timelines that this schema has lived on. On one that is new, registrations made before it began may be lost.';
COMMENT ON COLUMN apikeyd.timeline.system_identifier IS 'The cluster, as pg_control_system() has it.';
COMMENT ON COLUMN apikeyd.timeline.timeline IS 'The timeline that is written: a promotion and a recovery to a point in time begin another.';
COMMENT ON COLUMN apikeyd.timeline.registry IS 'The oid of apikeyd.daemon: a restore from a dump begins another.';
COMMENT ON COLUMN apikeyd.timeline.noticed_at IS 'When a daemon or somebody who waits first noticed it. -infinity: no registration of before can be lost.';

CREATE FUNCTION apikeyd.timeline_noticed_at() RETURNS timestamptz
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  registry_now constant oid := 'apikeyd.daemon'::regclass;
  system_now constant bigint := (SELECT c.system_identifier FROM pg_control_system() c);
  timeline_now constant bigint := ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint;
  answer timestamptz;
BEGIN
  SELECT t.noticed_at INTO answer FROM apikeyd.timeline t
    WHERE t.system_identifier = system_now AND t.timeline = timeline_now AND t.registry = registry_now;
  IF answer IS NULL THEN
    answer := clock_timestamp();
    IF current_setting('transaction_read_only') = 'off' THEN
      INSERT INTO apikeyd.timeline VALUES (system_now, timeline_now, registry_now, answer) ON CONFLICT DO NOTHING;
    END IF;
  END IF;
  RETURN answer;
END
$$;
COMMENT ON FUNCTION apikeyd.timeline_noticed_at() IS 'When the present timeline was first noticed; notices it, where the transaction may write.';

-- ---- the daemons' registration ----

-- Daemons of before have no lease. Their session ends with this migration's force_reload() (they refuse the schema),
-- and what they know they may serve for a while: as after a promotion.
INSERT INTO apikeyd.timeline
SELECT c.system_identifier, ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint, 'apikeyd.daemon'::regclass,
       CASE WHEN EXISTS (SELECT FROM apikeyd.daemon d WHERE d.seen_at > now() - interval '1 day') THEN now() ELSE '-infinity' END
FROM pg_catalog.pg_control_system() c;
DELETE FROM apikeyd.daemon;

ALTER TABLE apikeyd.daemon
  ADD COLUMN lease interval NOT NULL CONSTRAINT daemon_lease_is_positive CHECK (lease > interval '0'),
  ADD COLUMN lease_until timestamptz NOT NULL;
-- A row is written again each second: room beside it, so that no index has to change.
ALTER TABLE apikeyd.daemon SET (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE apikeyd.daemon IS 'The daemons that follow this database, as they last said. The view apikeyd.daemons says more. A row that is deleted by hand is one that nobody waits for.';
COMMENT ON COLUMN apikeyd.daemon.applied_rev IS 'The revision that it answers from, or a later one; 0: it loads, or does not know yet whether what it has still holds.';
COMMENT ON COLUMN apikeyd.daemon.lease IS 'How long it may answer from what it reads after this registration: its max_stale and longest offline_grace, and a margin.';
COMMENT ON COLUMN apikeyd.daemon.lease_until IS 'Until then it may answer from that, by the database''s clock.';

DROP FUNCTION apikeyd.daemon_seen(uuid, text, int, text, bigint);
CREATE FUNCTION apikeyd.daemon_seen(id uuid, host text, pid int, version text, applied_rev bigint, lease interval) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  moment constant timestamptz := clock_timestamp();
  longest interval;
BEGIN
  -- It must outlive a crash. It need not reach a standby, and a standby that is away must not hold up the polls behind
  -- it: after a promotion, waiting takes it that registrations are lost.
  PERFORM set_config('synchronous_commit', 'local', true);
  INSERT INTO apikeyd.daemon (id, host, pid, version, applied_rev, started_at, seen_at, lease, lease_until)
  VALUES (daemon_seen.id, daemon_seen.host, daemon_seen.pid, daemon_seen.version, daemon_seen.applied_rev, moment, moment,
          daemon_seen.lease, moment + daemon_seen.lease)
  ON CONFLICT ON CONSTRAINT daemon_pkey DO UPDATE
    SET host = excluded.host, pid = excluded.pid, version = excluded.version, applied_rev = excluded.applied_rev,
        seen_at = excluded.seen_at, lease = excluded.lease, lease_until = excluded.lease_until;
  -- After the row: set_longest_lease() either sees it, or has come before this statement.
  SELECT l.lease INTO STRICT longest FROM apikeyd.longest_lease l;
  IF daemon_seen.lease > longest THEN
    RAISE EXCEPTION 'the lease of %s is longer than the longest that this database allows, %s',
        round(extract(epoch FROM daemon_seen.lease)::numeric, 3), round(extract(epoch FROM longest)::numeric, 3)
      USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = format('Run as a superuser: select apikeyd.set_longest_lease(''%s s''); or lower freshness.max_stale_ms or offline_grace.',
                          ceil(extract(epoch FROM daemon_seen.lease)));
  END IF;
  PERFORM apikeyd.timeline_noticed_at();
END
$$;
COMMENT ON FUNCTION apikeyd.daemon_seen(uuid, text, int, text, bigint, interval) IS 'A daemon registers: what it has applied, and how long it may answer from what it reads after this has committed. A lease above apikeyd.longest_lease is refused.';

CREATE FUNCTION apikeyd.daemon_gone(id uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM set_config('synchronous_commit', 'local', true);
  DELETE FROM apikeyd.daemon d WHERE d.id = daemon_gone.id;
END
$$;
COMMENT ON FUNCTION apikeyd.daemon_gone(uuid) IS 'A daemon that answers no more takes its registration back, so that nobody waits for its lease.';

CREATE VIEW apikeyd.daemons AS
SELECT d.id, d.host, d.pid, d.version, d.applied_rev, newest.rev AS current_rev,
       (SELECT count(*) FROM apikeyd.revision r WHERE r.rev > d.applied_rev) AS behind,
       d.started_at, d.seen_at, d.lease, d.lease_until, d.lease_until > clock_timestamp() AS live
FROM apikeyd.daemon d, (SELECT coalesce(max(r.rev), 0) AS rev FROM apikeyd.revision r) AS newest;
COMMENT ON VIEW apikeyd.daemons IS 'The daemons that follow this database, and how far each is.';
COMMENT ON COLUMN apikeyd.daemons.id IS 'Made by the daemon when it starts.';
COMMENT ON COLUMN apikeyd.daemons.host IS 'The name of its host.';
COMMENT ON COLUMN apikeyd.daemons.pid IS 'Its process id there.';
COMMENT ON COLUMN apikeyd.daemons.version IS 'Its version.';
COMMENT ON COLUMN apikeyd.daemons.applied_rev IS 'The revision that it answers from, or a later one; 0: it loads, or does not know yet whether what it has still holds.';
COMMENT ON COLUMN apikeyd.daemons.current_rev IS 'The newest revision.';
COMMENT ON COLUMN apikeyd.daemons.behind IS 'How many revisions of the change log it has not applied.';
COMMENT ON COLUMN apikeyd.daemons.started_at IS 'When it first registered.';
COMMENT ON COLUMN apikeyd.daemons.seen_at IS 'When it last said so, by the database''s clock.';
COMMENT ON COLUMN apikeyd.daemons.lease IS 'How long it may answer from what it reads after it said so.';
COMMENT ON COLUMN apikeyd.daemons.lease_until IS 'Until then it may answer from that.';
COMMENT ON COLUMN apikeyd.daemons.live IS 'Whether that is still to come. One that is not live answers UNAVAILABLE until it registers again.';

CREATE FUNCTION apikeyd.set_longest_lease(lease interval) RETURNS interval
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  noticed timestamptz;
  before interval;
  longer record;
BEGIN
  -- Nobody registers meanwhile.
  LOCK TABLE apikeyd.daemon IN SHARE ROW EXCLUSIVE MODE;
  noticed := apikeyd.timeline_noticed_at();
  SELECT l.lease INTO STRICT before FROM apikeyd.longest_lease l FOR UPDATE;
  IF set_longest_lease.lease < before THEN
    SELECT d.host, d.pid, d.lease INTO longer FROM apikeyd.daemon d
      WHERE d.lease_until > clock_timestamp() AND d.lease > set_longest_lease.lease ORDER BY d.lease DESC LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION 'the daemon on % (pid %) has a lease of %', longer.host, longer.pid, longer.lease
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Lower its freshness.max_stale_ms and offline_grace first.';
    END IF;
    IF noticed + before > clock_timestamp() THEN
      RAISE EXCEPTION 'registrations with a lease of up to % may have been lost with the last promotion', before
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('Try again after %s.', noticed + before);
    END IF;
  END IF;
  UPDATE apikeyd.longest_lease SET lease = set_longest_lease.lease;
  RETURN set_longest_lease.lease;
END
$$;
COMMENT ON FUNCTION apikeyd.set_longest_lease(interval) IS 'Changes apikeyd.longest_lease. Refused: one below the lease of a live daemon, and a shorter one while lost leases may still run. Raise it before a daemon''s max_stale or offline_grace.';

-- ---- waiting for a revision ----

CREATE FUNCTION apikeyd.wait_for(rev bigint)
RETURNS TABLE (what text, done boolean, left_ms bigint, id uuid, host text, pid int, version text, applied_rev bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  moment timestamptz;
  held_until timestamptz;
  held_ms bigint;
BEGIN
  IF pg_is_in_recovery() THEN
    RAISE EXCEPTION 'a standby cannot tell what daemons have applied'
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Ask the primary.';
  END IF;
  IF wait_for.rev IS NULL OR wait_for.rev < 1 THEN
    RAISE EXCEPTION 'wait for a revision, as apikeyd.revision() returns it' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT apikeyd.timeline_noticed_at() + l.lease INTO STRICT held_until FROM apikeyd.longest_lease l;
  -- Before the snapshot: a lease that is out now was out when its row was read.
  moment := clock_timestamp();
  IF held_until > moment THEN
    held_ms := ceil(extract(epoch FROM held_until - moment) * 1000);
  END IF;
  RETURN QUERY
    WITH newest AS (SELECT coalesce(max(r.rev), 0) AS rev FROM apikeyd.revision r)
    SELECT 'revision', n.rev >= wait_for.rev, NULL::bigint, NULL::uuid, NULL::text, NULL::int, NULL::text, n.rev FROM newest n
    UNION ALL
    SELECT 'timeline', false, held_ms, NULL, NULL, NULL, NULL, NULL WHERE held_ms IS NOT NULL
    UNION ALL
    (SELECT 'daemon', d.applied_rev >= wait_for.rev, ceil(extract(epoch FROM d.lease_until - moment) * 1000)::bigint, d.id, d.host,
            d.pid, d.version, d.applied_rev
     FROM apikeyd.daemon d WHERE d.lease_until > moment ORDER BY d.host, d.pid, d.id);
END
$$;
COMMENT ON FUNCTION apikeyd.wait_for(bigint) IS 'What there is to wait for until no daemon answers from before this revision; over when every row is done. "revision": it has committed. "timeline": after a promotion or a restore, one longest lease is held, since registrations can be lost. "daemon": each live one has applied it, or is gone from here when its lease (left_ms) is out.';

-- No fixed search_path: a procedure that has one cannot commit, and each look needs a new snapshot. It has no power of
-- its own.
CREATE PROCEDURE apikeyd.wait(rev bigint, timeout interval DEFAULT '2 min')
LANGUAGE plpgsql
AS $$
DECLARE
  moment timestamptz := pg_catalog.clock_timestamp();
  ends constant timestamptz := moment + timeout;
  say timestamptz := moment + interval '2 s';
  open_rows bigint;
  names text;
BEGIN
  LOOP
    SELECT pg_catalog.count(*), pg_catalog.string_agg(CASE w.what WHEN 'revision' THEN 'the revision itself has not committed here'
        WHEN 'timeline' THEN pg_catalog.format('registrations may be lost with a promotion: %s ms', w.left_ms)
        ELSE pg_catalog.format('%s pid %s is at revision %s: at most %s ms', w.host, w.pid, w.applied_rev, w.left_ms) END, '; ')
      INTO open_rows, names FROM apikeyd.wait_for(wait.rev) w WHERE NOT w.done;
    EXIT WHEN open_rows = 0;
    moment := pg_catalog.clock_timestamp();
    IF moment >= ends THEN
      RAISE EXCEPTION 'waited % in vain for revision %: %', timeout, rev, names USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF moment >= say THEN
      RAISE NOTICE 'waiting for revision %: %', rev, names;
      say := moment + interval '2 s';
    END IF;
    PERFORM pg_catalog.pg_sleep(0.1);
    COMMIT;
  END LOOP;
END
$$;
COMMENT ON PROCEDURE apikeyd.wait(bigint, interval) IS 'Returns when no daemon answers from before this revision any more (apikeyd.wait_for says what it waits for), or fails after the timeout with 55000. CALL it after the change has committed, outside of a transaction block.';

-- ---- revisions that no other timeline gives ----

-- A promoted standby may have lost revisions, whose numbers a daemon may know. Where the clock once stood ahead and was
-- put back, revisions go on from where it stood, and so the new primary would give those numbers again, to other
-- transactions, and the daemon would take them for the ones that it has applied. So the timeline is in the number, as
-- its remainder by 64.
CREATE OR REPLACE FUNCTION apikeyd.assign_revision() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  longest constant interval := '5 s'; -- who waits longer is told who is in the way
  before text := current_setting('lock_timeout');
  now_us bigint;
  next bigint;
  timeline bigint;
  holder record;
BEGIN
  -- Who has seen a revision must not lose it in a crash. Never lowered.
  IF current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;

  DELETE FROM apikeyd.pending p WHERE p.txn = NEW.txn;
  -- revision() was called before the last change: the lock is still ours, and so is the revision.
  IF EXISTS (SELECT FROM apikeyd.revision r WHERE r.txn = NEW.txn) THEN
    RETURN NULL;
  END IF;

  BEGIN
    IF before::interval = interval '0' OR before::interval > longest THEN
      PERFORM set_config('lock_timeout', extract(epoch FROM longest)::int || 's', true);
    END IF;
    LOCK TABLE apikeyd.turn IN EXCLUSIVE MODE;
    PERFORM set_config('lock_timeout', before, true);
  EXCEPTION WHEN lock_not_available THEN
    SELECT l.pid, a.usename, a.application_name INTO holder
      FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
      WHERE l.locktype = 'relation' AND l.relation = 'apikeyd.turn'::regclass AND l.granted
        AND l.mode = 'ExclusiveLock' AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database());
    RAISE EXCEPTION 'waited in vain for the turn to be given a revision: pid % of user % (%) has it',
        coalesce(holder.pid::text, 'unknown'), coalesce(quote_ident(holder.usename), 'unknown'),
        coalesce(nullif(holder.application_name, ''), 'no application name')
      USING ERRCODE = 'lock_not_available',
            HINT = format('Retry the transaction. Where that session hangs between apikeyd.revision() and COMMIT, end it: select pg_terminate_backend(%s)',
                          coalesce(holder.pid::text, 'pid'));
  END;

  -- A sequence, since a snapshot that is older than the lock would not see the last row.
  now_us := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
  next := greatest(nextval('apikeyd.revision_number'), now_us);
  timeline := ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint;
  next := next + (64 + timeline % 64 - next % 64) % 64;
  PERFORM setval('apikeyd.revision_number', next);
  INSERT INTO apikeyd.revision (rev, txn) VALUES (next, NEW.txn);
  PERFORM pg_notify('apikeyd', next::text);
  RETURN NULL;
END
$$;
COMMENT ON COLUMN apikeyd.revision.rev IS 'Opaque to callers. At least the microseconds since 1970 when it was given, always more than the one before, and by 64 it leaves what the timeline of the WAL leaves: a number that was lost in a failover is never given again.';

-- ---- a change log that ends ----

ALTER TABLE apikeyd.feed_floor
  ADD COLUMN swept bigint NOT NULL DEFAULT 0,
  ADD COLUMN counted_to bigint NOT NULL DEFAULT 0,
  ADD COLUMN kept bigint NOT NULL DEFAULT 0,
  ADD COLUMN trimmed_at timestamptz NOT NULL DEFAULT '-infinity';
COMMENT ON TABLE apikeyd.feed_floor IS 'Where the change log begins: a daemon that has applied less loads everything again. And how far apikeyd.trim_change_log() is. One row.';
COMMENT ON COLUMN apikeyd.feed_floor.rev IS 'Changes up to and with this revision may be missing from the log. Its own row in apikeyd.revision stays.';
COMMENT ON COLUMN apikeyd.feed_floor.swept IS 'Changes up to and with this revision are deleted, and the revisions before it. Below rev: there is more to delete.';
COMMENT ON COLUMN apikeyd.feed_floor.counted_to IS 'Changes up to and with this revision have been counted.';
COMMENT ON COLUMN apikeyd.feed_floor.kept IS 'How many changes that is, from the floor on; a transaction with more than any daemon follows counts as very many.';
COMMENT ON COLUMN apikeyd.feed_floor.trimmed_at IS 'When the trimming last came to its end.';

CREATE OR REPLACE FUNCTION apikeyd.force_reload() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  self constant xid8 := pg_current_xact_id();
  answer bigint;
BEGIN
  -- In the order of trim_change_log(), so that neither waits for what the other has.
  PERFORM FROM apikeyd.feed_floor f FOR UPDATE;
  -- Nobody will read what is below the floor. (After a restore into another cluster these are that other cluster's
  -- transaction numbers, which this one will come to again.)
  DELETE FROM apikeyd.change c WHERE c.txn <> self;
  DELETE FROM apikeyd.revision r WHERE r.txn <> self;
  INSERT INTO apikeyd.pending (txn) VALUES (self) ON CONFLICT DO NOTHING;
  answer := apikeyd.revision();
  UPDATE apikeyd.feed_floor SET rev = answer, swept = answer - 1, counted_to = answer, kept = 0;
  RETURN answer;
END
$$;

CREATE FUNCTION apikeyd.changes_of(txn xid8) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  followed constant int := 200000; -- as the daemons have it
  answer bigint;
BEGIN
  SELECT count(*) INTO answer FROM (SELECT FROM apikeyd.change c WHERE c.txn = changes_of.txn LIMIT followed + 1) AS few;
  RETURN CASE WHEN answer > followed THEN 1000000000000 ELSE answer END;
END
$$;
COMMENT ON FUNCTION apikeyd.changes_of(xid8) IS 'How many changes a transaction made. A million millions where they are more than daemons follow: whoever has not applied them loads everything, so that nothing up to there need be kept.';

CREATE FUNCTION apikeyd.trim_change_log(keep interval, rows bigint, every interval DEFAULT '0')
RETURNS TABLE (ran boolean, floor_rev bigint, revisions bigint, changes bigint, more boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  most constant int := 5000; -- changes that one call deletes at most
  stretch constant int := 1000; -- revisions that one call goes on by at most
  moment constant timestamptz := clock_timestamp();
  seqscan constant text := current_setting('enable_seqscan');
  jit constant text := current_setting('jit');
  state apikeyd.feed_floor;
  aim bigint;
  next bigint;
  last bigint;
  counted bigint;
BEGIN
  IF keep IS NULL OR keep < interval '0' OR rows IS NULL OR rows < 0 OR every IS NULL THEN
    RAISE EXCEPTION 'keep is a time, rows a number, every a time, none of them below 0' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  ran := false;
  revisions := 0;
  changes := 0;
  more := false;
  SELECT * INTO STRICT state FROM apikeyd.feed_floor;
  floor_rev := state.rev;
  IF state.trimmed_at > moment - every AND state.trimmed_at <= moment THEN
    RETURN NEXT;
    RETURN;
  END IF;
  SELECT * INTO state FROM apikeyd.feed_floor FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN -- somebody else is at it
    RETURN NEXT;
    RETURN;
  END IF;
  ran := true;
  -- By index, whatever the statistics say of a log of which one transaction may have nearly all.
  PERFORM set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true);

  -- What has come since.
  SELECT max(s.rev), coalesce(sum(apikeyd.changes_of(s.txn)), 0) INTO next, counted
    FROM (SELECT r.rev, r.txn FROM apikeyd.revision r WHERE r.rev > state.counted_to ORDER BY r.rev LIMIT stretch) AS s;
  state.counted_to := coalesce(next, state.counted_to);
  state.kept := state.kept + counted;

  -- The floor rises over what is old, and nobody is to read any more (a revision is at least the time at which it was
  -- given); and over what is too much, whoever is still to read it: they see the floor above them, and load.
  SELECT coalesce(max(r.rev), 0) INTO aim FROM apikeyd.revision r
    WHERE r.rev <= least((extract(epoch FROM moment - keep) * 1000000)::bigint, state.counted_to,
                         (SELECT min(d.applied_rev) FROM apikeyd.daemon d WHERE d.lease_until > moment AND d.applied_rev > 0));
  IF state.swept >= state.rev AND (aim > state.rev OR state.kept > rows) THEN
    SELECT max(s.rev), coalesce(max(s.running), 0) INTO next, counted
      FROM (SELECT n.rev, n.changes, sum(n.changes) OVER (ORDER BY n.rev) AS running
            FROM (SELECT r.rev, apikeyd.changes_of(r.txn) AS changes FROM apikeyd.revision r
                  WHERE r.rev > state.rev AND r.rev <= state.counted_to ORDER BY r.rev LIMIT stretch) AS n) AS s
      WHERE s.rev <= aim OR state.kept - (s.running - s.changes) > rows;
    state.rev := coalesce(next, state.rev);
    state.kept := state.kept - counted;
  END IF;

  -- Delete what is below the floor. A revision goes after its changes, the floor's own stays.
  IF state.swept < state.rev THEN
    SELECT max(s.rev) INTO last
      FROM (SELECT r.rev FROM apikeyd.revision r WHERE r.rev >= state.swept AND r.rev <= state.rev ORDER BY r.rev LIMIT stretch) AS s;
    last := coalesce(last, state.rev);
    DELETE FROM apikeyd.change g WHERE g.ctid = ANY (ARRAY(
      SELECT d.place
      FROM (SELECT r.txn FROM apikeyd.revision r WHERE r.rev >= state.swept AND r.rev <= last ORDER BY r.rev) AS s
      CROSS JOIN LATERAL (SELECT c.ctid AS place FROM apikeyd.change c WHERE c.txn = s.txn OFFSET 0) AS d
      LIMIT most));
    GET DIAGNOSTICS changes = ROW_COUNT;
    next := NULL;
    IF changes = most THEN
      SELECT r.rev INTO next FROM apikeyd.revision r
        WHERE r.rev >= state.swept AND r.rev <= last AND EXISTS (SELECT FROM apikeyd.change c WHERE c.txn = r.txn)
        ORDER BY r.rev LIMIT 1;
    END IF;
    last := coalesce(next - 1, last);
    DELETE FROM apikeyd.revision g WHERE g.rev >= state.swept AND g.rev <= last AND g.rev < state.rev;
    GET DIAGNOSTICS revisions = ROW_COUNT;
    state.swept := last;
  END IF;

  more := state.swept < state.rev OR aim > state.rev OR state.kept > rows
          OR EXISTS (SELECT FROM apikeyd.revision r WHERE r.rev > state.counted_to);
  IF NOT more THEN
    state.trimmed_at := moment;
    DELETE FROM apikeyd.daemon d WHERE d.lease_until < moment - interval '1 day';
  END IF;
  UPDATE apikeyd.feed_floor SET rev = state.rev, swept = state.swept, counted_to = state.counted_to, kept = state.kept,
      trimmed_at = state.trimmed_at;
  PERFORM set_config('enable_seqscan', seqscan, true), set_config('jit', jit, true);
  floor_rev := state.rev;
  RETURN NEXT;
END
$$;
COMMENT ON FUNCTION apikeyd.trim_change_log(interval, bigint, interval) IS 'Deletes changes that are older than keep and that every live daemon has applied; and however young, where there are more than rows. The daemons call it. By hand: call it again while more is true, each call is short. ran is false where somebody else is at it, or it came to its end less than every ago.';

-- ---- guards and grants ----

CREATE TRIGGER longest_lease_no_truncate BEFORE TRUNCATE ON apikeyd.longest_lease
  FOR EACH STATEMENT EXECUTE FUNCTION apikeyd.refuse_truncate();
ALTER TABLE apikeyd.longest_lease ENABLE ALWAYS TRIGGER longest_lease_no_truncate;

GRANT EXECUTE ON FUNCTION apikeyd.daemon_seen(uuid, text, int, text, bigint, interval), apikeyd.daemon_gone(uuid),
    apikeyd.trim_change_log(interval, bigint, interval)
  TO apikeyd_check;
GRANT SELECT ON apikeyd.daemons, apikeyd.longest_lease TO apikeyd_admin, apikeyd_platform, apikeyd_auditor;
GRANT SELECT ON apikeyd.timeline TO apikeyd_admin, apikeyd_auditor;
GRANT EXECUTE ON FUNCTION apikeyd.wait_for(bigint) TO apikeyd_admin, apikeyd_platform, apikeyd_auditor;
GRANT EXECUTE ON PROCEDURE apikeyd.wait(bigint, interval) TO apikeyd_admin, apikeyd_platform, apikeyd_auditor;

DO $$ BEGIN PERFORM apikeyd.force_reload(); END $$;

COMMIT;
