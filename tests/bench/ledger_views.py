"""tests/bench/ledger_views calls this: a ledger of many roll-up rows, and what the auditor's views and functions take."""
import argparse
import json
import os
import re
import time

from world import Cluster

parser = argparse.ArgumentParser(prog="tests/bench/ledger_views", description=__doc__)
parser.add_argument("--rows", type=int, default=10_000_000, help="roll-up rows: four tenths minutes, three hours, three days (default %(default)s)")
parser.add_argument("--keys", type=int, default=100_000, help="keys, of which nine tenths are used (default %(default)s)")
parser.add_argument("--smoke", action="store_true", help="a tiny ledger: shows that all of it runs")
parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
args = parser.parse_args()
if args.smoke:
    args.rows, args.keys = 20_000, 1_000

KEY = "lpad({}::text, 10, '0')"
ORGANIZATIONS = 200
WORLD = f"""
insert into apikeyd.organization (id, slug) select i, 'org-' || i from generate_series(1, {ORGANIZATIONS}) i;
insert into apikeyd.page (id, organization_id, slug) select i, 1 + i % {ORGANIZATIONS}, 'page-' || i from generate_series(1, {10 * ORGANIZATIONS}) i;
insert into apikeyd.pepper (version, check_value) values (1, sha256('p'));
insert into apikeyd.key (id, kind, organization_id, access, hash, pepper_version)
  select {KEY.format('i')}, 'organization', 1 + i % {ORGANIZATIONS}, 'write', sha256(i::text::bytea), 1 from generate_series(0, {args.keys - 1}) i;
select apikeyd.ledger_ahead((now() - interval '8 days')::date, now()::date);
select apikeyd.ledger_ahead((now() - interval '95 days')::date, (now() - interval '9 days')::date);
select apikeyd.ledger_ahead((now() - interval '366 days')::date, (now() - interval '366 days')::date);
"""
# A used key has a few scopes and pages of its organization; one row in 20 is a denial, one in 40 of a key that is none.
ROW = """insert into apikeyd.ledger_{table} (chain, batch, n, {span}, verdict, reason, stack, caller_uid, key_id, scope, page, addr, count, first_at, last_at)
select '6b1c1b0e-0000-4000-8000-00000000000a', {base} + i / 1000, i % 1000 + 1, s.at,
  case when i % 20 = 0 then 'deny' else 'allow' end, case when i % 40 = 0 then 'unknown_key' when i % 20 = 0 then 'scope_not_granted' else 'ok' end, 'default', 1000 + i % 3,
  case when i % 40 <> 0 then """ + KEY.format("k") + """ end, case when i % 40 <> 0 then (array['incident:read', 'incident:write', 'metric:push', 'page:read'])[1 + (i / 7) % 4] end,
  case when i % 40 <> 0 then 'page-' || (k % {orgs} + {orgs} * ((i / 11) % 3)) end, case when i % 40 = 0 then '192.0.2.0'::inet + (i / 40) % 200 end, 1 + i % 9, s.at, s.at + interval '30 s'
from (select i, (i * 7919::bigint % {used})::int as k from generate_series({first}, {last}) i) as g,
  lateral (select date_trunc('{unit}', now() - ({offset} + {length} * (i - {first}) / {number}.0) * interval '1 day', 'UTC') as at) as s"""


def fill(cluster):
    parts = (("rollup", "minute", "minute", 4, 0, 7), ("hour", "hour", "hour", 3, 8, 85), ("day", "day_of", "day", 3, 94, 270))
    for base, (table, span, unit, share, offset, length) in enumerate(parts):
        number, step = args.rows * share // 10, 500_000
        for first in range(0, number, step):
            last = min(first + step, number)
            cluster.psql("-c", "set synchronous_commit = off", "-c", ROW.format(
                table=table, span=span, unit=unit, base=base * 1_000_000 + 1 + first // 1000, first=first, last=last - 1, number=last - first,
                used=args.keys * 9 // 10, orgs=ORGANIZATIONS, offset=offset + length * first / number, length=length * (last - first) / number))
    cluster.psql("-c", "vacuum (analyze)")


one = KEY.format("12345" if args.keys > 12345 else "123")
QUESTIONS = (
    ("key_usage of one key", f"select * from apikeyd.key_usage where key_id = {one}"),
    ("key_last_used of one key", f"select * from apikeyd.key_last_used where key_id = {one}"),
    ("key_last_used, all", "select count(last_used_at) from apikeyd.key_last_used"),
    ("keys_never_used, all", "select count(*) from apikeyd.keys_never_used"),
    ("never_used_scopes of one key", f"select * from apikeyd.never_used_scopes where key_id = {one}"),
    ("never_used_pages of one key", f"select * from apikeyd.never_used_pages where key_id = {one}"),
    ("never_used_scopes of an organization", "select count(*) from apikeyd.never_used_scopes where owner = 'org-7'"),
    ("denials of the last hour", "select * from apikeyd.denials where at > now() - interval '1 hour'"),
    ("denials of one key", f"select * from apikeyd.denials where key_id = {one}"),
    ("busiest of a day", "select * from apikeyd.busiest('1 day')"),
    ("bad_key_sources of a day", "select * from apikeyd.bad_key_sources('1 day')"),
    ("bad_key_sources of all time", "select * from apikeyd.bad_key_sources('10 years')"),
    ("who_can on a page", "select count(*) from apikeyd.who_can('incident:write', 'page-7')"),
    ("what_can of a key", f"select count(*) from apikeyd.what_can({one})"),
    ("access_changes on a page, a day", "select count(*) from apikeyd.access_changes('page-7', now() - interval '1 day')"),
    ("administration of the last hour", "select count(*) from apikeyd.administration where at > now() - interval '1 hour' and action = 'update'"),
)


def scans(plan, found, full):
    """How each partition of the ledger that has rows was read."""
    relation = plan.get("Relation Name", "")
    if re.match(r"ledger_(event|rollup|hour|day)_\d", relation) and relation in full and plan.get("Actual Loops", 0):
        found.setdefault(plan["Node Type"], set()).add(relation)
    for child in plan.get("Plans", ()):
        scans(child, found, full)
    return found


def main():
    cluster = Cluster({"shared_buffers": "512MB", "max_wal_size": "8GB", "autovacuum": "off"}).start().install()
    began = time.monotonic()
    cluster.psql("-c", WORLD)
    fill(cluster)
    filled = time.monotonic() - began
    rows, size = cluster.sql("""select (select count(*) from apikeyd.ledger_rollup) + (select count(*) from apikeyd.ledger_hour) + (select count(*) from apikeyd.ledger_day),
                                pg_size_pretty(sum(pg_total_relation_size(i.inhrelid))) from pg_inherits i join pg_class c on c.oid = i.inhparent where c.relname like 'ledger\\_%'""")[0]
    partitions = cluster.sql("select count(*) from pg_inherits i join pg_class c on c.oid = i.inhparent where c.relname like 'ledger\\_%' and c.relkind = 'p'")[0][0]
    full = {row[0] for row in cluster.sql("select c.relname from pg_class c where c.relnamespace = 'apikeyd'::regnamespace and c.relispartition and c.relkind = 'r' and c.relpages > 0")}
    results = []
    connection = cluster.connect()
    cursor = connection.cursor()
    for name, sql in QUESTIONS:
        times = []
        for _ in range(3):
            began = time.monotonic()
            cursor.execute(sql)
            cursor.fetchall()
            times.append((time.monotonic() - began) * 1000)
        cursor.execute("explain (analyze, format json) " + sql)
        how = scans(cursor.fetchall()[0][0][0]["Plan"], {}, full)
        results.append({"question": name, "first_ms": round(times[0], 1), "ms": round(min(times[1:]), 1), "partitions": {k: len(v) for k, v in sorted(how.items())}})
    if args.json:
        print(json.dumps({"rows": rows, "size": size, "partitions": partitions, "keys": args.keys, "filled_s": round(filled, 1), "questions": results}))
        return
    print(f"{rows} roll-up rows of {args.keys} keys in {len(full)} of {partitions} partitions, {size} with indexes; filled in {filled:.0f} s")
    print(f"{'':40}{'first':>10}{'again':>10}   how the partitions that have rows were read (-: by a function)")
    for r in results:
        print(f"{r['question']:40}{r['first_ms']:>7} ms{r['ms']:>7} ms   " + (", ".join(f"{count} {how}" for how, count in r["partitions"].items()) or "-"))


main()
