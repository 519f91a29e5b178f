"""Words that a table cuts off rather than wraps."""

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text


@dataclass(frozen=True)
class Shortened:
    """Words on one line, which are cut off where their column ends, though not within the first few characters."""

    text: Text
    least: int = 1

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(self.least, self.text.cell_len), self.text.cell_len)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = self.text.copy()
        line.no_wrap, line.overflow = True, "ellipsis"
        yield line
