import importlib.util
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Tests are no package: their helper modules are loaded by path.
_spec = importlib.util.spec_from_file_location("trees", Path(__file__).parent / "trees.py")
assert _spec and _spec.loader
trees = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(trees)


# The same examples in every run: what chance finds in somebody else's change tells them nothing.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    """A run that is told to end cleans up as one that is interrupted: its servers go with it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell that starts it in the background leaves its children deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """On so small tensors more threads only wait for each other; and sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def voc_tree(tmp_path: Path) -> Path:
    """A VOC2012 folder of a few small images, with lists train, train_aug and val."""
    return trees.write_voc(tmp_path / "VOC2012")


@pytest.fixture
def cityscapes_tree(tmp_path: Path) -> Path:
    """A Cityscapes folder of a few small images, of the splits train and val."""
    return trees.write_cityscapes(tmp_path / "cityscapes")
