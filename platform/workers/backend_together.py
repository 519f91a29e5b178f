"""Ray Train's backend of several workers: a process group of PyTorch's, and they save when one is pre-empted."""

from typing import Any

from ray.train.torch.config import TorchConfig, _TorchBackend

from . import preemption


class TogetherConfig(TorchConfig):
    """Several workers in a process group."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """What is done on the workers before they train."""
        return _Together


class _Together(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        super().on_start(worker_group, backend_config)
        # On the workers' main threads: training runs in others, where Python handles no signals.
        worker_group.execute(preemption.listen)
