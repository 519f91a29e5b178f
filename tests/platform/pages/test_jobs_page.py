"""What is said of jobs of the cluster, and of those that only the ledger knows."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from advseg.platform.ledger.jobs import JobRecord, JobState
from advseg.platform.pages.jobs_page import jobs_of, listed_jobs, print_jobs


def on_cluster(id: str, start: int, state: str = "FAILED", message: str = "") -> Any:
    return SimpleNamespace(
        submission_id=id,
        status=JobStatus(state),
        message=message,
        start_time=1000 * start,
        end_time=None,
        metadata={"name": id.rpartition("-")[0]},
    )


def in_ledger(number: int, at: float, state: JobState = JobState.SUBMITTED, reason: str = "") -> JobRecord:
    return JobRecord(
        name="a",
        number=number,
        digest="d",
        cluster="http://ray",
        submitted_by="me@laptop",
        submitted_at=at,
        state=state,
        reason=reason,
        ended_at=at + 1 if state.is_end else None,
    )


def test_the_newest_come_first_wherever_they_are_known() -> None:
    jobs = listed_jobs([on_cluster("a-3", 30), on_cluster("b-1", 10)], [in_ledger(2, 20), in_ledger(3, 29)])
    assert [(job.id, job.name, job.submitted_by) for job in jobs] == [
        ("a-3", "a", "me@laptop"),
        ("a-2", "a", "me@laptop"),
        ("b-1", "b", None),
    ]


def test_messages_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_jobs(listed_jobs([on_cluster("a-1", 1, message="in [/tmp/a-1]")]))
    assert "in [/tmp/a-1]" in capsys.readouterr().out


def test_without_jobs_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_jobs([])
    assert capsys.readouterr().out == "no jobs yet\n"


def test_what_the_cluster_knows_counts() -> None:
    (job,) = listed_jobs([on_cluster("a-1", 1, "RUNNING")], [in_ledger(1, 1)])
    assert job.state == "RUNNING"


STAGES = ['@advseg {"kind": "stage", "text": "two trials", "waits": false}\n', "a line\n"]
WAITS = '@advseg {"kind": "stage", "text": "2 trials wait", "waits": true}\n'
TRIAL = '@advseg {"kind": "trial", "key": "a/0", "state": "RUNNING", "steps": 8}\n'


@pytest.mark.parametrize(
    ("log", "state"),
    [
        ("", "RUNNING"),
        ("".join(STAGES), "RUNNING"),
        ("".join([*STAGES, WAITS, "a line\n"]), "WAITING"),
        ("".join([WAITS, *STAGES]), "RUNNING"),
        (WAITS + TRIAL, "RUNNING"),
        (None, "RUNNING"),
    ],
)
def test_a_job_that_runs_and_does_nothing_but_wait_is_told_apart(log: str | None, state: str) -> None:
    class Jobs:
        def list_jobs(self) -> list[Any]:
            return [on_cluster("a-1", 2, "RUNNING"), on_cluster("a-2", 1, "PENDING")]

        def get_job_logs(self, id: str) -> str:
            assert id == "a-1", "of others it is not asked"
            if log is None:
                raise RuntimeError("Request failed with status code 500: no agent")
            return log

    client: Any = Jobs()
    told, pending = jobs_of(client)
    assert (told.state, pending.state) == (state, "PENDING")
    assert told.message == ("2 trials wait" if state == "WAITING" else "")


@pytest.mark.parametrize(
    ("state", "reason", "shown", "message"),
    [
        (JobState.SUCCEEDED, "", "SUCCEEDED", ""),
        (JobState.FAILED, "loss became NaN", "FAILED", "loss became NaN"),
        (JobState.STOPPED, "", "STOPPED", ""),
        (JobState.SUBMITTED, "", "UNKNOWN", "http://ray does not say"),
        (JobState.SUBMITTING, "", "UNKNOWN", "it may not have reached http://ray"),
    ],
)
def test_of_a_job_whose_cluster_is_gone_the_last_that_is_known_is_said(
    state: JobState, reason: str, shown: str, message: str
) -> None:
    (job,) = listed_jobs([], [in_ledger(1, 1, state, reason)])
    assert (job.state, job.message) == (shown, message)
