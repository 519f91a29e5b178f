"""What the verbs of jobs say and how they end, with a cluster that is a fake."""

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from advseg.platform.ledger.jobs import JobRecord, JobState, JobTable

Command = Callable[..., tuple[int, str, str]]

EVENT = '@advseg {"kind": "stage", "text": "two trials"}\n'


def test_logs_are_what_the_newest_job_of_a_name_printed(advseg: Command, jobs: Any) -> None:
    jobs.add("a-1", log="old\n")
    jobs.add("a-2", log=f"{EVENT}new [/x]\n")
    jobs.add("a-1-1", log="another's\n")
    assert advseg("job", "logs", "a") == (0, "two trials\nnew [/x]\n", "")
    assert advseg("job", "logs", "a-1") == (0, "old\n", "")


@pytest.mark.parametrize("verb", ["follow", "wait"])
@pytest.mark.parametrize(("state", "status"), [("SUCCEEDED", 0), ("FAILED", 1), ("STOPPED", 1)])
def test_following_and_waiting_end_as_the_job_does(
    advseg: Command, jobs: Any, verb: str, state: str, status: int
) -> None:
    jobs.add("a-1", state)
    hint = "; `advseg job logs a-1` says why" if state == "FAILED" else ""
    ended, out, err = advseg("job", verb, "a")
    assert (ended, out.splitlines()[-1], err) == (status, f"job a-1 ended: {state}{hint}", "")


@pytest.mark.parametrize("verb", ["job", "sweep"])
def test_stopping_stops_the_newest_job_of_a_name(advseg: Command, jobs: Any, verb: str) -> None:
    jobs.add("a-1", "SUCCEEDED")
    jobs.add("a-2")
    jobs.add("b-3")
    assert advseg(verb, "stop", "a") == (0, "job a-2 is asked to stop\njob a-2 is stopped\n", "")
    assert jobs.states == {"a-1": "SUCCEEDED", "a-2": "STOPPED", "b-3": "RUNNING"}


def test_a_sweep_of_the_name_of_anothers_job_is_the_one_that_sweep_stop_stops(advseg: Command, jobs: Any) -> None:
    jobs.add("a-1")
    jobs.add("a-1-1")
    assert advseg("sweep", "stop", "a-1") == (0, "job a-1-1 is asked to stop\njob a-1-1 is stopped\n", "")
    assert jobs.states["a-1"] == "RUNNING"


@pytest.mark.parametrize("verb", ["job logs", "job follow", "job stop", "job wait", "sweep stop"])
def test_a_job_that_there_is_not_is_told_in_a_line(advseg: Command, jobs: Any, verb: str) -> None:
    jobs.add("a-1")
    said = "error: there is no job of the name [/b]: `advseg job list` lists the jobs\n"
    assert advseg(*verb.split(), "[/b]") == (2, "", said)


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.ConnectionError("refused"),
        RuntimeError("Request failed with status code 500: Traceback\n..."),
    ],
    ids=repr,
)
def test_a_cluster_that_goes_away_is_told_in_a_line(
    advseg: Command, jobs: Any, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise error

    jobs.add("a-1")
    monkeypatch.setattr(jobs, "get_job_logs", away)
    status, out, err = advseg("job", "logs", "a")
    assert (status, out) == (2, "")
    assert err.startswith("error: the Ray cluster at http://ray does not answer any more (")
    assert len(err.splitlines()) == 1


def test_the_log_of_a_job_that_never_began_is_what_the_cluster_says_of_it(advseg: Command, jobs: Any) -> None:
    jobs.add("a-1", "FAILED")
    assert advseg("job", "logs", "a") == (0, "in [/tmp/a-1]\n", "")


def test_a_list_has_the_newest_job_first(advseg: Command, jobs: Any) -> None:
    assert advseg("job", "list")[1] == "no jobs yet\n"
    jobs.add("a-1", "FAILED")
    jobs.add("a-2")
    lines = [line.split() for line in advseg("job", "list")[1].splitlines()]
    assert lines[1:] == [["a-2", "RUNNING", "in", "[/tmp/a-2]"], ["a-1", "FAILED", "in", "[/tmp/a-1]"]]


class TestHistory:
    """Jobs of a head that is gone, in the ledger of this home."""

    @pytest.fixture(autouse=True)
    def ledger(self, tmp_path: Path) -> None:
        with closing(JobTable(tmp_path / "home" / "runs", None)) as table:
            for number, state, reason in (
                (1, JobState.SUCCEEDED, ""),
                (2, JobState.FAILED, "loss became NaN"),
                (3, JobState.SUBMITTED, ""),
            ):
                record = replace(JobRecord.of_now("a", "d", "http://ray"), number=number, submitted_at=float(number))
                assert table.enter(record)
                table.note("a", number, state, reason)

    SAID = ("a-3 UNKNOWN http://ray does not say", "a-2 FAILED loss became NaN", "a-1 SUCCEEDED")

    def test_is_listed_with_the_jobs_of_a_new_head(self, advseg: Command, jobs: Any) -> None:
        jobs.add("a-4")
        _, *lines = advseg("job", "list")[1].splitlines()
        assert [" ".join(line.split()) for line in lines] == [*self.SAID, "a-4 RUNNING in [/tmp/a-4]"]

    def test_is_listed_without_a_head(self, advseg: Command) -> None:
        status, out, err = advseg("job", "list")
        assert status == 0
        assert [" ".join(line.split()) for line in out.splitlines()[1:]] == [*self.SAID]
        assert err.startswith("as the ledger has them, for the Ray head does not run in ")

    @pytest.mark.parametrize("verb", ["wait", "follow"])
    @pytest.mark.parametrize(
        ("id", "status", "said"),
        [("a-1", 0, "job a-1 ended: SUCCEEDED\n"), ("a-2", 1, "job a-2 ended: FAILED; loss became NaN\n")],
    )
    def test_tells_how_a_job_ended_to_who_waits_for_it(
        self, advseg: Command, jobs: Any, verb: str, id: str, status: int, said: str
    ) -> None:
        assert advseg("job", verb, id) == (status, said, "")

    @pytest.mark.parametrize("command", ["logs a-2", "stop a-2", "wait a", "follow a-3"])
    def test_has_no_more_of_a_job_than_that(self, advseg: Command, jobs: Any, command: str) -> None:
        status, out, err = advseg("job", *command.split())
        assert (status, out, len(err.splitlines())) == (2, "", 1)
        assert "was submitted to http://ray and is not known there now" in err

    def test_that_cannot_be_read_keeps_no_cluster_from_telling(
        self, advseg: Command, jobs: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ADVSEG_LEDGER", "postgresql://team@127.0.0.1:9/advseg")
        jobs.add("a-1")
        status, out, err = advseg("job", "list")
        assert (status, len(out.splitlines()), len(err.splitlines())) == (0, 2, 1)
        assert err.startswith("without the jobs of the ledger: ledger postgresql://...@127.0.0.1:9/advseg cannot be")


@pytest.mark.parametrize(("state", "status"), [("SUCCEEDED", 0), ("FAILED", 1), ("STOPPED", 1)])
def test_following_a_log_ends_as_the_job_does(advseg: Command, jobs: Any, state: str, status: int) -> None:
    jobs.add("a-1", state, log=f"one\n{EVENT}two")
    assert advseg("job", "logs", "a", "--follow") == (status, "one\ntwo trials\ntwo", f"job a-1 ended: {state}\n")


@pytest.mark.parametrize("command", ["job follow a", "job logs a --follow"])
def test_a_head_that_dies_under_who_follows_is_told_in_a_line(
    advseg: Command, jobs: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: str) -> None:
        raise requests.exceptions.ConnectionError("refused")

    jobs.add("a-1", log="one\n")
    monkeypatch.setattr(jobs, "get_job_status", away)
    monkeypatch.setattr(jobs, "get_job_info", away)
    monkeypatch.setattr(jobs, "list_jobs", lambda: [SimpleNamespace(submission_id="a-1")])
    status, _, err = advseg(*command.split())
    assert (status, len(err.splitlines())) == (1, 1)
    assert err.startswith("error: job a-1 cannot be followed any more, as its cluster does not answer (refused): ")


def test_what_a_command_silences_is_heard_again_after_it(advseg: Command, jobs: Any) -> None:
    jobs.add("a-1")
    assert advseg("job", "list")[0] == 0
    assert logging.getLogger("advseg").isEnabledFor(logging.CRITICAL)
    assert logging.root.manager.disable == logging.NOTSET


class TestADatasetThatIsNotHere:
    @pytest.fixture
    def submitted(self, jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        job = SimpleNamespace(id="tiny-1", is_new=True)
        monkeypatch.setattr("advseg.platform.cluster.submit.submit", lambda *_: job)

    def test_is_looked_for_on_a_cluster_elsewhere(
        self, advseg: Command, submitted: None, spec: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAY_ADDRESS", "http://ray")
        status, out, err = advseg("submit", spec, "--set=dataset.root=/nowhere")
        assert (status, err) == (0, "")
        assert out.splitlines()[:2] == [
            "job tiny-1 submitted",
            "dataset.root is not on this machine: it is looked for on the cluster before anything trains",
        ]

    def test_is_refused_for_the_local_cluster(self, advseg: Command, submitted: None, spec: Path) -> None:
        status, out, err = advseg("submit", spec, "--set=dataset.root=/nowhere")
        assert (status, out) == (2, "")
        assert "dataset.root: folder /nowhere does not exist" in err

    def test_that_is_here_is_no_news(
        self, advseg: Command, submitted: None, spec: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAY_ADDRESS", "http://ray")
        _, out, _ = advseg("submit", spec)
        assert "is not on this machine" not in out
