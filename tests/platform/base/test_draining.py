"""Ray's drain notice, told by a cluster that is a dictionary here."""

import threading
from collections.abc import Iterator, Mapping

import pytest

from advseg.platform.base import draining
from advseg.platform.base.draining import draining_nodes, heard

LOOK_S = 0.005


class Cluster:
    """Says which nodes drain."""

    def __init__(self) -> None:
        self.draining: dict[str, int] = {}
        self._looked = threading.Semaphore(0)

    def __call__(self) -> Mapping[str, int]:
        self._looked.release()
        return dict(self.draining)

    def was_asked(self) -> None:
        """Wait until an answer that it gave from now on was heard."""
        while self._looked.acquire(blocking=False):
            pass
        for _ in range(3):
            assert self._looked.acquire(timeout=300)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    yield Cluster()
    for listener in listeners():
        listener.join(300)


def listeners() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "drain notice"]


@pytest.fixture
def told() -> threading.Event:
    return threading.Event()


def test_whoever_works_on_a_node_that_drains_is_told(cluster: Cluster, told: threading.Event) -> None:
    with heard({"mine", "the controller's"}, told.set, cluster, LOOK_S):
        cluster.was_asked()
        assert not told.is_set()
        cluster.draining = {"the controller's": 0}
        assert told.wait(300)


def test_what_begins_on_a_node_that_drains_is_told_too(cluster: Cluster, told: threading.Event) -> None:
    cluster.draining = {"mine": 1795761496683}
    with heard({"mine"}, told.set, cluster, 3600):
        assert told.wait(300)


def test_a_node_of_others_may_drain(cluster: Cluster, told: threading.Event) -> None:
    cluster.draining = {"another's": 0}
    with heard({"mine"}, told.set, cluster, LOOK_S):
        cluster.was_asked()
        assert not told.is_set()


def test_nobody_is_asked_outside_of_ray(cluster: Cluster, told: threading.Event) -> None:
    with heard(frozenset(), told.set, cluster, LOOK_S):
        assert not listeners()


def test_what_has_ended_listens_no_more(cluster: Cluster, told: threading.Event) -> None:
    with heard({"mine"}, told.set, cluster, 3600):
        (listener,) = listeners()
    listener.join(300)
    assert not listener.is_alive()


def test_work_ends_though_ray_does_not_answer_and_what_comes_next_is_not_told(told: threading.Event) -> None:
    asked, answer = threading.Event(), threading.Event()

    def hang() -> Mapping[str, int]:
        asked.set()
        answer.wait(300)
        return {"mine": 0}

    with heard({"mine"}, told.set, hang):
        assert asked.wait(300)
        (listener,) = listeners()
    answer.set()
    listener.join(300)
    assert not told.is_set()


@pytest.mark.parametrize("error", [RuntimeError("no head"), AttributeError("get_draining_nodes")])
def test_a_ray_that_does_not_say_asks_nobody(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute:
        def get_draining_nodes(self) -> Mapping[str, int]:
            raise error

    monkeypatch.setattr(draining, "state", Mute())
    assert draining_nodes() == {}
