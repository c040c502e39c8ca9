"""The judge: whether an answer may stand, by the revision and the age that it names. The first that may not ends all.

What is judged, of each answer:
 - verdict and reason are what the state at `rev` says, and `rev` is a revision that was made, whose COMMIT had been
   sent when the answer came;
 - whatever was certain to be seen by all `age_ms` before the question was sent is in it: `rev` is as high, on a branch
   whose primary could be taken for the primary then;
 - age and state of the copy agree: answers within max_stale, `stale` only beyond it and where grace allows it,
   UNAVAILABLE only for a reason that there is, and in grace of all that the copy does not hold;
 - `min_rev` is kept, and nobody who was waited for answers from before; all pairs of a check_many are of one revision; a daemon's revision does not go back, but where a
   later branch lost what it had;
 - what a daemon has answered as revoked, retired or disabled stays so in its answers, in this life and the next ones, where
   the revision that it answered from was lost since; what it may have known from what was lost may stay so.
"""
import bisect
import collections
import heapq

from history_world import DEAD, rule


UNKNOWN = ("unknown_key", "unknown_page") # what a stale copy does not hold may have been made since


class Violation(Exception):
    """An answer that contradicts itself or the past."""


class Batch:
    """Questions that were sent together, and what came. Times are CLOCK_BOOTTIME; t0 is from before the first byte was
    sent, t1 from after the last one came. `answers`: (key, scope, page, verdict map) of each question."""
    __slots__ = ("daemon", "life", "t0", "t1", "many", "min_rev", "answers")

    def __init__(self, daemon, life, t0, t1, answers, many=False, min_rev=None):
        self.daemon, self.life, self.t0, self.t1 = daemon, life, t0, t1
        self.many, self.min_rev, self.answers = many, min_rev, answers


class Told:
    """How far a daemon had come in its answers, by the time when they had been received."""

    def __init__(self):
        self.times, self.places = [], []

    def before(self, time):
        at = bisect.bisect_left(self.times, time)
        return self.places[at - 1] if at else None

    def add(self, time, place):
        at = bisect.bisect_right(self.times, time)
        self.times.insert(at, time)
        self.places.insert(at, max(place, self.places[at - 1]) if at else place)
        for later in range(at + 1, len(self.places)):
            self.places[later] = max(self.places[later], place)
        if len(self.times) > 20000:
            del self.times[:10000], self.places[:10000]


class Judge:
    def __init__(self, past, max_stale_ms, grace_ms=None, deposed_ms=0):
        """grace_ms: {daemon: {scope: milliseconds}}."""
        self.past, self.max_stale, self.grace = past, max_stale_ms, grace_ms or {}
        self.lock_free = collections.deque() # batches that came, in no order
        self.waiting = []                    # a heap of them by t1
        self.waits = collections.deque(maxlen=100) # (time, branch, rev): waited for until then
        self.told = {}                       # (daemon, life) -> Told
        self.expected = {}                   # (rev, key, scope, page) -> reason: what was worked out lately
        self.count = collections.Counter()
        self.deposed_longest = 0
        self.denied = {}     # (daemon, key) -> {denial: (time, branch, revision)}, as it last answered
        self.losing = set()  # branches that are known to lack something that was committed elsewhere

    # ---- taking and waiting -----------------------------------------------------------------------------------------

    def take(self, batch):
        """From any thread."""
        self.lock_free.append(batch)

    def waited(self, time, branch, rev):
        """From any thread: who waited for that revision was told by then that all daemons have it."""
        self.waits.append((time, branch, rev))

    def backlog(self):
        return len(self.lock_free) + len(self.waiting)

    def work(self, most=2000):
        """Judges what can be judged by now; how many batches that were."""
        watermark, done = self.past.watermark(), 0
        while self.lock_free:
            batch = self.lock_free.popleft()
            heapq.heappush(self.waiting, (batch.t1, id(batch), batch))
        while self.waiting and self.waiting[0][0] < watermark and done < most:
            self.judge(heapq.heappop(self.waiting)[2])
            done += 1
        return done

    # ---- judging ----------------------------------------------------------------------------------------------------

    def judge(self, batch):
        if batch.many and len({(a["rev"], a["age_ms"]) for _, _, _, a in batch.answers}) > 1:
            self.fail(batch, batch.answers[0], "all pairs of a check_many are from one revision")
        place, least = None, self.least(batch)
        for item in batch.answers:
            answer = item[3]
            if (answer["verdict"] == "allow") != (answer["reason"] == "ok"):
                self.fail(batch, item, "allow is ok, and ok is allow")
            self.count[answer["reason"]] += 1
            self.count["judged"] += 1
            if answer["verdict"] == "unavailable":
                self.judge_unavailable(batch, item)
                continue
            self.judge_age(batch, item)
            self.judge_rev(batch, item)
            if answer["rev"] < least:
                self.fail(batch, item, f"at least revision {least}, which had been waited for")
            self.judge_fresh(batch, item)
            self.judge_reason(batch, item)
            here = (self.past.made[answer["rev"]].branch, answer["rev"])
            place = max(place, here) if place else here
        if place:
            self.told.setdefault((batch.daemon, batch.life), Told()).add(batch.t1, place)

    def least(self, batch):
        """The highest revision that had been waited for when the question was sent, and that was not lost since."""
        later = [branch for branch in self.past.branches if branch.began < batch.t1]
        return max((rev for time, number, rev in list(self.waits) if time < batch.t0
                    and all(branch.sees(number, rev) for branch in later if branch.number > number)), default=0)

    def grace_of(self, batch, scope):
        return self.grace.get(batch.daemon, {}).get(scope, 0)

    def judge_unavailable(self, batch, item):
        _, scope, _, answer = item
        rev, age, reason = answer["rev"], answer["age_ms"], answer["reason"]
        told = self.told.get((batch.daemon, batch.life))
        if reason == "stale":
            if self.max_stale < age <= self.max_stale + self.grace_of(batch, scope) and self.reason_of(item) in UNKNOWN:
                self.count["stale in grace"] += 1
            elif age <= self.max_stale + self.grace_of(batch, scope):
                self.fail(batch, item, f"no answer is refused as stale within {self.max_stale} ms and the scope's grace")
        elif reason == "behind":
            if batch.min_rev is None or rev >= batch.min_rev:
                self.fail(batch, item, f"behind only where min_rev ({batch.min_rev}) is beyond it")
        elif reason == "not_loaded":
            if rev or told and told.before(batch.t0):
                self.fail(batch, item, "who has answered has loaded")
        else:
            self.fail(batch, item, "no such reason here")

    def judge_age(self, batch, item):
        _, scope, _, answer = item
        age, stale = answer["age_ms"], answer.get("stale", False)
        if age > self.max_stale + self.grace_of(batch, scope):
            self.fail(batch, item, f"UNAVAILABLE: the copy is older than {self.max_stale} ms and the scope's grace")
        if stale != (age > self.max_stale):
            self.fail(batch, item, f"`stale` stands there where the copy is older than {self.max_stale} ms")
        if stale and answer["reason"] in UNKNOWN:
            self.fail(batch, item, "UNAVAILABLE: a stale copy does not know what it does not hold")
        self.count["stale: true"] += stale

    def judge_rev(self, batch, item):
        rev, past = item[3]["rev"], self.past
        made = past.made.get(rev)
        if made is None:
            self.fail(batch, item, "a revision that was made")
        if made.sent > batch.t1:
            self.fail(batch, item, f"nothing of a transaction before its COMMIT was sent: {made.text(batch.t0)}")
        if batch.min_rev is not None and rev < batch.min_rev:
            self.fail(batch, item, f"at least the min_rev that was asked for, {batch.min_rev}")
        told = self.told.get((batch.daemon, batch.life))
        before = told and told.before(batch.t0)
        if not before or (made.branch, rev) >= before and (rev >= before[1] or made.branch > before[0]):
            return
        # It went back: only a branch that lost the one and has the other excuses that.
        for branch in past.branches[before[0] + 1:]:
            if branch.began < batch.t1 and branch.sees(made.branch, rev) and not branch.sees(*before):
                self.count["went back after a loss"] += 1
                return
        self.fail(batch, item, f"never back: it had answered from revision {before[1]} (branch {before[0]}) before")

    def judge_fresh(self, batch, item):
        """The read that confirmed the copy was sent to a server that was the primary then: `age_ms` before the answer was
        made, which was at some time while the question was out. What all could see at the first moment that may have been
        is in it; that is `read`, or when a primary began that came within that time."""
        rev, past = item[3]["rev"], self.past
        age = item[3]["age_ms"]
        read, latest = batch.t0 - age * 1000000, batch.t1 - (age - 1) * 1000000 # an age is rounded up
        made, newest, wanted = past.made[rev], None, None
        for branch in reversed(past.branches):
            if branch.began > latest or branch.ended is not None and branch.ended < read:
                continue
            first = max(read, branch.began)
            newest = newest or branch
            wanted = wanted or past.certain(branch, first)
            if branch.sees(made.branch, rev) and past.certain(branch, first) <= rev:
                if branch is not newest:
                    self.count["of a deposed primary"] += 1
                    self.deposed_longest = max(self.deposed_longest, read - newest.began)
                return
        lacks = past.made.get(wanted)
        self.fail(batch, item, f"at least revision {wanted} of branch {newest.number if newest else None}, which all "
                  f"could see {item[3]['age_ms']} ms before the question was sent: {lacks and lacks.text(batch.t0)}")

    def reason_of(self, item):
        """By the state at the revision that the answer names."""
        key, scope, page, answer = item
        asked = (answer["rev"], key.id, scope, page)
        reason = self.expected.get(asked)
        if reason is None:
            if len(self.expected) > 50000:
                self.expected.clear()
            reason = self.expected[asked] = rule(lambda fact: self.past.value(answer["rev"], fact), key, scope, page)
        return reason

    def judge_reason(self, batch, item):
        key, _, _, answer = item
        reason, kept = self.reason_of(item), self.must_keep(batch, item)
        if kept or answer["reason"] != reason:
            self.judge_kept(batch, item, reason, kept)
        if answer["reason"] in DEAD:
            self.denied.setdefault((batch.daemon, key.id), {})[answer["reason"]] = (
                batch.t1, self.past.made[answer["rev"]].branch, answer["rev"])

    # ---- what a lost history must not take back ---------------------------------------------------------------------

    def followed(self, batch, item):
        """The branches whose primary it may have followed: they see what it answered from."""
        rev = item[3]["rev"]
        branch = self.past.made[rev].branch
        return [b for b in self.past.branches if b.sees(branch, rev) and b.began < batch.t1]

    def must_keep(self, batch, item):
        """The denials that this daemon has answered from what was lost since, and that nobody undid."""
        key, rev = item[0], item[3]["rev"]
        denied = self.denied.get((batch.daemon, key.id))
        if not denied:
            return []
        here = self.followed(batch, item)
        return [denial for denial, (time, branch, known) in denied.items() if time < batch.t0
                and not any(b.sees(branch, known) and known <= rev for b in here)
                and not self.may_be_undone(here, rev, branch, known, (denial, key.id))]

    def may_be_undone(self, here, rev, branch, known, fact):
        """Where it was lost, after that; or here, where the daemon found the database to say the same."""
        if fact[0] == "revoked":
            return False
        with self.past.lock:
            found = list(zip(*self.past.facts.get(fact, ([], [], []))))
        made = [(at, number) for at, number, value in found if at <= known and self.past.branches[branch].sees(number, at)]
        if made and any(b.sees(max(made)[1], max(made)[0]) for b in here if not b.sees(branch, known)):
            return True # what it had answered was not lost itself
        for b in self.past.branches[branch + 1:]:
            inherited = [(at, value) for at, number, value in found if number != b.number and b.sees(number, at)]
            if not b.sees(branch, known) and inherited and max(inherited)[1]:
                return True # it was lost, and had been so before already: the new history began with it
        return any(number == branch and at > known and not value or number != branch and at <= rev and value
                   for at, number, value in found)

    def may_keep(self, batch, here, fact):
        """It was so at a time, and history was lost since then."""
        if here.number not in self.losing and any(
                not here.sees(txn.branch, rev) and txn.sent < batch.t1 for rev, txn in self.past.made.items()):
            self.losing.add(here.number)
        revs, _, values = self.past.facts.get(fact, ([], [], []))
        return here.number in self.losing and any(
            value and self.past.made[rev].sent < batch.t1 for rev, value in zip(revs, values))

    def judge_kept(self, batch, item, reason, must):
        key, scope, page, answer = item
        with self.past.lock:
            here = self.followed(batch, item)
            choices = [{}]
            for denial in DEAD:
                fact = (denial, key.id)
                if denial in must:
                    choices = [{**held, fact: True} for held in choices]
                elif any(self.may_keep(batch, branch, fact) for branch in here):
                    choices += [{**held, fact: True} for held in choices]
        reasons = [rule(lambda fact, held=held: held.get(fact) or self.past.value(answer["rev"], fact), key, scope, page)
                   for held in choices]
        if answer["reason"] not in reasons:
            self.fail(batch, item, f"{must[0]}, which it had answered before history was lost" if must
                      else f"{reason}, by the state at that revision")
        self.count["kept denied after a loss"] += answer["reason"] != reason

    # ---- telling ----------------------------------------------------------------------------------------------------

    def fail(self, batch, item, wanted):
        key, scope, page, answer = item
        lines = [f"daemon {batch.daemon} (life {batch.life}) was asked at 0 ms and had answered by "
                 f"{(batch.t1 - batch.t0) / 1e6:.3f} ms"
                 + (f", with min_rev {batch.min_rev}" if batch.min_rev is not None else "")
                 + (", in a check_many" if batch.many else ""),
                 f"question: key {key.id} ({key.kind} of {key.owner}) {scope} page {page}", f"answer: {answer}",
                 f"wanted: {wanted}"]
        rev, past = answer["rev"], self.past
        if rev in past.made:
            about = [("minted", key.id), *((d, key.id) for d in ("revoked", "retired", "disabled", "access", "pages",
                     "scopes")), ("user", key.owner), ("role", key.owner), ("page_role", key.owner, page),
                     ("org", key.org), ("page", page), ("crowd",)]
            lines.append(f"the state at that revision: { {f: past.value(rev, f) for f in about if f in past.facts} }")
        for denial, (time, branch, known) in self.denied.get((batch.daemon, key.id), {}).items():
            set_by = list(zip(*past.facts.get((denial, key.id), ([], [], []))))
            lines.append(f"{denial} was answered by {(time - batch.t0) / 1e6:.3f} ms of revision {known} (branch {branch}); "
                         f"it was set by (revision, branch, value): {set_by[-12:]}")
        lines.append("the branches: " + "; ".join(
            f"{b.number} from {(b.began - batch.t0) / 1e6:.3f} ms"
            + (f" to {(b.ended - batch.t0) / 1e6:.3f} ms" if b.ended else "") + (f" has {b.limits}" if b.limits else "")
            for b in past.branches[-4:]))
        lines.append("the transactions around it:")
        lines += ["  " + txn.text(batch.t0) for txn in past.around(rev)]
        raise Violation("\n".join(lines))
