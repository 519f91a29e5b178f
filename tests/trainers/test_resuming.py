"""Several workers, as threads here, take up one checkpoint or none."""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from advseg.trainers.checkpoint import CHECKPOINTS
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.distributed import World
from advseg.trainers.errors import CheckpointError
from advseg.trainers.loop import Training
from advseg.trainers.recipe import Recipe
from advseg.trainers.reporter import Reporters


@dataclass(frozen=True, kw_only=True)
class Threaded(World):
    """Workers that are threads of one process. Their sums are over `shares`."""

    barrier: threading.Barrier
    shares: dict[int, torch.Tensor] = field(default_factory=dict)

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        self.shares[self.rank] = tensor.clone()
        self.barrier.wait(60)
        tensor.copy_(torch.stack(list(self.shares.values())).sum(0))
        self.barrier.wait(60)
        return tensor


@pytest.fixture
def recipe(program) -> Recipe:
    return program.recipe_of(steps=4, evaluate_every=1, batch_size=3)


@pytest.fixture
def trained(recipe: Recipe, shapes: Dataset, tmp_path: Path) -> Path:
    """Where checkpoints of steps 3 and 4 lie."""
    Training(recipe, shapes, tmp_path / "0").run(Reporters())
    return tmp_path / "0"


def resumed(recipe: Recipe, datasets: list[Dataset], folders: list[Path]) -> list[int | str]:
    """Where each worker resumed, or why it did not."""
    barrier, shares = threading.Barrier(len(folders)), {}

    def resume(rank: int) -> int | str:
        world = Threaded(rank=rank, size=len(folders), barrier=barrier, shares=shares)
        training = Training(recipe, datasets[rank], folders[rank], world=world, device=torch.device("cpu"))
        try:
            training.resume()
        except CheckpointError as error:
            return str(error)
        return training.step

    with ThreadPoolExecutor(len(folders)) as pool:
        return list(pool.map(resume, range(len(folders))))


@pytest.fixture
def resume(recipe: Recipe, shapes: Dataset) -> Callable[..., list[int | str]]:
    return lambda *folders: resumed(recipe, [shapes] * len(folders), list(folders))


def test_workers_that_see_the_same_folder_take_up_the_same(resume, trained):
    assert resume(trained, trained, trained) == [4, 4, 4]


def test_workers_with_folders_of_their_own_take_up_what_is_the_same_there(resume, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "1")

    assert resume(trained, tmp_path / "1") == [4, 4]


def test_a_newer_one_that_the_leading_worker_does_not_see_is_not_taken_up(resume, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "1")
    shutil.rmtree(trained / CHECKPOINTS / "step-00000004")

    assert resume(trained, tmp_path / "1") == [3, 3]


def test_all_begin_where_the_leading_worker_sees_none(resume, trained, tmp_path):
    assert resume(tmp_path / "empty", trained) == [0, 0]


def lack(path: Path) -> None:
    shutil.rmtree(path)


def damage(path: Path) -> None:
    (path / "state.json").write_text("{}")


def swap(path: Path) -> None:
    shutil.rmtree(path)
    shutil.copytree(path.with_name("step-00000003"), path)


@pytest.mark.parametrize(
    ("change", "told"),
    [(lack, "has no MANIFEST.json"), (damage, "differs from its checksum"), (swap, "is not what worker 0 finds there")],
)
def test_a_worker_that_does_not_find_the_same_is_named_by_all(resume, trained, tmp_path, change, told):
    shutil.copytree(trained, tmp_path / "2")
    path = tmp_path / "2" / CHECKPOINTS / "step-00000004"
    change(path)

    reasons = set(resume(trained, trained, tmp_path / "2"))

    (reason,) = reasons
    assert reason.startswith("worker 2 of 3 cannot resume as worker 0 does: ")
    assert str(path) in reason
    assert told in reason
    assert "\n" not in reason


def test_a_worker_whose_data_are_others_is_named_by_all(recipe, shapes, trained):
    others = replace(shapes, digest="another")

    (reason,) = set(resumed(recipe, [shapes, others], [trained, trained]))

    assert reason.startswith(f"worker 1 of 2 cannot resume as worker 0 does: {trained}")
    assert "belongs to other settings or data" in reason


def test_damage_to_all_that_the_leading_worker_sees_ends_all(resume, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "1")
    for path in (trained / CHECKPOINTS).iterdir():
        damage(path)

    leading, other = resume(trained, tmp_path / "1")

    assert leading.startswith(f"no checkpoint in {trained / CHECKPOINTS} is whole")
    assert other == f"worker 0 of 2 cannot resume as worker 0 does: {leading}"
