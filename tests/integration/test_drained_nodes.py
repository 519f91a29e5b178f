"""A node that is about to be taken away: what trains there saves in time and goes on elsewhere, and that is no loss."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from command import Command
from machines import hindrance
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from orders import Orders
from ray_nodes import RayNodes
from small_sweep import small_sweep, write_tiny_shapes
from team import ORDERS, Team, team
from waiting import wait_for

from advseg.platform.ledger.jobs import JobState, read_jobs
from advseg.platform.ledger.reading import read_spec, read_sweep
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.tracking.runs import runs_by_key
from advseg.platform.workers.heartbeat import Beat, read_beat
from advseg.platform.workers.lease import FOLDER
from advseg.platform.workers.retry import Kind

# A cluster whose nodes come and go costs three minutes; test_draining and test_preemption have what its parts do.
pytestmark = [pytest.mark.cluster, pytest.mark.chaos]

STEPS, EVERY, HELD = 12, 4, 6
SECONDS = 10


@pytest.fixture(scope="module")
def spot() -> Iterator[Team]:
    """A cluster whose nodes have a folder in common."""
    if reason := hindrance():
        pytest.skip(f"a node on a machine of its own needs root on Linux, and namespaces: {reason}")
    with team(shared=True) as members:
        yield members


@pytest.fixture
def nodes(spot: Team) -> RayNodes:
    """Two nodes of one CPU."""
    for name in ("w1", "w2"):
        if not spot.nodes.has_raylet(name):
            spot.nodes.join(name, cpus=1)
    return spot.nodes


@pytest.fixture(scope="module")
def storage(spot: Team) -> Path:
    assert spot.shared
    return spot.shared / "runs"


@pytest.fixture
def orders(storage: Path) -> Orders:
    return Orders(storage.parent / ORDERS)


@pytest.fixture(scope="module")
def alice(spot: Team, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Run a command of ours as a member of the team, from a machine that is none of the nodes."""
    return Command(tmp_path_factory.mktemp("alice"), spot.environment("alice"))


@pytest.fixture(scope="module")
def shapes(storage: Path, alice: Command) -> Path:
    return write_tiny_shapes(alice, storage.parent / "tiny")


def at_work(directory: Path, step: int) -> Beat:
    """What a training says once it has come to a step."""
    return wait_for(lambda: (beat := read_beat(LocalStore(directory))) and beat.step >= step and beat)


def driving(nodes: RayNodes) -> str:
    """The node of the one job that runs."""
    (name,) = [name for name, machine in nodes.machines.items() if machine.processes("-m advseg.jobs.")]
    return name


def resumed(directory: Path) -> list[int]:
    """The steps from which a training went on."""
    return [int(step) for step in re.findall(r"resumed from \S+ at step (\d+)", (directory / "log.txt").read_text())]


def attempts(directory: Path) -> int:
    """How many processes have claimed a training's directory."""
    return len(list((directory / FOLDER).iterdir()))


def test_a_trial_whose_node_drains_saves_and_goes_on_elsewhere(
    spot: Team,
    nodes: RayNodes,
    storage: Path,
    orders: Orders,
    alice: Command,
    shapes: Path,
    undisturbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document = small_sweep(
        shapes,
        "drained",
        trainer={"steps": STEPS, "evaluate_every": EVERY},
        sweep={"trials": 2, "concurrency": 2, "retry": {"max_attempts": 1}},
        storage=str(storage),
        ledger=spot.services.ledger,
    )
    (path := tmp_path / "spec.yaml").write_text(yaml.safe_dump(document))
    trials = [storage / "drained" / str(number) for number in (0, 1)]
    with orders.held("drained/0", "drained/1", step=HELD):
        alice("submit", path)
        at = [nodes.name_of(at_work(trial, HELD).node) for trial in trials]
        # A job ends with the node of its driver.
        (drained,) = set(at) - {driving(nodes)}
        gone = at.index(drained)
        nodes.drain(drained, seconds=SECONDS)
        # Ray ends a node that drains once nothing is left there.
        wait_for(lambda: not nodes.has_raylet(drained))
        left = read_beat(LocalStore(trials[gone]))
        assert left and left.failure
        assert (left.failure.kind, left.step, left.attempt) == (Kind.PREEMPTED, HELD, 1)
    told = alice("job", "follow", "drained").stdout

    for name, value in spot.environment("alice").items():
        monkeypatch.setenv(name, value)
    spec, rows = (read(storage, "drained", spot.services.ledger) for read in (read_spec, read_sweep))
    rows = rows.rows
    assert {row.state for row in rows} == {TrialState.COMPLETE}
    assert [row.curve for row in rows] == [undisturbed(spec, row.params) for row in rows]
    assert [(row.account.lost, row.account.lost_steps) for row in rows] == [(0, 0), (0, 0)]
    assert [resumed(trial) for trial in trials] == [[HELD] if number == gone else [] for number in (0, 1)]
    # Neither Ray nor Tune has tried anything again.
    made = [2 if number == gone else 1 for number in (0, 1)]
    assert [row.account.attempts for row in rows] == [attempts(trial) for trial in trials] == made
    assert f"drained/{gone} is tried again: pre-empted: asked to stop, and saved at step {HELD}" in told


def test_workers_go_on_elsewhere_though_the_node_of_one_of_them_alone_is_told_to_end(
    spot: Team, nodes: RayNodes, storage: Path, alice: Command, shapes: Path, tmp_path: Path
) -> None:
    """As a pod is: SIGTERM to `ray start`, which drains its node first."""
    trainer = {"steps": 10**6, "evaluate_every": 50}
    document = small_sweep(shapes, "pair", trainer=trainer, sweep={}, storage=str(storage), resources={"workers": 2})
    del document["sweep"]
    (path := tmp_path / "spec.yaml").write_text(yaml.safe_dump({**document, "job": "train"}))
    training = storage / "pair" / "single"
    alice("submit", path)
    at_work(training, 1)
    (told_to_end,) = {"w1", "w2"} - {driving(nodes)}
    nodes.join("w3", cpus=1)
    nodes.terminate(told_to_end)
    wait_for(lambda: not nodes.machines[told_to_end].processes())
    wait_for(lambda: (beat := read_beat(LocalStore(training))) and beat.attempt == 2 and resumed(training))
    (step,) = resumed(training)
    at_work(training, step + 1)
    alice("job", "stop", "pair")
    told = alice("job", "follow", "pair", status=1).stdout
    assert f"pair/single is tried again: pre-empted: asked to stop, and saved at step {step}" in told
    assert attempts(training) == 2


def test_a_sweep_whose_driver_is_on_a_node_that_drains_ends_in_order_and_is_resumed(
    spot: Team,
    nodes: RayNodes,
    storage: Path,
    orders: Orders,
    alice: Command,
    shapes: Path,
    undisturbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in spot.environment("alice").items():
        monkeypatch.setenv(name, value)
    document = small_sweep(
        shapes,
        "left",
        trainer={"steps": STEPS, "evaluate_every": EVERY},
        sweep={"trials": 2, "concurrency": 2},
        storage=str(storage),
        ledger=spot.services.ledger,
    )
    (path := tmp_path / "spec.yaml").write_text(yaml.safe_dump(document))
    trials = [storage / "left" / str(number) for number in (0, 1)]
    reason = "its node is taken away: `advseg sweep resume left` goes on"
    with orders.held("left/0", "left/1", step=HELD):
        following = subprocess.Popen(
            alice.line("submit", path, "--follow"), env=alice.environment(), stdout=subprocess.PIPE, text=True
        )
        for trial in trials:
            at_work(trial, HELD)
        drained = driving(nodes)
        nodes.drain(drained, seconds=60)
        told = following.communicate()[0]
        assert following.returncode == 1
        assert f"the job stops: {reason}" in told
        # An actor of Ray Train's own stays there, so that Ray does not end it by itself.
        nodes.cut(drained)
        (job,) = [job for job in read_jobs(storage, spot.services.ledger) if job.name == "left"]
        assert (job.state, job.reason) == (JobState.FAILED, reason)
        # It has seconds to close its runs, and a busy MLflow may need more.
        alice("sync", "left", "--ledger", spot.services.ledger)
        client = MlflowClient(spot.services.tracking_uri)
        runs = runs_by_key(client, "left")
        assert {run.info.status for key, run in runs.items() if key != "left/baseline"} == {"KILLED"}
    alice("sweep", "resume", "left", "--follow", "--ledger", spot.services.ledger)
    spec, rows = (read(storage, "left", spot.services.ledger) for read in (read_spec, read_sweep))
    assert [row.curve for row in rows.rows] == [undisturbed(spec, row.params) for row in rows.rows]
    assert [row.account.lost for row in rows.rows] == [0, 0]
    assert {run.info.status for run in runs_by_key(client, "left").values()} == {"FINISHED"}
