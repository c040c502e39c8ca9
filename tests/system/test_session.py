#!/usr/bin/python3
"""The daemon as a process: sockets, sessions, signals, options. Most of it needs no database: a well-formed key is
then `not_loaded`."""
import os
import re
import signal
import socket
import stat
import subprocess
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *

KEY = make_key("user")


def request(msgid, method="check", *params):
    return msgpack.packb([0, msgid, method, list(params) or [KEY, "page:read", "acme"]])


def lonely(t, settings=None, **more):
    """A daemon without a database."""
    return t.keep(Daemon(settings=settings, wait="socket", **more))


def drain(sock, seconds=WAIT):
    """All that comes until the peer closes; a reset by a peer that threw our bytes away is an end, too."""
    sock.settimeout(seconds)
    data = b""
    while True:
        try:
            part = sock.recv(1 << 16)
        except ConnectionResetError:
            part = b""
        if not part:
            return data
        data += part


def messages(data):
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
    unpacker.feed(data)
    return list(unpacker)


def as_uid(uid, path, data=b""):
    """What a process of another user gets when it connects, writes and reads to the end (or to its first pause)."""
    program = ("import os,socket,sys\nos.setgroups([])\nos.setgid(%d)\nos.setuid(%d)\ns=socket.socket(socket.AF_UNIX)\n"
               "s.settimeout(%f)\ns.connect(sys.argv[1])\nif sys.argv[2]: s.sendall(bytes.fromhex(sys.argv[2]))\n"
               "sys.stdout.write(s.recv(65536).hex())\n" % (uid, uid, WAIT))
    done = subprocess.run([sys.executable, "-c", program, path, data.hex()], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=2 * WAIT)
    return done, bytes.fromhex(done.stdout)


def apikeyd(*argv):
    return subprocess.run([APIKEYD, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=WAIT)


# ---- bytes -------------------------------------------------------------------------------------------------------

def test_pipelined_answers_come_in_one_piece(t):
    d = lonely(t)
    rpc = t.keep(d.rpc())
    rpc.call("hello", {})
    before = d.stats()
    rpc.send_raw(b"".join(request(i) for i in range(100, 200)))
    data = rpc.socket.recv(1 << 20)
    t.equal([m[1] for m in messages(data)], list(range(100, 200)), "one recv has all answers, each once")
    t.equal({m[3]["reason"] for m in messages(data)}, {"not_loaded"}, "reason")
    after = d.stats()
    # of these, one read and one write are the burst's; the others are those of the two calls of stats
    t.equal(after["reads"] - before["reads"], 2, "reads")
    t.equal(after["writes"] - before["writes"], 2, "writes")


def test_message_in_pieces(t):
    d = lonely(t)
    rpc = t.keep(d.rpc())
    data = request(1) + request(2, "check_many", KEY, [["page:read", "p" * 40]] * 900) + request(3)
    for at in list(range(0, 200)) + list(range(200, len(data), 997)):
        end = at + 1 if at < 199 else min(len(data), at + 997) if at >= 200 else 200
        rpc.send_raw(data[at:end])
        if at % 50 == 0:
            time.sleep(0.001)
    t.equal(rpc.receive(1)["reason"], "not_loaded")
    t.equal(len(rpc.receive(2)), 900)
    t.equal(rpc.receive(3)["reason"], "not_loaded")


def test_malformed_stream_ends(t):
    d = lonely(t)
    form, long = "[0, msgid, method, params]", "longer than 65536 bytes (limits.message_bytes)"
    for bad, says in ((b"\xc1", form), (b"\x01", form), (b"\x80", form), (msgpack.packb([9, 1, "hello", []]), form),
                      (b"\xdd\xff\xff\xff\xff", long), (b"\x91" * 9 + b"\x01", "deeper than 8"),
                      (msgpack.packb([0, 1, "check", ["x" * 70000, "a:b", None]]), long)):
        s = t.keep(socket.socket(socket.AF_UNIX))
        s.connect(d.socket)
        s.sendall(request(7) + bad[:65000])
        if len(bad) > 65000:
            try:
                s.sendall(bad[65000:])
            except OSError:
                pass
        got = messages(drain(s))
        t.equal(got[0][:2], [1, 7], "what came before is answered")
        t.equal(got[1][:2], [2, "error"], "then the notice")
        t.equal(got[1][2][0], "malformed", "its code")
        t.contains(got[1][2][1], says, "names the thing, and what is right")
        t.equal(len(got), 2, "and nothing more")
    t.equal(d.stats()["closed_malformed"], 7)
    t.equal(d.check(KEY, "page:read", "acme")["reason"], "not_loaded", "others go on")


def test_errors_leave_the_connection(t):
    d = lonely(t, {"limits.pairs": 2})
    rpc = t.keep(d.rpc())
    t.equal(t.raises(RpcError, lambda: rpc.call("nope")).code, "unknown_method")
    t.equal(t.raises(RpcError, lambda: rpc.call("org_list", {})).code, "unknown_method")
    t.equal(t.raises(RpcError, lambda: rpc.call("check", KEY)).code, "bad_params")
    error = t.raises(RpcError, lambda: rpc.call("check_many", KEY, [["a:b", None]] * 3))
    t.equal(error.code, "limit")
    t.contains(str(error), "limits.pairs")
    t.equal(rpc.check("junk", "page:read")["reason"], "malformed_key")
    t.equal(rpc.check(KEY, "page:read")["reason"], "not_loaded")
    t.equal(rpc.check("junk", "page:read", stack="other")["reason"], "no_stack")


def test_partial_message_times_out(t):
    d = lonely(t, {"limits.partial_message_ms": "50ms"})
    s = t.keep(socket.socket(socket.AF_UNIX))
    s.connect(d.socket)
    s.sendall(request(1) + request(2)[:-1])
    got = messages(drain(s))
    t.equal(got[0][:2], [1, 1])
    t.equal(got[1][2][0], "limit")
    t.contains(got[1][2][1], "limits.partial_message_ms")
    t.equal(d.stats()["closed_partial_message"], 1)


def test_half_close_gets_its_answers(t):
    d = lonely(t)
    s = t.keep(socket.socket(socket.AF_UNIX))
    s.connect(d.socket)
    s.sendall(b"".join(request(i) for i in range(500)))
    s.shutdown(socket.SHUT_WR)
    t.equal(len(messages(drain(s))), 500)
    wait_until("the session to end", lambda: d.stats()["connections"] == 1)


def test_slow_reader_is_held_up_and_loses_nothing(t):
    d = lonely(t, {"limits.output_bytes_per_connection": "64k"})
    s = t.keep(socket.socket(socket.AF_UNIX))
    s.connect(d.socket)
    count = 30000
    data = b"".join(request(i) for i in range(count))
    sender = threading.Thread(target=s.sendall, args=(data,))
    sender.start()
    wait_until("the daemon to stop reading", lambda: d.stats()["paused_slow_readers"] > 0)
    t.ok(sender.is_alive(), "the sender is held up")
    t.equal(d.check(KEY, "page:read")["reason"], "not_loaded", "others are served")
    unpacker, got = msgpack.Unpacker(raw=False, strict_map_key=False), []
    s.settimeout(WAIT)
    while len(got) < count:
        unpacker.feed(s.recv(1 << 16))
        got += [m[1] for m in unpacker]
    sender.join()
    t.equal(got, list(range(count)), "every answer once, in order")
    t.equal(d.stats()["closed_output"], 0)


# ---- who may connect -----------------------------------------------------------------------------------------------

def test_connection_limits(t):
    d = lonely(t, {"limits.connections": 4, "limits.connections_per_uid": 3})
    rpcs = [t.keep(d.rpc()) for _ in range(3)]
    for rpc in rpcs:
        rpc.call("hello", {})
    s = t.keep(socket.socket(socket.AF_UNIX))
    s.connect(d.socket)
    got = messages(drain(s))
    t.equal(got[0][2][0], "limit")
    t.contains(got[0][2][1], "limits.connections_per_uid")
    t.equal(rpcs[0].call("stats")["refused_connections_per_uid"], 1)
    rpcs.pop().close()
    wait_until("room", lambda: rpcs[0].call("stats")["connections"] == 2)
    t.equal(t.keep(d.rpc()).call("hello", {})["server"], "apikeyd")


def test_unnamed_peers_are_refused(t):
    if os.geteuid() != 0:
        t.skip("needs root, to be another user")
    d = lonely(t, {"socket.mode": "0666", "admin.mode": "0666"})
    os.chmod(d.dir, 0o755)
    done, got = as_uid(65534, d.socket)
    t.equal(messages(got)[0][2][0], "refused", done.stderr)
    t.equal(d.stats()["refused_credentials"], 1)
    done, got = as_uid(12345, d.socket, request(1))
    t.equal(messages(got)[0][3]["reason"], "not_loaded", done.stderr)
    done, got = as_uid(12345, d.admin_socket)
    t.equal(messages(got)[0][2][0], "refused", done.stderr)
    t.contains(messages(got)[0][2][1], "[admin] users")
    t.equal(d.stats()["refused_admin_users"], 1)
    # A reload lets that user in.
    d.settings["admin.users"] = "root, 12345"
    d.write_conf()
    d.signal(signal.SIGHUP)
    wait_until("the reload", lambda: d.stats()["reloads"] == 1)
    done, got = as_uid(12345, d.admin_socket, msgpack.packb([0, 1, "stats", []]))
    t.equal(messages(got)[0][1], 1, done.stderr)


def test_socket_owner_and_mode(t):
    d = lonely(t, {"socket.mode": "0640", **({"socket.group": "nogroup"} if os.geteuid() == 0 else {})})
    st = os.stat(d.socket)
    t.equal(stat.S_IMODE(st.st_mode), 0o640)
    t.equal(stat.S_IMODE(os.stat(d.admin_socket).st_mode), 0o600)
    if os.geteuid() == 0:
        import grp
        t.equal(st.st_gid, grp.getgrnam("nogroup").gr_gid)


def several(t, **settings):
    """A daemon with the check sockets `web` and `more` beside its own."""
    d = t.keep(Daemon(start=False, stacks={"strict": "caller required permit\nkey required store\naccount required rate\naudit none\n"}))
    d.web, d.more = (os.path.join(d.dir, name + ".sock") for name in ("web", "more"))
    d.settings.update({"socket web.path": d.web, "socket more.path": d.more, "socket more.stack": "strict",
                       **{name.replace("_", " ", 1).replace("_", ".", 1): value for name, value in settings.items()}})
    d.write_conf()
    return d.start(wait="socket")


def hello(path):
    with contextlib.closing(Rpc(path)) as rpc:
        return rpc.call("hello", {})["server"]


def test_several_check_sockets(t):
    d = several(t, socket_web_mode="0640", socket_more_mode="0606")
    for path, mode in ((d.socket, 0o660), (d.web, 0o640), (d.more, 0o606), (d.admin_socket, 0o600)):
        t.equal(stat.S_IMODE(os.stat(path).st_mode), mode, path)
        t.equal(hello(path), "apikeyd", path)
    for path in (d.socket, d.web, d.more):
        with contextlib.closing(Rpc(path)) as rpc:
            t.equal(t.raises(RpcError, lambda: rpc.call("org_list", {})).code, "unknown_method", path)
    t.contains(d.log(), f"listens on {d.web}\n")
    t.contains(d.log(), f"listens on {d.more} (stack strict)\n")
    # All are one daemon: what one is asked counts in all.
    with contextlib.closing(Rpc(d.web)) as web, contextlib.closing(Rpc(d.more)) as more:
        before = web.call("stats")["requests_check"]
        more.check(KEY, "page:read", "acme")
        web.check(KEY, "page:read", "acme")
        t.equal(web.call("stats")["requests_check"], before + 2)
    t.equal(d.stop(), 0)
    t.equal(sorted(n for n in os.listdir(d.dir) if "sock" in n), [], "a stop takes every socket and lock with it")


def test_each_socket_has_its_users(t):
    if os.geteuid() != 0:
        t.skip("needs root, to be another user")
    d = several(t, socket_web_owner="12345", socket_web_mode="0600", socket_more_group="12346", socket_more_mode="0060")
    os.chmod(d.dir, 0o755)
    st = os.stat(d.web)
    t.equal((st.st_uid, stat.S_IMODE(st.st_mode)), (12345, 0o600))
    st = os.stat(d.more)
    t.equal((st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)), (0, 12346, 0o060))
    for uid, path, comes in ((12345, d.web, True), (12346, d.web, False), (12345, d.more, False), (12346, d.more, True),
                             (12345, d.socket, False), (12346, d.admin_socket, False)):
        done, got = as_uid(uid, path, request(1))
        if comes:
            t.equal(messages(got)[0][3]["reason"], "not_loaded", f"{uid} at {path}: {done.stderr}")
        else:
            t.contains(done.stderr, "PermissionError", f"{uid} at {path}")


def test_sockets_by_reload(t):
    d = several(t)
    d.settings.update({"socket web.mode": "0600", "socket more.stack": "", "socket new.path": d.web + ".new"})
    d.write_conf()
    d.signal(signal.SIGHUP)
    wait_until("the reload", lambda: d.stats()["reloads"] == 1)
    t.contains(d.log(), "takes effect at the next start: [socket web] mode, [socket more] stack, [socket new] (new)\n")
    t.equal((hello(d.web), hello(d.more)), ("apikeyd", "apikeyd"), "what is open goes on")
    t.equal(stat.S_IMODE(os.stat(d.web).st_mode), 0o660)
    t.ok(not os.path.exists(d.web + ".new"), "not yet")
    t.equal(d.stop(), 0)
    d.start(wait="socket")
    t.equal(stat.S_IMODE(os.stat(d.web).st_mode), 0o600)
    t.equal(hello(d.web + ".new"), "apikeyd", "and now")


def test_a_wrong_socket_among_several(t):
    d = several(t)
    t.equal(d.stop(), 0)
    good = dict(d.settings)
    link = os.path.join(d.dir, "link")
    os.symlink(d.dir, link)
    for wrong, line in (({"socket more.owner": "no-such-user"}, "[socket more] owner = no-such-user: there is no such user"),
                        ({"socket more.path": "/nonexistent/x"}, "[socket more] path = /nonexistent/x: the directory"),
                        ({"socket more.path": d.conf}, f"[socket more] path = {d.conf}: something stands there"),
                        ({"socket more.path": link + "/web.sock"},
                         f"[socket more] path = {link}/web.sock: is the path of [socket web], {d.web}"),
                        ({"explain.users": "root, no-such-user"},
                         "[explain] users = root, no-such-user: there is no user no-such-user"),
                        ({"admin.users": "root daemon"}, "[admin] users = root daemon: there is no user root daemon")):
        d.settings = dict(good, **wrong)
        d.write_conf()
        for argv in (("-t",), ()):
            done = apikeyd("-c", d.conf, *argv)
            t.equal(done.returncode, 1, line)
            t.ok(re.search(re.escape(d.conf) + r":\d+: " + re.escape(line), done.stderr), done.stderr)
            t.equal(len(done.stderr.splitlines()), 1, done.stderr)
        t.equal([n for n in os.listdir(d.dir) if "sock" in n], [], "none is open, where one cannot be")
    d.settings = dict(good, **{"socket more.path": d.web})
    d.write_conf()
    done = apikeyd("-c", d.conf, "-t")
    number = 1 + len(open(d.conf).read().split("[socket more]")[0].splitlines()) + 1
    t.equal(done.stderr, f"{d.conf}:{number}: [socket more] path = {d.web}: must not be the path of [socket web]\n")


# ---- sockets that are there already ----------------------------------------------------------------------------------

def stale_socket(path):
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
        s.bind(path)
        s.listen()


def test_stale_socket_is_taken_away(t):
    d = t.keep(Daemon(start=False))
    stale_socket(d.socket)
    stale_socket(d.admin_socket)
    d.start(wait="socket")
    t.contains(d.log(), "took away the dead socket " + d.socket)
    t.equal(d.check(KEY, "page:read")["reason"], "not_loaded")


def test_after_kill_it_starts_again(t):
    d = lonely(t)
    d.kill()
    t.ok(os.path.exists(d.socket), "a killed daemon leaves its socket")
    d.start(wait="socket")
    t.equal(d.stop(), 0)
    t.equal(sorted(n for n in os.listdir(d.dir) if "sock" in n), [], "a stopped one takes everything with it")


def test_live_socket_is_left_alone(t):
    d = lonely(t)
    done = apikeyd("-c", d.conf)
    t.equal(done.returncode, 1)
    t.contains(done.stderr, d.socket)
    t.contains(done.stderr, "stop it, or choose another path")
    t.equal(d.check(KEY, "page:read")["reason"], "not_loaded", "the first goes on")
    # Another program's socket, without our lock beside it.
    other = os.path.join(d.dir, "other.sock")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
        s.bind(other)
        s.listen()
        e = t.keep(Daemon(start=False, settings={"socket.path": other}))
        done = apikeyd("-c", e.conf)
        t.equal(done.returncode, 1)
        t.contains(done.stderr, "answers there")
        t.ok(os.path.exists(other), "still there")
        t.ok(not os.path.exists(e.admin_socket), "nothing of its own is left")


def test_two_started_at_once(t):
    d = t.keep(Daemon(start=False))
    for _ in range(10):
        both = [subprocess.Popen([APIKEYD, "-c", d.conf], stderr=subprocess.PIPE) for _ in range(2)]
        try:
            loser = wait_until("one to give up", lambda: [p for p in both if p.poll() is not None])
            t.equal(len(loser), 1, "one of them")
            t.equal(loser[0].returncode, 1)
            wait_until("the other to answer", lambda: answers(d.socket))
        finally:
            for p in both:
                if p.poll() is None:
                    p.terminate()
                p.communicate()
        t.equal(sorted(p.returncode for p in both), [0, 1])


def answers(path):
    try:
        with contextlib.closing(Rpc(path, 5)) as rpc:
            return rpc.call("hello", {})
    except OSError:
        return None


def test_something_else_at_the_path(t):
    d = t.keep(Daemon(start=False))
    with open(d.socket, "w") as f:
        f.write("precious")
    done = apikeyd("-c", d.conf)
    t.equal(done.returncode, 1)
    t.contains(done.stderr, "something stands there that is no socket")
    t.equal(open(d.socket).read(), "precious")
    t.equal(len(done.stderr.splitlines()), 1, "one line")


def test_stop_leaves_anothers_socket(t):
    d = lonely(t)
    os.unlink(d.socket)
    stale_socket(d.socket)
    t.equal(d.stop(), 0)
    t.ok(os.path.exists(d.socket), "it was not ours any more")


# ---- options -------------------------------------------------------------------------------------------------------

def test_options(t):
    d = t.keep(Daemon(start=False))
    done = apikeyd("-c", d.conf, "-t")
    t.equal((done.returncode, done.stdout, done.stderr), (0, d.conf + ": fine\n", ""))
    done = apikeyd("--config", d.conf, "--print")
    t.equal(done.returncode, 0)
    t.contains(done.stdout, f"[socket]\n# Where services ask.\npath = {d.socket}\n")
    # What it prints is a configuration, and the same one.
    copy = os.path.join(d.dir, "copy.conf")
    with open(copy, "w") as f:
        f.write(done.stdout)
    t.equal(apikeyd("-c", copy, "-T").stdout, done.stdout)
    t.equal(apikeyd("--version").returncode, 0)
    t.equal(apikeyd("--help").returncode, 0)
    t.equal(apikeyd("--nope").returncode, 2)
    t.equal(apikeyd("nope").returncode, 2)
    done = apikeyd("-c", "/nonexistent/x.conf", "-t")
    t.equal(done.returncode, 1)
    t.contains(done.stderr, "/nonexistent/x.conf: cannot be read")


def test_wrong_configuration(t):
    d = t.keep(Daemon(start=False, settings={"limits.pairs": 9999, "limits.conections": 1, "log.level": "loud"}))
    for argv in (("-t",), ("-T",), ()):
        done = apikeyd("-c", d.conf, *argv)
        t.equal(done.returncode, 1)
        lines = done.stderr.splitlines()
        t.equal(len(lines), 3, "a line an error")
        t.ok(all(line.startswith(d.conf + ":") for line in lines), done.stderr)
        t.contains(done.stderr, "[limits] pairs = 9999: must be a number from 1 to 1024")
        t.contains(done.stderr, "[limits] conections: no such setting; connections?")
        t.contains(done.stderr, "[log] level = loud: must be error, warning, info or debug")


def test_what_the_configuration_names(t):
    d = t.keep(Daemon(start=False, settings={"socket.owner": "nobody-knows", "admin.users": "root,who",
                                             "admin.path": "/nonexistent/dir/a.sock", "database.conninfo": "nope=1"}))
    os.chmod(d.pepper_file, 0o644)
    for argv in (("-t",), ()):
        done = apikeyd("-c", d.conf, *argv)
        t.equal(done.returncode, 1)
        for part in ("owner = nobody-knows: there is no such user", "there is no user who", "/nonexistent/dir",
                     "[database] conninfo", "chmod 0600"):
            t.contains(done.stderr, part)
        t.equal(len(done.stderr.splitlines()), 5, done.stderr)
        t.ok(d.pepper not in done.stderr, "the pepper is not told")


def test_what_may_not_be_read_or_made(t):
    if os.geteuid() != 0:
        raise Skip("takes root, to be somebody else")

    def as_nobody(argv):
        return subprocess.run([sys.executable, "-c", "import os,sys\nos.setgroups([])\nos.setgid(65534)\nos.setuid(65534)\n"
                               "os.execv(sys.argv[1], sys.argv[1:])", os.path.join(open_dir, "apikeyd"), *argv], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=WAIT)
    # another place, since neither the tests' directory nor the tree need be open to others
    with contextlib.ExitStack() as stack:
        open_dir = tempfile.mkdtemp(prefix="apikeyd-open.")
        stack.callback(shutil.rmtree, open_dir)
        os.chmod(open_dir, 0o755)
        shutil.copy(APIKEYD, os.path.join(open_dir, "apikeyd"))
        conf = os.path.join(open_dir, "apikeyd.conf")
        with open(conf, "w") as f:
            f.write(f"[socket]\npath = {open_dir}/check.sock\n\n[admin]\npath = {open_dir}/admin.sock\n")
        os.chmod(conf, 0o640)
        done = as_nobody(["-t", "-c", conf])
        t.equal(done.returncode, 1)
        t.ok(re.fullmatch(re.escape(conf) + r": cannot be read: Permission denied; it belongs to root \(0\) and group root "
                          r"\(0\), mode 0640, and apikeyd runs as \S+ \(65534\): let a group of that user read it, or run "
                          r"apikeyd as another\n", done.stderr), done.stderr)
        with_lock = os.path.join(open_dir, "locked")
        os.mkdir(with_lock, 0o700)
        t.contains(as_nobody(["-t", "-c", os.path.join(with_lock, "apikeyd.conf")]).stderr,
                   ", whom a directory above it does not let through")
        os.chmod(conf, 0o644)
        done = as_nobody(["-t", "-c", conf])
        t.ok(re.search(re.escape(f"{conf}:2: [socket] path = {open_dir}/check.sock: {open_dir} is no directory that apikeyd's "
                                 "user, ") + r"\S+ \(65534\), can write to", done.stderr), done.stderr)


def test_pepper_faults(t):
    for text, part in (("", "holds no pepper"), ("1 1234\n", "64 hex digits"), ("x\n", "version")):
        d = t.keep(Daemon(start=False))
        with open(d.pepper_file, "w") as f:
            f.write(text)
        done = apikeyd("-c", d.conf)
        t.equal(done.returncode, 1)
        t.contains(done.stderr, part)
        t.equal(len(done.stderr.splitlines()), 1, done.stderr)
    os.unlink(d.pepper_file)
    t.contains(apikeyd("-c", d.conf).stderr, "No such file")


# ---- signals -------------------------------------------------------------------------------------------------------

def test_reload(t):
    d = lonely(t)
    rpc = t.keep(d.rpc())
    t.equal(rpc.call("hello", {})["limits"]["pairs"], 1024)
    # A wrong one changes nothing, and is told with file and line.
    good = dict(d.settings)
    d.settings.update({"limits.pairs": 10, "limits.waiting": "many"})
    d.write_conf()
    d.signal(signal.SIGHUP)
    wait_until("the refusal", lambda: d.stats()["reloads_failed"] == 1)
    t.equal(rpc.call("hello", {})["limits"]["pairs"], 1024)
    number = 1 + open(d.conf).read().splitlines().index("waiting = many")
    t.contains(d.log(), f"{d.conf}:{number}: [limits] waiting = many")
    # A right one is in effect on connections that are there, too, and new sockets wait for the next start.
    d.settings = dict(good, **{"limits.pairs": 10, "limits.read_bytes": "8k", "socket.mode": "0600", "key.brand": "xy"})
    d.write_conf()
    d.signal(signal.SIGHUP)
    wait_until("the reload", lambda: d.stats()["reloads"] == 1)
    hello = rpc.call("hello", {})
    t.equal((hello["limits"]["pairs"], hello["brand"]), (10, "xy"))
    t.contains(d.log(), "takes effect at the next start: [socket] mode")
    t.equal(rpc.check(KEY, "page:read")["reason"], "malformed_key", "a key of the old brand")
    t.equal(rpc.check(make_key("user", brand="xy"), "page:read")["reason"], "not_loaded")
    # A pepper that cannot be read keeps the old one.
    os.chmod(d.pepper_file, 0o644)
    d.signal(signal.SIGHUP)
    wait_until("the refusal", lambda: d.stats()["reloads_failed"] == 2)
    t.contains(d.log(), "chmod 0600")
    # So does a file that is gone.
    os.unlink(d.conf)
    d.signal(signal.SIGHUP)
    wait_until("the refusal", lambda: d.stats()["reloads_failed"] == 3)
    t.equal(rpc.call("hello", {})["limits"]["pairs"], 10)


def test_stop_answers_what_has_arrived(t):
    d = lonely(t)
    rpcs = [t.keep(d.rpc()) for _ in range(5)]
    for rpc in rpcs:
        rpc.call("hello", {})
    # Stopped by the kernel, it reads nothing; the requests and the signal wait for it together.
    d.signal(signal.SIGSTOP)
    for rpc in rpcs:
        rpc.send_raw(b"".join(request(i) for i in range(1000, 1200)))
    d.signal(signal.SIGTERM)
    d.signal(signal.SIGCONT)
    for rpc in rpcs:
        got = messages(drain(rpc.socket))
        t.equal([m[1] for m in got], list(range(1000, 1200)), "every request, once")
    t.equal(d.process.wait(WAIT), 0)
    t.contains(d.log(), "stopped")


def test_sigint_and_idle_connections(t):
    d = lonely(t)
    rpc = t.keep(d.rpc())
    rpc.call("hello", {})
    d.signal(signal.SIGINT)
    t.equal(rpc.socket.recv(10), b"", "the connection ends")
    t.equal(d.process.wait(WAIT), 0)


def test_stop_with_a_peer_that_does_not_read(t):
    d = lonely(t, {"limits.stop_ms": "100ms", "limits.output_bytes_per_connection": "4k"})
    s = t.keep(socket.socket(socket.AF_UNIX))
    s.connect(d.socket)
    s.setblocking(False)
    # A pause ends where the kernel takes the rest after all. Full on both sides it stays: while the daemon answered
    # three others, it read nothing of what stands in the socket.
    sent, still = 0, 0
    while still < 3:
        before = sent
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += s.send(request(1))
        still = still + 1 if sent == before and d.stats()["paused_slow_readers"] > 0 else 0
    d.signal(signal.SIGTERM)
    t.equal(d.process.wait(WAIT), 0)
    # Either ends it: the time is over; or the last read, of what had come before the signal, makes more than may wait.
    log = d.log()
    t.ok("limits.stop_ms" in log or "(limits.output_bytes_per_connection)" in log, log[-2000:])


# ---- with a copy -----------------------------------------------------------------------------------------------------

def test_requests_that_wait(t):
    cluster = t.keep(Cluster())
    cluster.start()
    cluster.install(demo=True)
    d = t.keep(Daemon(cluster, {"limits.in_flight_per_connection": 20, "limits.deadline_ms": "100ms",
                                "limits.output_bytes_per_connection": "4k"}))
    minted = d.admin("key_mint", kind="organization", org="acme", access="read")
    key, rev = minted["key"], minted["rev"]
    rpc = t.keep(d.rpc())
    answer = rpc.check(key, "page:read", "acme", min_rev=rev, deadline_ms=20000)
    t.equal(answer["reason"], "ok", "what was changed is seen")
    t.ok(answer["rev"] >= rev, "made from that revision or a later one")
    t.equal(rpc.check(key, "page:read", "acme", min_rev=1 << 60)["reason"], "behind")
    t.equal(rpc.check("junk", "page:read", "acme", min_rev=1 << 60)["reason"], "malformed_key", "needs no revision")
    # One that waits holds up no other; past the limit: overload.
    ids = [rpc.send("check", key, "page:read", "acme", {"min_rev": 1 << 60, "deadline_ms": 60000}) for _ in range(21)]
    t.equal(rpc.receive(ids[20])["reason"], "overload")
    t.equal(rpc.check(key, "page:read", "acme")["reason"], "ok")
    t.equal(d.stats()["waiting"], 20)
    # A connection that goes takes them with it.
    rpc.close()
    wait_until("them to be forgotten", lambda: d.stats()["waiting"] == 0)
    t.equal(d.stats()["waited_forgotten"], 20)
    # A half-closed one still gets its answer.
    rpc = t.keep(d.rpc())
    rpc.send_raw(request(5, "check", key, "page:read", "acme", {"min_rev": 1 << 60, "deadline_ms": 300}))
    rpc.socket.shutdown(socket.SHUT_WR)
    got = messages(drain(rpc.socket))
    t.equal((got[0][1], got[0][3]["reason"]), (5, "behind"))
    # It wakes up with the revision, and is judged on it: the key is revoked meanwhile.
    rpc = t.keep(d.rpc())
    last = rpc.check(key, "page:read", "acme")["rev"]
    waiting = rpc.send("check", key, "page:read", "acme", {"min_rev": last + 1, "deadline_ms": 20000})
    t.equal(d.admin("key_revoke", key_id=minted["key_id"])["key_id"], minted["key_id"])
    t.equal(rpc.receive(waiting)["reason"], "revoked")
    # A peer that does not read what it waited for is closed past its limit.
    pairs = [["page:read", "acme"]] * 1000
    s = t.keep(socket.socket(socket.AF_UNIX))
    s.settimeout(WAIT)
    s.connect(d.socket)
    with contextlib.suppress(ConnectionError): # closed while we still send, where sending takes that long
        for i in range(20):
            s.sendall(request(i, "check_many", key, pairs, {"min_rev": 1 << 60, "deadline_ms": 500 + 20 * i}))
    wait_until("the daemon to close it", lambda: d.stats()["closed_output"] == 1)


def test_stop_with_requests_that_wait(t):
    cluster = t.keep(Cluster())
    cluster.start()
    cluster.install(demo=True)
    d = t.keep(Daemon(cluster, {"limits.stop_ms": "300ms"}))
    key = d.admin("key_mint", kind="organization", org="acme")["key"]
    rpc = t.keep(d.rpc())
    short = rpc.send("check", key, "page:read", "acme", {"min_rev": 1 << 60, "deadline_ms": 50})
    long = rpc.send("check", key, "page:read", "acme", {"min_rev": 1 << 60, "deadline_ms": 60000})
    wait_until("them to wait", lambda: d.stats()["waited"] == 2)
    d.signal(signal.SIGTERM)
    t.equal(rpc.receive(short)["reason"], "behind", "at its deadline")
    t.equal(rpc.receive(long)["reason"], "behind", "at the stop's")
    t.equal(rpc.socket.recv(10), b"")
    t.equal(d.process.wait(WAIT), 0)


def test_admin_answers_are_not_lost_in_a_stop(t):
    cluster = t.keep(Cluster())
    cluster.start()
    cluster.install(demo=True)
    d = t.keep(Daemon(cluster))
    rpc = t.keep(Rpc(d.admin_socket))
    ids = [rpc.send("org_add", {"org": f"org-{i}"}) for i in range(20)]
    wait_until("them to be read", lambda: d.stats()["requests_admin"] == 20)
    d.signal(signal.SIGTERM)
    done, refused = 0, 0
    for i, msgid in enumerate(ids):
        try:
            t.equal(rpc.receive(msgid)["org"], f"org-{i}")
            done += 1
        except RpcError as error:
            t.equal(error.code, "unavailable")
            refused += 1
    t.equal(done + refused, 20, "each has its answer")
    t.equal(d.process.wait(WAIT), 0)
    t.equal(cluster.sql("select count(*) from apikeyd.organization where slug like 'org-%%'")[0][0], done,
            "what was answered is what was done")


if __name__ == "__main__":
    run(globals())
