"""What tests of several nodes rest on: machines that share no disk, and are gone at once."""

import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from machines import Machine, hindrance
from waiting import wait_for

SLEEP = ("sleep", "3600")


@pytest.fixture
def home() -> Iterator[Path]:
    if reason := hindrance():
        pytest.skip(f"a machine of its own needs root on Linux, and namespaces: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def switch_on(home: Path) -> Iterator[Callable[..., Machine]]:
    machines: list[Machine] = []

    def on(name: str, **options: Path) -> Machine:
        machines.append(Machine(name, home, **options))
        return machines[-1]

    yield on
    for machine in machines:
        machine.cut()


def test_what_one_machine_writes_no_other_finds(home: Path, switch_on: Callable[..., Machine]) -> None:
    one, other = switch_on("one"), switch_on("other")
    one.run("touch", home / "mine")
    assert (one.run("ls", home), other.run("ls", home), one.run("hostname")) == ("mine\n", "", "one\n")
    assert (one.disk / "mine").exists() and not (home / "mine").exists()


def test_a_shared_folder_is_one_for_all_of_them(home: Path, switch_on: Callable[..., Machine]) -> None:
    (shared := home / "shared").mkdir()
    one, other = (switch_on(name, shared=shared) for name in ("one", "other"))
    one.run("touch", shared / "ours")
    assert other.run("ls", shared) == "ours\n"
    assert (shared / "ours").exists()


def test_a_machine_whose_power_is_cut_takes_its_processes_along_and_keeps_its_disk(
    home: Path, switch_on: Callable[..., Machine]
) -> None:
    machine, spared = switch_on("one"), switch_on("other")
    for each in (machine, spared):
        each.start(*SLEEP, environment={}, log=home / "log")
    machine.run("touch", home / "mine")
    (lost,) = wait_for(lambda: machine.processes("sleep"))
    (left,) = wait_for(lambda: spared.processes("sleep"))
    machine.cut()
    assert (lost.is_running(), left.is_running()) == (False, True)
    assert switch_on("one").run("ls", home) == "mine\n"


TALKER = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    while True:
        connection.sendall(b".")
"""


def test_a_machine_that_freezes_says_nothing_more_and_closes_no_connection(
    home: Path, switch_on: Callable[..., Machine]
) -> None:
    machine = switch_on("one")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        machine.start(sys.executable, "-c", TALKER, port, environment={}, log=home / "log")
        connection, _ = server.accept()
    with connection:
        machine.freeze()
        (talker,) = machine.processes(port)
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            while connection.recv(2**16):
                pass
        assert talker.status() == psutil.STATUS_STOPPED
        machine.cut()
        assert connection.recv(1) == b""


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from machines import Machine
machine = Machine("one", Path(sys.argv[2]))
machine.start("sleep", "3600", environment={}, log=Path(sys.argv[2], "log"))
while not machine.processes("sleep"):
    pass
print(machine.processes("sleep")[0].pid, flush=True)
sys.stdin.read()
"""


def test_a_machine_is_off_once_who_switched_it_on_was_killed(home: Path) -> None:
    helpers = str(Path(__file__).parent / "helpers")
    line = [sys.executable, "-c", PROGRAM, helpers, str(home)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        asleep = int(program.stdout.readline())
        program.kill()
    wait_for(lambda: not psutil.pid_exists(asleep))
