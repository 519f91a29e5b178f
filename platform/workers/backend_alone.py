"""Ray Train's backend of a single worker: no process group, and it saves when it is pre-empted."""

from typing import Any

from ray.train.backend import Backend, BackendConfig

from . import preemption


class AloneConfig(BackendConfig):
    """One worker, which needs no process group."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What is done on the worker before it trains."""
        return _Alone


class _Alone(Backend):
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        # On the worker's main thread: training runs in another, where Python handles no signals.
        worker_group.execute(preemption.listen)
