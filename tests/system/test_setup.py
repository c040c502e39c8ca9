"""apikeyctl setup and doctor: a host and a database made ready, and each check of the doctor's shown to find what it is for."""
import pty
import re

from world import *

NOBODY = "nobody"

# What a sanitizer must not be loaded behind: a host's clock that differs.
CLOCK = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *ret)
{
	long rc = syscall(SYS_clock_gettime, id, ret);

	if (id == CLOCK_REALTIME)
		ret->tv_sec += atol(getenv("CLOCK_SHIFT"));
	return (int)rc;
}
"""


def ctl(*argv, env=None, user=None):
    """(exit code, standard output, standard error) of apikeyctl."""
    full = dict(os.environ, **(env or {}))
    for name in ("APIKEYD_SOCKET", "APIKEYD_ADMIN_SOCKET", "PGUSER"):
        full.pop(name, None)
    done = subprocess.run((["runuser", "-u", user, "--"] if user else []) + [APIKEYCTL, *argv], env=full, text=True, cwd="/",
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode, done.stdout, done.stderr


# ---- setup --------------------------------------------------------------------------------------------------------------

class Host:
    """Directories of a daemon that nobody has set up, on a cluster of its own or of another host's."""

    def __init__(self, t, cluster=None):
        self.cluster = cluster or t.keep(Cluster().start())
        self.daemon = Daemon(self.cluster, start=False, settings={"limits.start_ms": "0"})
        os.unlink(self.daemon.pepper_file)

    def setup(self, *argv, database=None):
        return ctl("setup", "--config", self.daemon.conf, "--sql-dir", SQL_DIR, "--database",
                   database or self.cluster.dsn(database="postgres"), *argv)

    def start(self, t):
        t.keep(self.daemon)
        return self.daemon.start()


def states(text):
    """{step or check: state} of what was printed for people."""
    return {line[9:31].strip(): line.split()[0] if not line.startswith("to do") else "to do" for line in text.splitlines()}


STEPS = ["configuration", "database", "schema", "login role", "pepper", "pepper known"]


def test_setup_from_nothing(t):
    h = Host(t)
    code, out, said = h.setup("--dry-run")
    t.equal((code, {name: states(out)[name] for name in STEPS}),
            (0, dict.fromkeys(STEPS, "to do") | {"configuration": "there"}), said)
    t.contains(said, "5 steps have something to do; nothing was changed")
    t.ok(not os.path.exists(h.daemon.pepper_file), "no pepper")
    t.equal(h.cluster.sql("select count(*) from pg_database where datname = 'apikeyd'", database="postgres"), [(0,)])
    code, out, said = h.setup()
    t.equal(code, 2, "nobody was asked")
    t.contains(said, "give --yes to do it")
    t.ok(not os.path.exists(h.daemon.pepper_file), "no pepper")

    code, out, said = h.setup("--yes")
    t.equal([line.split()[1] for line in out.splitlines() if line.startswith("done")],
            ["database", "schema", "login", "pepper", "pepper"], out)
    t.equal((code, states(out)["pepper version"], states(out)["grants"]), (0, "ok", "ok"), out + said)
    t.contains(said, "next: start apikeyd, then apikeyctl doctor")
    with open(h.daemon.pepper_file) as f:
        pepper = f.read()
    t.ok(re.fullmatch(r"1 [0-9a-f]{64}\n", pepper), "a pepper")
    t.equal(oct(os.stat(h.daemon.pepper_file).st_mode & 0o7777), "0o600")
    t.ok(pepper[2:-1] not in out + said, "which nobody was shown")
    t.equal([name for name in os.listdir(h.daemon.dir) if name.startswith("pepper")], ["pepper"], "and nothing beside it")

    code, out, said = h.setup("--json")
    rows = json.loads(out)
    t.equal((code, [(row["name"], row["state"]) for row in rows["steps"]]), (0, [(name, "there") for name in STEPS]), said)
    t.equal([row for row in rows["checks"] if row["state"] == "failed"], [])
    with open(h.daemon.pepper_file) as f:
        t.equal(f.read(), pepper, "the same as before")

    d = h.start(t)
    h.cluster.psql("-f", os.path.join(ROOT, "sql", "demo", "world.sql"))
    key = d.admin("key_mint", kind="organization", org="acme", access="read")
    t.equal(d.check(key["key"], "incident:read", "acme", min_rev=key["rev"], deadline_ms=20000)["reason"], "ok")


def test_setup_writes_a_configuration(t):
    h = Host(t)
    shutil.copy(h.daemon.conf, h.daemon.conf + ".kept")
    os.unlink(h.daemon.conf)
    dsn = h.cluster.dsn("somebody", "elsewhere")
    code, out, said = h.setup("--dry-run", "--conninfo", dsn)
    t.contains(out, f"conninfo = {dsn}", said)
    t.contains(out, "create database elsewhere")
    t.contains(out, "create role somebody")
    t.ok(not os.path.exists(h.daemon.conf), "nothing was changed")
    # The pepper of a configuration that says nothing is root's, in /etc: made nowhere by a test.
    code, out, said = h.setup("--conninfo", "host=/x password=sesame", "--yes")
    t.equal(code, 2, out)
    t.contains(said, "--conninfo has a password in it")
    t.ok("sesame" not in out + said, "which is not said again")


def test_setup_asks_on_a_terminal(t):
    h = Host(t)

    def answered(word):
        master, slave = pty.openpty()
        process = subprocess.Popen([APIKEYCTL, "setup", "--config", h.daemon.conf, "--sql-dir", SQL_DIR, "--database",
                                    h.cluster.dsn(database="postgres")], stdin=slave, stderr=slave, stdout=subprocess.PIPE)
        os.close(slave)
        os.write(master, word.encode() + b"\n")
        out = process.communicate()[0].decode()
        os.close(master)
        return process.returncode, out
    code, out = answered("no")
    t.equal(code, 4, out)
    t.ok(not os.path.exists(h.daemon.pepper_file), "nothing was changed")
    code, out = answered("yes")
    t.equal(code, 0, out)
    t.ok(os.path.exists(h.daemon.pepper_file), "done")


def test_setup_says_what_hinders(t):
    h = Host(t)

    def stopped(step, reason, next_step, wanted, *argv, **more):
        code, out, said = h.setup("--yes", *argv, **more)
        t.equal(code, wanted, out + said)
        t.contains(said, f'setup stopped at the step "{step}"')
        t.contains(said, reason)
        t.contains(said, "; next: " + next_step)

    stopped("server", "No such file or directory", "start PostgreSQL, run as root on its host", 3, database="host=/nowhere")
    h.cluster.psql("-c", "create role plain login", database="postgres")
    stopped("server", "plain is no superuser", "name one with --database", 4,
            database=h.cluster.dsn("plain", "postgres"))
    t.equal(h.setup("--yes")[0], 0)
    # A pepper that is lost is not made anew, and another is not taken for it.
    with open(h.daemon.pepper_file) as f:
        pepper = f.read()
    os.unlink(h.daemon.pepper_file)
    stopped("pepper", "the database knows pepper version 1", "copy the file from a host that has it", 4)
    t.ok(not os.path.exists(h.daemon.pepper_file), "none was made")
    with open(os.open(h.daemon.pepper_file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
        f.write("1 " + "ab" * 32 + "\n")
    stopped("pepper", "does not hold the pepper that the database knows as version 1", "copy the file", 4)
    with open(h.daemon.pepper_file, "w") as f:
        f.write(pepper)
    t.equal(h.setup("--yes")[0], 0, "with the right one again")
    # Another host with a copy of it.
    other = Host(t, h.cluster)
    code, out, said = other.setup("--yes")
    t.equal(code, 4, "a second pepper is not made")
    shutil.copy(h.daemon.pepper_file, other.daemon.pepper_file)
    t.equal(other.setup("--yes")[0], 0)
    # A schema that daemons may use is not upgraded in passing.
    h.cluster.sql("delete from apikeyd.schema_migration where version = (select max(version) from apikeyd.schema_migration)")
    stopped("schema", "daemons may use it", "apikeyctl db upgrade", 4)
    h.cluster.sql("insert into apikeyd.schema_migration select max(version) + 2, 'later' from apikeyd.schema_migration")
    stopped("schema", "newer than this apikeyctl's", "upgrade the packages", 4)
    # A configuration that is wrong is mended by its administrator.
    h.daemon.settings["log.level"] = "loud"
    h.daemon.write_conf()
    code, out, said = h.setup("--yes")
    t.equal(code, 2, out)
    t.contains(said, "[log] level = loud")


# ---- doctor ---------------------------------------------------------------------------------------------------------------

class Patient:
    """A daemon and its database, both well."""

    def __init__(self, t, settings=None, **more):
        self.cluster = t.keep(Cluster().start().install(demo=True))
        self.daemon = t.keep(Daemon(self.cluster, settings=settings, **more))
        # So that the database knows the pepper; and the daemon has seen that.
        key = self.daemon.admin("key_mint", kind="organization", org="acme", access="read")
        self.daemon.check(key["key"], "incident:read", "acme", min_rev=key["rev"], deadline_ms=20000)
        self.sql = self.cluster.sql
        self.until("freshness", "ok")

    def look(self, *argv, env=None, user=None):
        """{name: row} of all checks; the exit code is looked at, too."""
        code, out, said = ctl("doctor", "--config", self.daemon.conf, "--sql-dir", SQL_DIR, "--json", *argv, env=env,
                              user=user)
        rows = json.loads(out)
        worst = {row["state"] for row in rows}
        if code != (1 if "failed" in worst else 0):
            raise AssertionError(f"exit code {code}: {out}{said}")
        return {row["name"]: row for row in rows}

    def state_of(self, name, *argv, **more):
        return self.look(*argv, **more).get(name, {}).get("state")

    def until(self, name, state, *argv):
        return wait_until(f"{name} {state}", lambda: self.state_of(name, *argv) == state, step=0.1)


def finds(t, p, name, seen, advice, *argv, state="failed", **more):
    """The check is of that state now, and says what it saw and what to do."""
    row = p.look(*argv, **more)[name]
    t.equal(row["state"], state, row)
    t.contains(row["seen"], seen, name)
    t.contains(row["advice"] or "", advice, name)


def test_doctor_finds_all_well(t):
    p = Patient(t)
    rows = p.look()
    bad = [row for row in rows.values() if row["state"] != "ok" and row["name"] != "units"
           and not row["name"].startswith("unit ")]
    t.equal(bad, [])
    with open(os.path.join(ROOT, "client", "man", "apikeyctl.1.scd")) as f:
        manual = f.read()
    for name in rows:
        t.ok(f"*{name.split(' apikeyd')[0]}*" in manual, f"the manual has {name}")
    code, out, said = ctl("doctor", "--config", p.daemon.conf, "--sql-dir", SQL_DIR)
    t.equal((code, list(states(out))), (0, list(rows)), "for people, the same")
    t.contains(said, " 0 failed, ")
    code, out, said = ctl("-q", "doctor", "--config", p.daemon.conf, "--sql-dir", SQL_DIR)
    t.ok(not any(line.startswith("ok ") for line in out.splitlines()), "quiet: what is well is not told")


def test_doctor_configuration(t):
    p = Patient(t)
    p.daemon.settings["log.level"] = "loud"
    p.daemon.write_conf()
    finds(t, p, "configuration", "[log] level = loud: must be error", "mend that line")
    os.unlink(p.daemon.conf)
    finds(t, p, "configuration", "there is no " + p.daemon.conf, "apikeyctl setup makes one")
    p.daemon.settings["log.level"] = "info"
    p.daemon.write_conf()
    t.equal(p.state_of("configuration"), "ok")
    finds(t, p, "configuration", "no apikeyd on this host", "--apikeyd", "--apikeyd", "/nowhere", state="unknown")
    p.daemon.write_stack("web", "caller none\nkey required stoer\naudit required ledger\n")
    finds(t, p, "stacks", "stoer", "apikeyctl stack check names all")
    p.daemon.write_stack("web", "caller none\nkey required store\nkey required store\naudit none\n")
    t.ok(p.state_of("stacks") in ("warning", "failed"), "what is probably not meant")
    os.unlink(os.path.join(p.daemon.stack_dir, "web"))
    t.equal(p.state_of("stacks"), "ok")


def test_doctor_daemon(t):
    p = Patient(t, settings={"freshness.max_stale_ms": "300"})
    os.chmod(p.daemon.socket, 0o666)
    finds(t, p, "socket", "mode 0666 is wider than the configuration's 0660", "restart the daemon")
    os.chmod(p.daemon.socket, 0o660)
    os.chmod(p.daemon.admin_socket, 0o660)
    finds(t, p, "admin socket", "mode 0660 is wider than the configuration's 0600", "restart the daemon")
    os.chmod(p.daemon.admin_socket, 0o600)
    p.daemon.settings["socket.group"] = "4242"
    p.daemon.write_conf()
    finds(t, p, "socket", "the configuration says (any):4242", "restart the daemon")
    p.daemon.settings["socket.group"] = None
    p.daemon.write_conf()
    t.equal((p.state_of("socket"), p.state_of("admin socket")), ("ok", "ok"))
    p.cluster.stop()
    p.until("freshness", "failed")
    finds(t, p, "freshness", "stale: confirmed ", "the daemon's log says why")
    finds(t, p, "database", "No such file or directory", "start PostgreSQL")
    p.cluster.start()
    p.until("freshness", "ok")
    t.equal(p.state_of("database"), "ok")
    p.daemon.stop()
    for name in ("socket", "admin socket"):
        finds(t, p, name, "No such file or directory", "start apikeyd")
    finds(t, p, "hello", "no answer: ", "start apikeyd")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(p.daemon.socket)
    dead.close()
    os.chmod(p.daemon.socket, 0o660)
    finds(t, p, "socket", "nobody listens there", "start apikeyd")
    os.unlink(p.daemon.socket)
    with open(p.daemon.socket, "w"):
        finds(t, p, "socket", "is no socket", "remove it")
    os.unlink(p.daemon.socket)


def test_doctor_descriptors(t):
    p = Patient(t, prefix=["prlimit", "--nofile=512:512"], settings={"limits.connections": "400"})
    t.equal(p.state_of("descriptors"), "ok")
    p.daemon.settings["limits.connections"] = "500"
    p.daemon.write_conf()
    finds(t, p, "descriptors", "may open 512 files, and limits.connections = 500 needs 564", "raise LimitNOFILE=")


def test_doctor_state_directory(t):
    p = Patient(t)

    def name(path):
        p.daemon.settings["state.directory"] = path
        p.daemon.write_conf()
    t.equal(p.state_of("state directory"), "ok")
    name("/proc")
    finds(t, p, "state directory", "/proc: no space is left", "make room")
    name("/nowhere/at/all")
    finds(t, p, "state directory", "No such file or directory", "the unit makes it", state="warning")
    name("")
    finds(t, p, "state directory", "is forgotten with a restart", "name one", state="warning")
    if os.geteuid() == 0:
        name(p.daemon.state_dir)
        os.chown(p.daemon.state_dir, pwd.getpwnam(NOBODY).pw_uid, -1)
        finds(t, p, "state directory", "belongs to uid", "give it to the daemon's user")
        os.chown(p.daemon.state_dir, 0, -1)
        t.equal(p.state_of("state directory"), "ok")


def test_doctor_full_disk(t):
    """A daemon that was restarted on a full disk answers, and doctor says what it could not write."""
    disk = t.keep(SmallDisk("1m"))
    state = os.path.join(disk.path, "state")
    os.mkdir(state, 0o700)
    p = Patient(t, settings={"state.directory": state, "ledger.spool_bytes": "65536"})
    t.equal((p.state_of("spool"), "journal" in p.look()), ("ok", False))
    disk.fill()
    # More denials at once than the last page of the journal takes.
    p.sql("insert into apikeyd.key (id, kind, organization_id, access, hash, pepper_version, revoked_at) select lpad(i::text, 10, '0'), 'organization', "
          "id, 'read', sha256(i::text::bytea), 1, now() from generate_series(1, 300) i, apikeyd.organization where slug = 'acme'")
    p.until("journal", "failed")
    p.daemon.settings["ledger.spool_bytes"] = "131072"
    p.daemon.write_conf()
    t.equal(p.daemon.stop(), 0)
    p.daemon.start()
    p.until("journal", "failed")
    finds(t, p, "journal", "No space left on device", "make room")
    finds(t, p, "state directory", "no space is left", "make room")
    finds(t, p, "spool", "there was no room for [ledger] spool_bytes", "make room", state="warning")
    disk.free()
    p.daemon.stop()
    p.daemon.start()
    t.equal((p.state_of("spool"), "journal" in p.look()), ("ok", False))


def test_doctor_history(t):
    """A database that is put back to what it was has forgotten a revocation, and the daemon has not."""
    p = Patient(t)
    c, saved = p.cluster, os.path.join(p.cluster.dir, "saved")
    made = p.daemon.admin("key_mint", kind="organization", org="acme", access="read")
    p.daemon.check(made["key"], "incident:read", "acme", min_rev=made["rev"], deadline_ms=20000)
    t.equal(p.state_of("history"), "ok")
    c.stop()
    c._run(["cp", "-a", c.data, saved])
    c.start()
    with contextlib.closing(c.connect(autocommit=False)) as connection:
        cursor = connection.cursor()
        cursor.execute("update apikeyd.key set revoked_at = now() where id = %s", (made["key_id"],))
        cursor.execute("select apikeyd.revision()")
        rev = cursor.fetchone()[0]
        connection.commit()
    wait_until("the daemon to know", lambda: p.daemon.check(made["key"], "incident:read", "acme", min_rev=rev,
                                                            deadline_ms=20000)["reason"] == "revoked")
    c.stop("immediate")
    c._run(["rm", "-r", c.data])
    c._run(["mv", saved, c.data])
    c.start()
    p.until("history", "failed")
    finds(t, p, "history", "the database has lost history: 1 keys are kept denied", "apikeyctl history show")


def test_doctor_pepper(t):
    p = Patient(t)
    path = p.daemon.pepper_file
    os.chmod(path, 0o644)
    finds(t, p, "pepper", "others can read it (mode 0644)", f"chmod 0600 {path}")
    os.chmod(path, 0o600)
    if os.geteuid() == 0:
        os.chown(path, pwd.getpwnam(NOBODY).pw_uid, -1)
        finds(t, p, "pepper", "belongs to uid", f"chown 0 {path}")
        os.chown(path, 0, -1)
    with open(path) as f:
        good = f.read()

    def write(text):
        with open(path, "w") as f:
            f.write(text)
    write("1 " + "ab" * 32 + "\n")
    finds(t, p, "pepper version", "version 1 of " + path + " is another than the database's", "put the pepper back")
    write("2 " + "ab" * 32 + "\n")
    finds(t, p, "pepper version", "version 1, which " + path + " does not hold", "copy that line from a host")
    write("nothing\n")
    finds(t, p, "pepper", f"{path}:1: ", "put back a good copy")
    t.equal(p.state_of("pepper version"), "unknown")
    os.unlink(path)
    finds(t, p, "pepper", "there is no " + path, "apikeyctl setup makes the first host's")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
        f.write(good)
    t.equal((p.state_of("pepper"), p.state_of("pepper version")), ("ok", "ok"))
    t.ok(good[2:-1] not in json.dumps(p.look()), "it is never shown")


def test_doctor_schema(t):
    p = Patient(t)
    p.daemon.stop()
    p.sql("insert into apikeyd.schema_migration select max(version) + 1, 'later' from apikeyd.schema_migration")
    finds(t, p, "schema", ", newer than this apikeyctl's ", "upgrade the packages")
    p.sql("delete from apikeyd.schema_migration where version >= (select max(version) - 1 from apikeyd.schema_migration)")
    finds(t, p, "schema", ", and this apikeyctl has ", "apikeyctl db upgrade")
    p.sql("create database empty", database="postgres")
    finds(t, p, "schema", "database empty has no schema apikeyd", "apikeyctl setup", "--database", p.cluster.dsn(database="empty"))


def test_doctor_database(t):
    p = Patient(t)
    p.sql("alter table apikeyd.page disable trigger all")
    finds(t, p, "triggers", "changes can pass unseen", "apikeyd.force_reload()")
    p.sql("alter table apikeyd.page enable trigger all")
    for name, in p.sql("select tgname from pg_trigger where tgrelid = 'apikeyd.page'::regclass and not tgisinternal"):
        p.sql(f"alter table apikeyd.page enable always trigger {name}")
    faults = p.sql("select * from apikeyd.trigger_faults()")
    t.equal(p.state_of("triggers"), "failed" if faults else "ok")

    p.sql("revoke apikeyd_check from apikeyd")
    finds(t, p, "roles", "apikeyd is no member of apikeyd_check", "grant apikeyd_check to apikeyd")
    finds(t, p, "schema", "the daemon's login may not take its role", "see roles", state="unknown")
    p.sql("grant apikeyd_check to apikeyd")
    p.sql("alter role apikeyd_owner login")
    finds(t, p, "roles", "apikeyd_owner may log in", "alter role apikeyd_owner nologin")
    p.sql("alter role apikeyd_owner nologin")
    p.sql("grant apikeyd_owner to apikeyd")
    finds(t, p, "roles", "can become apikeyd_owner", "revoke apikeyd_owner from apikeyd")
    p.sql("revoke apikeyd_owner from apikeyd")
    t.equal(p.state_of("roles"), "ok")

    p.sql("grant select (hash) on apikeyd.key to apikeyd_auditor")
    finds(t, p, "grants", "apikeyd_auditor must not have SELECT on apikeyd.key (hash)", "revoke SELECT on")
    p.sql("revoke select (hash) on apikeyd.key from apikeyd_auditor")
    p.sql("revoke select on apikeyd.pepper from apikeyd_check")
    finds(t, p, "grants", "apikeyd_check lacks SELECT on apikeyd.pepper", "grant SELECT on apikeyd.pepper to apikeyd_check")
    finds(t, p, "pepper version", "user apikeyd may not see it", "--database", state="unknown")
    p.sql("grant select on apikeyd.pepper to apikeyd_check")
    p.sql("revoke execute on function apikeyd.daemon_gone(uuid) from apikeyd_check")
    finds(t, p, "grants", "apikeyd_check lacks EXECUTE on apikeyd.daemon_gone(uuid)", "grant EXECUTE")
    p.sql("grant execute on function apikeyd.daemon_gone(uuid) to apikeyd_check")
    t.equal(p.state_of("grants"), "ok")


def test_doctor_standbys(t):
    p = Patient(t)
    p.sql("alter system set synchronous_standby_names = 'ghost'")
    p.sql("select pg_reload_conf()")
    p.until("replication", "failed")
    finds(t, p, "replication", "synchronous_standby_names = ghost, and no such standby is connected", "bring the standby back")
    p.sql("alter system reset synchronous_standby_names")
    p.sql("select pg_reload_conf()")
    p.until("replication", "ok")
    standby = t.keep(Standby(p.cluster))
    standby.start()
    p.until("replication", "warning")
    finds(t, p, "replication", "1 standbys, none synchronous", "set synchronous_standby_names", state="warning")
    p.sql("alter system set synchronous_standby_names = '*'")
    p.sql("select pg_reload_conf()")
    p.until("replication", "ok", "--database", p.cluster.dsn())
    finds(t, p, "replication", "this user may not see", "pg_monitor", state="unknown")
    p.sql("alter system reset synchronous_standby_names")
    p.sql("select pg_reload_conf()")
    p.daemon.settings["database.conninfo"] = standby.dsn("apikeyd")
    p.daemon.write_conf()
    finds(t, p, "primary", "the server is a standby", "name the primary")


def test_doctor_leases(t):
    p = Patient(t)
    p.sql("insert into apikeyd.daemon (id, host, pid, version, applied_rev, started_at, seen_at, lease, lease_until) "
          "values ('00000000-0000-0000-0000-000000000001', 'gone', 7, '0', 1, now(), now() - interval '1 h', '14 s', now() - interval '59 min')")
    finds(t, p, "registrations", "1 daemons are live; the lease of 1 ran out: gone pid 7, silent for 3600 s",
          "delete from apikeyd.daemon", state="warning")
    p.sql("delete from apikeyd.daemon where host = 'gone'")
    t.equal(p.state_of("registrations"), "ok")
    p.sql("update apikeyd.longest_lease set lease = '1 s'")
    finds(t, p, "longest lease", "the database allows 1000 ms, and this daemon's lease is 14",
          "select apikeyd.set_longest_lease('")


def test_doctor_revision(t):
    """The daemon answers, and is not let in any more: it says that it is fresh for a while, and is behind."""
    p = Patient(t, settings={"freshness.max_stale_ms": "40min"})
    t.equal(p.state_of("revision", "--database", p.cluster.dsn()), "ok")
    p.sql("alter role apikeyd nologin")
    p.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'apikeyd'")
    wait_until("the end of its sessions", lambda: p.sql("select count(*) from pg_stat_activity where usename = 'apikeyd'") == [(0,)])
    p.sql("update apikeyd.page set standing = 'archived' where slug = 'acme'")
    rows = p.look("--database", p.cluster.dsn())
    t.equal((rows["revision"]["state"], rows["roles"]["state"]), ("failed", "failed"), rows)
    t.contains(rows["revision"]["seen"], "the daemon is at ")
    t.contains(rows["roles"]["seen"], "the daemon's login apikeyd is not there, or may not log in")
    finds(t, p, "database", 'role "apikeyd" is not permitted to log in', "apikeyctl setup")


def test_doctor_clock(t):
    with open(APIKEYCTL, "rb") as f:
        if b"__asan_init" in f.read():
            t.skip("a sanitizer wants to be loaded first")
    p = Patient(t)
    library = os.path.join(new_dir("clock"), "clock.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, "-x", "c", "-"], input=CLOCK.encode(), check=True)
    env = {"LD_PRELOAD": library, "CLOCK_SHIFT": "0"}
    t.equal(p.state_of("clock", env=env), "ok")
    finds(t, p, "clock", " ms ahead of the database", "set the one that is wrong", env=dict(env, CLOCK_SHIFT="3600"))
    finds(t, p, "clock", " ms behind the database", "set the one that is wrong", env=dict(env, CLOCK_SHIFT="-3600"))
    finds(t, p, "clock", " ms ahead of the database", "set the one that is wrong", env=dict(env, CLOCK_SHIFT="20"),
          state="warning")


def test_doctor_of_another_user(t):
    """What an ordinary administrator may not see is unknown, with who can."""
    if os.geteuid() != 0:
        t.skip("only root can become another user")
    p = Patient(t)
    os.chmod(p.daemon.dir, 0o755)
    os.chmod(p.daemon.conf, 0o644)
    finds(t, p, "pepper", "what is in it only root can see", "run as root", user=NOBODY, state="unknown")
    finds(t, p, "socket", "may not connect", "run as root", user=NOBODY, state="unknown")
    finds(t, p, "hello", "no answer", "run as root", user=NOBODY, state="unknown")
    finds(t, p, "pepper version", "was not to be seen", "run as root", user=NOBODY, state="unknown")
    t.equal(p.state_of("configuration", user=NOBODY), "ok", "but for the credentials")
    with open(os.path.join(p.cluster.data, "pg_hba.conf"), "w") as f:
        f.write("local all postgres trust\nlocal all all peer\n")
    p.sql("select pg_reload_conf()", database="postgres")
    wait_until("peer authentication", lambda: p.state_of("database", user=NOBODY) == "unknown", step=0.1)
    finds(t, p, "database", "this user is not let in as the daemon", "give --database", user=NOBODY, state="unknown")


if __name__ == "__main__":
    run(globals())
