"""apikeyctl audit: the ledger verified with MACs and anchors, by a real daemon with the pepper, and what it shows."""
from world import *
from ledger_rows import *

NOW = datetime.datetime.now(datetime.timezone.utc).replace(second=0, microsecond=0)
PEPPER = "5a" * 32


def minute(back):
    return NOW - datetime.timedelta(minutes=back)


class Scene:
    def __init__(self, t):
        self.cluster = t.keep(Cluster().start().install())
        self.daemon = t.keep(Daemon(self.cluster, pepper=PEPPER))
        self.cluster.sql("create role auditor login; grant apikeyd_auditor to auditor")
        self.chain = Chain(self.cluster.connect(autocommit=False), pepper=bytes.fromhex(PEPPER))
        self.cluster.sql("insert into apikeyd.organization (id, slug) values (1, 'acme')")
        for n in range(5):
            self.chain.write([rollup(minute(30 - n), key_id="AuditKey01", scope="page:read", count=n + 1),
                              event(minute(30 - n), key_id="AuditKey01", scope="page:write", addr="192.0.2.7")], made_at=minute(29 - n))

    def anchors(self, *batches, chain=None):
        return "".join(f"Nov 30 06:00:00 host apikeyd[1]: info: ledger: anchor chain={chain or self.chain.chain} batch={n} head={self.chain.heads[n].hex()}\n"
                       for n in batches)

    def ctl(self, *argv, user="auditor", stdin=None, admin=True):
        env = dict(self.cluster.env(user), APIKEYD_ADMIN_SOCKET=self.daemon.admin_socket if admin else "/nowhere/admin.sock")
        return subprocess.run([APIKEYCTL, "audit", *argv], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, input=stdin)

    def verify(self, *argv, **more):
        done = self.ctl("verify", "--json", *argv, **more)
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr

    def attack(self, *statements):
        attack(self.cluster, *statements)


def attack(cluster, *statements):
    """As a superuser with the guards off, and on again."""
    tables = ("chain", "batch", "part", "event", "rollup", "admin", "seal")
    cluster.psql(*[word for name in tables for word in ("-c", f"alter table apikeyd.ledger_{name} disable trigger all")])
    try:
        cluster.psql(*[word for text in statements for word in ("-c", text)])
    finally:
        cluster.psql(*[word for name in tables for word in ("-c", f"alter table apikeyd.ledger_{name} enable trigger all, "
                       f"enable always trigger ledger_no_change, enable always trigger ledger_no_truncate")])


CUT = ("event", "rollup", "part", "seal", "batch")


def test_verify(t):
    s = Scene(t)
    code, found = s.verify("--anchors", "-", stdin=s.anchors(1, 3, 5))
    ours = s.cluster.sql("select count(*) from apikeyd.ledger_batch")[0][0]
    t.equal((code, found["whole"], found["faults"], found["anchors"], found["no_pepper"]), (0, True, 0, 3, 0), str(found))
    t.ok(found["macs"] >= 5 and found["macs"] == found["batches"] == found["batches_within"] <= ours, f"every MAC: {found}")
    t.equal((found["chains"] >= 1, found["part"], found["anchors_matched"]), (True, False, 3), f"how much: {found}")
    rows, verdicts = s.cluster.sql("select count(*), sum(count)::int from apikeyd.verdicts where key_id = 'AuditKey01'")[0]
    t.equal((rows, verdicts, found["rows"] >= rows, found["verdicts"] >= verdicts, found["partitions"] >= 2), (10, 20, True, True, True), str(found))

    # of a time only, and said so
    since = minute(27).isoformat()
    code, found = s.verify("--since", since, "--until", minute(26).isoformat())
    t.equal((code, found["part"], found["batches_within"], found["rows"]), (0, True, 1, 2), str(found))
    t.ok(found["batches"] >= 5 and found["macs"] == found["batches"], f"MACs of all: {found}")
    done = s.ctl("verify", "--since", since)
    t.contains(done.stderr, "of that time only: ", "people are told")
    t.equal(s.ctl("verify", "--since", "never").returncode, 2, "no such time")
    done = s.ctl("verify", "--no-macs", admin=False)
    t.equal(done.returncode, 0, done.stderr)
    t.contains(done.stderr, "whole: ", "people are told")
    t.contains(done.stderr, "no MAC was checked", "and what was not done")
    t.contains(done.stderr, "no anchors were given", "that neither")
    done = s.ctl("verify", admin=False)
    t.equal(done.returncode, 3, "nobody to ask about the MACs")
    done = s.ctl("verify", "--anchors", "/nowhere/log")
    t.equal(done.returncode, 2, "no such log")
    done = s.ctl("verify", "--anchors", "-", stdin="nothing\n")
    t.equal(done.returncode, 2, "a log without anchors")
    t.contains(done.stderr, "journalctl", "what to do")
    done = s.ctl("verify", "--no-macs", user="apikeyd")
    t.equal(done.returncode, 3, "a role that may not")

    # a MAC of somebody who has no pepper: SQL cannot tell, the daemon can
    s.attack(f"update apikeyd.ledger_batch set mac = sha256('forged') where chain = '{s.chain.chain}' and batch = 2")
    t.equal(s.cluster.sql("select * from apikeyd.ledger_verify() where severity = 'fault'"), [], "the heads are as they were")
    code, found = s.verify()
    t.equal((code, [(f["batch"], f["chain"]) for f in found["findings"] if f["severity"] == "fault"]), (1, [(2, s.chain.chain)]), str(found))
    s.attack(f"update apikeyd.ledger_batch set mac = '\\x{hmac.new(mac_key(s.chain.pepper), s.chain.heads[2], 'sha256').hexdigest()}' where chain = '{s.chain.chain}' and batch = 2")
    t.equal(s.verify()[0], 0, "mended")

    # a MAC under a pepper that this daemon does not hold
    other = Chain(s.cluster.connect(autocommit=False), version=7)
    other.write([rollup(minute(5))], made_at=minute(4))
    code, found = s.verify()
    t.equal((code, found["no_pepper"]), (0, 1), "not checked, and said so")

    # a head that is not the journal's: the database was made anew by one who has the pepper
    code, found = s.verify("--anchors", "-", stdin=s.anchors(1, 5) + s.anchors(3).replace(s.chain.heads[3].hex(), "ab" * 32))
    t.equal((code, [(f["batch"], f["problem"]) for f in found["findings"] if f["severity"] == "fault"]),
            (1, [(3, "its head is not the one that the journal knows")]), str(found))

    # a tail cut off together with the chain's own record of it: only a journal knows
    s.attack(*[f"delete from apikeyd.ledger_{name} where chain = '{s.chain.chain}' and batch = 5" for name in CUT],
             f"update apikeyd.ledger_chain set last_batch = 4, last_head = '\\x{s.chain.heads[4].hex()}' where chain = '{s.chain.chain}'")
    t.equal(s.cluster.sql("select * from apikeyd.ledger_verify() where severity = 'fault'"), [], "the rest agrees in itself")
    code, found = s.verify("--anchors", "-", stdin=s.anchors(1, 5))
    faults = [f for f in found["findings"] if f["severity"] == "fault"]
    t.equal((code, [f["batch"] for f in faults]), (1, [5]), str(found))
    t.contains(faults[0]["problem"], "the journal knows this batch", "why")

    # a chain that is gone altogether
    s.attack(*[f"delete from apikeyd.ledger_{name} where chain = '{s.chain.chain}'" for name in (*CUT, "chain")])
    code, found = s.verify("--anchors", "-", stdin=s.anchors(1))
    t.ok(code == 1 and any("this chain" in f["problem"] for f in found["findings"]), str(found))


def test_what_a_daemon_wrote_is_whole(t):
    """Real checks, and the daemon's own log as the journal."""
    cluster = t.keep(Cluster().start().install())
    daemon = t.keep(Daemon(cluster, {"ledger.flush_ms": "100"}, pepper=PEPPER))
    cluster.sql("create role auditor login; grant apikeyd_auditor to auditor")
    daemon.admin("org_add", org="acme")
    daemon.admin("page_add", org="acme", page="acme")
    key = daemon.admin("key_mint", kind="organization", org="acme", access="read")
    for scope in ("page:read", "page:write", "page:read"):
        daemon.check(key["key"], scope, "acme", min_rev=key["rev"])
    counted = lambda: cluster.sql("select coalesce(sum(count), 0)::int from apikeyd.verdicts where key_id = %s", key["key_id"])[0][0]
    wait_until("the verdicts", lambda: counted() == 3)
    wait_until("the seals", lambda: not cluster.sql("select from apikeyd.administration where not sealed"))
    t.equal(daemon.admin("key_show", key_id=key["key_id"])["usage"]["scopes"], ["page:read"], "its use")
    env = dict(cluster.env("auditor"), APIKEYD_ADMIN_SOCKET=daemon.admin_socket)
    done = subprocess.run([APIKEYCTL, "audit", "verify", "--json", "--anchors", daemon.log_path], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    t.equal(done.returncode, 0, done.stdout + done.stderr)
    found = json.loads(done.stdout)
    t.ok(found["whole"] and found["macs"] == found["batches"] > 0 and found["anchors"] > 0, str(found))
    t.equal((found["own"], found["anchors_matched"]), (1, found["anchors"]), str(found))
    # The daemon that is asked knows its own chain: gone altogether, that is seen without any journal.
    attack(cluster, *[f"delete from apikeyd.ledger_{name}" for name in (*CUT, "admin", "chain")])
    done = subprocess.run([APIKEYCTL, "audit", "verify", "--json"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    problems = [f["problem"] for f in json.loads(done.stdout)["findings"] if f["severity"] == "fault"]
    t.equal(done.returncode, 1, str(problems))
    # Should it have written another batch meanwhile, that one has none before it.
    t.ok(any("the daemon that was asked knows this chain" in problem or "missing" in problem for problem in problems), str(problems))


def test_macs_of_the_daemon(t):
    s = Scene(t)
    head = s.chain.heads[1]
    mac = hmac.new(mac_key(bytes.fromhex(PEPPER)), head, "sha256").hexdigest()
    answer = s.daemon.admin("ledger_macs", macs=[f"{head.hex()} 1 {mac}", f"{head.hex()} 1 {'0' * 64}", f"{head.hex()} 2 {mac}"])
    t.equal(answer, {"count": 3, "wrong": [1], "no_pepper": [2]}, "right, wrong, and not known")
    for wrong in ("", "1", f"{head.hex()} 0 {mac}", f"{head.hex()} 99999 {mac}", f"{head.hex()} 1 {mac}0", f"{head.hex()}  {mac}", f"{head.hex()} 1 {mac[:-1]}g"):
        error = t.raises(RpcError, lambda: s.daemon.admin("ledger_macs", macs=[wrong]), wrong)
        t.equal(error.code, "bad_params", wrong)
    t.equal(s.daemon.admin("ledger_macs", macs=[]), {"count": 0, "wrong": [], "no_pepper": []}, "none")


def test_show(t):
    s = Scene(t)
    s.cluster.sql("update apikeyd.organization set name = 'Acme' where id = 1")
    done = s.ctl("show")
    t.equal(done.returncode, 0, done.stderr)
    t.contains(done.stdout, "scope_not_granted", "a denial")
    t.contains(done.stdout, "name:  -> Acme", "a change")
    rows = json.loads(s.ctl("show", "--json", "--key", "AuditKey01", "--limit", "3").stdout)
    t.equal([(r["what"], r["who"], r["about"], r["source"]) for r in rows], [("deny", "AuditKey01", "page:write", "192.0.2.7")] * 3, "of one key")
    t.equal(s.ctl("show", "--limit", "0").returncode, 2, "no such limit")


def test_what_the_database_does_not_take(t):
    """What was typed is wrong usage, a right that is missing says whom to ask as, and another database what to look at."""
    s = Scene(t)
    s.cluster.sql("create role nobody login; create role checker login in role apikeyd_check")
    s.cluster.sql("create database other")
    for verb in (["show"], ["verify", "--no-macs"]):
        for argv, user, code, said in ((["--since", "never"], "auditor", 2, 'timestamp with time zone: "never"; a TIME is'),
                                       ([], "nobody", 3, "connect as a role that is granted apikeyd_auditor"),
                                       ([], "checker", 3, "connect as a role that is granted apikeyd_auditor"),
                                       (["--database", "dbname=other"], "auditor", 3, "is this apikeyd's database")):
            done = s.ctl(*verb, *argv, user=user, admin=False)
            t.equal(done.returncode, code, f"{verb} {argv} {user}: {done.stderr}")
            t.contains(done.stderr, said, f"{verb} {argv} {user}")
    done = s.ctl("verify", admin=False)
    t.equal(done.returncode, 3, done.stderr)
    t.contains(done.stderr, "--no-macs does without the daemon", "a daemon that cannot be asked")


def test_key_show_tells_its_use(t):
    s = Scene(t)
    admin = s.daemon.admin
    for page in ("acme-a", "acme-b"):
        admin("page_add", org="acme", page=page)
    key = admin("key_mint", kind="organization", org="acme", access="write", name="deploy", scopes=["incident:write", "page:read"])["key_id"]
    s.chain.write([rollup(minute(9), key_id=key, scope="incident:write", page="acme-a", caller_uid=1001, count=7),
                   rollup(minute(8), key_id=key, scope="incident:write", page="acme-a", caller_uid=1000, count=2),
                   rollup(minute(7), "deny", "scope_not_granted", key_id=key, scope="page:write", page="acme-b", count=3),
                   event(minute(6), "allow", "ok", key_id=key, scope="page:read", page="acme-b", method="explain", explain=True),
                   event(minute(5), key_id=key, scope="page:write", page="acme-b")])
    usage = admin("key_show", key_id=key)["usage"]
    t.equal(usage, {"last_used_at": (minute(8) + datetime.timedelta(seconds=59)).strftime("%Y-%m-%dT%H:%M:%SZ"), "allowed": 9, "refused": 4,
                    "callers": [1000, 1001], "scopes": ["incident:write"], "pages": ["acme-a"], "never_used_scopes": ["incident:read", "page:read"],
                    "never_used_pages": ["acme-b"], "never_used_pages_count": 1}, "to the point; what was asked as explain is no use")
    done = subprocess.run([APIKEYCTL, "--admin-socket", s.daemon.admin_socket, "key", "show", key], stdout=subprocess.PIPE, text=True)
    for text in ("last used", "9 allowed, 4 refused", "1000, 1001", "incident:read, page:read", "acme-b"):
        t.contains(done.stdout, text, "for people")
    for n in range(120):
        s.cluster.sql("insert into apikeyd.page (organization_id, slug) values (1, %s)", f"acme-many-{n:03}")
    usage = admin("key_show", key_id=key)["usage"]
    t.equal((len(usage["never_used_pages"]), usage["never_used_pages_count"]), (100, 121), "a long list is cut, its number not")
    done = subprocess.run([APIKEYCTL, "--admin-socket", s.daemon.admin_socket, "key", "show", key], stdout=subprocess.PIPE, text=True)
    t.contains(done.stdout, "and 21 more", "and said so")
    admin("key_revoke", key_id=key)
    t.equal(admin("key_show", key_id=key)["usage"]["never_used_scopes"], [], "a key that is not live could not be narrowed")


if __name__ == "__main__":
    run(globals())
