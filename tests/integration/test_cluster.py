"""A sweep on nodes that share nothing but the network ends as one that was left alone.

A node is lost, then the head with all that ran; a colleague goes on elsewhere, from the ledger and S3 alone.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from command import Command
from far import data, driving, far_team, hold, join, release
from optuna.trial import TrialState
from small_sweep import small_sweep
from team import Team
from team_services import BUCKET
from waiting import wait_for

from advseg.models import load
from advseg.platform.ledger.reading import read_spec, read_sweep
from advseg.platform.storage.opening import open_store
from advseg.platform.storage.store import Store
from advseg.platform.workers.checkpoints import newest_sealed
from advseg.platform.workers.heartbeat import Beat, read_beat
from advseg.platform.workers.lease import FOLDER

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]  # It takes four minutes.

NAME = "far"
STEPS, EVERY = 12, 4
FIRST, SECOND = 6, 10
"""Steps at which its trials are held: between two checkpoints."""
KEYS = (f"{NAME}/0", f"{NAME}/1")
NODES = ("w1", "w2")
SWEEP_JOB = "advseg.jobs.sweep"


@pytest.fixture(scope="module")
def far() -> Iterator[Team]:
    """Two nodes, and a head of none."""
    with far_team() as members:
        for name in NODES:
            join(members, name)
        yield members


@pytest.fixture
def user(far: Team, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """Gives a member of the team, whose home is empty, a machine that is none of the nodes."""
    for name, value in far.environment("alice").items():
        monkeypatch.setenv(name, value)
    return lambda name: Command(
        tmp_path_factory.mktemp(name), {**far.environment(name), "ADVSEG_LEDGER": far.services.ledger}
    )


@pytest.fixture
def store(user) -> Store:
    return open_store(f"s3://{BUCKET}/runs")


def at_work(store: Store, number: int, step: int, attempt: int = 1) -> Beat:
    """What a trial says once an attempt at it has come to a step."""
    own = store.at(f"{NAME}/{number}")
    return wait_for(lambda: (beat := read_beat(own)) and beat.step >= step and beat.attempt >= attempt and beat)


def test_a_sweep_that_loses_a_node_and_then_its_cluster_ends_as_one_left_alone(
    far: Team, user, store: Store, undisturbed, tmp_path: Path
) -> None:
    document = small_sweep(
        data(far),
        NAME,
        trainer={"steps": STEPS, "evaluate_every": EVERY},
        sweep={"trials": 2, "concurrency": 2, "register_as": "things"},
        storage=store.address,
    )
    (path := tmp_path / "spec.yaml").write_text(yaml.safe_dump(document))
    alice, bob = user("alice"), user("bob")

    hold(far, *KEYS, step=FIRST)
    alice("submit", path)
    beats = [at_work(store, number, FIRST) for number in (0, 1)]
    number, lost = next(
        (number, name)
        for number, beat in enumerate(beats)
        if (name := far.nodes.name_of(beat.node)) != driving(far, SWEEP_JOB)
    )
    far.nodes.kill_raylet(lost)
    join(far, lost)
    hold(far, *KEYS, step=SECOND)
    again = at_work(store, number, SECOND, attempt=2)
    assert again.attempt == 2
    sealed = newest_sealed(store.at(f"{NAME}/{number}"))
    assert sealed and sealed.step == 2 * EVERY

    far.nodes.kill_all()
    far.nodes.start_head()
    for name in NODES:
        join(far, name)
    release(far, *KEYS)
    told = bob("sweep", "resume", NAME, "--follow").stdout
    assert f"job {NAME}-2 submitted" in told

    spec, rows = read_spec(None, NAME, far.services.ledger), read_sweep(None, NAME, far.services.ledger).rows
    assert [row.state for row in rows] == [TrialState.COMPLETE] * 2
    assert [row.curve for row in rows] == [undisturbed(spec, row.params) for row in rows]
    for row in rows:
        own = store.at(f"{NAME}/{row.number}")
        assert len(own.keys(FOLDER)) == row.account.attempts

    # Which of the two is better is not the point here.
    won = read_sweep(None, NAME, far.services.ledger).verdict.is_won
    bob("models", "pull", "things@candidate" if won else f"{NAME}/baseline", "--to", tmp_path / "model")
    assert load(tmp_path / "model").card.lineage["spec"]["name"] == NAME
    bob("predict", tmp_path / "model", data(far) / "JPEGImages", "--to", tmp_path / "masks")
    assert len(list((tmp_path / "masks").iterdir())) == len(list((data(far) / "JPEGImages").iterdir()))
