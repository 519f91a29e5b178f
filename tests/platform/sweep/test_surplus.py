"""Which checkpoints of a sweep go: those that nobody needs, and never others."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from advseg.jobs.confirm import candidates_of
from advseg.platform.ledger.rows import BASELINE_NUMBER, Row, best_first
from advseg.platform.spec.keep import Keep
from advseg.platform.spec.spec import Spec
from advseg.platform.sweep.surplus import surplus_of

COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
RUNNING, WAITING = TrialState.RUNNING, TrialState.WAITING


def row(number: int, state: TrialState, value: float | None = 50.0, beside: str | None = None) -> Row:
    curve = {} if value is None else {8: value}
    return Row(number=number, params={}, state=state, reason="", curve=curve, beside=beside)


TRIALS = [
    row(0, COMPLETE, 60),
    row(1, PRUNED),
    row(2, COMPLETE, 70),
    row(3, FAIL),
    row(4, RUNNING),
    row(5, COMPLETE, 65),
]
CONFIRMED = [
    row(-2, COMPLETE, beside="confirm-2-s1"),
    row(-3, FAIL, beside="confirm-0-s1"),
    row(-4, RUNNING, beside="confirm-2-s2"),
    row(-5, WAITING, beside="confirm-0-s2"),
]


def going(spec: Spec, registered: frozenset[str] = frozenset()) -> dict[str, str]:
    return {each.key: each.why for each in surplus_of(spec, TRIALS, CONFIRMED, registered)}


ALWAYS = {
    "probe/1": "pruned",
    "probe/3": "failed",
    "probe/confirm-2-s1": "only its figure is needed",
    "probe/confirm-0-s1": "only its figure is needed",
}


def test_by_default_what_is_complete_or_not_finished_keeps_its_checkpoints(make_spec: Callable[..., Spec]) -> None:
    assert going(make_spec()) == ALWAYS


@pytest.mark.parametrize(
    ("best", "beyond"),
    [(0, ["probe/0", "probe/2", "probe/5"]), (1, ["probe/0", "probe/5"]), (2, ["probe/0"]), (3, []), (9, [])],
)
def test_of_complete_trials_so_many_of_the_best_keep_theirs(
    make_spec: Callable[..., Spec], best: int, beyond: list[str]
) -> None:
    found = going(make_spec(f"keep.best={best}"))
    assert found == {**ALWAYS, **dict.fromkeys(beyond, f"not among the best {best}")}


def test_what_is_to_be_confirmed_keeps_its_own(make_spec: Callable[..., Spec]) -> None:
    spec = make_spec("keep.best=0", "sweep.confirm={candidates: 2, seeds: 6}")
    assert going(spec) == {**ALWAYS, "probe/0": "not among the best 2"}


def test_what_a_registered_version_came_from_keeps_its_own(make_spec: Callable[..., Spec]) -> None:
    registered = frozenset({"probe/0", "probe/1", "probe/confirm-2-s1", "other/5", "shapes"})
    assert going(make_spec("keep.best=0"), registered).keys() == {
        "probe/2",
        "probe/3",
        "probe/5",
        "probe/confirm-0-s1",
    }


values = st.none() | st.sampled_from([10.0, 20.0, 20.5, 99.0, float("nan")])
states = st.sampled_from([COMPLETE, PRUNED, FAIL, RUNNING])


@pytest.fixture
def confirming(make_spec: Callable[..., Spec]) -> Spec:
    """A sweep that confirms its best three."""
    return make_spec("sweep.confirm={candidates: 3, seeds: 6}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), states=st.lists(st.tuples(states, values), max_size=8))
def test_never_what_a_version_an_unfinished_training_or_the_gate_needs(
    confirming: Spec, data: Any, states: list[tuple[TrialState, float | None]]
) -> None:
    trials = [row(number, *drawn) for number, drawn in enumerate(states)]
    after = data.draw(st.lists(st.sampled_from([COMPLETE, FAIL, RUNNING, WAITING]), max_size=4))
    confirmations = [row(-2 - place, state, beside=f"confirm-0-s{place}") for place, state in enumerate(after)]
    keys = [f"{confirming.name}/{each.trial}" for each in (*trials, *confirmations)]
    registered = data.draw(st.sets(st.sampled_from(keys)) if keys else st.just(set()))
    best = data.draw(st.none() | st.integers(0, 9))
    spec = confirming.model_copy(update={"keep": Keep(best=best)})
    assert spec.sweep and spec.sweep.confirm

    surplus = surplus_of(spec, trials, confirmations, registered)

    rows, gone = [each.row for each in surplus], {each.key for each in surplus}
    assert not gone & registered
    assert all(each.state.is_finished() for each in rows)
    baseline = row(BASELINE_NUMBER, COMPLETE, 15.0)
    assert not set(candidates_of(spec.sweep.confirm, trials, baseline)) & {each.number for each in rows}
    complete = [each.number for each in best_first(trials) if each.state is COMPLETE]
    assert not set(complete[:best]) & {each.number for each in rows}
    over = {key for key, each in zip(keys, (*trials, *confirmations), strict=True) if each.state in (PRUNED, FAIL)}
    assert over - registered <= gone


def test_the_best_of_each_arm_keep_their_checkpoints(make_spec: Callable[..., Spec]) -> None:
    space = "{method.threshold: {low: 0, high: 1}}"
    arms = f"{{one: {{trials: 4, space: {space}}}, two: {{trials: 4, space: {space}}}}}"
    spec = make_spec("sweep={}", f"sweep.arms={arms}", "keep.best=1")
    trials = [replace(row(number, COMPLETE, 50 + number), arm="one" if number < 2 else "two") for number in range(4)]
    assert [each.row.number for each in surplus_of(spec, trials, [], frozenset())] == [0, 2]
