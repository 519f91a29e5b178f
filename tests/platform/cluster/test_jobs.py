"""Which job is meant, which number a new one gets, and a job's end."""

from collections.abc import Iterator
from typing import Any

import pytest
from ray.job_submission import JobStatus

from advseg.platform.cluster import jobs
from advseg.platform.cluster.jobs import choose_number, find_job, newest_job, numbers_of, stop_job, wait_for_job
from advseg.platform.ledger.jobs import JobRecord, JobState
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


NOW = 1_000_000.0


def record(
    number: int, state: JobState = JobState.SUBMITTED, digest: str = "old", *, cluster: str = "here", age: float = 1e4
) -> JobRecord:
    return JobRecord(
        name="probe",
        number=number,
        digest=digest,
        cluster=cluster,
        submitted_by="me@laptop",
        submitted_at=NOW - age,
        state=state,
    )


class TestNumber:
    ASKED = record(0, digest="d", age=0)

    def test_is_the_first_of_a_new_name(self) -> None:
        assert choose_number(self.ASKED, [], {}) == (1, True)

    def test_is_that_of_the_same_job_while_it_is_at_work(self) -> None:
        records = [record(1, JobState.FAILED, "d"), record(2, digest="d")]
        assert choose_number(self.ASKED, records, {"probe-1": False, "probe-2": True}) == (2, False)

    @pytest.mark.parametrize("end", [JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED])
    def test_is_a_new_one_once_the_same_job_has_ended(self, end: JobState) -> None:
        assert choose_number(self.ASKED, [record(10, end, "d")], {}) == (11, True)
        assert choose_number(self.ASKED, [record(10, digest="d")], {"probe-10": False}) == (11, True)
        # Its driver has said so, and is about to be gone.
        assert choose_number(self.ASKED, [record(10, end, "d")], {"probe-10": True}) == (11, True)

    @pytest.mark.parametrize("cluster", ["here", "elsewhere"])
    def test_goes_on_with_a_new_head_which_knows_none_of_the_jobs_before(self, cluster: str) -> None:
        assert choose_number(self.ASKED, [record(7, digest="d", cluster=cluster)], {}) == (8, True)

    def test_is_refused_while_another_job_of_the_name_is_at_work(self) -> None:
        with pytest.raises(
            UserError, match=r"job probe-3 .* another spec: stop it by `advseg job stop probe-3` .*probe-2$"
        ):
            choose_number(self.ASKED, [record(3)], {"probe-3": True})

    def test_is_that_of_the_same_job_which_is_being_sent_or_never_was(self) -> None:
        for age in (0.1, 1e6):
            coming = record(4, JobState.SUBMITTING, "d", age=age)
            assert choose_number(self.ASKED, [coming], {}) == (4, False)

    def test_waits_for_another_job_of_the_name_that_is_being_sent_but_not_for_ever(self) -> None:
        with pytest.raises(UserError, match="job probe-4 of this name runs with another spec"):
            choose_number(self.ASKED, [record(4, JobState.SUBMITTING, age=1)], {})
        for age in (1e4, -1e4):  # The latter was entered by a machine whose clock goes ahead.
            assert choose_number(self.ASKED, [record(4, JobState.SUBMITTING, age=age)], {}) == (5, True)

    def test_is_above_those_that_another_ledger_has_given_on_this_cluster(self) -> None:
        others = {"probe-7": True, "probe-x-9": True, "prob-11": True, "raysubmit_x": True}
        assert choose_number(self.ASKED, [record(3, JobState.FAILED)], others) == (8, True)


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
    stop_job(client, "a-1", print)
    assert client.stopped == ["a-1"]


def test_a_job_that_does_not_stop_is_told_of_and_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "STOP_LIMIT_S", 0.05)
    monkeypatch.setattr(jobs, "_POLL_S", 0.01)
    client: Any = Job(*["RUNNING"] * 100)
    with pytest.raises(UserError, match=r"job a-1 was told to stop, but has not ended in 0\.05 s"):
        stop_job(client, "a-1", print)
    assert client.stopped == ["a-1"]


def test_a_job_that_has_ended_is_not_stopped() -> None:
    client: Any = Job("SUCCEEDED")
    with pytest.raises(UserError, match="job a-1 has ended already: `advseg job list` says how"):
        stop_job(client, "a-1", print)
    assert not client.stopped
