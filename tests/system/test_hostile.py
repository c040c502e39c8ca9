"""No stack file allows what the core's rule denies: the oracle's random worlds, asked through stacks that open everything.

usage: test_hostile.py [--seed N] [--decisions N] [--stacks N]

Each stack lets every line pass that a control can let pass, with hostile modules wherever they may stand: they return
all codes and numbers that are none, grant principals unasked, complete tokens of their own, at once and later. In `key`
others stand before the store, whose principals cannot be or whose code is no success. Of some questions `explain` must
say what `check` says, and `pages` may name no page that the oracle denies. An ALLOW where the oracle in SQL denies fails; so does,
so that the stacks are known to be open, a stack that is not as open as the oracle. The same seed makes the same stacks.
"""
import argparse
import collections
import os
import random
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *
import compare
import test_oracle

OPTIONS = argparse.Namespace()
BUILT = os.path.join(BUILD, "tests", "modules")
GROUPS = ("caller", "account", "page", "scope")
# Whatever such a line says spoils nothing.
OPEN = ("optional", "sufficient", "[success=ok default=ignore]", "[success=done default=ignore]")
# In int, in eight bits and in 32 some of these are a success, or look like another code.
NO_CODES = (4, 7, 27, 39, 48, 63, 64, 65, 127, 128, 255, 256, 257, 511, 513, 65537, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1)
BYTE_IS_SUCCESS = tuple(n for n in NO_CODES if n % 256 == 1)
# Principals that cannot be: without a grant of theirs, the store's holds.
UNSOUND = ("nothing", "kind_none", "kind_unknown", "size_zero", "size_short", "org_null", "org_endless", "pages_million",
           "pages_null", "scopes_million", "networks_null", "counts_without_flags", "page_null", "page_endless",
           "times_least", "glass_endless", "glass_open")
# Principals that can be, and are nobody the copy knows.
UNKNOWN = ("unknown_org", "unknown_user", "negative_user", "org_empty", "org_binary")


def hostile(rng, slug, later=True):
    """hostile_grant with arguments that open something somewhere, or hostile_later, which says so later."""
    code = rng.choice([1, 1, 1, rng.randrange(64), rng.choice(NO_CODES)])
    module = "hostile_later" if later and rng.random() < 0.3 else "hostile_grant"
    words = [f"code={code}"] + [word for word in ("negative=yes", "grant=yes", "store=yes", "complete=yes", f"org={slug}",
                                                  f"retry_after={2 ** 64 - 1}") if rng.random() < 0.3]
    return f"{module} {' '.join(words)}"


def opened(rng, group, slug, earlier):
    """One to three lines of a group, now and then another stack's as one line."""
    if earlier and rng.random() < 0.3:
        yield f"{group} {rng.choice(['substack', 'include'])} {rng.choice(earlier)}"
    for _ in range(rng.randint(1, 3)):
        yield f"{group} {rng.choice(OPEN)} {hostile(rng, slug)}"
    if rng.random() < 0.5: # success alone lets these pass
        control = rng.choice(["required", "requisite", "binding", "[success=done default=die]"])
        module = rng.choice(["hostile_grant", "hostile_later"])
        yield f"{group} {control} {module} code=1 grant=yes complete=yes org={slug}"


def identified(rng, slug, exact):
    """What stands before the store; where it is not exact, what is granted first is nobody's."""
    if not exact:
        yield f"key sufficient hostile_identify what={rng.choice(UNKNOWN)} later={rng.choice(['yes', 'no'])}"
    for _ in range(rng.randint(0, 3)):
        kind, later = rng.randrange(3), " later=yes" if rng.random() < 0.3 else ""
        if kind == 0:
            yield f"key {rng.choice(OPEN[1:])} hostile_identify what={rng.choice(UNSOUND)} org={slug}{later}"
        elif kind == 1: # sound, and said to be no success
            code = rng.choice([rng.choice(BYTE_IS_SUCCESS), rng.choice(NO_CODES), rng.choice([0, 2, *range(8, 64)])])
            yield f"key {rng.choice(OPEN[1:])} hostile_identify what=good org={slug} code={code}{later}"
        else: # an optional success grants nothing
            yield f"key optional hostile_identify what=good org={slug}{later}"
    yield f"key {rng.choice(['required', 'sufficient'])} store"


def make_stacks(rng, count, slugs):
    """{name: text} and the names of those that are as open as the rule lets them be."""
    stacks, exact = {}, set()
    for number in range(count):
        name, slug, is_exact = f"open{number}", rng.choice(slugs), number % 8 != 7
        lines = [line for group in GROUPS for line in
                 (["account required rate"] if group == "account" else []) + list(opened(rng, group, slug, list(stacks)))]
        lines += identified(rng, slug, is_exact)
        lines += [f"audit {rng.choice(OPEN)} {hostile(rng, slug, later=False)}"]
        stacks[name] = "\n".join(lines) + "\n"
        if is_exact:
            exact.add(name)
    return stacks, exact


class Scene(test_oracle.Scene):
    """With stacks, and the hostile modules in a directory of the daemon's."""

    def new_daemon(self):
        directory = new_dir("modules")
        os.chmod(directory, 0o755)
        for name in ("hostile_grant", "hostile_later", "hostile_identify"):
            path = os.path.join(directory, name + ".so")
            shutil.copy(os.path.join(BUILT, name + ".so"), path)
            os.chmod(path, 0o644)
        rng = random.Random(OPTIONS.seed)
        slugs = [row["slug"] for row in self.world["organization"] if row["standing"] == "active"]
        self.stacks, self.exact = make_stacks(rng, OPTIONS.stacks, slugs)
        return Daemon(self.cluster, pepper=self.pepper, stacks=self.stacks,
                      settings=dict(self.settings, **{"stacks.module_dir": directory, "limits.module_pending": "1000000",
                                                      "limits.pages_per_answer": "3"}))


def explained(t, scene, name, pairs):
    """`explain` goes the same way as `check`: the same verdict and reason, and a trace that ends with it."""
    rpc = scene.daemon.rpc(120)
    t.keep(rpc)
    for question, answer, _ in pairs:
        context = {key: value for key, value in (("org", question.org), ("addr", question.addr)) if value is not None}
        got = rpc.call("explain", question.key, question.scope, question.page,
                       {"stack": name, "deadline_ms": 60000, "min_rev": scene.min_rev, **context})
        t.equal((got["verdict"], got["reason"]), (answer["verdict"], answer["reason"]),
                f"{name} explains {question._replace(key='…')}")
        t.ok(got["trace"] and all(step["code"] != "pending" for step in got["trace"]), got["trace"])


def listed(t, scene, name, pairs):
    """`pages` names no page that the oracle denies; all that it allows, where the stack is as open as the rule. How many."""
    rpc = scene.daemon.rpc(120)
    t.keep(rpc)
    slugs = [page["slug"] for page in scene.world["page"]]
    questions, count = [question for question, _, _ in pairs], 0
    oracle = compare.ask_oracle(scene.cluster, [q._replace(page=slug) for q in questions for slug in slugs])
    for n, question in enumerate(questions):
        about = oracle[n * len(slugs):(n + 1) * len(slugs)]
        right = {slug for slug, answer in zip(slugs, about) if answer[0] == "allow"}
        answer, got = test_oracle.all_pages(rpc, question, stack=name, deadline_ms=60000, min_rev=scene.min_rev)
        what = f"{name}: pages of {question._replace(key='…', page=None)}: {answer['reason']}"
        t.ok(set(got) <= right, f"{what}: {set(got) - right} are denied")
        if name in scene.exact:
            t.equal((len(got), set(got)), (len(right), right), what)
        count += len(got)
    return count


def test_nothing_allows_what_the_rule_denies(t):
    test_oracle.say(f"seed {OPTIONS.seed}")
    scene = t.keep(Scene(OPTIONS.seed, OPTIONS.keys))
    tally, share = compare.Tally(), OPTIONS.decisions // OPTIONS.stacks + 1
    allowed, pages, said = 0, 0, collections.Counter()
    for number, (name, text) in enumerate(scene.stacks.items()):
        if number == OPTIONS.stacks // 2: # the second half on a world that came by the feed
            scene.change()
        groups = list(scene.asker().groups(share))
        asked = [question for group in groups for question in group]
        answers = compare.ask_daemon(scene.daemon, groups, scene.min_rev, name)
        oracle = compare.ask_oracle(scene.cluster, asked)
        tally.add(oracle)
        pairs = list(zip(asked, answers, oracle))
        opens = [p for p in pairs if p[1]["verdict"] == "allow" and p[2][0] != "allow"]
        shuts = [p for p in pairs if p[1]["verdict"] != "allow" and p[2][0] == "allow"] if name in scene.exact else []
        for what, found in (("allows what the rule denies", opens), ("shuts what it was to open", shuts)):
            if found:
                question, answer, wanted = found[0]
                test_oracle.say(f"{name} {what}: {question._replace(key='…')}", f"  the daemon: {answer}",
                                f"  the oracle: {wanted}", *("  " + line for line in text.splitlines()))
            t.equal(len(found), 0, f"{name} {what}, among {len(asked)}")
        allowed += sum(answer["verdict"] == "allow" for answer in answers)
        said.update(answer["reason"] for answer in answers)
        explained(t, scene, name, scene.rng.sample(pairs, 40))
        proven, open_ones = [p for p in pairs if p[0].key_id], [p for p in pairs if p[2][0] == "allow" and p[0].page]
        pages += listed(t, scene, name, scene.rng.sample(proven, min(4, len(proven))) +
                        scene.rng.sample(open_ones, min(4, len(open_ones))))
    test_oracle.say(*tally.table(), f"allowed {allowed}, and {pages} pages listed")
    t.equal(tally.short(OPTIONS.decisions, OPTIONS.decisions // 1000, 0.25), [], "what there was too little of")
    t.ok(allowed > 0.2 * OPTIONS.decisions, f"the stacks let through what may pass: {allowed}")
    t.ok(pages > OPTIONS.stacks, f"pages were listed: {pages}")
    faults = scene.daemon.stats()
    t.ok(faults["module_faults"] > OPTIONS.stacks, f"the modules were hostile: {faults['module_faults']}")
    t.ok(faults["module_calls_late"] > OPTIONS.stacks, f"they completed what was not theirs: {faults['module_calls_late']}")
    scene.daemon.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=int(os.environ.get("APIKEYD_SEED") or random.SystemRandom().randrange(1 << 32)))
    parser.add_argument("--decisions", type=int, default=24000)
    parser.add_argument("--stacks", type=int, default=24)
    parser.add_argument("--keys", type=int, default=1800)
    parser.parse_args(namespace=OPTIONS)
    sys.argv[1:] = []
    run(globals())
