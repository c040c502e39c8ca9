"""The ledger as a daemon writes it, by a second implementation of its encoding: batches of chosen rows, over psycopg2."""
import datetime
import hashlib
import hmac
import json
import uuid

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
EVENT = ("n", "at", "verdict", "reason", "method", "stack", "caller_uid", "key_id", "scope", "page", "org", "addr", "rev", "age_ms", "stale",
         "explain")
ROLLUP = ("n", "minute", "verdict", "reason", "stack", "caller_uid", "key_id", "scope", "page", "addr", "count", "first_at", "last_at")
TIMES = {"event": "at", "rollup": "minute"}


def us(time):
    return (time - EPOCH) // datetime.timedelta(microseconds=1)


def line(*fields):
    out = b""
    for field in fields:
        if field is None:
            out += b"-"
        else:
            text = ("t" if field else "f") if isinstance(field, bool) else str(us(field)) if isinstance(field, datetime.datetime) else str(field)
            out += b"%d:%s" % (len(text.encode()), text.encode())
    return out


def sha(data):
    return hashlib.sha256(data).digest()


def mac_key(pepper):
    """pepper: the 32 bytes of a version."""
    return hashlib.blake2b(b"apikeyd ledger mac v1", key=pepper, digest_size=32).digest()


def event(at, verdict="deny", reason="scope_not_granted", method="check", stack="default", caller_uid=1000, key_id=None, scope=None, page=None,
          org=None, addr=None, rev=1, age_ms=5, stale=False, explain=False):
    return "event", dict(locals())


def rollup(minute, verdict="allow", reason="ok", stack="default", caller_uid=1000, key_id=None, scope=None, page=None, addr=None, count=1,
           first_at=None, last_at=None):
    row = dict(locals())
    row["first_at"] = first_at or minute
    row["last_at"] = last_at or minute + datetime.timedelta(seconds=59)
    return "rollup", row


class Chain:
    """One daemon's chain. connection: psycopg2, not in autocommit, of a role that may become apikeyd_check."""

    def __init__(self, connection, pepper=b"p" * 32, version=1, host="host", chain=None):
        self.connection, self.pepper, self.version, self.host = connection, pepper, version, host
        self.chain = str(chain or uuid.uuid4())
        self.batch, self.head = 0, bytes(32)
        self.heads = {}

    def _do(self, text, *params):
        cursor = self.connection.cursor()
        cursor.execute(text, params or None)
        return cursor.fetchall() if cursor.description else None

    def write(self, rows=(), made_at=None, lost=0, most=10000):
        """One batch of verdicts; returns its number."""
        made_at = made_at or datetime.datetime.now(datetime.timezone.utc)
        number = self.batch + 1
        days = [row[TIMES[tbl]].astimezone(datetime.timezone.utc).date() for tbl, row in rows]
        self._do("set local role apikeyd_check")
        if days:
            self._do("select apikeyd.ledger_ahead(%s, %s)", min(days), max(days))
        state = self._do("select state from apikeyd.ledger_begin(%s, %s, %s)", self.chain, self.host, number)[0][0]
        assert state == "go", state
        parts = {}
        for n, (tbl, row) in enumerate(rows, 1):
            columns = EVENT if tbl == "event" else ROLLUP
            row = dict(row, n=n)
            self._do(f"insert into apikeyd.ledger_{tbl} (chain, batch, {', '.join(columns)}) values (%s, %s{', %s' * len(columns)})",
                     self.chain, number, *[row[c] for c in columns])
            part = parts.setdefault((tbl, days[n - 1].isoformat()), [0, 0, b""])
            part[0] += 1
            part[1] += row.get("count", 1)
            part[2] += sha(line(tbl, *[row[c] for c in columns]))
        said = [{"tbl": tbl, "day": day, "rows": p[0], "counted": p[1], "digest": sha(p[2]).hex()} for (tbl, day), p in sorted(parts.items())]
        return self._close("rows", made_at, len(rows), lost, None, said, most)

    def state(self, kind, tbl, day, made_at=None):
        """A batch that compacts or prunes; returns its number."""
        number = self.batch + 1
        self._do("set local role apikeyd_check")
        assert self._do("select state from apikeyd.ledger_begin(%s, %s, %s)", self.chain, self.host, number)[0][0] == "go"
        function = "ledger_compact" if kind == "compaction" else "ledger_prune"
        text, rows, said = self._do(f"select statement, rows, parts from apikeyd.{function}(%s, %s, %s, %s)", self.chain, number, tbl, day)[0]
        return self._close(kind, made_at or datetime.datetime.now(datetime.timezone.utc), rows, 0, text, said, 10000)

    def _close(self, kind, made_at, rows, lost, text, said, most):
        number = self.batch + 1
        seals, digest = self._do("select seals, seals_digest from apikeyd.ledger_seal(%s, %s, %s)", self.chain, number, most)[0]
        head = sha(line("batch", self.chain, number, kind, made_at, rows, lost, text, self.version, self.head.hex(), seals, bytes(digest).hex(), len(said))
                   + b"".join(line(p["tbl"], p["day"], p["rows"], p["counted"], p["digest"]) for p in said))
        mac = hmac.new(mac_key(self.pepper), head, "sha256").digest()
        self._do("select apikeyd.ledger_close(%s, %s, %s, %s, %s, %s, %s, %s::smallint, %s, %s, %s, %s, %s)", self.chain, number, kind, us(made_at), rows, lost,
                 text, self.version, self.head, json.dumps(said), seals, head, mac)
        self.connection.commit()
        self.batch, self.head = number, head
        self.heads[number] = head
        return number
