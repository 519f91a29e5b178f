"""Which records of moves count, and what follows from them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advseg.platform.registry.moves import UNRECORDED, Move, Past, Record, counting, entries, moves_to

NOW = 10_000.0
CHAMPION, CANDIDATE = "champion", "candidate"


def record(number: int, after: int, to: int = 1, *, done: bool = True, at: float = 0.0, **of: object) -> Record:
    move = Past(records=[], aliases={}, now=NOW).move(CHAMPION, to, f"move {number}")
    return Record(number=number, at=at, move=replace(move, after=after, **of), is_done=done)  # type: ignore[arg-type]


def numbers(records: Sequence[Record]) -> list[int]:
    return [record.number for record in records]


def past(*moves: tuple[int | None, int], rollbacks: Sequence[int] = (), now: int | None = None) -> Past:
    """What was recorded of a champion, from whom to whom, and who it is now if the last move does not tell."""
    records = [
        record(number, number - 1, to, from_version=before, rollback=number in rollbacks)
        for number, (before, to) in enumerate(moves, 1)
    ]
    seated = now if now is not None else moves[-1][1]
    return Past(records=records, aliases={CHAMPION: seated} if seated else {}, now=NOW)


class TestCounting:
    def test_of_those_that_saw_the_same_the_first_counts(self) -> None:
        records = [record(1, 0), record(2, 1), record(3, 1), record(4, 1), record(5, 2)]
        for order in permutations(records):
            assert numbers(counting(order)) == [1, 2, 5]

    @pytest.mark.parametrize("gone", [1, 2, 3, 4])
    def test_one_that_was_deleted_takes_none_with_it(self, gone: int) -> None:
        records = [record(1, 0), record(2, 1), record(3, 2), record(4, 3)]
        kept = [each for each in records if each.number != gone]
        assert numbers(counting(kept)) == [each for each in (1, 2, 3, 4) if each != gone]

    @given(st.lists(st.integers(0, 3), max_size=20))
    def test_whoever_reads_later_sees_the_same_and_more(self, late: list[int]) -> None:
        """Every promoter writes what it saw, or something that was newest a while ago."""
        records: list[Record] = []
        for number, lag in enumerate(late, 1):
            seen = [0, *numbers(counting(records))]
            records.append(record(number, seen[max(0, len(seen) - 1 - lag)]))
        known = [numbers(counting(records[:length])) for length in range(len(records) + 1)]
        assert all(longer[: len(shorter)] == shorter for shorter, longer in pairwise(known))
        assert [len(each) for each in known[1:]] == [
            len(before) + (lag == 0 or not before) for before, lag in zip(known, late, strict=False)
        ]


class TestSeated:
    def test_is_the_alias_which_may_have_been_moved_by_other_means(self) -> None:
        assert past((None, 1), (1, 2), now=1).seated(CHAMPION) == 1
        assert past((None, 1)).seated(CANDIDATE) is None
        assert Past(records=[], aliases={CHAMPION: 3}, now=NOW).seated(CHAMPION) == 3

    def test_is_who_was_recorded_last_until_the_alias_has_followed(self) -> None:
        records = [record(1, 0, 1), record(2, 1, 2, done=False)]
        held = Past(records=records, aliases={CHAMPION: 1}, now=NOW)
        assert (held.seated(CHAMPION), numbers(held.undone())) == (2, [2])

    @pytest.mark.parametrize(("age", "seated"), [(1.0, 3), (599.0, 3), (601.0, 2)])
    def test_is_not_an_alias_that_a_slow_one_overwrites(self, age: float, seated: int) -> None:
        records = [record(1, 0, 2, done=False, at=NOW - age), record(2, 1, 3, at=NOW - 0.5)]
        held = Past(records=records, aliases={CHAMPION: 2}, now=NOW)
        assert (held.seated(CHAMPION), held.undone()) == (seated, [])


class TestBefore:
    @pytest.mark.parametrize(
        ("history", "before"),
        [
            (past((None, 1)), None),
            (past((None, 1), (1, 2)), 1),
            (past((None, 1), (1, 2), (2, 3)), 2),
            # Another time, the one before that.
            (past((None, 1), (1, 2), (2, 3), (3, 2), rollbacks=[4]), 1),
            (past((None, 1), (1, 2), (2, 3), (3, 2), (2, 1), rollbacks=[4, 5]), None),
            (past((None, 1), (1, 2), (2, 1), (1, 3), rollbacks=[3]), 1),
            # A gate that says it again has moved nothing.
            (past((None, 1), (1, 2), (2, 2)), 1),
            # What was done by other means is undone, too.
            (past((None, 1), (1, 2), now=4), 2),
            (past((None, 1), (4, 2)), 4),
            (past((None, 1), (1, 2), (4, 2), rollbacks=[3]), 1),
            # Version 9 was deleted.
            (past((None, 1), (1, 9), (9, 3)), 1),
        ],
    )
    def test_is_whom_the_last_move_displaced_that_is_not_undone(self, history: Past, before: int | None) -> None:
        assert history.before(CHAMPION, {1, 2, 3, 4}) == before

    @given(st.lists(st.integers(1, 5), min_size=1, max_size=8))
    def test_rollbacks_go_back_as_the_moves_came(self, versions: list[int]) -> None:
        held, expected = Past(records=[], aliases={}, now=NOW), []
        for version in versions:
            if held.seated(CHAMPION) not in (None, version):
                expected.append(held.seated(CHAMPION))
            held = after(held, held.move(CHAMPION, version, "on"))
        found = []
        while (before := held.before(CHAMPION, range(6))) is not None:
            found.append(before)
            held = after(held, held.move(CHAMPION, before, "back", rollback=True))
            assert len(found) <= len(expected)
        assert found == expected[::-1]


def after(held: Past, move: Move) -> Past:
    made = Record(number=held.newest + 1, at=0.0, move=move, is_done=True)
    return Past(records=[*held.records, made], aliases={move.alias: move.to_version}, now=NOW)


class TestEntries:
    def told(self, held: Past) -> Iterator[tuple[int | None, int | None, bool]]:
        for entry in entries(held):
            yield entry.from_version, entry.to_version, entry.why == UNRECORDED

    def test_are_the_moves_and_those_that_nobody_recorded(self) -> None:
        held = past((None, 1), (1, 2), (4, 3), now=5)
        assert list(self.told(held)) == [
            (None, 1, False),
            (1, 2, False),
            (2, 4, True),
            (4, 3, False),
            (3, 5, True),
        ]
        assert [entry.why for entry in moves_to(held, 5)] == [UNRECORDED]
        assert moves_to(held, 3) == ()

    def test_an_alias_that_is_gone_is_told(self) -> None:
        held = replace(past((None, 1)), aliases={})
        assert list(self.told(held)) == [(None, 1, False), (1, None, True)]

    def test_of_a_model_of_before_are_its_aliases(self) -> None:
        held = Past(records=[], aliases={CHAMPION: 2, CANDIDATE: 3}, now=NOW)
        assert [(entry.alias, entry.to_version) for entry in entries(held)] == [(CANDIDATE, 3), (CHAMPION, 2)]
        assert [entry.alias for entry in moves_to(held, 2)] == [CHAMPION]


def test_a_reason_is_one_line_of_no_more_than_a_thousand_characters() -> None:
    move = Past(records=[], aliases={}, now=NOW).move(CHAMPION, 1, "a\nb\t" + "c" * 5000)
    assert move.why.startswith("a b c")
    assert len(move.why) == 1000
