"""Administration over its socket, against a real database: every method, what it changes, what it refuses."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *

SHARED = {}


def daemon():
    """One cluster and one daemon for the whole file; each test uses names of its own."""
    if not SHARED:
        cluster = Cluster().start().install()
        SHARED.update(cluster=cluster, daemon=Daemon(cluster, settings={"database.admin_rows": "50"}))
    return SHARED["daemon"]


def refused(t, code, text, method, **params):
    error = t.raises(RpcError, lambda: daemon().admin(method, **params), f"{method} {params}")
    t.equal(error.code, code, f"{method} {params}: {error.message}")
    t.contains(error.message, text)


def allowed(key, scope, page, rev, **context):
    """The daemon's answer from a copy that has seen `rev`."""
    return daemon().check(key, scope, page, min_rev=rev, deadline_ms=10000, **context)


def test_organizations(t):
    admin = daemon().admin
    added = admin("org_add", org="acme", name="Acme Inc.")
    t.equal((added["org"], added["name"], added["standing"]), ("acme", "Acme Inc.", "active"))
    t.ok(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", added["created_at"]), "a time")
    t.equal(admin("org_add", org="plain")["name"], "plain", "the slug stands in for a name")
    refused(t, "exists", "organization 'acme' exists already", "org_add", org="acme")
    shown = admin("org_show", org="acme")
    t.equal((shown["pages"], shown["members"], shown["keys"]), (0, 0, 0))
    t.ok("rev" not in shown, "only changes have a revision")
    changed = admin("org_set", org="acme", slug="acme-inc", standing="suspended")
    t.equal((changed["org"], changed["name"], changed["standing"]), ("acme-inc", "Acme Inc.", "suspended"))
    t.ok(changed["rev"] > added["rev"], "revisions grow")
    refused(t, "not_found", "no organization 'acme'", "org_set", org="acme", name="x")
    refused(t, "not_found", "no organization 'acme'", "org_show", org="acme")
    refused(t, "exists", "plain", "org_set", org="acme-inc", slug="plain")
    refused(t, "bad_params", "org_set: nothing to change", "org_set", org="acme-inc")
    t.equal(admin("org_remove", org="acme-inc")["org"], "acme-inc")
    refused(t, "not_found", "no organization 'acme-inc'", "org_remove", org="acme-inc")
    refused(t, "unknown_method", "org_dance", "org_dance")


def test_pages(t):
    admin = daemon().admin
    admin("org_add", org="paper")
    refused(t, "not_found", "no organization 'nobody'", "page_add", org="nobody", page="x")
    added = admin("page_add", org="paper", page="sheet")
    t.equal((added["page"], added["org"], added["name"], added["standing"]), ("sheet", "paper", "sheet", "active"))
    refused(t, "exists", "page 'sheet' exists already", "page_add", org="paper", page="sheet")
    refused(t, "refused", "has pages", "org_remove", org="paper")
    t.equal(admin("page_set", page="sheet", standing="archived", name="A sheet")["standing"], "archived")
    t.equal(admin("page_set", page="sheet", slug="leaf")["page"], "leaf")
    t.equal(admin("page_show", page="leaf")["name"], "A sheet")
    refused(t, "not_found", "no page 'sheet'", "page_set", page="sheet", name="x")
    refused(t, "not_found", "no page 'sheet'", "page_show", page="sheet")
    refused(t, "not_found", "no page 'sheet'", "page_remove", page="sheet")
    refused(t, "not_found", "no organization 'nobody'", "page_list", org="nobody")
    t.equal([r["page"] for r in admin("page_list", org="paper")["rows"]], ["leaf"])
    removed = admin("page_remove", page="leaf")
    t.equal((removed["page"], removed["org"]), ("leaf", "paper"))
    t.equal(admin("page_list", org="paper"), {"rows": [], "next": None})


def test_users(t):
    admin = daemon().admin
    t.equal(admin("user_add", user="Ann@Example.com", name="Ann")["user"], "Ann@Example.com")
    refused(t, "exists", "user 'ann@example.com' exists already", "user_add", user="ann@example.com")
    t.equal(admin("user_show", user="ann@EXAMPLE.com")["name"], "Ann", "any letter case")
    t.equal(admin("user_set", user="ann@example.com", standing="suspended")["standing"], "suspended")
    t.equal(admin("user_set", user="ann@example.com", email="anna@example.com")["user"], "anna@example.com")
    refused(t, "not_found", "no user 'ann@example.com'", "user_show", user="ann@example.com")
    t.equal(admin("user_remove", user="anna@example.com")["user"], "anna@example.com")
    refused(t, "not_found", "no user 'anna@example.com'", "user_remove", user="anna@example.com")


def test_members(t):
    admin = daemon().admin
    admin("org_add", org="club")
    admin("page_add", org="club", page="club-page")
    admin("user_add", user="bea@example.com")
    row = admin("member_set", user="BEA@example.com", org="club", role="viewer")
    t.equal((row["user"], row["org"], row["page"], row["role"]), ("bea@example.com", "club", None, "viewer"))
    t.equal(admin("member_set", user="bea@example.com", org="club", role="admin")["role"], "admin", "changed")
    row = admin("member_set", user="bea@example.com", page="club-page", role="editor")
    t.equal((row["org"], row["page"], row["role"]), ("club", "club-page", "editor"))
    refused(t, "not_found", "no user 'no@example.com'", "member_set", user="no@example.com", org="club", role="viewer")
    refused(t, "not_found", "no organization 'nobody'", "member_set", user="bea@example.com", org="nobody", role="viewer")
    refused(t, "not_found", "no page 'nobody'", "member_set", user="bea@example.com", page="nobody", role="viewer")
    refused(t, "not_found", "no organization role 'king': there are billing, viewer, editor, admin, owner", "member_set",
            user="bea@example.com", org="club", role="king")
    refused(t, "not_found", "no page role 'billing'", "member_set", user="bea@example.com", page="club-page", role="billing")
    places = [(r["org"], r["page"], r["role"]) for r in admin("member_list", user="bea@example.com")["rows"]]
    t.equal(places, [("club", None, "admin"), ("club", "club-page", "editor")])
    t.equal(len(admin("member_list", org="club")["rows"]), 2, "the organization's and its pages'")
    t.equal([r["role"] for r in admin("member_list", page="club-page")["rows"]], ["editor"])
    first = admin("member_list", org="club", limit=1)
    t.equal([r["page"] for r in first["rows"]], [None])
    t.equal([r["page"] for r in admin("member_list", org="club", limit=1, after=first["next"])["rows"]], ["club-page"])
    refused(t, "not_found", "no page 'nobody'", "member_list", page="nobody")
    t.equal(admin("member_remove", user="bea@example.com", org="club")["role"], "admin")
    refused(t, "not_found", "user 'bea@example.com' is not a member of organization 'club'", "member_remove",
            user="bea@example.com", org="club")
    t.equal(admin("member_remove", user="bea@example.com", page="club-page")["role"], "editor")
    refused(t, "not_found", "is not a member of page 'club-page'", "member_remove", user="bea@example.com", page="club-page")


def test_the_contract_names_methods_and_fields(t):
    """PROTOCOL.md's table, against what the daemon takes and answers."""
    with open(os.path.join(ROOT, "proto", "PROTOCOL.md")) as f:
        table = f.read().split("\n## Administration")[1].split("\n`key_mint`:")[0]
    rows = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| (.*?) \| (.*?) \|$", table, re.M)
    documented = {name: (params, row) for names, params, row in rows for name in re.findall(r"`(\w+)`", names)}
    t.equal(len(documented), 32, "methods")
    for name, (params, _) in documented.items():
        error = t.raises(RpcError, lambda: daemon().admin(name, no_such_parameter=1))
        t.equal(error.code, "bad_params", name)
        takes = re.search(r"it takes ([a-z_, ]+)$", error.message)
        if name != "key_mint": # it has a table of its own
            wanted = {p for p in re.findall(r"`(\w+)\??`", params)} - {"active", "suspended", "archived", "refused", "unavailable"}
            t.equal(set(takes[1].split(", ")) - {"no parameters"}, wanted, f"parameters of {name}")
    admin = daemon().admin
    def fields(text):
        return [field for group in re.findall(r"`([^`]*)`", text) for field in group.split(", ")]
    for noun, params in (("org", {"org": "contract"}), ("page", {"org": "contract", "page": "contract-page"}),
                         ("user", {"user": "contract@example.com"})):
        row = fields(documented[f"{noun}_add"][1])
        t.equal(list(admin(f"{noun}_add", **params)), row + ["rev"], f"{noun}_add")
        one = {noun: params[noun]}
        t.equal(list(admin(f"{noun}_show", **one)), row + fields(documented[f"{noun}_show"][1]), f"{noun}_show")
        t.equal(list(admin(f"{noun}_set", name="x", **one)), row + ["rev"], f"{noun}_set")
        t.equal(list(admin(f"{noun}_list")["rows"][0]), row, f"{noun}_list")
    row = fields(documented["member_set"][1])
    t.equal(list(admin("member_set", user="contract@example.com", org="contract", role="viewer")), row + ["rev"])
    t.equal(list(admin("member_list", org="contract")["rows"][0]), row)
    glass = admin("break_glass_mint", org="contract", pages=["contract-page"], scopes=["page:read"], hours=1)
    t.equal(list(glass), fields(documented["break_glass_mint"][1]))


def test_lists_go_on(t):
    admin = daemon().admin
    names = [f"list-{n:03}" for n in range(120)]
    for name in names:
        admin("org_add", org=name)
    got, after, answers = [], None, 0
    while True:
        answer = admin("org_list", **({"after": after} if after else {"after": "list"}))
        got += [row["org"] for row in answer["rows"]]
        t.ok(len(answer["rows"]) <= 50, "no more than database.admin_rows")
        answers += 1
        after = answer["next"]
        if not after:
            break
    t.equal([name for name in got if name.startswith("list-")], names)
    t.ok(answers >= 3, "in parts")
    t.equal(admin("org_list", after="list-118", limit=1)["rows"][0]["org"], "list-119")
    refused(t, "bad_params", "limit is 51: it must be an integer from 1 to 50", "org_list", limit=51)


def test_mint_an_organization_key(t):
    admin = daemon().admin
    admin("org_add", org="mint")
    admin("page_add", org="mint", page="mint-a")
    admin("page_add", org="mint", page="mint-b")
    got = admin("key_mint", kind="organization", org="mint", access="write", name="deploy", pages=["mint-a"],
                scopes=["incident:write", "page:delete"], networks=["192.0.2.0/24", "2001:db8::/32"],
                expires_at="2099-12-31T23:59:59+02:00", not_before=0)
    t.ok(re.fullmatch(r"ako_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}", got["key"]), "a key")
    t.equal(got["key"][4:14], got["key_id"])
    t.equal(got["narrowing"], {"pages": ["mint-a"], "scopes": ["incident:write", "page:delete"],
                               "networks": ["192.0.2.0/24", "2001:db8::/32"]})
    t.equal((got["kind"], got["org"], got["user"], got["access"], got["name"], got["state"]),
            ("organization", "mint", None, "write", "deploy", "live"))
    t.equal((got["not_before"], got["expires_at"]), ("1970-01-01T00:00:00Z", "2099-12-31T21:59:59Z"))
    t.equal(got["created_by"], f"uid:{os.geteuid()}")
    shown = admin("key_show", key_id=got["key_id"])
    usage = shown.pop("usage")
    t.equal((usage.get("last_used_at"), usage["allowed"], usage["never_used_pages"], usage["never_used_scopes"]),
            (None, 0, ["mint-a"], ["incident:read", "incident:write", "page:delete"]), "nothing of it is used yet")
    t.equal(shown, {name: got[name] for name in got if name not in ("key", "rev")}, "shown as minted, without the key")
    ask = lambda scope, page, addr="192.0.2.9": allowed(got["key"], scope, page, got["rev"], addr=addr)["reason"]
    t.equal([ask("incident:write", "mint-a"), ask("incident:read", "mint-a"), ask("page:delete", "mint-a")], ["ok"] * 3)
    t.equal(ask("incident:write", "mint-b"), "page_not_granted")
    t.equal(ask("page:write", "mint-a"), "scope_not_granted")
    t.equal(ask("incident:write", "mint-a", "192.0.3.9"), "network")


def test_mint_a_user_key(t):
    admin = daemon().admin
    admin("org_add", org="people")
    admin("page_add", org="people", page="people-page")
    admin("user_add", user="carl@example.com")
    admin("member_set", user="carl@example.com", org="people", role="editor")
    got = admin("key_mint", kind="user", user="CARL@example.com")
    t.equal((got["user"], got["org"], got["access"], got["narrowing"]), ("carl@example.com", None, None, {}))
    t.equal((got["not_before"], got["expires_at"]), (None, None))
    t.equal(allowed(got["key"], "incident:write", "people-page", got["rev"])["verdict"], "allow")
    down = admin("member_set", user="carl@example.com", page="people-page", role="viewer")
    t.equal(allowed(got["key"], "incident:write", "people-page", down["rev"])["reason"], "scope_not_granted")
    refused(t, "refused", "has keys", "user_remove", user="carl@example.com")
    t.equal([r["key_id"] for r in admin("key_list", user="carl@example.com")["rows"]], [got["key_id"]])


def test_mint_refuses(t):
    admin = daemon().admin
    admin("org_add", org="strict")
    admin("org_add", org="stranger")
    admin("page_add", org="strict", page="strict-page")
    admin("page_add", org="stranger", page="stranger-page")
    before = admin("org_show", org="strict")["keys"]
    org = {"kind": "organization", "org": "strict"}
    refused(t, "not_found", "no organization 'nobody'", "key_mint", kind="organization", org="nobody")
    refused(t, "not_found", "no user 'no@example.com'", "key_mint", kind="user", user="no@example.com")
    refused(t, "not_found", "no page 'missing'", "key_mint", pages=["strict-page", "missing"], **org)
    refused(t, "not_found", "no page 'stranger-page' in organization 'strict'", "key_mint", pages=["stranger-page"], **org)
    refused(t, "not_found", "no scope 'incident:eat'", "key_mint", scopes=["incident:read", "incident:eat"], **org)
    refused(t, "not_found", "no access 'king': there are read, write", "key_mint", access="king", **org)
    refused(t, "invalid", "expires_at is 2033-05-18T03:33:19Z, and not_before 2033-05-18T03:33:20Z: it must be later",
            "key_mint", not_before=2000000000, expires_at=1999999999, **org)
    refused(t, "invalid", "it must be later than that", "key_mint", not_before=2000000000, expires_at=2000000000, **org)
    # a key that was never good is a mistake: most likely in the year, or in the zone
    for past in (1000000000, "2001-09-09T03:46:40+02:00"):
        refused(t, "invalid", "expires_at is 2001-09-09T01:46:40Z, and it is 20", "key_mint", expires_at=past, **org)
    refused(t, "invalid", "give a later time, or leave it out", "key_mint", not_before=0, expires_at=1, **org)
    done = daemon().ctl("key", "mint", "--org", "strict", "--expires", "2001-09-09")
    t.equal((done.returncode, done.stdout), (4, ""), done.stderr)
    t.contains(done.stderr, "expires_at is 2001-09-09T00:00:00Z, and it is 20")
    refused(t, "bad_params", "networks[0] is '10.0.0.1/8'", "key_mint", networks=["10.0.0.1/8"], **org)
    t.equal(admin("org_show", org="strict")["keys"], before, "nothing of it was made")


def test_empty_narrowing_allows_nothing(t):
    admin = daemon().admin
    admin("org_add", org="narrow")
    admin("page_add", org="narrow", page="narrow-page")
    for dimension, reason in (("pages", "page_not_granted"), ("scopes", "scope_not_granted"), ("networks", "network")):
        got = admin("key_mint", kind="organization", org="narrow", **{dimension: []})
        t.equal(got["narrowing"], {dimension: []})
        t.equal(allowed(got["key"], "page:read", "narrow-page", got["rev"])["reason"], reason, dimension)
    got = admin("key_mint", kind="organization", org="narrow", rate={"count": 5, "period_s": 60})
    t.equal(got["narrowing"], {"rate": {"count": 5, "period_s": 60}})
    t.equal([allowed(got["key"], "page:read", "narrow-page", got["rev"])["reason"] for _ in range(6)],
            ["ok"] * 5 + ["rate_limited"])
    # a page that goes takes itself out of the narrowing, which stays
    got = admin("key_mint", kind="organization", org="narrow", pages=["narrow-page"])
    admin("page_remove", page="narrow-page")
    t.equal(admin("key_show", key_id=got["key_id"])["narrowing"], {"pages": []})


def test_key_states(t):
    admin = daemon().admin
    admin("org_add", org="state")
    admin("page_add", org="state", page="state-page")
    got = admin("key_mint", kind="organization", org="state")
    ask = lambda row: allowed(got["key"], "page:read", "state-page", row["rev"])["reason"]
    t.equal(ask(got), "ok")
    row = admin("key_disable", key_id=got["key_id"])
    t.equal((row["state"], ask(row)), ("disabled", "disabled"))
    t.equal(admin("key_disable", key_id=got["key_id"])["state"], "disabled", "again does no harm")
    row = admin("key_enable", key_id=got["key_id"])
    t.equal((row["state"], ask(row)), ("live", "ok"))
    row = admin("key_revoke", key_id=got["key_id"])
    t.equal((row["state"], ask(row)), ("revoked", "revoked"))
    t.equal(admin("key_revoke", key_id=got["key_id"])["state"], "revoked", "again does no harm")
    refused(t, "refused", "is revoked: that is final", "key_enable", key_id=got["key_id"])
    for method in ("key_show", "key_disable", "key_enable", "key_revoke"):
        refused(t, "not_found", "no key 'zzzzzzzzzz'", method, key_id="zzzzzzzzzz")
    later = {"not_before": "2099-01-01T00:00:00Z"}
    t.equal(admin("key_mint", kind="organization", org="state", **later)["state"], "not_yet_valid")
    ends = admin("key_mint", kind="organization", org="state", expires_at="2099-01-01T00:00:00Z")
    t.equal(ends["state"], "live")
    SHARED["cluster"].sql("update apikeyd.key set expires_at = '2001-09-09' where id = %s", ends["key_id"])
    t.equal(admin("key_show", key_id=ends["key_id"])["state"], "expired")
    refused(t, "refused", "has keys", "org_remove", org="state")
    t.equal(len(admin("key_list", org="state")["rows"]), 3)
    refused(t, "not_found", "no organization 'nobody'", "key_list", org="nobody")
    refused(t, "not_found", "no user 'no@example.com'", "key_list", user="no@example.com")


def test_key_lists_go_on(t):
    admin = daemon().admin
    admin("org_add", org="many")
    minted = sorted(admin("key_mint", kind="organization", org="many")["key_id"] for _ in range(7))
    got, after = [], {}
    while after is not None:
        answer = admin("key_list", org="many", limit=3, **after)
        got += [row["key_id"] for row in answer["rows"]]
        after = {"after": answer["next"]} if answer["next"] else None
    t.equal(got, minted, "in the order of bytes")


def test_every_change_has_a_later_revision(t):
    admin = daemon().admin
    revs = [admin("org_add", org="revs")["rev"], admin("page_add", org="revs", page="revs-page")["rev"],
            admin("user_add", user="revs@example.com")["rev"],
            admin("member_set", user="revs@example.com", org="revs", role="viewer")["rev"],
            admin("key_mint", kind="user", user="revs@example.com")["rev"],
            admin("member_remove", user="revs@example.com", org="revs")["rev"]]
    t.equal(revs, sorted(set(revs)))
    wait_until("the daemon to see it", lambda: daemon().stats()["rev"] >= revs[-1])


def test_what_was_done_stands_in_the_database(t):
    cluster, admin = SHARED["cluster"], daemon().admin
    admin("org_add", org="stored")
    got = admin("key_mint", kind="organization", org="stored")
    (stored, version), = cluster.sql("select hash, pepper_version from apikeyd.key where id = %s", got["key_id"])
    t.equal(bytes(stored), key_hash(got["key"], daemon().pepper))
    t.equal(version, 1)
    everything = cluster.psql("-At", "-c", "select * from apikeyd.key, apikeyd.organization").stdout
    t.ok(got["key"] not in everything and got["key"][15:40] not in everything, "the key is nowhere in the database")
    t.ok(got["key"][15:40] not in daemon().log() and got["key"][15:40] not in cluster.log(), "nor in a log")


def test_the_log_says_who_changed_what(t):
    admin = daemon().admin
    me = f"uid:{os.geteuid()}"
    admin("user_add", user="logged@example.com")
    for method, params, what in (("org_add", {"org": "logged"}, "org logged"),
                                 ("page_add", {"org": "logged", "page": "logged-page"}, "page logged-page, org logged"),
                                 ("member_set", {"user": "logged@example.com", "page": "logged-page", "role": "viewer"},
                                  "page logged-page, org logged, user logged@example.com")):
        rev = admin(method, **params)["rev"]
        t.contains(daemon().log(), f"info: {method} by {me}: {what}: rev {rev}\n")
    minted = admin("key_mint", kind="organization", org="logged")
    rev = admin("key_revoke", key_id=minted["key_id"])["rev"]
    for line in (f"key_mint by {me}: key_id {minted['key_id']}, org logged: rev {minted['rev']}",
                 f"key_revoke by {me}: key_id {minted['key_id']}, org logged: rev {rev}"):
        t.contains(daemon().log(), f"info: {line}\n")
    admin("org_show", org="logged")
    t.ok("org_show" not in daemon().log(), "to read is no change")


def test_break_glass_keys_need_no_database(t):
    alone = t.keep(Daemon(wait="socket"))  # there is none where it looks
    got = alone.admin("break_glass_mint", org="acme", pages=["p", "q"], scopes=["incident:write"], hours=8)
    t.equal(sorted(got), ["expires_at", "key", "key_id", "line", "org"])
    t.ok(re.fullmatch(r"akb_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}", got["key"]), "a key")
    t.equal(got["key_id"], got["key"][4:14])
    t.equal(got["line"], f"{got['key_id']} 1:{key_hash(got['key'], alone.pepper).hex()} acme p,q incident:write "
                         f"{got['expires_at']}")
    t.contains(alone.log(), f"warning: break_glass_mint by uid:{os.geteuid()}: key_id {got['key_id']}, org acme, ends")
    t.ok(got["key"][15:40] not in alone.log(), "not in the log")
    error = t.raises(RpcError, lambda: alone.admin("break_glass_mint", org="acme", pages=["p"], scopes=["org:write"], hours=8))
    t.equal(error.code, "bad_params")
    # nobody's key, as far as the store goes
    answer = daemon().check(got["key"], "incident:write", "p")
    t.equal((answer["verdict"], answer["reason"], "key_id" in answer), ("deny", "unknown_key", False))


def test_pipelined_in_order(t):
    rpc = t.keep(Rpc(daemon().admin_socket))
    sent = [rpc.send("org_add", {"org": f"pipe-{n}"}) for n in range(30)]
    answers = [rpc.receive(msgid) for msgid in sent]
    t.equal([a["org"] for a in answers], [f"pipe-{n}" for n in range(30)])
    t.equal([a["rev"] for a in answers], sorted(a["rev"] for a in answers), "one after the other")


def test_wrong_parameters_over_the_wire(t):
    refused(t, "bad_params", "org_add: org is missing", "org_add")
    refused(t, "bad_params", "org_add: unknown parameter 'colour': it takes org, name", "org_add", org="x", colour="red")
    refused(t, "bad_params", "key_id is (not shown: it could be a key)", "key_show",
            key_id=make_key("user"))
    rpc = t.keep(daemon().rpc())
    error = t.raises(RpcError, lambda: rpc.call("org_add", {"org": "x"}), "a check socket knows none of it")
    t.equal(error.code, "unknown_method")
    rpc = t.keep(Rpc(daemon().admin_socket))
    for params in ([1], [{}, {}], ["x"], [[]], [{7: 1}], [{"a": msgpack.ExtType(1, b"")}]):
        error = t.raises(RpcError, lambda: rpc.call("org_dance", *params), params)
        t.equal(error.code, "unknown_method", f"whatever its parameters are: {params}")
        t.contains(error.message, "org_dance")
        t.equal(t.raises(RpcError, lambda: rpc.call("org_add", *params), params).code, "bad_params", params)


def test_what_sql_says_in_values(t):
    admin = daemon().admin
    name = "Robert'); drop table apikeyd.key; --  \\ \" ü 🔑"
    t.equal(admin("org_add", org="quoted", name=name)["name"], name)
    t.equal(admin("user_add", user="o'neil\\@example.com")["user"], "o'neil\\@example.com")
    t.equal(admin("user_show", user="o'neil\\@example.com")["user"], "o'neil\\@example.com")
    refused(t, "not_found", "no user 'o'neil@example.com'", "user_show",
            user="o'neil@example.com")


def test_database_away(t):
    """Unavailable while it is away, and works again afterwards without anybody's doing."""
    cluster, admin = SHARED["cluster"], daemon().admin
    admin("org_add", org="away")
    cluster.stop()
    refused(t, "unavailable", "", "org_show", org="away")
    cluster.start()

    def back():
        try:
            return admin("org_show", org="away")
        except RpcError as error:
            t.equal(error.code, "unavailable")
            return None
    t.equal(wait_until("administration to come back", back, step=0.1)["org"], "away")


def test_clean_end(t):
    t.equal(daemon().stop(), 0)


if __name__ == "__main__":
    run(globals())
