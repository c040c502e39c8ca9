"""
sql/AUDITING.md is true: each of its queries is run by a role that is an auditor and nothing else, and prints what stands there, and the
README lists its questions. With WRITE=1 in the environment the answers are written into it anew. And the auditor is tried against every table and function.
"""
from world import *
from ledger_rows import *
import re
import psycopg2

NOW = datetime.datetime.now(datetime.timezone.utc).replace(second=0, microsecond=0)
GUIDE = os.path.join(ROOT, "sql", "AUDITING.md")
README = os.path.join(ROOT, "README.md")
PSQLRC = os.path.join(ROOT, "sql", "psqlrc")


def minute(back):
    return NOW - datetime.timedelta(minutes=back)


def stage():
    if hasattr(stage, "cluster"):
        return stage.cluster
    stage.cluster = cluster = Cluster().start().install()
    # Two daemons, one of which an administrator has told.
    cluster.psql("-c", "set role apikeyd_check", "-c", """select apikeyd.daemon_seen(d::uuid, h, 1, '0.1', 0, '14 s'),
        apikeyd.history_lost(l::uuid, d::uuid, 1796020261000000 + n * 1000000, 'log', 'keep', true, '1796020260000001/7061234567890123456/1/16384',
          '1796020200000001/7061234567890123456/2/16384', 1, 0, n, k::text[])
      from (values ('6b1c1b0e-0000-4000-8000-0000000000d1', '6b1c1b0e-0000-4000-8000-0000000000a1', 'web-1', 1, '{Deploy0001,Report0001}'),
                   ('6b1c1b0e-0000-4000-8000-0000000000d2', '6b1c1b0e-0000-4000-8000-0000000000a2', 'web-2', 0, '{Deploy0001}')) as v (d, l, h, n, k)""",
                 "-c", """select apikeyd.history_accepted('6b1c1b0e-0000-4000-8000-0000000000a1', '6b1c1b0e-0000-4000-8000-0000000000d1', 1796020269000000,
                     'uid:1000', 1, 0, 1, '{Deploy0001,Report0001}')""")
    cluster.psql("-c", """begin; set local apikeyd.actor = 'ada@example.com';
      insert into apikeyd.organization (id, slug) values (1, 'acme'), (2, 'umbra');
      insert into apikeyd.page (id, organization_id, slug) values (1, 1, 'acme'), (2, 1, 'acme-cloud'), (3, 2, 'umbra');
      insert into apikeyd.user (id, email) values (1, 'bea@acme.example'), (2, 'carl@acme.example');
      insert into apikeyd.organization_member (organization_id, user_id, role) values (1, 1, 'editor'), (1, 2, 'viewer');
      insert into apikeyd.page_member (page_id, user_id, role) values (1, 2, 'editor');
      insert into apikeyd.pepper (version, check_value) values (1, sha256('check'));
      insert into apikeyd.key (id, kind, organization_id, access, name, hash, pepper_version, narrowed_scopes, narrowed_networks, created_by) values
        ('Deploy0001', 'organization', 1, 'write', 'deploy', sha256('1'), 1, true, true, 'ada@example.com'),
        ('Report0001', 'organization', 1, 'read', 'reports', sha256('2'), 1, false, false, 'ada@example.com'),
        ('Forgot0001', 'organization', 2, 'read', 'forgotten', sha256('3'), 1, false, false, 'eve@example.com');
      insert into apikeyd.key (id, kind, user_id, name, hash, pepper_version, created_by) values ('Carls00001', 'user', 2, 'laptop', sha256('4'), 1, 'carl@acme.example');
      insert into apikeyd.key_scope values ('Deploy0001', 'incident:write'), ('Deploy0001', 'maintenance:write'), ('Deploy0001', 'page:delete');
      insert into apikeyd.key_network values ('Deploy0001', '192.0.2.0/24');
      commit;""")
    cluster.psql("-c", "set apikeyd.actor = 'ada@example.com'", "-c", "delete from apikeyd.page_member where page_id = 1 and user_id = 2",
                 "-c", "update apikeyd.organization_member set role = 'editor' where user_id = 2", "-c", "update apikeyd.key set name = 'deploys' where id = 'Deploy0001'")
    chain = Chain(cluster.connect(autocommit=False))
    use = dict(key_id="Deploy0001", page="acme", caller_uid=1001)
    chain.write([rollup(minute(90), scope="incident:write", count=40, **use), rollup(minute(90), scope="incident:read", count=7, **use),
                 event(minute(80), reason="network", scope="incident:write", addr="198.51.100.7", **use),
                 rollup(minute(79), "deny", "rate_limited", scope="incident:write", count=12, **use),
                 rollup(minute(70), key_id="Report0001", scope="metric:read", page="acme-cloud", count=300),
                 rollup(minute(60), "deny", "unknown_key", addr="203.0.113.9", count=5000), rollup(minute(60), "deny", "malformed_key", addr="203.0.113.9", count=20),
                 rollup(minute(59), "deny", "unknown_key", addr="2001:db8:1:2::/64", caller_uid=1001, count=3)])
    chain.write([rollup(minute(50), scope="incident:write", count=2, **use), rollup(minute(50), key_id="Carls00001", scope="page:read", page="acme")])
    cluster.sql("analyze")
    cluster.sql("create role auditor login; grant apikeyd_auditor to auditor")
    return cluster


def test_the_guide_is_true(t):
    cluster = stage()
    with open(GUIDE) as f:
        guide = f.read()
    blocks = re.findall(r"```sql\n(.*?)```\n```text\n(.*?)```\n", guide, re.S)
    t.equal(len(blocks), 11, "eleven questions")
    for query, said in blocks:
        got = cluster.psql("-P", "null=-", "-c", query, user="auditor").stdout
        got = "\n".join(line.rstrip() for line in got.strip("\n").split("\n")) + "\n"
        if os.environ.get("WRITE"):
            guide = guide.replace(f"{query}```\n```text\n{said}```", f"{query}```\n```text\n{got}```")
        else:
            t.equal(got, said, query)
    if os.environ.get("WRITE"):
        with open(GUIDE, "w") as f:
            f.write(guide)


def test_the_readme_names_the_questions(t):
    """The README's list has each question of the guide, in its order and words, with a link to its heading."""
    with open(GUIDE) as f:
        headings = re.findall(r"^## (\d+)\. (.*)$", f.read(), re.M)
    with open(README) as f:
        listed = re.findall(r"^(\d+)\. \[(.*)\]\(sql/AUDITING\.md#(.*)\)$", f.read(), re.M)
    # As GitHub makes anchors of headings.
    anchors = [re.sub(r"[^\w -]", "", f"{number}. {question}".lower()).replace(" ", "-") for number, question in headings]
    t.equal(listed, [(*heading, anchor) for heading, anchor in zip(headings, anchors)], "the README's list, and the guide's headings")


def test_the_short_names(t):
    cluster = stage()
    with open(PSQLRC) as f:
        names = re.findall(r"^\\set (\w+) 'SELECT", f.read(), re.M)
    t.ok(len(names) >= 12, str(names))
    for name in names:
        done = cluster.psql("-f", PSQLRC, "-f", "-", user="auditor", stdin=f"\\set key Deploy0001\n\\set page acme\n:{name}\n", check=False)
        t.equal((done.returncode, done.stderr), (0, ""), f":{name}")
        t.contains(done.stdout, "row", f":{name} answers")


def test_the_auditor_reads_views_and_nothing_else(t):
    """Every table, view, sequence and function of the schema, tried as an auditor who is nothing else."""
    cluster = stage()
    things = cluster.sql("""select relname, relkind::text from pg_class where relnamespace = 'apikeyd'::regnamespace and relkind in ('r', 'p', 'v', 'S', 'm', 'f')""")
    t.ok(len(things) > 80, str(len(things)))
    with contextlib.closing(cluster.connect("auditor")) as connection:
        cursor = connection.cursor()
        for name, kind in things:
            for text in ([f'select * from apikeyd."{name}" limit 1'] if kind != "S" else []) + [
                    f'delete from apikeyd."{name}"', f'truncate apikeyd."{name}"', f'do $$ begin lock table apikeyd."{name}" in share mode; end $$',
                    f'insert into apikeyd."{name}" default values', f'select nextval(\'apikeyd."{name}"\')', f'alter table apikeyd."{name}" rename to x',
                    f'drop table apikeyd."{name}"']:
                try:
                    cursor.execute(text)
                    t.ok(kind == "v" and text.startswith("select *"), f"the auditor may: {text}")
                except (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.WrongObjectType, psycopg2.errors.ObjectNotInPrerequisiteState,
                        psycopg2.errors.FeatureNotSupported, psycopg2.errors.UndefinedTable):
                    t.ok(kind != "v" or not text.startswith("select *"), f"the auditor may not: {text}")
        wanted = {"schema_version", "revision", "trigger_faults", "explain_rights", "wait_for", "wait", "who_can", "what_can", "access_changes", "busiest", "bad_key_sources"}
        for name, arguments, count in cluster.sql("""select proname, array_to_string(array(select 'null::' || format_type(a, null) from unnest(proargtypes) with ordinality as u (a, i) order by i), ', '),
                                                     pronargs from pg_proc where pronamespace = 'apikeyd'::regnamespace and prokind = 'f' and prorettype <> 'trigger'::regtype"""):
            if name in wanted or name.startswith("ledger_verify") or name in ("ledger_partitions", "ledger_heads"):
                continue
            t.raises(psycopg2.errors.InsufficientPrivilege, lambda: cursor.execute(f"select apikeyd.{name}({'variadic ' if name == 'ledger_line' else ''}{arguments})"), f"{name}({arguments})")
        for name, kind in things: # no value of any column that is shown is a stored hash
            if kind == "v":
                cursor.execute(f'select v::text from apikeyd."{name}" v')
                shown = "\n".join(row[0] for row in cursor.fetchall())
                for secret in ("1", "2", "3", "4", "check"):
                    t.ok(hashlib.sha256(secret.encode()).hexdigest() not in shown, f"{name} shows a hash")


if __name__ == "__main__":
    run(globals())
