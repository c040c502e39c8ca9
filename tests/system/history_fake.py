"""A daemon that lies, to show that the history checker notices. It speaks as much of the protocol as the readers ask,
reads the whole small world at each poll, and judges by the checker's own rule; honest, unless a fault is planted:

| plant | what it does wrong |
|---|---|
| no_poll | follows the doorbell alone, of which some are lost, and calls itself fresh |
| young | says that its copy is a millisecond old, and reads every now and then |
| halves | reads keys in one snapshot, and the rest with the revision in a later one |
| early | names the revision that was given last, which need not be committed |
| forgets | never reads again what keys are narrowed to |
| never_stale | goes on answering when it has ceased to read |
| impatient | does not wait for min_rev |
| two_copies | answers at times from a copy that it had before |
| mixes | answers the second half of a check_many from that |
| undecided | is unavailable when it need not be |
"""
import contextlib
import os
import random
import select
import socket
import threading
import time

import msgpack
import psycopg2

from history_past import now
from history_world import default_of, rule
from world import new_dir

MAX_STALE_MS = 2000
OTHERS = """select array['org', (id - 1)::text], standing from apikeyd.organization
  union all select array['page', (id - 1)::text], standing from apikeyd.page
  union all select array['user', (id - 1)::text], standing from apikeyd.user where id < 1000
  union all select array['crowd'], min(standing) from apikeyd.user where id >= 1000
  union all select array['role', (user_id - 1)::text], role from apikeyd.organization_member where user_id < 1000
  union all select array['page_role', (user_id - 1)::text, (page_id - 1)::text], role from apikeyd.page_member"""
KEYS = """select id, revoked_at is not null, retired_at is not null, disabled_at is not null, access, narrowed_pages,
  narrowed_scopes, array(select page_id - 1 from apikeyd.key_page p where p.key_id = k.id),
  array(select scope from apikeyd.key_scope s where s.key_id = k.id) from apikeyd.key k"""


class View:
    """What one poll has read."""

    def __init__(self, rev, facts, confirmed):
        self.rev, self.facts, self.confirmed = rev, facts, confirmed

    def fact(self, fact):
        return self.facts.get(fact, default_of(fact))


class Fake:
    def __init__(self, name, world, server, plant=None, poll=0.03):
        self.name, self.world, self.server, self.plant, self.poll = name, world, server, plant, poll
        self.life, self.stopped, self.ending, self.error = 1, False, False, None
        self.socket = os.path.join(new_dir("fake"), "check.sock")
        self.view = self.older = None
        self.narrowed = {}
        self.dice = random.Random(name)
        self.changed = threading.Condition()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.socket)
        self.listener.listen(16)
        self.connection = psycopg2.connect(server.dsn())
        self.connection.set_session("REPEATABLE READ" if plant != "halves" else "READ COMMITTED")
        self.bell = psycopg2.connect(server.dsn())
        self.bell.autocommit = True
        self.bell.cursor().execute("listen apikeyd")
        self.read()
        for target in (self.follow, self.accept):
            threading.Thread(target=target, daemon=True).start()

    # ---- following --------------------------------------------------------------------------------------------------

    def read(self):
        cursor, sent, facts = self.connection.cursor(), now(), {}
        cursor.execute(KEYS)
        for key, revoked, retired, disabled, access, paged, scoped, pages, scopes in cursor.fetchall():
            facts.update({("minted", key): True, ("revoked", key): revoked, ("retired", key): retired,
                          ("disabled", key): disabled, ("access", key): access,
                          ("pages", key): frozenset(pages) if paged else None,
                          ("scopes", key): frozenset(scopes) if scoped else None})
        if self.plant == "forgets":
            for fact in facts:
                if fact[0] in ("pages", "scopes"):
                    facts[fact] = self.narrowed.setdefault(fact, facts[fact])
        if self.plant == "halves":
            time.sleep(0.05)
        cursor.execute(OTHERS)
        for name, value in cursor.fetchall():
            facts[(name[0], *(int(part) for part in name[1:]))] = value
        cursor.execute("select last_value from apikeyd.revision_number" if self.plant == "early" else
                       "select max(rev) from apikeyd.revision")
        rev = cursor.fetchone()[0]
        self.connection.commit()
        with self.changed:
            self.older, self.view = self.view or View(rev, facts, sent), View(rev, facts, sent)
            self.changed.notify_all()

    def heard(self):
        """Whether it is told to read, by now."""
        self.bell.poll()
        rung = len(self.bell.notifies)
        self.bell.notifies.clear()
        return rung and self.dice.random() < 0.7

    def follow(self):
        began = time.monotonic()
        with contextlib.suppress(psycopg2.Error):
            while not self.ending:
                if self.plant == "no_poll":
                    select.select([self.bell], [], [], self.poll)
                    if self.heard():
                        self.read()
                    self.view.confirmed = now()
                    continue
                time.sleep(0.5 if self.plant == "young" else self.poll)
                if self.plant != "never_stale" or time.monotonic() < began + 1:
                    self.read()

    # ---- answering --------------------------------------------------------------------------------------------------

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        unpacker = msgpack.Unpacker(raw=False)
        with contextlib.suppress(OSError), client:
            while not self.ending:
                data = client.recv(65536)
                if not data:
                    return
                unpacker.feed(data)
                client.sendall(b"".join(msgpack.packb([1, number, None, self.answer(method, params)])
                                        for _, number, method, params in unpacker))

    def wait_for(self, rev, deadline_ms):
        end = time.monotonic() + deadline_ms / 1000
        with self.changed:
            while self.view.rev < rev and time.monotonic() < end:
                self.changed.wait(0.05)

    def answer(self, method, params):
        context = params[-1] if isinstance(params[-1], dict) else {}
        if "min_rev" in context and self.plant != "impatient":
            self.wait_for(context["min_rev"], context.get("deadline_ms", 1000))
        view, key = self.view, self.world.by_text[params[0]]
        if self.plant == "two_copies" and self.dice.random() < 0.2:
            view = self.older
        at = now()
        if method == "check":
            return self.verdict(view, at, key, params[1], params[2], context)
        pairs, views = params[1], [view] * len(params[1])
        if self.plant == "mixes":
            views[len(views) // 2:] = [self.older] * (len(views) - len(views) // 2)
        return [self.verdict(v, at, key, scope, page, context) for v, (scope, page) in zip(views, pairs)]

    def verdict(self, view, at, key, scope, page, context):
        age = -((view.confirmed - at) // 1000000) # rounded up
        head = {"rev": view.rev, "age_ms": 1 if self.plant == "young" else age}
        if age > MAX_STALE_MS and self.plant != "never_stale" or self.plant == "undecided" and self.dice.random() < 0.02:
            return {"verdict": "unavailable", "reason": "stale", **head}
        if view.rev < context.get("min_rev", 0) and self.plant != "impatient":
            return {"verdict": "unavailable", "reason": "behind", **head}
        reason = rule(view.fact, key, scope, int(page[4:]))
        return {"verdict": "allow" if reason == "ok" else "deny", "reason": reason, **head}

    def kill(self):
        self.ending = True
        self.listener.close()
        with contextlib.suppress(psycopg2.Error):
            self.connection.close()
            self.bell.close()
