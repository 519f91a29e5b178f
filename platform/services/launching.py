"""Starting the local services, waiting for them, and ending them."""

import importlib.metadata
import os
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from ...trainers.errors import UserError
from ..base.processes import end, launch
from .belonging import is_running, make_temp_dir, members, remove_temp_dir
from .mlflow_accounts import ensure_secret, prepare_account
from .ports import choose_port
from .records import ServiceRecord
from .servers import (
    DEFAULT_PORTS,
    MLFLOW,
    RAY,
    TITLES,
    RayPorts,
    folder,
    log_path,
    mlflow_server,
    ray_head,
    ready_version,
    token_path,
)

OPTIONS = {MLFLOW: "--mlflow-port", RAY: "--dashboard-port"}
START_LIMIT_S = 120.0
END_GRACE_S = 10.0
POLL_S = 0.1
TAIL_LINES = 20


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


def start(
    home: Path, name: str, *, port: int, cpus: int | None, avoid: Collection[int], accounts: bool = True
) -> ServiceRecord:
    """Starts one service and returns at once. `avoid`: ports that others are about to use."""
    temp_dir = make_temp_dir(home)
    try:
        if name == MLFLOW:
            server = mlflow_server(home, port=port, temp_dir=temp_dir, environment=os.environ, accounts=accounts)
            if accounts:
                prepare_account(folder(home, name), server.url)
        else:
            ensure_secret(token_path(home))
            server = ray_head(
                home,
                ports=_ray_ports(dashboard=port, avoid=avoid),
                cpus=cpus or os.cpu_count() or 1,
                temp_dir=temp_dir,
                environment=os.environ,
            )
        process = launch(
            server.argv, environment=server.environment, folder=folder(home, name), log=log_path(home, name)
        )
    except BaseException:
        remove_temp_dir(temp_dir, home)
        raise
    return ServiceRecord(
        pid=process.pid,
        created=process.created,
        port=server.port,
        temp_dir=temp_dir,
        gcs_address=server.gcs_address,
        accounts=name == MLFLOW and accounts,
    )


def wait_until_ready(home: Path, records: Mapping[str, ServiceRecord]) -> None:
    """Returns when every service answers; raises ServiceStartError if one has died or is too slow."""
    deadline = time.monotonic() + START_LIMIT_S
    waiting = dict(records)
    while waiting:
        for name, record in list(waiting.items()):
            if not is_running(home, name, record):
                raise ServiceStartError(_with_log(home, name, f"{TITLES[name]} ended while it was starting"))
            version = ready_version(home, name, record.url)
            if version is not None:
                _check_version(name, record.url, version)
                del waiting[name]
            elif time.monotonic() > deadline:
                problem = f"{TITLES[name]} does not answer at {record.url} within {START_LIMIT_S:.0f} s"
                raise ServiceStartError(_with_log(home, name, f"{problem}: run `advseg down` before another try"))
        if waiting:
            time.sleep(POLL_S)


def stop(home: Path, records: Mapping[str, ServiceRecord], *, grace_s: float = END_GRACE_S) -> None:
    """Ends the services with all that they started, and removes their temporary folders."""
    if not records:
        return
    end(
        lambda: set().union(*(members(home, name, record) for name, record in records.items())),
        leaders={record.pid for record in records.values()},
        grace_s=grace_s,
    )
    for record in records.values():
        remove_temp_dir(record.temp_dir, home)


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


def _with_log(home: Path, name: str, problem: str) -> str:
    log = log_path(home, name)
    tail = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join((f"{problem}; its log {log} ends with:", *(f"  {line}" for line in tail)))
