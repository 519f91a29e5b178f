"""Batches on a GPU, which travel from pinned memory in one piece, are those on a CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advseg.models.architectures import CAFFE_MEANS
from advseg.trainers.batches import Batches
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.samples import FileSample
from advseg.trainers.data.strong import StrongSettings
from advseg.trainers.distributed import World
from advseg.trainers.drawing import Drawing
from advseg.trainers.methods.method import Wants
from advseg.trainers.settings import TrainerSettings

STRONG = StrongSettings(blur_probability=1.0, cutmix_probability=1.0)
WANTS = Wants(real=True, unlabelled=True, unlabelled_labels=True, strong=(STRONG, StrongSettings()))
SETTINGS = TrainerSettings(
    steps=3, batch_size=4, accumulation=2, augmentation=AugmentationSettings(crop=(30, 21), scale=(0.5, 1.5))
)


@pytest.fixture(params=[(3, 255), (300, 999)], ids=["ids of a byte", "ids of more"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    """Images of several sizes, half of them labelled."""
    classes, ignored = request.param
    rng, samples = np.random.default_rng(0), []
    for number in range(6):
        image, mask = tmp_path / f"{number}.png", tmp_path / f"{number}-mask.png"
        size = 20 + number, 40 - number
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(image)
        Image.fromarray(rng.integers(0, classes, size).astype(np.uint8 if classes < 256 else np.uint16)).save(mask)
        samples.append(FileSample(id=str(number), image=image, mask=mask))
    return Dataset(
        labelled=tuple(samples[::2]),
        unlabelled=tuple(samples[1::2]),
        validation=(),
        classes=tuple(map(str, range(classes))),
        palette=(),
        ignore_index=ignored,
        digest="d",
    )


def batches_on(device: str, dataset: Dataset) -> Batches:
    return Batches(SETTINGS, dataset, lambda _: WANTS, CAFFE_MEANS, world=World(), device=torch.device(device))


def test_labels_travel_in_a_byte_where_ids_and_the_ignore_index_fit(dataset):
    ids = torch.uint8 if len(dataset.classes) == 3 else torch.int32

    (drawn, _) = Drawing(SETTINGS, dataset, World()).draw(1, WANTS)
    (batch, _) = batches_on("cpu", dataset).on_device(batches_on("cpu", dataset).draw(1))

    for name in ("labels", "real_labels", "unlabelled_labels"):
        part = drawn.parts()[name]
        assert part.dtype == ids
        assert getattr(batch, name).dtype == torch.int64
        assert torch.equal(getattr(batch, name), part.long())
        assert part.max() == dataset.ignore_index  # padding
    assert drawn.parts()["images"].data_ptr() == drawn.memory.data_ptr()


@pytest.mark.gpu
def test_on_a_gpu_they_are_those_of_a_cpu(dataset):
    there, here = batches_on("cuda", dataset), batches_on("cpu", dataset)
    for step in range(3):
        drawn = there.draw(step)
        assert all(each.memory.is_pinned() for each in drawn)
        pinned = [each.pinned() for each in here.draw(step)]
        assert all(each.memory.is_pinned() for each in pinned)
        expected = here.on_device(here.draw(step))
        for found in (there.on_device(drawn), there.on_device(pinned)):
            for ours, theirs in zip(found, expected, strict=True):
                for name, value in vars(ours).items():
                    expected_value = getattr(theirs, name)
                    # Views are made by arithmetic that each device rounds in its own way.
                    assert name == "strong" or torch.equal(value.cpu(), expected_value)
                    torch.testing.assert_close(value.cpu(), expected_value, rtol=0, atol=0.01)
