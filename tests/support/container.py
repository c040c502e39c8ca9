"""A container with a real systemd, booted by systemd-nspawn on an overlay of this machine's root.

Nothing of it outlives the process: what it writes is in a tmpfs. Where such a thing cannot be (not root, no overlay, no
namespaces), Container() raises NoContainer with the reason.
"""
import atexit
import os
import shutil
import subprocess
import tempfile

from world import wait_until

# What an ordinary Debian starts and nobody here needs.
MASKED = ["redis-server.service", "systemd-logind.service", "console-getty.service", "systemd-timesyncd.service",
          "systemd-networkd.service", "systemd-resolved.service", "e2scrub_reap.service", "apt-daily.timer", "postfix.service",
          "apt-daily-upgrade.timer", "man-db.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer", "cron.service",
          "exim4.service", "logrotate.timer", "ssh.service", "systemd-tmpfiles-clean.timer", "systemd-user-sessions.service"]


class NoContainer(Exception):
    pass


def run(argv, **more):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                          errors="replace", **more)


class Container:
    def __init__(self, prepare=None):
        """prepare(root): called before the boot, with the directory of its root."""
        self.process = self.leader = None
        if os.geteuid() != 0:
            raise NoContainer("booting a container takes root")
        for program, package in (("systemd-nspawn", "systemd-container"), ("nsenter", "util-linux")):
            if not shutil.which(program):
                raise NoContainer(f"{program} is not installed (package {package})")
        self.dir = tempfile.mkdtemp(prefix="apikeyd-container.")
        self.root = os.path.join(self.dir, "root")
        atexit.register(self.close)
        self._mount()
        tried = run(self._nspawn() + ["true"])
        if tried.returncode:
            raise NoContainer("systemd-nspawn cannot start anything here: " + tried.stdout.strip().replace("\n", "; "))
        self._clear()
        if prepare:
            prepare(self.root)
        self._boot()

    def _mount(self):
        done = run(["mount", "-t", "tmpfs", "-o", "mode=0755,size=2g", "tmpfs", self.dir])
        if done.returncode:
            raise NoContainer("a tmpfs cannot be mounted here: " + done.stdout.strip())
        for name in ("upper", "work", "root"):
            os.mkdir(os.path.join(self.dir, name))
        done = run(["mount", "-t", "overlay", "overlay", "-o",
                    f"lowerdir=/,upperdir={self.dir}/upper,workdir={self.dir}/work", self.root])
        if done.returncode:
            raise NoContainer("an overlay of the root cannot be mounted here: " + done.stdout.strip())

    def _nspawn(self):
        return ["systemd-nspawn", "--quiet", "--directory", self.root, "--register=no", "--keep-unit", "--private-network",
                "--machine", f"apikeyd-{os.getpid()}", "--link-journal=no", "--resolv-conf=off",
                "--timezone=off",
                # What its filter leaves out, and the kernel of a host lets any process do.
                "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
                "--capability=CAP_IPC_LOCK"]  # or its filter lets nobody lock memory, which any process of a host may

    def _clear(self):
        """What this machine has of its own, and what a boot must not do."""
        def below(*names):
            return os.path.join(self.root, *names)
        for name in os.listdir(below("etc/systemd/system")):
            if name.startswith("apikeyd"):
                subprocess.run(["rm", "-rf", below("etc/systemd/system", name)], check=True)
        for unit in MASKED:
            path = below("etc/systemd/system", unit)
            if os.path.lexists(path):
                os.unlink(path)
            os.symlink("/dev/null", path)
        for gone in ("etc/postgresql", "var/lib/postgresql", "etc/apikeyd", "var/lib/apikeyd", "etc/fstab", "var/log/journal",
                     "usr/sbin/policy-rc.d",
                     "var/lib/man-db/auto-update"):  # an index of all manual pages at each dpkg takes seconds
            if os.path.lexists(below(gone)):
                subprocess.run(["rm", "-rf", below(gone)], check=True)

    def _boot(self):
        self.log = open(os.path.join(self.dir, "console"), "w+b")
        self.process = subprocess.Popen(self._nspawn() + ["--boot", "--", "systemd.unit=multi-user.target",
                                                          "systemd.show_status=no"],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_until("the container's first process", self._find_leader, 60)
        wait_until("the container to boot", self._is_up, 120, step=0.1)

    def _console(self):
        self.log.flush()
        with open(self.log.name, errors="replace") as f:
            return f.read()[-4000:]

    def _find_leader(self):
        if self.process.poll() is not None:
            raise AssertionError("systemd-nspawn ended: " + self._console())
        try:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
                children = f.read().split()
            for child in children:
                with open(f"/proc/{child}/comm") as f:
                    if f.read().strip() == "systemd" and os.path.isdir(f"/proc/{child}/root/run/systemd/system"):
                        self.leader = int(child)
                        return True
        except OSError:
            pass
        return False

    def _is_up(self):
        if self.process.poll() is not None:
            raise AssertionError("the container ended: " + self._console())
        return self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def enter(self, user=None):
        """The words before a command that runs it in there; `user` by name, with its groups."""
        words = ["nsenter", "--target", str(self.leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
        if user:
            words += ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
        return words

    ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}

    def run(self, *argv, user=None, check=False, stdin=None, env=None):
        done = subprocess.run(self.enter(user) + list(argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              errors="replace", input=stdin if stdin is not None else "", env=dict(self.ENV, **(env or {})))
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def popen(self, *argv, user=None, env=None):
        return subprocess.Popen(self.enter(user) + list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env=dict(self.ENV, **(env or {})))

    def path(self, name):
        """A path in there, as it is from here while the container runs: also in its own mounts."""
        return f"/proc/{self.leader}/root{name}"

    def write(self, name, text, mode=0o644):
        with open(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as f:
            f.write(text)
        os.chmod(self.path(name), mode)

    def show(self, unit, name):
        return self.run("systemctl", "show", "--property", name, "--value", unit, check=True).stdout.strip()

    def journal(self, *argv):
        return self.run("journalctl", "--quiet", "--no-pager", "--output=cat", *argv, check=True).stdout

    def close(self):
        if self.process is not None and self.process.poll() is None:
            if self.leader:
                self.run("systemctl", "halt", "--force", "--force")
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None
        for path in (self.root, self.dir):
            if os.path.ismount(path):
                run(["umount", "--lazy", path])
        if os.path.isdir(self.dir) and not os.path.ismount(self.dir):
            shutil.rmtree(self.dir, True)
