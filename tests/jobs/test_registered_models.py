"""Models that are registered: listed, shown, and judged or asked without being pulled first."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from restored_mlflow import RestoredMlflow

from advseg.models import load
from advseg.models.bundle import read_card
from advseg.platform.gate.verdict import Gate, judge
from advseg.platform.registry.moves import CANDIDATE, CHAMPION
from advseg.platform.registry.registering import MIOU_TAG, register
from advseg.platform.registry.verdicts import GATE_TAG, hold_verdict
from advseg.platform.spec.confirm import Confirm
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import ensure_run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(migrated: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> RestoredMlflow:
    """MLflow with two versions of the model `shapes`, whose champion is the second."""

    def fill(client: MlflowClient) -> None:
        for number in range(2):
            key = f"probe/{number}"
            run_id = ensure_run(client, RunIdentity(experiment="probe", key=key))
            client.log_batch(run_id, metrics=[Metric("val/miou", 40.0 + number, 1, step) for step in (4, 8)])
            register(client, model, "shapes", run_id, key, None, lambda: None)
        client.set_registered_model_alias("shapes", CHAMPION, "2")
        client.delete_registered_model_alias("shapes", CANDIDATE)

    return RestoredMlflow(tmp_path_factory.mktemp("made"), migrated, fill)


def test_a_list_has_a_line_for_each_version_the_newest_first(
    advseg: Command, registered: MlflowClient, model: Path
) -> None:
    status, out, err = advseg("models", "list")
    assert (status, err) == (0, "")
    # Both are the same model, whose runs ended elsewhere.
    miou = f"{read_card(model).metrics['val/miou']:.2f}"
    assert [line.split() for line in out.splitlines()[1:3]] == [
        ["shapes", "2", "champion", miou, "probe/1"],
        ["shapes", "1", miou, "probe/0"],
    ]


def test_a_list_says_who_sits_where_since_when_and_why(advseg: Command, registered: MlflowClient) -> None:
    moved = "nothing is recorded of it: it was moved in MLflow, or by an older version of advseg"
    assert advseg("models", "list")[1].splitlines()[3:] == [f"shapes@champion is version 2: {moved}"]
    advseg("models", "promote", "shapes@1", "--why", "it is smaller")
    (line,) = advseg("models", "list")[1].splitlines()[3:]
    assert re.fullmatch(r"shapes@champion is version 1 since [-0-9]+ [:0-9]+[+-][:0-9]+, by .+@.+: it is smaller", line)
    assert advseg("models", "show", "shapes@1")[1].splitlines()[-1] == line


def test_a_history_tells_each_move_the_newest_first(advseg: Command, registered: MlflowClient) -> None:
    assert advseg("models", "promote", "shapes@1")[:2] == (
        0,
        "shapes@champion is version 1, after version 2: by hand\nit was not confirmed on fresh seeds\n",
    )
    assert advseg("models", "rollback", "shapes")[:2] == (
        0,
        "shapes@champion is version 2, after version 1: rolled back\n",
    )
    told = advseg("models", "history", "shapes")[1].splitlines()
    assert [re.sub(r"^.*?  |, by .*", "", line) for line in told[::2]] == [
        "candidate: version 2 → nobody",
        "champion: version 1 → version 2",
        "champion: version 2 → version 1",
        "champion: nobody → version 2",
        "candidate: version 1 → version 2",
        "candidate: nobody → version 1",
    ]
    assert told[-1] == "  it is the best of its sweep, and was not confirmed on fresh seeds"
    assert told[-2].endswith(" in sweep probe")


@pytest.mark.parametrize("verb", ["rollback", "history"])
def test_of_a_model_that_there_is_not_it_is_told_in_a_line(
    advseg: Command, registered: MlflowClient, verb: str
) -> None:
    status, _, err = advseg("models", verb, "ships")
    assert (status, err) == (2, "error: there is no model ships; registered models: shapes (champion)\n")


def test_a_list_of_none_says_how_there_comes_to_be_one(advseg: Command, tracking: MlflowClient) -> None:
    assert advseg("models", "list")[1].startswith("no registered model yet: a sweep whose spec has sweep.register_as")


def test_a_version_without_a_figure_of_its_own_whose_run_is_gone_has_no_miou(
    advseg: Command, registered: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

    def gone(*_: object) -> None:
        raise MlflowException("gone", RESOURCE_DOES_NOT_EXIST)

    monkeypatch.setattr(MlflowClient, "get_run", gone)
    assert " - " not in advseg("models", "list")[1]
    registered.delete_model_version_tag("shapes", "1", MIOU_TAG)  # As an older version registered it.
    assert " - " in advseg("models", "list")[1]


@pytest.mark.parametrize("reference", ["shapes@champion", "shapes@2", "models:/shapes@champion"])
def test_a_card_is_shown_without_the_weights(
    advseg: Command, registered: MlflowClient, model: Path, tmp_path: Path, reference: str
) -> None:
    for weights in tmp_path.rglob("*.safetensors"):
        weights.unlink()

    status, out, err = advseg("models", "show", reference)

    assert (status, err) == (0, "")
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    card = load(model).card
    assert shown["model"] == "shapes version 2"
    assert shown["architecture"] == "compact"
    assert shown["spec"] == "tiny"
    assert shown["dataset"] == card.lineage["dataset_digest"]
    assert float(shown["val/miou"]) == pytest.approx(card.metrics["val/miou"], rel=1e-3)


def test_a_pull_goes_by_default_to_a_folder_of_the_models_name_and_version(
    advseg: Command, registered: MlflowClient, tmp_path: Path
) -> None:
    for reference, what, folder in (
        ("shapes@champion", "shapes version 2", "shapes-2"),
        ("models:/shapes/1", "shapes version 1", "shapes-1"),
        ("probe/0", "the model of probe/0", "probe-0"),
    ):
        assert advseg("models", "pull", reference) == (0, f"{what} pulled to {folder}\n", "")
        load(tmp_path / folder)
    status, _, err = advseg("models", "pull", "shapes@2")
    assert (status, err) == (2, "error: shapes-2 exists already: remove it or name another folder with --to\n")


def test_a_pull_from_the_hub_goes_by_default_to_a_folder_of_the_repositorys_name(
    advseg: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advseg.platform.registry.hub.pull_from_hub", lambda address, _: f"{address}@1")
    out = advseg("models", "pull", "hf://me/shapes@main")[1]
    assert out == "hf://me/shapes@main@1 pulled to shapes\n"


def test_a_pull_that_is_killed_leaves_nothing_half(advseg: Command, registered: MlflowClient, tmp_path: Path) -> None:
    def entries() -> set[str]:
        return {path.name for path in tmp_path.iterdir()}

    before = entries()
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from mlflow.tracking import MlflowClient\n"
        "from advseg.platform.registry import registry\n"
        "download = registry.download_artifacts\n"
        "def killed(address, **options):\n"
        "    download(address, **options)\n"
        "    if address.endswith('segmenter.safetensors'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "registry.download_artifacts = killed\n"
        "registry.pull(MlflowClient(sys.argv[1]), 'shapes@champion')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, registered.tracking_uri], cwd=tmp_path, timeout=120)
    assert done.returncode == -signal.SIGKILL
    (left,) = entries() - before
    assert left.startswith(".shapes-2.")
    assert advseg("models", "pull", "shapes@champion")[0] == 0
    assert entries() - before == {"shapes-2"}


@pytest.fixture
def gate(registered: MlflowClient) -> Gate:
    """What was found later of the second version."""
    rivals = {"the supervised baseline": dict.fromkeys(range(6), 50.0)}
    gate = judge(Confirm(candidates=1), {1: dict.fromkeys(range(6), 51.0)}, rivals)
    gate = replace(gate, test={"trial 1": 49.0})
    hold_verdict(registered, registered.get_model_version("shapes", "2"), gate)
    return gate


def test_a_card_is_shown_with_the_verdict_on_it(advseg: Command, gate: Gate) -> None:
    told = re.sub(" +", " ", advseg("models", "show", "shapes@2")[1]).splitlines()
    assert f"fresh seeds promoted: {gate.reason}; mIoU on test images: trial 1 49.00" in told
    assert re.search(r"^fresh seeds +-$", advseg("models", "show", "shapes@1")[1], re.MULTILINE)


def test_what_was_found_since_a_move_is_told_with_it(advseg: Command, gate: Gate) -> None:
    said = f"on fresh seeds: promoted: {gate.reason}; mIoU on test images: trial 1 49.00"
    assert advseg("models", "promote", "shapes@1")[1].splitlines()[1:] == ["it was not confirmed on fresh seeds"]
    assert advseg("models", "promote", "shapes@2")[1].splitlines()[1:] == [said]
    assert (
        advseg("models", "list")[1]
        .splitlines()[-1]
        .endswith(": by hand; judged since, see `advseg models show shapes@2`")
    )


def test_a_verdict_that_is_gone_is_told_but_holds_up_no_move(
    advseg: Command, registered: MlflowClient, gate: Gate, model: Path
) -> None:
    version = registered.get_model_version("shapes", "2")
    assert version.run_id
    register(registered, model, "shapes", version.run_id, "probe/1", gate, lambda: None)
    registered.delete_model_version_tag("shapes", "2", GATE_TAG)
    status, out, err = advseg("models", "show", "shapes@2", "--json")
    assert (status, json.loads(out)["gate"]) == (0, None)
    assert err.startswith("warning: version 2 of shapes was moved by the verdict ")
    registered.set_model_version_tag("shapes", "2", GATE_TAG, "\x1b[31m")
    status, _, err = advseg("models", "promote", "shapes@2")
    assert (status, "\x1b" in err) == (0, False)
    assert err.splitlines()[-1].startswith("warning: the verdict on shapes@2 cannot be read: its tag advseg.gate is no")


def test_a_card_that_was_changed_is_refused(advseg: Command, registered: MlflowClient) -> None:
    card = Path(registered.get_model_version("shapes", "2").source) / "model.json"
    card.write_text(card.read_text() + " ")
    status, out, err = advseg("models", "show", "shapes@champion")
    assert (status, out) == (2, "")
    assert err.startswith("error: the card of shapes@champion cannot be read: ")
    assert err.count("\n") == 1


def test_a_registered_model_predicts_as_its_folder_does(
    advseg: Command, registered: MlflowClient, model: Path, shapes: Path, tmp_path: Path
) -> None:
    images = shapes / "JPEGImages"
    assert advseg("predict", "shapes@champion", images, "--to", "ours")[:2] == (0, "10 masks written to ours\n")
    assert advseg("predict", model, images, "--to", "theirs")[0] == 0
    ours, theirs = ({path.name: path.read_bytes() for path in (tmp_path / to).iterdir()} for to in ("ours", "theirs"))
    assert ours == theirs


def test_a_registered_model_is_judged(advseg: Command, registered: MlflowClient, spec: Path, tmp_path: Path) -> None:
    status, _, err = advseg("evaluate", "shapes@champion", spec)
    assert (status, err) == (0, "")
    assert len(list((tmp_path / "home" / "evaluations" / "tiny").glob("shapes@champion-*/results.json"))) == 1


def test_a_registered_model_is_published_and_exported_as_it_is(
    advseg: Command, registered: MlflowClient, gate: Gate, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def push(path: Path, address: Any, licence: str, gate: Gate | None, reference: str | None) -> str:
        seen.append((load(path).card, str(address), licence, gate, reference))
        return f"{address}@1"

    def export(path: Path, reference: str, file: Path) -> str:
        seen.append((load(path).card, reference, str(file)))
        return ""

    monkeypatch.setattr("advseg.platform.registry.hub.push", push)
    monkeypatch.setattr("advseg.jobs.export_onnx.export_onnx", export)
    card = load(model).card
    assert advseg("models", "push", "shapes@champion", "hf://me/shapes")[:2] == (
        0,
        "shapes@2 pushed to hf://me/shapes@1\n",
    )
    assert advseg("models", "export", "shapes@champion", "--to", "shapes.onnx")[:2] == (
        0,
        "shapes@2 written to shapes.onnx\n",
    )
    assert advseg("models", "push", model, "hf://me/shapes")[0] == 0
    assert seen == [
        (card, "hf://me/shapes", "unknown", gate, "shapes@2"),
        (card, "shapes@2", "shapes.onnx"),
        (card, "hf://me/shapes", "unknown", None, None),
    ]


def test_a_folder_of_that_name_wins(advseg: Command, model: Path, shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "shapes@champion")
    assert advseg("predict", "shapes@champion", shapes / "JPEGImages", "--to", "masks")[0] == 0


def test_a_registered_model_that_there_is_not_is_told_in_a_line(
    advseg: Command, registered: MlflowClient, shapes: Path, tmp_path: Path
) -> None:
    status, _, err = advseg("predict", "shapes@best", shapes / "JPEGImages", "--to", "masks")
    assert status == 2
    assert err == "error: there is no model shapes@best; registered models: shapes (champion)\n"
    assert not (tmp_path / "masks").exists()
