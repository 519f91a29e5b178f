"""Whether a pack's images are of the sizes at which a spec's trainings read them."""

from collections.abc import Iterator
from pathlib import Path

from ...models.resize import LongerSide, Resize
from ...trainers.data.dataset import DatasetError
from ...trainers.data.pack_card import read_card
from ...trainers.data.scaled import other_resize, shown_resize
from ..base.keys import S3
from .dimensions import Choices, Dimension
from .errors import Problem
from .spec import Spec

_RESIZE = "trainer.resize."


def packed_resize(spec: Spec) -> Resize | None:
    """As `resized` of the dataset, of a pack in a folder of this machine; what is no pack is told by who opens it."""
    if spec.dataset.pack is None or spec.dataset.pack.startswith(S3):
        return None
    try:
        return read_card(Path(spec.dataset.pack)).resize
    except (DatasetError, OSError):
        return None


def unfit_sizes(spec: Spec, packed: Resize | None) -> Iterator[Problem]:
    """A pack of training images at one `trainer.resize`, `packed`, serves that alone; one without serves any."""
    if other := other_resize(packed, spec.trainer.resize):
        yield Problem("dataset.pack", other)
    for where, key, dimension in _varied(spec) if packed else ():
        name = key.removeprefix(_RESIZE)
        only = {getattr(packed, name)} if name != key and isinstance(packed, LongerSide) else set()
        if name != key and {*_ends(dimension)} != only:
            varied = (", " if isinstance(dimension, Choices) else " to ").join(map(str, _ends(dimension)))
            yield Problem(
                f"{where}.{key}",
                f"cannot be varied ({varied}): the pack {spec.dataset.pack} holds training images at trainer.resize "
                f"{shown_resize(packed)} alone: remove the key, or name a pack that was written without --resized",
            )


def _varied(spec: Spec) -> Iterator[tuple[str, str, Dimension]]:
    """Where a space stands in the spec, with each of its keys."""
    for name, arm in spec.arms.items():
        where = f"sweep.arms.{name}.space" if name else "sweep.space"
        yield from ((where, key, dimension) for key, dimension in (arm.sweep.space if arm.sweep else {}).items())


def _ends(dimension: Dimension) -> tuple[object, ...]:
    return dimension.choices if isinstance(dimension, Choices) else (dimension.low, dimension.high)
