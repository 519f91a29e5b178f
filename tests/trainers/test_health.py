import pytest
import torch

from advseg.trainers.health import symptoms

CLASSES = ("sky", "road", "car")
GOOD = torch.tensor([[5, 1, 0], [2, 9, 0], [0, 0, 1]])


def test_a_run_that_learns_shows_none():
    assert symptoms({"loss/d": 0.3, "loss/ce": 0.001}, GOOD, CLASSES) == ()


def test_a_supervised_run_has_no_discriminator_that_could_win():
    assert symptoms({"loss/ce": 0.3}, GOOD, CLASSES) == ()


def test_a_discriminator_that_has_won_is_named_with_its_loss():
    (found,) = symptoms({"loss/d": 0.0031}, GOOD, CLASSES)

    assert "the discriminator has won: its loss is 0.0031, below 0.02" in found


@pytest.mark.parametrize("constant", range(3))
def test_a_constant_prediction_is_named_with_its_class(constant):
    matrix = torch.zeros(3, 3, dtype=torch.int64)
    matrix[:, constant] = torch.tensor([4, 2, 0])

    (found,) = symptoms({"loss/d": 0.3}, matrix, CLASSES)

    assert f"every validation pixel is {CLASSES[constant]}, of 2 classes in truth" in found


@pytest.mark.parametrize("matrix", [torch.diag(torch.tensor([7, 0, 0])), torch.zeros(3, 3, dtype=torch.int64)])
def test_a_truth_of_one_class_or_none_may_be_met_by_one(matrix):
    assert symptoms({}, matrix, CLASSES) == ()


def test_both_are_told_at_once():
    assert len(symptoms({"loss/d": 0.0}, torch.tensor([[3, 0, 0], [1, 0, 0], [0, 0, 0]]), CLASSES)) == 2
