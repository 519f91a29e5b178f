"""The keys of `--json`: what scripts are written against. A change of them is a change here."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from restored_mlflow import RestoredMlflow

from advseg.jobs import reproduce
from advseg.jobs.paper_tables import tables
from advseg.models.bundle import read_card
from advseg.platform.gate.verdict import judge
from advseg.platform.ledger.confirmations import Planned
from advseg.platform.ledger.opening import open_ledger
from advseg.platform.ledger.origin import Origin
from advseg.platform.pages.json_line import json_line
from advseg.platform.registry.registering import register
from advseg.platform.registry.verdicts import hold_verdict
from advseg.platform.spec.confirm import Confirm
from advseg.platform.spec.spec_file import load_spec
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import ensure_run
from advseg.platform.workers.account import Account

Command = Callable[..., tuple[int, str, str]]

MOVE = "alias from_version to_version at by sweep gate rollback why"
MOVES = " ".join(f"moves.{key}" for key in MOVE.split())
JOB = "id name state message submitted_by cluster start_time end_time"
KEYS = {
    "status": "home services services.name services.state services.url services.pid services.log jobs",
    "data check": (
        "dataset digest parts parts.* parts.*.images parts.*.masks parts.*.pixels parts.*.pixels.* "
        "parts.*.ignored_pixels notes problems picture"
    ),
    "job list": JOB,
    "sweep list": "name planned_trials finished_trials states states.* best_trial best_miou best best.step best.miou",
    "sweep show": (
        "name best_trial best_miou baseline_miou gain states states.* device_seconds lost_steps importance "
        "arms arms.name arms.trials arms.best_trial arms.best_miou arms.importance arms.confirmed arms.confirmed.trial "
        "arms.confirmed.miou arms.confirmed.seeds arms.confirmed.differences arms.confirmed.differences.to "
        "arms.confirmed.differences.mean arms.confirmed.differences.low arms.confirmed.differences.high "
        "arms.confirmed.differences.seeds "
        "running baseline baseline.key baseline.state baseline.reason baseline.step baseline.miou baseline.best "
        "baseline.curve baseline.attempts baseline.device_seconds baseline.images_per_second baseline.lost_steps "
        "baseline.mlflow_run baseline.checkpoint "
        "gate gate.outcome gate.reason gate.trial gate.test gate.test.* confirmations confirmations.key "
        "confirmations.state confirmations.reason confirmations.step confirmations.miou confirmations.best "
        "confirmations.best.step confirmations.best.miou confirmations.curve "
        "confirmations.curve.step confirmations.curve.miou confirmations.attempts confirmations.device_seconds "
        "confirmations.images_per_second confirmations.lost_steps confirmations.mlflow_run confirmations.checkpoint "
        "trials trials.number trials.key trials.arm trials.params trials.params.* trials.state trials.reason "
        "trials.step trials.miou trials.best trials.best.step trials.best.miou "
        "trials.curve trials.curve.step trials.curve.miou trials.attempts trials.device_seconds "
        "trials.images_per_second trials.lost_steps trials.mlflow_run trials.checkpoint"
    ),
    "clean": (
        "dry_run bytes removed removed.training removed.why removed.bytes unknown unknown.training unknown.bytes"
    ),
    "compare": (
        "metric runs runs.name runs.mlflow_run runs.params runs.params.* runs.metrics runs.metrics.* runs.curve "
        "runs.curve.step runs.curve.value differing_params differing_params.* differing_params.*.* equal_params "
        "differences differences.name differences.from differences.common_steps differences.used_steps "
        "differences.first differences.last differences.mean differences.half_width mlflow_url"
    ),
    "models list": f"name version aliases miou trial moves {MOVES}",
    "models show": (
        "model architecture segmenter segmenter.* discriminator discriminator.* classes palette ignore_index resize "
        "metrics metrics.* lineage lineage.spec lineage.environment lineage.environment.* lineage.step "
        "lineage.dataset_digest lineage.images lineage.images.* "
        f"gate gate.outcome gate.reason gate.trial gate.test gate.test.* moves {MOVES}"
    ),
    "models history": MOVE,
    "evaluate": (
        "unit note miou miou_multiscale pixel_accuracy mean_class_accuracy iou iou.* class_accuracy class_accuracy.* "
        "images protocol protocol.mode protocol.window protocol.stride protocol.resize protocol.scales protocol.flip "
        "dataset dataset.digest dataset.ignore_index model model.segmenter model.segmenter.* "
        "model.lineage model.lineage.spec model.lineage.environment model.lineage.environment.* model.lineage.step "
        "model.lineage.dataset_digest model.lineage.images model.lineage.images.* "
        "confusion confusion.unit confusion.rows confusion.columns confusion.classes confusion.matrix"
    ),
    "reproduce": ("labels row miou mean_miou miou_half_width gain gain_half_width published_miou published_gain"),
    "reproduce models:/shapes@champion": (
        "model reproduced differing metrics metrics.* metrics.*.recorded metrics.*.here "
        "weights weights.* weights.*.recorded weights.*.here environment unknown folder"
    ),
}
"""Of each verb; a star stands for names that differ from case to case: of classes, parameters, metrics, settings."""
NAMED = {"parts", "pixels", "states", "importance", "params", "metrics", "differing_params", "iou", "class_accuracy"}
NAMED |= {"segmenter", "discriminator", "test", "images", "weights", "environment"}
"""Objects whose keys are such names; so are those within the differing parameters."""


def keys(value: Any, place: str = "") -> Iterator[str]:
    match value:
        case dict():
            *_, last = place.rstrip(".").rpartition(".")
            named = last in NAMED or place == "differing_params.*."
            for key, each in value.items():
                path = f"{place}{'*' if named else key}"
                yield path
                yield from keys(each, f"{path}.")
        case list():
            for each in value:
                yield from keys(each, place)


def strict(line: str) -> dict[str, Any]:
    """JSON as the standard has it, without NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(line, parse_constant=refuse)


@pytest.fixture
def printed(advseg: Command) -> Callable[..., list[dict[str, Any]]]:
    """What a verb prints with --json, the keys of which are known."""

    def run(verb: str, *arguments: str | Path, status: int = 0) -> list[dict[str, Any]]:
        ended, out, _ = advseg(*verb.split(), *arguments, "--json")
        assert ended == status
        documents = [strict(line) for line in out.splitlines()]
        for document in documents:
            assert list(dict.fromkeys(keys(document))) == KEYS[verb].split()
        return documents

    return run


@pytest.fixture
def storage(document: dict[str, Any], tmp_path: Path) -> Path:
    """A ledger with a sweep of one arm of three trials: a complete one, a failed one and one that runs."""
    arm = {"trials": 5, "space": {"method.lambda_adv": {"low": 0.001, "high": 1, "log": True}}}
    searched = {"arms": {"adversarial": arm}}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({**document, "job": "sweep", "name": "probe", "sweep": searched}))
    ledger = open_ledger(tmp_path / "runs", load_spec(path), Origin(dataset="d", code="c"))
    for value, state in ((50.0, TrialState.COMPLETE), (float("nan"), TrialState.FAIL), (40.0, None)):
        trial = ledger.propose()
        assert trial is not None
        ledger.report(trial, 2, value)
        if state:
            ledger.finish(trial, state, "diverged" if state is TrialState.FAIL else "")
    ledger.plan_confirmations([Planned(name="confirm-0-s1", spec=ledger.spec.model_dump(mode="json"))])
    (confirmed,) = ledger.confirmations()
    account = Account(attempts=1)
    ledger.note(confirmed.number, account)
    ledger.hold_confirmation(replace(confirmed, state=TrialState.COMPLETE, curve={2: 51.0}, account=account))
    gate = judge(Confirm(candidates=1), {0: {1: 51.0}}, {"the supervised baseline": {1: 50.0}})
    ledger.hold_gate(replace(gate, test={"trial 0": 49.0}).to_json())
    ledger.close()
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def made(migrated: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> RestoredMlflow:
    """MLflow with two runs, of which one has a registered model."""

    def fill(client: MlflowClient) -> None:
        for number in range(2):
            key = f"probe/{number}"
            run_id = ensure_run(client, RunIdentity(experiment="probe", key=key, params={"p": number, "q": 1}))
            client.log_batch(run_id, metrics=[Metric("val/miou", 40.0 + number, 1, step) for step in (4, 8)])
        register(client, model, "shapes", run_id, key, None, lambda: None)
        client.set_registered_model_alias("shapes", "champion", "1")
        client.delete_registered_model_alias("shapes", "candidate")

    return RestoredMlflow(tmp_path_factory.mktemp("made"), migrated, fill)


Printed = Callable[..., list[dict[str, Any]]]


def test_status(printed: Printed) -> None:
    (found,) = printed("status")
    assert [service["state"] for service in found["services"]] == ["down", "down"]
    assert found["jobs"] is None


def test_status_of_jobs(advseg: Command, jobs: Any) -> None:
    jobs.add("a-1")
    (job,) = strict(advseg("status", "--json")[1])["jobs"]
    assert list(job) == JOB.split()


def test_data_check(printed: Printed, spec: Path, shapes: Path, tmp_path: Path) -> None:
    (found,) = printed("data check", spec)
    assert found["parts"]["labelled"]["images"] == 3
    assert (found["problems"], found["picture"]) == ([], str(tmp_path / "home" / "checks" / "tiny.png"))


def test_data_check_of_a_bad_dataset_prints_what_is_wrong_and_fails(advseg: Command, spec: Path) -> None:
    status, out, err = advseg("data", "check", spec, "--json", "--set=dataset.validation=nothing")
    assert status == 2
    assert err.startswith("error: ")
    assert strict(out)["problems"]
    assert strict(out)["digest"] is None


def test_job_list(printed: Printed, jobs: Any) -> None:
    jobs.add("a-1")
    jobs.add("a-2", "FAILED")
    assert [(job["id"], job["name"], job["state"]) for job in printed("job list")] == [
        ("a-2", "a", "FAILED"),
        ("a-1", "a", "RUNNING"),
    ]


def test_sweep_list(printed: Printed, storage: Path) -> None:
    (found,) = printed("sweep list", "--storage", storage)
    assert (found["finished_trials"], found["planned_trials"], found["best_miou"]) == (2, 5, 50.0)
    assert found["states"] == {"STOPPED": 1, "COMPLETE": 1, "FAIL": 1}


def test_sweep_show(printed: Printed, storage: Path) -> None:
    (found,) = printed("sweep show", "probe", "--storage", storage)
    assert [(trial["number"], trial["miou"], trial["reason"]) for trial in found["trials"]] == [
        (0, 50.0, ""),
        (2, 40.0, ""),
        (1, None, "diverged"),
    ]


def test_clean(printed: Printed, storage: Path, tracking: MlflowClient) -> None:
    for number in (1, 7):
        LocalStore(storage).write(f"probe/{number}/checkpoints/step-00000002/state.json", b"12345")
    (found,) = printed("clean", "--storage", storage)
    assert found == {
        "dry_run": False,
        "bytes": 5,
        "removed": [{"training": "probe/1", "why": "failed", "bytes": 5}],
        "unknown": [{"training": "probe/7", "bytes": 5}],
    }


def test_compare(printed: Printed, registered: MlflowClient) -> None:
    (found,) = printed("compare", "probe/0", "probe/1")
    assert found["differing_params"] == {"p": {"probe/0": "0", "probe/1": "1"}}
    assert [(pair["name"], pair["from"], pair["mean"]) for pair in found["differences"]] == [
        ("probe/1", "probe/0", 1.0)
    ]


def test_models_list(printed: Printed, registered: MlflowClient, model: Path) -> None:
    (found,) = printed("models list")
    (move,) = found.pop("moves")
    miou = read_card(model).metrics["val/miou"]
    assert found == {"name": "shapes", "version": 1, "aliases": ["champion"], "miou": miou, "trial": "probe/1"}
    assert (move["alias"], move["to_version"], move["by"]) == ("champion", 1, None)


def test_models_show(printed: Printed, registered: MlflowClient) -> None:
    gate = judge(Confirm(candidates=1), {1: {1: 51.0}}, {"the supervised baseline": {1: 50.0}})
    hold_verdict(registered, registered.get_model_version("shapes", "1"), replace(gate, test={"trial 1": 49.0}))
    (found,) = printed("models show", "shapes@champion")
    assert (found["model"], found["architecture"], found["lineage"]["spec"]) == ("shapes version 1", "compact", "tiny")
    assert (found["gate"]["trial"], found["gate"]["test"]) == (1, {"trial 1": 49.0})
    assert [move["alias"] for move in found["moves"]] == ["champion"]


def test_models_history(printed: Printed, registered: MlflowClient) -> None:
    found = printed("models history", "shapes")
    assert [(move["alias"], move["from_version"], move["to_version"], move["sweep"]) for move in found] == [
        ("champion", None, 1, None),
        ("candidate", 1, None, None),
        ("candidate", None, 1, "probe"),
    ]


def test_evaluate(printed: Printed, model: Path, spec: Path, tmp_path: Path) -> None:
    (found,) = printed("evaluate", model, spec, "--to", tmp_path / "to")
    assert found["miou"] == pytest.approx(json.loads((tmp_path / "to" / "results.json").read_text())["miou"])


def test_reproduce(printed: Printed, advseg: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [
        reproduce.Run(row=row, labels="50", seed=seed, spec=None, folder=Path(f"{row.name}/{seed}"))  # type: ignore[arg-type]
        for row in (*tables()["ablation"].rows[:2], tables()["ablation"].rows[-1])
        for seed in range(2)
    ]
    miou = {run.folder: 40.0 + place for place, run in enumerate(runs)}

    def trained(*_: Any, console: Any, **__: Any) -> reproduce.Reproduction:
        console.print("8 trainings")
        return reproduce.Reproduction(title="a table", lines=reproduce.lines_of(runs, miou))

    monkeypatch.setattr(reproduce, "reproduce", trained)
    base, other, unpublished = printed("reproduce", "ablation")
    assert (base["miou"], base["gain"], base["published_gain"]) == ([40.0, 41.0], None, None)
    assert (other["mean_miou"], other["gain"], other["gain_half_width"]) == (42.5, 2.0, 0.0)
    assert (unpublished["gain"], unpublished["published_miou"], unpublished["published_gain"]) == (4.0, None, None)


def test_reproduce_a_model(printed: Printed, registered: MlflowClient) -> None:
    (found,) = printed("reproduce models:/shapes@champion")
    assert (found["model"], found["reproduced"], found["differing"]) == ("shapes version 1", True, [])
    pair = found["metrics"]["val/miou"]
    assert pair["recorded"] == pair["here"]


def test_every_verb_that_has_the_option_is_here() -> None:
    import typer.main

    from advseg.jobs.cli.main import app

    def readers(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
        if any("--json" in option.opts for option in command.params):
            yield " ".join(path)
        for name, child in getattr(command, "commands", {}).items():
            yield from readers(child, (*path, name))

    assert set(readers(typer.main.get_command(app))) == {verb.partition(" models:/")[0] for verb in KEYS}


def test_the_guide_lists_these_keys() -> None:
    _, *verbs = (Path(__file__).parents[2] / "docs" / "json.md").read_text().split("\n## ")
    listed = {}
    for verb in verbs:
        name, *lines = verb.splitlines()
        cells = [line.split("|")[1] for line in lines if line.startswith("| `")]
        listed[name] = [key for cell in cells for key in re.findall("`([^`]+)`", cell)]
    assert listed == {verb: names.split() for verb, names in KEYS.items()}


def test_what_is_not_finite_is_null() -> None:
    bad = {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": -float("inf")}, "e": (True, None, "[x]")}
    assert strict(json_line(bad)) == {"a": None, "b": [None, 1.5], "c": {"d": None}, "e": [True, None, "[x]"]}
    assert "\n" not in json_line({"text": "two\nlines"})
