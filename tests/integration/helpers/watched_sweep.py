"""A sweep that runs on the cluster, as those who mean it harm see it."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import psutil

from advseg.platform.ledger.reading import read_sweep
from advseg.platform.ledger.samplers import distributions_of, sampler_of
from advseg.platform.spec.ledger_address import ledger_file
from advseg.platform.spec.spec import Spec
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.workers.heartbeat import Beat, read_beat
from advseg.trainers.checkpoint import CHECKPOINTS, newest_sealed


class WatchedSweep:
    """The processes of a sweep, its trials' directories, and what its ledger says."""

    def __init__(self, storage: Path, name: str, trials: int) -> None:
        self.storage, self.name, self.trials = storage, name, trials
        self.pids: set[int] = set()
        """Of every driver and trial worker that was seen."""

    def directory(self, number: int) -> Path:
        return self.storage / self.name / str(number)

    def beats(self) -> dict[int, Beat]:
        """Heartbeats of trials whose worker lives, by trial."""
        found = {n: beat for n in range(self.trials) if (beat := read_beat(LocalStore(self.directory(n))))}
        alive = {n: beat for n, beat in found.items() if psutil.pid_exists(beat.pid)}
        self.pids |= {beat.pid for beat in alive.values()}
        return alive

    def saved(self, number: int) -> int:
        """The step of a trial's newest checkpoint, 0 before the first."""
        found = newest_sealed(self.directory(number) / CHECKPOINTS)
        return found[0] if found else 0

    def driver(self) -> int | None:
        """The pid of the sweep's owner, while it lives."""
        query = (
            "SELECT owner FROM studies JOIN study_user_attributes USING (study_id) JOIN advseg_owners "
            "ON value_json = json_quote(sweep_id) WHERE study_name = ?"
        )
        with closing(sqlite3.connect(ledger_file(self.storage), timeout=30)) as database:
            try:
                rows = database.execute(query, [self.name]).fetchall()
            except sqlite3.OperationalError:
                return None  # The first driver has not made its tables yet.
        pid = json.loads(rows[0][0])["pid"] if rows and rows[0][0] else None
        if pid is None or not psutil.pid_exists(pid):
            return None
        self.pids.add(pid)
        return pid

    def begun(self) -> int | None:
        """The pid of the first driver, once it owns the sweep."""
        return self.driver() if ledger_file(self.storage).exists() else None

    def unfinished(self) -> bool:
        """Whether there is anything left to disturb."""
        rows = read_sweep(self.storage, self.name).rows
        return len(rows) < self.trials or any(not row.state.is_finished() for row in rows)

    def leftovers(self) -> list[int]:
        """Those of its processes that live."""
        return [pid for pid in self.pids if psutil.pid_exists(pid)]


def point(spec: Spec, number: int) -> dict[str, float]:
    """A trial's point, drawn by a study that has never seen another."""
    assert spec.sweep
    study = optuna.create_study(sampler=sampler_of(spec.sweep, spec.trainer.seed, number, number))
    return study.ask(distributions_of(spec.sweep.space)).params
