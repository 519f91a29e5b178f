"""Machines in small: what runs on one has a disk, a host name and processes of its own. Linux's namespaces do it.

Each machine has its disk at one and the same path, its home: what one machine has written there, no other finds. All
machines share this one's network, and the rest of its files, where the programs are.
"""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

# A machine is off as soon as who switched it on has ended, however that came about.
_UNSHARE = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
_STILL = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
_INIT = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); print('on', flush=True); signal.pause()"
"""The first process of a machine: it has nothing to do but to bury those whose parents are gone."""


def hindrance() -> str | None:
    """Why there can be no machines here, if so: they need root on Linux, and more than most containers allow."""
    try:
        tried = subprocess.run([*_UNSHARE, "mount", "-t", "tmpfs", "none", "/tmp"], capture_output=True, text=True)
    except FileNotFoundError as error:
        return f"there is no {error.filename}, which Linux has in util-linux"
    return None if tried.returncode == 0 else f"this process may not: {tried.stderr.strip()}"


class Machine:
    """A machine, from when it is switched on until its power is cut."""

    def __init__(self, name: str, home: Path, *, shared: Path | None = None) -> None:
        """`home` is where it has its disk, outside known as `disk`; `shared` a folder in `home` of all machines."""
        self.name, self.home, self.disk = name, home, home / name
        self.disk.mkdir(exist_ok=True)
        outside = subprocess.Popen([*_UNSHARE, sys.executable, "-c", _INIT], stdout=subprocess.PIPE)
        assert outside.stdout
        with outside.stdout as said:
            assert said.readline() == b"on\n"
        (self._init,) = psutil.Process(outside.pid).children()
        self._begun = [outside]
        try:
            self.run("hostname", name)
            if shared:
                (mounted := self.disk / shared.relative_to(home)).mkdir(exist_ok=True)
                self.run("mount", "--bind", shared, mounted)
            self.run("mount", "--rbind", self.disk, home)
        except BaseException:
            self.cut()
            raise

    def run(self, *argv: str | Path, environment: Mapping[str, str] | None = None) -> str:
        """What a command writes that is to succeed on the machine."""
        line = self._line(argv)
        done = subprocess.run(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, f"{done.args} on {self.name} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def start(self, *argv: str | Path, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        """Start a program on the machine, which writes to a file that is seen from outside."""
        with log.open("w") as file:
            begun = subprocess.Popen(self._line(argv), env=environment, stdout=file, stderr=subprocess.STDOUT)
        self._begun.append(begun)
        return begun

    def _line(self, argv: tuple[str | Path, ...]) -> list[str]:
        into = ("nsenter", "--target", str(self._init.pid), "--mount", "--uts", "--pid")
        # Programs that run as another user can do nothing where we are.
        return [*into, "env", f"--chdir={self.home}", *map(str, argv)]

    def processes(self, word: str = "") -> list[psutil.Process]:
        """Those on the machine whose command line holds a word, but for the first."""
        others = (process for process in psutil.process_iter() if process != self._init)
        return [each for each in others if _namespace(each) == _namespace(self._init) and word in _line_of(each)]

    def kill(self, word: str = "", how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to those processes."""
        for process in self.processes(word):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(how)

    def freeze(self) -> None:
        """What its power cut is to others: it answers nobody any more, and closes no connection."""
        with contextlib.suppress(psutil.NoSuchProcess):
            while awake := [each for each in self.processes() if each.status() not in _STILL]:
                for process in awake:
                    process.suspend()

    def cut(self) -> None:
        """Cut its power: all that runs on it is gone at once. What it has on its disk stays."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._init.kill()
        outside, *begun = self._begun
        for each in begun:
            # Who waits for a program that is stopped is stopped, too.
            each.kill()
            each.wait()
        outside.wait()  # It ends once all is gone.


def _namespace(process: psutil.Process) -> Path | None:
    try:
        return Path(f"/proc/{process.pid}/ns/pid").readlink()
    except OSError:
        return None


def _line_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
