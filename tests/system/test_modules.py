"""Modules from outside: built against the installed header alone, found, played one by one; and what is refused.

tests/support/modules/play.c finds and asks a module as the daemon does, with a host of its own. The hostile and slow
modules beside it are only looked at here: whether they do what other tests take for granted.
"""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from world import *

PLAY = os.path.join(BUILD, "tests", "modules", "play")
BUILT = os.path.join(BUILD, "tests", "modules")
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
SHARED = {}


def command(*argv, **options):
    """Runs one, which must go well; its output."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=WAIT * 4, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)}: {done.returncode}\n{done.stdout}")
    return done.stdout


def installed():
    """A prefix with what `cmake --install` puts there."""
    if not SHARED:
        SHARED["prefix"] = new_dir("prefix")
        command("cmake", "--install", BUILD, "--prefix", SHARED["prefix"])
    return SHARED["prefix"]


def setting(name):
    """Of the build that is being tested."""
    with open(os.path.join(BUILD, "CMakeCache.txt")) as f:
        return next((line.split("=", 1)[1].strip() for line in f if line.startswith(name + ":")), "")


def make(name, *settings):
    """A directory that has nothing but the installed examples, and what the Makefile among them makes."""
    if name not in SHARED:
        source = os.path.join(installed(), "share", "doc", "apikeyd", "examples", "modules")
        SHARED["source"], SHARED[name] = source, new_dir(name)
        for entry in os.listdir(source):
            shutil.copy(os.path.join(source, entry), SHARED[name])
        command("make", f"CPPFLAGS=-I{installed()}/include", *settings, cwd=SHARED[name])
    return SHARED[name]


def as_installed():
    return make("outside", "CFLAGS=-O2 " + " ".join(STRICT))


def examples():
    """A module directory with the two, to be played: with the sanitizers of the build that is being tested."""
    sanitizers = setting("APIKEYD_SANITIZE")
    flags = f"-fsanitize={sanitizers} -fno-sanitize-recover=all" if sanitizers else ""
    return make("examples", "CC=" + setting("CMAKE_C_COMPILER"), "CFLAGS=-O1 -g " + flags)


def directory_of(*modules):
    """A module directory of its own, with copies of modules that were built for the tests."""
    directory = new_dir("modules")
    os.chmod(directory, 0o755)
    for name in modules:
        shutil.copy(os.path.join(BUILT, name + ".so"), directory)
        os.chmod(os.path.join(directory, name + ".so"), 0o644)
    return directory


class Play:
    """One module, being asked."""

    def __init__(self, directory, name, *arguments):
        self.process = subprocess.Popen([PLAY, directory, name, *arguments], stdin=subprocess.PIPE, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.first = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if line == "":
            raise AssertionError("it ended: " + self.process.stderr.read())
        return line.rstrip("\n")

    def __call__(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def ask(self, **words):
        return self("ask " + " ".join(f"{name}={value}" for name, value in words.items()))

    def close(self):
        """How many completions there were in all."""
        out, errors = self.process.communicate(timeout=WAIT)
        assert "Sanitizer" not in errors and "runtime error" not in errors, errors
        assert self.process.returncode == 0, (self.process.returncode, out, errors)
        return int(out.split()[-1])


def one_line(directory, *words):
    """What play says where it ends at once, or the first line of what it says, and its exit code."""
    done = subprocess.run([PLAY, directory, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=WAIT)
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()[0]


# ---- what is installed ------------------------------------------------------------------------------------------

def test_installed(t):
    prefix = installed()
    t.ok(os.path.exists(os.path.join(prefix, "include", "apikeyd-module.h")), "the header")
    as_installed()
    t.equal(sorted(os.listdir(SHARED["source"])), ["Makefile", "company_ids.c", "maintenance.c"])
    with open(os.path.join(SHARED["source"], "Makefile")) as f:
        lines = f.read().splitlines()
    t.ok(len([line for line in lines if line and not line.startswith("#")]) <= 10, "ten lines build a module")


def test_build_from_outside(t):
    directory = as_installed()
    for name in ("company_ids", "maintenance"):
        # The header is all that a module needs of us, and the symbol is all that it gives.
        text = command("nm", "-D", "--defined-only", "--format=posix", os.path.join(directory, name + ".so"))
        t.equal([line.split()[0] for line in text.splitlines()], ["apikeyd_module"], name)
        with open(os.path.join(directory, name + ".c")) as f:
            own = [line for line in f if line.startswith("#include") and "apikeyd" in line]
        t.equal(own, ["#include <apikeyd-module.h>\n"])
        t.equal(one_line(directory, name, "path=/", "flag=/")[0], 1 if name == "company_ids" else 0)


def test_other_compilers(t):
    """C11 and C++17, whichever compilers there are; the header by itself, with every warning on."""
    prefix, directory = installed(), new_dir("compilers")
    as_installed()
    compilers = [name for name in ("gcc", "clang") if shutil.which(name)]
    t.ok(compilers, "a compiler")
    for compiler in compilers:
        for name in ("company_ids", "maintenance"):
            command(compiler, "-std=c11", *STRICT, f"-I{prefix}/include", "-fPIC", "-shared", "-o", os.path.join(directory, name),
                    os.path.join(SHARED["source"], name + ".c"))
    source = os.path.join(directory, "alone.c")
    with open(source, "w") as f:
        f.write("#include <apikeyd-module.h>\n#include <apikeyd-module.h>\nint main(void) { return 0; }\n")
    for compiler in compilers:
        command(compiler, "-std=c11", *STRICT, "-Wshadow", "-Wconversion", "-Wstrict-prototypes", f"-I{prefix}/include",
                "-fsyntax-only", source)
    for compiler in [name for name in ("g++", "clang++") if shutil.which(name)]:
        command(compiler, "-std=c++17", "-x", "c++", *STRICT, "-Wshadow", "-Wconversion", "-Wold-style-cast",
                f"-I{prefix}/include", "-fsyntax-only", source)


CXX_MODULE = """
#include <apikeyd-module.h>
#include <string>
struct instance { std::string word; };
static int open_line(apikeyd_self *, const apikeyd_host *, const apikeyd_value *values, void **ret, char *, size_t)
{
    *ret = new instance{values[0].text};
    return 0;
}
static apikeyd_code start(void *data, const apikeyd_request *request, uint64_t)
{
    return std::string(request->scope.data, request->scope.len) == static_cast<instance *>(data)->word
        ? APIKEYD_PAGE_ARCHIVED : APIKEYD_SUCCESS;
}
static void close_line(void *data) { delete static_cast<instance *>(data); }
static const apikeyd_argument arguments[] = {
    {"scope", APIKEYD_TYPE_TEXT, nullptr, true, 0, 0, nullptr, "which scope"}, {},
};
extern "C" APIKEYD_EXPORT const apikeyd_module apikeyd_module = {
    APIKEYD_ABI, sizeof(struct apikeyd_module), "plus", "written in C++", APIKEYD_GROUP_SCOPE, 0, arguments,
    nullptr, open_line, start, nullptr, nullptr, close_line,
};
"""


def test_module_in_cxx(t):
    if not shutil.which("g++"):
        t.skip("there is no g++")
    directory = new_dir("cxx")
    with open(os.path.join(directory, "plus.cc"), "w") as f:
        f.write(CXX_MODULE)
    command("g++", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{installed()}/include", "-fPIC",
            "-fvisibility=hidden", "-shared", "-o", os.path.join(directory, "plus.so"), os.path.join(directory, "plus.cc"))
    play = Play(directory, "plus", "scope=incident:write")
    t.equal(play.first, "opened")
    t.equal(play.ask(scope="incident:write"), "page_archived")
    t.equal(play.ask(scope="incident:read"), "success")
    play.close()


# ---- maintenance -------------------------------------------------------------------------------------------------

def maintenance(*arguments):
    flag = os.path.join(new_dir("platform"), "flag")
    return flag, Play(examples(), "maintenance", f"flag={flag}", *arguments)


def test_maintenance(t):
    flag, play = maintenance("every=0s", "retry_after=1min")
    t.equal(play.first, "opened")
    t.equal(play.ask(scope="incident:write", boot=10), "success")
    open(flag, "w").close()
    t.equal(play.ask(scope="incident:write", boot=20), "policy retry_after=60000")
    t.equal(play.ask(scope="incident:read", boot=30), "ignore")
    t.equal(play.ask(boot=30), "ignore", "nothing was asked for")
    t.equal(play.ask(scope="incident:write", boot=40, explain=1),
            f"policy retry_after=60000 detail={('maintenance: ' + flag + ' is there')[:100]}")
    os.unlink(flag)
    t.equal(play.ask(scope="incident:write", boot=50), "success")
    # What cannot be looked for is a fault, said once in the log, and again only after it was good.
    shutil.rmtree(os.path.dirname(flag))
    open(os.path.dirname(flag), "w").close()
    t.equal(play.ask(scope="incident:write", boot=60), "module_fault log=0:cannot look for the flag: Not a directory")
    t.equal(play.ask(scope="incident:write", boot=70), "module_fault")
    os.unlink(os.path.dirname(flag))
    t.equal(play.ask(scope="incident:write", boot=80), "success")
    t.equal(play.close(), 0)


def test_maintenance_remembers(t):
    """It looks once in `every`, by the clock that the request brings."""
    flag, play = maintenance("every=1s", "retry_after=1s")
    t.equal(play.ask(scope="a:write", boot=5_000_000), "success")
    open(flag, "w").close()
    t.equal(play.ask(scope="a:write", boot=5_999_999), "success")
    t.equal(play.ask(scope="a:write", boot=6_000_000), "policy retry_after=1000")
    os.unlink(flag)
    t.equal(play.ask(scope="a:write", boot=6_999_999), "policy retry_after=1000")
    t.equal(play.ask(scope="a:write", boot=7_000_000), "success")
    play.close()


def test_maintenance_scopes(t):
    for only, refused, passed in (
            ("*", ["a:b", "incident:write"], []),
            ("incident:*", ["incident:write", "incident:x"], ["incidents:write", "inciden:write", "incident", "a:incident"]),
            ("*:write", ["a:write", "incident:write"], ["a:writes", "a:writ", "write", "write:a", "a:b:write"]),
            ("a:b,c:*", ["a:b", "c:d"], ["a:c", "d:c", "a:bb", "aa:b"]),
            ("*:*", ["a:b"], [])):
        flag, play = maintenance("every=0s", f"only={only}")
        open(flag, "w").close()
        for scope in refused:
            t.equal(play.ask(scope=scope), "policy retry_after=30000", f"{scope} by {only}")
        for scope in passed:
            t.equal(play.ask(scope=scope), "ignore", f"{scope} by {only}")
        play.close()


def test_maintenance_arguments(t):
    directory = examples()
    t.equal(one_line(directory, "maintenance"), (1, "argument flag: is required"))
    t.equal(one_line(directory, "maintenance", "flag=run"), (1, "argument flag: an absolute path"))
    code, line = one_line(directory, "maintenance", "flag=/f", "retry_after=2h")
    t.equal(code, 1)
    t.contains(line, "argument retry_after: a time from 1ms to 1h")
    t.equal(one_line(directory, "maintenance", "flag=/f", "every=2s", "retry_after=1999ms"),
            (1, "check retry_after: is shorter than every, so a client would be told the same again; at least 2000ms"))
    t.equal(one_line(directory, "maintenance", "flag=/f", "every=2s", "retry_after=2s"), (0, "opened"))


# ---- company_ids -------------------------------------------------------------------------------------------------

def write(path, text, mode=0o644):
    """As a new file in its place, so that each has an inode and times of its own."""
    with open(path + ".new", "w") as f:
        f.write(text)
    os.chmod(path + ".new", mode)
    os.rename(path + ".new", path)


def id_line(key, organization="acme", access="write", pepper=1, key_id=None):
    return f"{key_id or key[4:14]} {pepper}:{key_hash(key, f'{pepper:02x}' * 32).hex()} {organization} {access}\n"


def ask_key(play, key, boot, **words):
    return play.ask(group="key", key=key, key_id=key[4:14], letter=key[2], boot=boot, **words)


def test_company_ids(t):
    path = os.path.join(new_dir("company"), "ids")
    one, two, three, stranger = (make_key("organization") for _ in range(4))
    user = make_key("user")
    first = min((one[4:14], 1), (two[4:14], 2), (three[4:14], 3), (user[4:14], 1))[1]  # the pepper of the first id
    write(path, "# ours\n\n" + id_line(one) + "  \t\n" + id_line(two, "other", "read", 2).rstrip() + "  # a comment\n" +
          id_line(three, pepper=3) + id_line(user))
    play = Play(examples(), "company_ids", f"path={path}")
    t.equal(play.first, "opened")
    t.equal(ask_key(play, one, 1), "success hash=1 grant=2:acme:write")
    t.equal(ask_key(play, two, 2), "success hash=2 grant=2:other:read")
    t.equal(ask_key(play, one, 3, explain=1), "success hash=1 grant=2:acme:write detail=one of the company's own keys")
    # The id alone is public. A key with a known id and another secret, and one with an id that is not there, are
    # refused after the same work: one hash.
    forged = make_key("organization", key_id=one[4:14])
    t.equal(ask_key(play, forged, 4), "unknown_key hash=1")
    t.equal(ask_key(play, stranger, 5), f"unknown_key hash={first}")
    t.equal(ask_key(play, three, 6), "no_pepper hash=3")
    # It is of organization keys that the file speaks.
    t.equal(ask_key(play, user, 7), f"unknown_key hash={first}")
    t.equal(play.ask(group="key", key="x", boot=8), f"unknown_key hash={first}", "a text that is no key")
    play.close()


def test_company_ids_follow_their_file(t):
    """A line taken out is good no longer than a second; a file that cannot be read is a fault, not a stale yes."""
    path = os.path.join(new_dir("company"), "ids")
    one, two = make_key("organization"), make_key("organization")
    write(path, id_line(one))
    play = Play(examples(), "company_ids", f"path={path}")
    second = 1_000_000
    t.equal(ask_key(play, one, 10 * second), "success hash=1 grant=2:acme:write")
    write(path, id_line(two))
    t.equal(ask_key(play, one, 11 * second - 1), "success hash=1 grant=2:acme:write", "not looked at yet")
    t.equal(ask_key(play, one, 11 * second), "unknown_key hash=1")
    t.equal(ask_key(play, two, 11 * second), "success hash=1 grant=2:acme:write")
    write(path, id_line(two, access="all"))
    answer = ask_key(play, two, 12 * second)
    t.contains(answer, f"module_fault log=0:{path}:1: must be <key_id>")
    t.equal(ask_key(play, two, 13 * second), "module_fault", "said once")
    os.unlink(path)
    t.equal(ask_key(play, two, 14 * second), "module_fault")
    write(path, id_line(two), mode=0o664)
    t.equal(ask_key(play, two, 15 * second), "module_fault")
    write(path, id_line(two))
    t.equal(ask_key(play, two, 16 * second), "success log=2:the file can be read again hash=1 grant=2:acme:write")
    os.chmod(path, 0o666)
    t.contains(ask_key(play, two, 17 * second), "module_fault log=0:")
    write(path, "")
    t.equal(ask_key(play, two, 18 * second), "unknown_key log=2:the file can be read again hash=1")
    play.close()


def test_company_ids_file(t):
    directory = new_dir("company")
    path, key = os.path.join(directory, "ids"), make_key("organization")
    good = id_line(key)
    key_id, digits = good.split()[0], good.split()[1][2:]

    def opened(text, mode=0o644):
        write(path, text, mode)
        return one_line(examples(), "company_ids", f"path={path}")

    t.equal(opened(good), (0, "opened"))
    t.equal(opened(good.rstrip("\n")), (0, "opened"), "the last line needs no end")
    for bad in (key_id[:9] + good[10:], "x" + good, good.replace(" 1:", " 0:"), good.replace(" 1:", " 32768:"),
                good.replace(" 1:", " "), good.replace(digits, digits[:63]), good.replace(digits, digits + "0"),
                good.replace(digits, digits[:63] + "g"), good.replace(digits, digits.upper()[:63] + "A"),
                good.replace(" acme ", " "), good.replace(" acme ", " Ac/me "), good.replace(" write", ""),
                good.replace(" write", " writes"), good.replace(" write", " writer"), good.rstrip() + " more\n",
                key + "\n", good.replace(" acme ", " " + "a" * 64 + " ")):
        code, line = opened(good.replace(key_id, "0000000000", 1) + bad)
        t.equal(code, 1, bad)
        t.equal(line, f"open path: {path}:2: must be <key_id> <pepper>:<64 hex digits> <organization> read|write", bad)
    t.equal(opened(good + "# " + "x" * 300 + "\n"), (1, f"open path: {path}:2: is longer than 254 bytes"))
    t.equal(opened(good + good.replace(" write", " read")), (1, f"open path: {path}: the key_id {key_id} stands there twice"))
    many = "".join(good.replace(key_id, f"{number:010}") for number in range(1000))
    t.equal(opened(many), (0, "opened"))
    t.equal(opened(many + good), (1, f"open path: {path}:1001: is one key more than 1000"))
    for mode in (0o664, 0o646, 0o666):
        code, line = opened(good, mode)
        t.equal(code, 1)
        t.contains(line, f"{path}: others can write it (uid {os.geteuid()}, mode {mode:04o})")
    opened(good)
    link = os.path.join(directory, "link")
    os.symlink(path, link)
    t.equal(one_line(examples(), "company_ids", f"path={link}")[0], 1, "a link")
    fifo = os.path.join(directory, "fifo")
    os.mkfifo(fifo)
    t.equal(one_line(examples(), "company_ids", f"path={fifo}"), (1, f"open path: {fifo}: is no regular file"))
    t.equal(one_line(examples(), "company_ids", f"path={directory}"), (1, f"open path: {directory}: is no regular file"))
    if os.geteuid() == 0:
        os.chown(path, 65533, -1)
        t.contains(one_line(examples(), "company_ids", f"path={path}")[1], "others can write it (uid 65533, mode 0644)")


# ---- what is found ------------------------------------------------------------------------------------------------

def test_trust(t):
    """The whole of it is in tests/unit/test_trusted.c; here, that a module file goes through it."""
    directory = directory_of("sound")
    path = os.path.join(directory, "sound.so")
    t.equal(one_line(directory, "sound"), (0, "opened"))
    mark = os.path.join(new_dir("mark"), "mark")
    os.environ["APIKEYD_TEST_MARK"] = mark
    try:
        for target, mode, what in ((path, 0o664, "its group can write it"), (path, 0o646, "anybody can write it"),
                                   (directory, 0o775, "its group can write it"), (directory, 0o777, "anybody can write it"),
                                   (directory, 0o1777, "others can put files")):
            before = os.stat(target).st_mode & 0o7777
            os.chmod(target, mode)
            code, line = one_line(directory, "sound")
            os.chmod(target, before)
            t.equal(code, 1)
            t.contains(line, f"refused {path}")
            t.contains(line, what)
        outer = os.path.join(new_dir("outer"), "way")
        os.symlink(directory, outer)
        os.chmod(directory, 0o775)
        t.contains(one_line(outer, "sound")[1], f"{directory}: its group can write it")
        os.chmod(directory, 0o755)
        os.chmod(os.path.dirname(outer), 0o775)
        t.contains(one_line(outer, "sound")[1], f"{os.path.dirname(outer)}: its group can write it")
        os.chmod(os.path.dirname(outer), 0o755)
        if os.geteuid() == 0:
            for target in (path, directory):
                os.chown(target, 65533, -1)
                t.contains(one_line(directory, "sound")[1], "%s: belongs to uid 65533" % target)
                os.chown(target, 0, -1)
            os.lchown(outer, 65533, -1)
            t.contains(one_line(outer, "sound")[1], f"{outer}: belongs to uid 65533")
            os.lchown(outer, 0, -1)
        t.ok(not os.path.exists(mark), "nothing of it ran")
        t.equal(one_line(outer, "sound"), (0, "opened"))
        t.ok(os.path.exists(mark), "and now it did")
    finally:
        del os.environ["APIKEYD_TEST_MARK"]


def test_refused(t):
    directory = directory_of("next_abi", "short_size", "misnamed", "bad_flags", "no_symbol", "undefined", "beneath")
    for name, what in (("next_abi", "is made for ABI 2, and this program has ABI 1"), ("short_size", "its struct has"),
                       ("misnamed", "calls itself another; the file must have that name"),
                       ("bad_flags", "identifies, so it may stand in group key and there alone"),
                       ("no_symbol", "exports no struct of the name apikeyd_module"),
                       ("beneath", "exports no struct of the name apikeyd_module"),
                       ("undefined", "undefined symbol: nowhere_at_all"),
                       ("none", "none.so: No such file or directory")):
        code, line = one_line(directory, name)
        t.equal(code, 1, name)
        t.contains(line, "refused ")
        t.contains(line, f"{directory}/{name}.so: ")
        t.contains(line, what)
        t.ok("/proc/" not in line, line)
    with open(os.path.join(directory, "text.so"), "w") as f:
        f.write("#!/bin/sh\n" * 100)
    t.contains(one_line(directory, "text")[1], "invalid ELF header")
    os.mkdir(os.path.join(directory, "inner.so"))
    t.contains(one_line(directory, "inner")[1], "is a directory, not a file")
    os.mkfifo(os.path.join(directory, "fifo.so"))
    t.contains(one_line(directory, "fifo")[1], "is not a regular file")
    t.contains(one_line(directory, "../sound")[1], "is no name of a module")
    t.contains(one_line(os.path.relpath(directory), "sound")[1], "is not an absolute path")


def test_built_in(t):
    """Each that comes with the daemon is as sound as one from outside must be, and no file takes its name."""
    done = subprocess.run([PLAY, examples()], stdout=subprocess.PIPE, text=True, check=True, timeout=WAIT)
    lines = done.stdout.splitlines()
    built_in = [line.split(":")[0] for line in lines if line.endswith(": sound, built in")]
    t.equal(lines, [f"{name}: sound, built in" for name in built_in] + ["company_ids: sound", "maintenance: sound"])
    for name in ("store", "rate", "peer", "permit"):
        t.ok(name in built_in, name)
    directory = directory_of("sound")
    os.rename(os.path.join(directory, "sound.so"), os.path.join(directory, "permit.so"))
    line = one_line(directory, "permit")[1]
    t.equal(line, f"warning {directory}/permit.so: is not used; the module permit is built in, and its name is taken")


def test_found_again(t):
    directory = directory_of("sound")
    play = Play(directory, "sound")
    t.equal(play("find"), "same ")
    shutil.copy(os.path.join(directory, "sound.so"), os.path.join(directory, "new"))
    os.rename(os.path.join(directory, "new"), os.path.join(directory, "sound.so"))
    t.equal(play("find"),
            f"same {directory}/sound.so: has changed since it was loaded, which takes effect at the next start")
    t.equal(play.ask(scope="a:b"), "ignore", "the old one goes on")
    os.unlink(os.path.join(directory, "sound.so"))
    t.contains(play("find"), "other no module of that name is built in")
    play.close()


# ---- those that other tests use -----------------------------------------------------------------------------------

def test_slow(t):
    directory = directory_of("slow")
    play = Play(directory, "slow", "delay=1ms", "code=33")
    t.equal(play.ask(scope="a:b"), "pending")
    t.equal(play("wait"), "completed 1 module_fault detail=a:b")
    t.equal([play.ask(scope=f"a:{n}") for n in range(20)], ["pending"] * 20)
    t.equal(sorted(play("wait") for _ in range(20)), sorted(f"completed {n + 2} module_fault detail=a:{n}" for n in range(20)))
    t.equal(play.close(), 21)
    play = Play(directory, "slow", "delay=1h", "detail=x")
    t.equal([play.ask(scope="a:b"), play("cancel 1"), play.ask(scope="a:b")], ["pending", "cancelled", "pending"])
    t.equal(play.close(), 0, "what is not due, or was cancelled, is not completed")
    play = Play(directory, "slow", "how=late", "detail=x", "delay=1ms")
    t.equal([play.ask(scope="a:b"), play("cancel 1"), play("wait")], ["pending", "cancelled", "completed 1 success detail=x"])
    t.equal(play.close(), 1)
    play = Play(directory, "slow", "how=twice", "delay=0ms", "detail=x")
    t.equal([play.ask(scope="a:b"), play("wait"), play("wait")], ["pending"] + ["completed 1 success detail=x"] * 2)
    t.equal(play.close(), 2)
    play = Play(directory, "slow", "how=wrong", "delay=0ms", "detail=x")
    t.equal(play.ask(scope="a:b"), "pending")
    tokens = [int(play("wait").split()[1]) for _ in range(5)]
    t.equal(tokens, [2, 0, 2 ** 64 - 2, 0, 2 ** 64 - 1])
    t.equal(play.close(), 5)
    play = Play(directory, "slow", "how=never")
    t.equal(play.ask(scope="a:b"), "pending")
    t.equal(play.close(), 0)
    play = Play(directory, "slow", "how=within", "detail=x")
    t.equal([play.ask(scope="a:b"), play.ask(scope="a:b")], ["pending"] * 2)
    t.equal(play.close(), 2)


def test_hostile_grant(t):
    directory = directory_of("hostile_grant")
    play = Play(directory, "hostile_grant", "grant=yes", "store=yes", "complete=yes", f"retry_after={2 ** 64 - 1}", "org=o")
    t.equal(play.ask(group="caller"), f"success grant=2:o:write store= retry_after={2 ** 64 - 1}")
    t.equal(play.close(), 1)
    for code, word in ((2, "ignore"), (3, "pending"), (64, "module_fault"), (4, "module_fault"), (2 ** 64 - 1, "module_fault")):
        play = Play(directory, "hostile_grant", f"code={code}")
        t.equal(play.ask(group="scope"), word, code)
        play.close()
    play = Play(directory, "hostile_grant", "negative=yes")
    t.equal(play.ask(group="scope"), "module_fault")
    play.close()


def test_hostile_identify(t):
    directory = directory_of("hostile_identify")
    for arguments, answer in ((["what=good"], "success grant=2:acme:write"), (["what=user", "user=7"], "success grant=user:7"),
                              (["what=glass", "org=o"], "success grant=3:o:write"), (["what=nothing"], "success"),
                              (["what=twice"], "success grant=2:acme:write grant=2:other:write"),
                              (["what=kind_unknown", "code=9"], "unknown_key grant=99:acme:write"),
                              (["what=unknown_org"], "success grant=2:no-such-organization:write")):
        play = Play(directory, "hostile_identify", *arguments)
        t.equal(play.ask(group="key", now=10 ** 15), answer, arguments)
        play.close()
    play = Play(directory, "hostile_identify", "later=yes", "org=o")
    t.equal([play.ask(group="key", now=10 ** 15) for _ in range(3)], ["pending"] * 3)
    t.equal(sorted(play("wait") for _ in range(3)), [f"completed {n} success grant=2:o:write" for n in (1, 2, 3)])
    t.equal(play.close(), 3)


if __name__ == "__main__":
    run(globals())
