import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advseg.trainers.optimizers import AdamSettings, SGDSettings, build_optimizer, poly, set_rate


def groups():
    return [{"params": [torch.nn.Parameter(torch.ones(2))], "scale": scale} for scale in (1.0, 10.0)]


@pytest.mark.parametrize(
    ("chosen", "kind", "expected"),
    [
        (
            SGDSettings(momentum=0.8, weight_decay=0.1),
            torch.optim.SGD,
            {"momentum": 0.8, "weight_decay": 0.1, "nesterov": False},
        ),
        (SGDSettings(nesterov=True), torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (AdamSettings(betas=(0.5, 0.9)), torch.optim.Adam, {"betas": (0.5, 0.9), "weight_decay": 0.0}),
        (AdamSettings(name="adamw", weight_decay=0.3), torch.optim.AdamW, {"weight_decay": 0.3}),
    ],
)
@pytest.mark.parametrize("fused", [True, False])
def test_settings_build_the_optimizer_that_they_name(chosen, kind, expected, fused):
    optimizer = build_optimizer(chosen, groups(), fused=fused)

    assert type(optimizer) is kind
    assert len(optimizer.param_groups) == 2
    for group in optimizer.param_groups:
        assert {name: group[name] for name in expected} == expected
        assert group["fused"] is fused


def test_each_group_learns_at_its_multiple_of_the_rate():
    optimizer = build_optimizer(SGDSettings(), groups(), fused=True)

    set_rate(optimizer, 0.02)

    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.2])


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (SGDSettings, {"lr": 0.0}, "lr must be above 0, but is 0"),
        (SGDSettings, {"momentum": 1.1}, "momentum must be in .0, 1., but is 1.1"),
        (SGDSettings, {"momentum": 0.0, "nesterov": True}, "nesterov needs a momentum above 0, but momentum is 0"),
        (AdamSettings, {"name": "rmsprop"}, "name must be one of adam, adamw, but is rmsprop"),
        (AdamSettings, {"betas": (0.9, 1.5)}, "betas must be in .0, 1., but is 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(kind, values, message):
    with pytest.raises(ValueError, match=message):
        kind(**values)


@settings(deadline=None)
@given(st.integers(1, 10**6), st.floats(0, 5), st.data())
def test_the_poly_schedule_falls_from_one_towards_zero(steps, power, data):
    step = data.draw(st.integers(0, steps - 1))

    factor = poly(step, steps, power)

    assert poly(0, steps, power) == 1
    assert 0 < factor <= 1
    assert poly(step + 1, steps, power) <= factor


def test_the_poly_schedule_is_the_published_one():
    assert poly(5000, 20000, 0.9) == pytest.approx(0.75**0.9)
