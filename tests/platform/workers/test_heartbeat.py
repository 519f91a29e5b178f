import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from advseg.platform.storage.local_store import LocalStore
from advseg.platform.workers.heartbeat import FILE, Beat, Heart, Pulse, as_told, read_beat
from advseg.platform.workers.lease import Attempt
from advseg.platform.workers.retry import Failure, Kind

ATTEMPT = Attempt(epoch=2, number=3)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


class Training:
    step = 0
    run_id: str | None = None


def start(directory: Path, training: Training, beat_s: float = 0.01) -> Heart:
    return Heart(LocalStore(directory), ATTEMPT, lambda: training.step, lambda: training.run_id, "node", beat_s=beat_s)


class TestHeart:
    def test_beats_at_once(self, tmp_path: Path) -> None:
        heart = start(tmp_path, Training(), beat_s=3600)
        beat = read_beat(LocalStore(tmp_path))
        assert beat
        assert (beat.epoch, beat.attempt, beat.step, beat.pid, beat.node) == (2, 3, 0, os.getpid(), "node")
        assert (beat.run_id, beat.failure) == (None, None)
        heart.stop()

    def test_goes_on_to_say_how_far_the_training_is(self, tmp_path: Path) -> None:
        training = Training()
        heart = start(tmp_path, training)
        training.step, training.run_id = 7, "run"
        wait_until(lambda: (beat := read_beat(LocalStore(tmp_path))) and (beat.step, beat.run_id) == (7, "run"))
        heart.stop()

    def test_counts_the_seconds_of_its_attempt(self, tmp_path: Path) -> None:
        heart = start(tmp_path, Training())
        wait_until(lambda: (beat := read_beat(LocalStore(tmp_path))) and beat.seconds > 0.02)
        heart.stop()

    def test_says_at_its_end_where_it_stopped_and_no_more(self, tmp_path: Path) -> None:
        training = Training()
        heart = start(tmp_path, training, beat_s=3600)
        training.step, failure = 9, Failure(kind=Kind.OUT_OF_MEMORY, text="no room")
        heart.stop(failure)
        beat = read_beat(LocalStore(tmp_path))
        assert beat
        assert (beat.step, beat.failure) == (9, failure)
        assert not heart._thread.is_alive()

    def test_says_at_once_that_a_training_was_asked_to_stop_which_it_may_not_live_to_do(self, tmp_path: Path) -> None:
        asked = threading.Event()
        heart = Heart(
            LocalStore(tmp_path), ATTEMPT, lambda: 4, lambda: None, "node", asked_to_stop=asked.is_set, beat_s=0.01
        )
        asked.set()
        wait_until(
            lambda: (beat := read_beat(LocalStore(tmp_path))) and beat.failure and beat.failure.kind is Kind.PREEMPTED
        )
        heart.stop()
        beat = read_beat(LocalStore(tmp_path))
        assert beat and beat.failure is None

    def test_outlives_a_disk_that_is_away_for_a_while(self, tmp_path: Path) -> None:
        directory, away = tmp_path / "here", tmp_path / "away"
        directory.mkdir()
        training = Training()
        heart = start(directory, training)
        directory.rename(away)
        directory.write_text("Nothing can be made below a file.")
        failed = threading.Event()
        training.step = 5
        # A look at the step precedes each attempt to write it.
        heart._step = lambda: failed.set() or training.step
        assert failed.wait(300)
        heart._step = lambda: training.step
        directory.unlink()
        away.rename(directory)
        wait_until(lambda: (beat := read_beat(LocalStore(directory))) and beat.step == 5)
        heart.stop()

    def test_ends_no_training_if_the_disk_is_away_at_its_end(self, tmp_path: Path) -> None:
        directory = tmp_path / "here"
        directory.mkdir()
        heart = start(directory, Training(), beat_s=3600)
        directory.rename(tmp_path / "away")
        heart.stop()

    def test_leaves_nothing_but_its_file(self, tmp_path: Path) -> None:
        start(tmp_path, Training()).stop()
        assert [path.name for path in tmp_path.iterdir()] == [FILE]


class TestReading:
    def test_gives_nothing_before_the_first_beat(self, tmp_path: Path) -> None:
        assert read_beat(LocalStore(tmp_path)) is None
        assert read_beat(LocalStore(tmp_path / "no such folder")) is None

    @pytest.mark.parametrize("content", ["", "{", '{"epoch": 1}', "[]", "null", '{"epoch": 1, "more": 2}', "\xff"])
    def test_gives_nothing_of_a_file_that_is_torn_or_of_another_version(self, tmp_path: Path, content: str) -> None:
        (tmp_path / FILE).write_bytes(content.encode("latin-1"))
        assert read_beat(LocalStore(tmp_path)) is None

    def test_gives_nothing_of_a_file_that_cannot_be_read_now(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stale(store: LocalStore, key: str) -> bytes:
            raise OSError(116, "Stale file handle", key)

        start(tmp_path, Training()).stop()
        assert isinstance(read_beat(LocalStore(tmp_path)), Beat)
        monkeypatch.setattr(LocalStore, "read", stale)
        assert read_beat(LocalStore(tmp_path)) is None


class TestAnAttemptThatWasLost:
    GONE = Failure(kind=Kind.LOST, text="its worker died")

    def left(self, directory: Path, failure: Failure | None) -> None:
        start(directory, Training(), beat_s=3600).stop(failure)

    def test_was_pre_empted_if_it_said_so(self, tmp_path: Path) -> None:
        said = Failure(kind=Kind.PREEMPTED, text="asked to stop")
        self.left(tmp_path, said)
        assert as_told(self.GONE, LocalStore(tmp_path), ATTEMPT.number) == said

    def test_was_lost_if_another_attempt_said_so(self, tmp_path: Path) -> None:
        self.left(tmp_path, Failure(kind=Kind.PREEMPTED, text="asked to stop"))
        assert as_told(self.GONE, LocalStore(tmp_path), ATTEMPT.number + 1) == self.GONE

    @pytest.mark.parametrize("said", [None, Failure(kind=Kind.LOST, text="cut off")])
    def test_was_lost_if_it_said_nothing_more(self, tmp_path: Path, said: Failure | None) -> None:
        self.left(tmp_path, said)
        assert as_told(self.GONE, LocalStore(tmp_path), ATTEMPT.number) == self.GONE

    def test_is_told_from_one_that_failed_though_it_was_asked_to_stop(self, tmp_path: Path) -> None:
        self.left(tmp_path, Failure(kind=Kind.PREEMPTED, text="asked to stop"))
        diverged = Failure(kind=Kind.DIVERGED, text="loss/ce at step 5")
        assert as_told(diverged, LocalStore(tmp_path), ATTEMPT.number) == diverged


class TestPulse:
    def test_is_silent_from_when_its_counter_was_first_seen(self) -> None:
        pulse = Pulse(counter=4, since=10.0)
        for now in (11.0, 12.0, 15.0):
            pulse = pulse.seen(4, now)
        assert pulse.silent_s(15.0) == 5.0

    def test_begins_anew_when_its_counter_moves(self) -> None:
        assert Pulse(counter=4, since=10.0).seen(5, 15.0) == Pulse(counter=5, since=15.0)

    def test_begins_anew_when_its_counter_goes_back(self) -> None:
        """A training that was resumed from an older checkpoint."""
        assert Pulse(counter=4, since=10.0).seen(2, 15.0) == Pulse(counter=2, since=15.0)


def test_a_heart_may_be_asked_to_beat_while_it_beats_by_itself(tmp_path: Path) -> None:
    step = [0]
    heart = Heart(LocalStore(tmp_path), Attempt(), lambda: step[0], lambda: None, "", beat_s=0.0001)
    for made in range(1, 300):
        step[0] = made
        heart.beat()
        beat = read_beat(LocalStore(tmp_path))
        assert beat
        assert beat.step == made
    heart.stop()
    assert [file.name for file in tmp_path.iterdir()] == [FILE]
