"""What following a job and `advseg status` print, without a cluster."""

import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientError
from ray.job_submission import JobStatus
from rich.console import Console

from advseg.platform.base.output import guard_output
from advseg.platform.pages.console import VisibleConsole
from advseg.platform.pages.follow import follow, log_text
from advseg.platform.pages.state_page import print_jobs, print_services
from advseg.platform.services.state import ServiceState, ServiceStatus
from advseg.trainers.errors import UserError

STAGE = '@advseg {"kind": "stage", "text": "two trials"}\n'
TRIAL = (
    '@advseg {"kind": "trial", "key": "a/0", "state": "FAIL", "step": 4, "steps": 8, "reason": "no [/tmp/x] [bold]"}\n'
)


class FakeJobs:
    """Ray's Jobs API for one job whose log stream breaks where told."""

    def __init__(
        self, log: str, status: JobStatus, pieces: tuple[int, ...] = (), broken: type[Exception] = RuntimeError
    ) -> None:
        self.log, self.status = log, status
        self._cuts = (0, *pieces)
        self._broken = broken

    async def tail_job_logs(self, id: str) -> AsyncIterator[str]:
        for start, end in zip(self._cuts, self._cuts[1:], strict=False):
            yield self.log[start:end]
        raise self._broken(f"Job {id} does not exist" if id == "unknown" else "the connection broke")

    def get_job_status(self, id: str) -> JobStatus:
        return self.status

    def get_job_logs(self, id: str) -> str:
        return self.log


def followed(jobs: Any, id: str = "a-1", *, terminal: bool = False) -> tuple[JobStatus, str]:
    console = Console(width=160, force_terminal=terminal, color_system=None)
    with console.capture() as capture:
        status = follow(jobs, id, console)
    return status, capture.get()


@pytest.mark.parametrize("broken", [RuntimeError, ClientError])
@pytest.mark.parametrize("pieces", [(), (10,), (len(STAGE) + 5, len(STAGE) + 9)])
def test_each_event_is_shown_once_even_if_the_stream_breaks(pieces: tuple[int, ...], broken: type[Exception]) -> None:
    status, out = followed(FakeJobs(STAGE + TRIAL, JobStatus.SUCCEEDED, pieces, broken))
    assert status is JobStatus.SUCCEEDED
    assert out.count("two trials") == out.count("a/0") == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_brackets_of_a_reason_are_shown_as_they_are(terminal: bool) -> None:
    _, out = followed(FakeJobs(STAGE + TRIAL, JobStatus.SUCCEEDED), terminal=terminal)
    assert "no [/tmp/x] [bold]" in out


@pytest.mark.parametrize("is_terminal", [False, True])
def test_no_word_of_a_job_steers_the_terminal(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: is_terminal)
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "160")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    guard_output()
    bad = "\x1b]0;title\x07\x1b[8m\u202e"
    stage, trial = (json.loads(line.removeprefix("@advseg ")) for line in (STAGE, TRIAL))
    events = [stage | {"text": bad}, trial | {"key": f"a/{bad}", "reason": bad, "params": {bad: bad}}]
    log = "".join(f"@advseg {json.dumps(event)}\n" for event in events)
    follow(FakeJobs(f"{log}\x1b[36m(worker)\x1b[0m {bad}\n", JobStatus.FAILED), "a-1", VisibleConsole())
    said = terminal.getvalue()
    assert "\\u001b]0;title\\u0007\\u001b[8m\\u202e" in said
    assert "(worker) \\u001b]0;" in said
    assert not {"\x07", "\u202e", "\x1b]", "\x1b[8m"} & {said[i : i + n] for i in range(len(said)) for n in (1, 2, 4)}


def test_a_failed_job_shows_the_end_of_its_log() -> None:
    log = STAGE + "".join(f"line {number} [/x]\n" for number in range(50))
    _, out = followed(FakeJobs(log, JobStatus.FAILED))
    assert "line 49 [/x]" in out
    assert "line 20 " not in out


def test_a_log_is_what_a_job_printed_without_its_events() -> None:
    assert log_text(f"a\n{STAGE}\n@advseg no event\n{TRIAL}[b]") == "a\n\n@advseg no event\n[b]"


def test_an_unknown_job_is_refused() -> None:
    with pytest.raises(UserError, match="there is no job unknown; `advseg job list` lists the jobs"):
        followed(FakeJobs("", JobStatus.FAILED), "unknown")


class TestStatus:
    def test_lists_jobs_newest_first_with_their_messages_as_they_are(self, capsys: pytest.CaptureFixture[str]) -> None:
        jobs: Any = [
            SimpleNamespace(submission_id=id, status=JobStatus.FAILED, message=f"in [/tmp/{id}]", start_time=start)
            for id, start in (("old-1", 1), ("new-1", 2))
        ]
        print_jobs(jobs)
        out = capsys.readouterr().out
        assert "in [/tmp/new-1]" in out
        assert out.index("new-1") < out.index("old-1")

    def test_says_so_without_jobs(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_jobs([])
        assert capsys.readouterr().out == "no jobs yet\n"

    def test_shows_paths_as_they_are(self, capsys: pytest.CaptureFixture[str]) -> None:
        home = Path("/tmp/[bold]/.advseg")
        print_services(home, [ServiceStatus(name="mlflow", state=ServiceState.DEAD, log=home / "[red]" / "log")])
        out = capsys.readouterr().out
        assert "services of /tmp/[bold]/.advseg" in out
        assert "[red]/log" in out
        assert "started again by `advseg up`" in out
