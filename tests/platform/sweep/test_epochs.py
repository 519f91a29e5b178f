"""A ledger that knows less than the folders of its sweep."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.opening import open_ledger, reopen_ledger
from advseg.platform.spec.ledger_address import ledger_file
from advseg.platform.spec.spec import Spec
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.sweep.epochs import newest_epoch
from advseg.platform.workers.lease import Attempt, Lease

from ..conftest import GONE, ORIGIN

MakeSpec = Callable[..., Spec]


def take(storage: Path, key: str, epoch: int) -> None:
    Lease(LocalStore(storage / key), Attempt(epoch=epoch, number=1)).take()


def test_the_newest_epoch_is_that_of_any_trial_or_the_baseline(tmp_path: Path) -> None:
    assert newest_epoch(LocalStore(tmp_path), "probe") == 0
    (tmp_path / "probe" / "1").mkdir(parents=True)
    assert newest_epoch(LocalStore(tmp_path), "probe") == 0
    take(tmp_path, "probe/0", 2)
    take(tmp_path, "probe/12", 4)
    assert newest_epoch(LocalStore(tmp_path), "probe") == 4
    take(tmp_path, "probe/baseline", 5)
    assert newest_epoch(LocalStore(tmp_path), "probe") == 5


def test_leases_of_others_do_not_count(tmp_path: Path) -> None:
    take(tmp_path, "probe/0", 2)
    for key in ("other/0", "probe/single", "probe/0/inner"):
        take(tmp_path, key, 9)
    assert newest_epoch(LocalStore(tmp_path), "probe") == 2


@pytest.mark.parametrize("reopened", [False, True])
def test_the_attempts_of_a_ledger_restored_from_a_backup_may_write(
    make_spec: MakeSpec, opened: Callable[..., Ledger], tmp_path: Path, reopened: bool
) -> None:
    spec = make_spec()
    opened(spec).close()
    shutil.copy(ledger_file(tmp_path), tmp_path / "backup.db")
    for _ in range(3):
        ledger = opened(spec)
        take(tmp_path, "probe/0", ledger.ownership.epoch)
        ledger.close()
    (tmp_path / "backup.db").rename(ledger_file(tmp_path))
    above = newest_epoch(LocalStore(tmp_path), "probe")
    if reopened:
        restored = reopen_ledger(tmp_path, "probe", above=above)
    else:
        restored = open_ledger(tmp_path, spec, ORIGIN, GONE, above=above)
    assert restored.ownership.epoch == 5
    take(tmp_path, "probe/0", restored.ownership.epoch)
    restored.close()
