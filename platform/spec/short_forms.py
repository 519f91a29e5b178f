"""What a spec may say in one word: `sampler: tpe` for `sampler: {name: tpe}`."""

from typing import Any

from .paths import section_of

_CHOSEN_BY = {
    "model": "architecture",
    "method": "name",
    "method.discriminator_optimizer": "name",
    "trainer.segmenter_optimizer": "name",
    "sweep.sampler": "name",
    "sweep.pruner": "name",
    "sweep.pruner.wrapped": "name",
}
"""Sections whose kind one of their keys chooses, those within others after them."""


def spell_out(document: dict[str, Any]) -> None:
    """Put the section in the place of its kind alone."""
    for key, kind in _CHOSEN_BY.items():
        *outer, name = key.split(".")
        section = document
        for part in outer:
            section = section_of(section, part)
        if isinstance(written := section.get(name), str):
            section[name] = {kind: written}
