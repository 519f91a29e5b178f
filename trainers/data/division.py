"""A first division of a user's pairs into those that train and those that validate."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from .survey import Pair

_TRAINING = ("train", "training")
_VALIDATION = ("val", "valid", "validation")


def given_validation(pairs: Sequence[Pair]) -> set[str] | None:
    """Ids of the pairs in a folder for validation, where all lie in one for that or in one for training; else None."""
    validating = {pair.id: _top(pair.id) in _VALIDATION for pair in pairs}
    if all(_top(pair.id) in (*_TRAINING, *_VALIDATION) for pair in pairs) and len({*validating.values()}) == 2:
        return {id for id, judges in validating.items() if judges}
    return None


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


def _top(id: str) -> str:
    """The outermost of the folders in which an image lies."""
    return id.partition("/")[0].lower() if "/" in id else ""
