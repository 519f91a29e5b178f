import pytest
from hypothesis import given
from hypothesis import strategies as st

from advseg.trainers.data.opening import choose

counts = st.integers(1, 300)
fractions = st.floats(0, 1, exclude_min=True)
seeds = st.integers(0, 2**63 - 1)


@pytest.mark.parametrize(
    ("count", "fraction", "kept"),
    [(2975, 1 / 8, 372), (2975, 1 / 4, 744), (2975, 1 / 2, 1488), (10582, 1 / 8, 1323), (5, 0.01, 1), (5, 1.0, 5)],
)
def test_a_fraction_is_rounded_and_never_none(count, fraction, kept):
    assert len(choose(count, fraction, seed=0)) == kept


@given(counts, fractions, seeds)
def test_chosen_are_different_indices_in_rising_order_and_the_same_each_time(count, fraction, seed):
    chosen = choose(count, fraction, seed)

    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(count))
    assert chosen == choose(count, fraction, seed)


@given(counts, st.tuples(fractions, fractions).map(sorted), seeds)
def test_a_smaller_fraction_is_part_of_a_larger_one(count, ends, seed):
    small, large = (set(choose(count, fraction, seed)) for fraction in ends)

    assert small <= large


def test_another_seed_chooses_others():
    assert len({tuple(choose(100, 0.1, seed)) for seed in range(20)}) == 20


def test_what_a_seed_chooses_never_changes():
    assert choose(20, 0.25, seed=7) == [1, 4, 6, 8, 16]


def test_the_first_of_a_published_order_are_chosen():
    assert choose(4, 0.5, seed=0, order=[3, 1, 0, 2]) == [1, 3]
