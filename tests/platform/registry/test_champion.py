"""Which model is a finished training's."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from advseg.models import load
from advseg.models.architectures import build_segmenter
from advseg.models.bundle import save
from advseg.platform.ledger.rows import Row
from advseg.platform.registry.champion import crown, trained_model
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import ensure_run
from advseg.platform.workers.account import Account
from advseg.trainers.errors import UserError

from .conftest import CARD

RECORDED, ANOTHER = "a" * 64, "0" * 64
Break = Callable[[Path], object]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """With the model of a training."""
    card = replace(CARD, lineage={"key": "probe/0", "checkpoint": RECORDED}, metrics={"val/miou": 40.0})
    save(tmp_path / "probe" / "0" / "model", card, build_segmenter(CARD.segmenter, 2).state_dict(), None)
    return LocalStore(tmp_path)


@pytest.mark.parametrize("checksum", [RECORDED, None], ids=["recorded", "without a ledger"])
def test_it_is_the_one_that_its_worker_left(store: LocalStore, checksum: str | None) -> None:
    with trained_model(store, "probe/0", checksum) as model:
        assert load(model).card.lineage["key"] == "probe/0"


def test_that_of_another_checkpoint_is_not(store: LocalStore) -> None:
    """Somebody trained there again, or put another training's in its place."""
    with (
        pytest.raises(
            UserError,
            match=r"^probe/0 has no model: that in .*probe/0 is not of the checkpoint that the ledger recorded, whose "
            r"checksum is 000000000000: restore that one$",
        ),
        trained_model(store, "probe/0", ANOTHER),
    ):
        pytest.fail("it was given")


@pytest.mark.parametrize(
    "harm",
    [
        shutil.rmtree,
        lambda model: (model / "MANIFEST.json").unlink(),
        lambda model: (model / "segmenter.safetensors").write_bytes(b"x"),
        lambda model: (model / "model.json").unlink(),
    ],
    ids=["gone", "without its manifest", "damaged", "without its card"],
)
def test_without_it_there_is_none_rather_than_half_of_one(store: LocalStore, tmp_path: Path, harm: Break) -> None:
    harm(tmp_path / "probe" / "0" / "model")
    with (
        pytest.raises(UserError, match=r"^probe/0 has no model in .*probe/0 \(.*\): restore that folder$"),
        trained_model(store, "probe/0", None),
    ):
        pytest.fail("it was given")


def test_a_best_trial_without_its_model_is_not_registered(store: LocalStore, client: MlflowClient) -> None:
    ensure_run(client, RunIdentity(experiment="probe", key="probe/0"))
    account = Account(checkpoint="probe/0/checkpoints/step-00000002", checksum=ANOTHER)
    best = Row(number=0, params={}, state=TrialState.COMPLETE, reason="", curve={2: 40.0}, account=account)
    with pytest.raises(UserError, match="probe/0 has no model"):
        crown(client, store, "probe", best, "things", None, lambda: None)
    assert client.search_registered_models() == []

    best = replace(best, account=replace(account, checksum=RECORDED))
    assert crown(client, store, "probe", best, "things", None, lambda: None).version == "1"
