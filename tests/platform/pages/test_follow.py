"""What following a job and `advseg status` print, without a cluster."""

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests
from aiohttp import ClientError
from ray.job_submission import JobStatus
from rich.console import Console

from advseg.platform.base.events import parse
from advseg.platform.base.output import guard_output
from advseg.platform.pages import log_tail
from advseg.platform.pages.console import VisibleConsole
from advseg.platform.pages.follow import event_text, follow, follow_log, log_text
from advseg.platform.pages.log_tail import read_log
from advseg.platform.pages.state_page import print_services
from advseg.platform.services.state import ServiceState, ServiceStatus
from advseg.trainers.errors import BrokenEnvironmentError, UserError

STAGE = '@advseg {"kind": "stage", "text": "two trials"}\n'
TRIAL = (
    '@advseg {"kind": "trial", "key": "a/0", "state": "FAIL", "step": 4, "steps": 8, "reason": "no [/tmp/x] [bold]"}\n'
)


UNINSTALLED = """runtime_env setup failed: Failed to set up runtime environment.
[Node 10.0.0.7] Traceback (most recent call last):
  File "/ray/runtime_env_agent.py", line 561, in _create_runtime_env_with_retry
    runtime_env_context = await asyncio.wait_for(
                          ^^^^^^^^^^^^^^^^^^^^^^^
CalledProcessError: Run cmd[15] failed with the following details.
    error: No solution found: there is no version of nosuch==1
"""
"""What Ray says of a job whose packages cannot be had."""


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
        if id == "unknown":
            raise RuntimeError("Request failed with status code 404: Job unknown does not exist.")
        return self.status

    def get_job_logs(self, id: str) -> str:
        return self.log

    def get_job_info(self, id: str) -> Any:
        return SimpleNamespace(status=self.status, message=UNINSTALLED)


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


def test_a_job_that_never_began_shows_why_as_its_log() -> None:
    jobs: Any = FakeJobs("", JobStatus.FAILED)
    _, out = followed(jobs)
    assert read_log(jobs, "a-1").strip() == out.strip()
    assert "[Node 10.0.0.7] CalledProcessError: Run cmd[15] failed" in out
    assert "there is no version of nosuch==1" in out
    assert "Traceback" not in out
    assert "File" not in out
    assert read_log(cast("Any", FakeJobs("", JobStatus.RUNNING)), "a-1") == ""


def test_a_log_is_what_a_job_printed_its_events_in_words() -> None:
    told = [event_text(event) for line in (STAGE, TRIAL) if (event := parse(line))]
    text = log_text(f"a\n{STAGE}\n@advseg no event\n{TRIAL}[b]")
    assert text == f"a\n{told[0]}\n\n@advseg no event\n{told[1]}\n[b]"
    assert "{" not in "".join(told)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_job_that_has_not_begun_says_what_it_waits_for(terminal: bool) -> None:
    class Pending(FakeJobs):
        def get_job_info(self, id: str) -> Any:
            return SimpleNamespace(status=JobStatus.PENDING, message="It may be waiting for resources.")

    _, out = followed(Pending("", JobStatus.SUCCEEDED), terminal=terminal)
    assert "PENDING: It may be waiting for resources." in out


def test_an_unknown_job_is_refused() -> None:
    with pytest.raises(UserError, match="there is no job unknown; `advseg job list` lists the jobs"):
        followed(FakeJobs("", JobStatus.FAILED), "unknown")


class GrowingLog:
    """A log that grows between the connections over which it is followed. Each gives it from its beginning, and breaks
    off where told, with an error, by falling silent, or as if all were told."""

    def __init__(self, *connections: tuple[str, int, Exception | str | None], end: str = "SUCCEEDED") -> None:
        self._connections = iter(connections)
        self._left = len(connections)
        self._log = ""
        self._end = end

    async def tail_job_logs(self, id: str) -> AsyncIterator[str]:
        self._log, cut, broken = next(self._connections)
        self._left -= 1
        for place in range(0, cut, 4):
            yield self._log[place : min(place + 4, cut)]
        if broken == "silence":
            await asyncio.Event().wait()
        if isinstance(broken, Exception):
            raise broken

    def get_job_status(self, id: str) -> JobStatus:
        return JobStatus(self._end if not self._left else "RUNNING")

    def get_job_logs(self, id: str) -> str:
        return self._log


class TestLog:
    @pytest.fixture(autouse=True)
    def hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(log_tail, "_RECONNECT_S", 0)
        monkeypatch.setattr(log_tail, "_SILENCE_S", 0.05)

    @pytest.mark.parametrize(
        "broken", [RuntimeError("closed"), ClientError(), ConnectionResetError(), "silence", None], ids=repr
    )
    @pytest.mark.parametrize("cut", [0, 3, 7, 16])
    def test_is_written_once_to_its_end_over_connections_that_break(self, broken: Any, cut: int) -> None:
        log = "one\ntwo, ü\nthree\nfour"
        jobs: Any = GrowingLog((log[:12], min(cut, 12), broken), (log[:17], cut, broken), (log, cut, broken))
        written: list[str] = []
        assert follow_log(jobs, "a-1", written.append) is JobStatus.SUCCEEDED
        assert "".join(written) == log

    def test_is_written_with_events_in_words_also_where_a_connection_breaks_within_one(self) -> None:
        log = f"a\n{STAGE}b\n"
        jobs: Any = GrowingLog((log, 20, RuntimeError("closed")), (log, 9, None))
        written: list[str] = []
        follow_log(jobs, "a-1", written.append)
        assert "".join(written) == "a\ntwo trials\nb\n"

    def test_that_nobody_can_write_any_more_is_no_broken_connection(self) -> None:
        def full(text: str) -> None:
            raise OSError(28, "No space left on device")

        jobs: Any = GrowingLog(("one\n", 4, None))
        with pytest.raises(OSError, match="No space left"):
            follow_log(jobs, "a-1", full)

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (
                requests.ConnectionError("refused"),
                "job a-1 cannot be followed any more, as its cluster does not answer",
            ),
            (RuntimeError("Request failed with status code 500: x"), "job a-1 cannot be followed any more"),
            (RuntimeError("Job a-1 does not exist"), "job a-1 ended with the head that ran it, and another is in its"),
        ],
        ids=repr,
    )
    def test_of_a_head_that_dies_ends_with_a_line(
        self, error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(id: str) -> None:
            raise error

        jobs: Any = GrowingLog(("one\n", 4, ClientError()), ("one\n", 4, None))
        monkeypatch.setattr(jobs, "get_job_status", away)
        with pytest.raises(BrokenEnvironmentError, match=message) as told:
            follow_log(jobs, "a-1", lambda _: None)
        assert "\n" not in str(told.value)

    def test_that_is_gone_with_its_node_ends_as_the_job_did(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def gone(id: str) -> None:
            raise RuntimeError("Request failed with status code 500: no agent")

        jobs: Any = GrowingLog(("one\n", 4, None), end="FAILED")
        monkeypatch.setattr(jobs, "get_job_logs", gone)
        assert follow_log(jobs, "a-1", lambda _: None) is JobStatus.FAILED


class TestStatus:
    def test_shows_paths_as_they_are(self, capsys: pytest.CaptureFixture[str]) -> None:
        home = Path("/tmp/[bold]/.advseg")
        print_services(home, [ServiceStatus(name="mlflow", state=ServiceState.DEAD, log=home / "[red]" / "log")], {})
        out = capsys.readouterr().out
        assert "services of /tmp/[bold]/.advseg" in out
        assert "[red]/log" in out
        assert "started again by `advseg up`" in out

    def test_shows_what_the_environment_names_in_the_place_of_what_does_not_run(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        home = Path("/home/.advseg")
        down = ServiceStatus(name="mlflow", state=ServiceState.DOWN, log=home / "log")
        runs = ServiceStatus(name="ray", state=ServiceState.RUNNING, log=home / "log", url="http://127.0.0.1:8265")
        print_services(home, [down, runs], {"mlflow": "http://mlflow", "ray": "http://ray"})
        rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()[2:]]
        assert rows == [
            ["mlflow", "elsewhere", "http://mlflow"],
            ["ray", "running", "http://127.0.0.1:8265"],
            ["ray", "elsewhere", "http://ray"],
        ]
