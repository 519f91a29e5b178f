"""What the watchdog does of what heartbeats say, on a clock of its own."""

import json
import pickle
from dataclasses import asdict
from pathlib import Path

import pytest
from ray.tune import Callback
from ray.tune.experiment import Trial

from advseg.platform.base.keys import ATTEMPT, NUMBER
from advseg.platform.spec.retry import Retry
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.sweep.watchdog import Watchdog
from advseg.platform.workers.heartbeat import FILE, Beat
from advseg.platform.workers.retry import Failure, Kind
from advseg.trainers.errors import BrokenEnvironmentError, FencedError

RETRY = Retry(hang_timeout=30, trial_timeout=500, start_timeout=200)


class Scene:
    """A watchdog with a clock that tests turn, and what it did."""

    def __init__(self, storage: Path) -> None:
        self.now = 1000.0
        self.killed: list[tuple[str, Beat | None]] = []
        self.condemned: list[tuple[int, Failure]] = []
        self.owner_checks = 0
        self.trials: list[Trial] = []
        self.seconds_before = 0.0
        self._directory = lambda number: storage / "probe" / str(number)
        self.watchdog = Watchdog(
            self,  # pyright: ignore[reportArgumentType]
            RETRY,
            lambda number: LocalStore(self._directory(number)),
            lambda number: self.seconds_before,
            self.check_owner,
            clock=lambda: self.now,
            kill=lambda trial, beat: self.killed.append((trial.trial_id, beat)),
        )

    def condemn(self, number: int, failure: Failure) -> None:
        assert len(self.killed) == len(self.condemned), "it is condemned before it is killed"
        self.condemned.append((number, failure))

    def check_owner(self) -> None:
        self.owner_checks += 1

    def start(self, id: str, number: int = 0, attempt: int = 1) -> Trial:
        trial = Trial("probe", config={NUMBER: number, ATTEMPT: attempt}, trial_id=id, stub=True)
        self.watchdog.on_trial_start(0, [], trial)
        return trial

    def beat(self, step: int, *, number: int = 0, attempt: int = 1, seconds: float = 0.0) -> Beat:
        beat = Beat(epoch=1, attempt=attempt, step=step, progress=step, seconds=seconds, pid=1, node="")
        directory = self._directory(number)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE).write_text(json.dumps(asdict(beat)))
        return beat

    def tear(self) -> None:
        (self._directory(0) / FILE).write_text("{")

    def wait(self, seconds: float) -> None:
        """Tune's loop turns ten times a second meanwhile."""
        for _ in range(int(10 * seconds)):
            self.now += 0.1
            self.watchdog.on_step_begin(0, self.trials)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


class TestWatchdog:
    def test_kills_a_silent_trial_once(self, scene: Scene) -> None:
        scene.start("a")
        beat = scene.beat(4)
        scene.wait(30)
        assert scene.killed == []
        scene.wait(60)
        assert scene.killed == [("a", beat)]
        assert scene.condemned == [(0, Failure(kind=Kind.HUNG, text="no progress in 30 s after step 4"))]

    def test_lets_a_trial_go_on_that_moves_however_slowly(self, scene: Scene) -> None:
        scene.start("a")
        for step in range(8):
            scene.beat(step)
            scene.wait(29)
        assert scene.killed == []

    def test_counts_a_trial_that_beats_but_makes_no_step_as_silent(self, scene: Scene) -> None:
        scene.start("a")
        for second in range(40):
            scene.beat(4, seconds=second)
            scene.wait(1)
        assert [failure.kind for _, failure in scene.condemned] == [Kind.HUNG]

    def test_lets_a_trial_wait_for_its_workers_and_counts_from_its_first_sign_of_life(self, scene: Scene) -> None:
        scene.start("a")
        scene.wait(100)
        scene.beat(0)
        scene.wait(29)
        assert scene.killed == []
        scene.wait(5)
        assert [failure.kind for _, failure in scene.condemned] == [Kind.HUNG]

    def test_tries_a_trial_again_that_never_begins_while_others_run(self, scene: Scene) -> None:
        scene.start("a")
        scene.start("b", number=1)
        for step in range(21):
            scene.beat(step, number=1)
            scene.wait(10)
        assert [(number, failure.kind) for number, failure in scene.condemned] == [(0, Kind.ENVIRONMENT)]

    def test_tells_once_that_nothing_runs_and_ends_the_search_if_that_goes_on(
        self, scene: Scene, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pending = Trial("probe", config={NUMBER: 0, ATTEMPT: 1}, trial_id="a", stub=True)
        scene.trials = [pending]
        with pytest.raises(BrokenEnvironmentError, match="no trial has begun for 200 s: something else holds"):
            scene.wait(300)
        assert capsys.readouterr().out.count("1 trials wait for CPUs or GPUs") == 1

    def test_tells_that_trials_run_once_they_do(self, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
        scene.trials = [Trial("probe", config={NUMBER: 0, ATTEMPT: 1}, trial_id="a", stub=True)]
        scene.wait(100)
        scene.trials = []
        scene.start("a")
        scene.beat(0)
        scene.wait(5)
        told = capsys.readouterr().out
        assert told.count("trials run now") == 1
        assert told.index("1 trials wait for CPUs") < told.index("trials run now")

    def test_lets_some_wait_for_as_long_as_others_run(self, scene: Scene) -> None:
        scene.trials = [Trial("probe", config={NUMBER: 0, ATTEMPT: 1}, trial_id="a", stub=True)]
        scene.start("b", number=1)
        for step in range(30):
            scene.beat(step, number=1)
            scene.wait(10)
        assert scene.condemned == []

    def test_heeds_no_heartbeat_of_an_older_attempt(self, scene: Scene) -> None:
        scene.start("a", attempt=2)
        for step in range(40):
            scene.beat(step, attempt=1, seconds=1e6)
            scene.wait(1)
        assert scene.killed == []

    def test_takes_a_heartbeat_that_cannot_be_read_for_no_sign_of_life(self, scene: Scene) -> None:
        scene.start("a")
        for _ in range(20):
            scene.beat(4)
            scene.wait(1)
            scene.tear()
            scene.wait(1)
        assert [failure.text for _, failure in scene.condemned] == ["no progress in 30 s after step 4"]

    def test_kills_a_trial_that_takes_too_long_in_all_its_attempts(self, scene: Scene) -> None:
        scene.seconds_before = 400
        scene.start("a", attempt=2)
        scene.beat(1, attempt=2, seconds=100)
        scene.wait(2)
        assert scene.killed == []
        beat = scene.beat(2, attempt=2, seconds=100.5)
        scene.wait(2)
        assert scene.killed == [("a", beat)]
        assert scene.condemned == [(0, Failure(kind=Kind.TIMEOUT, text="trained for more than 500 s"))]

    def test_gives_the_next_attempt_its_own_time(self, scene: Scene) -> None:
        scene.start("a")
        scene.beat(4)
        scene.wait(40)
        scene.start("b", attempt=2)
        scene.beat(4, attempt=2)
        scene.wait(29)
        assert [id for id, _ in scene.killed] == ["a"]
        scene.wait(3)
        assert [id for id, _ in scene.killed] == ["a", "b"]

    def test_watches_each_trial_by_itself(self, scene: Scene) -> None:
        for number, id in enumerate("ab"):
            scene.start(id, number)
        for step in range(40):
            scene.beat(step, number=0)
            scene.beat(4, number=1)
            scene.wait(1)
        assert [number for number, _ in scene.condemned] == [1]

    @pytest.mark.parametrize("ended", ["on_trial_complete", "on_trial_error"])
    def test_watches_an_ended_trial_no_more(self, scene: Scene, ended: str) -> None:
        trial = scene.start("a")
        getattr(scene.watchdog, ended)(0, [], trial)
        scene.wait(100)
        assert scene.killed == []

    def test_looks_once_a_second_at_the_most(self, scene: Scene) -> None:
        scene.wait(100)
        assert 90 <= scene.owner_checks <= 100

    def test_ends_the_search_of_a_driver_that_no_longer_owns_the_sweep(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scene.start("a")

        def fenced() -> None:
            raise FencedError

        monkeypatch.setattr(scene.watchdog, "_check_owner", fenced)
        with pytest.raises(FencedError):
            scene.wait(100)
        assert scene.killed == []

    def test_is_not_saved_by_tune(self, scene: Scene) -> None:
        assert type(pickle.loads(pickle.dumps(scene.watchdog))) is Callback
