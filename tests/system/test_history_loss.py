#!/usr/bin/env python3
"""History that the database loses: what a daemon knew as revoked, retired or disabled stays denied until that is accepted.

Real clusters are put back to what they were before, or fail over to a standby that had not come so far, while the daemon
runs, is stopped, or is killed. And where nothing is lost, what may be undone is followed as ever. The ledger of the database has
each loss and each acceptance, once for each daemon.
"""
import contextlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *  # noqa: E402

QUICK = {"database.backoff_min_ms": "20", "database.backoff_max_ms": "200", "database.guard_ms": "200", "ledger.flush_ms": "100"}
DENIALS = {"revoked": "revoked_at", "retired": "retired_at", "disabled": "disabled_at"}
shared = {}


class Server(Cluster):
    """A cluster that can be put back to what it was. Once a process the schema is installed: the others are copies."""

    def __init__(self, settings=None):
        if "made" not in shared:
            shared["made"] = None
            first = Cluster({"wal_level": "replica"}).start()
            first.install("apikeyd", demo=True)
            first.stop()
            shared["made"] = first
        super().__init__({"wal_level": "replica", **(settings or {})})
        self._run(["rm", "-r", self.data])
        self._run(["cp", "-a", shared["made"].data, self.data])

    def save(self, name="saved"):
        """As a backup of a stopped server."""
        self.stop()
        self._run(["cp", "-a", self.data, os.path.join(self.dir, name)])
        self.start()

    def put_back(self, name="saved", start=True):
        self.stop("immediate")
        self._run(["rm", "-r", self.data])
        self._run(["cp", "-a", os.path.join(self.dir, name), self.data])
        if start:
            self.start()


class Scene:
    """A server with the demo world, a daemon, and keys by name."""

    def __init__(self, t, settings=None, server=None, conninfo=None):
        self.t = t
        self.server = server or t.keep(Server().start())
        self.daemon = t.keep(Daemon(self.server, {**QUICK, **(settings or {})}, conninfo=conninfo))
        self.keys, self.ids = {}, {}

    def mint(self, *names):
        for name in names:
            minted = self.daemon.admin("key_mint", kind="organization", org="acme", access="write", name=name)
            self.keys[name], self.ids[name] = minted["key"], minted["key_id"]
            self.seen(minted["rev"])
        return self

    def sql(self, text, *params):
        return self.server.sql(text, *params)

    def change(self, name, what, server=None):
        """In one transaction; comes back when the daemon answers from it."""
        with contextlib.closing((server or self.server).connect(autocommit=False)) as connection:
            cursor = connection.cursor()
            cursor.execute(f"update apikeyd.key set {what} where id = %s", (self.ids[name],))
            cursor.execute("select apikeyd.revision()")
            rev = cursor.fetchone()[0]
            connection.commit()
        self.seen(rev)

    def deny(self, name, how):
        self.change(name, f"{DENIALS[how]} = now()")
        self.t.equal(self.ask(name), how, f"{name} before")

    def seen(self, rev):
        self.daemon.check(make_key("u"), "page:read", "acme", min_rev=rev, deadline_ms=60000)
        self.t.ok(self.daemon.stats()["rev"] >= rev, "it is applied")

    def ask(self, name):
        return self.daemon.check(self.keys[name], "page:read", "acme")["reason"]

    def expect(self, what="", **reasons):
        self.t.equal({name: self.ask(name) for name in reasons}, reasons, what)

    def history(self):
        return self.daemon.stats()["feed"]["history"]

    def follows(self):
        wait_until("the feed", lambda: self.daemon.stats()["feed"]["state"] == "following"
                   and self.daemon.stats()["freshness"]["state"] == "fresh")

    def lost(self, losses=1):
        """A loss was found, and what came of it is in place."""
        wait_until("the loss", lambda: self.history()["losses"] == losses and "HISTORY LOST: " in self.daemon.log()
                   and self.daemon.stats()["feed"]["state"] == "following")

    def again(self, kill=True):
        """Another life of the daemon."""
        if kill:
            self.daemon.kill()
            self.daemon._admin = None
        self.daemon.stop()
        self.daemon.start()

    def shown(self):
        done = self.daemon.ctl("history", "show", "--json")
        shown = json.loads(done.stdout)
        self.t.equal(done.returncode, int(shown["lost"]), "the exit code tells")
        return {row["key_id"]: (row["kept"], row["database"]) for row in shown["rows"]}, shown

    def accept(self):
        done = self.daemon.ctl("history", "accept", "--yes")
        self.t.equal((done.returncode, done.stdout), (0, ""), f"accepted: {done.stderr}")
        return done

    def entered(self, *actions, server=None, daemon=None):
        """The ledger has these entries and no others, all that this daemon has to say is among them, and a batch has sealed them."""
        server = server or self.server
        wait_until("the daemon's entries", lambda: (daemon or self.daemon).stats()["feed"]["history"]["entries_waiting"] == 0)

        def sealed():
            (daemon or self.daemon).check(make_key("u"), "page:read", "acme")
            return server.sql("select bool_and(sealed) from apikeyd.administration where tbl = 'history'")[0][0] is not False
        wait_until("their seals", sealed)
        rows = server.sql("select action, thing, who, after, changed from apikeyd.administration where tbl = 'history' order by id")
        self.t.equal([row[0] for row in rows], list(actions), "the ledger's entries")
        self.t.equal(server.sql("select problem from apikeyd.ledger_verify_admin() where severity = 'fault'"), [], "as they were written")
        return rows

    def deny_entries(self):
        self.sql("revoke execute on function apikeyd.history_lost, apikeyd.history_accepted from apikeyd_check")
        return self

    def allow_entries(self):
        self.sql("grant execute on function apikeyd.history_lost, apikeyd.history_accepted to apikeyd_check")

    def not_entered(self, waiting, failures=1):
        """It was tried, and goes on being tried."""
        before = self.history()["entry_failures"]
        wait_until("attempts", lambda: self.history()["entry_failures"] >= before + failures and self.history()["entries_waiting"] == waiting)
        self.t.equal(self.sql("select count(*) from apikeyd.administration where tbl = 'history'")[0][0], 0, "nothing is entered")

    def verified(self):
        return self.daemon.ctl("verify-copy").returncode


def everything(t, settings=None, before=None):
    """Keys of all kinds, and a server that was put back to before they were denied, not yet started."""
    s = Scene(t, settings)
    if before:
        before(s)
    s.mint("revoked", "retired", "disabled", "both", "live", "enabled", "old")
    s.deny("enabled", "disabled")
    s.deny("old", "revoked")
    s.server.save()
    s.follows()
    s.mint("later")
    s.deny("revoked", "revoked")
    s.deny("retired", "retired")
    s.deny("disabled", "disabled")
    s.deny("both", "disabled")
    s.deny("both", "revoked")
    s.deny("later", "revoked")
    s.change("enabled", "disabled_at = null")
    s.expect(enabled="ok", live="ok")
    return s


KEPT = {"revoked": "revoked", "retired": "retired", "disabled": "disabled", "both": "revoked", "live": "ok",
        "enabled": "disabled", "old": "revoked", "later": "unknown_key"}


# ---- a restore ------------------------------------------------------------------------------------------------------

def test_a_restore_while_the_daemon_runs(t):
    s = everything(t)
    s.server.put_back()
    s.lost()
    s.expect("after the restore", **KEPT)
    feed = s.daemon.stats()["feed"]
    t.equal((feed["history_lost"], feed["history"]["lost"], feed["history"]["kept_denied"], feed["history"]["refusing"]),
            (1, True, 5, False), "counted")
    rows, shown = s.shown()
    t.equal(rows, {s.ids["revoked"]: ("revoked", "live"), s.ids["retired"]: ("retired", "live"),
                   s.ids["disabled"]: ("disabled", "live"), s.ids["both"]: ("revoked", "live"),
                   s.ids["later"]: ("revoked", "missing")}, "what is kept")
    t.equal((shown["why"], shown["kept"], shown["whole"], shown["remembered"]), ("log", 5, True, True), "shown")
    t.ok(shown["from"]["rev"] > shown["to"]["rev"] > 0, "from where to where")
    log = s.daemon.log()
    t.equal(log.count("HISTORY LOST: the applied revision"), 2, "told when it is found, and when it is in place")
    t.contains(log, "apikeyctl history show", "says what to do")
    t.equal(s.verified(), 0, "what is denied on top is no difference")
    s.entered("lost")

    # Restarts, of either kind, forget nothing; changes since are followed.
    s.again()
    s.expect("after kill -9", **KEPT)
    s.again(kill=False)
    s.expect("after a stop", **KEPT)
    s.entered("lost")
    s.mint("new")
    s.change("new", "disabled_at = now()")
    s.change("live", "disabled_at = now()")
    s.expect(new="disabled", live="disabled")
    s.change("new", "disabled_at = null")
    s.change("live", "disabled_at = null")
    s.change("enabled", "disabled_at = null")
    s.expect("the new history is followed", new="ok", live="ok", enabled="ok")
    s.change("disabled", "disabled_at = now()")
    s.change("disabled", "disabled_at = null")
    s.expect("what is held is held", disabled="disabled")
    s.daemon.admin("key_revoke", key_id=s.ids["revoked"])
    wait_until("the revocation", lambda: s.shown()[0][s.ids["revoked"]] == ("revoked", "revoked"))


def test_accepting(t):
    s = everything(t)
    s.server.put_back()
    s.lost()
    done = s.daemon.ctl("history", "show")
    t.equal(done.returncode, 1, "something is lost")
    for part in ("Lost", "Kept denied", "KEY_ID", s.ids["disabled"], "missing"):
        t.contains(done.stdout, part, "the table")
    t.contains(done.stderr, "apikeyctl key revoke KEY_ID --yes", "says what to do first")
    t.contains(done.stderr, "apikeyctl history accept", "and then")
    t.equal(len(s.daemon.ctl("history", "show", "--limit", "2", "--json").stdout.split("key_id")), 3, "as many as asked for")
    found = json.loads(s.daemon.ctl("doctor", "--config", s.daemon.conf, "--json").stdout)
    t.equal([(f["state"], f["seen"]) for f in found if f["name"] == "history"],
            [("failed", "the database has lost history: 5 keys are kept denied")], "doctor finds it")
    page = s.daemon.admin("history_show", limit=2)
    rest = s.daemon.admin("history_show", after=page["next"])
    t.equal((len(page["rows"]), len(rest["rows"]), rest["next"]), (2, 3, None), "it goes on")
    done = s.daemon.ctl("history", "accept")
    t.equal(done.returncode, 2, "it asks")
    t.contains(done.stderr, "--yes", "or is told")
    error = t.raises(RpcError, lambda: s.daemon.admin("history_accept", loss=page["loss"] - 1), "another loss")
    t.equal(error.code, "refused", "none but the one that was shown")
    s.expect("nothing was accepted", **KEPT)

    s.sql("update apikeyd.key set revoked_at = now() where id = %s", s.ids["revoked"])
    wait_until("the revocation", lambda: s.shown()[0][s.ids["revoked"]] == ("revoked", "revoked"))
    s.entered("lost")
    t.contains(s.accept().stderr, "accepted: 5 keys", "told")
    s.entered("lost", "accepted")
    after = {**KEPT, "retired": "ok", "disabled": "ok", "both": "ok"}
    s.expect("the database's word stands", **after)
    t.contains(s.daemon.log(), "history accepted: revision", "logged")
    t.contains(s.daemon.log(), f"history_accept by uid:{os.geteuid()}", "with who did")
    history = s.history()
    t.equal((history["lost"], history["kept_denied"], history["accepts"]), (False, 0, 1), "counted")
    t.equal(s.shown()[1]["lost"], False, "shown")
    t.equal(s.daemon.ctl("history", "accept", "--yes").returncode, 4, "there is nothing left to accept")
    t.equal(s.shown()[1]["written"], True, "when apikeyctl ends it is on the disk")
    s.again()
    s.expect("for good", **after)
    t.equal(s.history()["losses"], 0, "it is this history that goes on")
    s.entered("lost", "accepted")
    s.change("live", "disabled_at = now()")
    s.change("live", "disabled_at = null")
    s.expect(**after)


def test_a_restore_while_the_daemon_is_away(t):
    """The journal is all there is. It was killed right after it had answered."""
    s = everything(t)
    s.change("live", "revoked_at = now()")
    wait_until("the answer", lambda: s.ask("live") == "revoked")
    s.daemon.kill()
    s.server.put_back()
    s.again()
    s.expect("at the start", **{**KEPT, "live": "revoked"})
    t.equal((s.history()["losses"], s.history()["kept_denied"]), (1, 6), "counted")
    t.contains(s.daemon.log(), "HISTORY LOST: ", "loud")
    s.entered("lost")
    # A second loss, to before all of it was made; what was held then is held still.
    s.change("enabled", "revoked_at = now()")
    s.again()
    t.equal(s.history()["losses"], 0, "once")
    s.server.put_back()
    s.lost()
    s.expect("after a second loss", **{**KEPT, "live": "revoked", "enabled": "revoked"})
    first, second = s.entered("lost", "lost") # the restore had taken the first away
    t.equal((first[3]["keys"], second[3]["keys"], first[1] == second[1]), (6, 7, False), "each as it was")
    s.accept()
    t.equal({row[1] for row in s.entered("lost", "lost", "accepted", "accepted")[2:]}, {first[1], second[1]}, "accepted together")
    s.expect("accepted together", revoked="ok", live="ok", enabled="disabled", old="revoked")


def test_a_restore_that_loses_no_denial(t):
    """It is a loss all the same, also for a daemon that was stopped meanwhile."""
    s = Scene(t).mint("old", "other")
    s.deny("other", "disabled") # where it was then is written
    s.server.save()
    s.follows()
    s.mint("new")
    s.daemon.stop()
    s.server.put_back()
    s.daemon.start()
    t.equal((s.history()["losses"], s.history()["kept_denied"]), (1, 0), "found")
    s.expect(old="ok", other="disabled", new="unknown_key")
    t.equal(s.entered("lost")[0][3]["keys"], 0, "in the ledger")
    s.accept()
    s.entered("lost", "accepted")
    s.again(kill=False)
    t.equal((s.history()["losses"], s.history()["lost"]), (0, False), "once")


def test_a_restore_that_ends_in_force_reload(t):
    """The log says nothing then: what the server has written says that it is before what it was."""
    s = everything(t)
    s.sql("select pg_switch_wal()") # more than the restored one writes in this test
    s.deny("live", "disabled")
    s.server.stop("immediate")
    s.daemon.kill()
    s.server.put_back()
    s.sql("select apikeyd.force_reload()")
    s.again()
    s.expect("at the start", **{**KEPT, "live": "disabled"})
    t.equal(s.shown()[1]["why"], "wal", "how it is known")
    t.equal(s.entered("lost")[0][3]["why"], "wal", "the ledger, too")
    s.accept()
    s.entered("lost", "accepted")
    # And under a daemon that runs: cut off, so that it sees the end alone.
    s.server.save()
    s.follows()
    s.deny("disabled", "disabled")
    s.sql("select pg_switch_wal()")
    s.deny("live", "retired")
    s.server.put_back(start=False)
    hidden, s.server.settings["unix_socket_directories"] = s.server.socket_dir, os.path.join(s.server.dir, "hidden")
    s.server._run(["mkdir", s.server.settings["unix_socket_directories"]])
    s.server.socket_dir = s.server.settings["unix_socket_directories"]
    s.server.start()
    s.sql("select apikeyd.force_reload()")
    s.server.stop()
    s.server.socket_dir = s.server.settings["unix_socket_directories"] = hidden
    s.server.start()
    s.lost(2)
    s.expect("after it", disabled="disabled", live="retired")
    s.entered("lost", "accepted", "lost")


def test_a_revoked_key_that_is_not_revoked(t):
    """No log tells: the keys themselves do. While it follows, in a reload, and at the start."""
    s = Scene(t).mint("one", "two", "three", "other")
    undo = ("alter table apikeyd.key disable trigger key_stays_revoked;"
            "update apikeyd.key set revoked_at = null, disabled_at = null where id in ('{}');"
            "alter table apikeyd.key enable always trigger key_stays_revoked;")
    for name in ("one", "two", "three"):
        s.deny(name, "revoked")
    s.deny("other", "disabled")
    s.sql(undo.format(s.ids["one"]))
    s.lost()
    t.equal((s.shown()[1]["why"], s.ask("one"), s.history()["kept_denied"]), ("revoked", "revoked", 1), "while it follows")
    t.equal(s.entered("lost")[0][3]["key_ids"], [s.ids["one"]], "in the ledger")
    s.accept()
    s.expect(one="ok")
    s.sql(undo.format(s.ids["two"]) + "select apikeyd.force_reload()")
    s.lost(2)
    t.equal((s.shown()[1]["why"], s.ask("two")), ("revoked", "revoked"), "in a reload")
    s.accept()
    s.daemon.kill()
    # What a disabled key is, the same loss tells.
    s.sql(undo.format(f"{s.ids['three']}', '{s.ids['other']}") + "select apikeyd.force_reload()")
    s.again()
    s.expect("at the start", three="revoked", other="disabled", one="ok", two="ok")
    t.equal(s.shown()[1]["why"], "revoked", "at the start")
    entry = s.entered("lost", "accepted", "lost", "accepted", "lost")[-1][3]
    t.equal((entry["revoked"], entry["disabled"], sorted(entry["key_ids"])), (1, 1, sorted([s.ids["three"], s.ids["other"]])), "in the ledger")


# ---- a failover -----------------------------------------------------------------------------------------------------

def pair(t, settings=None):
    primary = t.keep(Server().start())
    standby = t.keep(Standby(primary))
    standby.start()
    hosts = f"host={primary.socket_dir},{standby.socket_dir} user=apikeyd dbname=apikeyd"
    return Scene(t, settings, primary, hosts), standby


def caught_up(s, standby):
    rev = s.sql("select max(rev) from apikeyd.revision")
    wait_until("the standby", lambda: standby.sql("select max(rev) from apikeyd.revision") == rev)


def test_a_failover_to_a_standby_that_lags(t):
    s, standby = pair(t)
    s.mint("revoked", "disabled", "live", "before")
    s.deny("before", "disabled")
    caught_up(s, standby)
    standby.stop()
    s.deny("revoked", "revoked")
    s.deny("disabled", "disabled")
    s.change("before", "disabled_at = null")
    s.server.stop("immediate")
    standby.settings["hot_standby"] = "on"
    standby.start()
    standby.promote()
    s.lost()
    s.expect("after the failover", revoked="revoked", disabled="disabled", live="ok", before="disabled")
    _, shown = s.shown()
    t.equal((shown["from"]["timeline"], shown["to"]["timeline"], shown["kept"]), (1, 2, 2), "from where to where")
    entry = s.entered("lost", server=standby)[0][3]
    t.equal((entry["was"], entry["found"]), (shown["from"], shown["to"]), "in the new primary's ledger")
    s.again()
    s.expect("after kill -9", revoked="revoked", disabled="disabled", live="ok")
    s.change("before", "disabled_at = null", standby)
    s.change("live", "disabled_at = now()", standby)
    s.expect("the new history is followed", before="ok", live="disabled")
    s.accept()
    s.expect("accepted", revoked="ok", disabled="ok", live="disabled")
    s.entered("lost", "accepted", server=standby)


def test_a_failover_while_the_disk_is_full(t):
    """What could not be written is lost with the daemon, and its journal knows that: nobody is let in by that."""
    disk = t.keep(SmallDisk("4m"))
    state = os.path.join(disk.path, "state")
    os.mkdir(state, 0o700)
    s, standby = pair(t, {"state.directory": state, "ledger.spool_bytes": "1M"})
    s.mint("revoked", "live")
    # More that are revoked at once than the last page of the journal takes.
    s.sql("insert into apikeyd.key (id, kind, organization_id, access, hash, pepper_version) select lpad(i::text, 10, '0'), 'organization', "
          "organization_id, 'read', sha256(i::text::bytea), 1 from generate_series(1, 300) i, apikeyd.key where id = %s", s.ids["live"])
    caught_up(s, standby)
    standby.stop()
    s.follows()
    disk.fill()
    s.sql("update apikeyd.key set revoked_at = now() where id = %s or id like '0%%'", s.ids["revoked"])
    wait_until("the revocation", lambda: s.ask("revoked") == "revoked")
    wait_until("the journal's trouble", lambda: s.history()["journal_failing"])
    s.daemon.kill()
    s.daemon._admin = None
    s.server.stop("immediate")
    standby.settings["hot_standby"] = "on"
    standby.start()
    standby.promote()
    s.daemon.start()
    s.lost()
    refuses(s)
    refuses(s, "revoked")
    t.equal(s.shown()[1]["why"], "damaged", "nobody knows what was applied")
    s.again()
    refuses(s, "revoked")
    disk.free()
    s.again()
    refuses(s, "revoked")
    s.accept()
    s.expect("accepted", revoked="ok", live="ok")
    s.again()
    s.expect("which is known, with room", revoked="ok", live="ok")


def test_a_failover_that_loses_nothing(t):
    s, standby = pair(t)
    s.mint("revoked", "disabled")
    s.deny("revoked", "revoked")
    s.deny("disabled", "disabled")
    caught_up(s, standby)
    s.server.stop("immediate")
    standby.promote()
    wait_until("the new primary", lambda: s.daemon.stats()["feed"]["timeline"] == 2)
    s.follows()
    s.change("disabled", "disabled_at = null", standby)
    s.expect(revoked="revoked", disabled="ok")
    t.equal((s.history()["lost"], s.daemon.stats()["feed"]["history_lost"]), (False, 0), "nothing is lost")
    s.entered(server=standby)
    s.again()
    s.expect(revoked="revoked", disabled="ok")
    t.equal(s.history()["lost"], False, "nor is it after a restart")


def test_a_log_that_does_not_reach_back(t):
    """Cut above what was applied it says nothing: on another timeline that may be a loss, on the same it is none."""
    s, standby = pair(t, {"database.trim_ms": "0"})
    s.mint("disabled", "enabled")
    s.deny("disabled", "disabled")
    s.deny("enabled", "disabled")
    s.daemon.stop()
    s.sql("update apikeyd.key set disabled_at = null where id = %s", s.ids["enabled"])
    s.sql("select apikeyd.force_reload()")
    s.daemon.start()
    s.expect("the same timeline", disabled="disabled", enabled="ok")
    t.equal(s.history()["lost"], False, "an ordinary log")
    s.daemon.stop()
    s.sql("update apikeyd.key set disabled_at = null where id = %s", s.ids["disabled"])
    caught_up(s, standby)
    s.server.stop("immediate")
    standby.promote()
    standby.sql("select apikeyd.force_reload()")
    s.daemon.start()
    t.equal((s.ask("disabled"), s.shown()[1]["why"]), ("disabled", "timeline"), "nobody knows")
    t.equal(s.entered("lost", server=standby)[0][3]["why"], "timeline", "the ledger, too")
    s.accept()
    s.expect(disabled="ok")


# ---- refusing -------------------------------------------------------------------------------------------------------

def refuses(s, name="live"):
    answer = s.daemon.check(s.keys[name], "page:read", "acme")
    s.t.equal((answer["verdict"], answer["reason"]), ("unavailable", "stale"), "nothing is answered")
    s.t.ok(answer["retry_after_ms"] > 0, "ask again later")


def test_refusing(t):
    s = everything(t, {"freshness.on_history_loss": "refuse", "freshness.offline_grace": "*=10min"})
    s.server.put_back()
    s.lost()
    refuses(s)
    refuses(s, "revoked")
    with contextlib.closing(s.daemon.rpc()) as rpc:
        t.equal(rpc.call("whoami", s.keys["live"])["reason"], "stale", "whoami")
        t.equal([a["reason"] for a in rpc.call("check_many", s.keys["live"], [["page:read", "acme"]])], ["stale"])
        t.ok("server" in rpc.call("hello", {"client": "test", "version": "0"}), "hello is as ever")
    t.equal((s.history()["refusing"], s.daemon.stats()["freshness"]["state"]), (True, "stale"), "shown")
    t.contains(s.daemon.log(), "the database has lost history: run `apikeyctl history show`", "told")
    t.contains(s.daemon.log(), "and nothing is answered", "told")
    t.equal(s.entered("lost")[0][3]["on_history_loss"], "refuse", "in the ledger")
    s.again()
    refuses(s)
    s.entered("lost")
    # It is a setting like any other.
    s.daemon.settings["freshness.on_history_loss"] = "keep"
    s.daemon.write_conf()
    s.daemon.signal(signal.SIGHUP)
    wait_until("answers", lambda: s.ask("live") == "ok")
    s.expect("kept", **KEPT)
    s.daemon.settings["freshness.on_history_loss"] = "refuse"
    s.daemon.write_conf()
    s.daemon.signal(signal.SIGHUP)
    wait_until("refusals", lambda: s.ask("live") == "stale")
    s.accept()
    s.expect("accepted", live="ok", revoked="ok", old="revoked")
    t.equal(s.daemon.stats()["freshness"]["state"], "fresh", "fresh again")
    s.entered("lost", "accepted")


def test_more_than_it_remembers(t):
    """Who cannot tell what was denied does not answer."""
    s = Scene(t, {"state.denials": "1"}).mint("a", "b", "live")
    s.server.save()
    s.follows()
    s.deny("a", "revoked")
    t.equal(s.history()["whole"], True, "one it takes")
    s.deny("b", "revoked")
    t.equal((s.history()["whole"], s.history()["limit_denials"] > 0), (False, True), "counted")
    t.contains(s.daemon.log(), "[state] denials = 1 is reached", "told")
    s.again()
    t.equal(s.history()["whole"], False, "it says so of itself")
    s.expect(a="revoked", b="revoked", live="ok")
    s.server.put_back()
    s.lost()
    refuses(s)
    entry = s.entered("lost")[0][3]
    t.equal((entry["on_history_loss"], entry["whole"], entry["keys"]), ("keep", False, 1), "in the ledger")
    s.again()
    refuses(s)
    s.accept()
    s.expect(a="ok", live="ok")
    s.entered("lost", "accepted")


# ---- where nothing is lost ------------------------------------------------------------------------------------------

def test_what_may_be_undone(t):
    s = Scene(t).mint("disabled", "retired", "ahead", "revoked", "away")
    s.deny("disabled", "disabled")
    s.deny("retired", "retired")
    s.change("ahead", "retired_at = now() + interval '1 hour'")
    s.deny("away", "disabled")
    s.deny("revoked", "revoked")
    t.equal(s.history()["known_denials"], 5, "known")
    s.change("disabled", "disabled_at = null")
    s.change("retired", "retired_at = null")
    s.change("ahead", "retired_at = null")
    s.expect(disabled="ok", retired="ok", ahead="ok", revoked="revoked", away="disabled")
    t.equal(s.history()["known_denials"], 2, "forgotten")
    s.again()
    s.expect("after kill -9", disabled="ok", retired="ok", ahead="ok", revoked="revoked", away="disabled")
    s.daemon.kill()
    s.sql("update apikeyd.key set disabled_at = null where id = %s", s.ids["away"])
    s.again()
    s.expect("undone while it was away", away="ok", revoked="revoked")
    s.server.stop("immediate")
    s.server.start()
    s.change("disabled", "disabled_at = now()")
    s.sql("select apikeyd.force_reload()")
    wait_until("the reload", lambda: s.daemon.stats()["feed"]["forced_reloads"] == 1)
    s.follows()
    s.change("disabled", "disabled_at = null")
    s.expect("after a crash and a forced reload", disabled="ok", away="ok", revoked="revoked")
    history = s.history()
    t.equal((history["lost"], history["losses"], history["journal_failures"]), (False, 0, 0), "nothing is lost")


def test_many_at_once(t):
    """One write for all keys of a transaction; a load settles them in turns of the loop."""
    s = Scene(t, {"database.apply_slice": "7"}).mint("one")
    s.sql("insert into apikeyd.key (id, kind, organization_id, access, hash, pepper_version, revoked_at) "
          "select lpad(i::text, 10, '0'), 'organization', k.organization_id, 'read', sha256(i::text::bytea), 1, now() "
          "from generate_series(1, 3000) i, apikeyd.key k")
    s.mint("two")
    s.server.save()
    s.follows()
    writes = s.history()["journal_writes"]
    with contextlib.closing(s.server.connect(autocommit=False)) as connection:
        cursor = connection.cursor()
        cursor.execute("update apikeyd.key set disabled_at = now() where id not in %s", (tuple(s.ids.values()),))
        cursor.execute("select apikeyd.revision()")
        rev = cursor.fetchone()[0]
        connection.commit()
    s.seen(rev)
    t.ok(s.history()["journal_writes"] <= writes + 2, "one write, and one that somebody else may cause")
    t.equal(s.history()["known_denials"], 3000, "known")
    s.deny("one", "revoked")
    s.server.put_back()
    s.lost()
    s.expect(one="revoked", two="ok")
    t.equal(s.history()["kept_denied"], 1, "who is revoked is not disabled less")
    t.equal(s.entered("lost")[0][3]["key_ids"], [s.ids["one"]], "in the ledger")
    # And a loss of more keys than one entry names.
    s.accept()
    s.again()
    t.equal((s.ask("one"), s.history()["known_denials"]), ("ok", 3000), "as the database says")
    s.sql("alter table apikeyd.key disable trigger key_stays_revoked; update apikeyd.key set revoked_at = null; "
          "alter table apikeyd.key enable always trigger key_stays_revoked")
    s.lost()
    entry = s.entered("lost", "accepted", "lost")[-1][3]
    t.equal((entry["keys"], entry["revoked"], len(set(entry["key_ids"]))), (3000, 3000, 64), "some of them by name")


# ---- the directory --------------------------------------------------------------------------------------------------

def test_a_directory_that_cannot_be_used(t):
    server = t.keep(Server().start())
    good = t.keep(Daemon(server, QUICK))

    def refused(says, prepare=lambda d: None, **settings):
        d = Daemon(server, {**QUICK, **{name.replace("_", ".", 1): value for name, value in settings.items()}}, start=False)
        prepare(d)
        d.start(wait=False)
        t.equal(d.process.wait(WAIT), 1, "it does not start")
        t.contains(d.log(), "[state] directory = ", "names the setting")
        t.contains(d.log(), says, "says why")
    refused("No such file or directory; make it (systemd does, by StateDirectory=apikeyd)", state_directory="/no/such/place")
    refused("others may write to it (mode 0777)", lambda d: os.chmod(d.state_dir, 0o777))
    refused("another apikeyd has it", state_directory=good.state_dir)
    refused("is no journal of denials; move it away", lambda d: open(
        os.open(os.path.join(d.state_dir, "denials"), os.O_CREAT | os.O_WRONLY, 0o600), "w").close())
    t.equal(os.stat(os.path.join(good.state_dir, "denials")).st_mode & 0o777, 0o600, "its own file")


def test_no_directory(t):
    """It says so, and remembers as long as it lives."""
    s = Scene(t, {"state.directory": ""}).mint("key", "other")
    t.contains(s.daemon.log(), "warning: journal: [state] directory is empty", "told at the start")
    s.server.save()
    s.follows()
    s.deny("key", "disabled")
    s.server.put_back()
    s.lost()
    s.expect(key="disabled", other="ok")
    t.equal(s.shown()[1]["remembered"], False, "shown")
    s.entered("lost")
    t.contains(s.daemon.ctl("history", "show").stderr, "does not remember denials over a restart", "told")
    s.again()
    s.expect("forgotten", key="ok")


def test_no_hash_and_no_key_in_the_journal(t):
    s = Scene(t).mint("key")
    s.deny("key", "revoked")
    with open(os.path.join(s.daemon.state_dir, "denials"), "rb") as f:
        journal = f.read()
    hashed = bytes(s.sql("select hash from apikeyd.key")[0][0])
    t.ok(hashed not in journal and hashed[:8] not in journal and s.keys["key"].encode() not in journal, "ids alone")
    t.equal((journal[:8], (len(journal) - 16) % 40), (b"apikeydJ", 0), "slots")


# ---- the ledger -----------------------------------------------------------------------------------------------------

def guide(heading):
    """The query under that heading of sql/AUDITING.md."""
    with open(os.path.join(ROOT, "sql", "AUDITING.md")) as f:
        return re.search(r"## 11\. " + heading + r".*?```sql\n(.*?)```", f.read(), re.S)[1]


def test_what_the_ledger_has(t):
    """Two daemons, each for itself, and one that an administrator has told."""
    s = everything(t)
    other = t.keep(Daemon(s.server, {**QUICK, "freshness.on_history_loss": "refuse"}, pepper=s.daemon.pepper))
    wait_until("the other daemon", lambda: other.stats()["rev"] == s.daemon.stats()["rev"])
    s.server.put_back()
    s.lost()
    wait_until("the other's loss", lambda: other.stats()["feed"]["history"]["lost"] and other.stats()["feed"]["state"] == "following"
               and other.stats()["feed"]["history"]["entries_waiting"] == 0)
    rows = {row[1]: row for row in s.entered("lost", "lost")}
    shown, there = s.shown()[1], json.loads(other.ctl("history", "show", "--json").stdout)
    t.equal({shown["loss_id"], there["loss_id"]}, set(rows), "each its own")
    t.equal((shown["in_ledger"], there["in_ledger"]), (True, True), "and they know")
    kept = {key["key_id"] for key in shown["rows"]}
    for told, policy in ((shown, "keep"), (there, "refuse")):
        action, thing, who, entry, changed = rows[told["loss_id"]]
        daemon = s.sql("select host, pid from apikeyd.daemon where id = %s", entry["daemon"])
        t.equal(daemon, [(entry["host"], entry["pid"])], "the daemon as it is registered")
        t.equal((entry["was"], entry["found"], entry["why"], entry["on_history_loss"], entry["whole"]),
                (told["from"], told["to"], "log", policy, True), "what it says")
        t.equal((entry["keys"], entry["revoked"], entry["retired"], entry["disabled"]), (5, 3, 1, 1), "how many")
        t.equal(set(entry["key_ids"]), kept, "which")
        t.equal(who, "apikeyd", "by the daemons' login")
        t.contains(changed, f"revision {told['from']['rev']} (timeline 1) -> {told['to']['rev']} (timeline 1), 5 key(s) kept denied on ", "for people")
    s.accept()
    accepted = s.entered("lost", "lost", "accepted")[2]
    t.equal((accepted[1], accepted[2], set(accepted[3]["key_ids"])), (shown["loss_id"], f"uid:{os.geteuid()}", kept), "who, and of what")
    s.server.sql("create role auditor login; grant apikeyd_auditor to auditor")
    answered = s.server.psql("-At", "-P", "null=-", "-c", guide("Has the database lost history"), user="auditor").stdout.splitlines()
    t.equal(sorted(line.rsplit("|", 1)[1] for line in answered), ["-", f"uid:{os.geteuid()}"], "an auditor's question")
    shown = s.server.sql("select action from apikeyd.access_changes('acme') where tbl = 'history'", user="auditor")
    t.equal(sorted(shown), [("accepted",), ("lost",), ("lost",)], "it bears on a page")
    audit = s.daemon.ctl("audit", "show", "--key", s.ids["disabled"], "--database", s.server.dsn("auditor"))
    t.equal(audit.returncode, 0, audit.stderr)
    t.contains(audit.stdout, "kept denied", "apikeyctl shows what befell a key")
    # Whatever starts anew says it again, and once is enough.
    s.server.stop("immediate")
    s.server.start()
    s.again()
    s.entered("lost", "lost", "accepted")
    s.entered("lost", "lost", "accepted", daemon=other)


def test_a_ledger_that_takes_nothing(t):
    """What cannot be entered waits, over restarts, and holds up nothing."""
    s = everything(t, before=Scene.deny_entries)
    s.server.put_back()
    s.lost()
    s.not_entered(1, failures=3)
    s.expect("it keeps what it knew", **KEPT)
    t.equal(s.daemon.log().count("entering lost history in the ledger: "), 1, "told once")
    t.contains(s.daemon.log(), "permission denied for function history_lost", "and why")
    t.equal(s.shown()[1]["in_ledger"], False, "shown")
    s.mint("new")
    s.change("new", "disabled_at = now()")
    s.expect("changes are followed", new="disabled")
    found = json.loads(s.daemon.ctl("doctor", "--config", s.daemon.conf, "--json").stdout)
    t.equal([f["state"] for f in found if f["name"] == "grants"], ["failed"], "doctor finds it")
    s.again()
    s.not_entered(1)
    s.accept()
    s.not_entered(2)
    s.again()
    s.not_entered(2)
    s.allow_entries()
    rows = s.entered("lost", "accepted")
    t.equal((rows[0][1], rows[0][3]["keys"], rows[1][3]["keys"]), (rows[1][1], 5, 5), "as it was then")
    s.again()
    s.entered("lost", "accepted")


def test_a_death_before_it_knows(t):
    """The ledger has it, and the journal does not say so: it says it again, which is the same."""
    s = everything(t, before=Scene.deny_entries)
    s.server.put_back()
    s.lost()
    s.not_entered(1)
    journal, copy = os.path.join(s.daemon.state_dir, "denials"), os.path.join(s.daemon.dir, "denials")
    s.daemon.kill()
    shutil.copy2(journal, copy)
    s.allow_entries()
    s.again()
    rows = s.entered("lost")
    t.equal(s.history()["entries"], 1, "made in this life")
    s.daemon.kill()
    shutil.copy2(copy, journal)
    s.again()
    t.equal(s.entered("lost"), rows, "once")
    t.equal(s.history()["entries"], 0, "not in this one")
    s.expect("it goes on keeping what it knew", **KEPT)


def test_a_journal_of_the_version_before(t):
    """It has a loss that nobody entered."""
    s = everything(t, before=Scene.deny_entries)
    s.server.put_back()
    s.lost()
    s.not_entered(1)
    s.daemon.kill()
    path = os.path.join(s.daemon.state_dir, "denials")
    with open(path, "rb+") as f:
        data = f.read()
        slots = [data[at:at + 40] for at in range(16, len(data), 40)]
        f.seek(0)
        f.truncate()
        f.write(data[:8] + struct.pack("<I", 1) + data[12:16] + b"".join(slot for slot in slots if slot[0] <= 7))
    s.allow_entries()
    s.again()
    s.expect("what it kept", **KEPT)
    t.equal(s.entered("lost")[0][3]["keys"], 5, "entered now")
    s.accept()
    s.entered("lost", "accepted")


def test_a_ledger_that_is_locked(t):
    """Somebody has its table, for as long as he likes: answers stay fresh."""
    s = everything(t)
    s.daemon.signal(signal.SIGSTOP)
    s.server.put_back()
    with contextlib.closing(s.server.connect(autocommit=False)) as connection:
        connection.cursor().execute("lock table apikeyd.ledger_admin in access exclusive mode")
        s.daemon.signal(signal.SIGCONT)
        s.lost()
        polls, failures = s.daemon.stats()["feed"]["polls"], s.history()["entry_failures"]
        wait_until("polls and attempts", lambda: s.daemon.stats()["feed"]["polls"] >= polls + 10 and s.history()["entry_failures"] >= failures + 2)
        wait_until("fresh answers", lambda: s.daemon.stats()["freshness"]["state"] == "fresh")
        s.expect("it answers", **KEPT)
        t.equal((s.history()["entries"], s.history()["entries_waiting"]), (0, 1), "it waits")
        connection.rollback()
    s.entered("lost")


if __name__ == "__main__":
    run(globals())
