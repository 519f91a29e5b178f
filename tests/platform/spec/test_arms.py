"""Several methods in one sweep, as a spec has them."""

from collections.abc import Callable
from typing import Any

import pytest

from advseg.platform.spec.spec import Spec, arm_document, spec_from
from advseg.platform.spec.spec_file import SpecError
from advseg.trainers.errors import UserError
from advseg.trainers.methods.adversarial import AdversarialSettings
from advseg.trainers.methods.supervised import SupervisedSettings

MakeSpec = Callable[..., Spec]


@pytest.fixture
def document(document: dict[str, Any]) -> dict[str, Any]:
    """With two arms, of which the first has the spec's method, with another weight."""
    document["sweep"] = {
        "arms": {
            "hung": {
                "method": {"lambda_adv": 0.5, "discriminator": {"widths": [8]}},
                "trials": 3,
                "space": {"method.threshold": {"low": 0, "high": 1}},
            },
            "plain": {
                "method": "supervised",
                "trials": 2,
                "space": {"trainer.segmenter_optimizer.lr": {"low": 0.001, "high": 1, "log": True}},
            },
        },
    }
    return document


def told(make: Callable[[], object]) -> list[str]:
    """The problems of a spec."""
    with pytest.raises(SpecError) as caught:
        make()
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_an_arm_is_the_spec_with_its_own_method_merged_over_that_of_the_same_name(make_spec: MakeSpec) -> None:
    spec = make_spec()
    assert spec.sweep
    assert spec.sweep.budget == 5
    hung, plain = spec.arm("hung"), spec.arm("plain")
    assert isinstance(hung.method, AdversarialSettings)
    assert isinstance(spec.method, AdversarialSettings)
    assert (spec.method.lambda_adv, hung.method.lambda_adv, hung.method.semi_start) == (0.01, 0.5, 0)
    assert (hung.method.discriminator.widths, hung.method.discriminator.classifier) == ((8,), "dense")
    assert plain.method == SupervisedSettings()
    assert hung.sweep
    assert (hung.sweep.trials, list(hung.sweep.space), hung.sweep.arms) == (3, ["method.threshold"], None)
    assert hung.sweep.space["method.threshold"].low == 0.0
    assert list(spec.arms) == ["hung", "plain"]


def test_an_arm_without_a_method_has_the_specs(make_spec: MakeSpec, document: dict[str, Any]) -> None:
    del document["sweep"]["arms"]["hung"]["method"]
    spec = make_spec("method.lambda_adv=0.125")
    assert spec.arm("hung").method == spec.method


def test_a_preset_is_for_arms_too(make_spec: MakeSpec, document: dict[str, Any]) -> None:
    document |= {"method": {"name": "supervised"}, "preset": "paper"}
    document["sweep"]["arms"]["hung"]["method"] = {"name": "adversarial"}
    method = make_spec("trainer.steps=9000", "trainer.augmentation.crop=[32, 32]").arm("hung").method
    assert isinstance(method, AdversarialSettings)
    assert method.semi_adv_start == 5000


def test_keys_of_an_arm_can_be_set(make_spec: MakeSpec) -> None:
    spec = make_spec(
        "sweep.arms.hung.space.method.threshold.high=0.5",
        "sweep.arms.hung.method.lambda_adv=0.25",
        "sweep.arms.plain.method=adversarial",
        "sweep.arms.plain.method.lambda_adv=2",
    )
    hung, plain = spec.arm("hung"), spec.arm("plain")
    assert hung.sweep
    assert hung.sweep.space["method.threshold"].high == 0.5
    assert [arm.method.lambda_adv for arm in (hung, plain)] == [0.25, 2]


def test_a_spec_with_arms_survives_the_way_to_json_and_back(make_spec: MakeSpec) -> None:
    spec = make_spec()
    again = spec_from(spec.model_dump(mode="json"))
    assert again == spec
    assert spec_from(arm_document(spec.model_dump(mode="json"), "hung")) == spec.arm("hung")
    assert arm_document({"any": "document"}, None) == {"any": "document"}


def test_a_sweep_is_the_same_with_more_trials_of_an_arm_and_another_with_another_method(make_spec: MakeSpec) -> None:
    digest = make_spec().digest()
    assert make_spec("sweep.arms.hung.trials=9").digest() == digest
    assert make_spec("sweep.arms.hung.method.lambda_adv=0.25").digest() != digest
    assert make_spec("sweep.arms.hung.space.method.threshold.high=0.5").digest() != digest


def test_a_sweep_without_arms_is_what_it_was_before_there_were_any(
    make_spec: MakeSpec, document: dict[str, Any]
) -> None:
    document["sweep"] = {"trials": 5, "space": {"method.threshold": {"low": 0, "high": 1}}}
    spec = make_spec()
    assert "arms" not in spec.identity()["sweep"]
    assert spec.arms == {None: spec}


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("sweep.trials=4", "sweep: arms have trials of their own: remove sweep.trials, or arms"),
        ("sweep.space={}", None),
        (
            "sweep.space={method.threshold: {low: 0, high: 1}}",
            "sweep: arms have space of their own: remove sweep.space, or arms",
        ),
        ("sweep={concurrency: 1}", "sweep: trials is missing: say how many, as in trials: 20, or name arms"),
        ("sweep.arms={}", "sweep.arms: must have at least 1 value"),
        ("sweep.arms.hung.trials=0", "sweep.arms.hung.trials: must be at least 1, but is 0"),
        ("sweep.arms.Hung!={trials: 1, space: {}}", "must be 2 to 63 lower-case letters, digits and hyphens"),
        ("sweep.arms.hung.method.lambda_advv=1", "sweep.arms.hung.method.lambda_advv: unknown key; did you mean"),
        ("sweep.arms.hung.method.name=consistent", "sweep.arms.hung.method.name: must be one of"),
        ("sweep.arms.hung.method=7", "sweep.arms.hung.method: must be a mapping of keys to values"),
        (
            "sweep.arms.plain.space={method.threshold: {low: 0, high: 1}}",
            "sweep.arms.plain.space.method.threshold: unknown key",
        ),
        (
            "sweep.arms.hung.space.method.threshold.high=1.5",
            "sweep.arms.hung.space.method.threshold.high: must be",
        ),
        ("sweep.arms.hung.space={}", "sweep.arms.hung.space: is empty: name at least one key"),
        ("sweep.arms.hung.first=[{method.threshold: 3}]", "sweep.arms.hung.first.0.method.threshold: must lie in"),
        (
            "sweep.confirm={candidates: 3, seeds: 6}",
            "sweep: confirm, of 2 arms together: nothing can pass: the exact test of 6 seeds gives p = 0.0156 at best, "
            "but 6 candidates need 0.00833: set seeds to 7, or fewer candidates, or test: t",
        ),
    ],
)
def test_what_is_wrong_is_told_in_a_line(make_spec: MakeSpec, override: str, problem: str | None) -> None:
    if problem is None:
        make_spec(override)
    else:
        assert any(problem in line for line in told(lambda: make_spec(override)))
        assert len(told(lambda: make_spec(override))) == 1


def test_a_stored_spec_with_a_method_of_tomorrow_is_refused(make_spec: MakeSpec) -> None:
    stored = make_spec().model_dump(mode="json")
    stored["sweep"]["arms"]["plain"]["method"] = {"name": "tomorrow"}
    with pytest.raises(UserError, match=r"^sweep\.arms\.plain\.method\.name: must be one of"):
        spec_from(stored)
