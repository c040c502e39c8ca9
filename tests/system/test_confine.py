#!/usr/bin/env python3
"""The daemon confines itself: a module inside it tries what it must not be able to do, and others try to look into it.

tests/support/modules/intrude.c is loaded as any module is, and does what its line says when it is asked. Without
systemd, as root as well as as an ordinary user.
"""
import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *  # noqa: E402

PLAIN = "caller required permit\nkey required store\naudit none\n"
PEPPER = secrets.token_hex(32)
NOBODY = pwd.getpwnam("nobody")
KILLED = -signal.SIGSYS
shared = {}


def cluster():
    if "cluster" not in shared:
        shared["cluster"] = Cluster().start().install(demo=True)
    return shared["cluster"]


def module_dir(*names):
    directory = new_dir("modules")
    os.chmod(directory, 0o755)
    for name in names:
        add_module(directory, name)
    return directory


def add_module(directory, name):
    shutil.copy(os.path.join(BUILD, "tests", "modules", name + ".so"), directory)
    os.chmod(os.path.join(directory, name + ".so"), 0o644)


def stack_of(act, at=None):
    return f"caller required intrude act={act}" + (f" at={at}" if at else "") + "\nkey required store\naudit none\n"


def intruder(t, acts, settings=None, **more):
    """A daemon with a stack for each act, {name: (act, at)}. It needs no database for this."""
    settings = {"stacks.module_dir": module_dir("intrude"), **(settings or {})}
    stacks = {name: stack_of(*act) for name, act in acts.items()}
    return t.keep(Daemon(settings=settings, stacks={"default": PLAIN, **stacks}, wait="socket", **more))


def tried(daemon, name):
    """What came of an act: "done", or the name of its errno. Closed where the daemon did not outlive it."""
    with contextlib.closing(daemon.rpc()) as rpc:
        answer = rpc.call("explain", make_key("user"), "page:read", "acme", {"stack": name})
    return next(e["detail"] for e in answer["trace"] if e["module"] == "intrude")


def status_of(daemon):
    with open(f"/proc/{daemon.process.pid}/status") as f:
        return dict(line.rstrip("\n").split(":", 1) for line in f)


def reload(daemon):
    """True where it went well, or what the log says of it."""
    before, told = daemon.stats(), len(daemon.log())
    count = lambda s: s["reloads"] + s["reloads_failed"]
    daemon.signal(signal.SIGHUP)
    wait_until("the reload", lambda: count(daemon.stats()) > count(before))
    return daemon.stats()["reloads"] > before["reloads"] or daemon.log()[told:]


# ---- system calls -----------------------------------------------------------------------------------------------

def skip_sanitized(t):
    if sanitized():
        t.skip("AddressSanitizer looks for leaks with calls that the filter kills")


def test_privileges(t):
    skip_sanitized(t)
    status = status_of(intruder(t, {}))
    t.equal({name: status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Seccomp")},
            {"CapInh": "0" * 16, "CapPrm": "0" * 16, "CapEff": "0" * 16, "CapAmb": "0" * 16, "NoNewPrivs": "1",
             "Seccomp": "2"})
    if os.geteuid() == 0:
        t.equal(status["CapBnd"].strip(), "0" * 16, "nothing that a program could be given")
        t.equal(status["Groups"].strip(), "", "root's supplementary groups")


def test_calls_that_kill(t):
    """The process ends at once, and its log says what it was."""
    skip_sanitized(t)
    for act, call in (("execve", "execve"), ("execveat", "execveat"), ("ptrace", "ptrace"),
                      ("vm_read", "process_vm_readv"), ("bpf", "bpf"), ("mount", "mount"), ("unshare", "unshare")):
        d = intruder(t, {act: (act,)})
        t.raises((Closed, OSError), lambda: tried(d, act), act)
        t.equal(d.process.wait(WAIT), KILLED, act)
        t.contains(d.log(), f"made the system call {call} (", act)
        d.process = None


def test_calls_of_another_table(t):
    skip_sanitized(t)
    if os.uname().machine != "x86_64":
        t.skip("this architecture has one table of system calls")
    d = intruder(t, {"x32": ("x32",)})
    t.raises((Closed, OSError), lambda: tried(d, "x32"))
    t.equal(d.process.wait(WAIT), KILLED)
    d.process = None


def test_calls_that_are_refused(t):
    """What a library may try in good faith: an error, and the daemon goes on."""
    skip_sanitized(t)
    path = os.path.join(new_dir("mode"), "file")
    open(path, "w").close()
    wanted = {"spawn": "EPERM", "fork": "EPERM", "kill": "ENOSYS", "new_code": "EPERM", "code_of_data": "EPERM",
              "keyring": "EPERM", "unknown": "ENOSYS", "dumpable": "EPERM", "limit": "EPERM", "setuid": "EPERM",
              "handler": "EPERM", "packet": "ENOSYS"}
    acts = {act: (act,) for act in wanted}
    acts.update(chmod=("chmod", path), link=("link", path + ".link"))
    d = intruder(t, acts)
    t.equal({act: tried(d, act) for act in wanted}, wanted)
    t.equal((tried(d, "chmod"), tried(d, "link")), ("EPERM", "EPERM"))
    t.equal((os.stat(path).st_mode & 0o777 == 0o777, os.path.lexists(path + ".link")), (False, False))
    t.equal(d.stop(), 0)


def test_what_goes_on(t):
    d = intruder(t, {"thread": ("thread",), "user": ("user", "root"), "name": ("name", "localhost"),
                     "read": ("read", "/etc/passwd"), "null": ("write", "/dev/null")})
    t.equal([tried(d, name) for name in ("thread", "user", "name", "read", "null")], ["done"] * 5)
    sockets = d.socket, d.admin_socket, d.socket + ".lock"
    t.ok(all(map(os.path.exists, sockets)), "sockets and their locks")
    t.equal(d.stop(), 0)
    t.ok(not any(map(os.path.exists, sockets)), "it takes away what is its own")


def test_threads_from_before(t):
    """A module that starts one when it is opened: told, and held by the filter all the same."""
    skip_sanitized(t)
    d = t.keep(Daemon(settings={"stacks.module_dir": module_dir("slow")}, wait="socket",
                      stacks={"default": PLAIN, "slow": PLAIN + "account required slow\n"}))
    t.contains(d.log(), "warning: confine: 1 thread(s) were started before, by modules")
    tasks = os.listdir(f"/proc/{d.process.pid}/task")
    t.ok(len(tasks) >= 2, tasks)
    for task in tasks:
        with open(f"/proc/{d.process.pid}/task/{task}/status") as f:
            text = f.read()
        t.contains(text, "Seccomp:\t2")
        t.contains(text, "NoNewPrivs:\t1")
    d = intruder(t, {})
    t.ok("were started before" not in d.log(), "by itself it has none")


def test_settings(t):
    """The same acts where the configuration lets them pass."""
    skip_sanitized(t)
    acts = {"new_code": ("new_code",), "code_of_data": ("code_of_data",), "spawn": ("spawn",), "fork": ("fork",)}
    d = intruder(t, acts, {"confine.new_code": "yes"})
    t.equal([tried(d, name) for name in acts], ["done", "done", "EPERM", "EPERM"])
    t.contains(d.log(), "new code allowed")
    d = intruder(t, acts, {"confine.seccomp": "log", "confine.landlock": "off"})
    t.equal([tried(d, name) for name in acts], ["done"] * 4)
    t.contains(d.log(), "seccomp logs")
    t.equal(d.stats()["confine"]["seccomp"], "log")
    t.equal(status_of(d)["Seccomp"].strip(), "2")
    d = intruder(t, acts, {"confine.seccomp": "off", "confine.landlock": "off"})
    t.equal([tried(d, name) for name in acts], ["done"] * 4)
    t.contains(d.log(), "warning: confine: seccomp = off: system calls are not restricted")
    t.contains(d.log(), "warning: confine: landlock = off: files and ports are not restricted")
    t.equal(status_of(d)["Seccomp"].strip(), "0")
    t.equal(status_of(d)["CapEff"].strip(), "0" * 16, "privileges go in any case")


# A kernel from before: an outer filter refuses what it would not know.
OLD_KERNEL = """
import ctypes, os, sys
lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(lib.seccomp_init(0x7fff0000))
for name in sys.argv[1].split(","):
    number = lib.seccomp_syscall_resolve_name(name.encode())
    assert lib.seccomp_rule_add(context, 0x00050000 | 38, number, 0) == 0
assert lib.seccomp_load(context) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_a_kernel_that_cannot(t):
    """It runs, and says what is not in force; where that is required it does not."""
    skip_sanitized(t)
    passwd = {"read": ("read", os.path.join(new_dir("outside"), "file"))}
    open(passwd["read"][1], "w").close()
    python = ["/usr/bin/python3", "-c", OLD_KERNEL]
    d = intruder(t, passwd, prefix=[*python, "landlock_create_ruleset"])
    t.equal(tried(d, "read"), "done")
    t.equal(d.stats()["confine"], {"seccomp": "enforce", "landlock": 0, "out_of_reach": 0})
    t.contains(d.log(), "warning: confine: no landlock: Function not implemented")
    t.contains(d.log(), "seccomp enforced")
    t.equal(reload(d), True)
    t.equal(d.stop(), 0)
    d = intruder(t, passwd, {"confine.landlock": "off"}, prefix=[*python, "seccomp"])
    t.equal(tried(d, "read"), "done")
    for name, calls in (("landlock", "landlock_create_ruleset"), ("landlock", "landlock_restrict_self")):
        d = intruder(t, {}, {f"confine.{name}": "require"}, start=False, prefix=[*python, calls])
        d.start(wait=False)
        t.equal(d.process.wait(WAIT), 1)
        t.contains(d.log(), f"error: [confine] {name} = require: this kernel does not have it")
        t.ok(not os.path.exists(d.socket), "no socket stays")
        d.process = None


# ---- files and ports --------------------------------------------------------------------------------------------

def need_landlock(t, version):
    have = landlock_version()
    if have < version:
        t.skip(f"this kernel's landlock has version {have}, and {version} is needed" if have else "this kernel has no landlock")


def test_files_outside(t):
    need_landlock(t, 1)
    outside, further = new_dir("outside"), new_dir("further")
    for directory in (outside, further):
        os.chmod(directory, 0o755)
        with open(os.path.join(directory, "file"), "w") as f:
            f.write("x")
    file, new = os.path.join(outside, "file"), os.path.join(outside, "new")
    acts = {"read": ("read", file), "list": ("read", outside), "write": ("write", file), "make": ("write", new),
            "unlink": ("unlink", file), "etc": ("write", "/etc/apikeyd-test-was-here"), "tmp": ("write", "/tmp/apikeyd-test-was-here"),
            "further": ("read", os.path.join(further, "file")), "allowed": ("write", os.path.join(further, "new"))}
    d = intruder(t, acts)
    t.equal({name: tried(d, name) for name in acts}, dict.fromkeys(acts, "EACCES"))
    own = {"socket": ("unlink", d.socket), "pepper": ("write", d.pepper_file), "stack": ("write", os.path.join(d.stack_dir, "x"))}
    for name, act in own.items():
        d.write_stack(name, stack_of(*act))
    t.equal(reload(d), True)
    t.equal((tried(d, "pepper"), tried(d, "stack")), ("EACCES", "EACCES"), "its own files it reads alone")
    # What it was told to allow.
    d = intruder(t, acts, {"confine.read": f"/nowhere, {os.path.join(further, 'file')}"})
    t.equal((tried(d, "further"), tried(d, "allowed"), tried(d, "read")), ("done", "EACCES", "EACCES"))
    t.contains(d.log(), "[confine] read: /nowhere")
    d = intruder(t, acts, {"confine.write": further})
    t.equal((tried(d, "further"), tried(d, "allowed"), tried(d, "write")), ("done", "done", "EACCES"))


def test_ports(t):
    need_landlock(t, 4)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = one.getsockname()[1], other.getsockname()[1]
        acts = {"one": ("connect", ports[0]), "other": ("connect", ports[1]), "bind": ("bind", 0)}
        d = intruder(t, acts)
        t.equal([tried(d, name) for name in acts], ["EACCES"] * 3)
        d = intruder(t, acts, {"confine.connect": f"7, {ports[1]}"})
        t.equal([tried(d, name) for name in acts], ["EACCES", "done", "EACCES"])
        d = intruder(t, acts, {"confine.connect": "any"})
        t.equal([tried(d, name) for name in acts], ["done", "done", "EACCES"], "but nobody ever listens")
        d = intruder(t, acts, conninfo=f"host=127.0.0.1 port={ports[0]} user=apikeyd dbname=apikeyd sslmode=disable")
        t.equal([tried(d, name) for name in acts], ["done", "EACCES", "EACCES"], "the database's")


def test_abstract_sockets(t):
    need_landlock(t, 6)
    name = "apikeyd-test-" + secrets.token_hex(8)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
        s.bind("\0" + name)
        s.listen()
        t.equal(tried(intruder(t, {"abstract": ("abstract", name)}), "abstract"), "EPERM")
        d = intruder(t, {"abstract": ("abstract", name)}, conninfo=f"host=@{name}-none user=apikeyd dbname=apikeyd")
        t.equal(tried(d, "abstract"), "done", "where a database is one")


# ---- a reload ---------------------------------------------------------------------------------------------------

def test_reload(t):
    """All that is read again: stacks, the pepper, the configuration; and a break-glass file that others put in place."""
    glass = os.path.join(new_dir("glass"), "keys")
    line = f"caller required permit\nkey sufficient file path={glass}\nkey required store\naudit none\n"
    d = t.keep(Daemon(cluster(), pepper=PEPPER, stacks={"default": PLAIN, "glass": line}))
    minted = d.admin("break_glass_mint", org="acme", pages=["acme"], scopes=["incident:write"], hours=2)
    ask = lambda: d.check(minted["key"], "incident:write", "acme", stack="glass")["reason"]
    t.equal(ask(), "unknown_key", "there is no file")
    for text, wanted in ((minted["line"], "ok"), ("# none", "unknown_key"), (minted["line"], "ok")):
        with open(os.open(glass + ".new", os.O_WRONLY | os.O_CREAT, 0o640), "w") as f:
            f.write(text + "\n")
        os.rename(glass + ".new", glass)
        t.equal(ask(), wanted)
    key = d.admin("key_mint", kind="user", user="olga@acme.example")
    ok = lambda **context: d.check(key["key"], "page:read", "acme", min_rev=key["rev"], deadline_ms=20000, **context)["reason"]
    t.equal(ok(), "ok")
    d.write_stack("new", PLAIN + "scope required hours between=00:00-24:00 zone=local\n")
    d.write_stack("default", PLAIN.replace("permit", f"peer user={os.geteuid()}"))
    with open(d.pepper_file, "a") as f:
        f.write(f"2 {secrets.token_hex(32)}\n")
    d.settings["explain.users"] = "root, nobody"
    d.write_conf()
    t.equal(reload(d), True)
    t.equal((ok(), ok(stack="new")), ("ok", "ok"))


def test_reload_out_of_reach(t):
    need_landlock(t, 4)
    directory = module_dir("intrude")
    d = intruder(t, {"thread": ("thread",)}, {"stacks.module_dir": directory, "confine.read": "/etc"})
    moved = new_dir("moved")
    os.chmod(moved, 0o755)
    shutil.copytree(d.stack_dir, os.path.join(moved, "stacks"))
    shutil.copy(d.pepper_file, moved)
    before = dict(d.settings)
    d.settings.update({"stacks.dir": os.path.join(moved, "stacks"), "key.pepper_file": os.path.join(moved, "pepper"),
                       "database.conninfo": "host=localhost port=7 user=apikeyd dbname=apikeyd", "confine.read": moved})
    d.write_conf()
    told = reload(d)
    for what in (f"[stacks] dir: {moved}/stacks is", f"[key] pepper_file: {moved}/pepper is", "[database] conninfo: port 7 is"):
        t.contains(told, what + " beyond what the daemon can reach since it was started; that takes a restart")
    t.ok("[confine] read" not in told, "which the next start would read")
    t.equal(d.stats()["confine"], {"seccomp": "off" if sanitized() else "enforce", "landlock": landlock_version(), "out_of_reach": 3})
    t.contains(told, "going on with the one from before")
    t.equal(tried(d, "thread"), "done")
    d.settings = before
    d.write_conf()
    d.write_stack("path", f"caller required permit\nkey sufficient file path={moved}/keys\nkey required store\naudit none\n")
    t.contains(reload(d), f"{d.stack_dir}/path:2: path: {moved}/keys is beyond what the daemon can reach")
    os.unlink(os.path.join(d.stack_dir, "path"))
    d.settings["confine.read"] = moved
    d.write_conf()
    t.equal(reload(d), True)
    t.contains(d.log(), "takes effect at the next start: [confine] read")
    d.stop()
    d.start(wait="socket")
    t.equal(tried(d, "thread"), "done")


def test_new_module_files(t):
    directory = module_dir("intrude")
    d = intruder(t, {"thread": ("thread",)}, {"stacks.module_dir": directory})
    add_module(directory, "sound")
    d.write_stack("sound", PLAIN + "scope required sound\n")
    told = reload(d)
    t.contains(told, f"{directory}/sound.so: new module files need a restart of apikeyd")
    t.equal(tried(d, "thread"), "done")
    # One that was in use may be put elsewhere.
    os.unlink(os.path.join(d.stack_dir, "sound"))
    d.write_stack("more", stack_of("user", "root"))
    t.equal(reload(d), True)
    t.equal(tried(d, "more"), "done")


# ---- the database -----------------------------------------------------------------------------------------------

def free_port():
    """Of those that no connection is given by itself: it must still be free when the database comes back."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        end = max(int(f.read().split()[0]), 2048)
    while True:
        with contextlib.suppress(OSError):
            with socket.create_server(("127.0.0.1", 1024 + secrets.randbelow(end - 1024))) as s:
                return s.getsockname()[1]


def test_the_database_comes_back(t):
    """By its name, which is looked up anew, over TCP: sockets, threads and a load after the start."""
    port = free_port()
    own = t.keep(Cluster({"listen_addresses": "127.0.0.1", "port": str(port)}))
    own.start()
    for command in ("create database apikeyd", "create role apikeyd login noinherit"):
        own.psql("-p", str(port), "-c", command, database="postgres")
    for file in sorted(os.listdir(SQL_DIR)):
        own.psql("-p", str(port), "-f", os.path.join(SQL_DIR, file))
    own.psql("-p", str(port), "-c", "grant apikeyd_check, apikeyd_admin to apikeyd")
    d = t.keep(Daemon(None, {"database.backoff_min_ms": "20", "database.backoff_max_ms": "100"},
                      conninfo=f"host=localhost port={port} user=apikeyd dbname=apikeyd sslmode=disable"))
    t.contains(d.log(), "confined: ")
    for turn in ("first", "second"):
        told = len(d.log())
        own.restart()
        wait_until("it to follow again", lambda: "database feed: following host=localhost" in d.log()[told:])
        before = d.stats()["rev"]

        def added(): # each time another, since what was not answered may have been done
            with contextlib.suppress(RpcError):
                return d.admin("org_add", org=f"{turn}-{secrets.token_hex(8)}")
        wait_until("a change by administration", added)
        wait_until("a copy that has it", lambda: d.stats()["rev"] > before)


# ---- others of the same user ------------------------------------------------------------------------------------

def as_nobody():
    """The words before a command, where root runs the tests."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid", str(NOBODY.pw_uid), "--regid", str(NOBODY.pw_gid), "--clear-groups", "--"]


LOOK = """
import json, os, sys
found = {}
for pid in sys.argv[1:]:
    for name in ("mem", "environ", "maps", "auxv", "syscall", "stack", "fd", "exe", "cwd", "map_files"):
        path = f"/proc/{pid}/{name}"
        try:
            if name in ("fd", "map_files"):
                os.listdir(path)
            elif name in ("exe", "cwd"):
                os.readlink(path)
            else:
                with open(path, "rb") as f:
                    f.read(1)
            found[name] = found.get(name, []) + [pid]
        except OSError as error:
            if name == "mem" and error.errno == 5: # opened, and nothing is mapped at its begin
                found[name] = found.get(name, []) + [pid]
print(json.dumps([os.getuid(), found]))
"""


def owned_by_nobody(t, prefix=(), **more):
    d = intruder(t, {}, start=False, prefix=[*as_nobody(), *prefix], **more)
    if os.geteuid() == 0:
        for directory, _, files in os.walk(d.dir):
            for path in [directory, *(os.path.join(directory, name) for name in files)]:
                os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    return d.start(wait="socket")


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return f.read().split()


def test_same_user(t):
    """Neither the daemon's memory nor its environment is anybody else's, and so it is with the broker's."""
    program = os.path.join(new_dir("program"), "yes")
    os.chmod(os.path.dirname(program), 0o755)
    with open(program, "w") as f:
        f.write("#!/bin/sh\ncat\n")
    os.chmod(program, 0o755)
    d = owned_by_nobody(t)
    d.write_stack("exec", PLAIN + f"account required exec command={program}\n")
    d.stop()
    d.start(wait="socket")
    brokers = children_of(d.process.pid)
    t.equal(len(brokers), 1, "the broker")
    bait = subprocess.Popen([*as_nobody(), "sleep", "1000"])
    try:
        look = lambda *pids: json.loads(subprocess.run([*as_nobody(), "/usr/bin/python3", "-c", LOOK, *map(str, pids)], check=True,
                                                       stdout=subprocess.PIPE).stdout)
        uid = os.geteuid() or NOBODY.pw_uid
        wait_until("the bait", lambda: os.stat(f"/proc/{bait.pid}").st_uid == uid and "sleep" in
                   open(f"/proc/{bait.pid}/comm").read())
        got = look(bait.pid)
        t.equal(got[0], uid)
        t.ok({"mem", "environ", "maps"} <= set(got[1]), f"who looks can look: {got}")
        t.equal(look(d.process.pid), [uid, {}], "the daemon")
        t.equal(look(brokers[0]), [uid, {}], "the broker")
        t.equal(int(status_of(d)["Uid"].split()[0]), uid)
    finally:
        bait.kill()
        bait.wait()


def test_no_core(t):
    where = new_dir("core")
    os.chmod(where, 0o777)
    with open("/proc/sys/kernel/core_pattern") as f:
        if f.read()[:1] in ("|", "/"):
            t.skip("core files of this host go elsewhere than to the working directory")
    inside = ["sh", "-c", f'cd {where} && ulimit -c unlimited && exec "$@"', "sh"]
    bait = subprocess.Popen([*as_nobody(), *inside, "sleep", "1000"])
    wait_until("the bait", lambda: "sleep" in open(f"/proc/{bait.pid}/comm").read())
    bait.send_signal(signal.SIGABRT)
    bait.wait()
    if not os.listdir(where):
        t.skip("this host leaves no core files at all")
    for name in os.listdir(where):
        os.unlink(os.path.join(where, name))
    d = owned_by_nobody(t, prefix=inside)
    with open(f"/proc/{d.process.pid}/limits") as f:
        t.contains(f.read(), "Max core file size        0                    0")
    d.signal(signal.SIGABRT)
    t.equal(d.process.wait(WAIT), -signal.SIGABRT)
    d.process = None
    t.equal(os.listdir(where), [])


def test_the_broker_has_no_pepper(t):
    """Nor has the daemon more of it than its locked memory; root looks, which may."""
    if os.geteuid() != 0:
        t.skip("only root can look into a process that is not dumpable")
    if sanitized():
        t.skip("AddressSanitizer's own memory has terabytes, and copies")
    program = os.path.join(new_dir("program"), "yes")
    os.chmod(os.path.dirname(program), 0o755)
    with open(program, "w") as f:
        f.write("#!/bin/sh\ncat\n")
    os.chmod(program, 0o755)
    d = t.keep(Daemon(cluster(), pepper=PEPPER, stacks={"default": PLAIN, "exec": PLAIN + f"account required exec command={program}\n"}))
    d.admin("key_mint", kind="user", user="olga@acme.example")
    needles = [bytes.fromhex(PEPPER), PEPPER.encode()]

    def holds(pid):
        """The names and flags of the mappings that have one."""
        found = []
        with open(f"/proc/{pid}/smaps") as f:
            text = f.read()
        entries = []
        for line in text.splitlines():
            first = line.split()[0]
            if "-" in first and not first.endswith(":"):
                entries.append([line, ""])
            elif first == "VmFlags:":
                entries[-1][1] = line
        with open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line, flags in entries:
                start, end = (int(x, 16) for x in line.split()[0].split("-"))
                if line.split()[1][0] != "r" or "[v" in line:
                    continue
                with contextlib.suppress(OSError, ValueError):
                    memory.seek(start)
                    data = memory.read(end - start)
                    if any(needle in data for needle in needles):
                        found.append((line, flags.split()))
        return found
    t.equal(holds(children_of(d.process.pid)[0]), [], "the broker")
    found = holds(d.process.pid)
    t.ok(found, "it is somewhere")
    for line, flags in found:
        t.ok({"lo", "dd", "wf"} <= set(flags), f"locked, in no core file, and zeros to a fork: {line} {flags}")


if __name__ == "__main__":
    run(globals())
