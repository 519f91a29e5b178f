"""What a spec may say in one word: `sampler: tpe` for `sampler: {name: tpe}`."""

from collections.abc import Iterator, Sequence
from typing import Any

from .paths import section_of

_ANY = "*"
_CHOSEN_BY = {
    "model": "architecture",
    "method": "name",
    "method.discriminator_optimizer": "name",
    "trainer.segmenter_optimizer": "name",
    "sweep.sampler": "name",
    "sweep.pruner": "name",
    "sweep.pruner.wrapped": "name",
    "sweep.arms.*.method": "name",
    "sweep.arms.*.method.discriminator_optimizer": "name",
}
"""Sections whose kind one of their keys chooses, those within others after them."""


def spell_out(document: dict[str, Any]) -> None:
    """Put the section in the place of its kind alone."""
    for key, kind in _CHOSEN_BY.items():
        *outer, name = key.split(".")
        for section in _sections(document, outer):
            if isinstance(written := section.get(name), str):
                section[name] = {kind: written}


def _sections(document: dict[str, Any], path: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The sections along a path, of which there are several where any key will do."""
    if not path:
        yield document
        return
    for name in document if path[0] == _ANY else path[:1]:
        yield from _sections(section_of(document, name), path[1:])
