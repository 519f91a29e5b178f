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
        ("cuda:1", 4, 2, "--device is 'cuda:1', but torchrun has started 2 processes here: name cpu or cuda, of"),
    ],
)
def test_what_cannot_be_is_refused(name: str | None, gpus: int, processes: int, said: str) -> None:
    with pytest.raises(UserError, match=f"^{said}"):
        own_device(name, gpus, 0, processes)


@pytest.mark.parametrize(("gpus", "there"), [(0, "cpu"), (2, "cpu, cuda:0, cuda:1")])
@pytest.mark.parametrize("name", ["", "meta", "gpu", "CUDA", "cpu:3", "cuda:2", "cuda:-1", "mps", "xpu"])
def test_of_a_device_that_is_not_there_a_line_says_what_there_is(
    monkeypatch: pytest.MonkeyPatch, gpus: int, there: str, name: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError) as caught:
        own_device(name, gpus)
    assert str(caught.value) == f"there is no device '{name}' here, only {there}: choose another --device"


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_of_a_device_that_is_there_and_does_not_work_a_line_says_why(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(getattr(torch, kind), "device_count", lambda: 100)
    with pytest.raises(UserError, match=rf"^device '{kind}:99' does not work: .*: choose another --device$"):
        own_device(f"{kind}:99", 0)
