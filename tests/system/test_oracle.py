"""The property test: the daemon and the oracle in SQL say the same about random worlds.

usage: test_oracle.py [--seed N] [--decisions N] [--rounds N] [--keys N]

A world is loaded whole; then random transactions change it under the running daemon, round after round, so that the
feed is compared as well as the load; in the end a fresh daemon on the same database must answer as the fed one does.
At least 100,000 decisions, every reason at least 500 times, at least a quarter allowed. A disagreement is shrunk to a
few rows and printed as SQL. The same seed asks the same questions (times are relative to now).
"""
import argparse
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *
import changes
import compare
import questions
import shrink
import worlds

TEMPLATE = "apikeyd_empty"
OPTIONS = argparse.Namespace()


class Scene:
    """A cluster with a world in it, and a daemon that serves it."""

    def __init__(self, seed, keys, settings=None):
        self.rng = random.Random(seed)
        # slices so small that one revision takes many turns of the loop
        self.settings = dict({"database.apply_slice": "7"}, **(settings or {}))
        self.cluster = Cluster().start().install()
        self.cluster.sql(f'create database "{TEMPLATE}" template apikeyd', database="postgres")
        self.pepper = random_hex(self.rng)
        self.maker = worlds.Maker(self.rng, self.pepper)
        self.connection = self.cluster.connect(autocommit=False)
        self.cursor = self.connection.cursor()
        self.shipped = worlds.read(self.cursor, worlds.TABLES[:3])
        self.register_pepper()
        world = worlds.missing(self.maker.world(self.shipped, organizations=keys // 9, users=keys // 4, keys=keys),
                               self.shipped)
        worlds.write(self.cursor, world, [table for table in worlds.TABLES if table != "pepper"])
        self.connection.commit()
        self.world = self.read()
        self.daemon = self.new_daemon() # the load, since the world is there already
        self.changer = changes.Changer(self.rng, self.maker, self.connection)
        self.min_rev, self.touched = 0, ()

    def new_daemon(self):
        return Daemon(self.cluster, pepper=self.pepper, settings=self.settings)

    def register_pepper(self):
        """The check value is the daemon's to make. In a database of its own: an id that it draws is not the seed's."""
        self.cluster.sql(f'create database pepper template "{TEMPLATE}"', database="postgres")
        daemon = Daemon(pepper=self.pepper, settings={"database.conninfo": self.cluster.dsn("apikeyd", "pepper")})
        daemon.admin("org_add", org="first")
        daemon.admin("key_mint", kind="organization", org="first")
        daemon.close()
        row, = self.cluster.sql("select version, check_value from apikeyd.pepper", database="pepper")
        self.cursor.execute("insert into apikeyd.pepper (version, check_value) values (%s, %s)", row)
        self.connection.commit()

    def read(self):
        world = worlds.read(self.cursor)
        self.connection.rollback()
        return world

    def asker(self):
        return questions.Asker(self.rng, self.world, self.maker.texts, self.touched)

    def change(self, stopped=False):
        """One round of transactions. A daemon that was stopped meanwhile gets all of them in one batch."""
        if stopped:
            self.daemon.signal(signal.SIGSTOP)
        try:
            self.min_rev = self.changer.round(self.world)
        finally:
            self.daemon.signal(signal.SIGCONT)
        before, self.world = self.world, self.read()
        self.touched = changes.touched(before, self.world)

    def close(self):
        self.daemon.kill()
        self.connection.close()
        self.cluster.close()


def random_hex(rng):
    return f"{rng.getrandbits(256):064x}"


def say(*lines):
    for line in lines:
        print("# " + line, flush=True)


def tell(scene, question, answer, oracle, what):
    """Prints a disagreement, made as small as it gets."""
    say(f"{what}: they disagree about {question._replace(key='…')}",
        f"  the daemon: {compare.parts(answer)}", f"  the oracle: {oracle}")
    shrinker = shrink.Shrinker(scene.cluster, TEMPLATE, scene.pepper, scene.shipped)
    small = shrinker.shrink(scene.world, question)
    if small is None:
        key = next(k for k in scene.world["key"] if k["id"] == question.key_id)
        pages = [p for p in scene.world["page"] if p["slug"] == question.page]
        names = {key["id"], key["user_id"], key["organization_id"], question.page, question.org,
                 *(name for p in pages for name in (p["id"], p["organization_id"]))} - {None}
        say("A daemon that loads the same rows agrees with the oracle: it is the feed that went wrong.",
            "Of the transactions, what had to do with it:")
        for number, transaction in enumerate(scene.changer.log, 1):
            for statement in transaction:
                if any(f"'{name}'" in statement for name in names):
                    say(f"  transaction {number} of {len(scene.changer.log)}: {statement};")
    else:
        got = shrinker.disagree(small, question)
        say(f"After {shrinker.tries} tries this is left, on top of the shipped schema:",
            *shrink.as_sql(small, scene.shipped), shrink.as_question(question),
            f"  the daemon: {got and got[0]}", f"  the oracle: {got and got[1]}")


def compared(t, scene, count, tally, what):
    """Asks both, fails on any difference; returns the questions in groups and the daemon's answers."""
    groups = list(scene.asker().groups(count))
    asked = [question for group in groups for question in group]
    answers = compare.ask_daemon(scene.daemon, groups, scene.min_rev)
    oracle = compare.ask_oracle(scene.cluster, asked)
    tally.add(oracle)
    differ = compare.differences(asked, answers, oracle)
    if differ:
        tell(scene, *differ[0], what)
    t.equal(len(differ), 0, f"{what}: disagreements among {len(asked)}")
    for question, answer in zip(asked, answers):
        wrong = compare.sayable(question, answer)
        t.ok(wrong is None, f"{what}: {question._replace(key='…')}: {wrong}")
        # a malformed key is told from its text, and waits for nothing
        t.ok(answer["rev"] >= scene.min_rev or answer["reason"] == "malformed_key",
             f"{what}: rev {answer['rev']} is older than {scene.min_rev}")
    return groups, answers


def test_daemon_and_oracle_agree(t):
    say(f"seed {OPTIONS.seed}")
    scene = t.keep(Scene(OPTIONS.seed, OPTIONS.keys))
    tally = compare.Tally()
    share = OPTIONS.decisions // (OPTIONS.rounds + 2) + 1
    compared(t, scene, 2 * share, tally, "loaded")
    for number in range(1, OPTIONS.rounds + 1):
        scene.change(stopped=number % 2 == 0)
        groups, answers = compared(t, scene, share, tally, f"round {number}")
    say(f"{len(scene.changer.log)} transactions, {scene.changer.refused} refused", *tally.table())
    each = OPTIONS.decisions * 500 // 100000
    t.equal(tally.short(OPTIONS.decisions, each, 0.25), [], "what there was too little of")
    t.ok(scene.changer.refused < len(scene.changer.log) / 4, "most transactions went through")
    feed = scene.daemon.stats()["feed"]
    t.equal(feed["loads"], 1, f"what was compared after the first load came by the feed: {feed}")

    with contextlib.closing(scene.new_daemon()) as fresh:
        again = compare.ask_daemon(fresh, groups)
    def timeless(answer):
        """Without what depends on when it was asked; a malformed key waits for no revision."""
        transient = ("age_ms", "rev") if answer["reason"] == "malformed_key" else ("age_ms",)
        return {name: value for name, value in answer.items() if name not in transient}
    differ = [(q, timeless(a), timeless(b)) for q, a, b in zip((q for g in groups for q in g), answers, again)
              if timeless(a) != timeless(b)]
    for question, fed, loaded in differ[:5]:
        say(f"{question._replace(key='…')}", f"  fed:    {fed}", f"  loaded: {loaded}")
    t.equal(len(differ), 0, "the fed daemon and a fresh one differ")
    scene.daemon.close()


ACCOUNT = ("revoked", "retired", "disabled", "not_yet_valid", "expired", "user_suspended", "network")


def all_pages(rpc, question, **context):
    """The verdict map of `pages` and all slugs, answer after answer."""
    context.update((name, value) for name, value in (("org", question.org), ("addr", question.addr)) if value is not None)
    answer = rpc.call("pages", question.key, question.scope, context)
    slugs, last = list(answer.get("pages", [])), answer
    while "next" in last:
        last = rpc.call("pages", question.key, question.scope, dict(context, after=last["next"]))
        slugs += last["pages"]
    return answer, slugs


def expected_pages(question, oracle, world):
    """(reason, slugs) by the oracle's answers about every page of the world."""
    reasons = {reason for _, reason, _, _ in oracle}
    scope = next((s for s in world["scope"] if s["name"] == question.scope), None)
    if len(reasons) == 1 and reasons & set(ACCOUNT):
        return reasons.pop(), []
    if not scope or scope["page_level"] != "t":
        return "unknown_scope", []
    if question.org and not any(o["slug"] == question.org for o in world["organization"]):
        return "not_member", []
    return "ok", sorted(page["slug"] for page, answer in zip(world["page"], oracle) if answer[0] == "allow")


def test_pages_are_those_that_check_allows(t):
    """`pages` gives every page on which the oracle allows the scope, no other, in order, a few at a time."""
    scene = t.keep(Scene(OPTIONS.seed + 1, 600, {"limits.pages_per_answer": "3"}))
    asker, pages, reasons = scene.asker(), scene.world["page"], set()
    for number in range(2):
        rpc, asked = t.keep(scene.daemon.rpc()), []
        for _ in range(120):
            question = asker.ask(scene.rng.choice([None, None, None, "any", "page_not_granted", "page_archived", "disabled",
                                                   "unknown_scope"]))
            key = asker.view.keys[question.key_id]
            homes = asker.view.org_roles.get(key["user_id"], {}) or ([key["organization_id"]] if key["organization_id"] else [])
            org = asker.view.orgs[scene.rng.choice(list(homes))]["slug"] if homes and scene.rng.random() < 0.3 else None
            asked.append(question._replace(org="no-such-organization" if scene.rng.random() < 0.03 else org))
        oracle = compare.ask_oracle(scene.cluster, [q._replace(page=page["slug"]) for q in asked for page in pages])
        for n, question in enumerate(asked):
            reason, slugs = expected_pages(question, oracle[n * len(pages):(n + 1) * len(pages)], scene.world)
            answer, got = all_pages(rpc, question)
            t.equal((answer["reason"], got), (reason, slugs), f"pages of {question._replace(key='…', page=None)}")
            reasons.add((reason, len(slugs) > 3))
        if number == 0: # and again after changes
            scene.change()
            asker, pages = scene.asker(), scene.world["page"]
            wait_until("the changes", lambda: scene.daemon.stats()["rev"] >= scene.min_rev)
    t.ok({("ok", True), ("ok", False), ("disabled", False), ("unknown_scope", False)} <= reasons, f"{reasons}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=int(os.environ.get("APIKEYD_SEED") or random.SystemRandom().randrange(1 << 32)))
    parser.add_argument("--decisions", type=int, default=150000)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--keys", type=int, default=1800)
    parser.parse_args(namespace=OPTIONS)
    sys.argv[1:] = []
    run(globals())
