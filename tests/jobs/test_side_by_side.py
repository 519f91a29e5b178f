from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from advseg.jobs import side_by_side
from advseg.platform.spec.spec import Spec
from advseg.platform.spec.spec_file import load_spec


@pytest.mark.parametrize(
    ("gpus", "processes", "devices"),
    [
        (0, 2, ["cpu"] * 5),
        (1, 2, ["cuda:0"] * 5),
        (4, 2, ["cuda:0", "cuda:1"] * 3),
        (2, 3, ["cuda:0", "cuda:1", "cuda:0", "cuda:0", "cuda:1"]),
    ],
)
def test_trainings_at_a_time_are_on_gpus_of_their_own_where_there_are_as_many(
    spec: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, processes: int, devices: list[str]
) -> None:
    taken: list[str] = []

    class Pool:
        def submit(self, train: Callable[..., None], spec: Spec, folder: Path, device: torch.device) -> Future[None]:
            taken.append(str(device))
            running.append(future := Future())
            return future

    def wait(futures: Mapping[Future[None], Any], return_when: str) -> Any:
        assert len(futures) <= processes
        first = running.pop(0)
        first.set_result(None)
        return type("Waited", (), {"done": {first}})

    running: list[Future[None]] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(side_by_side, "wait", wait)
    monkeypatch.setattr(side_by_side, "pool_of", lambda _: nullcontext(Pool()))
    told: list[Path] = []
    asked = {Path(str(number)): load_spec(spec) for number in range(5)}
    side_by_side.train_side_by_side(asked, processes, told.append)

    assert taken == devices[:5]
    assert told == list(asked)
