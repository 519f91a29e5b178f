"""Who owns a sweep, on either database."""

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from advseg.platform.base.keys import JOB
from advseg.platform.ledger import ownership
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.ownership import PATIENCE_S, Owner, Ownership, claim, fence
from advseg.platform.ledger.reading import read_sweep
from advseg.platform.ledger.rows import BASELINE_NUMBER, Row
from advseg.platform.ledger.schema import OWNERS
from advseg.platform.spec.spec import Spec
from advseg.platform.workers.account import Account
from advseg.trainers.errors import FencedError, UserError

from ..conftest import writing

on_both = pytest.mark.parametrize("ledger_address", ["sqlite", "postgresql"], indirect=True)

MakeSpec = Callable[..., Spec]
Opened = Callable[..., Ledger]

HERE = Owner.here()
DEAD = replace(HERE, created=HERE.created - 1e6)
"""Its pid is this process's by now."""
SWEEP = "5" * 32
ELSEWHERE = Owner(job="probe-3", host="another", pid=1, created=5.0, space="another/1")
NAMESAKE = replace(DEAD, space="another/1")
"""In a container of its own, which has the host name of this process's."""
UNTOLD = replace(DEAD, space="")
"""As an older version of advseg wrote it."""


@pytest.fixture
def database(tmp_path: Path, ledger_address: str | None) -> Iterator[RDBStorage]:
    with writing(tmp_path, ledger_address) as database:
        yield database


@pytest.fixture
def engine(database: RDBStorage) -> Engine:
    return database.engine


@pytest.fixture
def study_id(database: RDBStorage) -> int:
    return database.create_new_study([StudyDirection.MAXIMIZE], "probe")


@pytest.fixture
def owning(engine: Engine) -> Iterator[Callable[..., Ownership]]:
    """Makes an owner of an epoch, whose heart beats quickly."""
    held = []

    def own(epoch: int) -> Ownership:
        held.append(Ownership(engine, SWEEP, epoch, beat_s=0.01))
        return held[-1]

    yield own
    for each in held:
        each.release()


class Clock:
    """Counts five seconds from each look to the next, whatever the clock on the wall says."""

    def __init__(self, at_look: Callable[[int], None] = lambda number: None) -> None:
        self.looks = 0
        self._at_look = at_look

    def __call__(self) -> float:
        self._at_look(self.looks)
        self.looks += 1
        return 5.0 * (self.looks - 1)


def never(number: int) -> None:
    """For a clock that nobody need look at twice."""
    assert number == 0, "it waited"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def owners(engine: Engine) -> Any:
    with engine.connect() as connection:
        return connection.execute(OWNERS.select()).one()


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock on the wall is set at every look: forwards by a day, and backwards."""
    days = itertools.cycle([0, 1, 5, -3])
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 86400 * next(days))


@on_both
class TestClaim:
    def test_of_a_sweep_that_nobody_owns_begins_with_epoch_1(self, engine: Engine) -> None:
        assert claim(engine, SWEEP, "probe", HERE, clock=Clock(never)) == 1

    def test_is_refused_naming_the_owner_whose_heart_beats(
        self, engine: Engine, owning: Callable[..., Ownership]
    ) -> None:
        owning(claim(engine, SWEEP, "probe", replace(HERE, job="probe-7")))
        with pytest.raises(UserError) as caught:
            claim(engine, SWEEP, "probe", HERE, poll_s=0.02)
        assert str(caught.value) == (
            f"sweep probe is owned by job probe-7, process {os.getpid()} on {socket.gethostname()}, which is alive: "
            f"follow it, or stop it by `advseg job stop probe-7`"
        )

    def test_is_refused_also_by_an_owner_on_another_machine_and_outside_of_a_job(
        self, engine: Engine, owning: Callable[..., Ownership]
    ) -> None:
        owning(claim(engine, SWEEP, "probe", replace(ELSEWHERE, job="")))
        with pytest.raises(UserError, match=r"owned by process 1 on another, .* or stop it by ending that process$"):
            claim(engine, SWEEP, "probe", HERE, poll_s=0.02)

    def test_is_refused_while_the_clocks_on_the_walls_jump(
        self, engine: Engine, owning: Callable[..., Ownership], jumping: None
    ) -> None:
        owning(claim(engine, SWEEP, "probe", ELSEWHERE))
        with pytest.raises(UserError, match="owned by job probe-3"):
            claim(engine, SWEEP, "probe", HERE, poll_s=0.02)

    def test_takes_over_at_once_from_an_owner_that_has_ended_on_this_machine(self, engine: Engine) -> None:
        claim(engine, SWEEP, "probe", DEAD)
        assert claim(engine, SWEEP, "probe", HERE, clock=Clock(never)) == 2

    def test_takes_over_at_once_from_an_owner_that_gave_the_sweep_up(self, engine: Engine) -> None:
        Ownership(engine, SWEEP, claim(engine, SWEEP, "probe", ELSEWHERE)).release()
        assert claim(engine, SWEEP, "probe", HERE, clock=Clock(never)) == 2

    def test_takes_over_if_the_owner_gives_the_sweep_up_meanwhile(
        self, engine: Engine, owning: Callable[..., Ownership]
    ) -> None:
        owner = Ownership(engine, SWEEP, claim(engine, SWEEP, "probe", ELSEWHERE), beat_s=3600)
        clock = Clock(lambda number: owner.release() if number == 1 else None)
        assert claim(engine, SWEEP, "probe", HERE, poll_s=0, clock=clock) == 2
        assert clock.looks == 2

    @pytest.mark.parametrize("owner", [ELSEWHERE, HERE], ids=["on another machine", "stopped on this one"])
    def test_takes_over_from_a_silent_owner_once_its_patience_ends(self, engine: Engine, owner: Owner) -> None:
        claim(engine, SWEEP, "probe", owner)
        clock = Clock()
        assert claim(engine, SWEEP, "probe", HERE, poll_s=0, clock=clock) == 2
        # Its first look starts the time.
        assert 5.0 * (clock.looks - 1) == PATIENCE_S

    def test_waits_as_long_while_the_clocks_on_the_walls_jump(self, engine: Engine, jumping: None) -> None:
        claim(engine, SWEEP, "probe", ELSEWHERE)
        clock = Clock()
        assert claim(engine, SWEEP, "probe", HERE, poll_s=0, clock=clock) == 2
        assert 5.0 * (clock.looks - 1) == PATIENCE_S

    def test_is_refused_by_an_owner_that_took_over_while_it_waited(self, engine: Engine) -> None:
        claim(engine, SWEEP, "probe", ELSEWHERE)
        faster = replace(HERE, job="faster")

        def take_over(number: int) -> None:
            if number == 2:
                claim(engine, SWEEP, "probe", faster, patience_s=0)

        with pytest.raises(UserError, match="sweep probe is owned by job faster"):
            claim(engine, SWEEP, "probe", HERE, poll_s=0, clock=Clock(take_over))
        assert owners(engine).epoch == 2

    def test_is_won_by_one_of_several_that_make_it_at_the_same_moment(self, engine: Engine) -> None:
        takers = 4
        have_looked = threading.Barrier(takers)
        results: list[object] = []

        def take() -> None:
            try:
                results.append(claim(engine, SWEEP, "probe", HERE, clock=lambda: have_looked.wait(300)))
            except UserError as error:
                results.append(str(error))

        threads = [threading.Thread(target=take) for _ in range(takers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results.count(1) == 1
        lost = "sweep probe was taken over by another process at this very moment: follow that one"
        assert results.count(lost) == takers - 1
        assert owners(engine).epoch == 1

    def test_is_of_one_sweep(self, engine: Engine, owning: Callable[..., Ownership]) -> None:
        owning(claim(engine, SWEEP, "probe", ELSEWHERE))
        assert claim(engine, "another", "other", HERE, clock=Clock(never)) == 1


class TestOwner:
    def test_is_this_process_of_its_job(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(JOB, "probe-4")
        assert str(Owner.here()) == f"job probe-4, process {os.getpid()} on {socket.gethostname()}"

    def test_is_gone_only_if_it_is_known_to_be(self) -> None:
        known = {HERE: False, DEAD: True, ELSEWHERE: False, NAMESAKE: False, UNTOLD: False}
        assert {owner: owner.is_gone() for owner in known} == known

    def test_may_be_gone_also_if_it_ran_on_this_machine_before_it_went_down(self) -> None:
        known = {HERE: False, DEAD: True, ELSEWHERE: False, NAMESAKE: True, UNTOLD: True}
        assert {owner: owner.may_be_gone() for owner in known} == known

    def test_of_an_older_version_is_read(self) -> None:
        assert Owner(job="", host="a", pid=1, created=5.0).space == ""


@on_both
class TestOwnership:
    def test_is_known_to_be_lost_without_asking_again_once_a_heartbeat_is_refused(
        self, engine: Engine, owning: Callable[..., Ownership], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stale = owning(claim(engine, SWEEP, "probe", DEAD))
        claim(engine, SWEEP, "probe", HERE)
        wait_until(lambda: not stale._thread.is_alive())
        monkeypatch.setattr(ownership, "_read", lambda *_: pytest.fail("it asked"))
        with pytest.raises(FencedError, match="another process has taken this sweep over since epoch 1"):
            stale.check()

    def test_is_known_to_be_lost_also_before_the_next_heartbeat(self, engine: Engine) -> None:
        stale = Ownership(engine, SWEEP, claim(engine, SWEEP, "probe", DEAD), beat_s=3600)
        stale.check()
        claim(engine, SWEEP, "probe", HERE)
        with pytest.raises(FencedError):
            stale.check()
        stale.release()

    def test_that_is_lost_takes_nothing_from_the_new_owner(self, engine: Engine) -> None:
        stale = Ownership(engine, SWEEP, claim(engine, SWEEP, "probe", DEAD), beat_s=0.01)
        claim(engine, SWEEP, "probe", ELSEWHERE)
        stale.release()
        assert (owners(engine).epoch, owners(engine).beats) == (2, 0)
        assert '"another"' in owners(engine).owner

    def test_is_given_up_though_a_heartbeat_gets_no_answer(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ownership, "_JOIN_S", 0.05)
        stuck, go_on = threading.Event(), threading.Event()

        @event.listens_for(engine, "before_cursor_execute")
        def stick(*_: Any) -> None:
            if threading.current_thread().name == "owner":
                stuck.set()
                go_on.wait(60)

        mine = Ownership(engine, SWEEP, claim(engine, SWEEP, "probe", HERE), beat_s=0.01)
        try:
            assert stuck.wait(60)
            mine.release()
            assert owners(engine).owner is None
        finally:
            go_on.set()
            mine._thread.join()

    def test_outlives_a_database_that_is_away_for_a_while(
        self,
        engine: Engine,
        owning: Callable[..., Ownership],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        owner = owning(claim(engine, SWEEP, "probe", HERE))

        def away(*_: Any) -> None:
            raise OperationalError("update", {}, Exception("no answer"))

        event.listen(engine, "before_cursor_execute", away)
        wait_until(lambda: "the ledger did not take a heartbeat, trying again" in caplog.text)
        event.remove(engine, "before_cursor_execute", away)
        before = owners(engine).beats
        wait_until(lambda: owners(engine).beats > before)
        owner.check()


WRITES: dict[str, Callable[[RDBStorage, int, int], object]] = {
    "a new trial": lambda database, study, trial: database.create_new_trial(study),
    "a parameter": lambda database, study, trial: database.set_trial_param(trial, "x", 0.5, FloatDistribution(0, 1)),
    "a report": lambda database, study, trial: database.set_trial_intermediate_value(trial, 1, 0.5),
    "an end": lambda database, study, trial: database.set_trial_state_values(trial, TrialState.COMPLETE, [0.5]),
    "an attribute of a trial": lambda database, study, trial: database.set_trial_user_attr(trial, "key", "value"),
    "a rung of a pruner": lambda database, study, trial: database.set_trial_system_attr(trial, "key", "value"),
    "an attribute of the study": lambda database, study, trial: database.set_study_user_attr(study, "key", "value"),
}


@on_both
class TestFence:
    @staticmethod
    def content(database: RDBStorage, study_id: int) -> object:
        """All that Optuna holds of a sweep."""
        database.remove_session()
        return database.get_all_trials(study_id), database.get_study_user_attrs(study_id)

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
    def test_lets_an_owner_write(
        self, database: RDBStorage, study_id: int, tmp_path: Path, ledger_address: str | None, write: Callable[..., Any]
    ) -> None:
        trial = database.create_new_trial(study_id)
        before = self.content(database, study_id)
        with writing(tmp_path, ledger_address) as owners:
            fence(owners, SWEEP, claim(owners.engine, SWEEP, "probe", HERE))
            write(owners, study_id, trial)
        assert self.content(database, study_id) != before

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
    def test_refuses_every_write_of_a_stale_owner_which_leaves_no_trace(
        self, database: RDBStorage, study_id: int, tmp_path: Path, ledger_address: str | None, write: Callable[..., Any]
    ) -> None:
        trial = database.create_new_trial(study_id)
        before = self.content(database, study_id)
        with writing(tmp_path, ledger_address) as stales:
            fence(stales, SWEEP, claim(stales.engine, SWEEP, "probe", DEAD))
            claim(database.engine, SWEEP, "probe", HERE)
            with pytest.raises(FencedError, match="taken this sweep over since epoch 1: nothing more is written"):
                write(stales, study_id, trial)
        assert self.content(database, study_id) == before

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
    def test_makes_a_taker_wait_for_a_write_that_was_checked_already(
        self, database: RDBStorage, study_id: int, tmp_path: Path, ledger_address: str | None, write: Callable[..., Any]
    ) -> None:
        fence(database, SWEEP, claim(database.engine, SWEEP, "probe", DEAD))
        trial = database.create_new_trial(study_id)
        before = self.content(database, study_id)
        takes, has_taken = threading.Event(), threading.Event()

        def take_over() -> None:
            with writing(tmp_path, ledger_address) as other:
                event.listen(other.engine, "before_cursor_execute", lambda *_: takes.set())
                claim(other.engine, SWEEP, "probe", HERE)
                has_taken.set()

        taker = threading.Thread(target=take_over)

        # Listeners are asked in order: this one comes after the fence, right before the commit.
        @event.listens_for(database.scoped_session, "before_commit")
        def meanwhile(_: Any) -> None:
            if not takes.is_set():
                taker.start()
                assert takes.wait(300)
                assert not has_taken.wait(0.2)

        write(database, study_id, trial)
        taker.join()
        assert has_taken.is_set()
        with writing(tmp_path, ledger_address) as new:
            assert self.content(new, study_id) != before


LEDGER_WRITES: dict[str, Callable[[Ledger], object]] = {
    "propose": lambda ledger: ledger.propose(),
    "report": lambda ledger: ledger.report(0, 2, 50.0),
    "complete": lambda ledger: ledger.finish(0, TrialState.COMPLETE),
    "fail": lambda ledger: ledger.finish(0, TrialState.FAIL, "broken"),
    "begin an account": lambda ledger: ledger.note(1, Account(attempts=9)),
    "begin the baseline": lambda ledger: ledger.hold_baseline(BASELINE),
    "change an account": lambda ledger: ledger.note(0, Account(attempts=9)),
}
BASELINE = Row(number=BASELINE_NUMBER, params={}, state=TrialState.RUNNING, reason="", curve={2: 40.0})
HALVING = "sweep.pruner={name: successive_halving, min_resource: 1}"


@on_both
class TestLedger:
    @staticmethod
    def begun(ledger: Ledger) -> Ledger:
        """With a trial that has an account, and one that has none."""
        ledger.propose()
        ledger.propose()
        ledger.report(0, 1, 10.0)
        ledger.note(0, Account(attempts=1))
        return ledger

    @pytest.mark.parametrize(
        "write",
        LEDGER_WRITES.values(),
        ids=LEDGER_WRITES.keys(),
    )
    def test_refuses_what_a_stale_owner_writes(
        self,
        make_spec: MakeSpec,
        opened: Opened,
        tmp_path: Path,
        ledger_address: str | None,
        monkeypatch: pytest.MonkeyPatch,
        write: Callable[[Ledger], object],
    ) -> None:
        spec = make_spec(HALVING)
        stale = self.begun(opened(spec))
        rows = stale.rows()
        opened(spec)
        # What it has read before it was taken over from.
        monkeypatch.setattr(stale, "row", lambda number: rows[number])
        with pytest.raises(FencedError):
            write(stale)
        record = read_sweep(tmp_path, "probe", ledger_address)
        assert (record.rows, record.baseline.state) == (rows, TrialState.WAITING)

    @pytest.mark.parametrize("write", LEDGER_WRITES.values(), ids=LEDGER_WRITES.keys())
    def test_takes_what_the_new_owner_writes(
        self,
        make_spec: MakeSpec,
        opened: Opened,
        tmp_path: Path,
        ledger_address: str | None,
        write: Callable[[Ledger], object],
    ) -> None:
        spec = make_spec(HALVING)
        self.begun(opened(spec))
        before = read_sweep(tmp_path, "probe", ledger_address)
        write(opened(spec))
        after = read_sweep(tmp_path, "probe", ledger_address)
        assert (after.rows, after.baseline) != (before.rows, before.baseline)

    def test_of_an_owner_that_is_alive_is_not_opened(
        self, make_spec: MakeSpec, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("advseg.platform.ledger.opening.Ownership", partial(Ownership, beat_s=0.01))
        ledger = self.begun(opened(make_spec(), owner=HERE))
        with pytest.raises(UserError, match=r"sweep probe is owned by process \d+ on "):
            opened(make_spec(), owner=HERE)
        ledger.report(1, 1, 5.0)

    def test_is_opened_at_once_after_it_was_closed(
        self, make_spec: MakeSpec, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened(make_spec(), owner=ELSEWHERE).close()
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waited"))
        opened(make_spec(), owner=HERE)
