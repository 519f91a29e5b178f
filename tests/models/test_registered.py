"""A registered model by its name, of a stand-in of MLflow's server; real ones are asked in tests/platform."""

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from registry_stand_in import Registry, serving

from advseg.models import load
from advseg.models import model as model_module
from advseg.models.architectures import IMAGENET, CompactSettings, build_segmenter
from advseg.models.bundle import CARD, DISCRIMINATOR, SEGMENTER, save
from advseg.models.card import Card
from advseg.models.manifest import MANIFEST, BrokenDirectoryError, write_directory
from advseg.models.tracking_server import RegistryError

IMAGE = np.random.default_rng(0).integers(0, 256, (19, 27, 3), np.uint8)


def ascii_of(text: str) -> str:
    return ascii(text)[:20]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model."""
    settings = CompactSettings(width=8)
    card = Card(
        segmenter=settings,
        discriminator=None,
        classes=("background", "thing"),
        palette=((0, 0, 0), (128, 0, 0)),
        ignore_index=255,
        normalisation=IMAGENET,
    )
    save(tmp_path / "model", card, build_segmenter(settings, 2).state_dict(), None)
    return tmp_path / "model"


@pytest.fixture
def registry(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """One that the environment names, and no other."""
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.setenv("ADVSEG_HOME", str(tmp_path / "home"))
    # Nothing is left behind, wherever it fails.
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with serving(folder) as registry:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.url)
        yield registry
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("reference", ["things@champion", "things@1", "models:/things@champion", "models:/things/1"])
def test_a_registered_model_is_that_of_its_folder(registry: Registry, folder: Path, reference: str) -> None:
    model, own = load(reference), load(folder)
    assert model.card == own.card
    assert torch.equal(model.probabilities(IMAGE), own.probabilities(IMAGE))


def test_only_what_the_manifest_lists_is_asked_for(registry: Registry, folder: Path) -> None:
    (folder / "serve.py").write_text("raise AssertionError('it was run')")
    load("things@champion")
    assert [Path(path).name for path, _ in registry.asked] == ["alias", MANIFEST, CARD, SEGMENTER]


def test_a_folder_of_that_name_wins(
    registry: Registry, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.rename(tmp_path / "things@champion")
    monkeypatch.chdir(tmp_path)
    load("things@champion")
    assert registry.asked == []


@pytest.mark.parametrize(
    ("environment", "login"),
    [
        ({}, None),
        ({"USERNAME": "me", "PASSWORD": "pä:w"}, "Basic " + b64encode("me:pä:w".encode()).decode()),
        ({"USERNAME": "me", "PASSWORD": "pw", "TOKEN": "t"}, "Basic " + b64encode(b"me:pw").decode()),
        ({"USERNAME": "me", "TOKEN": "t"}, "Bearer t"),
    ],
)
def test_the_account_is_that_of_mlflows_client(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], login: str | None
) -> None:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    for name, value in environment.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    load("things@champion")
    http_request(get_default_host_creds(registry.url), "/theirs", "GET", max_retries=0, raise_on_status=False)
    assert {authorization for _, authorization in registry.asked} == {login}


def refusal(registry: Registry, reference: str = "things@champion") -> str:
    with pytest.raises((RegistryError, BrokenDirectoryError)) as caught:
        load(reference)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value).replace(registry.url, "URL")


@pytest.mark.parametrize("reference", ["things@best", "things@2", "others@champion"])
def test_a_model_that_there_is_not(registry: Registry, reference: str) -> None:
    told = f"there is no model {reference}: the MLflow server at URL knows nothing of it (404)"
    assert refusal(registry, reference) == told
    models = [{"name": name} for name in ("things", "things.history", "a\nb", "ships")]
    registry.answers["search"] = (200, json.dumps({"registered_models": models}).encode())
    assert refusal(registry, reference) == f"{told}; registered models: things, ships"
    for odd in ({}, [], {"registered_models": 3}, {"registered_models": [3]}, {"registered_models": [{}]}):
        registry.answers["search"] = (200, json.dumps(odd).encode())
        assert refusal(registry, reference) == told


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((401, b""), "the MLflow server at URL refuses (401): set MLFLOW_TRACKING_USERNAME and"),
        ((403, b""), "the MLflow server at URL refuses (403): set MLFLOW_TRACKING_USERNAME and"),
        ((500, b"<h1>Oops</h1>"), "the MLflow server at URL answers 500: try again later"),
        ((200, b"<html>"), "URL does not answer as an MLflow server does: "),
        ((200, b"\xff\xfe"), "URL does not answer as an MLflow server does: "),
        ((200, b"[]"), "URL does not answer as an MLflow server does"),
        ((200, b'{"model_version": {}}'), "URL does not answer as an MLflow server does"),
        ((200, b"[" * 100_000), "URL does not answer as an MLflow server does: it is nested deeper"),
        ((200, b" " * (5 * 2**20)), "URL does not answer as an MLflow server does: it is larger than 4 MiB"),
    ],
)
def test_an_answer_that_is_none_is_told_in_a_line(registry: Registry, answer: tuple[int, bytes], told: str) -> None:
    registry.answers["alias"] = answer
    assert refusal(registry).startswith(told)


def test_nobody_else_is_asked_in_the_servers_place(
    registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would see our account, and could answer what they want."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    with serving(folder) as other:
        registry.answers["alias"] = (302, f"{other.url}/api/2.0/mlflow/registered-models/alias?name=things".encode())
        told = refusal(registry)
        assert other.asked == []
    assert told == (
        "the MLflow server at URL answers 302: try again later, or set MLFLOW_TRACKING_URI to its own address"
    )


@pytest.mark.parametrize("name", [MANIFEST, CARD, SEGMENTER])
def test_a_file_that_is_gone_or_was_changed(registry: Registry, folder: Path, name: str) -> None:
    registry.answers[name] = (200, (folder / name).read_bytes()[:-1] + b"!")
    assert refusal(registry).startswith("things@champion")
    registry.answers[name] = (404, b"")
    assert refusal(registry).startswith("things@champion is not whole, as files of it are gone, or another program's: ")


@pytest.mark.parametrize("name", [MANIFEST, CARD, SEGMENTER])
def test_no_more_is_written_than_a_model_of_its_card_has(
    registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A server may send without end."""
    most, written = (folder / SEGMENTER).stat().st_size * 2 + 2**22, []
    registry.answers[name] = (200, (folder / name).read_bytes() + b" " * 2 * most)
    remove = TemporaryDirectory.cleanup
    monkeypatch.setattr(
        TemporaryDirectory,
        "cleanup",
        lambda self: (written.append((Path(self.name) / name).stat().st_size), remove(self)),
    )
    assert refusal(registry).startswith(f"{name} of the MLflow server at URL has more than ")
    assert written[0] <= most


def test_weights_without_a_network_are_not_asked_for(registry: Registry, folder: Path) -> None:
    content = {name: (folder / name).read_bytes() for name in (CARD, SEGMENTER)}

    def write(folder: Path) -> None:
        for name, bytes_ in {**content, DISCRIMINATOR: content[SEGMENTER]}.items():
            (folder / name).write_bytes(bytes_)

    write_directory(folder, write)
    assert "lacks discriminator.safetensors" in refusal(registry)
    assert [Path(path).name for path, _ in registry.asked] == ["alias", MANIFEST, CARD, SEGMENTER]


@pytest.mark.parametrize(
    "reference", ["\ud800@1", "things@\ud800", "x" * 5000 + "@1", "things@" + "1" * 5000, "a\0@1"], ids=ascii_of
)
def test_a_reference_that_none_can_be_is_told_in_a_line(registry: Registry, reference: str) -> None:
    assert refusal(registry, reference).startswith("there is no model '")
    assert registry.asked == []


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("mini", "mini@champion"), ("one/2", "shapes@champion"), ("x" * 5000, "shapes@champion"), ("\ud800", "shapes@")],
    ids=ascii_of,
)
def test_what_is_neither_folder_nor_reference_says_what_would_be(registry: Registry, name: str, remedy: str) -> None:
    told = refusal(registry, name)
    assert told.startswith("there is no folder '")
    assert f": name one, or a registered model, as in {remedy}" in told


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("s3://bucket/model", "things@champion lies at 's3://bucket/model': bring it by `advseg models pull things@ch"),
        ("/etc", "things@champion is said to lie at '/etc', but it is a file of this machine"),
        ("mlflow-artifacts:/1/../../x", "things@champion is said to lie at 'mlflow-artifacts:/1/../../x', but it clim"),
        ("http://evil.example/\n", r"things@champion is said to lie at 'http://evil.example/\n', but models come from"),
        (
            "mlflow-artifacts://[bad/1",
            "things@champion is said to lie at 'mlflow-artifacts://[bad/1', but that is no ad",
        ),
        (
            "mlflow-artifacts:/\ud800",
            r"things@champion is said to lie at 'mlflow-artifacts:/\ud800', but that is no ad",
        ),
        (None, "things@champion is said to lie at 'None', but it is a file of this machine"),
    ],
)
def test_models_come_from_the_server_alone(registry: Registry, source: object, told: str) -> None:
    registry.source = source
    assert refusal(registry).startswith(told)


def test_a_server_that_is_away(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert refusal(registry).startswith("the MLflow server at http://127.0.0.1:9 does not answer (")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert refusal(registry).startswith(
        "no MLflow server runs here: start it by `advseg up`, or set MLFLOW_TRACKING_URI"
    )


@pytest.mark.parametrize(
    "address", ["sqlite:///mlflow.db", "http://me:pw@mlflow.example", "databricks", "http://[", "/x"]
)
def test_an_address_of_another_kind(registry: Registry, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    told = refusal(registry)
    assert told.startswith("MLFLOW_TRACKING_URI must be the http:// or https:// address of an MLflow server, ")
    assert "pw" not in told
    assert ("database" in told) == address.startswith("sqlite")


def test_a_token_that_cannot_be_sent_is_not_shown(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret\nX: y")
    assert "secret" not in refusal(registry)


class TestTheLocalServer:
    """What `services.json` says of it is a stand-in's."""

    @pytest.fixture
    def note(self, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        (tmp_path / "home" / "mlflow").mkdir(parents=True)
        (tmp_path / "home" / "mlflow" / "password").write_text("pw")

        def note(**changes: object) -> None:
            import psutil

            noted = {"pid": os.getpid(), "created": psutil.Process().create_time() - psutil.boot_time()}
            noted |= {"port": int(registry.url.rpartition(":")[2]), "accounts": True, **changes}
            (tmp_path / "home" / "services.json").write_text(json.dumps({"format": 1, "services": {"mlflow": noted}}))

        return note

    def test_is_asked_with_its_account(self, note, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "another's")
        note()
        load("things@champion")
        assert {login for _, login in registry.asked} == {"Basic " + b64encode(b"advseg:pw").decode()}

    def test_is_asked_without_one_where_it_has_none(self, note, registry: Registry) -> None:
        note(accounts=False)
        load("things@champion")
        assert {login for _, login in registry.asked} == {None}

    def test_is_known_by_its_address_too(self, note, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        note()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{registry.url}/")
        load("things@champion")
        assert {login for _, login in registry.asked} == {"Basic " + b64encode(b"advseg:pw").decode()}

    @pytest.mark.parametrize(
        "changes", [{"pid": 1}, {"pid": 2**30}, {"created": 5.0}, {"created": "x"}, {"pid": None}, {"port": "../x"}]
    )
    def test_sees_no_password_if_another_may_have_its_port(self, note, registry: Registry, changes: dict) -> None:
        note(**changes)
        assert refusal(registry).startswith("no MLflow server runs here")
        assert registry.asked == []


def test_it_takes_the_base_install_alone_and_asks_this_machine_past_any_proxy(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    program = (
        "import sys\n"
        "extras = ('mlflow', 'ray', 'optuna', 'boto3', 'psutil', 'requests', 'pydantic', 'httpx2')\n"
        "sys.modules |= dict.fromkeys(extras)\n"
        "from advseg.models import load\n"
        "print(load('things@champion').card.classes)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "('background', 'thing')\n", "")


class TestADevice:
    """`meta` is one that PyTorch has everywhere, and that computes nothing."""

    def test_is_where_the_networks_and_the_images_go(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(model_module, "_devices", lambda: ["meta"])
        model, seen = load(folder, device="meta"), []
        model.segmenter.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].device.type))
        with pytest.raises(RuntimeError, match="meta"):
            model.probabilities(IMAGE)
        assert {tensor.device.type for tensor in model.segmenter.state_dict().values()} == {"meta"}
        assert seen == ["meta"]

    def test_is_the_processor_otherwise(self, folder: Path) -> None:
        assert load(folder).probabilities(IMAGE).device.type == "cpu"

    @pytest.mark.parametrize("device", ["cuda:99", "of tomorrow", "vulkan", "meta"])
    def test_that_is_not_there_is_told_in_a_line(self, folder: Path, device: str) -> None:
        with pytest.raises(ValueError, match=f"^there is no device '{device}' here, only cpu") as caught:
            load(folder, device=device)
        assert len(str(caught.value).splitlines()) == 1
