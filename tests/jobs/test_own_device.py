import pytest
import torch

from advseg.jobs.own_device import own_device
from advseg.trainers.errors import UserError


@pytest.mark.parametrize(
    ("name", "gpus", "place", "processes", "device"),
    [
        (None, 0, 0, 1, "cpu"),
        (None, 0, 1, 2, "cpu"),
        (None, 4, 0, 1, "cuda:0"),
        (None, 4, 3, 4, "cuda:3"),
        ("cuda", 4, 0, 1, "cuda:0"),
        ("cuda", 4, 1, 2, "cuda:1"),
        ("cpu", 4, 1, 8, "cpu"),
    ],
)
def test_each_process_has_a_gpu_of_its_own_where_there_are_any(
    name: str | None, gpus: int, place: int, processes: int, device: str
) -> None:
    assert own_device(name, gpus, place, processes) == torch.device(device)


@pytest.mark.parametrize(
    ("name", "gpus", "processes", "said"),
    [
        (
            None,
            1,
            2,
            "torchrun has started 2 processes here, but there is 1 GPU, and no two can share one: lower",
        ),
        ("cuda", 2, 4, "torchrun has started 4 processes here, but there are 2 GPUs, and no two can share one: lower"),
        ("cuda:1", 4, 2, "--device cuda:1 is one device, but torchrun has started 2 processes here: name cpu or cuda"),
        ("cuda:99", 0, 1, "there is no device 'cuda:99' here: .*: name another with --device, as cpu or cuda:0"),
        ("gpu", 0, 1, "there is no device 'gpu' here: .*: name another with --device, as cpu or cuda:0"),
    ],
)
def test_what_cannot_be_is_refused(name: str | None, gpus: int, processes: int, said: str) -> None:
    with pytest.raises(UserError, match=f"^{said}"):
        own_device(name, gpus, 0, processes)
