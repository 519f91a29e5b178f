"""How results leave the trainer."""

import json
import os
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from .whole_file import replace_whole

IMAGES, WAITING, MATMUL = "speed/images_per_second", "speed/waiting_for_data", "speed/matmul_share"
"""Images that go through the segmenter in a second of steps; the shares of that in which the step waits for its batch,
and which its matrix products would take at the GPU's best."""
MEMORY = "memory/peak"
"""GiB, since the process began: what PyTorch held of a GPU's memory, or on a CPU the resident set."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run has to say after `step` of `steps` steps."""

    step: int
    steps: int
    metrics: dict[str, float]
    """Means since the report before, and validation results; IoU in percent."""
    figures: dict[str, float] = field(default_factory=dict, compare=False)
    """Of speed and memory, by the names above: measured, so never the same twice."""
    pictures: dict[str, Image.Image] = field(default_factory=dict, compare=False)
    """By the name of its file in the run's directory; only the leading worker draws them, and once a step is saved
    nobody does again."""


class Reporter(Protocol):
    """Receives reports. An exception that it raises stops the run.

    A report can come twice with the same content: a run that was killed between reporting and saving
    reports again when it resumes.
    """

    def report(self, report: Report) -> None:
        """Take one report."""
        ...


class ConsoleReporter:
    """A line for each report, on stdout or on stderr."""

    def __init__(self, *, stderr: bool = False) -> None:
        self._stderr = stderr

    def report(self, report: Report) -> None:
        """Print step, losses, mean IoU, speed and memory."""
        shown = {n.removeprefix("loss/"): v for n, v in report.metrics.items() if n.startswith("loss/")}
        losses = "  ".join(f"L_{name} {value:.3f}" for name, value in shown.items())
        line = f"step {report.step}/{report.steps}  {losses}  mIoU {report.metrics['val/miou']:.1f}"
        print(
            "  ".join(filter(None, [line, _told(report.figures)])),
            file=sys.stderr if self._stderr else sys.stdout,
            flush=True,
        )


def _told(figures: dict[str, float]) -> str:
    """As `31.4 images/s (2 % waiting for data), 0.90 GiB`."""
    if IMAGES not in figures:
        return ""
    shares = [f"{100 * figures[WAITING]:.0f} % waiting for data"]
    if MATMUL in figures:
        shares.append(f"{100 * figures[MATMUL]:.0f} % of the matmul rate")
    return f"{rate(figures[IMAGES])} images/s ({', '.join(shares)}), {figures[MEMORY]:.2f} GiB"


def rate(images_per_second: float) -> str:
    """Three significant digits, written out: machines are never as busy twice."""
    return f"{float(f'{images_per_second:.3g}'):g}"


def append_line(path: Path, line: str, *, durable: bool = False) -> None:
    """Append a line, which has no end of its own yet: wholly or, where the disk is full, not at all.

    A `durable` one outlives a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            rest = memoryview(f"{line}\n".encode())
            while rest:
                rest = rest[file.write(rest) :]
            if durable:
                os.fsync(file.fileno())
        except BaseException:
            file.truncate(before)
            raise


def drop_torn_line(path: Path) -> None:
    """Cut off a last line without its end, which a kill in the middle of writing leaves.

    For the one process that appends to the file; to any other the line may be one that is being written.
    """
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that another process may be appending to, without their ends; none if there is no file."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def read_object(line: bytes) -> dict[str, Any] | None:
    """The JSON object that a line holds; None of one that a power cut has damaged."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


class JsonLinesReporter:
    """An append-only file with one JSON object a report, and one report a step.

    A line that a kill cut short is dropped: it comes again. What came before the kill and comes again is left out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        drop_torn_line(path)
        self._steps = {found["step"] for line in whole_lines(path) if (found := read_object(line)) and "step" in found}

    def report(self, report: Report) -> None:
        """Append `{"step": ..., "metrics": {...}, "figures": {...}}`."""
        if report.step not in self._steps:
            line = {"step": report.step, "metrics": report.metrics, "figures": report.figures}
            append_line(self._path, json.dumps(line), durable=True)
            self._steps.add(report.step)


class PictureReporter:
    """Keeps pictures as files of a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def report(self, report: Report) -> None:
        """Put each picture in the place of the one of its name, at once: others may be reading that."""
        for name, picture in report.pictures.items():
            path = self._directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_whole(path, partial(picture.save, format="PNG"))


class RecordingReporter:
    """Keeps all reports in a list, for tests and notebooks."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

    def report(self, report: Report) -> None:
        """Append the report to `reports`."""
        self.reports.append(report)


class Reporters:
    """Several reporters as one."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def report(self, report: Report) -> None:
        """Hand the report to each in turn."""
        for reporter in self._reporters:
            reporter.report(report)
