"""A training as a task, in this process."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from advseg.models.architectures import CompactSettings, build_segmenter
from advseg.platform.execute import LOG, run_task
from advseg.platform.runs import sweep_identity, trial_identity
from advseg.platform.task import Task
from advseg.platform.tracking import ensure_run, find_run
from advseg.trainers.data.shapes import CLASSES, ShapesSettings, write_shapes
from advseg.trainers.distributed import World
from advseg.trainers.errors import UserError
from advseg.trainers.profiling import PHASES, STEPS, TRACE, WAIT
from advseg.trainers.reporter import RecordingReporter


@pytest.fixture
def task(document, make_spec, client, tmp_path: Path) -> Task:
    """A trial of one step from start weights."""
    write_shapes(tmp_path / "shapes", ShapesSettings(labelled=4, unlabelled=4, val=2, test=1, size=16))
    torch.save(build_segmenter(CompactSettings(width=8), 6).state_dict(), tmp_path / "start.pth")
    document["dataset"] = {"root": "shapes", "classes": list(CLASSES)}
    spec = make_spec("trainer.steps=1", f"model.weights={tmp_path / 'start.pth'}")
    document = spec.model_dump(mode="json")
    ensure_run(client, sweep_identity(document))
    return Task(
        spec=document,
        storage=tmp_path / "runs",
        tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        identity=trial_identity(document, 0),
    )


def test_the_log_of_a_run_says_what_it_starts_from(task: Task) -> None:
    run_task(task, RecordingReporter(), world=World(), device=torch.device("cpu"))

    lines = (task.directory / LOG).read_text().splitlines()
    assert [line for line in lines if line.endswith("start.pth: 37 of 37 tensors matched (17,912 values)")]


def test_a_profiled_run_keeps_its_trace_as_artifacts(task: Task, client) -> None:
    trainer = {**task.spec["trainer"], "steps": WAIT + STEPS}
    profiled = replace(task, spec={**task.spec, "trainer": trainer, "profile": True})

    run_task(profiled, RecordingReporter(), world=World(), device=torch.device("cpu"))

    run_id = find_run(client, task.identity.experiment, task.key)
    assert run_id
    assert {TRACE, PHASES} <= {artifact.path for artifact in client.list_artifacts(run_id)}


def test_weights_that_do_not_fit_are_the_users_to_mend(task: Task) -> None:
    wider = replace(task, spec={**task.spec, "model": {**task.spec["model"], "width": 16}})

    with pytest.raises(UserError, match="do not fit the body of compact"):
        run_task(wider, RecordingReporter(), world=World(), device=torch.device("cpu"))
