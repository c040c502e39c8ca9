"""Who waits for revisions, in the history checker: `CALL apikeyd.wait(rev)` has returned, so no daemon may answer from
before it any more. The judge holds all later questions against that.

Leases run by the database's clock. What was waited for while that stood wrong, or within a lease of its being moved, is
held against nobody: a clock that jumps ahead ends leases before their time.
"""
import contextlib
import random
import threading
import time

import psycopg2

from history_past import now


class Waiter(threading.Thread):
    def __init__(self, stage, past, judge, seed):
        super().__init__(name="waiter", daemon=True)
        self.stage, self.past, self.judge = stage, past, judge
        self.dice = random.Random(f"{seed} waiter")
        self.ending, self.error = False, None
        self.waited, self.in_vain, self.longest = 0, 0, 0

    def run(self):
        try:
            while not self.ending:
                time.sleep(0.1 * self.dice.random())
                server, branch = self.stage.enter(self)
                try:
                    if server is not None and self.stage.may_write.is_set():
                        self.one(server, branch)
                except psycopg2.Error:
                    self.in_vain += 1
                finally:
                    self.stage.leave(self)
        except BaseException as error: # told by who runs the play
            self.error = error

    def one(self, server, branch):
        """The newest revision of that primary."""
        with contextlib.closing(psycopg2.connect(server.dsn() + " application_name=waiter connect_timeout=3")) as c:
            c.autocommit = True
            cursor = c.cursor()
            cursor.execute("select max(rev) from apikeyd.revision")
            rev = cursor.fetchone()[0]
            began = now()
            trusted = self.stage.clock_is_trusted()
            # Not for as long as others have patience: a deposed primary whose clock was moved may have leases for an hour.
            cursor.execute("call apikeyd.wait(%s, '15 s')", (rev,))
            done = now()
            if server is self.stage.primary and trusted and self.stage.clock_is_trusted():
                self.judge.waited(done, branch, rev)
                self.waited += 1
                self.longest = max(self.longest, done - began)
