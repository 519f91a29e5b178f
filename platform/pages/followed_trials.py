"""The trainings of a job that is followed: which of them a terminal shows, and what is said of all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..base.events import TrialUpdate
from .terminal import duration, percent

RUNNING, COMPLETE = "RUNNING", "COMPLETE"


@dataclass(frozen=True, kw_only=True)
class Search:
    """The trials of a sweep from where a driver began with them."""

    trials: int
    """How many there are to be, those before included."""
    began: float
    """When, in seconds since 1970."""
    done: float
    """How many were done by then."""


def fitting(updates: Sequence[TrialUpdate], most: int) -> list[TrialUpdate]:
    """At most so many, in the order in which they are given: those that run before others, and the best of these."""

    def rank(update: TrialUpdate) -> tuple[bool, bool, float]:
        return update.state != RUNNING, update.state != COMPLETE, -(update.miou or 0.0)

    kept = {update.key for update in sorted(updates, key=rank)[:most]}
    return [update for update in updates if update.key in kept]


def done_trials(updates: Sequence[TrialUpdate]) -> float:
    """How many trials are done, those that run by the share of their steps."""
    trials = [update for update in updates if update.key.rpartition("/")[2].isdecimal()]
    return sum(update.step / update.steps if update.state == RUNNING else 1.0 for update in trials)


def summary(updates: Sequence[TrialUpdate], shown: int, search: Search | None) -> str:
    """All trainings by their states, the best so far, and how long the trials of a sweep will take at this pace."""
    states = Counter(update.state for update in updates)
    parts = [", ".join(f"{count} {state}" for state, count in sorted(states.items()))]
    if len(updates) > shown:
        parts.append(f"{len(updates) - shown} not shown")
    complete = [update for update in updates if update.state == COMPLETE and update.miou is not None]
    if complete:
        best = max(complete, key=lambda update: update.miou or 0.0)
        parts.append(f"best {best.key.rpartition('/')[2]} with {percent(best.miou)}")
    if (left := _seconds_left(updates, search)) is not None:
        parts.append(f"about {duration(left)} left")
    return "; ".join(parts)


def _seconds_left(updates: Sequence[TrialUpdate], search: Search | None) -> float | None:
    """By what was done since the search began and when that was told; None before anything was, and at the end."""
    done, now = done_trials(updates), max((update.at for update in updates), default=0.0)
    if search is None or done <= search.done or done >= search.trials or now <= search.began:
        return None
    return (search.trials - done) * (now - search.began) / (done - search.done)
