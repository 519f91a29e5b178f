"""A first spec for a user's own images."""

import re
from collections.abc import Iterator
from pathlib import Path

import torch

from ..models.decoding import PLAIN, Decoding
from ..trainers.described import device_name
from .first_training import BATCH, Length, Scale

_SWEPT = 20
"""Trials."""
_ON_A_GPU = "resources: {gpus_per_worker: 0.5} # of what `advseg submit` trains: two trials share a GPU"


def first_spec(
    folder: Path,
    scale: Scale,
    length: Length,
    decoding: Decoding,
    *,
    unlabelled: bool,
    test: bool,
    device: torch.device,
) -> str:
    """The text of a spec for the lists in a folder, with a sweep of the same as a comment.

    `unlabelled` is whether there are images without masks, `test` whether there are some to test by, and `device` where
    the length was measured.
    """
    name = name_of(folder)
    return "\n".join(
        [
            *_head(name, length, device_name(device)),
            *_dataset(unlabelled, test, decoding),
            "",
            f"model: {{architecture: compact, width: {scale.width}}} # up to 56: wider learns more, in more time",
            "",
            *_method(length, unlabelled),
            "",
            *_trainer(scale, length),
            "",
            *([_ON_A_GPU, ""] if device.type == "cuda" else []),
            *_sweep(name, length, unlabelled),
            *(_comparison() if unlabelled else ()),
            "",
        ]
    )


def name_of(folder: Path) -> str:
    """The folder's name as the name of a job."""
    slug = re.sub("[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:63]
    return slug if len(slug) > 1 else "my-images"


def about(seconds: float) -> str:
    """A duration in words, no more exact than it is known."""
    if seconds < 90:
        return f"about {max(10, 10 * round(seconds / 10))} seconds"
    return f"about {round(seconds / 60)} minutes"


def _head(name: str, length: Length, machine: str) -> Iterator[str]:
    yield "# A first training on these images. Change first:"
    yield "#   the names in classes.yaml"
    yield "#   trainer.augmentation, so that no change takes an image out of its class"
    yield f"#   trainer.steps: {length.steps} are a first look; five times as many learn more"
    yield "#   model, where there are a GPU and start weights: deeplab_v2_resnet101 learns more than compact"
    yield f"# On {machine} it takes {about(length.seconds)}, and {about(length.first)} to its first figure:"
    yield "# `advseg data init` measured a few steps, and chose network, sizes and steps accordingly."
    yield "job: train"
    yield f'name: "{name}"'
    yield ""


def _dataset(unlabelled: bool, test: bool, decoding: Decoding) -> Iterator[str]:
    listed = (
        "unlabelled # unlabelled.txt: images without masks"
        if unlabelled
        else "null # there were no images without masks"
    )
    yield "dataset:"
    yield "  layout: folder # images/, masks/, classes.yaml"
    yield "  root: . # relative to this file"
    yield "  labelled: labelled # labelled.txt: images whose masks are trained on"
    yield f"  unlabelled: {listed}"
    yield "  validation: val # val.txt: images that trainings are judged by"
    if test:
        yield "  test: test # test.txt: images that no training reads; a sweep's champion is judged by them once"
    if decoding.scale:
        yield f"  scale: {list(decoding.scale)} # what becomes black and white of images with 16 bits a channel"
    if decoding.orientation != PLAIN.orientation:
        yield f"  orientation: {decoding.orientation} # images are not turned as their EXIF data say"


def _method(length: Length, unlabelled: bool) -> Iterator[str]:
    yield "method:"
    yield "  name: adversarial"
    if unlabelled:
        yield "  # The weights and threshold, here the paper's. The sweep below finds better ones for your images."
        yield "  lambda_adv: 0.01"
        yield "  lambda_semi_adv: 0.001"
        yield "  lambda_semi: 0.1"
        yield "  threshold: 0.2"
        yield f"  semi_start: {length.steps // 4} # until then nothing is learnt from unlabelled pixels"
    else:
        yield "  # The weights. Two need unlabelled images and are 0, as there are none: with as many as you can get,"
        yield "  # name their list above and take the paper's 0.001 and 0.1."
        yield "  lambda_adv: 0.01"
        yield "  lambda_semi_adv: 0"
        yield "  lambda_semi: 0"
    yield "  discriminator: {widths: [16, 32, 64], classifier: dense}"
    yield "  discriminator_optimizer: {name: adam, lr: 2e-4}"


def _trainer(scale: Scale, length: Length) -> Iterator[str]:
    yield "trainer:"
    yield f"  steps: {length.steps}"
    yield f"  batch_size: {BATCH}"
    yield f"  evaluate_every: {length.evaluate_every}"
    if length.judges is not None:
        yield f"  evaluation: {{images: {length.judges}}} # of the validation images; `advseg evaluate` takes all"
    if scale.longer:
        yield f"  resize: {{longer: {scale.longer}}} # each in its proportions; larger shows finer things, slower"
    yield "  segmenter_optimizer: {name: adamw, lr: 3e-3, betas: [0.9, 0.999], weight_decay: 0.01}"
    yield "  head_lr_factor: 1"
    yield "  augmentation:"
    yield f"    crop: {list(scale.crop)} # height and width; larger sees more at once and takes longer"
    yield "    scale: [0.75, 1.5]"
    yield "    mirror: true # false where left and right differ"
    yield "    rotate: false # true where there is no up and down, as from above; asks for a square crop"
    yield "    jitter: {brightness: 0.2, contrast: 0.2, saturation: 0.2, hue: 0.02} # less where colour tells the class"


def _sweep(name: str, length: Length, unlabelled: bool) -> Iterator[str]:
    yield "# A sweep finds better weights. It takes as long as its trials one after another, as two share the machine."
    yield "# Set `job: sweep` above, take the `# ` away from `sweep:` on, and in this folder:"
    yield "#   advseg up"
    yield "#   advseg submit advseg.yaml --follow"
    yield "# sweep:"
    yield f"#   trials: {_SWEPT}"
    yield "#   space:"
    yield "#     method.lambda_adv: {low: 0.001, high: 1, log: true}"
    if unlabelled:
        yield "#     method.lambda_semi: {low: 0.03, high: 3, log: true}"
        yield "#     method.threshold: {low: 0, high: 0.9}"
    yield "#     trainer.segmenter_optimizer.lr: {low: 1e-3, high: 1e-2, log: true}"
    yield f"#   pruner: {{name: successive_halving, min_resource: {2 * length.evaluate_every}}} # ends the worse half"
    yield f'#   register_as: "{name}" # the best trial becomes this model, if it beats the baseline,'
    yield "#   confirm: {candidates: 1, seeds: 5} # and its champion, if it does so on five fresh seeds"


def _comparison() -> Iterator[str]:
    yield "# # Which method is best on these images? Instead of `trials`, `space` and `confirm` above:"
    yield "# #   arms: # they take turns; the report ranks them"
    yield "# #     adversarial:"
    yield f"# #       trials: {_SWEPT // 2}"
    yield "# #       space:"
    yield "# #         method.lambda_adv: {low: 0.001, high: 1, log: true}"
    yield "# #         method.lambda_semi: {low: 0.03, high: 3, log: true}"
    yield "# #         method.threshold: {low: 0, high: 0.9}"
    yield "# #     consistency:"
    yield "# #       method: {name: consistency}"
    yield f"# #       trials: {_SWEPT // 2}"
    yield "# #       space:"
    yield "# #         method.lambda_semi: {low: 0.1, high: 10, log: true}"
    yield "# #         method.threshold: {low: 0.5, high: 0.98}"
    yield "# #         method.views: {choices: [1, 2]}"
    yield "# #   confirm: {candidates: 1, seeds: 6} # the best trial of each arm, on six fresh seeds"
