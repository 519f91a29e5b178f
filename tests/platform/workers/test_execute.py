"""A training as a task, in this process."""

import errno
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from advseg.models.architectures import CompactSettings, build_segmenter
from advseg.platform.base import draining
from advseg.platform.base.code_digest import CODE
from advseg.platform.spec.spec import Spec, spec_from
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.tracking.identity import sweep_identity, trial_identity
from advseg.platform.tracking.runs import STATE_TAG, ensure_run, find_run
from advseg.platform.tracking.spool import Spool
from advseg.platform.workers import execute, preemption
from advseg.platform.workers.execute import LOG, run_task
from advseg.platform.workers.heartbeat import Beat, read_beat
from advseg.platform.workers.lease import FOLDER, Attempt, Lease, holder_of
from advseg.platform.workers.retry import Kind
from advseg.platform.workers.task import ACCUMULATION_TAG, METRICS, Task
from advseg.trainers import evaluate as evaluating
from advseg.trainers import saved
from advseg.trainers.checkpoint import CHECKPOINTS, newest_sealed
from advseg.trainers.data import readings
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.shapes import CLASSES, ShapesSettings, write_shapes
from advseg.trainers.distributed import World
from advseg.trainers.errors import (
    BrokenEnvironmentError,
    FencedError,
    ForeignCheckpointError,
    NonFiniteLossError,
    PreemptedError,
    UserError,
)
from advseg.trainers.evaluate import Evaluation
from advseg.trainers.loop import Training
from advseg.trainers.metrics import confusion
from advseg.trainers.pictures.report import CLASS_BARS, CONFUSION, PANELS
from advseg.trainers.profiling import PHASES, STEPS, TRACE, WAIT
from advseg.trainers.progress import ticks
from advseg.trainers.reporter import IMAGES, MEMORY, WAITING, Report


@pytest.fixture
def task(document: dict[str, Any], make_spec: Callable[..., Spec], client: MlflowClient, tmp_path: Path) -> Task:
    """A trial of one step from start weights."""
    write_shapes(tmp_path / "shapes", ShapesSettings(labelled=4, unlabelled=4, val=2, test=1, size=16))
    torch.save(build_segmenter(CompactSettings(width=8), 6).state_dict(), tmp_path / "start.pth")
    document["dataset"] = {"root": "shapes", "classes": list(CLASSES)}
    spec = make_spec("trainer.steps=1", f"model.weights={tmp_path / 'start.pth'}")
    document = spec.model_dump(mode="json")
    ensure_run(client, sweep_identity(document))
    return Task(
        spec=document,
        store=LocalStore(tmp_path / "runs"),
        tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        identity=trial_identity(document, 0),
    )


def with_trainer(task: Task, **trainer: object) -> Task:
    return replace(task, spec={**task.spec, "trainer": {**task.spec["trainer"], **trainer}})


@pytest.fixture
def long(task: Task) -> Task:
    """A trial of four steps, each reported."""
    return with_trainer(task, steps=4, evaluate_every=1)


def running(task: Task) -> Generator[Report]:
    return run_task(task, world=World())


def run(task: Task) -> list[int]:
    """The steps that it reports, to its end."""
    return [report.step for report in running(task)]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def run_of(client: MlflowClient, task: Task) -> Run:
    run_id = find_run(client, task.identity.experiment, task.key)
    assert run_id
    return client.get_run(run_id)


def is_open(client: MlflowClient, task: Task) -> bool:
    """Whether its run has not ended: its driver does that."""
    run = run_of(client, task)
    return (run.info.status, STATE_TAG in run.data.tags) == ("RUNNING", False)


def history(client: MlflowClient, task: Task) -> list[int]:
    return [metric.step for metric in client.get_metric_history(run_of(client, task).info.run_id, "val/miou")]


def saved_step(task: Task) -> int:
    sealed = newest_sealed(task.own.folder / CHECKPOINTS)
    return sealed[0] if sealed else 0


def beat_of(task: Task) -> Beat:
    beat = read_beat(task.own)
    assert beat
    return beat


def test_the_log_of_a_run_says_what_it_starts_from(task: Task) -> None:
    run(task)

    lines = (task.own.folder / LOG).read_text().splitlines()
    assert [line for line in lines if line.endswith("start.pth: 37 of 37 tensors matched (17,912 values)")]


def test_the_log_of_a_run_says_that_its_worker_imports_other_code_than_was_sent(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CODE, "0" * 64)
    run(task)
    assert (task.own.folder / LOG).read_text().count("imports other code of advseg") == 1


def test_a_profiled_run_keeps_its_trace_as_artifacts(task: Task, client: MlflowClient) -> None:
    longer = with_trainer(task, steps=WAIT + STEPS)
    profiled = replace(longer, spec={**longer.spec, "profile": True})

    run(profiled)

    artifacts = client.list_artifacts(run_of(client, task).info.run_id)
    assert {TRACE, PHASES} <= {artifact.path for artifact in artifacts}


def test_a_run_keeps_a_panel_of_each_report_and_pictures_of_the_newest_evaluation(
    long: Task, client: MlflowClient
) -> None:
    run(long)

    run_id = run_of(client, long).info.run_id
    assert {CONFUSION, CLASS_BARS} <= {artifact.path for artifact in client.list_artifacts(run_id)}
    panels = [artifact.path for artifact in client.list_artifacts(run_id, PANELS)]
    assert sorted(panels) == [f"{PANELS}/step-{step:08d}.png" for step in (1, 2, 3, 4)]


def test_weights_that_do_not_fit_are_the_users_to_mend(task: Task, client: MlflowClient) -> None:
    wider = replace(task, spec={**task.spec, "model": {**task.spec["model"], "width": 16}})

    with pytest.raises(UserError, match="do not fit the body of compact"):
        run(wider)

    failure = beat_of(wider).failure
    assert failure and "do not fit the body of compact" in str(failure)
    assert is_open(client, wider)


class TestRun:
    def test_holds_all_that_was_reported_and_is_left_to_the_driver(self, long: Task, client: MlflowClient) -> None:
        assert run(long) == [1, 2, 3, 4]
        assert is_open(client, long)
        assert history(client, long) == [1, 2, 3, 4]
        metrics = run_of(client, long).data.metrics
        assert {IMAGES, WAITING, MEMORY} < metrics.keys()
        assert beat_of(long).images_per_second == metrics[IMAGES]

    def test_is_left_to_the_driver_also_if_it_is_asked_for_no_more_reports(
        self, long: Task, client: MlflowClient
    ) -> None:
        with closing(running(long)) as reports:
            next(reports)
        assert is_open(client, long)
        assert history(client, long) == [1]
        assert beat_of(long).failure is None

    def test_whose_training_broke_has_its_log(self, long: Task, client: MlflowClient) -> None:
        diverging = with_trainer(long, evaluate_every=4, segmenter_optimizer={"name": "sgd", "lr": 1e30})
        with pytest.raises(NonFiniteLossError):
            run(diverging)
        failure = beat_of(long).failure
        assert failure and failure.kind is Kind.DIVERGED
        assert is_open(client, long)
        assert "NonFiniteLossError" in (long.own.folder / LOG).read_text()
        artifacts = client.list_artifacts(run_of(client, long).info.run_id)
        assert LOG in {artifact.path for artifact in artifacts}

    def test_goes_on_where_it_was_stopped(self, long: Task, client: MlflowClient) -> None:
        with closing(running(long)) as reports:
            # A step is saved when the next report is asked for.
            assert [next(reports).step for _ in range(2)] == [1, 2]
        assert run(replace(long, attempt=Attempt(number=2))) == [2, 3, 4]
        assert history(client, long) == [1, 2, 3, 4]

    def test_of_a_point_that_makes_no_spec_says_what_is_wrong(self, long: Task) -> None:
        with pytest.raises(UserError, match="accumulation must divide batch_size, but is 3 and batch_size 4"):
            run(with_trainer(long, accumulation=3))


class TestHeartbeat:
    def test_ends_with_the_last_step_and_names_the_run(self, long: Task, client: MlflowClient) -> None:
        run(replace(long, attempt=Attempt(epoch=2, number=3)))
        beat = beat_of(long)
        assert (beat.epoch, beat.attempt, beat.step, beat.failure) == (2, 3, 4, None)
        assert beat.run_id == run_of(client, long).info.run_id

    def test_is_as_new_as_the_report_that_the_driver_hears(self, long: Task, client: MlflowClient) -> None:
        with closing(running(long)) as reports:
            for report in reports:
                beat = read_beat(long.own)
                assert beat
                assert beat.step == report.step
                assert beat.seconds > 0

    def test_is_there_before_the_training_is_built(self, long: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        steps: list[int] = []

        def slow(*_: object) -> None:
            steps.append(beat_of(long).step)
            raise UserError("it was slow")

        monkeypatch.setattr("advseg.platform.workers.execute.open_dataset", slow)
        with pytest.raises(UserError):
            run(long)
        assert steps == [0]

    @pytest.mark.parametrize("ends", [True, False], ids=["at its end", "when it is stopped"])
    def test_stops_with_the_training(self, long: Task, ends: bool) -> None:
        with closing(running(long)) as reports:
            for _ in reports if ends else [next(reports)]:
                pass
        (long.own.folder / "heartbeat.json").unlink()
        with pytest.raises(StopIteration):
            next(reports)
        assert read_beat(long.own) is None


class TestLease:
    def test_of_a_newer_attempt_keeps_an_older_one_from_the_directory(self, long: Task, client: MlflowClient) -> None:
        Lease(long.own, Attempt(epoch=1, number=2)).take()
        with pytest.raises(FencedError, match="belongs to attempt 2 of epoch 1 now"):
            run(replace(long, attempt=Attempt(epoch=1, number=1)))
        assert [path.name for path in long.own.folder.iterdir()] == [FOLDER]
        assert find_run(client, "probe", long.key) is None

    def test_clears_away_what_killed_attempts_left_half_written(self, long: Task) -> None:
        for name in (f"{CHECKPOINTS}/.step-00000001.there-1.partial/new/a", ".heartbeat.json.1.partial"):
            left = long.own.folder / name
            left.parent.mkdir(parents=True, exist_ok=True)
            left.touch()
        run(long)
        assert not list(long.own.folder.rglob(".*"))

    def test_that_is_taken_meanwhile_lets_nothing_more_be_written(self, long: Task, client: MlflowClient) -> None:
        reports = running(long)
        next(reports)
        Lease(long.own, Attempt(number=2)).take()
        with pytest.raises(FencedError):
            next(reports)
        # Not even the checkpoint of the step that was reported.
        assert saved_step(long) == 0
        assert not list(long.own.folder.glob(f"{CHECKPOINTS}/*"))

    def test_that_is_taken_before_a_report_keeps_it_from_mlflow(
        self, long: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        evaluate = Training.evaluate

        def taken_over(training: Training) -> Evaluation:
            if training.step == 2:
                Lease(long.own, Attempt(number=2)).take()
            return evaluate(training)

        monkeypatch.setattr(Training, "evaluate", taken_over)
        with pytest.raises(FencedError):
            run(long)
        assert [record["step"] for record in Spool(long.own.folder / METRICS).records()] == [1]

    def test_that_is_taken_leaves_the_run_to_the_newer_attempt(self, long: Task, client: MlflowClient) -> None:
        reports = running(long)
        assert next(reports).step == 1
        newer = replace(long, attempt=Attempt(number=2))
        with closing(running(newer)) as other:
            next(other)
            with pytest.raises(FencedError):
                next(reports)
            assert run_of(client, long).info.status == "RUNNING"
            assert [report.step for report in other] == [2, 3, 4]
        assert history(client, long) == [1, 2, 3, 4]
        assert holder_of(long.own) == Attempt(number=2)


class TestPreemption:
    @pytest.fixture
    def rare(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> Task:
        """A trial of six steps, which reports every third and is asked to stop once, after the fourth."""
        answers = iter([False, False, False, True])
        monkeypatch.setattr(execute._Guard, "asked_to_stop", lambda guard: next(answers, False))
        return with_trainer(task, steps=6, evaluate_every=3)

    def test_saves_the_step_says_so_and_leaves_the_run_open(self, rare: Task, client: MlflowClient) -> None:
        reports = running(rare)
        assert next(reports).step == 3
        wait_until(lambda: Spool(rare.own.folder / METRICS).unsent() == [])
        with pytest.raises(PreemptedError, match="asked to stop, and saved at step 4"):
            next(reports)
        assert saved_step(rare) == 4
        failure = beat_of(rare).failure
        assert failure and (failure.kind, beat_of(rare).step) == (Kind.PREEMPTED, 4)
        assert is_open(client, rare)

    def test_is_no_end(self, rare: Task, client: MlflowClient) -> None:
        with pytest.raises(PreemptedError):
            run(rare)
        assert run(replace(rare, attempt=Attempt(number=2))) == [6]
        assert history(client, rare) == [3, 6]
        assert beat_of(rare).failure is None

    @pytest.mark.parametrize("nodes", [{"node": "w1"}, {"node": "w2", "controller": "w1"}])
    def test_comes_of_a_node_that_drains(
        self, long: Task, nodes: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(draining.state, "get_draining_nodes", lambda: {"w1": 0})
        reports = run_task(long, world=World(), **nodes)
        next(reports)
        wait_until(preemption.asked_to_stop)
        with pytest.raises(PreemptedError, match="asked to stop, and saved at step 1"):
            next(reports)


class TestHalving:
    def test_goes_on_from_the_checkpoint_of_the_whole_batch_and_is_told_by_the_run(
        self, long: Task, client: MlflowClient
    ) -> None:
        with closing(running(long)) as reports:
            for _ in range(3):
                next(reports)
        halved = replace(long.halved(), attempt=Attempt(number=2))
        assert halved.spec["trainer"]["accumulation"] == 2
        assert run(halved) == [3, 4]
        assert beat_of(long).halvings == 1
        tags = run_of(client, long).data.tags
        assert tags[ACCUMULATION_TAG] == "2, after a worker ran out of memory with 1"

    def test_is_no_licence_to_divide_batches_otherwise(self, long: Task) -> None:
        with closing(running(long)) as reports:
            for _ in range(3):
                next(reports)
        with pytest.raises(ForeignCheckpointError, match=r"trainer\.accumulation is 2, but the checkpoint has 1"):
            run(replace(with_trainer(long, accumulation=2), attempt=Attempt(number=2)))


class TestEnvironment:
    def test_is_to_blame_for_data_that_changed_since_the_sweep_began(self, task: Task) -> None:
        digest = "d" * 64
        with pytest.raises(BrokenEnvironmentError, match=f"on {socket.gethostname()}: dataset .* has digest") as caught:
            run(replace(task, dataset=digest))
        assert f"but probe/0 is to train on {digest[:12]}" in str(caught.value)
        failure = beat_of(task).failure
        assert failure and failure.kind is Kind.ENVIRONMENT

    def test_of_data_that_did_not_change_is_sound(self, task: Task) -> None:
        dataset = open_dataset(spec_from(task.spec).dataset)
        assert run(replace(task, dataset=dataset.digest)) == [1]

    def test_is_to_blame_for_start_weights_that_are_gone(self, task: Task) -> None:
        Path(task.spec["model"]["weights"]).unlink()
        with pytest.raises(BrokenEnvironmentError, match=r"start\.pth"):
            run(task)

    def test_is_to_blame_for_a_gpu_that_is_asked_for_and_not_there(
        self, task: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
        resources = {**task.spec["resources"], "gpus_per_worker": 1}
        with pytest.raises(BrokenEnvironmentError, match="with CUDA_VISIBLE_DEVICES 7"):
            run(replace(task, spec={**task.spec, "resources": resources}))

    def test_is_to_blame_for_a_disk_on_which_nothing_can_be_saved(
        self, task: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(saved, "save_checkpoint", full)
        with pytest.raises(BrokenEnvironmentError, match="No space left on device"):
            run(task)


def test_without_a_gpu_of_its_own_it_trains_on_the_cpu_though_one_is_visible(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert run(task) == [1]


def test_a_heartbeat_moves_while_a_training_opens_its_data_and_evaluates(
    long: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(readings, "is_there", lambda path: (seen.append(ticks()), path.is_file())[1])
    monkeypatch.setattr(evaluating, "confusion", lambda *parts: (seen.append(ticks()), confusion(*parts))[1])
    run(long)
    assert len(set(seen)) > 4
    assert beat_of(long).progress >= max(seen)
