"""apikeyctl's explain, stack and modules: against a played daemon, a real one, and files alone."""
import re

from test_apikeyctl import ALLOW, DENY, FAULT, KEY, Played, bash_completes, ctl, ends
from world import *

CORE = {"group": "caller", "module": "core", "code": "success"}
TRACE = [CORE, {"group": "key", "module": "store", "code": "success", "line": "default:9", "control": "required",
                "action": "ok", "effect": "granted", "ns": 412},
         {"group": "account", "module": "hours", "code": "policy", "line": "strict:3", "control": "required",
          "action": "bad", "effect": "failed", "ns": 1250000, "detail": "it is 19:40,\x1b[31m outside 08:00-18:00"}]
WHOLE = "caller required permit\nkey required store\naccount required rate\n"
MISTAKES = os.path.join(ROOT, "tests", "stacks", "mistakes")


def stack_dir(files):
    path = new_dir("stacks")
    for name, text in files.items():
        with open(os.path.join(path, name), "w") as f:
            f.write(text)
    return path


# ---- explain ------------------------------------------------------------------------------------------------------

def test_explain_prints_the_trace(t):
    answer = dict(DENY, reason="policy", trace=TRACE)
    daemon = Played(t, answer)
    done = ends(t, ctl("explain", "incident:write", "acme-status", "--stack", "strict", "--cost", "2", key=KEY,
                       daemon=daemon), 1)
    t.equal(daemon.requests, [("explain", [KEY, "incident:write", "acme-status", {"stack": "strict", "cost": 2}])])
    t.ok(done.stdout.startswith("deny: policy\n"), done.stdout)
    t.contains(done.stdout, "The group account failed: hours (strict:3) said policy, which its control required makes bad.")
    rows = [line.split() for line in done.stdout.splitlines()]
    t.ok(["caller", "-", "core", "-", "success", "-", "-", "-", "-"] in rows, done.stdout)
    t.ok(["key", "default:9", "store", "required", "success", "ok", "granted", "412", "ns", "-"] in rows, done.stdout)
    t.ok(any(row[:9] == ["account", "strict:3", "hours", "required", "policy", "bad", "failed", "1.2", "ms"] for row in rows),
         done.stdout)
    t.contains(done.stdout, "outside 08:00-18:00")
    t.ok("\x1b" not in done.stdout, "a module's words cannot colour the terminal")
    as_json = ends(t, ctl("explain", "--json", "incident:write", "acme-status", key=KEY, daemon=daemon), 1)
    t.equal(json.loads(as_json.stdout), answer, "--json is the map itself")
    quiet = ends(t, ctl("explain", "-q", "incident:write", "acme-status", key=KEY, daemon=daemon), 1)
    t.equal(quiet.stdout + quiet.stderr, "", "-q says nothing")


def test_explain_has_the_exit_codes_of_check(t):
    for answer, code in ((ALLOW, 0), (DENY, 1), (FAULT, 3)):
        ends(t, ctl("explain", "a:b", key=KEY, daemon=Played(t, dict(answer, trace=TRACE[:2]))), code)
    ends(t, ctl("explain", "a:b", key=KEY, daemon=Played(t, DENY)), 3, "holds no trace")
    ends(t, ctl("explain", "a:b", key=KEY, daemon=Played(t, {"verdict": "maybe"})), 3, "no verdict")
    done = ends(t, ctl("explain", "a:b", key=KEY, daemon=Played(t, {
        "verdict": "deny", "reason": "no_stack", "rev": 1, "age_ms": 1, "trace": []})), 1)
    t.contains(done.stdout, "No group was begun: no_stack was found before.")

    def refuse(method, params):
        raise RpcError("refused", "explain: uid 7 is not in [explain] users of apikeyd.conf; ask with check")

    ends(t, ctl("explain", "a:b", key=KEY, daemon=Played(t, refuse)), 4, "[explain] users")
    ends(t, ctl("explain", key=KEY), 2, "explain needs SCOPE")
    ends(t, ctl("explain", "a:b", KEY), 2, "looks like a key")


def test_explain_with_the_real_daemon(t):
    store = t.keep(Cluster().start()).install()
    daemon = t.keep(Daemon(store, stacks={"never": WHOLE + "scope required deny reason=policy\naudit none\n"}))

    def made(*argv):
        done = daemon.ctl(*argv, "--json")
        t.equal(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    made("org", "add", "acme")
    made("page", "add", "acme-a", "--org", "acme")
    key = made("key", "mint", "--org", "acme", "--access", "write", "--rate", "2/1h")
    at = ("incident:write", "acme-a", "--min-rev", str(key["rev"]))
    for _ in range(5):  # nothing is spent
        done = daemon.ctl("explain", *at, key=key["key"])
        t.equal(done.returncode, 0, done.stdout + done.stderr)
    t.contains(done.stdout, "allow: ok\n")
    t.ok(re.search(r"Every group passed; store \(default:\d+\) said whose key it is\.", done.stdout), done.stdout)
    t.ok(re.search(r"^account +default:\d+ +rate +required +success +ok +ok +\S+ (ns|µs|ms) ", done.stdout, re.M), done.stdout)
    t.ok(re.search(r"^scope +- +core +- +success +-", done.stdout, re.M), done.stdout)
    never = daemon.ctl("explain", *at, "--stack", "never", key=key["key"])
    t.equal(never.returncode, 1)
    t.contains(never.stdout, "The group scope failed: deny (never:4) said policy, which its control required makes bad.")
    answer = json.loads(daemon.ctl("explain", "--json", *at, "--stack", "never", key=key["key"]).stdout)
    t.equal([e["module"] for e in answer["trace"]],
            ["core", "permit", "core", "store", "core", "rate", "core", "core", "deny"])
    t.equal(daemon.ctl("explain", *at, "--stack", "no-such", key=key["key"]).returncode, 1)
    for code in (0, 0, 1):  # the rate was there all the time
        done = daemon.ctl("check", *at, key=key["key"])
        t.equal(done.returncode, code, done.stdout)
    limited = daemon.ctl("explain", *at, key=key["key"])
    t.contains(limited.stdout, "The group account failed: rate (default:")
    t.ok(key["key"] not in daemon.log(), "no key in the log")


# ---- stack check --------------------------------------------------------------------------------------------------

def findings(*argv):
    return json.loads(ctl("stack", "check", "--json", *argv).stdout)


def as_line(f):
    """A finding of --json as people are shown it: nothing is in the one that is not in the other."""
    t = f["file"] + (f":{f['line']}:{f['column']}" if f["line"] else "") + f": {f['severity']}: "
    t += (f["word"] + ": " if f["word"] else "") + f["message"] + ("; " + f["hint"] if f["hint"] else "")
    return f"{t} [{f['code']}]"


def test_the_installed_stacks_are_clean(t):
    done = ends(t, ctl("stack", "check", "--strict", "--dir", os.path.join(ROOT, "daemon", "etc", "stacks")), 0)
    t.equal(done.stdout, "")
    t.equal(json.loads(ctl("stack", "check", "--json", os.path.join(ROOT, "daemon", "etc", "stacks", "default")).stdout), [])


def test_each_mistake_is_found(t):
    """The first line of each file says what must be said of it."""
    tried = {True: 0, False: 0}
    for name in sorted(os.listdir(MISTAKES)):
        if not name.endswith(".stack"):
            continue
        path = os.path.join(MISTAKES, name)
        with open(path, errors="surrogateescape") as f:
            expect = f.readline().removeprefix("# expect: ").rstrip("\n")
        done = ctl("stack", "check", path)
        t.ok("Sanitizer" not in done.stderr, done.stderr)
        loads = "[does-not-load]" not in done.stdout
        tried[loads] += 1
        for word in expect.split(", ") if loads else [expect]:
            t.contains(done.stdout, f"[{word}]" if loads else word, name)
        errors = re.findall(r"^\S+: error: ", done.stdout, re.M)
        t.equal(done.returncode, 1 if errors else 0, done.stdout)
        t.equal(ctl("stack", "check", "--strict", path).returncode, 1, f"{name}, strictly")
        for line in done.stdout.splitlines():
            t.ok(re.match(r"\S+(:\d+:\d+)?: (error|warning): .+ \[[a-z-]+\]$", line), line)
        t.equal([as_line(f) for f in findings(path)], done.stdout.splitlines(), name)
    t.ok(min(tried.values()) > 3 and sum(tried.values()) >= 20, f"files of both kinds: {tried}")


def test_check_names_the_place(t):
    path = stack_dir({"default": WHOLE + "audit none\n", "api": WHOLE + "account required rat\naudit none\n",
                      "part": "include me\n"})
    first = findings("--dir", path)[0]
    t.contains(first.pop("hint"), "no module of that name is built in")
    t.equal(first, {"stacks": ["api"], "file": f"{path}/api", "line": 4, "column": 18, "severity": "error",
                    "code": "does-not-load", "word": "rat", "message": "is no module"})
    done = ends(t, ctl("stack", "check", "--dir", path), 1)
    t.ok(re.search(rf"^{path}/api:4:18: error: rat: .*\[does-not-load\]$", done.stdout, re.M), done.stdout)
    t.ok(re.search(rf"^{path}/part:1:1: error: include: ", done.stdout, re.M), done.stdout)
    t.ok(f"{path}/default" not in done.stdout, "of the good one nothing")
    ends(t, ctl("stack", "check", os.path.join(path, "default")), 0)
    ends(t, ctl("stack", "check", "--dir", os.path.join(path, "nowhere")), 2, "No such file")
    done = ctl("stack", "check", "-q", "--dir", path)
    t.equal((done.returncode, done.stdout, done.stderr), (1, "", ""), "-q says nothing")


def test_what_a_file_includes_stands_beside_it(t):
    path = stack_dir({"common": "key required store\naccount required rate\n",
                      "api": "caller required permit\nkey include common\naccount include common\naudit none\n"})
    ends(t, ctl("stack", "check", "--dir", "/nonexistent", os.path.join(path, "api")), 0)
    os.remove(os.path.join(path, "common"))
    done = ends(t, ctl("stack", "check", os.path.join(path, "api")), 1)
    t.contains(done.stdout, "api:2:13: error: common: is no stack")


def test_a_directory_is_read_as_the_daemon_reads_it(t):
    path = stack_dir({"default": WHOLE + "audit none\n", ".default.swp": "x", "api~": "x", "api.dpkg-new": "x", "b ad": "x"})
    os.mkdir(os.path.join(path, "more"))
    found = {os.path.basename(f["file"]): f for f in findings("--dir", path)}
    t.equal({name: (f["severity"], f["code"], f["line"], f["stacks"]) for name, f in found.items()},
            {**{name: ("note", "passed-over", None, []) for name in (".default.swp", "api~", "api.dpkg-new")},
             **{name: ("error", "does-not-load", None, []) for name in ("b ad", "more")}})
    t.equal(findings(path), findings("--dir", path), "a directory may be named as a file is")
    ends(t, ctl("stack", "check", path), 1)
    for name in ("b ad", "more", "default"):
        (os.rmdir if name == "more" else os.unlink)(os.path.join(path, name))
    lost = [f for f in findings(path) if f["severity"] != "note"]
    t.equal([(f["file"], f["code"], f["message"]) for f in lost], [(path, "no-default", "there is no stack default")])
    ends(t, ctl("stack", "check", path), 1)
    with open(os.path.join(path, "default"), "w") as f:
        f.write(WHOLE + "audit none\n")
    done = ends(t, ctl("stack", "check", "--strict", path), 0)
    t.contains(done.stdout, "api~: note: is passed over, ")


def test_what_many_include_is_found_once(t):
    common = WHOLE + "page optional hours only=a:write between=08:00-18:00\naudit none\n"
    whole = "".join(f"{group} include common\n" for group in ("caller", "key", "account", "page", "audit"))
    path = stack_dir({"common": common, "default": whole, "other": whole})
    found = findings(path)
    t.equal([(os.path.basename(f["file"]), f["line"], f["column"], f["code"], f["word"], f["stacks"]) for f in found],
            [("common", 4, 15, "refusal-ignored", "hours", ["common", "default", "other"])])
    done = ctl("stack", "check", path)
    t.contains(done.stderr, "0 errors, 1 warnings")
    with open(os.path.join(path, "common"), "a") as f:
        f.write("nonsense\n")
    found = findings(path)
    t.equal([(f["code"], f["line"], f["stacks"]) for f in found if os.path.basename(f["file"]) == "common"],
            [("does-not-load", 6, ["common", "default", "other"])])


# ---- stack list ---------------------------------------------------------------------------------------------------

def test_stacks_are_listed(t):
    path = stack_dir({"default": "caller none\nkey sufficient file path=/etc/keys\nkey required store\naccount required rate\n"
                                 "audit required ledger\n",
                      "api": "caller required permit\nkey include default\naccount substack default\nscope required deny\n"
                             "audit none\n", "api~": "x"})
    t.equal(json.loads(ends(t, ctl("stack", "list", "--json", "--dir", path), 0).stdout), [
        {"stack": "api", "file": f"{path}/api", "loads": True, "caller": ["permit"], "key": ["file", "store"],
         "account": ["rate"], "page": None, "scope": ["deny"], "audit": []},
        {"stack": "default", "file": f"{path}/default", "loads": True, "caller": [], "key": ["file", "store"],
         "account": ["rate"], "page": None, "scope": None, "audit": ["ledger"]}])
    table = ends(t, ctl("stack", "list", "--dir", path), 0).stdout
    t.equal([line.split() for line in table.splitlines()][1:],
            [["api", "yes", "permit", "file,", "store", "rate", "-", "deny", "none"],
             ["default", "yes", "none", "file,", "store", "rate", "-", "-", "ledger"]])
    with open(os.path.join(path, "wrong"), "w") as f:
        f.write("nonsense\n")
    done = ends(t, ctl("stack", "list", "--dir", path), 1)
    t.contains(done.stdout, "wrong   no")
    t.contains(done.stderr, f"{path}/wrong:1:1: nonsense: ")
    t.contains(done.stderr, "1 of them cannot be loaded")
    ends(t, ctl("stack", "list", "--dir", os.path.join(path, "nowhere")), 2, "No such file")


def test_modules_of_others(t):
    done = subprocess.run(["gcc", "-shared", "-fPIC", "-I", os.path.join(ROOT, "daemon"), "-o", "maintenance.so",
                           os.path.join(ROOT, "daemon", "examples", "maintenance.c")], cwd=scratch(), stderr=subprocess.PIPE)
    t.equal(done.returncode, 0, done.stderr)
    modules = new_dir("modules")
    os.chmod(modules, 0o755)
    shutil.copy(os.path.join(scratch(), "maintenance.so"), modules)
    os.chmod(os.path.join(modules, "maintenance.so"), 0o644)
    with open(os.path.join(modules, "broken.so"), "w") as f:
        f.write("no shared object")
    listed = ctl("modules", "--module-dir", modules)
    t.equal(listed.returncode, 0, listed.stderr)
    t.ok(re.search(r"^maintenance +", listed.stdout, re.M), listed.stdout)
    t.contains(listed.stdout + listed.stderr, "broken")
    t.ok(json.loads(ctl("modules", "--json", "-q", "--module-dir", modules, "maintenance").stdout)["arguments"], "a table")
    path = stack_dir({"default": WHOLE + "page required maintenance flag=/run/flag\naudit none\n"})
    good = ctl("stack", "check", "--dir", path, "--module-dir", modules)
    bad = ctl("stack", "check", "--dir", path)
    t.contains(bad.stdout, "no module of that name is built in")
    t.ok("no module of that name is built in" not in good.stdout, good.stdout)
    os.chmod(modules, 0o777)
    t.equal(ctl("modules", "--module-dir", modules).returncode, 2, "anybody could have put them there")


# ---- stack explain ------------------------------------------------------------------------------------------------

def test_playing_a_stack_through(t):
    path = stack_dir({"api": "caller required permit\nkey sufficient file path=/etc/keys\nkey required store\n"
                             "account required rate\naudit none\n"})

    def play(code, *argv):
        done = ends(t, ctl("stack", "explain", "api", "--dir", path, *argv), code)
        return done.stdout

    out = play(0)
    t.contains(out, "allow: ok")
    t.ok(re.search(r"^key +api:2 +file +sufficient +success +done +", out, re.M), out)
    t.ok(re.search(r"^key +api:3 +store +required +- +- +not asked", out, re.M), out)
    out = play(1, "--as", "success,unknown_key,unknown_key,success")
    t.contains(out, "deny: unknown_key")
    t.contains(out, "In key no line granted, and ")
    out = play(3, "--as", "3=timeout,2=unknown_key")
    t.contains(out, "unavailable: timeout")
    whole = json.loads(play(1, "--as", "4=rate_limited", "--json"))
    t.equal((whole["verdict"], whole["reason"]), ("deny", "rate_limited"))
    t.ok(whole["why"], "and why")
    t.ok("rate_limited" in json.dumps(whole), "the line's code")
    for argv, says in ((["--as", "nonsense"], "is no code"), (["--as", "success"], "1 code given"),
                       (["--as", "9=stale"], "no module's line has that number")):
        ends(t, ctl("stack", "explain", "api", "--dir", path, *argv), 2, says)
    t.equal(ctl("stack", "explain", os.path.join(path, "api"), "--dir", "/nonexistent").stdout, play(0), "by its path")
    t.equal(subprocess.run([APIKEYCTL, "stack", "explain", "./api"], cwd=path, stdout=subprocess.PIPE, text=True).stdout, play(0))
    ends(t, ctl("stack", "explain", "none", "--dir", path), 2, "No such file")
    ends(t, ctl("stack", "explain", "./none", "--dir", path), 2, "No such file")
    ends(t, ctl("stack", "explain"), 2, "needs STACK")


# ---- modules ------------------------------------------------------------------------------------------------------

def test_modules_are_listed_with_their_arguments(t):
    rows = json.loads(ends(t, ctl("modules", "--json"), 0).stdout)
    names = [row["name"] for row in rows]
    t.ok({"peer", "permit", "file", "store", "rate", "penalty", "hours", "exec", "deny", "debug", "ledger"} <= set(names),
         f"{names}")
    table = ends(t, ctl("modules"), 0).stdout
    for row in rows:
        t.ok(row["groups"] and row["help"], f"{row}")
        t.ok(re.search(rf"^{row['name']} +{', '.join(row['groups'])} +", table, re.M), table)
        one = ends(t, ctl("modules", row["name"]), 0).stdout
        for argument in row["arguments"]:
            t.ok(argument["help"], f"{row['name']} {argument}")
            t.ok(re.search(rf"^{argument['name']} +", one, re.M), one)
    rate = json.loads(ctl("modules", "rate", "--json").stdout)
    t.equal(rate, rows[names.index("rate")], "one of them alone")
    ends(t, ctl("modules", "no_such"), 4, "there is no module no_such")


def test_the_shell_completes_them(t):
    t.equal(bash_completes("apikeyctl stack "), ["list", "check", "explain"])
    for verb in ("check", "explain"):
        t.equal(bash_completes(f"apikeyctl stack {verb} READ"), ["README.md"], f"{verb}: files")
    t.equal(bash_completes("apikeyctl mod"), ["modules"])
    t.ok({"--as", "--dir", "--module-dir"} <= set(bash_completes("apikeyctl stack explain --")), "options")


if __name__ == "__main__":
    run(globals())
