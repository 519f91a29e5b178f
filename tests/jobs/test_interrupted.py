"""Trainings on this machine that a signal ends, and two in one folder."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from waiting import wait_for

from advseg.jobs import train as job
from advseg.platform.base.alone import OCCUPANT, alone_in
from advseg.platform.base.exits import exit_status
from advseg.platform.spec.spec_file import load_spec
from advseg.trainers.checkpoint import newest_sealed
from advseg.trainers.errors import PreemptedError, UserError
from advseg.trainers.reporter import Report, Reporters

LONG = ("trainer.steps=1000000", "trainer.evaluate_every=3")


def program(spec: Path, folder: Path, *overrides: str) -> list[str]:
    sets = [word for override in overrides for word in ("--set", override)]
    return ["train", str(spec), *sets, "--to", str(folder)]


def test_an_interrupt_saves_and_the_command_that_goes_on_is_named(spec: Path, tmp_path: Path) -> None:
    arguments = program(spec, tmp_path / "a run", *LONG)
    process = subprocess.Popen(
        [sys.executable, "-m", "advseg.jobs.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline().startswith("step 3/")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()

    assert process.returncode == 130, errors
    saved = newest_sealed(tmp_path / "a run" / "checkpoints")
    assert saved
    last = errors.splitlines()[-1]
    command = f"--to '{tmp_path / 'a run'}'"
    assert last.startswith(f"interrupted: asked to stop, and saved at step {saved[0]}; `advseg train {spec} --set ")
    assert last.endswith(f"{command}` goes on")
    assert errors.splitlines()[0].startswith("compact of 17,912 parameters on ")
    assert "stopping: it is saved after this step" in errors


def test_trainings_of_a_table_are_saved_each_and_none_goes_on(tmp_path: Path) -> None:
    # Three processes import PyTorch, which takes 30 s of a busy machine with two cores.
    sets = ("trainer.steps=1000000", "trainer.evaluate_every=2", "method.semi_start=1", "model.width=8")
    arguments = ["reproduce", "ablation", "voc-1-8/semi", "--on=shapes", "--seeds=1", "--processes=2"]
    arguments += [f"--set={each}" for each in sets]
    process = subprocess.Popen(
        [sys.executable, "-m", "advseg.jobs.cli", *arguments],
        env={**os.environ, "ADVSEG_HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(list(tmp_path.rglob("metrics.jsonl"))) == 2)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()

    assert process.returncode == 130, errors
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert len(list(tmp_path.rglob("checkpoints"))) == 2
    assert all(newest_sealed(folder) for folder in tmp_path.rglob("checkpoints"))
    assert errors.splitlines()[-1] == (
        f"interrupted: asked to stop, and saved what was under way; `{shlex.join(['advseg', *arguments])}` goes on"
    )
    assert errors.count("stopping: it is saved after this step") == 1


class Sending:
    """Sends this process a signal, so many times."""

    def __init__(self, number: int, times: int = 1) -> None:
        self._number, self._times = number, times

    def report(self, report: Report) -> None:
        for _ in range(self._times):
            os.kill(os.getpid(), self._number)


def test_what_was_ended_goes_on_to_the_same_weights(spec: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(PreemptedError, match="saved at step 2"):
        job.train(load_spec(spec), tmp_path / "run", Sending(signal.SIGTERM))
    job.train(load_spec(spec), tmp_path / "run", Reporters())
    weights = [path / "segmenter.safetensors" for path in (model, tmp_path / "run" / "model")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_second_interrupt_does_not_wait_and_handlers_are_put_back(spec: Path, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(KeyboardInterrupt):
        job.train(load_spec(spec), tmp_path / "run", Sending(signal.SIGINT, 2))
    assert newest_sealed(tmp_path / "run" / "checkpoints") is None
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_what_torchrun_has_started_goes_on_by_a_command_that_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise PreemptedError("saved at step 2")

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert exit_status(work) == 130
    assert capsys.readouterr().err == "interrupted: saved at step 2; the same command goes on\n"


def test_two_in_one_folder_are_refused(spec: Path, tmp_path: Path) -> None:
    run, here = tmp_path / "run", re.escape(f"(pid {os.getpid()} on {socket.gethostname()})")
    with alone_in(run), pytest.raises(UserError, match=f"another process trains in .*/run {here}: wait until it ends"):
        job.train(load_spec(spec), run, Reporters())
    assert list(run.iterdir()) == []


@pytest.mark.parametrize("kind", ["pipe", "folder", "circle"])
def test_what_lies_where_the_occupant_is_named_is_in_nobodys_way(
    tmp_path: Path, put_odd: Callable[[str, Path], None], kind: str
) -> None:
    put_odd(kind, tmp_path / OCCUPANT)
    with alone_in(tmp_path), pytest.raises(UserError, match="another process trains in "), alone_in(tmp_path):
        pass


def test_a_file_to_which_a_link_leads_from_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("much")
    (tmp_path / OCCUPANT).symlink_to("precious")
    with alone_in(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "much"


def test_one_that_was_killed_is_in_no_folder_any_more(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from advseg.platform.base.alone import OCCUPANT, alone_in
with alone_in(Path({str(tmp_path / "run")!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    with alone_in(tmp_path / "run"):
        pass
