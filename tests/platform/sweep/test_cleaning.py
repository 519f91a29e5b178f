"""Checkpoints are removed where they lie, and a kill at any moment leaves what the next one finishes."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState

from advseg.models import partial
from advseg.models.manifest import MANIFEST
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.rows import Row
from advseg.platform.spec.spec import Spec
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.storage.opening import open_store
from advseg.platform.storage.s3_store import S3Store
from advseg.platform.storage.store import Store
from advseg.platform.sweep.cleaning import removals, remove
from advseg.platform.sweep.surplus import Surplus, surplus_of
from advseg.platform.workers.account import Account
from advseg.platform.workers.checkpoints import held_checkpoints
from advseg.trainers.errors import FencedError

STATES = (TrialState.PRUNED, TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING, TrialState.PRUNED)


class KilledError(BaseException):
    """What stands for a kill: nothing catches it."""


class Noting:
    """A ledger of which only what is noted is asked."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = {row.number: row for row in rows}
        self.ownership = SimpleNamespace(check=lambda: None)

    def note(self, number: int, account: Account) -> None:
        self.rows[number] = replace(self.rows[number], account=account)


def row_of(number: int, state: TrialState) -> Row:
    account = Account(checkpoint=f"probe/{number}/checkpoints/step-00000008", checksum="0123")
    return Row(number=number, params={}, state=state, reason="", curve={8: 50.0}, account=account)


def leave(store: Store, number: int) -> None:
    """What a training leaves: two checkpoints, a third that was never finished, and all that is to stay."""
    own = store.at(f"probe/{number}")
    for step in (4, 8):
        for name in ("state.json", "state.safetensors", MANIFEST):
            own.write(f"checkpoints/step-{step:08d}/{name}", b"1234567890")
    own.write("checkpoints/step-00000009/state.json", b"12345")
    for name in (f"model/{MANIFEST}", "outcome.json", "metrics.jsonl", "leases/1-1"):
        own.write(name, b"{}")


@pytest.fixture(params=["folder", "moto"])
def store(request: pytest.FixtureRequest, tmp_path: Path, new_bucket: Callable[[str], str]) -> Store:
    if request.param == "folder":
        return LocalStore(tmp_path / "runs")
    return open_store(f"{new_bucket(request.getfixturevalue('moto_server'))}/runs")


def everything(store: Store) -> list[str]:
    """All that is there; of a folder also what is no key."""
    if store.folder is None:
        return store.keys()
    return sorted(str(path.relative_to(store.folder)) for path in store.folder.rglob("*"))


def clean(ledger: Noting | Ledger, store: Store, surplus: list[Surplus]) -> int:
    """Remove it, and return how many bytes that were."""
    planned = removals(surplus, held_checkpoints(store, "probe"))
    for removal in planned:
        remove(ledger, store, removal)  # type: ignore[arg-type]
    return sum(removal.bytes for removal in planned)


def test_all_that_the_checkpoints_held_goes_and_all_else_stays(
    store: Store, opened: Callable[..., Ledger], make_spec: Callable[..., Spec], tmp_path: Path
) -> None:
    ledger = opened(make_spec())
    for number, state in enumerate(STATES):
        leave(store, number)
        ledger.propose()
        ledger.report(number, 8, 50.0)
        ledger.note(number, row_of(number, state).account)
        if state is not TrialState.RUNNING:
            ledger.finish(number, state)
    before = store.keys()

    removed = clean(ledger, store, surplus_of(ledger.spec, ledger.rows(), [], {"probe/4"}))

    assert removed == 2 * 65
    gone = [key for key in before if key.startswith(("probe/0/checkpoints/", "probe/2/checkpoints/"))]
    assert store.keys() == sorted(set(before) - set(gone))
    kept = {row.number: (row.account.checkpoint is None, row.account.checksum) for row in ledger.rows()}
    assert kept == {number: (number in (0, 2), "0123") for number in range(5)}
    assert clean(ledger, store, surplus_of(ledger.spec, ledger.rows(), [], {"probe/4"})) == 0


def test_nothing_goes_that_was_saved_since(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    leave(store, 0)
    held = held_checkpoints(store)
    surplus = [Surplus(row=row_of(0, TrialState.PRUNED), key="probe/0", why="pruned")]

    assert removals(surplus, held, held["probe/0"].changed) == []
    assert [removal.bytes for removal in removals(surplus, held, held["probe/0"].changed + 1)] == [65]


def test_who_has_lost_the_sweep_removes_nothing(
    opened: Callable[..., Ledger], make_spec: Callable[..., Spec], tmp_path: Path
) -> None:
    store, ledger = LocalStore(tmp_path), opened(make_spec())
    ledger.propose()
    ledger.finish(0, TrialState.PRUNED)
    leave(store, 0)
    before = store.keys("probe/0")
    surplus = surplus_of(ledger.spec, ledger.rows(), [], set())
    assert surplus
    opened(make_spec())

    with pytest.raises(FencedError):
        clean(ledger, store, surplus)

    assert store.keys("probe/0") == before


@contextmanager
def killed_at(moment: int, store: Store, ledger: Noting) -> Iterator[None]:
    """In the block a kill comes at that moment: before a removal, amid one, or before it is noted."""
    left = iter(range(moment, -1, -1))

    def pass_or_die(work: Callable[..., Any]) -> Callable[..., Any]:
        def done(*args: Any, **options: Any) -> Any:
            if next(left, 1) == 0:
                raise KilledError
            return work(*args, **options)

        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger.ownership, "check", pass_or_die(ledger.ownership.check))
        patch.setattr(ledger, "note", pass_or_die(ledger.note))
        if store.folder is None:

            def delete(store: S3Store, keys: list[str]) -> None:
                for key in sorted(keys, key=lambda key: Path(key).name != MANIFEST):
                    pass_or_die(at_once)(store, [key])

            at_once = S3Store._delete
            patch.setattr(S3Store, "_delete", delete)
        else:
            patch.setattr(partial.shutil, "rmtree", pass_or_die(partial.shutil.rmtree))
        yield


def test_killed_at_any_moment_it_is_finished_by_the_next_one(probe: Spec, store: Store) -> None:
    # Of S3 each object that is deleted is a moment.
    states = STATES[:3] if store.folder else STATES[2:4]
    rows = [row_of(number, state) for number, state in enumerate(states)]

    def surplus(ledger: Noting) -> list[Surplus]:
        return surplus_of(probe, list(ledger.rows.values()), [], set())

    def left() -> Noting:
        for row in rows:
            leave(store, row.number)
        return Noting(rows)

    unbroken = left()
    whole = set(store.keys())
    clean(unbroken, store, surplus(unbroken))
    expected, needed = everything(store), set(store.keys())

    kills = 0
    for moment in itertools.count():
        ledger, killed = left(), False
        for again in (moment, moment // 2):
            try:
                with killed_at(again, store, ledger):
                    clean(ledger, store, surplus(ledger))
            except KilledError:
                killed = True
            assert needed <= set(store.keys()) <= whole
        clean(ledger, store, surplus(ledger))
        assert everything(store) == expected
        assert ledger.rows == unbroken.rows
        if not killed:
            break
        kills += 1
    assert kills >= 6


@pytest.fixture
def probe(make_spec: Callable[..., Spec]) -> Spec:
    return make_spec()
