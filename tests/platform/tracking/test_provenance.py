from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from mlflow.tracking import MlflowClient

from advseg.platform.tracking.git_state import GitState
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.provenance import describe_job, describe_training, hardware, packages
from advseg.platform.tracking.runs import ensure_run
from advseg.trainers.data.dataset import Dataset

DATASET = Dataset(
    labelled=(),
    unlabelled=(),
    validation=(),
    classes=("a", "b"),
    palette=((0, 0, 0), (1, 1, 1)),
    ignore_index=255,
    digest="d" * 64,
)
GIT = GitState(commit="c" * 40, branch="main", diff="+x = 2\n")


@pytest.fixture
def run_id(client: MlflowClient) -> str:
    return ensure_run(client, RunIdentity(experiment="probe", key="probe"))


def text(client: MlflowClient, run_id: str, name: str) -> str:
    return Path(client.download_artifacts(run_id, name)).read_text()


class TestJob:
    def test_has_its_spec_packages_and_code(self, client: MlflowClient, run_id: str) -> None:
        document = {"name": "probe", "trainer": {"steps": 8}}
        describe_job(client, run_id, document, "e" * 64, GIT)
        assert yaml.safe_load(text(client, run_id, "spec.yaml")) == document
        assert f"mlflow=={version('mlflow')}\n" in text(client, run_id, "packages.txt")
        assert text(client, run_id, "code.diff") == GIT.diff
        tags = client.get_run(run_id).data.tags
        assert (tags["mlflow.source.git.commit"], tags["mlflow.source.git.branch"]) == (GIT.commit, "main")
        assert tags["advseg.code"] == "e" * 64

    @pytest.mark.parametrize("git", [None, GitState(commit="c" * 40, branch="main", diff="")], ids=["no git", "clean"])
    def test_has_no_diff_where_nothing_differs(self, client: MlflowClient, run_id: str, git: GitState | None) -> None:
        describe_job(client, run_id, {}, "e" * 64, git)
        assert sorted(file.path for file in client.list_artifacts(run_id)) == ["packages.txt", "spec.yaml"]


class TestTraining:
    def test_has_its_dataset_as_input_once(self, client: MlflowClient, run_id: str) -> None:
        for _ in range(2):
            describe_training(client, run_id, DATASET, "/data/shapes")
        run = client.get_run(run_id)
        (given,) = run.inputs.dataset_inputs
        assert (given.dataset.name, given.dataset.digest) == ("shapes", "d" * 36)
        assert {tag.key: tag.value for tag in given.tags} == {"mlflow.data.context": "training"}
        assert run.data.tags["advseg.dataset"] == "d" * 64

    def test_says_on_which_machine_it_ran(self, client: MlflowClient, run_id: str) -> None:
        describe_training(client, run_id, DATASET, "/data/shapes")
        assert hardware().items() <= client.get_run(run_id).data.tags.items()
        assert all(hardware().values())


def test_packages_are_told_once_each():
    lines = packages().splitlines()
    assert len(lines) == len(set(lines)) > 50
    assert all(line.count("==") == 1 for line in lines)
