"""Submitters of one job, at the same moment, after one another, and from several homes."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from advseg.platform.cluster import submit as submitting
from advseg.platform.cluster.nodes import Node
from advseg.platform.cluster.submit import submit
from advseg.platform.ledger.jobs import JobState, read_jobs
from advseg.platform.ledger.location import Location
from advseg.platform.ledger.opening import open_ledger
from advseg.platform.services.connection import Services, ServicesDownError
from advseg.platform.spec.ledger_address import ledger_of
from advseg.platform.spec.spec import Spec
from advseg.trainers.errors import UserError

from ..conftest import GONE, ORIGIN, writing

MakeSpec = Callable[..., Spec]
HERE = Node(id="ab", name="laptop", has={"CPU": 64.0}, is_head=True)

SUBMITTERS = 10
SERVICES = Services(tracking_uri="http://nowhere", dashboard_url="http://nowhere", ray_token_path=None)


TEAM = Services(tracking_uri="http://mlflow.example", dashboard_url="http://ray.example", ray_token_path=None)

on_both = pytest.mark.parametrize("ledger_address", ["sqlite", "postgresql"], indirect=True)


class Jobs:
    """A cluster's jobs. It answers the first looks only when all submitters have looked."""

    def __init__(self, lookers: int = 1) -> None:
        self.known: dict[str, Any] = {}
        self.environments: dict[str, dict[str, str]] = {}
        self._all_have_looked = threading.Barrier(lookers)
        self._looked = threading.local()
        self._lock = threading.Lock()

    def list_jobs(self) -> list[Any]:
        listed = list(self.known.values())
        if not hasattr(self._looked, "once"):
            self._looked.once = True
            self._all_have_looked.wait(60)
        return listed

    def get_job_info(self, id: str) -> Any:
        return self.known[id]

    def submit_job(
        self, *, submission_id: str, metadata: dict[str, str], runtime_env: dict[str, Any], **_: Any
    ) -> None:
        with self._lock:
            if submission_id in self.known:
                raise RuntimeError(
                    f"Request failed with status code 400: Traceback (most recent call last): ...\n"
                    f"ValueError: Job with submission_id {submission_id} already exists. "
                    f"Please use a different submission_id."
                )
            self.put(submission_id, metadata)
            self.environments[submission_id] = runtime_env["env_vars"]

    def put(self, id: str, metadata: dict[str, str]) -> None:
        self.known[id] = SimpleNamespace(submission_id=id, metadata=metadata, status=JobStatus.PENDING)


Submit = Callable[..., Any]


@pytest.fixture
def submit_to(ledger_address: str | None, tmp_path: Path) -> Submit:
    """Submit a spec to a cluster, from a home."""
    if ledger_address is not None:
        # Of several that make its tables at once, Optuna leaves connections to the garbage collector.
        with writing(tmp_path, ledger_address):
            pass

    def run(
        jobs: Any, spec: Spec, home: Path = tmp_path, services: Services = SERVICES, say: Callable[[str], None] = print
    ) -> Any:
        return submit(jobs, spec.model_copy(update={"ledger": ledger_address}), services, home, say)

    return run


@pytest.fixture(autouse=True)
def no_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What travels with a job is another test's."""
    monkeypatch.setattr(submitting, "copy_package", lambda folder: folder)
    monkeypatch.setattr(submitting, "git_state", lambda folders: None)
    monkeypatch.setattr(submitting, "nodes_at", lambda url: [HERE])


def race(submit_to: Submit, jobs: Any, specs: list[Spec]) -> list[Any]:
    def run(spec: Spec) -> Any:
        try:
            return submit_to(jobs, spec)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(len(specs)) as pool:
        return list(pool.map(run, specs))


@on_both
def test_of_one_job_make_one_job_and_the_others_say_that_it_runs(make_spec: MakeSpec, submit_to: Submit) -> None:
    jobs = Jobs(SUBMITTERS)
    done = race(submit_to, jobs, [make_spec()] * SUBMITTERS)
    assert Counter((job.id, job.is_new) for job in done) == {("probe-1", True): 1, ("probe-1", False): SUBMITTERS - 1}
    assert list(jobs.known) == ["probe-1"]


@on_both
def test_of_two_specs_of_one_name_are_refused_but_one(make_spec: MakeSpec, submit_to: Submit) -> None:
    done = race(submit_to, Jobs(2), [make_spec(), make_spec("trainer.seed=1")])
    refusals = [answer for answer in done if isinstance(answer, str)]
    assert len(refusals) == 1
    assert refusals[0].startswith("job probe-1 of this name runs with another spec: stop it by")


@on_both
def test_of_one_job_from_several_homes_make_one_in_a_ledger_of_several(
    make_spec: MakeSpec, submit_to: Submit, tmp_path: Path, ledger_address: str | None
) -> None:
    jobs = Jobs()
    done = [submit_to(jobs, make_spec(), tmp_path / home) for home in ("mine", "theirs")]
    same = [("probe-1", True), ("probe-1", False)]
    assert [(job.id, job.is_new) for job in done] == (
        same if ledger_address else [("probe-1", True), ("probe-2", True)]
    )


@on_both
def test_on_a_new_head_go_on_with_their_numbers(make_spec: MakeSpec, submit_to: Submit) -> None:
    assert [submit_to(Jobs(), make_spec()).id for _ in range(3)] == ["probe-1", "probe-2", "probe-3"]


def test_of_a_job_whose_first_submitter_was_killed_send_it(
    make_spec: MakeSpec, submit_to: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: Any = Jobs()
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "submit_job", kill)
        with pytest.raises(KeyboardInterrupt):
            submit_to(jobs, make_spec())
    assert (job := submit_to(jobs, make_spec())).id == "probe-1"
    assert not job.is_new
    assert list(jobs.known) == ["probe-1"]


def kill(**_: Any) -> None:
    raise KeyboardInterrupt


def test_whose_number_another_ledgers_job_takes_at_the_same_moment_get_the_next(
    make_spec: MakeSpec, submit_to: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: Any = Jobs()
    jobs.put("probe-1", {"advseg.spec": "another's"})
    looks = iter([[], jobs.list_jobs()])
    monkeypatch.setattr(jobs, "list_jobs", lambda: next(looks))
    assert submit_to(jobs, make_spec()).id == "probe-2"


def test_that_the_cluster_refuses_are_told_so_in_a_line_and_stand_in_nobodys_way(
    make_spec: MakeSpec, submit_to: Submit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: Any = Jobs()

    def refuse(**_: Any) -> None:
        raise RuntimeError("Request failed with status code 413: too\nlarge")

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "submit_job", refuse)
        with pytest.raises(
            UserError, match=r"^the Ray cluster at http://nowhere takes no job probe-1 \(.* too large\)$"
        ):
            submit_to(jobs, make_spec())
    assert [(job.id, job.state) for job in read_jobs(tmp_path / "runs", None)] == [("probe-1", JobState.FAILED)]
    assert submit_to(jobs, make_spec("trainer.seed=1")).id == "probe-2"


class TestThatDoesNotFit:
    def test_on_this_machine_is_refused_before_it_is_sent(
        self, make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        jobs: Any = Jobs()
        with pytest.raises(UserError, match="a worker asks for 1 CPU and 9 GPU, but the greatest node, laptop, has"):
            submit(jobs, make_spec("resources.gpus_per_worker=9"), SERVICES, tmp_path, print)
        with pytest.raises(UserError, match="a training asks for 65 workers of 1 CPU, but 64 fit"):
            baseline = ("sweep.baseline_workers=65", "trainer.batch_size=65")
            submit(jobs, make_spec(*baseline), SERVICES, tmp_path, print)
        assert (jobs.known, read_jobs(tmp_path / "runs", None)) == ({}, [])

    def test_elsewhere_is_sent_and_told_what_it_waits_for(
        self, make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        jobs: Any = Jobs()
        said: list[str] = []
        monkeypatch.setattr(submitting, "nodes_at", lambda url: [replace(HERE, address="10.0.0.5", has={})])
        assert submit(jobs, make_spec(), SERVICES, tmp_path, said.append).is_new
        waits = "it will wait for nodes that an autoscaler, or you, may add: a worker asks for 1 CPU, but"
        assert [line.startswith(waits) for line in said] == [True]


class TestWhereASweepIs:
    """As the ledger has it, which one of several homes has begun it."""

    @pytest.fixture(autouse=True)
    def in_postgresql(self, postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ADVSEG_LEDGER", postgres())

    @pytest.fixture
    def begun(self, make_spec: MakeSpec) -> Callable[[Path, str], None]:
        """Begin the sweep in a storage, as its driver does."""

        def begin(storage: Path, tracking_uri: str) -> None:
            ledger = open_ledger(storage, make_spec().model_copy(update={"ledger": ledger_of(None)}), ORIGIN, GONE)
            ledger.hold_location(Location(storage=str(storage), tracking_uri=tracking_uri))
            ledger.close()

        return begin

    @pytest.fixture
    def said(self) -> list[str]:
        return []

    def test_goes_on_there_from_another_home(
        self, make_spec: MakeSpec, begun: Callable[[Path, str], None], said: list[str], tmp_path: Path
    ) -> None:
        begun(tmp_path / "first", "https://mlflow.example.org")
        jobs: Any = Jobs()
        submit(jobs, make_spec(), TEAM, tmp_path / "second", said.append)
        assert said == [
            f"sweep probe goes on in storage {tmp_path / 'first'}, as its ledger has it",
            "sweep probe goes on with MLflow at https://mlflow.example.org, as its ledger has it",
        ]
        assert jobs.environments["probe-1"]["MLFLOW_TRACKING_URI"] == "https://mlflow.example.org"

    def test_says_nothing_where_it_is_the_submitters_own(
        self, make_spec: MakeSpec, begun: Callable[[Path, str], None], said: list[str], tmp_path: Path
    ) -> None:
        begun(tmp_path / "first" / "runs", TEAM.tracking_uri)
        submit(Jobs(), make_spec(), TEAM, tmp_path / "first", said.append)  # type: ignore[arg-type]
        assert said == []

    def test_is_not_where_another_storage_is_named(
        self, make_spec: MakeSpec, begun: Callable[[Path, str], None], tmp_path: Path
    ) -> None:
        begun(tmp_path / "first", TEAM.tracking_uri)
        jobs: Any = Jobs()
        with pytest.raises(UserError) as told:
            submit(jobs, make_spec(f"storage={tmp_path / 'other'}"), TEAM, tmp_path, print)
        assert str(told.value).startswith(
            f"sweep probe keeps its files in {tmp_path / 'first'}, as its ledger has it, but the spec names storage "
            f"{tmp_path / 'other'}: "
        )
        assert submit(jobs, make_spec(f"storage={tmp_path / 'first'}"), TEAM, tmp_path, print).is_new

    def test_needs_no_mlflow_of_the_submitters(
        self,
        make_spec: MakeSpec,
        begun: Callable[[Path, str], None],
        said: list[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        alone = replace(TEAM, tracking_uri="")
        with pytest.raises(ServicesDownError, match="the MLflow server"):
            submit(Jobs(), make_spec(), alone, tmp_path, said.append)  # type: ignore[arg-type]
        begun(tmp_path / "runs", "https://mlflow.example.org")
        assert submit(Jobs(), make_spec(), alone, tmp_path, said.append).is_new  # type: ignore[arg-type]
