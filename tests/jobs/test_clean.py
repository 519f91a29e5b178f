"""`advseg clean`, as it is typed; and what a sweep cleans at its end."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from advseg.jobs.sweep import clean_up
from advseg.models.manifest import MANIFEST
from advseg.platform.cluster.driver import Job
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.opening import open_ledger
from advseg.platform.ledger.origin import Origin
from advseg.platform.spec.spec_file import load_spec
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.storage.store import StoreError
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import KEY_TAG, ensure_run
from advseg.trainers.errors import FencedError

Command = Callable[..., tuple[int, str, str]]

ENDS = [
    (60.0, TrialState.COMPLETE),
    (50.0, TrialState.PRUNED),
    (70.0, TrialState.COMPLETE),
    (float("nan"), TrialState.FAIL),
    (40.0, None),
]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The storage."""
    return tmp_path / "runs"


@pytest.fixture
def spec(document: dict[str, Any], runs: Path, tmp_path: Path) -> Path:
    """Of a sweep of which the best trial alone keeps its checkpoints."""
    searched = {"trials": 5, "space": {"method.lambda_adv": {"low": 0.001, "high": 1, "log": True}}}
    sweep = {**document, "job": "sweep", "name": "probe", "sweep": searched, "keep": {"best": 1}, "storage": str(runs)}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep))
    return path


def leave(runs: Path, key: str) -> None:
    """The checkpoint, of 30 bytes, and the model of a training."""
    for name in ("state.json", "state.safetensors", MANIFEST):
        LocalStore(runs / key).write(f"checkpoints/step-00000004/{name}", b"0123456789")
    LocalStore(runs / key).write(f"model/{MANIFEST}", b"{}")


@pytest.fixture
def owned(spec: Path, runs: Path) -> Ledger:
    """The ledger of the sweep as this process owns it, with five trials, of which one runs."""
    ledger = open_ledger(runs, load_spec(spec), Origin(dataset="d", code="c"))
    leave(runs, "probe/baseline")
    for number, (value, state) in enumerate(ENDS):
        ledger.propose()
        ledger.report(number, 4, value)
        if state:
            ledger.finish(number, state)
        leave(runs, f"probe/{number}")
    return ledger


@pytest.fixture
def left(owned: Ledger) -> None:
    """Nobody runs the sweep any more."""
    owned.close()


def kept(runs: Path, sweep: str = "probe") -> list[str]:
    """The trainings that have their checkpoints; all have their models."""
    assert all((path / "model" / MANIFEST).exists() for path in (runs / sweep).iterdir())
    return sorted(path.parent.name for path in (runs / sweep).glob("*/checkpoints"))


ALL = ["0", "1", "2", "3", "4", "baseline"]

pytestmark = pytest.mark.usefixtures("tracking")


@pytest.mark.usefixtures("left")
def test_removes_what_nobody_needs_and_names_it_with_its_bytes(advseg: Command, runs: Path) -> None:
    status, out, _ = advseg("clean", "--storage", runs)
    assert status == 0
    assert [line.rstrip().split(maxsplit=3) for line in out.splitlines()] == [
        ["checkpoints", "of", "size", "why"],
        ["probe/0", "30", "bytes", "not among the best 1"],
        ["probe/1", "30", "bytes", "pruned"],
        ["probe/3", "30", "bytes", "failed"],
        ["90", "bytes", "removed:", "the checkpoints of 3 trainings"],
    ]
    assert kept(runs) == ["2", "4", "baseline"]
    assert advseg("clean", "--storage", runs)[1] == "nothing removed\n"


@pytest.mark.usefixtures("left")
def test_a_dry_run_says_the_same_and_removes_nothing(advseg: Command, runs: Path) -> None:
    _, out, _ = advseg("clean", "probe", "--storage", runs, "--dry-run")
    assert out.splitlines()[-1] == "90 bytes would be removed: the checkpoints of 3 trainings"
    assert kept(runs) == ALL
    assert [line.split()[0] for line in out.splitlines()[1:-1]] == ["probe/0", "probe/1", "probe/3"]


@pytest.mark.usefixtures("left")
def test_only_what_was_saved_before_an_age_goes(advseg: Command, runs: Path) -> None:
    ago = time.time() - 31 * 86400
    for file in (runs / "probe" / "1" / "checkpoints").rglob("*"):
        os.utime(file, (ago, ago))
    assert "90 bytes would" in advseg("clean", "--storage", runs, "--dry-run")[1]
    assert advseg("clean", "--storage", runs, "--older-than", "32d")[1] == "nothing removed\n"
    assert "30 bytes removed" in advseg("clean", "--storage", runs, "--older-than", "30d")[1]
    assert kept(runs) == ["0", "2", "3", "4", "baseline"]


def test_what_is_no_age_is_refused(advseg: Command) -> None:
    for age in ("", "30", "d", "-1d", "1.5d", "30 d", "3w", "٣d"):
        assert advseg("clean", f"--older-than={age}") == (
            2,
            "",
            f"error: --older-than must be a number of days or hours, as in 30d or 12h, but is {age!r}\n",
        )


@pytest.mark.usefixtures("owned")
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_sweep_that_somebody_runs_is_left_alone(advseg: Command, runs: Path, options: tuple[str, ...]) -> None:
    status, out, _ = advseg("clean", "--storage", runs, *options)
    assert status == 0
    assert out.startswith("left alone: sweep probe ")
    assert kept(runs) == ALL


@pytest.mark.usefixtures("left")
def test_what_any_version_came_from_stays(advseg: Command, runs: Path, tracking: MlflowClient) -> None:
    """Also one that another program registered, of which only its run says which trial that was."""
    for number, tags in ((1, {KEY_TAG: "probe/1"}), (3, {})):
        run_id = ensure_run(tracking, RunIdentity(experiment="probe", key=f"probe/{number}"))
        tracking.create_registered_model(f"model-{number}")
        tracking.create_model_version(f"model-{number}", "source", run_id=run_id, tags=tags)
    lost = ensure_run(tracking, RunIdentity(experiment="probe", key="probe/0"))
    tracking.create_model_version("model-1", "source", run_id=lost)
    tracking.delete_run(lost)
    advseg("clean", "--storage", runs)
    assert kept(runs) == ["0", "1", "2", "3", "4", "baseline"]


@pytest.mark.usefixtures("left")
def test_where_versions_cannot_be_asked_for_nothing_goes(
    advseg: Command, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise MlflowException("no answer")

    monkeypatch.setattr(MlflowClient, "search_model_versions", away)
    status, out, err = advseg("clean", "--storage", runs)
    assert (status, out, err) == (2, "nothing removed\n", "error: sweep probe: no answer\n")
    assert kept(runs) == ALL


@pytest.mark.usefixtures("left")
def test_without_mlflow_nothing_goes(advseg: Command, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from advseg.platform.services.connection import ServicesDownError

    def down(*_: object) -> None:
        raise ServicesDownError("nothing runs here")

    monkeypatch.setattr("advseg.platform.services.connection.connect", down)
    status, _, err = advseg("clean", "--storage", runs)
    assert status == 2
    assert err.startswith("error: sweep probe: the MLflow server of now does not answer")
    assert kept(runs) == ALL


@pytest.mark.usefixtures("left")
def test_what_no_ledger_knows_is_named_and_stays(advseg: Command, runs: Path) -> None:
    for key in ("probe/17", "forgotten/baseline", "alone/single", "alone/local"):
        leave(runs, key)
    _, out, _ = advseg("clean", "--storage", runs)
    assert out.splitlines()[-2:] == [
        "left alone: forgotten/baseline, 30 bytes of checkpoints, which no ledger read here knows",
        "left alone: probe/17, 30 bytes of checkpoints, which no ledger read here knows",
    ]
    assert kept(runs) == ["17", "2", "4", "baseline"]
    assert kept(runs, "forgotten") == ["baseline"]


@pytest.mark.usefixtures("left")
def test_a_storage_that_fails_is_told_with_what_went_before(
    advseg: Command, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = LocalStore.remove

    def fail(store: LocalStore, prefix: str) -> None:
        if store.root.name == "1":
            raise StoreError("on here: the bucket cannot be used: AccessDenied")
        remove(store, prefix)

    monkeypatch.setattr(LocalStore, "remove", fail)
    status, out, err = advseg("clean", "--storage", runs)
    assert status == 2
    assert out.splitlines()[-1] == "30 bytes removed: the checkpoints of 1 training"
    assert err == "error: sweep probe: on here: the bucket cannot be used: AccessDenied\n"


@pytest.mark.usefixtures("left")
def test_an_unknown_sweep_is_refused(advseg: Command, runs: Path) -> None:
    status, _, err = advseg("clean", "prob", "--storage", runs)
    assert (status, err) == (2, "error: there is no sweep prob; known sweeps: probe\n")


def test_sweeps_in_s3_need_the_name_of_their_ledger(advseg: Command) -> None:
    status, _, err = advseg("clean", "--storage", "s3://bucket/runs")
    assert status == 2
    assert err.startswith("error: the ledger of s3://bucket/runs is elsewhere: name it by --ledger")


class TestDriver:
    """At the end of its sweep."""

    @pytest.fixture
    def job(self, spec: Path, tracking: MlflowClient) -> Job:
        return Job(path=spec, tracking_uri=tracking.tracking_uri)

    def test_keeps_those_of_failed_trials_which_may_be_retried(self, job: Job, owned: Ledger, runs: Path) -> None:
        clean_up(job, owned)
        assert kept(runs) == ["2", "3", "4", "baseline"]

    def test_ends_well_though_they_stay(
        self, job: Job, owned: Ledger, runs: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(LocalStore, "remove", full)
        clean_up(job, owned)
        assert kept(runs) == ALL
        assert caplog.messages == [
            "checkpoints that nobody needs stay, until `advseg clean`: [Errno 5] Input/output error"
        ]

    def test_whose_sweep_is_another_process_now_removes_nothing(
        self, job: Job, owned: Ledger, runs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fenced() -> None:
            raise FencedError("it is another's")

        monkeypatch.setattr(owned.ownership, "check", fenced)
        with pytest.raises(FencedError):
            clean_up(job, owned)
        assert kept(runs) == ALL
