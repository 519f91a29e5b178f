"""Moves of a model's aliases: which records of them count, who sits where by them, and who sat there before."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...trainers.errors import brief
from ..base.user import user_and_host

CHAMPION = "champion"
CANDIDATE = "candidate"
"""Alias of the newest version that nobody could compare with the champion."""
UNRECORDED = "nothing is recorded of it: it was moved in MLflow, or by an older version of advseg"
_WHY = 1000
"""Characters of a reason."""
_AT_WORK_S = 600.0
"""How long whoever recorded a move may still be about to write the alias; no request is tried for longer."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """What is recorded of a move."""

    alias: str
    from_version: int | None
    """Who sat there; None if nobody did."""
    to_version: int
    """Who sits there from then on; the same version where another gate has said so again."""
    by: str
    """`user@host`."""
    sweep: str | None
    """The sweep that decided it; None of a move by hand."""
    gate: str | None
    """SHA-256 of the `gate.json` that decided it; None if none did."""
    why: str
    rollback: bool
    """Whether it undoes another."""
    after: int
    """Number of the newest record that counted when this was decided; 0 if there was none."""
    run: str | None = None
    """The run whose model a sweep registered; None of a move by hand, and in records of before this was kept."""

    def __str__(self) -> str:
        came = "" if self.from_version is None else f", after version {self.from_version}"
        return f"{self.alias} is version {self.to_version}{came}: {self.why}"


@dataclass(frozen=True, kw_only=True)
class Record:
    """A move in the order of all."""

    number: int
    at: float
    """When, in seconds since 1970, by the clock of MLflow's server."""
    move: Move
    is_done: bool
    """Whether the alias has been moved."""


def counting(records: Iterable[Record]) -> list[Record]:
    """Those that count, in order: each was decided in sight of the one that counts before it.

    Of several that were decided in sight of the same one, the first counts, so that everybody sees the same winner.
    A record that somebody deleted takes none with it.
    """
    found: list[Record] = []
    for record in sorted(records, key=lambda record: record.number):
        if not found or record.move.after >= found[-1].number:
            found.append(record)
    return found


@dataclass(frozen=True, kw_only=True)
class Past:
    """The records of a model that count, and its aliases as MLflow has them."""

    records: Sequence[Record]
    aliases: Mapping[str, int]
    now: float
    """Seconds since 1970."""

    @property
    def newest(self) -> int:
        """Number of the newest record; 0 if there is none."""
        return self.records[-1].number if self.records else 0

    def of(self, alias: str) -> list[Record]:
        """The records of one alias."""
        return [record for record in self.records if record.move.alias == alias]

    def undone(self) -> list[Record]:
        """The newest record of each alias whose alias may not have been moved yet."""
        newest = {record.move.alias: record for record in self.records}
        return [record for record in newest.values() if not record.is_done]

    def seated(self, alias: str) -> int | None:
        """Who has an alias; None if nobody does.

        Where somebody is at work, or died at it, it is who was recorded last: the alias follows. Otherwise it is the
        alias, which may have been moved by other means.
        """
        records = self.of(alias)
        at_work = any(not record.is_done and self.now - record.at < _AT_WORK_S for record in records)
        leads = at_work or (records and not records[-1].is_done)
        return records[-1].move.to_version if leads else self.aliases.get(alias)

    def before(self, alias: str, existing: Collection[int]) -> int | None:
        """Whom a rollback brings back, of the versions that exist: who sat there before the last move that no rollback
        has undone; None if there is nobody."""
        seats: list[int | None] = []
        for record in self.of(alias):
            _sit(seats, record.move.from_version)
            while record.move.rollback and seats and seats[-1] != record.move.to_version:
                seats.pop()
            _sit(seats, record.move.to_version)
        now = self.seated(alias)
        _sit(seats, now)
        return next((seat for seat in reversed(seats[:-1]) if seat in existing and seat != now), None)

    def move(
        self,
        alias: str,
        to_version: int,
        why: str,
        *,
        sweep: str | None = None,
        gate: str | None = None,
        run: str | None = None,
        rollback: bool = False,
    ) -> Move:
        """A move that this user makes in sight of all this."""
        return Move(
            alias=alias,
            from_version=self.seated(alias),
            to_version=to_version,
            by=user_and_host(),
            sweep=sweep,
            gate=gate,
            why=brief(" ".join(why.split()), _WHY),
            rollback=rollback,
            after=self.newest,
            run=run,
        )


def _sit(seats: list[int | None], version: int | None) -> None:
    if not seats or seats[-1] != version:
        seats.append(version)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A move as it is told, whether it was recorded or not."""

    alias: str
    from_version: int | None
    to_version: int | None
    """None where the alias, or the version that had it, was deleted."""
    at: float | None
    """When, in seconds since 1970; None if that is not known."""
    by: str | None
    """`user@host`; None if that is not known."""
    sweep: str | None
    gate: str | None
    rollback: bool
    why: str


def entries(past: Past) -> list[Entry]:
    """All moves, in order. Where an alias was found elsewhere than the move before had left it, there was another."""
    told: list[Entry] = []
    seats: dict[str, int | None] = {}

    def find(alias: str, found: int | None) -> None:
        if seats.get(alias) != found:
            told.append(_unrecorded(alias, seats.get(alias), found))

    for record in past.records:
        move = record.move
        find(move.alias, move.from_version)
        told.append(
            Entry(
                alias=move.alias,
                from_version=move.from_version,
                to_version=move.to_version,
                at=record.at,
                by=move.by,
                sweep=move.sweep,
                gate=move.gate,
                rollback=move.rollback,
                why=move.why,
            )
        )
        seats[move.alias] = move.to_version
    for alias in sorted({*seats, *past.aliases}):
        find(alias, past.seated(alias))
    return told


def _unrecorded(alias: str, before: int | None, found: int | None) -> Entry:
    return Entry(
        alias=alias,
        from_version=before,
        to_version=found,
        at=None,
        by=None,
        sweep=None,
        gate=None,
        rollback=False,
        why=UNRECORDED,
    )


def moves_to(past: Past, version: int) -> tuple[Entry, ...]:
    """By which move a version came to each alias that it has."""
    newest = {entry.alias: entry for entry in entries(past)}
    return tuple(newest[alias] for alias in sorted(newest) if newest[alias].to_version == version)
