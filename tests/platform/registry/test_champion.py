"""Which checkpoint becomes a model."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from advseg.models import load
from advseg.models.manifest import checksum_of
from advseg.platform.ledger.rows import Row
from advseg.platform.registry.champion import crown, export
from advseg.platform.spec.spec import Spec
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import ensure_run
from advseg.platform.workers.account import Account
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
    recorded = checksum_of(tmp_path / "probe" / "0" / CHECKPOINTS / "step-00000002")
    assert recorded
    for checksum in (recorded, None):
        model = load(export(*trained, tmp_path, "probe/0", checksum))
        assert (model.card.lineage["key"], model.card.lineage["step"]) == ("probe/0", 2)


def test_another_of_the_same_step_does_not(trained: tuple[Spec, Dataset], tmp_path: Path) -> None:
    """Somebody trained there again, or put another training's checkpoint in its place."""
    recorded = "0" * 64
    with pytest.raises(
        UserError,
        match=r"probe/0 has no model: .*step-00000002 is not the checkpoint that the ledger recorded, whose checksum "
        r"is 000000000000: restore that one$",
    ):
        export(*trained, tmp_path, "probe/0", recorded)
    assert not (tmp_path / "probe" / "0" / "model").exists()


def test_a_best_trial_without_its_checkpoint_is_not_registered(
    trained: tuple[Spec, Dataset], tmp_path: Path, client: MlflowClient
) -> None:
    spec, dataset = trained
    ensure_run(client, RunIdentity(experiment="probe", key="probe/0"))
    best = Row(
        number=0,
        params={},
        state=TrialState.COMPLETE,
        reason="",
        curve={2: 40.0},
        account=Account(checkpoint="probe/0/checkpoints/step-00000002", checksum="0" * 64),
    )
    with pytest.raises(UserError, match="probe/0 has no model"):
        crown(client, spec, dataset, tmp_path, best, "things", lambda: None)
    assert client.search_registered_models() == []

    recorded = checksum_of(tmp_path / "probe" / "0" / CHECKPOINTS / "step-00000002")
    best = replace(best, account=replace(best.account, checksum=recorded))
    crowned = crown(client, spec, dataset, tmp_path, best, "things", lambda: None)
    assert str(crowned) == "things@champion (version 1)"


@pytest.mark.parametrize(("left", "step"), [("*", 0), ("step-00000002", 1)])
def test_without_it_there_is_no_model_rather_than_an_untrained_one(
    trained: tuple[Spec, Dataset], tmp_path: Path, left: str, step: int
) -> None:
    """The folder was deleted, or lies on another node's disk."""
    for checkpoint in (tmp_path / "probe" / "0" / CHECKPOINTS).glob(left):
        shutil.rmtree(checkpoint)
    with pytest.raises(UserError, match=f"probe/0 has no model: it made 2 steps, but .* is of step {step}: restore"):
        export(*trained, tmp_path, "probe/0", None)
    assert not (tmp_path / "probe" / "0" / "model").exists()
