"""The stack engine beside an oracle that was written from apikeyd-stacks(5) alone (stack_oracle.py).

usage: test_stacks.py [--long] [--seed N] [--trees N] [--only REGEX]

All stacks up to four lines over the words of controls and some controls in brackets, every line answering every class
of code: what the group came to, which line said so, which line granted, which modules were asked. Over the same stacks,
what must hold of all stacks whatever the oracle says (stack_claims.py). Then stacks with substacks and inclusions, all
of some shapes, and random ones to six files deep. And the other way about: engines that are wrong in one place
(stack_mutants.py) are noticed.

--long: all groups and shapes to four lines, many more random stacks, every wrong engine instead of every seventh.
"""
import argparse
import os
import random
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import stack_claims
import stack_mutants
import stack_oracle as oracle
import stack_play
import stack_trees
from stack_play import Disagreement, Driver, Family
from world import *

OPTIONS = argparse.Namespace()

# In brackets: what no word does.
BRACKETS = ("[success=ok default=die]",                          # an `ignore` ends it
            "[success=ignore default=bad]",                      # may refuse, never passes
            "[success=bad default=ignore]",                      # the wrong way about
            "[success=done unknown_key=ignore default=die]",     # one deny is not like the others
            "[success=die default=ignore]",
            "[success=ok ignore=bad default=ignore]")            # grants, though it ignores every deny and fault
CONTROLS = (*oracle.WORDS, *BRACKETS)
SOME_CONTROLS = (*oracle.WORDS, *BRACKETS[2:4], BRACKETS[5])
# A success, an ignore, two denies, two faults: which of them came first is to be seen.
CODES = ("success", "ignore", "unknown_key", "expired", "timeout", "stale")
# With what is no answer yet, and with numbers that are no code.
ODD_CODES = ("success", "policy", "timeout", "pending", "5", "-1")
SHAPES = {2: ("(.)", "(.).", ".(.)", "(..)", "((.).)"),
          3: ("(.)..", ".(.).", "..(.)", "(..).", ".(..)", "(...)", "(.)(.).", ".(.)(.)", "((.).).", ".(.(.))", "((..).)",
              "[..].", ".[..]", "(.[.])."),
          4: ("(..)..", ".(..).", "..(..)", "(..)(..)", ".(.(.).)", "(.(..)).", "[.(..)].")}


# ---- comparing ----------------------------------------------------------------------------------------------------

def compare(family, driver, claims=None, fewer=None):
    """Compares all stacks of a family; (how many with all their answers, {controls: ways that pass} with claims)."""
    encode, ways, passes = stack_play.encoder(driver.numbers), 0, {}
    for controls, got in family.engine(driver):
        wanted = family.oracle(encode, controls)
        if got != wanted:
            raise family.differ(controls, got, wanted, driver.numbers)
        ways += family.ways
        if claims:
            claims.judge(controls, got, fewer)
            passes[controls] = claims.passes(got)
    return ways, passes


def no_lines(group):
    """{controls: ways that pass} of the group without lines: key does not, all others do."""
    return {(): b"\0" if group == "key" else b"\1"}


def all_stacks(group, lines, driver):
    """Compares and judges all stacks of one group, from one line up to so many."""
    ways, fewer = 0, no_lines(group)
    for n in range(1, lines + 1):
        family = Family(group, "." * n, CONTROLS, CODES)
        claims = stack_claims.Claims(family, driver.numbers)
        more, fewer = compare(family, driver, claims, fewer)
        claims.check()
        oracle.forget()
        ways += more
    print(f"# {group}: {ways} stacks with their answers, up to {lines} lines", flush=True)
    return ways


def some_shapes(shapes, controls, driver):
    ways = 0
    for group in ("key", "account"):
        for shape in shapes:
            ways += compare(Family(group, shape, controls, CODES), driver)[0]
            oracle.forget()
    return ways


def odd_stacks(lines, driver):
    ways = 0
    for group in ("key", "account"):
        for shape in ("." * lines, "(" + "." * lines + ")."):
            ways += compare(Family(group, shape, SOME_CONTROLS, ODD_CODES), driver)[0]
            oracle.forget()
    return ways


def disagreement(driver, files, codes):
    """(engine's, oracle's) of one stack where they differ, else None."""
    stack = oracle.read(files, "root")
    driver.compile(files)
    got, wanted = driver.line("run " + " ".join(codes)), stack_play.render(stack, codes)
    return None if got == wanted else (got, wanted)


def tell(driver, files, codes):
    """Raises, with the smallest stack that is found to differ as this one does."""
    def differs(group, nodes):
        return disagreement(driver, *stack_trees.planted(group, nodes))
    stack = oracle.read(files, "root")
    for group in oracle.GROUPS:
        nodes = stack_trees.shrink(group, stack_trees.tree(stack[group], codes), differs)
        if nodes:
            files, codes = stack_trees.planted(group, nodes)
            break
    got, wanted = disagreement(driver, files, codes)
    raise Disagreement(f"engine: {got}\noracle: {wanted}\ncodes:  {' '.join(codes)}\n{stack_play.show(files)}")


def random_stacks(seed, number, driver, answers=10):
    """Compares random stacks, each with some answers of its modules. (Most lines of one, most files deep.)"""
    source, most, deepest = random.Random(seed), 0, 0
    for _ in range(number):
        files = stack_trees.random_files(source)
        stack = oracle.read(files, "root")
        lines = sum(1 for group in stack.values() for _ in oracle.module_lines(group))
        count = driver.compile(files)
        if count != lines:
            raise Disagreement(f"engine: {count} lines; oracle: {lines}\n{stack_play.show(files)}")
        most, deepest = max(most, lines), max(deepest, stack_trees.depth(files))
        said = [[stack_trees.random_code(source) for _ in range(lines)] for _ in range(answers)]
        driver.send("".join("run " + " ".join(codes) + "\n" for codes in said))
        for codes, got in zip(said, [driver.read_line() for _ in said]):
            if got != stack_play.render(stack, codes):
                tell(driver, files, codes)
    return most, deepest


# ---- the engine ---------------------------------------------------------------------------------------------------

def lines_all():
    """To how many lines the groups key and account are gone through: sanitizers make it slow."""
    return 4 if OPTIONS.long or not stack_mutants.sanitized() else 2


def test_the_codes_are_those_of_the_page(t):
    driver = t.keep(Driver())
    t.equal(set(driver.numbers), {*oracle.CODES, oracle.PENDING}, "codes")
    t.equal(len(set(driver.numbers.values())), len(driver.numbers), "numbers")


def test_all_stacks_of_key(t):
    t.ok(all_stacks("key", lines_all(), t.keep(Driver())) >= 66 ** lines_all(), "too few")


def test_all_stacks_of_account(t):
    t.ok(all_stacks("account", lines_all(), t.keep(Driver())) >= 66 ** lines_all(), "too few")


def test_all_stacks_of_the_other_groups(t):
    driver, lines = t.keep(Driver()), 4 if OPTIONS.long else 2
    for group in ("caller", "page", "scope", "audit"):
        t.ok(all_stacks(group, lines, driver) >= 66 ** lines, "too few")


def test_all_stacks_with_answers_that_are_none(t):
    ways = odd_stacks(3 if OPTIONS.long else 2, t.keep(Driver()))
    print(f"# {ways} stacks with their answers", flush=True)
    t.ok(ways > 200000, "too few")


def test_all_stacks_of_some_shapes(t):
    driver = t.keep(Driver())
    ways = some_shapes(SHAPES[2], CONTROLS, driver)
    if OPTIONS.long or not stack_mutants.sanitized():
        ways += some_shapes(SHAPES[3], CONTROLS, driver)
    if OPTIONS.long:
        ways += some_shapes(SHAPES[4], SOME_CONTROLS, driver)
    print(f"# {ways} stacks with their answers", flush=True)
    t.ok(ways > 30000, "too few")


def test_random_stacks_that_include_others(t):
    number = OPTIONS.trees or (20000 if OPTIONS.long else 400 if stack_mutants.sanitized() else 1000)
    print(f"# seed {OPTIONS.seed}", flush=True)
    most, deepest = random_stacks(OPTIONS.seed, number, t.keep(Driver()))
    print(f"# {number} stacks, of up to {most} lines, up to {deepest} files deep", flush=True)
    t.ok(most >= 20 and deepest == stack_trees.DEPTH, "the stacks were simple ones")


def forced(driver):
    """What the parser lets nobody write, ok or done for another code than success, passes nothing all the same."""
    files = {"root": "caller none\nkey required who\naccount required say\naudit none\n"}
    asked = 0
    for code in sorted(set(driver.numbers) - {"success", oracle.PENDING}):
        for action in ("ok", "done"):
            driver.compile(files)
            driver.send(f"force {code} {action}\n")
            for codes in ([code, "success"], ["success", code], [code, code]):
                got = driver.line("run " + " ".join(codes))
                asked += 1
                if " allow ok " in got:
                    raise Disagreement(f"{code}={action} passed: {got}")
    return asked


def test_no_code_but_success_passes(t):
    t.ok(forced(t.keep(Driver())) > 100, "too few")


# ---- what would be wrong --------------------------------------------------------------------------------------------

def test_every_claim_can_be_broken(t):
    """Each claim is broken by some record that no engine may give."""
    driver, broken, made = t.keep(Driver()), set(), set()
    spoilt = [(byte, value) for byte in range(stack_play.RECORD)
              for value in (*range(4), 0x83, *(driver.numbers[code] for code in ("timeout", "expired", "unknown_key")))]
    for group in ("key", "account"):
        fewer = no_lines(group)
        for n in (1, 2):
            family = Family(group, "." * n, CONTROLS, CODES)
            rows = list(family.engine(driver))
            for byte, value in spoilt:
                claims = stack_claims.Claims(family, driver.numbers)
                for controls, records in rows:
                    for way in range(0, family.ways, 5):
                        at = way * stack_play.RECORD + byte
                        claims.judge(controls, records[:at] + bytes((value,)) + records[at + 1:], fewer)
                broken |= set(claims.broken)
                made |= claims.names
            fewer = {controls: claims.passes(records) for controls, records in rows}
    t.equal(broken, made, "claims")


def noticed(program):
    """What is said about a wrong engine, or None."""
    driver = Driver(program, stack_mutants.limits)
    try:
        for lines in (1, 2):
            for group in ("account", "key"):
                compare(Family(group, "." * lines, CONTROLS, CODES), driver)
        forced(driver)
        some_shapes(SHAPES[2], CONTROLS, driver)
        odd_stacks(1, driver)
        some_shapes(SHAPES[3], SOME_CONTROLS, driver)
        for group in ("account", "key"):
            compare(Family(group, "...", CONTROLS, CODES), driver)
        random_stacks(OPTIONS.seed, 300, driver)
    except Disagreement as error:
        return str(error)
    finally:
        driver.kill()
    return None


def test_wrong_engines_are_noticed(t):
    if stack_mutants.sanitized():
        t.skip("a plain build shows it, faster")
    directory, built, unnoticed = new_dir("mutants"), 0, []
    t.equal(noticed(stack_mutants.build(stack_mutants.engine(), directory)), None, "a copy without a change")
    mutants = [one for one in stack_mutants.mutants() if re.search(OPTIONS.only, one[0])]
    for name, kind, text in mutants[::1 if OPTIONS.long or OPTIONS.only else 7]:
        program = stack_mutants.build(text, directory)
        if not program:
            continue
        built += 1
        said = noticed(program)
        why = None if said else stack_mutants.harmless(name)
        print(f"# {kind:10} {name:90} {said.splitlines()[0][:110] if said else why or 'NOTICED BY NOBODY'}", flush=True)
        if not said and not why:
            unnoticed.append(name)
    print(f"# {built} wrong engines", flush=True)
    t.equal(unnoticed, [], "noticed by nobody")
    if not OPTIONS.only:
        t.ok(built >= 20, "too few")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--trees", type=int, default=0)
    parser.add_argument("--only", default="", help="wrong engines alone whose changed line matches")
    parser.add_argument("tests", nargs="*")
    parser.parse_args(namespace=OPTIONS)
    sys.argv[1:] = OPTIONS.tests
    run(globals())
