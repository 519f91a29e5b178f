"""Starting the local services, waiting for them, and ending them."""

import importlib.metadata
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from ...trainers.errors import UserError
from ..base.processes import end, is_alive, launch, members
from .ports import choose_port
from .records import ServiceRecord
from .servers import (
    DEFAULT_PORTS,
    MLFLOW,
    RAY,
    TITLES,
    RayPorts,
    ensure_token,
    folder,
    log_path,
    mlflow_server,
    ray_head,
    ready_version,
)

OPTIONS = {MLFLOW: "--mlflow-port", RAY: "--dashboard-port"}
START_LIMIT_S = 120.0
END_GRACE_S = 10.0
POLL_S = 0.1
TAIL_LINES = 20
# Ray's sockets allow 107 bytes for their whole path, so what lies in it must not depend on the home's depth.
TEMP_ROOT = Path("/tmp")


class ServiceStartError(UserError):
    """A service did not start: one line, and below it the end of what the service printed."""


def choose_server_ports(
    names: Iterable[str], *, asked: Mapping[str, int | None], former: Mapping[str, int]
) -> dict[str, int]:
    """A port for each service: the one asked for, else its former one, its usual one or any that is free."""
    chosen: dict[str, int] = {}
    for name in names:
        chosen[name] = choose_port(
            option=OPTIONS[name],
            asked=asked[name],
            preferred=(*([former[name]] if name in former else []), DEFAULT_PORTS[name]),
            avoid=chosen.values(),
        )
    return chosen


def start(home: Path, name: str, *, port: int, cpus: int | None, avoid: Collection[int]) -> ServiceRecord:
    """Starts one service and returns at once. `avoid`: ports that others are about to use."""
    temp_dir = Path(tempfile.mkdtemp(prefix="advseg-", dir=TEMP_ROOT))
    try:
        if name == MLFLOW:
            server = mlflow_server(home, port=port, temp_dir=temp_dir, environment=os.environ)
        else:
            ensure_token(home)
            server = ray_head(
                home,
                ports=_ray_ports(dashboard=port, avoid=avoid),
                cpus=cpus or os.cpu_count() or 1,
                temp_dir=temp_dir,
                environment=os.environ,
            )
        log = log_path(home, name)
        process = launch(server.argv, environment=server.environment, folder=folder(home, name), log=log)
    except BaseException:
        shutil.rmtree(temp_dir, ignore_errors=True)
        raise
    return ServiceRecord(
        pid=process.pid,
        created=process.created,
        port=server.port,
        url=server.url,
        log=str(log),
        temp_dir=str(temp_dir),
        gcs_address=server.gcs_address,
    )


def wait_until_ready(home: Path, records: Mapping[str, ServiceRecord]) -> None:
    """Returns when every service answers; raises ServiceStartError if one has died or is too slow."""
    deadline = time.monotonic() + START_LIMIT_S
    waiting = dict(records)
    while waiting:
        for name, record in list(waiting.items()):
            if not is_alive(record.process):
                raise ServiceStartError(_with_log(record, f"{TITLES[name]} ended while it was starting"))
            version = ready_version(home, name, record.url)
            if version is not None:
                _check_version(name, record.url, version)
                del waiting[name]
            elif time.monotonic() > deadline:
                problem = f"{TITLES[name]} does not answer at {record.url} within {START_LIMIT_S:.0f} s"
                raise ServiceStartError(_with_log(record, f"{problem}: run `advseg down` before another try"))
        if waiting:
            time.sleep(POLL_S)


def stop(records: Mapping[str, ServiceRecord], *, grace_s: float = END_GRACE_S) -> None:
    """Ends the services with all that they started, and removes their temporary folders."""
    if not records:
        return
    end(
        lambda: set().union(*(members(each.process, temp_dir=Path(each.temp_dir)) for each in records.values())),
        leaders={each.pid for each in records.values()},
        grace_s=grace_s,
    )
    for record in records.values():
        shutil.rmtree(record.temp_dir, ignore_errors=True)


def _ray_ports(*, dashboard: int, avoid: Collection[int]) -> RayPorts:
    chosen: list[int] = []
    for _ in range(4):
        chosen.append(choose_port(option=OPTIONS[RAY], asked=None, avoid={dashboard, *avoid, *chosen}))
    gcs, client_server, dashboard_metrics, autoscaler_metrics = chosen
    return RayPorts(
        dashboard=dashboard,
        gcs=gcs,
        client_server=client_server,
        dashboard_metrics=dashboard_metrics,
        autoscaler_metrics=autoscaler_metrics,
    )


def _check_version(name: str, url: str, version: str) -> None:
    installed = importlib.metadata.version(name)
    if version != installed:
        raise ServiceStartError(
            f"{TITLES[name]} at {url} must have the installed version {installed}, but has {version}: "
            "run `advseg down`, then `advseg up`"
        )


def _with_log(record: ServiceRecord, problem: str) -> str:
    tail = Path(record.log).read_text(errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join((f"{problem}; its log {record.log} ends with:", *(f"  {line}" for line in tail)))
