"""
A ledger of many rows, the questions that an auditor asks of it, and how PostgreSQL reads it for them: by index alone, by probing an index, or
only the partitions of a time. Out of what auto_explain tells of a statement and of all that run inside its functions.
"""
import json
import re

ORGANIZATIONS = 200
KEY = "lpad({}::text, 10, '0')"
WORLD = f"""
insert into apikeyd.organization (id, slug) select i, 'org-' || i from generate_series(1, {ORGANIZATIONS}) i;
insert into apikeyd.page (id, organization_id, slug) select i, 1 + i % {ORGANIZATIONS}, 'page-' || i from generate_series(1, {10 * ORGANIZATIONS}) i;
insert into apikeyd.user (id, email) select i, 'user-' || i || '@example.com' from generate_series(1, {10 * ORGANIZATIONS}) i;
insert into apikeyd.organization_member (organization_id, user_id, role) select 1 + i % {ORGANIZATIONS}, i, 'viewer' from generate_series(1, {10 * ORGANIZATIONS}) i;
insert into apikeyd.page_member (page_id, user_id, role) select i, i, 'editor' from generate_series(1, {10 * ORGANIZATIONS}, 7) i;
insert into apikeyd.pepper (version, check_value) values (1, sha256('p'));
insert into apikeyd.key (id, kind, organization_id, access, hash, pepper_version)
  select {KEY.format('i')}, 'organization', 1 + i % {ORGANIZATIONS}, 'write', sha256(i::text::bytea), 1 from generate_series(0, {{keys}} - 1) i;
select apikeyd.ledger_ahead((now() - interval '8 days')::date, now()::date);
select apikeyd.ledger_ahead((now() - interval '95 days')::date, (now() - interval '9 days')::date);
select apikeyd.ledger_ahead((now() - interval '366 days')::date, (now() - interval '366 days')::date);
"""
# A used key has a few scopes and pages of its organization; one row in 20 is a denial, one in 40 of a key that is none.
SOURCE = """case when i % 20 = 0 then 'deny' else 'allow' end, case when i % 40 = 0 then 'unknown_key' when i % 20 = 0 then 'scope_not_granted' else 'ok' end, 'default', 1000 + i % 3,
  case when i % 40 <> 0 then """ + KEY.format("k") + """ end, case when i % 40 <> 0 then (array['incident:read', 'incident:write', 'metric:push', 'page:read'])[1 + (i / 7) % 4] end,
  case when i % 40 <> 0 then 'page-' || (k % {orgs} + {orgs} * ((i / 11) % 3)) end, case when i % 40 = 0 then '192.0.2.0'::inet + (i / 40) % 200 end"""
FROM = """from (select i, (i * 7919::bigint % {used})::int as k from generate_series({first}, {last}) i) as g,
  lateral (select date_trunc('{unit}', now() - ({offset} + {length} * (i - {first}) / {number}.0) * interval '1 day', 'UTC') as at) as s"""
ROLLUP = "insert into apikeyd.ledger_{table} (chain, batch, n, {span}, verdict, reason, stack, caller_uid, key_id, scope, page, addr, count, first_at, last_at) \
select '6b1c1b0e-0000-4000-8000-00000000000a', {base} + i / 1000, i % 1000 + 1, s.at, " + SOURCE + ", 1 + i % 9, s.at, s.at + interval '30 s' " + FROM
EVENT = "insert into apikeyd.ledger_event (chain, batch, n, at, verdict, reason, stack, caller_uid, key_id, scope, page, addr, method, rev, age_ms, stale, explain) \
select '6b1c1b0e-0000-4000-8000-00000000000a', {base} + i / 1000, i % 1000 + 1, s.at, " + SOURCE + ", 'check', 1, 5, false, i % 50 = 0 " + FROM
TABLES = ( # table, time column, unit, twentieths of the rows, days from .. on
    ("event", "at", "second", 1, 0, 80), ("rollup", "minute", "minute", 8, 0, 7), ("hour", "hour", "hour", 6, 8, 85), ("day", "day_of", "day", 6, 94, 270))
ADMINISTRATION = """insert into apikeyd.ledger_admin (at, txn, login, role, application_name, tbl, action, thing, before, after)
select now() - (1 - i::numeric / {rows}) * interval '360 days', (1000 + i / 10)::text::xid8, 'admin', 'apikeyd_admin', 'bench', w.* from generate_series({first}, {last}) i,
  lateral (select i % {keys} as k, 1 + i % {orgs} as o, 1 + i % (10 * {orgs}) as u) as g,
  lateral (
    select 'key', 'update', q.id, to_jsonb(q) - 'hash', to_jsonb(q) - 'hash' || jsonb_build_object('name', 'key ' || i) from apikeyd.key q where i % 10 < 6 and q.id = {key}
    union all select 'key_scope', 'insert', {key} || '/incident:read', null, jsonb_build_object('key_id', {key}, 'scope', 'incident:read') where i % 10 = 6
    union all select 'organization_member', 'update', q.organization_id || '/' || q.user_id, to_jsonb(q), to_jsonb(q) || '{{"role": "editor"}}'
      from apikeyd.organization_member q where i % 10 = 7 and q.user_id = u
    union all select 'page_member', 'insert', u || '/' || u, null, jsonb_build_object('page_id', u, 'user_id', u, 'organization_id', 1 + u % {orgs}, 'role', 'viewer') where i % 10 = 8
    union all select 'page', 'update', q.slug, to_jsonb(q), to_jsonb(q) || '{{"name": "other"}}' from apikeyd.page q where i % 10 = 9 and q.id = u) as w"""
# One batch each ten seconds; of the minutes that are older than a week hours were made.
BATCHES = """insert into apikeyd.ledger_chain (chain, host, last_batch) values ('6b1c1b0e-0000-4000-8000-00000000000b', 'one', {rows}) on conflict do nothing;
insert into apikeyd.ledger_batch (chain, batch, kind, made_at, rows, lost, parts, seals, seals_digest, prev_head, head, pepper_version, mac)
select '6b1c1b0e-0000-4000-8000-00000000000b', i, 'rows', now() - ({rows} - i) * interval '10 s', 10, case when i % 1000 = 0 then 1 else 0 end, 1, 0, d, d, d, 1, d
from generate_series({first}, {last}) i, sha256('d') as d;
insert into apikeyd.ledger_part (chain, batch, part, tbl, day, rows, counted, digest, gone_chain, gone_batch)
select b.chain, b.batch, 1, 'rollup', b.made_at::date, 10, 10, b.head, g.chain, g.batch from apikeyd.ledger_batch b
left join lateral (select b.chain, b.batch where b.made_at < now() - interval '7 days') as g on true
where b.chain = '6b1c1b0e-0000-4000-8000-00000000000b' and b.batch between {first} and {last};"""
STEP = 500_000


def fill(cluster, rows, keys, administration, batches):
    cluster.psql("-c", WORLD.format(keys=keys))
    cluster.psql("-c", "set role apikeyd_owner", "-c", "update apikeyd.ledger_admin set at = at - interval '400 days'") # that was long ago
    for base, (table, span, unit, share, offset, length) in enumerate(TABLES):
        number = rows * share // 20
        for first in range(0, number, STEP):
            last = min(first + STEP, number)
            cluster.psql("-c", "set synchronous_commit = off", "-c", (EVENT if table == "event" else ROLLUP).format(
                table=table, span=span, unit=unit, base=base * 1_000_000 + 1 + first // 1000, first=first, last=last - 1, number=last - first,
                used=keys * 9 // 10, orgs=ORGANIZATIONS, offset=offset + length * first / number, length=length * (last - first) / number))
    for text, number in ((ADMINISTRATION, administration), (BATCHES, batches)):
        for first in range(1, number + 1, STEP):
            cluster.psql("-c", "set session_replication_role = replica; set synchronous_commit = off; " + text.format(
                rows=number, first=first, last=min(first + STEP - 1, number), keys=keys, orgs=ORGANIZATIONS, key=KEY.format("k")))
    cluster.psql("-c", "vacuum (analyze)")


def questions(keys):
    one = KEY.format("12345" if keys > 12345 else "123")
    return (
        ("key_usage of one key", f"select * from apikeyd.key_usage where key_id = {one}"),
        ("key_last_used of one key", f"select * from apikeyd.key_last_used where key_id = {one}"),
        ("key_last_used of all keys", "select count(last_used_at) from apikeyd.key_last_used"),
        ("keys_never_used", "select count(*) from apikeyd.keys_never_used"),
        ("never_used_scopes of one key", f"select * from apikeyd.never_used_scopes where key_id = {one}"),
        ("never_used_pages of one key", f"select * from apikeyd.never_used_pages where key_id = {one}"),
        ("never_used_scopes of an organization", "select count(*) from apikeyd.never_used_scopes where owner = 'org-7'"),
        ("never_used_pages of an organization", "select count(*) from apikeyd.never_used_pages where owner = 'org-7'"),
        ("verdicts of the last hour", "select count(*) from apikeyd.verdicts where at > now() - interval '1 hour'"),
        ("verdicts of a day, 50 days ago", "select sum(count) from apikeyd.verdicts where at between now() - interval '50 days' and now() - interval '49 days'"),
        ("denials of the last hour", "select * from apikeyd.denials where at > now() - interval '1 hour'"),
        ("denials of one key", f"select * from apikeyd.denials where key_id = {one}"),
        ("busiest of a day", "select * from apikeyd.busiest('1 day')"),
        ("bad_key_sources of a day", "select * from apikeyd.bad_key_sources('1 day')"),
        ("bad_key_sources of all time", "select * from apikeyd.bad_key_sources('10 years')"),
        ("who_can on a page", "select count(*) from apikeyd.who_can('incident:write', 'page-7')"),
        ("what_can of a key", f"select count(*) from apikeyd.what_can({one})"),
        ("access_changes on a page, a day", "select count(*) from apikeyd.access_changes('page-7', now() - interval '1 day')"),
        ("access_changes on a page, of all time", "select count(*) from apikeyd.access_changes('page-7')"),
        ("administration of the last hour", "select count(*) from apikeyd.administration where at > now() - interval '1 hour' and action = 'update'"),
        ("administration of one key", f"select * from apikeyd.administration where tbl = 'key' and thing = {one} order by at"),
        ("administration, the last 50", "select * from apikeyd.administration order by id desc limit 50"),
        ("lost_history", "select * from apikeyd.lost_history order by lost_at"),
        ("daemons", "select * from apikeyd.daemons"),
        ("chains", "select * from apikeyd.chains"),
        ("ledger_due, as daemons ask each minute", "select * from apikeyd.ledger_due()"))


RELATION = re.compile(r"(ledger_(?:event|rollup|hour|day|admin|batch|part|seal))(?:_\d+)?$")
PASSES = ("Append", "Merge Append", "Subquery Scan", "Nested Loop", "Result", "LockRows", "Unique")


class Watch:
    """How the ledger is read by what runs on this connection, a superuser's."""

    def __init__(self, connection, pages=0):
        """pages: what has no more of them is best read as it is, and is not looked at."""
        self.cursor = connection.cursor()
        self.plans = []
        connection.notices = self
        self.cursor.execute("load 'auto_explain'; set client_min_messages = notice")
        self.cursor.execute("select c.relname from pg_class c where c.relnamespace = 'apikeyd'::regnamespace and c.relkind = 'r' and c.relpages > %s", (pages,))
        self.full = {}
        for (name,) in self.cursor.fetchall():
            found = RELATION.match(name)
            if found:
                self.full.setdefault(found[1], set()).add(name)

    def append(self, notice):
        if '"Relation Name": "ledger_' in notice:
            self.plans.append(json.loads(notice[notice.index("{"):])["Plan"])

    def how(self, sql):
        """→ {relation that has rows: how it was read}: index-only, index probe, all."""
        settings = {"log_min_duration": "0", "log_nested_statements": "on", "log_analyze": "on", "log_timing": "off", "log_format": "json", "log_level": "notice"}
        self.plans.clear()
        self.cursor.execute("; ".join(f"set auto_explain.{name} = '{value}'" for name, value in settings.items()))
        self.cursor.execute(sql)
        self.cursor.fetchall()
        self.cursor.execute("set auto_explain.log_min_duration = -1")
        reads = {}
        for plan in self.plans:
            self._read(plan, False, reads)
        return reads

    def _read(self, plan, limited, reads):
        name, node = plan.get("Relation Name", ""), plan["Node Type"]
        found = RELATION.match(name)
        if found and name in self.full.get(found[1], ()) and plan["Actual Loops"]:
            how = "index-only" if node == "Index Only Scan" else "index probe" if "Index Cond" in plan or node == "Bitmap Heap Scan" or limited and node == "Index Scan" else "all"
            reads.setdefault(name, set()).add(how)
        for child in plan.get("Plans", ()):
            self._read(child, node == "Limit" or limited and node in PASSES, reads)

    def judge(self, reads):
        """→ (how a question reads the ledger, which tables it reads as a whole)."""
        said, whole = {how for read in reads.values() for how in read if how != "all"}, []
        for table, relations in sorted(self.full.items()):
            read = {name for name in relations if "all" in reads.get(name, ())}
            if read == relations:
                whole.append(table)
            elif read:
                said.add(f"pruned ({len(read)} of {len(relations)} of {table})")
        return sorted(said), whole
