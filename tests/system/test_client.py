"""libapikey against the real daemon, through the programs of client/examples: what a host in C would see."""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *

EXAMPLES = os.path.join(BUILD, "client", "examples")
SHARED = {}


def world():
    """One cluster, one daemon, two organizations, some people and keys."""
    if SHARED:
        return SHARED
    cluster = Cluster().start().install()
    daemon = Daemon(cluster, settings={"limits.pages_per_answer": "3"})
    admin = daemon.admin
    admin("org_add", org="acme")
    admin("org_add", org="other")
    for number in range(8):
        admin("page_add", org="acme", page=f"acme-{number}")
    admin("page_add", org="other", page="other-page")
    for name, role in (("viv", "viewer"), ("ada", "admin")):
        admin("user_add", user=f"{name}@example.org")
        admin("member_set", user=f"{name}@example.org", org="acme", role=role)
    admin("member_set", user="viv@example.org", page="acme-2", role="editor")
    keys = {}
    for name, params in {
        "viewer": {"kind": "user", "user": "viv@example.org"},
        "admin": {"kind": "user", "user": "ada@example.org"},
        "write": {"kind": "organization", "org": "acme", "access": "write"},
        "narrow": {"kind": "organization", "org": "acme", "pages": ["acme-1", "acme-3"], "scopes": ["page:read"],
                   "networks": ["192.0.2.0/24", "2001:db8::/32"]},
    }.items():
        minted = admin("key_mint", **params)
        keys[name], keys[name + "_id"] = minted["key"], minted["key_id"]
    SHARED.update(cluster=cluster, daemon=daemon, keys=keys, rev=minted["rev"])
    return SHARED


def start(program, *argv, key=None, stdin=None, daemon=None, **env):
    """key: a name of the world's, or bytes as they are. ASK_MIN_REV is the world's, so that no copy is too old."""
    w = world()
    full = dict(os.environ, APIKEYD_SOCKET=(daemon or w["daemon"]).socket, ASK_MIN_REV=str(w["rev"]), ASK_TIMEOUT_MS="20000")
    full.update(env)
    full = {os.fsencode(name): os.fsencode(value) for name, value in full.items()}
    if key is not None:
        full[b"APIKEY_KEY"] = key if isinstance(key, bytes) else w["keys"].get(key, key).encode()
    return subprocess.Popen([os.path.join(EXAMPLES, "example_" + program), *argv], env=full, text=True,
                            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(t, process, stdin=None):
    out, errors = process.communicate(stdin, timeout=WAIT * 2)
    t.ok("Sanitizer" not in errors and "runtime error" not in errors, errors)
    return process.returncode, out.splitlines(), errors


def ask(t, *argv, **options):
    code, lines, errors = finish(t, start("ask", *argv, **options))
    t.equal(errors, "")
    return code, lines


def test_check(t):
    w = world()
    t.equal(ask(t, "check", "incident:write", "acme-0", key="admin"),
            (0, [f"allow ok key_id={w['keys']['admin_id']} kind=user org=acme user=ada@example.org page=acme-0"]))
    code, lines = ask(t, "check", "incident:write", "acme-0", key="viewer")
    t.equal(code, 1)
    t.contains(lines[0], "deny scope_not_granted ")
    t.contains(lines[0], "missing_scope=incident:write needs_role=editor")
    t.equal(ask(t, "check", "incident:write", "acme-2", key="viewer")[0], 0, "a page role overrides")
    code, lines = ask(t, "check", "page:create", key="write")
    t.equal((code, lines), (0, [f"allow ok key_id={w['keys']['write_id']} kind=organization org=acme"]))
    t.contains(ask(t, "check", "page:read", "other-page", key="write")[1][0], "deny unknown_page")


def test_context(t):
    t.contains(ask(t, "check", "page:read", "acme-1", key="narrow")[1][0], "deny network")
    for addr in ("192.0.2.77", "::ffff:192.0.2.77", "2001:db8::1"):
        t.equal(ask(t, "check", "page:read", "acme-1", key="narrow", ASK_ADDR=addr)[0], 0, addr)
    t.contains(ask(t, "check", "page:read", "acme-1", key="narrow", ASK_ADDR="192.0.3.77")[1][0], "deny network")
    t.contains(ask(t, "check", "page:read", "acme-2", key="narrow", ASK_ADDR="192.0.2.1")[1][0], "deny page_not_granted")
    t.contains(ask(t, "check", "page:create", key="admin", ASK_ORG="other")[1][0], "deny not_member")
    code, lines = ask(t, "check", "page:read", "acme-1", key="narrow", ASK_ADDR="nonsense")
    t.equal(code, 1, "a wrong call is never more than DENY")
    t.contains(lines[0], "deny no_answer error=context: addr")


def test_what_remote_clients_send(t):
    for key in (b"", b"nonsense", b"x" * 100000, b"\xff\xfe\x80 not utf-8", "ключ".encode(), b"\x01\n\t",
                world()["keys"]["admin"].encode()[:-1], world()["keys"]["admin"].encode() + b"0"):
        t.equal(ask(t, "check", "page:read", "acme-1", key=key), (1, ["deny malformed_key"]), repr(key[:40]))
    t.equal(ask(t, "check", "page:read", "acme-1", key=make_key("user")), (1, ["deny unknown_key"]))
    for page in ("../../etc/passwd", "x" * 255, "sp ace", "é"):
        t.contains(ask(t, "check", "page:read", page, key="admin")[1][0], "deny unknown_page", page)
    code, lines = ask(t, "check", "page:read", "x" * 256, key="admin")
    t.equal(code, 1)
    t.contains(lines[0], "deny no_answer error=page is longer")


def test_check_many(t):
    pages = [f"acme-{n % 8}" for n in range(1000)]
    code, lines = ask(t, "check_many", "incident:write", *pages, key="viewer")
    t.equal((code, len(lines)), (1, 1000))
    for page, line in zip(pages, lines):
        t.contains(line, f"page={page}" if page == "acme-2" else "deny scope_not_granted")
        t.equal(line.startswith("allow"), page == "acme-2", line)
    t.equal(ask(t, "check_many", "page:create", key="write")[0], 0)


def test_pages_and_whoami(t):
    code, lines = ask(t, "pages", "incident:read", key="viewer")
    t.equal((code, lines[:-1]), (0, [f"acme-{n}" for n in range(8)]), "in answers of three")
    t.equal(ask(t, "pages", "incident:write", key="viewer")[1][:-1], ["acme-2"])
    t.equal(ask(t, "pages", "page:read", key="narrow", ASK_ADDR="192.0.2.1")[1][:-1], ["acme-1", "acme-3"])
    t.equal(ask(t, "pages", "incident:read", key=b"nonsense"), (1, ["deny malformed_key"]))
    code, lines = ask(t, "whoami", key="viewer")
    t.equal((code, lines[1:]), (0, ["organization acme viewer", "page acme-2 editor"]))
    code, lines = ask(t, "whoami", key="narrow", ASK_ADDR="192.0.2.1")
    t.equal((code, lines[1], sorted(lines[2:])),
            (0, "access read", ["only networks: 192.0.2.0/24 2001:db8::/32", "only pages: acme-1 acme-3",
                                "only scopes: page:read"]))


def test_min_rev(t):
    daemon = world()["daemon"]
    minted = daemon.admin("key_mint", kind="organization", org="acme")
    t.equal(ask(t, "check", "page:read", "acme-1", key=minted["key"], ASK_MIN_REV=str(minted["rev"]))[0], 0)
    gone = daemon.admin("key_revoke", key_id=minted["key_id"])
    t.contains(ask(t, "check", "page:read", "acme-1", key=minted["key"], ASK_MIN_REV=str(gone["rev"]))[1][0],
               "deny revoked")
    # a revision that will not come: the daemon's own reason arrives, since its deadline is a little before ours; on a
    # machine that has other things to do it may come too late, but not each time
    for _ in range(5):
        code, lines = ask(t, "check", "page:read", "acme-1", key="admin", ASK_MIN_REV=str(gone["rev"] + 10**12),
                          ASK_TIMEOUT_MS="1000")
        t.equal(code, 3, lines)
        if not lines[0].startswith("unavailable no_answer"):
            break
    t.equal(lines, ["unavailable behind"])


def test_poll_example(t):
    keys = world()["keys"]
    wanted, questions = [], []
    for number in range(1, 2001):
        name, verdict = (("admin", "allow ok"), ("viewer", "deny scope_not_granted"),
                         ("nobody", "deny malformed_key"))[number % 3]
        questions.append(f"{keys.get(name, 'nonsense')} incident:write acme-{number % 2}\n")
        wanted.append(f"{number} incident:write {verdict}")
    code, lines, errors = finish(t, start("poll", stdin=True), "".join(questions))
    t.equal((code, errors), (0, ""))
    t.equal(sorted(lines), sorted(wanted))


def test_uv_example(t):
    code, lines, errors = finish(t, start("uv", "page:read", "acme-1", "300", key="admin"))
    t.equal((code, lines, errors), (0, ["asked 300 answered 300 allowed 300 faults 0"], ""))


def test_daemon_restarts(t):
    """Questions every 2 ms while the daemon goes and comes back: each is answered once, and none wrongly."""
    w = world()
    daemon = t.keep(Daemon(w["cluster"], pepper=w["daemon"].pepper))
    process = start("uv", "page:read", "acme-1", "1500", key="admin", daemon=daemon)
    wait_until("the first answers", lambda: daemon.stats()["requests_check"] >= 100)
    t.equal(daemon.stop(), 0)
    daemon.start(wait=False)
    code, lines, _ = finish(t, process)
    numbers = dict(zip(lines[0].split()[::2], map(int, lines[0].split()[1::2])))
    t.equal((numbers["asked"], numbers["answered"]), (1500, 1500))
    t.ok(numbers["allowed"] > 0, "before, and after")
    # not there, or not loaded yet: never anything but UNAVAILABLE
    t.ok(numbers["allowed"] + numbers["faults"] <= 1500, lines[0])
    t.equal(code, 1 if numbers["faults"] else 0)


def test_daemon_hangs(t):
    """A daemon that is stopped by a signal accepts connections, and says nothing."""
    w = world()
    daemon = t.keep(Daemon(w["cluster"], pepper=w["daemon"].pepper))
    daemon.signal(signal.SIGSTOP)
    try:
        for program, argv in (("ask", ("check", "page:read", "acme-1")), ("ask", ("whoami",))):
            code, lines, _ = finish(t, start(program, *argv, key="admin", daemon=daemon, ASK_TIMEOUT_MS="200"))
            t.equal((code, lines), (3, ["unavailable no_answer error=no answer within the time allowed"]))
        code, lines, errors = finish(t, start("uv", "page:read", "acme-1", "5", key="admin", daemon=daemon))
        t.equal((code, lines), (1, ["asked 5 answered 5 allowed 0 faults 5"]))
        t.contains(errors, "no answer within the time allowed")
    finally:
        daemon.signal(signal.SIGCONT)
    t.equal(ask(t, "check", "page:read", "acme-1", key="admin", daemon=daemon)[0], 0, "and goes on")


def test_daemon_is_not_there(t):
    w = world()
    daemon = Daemon(w["cluster"], start=False)
    code, lines = ask(t, "check", "page:read", "acme-1", key="admin", daemon=daemon)
    t.equal(code, 3)
    t.contains(lines[0], f"unavailable no_answer error=cannot connect to {daemon.socket}: No such file or directory")


if __name__ == "__main__":
    run(globals())
