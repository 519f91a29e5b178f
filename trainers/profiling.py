"""Where the time of a step goes: a trace of a few steps, and their time by phase."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

TRACE, PHASES = "trace.json.gz", "phases.txt"
"""Files that tracing leaves: for Perfetto or chrome://tracing, and for people."""
WAIT, STEPS = 3, 3
"""Steps before the trace, in which memory and kernels are still found, and steps in it."""
DRAW, MOVE, STEP = WHOLE = ("wait for the batch", "move and normalise", "step")
"""The phases that follow one another; all others lie within the step."""
_PREFIX = "advseg/"


def phase(name: str) -> record_function:
    """A context that a trace shows as a phase of the step."""
    return record_function(f"{_PREFIX}{name}")


class Tracer(Protocol):
    """Is told when a step has ended."""

    def step(self) -> None:
        """One more."""
        ...


class _NoTracer:
    def step(self) -> None:
        """Nothing to do."""


@contextmanager
def tracing(folder: Path | None) -> Iterator[Tracer]:
    """Trace a few of the steps within and leave `trace.json.gz` and `phases.txt` in a folder; None: trace nothing."""
    if folder is None:
        yield _NoTracer()
        return
    folder.mkdir(parents=True, exist_ok=True)
    on_gpu = torch.cuda.is_available()

    def keep(trace: profile) -> None:
        trace.export_chrome_trace(str(folder / TRACE))
        times = [
            Phase(
                name=event.key.removeprefix(_PREFIX),
                cpu_s=event.cpu_time_total / 1e6,
                device_s=event.device_time_total / 1e6 if on_gpu else 0.0,
            )
            for event in trace.key_averages()
            if event.key.startswith(_PREFIX) and event.device_type.name == "CPU"
        ]
        (folder / PHASES).write_text(phase_table(times, STEPS))

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    plan = schedule(wait=WAIT - 1, warmup=1, active=STEPS, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=keep) as tracer:
        yield tracer


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Seconds that all traced steps spent in a phase, on the host and on a GPU."""

    name: str
    cpu_s: float
    device_s: float


def phase_table(phases: Sequence[Phase], steps: int) -> str:
    """A line a phase, the longest first, in milliseconds a step; on a GPU the host only leads the way."""
    on_gpu = any(phase.device_s for phase in phases)
    width = max((len(phase.name) for phase in phases), default=0)
    total = sum(phase.cpu_s for phase in phases if phase.name in WHOLE) or 1.0
    lines = [f"{'phase':{width}} {'host ms':>9} {'share':>6}{'   GPU ms' if on_gpu else ''}"]
    for phase in sorted(phases, key=lambda phase: -max(phase.cpu_s, phase.device_s)):
        device = f" {1e3 * phase.device_s / steps:8.2f}" if on_gpu else ""
        lines.append(f"{phase.name:{width}} {1e3 * phase.cpu_s / steps:9.2f} {phase.cpu_s / total:6.1%}{device}")
    return "\n".join([*lines, ""])
