"""Ending a training's process where it runs, also if it is stopped or stuck."""

import os
import signal

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..base.processes import ProcessIdentity, is_alive
from .heartbeat import Beat


def kill_beating(beat: Beat) -> None:
    """End the process whose heartbeat this is. Does not wait; a node that is gone has taken it along."""
    if beat.node and beat.process:
        here = NodeAffinitySchedulingStrategy(beat.node, soft=False)
        _kill_there.options(scheduling_strategy=here).remote(beat.process)


@ray.remote(num_cpus=0, max_retries=0)
def _kill_there(process: ProcessIdentity) -> None:
    kill_process(process)


def kill_process(process: ProcessIdentity) -> None:
    """End a process of this machine, and no other that has its pid by now."""
    if is_alive(process):
        os.kill(process.pid, signal.SIGKILL)
