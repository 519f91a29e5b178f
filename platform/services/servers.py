"""The two programs behind `advseg up`: how each is started, and how it says that it is ready."""

import base64
import http.client
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...models.local_server import USER
from ..base.mlflow_account import PASSWORD_PATH
from ..base.proxies import past_proxies
from .mlflow_accounts import CONFIGURATION, configuration_path, password_path
from .ports import LOOPBACK

MLFLOW = "mlflow"
RAY = "ray"
TITLES = {MLFLOW: "the MLflow server", RAY: "the Ray head"}
DEFAULT_PORTS = {MLFLOW: 5000, RAY: 8265}
DATABASE = "mlflow.db"

# What is read in a caller's environment about other services than those that are being started.
_OTHER_SERVICES = {
    PASSWORD_PATH,
    "RAY_ADDRESS",
    "RAY_API_SERVER_ADDRESS",
    "RAY_AUTH_TOKEN",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_NAMESPACE",
    "RAY_REDIS_ADDRESS",
    "RAY_TMPDIR",
}
# Loopback needs no proxy, whatever the environment says.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, kw_only=True)
class RayPorts:
    """The ports of a Ray head that two heads on one machine would otherwise both want."""

    dashboard: int
    gcs: int
    client_server: int
    dashboard_metrics: int
    autoscaler_metrics: int


@dataclass(frozen=True, kw_only=True)
class Server:
    """A program to start."""

    argv: list[str]
    environment: dict[str, str]
    port: int
    gcs_address: str | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


def folder(home: Path, name: str) -> Path:
    return home / name


def log_path(home: Path, name: str) -> Path:
    return folder(home, name) / {MLFLOW: "server.log", RAY: "head.log"}[name]


def token_path(home: Path) -> Path:
    return folder(home, RAY) / "token"


def database_url(home: Path) -> str:
    """Where the MLflow server keeps its runs; its command line names it."""
    return f"sqlite:///{folder(home, MLFLOW) / DATABASE}"


def ray_temp_dir(temp_dir: Path) -> Path:
    """Where Ray keeps its sockets and logs; its command line names it."""
    return temp_dir / "ray"


def mlflow_server(
    home: Path, *, port: int, temp_dir: Path, environment: Mapping[str, str], accounts: bool = True
) -> Server:
    """An MLflow server over SQLite that keeps artifacts in the home folder and hands them out itself.

    Without accounts it takes everybody's requests.
    """
    data = folder(home, MLFLOW)
    configuration = {CONFIGURATION: str(configuration_path(data))} if accounts else {}
    return Server(
        argv=[
            *(sys.executable, "-m", f"{__package__}.mlflow_program", str(data)),
            *("--backend-store-uri", database_url(home)),
            *("--artifacts-destination", str(data / "artifacts")),
            *("--host", LOOPBACK, "--port", str(port)),
            *("--allowed-hosts", f"{LOOPBACK}:{port},localhost:{port}"),
            # More workers make requests slower on SQLite and cost 250 MB each.
            *("--workers", "1"),
            *(("--app-name", "basic-auth") if accounts else ()),
        ],
        environment={
            **_inherited(environment, temp_dir),
            **configuration,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        port=port,
    )


def ray_head(home: Path, *, ports: RayPorts, cpus: int, temp_dir: Path, environment: Mapping[str, str]) -> Server:
    """A Ray head with token authentication that is reachable from this machine alone."""
    return Server(
        argv=[
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            *("--node-ip-address", LOOPBACK, "--port", str(ports.gcs)),
            *("--dashboard-host", LOOPBACK, "--dashboard-port", str(ports.dashboard)),
            *("--ray-client-server-port", str(ports.client_server)),
            # 0: whoever listens takes any free port.
            *("--dashboard-agent-listen-port", "0", "--min-worker-port", "0", "--max-worker-port", "0"),
            *("--num-cpus", str(cpus), "--temp-dir", str(ray_temp_dir(temp_dir)), "--log-color", "false"),
        ],
        environment={
            **_inherited(environment, temp_dir),
            "AUTOSCALER_METRIC_PORT": str(ports.autoscaler_metrics),
            "DASHBOARD_METRIC_PORT": str(ports.dashboard_metrics),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token_path(home)),
            # Off, Ray takes the loopback address as this node's, as it does on macOS and Windows by default.
            # On, it puts the machine's outer address for it, and its control plane listens to the network.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            # A draining node waits for the work of others to move away; here there is nowhere to move to.
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        port=ports.dashboard,
        gcs_address=f"{LOOPBACK}:{ports.gcs}",
    )


def ready_version(home: Path, name: str, url: str) -> str | None:
    """The version of the server at this address if it is ready for clients, else None."""
    if name == MLFLOW:
        account = _basic(password_path(folder(home, MLFLOW)))
        version = _get(f"{url}/version", account) if _get(f"{url}/health") else None
        return version.strip() if version else None
    token = _bearer(home)
    version = _get(f"{url}/api/version", token)
    # The Jobs API comes up after the dashboard, and both outlive the node that would run a job.
    if version is None or _get(f"{url}/api/jobs/", token) is None or not _has_node(url, token):
        return None
    return json.loads(version)["ray_version"]


def _has_node(url: str, token: str) -> bool:
    """Whether a Ray cluster has a living node."""
    answer = _get(f"{url}/api/v0/nodes", token)
    nodes = json.loads(answer)["data"]["result"]["result"] if answer else []
    return any(node["state"] == "ALIVE" for node in nodes)


def _basic(password: Path) -> str:
    """What our account is shown by. A server without accounts does not look at it."""
    secret = password.read_text().strip() if password.exists() else ""
    return "Basic " + base64.b64encode(f"{USER}:{secret}".encode()).decode()


def _bearer(home: Path) -> str:
    return f"Bearer {token_path(home).read_text().strip()}"


def _inherited(environment: Mapping[str, str], temp_dir: Path) -> dict[str, str]:
    """The caller's environment without what would lead a service, or the jobs under it, elsewhere.

    Programs of this Python's environment come first on the path, since the entry points of jobs run there.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name not in _OTHER_SERVICES and not name.startswith("MLFLOW_")
    }
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join(filter(None, (programs, environment.get("PATH"))))
    return {**kept, **past_proxies(kept), "PATH": path, "TMPDIR": str(temp_dir)}


def _get(url: str, authorization: str | None = None) -> str | None:
    request = urllib.request.Request(url, headers={"Authorization": authorization} if authorization else {})
    try:
        with _OPENER.open(request, timeout=5) as response:
            return response.read().decode()
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return None
    except (OSError, http.client.HTTPException):
        return None
