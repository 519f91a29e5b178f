"""A job's log as it grows, over connections that break: each piece once, to the job's end."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import cast

from aiohttp import ClientError
from ray.job_submission import JobStatus, JobSubmissionClient
from requests.exceptions import RequestException

from ...trainers.errors import BrokenEnvironmentError, UserError, brief

_RECONNECT_S = 1.0
_SILENCE_S = 30.0
"""Seconds after which a connection over which nothing comes is made anew: it may be dead, which nobody says."""
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(?:[ \t].*\n)+")


def read_log(client: JobSubmissionClient, id: str) -> str:
    """A job's log so far; of one that failed before it printed anything, why, as Ray has it.

    For one that failed as its packages were installed Ray says so, with tracebacks of its own.
    """
    if log := client.get_job_logs(id):
        return log
    job = client.get_job_info(id)
    return _TRACEBACK.sub("", f"{job.message}\n") if job.status == JobStatus.FAILED else ""


def tail_log(client: JobSubmissionClient, id: str, hear: Callable[[str], None]) -> JobStatus:
    """Have a job's log heard in pieces, which may end within a line, until it ends, and return how.

    Raises UserError if there is no such job, and BrokenEnvironmentError if its cluster is gone.
    """
    return asyncio.run(_Tail(client, id, hear).follow())


class _Tail:
    def __init__(self, client: JobSubmissionClient, id: str, hear: Callable[[str], None]) -> None:
        self._client = client
        self._id = id
        self._hear = hear
        self._heard = 0
        """Characters of the log."""
        self._is_known = False

    async def follow(self) -> JobStatus:
        """Hear all. The stream can break or end early, so the status decides."""
        while True:
            place = 0
            async with aclosing(_stream(self._client, self._id)) as stream:
                async for text in stream:
                    self._hear_from(place, text)
                    place += len(text)
            status = self._status()
            if status.is_terminal():
                # What the stream may have missed; the log may be gone with the node that had it.
                log = ""
                with suppress(RuntimeError, RequestException):
                    log = self._client.get_job_logs(self._id) if self._heard else read_log(self._client, self._id)
                self._hear_from(0, log)
                return status
            await asyncio.sleep(_RECONNECT_S)

    def _hear_from(self, place: int, text: str) -> None:
        """Hear what is news of a part of the log."""
        if news := text[max(self._heard - place, 0) :]:
            self._heard = place + len(text)
            self._hear(news)

    def _status(self) -> JobStatus:
        try:
            status = self._client.get_job_status(self._id)
        except (RequestException, RuntimeError) as error:
            reason = " ".join(str(error).split())
            if "does not exist" in reason:
                raise self._unknown() from None
            raise BrokenEnvironmentError(
                f"job {self._id} cannot be followed any more, as its cluster does not answer ({brief(reason, 200)}): "
                f"`advseg status` says whether it runs; a job that ended with it goes on once it is submitted again"
            ) from None
        self._is_known = True
        return status

    def _unknown(self) -> Exception:
        if not self._is_known and not self._heard:
            return UserError(f"there is no job {self._id}; `advseg job list` lists the jobs")
        return BrokenEnvironmentError(
            f"job {self._id} ended with the head that ran it, and another is in its place: submit it again to go on"
        )


async def _stream(client: JobSubmissionClient, id: str) -> AsyncGenerator[str]:
    """A job's log from its beginning, until the connection ends, breaks, or is silent for long."""
    async with aclosing(cast("AsyncGenerator[str]", client.tail_job_logs(id))) as stream:
        while True:
            try:
                text = await asyncio.wait_for(anext(stream), _SILENCE_S)
            except (StopAsyncIteration, RuntimeError, ClientError, OSError):
                return
            yield text
