"""A team whose nodes share nothing but the network: each has the dataset, and the orders of a test, on its own disk."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import Command
from machines import hindrance
from orders import Orders
from ray_nodes import HEAD
from small_sweep import write_tiny_shapes
from team import ORDERS, Team, team


@contextmanager
def far_team() -> Iterator[Team]:
    """A cluster of a head alone; skips where there can be none."""
    if reason := hindrance():
        pytest.skip(f"a node on a machine of its own needs root on Linux, and namespaces: {reason}")
    with team() as members:
        write_tiny_shapes(Command(members.home), data(members))
        yield members


def data(far: Team) -> Path:
    """Where each node has the dataset, and this machine, too."""
    return far.home / "shapes"


def join(far: Team, name: str) -> None:
    """Have a node of one CPU join, with the dataset on its disk."""
    shutil.copytree(data(far), far.home / name / data(far).name, dirs_exist_ok=True)
    far.nodes.join(name, cpus=1)


def workers(far: Team) -> list[str]:
    """The nodes that are part of the cluster, but for the head."""
    return [name for name in far.nodes.machines if name != HEAD and far.nodes.has_raylet(name)]


def driving(far: Team, job: str) -> str | None:
    """The node on which the driver of a job runs, by the module that it runs."""
    found = (name for name, machine in far.nodes.machines.items() if machine.processes(f"-m {job} spec.yaml"))
    return next(found, None)


def hold(far: Team, *keys: str, step: int) -> None:
    """These trainings make no step beyond that one, on any node."""
    for name in workers(far):
        for key in keys:
            Orders(far.nodes.machines[name].disk / ORDERS).hold(key, step)


def release(far: Team, *keys: str) -> None:
    """These trainings go on."""
    for name in workers(far):
        for key in keys:
            Orders(far.nodes.machines[name].disk / ORDERS).release(key)
