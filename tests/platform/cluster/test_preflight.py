"""What nodes lack, in one message, before anything trains; and of nodes that join, when they join."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.exceptions import MlflowException

from advseg.platform.base.events import Stage, parse
from advseg.platform.cluster import preflight as module
from advseg.platform.cluster.driver import Job
from advseg.platform.cluster.looking import Copy, Sight, look, programs, read_copy
from advseg.platform.cluster.nodes import Node
from advseg.platform.cluster.preflight import Preflight, Usual, lacks_of, told, usual_of
from advseg.platform.spec.resources import Resources
from advseg.trainers.errors import BrokenEnvironmentError, UserError

DRIVER = Sight(packages={"torch": "2.13.0", "mlflow": "3.17.0", "odd": None}, code="c" * 64)


USUAL = Usual(digest="a" * 64, node="w9 (10.0.0.9)")


def copy(digest: str) -> Copy:
    return Copy(digest=digest * 64)


class TestLacks:
    def test_are_none_where_all_is_as_elsewhere(self) -> None:
        assert lacks_of(DRIVER, copy("a"), DRIVER, USUAL) == []
        # What the driver lacks nobody needs.
        assert lacks_of(replace(DRIVER, packages={**DRIVER.packages, "odd": "1"}), copy("a"), DRIVER, USUAL) == []

    def test_are_all_named(self) -> None:
        sight = Sight(packages={"torch": "2.12.0", "mlflow": None, "odd": None}, code="d" * 64, lacks=["no room"])
        assert lacks_of(sight, copy("b"), DRIVER, USUAL) == [
            "no room",
            "torch is 2.12.0, but 2.13.0 where the driver runs",
            "mlflow is not installed, but 3.17.0 where the driver runs",
            "it imports other code of advseg than the driver: uninstall advseg from its image",
            "its copy of the dataset has digest bbbbbbbbbbbb, but aaaaaaaaaaaa on w9 (10.0.0.9): copy it anew",
        ]

    @pytest.mark.parametrize("usual", [USUAL, None])
    def test_are_why_the_dataset_cannot_be_opened(self, usual: Usual | None) -> None:
        assert lacks_of(DRIVER, Copy(lack="dataset.root: gone"), DRIVER, usual) == ["dataset.root: gone"]

    def test_are_told_a_line_a_node(self) -> None:
        assert told({"w1 (10.0.0.5)": ["no room", "no torch"], "w2 (10.0.0.6)": ["no MLflow"]}, 3) == (
            "2 of 3 nodes cannot train this job:\n  w1 (10.0.0.5): no room; no torch\n  w2 (10.0.0.6): no MLflow"
        )


def test_what_is_usual_most_nodes_have() -> None:
    assert usual_of({"w1": copy("a"), "w2": Copy(lack="gone"), "w3": copy("b"), "w4": copy("b")}) == Usual(
        digest="b" * 64, node="w3"
    )
    assert usual_of({"w1": Copy(lack="gone")}) is None
    assert usual_of({}) is None


def node(name: str, cpus: float = 1) -> Node:
    return Node(id=name, name=name, address="10.0.0.5", has={"CPU": cpus})


class Cluster:
    """Nodes that answer as this machine does, unless they are given what they answer; and who was asked what."""

    def __init__(self) -> None:
        self.live: list[Node] = []
        self.answers: dict[str, Any] = {}
        """By node and function."""
        self.asked: list[tuple[str, str]] = []
        self.tracking_uris: set[str | None] = set()
        self.looks = 0
        self.has_told = threading.Event()
        """As soon as it was looked for more nodes after some have been asked, which takes a look itself."""

    def look(self) -> list[Node]:
        self.looks += 1
        if self.looks > 2:
            self.has_told.set()
        return self.live

    def on_nodes(
        self, nodes: Sequence[Node], work: Callable[..., Any], *arguments: Any, limit_s: float
    ) -> dict[str, Any]:
        self.asked += [(node.id, work.__name__) for node in nodes]
        if work is look:
            self.tracking_uris.add(arguments[-1])
        given = look(*arguments[:2], None) if work is look else read_copy(*arguments)
        return {node.id: self.answers.get(f"{node.id} {work.__name__}", given) for node in nodes}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster whose node `head` the driver is on."""
    cluster = Cluster()
    monkeypatch.setattr(module, "_on_nodes", cluster.on_nodes)
    monkeypatch.setattr(module, "live_nodes", cluster.look)
    monkeypatch.setattr(module, "_WATCH_S", 0.01)
    monkeypatch.setattr(module.ray, "get_runtime_context", lambda: type("", (), {"get_node_id": lambda _: "head"})())
    return cluster


class FakeMlflow:
    error: Exception | None = None

    def search_experiments(self, **_: Any) -> None:
        if self.error:
            raise self.error


@pytest.fixture
def job(make_spec: Callable[..., Any], voc_tree: Path, tmp_path: Path) -> Job:
    data = (f"dataset.root={voc_tree}", "dataset.labelled=train", "dataset.unlabelled=train_aug", "dataset.classes=[]")
    spec = make_spec(*data, f"storage={tmp_path / 'runs'}")
    path = tmp_path / "submitted.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    job = Job(path=path, tracking_uri="http://mlflow")
    job.__dict__["client"] = FakeMlflow()
    return job


@pytest.fixture
def flight(cluster: Cluster, job: Job) -> Callable[..., Preflight]:
    """The preflight of the job on some nodes, which live."""

    def make(*nodes: Node) -> Preflight:
        cluster.live = list(nodes)
        return Preflight(job, Resources(), nodes, 100)

    return make


class TestCheck:
    def test_of_the_drivers_node_alone_asks_nobody(
        self, flight: Callable[..., Preflight], cluster: Cluster, job: Job
    ) -> None:
        assert flight(node("head")).check() is None
        assert not cluster.asked

    def test_of_the_drivers_node_alone_names_files_that_are_not_there(
        self, flight: Callable[..., Preflight], cluster: Cluster, job: Job, tmp_path: Path
    ) -> None:
        job.document["dataset"]["root"] = str(tmp_path / "lost")
        with pytest.raises(UserError, match=f"^dataset.root: folder {tmp_path / 'lost'} does not exist: put "):
            flight(node("head")).check()

    def test_gives_the_dataset_and_asks_only_nodes_that_may_train(
        self, flight: Callable[..., Preflight], cluster: Cluster, job: Job
    ) -> None:
        digest = flight(node("head", 0), node("w1"), node("w2")).check()
        assert digest == read_copy(job.document).digest
        assert cluster.asked == [("w1", "look"), ("w2", "look"), ("w1", "read_copy"), ("w2", "read_copy")]
        assert cluster.tracking_uris == {"http://mlflow"}
        assert not job.store.keys()

    def test_names_all_nodes_and_lacks_at_once(
        self, flight: Callable[..., Preflight], cluster: Cluster, job: Job
    ) -> None:
        cluster.answers = {
            "w1 look": "it has not answered in 120 s",
            "w2 look": replace(programs(), lacks=["no room"]),
            "w2 read_copy": Copy(lack="dataset.root: gone"),
            "w3 read_copy": copy("b"),
            "w4 read_copy": copy("c"),
            "w5 read_copy": copy("c"),
        }
        with pytest.raises(BrokenEnvironmentError) as caught:
            flight(*(node(f"w{number}") for number in range(1, 6))).check()
        # What most nodes have is right.
        assert str(caught.value).split("\n") == [
            "3 of 5 nodes cannot train this job:",
            "  w1 (10.0.0.5): it has not answered in 120 s",
            "  w2 (10.0.0.5): no room; dataset.root: gone",
            "  w3 (10.0.0.5): its copy of the dataset has digest bbbbbbbbbbbb, but cccccccccccc on w4 (10.0.0.5): copy "
            "it anew",
        ]
        # Whoever does not answer is not asked for more.
        assert ("w1", "read_copy") not in cluster.asked

    def test_takes_no_heed_of_a_node_that_is_gone_by_then(
        self, flight: Callable[..., Preflight], cluster: Cluster
    ) -> None:
        preflight = flight(node("w1"), node("w2"))
        cluster.answers = {"w2 look": "it cannot be asked: the node has died"}
        cluster.live = [node("w1")]
        assert preflight.check()

    def test_takes_no_node_for_guilty_of_an_mlflow_that_does_not_answer_the_driver_either(
        self, flight: Callable[..., Preflight], cluster: Cluster, job: Job
    ) -> None:
        job.client.error = MlflowException("away")  # pyright: ignore[reportAttributeAccessIssue]
        flight(node("w1")).check()
        assert cluster.tracking_uris == {None}


class TestWatch:
    @staticmethod
    def watch(preflight: Preflight, cluster: Cluster, capsys: pytest.CaptureFixture[str], *live: Node) -> list[str]:
        """What is told while one that is known already, and may train, is followed by others."""
        capsys.readouterr()
        cluster.asked.clear()
        cluster.live, cluster.looks = list(live), 0
        cluster.has_told.clear()
        with preflight.watching():
            assert cluster.has_told.wait(60)
        return [event.text for event in map(parse, capsys.readouterr().out.splitlines()) if isinstance(event, Stage)]

    def test_names_a_node_that_joins_and_lacks_something(
        self, flight: Callable[..., Preflight], cluster: Cluster, job: Job, capsys: pytest.CaptureFixture[str]
    ) -> None:
        preflight = flight(node("head"), node("w1"))
        preflight.check()
        cluster.answers = {"w2 read_copy": Copy(lack="dataset.root: gone")}
        assert self.watch(preflight, cluster, capsys, node("w1"), node("w2"), node("w3", 0), node("w4")) == [
            "node w2 (10.0.0.5) has joined, but what comes onto it will fail: dataset.root: gone"
        ]
        assert cluster.asked == [("w2", "look"), ("w4", "look"), ("w2", "read_copy"), ("w4", "read_copy")]

    def test_measures_the_first_that_joins_by_the_drivers_node(
        self, flight: Callable[..., Preflight], cluster: Cluster, job: Job, capsys: pytest.CaptureFixture[str]
    ) -> None:
        preflight = flight(node("head"))
        assert preflight.check() is None
        cluster.answers = {"w2 read_copy": copy("b")}
        (told,) = self.watch(preflight, cluster, capsys, node("head"), node("w2"))
        assert told.startswith(
            "node w2 (10.0.0.5) has joined, but what comes onto it will fail: its copy of the dataset has digest bbb"
        )
