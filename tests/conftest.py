import importlib.util
import os
import shutil
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# Tests are no package: their helper modules are loaded by path.
_spec = importlib.util.spec_from_file_location("trees", Path(__file__).parent / "trees.py")
assert _spec and _spec.loader
trees = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(trees)


# The same examples in every run: what chance finds in somebody else's change tells them nothing.
# How long they take is the machine's, which may have other work.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")


def pytest_configure() -> None:
    """A run that is told to end cleans up as one that is interrupted: its servers go with it."""
    # That of whoever runs the tests is none of theirs.
    os.environ.pop("ADVSEG_LEDGER", None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell that starts it in the background leaves its children deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before xdist reads it
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what one of several processes is to run whole: a file, or all tests that share a cluster or MLflow's servers.

    Those of the cluster come first: they take minutes, and wait for most of them while others compute.
    """
    for item in items:
        if item.get_closest_marker("xdist_group"):
            continue
        if item.get_closest_marker("cluster"):
            together = "shared cluster" if "cluster" in getattr(item, "fixturenames", ()) else "own servers"
        else:
            together = item.path.stem
        item.add_marker(pytest.mark.xdist_group(together))
    items.sort(key=lambda item: item.get_closest_marker("cluster") is None)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """On so small tensors more threads only wait for each other; and sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def put_odd() -> Callable[[str, Path], None]:
    """Put a pipe, socket, folder, device or circle of links in the place of a file."""

    def put(kind: str, path: Path) -> None:
        path.unlink(missing_ok=True)
        match kind:
            case "pipe":
                os.mkfifo(path)
            case "socket":
                with socket.socket(socket.AF_UNIX) as listening, pytest.MonkeyPatch.context() as patch:
                    # A socket's path must be shorter than pytest's are.
                    patch.chdir(path.parent)
                    listening.bind(path.name)
            case "folder":
                path.mkdir()
            case "device":
                path.symlink_to("/dev/zero")
            case "circle":
                path.symlink_to(path.name)

    return put


@pytest.fixture
def voc_tree(tmp_path: Path) -> Path:
    """A VOC2012 folder of a few small images, with lists train, train_aug and val."""
    return trees.write_voc(tmp_path / "VOC2012")


@pytest.fixture
def cityscapes_tree(tmp_path: Path) -> Path:
    """A Cityscapes folder of a few small images, of the splits train and val."""
    return trees.write_cityscapes(tmp_path / "cityscapes")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database whose migrations, which take seconds, have run."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "template.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def client(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "MlflowClient":
    """An MLflow client with a database and artifacts of its own."""
    import mlflow
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Those of the cluster, where its tests ran in this process before.
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    # Without a server, new experiments put their artifacts in the working folder.
    monkeypatch.chdir(tmp_path)
    shutil.copy(migrated, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    return MlflowClient(uri)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """An S3 server in memory, which takes any key."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user sets but for the endpoint, and nothing that this machine's user has set."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def new_bucket(aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a bucket on a server, which the environment names from now on, and gives its address."""
    from advseg.platform.storage.s3_client import AT_ONCE, s3_client

    def make(server: str) -> str:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server)
        name = f"test-{uuid.uuid4().hex}"
        client = s3_client(AT_ONCE)
        client.create_bucket(Bucket=name)
        client.close()
        return f"s3://{name}"

    return make
