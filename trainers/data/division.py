"""A first division of a user's images into those that train, those that validate and those that test."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .survey import Pair

_VALIDATION = re.compile(r"(val|valid|validation|validating)[-_ ]?(\d{4})?/", re.IGNORECASE)
_TEST = re.compile(r"(test|testing)[-_ ]?(\d{4})?/", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class GivenParts:
    """Ids of what lies in folders for validation and for tests, by the names of the outermost ones."""

    validation: frozenset[str] = frozenset()
    """Of images with masks."""
    test: frozenset[str] = frozenset()
    bare: frozenset[str] = frozenset()
    """Of images without masks, in either."""


def given_parts(pairs: Sequence[Pair], unlabelled: Iterable[str]) -> GivenParts | None:
    """What folders say of images, None if they leave too few pairs to train on, and to validate by where none does."""
    ids = [pair.id for pair in pairs]
    validation, test = (frozenset(filter(part.match, ids)) for part in (_VALIDATION, _TEST))
    left = {pair.digest for pair in pairs if pair.id not in validation | test}
    if len(left) < (1 if validation else 2):
        return None
    bare = frozenset(id for id in unlabelled if _VALIDATION.match(id) or _TEST.match(id))
    return GivenParts(validation=validation, test=test, bare=bare)


def draw_validation(pairs: Sequence[Pair], seed: int) -> set[str]:
    """Ids of about a fifth of the pairs, at least one and never all.

    Equal images stay on one side, and the last image that holds some class is trained on. The lot of an image hangs
    on the seed and its own content, so that with more images few change sides.
    """
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.digest, []).append(pair)
    lots = sorted(groups, key=lambda digest: hashlib.sha256(f"{seed}/{digest}".encode()).digest())
    holders = Counter(value for pair in pairs for value in pair.marks)
    wanted, chosen = max(1, round(len(pairs) / 5)), set()
    for digest in lots:
        group = groups[digest]
        held = Counter(value for pair in group for value in pair.marks)
        if len(chosen) + len(group) <= wanted and all(holders[value] > n for value, n in held.items()):
            chosen.update(pair.id for pair in group)
            holders -= held
    return chosen or {pair.id for pair in min((groups[digest] for digest in lots), key=len)}
