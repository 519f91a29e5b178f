"""What is noted about the local services between two commands: `services.json` in the home folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...models.local_server import RECORDS
from ...trainers.errors import UserError
from ...trainers.whole_file import write_whole
from ..base.processes import ProcessIdentity
from .ports import ALLOWED, LOOPBACK
from .servers import TITLES

FORMAT = 1
_PIDS = range(2, 2**31)
"""The first process of a machine is nobody's service; 0 and below mean groups of processes."""
_SECONDS = 1e12


@dataclass(frozen=True, kw_only=True)
class ServiceRecord:
    """A service that was started: its first process, and what belongs to it."""

    pid: int
    created: float  # of the process: seconds after the machine's boot
    port: int
    temp_dir: Path
    gcs_address: str | None = None  # host:port of Ray's control plane
    accounts: bool = False
    """Whether MLflow asks for one."""

    @property
    def process(self) -> ProcessIdentity:
        return ProcessIdentity(pid=self.pid, created=self.created)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


def records_path(home: Path) -> Path:
    return home / RECORDS


def read_records(home: Path) -> dict[str, ServiceRecord]:
    """The noted services by name; none if there is no file. Raises UserError for a file that is not ours."""
    path = records_path(home)
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']}, not {FORMAT}")
        if unknown := set(content["services"]) - set(TITLES):
            raise ValueError(f"there is no service {sorted(unknown)[0]!r}")
        return {name: _record(noted) for name, noted in content["services"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read as the state of the services ({error!r}): "
            "end them by hand if they run, and delete the file"
        ) from error


def write_records(home: Path, records: Mapping[str, ServiceRecord]) -> None:
    """Replaces what is noted, all or nothing; with no record the file goes away."""
    path = records_path(home)
    if not records:
        path.unlink(missing_ok=True)
        return
    noted = {name: {**asdict(record), "temp_dir": str(record.temp_dir)} for name, record in records.items()}
    write_whole(path, json.dumps({"format": FORMAT, "services": noted}, indent=2), durable=True)


def _record(noted: Any) -> ServiceRecord:
    """One service's, without what older versions noted besides. Raises ValueError for what cannot be."""
    values = {field.name: noted[field.name] for field in fields(ServiceRecord) if field.name in noted}
    _check("pid", values["pid"], type(values["pid"]) is int and values["pid"] in _PIDS)
    _check("created", values["created"], type(values["created"]) in (int, float) and 0 < values["created"] < _SECONDS)
    _check("port", values["port"], type(values["port"]) is int and values["port"] in ALLOWED)
    _check("temp_dir", values["temp_dir"], isinstance(values["temp_dir"], str))
    _check("gcs_address", values.get("gcs_address"), isinstance(values.get("gcs_address"), str | None))
    _check("accounts", values.get("accounts"), isinstance(values.get("accounts", False), bool))
    return ServiceRecord(**{**values, "temp_dir": Path(values["temp_dir"])})


def _check(name: str, value: Any, holds: bool) -> None:
    if not holds:
        raise ValueError(f"{name} cannot be {value!r}")
