#!/usr/bin/env python3
"""The history checker: it notices what it is there to notice, and a short run of it with the real daemons is clean.

The long form is tests/system/history.
"""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *  # noqa: E402

import history_play  # noqa: E402
from history_fake import Fake  # noqa: E402
from history_judge import Batch, Judge, Violation  # noqa: E402
from history_past import Past, Txn  # noqa: E402
from history_stage import Server, new_slot, sanitized  # noqa: E402
from history_world import Key  # noqa: E402

SEED = int(os.environ.get("SEED", random.randrange(1000000)))
SLOW = sanitized()
shared = {}


# ---- the judge alone, on a past made by hand --------------------------------------------------------------------------
# Revisions 100, 200, ... are made at 100, 200, ... ms; branch 1 begins at 1000 ms and lacks what came after 500.

MS = 1000000
KEY = Key("organization", 0, "00" * 32)
OTHER = Key("organization", 0, "00" * 32)  # disabled at first, and until 1200 of branch 1
UNMADE = Key("organization", 0, "00" * 32) # minted by nobody
OFF, ON = {("disabled", KEY.id): True}, {("disabled", KEY.id): False}


def past():
    p = Past()
    p.begin(1, {("minted", KEY.id): True, ("minted", OTHER.id): True, ("disabled", OTHER.id): True})
    p.branches[0].began = 0
    p.branches[0].certain.times[0] = 0

    def made(branch, rev, changes):
        txn = Txn(branch, "hand", "", changes)
        txn.sent, txn.ack = rev * MS, rev * MS + MS
        p.resolve(txn, rev)
    for rev, changes in ((100, OFF), (200, ON), (300, {("page", 0): "archived"}), (400, OFF), (500, ON), (600, OFF)):
        made(0, rev, changes)
    p.fork(500, 1000 * MS)
    p.branches[0].ended = 2000 * MS
    p.branches[1].certain.times[0] = 1001 * MS
    made(0, 1100, {("page", 2): "archived"}) # by the deposed one
    made(1, 1200, {("page", 0): "active", ("disabled", OTHER.id): False})
    return p


def answer(reason, rev, age, **more):
    verdict = {"ok": "allow", "stale": "unavailable", "behind": "unavailable", "not_loaded": "unavailable"}
    return {"verdict": verdict.get(reason, "deny"), "reason": reason, "rev": rev, "age_ms": age, **more}


def batch(at, *answers, until=None, life=1, daemon="a", scope="page:read", key=KEY, **more):
    return Batch(daemon, life, at * MS, (until or at + 1) * MS, [(key, scope, 0, a) for a in answers], **more)


RIGHT = {
    "the state at its revision": [batch(250, answer("ok", 200, 10))],
    "an old one that says so": [batch(450, answer("ok", 200, 200))],
    "not yet seen by all": [batch(601, answer("ok", 500, 0))],
    "the latest before it is": [batch(599, answer("disabled", 600, 0), until=601)],
    "by the old primary before the promotion": [batch(1100, answer("disabled", 600, 200))],
    "by the old primary after it, for a while": [batch(1090, answer("disabled", 600, 10))],
    "by what it still committed": [batch(1150, answer("disabled", 1100, 10))],
    "by the new one": [batch(1150, answer("ok", 500, 10))],
    "by the new one, which began while it was out": [batch(990, answer("disabled", 600, 30)),
                                                     batch(1010, answer("disabled", 500, 50), until=1100)],
    "back to the new one": [batch(650, answer("disabled", 600, 10)), batch(1150, answer("disabled", 500, 10))],
    "back to the new one, of another daemon": [batch(650, answer("disabled", 600, 10), daemon="b"),
                                               batch(1150, answer("ok", 500, 10))],
    "not lost itself, and undone since": [batch(650, answer("disabled", 600, 10), key=OTHER),
                                          batch(1250, answer("ok", 1200, 10), key=OTHER)],
    "kept by who has not said that it knew": [batch(1150, answer("disabled", 500, 10))],
    "asked before it had answered": [batch(1100, answer("disabled", 1100, 10), until=1160),
                                     batch(1150, answer("ok", 500, 10))],
    "back, but asked before": [batch(450, answer("disabled", 400, 10)),
                               batch(449, answer("ok", 300, 100), until=460)],
    "by another daemon": [batch(450, answer("disabled", 400, 10)), batch(452, answer("ok", 300, 100), daemon="b")],
    "stale": [batch(3000, answer("stale", 1200, 501))],
    "in grace": [batch(3000, answer("ok", 1200, 501, stale=True), daemon="b")],
    "in grace, of what is not held": [Batch("b", 1, 3000 * MS, 3001 * MS, [(UNMADE, "page:read", 0,
                                                                           answer("stale", 1200, 501))])],
    "behind": [batch(450, answer("behind", 300, 1), min_rev=400)],
    "not loaded": [batch(450, answer("not_loaded", 0, 0)), batch(460, answer("disabled", 400, 5))],
}
STATE, FRESH, BACK = "by the state at that revision", "which all could see", "never back"
KEPT = "which it had answered before history was lost"
WRONG = {
    "another state": (STATE, batch(250, answer("disabled", 200, 10))),
    "too old for its age": (FRESH, batch(450, answer("ok", 200, 10))),
    "by a millisecond": (FRESH, batch(603, answer("ok", 500, 1))),
    "a revision that there is not": ("a revision that was made", batch(450, answer("ok", 350, 200))),
    "before its COMMIT was sent": ("before its COMMIT was sent", batch(590, answer("disabled", 600, 0))),
    "of a deposed primary that committed more": (FRESH, batch(1150, answer("disabled", 600, 10))),
    "of a deposed primary for ever": (FRESH, batch(2100, answer("disabled", 1100, 10))),
    "of a deposed primary by its age": (FRESH, batch(2500, answer("disabled", 1100, 400))),
    "of the new primary before it was one": (FRESH, batch(1010, answer("ok", 500, 50), until=1040)),
    "of the new primary, and too old": (FRESH, batch(2100, answer("ok", 500, 10))),
    "back": (BACK, batch(450, answer("disabled", 400, 10)), batch(452, answer("ok", 300, 100))),
    "back to the deposed": (BACK, batch(1250, answer("ok", 1200, 10)), batch(1252, answer("disabled", 1100, 10))),
    "back to what was lost": (BACK, batch(1250, answer("ok", 1200, 10)), batch(1252, answer("disabled", 600, 160))),
    "forgotten in a lost history": (KEPT, batch(650, answer("disabled", 600, 10)), batch(1150, answer("ok", 500, 10))),
    "forgotten in a restart": (KEPT, batch(650, answer("disabled", 600, 10)), batch(1150, answer("ok", 500, 10), life=2)),
    "kept where nothing is lost": (STATE, batch(550, answer("disabled", 500, 10))),
    "kept as what it never was": (STATE, batch(1150, answer("revoked", 500, 10))),
    "both at once": ("all pairs", batch(450, answer("disabled", 400, 100), answer("ok", 300, 100), many=True)),
    "both at once, by age": ("all pairs", batch(450, answer("disabled", 400, 10), answer("disabled", 400, 11),
                                                many=True)),
    "stale in time": ("is refused as stale", batch(3000, answer("stale", 1200, 500))),
    "stale in grace": ("is refused as stale", batch(3000, answer("stale", 1200, 600), daemon="b")),
    "answered when stale": ("UNAVAILABLE", batch(3000, answer("ok", 1200, 501))),
    "answered beyond grace": ("UNAVAILABLE", batch(3000, answer("ok", 1200, 601, stale=True), daemon="b")),
    "in another scope's grace": ("UNAVAILABLE", batch(3000, answer("ok", 1200, 501, stale=True), daemon="b",
                                                      scope="page:write")),
    "stale and silent about it": ("`stale`", batch(3000, answer("ok", 1200, 501), daemon="b")),
    "in grace of what is not held": ("a stale copy does not know", Batch(
        "b", 1, 3000 * MS, 3001 * MS, [(UNMADE, "page:read", 0, answer("unknown_key", 1200, 501, stale=True))])),
    "stale of what is not held, and fresh": ("is refused as stale", Batch(
        "b", 1, 3000 * MS, 3001 * MS, [(UNMADE, "page:read", 0, answer("stale", 1200, 500))])),
    "called stale": ("`stale`", batch(3000, answer("ok", 1200, 400, stale=True), daemon="b")),
    "min_rev passed over": ("the min_rev", batch(450, answer("ok", 300, 100), min_rev=400)),
    "behind of nothing": ("behind only", batch(450, answer("behind", 300, 100))),
    "behind and not": ("behind only", batch(450, answer("behind", 400, 1), min_rev=400)),
    "not loaded any more": ("has loaded", batch(450, answer("disabled", 400, 5)), batch(460, answer("not_loaded", 0, 0))),
    "a reason of its own": ("no such reason", batch(450, {**answer("stale", 400, 1), "reason": "timeout"})),
    "allow and not ok": ("allow is ok", batch(450, {**answer("disabled", 400, 1), "verdict": "allow"})),
}


def judge(batches):
    j = Judge(past(), 500, {"b": {"page:read": 100}})
    for b in batches:
        j.take(b)
    j.work()
    return j


def test_the_judge_lets_stand_what_may(t):
    for name, batches in RIGHT.items():
        judged = judge(batches)
        t.equal(judged.count["judged"], sum(len(b.answers) for b in batches), name)


def test_the_judge_finds_what_may_not(t):
    for name, (wanted, *batches) in WRONG.items():
        error = t.raises(Violation, lambda: judge(batches), name)
        said = next(line for line in str(error).splitlines() if line.startswith("wanted: "))
        t.contains(said, wanted, name)


def test_the_judge_waits_for_outcomes(t):
    p = past()
    open_txn = Txn(1, "hand", "", OFF)
    p.sending(open_txn)
    j = Judge(p, 500)
    j.take(batch(1250, answer("ok", 1200, 10)))
    t.equal(j.work(), 1, "what came before its COMMIT was sent is judged")
    later = batch(1, answer("disabled", 5000, 0))
    later.t0 = open_txn.sent + 1
    later.t1 = later.t0 + 5 * MS
    j.take(later)
    t.equal(j.work(), 0, "what may have seen it is not")
    open_txn.ack = later.t0
    p.resolve(open_txn, 5000)
    wait_until("its time to have passed", j.work)
    t.equal(j.count["judged"], 2, "until it is known")


# ---- a daemon that lies -------------------------------------------------------------------------------------------------

def server():
    """One for all, with a fresh database each time."""
    if "server" not in shared:
        shared["server"] = Server(new_slot(), None).start().install("pristine")
    for command in ("drop database if exists apikeyd with (force)", "create database apikeyd template pristine"):
        shared["server"].sql(command, database="postgres")
    return shared["server"]


def fakes(plant):
    return lambda stage: {"a": Fake("a", stage.world, stage.primary, plant), "b": Fake("b", stage.world, stage.primary)}


def play(t, **more):
    more["primary"] = more.get("primary") or server()
    p = t.keep(history_play.Play(SEED, say=lambda text: None, standby=False, namespace=False, pace=0.02, pause=0.02,
                                 **more))
    p.begin()
    return p


def caught(t, plant, wanted, p):
    """The checker comes upon it, and says what it should have been."""
    try:
        p.act(WAIT)
    except Violation as violation:
        t.contains(str(violation), wanted, plant)
        t.contains(str(violation), "the transactions around it:", plant)
        return str(violation)
    raise AssertionError(f"{plant} passes unnoticed: {p.report()}")


def test_an_honest_daemon_is_clean(t):
    p = play(t, cast=fakes(None))
    wait_until("some of everything", lambda: p.judge.count["judged"] > 3000 and p.judge.count["disabled"] > 100
               and p.judge.count["unknown_key"] and sum(w.count["committed"] for w in p.writers) > 100)
    p.end()
    t.ok(p.judge.backlog() == 0, "all is judged")


PLANTS = {"no_poll": "which all could see", "young": "which all could see", "halves": "by the state at that revision",
          "early": "a", "forgets": "by the state at that revision", "never_stale": "UNAVAILABLE: the copy is older",
          "impatient": "at least the min_rev that was asked for", "two_copies": "never back",
          "mixes": "all pairs of a check_many", "undecided": "is refused as stale"}


def planted(plant):
    def test(t):
        caught(t, plant, PLANTS[plant], play(t, cast=fakes(plant)))
    test.__name__ = f"test_a_fake_that_is_{plant}_is_caught"
    return test


for name in PLANTS:
    globals()[f"test_a_fake_that_is_{name}_is_caught"] = planted(name)
del name


# ---- the real daemons ---------------------------------------------------------------------------------------------------

# Revisions in the order of the statements, and no turn to wait for: what a plain sequence does.
NAIVE = """
create or replace function apikeyd.assign_revision() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from apikeyd.pending p where p.txn = new.txn;
  if not exists (select from apikeyd.revision r where r.txn = new.txn) then
    insert into apikeyd.revision (rev, txn) values (nextval('apikeyd.revision_number'), new.txn);
    perform pg_notify('apikeyd', 'x');
  end if;
  return null;
end $$"""


def test_a_naive_sequence_is_caught(t):
    primary = server()
    primary.sql(NAIVE)
    caught(t, "a naive sequence", "by the state at that revision", play(t, primary=primary))


def test_a_short_history(t):
    """All faults once, or some of them where all is slow."""
    names = None
    if SLOW:
        names = random.Random(SEED).sample(["kill_feed_backend", "crash", "freeze", "sleep_of_all", "failover_with_loss",
                                            "stall", "reset", "kill_daemon", "stop_daemon", "forced_reload"], 5)
    p = t.keep(history_play.Play(SEED, say=lambda text: print(f"# {text}", flush=True), scale=0.3))
    p.begin()
    p.run_each(names)
    p.end()
    for line in p.report():
        print(f"# {line}")
    t.ok(p.judge.count["judged"] > 1000, "judged")
    t.equal(set(p.injected) | set(p.skipped), set(names or p.faults.all), "faults")


if __name__ == "__main__":
    print(f"# seed {SEED}")
    run(globals())
