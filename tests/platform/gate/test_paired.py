import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from advseg.platform.gate.paired import MOST_PAIRS, holm, least_p, may_pass, pairs_needed, sign_flip, student

differences = st.lists(st.floats(-9, 9).map(lambda value: round(value, 3)), min_size=2, max_size=8)


@given(differences)
def test_the_exact_test_is_the_permutation_test_of_scipy(pairs: list[float]) -> None:
    theirs = stats.permutation_test(
        (pairs,), np.sum, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert sign_flip(pairs, margin=0, alpha=0.05).p == pytest.approx(theirs.pvalue)


@given(differences, st.sampled_from([0.05, 0.1, 0.3]), st.floats(-1, 1))
def test_the_interval_is_above_the_margin_exactly_if_the_test_says_so(
    pairs: list[float], alpha: float, margin: float
) -> None:
    found = sign_flip(pairs, margin=margin, alpha=alpha)
    assert (found.p <= alpha) == (found.low is not None and found.low > margin)
    if found.low is not None and found.high is not None:
        assert found.low <= found.mean + 1e-9
        assert found.high >= found.mean - 1e-9


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    intervals = [sign_flip(list(generator.normal(2, 1, 6)), margin=0, alpha=0.05) for _ in range(2000)]
    held = sum(each.low is not None and each.high is not None and each.low <= 2 <= each.high for each in intervals)
    # Of 64 gaps, 3 on each side are left out.
    assert held / 2000 == pytest.approx(58 / 64, abs=0.02)


def test_equal_trainings_are_no_proof() -> None:
    assert sign_flip([0.0] * 6, margin=0, alpha=0.05).p == 1
    assert student([0.0] * 6, margin=0, alpha=0.05).p == 1


def test_students_test_is_that_of_scipy() -> None:
    pairs = [1.0, 0.5, 2.0, -0.25]
    found = student(pairs, margin=0.5, alpha=0.1)
    assert found.p == pytest.approx(stats.ttest_1samp(pairs, 0.5, alternative="greater").pvalue)
    half = stats.t.ppf(0.9, 3) * np.std(pairs, ddof=1) / 2
    assert (found.low, found.high) == (pytest.approx(found.mean - half), pytest.approx(found.mean + half))


def test_holms_adjustment_worked_by_hand() -> None:
    assert holm([0.03, 0.01, 0.04]) == [pytest.approx(0.06), pytest.approx(0.03), pytest.approx(0.06)]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(differences, st.integers(0, 4), st.sampled_from([0.02, 0.05, 0.1]))
def test_what_is_called_hopeless_does_not_pass_whatever_comes(pairs: list[float], missing: int, alpha: float) -> None:
    total = len(pairs) + missing
    best = sign_flip([*pairs, *[1e6] * missing], margin=0, alpha=alpha).p
    assert may_pass(pairs, total, margin=0, alpha=alpha) == (best <= alpha)


def test_the_least_p_is_that_of_pairs_that_all_agree() -> None:
    for pairs in range(1, MOST_PAIRS + 1):
        assert sign_flip([1.0] * pairs, margin=0, alpha=0.05).p == least_p(pairs)


def test_as_many_pairs_as_are_asked_for_show_the_lead() -> None:
    generator = np.random.default_rng(3)
    needed = pairs_needed([0.2, 1.8, 1.0, -0.3, 2.3], margin=0, alpha=0.05)
    assert needed
    spread = float(np.std([0.2, 1.8, 1.0, -0.3, 2.3], ddof=1))
    shown = [sign_flip(list(generator.normal(1, spread, needed)), margin=0, alpha=0.05).p <= 0.05 for _ in range(500)]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.1)
    assert pairs_needed([-1.0, 0.5], margin=0, alpha=0.05) is None
    assert pairs_needed([1.0, 1.0], margin=0, alpha=0.05) is None
