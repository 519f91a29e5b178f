import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advseg.trainers.metrics import confusion, iou_metrics

CLASSES = ("sky", "sea", "land", "never")
IGNORE = 255

pixels = st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from([0, 1, 2, IGNORE])), min_size=1, max_size=40)


def maps(pairs):
    predicted, truth = zip(*pairs, strict=True)
    return torch.tensor(predicted).view(1, -1), torch.tensor(truth).view(1, -1)


def matrix_of(pairs):
    return confusion(*maps(pairs), len(CLASSES), IGNORE)


def naive_iou(pairs) -> dict[str, float]:
    """By sets of pixels: intersection over union of each class that anybody saw."""
    counted = [(i, p, t) for i, (p, t) in enumerate(pairs) if t != IGNORE]
    found = {}
    for id, name in enumerate(CLASSES):
        predicted = {i for i, p, _ in counted if p == id}
        true = {i for i, _, t in counted if t == id}
        if predicted | true:
            found[name] = 100 * len(predicted & true) / len(predicted | true)
    return found


@settings(deadline=None)
@given(pixels)
def test_iou_is_that_of_the_sets_of_pixels(pairs):
    metrics = iou_metrics(matrix_of(pairs), CLASSES)

    expected = naive_iou(pairs)
    mean = sum(expected.values()) / len(expected) if expected else 0.0
    assert metrics == pytest.approx({"val/miou": mean} | {f"val/iou/{name}": v for name, v in expected.items()})


def test_a_class_without_a_right_pixel_counts_as_zero_and_an_absent_one_does_not_count():
    metrics = iou_metrics(matrix_of([(0, 0), (0, 1)]), CLASSES)

    assert metrics == {"val/miou": 25.0, "val/iou/sky": 50.0, "val/iou/sea": 0.0}


def test_a_class_that_is_predicted_only_on_ignored_pixels_is_absent():
    assert set(iou_metrics(matrix_of([(0, 0), (1, IGNORE)]), CLASSES)) == {"val/miou", "val/iou/sky"}


def test_without_a_pixel_that_counts_the_mean_is_zero():
    assert iou_metrics(matrix_of([(1, IGNORE)]), CLASSES) == {"val/miou": 0.0}


@settings(deadline=None)
@given(pixels, pixels)
def test_the_confusion_of_parts_sums_to_that_of_the_whole(one, two):
    assert torch.equal(matrix_of(one) + matrix_of(two), matrix_of(one + two))


def test_confusion_counts_truth_by_row_and_prediction_by_column():
    matrix = matrix_of([(1, 0), (1, 0), (2, 2)])

    assert matrix.nonzero().tolist() == [[0, 1], [2, 2]]
    assert matrix[0, 1] == 2


def test_masks_of_bytes_are_counted_without_overflow():
    truth = torch.full((1, 300), 199, dtype=torch.uint8)

    matrix = confusion(truth, truth, 200, IGNORE)

    assert matrix[199, 199] == 300
    assert matrix.sum() == 300
