"""Runs in MLflow by what users call them: `<sweep>/<number>`, `<sweep>/baseline`, a sweep's name, or a run's id."""

import math
import re
from collections.abc import Callable, Sequence

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ...trainers.errors import UserError
from ..base.keys import BASELINE, METRIC, key_of
from ..tracking.ending import Ending, State
from ..tracking.names import escaped, unescaped
from ..tracking.runs import KEY_TAG, has_ended, runs_by_key
from ..tracking.system_metrics import PREFIX
from .comparison import ComparedRun

MOST = 20
"""Trials that a sweep alone stands for."""
_LISTED = 40
"""Names that an error lists."""
_RUN_ID = re.compile(r"[0-9a-f]{32}")


def find_compared(
    client: MlflowClient, names: Sequence[str], metric: str, say: Callable[[str], None]
) -> list[ComparedRun]:
    """The runs of the names, with the values of a metric by step; each run once, in the order of the names.

    One sweep alone stands for its baseline, if that has a run, and its best complete trials; among several names it
    stands for its best complete trial. `say` is told what a sweep stands for. Raises UserError for a name or metric
    that there is not, and if there are fewer than two runs.
    """
    found: dict[str, Run] = {}
    for name in names:
        if _RUN_ID.fullmatch(name):
            runs = [_by_id(client, name)]
        elif "/" in name:
            runs = [_by_key(client, name)]
        else:
            runs = _of_sweep(client, name, alone=len(names) == 1, say=say)
        found |= {run.info.run_id: run for run in runs}
    if len(found) < 2:
        raise UserError(
            f"compare takes two runs or more, but {' '.join(names)} is {_name(*found.values())} alone: "
            "name another, as in `advseg compare SWEEP/0 SWEEP/baseline`"
        )
    return [_compared(client, run, metric) for run in found.values()]


def _by_id(client: MlflowClient, run_id: str) -> Run:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UserError(
            f"there is no run of the id {run_id} in MLflow at {client.tracking_uri}: "
            "copy it from a run's page there, or name the run as <sweep>/<number>"
        ) from None


def _by_key(client: MlflowClient, key: str) -> Run:
    sweep = key.rpartition("/")[0]
    runs = _runs_of(client, sweep)
    if key not in runs:
        known = sorted((key for key in runs if key != sweep), key=_place)
        raise UserError(
            f"there is no run {key}; {sweep} has: {_listed(known)}: name one of these, or another run by its id"
        )
    return runs[key]


def _of_sweep(client: MlflowClient, sweep: str, *, alone: bool, say: Callable[[str], None]) -> list[Run]:
    runs = _runs_of(client, sweep)
    complete = [run for key, run in runs.items() if key.rpartition("/")[2].isdigit() and _is_complete(run)]
    best = sorted(complete, key=lambda run: (-run.data.metrics[METRIC], _place(_name(run))))
    if not best:
        raise UserError(f"{sweep} has no complete trial yet: name its runs one by one, as in {key_of(sweep, 0)}")
    if not alone:
        say(f"{sweep} stands for its best complete trial, {_name(best[0])}")
        return best[:1]
    baseline = runs.get(key_of(sweep, BASELINE))
    shown = f"the best {MOST} of {len(best)}" if len(best) > MOST else f"its {len(best)}"
    say(f"{sweep} stands for {'its baseline and ' if baseline else ''}{shown} complete trials, best first")
    return ([baseline] if baseline else []) + best[:MOST]


def _is_complete(run: Run) -> bool:
    miou = run.data.metrics.get(METRIC)
    return has_ended(run, Ending(State.COMPLETE)) and miou is not None and math.isfinite(miou)


def _runs_of(client: MlflowClient, sweep: str) -> dict[str, Run]:
    """The runs of a sweep by their keys. Raises UserError if there is no such sweep."""
    sweeps = [experiment.name for experiment in client.search_experiments(order_by=["name"])]
    if sweep not in sweeps:
        raise UserError(
            f"there is no sweep {sweep} in MLflow at {client.tracking_uri}; it has: {_listed(sweeps)}: "
            "name one of them, a run of one as <sweep>/<number>, or a run's id"
        )
    return runs_by_key(client, sweep)


def _compared(client: MlflowClient, run: Run, metric: str) -> ComparedRun:
    metrics = {unescaped(name): value for name, value in run.data.metrics.items()}
    if metric not in metrics:
        known = sorted(name for name in metrics if not name.startswith(PREFIX))
        raise UserError(f"run {_name(run)} has no metric {metric}; it has: {_listed(known)}: name one by --metric")
    history = client.get_metric_history(run.info.run_id, escaped(metric))
    return ComparedRun(
        name=_name(run),
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        params=run.data.params,
        metrics=metrics,
        curve={value.step: value.value for value in sorted(history, key=lambda v: (v.step, v.timestamp))},
    )


def _name(run: Run) -> str:
    """A run's key, or its id if it is none of ours."""
    return run.data.tags.get(KEY_TAG, run.info.run_id)


def _place(key: str) -> int:
    """Trials come by number, the baseline before them."""
    number = key.rpartition("/")[2]
    return int(number) if number.isdigit() else -1


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{more}" if names else "none yet"
