import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from advseg.jobs import train as train_job
from advseg.jobs.train import not_followed, told, train_and_tell
from advseg.models import load
from advseg.platform.spec.resources import Resources
from advseg.platform.spec.spec_file import load_spec
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.shapes import CLASSES
from advseg.trainers.distributed import World
from advseg.trainers.errors import CheckpointError
from advseg.trainers.outcome import Outcome, read_outcome
from advseg.trainers.profiling import PHASES, STEPS, TRACE, WAIT

Command = Callable[..., tuple[int, str, str]]


def train(spec: Path, folder: Path | None, *overrides: str) -> None:
    train_and_tell(load_spec(spec, overrides), folder)


@pytest.mark.parametrize(
    ("resources", "size", "device", "note"),
    [
        ({}, 1, "cpu", ""),
        ({"workers": 2, "gpus_per_worker": 1}, 2, "cuda", ""),
        ({"gpus_per_worker": 0.5}, 1, "cuda", ""),
        (
            {"workers": 4, "accelerator": "A100"},
            1,
            "cpu",
            "in 1 process on cpu, .*by resources.accelerator, resources.w",
        ),
        (
            {"gpus_per_worker": 1},
            2,
            "cpu",
            "in 2 processes on cpu, .* says by resources.gpus_per_worker: `advseg",
        ),
        ({"gpus_per_worker": 0}, 1, "cuda", "in 1 process on cuda, .* says by resources.gpus_per_worker: `advseg"),
    ],
)
def test_resources_of_the_cluster_that_are_not_had_here_are_told(
    resources: dict[str, Any], size: int, device: str, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_job, "device_name", str)
    said = not_followed(Resources.model_validate(resources), World(size=size), torch.device(device))
    assert re.search(note, said) if note else not said


def test_what_is_not_had_is_told_as_it_begins(
    spec: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_job, "train", lambda *_, **__: None)
    with caplog.at_level(logging.INFO, "advseg"):
        train_and_tell(load_spec(spec, ["resources.workers=1"]), tmp_path, world=World(rank=1, size=2))
    assert "whatever the spec says by resources.workers" in caplog.text


class TestTraining:
    def test_leaves_model_metrics_pictures_and_checkpoints(self, model: Path, spec: Path) -> None:
        run = model.parent
        loaded = load(model)
        assert loaded.card.classes == CLASSES
        assert loaded.card.lineage["step"] == 4
        assert loaded.card.lineage["spec"] == load_spec(spec).model_dump(mode="json")
        assert loaded.card.lineage["dataset_digest"] == open_dataset(load_spec(spec).dataset).digest
        steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert steps == [2, 4]
        panels = [f"panels/step-{step:08d}.png" for step in steps]
        for name in (*panels, "confusion.png", "classes.png"):
            with Image.open(run / name) as picture:
                assert picture.format == "PNG"
        assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step-00000002", "step-00000004"]

    def test_resumes_to_the_same_weights(
        self, spec: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from advseg.trainers.saved import Saved

        save = Saved.save

        def save_and_die(saved: Saved) -> None:
            save(saved)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Saved, "save", save_and_die)
            train(spec, tmp_path / "run")
        assert not (tmp_path / "run" / "model").exists()
        train(spec, tmp_path / "run")
        weights = [path / "segmenter.safetensors" for path in (model, tmp_path / "run" / "model")]
        assert weights[0].read_bytes() == weights[1].read_bytes()

    def test_that_is_finished_only_exports_again(
        self, spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = tmp_path / "run"
        train(spec, run)
        capsys.readouterr()
        train(spec, run)
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[:2] for line in lines[:-1]] == [["step", "4/4"]]
        assert lines[-1].startswith("mIoU ")
        assert " after 4 steps, " in lines[-1]
        assert lines[-1].endswith(f" in {run / 'model'}")

    @pytest.mark.parametrize(
        ("outcome", "export", "of", "line"),
        [
            ((9, 20.1, 9, 20.1), "last", 9, "mIoU 20.1 after 9 steps, the best; model in m"),
            ((9, 20.1, 3, 20.1), "last", 9, "mIoU 20.1 after 9 steps, the best; model in m"),
            ((9, 20.1, 0, 20.1), "best", 9, "mIoU 20.1 after 9 steps, the best; model in m"),
            (
                (9, 20.1, 3, 63.8),
                "last",
                9,
                "mIoU 20.1 after 9 steps, the best 63.8 after 3; model of the last (export=best takes the other) in m",
            ),
            ((9, 20.1, 3, 63.8), "best", 3, "mIoU 20.1 after 9 steps, the best 63.8 after 3; model of the best in m"),
            (
                (9, 20.1, 3, 63.8),
                "best",
                9,
                "mIoU 20.1 after 9 steps, the best 63.8 after 3; model of the last (the best checkpoint is lost) in m",
            ),
        ],
    )
    def test_tells_last_and_best_and_of_which_the_model_is(
        self, outcome: tuple[int, float, int, float], export: Any, of: int, line: str
    ) -> None:
        step, miou, best_step, best = outcome
        ended = Outcome(step=step, metrics={"val/miou": miou}, best_miou=best, best_step=best_step, dataset_digest="d")
        assert told(ended, export, of, Path("m")) == line

    def test_leaves_the_model_of_the_best_step_where_that_is_asked_for(self, spec: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        train(spec, run, "export=best")
        outcome, card = read_outcome(run), load(run / "model").card
        assert outcome
        assert (card.lineage["step"], card.metrics["val/miou"]) == (outcome.best_step, outcome.best_miou)

    def test_takes_overrides(self, spec: Path, tmp_path: Path) -> None:
        train(spec, tmp_path / "run", "trainer.steps=1", "method.lambda_adv=0.5")
        card = load(tmp_path / "run" / "model").card
        assert card.lineage["step"] == 1
        assert card.lineage["spec"]["method"]["lambda_adv"] == 0.5

    def test_of_other_settings_into_the_same_folder_is_refused(self, spec: Path, model: Path) -> None:
        with pytest.raises(CheckpointError, match="belongs to other settings or data"):
            train(spec, model.parent, "trainer.steps=3")

    def test_without_the_method_exports_no_discriminator(self, spec: Path, tmp_path: Path) -> None:
        lambdas = [f"method.{name}=0" for name in ("lambda_adv", "lambda_semi", "lambda_semi_adv")]
        train(spec, tmp_path / "run", "trainer.steps=1", *lambdas)
        assert load(tmp_path / "run" / "model").discriminator is None

    def test_leaves_a_trace_if_it_is_profiled(
        self, spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run, steps = tmp_path / "run", WAIT + STEPS
        train(spec, run, "profile=true", f"trainer.steps={steps}")

        assert (run / TRACE).stat().st_size > 0
        table = (run / PHASES).read_text()
        assert "segmenter backward" in table
        assert table in capsys.readouterr().out

    def test_goes_to_the_storage_by_default(self, spec: Path, tmp_path: Path) -> None:
        train(spec, None, "trainer.steps=1", f"storage={tmp_path}")
        assert load(tmp_path / "tiny" / "local" / "model").card.lineage["step"] == 1
