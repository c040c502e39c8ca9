"""tests/bench/ledger_views calls this: a ledger of many roll-up rows, and what the auditor's views and functions take."""
import argparse
import json
import time

from plans import Watch, fill, questions
from world import Cluster

parser = argparse.ArgumentParser(prog="tests/bench/ledger_views", description=__doc__)
parser.add_argument("--rows", type=int, default=10_000_000, help="roll-up rows: four tenths minutes, three hours, three days; and a twentieth as many events (default %(default)s)")
parser.add_argument("--keys", type=int, default=100_000, help="keys, of which nine tenths are used (default %(default)s)")
parser.add_argument("--administration", type=int, default=1_000_000, help="rows of administration (default %(default)s)")
parser.add_argument("--batches", type=int, default=1_000_000, help="batches of a chain, one each 10 s (default %(default)s)")
parser.add_argument("--smoke", action="store_true", help="a tiny ledger: shows that all of it runs")
parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
parser.add_argument("--only", default="", help="only questions whose name has this")
args = parser.parse_args()
if args.smoke:
    args.rows, args.keys, args.administration, args.batches = 20_000, 1_000, 2_000, 2_000


def main():
    cluster = Cluster({"shared_buffers": "512MB", "max_wal_size": "8GB", "autovacuum": "off"}).start().install()
    began = time.monotonic()
    fill(cluster, args.rows, args.keys, args.administration, args.batches)
    filled = time.monotonic() - began
    counted = cluster.sql("select (select count(*) from apikeyd.ledger_rollup) + (select count(*) from apikeyd.ledger_hour) + (select count(*) from apikeyd.ledger_day)")[0][0]
    size = cluster.sql("select pg_size_pretty(sum(pg_total_relation_size(c.oid))) from pg_class c where c.relnamespace = 'apikeyd'::regnamespace and c.relkind = 'r' and c.relname ~ '^ledger_'")[0][0]
    connection = cluster.connect()
    watch = Watch(connection, pages=64)
    results = []
    for name, sql in questions(args.keys):
        if args.only not in name:
            continue
        times = []
        for _ in range(3):
            began = time.monotonic()
            watch.cursor.execute(sql)
            watch.cursor.fetchall()
            times.append((time.monotonic() - began) * 1000)
        how, whole = watch.judge(watch.how(sql))
        results.append({"question": name, "first_ms": round(times[0], 1), "ms": round(min(times[1:]), 1), "how": how, "whole": whole})
    full = {table: len(partitions) for table, partitions in sorted(watch.full.items())}
    if args.json:
        print(json.dumps({"rows": counted, "size": size, "partitions": full, "keys": args.keys, "administration": args.administration, "batches": args.batches,
                          "filled_s": round(filled, 1), "questions": results}))
        return
    print(f"{counted} roll-up rows of {args.keys} keys, {args.administration} rows of administration, {args.batches} batches, {size} with indexes; filled in {filled:.0f} s")
    print("tables and partitions of more than 64 pages: " + ", ".join(f"{table} {count}" for table, count in full.items()))
    print(f"{'':40}{'first':>12}{'again':>13}   how the ledger was read (-: not at all)")
    for r in results:
        how = ", ".join(r["how"] + ["READS ALL OF " + table for table in r["whole"]]) or "-"
        print(f"{r['question']:40}{r['first_ms']:>9} ms{r['ms']:>10} ms   {how}")


main()
