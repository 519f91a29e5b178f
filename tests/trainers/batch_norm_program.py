"""A short training with batch norm on several workers, each of which writes down what it has before and after.

python batch_norm_program.py <dataset> <directory> <rank> <size>
"""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from torch import distributed as dist

from advseg.models import architectures
from advseg.models.architectures import DeepLabSettings
from advseg.trainers import distributed
from advseg.trainers.distributed import World
from advseg.trainers.loop import Training
from advseg.trainers.optimizers import SGDSettings
from advseg.trainers.reporter import JsonLinesReporter

_spec = importlib.util.spec_from_file_location("training_program", Path(__file__).parent / "training_program.py")
assert _spec and _spec.loader
training_program = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(training_program)


class Watched(World):
    """Keeps the statistics of every call."""

    def mean_statistics(self, network: torch.nn.Module) -> None:
        before = statistics_of(network)
        super().mean_statistics(network)
        CALLS.append((before, statistics_of(network)))


CALLS: list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]] = []


def statistics_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


def main(root: str, directory: str, rank: str, size: str) -> None:
    torch.set_num_threads(1)
    folder, world = Path(directory), Watched(rank=int(rank), size=int(size))
    store = dist.FileStore(str(folder / "store"), world.size)
    dist.init_process_group("gloo", store=store, rank=world.rank, world_size=world.size)
    # A ResNet of four blocks is a ResNet.
    architectures.RESNET_BLOCKS["deeplab_v2_resnet50"] = (1, 1, 1, 1)
    recipe = replace(
        training_program.recipe_of(
            "supervised",
            batch_size=3,
            steps=3,
            evaluate_every=2,
            segmenter_optimizer=SGDSettings(lr=1e-6),
        ),
        segmenter=DeepLabSettings(architecture="deeplab_v2_resnet50"),
    )
    training = Training(recipe, training_program.open_shapes(Path(root)), folder, world=world)
    training.run(JsonLinesReporter(folder / f"{rank}.jsonl"))
    end = training.method.segmenter.state_dict()
    same, others = torch.ones(3), torch.ones(3) + world.rank
    found = [world.strayed([weights], torch.device("cpu")) for weights in (same, others)]
    with mock.patch.object(distributed, "_PIECE", 5):
        spread = world.spread(b"from worker " + rank.encode(), torch.device("cpu"))
    torch.save({"calls": CALLS, "end": end, "strayed": found, "spread": spread}, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
