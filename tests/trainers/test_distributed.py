"""Several workers, as processes of their own over gloo, do what one does."""

import itertools
import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advseg.models.compact import Compact
from advseg.trainers.checkpoint import load_checkpoint
from advseg.trainers.distributed import World
from advseg.trainers.loop import Training
from advseg.trainers.methods.method import Batch
from advseg.trainers.outcome import read_outcome
from advseg.trainers.reporter import RecordingReporter

EXACT = {"rel": 1e-9, "abs": 1e-9}


@given(st.integers(0, 30), st.integers(1, 8))
def test_the_shares_of_all_workers_are_the_whole_once(count, size):
    shares = [World(rank=rank, size=size).share(count) for rank in range(size)]

    assert sorted(slot for share in shares for slot in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_a_sum_is_the_tensor_itself():
    world, tensor = World(), torch.tensor([1.0, 2.0])

    world.barrier()

    assert world.leads
    assert world.total(tensor) is tensor
    assert world.smallest(tensor) is tensor


@pytest.mark.parametrize(("size", "mean"), [(2, [1.0, 5.0]), (1, [3.0]), (3, [3.0, 3.0, 3.0])])
def test_statistics_of_each_worker_are_taken_up_by_it_or_their_mean_by_another_number_of_workers(size, mean):
    found = []
    for rank in range(size):
        network = torch.nn.Sequential(torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(3).eval())
        World(rank=rank, size=size).take_statistics(network, torch.tensor([[1.0] * 4, [5.0] * 4]))
        found.append(network[0].running_mean.unique().item())
        assert network[0].running_var.eq(network[0].running_mean[0]).all()
        assert network[1].running_mean.eq(0).all()

    assert found == mean


def reports_in(directory: Path) -> list[list[dict]]:
    """What each worker reported."""
    logs = sorted(directory.glob("reports-*.jsonl"))
    return [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]


def assert_same_figures(one: Path, several: Path, size: int) -> None:
    (expected,) = reports_in(one)
    workers = reports_in(several)
    assert len(workers) == size
    outcome = read_outcome(one)
    assert outcome
    assert [report["step"] for report in expected] == list(range(1, outcome.step + 1))
    assert {"loss/ce", "loss/adv", "loss/semi_adv", "loss/semi", "loss/d"} <= set(expected[-1]["metrics"])
    for reports in workers:
        for ours, theirs in zip(reports, expected, strict=True):
            assert ours["step"] == theirs["step"]
            assert ours["metrics"] == pytest.approx(theirs["metrics"], **EXACT)


@pytest.fixture(scope="module")
def compact(train) -> dict[int, Path]:
    """One worker alone, two and four, whose shares of a batch of five differ."""
    return train("compact", 1, 2, 4)


@pytest.mark.parametrize("size", [2, 4])
def test_several_workers_report_every_loss_of_one_worker_alone(compact, size):
    assert_same_figures(compact[1], compact[size], size)


def test_two_workers_with_deeplab_report_every_loss_of_one_worker_alone(train):
    directories = train("deeplab", 1, 2)

    assert_same_figures(directories[1], directories[2], 2)


@pytest.mark.chaos
@pytest.mark.parametrize(("recipe", "size"), [("compact", 3), ("compact", 5), ("deeplab", 4)])
def test_more_workers_report_every_loss_of_one_worker_alone(train, recipe, size):
    directories = train(recipe, 1, size)

    assert_same_figures(directories[1], directories[size], size)


@pytest.mark.parametrize("size", [2, 4])
def test_several_workers_end_with_the_weights_of_one(compact, size):
    one, several = (load_checkpoint(compact[n] / "checkpoints" / "step-00000024")["method"] for n in (1, size))

    for name in ("segmenter", "discriminator"):
        torch.testing.assert_close(several[name]["network"], one[name]["network"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_workers_see_the_pixels_of_one_worker_alone(program, shapes, tmp_path, size):
    recipe = program.recipe_of(batch_size=10, accumulation=2)
    worlds = [World(rank=rank, size=size) for rank in range(size)]

    whole = Training(recipe, shapes, tmp_path).batch(7)
    shares = [Training(recipe, shapes, tmp_path, world=world).batch(7) for world in worlds]

    slots = [slot for world in worlds for slot in world.share(5)]
    drawn = [field.name for field in fields(Batch) if getattr(whole[0], field.name) is not None]
    assert drawn == ["images", "labels", "real_labels", "unlabelled", "unlabelled_valid", "unlabelled_labels"]
    for number, name in itertools.product(range(2), drawn):
        seen = torch.cat([getattr(share[number], name) for share in shares])
        assert torch.equal(seen, getattr(whole[number], name)[slots])


def test_a_run_of_several_workers_is_finished_by_one(compact, program, shapes, tmp_path):
    shutil.copytree(compact[4], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000024")
    reporter = RecordingReporter()

    Training(program.compact_for_many_workers(), shapes, tmp_path).run(reporter)

    assert [report.step for report in reporter.reports] == [24]
    (alone,) = reports_in(compact[1])
    assert reporter.reports[0].metrics == pytest.approx(alone[-1]["metrics"], **EXACT)


def test_training_moves_the_weights(compact, program):
    trained = load_checkpoint(compact[1] / "checkpoints" / "step-00000024")["method"]["segmenter"]["network"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(program.compact_for_many_workers().trainer.seed)
        fresh = Compact(6, 8).double().state_dict()

    assert not any(torch.allclose(fresh[name], weights, atol=1e-6) for name, weights in trained.items())
