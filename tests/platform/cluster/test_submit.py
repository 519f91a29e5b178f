"""Several submitters at the same moment."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from advseg.platform.cluster import submit as submitting
from advseg.platform.cluster.submit import submit
from advseg.platform.services.connection import Services
from advseg.platform.spec.spec import Spec
from advseg.trainers.errors import UserError

SUBMITTERS = 6
SERVICES = Services(tracking_uri="http://nowhere", dashboard_url="http://nowhere", ray_token_path=None)


class Jobs:
    """A cluster's jobs. It answers the first looks only when all submitters have looked."""

    def __init__(self, lookers: int) -> None:
        self.known: dict[str, Any] = {}
        self._all_have_looked = threading.Barrier(lookers)
        self._looked = threading.local()
        self._lock = threading.Lock()

    def list_jobs(self) -> list[Any]:
        listed = list(self.known.values())
        if not hasattr(self._looked, "once"):
            self._looked.once = True
            self._all_have_looked.wait(10)
        return listed

    def submit_job(self, *, submission_id: str, metadata: dict[str, str], **_: Any) -> None:
        with self._lock:
            if submission_id in self.known:
                raise RuntimeError(
                    f"Request failed with status code 400: Traceback (most recent call last): ...\n"
                    f"ValueError: Job with submission_id {submission_id} already exists. "
                    f"Please use a different submission_id."
                )
            self.known[submission_id] = SimpleNamespace(
                submission_id=submission_id, metadata=metadata, status=JobStatus.PENDING
            )


@pytest.fixture(autouse=True)
def no_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What travels with a job is another test's."""
    monkeypatch.setattr(submitting, "copy_package", lambda folder: folder)
    monkeypatch.setattr(submitting, "git_state", lambda folders: None)
    monkeypatch.setattr(submitting, "driver_selector", lambda url: {})


def race(jobs: Any, specs: list[Spec], home: Path) -> list[Any]:
    def run(spec: Spec) -> Any:
        try:
            return submit(jobs, spec, SERVICES, home)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(len(specs)) as pool:
        return list(pool.map(run, specs))


def test_of_one_job_make_one_job_and_the_others_say_that_it_runs(
    make_spec: Callable[..., Spec], tmp_path: Path
) -> None:
    jobs = Jobs(SUBMITTERS)
    done = race(jobs, [make_spec()] * SUBMITTERS, tmp_path)
    assert Counter((job.id, job.is_new) for job in done) == {("probe-1", True): 1, ("probe-1", False): SUBMITTERS - 1}
    assert list(jobs.known) == ["probe-1"]


def test_of_two_specs_of_one_name_are_refused_but_one(make_spec: Callable[..., Spec], tmp_path: Path) -> None:
    done = race(Jobs(2), [make_spec(), make_spec("trainer.seed=1")], tmp_path)
    refusals = [answer for answer in done if isinstance(answer, str)]
    assert len(refusals) == 1
    assert refusals[0].startswith("job probe-1 of this name runs with another spec: stop it by")


def test_that_are_always_too_late_are_told_so_at_last(
    make_spec: Callable[..., Spec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: Any = Jobs(1)
    monkeypatch.setattr(jobs, "list_jobs", list)
    jobs.submit_job(submission_id="probe-1", metadata={})
    with pytest.raises(RuntimeError, match="already exists"):
        submit(jobs, make_spec(), SERVICES, tmp_path)


def test_refused_for_another_reason_is_tried_once(
    make_spec: Callable[..., Spec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: Any = Jobs(1)
    tries: list[str] = []

    def refuse(*, submission_id: str, **_: Any) -> None:
        tries.append(submission_id)
        raise RuntimeError("Request failed with status code 413: too large")

    monkeypatch.setattr(jobs, "submit_job", refuse)
    with pytest.raises(RuntimeError, match="too large"):
        submit(jobs, make_spec(), SERVICES, tmp_path)
    assert tries == ["probe-1"]


def test_takes_the_specs_packages_and_the_drivers_place_to_ray(
    make_spec: Callable[..., Spec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: Any = Jobs(1)
    sent: dict[str, Any] = {}
    monkeypatch.setattr(submitting, "driver_selector", lambda url: {"ray.io/node-id": f"!head of {url}"})
    monkeypatch.setattr(jobs, "submit_job", lambda **said: sent.update(said))
    submit(jobs, make_spec("runtime_env.uv=[albumentations==2.0.8]"), SERVICES, tmp_path)
    assert sent["runtime_env"]["uv"] == ["albumentations==2.0.8"]
    assert sent["entrypoint_label_selector"] == {"ray.io/node-id": "!head of http://nowhere"}
    submit(jobs, make_spec("runtime_env.pip=[albumentations]"), SERVICES, tmp_path)
    assert sent["runtime_env"]["pip"] == ["albumentations"]
    submit(jobs, make_spec(), SERVICES, tmp_path)
    assert not {"uv", "pip"} & sent["runtime_env"].keys()
