"""A ledger that is away for a while: its owner waits, and does everything once."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from optuna.trial import TrialState
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from advseg.platform.ledger import database, opening, patience
from advseg.platform.ledger.database import open_database
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.optuna_storage import PatientStorage
from advseg.platform.ledger.ownership import Owner
from advseg.platform.ledger.patience import LedgerAwayError, is_away
from advseg.platform.ledger.rows import Row
from advseg.platform.spec.ledger_address import database_url, ledger_file
from advseg.platform.spec.spec import Spec
from advseg.platform.workers.account import Account

from ..conftest import ORIGIN, PostgresServer

MakeSpec = Callable[..., Spec]
Opened = Callable[..., Ledger]

on_both = pytest.mark.parametrize("ledger_address", ["sqlite", "postgresql"], indirect=True)
SWEEP = (
    "sweep.trials=4",
    "sweep.sampler={name: tpe, startup_trials: 2}",
    "sweep.first=[{method.lambda_adv: 0.5, method.threshold: 0.25}]",
)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_RETRY_S", 0.01)


def sweep(ledger: Ledger, at_trial: Callable[[int], object] = lambda number: None) -> tuple[list[Row], Row]:
    """Run all trials and the baseline of a sweep, without training; what its ledger holds then."""
    while (number := ledger.propose()) is not None:
        at_trial(number)
        ledger.note(number, Account(attempts=1))
        ledger.report(number, 4, 10.0 + number)
        ledger.report(number, 8, 20.0 + number)
        ledger.note(number, Account(attempts=1, device_seconds=float(number)))
        failed = number == 1
        ledger.finish(number, TrialState.FAIL if failed else TrialState.COMPLETE, "broken" if failed else "")
    ledger.hold_baseline(replace(ledger.baseline(), state=TrialState.COMPLETE, curve={8: 30.0}))
    ledger.ownership.check()
    return ledger.rows(), ledger.baseline()


@pytest.fixture
def undisturbed(make_spec: MakeSpec, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], Row]:
    ledger = opening.open_ledger(tmp_path_factory.mktemp("undisturbed"), make_spec(*SWEEP), ORIGIN)
    with closing(ledger):
        return sweep(ledger)


@contextmanager
def locked(storage: Path, address: str | None) -> Iterator[Callable[[], object]]:
    """Another program holds all that a ledger writes to, until it is told to let go."""
    engine = create_engine(database_url(storage, address), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("BEGIN IMMEDIATE" if address is None else "BEGIN"))
        if address is not None:
            tables = "trials, studies, study_user_attributes, advseg_owners, advseg_accounts, advseg_baselines"
            connection.execute(text(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"))
        yield lambda: connection.execute(text("ROLLBACK"))
    engine.dispose()


WRITES: dict[str, Callable[[Ledger], object]] = {
    "propose": lambda ledger: ledger.propose(),
    "report": lambda ledger: ledger.report(0, 8, 50.0),
    "finish": lambda ledger: ledger.finish(0, TrialState.FAIL, "broken"),
    "begin an account": lambda ledger: ledger.note(1, Account(attempts=9)),
    "change an account": lambda ledger: ledger.note(0, Account(attempts=9)),
    "hold the baseline": lambda ledger: ledger.hold_baseline(ledger.baseline()),
}


class TestLock:
    """Of another program, a backup for instance."""

    @on_both
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
    def test_is_waited_for_by_every_write(
        self,
        make_spec: MakeSpec,
        opened: Opened,
        tmp_path: Path,
        ledger_address: str | None,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        write: Callable[[Ledger], object],
    ) -> None:
        monkeypatch.setattr(database, "OWNER_WAIT_S", 0.01)
        monkeypatch.setattr(database, "_LIMITS_S", {"lock_timeout": 0.01})
        ledger = opened(make_spec(*SWEEP))
        ledger.propose()
        ledger.note(0, Account(attempts=1))
        with locked(tmp_path, ledger_address) as let_go:
            writer = threading.Thread(target=write, args=(ledger,))
            writer.start()
            wait_until(lambda: "trying again: ledger" in caplog.text)
            assert writer.is_alive()
            let_go()
            writer.join()
        before = ledger.rows()
        write(ledger)
        extra = 1 if write is WRITES["propose"] else 0
        assert len(ledger.rows()) == len(before) + extra

    def test_that_never_ends_is_told_with_the_remedy(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database, "OWNER_WAIT_S", 0.01)
        ledger = opened(make_spec())
        monkeypatch.setattr(patience, "PATIENCE_S", 0)
        with locked(tmp_path, None) as let_go:
            with pytest.raises(
                LedgerAwayError, match=r"ledger .*ledger\.db does not answer .*whoever locks it"
            ) as told:
                ledger.propose()
            assert "\n" not in str(told.value)
            let_go()
        assert ledger.propose() == 0

    def test_when_a_sweep_is_given_up_does_not_break_its_end(
        self,
        make_spec: MakeSpec,
        opened: Opened,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(database, "OWNER_WAIT_S", 0.01)
        ledger = opened(make_spec())
        with locked(tmp_path, None):
            ledger.ownership.release()
        assert "the sweep is not given up, so the next owner waits for 20 s" in caplog.text

    def test_of_a_dashboard_that_reads_holds_nobody_up(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        ledger = opened(make_spec(*SWEEP))
        with closing(sqlite3.connect(ledger_file(tmp_path))) as dashboard:
            dashboard.execute("BEGIN")
            dashboard.execute("SELECT count(*) FROM trials").fetchall()
            began = time.monotonic()
            rows, _ = sweep(ledger)
            assert time.monotonic() - began < database.OWNER_WAIT_S
        assert len(rows) == 4
        assert "trying again" not in caplog.text


class TestLostAnswer:
    """What was asked has been done, and nobody knows."""

    @on_both
    @pytest.mark.parametrize("every", [2, 3])
    def test_makes_nothing_twice(
        self,
        make_spec: MakeSpec,
        opened: Opened,
        ledger_address: str | None,
        undisturbed: tuple[list[Row], Row],
        monkeypatch: pytest.MonkeyPatch,
        every: int,
    ) -> None:
        lost = 0

        def losing(storage: Path, ledger: str | None) -> PatientStorage:
            nonlocal lost
            opened_database = open_database(storage, ledger)
            commit, commits = opened_database.engine.dialect.do_commit, 0

            def commit_and_lose(connection: Any) -> None:
                nonlocal lost, commits
                commit(connection)
                commits += 1
                if commits % every == 0:
                    lost += 1
                    raise absence(ledger)

            monkeypatch.setattr(opened_database.engine.dialect, "do_commit", commit_and_lose)
            return opened_database

        monkeypatch.setattr(opening, "open_database", losing)
        ledger = opened(make_spec(*SWEEP), owner=Owner.here())
        assert ledger.ownership.epoch == 1
        assert sweep(ledger) == undisturbed
        assert lost > 20


class TestRestart:
    @pytest.mark.parametrize("ledger_address", ["postgresql"], indirect=True)
    def test_of_postgresql_in_the_middle_of_a_sweep_changes_nothing(
        self,
        make_spec: MakeSpec,
        opened: Opened,
        postgres_server: PostgresServer,
        undisturbed: tuple[list[Row], Row],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def start_again() -> None:
            wait_until(lambda: "trying again: ledger" in caplog.text)
            postgres_server.start()

        starter = threading.Thread(target=start_again)

        def restart(number: int) -> None:
            if number == 2:
                postgres_server.stop()
                starter.start()

        assert sweep(opened(make_spec(*SWEEP)), restart) == undisturbed
        starter.join()

    @pytest.mark.parametrize("ledger_address", ["postgresql"], indirect=True)
    def test_of_postgresql_while_nobody_asks_it_is_not_noticed(
        self, make_spec: MakeSpec, opened: Opened, postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        ledger = opened(make_spec(*SWEEP))
        ledger.propose()
        postgres_server.stop()
        postgres_server.start()
        ledger.report(0, 8, 50.0)
        assert ledger.row(0).value == 50.0
        # A heartbeat may have come while it was down.
        assert [record for record in caplog.records if record.name == patience.__name__] == []


class TestAbsence:
    @pytest.mark.parametrize(
        ("code", "away"),
        [
            (sqlite3.SQLITE_BUSY, True),
            (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
            (sqlite3.SQLITE_FULL, True),
            (sqlite3.SQLITE_IOERR_WRITE, True),
            (sqlite3.SQLITE_ERROR, False),
            (sqlite3.SQLITE_CORRUPT, False),
            (sqlite3.SQLITE_CONSTRAINT, False),
        ],
    )
    def test_of_sqlite_is_told_by_its_code(self, code: int, away: bool) -> None:
        error = sqlite3.OperationalError("it says so")
        error.sqlite_errorcode = code
        assert is_away(error, OperationalError("", {}, error)) is away

    @pytest.mark.parametrize(
        ("error", "away"),
        [
            (psycopg.OperationalError("connection refused"), True),
            (psycopg.errors.AdminShutdown("restart"), True),
            (psycopg.errors.LockNotAvailable("locked"), True),
            (psycopg.errors.ReadOnlySqlTransaction("failover"), True),
            (psycopg.errors.UndefinedTable("none"), False),
            (psycopg.errors.UniqueViolation("twice"), False),
        ],
    )
    def test_of_postgresql_is_told_by_its_class(self, error: psycopg.Error, away: bool) -> None:
        kind = OperationalError if isinstance(error, psycopg.OperationalError) else ProgrammingError
        assert is_away(error, kind("", {}, error)) is away


def absence(ledger: str | None) -> Exception:
    if ledger is not None:
        return psycopg.OperationalError("the connection is lost")
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)
