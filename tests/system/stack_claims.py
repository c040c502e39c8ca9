"""What must hold of all stacks, whatever the oracle says of each: judged on the engine's own records.

A column of the records of one stack is one large number, with a byte for each way in which its modules can answer: 1
where it is so. So a claim is a few operations on numbers, for all ways at once.
"""
import stack_oracle as oracle
import stack_play
from stack_play import Disagreement


def table(test):
    return bytes(bool(test(byte)) for byte in range(256))


class Claims:
    """The claims, for the stacks of one flat family ('....')."""

    def __init__(self, family, numbers):
        self.family, self.codes, self.n = family, family.codes, family.lines
        self.in_key = family.group == "key"
        self.faults = [i for i, code in enumerate(self.codes) if oracle.CLASS[code] == "fault"]
        self.everything = int.from_bytes(b"\1" * family.ways, "little")
        self.said = [[self.mask(i, c) for c in range(len(self.codes))] for i in range(self.n)]
        self.is_pass = table(lambda byte: byte == numbers["success"])
        self.is_fault = table({numbers[code] for code in oracle.FAULTS}.__contains__)
        self.is_code = [table(lambda byte, code=code: byte == numbers[code]) for code in self.codes]
        self.is_line = [table(lambda byte, i=i: byte & 0x7f == i) for i in range(self.n + 1)]
        self.is_asked = [table(lambda byte, i=i: byte >> i & 1) for i in range(self.n)]
        self.is_well = table(lambda byte: byte < 0x80)
        self.names = set() # of the claims that were made
        self.broken = {} # {claim: the first (controls, way) that broke it}

    def mask(self, line, code):
        """1 for each way in which that line's module answers that code."""
        each = len(self.codes) ** (self.n - 1 - line)
        row = b"".join((b"\1" if c == code else b"\0") * each for c in range(len(self.codes)))
        return int.from_bytes(row * len(self.codes) ** line, "little")

    def passes(self, records):
        return records[0::stack_play.RECORD].translate(self.is_pass)

    def judge(self, controls, records, fewer):
        """Judges one stack. `fewer`: {controls: passes()} of the stacks with a line less; None: there are none."""
        columns = [records[byte::stack_play.RECORD] for byte in range(stack_play.RECORD)]
        number = lambda byte, table: int.from_bytes(columns[byte].translate(table), "little")
        passed, unavailable = number(0, self.is_pass), number(0, self.is_fault)
        asked = [number(3, table) for table in self.is_asked]
        granted = [number(2, table) for table in self.is_line]
        says_why = [number(1, table) for table in self.is_line]
        codes = [number(0, table) for table in self.is_code]

        def claim(what, broken):
            self.names.add(what)
            if broken and what not in self.broken:
                self.broken[what] = controls, ((broken & -broken).bit_length() - 1) // 8
        failed = fault = could_grant = 0
        for i, text in enumerate(controls):
            does = [oracle.control(text).actions[code] for code in self.codes]
            said = [asked[i] & mask for mask in self.said[i]]
            for c, action in enumerate(does):
                if action in ("bad", "die"):
                    failed |= said[c]
                    if c in self.faults:
                        claim("a group with a fault that was bad or died never passes", passed & said[c])
                claim("the line that says why was asked, and said that", says_why[i + 1] & codes[c] & ~said[c])
            for c in self.faults:
                fault |= said[c]
            if self.in_key and does[0] in ("ok", "done") and not oracle.control(text).optional:
                could_grant |= said[0]
                claim("who grants was asked, and said success", granted[i + 1] & ~said[0])
            else:
                claim("only an identifying success that is no optional one grants", granted[i + 1])
            claim("a fault instead of another answer passes nothing more", self.fault_instead(i, does, passed))
            if fewer is not None:
                claim("a fault passes nothing that does not pass without its line",
                      self.fault_without(i, columns[0].translate(self.is_pass), fewer[controls[:i] + controls[i + 1:]]))
            if i > 0:
                claim("lines are asked in their order, and each once", asked[i] & ~asked[i - 1])
        claim("lines are asked in their order, and each once", self.everything & ~number(3, self.is_well))
        claim("a fault is the outcome only where a module said one", unavailable & ~fault)
        if self.in_key:
            claim("no pass of key without a grant", passed & granted[0])
            claim("key passes where one granted and none failed, and nowhere else", passed ^ (could_grant & ~failed))
            claim("where nothing granted, a fault is the outcome", granted[0] & fault & ~unavailable)
        else:
            claim("a group passes where no line failed, and nowhere else", passed ^ (self.everything & ~failed))

    def fault_instead(self, i, does, passed):
        """Passes with a fault on line i where another answer does not; nothing for a control that asks for just that.

        ([timeout=ignore default=bad] does, and the page gives it as an example. No word of a control does.)
        """
        if set(does) & {"bad", "die"} and not {does[c] for c in self.faults} <= {"bad", "die"}:
            return 0
        stride, broken = 8 * len(self.codes) ** (self.n - 1 - i), 0
        for f in self.faults:
            with_fault = passed & self.said[i][f]
            for c in range(len(self.codes)):
                moved = with_fault << stride * (c - f) if c > f else with_fault >> stride * (f - c)
                broken |= moved & ~passed
        return broken

    def fault_without(self, i, passed, fewer):
        """Passes with a fault on line i, where the stack without the line does not."""
        each, size = len(self.codes) ** (self.n - 1 - i), len(self.codes)
        for f in self.faults:
            rows = b"".join(passed[at:at + each] for at in range(f * each, len(passed), size * each))
            broken = int.from_bytes(rows, "little") & ~int.from_bytes(fewer, "little")
            if broken: # the ways of fewer lines, told as one of all
                block, way = divmod(((broken & -broken).bit_length() - 1) // 8, each)
                return 1 << 8 * (block * size * each + f * each + way)
        return 0

    def check(self):
        """A Disagreement where a claim was broken."""
        for what, (controls, way) in self.broken.items():
            raise Disagreement(f"{what}: not so in\n" + stack_play.stack_text(
                self.family.shape, self.family.group, controls, self.family.codes_at(way)))
