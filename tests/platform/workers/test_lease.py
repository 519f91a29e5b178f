from pathlib import Path

import pytest

from advseg.platform.workers.lease import Attempt, Lease, holder_of, next_attempt
from advseg.trainers.errors import FencedError


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (Attempt(epoch=1, number=1), Attempt(epoch=1, number=2)),
        (Attempt(epoch=1, number=9), Attempt(epoch=1, number=10)),
        # Another owner's, which counts on from what the ledger held.
        (Attempt(epoch=1, number=9), Attempt(epoch=2, number=1)),
        (Attempt(epoch=9, number=1), Attempt(epoch=10, number=1)),
    ],
)
class TestNewerAttempt:
    def test_takes_the_directory_from_an_older_one(self, tmp_path: Path, older: Attempt, newer: Attempt) -> None:
        lease = Lease(tmp_path, older)
        lease.take()
        lease.check()
        Lease(tmp_path, newer).take()
        with pytest.raises(FencedError) as caught:
            lease.check()
        assert str(caught.value) == (
            f"{tmp_path} belongs to attempt {newer.number} of epoch {newer.epoch} now: "
            f"attempt {older.number} of epoch {older.epoch} writes no more"
        )

    def test_keeps_the_directory_from_an_older_one(self, tmp_path: Path, older: Attempt, newer: Attempt) -> None:
        lease = Lease(tmp_path, newer)
        lease.take()
        with pytest.raises(FencedError):
            Lease(tmp_path, older).take()
        lease.check()
        assert holder_of(tmp_path) == newer


def test_an_attempt_may_take_its_directory_again(tmp_path: Path) -> None:
    for _ in range(2):
        Lease(tmp_path, Attempt(epoch=1, number=2)).take()
    assert holder_of(tmp_path) == Attempt(epoch=1, number=2)


def test_a_directory_is_made_if_need_be_and_holds_nothing_else(tmp_path: Path) -> None:
    Lease(tmp_path / "probe" / "0", Attempt()).take()
    assert [path.name for path in (tmp_path / "probe" / "0").iterdir()] == ["lease.json"]


def test_a_directory_that_nobody_has_is_free(tmp_path: Path) -> None:
    Lease(tmp_path, Attempt()).check()
    assert holder_of(tmp_path) is None


def test_the_next_attempt_follows_the_one_that_has_the_directory(tmp_path: Path) -> None:
    assert next_attempt(tmp_path, 3) == Attempt(epoch=3, number=1)
    Lease(tmp_path, Attempt(epoch=3, number=4)).take()
    assert next_attempt(tmp_path, 5) == Attempt(epoch=5, number=5)
