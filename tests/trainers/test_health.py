import pytest
import torch

from advseg.trainers.health import symptoms

CLASSES = ("sky", "road", "car")


def test_a_network_that_knows_more_than_one_class_shows_none():
    assert symptoms(torch.tensor([[5, 1, 0], [2, 9, 0], [0, 0, 1]]), CLASSES) == ()


@pytest.mark.parametrize("constant", range(3))
def test_a_constant_prediction_is_named_with_its_class(constant):
    matrix = torch.zeros(3, 3, dtype=torch.int64)
    matrix[:, constant] = torch.tensor([4, 2, 0])

    (found,) = symptoms(matrix, CLASSES)

    assert f"every validation pixel is {CLASSES[constant]}, of 2 classes in truth" in found


@pytest.mark.parametrize("matrix", [torch.diag(torch.tensor([7, 0, 0])), torch.zeros(3, 3, dtype=torch.int64)])
def test_a_truth_of_one_class_or_none_may_be_met_by_one(matrix):
    assert symptoms(matrix, CLASSES) == ()
