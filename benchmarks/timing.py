"""Timing several programs side by side: round by round, one after another, so that a slow minute hits all of them.

Ratios are taken within a round, and their median is what counts; absolute times of a shared machine are worth little.
"""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds of each round, by name; the first name is what the others are compared with."""

    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """Median seconds of one of them."""
        return statistics.median(self.seconds[name])

    def speedup(self, name: str) -> float:
        """How many times faster than the first one: the median over rounds."""
        first = next(iter(self.seconds.values()))
        return statistics.median(a / b for a, b in zip(first, self.seconds[name], strict=True))

    def table(self, unit: str = "ms") -> str:
        """A line for each: median, fastest and slowest round, and how many times faster than the first."""
        factor = {"s": 1.0, "ms": 1e3}[unit]
        width = max(map(len, self.seconds))
        lines = [f"{'':{width}}  {'median':>9} {'min':>9} {'max':>9} {unit:<3} faster"]
        for name, values in self.seconds.items():
            figures = " ".join(f"{factor * value:9.2f}" for value in (self.median(name), min(values), max(values)))
            lines.append(f"{name:{width}}  {figures} {'':<3} {self.speedup(name):5.2f}x")
        return "\n".join(lines)


def interleaved(
    programs: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    settle: Callable[[], object] = lambda: None,
) -> Timings:
    """Run all programs once a round. `settle` waits for what a program left running, such as a GPU's work."""

    def timed(program: Callable[[], object]) -> float:
        settle()
        started = clock()
        program()
        settle()
        return clock() - started

    return in_turn({name: partial(timed, program) for name, program in programs.items()}, rounds=rounds, warmup=warmup)


def in_turn(
    measures: Mapping[str, Callable[[], float]],
    *,
    rounds: int,
    warmup: int = 0,
    tell: Callable[[Mapping[str, float]], object] = lambda seconds: None,
) -> Timings:
    """Take all measures once a round, which give seconds themselves; `tell` hears those of each that counts."""
    taken: list[dict[str, float]] = []
    for number in range(warmup + rounds):
        seconds = {name: measure() for name, measure in measures.items()}
        if number >= warmup:
            taken.append(seconds)
            tell(seconds)
    return Timings(seconds={name: [each[name] for each in taken] for name in measures})


def machine() -> str:
    """What this was measured on, in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = f"{len(names) or 1} x {names[0] if names else platform.machine()}"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{cpu}, {torch.get_num_threads()} threads, {gpu}, PyTorch {torch.__version__}, {time.strftime('%Y-%m-%d')}"
