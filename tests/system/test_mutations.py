"""Shows that the property test would notice: without any one clause of the rule, daemon and oracle disagree.

usage: test_mutations.py [--only REGEX] [--seed N] [--questions N]

A clause is what stands between `/* clause: x */` and the next empty line of daemon/rule.c, or between `-- clause: x`
and the next such line (or `-- end clauses`) of the oracle. Each is taken out alone: the C file is compiled and linked
beside the build, the oracle is replaced in the database.
"""
import argparse
import glob
import os
import random
import re
import shlex
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import psycopg2

import world
from world import *
import compare
import test_oracle

RULE = os.path.join(ROOT, "daemon", "rule.c")
OPTIONS = argparse.Namespace()
STAGE = {} # what the tests share, made by the first


# ---- the clauses ----------------------------------------------------------------------------------------------

def clauses_of_c():
    """{name: the file without it}"""
    with open(RULE) as f:
        text = f.read()
    found = re.finditer(r"^[ \t]*/\* clause: (\w+).*?\n(?=\n|[ \t]*/\* clause)", text, re.M | re.S)
    return {match[1]: text[:match.start()] + text[match.end():] for match in found}


def oracle_of_sql():
    """The statement that makes the oracle."""
    for path in sorted(glob.glob(os.path.join(SQL_DIR, "*.sql"))):
        with open(path) as f:
            text = f.read()
        match = re.search(r"^CREATE FUNCTION apikeyd\.explain_rights\(.*?^\$\$;", text, re.M | re.S)
        if match:
            return match[0].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
    raise AssertionError("no migration makes apikeyd.explain_rights")


def clauses_of_sql():
    text = oracle_of_sql()
    found = re.finditer(r"^[ ]*-- clause: (\w+)\n.*?(?=^[ ]*-- (?:clause:|end clauses))", text, re.M | re.S)
    return {match[1]: text[:match.start()] + text[match.end():] for match in found}


# ---- the stage ------------------------------------------------------------------------------------------------

def stage():
    if not STAGE:
        scene = test_oracle.Scene(OPTIONS.seed, 1800)
        groups = list(scene.asker().groups(OPTIONS.questions))
        asked = [question for group in groups for question in group]
        STAGE.update(scene=scene, groups=groups, asked=asked, answers=compare.ask_daemon(scene.daemon, groups),
                     oracle=compare.ask_oracle(scene.cluster, asked))
    return STAGE


def commands():
    """How the build compiles rule.c and links the daemon."""
    done = subprocess.run(["ninja", "-C", BUILD, "-t", "commands", "daemon/apikeyd"], stdout=subprocess.PIPE, text=True,
                          check=True)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("ninja:")]
    compiling = next(line for line in lines if line.rstrip().endswith(RULE) and " -c " in line)
    return compiling, lines[-1]


def build(text):
    """A daemon with this rule.c; the build directory is left as it is."""
    directory = new_dir("mutant")
    source, object_, program = (os.path.join(directory, name) for name in ("rule.c", "rule.o", "apikeyd"))
    with open(source, "w") as f:
        f.write(text)
    compiling, linking = commands()
    argv = shlex.split(compiling)
    for option in ("-MT", "-MF"): # the build's own dependency files
        at = argv.index(option)
        del argv[at:at + 2]
    argv = [word for word in argv if word not in ("-MD", "-Werror")]
    argv[argv.index("-o") + 1], argv[-1] = object_, source
    linked = shlex.split(linking.removeprefix(": && ").removesuffix(" && :"))
    at = linked.index("-o")
    linked[at + 1] = program
    linked.insert(at, object_) # before the archive that has the real one
    for step in (argv + ["-w"], linked):
        done = subprocess.run(step, cwd=BUILD, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise AssertionError(f"{shlex.join(step)}: {done.stdout}")
    return program


def noticed(t, where, ask):
    """Whether anything differs when `ask` says what the two say now; to fall over is to differ as well."""
    play = stage()
    try:
        differ = ask(play)
    except (Closed, OSError, psycopg2.Error) as error:
        t.ok(True, "it fell")
        print(f"# {where:60} fell: {str(error).splitlines()[0]}", flush=True)
        return
    t.ok(differ, f"nobody noticed: {where}")
    question, answer, oracle = differ[0]
    print(f"# {where:60} {len(differ):5} differ, as {compare.parts(answer)[:2]} from {oracle[:2]}", flush=True)


# ---- the tests ------------------------------------------------------------------------------------------------

def test_unchanged_they_agree(t):
    print(f"# seed {OPTIONS.seed}", flush=True)
    play = stage()
    t.equal(compare.differences(play["asked"], play["answers"], play["oracle"]), [], "disagreements")


def without_in_c(name, text):
    def test(t):
        def ask(play):
            real, world.APIKEYD = world.APIKEYD, build(text)
            try:
                daemon = play["scene"].new_daemon()
            finally:
                world.APIKEYD = real
            try:
                return compare.differences(play["asked"], compare.ask_daemon(daemon, play["groups"]), play["oracle"])
            finally:
                daemon.kill()
        noticed(t, f"daemon/rule.c without {name}", ask)
    return test


def without_in_sql(name, text):
    def test(t):
        def ask(play):
            cluster, differ, size = play["scene"].cluster, [], len(play["asked"])
            cluster.sql(text)
            try:
                for part in (slice(0, size // 5), slice(size // 5, size)): # most are noticed at once
                    if not differ:
                        asked = play["asked"][part]
                        differ = compare.differences(asked, play["answers"][part], compare.ask_oracle(cluster, asked))
            finally:
                cluster.sql(oracle_of_sql())
            return differ
        noticed(t, f"the oracle without {name}", ask)
    return test


def test_the_stage_is_as_it_was(t):
    play = stage()
    t.equal(compare.ask_oracle(play["scene"].cluster, play["asked"]), play["oracle"], "the oracle was put back")
    play["scene"].close()


def collect():
    chosen = {}
    for kind, make, clauses in (("c", without_in_c, clauses_of_c()), ("sql", without_in_sql, clauses_of_sql())):
        names = list(clauses)
        if len(names) < 20:
            raise AssertionError(f"only {len(names)} clauses are marked ({kind})")
        names = [name for name in names if re.search(OPTIONS.only, f"{kind}_{name}")]
        for name in names:
            test = make(name, clauses[name])
            test.__name__ = f"test_{'rule.c' if kind == 'c' else 'oracle'}_without_{name}"
            chosen[test.__name__] = test
    return {"test_unchanged_they_agree": test_unchanged_they_agree, **chosen,
            "test_the_stage_is_as_it_was": test_the_stage_is_as_it_was}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--questions", type=int, default=30000)
    parser.add_argument("--only", default="")
    parser.parse_args(namespace=OPTIONS)
    sys.argv[1:] = []
    if "-fsanitize" in commands()[0]:
        print("1..0 # SKIP a plain build shows it, faster")
        sys.exit(0)
    run(collect())
