import numpy as np

from advseg.trainers.data.notes import FEW, notes_on_masks
from advseg.trainers.data.readings import PartCensus

CLASSES = ("sky", "sea", "land")


def part(*pixels: int, images: int = FEW, ignored: int = 0) -> PartCensus:
    return PartCensus(images=images, masks=images, pixels=np.array(pixels), ignored=ignored)


def notes(**parts: PartCensus) -> list[str]:
    return list(notes_on_masks(parts, CLASSES))


def test_of_a_good_dataset_there_is_none():
    assert notes(labelled=part(1, 2, 3), unlabelled=part(0, 0, 0), validation=part(1, 1, 1)) == []


def test_a_part_whose_pixels_are_all_ignored_is_told_once():
    assert notes(labelled=part(0, 0, 0, ignored=9), validation=part(1, 1, 1), test=part(0, 0, 0, ignored=1)) == [
        "all pixels of the labelled masks are ignored: nothing can be learnt or measured by them",
        "all pixels of the test masks are ignored: nothing can be learnt or measured by them",
    ]


def test_a_class_on_no_mask_is_told_where_it_lacks():
    assert notes(labelled=part(1, 0, 3), validation=part(0, 0, 1)) == [
        "no labelled mask holds sea: what is not seen is not learnt",
        "no validation mask holds sky: how well it is found is not measured",
    ]


def test_a_validation_of_few_images_is_told():
    assert notes(labelled=part(1, 1, 1), validation=part(1, 1, 1, images=FEW - 1)) == [
        "19 images validate, fewer than 20: figures of so few hang on each image"
    ]


def test_where_classes_are_not_known_nothing_is():
    assert list(notes_on_masks({"labelled": part(ignored=3)}, ())) == []


def test_a_validation_that_could_not_be_read_is_not_called_small():
    assert notes(labelled=part(1, 1, 1), validation=part(0, 0, 0, images=0)) == []
