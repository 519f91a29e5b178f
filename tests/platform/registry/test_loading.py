"""`advseg.models.load` of a registered model, from MLflow's own server, which asks for an account."""

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from mlflow_servers import Server

from advseg.models import load
from advseg.models.tracking_server import RegistryError
from advseg.platform.base.exits import EXTRAS
from advseg.platform.registry.registering import register
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import ensure_run

from .conftest import gate_of

pytestmark = [
    pytest.mark.parametrize("server", ["authenticating"], indirect=True),
    pytest.mark.xdist_group("own servers"),
]


@pytest.fixture
def served(server: Server, model: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A server that the environment names, and that has the model as `loaded@champion`, once for all tests."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    client = MlflowClient(server.uri)
    run_id = ensure_run(client, RunIdentity(experiment="loaded", key="loaded/0"))
    register(client, model, "loaded", run_id, "loaded/0", gate_of(1), lambda: None)
    return client


def test_a_registered_model_is_loaded_by_what_the_base_install_has(served: MlflowClient, model: Path) -> None:
    extras = [package for packages in EXTRAS.values() for package in packages]
    program = (
        f"import sys; sys.modules |= dict.fromkeys({[*extras, 'requests']!r})\n"
        "from advseg.models import load\n"
        "print(*load('loaded@champion').card.classes, *load('loaded@1', device='cpu').card.classes)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    names = " ".join(load(model).card.classes)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{names} {names}\n", "")


def test_what_a_server_refuses_or_has_not_is_told_in_a_line(
    served: MlflowClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    for reference in ("loaded@best", "loaded@99", "others@1", "loaded.history@1"):
        with pytest.raises(RegistryError) as caught:
            load(reference)
        told.append(str(caught.value))
    known = [line.partition("; registered models: ") for line in told[:3]]
    assert all("loaded" in names.split(", ") for _, _, names in known)
    assert [line for line, _, _ in known] == [
        f"there is no model {reference}: the MLflow server at {server.uri} knows nothing of it ({status})"
        for reference, status in (("loaded@best", 400), ("loaded@99", 404), ("others@1", 404))
    ]
    assert "but models come from mlflow-artifacts: or s3:, not from models:" in told[3]
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(RegistryError, match=r"refuses \(401\): set MLFLOW_TRACKING_USERNAME"):
        load("loaded@champion")


def test_a_version_whose_files_are_gone_is_told_in_a_line(served: MlflowClient, server: Server) -> None:
    run_id = ensure_run(served, RunIdentity(experiment="loaded", key="loaded/gone"))
    served.create_registered_model("gone")
    served.create_model_version("gone", f"{served.get_run(run_id).info.artifact_uri}/model", run_id=run_id)
    with pytest.raises(RegistryError) as caught:
        load("gone@1")
    assert str(caught.value).startswith("gone@1 is not whole, as files of it are gone, or another program's: ")
