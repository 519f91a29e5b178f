"""What the job of a sweep says of itself."""

from pathlib import Path

from advseg.jobs.sweep import trials_told
from advseg.platform.spec.spec_file import load_spec

DEMO = Path(__file__).parents[2] / "jobs" / "specs" / "demo.yaml"


def test_that_fewer_trials_run_at_a_time_than_was_asked_for_is_told() -> None:
    sweep = load_spec(DEMO, ["sweep.trials=60", "sweep.concurrency=16"], files_elsewhere=True).sweep
    assert sweep
    assert trials_told(sweep, 16) == "60 trials, 16 at a time"
    told = "60 trials, 2 at a time: the cluster has no room for 16, as sweep.concurrency says"
    assert trials_told(sweep, 2) == told


def test_the_arms_that_take_turns_are_told() -> None:
    space = "{method.threshold: {low: 0, high: 1}}"
    arms = f"{{one: {{trials: 3, space: {space}}}, two: {{trials: 5, space: {space}}}}}"
    sweep = load_spec(DEMO, ["sweep={}", f"sweep.arms={arms}"], files_elsewhere=True).sweep
    assert sweep
    assert trials_told(sweep, 2) == "8 trials, 2 at a time, of 2 arms in turn: one, two"
