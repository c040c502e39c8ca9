"""tests/bench/run calls this: builds a world of keys, starts apikeyd and the peers, loads each, prints ratios."""
import argparse
import atexit
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time

import msgpack

import changing
from world import APIKEYD, BUILD, Cluster, Daemon, base62, key_hash, make_key, new_dir, pg_bin, wait_until

LOAD = os.path.join(BUILD, "tests", "bench", "bench_load")
ECHO = os.path.join(BUILD, "tests", "bench", "bench_echo")
ORGANIZATIONS_PER_KEY, PAGES_PER_ORGANIZATION, USERS_PER_KEY = 100, 3, 10
SPOOL = "256M"  # room for each of the questions in each batch
UNRECORDED = "caller required penalty\nkey required store\naccount required rate\naudit none\n" # else as the default stack
SHAPES = [("1 connection, 1 in flight", 1, 1), ("16 x 1", 16, 1), ("16 x 32 pipelined", 16, 32)]

parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__, epilog="""What checks feel while 100,000
keys change in one transaction, and while everything is reloaded, is measured by changing.py at the end of the same run
(--rate; --no-changes leaves it out). The copy in memory alone, without daemon and database, is measured by
build/release/tests/bench/bench_copy: bytes a key, look-ups one by one and in passes, how fast changes are applied.""")
parser.add_argument("--keys", type=int, default=1_000_000, help="keys in the store (default %(default)s)")
parser.add_argument("--known", type=int, default=100_000, help="distinct keys that are asked about (default %(default)s)")
parser.add_argument("--seconds", type=float, default=3, help="of each measurement (default %(default)s)")
parser.add_argument("--rounds", type=int, default=3, help="of each shape, servers in turn; medians are shown (default %(default)s)")
parser.add_argument("--rate", type=float, default=2000, help="checks a second while things change (default %(default)s)")
parser.add_argument("--no-changes", action="store_true", help="leave out what checks feel of changes")
parser.add_argument("--smoke", action="store_true", help="a tiny world and short measurements: shows that all of it runs")
parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
parser.add_argument("--no-database", action="store_true", help="leave pgbench out")
args = parser.parse_args()
if args.smoke:
    args.keys, args.known, args.seconds, args.rounds = 2000, 500, 0.3, 1


def say(text):
    if not args.json:
        print(text, flush=True)


def progress(text):
    print(f"  … {text}", file=sys.stderr, flush=True)


# ---- the world --------------------------------------------------------------------------------------------------

def make_world(cluster, pepper, keys, known):
    """`keys` keys, of which the first `known` have a text; ids are decimal numbers, which are base62 as well."""
    organizations = max(2, keys // ORGANIZATIONS_PER_KEY)
    users = max(2, keys // USERS_PER_KEY)
    connection = cluster.connect(autocommit=False)
    cursor = connection.cursor()
    cursor.execute("set local statement_timeout = 0")
    cursor.execute("insert into apikeyd.organization(id, slug, name) select i, 'org-' || i, 'Organization ' || i "
                   "from generate_series(1, %s) i", (organizations,))
    cursor.execute("insert into apikeyd.page(id, organization_id, slug, name) "
                   "select (i - 1) * %s + p, i, 'page-' || ((i - 1) * %s + p), 'Page' "
                   "from generate_series(1, %s) i, generate_series(1, %s) p",
                   (PAGES_PER_ORGANIZATION, PAGES_PER_ORGANIZATION, organizations, PAGES_PER_ORGANIZATION))
    cursor.execute("insert into apikeyd.user(id, email, name) select i, 'user' || i || '@example.com', 'User' "
                   "from generate_series(1, %s) i", (users,))
    cursor.execute("insert into apikeyd.organization_member(organization_id, user_id, role) "
                   "select 1 + i %% %s, i, (array['viewer','editor','admin','owner'])[1 + i %% 4] "
                   "from generate_series(1, %s) i", (organizations, users))
    check = __import__("hashlib").blake2b(b"apikeyd pepper check v1", key=bytes.fromhex(pepper), digest_size=32).digest()
    cursor.execute("insert into apikeyd.pepper(version, check_value) values (1, %s)", (check,))
    texts = []
    import io
    rows = io.StringIO()
    for n in range(1, known + 1):
        organization = n % 2 == 0
        key_id = f"{n:010d}"
        text = make_key("organization" if organization else "user", key_id)
        owner = 1 + n % (organizations if organization else users)
        texts.append((text, organization, owner))
        rows.write("\t".join([key_id, "organization" if organization else "user", str(owner) if organization else "\\N",
                              "\\N" if organization else str(owner), "write" if organization else "\\N",
                              "\\\\x" + key_hash(text, pepper).hex(), "1"]) + "\n")
    rows.seek(0)
    cursor.copy_expert("copy apikeyd.key(id, kind, organization_id, user_id, access, hash, pepper_version) from stdin", rows)
    cursor.execute("""insert into apikeyd.key(id, kind, organization_id, user_id, access, hash, pepper_version)
        select lpad(n::text, 10, '0'), case when n %% 2 = 0 then 'organization' else 'user' end,
               case when n %% 2 = 0 then 1 + n %% %s end, case when n %% 2 = 1 then 1 + n %% %s end,
               case when n %% 2 = 0 then 'read' end, sha256(n::text::bytea), 1
        from generate_series(%s, %s) n""", (organizations, users, known + 1, keys))
    connection.commit()
    connection.close()
    # A million rows of administration at once: sealing them would take the database's time for minutes.
    cluster.psql("-c", "delete from apikeyd.ledger_unsealed", "-c", "vacuum analyze")
    return texts, organizations


ROLE_HAS_WRITE = {0: "viewer", 1: "editor", 2: "admin", 3: "owner"}


def question(text, organization, owner, organizations, chance):
    """One question with the reason that must come back."""
    scope = chance.choice(["incident:read", "incident:write", "page:read"])
    home = owner if organization else 1 + owner % organizations
    foreign = chance.random() < 0.1
    place = home % organizations + 1 if foreign else home
    page = f"page-{(place - 1) * PAGES_PER_ORGANIZATION + 1 + chance.randrange(PAGES_PER_ORGANIZATION)}"
    if foreign:
        reason = "unknown_page"
    elif not organization and scope == "incident:write" and ROLE_HAS_WRITE[owner % 4] == "viewer":
        reason = "scope_not_granted"
    else:
        reason = "ok"
    return scope, page, reason


def write_requests(path, texts, organizations, pairs=0):
    chance = random.Random(1)
    with open(path, "wb") as out:
        for text, organization, owner in texts:
            if pairs:
                asked = []
                while len(asked) < pairs:
                    scope, page, reason = question(text, organization, owner, organizations, chance)
                    asked.append([scope, page])
                method, params, expected = "check_many", [text, asked], b""
            else:
                scope, page, reason = question(text, organization, owner, organizations, chance)
                method, params, expected = "check", [text, scope, page], reason.encode()
            message = msgpack.packb([0, 0xffffffff, method, params])
            assert message[2] == 0xce
            out.write(struct.pack("<HB", len(message), len(expected)) + expected + message)


# ---- servers and loads -------------------------------------------------------------------------------------------

CPUS = sorted(os.sched_getaffinity(0))


def pin(argv, cpu):
    return ["taskset", "-c", str(CPUS[cpu % len(CPUS)]), *argv]


def load(socket, connections, depth, requests=None, pairs=1):
    argv = [LOAD, "--socket", socket, "--connections", str(connections), "--depth", str(depth), "--seconds",
            str(args.seconds), "--pairs", str(pairs)] + (["--requests", requests] if requests else ["--raw"])
    done = subprocess.run(pin(argv, 1), stdout=subprocess.PIPE)
    if not done.stdout:
        raise SystemExit(f"{argv} ended with {done.returncode}")
    return json.loads(done.stdout)


def median(values):
    return sorted(values)[len(values) // 2]


def middle(results):
    """The run whose rate is the median, with the sums of what must be zero."""
    best = sorted(results, key=lambda r: r["per_second"])[len(results) // 2]
    return dict(best, **{k: sum(r[k] for r in results) for k in ("wrong", "lost", "duplicated") if k in best})


PGBENCH = """\\set n random(1, {known})
select k.id, k.revoked_at, k.expires_at, p.id, coalesce(pm.role, om.role, k.access), rs.scope
from apikeyd.key k
join apikeyd.page p on p.slug = 'page-' || (:n::int % {pages} + 1)
left join apikeyd.organization_member om on om.user_id = k.user_id and om.organization_id = p.organization_id
left join apikeyd.page_member pm on pm.user_id = k.user_id and pm.page_id = p.id
left join apikeyd.role_scope rs on rs.role = coalesce(pm.role, om.role, k.access) and rs.scope = 'incident' || chr(58) || 'read' -- pgbench would take a colon for a variable
     and rs.place = case when pm.role is not null then 'page' when om.role is not null then 'organization' else 'key' end
where k.id = lpad(:n::int::text, 10, '0') and k.hash is not null;
"""


def pgbench(cluster, clients, organizations):
    path = os.path.join(new_dir("pgbench"), "check.sql")
    with open(path, "w") as f:
        f.write(PGBENCH.format(known=args.known, pages=organizations * PAGES_PER_ORGANIZATION))
    for seconds in (1, 5, 25): # it says no rate where a busy machine let it end nothing in its time
        done = subprocess.run([pg_bin("pgbench"), "-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-T",
                               str(max(seconds, int(args.seconds))), "-f", path], env=cluster.env(), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        for line in done.stdout.splitlines():
            if line.startswith("tps ="):
                rate = float(line.split()[2])
                return {"per_second": rate, "p50_us": clients / rate * 1e6}
        if done.returncode:
            break
    raise SystemExit("pgbench: " + done.stderr)


def redis_get(connections, depth):
    """Redis GET over its Unix socket by its own load generator; None where it is not installed."""
    if not shutil.which("redis-server") or not shutil.which("redis-benchmark"):
        return None
    path = os.path.join(new_dir("redis"), "redis.sock")
    server = subprocess.Popen(pin(["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"], 0),
                              stdout=subprocess.DEVNULL)
    try:
        wait_until("redis", lambda: os.path.exists(path))
        requests = int({(1, 1): 15000, (16, 1): 150000, (16, 32): 700000}[(connections, depth)] * args.seconds)
        done = subprocess.run(pin(["redis-benchmark", "-s", path, "-c", str(connections), "-P", str(depth), "-n",
                                   str(requests), "-r", str(args.known), "-t", "get", "--csv"], 1),
                              stdout=subprocess.PIPE, text=True)
        fields = done.stdout.splitlines()[-1].replace('"', "").split(",")
        return {"per_second": float(fields[1]), "p50_us": float(fields[4]) * 1000 if len(fields) > 4 else 0}
    finally:
        server.terminate()
        server.wait()


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


def revoke_latency(cluster, daemon, texts, times):
    """From COMMIT of a revocation to the first check that sees it, milliseconds, idle daemon."""
    connection = cluster.connect()
    cursor = connection.cursor()
    rpc = daemon.rpc()
    taken = []
    for text, _, _ in texts[-times:]:
        key_id = text[4:14]
        cursor.execute("update apikeyd.key set revoked_at = now() where id = %s", (key_id,))
        begin = time.monotonic()
        while rpc.check(text, "page:read", "page-1")["reason"] != "revoked":
            pass
        taken.append((time.monotonic() - begin) * 1000)
        time.sleep(0.02)
    rpc.close()
    connection.close()
    taken.sort()
    return {"p50_ms": taken[len(taken) // 2], "p99_ms": taken[min(len(taken) - 1, int(len(taken) * 0.99))], "n": len(taken)}


def felt(cluster, daemon, texts, organizations, work):
    """p50 and p99 before, during and after a transaction that touches many keys, and a reload of everything."""
    count = min(100_000, len(texts))
    ends = [texts[0][0], texts[count - 1][0]]
    requests = os.path.join(work, "felt")
    write_requests(requests, [t for t in texts if t[0] not in ends], organizations)
    for task in os.listdir(f"/proc/{daemon.process.pid}/task"): # and what it starts: the load has a core of its own
        os.sched_setaffinity(int(task), CPUS)
    connection = cluster.connect(autocommit=False)
    cursor = connection.cursor()
    cursor.execute("set statement_timeout = 0")
    ids = [text[4:14] for text in ends]

    def commit(*statements):
        for statement in statements:
            cursor.execute(statement, {"ids": ids, "count": count} if "%(" in statement else None)
        cursor.execute("select apikeyd.revision()")
        begin = time.monotonic()
        connection.commit()
        return begin

    def many():
        return commit("update apikeyd.key set expires_at = timestamptz '2090-01-01' + random() * interval '1 day', "
                      "disabled_at = case when id = any(%(ids)s) then now() end where id <= lpad(%(count)s::text, 10, '0')")

    def everything():
        return commit("update apikeyd.key set disabled_at = now() where id = any(%(ids)s)", "select apikeyd.force_reload()")

    got = {}
    # The generator must not be what waits: its own turn comes first, where that is allowed.
    first = ["nice", "-n", "-10"] if os.geteuid() == 0 else []
    for name, change in ((f"{count} keys change in one transaction", many), (f"a reload of {args.keys} keys", everything)):
        rpc = daemon.rpc()
        got[name] = changing.measure(LOAD, daemon.socket, requests, args.rate, work, lambda argv: first + argv,
                                     args.seconds, rpc, ends, "page-1", "disabled", change)
        rpc.close()
        commit("update apikeyd.key set disabled_at = null where id = any(%(ids)s)")
        time.sleep(0.5)
    connection.close()
    return got


def main():
    pepper = "5a" * 32
    progress(f"a PostgreSQL cluster with {args.keys} keys")
    cluster = Cluster({"shared_buffers": "256MB", "max_wal_size": "4GB"}).start().install()
    texts, organizations = make_world(cluster, pepper, args.keys, args.known)
    work = new_dir("load")
    single, many = os.path.join(work, "check"), os.path.join(work, "check_many")
    write_requests(single, texts, organizations)
    write_requests(many, texts[:2000], organizations, pairs=64)

    empty = Cluster().start().install()
    bare = Daemon(empty, settings={"log.level": "info", "ledger.spool_bytes": SPOOL})
    empty_kib = resident_kib(bare.process.pid)
    bare.close()
    empty.close()

    progress("apikeyd loads it")
    begin = time.monotonic()
    unrecorded = os.path.join(new_dir("plain"), "plain.sock")
    daemon = Daemon(cluster, settings={"log.level": "info", "freshness.max_stale_ms": "60000", "ledger.spool_bytes": SPOOL,
                                       "socket plain.path": unrecorded, "socket plain.stack": "plain"},
                    stacks={"plain": UNRECORDED}, pepper=pepper)
    loaded = time.monotonic() - begin
    for task in os.listdir(f"/proc/{daemon.process.pid}/task"):
        os.sched_setaffinity(int(task), {CPUS[0]})
    memory_kib = resident_kib(daemon.process.pid) - empty_kib

    echo_socket = os.path.join(work, "echo.sock")
    echo = subprocess.Popen(pin([ECHO, echo_socket], 0), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atexit.register(echo.kill)
    wait_until("the echo server", lambda: os.path.exists(echo_socket))

    table, raw = [], {}
    for name, connections, depth in SHAPES:
        progress(name)
        runs = {"apikeyd": [], "unrecorded": [], "echo": [], "redis": [], "postgres": []}
        for _ in range(args.rounds):
            runs["echo"].append(load(echo_socket, connections, depth))
            runs["apikeyd"].append(load(daemon.socket, connections, depth, single))
            runs["unrecorded"].append(load(unrecorded, connections, depth, single))
            got = redis_get(connections, depth)
            if got:
                runs["redis"].append(got)
            if depth == 1 and not args.no_database:
                runs["postgres"].append(pgbench(cluster, connections, organizations))
        raw[name] = {k: middle(v) for k, v in runs.items() if v}
        table.append((name, raw[name]))
    many_run = middle([load(daemon.socket, 16, 1, many, pairs=64) for _ in range(args.rounds)])
    raw["check_many of 64"] = {"apikeyd": many_run}
    echo.send_signal(signal.SIGTERM)
    echo.wait()
    # What was recorded so far is not what checks feel of changes.
    progress("the ledger is brought up to date")
    for flush_ms in ("100", None):
        daemon.settings["ledger.flush_ms"] = flush_ms
        daemon.write_conf()
        daemon.process.send_signal(signal.SIGHUP)
        if flush_ms:
            wait_until("an empty spool", lambda: daemon.stats()["ledger"]["spool_records"] == 0, 600)
    changed = {}
    if not args.no_changes:
        progress("what checks feel of changes")
        changed = felt(cluster, daemon, texts, organizations, work)
    progress("revocations")
    revoked = revoke_latency(cluster, daemon, texts, 20 if args.smoke else 200)

    def ratio(ours, theirs):
        return f"{ours / theirs:.2f}" if theirs else "-"

    for name, got in table:
        ours = got["apikeyd"]
        say(f"\n{name}")
        say(f"  {'server':<28}{'checks/s':>12}{'p50 us':>10}{'p99 us':>10}   apikeyd to it: rate  p50")
        for server, label in (("apikeyd", "apikeyd"), ("unrecorded", "... without the ledger"), ("echo", "bare libuv echo (the floor)"), ("redis", "Redis GET"),
                              ("postgres", "PostgreSQL, prepared query")):
            if server in got:
                it = got[server]
                say(f"  {label:<28}{it['per_second']:>12.0f}{it.get('p50_us', 0):>10.1f}{it.get('p99_us', 0):>10.1f}"
                    f"   {ratio(ours['per_second'], it['per_second']):>19}  {ratio(ours['p50_us'], it.get('p50_us'))}")
    deep = raw["16 x 32 pipelined"]["apikeyd"]["per_second"]
    wrong = sum(v.get(k, 0) for shape in raw.values() for v in shape.values() for k in ("wrong", "lost", "duplicated"))
    wrong += sum(got["wrong"] for got in changed.values())
    say(f"\ncheck_many of 64: {many_run['per_second']:.0f} checks/s; a check in it costs "
        f"{deep / many_run['per_second']:.2f} of a pipelined one")
    say(f"start to the first answer from a complete copy: {loaded:.1f} s, {args.keys / loaded:.0f} keys/s")
    say(f"memory beyond an empty daemon: {memory_kib} KiB, {memory_kib * 1024 / args.keys:.0f} bytes a key")
    say(f"commit of a revocation to the first check that sees it, {revoked['n']} times: p50 {revoked['p50_ms']:.2f} ms, "
        f"p99 {revoked['p99_ms']:.2f} ms")
    for name, got in changed.items():
        say(f"\n{name}: visible {got['visible_s']:.2f} s after COMMIT, {args.rate:.0f} checks/s beside it, half of it seen "
            f"{got['halves']} times (of {got['asked']} looks)")
        say(f"  {'':<10}{'p50 us':>10}{'p99 us':>10}   to before: p50   p99")
        for phase in ("before", "during", "after"):
            it, before = got[phase], got["before"]
            say(f"  {phase:<10}{it['p50_us']:>10.0f}{it['p99_us']:>10.0f}   {ratio(it['p50_us'], before['p50_us']):>14}  "
                f"{ratio(it['p99_us'], before['p99_us']):>4}")
    say(f"\nanswers lost, duplicated or wrong: {wrong}")
    if args.json:
        print(json.dumps({"keys": args.keys, "shapes": raw, "load_seconds": loaded, "memory_kib": memory_kib,
                          "revocation": revoked, "changes": changed, "wrong": wrong}))
    daemon.close()
    cluster.close()
    if args.smoke:
        print("1..1\n" + ("ok" if not wrong else "not ok") + " 1 - bench: every answer under load is there and right")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
