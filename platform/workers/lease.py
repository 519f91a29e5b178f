"""Who may write what lasts of a training: the newest attempt that claimed it, and nobody before it.

A claim is a file named after its attempt: two that claim at once are both there, and the greater has the training. So
no store has to compare before it writes.
"""

import json
import logging
import re
import secrets
from dataclasses import dataclass

from ...trainers.errors import FencedError
from ..storage.store import MissingKeyError, Store

FOLDER = "leases"
"""It holds a file for each claim on the training."""
OLD_FILE = "lease.json"
"""The one claim on a training that an older version of advseg wrote to."""
_NAME = re.compile(r"(\d+)-(\d+)")

log = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class Attempt:
    """One attempt at a training. Attempts of a later epoch, which is another owner's of the sweep, come later."""

    epoch: int = 0
    number: int = 1


class Lease:
    """An attempt's right to write what lasts of a training, until a newer attempt takes it."""

    def __init__(self, store: Store, attempt: Attempt) -> None:
        """The store is the training's own."""
        self._store = store
        self._attempt = attempt
        self._claim = f"{FOLDER}/{attempt.epoch}-{attempt.number}"
        self._token: str | None = None

    def take(self) -> None:
        """Take the training from all older attempts, to last.

        Raises FencedError if a newer one has it, or another process that was given the same attempt.
        """
        if self._token is None:
            if self._check() == self._attempt:
                raise self._doubled()
            token = secrets.token_hex(16)
            self._store.write(self._claim, token.encode())
            self._token = token
        # Of two that found the training free, the older one learns here that it is not.
        self.check()

    def check(self) -> None:
        """Raise FencedError if a newer attempt has the training, or another process that was given the same one."""
        holder = self._check()
        # Of two that wrote the same claim at once it holds what one of them wrote.
        if self._token is not None and holder == self._attempt and self._claimed_by() != self._token.encode():
            raise self._doubled()

    def _claimed_by(self) -> bytes | None:
        try:
            return self._store.read(self._claim)
        except MissingKeyError:
            return None  # Somebody takes the training away.

    def _check(self) -> Attempt | None:
        holder = holder_of(self._store)
        if holder is not None and holder > self._attempt:
            raise FencedError(
                f"{self._store.address} belongs to attempt {holder.number} of epoch {holder.epoch} now: "
                f"attempt {self._attempt.number} of epoch {self._attempt.epoch} writes no more"
            )
        return holder

    def _doubled(self) -> FencedError:
        return FencedError(
            f"{self._store.address} belongs to another process that is attempt {self._attempt.number} of epoch "
            f"{self._attempt.epoch} too: this one writes no more"
        )


def next_attempt(store: Store, epoch: int) -> Attempt:
    """The attempt that comes after the one that has a training, whose own the store is."""
    holder = holder_of(store)
    return Attempt(epoch=epoch, number=holder.number + 1 if holder else 1)


def holder_of(store: Store) -> Attempt | None:
    """The attempt that a training belongs to, whose own the store is."""
    names = (_NAME.fullmatch(key.removeprefix(f"{FOLDER}/")) for key in store.keys(FOLDER))
    claims = [Attempt(epoch=int(name[1]), number=int(name[2])) for name in names if name]
    return max(claims, default=None) or _old_claim(store)


def _old_claim(store: Store) -> Attempt | None:
    """What an older version's file claims; a damaged one claims nothing. What came after it claims more."""
    try:
        fields = json.loads(store.read(OLD_FILE))
        return Attempt(epoch=int(fields["epoch"]), number=int(fields["number"]))
    except MissingKeyError:
        return None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        log.warning("%s/%s is damaged (%s): it counts as absent", store.address, OLD_FILE, error)
        return None
