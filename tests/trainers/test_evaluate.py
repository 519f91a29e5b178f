from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from advseg.models.architectures import IMAGENET, Normalisation
from advseg.models.inference import EvaluationSettings
from advseg.models.resize import LongerSide
from advseg.trainers import evaluate as module
from advseg.trainers.data.dataset import Dataset, DatasetSettings
from advseg.trainers.data.images import voc_palette, write_mask
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.distributed import World
from advseg.trainers.evaluate import Evaluation, evaluate, evenly, grouped
from advseg.trainers.speed import SpeedSettings

CLASSES = ("dark", "light", "absent")


class Threshold(torch.nn.Module):
    """Calls every pixel of a red above the mean light, and counts the images of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, ...]] = []

    def forward(self, images):
        assert not self.training
        self.calls.append(tuple(images.shape))
        light = (images[:, 0] > 0).float()
        return torch.stack([1 - light, light, -torch.ones_like(light)], 1)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Images of three sizes; masks are what `Threshold` says, but wrong in the first column and ignored in the last."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    sizes = [(4, 6)] * 19 + [(7, 5), (4, 6), (9, 9)]
    for number, size in enumerate(sizes):
        light = rng.integers(0, 2, size)
        Image.fromarray(np.repeat(255 * light[..., None], 3, -1).astype(np.uint8)).save(
            tmp_path / "JPEGImages" / f"{number}.jpg", format="PNG"
        )
        mask = light.copy()
        mask[:, 0] = 1 - mask[:, 0]
        mask[:, -1] = 255
        write_mask(tmp_path / "SegmentationClass" / f"{number}.png", mask.astype(np.uint8), voc_palette())
    for name, ids in (("labelled", [0]), ("unlabelled", [1]), ("val", range(2, len(sizes)))):
        (tmp_path / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(map(str, ids)))
    return open_dataset(DatasetSettings(root=tmp_path, classes=CLASSES))


def run(network: torch.nn.Module, dataset: Dataset, **changes) -> Evaluation:
    return evaluate(
        network,  # type: ignore[arg-type]
        dataset,
        IMAGENET,
        **{
            "settings": EvaluationSettings(),
            "resize": None,
            "world": World(),
            "device": torch.device("cpu"),
            "dtype": torch.float32,
            "speed": SpeedSettings(),
            **changes,
        },
    )


def counts_of(dataset: Dataset) -> np.ndarray:
    """The confusion matrix of `Threshold`, by NumPy."""
    counts = np.zeros((3, 3), int)
    for sample in dataset.validation:
        assert sample.mask
        with Image.open(sample.image) as image, Image.open(sample.mask) as mask:
            light, truth = np.array(image)[..., 0] > 127, np.array(mask)
        for t in (0, 1):
            for p in (0, 1):
                counts[t, p] += ((truth == t) & (light == p)).sum()
    return counts


def test_iou_is_taken_over_all_pixels_of_all_images_that_are_not_ignored(dataset):
    counts = counts_of(dataset)
    iou = [100 * counts[k, k] / (counts[k].sum() + counts[:, k].sum() - counts[k, k]) for k in (0, 1)]

    found = run(Threshold(), dataset)

    assert found.matrix.tolist() == counts.tolist()
    assert found.images == 20
    expected = {"val/miou": np.mean(iou), "val/iou/dark": iou[0], "val/iou/light": iou[1]}
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert found.metrics.keys() - expected.keys() == {"val/pixel_accuracy", "val/class_accuracy"}
    assert 20 < found.metrics["val/miou"] < 95


class TestGroups:
    def test_are_of_one_size_wherever_in_the_list_and_at_that_size(self, dataset):
        network = Threshold()

        run(network, dataset)

        assert network.calls == [(16, 3, 4, 6), (2, 3, 4, 6), (1, 3, 7, 5), (1, 3, 9, 9)]

    def test_hold_no_more_pixels_than_allowed_unless_one_image_does(self, dataset, monkeypatch):
        monkeypatch.setattr(module, "PIXELS_AT_ONCE", 3 * 24)
        network = Threshold()

        found = run(network, dataset)

        assert network.calls == [*[(3, 3, 4, 6)] * 6, (1, 3, 9, 9), (1, 3, 7, 5)]
        assert found.matrix.tolist() == counts_of(dataset).tolist()

    @pytest.mark.parametrize(
        ("resize", "scales", "together"),
        [
            ((16, 16), (), 2),
            (LongerSide(longer=14), (), 4),
            ((2, 3), (), 16),
            ((8, 8), (0.5, 2.0), 2),
            ((16, 16), (0.5,), 2),
        ],
    )
    def test_hold_no_more_pixels_than_allowed_at_every_size_at_which_the_network_reads_them(
        self, dataset, monkeypatch, resize, scales, together
    ):
        monkeypatch.setattr(module, "PIXELS_AT_ONCE", 2 * 16 * 16)
        network = Threshold()

        run(network, dataset, resize=resize, settings=EvaluationSettings(scales=scales))

        assert max(images for images, *_ in network.calls) == together

    def test_of_what_waits_for_others_of_its_size_the_oldest_goes_first_when_memory_is_full(self, monkeypatch):
        monkeypatch.setattr(module, "PIXELS_AT_ONCE", 20)
        monkeypatch.setattr(module, "_WAITING", 22)
        sizes = [(2, 5), (1, 4), (2, 3), (1, 4), (9, 9), (2, 3)]

        groups = grouped(((np.zeros((*size, 3)), np.zeros(size)) for size in sizes), None, EvaluationSettings())

        assert [[mask.shape for _, mask in group] for group in groups] == [
            [(2, 5)],
            [(9, 9)],
            [(1, 4), (1, 4)],
            [(2, 3), (2, 3)],
        ]


@pytest.mark.parametrize("training", [True, False])
def test_afterwards_the_network_is_in_the_mode_that_it_was_in(dataset, training):
    network = Threshold().train(training)

    run(network, dataset)

    assert network.training == training


class TestProtocol:
    def test_with_windows_judges_the_same_pixels(self, dataset):
        network = Threshold()

        found = run(network, dataset, settings=EvaluationSettings(mode="sliding", window=(8, 8)))

        assert {shape[2:] for shape in network.calls} == {(4, 6), (7, 5), (8, 8)}
        assert found.matrix.tolist() == counts_of(dataset).tolist()

    def test_with_one_size_for_the_network_judges_masks_at_their_own(self, dataset):
        network = Threshold()

        found = run(network, dataset, resize=(8, 12))

        assert {shape[2:] for shape in network.calls} == {(8, 12)}
        assert found.matrix.sum() == counts_of(dataset).sum()

    def test_with_scales_has_the_same_headline_and_a_second_figure(self, shapes):
        network = fixed_network()
        plain = run(network, shapes, dtype=torch.float64)

        both = run(network, shapes, dtype=torch.float64, settings=EvaluationSettings(scales=(0.5, 2.0), flip=True))

        assert torch.equal(both.matrix, plain.matrix)
        averaged = both.metrics.pop("val/miou_multiscale")
        assert both.metrics == plain.metrics
        assert averaged != pytest.approx(plain.metrics["val/miou"])


class Keeps(World):
    """A worker whose sums are its own share."""

    def total(self, tensor):
        return tensor


class TestSharing:
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 33])
    def test_counts_every_image_exactly_once(self, dataset, size):
        shares = [run(Threshold(), dataset, world=Keeps(rank=rank, size=size)) for rank in range(size)]

        assert sum(share.images for share in shares) == 20
        assert sum(share.matrix for share in shares).tolist() == counts_of(dataset).tolist()  # type: ignore[union-attr]

    def test_gives_each_of_more_workers_than_images_the_whole_result(self, on_workers, shapes):
        asked = {"settings": EvaluationSettings(flip=True), "dtype": torch.float64}
        few = replace(shapes, validation=shapes.validation[:2])
        networks = [fixed_network() for _ in range(4)]
        alone = run(networks[3], few, **asked)

        found = on_workers(3, lambda world: run(networks[world.rank], few, world=world, **asked))

        assert found == [alone] * 3
        assert all(torch.equal(each.matrix, alone.matrix) for each in found)
        assert "val/miou_multiscale" in alone.metrics


def fixed_network() -> torch.nn.Module:
    """A network with the same random weights in every process."""
    from advseg.models.compact import Compact

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Compact(6, 8).double()


class Pictured:
    """A sample in memory."""

    def __init__(self, image: np.ndarray, mask: np.ndarray) -> None:
        self.read_image, self.read_mask = lambda: image, lambda: mask

    has_mask = True


class Ids(torch.nn.Module):
    """Predicts 256 x green + blue, of many classes."""

    def forward(self, images):
        ids = (256 * images[:, 1] + images[:, 2]).round().long()
        return torch.nn.functional.one_hot(ids, 400).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize(("dtype", "ignored"), [(np.uint16, 65535), (np.int32, 65535), (np.uint16, 7), (np.int32, 7)])
def test_masks_of_many_classes_and_every_integer_type_are_judged(dataset, dtype, ignored):
    predicted = np.random.default_rng(0).integers(0, 400, (5, 8))
    truth = predicted.astype(dtype)
    truth[0] = ignored
    truth[1] = 399
    image = np.stack([0 * predicted, predicted // 256, predicted % 256], -1).astype(np.uint8)
    many = replace(
        dataset,
        validation=(Pictured(image, truth),),
        classes=tuple(f"class {id}" for id in range(400)),
        ignore_index=ignored,
    )

    found = evaluate(
        Ids(),  # type: ignore[arg-type]
        many,
        Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
        settings=EvaluationSettings(),
        resize=None,
        world=World(),
        device=torch.device("cpu"),
        dtype=torch.float32,
        speed=SpeedSettings(),
    )

    known = truth != ignored
    assert found.matrix.sum() == known.sum()
    expected = np.zeros((400, 400), int)
    np.add.at(expected, (truth[known], predicted[known]), 1)
    assert (found.matrix.numpy() == expected).all()


@pytest.mark.parametrize(
    ("count", "wanted", "taken"),
    [(10, None, range(10)), (10, 10, range(10)), (10, 99, range(10)), (10, 1, [0]), (10, 4, [0, 2, 5, 7])],
)
def test_some_images_are_those_at_equal_distances_in_the_list(count, wanted, taken):
    assert list(evenly(count, wanted)) == list(taken)


def test_some_images_are_judged_as_a_dataset_of_them_alone(dataset):
    some = run(Threshold(), dataset, settings=EvaluationSettings(images=3))
    alone = run(Threshold(), replace(dataset, validation=[dataset.validation[place] for place in (0, 6, 13)]))
    assert some.images == 3
    assert torch.equal(some.matrix, alone.matrix)


def test_identities_do_not_change_while_all_images_are_judged(dataset):
    from advseg.models.architectures import CompactSettings
    from advseg.trainers.data.augment import AugmentationSettings
    from advseg.trainers.identity import identity_of
    from advseg.trainers.methods.supervised import SupervisedSettings
    from advseg.trainers.recipe import Recipe
    from advseg.trainers.settings import TrainerSettings

    def recipe(images: int | None) -> Recipe:
        trainer = TrainerSettings(
            steps=1,
            augmentation=AugmentationSettings(crop=(32, 32)),
            evaluation=EvaluationSettings(images=images),
        )
        return Recipe(segmenter=CompactSettings(), method=SupervisedSettings(), trainer=trainer)

    assert "images" not in identity_of(recipe(None), dataset)["trainer"]["evaluation"]
    assert identity_of(recipe(3), dataset)["trainer"]["evaluation"]["images"] == 3
