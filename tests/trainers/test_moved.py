from dataclasses import fields

import pytest

from advseg.trainers.methods.adversarial import AdversarialSettings
from advseg.trainers.moved import MOVED, moves, without_gone
from advseg.trainers.settings import TrainerSettings

BEFORE = {"discriminator": {"widths": [4]}, "trainer": {"steps": 12, "threshold": 0.2}}


def test_each_key_of_before_that_is_there_is_told_with_its_place_now():
    assert moves(BEFORE) == [
        "discriminator is method.discriminator now",
        "trainer.threshold is method.threshold now",
    ]


@pytest.mark.parametrize("document", [{}, {"trainer": {"steps": 12}, "method": BEFORE}, {"trainer": "threshold"}])
def test_of_a_document_of_today_nothing_is_told(document):
    assert moves(document) == []


def test_a_place_of_now_is_a_setting_of_the_method_and_no_place_of_before_is_one_of_the_trainer():
    younger = {"method.name", "method.discriminator_sees_void"}
    assert set(MOVED.values()) == {f"method.{field.name}" for field in fields(AdversarialSettings)} - younger
    assert not set(MOVED) & {f"trainer.{field.name}" for field in fields(TrainerSettings)}


def test_what_is_gone_is_left_out_where_it_did_nothing():
    before = {"trainer": {"steps": 12, "speed": {"compile": True, "augment_on_device": False}}}

    assert without_gone(before) == {"trainer": {"steps": 12, "speed": {"compile": True}}}
    assert before["trainer"]["speed"]["augment_on_device"] is False
    for document in ({"trainer": {"speed": {"augment_on_device": True}}}, {"trainer": {}}, {}):
        assert without_gone(document) == document
