"""MLflow servers over HTTP, as the guide for teams has them."""

import http.client
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from advseg.platform.services.ports import choose_port

USER, PASSWORD = "admin", "correct horse battery staple"


@dataclass(frozen=True, kw_only=True)
class Server:
    port: int
    log: Path

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def status(self, path: str, **headers: str) -> int | None:
        """The status of an answer, None if there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()


def start(stack: ExitStack, folder: Path, backend: str, *options: str, **environment: str) -> Server:
    """Start a server as docs/teams.md says, and wait until it answers."""
    port = choose_port(option="--port", asked=None)
    server = Server(port=port, log=folder / "server.log")
    log = stack.enter_context(server.log.open("w"))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend, "--workers", "1"),
            *("--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)),
            *("--allowed-hosts", f"127.0.0.1:{port}", *options),
        ],
        env={
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **environment,
        },
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=folder,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    deadline = time.monotonic() + 300
    while server.status("/health") != 200:
        assert process.poll() is None and time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.1)
    return server
