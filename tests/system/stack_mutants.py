"""Engines that are wrong in one place: copies of daemon/stack/run.c, each with one small change.

The changes know C and the house's words, but not what the engine looks like: they are made wherever they can be made.
A change that makes no difference to anything that the page of stacks speaks of is named in HARMLESS, with the reason.
"""
import os
import re
import resource
import shlex
import subprocess

from world import BUILD, ROOT, new_dir

ENGINE = os.path.join(ROOT, "daemon", "stack", "run.c")
TARGET = "tests/unit/stack_driver"
SECONDS = 20 # of a processor: a wrong engine may run in circles

# (kind, pattern, what it becomes)
SWAPS = [("comparison", r"==", "!="), ("comparison", r"!=", "=="), ("comparison", r"(?<![<-])>=", "<"),
         ("comparison", r"(?<=\s)<(?=\s)", "<="), ("comparison", r"(?<=\s)>(?=\s)", ">="),
         ("logic", r"&&", "||"), ("logic", r"\|\|", "&&"), ("logic", r"\|=", "="), ("logic", r"(?<=[\s(])!(?=[\w(])", ""),
         ("constant", r"\btrue\b", "false"), ("constant", r"\bfalse\b", "true"),
         ("step", r"\+ 1\b", "+ 2"), ("step", r"\+ 1\b", ""), ("step", r"\+\+", "+= 2, (void)"),
         *(("word", rf"\b{one}\b", other) for pair in (
             ("STACK_BAD", "STACK_DIE"), ("STACK_OK", "STACK_DONE"), ("STACK_BAD", "STACK_IGNORE"),
             ("STACK_DIE", "STACK_OK"), ("STACK_IGNORE", "STACK_OK"),
             ("STACK_CLASS_DENY", "STACK_CLASS_FAULT"), ("STACK_CLASS_SUCCESS", "STACK_CLASS_IGNORE"),
             ("STACK_CLASS_FAULT", "STACK_CLASS_IGNORE"), ("STACK_KEY", "STACK_ACCOUNT"),
             ("STACK_OP_ENTER", "STACK_OP_LEAVE"), ("STACK_OP_MODULE", "STACK_OP_LEAVE"),
             ("STACK_PASSED", "STACK_FAILED"), ("STACK_PASSED", "STACK_WAITS"),
             ("APIKEYD_POLICY", "APIKEYD_UNKNOWN_KEY"), ("APIKEYD_SUCCESS", "APIKEYD_IGNORE"),
             ("APIKEYD_PENDING", "APIKEYD_SUCCESS"), ("APIKEYD_IGNORE", "APIKEYD_POLICY"),
             ("APIKEYD_ENFORCES_RATE", "APIKEYD_ASYNCHRONOUS")) for one, other in (pair, pair[::-1])),
         ("condition", r"(?<=\bif )\((?=.*\)$)", "(1 || "), ("condition", r"(?<=\bif )\((?=.*\)( \{)?$)", "(0 && "),
         ("condition", r"(?<== )(?=[^;{}]+\?)", "1 ? 0 : "),
         # but the last `break` of a switch
         ("statement", r"(?<=\t)(?!break;\s*\}|return|case|default|goto|const |static |struct |enum |bool |int |unsigned |u?int)"
                       r"[A-Za-z*][^;{}\n]*;$", ";"),
         ("statement", r"(?<=\t)return;$", ";")]

HARMLESS = {
    'return (unsigned)effect <= sizeof(words) / sizeof(words[0]) ? words[effect] : "nothing";': "there is no such effect",
    **{f"trace(&run, line, code, STACK_{action}, STACK_EFFECT_PENDING);": "what is done with a code that has not come yet"
       for action in ("OK", "BAD", "DIE", "DONE")},
    "action = STACK_DIE;": "no file says so, and the line fails as well",
    "*ret_line = NULL; => ;": "a result begins without a line",
    "run.fault_line = NULL; => ;": "it is read where there is a fault",
    **{f"if (inner->fault != APIKEYD_{code} && outer->fault == APIKEYD_SUCCESS) {{": "without a fault, none replaces none"
       for code in ("IGNORE", "PENDING")},
    **{f"*ret = (struct stack_result){{.outcome = STACK_FAILED, .code = APIKEYD_{code}}};": "the end gives another code"
       for code in ("UNKNOWN_KEY", "IGNORE")},
}


def code_alone(text):
    """The text with blanks for comments, strings and preprocessor lines: places stay what they are."""
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\])*\"|^#[^\n]*", lambda match: re.sub(r"[^\n]", " ", match[0]), text,
                  flags=re.S | re.M)


def engine():
    with open(ENGINE) as f:
        return f.read()


def mutants():
    """[(line and what it became, kind of change, the engine's text)]"""
    code, found, seen = code_alone(engine()), [], {engine()}
    for kind, pattern, becomes in SWAPS:
        for match in re.finditer(pattern, code, re.M):
            mutant = engine()[:match.start()] + becomes + engine()[match.end():]
            if mutant in seen:
                continue
            seen.add(mutant)
            number = engine().count("\n", 0, match.start())
            was, now = (text.splitlines()[number].strip() for text in (engine(), mutant))
            found.append((f"{number + 1}: {was} => {now}" if now == ";" else f"{number + 1}: {now}", kind, mutant))
    found.sort(key=lambda one: int(one[0].split(":")[0]))
    return found


def commands(build=BUILD):
    """How the build compiles the engine, and links the driver."""
    done = subprocess.run(["ninja", "-C", build, "-t", "commands", TARGET], stdout=subprocess.PIPE, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("ninja:")]
    return next(line for line in lines if line.rstrip().endswith(ENGINE) and " -c " in line), lines[-1]


def sanitized():
    return "-fsanitize" in commands()[0]


def build(text, directory):
    """A driver with this engine, or None where it is no C. The build directory is left as it is."""
    source, object_, program = (os.path.join(directory, name) for name in ("run.c", "run.o", "stack_driver"))
    with open(source, "w") as f:
        f.write(text)
    compiling, linking = commands()
    argv = shlex.split(compiling)
    for option in ("-MT", "-MF"): # the build's own dependency files
        at = argv.index(option)
        del argv[at:at + 2]
    argv = [word for word in argv if word not in ("-MD", "-Werror")] + ["-w", "-O0", "-g0", "-U_FORTIFY_SOURCE"]
    at = argv.index("-c")
    argv[argv.index("-o") + 1], argv[at + 1] = object_, source
    if subprocess.run(argv, cwd=BUILD, stderr=subprocess.DEVNULL).returncode:
        return None
    linked = shlex.split(linking.removeprefix(": && ").removesuffix(" && :"))
    at = linked.index("-o")
    linked[at + 1] = program
    linked.insert(at, object_) # before the archive that has the real one
    subprocess.run(linked, cwd=BUILD, check=True)
    return program


def limits():
    """For a wrong engine's process: it ends, and leaves no core."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def harmless(name):
    """Why a change makes no difference, or None where it should."""
    return next((why for what, why in HARMLESS.items() if what == name.split(": ", 1)[1]), None)
