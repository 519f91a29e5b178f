"""Checkpoints that nobody needs any more are removed; killed at any moment, by whoever does it again."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...trainers.whole_file import drop_partials
from ..ledger.ledger import Ledger
from ..storage.store import Store
from ..workers.checkpoints import Held, remove_checkpoints
from .surplus import Surplus


@dataclass(frozen=True, kw_only=True)
class Removal:
    """The checkpoints of a training, which go."""

    surplus: Surplus
    bytes: int


def removals(surplus: Sequence[Surplus], held: Mapping[str, Held], before: float = math.inf) -> list[Removal]:
    """What is to be removed of what a store holds by the keys of trainings, if it was saved before a moment."""
    return [
        Removal(surplus=each, bytes=found.bytes)
        for each in surplus
        # Of a removal that was killed nothing may be left to see, but it is not noted.
        if each.key in held or each.row.account.checkpoint
        if (found := held.get(each.key, Held())).changed < before
    ]


def remove(ledger: Ledger, store: Store, removal: Removal) -> None:
    """Remove what is to go, and note that. Raises FencedError if another process has taken the sweep over."""
    own, row = store.at(removal.surplus.key), removal.surplus.row
    ledger.ownership.check()
    remove_checkpoints(own)
    if own.folder:
        # What a removal that was killed has left is under no key.
        drop_partials(own.folder)
    ledger.note(row.number, replace(row.account, checkpoint=None))
