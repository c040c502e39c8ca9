"""A schema that is upgraded while older daemons run: what they answer meanwhile, as daemon/OPERATING.md says."""
from world import *

GRACE = {"freshness.max_stale_ms": "300", "freshness.offline_grace": "*:read=30min"}


class Fleet:
    """A database whose next migration comes later than these daemons."""

    def __init__(self, t, **settings):
        self.cluster = t.keep(Cluster().start().install(demo=True))
        self.settings = settings
        self.daemon = self.join(t)
        made = self.daemon.admin("key_mint", kind="organization", org="acme", access="write")
        self.key, self.key_id = made["key"], made["key_id"]
        self.daemon.check(self.key, "incident:read", "acme", min_rev=made["rev"], deadline_ms=20000)

    def join(self, t, wait=True):
        return t.keep(Daemon(self.cluster, settings=dict(GRACE, **self.settings), wait=wait,
                             pepper=getattr(getattr(self, "daemon", None), "pepper", None)))

    def migrate(self):
        """As each migration does: its version, and a forced reload, in one transaction."""
        self.cluster.psql("-c", "begin; insert into apikeyd.schema_migration (version, name) "
                          "select max(version) + 1, 'later' from apikeyd.schema_migration; "
                          "select apikeyd.force_reload(); commit")

    def go_back(self):
        """As if these were the daemons of that migration."""
        self.cluster.psql("-c", "begin; delete from apikeyd.schema_migration where name = 'later'; "
                          "select apikeyd.force_reload(); commit")

    def state(self, daemon=None):
        return (daemon or self.daemon).stats()["freshness"]["state"]

    def ask(self, scope):
        answer = self.daemon.check(self.key, scope, "acme")
        return answer["verdict"], answer["reason"], answer.get("stale", False)


def test_an_older_daemon_beside_a_newer_schema(t):
    """It follows no more. What it knows it answers as in an outage: as long as max_stale and grace let it."""
    f = Fleet(t)
    f.migrate()
    wait_until("the daemon to notice", lambda: f.state() == "grace")
    wait_until("the reason in the log", lambda: ", newer than this daemon's " in f.daemon.log())
    t.contains(f.daemon.log(), "; upgrade apikeyd")
    t.equal(f.ask("incident:read"), ("allow", "ok", True), "reads have a grace")
    t.equal(f.ask("incident:write"), ("unavailable", "stale", False), "writes have none")
    # A revocation of this time is not seen until the daemon is upgraded too: grace is that risk.
    f.cluster.sql("update apikeyd.key set revoked_at = now() where id = %s", f.key_id)
    t.equal(f.ask("incident:read"), ("allow", "ok", True))
    # One that starts now has nothing to answer from.
    late = f.join(t, wait="socket")
    wait_until("it to say why", lambda: ", newer than this daemon's " in late.log())
    t.equal(late.check(f.key, "incident:read", "acme")["reason"], "not_loaded")
    # And nobody has to be restarted when versions agree again.
    f.go_back()
    for daemon in (f.daemon, late):
        t.ok(wait_until("the daemon to follow again", lambda: daemon.check(f.key, "incident:read", "acme")["reason"] == "revoked"),
             "what was not seen is")


def test_without_a_grace(t):
    """Answers end with max_stale; no sooner, since the copy was confirmed until then."""
    f = Fleet(t, **{"freshness.offline_grace": ""})
    f.migrate()
    wait_until("the end of it", lambda: f.state() == "stale")
    t.equal(f.ask("incident:read"), ("unavailable", "stale", False))
    f.go_back()
    t.ok(wait_until("it to follow again", lambda: f.ask("incident:read") == ("allow", "ok", False)), "as before")


def test_a_newer_daemon_beside_an_older_schema(t):
    """It waits for `apikeyctl db upgrade`, and goes on by itself then."""
    f = Fleet(t)
    version = f.cluster.sql("select max(version) from apikeyd.schema_migration")[0][0]
    f.daemon.stop()
    f.cluster.sql("delete from apikeyd.schema_migration where version = %s", version)
    f.daemon.start(wait="socket")
    wait_until("it to say why", lambda: f"is at version {version - 1}, older than this daemon's {version}; run `apikeyctl db upgrade`"
               in f.daemon.log())
    t.equal(f.ask("incident:read"), ("unavailable", "not_loaded", False))
    f.cluster.sql("insert into apikeyd.schema_migration (version, name) values (%s, 'again')", version)
    t.ok(wait_until("it to load", lambda: f.ask("incident:read") == ("allow", "ok", False)), "as before")


if __name__ == "__main__":
    run(globals())
