"""Evaluation of one image of 2048 x 1024 in sliding windows of 801 at 2/3 stride, and of images of mixed sizes.

    python benchmarks/evaluation.py [--device cuda] [--network deeplab_v2_resnet101] [--images 200]

The plain programs read one window, and one image, at a time in float32, and wait for each. Ours is what
`advseg evaluate` does, as it is and in bfloat16; how far its classes differ from the plain ones is printed too (weights
are fresh, so near-ties abound). The images of the list are PNGs of the sizes of VOC's.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import source  # noqa: F401
import torch
from timing import interleaved, machine
from torch import Tensor, nn

from advseg.models.architectures import (
    ARCHITECTURES,
    DeepLabSettings,
    Segmenter,
    SegmenterSettings,
    build_segmenter,
    normalisation_of,
)
from advseg.models.inference import EvaluationSettings, predict_probabilities, window_starts
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.images import IGNORE_INDEX
from advseg.trainers.data.samples import FileSample
from advseg.trainers.distributed import World
from advseg.trainers.evaluate import evaluate
from advseg.trainers.losses import argmax
from advseg.trainers.speed import SpeedSettings

CLASSES, HEIGHT, WIDTH = 19, 1024, 2048
SLIDING = EvaluationSettings(mode="sliding")
COMMON, OTHERS = {(375, 500): 0.42, (333, 500): 0.22, (500, 375): 0.1, (500, 333): 0.05}, (280, 420)
"""Shares of the common sizes among VOC's images, and the heights of the others, which are 500 wide."""


@torch.inference_mode()
def plain(segmenter: nn.Module, pixels: Tensor) -> Tensor:
    """Classes [1, H, W]: probabilities of each window added up."""
    side = SLIDING.window[0]
    total = pixels.new_zeros(1, CLASSES, HEIGHT, WIDTH)
    for top in window_starts(HEIGHT, side, SLIDING.stride):
        for left in window_starts(WIDTH, side, SLIDING.stride):
            window = pixels[..., top : top + side, left : left + side]
            total[..., top : top + side, left : left + side] += segmenter(window).softmax(1)
    return total.argmax(1)


def ours(segmenter: nn.Module, pixels: Tensor, speed: SpeedSettings) -> Callable[[], Tensor]:
    """A program that gives the classes [1, H, W] as our evaluation does."""

    @torch.inference_mode()
    def classes() -> Tensor:
        speed.arrange(segmenter)
        arranged = pixels.contiguous(memory_format=speed.memory_format)
        with speed.precision(pixels.device):
            return argmax(predict_probabilities(segmenter, arranged, SLIDING))  # type: ignore[arg-type]

    return classes


def write_images(root: Path, count: int) -> Dataset:
    """Validation images of mixed sizes and their masks."""
    rng = np.random.default_rng(0)
    sizes, shares = list(COMMON), [*COMMON.values(), 1 - sum(COMMON.values())]
    samples = []
    for number in range(count):
        kind = rng.choice(len(shares), p=shares)
        height, width = sizes[kind] if kind < len(sizes) else (int(rng.integers(*OTHERS)), 500)
        image, mask = (root / f"{number}{name}.png" for name in ("", "-mask"))
        colours = rng.integers(0, 256, (height // 25, width // 25, 3)).astype(np.uint8)
        ids = rng.integers(0, CLASSES, (height // 75, width // 75)).astype(np.uint8)
        cv2.imwrite(str(image), cv2.resize(colours, (width, height), interpolation=cv2.INTER_CUBIC))
        cv2.imwrite(str(mask), cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST))
        samples.append(FileSample(id=str(number), image=image, mask=mask))
    return Dataset(
        labelled=(),
        unlabelled=(),
        validation=tuple(samples),
        classes=tuple(map(str, range(CLASSES))),
        palette=((0, 0, 0),) * CLASSES,
        ignore_index=IGNORE_INDEX,
        digest="",
    )


@torch.inference_mode()
def plain_matrix(segmenter: Segmenter, dataset: Dataset, settings: SegmenterSettings, device: torch.device) -> Tensor:
    """The confusion matrix [K, K], image by image."""
    normalise, matrix = normalisation_of(settings), torch.zeros(CLASSES**2, dtype=torch.int64)
    for sample in dataset.validation:
        mask = sample.read_mask()
        assert mask is not None
        image = torch.from_numpy(sample.read_image().copy()).to(device).permute(2, 0, 1)[None]
        predicted = argmax(segmenter(normalise(image)).softmax(1))[0]
        truth = torch.from_numpy(mask).to(device).long()
        known = truth != IGNORE_INDEX
        matrix += torch.bincount(truth[known] * CLASSES + predicted[known], minlength=CLASSES**2).cpu()
    return matrix.view(CLASSES, CLASSES)


def our_matrix(
    segmenter: Segmenter, dataset: Dataset, settings: SegmenterSettings, device: torch.device, speed: SpeedSettings
) -> Tensor:
    """The confusion matrix [K, K] of our evaluation."""
    return evaluate(
        speed.arrange(segmenter),
        dataset,
        normalisation_of(settings),
        settings=EvaluationSettings(),
        resize=None,
        world=World(),
        device=device,
        dtype=torch.float32,
        speed=speed,
    ).matrix


def compare(
    head: str,
    programs: dict[str, Callable[[], Tensor]],
    different: Callable[[Tensor, Tensor], float],
    *,
    rounds: int,
    device: torch.device,
) -> None:
    """Time programs, and print the share of pixels that others call otherwise than the first."""
    seen: dict[str, Tensor] = {}

    def keeping(name: str) -> Callable[[], None]:
        return lambda: seen.update({name: programs[name]()})

    gpu = device.type == "cuda"
    settle = torch.cuda.synchronize if gpu else lambda: None
    timings = interleaved({name: keeping(name) for name in programs}, rounds=rounds, warmup=gpu, settle=settle)
    print(f"{head}\n{timings.table('s')}")
    (_, plain), *others = seen.items()
    for name, found in others:
        print(f"{name}: {different(found, plain):.2%} of pixels in another class than plain")
    print(flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--network", default="deeplab_v2_resnet50", choices=list(ARCHITECTURES))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    device = torch.device(asked.device)
    torch.manual_seed(0)
    settings = ARCHITECTURES[asked.network](architecture=asked.network)
    segmenter, twin = (build_segmenter(settings, CLASSES).to(device).eval() for _ in range(2))
    twin.load_state_dict(segmenter.state_dict())
    fast = SpeedSettings(), SpeedSettings(autocast="bfloat16")
    print(f"{machine()}\n{asked.network}\n", flush=True)

    if isinstance(settings, DeepLabSettings):
        pixels = 50 * torch.randn(1, 3, HEIGHT, WIDTH, device=device)
        compare(
            f"{WIDTH} x {HEIGHT} in windows",
            {
                "plain, float32": lambda: plain(segmenter, pixels),
                "ours": ours(twin, pixels, fast[0]),
                "ours, bfloat16": ours(twin, pixels, fast[1]),
            },
            lambda found, plain: float((found != plain).float().mean()),
            rounds=asked.rounds,
            device=device,
        )
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_images(Path(folder), asked.images)
        compare(
            f"{asked.images} images of mixed sizes",
            {
                "plain, float32": lambda: plain_matrix(segmenter, dataset, settings, device),
                "ours": lambda: our_matrix(twin, dataset, settings, device, fast[0]),
                "ours, bfloat16": lambda: our_matrix(twin, dataset, settings, device, fast[1]),
            },
            # By the matrices: at least so many.
            lambda found, plain: float((found - plain).abs().sum() / 2 / plain.sum()),
            rounds=asked.rounds,
            device=device,
        )


if __name__ == "__main__":
    main()
