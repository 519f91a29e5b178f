"""Several workers, as threads here, take up one checkpoint or none."""

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from advseg.trainers.checkpoint import CHECKPOINTS, packed
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.distributed import World
from advseg.trainers.errors import BrokenEnvironmentError, CheckpointError
from advseg.trainers.loop import Training
from advseg.trainers.recipe import Recipe
from advseg.trainers.reporter import Reporters
from advseg.trainers.resuming import shared

OnWorkers = Callable[[int, Callable[[World], Any]], list[Any]]
BUILDING = threading.Lock()
"""First weights come from torch's one generator."""


@pytest.fixture
def recipe(program) -> Recipe:
    return program.recipe_of(steps=4, evaluate_every=1, batch_size=3)


@pytest.fixture
def trained(recipe: Recipe, shapes: Dataset, tmp_path: Path) -> Path:
    """Where checkpoints of steps 3 and 4 lie."""
    Training(recipe, shapes, tmp_path / "0").run(Reporters())
    return tmp_path / "0"


def resumed(on_workers: OnWorkers, recipe: Recipe, datasets: list[Dataset], folders: list[Path]) -> list[int | str]:
    """Where each worker resumed, or why it did not; those that did have the same networks and optimizers."""

    def resume(world: World) -> int | str:
        folder, data = folders[world.rank], datasets[world.rank]
        with BUILDING:
            training = Training(recipe, data, folder, world=world, device=torch.device("cpu"))
        try:
            training.saved.resume()
        except CheckpointError as error:
            return str(error)
        _, tensors = packed(training.method.state_dict())
        assert not world.strayed(tensors.values(), torch.device("cpu"))
        return training.step

    return on_workers(len(folders), resume)


@pytest.fixture
def resume(on_workers: OnWorkers, recipe: Recipe, shapes: Dataset) -> Callable[..., list[int | str]]:
    return lambda *folders: resumed(on_workers, recipe, [shapes] * len(folders), list(folders))


def test_workers_that_see_the_same_folder_take_up_the_same(resume, trained):
    assert resume(trained, trained, trained) == [4, 4, 4]


def test_a_newer_one_that_the_leading_worker_does_not_see_is_not_taken_up(resume, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "1")
    shutil.rmtree(trained / CHECKPOINTS / "step-00000004")

    assert resume(trained, tmp_path / "1") == [3, 3]


def test_all_begin_where_the_leading_worker_sees_none(resume, trained, tmp_path):
    assert resume(tmp_path / "empty", trained) == [0, 0]


def damage(path: Path) -> None:
    (path / "state.json").write_text("{}")


def test_what_the_others_find_in_folders_of_their_own_does_not_count(resume, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "damaged")
    damage(tmp_path / "damaged" / CHECKPOINTS / "step-00000004")

    assert resume(trained, tmp_path / "damaged", tmp_path / "empty") == [4, 4, 4]


def test_all_begin_with_the_weights_of_the_leading_worker(on_workers, recipe, shapes, tmp_path):
    def start(world: World) -> dict[str, Any]:
        ours = replace(recipe, trainer=replace(recipe.trainer, seed=world.rank))
        with BUILDING:
            state = Training(ours, shapes, tmp_path, device=torch.device("cpu")).method.state_dict()
        return shared(state, world, torch.device("cpu"))

    first, *others = on_workers(3, start)

    for other in others:
        assert other.keys() == first.keys() == {"segmenter", "discriminator"}
        for name in first:
            torch.testing.assert_close(other[name]["network"], dict(first[name]["network"]), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_a_worker_whose_weights_differ_in_one_bit_has_strayed(on_workers, dtype):
    def look(world: World) -> list[int]:
        weights = torch.ones(3, 4, dtype=dtype)
        if world.rank == 2:
            weights.view(torch.int32)[1, 1] ^= 1
        return world.strayed([torch.zeros((), dtype=dtype), weights.t()], torch.device("cpu"))

    assert on_workers(3, look) == [[2]] * 3


def test_workers_that_differ_stop_with_the_step_of_the_report(program, shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(World, "strayed", lambda *_: [1, 2])
    monkeypatch.setattr(World, "tell", lambda _, text, device: ["one", "two", "three"] if text else [])
    training = Training(program.recipe_of(steps=4, evaluate_every=2), shapes, tmp_path, device=torch.device("cpu"))

    with pytest.raises(BrokenEnvironmentError, match=r"^step 2: .* 0 on one has, .* 1 of 1 on two, 2 of 1 on three"):
        training.run(Reporters())
    assert not (tmp_path / CHECKPOINTS).exists()


def test_a_worker_whose_data_are_others_is_named_by_all(on_workers, recipe, shapes, trained):
    others = replace(shapes, digest="another")

    (reason,) = set(resumed(on_workers, recipe, [shapes, others], [trained, trained]))

    assert reason.startswith(f"worker 1 of 2 cannot resume as worker 0 does: {trained}")
    assert "belongs to other settings or data" in reason


def test_damage_to_all_that_the_leading_worker_sees_ends_all(resume, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "1")
    for path in (trained / CHECKPOINTS).iterdir():
        damage(path)

    leading, other = resume(trained, tmp_path / "1")

    assert leading.startswith(f"no checkpoint in {trained / CHECKPOINTS} is whole")
    assert other == f"worker 0 of 2 cannot resume as worker 0 does: {leading}"
