"""Batch norm on several workers, which are processes of their own over gloo."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.testing._internal.distributed.fake_pg import FakeStore

from advseg.models.architectures import DeepLabSettings, build_segmenter
from advseg.models.deeplab_v2 import DeepLabV2
from advseg.models.resnet import BatchNorm
from advseg.trainers.checkpoint import newest_checkpoint
from advseg.trainers.distributed import World
from advseg.trainers.errors import UserError
from advseg.trainers.loop import Training
from advseg.trainers.methods.method import Batch
from advseg.trainers.methods.supervised import Supervised
from advseg.trainers.recipe import Recipe
from advseg.trainers.speed import SpeedSettings

PROGRAM = Path(__file__).parent / "batch_norm_program.py"
SIZE = 2


@pytest.fixture(scope="module")
def folder(shapes_root, tmp_path_factory) -> Path:
    """Of a run of two workers, whose shares of the batch differ."""
    folder = tmp_path_factory.mktemp("workers")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, str(PROGRAM), str(shapes_root), str(folder)]
    workers = [subprocess.Popen([*command, str(rank), str(SIZE)], env=environment) for rank in range(SIZE)]
    try:
        assert [worker.wait(timeout=1200) for worker in workers] == [0] * SIZE
    finally:
        for worker in workers:
            worker.kill()
    return folder


def records(folder: Path) -> list[dict[str, Any]]:
    """What each worker wrote down."""
    return [torch.load(folder / f"{rank}.pt") for rank in range(SIZE)]


def running(statistics: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in statistics.items() if "running" in name}


def test_running_statistics_are_averaged_over_the_workers_before_an_evaluation(folder):
    first, second = records(folder)

    assert len(first["calls"]) == len(second["calls"]) == 2
    for (before, after), (before_there, after_there) in zip(first["calls"], second["calls"], strict=True):
        assert any(not torch.equal(before[name], before_there[name]) for name in running(before))
        for name, mean in running(after).items():
            torch.testing.assert_close(mean, (before[name] + before_there[name]) / 2)
            assert torch.equal(mean, after_there[name])
        assert torch.equal(before["0.bn1.num_batches_tracked"], after["0.bn1.num_batches_tracked"])


def test_all_workers_evaluate_and_end_with_the_network_that_is_saved(folder):
    ends = [record["end"] for record in records(folder)]
    found = newest_checkpoint(folder / "checkpoints")

    assert found and found[1]["step"] == 3
    for end in ends:
        torch.testing.assert_close(end, found[1]["method"]["segmenter"]["network"], rtol=0, atol=0)
    lines = ((folder / f"{rank}.jsonl").read_text().splitlines() for rank in range(SIZE))
    first, second = ([json.loads(line)["metrics"] for line in reports] for reports in lines)
    assert first == second


def test_workers_learn_of_one_that_has_other_weights_and_what_the_leading_one_spreads(folder):
    for record in records(folder):
        assert record["strayed"] == [[], [1]]
        assert record["spread"] == b"from worker 0"


def test_frozen_statistics_are_not_touched():
    network = DeepLabV2(2, (1, 1, 1, 1), frozen_batch_norm=True).train()

    # There are no other workers here: any message to them would raise.
    World(size=3).mean_statistics(network)

    assert all(buffer.unique().item() in (0, 1) for buffer in network.buffers())


def test_alone_nothing_is_averaged():
    norm = torch.nn.BatchNorm2d(2)
    norm.running_mean.fill_(0.1)

    World().mean_statistics(norm)

    assert norm.running_mean.eq(0.1).all()


@pytest.fixture
def synchronised(program) -> Recipe:
    return replace(program.recipe_of(), segmenter=DeepLabSettings(batch_norm="synchronised"))


def norms_of(training: Training) -> list[type]:
    return [type(module) for module in training.method.segmenter.modules() if hasattr(module, "running_var")]


def test_synchronised_batch_norm_of_one_worker_is_plain_batch_norm(synchronised, shapes, tmp_path):
    # Torch's own refuses CPUs even where one worker has no other to wait for.
    training = Training(synchronised, shapes, tmp_path, device=torch.device("cpu"))

    assert set(norms_of(training)) == {BatchNorm}


def test_synchronised_batch_norm_of_several_workers_is_torchs_own(synchronised, shapes, tmp_path):
    training = Training(synchronised, shapes, tmp_path, world=World(size=2), device=torch.device("meta"))

    assert norms_of(training) == [torch.nn.SyncBatchNorm] * 104
    learning = {name for name, p in training.method.segmenter.named_parameters() if p.requires_grad}
    assert not {name for name in learning if ".bn" in name or "downsample.1" in name}


def test_synchronised_batch_norm_of_several_workers_needs_gpus(synchronised, shapes, tmp_path):
    with pytest.raises(UserError, match=r"batch_norm is synchronised, .* the 2 have none: set it to batch or frozen"):
        Training(synchronised, shapes, tmp_path, world=World(size=2), device=torch.device("cpu"))


@pytest.fixture
def fake_group() -> Iterator[None]:
    """Two workers in one process: messages to the other, who always has the same, change nothing."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        yield
    finally:
        dist.destroy_process_group()


class SameThere:
    """Stands for torch's kernels of synchronised batch norm, which are for GPUs: of two equal shares."""

    @staticmethod
    def apply(
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        momentum: float,
        group: object,
        size: int,
    ) -> Tensor:
        assert size == 2
        return F.batch_norm(x, mean, variance, weight, bias, True, momentum, eps)


def on_any_device(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Synchronised batch norm that takes the CPU for a backend of somebody's own, for it refuses CPUs."""
    with mock.patch.object(torch._C, "_get_privateuse1_backend_name", lambda: "cpu"):
        return forward(x)


@pytest.mark.parametrize("recompute", [False, True])
def test_steps_with_synchronised_batch_norm_on_equal_shares_are_those_of_plain_batch_norm(
    program, fake_group, monkeypatch, recompute
):
    recipe = program.running_statistics()
    trainer = replace(recipe.trainer, speed=SpeedSettings(recompute=recompute))
    with program.small_deeplab():
        network = build_segmenter(recipe.segmenter, 4).double()
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network))
    # Torch's own layer runs here, but for its kernels.
    monkeypatch.setattr("torch.nn.modules.batchnorm.sync_batch_norm", SameThere)
    for module in converted.modules():
        if isinstance(module, nn.SyncBatchNorm):
            module.forward = partial(on_any_device, module.forward)

    def trained(network: DeepLabV2) -> dict[str, Tensor]:
        rng = torch.Generator().manual_seed(0)
        method = Supervised(trainer, network, ignore_index=255, world=World())
        for step in range(2):
            images = torch.randn(2, 3, 24, 24, generator=rng, dtype=torch.float64)
            labels = torch.randint(0, 4, (2, 24, 24), generator=rng)
            method.step(step, [Batch(images=images, labels=labels)])
        return method.segmenter.state_dict()

    plain, synchronised = trained(network), trained(converted)

    assert not synchronised["bn1.running_mean"].eq(0).any()
    # Torch's own counts, once a batch.
    counts = {name for name in plain if name.endswith("num_batches_tracked")}
    assert [synchronised.pop(name) for name in counts] == [2] * len(counts)
    assert [plain.pop(name) for name in counts] == [0] * len(counts)
    torch.testing.assert_close(synchronised, plain, rtol=1e-9, atol=1e-9)
