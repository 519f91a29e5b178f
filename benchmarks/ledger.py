"""A ledger of many trials: time to the next trial, to take a report, and of `advseg sweep show`.

    python benchmarks/ledger.py [--trials 10000] [--reports 8]

SQLite, at a hundredth, a tenth and all of the trials; what grows faster than they do is quadratic in all.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import optuna
from demo_task import demo_spec, write_data
from optuna.trial import TrialState, create_trial
from timing import machine

from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.opening import open_ledger
from advseg.platform.ledger.origin import Origin
from advseg.platform.ledger.samplers import distributions_of
from advseg.platform.spec.ledger_address import database_url
from advseg.platform.spec.spec import Spec

SAMPLERS = ("{name: random}", "{name: quasi_random}", "{name: grid, values: 100}", "{name: tpe}")
ASKED = 10
ORIGIN = Origin(dataset="benchmark", code="benchmark")


def fill(storage: Path, spec: Spec, trials: int, reports: int) -> None:
    """Add finished trials to a sweep."""
    assert spec.sweep
    open_ledger(storage, spec, ORIGIN).close()
    space = distributions_of(spec.sweep.space)
    study = optuna.load_study(study_name=spec.name, storage=database_url(storage, None))
    sampler = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    added = []
    for number in range(trials):
        params = sampler.ask(space).params
        curve = {75 * (step + 1): 50.0 + step + number % 13 for step in range(reports)}
        added.append(
            create_trial(
                state=TrialState.COMPLETE,
                value=curve[75 * reports],
                params=params,
                distributions=space,
                intermediate_values=curve,
            )
        )
    study.add_trials(added)


def seconds(work: Callable[[], object], times: int) -> float:
    """Median seconds of a call."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return median(taken)


def reports_of(ledger: Ledger, number: int) -> dict[str, float]:
    """Seconds to take a report of a trial, and to decide whether it goes on."""
    steps = iter(range(75, 75 * (ASKED + 1), 75))
    return {
        "take a report": seconds(lambda: ledger.report(number, next(steps), 50.0), ASKED),
        "ask the pruner": seconds(lambda: ledger.should_prune(number), 3),
    }


def measure(data: Path, storage: Path, trials: int, reports: int) -> dict[str, float]:
    """Seconds of what a driver and a user wait for, by name."""
    found: dict[str, float] = {}
    for number, sampler in enumerate(SAMPLERS):
        name = sampler.removeprefix("{name: ").partition(",")[0].strip("}")
        spec = demo_spec(
            data, f"name=many-{trials}-{number}", f"sweep.trials={trials + ASKED}", f"sweep.sampler={sampler}",
            "sweep.first=[]",
        )  # fmt: skip
        fill(storage, spec, trials, reports)
        started = time.perf_counter()
        ledger = open_ledger(storage, spec, ORIGIN)
        found["open the ledger"] = time.perf_counter() - started
        found[f"next trial, {name}"] = seconds(ledger.propose, ASKED)
        if number == 0:
            found |= reports_of(ledger, trials)
        ledger.close()
    command = [
        sys.executable,
        "-m",
        "advseg.jobs.cli",
        "sweep",
        "show",
        f"many-{trials}-0",
        "--storage",
        str(storage),
    ]
    found["advseg sweep show"] = seconds(lambda: subprocess.run(command, check=True, capture_output=True), 1)
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--reports", type=int, default=8)
    asked = parser.parse_args()
    print(machine())
    sizes = [asked.trials // 100, asked.trials // 10, asked.trials]
    with tempfile.TemporaryDirectory() as folder:
        data = write_data(Path(folder) / "data")
        columns = [measure(data, Path(folder) / str(size), size, asked.reports) for size in sizes]
    print(f"{'seconds, at finished trials:':30}" + "".join(f"{size:>10}" for size in sizes))
    for name in columns[0]:
        print(f"{name:30}" + "".join(f"{column[name]:10.3f}" for column in columns))


if __name__ == "__main__":
    main()
