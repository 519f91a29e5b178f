"""An append-only file of records that are yet to be sent, with a mark of how far they were."""

import json
from pathlib import Path
from typing import Any

from ...trainers.reporter import drop_torn_line
from ...trainers.whole_file import write_whole


def read_records(path: Path) -> list[dict[str, Any]]:
    """All whole records of a spool that may be another process's, sent or not; none before it has begun."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def has_unsent(path: Path) -> bool:
    """Whether a spool that may be another process's holds what is yet to be sent."""
    return len(read_records(path)) > _marked(path)


class Spool:
    """Records as JSON lines. A line that a crash cut short is dropped when the spool is opened.

    One process writes at a time; one other thread of it may read and move the mark, for lines are written whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_torn_line(path)
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        self._sent = _marked(path)
        if self._sent > len(lines):
            # The machine went down before the last records reached the disk; what comes next is not sent yet.
            self._set_mark(len(lines))
        self._offset = sum(map(len, lines[: self._sent]))
        """Bytes of what is sent."""

    def append(self, record: dict[str, Any]) -> None:
        """Add one record."""
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """All records, sent or not."""
        return read_records(self._path)

    def unsent(self) -> list[dict[str, Any]]:
        """The records after the mark."""
        return [json.loads(line) for line in self._unsent_lines()]

    def mark_sent(self, count: int) -> None:
        """Move the mark `count` records further."""
        self._offset += sum(map(len, self._unsent_lines()[:count]))
        self._set_mark(self._sent + count)

    def _unsent_lines(self) -> list[bytes]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            return [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]

    def _set_mark(self, total: int) -> None:
        self._sent = total
        write_whole(_mark_of(self._path), str(total))


def _mark_of(path: Path) -> Path:
    return path.with_suffix(".sent")


def _marked(path: Path) -> int:
    """How many records of a spool were sent."""
    mark = _mark_of(path)
    return int(mark.read_text()) if mark.exists() else 0
