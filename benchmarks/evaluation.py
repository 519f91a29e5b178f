"""Evaluation of one image of 2048 x 1024 in sliding windows of 801 at 2/3 stride, DeepLab-v2, 19 classes.

    python benchmarks/evaluation.py [--device cuda] [--network deeplab_v2_resnet101]

The plain program reads one window at a time in float32. Ours is what `advseg evaluate` does, as it is and in bfloat16;
how far its classes differ from the plain ones is printed too (weights are fresh, so near-ties abound).
"""

import argparse
from collections.abc import Callable

import source  # noqa: F401
import torch
from timing import interleaved, machine
from torch import Tensor, nn

from advseg.models.architectures import DeepLabSettings, build_segmenter
from advseg.models.inference import EvaluationSettings, predict_probabilities, window_starts
from advseg.trainers.losses import argmax
from advseg.trainers.speed import SpeedSettings

CLASSES, HEIGHT, WIDTH = 19, 1024, 2048
SLIDING = EvaluationSettings(mode="sliding")


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


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--network", default="deeplab_v2_resnet50")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    device = torch.device(asked.device)
    torch.manual_seed(0)
    settings = DeepLabSettings(architecture=asked.network)
    segmenter, twin = (build_segmenter(settings, CLASSES).to(device).eval() for _ in range(2))
    twin.load_state_dict(segmenter.state_dict())
    pixels = 50 * torch.randn(1, 3, HEIGHT, WIDTH, device=device)
    programs: dict[str, Callable[[], Tensor]] = {
        "plain, float32": lambda: plain(segmenter, pixels),
        "ours": ours(twin, pixels, SpeedSettings()),
        "ours, bfloat16": ours(twin, pixels, SpeedSettings(autocast="bfloat16")),
    }
    print(f"{machine()}\n{asked.network}, {WIDTH} x {HEIGHT}\n")
    seen: dict[str, Tensor] = {}

    def keeping(name: str) -> Callable[[], None]:
        return lambda: seen.update({name: programs[name]()})

    settle = torch.cuda.synchronize if asked.device == "cuda" else lambda: None
    timings = interleaved(
        {name: keeping(name) for name in programs}, rounds=asked.rounds, warmup=asked.device == "cuda", settle=settle
    )
    print(timings.table("s"))
    truth = seen.pop("plain, float32")
    for name, classes in seen.items():
        print(f"{name}: {(classes != truth).float().mean():.2%} of pixels in another class than plain")


if __name__ == "__main__":
    main()
