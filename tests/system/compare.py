"""Asks the daemon and the oracle the same questions, and says where they differ."""
import collections
import io
import threading

import msgpack

PARTS = ("verdict", "reason", "missing_scope", "needs_role")
IN_FLIGHT = 300


def ask_daemon(daemon, groups, min_rev=0, stack=None):
    """The daemon's answer (its whole verdict map) to every question of the groups, in order, pipelined; by one stack."""
    rpc = daemon.rpc(120)
    answers, waiting, bytes_out = {}, {}, bytearray()
    pack = msgpack.Packer().pack

    def drain():
        nonlocal bytes_out
        rpc.send_raw(bytes_out)
        bytes_out = bytearray()
        while waiting:
            message = rpc.receive_message()
            if message[0] != 1:
                raise AssertionError(f"the daemon sent {message}")
            kind, msgid, error, result = message
            number, size = waiting.pop(msgid)
            if error is not None:
                raise AssertionError(f"{groups[number]}: {error}")
            got = result if size else [result]
            if size and len(got) != size:
                raise AssertionError(f"{groups[number]}: {len(got)} answers")
            answers[number] = got
    for number, group in enumerate(groups):
        first = group[0]
        context = {"deadline_ms": 60000}
        if min_rev:
            context["min_rev"] = min_rev
        if stack:
            context["stack"] = stack
        if first.org is not None:
            context["org"] = first.org
        if first.addr is not None:
            context["addr"] = first.addr
        if len(group) == 1 and number % 10: # a check_many of one pair is asked as well
            message = [0, number, "check", [first.key, first.scope, first.page, context]]
        else:
            message = [0, number, "check_many", [first.key, [[q.scope, q.page] for q in group], context]]
        waiting[number] = (number, len(group) if message[2] == "check_many" else 0)
        bytes_out += pack(message)
        if len(waiting) == IN_FLIGHT:
            drain()
    drain()
    rpc.close()
    return [answer for number in range(len(groups)) for answer in answers[number]]


def ask_oracle(cluster, questions, database="apikeyd", connections=2):
    """(verdict, reason, missing_scope, needs_role) by explain_rights; what is decided by the key's text by itself."""
    answers = [None] * len(questions)
    failed = []

    def field(text):
        return "\\N" if text is None else text.replace("\\", "\\\\").replace("\t", "\\t")

    def part(numbers):
        try:
            connection = cluster.connect(database=database, autocommit=False)
            cursor = connection.cursor()
            cursor.execute("create temporary table question (n int, key_id text, scope text, page text, org text, addr inet)")
            lines = "".join("\t".join([str(n)] + [field(text) for text in (questions[n].key_id or questions[n].nobody,
                            questions[n].scope, questions[n].page, questions[n].org, questions[n].addr)]) + "\n" for n in numbers)
            cursor.copy_expert("copy question from stdin", io.StringIO(lines))
            cursor.execute(f"select q.n, {', '.join('e.' + p for p in PARTS)} from question q, lateral"
                           " apikeyd.explain_rights(q.key_id, q.scope, q.page, q.org, q.addr, now()) e")
            for n, *answer in cursor.fetchall():
                answers[n] = tuple(answer)
            connection.close()
        except Exception as error:
            failed.append(error)
    asked = [n for n, question in enumerate(questions) if question.key_id or question.nobody]
    threads = [threading.Thread(target=part, args=(asked[i::connections],)) for i in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    for n, question in enumerate(questions):
        if not question.key_id and not question.nobody:
            answers[n] = ("deny", question.reason, None, None)
    return answers


def parts(answer):
    return tuple(answer.get(part) for part in PARTS)


def differences(questions, answers, oracle):
    """(question, the daemon's, the oracle's) wherever they differ."""
    return [(q, a, o) for q, a, o in zip(questions, answers, oracle) if parts(a) != o]


def sayable(question, answer):
    """What is wrong with an answer in itself; None where nothing is."""
    if question.key_id is None:
        about = [name for name in ("key_id", "kind", "org", "user", "page", "expires_at") if name in answer]
        return f"says {about} about a key that was not proven" if about else None
    if answer["verdict"] != "unavailable" and answer.get("key_id") != question.key_id:
        return f"names the key {answer.get('key_id')}"
    return None


class Tally:
    """How often each reason was given."""

    WANTED = ("malformed_key unknown_key revoked retired disabled not_yet_valid expired user_suspended network"
              " unknown_scope unknown_page not_member org_suspended page_archived page_not_granted scope_not_granted ok"
              ).split()

    def __init__(self):
        self.counts = collections.Counter()

    def add(self, oracle):
        self.counts.update(answer[1] for answer in oracle)

    def table(self):
        total = sum(self.counts.values())
        rows = sorted(set(self.WANTED) | set(self.counts), key=lambda w: (self.WANTED + [w]).index(w))
        return [f"{word:20} {self.counts[word]:7} {100 * self.counts[word] / total:6.2f} %" for word in rows] + [
            f"{'decisions':20} {total:7}"]

    def short(self, decisions, each, allowed):
        """What is less than was asked for."""
        total = sum(self.counts.values())
        lacks = [f"{word} only {self.counts[word]} times" for word in self.WANTED if self.counts[word] < each]
        if total < decisions:
            lacks.append(f"only {total} decisions")
        if self.counts["ok"] < allowed * total:
            lacks.append(f"only {self.counts['ok']} allowed")
        return lacks
