"""Which job is meant, and its end."""

from collections.abc import Iterator
from typing import Any

import pytest
from ray.job_submission import JobStatus

from advseg.platform.cluster import jobs
from advseg.platform.cluster.jobs import find_job, newest_job, numbers_of, stop_job, wait_for_job
from advseg.trainers.errors import UserError

IDS = ["a-2", "a-10", "a-1-1", "a-1-3", "b-7", "raysubmit_x", "a-x", "a-", "-1", "a-02"]


@pytest.mark.parametrize(
    ("name", "numbers"), [("a", [2, 10]), ("a-1", [1, 3]), ("b", [7]), ("a-2", []), ("c", []), ("", [])]
)
def test_a_job_belongs_to_the_name_before_its_last_number(name: str, numbers: list[int]) -> None:
    assert numbers_of(name, IDS) == numbers


@pytest.mark.parametrize(("name", "id"), [("a", "a-10"), ("a-1", "a-1-3"), ("b", "b-7")])
def test_the_newest_job_of_a_name_has_the_greatest_number(name: str, id: str) -> None:
    assert newest_job(name, IDS) == id


@pytest.mark.parametrize(
    ("asked", "id"),
    [("a", "a-10"), ("a-2", "a-2"), ("a-1", "a-1-3"), ("a-1-1", "a-1-1"), ("raysubmit_x", "raysubmit_x")],
)
def test_a_job_is_found_by_its_id_or_by_its_name(asked: str, id: str) -> None:
    assert find_job(asked, IDS) == id


def test_what_is_an_id_is_that_job_though_a_sweep_has_the_same_name() -> None:
    ids = ["a-1", "a-2", "a-1-1", "a-1-2"]
    assert find_job("a-1", ids) == "a-1"
    assert newest_job("a-1", ids) == "a-1-2", "who asks for a sweep means no job of another"
    assert find_job("a", ids) == "a-2"


@pytest.mark.parametrize("find", [find_job, newest_job])
def test_what_there_is_not_is_told_with_the_remedy(find: Any) -> None:
    with pytest.raises(UserError, match=r"^there is no job of the name a-3: `advseg job list` lists the jobs$"):
        find("a-3", IDS)


class Job:
    """A job that goes through some states, one at each look."""

    def __init__(self, *states: str) -> None:
        self._states: Iterator[str] = iter(states)
        self.stopped: list[str] = []

    def get_job_status(self, id: str) -> JobStatus:
        return JobStatus(next(self._states))

    def stop_job(self, id: str) -> None:
        self.stopped.append(id)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_POLL_S", 0)


@pytest.mark.parametrize("end", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_waiting_lasts_until_the_end(end: str) -> None:
    client: Any = Job("PENDING", "RUNNING", "RUNNING", end)
    assert wait_for_job(client, "a-1").value == end


def test_stopping_lasts_until_the_end() -> None:
    client: Any = Job("RUNNING", "RUNNING", "STOPPED")
    stop_job(client, "a-1")
    assert client.stopped == ["a-1"]


def test_a_job_that_does_not_stop_is_told_of_and_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "STOP_LIMIT_S", 0.05)
    monkeypatch.setattr(jobs, "_POLL_S", 0.01)
    client: Any = Job(*["RUNNING"] * 100)
    with pytest.raises(UserError, match=r"job a-1 was told to stop, but has not ended in 0\.05 s"):
        stop_job(client, "a-1")
    assert client.stopped == ["a-1"]


def test_a_job_that_has_ended_is_not_stopped() -> None:
    client: Any = Job("SUCCEEDED")
    with pytest.raises(UserError, match="job a-1 has ended already: `advseg job list` says how"):
        stop_job(client, "a-1")
    assert not client.stopped
