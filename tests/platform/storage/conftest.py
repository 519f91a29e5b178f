"""A second S3 server on this machine, and stores."""

import re
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import wait_for

from advseg.models.manifest import write_directory
from advseg.platform.storage.opening import open_store
from advseg.platform.storage.s3_client import Patience
from advseg.platform.storage.store import Store

QUICK = Patience(attempts=1, outage_s=60, retry_s=0.01, connect_s=1, read_s=5)
"""Of tests, which make their outages themselves."""


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
