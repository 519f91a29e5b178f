import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from advseg.platform.cluster.driver import Job
from advseg.platform.spec.spec import Spec

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

    assert job.storage == tmp_path / "runs"
    assert job.spec == Spec.model_validate(job.document) == spec
