"""What a sweep needs of a cluster, and how many of its trials fit on it at the same time.

All is counted node by node: a worker has to come onto one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ...trainers.errors import UserError
from ..spec.resources import ACCELERATOR, Resources
from .nodes import Node

if TYPE_CHECKING:
    from ..spec.spec import Spec

_KEYS = {"CPU": "resources.cpus_per_worker", "GPU": "resources.gpus_per_worker"}
_SHOWN = 8


def check_ledger(ledger: str | None, nodes: Iterable[Node]) -> None:
    """Raise UserError if a cluster of these nodes needs a ledger that the spec does not name."""
    remote = [node.address for node in nodes if not node.is_hidden]
    if remote and ledger is None:
        raise UserError(
            f"the cluster has nodes that others can reach ({remote[0]}), but the spec names no ledger, and an SQLite "
            f"file serves one machine only: add ledger: postgresql://user@host/database"
        )


def concurrency_of(asked: int, resources: Resources, nodes: Sequence[Node]) -> int:
    """Trainings that can run at once, at most `asked`: more would wait for each other's workers.

    Raises UserError if not even one fits.
    """
    if lack := lack_of(resources, nodes):
        raise UserError(lack)
    return min(asked, sum(room_on(node, resources) for node in nodes) // resources.workers)


def room_on(node: Node, resources: Resources) -> int:
    """How many workers fit on a node that has nothing else to do."""
    if not _has_labels(node, resources):
        return 0
    return min(int(node.has.get(name, 0) / needed + 1e-9) for name, needed in resources.per_worker.items())


def trainings_of(spec: "Spec") -> list[Resources]:
    """What the trainings of a job ask for that may run at a time."""
    if spec.sweep is None:
        return [spec.resources]
    return [spec.baseline_resources, *[spec.resources] * spec.sweep.concurrency]


def idle_gpus(trainings: Iterable[Resources], nodes: Iterable[Node]) -> str | None:
    """That trainings leave the GPUs of a cluster alone, in words; None if they do not, or there are none."""
    gpus = sum(node.has.get("GPU", 0) for node in nodes)
    if not gpus or any(resources.gpus_per_worker for resources in trainings):
        return None
    return f"resources.gpus_per_worker is 0, so this trains on CPUs, though the cluster has GPUs: {gpus:g}"


def first_lack(trainings: Iterable[Resources], nodes: Sequence[Node]) -> str | None:
    """Why one of some trainings does not fit by itself; None if each does."""
    return next(filter(None, (lack_of(resources, nodes) for resources in trainings)), None)


def lack_of(resources: Resources, nodes: Sequence[Node]) -> str | None:
    """Why not even one training fits, and what to do; None if one does."""
    labels, accelerator = resources.node_labels, resources.accelerator
    labelled = [node for node in nodes if _has_labels(node, resources)]
    if not labelled:
        asked = ", ".join(f"{key}={value}" for key, value in labels.items())
        known = _listed(f"{key}={node.labels[key]}" for node in nodes for key in labels.keys() & node.labels.keys())
        return (
            f"no node has the labels {asked} (those there: {known}): change resources.node_labels, or add such a node"
        )
    suited = [node for node in labelled if accelerator is None or f"{ACCELERATOR}{accelerator}" in node.has]
    if not suited:
        kinds = (name for node in labelled for name in node.has if name.startswith(ACCELERATOR))
        known = _listed(kind.removeprefix(ACCELERATOR) for kind in kinds)
        return (
            f"no node has the accelerator {accelerator} (those there: {known}): change resources.accelerator, or add "
            f"such a node"
        )
    room = {node.name: fit for node in suited if (fit := room_on(node, resources))}
    if not room:
        return _beyond_the_greatest(resources, suited)
    if sum(room.values()) < resources.workers:
        fit = _listed(f"{count} on {name}" for name, count in room.items())
        return (
            f"a training asks for {resources.workers} workers of {_amounts(resources.per_worker)}, but "
            f"{sum(room.values())} fit ({fit}): lower the number of workers or what each asks for, or add nodes"
        )
    return None


def _beyond_the_greatest(resources: Resources, nodes: Sequence[Node]) -> str:
    needed = {name: amount for name, amount in resources.per_worker.items() if name in _KEYS}
    greatest = max(nodes, key=lambda node: [node.has.get(name, 0) for name in reversed(needed)])
    has = {name: greatest.has.get(name, 0.0) for name in needed}
    keys = " and ".join(_KEYS[name] for name in needed if has[name] < needed[name])
    return (
        f"a worker asks for {_amounts(needed)}, but the greatest node, {greatest.name}, has {_amounts(has)}: lower "
        f"{keys}, or add a greater node"
    )


def _has_labels(node: Node, resources: Resources) -> bool:
    return all(node.labels.get(key) == value for key, value in resources.node_labels.items())


def _amounts(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in resources.items() if name in _KEYS)


def _listed(things: Iterable[str]) -> str:
    """Things in words, each once; only the first of very many."""
    known = sorted(set(things))
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"{', '.join(known[:_SHOWN])}{more}" if known else "none"
