import pytest
import torch

from advseg.platform.spec.resources import Resources
from advseg.platform.workers.device import device_by


@pytest.mark.parametrize(
    ("gpus_per_worker", "given", "device"),
    [
        (0, None, "cpu"),
        (0, "cuda:1", "cpu"),
        (0.5, None, "cuda:0"),
        (1, None, "cuda:0"),
        (1, "cuda:3", "cuda:3"),
        (2, "cuda:2", "cuda:2"),
    ],
)
def test_a_worker_computes_on_a_gpu_only_if_it_has_one(
    gpus_per_worker: float, given: str | None, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gpu = None if given is None else torch.device(given)

    assert device_by(Resources(gpus_per_worker=gpus_per_worker), gpu) == torch.device(device)
