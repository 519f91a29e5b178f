"""Who may write to a training's directory: the newest attempt that took its lease, and nobody before it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ...trainers.errors import FencedError
from ...trainers.whole_file import write_whole

FILE = "lease.json"


@dataclass(frozen=True, order=True)
class Attempt:
    """One attempt at a training. Attempts of a later epoch, which is another owner's of the sweep, come later."""

    epoch: int = 0
    number: int = 1


class Lease:
    """An attempt's right to write to a directory, until a newer attempt takes it."""

    def __init__(self, directory: Path, attempt: Attempt) -> None:
        self._path = directory / FILE
        self._attempt = attempt

    def take(self) -> None:
        """Take the directory from all older attempts. Raises FencedError if a newer one has it."""
        self.check()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._path, json.dumps(asdict(self._attempt)))

    def check(self) -> None:
        """Raise FencedError if a newer attempt has the directory."""
        holder = holder_of(self._path.parent)
        if holder is not None and holder > self._attempt:
            raise FencedError(
                f"{self._path.parent} belongs to attempt {holder.number} of epoch {holder.epoch} now: "
                f"attempt {self._attempt.number} of epoch {self._attempt.epoch} writes no more"
            )


def next_attempt(directory: Path, epoch: int) -> Attempt:
    """The attempt that comes after the one that has a directory."""
    holder = holder_of(directory)
    return Attempt(epoch=epoch, number=holder.number + 1 if holder else 1)


def holder_of(directory: Path) -> Attempt | None:
    """The attempt that a directory belongs to."""
    try:
        return Attempt(**json.loads((directory / FILE).read_text()))
    except FileNotFoundError:
        return None
