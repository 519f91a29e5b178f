"""The console that all tables and lines for the terminal go to, in which nobody's words are markup or control it."""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from ..base.visible import visible, visible_line


class VisibleConsole(Console):
    """A console that shows control characters and takes neither markup nor names of emoji."""

    def __init__(self, *, stderr: bool = False, width: int | None = None, highlight: bool = True) -> None:
        stream = sys.stderr if stderr else sys.stdout
        # The stream that lets this console's own control characters pass. A live table would hide it.
        stream = getattr(stream, "rich_proxied_file", stream)
        super().__init__(file=stream, width=width, highlight=highlight, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Before it is measured."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Whatever else may have come in, as within a `Text`."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def words(text: str, style: str | Style = "") -> Text:
    """Somebody's words for the cell of a table, on one line."""
    return Text(visible_line(text), style)
