"""The step as a CUDA graph replays it, with a recorder in CUDA's place that does what a graph does: the same operations
on the same memory, and nothing else."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from advseg.models.compact import Compact
from advseg.models.discriminator import Discriminator
from advseg.trainers import replay
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.distributed import World
from advseg.trainers.methods.adversarial import AdversarialSettings
from advseg.trainers.methods.adversarial_step import Adversarial
from advseg.trainers.methods.consistency import ConsistencySettings
from advseg.trainers.methods.consistency_step import Consistency
from advseg.trainers.methods.method import Batch, Method
from advseg.trainers.methods.supervised import Supervised
from advseg.trainers.settings import TrainerSettings
from advseg.trainers.speed import SpeedSettings

CLASSES, SIDE, IGNORED, STEPS = 3, 16, 255, 14
METHOD = AdversarialSettings(lambda_semi=0.5, threshold=0.5, semi_start=6, semi_adv_start=0)
CONSISTENT = ConsistencySettings(threshold=0.4, ema_decay=0.8, views=2, feature_dropout=True, lambda_adv=0.1)


class _Graph(TorchDispatchMode):
    """Runs what it records, and so leaves out the first replay."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.recorded.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        self.replays += 1
        if self.replays == 1:
            return
        with torch.no_grad():
            for func, args, kwargs, result in self.recorded:
                for before, now in zip(tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(before, Tensor) and before.data_ptr() != now.data_ptr():
                        before.copy_(now)


@pytest.fixture
def graphs(monkeypatch) -> list[_Graph]:
    """All that were recorded."""
    made: list[_Graph] = []

    def graph() -> _Graph:
        made.append(_Graph())
        return made[-1]

    @contextmanager
    def recording(graph: _Graph, **_: Any):
        with graph:
            yield

    class Stream:
        def wait_stream(self, _: "Stream") -> None:
            """What is not beside anything need not wait."""

    monkeypatch.setattr(replay.torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(replay.torch.cuda, "graph", recording)
    monkeypatch.setattr(replay.torch.cuda, "Stream", Stream)
    monkeypatch.setattr(replay.torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(replay.torch.cuda, "stream", lambda _: nullcontext())
    return made


def batch_of(number: int, unlabelled: bool = True) -> Batch:
    rng = torch.Generator().manual_seed(number)
    images = [torch.randn(2, 3, SIDE, SIDE, generator=rng, dtype=torch.float64) for _ in range(2)]
    maps = [torch.randint(0, CLASSES, (2, SIDE, SIDE), generator=rng) for _ in range(3)]
    known, valid = (torch.rand(2, SIDE, SIDE, generator=rng) < 0.8 for _ in range(2))
    return Batch(
        images=images[0],
        labels=maps[0].masked_fill(~known, IGNORED),
        real_labels=maps[1].masked_fill(~known, IGNORED),
        unlabelled=images[1] if unlabelled else None,
        unlabelled_valid=valid if unlabelled else None,
        unlabelled_labels=maps[2] if unlabelled else None,
        strong=torch.randn(2, 2, 3, SIDE, SIDE, generator=rng, dtype=torch.float64),
        boxes=torch.randint(0, SIDE, (2, 2, 4), generator=rng),
        partners=torch.tensor([1, 0]),
        channels=torch.randint(-1, 9, (2,), generator=rng),
    )


def method_of(kind: str, *, replayed: bool) -> Method:
    trainer = TrainerSettings(
        steps=STEPS,
        augmentation=AugmentationSettings(crop=(SIDE, SIDE)),
        max_gradient_norm=1.0,
        speed=SpeedSettings(graphs=replayed),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter, discriminator = Compact(CLASSES, 8).double(), Discriminator(CLASSES, (4, 8), "dense").double()
    if kind == "supervised":
        return Supervised(trainer, segmenter, ignore_index=IGNORED, world=World())
    if kind == "consistency":
        return Consistency(CONSISTENT, trainer, segmenter, discriminator, ignore_index=IGNORED, world=World())
    settings = (
        METHOD if kind == "adversarial" else replace(METHOD, lambda_semi_adv=0.0, discriminator_sees_unlabelled=False)
    )
    return Adversarial(settings, trainer, segmenter, discriminator, ignore_index=IGNORED, world=World())


@pytest.mark.parametrize(
    ("kind", "parts", "recorded"),
    [("supervised", 1, 1), ("adversarial", 1, 2), ("adversarial", 2, 2), ("unseen", 1, 2), ("consistency", 2, 1)],
)
def test_a_replayed_step_is_the_step(graphs, kind, parts, recorded):
    """Also where the step changes its way, as once pseudo-labels are learnt from, and over micro-batches."""
    found, states = {}, {}
    for replayed in (False, True):
        method = method_of(kind, replayed=replayed)
        found[replayed] = []
        for step in range(STEPS):
            looks = method.wants(step).unlabelled
            method.step(step, [batch_of(parts * step + part, looks) for part in range(parts)])
            # A report now and then empties the meter.
            if step % 3 == 2:
                found[replayed].append(method.meter.take())
        states[replayed] = method.state_dict()

    for ours, plain in zip(found[True], found[False], strict=True):
        assert ours == pytest.approx(plain, rel=1e-9)
    torch.testing.assert_close(states[True], states[False], rtol=1e-9, atol=1e-12)
    assert len(graphs) == recorded
    assert all(graph.replays > 1 for graph in graphs)
