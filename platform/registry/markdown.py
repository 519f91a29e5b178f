"""Markdown whose words are text, whatever they are: of a card, or of what a gate found."""

import re
from collections.abc import Iterable, Mapping, Sequence

from ...trainers.errors import brief
from ..base.visible import visible_line

_MARKUP = re.compile(r"[!-+.:-@\[-`{-~]")
"""Punctuation that Markdown, or who shows it, may take for more than itself; all that links need is of it."""


def text(words: object, most: int = 100) -> str:
    """Words as Markdown that shows them, on one line: what could be markup is written as an entity."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", visible_line(brief(str(words), most)))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def listing(entries: Mapping[str, str]) -> str:
    """A list of names and what they are, which is Markdown."""
    return "\n".join(f"- {name}: {value}" for name, value in entries.items())
