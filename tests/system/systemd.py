"""The packages, installed on a Debian with a real systemd: units, sockets, credentials, crashes, upgrades, purge.

One container is booted for all tests, which build on each other in the order of the file. It is a suite of its own and
not one of test_*.py, since it is about what is installed and not about one build or another.
"""
import re

from world import *

import container as container_module
from container import Container, NoContainer

UNITS = ["apikeyd.service", "apikeyd.socket", "apikeyd-admin.socket"]
KEYS = 100_000
# What the host of a container may lack, and no unit can mend: said by systemd of the first unit that asks, and by the daemon.
OF_THE_HOST = ["unit configures an IP firewall, but"] + ([] if landlock_version() else ["confine: no landlock"])


# ---- the packages ---------------------------------------------------------------------------------------------------

def packages():
    """Directory of the four .deb files, made from the build `package`."""
    if not hasattr(packages, "dir"):
        build = os.path.join(ROOT, "build", "package")
        packages.dir = new_dir("packages")
        for argv in (["cmake", "-G", "Ninja", "--preset", "package"],
                     ["cmake", "--build", build],
                     ["cpack", "-G", "DEB", "--config", os.path.join(build, "CPackConfig.cmake"), "-B", packages.dir]):
            done = container_module.run(argv, cwd=ROOT)
            if done.returncode:
                raise AssertionError(f"{' '.join(argv)}: {done.stdout[-4000:]}")
        shutil.rmtree(os.path.join(packages.dir, "_CPack_Packages"), True)
        if shutil.which("lintian"):  # it takes its time, beside the other tests
            packages.lintian = subprocess.Popen(["lintian", "--allow-root", "--fail-on", "error", *debs()], text=True,
                                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return packages.dir


def debs():
    return sorted(glob.glob(os.path.join(packages(), "*.deb")))


def box(t):
    """The container, booted once."""
    if not hasattr(box, "found"):
        try:
            box.found = Container()
        except NoContainer as why:
            box.found = why
    if isinstance(box.found, NoContainer):
        t.skip(str(box.found))
    return box.found


def installed(t):
    """The container, with the packages in it."""
    c = box(t)
    if not os.path.exists(c.path("/usr/sbin/apikeyd")):
        t.skip("the packages are not installed, as an earlier test says")
    return c


# ---- the daemon in there ----------------------------------------------------------------------------------------------

def socket_path(c, name="check.sock"):
    return c.path("/run/apikeyd/" + name)


def running(t):
    """The container, with a daemon that was started once."""
    c = installed(t)
    if not hasattr(box, "key"):
        t.skip("there was no first start, as an earlier test says")
    return c


def soon(what, test):
    """Each look is a program of its own: not too often."""
    return wait_until(what, test, step=0.1)


def stats(c):
    with contextlib.closing(Rpc(socket_path(c))) as rpc:
        return rpc.call("stats")


def ask(c, scope="incident:write", page="acme", user=None, key=None, **env):
    """(exit code, what apikeyctl printed) of one question, asked in there."""
    done = c.run("apikeyctl", "check", scope, page, user=user, env=dict(env, APIKEY_KEY=key or box.key))
    return done.returncode, done.stdout + done.stderr


def psql(c, text, database="apikeyd"):
    return c.run("runuser", "-u", "postgres", "--", "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database,
                 "-c", text, check=True).stdout.strip()


def systemctl(c, *argv, check=True):
    """Counts no start against the limit of the unit: tests restart more often than anybody should."""
    c.run("systemctl", "reset-failed", *UNITS)
    done = c.run("systemctl", *argv)
    if check and done.returncode:
        raise AssertionError(f"systemctl {' '.join(argv)}: {done.stderr}" + c.journal("--lines=12", "--unit=apikeyd*"))
    return done


def restart(c):
    systemctl(c, "restart", "apikeyd.service")


CONF = """[limits]
start_ms = {start}
[log]
level = {level}
{more}"""


def configure(c, start="10min", level="info", more=""):
    c.write("/etc/apikeyd/apikeyd.conf", CONF.format(start=start, level=level, more=more))


def main_pid(c):
    return int(c.show("apikeyd.service", "MainPID"))


def status_of_process(c, pid, name):
    with open(c.path(f"/proc/{pid}/status")) as f:
        return next(line.split(":", 1)[1].split() for line in f if line.startswith(name + ":"))


def cursor(c):
    return c.journal("--lines=0", "--show-cursor").split("cursor: ")[1].strip()


def warnings_since(c, mark):
    lines = c.journal("--priority=warning", "--after-cursor", mark, *(f"--unit={unit}" for unit in UNITS)).splitlines()
    return [line for line in lines if not any(known in line for known in OF_THE_HOST)]


class Hammer:
    """A program of somebody else's that asks in there all the time, and must always be allowed."""

    def __init__(self, c, threads=4, wait=True):
        self.process = c.popen("/root/hammer", "incident:write", "acme", str(threads), user="www-data",
                               env={"APIKEY_KEY": box.key})
        if wait:
            self.go_on()

    def go_on(self, lines=1):
        for _ in range(lines):
            line = self.process.stdout.readline()
            if not line.strip().isdigit():
                raise AssertionError(f"the program that asks ended: {line}{self.process.communicate()}")

    def end(self, t, what):
        self.go_on(2)
        out, errors = self.process.communicate()
        last = [line for line in out.splitlines() if not line.isdigit()]
        print(f"# {what}: {'; '.join(last)}", flush=True)
        t.equal((self.process.returncode, errors), (0, ""), f"every question is allowed: {last}")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


# ---- what can be seen of the packages alone -----------------------------------------------------------------------------

def unpacked():
    """What the package apikeyd puts below /, in a directory."""
    if not hasattr(unpacked, "root"):
        unpacked.root = new_dir("root")
        deb = next(path for path in debs() if "/apikeyd_" in path)
        subprocess.run(["dpkg-deb", "-x", deb, unpacked.root], check=True)
        os.symlink("usr/lib", os.path.join(unpacked.root, "lib"))
    return unpacked.root


def test_configuration_is_where_the_daemon_looks(t):
    root = unpacked()
    said = subprocess.run([os.path.join(root, "usr/sbin/apikeyd"), "--help"], stdout=subprocess.PIPE, text=True, check=True)
    path = said.stdout.split("the configuration (")[1].split(")")[0]
    t.ok(os.path.isfile(root + path), path)
    with open(root + path) as f:
        directory = next(line.split("=")[1].strip() for line in f if line.startswith("#dir ="))
    t.ok(os.path.isfile(os.path.join(root + directory, "default")), directory)


def test_exposure(t):
    """How much of the system the unit reaches, by systemd's own measure: 0.5 with a local database, 1.3 with a remote one."""
    root = unpacked()
    if not shutil.which("systemd-analyze"):
        t.skip("systemd-analyze is not installed (package systemd)")
    for allowed, wanted in ((5, 0.5), (13, 1.3)):
        done = container_module.run(["systemd-analyze", "security", "--offline=true", f"--root={root}",
                                     f"--threshold={allowed}", "--no-pager", "apikeyd.service"])
        level = [line for line in done.stdout.splitlines() if "Overall exposure" in line]
        t.equal((done.returncode, len(level)), (0, 1), done.stdout[-2000:])
        t.ok(float(level[0].split(":")[1].split()[0]) <= wanted, level[0])
        print(f"# {level[0]}")
        drop_in = os.path.join(root, "etc/systemd/system/apikeyd.service.d")
        os.makedirs(drop_in, exist_ok=True)
        shutil.copy(os.path.join(root, "usr/share/doc/apikeyd/examples/remote-database.conf"), drop_in)


# ---- installing -----------------------------------------------------------------------------------------------------------

def test_install(t):
    c = box(t)
    mark = cursor(c)
    for deb in debs():
        shutil.copy(deb, c.path("/root/"))
    done = c.run("sh", "-c", "dpkg -i /root/*.deb 2>&1", check=True)
    t.contains(done.stdout, "apikeyd is installed and not started")
    for unit in UNITS:
        t.equal(c.run("systemctl", "is-enabled", unit).stdout.strip(), "disabled", unit)
        t.equal(c.show(unit, "ActiveState"), "inactive", unit)
    t.contains(c.run("getent", "passwd", "apikeyd", check=True).stdout, "/usr/sbin/nologin")
    verified = c.run("systemd-analyze", "verify", *UNITS)
    t.equal((verified.returncode, verified.stdout, verified.stderr), (0, "", ""), "systemd-analyze verify")
    t.equal([line for line in c.journal("--after-cursor", mark, "--priority=warning", "_PID=1").splitlines()
             if "apikeyd" in line], [], "systemd finds nothing wrong in the units")
    t.equal(c.run("apikeyd", "--version").returncode, 0)
    t.equal(c.run("apikeyctl", "version").returncode, 0)
    for page in ("man8/apikeyd.8", "man5/apikeyd.conf.5", "man1/apikeyctl.1", "man3/apikey_check.3"):
        t.ok(os.path.exists(c.path(f"/usr/share/man/{page}.gz")), page)
    t.ok(os.path.exists(c.path("/usr/share/bash-completion/completions/apikeyctl")), "completion")


def test_outside_programs(t):
    """By what libapikey-dev installs: pkg-config, and CMake's find_package."""
    c = installed(t)
    shutil.copytree(os.path.join(ROOT, "tests", "support", "outside"), c.path("/root/outside"))
    c.run("sh", "-c", "cd /root/outside && cc -Wall -Wextra -Werror -O2 -pthread -o /root/hammer hammer.c "
          "$(pkg-config --cflags --libs apikey)", check=True)
    c.run("chmod", "0755", "/root", "/root/hammer", check=True)  # www-data runs it
    c.run("cmake", "-S", "/root/outside", "-B", "/root/outside/build", check=True)
    c.run("cmake", "--build", "/root/outside/build", check=True)
    t.equal(c.run("/root/outside/build/outside").returncode, 0, "it runs with the installed library")
    t.contains(c.run("ldd", "/root/hammer").stdout, "/libapikey.so.0 ")


def test_not_configured(t):
    """No pepper: it says so, once, and is not started over and over."""
    c = installed(t)
    t.ok(systemctl(c, "start", "apikeyd.service", check=False).returncode != 0, "it does not start")
    t.equal(c.show("apikeyd.service", "Result"), "exit-code")
    t.equal(c.show("apikeyd.service", "NRestarts"), "0")
    t.contains(c.journal("--unit=apikeyd.service"), "pepper file credential:pepper: holds no pepper; a line is")


# ---- a first start ----------------------------------------------------------------------------------------------------------

def test_first_start(t):
    """As the README says. The socket's first caller starts the daemon, waits while it loads, and is answered."""
    c = installed(t)
    version = pg_bin("postgres").split("/")[4]
    c.run("pg_createcluster", version, "main", "-o", "fsync=off", "--", "-N", check=True)
    c.run("systemctl", "start", f"postgresql@{version}-main.service", check=True)
    done = c.run("apikeyctl", "setup")
    t.equal((done.returncode, os.path.exists(c.path("/etc/apikeyd/pepper"))), (2, False), "it does nothing that nobody agreed to")
    done = c.run("apikeyctl", "setup", "--yes")
    t.equal(done.returncode, 0, done.stdout + done.stderr)
    t.equal([line.split()[1] for line in done.stdout.splitlines() if line.startswith("done")],
            ["database", "schema", "login", "pepper", "pepper"], "what was not there")
    t.contains(done.stderr, "next: systemctl enable --now apikeyd.service")
    as_postgres = ("runuser", "-u", "postgres", "--")
    c.run(*as_postgres, "psql", "-X", "-q", "-d", "apikeyd", "-f", "-", check=True,
          stdin=open(os.path.join(ROOT, "sql/demo/world.sql")).read())
    t.equal(c.run("apikeyd", "--test").stdout, "/etc/apikeyd/apikeyd.conf: fine\n", "by hand, as root")
    configure(c)
    c.run("usermod", "-a", "-G", "apikeyd", "www-data", check=True)
    systemctl(c, "enable", "apikeyd.service")
    t.equal([c.run("systemctl", "is-enabled", unit).stdout.strip() for unit in UNITS], ["enabled"] * 3)
    systemctl(c, "start", "apikeyd.socket", "apikeyd-admin.socket")
    t.equal(c.show("apikeyd.service", "ActiveState"), "inactive", "nobody has asked")
    minted = c.run("apikeyctl", "key", "mint", "--org", "acme", "--access", "write", "--name", "hammer", check=True)
    box.key = next(word for word in minted.stdout.split() if word.startswith("ako_"))
    t.equal(ask(c, user="www-data")[0], 0)
    soon("readiness", lambda: c.show("apikeyd.service", "ActiveState") == "active")
    t.equal(c.show("apikeyd.service", "NRestarts"), "0")


def doctor(c, *argv):
    """{name: row} of what the doctor finds in there."""
    return {row["name"]: row for row in json.loads(c.run("apikeyctl", "doctor", "--json", *argv).stdout)}


def test_doctor(t):
    """All is well as it was set up, seen by root; what of the units is not, is said."""
    c = running(t)
    rows = doctor(c)
    t.equal([row for row in rows.values() if row["state"] != "ok"], [])
    t.equal([name for name in rows if name.startswith("unit")], [f"unit {unit}" for unit in UNITS])
    c.run("systemctl", "disable", "apikeyd-admin.socket", check=True)
    t.equal(doctor(c)["unit apikeyd-admin.socket"]["state"], "warning")
    c.run("systemctl", "enable", "apikeyd-admin.socket", check=True)
    systemctl(c, "stop", *UNITS)
    rows = doctor(c)
    t.equal([rows[name]["state"] for name in ("socket", "hello", "unit apikeyd.service")], ["failed", "failed", "warning"], rows)
    systemctl(c, "start", "apikeyd.service")
    t.equal(ask(c)[0], 0)


def test_passed_sockets(t):
    c = running(t)
    log = c.journal("--unit=apikeyd.service")
    for name in ("check", "admin"):
        t.contains(log, f"listens on /run/apikeyd/{name}.sock (passed)")
        t.ok(not os.path.exists(socket_path(c, name + ".sock.lock")), "no lock beside it")
    modes = {name: oct(os.stat(socket_path(c, name)).st_mode & 0o777) for name in ("check.sock", "admin.sock")}
    t.equal(modes, {"check.sock": "0o660", "admin.sock": "0o600"})
    # What stops is the daemon: who comes finds the same sockets, and starts it again.
    before = os.stat(socket_path(c)).st_ino
    systemctl(c, "stop", "apikeyd.service")
    t.equal(ask(c)[0], 0)
    t.equal(os.stat(socket_path(c)).st_ino, before)
    # Without socket units it makes its own.
    systemctl(c, "stop", *UNITS)
    t.ok(not os.path.exists(socket_path(c)), "the socket has gone with its unit")
    systemctl(c, "mask", "--runtime", *UNITS[1:])
    systemctl(c, "start", "apikeyd.service")
    t.equal(ask(c)[0], 0)
    t.ok(os.path.exists(socket_path(c, "check.sock.lock")), "it is the daemon's own")
    systemctl(c, "stop", "apikeyd.service")
    systemctl(c, "unmask", "--runtime", *UNITS[1:])
    systemctl(c, "start", "apikeyd.service")
    t.equal(c.show("apikeyd.socket", "ActiveState"), "active", "the service wants it")
    t.equal(ask(c)[0], 0)


def test_metrics(t):
    """The example of a timer: what it writes is there, for others to read."""
    c = running(t)
    c.run("sh", "-c", "mkdir -p /var/lib/prometheus/node-exporter && "
          "cp /usr/share/doc/apikeyd/examples/apikeyd-metrics.* /etc/systemd/system/ && systemctl daemon-reload", check=True)
    verified = c.run("systemd-analyze", "verify", "apikeyd-metrics.timer", "apikeyd-metrics.service")
    t.equal((verified.returncode, verified.stdout, verified.stderr), (0, "", ""), "systemd-analyze verify")
    path = c.path("/var/lib/prometheus/node-exporter/apikeyd.prom")

    def up():
        if not os.path.exists(path):
            return None
        with open(path) as f:
            return re.search("^apikeyd_up ([01])$", f.read(), re.M).group(1)
    c.run("systemctl", "start", "apikeyd-metrics.timer", check=True)
    soon("the timer's first file", lambda: up() == "1")
    t.equal(oct(os.stat(path).st_mode & 0o777), "0o644")
    c.run("systemctl", "stop", "apikeyd-metrics.timer", check=True)
    systemctl(c, "stop", *UNITS)
    t.ok(c.run("systemctl", "start", "apikeyd-metrics.service").returncode != 0, "nobody answers")
    t.equal(up(), "0")
    systemctl(c, "start", "apikeyd.service")
    c.run("systemctl", "start", "apikeyd-metrics.service", check=True)
    t.equal(up(), "1")
    t.equal(os.listdir(os.path.dirname(path)), ["apikeyd.prom"])


def test_journal_fields(t):
    """A line about a key is found by the key's id; no field of it holds a key."""
    c = running(t)
    minted = json.loads(c.run("apikeyctl", "key", "mint", "--org", "acme", "--json", check=True).stdout)
    c.write("/etc/apikeyd/stacks/told", "caller required permit\nkey required store\naudit required ledger log=denials\n")
    systemctl(c, "reload", "apikeyd.service")
    c.run("apikeyctl", "key", "revoke", "--yes", minted["key_id"], check=True)

    def revoked():
        done = c.run("apikeyctl", "check", "--stack", "told", "incident:read", "acme", user="www-data",
                     env={"APIKEY_KEY": minted["key"]})
        return "revoked" in done.stdout
    soon("the revocation", revoked)

    def entries():
        said = c.journal("--output=json", "--unit=apikeyd.service", f"APIKEYD_KEY_ID={minted['key_id']}")
        return [json.loads(line) for line in said.splitlines()]

    def last(**fields):
        found = [e for e in entries() if all(e.get(name) == value for name, value in fields.items())]
        return found[-1] if found else None
    denied = soon("the verdict", lambda: last(APIKEYD_REASON="revoked"))
    uid = pwd.getpwnam("www-data").pw_uid
    for name, value in (("PRIORITY", "6"), ("SYSLOG_IDENTIFIER", "apikeyd"), ("_TRANSPORT", "journal"),
                        ("APIKEYD_VERDICT", "deny"), ("APIKEYD_CALLER_UID", str(uid)), ("APIKEYD_SCOPE", "incident:read"),
                        ("APIKEYD_PAGE", "acme"), ("APIKEYD_STACK", "told"),
                        ("APIKEYD_MODULE", "ledger"), ("APIKEYD_METHOD", "check")):
        t.equal(denied.get(name), value, name)
    t.contains(denied["MESSAGE"], "reason=revoked")
    changed = soon("the change", lambda: last(APIKEYD_METHOD="key_revoke"))
    t.equal((changed["APIKEYD_CALLER_UID"], changed["_SYSTEMD_UNIT"]), ("0", "apikeyd.service"))
    t.ok(int(changed["APIKEYD_REV"]) > 0, "the change's revision")
    def anchor():
        said = [json.loads(line) for line in c.journal("--output=json", "--unit=apikeyd.service").splitlines()]
        return next((e for e in said if "APIKEYD_HEAD" in e), None)
    said = soon("an anchor", anchor)
    t.equal(said["MESSAGE"], "ledger: anchor chain={APIKEYD_CHAIN} batch={APIKEYD_BATCH} head={APIKEYD_HEAD}".format(**said), "fields of an anchor")
    t.ok(not any(minted["key"] in str(value) for entry in entries() for value in entry.values()), "no key")
    log = stats(c)["log"]
    t.ok(log["entries"] > 0, "entries are counted")
    t.equal(log["entries_failed"], 0)
    os.unlink(c.path("/etc/apikeyd/stacks/told"))
    systemctl(c, "reload", "apikeyd.service")


def test_a_socket_of_no_section(t):
    c = running(t)
    systemctl(c, "stop", *UNITS)
    os.mkdir(c.path("/etc/systemd/system/apikeyd.socket.d"))
    c.write("/etc/systemd/system/apikeyd.socket.d/name.conf", "[Socket]\nListenStream=\nListenStream=/run/apikeyd/metrics.sock\nFileDescriptorName=socket metrics\n")
    systemctl(c, "daemon-reload")
    systemctl(c, "start", "apikeyd.socket")
    t.ok(systemctl(c, "start", "apikeyd.service", check=False).returncode != 0, "it does not start")
    t.contains(c.journal("--unit=apikeyd.service"), "there is no section [socket metrics]; FileDescriptorName= must be")
    configure(c, more="[socket metrics]\npath = /run/apikeyd/elsewhere\n")
    systemctl(c, "start", "apikeyd.service")
    t.equal(ask(c, APIKEYD_SOCKET="/run/apikeyd/metrics.sock")[0], 0, "now it is that section's")
    t.equal(ask(c)[0], 0, "and [socket] the daemon's own")
    systemctl(c, "stop", *UNITS)
    os.unlink(c.path("/etc/systemd/system/apikeyd.socket.d/name.conf"))
    configure(c)
    systemctl(c, "daemon-reload")
    systemctl(c, "start", "apikeyd.service")
    t.equal(ask(c)[0], 0)


def database(c, verb):
    c.run("systemctl", verb, f"postgresql@{pg_bin('postgres').split('/')[4]}-main.service", check=True)


def test_ready_after_load(t):
    """Not before there is a copy: while it waits for one, it starts, and says so; whoever comes waits in the queue."""
    c = running(t)
    systemctl(c, "stop", "apikeyd.service")
    database(c, "stop")
    try:
        systemctl(c, "start", "--no-block", "apikeyd.service")
        soon("a word", lambda: c.show("apikeyd.service", "StatusText") == "no copy yet: connecting")
        t.equal(c.show("apikeyd.service", "ActiveState"), "activating")
        hammer = t.keep(Hammer(c, wait=False))
        with contextlib.closing(Rpc(socket_path(c, "admin.sock"))) as admin:
            t.equal(admin.call("hello", {"client": "test", "version": "0"})["server"], "apikeyd", "administration waits for nothing")
        t.equal(c.show("apikeyd.service", "ActiveState"), "activating")
    finally:
        database(c, "start")
    soon("readiness", lambda: c.show("apikeyd.service", "ActiveState") == "active")
    hammer.end(t, "asked before there was a database")
    # Not for longer than the setting says: then the truth is told.
    configure(c, start="50ms")
    systemctl(c, "stop", "apikeyd.service")
    database(c, "stop")
    try:
        systemctl(c, "start", "--no-block", "apikeyd.service")
        code, text = soon("an answer", lambda: (lambda got: got if "not_loaded" in got[1] else None)(ask(c)))
        t.equal(code, 3, text)
    finally:
        database(c, "start")
        configure(c)
    soon("readiness", lambda: c.show("apikeyd.service", "ActiveState") == "active")
    t.contains(c.journal("--unit=apikeyd.service"), "no copy yet after limits.start_ms")
    restart(c)


def test_status_text(t):
    c = running(t)
    keys = psql(c, "select count(*) from apikeyd.key")
    text = c.show("apikeyd.service", "StatusText")
    t.ok(text.startswith("revision ") and text.endswith(f", confirmed 0 s ago, {keys} keys"), text)
    psql(c, "update apikeyd.user set name = 'x'")
    rev = psql(c, "select apikeyd.revision()")
    soon("the new revision in the status", lambda: f"revision {rev}, " in c.show("apikeyd.service", "StatusText"))


def test_reload(t):
    c = running(t)
    pid, before = main_pid(c), stats(c)["reloads"]
    configure(c, level="debug")
    systemctl(c, "reload", "apikeyd.service")
    soon("the reload", lambda: stats(c)["reloads"] == before + 1)
    soon("the end of it", lambda: c.show("apikeyd.service", "ActiveState") == "active")
    t.equal(c.show("apikeyd.service", "NotifyAccess"), "main")
    # A wrong one is not even tried.
    configure(c, level="loud")
    t.ok(systemctl(c, "reload", "apikeyd.service", check=False).returncode != 0, "the reload fails")
    t.contains(c.journal("--unit=apikeyd.service"), "[log] level = loud: must be error")
    t.equal((stats(c)["reloads"], stats(c)["reloads_failed"]), (before + 1, 0))
    # Forced in, it changes nothing, and the status says so.
    c.run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", "apikeyd.service", check=True)
    soon("the status", lambda: "; the configuration is wrong" in c.show("apikeyd.service", "StatusText"))
    t.equal((main_pid(c), ask(c)[0]), (pid, 0))
    configure(c)
    systemctl(c, "reload", "apikeyd.service")
    soon("the status", lambda: "wrong" not in c.show("apikeyd.service", "StatusText"))


def test_clean_journal(t):
    """Start, questions, reload, restart and stop, and nothing that anybody should be warned of."""
    c = running(t)
    mark = cursor(c)
    restart(c)
    t.equal(ask(c)[0], 0)
    systemctl(c, "reload", "apikeyd.service")
    systemctl(c, "restart", "apikeyd.service")
    systemctl(c, "stop", *UNITS)
    systemctl(c, "start", "apikeyd.service")
    t.equal(ask(c)[0], 0)
    t.equal(warnings_since(c, mark), [])
    t.equal(c.show("apikeyd.service", "Result"), "success")


# ---- who asks, and what the daemon may ----------------------------------------------------------------------------------

def test_peers(t):
    c = running(t)
    t.equal(ask(c, user="www-data")[0], 0, "a member of the group")
    code, text = ask(c, user="games")
    t.equal(code, 3, text)
    t.contains(text, "may not connect to /run/apikeyd/check.sock")
    denied = c.run("apikeyctl", "org", "list", user="www-data")
    t.contains(denied.stdout + denied.stderr, "may not connect to /run/apikeyd/admin.sock")
    t.equal(c.run("apikeyctl", "org", "list").returncode, 0, "root administers")
    # The daemon sees who it is, as the kernel says.
    c.write("/etc/apikeyd/stacks/web", "caller required peer user=www-data\nkey required store\naudit required ledger\n")
    configure(c, more="[socket]\nstack = web\n")
    restart(c)
    t.equal(ask(c, user="www-data")[0], 0)
    code, text = ask(c)
    t.equal(code, 1, text)
    t.contains(text, "caller", "root is not www-data")
    t.equal(stats(c)["refused_credentials"], 0)
    configure(c)
    restart(c)


def test_credentials(t):
    """The pepper stays root's: the daemon is passed it, in a directory that nobody else reads."""
    c = running(t)
    st = os.stat(c.path("/etc/apikeyd/pepper"))
    t.equal((st.st_uid, oct(st.st_mode & 0o777)), (0, "0o600"))
    t.ok(c.run("cat", "/etc/apikeyd/pepper", user="apikeyd").returncode != 0, "the daemon's user cannot read it")
    t.equal(ask(c)[0], 0, "and yet the key proves")
    t.ok(c.run("ls", "/run/credentials/apikeyd.service", user="www-data").returncode != 0, "nobody looks in there")


def test_confined(t):
    c = running(t)
    pid = main_pid(c)
    t.equal(status_of_process(c, pid, "NoNewPrivs"), ["1"])
    t.equal(status_of_process(c, pid, "Seccomp"), ["2"])
    t.equal([status_of_process(c, pid, name) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")], [["0" * 16]] * 4)
    uid = c.run("id", "-u", "apikeyd", check=True).stdout.strip()
    t.equal(status_of_process(c, pid, "Uid"), [uid] * 4)
    with open(c.path(f"/proc/{pid}/limits")) as f:
        t.contains(" ".join(f.read().split()), "Max core file size 0 0 bytes")
    # By itself, too, as the last start says; and from others of the same user.
    confined = [line for line in c.journal("--unit=apikeyd.service").splitlines() if "confined: " in line][-1]
    t.contains(confined, "seccomp enforced")
    if landlock_version():
        t.contains(confined, f"landlock version {landlock_version()} (files")
    for name in ("mem", "environ", "maps"):
        done = c.run("head", "-c", "1", f"/proc/{c.show('apikeyd.service', 'MainPID')}/{name}", user="apikeyd")
        t.contains(done.stderr, "Permission denied", name)
    state = os.stat(c.path("/var/lib/apikeyd"))
    t.equal((str(state.st_uid), oct(state.st_mode & 0o777)), (uid, "0o700"))


# ---- under load -----------------------------------------------------------------------------------------------------------

def test_load_many_keys(t):
    c = running(t)
    psql(c, "insert into apikeyd.key (id, kind, organization_id, access, hash, pepper_version) "
         "select lpad(n::text, 10, '0'), 'organization', (select id from apikeyd.organization where slug = 'acme'), 'read', "
         f"sha256(n::text::bytea), 1 from generate_series(1, {KEYS}) n")
    rev = psql(c, "select apikeyd.revision()")
    t.equal(c.run("apikeyctl", "check", "incident:write", "acme", "--min-rev", rev, "--timeout", "60s",
                  env={"APIKEY_KEY": box.key}).returncode, 0)
    t.ok(stats(c)["copy_keys"] > KEYS, "all are there")


def drop_in(c, name, text):
    os.makedirs(c.path("/etc/systemd/system/apikeyd.service.d"), exist_ok=True)
    path = c.path(f"/etc/systemd/system/apikeyd.service.d/{name}.conf")
    if text is None:
        os.unlink(path)
    else:
        c.write(f"/etc/systemd/system/apikeyd.service.d/{name}.conf", text)
    systemctl(c, "daemon-reload")


def test_restart_under_load(t):
    c = running(t)
    hammer = t.keep(Hammer(c))
    for _ in range(3):
        pid = main_pid(c)
        restart(c)
        t.ok(main_pid(c) != pid, "another process")
        hammer.go_on()
    hammer.end(t, f"3 restarts, {KEYS} keys")


def test_kill_under_load(t):
    """The kernel takes it away in the middle of its work: who was being answered asks again, and is."""
    c = running(t)
    hammer = t.keep(Hammer(c))
    for _ in range(2):
        pid = main_pid(c)
        c.run("systemctl", "reset-failed", "apikeyd.service")
        began = time.monotonic()
        os.kill(int(open_pid(c, pid)), signal.SIGKILL)
        with contextlib.closing(Rpc(socket_path(c))) as rpc:
            try:
                t.equal(rpc.check(box.key, "incident:write", "acme")["verdict"], "allow")
            except (Closed, ConnectionResetError):  # it was taken in before the daemon was gone
                t.equal(ask_anew(c)["verdict"], "allow")
        print(f"# kill -9, {KEYS} keys: answered after {1000 * (time.monotonic() - began):.0f} ms", flush=True)
        soon("another process", lambda: main_pid(c) not in (0, pid))
        soon("readiness", lambda: c.show("apikeyd.service", "ActiveState") == "active")
        hammer.go_on()
    hammer.end(t, f"2 times kill -9, {KEYS} keys")


def ask_anew(c):
    with contextlib.closing(Rpc(socket_path(c))) as rpc:
        return rpc.check(box.key, "incident:write", "acme")


def open_pid(c, pid):
    """The number that a process in there has out here."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/status") as f:
                    numbers = next(line.split()[1:] for line in f if line.startswith("NSpid:"))
                if len(numbers) > 1 and numbers[-1] == str(pid) and os.readlink(f"/proc/{name}/ns/pid") == \
                        os.readlink(f"/proc/{c.leader}/ns/pid"):
                    return name
            except OSError:
                continue
    raise AssertionError(f"process {pid} is not there")


def test_watchdog_under_load(t):
    """One that hangs is found out, ended and started again."""
    c = running(t)
    drop_in(c, "watchdog", "[Service]\nWatchdogSec=5s\n")
    restart(c)
    hammer = t.keep(Hammer(c))
    pid = main_pid(c)
    c.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "apikeyd.service", check=True)
    soon("the watchdog", lambda: main_pid(c) not in (0, pid))
    soon("readiness", lambda: c.show("apikeyd.service", "ActiveState") == "active")
    hammer.end(t, "hung, and ended by the watchdog after 5 s")
    t.contains(c.journal("--unit=apikeyd.service"), "Watchdog timeout")
    t.equal(c.run("sh", "-c", "find /var/lib/systemd/coredump /var/lib/apikeyd /core* -name '*core*' -type f 2>/dev/null").stdout, "", "no core")
    drop_in(c, "watchdog", None)


def test_crash_loop_ends(t):
    """A daemon that cannot live is given up, and comes back as the manual says."""
    c = running(t)
    drop_in(c, "limit", "[Unit]\nStartLimitBurst=3\n")
    restart(c)
    pids = set()

    def killed():
        pid = main_pid(c)
        if pid and pid not in pids:
            pids.add(pid)
            c.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "apikeyd.service")
        return c.show("apikeyd.service", "Result") == "start-limit-hit" or \
            (c.show("apikeyd.service", "ActiveState") == "failed" and len(pids) >= 3)
    soon("the end of the tries", killed)
    drop_in(c, "limit", None)
    c.run("sh", "-c", "systemctl reset-failed 'apikeyd*'; systemctl start apikeyd.service", check=True)
    t.equal(ask(c)[0], 0)


# ---- a database elsewhere -------------------------------------------------------------------------------------------------

def test_remote_database(t):
    """The drop-in for a database on another host, and a password that is passed as a credential."""
    c = running(t)
    c.write("/etc/apikeyd/pgpass", "localhost:*:apikeyd:apikeyd:let me in\n", 0o600)
    psql(c, "alter role apikeyd password 'let me in'")
    systemctl(c, "stop", "apikeyd.service")
    c.run("sh", "-c", "install -D -m 0644 /usr/share/doc/apikeyd/examples/remote-database.conf "
          "/etc/systemd/system/apikeyd.service.d/remote-database.conf && systemctl daemon-reload", check=True)
    configure(c, more="[database]\nconninfo = host=localhost dbname=apikeyd user=apikeyd passfile=credential:pgpass\n")
    restart(c)
    t.equal(ask(c)[0], 0)
    t.contains(stats(c)["feed"]["server"], "host=localhost")
    # And without it there is no way out.
    os.unlink(c.path("/etc/systemd/system/apikeyd.service.d/remote-database.conf"))
    systemctl(c, "daemon-reload")
    configure(c, start="0", more="[database]\nconninfo = host=localhost dbname=apikeyd user=apikeyd passfile=credential:pgpass\n")
    systemctl(c, "stop", "apikeyd.service")
    systemctl(c, "start", "--no-block", "apikeyd.service")
    t.contains(soon("an answer", lambda: ask(c)[1]), "not_loaded")
    t.equal(c.show("apikeyd.service", "StatusText"), "no copy yet: connecting")
    configure(c)
    systemctl(c, "restart", "apikeyd.service")
    t.equal(ask(c)[0], 0)


# ---- upgrade, remove, purge -----------------------------------------------------------------------------------------------

def dpkg(c, *argv):
    return c.run("sh", "-c", 'dpkg "$@" 2>&1', "sh", *argv, check=True).stdout


def test_upgrade_under_load(t):
    c = running(t)
    with open(c.path("/etc/apikeyd/apikeyd.conf")) as f:
        mine = f.read()
    c.run("systemctl", "reset-failed", *UNITS)
    hammer, pid = t.keep(Hammer(c)), main_pid(c)
    c.run("sh", "-c", "dpkg -i /root/*.deb", check=True)
    t.ok(main_pid(c) not in (0, pid), "the new one runs")
    hammer.end(t, "upgraded")
    with open(c.path("/etc/apikeyd/apikeyd.conf")) as f:
        t.equal(f.read(), mine, "what the administrator wrote stays")
    t.equal(c.run("systemctl", "is-enabled", "apikeyd.service").stdout.strip(), "enabled")


def test_upgrade_of_what_is_stopped(t):
    c = running(t)
    systemctl(c, "stop", *UNITS)
    c.run("sh", "-c", "dpkg -i /root/apikeyd_*.deb", check=True)
    t.equal([c.show(unit, "ActiveState") for unit in UNITS], ["inactive"] * 3, "stays so")
    systemctl(c, "start", "apikeyd.service")
    t.equal(ask(c)[0], 0)


def test_remove(t):
    c = running(t)
    dpkg(c, "--remove", "apikeyd")
    t.equal(c.run("pgrep", "-x", "apikeyd").stdout, "", "nothing runs")
    t.ok(not os.path.exists(c.path("/usr/sbin/apikeyd")), "the program is gone")
    t.ok(os.path.exists(c.path("/etc/apikeyd/apikeyd.conf")), "the configuration is not")
    t.ok(os.path.exists(c.path("/var/lib/apikeyd")), "nor the state")
    c.run("sh", "-c", "dpkg -i /root/apikeyd_*.deb", check=True)
    systemctl(c, "start", "apikeyd.service")
    t.equal(ask(c)[0], 0, "and all is as it was")


def test_purge(t):
    c = running(t)
    said = dpkg(c, "--purge", "apikeyd", "libapikey-dev", "libapikey0")
    t.contains(said, "database is left as it is")
    t.contains(said, "/etc/apikeyd/pepper is left")
    for gone in ("/var/lib/apikeyd", "/run/apikeyd", "/etc/apikeyd/apikeyd.conf", "/etc/apikeyd/stacks/default",
                 "/etc/systemd/system/multi-user.target.wants/apikeyd.service",
                 "/etc/systemd/system/sockets.target.wants/apikeyd.socket"):
        t.ok(not os.path.lexists(c.path(gone)), f"{gone} is gone")
    t.ok(os.path.exists(c.path("/etc/apikeyd/pepper")), "the pepper is not")
    t.ok(int(psql(c, "select count(*) from apikeyd.key")) > KEYS, "nor the database")
    t.equal(c.run("apikeyctl", "version").returncode, 0, "apikeyctl is another package")
    dpkg(c, "--purge", "apikeyctl")
    t.equal(c.run("dpkg", "--audit").stdout, "")


def test_lintian(t):
    t.equal([os.path.basename(path).split("_")[0] for path in debs()], ["apikeyctl", "apikeyd", "libapikey-dev", "libapikey0"])
    if not hasattr(packages, "lintian"):
        t.skip("lintian is not installed")
    said = packages.lintian.communicate()[0]
    t.equal(packages.lintian.returncode, 0, said)


if __name__ == "__main__":
    run(globals())
