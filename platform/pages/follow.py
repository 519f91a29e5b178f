"""Following a job: its log is read over the network and its events are shown as a live table."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from ray.job_submission import JobStatus, JobSubmissionClient
from requests.exceptions import RequestException
from rich.console import Console, Group
from rich.live import Live

from ..base.events import Event, Stage, TrialUpdate, Verdict, parse
from .console import words
from .followed_trials import Search, done_trials, fitting, summary
from .log_tail import tail_log
from .terminal import progress_table, update_line, verdict_text

_LOG_TAIL = 20
"""Lines of the log that are shown when a job failed."""
_FEWEST, _AROUND = 3, 9
"""Trainings that are shown in any case, and lines of a terminal beside them: for stage, headings and summary."""
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
"""What Ray colours the lines of workers by."""


class Progress:
    """All that was heard of a job. Hearing an event again, as one of a trial that is told of anew, changes nothing."""

    def __init__(self) -> None:
        self.stage = ""
        self._stages: set[str] = set()
        self.updates: dict[str, TrialUpdate] = {}
        self.search: Search | None = None
        self.verdict: Verdict | None = None
        self.log: list[str] = []
        self._rest = ""

    def hear(self, text: str) -> Iterator[Event]:
        """Take a piece of the log, which may end within a line, and give the events that are news."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            event = parse(line)
            if event is None:
                self.log.append(_COLOUR.sub("", line))
            elif self._is_news(event):
                yield event

    def _is_news(self, event: Event) -> bool:
        match event:
            case Stage():
                news = event.text not in self._stages
                if news:
                    self.stage = event.text
                    self._stages.add(event.text)
                if event.trials is not None:
                    done = done_trials(list(self.updates.values()))
                    self.search = Search(trials=event.trials, began=event.at, done=done)
            case TrialUpdate():
                known = self.updates.get(event.key)
                news = known is None or (event.step, event.state != "RUNNING") > (
                    known.step,
                    known.state != "RUNNING",
                )
                if news:
                    self.updates[event.key] = event
            case Verdict():
                news = self.verdict is None
                self.verdict = event
        return news


def log_text(log: str) -> str:
    """What a job printed, without colours; what it tells those who follow it as they are shown it."""
    return "".join(_in_words(line) for line in log.splitlines(keepends=True))


def _in_words(line: str) -> str:
    event = parse(line)
    return _COLOUR.sub("", line) if event is None else f"{event_text(event)}\n"


def event_text(event: Event) -> str:
    """An event in a line, a verdict in several."""
    match event:
        case Stage():
            return event.text
        case TrialUpdate():
            return update_line(event)
        case Verdict():
            return verdict_text(event)


def follow_log(client: JobSubmissionClient, id: str, write: Callable[[str], None]) -> JobStatus:
    """Write what a job prints, line by line, until it ends, and return how. Raises as `tail_log` does."""
    rest = ""

    def hear(text: str) -> None:
        nonlocal rest
        lines, end, rest = (rest + text).rpartition("\n")
        write(log_text(lines + end))

    status = tail_log(client, id, hear)
    write(log_text(rest))
    return status


def pending_line(client: JobSubmissionClient, id: str) -> str | None:
    """What a job that has not begun waits for, as Ray has it; None of another."""
    with suppress(RuntimeError, RequestException):  # What is wrong with it `tail_log` says.
        job = client.get_job_info(id)
        return f"PENDING: {job.message}" if job.status == JobStatus.PENDING else None


def live_table(progress: Progress, height: int) -> Group:
    """As many trainings as a terminal of some lines has room for, with a line about all."""
    updates = list(progress.updates.values())
    if not updates:
        return Group(words(progress.stage))
    shown = fitting(updates, max(_FEWEST, height - _AROUND))
    return Group(progress_table(progress.stage, shown), words(summary(updates, len(shown), progress.search)))


def follow(client: JobSubmissionClient, id: str, console: Console) -> JobStatus:
    """Show a job until it ends, and return how. KeyboardInterrupt leaves the job running.

    Raises as `tail_log` does.
    """
    progress = Progress()

    def listen(show: Callable[[Event], None]) -> JobStatus:
        if pending := pending_line(client, id):
            progress.stage = pending
            show(Stage(text=pending))

        def hear(text: str) -> None:
            for event in progress.hear(text):
                show(event)

        return tail_log(client, id, hear)

    if console.is_terminal:
        # Redirected prints would pass with the colours, and whatever else, that they hold.
        with Live(console=console, refresh_per_second=4, redirect_stdout=False, redirect_stderr=False) as live:

            def show(event: Event) -> None:
                live.update(live_table(progress, console.size.height))

            status = listen(show)
    else:

        def show(event: Event) -> None:
            if not isinstance(event, Verdict):
                console.print(event_text(event), soft_wrap=True, markup=False, highlight=False)

        status = listen(show)
    if progress.verdict:
        console.print(verdict_text(progress.verdict), soft_wrap=True, highlight=False)
    if status == JobStatus.FAILED:
        for line in progress.log[-_LOG_TAIL:]:
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    return status
