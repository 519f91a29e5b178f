"""What is scaled down is read once, as far as memory goes, and nothing else is kept."""

from dataclasses import dataclass, field

import numpy as np

from advseg.models.resize import LongerSide, Resize
from advseg.trainers.data.resize import resize_image, resize_mask
from advseg.trainers.data.scaled import ScaledSamples


@dataclass
class Counted:
    """A sample in memory that counts how often it is read."""

    id: str = "a"
    size: tuple[int, int] = (40, 80)
    has_mask: bool = True
    reads: list[str] = field(default_factory=list)

    def read_size(self) -> tuple[int, int]:
        return self.size

    def read_image(self) -> np.ndarray:
        self.reads.append("image")
        return np.random.default_rng(0).integers(0, 256, (*self.size, 3), np.uint8)

    def read_mask(self) -> np.ndarray | None:
        self.reads.append("mask")
        return np.random.default_rng(1).integers(0, 5, self.size, np.uint8) if self.has_mask else None


def read_twice(sample: Counted, resize: Resize | None, **limit: int) -> ScaledSamples:
    samples = ScaledSamples(resize, **limit)
    for _ in range(2):
        samples.image(sample), samples.mask(sample)
    return samples


def test_what_is_scaled_down_is_read_once() -> None:
    sample = Counted()

    samples = read_twice(sample, LongerSide(longer=20))

    assert sample.reads == ["image", "mask"]
    image, mask = samples.image(sample), samples.mask(sample)
    assert np.array_equal(image, resize_image(sample.read_image(), (10, 20)))
    assert np.array_equal(mask, resize_mask(sample.read_mask(), (10, 20)))
    assert not image.flags.writeable


def test_what_is_as_large_as_its_file_is_read_again() -> None:
    for resize in (None, (40, 80), LongerSide(longer=160)):
        sample = Counted()
        read_twice(sample, resize)
        assert sample.reads == ["image", "mask"] * 2


def test_what_memory_has_no_room_for_is_read_again() -> None:
    sample = Counted()

    # An image of 10 x 20 has 600 bytes, its mask 200.
    read_twice(sample, LongerSide(longer=20), most_bytes=700)

    assert sample.reads == ["image", "mask", "mask"]


def test_no_mask_is_asked_for_where_there_is_none() -> None:
    sample = Counted(has_mask=False)

    assert read_twice(sample, LongerSide(longer=20)).mask(sample) is None
    assert sample.reads == ["image"]
