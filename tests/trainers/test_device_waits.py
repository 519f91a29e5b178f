"""The host does not wait for the device: not in a step, not in the loop between reports, once in an evaluation.

On a CPU a guard looks for all that would wait if the tensors were on a GPU; on a GPU torch itself tells.
"""

import importlib.util
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from advseg.models.architectures import IMAGENET
from advseg.models.compact import Compact
from advseg.models.inference import EvaluationSettings
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.shapes import ShapesSettings, write_shapes
from advseg.trainers.distributed import World
from advseg.trainers.evaluate import evaluate
from advseg.trainers.loop import Training
from advseg.trainers.metrics import confusion
from advseg.trainers.settings import OhemSettings
from advseg.trainers.speed import SpeedSettings

DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))
METHODS = ("adversarial", "consistency", "supervised")

_WAIT = ("_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "masked_select", "bincount")
_WAIT += ("_unique2", "unique_dim", "unique_consecutive", "repeat_interleave", "argwhere", "where")
_HOST = ("cpu", "numpy", "tolist", "to")
"""Methods that no dispatch tells of where the tensor is on the host already."""


class OnHost(Tensor):
    """What was brought from the device: whoever looks at it does not wait."""


class Guard(TorchDispatchMode):
    """Notes what this thread calls that would wait for the device, had it one."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        if not (args and isinstance(args[0], OnHost)):
            if name in _WAIT and not (name == "where" and len(args) > 1):
                self.seen.append(name)
            if name in ("index", "index_put", "index_put_") and any(
                index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
            ):
                self.seen.append(f"{name} by booleans")
        return func(*args, **(kwargs or {}))

    def watched(self, name: str) -> Callable:
        """A tensor's method that is noted."""
        method, ours = getattr(Tensor, name), threading.get_ident()

        def call(tensor: Tensor, *args, **kwargs):
            if threading.get_ident() != ours or isinstance(tensor, OnHost):
                return method(tensor, *args, **kwargs)
            if name != "to":
                self.seen.append(name)
            # Torch's own code brings tensors to devices where they may be already.
            elif _device_in(args, kwargs) and not (kwargs.get("non_blocking") or _called_by_torch()):
                self.seen.append("to a device, blocking")
            found = method(tensor, *args, **kwargs)
            return found.as_subclass(OnHost) if name == "cpu" else found

        return call


def _device_in(args: tuple, kwargs: dict) -> bool:
    return "device" in kwargs or isinstance(args[0] if args else None, str | torch.device)


def _called_by_torch() -> bool:
    return sys._getframe(2).f_globals["__name__"].startswith("torch.")


def _made_there(seen: list[str]) -> Callable:
    """torch.tensor, which copies from memory that is not pinned."""
    make = torch.tensor

    def call(values, **kwargs):
        if kwargs.get("device") is not None:
            seen.append("a tensor made on a device of values on the host")
        return make(values, **kwargs)

    return call


@contextmanager
def waits(device: str) -> Iterator[list[str]]:
    """Collects what this thread waits for the device in meanwhile."""
    if device == "cuda":
        seen: list[str] = []
        ours = threading.get_ident()

        def tell(message: Warning | str, category: type[Warning], file: str, line: int, *_: object) -> None:
            if "synchronizing CUDA operation" in str(message) and threading.get_ident() == ours:
                seen.append(f"{file}:{line}")

        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = tell
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield seen
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return
    guard = Guard()
    methods = {name: guard.watched(name) for name in _HOST}
    with mock.patch.multiple(Tensor, **methods), mock.patch.object(torch, "tensor", _made_there(guard.seen)), guard:
        yield guard.seen


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trainings", Path(__file__).parent / "training_program.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(program, tmp_path_factory) -> Dataset:
    root = tmp_path_factory.mktemp("shapes")
    write_shapes(root / "data", ShapesSettings(labelled=3, unlabelled=3, val=2, test=1, size=32))
    return program.open_shapes(root / "data")


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: int(x.sum()),
        lambda x: x[x > 0],
        lambda x: x.__setitem__(x > 0, 0),
        lambda x: x.nonzero(),
        lambda x: torch.where(x > 0),
        lambda x: x.cpu(),
        lambda x: x.to("cpu"),
        lambda x: x.tolist(),
        lambda x: torch.bincount(x.long().flatten()),
        lambda x: torch.tensor([1.0], device=x.device),
    ],
)
@pytest.mark.parametrize("device", DEVICES)
def test_the_guard_sees_whatever_waits(look, device):
    there = torch.ones(2, 3, device=device)

    with waits(device) as seen, torch.inference_mode():
        look(there)

    assert seen


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", METHODS)
def test_moving_a_batch_and_a_step_of_any_phase_do_not_wait(program, data, tmp_path, method, device):
    weighted = {"class_weights": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), "ohem": OhemSettings(least=9)}
    recipe = program.recipe_of(method, max_gradient_norm=1.0, **weighted)
    training = Training(recipe, data, tmp_path, device=torch.device(device))
    # Torch's own handles and workspaces are made, and so are the optimizers' states.
    for step in range(2):
        training.method.step(step, training.batch(step))
    drawn = {step: training.batches.draw(step) for step in range(2, 7)}

    with waits(device) as seen:
        for step, parts in drawn.items():
            training.method.step(step, training.batches.on_device(parts))

    assert not seen


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", METHODS)
def test_the_loop_does_not_wait_between_reports(program, data, tmp_path, method, device):
    training = Training(program.recipe_of(method, steps=6), data, tmp_path, device=torch.device(device))
    conclude, save, before = training._conclude, training.saved.save, []

    with waits(device) as seen:

        def concluding(figures):
            before.append(len(seen))
            yield from conclude(figures)

        def saving():
            save()
            # From here on to the second report, which is the last.
            seen.clear()

        with (
            mock.patch.object(training, "_conclude", concluding),
            mock.patch.object(training.saved, "save", saving),
            torch.enable_grad(),
        ):
            for report in training.reports():
                if report.step == 6:
                    break

    assert before[1:] == [0]


class Pictured:
    """A validation sample in memory."""

    has_mask = True

    def __init__(self, height: int, width: int) -> None:
        self.size = height, width

    def read_image(self) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (*self.size, 3), np.uint8)

    def read_mask(self) -> np.ndarray:
        mask = np.random.default_rng(1).integers(0, 6, self.size, np.uint8)
        mask[0] = 255
        return mask


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "settings", [EvaluationSettings(), EvaluationSettings(mode="sliding", window=(16, 16), scales=(0.5,), flip=True)]
)
def test_an_evaluation_of_mixed_sizes_waits_once(data, settings, device):
    sizes = [(24, 32), (32, 24), (24, 32), (17, 40)]
    mixed = replace(data, validation=tuple(Pictured(*size) for size in sizes))
    network = Compact(6, 8).to(device)
    asked = {"settings": settings, "resize": None, "world": World(), "device": torch.device(device)}
    asked |= {"dtype": torch.float32, "speed": SpeedSettings()}
    expected = evaluate(network, mixed, IMAGENET, **asked)

    with waits(device) as seen:
        found = evaluate(network, mixed, IMAGENET, **asked)

    assert len(seen) == 1
    assert found.matrix.tolist() == expected.matrix.tolist()
    assert found.matrix.sum() == sum((height - 1) * width for height, width in sizes)


def test_the_counts_of_a_confusion_matrix_do_not_wait():
    truth = torch.randint(0, 4, (2, 8, 8))
    with waits("cpu") as seen:
        confusion(truth, truth, 4, 3)

    assert not seen
