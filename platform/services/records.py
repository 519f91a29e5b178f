"""What is noted about the local services between two commands: `services.json` in the home folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ...trainers.errors import UserError
from ...trainers.whole_file import write_whole
from ..base.processes import ProcessIdentity

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ServiceRecord:
    """A service that was started: its first process, and what belongs to it."""

    pid: int
    created: float  # of the process: seconds after the machine's boot
    port: int
    url: str
    log: str
    temp_dir: str
    gcs_address: str | None = None  # host:port of Ray's control plane

    @property
    def process(self) -> ProcessIdentity:
        return ProcessIdentity(pid=self.pid, created=self.created)


def records_path(home: Path) -> Path:
    return home / "services.json"


def read_records(home: Path) -> dict[str, ServiceRecord]:
    """The noted services by name; none if there is no file. Raises UserError for a file that is not ours."""
    path = records_path(home)
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']}, not {FORMAT}")
        return {name: ServiceRecord(**fields) for name, fields in content["services"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
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
    content = {"format": FORMAT, "services": {name: asdict(record) for name, record in records.items()}}
    write_whole(path, json.dumps(content, indent=2), durable=True)
