"""What the machine of a training does meanwhile: processors, memory, disk, network, GPUs, as MLflow measures them."""

import contextlib
import logging
from collections.abc import Callable

from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

log = logging.getLogger(__name__)

PREFIX = "system/"
"""Metrics that begin with it have a page of their own in the MLflow UI."""
_MONITORS: tuple[Callable[[], BaseMetricsMonitor], ...] = (
    CPUMonitor,
    DiskMonitor,
    NetworkMonitor,
    GPUMonitor,
    ROCMMonitor,
)


class SystemMetrics:
    """Measures the whole machine, not one training's part of it."""

    def __init__(self) -> None:
        self._monitors: list[BaseMetricsMonitor] = []
        for monitor in _MONITORS:
            # There may be no such device here, or not what reads it: a container may lack its network's counters.
            with contextlib.suppress(Exception):
                self._monitors.append(monitor())
        self.measure()  # What counts since the last call has none the first time.

    def measure(self) -> dict[str, float]:
        """Values of now by MLflow's names, in the units that they end in; processors: since the last call."""
        values: dict[str, float] = {}
        for monitor in list(self._monitors):
            try:
                monitor.collect_metrics()
                measured = monitor.aggregate_metrics() or {}
                monitor.clear_metrics()
                values |= {f"{PREFIX}{name}": float(value) for name, value in measured.items()}
            except Exception as error:
                # Whatever psutil or a driver raises; the rest goes on.
                self._monitors.remove(monitor)
                log.warning("%s measures no more: %s", type(monitor).__name__, error)
        return values
