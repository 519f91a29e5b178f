import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.shapes import ShapesSettings, write_shapes

PROGRAM = Path(__file__).parent / "training_program.py"


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
