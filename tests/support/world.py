"""Fixtures for the system tests: a private PostgreSQL cluster, a real daemon, a plain MessagePack-RPC peer, TAP.

A test file is a program:

    from world import *
    def test_something(t): t.equal(1 + 1, 2, "sums")
    if __name__ == "__main__": run(globals())

run() calls every test_* function in the order of the file and prints one TAP line for each, with its seconds; an assertion or any
exception fails that line and the next test goes on. What a test opened through `t.keep(...)` is closed after it.

Programs are looked for in $APIKEYD_BUILD (the build directory); tests/run sets it. Everything lives under one
temporary directory per process and is removed at exit, unless $KEEP is set.
"""
import atexit
import contextlib
import ctypes
import glob
import hashlib
import json
import os
import pwd
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

import msgpack

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("APIKEYD_BUILD") or os.path.join(ROOT, "build", "dev"))
APIKEYD = os.path.join(BUILD, "daemon", "apikeyd")
APIKEYCTL = os.path.join(BUILD, "client", "apikeyctl", "apikeyctl")
SQL_DIR = os.path.join(ROOT, "sql", "migrations")
WAIT = float(os.environ.get("APIKEYD_TEST_WAIT", "30"))  # seconds; how long anything may take before it is a failure


# A shell starts its background jobs with SIGINT ignored, and what they start inherits that: programs under test must not.
signal.signal(signal.SIGINT, signal.default_int_handler)

# ---- scratch ----------------------------------------------------------------------------------------------------

def scratch():
    """This process's temporary directory; other users (postgres) can walk into it."""
    if not hasattr(scratch, "path"):
        scratch.path = tempfile.mkdtemp(prefix="apikeyd-test.")
        os.chmod(scratch.path, 0o755)
        if not os.environ.get("KEEP"):
            atexit.register(shutil.rmtree, scratch.path, True)
    return scratch.path


def new_dir(name):
    return tempfile.mkdtemp(prefix=name + ".", dir=scratch())


def wait_until(what, test, seconds=WAIT, step=0.005):
    """Calls test() until it is true and returns that; raises when it takes longer than `seconds`."""
    end = time.monotonic() + seconds
    while True:
        got = test()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(step)


# ---- PostgreSQL -------------------------------------------------------------------------------------------------

def pg_bin(program):
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/" + program), key=lambda p: int(p.split("/")[4]))
    if not found:
        raise RuntimeError(f"{program} is not installed (package postgresql)")
    return found[-1]


class Cluster:
    """A private cluster on a Unix socket only. Superuser: postgres. Roles log in without a password."""
    made = None      # what all but the first are copies of
    installed = None # how many databases it was asked for, by kind

    def __init__(self, settings=None):
        self.dir = new_dir("pg")
        self.data = os.path.join(self.dir, "data")
        self.socket_dir = self.dir
        self.as_user = []
        if os.geteuid() == 0:
            shutil.chown(self.dir, "postgres", "postgres")
            self.as_user = ["runuser", "-u", "postgres", "--"]
        os.chmod(self.dir, 0o755)
        self._initdb()
        self.settings = {"listen_addresses": "", "unix_socket_directories": self.dir, "fsync": "off",
                         "max_connections": "100", "log_line_prefix": "%m [%p] %u ", "shared_buffers": "64MB"}
        self.settings.update(settings or {})
        self.started = False
        atexit.register(self.stop, "immediate")

    def _initdb(self):
        """Once a process: the next ones are copies, and have its system identifier."""
        if Cluster.made:
            self._run(["cp", "-a", Cluster.made, self.data])
            return
        self._run([pg_bin("initdb"), "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                   "--locale=C.UTF-8", "-N"])
        Cluster.made = os.path.join(self.dir, "made")
        self._run(["cp", "-a", self.data, Cluster.made])

    def _run(self, argv, check=True):
        done = subprocess.run(self.as_user + argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/")
        if check and done.returncode:
            raise RuntimeError(f"{argv[0]} failed: {done.stdout.decode()}")
        return done

    def start(self):
        options = " ".join(f"-c {k}='{v}'" for k, v in self.settings.items())
        self._run([pg_bin("pg_ctl"), "-D", self.data, "-w", "-s", "-l", os.path.join(self.dir, "log"), "-o", options,
                   "start"])
        self.started = True
        return self

    def stop(self, mode="fast"):
        if self.started:
            self._run([pg_bin("pg_ctl"), "-D", self.data, "-w", "-s", "-m", mode, "stop"], check=False)
            self.started = False

    def restart(self):
        self.stop()
        self.start()

    def close(self):
        self.stop("immediate")

    def log(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return f.read()

    def env(self, user="postgres", database="apikeyd"):
        env = dict(os.environ, PGHOST=self.socket_dir, PGUSER=user, PGDATABASE=database, PGPORT="5432")
        env.pop("PGPASSWORD", None)
        return env

    def dsn(self, user="postgres", database="apikeyd"):
        return f"host={self.socket_dir} user={user} dbname={database}"

    def connect(self, user="postgres", database="apikeyd", autocommit=True):
        import psycopg2
        connection = psycopg2.connect(self.dsn(user, database))
        connection.autocommit = autocommit
        return connection

    def sql(self, text, *params, user="postgres", database="apikeyd"):
        """Runs one statement and returns its rows (None where it has none)."""
        with contextlib.closing(self.connect(user, database)) as connection:
            cursor = connection.cursor()
            cursor.execute(text, params or None)
            return cursor.fetchall() if cursor.description else None

    def psql(self, *argv, user="postgres", database="apikeyd", check=True, stdin=None):
        done = subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *argv], env=self.env(user, database),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, input=stdin)
        if check and done.returncode:
            raise AssertionError(f"psql {argv}: {done.stderr}")
        return done

    def install(self, database="apikeyd", demo=False):
        """
        Makes the database, installs the schema with the project's own tool, and the daemon's login role. A cluster that
        is asked for more than one copies the others from one that nobody uses.
        """
        made = f"made{int(demo)}"
        self.installed = self.installed or {}
        count = self.installed[demo] = self.installed.get(demo, 0) + 1
        if count == 2:
            self._install(made, demo)
        if count >= 2:
            self.psql("-c", f'create database "{database}" template {made}', database="postgres")
        else:
            self._install(database, demo)
        return self

    def _install(self, database, demo):
        self.psql("-c", f'create database "{database}"', database="postgres")
        done = subprocess.run([APIKEYCTL, "db", "install", "--sql-dir", SQL_DIR], env=self.env(database=database),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise AssertionError(f"apikeyctl db install: {done.stdout}")
        self.login_role()
        # Tests that are about something else take a max_stale of minutes.
        self.psql("-c", "select apikeyd.set_longest_lease('1 h')", database=database)
        if demo:
            self.psql("-f", os.path.join(ROOT, "sql", "demo", "world.sql"), database=database)

    def login_role(self):
        """The daemon's login role, as the README tells an operator to make it."""
        self.psql("-c", "do $$ begin if not exists (select from pg_roles where rolname = 'apikeyd') then "
                  "create role apikeyd login noinherit; end if; end $$; grant apikeyd_check, apikeyd_admin to apikeyd",
                  database="postgres")


class Standby(Cluster):
    """A streaming standby of another cluster."""

    def __init__(self, primary):
        self.dir = new_dir("standby")
        self.data = os.path.join(self.dir, "data")
        self.socket_dir = self.dir
        self.as_user = primary.as_user
        if os.geteuid() == 0:
            shutil.chown(self.dir, "postgres", "postgres")
        os.chmod(self.dir, 0o755)
        self._run([pg_bin("pg_basebackup"), "-h", primary.socket_dir, "-U", "postgres", "-D", self.data, "-R", "-X",
                   "stream", "-c", "fast"])
        self.settings = {**primary.settings, "unix_socket_directories": self.dir, "hot_standby": "on"}
        self.started = False
        atexit.register(self.stop, "immediate")

    def promote(self):
        self._run([pg_bin("pg_ctl"), "-D", self.data, "-w", "-s", "promote"])


# ---- disks ------------------------------------------------------------------------------------------------------

class SmallDisk:
    """A file system of so many bytes."""

    def __init__(self, size, user=None):
        self.path = new_dir("disk")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "none", self.path], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise Skip(f"cannot mount a small file system here: {done.stderr.strip()}")
        if user:
            shutil.chown(self.path, user, user)

    def fill(self):
        with open(os.path.join(self.path, "ballast"), "wb", buffering=0) as f:
            with contextlib.suppress(OSError):
                while True:
                    f.write(bytes(4096))

    def free(self):
        os.unlink(os.path.join(self.path, "ballast"))

    def close(self):
        subprocess.run(["umount", "-l", self.path])


# ---- MessagePack-RPC, with an off-the-shelf library and nothing of ours --------------------------------------------

class RpcError(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Closed(Exception):
    """The daemon closed the connection."""


class Rpc:
    """A blocking connection that may pipeline: send() any number, then receive()."""

    def __init__(self, path, timeout=WAIT):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=64 << 20)
        self.next_id = 0
        self.notices = []
        self.early = {}

    def send(self, method, *params):
        self.next_id += 1
        self.socket.sendall(msgpack.packb([0, self.next_id, method, list(params)]))
        return self.next_id

    def send_raw(self, data):
        self.socket.sendall(data)

    def receive_message(self):
        while True:
            for message in self.unpacker:
                return message
            data = self.socket.recv(1 << 20)
            if not data:
                raise Closed()
            self.unpacker.feed(data)

    def receive(self, msgid):
        while msgid not in self.early:
            message = self.receive_message()
            if message[0] == 2:
                self.notices.append(message)
            else:
                self.early[message[1]] = message
        _, _, error, result = self.early.pop(msgid)
        if error is not None:
            raise RpcError(*error)
        return result

    def call(self, method, *params):
        return self.receive(self.send(method, *params))

    def check(self, key, scope, page=None, **context):
        return self.call("check", key, scope, page, *([context] if context else []))

    def close(self):
        self.socket.close()


# ---- the daemon ---------------------------------------------------------------------------------------------------

def sanitized():
    """Whether the daemon is built with a sanitizer."""
    if not hasattr(sanitized, "is"):
        with open(APIKEYD, "rb") as f:
            text = f.read()
            setattr(sanitized, "is", any(name in text for name in (b"__asan_init", b"__tsan_init")))
    return getattr(sanitized, "is")


def landlock_version():
    """The kernel's; 0: it has none."""
    return max(0, ctypes.CDLL(None).syscall(444, None, 0, 1))


class Daemon:
    """A real daemon with its own directory, configuration and pepper."""

    def __init__(self, cluster=None, settings=None, conninfo=None, pepper=None, start=True, wait=True, env=None,
                 stacks=None, prefix=()):
        """settings: {"section.name": value}; None removes a line. stacks: {name: text}, beside the installed one.
        prefix: words before the command, which have to become it."""
        self.prefix = prefix
        self.dir = new_dir("apikeyd")
        self.socket = os.path.join(self.dir, "check.sock")
        self.admin_socket = os.path.join(self.dir, "admin.sock")
        self.conf = os.path.join(self.dir, "apikeyd.conf")
        self.pepper_file = os.path.join(self.dir, "pepper")
        self.state_dir = os.path.join(self.dir, "state")
        os.mkdir(self.state_dir, 0o700)
        self.log_path = os.path.join(self.dir, "log")
        self.pepper = pepper or secrets.token_hex(32)
        self.env = env or {}
        self.stack_dir = os.path.join(self.dir, "stacks")
        os.mkdir(self.stack_dir, 0o755)
        shutil.copy(os.path.join(ROOT, "daemon", "etc", "stacks", "default"), self.stack_dir)
        os.chmod(os.path.join(self.stack_dir, "default"), 0o644)
        for name, text in (stacks or {}).items():
            self.write_stack(name, text)
        with open(os.open(self.pepper_file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(self.pepper if " " in self.pepper else f"1 {self.pepper}\n")
        self.settings = {"socket.path": self.socket, "admin.path": self.admin_socket,
                         "key.pepper_file": self.pepper_file, "log.level": "debug", "stacks.dir": self.stack_dir,
                         "state.directory": self.state_dir, "ledger.spool_bytes": "16M",
                         "database.conninfo": conninfo or (cluster.dsn("apikeyd") if cluster else
                                                           f"host={self.dir} user=apikeyd dbname=apikeyd")}
        if sanitized(): # whose look for leaks, at the end, is what a filter of system calls is there to prevent
            self.settings["confine.seccomp"] = "off"
        self.settings.update(settings or {})
        self.write_conf()
        self.process = None
        self._admin = None
        atexit.register(self.kill)
        if start:
            self.start(wait=wait)

    def write_stack(self, name, text):
        """Puts a stack file in place; the daemon reads it when it starts or reloads."""
        path = os.path.join(self.stack_dir, name)
        with open(os.open(path + "~", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "w") as f:
            f.write(text)
        os.rename(path + "~", path)

    def write_conf(self):
        sections = {}
        for name, value in self.settings.items():
            if value is not None:
                section, setting = name.split(".", 1)
                sections.setdefault(section, []).append(f"{setting} = {value}")
        with open(self.conf, "w") as f:
            for section, lines in sections.items():
                f.write(f"[{section}]\n" + "\n".join(lines) + "\n\n")

    def start(self, wait=True):
        """wait: True until the first copy is there; "socket" until it answers at all; False not at all."""
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen([*self.prefix, APIKEYD, "-c", self.conf], stdout=log, stderr=log, cwd="/",
                                        stdin=subprocess.DEVNULL, env=dict(os.environ, **self.env))
        log.close()
        if wait:
            wait_until("the socket", self._answers)
        if wait is True:
            wait_until("the first copy", lambda: self.stats().get("rev", 0) > 0)
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"apikeyd ended with {self.process.returncode}: {self.log()}")
        try:
            with contextlib.closing(Rpc(self.socket, 5)) as rpc:
                return rpc.call("hello", {"client": "test", "version": "0"})
        except OSError:
            return None

    def rpc(self, timeout=WAIT):
        return Rpc(self.socket, timeout)

    def admin(self, method, **params):
        """One administrative call, on a connection that is kept."""
        if self._admin is None:
            self._admin = Rpc(self.admin_socket)
        try:
            return self._admin.call(method, params)
        except (OSError, Closed):
            self._admin = None
            raise

    def check(self, key, scope, page=None, **context):
        with contextlib.closing(self.rpc()) as rpc:
            return rpc.check(key, scope, page, **context)

    def stats(self):
        with contextlib.closing(self.rpc()) as rpc:
            return rpc.call("stats")

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, seconds=WAIT):
        """SIGTERM; returns the exit code, and fails loudly where a sanitizer complained."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(seconds)
        self.process = None
        text = self.log()
        if "Sanitizer" in text or "runtime error:" in text:
            raise AssertionError("sanitizer report:\n" + text[-8000:])
        return code

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def close(self):
        code = self.stop()
        if code not in (0, None):
            raise AssertionError(f"apikeyd ended with {code}: {self.log()[-4000:]}")

    def ctl(self, *argv, key=None, stdin=None, env=None):
        """Runs apikeyctl against this daemon; the key travels in the environment."""
        full = dict(os.environ, APIKEYD_SOCKET=self.socket, APIKEYD_ADMIN_SOCKET=self.admin_socket, **(env or {}))
        if key is not None:
            full["APIKEY_KEY"] = key
        return subprocess.run([APIKEYCTL, *argv], env=full, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              input=stdin)


# ---- keys, as the contract says ------------------------------------------------------------------------------------

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def base62(number, width):
    text = ""
    for _ in range(width):
        number, digit = divmod(number, 62)
        text = BASE62[digit] + text
    return text


def make_key(kind, key_id=None, brand="ak"):
    """A key's text, made here and not by the daemon."""
    import zlib
    key_id = key_id or base62(secrets.randbelow(62 ** 10), 10)
    head = f"{brand}{kind[0]}_{key_id}_{base62(secrets.randbits(256), 43)}"
    return head + base62(zlib.crc32(head.encode()), 6)


def key_hash(key, pepper_hex):
    return hashlib.blake2b(key.encode(), key=bytes.fromhex(pepper_hex), digest_size=32).digest()


# ---- TAP -----------------------------------------------------------------------------------------------------------

class Skip(Exception):
    pass


class Test:
    def __init__(self):
        self.kept = []
        self.checks = 0

    def keep(self, thing):
        """Closed after the test, last kept first."""
        self.kept.append(thing)
        return thing

    def ok(self, condition, what):
        self.checks += 1
        if not condition:
            raise AssertionError(what)

    def equal(self, got, wanted, what=""):
        self.checks += 1
        if got != wanted:
            raise AssertionError(f"{what}: got {got!r}, wanted {wanted!r}")

    def contains(self, text, part, what=""):
        self.checks += 1
        if part not in text:
            raise AssertionError(f"{what}: {part!r} is not in {text!r}")

    def raises(self, kind, call, what=""):
        self.checks += 1
        try:
            call()
        except kind as error:
            return error
        raise AssertionError(f"{what}: nothing was raised")

    def skip(self, why):
        raise Skip(why)


def run(names):
    """Runs the test_* functions of a module (only those that argv names, where it names some) and exits."""
    wanted = sys.argv[1:]
    tests = [f for n, f in names.items() if n.startswith("test_") and callable(f) and (not wanted or n in wanted)]
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    for number, function in enumerate(tests, 1):
        test = Test()
        line = f"{number} - {os.path.basename(sys.argv[0])}: {function.__name__[5:].replace('_', ' ')}"
        error, began = None, time.monotonic()
        try:
            function(test)
            if not test.checks:
                raise AssertionError("this test asserted nothing")
        except Skip as skip:
            print(f"ok {line} # SKIP {skip}", flush=True)
            test.skipped = True
        except BaseException as caught:
            error = caught
            trace = traceback.format_exc()
        for thing in reversed(test.kept):
            try:
                thing.close()
            except BaseException as caught:
                if error is None:
                    error, trace = caught, traceback.format_exc()
        if error is not None:
            failed += 1
            print(f"not ok {line}", flush=True)
            for text in trace.splitlines():
                print("# " + text, flush=True)
            if isinstance(error, KeyboardInterrupt):
                break
        elif not hasattr(test, "skipped"):
            print(f"ok {line} # {time.monotonic() - began:.1f} s", flush=True)
    sys.exit(1 if failed else 0)
