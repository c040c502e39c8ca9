"""
Every kind of edit on every table of the ledger is found, and where. The attacker is a superuser, with all triggers off, in a transaction
that is rolled back after verification has seen it. What the heads alone cannot show, a tail cut off with the chain's own record of it,
test_audit.py shows with MACs and anchors.
"""
from world import *
from ledger_rows import *
import re
import psycopg2

NOW = datetime.datetime.now(datetime.timezone.utc)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
TABLES = ("chain", "batch", "part", "event", "rollup", "hour", "day", "admin", "seal", "unsealed", "setting")
# What no head is made of, and why that is no matter.
FREE = {("ledger_chain", "host"): "for people", ("ledger_chain", "made_at"): "for people", ("ledger_batch", "stored_at"): "the daemon does not know it",
        ("ledger_batch", "mac"): "a wrong one is found with the pepper, by apikeyctl audit verify"}


def at(days, minutes=0):
    return TODAY - datetime.timedelta(days=days) + datetime.timedelta(minutes=minutes)


def stage():
    """Two chains, over four days, with all kinds of batches."""
    if hasattr(stage, "cluster"):
        return stage
    stage.cluster = cluster = Cluster().start().install()
    stage.one = one = Chain(cluster.connect(autocommit=False), host="one")
    stage.two = two = Chain(cluster.connect(autocommit=False), host="two")
    cluster.sql("insert into apikeyd.organization (id, slug) values (1, 'acme'), (2, 'umbra')")
    cluster.sql("insert into apikeyd.page (id, organization_id, slug) values (1, 1, 'acme-page')")
    one.write([rollup(at(40, m), key_id="TamperKey1", scope="page:read", page="acme-page", count=m + 1) for m in range(5)]
              + [event(at(40, m), key_id="TamperKey1", scope="page:write", page="acme-page") for m in range(3)], made_at=at(40, 10))
    two.write([rollup(at(40, m), "deny", "unknown_key", addr="192.0.2.7", count=100) for m in range(3)], made_at=at(40, 10))
    # the hours of that day go on to days, and its events go
    stage.compacted = one.state("compaction", "rollup", at(40).date())
    stage.month = two.state("compaction", "hour", at(40).date())
    stage.pruned = two.state("pruning", "event", at(40).date())
    one.write([rollup(at(39, m), key_id="TamperKey2", scope="page:read", count=3) for m in range(4)], made_at=at(39, 10))
    two.state("compaction", "rollup", at(39).date())
    # across midnight, both tables
    stage.rows = one.write([event(at(2, -1), key_id="TamperKey1", scope="page:read", page="acme-page", addr="192.0.2.1", org="acme"),
                            event(at(2, 1), key_id="TamperKey1", scope="page:read", page="acme-page"), event(at(2, 2), "unavailable", "stale"),
                            rollup(at(2, -1), key_id="TamperKey1", scope="page:read", page="acme-page", count=10),
                            rollup(at(2, 1), key_id="TamperKey1", scope="page:read", page="acme-page", count=11),
                            rollup(at(2, 1), key_id="TamperKey2", scope="page:read", page="acme-page", count=12)], made_at=at(2, 3), lost=2)
    cluster.sql("update apikeyd.organization set name = 'Acme' where id = 1")
    cluster.sql("delete from apikeyd.page where id = 1")
    stage.sealing = two.write([rollup(at(1, 1), "deny", "malformed_key", addr="2001:db8:1:2::/64", count=5)], made_at=at(1, 2))
    one.write(made_at=at(1, 3))
    two.write([event(at(1, 5), key_id="TamperKey1"), event(at(1, 5), key_id="TamperKey1"), event(at(1, 6), key_id="TamperKey2")], made_at=at(1, 8))
    cluster.sql("update apikeyd.organization set name = 'Umbra' where id = 2")
    return stage


def verify(cursor):
    cursor.execute("select severity, chain::text, batch, place, problem from apikeyd.ledger_verify()")
    return cursor.fetchall()


class Attack:
    """with Attack() as a: a.do(sql); a.found() → the faults; then it is as it was."""

    def __enter__(self):
        self.connection = stage().cluster.connect(autocommit=False)
        self.cursor = self.connection.cursor()
        for name in TABLES:
            self.cursor.execute(f"alter table apikeyd.ledger_{name} disable trigger all")
        return self

    def __exit__(self, *_):
        self.connection.rollback()
        self.connection.close()

    def do(self, text, *params):
        self.cursor.execute(text, params or None)
        return self.cursor.fetchall() if self.cursor.description else self.cursor.rowcount

    def found(self):
        for name in TABLES:
            self.cursor.execute(f"alter table apikeyd.ledger_{name} enable trigger all")
            self.cursor.execute(f"alter table apikeyd.ledger_{name} enable always trigger ledger_no_truncate")
            if name not in ("unsealed", "setting"):
                self.cursor.execute(f"alter table apikeyd.ledger_{name} enable always trigger ledger_no_change")
        return [row[1:] for row in verify(self.cursor) if row[0] == "fault"]


def test_what_daemons_wrote_is_whole(t):
    s = stage()
    with contextlib.closing(s.cluster.connect()) as connection:
        rows = verify(connection.cursor())
    t.equal([row for row in rows if row[0] == "fault"], [], "no faults")
    notes = [row[3] + ": " + row[4] for row in rows]
    t.equal(len(notes), 2, str(notes))
    t.contains(notes[0], "2 verdict(s) found no room", "what was lost")
    t.contains(notes[1], "not sealed yet", "the tail that is not sealed")
    t.contains(notes[1], "organization umbra", "and what it is")
    counted = s.cluster.sql("""select (select sum(count) from apikeyd.ledger_rollup), (select sum(count) from apikeyd.ledger_hour), (select sum(count) from apikeyd.ledger_day),
                               (select count(*) from apikeyd.ledger_event)""")[0]
    t.equal(tuple(map(int, counted)), (10 + 11 + 12 + 5, 12, 15 + 300, 6), "compaction keeps the sums")


def row_named(faults, batch, partition, n, what):
    """Whether a fault says of this row, by its number, what happened to it. A part whose rows are all gone has them as missing."""
    for chain, number, place, problem in faults:
        if (chain, number) == tuple(batch) and place.startswith(partition):
            if what == "missing" and re.search(rf"; n (\d+, )*{n}(, \d+)* missing", problem):
                return True
            if f"; n {n}: {what}" in problem and re.search(rf", n (\d+, )*{n}(, \d+)*$", place):
                return True
    return False


def columns(table):
    return stage().cluster.sql("""select a.attname, format_type(a.atttypid, null), a.attnotnull from pg_attribute a
                                  where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum""", "apikeyd." + table)


# Another value that the column's constraints let pass, for every type.
OTHER = {"uuid": "'00000000-0000-4000-8000-00000000dead'::uuid", "bytea": "sha256('other')", "timestamp with time zone": "{c} + interval '1 microsecond'",
         "integer": "{c} + 1000", "bigint": "{c} + 1000", "smallint": "({c} + 1)::smallint", "boolean": "not {c}", "date": "{c} + 1", "xid8": "'99'::xid8",
         "inet": "'198.51.100.1'::inet", "text": "'other'", "jsonb": "'{{\"other\": 1}}'::jsonb", "interval": "{c} + interval '1 day'"}
SPECIAL = {"verdict": "case {c} when 'deny' then 'allow' else 'deny' end", "kind": "case {c} when 'rows' then 'pruning' else 'rows' end",
           "tbl": "case {c} when 'hour' then 'day' else 'hour' end", "action": "case {c} when 'insert' then 'update' else 'insert' end"}


def test_every_column_of_every_row_table(t):
    """Each column of one row of each table, one at a time."""
    tried = 0
    for table in ("ledger_event", "ledger_rollup", "ledger_hour", "ledger_day", "ledger_batch", "ledger_part", "ledger_seal", "ledger_chain", "ledger_admin"):
        for name, kind, _ in columns(table):
            if (table, name) in FREE:
                continue
            with Attack() as a:
                where = "where id in (select admin_id from apikeyd.ledger_seal)" if table == "ledger_admin" else "where marks is not null" if name == "marks" else ""
                old = a.do(f"select ctid, tableoid::regclass::text, to_jsonb(r) from apikeyd.{table} r {where} order by 2, 1 limit 1")[0]
                a.do("alter table apikeyd.ledger_batch drop constraint ledger_batch_statement_agrees_with_kind, drop constraint ledger_batch_gone_names_a_batch")
                a.do("alter table apikeyd.ledger_part drop constraint ledger_part_gone_names_a_batch, drop constraint ledger_part_counts")
                value = SPECIAL.get(name, OTHER[kind]).format(c=f"coalesce({name}, {'0' if 'int' in kind else 'null'})" if kind != "boolean" else name)
                if table == "ledger_admin" and name == "id":
                    value = "default"
                a.do(f"update {old[1]} set {name} = {value} where ctid = %s", old[0])
                faults = a.found()
                t.ok(faults, f"{table}.{name} was changed, and nobody noticed")
                row = old[2]
                if "chain" in row and row.get("batch", row.get("last_batch")) is not None:
                    named = (row["chain"], row.get("batch", row.get("last_batch")))
                    t.ok(any(f[:2] == named or ((name in ("chain", "batch") or table == "ledger_chain") and f[0]) for f in faults), f"{table}.{name}: {named} is not named by {faults}")
                else:
                    t.ok(any(f"id {row['id']}" in f[2] for f in faults), f"{table}.{name}: id {row['id']} is not named by {faults}")
                if table in ("ledger_event", "ledger_rollup", "ledger_hour", "ledger_day"):
                    partition = old[1].split(".")[1]
                    t.ok(any(partition in f[2] for f in faults), f"{table}.{name}: {old[1]} is not named by {faults}")
                    what = "removed" if name in ("chain", "batch") else f"reordered, it was n {row['n']}" if name == "n" else "changed, it is now "
                    at_n = row["n"] + 1000 if name == "n" else row["n"]
                    alone = a.do("select rows from apikeyd.ledger_part where chain = %s and batch = %s and tbl = %s and gone_chain is null", row["chain"], row["batch"], table[7:])[0][0] == 1
                    t.ok(row_named(faults, (row["chain"], row["batch"]), partition, at_n, "missing" if alone and what == "removed" else what),
                         f"{table}.{name}: n {at_n} as {what} is not said by {faults}")
                tried += 1
    t.ok(tried > 80, f"only {tried} columns")


def test_every_row_removed(t):
    """Each row of each table, one at a time."""
    for table in ("ledger_event", "ledger_rollup", "ledger_hour", "ledger_day", "ledger_batch", "ledger_part", "ledger_seal", "ledger_chain", "ledger_admin", "ledger_unsealed"):
        rows = stage().cluster.sql(f"select ctid, tableoid::regclass::text, to_jsonb(r) from apikeyd.{table} r")
        t.ok(rows, f"{table} has rows")
        sealed = {row[0] for row in stage().cluster.sql("select admin_id from apikeyd.ledger_seal")}
        for place, partition, row in rows[:12]:
            if table == "ledger_admin" and row["id"] not in sealed:
                continue
            with Attack() as a:
                t.equal(a.do(f"delete from {partition} where ctid = %s", place), 1, "deleted")
                faults = a.found()
                t.ok(faults, f"{table}: {row} was removed, and nobody noticed")
                if "batch" in row:
                    t.ok(any(f[0] == row["chain"] for f in faults), f"{table}: {row['chain']} is not named by {faults}")
                if "n" in row and table != "ledger_seal":
                    t.ok(any(f[:2] == (row["chain"], row["batch"]) and ("removed" in f[3] or "gone" in f[3]) and partition.split(".")[1] in f[2] for f in faults), str(faults))
                    t.ok(any(row_named(faults, (row["chain"], row["batch"]), partition.split(".")[1], row["n"], what) for what in ("removed", "missing")),
                         f"{row['n']} is not named by {faults}")
                if "batch" in row and table == "ledger_batch":
                    t.ok(any("missing" in f[3] or "cut off" in f[3] for f in faults), str(faults))
                if table == "ledger_admin":
                    t.ok(any(f[2] == f"ledger_admin, id {row['id']}" and "removed" in f[3] for f in faults), str(faults))
                if table == "ledger_unsealed":
                    t.ok(any("inserted" in f[3] for f in faults), str(faults))


def copy_of(table, **other):
    """An INSERT of a copy of one row, with some columns otherwise."""
    names = [c for c, _, _ in columns(table)]
    return (f"insert into apikeyd.{table} ({', '.join(names)}) {'overriding system value ' if table == 'ledger_admin' else ''}"
            f"select {', '.join(other.get(c, c) for c in names)} from apikeyd.{table} where %s limit 1")


def test_rows_inserted(t):
    s = stage()
    one, two = s.one.chain, s.two.chain
    rows = f"chain = '{one}' and batch = {s.rows}"
    for name, text, named in (
            ("a roll-up beside others", copy_of("ledger_rollup", n="n + 100") % rows, (one, s.rows)),
            ("an event with a number that is there", copy_of("ledger_event", at="at + interval '1 second'") % rows, (one, s.rows)),
            ("an event of a batch that has none", copy_of("ledger_event", batch=str(s.sealing), chain=f"'{two}'::uuid") % rows, (two, s.sealing)),
            ("a roll-up of a batch that is none", copy_of("ledger_rollup", batch="1000") % rows, (one, 1000)),
            ("a roll-up of a chain that is none", copy_of("ledger_rollup", chain="gen_random_uuid()") % rows, None),
            ("an hour", copy_of("ledger_hour", n="n + 1") % "true", None),
            ("a day", copy_of("ledger_day", n="n + 100") % "true", None),
            ("a batch at the end", copy_of("ledger_batch", batch="batch + 1000") % rows, (one, s.rows + 1000)),
            ("a batch of a chain that is none", copy_of("ledger_batch", chain="gen_random_uuid()") % rows, None),
            ("a part", copy_of("ledger_part", part="part + 100", day="day + 100") % rows, (one, s.rows)),
            ("a seal", copy_of("ledger_seal", n="n + 100", admin_id="admin_id + 1000") % "true", None),
            ("administration", copy_of("ledger_admin", id="id + 1000") % "true", None)):
        with Attack() as a:
            t.equal(a.do(text), 1, name)
            faults = a.found()
            t.ok(faults, f"{name} was inserted, and nobody noticed")
            if named:
                t.ok(any(f[:2] == named for f in faults), f"{name}: {named} is not named by {faults}")
            if "roll-up" in name or "event" in name or "hour" in name or "day" in name:
                t.ok(any(re.search(r"; n \d+: inserted, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} (allow|deny|unavailable) ", f[3]) for f in faults), f"{name}: which is not said by {faults}")


def test_rows_reordered_and_moved(t):
    s = stage()
    rows = f"chain = '{s.one.chain}' and batch = {s.rows}"
    for table, where, key in (("ledger_event", rows + " and n in (2, 3)", "n"), ("ledger_rollup", rows + " and n in (5, 6)", "n"),
                              ("ledger_seal", f"batch = {s.sealing} and n in (1, 2)", "n"), ("ledger_part", rows + " and part in (1, 2)", "part")):
        with Attack() as a:
            two = [row[0] for row in a.do(f"select {key} from apikeyd.{table} where {where} order by 1")]
            t.equal(len(two), 2, table)
            for old, new in ((two[0], -7), (two[1], two[0]), (-7, two[1])):
                if table in ("ledger_seal", "ledger_part") and new == -7:
                    new = 7777
                if old == -7 and table in ("ledger_seal", "ledger_part"):
                    old = 7777
                a.do(f"update apikeyd.{table} set {key} = %s where {where.split(' and ')[0]} and {' and '.join(where.split(' and ')[1:-1]) or 'true'} and {key} = %s"
                     if table != "ledger_seal" else f"update apikeyd.{table} set n = %s where batch = {s.sealing} and n = %s", new, old)
            faults = a.found()
            t.ok(any((f[1] == s.rows and f[0] == s.one.chain) or table == "ledger_seal" and f[1] == s.sealing for f in faults), f"{table}: {faults}")
            if key == "n" and table != "ledger_seal":
                t.equal(len(faults), 1, f"one part: {faults}")
                t.contains(faults[0][3], f"; n {two[0]}: reordered, it was n {two[1]}; n {two[1]}: reordered, it was n {two[0]}", "which two")
    with Attack() as a: # two events of one batch that differ in nothing but n, which are another order of the same
        t.equal(a.do("update apikeyd.ledger_rollup set batch = batch + 1 where " + rows), 3, "moved")
        faults = a.found()
        t.ok({(s.one.chain, s.rows), (s.one.chain, s.rows + 1)} <= {f[:2] for f in faults}, f"moved to the next batch: {faults}")
    with Attack() as a: # batches in another order
        for old, new in ((1, 1001), (2, 1), (1001, 2)):
            a.do("update apikeyd.ledger_batch set batch = %s where chain = %s and batch = %s", new, s.two.chain, old)
        faults = a.found()
        t.ok(any(f[0] == s.two.chain and f[1] in (1, 2) for f in faults), f"batches: {faults}")


def test_marks_are_a_help_and_no_more(t):
    """The digest decides. Where marks are wrong as well, or missing, the part is named as it would be without them."""
    s = stage()
    rows = f"chain = '{s.one.chain}' and batch = {s.rows}"
    change = f"update apikeyd.ledger_rollup set reason = 'other' where {rows} and n = 5"
    with Attack() as a:
        a.do(change)
        faults = a.found()
        t.equal([f[:2] for f in faults], [(s.one.chain, s.rows)], str(faults))
        t.ok(faults[0][2].endswith(", part 4, n 5"), faults[0][2])
        t.contains(faults[0][3], f"; n 5: changed, it is now {at(2, 1):%Y-%m-%d %H:%M:%S}.000000 allow other key TamperKey1 page:read page acme-page count 11", "the row as it stands")
    with Attack() as a:
        a.do(f"update apikeyd.ledger_part p set marks = set_byte(marks, 7, 255 - get_byte(marks, 7)) where {rows} and part = 4")
        faults = a.found()
        t.equal([f[:2] for f in faults], [(s.one.chain, s.rows)], str(faults))
        t.contains(faults[0][3], "its marks are not those of its rows, though its digest is", "marks alone")
    with Attack() as a:
        a.do(change)
        a.do(f"update apikeyd.ledger_part p set marks = d.marks from apikeyd.ledger_part q, apikeyd.ledger_digest(q.tbl, q.day, q.chain, q.batch) d "
             f"where (p.chain, p.batch, p.part) = (q.chain, q.batch, q.part) and p.{rows.replace(' and ', ' and p.')} and p.part = 4")
        faults = a.found()
        t.equal([f[:2] for f in faults], [(s.one.chain, s.rows)], str(faults))
        t.ok(faults[0][2].endswith(", part 4"), faults[0][2])
        t.contains(faults[0][3], "which one cannot be said", "marks made anew")
    for marks in ("null", "''", "substring(marks for 3)", "'\\xff'::bytea || marks"):
        with Attack() as a:
            a.do(f"update apikeyd.ledger_part set marks = {marks} where {rows} and part = 4")
            a.do(change)
            a.do(f"delete from apikeyd.ledger_rollup where {rows} and n = 6")
            faults = [f for f in a.found() if f[0] == s.one.chain]
            t.equal([f[:2] for f in faults], [(s.one.chain, s.rows)], str(faults))
            t.contains(faults[0][2], ", part 4", "the part")
            t.contains(faults[0][3], "1 of 2 row(s) removed", "what")
            if marks == "null":
                t.ok(faults[0][3].endswith("; n 6 missing"), faults[0][3])
    with Attack() as a:
        a.do(copy_of("ledger_rollup", n="n + 1000 + i").replace("from apikeyd.ledger_rollup", "from apikeyd.ledger_rollup, generate_series(1, 15) i").replace("limit 1", "") % (rows + " and n = 5"))
        faults = a.found()
        t.contains(faults[0][3], "15 row(s) inserted beside the 2; n 1006: inserted, ", "many")
        t.ok(faults[0][3].endswith("; and 5 more"), faults[0][3])


def test_cut_off(t):
    s = stage()
    chain, last = s.two.chain, s.two.batch
    with Attack() as a: # the newest batch with all that it has
        for table in ("event", "rollup", "part", "seal", "batch"):
            a.do(f"delete from apikeyd.ledger_{table} where chain = %s and batch = %s", chain, last)
        t.ok(any(f[0] == chain and "cut off" in f[3] for f in a.found()), "a tail")
    with Attack() as a: # the oldest
        for table in ("event", "rollup", "part", "seal", "batch"):
            a.do(f"delete from apikeyd.ledger_{table} where chain = %s and batch = 1", s.one.chain)
        t.ok(any(f[:2] == (s.one.chain, 2) and "batches 1 to 1 are missing" in f[3] for f in a.found()), "a beginning")
    with Attack() as a: # ... and the chain said to be pruned
        for table in ("event", "rollup", "part", "seal", "batch"):
            a.do(f"delete from apikeyd.ledger_{table} where chain = %s and batch = 1", s.one.chain)
        a.do("update apikeyd.ledger_chain set pruned_batch = 1, pruned_head = %s where chain = %s", s.one.heads[1], s.one.chain)
        t.ok(any(f[0] == s.one.chain and "no statement says so" in f[3] for f in a.found()), "a beginning, as if pruned")
    for change in ("drop table apikeyd.{}", "alter table apikeyd.ledger_event detach partition apikeyd.{}"):
        with Attack() as a:
            partition = a.do("select tableoid::regclass::text from apikeyd.ledger_event where batch = %s order by at desc limit 1", s.rows)[0][0].split(".")[1]
            a.do(change.format(partition))
            t.ok(any(partition in f[2] and "gone" in f[3] for f in a.found()), change)
    with Attack() as a: # rows taken away as if a statement had said so
        a.do("delete from apikeyd.ledger_rollup where chain = %s and batch = %s", s.one.chain, s.rows)
        a.do("update apikeyd.ledger_part set gone_chain = %s, gone_batch = %s where chain = %s and batch = %s and tbl = 'rollup'", s.one.chain, s.compacted, s.one.chain, s.rows)
        t.ok(any(f[:2] == (s.one.chain, s.compacted) and "it says that" in f[3] for f in a.found()), "more than the statement says")


def test_a_batch_made_anew(t):
    """Row and part, or row, part and head, consistently made anew: then the head is another, or the next batch goes on from another."""
    s = stage()
    row = "update apikeyd.ledger_event set verdict = 'allow', reason = 'ok' where chain = %s and batch = %s and n = 2"
    part = """update apikeyd.ledger_part p set digest = d.digest, marks = d.marks from apikeyd.ledger_part q, apikeyd.ledger_digest(q.tbl, q.day, q.chain, q.batch) d
              where p.chain = q.chain and p.batch = q.batch and p.part = q.part and q.chain = %s and q.batch = %s"""
    head = """update apikeyd.ledger_batch b set head = apikeyd.ledger_head(b.chain, b.batch, b.kind, apikeyd.ledger_us(b.made_at), b.rows, b.lost, b.statement,
                b.pepper_version, b.prev_head, b.seals, b.seals_digest, (select jsonb_agg(jsonb_build_object('tbl', q.tbl, 'day', q.day, 'rows', q.rows,
                'counted', q.counted, 'digest', encode(q.digest, 'hex')) order by q.part) from apikeyd.ledger_part q where q.chain = b.chain and q.batch = b.batch))
              where b.chain = %s and b.batch = %s"""
    with Attack() as a:
        for text in (row, part):
            a.do(text, s.one.chain, s.rows)
        faults = a.found()
        t.ok(any(f[:2] == (s.one.chain, s.rows) and "head" in f[3] for f in faults), f"the head: {faults}")
    with Attack() as a: # ... but for the marks, which tell the row, then
        for text in (row, part.replace(", marks = d.marks", ""), head):
            a.do(text, s.one.chain, s.rows)
        faults = a.found()
        t.ok(row_named(faults, (s.one.chain, s.rows), "ledger_event_", 2, "changed, it is now "), f"the marks: {faults}")
    with Attack() as a:
        for text in (row, part, head):
            a.do(text, s.one.chain, s.rows)
        faults = a.found()
        t.equal([f[:2] for f in faults], [(s.one.chain, s.rows + 1)], f"the next: {faults}")
        t.contains(faults[0][3], "does not go on from the head of batch", "why")


def test_guards_off_are_told(t):
    with contextlib.closing(stage().cluster.connect(autocommit=False)) as connection:
        cursor = connection.cursor()
        cursor.execute("alter table apikeyd.ledger_event disable trigger ledger_no_change")
        faults = [row for row in verify(cursor) if row[0] == "fault"]
        t.equal([(f[3], f[4]) for f in faults], [("ledger_event", "trigger ledger_no_change is missing or not enabled: rows could be changed")], "by name")
        connection.rollback()


def test_what_is_broken_is_not_dropped(t):
    s = stage()
    with contextlib.closing(s.cluster.connect(autocommit=False)) as connection:
        cursor = connection.cursor()
        cursor.execute("alter table apikeyd.ledger_rollup disable trigger ledger_no_change")
        cursor.execute("delete from apikeyd.ledger_rollup where batch = %s and n = 4", (s.rows,))
        day = at(3).date()
        error = t.raises(psycopg2.errors.DataCorrupted, lambda: cursor.execute("select * from apikeyd.ledger_compact(%s, 100, 'rollup', %s)", (s.one.chain, day)), "compaction")
        t.contains(str(error), "all its 1 row(s) are gone", "it says what")
        connection.rollback()
        error = t.raises(psycopg2.errors.ObjectNotInPrerequisiteState, lambda: cursor.execute("select * from apikeyd.ledger_prune(%s, 100, 'event', %s)", (s.one.chain, NOW.date())), "today")
        connection.rollback()


def test_retention_to_the_end(t):
    """What the settings say goes, step by step, with verification whole after each; at the end only heads are left, and then they go, too."""
    cluster = t.keep(Cluster().start().install())
    chain = Chain(cluster.connect(autocommit=False))
    for days in (400, 399, 100, 40, 10, 2):
        chain.write([rollup(at(days, m), key_id="TamperKey1", scope="page:read", count=2) for m in range(0, 180, 30)]
                    + [event(at(days, m), key_id="TamperKey1") for m in range(3)], made_at=at(days, 200))
    cluster.sql("update apikeyd.organization set name = 'x'")
    due = [tuple(map(str, row)) for row in cluster.sql("select * from apikeyd.ledger_due()")]
    t.ok(("compaction", "rollup", str(at(400).date())) in due and ("pruning", "event", str(at(400).date())) in due, str(due))
    t.ok(not any(row[2] >= str(at(6).date()) for row in due if row[1] == "rollup"), "what is young stays")

    def all_due():
        steps = 0
        while True:
            rows = cluster.sql("select kind, tbl, day from apikeyd.ledger_due() where kind <> 'rows'")
            if not rows:
                return steps
            chain.state(*rows[0])
            faults = cluster.sql("select * from apikeyd.ledger_verify() where severity = 'fault'")
            t.equal(faults, [], f"after {rows[0]}")
            steps += 1
            t.ok(steps < 200, "it comes to an end")
    t.ok(all_due() >= 8, "steps")
    sums = cluster.sql("select coalesce(sum(count), 0)::int from (select count from apikeyd.ledger_rollup union all select count from apikeyd.ledger_hour union all select count from apikeyd.ledger_day) c")
    t.equal(sums, [(6 * 6 * 2,)], "every verdict is still counted")
    t.equal(cluster.sql("select count(*) from apikeyd.ledger_event"), [(9,)], "events of 90 days")
    for what in ("events", "minutes", "hours", "days", "admin", "batches"):
        cluster.sql("select apikeyd.ledger_keep(%s, '1 day')", what)
    # two batches whose heads are old as soon as all else of them is gone
    t.ok(all_due() >= 4, "steps")
    t.equal(cluster.sql("select pruned_batch > 0 from apikeyd.ledger_chain"), [(True,)], "heads went")
    t.equal(cluster.sql("select count(*) from apikeyd.ledger_admin where tbl = 'ledger_setting' and action = 'update'"), [(6,)], "the settings are on record")
    chain.write([rollup(at(0), count=1)])
    t.equal(cluster.sql("select * from apikeyd.ledger_verify() where severity = 'fault'"), [], "and it goes on")


if __name__ == "__main__":
    run(globals())
