#!/usr/bin/env python3
"""Waiting for a revision: who registers, whose lease holds the waiting up and for how long, and what is answered after.

Two daemons or more on one database. However one is kept from following (frozen, killed, loading, left behind by a
promotion), it answers nothing from before a revision once the waiting for it has returned.
"""
import contextlib
import os
import pty
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *  # noqa: E402

# A lease of 2.8 s.
QUICK = {"database.backoff_max_ms": "200", "freshness.max_stale_ms": "2s", "freshness.heartbeat_ms": "200"}
shared = {}


def cluster():
    if "cluster" not in shared:
        shared["cluster"] = Cluster().start()
    return shared["cluster"]


class World:
    """A database of its own, with as many daemons as wanted, and a key for olga, owner of acme."""

    def __init__(self, t, of=None):
        self.t = t
        self.cluster = of or cluster()
        self.pepper = secrets.token_hex(32)
        shared["count"] = shared.get("count", 0) + 1
        self.database = f"apikeyd{shared['count']}"
        self.cluster.install(self.database, demo=True)
        self.daemons = []

    def sql(self, text, *params):
        return self.cluster.sql(text, *params, database=self.database)

    def daemon(self, settings=None, user="apikeyd", **more):
        more.setdefault("conninfo", self.cluster.dsn(user, self.database))
        d = self.t.keep(Daemon(self.cluster, {**QUICK, **(settings or {})}, pepper=self.pepper, **more))
        self.daemons.append(d)
        return d

    def mint(self):
        """A key that every daemon has."""
        minted = self.daemons[0].admin("key_mint", kind="user", user="olga@acme.example")
        for d in self.daemons:
            self.t.equal(d.check(minted["key"], "page:read", "acme", min_rev=minted["rev"], deadline_ms=30000)["verdict"],
                         "allow", "a fresh key")
        return minted["key"], minted["key_id"]

    def open(self, rev):
        """What is not done yet, as (what, pid)."""
        return [(what, pid) for what, pid in self.sql("select what, pid from apikeyd.wait_for(%s) where not done", rev)]

    def revoke(self, key_id):
        with contextlib.closing(self.cluster.connect("postgres", self.database, False)) as connection:
            cursor = connection.cursor()
            cursor.execute("update apikeyd.key set revoked_at = now() where id = %s", (key_id,))
            cursor.execute("select apikeyd.revision()")
            rev = cursor.fetchone()[0]
            connection.commit()
            return rev

    def applied(self, *daemons):
        """Waits until these are live and have all that there is."""
        pids = [d.process.pid for d in daemons or self.daemons]
        wait_until("all to have applied all", lambda: self.sql(
            "select count(*) from apikeyd.daemons where live and behind = 0 and pid = any (%s)", pids)[0][0] == len(pids))


def fails_closed(t, answers, rev):
    """None of these is from before the revision."""
    for answer in answers:
        t.ok(answer["verdict"] == "unavailable" or (answer["rev"] >= rev and answer["reason"] == "revoked"),
             f"an answer from before revision {rev}: {answer}")


def thaw(t, d, key, rev):
    """Lets a frozen daemon go on, with questions that wait for it already; it must not answer from what it knew."""
    rpc = t.keep(d.rpc())
    ids = [rpc.send("check", key, "page:read", "acme", {}) for _ in range(20)]
    d.signal(signal.SIGCONT)
    answers = [rpc.receive(i) for i in ids]
    # Mostly all are no answer; but a poll may come back before the first of them is read.
    fails_closed(t, answers, rev)
    t.ok({a["reason"] for a in answers} <= {"stale", "revoked"}, answers)
    while answers[-1]["verdict"] == "unavailable":
        answers.append(rpc.check(key, "page:read", "acme"))
    fails_closed(t, answers, rev)


def on_a_terminal(d, *argv):
    """Runs apikeyctl with a terminal; its exit code, and what it wrote there."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(APIKEYD_SOCKET=d.socket, APIKEYD_ADMIN_SOCKET=d.admin_socket)
        os.execv(APIKEYCTL, [APIKEYCTL, *argv])
    shown = b""
    with contextlib.suppress(OSError):
        while data := os.read(fd, 65536):
            shown += data
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


# ---- who registers ------------------------------------------------------------------------------------------------

def test_every_daemon_applies_it(t):
    w = World(t)
    one, two = w.daemon(), w.daemon()
    key, key_id = w.mint()
    done = one.ctl("key", "revoke", key_id, "--yes", "--wait")
    t.equal(done.returncode, 0, done.stderr)
    t.contains(done.stderr, "any more (applied by 2)", "says so")
    for d in (one, two):
        t.equal(d.check(key, "page:read", "acme")["reason"], "revoked", "right after, without min_rev")
    rows = json.loads(one.ctl("daemons", "--json").stdout)
    t.equal({(r["pid"], r["behind"], r["live"]) for r in rows},
            {(d.process.pid, 0, True) for d in (one, two)}, "both are listed")
    table = two.ctl("daemons").stdout.splitlines()
    t.equal(table[0].split(), ["HOST", "PID", "VERSION", "APPLIED", "BEHIND", "LEASE", "SEEN", "STARTED"], "a table")
    t.equal(len(table), 3, "a line each")
    # The same from any other client, and what is asked wrongly.
    rows = one.admin("wait_for", rev=rows[0]["applied_rev"])["rows"]
    t.equal([(r["what"], r["done"]) for r in rows], [("revision", True)] + 2 * [("daemon", True)], "nothing is open")
    for rev in (0, -1, "x", None):
        t.equal(t.raises(RpcError, lambda: one.admin("wait_for", rev=rev)).code, "bad_params", f"rev {rev}")
    t.equal(one.ctl("wait").returncode, 2, "wait for what?")
    t.equal(one.ctl("wait", "--rev", "last").returncode, 2, "no revision")


def test_every_change_can_wait(t):
    w = World(t)
    d = w.daemon()

    def change(*argv, count=1):
        done = d.ctl(*argv, "--wait", "--json")
        t.equal(done.returncode, 0, f"{argv}: {done.stderr}")
        t.contains(done.stderr, f"any more (applied by {count})", f"{argv} waited")
        answer = json.loads(done.stdout)
        t.ok(d.stats()["rev"] >= answer["rev"], f"{argv}: applied")
        return answer

    change("org", "add", "waiting")
    change("org", "set", "waiting", "--name", "Waiting")
    change("page", "add", "waiting-page", "--org", "waiting")
    change("page", "set", "waiting-page", "--standing", "archived")
    change("user", "add", "keyless@example.com")
    change("user", "add", "w@example.com")
    change("user", "set", "w@example.com", "--name", "W")
    change("member", "set", "w@example.com", "viewer", "--org", "waiting")
    key_id = change("key", "mint", "--user", "w@example.com")["key_id"]
    change("key", "disable", key_id)
    change("key", "enable", key_id)
    change("key", "revoke", key_id, "--yes")
    change("member", "remove", "w@example.com", "--org", "waiting", "--yes")
    change("page", "remove", "waiting-page", "--yes")
    change("org", "remove", "waiting", "--yes")
    change("user", "remove", "keyless@example.com", "--yes")
    t.equal(d.ctl("__complete", "key", "revoke", "--w").stdout, "--wait\n", "the shell offers it")
    t.equal(d.ctl("org", "list", "--wait").returncode, 2, "what changes nothing has nothing to wait for")


def test_a_clean_stop_is_not_waited_for(t):
    w = World(t)
    one, two = w.daemon(), w.daemon({"freshness.max_stale_ms": "10min"})
    key, key_id = w.mint()
    rpc = t.keep(two.rpc())
    pid = two.process.pid
    t.equal(two.stop(), 0, "it stops")
    t.equal(w.sql("select pid from apikeyd.daemon"), [(one.process.pid,)], "its registration is gone")
    t.raises((Closed, OSError), lambda: rpc.check(key, "page:read", "acme"), "and so are its answers")
    rev = w.revoke(key_id)
    t.equal(one.ctl("wait", "--rev", str(rev)).returncode, 0, "nobody waits for its ten minutes")
    t.ok(pid not in [p for _, p in w.open(rev)], "it is not in the list")


def test_a_daemon_that_stops_while_the_database_is_away(t):
    own = t.keep(Cluster().start())
    w = World(t, own)
    d = w.daemon()
    own.stop("immediate")
    t.equal(d.stop(), 0, "it stops all the same")
    own.start()
    t.equal(len(w.sql("select 1 from apikeyd.daemon")), 1, "its lease runs out by itself")


# ---- who is waited for ----------------------------------------------------------------------------------------------

def test_a_frozen_daemon_holds_it_until_its_lease_is_out(t):
    w = World(t)
    one, two = w.daemon(), w.daemon()
    key, key_id = w.mint()
    w.applied()
    two.signal(signal.SIGSTOP)
    rev = w.revoke(key_id)
    w.applied(one)
    t.equal(w.open(rev), [("daemon", two.process.pid)], "it is waited for")
    t.equal(one.ctl("wait", "--rev", str(rev), "--timeout", "50ms").returncode, 5, "a timeout is said by its code")
    until = w.sql("select lease_until from apikeyd.daemon where pid = %s", two.process.pid)[0][0]
    code, shown = on_a_terminal(one, "wait", "--rev", str(rev))
    t.equal(code, 0, shown)
    t.ok(w.sql("select clock_timestamp() > %s", until)[0][0], "not before its lease was out")
    t.contains(shown, f" pid {two.process.pid}: at revision ", "whom it waits for")
    t.contains(shown, f" pid {one.process.pid}: applied", "who has it")
    t.contains(shown, "\x1b[3A\x1b[K", "three lines are written over")
    t.contains(shown.split("\x1b[J")[-1], f"no daemon answers from before revision {rev} any more (applied by 1)", "and go")
    done = one.ctl("wait", "--rev", str(rev), "--json")
    t.equal([r["pid"] for r in json.loads(done.stdout)["rows"] if r["what"] == "daemon"], [one.process.pid], "then it is over")
    t.equal(w.sql("select lease_until from apikeyd.daemon where pid = %s", two.process.pid)[0][0], until, "it did not renew it")
    t.equal(w.sql("select live from apikeyd.daemons where pid = %s", two.process.pid)[0][0], False, "psql says so too")
    thaw(t, two, key, rev)
    w.applied()
    t.equal(w.open(rev), [], "it is back, and has it")


def test_a_killed_daemon_is_waited_for_and_shown(t):
    w = World(t)
    one, two = w.daemon(), w.daemon({"freshness.max_stale_ms": "5s"})
    key, key_id = w.mint()
    w.applied()
    pid = two.process.pid
    two.kill()
    two.process = None
    done = one.ctl("key", "revoke", key_id, "--yes", "--wait") # whether it lives is not known until its lease is out
    t.equal(done.returncode, 0, done.stderr)
    t.equal(one.check(key, "page:read", "acme")["reason"], "revoked", "the other one has it")
    lines = [l for l in done.stderr.splitlines() if l.startswith("waiting for revision ")]
    t.ok(lines, done.stderr)
    t.contains(lines[0], f" pid {pid}: at revision ", "whom it waits for")
    t.ok(f" pid {one.process.pid}: " not in "".join(lines), "and not those who have it")
    t.contains(lines[0], ", at most ", "how long at most")
    t.equal(w.sql("select pid, live from apikeyd.daemons order by live"), [(pid, False), (one.process.pid, True)], "it stays in the list")


def test_a_loading_daemon_has_not_applied_it(t):
    w = World(t)
    one = w.daemon()
    key, key_id = w.mint()
    # Its feed may connect, and the load then may not.
    w.cluster.sql("create role loading login noinherit connection limit 1; grant apikeyd_check to loading", database="postgres")
    two = w.daemon(user="loading", wait="socket")
    wait_until("the load to fail", lambda: two.stats()["feed"]["load_failures"] > 0)
    rev = w.revoke(key_id)
    w.applied(one)
    t.equal(w.open(rev), [("daemon", two.process.pid)], "it loads")
    t.equal(w.sql("select applied_rev from apikeyd.daemon where pid = %s", two.process.pid)[0][0], 0, "nothing yet")
    before = w.sql("select lease_until from apikeyd.daemon where pid = %s", two.process.pid)[0][0]
    wait_until("its lease to be renewed", lambda: w.sql("select lease_until from apikeyd.daemon where pid = %s",
                                                        two.process.pid)[0][0] > before)
    w.cluster.sql("alter role loading connection limit -1", database="postgres")
    t.equal(one.ctl("wait", "--rev", str(rev)).returncode, 0, "it has loaded")
    t.equal(two.check(key, "page:read", "acme")["reason"], "revoked", "right after")


def test_waiting_in_sql(t):
    w = World(t)
    one, two = w.daemon(), w.daemon()
    key, key_id = w.mint()
    w.applied()
    two.signal(signal.SIGSTOP)
    rev = w.revoke(key_id)
    call = ["-c", f"set role apikeyd_platform", "-c", f"call apikeyd.wait({rev}, '100 ms')"]
    done = w.cluster.psql(*call, database=w.database, check=False)
    t.contains(done.stderr, "waited 00:00:00.1 in vain for revision", "a timeout is an error")
    t.contains(done.stderr, f"pid {two.process.pid} is at revision", "that names who")
    done = w.cluster.psql("-c", f"begin; call apikeyd.wait({rev}); commit", database=w.database, check=False)
    t.contains(done.stderr, "invalid transaction termination", "not in a transaction that may hold the change back")
    done = w.cluster.psql("-c", "set role apikeyd_platform", "-c", f"call apikeyd.wait({rev})", database=w.database)
    thaw(t, two, key, rev)
    with contextlib.closing(w.cluster.connect("postgres", w.database, False)) as connection:
        cursor = connection.cursor()
        cursor.execute("set transaction isolation level repeatable read")
        cursor.execute("select count(*) from apikeyd.organization")
        later = w.sql("update apikeyd.organization set name = 'later' where slug = 'acme' returning apikeyd.revision()")
        rev = w.sql("select max(rev) from apikeyd.revision")[0][0]
        cursor.execute("select what from apikeyd.wait_for(%s) where not done", (rev,))
        t.ok(("revision",) in cursor.fetchall(), "a snapshot from before the change says that it has not seen it")
        t.ok(later, "it was made")


# ---- the lease ------------------------------------------------------------------------------------------------------

def test_a_lease_that_is_too_long_is_refused(t):
    w = World(t)
    w.sql("select apikeyd.set_longest_lease('5 s')")
    d = w.daemon({"freshness.max_stale_ms": "10s"}, wait="socket")
    wait_until("the refusal", lambda: d.stats()["feed"]["state"] == "unregistered")
    line = [l for l in d.log().splitlines() if "the lease of" in l]
    t.contains(line[0], "error: database feed: registering this daemon: the lease of 10.810s is longer than the longest "
               "that this database allows, 5.000s (Run as a superuser: select apikeyd.set_longest_lease('11 s'); or lower "
               "freshness.max_stale_ms or offline_grace.); without a lease the copy is not confirmed", "says what to do")
    wait_until("another attempt", lambda: d.stats()["feed"]["registration_failures"] >= 3)
    t.equal(d.log().count("the lease of"), 1, "once")
    t.equal(d.check(make_key("u"), "page:read", "acme")["reason"], "not_loaded", "it answers nothing")
    t.equal(w.sql("select count(*) from apikeyd.daemon")[0][0], 0, "it is not registered")
    w.sql("select apikeyd.set_longest_lease('11 s')")
    wait_until("a copy", lambda: d.stats()["rev"] > 0)
    t.contains(d.log(), "this daemon is registered again", "told")


def test_a_longer_max_stale_needs_a_lease_first(t):
    """What was registered is what counts, not what the settings say since."""
    w = World(t)
    one, two = w.daemon(), w.daemon()
    key, key_id = w.mint()
    w.sql("select apikeyd.set_longest_lease('5 s')")
    two.settings["freshness.max_stale_ms"] = "10min"
    two.write_conf()
    two.signal(signal.SIGHUP)
    wait_until("the refusal", lambda: two.stats()["feed"]["state"] == "unregistered")
    rev = w.revoke(key_id)
    # What changes is taken over, but the copy gets no younger, and ends with the lease.
    wait_until("the change", lambda: two.stats()["rev"] >= rev)
    wait_until("the end of the lease", lambda: two.check(key, "page:read", "acme")["reason"] == "stale")
    t.ok(two.check(key, "page:read", "acme")["age_ms"] < 600000, "ten minutes are not over")
    t.equal(one.ctl("wait", "--rev", str(rev)).returncode, 0, "nobody waits for it")
    w.sql("select apikeyd.set_longest_lease('1 h')")
    wait_until("answers", lambda: two.check(key, "page:read", "acme")["reason"] == "revoked")


def test_without_a_registration_nothing_is_confirmed(t):
    """Something holds the registration up: the daemon goes stale, however well it can read."""
    w = World(t)
    d = w.daemon({"database.statement_timeout_ms": "500"})
    key, key_id = w.mint()
    w.cluster.psql("-c", "revoke execute on function apikeyd.daemon_seen from apikeyd_check", database=w.database)
    wait_until("staleness", lambda: d.check(key, "page:read", "acme")["reason"] == "stale")
    rev = w.revoke(key_id)
    wait_until("the change all the same", lambda: d.stats()["rev"] >= rev)
    t.equal(d.check(key, "page:read", "acme")["reason"], "stale", "it is known, and not confirmed")
    w.cluster.psql("-c", "grant execute on function apikeyd.daemon_seen to apikeyd_check", database=w.database)
    wait_until("answers", lambda: d.check(key, "page:read", "acme")["reason"] == "revoked")


# ---- a promotion ------------------------------------------------------------------------------------------------------

def test_a_promotion_that_lost_a_registration(t):
    primary = t.keep(Cluster({"wal_level": "replica"}).start())
    w = World(t, primary)
    w.sql("select apikeyd.set_longest_lease('5 s')")
    standby = t.keep(Standby(primary))
    standby.start()
    hosts = f"host={primary.socket_dir},{standby.socket_dir} user=apikeyd dbname={w.database}"
    one = w.daemon({"database.guard_ms": "200"}, conninfo=hosts)
    key, key_id = w.mint()
    wait_until("the standby to have it", lambda: standby.sql("select 1 from apikeyd.key", database=w.database))
    error = standby.psql("-c", "select apikeyd.wait_for(1)", database=w.database, check=False).stderr
    t.contains(error, "a standby cannot tell what daemons have applied", "ask the primary")
    # The standby is cut off: that another daemon registers it does not learn.
    standby.sql("alter system set primary_conninfo = ''", database="postgres")
    standby.sql("select pg_reload_conf()", database="postgres")
    wait_until("the stream to end", lambda: not primary.sql("select 1 from pg_stat_replication", database="postgres"))
    two = w.daemon()
    t.equal(two.check(key, "page:read", "acme")["verdict"], "allow", "it answers")
    w.applied()
    two.signal(signal.SIGSTOP) # as if the machine did not notice yet
    primary.stop("immediate")
    standby.promote()
    wait_until("the move", lambda: one.stats()["feed"]["timeline"] == 2 and one.stats()["feed"]["state"] == "following")
    w.cluster = standby
    rev = w.revoke(key_id)
    w.applied(one)
    t.equal(w.sql("select pid from apikeyd.daemon"), [(one.process.pid,)], "the other one is lost")
    t.equal(w.open(rev), [("timeline", None)], "so all are waited for")
    t.equal(w.sql("select timeline from apikeyd.timeline order by 1"), [(1,), (2,)], "noticed")
    refused = standby.psql("-c", "select apikeyd.set_longest_lease('4 s')", database=w.database, check=False).stderr
    t.contains(refused, "may have been lost with the last promotion", "the hold is not cut short")
    done = one.ctl("wait", "--rev", str(rev))
    t.equal(done.returncode, 0, done.stderr)
    t.ok(w.sql("select clock_timestamp() >= noticed_at + '5 s' from apikeyd.timeline where timeline = 2")[0][0],
         "one longest lease")
    rpc = t.keep(two.rpc())
    ids = [rpc.send("check", key, "page:read", "acme", {}) for _ in range(5)]
    two.signal(signal.SIGCONT)
    fails_closed(t, [rpc.receive(i) for i in ids], rev)


# ---- the change log ends -----------------------------------------------------------------------------------------------

def grow(w, revisions=50):
    with contextlib.closing(w.cluster.connect("postgres", w.database)) as connection:
        for i in range(revisions):
            connection.cursor().execute("update apikeyd.organization set name = %s where slug = 'umbra'", (f"grown {i}",))


def test_daemons_trim_the_change_log(t):
    w = World(t)
    one = w.daemon({"database.trim_ms": "100", "database.log_keep_ms": "1s"})
    two = w.daemon({"database.trim_ms": "100", "database.log_keep_ms": "1s"})
    grow(w)
    w.sql("insert into apikeyd.user (email) select 'u' || i || '@big.example' from generate_series(1, 12000) i")
    wait_until("the log to be short", lambda: w.sql("select count(*) from apikeyd.change")[0][0] == 0 and
               w.sql("select count(*) from apikeyd.revision")[0][0] == 1)
    t.equal(w.sql("select rev from apikeyd.feed_floor"), w.sql("select max(rev) from apikeyd.revision"), "the floor stays")
    counts = [d.stats()["feed"] for d in (one, two)]
    t.ok(sum(c["trimmed_changes"] for c in counts) >= 12050, "by whoever did it")
    t.ok(sum(c["trimmed_revisions"] for c in counts) >= 50, "by whoever did it")
    t.equal([c["trim_failures"] for c in counts], [0, 0], "without a fault")
    t.equal([c["reloads"] for c in counts], [0, 0], "and nobody had to load again")
    key, key_id = w.mint()
    rev = w.revoke(key_id)
    for d in (one, two):
        t.equal(d.check(key, "page:read", "acme", min_rev=rev, deadline_ms=30000)["reason"], "revoked", "it goes on")


def test_a_daemon_that_is_behind_holds_the_log_and_reloads_when_it_cannot(t):
    w = World(t)
    one = w.daemon({"database.trim_ms": "0"})
    two = w.daemon({"database.trim_ms": "0", "freshness.max_stale_ms": "10min"})
    key, key_id = w.mint()
    w.applied()
    two.signal(signal.SIGSTOP)
    behind = w.sql("select applied_rev from apikeyd.daemon where pid = %s", two.process.pid)[0][0]
    grow(w)
    w.applied(one)

    def trim(rows):
        while True:
            ran, floor, _, _, more = w.sql("select * from apikeyd.trim_change_log('0', %s)", rows)[0]
            t.ok(ran, "nobody else is at it")
            if not more:
                return floor
    t.equal(trim(1000), behind, "not beyond what it has")
    two.signal(signal.SIGCONT)
    w.applied()
    t.equal(two.stats()["feed"]["reloads"], 0, "so it just follows")
    two.signal(signal.SIGSTOP)
    behind = w.sql("select applied_rev from apikeyd.daemon where pid = %s", two.process.pid)[0][0]
    rev = w.revoke(key_id)
    grow(w)
    t.ok(trim(10) > behind, "unless there is too much")
    t.equal(w.sql("select count(*) from apikeyd.change")[0][0], 10, "which is at most so much")
    two.signal(signal.SIGCONT)
    t.equal(two.check(key, "page:read", "acme", min_rev=rev, deadline_ms=30000)["reason"], "revoked", "it finds out")
    t.equal(two.stats()["feed"]["forced_reloads"], 1, "it saw the floor above it, and loaded")
    t.contains(two.log(), "the log's floor is above what was applied", "told")


def test_trimming_is_in_nobodys_way(t):
    w = World(t)
    d = w.daemon({"database.trim_ms": "0"})
    w.sql("select apikeyd.trim_change_log('1 h', 1000)") # what the installation left
    grow(w, 5)
    w.applied()
    # A transaction that sees the old log goes on seeing it.
    reader = t.keep(w.cluster.connect("postgres", w.database, False))
    old = reader.cursor()
    old.execute("set transaction isolation level repeatable read")
    old.execute("select (select rev from apikeyd.feed_floor), (select count(*) from apikeyd.change)")
    before = old.fetchone()
    first = t.keep(w.cluster.connect("postgres", w.database, False))
    cursor = first.cursor()
    cursor.execute("select ran, changes from apikeyd.trim_change_log('0', 1000)")
    ran, changes = cursor.fetchone()
    t.ok(ran and changes >= 5, "one is at it, and has not committed")
    t.equal(w.sql("set lock_timeout = '10s'; select ran from apikeyd.trim_change_log('0', 1000)")[0][0], False,
            "another one does not wait for it")
    rev = w.sql("set lock_timeout = '10s'; insert into apikeyd.organization (slug) values ('meanwhile'); "
                "select apikeyd.revision()")[0][0]
    wait_until("the change", lambda: d.stats()["rev"] >= rev)
    t.ok(True, "neither writers nor polls wait")
    first.commit()
    old.execute("select (select rev from apikeyd.feed_floor), (select count(*) from apikeyd.change)")
    t.equal(old.fetchone(), before, "the old snapshot has all of it")
    reader.rollback()
    t.equal(d.stats()["feed"]["reloads"], 0, "nobody had to load again")
    # With a reload on its way, whichever is first.
    w.sql("begin; select apikeyd.force_reload(); select ran from apikeyd.trim_change_log('0', 1000); commit")
    wait_until("the reload", lambda: d.stats()["feed"]["forced_reloads"] == 1 and d.stats()["feed"]["state"] == "following")


# ---- an older schema ------------------------------------------------------------------------------------------------------

def test_an_upgrade(t):
    """From the schema without leases: what daemons of before it knew is waited out."""
    c = cluster()
    for name, registered in (("fresh", False), ("followed", True)):
        c.sql(f"create database {name}", database="postgres")
        paths = sorted(os.path.join(SQL_DIR, file) for file in os.listdir(SQL_DIR))
        for path in paths[:8]:
            c.psql("-f", path, database=name)
        c.login_role()
        if registered:
            c.sql("select apikeyd.daemon_seen('6b1c1b0e-0000-4000-8000-000000000001', 'old.example', 1, '0.1', 1)", database=name)
        done = subprocess.run([APIKEYCTL, "db", "upgrade", "--sql-dir", SQL_DIR], env=c.env(database=name),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        t.equal(done.returncode, 0, done.stdout)
        rows = c.sql("select what from apikeyd.wait_for(apikeyd.revision()) where not done", database=name)
        t.equal(rows, [("timeline",)] if registered else [], "what daemons of before it may still answer from")
        t.equal(c.sql("select count(*) from apikeyd.daemon", database=name)[0][0], 0, "they have no lease")
        d = t.keep(Daemon(c, QUICK, conninfo=c.dsn("apikeyd", name)))
        t.ok(d.stats()["rev"] > 0, "a daemon follows it")


if __name__ == "__main__":
    run(globals())
