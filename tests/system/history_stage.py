"""The stage of the history checker: two slots for PostgreSQL servers, one of them the primary and the other its standby,
and two daemons that know both slots.

A slot is a socket directory that stays; servers come and go in it. The daemons reach a slot through a proxy each, and
the second one from a network namespace of its own, where that is possible. Clocks can be moved: by a library in front
of the C library's, so that nobody else's clock is.
"""
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import threading

import psycopg2

from history_proxy import Proxy
from world import *  # noqa: F403

SETTINGS = {"wal_level": "replica", "max_wal_senders": "6", "wal_sender_timeout": "0", "wal_receiver_timeout": "0",
            "wal_retrieve_retry_interval": "200ms", "deadlock_timeout": "100ms", "max_connections": "60",
            "wal_keep_size": "64MB", "autovacuum_naptime": "5s", "log_min_messages": "warning",
            "hot_standby": "on", "max_wal_size": "256MB"}

# ---- clocks -----------------------------------------------------------------------------------------------------------

CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile int64_t *shift; /* seconds of CLOCK_REALTIME, and nanoseconds that CLOCK_MONOTONIC has stood still */
__attribute__((constructor)) static void map(void)
{
	const char *path = getenv("CLOCK_FILE");
	int fd = path ? open(path, O_RDONLY) : -1;
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, 16, PROT_READ, MAP_SHARED, fd, 0);
	if (at != MAP_FAILED)
		shift = at;
	if (fd >= 0)
		close(fd);
}
int clock_gettime(clockid_t id, struct timespec *ret)
{
	long rc = syscall(SYS_clock_gettime, id, ret);
	if (rc == 0 && id == CLOCK_REALTIME && shift)
		ret->tv_sec += *shift;
	if (rc == 0 && shift && (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE || id == CLOCK_MONOTONIC_RAW)) {
		int64_t now = ret->tv_sec * 1000000000L + ret->tv_nsec - shift[1];
		ret->tv_sec = now / 1000000000;
		ret->tv_nsec = now % 1000000000;
	}
	return (int)rc;
}
int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
	long rc = syscall(SYS_gettimeofday, ret, zone);
	if (rc == 0 && shift)
		ret->tv_sec += *shift;
	return (int)rc;
}
time_t time(time_t *ret)
{
	struct timeval now;
	gettimeofday(&now, NULL);
	if (ret)
		*ret = now.tv_sec;
	return now.tv_sec;
}
"""


class Clock:
    """The clocks of the processes that were started in `env`: CLOCK_REALTIME can be moved, and CLOCK_MONOTONIC can stand
    still for a while that CLOCK_BOOTTIME counts, as when a machine sleeps."""
    shim = None

    def __init__(self):
        directory = new_dir("clock")
        os.chmod(directory, 0o755) # for PostgreSQL's user
        if Clock.shim is None:
            Clock.shim = os.path.join(directory, "clock.so")
            subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", Clock.shim, "-x", "c", "-"], input=CLOCK.encode(),
                           check=True)
        path = os.path.join(directory, "shift")
        with open(path, "wb") as f:
            f.write(bytes(16))
        with open(path, "r+b") as f:
            self.shared = mmap.mmap(f.fileno(), 16)
        self.slept = 0
        self.env = {"LD_PRELOAD": Clock.shim, "CLOCK_FILE": path}

    def move(self, seconds):
        self.shared[:8] = struct.pack("q", seconds)

    def sleep(self, nanoseconds):
        self.slept += nanoseconds
        self.shared[8:] = struct.pack("q", self.slept)


def new_slot():
    slot = new_dir("slot")
    if os.geteuid() == 0:
        shutil.chown(slot, "postgres", "postgres")
    os.chmod(slot, 0o755)
    return slot


# ---- servers ----------------------------------------------------------------------------------------------------------

class Server(Cluster):
    """A cluster in a slot: made new, or as the standby of another."""
    count = 0

    def __init__(self, slot, clock, primary=None):
        Server.count += 1
        self.dir = self.socket_dir = slot
        self.data = os.path.join(slot, f"data{Server.count}")
        self.as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self.settings = {"listen_addresses": "", "unix_socket_directories": slot, "fsync": "off", "shared_buffers": "32MB",
                         "log_line_prefix": "%m [%p] ", **SETTINGS}
        self.started = False
        self.frozen = []
        if primary:
            self._run([pg_bin("pg_basebackup"), "-h", primary.socket_dir, "-U", "postgres", "-D", self.data, "-R", "-X",
                       "stream", "-c", "fast", "--no-sync"])
        else:
            self._run([pg_bin("initdb"), "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                       "--locale=C.UTF-8", "-N"])
        if clock:
            self.as_user = self.as_user + ["env"] + [f"{k}={v}" for k, v in clock.env.items()]
        atexit.register(self.stop, "immediate")

    def postmaster(self):
        with open(os.path.join(self.data, "postmaster.pid")) as f:
            return int(f.readline())

    def freeze(self):
        """SIGSTOP of the whole cluster, the father first: from then on no child comes."""
        father = self.postmaster()
        os.kill(father, signal.SIGSTOP)
        self.frozen = [father] + [int(p) for p in subprocess.run(
            ["ps", "--ppid", str(father), "-o", "pid="], stdout=subprocess.PIPE, text=True).stdout.split()]
        for pid in self.frozen[1:]:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self):
        for pid in reversed(self.frozen): # the father last: he buries those that have ended
            os.kill(pid, signal.SIGCONT)
        self.frozen = []

    def stop(self, mode="fast"):
        self.thaw()
        super().stop(mode)

    def promote(self):
        self._run([pg_bin("pg_ctl"), "-D", self.data, "-w", "-s", "promote"])

    def set(self, name, value):
        """ALTER SYSTEM, and on a standby too."""
        self.sql(f"alter system set {name} = '{value}'", database="postgres")
        self.sql("select pg_reload_conf()", database="postgres")

    def remove(self):
        self.stop("immediate")
        shutil.rmtree(self.data, ignore_errors=True)


# ---- daemons ----------------------------------------------------------------------------------------------------------

class Played(Daemon):
    """A daemon of the play: it can be killed and started again, and counts its lives."""

    def __init__(self, name, clock, **more):
        self.name, self.clock, self.life, self.stopped = name, clock, 0, False
        super().__init__(start=False, env=clock.env if clock else {}, **more)

    def start(self, wait=True):
        self.life += 1
        return super().start(wait)

    def freeze(self):
        self.stopped = True
        self.signal(signal.SIGSTOP)

    def thaw(self, slept=0):
        """`slept`: nanoseconds for which its machine slept meanwhile, as it will think."""
        if slept and self.clock:
            self.clock.sleep(slept)
        self.stopped = False
        self.signal(signal.SIGCONT)


class Namespace:
    """A network namespace, joined to this one by a cable that can be unplugged."""

    def __init__(self):
        self.name = f"apikeyd-history-{os.getpid()}"
        self.cable = f"ah{os.getpid()}"
        self.made = False

    def make(self):
        """Why it cannot be; None: it is there."""
        if os.geteuid() != 0:
            return "only root can make a network namespace"
        if not shutil.which("ip"):
            return "ip (package iproute2) is not installed"
        net = f"198.18.{random.randrange(256)}.{random.randrange(64) * 4}"
        base = net.rsplit(".", 1)
        self.outside = f"{base[0]}.{int(base[1]) + 1}"
        inside = f"{base[0]}.{int(base[1]) + 2}"
        commands = [f"netns add {self.name}", f"link add {self.cable} type veth peer name inside netns {self.name}",
                    f"addr add {self.outside}/30 dev {self.cable}", f"link set {self.cable} up",
                    f"-n {self.name} addr add {inside}/30 dev inside", f"-n {self.name} link set inside up",
                    f"-n {self.name} link set lo up"]
        atexit.register(self.close)
        self.made = True
        for command in commands:
            done = subprocess.run(["ip", *command.split()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode:
                self.close()
                return f"ip {command}: {done.stdout.strip()}"
        return None

    def plug(self, on):
        """Unplugged, every packet is dropped, and nobody is told."""
        subprocess.run(["ip", "-n", self.name, "link", "set", "inside", "up" if on else "down"], check=True)

    def close(self):
        if self.made:
            subprocess.run(["ip", "netns", "del", self.name], stderr=subprocess.DEVNULL)
        self.made = False


# ---- the stage --------------------------------------------------------------------------------------------------------

class Stage:
    def __init__(self, world, settings, standby=True, namespace=True, primary=None, cast=None, grace_ms=None):
        """primary: a server with the schema, somebody else's. cast: makes the daemons, {name: daemon}, of this stage.
        grace_ms: {name: {scope: milliseconds}}."""
        self.world, self.cast, self.borrowed, self.grace_ms = world, cast, primary, grace_ms or {}
        self.clocks = {"database": Clock()}
        self.slots = [primary.socket_dir if primary else new_slot(), new_slot()]
        self.lock, self.dice = threading.Lock(), random.Random(0)
        self.open, self.inside = {}, {} # branch of the past -> server that writers may use; thread -> branch
        self.may_write, self.longest_turn = threading.Event(), 0.5
        self.clock_moved, self.lease_s = None, 0 # when the database's clock was last moved; the longest lease
        self.branch = 0               # what the primary commits to
        self.primary = primary or Server(self.slots[0], self.clocks["database"]).start().install()
        self.standby = self.deposed = None
        self.synchronous = False
        self.namespace, self.no_namespace = None, "not asked for"
        if namespace:
            self.namespace = Namespace()
            self.no_namespace = self.namespace.make()
        self.settings = settings
        self.daemons, self.proxy = {}, None
        self.wants_standby = standby

    def begin(self):
        """The world is built: the daemons come, and the standby."""
        if self.cast:
            self.daemons = self.cast(self)
            return
        outside = self.namespace.outside if not self.no_namespace else "127.0.0.1"
        hosts = {"a": "127.0.0.1", "b": outside}
        routes = [(n, h, os.path.join(slot, ".s.PGSQL.5432")) for n, h in hosts.items() for slot in self.slots]
        self.proxy = Proxy(*routes)
        for at, (name, host) in enumerate(hosts.items()):
            if not sanitized():
                self.clocks[name] = Clock()
            ports = self.proxy.ports[2 * at:2 * at + 2]
            conninfo = (f"host={host},{host} port={ports[0]},{ports[1]} user=apikeyd dbname=apikeyd sslmode=disable")
            settings = {**self.settings, "database.insecure_remote": "yes",
                        "database.apply_slice": "7" if name == "a" else "500",
                        "freshness.offline_grace": ", ".join(f"{scope}={ms}ms" for scope, ms in
                                                             self.grace_ms.get(name, {}).items())}
            prefix = () if name == "a" or self.no_namespace else ("ip", "netns", "exec", self.namespace.name)
            self.daemons[name] = Played(name, self.clocks.get(name), settings=settings, conninfo=conninfo,
                                        pepper=self.world.pepper, prefix=prefix)
            self.daemons[name].start()
        if self.wants_standby:
            self.new_standby()

    # ---- the primary ------------------------------------------------------------------------------------------------

    def new_standby(self):
        """In the slot that is free."""
        slot = next(s for s in self.slots if s != self.primary.socket_dir)
        self.standby = Server(slot, self.clocks["database"], self.primary)
        self.standby.start()

    def streams(self):
        return self.primary.sql("select 1 from pg_stat_replication where state = 'streaming'", database="postgres")

    def set_synchronous(self, on):
        """On: whoever is told of a COMMIT, the standby has it. Comes back when that is certain."""
        if on == self.synchronous:
            return
        if on:
            wait_until("the standby to stream", self.streams)
        wanted = "*" if on else ""
        self.primary.set("synchronous_standby_names", wanted)
        # A session that came later shows it: so the checkpointer, who sees to it, has been told. Then a checkpoint, before
        # which he does what he was told.
        wait_until("the setting", lambda: self.primary.sql("show synchronous_standby_names",
                                                           database="postgres") == [(wanted,)])
        self.primary.sql("checkpoint", database="postgres")
        if on:
            wait_until("a synchronous standby", lambda: self.primary.sql(
                "select 1 from pg_stat_replication where sync_state = 'sync'", database="postgres"))
        self.synchronous = on

    # ---- who may write where ----------------------------------------------------------------------------------------

    def enter(self, thread):
        """A primary for that thread to write to, and its branch; (None, None): there is none now."""
        with self.lock:
            if not self.open:
                return None, None
            branch = self.dice.choice(list(self.open))
            self.inside[thread] = branch
            return self.open[branch], branch

    def leave(self, thread):
        with self.lock:
            self.inside.pop(thread, None)

    def is_open(self, branch):
        return branch in self.open

    def open_branches(self):
        with self.lock:
            return list(self.open.items())

    def shut(self, branch, wait=True):
        """Nobody begins to write there any more; `wait`: nor is there anybody who still does."""
        with self.lock:
            self.open.pop(branch, None)
        if wait:
            wait_until("the writers to leave", lambda: branch not in self.inside.values())

    def move_clock(self, seconds):
        """The database's."""
        self.clocks["database"].move(seconds)
        self.clock_moved = time.monotonic()

    def clock_is_trusted(self):
        return self.clock_moved is None or time.monotonic() > self.clock_moved + self.lease_s

    def backends(self, name=None):
        """pids on the primary: of the daemons (application_name apikeyd), or of writers."""
        where = "application_name = 'apikeyd'" if name == "daemon" else "application_name like 'writer%'"
        return [pid for pid, in self.primary.sql(f"select pid from pg_stat_activity where {where}", database="postgres")]

    def close(self):
        for daemon in self.daemons.values():
            if daemon.stopped:
                daemon.thaw()
            daemon.kill()
        if self.proxy:
            self.proxy.close()
        if self.namespace:
            self.namespace.close()
        for server in (self.standby, self.deposed, self.primary):
            if server and server is not self.borrowed:
                server.remove()
