"""What a sweep may vary, and with which values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from advseg.models.resize import LongerSide
from advseg.platform.spec.dimensions import Choices, Range
from advseg.platform.spec.space import searchable
from advseg.platform.spec.spec import Spec
from advseg.platform.spec.spec_file import SpecError, load_spec

MakeSpec = Callable[..., Spec]


def space(key: str, dimension: str) -> str:
    return f"sweep.space={{{key}: {dimension}}}"


def dimension_of(spec: Spec, key: str) -> Range | Choices:
    assert spec.sweep
    return spec.sweep.space[key]


class TestKeys:
    def test_are_all_numbers_and_choices_that_determine_a_result(self, document: dict[str, Any]) -> None:
        known = set(searchable(document))
        assert {
            "method.threshold",
            "method.semi_start",
            "method.discriminator_optimizer.lr",
            "trainer.segmenter_optimizer.lr",
            "trainer.batch_size",
            "trainer.max_gradient_norm",
            "trainer.augmentation.mirror",
            "trainer.seed",
            "model.width",
        } <= known
        # A mapping, lists, a path, what is the same for all, what determines nothing.
        assert known.isdisjoint(
            {
                "method.discriminator",
                "trainer.augmentation.crop",
                "trainer.segmenter_optimizer.betas",
                "model.weights",
                "trainer.steps",
                "trainer.evaluate_every",
                "trainer.save_every",
                "trainer.speed.prefetch",
                "trainer.speed.workers",
            }
        )

    def test_of_consistency_reach_into_its_strong_views(
        self, document: dict[str, Any], write_spec: Callable[[dict[str, Any]], Path]
    ) -> None:
        document |= {"preset": "unimatch-v2"}
        del document["method"]
        document["sweep"]["space"] = {
            "method.threshold": {"low": 0.8, "high": 0.99},
            "method.strong.jitter.hue": {"low": 0, "high": 0.5},
            "method.teacher": {"choices": ["ema", "self"]},
            "method.views": {"choices": [2]},
        }
        assert dimension_of(load_spec(write_spec(document)), "method.strong.jitter.hue") == Range(low=0.0, high=0.5)
        document["sweep"]["space"] |= {"method.views": {"choices": [1, 2]}, "method.semi_start": {"low": 0, "high": 4}}
        with pytest.raises(SpecError) as caught:
            load_spec(write_spec(document))
        assert "method.views.choices.0: with 1, method: feature_dropout divides channels between 2 views" in str(
            caught.value
        )
        assert "sweep.space.method.semi_start: unknown key" in str(caught.value)

    def test_follow_the_kinds_that_the_spec_chooses(self, document: dict[str, Any]) -> None:
        document["model"] = {"architecture": "deeplab_v2_resnet50"}
        document["trainer"]["segmenter_optimizer"] = {"name": "sgd"}
        document["method"] = {"name": "supervised"}
        known = set(searchable(document))
        assert {"model.batch_norm", "model.branches", "trainer.segmenter_optimizer.momentum"} <= known
        assert not {key for key in known if "discriminator" in key or key == "model.width"}

    def test_may_be_of_a_section_that_the_spec_leaves_to_its_defaults(
        self, document: dict[str, Any], write_spec: Callable[[dict[str, Any]], Path]
    ) -> None:
        del document["trainer"]["segmenter_optimizer"]
        rate = space("trainer.segmenter_optimizer.lr", "{low: 1e-5, high: 1e-2, log: true}")
        spec = load_spec(write_spec(document), [rate])
        assert isinstance(dimension_of(spec, "trainer.segmenter_optimizer.lr"), Range)

    def test_may_be_of_a_section_in_the_place_of_which_there_may_be_something_else(self, make_spec: MakeSpec) -> None:
        resize, longer = "trainer.resize={longer: 64, multiple: 32}", "trainer.resize.longer"
        spec = make_spec(resize, space(longer, "{low: 64, high: 96, step: 32}"))
        assert dimension_of(spec, longer) == Range(low=64, high=96, step=32)
        assert spec.with_values({longer: 96}).trainer.resize == LongerSide(longer=96, multiple=32)
        with pytest.raises(SpecError, match=r"longer\.high: with 80, trainer\.resize: longer must be a multiple of"):
            make_spec(resize, space(longer, "{low: 64, high: 80}"))


class TestValues:
    @pytest.mark.parametrize(
        ("key", "written", "dimension"),
        [
            ("method.lambda_adv", "{low: 0, high: 1}", Range(low=0.0, high=1.0)),
            ("method.lambda_adv", "{low: 1e-5, high: 1e-2, log: true}", Range(low=1e-5, high=1e-2, log=True)),
            ("trainer.batch_size", "{low: 4, high: 16, step: 4}", Range(low=4, high=16, step=4)),
            ("trainer.batch_size", "{low: 4.0, high: 16.0}", Range(low=4, high=16)),
            ("trainer.max_gradient_norm", "{low: 1, high: 4, step: 1}", Range(low=1.0, high=4.0, step=1.0)),
            ("trainer.max_gradient_norm", "{choices: [null, 1e-1, 1]}", Choices(choices=(None, 0.1, 1.0))),
            ("trainer.augmentation.mirror", "{choices: [true, false]}", Choices(choices=(True, False))),
            ("trainer.precision", "{choices: [float32, float64]}", Choices(choices=("float32", "float64"))),
        ],
    )
    def test_are_of_their_keys_own_type(
        self, make_spec: MakeSpec, key: str, written: str, dimension: Range | Choices
    ) -> None:
        found = dimension_of(make_spec(space(key, written)), key)
        assert found == dimension
        assert repr(found) == repr(dimension)

    def test_of_first_points_are_so_too(self, make_spec: MakeSpec) -> None:
        spec = make_spec(space("method.lambda_adv", "{low: 0, high: 1}"), "sweep.first=[{method.lambda_adv: 1}]")
        assert spec.sweep
        assert repr(spec.sweep.first) == "({'method.lambda_adv': 1.0},)"

    def test_survive_the_way_to_json_and_back(self, make_spec: MakeSpec) -> None:
        spec = make_spec(space("method.lambda_adv", "{low: 0, high: 1}"))
        again = Spec.model_validate_json(spec.model_dump_json())
        assert repr(dimension_of(again, "method.lambda_adv")) == repr(dimension_of(spec, "method.lambda_adv"))


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            space("method.lamda_adv", "{low: 0, high: 1}"),
            "method.lamda_adv: unknown key; did you mean method.lambda_adv",
        ),
        (space("dataset.fraction", "{low: 0.1, high: 1}"), "dataset.fraction: cannot be varied: all trials of a sweep"),
        (
            space("resources.workers", "{low: 1, high: 2}"),
            "cannot be varied: resources does not determine",
        ),
        (space("trainer.speed.prefetch", "{low: 1, high: 2}"), "cannot be varied: it does not determine a training's"),
        (space("trainer.steps", "{low: 1, high: 2}"), "cannot be varied: the trials of a sweep are compared step by"),
        (space("trainer.augmentation.crop", "{choices: [1]}"), "cannot be varied: it is neither a number nor a choice"),
        (space("trainer.seed.low", "{choices: [1]}"), "trainer.seed.low: unknown key"),
        (space("trainer.resize", "{choices: [64]}"), "trainer.resize: cannot be varied: it is neither a number nor"),
        (
            space("trainer.resize.longer", "{choices: [64]}"),
            "cannot be varied: trainer.resize is no mapping here",
        ),
        (space("method.discriminator", "{choices: [1]}"), "holds keys of its own, such as method.discriminator.widths"),
        (
            space("trainer.augmentation.mirror", "{low: 0, high: 1}"),
            "has no range: name its values, as in {choices:",
        ),
        (
            space("method.threshold", "{low: 0, high: 2}"),
            "method.threshold.high: must be in [0, 1], but is 2",
        ),
        (space("trainer.batch_size", "{low: 0, high: 4}"), "trainer.batch_size.low: must be at least 1, but is 0"),
        (space("trainer.batch_size", "{low: 1.5, high: 4}"), "batch_size.low: must be a whole number, but is 1.5"),
        (
            space("trainer.batch_size", "{low: 1, high: 4, step: 1.5}"),
            "step: must be a whole number, but is 1.5",
        ),
        (space("trainer.batch_size", "{low: 4, high: 16, step: 5}"), "step must divide high - low, 12, but is 5"),
        (
            space("trainer.batch_size", "{low: 4, high: 16, step: 0}"),
            "batch_size.step: must be above 0, but is 0",
        ),
        (space("trainer.batch_size", "{low: 4, high: .inf, step: 1}"), "step must divide high - low, inf, but is 1"),
        (
            space("trainer.batch_size", "{low: 1, high: 4, log: true, step: 1}"),
            "a logarithmic range takes no step, but step is 1: remove either",
        ),
        (
            space("trainer.precision", "{choices: [float32, float16]}"),
            "precision.choices.1: must be 'float32' or 'float64', but is 'float16'",
        ),
        (
            space("trainer.precision", "{choices: []}"),
            "precision.choices: must have at least 1 value, but is",
        ),
        (space("trainer.seed", "{choices: [1, 1]}"), "choices must differ, but are 1, 1"),
        (space("trainer.seed", "{choises: [1]}"), "trainer.seed.choises: unknown key; known here: high,"),
        (space("method.lambda_adv", "{low: 0, high: 1, step: .inf}"), "step must divide high - low, 1, but is inf"),
        (
            space("method.lambda_adv", "{low: 0, high: 1, step: 1e-300}"),
            "must make at most 1,000,000 values, but",
        ),
        (
            space("method.lambda_adv", "{choices: [1, 1.0]}"),
            "method.lambda_adv: choices must differ, but are 1.0",
        ),
        (space("trainer.seed", f"{{low: 0, high: {2**63}}}"), "low and high must lie within 2**63"),
        (space("name", "{choices: [a-b, c-d]}"), "sweep.space.name: cannot be varied: name does not determine"),
        (space("trainer.seed", "3"), "sweep.space.trainer.seed: must be a mapping of keys to values, but is 3"),
        # What one value breaks elsewhere, and what lies between two ends that are both fine.
        (
            space("method.semi_start", "{low: 0, high: 8}"),
            "semi_start.high: method.semi_start must be below",
        ),
        (
            space("method.name", "{choices: [adversarial, supervised]}"),
            "with supervised, method.lambda_adv: unknown key",
        ),
    ],
)
def test_what_is_wrong_names_key_rule_and_value(
    document: dict[str, Any], write_spec: Callable[[dict[str, Any]], Path], override: str, problem: str
) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(write_spec(document), [override])
    assert problem in str(caught.value)


def test_all_that_is_wrong_is_told_at_once_though_some_keys_are_no_ranges(make_spec: MakeSpec) -> None:
    wrong = (
        "sweep.space={method.lambda_adv: {low: 0, high: 1, log: true}, method.lamda: {low: 0, high: 1}, "
        "method.threshold: {low: 0, high: 2}, trainer.seed: {choices: []}}"
    )
    with pytest.raises(SpecError) as caught:
        make_spec(wrong)
    told = sorted(line.strip().partition(": ")[0] for line in str(caught.value).split("\n")[1:])
    assert told == [
        "sweep.space.method.lambda_adv",
        "sweep.space.method.lamda",
        "sweep.space.method.threshold.high",
        "sweep.space.trainer.seed.choices",
    ]


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("trainer.segmenter_optimizer=[adam]", "trainer.segmenter_optimizer: must be a mapping of keys to values"),
        ("trainer=3", "trainer: must be a mapping of keys to values"),
        ("trainer=", "trainer: must be a mapping of keys to values"),
    ],
)
def test_a_key_below_what_is_no_section_is_not_told_of_twice(make_spec: MakeSpec, broken: str, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        make_spec(broken, space("trainer.segmenter_optimizer.lr", "{low: 1e-5, high: 1e-2}"))
    (problem,) = str(caught.value).split("\n")[1:]
    assert problem.strip().startswith(told)


def test_a_batch_size_that_has_no_image_for_each_worker_is_refused(make_spec: MakeSpec) -> None:
    with pytest.raises(SpecError) as caught:
        make_spec("resources.workers=3", space("trainer.batch_size", "{low: 2, high: 4}"))
    (problem,) = str(caught.value).split("\n")[1:]
    assert problem.startswith("  sweep.space.trainer.batch_size.low: with 2, resources.workers: must be at most")


def test_a_whole_number_between_two_ends_that_is_refused_is_told(make_spec: MakeSpec) -> None:
    with pytest.raises(SpecError) as caught:
        make_spec("trainer.accumulation=4", space("trainer.batch_size", "{low: 4, high: 8}"))
    (problem,) = str(caught.value).split("\n")[1:]
    assert problem.startswith("  sweep.space.trainer.batch_size: ")
    assert problem.endswith("accumulation must divide batch_size, but is 4 and batch_size 5")


@pytest.mark.parametrize(
    ("point", "problem"),
    [
        ("{trainer.batch_size: 5}", "must lie in the key's range in the space, but is 5"),
        ("{trainer.batch_size: 20}", "must lie in the key's range in the space, but is 20"),
        ("{trainer.batch_size: true}", "must lie in the key's range in the space, but is True"),
        ("{trainer.batch_size: 8, trainer.seed: 1}", "sweep.first.0.trainer.seed: unknown key"),
        ("{}", "sweep.first.0: lacks a value for trainer.batch_size"),
    ],
)
def test_a_first_point_lies_in_the_space(make_spec: MakeSpec, point: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        make_spec(space("trainer.batch_size", "{low: 4, high: 16, step: 4}"), f"sweep.first=[{point}]")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            space("trainer.seed", "{low: 1, high: 4, choices: [1, 2]}"),
            "sweep.space.trainer.seed.choices: takes no low and high beside it, as it is no range: remove either",
        ),
        (
            space("trainer.seed", "{choices: [[1, 2]]}"),
            "sweep.space.trainer.seed.choices.0: must be true or false or a whole number or a number or a text, but is "
            "[1, 2]",
        ),
        (
            space("zzz", "{low: 0, high: 1}"),
            "sweep.space.zzz: unknown key; known here: method.discriminator.classifier, ",
        ),
        (
            'dataset.classes=[a, "b\\e[31m"]',
            "dataset: classes must be names of one line without control characters, but one is 'b\\x1b[31m'",
        ),
        (
            "sweep.pruner={name: hyperband, min_resource: 9}",
            "sweep.pruner.min_resource: must be at most trainer.steps, 8, but is 9: lower it, or remove sweep.pruner",
        ),
        (
            "sweep.pruner={name: patient, patience: 1, wrapped: {name: median, warmup_steps: 9}}",
            "sweep.pruner.wrapped.warmup_steps: must be at most trainer.steps, 8, but is 9",
        ),
    ],
)
def test_one_mistake_is_told_in_one_line(make_spec: MakeSpec, override: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        make_spec(override)
    _, line = str(caught.value).split("\n")
    assert line.strip().startswith(problem)
    assert len(line) < 600


def test_the_spec_is_validated_once_for_all_keys(make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    validated: list[object] = []
    validate = Spec.model_validate
    monkeypatch.setattr(Spec, "model_validate", lambda document: validated.append(document) or validate(document))

    def count(*keys: str) -> int:
        validated.clear()
        make_spec(*(f"sweep.space.{key}={{low: 0.1, high: 0.2}}" for key in keys))
        return len(validated)

    # Two ends of each key, and nothing else.
    assert count("method.lambda_semi", "method.lambda_semi_adv") == count("method.lambda_semi") + 2


def test_a_grid_of_too_many_combinations_is_refused(make_spec: MakeSpec) -> None:
    with pytest.raises(SpecError, match=r"sweep\.sampler\.values: makes 4,000,000 combinations, but a grid may have"):
        make_spec("sweep.sampler={name: grid, values: 2000}")


def test_a_first_point_is_one_of_the_choices(make_spec: MakeSpec) -> None:
    choices = space("trainer.precision", "{choices: [float32, float64]}")
    with pytest.raises(SpecError, match=r"must be one of its choices in the space, but is float16"):
        make_spec(choices, "sweep.first=[{trainer.precision: float16}]")
