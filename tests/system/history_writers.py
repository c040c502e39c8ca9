"""The writers of the history checker: transactions of every shape on the small world, each noted in the past.

Each transaction first puts its number into the table history_mark, which so tells whether it was committed. Whatever
it changes it changes absolutely, and locks the thing by an update before it looks at its rows: then revision order is
also the order in which facts were set.
"""
import collections
import contextlib
import itertools
import random
import select
import threading
import time

import psycopg2
import psycopg2.errors

import history_world
from history_past import Txn
from history_world import ACCESS, ORGS, PAGES, ROLES, SCOPES, USERS

MARK = "create table history_mark (number bigint primary key, xid xid8 not null default pg_current_xact_id())"
numbers = itertools.count(1)


class Missed(Exception):
    """What was to be changed is not there: a failover has lost it."""


class Abandon(Exception):
    """The transaction is rolled back on purpose."""


# ---- what is done ---------------------------------------------------------------------------------------------------
# Each takes a cursor, dice and the world, does it, and returns the facts that it set.

def one(cursor, text, *values):
    cursor.execute(text, values)
    if cursor.rowcount != 1:
        raise Missed()


def do_org(cursor, dice, world):
    org, standing = dice.randrange(ORGS), dice.choice(["active", "active", "suspended"])
    one(cursor, "update apikeyd.organization set standing = %s where id = %s", standing, org + 1)
    return {("org", org): standing}


def do_page(cursor, dice, world):
    page, standing = dice.randrange(PAGES), dice.choice(["active", "archived"])
    one(cursor, "update apikeyd.page set standing = %s where id = %s", standing, page + 1)
    return {("page", page): standing}


def do_user(cursor, dice, world):
    user, standing = dice.randrange(USERS), dice.choice(["active", "active", "suspended"])
    one(cursor, "update apikeyd.user set standing = %s where id = %s", standing, user + 1)
    return {("user", user): standing}


def do_crowd(cursor, dice, world):
    standing = dice.choice(["active", "suspended"])
    cursor.execute("update apikeyd.user set standing = %s where id >= 1000", (standing,))
    return {("crowd",): standing}


def do_role(cursor, dice, world):
    user, role = dice.randrange(USERS), dice.choice(list(ROLES) + [None])
    one(cursor, "update apikeyd.user set name = %s where id = %s", str(next(numbers)), user + 1)
    if role:
        cursor.execute("insert into apikeyd.organization_member (organization_id, user_id, role) values (%s, %s, %s) "
                       "on conflict (organization_id, user_id) do update set role = excluded.role",
                       (user % ORGS + 1, user + 1, role))
    else:
        cursor.execute("delete from apikeyd.organization_member where user_id = %s", (user + 1,))
    return {("role", user): role}


def do_page_role(cursor, dice, world):
    user, role = dice.randrange(USERS), dice.choice(list(ROLES) + [None, None])
    page = dice.randrange(PAGES // ORGS) * ORGS + user % ORGS
    one(cursor, "update apikeyd.user set name = %s where id = %s", str(next(numbers)), user + 1)
    if role:
        cursor.execute("insert into apikeyd.page_member (page_id, user_id, role) values (%s, %s, %s) "
                       "on conflict (page_id, user_id) do update set role = excluded.role", (page + 1, user + 1, role))
    else:
        cursor.execute("delete from apikeyd.page_member where user_id = %s and page_id = %s", (user + 1, page + 1))
    return {("page_role", user, page): role}


def some_key(dice, world, kind=None):
    with world.lock:
        return dice.choice([k for k in world.keys if kind in (None, k.kind)])


def do_disable(cursor, dice, world):
    key, off = some_key(dice, world), dice.random() < 0.5
    one(cursor, "update apikeyd.key set disabled_at = case when %s then now() end where id = %s", off, key.id)
    return {("disabled", key.id): off}


def do_access(cursor, dice, world):
    key, access = some_key(dice, world, "organization"), dice.choice(list(ACCESS))
    one(cursor, "update apikeyd.key set access = %s where id = %s", access, key.id)
    return {("access", key.id): access}


def do_narrow(cursor, dice, world):
    """To some pages or scopes, to none at all, or not any more: one fact, several statements."""
    key = some_key(dice, world)
    if dice.random() < 0.5:
        word, values = "page", [p for p in range(PAGES) if p % ORGS == key.org and dice.random() < 0.6]
    else:
        word, values = "scope", [s for s in SCOPES if dice.random() < 0.5]
    if dice.random() < 0.4:
        values = None
    one(cursor, f"update apikeyd.key set narrowed_{word}s = %s where id = %s", values is not None, key.id)
    cursor.execute(f"delete from apikeyd.key_{word} where key_id = %s", (key.id,))
    for value in values or []:
        cursor.execute(f"insert into apikeyd.key_{word} (key_id, {'page_id' if word == 'page' else 'scope'}) "
                       "values (%s, %s)", (key.id, value + 1 if word == "page" else value))
    return {(word + "s", key.id): None if values is None else frozenset(values)}


def do_replace(cursor, dice, world):
    """A key is revoked or retired, and another one minted in its place."""
    old, how = some_key(dice, world), dice.choice(["revoked", "revoked", "retired"])
    new = world.new_key(old.kind, old.owner)
    # Long ago by any clock that a fault moves: it is the fact that counts here.
    one(cursor, f"update apikeyd.key set {how}_at = now() - interval '1 day' where id = %s", old.id)
    history_world.mint(cursor, new, None if old.owner is not None else dice.randrange(history_world.CROWD))
    return {(how, old.id): True, ("minted", new.id): (True, old, new)}


DOINGS = [(do_disable, 10), (do_narrow, 6), (do_replace, 3), (do_role, 5), (do_page_role, 4), (do_page, 3), (do_user, 4),
          (do_access, 2), (do_org, 2), (do_crowd, 2)]


# ---- the shapes of transactions ---------------------------------------------------------------------------------------

class Writer(threading.Thread):
    """One session that makes one transaction after the other, on whichever primary the stage has for it."""

    def __init__(self, name, stage, past, world, seed, pace=0.03):
        super().__init__(name=name, daemon=True)
        self.stage, self.past, self.world, self.pace = stage, past, world, pace
        self.dice = random.Random(f"{seed} {name}")
        self.connection = self.cursor = self.branch = None
        self.count = collections.Counter()
        self.error = None
        self.ending = self.busy = False
        self.shapes = {shape[6:]: getattr(self, shape) for shape in dir(self) if shape.startswith("shape_")}
        self.weights = {"single": 10, "several": 8, "subtransaction": 4, "rolled_back_savepoint": 4, "rolled_back": 2,
                        "repeatable_read": 4, "long": 2, "sits_on_the_turn": 2, "early_revision": 2, "asynchronous": 3,
                        "caught_exception": 2, "nothing": 1}

    def run(self):
        try:
            while not self.ending:
                self.stage.may_write.wait(0.2)
                self.busy = True
                if self.stage.may_write.is_set():
                    self.one()
                self.busy = False
                time.sleep(self.dice.expovariate(1 / self.pace))
        except BaseException as error: # told by who runs the play
            self.error = error
        finally:
            self.leave()

    def leave(self):
        if self.connection is not None:
            self.stage.leave(self)
            with contextlib.suppress(psycopg2.Error):
                self.connection.close()
            self.connection = None

    def enter(self):
        """A session on a primary that is open for writers; False: there is none."""
        if self.connection is not None and (self.connection.closed or not self.stage.is_open(self.branch)):
            self.leave()
        if self.connection is None:
            server, branch = self.stage.enter(self)
            if server is None:
                return False
            try:
                self.connection = psycopg2.connect(server.dsn() + f" application_name={self.name} connect_timeout=3")
            except psycopg2.Error:
                self.stage.leave(self)
                return False
            self.branch = branch
            self.connection.autocommit = True
            self.cursor = self.connection.cursor()
        return True

    def one(self):
        """A transaction, noted whatever becomes of it."""
        if not self.enter():
            time.sleep(0.05)
            return
        shape = self.dice.choices(list(self.shapes), [self.weights[s] for s in self.shapes])[0]
        txn = Txn(self.branch, self.name, shape.replace("_", " "))
        txn.number, txn.pid = next(numbers), self.connection.info.backend_pid
        try:
            self.level = "repeatable read" if shape == "repeatable_read" else "read committed"
            self.cursor.execute(f"begin isolation level {self.level}")
            self.cursor.execute("insert into history_mark (number) values (%s) returning xid::text", (txn.number,))
            txn.xid = self.cursor.fetchone()[0]
            self.shapes[shape](txn)
        except (Missed, Abandon, psycopg2.Error) as error:
            self.failed(error)
            return
        self.commit(txn)

    def failed(self, error):
        """Before COMMIT was sent: it has no effect."""
        self.count[f"rolled back: {getattr(error, 'pgcode', None) or type(error).__name__}"] += 1
        with contextlib.suppress(psycopg2.Error):
            self.cursor.execute("rollback")

    def commit(self, txn):
        minted = [v for v in txn.changes.values() if isinstance(v, tuple)]
        txn.changes = {f: v[0] if isinstance(v, tuple) else v for f, v in txn.changes.items()}
        self.past.sending(txn)
        self.world.touched(txn.changes)
        try:
            self.cursor.execute("commit")
            if self.cursor.statusmessage != "COMMIT":
                raise AssertionError(f"COMMIT was answered {self.cursor.statusmessage}: {txn.text()}")
        except psycopg2.Error as error:
            if self.connection.closed or error.pgcode is None or error.pgcode[:2] in ("57", "58", "XX", "08"):
                self.count["outcome unknown"] += 1
                with contextlib.suppress(psycopg2.Error):
                    self.connection.close()
            else:
                self.count[f"COMMIT refused: {error.pgcode}"] += 1
                self.past.aborted(txn)
            return
        self.past.acknowledged(txn)
        self.count["committed"] += 1
        for _, old, new in minted:
            self.world.add(new)
            self.world.bury([old])
        self.world.touched(txn.changes)

    # ---- tools of the shapes ----

    def do(self, txn, doing=None):
        doing = doing or self.dice.choices([d for d, _ in DOINGS], [w for _, w in DOINGS])[0]
        changes = doing(self.cursor, self.dice, self.world)
        txn.changes.update(changes)
        return changes

    def tell(self, txn):
        """apikeyd.revision(): from here on it has the turn."""
        self.cursor.execute("select apikeyd.revision()")
        txn.told = self.cursor.fetchone()[0] if txn.changes else None

    def maybe_tell(self, txn):
        if self.dice.random() < 0.5:
            self.tell(txn)

    def nap(self, longest):
        time.sleep(self.dice.random() * longest)

    # ---- shapes ----

    def shape_single(self, txn):
        self.do(txn)

    def shape_several(self, txn):
        for _ in range(self.dice.randint(2, 5)):
            self.do(txn)
        self.maybe_tell(txn)

    def shape_subtransaction(self, txn):
        self.do(txn)
        for _ in range(self.dice.randint(1, 3)):
            self.cursor.execute("savepoint s")
            self.do(txn)
            self.cursor.execute("release s")
        self.maybe_tell(txn)

    def shape_rolled_back_savepoint(self, txn):
        if self.dice.random() < 0.8:
            self.do(txn)
        for _ in range(self.dice.randint(1, 2)):
            self.cursor.execute("savepoint s")
            try:
                lost = Txn(txn.branch)
                self.do(lost)
                if self.dice.random() < 0.3:
                    self.cursor.execute("select apikeyd.revision()") # void
            except Missed:
                pass
            self.cursor.execute("rollback to s")
        if self.dice.random() < 0.5:
            self.do(txn)

    def shape_rolled_back(self, txn):
        self.do(txn)
        self.do(txn)
        self.maybe_tell(txn)
        self.world.touched(txn.changes)
        self.nap(0.1)
        raise Abandon()

    def shape_caught_exception(self, txn):
        """A subtransaction of PL/pgSQL that fails half-way."""
        self.do(txn)
        key = some_key(self.dice, self.world)
        self.cursor.execute("do $$ begin update apikeyd.key set disabled_at = now() where id = '%s'; "
                            "perform 1 / 0; exception when division_by_zero then null; end $$" % key.id)

    def shape_repeatable_read(self, txn):
        self.cursor.execute("select count(*) from apikeyd.key")
        self.nap(0.1)
        self.do(txn)
        self.nap(0.05)
        self.do(txn)
        self.maybe_tell(txn)

    def shape_long(self, txn):
        self.do(txn)
        self.world.touched(txn.changes)
        self.nap(1.5)
        self.do(txn)
        self.maybe_tell(txn)

    def shape_sits_on_the_turn(self, txn):
        """All others wait for it; what it changes after that belongs to it still."""
        self.do(txn)
        if self.dice.random() < 0.5:
            self.cursor.execute("set constraints all immediate")
            self.cursor.execute("select rev from apikeyd.revision where txn = pg_current_xact_id()")
            txn.told = self.cursor.fetchone()[0]
        else:
            self.tell(txn)
        self.world.touched(txn.changes)
        self.nap(self.stage.longest_turn)
        with contextlib.suppress(Missed):
            self.do(txn)

    def shape_early_revision(self, txn):
        self.do(txn)
        self.tell(txn)
        self.do(txn)
        self.do(txn)

    def shape_asynchronous(self, txn):
        """What is seen must not be lost, whatever the writer thinks of it."""
        self.cursor.execute("set local synchronous_commit = off")
        self.do(txn)
        self.maybe_tell(txn)

    def shape_nothing(self, txn):
        self.cursor.execute("update apikeyd.key set disabled_at = now() where id = 'nobody'")
        self.cursor.execute("select apikeyd.revision()")


class Idler(threading.Thread):
    """A backend that has changed something and is idle in its transaction all the while."""

    def __init__(self, stage):
        super().__init__(name="idler", daemon=True)
        self.stage, self.ending, self.error = stage, False, None

    def run(self):
        while not self.ending:
            server, _ = self.stage.enter(self)
            try:
                if server is None:
                    continue
                with contextlib.closing(psycopg2.connect(server.dsn() + " application_name=idler connect_timeout=3")) as c:
                    cursor = c.cursor()
                    cursor.execute("insert into apikeyd.user (email) values ('idle@history.test')")
                    cursor.execute("select 1 from apikeyd.revision limit 1")
                    while not self.ending and self.stage.primary is server:
                        if select.select([c.fileno()], [], [], 0.2)[0]:
                            break # it is told that its session ends
            except psycopg2.Error:
                pass
            finally:
                self.stage.leave(self)
                time.sleep(0.1)
