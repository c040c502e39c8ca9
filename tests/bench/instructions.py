"""tests/bench/instructions calls this: runs a daemon under callgrind and counts, per check, with and without the ledger.

Two sockets of one daemon have the same stack but for its line `ledger`. What a check costs is the difference between two
runs of the same questions, one of them longer: what is not of checks falls out.
"""
import argparse
import glob
import itertools
import json
import os
import re
import subprocess
import sys

import msgpack

from world import Cluster, Daemon, Rpc, new_dir, wait_until

SHORT, LONG = 4, 24 # rounds of all questions
TOGETHER = (1, 32, 128) # questions in one write
LINES = "caller required penalty\nkey required store\naccount required rate\naudit "
STACKS = {"recorded": LINES + "required ledger\n", "unrecorded": LINES + "none\n"}

parser = argparse.ArgumentParser(prog="tests/bench/instructions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--keys", type=int, default=64, help="keys that are asked about in turn (default %(default)s)")
parser.add_argument("--smoke", action="store_true", help="few keys: shows that it runs")
parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
args = parser.parse_args()
if args.smoke:
    args.keys = 2


class Counter:
    """The instructions of a process under callgrind, by its dumps."""

    def __init__(self, pid, out):
        self.pid, self.out = str(pid), out

    def control(self, what):
        subprocess.run(["callgrind_control", what, self.pid], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    def of(self, work):
        before = set(glob.glob(self.out + "*"))
        self.control("-z")
        work()
        self.control("-d")
        counts = []
        for path in set(glob.glob(self.out + "*")) - before: # one for each thread that did something
            with open(path) as f:
                counts += [int(n) for n in re.findall(r"^(?:totals|summary): (\d+)", f.read(), re.M)]
        return max(counts)


def ask(rpc, messages, together, rounds):
    turn = itertools.cycle(messages)
    for _ in range(rounds * len(messages) // together):
        rpc.send_raw(b"".join(next(turn) for _ in range(together)))
        for _ in range(together):
            assert rpc.receive_message()[3]["reason"] == "ok"


def main():
    cluster = Cluster().start().install(demo=True)
    work = new_dir("instructions")
    sockets = {name: os.path.join(work, name + ".sock") for name in STACKS}
    settings = {"freshness.max_stale_ms": "30min", "freshness.verify_ms": "0", "freshness.heartbeat_ms": "60s", "database.poll_ms": "60s",
                "ledger.flush_ms": "1h", "ledger.sync_ms": "0", "log.level": "warning", "confine.seccomp": "off", "confine.landlock": "off"}
    for name, path in sockets.items():
        settings.update({f"socket {name}.path": path, f"socket {name}.stack": name})
    out = os.path.join(work, "out")
    daemon = Daemon(cluster, settings, stacks=dict(STACKS, default=STACKS["recorded"]), start=False,
                    prefix=("valgrind", "--tool=callgrind", "--callgrind-out-file=" + out))
    daemon.start()
    keys = [daemon.admin("key_mint", kind="organization", org="acme", access="write")["key"] for _ in range(args.keys)]
    wait_until("the keys", lambda: daemon.check(keys[-1], "incident:read", "acme")["reason"] == "ok")
    messages = [msgpack.packb([0, number, "check", [key, "incident:read", page]])
                for number, (key, page) in enumerate(itertools.product(keys, ("acme", "acme-cloud")))]
    # So that the largest write divides them.
    messages = list(itertools.islice(itertools.cycle(messages), -(-len(messages) // max(TOGETHER)) * max(TOGETHER)))
    counter = Counter(daemon.process.pid, out)
    found = {}
    for name, path in sockets.items():
        rpc = Rpc(path)
        for together in TOGETHER:
            print(f"  … {name}, {together} in one write", file=sys.stderr, flush=True)
            ask(rpc, messages, together, 1)
            short, long = (counter.of(lambda: ask(rpc, messages, together, rounds)) for rounds in (SHORT, LONG))
            found[name, together] = (long - short) / ((LONG - SHORT) * len(messages))
        rpc.close()
    daemon.stop()
    cluster.close()
    if args.json:
        print(json.dumps({str(together): {name: found[name, together] for name in STACKS} for together in TOGETHER}))
    elif not args.smoke:
        print(f"instructions a check, {args.keys} keys on 2 pages in turn\n\n  {'in one write':<16}{'without':>10}{'with the ledger':>18}{'ratio':>8}")
        for together in TOGETHER:
            plain, recorded = found["unrecorded", together], found["recorded", together]
            print(f"  {together:<16}{plain:>10.0f}{recorded:>18.0f}{recorded / plain:>8.3f}")
    else:
        print("1..1\n" + ("ok" if min(found.values()) > 0 else "not ok") + " 1 - instructions: counted")
    sys.exit(0 if min(found.values()) > 0 else 1)


if __name__ == "__main__":
    main()
