#!/usr/bin/env python3
"""Stacks in the daemon: chosen, reloaded, waited for, explained; every module that comes with it, on a real store."""
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *  # noqa: E402

BUILT = os.path.join(BUILD, "tests", "modules")
PLAIN = "caller required permit\nkey required store\naccount required rate\naudit none\n"
PEPPER = secrets.token_hex(32) # one database, one pepper
shared = {}


def cluster():
    if "cluster" not in shared:
        shared["cluster"] = Cluster().start().install(demo=True)
    return shared["cluster"]


class World:
    """A daemon on the demo world, with stacks, and a key of olga's, owner of acme."""

    def __init__(self, t, stacks=None, settings=None, modules=()):
        settings = dict(settings or {})
        if modules:
            directory = new_dir("modules")
            os.chmod(directory, 0o755)
            for name in modules:
                shutil.copy(os.path.join(BUILT, name + ".so"), directory)
                os.chmod(os.path.join(directory, name + ".so"), 0o644)
            settings["stacks.module_dir"] = directory
        self.daemon = t.keep(Daemon(cluster(), settings, pepper=PEPPER, stacks={"default": PLAIN, **(stacks or {})}))
        self.key = self.mint(kind="user", user="olga@acme.example")

    def mint(self, **params):
        minted = self.daemon.admin("key_mint", **params)
        self.daemon.check(minted["key"], "page:read", "acme", min_rev=minted["rev"], deadline_ms=20000)
        return minted["key"]

    def ask(self, stack=None, scope="page:read", page="acme", key=None, **context):
        if stack:
            context["stack"] = stack
        answer = self.daemon.check(key or self.key, scope, page, **context)
        return answer["reason"]

    def reload(self):
        """Sends SIGHUP, and comes back when it was carried out. True: it went well."""
        before = self.daemon.stats()
        self.daemon.signal(signal.SIGHUP)
        done = lambda s: s["reloads"] + s["reloads_failed"] > before["reloads"] + before["reloads_failed"]
        wait_until("the reload", lambda: done(self.daemon.stats()))
        return self.daemon.stats()["reloads"] > before["reloads"]


def line(text, group="scope"):
    """The plain stack with one more line."""
    return PLAIN + f"{group} {text}\n"


# ---- choosing ---------------------------------------------------------------------------------------------------

def test_chosen_by_the_request(t):
    w = World(t, {"shut": line("required deny", "account"), "hours": line("required deny reason=scope_not_granted")})
    t.equal(w.ask(), "ok")
    t.equal(w.ask("default"), "ok")
    t.equal(w.ask("shut"), "policy")
    t.equal(w.ask("hours"), "scope_not_granted")
    t.equal(w.ask("no-such"), "no_stack")
    t.equal(w.ask("shut", page="no-such"), "policy", "account comes before page")
    t.equal(w.ask("hours", page="no-such"), "unknown_page", "the core's own part comes first")
    counted = w.daemon.stats()["stacks"]
    t.equal(counted["shut"], {"policy": 2})
    t.equal(counted["hours"], {"scope_not_granted": 1, "unknown_page": 1})


def test_chosen_by_the_socket(t):
    d = t.keep(Daemon(cluster(), pepper=PEPPER, start=False, stacks={"default": PLAIN, "shut": line("required deny", "account")}))
    bound = os.path.join(d.dir, "bound.sock")
    d.settings.update({"socket bound.path": bound, "socket bound.stack": "shut"})
    d.write_conf()
    d.start()
    minted = d.admin("key_mint", kind="user", user="olga@acme.example")
    ask = {"min_rev": minted["rev"], "deadline_ms": 20000}
    t.equal(d.check(minted["key"], "page:read", "acme", **ask)["reason"], "ok")
    with contextlib.closing(Rpc(bound)) as rpc:
        t.equal(rpc.check(minted["key"], "page:read", "acme", **ask)["reason"], "policy")
        t.equal(rpc.check(minted["key"], "page:read", "acme", stack="shut")["reason"], "policy")
        t.equal(rpc.check(minted["key"], "page:read", "acme", stack="default")["reason"], "no_stack", "bound is bound")


# ---- loading ----------------------------------------------------------------------------------------------------

def test_a_wrong_stack_starts_nothing(t):
    d = t.keep(Daemon(cluster(), pepper=PEPPER, start=False, stacks={"default": "caller required permit\nkey required stoer\naudit none\n"}))
    for options in (["-t"], []):
        done = subprocess.run([APIKEYD, "-c", d.conf, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=WAIT)
        t.equal(done.returncode, 1, options)
        t.contains(done.stdout, os.path.join(d.stack_dir, "default") + ":2:14: stoer: ")
    # What a module says of its line is told like a word that is wrong: where it stands, and what of which file.
    program = os.path.join(scratch(), "no-program")
    with open(program, "w") as f:
        f.write("#!/bin/true\n")
    os.chmod(program, 0o644)
    for wrong, says in ((f"scope required  exec workers=1 command={program}", f":4:32: command: {program}: is no program that "),
                        ("scope required exec command=/no/program", ":4:21: command: /no"),
                        ("caller required peer  user=no-such-user", ":4:23: user: there is no user 'no-such-user'"),
                        ("caller required peer", ":4:17: peer: user: neither user nor group"),
                        ("account required hours between=08:00-09:00 only=*:read", ":4:44: only: *:read: the scope is not ")):
        d.write_stack("default", f"caller required permit\nkey required store\naudit none\n{wrong}\n")
        done = subprocess.run([APIKEYD, "-c", d.conf, "-t"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        t.equal(done.returncode, 1, wrong)
        t.contains(done.stdout, os.path.join(d.stack_dir, "default") + says)
        t.equal(done.stdout.count(d.stack_dir), 1, f"said once: {done.stdout}")
    os.remove(os.path.join(d.stack_dir, "default"))
    done = subprocess.run([APIKEYD, "-c", d.conf, "-t"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    t.equal(done.returncode, 1)
    t.contains(done.stdout, "default: ")


def test_a_stack_that_others_can_write(t):
    d = t.keep(Daemon(cluster(), pepper=PEPPER, start=False, stacks={"default": PLAIN}))
    for path, mode in ((os.path.join(d.stack_dir, "default"), 0o664), (d.stack_dir, 0o777)):
        before = os.stat(path).st_mode
        os.chmod(path, mode)
        done = subprocess.run([APIKEYD, "-c", d.conf, "-t"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        t.equal(done.returncode, 1, path)
        t.contains(done.stdout, path)
        t.contains(done.stdout, "chmod")
        os.chmod(path, before)
    t.equal(subprocess.run([APIKEYD, "-c", d.conf, "-t"], stdout=subprocess.DEVNULL).returncode, 0)


def test_a_bad_reload_changes_nothing(t):
    w = World(t, {"other": line("required deny", "account")})
    w.daemon.write_stack("other", PLAIN)
    w.daemon.write_stack("default", PLAIN + "scope requierd deny\n")
    t.ok(not w.reload(), "refused")
    t.contains(w.daemon.log(), os.path.join(w.daemon.stack_dir, "default") + ":5:7: requierd: ")
    t.equal(w.ask(), "ok")
    t.equal(w.ask("other"), "policy", "not even the one that is right was taken")
    w.daemon.write_stack("default", PLAIN)
    t.ok(w.reload(), "and now it goes")
    t.equal(w.ask("other"), "ok")


def test_reload_under_load(t):
    """Two stacks change places all at once: an answer is of the one set or of the other, and none is lost."""
    even, odd = line("required deny reason=scope_not_granted"), line("required deny reason=policy", "page")
    w = World(t, {"a": even, "b": odd})
    counts, faults, stop = {}, [], threading.Event()

    def load():
        try:
            with contextlib.closing(w.daemon.rpc()) as rpc:
                while not stop.is_set():
                    ids = [(name, rpc.send("check", w.key, "page:read", "acme", {"stack": name})) for name in "abab" * 8]
                    for name, msgid in ids:
                        reason = rpc.receive(msgid)["reason"]
                        counts[name + " " + reason] = counts.get(name + " " + reason, 0) + 1
        except Exception as e:  # noqa: BLE001
            faults.append(repr(e))
    loaders = [threading.Thread(target=load) for _ in range(3)]
    for loader in loaders:
        loader.start()
    for i in range(12):
        w.daemon.write_stack("a", odd if i % 2 == 0 else even)
        w.daemon.write_stack("b", even if i % 2 == 0 else odd)
        t.ok(w.reload(), "reload")
        # From here on all are of the new set.
        t.equal((w.ask("a"), w.ask("b")),
                ("policy", "scope_not_granted") if i % 2 == 0 else ("scope_not_granted", "policy"), f"reload {i}")
    stop.set()
    for loader in loaders:
        loader.join()
    t.equal(faults, [])
    t.equal(set(counts), {"a policy", "a scope_not_granted", "b policy", "b scope_not_granted"})


def test_what_a_line_remembers_outlives_a_reload(t):
    w = World(t, {"slow": PLAIN.replace("rate", "rate limit=1/h burst=3")})
    t.equal([w.ask("slow") for _ in range(4)], ["ok"] * 3 + ["rate_limited"])
    t.ok(w.reload(), "it should")
    t.equal(w.ask("slow"), "rate_limited", "the line is the same")
    w.daemon.write_stack("slow", PLAIN.replace("rate", "rate limit=1/h burst=4"))
    t.ok(w.reload(), "it should")
    t.equal(w.ask("slow"), "ok", "another line starts anew")


# ---- modules ----------------------------------------------------------------------------------------------------

def test_rates_of_keys(t):
    w = World(t, {"uncounted": "caller required permit\nkey required store\naudit none\n"})
    key = w.mint(kind="organization", org="acme", access="read", rate={"count": 5, "period_s": 3600})
    got = [w.ask(key=key) for _ in range(6)]
    t.equal(got[-1], "rate_limited")
    t.equal(got.count("ok"), 4, "the mint's own check was one of the five")
    answer = w.daemon.check(key, "page:read", "acme")
    t.ok(0 < answer["retry_after_ms"] <= 720000, answer)
    t.equal(w.ask("uncounted", key=key), "policy", "nobody counts there, so it does not go unlimited")
    t.equal(w.ask("uncounted"), "ok", "other keys do")
    with contextlib.closing(w.daemon.rpc()) as rpc:
        key = w.mint(kind="organization", org="acme", access="read", rate={"count": 5, "period_s": 3600})
        many = rpc.call("check_many", key, [["page:read", "acme"]] * 5)
        t.equal({a["reason"] for a in many}, {"rate_limited"}, "all or nothing")
        many = rpc.call("check_many", key, [["page:read", "acme"], ["page:delete", "acme"], ["page:read", "umbra"]])
        t.equal([a["reason"] for a in many], ["ok", "scope_not_granted", "unknown_page"])
        t.equal(rpc.call("explain", key, "page:read", "acme")["reason"], "ok", "explain spends nothing")
        t.equal(rpc.call("explain", key, "page:read", "acme")["reason"], "ok")
        t.equal(w.ask(key=key), "ok", "the fifth")
        t.equal(rpc.call("explain", key, "page:read", "acme")["reason"], "rate_limited")
        t.equal(rpc.call("whoami", w.key)["verdict"], "allow")


def test_penalty(t):
    w = World(t, {"watched": "caller required penalty allow=1/h burst=3\nkey required store\naudit none\n"})
    ask = lambda key, addr: w.ask("watched", key=key, addr=addr)
    bad = w.key[:-1] + ("0" if w.key[-1] != "0" else "1")
    t.equal([ask(bad, "192.0.2.1") for _ in range(4)], ["malformed_key"] * 3 + ["rate_limited"])
    t.equal(ask(w.key, "192.0.2.1"), "rate_limited", "a good key among bad ones is not found out")
    t.equal(ask(w.key, "192.0.2.2"), "ok", "others are as they were")
    t.equal(w.ask("watched"), "ok", "and so is who names no address")


def test_peer_hours_debug(t):
    me = os.geteuid()
    w = World(t, {"mine": PLAIN.replace("permit", f"peer user={me}"),
                  "theirs": PLAIN.replace("permit", f"peer user={me + 4321}"),
                  "group": PLAIN.replace("permit", f"peer group={os.getegid()}"),
                  "always": line("required hours between=00:00-24:00"),
                  "never": line(f"required hours only=*:write between=00:00-24:00 days={time.strftime('%a', time.gmtime(time.time() + 3 * 86400)).lower()}"),
                  "debug": line("required debug code=module_fault")})
    t.equal(w.ask("mine"), "ok")
    t.equal(w.ask("theirs"), "caller")
    t.equal(w.ask("group"), "ok")
    t.equal(w.ask("always"), "ok")
    t.equal(w.ask("never"), "ok", "page:read is no *:write")
    answer = w.daemon.check(w.key, "page:write", "acme", stack="never")
    t.equal((answer["reason"], answer["retry_after_ms"] > 86400000), ("policy", True))
    t.equal(w.ask("debug"), "module_fault")


SCRIPT = """#!/bin/sh
while IFS= read -r request; do
	echo "$request" >> {log}
	id=${{request%%	*}}
	case $request in
	*page=acme-cloud*) echo "$id policy 1500 # not this one" ;;
	*page=acme-2019*) sleep 30 ;;
	*) echo "$id success" ;;
	esac
done
"""


def test_exec(t):
    directory = new_dir("exec")
    os.chmod(directory, 0o755)
    log, script = os.path.join(directory, "log"), os.path.join(directory, "second-opinion")
    with open(os.open(script, os.O_WRONLY | os.O_CREAT, 0o755), "w") as f:
        f.write(SCRIPT.format(log=log))
    w = World(t, {"exec": line(f"required exec command={script} timeout=300ms workers=2"),
                  "soft": line(f"[success=ok timeout=ignore ignore=ignore default=bad] exec command={script} timeout=300ms")})
    t.equal(w.ask("exec"), "ok")
    answer = w.daemon.check(w.key, "page:read", "acme-cloud", stack="exec")
    t.equal((answer["reason"], answer["retry_after_ms"]), ("policy", 1500))
    t.equal(w.ask("exec", page="acme-2019"), "timeout")
    t.equal(w.ask("soft", page="acme-2019"), "ok", "its control says that it may be late")
    with contextlib.closing(w.daemon.rpc()) as rpc:
        many = rpc.call("check_many", w.key, [["page:read", p] for p in ("acme", "acme-cloud", "umbra")], {"stack": "exec"})
        t.equal([a["reason"] for a in many], ["ok", "policy", "unknown_page"])
        pages = rpc.call("pages", w.key, "page:read", {"stack": "exec", "deadline_ms": 20000})
        t.equal(pages["reason"], "timeout", "nobody knows of one of them")
        explained = rpc.call("explain", w.key, "page:read", "acme-cloud", {"stack": "exec"})
        traced = [e for e in explained["trace"] if e["module"] == "exec"][0]
        t.equal((traced["code"], traced["effect"], traced["detail"]), ("policy", "failed", "not this one"))
        w.mint(kind="user", user="olga@acme.example")
    with open(log) as f:
        written = f.read()
    t.contains(written, "key_id=" + w.key[4:14])
    t.ok(w.key not in written and w.key[15:] not in written, "a program never sees a key")
    t.ok(w.key[15:] not in w.daemon.log(), "nor does the log")


def test_slow(t):
    """A module of others that answers from a thread of its own: late, twice, never; and who waits for it goes away."""
    stacks = {f"slow-{how}": line(f"required slow delay=150ms how={how}") for how in HOW}
    stacks["pending"] = line("required slow how=never")
    w = World(t, stacks, {"limits.module_pending": "3"}, modules=["slow"])
    for how in HOW:
        wanted = "timeout" if how in ("never", "wrong") else "ok"
        t.equal(w.ask(f"slow-{how}", deadline_ms=3000 if wanted == "ok" else 400), wanted, how)
    # Its bound: what comes beyond is told at once, and counted.
    with contextlib.closing(w.daemon.rpc()) as rpc:
        ids = [rpc.send("check", w.key, "page:read", "acme", {"stack": "pending", "deadline_ms": 1000}) for _ in range(5)]
        t.equal(sorted(rpc.receive(i)["reason"] for i in ids), ["overload"] * 2 + ["timeout"] * 3)
    # Who goes takes its questions along, and nobody else's.
    gone = w.daemon.rpc()
    gone.send("check", w.key, "page:read", "acme", {"stack": "pending", "deadline_ms": 20000})
    wait_until("it to wait", lambda: w.daemon.stats()["waiting"] >= 1)
    gone.close()
    wait_until("it to be forgotten", lambda: w.daemon.stats()["waiting"] == 0)
    stats = w.daemon.stats()
    t.ok(stats["limit_module_pending"] >= 2 and stats["module_calls_cancelled"] >= 4, stats)


def test_revoked_while_it_waits(t):
    w = World(t, {"late": line("required slow delay=1500ms")}, modules=["slow"])
    minted = w.daemon.admin("key_mint", kind="user", user="olga@acme.example")
    with contextlib.closing(w.daemon.rpc()) as rpc:
        rpc.check(minted["key"], "page:read", "acme", min_rev=minted["rev"], deadline_ms=20000)
        msgid = rpc.send("check", minted["key"], "page:read", "acme", {"stack": "late", "deadline_ms": 30000})
        wait_until("it to wait", lambda: w.daemon.stats()["waiting"] == 1)
        revoked = w.daemon.admin("key_revoke", key_id=minted["key_id"])
        # A reload meanwhile: it keeps the policy that it began with.
        w.daemon.write_stack("late", line("required deny"))
        t.ok(w.reload(), "it should")
        answer = rpc.receive(msgid)
        t.equal(answer["reason"], "revoked")
        t.ok(answer["rev"] >= revoked["rev"], answer)
    t.equal(w.ask("late"), "policy", "who asks now has the new one")


# ---- break glass ------------------------------------------------------------------------------------------------

def test_break_glass(t):
    own = t.keep(Cluster().start().install(demo=True))
    d = t.keep(Daemon(own, start=False))
    path = os.path.join(d.dir, "break-glass.keys")
    d.write_stack("default", f"caller required permit\nkey sufficient file path={path}\nkey required store\n"
                  "account required rate\naudit required ledger\n")
    d.start()
    minted = d.admin("break_glass_mint", org="acme", pages=["acme", "acme-cloud"], scopes=["incident:write"], hours=2)
    t.equal(d.check(minted["key"], "incident:write", "acme")["reason"], "unknown_key", "nobody wrote it down")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
        f.write(minted["line"] + "\n")
    own.stop("immediate")

    def asked(scope="incident:write", page="acme", **context):
        return d.check(minted["key"], scope, page, **context)
    answer = asked()
    t.equal((answer["reason"], answer["kind"], answer["org"], answer["key_id"]),
            ("ok", "break_glass", "acme", minted["key_id"]))
    t.equal(asked("incident:read")["reason"], "ok", "write brings read")
    t.equal(asked("incident:delete")["reason"], "scope_not_granted")
    t.equal(asked(page="umbra")["reason"], "unknown_page", "the copy still knows whose it is")
    t.equal(asked(page=None)["reason"] in ("unknown_scope", "page_not_granted"), True)
    t.contains(d.log(), minted["key_id"])
    # And with no copy at all.
    d.stop()
    d.start(wait="socket")
    t.equal(asked()["reason"], "ok")
    t.equal(asked(page="elsewhere")["reason"], "page_not_granted")
    t.equal(d.check(minted["key"][:-1] + "!", "incident:write", "acme")["reason"], "malformed_key")
    t.ok(minted["key"][15:] not in d.log(), "no key in the log")


# ---- explain ----------------------------------------------------------------------------------------------------

def test_explain(t):
    w = World(t, {"strict": line("required deny reason=policy")})
    with contextlib.closing(w.daemon.rpc()) as rpc:
        answer = rpc.call("explain", w.key, "page:read", "acme", {"stack": "strict"})
        t.equal(answer["reason"], "policy")
        t.equal([(e["group"], e["module"], e["code"]) for e in answer["trace"]],
                [("caller", "core", "success"), ("caller", "permit", "success"), ("key", "core", "success"),
                 ("key", "store", "success"), ("account", "core", "success"), ("account", "rate", "ignore"),
                 ("page", "core", "success"), ("scope", "core", "success"), ("scope", "deny", "policy")])
        last = answer["trace"][-1]
        t.equal((last["line"], last["control"], last["action"], last["effect"]), ("strict:5", "required", "bad", "failed"))
        before = w.daemon.stats()
        rpc.call("explain", w.key, "page:read", "acme")
        after = w.daemon.stats()
        t.equal(sum(after["stacks"]["default"].values()), sum(before["stacks"]["default"].values()), "it is no verdict")
    w.daemon.settings["explain.users"] = "12345"
    w.daemon.write_conf()
    t.ok(w.reload(), "it should")
    if os.geteuid() == 0:
        # root and the daemon's own user always may; another user may not
        code = ("import sys; sys.path.insert(0, %r); from world import *; r = Rpc(%r)\n"
                "try: r.call('explain', 'junk', 'page:read', 'acme'); print('answered')\n"
                "except RpcError as e: print(e.code)") % (os.path.join(ROOT, "tests", "support"), w.daemon.socket)
        os.chmod(w.daemon.socket, 0o666)
        done = subprocess.run(["setpriv", "--reuid", "nobody", "--clear-groups", "--", "/usr/bin/python3", "-B", "-c", code],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/")
        t.ok("refused" in done.stdout or "Closed" in done.stdout or "PermissionError" in done.stdout, done.stdout)


HOW = ("once", "twice", "within", "wrong", "never")

if __name__ == "__main__":
    run(globals())
