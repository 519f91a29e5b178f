"""A first spec for a user's own images, with the lists and class names that it needs beside them.

What is there already is kept.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median_low

from ..trainers.data.images import is_file
from ..trainers.data.lists import has_image_suffix, read_list
from ..trainers.data.notes import FEW, few_note
from ..trainers.data.survey import FoundClasses, Survey, draw_validation, find_classes, given_validation, survey
from ..trainers.errors import UserError

SPEC = "advseg.yaml"
_CROP = range(16, 192 + 1, 8)
"""Heights and widths of crops in pixels; the largest still trains on a CPU."""
_LARGEST_IMAGE = 1024
"""Longer side in pixels beyond which images are scaled down."""
_STEPS = 2000
_SHOWN = 3


def init_data(folder: Path, seed: int) -> list[str]:
    """Write classes.yaml, the lists and the spec to a folder of images/ and masks/; return what there is to say.

    Raises UserError, before anything is written, for a folder that cannot be trained on.
    """
    found = survey(folder)
    _refuse_half_a_draw(folder)
    given = given_validation(found.pairs)
    validation = given or draw_validation(found.pairs, seed)
    said = [f"{len(found.pairs)} images with a mask, {len(found.unlabelled)} without"]
    if found.copies:
        said.append(f"left out, as they equal images with a mask: {', '.join(found.copies)}")
    said += [f"not read in {place}: {counts}" for place, counts in found.left_out.items()]
    if given:
        said.append(f"validation images are those of the folders, {len(given)} of them; none were drawn")
    if len(validation) < FEW and not (folder / "val.txt").exists():
        said.append(few_note(len(validation)))
    said += _unlisted(folder, found)
    contents: dict[str, Callable[[], str]] = {
        "classes.yaml": lambda: _classes_text(find_classes(found.pairs)),
        "labelled.txt": lambda: _list_text(pair.id for pair in found.pairs if pair.id not in validation),
        "val.txt": lambda: _list_text(pair.id for pair in found.pairs if pair.id in validation),
        "unlabelled.txt": lambda: _list_text(found.unlabelled),
        SPEC: lambda: _spec_text(folder, found),
    }
    if not found.unlabelled:
        del contents["unlabelled.txt"]
    missing = {name: text() for name, text in contents.items() if not (folder / name).exists()}
    _write_all({folder / name: text for name, text in missing.items()})
    said += [f"{'written' if name in missing else 'kept   '}  {folder / name}" for name in contents]
    spec = shlex.quote(str(folder / SPEC))
    return [*said, "next:", f"  advseg data check {spec}", f"  advseg train {spec}"]


def _write_all(texts: Mapping[Path, str]) -> None:
    """Write new files, all or none: some of them would be kept by the next call, as a user's own."""
    written: list[Path] = []
    try:
        for path, text in texts.items():
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except BaseException as error:
        for path in written:
            path.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(written[-1])
        raise


def _refuse_half_a_draw(folder: Path) -> None:
    """Of a new list beside an old one, images might be on both."""
    there = {name: (folder / name).exists() for name in ("labelled.txt", "val.txt")}
    if len(set(there.values())) > 1:
        kept, lacking = sorted(there, key=lambda name: not there[name])
        raise UserError(
            f"{folder / kept} exists, but {lacking} does not: write it, or remove {kept} so that both are drawn"
        )


def _unlisted(folder: Path, found: Survey) -> list[str]:
    """What to do with images that came after the lists, if there are any."""
    lists = [path for name in ("labelled", "val", "unlabelled", "test") if is_file(path := folder / f"{name}.txt")]
    listed = {_id(entry.image) for path in lists for entry in read_list(path)}
    come = {"labelled.txt": [pair.id for pair in found.pairs], "unlabelled.txt": found.unlabelled}
    said = []
    for path in lists:
        if left := [id for id in come.get(path.name, ()) if id not in listed]:
            shown = ", ".join(left[:_SHOWN]) + (", …" if len(left) > _SHOWN else "")
            said.append(f"{len(left)} images are on no list, add them to {path}: {shown}")
    return [*said, "or remove the lists, and they are drawn anew"] if said else []


def _id(image: str) -> str:
    """The id of an image as a list has it."""
    return str(Path(image.lstrip("/").removeprefix("images/")).with_suffix("")) if has_image_suffix(image) else image


def _classes_text(classes: FoundClasses) -> str:
    lines = [
        "# The classes, in the order of their ids from 0. Give them names, each its own.",
        "# Colours are those of RGB masks, and of pictures. Pixels of a colour with `ignore: true` count nowhere.",
    ]
    for id, colour in enumerate(classes.colours):
        absent = " # no mask holds it" if id in classes.absent else ""
        lines.append(f"- {{name: class_{id}, colour: {list(colour)}}}{absent}")
    return "".join(f"{line}\n" for line in lines)


def _list_text(ids: Iterable[str]) -> str:
    return "".join(f"{id}\n" for id in ids)


def _spec_text(folder: Path, found: Survey) -> str:
    if found.unlabelled or (folder / "unlabelled.txt").exists():
        unlabelled = "unlabelled # unlabelled.txt: images without masks"
        method = f"""\
  # The weights and threshold, here the paper's. A job `sweep` finds better ones for your images.
  lambda_adv: 0.01
  lambda_semi_adv: 0.001
  lambda_semi: 0.1
  threshold: 0.2
  semi_start: {_STEPS // 4} # until then nothing is learnt from unlabelled pixels"""
    else:
        unlabelled = "null # there were no images without masks"
        method = """\
  # The weights. Two need unlabelled images and are 0, as there are none: with as many as you can get,
  # name their list above and take the paper's 0.001 and 0.1.
  lambda_adv: 0.01
  lambda_semi_adv: 0
  lambda_semi: 0"""
    size = [median_low(pair.size[axis] for pair in found.pairs) for axis in (0, 1)]
    resize = ""
    if max(size) > _LARGEST_IMAGE:
        size = [max(8, round(_LARGEST_IMAGE * side / max(size) / 8) * 8) for side in size]
        resize = f"\n  resize: {size} # height and width that large images are scaled to; smaller files load faster"
    crop = [max((side for side in _CROP if side <= longest), default=_CROP[0]) for longest in size]
    return f"""\
# A first training on these images. Change first:
#   the names in classes.yaml
#   trainer.augmentation, so that no change takes an image out of its class
#   trainer.steps: {_STEPS} are a first look; five times as many learn more
job: train
name: "{_name(folder)}"

dataset:
  layout: folder # images/, masks/, classes.yaml
  root: . # relative to this file
  labelled: labelled # labelled.txt: images whose masks are trained on
  unlabelled: {unlabelled}
  validation: val # val.txt: a fifth of the images with masks

model: {{architecture: compact, width: 32}} # trains on a CPU; deeplab_v2_resnet101 wants a GPU

method:
  name: adversarial
{method}
  discriminator: {{widths: [16, 32, 64], classifier: dense}}
  discriminator_optimizer: {{name: adam, lr: 2e-4}}

trainer:
  steps: {_STEPS}
  batch_size: 8
  evaluate_every: {_STEPS // 10}{resize}
  segmenter_optimizer: {{name: adamw, lr: 3e-3, betas: [0.9, 0.999], weight_decay: 0.01}}
  head_lr_factor: 1
  augmentation:
    crop: {crop} # height and width; larger sees more at once and takes longer
    scale: [0.75, 1.5]
    mirror: true # false where left and right differ
    rotate: false # true where there is no up and down, as from above; asks for a square crop
    jitter: {{brightness: 0.2, contrast: 0.2, saturation: 0.2, hue: 0.02}} # less where colour tells the class
"""


def _name(folder: Path) -> str:
    """The folder's name as the name of a job."""
    slug = re.sub("[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:63]
    return slug if len(slug) > 1 else "my-images"
