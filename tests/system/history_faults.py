"""The faults of the history checker: each is made, lasts a while, and is over when both daemons are up to date again."""
import contextlib
import os
import signal
import threading
import time

import psycopg2
import psycopg2.errors

from history_judge import Violation
from history_past import Txn, now
from history_resolver import READ
from history_writers import numbers
from world import wait_until

# One of the first beside one of the second.
NEAR = ["reset", "refuse", "stall", "delay", "packets", "kill_daemon", "stop_daemon", "sleep_of_a_host"]
FAR = ["kill_feed_backend", "kill_writer_backend", "end_sessions", "crash", "freeze", "forced_reload", "trim", "failover",
       "failover_with_loss", "failover_beside_the_deposed", "clock_of_database"]
DEPOSED_MS = 6000 # a deposed primary may be followed for no longer, by who can reach the new one


class Faults:
    def __init__(self, play, dice, scale=1.0):
        """`scale`: of how long they last."""
        self.play, self.stage, self.past, self.dice, self.scale = play, play.stage, play.past, dice, scale
        self.all = {name[6:]: getattr(self, name) for name in dir(self) if name.startswith("fault_")}

    def why_not(self, name):
        """Why that fault cannot be made here; None: it can."""
        stage = self.stage
        if name == "packets" and stage.no_namespace:
            return stage.no_namespace
        if name in ("clock_of_daemon", "sleep_of_a_host") and "a" not in stage.clocks:
            return "a sanitizer wants to be loaded first"
        if name.startswith("failover") and not stage.wants_standby:
            return "there is no standby"
        return None

    def nap(self, least, most):
        time.sleep((least + (most - least) * self.dice.random()) * self.scale)

    def some_daemons(self):
        return self.dice.choice([["a"], ["b"], ["a", "b"]])

    def fault_two_at_once(self):
        """One at a daemon or on its way, and one at the database."""
        near, far = (self.dice.choice([f for f in names if not self.why_not(f)]) for names in (NEAR, FAR))
        self.play.note(f"{near} and {far}")
        beside = threading.Thread(target=self.all[near])
        beside.start()
        try:
            self.all[far]()
        finally:
            beside.join()

    # ---- sessions and processes of PostgreSQL -----------------------------------------------------------------------

    def kill_backend(self, of):
        pids = wait_until(f"a backend of a {of}", lambda: self.stage.backends(of))
        os.kill(self.dice.choice(pids), signal.SIGKILL)
        # The whole server starts anew for that.
        wait_until("the server", self.primary_answers)

    def primary_answers(self):
        try:
            return self.stage.primary.sql("select 1")
        except Exception:
            return None

    def fault_kill_feed_backend(self):
        self.kill_backend("daemon")

    def fault_kill_writer_backend(self):
        self.kill_backend("writer")

    def fault_end_sessions(self):
        for _ in range(self.dice.randint(1, 3)):
            self.stage.primary.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name "
                                   "like any (array['apikeyd', 'writer%%']) and random() < 0.7")
            self.nap(0, 0.5)

    def fault_crash(self):
        self.stage.primary.stop("immediate")
        self.nap(0, 3)
        self.stage.primary.start()

    def fault_freeze(self):
        self.stage.primary.freeze()
        self.nap(0.2, 5)
        self.stage.primary.thaw()

    def take_the_turn(self):
        """A connection that has it, and a cursor. A writer that sits on it may make a deadlock of that (40P01): again."""
        while True:
            connection = self.stage.primary.connect(autocommit=False)
            try:
                cursor = connection.cursor()
                cursor.execute("lock table apikeyd.turn in exclusive mode")
                return connection, cursor
            except psycopg2.errors.DeadlockDetected:
                connection.close()
            except BaseException:
                connection.close()
                raise

    def with_the_turn(self, shape, then):
        """`then` may empty the log: what stands in it is read first, while nobody else can commit."""
        txn = Txn(self.stage.branch, "checker", shape)
        connection, cursor = self.take_the_turn()
        try:
            with self.past.lock:
                wanted = {t.number: t for t in self.past.unresolved if t.branch == txn.branch}
            cursor.execute(READ, (list(wanted),))
            seen = now()
            for number, _, rev in cursor.fetchall():
                if rev is not None:
                    self.past.resolve(wanted[number], rev, seen)
            txn.number = next(numbers)
            cursor.execute("insert into history_mark (number) values (%s) returning xid::text", (txn.number,))
            txn.xid = cursor.fetchone()[0]
            txn.told = then(cursor)
            self.past.sending(txn)
            connection.commit()
            if txn.told:
                self.past.acknowledged(txn)
            else:
                self.past.aborted(txn)
        finally:
            connection.close()

    def fault_forced_reload(self):
        def force(cursor):
            cursor.execute("select apikeyd.force_reload()")
            return cursor.fetchone()[0]
        self.with_the_turn("forced reload", force)

    def fault_trim(self):
        """What all daemons have applied, or more than that."""
        rows = self.dice.choice([0, 1000000])

        def trim(cursor):
            cursor.execute("select more from apikeyd.trim_change_log('0', %s)", (rows,))
            return None
        for _ in range(self.dice.randint(1, 5)):
            self.with_the_turn("trim", trim)
            self.nap(0, 0.3)

    # ---- failovers --------------------------------------------------------------------------------------------------

    def fault_failover(self):
        """The standby has all that anybody was told was committed."""
        self.stage.set_synchronous(True)
        self.nap(0.2, 1)
        self.fail_over(kill=True)
        self.expect_no_loss()

    def fault_failover_with_loss(self):
        """At times revisions have run ahead of the clock, and follow it no more: more are lost then than a sequence skips
        after a crash, so that a number might be given again."""
        ahead = self.dice.random() < 0.5
        if ahead:
            self.play.note("ahead of the clock")
            self.stage.primary.sql("select setval('apikeyd.revision_number', last_value + 60000000) "
                                   "from apikeyd.revision_number")
        self.lag()
        for number in range(40 if ahead else 0):
            self.switch(number % 2 == 0)
        self.fail_over(kill=True)

    def switch(self, off):
        """One more transaction, about a key that no writer touches. Where the turn makes a deadlock of it (40P01), again."""
        while True:
            with contextlib.suppress(psycopg2.errors.DeadlockDetected):
                return self.switch_once(off)

    def switch_once(self, off):
        key = self.play.world.fixed[2]
        txn = Txn(self.stage.branch, "checker", "one of many", {("disabled", key.id): off})
        with contextlib.closing(self.stage.primary.connect(autocommit=False)) as connection:
            cursor = connection.cursor()
            cursor.execute("update apikeyd.key set disabled_at = case when %s then now() end where id = %s", (off, key.id))
            cursor.execute("select apikeyd.revision()")
            txn.told = cursor.fetchone()[0]
            self.past.sending(txn)
            connection.commit()
            self.past.acknowledged(txn)

    def fault_failover_beside_the_deposed(self):
        """The old primary goes on calling itself one, and is written to."""
        self.lag()
        self.fail_over(kill=False)

    def lag(self):
        """The standby is cut off, and what is committed since will be lost."""
        stage, past = self.stage, self.past
        wait_until("the standby to stream", stage.streams)
        stage.set_synchronous(False)
        stage.standby.set("primary_conninfo", "")
        wait_until("the stream to end", lambda: not stage.streams())
        cut = past.certain(past.branches[-1], now())
        self.nap(0.1, 1.5)
        wait_until("something to lose", lambda: past.certain(past.branches[-1], now()) > cut)

    def fail_over(self, kill):
        stage, past, old = self.stage, self.past, self.stage.branch
        deposed, new = stage.primary, stage.standby
        new.set("synchronous_standby_names", "")
        if kill:
            stage.shut(old, wait=False)
            deposed.stop("immediate")
            self.nap(0, 1)
        hold = Txn(old)
        past.sending(hold) # nothing is judged until the branch is known
        began = now()
        new.promote()
        limit = new.sql("select coalesce(max(rev), 0) from apikeyd.revision")[0][0]
        limit = max(limit, past.base)
        branch = past.fork(limit, began)
        past.branches[old].ended = now() + DEPOSED_MS * 1000000
        stage.primary, stage.standby, stage.deposed, stage.branch = new, None, deposed, branch.number
        stage.synchronous = False
        with stage.lock:
            stage.open[branch.number] = new
        past.aborted(hold)
        if kill:
            self.nap(0, 1.5)
            deposed.start()
        else:
            self.nap(0.3, 2)
            stage.shut(old)
        self.play.resolver.look_last(old, deposed)
        self.play.world.restock(lambda key: past.value(limit, ("minted", key.id))
                                and not any(past.value(limit, (dead, key.id)) for dead in ("revoked", "retired")))
        self.play.audit(deposed, old)
        self.nap(0, 2)
        deposed.remove()
        stage.deposed = None
        stage.new_standby()

    def expect_no_loss(self):
        old, new = self.past.branches[-2:]
        for txn in list(self.past.made.values()):
            if txn.branch == old.number and txn.ack is not None and not new.sees(old.number, txn.rev) \
                    and txn.ack < new.began:
                raise Violation(f"acknowledged while the standby had to have it, and lost: {txn.text()}")

    # ---- between daemon and database --------------------------------------------------------------------------------

    def fault_reset(self):
        for _ in range(self.dice.randint(1, 4)):
            for name in self.some_daemons():
                self.stage.proxy.tell("reset", name)
            self.nap(0, 0.4)

    def over_a_while(self, command, values, least, most):
        names = self.some_daemons()
        for name in names:
            self.stage.proxy.tell(command, name, self.dice.choice(values))
        self.nap(least, most)
        if command == "stall" and self.dice.random() < 0.3:
            for name in names:
                self.stage.proxy.tell("reset", name)
        for name in names:
            self.stage.proxy.tell(command, name, 0)

    def fault_refuse(self):
        for name in ("a", "b"):
            self.stage.proxy.tell("reset", name)
        self.over_a_while("refuse", [1], 0.2, 4)

    def fault_stall(self):
        self.over_a_while("stall", [1], 0.2, 5)

    def fault_delay(self):
        self.over_a_while("delay", [20, 100, 400], 1, 4)

    def fault_packets(self):
        """Dropped in a network namespace: by turns for moments, or all of them for seconds."""
        if self.dice.random() < 0.5:
            for _ in range(self.dice.randint(5, 20)):
                self.stage.namespace.plug(False)
                self.nap(0, 0.08)
                self.stage.namespace.plug(True)
                self.nap(0, 0.08)
        else:
            self.stage.namespace.plug(False)
            self.nap(0.5, 5)
            self.stage.namespace.plug(True)

    # ---- daemons ----------------------------------------------------------------------------------------------------

    def fault_kill_daemon(self):
        for name in self.some_daemons():
            daemon = self.stage.daemons[name]
            daemon.kill()
            self.nap(0, 0.5)
            daemon.start(wait=False)

    def fault_stop_daemon(self):
        names = self.some_daemons()
        for name in names:
            self.stage.daemons[name].freeze()
        self.nap(0.1, 4)
        for name in names:
            self.stage.daemons[name].thaw()

    def fault_sleep_of_a_host(self):
        """Machines that have a daemon sleep while the database goes on: their CLOCK_MONOTONIC does not know."""
        self.sleep([self.stage.daemons[name] for name in self.some_daemons()], [])

    def fault_sleep_of_all(self):
        self.sleep(list(self.stage.daemons.values()), [s for s in (self.stage.primary, self.stage.standby) if s])

    def sleep(self, daemons, servers):
        for thing in [*servers, *daemons]:
            thing.freeze()
        began = now()
        self.nap(0.2, 5)
        slept = now() - began
        things = [*servers, *daemons]
        self.dice.shuffle(things)
        for thing in things:
            thing.thaw(slept) if thing in daemons else thing.thaw()
            self.nap(0, 0.2)

    # ---- clocks -----------------------------------------------------------------------------------------------------

    def move(self, move, shown):
        """`shown`: by how many seconds the clock is moved, as who has it thinks."""
        for _ in range(self.dice.randint(1, 3)):
            seconds = self.dice.choice([-3600, -60, -2, 2, 60, 3600])
            move(seconds)
            wait_until("the clock to be moved", lambda: abs(shown() - seconds) < 1)
            self.nap(0.2, 1)
        move(0)

    def fault_clock_of_database(self):
        def shown():
            at, = self.stage.primary.sql("select extract(epoch from clock_timestamp())")[0]
            return float(at) - time.time()
        self.move(self.stage.move_clock, shown)

    def fault_clock_of_daemon(self):
        """Nothing is judged by it; the daemon says by how much it is wrong."""
        name = self.dice.choice(list(self.stage.daemons))
        daemon = self.stage.daemons[name]
        self.move(daemon.clock.move, lambda: -daemon.stats()["feed"]["clock_behind_ms"] / 1000)
