import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import yaml

from advseg.platform.base import draining
from advseg.platform.base.events import Stage, parse
from advseg.platform.base.keys import JOB
from advseg.platform.cluster.driver import Job, run_job
from advseg.platform.ledger import patience
from advseg.platform.ledger.jobs import JobRecord, JobState, JobTable, read_jobs
from advseg.platform.spec.ledger_address import ledger_file
from advseg.platform.spec.spec import Spec
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.storage.scratch import scratch_of
from advseg.trainers.errors import FruitlessError, UserError

NODE = "the driver's"
IMPORTED = """
import sys
import advseg.jobs.train_on_ray
print(sorted({"torch", "mlflow", "optuna", "ray.tune"} & set(sys.modules)))
"""


def test_the_driver_of_a_training_imports_nothing_that_its_workers_would_wait_for() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("override", ["trainer.steps=3", "preset=paper", "model.weights=null"])
def test_a_job_reads_the_spec_that_was_submitted(make_spec, tmp_path: Path, override: str) -> None:
    spec: Spec = make_spec(f"storage={tmp_path / 'runs'}", "method.semi_adv_start=0", override)
    path = tmp_path / "submitted.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False))

    job = Job(path=path, tracking_uri="http://nowhere")

    assert job.store == LocalStore(tmp_path / "runs")
    assert job.spec == Spec.model_validate(job.document) == spec


@pytest.fixture
def run(
    document: dict[str, Any],
    write_spec: Callable[[dict[str, Any]], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., int]:
    """Run a job of an id on a valid spec, without Ray; its exit status."""
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: NODE))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://nowhere")

    def run(id: str, work: Callable[[Path], object], ledger: str | None = None, job: str = "train") -> int:
        kind = {"job": "sweep", "sweep": {}} if job == "sweep" else {"job": job}
        path = write_spec({**document, **kind, "storage": str(tmp_path / "runs"), "ledger": ledger})
        monkeypatch.setenv(JOB, id)
        handler = signal.getsignal(signal.SIGTERM)
        try:
            return run_job(lambda job: work(scratch_of(job.store, "probe")) and None, [str(path)])
        finally:
            signal.signal(signal.SIGTERM, handler)

    return run


class TestEnd:
    """Of a job, which its driver tells the ledger."""

    @pytest.fixture
    def place(self, tmp_path: Path, ledger_address: str | None) -> tuple[Path, str | None]:
        """Of a ledger in which the job's submitter has put it."""
        place = (tmp_path / "runs", ledger_address)
        with closing(JobTable(*place)) as table:
            table.enter(replace(JobRecord.of_now("probe", "d", "http://ray"), number=1))
            table.note("probe", 1, JobState.SUBMITTED)
        return place

    @pytest.mark.parametrize("ledger_address", ["sqlite", "postgresql"], indirect=True)
    @pytest.mark.parametrize(
        ("error", "status", "state", "reason"),
        [
            (None, 0, JobState.SUCCEEDED, ""),
            (UserError("two\nlines"), 2, JobState.FAILED, "two lines"),
            (FruitlessError("no complete trial"), 1, JobState.FAILED, "no complete trial"),
            (KeyboardInterrupt(), 130, JobState.STOPPED, ""),
        ],
        ids=repr,
    )
    def test_is_held(
        self,
        run: Callable[..., int],
        place: tuple[Path, str | None],
        error: BaseException | None,
        status: int,
        state: JobState,
        reason: str,
    ) -> None:
        def work(_: Path) -> None:
            if error:
                raise error

        assert run("probe-1", work, place[1]) == status
        assert [(job.state, job.reason) for job in read_jobs(*place)] == [(state, reason)]

    @pytest.mark.parametrize(
        ("job", "again"), [("sweep", "`advseg sweep resume probe`"), ("train", "the same `advseg submit` again")]
    )
    @pytest.mark.parametrize("ledger_address", ["sqlite"], indirect=True)
    def test_comes_in_order_where_its_node_is_taken_away(
        self,
        run: Callable[..., int],
        place: tuple[Path, str | None],
        job: str,
        again: str,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        begun, stopped = threading.Event(), []
        monkeypatch.setattr(draining.state, "get_draining_nodes", lambda: begun.wait(300) and {NODE: 0})

        def work(_: Path) -> None:
            begun.set()
            try:
                # A signal that comes just before a wait begins is seen at its end.
                for _ in range(3000):
                    threading.Event().wait(0.1)
            except KeyboardInterrupt:
                stopped.append("in order")
                raise

        assert run("probe-1", work, place[1], job) == 1
        assert stopped == ["in order"]
        reason = f"its node is taken away: {again} goes on"
        assert [(job.state, job.reason) for job in read_jobs(*place)] == [(JobState.FAILED, reason)]
        out, err = capfd.readouterr()
        assert [parse(line) for line in out.splitlines()] == [Stage(text=f"the job stops: {reason}")]
        assert err == f"error: {reason}\n"

    @pytest.mark.parametrize("ledger", [None, "postgresql://me@127.0.0.1:9/nowhere"])
    def test_changes_nothing_where_the_ledger_is_not_to_be_had(
        self,
        run: Callable[..., int],
        ledger: str | None,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(patience, "PATIENCE_S", 0)
        assert run("probe-1", lambda _: None, ledger) == 0
        assert not ledger_file(tmp_path / "runs").exists()
        assert ("the ledger does not have how this job ended" in caplog.text) == (ledger is not None)


class TestScratch:
    """What Ray keeps for a job, of which another of the same name may be at work, as when a driver is refused."""

    @pytest.mark.parametrize("id", ["probe-2", "probe-1"], ids=["another job", "another cluster's job of the same id"])
    def test_is_the_makers_alone(self, run: Callable[..., int], id: str) -> None:
        def refuse(_: Path) -> None:
            raise UserError("somebody owns it")

        def work(scratch: Path) -> None:
            (scratch / "state").write_text("kept")
            assert run(id, refuse) == 2
            assert (scratch / "state").read_text() == "kept"

        assert run("probe-1", work) == 0

    def test_is_removed_at_the_end(self, run: Callable[..., int], tmp_path: Path) -> None:
        assert run("probe-1", lambda scratch: (scratch / "state").write_text("kept")) == 0
        assert [path for path in (tmp_path / "runs").rglob("*") if path.is_file()] == []
