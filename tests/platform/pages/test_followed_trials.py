"""What a terminal shows of many trials."""

import json

from rich.console import Console

from advseg.platform.base.events import TrialUpdate
from advseg.platform.pages.follow import Progress, live_table
from advseg.platform.pages.followed_trials import Search, done_trials, fitting, summary


def update(number: int, state: str = "COMPLETE", miou: float | None = None, step: int = 8, at: float = 0.0):
    return TrialUpdate(key=f"a/{number}", state=state, step=step, steps=8, miou=miou, at=at)


def numbers(updates: list[TrialUpdate]) -> list[int]:
    return [int(each.key.rpartition("/")[2]) for each in updates]


FOUR = [update(0, miou=50.0), update(1, "PRUNED", 60.0, 4), update(2, miou=55.0), update(3, "RUNNING", 20.0, 4)]


def test_those_that_run_come_before_the_best_and_these_before_others_in_the_order_of_before():
    assert numbers(fitting(FOUR, 9)) == [0, 1, 2, 3]
    assert numbers(fitting(FOUR, 3)) == [0, 2, 3]
    assert numbers(fitting(FOUR, 2)) == [2, 3]
    assert numbers(fitting(FOUR, 1)) == [3]


def test_all_are_counted_though_few_are_shown():
    assert summary(FOUR, 2, None) == "2 COMPLETE, 1 PRUNED, 1 RUNNING; 2 not shown; best 2 with 55.00"


def test_one_that_runs_is_done_by_the_share_of_its_steps_and_the_baseline_is_no_trial():
    baseline = TrialUpdate(key="a/baseline", state="COMPLETE", step=8, steps=8)
    assert done_trials([*FOUR, baseline]) == 3.5


def test_the_time_left_is_told_by_what_was_done_since_the_search_went_on():
    # Of ten, two were there before; one and a half came in 300 s, and six and a half are to come.
    search = Search(trials=10, began=1000.0, done=2.0)
    updates = [*FOUR[:3], update(3, "RUNNING", 20.0, 4, at=1300.0)]
    assert summary(updates, 4, search).endswith("; about 0:21:40 left")
    assert "left" not in summary(FOUR, 4, search)
    assert "left" not in summary(updates, 4, Search(trials=10, began=1000.0, done=3.5))
    assert "left" not in summary([update(0, at=9.0)], 1, Search(trials=1, began=1.0, done=0.0))


def test_sixty_trials_fit_a_terminal_of_24_lines():
    progress = Progress()

    def hear(**event: object) -> None:
        list(progress.hear(f"@advseg {json.dumps(event)}\n"))

    hear(kind="trial", key="a/0", state="COMPLETE", step=8, steps=8, miou=50.0, at=900.0)
    hear(kind="stage", text="60 trials, 2 at a time", trials=60, at=1000.0)
    for number in range(1, 58):
        hear(kind="trial", key=f"a/{number}", state="COMPLETE", step=8, steps=8, miou=number / 2, at=1000.0 + number)
    hear(kind="trial", key="a/58", state="RUNNING", step=4, steps=8, miou=1.0, at=1060.0)
    console = Console(width=80, height=24)
    with console.capture() as capture:
        console.print(live_table(progress, 24))
    lines = capture.get().splitlines()
    assert len(lines) <= 20
    assert any(line.startswith("58 ") for line in lines)
    assert any(line.startswith("0 ") for line in lines)
    assert lines[-1].strip() == "58 COMPLETE, 1 RUNNING; 44 not shown; best 0 with 50.00; about 2 s left"
