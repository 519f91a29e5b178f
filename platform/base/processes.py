"""Processes that outlive the command which started them."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

# Boot time is known in whole seconds only. No pid comes round again as quickly as this.
CREATION_TOLERANCE_S = 2.0
KILL_LIMIT_S = 10.0
POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """A process, told apart from a later one with the same pid."""

    pid: int
    created: float  # seconds after the machine's boot, so that setting the clock changes nothing
    space: str = ""
    """Among whose pids, as `pid_space` has it; empty in a record that does not tell."""


def launch(argv: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path) -> ProcessIdentity:
    """Starts a program in a session of its own, working in `folder` and appending what it prints to `log`.

    What it and its children write is for the user's eyes alone.
    """
    with log.open("ab") as output:
        log.chmod(0o600)
        process = subprocess.Popen(
            argv,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    # The process is meant to outlive this one: without a return code Popen would warn of that on deletion.
    process.returncode = 0
    launched = psutil.Process(process.pid)
    # For a moment after its start Linux shows of a program neither arguments nor environment, by which it is known.
    with contextlib.suppress(psutil.Error):
        while environment and not launched.environ():
            time.sleep(POLL_S / 100)
    return _identity(launched)


def this_process() -> ProcessIdentity:
    """The calling process."""
    return _identity(psutil.Process())


@cache
def pid_space() -> str:
    """Where this process's pids mean something: a boot of a machine, and a pid namespace, as each container has one.

    Host names do not tell: two containers may have the same.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()  # No Linux, so no namespaces.


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether the very process still runs; a zombie does not."""
    process = find(identity)
    return process is not None and not is_zombie(process)


def kill(identity: ProcessIdentity) -> None:
    """SIGKILL the very process; nothing happens if it has ended, or is of another pid space."""
    if process := find(identity):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def end(find_members: Callable[[], Iterable[psutil.Process]], *, leaders: Collection[int], grace_s: float) -> None:
    """Ends services and returns when all their processes are gone: SIGTERM, and after `grace_s` s SIGKILL.

    `leaders` are the pids of the services' first processes. What runs in their sessions is left to them to
    end for the first half of the grace: Ray's processes wait for each other in vain if all are told at once.
    `find_members` is asked again and again, so that processes started meanwhile are ended as well.
    Raises TimeoutError if one outlives SIGKILL by 10 seconds.
    """
    began = time.monotonic()
    seen: set[psutil.Process] = set()
    asked: set[psutil.Process] = set()
    while remaining := {process for process in seen if not is_zombie(process)} | set(find_members()):
        seen |= remaining
        elapsed = time.monotonic() - began
        if elapsed > grace_s + KILL_LIMIT_S:
            raise TimeoutError(f"processes outlived SIGKILL: {sorted(process.pid for process in remaining)}")
        led = elapsed < grace_s / 2 and any(process.pid in leaders for process in remaining)
        for process in remaining:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if elapsed > grace_s:
                    process.kill()
                elif process not in asked and not (led and _is_led(process, leaders)):
                    process.terminate()
                    asked.add(process)
        psutil.wait_procs(remaining, timeout=POLL_S)


def _is_led(process: psutil.Process, leaders: Collection[int]) -> bool:
    return process.pid not in leaders and os.getsid(process.pid) in leaders


def find(identity: ProcessIdentity) -> psutil.Process | None:
    """The process itself, also as a zombie; None if it is gone, or of another pid space."""
    if identity.space not in ("", pid_space()):
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(identity.pid)
        if abs(_created(process) - identity.created) < CREATION_TOLERANCE_S:
            return process
    return None


def _identity(process: psutil.Process) -> ProcessIdentity:
    return ProcessIdentity(pid=process.pid, created=_created(process), space=pid_space())


def _created(process: psutil.Process) -> float:
    return process.create_time() - psutil.boot_time()


def is_zombie(process: psutil.Process) -> bool:
    """Whether the process has ended, be it that its parent has not asked for its exit code yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
