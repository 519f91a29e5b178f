"""How fast a training goes is measured beside it: in its reports, and in nothing that it comes to."""

import resource
from collections.abc import Generator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from advseg.models.architectures import CompactSettings
from advseg.trainers.checkpoint import CHECKPOINTS, load_scalars
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.strong import StrongSettings
from advseg.trainers.drawing import Drawn
from advseg.trainers.figures import Figures, Work, peak_memory, work_of_steps
from advseg.trainers.loop import Training
from advseg.trainers.methods.adversarial import AdversarialSettings
from advseg.trainers.methods.method import Batch, Wants
from advseg.trainers.outcome import read_outcome
from advseg.trainers.recipe import Recipe
from advseg.trainers.reporter import IMAGES, MATMUL, MEMORY, WAITING, RecordingReporter
from advseg.trainers.settings import TrainerSettings
from advseg.trainers.waiting import Timed
from advseg.trainers.work import flops_of_step

CPU = torch.device("cpu")


class Machine:
    """A clock, batches that take two seconds each, and steps of three."""

    def __init__(self, least_s: float = 0.0) -> None:
        self.now = 100.0
        self.batches = Timed(self._drawn(), lambda: self.now)
        self.figures = Figures(self.batches, lambda step: Work(images=4 if step < 2 else 8, least_s=least_s), CPU)

    def _drawn(self) -> Generator[int]:
        while True:
            self.now += 2
            yield 0

    def steps(self, numbers: range) -> None:
        for number in numbers:
            self.figures.begin()
            next(self.batches)
            self.now += 3
            self.figures.made(number)


def test_images_and_waiting_are_by_the_time_of_the_steps_alone() -> None:
    machine = Machine()
    machine.now += 50
    machine.steps(range(2))
    machine.figures.pause()
    machine.now += 1000
    machine.steps(range(2, 3))

    figures = machine.figures.take()

    assert figures.pop(MEMORY) > 0
    assert figures == {IMAGES: (2 * 4 + 8) / 15, WAITING: 6 / 15}


def test_figures_are_of_what_came_since_the_last_ones() -> None:
    machine = Machine()
    machine.steps(range(2))
    machine.figures.take()
    machine.now += 1000
    machine.steps(range(2, 5))

    figures = machine.figures.take()

    assert (figures[IMAGES], figures[WAITING]) == (3 * 8 / 15, 6 / 15)
    assert machine.figures.take().keys() == {MEMORY}


def test_the_share_of_the_best_is_told_where_that_is_known() -> None:
    machine = Machine(least_s=1.5)
    machine.steps(range(4))

    assert machine.figures.take()[MATMUL] == 4 * 1.5 / 20


def test_the_peak_is_that_of_the_resident_set_on_a_cpu() -> None:
    in_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert peak_memory(CPU) == pytest.approx(in_kib / 2**20, rel=0.1)


def test_a_step_is_of_labelled_and_of_unlabelled_images_where_it_wants_them(program) -> None:
    recipe = program.recipe_of(batch_size=6)
    work = work_of_steps(recipe, 4, 255, lambda step: Wants(unlabelled=step > 2), 1, CPU)

    assert (work(2), work(3)) == (Work(images=6), Work(images=12))
    views = Wants(unlabelled=True, strong=(StrongSettings(), StrongSettings()))
    assert work_of_steps(recipe, 4, 255, lambda _: views, 1, CPU)(0) == Work(images=24)


@pytest.mark.parametrize(("method", "step"), [("supervised", 0), ("adversarial", 5), ("consistency", 0)])
def test_a_step_is_counted_without_being_made(program, shapes: Dataset, tmp_path: Path, method: str, step: int) -> None:
    recipe = program.recipe_of(method, batch_size=4, accumulation=2)
    training = Training(recipe, shapes, tmp_path)
    before = torch.random.get_rng_state()

    found = flops_of_step(recipe, len(shapes.classes), shapes.ignore_index, step)

    assert torch.random.get_rng_state().equal(before)
    batch = training.batch(step)
    with FlopCounterMode(display=False) as made:
        training.method.step(step, batch)
    assert found == made.get_total_flops()


def test_every_report_has_figures_and_nothing_else_of_a_training_has_them(
    program, shapes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0
    training, reporter = Training(program.recipe_of(), shapes, tmp_path), RecordingReporter()
    learn = training.method.step

    def draw(steps: range) -> Generator[list[Drawn]]:
        nonlocal now
        for step in steps:
            now += 2 if step else 1000
            yield training.batches.draw(step)

    def make(step: int, batch: list[Batch]) -> None:
        nonlocal now
        now += 3
        learn(step, batch)

    monkeypatch.setattr("advseg.trainers.loop.Timed", partial(Timed, clock=lambda: now))
    monkeypatch.setattr(training.batches, "drawn_ahead", draw)
    monkeypatch.setattr(training.method, "step", make)
    outcome = training.run(reporter)

    # The first batch is waited for while what draws it starts.
    assert [report.figures[WAITING] for report in reporter.reports] == [4 / 13, *[6 / 15] * 3]
    assert [report.figures[IMAGES] for report in reporter.reports] == [12 / 13, *[12 / 15] * 3]
    for report in reporter.reports:
        assert report.figures.keys() == {IMAGES, WAITING, MEMORY}
        assert not report.metrics.keys() & report.figures.keys()
    told = (outcome.metrics, load_scalars(tmp_path / CHECKPOINTS / "step-00000012"), read_outcome(tmp_path))
    assert not any(name in str(told) for name in (IMAGES, WAITING, MEMORY))


@pytest.mark.gpu
def test_on_a_gpu_the_share_of_its_matmul_rate_is_told_too() -> None:
    gpu = torch.device("cuda")
    trainer = TrainerSettings(steps=8, augmentation=AugmentationSettings(crop=(64, 64)))
    recipe = Recipe(segmenter=CompactSettings(), method=AdversarialSettings(semi_start=4), trainer=trainer)
    work = work_of_steps(recipe, 4, 255, lambda step: Wants(unlabelled=step >= 4), 1, gpu)
    figures = Figures(Timed(iter([0] * 8)), work, gpu)
    product = torch.randn(4096, 4096, device=gpu)

    for step in range(8):
        figures.begin()
        for _ in range(10):
            product = product @ product / 4096
        figures.made(step)
    found = figures.take()

    assert work(4).least_s > work(3).least_s > 0
    assert found.keys() == {IMAGES, WAITING, MATMUL, MEMORY}
    assert 0 < found[MATMUL] < 1
    assert 0.05 < found[MEMORY] < 8
