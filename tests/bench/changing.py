"""What checks feel of changes: latencies before, during and after one large transaction, and a reload of everything.

Questions come at a steady rate, each when its time has come (bench_load --rate), and what an answer took counts from
then. Two keys at the two ends of the change are asked together all the while: no answer may show one of them changed and
the other not, at the same revision; and so it is known when the change is visible.
"""
import array
import json
import os
import subprocess
import threading
import time

CONNECTIONS = 4


class Watch(threading.Thread):
    """Asks about two keys together until both have the reason that is waited for; what was seen stands in `halves`."""

    def __init__(self, rpc, keys, page, wanted):
        super().__init__()
        self.rpc, self.keys, self.page, self.wanted = rpc, keys, page, wanted
        self.halves, self.seen_at, self.asked = [], None, 0

    def run(self):
        while self.seen_at is None:
            ids = [self.rpc.send("check", key, "page:read", self.page) for key in self.keys]
            answers = [self.rpc.receive(number) for number in ids]
            self.asked += 1
            if answers[0]["rev"] == answers[1]["rev"] and len({a["reason"] == self.wanted for a in answers}) > 1:
                self.halves.append(answers)
            if answers[1]["reason"] == self.wanted:
                self.seen_at = time.monotonic()
            time.sleep(0.003)


class Load:
    """bench_load at a steady rate, in the background, with a trace."""

    def __init__(self, program, socket, requests, rate, seconds, directory, pin):
        self.trace = os.path.join(directory, f"trace-{time.monotonic_ns()}")
        self.process = subprocess.Popen(pin([program, "--socket", socket, "--connections", str(CONNECTIONS), "--depth", "1",
                                             "--seconds", str(seconds), "--requests", requests, "--rate", str(rate),
                                             "--trace", self.trace]), stdout=subprocess.PIPE)

    def end(self):
        """The generator's own line, and (when, took) of each answer in seconds and microseconds."""
        line = json.loads(self.process.communicate()[0])
        with open(self.trace, "rb") as f:
            numbers = array.array("q", f.read())
        os.unlink(self.trace)
        return line, [(when / 1e9, took / 1e3) for when, took in zip(numbers[::2], numbers[1::2])]


def percentiles(samples, begin, end):
    took = sorted(took for when, took in samples if begin <= when < end)
    if not took:
        return {"n": 0, "p50_us": 0.0, "p99_us": 0.0, "max_us": 0.0}
    return {"n": len(took), "p50_us": took[len(took) // 2], "p99_us": took[int(len(took) * 0.99)], "max_us": took[-1]}


def tidying(begin, visible):
    """How long what was changed may be tidied up after it was seen, generously."""
    return min(visible - begin, 2)


def phases(samples, begin, visible, end, lead):
    """Before; from the change's beginning until as long after it was seen as tidying may take; after that."""
    tidied = visible + tidying(begin, visible)
    return {"before": percentiles(samples, begin - lead, begin), "during": percentiles(samples, begin, tidied),
            "after": percentiles(samples, tidied, end)}


def measure(program, socket, requests, rate, directory, pin, lead, rpc, keys, page, wanted, change):
    """Runs change() under load; it returns when its transaction has been committed, with the time at which that began."""
    load = Load(program, socket, requests, rate, 3600, directory, pin)
    time.sleep(lead + 0.5)
    watch = Watch(rpc, keys, page, wanted)
    watch.start()
    begin = change()
    committed = time.monotonic()
    watch.join()
    time.sleep(tidying(begin, watch.seen_at) + lead)
    end = time.monotonic()
    load.process.send_signal(15)
    line, samples = load.end()
    got = phases(samples, begin, watch.seen_at, end, lead)
    return dict(got, visible_s=watch.seen_at - committed, halves=len(watch.halves), asked=watch.asked,
                wrong=line["wrong"] + line["lost"] + line["duplicated"] + len(watch.halves))
