"""Where a client finds the services: those of its environment, else the local ones."""

import os
from dataclasses import dataclass
from pathlib import Path

from ...trainers.errors import UserError
from .servers import MLFLOW, RAY, TITLES, token_path
from .state import ServiceState, status


class ServicesDownError(UserError):
    """A local service that is needed does not run."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """Where the services are that a client talks to."""

    tracking_uri: str
    dashboard_url: str
    ray_token_path: Path | None  # None: the Ray cluster is not ours, and its user's environment has the token

    def environment(self) -> dict[str, str]:
        """What a client process must have set, beside its own environment."""
        variables = {
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "RAY_ADDRESS": self.dashboard_url,
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        if self.ray_token_path is not None:
            variables |= {
                "RAY_AUTH_MODE": "token",
                # A token in the client's own environment would win over the path; Ray takes "" for none.
                "RAY_AUTH_TOKEN": "",
                "RAY_AUTH_TOKEN_PATH": str(self.ray_token_path),
            }
        return variables


def connect(home: Path) -> Services:
    """The services for a client: what RAY_ADDRESS and MLFLOW_TRACKING_URI name, else the local ones.

    Raises ServicesDownError if a local one is needed and does not run, and UserError for a RAY_ADDRESS that
    is not a dashboard's.
    """
    home = home.resolve()
    ray_address = os.environ.get("RAY_ADDRESS")
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI")
    if ray_address and not ray_address.startswith(("http://", "https://")):
        raise UserError(
            f"RAY_ADDRESS must be the http:// or https:// address of a Ray dashboard, but is {ray_address}: "
            "set it to one, or unset it to use the local Ray head"
        )
    needed = [name for name, given in ((MLFLOW, tracking_uri), (RAY, ray_address)) if not given]
    urls = {entry.name: entry.url for entry in status(home) if entry.state is ServiceState.RUNNING}
    if missing := [TITLES[name] for name in needed if name not in urls]:
        verb = "does" if len(missing) == 1 else "do"
        raise ServicesDownError(f"{' and '.join(missing)} {verb} not run in {home}: start them with `advseg up`")
    token = os.environ.get("RAY_AUTH_TOKEN_PATH") if ray_address else token_path(home)
    return Services(
        tracking_uri=tracking_uri or str(urls[MLFLOW]),
        dashboard_url=ray_address or str(urls[RAY]),
        ray_token_path=Path(token) if token else None,
    )
