#!/usr/bin/env python3
"""Verifying: a copy that is not what the database has is found, whatever differs, and mended; and nothing else is found.

Random worlds verify equal, under constant writes too. Every column of every table is changed behind the daemon's back,
with the triggers off and on again in one transaction, so that nothing but the sums can tell.
"""
import contextlib
import os
import random
import secrets
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *  # noqa: E402

import changes  # noqa: E402
import worlds  # noqa: E402

SEED = int(os.environ.get("APIKEYD_TEST_SEED") or secrets.randbits(32))
ONLY_ASKED = {"freshness.verify_ms": "0"}
shared = {}


def cluster():
    """One cluster, with the schema installed once: each scene's database is a copy of that."""
    if "cluster" not in shared:
        shared["cluster"] = Cluster().start().install("installed")
    return shared["cluster"]


class Scene:
    """A database of its own with a random world, and a daemon on it."""

    def __init__(self, t, settings=None, seed=SEED, organizations=15, users=30, keys=120, odd=True):
        self.cluster = cluster()
        shared["count"] = shared.get("count", 0) + 1
        self.database = f"apikeyd{shared['count']}"
        self.cluster.sql(f"create database {self.database} template installed", database="postgres")
        self.rng = random.Random(seed)
        self.pepper = f"{self.rng.getrandbits(256):064x}"
        self.maker = worlds.Maker(self.rng, self.pepper)
        self.connection = t.keep(self.cluster.connect(database=self.database, autocommit=False))
        self.cursor = self.connection.cursor()
        check = hashlib.blake2b(b"apikeyd pepper check v1", key=bytes.fromhex(self.pepper), digest_size=32).digest()
        self.cursor.execute("insert into apikeyd.pepper (version, check_value) values (1, %s)", (check,))
        catalog = worlds.read(self.cursor)
        self.world = self.maker.world(catalog, organizations, users, keys)
        worlds.write(self.cursor, {**worlds.missing(self.world, catalog), "pepper": []})
        if odd:
            self.odd()
        self.connection.commit()
        self.daemon = t.keep(Daemon(self.cluster, {"log.level": "info", **(settings or {})}, pepper=self.pepper,
                                    conninfo=self.cluster.dsn("apikeyd", self.database)))

    def odd(self):
        """Values at the edges of what each column takes."""
        run = self.cursor.execute
        run("update apikeyd.user set email = 'jos\u00e9.\u00dcn\u0129c\u00f6de\u2603\U0001f511@b\u00fccher.example' where id = (select min(id) from apikeyd.user)")
        run("update apikeyd.user set email = repeat('\u00e9', 121) || '@ex.example' where id = (select max(id) from apikeyd.user)")
        run("insert into apikeyd.organization (id, slug) values (9223372036854775807, repeat('z', 63)), (1, '0')")
        run("insert into apikeyd.page (id, organization_id, slug) values (9223372036854775806, 9223372036854775807, 'x-1')")
        run("select id from apikeyd.key where revoked_at is null order by id limit 8")
        ids = [row[0] for row in self.cursor.fetchall()]
        for key_id, values in zip(ids, [
                "expires_at = '294276-12-31 23:59:59.999999+00', not_before = '294247-01-10 04:00:54.775807+00'",
                "expires_at = '294247-01-10 04:00:54.775806+00', not_before = '4713-11-24 00:00:00 BC'",
                "not_before = '1999-12-31 23:59:59.999999+00', expires_at = '2000-01-01 00:00:00.000001+00'",
                "not_before = '1969-12-31 23:59:59.999999+00', expires_at = '1970-01-01 00:00:00+00'",
                "retired_at = '294270-01-01'", "retired_at = '4000-01-01 BC'",
                "narrowed_rate = true, rate_count = 1000000000, rate_period_s = 31536000",
                "narrowed_pages = true, narrowed_scopes = true, narrowed_networks = true"]):
            run("update apikeyd.key set not_before = '-infinity', expires_at = 'infinity' where id = %s", (key_id,))
            run(f"update apikeyd.key set {values} where id = %s", (key_id,))
        run("delete from apikeyd.key_page where key_id = %s", (ids[7],))
        run("delete from apikeyd.key_scope where key_id = %s", (ids[7],))
        run("delete from apikeyd.key_network where key_id = %s", (ids[7],))
        run("update apikeyd.key set successor = %s where id = %s", (ids[1], ids[0]))
        run("update apikeyd.key set narrowed_networks = true where id = %s", (ids[6],))
        run("insert into apikeyd.key_network select %s, n::cidr from unnest(array['0.0.0.0/0', '10.0.0.0/8', '10.0.0.0/9', "
            "'10.0.0.1', '255.255.255.255', '::/0', '2001:db8::/32', '2001:db8::1', '2001:db8::/128', '9.0.0.0/8', "
            "'::fffe:0:0/96', '2001:db8::/33']) n on conflict do nothing", (ids[6],))

    def sneak(self, table, *statements, everything=False):
        """Statements that no trigger sees; afterwards all triggers are as before. `everything`: foreign keys, too."""
        run = self.cursor.execute
        run("select tgname, tgenabled from pg_trigger where tgrelid = %s::regclass and not tgisinternal",
            (f'apikeyd."{table}"',))
        triggers = self.cursor.fetchall()
        run(f'alter table apikeyd."{table}" disable trigger {"all" if everything else "user"}')
        for statement in statements:
            run(statement)
            assert self.cursor.rowcount > 0, f"changes nothing: {statement}"
        run(f'alter table apikeyd."{table}" enable trigger all')
        for name, state in triggers:
            how = {"O": "", "R": "replica", "A": "always"}[state]
            run(f'alter table apikeyd."{table}" enable {how} trigger "{name}"')
        self.connection.commit()

    def feed(self):
        return self.daemon.stats()["feed"]

    def verify(self, start=True):
        """A whole pass; its end."""
        if start:
            self.daemon.admin("verify_copy_start")

        def ended():
            answer = self.daemon.admin("verify_copy_show")
            return answer["state"] not in ("running", "loading", "waiting") and answer
        return wait_until("the end of the pass", ended, step=0.002)


def kinds(answer):
    return {kind["kind"]: kind for kind in answer["kinds"]}


# ---- what is equal --------------------------------------------------------------------------------------------------

def test_random_worlds_are_equal(t):
    print(f"# APIKEYD_TEST_SEED={SEED}", flush=True)
    for number, things in enumerate(("3", "1000")):
        scene = Scene(t, {**ONLY_ASKED, "freshness.verify_things": things}, seed=SEED + number)
        answer = scene.verify()
        t.equal(answer["state"], "equal", f"a loaded copy: {scene.daemon.log()[-2000:]}")
        for kind, table in (("organizations", "organization"), ("pages", "page"), ("users", "user"), ("keys", "key")):
            scene.cursor.execute(f'select count(*) from apikeyd."{table}"')
            t.equal(kinds(answer)[kind]["things"], scene.cursor.fetchone()[0], f"{kind} that were compared")
        t.equal(kinds(answer)["catalog"]["things"], 1, "the catalog")
        scene.world = worlds.read(scene.cursor)
        changer = changes.Changer(scene.rng, scene.maker, scene.connection)
        revision = changer.round(scene.world, transactions=60)
        wait_until("the changes", lambda: scene.daemon.stats()["rev"] >= revision)
        answer = scene.verify()
        t.equal(answer["state"], "equal", f"a copy that followed: {scene.daemon.log()[-2000:]}")
        t.equal(answer["rev"], scene.daemon.stats()["rev"], "at the revision that it names")
        t.equal(scene.feed()["reloads"], 0, "nothing was loaded anew")
        scene.daemon.close()


def test_constant_writes_make_no_difference(t):
    # Ranges of 5 and slices of 7 beside transactions as fast as they go.
    scene = Scene(t, {**ONLY_ASKED, "freshness.verify_things": "5", "database.apply_slice": "7"})
    scene.world = worlds.read(scene.cursor)
    scene.connection.commit()
    stop, faults = threading.Event(), []

    def write():
        try:
            connection = scene.cluster.connect(database=scene.database, autocommit=False)
            with contextlib.closing(connection):
                changer = changes.Changer(scene.rng, scene.maker, connection)
                while not stop.is_set():
                    changer.round(scene.world, transactions=40)
                    scene.world = worlds.read(connection.cursor())
                    connection.commit()
        except Exception as error:
            faults.append(error)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        before = scene.feed()
        number, after = 0, before
        while not faults and (number < 4 or after["publishes"] < before["publishes"] + 60):
            answer = scene.verify()
            t.equal(answer["state"], "equal", f"pass {number}: {scene.daemon.log()[-2000:]}")
            number, after = number + 1, scene.feed()
    finally:
        stop.set()
        writer.join()
    t.equal(faults, [], "the writer went on to the end")
    t.equal((after["verify_differences"], after["reloads"], after["failures"]), (0, 0, 0), "nothing differed")


# ---- what differs ---------------------------------------------------------------------------------------------------

NOT_IN_THE_COPY = {
    "organization": {"name", "created_at"}, "page": {"name", "created_at"}, "user": {"name", "created_at"},
    "scope": {"description"}, "role": {"description"}, "key": {"name", "created_at", "created_by"},
    # follows from the page, and from the key: foreign keys see to it
    "page_member": {"organization_id"}, "key_page": {"organization_id", "key_organization_or_0"},
}

# Things that nothing else hangs on, so that each column of theirs can change alone.
ALONE = """
insert into apikeyd.organization (id, slug) values (501, 'alone-1'), (502, 'alone-2'), (503, 'alone-3');
insert into apikeyd.page (id, organization_id, slug) values (501, 501, 'alone-1'), (502, 501, 'alone-2'), (503, 502, 'alone-3'),
  (504, 502, 'alone-4');
insert into apikeyd.user (id, email) values (501, 'alone-1@example.com'), (502, 'alone-2@example.com'), (503, 'alone-3@example.com');
insert into apikeyd.scope (name, page_level, organization_level) values ('alone:read', true, false), ('alone:write', true, true);
insert into apikeyd.role (place, name, rank) values ('page', 'alone', 500), ('organization', 'alone', 500);
insert into apikeyd.role_scope (place, role, scope) values ('organization', 'alone', 'incident:read');
insert into apikeyd.organization_member (organization_id, user_id, role) values (501, 501, 'viewer');
insert into apikeyd.page_member (page_id, user_id, role) values (501, 501, 'viewer');
insert into apikeyd.pepper (version, check_value) values (2, sha256('another'));
insert into apikeyd.key (id, kind, user_id, hash, pepper_version) values
  ('alone00001', 'user', 501, sha256('1'), 1), ('alone00002', 'user', 501, sha256('2'), 1);
insert into apikeyd.key (id, kind, organization_id, access, hash, pepper_version, narrowed_pages, narrowed_scopes,
    narrowed_networks, narrowed_rate, rate_count, rate_period_s) values
  ('alone00003', 'organization', 501, 'read', sha256('3'), 1, true, true, true, true, 5, 60),
  ('alone00004', 'organization', 501, 'read', sha256('4'), 1, true, true, true, false, null, null),
  ('alone00005', 'organization', 502, 'write', sha256('5'), 1, false, false, false, false, null, null);
insert into apikeyd.key_page (key_id, page_id) values ('alone00003', 501);
insert into apikeyd.key_scope (key_id, scope) values ('alone00003', 'incident:read');
insert into apikeyd.key_network (key_id, network) values ('alone00003', '192.0.2.0/24');
"""

# (table, column, kind that must differ, what is done): None for a whole row that goes or comes.
SNEAKS = [
    ("scope", "name", "catalog", "update apikeyd.scope set name = 'alone:push' where name = 'alone:read'"),
    ("scope", "page_level", "catalog", "update apikeyd.scope set page_level = false where name = 'alone:write'"),
    ("scope", "organization_level", "catalog", "update apikeyd.scope set organization_level = true where name = 'alone:push'"),
    ("scope", None, "catalog", "delete from apikeyd.scope where name = 'alone:push'"),
    ("scope", None, "catalog", "insert into apikeyd.scope values ('alone:late', true, true)"),
    ("role", "place", "catalog", "update apikeyd.role set place = 'key' where (place, name) = ('page', 'alone')"),
    ("role", "name", "catalog", "update apikeyd.role set name = 'aloner' where (place, name) = ('key', 'alone')"),
    ("role", "rank", "catalog", "update apikeyd.role set rank = 499 where (place, name) = ('key', 'aloner')"),
    ("role", None, "catalog", "delete from apikeyd.role where name = 'aloner'"),
    ("role", None, "catalog", "insert into apikeyd.role values ('page', 'late', 501)"),
    ("role_scope", "place", "catalog", "update apikeyd.role_scope set place = 'page', role = 'late' where role = 'alone'"),
    ("role_scope", "role", "catalog", "update apikeyd.role_scope set role = 'owner', scope = 'alone:write' where role = 'late'"),
    ("role_scope", "scope", "catalog", "update apikeyd.role_scope set scope = 'alone:late' where scope = 'alone:write'"),
    ("role_scope", "when_named", "catalog", "update apikeyd.role_scope set when_named = true where scope = 'alone:late'"),
    ("role_scope", None, "catalog", "delete from apikeyd.role_scope where scope = 'alone:late'"),
    ("role_scope", None, "catalog", "insert into apikeyd.role_scope values ('page', 'owner', 'alone:late')"),
    ("organization", "id", "organizations", "update apikeyd.organization set id = 499 where id = 503"),
    ("organization", "slug", "organizations", "update apikeyd.organization set slug = 'alone-9' where id = 501"),
    ("organization", "standing", "organizations", "update apikeyd.organization set standing = 'suspended' where id = 502"),
    ("organization", None, "organizations", "delete from apikeyd.organization where id = 499"),
    ("organization", None, "organizations", "insert into apikeyd.organization (id, slug) values (500, 'late')"),
    ("page", "id", "pages", "update apikeyd.page set id = 499 where id = 504"),
    ("page", "organization_id", "pages", "update apikeyd.page set organization_id = 501 where id = 499"),
    ("page", "slug", "pages", "update apikeyd.page set slug = 'alone-8' where id = 502"),
    ("page", "standing", "pages", "update apikeyd.page set standing = 'archived' where id = 501"),
    ("page", None, "pages", "delete from apikeyd.page where id = 499"),
    ("page", None, "pages", "insert into apikeyd.page (id, organization_id, slug) values (500, 500, 'late')"),
    ("user", "id", "users", "update apikeyd.user set id = 499 where id = 503"),
    ("user", "email", "users", "update apikeyd.user set email = 'Alone-2@example.com' where id = 502"),
    ("user", "standing", "users", "update apikeyd.user set standing = 'suspended' where id = 502"),
    ("user", None, "users", "delete from apikeyd.user where id = 499"),
    ("user", None, "users", "insert into apikeyd.user (id, email) values (500, 'late@example.com')"),
    ("organization_member", "organization_id", "users", "update apikeyd.organization_member set organization_id = 502 where user_id = 501"),
    ("organization_member", "user_id", "users", "update apikeyd.organization_member set user_id = 502 where user_id = 501"),
    ("organization_member", "role", "users", "update apikeyd.organization_member set role = 'editor' where user_id = 502"),
    ("organization_member", None, "users", "delete from apikeyd.organization_member where user_id = 502"),
    ("organization_member", None, "users", "insert into apikeyd.organization_member values (501, 502, 'owner')"),
    ("page_member", "page_id", "users", "update apikeyd.page_member set page_id = 502 where user_id = 501"),
    ("page_member", "user_id", "users", "update apikeyd.page_member set user_id = 502 where user_id = 501"),
    ("page_member", "role", "users", "update apikeyd.page_member set role = 'editor' where user_id = 502"),
    ("page_member", None, "users", "delete from apikeyd.page_member where user_id = 502"),
    ("page_member", None, "users", "insert into apikeyd.page_member values (501, 501, 502, 'owner')"),
    ("key", "id", "keys", "update apikeyd.key set id = 'Alone00002' where id = 'alone00002'"),
    ("key", "kind", "keys", "update apikeyd.key set kind = 'organization', organization_id = 501, user_id = null, access = 'read' where id = 'Alone00002'"),
    ("key", "organization_id", "keys", "update apikeyd.key set organization_id = 501 where id = 'alone00005'"),
    ("key", "user_id", "keys", "update apikeyd.key set user_id = 502 where id = 'alone00001'"),
    ("key", "access", "keys", "update apikeyd.key set access = 'read' where id = 'alone00005'"),
    ("key", "hash", "keys", "update apikeyd.key set hash = set_byte(hash, 31, get_byte(hash, 31) # 1) where id = 'alone00001'"),
    ("key", "pepper_version", "keys", "update apikeyd.key set pepper_version = 2 where id = 'alone00001'"),
    ("key", "narrowed_pages", "keys", "update apikeyd.key set narrowed_pages = false where id = 'alone00003'"),
    ("key", "narrowed_scopes", "keys", "update apikeyd.key set narrowed_scopes = false where id = 'alone00003'"),
    ("key", "narrowed_networks", "keys", "update apikeyd.key set narrowed_networks = false where id = 'alone00003'"),
    ("key", "narrowed_rate", "keys", "update apikeyd.key set narrowed_rate = true, rate_count = 1, rate_period_s = 1 where id = 'alone00005'"),
    ("key", "rate_count", "keys", "update apikeyd.key set rate_count = 2 where id = 'alone00005'"),
    ("key", "rate_period_s", "keys", "update apikeyd.key set rate_period_s = 2 where id = 'alone00005'"),
    ("key", "not_before", "keys", "update apikeyd.key set not_before = '2020-01-01 00:00:00.000001+00' where id = 'alone00001'"),
    ("key", "expires_at", "keys", "update apikeyd.key set expires_at = '2090-01-01 00:00:00.000001+00' where id = 'alone00001'"),
    ("key", "retired_at", "keys", "update apikeyd.key set retired_at = '2089-01-01' where id = 'alone00001'"),
    ("key", "successor", "keys", "update apikeyd.key set successor = 'alone00005' where id = 'alone00001'"),
    ("key", "disabled_at", "keys", "update apikeyd.key set disabled_at = now() where id = 'alone00001'"),
    ("key", "revoked_at", "keys", "update apikeyd.key set revoked_at = now() where id = 'alone00005'"),
    ("key", "revoked_at", "keys", "update apikeyd.key set revoked_at = null where id = 'alone00005'"),
    ("key", None, "keys", "delete from apikeyd.key where id = 'Alone00002'"),
    ("key", None, "keys", "insert into apikeyd.key (id, kind, user_id, hash, pepper_version) values ('0late00000', 'user', 501, sha256('6'), 1)"),
    ("key_page", "key_id", "keys", "update apikeyd.key_page set key_id = 'alone00004' where key_id = 'alone00003'"),
    ("key_page", "page_id", "keys", "update apikeyd.key_page set page_id = 502 where key_id = 'alone00004'"),
    ("key_page", None, "keys", "delete from apikeyd.key_page where key_id = 'alone00004'"),
    ("key_page", None, "keys", "insert into apikeyd.key_page values ('alone00004', 501, 501, 501)"),
    ("key_scope", "key_id", "keys", "update apikeyd.key_scope set key_id = 'alone00004' where key_id = 'alone00003'"),
    ("key_scope", "scope", "keys", "update apikeyd.key_scope set scope = 'incident:write' where key_id = 'alone00004'"),
    ("key_scope", None, "keys", "delete from apikeyd.key_scope where key_id = 'alone00004'"),
    ("key_scope", None, "keys", "insert into apikeyd.key_scope values ('alone00004', 'incident:read')"),
    ("key_network", "key_id", "keys", "update apikeyd.key_network set key_id = 'alone00004' where key_id = 'alone00003'"),
    ("key_network", "network", "keys", "update apikeyd.key_network set network = '192.0.2.0/25' where key_id = 'alone00004'"),
    ("key_network", None, "keys", "delete from apikeyd.key_network where key_id = 'alone00004'"),
    ("key_network", None, "keys", "insert into apikeyd.key_network values ('alone00004', '2001:db8::/32')"),
]


def test_each_column_is_in_a_sum(t):
    scene = Scene(t, {**ONLY_ASKED, "freshness.verify_things": "40"}, organizations=8, users=10, keys=60)
    scene.cursor.execute(ALONE)
    scene.cursor.execute("select apikeyd.revision()")
    revision = scene.cursor.fetchone()[0]
    scene.connection.commit()
    wait_until("the things", lambda: scene.daemon.stats()["rev"] >= revision)
    wanted = {(table, column) for table in worlds.TABLES if table != "pepper" for column in worlds.columns(scene.cursor, table)}
    wanted -= {(table, column) for table, columns in NOT_IN_THE_COPY.items() for column in columns}
    t.equal(wanted - {(table, column) for table, column, _, _ in SNEAKS}, set(), "columns that nothing here changes")
    t.equal(scene.verify()["state"], "equal", "before")
    for number, (table, column, kind, statement) in enumerate(SNEAKS, 1):
        told = scene.daemon.log().count(f"the copy is not what the store has, {kind}")
        scene.sneak(table, statement)
        answer = scene.verify()
        t.equal((answer["state"], answer["reloads"]), ("mended", 1), f"{statement}: {answer} {scene.daemon.log()[-1500:]}")
        t.equal(scene.daemon.log().count(f"the copy is not what the store has, {kind}"), told + 1, f"{statement}: told")
        t.equal(scene.feed()["verify_reloads"], number, f"{statement}: loads")
    t.equal(scene.feed()["trigger_fault_events"], 0, "no trigger ever told")
    t.equal(scene.daemon.log().count("after the reload the copy has the"), len(SNEAKS), "each was looked at again")


def test_answers_become_right(t):
    scene = Scene(t, ONLY_ASKED, odd=False)
    key_id, key = next((i, k) for i, k in scene.maker.texts.items() if scene.daemon.check(k, "page:read", "x")["reason"]
                       in ("unknown_page", "ok"))
    scene.sneak("key", f"update apikeyd.key set revoked_at = now() where id = '{key_id}'")
    t.equal(scene.daemon.check(key, "page:read", "x")["reason"], "unknown_page", "unseen")
    t.equal(scene.verify()["state"], "mended", "the pass")
    t.equal(scene.daemon.check(key, "page:read", "x")["reason"], "revoked", "after it")
    t.contains(scene.daemon.log(), f"of the store's", "counts are told")
    t.contains(scene.daemon.log(), f"the first is {key_id}", "and which")


def test_a_pass_in_the_background_finds_it(t):
    scene = Scene(t, {"freshness.verify_ms": "10", "freshness.verify_things": "20", "database.poll_ms": "10"},
                  organizations=8, users=10, keys=60)
    passes = scene.feed()["verify_passes"]
    wait_until("two passes", lambda: scene.feed()["verify_passes"] >= passes + 2)
    t.equal((scene.feed()["verify_differences"], scene.feed()["reloads"]), (0, 0), "nothing is found where nothing is")
    t.equal(scene.daemon.admin("verify_copy_show")["state"], "none", "none was asked for")
    # One that differs, one that is gone, one that is new.
    for number, (table, statement) in enumerate((
            ("user", "update apikeyd.user set standing = case standing when 'active' then 'suspended' else 'active' end "
                     "where id = (select max(id) from apikeyd.user)"),
            ("page", "delete from apikeyd.page where id = 9223372036854775806"),
            ("organization", "insert into apikeyd.organization (id, slug) values (2, 'late')")), 1):
        # A pass without a difference in between, or there would be no reload for the next one.
        passes = scene.feed()["verify_passes"]
        wait_until("two more passes", lambda: scene.feed()["verify_passes"] >= passes + 2)
        scene.sneak(table, statement)
        wait_until(f"a reload for {table}", lambda: scene.feed()["verify_reloads"] == number)
        wait_until("the copy", lambda: scene.feed()["state"] == "following")
    wait_until("what was found to be looked at again",
               lambda: scene.daemon.log().count("after the reload the copy has the") == 3)
    t.equal(scene.feed()["verify_differences"], 3, "three things differed")
    t.equal(scene.daemon.stats()["copies_replaced"], 3, "three copies")


def test_what_a_reload_does_not_mend(t):
    # A row that refers to nothing: the copy cannot have it, the sums of the database do.
    scene = Scene(t, {"freshness.verify_ms": "10", "freshness.verify_things": "1000", "database.poll_ms": "10"})
    scene.sneak("key_page", "insert into apikeyd.key_page (key_id, page_id, organization_id, key_organization_or_0) "
                "select id, 77777777, organization_id, organization_id from apikeyd.key "
                "where narrowed_pages and kind = 'organization' limit 1", everything=True)
    wait_until("the second look", lambda: "a reload did not mend that" in scene.daemon.log())
    passes = scene.feed()["verify_passes"]
    wait_until("three more passes", lambda: scene.feed()["verify_passes"] >= passes + 3)
    feed = scene.feed()
    t.equal((feed["verify_reloads"], feed["reloads"]), (1, 1), "it does not load in a loop")
    t.ok(feed["verify_differences"] >= 4, f"it is counted each time: {feed}")
    t.equal(scene.daemon.log().count("the copy is not what the store has"), 2 + 1, "it is not told each time")
    t.equal(feed["state"], "following", "the daemon goes on")
    t.equal(scene.verify()["state"], "different", "who asks is told")
    done = scene.daemon.ctl("verify-copy")
    t.equal(done.returncode, 1, f"apikeyctl: {done.stdout} {done.stderr}")
    t.contains(done.stderr, "different: the copy is not what the database has")


# ---- the command ----------------------------------------------------------------------------------------------------

def test_verify_copy(t):
    scene = Scene(t, ONLY_ASKED)
    done = scene.daemon.ctl("verify-copy")
    t.equal(done.returncode, 0, f"equal: {done.stdout} {done.stderr}")
    t.contains(done.stderr, "equal: the copy is what the database has")
    for word in ("KIND", "catalog", "organizations", "pages", "users", "keys"):
        t.contains(done.stdout, word)
    scene.sneak("organization", "update apikeyd.organization set standing = case standing when 'active' then 'suspended' "
                "else 'active' end where id = 1")
    done = scene.daemon.ctl("verify-copy", "--json")
    answer = json.loads(done.stdout)
    t.equal((done.returncode, answer["state"], answer["differences"]), (1, "mended", 1), done.stderr)
    t.equal(scene.daemon.ctl("verify-copy", "-q").returncode, 0, "equal again")
    # The database away: the pass waits, and the command gives up waiting.
    scene.cluster.sql("alter role apikeyd nologin", database="postgres")
    try:
        scene.cursor.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'apikeyd' "
                             "and datname = current_database()")
        scene.connection.commit()
        wait_until("the loss", lambda: scene.feed()["state"] == "connecting")
        done = scene.daemon.ctl("--timeout", "300ms", "verify-copy")
        t.equal(done.returncode, 3, f"waiting: {done.stdout} {done.stderr}")
        t.contains(done.stderr, "cannot follow the database now")
    finally:
        scene.cluster.sql("alter role apikeyd login", database="postgres")
    t.equal(scene.verify(start=False)["state"], "equal", "it goes on by itself")
    unloaded = t.keep(Daemon(settings={"database.backoff_max_ms": "200"}, wait="socket"))
    error = t.raises(RpcError, lambda: unloaded.admin("verify_copy_start"), "nothing loaded")
    t.equal(error.code, "unavailable", error.message)
    t.equal(unloaded.ctl("verify-copy").returncode, 3, "nothing loaded")


def test_a_dropped_session_ends_no_pass(t):
    scene = Scene(t, {**ONLY_ASKED, "freshness.verify_things": "1", "database.backoff_min_ms": "20"},
                  organizations=8, users=10, keys=30)
    scene.daemon.admin("verify_copy_start")
    for number in range(3):
        ranges = scene.feed()["verify_ranges"]
        wait_until("ranges", lambda: scene.feed()["verify_ranges"] > ranges + 5)
        scene.cursor.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'apikeyd' "
                             "and datname = current_database()")
        scene.connection.commit()
    answer = scene.verify(start=False)
    t.equal(answer["state"], "equal", f"{answer}")
    t.equal(sum(kind["things"] for kind in answer["kinds"]), sum(kind["of"] for kind in answer["kinds"]),
            "each thing was compared once")


if __name__ == "__main__":
    run(globals())
