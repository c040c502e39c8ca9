"""apikeyctl metrics: OpenMetrics text of all that `stats` has."""
import re
import resource
import signal

from world import *

from test_apikeyctl import Played, ctl, ends

# ---- a parser, by the OpenMetrics specification (1.0.0) ----------------------------------------------------------------
# Of its types, those that the text format of before has, too: node exporter's textfile collector reads by that one.

SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|\Z)')
NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|Inf|NaN)\Z")
ESCAPES = {'\\"': '"', "\\\\": "\\", "\\n": "\n"}


class Wrong(Exception):
    pass


class Family:
    def __init__(self, name):
        self.name, self.type, self.unit, self.help, self.samples = name, None, None, None, {}


def labels_of(text):
    found = {}
    while text:
        one = LABEL.match(text)
        if not one or one.group(1) in found or (one.group(3) and one.end() == len(text)):
            raise Wrong(f"labels: {text}")
        found[one.group(1)] = re.sub(r'\\["\\n]', lambda m: ESCAPES[m.group()], one.group(2))
        text = text[one.end():]
    return found


def take_about(families, line):
    what, name, text = (line.split(" ", 3) + ["", ""])[1:4]
    if what not in ("TYPE", "UNIT", "HELP") or not NAME.match(name):
        raise Wrong(line)
    family = families.get(name)
    if family is None:
        family = families[name] = Family(name)
    elif family is not list(families.values())[-1]:
        raise Wrong(f"{name} is in two places")
    if family.samples or getattr(family, what.lower()) is not None:
        raise Wrong(f"{line}: too late, or twice")
    if what == "TYPE" and text not in SUFFIXES or what == "UNIT" and not name.endswith("_" + text) or not text:
        raise Wrong(line)
    setattr(family, what.lower(), text)


def take_sample(families, line):
    found = re.match(r"([^{ ]+)(?:\{(.*)\})? ([^ ]+)\Z", line)
    if not found or not families:
        raise Wrong(line)
    name, labels, number = found.groups()
    family = list(families.values())[-1]
    if not NAME.match(name) or not NUMBER.match(number) or family.type is None or \
            name not in [family.name + suffix for suffix in SUFFIXES[family.type]]:
        raise Wrong(line)
    labels, value = labels_of(labels or ""), float(number)
    key = (name, tuple(sorted(labels.items())))
    if key in family.samples or ("le" in labels) != name.endswith("_bucket") or \
            (family.type != "gauge" and not value >= 0):
        raise Wrong(line)
    family.samples[key] = value


def look_at_histogram(family):
    series = {}
    for (name, labels), value in family.samples.items():
        rest = tuple(pair for pair in labels if pair[0] != "le")
        buckets, others = series.setdefault(rest, ([], {}))
        if name.endswith("_bucket"):
            buckets.append((float(dict(labels)["le"]), value))
        else:
            others[name[len(family.name):]] = value
    for buckets, others in series.values():
        bounds, counts = [b for b, _ in buckets], [c for _, c in buckets]
        if bounds != sorted(set(bounds)) or counts != sorted(counts) or bounds[-1] != float("inf") or \
                set(others) != {"_count", "_sum"} or counts[-1] != others["_count"]:
            raise Wrong(f"histogram {family.name}: {buckets} {others}")


def parse(text):
    families = {}
    if not text.endswith("\n# EOF\n"):
        raise Wrong("does not end with # EOF")
    for line in text[:-len("# EOF\n")].splitlines():
        if line.startswith("# "):
            take_about(families, line)
        else:
            take_sample(families, line)
    for family in families.values():
        if None in (family.type, family.help) or not family.samples:
            raise Wrong(f"{family.name}: no type, no help or no samples")
        if any(other != family and other.name + suffix == family.name for other in families.values()
               for suffix in SUFFIXES[other.type]):
            raise Wrong(f"{family.name} could be a sample of another")
        if family.type == "histogram":
            look_at_histogram(family)
    return families


def flat_samples(families):
    return {key: value for family in families.values() for key, value in family.samples.items()}


def sample(families, name, **labels):
    return flat_samples(families)[name, tuple(sorted(labels.items()))]


def test_the_parser_finds_faults(t):
    good = '# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds b\na_seconds_total{c="d\\n\\"",e=""} 1.5\n# EOF\n'
    t.equal(flat_samples(parse(good)), {("a_seconds_total", (("c", 'd\n"'), ("e", ""))): 1.5})
    for was, now in (("# EOF\n", ""), ("# EOF", "# EOF\n"), ("counter", "info"), ("seconds seconds", "seconds bytes"),
                     ("# TYPE a_seconds counter\n", ""), ("_total", ""), ("1.5", "-1"), ("1.5", "x"), ("1.5", "1 2"),
                     ('e=""', 'c=""'), ('e=""', "e"), (',e=""', ","), ("\\n", "\\x"), ("a_seconds_total", "\na_seconds_total"),
                     ("# EOF", 'a_seconds_total{c="d\\n\\"",e=""} 2\n# EOF'), ("# EOF", "# HELP a_seconds b\n# EOF"),
                     ("# EOF", "# TYPE b gauge\n# HELP b b\n# EOF"), ("HELP a_seconds b", "HELP a_seconds")):
        t.ok(good.count(was) >= 1, was)
        t.raises(Wrong, lambda: parse(good.replace(was, now, 1)), f"{was} as {now}")
    good = ('# TYPE h histogram\n# HELP h b\nh_bucket{le="1"} 1\nh_bucket{le="2"} 3\nh_bucket{le="+Inf"} 4\nh_count 4\n'
            'h_sum 9\n# EOF\n')
    parse(good)
    for was, now in (('"1"} 1', '"1"} 9'), ('"1"', '"3"'), ('h_bucket{le="+Inf"} 4\n', ""), ("count 4", "count 5"),
                     ("h_sum 9\n", "")):
        t.raises(Wrong, lambda: parse(good.replace(was, now, 1)), f"{was} as {now}")


# ---- what there is -------------------------------------------------------------------------------------------------------

def world(t):
    """A daemon that has answered a few questions, for all tests."""
    if not hasattr(world, "daemon"):
        world.cluster = Cluster().start().install(demo=True)
        # However slow this machine is, the copy is fresh.
        world.daemon = Daemon(world.cluster, {"freshness.max_stale_ms": "600000"})
    return world.daemon


def flat(stats, before=""):
    for name, value in stats.items():
        if isinstance(value, dict):
            yield from flat(value, before + name + ".")
        else:
            yield before + name, value


def listed():
    """The rows of `apikeyctl metrics --list`; a histogram's are of a map."""
    rows = json.loads(ctl("metrics", "--list", "--json").stdout)
    return [row for row in rows if row["stats"]]


def pattern(row):
    inner = r"\.(?:le_[0-9]+|count|sum_us)" if row["type"] == "histogram" else ""
    return re.compile(re.escape(row["stats"]).replace(r"\*", "(.+)") + inner + r"\Z")


def row_of(rows, name):
    """The row that a name belongs to: one without `*` before others; None: there is none."""
    found = [row for row in rows if pattern(row).match(name)]
    return min(found, key=lambda row: "*" in row["stats"]) if found else None


def test_all_of_stats_is_there(t):
    daemon = world(t)
    with contextlib.closing(daemon.rpc()) as rpc:
        rpc.check(make_key("user"), "page:read", "acme")
    rows, stats = listed(), dict(flat(daemon.stats()))
    missing = [name for name in stats if not row_of(rows, name)]
    t.equal(missing, [], "`stats` has these, and no metric: give each a row in client/apikeyctl/metrics_table.c, or tell "
                         "there, in metrics_left, why it has none")
    gone = [row["stats"] for row in rows if not any(row_of(rows, name) is row for name in stats)]
    t.equal(gone, [], "client/apikeyctl/metrics_table.c has these, and `stats` has not")
    t.ok(all(row["help"] for row in rows), "each says what it means, or why it is left out")


def test_what_is_written_about(t):
    """The README and the manual name metrics that there are."""
    there = set()
    for row in json.loads(ctl("metrics", "--list", "--json").stdout):
        there.update((row["metric"] or "") + suffix for suffix in
                     (("", "_bucket", "_count", "_sum") if row["type"] == "histogram" else ("",)))
    for name in ("README.md", "client/man/apikeyctl.1.scd"):
        with open(os.path.join(ROOT, name)) as f:
            named = set(re.findall(r"\bapikeyd_(?:up|copy|verdicts|limit|verify|feed|request|log|history|ledger)\w*",
                                   f.read().replace("\\", "")))
        t.ok(named, name)
        t.equal(named - there, set(), name)


def test_a_real_daemon(t):
    daemon = world(t)
    with contextlib.closing(daemon.rpc()) as rpc:
        before = parse(daemon.ctl("metrics").stdout)
        for _ in range(7):
            rpc.check(make_key("user"), "page:read", "acme")
        rpc.call("check_many", "no key", [["page:read", "acme"]] * 3)
        rpc.check("no key", "page:read", "acme", min_rev=1 << 60, deadline_ms=1)
        text = daemon.ctl("metrics").stdout
        after = parse(text)

    def more(name, **labels):
        return sample(after, name, **labels) - sample(before, name, **labels)
    t.equal(more("apikeyd_verdicts_total", verdict="deny", reason="unknown_key"), 7)
    t.equal(more("apikeyd_verdicts_total", verdict="deny", reason="malformed_key"), 4)
    t.equal(more("apikeyd_requests_total", method="check"), 8)
    t.equal(more("apikeyd_requests_total", method="check_many"), 1)
    t.equal(sum(more("apikeyd_request_duration_seconds_count", answered=how) for how in ("at_once", "waited")), 9)
    t.ok(more("apikeyd_request_duration_seconds_sum", answered="at_once") > 0, "that takes some time")
    t.equal(sample(after, "apikeyd_up"), 1)
    t.equal(sample(after, "apikeyd_copy_loaded"), 1)
    t.equal(sample(after, "apikeyd_copy_revision"), daemon.stats()["rev"])
    t.ok(0 <= sample(after, "apikeyd_copy_age_seconds") < WAIT, "the age of the copy")
    t.equal(sample(after, "apikeyd_copy_state", state="fresh"), 1)
    t.equal(sample(after, "apikeyd_copy_objects", kind="organization"), 2)
    t.ok(abs(sample(after, "apikeyd_start_time_seconds") - time.time()) < 3600, "the start")
    version = subprocess.run([APIKEYD, "--version"], stdout=subprocess.PIPE, text=True).stdout.split()[1]
    t.equal(sample(after, "apikeyd_build_info", version=version), 1)
    t.equal(parse(daemon.ctl("metrics", "--admin").stdout).keys(), after.keys(), "on the administration socket, too")
    t.ok(all(name.startswith("apikeyd_") for name in after), "names")


def test_what_others_read(t):
    try:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families
    except ImportError:
        t.skip("python3-prometheus-client is not installed")
    text = world(t).ctl("metrics").stdout
    theirs = {(s.name, tuple(sorted(s.labels.items()))): s.value
              for family in text_string_to_metric_families(text) for s in family.samples}
    ours = flat_samples(parse(text))

    def bounds(samples):  # they write `le` in their own way
        return {(name, tuple((k, float(v) if k == "le" else v) for k, v in labels)): value
                for (name, labels), value in samples.items()}
    t.equal(bounds(theirs), bounds(ours))


def test_waiting_is_told_apart(t):
    daemon = world(t)
    org = "acme"
    minted = json.loads(daemon.ctl("key", "mint", "--org", org, "--json").stdout)

    def waited():
        return sample(parse(daemon.ctl("metrics").stdout), "apikeyd_request_duration_seconds_count", answered="waited")
    before = waited()
    with contextlib.closing(daemon.rpc()) as rpc:
        answer = rpc.check(minted["key"], "page:read", org, min_rev=minted["rev"] + (1 << 40), deadline_ms=1)
    t.equal(answer["reason"], "behind")
    t.equal(waited(), before + 1)


# ---- each number in its place ----------------------------------------------------------------------------------------------

def numbered(stats, numbers):
    """The same with numbers that are all different; histograms stay, since they have to add up."""
    made = {}
    for name, value in stats.items():
        if name == "latency":
            made[name] = value
        elif isinstance(value, dict):
            made[name] = numbered(value, numbers)
        else:
            made[name] = next(numbers) if isinstance(value, int) and not isinstance(value, bool) else value
    return made


def wanted(row, name, value, verdicts):
    """The sample that a number of `stats` is, made here from what the list says."""
    stars = list(pattern(row).match(name).groups())
    labels = {}
    for label in (row["labels"] or "").split(","):
        key, _, word = label.partition("=")
        if word == "?":
            labels[key] = verdicts[stars[0] if row["stats"].count("*") == 1 else stars[-1]]
        elif key:
            labels[key] = stars.pop(0) if word == "*" else word
    if name.endswith("_ms"):
        value = value / 1000
    return (row["metric"], tuple(sorted(labels.items()))), float(value)


def test_each_number_in_its_place(t):
    daemon = world(t)
    with open(os.path.join(ROOT, "proto", "PROTOCOL.md")) as f:
        text = f.read()
    verdicts = {}
    for verdict, table in re.findall(r"^### (allow|deny|unavailable).*?$(.*?)(?=^##)", text, re.M | re.S):
        verdicts.update((reason, verdict) for reason in re.findall(r"^\| `(\w+)` \|", table, re.M))
    stats = numbered(daemon.stats(), iter(range(1001, 100000)))
    stats["stacks"] = {"default": {"ok": 17, "revoked": 18}, "other": {"timeout": 19}}
    stats["feed"]["clock_behind_ms"] = -1234567
    found = flat_samples(parse(ctl("metrics", daemon=Played(t, stats)).stdout))
    rows, seen = listed(), 0
    for name, value in flat(stats):
        row = row_of(rows, name)
        if not row["metric"] or isinstance(value, str) or row["type"] == "histogram":
            continue
        key, number = wanted(row, name, value, verdicts)
        t.ok(key in found, f"{name}: no {key}")
        t.equal(found[key], number, f"{name} as {key}")
        seen += 1
    t.ok(seen > 100, f"{seen} numbers")
    t.equal(found["apikeyd_feed_clock_behind_seconds", ()], -1234.567)
    t.equal(found["apikeyd_stack_verdicts_total", (("reason", "timeout"), ("stack", "other"), ("verdict", "unavailable"))], 19)


def test_what_is_not_there_is_left_out(t):
    found = parse(ctl("metrics", daemon=Played(t, {"rev": 5, "loaded": False, "age_ms": 0, "news": 3, "freshness": 7,
                                                     "latency": {"at_once": 5}})).stdout)
    t.equal(flat_samples(found), {("apikeyd_up", ()): 1, ("apikeyd_copy_revision", ()): 5, ("apikeyd_copy_loaded", ()): 0},
            "no copy has no age")
    ends(t, ctl("metrics", daemon=Played(t, [1])), 3, "is no map")


def test_names_cannot_make_lines(t):
    hostile = 'a"} 1\n# EOF\nx{y="\\'
    stats = {"version": "1\x1b\xff", "stacks": {hostile: {"ok": 1, hostile: 2}, "s" * 3000: {"ok": 3}},
             "freshness": {"state": hostile}, "requests_" + hostile: 4}
    found = flat_samples(parse(ctl("metrics", daemon=Played(t, stats)).stdout))
    t.equal(found["apikeyd_stack_verdicts_total", (("reason", hostile), ("stack", hostile), ("verdict", "unknown"))], 2)
    t.equal(found["apikeyd_requests_total", (("method", hostile),)], 4)
    t.equal(found["apikeyd_copy_state", (("state", hostile),)], 1, "a state that nobody knows is told as it is")
    t.equal(found["apikeyd_copy_state", (("state", "fresh"),)], 0)


# ---- the file ---------------------------------------------------------------------------------------------------------------

STATS = {"rev": 5, "loaded": True, "age_ms": 12}


def test_the_file_is_whole(t):
    place = new_dir("textfile")
    path = os.path.join(place, "apikeyd.prom")
    old = os.umask(0o022)
    try:
        done = ends(t, ctl("metrics", "--output", path, daemon=Played(t, STATS)), 0)
        t.equal(done.stdout, "")
        with open(path) as before:
            ends(t, ctl("metrics", "-o", path, daemon=Played(t, dict(STATS, rev=6))), 0)
            t.equal(sample(parse(before.read()), "apikeyd_copy_revision"), 5, "who reads the old one reads all of it")
        with open(path) as f:
            t.equal(sample(parse(f.read()), "apikeyd_copy_revision"), 6)
        t.equal(oct(os.stat(path).st_mode & 0o777), "0o644", "another user collects it")
    finally:
        os.umask(old)
    t.equal(os.listdir(place), ["apikeyd.prom"], "nothing is left beside it")


def test_a_daemon_that_is_away(t):
    path = os.path.join(new_dir("textfile"), "apikeyd.prom")
    ends(t, ctl("metrics", "--output", path, daemon=Played(t, STATS)), 0)
    ends(t, ctl("metrics", "--output", path), 3, "there is no daemon")
    with open(path) as f:
        t.equal(flat_samples(parse(f.read())), {("apikeyd_up", ()): 0}, "its old numbers are gone")
    t.equal(ends(t, ctl("metrics"), 3, "there is no daemon").stdout, "")


def test_a_file_that_cannot_be(t):
    place = new_dir("textfile")
    path = os.path.join(place, "apikeyd.prom")
    daemon = Played(t, STATS)
    ends(t, ctl("metrics", "--output", place + "/none/x.prom", daemon=daemon), 3, "cannot be written (No such file")
    ends(t, ctl("metrics", "--output", place, daemon=daemon), 2, "is no regular file")
    os.symlink("/dev/stdout", place + "/link")
    ends(t, ctl("metrics", "--output", place + "/link", daemon=daemon), 2, "is no regular file")
    os.unlink(place + "/link")
    ends(t, ctl("metrics", "--output", path, daemon=daemon), 0)
    with open(path) as f:
        before = f.read()

    def small():  # as a disk that is full: a write past so many bytes fails
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
    done = subprocess.run([APIKEYCTL, "--socket", daemon.path, "metrics", "--output", path], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, preexec_fn=small, restore_signals=False)
    t.equal(done.returncode, 3, done.stderr)
    t.contains(done.stderr, "cannot be written")
    with open(path) as f:
        t.equal(f.read(), before, "the old one stays")
    t.equal(os.listdir(place), ["apikeyd.prom"], "nothing is left beside it")


def test_usage(t):
    daemon = Played(t, STATS)
    ends(t, ctl("metrics", "--json", daemon=daemon), 2, "stats --json")
    ends(t, ctl("metrics", "--list", "--output", "/nonexistent/x", daemon=daemon), 2, "--list prints")
    t.equal(daemon.requests, [])
    t.contains(ends(t, ctl("metrics", "--list"), 0).stdout, "apikeyd_verdicts_total")


if __name__ == "__main__":
    run(globals())
