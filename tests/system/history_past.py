"""What really happened: every transaction, its revision, what it set, and when it was certain that all could see it.

The past is a tree. A branch is what one primary committed; a promoted standby begins another one, which has of its
parent all up to a limit: what the parent committed beyond that is lost. Revisions are unique over all branches. A
branch sees its own revisions and of its ancestors those up to its limits.

Nothing here knows of a database or a daemon; writers, the resolver and the judge share it under its lock.
"""
import bisect
import threading
import time

import history_world


def now():
    """Nanoseconds of the clock that goes on while the machine sleeps: the daemon's own measure of age."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Txn:
    """A transaction, from its first statement until its outcome is known."""
    __slots__ = ("branch", "number", "pid", "xid", "changes", "sent", "ack", "told", "rev", "shape", "writer")

    def __init__(self, branch, writer="", shape="", changes=None):
        self.branch, self.writer, self.shape = branch, writer, shape
        self.changes = changes or {}
        self.number = self.pid = self.xid = self.sent = self.ack = self.told = self.rev = None

    def text(self, origin=0):
        def at(t):
            return "-" if t is None else f"{(t - origin) / 1e6:.3f} ms"
        changes = self.changes if len(self.changes) <= 12 else f"{len(self.changes)} facts"
        return (f"revision {self.rev} branch {self.branch} txn {self.xid} {self.writer} ({self.shape}): COMMIT sent "
                f"{at(self.sent)}, seen by all {at(self.ack)}: {changes}")


class Bound:
    """Events (time, revision): what is the highest revision of those before a time?"""

    def __init__(self):
        self.times, self.revs, self.highest = [], [], []

    def add(self, time, rev):
        at = bisect.bisect_right(self.times, time)
        self.times.insert(at, time)
        self.revs.insert(at, rev)
        del self.highest[at:]
        for value in self.revs[at:]:
            self.highest.append(max(value, self.highest[-1]) if self.highest else value)

    def before(self, time):
        at = bisect.bisect_left(self.times, time)
        return self.highest[at - 1] if at else 0


class Branch:
    """`began`: before its primary was one. `ended`: after that nobody may take it for the primary; None: it is."""

    def __init__(self, number, limits, began):
        self.number, self.limits, self.began, self.ended = number, limits, began, None
        self.certain = Bound()

    def sees(self, branch, rev):
        return branch == self.number or rev <= self.limits.get(branch, -1)


class Past:
    def __init__(self):
        self.lock = threading.RLock()
        self.branches = []
        self.made = {}          # revision -> Txn
        self.order = []         # revisions, ascending
        self.facts = {}         # fact -> (revisions ascending, branches, values)
        self.unresolved = set() # COMMIT was sent, and its revision or its failure is not known yet
        self.base = 0

    def begin(self, rev, initial):
        """The world as it was built, at that revision."""
        self.base = rev
        self.branches = [Branch(0, {}, now())]
        txn = Txn(0, "world", "initial", dict(initial))
        txn.sent = txn.ack = now()
        self.resolve(txn, rev)

    def fork(self, limit, began):
        """A standby was promoted that has the newest branch up to `limit`; the time is from before it was."""
        with self.lock:
            parent = self.branches[-1]
            limits = {number: min(rev, limit) for number, rev in parent.limits.items()}
            limits[parent.number] = limit
            branch = Branch(parent.number + 1, limits, began)
            branch.certain.add(now(), limit)
            self.branches.append(branch)
            return branch

    # ---- transactions -----------------------------------------------------------------------------------------------

    def sending(self, txn):
        """Just before COMMIT is sent: from now on it may be seen."""
        with self.lock:
            txn.sent = now()
            self.unresolved.add(txn)

    def acknowledged(self, txn):
        with self.lock:
            txn.ack = now()
            if txn.told:
                self.resolve(txn, txn.told)

    def aborted(self, txn):
        """It is certain that it had no effect."""
        with self.lock:
            self.unresolved.discard(txn)

    def resolve(self, txn, rev, seen=None):
        """It was committed as that revision. `seen`: when it had been seen by a session of another's."""
        with self.lock:
            self.unresolved.discard(txn)
            if rev in self.made:
                if self.made[rev] is not txn:
                    raise AssertionError(f"two transactions have one revision: {txn.text()}; {self.made[rev].text()}")
                return
            txn.rev = rev
            times = [t for t in (txn.ack, seen) if t is not None]
            txn.ack = min(times) if times else None
            self.made[rev] = txn
            bisect.insort(self.order, rev)
            if txn.ack is not None:
                self.branches[txn.branch].certain.add(txn.ack, rev)
            for fact, value in txn.changes.items():
                revs, branches, values = self.facts.setdefault(fact, ([], [], []))
                at = bisect.bisect_left(revs, rev)
                revs.insert(at, rev)
                branches.insert(at, txn.branch)
                values.insert(at, value)

    def watermark(self):
        """All that could have been seen before this time is resolved."""
        with self.lock:
            return min((txn.sent for txn in self.unresolved), default=now())

    # ---- states -----------------------------------------------------------------------------------------------------

    def value(self, rev, fact):
        """What the fact was at that revision, which was made."""
        with self.lock:
            found = self.facts.get(fact)
            if found:
                branch = self.branches[self.made[rev].branch]
                revs, branches, values = found
                at = bisect.bisect_right(revs, rev) - 1
                while at >= 0:
                    if branch.sees(branches[at], revs[at]):
                        return values[at]
                    at -= 1
        return history_world.default_of(fact)

    def certain(self, branch, time):
        """The highest revision that was certain to be seen by who read that branch's primary at that time."""
        with self.lock:
            return branch.certain.before(time)

    def around(self, rev, count=6):
        with self.lock:
            at = bisect.bisect_left(self.order, rev)
            return [self.made[r] for r in self.order[max(0, at - count):at + count]]
