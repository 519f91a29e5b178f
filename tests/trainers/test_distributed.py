"""Several workers, as processes of their own over gloo, do what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advseg.models.compact import Compact
from advseg.trainers.checkpoint import newest_checkpoint
from advseg.trainers.distributed import World
from advseg.trainers.loop import Training
from advseg.trainers.reporter import RecordingReporter, Report

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


@pytest.fixture(scope="module")
def alone(program, shapes, tmp_path_factory) -> tuple[list[Report], Training]:
    """The run of one worker."""
    reporter = RecordingReporter()
    training = Training(program.for_many_workers(), shapes, tmp_path_factory.mktemp("alone"))
    training.run(reporter)
    return reporter.reports, training


def run_workers(program: Path, root: Path, directory: Path, size: int) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    workers = [
        subprocess.Popen(
            [sys.executable, str(program), str(root), str(directory), str(rank), str(size), str(directory / "store")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        for rank in range(size)
    ]
    try:
        assert [worker.wait(timeout=120) for worker in workers] == [0] * size
    finally:
        for worker in workers:
            worker.kill()


@pytest.fixture(scope="module", params=[2, 3])
def together(request, program, shapes_root, tmp_path_factory) -> Path:
    """The directory of a run of several workers, whose shares of the batch differ."""
    directory = tmp_path_factory.mktemp("together")
    run_workers(Path(program.__file__), shapes_root, directory, request.param)
    return directory


def test_every_worker_reports_the_figures_of_one_worker_alone(alone, together):
    expected, _ = alone

    for log in sorted(together.glob("reports-*.jsonl")):
        reports = [json.loads(line) for line in log.read_text().splitlines()]
        assert [report["step"] for report in reports] == [report.step for report in expected]
        for ours, theirs in zip(reports, expected, strict=True):
            assert ours["metrics"] == pytest.approx(theirs.metrics, **EXACT)
    assert len(reports) == 10
    assert {"loss/ce", "loss/adv", "loss/semi_adv", "loss/semi", "loss/d"} <= set(reports[-1]["metrics"])


def test_several_workers_end_with_the_weights_of_one(alone, together):
    _, training = alone

    found = newest_checkpoint(together / "checkpoints")

    assert found
    state = found[1]["trainer"]
    for network in ("segmenter", "discriminator"):
        torch.testing.assert_close(state[network], training.trainer.state_dict()[network], rtol=1e-9, atol=1e-9)


def test_a_run_of_several_workers_is_finished_by_one(alone, together, program, shapes, tmp_path):
    _, expected = alone
    last = max((together / "checkpoints").iterdir())
    moved = last.rename(tmp_path / last.name)

    resumed = Training(program.for_many_workers(), shapes, together)
    reporter = RecordingReporter()
    resumed.run(reporter)

    assert [report.step for report in reporter.reports] == [10]
    assert moved.is_dir()
    torch.testing.assert_close(
        resumed.trainer.state_dict()["segmenter"], expected.trainer.state_dict()["segmenter"], rtol=1e-9, atol=1e-9
    )


def test_training_moves_the_weights(alone, program):
    _, training = alone
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(program.for_many_workers().trainer.seed)
        fresh = Compact(6, 8).double().state_dict()

    moved = [not torch.allclose(fresh[n], w, atol=1e-6) for n, w in training.trainer.segmenter.state_dict().items()]

    assert all(moved)
