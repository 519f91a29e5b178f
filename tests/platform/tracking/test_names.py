"""Every name reaches MLflow in a form that it takes, and is read back as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_metric_name, _validate_param_name

from advseg.platform.tracking.names import escaped, unescaped

TRICKY = st.lists(st.sampled_from([*"/._x2fé日 :-(&\n\0", "_x28_", "..", "//", "\ud800"]), min_size=1, max_size=12)
NAMES = TRICKY.map("".join) | st.text(min_size=1)


@given(NAMES)
def test_mlflow_takes_every_name_that_is_escaped(name: str) -> None:
    _validate_metric_name(escaped(name))
    _validate_param_name(escaped(name))


@given(NAMES)
def test_an_escaped_name_is_read_back_as_it_was(name: str) -> None:
    assert unescaped(escaped(name)) == name


@given(NAMES, NAMES)
def test_no_two_names_become_one(one: str, other: str) -> None:
    assert (escaped(one) == escaped(other)) == (one == other)


@given(NAMES)
def test_a_name_is_changed_if_mlflow_refuses_it_or_it_looks_changed(name: str) -> None:
    try:
        _validate_metric_name(name)
    except MlflowException:
        assert escaped(name) != name
    else:
        assert escaped(name) == name or "_x" in name or name.endswith("\n")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("val/iou/road", "val/iou/road"),
        ("val/iou/driver's cab", "val/iou/driver_x27_s cab"),
        ("val/iou/R&D", "val/iou/R_x26_D"),
        ("val/iou/road (wet)", "val/iou/road _x28_wet_x29_"),
        ("val/iou/c++", "val/iou/c_x2b__x2b_"),
        ("val/iou/日本", "val/iou/日本"),
        ("val/iou/Straße", "val/iou/Straße"),
        ("val/iou/a//b", "val/iou/a/_x2f_b"),
        ("val/iou/../up", "val/iou/_x2e_./up"),
        ("val/iou//abs", "val/iou/_x2f_abs"),
        ("val/iou/tree/", "val/iou/tree_x2f_"),
        ("val/iou/tree_x28_", "val/iou/tree_x5f_x28_"),
        ("val/iou/box_xl", "val/iou/box_xl"),
    ],
)
def test_a_class_is_named(name: str, written: str) -> None:
    assert escaped(name) == written


@pytest.mark.parametrize("name", ["_xffffffffffffffff_", "_x110000_", "_xl_", "_x_"])
def test_another_programs_name_that_stands_for_no_character_stays(name: str) -> None:
    assert unescaped(name) == name
