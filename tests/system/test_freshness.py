#!/usr/bin/env python3
"""Freshness: what is answered while PostgreSQL is away, and that each change of the copy's state is told and counted.

A real daemon, before a real PostgreSQL that is killed, frozen and brought back. Every answer is judged by its own
age_ms, so that no test hangs on how fast this machine is.
"""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *  # noqa: E402
from test_feed import World  # noqa: E402

MAX_STALE = 800
FAST = {"freshness.max_stale_ms": str(MAX_STALE), "database.poll_ms": "50", "database.connect_timeout_ms": "1s",
        "explain.users": str(os.geteuid())}
TO_GRACE = "freshness: grace: the copy was last confirmed "
TO_STALE = "freshness: stale: the copy was last confirmed "
TO_FRESH = "freshness: fresh again after "


def cluster():
    """One for all tests: each leaves it running as it found it."""
    if not hasattr(cluster, "one"):
        cluster.one = Cluster()
    if not cluster.one.started: # the test before ended in the outage
        cluster.one.start()
    return cluster.one


def freshness(w):
    return w.daemon.stats()["freshness"]


def wait_state(w, state):
    wait_until(f"the state {state}", lambda: freshness(w)["state"] == state)


def judge(t, answer, grace_ms, allowed=("allow", "ok")):
    """One answer about what the copy holds, by its age alone. Returns fresh, grace or stale."""
    got = (answer["verdict"], answer["reason"])
    if answer["age_ms"] <= MAX_STALE:
        t.equal((got, answer.get("stale")), (allowed, None), f"fresh: {answer}")
        return "fresh"
    if answer["age_ms"] <= MAX_STALE + grace_ms:
        t.equal((got, answer.get("stale")), (allowed, True), f"in grace: {answer}")
        return "grace"
    t.equal((got, answer.get("stale")), (("unavailable", "stale"), None), f"beyond: {answer}")
    t.ok(answer["retry_after_ms"] >= 50, f"says when: {answer}")
    t.ok("key_id" not in answer, f"nothing about the key: {answer}")
    return "stale"


def until(t, ask, grace_ms, wanted, **more):
    """Asks, judging every answer, until one is in the wanted state."""
    return wait_until(f"an answer in {wanted}", lambda: judge(t, ask(), grace_ms, **more) == wanted)


def lines(w, text):
    return [line for line in w.daemon.log().splitlines() if text in line]


# ---- an outage from its beginning to its end ------------------------------------------------------------------------

def test_reads_live_longer_than_writes(t):
    own = cluster()
    w = World(t, {**FAST, "freshness.offline_grace": "*:read=30min, *:write=3s, audit:read=0"}, of=own)
    other = t.keep(Daemon(own, {**FAST, "database.backoff_max_ms": "200"}, pepper=w.daemon.pepper,
                          conninfo=own.dsn("apikeyd", w.database)))
    w.mint()
    lost = w.mint(kind="user", user="olga@acme.example")
    short = w.mint(kind="user", user="olga@acme.example", expires_at=int(time.time()) + 6)
    rev = w.commit(f"update apikeyd.key set revoked_at = now() where id = '{lost['key_id']}'")
    t.equal(w.ask(key=lost["key"], min_rev=rev, deadline_ms=10000)["reason"], "revoked", "before the outage")
    nobody = make_key("user")
    answer = w.ask(key=nobody)
    if answer["age_ms"] <= MAX_STALE:
        t.equal(answer["reason"], "unknown_key", "before the outage it is denied")
    wait_until("the other daemon", lambda: other.check(w.key, "page:read", "acme")["verdict"] == "allow")
    wait_state(w, "fresh")
    before = w.daemon.stats()
    lease, = w.sql("select max(lease) > interval '30 min' from apikeyd.daemon")[0]
    t.ok(lease, "whoever waits for a revision is told of the grace")
    own.stop("immediate")

    until(t, lambda: w.ask(), 1800000, "grace")
    # Expiry goes on; the same daemon without grace has nothing to say.
    expired = wait_until("the key's end", lambda: (lambda a: a if a["reason"] != "ok" else None)(w.ask(key=short["key"])))
    t.equal((expired["verdict"], expired["reason"], expired.get("stale")), ("deny", "expired", True))
    without = wait_until("staleness", lambda: (lambda a: a if a["verdict"] != "allow" else None)(
        other.check(w.key, "page:read", "acme")))
    t.equal((without["reason"], "stale" in without), ("stale", False), "without grace")
    t.ok(without["age_ms"] > MAX_STALE and without["retry_after_ms"] > 0, without)
    # Known revocations deny, and what is not known is not denied.
    revoked = w.ask(key=lost["key"])
    t.equal((revoked["verdict"], revoked["reason"], revoked.get("stale")), ("deny", "revoked", True))
    for what, answer in (("a key", w.ask(key=nobody)), ("a page", w.ask(page="new-page")),
                         ("another's page", w.ask(page="umbra")), ("a scope", w.ask("new:read"))):
        t.equal((answer["verdict"], answer["reason"], answer.get("stale")), ("unavailable", "stale", None), what)
        t.ok(answer["retry_after_ms"] >= 50, f"{what}: {answer}")
    # Writes end before reads do.
    until(t, lambda: w.ask("page:write"), 3000, "stale")
    t.equal(judge(t, w.ask(), 1800000), "grace", "reads go on")
    t.equal(judge(t, w.ask("audit:read"), 0), "stale", "the most specific pattern")
    with contextlib.closing(w.daemon.rpc()) as rpc:
        pairs = rpc.call("check_many", w.key, [["page:read", "acme"], ["page:write", "acme"], ["audit:read", "acme"]])
        t.equal([judge(t, pair, grace) for pair, grace in zip(pairs, (1800000, 3000, 0))], ["grace", "stale", "stale"])
        listed = rpc.call("pages", w.key, "page:read")
        t.equal((listed["verdict"], listed["stale"], "acme" in listed["pages"]), ("allow", True, True), "pages")
        t.equal(rpc.call("pages", w.key, "page:write")["reason"], "stale", "pages, of writes")
        t.equal(rpc.call("whoami", w.key)["reason"], "stale", "whoami has the grace of * alone")
        told = rpc.call("explain", w.key, "page:read", "acme")
        t.equal((told["verdict"], told["stale"]), ("allow", True), "explain")
        t.contains(str(told["trace"]), "the copy is stale: confirmed ", "and its trace says so")
        behind = rpc.call("check", w.key, "page:read", "acme", {"min_rev": rev + 10 ** 12, "deadline_ms": 50})
        t.equal((behind["verdict"], behind["reason"]), ("unavailable", "behind"))
        t.ok(behind["retry_after_ms"] >= 50, behind)
    # It is told: once in the log, always in stats and by apikeyctl.
    t.equal(freshness(w)["state"], "grace")
    t.contains(w.daemon.ctl("stats").stdout, "freshness.state", "apikeyctl stats")
    t.equal(json.loads(w.daemon.ctl("stats", "--json").stdout)["freshness"]["state"], "grace")
    done = w.daemon.ctl("check", "page:read", "acme", key=w.key)
    t.equal(done.returncode, 0, done.stdout)
    t.contains(done.stdout, " ms ago, stale\n")
    line, = lines(w, TO_GRACE)
    t.ok("warning: " in line and f"max_stale_ms {MAX_STALE}" in line and "*:read=30min" in line, line)
    t.contains(line, "host=", "why: the last trouble with the database")
    t.equal(len(lines(w, "the offline_grace of *:write is over (3000 ms)")), 1, "told once")
    t.equal(len([l for l in other.log().splitlines() if TO_STALE in l and "error: " in l]), 1, "told once")

    own.start()
    wait_state(w, "fresh")
    rev = w.commit(f"update apikeyd.key set revoked_at = now() where id = '{short['key_id']}'")
    t.equal(w.ask(key=short["key"], min_rev=rev, deadline_ms=20000)["reason"], "revoked", "it follows again")
    until(t, lambda: w.ask("page:write"), 3000, "fresh")
    after = w.daemon.stats()
    for name, times in (("not_loaded", 0), ("fresh", 1), ("grace", 1), ("stale", 0)):
        t.equal(after["freshness"][name + "_entered"] - before["freshness"][name + "_entered"],
                times + after_noise(w, name), f"{name} was entered")
    t.ok(after["freshness"]["grace_ms"] - before["freshness"]["grace_ms"] >= 3000, after["freshness"])
    t.ok(after["verdicts_marked_stale"] > before["verdicts_marked_stale"], "marked answers are counted")
    line, = lines(w, TO_FRESH)
    t.ok(int(line.split(TO_FRESH)[1].split(" ms")[0]) >= 3000, line)
    t.equal(len(lines(w, TO_GRACE)), 1, "still told once")
    t.equal(after["verdicts_stale"] > 0, True)


def after_noise(w, name):
    """A machine that sleeps for longer than max_stale_ms makes an outage of its own; the log has it, too."""
    return (len(lines(w, TO_GRACE)) - 1) if name in ("fresh", "grace") else 0


def test_a_frozen_server(t):
    own = cluster()
    w = World(t, {**FAST, "freshness.offline_grace": "*:read=1s", "database.statement_timeout_ms": "300s"}, of=own)
    w.mint()
    wait_state(w, "fresh")
    before = freshness(w)
    with open(os.path.join(own.data, "postmaster.pid")) as f:
        postmaster = int(f.readline())
    os.kill(postmaster, signal.SIGSTOP) # from here on no child comes
    family = [postmaster] + [int(p) for p in subprocess.run(["ps", "--ppid", str(postmaster), "-o", "pid="],
                                                            stdout=subprocess.PIPE, text=True).stdout.split()]
    for pid in family[1:]:
        os.kill(pid, signal.SIGSTOP)
    try:
        until(t, lambda: w.ask(), 1000, "stale")
        t.equal(freshness(w)["state"], "stale")
        for text in (TO_GRACE, TO_STALE):
            line, = lines(w, text)
            t.contains(line, "no answer to the poll that was sent ", "the session is there, and says nothing")
        t.contains(lines(w, TO_STALE)[0], "offline_grace is over")
    finally:
        for pid in reversed(family): # the father last: he buries those that have ended
            os.kill(pid, signal.SIGCONT)
    until(t, lambda: w.ask(), 1000, "fresh")
    after = freshness(w)
    t.ok(after["grace_ms"] - before["grace_ms"] >= 1000, f"the whole grace: {after}")
    t.ok(after["stale_entered"] - before["stale_entered"] >= 1, after)
    t.equal(len(lines(w, TO_FRESH)), after["fresh_entered"] - 1, "as often as it was counted")


def test_what_happens_meanwhile_is_unseen(t):
    """The risk that a grace takes, as the documents say it, and its end."""
    own = cluster()
    w = World(t, {**FAST, "freshness.offline_grace": "*=30min"}, of=own)
    key_id = w.mint()["key_id"]
    own.sql("alter role apikeyd nologin", database="postgres")
    try:
        w.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'apikeyd' "
              "and datname = current_database()")
        until(t, lambda: w.ask(), 1800000, "grace")
        w.commit(f"update apikeyd.key set revoked_at = now() where id = '{key_id}'")
        w.commit("insert into apikeyd.page (organization_id, slug) select id, 'fresh-page' from apikeyd.organization "
                 "where slug = 'acme'")
        t.equal(judge(t, w.ask(), 1800000), "grace", "a revocation that it does not know")
        t.equal(w.ask(page="fresh-page")["reason"], "stale", "a page that it does not know")
        t.equal(w.ask(page="fresh-page")["verdict"], "unavailable")
        # An administrator ends the grace in the outage.
        w.daemon.settings["freshness.offline_grace"] = "*=30min, page:*=0"
        w.daemon.write_conf()
        w.daemon.signal(signal.SIGHUP)
        wait_until("the end of the grace", lambda: w.ask()["reason"] == "stale")
        w.says("is not permitted to log in")
    finally:
        own.sql("alter role apikeyd login", database="postgres")
    answer = wait_until("the database", lambda: (lambda a: a if a["reason"] != "stale" else None)(w.ask()))
    t.equal((answer["verdict"], answer["reason"], answer.get("stale")), ("deny", "revoked", None), "seen, in the end")


# ---- the daemon itself ----------------------------------------------------------------------------------------------

def test_a_stopped_daemon_tells_its_true_age(t):
    """Nobody confirmed the copy while the daemon slept: its first answer says so, be the database never so well."""
    w = World(t, {**FAST, "freshness.offline_grace": "*:write=30min"}, of=cluster())
    w.mint()
    wait_state(w, "fresh")
    rpc = t.keep(w.daemon.rpc())
    rpc.call("hello", {"client": "test", "version": "0"})
    pid = w.daemon.process.pid
    w.daemon.signal(signal.SIGSTOP)
    try:
        wait_until("the stop", lambda: open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T")
        began = time.clock_gettime(time.CLOCK_BOOTTIME)
        asked = [rpc.send("check", w.key, scope, "acme") for scope in ("page:read", "page:write")]
        time.sleep(1.2) # of the stop itself; nothing waits for anything
    finally:
        slept = (time.clock_gettime(time.CLOCK_BOOTTIME) - began) * 1000
        w.daemon.signal(signal.SIGCONT)
    first, second = [rpc.receive(msgid) for msgid in asked]
    t.ok(first["age_ms"] >= slept - 1, f"slept {slept} ms: {first}")
    t.equal(judge(t, first, 0), "stale", "without grace")
    t.equal(judge(t, second, 1800000), "grace", "with it")
    until(t, lambda: w.ask(), 0, "fresh")
    told = freshness(w)
    t.ok(told["grace_entered"] >= 1 and told["grace_ms"] >= slept - MAX_STALE - 1, told)
    t.equal(len(lines(w, TO_GRACE)), told["grace_entered"], "as often as it was counted")


def test_never_loaded(t):
    daemon = t.keep(Daemon(None, {**FAST, "freshness.offline_grace": "*=30min", "database.backoff_min_ms": "700",
                                  "database.backoff_max_ms": "900"}, wait="socket"))
    key = make_key("user")
    answer = daemon.check(key, "page:read", "acme")
    t.equal((answer["verdict"], answer["reason"], answer["rev"]), ("unavailable", "not_loaded", 0))
    t.ok(50 <= answer["retry_after_ms"] <= 900, answer)
    t.equal(daemon.stats()["freshness"]["state"], "not_loaded")
    # While the back-off lasts, until its end.
    wait_until("a longer wait", lambda: daemon.check(key, "page:read", "acme")["retry_after_ms"] > 50)
    t.ok("freshness:" not in daemon.log(), "no change, no word")


def test_a_grace_longer_than_the_database_allows(t):
    """Waiting for a revocation would not wait for such a daemon: it does not begin."""
    own = cluster()
    own.install("strict")
    daemon = t.keep(Daemon(own, {**FAST, "freshness.offline_grace": "*:read=2h"}, wait="socket",
                           conninfo=own.dsn("apikeyd", "strict")))
    wait_until("the refusal", lambda: "select apikeyd.set_longest_lease(" in daemon.log())
    t.contains(daemon.log(), "offline_grace", "and what else would help")
    t.equal(daemon.check(make_key("user"), "page:read", "acme")["reason"], "not_loaded")
    own.sql("select apikeyd.set_longest_lease('3 h')", database="strict")
    wait_until("the first copy", lambda: daemon.stats()["freshness"]["state"] == "fresh")


if __name__ == "__main__":
    run(globals())
