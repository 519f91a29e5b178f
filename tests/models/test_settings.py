import math
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from advseg.models.architectures import CompactSettings, DeepLabSettings, SegmenterSettings
from advseg.models.discriminator import DiscriminatorSettings
from advseg.models.settings import Interval, Settings

finite = st.floats(allow_nan=False, allow_infinity=False)


@dataclass(frozen=True, kw_only=True)
class Example(Settings):
    count: Annotated[int, Interval(1)] = 1
    share: Annotated[float, Interval(0, 1)] = 0.5
    mode: Literal["fast", "slow"] = "fast"
    pair: tuple[Annotated[int, Interval(1)], Annotated[float, Interval(0, 1)]] = (1, 0.0)
    sizes: tuple[Annotated[int, Interval(2)], ...] = ()
    limit: Annotated[float, Interval(0, open_low=True)] | None = None
    window: tuple[Annotated[int, Interval(1)], Annotated[int, Interval(1)]] | None = None


@settings(deadline=None)
@given(ends=st.tuples(finite, finite).map(sorted), value=finite)
def test_an_interval_gives_back_what_lies_in_it_and_refuses_the_rest(ends, value):
    interval = Interval(*ends)

    if ends[0] <= value <= ends[1]:
        assert interval.check(value) == value
    else:
        with pytest.raises(ValueError, match="must be in"):
            interval.check(value)


def test_both_ends_belong_to_an_interval():
    assert [Interval(1, 2).check(end) for end in (1, 2)] == [1, 2]


def test_an_open_lower_end_does_not_belong_to_it():
    with pytest.raises(ValueError, match="must be above 0, but is 0"):
        Interval(0, open_low=True).check(0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_interval_holds_what_is_not_finite(value):
    with pytest.raises(ValueError, match=f"but is {value}"):
        Interval().check(value)


@pytest.mark.parametrize(
    ("interval", "rule"),
    [
        (Interval(1), "at least 1"),
        (Interval(0, open_low=True), "above 0"),
        (Interval(0, 0.5), "in [0, 0.5]"),
        (Interval(0, 0.5, open_low=True), "in (0, 0.5]"),
    ],
)
def test_an_interval_reads_as_its_rule(interval, rule):
    assert str(interval) == rule


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "count must be at least 1, but is 0"),
        ({"share": 1.5}, "share must be in [0, 1], but is 1.5"),
        ({"mode": "odd"}, "mode must be one of fast, slow, but is odd"),
        ({"pair": (0, 0.5)}, "pair must be at least 1, but is 0"),
        ({"pair": (1, 2.0)}, "pair must be in [0, 1], but is 2.0"),
        ({"sizes": (2, 1)}, "sizes must be at least 2, but is 1"),
        ({"limit": 0.0}, "limit must be above 0, but is 0.0"),
        ({"window": (4, 0)}, "window must be at least 1, but is 0"),
    ],
)
def test_settings_out_of_range_are_refused_with_field_rule_and_value(values, message):
    with pytest.raises(ValueError) as caught:
        Example(**values)

    assert str(caught.value) == message


def test_settings_in_range_are_taken_as_they_are():
    example = Example(count=3, share=1.0, mode="slow", pair=(2, 1.0), sizes=(2, 9), limit=2.0)

    assert (example.count, example.share, example.mode) == (3, 1.0, "slow")
    assert (example.pair, example.sizes, example.limit, example.window) == ((2, 1.0), (2, 9), 2.0, None)


def test_the_width_of_compact_is_a_multiple_of_its_groups():
    with pytest.raises(ValueError, match="width must be a multiple of 8, but is 12"):
        CompactSettings(width=12)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match=r"architecture must be one of .*, but is vgg"):
        DeepLabSettings(architecture="vgg")  # type: ignore[arg-type]


def test_a_stage_of_the_discriminator_has_a_channel_at_least():
    with pytest.raises(ValueError, match="widths must be at least 1, but is 0"):
        DiscriminatorSettings(widths=(64, 0))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"architecture": "compact", "width": 16}, CompactSettings(width=16)),
        (
            {"architecture": "deeplab_v2_resnet50", "batch_norm": "frozen"},
            DeepLabSettings(architecture="deeplab_v2_resnet50", batch_norm="frozen"),
        ),
    ],
)
def test_in_a_spec_the_architecture_chooses_the_settings(fields, expected):
    assert TypeAdapter(SegmenterSettings).validate_python(fields) == expected


@pytest.mark.parametrize(
    ("fields", "place", "message"),
    [
        ({"architecture": "vgg"}, (), "compact"),
        ({"architecture": "compact", "batch_norm": "frozen"}, ("compact", "batch_norm"), "Unexpected"),
        ({"architecture": "compact", "width": 64}, ("compact", "width"), "must be in [8, 56], but is 64"),
    ],
)
def test_in_a_spec_a_mistake_is_found_at_its_place(fields, place, message):
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(SegmenterSettings).validate_python(fields)

    (error,) = caught.value.errors()
    assert error["loc"] == place
    assert message in error["msg"]
