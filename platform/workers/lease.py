"""Who may write to a training's directory: the newest attempt that claimed it, and nobody before it.

A claim is a file named after its attempt, which nobody writes again: two that claim at once are both there, and the
greater has the directory. So no file system or store has to compare before it writes.
"""

import json
import logging
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from ...trainers.errors import FencedError
from ...trainers.whole_file import flush_to_disk

FOLDER = "leases"
"""Of a training's directory; it holds a file for each claim."""
OLD_FILE = "lease.json"
"""The one claim of a directory that an older version of advseg wrote to."""
_NAME = re.compile(r"(\d+)-(\d+)")

log = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class Attempt:
    """One attempt at a training. Attempts of a later epoch, which is another owner's of the sweep, come later."""

    epoch: int = 0
    number: int = 1


class Lease:
    """An attempt's right to write to a directory, until a newer attempt takes it."""

    def __init__(self, directory: Path, attempt: Attempt) -> None:
        self._directory = directory
        self._attempt = attempt
        self._claim = directory / FOLDER / f"{attempt.epoch}-{attempt.number}"
        self._token: str | None = None

    def take(self) -> None:
        """Take the directory from all older attempts, to last.

        Raises FencedError if a newer one has it, or another process that was given the same attempt.
        """
        self.check()
        if self._token is None:
            token = secrets.token_hex(16)
            self._claim.parent.mkdir(parents=True, exist_ok=True)
            try:
                with self._claim.open("x") as file:
                    file.write(token)
            except FileExistsError:
                raise self._doubled() from None
            for entry in (self._claim, self._claim.parent, self._directory):
                flush_to_disk(entry)
            self._token = token
            # Of two that found the directory free, the older one learns here that it is not.
            self.check()

    def check(self) -> None:
        """Raise FencedError if a newer attempt has the directory, or another process that was given the same one."""
        holder = holder_of(self._directory)
        if holder is not None and holder > self._attempt:
            raise FencedError(
                f"{self._directory} belongs to attempt {holder.number} of epoch {holder.epoch} now: "
                f"attempt {self._attempt.number} of epoch {self._attempt.epoch} writes no more"
            )
        # A file system that lets two make the same file keeps what one of them wrote.
        if self._token is not None and holder == self._attempt and self._claim.read_text() != self._token:
            raise self._doubled()

    def _doubled(self) -> FencedError:
        return FencedError(
            f"{self._directory} belongs to another process that is attempt {self._attempt.number} of epoch "
            f"{self._attempt.epoch} too: this one writes no more"
        )


def next_attempt(directory: Path, epoch: int) -> Attempt:
    """The attempt that comes after the one that has a directory."""
    holder = holder_of(directory)
    return Attempt(epoch=epoch, number=holder.number + 1 if holder else 1)


def holder_of(directory: Path) -> Attempt | None:
    """The attempt that a directory belongs to."""
    names = (_NAME.fullmatch(claim.name) for claim in (directory / FOLDER).glob("*"))
    claims = [Attempt(epoch=int(name[1]), number=int(name[2])) for name in names if name]
    return max([*claims, *_old_claim(directory / OLD_FILE)], default=None)


def _old_claim(path: Path) -> list[Attempt]:
    """What an older version's file claims; a damaged one claims nothing."""
    try:
        fields = json.loads(path.read_bytes())
        return [Attempt(epoch=int(fields["epoch"]), number=int(fields["number"]))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        log.warning("%s is damaged (%s): it counts as absent", path, error)
        return []
