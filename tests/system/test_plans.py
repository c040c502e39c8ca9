"""
The auditor's questions find what they need by index, or in the partitions of its time, and so do the questions that daemons ask each minute:
on a small ledger, with sequential scans off, an index that would answer is taken where there is one. tests/bench/ledger_views shows it of
millions of rows, with the planner's own choice. And they find all that there is.
"""
from world import *
import plans

KEYS = 1000
ONLY = {"key_last_used of one key": ["index-only"], "key_last_used of all keys": ["index-only"], "keys_never_used": ["index-only"]}
SPANS = ("verdicts of the last hour", "verdicts of a day, 50 days ago", "denials of the last hour", "busiest of a day")


def stage():
    if not hasattr(stage, "cluster"):
        stage.cluster = Cluster({"autovacuum": "off"}).start().install()
        plans.fill(stage.cluster, rows=20_000, keys=KEYS, administration=2_000, batches=2_000)
    return stage.cluster


def test_no_table_is_read_as_a_whole(t):
    with contextlib.closing(stage().connect()) as connection:
        watch = plans.Watch(connection)
        t.ok({"ledger_event", "ledger_rollup", "ledger_hour", "ledger_day", "ledger_admin", "ledger_batch", "ledger_part"} <= set(watch.full), f"tables with rows: {watch.full}")
        watch.cursor.execute("set enable_seqscan = off; set jit = off")
        for name, sql in plans.questions(KEYS):
            how, whole = watch.judge(watch.how(sql))
            t.equal(whole, [], f"{name} reads these as a whole (and others: {how})")
            if name in ONLY:
                t.equal(how, ONLY[name], name)
            if name in SPANS: # a month of hours, or a year of days, is no time that somebody asks for
                t.ok(not any("ledger_hour" in text or "ledger_day" in text for text in how), f"{name}: {how}")


def test_new_partitions_have_every_index(t):
    """LIKE copies them, and ATTACH takes them for those of the parent."""
    cluster = stage()
    cluster.sql("select apikeyd.ledger_ahead(current_date + 400, current_date + 400)")
    lacking = cluster.sql("""select p.relname, i.relname from pg_inherits h join pg_class p on p.oid = h.inhrelid join pg_index x on x.indrelid = h.inhparent join pg_class i on i.oid = x.indexrelid
                             where p.relkind = 'r' and p.relnamespace = 'apikeyd'::regnamespace
                               and not exists (select from pg_index y join pg_inherits k on k.inhrelid = y.indexrelid where y.indrelid = p.oid and k.inhparent = x.indexrelid)""")
    t.equal(lacking, [], "partitions that lack an index")
    t.equal(cluster.sql("select count(*) from pg_index x join pg_class p on p.oid = x.indrelid where p.relnamespace = 'apikeyd'::regnamespace and p.relispartition and not x.indisvalid"),
            [(0,)], "and all are valid")


def test_a_lost_index_is_seen(t):
    """The judge itself: without the index, the table is read as a whole, and it says so."""
    with contextlib.closing(stage().connect(autocommit=False)) as connection:
        watch = plans.Watch(connection)
        watch.cursor.execute("set local enable_seqscan = off; set local jit = off")
        watch.cursor.execute("drop index apikeyd.ledger_rollup_use, apikeyd.ledger_rollup_last")
        how, whole = watch.judge(watch.how(dict(plans.questions(KEYS))["key_last_used of one key"]))
        t.equal(whole, ["ledger_rollup"], f"read as a whole ({how})")
        connection.rollback()


# access_changes as one would say it who may read all of ledger_admin.
PLAINLY = """
with p as (
  select p.id, p.organization_id from apikeyd.page p where p.slug = %(page)s
  union select (a.before ->> 'id')::bigint, (a.before ->> 'organization_id')::bigint from apikeyd.ledger_admin a where a.tbl = 'page' and a.action = 'delete' and a.thing = %(page)s
), member (user_id) as (
  select m.user_id from p join apikeyd.organization_member m on m.organization_id = p.organization_id
  union select m.user_id from p join apikeyd.page_member m on m.page_id = p.id
  union select (a.before ->> 'user_id')::bigint from p join apikeyd.ledger_admin a
    on a.tbl = 'organization_member' and a.before ->> 'organization_id' = p.organization_id::text or a.tbl = 'page_member' and a.before ->> 'page_id' = p.id::text
)
select a.at, a.action, a.tbl, a.thing from apikeyd.ledger_admin a where exists (select from p where
  a.tbl in ('scope', 'role', 'role_scope', 'history')
  or a.tbl = 'page' and p.id::text in (a.before ->> 'id', a.after ->> 'id')
  or a.tbl = 'organization' and p.organization_id::text in (a.before ->> 'id', a.after ->> 'id')
  or a.tbl = 'organization_member' and p.organization_id::text in (a.before ->> 'organization_id', a.after ->> 'organization_id')
  or a.tbl in ('page_member', 'key_page') and p.id::text in (a.before ->> 'page_id', a.after ->> 'page_id')
  or a.tbl = 'user' and (coalesce(a.after, a.before) ->> 'id')::bigint in (select m.user_id from member m)
  or a.tbl in ('key', 'key_scope', 'key_network') and exists (select from apikeyd.key k
    where k.id in (case a.tbl when 'key' then a.thing end, a.before ->> 'key_id', a.after ->> 'key_id') and (k.organization_id = p.organization_id or k.user_id in (select m.user_id from member m))))
order by a.at, a.id"""


def test_access_changes_misses_nothing(t):
    """What was moved, renamed, deleted and made again, too."""
    cluster = t.keep(Cluster().start().install())
    cluster.psql("-c", """
      insert into apikeyd.organization (id, slug) values (1, 'one'), (10, 'ten'), (11, 'eleven');
      insert into apikeyd.page (id, organization_id, slug) values (1, 1, 'page-one'), (2, 1, 'page-two'), (10, 10, 'page-ten'), (11, 11, 'page-eleven');
      insert into apikeyd.user (id, email) select i, 'user' || i || '@example.com' from generate_series(1, 12) i;
      insert into apikeyd.organization_member (organization_id, user_id, role) values (1, 1, 'viewer'), (1, 2, 'viewer'), (10, 3, 'viewer'), (11, 4, 'viewer');
      insert into apikeyd.page_member (page_id, user_id, role) values (1, 5, 'viewer'), (10, 6, 'viewer'), (1, 6, 'viewer'), (2, 7, 'viewer');
      insert into apikeyd.pepper (version, check_value) values (1, sha256('check'));
      insert into apikeyd.key (id, kind, organization_id, access, hash, pepper_version, narrowed_pages, narrowed_scopes, narrowed_networks)
        select 'OrgKey00' || lpad(o::text, 2, '0'), 'organization', o, 'write', sha256(o::text::bytea), 1, true, true, true from unnest(array[1, 10, 11]) o;
      insert into apikeyd.key (id, kind, user_id, hash, pepper_version, narrowed_pages, narrowed_scopes)
        select 'UserKey0' || lpad(u::text, 2, '0'), 'user', u, sha256(u::text::bytea), 1, true, true from generate_series(1, 8) u;
      insert into apikeyd.key_page (key_id, page_id) values ('OrgKey0001', 1), ('OrgKey0010', 10), ('UserKey001', 1), ('UserKey003', 10), ('UserKey008', 1), ('UserKey008', 11);
      insert into apikeyd.key_scope (key_id, scope) values ('OrgKey0001', 'page:read'), ('OrgKey0010', 'page:read'), ('UserKey005', 'page:read');
      insert into apikeyd.key_network (key_id, network) values ('OrgKey0001', '192.0.2.0/24'), ('OrgKey0010', '192.0.2.0/24')""")
    for text in ("update apikeyd.organization_member set role = 'editor' where user_id in (1, 3)", "update apikeyd.organization_member set organization_id = 10 where user_id = 2",
                 "update apikeyd.page_member set page_id = 10, organization_id = 10 where user_id = 5", "update apikeyd.organization_member set user_id = 9 where user_id = 4",
                 "update apikeyd.key_scope set key_id = 'OrgKey0011' where key_id = 'UserKey005'", "update apikeyd.key_scope set key_id = 'UserKey001' where key_id = 'OrgKey0001'",
                 "update apikeyd.key_network set network = '198.51.100.0/24' where key_id = 'OrgKey0001'", "update apikeyd.key_page set page_id = 2 where key_id = 'UserKey008' and page_id = 1",
                 "update apikeyd.user set standing = 'suspended' where id in (2, 5, 8)", "update apikeyd.key set name = 'x' where id in ('UserKey002', 'UserKey005', 'UserKey007', 'OrgKey0011')",
                 "update apikeyd.page set slug = 'page-1st' where id = 1", "update apikeyd.organization set slug = 'first' where id = 1", "delete from apikeyd.page_member where user_id = 7",
                 "delete from apikeyd.page where id = 2", "insert into apikeyd.page (id, organization_id, slug) values (3, 11, 'page-two')", "delete from apikeyd.organization_member where user_id = 3",
                 "insert into apikeyd.role_scope (place, role, scope) select 'page', 'viewer', 'page:delete'"):
        cluster.sql(text)
    cluster.sql("insert into apikeyd.daemon (id, host, pid, version, applied_rev, started_at, seen_at, lease, lease_until) values "
                "('6b1c1b0e-0000-4000-8000-000000000001', 'host', 1, '0.1', 0, now(), now(), '14 s', now())")
    cluster.sql("select apikeyd.history_lost('6b1c1b0e-0000-4000-8000-00000000000d', '6b1c1b0e-0000-4000-8000-000000000001', 0, 'log', 'keep', true, '1/1/1/1', '1/1/2/1', 0, 0, 0, '{}')")
    said = 0
    for page in ("page-1st", "page-one", "page-two", "page-ten", "page-eleven", "none"):
        with contextlib.closing(cluster.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(PLAINLY, {"page": page})
            wanted = cursor.fetchall()
            cursor.execute("select at, action, tbl, thing from apikeyd.access_changes(%s)", (page,))
            got = cursor.fetchall()
        t.equal(sorted(set(wanted) - set(got), key=str), [], f"{page}: missing")
        t.equal(sorted(set(got) - set(wanted), key=str), [], f"{page}: too many")
        t.equal(len(got), len(wanted), f"{page}: once each")
        said += len(got)
    t.ok(said > 100, f"only {said} changes")


if __name__ == "__main__":
    run(globals())
