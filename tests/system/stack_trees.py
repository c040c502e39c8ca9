"""Random stacks with what they include, and what makes a failing one small."""
import itertools

import stack_oracle as oracle

WORDS = tuple(oracle.WORDS)
MODULES = {"key": ("who",), "account": ("rate", "say")}
GARBAGE = ("4", "7", "36", "63", "64", "255", "100000", "-1") # no code has these numbers
DEPTH = 6


def modules(group):
    return MODULES.get(group, ("say",))


# ---- making them ------------------------------------------------------------------------------------------------

def random_control(random):
    if random.random() < 0.5:
        return random.choice(WORDS)
    pairs = []
    if random.random() < 0.85:
        pairs.append(f"success={random.choice(('ok', 'ok', 'done', 'ignore', 'bad', 'die'))}")
    for code in random.sample(oracle.CODES[1:], random.choice((0, 0, 1, 2, 4))):
        pairs.append(f"{code}={random.choice(('ignore', 'bad', 'die'))}")
    if random.random() < 0.75:
        pairs.append(f"default={random.choice(('ignore', 'ignore', 'bad', 'die'))}")
    random.shuffle(pairs)
    return f"[{' '.join(pairs)}]" if pairs else random.choice(WORDS)


def random_code(random):
    chance = random.random()
    if chance < 0.55:
        return "success"
    if chance < 0.65:
        return "ignore"
    if chance < 0.66:
        return random.choice(GARBAGE)
    return random.choice(oracle.DENIES if chance < 0.84 else oracle.FAULTS)


def random_files(random, groups=oracle.GROUPS):
    """{name: text}: a complete stack `root`, and others that it takes lines from, up to DEPTH files deep, root counted."""
    files, counter = {}, itertools.count(1)
    nested, sizes = random.choice(((0.25, (1, 1, 2, 2, 3, 5)), (0.6, (1, 1, 1, 2, 3)))) # bushes and poles

    def some_lines(group, depth):
        for _ in range(random.choice(sizes)):
            if depth < DEPTH and random.random() < nested:
                name = some_file(group, depth + 1)
                yield f"{group} {random.choice(('substack', 'substack', 'include'))} {name}"
            else:
                yield (f"{group} {random_control(random)} {random.choice(modules(group))} n={next(counter)}"
                       f"{random.choice(('', '', '  # as it is'))}")

    def some_file(group, depth):
        # the same file may serve twice, where it is no deeper than this: then it cannot come back to itself
        known = [name for name, (text, its_depth) in files.items() if its_depth == depth and name != "root"]
        if known and random.random() < 0.3:
            name = random.choice(known)
            text, its_depth = files[name]
            if not any(line.split()[0] == group for line in text.splitlines()):
                more = "\n".join(some_lines(group, depth)) + "\n"
                files[name] = (files[name][0] + more, its_depth)
            return name
        name = f"s{depth}.{len(files)}"
        files[name] = ("", depth)
        text = "\n".join(some_lines(group, depth)) + "\n"
        files[name] = (files[name][0] + text, depth)
        return name

    root = []
    for group in oracle.GROUPS:
        if group in groups:
            root.append("\n".join(some_lines(group, 1)))
        elif group in ("caller", "audit"):
            root.append(f"{group} none")
        elif group == "key":
            root.append("key required who")
    random.shuffle(root) # the order of groups is not that of the file
    files["root"] = ("\n".join(root) + "\n", 0)
    return {name: text for name, (text, _) in files.items()}


def depth(files, name="root"):
    """How many files deep a stack goes, its own counted."""
    lines = [oracle.words(text) for text in files[name].splitlines()]
    return 1 + max((depth(files, line[2]) for line in lines if len(line) == 3 and line[1] in ("include", "substack")),
                   default=0)


# ---- making them small ------------------------------------------------------------------------------------------

def tree(lines, codes):
    """Some lines as nested lists, to be cut: (control, module, code), or ["substack", ...]."""
    return [["substack", *tree(line.lines, codes)] if isinstance(line, oracle.Substack)
            else (line.control.text, line.module, codes[line.number]) for line in lines]


def planted(group, nodes):
    """(files, codes) of a stack whose one group is `nodes`."""
    files, codes = {"root": ""}, []

    def write(name, nodes):
        for node in nodes:
            if isinstance(node, list):
                inner = f"s{len(files)}"
                files[inner] = ""
                files[name] += f"{group} substack {inner}\n"
                write(inner, node[1:])
            else:
                control, module, code = node
                files[name] += f"{group} {control} {module} # {code}\n"
                codes.append(code)
    write("root", nodes)
    for other in ("audit", "caller"):
        if group != other:
            files["root"] += f"{other} none\n"
    if group != "key":
        files["root"] += "key required who # success\n"
        # numbers go by the order of the groups
        codes.insert(0 if group != "caller" else len(codes), "success")
    return files, codes


def smaller(nodes):
    """Every way to cut a tree a little."""
    for i, node in enumerate(nodes):
        before, behind = nodes[:i], nodes[i + 1:]
        yield before + behind
        if isinstance(node, list):
            yield before + node[1:] + behind
            for inner in smaller(node[1:]):
                if inner:
                    yield before + [["substack", *inner]] + behind
            continue
        control, module, code = node
        for simple in WORDS:
            if control not in WORDS:
                yield before + [(simple, module, code)] + behind
        if module == "rate":
            yield before + [(control, "say", code)] + behind
        for plain in ("success", "policy", "timeout"):
            if code not in ("success", plain) and (plain == "success" or code != "policy"):
                yield before + [(control, module, plain)] + behind


def shrink(group, nodes, fails):
    """The smallest tree on the way down that still fails; None where not even the whole does."""
    if not nodes or not fails(group, nodes):
        return None
    while True:
        nodes, before = next((less for less in smaller(nodes) if less and fails(group, less)), nodes), nodes
        if nodes is before:
            return nodes
