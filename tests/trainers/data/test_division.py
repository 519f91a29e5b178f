from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advseg.trainers.data.division import GivenParts, draw_validation, given_parts
from advseg.trainers.data.survey import Pair, survey

Add = Callable[..., Path]


def told_by(folder: Path) -> GivenParts | None:
    found = survey(folder)
    return given_parts(found.pairs, found.unlabelled)


class TestSplit:
    def test_of_folders_for_training_and_validation_is_kept(self, add: Add) -> None:
        for id in ("train/a", "train/b", "val/c", "val/deep/d"):
            folder = add(id, [0, 1])

        assert told_by(folder) == GivenParts(validation=frozenset({"val/c", "val/deep/d"}))

    @pytest.mark.parametrize(
        ("training", "validation", "test"),
        [
            ("train/a", "val/b", "test/c"),
            ("train2017/a", "val2017/b", "test2017/c"),
            ("Training/a", "Validating/b", "Testing/c"),
            ("a", "VALID/b", "TEST/c"),
            ("field 3/a", "validation/b", "test_2024/c"),
        ],
    )
    def test_has_a_part_for_the_test(self, add: Add, training: str, validation: str, test: str) -> None:
        for id in (training, validation, test):
            folder = add(id, [0, 1])

        assert told_by(folder) == GivenParts(validation=frozenset({validation}), test=frozenset({test}))

    def test_takes_images_without_masks_out_of_those_that_train(self, add: Add) -> None:
        add("train/a", [0, 1])
        add("val/b", [0, 1])
        for id in ("val/c", "test/d", "train/e", "f"):
            folder = add(id)

        parts = told_by(folder)

        assert parts
        assert parts.bare == {"val/c", "test/d"}

    @pytest.mark.parametrize("ids", [("train/a", "train/b"), ("value/a", "tests/b", "val"), "ab"])
    def test_is_empty_if_no_folder_is_for_either(self, add: Add, ids: tuple[str, ...]) -> None:
        for id in ids:
            folder = add(id, [0, 1])

        assert told_by(folder) == GivenParts()

    @pytest.mark.parametrize("ids", [("val/a", "val/b"), ("val/a", "test/b"), ("train/a", "test/b")])
    def test_is_none_if_too_few_images_are_left(self, add: Add, ids: tuple[str, ...]) -> None:
        for id in ids:
            folder = add(id, [0, 1])

        assert told_by(folder) is None


def pair_of(number: int, image: int, values: list[int]) -> Pair:
    mask = Path(f"{number}.png")
    return Pair(id=str(number), mask=mask, size=(1, 1), digest=str(image), kind="grey", values=tuple(values))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.sets(st.integers(0, 3), min_size=1)), min_size=2, max_size=40).filter(
        lambda images: len({image for image, _ in images}) > 1
    ),
    st.integers(0, 5),
)
def test_validation_takes_some_images_and_leaves_some_and_parts_no_equal_ones(images, seed):
    pairs = [pair_of(number, image, sorted(values)) for number, (image, values) in enumerate(images)]

    chosen = draw_validation(pairs, seed)

    judged = {pair.digest for pair in pairs if pair.id in chosen}
    trained = {pair.digest for pair in pairs if pair.id not in chosen}
    assert judged
    assert trained
    assert not judged & trained
    assert chosen == draw_validation(pairs[::-1], seed)


def test_validation_is_a_fifth_that_hangs_on_the_seed():
    pairs = [pair_of(number, number, [0, 1]) for number in range(50)]

    draws = [draw_validation(pairs, seed) for seed in range(5)]

    assert [len(draw) for draw in draws] == [10] * 5
    assert len(set(map(frozenset, draws))) == 5


def test_one_more_image_changes_few_sides():
    pairs = [pair_of(number, number, [0, 1]) for number in range(51)]

    assert len(draw_validation(pairs, 0) ^ draw_validation(pairs[:-1], 0)) <= 2


def test_the_last_image_that_holds_a_class_is_trained_on():
    pairs = [pair_of(number, number, [0, 1, 2] if number == 7 else [0, 1]) for number in range(10)]

    assert not any("7" in draw_validation(pairs, seed) for seed in range(30))
