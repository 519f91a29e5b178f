"""What the bits of a training's result depend on beside its spec and its data."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from .code_digest import TRAINING, code_digest

_TEXTS = ("advseg", "code", "torch", "device", "hardware")
_COUNTS = {"workers": 1, "threads": 1, "halvings": 0}
"""The least of each."""
_MOST = 1024
"""Of any count that a document is believed."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """By what a training was computed; None is not known."""

    advseg: str | None = None
    """Version of the package; of code that was sent with a job, that which is installed there."""
    code: str | None = None
    """Digest of the code that trains."""
    torch: str | None = None
    device: str | None = None
    """Its kind: cpu or cuda."""
    hardware: str | None = None
    """The model of the processor with its widest instructions, or of the GPU."""
    workers: int | None = None
    """That shared each batch."""
    threads: int | None = None
    """Of each worker, among which PyTorch divides its sums."""
    halvings: int | None = None
    """How often the micro-batch was halved on the way, after a worker ran out of memory."""

    @property
    def unknown(self) -> list[str]:
        """What is not known."""
        return [field.name for field in fields(self) if getattr(self, field.name) is None]

    def differences(self, other: "Environment") -> dict[str, tuple[Any, Any]]:
        """What is known to differ: here and there."""
        pairs = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        return {name: pair for name, pair in pairs.items() if None not in pair and pair[0] != pair[1]}


def environment_here(device: torch.device, workers: int, halvings: int = 0) -> Environment:
    """That of a training in this process."""
    return Environment(
        advseg=_version(),
        code=code_digest(TRAINING),
        torch=torch.__version__,
        device=device.type,
        hardware=_hardware(device),
        workers=workers,
        threads=torch.get_num_threads(),
        halvings=halvings,
    )


def environment_of(document: Mapping[str, Any]) -> Environment:
    """That in a JSON document that nobody vouches for: what is none counts as not known."""
    known: dict[str, Any] = {name: value for name in _TEXTS if isinstance(value := document.get(name), str)}
    for name, least in _COUNTS.items():
        if type(value := document.get(name)) is int and least <= value <= _MOST:
            known[name] = value
    return Environment(**known)


def processor() -> str:
    """The model of this machine's processors."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.backends.cpu.get_cpu_capability()}"


def _version() -> str | None:
    try:
        return version("advseg")
    except PackageNotFoundError:
        return None
