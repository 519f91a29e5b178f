"""The jobs of a ledger: each number is given once, and what became of a job is held once."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from advseg.platform.ledger import patience
from advseg.platform.ledger.database import at_hand
from advseg.platform.ledger.jobs import JobRecord, JobState, JobTable, note_job, read_jobs
from advseg.platform.ledger.patience import LedgerAwayError
from advseg.platform.ledger.schema import JOBS

from ..conftest import writing

on_both = pytest.mark.parametrize("ledger_address", ["sqlite", "postgresql"], indirect=True)


def asked(number: int = 1, digest: str = "d") -> JobRecord:
    return replace(JobRecord.of_now("a", digest, "http://ray"), number=number)


@pytest.fixture
def place(tmp_path: Path, ledger_address: str | None) -> tuple[Path, str | None]:
    """Of a ledger that there is."""
    with writing(tmp_path, ledger_address):
        return tmp_path, ledger_address


@on_both
def test_one_of_several_submitters_gets_a_number(place: tuple[Path, str | None]) -> None:
    def enter(digest: str) -> bool:
        with closing(JobTable(*place)) as table:
            return table.enter(asked(digest=digest))

    with ThreadPoolExecutor(4) as pool:
        entered = dict(zip("abcd", pool.map(enter, "abcd"), strict=True))
    assert sorted(entered.values()) == [False, False, False, True]
    assert [entered[job.digest] for job in read_jobs(*place)] == [True]


@on_both
def test_a_number_whose_answer_was_lost_is_given_to_who_asked(
    place: tuple[Path, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_RETRY_S", 0)
    with closing(JobTable(*place)) as table:
        losses = iter([True])

        @event.listens_for(table._database.engine, "commit")
        def lose(connection: Any) -> None:
            if next(losses, False):
                connection.connection.commit()
                raise LedgerAwayError("its answer was lost")

        assert table.enter(asked())
        assert not table.enter(asked(digest="another"))
    assert [job.digest for job in read_jobs(*place)] == ["d"]


@on_both
def test_the_first_end_of_a_job_stays(place: tuple[Path, str | None]) -> None:
    with closing(JobTable(*place)) as table:
        table.enter(asked())
        table.note("a", 1, JobState.SUBMITTED)
    with at_hand(*place) as engine:
        assert engine
        note_job(engine, "a", 1, JobState.FAILED, "loss became NaN")
        # Its submitter hears late that it was sent.
        note_job(engine, "a", 1, JobState.SUBMITTED)
        note_job(engine, "a", 1, JobState.SUCCEEDED)
        note_job(engine, "b", 1, JobState.SUCCEEDED)
    (job,) = read_jobs(*place)
    assert (job.id, job.state, job.reason) == ("a-1", JobState.FAILED, "loss became NaN")
    assert job.ended_at and job.ended_at >= job.submitted_at


@on_both
def test_who_only_reads_makes_nothing(tmp_path: Path, ledger_address: str | None) -> None:
    assert read_jobs(tmp_path / "runs", ledger_address) == []
    assert not (tmp_path / "runs").exists()


@on_both
def test_a_ledger_of_a_version_before_has_none(place: tuple[Path, str | None]) -> None:
    with writing(*place) as database:
        JOBS.drop(database.engine)
    assert read_jobs(*place) == []


def test_a_ledger_that_is_not_here_is_not_made(tmp_path: Path) -> None:
    with at_hand(tmp_path, None) as engine:
        assert engine is None
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_a_name_is_known_by_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nameless)
    monkeypatch.setattr("os.getuid", lambda: 1234)
    assert asked().submitted_by.startswith("1234@")
