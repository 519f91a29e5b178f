"""Processes that draw batches: the same bits and errors as in threads, and no end of either that leaves the other."""

import importlib
import multiprocessing
import os
import select
import signal
from contextlib import closing
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from advseg.models.resize import LongerSide
from advseg.trainers import drawers, progress
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.dataset import Dataset, DatasetSettings
from advseg.trainers.data.images import ImageError
from advseg.trainers.data.jitter import JitterSettings
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.pack import open_pack
from advseg.trainers.data.packing import write_pack
from advseg.trainers.data.shapes import CLASSES
from advseg.trainers.data.strong import StrongSettings
from advseg.trainers.distributed import World
from advseg.trainers.drawers import Drawers
from advseg.trainers.drawing import Drawing, Drawn
from advseg.trainers.errors import LostProcessError
from advseg.trainers.loop import Training
from advseg.trainers.methods.method import Wants
from advseg.trainers.reporter import RecordingReporter
from advseg.trainers.settings import TrainerSettings
from advseg.trainers.speed import SpeedSettings

ALL = Wants(real=True, unlabelled=True, unlabelled_labels=True)
STRONG = Wants(strong=(StrongSettings(), StrongSettings()))
SETTINGS = TrainerSettings(
    steps=9,
    batch_size=4,
    accumulation=2,
    resize=LongerSide(longer=40),
    augmentation=AugmentationSettings(crop=(24, 24), scale=(0.5, 1.5), rotate=True, jitter=JitterSettings(hue=0.1)),
    speed=SpeedSettings(workers=2),
)


@pytest.fixture
def packed(shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The shapes, of which one unlabelled image is no more; to bring a shard is a tick."""
    (tmp_path / "fetching.py").write_text("from advseg.trainers.progress import tick\ndef bring(_): tick()")
    monkeypatch.syspath_prepend(tmp_path)
    bring = importlib.import_module("fetching").bring
    settings = DatasetSettings(root=shapes_root, classes=CLASSES)
    write_pack(tmp_path / "pack", open_dataset(settings), settings)
    packed = open_pack(tmp_path / "pack", settings, bring)
    assert packed.labelled[0].read_image() is not None  # mapped here
    lost = replace(open_dataset(settings).unlabelled[0], image=tmp_path / "lost.png")
    return replace(packed, unlabelled=(lost,))


@pytest.fixture
def interrupted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes as soon as a process is there, before it has imported anything."""

    def start(process: SpawnProcess) -> None:
        BaseProcess.start(process)
        assert process.pid
        os.kill(process.pid, signal.SIGINT)

    monkeypatch.setattr(SpawnProcess, "start", start)


@pytest.mark.usefixtures("interrupted_at_once")
def test_they_draw_the_same_bits_raise_the_same_errors_and_tell_what_they_fetch(packed, monkeypatch):
    here = Drawing(SETTINGS, packed, World(rank=1, size=2))
    ticked = Event()
    monkeypatch.setattr(progress, "_told", ticked.set)
    with closing(Drawers(SETTINGS, packed, World(rank=1, size=2))) as there:
        for step, wants in ((0, Wants()), (3, STRONG), (7, Wants(real=True))):
            for ours, theirs in zip(here.draw(step, wants), there.draw(step, wants), strict=True):
                assert ours.layout == theirs.layout
                torch.testing.assert_close(ours.parts(), theirs.parts(), rtol=0, atol=0)
        with pytest.raises(ImageError) as expected:
            here.draw(0, ALL)
        with pytest.raises(ImageError) as raised:
            there.draw(0, ALL)
        assert str(raised.value) == str(expected.value)
        assert there.draw(1, Wants())
        assert ticked.wait(60)
    assert not multiprocessing.active_children()


def test_a_training_whose_process_is_killed_says_so_and_goes_on_to_the_same_end(program, shapes, tmp_path):
    recipe, alone = program.recipe_of(steps=6, evaluate_every=2), RecordingReporter()
    Training(recipe, shapes, tmp_path / "alone").run(alone)
    recipe = replace(recipe, trainer=replace(recipe.trainer, speed=SpeedSettings(workers=1)))
    killed, reporter = Training(recipe, shapes, tmp_path / "run"), RecordingReporter()
    learn = killed.method.step

    def killing(step, micro_batches):
        learn(step, micro_batches)
        if step == 2:
            (process,) = multiprocessing.active_children()
            assert process.pid
            os.kill(process.pid, signal.SIGKILL)

    killed.method.step = killing
    line = r"^a process .* was killed: .*\bmemory\b.*/dev/shm.*`ulimit -n`.*: the same command goes on from .*$"
    with pytest.raises(LostProcessError, match=line):
        killed.run(reporter)
    Training(recipe, shapes, tmp_path / "run").run(reporter)

    assert reporter.reports == alone.reports
    assert not multiprocessing.active_children()


def test_a_batch_without_room_in_shared_memory_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = os.statvfs("/dev/shm")
    # A file with nothing in it.
    memory = torch.from_numpy(np.memmap(tmp_path / "memory", mode="w+", shape=(room.f_blocks + 1) * room.f_frsize))
    huge = SimpleNamespace(draw=lambda step, wants: [Drawn(layout={}, memory=memory)])
    monkeypatch.setattr(drawers, "_drawing", huge, raising=False)

    line = r"^a process of .* no room for a batch in /dev/shm \(.*No space left.*\): .*--shm-size: the same command .*$"
    with pytest.raises(LostProcessError, match=line):
        drawers._draw(0, Wants())
    # Torch leaves an empty one.
    assert not [*Path("/dev/shm").glob(f"torch_{os.getpid()}_*")]


def test_they_end_with_a_training_that_is_killed(shapes):
    ours, theirs = multiprocessing.Pipe()
    training = multiprocessing.get_context("fork").Process(target=draw_and_die, args=(shapes, theirs))
    training.start()
    pids = ours.recv()
    training.join()

    assert training.exitcode == -signal.SIGKILL
    assert pids
    for pid in pids:
        wait_for_the_end_of(pid)


def draw_and_die(dataset: Dataset, pipe: Connection) -> None:
    processes = Drawers(SETTINGS, dataset, World())
    processes.draw(0, ALL)
    pipe.send([process.pid for process in multiprocessing.active_children()])
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_the_end_of(pid: int) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([process], [], [], 60)[0]
    os.close(process)
