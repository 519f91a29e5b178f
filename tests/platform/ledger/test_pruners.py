"""Which scripted trials are stopped, and where."""

from collections.abc import Callable, Iterator, Sequence

import pytest
from optuna.trial import TrialState

from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.pruners import reason_of
from advseg.platform.spec.spec import Spec
from advseg.platform.spec.sweep import Hyperband, Median, Patient, Pruner, SuccessiveHalving

MakeSpec = Callable[..., Spec]
Opened = Callable[..., Ledger]
Curve = dict[int, float]

HALVING = "sweep.pruner={name: successive_halving, min_resource: 2, reduction_factor: 2}"
HYPERBAND = "sweep.pruner={name: hyperband, min_resource: 2, reduction_factor: 2}"
MEDIAN = "sweep.pruner={name: median, startup_trials: 3, warmup_steps: 2}"
PATIENT = "sweep.pruner={name: patient, patience: 2, min_delta: 1}"
PATIENT_MEDIAN = "sweep.pruner={name: patient, patience: 1, wrapped: {name: median, startup_trials: 1}}"


def level(value: float) -> Curve:
    """A trial that has the same value at every report."""
    return dict.fromkeys((1, 2, 4, 8), value)


def curve(*values: float) -> Curve:
    """Values at steps 1, 2, ..."""
    return dict(enumerate(values, start=1))


def stops(ledgers: Iterator[Ledger], curves: Sequence[Curve]) -> dict[int, int]:
    """Run trials one after the other; the steps at which some were stopped, by number. Each call has a ledger anew."""
    stopped = {}
    for number, values in enumerate(curves):
        assert next(ledgers).propose() == number
        for step, value in values.items():
            _, prunable = next(ledgers).report(number, step, value)
            if prunable:
                stopped[number] = step
                next(ledgers).finish(number, TrialState.PRUNED)
                break
        next(ledgers).finish(number, TrialState.COMPLETE)
    return stopped


SCRIPTS: dict[str, tuple[str, list[Curve], dict[int, int]]] = {
    # At step 2 a trial goes on if it is among the best half, rounded down but at least one, of those judged there so
    # far: 50 of (50); 40 not of (50, 40); 60 of (60, 50, 40); 55 of (60, 55, 50, 40); 52 not of five; 56 of six; 54
    # not of seven. At step 4, in the same way: 50 of (50); 60 of (60, 50); 55 not of three; 56 of four. And at step 8:
    # 50 of (50); 60 of (60, 50); 56 not of three.
    "halving": (HALVING, [level(v) for v in (50, 40, 60, 55, 52, 56, 54)], {1: 2, 3: 4, 4: 2, 5: 8, 6: 2}),
    # What comes before or between the steps of judgement is no matter.
    "halving judges at 2, 4 and 8": (
        HALVING,
        [curve(0, 50, 0, 60, 0, 0, 0, 70), curve(99, 51, 0, 59), curve(0, 52, 0, 61, 0, 0, 0, 71)],
        {1: 4},
    ),
    # Three brackets judge first at step 2, 4 and 8; chance gives them 4, 3 and 3 of 10 trials. Those of this sweep's
    # first 14 are 2, 2, 0, 2, 1, 0, 1, 2, 2, 2, 0, 0, 2, 1. Each trial is worse than all before it, so that of each
    # bracket the first goes on, and the others end where they are first judged.
    "hyperband": (
        HYPERBAND,
        [level(100 - number) for number in range(14)],
        {1: 8, 3: 8, 5: 2, 6: 4, 7: 8, 8: 8, 9: 8, 10: 2, 11: 2, 12: 8, 13: 4},
    ),
    "hyperband lets those go on that are better than all before": (
        HYPERBAND,
        [level(number) for number in range(6)],
        {},
    ),
    # Of the first three nobody is stopped. Then the best value so far is held against the median of the values that
    # complete trials had at this step: 20 at step 2, 30 at step 4. Step 1, where all are below, is before the warm-up.
    "median": (
        MEDIAN,
        [
            curve(5, 10, 0, 40),
            curve(5, 20, 0, 20),
            curve(5, 30, 0, 30),
            curve(0, 15),
            curve(0, 20, 0, 25),
            curve(0, 35, 0, 0),
        ],
        {3: 2, 4: 4},
    ),
    # Two reports below the best before, the newest apart, are borne, and one point below it is no loss.
    "patient": (
        PATIENT,
        [curve(50, 48, 48, 48, 48), curve(50, 48, 48, 49, 48, 48, 48), curve(50, 40, 40, 51), curve(1, 2, 3, 4, 5, 6)],
        {0: 4, 1: 7},
    ),
    # Trial 1 is below the median of (5, 5, 5, 5, 5, 5), but rises; trial 2 falls, but is above it; trial 3 is both.
    "patient and below the median": (
        PATIENT_MEDIAN,
        [curve(5, 5, 5, 5, 5, 5), curve(1, 2, 3, 3.5, 4), curve(9, 8, 7, 6), curve(2, 1, 1, 1)],
        {3: 3},
    ),
}


@pytest.mark.parametrize(("pruner", "curves", "expected"), SCRIPTS.values(), ids=SCRIPTS.keys())
class TestScript:
    def test_stops_the_trials_that_were_computed_by_hand(
        self, make_spec: MakeSpec, opened: Opened, pruner: str, curves: list[Curve], expected: dict[int, int]
    ) -> None:
        ledger = opened(make_spec(pruner, "sweep.trials=20"))
        assert stops(iter(lambda: ledger, None), curves) == expected

    def test_stops_the_same_if_a_driver_is_replaced_again_and_again(
        self, make_spec: MakeSpec, opened: Opened, pruner: str, curves: list[Curve], expected: dict[int, int]
    ) -> None:
        spec = make_spec(pruner, "sweep.trials=20")

        def drivers() -> Iterator[Ledger]:
            while True:
                ledger = opened(spec)
                # Most often in the middle of a trial.
                for _ in range(5):
                    yield ledger
                ledger.close()

        assert stops(drivers(), curves) == expected


def test_without_a_pruner_no_trial_is_stopped(make_spec: MakeSpec, opened: Opened) -> None:
    ledger = opened(make_spec())
    assert stops(iter(lambda: ledger, None), [level(-number) for number in range(3)]) == {}


@pytest.mark.parametrize(
    ("pruner", "reason"),
    [
        (SuccessiveHalving(name="successive_halving", min_resource=2), "not among the best at step 4"),
        (Hyperband(name="hyperband", min_resource=2), "not among the best at step 4"),
        (Median(name="median"), "below the median at step 4"),
        (Patient(name="patient", patience=3), "no improvement in 3 reports at step 4"),
        (
            Patient(name="patient", patience=3, wrapped=Median(name="median")),
            "no improvement in 3 reports, and below the median at step 4",
        ),
    ],
)
def test_the_reason_says_why_and_where(pruner: Pruner, reason: str) -> None:
    assert reason_of(pruner, 4) == reason
