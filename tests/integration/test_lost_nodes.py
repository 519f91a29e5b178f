"""A node is lost on which a worker of a training of several trains: it goes on on another, to the same bits."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from command import Command
from far import data, driving, far_team, hold, join, release, workers
from mlflow.tracking import MlflowClient
from ray_nodes import RayNodes
from small_sweep import small_sweep
from team import Team
from team_services import BUCKET
from waiting import wait_for

from advseg.models import bundle
from advseg.platform.base.keys import METRIC, MODEL
from advseg.platform.storage.opening import open_store
from advseg.platform.storage.store import Store
from advseg.platform.tracking.runs import runs_by_key
from advseg.platform.tracking.spool import kept_records
from advseg.platform.workers.heartbeat import read_beat
from advseg.platform.workers.lease import FOLDER
from advseg.platform.workers.task import METRICS

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]  # Three trainings on a cluster of its own take minutes.

STEPS, EVERY, HELD = 18, 6, 8
"""Several workers ask each other whether to stop, which is where they can be held, at every eighth step."""
SEGMENTER = f"{MODEL}/{bundle.SEGMENTER}"
TRAIN_JOB = "advseg.jobs.train_on_ray"


@pytest.fixture(scope="module")
def far() -> Iterator[Team]:
    with far_team() as members:
        for name in ("w1", "w2"):
            join(members, name)
        yield members


@pytest.fixture(scope="module")
def alice(far: Team, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Run a command of ours from a machine that is none of the nodes; this process has the same keys meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in far.environment("alice").items():
            patch.setenv(name, value)
        yield Command(tmp_path_factory.mktemp("alice"), far.environment("alice"))


@pytest.fixture(scope="module")
def store(alice: Command) -> Store:
    return open_store(f"s3://{BUCKET}/runs")


@pytest.fixture(scope="module")
def submit(far: Team, alice: Command, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Store]:
    """Submit a training of two workers; what lasts of it."""

    def submit(name: str) -> Store:
        document = small_sweep(
            data(far),
            name,
            trainer={"steps": STEPS, "evaluate_every": EVERY},
            sweep={},
            storage=store.address,
            resources={"workers": 2, "placement": "spread"},
        )
        del document["sweep"]
        (path := tmp_path_factory.mktemp("spec") / f"{name}.yaml").write_text(
            yaml.safe_dump({**document, "job": "train"})
        )
        alice("submit", path)
        return store.at(f"{name}/single")

    return submit


def reports(own: Store) -> list[dict[str, Any]]:
    """What a training has reported, but for what the clock says."""
    records = kept_records(own, METRICS)
    return [{"step": record["step"], METRIC: record["metrics"][METRIC]} for record in records]


@pytest.fixture(scope="module")
def undisturbed(alice: Command, submit: Callable[[str], Store]) -> Store:
    """What is left of a training on two nodes of which none is lost."""
    own = submit("whole")
    alice("job", "wait", "whole")
    return own


@pytest.mark.parametrize(
    ("name", "lose"), [("raylet", RayNodes.kill_raylet), ("power", RayNodes.cut)], ids=["raylet", "power"]
)
def test_a_training_of_workers_on_two_nodes_goes_on_without_one_of_them(
    far: Team,
    alice: Command,
    submit: Callable[[str], Store],
    undisturbed: Store,
    name: str,
    lose: Callable[[RayNodes, str], None],
) -> None:
    key = f"{name}/single"
    hold(far, key, step=HELD)
    own = submit(name)
    wait_for(lambda: (beat := read_beat(own)) and beat.step >= HELD)
    (lost,) = {*workers(far)} - {driving(far, TRAIN_JOB)}
    join(far, f"instead-of-{lost}")
    lose(far.nodes, lost)
    release(far, key)
    alice("job", "wait", name)

    assert reports(own) == reports(undisturbed)
    assert own.read(SEGMENTER) == undisturbed.read(SEGMENTER)
    assert f"at step {EVERY}" in own.read("log.txt").decode()
    assert len(own.keys(FOLDER)) == 2
    runs = runs_by_key(MlflowClient(far.services.tracking_uri), name)
    assert {key: run.info.status for key, run in runs.items()} == {key: "FINISHED"}
