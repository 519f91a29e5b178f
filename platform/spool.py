"""An append-only file of records that are yet to be sent, with a mark of how far they were."""

import json
from pathlib import Path
from typing import Any

from ..trainers.reporter import drop_torn_line
from .whole_file import write_whole


def read_records(path: Path) -> list[dict[str, Any]]:
    """All whole records of a spool that may be another process's, sent or not; none before it has begun."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


class Spool:
    """Records as JSON lines. A line that a crash cut short is dropped when the spool is opened.

    One process writes at a time; reading from another thread is safe, for lines are written whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = path.with_suffix(".sent")
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_torn_line(path)
        if self._sent() > (written := len(self.records())):
            # The machine went down before the last records reached the disk; what comes next is not sent yet.
            self._set_mark(written)

    def append(self, record: dict[str, Any]) -> None:
        """Add one record."""
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """All records, sent or not."""
        return read_records(self._path)

    def unsent(self) -> list[dict[str, Any]]:
        """The records after the mark."""
        return self.records()[self._sent() :]

    def mark_sent(self, count: int) -> None:
        """Move the mark `count` records further."""
        self._set_mark(self._sent() + count)

    def _set_mark(self, total: int) -> None:
        write_whole(self._mark, str(total))

    def _sent(self) -> int:
        return int(self._mark.read_text()) if self._mark.exists() else 0
