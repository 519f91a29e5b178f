import importlib.util
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
