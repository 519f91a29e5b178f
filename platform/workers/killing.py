"""Ending a training's process where it runs, also if it is stopped or stuck."""

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..base.processes import ProcessIdentity, kill
from .heartbeat import Beat


def kill_beating(beat: Beat) -> None:
    """End the process whose heartbeat this is. Does not wait; a node that is gone has taken it along."""
    if beat.node and beat.process:
        here = NodeAffinitySchedulingStrategy(beat.node, soft=False)
        _kill_there.options(scheduling_strategy=here).remote(beat.process)


@ray.remote(num_cpus=0, max_retries=0)
def _kill_there(process: ProcessIdentity) -> None:
    kill(process)
