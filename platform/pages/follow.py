"""Following a job: its log is read over the network and its events are shown as a live table."""

import asyncio
import re
from collections.abc import Callable, Iterator

from aiohttp import ClientError
from ray.job_submission import JobStatus, JobSubmissionClient
from rich.console import Console
from rich.live import Live

from ...trainers.errors import UserError
from ..base.events import Event, Stage, TrialUpdate, Verdict, parse
from .terminal import progress_table, update_line, verdict_text

_RECONNECT_S = 1.0
_LOG_TAIL = 20
"""Lines of the log that are shown when a job failed."""
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
"""What Ray colours the lines of workers by."""


class Progress:
    """All that was heard of a job. Hearing an event again, as after a reconnection, changes nothing."""

    def __init__(self) -> None:
        self.stage = ""
        self._stages: set[str] = set()
        self.updates: dict[str, TrialUpdate] = {}
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

    def start_again(self) -> None:
        """Forget the log, which is heard from its beginning again."""
        self.log.clear()
        self._rest = ""

    def _is_news(self, event: Event) -> bool:
        match event:
            case Stage():
                news = event.text not in self._stages
                if news:
                    self.stage = event.text
                    self._stages.add(event.text)
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
    """What a job printed, without colours and the lines by which it tells those who follow it."""
    return "".join(_COLOUR.sub("", line) for line in log.splitlines(keepends=True) if parse(line) is None)


def follow(client: JobSubmissionClient, id: str, console: Console) -> JobStatus:
    """Show a job until it ends, and return how. KeyboardInterrupt leaves the job running."""
    progress = Progress()
    if console.is_terminal:
        # Redirected prints would pass with the colours, and whatever else, that they hold.
        with Live(console=console, refresh_per_second=4, redirect_stdout=False, redirect_stderr=False) as live:

            def show(event: Event) -> None:
                live.update(progress_table(progress.stage, list(progress.updates.values())))

            status = asyncio.run(_listen(client, id, progress, show))
    else:

        def show(event: Event) -> None:
            match event:
                case Stage():
                    console.print(event.text, soft_wrap=True, markup=False, highlight=False)
                case TrialUpdate():
                    console.print(update_line(event), soft_wrap=True, markup=False, highlight=False)

        status = asyncio.run(_listen(client, id, progress, show))
    if progress.verdict:
        console.print(verdict_text(progress.verdict), soft_wrap=True, highlight=False)
    if status == JobStatus.FAILED:
        for line in progress.log[-_LOG_TAIL:]:
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    return status


async def _listen(client: JobSubmissionClient, id: str, progress: Progress, show: Callable[[Event], None]) -> JobStatus:
    """Read the log to the job's end; the stream can break or end early, so the status decides."""
    while True:
        progress.start_again()
        try:
            async for text in client.tail_job_logs(id):
                for event in progress.hear(text):
                    show(event)
        except (RuntimeError, ClientError) as error:
            if "does not exist" in str(error):
                raise UserError(f"there is no job {id}; `advseg job list` lists the jobs") from None
        status = client.get_job_status(id)
        if status.is_terminal():
            # What the stream may have missed.
            progress.start_again()
            for event in progress.hear(client.get_job_logs(id)):
                show(event)
            return status
        await asyncio.sleep(_RECONNECT_S)
