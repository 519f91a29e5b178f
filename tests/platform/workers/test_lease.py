import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from advseg.platform.storage.local_store import LocalStore
from advseg.platform.workers import lease as leases
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
        lease = Lease(LocalStore(tmp_path), older)
        lease.take()
        lease.check()
        Lease(LocalStore(tmp_path), newer).take()
        with pytest.raises(FencedError) as caught:
            lease.check()
        assert str(caught.value) == (
            f"{tmp_path} belongs to attempt {newer.number} of epoch {newer.epoch} now: "
            f"attempt {older.number} of epoch {older.epoch} writes no more"
        )

    def test_keeps_the_directory_from_an_older_one(self, tmp_path: Path, older: Attempt, newer: Attempt) -> None:
        lease = Lease(LocalStore(tmp_path), newer)
        lease.take()
        with pytest.raises(FencedError):
            Lease(LocalStore(tmp_path), older).take()
        lease.check()
        assert holder_of(LocalStore(tmp_path)) == newer


def test_a_lease_may_be_taken_again(tmp_path: Path) -> None:
    lease = Lease(LocalStore(tmp_path), Attempt(epoch=1, number=2))
    for _ in range(2):
        lease.take()
    lease.check()
    assert holder_of(LocalStore(tmp_path)) == Attempt(epoch=1, number=2)


class TestRace:
    def test_of_two_attempts_that_find_the_directory_free_is_the_newers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        older, newer = Lease(LocalStore(tmp_path), Attempt(number=1)), Lease(LocalStore(tmp_path), Attempt(number=2))

        def meanwhile(size: int) -> str:
            monkeypatch.undo()
            newer.take()
            return "older"

        # The older one has looked who is there, and has written nothing yet.
        monkeypatch.setattr(leases.secrets, "token_hex", meanwhile)
        with pytest.raises(FencedError, match="belongs to attempt 2 of epoch 0 now"):
            older.take()
        newer.check()
        assert holder_of(LocalStore(tmp_path)) == Attempt(number=2)

    def test_of_many_processes_with_one_attempt_only_one_goes_on(self, tmp_path: Path) -> None:
        barrier, took, lost = threading.Barrier(8), [], []

        def take() -> None:
            lease = Lease(LocalStore(tmp_path), Attempt(number=3))
            barrier.wait()
            try:
                lease.take()
                took.append(lease)
            except FencedError as error:
                lost.append(str(error))

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        goes_on = []
        for lease in took:
            # As before each write.
            try:
                lease.check()
                goes_on.append(lease)
            except FencedError as error:
                lost.append(str(error))
        assert len(goes_on) == 1
        assert set(lost) == {
            f"{tmp_path} belongs to another process that is attempt 3 of epoch 0 too: this one writes no more"
        }

    def test_that_a_file_system_let_two_win_is_noticed_by_one_of_them(self, tmp_path: Path) -> None:
        lease = Lease(LocalStore(tmp_path), Attempt())
        lease.take()
        (claim,) = (tmp_path / leases.FOLDER).iterdir()
        claim.write_text("another's")
        with pytest.raises(FencedError, match="belongs to another process that is attempt 1"):
            lease.check()

    @pytest.mark.parametrize("odd", [lambda claim: claim.write_bytes(b"\xff"), lambda claim: claim.unlink()])
    def test_whose_claim_is_damaged_or_goes_as_it_is_read_writes_no_more(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: Callable[[Path], object]
    ) -> None:
        lease = Lease(LocalStore(tmp_path), Attempt())
        lease.take()
        read = LocalStore.read

        def meanwhile(store: LocalStore, key: str) -> bytes:
            odd(tmp_path / key)
            return read(store, key)

        monkeypatch.setattr(LocalStore, "read", meanwhile)
        with pytest.raises(FencedError):
            lease.check()


def test_a_claim_that_was_cut_short_is_one(tmp_path: Path) -> None:
    (tmp_path / leases.FOLDER).mkdir()
    (tmp_path / leases.FOLDER / "2-3").touch()
    assert holder_of(LocalStore(tmp_path)) == Attempt(epoch=2, number=3)


class TestOldFile:
    def test_is_a_claim_among_the_others(self, tmp_path: Path) -> None:
        (tmp_path / "lease.json").write_text(json.dumps({"epoch": 2, "number": 3}))
        assert next_attempt(LocalStore(tmp_path), 2) == Attempt(epoch=2, number=4)
        with pytest.raises(FencedError):
            Lease(LocalStore(tmp_path), Attempt(epoch=2, number=2)).take()
        Lease(LocalStore(tmp_path), Attempt(epoch=2, number=4)).take()
        assert holder_of(LocalStore(tmp_path)) == Attempt(epoch=2, number=4)

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"\xff", b"[]", b"7", b'{"epoch": null, "number": 1}', b'{"epoch": 1}', b"[" * 200_000]
    )
    def test_that_is_damaged_claims_nothing(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
    ) -> None:
        (tmp_path / "lease.json").write_bytes(content)
        with caplog.at_level(logging.WARNING):
            assert holder_of(LocalStore(tmp_path)) is None
        (record,) = caplog.records
        assert "lease.json is damaged" in record.getMessage()
        Lease(LocalStore(tmp_path), Attempt()).take()
        assert holder_of(LocalStore(tmp_path)) == Attempt()


def test_a_directory_is_made_if_need_be_and_holds_nothing_else(tmp_path: Path) -> None:
    Lease(LocalStore(tmp_path / "probe" / "0"), Attempt()).take()
    assert [path.name for path in (tmp_path / "probe" / "0").iterdir()] == [leases.FOLDER]


def test_a_directory_that_nobody_has_is_free(tmp_path: Path) -> None:
    Lease(LocalStore(tmp_path), Attempt()).check()
    assert holder_of(LocalStore(tmp_path)) is None


def test_the_next_attempt_follows_the_one_that_has_the_directory(tmp_path: Path) -> None:
    assert next_attempt(LocalStore(tmp_path), 3) == Attempt(epoch=3, number=1)
    Lease(LocalStore(tmp_path), Attempt(epoch=3, number=4)).take()
    assert next_attempt(LocalStore(tmp_path), 5) == Attempt(epoch=5, number=5)
