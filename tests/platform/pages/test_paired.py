import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advseg.platform.pages.paired import MAX_PAIRS, paired_difference

values = st.floats(-100, 100)


def test_the_interval_is_students():
    # Worked by hand: differences 6.1, 3.4, 5.6 have mean 5.0333 and standard deviation 1.4364.
    found = paired_difference([61.5, 57.0, 60.9], [55.4, 53.6, 55.3])

    assert found.mean == pytest.approx(5.0333, abs=1e-4)
    assert found.half_width == pytest.approx(4.303 * 1.4364 / 3**0.5, abs=1e-3)
    assert found.is_clear


def test_what_all_pairs_share_cancels():
    seeds = [50.0, 70.0, 60.0]

    found = paired_difference([seed + 1 for seed in seeds], seeds)

    assert (found.mean, found.half_width) == (1, 0)


@given(st.lists(st.tuples(values, values), min_size=2, max_size=MAX_PAIRS))
def test_the_other_way_round_only_the_sign_changes(pairs):
    ours, theirs = zip(*pairs, strict=True)

    forth, back = paired_difference(ours, theirs), paired_difference(theirs, ours)

    assert forth.mean == pytest.approx(-back.mean, abs=1e-9)
    assert forth.half_width == pytest.approx(back.half_width)


@pytest.mark.parametrize("pairs", [2, 5, MAX_PAIRS])
def test_ninety_five_of_a_hundred_intervals_hold_the_truth(pairs):
    rng = np.random.default_rng(pairs)

    held = [
        abs(found.mean - 1) <= found.half_width
        for found in (paired_difference(rng.normal(1, 2, pairs), np.zeros(pairs)) for _ in range(4000))
    ]

    assert 0.94 < np.mean(held) < 0.96
