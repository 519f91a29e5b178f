"""Which checkpoint becomes a model."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from advseg.models import load
from advseg.platform.registry.champion import export
from advseg.platform.spec.spec import Spec
from advseg.trainers.checkpoint import CHECKPOINTS
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.shapes import CLASSES, ShapesSettings, write_shapes
from advseg.trainers.errors import UserError
from advseg.trainers.loop import Training
from advseg.trainers.reporter import Reporters


@pytest.fixture
def trained(document: dict[str, Any], make_spec: Callable[..., Spec], tmp_path: Path) -> tuple[Spec, Dataset]:
    """A training of two steps, with a checkpoint of each."""
    write_shapes(tmp_path / "shapes", ShapesSettings(labelled=4, unlabelled=4, val=2, test=1, size=16))
    document["dataset"] = {"root": "shapes", "classes": list(CLASSES)}
    spec = make_spec("trainer.steps=2", "trainer.evaluate_every=1")
    dataset = open_dataset(spec.dataset)
    Training(spec.recipe(), dataset, tmp_path / "probe" / "0").run(Reporters())
    return spec, dataset


def test_that_of_the_last_step_does(trained: tuple[Spec, Dataset], tmp_path: Path) -> None:
    model = load(export(*trained, tmp_path, "probe/0"))
    assert (model.card.lineage["key"], model.card.lineage["step"]) == ("probe/0", 2)


@pytest.mark.parametrize(("left", "step"), [("*", 0), ("step-00000002", 1)])
def test_without_it_there_is_no_model_rather_than_an_untrained_one(
    trained: tuple[Spec, Dataset], tmp_path: Path, left: str, step: int
) -> None:
    """The folder was deleted, or lies on another node's disk."""
    for checkpoint in (tmp_path / "probe" / "0" / CHECKPOINTS).glob(left):
        shutil.rmtree(checkpoint)
    with pytest.raises(UserError, match=f"probe/0 has no model: it made 2 steps, but .* is of step {step}: restore"):
        export(*trained, tmp_path, "probe/0")
    assert not (tmp_path / "probe" / "0" / "model").exists()
