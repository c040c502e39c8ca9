"""
who_can and what_can agree with the daemon's answers over random worlds: each key of each world asked about each scope on each page, and
in each organization; of a key that is narrowed to networks, from one of those.
"""
import argparse
import os
import random
import secrets
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *
import compare
import questions
import test_oracle
import worlds

SEED = int(os.environ.get("APIKEYD_TEST_SEED") or secrets.randbits(32))
KEYS = 40


def ask(scene, asked):
    return compare.ask_daemon(scene.daemon, [[question] for question in asked], scene.min_rev)


def world_agrees(t, scene, what):
    sql = scene.cluster.sql
    texts = scene.maker.texts
    address = dict(sql("select k.id, host(apikeyd.some_address(k.id)) from apikeyd.key k"))
    levels = sql("select name, page_level, organization_level from apikeyd.scope")
    pages = [row[0] for row in sql("select slug from apikeyd.page")]
    organizations = [row[0] for row in sql("select slug from apikeyd.organization")]
    scopes = scene.rng.sample(levels, 6)
    asked, wanted_by = [], {}
    for key_id in address:
        for name, page_level, organization_level in scopes:
            for page in pages if page_level else ():
                asked.append(questions.Question(key_id, texts[key_id], name, page, None, address[key_id]))
            for organization in organizations if organization_level else ():
                asked.append(questions.Question(key_id, texts[key_id], name, None, organization, address[key_id]))
    # Asked at random, as many as a test has time for; among them all that SQL says is allowed.
    can = {(row[0], row[3], row[2], row[1] if row[2] is None else None)
           for key_id in address for row in [(key_id, *r) for r in sql("select organization, page, scope from apikeyd.what_can(%s)", key_id)]}
    can = {(key, scope, page, organization) for key, scope, page, organization in can if scope in {s[0] for s in scopes}}
    allowed = [q for q in asked if (q.key_id, q.scope, q.page, q.org) in can]
    rest = [q for q in asked if (q.key_id, q.scope, q.page, q.org) not in can]
    some = allowed + scene.rng.sample(rest, min(len(rest), 20000))
    t.equal(len(allowed), len(can), f"{what}: what_can names what can be asked")
    got = {(q.key_id, q.scope, q.page, q.org) for q, answer in zip(some, ask(scene, some)) if answer["verdict"] == "allow"}
    t.equal((sorted(map(str, got - can))[:5], sorted(map(str, can - got))[:5]), ([], []), f"{what}: what_can and the daemon, seed {SEED}")
    # who_can is the same relation, from the other side.
    for name, page_level, organization_level in scopes:
        for page, organization in ([(page, None) for page in pages] if page_level else []) + ([(None, o) for o in organizations] if organization_level else []):
            who = {row[0] for row in sql("select key_id from apikeyd.who_can(%s, %s, %s)", name, page, organization)}
            want = {key for key, scope, p, o in can if (scope, p, o) == (name, page, organization)}
            t.equal(who, want, f"{what}: who_can {name} {page or organization}, seed {SEED}")
    return len(can)


def test_who_can_and_what_can_agree_with_the_daemon(t):
    print(f"# seed {SEED}", flush=True)
    scene = t.keep(test_oracle.Scene(SEED, KEYS))
    count = world_agrees(t, scene, "loaded")
    for number in range(1):
        scene.change()
        count += world_agrees(t, scene, f"round {number}")
    t.ok(count > 30, f"enough is allowed: {count}")


if __name__ == "__main__":
    run(globals())
