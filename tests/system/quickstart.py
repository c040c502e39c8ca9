"""The README's first command, in a directory of its own: its transcript stands in the README and must stay true."""
import os
import re
import subprocess

from world import ROOT, new_dir, run

QUICKSTART = os.path.join(ROOT, "daemon", "quickstart")
HOME = new_dir("quickstart")
os.chmod(HOME, 0o755)


def quickstart(*argv):
    return subprocess.run([QUICKSTART, *argv], env=dict(os.environ, APIKEYD_QUICKSTART=HOME), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)


def same_ids(text):
    """Key ids are random: each becomes the same word."""
    return re.sub(r"explain_rights\('[0-9A-Za-z]{10}'", "explain_rights('0123456789'", text).strip()


def environment():
    out = subprocess.run(["bash", "-c", f'eval "$({QUICKSTART} env)" && env -0'], stdout=subprocess.PIPE,
                         env=dict(os.environ, APIKEYD_QUICKSTART=HOME)).stdout.decode()
    return dict(line.split("=", 1) for line in out.split("\0") if "=" in line)


def test_the_transcript_in_the_README_is_what_it_prints(t):
    done = quickstart()
    t.equal(done.returncode, 0, done.stderr)
    with open(os.path.join(ROOT, "README.md")) as f:
        block = re.search(r"<!-- transcript: quickstart -->\n```\n(.*?)```\n<!-- end transcript -->", f.read(), re.S)
    t.equal(same_ids(done.stdout), same_ids(block.group(1)), "transcript")


def test_env_makes_every_client_work(t):
    env = environment()
    for name in ("APIKEYD_SOCKET", "APIKEYD_ADMIN_SOCKET", "PGHOST", "PGUSER", "PGDATABASE", "DEMO_KEYS"):
        t.ok(env.get(name), name)
    t.equal(os.stat(env["DEMO_KEYS"]).st_mode & 0o777, 0o600, "mode of DEMO_KEYS")
    with open(env["DEMO_KEYS"]) as f:
        keys = dict(line.split() for line in f)
    t.ok(len(keys) >= 15, "demo keys")
    asked = subprocess.run(["apikeyctl", "check", "incident:write", "acme"], env=dict(env, APIKEY_KEY=keys["edith"]),
                           stdout=subprocess.PIPE, text=True)
    t.equal(asked.returncode, 0, asked.stdout)
    listed = subprocess.run(["psql", "-XAtc", "select count(*) from apikeyd.organization"], env=env,
                            stdout=subprocess.PIPE, text=True)
    t.equal(listed.stdout.strip(), "2", "psql")


def test_a_second_start_keeps_the_keys(t):
    with open(environment()["DEMO_KEYS"]) as f:
        before = f.read()
    t.equal(quickstart().returncode, 0, "second start")
    with open(environment()["DEMO_KEYS"]) as f:
        t.equal(f.read(), before, "keys")


def test_stop_ends_it_and_remove_deletes_it(t):
    done = quickstart("stop")
    t.equal(done.returncode, 0, "stop")
    t.contains(done.stderr, f"the data stays in {HOME}")
    t.ok(quickstart("status").returncode != 0, "status after stop")
    done = quickstart("remove")
    t.equal(done.returncode, 0, "remove")
    t.contains(done.stderr, f"{HOME} deleted")
    t.ok(not os.path.exists(HOME), "the directory is gone")
    os.makedirs(os.path.join(HOME, "pg"))
    with open(os.path.join(HOME, "apikeyd.conf"), "w") as f:
        f.write("somebody else's")
    for command in ("stop", "remove", "env"):
        done = quickstart(command)
        t.equal(done.returncode, 1, f"{command} of nothing")
        t.equal(done.stdout, "", command)
    t.equal(sorted(os.listdir(HOME)), ["apikeyd.conf", "pg"], "what is not ours stays")


if __name__ == "__main__":
    run(globals())
