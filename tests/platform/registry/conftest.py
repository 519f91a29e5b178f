"""Models of one network, and runs to register them from."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_stand_in import Hub, running
from mlflow.tracking import MlflowClient

from advseg.models.architectures import IMAGENET, CompactSettings, build_segmenter
from advseg.models.bundle import save
from advseg.models.card import Card
from advseg.platform.gate.plan import SUPERVISED, champion_arm
from advseg.platform.gate.verdict import Gate, Incumbent, judge
from advseg.platform.registry.registering import Registered, register
from advseg.platform.spec.confirm import Confirm
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import ensure_run

TOKEN = "hf_canary0of0the0hub"
CARD = Card(
    segmenter=CompactSettings(width=8),
    discriminator=None,
    classes=("background", "thing"),
    palette=((0, 0, 0), (128, 0, 0)),
    ignore_index=255,
    normalisation=IMAGENET,
)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory, which no test changes."""
    path = tmp_path_factory.mktemp("models") / "model"
    torch.manual_seed(0)
    save(path, CARD, build_segmenter(CARD.segmenter, 2).state_dict(), None)
    return path


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Path]:
    """Makes a model directory that was judged on a dataset."""

    def make(dataset: str = "ab") -> Path:
        path = tmp_path / "judged" / dataset
        card = replace(CARD, lineage={"key": "one/0", "dataset_digest": dataset})
        save(path, card, build_segmenter(CARD.segmenter, 2).state_dict(), None)
        return path

    return make


@pytest.fixture
def run_of(client: MlflowClient) -> Callable[[str], str]:
    """The run with a key."""
    return lambda key: ensure_run(client, RunIdentity(experiment="probe", key=key))


@pytest.fixture
def registered(client: MlflowClient, run_of: Callable[[str], str]) -> Callable[..., Registered]:
    """Registers a model as that of a trial."""

    def run(model: Path, key: str, gate: Gate | None, check: Callable[[], Any] = lambda: None) -> Registered:
        return register(client, model, "things", run_of(key), key, gate, check)

    return run


def gate_of(lead: float, champion: str | None = None, version: str = "1") -> Gate:
    """What the gate says of a trial that is so far above its rivals on every seed; `champion` is the run of one."""
    confirm = Confirm(candidates=1)
    seeds = range(confirm.seeds)
    incumbent = Incumbent(model="things", version=version, run=champion) if champion else None
    arms = [champion_arm(version, champion), SUPERVISED] if champion else [SUPERVISED]
    theirs = {arm.told: dict.fromkeys(seeds, 50.0) for arm in arms}
    return replace(judge(confirm, {0: dict.fromkeys(seeds, 50.0 + lead)}, theirs), champion=incumbent)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that this process and those that it starts find and have a token of."""
    with running(TOKEN) as hub:
        for name, value in {
            "HF_TOKEN": TOKEN,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hugging_face"),
            "HF_HUB_DISABLE_XET": "1",  # a protocol of its own, compiled
            "ADVSEG_HOME": str(tmp_path / "home"),
        }.items():
            monkeypatch.setenv(name, value)
        for name, value in {  # which are read on import
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(tmp_path / "hugging_face" / "hub"),
        }.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        yield hub
