"""Whether it is the trainings that fail or what they run on: pure functions of what became of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..spec.retry import Retry
from .retry import Failure, Kind

LONGEST_BACKOFF_S = 30.0
_OWN = (Kind.DIVERGED, Kind.BAD_VALUE, Kind.TIMEOUT)
"""What befalls a training only where trainings run."""
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, kw_only=True)
class Health:
    """What a job's trainings have been through since the newest report of any of them."""

    has_reported: bool = False
    """Whether any has ever reported."""
    broken: Mapping[int, int] = field(default_factory=dict)
    """Failures of the environment, by the number of the trial."""
    preempted: Mapping[int, int] = field(default_factory=dict)
    """Pre-emptions, by the number of the trial."""
    errors: int = 0
    """Trials that were given up for one and the same reason before any had reported."""
    last: Failure | None = None
    """The newest of both."""

    def heard(self) -> "Health":
        """After a report."""
        return Health(has_reported=True)

    def failed(self, number: int, failure: Failure, *, given_up: bool) -> "Health":
        """After a failure of a trial, and whether it was given up for it."""
        if failure.kind in _OWN:
            return self.heard()
        if failure.kind is Kind.ENVIRONMENT:
            return replace(self, broken=_once_more(self.broken, number), last=failure)
        if failure.kind is Kind.PREEMPTED:
            return replace(self, preempted=_once_more(self.preempted, number))
        if given_up and not self.has_reported:
            alike = self.last is not None and _are_alike(self.last, failure)
            return replace(self, errors=self.errors + 1 if alike else 1, last=failure)
        return self

    def ailment(self, retry: Retry) -> str | None:
        """Why no more is to be tried, with the newest failure; None if all may go on."""
        if self.errors >= retry.stop_after:
            return f"{self.errors} trials failed alike before any had reported, at last {self.last}"
        failures = max(self.broken.values(), default=0)
        if failures >= retry.stop_after:
            return f"{failures} failures in a row with no report between them, at last {self.last}"
        return None

    def backoff_s(self, number: int) -> float:
        """Seconds until the next try of a trial: one pre-emption is no reason to wait."""
        failures = self.broken.get(number, 0) + max(0, self.preempted.get(number, 0) - 1)
        return min(LONGEST_BACKOFF_S, 3.0**failures) if failures else 0.0


def _once_more(counts: Mapping[int, int], number: int) -> dict[int, int]:
    return {**counts, number: counts.get(number, 0) + 1}


def _are_alike(one: Failure, other: Failure) -> bool:
    """Whether two failures are the same but for numbers: of steps, sizes, processes."""
    return (one.kind, _NUMBER.sub("", one.text)) == (other.kind, _NUMBER.sub("", other.text))
