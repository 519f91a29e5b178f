"""Names that another's sweep or training has in MLflow already are refused before a job begins anything."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import yaml
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from advseg.jobs import sweep as sweep_job
from advseg.jobs import train_on_ray
from advseg.platform.cluster.driver import Job
from advseg.platform.ledger.reading import sweep_names
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import KEY_TAG, ensure_run, refuse_another
from advseg.trainers.errors import UserError

ANOTHERS = "a" * 32


@pytest.fixture
def job(tmp_path: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """A job of a cluster of one node, that has all it needs."""
    node = {"NodeID": "n", "NodeManagerHostname": "here", "NodeManagerAddress": "127.0.0.1", "Alive": True}
    monkeypatch.setattr(ray, "nodes", lambda: [{**node, "Resources": {"CPU": 8.0}, "Labels": {}}])
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "n"))
    monkeypatch.setattr(sweep_job, "digest_of", lambda _: "d" * 64)
    (tmp_path / "data").mkdir()

    def job(**sections: Any) -> Job:
        path = tmp_path / "spec.yaml"
        document = {
            "name": "probe",
            "storage": str(tmp_path / "runs"),
            "dataset": {"root": str(tmp_path / "data"), "classes": ["background", "thing"]},
            "model": {"architecture": "compact"},
            "method": {"name": "adversarial", "semi_start": 0},
            "trainer": {"steps": 8, "batch_size": 4, "augmentation": {"crop": [32, 32]}},
            "resources": {"workers": 1},
            **sections,
        }
        path.write_text(yaml.safe_dump(document))
        return Job(path=path, tracking_uri=client.tracking_uri)

    return job


def runs(client: MlflowClient) -> list[dict[str, Any]]:
    experiment = client.get_experiment_by_name("probe")
    assert experiment
    return [run.to_dictionary() for run in client.search_runs([experiment.experiment_id])]


def test_a_sweep_of_anothers_name_leaves_no_trace(
    job: Callable[..., Job], client: MlflowClient, tmp_path: Path
) -> None:
    ensure_run(client, RunIdentity(experiment="probe", key="probe", id=ANOTHERS))
    before = runs(client)
    space = {"method.lambda_adv": {"low": 0.001, "high": 1, "log": True}}
    with pytest.raises(UserError, match=r"holds probe of another ledger .* --set name=probe-2"):
        sweep_job.sweep(job(job="sweep", sweep={"trials": 2, "space": space}))
    assert runs(client) == before
    assert sweep_names(tmp_path / "runs") == []


def test_a_training_of_anothers_name_is_refused_before_it_trains(
    job: Callable[..., Job], client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_run(client, RunIdentity(experiment="probe", key="probe/single", id=ANOTHERS))
    before = runs(client)
    monkeypatch.setattr(train_on_ray, "follow_on_workers", lambda *_: pytest.fail("it trained"))
    with pytest.raises(UserError, match=r"holds probe/single of another ledger or storage"):
        train_on_ray.train(job(job="train"))
    assert runs(client) == before


def test_a_training_does_not_wait_for_mlflow(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class TrainedError(Exception):
        pass

    def away(*_: Any) -> None:
        raise MlflowException("no answer")

    def train(task: Any, *_: Any) -> None:
        raise TrainedError(task.identity.id)

    monkeypatch.setattr("advseg.platform.tracking.runs.refuse_another", away)
    monkeypatch.setattr(train_on_ray, "follow_on_workers", train)
    ids = []
    for _ in range(2):
        with pytest.raises(TrainedError) as trained:
            train_on_ray.train(job(job="train"))
        ids.append(str(trained.value))
    assert ids[0] == ids[1] != ""
    assert "MLflow does not say whether probe/single is another's: no answer" in caplog.text


def test_a_training_of_more_steps_than_before_is_a_run_of_its_own(
    job: Callable[..., Job], client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[str] = []

    def train(task: Any, *_: Any) -> None:
        trained.append(ensure_run(client, task.identity))
        raise RuntimeError("trained")

    monkeypatch.setattr(train_on_ray, "follow_on_workers", train)
    document = {"batch_size": 4, "augmentation": {"crop": [32, 32]}}
    for steps in (8, 8, 12, 12):
        with pytest.raises(RuntimeError, match="trained"):
            train_on_ray.train(job(job="train", trainer={**document, "steps": steps}))
    assert trained[0] == trained[1] != trained[2] == trained[3]
    assert client.get_run(trained[0]).data.tags[KEY_TAG] == client.get_run(trained[0]).info.run_name == "probe/single-8"
    assert client.get_run(trained[2]).data.params["trainer.steps"] == "12"
    assert capsys.readouterr().out.count("goes on from probe/single-8 to step 12, as a run of its own") == 1


def test_a_training_goes_on_beside_a_sweep_of_its_name(job: Callable[..., Job], client: MlflowClient) -> None:
    ensure_run(client, RunIdentity(experiment="probe", key="probe", id=ANOTHERS))
    ensure_run(client, RunIdentity(experiment="probe", key="probe/0", id=ANOTHERS, parent="probe"))
    refuse_another(client, RunIdentity(experiment="probe", key="probe/single", id="b" * 32))
