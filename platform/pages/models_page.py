"""What `advseg models list` and `advseg models show` print."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from ...models.bundle import Card
from ..gate.verdict import Gate
from ..registry.moves import Entry
from ..registry.versions import RegisteredVersion
from .console import VisibleConsole, words
from .gate_line import gate_json, gate_line
from .moves_page import print_line, seat_line
from .terminal import percent


def print_versions(versions: Sequence[RegisteredVersion]) -> None:
    """A line for each version; without any, how a model comes to be registered."""
    if not versions:
        print("no registered model yet: a sweep whose spec has sweep.register_as registers its best trial")
        return
    table = Table("model", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("version", justify="right")
    table.add_column("aliases")
    table.add_column("mIoU", justify="right")
    table.add_column("trial")
    for version in versions:
        cells = (version.name, str(version.version), ", ".join(version.aliases), percent(version.miou))
        table.add_row(*map(words, (*cells, version.key or "-")))
    VisibleConsole().print(table)
    for version in versions:
        for move in version.moves:
            print_line(seat_line(version.name, move) + _since(version, move))


def _since(version: RegisteredVersion, move: Entry) -> str:
    """Where to read what was found of a version after a move."""
    if version.gate in (None, move.gate):
        return ""
    return f"; judged since, see `advseg models show {version.name}@{version.version}`"


def version_json(version: RegisteredVersion) -> dict[str, Any]:
    """What is printed of a version; mean IoU is in percent."""
    return {
        "name": version.name,
        "version": version.version,
        "aliases": version.aliases,
        "miou": version.miou,
        "trial": version.key,
        "moves": [asdict(move) for move in version.moves],
    }


def print_card(description: str, card: Card, gate: Gate | None, moves: Sequence[Entry]) -> None:
    """What a model is, what a gate found of it, which aliases it has, where it comes from, and its figures."""
    shown = card_json(description, card, gate, moves)
    lineage = shown["lineage"]
    lines = {
        "model": description,
        "trial": lineage.get("key", "-"),
        "spec": lineage.get("spec") or "-",
        "step": lineage.get("step", "-"),
        "dataset": lineage.get("dataset_digest", "-"),
        "architecture": card.segmenter.architecture,
        "discriminator": "yes" if card.discriminator else "none",
        "classes": ", ".join(card.classes),
        "fresh seeds": gate_line(gate) if gate else "-",
    }
    lines |= {name: f"{value:.4g}" for name, value in card.metrics.items()}
    width = max(map(len, lines))
    for name, value in lines.items():
        print_line(f"{name:<{width}}  {value}")
    for move in moves:
        print_line(seat_line(description.partition(" ")[0], move))


def card_json(description: str, card: Card, gate: Gate | None, moves: Sequence[Entry]) -> dict[str, Any]:
    """The card of a model; metrics that begin with `val/` are in percent, and of its spec the name is given."""
    return {
        "model": description,
        "architecture": card.segmenter.architecture,
        "segmenter": asdict(card.segmenter),
        "discriminator": asdict(card.discriminator) if card.discriminator else None,
        "classes": card.classes,
        "palette": card.palette,
        "ignore_index": card.ignore_index,
        "resize": asdict(card)["resize"],
        "metrics": card.metrics,
        "lineage": {**card.lineage, "spec": card.lineage.get("spec", {}).get("name")},
        "gate": gate_json(gate) if gate else None,
        "moves": [asdict(move) for move in moves],
    }
