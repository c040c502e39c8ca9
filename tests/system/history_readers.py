"""The readers of the history checker: they ask the daemons without pause and hand what comes to the judge."""
import random
import threading
import time

from history_judge import Batch, Violation
from history_past import now
from history_world import PAGES, SCOPES
from world import Closed, Rpc, RpcError

PATIENCE = 60 # seconds in which an answer has to come, from a daemon that nobody has stopped


def shorten(answer):
    """What the judge wants of a verdict map."""
    kept = {name: answer[name] for name in ("verdict", "reason", "rev", "age_ms")}
    if "stale" in answer:
        kept["stale"] = answer["stale"]
    return kept


class Gaps:
    """For how long a daemon gave no answer that decides anything."""

    def __init__(self):
        self.last, self.longest = now(), 0

    def begin(self):
        self.last, self.longest = max(self.last, now() - 50000000), 0

    def good(self, time):
        self.longest = max(self.longest, time - self.last)
        self.last = max(self.last, time)


class Asker:
    """Sends questions over one connection and judges nothing. Not for two threads."""

    def __init__(self, name, path, life):
        self.name, self.path, self.life = name, path, life
        self.rpc, self.rpc_life = None, None

    def connect(self):
        if self.rpc is None:
            self.rpc_life = self.life()
            self.rpc = Rpc(self.path, PATIENCE)

    def close(self):
        if self.rpc is not None:
            self.rpc.close()
            self.rpc = None

    def ask(self, questions, many=False, min_rev=None, deadline_ms=200):
        """A Batch; None where the daemon is not there."""
        context = {"min_rev": min_rev, "deadline_ms": deadline_ms} if min_rev is not None else {}
        try:
            self.connect()
            t0 = now()
            if many:
                key = questions[0][0]
                got = self.rpc.call("check_many", key.text, [[s, f"page{p}"] for _, s, p in questions], context)
            else:
                sent = [self.rpc.send("check", k.text, s, f"page{p}", context) for k, s, p in questions]
                got = [self.rpc.receive(number) for number in sent]
            t1 = now()
        except TimeoutError:
            raise Violation(f"daemon {self.name} has not answered within {PATIENCE} s")
        except RpcError as error:
            raise Violation(f"daemon {self.name} answered a question with the error {error}")
        except (OSError, Closed):
            self.close()
            return None
        answers = [(k, s, p, shorten(answer)) for (k, s, p), answer in zip(questions, got)]
        return Batch(self.name, self.rpc_life, t0, t1, answers, many, min_rev)


class Reader(threading.Thread):
    def __init__(self, number, asker, world, past, judge, gaps, seed, pause, may_ask):
        super().__init__(name=f"reader {asker.name}{number}", daemon=True)
        self.asker, self.world, self.past, self.judge, self.gaps = asker, world, past, judge, gaps
        self.dice = random.Random(f"{seed} {self.name}")
        self.pause, self.may_ask = pause, may_ask
        self.ending, self.error = False, None

    def run(self):
        try:
            while not self.ending:
                if not self.may_ask.wait(0.2):
                    continue
                batch = self.one()
                if batch is not None:
                    self.judge.take(batch)
                    if any(answer["verdict"] != "unavailable" for _, _, _, answer in batch.answers):
                        self.gaps.good(batch.t1)
                time.sleep(self.pause * (0.5 + self.dice.random()) if batch else 0.02)
        except BaseException as error: # told by who runs the play
            self.error = error
        finally:
            self.asker.close()

    def one(self):
        dice = self.dice
        min_rev = None
        if dice.random() < 0.15 and self.past.order:
            min_rev = self.past.order[-1] # committed, but perhaps not yet seen there
        if dice.random() < 0.3:
            key = self.world.pick(dice)
            pairs = [(key, scope, page) for page in range(PAGES) for scope in SCOPES]
            return self.asker.ask(dice.sample(pairs, dice.randint(2, 12)), many=True, min_rev=min_rev)
        return self.asker.ask([self.world.question(dice) for _ in range(dice.randint(1, 20))], min_rev=min_rev)
