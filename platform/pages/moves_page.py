"""How moves of aliases are told: in a line each of who sits where, and as `advseg models history` prints them."""

from collections.abc import Sequence
from datetime import datetime

from ..registry.moves import Entry
from .console import VisibleConsole, words


def seat_line(name: str, move: Entry) -> str:
    """Who has an alias of a model, since when and why."""
    since = "" if move.at is None else f" since {_when(move.at)}"
    return f"{name}@{move.alias} is version {move.to_version}{since}{_by(move)}: {move.why}"


def print_history(moves: Sequence[Entry]) -> None:
    """Two lines for each move, the newest first."""
    if not moves:
        print("no alias of it was moved yet")
    for move in reversed(moves):
        when = "at some time" if move.at is None else _when(move.at)
        gate = f", gate {move.gate[:12]}" if move.gate else ""
        print_line(f"{when}  {move.alias}: {_seat(move.from_version)} → {_seat(move.to_version)}{_by(move)}{gate}")
        print_line(f"  {move.why}")


def print_line(text: str) -> None:
    """Print a line of any length as it is."""
    VisibleConsole().print(words(text), soft_wrap=True, highlight=False)


def _by(move: Entry) -> str:
    by = f", by {move.by}" if move.by else ""
    return f"{by} in sweep {move.sweep}" if move.sweep else by


def _seat(version: int | None) -> str:
    return "nobody" if version is None else f"version {version}"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(" ", "minutes")
