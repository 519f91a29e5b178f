"""What a job on the cluster tells those who follow it: one JSON object a line among its log lines."""

import json
import time
from dataclasses import asdict, dataclass, field
from typing import Any

_MARK = "@advseg "


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A step of the job begins."""

    text: str
    waits: bool = False
    """Whether the job does nothing but wait for nodes, CPUs or GPUs."""
    trials: int | None = None
    """How many trials there are to be, where they begin, or go on, after those that were told of before."""
    at: float = field(default_factory=time.time, compare=False)
    """When it was told, in seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class TrialUpdate:
    """A training made progress or ended."""

    key: str
    arm: str | None = None
    """Of its sweep, if that has any."""
    state: str
    """RUNNING, COMPLETE, PRUNED or FAIL."""
    params: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    steps: int
    miou: float | None = None
    """Mean IoU in percent at `step`."""
    best_miou: float | None = None
    best_step: int = 0
    """Of the best report so far, of equals the first."""
    reason: str = ""
    at: float = field(default_factory=time.time, compare=False)
    """When it was told, in seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a sweep ended."""

    best: str | None
    """Key of the best complete trial."""
    best_miou: float | None
    baseline_miou: float | None
    won: bool
    """Whether the best trial beats the supervised baseline."""
    gate: str | None
    """What was said of the best trials on fresh seeds, and why; None if none were confirmed."""
    arms: list[str] = field(default_factory=list)
    """The arms of the sweep, best first, a line for each; empty where there are none."""
    registered: str | None
    """`<model>@champion (version N)`, or another alias, with the reason; None if no trial beats the baseline, none is
    ahead on fresh seeds, or nothing is to be registered."""
    url: str
    """Where the MLflow UI shows the sweep."""


Event = Stage | TrialUpdate | Verdict
_KINDS: dict[str, type[Event]] = {"stage": Stage, "trial": TrialUpdate, "verdict": Verdict}


def emit(event: Event) -> None:
    """Print an event for whoever follows the job's log."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(event, cls))
    print(_MARK + json.dumps({"kind": kind, **asdict(event)}), flush=True)


def parse(line: str) -> Event | None:
    """The event in a line of a job's log, None for any other line."""
    if not line.startswith(_MARK):
        return None
    try:
        fields: dict[str, Any] = json.loads(line.removeprefix(_MARK))
        return _KINDS[fields.pop("kind")](**fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
