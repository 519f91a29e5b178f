import ast
import io
import re
import sys
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from advseg.platform.base.output import guard_output
from advseg.platform.pages.console import VisibleConsole, words
from advseg.platform.pages.shortened import Shortened

ROOT = Path(__file__).parents[3]
BAD = "\x1b[8mhidden\u202e"
SHOWN = "\\u001b[8mhidden\\u202e"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def begin(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """The terminal, with colours, that is printed to from here on."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    guard_output()
    return terminal


def test_shows_control_characters_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = begin(monkeypatch)
    table = Table(title=f"sweep {BAD}", title_justify="left")
    table.add_column(BAD)
    table.add_row(BAD)
    table.add_row(Text(BAD, "red"))
    table.add_row(Shortened(words(BAD)))
    console = VisibleConsole(highlight=False)
    console.print(table)
    console.print(BAD, soft_wrap=True)
    said = terminal.getvalue()
    # Its own colours pass.
    assert "\x1b[31m" in said
    assert said.count(SHOWN) == 6
    assert "\u202e" not in said and "\x1b[8m" not in said


def test_takes_no_markup_and_no_emoji(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = begin(monkeypatch)
    console = VisibleConsole(highlight=False)
    console.print("[red]x :smile:")
    table = Table(title="[bold]t[/]")
    table.add_row("[/nothing]")
    console.print(table)
    for said in ("[red]x :smile:", "[bold]t[/]", "[/nothing]"):
        assert said in terminal.getvalue()


def test_cells_end_where_the_terminal_does(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = begin(monkeypatch)
    table = Table(box=None, padding=0, show_header=False)
    table.add_row(Shortened(words("\x1b" * 100)))
    console = VisibleConsole()
    console.no_color = True
    console.print(table)
    assert [len(re.sub("\x1b\\[[0-9]*m", "", line)) for line in terminal.getvalue().splitlines()] == [80]


def test_nothing_prints_through_another_console() -> None:
    """The demo prints markup of its own, and the names that it made."""
    others = []
    for folder in ("jobs", "platform", "trainers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Console":
                    others.append(path.relative_to(ROOT).as_posix())
    assert others == ["jobs/demo.py"]
