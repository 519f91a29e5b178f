"""A cluster that grows, or does not."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from advseg.platform.cluster import waiting
from advseg.platform.cluster.nodes import Node
from advseg.platform.cluster.waiting import wait_for_room
from advseg.platform.spec.resources import Resources
from advseg.trainers.errors import BrokenEnvironmentError, UserError

HEAD = Node(id="h", name="head", address="10.0.0.1", has={})
LACK = "a worker asks for 1 CPU, but the greatest node, head, has 0 CPU: lower resources.cpus_per_worker, or add a"
TRAININGS = [Resources(), Resources(workers=2)]


def worker(number: int) -> Node:
    return Node(id=str(number), name=f"w{number}", address=f"10.0.1.{number}", has={"CPU": 1.0})


class Cluster:
    """Nodes by the second, and what is asked of the autoscaler."""

    def __init__(self) -> None:
        self.now = 0.0
        self.nodes: dict[float, list[Node]] = {}
        """What there is from a second on."""
        self.demand: list[Resources] = []
        self.demanded = False

    def look(self) -> list[Node]:
        return [node for since, nodes in self.nodes.items() if since <= self.now for node in nodes]

    @contextmanager
    def demanding(self, trainings: list[Resources]) -> Iterator[None]:
        self.demand, self.demanded = list(trainings), True
        yield
        self.demand = []

    def sleep(self, seconds: float) -> None:
        assert self.demand, "waits for what nobody asked for"
        self.now += seconds


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(waiting, "live_nodes", cluster.look)
    monkeypatch.setattr(waiting, "_demanded", cluster.demanding)
    monkeypatch.setattr(waiting.time, "sleep", cluster.sleep)
    monkeypatch.setattr(waiting.time, "monotonic", lambda: cluster.now)
    return cluster


def test_what_fits_is_not_waited_for(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.nodes = {0: [HEAD, worker(1), worker(2)]}
    assert wait_for_room(TRAININGS, 100) == cluster.look()
    assert not cluster.demanded
    assert capsys.readouterr().out == ""


def test_gpus_that_are_left_idle_are_told(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.nodes = {0: [HEAD, worker(1), Node(id="2", name="w2", address="10.0.1.2", has={"CPU": 1.0, "GPU": 4.0})]}
    wait_for_room(TRAININGS, 100)
    assert "this trains on CPUs, though the cluster has GPUs: 4" in capsys.readouterr().out


def test_a_cluster_of_this_machine_alone_does_not_grow(cluster: Cluster) -> None:
    cluster.nodes = {0: [Node(id="h", name="head", address="127.0.0.1", has={})]}
    with pytest.raises(UserError, match=LACK):
        wait_for_room(TRAININGS, 100)
    assert not cluster.demanded


def test_a_cluster_scaled_to_zero_is_asked_for_room_and_waited_for(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    # The second of two workers comes when one training fits already, and the third while others may follow.
    cluster.nodes = {0: [HEAD], 40: [worker(1)], 60: [worker(2)], 80: [worker(3)], 200: [worker(4)]}
    assert wait_for_room(TRAININGS, 100) == [HEAD, worker(1), worker(2), worker(3)]
    assert cluster.demanded
    assert not cluster.demand
    told = capsys.readouterr().out
    assert f"waiting at most 100 s for nodes that an autoscaler, or you, may add: {LACK}" in told
    assert "4 nodes are there" in told


def test_waiting_has_an_end(cluster: Cluster) -> None:
    cluster.nodes = {0: [HEAD, worker(1)]}
    with pytest.raises(BrokenEnvironmentError, match="no such nodes have come in 100 s: a training asks for 2 workers"):
        wait_for_room(TRAININGS, 100)
    assert 100 <= cluster.now < 110
