"""Trainings whose steps were raised after they had ended, or on the way."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from advseg.models import load
from advseg.trainers.checkpoint import CHECKPOINTS, checkpoint_at, load_checkpoint, save_checkpoint
from advseg.trainers.loop import Training
from advseg.trainers.outcome import read_outcome
from advseg.trainers.reporter import RecordingReporter, Report


class Dying:
    """Dies at a step, once it was reported and before it is saved."""

    def __init__(self, step: int) -> None:
        self._step = step

    def report(self, report: Report) -> None:
        if report.step == self._step:
            raise KeyboardInterrupt


@pytest.fixture
def ended(program: Any, shapes: Any, tmp_path: Path) -> Path:
    """The folder of a training of six steps that has ended."""
    Training(program.recipe_of(steps=6), shapes, tmp_path / "run").run(RecordingReporter())
    return tmp_path / "run"


def test_it_goes_on_from_its_checkpoint_and_says_what_that_means(
    program: Any, shapes: Any, ended: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = load_checkpoint(checkpoint_at(ended / CHECKPOINTS, 6))["method"]
    longer, reporter = Training(program.recipe_of(steps=9), shapes, ended), RecordingReporter()
    longer.saved.resume()
    copy = save_checkpoint(tmp_path / "copy", 6, {"method": longer.method.state_dict()})
    torch.testing.assert_close(load_checkpoint(copy)["method"], before, rtol=0, atol=0)
    assert "goes on to step 9, though it was begun for 6: from here on its learning rates are those of 9" in caplog.text

    caplog.set_level(logging.ERROR, "advseg")
    outcome = Training(program.recipe_of(steps=9), shapes, ended).run(reporter)
    assert [report.step for report in reporter.reports] == [9]
    assert read_outcome(ended) == outcome
    assert outcome.step == 9
    rates = Training(program.recipe_of(steps=9), shapes, tmp_path / "other").method.rates(8)
    assert reporter.reports[0].metrics["lr/segmenter"] == rates["segmenter"]


def test_where_rates_stay_it_ends_as_a_longer_one_would(program: Any, shapes: Any, tmp_path: Path) -> None:
    recipes = [program.recipe_of("supervised", schedule="constant", warmup_steps=2, steps=steps) for steps in (3, 6)]
    for recipe in recipes:
        grown = Training(recipe, shapes, tmp_path / "grown")
        grown.run(RecordingReporter())
    whole = Training(recipes[1], shapes, tmp_path / "whole")
    whole.run(RecordingReporter())

    torch.testing.assert_close(grown.method.state_dict(), whole.method.state_dict(), rtol=0, atol=0)
    assert grown.saved.standing.grown == []


def test_killed_on_its_way_it_ends_in_the_same_bits(program: Any, shapes: Any, ended: Path, tmp_path: Path) -> None:
    Training(program.recipe_of(steps=6), shapes, tmp_path / "other").run(RecordingReporter())
    whole = Training(program.recipe_of(steps=12), shapes, tmp_path / "other")
    whole.run(RecordingReporter())
    with pytest.raises(KeyboardInterrupt):
        Training(program.recipe_of(steps=12), shapes, ended).run(Dying(9))
    killed = Training(program.recipe_of(steps=12), shapes, ended)
    killed.run(RecordingReporter())

    torch.testing.assert_close(killed.method.state_dict(), whole.method.state_dict(), rtol=0, atol=0)
    killed.export(tmp_path / "model", {})
    assert load(tmp_path / "model").card.lineage["grown"] == [[6, 6]]
