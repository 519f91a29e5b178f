"""Two real S3 servers on this machine, and stores in them and in a folder."""

import re
import subprocess
import sysconfig
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from waiting import wait_for

from advseg.models.manifest import write_directory
from advseg.platform.storage.opening import open_store
from advseg.platform.storage.s3_client import Patience
from advseg.platform.storage.store import Store

QUICK = Patience(attempts=1, outage_s=60, retry_s=0.01, connect_s=1, read_s=5)
"""Of tests, which make their outages themselves."""


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def rclone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where that server keeps its buckets."""
    return tmp_path_factory.mktemp("rclone")


@pytest.fixture(scope="session")
def rclone_server(rclone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Unlike moto it keeps files, and checks signatures."""
    program = [str(Path(sysconfig.get_path("scripts"), "rclone")), "serve", "s3", str(rclone_folder)]
    log = tmp_path_factory.mktemp("log") / "rclone.log"
    options = ["--config=", "--addr=127.0.0.1:0", "--auth-key=key,secret", f"--log-file={log}"]
    server = subprocess.Popen([*program, *options])
    try:
        log.touch()
        yield wait_for(lambda: re.search(r"http://[\d.:]+", log.read_text()))[0]
    finally:
        server.terminate()
        server.wait()


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

    def make(server: str) -> str:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server)
        name = f"test-{uuid.uuid4().hex}"
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=name)
        client.close()
        return f"s3://{name}"

    return make


@pytest.fixture
def open_it() -> Callable[[str | Path], Store]:
    """Opens a store that does not wait long between attempts."""
    return lambda address: open_store(address, QUICK)


@pytest.fixture
def sealed(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with a manifest, of contents by name."""

    def make(folder: str = "sealed", **contents: bytes) -> Path:
        def write(directory: Path) -> None:
            for name, content in contents.items():
                (directory / name).write_bytes(content)

        write_directory(tmp_path / folder, write)
        return tmp_path / folder

    return make
