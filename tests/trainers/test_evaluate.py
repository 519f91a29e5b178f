import numpy as np
import pytest
import torch
from PIL import Image

from advseg.models.architectures import IMAGENET
from advseg.trainers.data.dataset import Dataset, DatasetSettings, open_dataset
from advseg.trainers.data.images import voc_palette, write_mask
from advseg.trainers.distributed import World
from advseg.trainers.evaluate import evaluate

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


def run(network: Threshold, dataset: Dataset) -> dict[str, float]:
    return evaluate(
        network,
        dataset,
        IMAGENET,
        world=World(),
        device=torch.device("cpu"),
        dtype=torch.float32,  # type: ignore[arg-type]
    )


def test_iou_is_taken_over_all_pixels_of_all_images_that_are_not_ignored(dataset):
    counts = np.zeros((2, 2))
    for sample in dataset.validation:
        with Image.open(sample.image) as image, Image.open(sample.mask) as mask:
            light, truth = np.array(image)[..., 0] > 127, np.array(mask)
        for t in (0, 1):
            for p in (0, 1):
                counts[t, p] += ((truth == t) & (light == p)).sum()
    iou = [100 * counts[k, k] / (counts[k].sum() + counts[:, k].sum() - counts[k, k]) for k in (0, 1)]

    metrics = run(Threshold(), dataset)

    assert metrics == pytest.approx(
        {"val/miou": np.mean(iou), "val/iou/dark": iou[0], "val/iou/light": iou[1]}, rel=1e-12
    )
    assert 20 < metrics["val/miou"] < 95


def test_neighbours_of_one_size_go_through_the_network_together_at_their_own_size(dataset):
    network = Threshold()

    run(network, dataset)

    assert network.calls == [(16, 3, 4, 6), (1, 3, 4, 6), (1, 3, 7, 5), (1, 3, 4, 6), (1, 3, 9, 9)]


def test_afterwards_the_network_trains_on(dataset):
    network = Threshold()

    run(network, dataset)

    assert network.training
