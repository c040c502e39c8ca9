"""The change log between sessions: what one session of pgTAP (tests/sql/) cannot show. PostgreSQL alone, no daemon."""
import random
import re
import threading

import psycopg2
import psycopg2.errors
from psycopg2 import extensions

from world import *

STAGE = {}
MIGRATIONS = sorted(glob.glob(os.path.join(SQL_DIR, "*.sql")))


# ---- tools ----------------------------------------------------------------------------------------------------------

def install(cluster, database, user="postgres"):
    """As a person does it, with psql: file by file."""
    for path in MIGRATIONS:
        cluster.psql("-f", path, database=database, user=user)


def stage():
    """One cluster for all tests, with the schema and a few things in it."""
    if not STAGE:
        cluster = Cluster({"wal_level": "logical", "max_prepared_transactions": "5"}).start()
        cluster.psql("-c", "create database apikeyd", database="postgres")
        install(cluster, "apikeyd")
        cluster.sql("""
            insert into apikeyd.organization (id, slug) values (1, 'one'), (2, 'two');
            insert into apikeyd.page (id, organization_id, slug) select g, 1, 'page-' || g from generate_series(1, 20) g;
            insert into apikeyd.user (id, email) select g, 'user' || g || '@example.com' from generate_series(1, 20) g;
            insert into apikeyd.pepper values (1, sha256('p'));
            insert into apikeyd.key (id, kind, user_id, hash, pepper_version)
              select lpad(g::text, 10, '0'), 'user', g, sha256('k'), 1 from generate_series(1, 20) g""")
        STAGE["cluster"] = cluster
    return STAGE["cluster"]


def session(t, isolation=None, **kwargs):
    connection = t.keep(stage().connect(autocommit=False, **kwargs))
    if isolation:
        connection.set_session(isolation_level=isolation)
    return connection


def do(connection, text, *params):
    cursor = connection.cursor()
    cursor.execute(text, params or None)
    return cursor.fetchall() if cursor.description else None


def rev_of(connection):
    return do(connection, "select apikeyd.revision()")[0][0]


def newest():
    return stage().sql("select max(rev) from apikeyd.revision")[0][0]


def changes_of(rev):
    return {tuple(row) for row in stage().sql(
        "select c.kind, c.id, c.key_id from apikeyd.revision r join apikeyd.change c using (txn) where r.rev = %s", rev)}


class Later(threading.Thread):
    """Runs a call on a thread of its own; result() waits for it and raises what it raised."""

    def __init__(self, call):
        super().__init__(daemon=True)
        self.call, self.value, self.error = call, None, None
        self.start()

    def run(self):
        try:
            self.value = self.call()
        except BaseException as error:
            self.error = error

    def result(self):
        self.join(WAIT)
        if self.is_alive():
            raise AssertionError("did not end")
        if self.error:
            raise self.error
        return self.value


def wait_for_lock(pid):
    wait_until(f"session {pid} to wait for a lock", lambda: stage().sql(
        "select 1 from pg_stat_activity where pid = %s and wait_event_type = 'Lock'", pid))


# ---- order ----------------------------------------------------------------------------------------------------------

def test_who_has_its_revision_commits_before_the_next_gets_one(t):
    a, b = session(t), session(t)
    do(a, "update apikeyd.page set name = 'a' where id = 1")
    first = rev_of(a)
    do(b, "update apikeyd.page set name = 'b' where id = 2")
    committing = Later(b.commit)
    wait_for_lock(b.info.backend_pid)
    t.ok(newest() < first, "nobody sees the first before its COMMIT")
    a.commit()
    committing.result()
    t.ok(newest() > first, "the second comes after the first")
    t.equal(changes_of(first), {("page", 1, "")}, "the first's changes")
    t.equal(changes_of(newest()), {("page", 2, "")}, "the second's changes")


def test_no_revision_appears_behind_one_that_was_seen(t):
    """Writers with long and short transactions, readers that follow: no reader ever misses a change."""
    start, stop, wrote = newest(), threading.Event(), []

    def write(seed):
        rng, connection = random.Random(seed), stage().connect(autocommit=False)
        with contextlib.closing(connection):
            for i in range(60):
                try:
                    for page in sorted(rng.sample(range(1, 21), rng.randint(1, 3))):
                        do(connection, "update apikeyd.page set name = %s where id = %s", f"{seed} {i}", page)
                    if rng.random() < 0.3:
                        do(connection, "select pg_sleep(%s)", rng.random() * 0.005)
                    told = rev_of(connection) if rng.random() < 0.5 else None
                    if rng.random() < 0.1:
                        connection.rollback()
                    else:
                        connection.commit()
                        wrote.append(told)
                except psycopg2.errors.DeadlockDetected:
                    connection.rollback()

    def follow():
        seen, applied = [], start
        with contextlib.closing(stage().connect()) as connection:
            ending = False
            while not ending:
                ending = stop.is_set()
                rows = do(connection, "select rev from apikeyd.revision where rev > %s order by rev", applied)
                seen += [row[0] for row in rows]
                applied = seen[-1] if seen else start
        return seen

    readers = [Later(follow) for _ in range(2)]
    writers = [Later(lambda seed=seed: write(seed)) for seed in range(6)]
    for writer in writers:
        writer.result()
    stop.set()
    all_of_them = [row[0] for row in stage().sql("select rev from apikeyd.revision where rev > %s order by rev", start)]
    t.equal(len(all_of_them), len(wrote), "one revision for each transaction that committed")
    t.ok(len(wrote) > 200, "most of them committed")
    for reader in readers:
        t.equal(reader.result(), all_of_them, "who follows misses none")
    told = {rev for rev in wrote if rev}
    t.ok(told and told <= set(all_of_them), "what revision() told stands in the log")


def test_a_plain_sequence_would_lose_changes(t):
    """The fault that the lock is there for, planted: numbers in the order of the statements."""
    cluster = stage()
    cluster.sql("create table naive (n serial primary key, what text)")
    a, b = session(t), session(t)
    do(a, "insert into naive (what) values ('a')")
    do(b, "insert into naive (what) values ('b')")
    b.commit()
    applied = cluster.sql("select max(n) from naive")[0][0]
    a.commit()
    missed = cluster.sql("select what from naive where n < %s", applied)
    cluster.sql("drop table naive")
    t.equal(missed, [("a",)], "the reader had moved past it")


def test_revisions_grow_whatever_the_clock_and_a_crash_do(t):
    cluster = stage()
    change = "update apikeyd.page set name = name || '.' where id = 1"
    before = cluster.sql("select (extract(epoch from clock_timestamp()) * 1000000)::bigint")[0][0]
    cluster.sql(change)
    first = newest()
    t.ok(first >= before, "it follows the clock")
    ahead = first + 3600 * 1000000
    cluster.sql("select setval('apikeyd.revision_number', %s)", ahead)
    cluster.sql(change)
    second = newest()
    t.ok(ahead < second <= ahead + 64, "a clock that stands an hour back does not matter")
    cluster.stop("immediate")
    cluster.start()
    cluster.sql(change)
    t.ok(newest() > second, "nor does a crash")


# ---- within a transaction ----------------------------------------------------------------------------------------------

def test_changes_after_revision_belong_to_it(t):
    a = session(t)
    do(a, "update apikeyd.page set name = 'x' where id = 3")
    rev = rev_of(a)
    do(a, "update apikeyd.key set disabled_at = now() where id = '0000000003'")
    do(a, "savepoint s")
    do(a, "update apikeyd.user set name = 'never' where id = 4")
    do(a, "rollback to s")
    do(a, "update apikeyd.user set name = 'x' where id = 3")
    a.commit()
    t.equal(newest(), rev, "no second revision")
    t.equal(changes_of(rev), {("page", 3, ""), ("key", 0, "0000000003"), ("user", 3, "")}, "all changes, and no others")


def test_what_is_rolled_back_has_no_revision(t):
    a, before = session(t), newest()
    do(a, "update apikeyd.page set name = 'x' where id = 3")
    rev_of(a)
    a.rollback()
    t.equal(newest(), before, "a transaction")
    do(a, "savepoint s")
    do(a, "update apikeyd.page set name = 'x' where id = 3")
    do(a, "rollback to s")
    a.commit()
    t.equal(newest(), before, "a savepoint with all that there was")


def test_revision_in_a_savepoint_that_is_rolled_back(t):
    a, b = session(t), session(t)
    do(a, "update apikeyd.page set name = 'y' where id = 5")
    do(a, "savepoint s")
    void = rev_of(a)
    do(a, "rollback to s")
    do(b, "update apikeyd.page set name = 'y' where id = 6")
    b.commit()  # the turn went with the savepoint
    between = newest()
    a.commit()
    t.ok(newest() > between > void, "the change gets its revision at COMMIT after all")
    t.equal(changes_of(newest()), {("page", 5, "")}, "with what was changed before the savepoint")


def test_constraints_all_immediate(t):
    a = session(t)
    do(a, "set constraints all immediate")
    do(a, "update apikeyd.page set name = 'z' where id = 7")
    do(a, "update apikeyd.page set name = 'z' where id = 8")
    rev = rev_of(a)
    do(a, "update apikeyd.page set name = 'z' where id = 9")
    a.commit()
    t.equal(newest(), rev, "one revision")
    t.equal(changes_of(rev), {("page", 7, ""), ("page", 8, ""), ("page", 9, "")}, "for all")


def test_nothing_pending_is_left_behind(t):
    a = session(t)
    do(a, "update apikeyd.page set name = 'p' where id = 1")
    a.commit()
    t.equal(stage().sql("select count(*) from apikeyd.pending"), [(0,)], "no row")


def test_repeatable_read_writers_do_not_fail(t):
    for level in (extensions.ISOLATION_LEVEL_REPEATABLE_READ, extensions.ISOLATION_LEVEL_SERIALIZABLE):
        a, b = session(t, level), session(t, level)
        do(a, "select count(*) from apikeyd.page")  # both snapshots are taken before either changes anything
        do(b, "select count(*) from apikeyd.page")
        do(a, "update apikeyd.organization set name = 'rr' where id = 1")
        do(b, "update apikeyd.organization set name = 'rr' where id = 2")
        first = rev_of(a)
        a.commit()
        second = rev_of(b)
        b.commit()
        t.ok(second > first, "the older snapshot gets the newer revision")
        t.equal(newest(), second, "and it stands in the log")


def test_a_reader_sees_no_half(t):
    """Revision and changes become visible together with the rows themselves."""
    a, reader = session(t), session(t, extensions.ISOLATION_LEVEL_REPEATABLE_READ)
    do(a, "update apikeyd.page set name = 'half' where id = 10")
    rev = rev_of(a)
    ask = """select (select name from apikeyd.page where id = 10), (select max(rev) from apikeyd.revision),
                    (select count(*) from apikeyd.change c join apikeyd.revision r using (txn) where r.rev = %s)"""
    before = do(reader, ask, rev)[0]
    a.commit()
    t.equal(do(reader, ask, rev)[0], before, "one snapshot, one state")
    reader.rollback()
    t.equal(do(reader, ask, rev)[0], ("half", rev, 1), "the next has all of it")
    t.ok(before[0] != "half" and before[1] < rev and before[2] == 0, "and the one before had nothing of it")


# ---- who is in the way ---------------------------------------------------------------------------------------------------

def test_the_wait_is_bounded_and_names_who_is_in_the_way(t):
    stage().sql("do $$ begin if not exists (select from pg_roles where rolname = 'Slow One') then "
                "create role \"Slow One\" login; grant apikeyd_platform to \"Slow One\"; end if; end $$")
    holder = session(t, user="'Slow One'")
    do(holder, "set application_name = 'nightly'")
    do(holder, "update apikeyd.page set name = 'slow' where id = 1")
    rev_of(holder)
    for setting in ("0", "100ms", "1h"):  # none, less than 5 s, more than 5 s
        b = session(t)
        do(b, f"set lock_timeout = '{setting}'")
        do(b, "update apikeyd.page set name = 'b' where id = 2")
        error = t.raises(psycopg2.errors.LockNotAvailable, b.commit, f"lock_timeout {setting}")
        t.contains(str(error), f"pid {holder.info.backend_pid} of user \"Slow One\" (nightly)", "it names the session")
        t.contains(error.diag.message_hint, "Retry", "and says what to do")
    before = newest()
    holder.rollback()
    b = session(t)
    do(b, "update apikeyd.page set name = 'b' where id = 2")
    b.commit()
    t.ok(newest() > before, "the retry works")


def test_only_the_owner_takes_the_turn(t):
    for role in ("apikeyd_check", "apikeyd_admin", "apikeyd_platform", "apikeyd_auditor"):
        a = session(t)
        do(a, f"set role {role}")
        t.raises(psycopg2.errors.InsufficientPrivilege, lambda: do(a, "lock table apikeyd.turn in exclusive mode"), role)


def test_temporary_tables_do_not_deceive_the_functions(t):
    """search_path is fixed, with pg_temp last: objects of the caller's own change nothing."""
    a = session(t)
    do(a, "set role apikeyd_platform")
    do(a, "create temporary table revision (rev bigint, txn xid8, made_at timestamptz)")
    do(a, "create temporary table change (txn xid8, kind text, id bigint, key_id text)")
    do(a, "create function pg_temp.nextval(text) returns bigint language sql as 'select 1::bigint'")
    do(a, "set search_path = pg_temp, public")
    do(a, "update apikeyd.page set name = 'temp' where id = 11")
    rev = rev_of(a)
    a.commit()
    t.equal(changes_of(rev), {("page", 11, "")}, "the log is the real one")


# ---- durable, and heard --------------------------------------------------------------------------------------------------

def test_synchronous_commit_is_raised_for_the_commit_itself(t):
    cluster = stage()
    cluster.sql("alter system set synchronous_standby_names = 'nobody'")
    cluster.sql("select pg_reload_conf()")
    try:
        wait_until("the setting", lambda: cluster.sql("show synchronous_standby_names") == [("nobody",)])
        a = session(t)
        do(a, "set synchronous_commit = off")
        do(a, "update apikeyd.page set name = 'sync' where id = 12")
        committing = Later(a.commit)
        wait_until("the COMMIT to wait for a standby", lambda: cluster.sql(
            "select 1 from pg_stat_activity where pid = %s and wait_event = 'SyncRep'", a.info.backend_pid))
        cluster.sql("select pg_cancel_backend(%s)", a.info.backend_pid)
        committing.result()
        t.equal(do(a, "show synchronous_commit"), [("off",)], "and is what it was, after")
    finally:
        connection = cluster.connect()
        do(connection, "set synchronous_commit = off")
        do(connection, "alter system reset synchronous_standby_names")
        do(connection, "select pg_reload_conf()")
        connection.close()
        wait_until("the setting", lambda: cluster.sql("show synchronous_standby_names") == [("",)])


def test_notify_rings_at_commit_with_the_revision(t):
    listener = t.keep(stage().connect())
    do(listener, "listen apikeyd")
    a = session(t)
    do(a, "update apikeyd.page set name = 'bell' where id = 13")
    rev = rev_of(a)
    do(listener, "select 1")
    listener.poll()
    t.equal(listener.notifies, [], "not before")
    a.commit()

    def heard():
        listener.poll()
        return listener.notifies
    wait_until("the notification", heard)
    t.equal([(n.channel, n.payload) for n in listener.notifies], [("apikeyd", str(rev))], "once, with the revision")


# ---- replication, cascades -----------------------------------------------------------------------------------------------

def test_what_a_cascade_deletes_is_followed(t):
    a = session(t)
    do(a, "insert into apikeyd.page_member (page_id, user_id, role) values (20, 17, 'editor')")
    do(a, "update apikeyd.key set narrowed_pages = true where id = '0000000018'")
    do(a, "insert into apikeyd.key_page (key_id, page_id) values ('0000000018', 20)")
    a.commit()
    do(a, "set role apikeyd_platform")
    do(a, "delete from apikeyd.page where id = 20")
    rev = rev_of(a)
    a.commit()
    t.equal(changes_of(rev), {("page", 20, ""), ("user", 17, ""), ("key", 0, "0000000018")}, "page, member, key")


def test_replica_mode_is_logged(t):
    a = session(t)
    do(a, "set session_replication_role = replica")
    do(a, "update apikeyd.key set disabled_at = now() where id in ('0000000001', '0000000002')")
    a.commit()
    t.equal(changes_of(newest()), {("key", 0, "0000000001"), ("key", 0, "0000000002")}, "with a revision")


def test_logical_replication_is_logged(t):
    """A publisher, a subscriber: what is copied at first, and what is applied later, both get revisions there."""
    cluster, tables = stage(), "apikeyd.scope, apikeyd.role, apikeyd.role_scope, apikeyd.organization, apikeyd.page, apikeyd.user, " \
        "apikeyd.organization_member, apikeyd.page_member, apikeyd.pepper, apikeyd.key, apikeyd.key_page, apikeyd.key_scope, apikeyd.key_network"
    cluster.psql("-c", "create database copy", database="postgres")
    install(cluster, "copy")
    # the catalog comes from the publisher too
    cluster.sql("delete from apikeyd.role_scope; delete from apikeyd.role; delete from apikeyd.scope", database="copy")
    cluster.sql(f"create publication apikeyd for table {tables}")
    # both ends in one cluster: the slot must be made beforehand
    cluster.sql("select pg_create_logical_replication_slot('copy', 'pgoutput')")
    start = cluster.sql("select max(rev) from apikeyd.revision", database="copy")[0][0]
    cluster.sql(f"create subscription copy connection 'host={cluster.socket_dir} dbname=apikeyd user=postgres' "
                "publication apikeyd with (create_slot = false, slot_name = copy)", database="copy")
    try:
        def logged(rev, kind):
            return cluster.sql("select count(distinct (c.id, c.key_id)) from apikeyd.change c join apikeyd.revision r using (txn) "
                               "where r.rev > %s and c.kind = %s", rev, kind, database="copy")[0][0]
        keys = cluster.sql("select count(*) from apikeyd.key")[0][0]
        wait_until("the first copy", lambda: cluster.sql(
            "select count(*) = 13 and bool_and(srsubstate = 'r') from pg_subscription_rel", database="copy")[0][0])
        t.equal(logged(start, "key"), keys, "the copied keys are in its log")
        t.equal(logged(start, "catalog"), 1, "and the catalog")
        before = cluster.sql("select max(rev) from apikeyd.revision", database="copy")[0][0]
        cluster.sql("update apikeyd.key set revoked_at = now() where id = '0000000019'")
        cluster.sql("insert into apikeyd.organization_member values (1, 19, 'viewer')")
        wait_until("the revocation", lambda: cluster.sql(
            "select revoked_at is not null from apikeyd.key where id = '0000000019'", database="copy")[0][0])
        wait_until("the membership", lambda: cluster.sql(
            "select 1 from apikeyd.organization_member where user_id = 19", database="copy"))
        t.equal((logged(before, "key"), logged(before, "user")), (1, 1), "what is applied is in its log")
        t.equal(cluster.sql("select role, place from apikeyd.organization_member where user_id = 19", database="copy"),
                [("viewer", "organization")], "generated columns are there")
    finally:
        cluster.sql("alter subscription copy disable", database="copy")
        cluster.sql("alter subscription copy set (slot_name = none)", database="copy")
        cluster.sql("drop subscription copy", database="copy")
        wait_until("the slot to be free", lambda: not cluster.sql("select 1 from pg_replication_slots where active"))
        cluster.sql("select pg_drop_replication_slot('copy'); drop publication apikeyd")


def test_prepared_transactions_cannot_hold_the_turn(t):
    a = session(t)
    do(a, "update apikeyd.page set name = 'two phases' where id = 14")
    t.raises(psycopg2.errors.FeatureNotSupported, lambda: do(a, "prepare transaction 'p'"), "PREPARE TRANSACTION")


# ---- force_reload, dump and restore -----------------------------------------------------------------------------------------

def test_force_reload_moves_the_floor_with_its_commit(t):
    a = session(t)
    before = stage().sql("select rev from apikeyd.feed_floor")[0][0]
    rev = do(a, "select apikeyd.force_reload()")[0][0]
    t.equal(stage().sql("select rev from apikeyd.feed_floor"), [(before,)], "not before")
    a.commit()
    t.equal(stage().sql("select rev from apikeyd.feed_floor"), [(rev,)], "the floor is its revision")
    t.equal(stage().sql("select rev from apikeyd.revision"), [(rev,)], "the log begins with it")
    b = session(t)
    do(b, "update apikeyd.page set name = 'on' where id = 15")
    b.commit()
    t.equal(changes_of(newest()), {("page", 15, "")}, "and goes on")


def test_dump_and_restore(t):
    cluster = stage()
    cluster.sql("insert into apikeyd.key_scope values ('0000000004', 'page:read') on conflict do nothing")
    dump = os.path.join(new_dir("dump"), "apikeyd.sql")
    done = subprocess.run(["pg_dump", "-f", dump], env=cluster.env(), stderr=subprocess.PIPE, text=True)
    t.equal(done.returncode, 0, done.stderr)
    cluster.psql("-c", "create database restored", database="postgres")
    cluster.psql("-f", dump, database="restored")
    count = """select (select count(*) from apikeyd.key), (select count(*) from apikeyd.page), (select count(*) from apikeyd.role_scope),
                      (select count(*) from apikeyd.organization_member), (select count(*) from apikeyd.key_scope)"""
    t.equal(cluster.sql(count, database="restored"), cluster.sql(count), "all rows")
    t.equal(cluster.sql("select * from apikeyd.trigger_faults()", database="restored"), [], "all triggers")
    last = newest()
    rev = cluster.sql("select apikeyd.force_reload()", database="restored")[0][0]
    t.ok(rev > last, "its next revision is new")
    t.equal(cluster.sql("select count(*) from apikeyd.revision", database="restored"), [(1,)],
            "the other cluster's transaction numbers are gone")
    grants = "select count(*) from information_schema.role_table_grants where table_schema = 'apikeyd'"
    t.equal(cluster.sql(grants, database="restored"), cluster.sql(grants), "grants")


# ---- installing ----------------------------------------------------------------------------------------------------------

def test_install_by_a_role_that_is_no_superuser(t):
    """On a cluster of its own, since roles belong to the cluster."""
    cluster = t.keep(Cluster().start())
    cluster.psql("-c", "create role installer login createrole", "-c", "create database apikeyd owner postgres",
                 "-c", "grant create on database apikeyd to installer", database="postgres")
    install(cluster, "apikeyd", user="installer")
    t.equal(cluster.sql("select * from apikeyd.trigger_faults()"), [], "all triggers")
    t.equal(cluster.sql("select distinct relowner::regrole::text from pg_class where relnamespace = 'apikeyd'::regnamespace"),
            [("apikeyd_owner",)], "the owner owns all")
    t.equal(cluster.sql("select apikeyd.schema_version()"), [(len(MIGRATIONS),)], "all migrations")
    # and again into a second database, where the roles are already there
    cluster.psql("-c", "create database second", "-c", "grant create on database second to installer", database="postgres")
    install(cluster, "second", user="installer")
    t.equal(cluster.sql("select * from apikeyd.trigger_faults()", database="second"), [], "in a second database")
    # without the right to
    cluster.psql("-c", "create role weak login", "-c", "create database third", database="postgres")
    done = cluster.psql("-f", MIGRATIONS[0], database="third", user="weak", check=False)
    t.ok(done.returncode != 0, "a role that may not is refused")
    t.contains(done.stderr, "permission denied", "by name")


def test_install_refuses_twice_and_out_of_order(t):
    cluster = stage()
    cluster.psql("-c", "create database half", database="postgres")
    done = cluster.psql("-f", MIGRATIONS[0], "-f", MIGRATIONS[2], database="half", check=False)
    t.contains(done.stderr, "migration 3 (default_roles) comes after migration 2, which is not installed", "too early")
    done = cluster.psql("-f", MIGRATIONS[1], "-f", MIGRATIONS[1], database="half", check=False)
    t.contains(done.stderr, "migration 2 (domain) is already installed; the schema is at version 2", "twice")
    done = cluster.psql("-f", MIGRATIONS[0], database="half", check=False)
    t.contains(done.stderr, "the schema apikeyd is already in the database half", "the first twice")
    t.equal(cluster.sql("select apikeyd.schema_version()", database="half"), [(2,)], "what failed left nothing")


def test_file_names_and_records_agree(t):
    named = [(int(number), name) for number, name in
             (re.match(r"(\d{4})_(\w+)\.sql$", os.path.basename(path)).groups() for path in MIGRATIONS)]
    t.equal(stage().sql("select version, name from apikeyd.schema_migration order by 1"), named, "schema_migration")


def test_the_demo_world_may_be_loaded_again(t):
    cluster, demo = stage(), os.path.join(ROOT, "sql", "demo", "world.sql")
    cluster.psql("-c", "create database demo", database="postgres")
    install(cluster, "demo")
    cluster.psql("-f", demo, database="demo")
    state = """select (select max(rev) from apikeyd.revision), (select count(*) from apikeyd.user), (select count(*) from apikeyd.page),
                      (select count(*) from apikeyd.organization_member), (select count(*) from apikeyd.page_member)"""
    first = cluster.sql(state, database="demo")
    cluster.psql("-f", demo, database="demo")
    t.equal(cluster.sql(state, database="demo"), first, "the second time changes nothing")
    t.equal(cluster.sql("select count(distinct role) from apikeyd.organization_member", database="demo"), [(5,)], "people of every role")
    t.equal(cluster.sql("select count(*) from apikeyd.page where standing = 'archived'", database="demo"), [(1,)], "an archived page")


if __name__ == "__main__":
    run(globals())
