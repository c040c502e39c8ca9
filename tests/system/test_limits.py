"""Every limit of [limits] has a counter in `stats` that moves when the limit bites. A new one must be put into LIMITS.

Each is made to bite in a daemon of its own that has it as low as it goes."""
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *

JUNK = make_key("user")
FOREVER = {"min_rev": 1 << 60, "deadline_ms": 600000}
SHARED = {}


def store():
    """A cluster with pages, and a key for them."""
    if not SHARED:
        cluster = Cluster().start().install(demo=True)
        daemon = Daemon(cluster)
        SHARED.update(cluster=cluster, pepper=daemon.pepper,
                      key=daemon.admin("key_mint", kind="organization", org="acme", access="read")["key"])
        daemon.close()
    return SHARED["cluster"]


class Bite:
    """One limit's daemon."""

    def __init__(self, t, settings, database=False, stacks=None, prefix=()):
        self.t, self.stats = t, None # stats: a connection that is let in where no other is
        cluster = store() if database else None
        self.key = SHARED["key"] if database else JUNK
        self.daemon = t.keep(Daemon(cluster, settings, pepper=SHARED["pepper"] if database else None, stacks=stacks,
                                    prefix=prefix, wait=True if database else "socket"))

    def rpc(self):
        return self.t.keep(self.daemon.rpc())

    def connect(self):
        sock = self.t.keep(socket.socket(socket.AF_UNIX))
        sock.settimeout(WAIT)
        sock.connect(self.daemon.socket)
        return sock

    def wait_for(self, rpc, pairs=None, **context):
        """A question that waits, as long as it is let."""
        context = {**FOREVER, **context}
        if pairs:
            return rpc.send("check_many", self.key, pairs, context)
        return rpc.send("check", self.key, "page:read", "acme", context)


def drain(sock):
    """Reads to the end."""
    while sock.recv(1 << 16):
        pass


def packed(*message):
    return msgpack.packb(list(message))


def message_bytes(t, low):
    bite = Bite(t, low)
    bite.connect().sendall(packed(0, 1, "check", ["x" * 2000, "a:b", None]))
    return bite


def read_bytes(t, low):
    bite = Bite(t, low)
    bite.connect().sendall(packed(0, 1, "check", [JUNK, "a:b", None]) * 100) # one piece for the kernel, more than one read
    return bite


def connections(t, low):
    bite = Bite(t, {**low, "limits.connections": 2})
    return crowded(bite)


def connections_per_uid(t, low):
    bite = Bite(t, {**low, "limits.connections_per_uid": 2})
    return crowded(bite)


def crowded(bite):
    """One more than the two that are let in, one of which asks for the counters."""
    def let_in(): # the one that saw the daemon start may not be seen to have gone yet
        rpc = bite.rpc()
        with contextlib.suppress(OSError, Closed):
            rpc.call("hello", {})
            return rpc
    bite.stats = wait_until("a connection", let_in)
    for _ in range(2):
        bite.connect()
    return bite


def two_wait(t, low, apart):
    bite = Bite(t, low, database=True)
    rpc = bite.rpc()
    bite.wait_for(rpc)
    if apart:
        wait_until("the first to wait", lambda: bite.daemon.stats()["waiting"] == 1)
    bite.wait_for(bite.rpc() if apart else rpc)
    return bite


def waiting_bytes(t, low):
    bite = Bite(t, low, database=True)
    rpc = bite.rpc()
    for _ in range(4):
        bite.wait_for(rpc, [["page:read", "acme"]] * 1000)
    return bite


def module_pending(t, low):
    stack = ("caller none\nkey required store\naccount required rate\n"
             "scope required exec [command=/bin/sleep 100000] timeout=10min workers=1\naudit none\n")
    bite = Bite(t, low, database=True, stacks={"default": stack})
    for _ in range(2):
        bite.wait_for(bite.rpc(), min_rev=0)
    return bite


def output_bytes(t, low):
    bite = Bite(t, low)
    sock = bite.connect()
    sock.setblocking(False)
    data = packed(0, 1, "check", [JUNK, "a:b", None]) * 100
    rest = data

    def full():
        nonlocal rest
        with contextlib.suppress(BlockingIOError):
            while True: # until neither side takes any more
                rest = rest[sock.send(rest):] or data
        return bite.daemon.stats()["paused_slow_readers"]
    wait_until("it to be held up", full)
    return bite


def partial_message(t, low):
    bite = Bite(t, low)
    bite.connect().sendall(packed(0, 1, "check", [JUNK, "a:b", None])[:-1])
    return bite


def idle(t, low):
    bite = Bite(t, {**low, "limits.idle_ms": 1000}) # room for who asks
    drain(bite.connect())
    return bite


def pairs(t, low):
    bite = Bite(t, low)
    bite.rpc().send("check_many", JUNK, [["a:b", None]] * 2)
    return bite


def pages_per_answer(t, low):
    bite = Bite(t, low, database=True)
    t.ok(bite.rpc().call("pages", bite.key, "page:read")["next"], "there are more")
    return bite


def deadline(t, low):
    bite = Bite(t, low, database=True)
    t.equal(bite.rpc().call("check", bite.key, "page:read", "acme", {"min_rev": 1 << 60})["reason"], "behind")
    return bite


def deadline_max(t, low):
    bite = Bite(t, {**low, "limits.deadline_ms": 1}, database=True)
    bite.wait_for(bite.rpc())
    return bite


# What a service manager does: a socket that listens is the daemon's from its start.
PASSES = """import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(os.path.join(os.path.dirname(sys.argv[-1]), "check.sock"))
s.listen()
if s.fileno() != 3:
    os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="socket")
os.execv(sys.argv[1], sys.argv[1:])
"""


def start(t, low):
    return Bite(t, low, prefix=[sys.executable, "-c", PASSES])


def stop(t, low):
    bite = Bite(t, {**low, "limits.stop_ms": 1}, database=True)
    rpc = bite.rpc()
    bite.wait_for(rpc)
    wait_until("it to wait", lambda: bite.daemon.stats()["waiting"] == 1)
    t.equal(bite.daemon.stop(), 0)
    t.contains(bite.daemon.log(), "had not come to their end after limits.stop_ms")
    return None


# The setting: the counter, and what makes it bite. One whose daemon is gone when it does has a line of the log instead.
LIMITS = {
    "message_bytes": ("closed_malformed", message_bytes),
    "read_bytes": ("limit_read_bytes", read_bytes),
    "connections": ("refused_connections", connections),
    "connections_per_uid": ("refused_connections_per_uid", connections_per_uid),
    "in_flight_per_connection": ("limit_in_flight", lambda t, low: two_wait(t, low, False)),
    "waiting": ("limit_waiting", lambda t, low: two_wait(t, low, True)),
    "waiting_bytes": ("limit_waiting_bytes", waiting_bytes),
    "module_pending": ("limit_module_pending", module_pending),
    "output_bytes_per_connection": ("paused_slow_readers", output_bytes),
    "partial_message_ms": ("closed_partial_message", partial_message),
    "idle_ms": ("closed_idle", idle),
    "pairs": ("limit_pairs", pairs),
    "pages_per_answer": ("limit_pages_per_answer", pages_per_answer),
    "deadline_ms": ("waited_to_deadline", deadline),
    "deadline_max_ms": ("limit_deadline_max", deadline_max),
    "start_ms": ("limit_start", start),
    "stop_ms": (None, stop),
}
LOWEST = {"message_bytes": 1024, "read_bytes": 4096, "waiting_bytes": 65536, "output_bytes_per_connection": 4096,
          "partial_message_ms": 10}


def limits_of_the_daemon():
    """The settings of [limits], as -T prints them."""
    daemon = Daemon(start=False)
    done = subprocess.run([APIKEYD, "-c", daemon.conf, "-T"], stdout=subprocess.PIPE, text=True, check=True)
    section = done.stdout.split("[limits]\n")[1].split("\n[")[0]
    return [line.split(" = ")[0] for line in section.splitlines() if line and not line.startswith("#")]


def test_every_limit_is_in_the_table(t):
    t.equal(sorted(limits_of_the_daemon()), sorted(LIMITS), "a new limit needs a counter, and a line here")


def bites(name):
    def test(t):
        counter, make = LIMITS[name]
        bite = make(t, {f"limits.{name}": LOWEST.get(name, 1)})
        if counter:
            stats = (lambda: bite.stats.call("stats")) if bite.stats else bite.daemon.stats
            t.ok(wait_until(f"{counter} to move", lambda: stats()[counter]), counter)
    test.__name__ = f"test_{name}"
    return test


for limit in LIMITS:
    globals()[f"test_{limit}"] = bites(limit)


def test_failures_of_the_feed(t):
    """A database that cannot be reached counts, each time; and so does one that goes away."""
    daemon = t.keep(Daemon(wait="socket", settings={"database.backoff_min_ms": 10, "database.backoff_max_ms": 10}))
    feed = lambda: daemon.stats()["feed"]
    wait_until("some failures", lambda: feed()["failures"] >= 3)
    t.equal(feed()["sessions"], 0)
    cluster = store()
    daemon = t.keep(Daemon(cluster, pepper=SHARED["pepper"]))
    before = feed()["failures"]
    cluster.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'apikeyd%'")
    wait_until("the one that was lost", lambda: feed()["failures"] > before)


if __name__ == "__main__":
    run(globals())
