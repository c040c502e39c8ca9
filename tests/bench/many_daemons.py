"""tests/bench/many_daemons calls this: N real daemons on one private cluster, over TCP so that bytes can be counted. What
they cost the primary while nothing happens, and while one key is revoked each second; and when each daemon knew, from the beginning of the COMMIT on. The cluster does not wait for its disk (fsync off)."""
import argparse
import json
import os
import re
import selectors
import socket
import subprocess
import sys
import time

import msgpack

from world import Cluster, Daemon, WAIT, key_hash, wait_until

parser = argparse.ArgumentParser(prog="tests/bench/many_daemons", description=__doc__)
parser.add_argument("--daemons", default="1,10,50", help="how many, one figure after the other (default %(default)s)")
parser.add_argument("--seconds", type=int, default=20, help="of each measurement (default %(default)s)")
parser.add_argument("--poll-ms", type=int, default=200, help="database.poll_ms of all of them (default %(default)s)")
parser.add_argument("--keys", type=int, default=2000, help="keys in the store (default %(default)s)")
parser.add_argument("--smoke", action="store_true", help="two daemons for moments: shows that all of it runs")
parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
args = parser.parse_args()
if args.smoke:
    args.daemons, args.seconds, args.keys = "1,2", 2, 100
COUNTS = [int(word) for word in args.daemons.split(",")]
PEPPER = os.urandom(32).hex()
TICK = os.sysconf("SC_CLK_TCK")


def progress(text):
    print(f"  … {text}", file=sys.stderr, flush=True)


# ---- what the primary does ------------------------------------------------------------------------------------------

def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(word) for word in f.read().split()]


def cpu_of(pids):
    """Seconds of these processes, and of their children that have ended."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15])
    return total / TICK


class Primary:
    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.cluster = Cluster({"listen_addresses": "127.0.0.1", "port": str(self.port), "max_connections": "300"})
        # Everything asks at this port, the socket's too.
        env, dsn = self.cluster.env, self.cluster.dsn
        self.cluster.env = lambda *a, **k: dict(env(*a, **k), PGPORT=str(self.port))
        self.cluster.dsn = lambda *a, **k: f"{dsn(*a, **k)} port={self.port}"
        self.cluster.start().install(demo=True)
        with open(os.path.join(self.cluster.data, "postmaster.pid")) as f:
            self.pid = int(f.readline())
        self.cluster.sql("select apikeyd.register_pepper(1::smallint, %s)", key_hash("apikeyd pepper check v1", PEPPER))
        self.cluster.sql("insert into apikeyd.key (id, kind, organization_id, access, hash, pepper_version) "
                         "select lpad(n::text, 10, '0'), 'organization', (select id from apikeyd.organization where slug = 'acme'), "
                         f"'read', sha256(n::text::bytea), 1 from generate_series(1, {args.keys}) n")
        self.next_key = 0

    def dsn_of_daemons(self):
        return f"host=127.0.0.1 port={self.port} user=apikeyd dbname=apikeyd sslmode=disable"

    def cpu(self):
        return cpu_of([self.pid] + children_of(self.pid))

    def transactions(self):
        return int(self.cluster.sql("select sum(xact_commit + xact_rollback) from pg_stat_database")[0][0])

    def connections(self):
        return self.cluster.sql("select count(*) from pg_stat_activity where usename = 'apikeyd'")[0][0]

    def bytes(self):
        """(sent, received) by the server on the connections that there are; None where ss cannot tell."""
        try:
            said = subprocess.run(["ss", "-tinH", f"sport = :{self.port}"], stdout=subprocess.PIPE, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return None
        return tuple(sum(int(n) for n in re.findall(rf"\b{name}:(\d+)", said)) for name in ("bytes_sent", "bytes_received"))

    def revoke(self, before_commit):
        """One key in one transaction; its revision is told before it commits. The moment of the commit."""
        self.next_key = self.next_key % args.keys + 1
        connection = self.writer
        cursor = connection.cursor()
        cursor.execute("update apikeyd.key set name = 'x' || clock_timestamp(), "
                       "revoked_at = coalesce(revoked_at, now()) where id = lpad(%s::text, 10, '0')", (self.next_key,))
        cursor.execute("select apikeyd.revision()")
        before_commit(cursor.fetchone()[0])
        began = time.monotonic()
        connection.commit()
        return began


# ---- the daemons ------------------------------------------------------------------------------------------------------

def start_daemons(primary, count):
    daemons = []
    for _ in range(count):
        daemons.append(Daemon(primary.cluster, pepper=PEPPER, conninfo=primary.dsn_of_daemons(), wait=False,
                              settings={"log.level": "warning", "database.insecure_remote": "yes",
                                        "database.poll_ms": str(args.poll_ms)}))
    for daemon in daemons:
        wait_until("its socket", daemon._answers)
        wait_until("its copy", lambda: daemon.stats()["freshness"]["state"] == "fresh", 120, step=0.05)
    return daemons


class Watchers:
    """A connection to each daemon, on which questions wait for a revision."""

    def __init__(self, daemons):
        self.selector = selectors.DefaultSelector()
        self.sockets = []
        for daemon in daemons:
            s = socket.socket(socket.AF_UNIX)
            s.connect(daemon.socket)
            self.selector.register(s, selectors.EVENT_READ)
            self.sockets.append(s)

    def ask(self, rev):
        question = msgpack.packb([0, 1, "whoami", ["ako_0000000000_" + "0" * 49, {"min_rev": rev, "deadline_ms": 20000}]])
        for s in self.sockets:
            s.sendall(question)

    def collect(self, began):
        """Milliseconds until each had answered."""
        waiting, took, end = set(self.sockets), [], time.monotonic() + WAIT
        while waiting and time.monotonic() < end:
            for key, _ in self.selector.select(1):
                key.fileobj.recv(65536)
                waiting.discard(key.fileobj)
                took.append((time.monotonic() - began) * 1000)
        if waiting:
            raise SystemExit(f"{len(waiting)} daemons did not see a change within {WAIT} s")
        return took

    def close(self):
        for s in self.sockets:
            s.close()


# ---- measuring --------------------------------------------------------------------------------------------------------

def over(primary, daemons, seconds, work):
    pids = [d.process.pid for d in daemons]
    before = (primary.cpu(), primary.transactions(), primary.bytes(), cpu_of(pids))
    began = time.monotonic()
    work(seconds)
    # Backends tell their transactions once a second at most.
    lasted = time.monotonic() - began
    after = (primary.cpu(), primary.transactions(), primary.bytes(), cpu_of(pids))
    sent, received = ((b - a) / lasted for a, b in zip(before[2], after[2])) if before[2] and after[2] else (None, None)
    return {"transactions_s": (after[1] - before[1]) / lasted, "postgres_cpu": (after[0] - before[0]) / lasted,
            "daemons_cpu": (after[3] - before[3]) / lasted, "sent_s": sent, "received_s": received}


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


def measure(primary, count):
    progress(f"{count} daemons")
    daemons = start_daemons(primary, count)
    primary.writer = primary.cluster.connect(autocommit=False)
    watchers, took = Watchers(daemons), []

    def changes(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            turn = time.monotonic() + 1
            took.extend(watchers.collect(primary.revoke(watchers.ask)))
            time.sleep(max(0, turn - time.monotonic()))
    time.sleep(1)
    row = {"daemons": count, "connections": primary.connections(), "idle": over(primary, daemons, args.seconds, time.sleep),
           "changing": over(primary, daemons, args.seconds, changes)}
    row.update(changes=len(took) // count, seen_p50_ms=percentile(took, 0.5), seen_p99_ms=percentile(took, 0.99),
               seen_max_ms=max(took))
    watchers.close()
    primary.writer.close()
    for daemon in daemons:
        daemon.signal(15)
    for daemon in daemons:
        daemon.stop()
    return row


def size(value):
    return "-" if value is None else f"{value / 1024:.1f}"


def table(rows):
    print(f"database.poll_ms = {args.poll_ms}, {args.keys} keys; per second, over {args.seconds} s; PostgreSQL and all daemons on "
          f"{os.cpu_count()} processors")
    print(f"{'daemons':>7} {'connections':>11}  {'':8} {'transactions':>12} {'PostgreSQL CPU s':>16} {'daemons CPU s':>13} "
          f"{'KiB out':>8} {'KiB in':>8}   {'revoked to seen: p50, p99, max ms':>33}")
    for row in rows:
        for phase in ("idle", "changing"):
            p = row[phase]
            first = f"{row['daemons']:>7} {row['connections']:>11}" if phase == "idle" else " " * 19
            seen = f"{row['seen_p50_ms']:.2f}, {row['seen_p99_ms']:.2f}, {row['seen_max_ms']:.2f}" if phase == "changing" else ""
            print(f"{first}  {phase:8} {p['transactions_s']:>12.1f} {p['postgres_cpu']:>16.3f} {p['daemons_cpu']:>13.3f} "
                  f"{size(p['sent_s']):>8} {size(p['received_s']):>8}   {seen:>33}")


def main():
    primary = Primary()
    rows = [measure(primary, count) for count in COUNTS]
    print(json.dumps(rows)) if args.json else table(rows)


main()
