#!/usr/bin/env python3
"""The feed: what is committed is seen, what is not is not, and every surprise ends in a reload or in an honest age.

A real daemon follows a real PostgreSQL that is restarted, frozen, cut off, tampered with, and failed over.
"""
import contextlib
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *  # noqa: E402

import psycopg2  # noqa: E402

QUICK = {"database.backoff_max_ms": "200"}
shared = {}


def cluster():
    """One cluster for the tests that leave it as they found it; each has a database of its own."""
    if "cluster" not in shared:
        shared["cluster"] = Cluster().start()
    return shared["cluster"]


class World:
    """A database with the demo world, a daemon on it, and a key for olga, owner of acme."""

    def __init__(self, t, settings=None, of=None, **more):
        self.cluster = of or cluster()
        shared["count"] = shared.get("count", 0) + 1
        self.database = f"apikeyd{shared['count']}"
        self.cluster.install(self.database, demo=True)
        more.setdefault("conninfo", self.cluster.dsn("apikeyd", self.database))
        self.daemon = t.keep(Daemon(self.cluster, {**QUICK, **(settings or {})}, **more))
        self.key = None

    def sql(self, text, *params):
        return self.cluster.sql(text, *params, database=self.database)

    def connect(self, autocommit=True, user="postgres"):
        return self.cluster.connect(user, self.database, autocommit)

    def mint(self, **params):
        params = params or {"kind": "user", "user": "olga@acme.example"}
        minted = self.daemon.admin("key_mint", **params)
        self.key = self.key or minted["key"]
        self.ask(key=minted["key"], min_rev=minted["rev"], deadline_ms=10000)
        return minted

    def ask(self, scope="page:read", page="acme", key=None, **context):
        return self.daemon.check(key or self.key, scope, page, **context)

    def feed(self):
        return self.daemon.stats()["feed"]

    def commit(self, *statements):
        """One transaction; its revision."""
        with contextlib.closing(self.connect(False)) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            cursor.execute("select apikeyd.revision()")
            rev = cursor.fetchone()[0]
            connection.commit()
            return rev

    def says(self, text, seconds=WAIT):
        wait_until(f"the log to say {text!r}", lambda: text in self.daemon.log(), seconds)


def backends(world, what=""):
    """pids of the daemon's sessions in this database."""
    return [pid for pid, in world.sql("select pid from pg_stat_activity where application_name = 'apikeyd' and "
                                      "datname = current_database() and query like %s", f"%{what}%")]


# ---- following ------------------------------------------------------------------------------------------------------

def test_an_open_transaction_is_unseen_until_commit(t):
    w = World(t)
    key_id = w.mint()["key_id"]
    t.equal(w.ask()["verdict"], "allow", "before")
    connection = t.keep(w.connect(False))
    cursor = connection.cursor()
    cursor.execute("update apikeyd.key set revoked_at = now() where id = %s", (key_id,))
    cursor.execute("select apikeyd.revision()")
    rev = cursor.fetchone()[0]
    polls = w.feed()["polls"]
    wait_until("three polls", lambda: w.feed()["polls"] >= polls + 3)
    answer = w.ask()
    t.equal(answer["verdict"], "allow", "while the transaction is open")
    t.ok(answer["rev"] < rev, "its revision is not out")
    connection.commit()
    answer = w.ask(min_rev=rev, deadline_ms=10000)
    t.equal((answer["verdict"], answer["reason"]), ("deny", "revoked"), "right after")
    t.ok(answer["rev"] >= rev, "names the revision")


def test_a_doorbell_that_rings_during_a_poll(t):
    """The server tells it with the end of the poll, whose snapshot is older: the next poll comes at once."""
    w = World(t, {"database.poll_ms": "60s", "freshness.heartbeat_ms": "60s", "freshness.max_stale_ms": "10min",
                  "freshness.verify_ms": "0", "database.guard_ms": "10min", "database.trim_ms": "0"})
    key_id = w.mint()["key_id"]
    for state, reason in (("now()", "disabled"), ("null", "ok")):
        # It has registered what it applied, and has nothing to ask the server for now.
        wait_until("its registration", lambda: w.sql(
            "select d.applied_rev = (select max(rev) from apikeyd.revision) from apikeyd.daemon d") == [(True,)])
        blocker = w.connect(False)
        blocker.cursor().execute("lock table apikeyd.feed_floor in access exclusive mode")
        w.sql("notify apikeyd")  # rings for a poll, which waits, and will bring nothing
        wait_until("the poll to wait", lambda: w.sql(
            "select count(*) from pg_locks where relation = 'apikeyd.feed_floor'::regclass and not granted") == [(1,)])
        w.commit(f"update apikeyd.key set disabled_at = {state} where id = '{key_id}'")
        blocker.rollback()
        blocker.close()
        wait_until("the change", lambda: w.ask()["reason"] == reason, min(WAIT, 30))
    t.ok(True, "each was seen")


def test_the_doorbell_is_faster_than_the_poll(t):
    w = World(t, {"database.poll_ms": "60s", "freshness.max_stale_ms": "10min"})
    key_id = w.mint()["key_id"]
    t.equal(w.ask()["reason"], "ok", "before")
    w.commit(f"update apikeyd.key set disabled_at = now() where id = '{key_id}'")
    # Without min_rev, nothing but the notification can bring it within this time.
    wait_until("the change", lambda: w.ask()["reason"] == "disabled", min(WAIT, 30))
    t.ok(w.feed()["notifications"] > 0, "a notification came")


def test_each_kind_of_change_arrives(t):
    w = World(t)
    user = w.mint()["key"]
    minted = w.mint(kind="organization", org="acme", access="write")
    org, org_id = minted["key"], minted["key_id"]

    def after(statement, key, scope, page, reason):
        rev = w.commit(statement)
        t.equal(w.ask(scope, page, key, min_rev=rev, deadline_ms=10000)["reason"], reason, statement)

    after("update apikeyd.organization set standing = 'suspended' where slug = 'acme'", user, "page:read", "acme",
          "org_suspended")
    after("update apikeyd.organization set standing = 'active' where slug = 'acme'", user, "page:read", "acme", "ok")
    after("update apikeyd.page set slug = 'acme-new' where slug = 'acme'", user, "page:read", "acme", "unknown_page")
    after("update apikeyd.page set slug = 'acme' where slug = 'acme-new'", user, "page:read", "acme", "ok")
    after("update apikeyd.page set standing = 'archived' where slug = 'acme'", user, "page:write", "acme",
          "page_archived")
    after("update apikeyd.page set standing = 'active' where slug = 'acme'", user, "page:write", "acme", "ok")
    after("insert into apikeyd.page (organization_id, slug) select id, 'fresh' from apikeyd.organization "
          "where slug = 'acme'", org, "page:write", "fresh", "ok")
    after("insert into apikeyd.key_page (key_id, page_id) select '%s', id from apikeyd.page where slug = 'fresh'; "
          "update apikeyd.key set narrowed_pages = true where id = '%s'" % (org_id, org_id), org, "page:write", "acme",
          "page_not_granted")
    t.equal(w.ask("page:write", "fresh", org)["reason"], "ok", "the page that it is narrowed to")
    after("delete from apikeyd.page where slug = 'fresh'", org, "page:write", "fresh", "unknown_page")
    t.equal(w.ask("page:write", "acme", org)["reason"], "page_not_granted", "a flag without rows allows nothing")
    after("update apikeyd.key set narrowed_pages = false where id = '%s'" % org_id, org, "page:write", "acme", "ok")
    after("insert into apikeyd.key_network values ('%s', '10.1.0.0/16'), ('%s', '2001:db8::/32'); "
          "update apikeyd.key set narrowed_networks = true where id = '%s'" % (org_id, org_id, org_id), org,
          "page:write", "acme", "network")
    t.equal(w.ask("page:write", "acme", org, addr="10.1.2.3")["reason"], "ok", "inside the network")
    t.equal(w.ask("page:write", "acme", org, addr="2001:db8::1")["reason"], "ok", "inside the IPv6 network")
    t.equal(w.ask("page:write", "acme", org, addr="10.2.2.3")["reason"], "network", "outside")
    after("update apikeyd.key set narrowed_networks = false, narrowed_scopes = true where id = '%s'; "
          "insert into apikeyd.key_scope values ('%s', 'incident:write')" % (org_id, org_id), org, "page:write", "acme",
          "scope_not_granted")
    t.equal(w.ask("incident:read", "acme", org)["reason"], "ok", "write brings read")
    after("update apikeyd.key set narrowed_scopes = false, expires_at = now() where id = '%s'" % org_id, org,
          "page:write", "acme", "expired")
    after("update apikeyd.user set standing = 'suspended' where email = 'olga@acme.example'", user, "page:read", "acme",
          "user_suspended")
    after("update apikeyd.user set standing = 'active' where email = 'olga@acme.example'", user, "page:read", "acme",
          "ok")
    after("insert into apikeyd.page_member (page_id, user_id, role) select p.id, u.id, 'viewer' from apikeyd.page p, "
          "apikeyd.user u where p.slug = 'acme' and u.email = 'olga@acme.example'", user, "page:write", "acme",
          "scope_not_granted")
    after("delete from apikeyd.page_member where role = 'viewer' and user_id = (select id from apikeyd.user "
          "where email = 'olga@acme.example')", user, "page:write", "acme", "ok")
    after("update apikeyd.organization_member set role = 'viewer' where user_id = (select id from apikeyd.user "
          "where email = 'olga@acme.example')", user, "page:write", "acme", "scope_not_granted")
    after("insert into apikeyd.role_scope (place, role, scope) values ('organization', 'viewer', 'page:write')", user,
          "page:write", "acme", "ok")
    after("insert into apikeyd.scope (name, page_level, organization_level) values ('robot:run', true, false); "
          "insert into apikeyd.role_scope (place, role, scope) values ('organization', 'viewer', 'robot:run')", user,
          "robot:run", "acme", "ok")
    after("delete from apikeyd.organization_member where user_id = (select id from apikeyd.user "
          "where email = 'olga@acme.example')", user, "page:read", "acme", "unknown_page")


def test_a_big_change_is_applied_whole(t):
    # Slices of 7 of a change of 20,000 users: at no time does one part of it show without the other.
    w = World(t, {"database.apply_slice": "7"})
    w.mint()
    w.sql("insert into apikeyd.user (email) select 'u' || i || '@big.example' from generate_series(1, 20000) i")
    w.sql("insert into apikeyd.organization_member (organization_id, user_id, role) select o.id, u.id, 'editor' "
          "from apikeyd.organization o, apikeyd.user u where o.slug = 'acme' and u.email like '%@big.example'")
    first = w.mint(kind="user", user="u1@big.example")["key"]
    last = w.mint(kind="user", user="u20000@big.example")["key"]
    rpc = t.keep(w.daemon.rpc())
    for round in range(2):
        standing, reason = ("suspended", "user_suspended") if round == 0 else ("active", "ok")
        before = "ok" if round == 0 else "user_suspended"
        rev = w.commit(f"update apikeyd.user set standing = '{standing}' where email like '%@big.example'")
        seen = set()

        def both():
            ids = [rpc.send("check", key, "page:read", "acme", {}) for key in (first, last)]
            answers = [rpc.receive(i) for i in ids]
            if answers[0]["rev"] == answers[1]["rev"]:
                seen.add((answers[0]["reason"], answers[1]["reason"], answers[0]["rev"] >= rev))
            return answers[1]["rev"] >= rev
        wait_until("the change", both)
        t.ok(seen <= {(before, before, False), (reason, reason, True)}, f"halves were seen: {seen}")
    t.ok(w.feed()["changes"] >= 40000, "it was followed, not loaded")
    t.equal(w.feed()["reloads"], 0, "it was followed, not loaded")


def test_more_changes_than_are_followed_become_a_load(t):
    w = World(t)
    w.mint()
    rev = w.commit("insert into apikeyd.user (email) select 'u' || i || '@big.example' from generate_series(1, 200001) i")
    t.equal(w.ask(min_rev=rev, deadline_ms=30000)["reason"], "ok", "after it")
    t.equal(w.feed()["reloads"], 1, "it was loaded")
    t.equal(w.daemon.stats()["copy_users"],
            w.sql("select count(*) from apikeyd.user")[0][0], "all are there")


def test_a_reload_gives_way(t):
    # The thread that loads beside a copy that is answered from: nice 10, or what the daemon has if that is more; SCHED_BATCH.
    w, nice = World(t), os.nice(0)
    w.sql("insert into apikeyd.user (email) select 'u' || i || '@big.example' from generate_series(1, 20000) i")

    def threads():
        if w.feed()["state"] == "following":
            w.sql("select apikeyd.force_reload()")
        found = set()
        for task in os.listdir(f"/proc/{w.daemon.process.pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{w.daemon.process.pid}/task/{task}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
                found.add((int(task) == w.daemon.process.pid, int(fields[16]), int(fields[38])))
        return found
    wait_until("a thread that gives way", lambda: (False, max(nice, 10), 3) in threads(), step=0.001)
    t.ok((True, nice, 0) in threads(), "the loop does not")


def test_daemons_register(t):
    w = World(t)
    row = wait_until("a registration", lambda: w.sql("select host, version, applied_rev, id from apikeyd.daemon "
                                                     "where applied_rev > 0"))[0]
    t.equal(row[2], w.daemon.stats()["rev"], "applied")
    seen = "select seen_at from apikeyd.daemon"
    first = w.sql(seen)
    wait_until("it to be seen again", lambda: w.sql(seen) > first)
    t.equal(w.sql("select count(*) from apikeyd.daemon")[0][0], 1, "one row")


# ---- losing the server ------------------------------------------------------------------------------------------------

def test_a_cut_connection_is_made_again(t):
    w = World(t)
    key_id = w.mint()["key_id"]
    for round in range(3):
        sessions = w.feed()["sessions"]
        w.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'apikeyd' "
              "and datname = current_database()")
        wait_until("another session", lambda: w.feed()["sessions"] > sessions and w.feed()["state"] == "following")
    t.equal(w.feed()["reloads"], 0, "the same life of the same server: no reload")
    rev = w.commit(f"update apikeyd.key set disabled_at = now() where id = '{key_id}'")
    t.equal(w.ask(min_rev=rev, deadline_ms=10000)["reason"], "disabled", "it follows again")
    t.contains(w.daemon.log(), "lost: host=", "the loss is told")
    t.contains(w.daemon.log(), "terminating connection due to administrator command", "and why")
    # The writer's session died too; an idle one that is dead costs nobody an error.
    t.equal(w.daemon.admin("key_enable", key_id=key_id)["state"], "live", "administration goes on")


def test_changes_made_while_cut_off_are_seen_after(t):
    w = World(t, {"freshness.max_stale_ms": "10min"})
    key_id = w.mint()["key_id"]
    w.cluster.sql('alter role apikeyd nologin', database="postgres")
    try:
        w.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'apikeyd' "
              "and datname = current_database()")
        w.says("error: database feed: host=")
        t.contains(w.daemon.log(), "is not permitted to log in", "and why")
        rev = w.commit(f"update apikeyd.key set revoked_at = now() where id = '{key_id}'")
        t.equal(w.ask()["reason"], "ok", "the old answer, with its age")
    finally:
        w.cluster.sql('alter role apikeyd login', database="postgres")
    t.equal(w.ask(min_rev=rev, deadline_ms=20000)["reason"], "revoked", "after")
    t.equal(w.daemon.log().count("error: database feed: host="), 1, "one error line for many attempts")


def test_a_restarted_server_is_loaded_again(t):
    own = t.keep(Cluster().start())
    w = World(t, {"freshness.max_stale_ms": "10min"}, of=own)
    key_id = w.mint()["key_id"]
    own.stop()
    wait_until("an age", lambda: w.ask()["age_ms"] > 500)
    t.equal(w.ask()["verdict"], "allow", "the copy serves while the server is away")
    own.start()
    wait_until("a reload", lambda: w.feed()["reloads"] == 1 and w.feed()["state"] == "following")
    rev = w.commit(f"update apikeyd.key set disabled_at = now() where id = '{key_id}'")
    t.equal(w.ask(min_rev=rev, deadline_ms=10000)["reason"], "disabled", "it follows")
    own.stop("immediate")
    own.start()
    wait_until("another reload", lambda: w.feed()["reloads"] == 2 and w.feed()["state"] == "following")
    t.equal(w.feed()["history_lost"], 0, "no history was lost")


def test_a_frozen_server_makes_the_copy_stale(t):
    own = t.keep(Cluster().start())
    w = World(t, {"freshness.max_stale_ms": "600", "database.statement_timeout_ms": "500",
                  "database.connect_timeout_ms": "500"}, of=own)
    w.mint()
    w.sql("select 1")
    with open(os.path.join(own.data, "postmaster.pid")) as f:
        postmaster = int(f.readline())
    os.kill(postmaster, signal.SIGSTOP) # from here on no child comes, and one that ends stays as a zombie
    family = [postmaster] + [int(p) for p in subprocess.run(["ps", "--ppid", str(postmaster), "-o", "pid="],
                                                            stdout=subprocess.PIPE, text=True).stdout.split()]
    for pid in family[1:]:
        os.kill(pid, signal.SIGSTOP)
    try:
        wait_until("staleness", lambda: w.ask()["reason"] == "stale")
        w.says("no answer")
    finally:
        for pid in reversed(family): # the father last: he buries those that have ended
            os.kill(pid, signal.SIGCONT)
    wait_until("an answer", lambda: w.ask()["reason"] == "ok")
    t.equal(w.feed()["history_lost"], 0, "it is the same history")


def test_administration_while_the_server_is_away(t):
    own = t.keep(Cluster().start())
    w = World(t, of=own)
    w.mint()
    own.stop()
    error = t.raises(RpcError, lambda: w.daemon.admin("org_add", org="lost"), "no server")
    t.equal(error.code, "unavailable", "code")
    t.contains(error.message, "the database cannot be reached: host=", "message")
    own.start()
    t.equal(w.daemon.admin("org_add", org="found")["org"], "found", "the next one goes through")
    t.equal(w.sql("select slug from apikeyd.organization where slug in ('lost', 'found')"), [("found",)], "and it alone")


def test_a_change_that_waits_for_its_turn(t):
    w = World(t, {"database.statement_timeout_ms": "3000"})
    w.mint()
    with contextlib.closing(w.connect(False)) as connection:
        cursor = connection.cursor()
        cursor.execute("update apikeyd.page set name = 'y' where slug = 'acme'")
        cursor.execute("select apikeyd.revision()")  # has the turn, and keeps it
        error = t.raises(RpcError, lambda: w.daemon.admin("org_add", org="waits"), "no turn")
        t.equal(error.code, "unavailable", "code")
        t.contains(error.message.lower(), "retry", "what to do")
        connection.rollback()
    t.equal(w.daemon.admin("org_add", org="waits")["org"], "waits", "after")


def test_a_change_whose_outcome_is_not_known(t):
    # The COMMIT waits for a synchronous standby that is not there; the session is cut off under it.
    own = t.keep(Cluster({"wal_level": "replica"}).start())
    w = World(t, of=own)
    w.mint()
    own.sql("alter system set synchronous_standby_names = 'nobody'", database="postgres")
    own.sql("select pg_reload_conf()", database="postgres")
    rpc = t.keep(Rpc(w.daemon.admin_socket))
    waits = "select pid from pg_stat_activity where wait_event = 'SyncRep' and application_name = 'apikeyd'"
    # It is in effect when the checkpointer has come to it, and no view tells: until then a COMMIT goes through.
    for number in range(10000):
        asked = rpc.send("org_add", {"org": f"perhaps-{number}"})
        wait_until("an answer, or a COMMIT that waits",
                   lambda: select.select([rpc.socket], [], [], 0)[0] or w.sql(waits))
        waiting = w.sql(waits)
        if waiting:
            break
        rpc.receive(asked)
    os.kill(waiting[0][0], signal.SIGKILL)
    error = t.raises(RpcError, lambda: rpc.receive(asked), "cut off")
    t.equal(error.code, "unavailable", "code")
    t.contains(error.message, "may have been made", "says so")
    t.equal(w.daemon.stats()["writer"]["outcome_unknown"], 1, "counted")


def test_answers_are_true_under_fire(t):
    # Sessions are killed and reloads forced at random while a key is switched off and on: an answer that names a
    # revision holds what that revision holds.
    import random
    seed = int(os.environ.get("SEED", time.time_ns() % 1000000))
    print(f"# seed {seed}")
    dice = random.Random(seed)
    w = World(t)
    key_id = w.mint()["key_id"]
    history = [(0, "ok")]
    connection = t.keep(w.connect())
    cursor = connection.cursor()
    rpc = t.keep(w.daemon.rpc())
    answers = 0
    for round in range(150):
        off = round % 2 == 0
        rev = w.commit(f"update apikeyd.key set disabled_at = {'now()' if off else 'null'} where id = '{key_id}'")
        history.append((rev, "disabled" if off else "ok"))
        if dice.random() < 0.15:
            cursor.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'apikeyd' "
                           "and datname = current_database() and random() < 0.7")
        if dice.random() < 0.05:
            cursor.execute("select apikeyd.force_reload()")
        time.sleep(dice.random() * 0.02)
        wanted = dice.random() < 0.3
        answer = rpc.check(w.key, "page:read", "acme", **({"min_rev": rev, "deadline_ms": 10000} if wanted else {}))
        if answer["verdict"] == "unavailable":
            continue
        answers += 1
        held = [reason for made, reason in history if made <= answer["rev"]][-1]
        t.equal(answer["reason"], held, f"seed {seed}, round {round}, revision {answer['rev']}")
        t.ok(not wanted or answer["rev"] >= rev, "min_rev was kept")
    t.ok(answers > 100, f"only {answers} answers")
    t.ok(w.feed()["sessions"] > 3 and w.feed()["forced_reloads"] > 0, "there was fire")
    t.equal(w.feed()["history_lost"], 0, "no history was lost")


def test_another_database_by_reload(t):
    w = World(t)
    w.mint()
    other = World(t)
    theirs = other.mint()["key"]
    with open(w.daemon.pepper_file, "w") as f:
        f.write(f"1 {other.daemon.pepper}\n")
    w.daemon.settings["database.conninfo"] = w.cluster.dsn("apikeyd", other.database)
    w.daemon.write_conf()
    w.daemon.signal(signal.SIGHUP)
    wait_until("the other world", lambda: w.ask(key=theirs)["reason"] == "ok")
    t.equal(w.ask()["reason"], "unknown_key", "the first one is gone")
    t.equal(w.daemon.admin("org_add", org="moved")["org"], "moved", "the writer moved too")
    t.equal(other.sql("select count(*) from apikeyd.organization where slug = 'moved'")[0][0], 1, "there")


# ---- surprises ----------------------------------------------------------------------------------------------------------

# Stands before the C library's, and shifts the clock that people read by the seconds in $CLOCK_FILE.
CLOCK = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *ret)
{
	long rc = syscall(SYS_clock_gettime, id, ret), shift = 0;
	FILE *file = id == CLOCK_REALTIME ? fopen(getenv("CLOCK_FILE"), "r") : NULL;

	if (file && fscanf(file, "%ld", &shift) == 1)
		ret->tv_sec += shift;
	if (file)
		fclose(file);
	return (int)rc;
}
"""


def test_a_local_clock_that_differs_is_told(t):
    with open(APIKEYD, "rb") as f:
        if b"__asan_init" in f.read():
            t.skip("a sanitizer wants to be loaded first")
    directory = new_dir("clock")
    library, file = os.path.join(directory, "clock.so"), os.path.join(directory, "shift")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, "-x", "c", "-"], input=CLOCK.encode(), check=True)

    def shift(seconds):
        with open(file + ".new", "w") as f:
            f.write(str(seconds))
        os.rename(file + ".new", file)
    shift(0)
    w = World(t, {"confine.read": directory}, env={"LD_PRELOAD": library, "CLOCK_FILE": file})
    minted = w.mint(kind="user", user="olga@acme.example", expires_at=int(time.time()) + 3600)
    t.ok("the clock of this host" not in w.daemon.log(), "both are right")
    t.equal(w.feed()["clock_behind_ms"], 0)
    shift(-7300)
    w.says("s behind the database's, by which keys begin and expire")
    told = float(re.search(r"the clock of this host is ([0-9.]+) s behind", w.daemon.log())[1])
    t.ok(7000 < told <= 7300 and 7000000 < w.feed()["clock_behind_ms"] <= 7300000, f"{told} {w.feed()}")
    shift(0)
    w.says("the clock of this host is as the database's again")
    shift(7300)
    w.says("s ahead of the database's, by which keys begin and expire")
    t.ok(-7300000 <= w.feed()["clock_behind_ms"] < -7000000, w.feed())
    # The key expired two hours ago by this host's clock, which nobody asks.
    t.equal(w.ask(key=minted["key"])["reason"], "ok")
    t.equal(w.daemon.log().count("warning: database feed: the clock"), 2, "told once each")


def test_force_reload(t):
    w = World(t)
    w.mint()
    rev = w.sql("select apikeyd.force_reload()")[0][0]
    t.equal(w.ask(min_rev=rev, deadline_ms=20000)["reason"], "ok", "after it")
    t.equal(w.feed()["forced_reloads"], 1, "counted")
    t.contains(w.daemon.log(), "the log's floor is above", "told")


def test_lost_history_is_told_and_loaded(t):
    w = World(t)
    key_id = w.mint()["key_id"]
    rev = w.commit("update apikeyd.page set name = 'x' where slug = 'acme'")
    w.ask(min_rev=rev, deadline_ms=10000)
    # As after a failover that lost the last transaction, with one made since.
    with contextlib.closing(w.connect(False)) as connection:
        cursor = connection.cursor()
        cursor.execute("delete from apikeyd.revision where rev = %s", (rev,))
        cursor.execute("update apikeyd.key set disabled_at = now() where id = %s returning apikeyd.revision()", (key_id,))
        connection.commit()
    wait_until("the reload", lambda: w.feed()["history_lost"] == 1 and w.feed()["state"] == "following")
    t.contains(w.daemon.log(), "HISTORY LOST", "loud")
    t.equal(w.ask()["reason"], "disabled", "what is true now")


def test_triggers_that_are_off_make_the_copy_unsure(t):
    w = World(t, {"database.guard_ms": "100", "freshness.max_stale_ms": "1000"})
    key_id = w.mint()["key_id"]
    w.sql("alter table apikeyd.key disable trigger key_log_update")
    wait_until("the fault", lambda: w.feed()["trigger_faults"] == 1)
    t.equal(w.feed()["state"], "unsure", "state")
    w.sql("update apikeyd.key set revoked_at = now() where id = %s", key_id)  # passes unseen
    wait_until("staleness", lambda: w.ask()["reason"] == "stale")
    t.contains(w.daemon.log(), "trigger key_log_update on apikeyd.key is disabled", "names it")
    t.equal(w.daemon.log().count("changes can pass unseen"), 1, "once")
    w.sql("alter table apikeyd.key enable trigger key_log_update")
    wait_until("the truth", lambda: w.ask()["reason"] == "revoked")
    t.equal(w.feed()["trigger_faults"], 0, "over")


def test_triggers_off_at_the_start(t):
    c = cluster()
    c.install("early", demo=True)
    c.sql("alter table apikeyd.pending disable trigger pending_assign", database="early")
    d = t.keep(Daemon(c, {**QUICK, "database.guard_ms": "100"}, conninfo=c.dsn("apikeyd", "early"), wait="socket"))
    wait_until("the fault", lambda: d.stats()["feed"]["trigger_faults"] == 1)
    t.equal(d.check(make_key("u"), "page:read", "acme")["reason"], "not_loaded", "no copy that cannot be followed")
    c.sql("alter table apikeyd.pending enable always trigger pending_assign", database="early")
    wait_until("a copy", lambda: d.check(make_key("u"), "page:read", "acme")["reason"] == "unknown_key")


def test_a_dump_of_another_cluster(t):
    # Its log has transaction numbers that this cluster is still to come to: a change that got one of them would be
    # taken for one that has its revision, and no daemon would see it.
    source = World(t)
    source.mint()
    source.sql("update apikeyd.organization set name = 'later'")
    dump = os.path.join(new_dir("dump"), "dump")
    source.cluster.psql("-c", "update apikeyd.revision set txn = (txn::text::bigint + 100000)::text::xid8 "
                              "where rev > (select rev from apikeyd.feed_floor)", database=source.database)
    subprocess.run([pg_bin("pg_dump"), "-Fc", "-f", dump, source.database], env=source.cluster.env(), check=True)
    c = cluster()
    c.sql("create database dumped", database="postgres")
    subprocess.run([pg_bin("pg_restore"), "-d", "dumped", dump], env=c.env(), check=True)
    settings = {**QUICK, "database.guard_ms": "100"}
    d = t.keep(Daemon(c, settings, conninfo=c.dsn("apikeyd", "dumped"), wait="socket", pepper=source.daemon.pepper))
    wait_until("the fault", lambda: d.stats()["feed"]["trigger_faults"] == 1)
    t.contains(d.log(), "the change log is that of another cluster, from a dump; run: SELECT apikeyd.force_reload()")
    t.equal(d.check(source.key, "page:read", "acme")["reason"], "not_loaded", "no copy that cannot be followed")
    c.sql("select apikeyd.force_reload()", database="dumped")
    wait_until("a copy", lambda: d.check(source.key, "page:read", "acme")["reason"] == "ok")


def test_a_table_that_the_copy_cannot_take(t):
    # The limits are kept by triggers; with the owner's power they can be gone round.
    w = World(t, {"freshness.max_stale_ms": "1000"})
    w.mint()
    w.sql("alter table apikeyd.role disable trigger role_limit")
    w.sql("insert into apikeyd.role (place, name, rank) select 'page', 'r' || i, 1000 + i from generate_series(1, 80) i")
    wait_until("staleness", lambda: w.ask()["reason"] == "stale")
    t.contains(w.daemon.log(), "more roles or scopes than the daemon takes", "says why")
    w.sql("delete from apikeyd.role where name like 'r%' and rank > 1000")
    wait_until("an answer", lambda: w.ask()["reason"] == "ok")


# ---- peppers ------------------------------------------------------------------------------------------------------------

def test_a_wrong_pepper_ends_the_start(t):
    w = World(t)
    w.mint()
    other = Daemon(w.cluster, QUICK, conninfo=w.cluster.dsn("apikeyd", w.database), start=False)
    other.start(wait=False)
    t.ok(other.process.wait(WAIT) != 0, "it ends with an error")
    t.contains(other.log(), "the pepper of version 1", "names the version")
    t.contains(other.log(), other.pepper_file, "names the file")
    t.ok(other.pepper not in other.log(), "and does not tell it")


def test_a_pepper_that_is_not_held(t):
    w = World(t)
    key = w.mint()["key"]
    other = t.keep(Daemon(w.cluster, QUICK, conninfo=w.cluster.dsn("apikeyd", w.database),
                          pepper="2 " + secrets.token_hex(32) + "\n"))
    t.equal(other.check(key, "page:read", "acme")["reason"], "no_pepper", "never unknown_key")
    t.equal(other.log().count("keys under pepper version 1 cannot be proven"), 1, "warned once")


def test_a_pepper_that_turns_wrong(t):
    w = World(t, {"database.guard_ms": "100", "freshness.max_stale_ms": "1000"})
    w.mint()
    with open(w.daemon.pepper_file, "w") as f:
        f.write("1 " + secrets.token_hex(32) + "\n")
    w.daemon.signal(signal.SIGHUP)
    wait_until("staleness", lambda: w.ask()["reason"] == "stale")
    t.contains(w.daemon.log(), "the pepper of version 1 is not the one", "says why")
    with open(w.daemon.pepper_file, "w") as f:
        f.write(f"1 {w.daemon.pepper}\n")
    w.daemon.signal(signal.SIGHUP)
    wait_until("an answer", lambda: w.ask()["reason"] == "ok")


# ---- what cannot be used, and what is said about it -----------------------------------------------------------------------

def line(t, conninfo, wanted, settings=None, env=None, setup=None):
    """A daemon on that database says one error line with these parts, and goes on trying."""
    d = t.keep(Daemon(None, {**QUICK, **(settings or {})}, conninfo=conninfo, wait="socket", env=env))
    wait_until("an error", lambda: "error: database" in d.log())
    found = [l for l in d.log().splitlines() if l.startswith("error: database")][0]
    for part in wanted:
        t.contains(found, part, "the line")
    t.ok(not any(part in found for part in ("  ", " ;", "\\x")), f"one sentence: {found}")
    wait_until("another attempt", lambda: "debug: database" in d.log())
    t.equal(d.check(make_key("u"), "page:read", "acme")["reason"], "not_loaded", "fails closed")
    return d


def test_no_server(t):
    empty = new_dir("nothing")
    d = line(t, f"host={empty} user=u dbname=d password=verysecret",
             [f"host={empty}", "dbname=d", "user=u", "No such file or directory; start the server", "trying again"])
    t.ok("verysecret" not in d.log(), "no password in the log")


def test_a_name_that_does_not_resolve(t):
    line(t, "host=no-such-host.invalid user=u dbname=d sslmode=verify-full",
         ["host=no-such-host.invalid", "cannot resolve", "database.conninfo"])


def test_a_remote_server_without_verification(t):
    line(t, "host=192.0.2.1 user=u dbname=d", ["host=192.0.2.1", "sslmode=verify-full", "database.insecure_remote"])


def test_a_server_that_does_not_answer(t):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        line(t, f"host=127.0.0.1 port={silent.getsockname()[1]} user=u dbname=d", ["host=127.0.0.1", "no answer"],
             {"database.connect_timeout_ms": "300"})


def test_no_database_no_role_no_schema_no_grants(t):
    c = cluster()
    c.install("granted")
    c.sql("create database bare", database="postgres")
    line(t, c.dsn("apikeyd", "nowhere"), ['database "nowhere" does not exist', "apikeyctl db install"])
    line(t, c.dsn("nobody_we_know", "bare"), ['role "nobody_we_know" does not exist', "create the login role"])
    line(t, c.dsn("apikeyd", "bare"), ['schema "apikeyd" does not exist', "apikeyctl db install"])
    c.sql("create role stranger login", database="postgres")
    line(t, c.dsn("stranger", "granted"), ["cannot take the role apikeyd_check", "grant"])
    line(t, c.dsn("stranger", "granted"), ["permission denied for schema apikeyd", "grant the role apikeyd_check"],
         {"database.role": ""})
    c.sql("revoke select on apikeyd.key from apikeyd_check", database="granted")
    line(t, c.dsn("apikeyd", "granted"), ["reading apikeyd.key: permission denied for table key"])
    d = line(t, c.dsn("apikeyd", "granted"), ["reading apikeyd.key"])
    c.sql("grant select on apikeyd.key to apikeyd_check", database="granted")
    wait_until("it to heal", lambda: d.stats()["rev"] > 0)
    t.ok(True, "healed")


def test_another_schema_version(t):
    c = cluster()
    c.install("versions")
    last = c.sql("select apikeyd.schema_version()", database="versions")[0][0]
    c.sql("insert into apikeyd.schema_migration (version, name) values (%s, 'future')", last + 1, database="versions")
    line(t, c.dsn("apikeyd", "versions"), [f"version {last + 1}, newer than this daemon's {last}", "upgrade apikeyd"])
    c.sql("delete from apikeyd.schema_migration where version >= %s", last, database="versions")
    d = line(t, c.dsn("apikeyd", "versions"), [f"version {last - 1}, older", "apikeyctl db upgrade"])
    c.sql("insert into apikeyd.schema_migration (version, name) values (%s, 'again')", last, database="versions")
    wait_until("it to heal", lambda: d.stats()["rev"] > 0)
    t.ok(True, "healed")


def test_a_schema_that_stopped_half_way(t):
    """Whichever migration was the last, the line says the version, and the upgrade is all that is needed."""
    c = cluster()
    c.sql("create database half", database="postgres")
    paths = sorted(os.path.join(SQL_DIR, name) for name in os.listdir(SQL_DIR))
    for number, path in enumerate(paths[:-1], 1):
        c.psql("-f", path, database="half")
        if number == 1:
            c.login_role()
        d = line(t, c.dsn("apikeyd", "half"), [f"version {number}, older", "apikeyctl db upgrade"])
    c.psql("-f", paths[-1], database="half")
    wait_until("it to heal", lambda: d.stats()["rev"] > 0)
    t.ok(True, "healed")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def test_tcp_and_tls(t):
    if not shutil.which("openssl"):
        t.skip("openssl is not installed")
    port = free_port()
    own = t.keep(Cluster({"listen_addresses": "127.0.0.1", "port": str(port)}))
    certificate, key = os.path.join(own.data, "server.crt"), os.path.join(own.data, "server.key")
    subprocess.run(["openssl", "req", "-new", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost", "-out", certificate, "-keyout", key], check=True,
                   stderr=subprocess.DEVNULL)
    if os.geteuid() == 0:
        shutil.chown(key, "postgres", "postgres")
        shutil.chown(certificate, "postgres", "postgres")
    os.chmod(key, 0o600)
    trusted = os.path.join(new_dir("tls"), "root.crt")
    shutil.copyfile(certificate, trusted)
    own.settings["ssl"] = "on"
    own.start()

    def psql(text, database="postgres"):
        own.psql("-h", own.socket_dir, "-p", str(port), "-c", text, database=database)
    psql("create database apikeyd")
    for file in sorted(os.listdir(SQL_DIR)):
        own.psql("-p", str(port), "-f", os.path.join(SQL_DIR, file))
    psql("create role apikeyd login noinherit; grant apikeyd_check, apikeyd_admin to apikeyd")
    # localhost may resolve to ::1 first, where nobody listens: the next address is tried.
    secure = f"host=localhost port={port} user=apikeyd dbname=apikeyd sslmode=verify-full sslrootcert={trusted}"
    d = t.keep(Daemon(None, QUICK, conninfo=secure))
    d.admin("org_add", org="over-tls")
    with contextlib.closing(psycopg2.connect(f"host={own.socket_dir} port={port} user=postgres dbname=apikeyd")) as c:
        cursor = c.cursor()
        cursor.execute("select distinct s.ssl from pg_stat_ssl s join pg_stat_activity a using (pid) "
                       "where a.application_name = 'apikeyd'")
        t.equal(cursor.fetchall(), [(True,)], "every session is encrypted")
    plain = t.keep(Daemon(None, QUICK, conninfo=f"host=127.0.0.1 port={port} user=apikeyd dbname=apikeyd "
                                                "sslmode=disable"))
    t.ok(plain.stats()["rev"] > 0, "this machine need not be verified")
    line(t, secure.replace("host=localhost", "host=127.0.0.1"), ["host=127.0.0.1", "sslrootcert and the server's"])


# ---- several hosts, and a failover ------------------------------------------------------------------------------------------

def test_failover(t):
    primary = t.keep(Cluster({"wal_level": "replica"}).start())
    primary.install("apikeyd", demo=True)
    standby = t.keep(Standby(primary))
    standby.start()
    hosts = f"host={standby.socket_dir},{primary.socket_dir} user=apikeyd dbname=apikeyd"
    d = t.keep(Daemon(None, {**QUICK, "database.guard_ms": "200"}, conninfo=hosts))
    t.contains(d.stats()["feed"]["server"], primary.socket_dir, "the standby is passed over")
    key = d.admin("key_mint", kind="user", user="olga@acme.example")
    t.equal(d.check(key["key"], "page:read", "acme", min_rev=key["rev"], deadline_ms=10000)["reason"], "ok", "before")
    wait_until("the standby to have it", lambda: standby.sql("select count(*) from apikeyd.key")[0][0] == 1)
    # The standby becomes a primary while the old one goes on calling itself one: the higher timeline wins.
    standby.promote()
    wait_until("the move", lambda: d.stats()["feed"]["timeline"] == 2 and d.stats()["feed"]["state"] == "following")
    t.contains(d.log(), "is the primary on timeline 2: leaving the one on timeline 1", "told")
    t.equal(d.stats()["feed"]["history_lost"], 0, "the history goes on")
    standby.sql("update apikeyd.key set revoked_at = now()")
    wait_until("the revocation", lambda: d.check(key["key"], "page:read", "acme")["reason"] == "revoked")
    # A write goes to the new primary too, and the deposed one is not believed even when it is alone.
    d.admin("org_add", org="elsewhere")
    t.equal(standby.sql("select count(*) from apikeyd.organization where slug = 'elsewhere'")[0][0], 1, "new primary")
    standby.stop()
    wait_until("the refusal", lambda: "calls itself primary on timeline 1, but timeline 2" in d.log())
    t.equal(d.stats()["feed"]["timeline"], 0, "it follows nobody")
    standby.start()
    wait_until("the new primary again", lambda: d.stats()["feed"]["timeline"] == 2)


def test_failover_that_lost_a_revision(t):
    primary = t.keep(Cluster({"wal_level": "replica"}).start())
    primary.install("apikeyd", demo=True)
    standby = t.keep(Standby(primary))
    standby.start()
    hosts = f"host={primary.socket_dir},{standby.socket_dir} user=apikeyd dbname=apikeyd"
    d = t.keep(Daemon(None, {**QUICK, "database.guard_ms": "200"}, conninfo=hosts))
    key = d.admin("key_mint", kind="user", user="olga@acme.example")
    wait_until("the standby to have it", lambda: standby.sql("select count(*) from apikeyd.key")[0][0] == 1)
    # Cut the standby off, change something more, and lose it.
    standby.sql("alter system set primary_conninfo = ''", database="postgres")
    standby.sql("select pg_reload_conf()", database="postgres")
    wait_until("the stream to end", lambda: not primary.sql("select 1 from pg_stat_replication"))
    lost = d.admin("org_add", org="lost")["rev"]
    wait_until("it to be applied", lambda: d.stats()["rev"] >= lost)
    primary.stop("immediate")
    standby.promote()
    wait_until("the new history", lambda: d.stats()["feed"]["history_lost"] == 1 and
               d.stats()["feed"]["state"] == "following")
    t.contains(d.log(), "HISTORY LOST", "loud")
    t.equal(d.check(key["key"], "page:read", "acme")["reason"], "ok", "what the new history has")


if __name__ == "__main__":
    run(globals())
