"""When a training hangs, or takes too long, or never begins: pure functions of its heartbeats."""

from dataclasses import dataclass, replace

from ..spec.retry import Retry
from .heartbeat import Beat, Pulse
from .retry import Failure, Kind

TELL_AFTER_S = 60.0
"""Seconds without anything that runs, after which those who follow are told."""
BLIND_S = 10.0
"""Seconds between two looks, from which on the observer was held up, or twice as many as it means to leave."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """One attempt at a training as an observer has seen it, timed on the observer's own monotonic clock."""

    began: float
    """When the attempt was handed out."""
    every_s: float = 1.0
    """Seconds from one look to the next."""
    looked: float | None = None
    """When it was last looked at."""
    pulse: Pulse | None = None
    """Of its progress; None before its first sign of life."""
    beat: Beat | None = None
    """Its newest sign of life."""

    def seen(self, beat: Beat | None, now: float) -> "Watch":
        """After another look, at which there may have been nothing to see.

        Time in which nobody looked is not the attempt's: a ledger that is away holds up the observer, and whoever
        waits for the observer to take a report.
        """
        pulse, blind = self.pulse, now - (self.began if self.looked is None else self.looked)
        if pulse and blind > max(BLIND_S, 2 * self.every_s):
            pulse = replace(pulse, since=pulse.since + blind)
        if beat:
            pulse = pulse.seen(beat.progress, now) if pulse else Pulse(counter=beat.progress, since=now)
        return replace(self, looked=now, pulse=pulse, beat=beat or self.beat)

    def is_due(self, now: float) -> bool:
        """Whether it is time for another look."""
        return self.looked is None or now - self.looked >= self.every_s

    def verdict(self, retry: Retry, now: float, seconds_before: float = 0.0) -> Failure | None:
        """Why the attempt must end, before which the training took some seconds; None if it may go on.

        One that waits for what it needs has not begun, and does not hang.
        """
        if self.pulse is None or self.beat is None:
            late = now - self.began > retry.start_timeout
            text = f"it did not begin within {retry.start_timeout:g} s: something else holds the CPUs or GPUs it needs"
            return Failure(kind=Kind.ENVIRONMENT, text=text) if late else None
        if self.pulse.silent_s(now) > retry.hang_timeout:
            return Failure(kind=Kind.HUNG, text=f"no progress in {retry.hang_timeout:g} s after step {self.beat.step}")
        if retry.trial_timeout is not None and seconds_before + self.beat.seconds > retry.trial_timeout:
            return Failure(kind=Kind.TIMEOUT, text=f"trained for more than {retry.trial_timeout:g} s")
        return None
