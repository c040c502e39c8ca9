"""Asks the engine (tests/unit/stack_driver.c) what stacks come to, and says it in the oracle's terms."""
import itertools
import os
import subprocess

import stack_oracle as oracle
from world import BUILD

DRIVER = os.path.join(BUILD, "tests", "unit", "stack_driver")
RECORD = 4 # bytes: see enumerate() in the driver


class Disagreement(AssertionError):
    """Engine and oracle differ."""


class Driver:
    """One driver process, asked one command after the other."""

    def __init__(self, program=DRIVER, before=None):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        preexec_fn=before)
        self.numbers = {word: int(number) for word, number in
                        (pair.split("=") for pair in self.line("words").split())}

    def send(self, text):
        try:
            self.process.stdin.write(text.encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            self.fell()

    def fell(self):
        self.process.kill() # where it has closed its output and goes on
        _, error = self.process.communicate()
        raise Disagreement(f"the driver ended with {self.process.returncode}: {error.decode()[-2000:]}")

    def line(self, command):
        self.send(f"{command}\n")
        return self.read_line()

    def read_line(self):
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            self.fell()
        return line.decode().rstrip("\n")

    def read(self, size):
        data = self.process.stdout.read(size)
        if len(data) != size:
            self.fell()
        return data

    def forget(self):
        self.send("forget\n")

    def compile(self, files, name="root"):
        """How many module lines the stack has; a Disagreement where it does not compile."""
        self.forget()
        body = "".join(f"file {file} {len(text.encode())}\n{text}" for file, text in files.items())
        answer = self.line(f"{body}compile {name}")
        if not answer.startswith("ok "):
            raise Disagreement(f"{answer}\n{show(files)}")
        return int(answer[3:])

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        error = self.process.stderr.read().decode()
        self.process.stderr.close()
        if self.process.wait():
            raise AssertionError(f"the driver ended with {self.process.returncode}: {error[-2000:]}")

    def kill(self):
        self.process.kill()
        self.process.communicate()


def show(files):
    return "\n".join(f"==> {name} <==\n{text}" for name, text in files.items())


# ---- families: all stacks of a shape ----------------------------------------------------------------------------

MODULES = {"key": "who", "account": "rate"} # what the lines of a group are in enumerations; else "say"


def shaped(shape, group, controls):
    """The oracle's lines of a shape ('.' a module, '(' a substack, '[' an inclusion), with these controls."""
    numbers, chosen = itertools.count(), iter(controls)

    def level(tokens):
        lines = []
        for token in tokens:
            if token == ".":
                lines.append(oracle.Line(next(numbers), oracle.control(next(chosen)), MODULES.get(group, "say"), ()))
            elif token == "(":
                lines.append(oracle.Substack(level(tokens)))
            elif token == "[":
                lines += level(tokens)
            else:
                break
        return tuple(lines)
    return level(iter(shape))


def stack_text(shape, group, controls, codes):
    """A stack of a shape as files, each line with what its module answers, for people."""
    files, chosen = {"root": ""}, iter(zip(controls, codes))
    if group != "key":
        files["root"] = "key required who # success\n"
    stack = ["root"]
    for token in shape:
        if token == ".":
            control, code = next(chosen)
            files[stack[-1]] += f"{group} {control} {MODULES.get(group, 'say')} # {code}\n"
        elif token in "([":
            name = f"s{len(files)}"
            files[stack[-1]] += f"{group} {'substack' if token == '(' else 'include'} {name}\n"
            files[name] = ""
            stack.append(name)
        else:
            stack.pop()
    return show(files)


class Family:
    """All stacks whose one group has a shape, over some controls and codes."""

    def __init__(self, group, shape, controls, codes):
        self.group, self.shape, self.controls, self.codes = group, shape, tuple(controls), tuple(codes)
        self.lines = shape.count(".")
        self.ways = len(self.codes) ** self.lines

    def __str__(self):
        return f"{self.group} {self.shape}"

    def stacks(self):
        return itertools.product(self.controls, repeat=self.lines)

    def engine(self, driver):
        """For every choice of controls: (controls, the driver's records), in order."""
        driver.send("forget\n" + "".join(f"control {text}\n" for text in self.controls) +
                    "".join(f"code {code}\n" for code in self.codes) + f"enumerate {self.group} {self.shape}\n")
        for controls in self.stacks():
            yield controls, driver.read(self.ways * RECORD)

    def oracle(self, encode, controls):
        """The oracle's records, for one choice of controls."""
        lines = shaped(self.shape, self.group, controls)
        said = (self.codes,) * self.lines
        # the whole is too much to remember; its parts are not
        return oracle.all_outcomes.__wrapped__(encode, oracle.Block(self.group == "key"), lines, said)

    def codes_at(self, way):
        """What each line's module answers in one way."""
        found = []
        for _ in range(self.lines):
            way, code = divmod(way, len(self.codes))
            found.insert(0, self.codes[code])
        return found

    def differ(self, controls, got, wanted, numbers):
        """Says where two rows of records differ first."""
        way = next(i for i in range(self.ways) if got[i * RECORD:][:RECORD] != wanted[i * RECORD:][:RECORD])
        words = {number: word for word, number in numbers.items()}

        def say(record):
            code, said, grant, asked = record
            return (f"{words.get(code, code)}, said by line {said or '-'}, granted by {grant & 0x7f or '-'}"
                    f"{', charged' if grant & 0x80 else ''}, asked "
                    f"{[i + 1 for i in range(7) if asked >> i & 1]}{' and more' if asked & 0x80 else ''}")
        return Disagreement(f"engine: {say(got[way * RECORD:][:RECORD])}\noracle: {say(wanted[way * RECORD:][:RECORD])}\n" +
                            stack_text(self.shape, self.group, controls, self.codes_at(way)))


def encoder(numbers):
    """What makes the driver's record of an oracle's outcome."""
    def encode(outcome):
        block = outcome.block
        passed, waits = outcome.code == "success", outcome.code == oracle.PENDING
        asked = 0
        for number in block.asked:
            asked |= 1 << number
        said = 0 if outcome.place is None else outcome.place + 1
        grant = 0 if waits or block.grant is None else block.grant + 1
        return bytes((numbers[outcome.code], said, grant | (0x80 if passed and block.charged else 0), asked))
    return encode


# ---- one stack, all groups --------------------------------------------------------------------------------------

def render(stack, codes):
    """What the driver's `run` should print for a stack (see oracle.read), whose lines' modules answer `codes`."""
    each = tuple((code,) for code in codes)
    arguments = {line.number: dict(word.split("=") for word in line.arguments).get("n", "0")
                 for lines in stack.values() for line in oracle.module_lines(lines)}
    parts = []
    for group in oracle.GROUPS:
        last, = oracle.after_all.__wrapped__(oracle.Block(group == "key"), stack[group], each)
        code, place, block = oracle.outcome(last)
        part = f"{group}={code}"
        if code not in ("success", oracle.PENDING):
            part += "@-" if place is None else f"@{place}"
        if block.asked:
            part += "/" + ",".join(f"{number}:{arguments[number]}{effect}"
                                   for number, effect in zip(block.asked, block.effects))
        if block.ends:
            part += "/" + ",".join(block.ends)
        if group == "key" and block.grant is not None and code != oracle.PENDING:
            part += f"/grant={block.grant}"
        if group == "account" and code == "success" and block.charged:
            part += "/charged"
        parts.append(part)
    return " ".join(parts) + " " + (render_whole(stack, codes) if all(code in oracle.CLASS for code in codes) else "")


def render_whole(stack, codes):
    """What stack_simulate should say of all groups together."""
    answer = oracle.judge(stack, codes)
    failed = [group for group in oracle.GROUPS[:-1] if group in answer.groups and answer.groups[group].code != "success"]
    decided = failed[0] if failed else "audit" if answer.reason == "audit_full" else "all"
    text = f"{answer.verdict} {answer.reason} {decided}"
    if decided != "all" and answer.groups[decided].place is not None:
        text += f"@{answer.groups[decided].place}"
    key = answer.groups.get("key")
    if key is not None and key.block.grant is not None:
        text += f"/grant={key.block.grant}"
    asked = [number for group in oracle.GROUPS if group in answer.groups for number in answer.groups[group].block.asked]
    if asked:
        text += "/" + ",".join(str(number) for number in asked)
    account = answer.groups.get("account")
    if account is not None and account.code == "success" and account.block.charged:
        text += "/charged"
    return text
