"""Where a client finds the services: those of its environment, else the local ones."""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from ...trainers.errors import UserError
from ..base.mlflow_account import PASSWORD_PATH, log_in
from ..base.proxies import past_proxies
from .belonging import is_running
from .mlflow_accounts import page_path, password_path
from .records import ServiceRecord, read_records
from .servers import MLFLOW, RAY, TITLES, folder, token_path

_REMEDIES = {
    "MLFLOW_TRACKING_URI": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "RAY_ADDRESS": "RAY_AUTH_TOKEN_PATH",
}
"""Where a secret may stand instead of the address."""
_ELSEWHERE = {MLFLOW: "MLFLOW_TRACKING_URI", RAY: "RAY_ADDRESS"}
"""What names a service that is not the local one."""
_SERVERS = {"MLFLOW_TRACKING_URI": "an MLflow server", "RAY_ADDRESS": "a Ray dashboard"}
_SECRET = re.compile("(?i)user|pass|token|secret|key")
"""In the name of a parameter."""


class ServicesDownError(UserError):
    """A local service that is needed does not run."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """Where the services are that a client talks to; an address is empty where nobody needs or names one."""

    tracking_uri: str
    dashboard_url: str
    ray_token_path: Path | None  # None: the Ray cluster is not ours, and its user's environment has the token
    mlflow_password_path: Path | None = None  # None: the MLflow server is not ours, or asks for no account

    def environment(self) -> dict[str, str]:
        """What a client process must have set, beside its own environment."""
        variables = {
            **past_proxies(os.environ),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            PASSWORD_PATH: str(self.mlflow_password_path or ""),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        addresses = {"MLFLOW_TRACKING_URI": self.tracking_uri, "RAY_ADDRESS": self.dashboard_url}
        variables |= {name: address for name, address in addresses.items() if address}
        if self.ray_token_path is not None:
            variables |= {
                "RAY_AUTH_MODE": "token",
                # A token in the client's own environment would win over the path; Ray takes "" for none.
                "RAY_AUTH_TOKEN": "",
                "RAY_AUTH_TOKEN_PATH": str(self.ray_token_path),
            }
        elif os.environ.get("RAY_AUTH_TOKEN"):
            # Ray keeps it back unless it is told that there are tokens.
            variables["RAY_AUTH_MODE"] = os.environ.get("RAY_AUTH_MODE") or "token"
        return variables

    @property
    def mlflow_page(self) -> str:
        """What a browser opens to see MLflow; for a server with our account a file that logs it in."""
        if self.mlflow_password_path is None:
            return self.tracking_uri
        return page_path(self.mlflow_password_path.parent).as_uri()

    def enter(self) -> None:
        """Make this process a client. Ray reads how to authenticate when it is first imported, so that comes after."""
        os.environ.update(self.environment())
        log_in()


def named_elsewhere() -> dict[str, str]:
    """The addresses that the environment names, by service. Raises UserError for one that holds a secret."""
    given = {name: os.environ.get(variable) or "" for name, variable in _ELSEWHERE.items()}
    for name, address in given.items():
        refuse_secrets(_ELSEWHERE[name], address)
    return {name: address for name, address in given.items() if address}


def connect(home: Path, needed: Collection[str] = (MLFLOW, RAY)) -> Services:
    """The services for a client: what RAY_ADDRESS and MLFLOW_TRACKING_URI name, else the local ones.

    Raises ServicesDownError if a local one is needed and does not run, and UserError for an address of
    no server.
    """
    home = home.resolve()
    given = {name: os.environ.get(name) for name in _REMEDIES}
    for name, address in given.items():
        refuse_secrets(name, address or "")
        if address and re.match("sqlite:///(?!/)", address):
            raise UserError(
                f"{name} must name a database by an absolute path, for each job has a folder of its own, but is "
                f"{address}: set it to sqlite:///{Path(address.removeprefix('sqlite:///')).absolute()}"
            )
        if address and not _is_server(address):
            place = address.rpartition("@")[2]
            raise UserError(
                f"{name} must be the http:// or https:// address of {_SERVERS[name]}, but is {place}: "
                "set it to one, or unset it to use the local one"
            )
    ray_address, tracking_uri = given["RAY_ADDRESS"], given["MLFLOW_TRACKING_URI"]
    records = read_records(home)
    running = {name: record for name, record in records.items() if is_running(home, name, record)}
    unnamed = [name for name, variable in _ELSEWHERE.items() if not given[variable]]
    if missing := [name for name in unnamed if name in needed and name not in running]:
        titles, variables = (" and ".join(names[name] for name in missing) for names in (TITLES, _ELSEWHERE))
        does, it, another = ("does", "it", "another") if len(missing) == 1 else ("do", "them", "others")
        raise ServicesDownError(
            f"{titles} {does} not run in {home}: start {it} with `advseg up`, or name {another} by {variables}"
        )
    return services_of(home, running, tracking_uri=tracking_uri, dashboard_url=ray_address)


def services_of(
    home: Path,
    running: Mapping[str, ServiceRecord],
    *,
    tracking_uri: str | None = None,
    dashboard_url: str | None = None,
) -> Services:
    """Where the services are, those of the addresses that are given, else the local ones that run."""
    ours, head = running.get(MLFLOW), running.get(RAY)
    has_account = ours is not None and ours.accounts and (tracking_uri or ours.url).rstrip("/") == ours.url
    token = token_path(home) if head and not dashboard_url else os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Services(
        tracking_uri=tracking_uri or (ours.url if ours else ""),
        dashboard_url=dashboard_url or (head.url if head else ""),
        ray_token_path=Path(token) if token else None,
        mlflow_password_path=password_path(folder(home, MLFLOW)) if has_account else None,
    )


def _is_server(address: str) -> bool:
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - it raises for what is no port
    except ValueError:
        return False
    # A database of MLflow's own, without a server, does for whoever is alone with it.
    return (parts.scheme in ("http", "https") and bool(parts.hostname)) or address.startswith("sqlite:////")


def refuse_secrets(name: str, address: str) -> None:
    """Raise UserError for an address with a password or a user, for addresses are shown to others and kept."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return  # It is none.
    if "@" in parts.netloc or any(_SECRET.search(key) for key, _ in parse_qsl(parts.query)):
        shown = f"{parts.scheme}://***@{parts.netloc.rpartition('@')[2]}"
        raise UserError(
            f"{name} must hold no user and no password, for addresses are kept with runs and shown by pages and logs, "
            f"but is {shown}: put them into {_REMEDIES[name]}"
        )
