import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.shapes import ShapesSettings, write_shapes
from advseg.trainers.distributed import Pending, World

PROGRAM = Path(__file__).parent / "training_program.py"


class Done:
    """What nobody waits for any more."""

    def wait(self) -> None:
        """It is done."""


@dataclass(frozen=True, kw_only=True)
class Threaded(World):
    """Workers that are threads of one process. Their sums, and what the leading one spreads, go by `shares`."""

    barrier: threading.Barrier
    shares: dict[int, Any] = field(default_factory=dict)

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.copy_(torch.stack([*self.exchanged(tensor.clone()).values()]).sum(0))

    def smallest(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.copy_(torch.stack([*self.exchanged(tensor.clone()).values()]).amin(0))

    def begin_total(self, tensor: torch.Tensor) -> Pending:
        self.total(tensor)
        return Done()

    def spread(self, content: bytes, device: torch.device) -> bytes:
        return self.exchanged(content)[0]

    def exchanged(self, ours: Any) -> dict[int, Any]:
        self.shares[self.rank] = ours
        self.barrier.wait(60)
        everyones = dict(self.shares)
        self.barrier.wait(60)
        return everyones


@pytest.fixture(scope="session")
def on_workers() -> Callable[[int, Callable[[World], Any]], list[Any]]:
    """Does something on each of several workers, and gives what they make of it."""

    def run(size: int, work: Callable[[World], Any]) -> list[Any]:
        barrier, shares = threading.Barrier(size), {}
        worlds = [Threaded(rank=rank, size=size, barrier=barrier, shares=shares) for rank in range(size)]
        with ThreadPoolExecutor(size) as pool:
            return list(pool.map(work, worlds))

    return run


@pytest.fixture(scope="session")
def program() -> ModuleType:
    """training_program.py."""
    spec = importlib.util.spec_from_file_location(PROGRAM.stem, PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory) -> Path:
    """A shapes dataset of few small images, that no test changes."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(root, ShapesSettings(labelled=5, unlabelled=7, val=5, test=1, size=32))
    return root


@pytest.fixture(scope="session")
def shapes(program, shapes_root) -> Dataset:
    return program.open_shapes(shapes_root)


@pytest.fixture(scope="session")
def train(program, shapes_root, tmp_path_factory) -> Callable[..., dict[int, Path]]:
    """Trains a recipe by each of several numbers of workers, all at the same time; where each of them trained."""

    def run(recipe: str, *sizes: int) -> dict[int, Path]:
        directories = {size: tmp_path_factory.mktemp(f"{recipe}-{size}") for size in sizes}
        command = [sys.executable, program.__file__, shapes_root, *directories.values(), f"--recipe={recipe}"]
        command += ["--workers", *map(str, sizes)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as running:
            try:
                assert running.wait(timeout=1200) == 0
            finally:
                running.terminate()
        return directories

    return run


@pytest.fixture
def without_unlabelled_files(program, tmp_path) -> Dataset:
    """A dataset whose unlabelled images vanish after it was opened."""
    write_shapes(tmp_path / "data", ShapesSettings(labelled=3, unlabelled=3, val=1, test=1, size=32))
    dataset = program.open_shapes(tmp_path / "data")
    for sample in dataset.unlabelled:
        sample.image.unlink()
    return dataset
