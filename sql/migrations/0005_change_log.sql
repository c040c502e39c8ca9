-- The change log: what changed, in the order in which it became visible. The daemons follow it.
--
-- Statement triggers write the ids of what changed. A deferred trigger, once for each transaction and last thing
-- before COMMIT, takes a lock and gives the transaction its revision. The lock is held until after the COMMIT is
-- visible, so that revisions become visible in their order: who has read up to one can never be surprised by a smaller
-- one later. (Numbers from a plain sequence come out of order; an advisory lock can be taken by anybody; a counter
-- row would fail REPEATABLE READ writers with 40001.)
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(5, 'change_log'); END $$;

CREATE TABLE apikeyd.change (
  txn xid8 NOT NULL,
  kind text COLLATE "C" NOT NULL,
  id bigint NOT NULL DEFAULT 0,
  key_id text COLLATE "C" NOT NULL DEFAULT '',
  CONSTRAINT change_names_one_thing CHECK (
    CASE WHEN kind IN ('organization', 'page', 'user') THEN key_id = ''
         WHEN kind = 'key' THEN id = 0 AND key_id <> ''
         WHEN kind = 'catalog' THEN id = 0 AND key_id = ''
         ELSE false END)
);
CREATE INDEX change_txn ON apikeyd.change (txn);
COMMENT ON TABLE apikeyd.change IS 'The change log: what each transaction changed. It says that a thing changed, not how: its rows as they are now say that. The same thing may stand here several times.';
COMMENT ON COLUMN apikeyd.change.txn IS 'The transaction; apikeyd.revision has its revision.';
COMMENT ON COLUMN apikeyd.change.kind IS 'organization, page; user: the user or one of their memberships; key: the key or its narrowing; catalog: scopes, roles or what roles hold.';
COMMENT ON COLUMN apikeyd.change.id IS 'Of an organization, page or user: its id. Else 0.';
COMMENT ON COLUMN apikeyd.change.key_id IS 'Of a key: its id. Else empty.';

CREATE TABLE apikeyd.revision (
  rev bigint PRIMARY KEY,
  txn xid8 NOT NULL,
  made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT revision_txn_is_unique UNIQUE (txn),
  CONSTRAINT revision_is_positive CHECK (rev > 0)
);
COMMENT ON TABLE apikeyd.revision IS 'The revision of each transaction that changed something, in the order in which they became visible.';
COMMENT ON COLUMN apikeyd.revision.rev IS 'Opaque to callers. At least the microseconds since 1970 when it was given, and always more than the one before: a number that was lost in a failover is never given again.';
COMMENT ON COLUMN apikeyd.revision.txn IS 'The transaction; apikeyd.change has what it changed.';
COMMENT ON COLUMN apikeyd.revision.made_at IS 'When it was given, just before COMMIT.';

CREATE SEQUENCE apikeyd.revision_number AS bigint CACHE 1;
COMMENT ON SEQUENCE apikeyd.revision_number IS 'The revision last given. Used only by who holds the lock on apikeyd.turn.';

CREATE TABLE apikeyd.feed_floor (
  one boolean PRIMARY KEY DEFAULT true CONSTRAINT feed_floor_is_one_row CHECK (one),
  rev bigint NOT NULL
);
INSERT INTO apikeyd.feed_floor (rev) VALUES (0);
COMMENT ON TABLE apikeyd.feed_floor IS 'Where the change log begins: a daemon that has applied less loads everything again. One row.';
COMMENT ON COLUMN apikeyd.feed_floor.one IS 'Always true: there is one row.';
COMMENT ON COLUMN apikeyd.feed_floor.rev IS 'Changes up to and with this revision may be missing from the log.';

CREATE TABLE apikeyd.turn ();
COMMENT ON TABLE apikeyd.turn IS 'Has no rows. Its lock is the turn to be given a revision; only the owner''s functions may take it.';

CREATE TABLE apikeyd.pending (
  txn xid8 PRIMARY KEY
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE apikeyd.pending IS 'Transactions that have changed something and have no revision yet. A row lives no longer than its transaction, so that nobody ever sees one.';
COMMENT ON COLUMN apikeyd.pending.txn IS 'The transaction.';

-- ---- giving a revision ----

CREATE FUNCTION apikeyd.assign_revision() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  longest constant interval := '5 s'; -- who waits longer is told who is in the way
  before text := current_setting('lock_timeout');
  now_us bigint;
  next bigint;
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
  next := nextval('apikeyd.revision_number');
  IF next < now_us THEN
    next := setval('apikeyd.revision_number', now_us);
  END IF;
  INSERT INTO apikeyd.revision (rev, txn) VALUES (next, NEW.txn);
  PERFORM pg_notify('apikeyd', next::text);
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikeyd.assign_revision() IS 'Trigger, deferred, once for each transaction that changed something: waits for its turn and gives it its revision. Error 55P03 after 5 s (or lock_timeout, where that is less): retry.';

CREATE CONSTRAINT TRIGGER pending_assign AFTER INSERT ON apikeyd.pending
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION apikeyd.assign_revision();
-- ALWAYS: for what logical replication applies, too.
ALTER TABLE apikeyd.pending ENABLE ALWAYS TRIGGER pending_assign;

CREATE FUNCTION apikeyd.revision() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  answer bigint;
BEGIN
  SET CONSTRAINTS apikeyd.pending_assign IMMEDIATE;
  SET CONSTRAINTS apikeyd.pending_assign DEFERRED;
  SELECT r.rev INTO answer FROM apikeyd.revision r WHERE r.txn = pg_current_xact_id_if_assigned();
  IF answer IS NULL THEN
    SELECT coalesce(max(r.rev), 0) INTO answer FROM apikeyd.revision r;
  END IF;
  RETURN answer;
END
$$;
COMMENT ON FUNCTION apikeyd.revision() IS 'As the last statement before COMMIT: gives this transaction its revision and returns it, for `apikeyctl wait` or a check''s min_rev. It holds up all others from there to COMMIT. A transaction that changed nothing gets the current revision. Not in the same statement as the change, and not in a savepoint that is rolled back.';

CREATE FUNCTION apikeyd.force_reload() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  self constant xid8 := pg_current_xact_id();
  answer bigint;
BEGIN
  -- Nobody will read what is below the floor. (After a restore into another cluster these are that other cluster's
  -- transaction numbers, which this one will come to again.)
  DELETE FROM apikeyd.change c WHERE c.txn <> self;
  DELETE FROM apikeyd.revision r WHERE r.txn <> self;
  INSERT INTO apikeyd.pending (txn) VALUES (self) ON CONFLICT DO NOTHING;
  answer := apikeyd.revision();
  UPDATE apikeyd.feed_floor SET rev = answer;
  RETURN answer;
END
$$;
COMMENT ON FUNCTION apikeyd.force_reload() IS 'Makes every daemon load everything again, as of this transaction''s COMMIT. The last statement of each migration and of each restore, and whenever triggers were off. Begins the change log anew.';

-- ---- noticing changes ----
-- As statement triggers with transition tables new_rows and old_rows; as row triggers, ENABLE REPLICA, for what
-- logical replication applies, where statement triggers never fire. The ids of organizations, pages, users and keys
-- never change (0006_guards.sql), so that an update's new rows name all that changed; a membership or a narrowing may
-- be moved from one user or key to another, and then both have changed.

CREATE FUNCTION apikeyd.log_id() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF TG_LEVEL = 'ROW' THEN
    IF TG_OP = 'DELETE' THEN
      INSERT INTO apikeyd.change (txn, kind, id) VALUES (pg_current_xact_id(), TG_ARGV[0], OLD.id);
    ELSE
      INSERT INTO apikeyd.change (txn, kind, id) VALUES (pg_current_xact_id(), TG_ARGV[0], NEW.id);
    END IF;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO apikeyd.change (txn, kind, id) SELECT pg_current_xact_id(), TG_ARGV[0], o.id FROM old_rows o;
  ELSE
    INSERT INTO apikeyd.change (txn, kind, id) SELECT pg_current_xact_id(), TG_ARGV[0], n.id FROM new_rows n;
  END IF;
  IF FOUND THEN
    INSERT INTO apikeyd.pending (txn) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikeyd.log_id() IS 'Trigger: writes the ids of changed organizations, pages or users (its argument says which) to the change log.';

CREATE FUNCTION apikeyd.log_member() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF TG_LEVEL = 'ROW' THEN
    IF TG_OP <> 'DELETE' THEN
      INSERT INTO apikeyd.change (txn, kind, id) VALUES (pg_current_xact_id(), 'user', NEW.user_id);
    END IF;
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND OLD.user_id <> NEW.user_id) THEN
      INSERT INTO apikeyd.change (txn, kind, id) VALUES (pg_current_xact_id(), 'user', OLD.user_id);
    END IF;
  ELSIF TG_OP = 'INSERT' THEN
    INSERT INTO apikeyd.change (txn, kind, id) SELECT DISTINCT pg_current_xact_id(), 'user', n.user_id FROM new_rows n;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO apikeyd.change (txn, kind, id) SELECT DISTINCT pg_current_xact_id(), 'user', o.user_id FROM old_rows o;
  ELSE
    INSERT INTO apikeyd.change (txn, kind, id)
      SELECT pg_current_xact_id(), 'user', both_rows.user_id
      FROM (SELECT n.user_id FROM new_rows n UNION SELECT o.user_id FROM old_rows o) AS both_rows;
  END IF;
  IF FOUND THEN
    INSERT INTO apikeyd.pending (txn) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikeyd.log_member() IS 'Trigger: writes the users whose memberships changed to the change log.';

CREATE FUNCTION apikeyd.log_key() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF TG_LEVEL = 'ROW' THEN
    IF TG_OP = 'DELETE' THEN
      INSERT INTO apikeyd.change (txn, kind, key_id) VALUES (pg_current_xact_id(), 'key', OLD.id);
    ELSE
      INSERT INTO apikeyd.change (txn, kind, key_id) VALUES (pg_current_xact_id(), 'key', NEW.id);
    END IF;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO apikeyd.change (txn, kind, key_id) SELECT pg_current_xact_id(), 'key', o.id FROM old_rows o;
  ELSE
    INSERT INTO apikeyd.change (txn, kind, key_id) SELECT pg_current_xact_id(), 'key', n.id FROM new_rows n;
  END IF;
  IF FOUND THEN
    INSERT INTO apikeyd.pending (txn) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikeyd.log_key() IS 'Trigger: writes the ids of changed keys to the change log.';

CREATE FUNCTION apikeyd.log_narrowing() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF TG_LEVEL = 'ROW' THEN
    IF TG_OP <> 'DELETE' THEN
      INSERT INTO apikeyd.change (txn, kind, key_id) VALUES (pg_current_xact_id(), 'key', NEW.key_id);
    END IF;
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND OLD.key_id <> NEW.key_id) THEN
      INSERT INTO apikeyd.change (txn, kind, key_id) VALUES (pg_current_xact_id(), 'key', OLD.key_id);
    END IF;
  ELSIF TG_OP = 'INSERT' THEN
    INSERT INTO apikeyd.change (txn, kind, key_id) SELECT DISTINCT pg_current_xact_id(), 'key', n.key_id FROM new_rows n;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO apikeyd.change (txn, kind, key_id) SELECT DISTINCT pg_current_xact_id(), 'key', o.key_id FROM old_rows o;
  ELSE
    INSERT INTO apikeyd.change (txn, kind, key_id)
      SELECT pg_current_xact_id(), 'key', both_rows.key_id
      FROM (SELECT n.key_id FROM new_rows n UNION SELECT o.key_id FROM old_rows o) AS both_rows;
  END IF;
  IF FOUND THEN
    INSERT INTO apikeyd.pending (txn) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikeyd.log_narrowing() IS 'Trigger: writes the keys whose narrowing changed to the change log.';

CREATE FUNCTION apikeyd.log_catalog() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  any_row boolean := true;
BEGIN
  IF TG_LEVEL = 'STATEMENT' THEN
    IF TG_OP = 'DELETE' THEN
      any_row := EXISTS (SELECT FROM old_rows);
    ELSE
      any_row := EXISTS (SELECT FROM new_rows);
    END IF;
  END IF;
  IF any_row THEN
    INSERT INTO apikeyd.change (txn, kind) VALUES (pg_current_xact_id(), 'catalog');
    INSERT INTO apikeyd.pending (txn) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikeyd.log_catalog() IS 'Trigger: notes in the change log that scopes, roles or what roles hold have changed.';

DO $$
DECLARE
  logged record;
BEGIN
  FOR logged IN
    SELECT * FROM (VALUES
      ('scope', 'log_catalog()'), ('role', 'log_catalog()'), ('role_scope', 'log_catalog()'),
      ('organization', 'log_id(''organization'')'), ('page', 'log_id(''page'')'), ('user', 'log_id(''user'')'),
      ('organization_member', 'log_member()'), ('page_member', 'log_member()'),
      ('key', 'log_key()'),
      ('key_page', 'log_narrowing()'), ('key_scope', 'log_narrowing()'), ('key_network', 'log_narrowing()')
    ) AS t (name, call)
  LOOP
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT ON apikeyd.%I REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION apikeyd.%s',
                   logged.name || '_log_insert', logged.name, logged.call);
    EXECUTE format('CREATE TRIGGER %I AFTER UPDATE ON apikeyd.%I REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION apikeyd.%s',
                   logged.name || '_log_update', logged.name, logged.call);
    EXECUTE format('CREATE TRIGGER %I AFTER DELETE ON apikeyd.%I REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION apikeyd.%s',
                   logged.name || '_log_delete', logged.name, logged.call);
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON apikeyd.%I FOR EACH ROW EXECUTE FUNCTION apikeyd.%s',
                   logged.name || '_log_replica', logged.name, logged.call);
    EXECUTE format('ALTER TABLE apikeyd.%I ENABLE REPLICA TRIGGER %I', logged.name, logged.name || '_log_replica');
  END LOOP;
END
$$;

-- ---- the daemons' registration ----

CREATE TABLE apikeyd.daemon (
  id uuid PRIMARY KEY,
  host text NOT NULL,
  pid int NOT NULL,
  version text NOT NULL,
  applied_rev bigint NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  seen_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT daemon_host_fits CHECK (octet_length(host) <= 255 AND host !~ '[[:cntrl:]]'),
  CONSTRAINT daemon_version_fits CHECK (octet_length(version) <= 100 AND version !~ '[[:cntrl:]]')
);
COMMENT ON TABLE apikeyd.daemon IS 'The daemons that follow this database, as they last said.';
COMMENT ON COLUMN apikeyd.daemon.id IS 'Made by the daemon when it starts.';
COMMENT ON COLUMN apikeyd.daemon.host IS 'The name of its host.';
COMMENT ON COLUMN apikeyd.daemon.pid IS 'Its process id there.';
COMMENT ON COLUMN apikeyd.daemon.version IS 'Its version.';
COMMENT ON COLUMN apikeyd.daemon.applied_rev IS 'The revision that it answered from; 0: it had not loaded yet.';
COMMENT ON COLUMN apikeyd.daemon.started_at IS 'When it first registered.';
COMMENT ON COLUMN apikeyd.daemon.seen_at IS 'When it last said so, by the database''s clock.';

CREATE FUNCTION apikeyd.daemon_seen(id uuid, host text, pid int, version text, applied_rev bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO apikeyd.daemon (id, host, pid, version, applied_rev)
  VALUES (daemon_seen.id, daemon_seen.host, daemon_seen.pid, daemon_seen.version, daemon_seen.applied_rev)
  ON CONFLICT ON CONSTRAINT daemon_pkey DO UPDATE
    SET host = excluded.host, pid = excluded.pid, version = excluded.version, applied_rev = excluded.applied_rev,
        seen_at = now()
$$;
COMMENT ON FUNCTION apikeyd.daemon_seen(uuid, text, int, text, bigint) IS 'A daemon registers, and says now and then that it lives and which revision it has applied.';

COMMIT;
