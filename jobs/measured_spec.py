"""A first spec of a length that was measured on this machine."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..models.decoding import Decoding
from ..models.resize import Size
from ..platform.spec.paths import anchor
from ..platform.spec.spec_file import parse_spec
from ..trainers.bounded_yaml import read_yaml
from ..trainers.data.dataset import Dataset
from ..trainers.data.opening import open_dataset
from ..trainers.described import device_name
from ..trainers.devices import usual_device
from ..trainers.pace import Pace
from ..trainers.recipe import Recipe
from .first_spec import about, first_spec
from .first_training import PROVISIONAL, Length, length_for, scale_for

MeasurePace = Callable[[Recipe, Dataset], Pace]


def measured_spec(folder: Path, sizes: Sequence[Size], decoding: Decoding, pace_of: MeasurePace) -> tuple[str, str]:
    """The text of a spec for images of these heights and widths, whose lists lie in the folder, and what it takes.

    Raises UserError for a dataset that cannot be trained on.
    """
    device = usual_device()
    scale = scale_for(sizes, on_gpu=device.type == "cuda")
    unlabelled, test = ((folder / name).exists() for name in ("unlabelled.txt", "test.txt"))

    def text(length: Length) -> str:
        return first_spec(folder, scale, length, decoding, unlabelled=unlabelled, test=test, device=device)

    document = read_yaml(text(PROVISIONAL))
    anchor(document, folder)
    spec = parse_spec(document, source=f"the first spec for {folder}")
    dataset = open_dataset(spec.dataset)
    length = length_for(
        pace_of(spec.recipe(), dataset),
        labelled=len(dataset.labelled),
        unlabelled=len(dataset.unlabelled),
        validation=len(dataset.validation),
    )
    return text(length), (
        f"a first training takes {about(length.seconds)} on {device_name(device)}, and {about(length.first)} to its "
        f"first figure, as a few steps were measured"
    )
