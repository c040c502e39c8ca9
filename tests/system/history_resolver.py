"""The resolver of the history checker: what became of transactions whose outcome or revision their writer cannot know.

A transaction's number stands in history_mark where it was committed, and nowhere else. So: its session is gone and the
number does not stand there: it had no effect. It stands there: it was committed, as the revision that the log has for
its transaction. And what was acknowledged and does not stand there has been lost, which a crash must not do.
"""
import contextlib
import threading
import time

import psycopg2

from history_judge import Violation
from history_past import now

READ = """select n, m.xid::text, r.rev from unnest(%s::bigint[]) as n left join history_mark m on m.number = n
          left join apikeyd.revision r on r.txn = m.xid"""


class Resolver(threading.Thread):
    def __init__(self, stage, past):
        super().__init__(name="resolver", daemon=True)
        self.stage, self.past = stage, past
        self.ending, self.error = False, None
        self.lock = threading.Lock()
        self.sessions = {} # branch -> cursor

    def run(self):
        try:
            while not self.ending:
                time.sleep(0.03)
                for branch, server in self.stage.open_branches():
                    with contextlib.suppress(psycopg2.Error):
                        self.look(branch, server)
        except BaseException as error: # told by who runs the play
            self.error = error

    def cursor(self, branch, server):
        cursor = self.sessions.get(branch)
        if cursor is None or cursor.connection.closed:
            connection = psycopg2.connect(server.dsn() + " application_name=resolver connect_timeout=3")
            connection.autocommit = True
            cursor = self.sessions[branch] = connection.cursor()
        return cursor

    def forget(self, branch):
        """Its session: the server was another one, or another life of it."""
        cursor = self.sessions.pop(branch, None)
        if cursor is not None:
            with contextlib.suppress(psycopg2.Error):
                cursor.connection.close()

    def look_last(self, branch, server):
        """Nothing more will be committed there."""
        with self.lock:
            self.forget(branch)
        self.look(branch, server, last=True)
        with self.lock:
            self.forget(branch)

    def look(self, branch, server, last=False):
        """Reads the log of that branch's primary."""
        with self.lock:
            with self.past.lock:
                # Those without a number are the checker's own, which knows what becomes of them.
                wanted = {t.number: t for t in self.past.unresolved if t.branch == branch and t.number is not None}
                certain = {t.number for t in wanted.values() if t.ack is not None}
            if not wanted:
                return
            try:
                cursor = self.cursor(branch, server)
                cursor.execute("select pid from pg_stat_activity where application_name like 'writer%'")
                alive = {pid for pid, in cursor.fetchall()}
                cursor.execute(READ, (list(wanted),))
                rows = cursor.fetchall()
            except psycopg2.Error:
                self.forget(branch)
                raise
            seen = now()
            for number, xid, rev in rows:
                self.settle(wanted[number], xid, rev, seen, number in certain, last or wanted[number].pid not in alive)

    def settle(self, txn, xid, rev, seen, certain, over):
        with self.past.lock:
            if txn not in self.past.unresolved: # known since, by who emptied the log
                return
        if rev is not None:
            self.past.resolve(txn, rev, seen)
        elif xid is not None:
            if txn.changes:
                raise Violation(f"committed changes without a revision: {txn.text()}")
            self.past.aborted(txn)
        elif certain:
            raise Violation(f"acknowledged and not there: {txn.text()}")
        elif over:
            self.past.aborted(txn)
