"""Ray's drain notice, told by a cluster that is a dictionary here."""

import threading
from collections.abc import Callable, Iterator, Mapping

import pytest

from advseg.platform.workers import draining
from advseg.platform.workers.draining import draining_nodes, heard
from advseg.platform.workers.preemption import asked_to_stop, training

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


def wait_until(condition: Callable[[], bool]) -> None:
    never = threading.Event()
    while not condition():
        never.wait(LOOK_S)


def test_a_training_is_asked_to_stop_once_its_node_drains(cluster: Cluster) -> None:
    with training(), heard({"mine", "the controller's"}, cluster, LOOK_S):
        cluster.was_asked()
        assert not asked_to_stop()
        cluster.draining = {"the controller's": 0}
        wait_until(asked_to_stop)


def test_a_training_that_begins_on_a_node_that_drains_is_asked_too(cluster: Cluster) -> None:
    cluster.draining = {"mine": 1795761496683}
    with training(), heard({"mine"}, cluster, 3600):
        wait_until(asked_to_stop)


def test_a_node_of_others_may_drain(cluster: Cluster) -> None:
    cluster.draining = {"another's": 0}
    with training(), heard({"mine"}, cluster, LOOK_S):
        cluster.was_asked()
        assert not asked_to_stop()


def test_nobody_is_asked_outside_of_ray(cluster: Cluster) -> None:
    with training(), heard(frozenset(), cluster, LOOK_S):
        assert not listeners()


def test_a_training_that_has_ended_listens_no_more(cluster: Cluster) -> None:
    with training(), heard({"mine"}, cluster, 3600):
        (listener,) = listeners()
    listener.join(300)
    assert not listener.is_alive()


def test_a_training_ends_though_ray_does_not_answer_and_the_next_is_not_asked() -> None:
    asked, answer = threading.Event(), threading.Event()

    def hang() -> Mapping[str, int]:
        asked.set()
        answer.wait(300)
        return {"mine": 0}

    with training(), heard({"mine"}, hang):
        assert asked.wait(300)
        (listener,) = listeners()
    with training():
        answer.set()
        listener.join(300)
        assert not asked_to_stop()


@pytest.mark.parametrize("error", [RuntimeError("no head"), AttributeError("get_draining_nodes")])
def test_a_ray_that_does_not_say_asks_nobody(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute:
        def get_draining_nodes(self) -> Mapping[str, int]:
            raise error

    monkeypatch.setattr(draining, "state", Mute())
    assert draining_nodes() == {}
