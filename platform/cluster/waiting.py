"""Waiting for the nodes that a job needs, on a cluster that may grow."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ray.util import placement_group, remove_placement_group

from ...trainers.errors import BrokenEnvironmentError, UserError
from ..base.events import Stage, emit
from ..spec.resources import Resources
from .nodes import Node, live_nodes
from .placement import first_lack, idle_gpus

_POLL_S = 2.0
_SETTLE_S = 30.0
"""Of several nodes that are asked for at once, the next comes within this, or not for long."""


def wait_for_room(trainings: Sequence[Resources], limit_s: float) -> list[Node]:
    """The nodes, once each of some trainings fits on them by itself. Tells of GPUs that they leave idle.

    A cluster of this machine alone does not grow: what does not fit raises UserError at once. Of any other nobody can
    know, so its autoscaler is asked for room for all at once, and BrokenEnvironmentError raised if none has come
    after `limit_s` seconds.
    """
    nodes = live_nodes()
    if lack := first_lack(trainings, nodes):
        nodes = _wait_for_others(trainings, nodes, lack, limit_s)
    if idle := idle_gpus(trainings, nodes):
        emit(Stage(text=idle))
    return nodes


def _wait_for_others(trainings: Sequence[Resources], nodes: Sequence[Node], lack: str, limit_s: float) -> list[Node]:
    """The nodes, once others have joined those on which something lacks."""
    if all(node.is_hidden for node in nodes):
        raise UserError(lack)
    told = f"waiting at most {limit_s:g} s for nodes that an autoscaler, or you, may add: {lack}"
    emit(Stage(text=told, waits=True))
    with _demanded(trainings):
        there = _wait(trainings, limit_s)
    emit(Stage(text=f"{len(there)} nodes are there"))
    return there


def _wait(trainings: Sequence[Resources], limit_s: float) -> list[Node]:
    """The nodes, once each training fits and no more seem to come."""
    began = changed = time.monotonic()
    before: set[str] = set()
    while True:
        now, nodes = time.monotonic(), live_nodes()
        # Ray lists them in any order.
        if (there := {node.id for node in nodes}) != before:
            before, changed = there, now
        lack = first_lack(trainings, nodes)
        if lack is None and now - changed >= _SETTLE_S:
            return nodes
        if lack and now - began >= limit_s:
            raise BrokenEnvironmentError(f"no such nodes have come in {limit_s:g} s: {lack}")
        time.sleep(_POLL_S)


@contextmanager
def _demanded(trainings: Sequence[Resources]) -> Iterator[None]:
    """Meanwhile the cluster's autoscaler knows what is needed; once this process ends, nobody needs it any more."""
    groups = [
        placement_group(
            [each.per_worker] * each.workers,
            strategy=each.placement.upper(),
            bundle_label_selector=[each.node_labels] * each.workers,
        )
        for each in trainings
    ]
    try:
        yield
    finally:
        for group in groups:
            remove_placement_group(group)
