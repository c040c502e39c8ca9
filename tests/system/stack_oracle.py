"""What apikeyd-stacks(5) says of stacks, said again: an oracle for the engine, written from that page and nothing else.

Every rule below is a sentence of the page, in its order. A stack is read from its text; a group is judged by recursion
over its lines. Where many answers of the modules are tried, each line simply has several codes and the recursion yields
several outcomes: the sentences are the same.
"""
import functools
from typing import NamedTuple

# ---- GROUPS, CODES, CONTROLS -----------------------------------------------------------------------------------

GROUPS = ("caller", "key", "account", "page", "scope", "audit")

DENIES = ("malformed_key unknown_key revoked retired disabled not_yet_valid expired user_suspended network unknown_scope "
          "unknown_page not_member org_suspended page_archived page_not_granted scope_not_granted rate_limited caller "
          "no_stack policy").split()
FAULTS = "not_loaded stale behind timeout overload module_fault audit_full no_pepper".split()
CODES = ["success", "ignore", *DENIES, *FAULTS]
CLASS = {"success": "success", "ignore": "ignore", **dict.fromkeys(DENIES, "deny"), **dict.fromkeys(FAULTS, "fault")}
PENDING = "pending" # no code of the page's table: the module answers later

WORDS = {"required": "[success=ok ignore=ignore default=bad]",
         "requisite": "[success=ok ignore=ignore default=die]",
         "sufficient": "[success=done default=ignore]",
         "optional": "[success=ok default=ignore]",
         "binding": "[success=done ignore=ignore default=bad]"}


def heard(code):
    """A module that answers anything else is taken as module_fault."""
    return code if code in CLASS or code == PENDING else "module_fault"


class Control:
    """What is done with each code. One object a text: see control()."""

    def __init__(self, text):
        pairs = dict(word.split("=") for word in WORDS.get(text, text)[1:-1].split())
        default = pairs.pop("default", "bad") # not listed, and no default: bad
        self.text = text
        self.actions = {code: pairs.get(code, default) for code in CODES}
        # success=ok, and no code is sent to bad or die; in brackets or as the word
        self.optional = (self.actions["success"] == "ok" and
                         not any(action in ("bad", "die") for action in self.actions.values()))

    def __repr__(self):
        return self.text


control = functools.cache(Control)


# ---- LINES -----------------------------------------------------------------------------------------------------

class Line(NamedTuple):
    """A module's line; `number` counts the module lines of the whole stack, in the order of the groups."""
    number: int
    control: Control
    module: str
    arguments: tuple


class Substack(NamedTuple):
    lines: tuple


def words(text):
    """The words of one line of a file; one in brackets is a word."""
    found, rest = [], text.split("#", 1)[0].strip()
    while rest:
        end = rest.index("]") + 1 if rest[0] == "[" else len(rest.split(None, 1)[0])
        found.append(rest[:end])
        rest = rest[end:].strip()
    return found


def lines_of(files, name, group, count):
    """The lines of one group of a stack, what it includes among them. `count` gives the next number."""
    lines = []
    for text in files[name].splitlines():
        line = words(text)
        if not line or line[0] != group or line[1] == "none":
            continue
        if line[1] == "include": # as if they were written here
            lines += lines_of(files, line[2], group, count)
        elif line[1] == "substack":
            lines.append(Substack(tuple(lines_of(files, line[2], group, count))))
        else:
            lines.append(Line(count(), control(line[1]), line[2], tuple(line[3:])))
    return lines


def read(files, name):
    """{group: its lines} of a stack."""
    numbers = iter(range(1 << 20))
    return {group: tuple(lines_of(files, name, group, lambda: next(numbers))) for group in GROUPS}


def module_lines(lines):
    """All module lines among some lines, those of substacks too."""
    for line in lines:
        if isinstance(line, Substack):
            yield from module_lines(line.lines)
        else:
            yield line


# ---- A BLOCK: the lines of a group, or of a substack -------------------------------------------------------------

class Block(NamedTuple):
    """What is known after some lines of a group or substack. Places are numbers of lines; (code, place) is a reason."""
    in_key: bool
    asked: tuple = ()     # numbers of the lines whose modules were asked
    effects: str = ""     # what became of each: the first letter of its word
    passed: bool = False  # a line was ok or done; in key: granted
    failed: bool = False  # a line was bad or died
    deny: tuple = None    # the first deny that was bad or died
    fault: tuple = None   # the first fault, be it bad, died or ignored
    grant: int = None     # the line that says whose key it is
    granted: bool = False # a line of the group, before this substack began, said so already
    charged: bool = False # a module that charges rates passed
    ended: bool = False   # no further line is asked
    waits: bool = False   # a module answers later: all is judged anew then
    ends: tuple = ()      # what substacks came to, in the order of their ends


def after_line(block, line, code):
    """The block after a module's line, where the module answered `code`."""
    code = heard(code)
    block = block._replace(asked=block.asked + (line.number,))
    if code == PENDING:
        return block._replace(effects=block.effects + "p", ended=True, waits=True)
    action, reason, effect = line.control.actions[code], (code, line.number), "nothing"
    if CLASS[code] == "fault" and block.fault is None: # a fault is remembered, on whatever line it comes
        block = block._replace(fault=reason)
    if action in ("ok", "done"):
        # done ends the group (or substack), unless a line before it in this group (or substack) has failed
        ends = action == "done" and not block.failed
        if not block.in_key or not line.control.optional: # in key: the success of an optional line is no grant
            effect = "ended" if ends else "ok"
            if block.in_key and block.grant is None and not block.granted: # the first one is the grant
                block, effect = block._replace(grant=line.number), "granted"
            block = block._replace(passed=True)
        if line.module == "rate" and not line.control.optional:
            block = block._replace(charged=True)
        block = block._replace(ended=ends)
    elif action in ("bad", "die"):
        effect = "failed" if action == "bad" else "died"
        block = block._replace(failed=True, ended=action == "die")
        if CLASS[code] == "deny" and block.deny is None:
            block = block._replace(deny=reason)
    return block._replace(effects=block.effects + effect[0]) # ignore: as if the line were not there


def why(block):
    """The reason of a block in which a line failed: deny, else fault, else `policy` (in key: `unknown_key`)."""
    return block.deny or block.fault or ("unknown_key" if block.in_key else "policy", None)


def after_substack(block, inner):
    """The block after a substack, which ended as `inner`: it counts as one line."""
    block = block._replace(asked=block.asked + inner.asked, effects=block.effects + inner.effects,
                           ends=block.ends + inner.ends)
    if inner.waits:
        return block._replace(ended=True, waits=True)
    # faults within it are remembered by the group; a grant within it is the group's, where there was none before
    block = block._replace(fault=block.fault or inner.fault, charged=block.charged or inner.charged,
                           grant=inner.grant if block.grant is None else block.grant)
    if inner.failed: # bad, with the reason that the substack itself would give
        code, place = why(inner)
        if CLASS[code] == "deny" and block.deny is None:
            block = block._replace(deny=(code, place))
        return block._replace(failed=True, ends=block.ends + (code,))
    return block._replace(passed=block.passed or inner.passed,
                          ends=block.ends + ("success" if inner.passed else "ignore",))


def after(block, line, codes):
    """The blocks after one line, for each way in which its modules can answer: codes[number] are those of a line."""
    if isinstance(line, Substack):
        begin = Block(block.in_key, granted=block.granted or block.grant is not None)
        return [after_substack(block, inner) for inner in after_all(begin, line.lines, codes)]
    return [after_line(block, line, code) for code in codes[line.number]]


def ways(lines, codes):
    """In how many ways the modules among some lines can answer."""
    number = 1
    for line in module_lines(lines):
        number *= len(codes[line.number])
    return number


@functools.cache
def after_all(block, lines, codes):
    """The blocks after some lines, for each way in which the modules can answer (the last line's codes change first)."""
    if not lines:
        return [block]
    if block.ended: # no further line is asked, whatever it would have answered
        return [block] * ways(lines, codes)
    return [last for each in after(block, lines[0], codes) for last in after_all(each, lines[1:], codes)]


# ---- VERDICT OF A GROUP ----------------------------------------------------------------------------------------

class Outcome(NamedTuple):
    code: str           # success: it passed; pending: it waits; else why not
    place: int          # the line that said so; None: no line did
    block: Block


def outcome(block):
    """What a group comes to whose lines came to `block`."""
    if block.waits:
        return Outcome(PENDING, None, block)
    if not block.in_key: # starts as passed
        return Outcome(*why(block), block) if block.failed else Outcome("success", None, block)
    if block.grant is None:
        # nothing granted and there was a fault: the first fault, whatever the other lines said
        return Outcome(*(block.fault or block.deny or ("unknown_key", None)), block)
    return Outcome(*why(block), block) if block.failed else Outcome("success", None, block)


@functools.cache
def all_outcomes(encode, block, lines, codes):
    """encode(outcome) of a group whose lines so far came to `block`, for each way in which the others can answer."""
    if not lines:
        return encode(outcome(block))
    if block.ended:
        return encode(outcome(block)) * ways(lines, codes)
    return b"".join(all_outcomes(encode, each, lines[1:], codes) for each in after(block, lines[0], codes))


def forget():
    """Empties what the recursions have remembered."""
    after_all.cache_clear()
    all_outcomes.cache_clear()


# ---- A QUESTION: all groups ------------------------------------------------------------------------------------

class Answer(NamedTuple):
    groups: dict # {group: Outcome} of the groups that were run
    verdict: str
    reason: str


def verdict_of(code):
    return {"success": "allow", "deny": "deny", "fault": "unavailable"}[CLASS[code]]


def judge(stack, codes):
    """The answer of a stack (see read) where the module of line i answers codes[i], and the core's parts pass."""
    each = tuple((code,) for code in codes)
    groups, code = {}, "success"
    for group in GROUPS[:-1]: # the first group that does not pass ends the run
        last, = after_all(Block(group == "key"), stack[group], each)
        groups[group] = outcome(last)
        if groups[group].code != "success":
            code = groups[group].code
            break
    if code == PENDING: # no verdict yet
        return Answer(groups, "pending", PENDING)
    last, = after_all(Block(False), stack["audit"], each) # audit always runs
    groups["audit"] = outcome(last)
    if code == "success" and groups["audit"].code not in ("success", PENDING):
        code = "audit_full"
    return Answer(groups, verdict_of(code), "ok" if code == "success" else code)
