"""What a spool holds is sent to a run, in batches. What MLflow refuses is left out with a warning, alone."""

import logging
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeVar

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from .names import escaped, unescaped
from .patience import is_about_content, reason_of
from .spool import Record, Spool

log = logging.getLogger(__name__)

_BATCH = 1000
"""Metrics that MLflow takes in one request."""

Item = TypeVar("Item")


class Sender:
    """Sends to one run, under names that MLflow takes; remembers what it refused."""

    def __init__(self, client: MlflowClient, run_id: str, key: str) -> None:
        self._client = client
        self.run_id = run_id
        self._key = key
        self._refused: set[str] = set()

    def send(self, spool: Spool, abandoned: Callable[[], bool] = lambda: False) -> None:
        """Send what a spool holds, as many records at a time as fit in a request, and mark them; stops if `abandoned`.

        What was sent and not marked is sent again: with the same timestamps it is the same to MLflow.
        """
        unsent = spool.unsent(self.run_id)
        while unsent and not abandoned():
            count = _fitting(unsent)
            metrics = [
                Metric(name, value, record["timestamp"], record["step"])
                for record in filter(None, unsent[:count])
                for key, value in record["metrics"].items()
                if (name := escaped(key)) not in self._refused
            ]
            for start in range(0, len(metrics), _BATCH):
                self._log(metrics[start : start + _BATCH])
            if abandoned():
                return
            spool.mark_sent(count)
            unsent = unsent[count:]

    def _log(self, metrics: Sequence[Metric]) -> None:
        def refused(metric: Metric, error: Exception) -> None:
            if metric.key not in self._refused:
                self._refused.add(metric.key)
                name = unescaped(metric.key)
                log.warning("MLflow refuses metric %s of %s, which goes without: %s", name, self._key, reason_of(error))

        def log_batch(part: Sequence[Metric]) -> None:
            self._client.log_batch(self.run_id, metrics=part)

        _log_each(self._client, self.run_id, metrics, log_batch, refused)


def log_params(client: MlflowClient, run_id: str, params: Sequence[Param], tags: Sequence[RunTag]) -> None:
    """Log parameters and tags of a run, but for those that MLflow refuses, of which each is told in a warning."""

    def refused(item: Param | RunTag, error: Exception) -> None:
        log.warning("MLflow refuses %s of run %s, which goes without: %s", item.key, run_id, reason_of(error))

    _log_each(client, run_id, params, lambda part: client.log_batch(run_id, params=part), refused)
    _log_each(client, run_id, tags, lambda part: client.log_batch(run_id, tags=part), refused)


def _log_each(
    client: MlflowClient,
    run_id: str,
    items: Sequence[Item],
    log_batch: Callable[[Sequence[Item]], object],
    refused: Callable[[Item, Exception], None],
) -> None:
    """Log a batch; of one that MLflow refuses, all but those items that it refuses alone.

    Raises MlflowException if MLflow is away, takes nothing from us, or the run was deleted.
    """
    if not items:
        return
    try:
        log_batch(items)
    except MlflowException as error:
        if not is_about_content(error) or is_deleted(client, run_id):
            raise
        if len(items) == 1:
            refused(items[0], error)
            return
        middle = len(items) // 2
        _log_each(client, run_id, items[:middle], log_batch, refused)
        _log_each(client, run_id, items[middle:], log_batch, refused)


def is_deleted(client: MlflowClient, run_id: str) -> bool:
    """Whether a run was deleted, after which it takes nothing."""
    return client.get_run(run_id).info.lifecycle_stage == "deleted"


def _fitting(records: Sequence[Record | None]) -> int:
    """How many of the first records make one request; one at least."""
    totals = accumulate(len(record["metrics"]) if record else 0 for record in records)
    return max(1, sum(total <= _BATCH for total in totals))
