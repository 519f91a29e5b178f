"""What a spool holds reaches its run, under names that MLflow takes; what it refuses costs nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.tracking import MlflowClient

from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.names import escaped
from advseg.platform.tracking.runs import ensure_run
from advseg.platform.tracking.sending import Sender, log_params
from advseg.platform.tracking.spool import Spool, read_records

CLASSES = ["road", "driver's cab", "R&D", "road (wet)", "c++", "日本", "a//b", "../up", "tree/", "x\ny", "50% wet"]


@pytest.fixture
def run_id(client: MlflowClient) -> str:
    return ensure_run(client, RunIdentity(experiment="probe", key="probe"))


@pytest.fixture
def spooled(tmp_path: Path) -> Callable[..., Spool]:
    """A spool with the same metrics at each step."""

    def spooled(*steps: int, **metrics: float) -> Spool:
        spool = Spool(tmp_path / "metrics.jsonl")
        for step in steps:
            spool.append({"step": step, "timestamp": 1000 + step, "metrics": metrics})
        return spool

    return spooled


def history(client: MlflowClient, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, escaped(name))]


def test_metrics_of_any_classes_arrive(client: MlflowClient, run_id: str, spooled: Callable[..., Spool]) -> None:
    metrics = {f"val/iou/{name}": float(number) for number, name in enumerate(CLASSES)}
    spool = spooled(1, 2, **metrics)
    Sender(client, run_id, "probe").send(spool)
    assert {name: history(client, run_id, name) for name in metrics} == {
        name: [(1, value), (2, value)] for name, value in metrics.items()
    }
    assert spool.unsent() == []


def test_the_spool_keeps_the_names_as_they_are(
    client: MlflowClient, run_id: str, spooled: Callable[..., Spool], tmp_path: Path
) -> None:
    Sender(client, run_id, "probe").send(spooled(1, **{"val/iou/c++": 1.0}))
    assert [record["metrics"] for record in read_records(tmp_path / "metrics.jsonl")] == [{"val/iou/c++": 1.0}]


def test_a_metric_that_is_refused_costs_no_other_and_is_told_once(
    client: MlflowClient, run_id: str, spooled: Callable[..., Spool], caplog: pytest.LogCaptureFixture
) -> None:
    """No name is as long."""
    long = "val/iou/" + "n" * 300
    others = {f"m{number}": 1.0 for number in range(50)}
    spool = spooled(1, 2, **others, **{long: 2.0}, **{"z": 3.0})
    sender = Sender(client, run_id, "probe/0")
    sender.send(spool)
    spooled(3, **others, **{long: 2.0})
    sender.send(spool)
    assert {name: len(history(client, run_id, name)) for name in others} == dict.fromkeys(others, 3)
    assert history(client, run_id, "z") == [(1, 3.0), (2, 3.0)]
    assert spool.unsent() == []
    (message,) = caplog.messages
    assert message.startswith(f"MLflow refuses metric {long} of probe/0, which goes without: ")


def test_a_run_that_was_deleted_loses_nothing(
    client: MlflowClient, run_id: str, spooled: Callable[..., Spool], caplog: pytest.LogCaptureFixture
) -> None:
    spool = spooled(1, 2, a=1.0, b=2.0)
    client.delete_run(run_id)
    with pytest.raises(MlflowException, match="active"):
        Sender(client, run_id, "probe").send(spool)
    assert len(spool.unsent()) == 2
    assert caplog.messages == []


def test_who_may_not_write_at_all_is_not_asked_for_each_metric(
    client: MlflowClient, run_id: str, spooled: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def refuse(*_: Any, **batch: Any) -> None:
        asked.append(batch)
        raise MlflowException("read only", error_code=PERMISSION_DENIED)

    monkeypatch.setattr(client, "log_batch", refuse)
    with pytest.raises(MlflowException, match="read only"):
        Sender(client, run_id, "probe").send(spooled(1, a=1.0, b=2.0))
    assert len(asked) == 1


def test_a_run_goes_without_parameters_and_tags_that_are_refused(
    client: MlflowClient, run_id: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a server refuses a long value that cuts none off."""
    monkeypatch.setenv("MLFLOW_TRUNCATE_LONG_VALUES", "false")
    params = [Param("steps", "8"), Param("classes", "c" * 7000), Param("width", "4")]
    log_params(client, run_id, params, [RunTag("long", "t" * 9000), RunTag("short", "t")])
    data = client.get_run(run_id).data
    assert data.params == {"steps": "8", "width": "4"}
    assert data.tags["short"] == "t"
    assert [message.split(" of run ")[0] for message in caplog.messages] == [
        "MLflow refuses classes",
        "MLflow refuses long",
    ]
