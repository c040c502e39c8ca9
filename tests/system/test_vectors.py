#!/usr/bin/python3
"""proto/vectors/ with an off-the-shelf MessagePack library and nothing of ours: the contract as a stranger reads it.

Prints TAP; exits 1 when anything failed. Needs no daemon and no database.
"""
import ipaddress
import json
import os
import re
import sys
import traceback
import zlib

import msgpack

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
REASONS = {
    "allow": ["ok"],
    "deny": ["malformed_key", "unknown_key", "revoked", "retired", "disabled", "not_yet_valid", "expired",
             "user_suspended", "network", "unknown_scope", "unknown_page", "not_member", "org_suspended",
             "page_archived", "page_not_granted", "scope_not_granted", "rate_limited", "caller", "no_stack",
             "policy"],
    "unavailable": ["not_loaded", "stale", "behind", "timeout", "overload", "module_fault", "audit_full",
                    "no_pepper"],
}
METHODS = ["hello", "check", "check_many", "pages", "whoami", "explain", "stats"]
TRACE = ["group", "module", "code", "line", "control", "action", "effect", "ns", "detail"]
ERRORS = ["malformed", "unknown_method", "bad_params", "limit", "not_found", "exists", "invalid", "refused",
          "unavailable", "internal"]
FIELDS = ["verdict", "reason", "rev", "age_ms", "stale", "key_id", "kind", "org", "user", "page", "missing_scope",
          "needs_role", "retry_after_ms", "expires_at", "successor", "pages", "next"]


def load(name):
    with open(os.path.join(ROOT, "proto", "vectors", name)) as f:
        return json.load(f)


def unpack(data):
    """One message. Texts that are no UTF-8 are kept."""
    return msgpack.unpackb(data, raw=False, strict_map_key=False, unicode_errors="surrogateescape",
                           object_pairs_hook=lambda pairs: Pairs(pairs))


class Pairs(dict):
    """A map that remembers whether a field came twice."""

    def __init__(self, pairs):
        pairs = list(pairs)
        super().__init__(pairs)
        self.twice = len(pairs) != len(self)


def base62(number, digits):
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, 62)
        text = BASE62[digit] + text
    return text


def meant(text):
    """A text of a meaning, as unpack() gives it."""
    if isinstance(text, dict):
        return bytes.fromhex(text["hex"]).decode(errors="surrogateescape")
    return text


def size(text):
    return len(text.encode(errors="surrogateescape"))


# ---- keytext.json: the section Keys of PROTOCOL.md, in Python ---------------------------------------------------

def parse_key(text, brand):
    match = re.fullmatch(re.escape(brand) + r"([uob])_([0-9A-Za-z]{10})_[0-9A-Za-z]{49}", text)
    if not match or base62(zlib.crc32(text[:-6].encode()), 6) != text[-6:]:
        return None
    return {"u": "user", "o": "organization", "b": "break_glass"}[match.group(1)], match.group(2)


def keytext(doc):
    for v in doc["crc32"]:
        crc = zlib.crc32(v["text"].encode())
        yield f"checksum of {len(v['text'])} bytes", (crc, base62(crc, 6)) == (v["crc32"], v["base62"])
    for v in doc["key_id"]:
        number = 0
        for c in v["key_id"]:
            number = number * 62 + BASE62.index(c)
        yield f"key_id {v['key_id']}", number == v["number"]
    for v in doc["format"]:
        text = f"{v['brand']}{v['kind'][0]}_{v['key_id']}_{base62(int(v['secret'], 16), 43)}"
        text += base62(zlib.crc32(text.encode()), 6)
        yield f"making a key of brand {v['brand']}, {v['key_id']}", text == v["text"]
    for v in doc["parse"]:
        want = None if v.get("malformed") else (v["kind"], v["key_id"])
        yield v["name"], parse_key(v["text"], v["brand"]) == want


# ---- scan.json: what the library makes of the same bytes --------------------------------------------------------

def scan(doc):
    for v in doc["scan"]:
        data = bytes.fromhex(v["hex"])
        unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=1 << 20)
        unpacker.feed(data)
        try:
            unpacker.skip()
            got = "message"
        except msgpack.OutOfData:
            got = "more"
        except Exception:
            got = "invalid"
        if v["result"] == "message":
            good = got == "message" and unpacker.tell() == v["size"] <= v["message_max"]
        elif v["result"] == "more":
            good = got == "more"
        elif v["result"] == "invalid":
            good = got == "invalid" or not (0x90 <= data[0] <= 0x9f or data[0] in (0xdc, 0xdd))
        else:  # a limit of ours: the library goes by others
            good = v["result"] in ("too_long", "too_deep")
        yield v["name"], good


# ---- requests.json: a decoder after PROTOCOL.md -----------------------------------------------------------------

class Refused(Exception):
    pass


def need(good, code="bad_params"):
    if not good:
        raise Refused(code)


def is_int(value, low, high):
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_text(value, limit):
    return isinstance(value, str) and size(value) <= limit


def address(text):
    need(isinstance(text, str) and "%" not in text)
    try:
        addr = ipaddress.ip_address(text)
    except ValueError:
        raise Refused("bad_params")
    return getattr(addr, "ipv4_mapped", None) or addr


CONTEXT = {
    "stack": lambda v: is_text(v, 255), "org": lambda v: is_text(v, 255), "after": lambda v: is_text(v, 255),
    "addr": lambda v: bool(address(v)), "min_rev": lambda v: is_int(v, 0, 2**64 - 1),
    "deadline_ms": lambda v: is_int(v, 1, 600000), "cost": lambda v: is_int(v, 1, 1000000),
}


def context(params, index):
    if index >= len(params) or params[index] is None:
        return {}
    need(isinstance(params[index], dict) and not params[index].twice)
    for field, value in params[index].items():
        need(field in CONTEXT and CONTEXT[field](value))
    return {"context": dict(params[index])} if params[index] else {}


def plain(value, strict=True):
    """A value of the types that the protocol has; strict: as a parameter of administration."""
    if isinstance(value, dict):
        need(not strict or not value.twice and len(value) <= 64)
        need(all(isinstance(name, str) and "\0" not in name for name in value))
        return {name: plain(item, strict) for name, item in value.items()}
    need(not isinstance(value, msgpack.ExtType))
    return [plain(item, strict) for item in value] if isinstance(value, list) else value


def pair(item):
    need(isinstance(item, list) and len(item) == 2 and is_text(item[0], 64))
    need(item[1] is None or is_text(item[1], 255))
    return item


def read_params(service, method, params):
    count = len(params)
    if method == "hello":
        need(count <= 1)
        about = params[0] if count and params[0] is not None else {}
        need(isinstance(about, dict))
        need(all(is_text(about[name], 255) for name in ("client", "version") if name in about))
        return {name: about[name] for name in ("client", "version") if name in about}
    if method == "stats":
        need(count == 0)
        return {}
    counts = {"check": (3, 4), "check_many": (2, 3), "pages": (2, 3), "whoami": (1, 2), "explain": (3, 4)}
    if service == "admin":
        need(method not in counts, "unknown_method")
        need(count == 0 or count == 1 and isinstance(params[0], dict))
        return {"params": plain(params[0]) if count else {}}
    need(method in counts, "unknown_method")
    need(counts[method][0] <= count <= counts[method][1])
    need(is_text(params[0], 128))
    meaning = {"key": params[0]}
    if method in ("check", "explain", "pages"):
        need(is_text(params[1], 64))
        meaning["scope"] = params[1]
    if method in ("check", "explain"):
        need(params[2] is None or is_text(params[2], 255))
        meaning["page"] = params[2]
    if method == "check_many":
        need(isinstance(params[1], list) and 1 <= len(params[1]) <= 1024)
        meaning["pairs"] = [pair(item) for item in params[1]]
    meaning.update(context(params, counts[method][1] - 1))
    return meaning


def read_request(service, message):
    need(isinstance(message, list) and len(message) >= 3 and is_int(message[0], 0, 2), "malformed")
    need(message[0] != 1 and len(message) == (4 if message[0] == 0 else 3), "malformed")
    need(isinstance(message[-2], str) and isinstance(message[-1], list), "malformed")
    if message[0] == 2:
        return {"notification": True}
    need(is_int(message[1], 0, 2**32 - 1), "malformed")
    meaning = {"msgid": message[1], "method": message[2]}
    meaning.update(read_params(service, message[2], message[3]))
    return meaning


def same_meaning(got, want):
    got, want = dict(got), dict(want)
    for m in (got, want):
        if "addr" in m.get("context", {}):
            m["context"] = dict(m["context"], addr=address(m["context"]["addr"]))
    if not want.get("context", True):
        del want["context"]
    for field in ("key", "scope", "page"):
        if field in want:
            want[field] = meant(want[field])
    return got == want


def requests(doc):
    for v in doc["requests"]:
        data = bytes.fromhex(v["hex"])
        message = unpack(data)
        try:
            got, error = read_request(v["service"], message), None
        except Refused as refused:
            got, error = None, str(refused)
        if "error" in v:
            yield v["name"], error == v["error"] and (error == "malformed" or message[1] == v["msgid"])
            continue
        good = error is None and same_meaning(got, v["meaning"])
        if v["canonical"]:
            good = good and msgpack.packb(message, unicode_errors="surrogateescape") == data
        yield v["name"], good


# ---- answers.json -----------------------------------------------------------------------------------------------

def in_order(answer):
    own = [field for field in answer if field in FIELDS]
    if isinstance((answer.get("pages") or [""])[0], dict):
        own.remove("pages")  # whoami's
    return own == [field for field in FIELDS if field in own] and list(answer)[:len(own)] == own


def good_answer(answer):
    for entry in answer.get("trace", []):  # explain's
        if [field for field in TRACE if field in entry] != list(entry) or len(entry) not in (3, 8, 9):
            return False
    return in_order(answer) and answer["reason"] in REASONS[answer["verdict"]] and list(answer)[:4] == FIELDS[:4]


TYPES = {"rev": lambda v: is_int(v, 0, 2**64 - 1), "age_ms": lambda v: is_int(v, 0, 2**64 - 1),
         "stale": lambda v: isinstance(v, bool), "kind": lambda v: v in ("user", "organization", "break_glass"),
         "key_id": lambda v: isinstance(v, str) and re.fullmatch("[0-9A-Za-z]{10}", v),
         "expires_at": lambda v: is_int(v, -2**63, 2**63 - 1),
         "pages": lambda v: isinstance(v, list) and all(isinstance(slug, str) for slug in v)}


def read_as_client(data):
    """What a client makes of a message: PROTOCOL.md, "What a client does with it"."""
    message = unpack(data)
    if not message or message[0] != 1 or len(message) != 4 or not is_int(message[1], 0, 2**32 - 1):
        return {"fault": "message"}
    try:
        plain(message[3], strict=False)
    except Refused:
        return {"fault": "message"}
    error, answer = message[2:]
    if error is not None:
        code, text = error if isinstance(error, list) else ("internal", error if isinstance(error, str) else "")
        return {"error": code if code in ERRORS else "internal", "message": text}
    if not isinstance(answer, dict) or answer.twice or not all(name in answer for name in FIELDS[:4]):
        return {"fault": "answer"}
    verdict, reason = answer["verdict"], answer["reason"]
    if verdict not in REASONS or not isinstance(reason, str):
        return {"fault": "answer"}
    if not all(TYPES[name](value) for name, value in answer.items() if name in TYPES):
        return {"fault": "answer"}
    if reason not in sum(REASONS.values(), []) and verdict != "allow":
        reason = {"deny": "policy", "unavailable": "module_fault"}[verdict]
    return {"verdict": verdict, "reason": reason} if reason in REASONS[verdict] else {"fault": "answer"}


def answers(doc):
    for v in doc["answers"]:
        message = [1, v["msgid"], None, v["answer"]]
        data = bytes.fromhex(v["hex"])
        yield v["name"], msgpack.packb(message) == data and unpack(data) == message and good_answer(v["answer"])
    shown = {v["answer"]["reason"] for v in doc["answers"]}
    yield "every reason has a vector", shown == set(sum(REASONS.values(), []))
    for v in doc["check_many"]:
        message = [1, v["msgid"], None, v["answers"]]
        data = bytes.fromhex(v["hex"])
        yield v["name"], msgpack.packb(message) == data and all(good_answer(answer) for answer in v["answers"])
    for v in doc["errors"]:
        data = msgpack.packb([1, v["msgid"], [v["code"], v["message"]], None])
        yield v["name"], data == bytes.fromhex(v["hex"]) and v["code"] in ERRORS
    yield "every error has a vector", {v["code"] for v in doc["errors"]} == set(ERRORS)
    for v in doc["notices"]:
        yield v["name"], msgpack.packb([2, "error", [v["code"], v["message"]]]) == bytes.fromhex(v["hex"])
    for v in doc["results"]:
        yield "result: " + v["name"], msgpack.packb([1, v["msgid"], None, v["result"]]) == bytes.fromhex(v["hex"])
    for v in doc["reads"]:
        want = {name: value for name, value in v.items() if name not in ("name", "hex")}
        yield v["name"], read_as_client(bytes.fromhex(v["hex"])) == want


# ---- the text itself --------------------------------------------------------------------------------------------

def protocol_text(_):
    with open(os.path.join(ROOT, "proto", "PROTOCOL.md")) as f:
        text = f.read()
    for reason in sum(REASONS.values(), []):
        yield f"PROTOCOL.md explains {reason}", f"\n| `{reason}` |" in text
    for code in ERRORS:
        yield f"PROTOCOL.md explains the error {code}", f"\n| `{code}` |" in text
    for method in METHODS:
        yield f"PROTOCOL.md explains the method {method}", f"\n| `{method}` | `[" in text
    for field in FIELDS + TRACE + list(CONTEXT):
        yield f"PROTOCOL.md explains the field {field}", f"\n| `{field}` |" in text
    with open(os.path.join(ROOT, "proto", "verdict.c")) as f:
        words = set(re.findall(r'\[REASON_\w+\] = \{WORD\("(\w+)"\)', f.read()))
    yield "the list of reasons is the daemon's", words == set(sum(REASONS.values(), []))
    body, checksum = re.search(r"`(aku_[0-9A-Za-z]{10}_[0-9A-Za-z]{43})`, is \d+ = 0x[0-9a-f]{8}; in base62 that is `(\w{6})`",
                               text).groups()
    yield "the worked example is a key", parse_key(body + checksum, "ak") == ("user", body[4:14])
    yield "and its checksum is as said", f" {zlib.crc32(body.encode())} = 0x{zlib.crc32(body.encode()):08x};" in text
    yield "and stands in the vectors", any(v["text"] == body + checksum for v in load("keytext.json")["format"])
    yield "no whole key stands in it", not re.search(r"\bak[uob]_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}\b", text)


def main():
    number = failed = 0
    for check, name in ((keytext, "keytext.json"), (scan, "scan.json"), (requests, "requests.json"),
                        (answers, "answers.json"), (protocol_text, None)):
        try:
            for what, good in check(load(name) if name else None):
                number += 1
                failed += not good
                print(f"{'ok' if good else 'not ok'} {number} - {name or 'text'}: {what}".replace("#", "\\#"))
        except Exception:
            number += 1
            failed += 1
            print(f"not ok {number} - {name}: went on to the end")
            print("# " + traceback.format_exc().replace("\n", "\n# "))
    print(f"1..{number}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
