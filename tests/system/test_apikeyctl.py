"""apikeyctl by itself: against a daemon that is played here, a terminal, and small migrations in a private cluster."""
import pty
import re
import stat
import threading

from world import *

KEY = make_key("user", "abcdefghij")
ALLOW = {"verdict": "allow", "reason": "ok", "rev": 17, "age_ms": 3, "key_id": "abcdefghij", "kind": "user",
         "org": "acme", "user": "ann@acme.example", "page": "acme-status"}
DENY = dict(ALLOW, verdict="deny", reason="scope_not_granted", missing_scope="incident:write", needs_role="editor")
HELLO = {"server": "apikeyd", "version": "1", "protocol": 1, "brand": "ak", "limits": {"in_flight": 64, "pairs": 1024}}
FAULT = {"verdict": "unavailable", "reason": "stale", "rev": 17, "age_ms": 99999}


# ---- a daemon that is played ---------------------------------------------------------------------------------------

class Played:
    """Answers each request with handler(method, params): a result, an RpcError, bytes (sent as they are) or None
    (the connection is closed). Remembers the requests."""

    def __init__(self, t, handler):
        self.path = os.path.join(new_dir("played"), "sock")
        self.handler = handler if callable(handler) else lambda method, params: handler
        self.requests = []
        self.hellos = []
        self.connections = 0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()
        t.keep(self)

    def _accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        unpacker = msgpack.Unpacker(raw=False)
        with peer:
            while True:
                data = peer.recv(65536)
                if not data:
                    return
                unpacker.feed(data)
                for _, msgid, method, params in unpacker:
                    if method == "hello" and not self.greeted(params):
                        peer.sendall(msgpack.packb([1, msgid, None, HELLO]))
                        continue
                    self.requests.append((method, params))
                    try:
                        answer = self.handler(method, params)
                    except RpcError as error:
                        peer.sendall(msgpack.packb([1, msgid, [error.code, error.message], None]))
                        continue
                    if answer is None:
                        return
                    peer.sendall(answer if isinstance(answer, bytes) else msgpack.packb([1, msgid, None, answer]))

    def greeted(self, params):
        """Each connection begins with a hello; a second one is a question like others."""
        self.hellos.append(params)
        return len(self.hellos) > self.connections

    def close(self):
        # close() alone would leave a thread in accept(), and the kernel listening.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def clean_env(**more):
    env = {n: v for n, v in os.environ.items() if not n.startswith(("APIKEY", "PG", "NO_COLOR"))}
    env.update(APIKEYD_SOCKET="/nonexistent/check.sock", APIKEYD_ADMIN_SOCKET="/nonexistent/admin.sock")
    env.update(more)
    return env


def ctl(*argv, key=None, stdin="", daemon=None, **more):
    env = clean_env()
    if daemon:
        env.update(APIKEYD_SOCKET=daemon.path, APIKEYD_ADMIN_SOCKET=daemon.path)
    if key:
        env["APIKEY_KEY"] = key
    env.update(more)
    return subprocess.run([APIKEYCTL, *argv], env=env, input=stdin, text=True, timeout=WAIT,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ends(t, done, code, err="", out=None):
    t.equal(done.returncode, code, f"{done.args[1:]}: {done.stderr}")
    t.ok("Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr)
    if err:
        t.contains(done.stderr, err, "standard error")
        t.equal(done.stderr.count("\n"), 1, f"one line says it: {done.stderr!r}")
    if out is not None:
        t.contains(done.stdout, out, "standard output")
    t.ok(KEY not in done.stderr and KEY[15:] not in done.stderr, "the key is not repeated")
    return done


# ---- verdicts -----------------------------------------------------------------------------------------------------

def test_verdicts_are_exit_codes(t):
    for answer, code, first in ((ALLOW, 0, "allow: ok\n"), (DENY, 1, "deny: scope_not_granted\n"),
                                (FAULT, 3, "unavailable: stale\n")):
        daemon = Played(t, answer)
        done = ends(t, ctl("check", "incident:write", "acme-status", key=KEY, daemon=daemon), code)
        t.ok(done.stdout.startswith(first), done.stdout)
        t.equal(daemon.requests[0][0], "check")
        t.equal(daemon.requests[0][1][:3], [KEY, "incident:write", "acme-status"])
        quiet = ends(t, ctl("check", "-q", "incident:write", "acme-status", key=KEY, daemon=daemon), code)
        t.equal(quiet.stdout + quiet.stderr, "", "-q says nothing")
        as_json = ends(t, ctl("check", "--json", "incident:write", "acme-status", key=KEY, daemon=daemon), code)
        t.equal(json.loads(as_json.stdout), answer, "--json is the verdict map")


def test_refusals_say_what_to_do(t):
    done = ends(t, ctl("check", "incident:write", "acme-status", key=KEY, daemon=Played(t, DENY)), 1)
    t.contains(done.stdout, "incident:write")
    t.contains(done.stdout, "next: give the user that role: apikeyctl member set ann@acme.example editor --page acme-status")
    t.contains(done.stdout, "key abcdefghij, user key of ann@acme.example, organization acme")
    t.contains(done.stdout, "revision 17, copy confirmed 3 ms ago")
    never = Played(t, {"verdict": "unavailable", "reason": "not_loaded", "rev": 0, "age_ms": 0})
    done = ends(t, ctl("check", "incident:write", "acme-status", key=KEY, daemon=never), 3)
    t.contains(done.stdout, "next: see the daemon's log")
    t.contains(done.stdout, "no revision: nothing was loaded yet")
    t.ok("ms ago" not in done.stdout, "no age of what is not there")


def test_a_stale_answer_is_told(t):
    stale = dict(ALLOW, age_ms=23456, stale=True)
    done = ends(t, ctl("check", "incident:write", "acme-status", key=KEY, daemon=Played(t, stale)), 0)
    t.contains(done.stdout, "revision 17, copy confirmed 23456 ms ago, stale\n")
    done = ends(t, ctl("check", "--pair", "a:b=c", "--pair", "d:e", key=KEY, daemon=Played(t, [stale, ALLOW])), 0)
    t.equal([line.endswith("by a copy that is stale") for line in done.stdout.splitlines()], [False, True, False])
    done = ends(t, ctl("whoami", key=KEY, daemon=Played(t, stale)), 0)
    t.contains(done.stdout, "23456 ms ago, stale\n")
    done = ends(t, ctl("pages", "a:read", key=KEY, daemon=Played(t, dict(stale, pages=["x", "y"]))), 0,
                "copy is stale, confirmed 23456 ms ago")
    t.equal(done.stdout, "x\ny\n")
    late = Played(t, dict(FAULT, retry_after_ms=700))
    done = ends(t, ctl("check", "incident:write", "acme-status", key=KEY, daemon=late), 3)
    t.contains(done.stdout, "Ask again in 700 ms")
    t.equal(len(late.requests), 1, "and is not asked again unbidden")


def test_circumstances_are_sent(t):
    daemon = Played(t, ALLOW)
    ends(t, ctl("check", "a:b", "--org", "acme", "--addr", "::1", "--stack", "s", "--min-rev", "5", "--cost", "3",
                "--timeout", "1500ms", key=KEY, daemon=daemon), 0)
    _, params = daemon.requests[0]
    t.equal(params, [KEY, "a:b", None, {"org": "acme", "addr": "::1", "stack": "s", "min_rev": 5, "cost": 3,
                                       "deadline_ms": 1500}])


def test_circumstances_that_are_wrong_are_not_sent(t):
    daemon = Played(t, ALLOW)
    for argv, says in ((["--addr", "10.0.0.0/8"], "--addr takes an IP address"), (["--min-rev", "x"], "--min-rev takes"),
                       (["--cost", "0"], "--cost takes"), (["--timeout", "0"], "--timeout takes"),
                       (["--timeout", "11m"], "--timeout takes"), (["--pair", "x:y"], "not both")):
        ends(t, ctl("check", "a:b", *argv, key=KEY, daemon=daemon), 2, says)
    ends(t, ctl("check", key=KEY, daemon=daemon), 2, "name what the key should do")
    t.equal(daemon.requests, [])


def test_several_pairs(t):
    daemon = Played(t, [ALLOW, DENY])
    done = ends(t, ctl("check", "--pair", "incident:read=acme-status", "--pair", "org:write", "--json", key=KEY,
                       daemon=daemon), 1)
    t.equal(daemon.requests[0][0], "check_many")
    t.equal(daemon.requests[0][1][:2], [KEY, [["incident:read", "acme-status"], ["org:write", None]]])
    t.equal([(r["scope"], r["page"], r["verdict"]) for r in json.loads(done.stdout)],
            [("incident:read", "acme-status", "allow"), ("org:write", None, "deny")])
    table = ends(t, ctl("check", "--pair", "incident:read=acme-status", "--pair", "org:write", key=KEY, daemon=daemon), 1)
    t.ok(re.search(r"^allow +incident:read +acme-status +ok", table.stdout, re.M), table.stdout)
    t.ok(re.search(r"^deny +org:write +- +scope_not_granted", table.stdout, re.M), table.stdout)
    for answers, code in (([ALLOW, ALLOW], 0), ([DENY, FAULT], 3), ([FAULT, DENY], 3), ([ALLOW], 3), ({}, 3)):
        ends(t, ctl("check", "-q", "--pair", "a:b", "--pair", "c:d", key=KEY, daemon=Played(t, answers)), code)


def test_whoami(t):
    answer = dict(ALLOW, organizations=[{"org": "acme", "role": "editor"}], pages=[{"page": "acme-status", "role": "owner"}],
                  narrowing={"pages": [], "networks": ["10.0.0.0/8"]}, expires_at=1801398896)
    daemon = Played(t, answer)
    done = ends(t, ctl("whoami", key=KEY, daemon=daemon), 0)
    for part in ("pages none; networks 10.0.0.0/8", "2027-01-31T12:34:56Z", "editor", "owner"):
        t.contains(done.stdout, part)
    t.equal(json.loads(ends(t, ctl("whoami", "--json", key=KEY, daemon=daemon), 0).stdout), answer)
    ends(t, ctl("whoami", key=KEY, daemon=Played(t, dict(FAULT, verdict="deny", reason="unknown_key"))), 1, out="unknown_key")


def test_pages_are_followed_to_their_end(t):
    def pages(method, params):
        after = (params[2] if len(params) > 2 else {}).get("after", "")
        rest = [slug for slug in ("a", "b", "c", "d", "e") if slug > after]
        return dict(ALLOW, pages=rest[:2], **({"next": rest[1]} if len(rest) > 2 else {}))

    daemon = Played(t, pages)
    t.equal(ends(t, ctl("pages", "incident:write", key=KEY, daemon=daemon), 0).stdout, "a\nb\nc\nd\ne\n")
    t.equal(daemon.connections, 1, "over one connection")
    whole = json.loads(ends(t, ctl("pages", "--json", "incident:write", key=KEY, daemon=daemon), 0).stdout)
    t.equal(whole["pages"], ["a", "b", "c", "d", "e"])
    t.ok("next" not in whole, "nothing is left")
    t.equal(ends(t, ctl("pages", "x:y", "--limit", "3", key=KEY, daemon=daemon), 0).stdout, "a\nb\nc\n")
    done = ends(t, ctl("pages", "x:y", key=KEY, daemon=Played(t, dict(ALLOW, pages=[]))), 0, "the key may do x:y on no page")
    t.equal(done.stdout, "")
    ends(t, ctl("pages", "x:y", key=KEY, daemon=Played(t, dict(FAULT, verdict="deny", reason="revoked"))), 1,
         out="deny: revoked")


# ---- keys ---------------------------------------------------------------------------------------------------------

def test_where_keys_come_from(t):
    daemon = Played(t, ALLOW)
    path = os.path.join(new_dir("key"), "key")
    with open(path, "w") as f:
        f.write(KEY + "\n")
    ends(t, ctl("check", "a:b", key=KEY, daemon=daemon), 0)
    ends(t, ctl("check", "a:b", "--key-file", path, key="wrong", daemon=daemon), 0)
    ends(t, ctl("check", "a:b", "--key-file", "-", stdin=f"  {KEY}\r\n", daemon=daemon), 0)
    with open(path) as f:
        done = subprocess.run([APIKEYCTL, "check", "a:b", "--key-fd", str(f.fileno())], pass_fds=[f.fileno()],
                              env=clean_env(APIKEYD_SOCKET=daemon.path), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ends(t, done, 0)
    t.equal([params[0] for _, params in daemon.requests], [KEY] * 4)


def test_keys_that_cannot_be_read(t):
    daemon = Played(t, ALLOW)
    for stdin, says in (("", "holds no key"), (" \n", "holds no key"), (f"{KEY}\n{KEY}\n", "more than one line"),
                        ("x" * 129, "more than 128"), ("x" * 5000, "more than 128"), ("a\0b", "zero byte")):
        ends(t, ctl("check", "a:b", "--key-file", "-", stdin=stdin, daemon=daemon), 2, says)
    ends(t, ctl("check", "a:b", "--key-file", "/nonexistent/key", daemon=daemon), 2, "cannot be opened")
    ends(t, ctl("check", "a:b", "--key-file", "/", daemon=daemon), 2, "cannot be read")
    ends(t, ctl("check", "a:b", "--key-fd", "99", daemon=daemon), 2, "cannot be read")
    ends(t, ctl("check", "a:b", "--key-fd", "x", daemon=daemon), 2, "--key-fd takes")
    ends(t, ctl("check", "a:b", "--key-fd", "0", "--key-file", "-", daemon=daemon), 2, "not both")
    ends(t, ctl("check", "a:b", daemon=daemon), 2, "there is no key")
    t.equal(daemon.requests, [], "nothing was asked")


def test_a_key_as_an_argument_is_refused(t):
    daemon = Played(t, ALLOW)
    for argv in (["check", "a:b", KEY], ["check", KEY], ["whoami", "--key=" + KEY], ["--key", KEY, "whoami"], [KEY],
                 ["key", "revoke", KEY, "--yes"], ["key", "show", make_key("organization")], ["check", "a:b", KEY[:-20]]):
        done = ends(t, ctl(*argv, daemon=daemon), 2, "an argument looks like a key")
        t.equal(done.stdout, "")
        t.ok("abcdefghij" not in done.stderr, "nothing of it is repeated")
    t.equal(daemon.requests, [])


def test_a_key_leaves_no_trace_in_the_process(t):
    asked, go_on = threading.Event(), threading.Event()

    def wait(method, params):
        asked.set()
        go_on.wait(WAIT)
        return ALLOW

    daemon = Played(t, wait)
    process = subprocess.Popen([APIKEYCTL, "check", "a:b", "--timeout", "60s"],
                               env=clean_env(APIKEYD_SOCKET=daemon.path, APIKEY_KEY=KEY),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    t.ok(asked.wait(WAIT), "the question came")
    seen = b""
    for name in ("environ", "cmdline"):
        with open(f"/proc/{process.pid}/{name}", "rb") as f:
            seen += f.read()
    go_on.set()
    process.communicate()
    t.equal(process.returncode, 0)
    t.ok(b"APIKEYD_SOCKET" in seen, "the environment was there to be seen")
    t.ok(KEY.encode() not in seen, "the key was not")


def test_the_kernel_forgets_a_key_argument(t):
    """The process list shows what stands in argv: it is wiped at once, also while something else takes time."""
    program = f"import subprocess,sys; sys.exit(subprocess.run([{APIKEYCTL!r}, 'whoami', {KEY!r}]).returncode)"
    done = subprocess.run([sys.executable, "-c", program], env=clean_env(), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    t.equal(done.returncode, 2)
    t.ok(KEY not in done.stdout + done.stderr, "not repeated")


# ---- a terminal -----------------------------------------------------------------------------------------------------

class Terminal:
    """apikeyctl on a terminal."""

    def __init__(self, t, *argv, daemon=None, env=None):
        self.master, slave = pty.openpty()
        full = clean_env(**{"TERM": "xterm", **(env or {})})
        if daemon:
            full.update(APIKEYD_SOCKET=daemon.path, APIKEYD_ADMIN_SOCKET=daemon.path)
        self.process = subprocess.Popen([APIKEYCTL, *argv], env=full, stdin=slave, stdout=slave, stderr=slave,
                                        start_new_session=True)
        os.close(slave)
        self.seen = ""
        t.keep(self)

    def read_until(self, part):
        end = time.monotonic() + WAIT
        while part not in self.seen:
            if not select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{part!r} did not come: {self.seen!r}")
            try:
                data = os.read(self.master, 4096)
            except OSError:  # the other side has ended
                data = b""
            if not data:
                raise AssertionError(f"{part!r} did not come: {self.seen!r}")
            self.seen += data.decode()

    def write(self, text):
        os.write(self.master, text.encode())

    def end(self):
        end = time.monotonic() + WAIT
        while True:
            if not select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"it does not end: {self.seen!r}")
            try:
                data = os.read(self.master, 4096)
            except OSError:
                break
            if not data:
                break
            self.seen += data.decode()
        return self.process.wait(WAIT)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


def test_the_prompt_does_not_echo(t):
    daemon = Played(t, ALLOW)
    terminal = Terminal(t, "check", "a:b", daemon=daemon)
    terminal.read_until("Key (it is not shown): ")
    terminal.write(KEY + "\n")
    t.equal(terminal.end(), 0)
    t.equal(daemon.requests[0][1][0], KEY)
    t.ok(KEY not in terminal.seen and KEY[15:] not in terminal.seen, terminal.seen)
    t.contains(terminal.seen, "\x1b[32mallow\x1b[0m: ok", "in colour")


def test_an_interrupted_prompt_restores_the_terminal(t):
    import termios
    terminal = Terminal(t, "whoami", daemon=Played(t, ALLOW))
    terminal.read_until("Key (it is not shown): ")
    t.ok(not termios.tcgetattr(terminal.master)[3] & termios.ECHO, "the echo is off when the question is asked")
    terminal.process.send_signal(signal.SIGINT)
    t.equal(terminal.process.wait(WAIT), -signal.SIGINT)
    t.ok(termios.tcgetattr(terminal.master)[3] & termios.ECHO, "it echoes again")


def test_colours(t):
    for env, argv, wanted in (({}, [], True), ({"NO_COLOR": "1"}, [], False), ({"TERM": "dumb"}, [], False),
                              ({"NO_COLOR": "1"}, ["--color", "always"], True), ({}, ["--color=never"], False)):
        terminal = Terminal(t, "org", "list", *argv, daemon=Played(t, {"rows": [{"org": "acme", "standing": "active"}]}),
                            env=env)
        t.equal(terminal.end(), 0)
        t.equal("\x1b[32m" in terminal.seen, wanted, f"{env} {argv}: {terminal.seen!r}")
    done = ctl("check", "a:b", key=KEY, daemon=Played(t, ALLOW))
    t.ok("\x1b" not in done.stdout, "none in a pipe")


def test_destroying_asks_first(t):
    for argv, method in ((["org", "remove", "acme"], "org_remove"), (["page", "remove", "p"], "page_remove"),
                         (["user", "remove", "a@b.example"], "user_remove"),
                         (["member", "remove", "a@b.example", "--org", "acme"], "member_remove"),
                         (["key", "revoke", "abcdefghij"], "key_revoke")):
        daemon = Played(t, {"rev": 5})
        ends(t, ctl(*argv, stdin="y\n", daemon=daemon), 2, "give --yes")
        for answer, code in (("n\n", 4), ("\n", 4), ("yess\n", 4), ("\x04", 4)):
            terminal = Terminal(t, *argv, daemon=daemon)
            terminal.read_until("[y/N] ")
            terminal.write(answer)
            t.equal(terminal.end(), code, terminal.seen)
        t.equal(daemon.requests, [], "nothing was asked of the daemon")
        terminal = Terminal(t, *argv, daemon=daemon)
        terminal.read_until("[y/N] ")
        t.contains(terminal.seen, argv[2], "the question names it")
        terminal.write("y\n")
        t.equal(terminal.end(), 0, terminal.seen)
        ends(t, ctl(*argv, "--yes", daemon=daemon), 0, "(revision 5)")
        t.equal([m for m, _ in daemon.requests], [method, method])


# ---- administration -------------------------------------------------------------------------------------------------

def test_each_verb_is_its_method(t):
    row = {"org": "acme", "name": "Acme", "rev": 9}
    for argv, method, params in (
            (["org", "add", "acme", "--name", "Acme"], "org_add", {"org": "acme", "name": "Acme"}),
            (["org", "show", "acme"], "org_show", {"org": "acme"}),
            (["org", "set", "acme", "--slug", "a2", "--standing", "suspended"], "org_set",
             {"org": "acme", "slug": "a2", "standing": "suspended"}),
            (["org", "remove", "acme", "-y"], "org_remove", {"org": "acme"}),
            (["page", "add", "p", "--org", "acme"], "page_add", {"page": "p", "org": "acme"}),
            (["page", "show", "p"], "page_show", {"page": "p"}),
            (["page", "set", "p", "--standing", "archived", "--name", ""], "page_set",
             {"page": "p", "standing": "archived", "name": ""}),
            (["page", "remove", "p", "-y"], "page_remove", {"page": "p"}),
            (["user", "add", "a@b.example"], "user_add", {"user": "a@b.example"}),
            (["user", "show", "a@b.example"], "user_show", {"user": "a@b.example"}),
            (["user", "set", "a@b.example", "--email", "c@b.example"], "user_set",
             {"user": "a@b.example", "email": "c@b.example"}),
            (["user", "remove", "a@b.example", "-y"], "user_remove", {"user": "a@b.example"}),
            (["member", "set", "a@b.example", "editor", "--page", "p"], "member_set",
             {"user": "a@b.example", "role": "editor", "page": "p"}),
            (["member", "remove", "a@b.example", "--org", "acme", "-y"], "member_remove",
             {"user": "a@b.example", "org": "acme"}),
            (["key", "show", "abcdefghij"], "key_show", {"key_id": "abcdefghij"}),
            (["key", "disable", "abcdefghij"], "key_disable", {"key_id": "abcdefghij"}),
            (["key", "enable", "abcdefghij"], "key_enable", {"key_id": "abcdefghij"}),
            (["key", "revoke", "abcdefghij", "-y"], "key_revoke", {"key_id": "abcdefghij"})):
        daemon = Played(t, row)
        ends(t, ctl(*argv, daemon=daemon), 0)
        t.equal(daemon.requests, [(method, [params])], " ".join(argv))
        t.equal(json.loads(ends(t, ctl(*argv, "--json", daemon=daemon), 0).stdout), row)


def test_what_cannot_be_meant_is_not_asked(t):
    daemon = Played(t, {})
    for argv, says in ((["org", "set", "a"], "changes nothing"), (["page", "set", "a"], "changes nothing"),
                       (["user", "set", "a"], "changes nothing"), (["page", "add", "p"], "give --org"),
                       (["member", "set", "u", "editor"], "either --org ORG or --page"),
                       (["member", "set", "u", "editor", "--org", "a", "--page", "p"], "either --org"),
                       (["member", "remove", "u", "--yes"], "either --org"),
                       (["key", "list", "--org", "a", "--user", "u"], "not both"),
                       (["key", "mint"], "either --user EMAIL"), (["key", "mint", "--user", "u", "--org", "a"], "either --user"),
                       (["key", "mint", "--user", "u", "--access", "read"], "--access is for organization keys"),
                       (["key", "mint", "--org", "a", "--expires", "soon"], "--expires does not understand"),
                       (["key", "mint", "--org", "a", "--not-before", "2027-02-30"], "--not-before does not"),
                       (["key", "mint", "--org", "a", "--rate", "many"], "--rate does not understand"),
                       (["org", "list", "--limit", "0"], "--limit takes"), (["stats", "--watch", "0"], "--watch takes")):
        ends(t, ctl(*argv, daemon=daemon), 2, says)
    t.equal(daemon.requests, [])


def test_lists_are_followed_to_their_end(t):
    def rows(method, params):
        after = params[0].get("after") or 0
        limit = params[0].get("limit", 3)
        found = [{"key_id": f"key{i:07}", "kind": "organization", "org": params[0].get("org"), "state": "live", "user": None,
                  "narrowing": {"rate": {"count": 5, "period_s": 60}}} for i in range(after, min(after + limit, 8))]
        return {"rows": found, "next": after + limit if after + limit < 8 else None}

    daemon = Played(t, rows)
    listed = json.loads(ends(t, ctl("key", "list", "--org", "acme", "--json", daemon=daemon), 0).stdout)
    t.equal([r["key_id"] for r in listed], [f"key{i:07}" for i in range(8)])
    t.equal([p[0].get("after") for _, p in daemon.requests], [None, 3, 6])
    t.equal({p[0].get("org") for _, p in daemon.requests}, {"acme"})
    table = ends(t, ctl("key", "list", daemon=daemon), 0).stdout.splitlines()
    t.equal(len(table), 9)
    t.ok(re.match(r"KEY_ID +KIND +ORG +USER +ACCESS +STATE", table[0]), table[0])
    t.contains(table[8], "rate 5/60s")
    t.equal(len(json.loads(ends(t, ctl("key", "list", "--limit", "4", "-j", daemon=daemon), 0).stdout)), 4)
    for noun in ("org", "page", "user", "member", "key"):
        empty = Played(t, {"rows": [], "next": None})
        t.equal(ends(t, ctl(noun, "list", daemon=empty), 0, "there are none").stdout, "")
        t.equal(json.loads(ends(t, ctl(noun, "list", "--json", daemon=empty), 0).stdout), [])
        t.equal(empty.requests[0][0], noun + "_list")
    ends(t, ctl("org", "list", daemon=Played(t, {"next": 1})), 3, "has no rows")


def test_names_cannot_move_the_cursor(t):
    rows = {"rows": [{"org": "acme", "name": "\x1b[2Jevil\r\n", "standing": "active"}], "next": None}
    for argv in (["org", "list"], ["org", "list", "--json"]):
        done = ends(t, ctl(*argv, daemon=Played(t, rows)), 0)
        t.ok("\x1b" not in done.stdout and "\r" not in done.stdout, repr(done.stdout))
        t.contains(done.stdout, "evil")
    t.equal(json.loads(done.stdout), rows["rows"], "JSON has it whole")
    evil = dict(DENY, user="eve\x1b[2J@acme.example")
    for argv in (["check", "a:b"], ["whoami"]):
        done = ctl(*argv, key=KEY, daemon=Played(t, evil))
        t.contains(done.stdout, "eve?[2J@acme.example", argv[0])
        t.ok("\x1b" not in done.stdout, argv[0])
    done = ends(t, ctl("pages", "a:b", key=KEY, daemon=Played(t, dict(ALLOW, pages=["a\x1b[2J"]))), 0)
    t.equal(done.stdout, "a?[2J\n")

    def refuse(method, params):
        raise RpcError("not_found", "no organization '\x1b[2J'")
    done = ends(t, ctl("org", "show", "x", daemon=Played(t, refuse)), 4, "no organization")
    t.ok("\x1b" not in done.stderr, done.stderr)


def test_errors_are_exit_codes(t):
    for word, code in (("not_found", 4), ("exists", 4), ("invalid", 4), ("refused", 4), ("bad_params", 4), ("limit", 4),
                       ("unknown_method", 4), ("unavailable", 3), ("internal", 3)):
        def refuse(method, params):
            raise RpcError(word, "no page 'x'")
        done = ends(t, ctl("page", "show", "x", daemon=Played(t, refuse)), code, "no page 'x'")
        t.equal(done.stdout, "")


def test_a_daemon_that_cannot_be_asked(t):
    ends(t, ctl("check", "a:b", key=KEY), 3, "there is no daemon at /nonexistent/check.sock")
    ends(t, ctl("org", "list"), 3, "there is no daemon at /nonexistent/admin.sock")
    ends(t, ctl("org", "list", "--admin-socket", "/" + "x" * 200), 2, "is no path of a socket")
    gone = Played(t, {})
    gone.close()
    ends(t, ctl("stats", daemon=gone), 3, "nobody listens")
    ends(t, ctl("org", "add", "x", daemon=Played(t, None)), 3, "closed the connection")
    ends(t, ctl("stats", daemon=Played(t, b"\x92\x01\x02")), 3)
    ends(t, ctl("stats", daemon=Played(t, b"\xc1")), 3)
    ends(t, ctl("check", "a:b", key=KEY, daemon=Played(t, {"verdict": "allow"})), 3, "is no verdict")
    ends(t, ctl("check", "a:b", key=KEY, daemon=Played(t, dict(ALLOW, reason="revoked"))), 3, "is no verdict")
    silent = Played(t, lambda method, params: time.sleep(WAIT))
    done = ends(t, ctl("org", "add", "x", "--timeout", "1ms", daemon=silent), 3, "did not answer within")
    t.contains(done.stderr, "whether the request was done is not known")
    done = ends(t, ctl("org", "add", "x"), 3)
    t.ok("is not known" not in done.stderr, "it was not sent")


# ---- minting --------------------------------------------------------------------------------------------------------

MINTED = {"key_id": "abcdefghij", "kind": "user", "org": None, "user": "ann@acme.example", "state": "live", "key": KEY,
          "narrowing": {}, "rev": 12}


def test_minting_sends_what_was_said(t):
    daemon = Played(t, MINTED)
    ends(t, ctl("key", "mint", "--org", "acme", "--access", "write", "--name", "ci", "--page", "p", "--page", "q", "--scope",
                "incident:write", "--network", "10.0.0.0/8", "--not-before", "2027-01-31", "--expires",
                "2027-01-31T12:34:56Z", "--rate", "100/1m", daemon=daemon), 0)
    t.equal(daemon.requests[0], ("key_mint", [
        {"kind": "organization", "org": "acme", "access": "write", "name": "ci", "pages": ["p", "q"],
         "scopes": ["incident:write"], "networks": ["10.0.0.0/8"], "not_before": 1801353600, "expires_at": 1801398896,
         "rate": {"count": 100, "period_s": 60}}]))
    ends(t, ctl("key", "mint", "--user", "ann@acme.example", daemon=daemon), 0)
    t.equal(daemon.requests[1], ("key_mint", [{"kind": "user", "user": "ann@acme.example"}]))
    ends(t, ctl("key", "mint", "--user", "u", "--narrow-pages", "--narrow-scopes", "--narrow-networks", daemon=daemon), 0)
    t.equal(daemon.requests[2][1][0], {"kind": "user", "user": "u", "pages": [], "scopes": [], "networks": []})
    before = int(time.time())
    ends(t, ctl("key", "mint", "--user", "u", "--expires", "+30d", daemon=daemon), 0)
    t.ok(before <= daemon.requests[3][1][0]["expires_at"] - 30 * 86400 <= time.time(), "from now on")


def test_a_minted_key_is_shown_once(t):
    daemon = Played(t, MINTED)
    done = ctl("key", "mint", "--user", "u", daemon=daemon)
    t.equal((done.returncode, done.stdout), (0, KEY + "\n"), "the key alone on standard output")
    t.ok(KEY not in done.stderr, "and nowhere else")
    t.contains(done.stderr, "only time")
    t.contains(done.stderr, "made key abcdefghij (revision 12)")
    quiet = ctl("key", "mint", "-q", "--user", "u", daemon=daemon)
    t.equal((quiet.stdout, quiet.stderr), (KEY + "\n", ""))
    t.equal(json.loads(ctl("key", "mint", "--json", "--user", "u", daemon=daemon).stdout), MINTED)


def test_a_minted_key_goes_into_a_file(t):
    daemon = Played(t, MINTED)
    path = os.path.join(new_dir("mint"), "key")
    done = ends(t, ctl("key", "mint", "--user", "u", "--out", path, daemon=daemon), 0)
    t.ok(KEY not in done.stdout, "not on standard output too")
    with open(path) as f:
        t.equal(f.read(), KEY + "\n")
    t.equal(stat.S_IMODE(os.stat(path).st_mode), 0o600)
    ends(t, ctl("key", "mint", "--user", "u", "--out", path, daemon=daemon), 2, "is there already")
    t.equal(len(daemon.requests), 1, "no key was made for nothing")
    ends(t, ctl("key", "mint", "--user", "u", "--out", "/nonexistent/key", daemon=daemon), 2, "cannot be made")
    as_json = json.loads(ends(t, ctl("key", "mint", "--json", "--user", "u", "--out", path + "2", daemon=daemon), 0).stdout)
    t.equal(as_json["key_file"], path + "2")
    t.ok("key" not in as_json, "the file has it")

    def refuse(method, params):
        raise RpcError("not_found", "no user 'u'")
    ends(t, ctl("key", "mint", "--user", "u", "--out", path + "3", daemon=Played(t, refuse)), 4, "no user 'u'")
    t.ok(not os.path.exists(path + "3"), "no empty file stays")


def test_a_key_that_cannot_be_written_is_named(t):
    daemon = Played(t, MINTED)
    env = clean_env(APIKEYD_ADMIN_SOCKET=daemon.path)
    for argv in (["--out", "/dev/full"], []):
        with open("/dev/full", "w") as full:
            done = subprocess.run([APIKEYCTL, "key", "mint", "--user", "u", *argv], env=env, stdin=subprocess.DEVNULL,
                                  stdout=full, stderr=subprocess.PIPE, text=True)
        if argv:
            t.equal(done.returncode, 2, "O_EXCL: a file that is there is not written")
            continue
        t.equal(done.returncode, 3)
        t.contains(done.stderr, "apikeyctl key revoke abcdefghij")
        t.ok(KEY not in done.stderr, done.stderr)


LINE = "abcdefghij 3:" + "0123456789abcdef" * 4 + " acme p,q incident:write 2030-01-31T12:00:00Z"
GLASS = {"key_id": "abcdefghij", "org": "acme", "expires_at": "2030-01-31T12:00:00Z", "line": LINE,
         "key": KEY.replace("aku_", "akb_")}
BREAK = ("key", "break-glass", "--org", "acme", "--page", "p", "--page", "q", "--scope", "incident:write")


def test_a_break_glass_key(t):
    daemon = Played(t, GLASS)
    done = ctl(*BREAK, "--hours", "8", daemon=daemon)
    t.equal((done.returncode, done.stdout), (0, GLASS["key"] + "\n"), "the key alone on standard output")
    t.equal(daemon.requests[0], ("break_glass_mint", [
        {"org": "acme", "pages": ["p", "q"], "scopes": ["incident:write"], "hours": 8}]))
    t.ok(GLASS["key"] not in done.stderr, "and nowhere else")
    t.contains(done.stderr, "\n" + LINE + "\n", "the line by itself, to be taken whole")
    t.contains(done.stderr, "only time")
    t.contains(done.stderr, "/etc/apikeyd/break-glass.keys")
    t.contains(done.stderr, "by itself")
    ends(t, ctl(*BREAK, "--until", "2030-01-31T12:00:00Z", daemon=daemon), 0)
    t.equal(daemon.requests[1][1][0]["until"], 1896091200)
    quiet = ctl(*BREAK, "--hours", "8", "-q", daemon=daemon)
    t.equal((quiet.stdout, quiet.stderr), (GLASS["key"] + "\n", LINE + "\n"), "both are needed")
    t.equal(json.loads(ctl(*BREAK, "--hours", "8", "--json", daemon=daemon).stdout), GLASS)


def test_a_break_glass_key_goes_into_a_file(t):
    daemon = Played(t, GLASS)
    path = os.path.join(new_dir("glass"), "key")
    done = ends(t, ctl(*BREAK, "--hours", "1", "--out", path, daemon=daemon), 0)
    t.equal(done.stdout, LINE + "\n", "so that >> puts it where it belongs")
    t.ok(GLASS["key"] not in done.stderr, done.stderr)
    with open(path) as f:
        t.equal(f.read(), GLASS["key"] + "\n")
    t.equal(stat.S_IMODE(os.stat(path).st_mode), 0o600)
    ends(t, ctl(*BREAK, "--hours", "1", "--out", path, daemon=daemon), 2, "is there already")
    t.equal(len(daemon.requests), 1, "no key was made for nothing")
    as_json = json.loads(ends(t, ctl(*BREAK, "--hours", "1", "--json", "--out", path + "2", daemon=daemon), 0).stdout)
    t.equal((as_json["key_file"], as_json["line"], "key" in as_json), (path + "2", LINE, False))

    def refuse(method, params):
        raise RpcError("bad_params", "break_glass_mint: scopes[0] is 'org:write'")
    ends(t, ctl(*BREAK, "--hours", "1", "--out", path + "3", daemon=Played(t, refuse)), 4, "scopes[0]")
    t.ok(not os.path.exists(path + "3"), "no empty file stays")
    ends(t, ctl(*BREAK, "--hours", "1", daemon=Played(t, {"key_id": "abcdefghij"})), 3, "has no key")


def test_a_break_glass_key_needs_all_of_it(t):
    for argv, says in ((BREAK, "give one of --hours and --until"),
                       (BREAK + ("--hours", "1", "--until", "+1h"), "give one of --hours and --until"),
                       (BREAK + ("--hours", "0"), "--hours"), (BREAK + ("--hours", "25"), "--hours"),
                       (BREAK + ("--hours", "1.5"), "--hours"), (BREAK + ("--until", "soon"), "--until does not understand"),
                       (BREAK[:2] + BREAK[4:] + ("--hours", "1"), "--org"),
                       (BREAK[:4] + BREAK[8:] + ("--hours", "1"), "--page"), (BREAK[:8] + ("--hours", "1"), "--scope")):
        daemon = Played(t, GLASS)
        ends(t, ctl(*argv, daemon=daemon), 2, says)
        t.equal(daemon.requests, [], "nothing was asked")
    for out, argv in ((1, []), (1, ["--out", os.path.join(new_dir("full"), "key")])):
        with open("/dev/full", "w") as full:
            done = subprocess.run([APIKEYCTL, *BREAK, "--hours", "1", *argv], stdin=subprocess.DEVNULL, stdout=full,
                                  env=clean_env(APIKEYD_ADMIN_SOCKET=Played(t, GLASS).path), stderr=subprocess.PIPE, text=True)
        t.equal(done.returncode, 3)
        t.ok(GLASS["key"] not in done.stderr, done.stderr)


def test_output_that_cannot_be_written_is_an_error(t):
    daemon = Played(t, {"rows": [{"org": "acme"}], "next": None})
    for argv in (["org", "list"], ["org", "list", "--json"], ["--help"], ["version"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([APIKEYCTL, *argv], env=clean_env(APIKEYD_ADMIN_SOCKET=daemon.path), stdout=full,
                                  stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        t.equal(done.returncode, 3, " ".join(argv))
        t.contains(done.stderr, "No space left")


# ---- counters, help, completion ---------------------------------------------------------------------------------------

def test_stats_and_hello(t):
    stats = {"rev": 17, "age_ms": 3, "feed": {"polls": 4, "deep": {"er": 1}}}
    done = ends(t, ctl("stats", daemon=Played(t, stats)), 0)
    t.ok(re.search(r"^feed\.polls +4$", done.stdout, re.M) and re.search(r"^feed\.deep\.er +1$", done.stdout, re.M), done.stdout)
    t.equal(json.loads(ends(t, ctl("stats", "--json", daemon=Played(t, stats)), 0).stdout), stats)
    left = [stats, stats, None]
    watched = ends(t, ctl("stats", "--watch", "1ms", "--json", daemon=Played(t, lambda m, p: left.pop(0))), 3)
    t.equal([json.loads(line) for line in watched.stdout.splitlines()], [stats, stats], "an object a line")
    daemon = Played(t, HELLO)
    done = ends(t, ctl("hello", daemon=daemon), 0)
    t.contains(done.stdout, "limit pairs 1024")
    t.equal(daemon.requests[0][0], "hello")
    t.equal([hello[0]["client"] for hello in daemon.hellos], ["apikeyctl"] * 2)
    t.ok(re.match(r"apikeyctl \d+\.\d+\.\d+, protocol 1\n$", ends(t, ctl("version"), 0).stdout), "version")
    t.equal(json.loads(ends(t, ctl("version", "--json"), 0).stdout)["program"], "apikeyctl")


def tree():
    """{noun: [verbs]} as the program says it."""
    def words(*argv):
        return [w for w in ctl("__complete", *argv, "").stdout.split() if not w.startswith("-")]
    return {noun: words(noun) for noun in words()}


def test_help_at_every_level(t):
    nouns = tree()
    for noun in ("check", "whoami", "pages", "org", "page", "user", "member", "key", "db", "stats"):
        t.ok(noun in nouns, f"there is {noun}")
    t.equal(ctl().returncode, 2, "no command is wrong usage")
    for argv in [[]] + [[n] for n in nouns] + [[n, v] for n in nouns for v in nouns[n]]:
        done = ends(t, ctl(*argv, "--help"), 0)
        t.ok(done.stdout.startswith(" ".join(["usage: apikeyctl"] + argv)[:-1] if not argv else
                                    " ".join(["usage: apikeyctl"] + argv)), done.stdout)
        t.equal(ends(t, ctl("help", *argv), 0).stdout, done.stdout, "help says the same")
    t.contains(ctl("--help").stdout, "0 allow, or done; 1 deny; 2 wrong usage")
    ends(t, ctl("help", "frob"), 2, "no command")


def test_the_manual_names_every_command_and_option(t):
    with open(os.path.join(ROOT, "client", "man", "apikeyctl.1.scd")) as f:
        manual = f.read().replace("\\", "")
    for noun, verbs in tree().items():
        for verb in verbs or [None]:
            title = f"{noun} {verb}" if verb else noun
            t.contains(manual, f"*{title}*", "a heading or a line")
            argv = [noun] + ([verb] if verb else [])
            for option in ctl("__complete", *argv, "--").stdout.split():
                t.contains(manual, f"*{option}*", f"option of {title}")
    for code in range(5):
        t.ok(re.search(rf"^\*{code}\*", manual, re.M), f"exit code {code}")
    for name in ("APIKEY_KEY", "APIKEYD_SOCKET", "APIKEYD_ADMIN_SOCKET", "APIKEYD_SQL_DIR", "NO_COLOR", "PGHOST"):
        t.contains(manual, f"*{name}*")


def bash_completes(line):
    """What bash would offer at the end of the line."""
    words = line.split(" ")
    script = (f"source {ROOT}/client/apikeyctl/completion.bash; COMP_WORDS=({' '.join(repr(w) for w in words)});"
              f" COMP_WORDS[0]={APIKEYCTL}; COMP_CWORD={len(words) - 1}; _apikeyctl; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
    return subprocess.run(["bash", "-c", script], env=clean_env(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True).stdout.split()


def test_bash_completes(t):
    t.equal(bash_completes("apikeyctl mem"), ["member"])
    t.equal(bash_completes("apikeyctl key r"), ["revoke"])
    t.equal(bash_completes("apikeyctl key mint --access "), ["read", "write"])
    t.ok("--expires" in bash_completes("apikeyctl key mint --"), "options")
    t.equal(bash_completes("apikeyctl check a:b --key-file READ"), ["README.md"], "files")
    t.equal(set(bash_completes("apikeyctl ")), set(tree()), "all nouns")
    for noun, verbs in tree().items():
        if verbs:
            t.equal(bash_completes(f"apikeyctl {noun} "), verbs)


# ---- the schema -----------------------------------------------------------------------------------------------------

FIRST = """-- One.
begin;
create schema apikeyd;
create table apikeyd.schema_migration (version int primary key, name text, installed_at timestamptz default now());
create table apikeyd.revision (rev bigint);
create function apikeyd.trigger_faults() returns setof text language sql as $$ select 'x' where false; $$;
insert into apikeyd.schema_migration values (1, 'one');
commit;
"""
SECOND = """begin;
insert into apikeyd.revision values (41), (42);
insert into apikeyd.schema_migration values (2, 'two');
commit;
"""


def cluster():
    if not hasattr(cluster, "it"):
        cluster.it = Cluster().start()
        cluster.count = 0
    return cluster.it


class Database:
    """A new database and a directory of migrations."""

    def __init__(self, migrations):
        cluster.count = getattr(cluster, "count", 0)
        self.cluster = cluster()
        cluster.count += 1
        self.name = f"ctl{cluster.count}"
        self.cluster.psql("-c", f"create database {self.name}", database="postgres")
        self.sql_dir = new_dir("sql")
        for name, text in migrations.items():
            self.write(name, text)

    def write(self, name, text):
        with open(os.path.join(self.sql_dir, name), "w") as f:
            f.write(text)

    def ctl(self, *argv, **more):
        env = dict(self.cluster.env(database=self.name), APIKEYD_SQL_DIR=self.sql_dir, **more)
        return subprocess.run([APIKEYCTL, "db", *argv], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=WAIT)

    def status(self, *argv):
        done = self.ctl("status", "--json", *argv)
        return json.loads(done.stdout)

    def sql(self, text):
        return self.cluster.sql(text, database=self.name)


def test_db_install_and_upgrade(t):
    database = Database({"0001_one.sql": FIRST, "README": "no migration"})
    status = database.status()
    t.equal((status["installed"], status["available"], status["pending"], status["ok"]), (None, 1, ["0001_one"], False))
    ends(t, database.ctl("upgrade"), 4, "apikeyctl db install")
    done = ends(t, database.ctl("install"), 0, out="the schema is at version 1")
    t.ok(re.search(r"^0001_one  done, \d+ ms$", done.stdout, re.M), done.stdout)
    ends(t, database.ctl("install"), 0, out="nothing to do")
    ends(t, database.ctl("upgrade"), 0, out="nothing to do")
    database.write("0002_two.sql", SECOND)
    ends(t, database.ctl("install"), 4, "apikeyctl db upgrade")
    t.equal(json.loads(ends(t, database.ctl("upgrade", "--json"), 0).stdout), {"from": 1, "version": 2, "ran": ["0002_two"]})
    status = database.status()
    t.equal((status["installed"], status["pending"], status["rev"], status["trigger_faults"]), (2, [], 42, []))
    t.equal(status["database"], database.name)
    os.unlink(os.path.join(database.sql_dir, "0002_two.sql"))
    ends(t, database.ctl("upgrade"), 4, "older than the schema")


def test_db_a_failed_migration_names_file_and_line(t):
    for text, line, says in (
            (SECOND.replace("commit;", "-- é\nselect\n  nonsense;\ncommit;"), 6, "column \"nonsense\" does not exist"),
            (SECOND.replace("commit;", "do $$ begin\n raise 'no luck; none'; end $$;\ncommit;"), 4, "no luck; none"),
            (SECOND.replace("begin;", "begin;\n-- ;\nselect 1;\n\ninsert into apikeyd.schema_migration values (1);", 1), 5,
             "duplicate key"),
            (SECOND + "create table apikeyd.b (;", 5, "syntax error"),
            (SECOND.replace("values (2,", "values (3,"), None, "did not record itself"),
            (SECOND.replace("commit;", ""), None, "does not end its transaction"),
            ("copy pg_class to stdout;", 1, "cannot use COPY"), ("copy pg_class from stdin;", 1, "cannot use COPY"),
            ("begin;\n\nselect pg_terminate_backend(pg_backend_pid());", 3, "")):
        database = Database({"0001_one.sql": FIRST, "0002_two.sql": text})
        done = database.ctl("install")
        t.ok(done.returncode in (3, 4), f"{done.returncode} {done.stderr}")
        first = done.stderr.splitlines()[0]
        where = f"{database.sql_dir}/0002_two.sql" + (f":{line}: " if line else " ")
        t.contains(first, where, "file and line")
        t.contains(first, says)
        if "(3," not in text:
            t.contains(done.stderr, "nothing of 0002_two was kept; the schema is at version 1")
            t.equal(database.sql("select max(version) from apikeyd.schema_migration"), [(1,)])
            t.equal(database.sql("select count(*) from apikeyd.revision"), [(0,)], "rolled back")


def test_db_two_upgrades_wait_for_each_other(t):
    database = Database({"0001_one.sql": FIRST})
    ends(t, database.ctl("install"), 0)
    database.write("0002_two.sql", SECOND)
    with contextlib.closing(cluster().connect(database=database.name)) as other:
        cursor = other.cursor()
        cursor.execute("select pg_advisory_lock(27426670816622948)")
        env = dict(cluster().env(database=database.name), APIKEYD_SQL_DIR=database.sql_dir)
        waiting = [subprocess.Popen([APIKEYCTL, "db", "upgrade"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, text=True) for _ in range(3)]
        wait_until("three to wait", lambda: database.sql(
            "select count(*) from pg_locks where locktype = 'advisory' and not granted")[0][0] == 3)
        t.equal(database.sql("select max(version) from apikeyd.schema_migration"), [(1,)])
        cursor.execute("select pg_advisory_unlock_all()")
    outs = []
    for process in waiting:
        out, err = process.communicate(timeout=WAIT)
        t.equal(process.returncode, 0, err)
        t.contains(err, f"waiting for it")
        outs.append(out)
    t.equal(sorted("nothing to do" in out for out in outs), [False, True, True], "one did it")


def test_db_directories_that_are_not_whole(t):
    for names, says in (([], "holds no migrations"), (["0002_two.sql"], "lacks migration 0001"),
                        (["0001_one.sql", "0003_three.sql"], "lacks migration 0002"),
                        (["0001_one.sql", "0001_uno.sql"], "two migrations 0001")):
        path = new_dir("sql")
        for name in names:
            with open(os.path.join(path, name), "w") as f:
                f.write(FIRST)
        ends(t, ctl("db", "install", "--sql-dir", path), 2, says)
    ends(t, ctl("db", "install", "--sql-dir", "/nonexistent"), 2, "cannot be read")


def test_db_a_database_that_cannot_be_asked(t):
    done = ends(t, ctl("db", "status", "--sql-dir", Database({"0001_one.sql": FIRST}).sql_dir, "--database",
                       f"host={scratch()} user=x"), 3, "the database cannot be reached")
    t.contains(done.stderr, "No such file or directory; see --database", "one sentence")
    database = Database({"0001_one.sql": FIRST})
    ends(t, database.ctl("status", "--database", f"host={cluster().dir} user=postgres dbname=nonexistent"), 3,
         "does not exist")
    ends(t, database.ctl("status", "--database", "host='"), 3, "the database cannot be reached")
    database.sql("create schema apikeyd")
    ends(t, database.ctl("install"), 4, "not ours to change")
    cluster().psql("-c", "create role nobody_special login", database="postgres")
    other = Database({"0001_one.sql": FIRST})
    done = other.ctl("install", PGUSER="nobody_special")
    t.equal(done.returncode, 4)
    t.contains(done.stderr.splitlines()[0], "connect as a superuser")


def test_db_status_finds_what_is_wrong(t):
    faulty = FIRST.replace("where false", "where true").replace("'x'", "'trigger follow_key on key is disabled'")
    database = Database({"0001_one.sql": faulty})
    ends(t, database.ctl("install"), 0)
    status = database.status()
    t.equal(status["trigger_faults"], ["trigger follow_key on key is disabled"])
    t.equal(status["ok"], False)
    t.equal(database.ctl("status").returncode, 0, "it could be asked")
    t.equal(database.ctl("status", "--check").returncode, 1, "and is not as it should be")
    t.contains(database.ctl("status").stdout, "trigger follow_key on key is disabled")


def test_db_the_real_schema(t):
    with contextlib.closing(Cluster().start()) as fresh:
        fresh.psql("-c", "create database apikeyd", database="postgres")

        def run_db(*argv):
            return subprocess.run([APIKEYCTL, "db", *argv], env=dict(fresh.env(), APIKEYD_SQL_DIR=SQL_DIR), text=True,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        ends(t, run_db("install"), 0)
        ends(t, run_db("upgrade"), 0, out="nothing to do")
        done = ends(t, run_db("status", "--json", "--check"), 0)
        status = json.loads(done.stdout)
        count = len(glob.glob(os.path.join(SQL_DIR, "[0-9]*.sql")))
        t.equal((status["installed"], status["available"], status["ok"]), (count, count, True))
        t.equal((status["missing_roles"], status["trigger_faults"], status["pending"]), ([], [], []))
        # Run from its build directory, the program finds the source's migrations by itself.
        found = subprocess.run([APIKEYCTL, "db", "status", "--json"], env=fresh.env(), text=True, stdout=subprocess.PIPE)
        t.equal(os.path.realpath(json.loads(found.stdout)["sql_dir"]), os.path.realpath(SQL_DIR))


def test_db_a_real_schema_that_stopped_half_way(t):
    """What an upgrade leaves that failed: status tells the rest, whichever migration it was, and upgrade goes on."""
    paths = sorted(glob.glob(os.path.join(SQL_DIR, "[0-9]*.sql")))
    names = [os.path.basename(path)[:-4] for path in paths]
    database = Database({})
    for number, path in enumerate(paths[:-1], 1):
        database.cluster.psql("-f", path, database=database.name)
        done = database.ctl("status", "--json", "--check", "--sql-dir", SQL_DIR)
        t.equal((done.returncode, done.stderr), (1, ""), f"after {names[number - 1]}")
        status = json.loads(done.stdout)
        t.equal((status["installed"], status["pending"], status["ok"]), (number, names[number:], False))
        t.contains(database.ctl("status", "--sql-dir", SQL_DIR).stderr, "apikeyctl db upgrade", "what to do")
    ends(t, database.ctl("upgrade", "--sql-dir", SQL_DIR), 0, out=f"the schema is at version {len(paths)}")
    t.equal(database.ctl("status", "--check", "--sql-dir", SQL_DIR).returncode, 0)


# ---- with the real daemon ---------------------------------------------------------------------------------------------

def test_a_life_with_the_real_daemon(t):
    store = t.keep(Cluster().start()).install()
    daemon = t.keep(Daemon(store))
    directory = new_dir("keys")

    def do(*argv, code=0, out=None, **more):
        done = daemon.ctl(*argv, **more)
        t.equal(done.returncode, code, f"{argv}: {done.stdout}{done.stderr}")
        if out:
            t.contains(done.stdout, out, " ".join(argv))
        return done

    def do_json(*argv, **more):
        return json.loads(do(*argv, "--json", **more).stdout)

    do("org", "add", "acme", "--name", "Acme")
    do("org", "add", "acme", code=4)
    for page in ("acme-a", "acme-b"):
        do("page", "add", page, "--org", "acme")
    do("page", "add", "acme-c", "--org", "nowhere", code=4)
    do("user", "add", "eve@acme.example", "--name", "Eve")
    do("member", "set", "eve@acme.example", "viewer", "--org", "acme")
    do("member", "set", "eve@acme.example", "emperor", "--org", "acme", code=4)
    t.equal([(r["page"], r["org"]) for r in do_json("page", "list", "--org", "acme")],
            [("acme-a", "acme"), ("acme-b", "acme")])
    t.equal([r["role"] for r in do_json("member", "list", "--user", "eve@acme.example")], ["viewer"])

    eve = do_json("key", "mint", "--user", "eve@acme.example", "--name", "laptop")
    at = ("--min-rev", str(eve["rev"]))
    do("whoami", *at, key=eve["key"], out="eve@acme.example")
    do("check", "incident:read", "acme-a", key=eve["key"], out="allow: ok")
    refused = do("check", "incident:write", "acme-a", key=eve["key"], code=1, out="deny: scope_not_granted").stdout
    advice = re.search(r"next: .*: apikeyctl (.*)$", refused, re.M).group(1)
    rev = do_json(*advice.split())["rev"]  # what it said to do
    do("check", "incident:write", "acme-a", "--min-rev", str(rev), key=eve["key"], out="allow: ok")
    t.equal(do("pages", "incident:write", key=eve["key"]).stdout, "acme-a\n")
    t.equal(do("pages", "incident:read", key=eve["key"]).stdout, "acme-a\nacme-b\n")
    pairs = do_json("check", "--pair", "incident:write=acme-a", "--pair", "incident:write=acme-b", key=eve["key"], code=1)
    t.equal([p["verdict"] for p in pairs], ["allow", "deny"])

    path = os.path.join(directory, "ci")
    bot = do_json("key", "mint", "--org", "acme", "--access", "write", "--page", "acme-b", "--scope", "incident:write",
                  "--network", "192.0.2.0/24", "--expires", "+30d", "--out", path)
    t.equal((bot["state"], bot["narrowing"]["pages"], bot["narrowing"]["networks"]), ("live", ["acme-b"], ["192.0.2.0/24"]))
    here = ("--key-file", path, "--min-rev", str(bot["rev"]))
    do("check", "incident:write", "acme-b", "--addr", "192.0.2.7", *here, out="allow: ok")
    do("check", "incident:write", "acme-b", *here, code=1, out="no address was given")
    do("check", "incident:write", "acme-a", "--addr", "192.0.2.7", *here, code=1, out="page_not_granted")
    whoami = do_json("whoami", "--addr", "192.0.2.7", *here)
    t.equal((whoami["kind"], whoami["org"], whoami["access"]), ("organization", "acme", "write"))
    listed = do("key", "list", "--org", "acme", out=bot["key_id"]).stdout
    t.contains(listed, "pages acme-b; scopes incident:write; networks 192.0.2.0/24")

    rev = do_json("key", "disable", bot["key_id"])["rev"]
    do("check", "incident:write", "acme-b", "--addr", "192.0.2.7", "--key-file", path, "--min-rev", str(rev), code=1,
       out="apikeyctl key enable " + bot["key_id"])
    do("key", "enable", bot["key_id"])
    rev = do_json("key", "revoke", bot["key_id"], "--yes")["rev"]
    do("check", "incident:write", "acme-b", "--key-file", path, "--min-rev", str(rev), code=1, out="deny: revoked")
    do("key", "enable", bot["key_id"], code=4)
    do("key", "show", "zzzzzzzzzz", code=4)
    do("org", "remove", "acme", "--yes", code=4)
    do("user", "set", "eve@acme.example", "--standing", "suspended")
    do("check", "incident:read", "acme-a", "--min-rev", str(1 << 60), "--timeout", "100ms", key=eve["key"], code=3,
       out="unavailable: behind")
    t.ok(do_json("stats")["rev"] >= rev, "counters")
    t.equal(do_json("hello")["server"], "apikeyd")
    do("stats", "--admin")
    do("hello", "--admin")
    for admin_only in (("--admin-socket", daemon.socket, "org", "list"),):
        t.contains(do(*admin_only, code=4).stderr, "not its administration socket")
    for text in (eve["key"], open(path).read().strip()):
        t.ok(text not in daemon.log() and text not in store.log(), "no key in the logs")


if __name__ == "__main__":
    run(globals())
