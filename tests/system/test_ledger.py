"""The ledger: every verdict is accounted for, exactly once, through whatever is killed, away or full.

    answers received <= verdicts counted <= questions sent, the surplus at most what was in flight at each kill,
    and exact after a clean stop.

Counted is what the database says: counts of roll-ups, events, and the numbers of what was lost.
"""
import collections
import os
import random
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *

SLOW = sanitized()
PAIRS = 512
MINUTES = "30min"


# ---- who asks -------------------------------------------------------------------------------------------------------

class Asker:
    """Pipelines questions, and knows how many it sent, how many were answered how, and how many were in flight at a kill."""

    def __init__(self, daemon, keys):
        self.daemon, self.keys = daemon, keys
        self.sent = self.received = self.surplus = 0
        self.answers = collections.Counter()
        self.flying = {} # msgid: verdicts
        self.connection = None
        self.alone = None # since when nobody listens
        self.dice = random.Random(5)

    def question(self):
        """Method, parameters, how many verdicts."""
        key = self.dice.choice(self.keys)
        kind = self.dice.randrange(20)
        if kind < 12:
            return "check_many", [key, [["incident:read", self.dice.choice(["acme", "acme-cloud", "nowhere"])]
                                        for _ in range(PAIRS)]], PAIRS
        if kind == 12:
            return "check_many", ["junk", [["incident:read", "acme"]] * PAIRS, {"addr": f"192.0.2.{self.dice.randrange(256)}"}], PAIRS
        if kind == 13:
            return "whoami", [key], 1
        if kind == 14:
            return "pages", [key, "incident:read"], 1
        return "check", [key, self.dice.choice(["incident:read", "incident:write", "incident:fly"]), "acme",
                         {"addr": "2001:db8::7"}], 1

    def ask(self):
        method, params, verdicts = self.question()
        try:
            if self.connection is None:
                self.connection = self.daemon.rpc()
                self.alone = None
            msgid = self.connection.next_id + 1
            self.sent += verdicts # a part of it may come to the daemon, whatever send says
            self.flying[msgid] = verdicts
            self.connection.send(method, *params)
        except OSError as error:
            self.alone = self.alone or time.monotonic()
            if time.monotonic() > self.alone + 2 * WAIT:
                raise AssertionError(f"nobody listens: {error}") from error
            self.lose()

    def answer(self):
        """One answer, if one is awaited."""
        if self.connection is None or not self.flying:
            return
        try:
            _, msgid, error, result = self.connection.receive_message()
        except (OSError, Closed):
            self.lose()
            return
        if error is not None:
            raise AssertionError(f"an error: {error}")
        verdicts = result if isinstance(result, list) else [result]
        if len(verdicts) != self.flying.pop(msgid):
            raise AssertionError(f"{len(verdicts)} verdicts in an answer")
        self.received += len(verdicts)
        for verdict in verdicts:
            self.answers[verdict["reason"]] += 1

    def lose(self):
        """The daemon was killed: what was in flight may be counted or not."""
        self.surplus += sum(self.flying.values())
        self.flying = {}
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def run(self, verdicts, window=8):
        """Asks until so many more verdicts were sent, and leaves a window of questions in flight."""
        until = self.sent + verdicts
        while self.sent < until:
            self.ask()
            while len(self.flying) > window:
                self.answer()

    def settle(self):
        while self.flying:
            self.answer()

    def close(self):
        if self.connection is not None:
            self.connection.close()


def counted(cluster):
    """How many verdicts the ledger has, by reason; what was lost under None."""
    rows = cluster.sql("select reason, sum(count)::bigint from apikeyd.ledger_rollup group by 1")
    rows += cluster.sql("select reason, count(*) from apikeyd.ledger_event group by 1")
    total = collections.Counter()
    for reason, count in rows:
        total[reason] += count
    total[None] += cluster.sql("select coalesce(sum(lost), 0)::bigint from apikeyd.ledger_batch")[0][0]
    return +total


def faults(cluster):
    return cluster.sql("select severity, chain, batch, place, problem from apikeyd.ledger_verify() where severity = 'fault'")


def make_world(t, cluster=None, settings=None, start=True, stacks=None):
    cluster = cluster or t.keep(Cluster().start().install(demo=True))
    daemon = t.keep(Daemon(cluster, {"ledger.flush_ms": "20", "freshness.max_stale_ms": MINUTES, "database.backoff_max_ms": "100",
                                     "limits.stop_ms": "25s", **(settings or {})}, start=start, stacks=stacks))
    return cluster, daemon


def mint(daemon, **more):
    key = daemon.admin("key_mint", **{"kind": "organization", "org": "acme", "access": "write", **more})
    wait_until("the key", lambda: daemon.check(key["key"], "incident:read", "nowhere")["reason"] != "unknown_key")
    return key["key"]


def make_asker(t, cluster, daemon):
    """And what the ledger has by now, which is not the asker's."""
    keys = [mint(daemon) for _ in range(3)]
    daemon.stop()
    before = counted(cluster)
    daemon.start()
    return t.keep(Asker(daemon, keys)), before


def difference(after, before):
    after = collections.Counter(after)
    after.subtract(before)
    return +after


def conserved(t, cluster, asker, before, what):
    got = sum(difference(counted(cluster), before).values())
    t.ok(asker.received <= got <= asker.sent, f"{what}: {asker.received} received <= {got} counted <= {asker.sent} sent")
    t.ok(got - asker.received <= asker.surplus, f"{what}: {got - asker.received} more than received; {asker.surplus} were in flight")
    t.equal(faults(cluster), [], f"{what}: nothing is wrong with the chains")


# ---- exact ----------------------------------------------------------------------------------------------------------

def test_each_answer_is_in_the_ledger_once(t):
    cluster, daemon = make_world(t)
    asker, before = make_asker(t, cluster, daemon)
    asker.run(20000)
    asker.settle()
    with contextlib.closing(daemon.rpc()) as rpc:
        for _ in range(3):
            rpc.call("explain", asker.keys[0], "incident:write", "acme")
    t.equal(daemon.stop(), 0, "stopped")
    got = difference(counted(cluster), before)
    asker.answers["ok"] += 3
    t.equal(got, asker.answers, "each reason as often as it was answered")
    t.equal(cluster.sql("select method, stale from apikeyd.ledger_event where explain"), [("explain", False)] * 3, "explain is told apart")
    t.equal(faults(cluster), [], "verified")
    t.ok(daemon.log().count("ledger: anchor chain=") >= 2, "anchored at the first batch and at the end")
    head = cluster.sql("select encode(last_head, 'hex') from apikeyd.ledger_chain")[0][0]
    anchors = [line for line in daemon.log().splitlines() if "ledger: anchor chain=" in line]
    t.ok(f"head={head}" in anchors[-1], "the last anchor is the head that the database has")


def test_what_is_recorded(t):
    cluster, daemon = make_world(t)
    key = mint(daemon)
    key_id = key[4:14]
    daemon.stop()
    cluster.sql("select apikeyd.ledger_ahead()")
    daemon.start()
    mark = cluster.sql("select coalesce(max(batch), 0) from apikeyd.ledger_batch")[0][0]
    with contextlib.closing(daemon.rpc()) as rpc:
        for _ in range(3):
            rpc.check(key, "incident:write", "acme", addr="192.0.2.1")
        rpc.check(key, "page:read", "acme", org="acme")
        rpc.check(key, "incident:fly", "no-such-page", addr="2001:db8:1:2:3:4:5:6", org="acme")
        rpc.check("ako_no key\t\\N\n", "incident:fly", "acme", addr="2001:db8:1:2:3:4:5:6")
        rpc.check(make_key("organization"), "incident:fly", "acme", addr="198.51.100.7")
        rpc.check(key, "incident:write", "acme", stack="nobody's")
    daemon.stop()
    uid = os.geteuid()
    t.equal(cluster.sql("select verdict, reason, stack, caller_uid, key_id, scope, page, host(addr), masklen(addr), sum(count)::int "
                        "from apikeyd.ledger_rollup where batch > %s group by 1, 2, 3, 4, 5, 6, 7, 8, 9 order by 2, 6", mark),
            [("deny", "malformed_key", "default", uid, None, None, None, "2001:db8:1:2::", 64, 1),
             ("deny", "no_stack", "", uid, None, None, None, None, None, 1),
             ("allow", "ok", "default", uid, key_id, "incident:write", "acme", None, None, 3),
             ("allow", "ok", "default", uid, key_id, "page:read", "acme", None, None, 1),
             ("deny", "unknown_key", "default", uid, None, None, None, "198.51.100.7", 32, 1)], "roll-ups")
    t.equal(cluster.sql("select verdict, reason, method, key_id, scope, page, org, host(addr), rev > 0, stale, explain "
                        "from apikeyd.ledger_event where batch > %s", mark),
            [("deny", "unknown_scope", "check", key_id, None, None, "acme", "2001:db8:1:2:3:4:5:6", True, False, False)], "events")
    t.equal(faults(cluster), [], "verified")


def test_addresses_are_written_as_the_database_writes_them(t):
    """Else it would refuse the batch: the digest would be another."""
    cluster, daemon = make_world(t, settings={"ledger.sources_per_minute": "100000", "ledger.spool_bytes": "4M"})
    dice = random.Random(11)
    with contextlib.closing(daemon.rpc()) as rpc:
        asked = ["::", "::1", "::ffff:192.0.2.7", "::192.0.2.7", "::1:2", "1::", "1:0:0:2::3", "0:1::", "fe80::1:0:0:1", "255.255.255.255", "0.0.0.0"]
        for _ in range(1500):
            words = [dice.choice([0, 0, 0, 1, 0xffff, dice.randrange(65536)]) for _ in range(8)]
            asked.append(":".join(f"{word:x}" for word in words))
        for addr in asked:
            rpc.send("check", "junk", "incident:read", "acme", {"addr": addr})
            rpc.send("explain", "junk", "incident:read", "acme", {"addr": addr})
        for number in range(1, 2 * len(asked) + 1):
            rpc.receive(number)
    t.equal(daemon.stop(), 0, "stopped")
    got = counted(cluster)
    t.equal(sum(got.values()), 2 * len(asked), "all of them")
    t.equal(faults(cluster), [], "verified")


# ---- killed ---------------------------------------------------------------------------------------------------------

def stat_of(pid):
    """State and parent of a process; what is gone is as good as a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            state, parent = f.read().rsplit(")", 1)[1].split()[:2]
            return state, int(parent)
    except OSError:
        return "Z", 0


def kill_database(cluster):
    """kill -9 of the postmaster and all its children, in any order."""
    with open(os.path.join(cluster.data, "postmaster.pid")) as f:
        postmaster = int(f.readline())
    os.kill(postmaster, signal.SIGSTOP) # it makes no more children
    wait_until("a postmaster that stands", lambda: stat_of(postmaster)[0] in "TZ")
    pids = [postmaster] + [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and stat_of(pid)[1] == postmaster]
    random.shuffle(pids)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until("the database's end", lambda: all(stat_of(pid)[0] == "Z" for pid in pids))
    # Whose parent is slow to see its end still has its number, which the next server takes for a life.
    os.unlink(os.path.join(cluster.data, "postmaster.pid"))
    os.unlink(os.path.join(cluster.socket_dir, ".s.PGSQL.5432.lock"))
    cluster.started = False


def kill_ledger_backend(cluster):
    """The one server process that takes the batches: the database recovers from it by itself."""
    with contextlib.suppress(Exception):
        for pid, in cluster.sql("select pid from pg_stat_activity where query ~ 'ledger_|COPY' and pid <> pg_backend_pid()"):
            os.kill(pid, signal.SIGKILL)


def test_conservation(t):
    cluster, daemon = make_world(t, settings={"ledger.batch_rows": "50", "ledger.events_per_second": "300"})
    asker, before = make_asker(t, cluster, daemon)
    total = 150000 if SLOW else 1000000
    rounds = 14 if SLOW else 30
    dice = random.Random(77)
    for round_number in range(rounds):
        asker.run(total // rounds)
        event = round_number % 7
        if event in (0, 3, 5):
            daemon.kill()
            if event == 5:
                kill_database(cluster)
            asker.lose()
            if event == 5:
                cluster.start()
            daemon.start()
        elif event == 1:
            kill_database(cluster)
            asker.run(2000)
            cluster.start()
        elif event == 2:
            kill_ledger_backend(cluster)
        elif event == 4:
            cluster.stop(dice.choice(["immediate", "fast"]))
            asker.run(5000)
            daemon.kill() # while it is away
            asker.lose()
            daemon.start(wait="socket")
            asker.run(2000)
            cluster.start()
    asker.settle()
    wait_until("the database", lambda: daemon.stats()["loaded"])
    wait_until("an empty spool", lambda: daemon.stats()["ledger"]["spool_records"] == 0)
    t.equal(daemon.stop(), 0, "stopped")
    t.ok(asker.sent >= total, f"{asker.sent} verdicts asked for")
    conserved(t, cluster, asker, before, "after all")
    t.equal(cluster.sql("select count(*), count(distinct batch), max(batch) from apikeyd.ledger_batch")[0][1:],
            cluster.sql("select last_batch, last_batch from apikeyd.ledger_chain")[0], "batches without a gap")
    # From here on nothing is killed: exact.
    before = counted(cluster)
    asker.answers.clear()
    daemon.start()
    asker.run(5000)
    asker.settle()
    daemon.stop()
    t.equal(difference(counted(cluster), before), asker.answers, "exact after a clean stop")


# ---- away -----------------------------------------------------------------------------------------------------------

def test_database_away(t):
    cluster, daemon = make_world(t)
    asker, before = make_asker(t, cluster, daemon)
    asker.run(3000)
    asker.settle()
    cluster.stop("immediate")
    asker.run(20000)
    asker.settle()
    t.ok(asker.answers["ok"] > 0, "it answers")
    t.equal(daemon.stop(), 0, "a stop without the database is clean")
    t.ok("stay in the spool until the next start" in daemon.log(), "and says what is left")
    # Never loaded: each answer is a fault, and recorded.
    daemon.start(wait="socket")
    asker.lose()
    asker.run(3000)
    asker.settle()
    t.ok(asker.answers["not_loaded"] > 0, "not loaded")
    daemon.kill()
    asker.lose()
    daemon.start(wait="socket")
    t.ok("records wait in the spool for the database" in daemon.log(), "the log says what waits")
    cluster.start()
    wait_until("an empty spool", lambda: daemon.stats()["ledger"]["spool_records"] == 0)
    daemon.stop()
    got = difference(counted(cluster), before)
    t.equal(got, asker.answers, "all of it came, once: nothing was in flight at the kill")
    t.equal(faults(cluster), [], "verified")


def test_history_lost(t):
    """The database is an older one, and goes on: its lack is told, and the rest comes."""
    cluster, daemon = make_world(t)
    key = mint(daemon)
    daemon.stop()
    cluster.psql("-c", 'create database older template apikeyd', database="postgres")
    daemon.start()
    for _ in range(3):
        batches = daemon.stats()["ledger"]["batches"]
        daemon.check(key, "incident:read", "acme")
        wait_until("a batch", lambda: daemon.stats()["ledger"]["batches"] > batches)
    daemon.stop()
    cluster.psql("-c", "drop database apikeyd", "-c", "alter database older rename to apikeyd", database="postgres")
    daemon.start(wait="socket")
    wait_until("the new history", lambda: daemon.stats()["loaded"])
    daemon.check(key, "incident:read", "acme")
    daemon.stop()
    t.ok("it has lost history" in daemon.log(), "the log says so")
    t.ok(any("missing" in row[4] or "gap" in row[4] for row in faults(cluster)), f"and so does verification: {faults(cluster)}")


# ---- when it is sent ------------------------------------------------------------------------------------------------

def ask_in_turn(daemon, keys, rounds):
    """Each key about each of some scopes and pages, over and over. Returns how many different questions, and how many."""
    questions = [(key, f"{what}:read", page) for key in keys for what in ("page", "incident", "maintenance", "service")
                 for page in ("acme", "acme-cloud")]
    with contextlib.closing(daemon.rpc()) as rpc:
        for _ in range(rounds):
            for question in questions:
                rpc.send("check", *question, {})
            for _ in questions:
                rpc.receive_message()
    return len(questions), rounds * len(questions)


def test_many_count_on_until_it_is_time(t):
    """More records than a batch has rows are no reason to send: what is met again would begin anew."""
    cluster, daemon = make_world(t, settings={"ledger.batch_rows": "50", "ledger.flush_ms": "3600s"})
    keys = [mint(daemon) for _ in range(20)]
    daemon.stop()
    before = counted(cluster)
    daemon.start()
    different, asked = ask_in_turn(daemon, keys, 10)
    stats = daemon.stats()["ledger"]
    t.equal((stats["batches"], stats["rows"]), (0, 0), "nothing was sent")
    t.equal(stats["rollups"] + stats["rolled_up"], asked, "all are counted")
    t.ok(different <= stats["rollups"] <= asked // 2, f"{stats['rollups']} roll-ups of {different} different verdicts")
    daemon.stop()
    t.equal(difference(counted(cluster), before), {"ok": asked}, "a stop sends them")
    t.equal(cluster.sql("select max(rows) from apikeyd.ledger_batch")[0][0], 50, "in batches of that many rows")
    t.equal(faults(cluster), [], "verified")


def test_half_a_spool_is_sent_at_once(t):
    cluster, daemon = make_world(t, settings={"ledger.spool_bytes": "65536", "ledger.batch_rows": "20", "ledger.flush_ms": "3600s"})
    keys = [mint(daemon) for _ in range(15)]
    different, _ = ask_in_turn(daemon, keys, 1)
    stats = daemon.stats()["ledger"]
    t.ok(stats["spool_capacity"] // 2 < different < stats["spool_capacity"], "more than half of a spool")
    wait_until("half an empty spool", lambda: daemon.stats()["ledger"]["spool_records"] < stats["spool_capacity"] // 2)
    t.ok(daemon.stats()["ledger"]["spool_records"] > 0, "the rest has time")
    t.equal(daemon.stop(), 0, "stopped")
    t.equal(faults(cluster), [], "verified")


# ---- full -----------------------------------------------------------------------------------------------------------

def full_stack(arguments):
    return f"caller none\nkey required store\naudit required ledger {arguments}\n"


def test_spool_full(t):
    cluster, daemon = make_world(t, settings={"ledger.spool_bytes": "65536"},
                                 stacks={"strict": full_stack("allows=full"), "rolls": full_stack(""),
                                         "goes": full_stack("allows=full on_full=count")})
    asker, before = make_asker(t, cluster, daemon)
    key = asker.keys[0]
    cluster.stop("immediate")
    answers = collections.Counter()
    with contextlib.closing(daemon.rpc()) as rpc:
        def ask(stack, key=key, page="acme"):
            verdict = rpc.check(key, "incident:read", page, stack=stack)
            answers[verdict["reason"]] += 1
            return verdict["verdict"], verdict["reason"]
        for _ in range(10000):
            if ask("strict") != ("allow", "ok"):
                break
        t.equal(ask("strict"), ("unavailable", "audit_full"), "without room an ALLOW is unavailable")
        t.equal(ask("goes"), ("allow", "ok"), "or goes on, where the stack says so")
        t.equal(ask("rolls", page="acme-cloud"), ("unavailable", "audit_full"), "a new roll-up finds no room either")
        t.equal(ask("strict", "junk"), ("deny", "malformed_key"), "a denial is one")
        t.equal(ask("strict", page="nowhere"), ("deny", "unknown_page"), "of a proven key, too")
        stats = daemon.stats()["ledger"]
        t.equal(stats["spool_records"], stats["spool_capacity"], "the spool is full")
        t.ok(stats["lost"] >= 5, "what found no room is counted")
        wait_until("the log", lambda: "ledger: the spool is full: verdicts find no room" in daemon.log())
        daemon.kill()
        daemon.start(wait="socket")
        t.equal(daemon.stats()["ledger"]["lost"], stats["lost"], "and known after a kill")
    with contextlib.closing(daemon.rpc()) as rpc:
        ask("strict")
        stats["lost"] += 1
        t.equal(daemon.stats()["ledger"]["lost"], stats["lost"], "one more")
        cluster.start()
        wait_until("room", lambda: daemon.stats()["loaded"] and daemon.stats()["ledger"]["spool_records"] == 0)
        wait_until("the log", lambda: "ledger: the spool has room again; 1 verdicts found none" in daemon.log())
    with contextlib.closing(daemon.rpc()) as rpc:
        t.equal(ask("strict"), ("allow", "ok"), "then it goes on")
    daemon.stop()
    got = difference(counted(cluster), before)
    t.equal(got.pop(None), stats["lost"], "the batches say how many were lost")
    t.equal(sum(got.values()) + stats["lost"], sum(answers.values()), "nothing else is missing")
    t.equal(faults(cluster), [], "verified")


def test_junk_fills_nothing(t):
    """Keys that nobody has, at full speed from everywhere, while the database is away: an ALLOW finds room."""
    cluster, daemon = make_world(t, settings={"ledger.sources_per_minute": "50", "ledger.spool_bytes": "512k"})
    asker, before = make_asker(t, cluster, daemon)
    cluster.stop("immediate")
    dice = random.Random(3)
    sent = received = 0
    with contextlib.closing(daemon.rpc()) as rpc:
        for _ in range(60 if SLOW else 200):
            for _ in range(200):
                addr = ".".join(str(dice.randrange(256)) for _ in range(4))
                key = "junk" if dice.randrange(2) else make_key("organization")
                rpc.send("check", key, f"s{dice.randrange(1000)}:read", f"page-{dice.randrange(100000)}", {"addr": addr})
                sent += 1
            while received < sent:
                rpc.receive_message()
                received += 1
        t.equal(rpc.check(asker.keys[0], "incident:read", "acme")["reason"], "ok", "an ALLOW")
    stats = daemon.stats()["ledger"]
    t.ok(stats["spool_records"] < stats["spool_capacity"] // 2, f"{sent} of junk take {stats['spool_records']} records")
    t.equal(stats["lost"], 0, "nothing is lost")
    t.ok(stats["limit_sources"] > 0, "addresses beyond the limit are not told apart")
    cluster.start()
    wait_until("an empty spool", lambda: daemon.stats()["ledger"]["spool_records"] == 0)
    daemon.stop()
    got = difference(counted(cluster), before)
    t.equal(sum(got.values()) - got["ok"], sent, "each is counted")
    t.equal(faults(cluster), [], "verified")


def test_disk_of_the_spool_full(t):
    cluster = t.keep(Cluster().start().install(demo=True))
    disk = t.keep(SmallDisk("2m"))
    os.mkdir(os.path.join(disk.path, "state"), 0o700)
    cluster, daemon = make_world(t, cluster, {"state.directory": os.path.join(disk.path, "state"), "ledger.spool_bytes": "1M"})
    asker, before = make_asker(t, cluster, daemon)
    disk.fill()
    cluster.stop("immediate")
    asker.run(30000)
    asker.settle()
    t.ok(asker.answers["ok"] > 10000, "the room was taken before")
    daemon.kill()
    asker.lose()
    disk.free()
    daemon.start(wait="socket")
    cluster.start()
    wait_until("an empty spool", lambda: daemon.stats()["ledger"]["spool_records"] == 0)
    daemon.stop()
    t.equal(difference(counted(cluster), before), asker.answers, "all of it came")
    # Where there is no room for it, the daemon does not start, and says what to do.
    shutil.rmtree(os.path.join(disk.path, "state"))
    os.mkdir(os.path.join(disk.path, "state"), 0o700)
    with open(os.path.join(disk.path, "ballast"), "wb") as f:
        f.write(bytes(1536 * 1024))
    daemon.start(wait=False)
    t.equal(daemon.process.wait(WAIT), 1, "refused")
    t.ok("make room for" in daemon.log(), "and told why")
    daemon.process = None


def test_restarts_on_a_full_disk(t):
    """Run through it, restarted on it, killed on it: what is there is enough to start and to answer, and nothing is lost."""
    cluster = t.keep(Cluster().start().install(demo=True))
    disk = t.keep(SmallDisk("4m"))
    state = os.path.join(disk.path, "state")
    os.mkdir(state, 0o700)
    cluster, daemon = make_world(t, cluster, {"state.directory": state, "ledger.spool_bytes": "1M"})
    key = mint(daemon)
    # More that are revoked at once than the last page of the journal takes.
    cluster.sql("insert into apikeyd.key (id, kind, organization_id, access, hash, pepper_version) select lpad(i::text, 10, '0'), 'organization', "
                "organization_id, 'read', sha256(i::text::bytea), 1 from generate_series(1, 300) i, apikeyd.key where id = %s", key[4:14])
    asker, before = make_asker(t, cluster, daemon)
    history = lambda: daemon.stats()["feed"]["history"]

    def revoked(what):
        def ask():
            reason = daemon.check(key, "incident:read", "acme")["reason"]
            asker.answers[reason] += 1
            return reason
        wait_until(what, lambda: ask() == "revoked")

    disk.fill()
    asker.run(3000)
    cluster.sql("update apikeyd.key set revoked_at = now() where id = %s or id like '0%%'", key[4:14])
    revoked("a revocation that cannot be written")
    wait_until("the journal's trouble", lambda: history()["journal_failing"])
    t.contains(daemon.log(), "/denials cannot be written: No space left on device", "told")
    for event in "kill", "stop", "kill", "away":
        asker.settle() # nothing is in flight, so that all is exact
        if event == "away":
            cluster.stop("immediate")
            asker.run(1000)
            asker.settle()
        daemon.kill() if event != "stop" else t.equal(daemon.stop(), 0, "stopped")
        asker.lose()
        told = daemon.log().count("there is no room to write")
        if event == "away": # never loaded, all it has is the spool and the journal
            daemon.start(wait="socket")
            asker.run(500)
            asker.settle()
            cluster.start()
            wait_until("the copy", lambda: daemon.stats()["loaded"])
        else:
            daemon.start()
        t.equal(daemon.log().count("there is no room to write"), told + 1, f"told after {event}")
        wait_until("the journal's trouble", lambda: history()["journal_failing"])
        t.contains(history()["journal_trouble"], "No space left", "which is shown")
        revoked(f"it after {event}")
        asker.run(3000)
    # Another size is not given to the spool, and that is no reason not to start.
    asker.settle()
    wait_until("an empty spool", lambda: daemon.stats()["ledger"]["spool_records"] == 0)
    t.equal(daemon.stop(), 0, "stopped")
    daemon.settings["ledger.spool_bytes"] = "2M"
    daemon.write_conf()
    daemon.start()
    t.equal(daemon.stats()["ledger"]["spool_unsized"], 1, "the size from before")
    t.contains(daemon.log(), "there is no room for a spool of [ledger] spool_bytes = 2097152", "told")
    asker.lose()
    asker.run(1000)
    asker.settle()
    disk.free()
    t.equal(daemon.stop(), 0, "stopped")
    daemon.start()
    t.equal((daemon.stats()["ledger"]["spool_unsized"], history()["journal_failing"]), (0, False), "with room all is well")
    revoked("it with room")
    daemon.stop()
    t.equal(difference(counted(cluster), before), asker.answers, "all of it is in the ledger, once")
    t.equal(faults(cluster), [], "verified")
    # The first start ever needs room, and says so.
    shutil.rmtree(state)
    os.mkdir(state, 0o700)
    disk.fill()
    daemon.start(wait=False)
    t.equal(daemon.process.wait(WAIT), 1, "refused")
    t.contains(daemon.log(), "state/denials: No space left on device; make room on that file system", "and told why")
    daemon.process = None


def test_disk_of_the_database_full(t):
    cluster = t.keep(Cluster().start().install(demo=True))
    disk = t.keep(SmallDisk("1m", "postgres" if os.geteuid() == 0 else None))
    os.chmod(disk.path, 0o700)
    cluster, daemon = make_world(t, cluster)
    asker, before = make_asker(t, cluster, daemon)
    cluster.psql("-c", f"create tablespace small location '{disk.path}'")
    for table, in cluster.sql("select c.oid::regclass::text from pg_class c join pg_inherits i on i.inhrelid = c.oid where "
                              "i.inhparent in ('apikeyd.ledger_event'::regclass, 'apikeyd.ledger_rollup'::regclass)"):
        cluster.psql("-c", f"alter table {table} set tablespace small")
    disk.fill()
    def ask_until(what, test):
        def step():
            asker.run(1500)
            asker.settle()
            return test(daemon.stats()["ledger"])
        wait_until(what, step)
    ask_until("a full disk", lambda stats: "No space left" in stats["trouble"] or "could not extend" in stats["trouble"])
    t.equal(daemon.stats()["ledger"]["state"], "failing", "it says so")
    t.equal(daemon.check(asker.keys[0], "incident:read", "acme")["reason"], "ok", "and answers")
    asker.answers["ok"] += 1
    daemon.kill()
    asker.lose()
    daemon.start()
    disk.free()
    cluster.psql("-c", "alter tablespace small owner to postgres") # and that the database is there
    wait_until("an empty spool", lambda: daemon.stats()["ledger"]["spool_records"] == 0)
    daemon.stop()
    t.equal(difference(counted(cluster), before), asker.answers, "all of it came, once")
    t.equal(faults(cluster), [], "verified")
    cluster.stop("immediate")


# ---- slow -----------------------------------------------------------------------------------------------------------

def test_database_too_slow_for_a_batch(t):
    """It gets fewer rows at a time, and more time where they are few: all come, once, and then as before."""
    cluster, daemon = make_world(t, settings={"database.statement_timeout_ms": "1000", "ledger.batch_rows": "500"},
                                 stacks={"full": full_stack("allows=full")})
    asker, before = make_asker(t, cluster, daemon)
    cluster.sql("create function public.slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.015); return new; end $$")
    cluster.sql("create trigger slow before insert on apikeyd.ledger_event for each row execute function public.slow()")
    cluster.stop("fast")
    with contextlib.closing(daemon.rpc()) as rpc:
        for _ in range(300):
            asker.answers[rpc.check(asker.keys[0], "incident:read", "acme", stack="full")["reason"]] += 1
        cluster.start()
        wait_until("it to be too slow", lambda: rpc.call("stats")["ledger"]["batch_rows"] <= 150)
        wait_until("an empty spool", lambda: rpc.call("stats")["ledger"]["spool_records"] == 0, seconds=4 * WAIT)
        stats = rpc.call("stats")["ledger"]
        t.ok(stats["batch_timeouts"] >= 2, f"too many, then too little time: {stats}")
        log = daemon.log()
        t.equal(log.count("the database did not take a batch of"), log.count("the database takes batches of") + 1, "told once")
        cluster.sql("drop trigger slow on apikeyd.ledger_event")

        def whole():
            asker.answers[rpc.check(asker.keys[0], "incident:read", "acme", stack="full")["reason"]] += 1
            stats = rpc.call("stats")["ledger"]
            return (stats["batch_rows"], stats["batch_timeout_ms"]) == (500, 1000)
        wait_until("batches as before", whole, seconds=4 * WAIT, step=0.05)
    t.contains(daemon.log(), "the database takes batches of 500 rows again", "told")
    daemon.stop()
    t.equal(difference(counted(cluster), before), asker.answers, "all of it came, once")
    t.equal(faults(cluster), [], "verified")


def test_statements_do_not_hold_verdicts_up(t):
    """There are many to make, one after the other: verdicts that take several batches come in between."""
    cluster, daemon = make_world(t, settings={"ledger.batch_rows": "1"}, start=False)
    cluster.sql("create function public.slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.1); return new; end $$")
    cluster.sql("create trigger slow before insert on apikeyd.ledger_batch for each row when (new.kind <> 'rows') execute function public.slow()")
    cluster.sql("select apikeyd.ledger_keep('events', '1 day')")
    cluster.sql("select apikeyd.ledger_ahead(current_date - 110, current_date - 10)")
    daemon.start()
    key = mint(daemon)
    wait_until("the first statement", lambda: daemon.stats()["ledger"]["statements"] > 0)
    with contextlib.closing(daemon.rpc()) as rpc:
        rpc.call("check_many", key, [["page:read", "acme"], ["page:read", "acme-cloud"]])
    wait_until("both of them", lambda: cluster.sql("select count(*) from apikeyd.ledger_rollup where key_id = %s and reason = 'ok'", key[4:14])[0][0] == 2)
    t.ok(len(cluster.sql("select kind from apikeyd.ledger_due() where kind <> 'rows'")) > 0, "there are statements to make still")
    daemon.stop()
    t.equal(faults(cluster), [], "verified")


# ---- several --------------------------------------------------------------------------------------------------------

def test_two_daemons_a_chain_each(t):
    cluster, one = make_world(t)
    asker, before = make_asker(t, cluster, one)
    two = t.keep(Daemon(cluster, {**one.settings, "socket.path": None, "admin.path": None, "state.directory": None}, pepper=one.pepper, start=False))
    two.settings.update({"socket.path": two.socket, "admin.path": two.admin_socket, "state.directory": two.state_dir,
                         "key.pepper_file": two.pepper_file, "stacks.dir": two.stack_dir})
    two.write_conf()
    two.start()
    other = t.keep(Asker(two, asker.keys))
    for _ in range(5):
        asker.run(2000)
        other.run(2000)
    asker.settle()
    other.settle()
    one.stop()
    two.stop()
    t.equal(difference(counted(cluster), before), asker.answers + other.answers, "together")
    t.equal(cluster.sql("select count(*) from apikeyd.ledger_chain where last_batch > 0")[0][0], 2, "two chains")
    t.equal(faults(cluster), [], "verified")
    # Two on one state directory are one too many.
    one.start()
    two.settings["state.directory"] = one.state_dir
    two.write_conf()
    two.start(wait=False)
    t.equal(two.process.wait(WAIT), 1, "refused")
    t.ok("another apikeyd has it" in two.log(), "and told why")
    two.process = None
    one.stop()


def test_a_copied_spool(t):
    """What was copied is found out: a chain of its own, and nothing is taken for what it is not."""
    cluster, one = make_world(t)
    key = mint(one)
    one.stop()
    kept = new_dir("kept")
    shutil.copy(os.path.join(one.state_dir, "ledger.spool"), kept)
    one.start()
    batches = one.stats()["ledger"]["batches"]
    one.check(key, "incident:read", "acme")
    wait_until("a batch", lambda: one.stats()["ledger"]["batches"] > batches)
    one.stop()
    shutil.copy(os.path.join(kept, "ledger.spool"), os.path.join(one.state_dir, "ledger.spool"))
    one.start()
    before = sum(counted(cluster).values())
    one.check(key, "incident:read", "acme")
    wait_until("the new chain", lambda: one.stats()["ledger"]["chains_begun"] == 1 and one.stats()["ledger"]["spool_records"] == 0)
    t.equal(sum(counted(cluster).values()) - before, 1, "the verdict is there")
    one.stop()
    t.ok("going on in a new chain" in one.log(), "the log says so")
    t.equal(cluster.sql("select count(*) from apikeyd.ledger_chain where last_batch > 0")[0][0], 2, "two chains")
    t.equal(faults(cluster), [], "verified")


def test_in_memory(t):
    cluster, daemon = make_world(t, settings={"state.directory": ""})
    key = mint(daemon)
    before = sum(counted(cluster).values())
    daemon.check(key, "incident:read", "acme")
    daemon.stop()
    t.ok(sum(counted(cluster).values()) > before, "a clean stop sends what there is")
    t.ok("verdicts that are not yet in the database are lost" in daemon.log(), "and it is warned of")


def test_compaction_and_pruning(t):
    """The daemon does what is due, in batches of its chain."""
    cluster, daemon = make_world(t)
    key = mint(daemon)
    daemon.stop()
    old = "(clock_timestamp() - interval '30 days')::date"
    cluster.sql(f"select apikeyd.ledger_ahead({old}, {old})")
    daemon.start()
    daemon.check(key, "incident:read", "acme")
    wait_until("what is due is done", lambda: daemon.stats()["ledger"]["statements"] > 0)
    daemon.stop()
    t.ok(cluster.sql("select count(*) from apikeyd.ledger_batch where kind <> 'rows'")[0][0] > 0, "statements")
    t.equal(faults(cluster), [], "verified")


if __name__ == "__main__":
    run(globals())
