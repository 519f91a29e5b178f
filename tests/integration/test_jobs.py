"""Jobs through the Ray Jobs API, as a user would submit them, and what MLflow, ledger and registry hold then."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from finished_sweep import EVERY, STEPS, short_sweep
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from waiting import LIMIT_S, wait_for

from advseg.jobs.confirm import GATE
from advseg.models import load
from advseg.platform.base.keys import CONFIRM, METRIC
from advseg.platform.gate.verdict import Gate, Outcome
from advseg.platform.ledger.reading import read_sweep
from advseg.platform.ledger.rows import best_row
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.tracking.ending import Ending, State
from advseg.platform.tracking.runs import KEY_TAG, REASON_TAG, STATE_TAG, runs_by_key
from advseg.platform.workers.checkpoints import held_checkpoints
from advseg.trainers.checkpoint import CHECKPOINTS, load_scalars, step_of

pytestmark = pytest.mark.cluster


@pytest.fixture
def spec(sweep_document) -> Callable[..., dict[str, Any]]:
    """A sweep of three short trials."""
    return partial(short_sweep, sweep_document)


@pytest.fixture
def submit(advseg, tmp_path: Path) -> Callable[..., str]:
    """Write a spec and submit it; the output of the command."""

    def run(document: dict[str, Any], *options: str, status: int = 0) -> str:
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump(document))
        done = advseg("submit", path, *options, status=status)
        return done.stdout + done.stderr

    return run


def runs_of(client: MlflowClient, name: str) -> dict[str, Run]:
    """All runs of an experiment by key; fails if a key has two."""
    experiment = client.get_experiment_by_name(name)
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    by_key = {run.data.tags[KEY_TAG]: run for run in runs}
    assert len(by_key) == len(runs)
    return by_key


def artifacts_of(client: MlflowClient, run: Run) -> set[str]:
    return {file.path for file in client.list_artifacts(run.info.run_id)}


def test_a_sweep_has_one_run_a_trial_whose_state_is_the_ledgers(finished, cluster, mlflow_client):
    rows = read_sweep(cluster / "runs", finished).rows
    runs = runs_of(mlflow_client, finished)

    assert [row.number for row in rows] == [0, 1, 2]
    trials = {f"{finished}/{trial}" for trial in ("baseline", 0, 1, 2)}
    assert {key for key in runs if CONFIRM not in key} == {finished} | trials
    assert rows[0].params == {
        "method.lambda_adv": 0.01,
        "trainer.segmenter_optimizer.lr": 0.003,
        "trainer.batch_size": 4,
        "trainer.augmentation.mirror": True,
    }
    drawn = rows[2].params
    assert drawn["trainer.batch_size"] in (2, 4, 6)
    assert drawn["trainer.augmentation.mirror"] in (False, True)
    for row in rows:
        run = runs[f"{finished}/{row.number}"]
        assert row.state in ((TrialState.FAIL,) if row.number == 1 else (TrialState.COMPLETE, TrialState.PRUNED))
        assert run.data.tags[STATE_TAG] == row.state.name
        assert run.info.status == Ending(State(row.state.name)).status
        assert run.data.tags["mlflow.parentRunId"] == runs[finished].info.run_id
        assert {key: run.data.params[key] for key in row.params} == {key: str(v) for key, v in row.params.items()}
    assert runs[finished].info.status == runs[f"{finished}/baseline"].info.status == "FINISHED"


def test_a_trial_that_diverged_says_so_and_keeps_its_log(finished, cluster, mlflow_client):
    row = read_sweep(cluster / "runs", finished).rows[1]
    run = runs_of(mlflow_client, finished)[f"{finished}/1"]
    assert "became NaN or infinite at step" in row.reason
    assert (run.info.status, run.data.tags[REASON_TAG]) == ("FAILED", row.reason)
    (log,) = [path for path in artifacts_of(mlflow_client, run) if path == "log.txt"]
    assert "Traceback" in Path(mlflow_client.download_artifacts(run.info.run_id, log)).read_text()


def test_the_ledger_knows_what_each_trial_cost_and_where_it_is(finished, cluster, mlflow_client):
    runs = runs_of(mlflow_client, finished)
    for row in read_sweep(cluster / "runs", finished).rows:
        assert (row.account.attempts, row.account.lost, row.account.lost_steps) == (1, 0, 0)
        assert row.account.device_seconds > 0
        assert row.account.run_id == runs[f"{finished}/{row.number}"].info.run_id
        if row.state is TrialState.COMPLETE:
            assert row.account.checkpoint == f"{finished}/{row.number}/checkpoints/step-{STEPS:08d}"


def test_metrics_arrive_once_a_step_and_equal_the_ledgers(finished, cluster, mlflow_client):
    runs = runs_of(mlflow_client, finished)
    for row in read_sweep(cluster / "runs", finished).rows:
        history = mlflow_client.get_metric_history(runs[f"{finished}/{row.number}"].info.run_id, METRIC)
        assert {point.step: point.value for point in history} == row.curve
        assert len(history) == len(row.curve)


def test_a_trial_tracks_losses_selection_rates_and_classes(finished, cluster, mlflow_client):
    best = best_row(read_sweep(cluster / "runs", finished).rows)
    assert best
    run = runs_of(mlflow_client, finished)[f"{finished}/{best.number}"]
    expected = {"loss/ce", "loss/adv", "loss/semi", "loss/semi_adv", "loss/d", "selected/share"}
    expected |= {"lr/segmenter", "lr/discriminator", "val/miou", "val/iou/background"}
    assert expected <= run.data.metrics.keys()
    assert {"panels", "confusion.png", "classes.png", "log.txt"} <= artifacts_of(mlflow_client, run)


def test_a_sweep_says_what_it_ran_and_a_trial_on_what(finished, cluster, mlflow_client, finished_spec):
    runs = runs_of(mlflow_client, finished)
    sweep, trial = runs[finished], runs[f"{finished}/0"]
    assert {"spec.yaml", "packages.txt"} <= artifacts_of(mlflow_client, sweep)
    logged = yaml.safe_load(Path(mlflow_client.download_artifacts(sweep.info.run_id, "spec.yaml")).read_text())
    assert logged["sweep"]["trials"] == finished_spec["sweep"]["trials"]
    assert "threshold" in logged["method"], "settings that the spec does not name are there, too"
    (given,) = trial.inputs.dataset_inputs
    assert trial.data.tags["advseg.dataset"].startswith(given.dataset.digest)
    assert trial.data.tags["advseg.cpu"]
    assert trial.data.metrics["system/system_memory_usage_megabytes"] > 0


def test_the_baseline_knows_no_discriminator(finished, mlflow_client):
    run = runs_of(mlflow_client, finished)[f"{finished}/baseline"]
    assert {"loss/ce", "lr/segmenter"} <= run.data.metrics.keys()
    assert not {"loss/adv", "loss/d", "loss/semi", "selected/share", "lr/discriminator"} & run.data.metrics.keys()
    assert run.data.params["method.name"] == "supervised"
    assert "method.lambda_adv" not in run.data.params


def test_the_baseline_is_in_the_ledger_with_its_cost_and_run(finished, cluster, mlflow_client):
    row = read_sweep(cluster / "runs", finished).baseline
    run = runs_of(mlflow_client, finished)[f"{finished}/baseline"]
    assert (row.state, row.step) == (TrialState.COMPLETE, STEPS)
    assert row.value == run.data.metrics[METRIC]
    assert (row.account.attempts, row.account.run_id) == (1, run.info.run_id)
    assert row.account.device_seconds > 0
    assert row.account.checkpoint == f"{finished}/baseline/checkpoints/step-{STEPS:08d}"


def test_the_report_of_a_sweep_shows_every_kind_of_parameter(finished, advseg, tmp_path):
    advseg("sweep", "report", finished, "--to", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    for name in ("lambda_adv", "lr", "batch_size", "mirror"):
        assert f"<th>{name}</th>" in text
    shown = json.loads(advseg("sweep", "show", finished, "--json").stdout)
    assert shown["trials"][0]["params"].keys() == {key for trial in shown["trials"] for key in trial["params"]}


def test_the_best_trial_is_champion_because_it_beats_the_baseline_on_fresh_seeds(
    finished, cluster, mlflow_client, advseg, tmp_path
):
    record, runs = read_sweep(cluster / "runs", finished), runs_of(mlflow_client, finished)
    best = record.verdict.best
    assert best and record.gate
    confirmed = {f"{finished}/{CONFIRM}{arm}-s{seed}" for arm in ("baseline", best.number) for seed in (1, 2)}
    assert {f"{finished}/{row.trial}" for row in record.confirmations} == confirmed
    assert {key: runs[key].data.metrics[METRIC] for key in confirmed} == {
        f"{finished}/{row.trial}": row.value for row in record.confirmations
    }
    assert {runs[key].info.status for key in confirmed} == {"FINISHED"}
    assert {runs[key].data.params["trainer.seed"] for key in confirmed} == {"1", "2"}
    gate = Gate.from_json(record.gate)
    assert (gate.outcome, gate.ahead) == (Outcome.PROMOTED, best.number)
    assert mlflow_client.download_artifacts(runs[finished].info.run_id, GATE, str(tmp_path))
    assert Gate.from_json((tmp_path / GATE).read_bytes()) == gate

    advseg("models", "pull", f"{finished}@champion", "--to", tmp_path / "champion")
    card = load(tmp_path / "champion").card
    assert card.lineage["key"] == f"{finished}/{best.number}"
    assert card.metrics[METRIC] == best.value


def test_the_baselines_model_can_be_pulled_and_predicts(finished, advseg, tiny_shapes, tmp_path):
    advseg("models", "pull", f"{finished}/baseline", "--to", tmp_path / "model")
    advseg("predict", tmp_path / "model", tiny_shapes / "JPEGImages" / "shapes_00032.jpg", "--to", tmp_path / "masks")
    assert [file.name for file in (tmp_path / "masks").iterdir()] == ["shapes_00032.png"]
    assert json.loads((tmp_path / "model" / "model.json").read_text())["lineage"]["key"] == f"{finished}/baseline"


def test_a_finished_sweep_keeps_the_checkpoints_of_complete_trials_and_of_failed_ones_until_it_is_cleaned(
    finished, cluster, advseg
):
    storage, record = LocalStore(cluster / "runs"), read_sweep(cluster / "runs", finished)
    complete = {f"{finished}/{row.number}" for row in record.rows if row.state is TrialState.COMPLETE}
    failed = {f"{finished}/{row.number}" for row in record.rows if row.state is TrialState.FAIL}
    assert record.confirmations

    assert complete | {f"{finished}/baseline"} <= (held := held_checkpoints(storage, finished).keys())
    assert held <= complete | failed | {f"{finished}/baseline"}
    for key in complete:
        path = cluster / "runs" / key / CHECKPOINTS
        steps = {step_of(checkpoint.name) for checkpoint in path.iterdir()}
        assert steps == {load_scalars(path / f"step-{STEPS:08d}")["best_step"], STEPS}

    advseg("clean", finished)
    assert held_checkpoints(storage, finished).keys() == complete | {f"{finished}/baseline"}


@pytest.mark.parametrize("model", ["models:/finished@champion", "finished/baseline"])
def test_what_ray_trained_is_reproduced_to_the_bit_without_it(finished, advseg, tmp_path, model):
    # The baseline had two workers, and has two processes here.
    done = advseg("reproduce", model, "--to", tmp_path / "again", "--json")
    found = json.loads(done.stdout)
    assert (found["reproduced"], found["environment"], found["unknown"]) == (True, {}, [])
    assert found["metrics"][METRIC]["recorded"] == found["metrics"][METRIC]["here"]
    assert len(found["weights"]) == (1 if model.endswith("baseline") else 2)


def test_submitting_a_finished_sweep_again_trains_nothing(finished, finished_spec, cluster, submit, mlflow_client):
    record, runs = read_sweep(cluster / "runs", finished), runs_of(mlflow_client, finished)

    assert "job finished-2 ended: SUCCEEDED" in submit(finished_spec, "--follow")

    again = read_sweep(cluster / "runs", finished)
    assert (again.rows, again.confirmations, again.gate) == (record.rows, record.confirmations, record.gate)
    again = runs_of(mlflow_client, finished)
    assert {key: run.info.run_id for key, run in again.items()} == {key: run.info.run_id for key, run in runs.items()}
    assert {run.info.status for run in again.values()} <= {"FINISHED", "KILLED", "FAILED"}


def follow_until(cluster: Path, document: dict[str, Any], path: Path, line: str) -> tuple[int, str]:
    """Submit and follow a job, press Ctrl-C once a line has been printed; exit status and whole output."""
    path.write_text(yaml.safe_dump(document))
    process = subprocess.Popen(
        [sys.executable, "-m", "advseg.jobs.cli", "submit", str(path), "--follow"],
        env={**os.environ, "ADVSEG_HOME": str(cluster)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    output = ""
    try:
        for printed in process.stdout:
            output += printed
            if line in printed:
                process.send_signal(signal.SIGINT)
                break
        output += process.stdout.read()
        return process.wait(timeout=LIMIT_S), output
    finally:
        process.kill()
        process.stdout.close()


def test_a_sweep_of_two_workers_a_trial_that_was_detached_from_and_stopped_is_resumed(
    cluster, spec, submit, advseg, orders, mlflow_client, tmp_path
):
    document = spec("stopped", resources={"workers": 2})
    document["sweep"] |= {"trials": 1, "baseline_workers": 1}

    line = f"{'stopped/0':<20}  step     {EVERY}/{STEPS}"
    with orders.held("stopped/0", step=EVERY + 1):
        status, output = follow_until(cluster, document, tmp_path / "stopped.yaml", line)
        assert status == 0
        assert "1 trial, 1 at a time" in output
        assert (
            "detached; job stopped-1 goes on: `advseg job follow stopped-1` shows it, `advseg job stop stopped-1`"
            in output
        )
        advseg("sweep", "stop", "stopped")

    statuses = {key: run.info.status for key, run in runs_of(mlflow_client, "stopped").items()}
    assert statuses.pop("stopped/baseline") == "FINISHED"
    assert set(statuses.values()) == {"KILLED"}
    assert {row.state for row in read_sweep(cluster / "runs", "stopped").rows} == {TrialState.RUNNING}

    assert "job stopped-2 submitted" in advseg("sweep", "resume", "stopped").stdout
    again = submit(document, "--follow")
    assert "job stopped-2 runs already" in again
    assert "job stopped-2 ended: SUCCEEDED" in again
    assert {row.state for row in read_sweep(cluster / "runs", "stopped").rows} == {TrialState.COMPLETE}
    runs = runs_of(mlflow_client, "stopped")
    assert len(runs) == 3
    history = mlflow_client.get_metric_history(runs["stopped/0"].info.run_id, METRIC)
    assert [point.step for point in history] == list(range(EVERY, STEPS + 1, EVERY))


def test_a_single_training_on_ray_train_is_stopped_and_goes_on_and_keeps_its_model(
    cluster, spec, submit, advseg, orders, mlflow_client, tmp_path
):
    document = spec("single", job="train")
    del document["sweep"]
    with orders.held("single/single", step=EVERY + 1):
        submit(document)
        wait_for(lambda: any(run.data.metrics for run in runs_by_key(mlflow_client, "single").values()))
        advseg("job", "stop", "single")
        run = runs_of(mlflow_client, "single")["single/single"]
        assert (run.info.status, run.data.tags[STATE_TAG]) == ("KILLED", "STOPPED")
        assert run.data.tags[REASON_TAG] == "stopped from outside"

    output = submit(document, "--follow")
    assert "training on 1 Ray Train worker\n" in output
    assert "resumed from " in (cluster / "runs/single/single/log.txt").read_text()
    assert "the model is in MLflow: `advseg models pull single/single --to DIR` downloads it" in output
    assert runs_of(mlflow_client, "single")["single/single"].info.status == "FINISHED"
    advseg("models", "pull", "single/single", "--to", tmp_path / "model")
    assert load(tmp_path / "model").discriminator is not None


@pytest.mark.chaos  # Each part is tested without Ray: a baseline that diverges, a driver's exit status, who follows it.
def test_a_failing_job_says_why_and_leaves_no_run_running(spec, submit, mlflow_client):
    document = spec("failing")
    document["sweep"]["baseline_workers"] = 1
    document["trainer"]["segmenter_optimizer"]["lr"] = 1e30
    output = submit(document, "--follow", status=1)
    assert "became NaN or infinite at step" in output
    assert {run.info.status for run in runs_of(mlflow_client, "failing").values()} == {"FAILED"}
