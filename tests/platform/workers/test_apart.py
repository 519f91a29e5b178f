"""A training on a machine that has no folder in common with others: what lasts is in S3."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient

from advseg.models import load
from advseg.models.manifest import BrokenDirectoryError
from advseg.platform.spec.spec import Spec, spec_from, with_values
from advseg.platform.storage.opening import open_store
from advseg.platform.storage.s3_store import S3Store
from advseg.platform.storage.store import Store
from advseg.platform.tracking.ending import Ending, State
from advseg.platform.tracking.identity import sweep_identity, trial_identity
from advseg.platform.tracking.runs import ensure_run, run_of
from advseg.platform.tracking.spool import kept_records
from advseg.platform.workers.checkpoints import checksum_of, newest_sealed, sealed_checkpoints
from advseg.platform.workers.execute import run_task
from advseg.platform.workers.heartbeat import Heart, beat_of, read_beat
from advseg.platform.workers.lease import Attempt, Lease
from advseg.platform.workers.settle import settle
from advseg.platform.workers.task import METRICS, Task
from advseg.platform.workers.workplace import workplace
from advseg.trainers.checkpoint import load_checkpoint
from advseg.trainers.data import packing
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.packing import write_pack
from advseg.trainers.data.shapes import CLASSES, ShapesSettings, write_shapes
from advseg.trainers.distributed import World
from advseg.trainers.errors import BrokenEnvironmentError, FencedError
from advseg.trainers.evaluate import Evaluation
from advseg.trainers.loop import Training
from advseg.trainers.pictures.report import PANELS


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scratch of this machine."""
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    return scratch


@pytest.fixture
def make_task(
    document: dict[str, Any], make_spec: Callable[..., Spec], client: MlflowClient, tmp_path: Path
) -> Callable[[Store], Task]:
    """Makes a trial of four steps, each reported, in a store."""
    write_shapes(tmp_path / "shapes", ShapesSettings(labelled=4, unlabelled=4, val=2, test=1, size=16))
    document["dataset"] = {"root": "shapes", "classes": list(CLASSES)}
    spec = make_spec("trainer.steps=4", "trainer.evaluate_every=1").model_dump(mode="json")
    ensure_run(client, sweep_identity(spec))
    tracking_uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return lambda store: Task(spec=spec, store=store, tracking_uri=tracking_uri, identity=trial_identity(spec, 0))


@pytest.fixture
def task(make_task: Callable[[Store], Task], new_bucket: Callable[[str], str], moto_server: str, machine: Path) -> Task:
    return make_task(open_store(f"{new_bucket(moto_server)}/runs"))


def run(task: Task, reports: int | None = None) -> list[int]:
    """The steps of the first so many reports of an attempt, which is stopped then, or of all to its end."""
    with closing(run_task(task, world=World())) as running:
        return [report.step for report in (running if reports is None else islice(running, reports))]


def workplaces(machine: Path) -> list[str]:
    """What is left in its scratch, but for what stays as long as the machine."""
    lasting = ("torchinductor", "advseg.digests")
    return [path.name for path in machine.iterdir() if not path.name.startswith(lasting)]


def newer(task: Task, number: int) -> Task:
    return replace(task, attempt=Attempt(number=number))


def state_of(task: Task, folder: Path) -> dict[str, Any]:
    sealed = newest_sealed(task.own)
    assert sealed
    task.own.get(sealed.key, folder)
    return load_checkpoint(folder)


def test_leaves_there_all_that_lasts_and_nothing_here(task: Task, machine: Path, tmp_path: Path) -> None:
    assert run(task) == [1, 2, 3, 4]
    keys = task.own.keys()
    assert {key.partition("/")[0] for key in keys} >= {"leases", "log.txt", "metrics.jsonl", "model", "outcome.json"}
    assert [key for key in keys if key.startswith(PANELS)] == [f"{PANELS}/step-{step:08d}.png" for step in range(1, 5)]
    assert [checkpoint.step for checkpoint in sealed_checkpoints(task.own)] == [4, 3]
    assert [record["step"] for record in kept_records(task.own, METRICS)] == [1, 2, 3, 4]
    beat = read_beat(task.own)
    assert beat and (beat.step, beat.failure) == (4, None)
    task.own.get("model", tmp_path / "model")
    sealed = newest_sealed(task.own)
    assert sealed
    assert load(tmp_path / "model").card.lineage["checkpoint"] == checksum_of(task.own, sealed)
    assert workplaces(machine) == []


def test_keeps_there_the_checkpoint_of_the_best_step_and_as_many_of_the_newest_as_the_spec_says(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Training.evaluate

    def falling(training: Training) -> Evaluation:
        evaluation = judge(training)
        evaluation.metrics["val/miou"] = 50.0 - training.step
        return evaluation

    monkeypatch.setattr(Training, "evaluate", falling)
    run(replace(task, spec={**task.spec, "keep": {"newest": 1}}))
    assert [checkpoint.step for checkpoint in sealed_checkpoints(task.own)] == [4, 1]


def test_goes_on_elsewhere_to_the_same_bits(
    task: Task, make_task: Callable[[Store], Task], machine: Path, tmp_path: Path
) -> None:
    assert run(task, reports=3) == [1, 2, 3]
    # The third was reported, and not saved.
    assert run(newer(task, 2)) == [3, 4]
    undisturbed = make_task(open_store(tmp_path / "undisturbed"))
    run(undisturbed)
    one, other = state_of(task, tmp_path / "one"), state_of(undisturbed, tmp_path / "other")
    torch.testing.assert_close(one["method"], other["method"], rtol=0, atol=0)
    assert one["metrics"] == other["metrics"]
    assert [record["step"] for record in kept_records(task.own, METRICS)] == [1, 2, 3, 4]
    assert workplaces(machine) == []


def test_that_was_fenced_out_keeps_nothing_more(task: Task) -> None:
    with closing(run_task(task, world=World())) as running:
        next(running)
        next(running)
        before = task.own.keys()
        Lease(task.own, Attempt(number=2)).take()
        Heart(task.own, Attempt(number=2), lambda: 0, lambda: None, "").stop()
        with pytest.raises(FencedError):
            next(running)
    assert set(task.own.keys()) - set(before) == {"leases/0-2"}
    # By it the newer one's driver knows that it lives, how it ended and what it has cost.
    assert beat_of(task.own, 2)


def test_that_is_fenced_out_while_the_store_is_away_keeps_nothing_more(task: Task, machine: Path) -> None:
    lease = Lease(task.own, Attempt())
    lease.take()
    with workplace(task.own, lease.check, files=True) as place:
        for name in ("a", "b", "outcome.json"):
            (place.directory / name).touch()
        write = S3Store.write

        def late(store: S3Store, key: str, content: bytes) -> None:
            write(store, key, content)
            Lease(task.own, Attempt(number=2)).take()

        with pytest.MonkeyPatch.context() as patch, pytest.raises(FencedError):
            patch.setattr(S3Store, "write", late)
            place.keep_files()
    assert len({"a", "b", "outcome.json"}.intersection(task.own.keys())) == 1


def test_brings_no_more_what_another_has_just_taken_away(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        task.own.write(name, name.encode())
    keys = S3Store.keys
    monkeypatch.setattr(S3Store, "keys", lambda store, prefix="": [*keys(store, prefix), "outcome.json"])
    with workplace(task.own, lambda: None, files=True) as place:
        assert sorted(path.name for path in place.directory.iterdir()) == ["a", "b"]


def test_that_is_killed_leaves_nothing_there_for_the_next(machine: Path) -> None:
    program = (
        "import os, signal, sys, tempfile\n"
        "from advseg.platform.storage.opening import open_store\n"
        "from advseg.platform.workers.workplace import workplace\n"
        "with workplace(open_store('s3://bucket/x'), lambda: None, files=False) as place:\n"
        "    (place.directory / 'checkpoint').write_bytes(b'large')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "TMPDIR": str(machine)}, check=False)
    assert list(machine.rglob("checkpoint"))
    with workplace(open_store("s3://bucket/x"), lambda: None, files=False) as place:
        assert workplaces(machine) == [place.directory.name]
        assert place.directory.stat().st_mode & 0o077 == 0
    assert workplaces(machine) == []


def test_whose_checkpoint_is_damaged_there_goes_on_from_the_one_before(task: Task) -> None:
    run(task, reports=3)
    newest, before = sealed_checkpoints(task.own)
    assert (newest.step, before.step) == (2, 1)
    task.own.write(f"{newest.key}/state.json", b"{}")
    assert run(newer(task, 2), reports=1) == [2]
    task.own.write(f"{before.key}/state.json", b"{}")
    task.own.write(f"{newest.key}/state.json", b"{}")
    with pytest.raises(BrokenEnvironmentError, match=r"no checkpoint in s3://.*/probe/0/checkpoints is whole"):
        run(newer(task, 3), reports=1)


def test_whose_worker_was_killed_is_settled_from_there(task: Task, client: MlflowClient, machine: Path) -> None:
    run(task, reports=3)
    task.own.write("panels/extra.png", b"picture")
    settle(client, task, Ending(State.STOPPED))
    run_id = run_of(client, task.identity.experiment, task.key)
    assert client.get_run(run_id).info.status == "KILLED"
    assert [point.step for point in client.get_metric_history(run_id, "val/miou")] == [1, 2, 3]
    assert "panels/extra.png" in {artifact.path for artifact in client.list_artifacts(run_id, "panels")}
    assert workplaces(machine) == []


def test_a_worker_that_does_not_lead_brings_what_the_leading_one_chose(task: Task, tmp_path: Path) -> None:
    run(task, reports=3)
    with workplace(task.own, lambda: None, files=False) as place:
        assert list(place.directory.iterdir()) == []
        path = place.directory / "checkpoints" / "step-00000002"
        place.keeper.bring(path)
        assert load_checkpoint(path)["step"] == 2
        with pytest.raises(BrokenDirectoryError):
            place.keeper.bring(place.directory / "checkpoints" / "step-00000007")


@pytest.fixture
def packed(task: Task, new_bucket: Callable[[str], str], moto_server: str, tmp_path: Path, monkeypatch: Any) -> Task:
    """The task with a pack in a bucket, of a shard for each image; the images are not to be found any more."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(packing, "SHARD_BYTES", 1)
    settings = spec_from(task.spec).dataset
    write_pack(tmp_path / "pack", open_dataset(settings), settings)
    address = new_bucket(moto_server)
    open_store(address).put(tmp_path / "pack", "shapes")
    settings.root.rename(tmp_path / "away")
    values = {"dataset.pack": f"{address}/shapes", "trainer.batch_size": 2, "trainer.speed.prefetch": 0}
    return replace(task, spec=with_values(task.spec, values))


def test_begins_before_all_of_its_pack_is_there_and_ends_with_the_same_bits(packed: Task, tmp_path: Path) -> None:
    with closing(run_task(packed, world=World())) as running:
        next(running)
        assert 0 < len(list(tmp_path.glob("cache/advseg/packs/*/unlabelled-*.arrow"))) < 4
        assert [report.step for report in running] == [2, 3, 4]

    here = with_values(packed.spec, {"dataset.pack": str(tmp_path / "pack")})
    local = replace(packed, store=open_store(tmp_path / "local"), spec=here)
    run(local)
    one, other = state_of(packed, tmp_path / "one"), state_of(local, tmp_path / "other")
    torch.testing.assert_close(one["method"], other["method"], rtol=0, atol=0)
    assert one["metrics"] == other["metrics"]


def test_whose_pack_is_too_large_or_damaged_is_the_environments_failure(
    packed: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("ADVSEG_CACHE_GIB", "0.000001")
        with pytest.raises(BrokenEnvironmentError, match=r"^on \S+: a copy of \S+ GiB does not fit"):
            run(packed)
    open_store(packed.spec["dataset"]["pack"]).write("validation-00001.arrow", b"damaged")
    with pytest.raises(BrokenEnvironmentError, match=r"^on \S+: s3://\S+/validation-00001\.arrow differs from its che"):
        run(newer(packed, 2))
