"""An append-only file of records that are yet to be sent, with a mark of how far they were, and to which run."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...trainers.reporter import append_line, drop_torn_line, read_object, whole_lines
from ...trainers.whole_file import write_whole
from ..storage.store import MissingKeyError, Store

Record = dict[str, Any]
"""`{"step": ..., "timestamp": milliseconds, "metrics": {name: value}}`."""


def read_records(path: Path) -> list[Record]:
    """All whole records of a spool that may be another process's, sent or not; none before it has begun."""
    return [record for line in whole_lines(path) if (record := _record_in(line))]


def kept_records(store: Store, key: str) -> list[Record]:
    """All whole records of a spool as a store has it; none before it has begun."""
    try:
        lines = store.read(key).split(b"\n")[:-1]
    except MissingKeyError:
        return []
    return [record for line in lines if (record := _record_in(line))]


def has_unsent(path: Path, run_id: str | None = None) -> bool:
    """Whether a spool that may be another process's holds what is yet to be sent, to a run if that is given."""
    return len(whole_lines(path)) > _read_mark(path).sent_to(run_id)


class Spool:
    """Records as JSON lines, of which those that a power cut has damaged are passed over.

    The one process that has taken it appends; others may read, send and move the mark meanwhile, for lines are written
    whole, and to send a record twice does no harm.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = whole_lines(path)
        mark = _read_mark(path)
        self._run_id = mark.run_id
        # The machine may have gone down before the last records reached the disk.
        self._sent = min(mark.lines, len(lines))
        self._offset = _size(lines[: self._sent])
        """Bytes of what is sent."""

    def take(self) -> None:
        """Be the one process that appends: a line that a kill cut short is dropped, and what comes next is unsent."""
        drop_torn_line(self._path)
        if _read_mark(self._path).lines > self._sent:
            self._set_mark(self._sent)

    def append(self, record: Record) -> None:
        """Add one record, wholly or not at all."""
        append_line(self._path, json.dumps(record), durable=True)

    def records(self) -> list[Record]:
        """All records, sent or not."""
        return read_records(self._path)

    def unsent(self, run_id: str | None = None) -> list[Record | None]:
        """The records after the mark, None for a damaged one; all of them if what was sent went to another run."""
        if run_id is not None and run_id != self._run_id:
            if self._run_id is not None:
                self._sent = self._offset = 0
            self._run_id = run_id
        return [_record_in(line) for line in self._unsent_lines()]

    def mark_sent(self, count: int) -> None:
        """Move the mark `count` records further."""
        self._offset += _size(self._unsent_lines()[:count])
        self._set_mark(self._sent + count)

    def _unsent_lines(self) -> list[bytes]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            return file.read().split(b"\n")[:-1]

    def _set_mark(self, total: int) -> None:
        self._sent = total
        write_whole(_mark_of(self._path), f"{total} {self._run_id or ''}".rstrip())


@dataclass(frozen=True)
class _Mark:
    """How many lines of a spool were sent, and to which run, if that was noted."""

    lines: int = 0
    run_id: str | None = None

    def sent_to(self, run_id: str | None) -> int:
        """How many of them went to a run."""
        return 0 if None not in (run_id, self.run_id) and run_id != self.run_id else self.lines


def _mark_of(path: Path) -> Path:
    return path.with_suffix(".sent")


def _read_mark(path: Path) -> _Mark:
    """The mark of a spool; if it cannot be read, all is sent once more, which does no harm."""
    try:
        lines, _, run_id = _mark_of(path).read_text().partition(" ")
        return _Mark(max(0, int(lines)), run_id or None)
    except (FileNotFoundError, ValueError):
        return _Mark()


def _record_in(line: bytes) -> Record | None:
    record = read_object(line)
    if record is None or not (_is_number(record.get("step")) and _is_number(record.get("timestamp"))):
        return None
    metrics = record.get("metrics")
    return record if isinstance(metrics, dict) and all(map(_is_number, metrics.values())) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _size(lines: list[bytes]) -> int:
    """Bytes of lines in their file."""
    return sum(len(line) + 1 for line in lines)
