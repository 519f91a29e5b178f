import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advseg.trainers.metrics import class_accuracy, class_iou, confusion, mean, metrics_of, pixel_accuracy

CLASSES = ("sky", "sea", "land", "never")
IGNORE = 255

pixels = st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from([0, 1, 2, IGNORE])), min_size=1, max_size=40)


def maps(pairs):
    predicted, truth = zip(*pairs, strict=True)
    return torch.tensor(predicted).view(1, -1), torch.tensor(truth).view(1, -1)


def matrix_of(pairs, ignore_index=IGNORE):
    return confusion(*maps(pairs), len(CLASSES), ignore_index)


def naive_figures(pairs) -> dict[str, float]:
    """By sets of pixels: intersection over union of each class that anybody saw, and shares of right pixels."""
    counted = [(i, p, t) for i, (p, t) in enumerate(pairs) if t != IGNORE]
    iou, accuracy = {}, []
    for id, name in enumerate(CLASSES):
        predicted = {i for i, p, _ in counted if p == id}
        true = {i for i, _, t in counted if t == id}
        if predicted | true:
            iou[f"val/iou/{name}"] = 100 * len(predicted & true) / len(predicted | true)
        if true:
            accuracy.append(100 * len(predicted & true) / len(true))
    return {
        "val/miou": sum(iou.values()) / max(len(iou), 1),
        **iou,
        "val/pixel_accuracy": 100 * sum(p == t for _, p, t in counted) / max(len(counted), 1),
        "val/class_accuracy": sum(accuracy) / max(len(accuracy), 1),
    }


@settings(deadline=None)
@given(pixels)
def test_figures_are_those_of_the_sets_of_pixels(pairs):
    assert metrics_of(matrix_of(pairs), CLASSES, IGNORE) == pytest.approx(naive_figures(pairs))


def test_a_class_without_a_right_pixel_counts_as_zero_and_an_absent_one_does_not_count():
    matrix = matrix_of([(0, 0), (0, 1)])

    assert class_iou(matrix, IGNORE) == [50.0, 0.0, None, None]
    assert metrics_of(matrix, CLASSES, IGNORE)["val/miou"] == 25.0
    assert "val/iou/land" not in metrics_of(matrix, CLASSES, IGNORE)


def test_a_class_that_is_only_predicted_counts_as_zero_and_has_no_accuracy():
    matrix = matrix_of([(0, 0), (2, 0)])

    assert class_iou(matrix, IGNORE) == [50.0, None, 0.0, None]
    assert class_accuracy(matrix) == [50.0, None, None, None]


def test_a_class_that_is_predicted_only_on_ignored_pixels_is_absent():
    assert class_iou(matrix_of([(0, 0), (1, IGNORE)]), IGNORE) == [100.0, None, None, None]


def test_a_class_whose_id_is_the_ignore_index_does_not_count_but_its_predictions_are_wrong():
    matrix = matrix_of([(0, 0), (0, 1), (1, 1), (1, 1)], ignore_index=0)

    assert matrix.sum() == 3
    assert class_iou(matrix, 0) == pytest.approx([None, 100 * 2 / 3, None, None])
    assert metrics_of(matrix, CLASSES, 0)["val/miou"] == pytest.approx(100 * 2 / 3)


def test_without_a_pixel_that_counts_every_figure_is_zero():
    expected = {"val/miou": 0.0, "val/pixel_accuracy": 0.0, "val/class_accuracy": 0.0}
    assert metrics_of(matrix_of([(1, IGNORE)]), CLASSES, IGNORE) == expected
    assert mean([None, None]) == 0.0


@settings(deadline=None)
@given(pixels, pixels)
def test_the_confusion_of_parts_sums_to_that_of_the_whole(one, two):
    assert torch.equal(matrix_of(one) + matrix_of(two), matrix_of(one + two))


def test_confusion_counts_truth_by_row_and_prediction_by_column():
    matrix = matrix_of([(1, 0), (1, 0), (2, 2)])

    assert matrix.nonzero().tolist() == [[0, 1], [2, 2]]
    assert matrix[0, 1] == 2
    assert pixel_accuracy(matrix) == pytest.approx(100 / 3)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("ignore_index", [-1, 7, 255, 65535])
def test_masks_of_every_integer_type_are_counted_without_overflow(dtype, ignore_index):
    truth = torch.full((1, 300), 99, dtype=dtype)

    matrix = confusion(truth, truth, 200, ignore_index)

    assert matrix[99, 99] == 300
    assert matrix.sum() == 300


def test_classes_beyond_a_byte_are_counted():
    truth = torch.tensor([[0, 298, 299, 299, 65535]], dtype=torch.int32)
    predicted = torch.tensor([[0, 299, 299, 299, 5]])

    matrix = confusion(predicted, truth, 300, 65535)

    assert (matrix[0, 0], matrix[298, 299], matrix[299, 299], matrix.sum()) == (1, 1, 2, 4)
