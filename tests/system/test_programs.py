"""exec and break-glass keys in a real daemon: programs that the broker starts, and keys that need no database."""
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *

HEAD = "caller required permit\nkey required store\naccount required rate\n"
TAIL = "audit required ledger\n"
SHARED = {}

# Does what the page's name says.
OPINION = r"""#!/bin/sh
tab=$(printf '\t')
echo $$ >> "$0.pids"
while IFS=$tab read -r number fields; do
  printf '%s\n' "$fields" >> "$0.read"
  case $fields in
  *"${tab}page=glass-deny$tab"*) echo "$number policy 2500 # ask a person" ;;
  *"${tab}page=glass-hang$tab"*) trap '' TERM; while :; do sleep 0.1; done ;;
  *"${tab}page=glass-die$tab"*) exit 1 ;;
  *) echo "$number success" ;;
  esac
done
"""


def program(text=OPINION):
    path = os.path.join(new_dir("program"), "opinion")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o755), "w") as f:
        f.write(text)
    return path


def lines_of(path):
    if not os.path.exists(path):
        return []
    with open(path) as f:
        return f.read().splitlines()


def pids_of(path):
    return [int(line) for line in lines_of(path + ".pids")]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(word) for word in f.read().split()]


def world():
    """A cluster with an organization, pages named after what the program does, and a key of the organization."""
    if not SHARED:
        cluster = Cluster().start().install()
        daemon = Daemon(cluster)
        for org in ("glass", "other"):
            daemon.admin("org_add", org=org)
        for page in ("glass-ok", "glass-deny", "glass-hang", "glass-die"):
            daemon.admin("page_add", org="glass", page=page)
        daemon.admin("page_add", org="other", page="other-page")
        pepper = daemon.pepper
        key = daemon.admin("key_mint", kind="organization", org="glass", access="write")["key"]
        daemon.stop()
        SHARED.update(cluster=cluster, key=key, pepper=pepper)
    return SHARED


def start(t, line, killed=False):
    """A daemon whose default stack has one line more; `killed`: the test ends it, and not gently."""
    w = world()
    daemon = Daemon(w["cluster"], pepper=w["pepper"], stacks={"default": HEAD + line + "\n" + TAIL})
    return daemon if killed else t.keep(daemon)


def verdict(daemon, page, key=None, scope="incident:write", **context):
    answer = daemon.check(key or SHARED["key"], scope, page, deadline_ms=20000, **context)
    return answer["verdict"], answer["reason"]


# ---- exec ---------------------------------------------------------------------------------------------------------

def test_a_program_has_a_say(t):
    path = program()
    daemon = start(t, f"scope required exec command={path} timeout=20s")
    t.equal(verdict(daemon, "glass-ok", addr="192.0.2.7"), ("allow", "ok"))
    answer = daemon.check(SHARED["key"], "incident:write", "glass-deny")
    t.equal((answer["verdict"], answer["reason"], answer["retry_after_ms"]), ("deny", "policy", 2500))
    fields = [line.split("\t") for line in lines_of(path + ".read")]
    t.equal(fields[0], ["group=scope", "stack=default", "method=check", f"key_id={SHARED['key'][4:14]}", "kind=organization",
                        "org=glass", "user=", "scope=incident:write", "page=glass-ok", "addr=192.0.2.7",
                        f"uid={os.geteuid()}", "explain=0", "asked_org=", "stale=0"])
    t.equal(verdict(daemon, "glass-die"), ("unavailable", "module_fault"))
    t.equal(verdict(daemon, "glass-ok"), ("allow", "ok"), "others are there")
    # what the rule refuses nobody is asked about
    asked = len(lines_of(path + ".read"))
    t.equal(verdict(daemon, "other-page"), ("deny", "unknown_page"))
    t.equal(len(lines_of(path + ".read")), asked)
    with open(path + ".read") as f:
        t.ok(SHARED["key"] not in f.read(), "the key is not told")
    t.ok(SHARED["key"] not in daemon.log(), "nor logged")


def test_a_program_that_hangs(t):
    path = program()
    daemon = start(t, f"scope required exec command={path} timeout=3s workers=2")
    wait_until("both", lambda: len(pids_of(path)) == 2)
    before = pids_of(path)
    t.equal(verdict(daemon, "glass-hang"), ("unavailable", "timeout"))
    t.equal(verdict(daemon, "glass-ok"), ("allow", "ok"))
    t.contains(daemon.log(), "no answer in 3000 ms; started again in 100 ms")
    wait_until("another one", lambda: len(pids_of(path)) == 3)
    wait_until("the one that hangs to be gone", lambda: sum(alive(pid) for pid in before) == 1)


def test_what_leaves_its_session(t):
    path = program(OPINION.replace("echo $$ >>", "(setsid sh -c 'trap \"\" TERM HUP; echo $$ >> \"$0.away\"; exec sleep 1000' \"$0\" "
                                                 "</dev/null >/dev/null &)\necho $$ >>"))
    daemon = start(t, f"scope required exec command={path} timeout=3s workers=1", killed=True)
    away = lambda: [int(line) for line in lines_of(path + ".away")]
    wait_until("the first", lambda: len(away()) == 1)
    t.ok(alive(away()[0]), "it goes on while its program does")
    t.equal(verdict(daemon, "glass-hang"), ("unavailable", "timeout"))
    wait_until("another program", lambda: len(away()) == 2)
    wait_until("what the one that hung had started to be gone", lambda: not alive(away()[0]))
    t.ok(alive(away()[1]), "the other program's goes on")
    daemon.kill()
    wait_until("that to end with the daemon", lambda: not alive(away()[1]))


def test_many_at_once(t):
    path = program()
    daemon = start(t, f"scope required exec command={path} depth=8 timeout=20s pending=1000")
    rpc = t.keep(daemon.rpc())
    pages = ["glass-ok", "glass-deny"] * 200
    sent = [rpc.send("check", SHARED["key"], "incident:write", page, {"deadline_ms": 20000}) for page in pages]
    answers = [rpc.receive(msgid) for msgid in sent]
    t.equal([a["reason"] for a in answers], ["ok", "policy"] * 200)
    many = rpc.call("check_many", SHARED["key"], [["incident:write", page] for page in pages[:40]], {"deadline_ms": 20000})
    t.equal([a["reason"] for a in many], ["ok", "policy"] * 20)


def test_programs_end_with_the_daemon(t):
    for how in (signal.SIGTERM, signal.SIGKILL):
        path = program()
        daemon = start(t, f"scope required exec command={path} timeout=60s", killed=True)
        wait_until("all four", lambda: len(pids_of(path)) == 4)
        with open(f"/proc/{children_of(daemon.process.pid)[0]}/comm") as f:
            t.equal(f.read(), "apikeyd-broker\n")
        everybody = pids_of(path) + children_of(daemon.process.pid)
        rpc = t.keep(daemon.rpc())
        rpc.send("check", SHARED["key"], "incident:write", "glass-hang", {"deadline_ms": 60000})
        wait_until("the question", lambda: lines_of(path + ".read"))
        t.ok(all(alive(pid) for pid in everybody), everybody)
        if how == signal.SIGKILL:
            daemon.kill()
        else:
            rpc.close()
            t.equal(daemon.stop(), 0)
        wait_until("them to end", lambda: not any(alive(pid) for pid in everybody))


def test_a_broker_that_nobody_needs_is_gone(t):
    daemon = start(t, "")
    t.equal(children_of(daemon.process.pid), [])
    path = program()
    daemon.write_stack("default", HEAD + f"scope required exec command={path}\n" + TAIL)
    daemon.signal(signal.SIGHUP)
    wait_until("the refusal", lambda: "takes a restart" in daemon.log())
    t.equal(verdict(daemon, "glass-deny"), ("allow", "ok"), "as it was")


def test_reload(t):
    path, new = program(), program()
    line = f"scope required exec [command={path} -x] workers=1"
    daemon = start(t, line)
    wait_until("it", lambda: len(pids_of(path)) == 1)
    first = pids_of(path)[0]
    daemon.signal(signal.SIGHUP)
    wait_until("the reload", lambda: daemon.stats()["reloads"] == 1)
    t.ok(alive(first), "a line that stays keeps its programs")
    daemon.write_stack("default", HEAD + line.replace("workers=1", "workers=2") + "\n" + TAIL)
    daemon.signal(signal.SIGHUP)
    wait_until("two more", lambda: len(pids_of(path)) == 3)
    wait_until("the one of before to end", lambda: not alive(first))
    t.equal(verdict(daemon, "glass-deny"), ("deny", "policy"))
    daemon.write_stack("default", HEAD + line.replace(path, new) + "\n" + TAIL)
    daemon.signal(signal.SIGHUP)
    wait_until("the refusal", lambda: f"{new}: a new program takes a restart of apikeyd" in daemon.log())
    t.equal(verdict(daemon, "glass-deny"), ("deny", "policy"), "the one of before goes on")
    t.equal(pids_of(new), [])


def test_what_cannot_be_started(t):
    path = program()
    stack = HEAD + f"scope required exec command={path}\n" + TAIL

    def refused(says):
        daemon = Daemon(SHARED["cluster"], pepper=SHARED["pepper"], stacks={"default": stack}, start=False)
        done = subprocess.run([APIKEYD, "-c", daemon.conf], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=WAIT)
        t.equal(done.returncode, 1, done.stdout)
        t.contains(done.stdout, says)
    world()
    os.chmod(path, 0o757)
    refused("anybody can write it")
    os.chmod(path, 0o644)
    refused("run chmod +x")
    os.unlink(path)
    refused("No such file")


def test_a_test_starts_nothing(t):
    path = program()
    w = world()
    daemon = Daemon(w["cluster"], pepper=w["pepper"], start=False,
                    stacks={"default": HEAD + f"scope required exec command={path}\n" + TAIL})
    done = subprocess.run([APIKEYD, "-c", daemon.conf, "-t"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=WAIT)
    t.equal((done.returncode, done.stdout.splitlines()[-1]), (0, f"{daemon.conf}: fine"))
    t.ok("exec" not in done.stdout, done.stdout)
    t.equal(pids_of(path), [])


# ---- break-glass keys ---------------------------------------------------------------------------------------------

def glass_stack(path):
    return HEAD.replace("key required", f"key sufficient file path={path}\nkey required") + TAIL


def keys_file():
    return os.path.join(new_dir("glass"), "break-glass.keys")


def write_down(path, *lines):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as f:
        f.write("".join(line + "\n" for line in lines))


def test_without_a_database(t):
    path = keys_file()
    daemon = t.keep(Daemon(stacks={"default": glass_stack(path)}, wait="socket"))
    minted = daemon.admin("break_glass_mint", org="acme", pages=["acme-status"], scopes=["incident:write"], hours=8)
    key = minted["key"]
    t.equal(daemon.check(key, "incident:write", "acme-status")["reason"], "unknown_key", "in no file, and never in the store")
    write_down(path, minted["line"])
    answer = daemon.check(key, "incident:write", "acme-status", addr="192.0.2.7")
    t.equal((answer["verdict"], answer["reason"], answer["kind"], answer["key_id"], answer["rev"]),
            ("allow", "ok", "break_glass", minted["key_id"], 0))
    log = daemon.log()
    t.ok(re.search(rf"warning: .*break-glass key {minted['key_id']} used: organization acme, method check, "
                   rf"uid {os.geteuid()}, addr 192.0.2.7, ends ", log), log)
    t.ok(key[15:40] not in log, "the key is in no log")
    t.equal(daemon.check(key, "incident:read", "acme-status")["reason"], "ok", "a write brings its read")
    for scope, page, reason in (("service:write", "acme-status", "scope_not_granted"),
                                ("incident:write", "acme-cloud", "page_not_granted"),
                                ("member:read", "acme-status", "scope_not_granted")):
        t.equal(daemon.check(key, scope, page)["reason"], reason, f"{scope} {page}")
    wrong = key[:-10] + ("a" if key[-10] != "a" else "b") + key[-9:]
    t.ok(daemon.check(wrong, "incident:write", "acme-status")["verdict"] != "allow", "a wrong secret")
    # a wrong line, and the whole file is at fault; without it, it is good again
    write_down(path, "nonsense")
    answer = daemon.check(key, "incident:write", "acme-status")
    t.equal((answer["verdict"], answer["reason"]), ("unavailable", "module_fault"))
    t.contains(daemon.log(), f"{path}:2: has 1 words: it must have 6")
    os.unlink(path)
    t.ok(daemon.check(key, "incident:write", "acme-status")["verdict"] != "allow", "the line is gone")
    write_down(path, minted["line"])
    t.equal(daemon.check(key, "incident:write", "acme-status")["reason"], "ok")


def test_what_the_copy_knows_still_counts(t):
    path = keys_file()
    w = world()
    daemon = t.keep(Daemon(w["cluster"], pepper=w["pepper"], stacks={"default": glass_stack(path)}))
    minted = daemon.admin("break_glass_mint", org="glass", pages=["glass-ok", "other-page", "nowhere"],
                          scopes=["incident:write"], hours=1)
    key = minted["key"]
    t.equal(daemon.check(key, "incident:write", "glass-ok")["reason"], "unknown_key")
    write_down(path, minted["line"])
    t.equal(daemon.check(key, "incident:write", "glass-ok")["reason"], "ok")
    for page in ("other-page", "nowhere"):
        t.equal(daemon.check(key, "incident:write", page)["reason"], "unknown_page", page)
    for standing, reason in (("archived", "page_archived"), ("active", "ok")):
        rev = daemon.admin("page_set", page="glass-ok", standing=standing)["rev"]
        wait_until("the change", lambda: daemon.stats()["rev"] >= rev)
        t.equal(daemon.check(key, "incident:write", "glass-ok")["reason"], reason, standing)
    t.equal(daemon.check(SHARED["key"], "incident:write", "glass-ok")["reason"], "ok", "others go on to the store")
    t.ok(f"break-glass key {SHARED['key'][4:14]}" not in daemon.log(), "only these are told of")
    # a line past its end
    ended = re.sub(r" \S+$", " 2020-01-01T00:00:00Z", minted["line"])
    os.unlink(path)
    write_down(path, ended)
    t.equal(daemon.check(key, "incident:write", "glass-ok")["reason"], "expired")
    t.contains(daemon.log(), "used after its end")
    # and one that is good for too long
    os.unlink(path)
    write_down(path, re.sub(r" \S+$", " 2099-01-01T00:00:00Z", minted["line"]))
    t.equal(daemon.check(key, "incident:write", "glass-ok")["reason"], "module_fault")
    t.contains(daemon.log(), "must be at most 24 hours away")


if __name__ == "__main__":
    run(globals())
