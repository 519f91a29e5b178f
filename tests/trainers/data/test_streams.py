import hashlib
import random
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from advseg.models.resize import LongerSide
from advseg.trainers.data.augment import AugmentationSettings, draw_view
from advseg.trainers.data.draws import Draws, key_of
from advseg.trainers.data.images import voc_palette, write_mask
from advseg.trainers.data.jitter import JitterSettings
from advseg.trainers.data.masks import MaskCoding
from advseg.trainers.data.samples import FileSample
from advseg.trainers.data.scaled import ScaledSamples
from advseg.trainers.data.streams import Crops, Stream
from advseg.trainers.distributed import World

MOST, IGNORE = 9, 255


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> tuple[FileSample, ...]:
    """Images whose red is their number; every third has no mask."""
    root: Path = tmp_path_factory.mktemp("samples")
    made = []
    rng = np.random.default_rng(0)
    for number in range(MOST):
        image = rng.integers(0, 256, (8, 8, 3), np.uint8)
        image[..., 0] = number
        Image.fromarray(image).save(root / f"{number}.png")
        mask = root / f"{number}_mask.png" if number % 3 else None
        if mask:
            write_mask(mask, np.full((8, 8), number, np.uint8), voc_palette())
        made.append(FileSample(id=str(number), image=root / f"{number}.png", mask=mask))
    return tuple(made)


def stream_of(samples, **changes) -> Stream:
    values = {"digest": "d", "split": "labelled", "seed": 0, "batch_size": 4, "ignore_index": IGNORE}
    given = {"augmentation": AugmentationSettings(crop=(5, 10)), "scaled": ScaledSamples(None)}
    return Stream(samples, **{**values, **given, **changes})


def numbers(crops: Crops) -> list[int]:
    return crops.images[:, 0, 0, :].amax(1).tolist()


def equal(one: Crops, other: Crops) -> bool:
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in ("images", "labels", "valid"))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 3)), min_size=1, max_size=5), st.randoms())
def test_a_crop_is_the_same_whenever_it_is_asked_for(samples, places, order):
    stream = stream_of(samples)
    first = {(step, slot): stream.crops(step, [slot]) for step, slot in places}

    shuffled = list(first)
    order.shuffle(shuffled)
    again = stream_of(samples)

    for step, slot in shuffled:
        assert equal(again.crops(step, [slot]), first[step, slot])


@settings(deadline=None, max_examples=25)
@given(st.integers(1, MOST), st.integers(1, 12), st.integers(0, 5))
def test_every_epoch_shows_each_sample_once(samples, count, batch_size, seed):
    stream = stream_of(samples[:count], batch_size=batch_size, seed=seed)

    shown = []
    for step in range(-(-3 * count // batch_size)):
        shown += numbers(stream.crops(step, range(batch_size)))

    for epoch in range(3):
        assert sorted(shown[epoch * count : (epoch + 1) * count]) == list(range(count))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 7), st.data(), st.integers(0, 1000))
def test_the_shares_of_all_workers_are_the_whole_batch(samples, batch_size, data, step):
    size = data.draw(st.integers(1, batch_size))
    stream = stream_of(samples, batch_size=batch_size)
    whole = stream.crops(step, range(batch_size))

    for rank in range(size):
        slots = World(rank=rank, size=size).share(batch_size)
        share = stream.crops(step, slots)
        picked = list(slots)
        assert equal(share, Crops(images=whole.images[picked], labels=whole.labels[picked], valid=whole.valid[picked]))


def order_of(stream: Stream) -> list[int]:
    return [number for step in range(9) for number in numbers(stream.crops(step, range(4)))]


@pytest.mark.parametrize("change", [{"seed": 1}, {"split": "unlabelled"}, {"digest": "other"}])
def test_another_seed_split_or_dataset_has_another_order(samples, change):
    assert order_of(stream_of(samples, **change)) != order_of(stream_of(samples))


def test_every_epoch_has_an_order_of_its_own(samples):
    order = order_of(stream_of(samples))

    assert order[:MOST] != order[MOST : 2 * MOST]


def test_one_sample_is_cropped_anew_in_every_step_and_slot(samples):
    stream = stream_of(samples[:1], augmentation=AugmentationSettings(crop=(2, 2)))

    crops = [stream.crops(step, [slot]) for step in range(3) for slot in range(4)]

    assert len({crop.images.numpy().tobytes() for crop in crops}) > 6


def test_shapes_and_types_are_those_of_a_batch(samples):
    crops = stream_of(samples).crops(0, range(3))

    assert (crops.images.shape, crops.images.dtype) == ((3, 3, 5, 10), torch.uint8)
    assert (crops.labels.shape, crops.labels.dtype) == ((3, 5, 10), torch.int32)
    assert (crops.valid.shape, crops.valid.dtype) == ((3, 5, 10), torch.bool)


def test_labels_can_be_had_without_their_images(samples):
    masked = [sample for sample in samples if sample.has_mask]
    augmentation = AugmentationSettings(crop=(5, 5), scale=(0.5, 1.5), rotate=True)
    for resize in (None, (12, 9), LongerSide(longer=12, multiple=4)):
        stream = stream_of(masked, augmentation=augmentation, scaled=ScaledSamples(resize))

        for step in range(4):
            labels = torch.empty(4, 5, 5, dtype=torch.uint8)
            stream.draw_labels(step, range(4), labels)
            assert torch.equal(labels, stream.crops(step, range(4)).labels)


def test_images_can_be_had_without_their_masks(samples):
    unmasked = [replace(sample, mask=sample.mask and Path("nowhere")) for sample in samples]
    images, valid = torch.empty(4, 5, 10, 3, dtype=torch.uint8), torch.empty(4, 5, 10, dtype=torch.bool)

    stream_of(unmasked).draw(1, range(4), images, valid, None)

    crops = stream_of(samples).crops(1, range(4))
    assert torch.equal(images.movedim(-1, 1), crops.images)
    assert torch.equal(valid, crops.valid)


def test_labels_are_the_mask_where_there_is_one_and_ignored_elsewhere(samples):
    for step in range(MOST):
        crops = stream_of(samples).crops(step, range(4))
        for number, labels, valid in zip(numbers(crops), crops.labels, crops.valid, strict=True):
            assert valid.sum() == 5 * 8
            assert (labels[~valid] == IGNORE).all()
            assert (labels[valid] == (number if number % 3 else IGNORE)).all()


def test_labels_hold_ids_and_an_ignore_index_above_255(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(np.full((8, 8), 299, np.uint16)).save(tmp_path / "mask.png")
    masks = (tmp_path / "mask.png", None)
    coding = MaskCoding(ignore_index=1000)
    pair = [FileSample(id="", image=tmp_path / "image.png", mask=mask, coding=coding) for mask in masks]

    shown = [stream_of([sample], ignore_index=1000).crops(0, [0]).labels.unique().tolist() for sample in pair]

    assert shown == [[299, 1000], [1000]]


def test_images_and_masks_are_resized_before_they_are_cropped(samples):
    crops = stream_of(samples, scaled=ScaledSamples((5, 10))).crops(0, range(4))

    assert crops.valid.all()
    for number, image, labels in zip(numbers(crops), crops.images, crops.labels, strict=True):
        assert (image[0] == number).all()
        assert (labels == (number if number % 3 else IGNORE)).all()


def test_no_global_random_state_is_read_or_changed(samples):
    def seeded(seed: int) -> Crops:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        states = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
        crops = stream_of(samples).crops(3, range(4))
        after = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
        assert states[:2] == after[:2]
        assert torch.equal(states[2], after[2])
        return crops

    assert equal(seeded(1), seeded(2))


@pytest.mark.parametrize(
    ("seed", "digest"), [(0, "f435ee738f047f24"), (1, "68ffae59fc09e1b4"), (2, "6a085359e4bece12")]
)
def test_a_stream_shows_what_it_showed(tmp_path, seed, digest):
    """Or checkpoints of before would go on with other pixels: then `DRAWS` is to be raised."""
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for number, file in enumerate(files):
        Image.fromarray((np.arange(192) + 7 * number).astype(np.uint8).reshape(8, 8, 3)).save(file)
    stream = stream_of(
        [FileSample(id=file.stem, image=file, mask=None) for file in files],
        seed=seed,
        augmentation=AugmentationSettings(crop=(6, 6), rotate=True),
    )

    shown = hashlib.sha256()
    for step in range(20):
        shown.update(stream.crops(step, range(4)).images.contiguous().numpy().tobytes())

    assert shown.hexdigest()[:16] == digest


def test_what_is_drawn_of_scale_and_colours_is_what_it_was():
    settings = AugmentationSettings(crop=(20, 30), scale=(0.5, 1.5), jitter=JitterSettings(brightness=0.2, hue=0.1))

    drawn = [asdict(draw_view((40, 50), settings, Draws(key_of("d", seed), [0, 0, 1, 2]))) for seed in range(20)]

    assert hashlib.sha256(repr(drawn).encode()).hexdigest()[:16] == "be55370f0a1af91c"
