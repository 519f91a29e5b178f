"""Models that mean harm, through every door: refused in one line or shown inert, and nothing of them ever runs."""

import hashlib
import json
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_stand_in import Hub, Repository
from mlflow.tracking import MlflowClient
from PIL import Image
from registry_stand_in import serving

from advseg.jobs.predict import predict
from advseg.models import load
from advseg.models.bundle import CARD, SEGMENTER, read_card
from advseg.models.manifest import MANIFEST, BrokenDirectoryError
from advseg.models.tracking_server import RegistryError
from advseg.platform.base.visible import visible
from advseg.platform.pages.json_line import json_line
from advseg.platform.pages.models_page import card_json, print_card
from advseg.platform.registry.hub import HubAddress, pull_from_hub
from advseg.platform.registry.model_card import model_card
from advseg.platform.registry.registry import pull, pull_card
from advseg.trainers.errors import UserError

MARKER = "it was run"
PROGRAM = f"import pathlib; pathlib.Path({MARKER!r}).touch()"
"""It leaves a marker in the working folder, as whatever is planted here."""
SECRET = "secret.safetensors"
"""Beside the model's folder: what a link or a name may lead to."""


def seal(folder: Path, *names: str) -> None:
    """Give a folder a manifest that vouches for its model, and for files of other names."""
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (CARD, SEGMENTER, *names)}
    checksum = hashlib.sha256(json.dumps([2, digests], sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({"format_version": 2, "files": digests, "checksum": checksum}))


def say(folder: Path, *, without: str = "", **changes: Any) -> None:
    """Have the card say something else, or nothing of something."""
    said = {**json.loads((folder / CARD).read_text()), **changes}
    said.pop(without, None)
    (folder / CARD).write_text(json.dumps(said))
    seal(folder)


class Pickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (PROGRAM,)


def a_pickle(folder: Path) -> None:
    (folder / SEGMENTER).write_bytes(pickle.dumps(Pickled()))
    seal(folder)


def code_beside(folder: Path, *listed: str) -> None:
    loader = {"python_function": {"loader_module": "planted", "code": ".", "data": "."}}
    (folder / "MLmodel").write_text(json.dumps({"flavors": loader}))
    for name in ("serve.py", "planted.py", "__init__.py", "sitecustomize.py", "conftest.py", "modeling_advseg.py"):
        (folder / name).write_text(PROGRAM)
    seal(folder, *listed)


def a_link(folder: Path, name: str) -> None:
    (folder / name).rename(folder.parent / SECRET)
    (folder / name).symlink_to(folder.parent / SECRET)


def deep(folder: Path, name: str) -> None:
    (folder / name).write_text("[" * 100_000)
    if name != MANIFEST:
        seal(folder)


WORDS = (
    "<script>alert(1)</script>",
    "[x](http://evil.example)",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202eesrever",
    "\u2028\x85 two\r\nlines",
    "[bold]rich[/bold] :smile:",
    "\U000e0041tag",
)


def names(folder: Path) -> None:
    one, other = "".join(WORDS), "".join(reversed(WORDS))
    lineage = {"key": f"{one}/0", "dataset_digest": one, "checkpoint": one, "images": {one: 1}}
    lineage["spec"] = {"name": one, "method": {"name": one}, "model": {"weights": one}}
    say(folder, classes=[one, other], metrics={f"val/iou/{one}": 1.0, "val/miou": 1.0, one: 2.0}, lineage=lineage)


CARD_DOORS = {"show", "README.md"}
OF_FOLDERS = {"load", "predict", "README.md"}
BY_NAME = {"load by name", "pull", "pull from the Hub"}
READS_WEIGHTS = {"load", "load by name", "predict"}
ALL = CARD_DOORS | OF_FOLDERS | BY_NAME


@dataclass(frozen=True, kw_only=True)
class Case:
    plant: Callable[[Path], None]
    doors: set[str]
    """Those that refuse it; through the others it comes as data."""
    told: str = ""


CASES = {
    "a pickle for weights": Case(plant=a_pickle, doors=READS_WEIGHTS, told="is damaged, or no safetensors file"),
    "code and an MLmodel with a loader": Case(plant=code_beside, doors=set()),
    "code that the manifest lists": Case(
        plant=lambda folder: code_beside(folder, "serve.py"), doors=BY_NAME, told="lists 'serve.py', but a model is"
    ),
    "an MLmodel that the manifest lists": Case(
        plant=lambda folder: code_beside(folder, "MLmodel"), doors=BY_NAME, told="lists 'MLmodel', but a model is"
    ),
    "a name that climbs": Case(
        plant=lambda folder: seal(folder, f"../{SECRET}"), doors=ALL, told="which is no plain name inside the folder"
    ),
    "a name from the root": Case(
        plant=lambda folder: seal(folder, str(folder.parent / SECRET)), doors=ALL, told="which is no plain name inside"
    ),
    **{
        f"a link for {name}": Case(
            plant=lambda folder, name=name: a_link(folder, name), doors=doors, told="is a link out of its folder"
        )
        for name, doors in ((SEGMENTER, OF_FOLDERS), (CARD, OF_FOLDERS), (MANIFEST, OF_FOLDERS))
    },
    **{
        f"a deep {name}": Case(
            plant=lambda folder, name=name: deep(folder, name), doors=ALL, told="it is nested deeper than 64 levels"
        )
        for name in (CARD, MANIFEST)
    },
    **{
        f"a card without {key}": Case(
            plant=lambda folder, key=key: say(folder, without=key), doors=ALL, told=f"there is no {key}"
        )
        for key in ("classes", "segmenter", "metrics", "lineage")
    },
    "words in a refusal": Case(
        plant=lambda folder: say(folder, segmenter={"architecture": "".join(WORDS)}), doors=ALL, told="unknown architec"
    ),
    "an empty card": Case(
        plant=lambda folder: ((folder / CARD).write_text("{}"), seal(folder))[1], doors=ALL, told="there is no classes"
    ),
    "figures that are none": Case(
        plant=lambda folder: say(folder, metrics={"val/miou": float("nan"), "val/iou/thing": float("inf")}),
        doors=set(),
    ),
    "names with markup and controls": Case(plant=names, doors=set()),
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, in which nothing is to appear but what a door is asked for."""
    folder = tmp_path / "work"
    (folder / "scratch").mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(folder / "scratch"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def planted(model: Path, tmp_path: Path) -> Path:
    """A model's folder to change."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / SECRET).write_bytes(PROGRAM.encode())
    return shutil.copytree(model, tmp_path / "there" / "model")


@pytest.fixture
def doors(
    client: MlflowClient,
    run_of: Callable[[str], str],
    hub: Hub,
    planted: Path,
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Callable[[], Any]]:
    """Each way in to the model; what comes through it as text."""

    def by_name() -> None:
        with serving(planted) as registry:
            registry.answers[SECRET] = (200, PROGRAM.encode())
            monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.url)
            try:
                load("things@champion")
            finally:
                monkeypatch.delenv("MLFLOW_TRACKING_URI")
        asked_for(Path(path).name for path, _ in registry.asked)

    def registered() -> str:
        run_id = run_of("planted/0")
        client.log_artifacts(run_id, str(planted), "model")
        client.create_registered_model("things")
        source = f"{client.get_run(run_id).info.artifact_uri}/model"
        return f"things@{client.create_model_version('things', source, run_id).version}"

    def from_hub() -> None:
        hub.repositories["me/things"] = Repository(private=False)
        files = {path.name: path.read_bytes() for path in planted.iterdir()}
        hub.repositories["me/things"].commit({**files, f"../{SECRET}": PROGRAM.encode()})
        try:
            pull_from_hub(HubAddress(repository="me/things"), work / "to")
        finally:
            asked_for(Path(path).name for _, path in hub.asked if "resolve" in path)

    def asked_for(files: Any) -> None:
        assert set(files) <= {"alias", MANIFEST, CARD, SEGMENTER}

    reference = registered()

    def predicted() -> None:
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(work / "scratch" / "image.png")
        try:
            predict(planted, [str(work / "scratch" / "image.png")], str(work / "to"))
        finally:
            (work / "scratch" / "image.png").unlink()

    return {
        "load": lambda: load(planted),
        "load by name": by_name,
        "predict": predicted,
        "pull": lambda: pull(client, reference, work / "to"),
        "pull from the Hub": from_hub,
        "show": lambda: pull_card(client, reference)[1],
        "README.md": lambda: model_card(read_card(planted), None),
    }


@pytest.fixture
def case(request: pytest.FixtureRequest, planted: Path) -> Case:
    """It is planted before any door is made."""
    case = CASES[request.param]
    case.plant(planted)
    return case


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_it_is_refused_in_a_line_or_inert_and_nothing_runs(
    case: Case, doors: dict[str, Callable[[], Any]], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusals = {}
    for name, door in doors.items():
        try:
            came = door()
        except (UserError, BrokenDirectoryError, RegistryError) as error:
            refusals[name] = str(error)
            left = {"scratch"}
        else:
            left = {"scratch", "to"}
            if name == "show":
                print_card("things version 1", came, None, ())
                print(json_line(card_json("things version 1", came, None, ())))
                came = capsys.readouterr().out
            assert_inert(came if isinstance(came, str) else "")
        assert {path.name for path in work.iterdir()} <= left, f"{name} wrote to another place, or {MARKER}"
        assert list((work / "scratch").iterdir()) == [], name
        shutil.rmtree(work / "to", ignore_errors=True)
    assert refusals.keys() == case.doors
    for name, told in refusals.items():
        assert case.told in told, name
        assert told.isprintable(), name


def assert_inert(text: str) -> None:
    """It controls no terminal, and what is Markdown of it has neither markup nor links of the model's."""
    assert visible(text) == text
    if text.startswith("---\n"):
        assert not re.search(r"<|\]\(|://", text.partition("\n# ")[2])
