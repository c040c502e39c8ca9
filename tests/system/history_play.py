"""A run of the history checker: who is on the stage, for how long, what is to be survived, and the figures at the end."""
import collections
import random
import threading
import time

from history_faults import DEPOSED_MS, Faults
from history_judge import Judge, Violation
from history_past import Past, Txn, now
from history_readers import Asker, Gaps, Reader
from history_resolver import Resolver
from history_stage import Stage
from history_waiter import Waiter
from history_world import World, mint
from history_writers import Idler, MARK, Writer

MAX_STALE_MS = 2000
LEASE_S = 5 # the longest that a daemon may have; who waits after a promotion waits for that
SETTINGS = {"freshness.max_stale_ms": str(MAX_STALE_MS), "database.poll_ms": "100", "database.guard_ms": "500",
            "database.backoff_max_ms": "300", "database.statement_timeout_ms": "2000",
            "database.connect_timeout_ms": "1500", "database.keepalive_ms": "1500", "freshness.heartbeat_ms": "300",
            "ledger.spool_bytes": "64M", "database.trim_ms": "0", "log.level": "info"} # what the log still has to tell must not be trimmed: a fault does

# One daemon goes on for some scopes when its copy is stale; with the heartbeats of its lease it stays within LEASE_S.
GRACE_MS = {"b": {"page:read": 1500, "incident:write": 500}}


def quantile(values, part):
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else None


class Play:
    """`primary` and `cast` as Stage takes them; `pace` and `pause`: mean seconds between a writer's transactions, and
    between a reader's questions; `scale`: of how long faults last."""

    def __init__(self, seed, writers=5, readers=2, say=print, standby=True, namespace=True, pace=0.03, pause=0.04,
                 scale=1.0, primary=None, cast=None):
        self.seed, self.say = seed, say
        self.world, self.past = World(seed), Past()
        grace = {} if cast else GRACE_MS
        self.stage = Stage(self.world, SETTINGS, standby, namespace, primary, cast, grace)
        self.build()
        self.stage.begin()
        self.judge = Judge(self.past, MAX_STALE_MS, grace)
        self.resolver = Resolver(self.stage, self.past)
        self.may_ask = threading.Event()
        self.gaps = {name: Gaps() for name in self.stage.daemons}
        self.writers = [Writer(f"writer{n}", self.stage, self.past, self.world, seed, pace) for n in range(writers)]
        self.readers = [Reader(n, self.asker(name), self.world, self.past, self.judge, self.gaps[name], seed, pause,
                               self.may_ask)
                        for name in self.stage.daemons for n in range(readers)]
        self.waiter = Waiter(self.stage, self.past, self.judge, seed)
        self.threads = [self.resolver, *self.writers, *self.readers, Idler(self.stage)]
        if not cast: # others have no registration
            self.threads.append(self.waiter)
        self.faults = Faults(self, random.Random(f"{seed} faults"), scale)
        self.injected, self.longest = collections.Counter(), collections.defaultdict(int)
        self.skipped, self.latencies = {}, []

    def build(self):
        connection = self.stage.primary.connect(autocommit=False)
        cursor = connection.cursor()
        cursor.execute(MARK)
        self.stage.lease_s = LEASE_S
        cursor.execute("select apikeyd.set_longest_lease(%s)", (f"{LEASE_S} s",))
        self.world.build(cursor)
        cursor.execute("select apikeyd.revision()")
        rev = cursor.fetchone()[0]
        connection.commit()
        connection.close()
        self.past.begin(rev, self.world.initial)
        self.stage.open[0] = self.stage.primary

    def asker(self, name):
        daemon = self.stage.daemons[name]
        return Asker(name, daemon.socket, lambda: daemon.life)

    # ---- going on ---------------------------------------------------------------------------------------------------

    def begin(self):
        self.judging = threading.Thread(target=self.judge_on, daemon=True)
        self.error, self.ending = None, False
        for thread in [*self.threads, self.judging]:
            thread.start()
        self.go(True)

    def go(self, on):
        for event in (self.stage.may_write, self.may_ask):
            event.set() if on else event.clear()

    def judge_on(self):
        try:
            while not self.ending:
                if not self.judge.work():
                    time.sleep(0.02)
        except BaseException as error: # told by `look`
            self.error = error

    def look(self):
        """Raises what any thread has come to."""
        for thread in self.threads:
            if thread.error:
                raise thread.error
        if self.error:
            raise self.error

    def wait(self, what, test, seconds=60):
        """As wait_until; and looks at what the others have come to."""
        end = time.monotonic() + seconds
        while not test():
            self.look()
            if time.monotonic() > end:
                raise Violation(f"waited {seconds} s in vain for {what}")
            time.sleep(0.02)

    def act(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(min(0.1, seconds))

    def quiet(self):
        """Nobody writes and nobody asks, and all that came is judged."""
        self.stage.may_write.clear()
        self.may_ask.clear()
        self.wait("the writers", lambda: not any(writer.busy for writer in self.writers))
        self.drain()

    def drain(self):
        """All that came is judged."""
        came = now()
        self.wait("the judge", lambda: self.past.watermark() > came)
        self.wait("the judge", lambda: not self.judge.backlog())

    def recovered(self):
        """Both daemons have what is certain by now."""
        wanted = self.past.certain(self.past.branches[-1], now())
        for name in self.stage.daemons:
            asker = self.asker(name)

            def is_good():
                batch = asker.ask([(self.world.fixed[2], "page:read", 0)], min_rev=wanted, deadline_ms=1000)
                return batch and batch.answers[0][3]["verdict"] != "unavailable"
            try:
                self.wait(f"daemon {name} to have revision {wanted}", is_good)
            finally:
                asker.close()

    def note(self, text):
        """More about the fault that is being made."""
        self.noted = f" ({text})"

    def inject(self, name):
        for gaps in self.gaps.values():
            gaps.begin()
        self.injected[name] += 1
        began = time.monotonic()
        self.noted = ""
        self.faults.all[name]()
        over = time.monotonic()
        self.recovered()
        good = now()
        self.wait("answers to readers", lambda: all(g.last > good for g in self.gaps.values()))
        longest = max(g.longest for g in self.gaps.values()) // 1000000
        self.longest[name] = max(self.longest[name], longest)
        self.say(f"{name}{self.noted}: {over - began:.1f} s, then {time.monotonic() - over:.1f} s to recover; "
                 f"longest without an answer {longest} ms")

    def possible(self, names):
        """Those of the faults that can be made here; the others are noted."""
        unknown = set(names or ()) - set(self.faults.all)
        if unknown:
            raise AssertionError(f"no such fault: {', '.join(unknown)}")
        for name in names or self.faults.all:
            why = self.faults.why_not(name)
            if why:
                self.skipped[name] = why
        return [name for name in names or self.faults.all if name not in self.skipped]

    def run(self, seconds, names=None):
        """Faults in random order, each of them as often as any other, with pauses between; and measurements."""
        end = time.monotonic() + seconds
        dice, left, possible = random.Random(f"{self.seed} order"), [], self.possible(names)
        self.act(1)
        self.measure(50)
        while time.monotonic() < end:
            if not left:
                left = list(possible)
                dice.shuffle(left)
            self.act(0.3 + dice.random())
            self.inject(left.pop())
            if sum(self.injected.values()) % 20 == 0:
                self.measure(50)

    def run_each(self, names=None):
        """Each fault once, in random order."""
        possible = self.possible(names)
        random.Random(f"{self.seed} order").shuffle(possible)
        for name in possible:
            self.act(0.2)
            self.inject(name)
        self.measure(20)

    # ---- how fast -----------------------------------------------------------------------------------------------------

    def measure(self, count):
        """Revocations while nothing else is done: from the acknowledged COMMIT to the first answer that shows it."""
        self.quiet()
        askers = [self.asker(name) for name in self.stage.daemons]
        keys = [self.world.new_key("organization", 0) for _ in range(count)]
        connection = self.stage.primary.connect()
        cursor = connection.cursor()

        def change(changes, statement):
            txn = Txn(self.stage.branch, "checker", "measured", changes)
            cursor.execute("begin")
            statement()
            cursor.execute("select apikeyd.revision()")
            txn.told = cursor.fetchone()[0]
            self.past.sending(txn)
            cursor.execute("commit")
            self.past.acknowledged(txn)
            return txn.ack
        change({("minted", key.id): True for key in keys}, lambda: [mint(cursor, key) for key in keys])
        self.recovered()
        for key in keys:
            for asker in askers:
                batch = asker.ask([(key, "page:read", 0)])
                self.judge.take(batch)
            asker = askers[len(self.latencies) % len(askers)]
            ack = change({("revoked", key.id): True}, lambda: cursor.execute(
                "update apikeyd.key set revoked_at = now() where id = %s", (key.id,)))
            while True:
                batch = asker.ask([(key, "page:read", 0)])
                self.judge.take(batch)
                if batch.answers[0][3]["reason"] == "revoked":
                    break
                time.sleep(0.0002) # not to take the processor from those who bring the news
            self.latencies.append((batch.t1 - ack) / 1e6)
        for asker in askers:
            asker.close()
        connection.close()
        self.world.bury(keys[-4:])
        self.drain()
        self.go(True)

    # ---- the end ------------------------------------------------------------------------------------------------------

    def audit(self, server, branch):
        """The log of that primary and the past name the same revisions."""
        asked = now()
        floor = server.sql("select rev from apikeyd.feed_floor")[0][0]
        log = {rev for rev, in server.sql("select rev from apikeyd.revision where rev > %s",
                                          max(floor, self.past.base))}
        self.wait("the outcome of all transactions", lambda: self.past.watermark() > asked
                  or not any(t.branch == branch for t in list(self.past.unresolved)))
        seen = self.past.branches[branch]
        with self.past.lock:
            strange = [rev for rev in log if rev not in self.past.made]
            lost = [t for t in self.past.made.values() if t.rev > max(floor, self.past.base) and t.ack is not None
                    and t.ack < asked and seen.sees(t.branch, t.rev) and t.rev not in log]
        if strange:
            raise Violation(f"revisions in the log of branch {branch} that nobody made: {strange[:5]}")
        if lost:
            raise Violation("acknowledged and not in the log any more: " + "; ".join(t.text() for t in lost[:5]))

    def end(self):
        """All is judged, and the log agrees."""
        self.quiet()
        self.audit(self.stage.primary, self.stage.branch)
        self.look()

    def close(self):
        self.ending = True
        for thread in self.threads:
            thread.ending = True
        for thread in self.threads:
            if thread.ident:
                thread.join(5)
        self.stage.close()

    def report(self):
        counts = collections.Counter()
        for writer in self.writers:
            counts += writer.count
        answers = self.judge.count
        lines = [f"seed {self.seed}", f"checks judged: {answers['judged']}",
                 f"changes: {counts['committed']} transactions committed, {counts['outcome unknown']} with an outcome that "
                 "their writer did not learn"]
        lines += [f"  {name}: {count}" for name, count in sorted(counts.items())
                  if name not in ("committed", "outcome unknown")]
        lines.append("answers: " + ", ".join(f"{reason} {n}" for reason, n in sorted(answers.items())
                                             if reason != "judged"))
        lines.append(f"faults: {sum(self.injected.values())}; of each kind, how many, and the longest time without an "
                     "answer")
        lines += [f"  {name}: {n}, {self.longest[name]} ms" for name, n in sorted(self.injected.items())]
        lines += [f"  {name}: skipped, {why}" for name, why in sorted(self.skipped.items())]
        lines.append(f"a deposed primary was followed for {max(self.judge.deposed_longest, 0) / 1e6:.0f} ms at most "
                     f"(allowed: {DEPOSED_MS})")
        lines.append(f"revisions waited for: {self.waiter.waited}, {self.waiter.longest / 1e9:.1f} s at most; "
                     f"{self.waiter.in_vain} times the primary went away")
        if self.latencies:
            lines.append(f"revoked to seen: p50 {quantile(self.latencies, 0.5):.2f} ms, p99 "
                         f"{quantile(self.latencies, 0.99):.2f} ms, of {len(self.latencies)}")
        return lines
